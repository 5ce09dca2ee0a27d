"""Which lowering of the fixed long convolution is fastest on which target.

    python benchmarks/longconv.py

One sequence (B = 1, float32) through the convolutions of the paper's three blocks: L = 11820, 5910 and 2955 at
H = 1024, 512 and 256, in TorchScript, in AOTInductor (pt2) and in ONNX Runtime, which also gets the FFT as its DFT
operator. Lowerings of a row run in turn; the medians of 5 are in milliseconds, with the relative L2 error against a
double-precision convolution. `vis4mer export --lowering auto` prefers by this table. Writes results/longconv.json.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

try:
    import torch
except ImportError:
    sys.exit("error: package='torch': is needed; pip install '.[export]'")

from measure import machine, medians, save
from torch import Tensor, nn

from vis4mer.devices.device import CPU
from vis4mer.models.s4 import SSMConv
from vis4mer.runtime.backends.registry import graph_runner
from vis4mer_export.longconv.blocked_toeplitz import BlockedToeplitzConv
from vis4mer_export.longconv.fft import FFTConv
from vis4mer_export.longconv.lower import fixed_kernel
from vis4mer_export.longconv.matmul_dft import MatmulDFTConv
from vis4mer_export.targets import onnx, pt2, torchscript

_SHAPES = ((1024, 11820), (512, 5910), (256, 2955))


def _runner(module: nn.Module, target: str, u: Tensor, folder: Path) -> Callable[[], object]:
    path = folder / f"graph.{target}"
    match target:
        case "torchscript":
            torchscript.export_graph(module, u, path)
        case "pt2":
            pt2.export_graph(module, u, path)
        case "onnx":
            onnx.export_graph(module, u, path, "u", "y")
            run = onnx.cpu_runner(path, "graph")
            return lambda: run(u[:1].numpy())
    run_torch = graph_runner(target, path.read_bytes(), "graph", CPU)  # type: ignore[arg-type]
    return lambda: run_torch(u[:1].numpy())


def main() -> None:
    """Measures and prints the table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    rows = []
    for channels, length in _SHAPES:
        torch.manual_seed(0)
        conv = SSMConv(channels, 64, length).requires_grad_(False)
        u = torch.randn(2, channels, length)
        kernel = fixed_kernel(conv)
        n = 2 * length
        exact = torch.fft.irfft(torch.fft.rfft(u.double(), n=n) * torch.fft.rfft(kernel, n=n), n=n)[..., :length]
        modules: dict[str, nn.Module] = {
            "fft": FFTConv(kernel, length),
            "blocked_toeplitz": BlockedToeplitzConv(conv, length),
            "matmul_dft": MatmulDFTConv(kernel, length),
        }
        for module in modules.values():
            module.eval()
        errors = {name: float((module(u) - exact).norm() / exact.norm()) for name, module in modules.items()}
        constants = {name: sum(b.nbytes for b in module.buffers()) for name, module in modules.items()}
        for target in ("torchscript", "pt2", "onnx"):
            with tempfile.TemporaryDirectory() as folder:
                runs = {name: _runner(module, target, u, Path(folder)) for name, module in modules.items()}
                seconds = medians(runs)
            for name, taken in seconds.items():
                rows.append(
                    {
                        "H": channels,
                        "L": length,
                        "target": target,
                        "lowering": name,
                        "milliseconds": round(1e3 * taken, 1),
                        "relative_l2": errors[name],
                        "constant_megabytes": round(constants[name] / 1e6, 1),
                    }
                )
                print(
                    f"H={channels:<5} L={length:<6} {target:<12} {name:<17} {1e3 * taken:9.1f} ms  "
                    f"error {errors[name]:.1e}  constants {constants[name] / 1e6:7.1f} MB",
                    flush=True,
                )
    versions = {name: version(name) for name in ("torch", "onnxruntime-gpu")}
    save("longconv", {"description": __doc__, "machine": machine(**versions), "rows": rows})


if __name__ == "__main__":
    main()
