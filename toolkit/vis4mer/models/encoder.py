"""The frozen encoder: a Vision Transformer of timm for frames, or a Video Swin for segments; every token is kept."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Self, cast

import timm
import torch
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn

from vis4mer.config import EncoderConfig, Preprocessing
from vis4mer.errors import CheckpointError, ConfigError
from vis4mer.models import video_swin
from vis4mer.models.video_swin import VideoSwin
from vis4mer.models.weights import fill, first_line, read_state_dict
from vis4mer_kernels.linear import with_fast_linears

_LOG = logging.getLogger(__name__)


class FrameEncoder(nn.Module):
    """Raw frames in, tokens out; scaling and normalisation happen inside, so that they travel with an export.

    Args:
        config: the model, the frames it takes at once, and the tokens and features it must give.
        preprocessing: frame size and normalisation.

    Raises:
        ConfigError: the name is unknown, is no Vision Transformer, or gives other tokens than `config` says.

    Reference: ViS4mer paper, section 3.1: all tokens, class token included, without pooling.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: EncoderConfig, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.vit = _create_vit(config.name, preprocessing)
        with_fast_linears(self.vit)
        self.config = config
        actual = _token_shape(config.name, preprocessing, config.frames)
        if actual != (config.tokens, config.features):
            size = f"{preprocessing.height} x {preprocessing.width}"
            raise ConfigError(
                f"encoder tokens x features={config.tokens} x {config.features}: {config.name} gives "
                f"{actual[0]} x {actual[1]} for frames of {size} pixels; correct the configuration"
            )
        self._preprocessing = preprocessing
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(getattr(preprocessing, name)) * 255, persistent=False)

    @classmethod
    def build(
        cls, name: str, preprocessing: Preprocessing, weights: Path | str | Literal["hub", "random"], seed: int = 0
    ) -> "FrameEncoder":
        """Creates an encoder by timm name and fills it.

        Args:
            name: timm's model name, or one of `vis4mer.models.video_swin.NAMES`.
            preprocessing: frame size and normalisation.
            weights: a local checkpoint file of timm's, torchvision's or the published Video Swin's (.safetensors, .pt,
                .pth, .bin), ``"hub"`` to download the ones timm or torchvision names, or ``"random"`` for none.
            seed: of the random weights.

        Raises:
            ConfigError: as the constructor.
            CheckpointError: the weights cannot be had, or are another model's.
        """
        frames = video_swin.SEGMENT_FRAMES if name in video_swin.NAMES else 1
        tokens, features = _token_shape(name, preprocessing, frames)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoder = cls(EncoderConfig(name, tokens, features, frames), preprocessing)
        if weights == "hub":
            encoder.vit.load_state_dict(_hub_weights(name, preprocessing))
        elif weights != "random":
            _load_file(encoder.vit, Path(weights))
        return encoder

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves and casts as any module, but keeps the normalisation in float32: pixels have 8 bits, as bf16 has."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name in ("mean", "std"):
            exact = torch.tensor(getattr(self._preprocessing, name), dtype=torch.float32) * 255
            setattr(self, name, exact.to(getattr(self, name).device))
        return self

    def forward(self, frames: Tensor) -> Tensor:
        """Encodes frames or segments.

        Args:
            frames: [N, H, W, 3], uint8 RGB, already resized; [N, F, H, W, 3] for an encoder of segments.

        Returns:
            tokens [N, P, D], float32 whatever the encoder's own precision.
        """
        dtype = next(self.vit.parameters()).dtype
        images = ((frames.to(torch.float32) - self.mean) / self.std).movedim(-1, -3)
        tokens: Tensor = self.vit.forward_features(images.to(dtype))
        return tokens.to(torch.float32)


def _create_vit(name: str, preprocessing: Preprocessing, pretrained: bool = False) -> VisionTransformer | VideoSwin:
    if name in video_swin.NAMES:
        return video_swin.create(name, pretrained=pretrained)
    size = (preprocessing.height, preprocessing.width)
    try:
        # num_classes=0: the classifier of the pre-training task is not used, and need not be stored.
        vit = timm.create_model(name, pretrained=pretrained, num_classes=0, img_size=size)
    except (RuntimeError, ValueError, TypeError, AssertionError, KeyError) as error:
        raise ConfigError(
            f"encoder={name!r} at {size[0]} x {size[1]} pixels: timm cannot create it ({first_line(error)}); "
            f"timm.list_models('vit*') names those it knows, and {', '.join(video_swin.NAMES)} take segments"
        ) from None
    return cast(VisionTransformer, vit)  # or another of timm's families with the same methods


def _token_shape(name: str, preprocessing: Preprocessing, frames: int) -> tuple[int, int]:
    """(P, D), found by running a frame or segment of no memory through a model of no weights."""
    with torch.device("meta"), torch.inference_mode():
        vit = _create_vit(name, preprocessing).eval()
        if isinstance(vit, VideoSwin) != (frames > 1):
            takes = "several frames" if isinstance(vit, VideoSwin) else "1 frame"
            raise ConfigError(f"frames={frames}: the encoder {name} takes {takes} at once; correct the configuration")
        lead = (1, frames) if isinstance(vit, VideoSwin) else (1,)
        tokens = vit.forward_features(torch.empty(*lead, 3, preprocessing.height, preprocessing.width))
    if tokens.dim() != 3:
        raise ConfigError(f"encoder={name!r}: gives shape {tuple(tokens.shape)}, not tokens [N, P, D]; choose a ViT")
    return int(tokens.shape[1]), int(tokens.shape[2])


def _hub_weights(name: str, preprocessing: Preprocessing) -> dict[str, Tensor]:
    source = "torchvision" if name in video_swin.NAMES else "the Hugging Face hub"
    _LOG.info("downloading the weights of %s from %s", name, source)
    try:
        return _create_vit(name, preprocessing, pretrained=True).state_dict()
    except OSError as error:
        raise CheckpointError(
            f"encoder weights of {name!r}: {source} did not give them ({first_line(error)}); give a local file instead"
        ) from None


def _load_file(vit: VisionTransformer | VideoSwin, path: Path) -> None:
    state = read_state_dict(path)
    if isinstance(vit, VideoSwin):
        converted, names = video_swin.convert(state)
        fill(vit, converted, path, names)
        return
    state = {key: value for key, value in state.items() if not key.startswith(("head.", "fc_norm."))}
    # timm's own conversion: other libraries' names, position embeddings resampled to this frame size.
    fill(vit, checkpoint_filter_fn(state, vit), path)
