"""The whole model: a frame encoder, and one or more S4 decoders over its tokens."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from huggingface_hub import ModelCard, PyTorchModelHubMixin
from safetensors.torch import save_file
from torch import Tensor, nn

from vis4mer.config import CONFIG_FILE, ModelConfig
from vis4mer.errors import ConfigError
from vis4mer.files import atomic_file
from vis4mer.models import card
from vis4mer.models.decoder import S4Decoder
from vis4mer.models.encoder import FrameEncoder
from vis4mer.models.weights import fill, read_state_dict

WEIGHTS_FILE = "model.safetensors"


class Vis4mer(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="vis4mer",
    tags=["video-classification", "state-space-model"],
    pipeline_tag="video-classification",
    model_card_template=card.TEMPLATE,
):
    """Frames in, logits of every head out; saved as a folder with `config.json` and `model.safetensors`.

    Args:
        config: Description of the model, also in the JSON form that `from_pretrained` reads. The weights are random.
        frame_encoder: Encoder to use instead of a random one; its configuration must equal ``config.encoder``.

    Raises:
        ConfigError: A value breaks its rule, or `frame_encoder` is not the configured one.

    Reference: Islam & Bertasius, Long Movie Clip Classification with State-Space Video Models (ECCV 2022).
    """

    def __init__(self, config: ModelConfig | Mapping[str, Any], frame_encoder: FrameEncoder | None = None) -> None:
        super().__init__()
        self.config = config if isinstance(config, ModelConfig) else ModelConfig.from_dict(config)
        if frame_encoder is None and self.config.encoder is not None:
            frame_encoder = FrameEncoder(self.config.encoder, self.config.preprocessing)
        encoder = None if frame_encoder is None else frame_encoder.config
        if encoder != self.config.encoder:
            raise ConfigError.of("frame_encoder", encoder, f"must be the configured {self.config.encoder}")
        self.encoder = frame_encoder
        self.heads = nn.ModuleDict({name: S4Decoder(head.decoder) for name, head in self.config.heads.items()})

    def encode(self, frames: Tensor) -> Tensor:
        """Encodes frames uint8 [N, H, W, 3], or segments [N, F, H, W, 3], to tokens float32 [N, P, D].

        Raises:
            ConfigError: The model holds decoders only.
        """
        if self.encoder is None:
            raise ConfigError.of("encoder", None, "this checkpoint holds decoders only and takes features, not frames")
        tokens: Tensor = self.encoder(frames)
        return tokens

    def forward(self, features: Tensor, head: str | None = None) -> Tensor:
        """Runs one head.

        Args:
            features: Tokens [B, L, D] of a window's frames, one frame after the other.
            head: Name of the head; optional where there is only one.

        Returns:
            logits [B, d_output].

        Raises:
            ConfigError: There is no such head, or there are several and `head` is None.
        """
        logits: Tensor = self.head(head)(features)
        return logits

    def head(self, name: str | None = None) -> S4Decoder:
        """Returns the head of the given name, which is optional where there is only one.

        Raises:
            ConfigError: There is no such head, or there are several and `name` is None.
        """
        if name is None and len(self.heads) == 1:
            (name,) = self.heads
        if name is None or name not in self.heads:
            raise ConfigError.of("head", name, f"must be one of {', '.join(self.heads)}")
        return cast(S4Decoder, self.heads[name])

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """Describes this model for the README.md that `save_pretrained` writes.

        Its ``model_card_kwargs`` may hold ``training``: lines of Markdown about how the model was trained.
        """
        facts, commands = card.facts(self.config), card.commands(self.config)
        return super().generate_model_card(*args, facts=facts, commands=commands, **kwargs)

    def _save_pretrained(self, save_directory: Path) -> None:
        """Performs the mixin's saving step, but atomically: a reader sees a whole file or none."""
        # safetensors does not store tensors that are not contiguous.
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        with atomic_file(save_directory / WEIGHTS_FILE) as file:
            save_file(state, file.name, metadata={"format": "pt"})
        # The configuration comes last, so a new folder that has one has its weights too.
        with atomic_file(save_directory / CONFIG_FILE) as file:
            file.write(json.dumps(self.config.to_dict(), indent=2).encode() + b"\n")

    @classmethod
    def _load_as_safetensor(  # type: ignore[override]
        cls, model: "Vis4mer", model_file: str, map_location: str, strict: bool
    ) -> "Vis4mer":
        """Performs the mixin's loading step with this project's checks; it is always strict."""
        fill(model, read_state_dict(Path(model_file)), Path(model_file))
        return model.to(map_location)
