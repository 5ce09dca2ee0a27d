"""The recipe of the sample model at a small size: it runs, and its seed determines the bundle."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

# Like `python -m samples.generator.train`, but with few steps for the encoder.
_RECIPE = "from samples.generator import encoder, train; encoder._STEPS = 2; train.main()"


@pytest.mark.slow
def test_seed_determines_the_bundle(samples: Path, tmp_path: Path) -> None:
    digests = []
    for name in ("first", "second"):
        work, bundle = tmp_path / name, tmp_path / f"{name}-bundle"
        arguments = f"--work {work} --output {bundle} --seed 5 --train 4 --val 2 --epochs 2"
        subprocess.run([sys.executable, "-c", _RECIPE, *arguments.split()], cwd=samples.parent, check=True)
        digests.append(json.loads((bundle / "manifest.json").read_text())["files"])
    assert set(digests[0]) == {"encoder.onnx", "visitor.onnx", "parity.cases.npz"}
    assert digests[0] == digests[1]
