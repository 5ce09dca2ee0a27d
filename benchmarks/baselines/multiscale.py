"""The multi-scale decoder around any mixer of tokens, in the shapes of `vis4mer.models.decoder.S4Decoder`.

Reference: Islam & Bertasius, ViS4mer (ECCV 2022), section 3.
"""

from collections.abc import Callable

from torch import Tensor, nn

from vis4mer.config import DecoderConfig


class MultiscaleDecoder(nn.Module):
    """Classifies features [B, L, d_input] as logits [B, d_output] by blocks that halve length and width.

    Args:
        config: Sizes of the decoder.
        build_block: Returns a block for tokens [B, length, width] from width and length.
    """

    def __init__(self, config: DecoderConfig, build_block: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        project = config.d_input != config.d_model
        self.input = nn.Linear(config.d_input, config.d_model) if project else nn.Identity()
        sizes = [(config.d_model >> i, config.l_max >> i) for i in range(config.n_layers)]
        self.blocks = nn.ModuleList(build_block(width, length) for width, length in sizes)
        self.output = nn.Linear(config.d_model >> config.n_layers, config.d_output)

    def forward(self, features: Tensor) -> Tensor:
        """Classifies features [B, L, d_input]."""
        x = self.input(features)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.output(x.mean(dim=1))
        return logits


class MultiscaleBlock(nn.Module):
    """Maps tokens [B, L, width] to [B, L / 2, width / 2]; subclasses define the mixer."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout1d(dropout)
        self.pool = nn.AvgPool1d(2)
        self.reduce = nn.Linear(width, width // 2)

    def mix(self, x: Tensor) -> Tensor:
        """Mixes normalised tokens [B, L, width] across time, to the same shape."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Mixes, adds the residual, pools and reduces."""
        y = self.dropout(self.mix(self.norm(x)).transpose(1, 2))
        x = self.pool(x.transpose(1, 2) + y).transpose(1, 2)
        return nn.functional.gelu(self.reduce(x))
