"""State dicts of the published ViS4mer code: the sizes they imply, and their names in this project.

The published code has an early S4 layer. Its roots of unity are powers of a rounded complex64 number and are stored in
the checkpoint, under the name ``nodes``; its kernel of odd length lacks a tap. Both quirks are kept
(``nodes="stored"``), so a trained checkpoint computes what it computed in training.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from vis4mer.config import DecoderConfig
from vis4mer.errors import CheckpointError

# Prefix of the state-space tensors of a layer.
_SSM = "s4_layers.{}.kernel.krylov."


def find_prefix(state: Mapping[str, Tensor]) -> str | None:
    """Returns the prefix of every name, such as DataParallel's ``module.``; None for another model's state dict."""
    landmark = "s4_layers.0.D"  # in every checkpoint of the published code
    return next((name.removesuffix(landmark) for name in state if name.endswith(landmark)), None)


def infer_config(state: Mapping[str, Tensor]) -> DecoderConfig:
    """Infers the sizes from the tensors' shapes, and l_max, which is not stored, from the first root of unity.

    Args:
        state: Tensors by the published code's names, without prefix.

    Raises:
        CheckpointError: A tensor that determines a size is missing or malformed.
    """
    n_layers = sum(1 for name in state if re.fullmatch(r"s4_layers\.\d+\.D", name))
    encoder = _get(state, "encoder.weight", 2)
    return DecoderConfig(
        d_input=encoder.shape[1],
        l_max=_infer_length(state, _SSM.format(0) + "nodes"),
        d_output=len(_get(state, "decoder.weight", 2)),
        d_model=len(_get(state, "s4_layers.0.D", 1)),
        n_layers=n_layers,
        # One eigenvalue of each conjugate pair is stored, so w is [N/2, 2].
        d_state=2 * len(_get(state, _SSM.format(0) + "w", 2)),
        nodes="stored",
    )


def _infer_length(state: Mapping[str, Tensor], key: str) -> int:
    """Returns the kernel's length L from its stored roots of unity [L//2 + 1, 2], powers of exp(-2 pi i / L)."""
    omega = _get(state, key, 2)
    if len(omega) < 2:
        raise CheckpointError.of("key", key, f"shape {tuple(omega.shape)} holds no root of unity")
    # The first power has the angle -2 pi / L. Complex64 keeps even a small imaginary part to seven digits, so rounding
    # recovers L. An imaginary part of zero belongs to the root -1, that of L = 2.
    real, imag = omega[1].double().tolist()
    length = round(2 * math.pi / abs(math.atan2(imag, real))) if imag else 2
    if len(omega) != length // 2 + 1:
        raise CheckpointError.of("key", key, f"{len(omega)} roots do not fit the l_max={length} that they imply")
    return length


class Converted(NamedTuple):
    """A state dict under this project's names.

    Attributes:
        state: Tensors by the names of `vis4mer.models.decoder.S4Decoder`.
        names: Name of each of them in the published code.
    """

    state: dict[str, Tensor]
    names: dict[str, str]


def convert(state: Mapping[str, Tensor], config: DecoderConfig) -> Converted:
    """Renames the published code's tensors.

    Args:
        state: Tensors by the published code's names, without prefix.
        config: Sizes, from `infer_config`.

    Raises:
        CheckpointError: A tensor is missing, or does not belong to the published code.
    """
    converted = Converted({}, {})
    # Every checkpoint holds `encoder`, but where the widths are equal the published code never applies it.
    unknown = set(state) - {"encoder.weight", "encoder.bias"}
    for name, targets, dims in _renames(config):
        unknown.discard(name)
        for target, part in zip(targets, _parts(state, name, len(targets), dims), strict=True):
            converted.state[target], converted.names[target] = part, name
    if unknown:
        raise CheckpointError.of("key", min(unknown), "is not a tensor of the published ViS4mer", "remove it")
    return converted


class _Rename(NamedTuple):
    """A tensor of the published code and its names here; several where it stacks tensors along its second axis."""

    name: str
    targets: tuple[str, ...]
    dims: int


def _renames(config: DecoderConfig) -> Iterator[_Rename]:
    for i in range(config.n_layers):
        ssm, conv = _SSM.format(i), f"blocks.{i}.s4.conv."
        # B is stacked with P and C with Q: the kernel's residues are the four products of one stack with the other.
        yield _Rename(f"{ssm}B", (f"{conv}B", f"{conv}P"), 4)
        yield _Rename(f"{ssm}C", (f"{conv}C", f"{conv}Q"), 4)
        yield _Rename(f"{ssm}log_dt", (f"{conv}log_dt",), 1)
        yield _Rename(f"{ssm}w", (f"{conv}w",), 2)
        yield _Rename(f"{ssm}nodes", (f"{conv}omega",), 2)
        yield _Rename(f"{ssm}z", (f"{conv}z",), 2)
        yield _Rename(f"s4_layers.{i}.D", (f"{conv}D",), 1)
        # A convolution of width one, whose bias is [H, 1].
        yield _Rename(f"s4_layers.{i}.output_linear.weight", (f"blocks.{i}.s4.output.weight",), 2)
        yield _Rename(f"s4_layers.{i}.output_linear.bias", (f"blocks.{i}.s4.output.bias",), 2)
        yield from _layer(f"norms.{i}", f"blocks.{i}.norm", 1)
        yield from _layer(f"linears.{i}", f"blocks.{i}.reduce", 2)
    yield from _layer("decoder", "output", 2)
    if config.d_input != config.d_model:
        yield from _layer("encoder", "input", 2)


def _layer(theirs: str, ours: str, weight_dims: int) -> Iterator[_Rename]:
    yield _Rename(f"{theirs}.weight", (f"{ours}.weight",), weight_dims)
    yield _Rename(f"{theirs}.bias", (f"{ours}.bias",), 1)


def _parts(state: Mapping[str, Tensor], name: str, count: int, dims: int) -> list[Tensor]:
    """Splits a tensor of the published code into the `count` tensors that it stacks."""
    tensor = _get(state, name, dims)
    if count == 1:
        return [tensor.flatten() if name.endswith("output_linear.bias") else tensor]
    if tensor.shape[1] != count:
        raise CheckpointError.of("key", name, f"shape {tuple(tensor.shape)} must be [H, {count}, N/2, 2]")
    return list(tensor.unbind(1))


def _get(state: Mapping[str, Tensor], name: str, dims: int) -> Tensor:
    tensor = state.get(name)
    if tensor is None:
        raise CheckpointError.of("key", name, "is missing", "save the whole state dict again")
    if tensor.dim() != dims:
        raise CheckpointError.of("key", name, f"shape {tuple(tensor.shape)} must have {dims} dimensions")
    # Models are built in float32, to which half-precision checkpoints convert exactly.
    return tensor.detach().to(torch.float32)
