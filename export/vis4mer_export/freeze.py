"""From a trained decoder to one for serving: every SSM convolution kernel becomes a constant."""

import copy
from typing import Literal, NamedTuple

from torch import nn

from vis4mer.errors import ExportError
from vis4mer.models.decoder import S4Decoder
from vis4mer.models.s4 import S4, SSMConv
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
    frozen = copy.deepcopy(decoder).eval().requires_grad_(False)
    blocks = []
    for i, layer in enumerate(module for module in frozen.modules() if isinstance(module, S4)):
        assert isinstance(layer.conv, SSMConv)
        blocks.append(lower(layer.conv, length >> i, target, lowering, precision))
        layer.conv = blocks[-1].module
    return Frozen(in_precision(frozen, precision), tuple(blocks))
