"""The C++ library computes what Python computes."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import vis4mer
from tests.samples.cpp_build import CppBuild
from vis4mer.config import DecoderConfig, EncoderConfig, HeadConfig, ModelConfig, Preprocessing, WindowConfig
from vis4mer.models.vis4mer import Vis4mer
from vis4mer.video.reader import open_video
from vis4mer_export.exporter import export_model
from vis4mer_export.options import ExportOptions

pytestmark = pytest.mark.slow

WINDOW = 5  # frames
HEIGHT, WIDTH = 64, 48
FPS = 2.0
LABELS = ('a "quoted" one', "b é\n", "c")
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def model() -> Vis4mer:
    torch.manual_seed(0)
    sizes = {"d_input": 64, "l_max": 13 * WINDOW, "d_model": 16, "n_layers": 2, "d_state": 8}
    config = ModelConfig(
        heads={
            "scene": HeadConfig(DecoderConfig(d_output=3, **sizes), labels=LABELS),
            "likes": HeadConfig(DecoderConfig(d_output=1, **sizes), task="regression"),
            "year": HeadConfig(DecoderConfig(d_output=2, **sizes)),
        },
        encoder=EncoderConfig("test_vit", 13, 64),
        preprocessing=Preprocessing(fps=FPS, height=HEIGHT, width=WIDTH, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)),
        windows=WindowConfig(seconds=WINDOW / FPS, stride=1.0),
    )
    return Vis4mer(config).eval()


@pytest.fixture(scope="module")
def torchscript(model: Vis4mer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_model(model, tmp_path_factory.mktemp("bundles") / "torchscript", ExportOptions("torchscript")).path


@pytest.fixture(scope="module", params=["torchscript", "pt2", "onnx"])
def bundle(request: pytest.FixtureRequest, cpp: CppBuild, model: Vis4mer, torchscript: Path) -> Path:
    cpp.require(request.param)
    if request.param == "torchscript":
        return torchscript
    return export_model(model, torchscript.with_name(request.param), ExportOptions(request.param)).path


def write_frames(path: Path, n: int) -> NDArray[np.uint8]:
    frames = np.random.default_rng(n).integers(0, 256, (n, HEIGHT, WIDTH, 3), dtype=np.uint8)
    path.write_bytes(frames.tobytes())
    return frames


def classify(cpp: CppBuild, *arguments: object) -> dict[str, Any]:
    done = cpp.run("vis4mer_classify", *arguments)
    assert done.returncode == 0, done
    values: dict[str, Any] = json.loads(done.stdout)
    return values


def window_starts(n: int, stride: int) -> list[int]:
    """Returns the first frames of a movie's windows, by the definition in the documentation."""
    if n <= WINDOW:
        return [0]
    starts = list(range(0, n - WINDOW + 1, stride))
    return starts if starts[-1] == n - WINDOW else [*starts, n - WINDOW]


def outputs(model: Vis4mer, frames: NDArray[np.uint8], start: int, head: str) -> NDArray[np.float64]:
    """Returns a window's probabilities or value, in double precision from PyTorch's logits."""
    with torch.inference_mode():
        tokens = model.encode(torch.from_numpy(frames[start : start + WINDOW]))
        window = torch.cat([tokens, torch.zeros(WINDOW - len(tokens), *tokens.shape[1:])])
        logits = model(window.reshape(1, -1, tokens.shape[-1]), head)[0].double()
    is_regression = model.config.heads[head].task == "regression"
    return (logits if is_regression else logits.softmax(0)).numpy()


def values(result: dict[str, Any]) -> NDArray[np.float64]:
    return np.array(result.get("probabilities", result.get("value")), ndmin=1)


