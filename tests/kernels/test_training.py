"""Training with the ops that this machine has."""

import pytest
import torch

from vis4mer.config import DecoderConfig
from vis4mer.models.decoder import S4Decoder


@pytest.mark.slow
def test_a_thousand_steps_in_bfloat16_at_a_high_rate_stay_finite() -> None:
    torch.manual_seed(0)
    decoder = S4Decoder(DecoderConfig(d_input=16, l_max=64, d_output=3, d_model=32, n_layers=2, d_state=64))
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=1e-2)
    for _ in range(1000):
        x = torch.randn(4, 64, 16)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(decoder(x).float(), torch.randint(3, (4,)))
        optimizer.zero_grad()
        loss.backward()
        assert loss.isfinite()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in decoder.parameters())
        optimizer.step()
