import dataclasses
from pathlib import Path

import pytest
import torch

from vis4mer.config import DecoderConfig, EncoderConfig, HeadConfig, ModelConfig, Preprocessing
from vis4mer.errors import ConfigError, ExportError
from vis4mer.models.checkpoint import load_checkpoint
from vis4mer.models.vis4mer import Vis4mer
from vis4mer_export.assemble import EncoderSource, assemble

from .conftest import save, small_config


def test_heads_trained_apart_share_one_encoder(tmp_path: Path) -> None:
    scene, likes = save(tmp_path / "scene", ("scene",)), save(tmp_path / "likes", ("likes",))
    model = assemble(scene, {"popularity": likes})
    assert list(model.config.heads) == list(model.heads) == ["scene", "popularity"]
    x = torch.randn(1, 85, 64)
    with torch.inference_mode():
        assert torch.equal(model(x, "popularity"), load_checkpoint(likes)(x))
        assert torch.equal(model(x, "scene"), load_checkpoint(scene)(x))


def test_taken_names_and_checkpoints_of_several_heads(tmp_path: Path, checkpoint: Path) -> None:
    scene = save(tmp_path / "scene", ("scene",))
    with pytest.raises(ExportError, match=r"head=.scene.: .* already has that name"):
        assemble(checkpoint, {"scene": scene})
    with pytest.raises(ExportError, match=r"holds several heads \(scene, likes\)"):
        assemble(scene, {"other": checkpoint})


def test_heads_of_other_encoders_and_frames_are_refused(tmp_path: Path) -> None:
    scene, other = save(tmp_path / "scene", ("scene",)), save(tmp_path / "other", ("likes",), encoder_seed=1)
    with pytest.raises(ExportError, match="encoder with other weights"):
        assemble(scene, {"likes": other})
    config = small_config()
    changed = dataclasses.replace(
        config,
        preprocessing=Preprocessing(height=64, width=64, resize="crop"),
        heads={"likes": config.heads["likes"]},
    )
    Vis4mer(changed).save_pretrained(tmp_path / "cropped")
    with pytest.raises(ExportError, match="trained with another preprocessing"):
        assemble(scene, {"likes": tmp_path / "cropped"})


@pytest.fixture
def decoders_only(tmp_path: Path) -> Path:
    """A head for 4 s of test_vit's 197 tokens of 64 features, without the encoder."""
    decoder = DecoderConfig(d_input=64, l_max=788, d_output=3, d_model=16, n_layers=2, d_state=8)
    torch.manual_seed(0)
    Vis4mer(ModelConfig({"decoder": HeadConfig(decoder)}, encoder=None)).save_pretrained(tmp_path / "decoders")
    return tmp_path / "decoders"


def test_decoders_are_put_on_an_encoder(decoders_only: Path) -> None:
    model = assemble(decoders_only, {}, EncoderSource("test_vit", "random"), ["forest", "office", "street"])
    assert model.config.encoder == EncoderConfig("test_vit", 197, 64)
    assert model.config.windows.seconds == 4
    assert model.config.heads["decoder"].labels == ("forest", "office", "street")
    assert not model.training
    x = torch.randn(1, 788, 64)
    with torch.inference_mode():
        assert torch.equal(model(x), load_checkpoint(decoders_only)(x))
        assert model.encode(torch.zeros(2, 224, 224, 3, dtype=torch.uint8)).shape == (2, 197, 64)


def test_encoders_and_labels_that_do_not_fit(tmp_path: Path, checkpoint: Path, decoders_only: Path) -> None:
    vit = EncoderSource("test_vit", "random")
    with pytest.raises(ExportError, match=r"encoder='test_vit': the checkpoint has its own, test_vit; leave it out"):
        assemble(checkpoint, {}, vit)
    with pytest.raises(ExportError, match=r"its 196 tokens per frame do not fill the head's l_max=788 evenly"):
        assemble(decoders_only, {}, EncoderSource("vit_base_patch16_gap_224", "random"))
    with pytest.raises(ConfigError, match=r"decoder.d_input=64: must equal the encoder's features=192"):
        assemble(decoders_only, {}, EncoderSource("vit_tiny_patch16_224", "random"))
    with pytest.raises(ConfigError, match="must be d_output=3 names"):
        assemble(decoders_only, {}, None, ["one", "two"])
    with pytest.raises(ExportError, match="several heads"):
        assemble(checkpoint, {}, None, ["one", "two"])
