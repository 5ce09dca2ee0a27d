import pytest
import torch

from vis4mer.config import DecoderConfig
from vis4mer.errors import ExportError
from vis4mer.models.decoder import S4Decoder
from vis4mer_export.freeze import freeze


@pytest.mark.parametrize("length", [8, 77, 100])
@pytest.mark.parametrize("lowering", ["fft", "blocked_toeplitz", "matmul_dft"])
def test_frozen_decoder_equals_the_trained_one_at_its_length(length: int, lowering: str) -> None:
    torch.manual_seed(0)
    decoder = S4Decoder(DecoderConfig(d_input=12, l_max=100, d_output=5, d_model=16, n_layers=3, d_state=8))
    before = {name: value.clone() for name, value in decoder.state_dict().items()}
    x = torch.randn(3, length, 12)
    frozen = freeze(decoder, length, (lowering,))  # type: ignore[arg-type]
    torch.testing.assert_close(frozen.module(x), decoder.eval()(x), rtol=1e-4, atol=1e-6)
    assert len(frozen.blocks) == 3
    assert all(block.relative_l2 <= 1e-5 for block in frozen.blocks)
    for name, value in decoder.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("lowering", ["fft", "blocked_toeplitz", "matmul_dft"])
def test_no_state_space_is_left(lowering: str) -> None:
    frozen = freeze(S4Decoder(DecoderConfig(12, 100, 5, 16, 3)), 100, (lowering,)).module  # type: ignore[arg-type]
    tensors = {**dict(frozen.named_parameters()), **dict(frozen.named_buffers())}
    assert not [name for name in tensors if name.rpartition(".")[2] in ("log_dt", "w", "B", "C", "P", "Q", "D")]
    assert not [name for name, tensor in tensors.items() if tensor.is_complex() or tensor.requires_grad]


@pytest.mark.parametrize("length", [7, 101])
def test_lengths_the_decoder_does_not_take(length: int) -> None:
    with pytest.raises(ExportError, match=f"^length={length}: must be from 2\\*\\*n_layers=8 to l_max=100 tokens$"):
        freeze(S4Decoder(DecoderConfig(12, 100, 5, 16, 3)), length, ("matmul_dft",))
