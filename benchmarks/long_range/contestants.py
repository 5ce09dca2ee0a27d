"""Who is compared: four ways from the tokens of a movie to its label, and ViS4mer without one of its parts.

All have about 40,000 parameters. Each takes features [B, L, FEATURES] and gives logits [B, d_output]; `ssm_parameters`
are those that train at a rate of their own.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from baselines.attention import SelfAttention
from cottage.tales import DURATION
from torch import Tensor, nn

from long_range.footage import FEATURES, TOKENS
from vis4mer.config import DecoderConfig
from vis4mer.models.decoder import Block, S4Decoder

EXCERPT = 10
"""Seconds that the contestant sees at once who is not shown the whole movie."""

_DROPOUT = 0.1


Build = Callable[[int], nn.Module]
"""From d_output to a model with random weights."""


class Contestant(NamedTuple):
    """A model and what it is shown.

    Attributes:
        build: makes it.
        rates: peak learning rates to try.
        frames: seconds that it sees at once; of the rest of a movie it is asked as well, and its answers averaged.
    """

    build: Build
    rates: tuple[float, ...] = (3e-3,)
    frames: int = DURATION


class PooledMLP(nn.Module):
    """A layer on every token, the mean over all, and two layers on it: it knows what there was, not when."""

    def __init__(self, d_output: int, width: int = 128) -> None:
        super().__init__()
        self.token = nn.Sequential(nn.Linear(FEATURES, width), nn.GELU())
        self.movie = nn.Sequential(
            nn.Linear(width, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, d_output)
        )

    def ssm_parameters(self) -> list[nn.Parameter]:
        """None."""
        return []

    def forward(self, features: Tensor) -> Tensor:
        """Classifies features [B, L, FEATURES]."""
        logits: Tensor = self.movie(self.token(features).mean(dim=1))
        return logits


class Transformer(nn.Module):
    """Pre-normalised self-attention over all tokens with sinusoidal positions, and the mean of what comes out.

    Reference: Vaswani et al., Attention Is All You Need (NeurIPS 2017), sections 3.2 to 3.5.
    """

    def __init__(self, d_output: int, width: int = 48, layers: int = 2) -> None:
        super().__init__()
        self.input = nn.Linear(FEATURES, width)
        self.layers = nn.ModuleList(_TransformerLayer(width) for _ in range(layers))
        self.output = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, d_output))
        self.register_buffer("positions", _positions(DURATION * TOKENS, width), persistent=False)

    def ssm_parameters(self) -> list[nn.Parameter]:
        """None."""
        return []

    def forward(self, features: Tensor) -> Tensor:
        """Classifies features [B, L, FEATURES]."""
        x = self.input(features) + self.positions[: features.shape[1]]
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
        x = x + self.attention(x)
        return x + self.feed_forward(x)


def _positions(length: int, width: int) -> Tensor:
    """Sines and cosines [length, width] of wavelengths from 2 pi to 20,000 pi tokens."""
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000) / width))
    angles = torch.arange(length)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


class UnpooledBlock(Block):
    """A block of ViS4mer without its pooling: [B, L, D] to [B, L, D / 2]."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps x as the pooled block does, but leaves every token."""
        y = self.s4.dropout(nn.functional.gelu(self.s4.conv(self.norm(x).transpose(1, 2))))
        y = self.dropout(self.s4.output(y.transpose(1, 2)).transpose(1, 2)).transpose(1, 2)
        return nn.functional.gelu(self.reduce(x + y))


class AblatedDecoder(S4Decoder):
    """ViS4mer with pooling between its blocks or not, and with halved channels or not.

    Args:
        config: of the whole decoder; without pooling every block is `l_max` long, without reduction `d_model` wide.
        pooling: whether each block halves the length.
        reduction: whether each block halves the channels.
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
                block.reduce = nn.Linear(width, width)
            self.blocks[index] = block
        self.output = nn.Linear(width, config.d_output)


def decoder_config(d_output: int, frames: int = DURATION, n_layers: int = 3, d_state: int = 64) -> DecoderConfig:
    """ViS4mer's sizes here."""
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


CONTESTANTS = {
    "ViS4mer": Contestant(_sized()),
    "Transformer": Contestant(Transformer, rates=(1e-3, 3e-3)),
    "mean-pooled MLP": Contestant(PooledMLP),
    "ViS4mer, 10 s excerpts": Contestant(lambda d_output: S4Decoder(decoder_config(d_output, EXCERPT)), frames=EXCERPT),
}

ABLATIONS = {
    "no pooling": Contestant(_ablated(pooling=False)),
    "no channel reduction": Contestant(_ablated(reduction=False)),
    "neither": Contestant(_ablated(pooling=False, reduction=False)),
    "1 block": Contestant(_sized(n_layers=1)),
    "2 blocks": Contestant(_sized(n_layers=2)),
    "4 blocks": Contestant(_sized(n_layers=4)),
    "d_state 16": Contestant(_sized(d_state=16)),
    "d_state 4": Contestant(_sized(d_state=4)),
}
"""ViS4mer, which has 3 blocks and d_state 64, with one thing changed."""
