"""The paper's S4 decoder in every exported format.

    python -m benchmarks.head [--device cuda]

One window of 60 s (B = 1, L = 11820 tokens of d = 1024, three blocks, float32, random weights). The trained module runs
twice: once it generates its SSM convolution kernels in every call, as in training, and once it keeps them. "onnx, DFT
operator" is ONNX without a lowering: its convolutions use the DFT operator. All run in turn within one process; figures
are medians of 5. "drift" is the relative L2 error of the logits against the module that keeps its kernels. Exports on a
CPU are in float32.

On a GPU, every format is measured in every precision, those of TensorRT and TensorRT for RTX where these are installed.
Features and logits stay in its memory, and each run is timed until the GPU is idle. "times_limit" is the ratio to the
time of the 35.3 GFLOP of the published decoder's linear layers in the same precision, for fp32 without TF32.
"device_bytes" is the memory that a graph holds after a run. A graph that cannot be built or run is left out with the
reason. Writes results/head.json; on a GPU, the file name includes the GPU's name.
"""

import argparse
import copy
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

try:
    import torch
except ImportError:
    sys.exit("error: package='torch': must be installed; run pip install '.[export]'")

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.harness.benchmark import Benchmark, Result
from benchmarks.harness.progress import progress, show
from benchmarks.measure.devices import device_of, place, waiting
from benchmarks.measure.graphs import export_graph
from benchmarks.measure.products import decoder_products, run_products
from benchmarks.measure.timing import medians
from vis4mer.config import DecoderConfig
from vis4mer.devices.arrays import Array, DeviceArray, on_host
from vis4mer.devices.device import CPU, Device
from vis4mer.errors import Vis4merError
from vis4mer.models.decoder import S4Decoder
from vis4mer.runtime.manifest import Precision
from vis4mer_export.freeze import freeze
from vis4mer_export.longconv import Lowering
from vis4mer_export.precision import DTYPES
from vis4mer_export.targets import registry

PAPER = DecoderConfig(d_input=1024, l_max=11820, d_output=10, d_model=1024, n_layers=3)
TINY = DecoderConfig(d_input=64, l_max=394, d_output=10, d_model=64, n_layers=2)
DFT = "onnx, DFT operator"
LIMIT = "products in {}"


class Exported(NamedTuple):
    """A graph to export.

    Attributes:
        format: Name of the target.
        lowerings: Lowerings to try, in order of preference.
        precision: Precision of the matrix products.
    """

    format: str
    lowerings: tuple[Lowering, ...]
    precision: Precision = "fp32"


def measure(config: DecoderConfig, device: Device = CPU) -> Result:
    """Returns a row for each graph, and the graphs that are left out."""
    torch.manual_seed(0)
    decoder = S4Decoder(config).eval().requires_grad_(False)
    features = torch.randn(2, config.l_max, config.d_input)
    runs = _module_runs(decoder, features[:1], device)
    facts: dict[str, dict[str, Any]] = {name: {"dtype": "fp32"} for name in runs}
    left_out: list[dict[str, str]] = []
    batch = place(features[:1].numpy(), device)
    for name, graph in progress(_graphs(device).items(), lambda graph: f"exporting {graph[0]}"):
        start = time.perf_counter()
        try:
            frozen = freeze(decoder, config.l_max, graph.lowerings, graph.precision).module
            exported = export_graph(frozen, graph.format, features, graph.precision, device, batch)
        except Vis4merError as error:
            left_out.append({"graph": name, "reason": str(error)})
            show(f"{name:<20} left out: {error}")
            continue
        seconds = round(time.perf_counter() - start, 1)
        facts[name] = {
            "dtype": graph.precision,
            "export_seconds": seconds,
            "megabytes": round(exported.file_bytes / 1e6, 1),
        }
        if exported.device_bytes is not None:
            facts[name]["device_bytes"] = exported.device_bytes
        runs[name] = partial(exported.run, batch)
    expected = on_host(runs["eager"]())
    drift = {
        name: float(np.linalg.norm(on_host(run()) - expected) / np.linalg.norm(expected)) for name, run in runs.items()
    }
    limits = {} if device.kind == "cpu" else _limits(config, device)
    taken = medians({name: waiting(run, device) for name, run in {**runs, **limits}.items()})

    def ratio(name: str) -> dict[str, float]:
        if limits:
            return {"times_limit": taken[name] / taken[LIMIT.format(facts[name]["dtype"])]}
        return {"faster_than_dft": taken[DFT] / taken[name]}

    rows = [
        {"graph": name, "seconds": taken[name], **ratio(name), "drift": drift[name], **facts[name]} for name in runs
    ]
    return {"rows": rows} | ({"left_out": left_out} if left_out else {})


def _module_runs(decoder: S4Decoder, window: Tensor, device: Device) -> dict[str, Callable[[], Any]]:
    """Returns the calls of the trained module: with new SSM convolution kernels, and with those that it keeps."""
    module, x = copy.deepcopy(decoder).to(str(device)), window.to(str(device))
    results = {"eager, new kernels": module, "eager": torch.inference_mode()(module)}
    return {name: partial(_to_array, call, x, device) for name, call in results.items()}


def _to_array(call: Callable[[Tensor], Tensor], x: Tensor, device: Device) -> Array:
    result = call(x)
    if device.kind == "cpu":
        array: NDArray[np.float32] = result.numpy()
        return array
    return DeviceArray.from_interface(result, device)


def _limits(config: DecoderConfig, device: Device) -> dict[str, Callable[[], Any]]:
    """Returns the bare matrix products of the decoder in every precision."""
    products = decoder_products(config.l_max, config.d_model, config.n_layers)
    return {LIMIT.format(name): run_products(products, dtype, device.kind) for name, dtype in DTYPES.items()}


def _graphs(device: Device) -> dict[str, Exported]:
    """Returns every graph to export, by name."""
    auto = registry.target("onnx").lowerings
    if device.kind == "cpu":
        return {
            "torchscript": Exported("torchscript", ("fft",)),
            "pt2": Exported("pt2", ("fft",)),
            DFT: Exported("onnx", ("fft",)),
            "onnx, matmul_dft": Exported("onnx", ("matmul_dft",)),
            "onnx, auto": Exported("onnx", auto),
        }
    return {
        f"{format}, {precision}": Exported(format, registry.target(format).lowerings, precision)
        for precision in DTYPES
        for format in ("torchscript", "pt2", "onnx", "trt", "trt-rtx")
    }


def run(options: argparse.Namespace) -> Result:
    """Measures and prints the table."""
    result = measure(TINY if options.tiny else PAPER, device_of(options.device))
    show(f"{'graph':<20} {'seconds':>9} {'ratio':>8} {'MB':>8} {'export s':>9}  drift")
    for row in result["rows"]:
        size, export = row.get("megabytes", ""), row.get("export_seconds", "")
        ratio = row.get("faster_than_dft", row.get("times_limit"))
        show(f"{row['graph']:<20} {row['seconds']:9.4f} {ratio:7.1f}x {size:>8} {export:>9}  {row['drift']:.1e}")
    return result


BENCHMARK = Benchmark("head", __doc__, run, on_gpu=True)

if __name__ == "__main__":
    BENCHMARK.main()
