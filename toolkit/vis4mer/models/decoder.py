"""The multi-scale S4 decoder: each block reasons over the whole sequence, then halves its length and width."""

import torch
from torch import Tensor, nn

from vis4mer.config import DecoderConfig, NodeSource
from vis4mer.errors import ConfigError
from vis4mer.models.s4 import S4, SSMConv, drop_channels, halve
from vis4mer_kernels.linear import Linear


class Block(nn.Module):
    """Pre-normalised S4 with a residual, average pooling by two, and a linear layer to half the width.

    Reference: ViS4mer paper, section 3.3 and figure 2.
    """

    def __init__(self, channels: int, d_state: int, length: int, dropout: float, nodes: NodeSource) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.s4 = S4(channels, d_state, length, dropout, nodes)
        self.dropout = nn.Dropout1d(dropout)
        self.reduce = Linear(channels, channels // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Maps x [B, L, D] to [B, floor(L / 2), D / 2]."""
        y = drop_channels(self.dropout, self.s4(self.norm(x)))
        # The S4 layer pools its own output, so the residual is pooled here to the same length.
        return nn.functional.gelu(self.reduce(halve(x) + y))


class S4Decoder(nn.Module):
    """The video-level head: a long sequence of tokens in, one vector of logits out.

    Args:
        config: Sizes; block i has ``d_model / 2**i`` features and at most ``l_max // 2**i`` tokens.

    Reference: Islam & Bertasius, ViS4mer (ECCV 2022), section 3.3.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        # The published code applies no input layer where the widths are equal, so such a checkpoint has no weights to
        # fill one with.
        project = config.d_input != config.d_model
        self.input = Linear(config.d_input, config.d_model) if project else nn.Identity()
        self.blocks = nn.ModuleList(
            # A shift rounds down as `halve` does, so l_max >> i is exactly the longest sequence that block i receives.
            Block(config.d_model >> i, config.d_state, config.l_max >> i, config.dropout, config.nodes)
            for i in range(config.n_layers)
        )
        self.output = Linear(config.d_model >> config.n_layers, config.d_output)

    def ssm_parameters(self) -> list[nn.Parameter]:
        """Returns the A, B and dt parameters of every block, for an optimiser group of their own."""
        layers = [module for module in self.modules() if isinstance(module, SSMConv)]
        return [parameter for layer in layers for parameter in layer.ssm_parameters()]

    def forward(self, features: Tensor) -> Tensor:
        """Classifies a sequence.

        Args:
            features: Tokens [B, L, d_input], with 2**n_layers <= L <= l_max.

        Returns:
            logits [B, d_output].

        Raises:
            ConfigError: The length or the width does not fit this decoder.
        """
        # Traced sizes may be symbols, and comparing them would add guards to the graph.
        if not torch.compiler.is_compiling():
            self._check(features)
        x = self.input(features)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.output(x.mean(dim=1))
        return logits

    def _check(self, features: Tensor) -> None:
        shape, config = tuple(features.shape), self.config
        if len(shape) != 3 or shape[-1] != config.d_input:
            raise ConfigError.of("features.shape", shape, f"must be [B, L, d_input={config.d_input}]")
        shortest = 2**config.n_layers
        if not shortest <= shape[1] <= config.l_max:
            raise ConfigError.of(
                "L",
                shape[1],
                f"must be from 2**n_layers={shortest} to l_max={config.l_max} tokens",
                "pad the sequence or classify it in windows",
            )
