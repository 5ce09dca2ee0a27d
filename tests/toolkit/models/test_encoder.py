from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from vis4mer.config import EncoderConfig, Preprocessing
from vis4mer.errors import CheckpointError, ConfigError
from vis4mer.models.encoder import FrameEncoder

SMALL = Preprocessing(height=64, width=64, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


def test_all_tokens_of_normalised_frames() -> None:
    encoder = FrameEncoder.build("test_vit", SMALL, "random").eval()
    assert encoder.config == EncoderConfig("test_vit", tokens=17, features=64)
    frames = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    images = (frames.double() / 255 - torch.tensor(SMALL.mean).double()) / torch.tensor(SMALL.std).double()
    expected = encoder.vit.forward_features(images.float().permute(0, 3, 1, 2))
    assert expected.shape == (2, 17, 64)
    torch.testing.assert_close(encoder(frames), expected, rtol=1e-4, atol=1e-5)


def test_random_weights_come_from_the_seed() -> None:
    def first(seed: int) -> torch.Tensor:
        return next(FrameEncoder.build("test_vit", SMALL, "random", seed).parameters()).detach()

    before = torch.random.get_rng_state()
    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))
    assert torch.equal(before, torch.random.get_rng_state())


def test_bfloat16_returns_float32_tokens() -> None:
    encoder = FrameEncoder.build("test_vit", SMALL, "random").eval()
    frames = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    expected = encoder(frames)
    half = encoder.bfloat16()(frames)
    assert half.dtype == torch.float32
    assert (half - expected).norm() / expected.norm() < 2e-2
    assert encoder.mean.dtype == encoder.std.dtype == torch.float32
    torch.testing.assert_close(encoder.mean, torch.tensor(SMALL.mean) * 255)


def test_local_weights_are_resampled_to_the_frame_size(tmp_path: Path) -> None:
    torch.manual_seed(3)
    published = timm.create_model("test_vit", img_size=160, num_classes=10)
    save_file(published.state_dict(), tmp_path / "vit.safetensors")
    torch.save(published.state_dict(), tmp_path / "vit.pt")
    same = Preprocessing(height=160, width=160)
    encoder = FrameEncoder.build("test_vit", same, tmp_path / "vit.safetensors")
    torch.testing.assert_close(encoder.vit.pos_embed, published.pos_embed)
    small = FrameEncoder.build("test_vit", SMALL, tmp_path / "vit.pt")
    assert small.vit.pos_embed.shape == (1, 17, 64)
    assert torch.equal(small.vit.blocks[0].attn.qkv.weight, published.blocks[0].attn.qkv.weight)


def test_another_models_weights_are_refused(tmp_path: Path) -> None:
    other = timm.create_model("test_vit2", img_size=64, num_classes=0)
    save_file(other.state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"weights='.*other\.safetensors': key '.*'"):
        FrameEncoder.build("test_vit", SMALL, tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    ("name", "message"),
    [("no_such_vit", "timm cannot create it"), ("resnet18", "timm cannot create it"), ("test_vit", None)],
)
def test_other_names_and_sizes_are_refused(name: str, message: str | None) -> None:
    if message is None:
        with pytest.raises(ConfigError, match=r"tokens, features\)=\(18, 64\): test_vit returns \(17, 64\)"):
            FrameEncoder(EncoderConfig(name, 18, 64), SMALL)
    else:
        with pytest.raises(ConfigError, match=message):
            FrameEncoder.build(name, SMALL, "random")


def test_an_image_size_that_patches_do_not_divide_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=r"encoder='test_vit': does not take frames of 65 x 65 pixels \("):
        FrameEncoder.build("test_vit", Preprocessing(height=65, width=65), "random")
