"""The paper's whole model, ViT-L/16 and the S4 decoder at 60 s, exported to every target that builds without a GPU.

    python -m benchmarks.paper_model

Random weights; the sizes are the paper's: 197 tokens of 1024 features for each frame, L = 11820, three blocks from
d = 1024. Each bundle is written, compared with the model on random input and on samples/movie.mp4, opened again and
verified. Records file sizes, seconds and parity in results/paper_model.json. Takes ten minutes on two cores, 16 GB of
memory and 12 GB of disk.
"""

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

try:
    import torch
except ImportError:
    sys.exit("error: package='torch': must be installed; run pip install '.[export]'")

from benchmarks.harness.benchmark import Benchmark, Result
from benchmarks.harness.progress import progress, show
from vis4mer.config import DecoderConfig, EncoderConfig, HeadConfig, ModelConfig, Preprocessing, WindowConfig
from vis4mer.devices.device import CPU
from vis4mer.models.vis4mer import Vis4mer
from vis4mer.runtime.bundle import Bundle
from vis4mer.runtime.manifest import Precision
from vis4mer.runtime.parity import check_bundle
from vis4mer_export.exporter import export_model
from vis4mer_export.options import ExportOptions
from vis4mer_export.targets.registry import names

Build = tuple[str, Precision]
BUILDS: tuple[Build, ...] = (
    ("onnx", "fp32"),
    ("onnx", "fp16"),
    ("torchscript", "fp32"),
    ("torchscript", "bf16"),
    ("pt2", "fp32"),
    ("trt-rtx", "fp16"),
)
TINY_BUILDS: tuple[Build, ...] = (("onnx", "fp32"), ("torchscript", "fp32"))
HEAD = "scene"
_MOVIE = Path(__file__).parents[1] / "samples" / "movie.mp4"


def paper_model() -> Vis4mer:
    """Returns the paper's model with random weights."""
    encoder = EncoderConfig()
    decoder = DecoderConfig(
        d_input=encoder.features, l_max=60 * encoder.tokens, d_output=10, d_model=encoder.features, n_layers=3
    )
    return _model(ModelConfig({HEAD: HeadConfig(decoder)}, encoder))


def tiny_model() -> Vis4mer:
    """Returns a small model with windows of 5 s and random weights."""
    encoder = EncoderConfig("test_vit", 5, 64)
    decoder = DecoderConfig(d_input=64, l_max=5 * encoder.tokens, d_output=10, d_model=32, n_layers=2)
    preprocessing, windows = Preprocessing(height=32, width=32), WindowConfig(seconds=5)
    return _model(ModelConfig({HEAD: HeadConfig(decoder)}, encoder, preprocessing, windows))


def _model(config: ModelConfig) -> Vis4mer:
    torch.manual_seed(0)
    return Vis4mer(config).eval()


def measure(model: Vis4mer, build: Build) -> dict[str, Any]:
    """Exports the model, verifies the bundle, and returns a row."""
    format, precision = build
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        # Engines are built here for the GPUs of other machines.
        options = ExportOptions(format, precision, unverified=True)
        bundle = export_model(model, Path(folder) / "bundle", options, movie=_MOVIE)
        exported = time.perf_counter() - start
        start = time.perf_counter()
        verified = {} if bundle.not_executed else check_bundle(Bundle.open(bundle.path), CPU)
        verify_seconds = time.perf_counter() - start
        return {
            "format": format,
            "precision": precision,
            "export_seconds": round(exported, 1),
            "verify_seconds": round(verify_seconds, 1) if verified else None,
            "megabytes": {name: round(file.bytes / 1e6, 1) for name, file in bundle.files.items()},
            "lowering": [block["lowering"] for block in bundle.lowering[HEAD]["blocks"]],
            "parity": {name: dict(report) for name, report in bundle.parity.items()},
            "verified": {name: dataclasses.asdict(result) for name, result in verified.items()},
        }


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the choice of one format."""
    parser.add_argument(
        "--format", choices=names(), help="measure only this format and keep the other rows of the result"
    )


def run(options: argparse.Namespace) -> Result:
    """Exports the model to each target in turn."""
    builds = TINY_BUILDS if options.tiny else BUILDS
    builds = tuple(build for build in builds if options.format in (None, build[0]))
    model = tiny_model() if options.tiny else paper_model()
    rows = []
    for build in progress(builds, " ".join):
        row = measure(model, build)
        rows.append(row)
        for graph, report in row["parity"].items():
            show(
                f"{build[0]:<12} {build[1]}  {graph:<8} rel. L2 error {report['relative_l2']:.1e}  "
                f"export {row['export_seconds']:.0f} s  files {row['megabytes']}"
            )
    kept = _other_rows(builds) if options.format and not options.tiny else []
    return {"rows": [*kept, *rows]}


def _other_rows(builds: tuple[Build, ...]) -> list[dict[str, Any]]:
    """Returns the rows of the result file that belong to other builds."""
    path = BENCHMARK.path()
    old = json.loads(path.read_text())["rows"] if path.exists() else []
    return [row for row in old if (row["format"], row["precision"]) not in builds]


BENCHMARK = Benchmark("paper_model", __doc__, run, add_options=add_options)

if __name__ == "__main__":
    BENCHMARK.main()
