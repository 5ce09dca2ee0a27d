"""The model card describes the configuration, with any labels."""

from pathlib import Path

import pytest

from vis4mer.config import DecoderConfig, EncoderConfig, HeadConfig, ModelConfig, Preprocessing, WindowConfig
from vis4mer.models.card import commands, facts
from vis4mer.models.vis4mer import Vis4mer

ENCODER = EncoderConfig("test_vit", 17, 64)
FRAMES = Preprocessing(fps=0.5, height=64, width=64, resize="crop")
WINDOWS = WindowConfig(4, 2)


def card(folder: Path, heads: dict[str, HeadConfig], encoder: EncoderConfig | None = ENCODER) -> str:
    Vis4mer(ModelConfig(heads, encoder, FRAMES, WINDOWS)).save_pretrained(folder)
    return (folder / "README.md").read_text(encoding="utf-8")


def decoder(d_output: int) -> DecoderConfig:
    return DecoderConfig(d_input=64, l_max=34, d_output=d_output, d_model=16, n_layers=2, d_state=4)


def test_it_describes_the_model_and_how_to_run_it(tmp_path: Path) -> None:
    heads = {"scene": HeadConfig(decoder(2), labels=("in", "out")), "score": HeadConfig(decoder(1), "regression")}
    lines = card(tmp_path, heads).splitlines()
    assert lines[0] == "---"
    assert "library_name: vis4mer" in lines
    assert [line for line in lines if line.startswith("- ") and ": " in line] == [
        "- Frames: 0.5 per second, scaled and cropped to 64 x 64 pixels (height x width) with area interpolation",
        "- Pixels: RGB in [0, 1], less the mean (0.0, 0.0, 0.0), divided by (1.0, 1.0, 1.0)",
        "- Frame encoder: timm's `test_vit`, 17 tokens of 64 features per frame",
        "- Windows: 4 s of video, every 2 s",
        '- Head `scene`: classification among 2: `"in"`, `"out"`',
        "- Head `score`: regression of one value",
    ]
    assert "vis4mer run movie.mp4 --bundle FOLDER" in lines
    assert "vis4mer export --checkpoint FOLDER --format onnx --output BUNDLE" in lines
    assert lines[-1] == "```"


def test_a_checkpoint_of_decoders_lists_no_command_for_movies(tmp_path: Path) -> None:
    text = card(tmp_path, {"scene": HeadConfig(decoder(2))}, encoder=None)
    assert "decoders only" in text
    assert "vis4mer run" not in text


def test_a_model_of_segments_lists_no_command_for_serving() -> None:
    config = ModelConfig(
        {"dish": HeadConfig(DecoderConfig(1024, 64 * 49, 10, 1024, 3))},
        EncoderConfig("swin3d_b", 49, 1024, frames=32),
        Preprocessing(segments=512),
        WindowConfig(samples=64),
    )
    frames, _, encoder, windows, _ = facts(config)
    assert frames.startswith("Frames: 512 segments of consecutive ones, stretched to 224 x 224 pixels")
    assert encoder == "Frame encoder: torchvision's `swin3d_b`, 49 tokens of 1024 features per 32 frames"
    assert windows == "Windows: one, of 64 samples spread over the whole movie"
    assert list(commands(config)) == ["vis4mer eval --help"]


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("{{ card_data }}{% if %}", '`"{{ card_data }}{% if %}"`'),
        ("a\n---\n# b", r'`"a\n---\n# b"`'),
        ("<script>`x``", '``` "<script>`x``" ```'),
        ("\u202eé", r'`"\u202eé"`'),
    ],
)
def test_labels_are_escaped(tmp_path: Path, label: str, shown: str) -> None:
    text = card(tmp_path, {"scene": HeadConfig(decoder(1), labels=(label,))})
    assert f"- Head `scene`: classification among 1: {shown}\n" in text


def test_many_labels_are_counted(tmp_path: Path) -> None:
    text = card(tmp_path, {"scene": HeadConfig(decoder(30))})
    assert 'among 30: `"0"`, ' in text
    assert '`"19"`, ...\n' in text
