import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vis4mer
from vis4mer.config import DecoderConfig, EncoderConfig, HeadConfig, ModelConfig, Preprocessing, WindowConfig
from vis4mer.errors import BundleError, CheckpointError, MissingDependencyError
from vis4mer.packages import install_command

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random model: a small Vision Transformer, a classification and a regression head."""
    from vis4mer.models.encoder import FrameEncoder
    from vis4mer.models.vis4mer import Vis4mer

    frames = Preprocessing(fps=1.0, height=32, width=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    encoder = FrameEncoder.build("test_vit", frames, weights="random", seed=0)
    tokens, features = encoder.config.tokens, encoder.config.features

    def head(d_output: int, **settings: Any) -> HeadConfig:
        return HeadConfig(DecoderConfig(features, 4 * tokens, d_output, d_model=16, n_layers=2), **settings)

    heads = {"scene": head(3, labels=("in", "out", "on")), "likes": head(1, task="regression")}
    config = ModelConfig(heads, encoder.config, frames, WindowConfig(seconds=4, stride=3))
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("checkpoint")
    Vis4mer(config, encoder).save_pretrained(path)
    return path


def test_a_checkpoint_classifies_a_movie_as_its_modules_would(checkpoint: Path, movie: Path) -> None:
    from vis4mer.models.checkpoint import load_checkpoint
    from vis4mer.video.reader import open_video

    model = load_checkpoint(checkpoint)
    with open_video(movie, model.config.preprocessing) as reader:
        frames = torch.from_numpy(np.concatenate([batch.frames for batch in reader]))
    with torch.inference_mode():
        tokens = model.encode(frames)
        windows = torch.stack([tokens[start : start + 4].flatten(0, 1) for start in (0, 3, 6, 8)])
        scene = model(windows, "scene").softmax(-1)
        likes = model(windows, "likes")[:, 0]

    prediction = vis4mer.load(checkpoint, device="cpu", precision="fp32")(movie, batch_size=5)
    got = np.array([window.probabilities for window in prediction.windows])
    np.testing.assert_allclose(got, scene.numpy(), atol=1e-5)
    np.testing.assert_allclose(list(prediction.probabilities.values()), scene.mean(0).numpy(), atol=1e-5)
    assert prediction.label == ("in", "out", "on")[int(scene.sum(0).argmax())]
    assert prediction.heads["likes"].value == pytest.approx(float(likes.mean()), abs=1e-5)
    assert (prediction.bundle, prediction.device) == (str(checkpoint), "cpu")


@pytest.mark.parametrize("graph", ["encoder", "scene"])
def test_a_batch_that_a_checkpoint_does_not_take_is_a_one_line_error(checkpoint: Path, graph: str) -> None:
    runners = vis4mer.load(checkpoint, device="cpu", precision="fp32").stages.runners
    with pytest.raises(BundleError, match=rf"^graph='{graph}': takes .*, not float32\[2, 5\]"):
        runners[graph](np.zeros((2, 5), np.float32))


def test_a_model_of_samples_of_the_whole_movie_is_not_served(tmp_path: Path) -> None:
    from vis4mer.models.vis4mer import Vis4mer

    head = HeadConfig(DecoderConfig(64, 68, 2, d_model=16, n_layers=2))
    encoder = EncoderConfig("test_vit", 17, 64)
    config = ModelConfig({"scene": head}, encoder, Preprocessing(height=64, width=64), WindowConfig(samples=4))
    Vis4mer(config).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"takes 4 samples of a whole movie.* evaluate it with 'vis4mer eval'"):
        vis4mer.load(tmp_path)


def test_bf16_rounds_the_encoder_only(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    in_fp32, in_bf16 = (vis4mer.load(checkpoint, device="cpu", precision=p).stages.runners for p in ("fp32", "bf16"))
    exact, rounded = (runners["encoder"](frames) for runners in (in_fp32, in_bf16))
    assert exact.dtype == rounded.dtype == np.float32
    error = np.linalg.norm(exact - rounded) / np.linalg.norm(exact)
    assert 1e-4 < error < 2e-2
    features = np.concatenate([exact, exact[:1]]).reshape(1, -1, exact.shape[-1])
    np.testing.assert_array_equal(in_fp32["scene"](features), in_bf16["scene"](features))


@pytest.mark.parametrize(("units", "expected"), [(None, "fp32"), ("amx_bf16", "bf16")])
def test_auto_reports_the_precision_and_its_reason(
    checkpoint: Path, movie: Path, monkeypatch: pytest.MonkeyPatch, units: str | None, expected: str
) -> None:
    monkeypatch.setattr("vis4mer.runtime.precision.bf16_units", lambda device: units)
    values = vis4mer.load(checkpoint, device="cpu")(movie).to_dict()
    assert values["precision"] == expected
    assert "faster in" in values["precision_reason"]


def test_without_pytorch_the_error_names_the_extra(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "vis4mer.models.checkpoint", None)
    with pytest.raises(MissingDependencyError, match=re.escape(install_command("torch"))):
        vis4mer.load(checkpoint, device="cpu")
