"""Writes the checkpoints that are exported, with random weights.

    python -m benchmarks.gpu.checkpoints FOLDER NAME...

``sample`` has the sizes of the model in samples/bundle, ``paper`` those of the paper, ``tiny`` is a small model.
"""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from benchmarks.paper_model import paper_model, tiny_model
from vis4mer.models.vis4mer import Vis4mer
from vis4mer.runtime.bundle import Bundle

_SAMPLE = Path(__file__).parents[2] / "samples" / "bundle"


def sample_model() -> Vis4mer:
    """Returns a model of the sample bundle's configuration."""
    torch.manual_seed(0)
    return Vis4mer(Bundle.open(_SAMPLE).model).eval()


MODELS: Mapping[str, Callable[[], Vis4mer]] = {"sample": sample_model, "paper": paper_model, "tiny": tiny_model}


def main() -> None:
    """Writes one folder for each name."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.checkpoints", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="+", choices=MODELS, metavar="NAME")
    options = parser.parse_args()
    for name in options.names:
        MODELS[name]().save_pretrained(options.folder / name)
        print(f"wrote {options.folder / name}")


if __name__ == "__main__":
    main()
