"""What a path holds: a bundle, a checkpoint, or something that is passed for one by mistake."""

from pathlib import Path

from vis4mer.config import CONFIG_FILE
from vis4mer.errors import BundleError, CheckpointError
from vis4mer.models.config_file import IS_A_RUN, best_of_run
from vis4mer.runtime.manifest import MANIFEST

_WEIGHTS_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")
_WEIGHTS_MAGIC = (b"PK\x03\x04", b"\x80\x02")  # first bytes of torch.save's present and former format
_NAME_A_MODEL = "pass a bundle folder, a checkpoint folder or a checkpoint file"


def is_bundle(path: Path) -> bool:
    """Returns whether `path` is a bundle, as opposed to a checkpoint.

    Raises:
        BundleError: It is neither.
    """
    try:
        if (path / MANIFEST).exists():
            return True
        if (path / CONFIG_FILE).exists():
            return False
        if path.is_file():
            _require_weights(path)
            return False
        if (best := best_of_run(path)) is not None:
            raise BundleError.of("bundle", path, IS_A_RUN, f"pass its best model, {str(best)!r}")
        problem = f"holds neither {MANIFEST} nor {CONFIG_FILE}" if path.exists() else "does not exist"
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    raise BundleError.of("bundle", path, problem, _NAME_A_MODEL)


def require_checkpoint(path: Path) -> None:
    """Rejects, without loading PyTorch, what is often passed by mistake where a checkpoint is expected.

    Args:
        path: The path that was passed.

    Raises:
        CheckpointError: The path is a bundle or the folder of a training run, or cannot be read.
    """
    try:
        if (path / MANIFEST).exists():
            rule, remedy = "is a bundle, which has been exported already", "pass the checkpoint that it was made from"
            raise CheckpointError.of("checkpoint", path, rule, remedy)
        if not (path / CONFIG_FILE).exists() and (best := best_of_run(path)) is not None:
            raise CheckpointError.of("checkpoint", path, IS_A_RUN, f"pass its best model, {str(best)!r}")
    except OSError as error:
        raise CheckpointError.of("checkpoint", path, f"cannot be read: {error.strerror}") from None


def _require_weights(file: Path) -> None:
    """Raises BundleError, without loading PyTorch, for a file that does not look like weights."""
    if (file.parent / MANIFEST).exists():
        raise BundleError.of("bundle", file, "is one file of a bundle", f"pass its folder, {str(file.parent)!r}")
    # A known suffix has to be enough: safetensors, for one, begins with a length and has no magic number.
    if file.suffix.lower() in _WEIGHTS_SUFFIXES:
        return
    with file.open("rb") as opened:
        if not opened.read(4).startswith(_WEIGHTS_MAGIC):
            raise BundleError.of("bundle", file, "is neither a bundle nor a checkpoint", _NAME_A_MODEL)
