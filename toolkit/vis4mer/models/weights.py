"""Weight files: read without running anything they hold, and put into a module only if everything fits."""

import textwrap
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vis4mer.errors import CheckpointError

_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Reads the tensors of a .safetensors file or of a file written by torch.save.

    A training checkpoint that nests them under ``state_dict``, as Lightning's do, is unwrapped.

    Raises:
        CheckpointError: the file is missing, damaged, compressed, a program, or holds no state dict.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: {'is a folder, not a weight file' if path.is_dir() else 'no such file'}")
    try:
        with path.open("rb") as file:
            magic = file.read(8)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    for signature, name in _COMPRESSED.items():
        if magic.startswith(signature):
            raise CheckpointError(f"{path}: compressed with {name}; decompress it first")
    if zipfile.is_zipfile(path):
        _check_archive(path)
    return _state_dict(path, _torch_load(path))


def fill(module: nn.Module, state: Mapping[str, Tensor], path: Path, names: Mapping[str, str] | None = None) -> None:
    """Copies `state` into `module`, all of it or nothing.

    Args:
        module: every parameter and persistent buffer of which must be in `state`.
        state: names and values.
        path: named in errors.
        names: what the file calls a key, for errors, where its names are others.

    Raises:
        CheckpointError: a key is missing or unexpected, a shape differs, or a value is NaN or infinite.
    """
    expected = module.state_dict()
    in_file = names or {}
    for name, target in expected.items():
        value = state.get(name)
        key = f"{path}: key {in_file.get(name, name)!r}"
        if value is None:
            raise CheckpointError(f"{key} is missing; the file is another model's or was not saved whole")
        if value.shape != target.shape:
            given, wanted = tuple(value.shape), tuple(target.shape)
            raise CheckpointError(f"{key} has shape {given}, the model wants {wanted}; check the configuration")
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise CheckpointError(f"{key} holds NaN or infinity; the training diverged, take an earlier checkpoint")
    if unexpected := sorted(set(state) - set(expected)):
        raise CheckpointError(
            f"{path}: key {unexpected[0]!r} is not of this model; the file is another model's, or holds more "
            "than its weights"
        )
    module.load_state_dict(dict(state))


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({first_line(error)}); copy it again") from None


def _check_archive(path: Path) -> None:
    """Refuses zip archives that torch.load would misread or that are programs."""
    try:
        entries = zipfile.ZipFile(path).infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise CheckpointError(f"{path}: damaged archive ({first_line(error)}); copy it again") from None
    names = [entry.filename.partition("/")[2] for entry in entries]
    if "constants.pkl" in names:
        raise CheckpointError(f"{path}: a TorchScript program, not weights; give the state dict it was made from")
    if "data.pkl" not in names:
        raise CheckpointError(
            f"{path}: a zip archive that torch.save did not write; unpack it and give the file inside"
        )
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise CheckpointError(f"{path}: its archive was compressed after torch.save; unpack it and zip it with -0")


def _torch_load(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises whatever its bytes lead to
        if "Weights only load failed" in str(error):
            detail = "holds Python objects other than tensors, which could run code; save its state_dict() alone"
        else:
            detail = f"not a whole file of torch.save ({first_line(error)}); copy it again"
        raise CheckpointError(f"{path}: {detail}") from None


def _state_dict(path: Path, content: Any) -> dict[str, Tensor]:
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not content:
        kind = "nothing" if isinstance(content, Mapping) else f"a {type(content).__name__}"
        raise CheckpointError(f"{path}: holds {kind}, not a state dict; save model.state_dict()")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckpointError(
                f"{path}: key {name!r} is a {type(value).__name__}, not a tensor; save model.state_dict()"
            )
        if value.layout != torch.strided or value.is_quantized:
            raise CheckpointError(f"{path}: key {name!r} is sparse or quantised; save dense floating-point weights")
    return dict(content)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, short enough to quote in another one-line message."""
    line = (str(error) or type(error).__name__).splitlines()[0]
    return textwrap.shorten(line, 200, placeholder=" ...")
