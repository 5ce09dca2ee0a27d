"""The paper's whole model, ViT-L/16 and the S4 decoder at 60 s, exported to every target that builds without a GPU.

    python benchmarks/paper_model.py

Random weights; the sizes are the paper's: 197 tokens of 1024 features a frame, L = 11820, three blocks from d = 1024.
Each bundle is written, proved against the model on random input and on samples/movie.mp4, opened again and verified.
Prints and records file sizes, seconds and parity in results/paper_model.json. Takes ten minutes on two cores, 16 GB of
memory and 12 GB of disk.
"""

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, get_args

try:
    import torch
except ImportError:
    sys.exit("error: package='torch': is needed; pip install '.[export]'")

from measure import RESULTS, machine, save

from vis4mer.config import DecoderConfig, EncoderConfig, HeadConfig, ModelConfig
from vis4mer.devices.device import CPU
from vis4mer.models.vis4mer import Vis4mer
from vis4mer.runtime.bundle import Bundle, Format, Precision
from vis4mer.runtime.parity import check_bundle
from vis4mer_export.exporter import ExportOptions, export_model

_MOVIE = Path(__file__).parents[1] / "samples" / "movie.mp4"
_BUILDS: tuple[tuple[Format, Precision], ...] = (
    ("onnx", "fp32"),
    ("onnx", "fp16"),
    ("torchscript", "fp32"),
    ("torchscript", "bf16"),
    ("pt2", "fp32"),
    ("trt-rtx", "fp16"),
)


def _paper_model() -> Vis4mer:
    torch.manual_seed(0)
    encoder = EncoderConfig()
    decoder = DecoderConfig(
        d_input=encoder.features, l_max=60 * encoder.tokens, d_output=10, d_model=encoder.features, n_layers=3
    )
    return Vis4mer(ModelConfig({"scene": HeadConfig(decoder)}, encoder)).eval()


def _measure(model: Vis4mer, format: Format, precision: Precision) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        bundle = export_model(model, Path(folder) / "bundle", ExportOptions(format, precision), movie=_MOVIE)
        seconds = time.perf_counter() - start
        start = time.perf_counter()
        again = {} if format == "trt-rtx" else check_bundle(Bundle.open(bundle.path), CPU)
        verified = time.perf_counter() - start
        return {
            "format": format,
            "precision": precision,
            "export_seconds": round(seconds, 1),
            "verify_seconds": round(verified, 1) if again else None,
            "megabytes": {name: round(file.bytes / 1e6, 1) for name, file in bundle.files.items()},
            "lowering": [block["lowering"] for block in bundle.lowering["scene"]["blocks"]],
            "parity": {name: dict(report) for name, report in bundle.parity.items()},
            "verified": {name: dataclasses.asdict(result) for name, result in again.items()},
        }


def main() -> None:
    """Exports the model to each target in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--format", choices=get_args(Format), help="only this one; other rows of the result stay")
    chosen = parser.parse_args().format
    model = _paper_model()
    path = RESULTS / "paper_model.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() and chosen else []
    for format, precision in _BUILDS:
        if chosen not in (None, format):
            continue
        row = _measure(model, format, precision)
        rows = [old for old in rows if (old["format"], old["precision"]) != (format, precision)] + [row]
        for graph, report in row["parity"].items():
            print(
                f"{format:<12} {precision}  {graph:<8} rel. L2 error {report['relative_l2']:.1e}  "
                f"export {row['export_seconds']:.0f} s  files {row['megabytes']}",
                flush=True,
            )
        save("paper_model", {"description": __doc__, "machine": machine(torch=torch.__version__), "rows": rows})


if __name__ == "__main__":
    main()
