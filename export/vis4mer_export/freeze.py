"""From a trained decoder to one for serving: every SSM convolution kernel becomes a constant."""

import copy
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from vis4mer.models.decoder import Block, S4Decoder
from vis4mer.models.s4 import SSMConv, halve
from vis4mer.runtime.manifest import Precision
from vis4mer_export.length import require_length
from vis4mer_export.longconv import Lowering
from vis4mer_export.longconv.lower import Lowered, lower
from vis4mer_export.precision import in_precision


class Frozen(NamedTuple):
    """A decoder without state-space parameters.

    Attributes:
        module: Maps features [B, L, d_input] to logits [B, d_output]; in evaluation mode.
        blocks: How each block's convolution was lowered.
    """

    module: nn.Module
    blocks: tuple[Lowered, ...]


class FrozenBlock(nn.Module):
    """A block in which two linear maps are one: that of the S4 layer, and the block's own after it.

    In evaluation mode only a residual sum and an average lie between the S4 layer's ``output`` (weight O, bias o) and
    the block's ``reduce`` (weight R, bias r), and both commute with linear maps. With g the layer's pooled activation
    and x the block's pooled input::

        R (x + O g + o) + r  =  R x + (R O) g + (R o + r)

    The product R O has half the rows of O, since the block halves its features. A decoder thus needs 40 % of the
    matrix products of the published formulation. The products are formed in double precision, once.

    Args:
        block: The trained block; it is not modified.
        conv: Fixed convolution that replaces its S4 layer's, [B, H, L] to [B, H, L].
    """

    def __init__(self, block: Block, conv: nn.Module) -> None:
        super().__init__()
        self.norm = copy.deepcopy(block.norm)
        self.conv = conv
        self.reduce = copy.deepcopy(block.reduce)
        output, weight = block.s4.output, block.reduce.weight.double()
        # Both biases, R o + r, go into `reduce`, so `mix` has none.
        self.mix = nn.Linear(output.in_features, block.reduce.out_features, bias=False)
        with torch.no_grad():
            self.mix.weight.copy_(weight @ output.weight.double())
            self.reduce.bias.copy_(block.reduce.bias.double() + weight @ output.bias.double())

    def forward(self, x: Tensor) -> Tensor:
        """Maps x [B, L, D] to [B, floor(L / 2), D / 2]."""
        y = nn.functional.gelu(self.conv(self.norm(x).transpose(1, 2))).transpose(1, 2)
        return nn.functional.gelu(self.reduce(halve(x)) + self.mix(halve(y)))


def freeze(decoder: S4Decoder, length: int, candidates: Sequence[Lowering], precision: Precision = "fp32") -> Frozen:
    """Copies a decoder for inputs of one length.

    Args:
        decoder: The trained decoder; it is not modified.
        length: L, in tokens; each block halves it.
        candidates: Lowerings to try for each block, in order of preference.
        precision: Precision of the matrix products; inputs and outputs of the module stay fp32.

    Raises:
        ExportError: The decoder does not take `length`, or no candidate suits a block.
    """
    require_length(decoder.config, length)
    frozen = copy.deepcopy(decoder)
    lowered = []
    for i, block in enumerate(cast(list[Block], list(frozen.blocks))):
        # Block i receives a sequence that has been halved i times, an odd last token dropped each time.
        lowered.append(lower(cast(SSMConv, block.s4.conv), length >> i, candidates, precision))
        frozen.blocks[i] = FrozenBlock(block, lowered[-1].module)
    # Neither dropout nor gradients may enter a trace.
    frozen.eval().requires_grad_(False)
    return Frozen(in_precision(frozen, precision), tuple(lowered))
