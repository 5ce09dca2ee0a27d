"""The frozen encoder, with all its tokens: one of timm's Vision Transformers for frames, a Video Swin for segments."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, Self, cast

import timm
import torch
from einops import rearrange
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn

from vis4mer.config import EncoderConfig, Preprocessing
from vis4mer.errors import ConfigError
from vis4mer.models import video_swin
from vis4mer.models.hub import from_hugging_face, from_torchvision
from vis4mer.models.video_swin import VideoSwin
from vis4mer.models.weights import fill, read_state_dict
from vis4mer.text import first_line
from vis4mer_kernels.linear import with_fast_linears


class FrameEncoder(nn.Module):
    """Raw frames in, tokens out. Scaling and normalisation are part of the module, and so of its exported graph.

    Args:
        config: Name of the model, frames that it takes at once, and tokens and features that it must return.
        preprocessing: Frame size and normalisation.

    Raises:
        ConfigError: The name is unknown or no Vision Transformer, or the model's tokens are not the configured ones.

    Reference: ViS4mer paper, section 3.1: all tokens, class token included, without pooling.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: EncoderConfig, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.vit = _create_vit(config.name, preprocessing)
        with_fast_linears(self.vit)
        self.config = config
        # The configured sizes determine the decoder and the exported graphs. A mismatch found later would be an error
        # about the shapes of some matrix product.
        actual = _token_shape(config.name, preprocessing, config.frames)
        if actual != (config.tokens, config.features):
            raise ConfigError.of(
                "(tokens, features)",
                (config.tokens, config.features),
                f"{config.name} returns {actual} for frames of {_size(preprocessing)}",
                "correct the configuration",
            )
        self._preprocessing = preprocessing
        # Pixel values go up to 255, so the statistics are scaled once instead of every frame. They follow from the
        # configuration, so checkpoints do not store them.
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(getattr(preprocessing, name)) * 255, persistent=False)

    @staticmethod
    def configure(name: str, preprocessing: Preprocessing) -> EncoderConfig:
        """Returns the configuration of an encoder by name, without its weights.

        Args:
            name: Model name in timm, or one of `vis4mer.models.video_swin.NAMES`.
            preprocessing: Frame size.

        Raises:
            ConfigError: The name is unknown or no Vision Transformer.
        """
        frames = video_swin.SEGMENT_FRAMES if name in video_swin.NAMES else 1
        tokens, features = _token_shape(name, preprocessing, frames)
        return EncoderConfig(name, tokens, features, frames)

    @classmethod
    def build(
        cls, name: str, preprocessing: Preprocessing, weights: Path | str | Literal["hub", "random"], seed: int = 0
    ) -> "FrameEncoder":
        """Creates an encoder by name and loads its weights.

        Args:
            name: Model name in timm, or one of `vis4mer.models.video_swin.NAMES`.
            preprocessing: Frame size and normalisation.
            weights: Local checkpoint file of timm, torchvision or the published Video Swin (.safetensors, .pt, .pth,
                .bin), ``"hub"`` for those that timm or torchvision downloads, or ``"random"``.
            seed: Seed of the random weights.

        Raises:
            ConfigError: The name is unknown or no Vision Transformer.
            CheckpointError: The weights cannot be read or downloaded, or belong to another model.
        """
        config = cls.configure(name, preprocessing)
        # The caller's random state must not change. Modules are created on the CPU, so no GPU's generator is saved.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoder = cls(config, preprocessing)
        if weights == "hub":
            encoder.vit.load_state_dict(_hub_weights(name, preprocessing))
        elif weights != "random":
            _load_file(encoder.vit, Path(weights))
        return encoder

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves and casts like any module, but keeps mean and std in float32: bf16 is no finer than a pixel value."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name in ("mean", "std"):
            # Computed again rather than cast back: a cast to bf16 has already lost digits.
            exact = torch.tensor(getattr(self._preprocessing, name), dtype=torch.float32) * 255
            setattr(self, name, exact.to(getattr(self, name).device))
        return self

    def forward(self, frames: Tensor) -> Tensor:
        """Encodes frames or segments.

        Args:
            frames: Resized RGB frames uint8 [N, H, W, 3], values 0 to 255; [N, F, H, W, 3] for an encoder of segments.

        Returns:
            tokens [N, P, D], float32 whatever the encoder's own precision.
        """
        normalised = (frames.to(torch.float32) - self.mean) / self.std
        images = rearrange(normalised, "... h w c -> ... c h w")
        dtype = next(self.vit.parameters()).dtype
        tokens: Tensor = self.vit.forward_features(images.to(dtype))
        return tokens.to(torch.float32)


