"""State dicts of the published ViS4mer code: what they imply, and their names in this project.

The published code's S4 layer is an early one: its roots of unity are powers of a rounded complex64 number and travel in
the checkpoint, its kernel of odd length lacks a tap. Both are kept (``nodes="stored"``), so that a trained checkpoint
gives the numbers it was trained with.
"""

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from vis4mer.config import DecoderConfig
from vis4mer.errors import CheckpointError

_SSM = "s4_layers.{}.kernel.krylov."


def is_original(state: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of the published code, with or without DataParallel's ``module.``."""
    return any(re.fullmatch(r"(module\.)?s4_layers\.\d+\.kernel\.krylov\.nodes", name) for name in state)


def strip_parallel(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Removes the ``module.`` that DataParallel puts before every name."""
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def infer_config(state: Mapping[str, Tensor]) -> DecoderConfig:
    """Reads the sizes off the tensors; l_max, which the published code never stores, off the root of unity.

    Args:
        state: the published code's names, without ``module.``.

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


def convert(state: Mapping[str, Tensor], config: DecoderConfig) -> dict[str, Tensor]:
    """Renames the published code's tensors to those of `vis4mer.models.decoder.S4Decoder`.

    Args:
        state: the published code's names, without ``module.``.
        config: as `infer_config` gives it.

    Raises:
        CheckpointError: a tensor is missing, or one is left that the published code does not have.
    """
    left = dict(state)

    def take(name: str, dims: int) -> Tensor:
        tensor = _get(state, name, dims)
        left.pop(name, None)
        return tensor

    linears = {"output": "decoder"} | ({"input": "encoder"} if config.d_input != config.d_model else {})
    if config.d_input == config.d_model:  # present in every checkpoint, applied in none of these
        take("encoder.weight", 2), take("encoder.bias", 1)
    result: dict[str, Tensor] = {}
    for i in range(config.n_layers):
        block, ssm = f"blocks.{i}.", _SSM.format(i)
        linears |= {f"{block}norm": f"norms.{i}", f"{block}reduce": f"linears.{i}"}
        B, C = take(f"{ssm}B", 4), take(f"{ssm}C", 4)
        for name, tensor in (("B", B), ("C", C)):
            if tensor.shape[1] != 2:
                raise CheckpointError(f"{ssm}{name}: shape {tuple(tensor.shape)} must be [H, 2, N/2, 2]")
        result |= {
            f"{block}s4.conv.B": B[:, 0],
            f"{block}s4.conv.P": B[:, 1],
            f"{block}s4.conv.C": C[:, 0],
            f"{block}s4.conv.Q": C[:, 1],
            f"{block}s4.conv.log_dt": take(f"{ssm}log_dt", 1),
            f"{block}s4.conv.w": take(f"{ssm}w", 2),
            f"{block}s4.conv.omega": take(f"{ssm}nodes", 2),
            f"{block}s4.conv.z": take(f"{ssm}z", 2),
            f"{block}s4.conv.D": take(f"s4_layers.{i}.D", 1),
            f"{block}s4.output.weight": take(f"s4_layers.{i}.output_linear.weight", 2),
            f"{block}s4.output.bias": take(f"s4_layers.{i}.output_linear.bias", 2)[:, 0],
        }
    for ours, theirs in linears.items():
        result[f"{ours}.weight"] = take(f"{theirs}.weight", 1 if theirs.startswith("norms") else 2)
        result[f"{ours}.bias"] = take(f"{theirs}.bias", 1)
    if left:
        raise CheckpointError(
            f"unexpected key {min(left)!r}: the published ViS4mer has none of that name; "
            "remove what is not of the model"
        )
    return result


def _get(state: Mapping[str, Tensor], name: str, dims: int) -> Tensor:
    tensor = state.get(name)
    if tensor is None:
        raise CheckpointError(f"missing key {name!r}: the file is not a whole ViS4mer state dict; save it again")
    if tensor.dim() != dims:
        raise CheckpointError(f"key {name!r}: shape {tuple(tensor.shape)} must have {dims} dimensions")
    return tensor.detach().to(torch.float32) if tensor.is_floating_point() else tensor
