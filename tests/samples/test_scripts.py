"""The samples' command lines: help needs no PyTorch, and errors take one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TRAIN, MAKE_MOVIE = ("-m", "samples.generator.train"), ("-m", "samples.generator.make_movie")


def run(*arguments: str | Path, folders: tuple[Path, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Runs Python with the repository root, and before it the given folders, on its path."""
    path = os.pathsep.join([*map(str, folders), str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment)


@pytest.fixture
def no_torch(tmp_path: Path) -> Path:
    """Returns a folder that hides PyTorch from Python when it is searched first."""
    folder = tmp_path / "no_torch"
    folder.mkdir()
    (folder / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')")
    return folder


@pytest.mark.parametrize("module", ["samples.generator.train", "samples.generator.make_movie", "benchmarks.sample"])
def test_help_of_a_module_needs_no_torch(module: str, no_torch: Path) -> None:
    done = run("-m", module, "--help", folders=(no_torch,))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: python -m {module} ")


@pytest.mark.parametrize("name", ["predict.py", "service.py"])
def test_help_of_an_example_needs_no_torch(samples: Path, name: str, no_torch: Path) -> None:
    done = run(samples / "python" / name, "--help", folders=(no_torch,))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: {name} ")


def test_training_without_torch_names_the_extras(no_torch: Path, tmp_path: Path) -> None:
    done = run(*TRAIN, "--work", tmp_path / "work", folders=(no_torch,))
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
def test_a_movie_that_cannot_be_written_is_an_error_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*MAKE_MOVIE, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_predict_ends_without_a_message_when_its_output_is_closed(samples: Path) -> None:
    command = [sys.executable, samples / "python" / "predict.py"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        assert process.stderr.read() == ""
