"""Growth of the S4 decoder's cost with the length of its sequence."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from benchmarks.harness.progress import progress, show
from benchmarks.measure.calls import forward, step
from benchmarks.measure.devices import waiting
from benchmarks.measure.timing import medians
from vis4mer.config import DecoderConfig
from vis4mer.devices.device import CPU, Device
from vis4mer.models.decoder import S4Decoder


def growth(lengths: Sequence[int], width: int, repeats: int = 5, device: Device = CPU) -> list[dict[str, Any]]:
    """Measures inference and training steps of a decoder of two blocks; B = 1, fp32.

    Args:
        lengths: Values of L, in tokens.
        width: Value of d_model and of d_input.
        repeats: Number of measurements of each call.
        device: Device that computes.

    Returns:
        A row for each length, with seconds per token of both calls.
    """
    rows = []
    for length in progress(lengths, lambda length: f"growth, L={length}", weight=float):
        config = DecoderConfig(d_input=width, l_max=length, d_output=10, d_model=width, n_layers=2)
        decoder, features = S4Decoder(config).to(str(device)), torch.randn(1, length, width, device=str(device))
        calls: dict[str, Callable[[], object]] = {
            "forward": waiting(partial(forward, decoder, features), device),
            "step": waiting(partial(step, decoder, features), device),
        }
        per_token = {f"{call}_seconds_per_token": t / length for call, t in medians(calls, repeats).items()}
        rows.append({"L": length, "D": width, "dtype": "fp32", "threads": torch.get_num_threads(), **per_token})
    return rows


def show_growth(rows: Sequence[dict[str, Any]]) -> None:
    """Prints microseconds per token."""
    show(f"{'L':>7} {'D':>5}  forward us/token  step us/token")
    for row in rows:
        forward_us, step_us = (1e6 * row[f"{call}_seconds_per_token"] for call in ("forward", "step"))
        show(f"{row['L']:>7} {row['D']:>5}  {forward_us:16.2f}  {step_us:13.2f}")
