"""The fastest lowering of the fixed long convolution for each target.

    python -m benchmarks.longconv [--device cuda]

One sequence (B = 1, float32) through the convolutions of the paper's three blocks: L = 11820, 5910 and 2955 at
D = 1024, 512 and 256, in TorchScript, in AOTInductor (pt2) and in ONNX Runtime, which also gets the FFT as its DFT
operator. The lowerings of a target run in turn; times are medians of 5, errors are relative L2 errors against a
convolution in double precision. `vis4mer export --lowering auto` chooses by this table.

On a GPU, engines of TensorRT and TensorRT for RTX are measured too, with the lowerings that each target executes on a
GPU. The signal and the result stay in its memory, and each run is timed until the GPU is idle. A target that cannot be
built or run is left out with the reason. Writes results/longconv.json; on a GPU, the file name includes its name.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any, NamedTuple

try:
    import torch
except ImportError:
    sys.exit("error: package='torch': must be installed; run pip install '.[export]'")

from torch import Tensor, nn

from benchmarks.harness.benchmark import Benchmark, Result
from benchmarks.harness.progress import progress, show
from benchmarks.measure.devices import device_of, place, waiting
from benchmarks.measure.graphs import export_graph
from benchmarks.measure.timing import medians
from vis4mer.devices.device import Device
from vis4mer.errors import Vis4merError
from vis4mer.models.s4 import SSMConv
from vis4mer_export.longconv.blocked_toeplitz import BlockedToeplitzConv
from vis4mer_export.longconv.fft import FFTConv
from vis4mer_export.longconv.lower import fixed_kernel
from vis4mer_export.longconv.matmul_dft import MatmulDFTConv
from vis4mer_export.targets import registry

TARGETS = {"cpu": ("torchscript", "pt2", "onnx"), "cuda": ("torchscript", "pt2", "onnx", "trt", "trt-rtx")}
SHAPES, TINY_SHAPES = ((1024, 11820), (512, 5910), (256, 2955)), ((32, 394),)  # channels D and length L
_D_STATE = 64


class Convolutions(NamedTuple):
    """One convolution in every lowering.

    Attributes:
        signal: Input u [2, D, L].
        lowerings: Modules by the name of the lowering.
        errors: Relative L2 error of each lowering's output.
    """

    signal: Tensor
    lowerings: dict[str, nn.Module]
    errors: dict[str, float]


def convolutions(channels: int, length: int) -> Convolutions:
    """Returns a random SSM convolution of `channels` channels and `length` taps."""
    torch.manual_seed(0)
    conv = SSMConv(channels, _D_STATE, length).requires_grad_(False)
    u = torch.randn(2, channels, length)
    kernel, n = fixed_kernel(conv), 2 * length
    exact = torch.fft.irfft(torch.fft.rfft(u.double(), n=n) * torch.fft.rfft(kernel, n=n), n=n)[..., :length]
    lowerings: dict[str, nn.Module] = {
        "fft": FFTConv(kernel, length).eval(),
        "blocked_toeplitz": BlockedToeplitzConv(conv, length).eval(),
        "matmul_dft": MatmulDFTConv(kernel, length).eval(),
    }
    errors = {name: float((module(u) - exact).norm() / exact.norm()) for name, module in lowerings.items()}
    return Convolutions(u, lowerings, errors)


def _call(module: nn.Module, format: str, u: Tensor, device: Device) -> Callable[[], object]:
    """Exports a module and returns a call of the graph on one sequence."""
    batch = place(u[:1].numpy(), device)
    return waiting(partial(export_graph(module, format, u, device=device, batch=batch).run, batch), device)


def run(options: argparse.Namespace) -> Result:
    """Measures a row for each shape, target and lowering."""
    rows: list[dict[str, Any]] = []
    left_out: list[dict[str, str]] = []
    device = device_of(options.device)
    built = {shape: convolutions(*shape) for shape in (TINY_SHAPES if options.tiny else SHAPES)}
    cases = list(product(built, TARGETS[device.kind]))
    for shape, target in progress(cases, lambda case: f"L={case[0][1]} {case[1]}", weight=lambda case: case[0][0] ** 2):
        try:
            rows += _rows(built[shape], target, device)
        except Vis4merError as error:
            left_out.append({"target": target, "reason": str(error)})
            show(f"D={shape[0]:<5} L={shape[1]:<6} {target:<12} left out: {error}")
    return {"rows": rows} | ({"left_out": left_out} if left_out else {})


def _rows(built: Convolutions, target: str, device: Device) -> list[dict[str, Any]]:
    _, channels, length = built.signal.shape
    # On a CPU, the table also shows why no export uses the FFT in ONNX.
    names = built.lowerings if device.kind == "cpu" else registry.target(target).lowerings
    seconds = medians({name: _call(built.lowerings[name], target, built.signal, device) for name in names})
    rows = []
    for name, taken in seconds.items():
        constants = sum(buffer.nbytes for buffer in built.lowerings[name].buffers())
        rows.append(
            {
                "H": channels,
                "L": length,
                "target": target,
                "lowering": name,
                "milliseconds": round(1e3 * taken, 1 if device.kind == "cpu" else 3),
                "relative_l2": built.errors[name],
                "constant_megabytes": round(constants / 1e6, 1),
            }
        )
        show(
            f"D={channels:<5} L={length:<6} {target:<12} {name:<17} {1e3 * taken:9.2f} ms  "
            f"error {built.errors[name]:.1e}  constants {constants / 1e6:7.1f} MB"
        )
    return rows


BENCHMARK = Benchmark("longconv", __doc__, run, on_gpu=True)

if __name__ == "__main__":
    BENCHMARK.main()
