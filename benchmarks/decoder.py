"""The paper's S4 decoder against the time of its bare matrix products, and against the straightforward formulation.

    python benchmarks/decoder.py

One window of 60 s (B = 1, L = 11820 tokens of d = 1024, three blocks, random weights). Forward: the SSM convolution
kernels are generated once, as in serving, but anew in every pass of the baseline. Step: forward in training mode and
backward, kernels generated anew, without the optimiser's part. The limit is the 35.3 GFLOP of the decoder's linear
layers, thrice that for a step, run as torch.mm; the baseline is baselines/straightforward.py in fp32. bf16 is autocast
for the module and is written into an export. Everything runs in turn in one process; medians of 5. Peak memory is what
a step holds at once beyond parameters and features, in a process of its own. "drift" is the relative L2 error of the
logits, or of all gradients without dropout, against the baseline.

Then how cost grows: L from 1,000 to 100,000 at d = 128, two blocks. Writes results/decoder.json.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple

try:
    import torch
except ImportError:
    sys.exit("error: package='torch': is needed; pip install '.[export]'")

import numpy as np
from baselines.straightforward import StraightforwardDecoder
from limits import decoder_products, run_products
from measure import machine, medians, save
from memory import peak_bytes
from numpy.typing import NDArray
from torch import Tensor, nn

from vis4mer.config import DecoderConfig
from vis4mer.models.decoder import S4Decoder
from vis4mer.runtime.bundle import Format, Precision
from vis4mer.runtime.device import CPU
from vis4mer.runtime.torchscript import torchscript_runner
from vis4mer_export import onnx, torchscript
from vis4mer_export.freeze import freeze

PAPER = DecoderConfig(d_input=1024, l_max=11820, d_output=10, d_model=1024, n_layers=3)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
EXPORTS: tuple[tuple[Format, Precision], ...] = (("torchscript", "fp32"), ("torchscript", "bf16"), ("onnx", "fp32"))
BASELINE = "straightforward"


class Run(NamedTuple):
    """One thing to measure: which call, by which way through the decoder, in which dtype."""

    call: Literal["forward", "step"]
    way: str
    dtype: str

    def has_logits(self) -> bool:
        """Whether the call returns logits."""
        return self.call == "forward" and self.way not in ("limit", BASELINE)


def step(decoder: nn.Module, features: Tensor, dtype: torch.dtype = torch.float32) -> None:
    """Forward and backward in training mode; the gradients are dropped at the end."""
    decoder.train()
    with torch.autocast(features.device.type, dtype, enabled=dtype != torch.float32):
        loss = decoder(features).float().square().mean()
    loss.backward()
    decoder.zero_grad(set_to_none=True)


@torch.inference_mode()
def forward(decoder: nn.Module, features: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Logits in evaluation mode."""
    decoder.eval()
    with torch.autocast(features.device.type, dtype, enabled=dtype != torch.float32):
        logits: Tensor = decoder(features)
    return logits