@pytest.mark.parametrize(
    ("n", "stride", "batch_size"),
    [
        (1, None, 32),
        (WINDOW - 1, None, 2),
        (WINDOW, None, 32),
        (WINDOW + 1, None, 1),
        (4 * WINDOW + 3, None, 7),
        (4 * WINDOW + 2, 0.5, 32),
        (4 * WINDOW + 3, WINDOW / FPS + 1.5, 3),  # skips frames between windows
    ],
)
def test_windows_and_movie_are_those_of_the_model_in_python(
    cpp: CppBuild, bundle: Path, model: Vis4mer, tmp_path: Path, n: int, stride: float | None, batch_size: int
) -> None:
    frames = write_frames(tmp_path / "frames.rgb", n)
    options = [] if stride is None else ["--stride", stride]
    actual = classify(cpp, bundle, tmp_path / "frames.rgb", "--batch-size", batch_size, *options)
    starts = window_starts(n, 2 if stride is None else round(stride * FPS))
    assert [(window["start"], window["end"]) for window in actual["windows"]] == [
        (start / FPS, min(start + WINDOW, n) / FPS) for start in starts
    ]
    assert (actual["frames"], actual["padded"], actual["device"]) == (n, n < WINDOW, "cpu")
    for head, config in model.config.heads.items():
        expected = [outputs(model, frames, start, head) for start in starts]
        for window, outputs_of_window in zip(actual["windows"], expected, strict=True):
            np.testing.assert_allclose(values(window["heads"][head]), outputs_of_window, rtol=0, atol=TOLERANCE)
        mean = np.mean(expected, axis=0)
        np.testing.assert_allclose(values(actual["heads"][head]), mean, rtol=0, atol=TOLERANCE)
        if config.task == "classification":
            assert actual["heads"][head]["label"] == config.labels[int(mean.argmax())]


def test_the_sample_movie_has_the_prediction_of_python(cpp: CppBuild, samples: Path, tmp_path: Path) -> None:
    cpp.require("onnx")
    classifier = vis4mer.load(samples / "bundle", device="cpu")
    expected = classifier(samples / "movie.mp4", stride=2.0)
    with open_video(samples / "movie.mp4", classifier.model.preprocessing) as reader:
        frames = np.concatenate([np.asarray(batch.frames) for batch in reader])
    (tmp_path / "frames.rgb").write_bytes(frames.tobytes())
    arguments = (samples / "bundle", tmp_path / "frames.rgb", "--stride", 2, "--duration", expected.duration)
    actual = classify(cpp, *arguments)
    probabilities = actual["heads"]["visitor"]["probabilities"]
    np.testing.assert_allclose(probabilities, list(expected.probabilities.values()), rtol=0, atol=TOLERANCE)
    assert actual["heads"]["visitor"]["label"] == expected.label
    assert [(w["start"], w["end"]) for w in actual["windows"]] == [(w.start, w.end) for w in expected.windows]
    for window, of_python in zip(actual["windows"], expected.windows, strict=True):
        of_cpp = window["heads"]["visitor"]["probabilities"]
        np.testing.assert_allclose(of_cpp, of_python.probabilities, rtol=0, atol=TOLERANCE)


def test_frames_may_come_from_a_pipe(cpp: CppBuild, torchscript: Path, tmp_path: Path) -> None:
    write_frames(tmp_path / "frames.rgb", WINDOW)
    command = [cpp.folder / "vis4mer_classify", torchscript, "-"]
    with (tmp_path / "frames.rgb").open() as frames:
        piped = subprocess.run(command, stdin=frames, capture_output=True, text=True)
    assert json.loads(piped.stdout) == classify(cpp, torchscript, tmp_path / "frames.rgb")


def test_a_duration_ends_the_last_window(cpp: CppBuild, torchscript: Path, tmp_path: Path) -> None:
    write_frames(tmp_path / "frames.rgb", WINDOW)
    end = {
        duration: classify(cpp, torchscript, tmp_path / "frames.rgb", "--duration", duration)["windows"][0]["end"]
        for duration in (2.25, 2.0, 9.0)
    }
    # A duration that ends before the last frame starts is wrong, and one beyond the frames changes nothing.
    assert end == {2.25: 2.25, 2.0: 2.5, 9.0: 2.5}


def test_graphs_run_by_themselves(cpp: CppBuild, bundle: Path, model: Vis4mer) -> None:
    frames, tokens = 2 * HEIGHT * WIDTH * 3, 2 * 13 * 64
    done = cpp.run("api", "run", bundle, "encoder", frames, tokens)
    with torch.inference_mode():
        expected = model.encode(torch.zeros(2, HEIGHT, WIDTH, 3, dtype=torch.uint8)).flatten()
    np.testing.assert_allclose(np.array(done.stdout.split(), float), expected, rtol=0, atol=1e-4)
    done = cpp.run("api", "run", bundle, "scene", 3 * WINDOW * 13 * 64, 3 * 3)
    with torch.inference_mode():
        expected = model(torch.zeros(3, WINDOW * 13, 64), "scene").flatten()
    np.testing.assert_allclose(np.array(done.stdout.split(), float), expected, rtol=0, atol=1e-4)


