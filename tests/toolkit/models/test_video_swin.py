from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.models import get_model_weights
from torchvision.models.video import SwinTransformer3d

from vis4mer.config import EncoderConfig, Preprocessing
from vis4mer.errors import CheckpointError, ConfigError
from vis4mer.models.encoder import FrameEncoder
from vis4mer.models.video_swin import VideoSwin, convert, create
from vis4mer.models.weights import fill

SMALL = Preprocessing(height=64, width=64, segments=4)
SIZES = {"patch_size": [2, 4, 4], "embed_dim": 8, "depths": [2, 1], "num_heads": [2, 4], "window_size": [2, 3, 3]}


def network(seed: int) -> SwinTransformer3d:
    torch.manual_seed(seed)
    network = SwinTransformer3d(**SIZES).eval()
    for name, parameter in network.named_parameters():
        if "table" in name or "bias" in name:  # initially zero, or too small for a difference to show
            torch.nn.init.normal_(parameter)
    return network


def published(network: SwinTransformer3d) -> dict[str, Tensor]:
    """The network's tensors under the names of the published code, stage by stage."""
    state = {f"backbone.patch_embed.{k}": v for k, v in network.patch_embed.state_dict().items()}
    stages = list(network.features)
    for i, blocks in enumerate(stages[::2]):
        for j, block in enumerate(blocks):
            renamed = {"mlp.0": "mlp.fc1", "mlp.3": "mlp.fc2"}
            for key, tensor in block.state_dict().items():
                module, _, leaf = key.rpartition(".")
                state[f"backbone.layers.{i}.blocks.{j}.{renamed.get(module, module)}.{leaf}"] = tensor
    for i, merging in enumerate(stages[1::2]):
        state |= {f"backbone.layers.{i}.downsample.{k}": v for k, v in merging.state_dict().items()}
    state |= {f"backbone.norm.{k}": v for k, v in network.norm.state_dict().items()}
    return state | {"cls_head.fc_cls.weight": torch.zeros(600, 16), "cls_head.fc_cls.bias": torch.zeros(600)}


def test_tokens_are_the_networks_last_features_averaged_over_time() -> None:
    source = network(0)
    images = torch.randn(2, 6, 3, 29, 40)
    with torch.inference_mode():
        tokens = VideoSwin(source).forward_features(images)
        source.head = torch.nn.Identity()
        pooled = source(images.transpose(1, 2))
    assert tokens.shape == (2, 4 * 5, 16)
    torch.testing.assert_close(tokens.mean(1), pooled)


def test_a_published_checkpoint_computes_the_same_tokens() -> None:
    source, other = network(0), VideoSwin(network(1)).eval()
    images = torch.randn(1, 8, 3, 32, 32)
    with torch.inference_mode():
        expected, before = VideoSwin(source).forward_features(images), other.forward_features(images)
        assert not torch.allclose(before, expected)
        fill(other, *reversed_arguments(published(source)))
        assert torch.equal(other.forward_features(images), expected)


def reversed_arguments(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], Path, dict[str, str]]:
    converted, names = convert(state)
    return converted, Path("swin.pth"), names


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("backbone.patch_embed.proj.weight", (128, 3, 2, 4, 4)),
        ("backbone.layers.0.blocks.1.attn.qkv.weight", (384, 128)),
        ("backbone.layers.2.blocks.17.attn.relative_position_bias_table", (15 * 13 * 13, 16)),
        ("backbone.layers.2.blocks.17.attn.relative_position_index", (392, 392)),
        ("backbone.layers.3.blocks.0.mlp.fc1.bias", (4096,)),
        ("backbone.layers.3.blocks.1.mlp.fc2.weight", (1024, 4096)),
        ("backbone.layers.1.downsample.reduction.weight", (512, 1024)),
        ("backbone.layers.2.downsample.norm.weight", (2048,)),
        ("layers.0.downsample.norm.weight", (512,)),
        ("backbone.norm.weight", (1024,)),
        ("backbone.norm3.bias", (1024,)),
    ],
)
def test_names_and_shapes_of_the_published_base_model(key: str, shape: tuple[int, ...]) -> None:
    with torch.device("meta"):
        state = create("swin3d_b").state_dict()
    _, names = convert({key: torch.empty(0)})
    (ours,) = names
    assert state[ours].shape == shape


