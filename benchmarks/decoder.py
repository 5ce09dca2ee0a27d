"""The paper's S4 decoder against the time of its bare matrix products, and against the straightforward formulation.

    python -m benchmarks.decoder [--device cuda]

One window of 60 s (B = 1, L = 11820 tokens of d = 1024, three blocks, random weights). "forward" is inference with SSM
convolution kernels that are generated once; the baseline generates them in every pass. "step" is forward in training
mode and backward, without the optimiser; all generate the kernels in every step. "limit" is the time of the 35.3 GFLOP
of the published decoder's linear layers, three times that for a step, by the faster of PyTorch's libraries; for fp32
that need not be the one behind torch.mm, and it then allocates each result. The baseline is
benchmarks/baselines/straightforward.py in fp32, computed by PyTorch's own operators. "reference" and "native" are the
module with PyTorch's operators and with the native ops, where these are built. bf16 is autocast for the module and
`vis4mer export --precision bf16` for an export. Everything runs in turn within one process, each measurement after a
run that does not count; figures are medians of 5. Peak memory is what a step holds at once beyond parameters and
features, measured in a process of its own. "drift" is the relative L2 error against the baseline: of the logits, and
for a step of all gradients without dropout.

The second table shows how the cost grows: L from 1,000 to 100,000 at d = 128, two blocks.

On a GPU, everything stays in its memory, and each run is timed until the GPU is idle. The products of the limit for
fp32 are computed without TF32. Writes results/decoder.json; on a GPU, the file name includes the GPU's name.
"""

import argparse
import copy
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

try:
    import torch
except ImportError:
    sys.exit("error: package='torch': must be installed; run pip install '.[export]'")

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.baselines.straightforward import StraightforwardDecoder
from benchmarks.harness.benchmark import Benchmark, Result
from benchmarks.harness.progress import progress, show
from benchmarks.measure.calls import DTYPES, by_ops, forward, gradients, impls, step
from benchmarks.measure.devices import device_of, place, waiting
from benchmarks.measure.graphs import export_graph
from benchmarks.measure.growth import growth, show_growth
from benchmarks.measure.memory import peak_bytes
from benchmarks.measure.products import decoder_products, run_products, torch_mm
from benchmarks.measure.timing import medians
from vis4mer.config import DecoderConfig
from vis4mer.devices.arrays import Array, on_host
from vis4mer.devices.device import CPU, Device
from vis4mer.errors import Vis4merError
from vis4mer.models.decoder import S4Decoder
from vis4mer.runtime.backends.base import Runner
from vis4mer.runtime.manifest import Precision
from vis4mer_export.freeze import freeze
from vis4mer_export.targets import registry

PAPER = DecoderConfig(d_input=1024, l_max=11820, d_output=10, d_model=1024, n_layers=3)
TINY = DecoderConfig(d_input=64, l_max=394, d_output=10, d_model=64, n_layers=2)
LENGTHS, TINY_LENGTHS = (1_000, 3_000, 10_000, 30_000, 100_000), (100, 1_000)
EXPORTS: tuple[tuple[str, Precision], ...] = (("torchscript", "fp32"), ("torchscript", "bf16"), ("onnx", "fp32"))
BASELINE = "straightforward"
PRODUCTS = ("limit", "torch.mm")


class Run(NamedTuple):
    """One thing to measure.

    Attributes:
        call: What is timed.
        way: How it is computed.
        dtype: Key of `DTYPES`.
    """

    call: Literal["forward", "step"]
    way: str
    dtype: str


def measure(config: DecoderConfig, repeats: int = 5, device: Device = CPU) -> list[dict[str, Any]]:
    """Returns a row for each call, way and dtype."""
    torch.manual_seed(0)
    decoder, baseline = S4Decoder(config), StraightforwardDecoder(config)
    baseline.load_state_dict(decoder.state_dict())
    features = torch.randn(2, config.l_max, config.d_input)
    window = features[:1].to(str(device))
    # A copy is moved, because graphs are exported from a module on the CPU.
    runs, drift = _module_runs(copy.deepcopy(decoder).to(str(device)), baseline.to(str(device)), window)
    logits, batch = forward(baseline, window).cpu(), place(features[:1].numpy(), device)
    for format, precision in progress(EXPORTS, lambda export: f"exporting {' '.join(export)}"):
        try:
            exported = partial(_export(decoder, format, precision, features, device, batch), batch)
        except Vis4merError as error:
            show(f"forward  {format:<16} {precision}  left out: {error}")
            continue
        runs[Run("forward", format, precision)] = exported
        drift[Run("forward", format, precision)] = _relative_l2(on_host(exported()), logits)
    runs |= _product_runs(config, device)
    seconds = medians({run: waiting(call, device) for run, call in runs.items()}, repeats, settled=True)
    steps = [run for run in sorted(runs) if run.call == "step" and run.way not in PRODUCTS]
    peaks = {
        run: peak_bytes(prepare_step, run.way, config, run.dtype, device.kind, device=device.kind)
        for run in progress(steps, lambda run: f"memory of {run.way}, {run.dtype}")
    }
    return [_row(run, config, seconds, peaks.get(run), drift.get(run)) for run in sorted(runs)]


