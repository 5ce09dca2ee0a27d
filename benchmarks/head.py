"""The paper's S4 decoder on every target, on this machine's CPU.

    python benchmarks/head.py

One window of 60 s (B = 1, L = 11820 tokens of d = 1024, three blocks, float32, random weights) through the trained
module, once generating its SSM convolution kernels on every call, as in training, and once keeping them; and through
its exports. What ONNX would be without a lowering is the graph whose convolutions use the DFT operator. All run in turn
in one process; medians of 5. "drift" is the relative L2 error of the logits against the eager module. Writes
results/head.json.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

try:
    import torch
except ImportError:
    sys.exit("error: package='torch': is needed; pip install '.[export]'")

import numpy as np
from measure import machine, medians, save
from torch import Tensor, nn

from vis4mer.config import DecoderConfig
from vis4mer.devices.device import CPU
from vis4mer.models.decoder import S4Decoder
from vis4mer.runtime.backends.base import Runner
from vis4mer.runtime.backends.pt2 import pt2_runner
from vis4mer.runtime.backends.torchscript import torchscript_runner
from vis4mer_export.freeze import freeze
from vis4mer_export.targets import onnx, pt2, torchscript

_CONFIG = DecoderConfig(d_input=1024, l_max=11820, d_output=10, d_model=1024, n_layers=3)


def main() -> None:
    """Exports, measures and prints the table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.manual_seed(0)
    decoder = S4Decoder(_CONFIG).eval().requires_grad_(False)
    features = torch.randn(2, _CONFIG.l_max, _CONFIG.d_input)
    batch = features[:1].numpy()
    runs: dict[str, Callable[[], Any]] = {
        "eager, new kernels": lambda: decoder(features[:1]).numpy(),
        "eager": lambda: torch.inference_mode()(decoder)(features[:1]).numpy(),
    }
    facts: dict[str, dict[str, Any]] = {row: {} for row in runs}
    fft = freeze(decoder, _CONFIG.l_max, "torchscript", "fft").module
    for row, target, module in (
        ("torchscript", "torchscript", fft),
        ("pt2", "pt2", fft),
        ("onnx, DFT operator", "onnx", fft),
        ("onnx, matmul_dft", "onnx", freeze(decoder, _CONFIG.l_max, "onnx", "matmul_dft").module),
        ("onnx, auto", "onnx", freeze(decoder, _CONFIG.l_max, "onnx").module),
    ):
        start = time.perf_counter()
        graph, size = _export(module, target, features)
        facts[row] = {"export_seconds": round(time.perf_counter() - start, 1), "megabytes": round(size / 1e6, 1)}
        runs[row] = partial(graph, batch)
    expected = runs["eager"]()
    drift = {row: float(np.linalg.norm(run() - expected) / np.linalg.norm(expected)) for row, run in runs.items()}
    seconds = medians(runs)
    rows = []
    print(f"{'graph':<20} {'seconds':>8} {'vs DFT':>8} {'MB':>8} {'export s':>9}  drift")
    for row, taken in seconds.items():
        ratio = seconds["onnx, DFT operator"] / taken
        rows.append({"graph": row, "seconds": taken, "faster_than_dft": ratio, "drift": drift[row], **facts[row]})
        size, export = facts[row].get("megabytes", ""), facts[row].get("export_seconds", "")
        print(f"{row:<20} {taken:8.2f} {ratio:7.1f}x {size:>8} {export:>9}  {drift[row]:.1e}")
    versions = {name: version(name) for name in ("torch", "onnxruntime-gpu")}
    save("head", {"description": __doc__, "machine": machine(**versions), "rows": rows})


def _export(module: nn.Module, target: str, features: Tensor) -> tuple[Runner, int]:
    """Writes and opens a graph; returns its runner and its size in bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"head.{target}"
        match target:
            case "torchscript":
                torchscript.export_graph(module, features, path)
                return torchscript_runner(path.read_bytes(), "head", CPU), path.stat().st_size
            case "pt2":
                pt2.export_graph(module, features, path)
                return pt2_runner(path.read_bytes(), "head", CPU), path.stat().st_size
            case _:
                onnx.export_graph(module, features, path, "features", "logits")
                return onnx.cpu_runner(path, "head"), path.stat().st_size


if __name__ == "__main__":
    main()