def test_threads_share_a_model(cpp: CppBuild, bundle: Path, tmp_path: Path) -> None:
    write_frames(tmp_path / "frames.rgb", 3 * WINDOW)
    assert cpp.run("api", "threads", bundle, tmp_path / "frames.rgb").stdout == "1\n"


def test_the_example_of_the_guide_runs(cpp: CppBuild, torchscript: Path, tmp_path: Path) -> None:
    write_frames(tmp_path / "frames.rgb", 2 * WINDOW)
    with (tmp_path / "frames.rgb").open() as frames:
        command = [cpp.folder / "example", torchscript]
        done = subprocess.run(command, stdin=frames, capture_output=True, text=True)
    assert done.returncode == 0, done
    assert "scene" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("encoder", HEIGHT * WIDTH * 3 + 1, 13 * 64), "ArgumentError: frames=9217 elements: must be one or more rows"),
        (
            ("encoder", 0, 0),
            "frames=0 elements: must be one or more rows of 9216 elements, [1, 64, 48, 3] each",
        ),
        (
            ("encoder", HEIGHT * WIDTH * 3, 1),
            "tokens=1 elements: must have room for exactly [1, 13, 64]",
        ),
        (("scene", 13 * 64, 3), "ArgumentError: features=832 elements: must be one or more rows of 4160 elements"),
        (("scene", 13 * 64 * 10, 3), "ArgumentError: logits=3 elements: must have room for exactly [2, 3]"),
        (("nobody", 1, 1), 'ArgumentError: head="nobody": must be one of likes, scene, year'),
    ],
)
def test_arrays_of_another_size_are_refused(
    cpp: CppBuild, torchscript: Path, arguments: tuple[object, ...], message: str
) -> None:
    assert message in cpp.refusal("api", "run", torchscript, *arguments)


def test_calls_out_of_order_are_refused(cpp: CppBuild, torchscript: Path) -> None:
    assert cpp.refusal("api", "load", torchscript, "cpu") == (
        "ArgumentError: frames=0: a prediction needs at least one frame"
    )
    assert "windows=0: a prediction needs at least one window; add frames" in cpp.refusal(
        "api", "load", torchscript, "cpu", "prediction"
    )
    done = cpp.run("api", "add_after_end", torchscript)
    assert (done.returncode, done.stdout) == (1, "0\n")  # a second finish() adds nothing
    assert "the movie has been finished; make a Classifier for each movie" in done.stderr


@pytest.mark.parametrize("size", [0, HEIGHT * WIDTH * 3 + 1])
def test_files_of_incomplete_frames_are_refused(cpp: CppBuild, torchscript: Path, tmp_path: Path, size: int) -> None:
    (tmp_path / "frames.rgb").write_bytes(bytes(size))
    assert cpp.refusal("vis4mer_classify", torchscript, tmp_path / "frames.rgb").startswith("error: frames=")
    assert "cannot be read" in cpp.refusal("vis4mer_classify", torchscript, tmp_path / "nothing.rgb")


@pytest.mark.parametrize(
    "arguments",
    [(), ("bundle",), ("bundle", "frames", "--stride"), ("b", "f", "--batch-size", "0"), ("b", "f", "-x", "1")],
)
def test_a_wrong_command_line_prints_the_usage(cpp: CppBuild, arguments: tuple[str, ...]) -> None:
    done = cpp.run("vis4mer_classify", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: vis4mer_classify BUNDLE FRAMES")


@pytest.mark.parametrize("stride", ["0", "-1", "nan", "inf"])
def test_strides_must_be_positive(cpp: CppBuild, torchscript: Path, tmp_path: Path, stride: str) -> None:
    write_frames(tmp_path / "frames.rgb", 1)
    arguments = (torchscript, tmp_path / "frames.rgb", "--stride", stride)
    assert "must be a positive number of seconds" in cpp.refusal("vis4mer_classify", *arguments)