def _module_runs(
    decoder: S4Decoder, baseline: StraightforwardDecoder, window: Tensor
) -> tuple[dict[Run, Callable[[], Any]], dict[Run, float]]:
    """Returns the runs of both modules, and the drift of those of the decoder."""
    runs: dict[Run, Callable[[], Any]] = {
        Run("forward", BASELINE, "fp32"): partial(forward, baseline, window),
        Run("step", BASELINE, "fp32"): partial(step, baseline, window),
    }
    drift: dict[Run, float] = {}
    logits, slopes = forward(baseline, window), gradients(baseline, window)
    for impl in impls(window.device.type):
        for name, dtype in DTYPES.items():
            run = runs[Run("forward", impl, name)] = by_ops(impl, partial(forward, decoder, window, dtype))
            drift[Run("forward", impl, name)] = _relative_l2(run(), logits)
            runs[Run("step", impl, name)] = by_ops(impl, partial(step, decoder, window, dtype))
            slope = by_ops(impl, partial(gradients, decoder, window, dtype))()
            drift[Run("step", impl, name)] = _relative_l2(slope, slopes)
    return runs, drift


def _product_runs(config: DecoderConfig, device: Device) -> dict[Run, Callable[[], Any]]:
    """Returns the runs of the bare matrix products."""
    products = decoder_products(config.l_max, config.d_model, config.n_layers)
    runs: dict[Run, Callable[[], Any]] = {}
    for name, dtype in DTYPES.items():
        runs[Run("forward", "limit", name)] = run_products(products, dtype, device.kind)
        runs[Run("step", "limit", name)] = run_products(products, dtype, device.kind, backward=True)
        runs[Run("forward", "torch.mm", name)] = run_products(products, dtype, device.kind, multiply=torch_mm)
        runs[Run("step", "torch.mm", name)] = run_products(
            products, dtype, device.kind, backward=True, multiply=torch_mm
        )
    return runs


def prepare_step(way: str, config: DecoderConfig, dtype: str, device: str = "cpu") -> Callable[[], None]:
    """Returns a step of a new decoder, for `peak_bytes`."""
    torch.manual_seed(0)
    decoder = (StraightforwardDecoder if way == BASELINE else S4Decoder)(config).to(device)
    call = partial(step, decoder, torch.randn(1, config.l_max, config.d_input, device=device), DTYPES[dtype])
    return call if way == BASELINE else by_ops(way, call)


def _export(
    decoder: S4Decoder, format: str, precision: Precision, features: Tensor, device: Device, batch: Array
) -> Runner:
    """Returns the runner of the exported decoder."""
    frozen = freeze(decoder, features.shape[1], registry.target(format).lowerings, precision).module
    return export_graph(frozen, format, features, precision, device, batch).run


def _relative_l2(values: Tensor | NDArray[np.float32], expected: Tensor) -> float:
    return float((torch.as_tensor(values) - expected).norm() / expected.norm())


def _row(
    run: Run, config: DecoderConfig, seconds: Mapping[Run, float], peak: int | None, drift: float | None
) -> dict[str, Any]:
    return {
        **run._asdict(),
        "threads": torch.get_num_threads(),
        "shape": f"B=1 L={config.l_max} D={config.d_model}",
        "seconds": seconds[run],
        "times_limit": seconds[run] / seconds[run._replace(way="limit")],
        "faster_than_baseline": seconds[Run(run.call, BASELINE, "fp32")] / seconds[run],
        "peak_bytes": peak,
        "drift": drift,
    }


def _show_rows(rows: list[dict[str, Any]]) -> None:
    show(f"{torch.get_num_threads()} threads, {rows[0]['shape']}")
    show(f"{'call':<8} {'way':<16} {'dtype':<5} {'seconds':>8} {'x limit':>8} {'x faster':>9} {'peak MB':>8}  drift")
    for row in rows:
        peak = "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 1e6:.0f}"
        drift = "" if row["drift"] is None else f"{row['drift']:.1e}"
        show(
            f"{row['call']:<8} {row['way']:<16} {row['dtype']:<5} {row['seconds']:8.4f} {row['times_limit']:8.2f} "
            f"{row['faster_than_baseline']:9.1f} {peak:>8}  {drift}"
        )


def run(options: argparse.Namespace) -> Result:
    """Measures both tables."""
    config, lengths = (TINY, TINY_LENGTHS) if options.tiny else (PAPER, LENGTHS)
    device = device_of(options.device)
    rows = measure(config, device=device)
    _show_rows(rows)
    grown = growth(lengths, width=128, device=device)
    show_growth(grown)
    return {"growth_ops": impls(device.kind)[-1], "rows": rows, "growth": grown}


BENCHMARK = Benchmark("decoder", __doc__, run, on_gpu=True)

if __name__ == "__main__":
    BENCHMARK.main()
