"""The models compared: four that map a movie's tokens to its label, and ViS4mer with one part changed or removed.

The four have about 40,000 parameters each. A model maps features [B, L, FEATURES] to logits [B, d_output], and its
`ssm_parameters` train at a learning rate of their own.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.baselines.attention import SelfAttention
from benchmarks.recall.tokens import FEATURES, TOKENS
from samples.generator.questions import DURATION
from vis4mer.config import DecoderConfig
from vis4mer.models.decoder import Block, S4Decoder
from vis4mer_kernels.linear import Linear

EXCERPT = 10
"""Seconds seen at once by the entrant that does not see the whole movie."""

_DROPOUT = 0.1

Build = Callable[[int], nn.Module]
"""Returns a model with random weights for a value of d_output."""


class Entrant(NamedTuple):
    """A model and the way it is trained.

    Attributes:
        build: Function that builds the model.
        rates: Peak learning rates to try.
        frames: Frames, one per second, that the model sees at once. Where a movie has more, the model classifies
            overlapping windows, and their outputs are averaged.
    """

    build: Build
    rates: tuple[float, ...] = (3e-3,)
    frames: int = DURATION


class PooledMLP(nn.Module):
    """One layer on every token, the mean over time, and three layers on it: blind to the order of the tokens."""

    def __init__(self, d_output: int, width: int = 128) -> None:
        super().__init__()
        self.token = nn.Sequential(nn.Linear(FEATURES, width), nn.GELU())
        self.movie = nn.Sequential(
            nn.Linear(width, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, d_output)
        )

    def ssm_parameters(self) -> list[nn.Parameter]:
        """Returns no parameters."""
        return []

    def forward(self, features: Tensor) -> Tensor:
        """Classifies features [B, L, FEATURES]."""
        logits: Tensor = self.movie(self.token(features).mean(dim=1))
        return logits


class Transformer(nn.Module):
    """Pre-normalised self-attention over all tokens with sinusoidal positions, and the mean of the outputs.

    Reference: Vaswani et al., Attention Is All You Need (NeurIPS 2017), sections 3.2 to 3.5.
    """

    def __init__(self, d_output: int, width: int = 48, layers: int = 2) -> None:
        super().__init__()
        self.input = nn.Linear(FEATURES, width)
        self.layers = nn.ModuleList(_TransformerLayer(width) for _ in range(layers))
        self.output = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, d_output))
        self.register_buffer("positions", _positions(DURATION * TOKENS, width), persistent=False)

    def ssm_parameters(self) -> list[nn.Parameter]:
        """Returns no parameters."""
        return []

    def forward(self, features: Tensor) -> Tensor:
        """Classifies features [B, L, FEATURES]."""
        x = self.input(features) + self.get_buffer("positions")[: features.shape[1]]
        for layer in self.layers:
            x = layer(x)
        logits: Tensor = self.output(x).mean(dim=1)
        return logits


class _TransformerLayer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(width), SelfAttention(width, "fused"), nn.Dropout(_DROPOUT))
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 2 * width),
            nn.GELU(),
            nn.Linear(2 * width, width),
            nn.Dropout(_DROPOUT),
        )

    def forward(self, x: Tensor) -> Tensor:
        attended: Tensor = x + self.attention(x)
        mapped: Tensor = attended + self.feed_forward(attended)
        return mapped


def _positions(length: int, width: int) -> Tensor:
    """Returns sines and cosines [length, width] of wavelengths from 2 pi to 20,000 pi tokens."""
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000) / width))
    angles = torch.arange(length)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


class UnpooledBlock(Block):
    """A block of ViS4mer without its pooling: [B, L, D] to [B, L, D / 2]."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps x like the pooled block, but keeps every token."""
        y = self.s4.dropout(nn.functional.gelu(self.s4.conv(self.norm(x).transpose(1, 2))))
        y = self.dropout(self.s4.output(y.transpose(1, 2)).transpose(1, 2)).transpose(1, 2)
        reduced: Tensor = nn.functional.gelu(self.reduce(x + y))
        return reduced


class AblatedDecoder(S4Decoder):
    """ViS4mer with or without pooling, and with or without the reduction of channels.

    Args:
        config: Sizes of the whole decoder. Without pooling, every block is `l_max` long; without reduction, `d_model`
            wide.
        pooling: Whether each block halves the length.
        reduction: Whether each block halves the channels.
    """

    def __init__(self, config: DecoderConfig, *, pooling: bool, reduction: bool) -> None:
        super().__init__(config)
        width, length = config.d_model, config.l_max
        kind = Block if pooling else UnpooledBlock
        for index in range(config.n_layers):
            block = kind(width, config.d_state, length, config.dropout, config.nodes)
            if pooling:
                length //= 2
            if reduction:
                width //= 2
            else:
                block.reduce = Linear(width, width)
            self.blocks[index] = block
        self.output = Linear(width, config.d_output)


def decoder_config(d_output: int, frames: int = DURATION, n_layers: int = 3, d_state: int = 64) -> DecoderConfig:
    """Returns the sizes of ViS4mer in this benchmark."""
    return DecoderConfig(
        d_input=FEATURES,
        l_max=frames * TOKENS,
        d_output=d_output,
        d_model=64,
        n_layers=n_layers,
        d_state=d_state,
        dropout=_DROPOUT,
    )


def _ablated(*, pooling: bool = True, reduction: bool = True) -> Build:
    return lambda d_output: AblatedDecoder(decoder_config(d_output), pooling=pooling, reduction=reduction)


def _sized(*, n_layers: int = 3, d_state: int = 64) -> Build:
    return lambda d_output: S4Decoder(decoder_config(d_output, n_layers=n_layers, d_state=d_state))


MODELS = {
    "ViS4mer": Entrant(_sized()),
    "Transformer": Entrant(Transformer, rates=(1e-3, 3e-3)),
    "mean-pooled MLP": Entrant(PooledMLP),
    "ViS4mer, 10 s excerpts": Entrant(lambda d_output: S4Decoder(decoder_config(d_output, EXCERPT)), frames=EXCERPT),
}

ABLATIONS = {
    "no pooling": Entrant(_ablated(pooling=False)),
    "no channel reduction": Entrant(_ablated(reduction=False)),
    "neither": Entrant(_ablated(pooling=False, reduction=False)),
    "1 block": Entrant(_sized(n_layers=1)),
    "2 blocks": Entrant(_sized(n_layers=2)),
    "4 blocks": Entrant(_sized(n_layers=4)),
    "d_state 16": Entrant(_sized(d_state=16)),
    "d_state 4": Entrant(_sized(d_state=4)),
}
"""ViS4mer, which has 3 blocks and d_state 64, with one change each."""

ENTRANTS = {**MODELS, **ABLATIONS}
