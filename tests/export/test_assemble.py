import dataclasses
from pathlib import Path

import pytest
import torch

from vis4mer.config import Preprocessing
from vis4mer.errors import ExportError
from vis4mer.models.checkpoint import load_checkpoint
from vis4mer.models.vis4mer import Vis4mer
from vis4mer_export.assemble import assemble

from .conftest import save, small_config


def test_heads_trained_apart_share_one_encoder(tmp_path: Path) -> None:
    scene, likes = save(tmp_path / "scene", ("scene",)), save(tmp_path / "likes", ("likes",))
    model = assemble(scene, {"popularity": likes})
    assert list(model.config.heads) == list(model.heads) == ["scene", "popularity"]
    x = torch.randn(1, 85, 64)
    with torch.inference_mode():
        assert torch.equal(model(x, "popularity"), load_checkpoint(likes)(x))
        assert torch.equal(model(x, "scene"), load_checkpoint(scene)(x))


def test_taken_names_and_crowded_checkpoints(tmp_path: Path, checkpoint: Path) -> None:
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
