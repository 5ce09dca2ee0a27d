"""The paper's S4 decoder in every exported format, on a CPU.

    python -m benchmarks.head

One window of 60 s (B = 1, L = 11820 tokens of d = 1024, three blocks, float32, random weights). The trained module runs
twice: once it generates its SSM convolution kernels in every call, as in training, and once it keeps them. "onnx, DFT
operator" is ONNX without a lowering: its convolutions use the DFT operator. All run in turn within one process; figures
are medians of 5. "drift" is the relative L2 error of the logits against the module that keeps its kernels. Writes
results/head.json.
"""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

try:
    import torch
except ImportError:
    sys.exit("error: package='torch': must be installed; run pip install '.[export]'")

import numpy as np
from torch import nn

from benchmarks.harness.benchmark import Benchmark, Result
from benchmarks.harness.progress import progress, show
from benchmarks.measure.graphs import export_graph
from benchmarks.measure.timing import medians
from vis4mer.config import DecoderConfig
from vis4mer.models.decoder import S4Decoder
from vis4mer_export.freeze import freeze
from vis4mer_export.targets import registry

PAPER = DecoderConfig(d_input=1024, l_max=11820, d_output=10, d_model=1024, n_layers=3)
TINY = DecoderConfig(d_input=64, l_max=394, d_output=10, d_model=64, n_layers=2)
DFT = "onnx, DFT operator"


def measure(config: DecoderConfig) -> list[dict[str, Any]]:
    """Returns a row for each graph."""
    torch.manual_seed(0)
    decoder = S4Decoder(config).eval().requires_grad_(False)
    features = torch.randn(2, config.l_max, config.d_input)
    batch = features[:1].numpy()
    runs: dict[str, Callable[[], Any]] = {
        "eager, new kernels": lambda: decoder(features[:1]).numpy(),
        "eager": lambda: torch.inference_mode()(decoder)(features[:1]).numpy(),
    }
    facts: dict[str, dict[str, Any]] = {name: {} for name in runs}
    for name, (format, module) in progress(_graphs(decoder).items(), lambda graph: f"exporting {graph[0]}"):
        start = time.perf_counter()
        runner, size = export_graph(module, format, features)
        facts[name] = {"export_seconds": round(time.perf_counter() - start, 1), "megabytes": round(size / 1e6, 1)}
        runs[name] = partial(runner, batch)
    expected = runs["eager"]()
    drift = {name: float(np.linalg.norm(run() - expected) / np.linalg.norm(expected)) for name, run in runs.items()}
    seconds = medians(runs)
    return [
        {
            "graph": name,
            "seconds": taken,
            "faster_than_dft": seconds[DFT] / taken,
            "drift": drift[name],
            **facts[name],
        }
        for name, taken in seconds.items()
    ]


def _graphs(decoder: S4Decoder) -> dict[str, tuple[str, nn.Module]]:
    """Returns the format and the frozen module of every exported graph, by the graph's name."""
    length = decoder.config.l_max
    fft = freeze(decoder, length, ("fft",)).module
    return {
        "torchscript": ("torchscript", fft),
        "pt2": ("pt2", fft),
        DFT: ("onnx", fft),
        "onnx, matmul_dft": ("onnx", freeze(decoder, length, ("matmul_dft",)).module),
        "onnx, auto": ("onnx", freeze(decoder, length, registry.target("onnx").lowerings).module),
    }


def run(options: argparse.Namespace) -> Result:
    """Measures and prints the table."""
    rows = measure(TINY if options.tiny else PAPER)
    show(f"{'graph':<20} {'seconds':>8} {'vs DFT':>8} {'MB':>8} {'export s':>9}  drift")
    for row in rows:
        size, export = row.get("megabytes", ""), row.get("export_seconds", "")
        times = f"{row['seconds']:8.2f} {row['faster_than_dft']:7.1f}x"
        show(f"{row['graph']:<20} {times} {size:>8} {export:>9}  {row['drift']:.1e}")
    return {"rows": rows}


BENCHMARK = Benchmark("head", __doc__, run)

if __name__ == "__main__":
    BENCHMARK.main()