def _create_vit(name: str, preprocessing: Preprocessing, pretrained: bool = False) -> VisionTransformer | VideoSwin:
    if name in video_swin.NAMES:
        return video_swin.create(name, pretrained=pretrained)
    size = (preprocessing.height, preprocessing.width)
    try:
        # num_classes=0 omits the classifier of the pre-training task, which is not used.
        vit = timm.create_model(name, pretrained=pretrained, num_classes=0, img_size=size)
    except (RuntimeError, ValueError, TypeError, AssertionError, KeyError) as error:
        # timm has no exception type of its own: an unknown name, an architecture without img_size and a size that does
        # not fit raise different built-in ones.
        raise ConfigError.of(
            "encoder",
            name,
            f"timm cannot create it for frames of {_size(preprocessing)} ({first_line(error)})",
            f"choose one of timm.list_models('vit*'), or {', '.join(video_swin.NAMES)} for segments",
        ) from None
    return cast(VisionTransformer, vit)  # or another family of timm with the same methods


def _size(preprocessing: Preprocessing) -> str:
    return f"{preprocessing.height} x {preprocessing.width} pixels"


def _token_shape(name: str, preprocessing: Preprocessing, frames: int) -> tuple[int, int]:
    """Returns (P, D), tokens per frame or segment and features per token."""
    # On the meta device tensors have shapes and no data: a forward pass takes neither memory nor time.
    with torch.device("meta"), torch.inference_mode():
        vit = _create_vit(name, preprocessing).eval()
        if isinstance(vit, VideoSwin) != (frames > 1):
            takes = "several frames" if isinstance(vit, VideoSwin) else "1 frame"
            raise ConfigError.of(
                "frames", frames, f"the encoder {name} takes {takes} at once", "correct the configuration"
            )
        lead = (1, frames) if isinstance(vit, VideoSwin) else (1,)
        try:
            tokens = vit.forward_features(torch.empty(*lead, 3, preprocessing.height, preprocessing.width))
        except (AssertionError, RuntimeError, ValueError) as error:  # most often a size that patches do not divide
            rule = f"does not take frames of {_size(preprocessing)} ({first_line(error)})"
            raise ConfigError.of("encoder", name, rule, "choose another image size or encoder") from None
    # timm's convolutional and hierarchical families return maps with two spatial axes.
    if tokens.dim() != 3:
        raise ConfigError.of("encoder", name, f"returns {tuple(tokens.shape)}, not tokens [N, P, D]", "choose a ViT")
    return int(tokens.shape[1]), int(tokens.shape[2])


def _hub_weights(name: str, preprocessing: Preprocessing) -> dict[str, Tensor]:
    def load() -> dict[str, Tensor]:
        return _create_vit(name, preprocessing, pretrained=True).state_dict()

    if name in video_swin.NAMES:
        return from_torchvision(name, video_swin.weights_url(name), load)
    return from_hugging_face(name, load)


def _load_file(vit: VisionTransformer | VideoSwin, path: Path) -> None:
    state = read_state_dict(path)
    if isinstance(vit, VideoSwin):
        converted, names = video_swin.convert(state)
        fill(vit, converted, path, names)
        return
    # The encoder has no classifier, and `fill` rejects tensors that have no counterpart.
    state = {key: value for key, value in state.items() if not key.startswith(("head.", "fc_norm."))}
    # timm's own conversion renames other libraries' tensors and resamples position embeddings to this frame size.
    fill(vit, checkpoint_filter_fn(state, vit), path)