def test_a_file_is_loaded_or_refused_with_its_own_names(tmp_path: Path) -> None:
    torch.manual_seed(1)
    state = published_tiny = {
        name.replace("features.0.", "layers.0.blocks."): tensor
        for name, tensor in create("swin3d_t").state_dict().items()
    }
    torch.save(
        {"meta": {"epoch": 30}, "state_dict": {f"backbone.{k}": v for k, v in state.items()}}, tmp_path / "a.pth"
    )
    encoder = FrameEncoder.build("swin3d_t", SMALL, tmp_path / "a.pth")
    assert torch.equal(encoder.state_dict()["vit.norm.weight"], published_tiny["norm.weight"])
    qkv = "layers.0.blocks.0.attn.qkv.weight"
    assert torch.equal(encoder.state_dict()["vit.features.0.0.attn.qkv.weight"], state[qkv])

    torch.save({name: tensor for name, tensor in state.items() if name != qkv}, tmp_path / "b.pth")
    with pytest.raises(CheckpointError, match=r"features\.0\.0\.attn\.qkv\.weight' is missing"):
        FrameEncoder.build("swin3d_t", SMALL, tmp_path / "b.pth")
    torch.save(state | {qkv: torch.zeros(3, 3)}, tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match=r"layers\.0\.blocks\.0\.attn\.qkv\.weight' has shape \(3, 3\)"):
        FrameEncoder.build("swin3d_t", SMALL, tmp_path / "c.pth")
    torch.save(state | {"backbone.extra": torch.zeros(1)}, tmp_path / "d.pth")
    with pytest.raises(CheckpointError, match="'extra' does not belong to this model"):
        FrameEncoder.build("swin3d_t", SMALL, tmp_path / "d.pth")


def test_segments_of_normalised_frames() -> None:
    preprocessing = Preprocessing(height=64, width=64, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), segments=4)
    encoder = FrameEncoder.build("swin3d_t", preprocessing, "random").eval()
    assert encoder.config == EncoderConfig("swin3d_t", tokens=4, features=768, frames=32)
    frames = torch.randint(0, 256, (1, 32, 64, 64, 3), dtype=torch.uint8)
    images = (frames.double() / 255 - torch.tensor(preprocessing.mean).double()) / torch.tensor(
        preprocessing.std
    ).double()
    with torch.inference_mode():
        expected = encoder.vit.forward_features(images.float().permute(0, 1, 4, 2, 3))
        torch.testing.assert_close(encoder(frames), expected, rtol=1e-4, atol=1e-5)


def test_the_base_model_returns_49_tokens_of_1024_features() -> None:
    with torch.device("meta"):
        encoder = FrameEncoder(EncoderConfig("swin3d_b", 49, 1024, frames=32), Preprocessing(segments=512))
    assert encoder.config.tokens * 64 == 3136


@pytest.mark.parametrize(("name", "frames"), [("swin3d_t", 1), ("test_vit", 32)])
def test_an_encoder_takes_frames_or_segments(name: str, frames: int) -> None:
    with pytest.raises(ConfigError, match=f"frames={frames}: the encoder {name}"):
        FrameEncoder(EncoderConfig(name, 4, 768, frames), SMALL)


def test_downloaded_weights_are_converted(monkeypatch: pytest.MonkeyPatch) -> None:
    state = create("swin3d_t").state_dict() | {"head.weight": torch.zeros(400, 768), "head.bias": torch.zeros(400)}
    monkeypatch.setattr("vis4mer.models.hub._reason", lambda request: None)
    monkeypatch.setattr(type(get_model_weights("swin3d_t").DEFAULT), "get_state_dict", lambda *_, **__: state)
    encoder = FrameEncoder.build("swin3d_t", SMALL, "hub", seed=3)
    assert torch.equal(encoder.state_dict()["vit.patch_embed.proj.weight"], state["patch_embed.proj.weight"])
