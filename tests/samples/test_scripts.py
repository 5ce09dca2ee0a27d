"""The samples' command lines: help without PyTorch, and mistakes in one line."""

import subprocess
import sys
from pathlib import Path

import pytest


def run(script: Path, *arguments: str | Path, pythonpath: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": str(pythonpath)} if pythonpath else None
    return subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, env=environment)


@pytest.fixture
def no_torch(tmp_path: Path) -> Path:
    """A folder that hides PyTorch from Python when it is searched first."""
    folder = tmp_path / "no_torch"
    folder.mkdir()
    (folder / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')")
    return folder


@pytest.mark.parametrize("name", ["train.py", "evaluate.py", "make_movie.py", "python/predict.py", "python/service.py"])
def test_help_needs_no_torch(samples: Path, name: str, no_torch: Path) -> None:
    done = run(samples / name, "--help", pythonpath=no_torch)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: {Path(name).name} ")


def test_training_without_torch_names_the_extras(samples: Path, no_torch: Path, tmp_path: Path) -> None:
    done = run(samples / "train.py", "--work", tmp_path / "work", pythonpath=no_torch)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert "torch" in line
    assert "pip install '.[train,export]'" in line
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-o", "absent/movie.mp4"), "No such file or directory"),
        (("-o", "movie.txt"), "output format"),
        (("-o", "movie.mp4", "--codec", "abc"), "codec='abc': must be a video encoder"),
        (("-o", "movie.mp4", "--codec", "pcm_s16le"), "codec='pcm_s16le': must be a video encoder"),
        (("-o", "movies", "--train", "1", "--codec", "png"), "cannot be written with codec png"),
    ],
)
def test_a_movie_that_cannot_be_made_is_one_line(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(samples / "make_movie.py", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_predict_ends_quietly_where_nobody_reads(samples: Path) -> None:
    command = [sys.executable, samples / "python" / "predict.py"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        assert process.stderr.read() == ""
