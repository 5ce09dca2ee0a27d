"""How the decoder's cost grows with the length of its sequence."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from calls import forward, step
from measure import medians

from vis4mer.config import DecoderConfig
from vis4mer.models.decoder import S4Decoder


def growth(lengths: Sequence[int], width: int, repeats: int = 5) -> list[dict[str, Any]]:
    """Seconds per token of an inference and of a step of a decoder of two blocks, for each L; B = 1, fp32."""
    rows = []
    for length in lengths:
        decoder = S4Decoder(DecoderConfig(d_input=width, l_max=length, d_output=10, d_model=width, n_layers=2))
        features = torch.randn(1, length, width)
        calls = {"forward": partial(forward, decoder, features), "step": partial(step, decoder, features)}
        per_token = {f"{call}_seconds_per_token": t / length for call, t in medians(calls, repeats).items()}
        rows.append({"L": length, "D": width, "dtype": "fp32", "threads": torch.get_num_threads(), **per_token})
    return rows


def print_growth(rows: Sequence[dict[str, Any]]) -> None:
    """Prints microseconds per token."""
    print(f"{'L':>7} {'D':>5}  forward us/token  step us/token")
    for row in rows:
        forward_us, step_us = (1e6 * row[f"{call}_seconds_per_token"] for call in ("forward", "step"))
        print(f"{row['L']:>7} {row['D']:>5}  {forward_us:16.2f}  {step_us:13.2f}")
