"""From a trained decoder to one for serving: every SSM convolution kernel becomes a constant."""

import copy
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from vis4mer.errors import ExportError
from vis4mer.models.decoder import Block, S4Decoder
from vis4mer.models.s4 import SSMConv, halve
from vis4mer.runtime.bundle import Format, Precision
from vis4mer_export.longconv.lower import Lowered, Lowering, lower
from vis4mer_export.precision import in_precision


class Frozen(NamedTuple):
    """A decoder without state-space parameters.

    Attributes:
        module: from features [B, L, d_input] to logits [B, d_output], in evaluation mode.
        blocks: how each block's convolution was lowered.
    """

    module: nn.Module
    blocks: tuple[Lowered, ...]


class FrozenBlock(nn.Module):
    """A block whose S4 layer's linear map is one with the block's own.

    Between the S4 layer's `output` and the block's `reduce` lie, in evaluation mode, only a sum and an average:
    ``reduce(x + output(g)) = reduce(x) + (R O) g + R o``. The product R O has half the rows of O, so one decoder needs
    40 % of the matrix products of the published formulation.

    Args:
        block: trained.
        conv: the fixed convolution, [B, H, L] to [B, H, L].
    """

    def __init__(self, block: Block, conv: nn.Module) -> None:
        super().__init__()
        self.norm = copy.deepcopy(block.norm)
        self.conv = conv
        self.reduce = copy.deepcopy(block.reduce)
        output, weight = block.s4.output, block.reduce.weight.double()
        self.mix = nn.Linear(output.in_features, block.reduce.out_features, bias=False)
        with torch.no_grad():
            self.mix.weight.copy_(weight @ output.weight.double())
            self.reduce.bias.copy_(block.reduce.bias.double() + weight @ output.bias.double())

    def forward(self, x: Tensor) -> Tensor:
        """Maps x [B, L, D] to [B, floor(L / 2), D / 2]."""
        y = nn.functional.gelu(self.conv(self.norm(x).transpose(1, 2))).transpose(1, 2)
        return nn.functional.gelu(self.reduce(halve(x)) + self.mix(halve(y)))


def freeze(
    decoder: S4Decoder,
    length: int,
    target: Format,
    lowering: Lowering | Literal["auto"] = "auto",
    precision: Precision = "fp32",
) -> Frozen:
    """Copies `decoder` for inputs of one length.

    Args:
        decoder: trained; left as it is.
        length: L, in tokens; each block pools it by two.
        target: of the export.
        lowering: of every block.
        precision: of the matrix products; what enters and leaves the module stays fp32.

    Raises:
        ExportError: `length` is not one the decoder takes, or a block cannot be lowered.
    """
    config = decoder.config
    low = 2**config.n_layers
    if not low <= length <= config.l_max:
        raise ExportError(f"length={length} tokens: must be from 2**n_layers={low} to l_max={config.l_max}")
    frozen = copy.deepcopy(decoder)
    lowered = []
    for i, block in enumerate(cast(list[Block], list(frozen.blocks))):
        lowered.append(lower(cast(SSMConv, block.s4.conv), length >> i, target, lowering, precision))
        frozen.blocks[i] = FrozenBlock(block, lowered[-1].module)
    frozen.eval().requires_grad_(False)
    return Frozen(in_precision(frozen, precision), tuple(lowered))
