"""State dicts of the published ViS4mer code: what they imply, and their names in this project.

The published code's S4 layer is an early one: its roots of unity are powers of a rounded complex64 number and travel in
the checkpoint, its kernel of odd length lacks a tap. Both are kept (``nodes="stored"``), so that a trained checkpoint
gives the numbers it was trained with.
"""

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from vis4mer.config import DecoderConfig
from vis4mer.errors import CheckpointError

_SSM = "s4_layers.{}.kernel.krylov."


def find_prefix(state: Mapping[str, Tensor]) -> str | None:
    """What stands before every name, such as DataParallel's ``module.``; None where the names are not these."""
    return next((name.removesuffix("s4_layers.0.D") for name in state if name.endswith("s4_layers.0.D")), None)


def infer_config(state: Mapping[str, Tensor]) -> DecoderConfig:
    """Reads the sizes off the tensors; l_max, which the published code never stores, off the root of unity.

    Args:
        state: the published code's names, without prefix.

    Raises:
        CheckpointError: a tensor that the sizes are read from is missing or malformed.
    """
    n_layers = sum(1 for name in state if re.fullmatch(r"s4_layers\.\d+\.D", name))
    nodes = _get(state, _SSM.format(0) + "nodes", 2)
    if len(nodes) < 2:
        raise CheckpointError(f"{_SSM.format(0)}nodes: shape {tuple(nodes.shape)} holds no root of unity")
    real, imag = nodes[1].double().tolist()
    l_max = round(2 * math.pi / abs(math.atan2(imag, real))) if imag else 2
    d_model = len(_get(state, "s4_layers.0.D", 1))
    if len(nodes) != l_max // 2 + 1:
        raise CheckpointError(f"{_SSM.format(0)}nodes: {len(nodes)} roots do not fit the l_max={l_max} they imply")
    encoder = _get(state, "encoder.weight", 2)
    return DecoderConfig(
        d_input=encoder.shape[1],
        l_max=l_max,
        d_output=len(_get(state, "decoder.weight", 2)),
        d_model=d_model,
        n_layers=n_layers,
        d_state=2 * len(_get(state, _SSM.format(0) + "w", 2)),
        nodes="stored",
    )


class Converted(NamedTuple):
    """A state dict under this project's names.

    Attributes:
        state: tensors by the names of `vis4mer.models.decoder.S4Decoder`.
        names: what the published code calls each of them.
    """

    state: dict[str, Tensor]
    names: dict[str, str]


def convert(state: Mapping[str, Tensor], config: DecoderConfig) -> Converted:
    """Renames the published code's tensors.

    Args:
        state: the published code's names, without prefix.
        config: as `infer_config` gives it.

    Raises:
        CheckpointError: a tensor is missing, or one is left that the published code does not have.
    """
    converted = Converted({}, {})
    left = set(state)

    def take(name: str, *targets: str, dims: int) -> None:
        """Moves one tensor; where it holds several, as B holds B and P, they lie along its second axis."""
        tensor = _get(state, name, dims)
        left.discard(name)
        parts = [tensor] if len(targets) == 1 else list(tensor.unbind(1))
        if len(parts) != len(targets):
            raise CheckpointError(f"key {name!r}: shape {tuple(tensor.shape)} must be [H, 2, N/2, 2]")
        for target, part in zip(targets, parts, strict=True):
            converted.state[target], converted.names[target] = part, name

    for i in range(config.n_layers):
        block, layer, ssm = f"blocks.{i}.", f"s4_layers.{i}.", _SSM.format(i)
        conv = f"{block}s4.conv."
        take(f"{ssm}B", f"{conv}B", f"{conv}P", dims=4)
        take(f"{ssm}C", f"{conv}C", f"{conv}Q", dims=4)
        take(f"{ssm}log_dt", f"{conv}log_dt", dims=1)
        take(f"{ssm}w", f"{conv}w", dims=2)
        take(f"{ssm}nodes", f"{conv}omega", dims=2)
        take(f"{ssm}z", f"{conv}z", dims=2)
        take(f"{layer}D", f"{conv}D", dims=1)
        take(f"{layer}output_linear.weight", f"{block}s4.output.weight", dims=2)
        take(f"{layer}output_linear.bias", f"{block}s4.output.bias", dims=2)
        bias = f"{block}s4.output.bias"
        converted.state[bias] = converted.state[bias].flatten()  # stored as [H, 1]
        for ours, theirs, dims in (("norm", "norms", 1), ("reduce", "linears", 2)):
            take(f"{theirs}.{i}.weight", f"{block}{ours}.weight", dims=dims)
            take(f"{theirs}.{i}.bias", f"{block}{ours}.bias", dims=1)
    take("decoder.weight", "output.weight", dims=2)
    take("decoder.bias", "output.bias", dims=1)
    if config.d_input != config.d_model:
        take("encoder.weight", "input.weight", dims=2)
        take("encoder.bias", "input.bias", dims=1)
    # Every checkpoint holds `encoder`; where the widths are equal the published code never applies it.
    if foreign := left - {"encoder.weight", "encoder.bias"}:
        raise CheckpointError(f"key {min(foreign)!r} is not of the published ViS4mer; remove what is not of the model")
    return converted


def _get(state: Mapping[str, Tensor], name: str, dims: int) -> Tensor:
    tensor = state.get(name)
    if tensor is None:
        raise CheckpointError(f"key {name!r} is missing: the file is not a whole ViS4mer state dict; save it again")
    if tensor.dim() != dims:
        raise CheckpointError(f"key {name!r}: shape {tuple(tensor.shape)} must have {dims} dimensions")
    return tensor.detach().to(torch.float32)
