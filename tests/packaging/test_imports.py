"""What may be imported by what is proved in a fresh interpreter, not by reading."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "timm", "nvidia.dali", "tensorrt", "tensorrt_rtx", "onnx", "onnxscript", "safetensors")

# Makes a machine that has the base install only: importing anything heavy fails as if it were absent.
BASE_INSTALL_ONLY = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.startswith({HEAVY!r}) and name.partition(".")[0] in {tuple(n.partition(".")[0] for n in HEAVY)!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
"""


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT)


@pytest.mark.parametrize(
    "module",
    ["vis4mer", "vis4mer.cli.main", "vis4mer.video.reader", "vis4mer.runtime.classifier", "vis4mer.timeline"],
)
def test_import_loads_nothing_heavy(module: str) -> None:
    result = python(f"import sys, json, {module}; print(json.dumps(sorted(sys.modules)))")
    assert result.returncode == 0, result.stderr
    assert not set(HEAVY) & set(json.loads(result.stdout))


def test_a_movie_is_classified_with_the_base_install_only() -> None:
    code = BASE_INSTALL_ONLY + "from vis4mer.cli.main import main; main()"
    result = python(code, "run", "samples/movie.mp4", "--output-format", "json")
    assert result.returncode == 0, result.stderr
    (prediction,) = json.loads(result.stdout)
    (head,) = prediction["heads"].values()
    assert head["label"] in head["probabilities"]


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (
            ["run", "samples/movie.mp4", "--bundle", "tests/resources/original/lvu-small/checkpoint.pt"],
            "[torch]",
        ),
        (["run", "samples/movie.mp4", "--video-decoder", "dali"], "[dali]"),
        (["export", "--checkpoint", "x.pt", "--format", "onnx", "--output", "y"], "[export]"),
        (["train", "LISTING", "-o", "y"], "[train]"),
        (["extract", "LISTING", "-o", "y"], "[train]"),
    ],
)
def test_what_needs_an_extra_names_it(arguments: list[str], extra: str, tmp_path: Path) -> None:
    listing = tmp_path / "movies.csv"
    for name in ("a", "b"):
        (tmp_path / f"{name}.mp4").touch()
    listing.write_text("path,label,split\na.mp4,x,train\nb.mp4,x,val\n")
    arguments = [str(listing) if argument == "LISTING" else argument for argument in arguments]
    result = python(BASE_INSTALL_ONLY + "from vis4mer.cli.main import main; main()", *arguments)
    assert result.returncode == 1
    assert extra in result.stderr
    assert result.stderr.count("\n") == 1


def test_tab_completion_offers_the_public_names_without_importing_them() -> None:
    result = python("import sys, vis4mer; print(dir(vis4mer) == sorted(vis4mer.__all__), 'torch' in sys.modules)")
    assert result.stdout.split() == ["True", "False"]
