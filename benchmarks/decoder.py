"""The paper's S4 decoder against the time of its bare matrix products, and against the straightforward formulation.

    python benchmarks/decoder.py

One window of 60 s (B = 1, L = 11820 tokens of d = 1024, three blocks, random weights). Forward: inference with SSM
convolution kernels that are generated once, but anew in every pass of the baseline. Step: forward in training mode and
backward, kernels generated anew, without the optimiser's part. The limit is the 35.3 GFLOP of the published decoder's
linear layers, thrice that for a step, by the faster one of the libraries that PyTorch carries, which in fp32 need not
be the one behind torch.mm, but then finds memory for each result anew; the baseline is baselines/straightforward.py in
fp32, by PyTorch's own operators. "reference" and "native" are the module with PyTorch's operators and with the native
ops, where these are built; bf16 is autocast for the module and `vis4mer export --precision bf16` for an export.
Everything runs in turn in one process, each measurement after a run that does not count; medians of 5. Peak memory is
what a step holds at once beyond parameters and features, in a process of its own. "drift" is the relative L2 error of
the logits, and for a step that of all gradients without dropout, against the baseline.

Then how cost grows: L from 1,000 to 100,000 at d = 128, two blocks. Writes results/decoder.json.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping
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
from calls import DTYPES, by_ops, forward, gradients, impls, step
from growth import growth, print_growth
from limits import decoder_products, run_products, torch_mm
from measure import machine, medians, save
from memory import peak_bytes
from numpy.typing import NDArray
from torch import Tensor

from vis4mer.config import DecoderConfig
from vis4mer.devices.device import CPU
from vis4mer.models.decoder import S4Decoder
from vis4mer.runtime.backends.torchscript import torchscript_runner
from vis4mer.runtime.bundle import Format, Precision
from vis4mer_export.freeze import freeze
from vis4mer_export.targets import onnx, torchscript

PAPER = DecoderConfig(d_input=1024, l_max=11820, d_output=10, d_model=1024, n_layers=3)
EXPORTS: tuple[tuple[Format, Precision], ...] = (("torchscript", "fp32"), ("torchscript", "bf16"), ("onnx", "fp32"))
BASELINE = "straightforward"
PRODUCTS = ("limit", "torch.mm")


class Run(NamedTuple):
    """One thing to measure: which call, by which way through the decoder, in which dtype."""

    call: Literal["forward", "step"]
    way: str
    dtype: str


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
    logits, slopes = forward(baseline, window), gradients(baseline, window)
    drift: dict[Run, float] = {}
    built = impls()
    for name, dtype in DTYPES.items():
        runs[Run("forward", "limit", name)] = run_products(products, dtype)
        runs[Run("step", "limit", name)] = run_products(products, dtype, backward=True)
        runs[Run("forward", "torch.mm", name)] = run_products(products, dtype, multiply=torch_mm)
        runs[Run("step", "torch.mm", name)] = run_products(products, dtype, backward=True, multiply=torch_mm)
        for impl in built:
            run = runs[Run("forward", impl, name)] = by_ops(impl, partial(forward, decoder, window, dtype))
            drift[Run("forward", impl, name)] = _relative_l2(run(), logits)
            runs[Run("step", impl, name)] = by_ops(impl, partial(step, decoder, window, dtype))
            slope = by_ops(impl, partial(gradients, decoder, window, dtype))()
            drift[Run("step", impl, name)] = _relative_l2(slope, slopes)
    for target, precision in EXPORTS:
        run = runs[Run("forward", target, precision)] = partial(
            _export(decoder, target, precision, features), window.numpy()
        )
        drift[Run("forward", target, precision)] = _relative_l2(run(), logits)
    seconds = medians(runs, repeats, settled=True)
    return [_row(run, config, seconds, drift) for run in sorted(runs)]


def prepare_step(way: str, config: DecoderConfig, dtype: str) -> Callable[[], None]:
    """A step of a new decoder, as `memory.peak_bytes` measures it."""
    torch.manual_seed(0)
    decoder = (StraightforwardDecoder if way == BASELINE else S4Decoder)(config)
    call = partial(step, decoder, torch.randn(1, config.l_max, config.d_input), DTYPES[dtype])
    return call if way == BASELINE else by_ops(way, call)


def _export(
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


def _row(run: Run, config: DecoderConfig, seconds: Mapping[Run, float], drift: Mapping[Run, float]) -> dict[str, Any]:
    stepped = run.call == "step" and run.way not in PRODUCTS
    return {
        **run._asdict(),
        "threads": torch.get_num_threads(),
        "shape": f"B=1 L={config.l_max} D={config.d_model}",
        "seconds": seconds[run],
        "times_limit": seconds[run] / seconds[run._replace(way="limit")],
        "faster_than_baseline": seconds[Run(run.call, BASELINE, "fp32")] / seconds[run],
        "peak_bytes": peak_bytes(prepare_step, run.way, config, run.dtype) if stepped else None,
        "drift": drift.get(run),
    }


def main() -> None:
    """Measures and prints both tables."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    rows = measure(PAPER)
    print(f"{torch.get_num_threads()} threads, {rows[0]['shape']}")
    print(f"{'call':<8} {'way':<16} {'dtype':<5} {'seconds':>8} {'x limit':>8} {'x faster':>9} {'peak MB':>8}  drift")
    for row in rows:
        peak = "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 1e6:.0f}"
        drift = "" if row["drift"] is None else f"{row['drift']:.1e}"
        print(
            f"{row['call']:<8} {row['way']:<16} {row['dtype']:<5} {row['seconds']:8.3f} {row['times_limit']:8.2f} "
            f"{row['faster_than_baseline']:9.1f} {peak:>8}  {drift}"
        )
    grown = growth((1_000, 3_000, 10_000, 30_000, 100_000), width=128)
    print_growth(grown)
    versions = {name: version(name) for name in ("torch", "onnxruntime-gpu")}
    facts = {"machine": machine(**versions), "growth_ops": impls()[-1]}
    save("decoder", {"description": __doc__, **facts, "rows": rows, "growth": grown})


if __name__ == "__main__":
    main()
