"""The frame encoder: a Vision Transformer of timm whose every output token is kept."""

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
from vis4mer.models.weights import fill, first_line, read_state_dict

_LOG = logging.getLogger(__name__)


class FrameEncoder(nn.Module):
    """Raw frames in, tokens out; scaling and normalisation happen inside, so that they travel with an export.

    Args:
        config: the timm model, and the tokens and features it must give.
        preprocessing: frame size and normalisation.

    Raises:
        ConfigError: the name is unknown to timm, is no Vision Transformer, or gives other tokens than `config` says.

    Reference: ViS4mer paper, section 3.1: all tokens, class token included, without pooling.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: EncoderConfig, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.vit = _create_vit(config.name, preprocessing)
        self.config = config
        actual = _token_shape(config.name, preprocessing)
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
            name: timm's model name.
            preprocessing: frame size and normalisation.
            weights: a local checkpoint file of timm's (.safetensors, .pt, .pth, .bin), ``"hub"`` to download the ones
                timm names, or ``"random"`` for none.
            seed: of the random weights.

        Raises:
            ConfigError: as the constructor.
            CheckpointError: the weights cannot be had, or are another model's.
        """
        tokens, features = _token_shape(name, preprocessing)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoder = cls(EncoderConfig(name, tokens, features), preprocessing)
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
        """Encodes frames.

        Args:
            frames: [N, H, W, 3], uint8 RGB, already resized.

        Returns:
            tokens [N, P, D], float32 whatever the encoder's own precision.
        """
        dtype = next(self.vit.parameters()).dtype
        images = ((frames.to(torch.float32) - self.mean) / self.std).permute(0, 3, 1, 2)
        tokens: Tensor = self.vit.forward_features(images.to(dtype))
        return tokens.to(torch.float32)


def _create_vit(name: str, preprocessing: Preprocessing, pretrained: bool = False) -> VisionTransformer:
    size = (preprocessing.height, preprocessing.width)
    try:
        # num_classes=0: the classifier of the pre-training task is not used, and need not be stored.
        vit = timm.create_model(name, pretrained=pretrained, num_classes=0, img_size=size)
    except (RuntimeError, ValueError, TypeError, AssertionError, KeyError) as error:
        raise ConfigError(
            f"encoder={name!r} at {size[0]} x {size[1]} pixels: timm cannot create it ({first_line(error)}); "
            "timm.list_models('vit*') names those it knows"
        ) from None
    return cast(VisionTransformer, vit)  # or another of timm's families with the same methods


def _token_shape(name: str, preprocessing: Preprocessing) -> tuple[int, int]:
    """(P, D), found by running a frame of no memory through a model of no weights."""
    with torch.device("meta"), torch.inference_mode():
        vit = _create_vit(name, preprocessing).eval()
        tokens = vit.forward_features(torch.empty(1, 3, preprocessing.height, preprocessing.width))
    if tokens.dim() != 3:
        raise ConfigError(f"encoder={name!r}: gives shape {tuple(tokens.shape)}, not tokens [N, P, D]; choose a ViT")
    return int(tokens.shape[1]), int(tokens.shape[2])


def _hub_weights(name: str, preprocessing: Preprocessing) -> dict[str, Tensor]:
    _LOG.info("downloading the weights of %s from the Hugging Face hub", name)
    try:
        return _create_vit(name, preprocessing, pretrained=True).state_dict()
    except OSError as error:
        raise CheckpointError(
            f"encoder weights of {name!r}: the hub did not give them ({first_line(error)}); give a local file instead"
        ) from None


def _load_file(vit: VisionTransformer, path: Path) -> None:
    state = {key: value for key, value in read_state_dict(path).items() if not key.startswith(("head.", "fc_norm."))}
    # timm's own conversion: other libraries' names, position embeddings resampled to this frame size.
    fill(vit, checkpoint_filter_fn(state, vit), path)