def gradients(decoder: nn.Module, features: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """All gradients of a step without dropout, one after another."""
    decoder.eval()
    with torch.autocast(features.device.type, dtype, enabled=dtype != torch.float32):
        loss = decoder(features).float().square().mean()
    by_name = dict(decoder.named_parameters())
    return torch.cat(
        [grad.flatten() for grad in torch.autograd.grad(loss, [by_name[name] for name in sorted(by_name)])]
    )


def prepare_step(kind: str, config: DecoderConfig, dtype: torch.dtype) -> Callable[[], None]:
    """A step of a new decoder, as `memory.peak_bytes` measures it."""
    torch.manual_seed(0)
    decoder = (StraightforwardDecoder if kind == BASELINE else S4Decoder)(config)
    return partial(step, decoder, torch.randn(1, config.l_max, config.d_input), dtype)


def measure(config: DecoderConfig, repeats: int = 5) -> list[dict[str, Any]]:
    """A row for each way through the decoder."""
    torch.manual_seed(0)
    decoder, baseline = S4Decoder(config), StraightforwardDecoder(config)
    baseline.load_state_dict(decoder.state_dict())
    features = torch.randn(2, config.l_max, config.d_input)
    window = features[:1]
    products = decoder_products(config.l_max, config.d_model, config.n_layers)
    runs: dict[Run, Callable[[], Any]] = {
        Run("forward", BASELINE, "fp32"): partial(forward, baseline, window),
        Run("step", BASELINE, "fp32"): partial(step, baseline, window),
    }
    for name, dtype in DTYPES.items():
        runs[Run("forward", "limit", name)] = run_products(products, dtype)
        runs[Run("forward", "eager", name)] = partial(forward, decoder, window, dtype)
        runs[Run("step", "limit", name)] = run_products(products, dtype, backward=True)
        runs[Run("step", "eager", name)] = partial(step, decoder, window, dtype)
    for target, precision in EXPORTS:
        exported = export(decoder, target, precision, features)
        runs[Run("forward", target, precision)] = partial(exported, window.numpy())
    drift = {run: _relative_l2(call(), forward(baseline, window)) for run, call in runs.items() if run.has_logits()}
    expected = gradients(baseline, window)
    for name, dtype in DTYPES.items():
        drift[Run("step", "eager", name)] = _relative_l2(gradients(decoder, window, dtype), expected)
    seconds = medians(runs, repeats)
    return [_row(run, config, seconds, drift.get(run)) for run in runs]


def export(
    decoder: S4Decoder, target: Format, precision: Precision, features: Tensor
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """The decoder as a bundle serves it."""
    module = freeze(decoder, features.shape[1], target, precision=precision).module
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "head"
        if target == "onnx":
            onnx.export_graph(module, features, path, "features", "logits")
            return onnx.cpu_runner(path, "head")
        torchscript.export_graph(module, features, path)
        return torchscript_runner(path.read_bytes(), "head", CPU)


def _relative_l2(values: Tensor | NDArray[np.float32], expected: Tensor) -> float:
    return float((torch.as_tensor(values) - expected).norm() / expected.norm())


def _row(run: Run, config: DecoderConfig, seconds: Mapping[Run, float], drift: float | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        **run._asdict(),
        "threads": torch.get_num_threads(),
        "shape": f"B=1 L={config.l_max} D={config.d_model}",
        "seconds": seconds[run],
        "times_limit": seconds[run] / seconds[run._replace(way="limit")],
        "faster_than_baseline": seconds[Run(run.call, BASELINE, "fp32")] / seconds[run],
        "drift": drift,
    }
    if run.call == "step" and run.way != "limit":
        row["peak_bytes"] = peak_bytes(prepare_step, run.way, config, DTYPES[run.dtype])
    return row


def growth(lengths: Sequence[int], width: int, repeats: int = 5) -> list[dict[str, Any]]:
    """Time per token of a forward pass and of a step, for each L."""
    rows = []
    for length in lengths:
        decoder = S4Decoder(DecoderConfig(d_input=width, l_max=length, d_output=10, d_model=width, n_layers=2))
        features = torch.randn(1, length, width)
        seconds = medians(
            {"forward": partial(forward, decoder, features), "step": partial(step, decoder, features)}, repeats
        )
        per_token = {f"{call}_seconds_per_token": taken / length for call, taken in seconds.items()}
        rows.append({"L": length, "D": width, "dtype": "fp32", "threads": torch.get_num_threads(), **per_token})
    return rows


def main() -> None:
    """Measures and prints both tables."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    rows = measure(PAPER)
    print(f"{torch.get_num_threads()} threads, {rows[0]['shape']}")
    print(f"{'call':<8} {'way':<16} {'dtype':<5} {'seconds':>8} {'x limit':>8} {'x faster':>9} {'peak MB':>8}  drift")
    for row in rows:
        peak = f"{row['peak_bytes'] / 1e6:.0f}" if "peak_bytes" in row else ""
        drift = "" if row["drift"] is None else f"{row['drift']:.1e}"
        print(
            f"{row['call']:<8} {row['way']:<16} {row['dtype']:<5} {row['seconds']:8.3f} {row['times_limit']:8.2f} "
            f"{row['faster_than_baseline']:9.1f} {peak:>8}  {drift}"
        )
    grown = growth((1_000, 3_000, 10_000, 30_000, 100_000), width=128)
    print(f"{'L':>7} {'D':>5}  forward us/token  step us/token")
    for row in grown:
        times = (1e6 * row[f"{call}_seconds_per_token"] for call in ("forward", "step"))
        print(f"{row['L']:>7} {row['D']:>5}  {next(times):16.2f}  {next(times):13.2f}")
    versions = {name: version(name) for name in ("torch", "onnxruntime-gpu")}
    save("decoder", {"description": __doc__, "machine": machine(**versions), "rows": rows, "growth": grown})


if __name__ == "__main__":
    main()
