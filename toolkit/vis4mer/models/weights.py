"""Weight files: read without executing anything they hold, and copied into a module only if everything fits."""

import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vis4mer.errors import CheckpointError
from vis4mer.text import first_line

# Compressed files by their first bytes.
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Reads the tensors of a .safetensors file or of a file written by torch.save.

    A training checkpoint that nests them under ``state_dict``, as Lightning's do, is unwrapped.

    Raises:
        CheckpointError: The file is missing, damaged, compressed or a program, or holds no state dict.
    """
    if not path.is_file():
        raise _error(path, "is a folder, not a weight file" if path.is_dir() else "no such file")
    try:
        with path.open("rb") as file:
            magic = file.read(8)
    except OSError as error:
        raise _error(path, f"cannot be read ({error.strerror})", "check its permissions") from None
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    # A compressed file would otherwise fail as a malformed pickle, without a hint at the remedy.
    for signature, program in _COMPRESSED.items():
        if magic.startswith(signature):
            raise _error(path, f"compressed with {program}", "decompress it first")
    if zipfile.is_zipfile(path):
        _check_archive(path)
    return _state_dict(path, _torch_load(path))


def fill(module: nn.Module, state: Mapping[str, Tensor], path: Path, names: Mapping[str, str] | None = None) -> None:
    """Copies `state` into `module`, all of it or nothing.

    Args:
        module: Module whose parameters and persistent buffers must all be in `state`.
        state: Tensors by the module's names.
        path: File that they come from, for error messages.
        names: Names in the file by the module's names, for error messages; None where they are equal.

    Raises:
        CheckpointError: A key is missing or unexpected, a shape differs, or a value is NaN or infinite.
    """
    in_file = names or {}
    # Everything is checked before anything is copied: load_state_dict raises only after it has copied the tensors that
    # fit, and would leave a module that is half old and half new.
    expected = module.state_dict()
    for name, target in expected.items():
        if fault := _fault(state.get(name), target):
            problem, remedy = fault
            raise _error(path, f"key {in_file.get(name, name)!r} {problem}", remedy)
    if unexpected := sorted(set(state) - set(expected)):
        raise _error(
            path, f"key {unexpected[0]!r} does not belong to this model", "pass a file with this model's weights only"
        )
    module.load_state_dict(dict(state))


def _fault(value: Tensor | None, target: Tensor) -> tuple[str, str] | None:
    """Returns the reason why `value` cannot replace `target`, and the remedy; None where it can."""
    if value is None:
        return "is missing", "pass a complete file of this model's weights"
    if value.shape != target.shape:
        found, expected = tuple(value.shape), tuple(target.shape)
        return f"has shape {found} where the model has {expected}", "check the configuration"
    if value.is_floating_point() and not torch.isfinite(value).all():
        return "holds NaN or infinity", "take a checkpoint from before training diverged"
    return None


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise _error(path, f"not a complete safetensors file ({first_line(error)})", "copy it again") from None


def _check_archive(path: Path) -> None:
    """Rejects zip archives that torch.load would misread, and those that are programs."""
    try:
        entries = zipfile.ZipFile(path).infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise _error(path, f"damaged archive ({first_line(error)})", "copy it again") from None
    # torch.save puts everything into one folder, named after the file.
    names = [entry.filename.partition("/")[2] for entry in entries]
    # TorchScript archives hold data.pkl too, so constants.pkl, which only they have, is looked up first.
    if "constants.pkl" in names:
        raise _error(path, "a TorchScript program, not weights", "pass the state dict it was made from")
    if "data.pkl" not in names:
        raise _error(path, "a zip archive that torch.save did not write", "unpack it and pass the file inside")
    # torch.save stores every entry uncompressed.
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise _error(path, "its archive was compressed after torch.save", "unpack it and zip it with -0")


def _torch_load(path: Path) -> Any:
    try:
        # PyTorch warns of unusual files before it refuses them; the error states what is wrong.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise any exception
        # PyTorch has no exception type for refused objects, so its message has to identify them.
        if "Weights only load failed" in str(error):
            raise _error(
                path, "holds Python objects other than tensors, which could run code", "save only its state_dict()"
            ) from None
        raise _error(path, f"not a complete file of torch.save ({first_line(error)})", "copy it again") from None


def _state_dict(path: Path, content: Any) -> dict[str, Tensor]:
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not content:
        held = "nothing" if isinstance(content, Mapping) else f"a {type(content).__name__}"
        raise _error(path, f"holds {held}, not a state dict", "save model.state_dict()")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            kind = type(value).__name__
            raise _error(path, f"key {name!r} is a {kind}, not a tensor", "save model.state_dict()")
        if value.layout != torch.strided or value.is_quantized:
            raise _error(path, f"key {name!r} is sparse or quantised", "save dense floating-point weights")
    return dict(content)


def _error(path: Path, rule: str, remedy: str = "") -> CheckpointError:
    return CheckpointError.of("weights", path, rule, remedy)
