"""From a trained decoder to one for serving: every SSM convolution kernel becomes a constant."""

import copy

import torch
from torch import Tensor, nn

from vis4mer.errors import ExportError
from vis4mer.models.decoder import S4Decoder
from vis4mer.models.s4 import S4, SSMConv
from vis4mer_export.longconv.matmul_dft import MatmulDFTConv


def fixed_kernel(conv: SSMConv) -> Tensor:
    """The kernel [H, taps] of a layer's whole linear part, computed once; the skip D is added to its first tap."""
    with torch.no_grad():
        kernel = conv.kernel()
        kernel[:, 0] += conv.D
    return kernel


def freeze(decoder: S4Decoder, length: int) -> nn.Module:
    """A copy of `decoder` for inputs of one length, in evaluation mode, without state-space parameters.

    Args:
        decoder: trained; left as it is.
        length: L, in tokens; each block pools it by two.

    Returns:
        a module from features [B, L, d_input] to logits [B, d_output].

    Raises:
        ExportError: `length` is not one the decoder takes.
    """
    config = decoder.config
    low = 2**config.n_layers
    if not low <= length <= config.l_max:
        raise ExportError(f"length={length} tokens: must be from 2**n_layers={low} to l_max={config.l_max}")
    frozen = copy.deepcopy(decoder).eval().requires_grad_(False)
    layers = [module for module in frozen.modules() if isinstance(module, S4)]
    for i, layer in enumerate(layers):
        if isinstance(layer.conv, SSMConv):
            layer.conv = MatmulDFTConv(fixed_kernel(layer.conv), length >> i)
    return frozen
