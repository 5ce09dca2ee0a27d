"""Loading a model for prediction: a bundle's graphs or a checkpoint's modules, on a device."""

import importlib.util
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from vis4mer.config import ModelConfig
from vis4mer.devices.device import Device, on_device
from vis4mer.errors import BundleError, CheckpointError, ConfigError, DeviceError, MissingDependencyError
from vis4mer.runtime.backends.base import Runner
from vis4mer.runtime.backends.eager import EagerRunner
from vis4mer.runtime.backends.registry import open_graph
from vis4mer.runtime.bundle import ENCODER, MANIFEST, Bundle
from vis4mer.runtime.classifier import Classifier
from vis4mer.runtime.precision import Chosen, RequestedPrecision, bundle_precision, encoder_precision

if TYPE_CHECKING:
    from vis4mer.models.vis4mer import Vis4mer

Build = Callable[[Device], tuple[Mapping[str, Runner], Chosen]]

_CHECKPOINT_CONFIG = "config.json"
_WEIGHTS_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")
_WEIGHTS_MAGIC = (b"PK\x03\x04", b"\x80\x02")  # what torch.save writes, now and formerly
_SAMPLE_BUNDLE = "vis4mer_sample_bundle"
_GIVE_A_MODEL = "give a bundle directory, a checkpoint directory or a checkpoint file"


def load(
    path: str | os.PathLike[str] | None = None, device: str = "auto", precision: RequestedPrecision = "auto"
) -> Classifier:
    """Loads a model for prediction.

    Args:
        path: of a bundle (directory with ``manifest.json``) or a checkpoint (directory with ``config.json``, or a
            file); the sample bundle that is installed with this package where not given.
        device: ``cpu``, ``cuda`` or ``cuda:N``; ``auto`` takes the first GPU if there is one that works.
        precision: of a checkpoint's encoder: ``fp32``, ``bf16``, or ``auto`` for bf16 where the device is faster with
            it and the encoder's tokens stay near those in fp32. A bundle has the one it was exported in.

    Raises:
        BundleError: the bundle is incomplete, altered, or of a format that cannot run here.
        CheckpointError: the checkpoint cannot be read, holds no encoder, or has no windows of seconds.
        ConfigError: the bundle was exported in another precision, or an argument breaks its rule.
        DeviceError: the asked device is absent or unusable.
        MissingDependencyError: the checkpoint needs PyTorch, or the bundle ONNX Runtime.
    """
    if precision not in get_args(RequestedPrecision):
        raise ConfigError(f"precision={precision!r}: must be one of {', '.join(get_args(RequestedPrecision))}")
    source = sample_bundle() if path is None else Path(path)
    config, build = (_open_bundle if is_bundle(source) else _open_checkpoint)(source, precision)
    if config.encoder is None:
        rule = "holds decoders only, and a movie needs a frame encoder too"
        raise CheckpointError(
            f"bundle={str(source)!r}: {rule}; 'vis4mer export --encoder NAME' puts a checkpoint of decoders on one"
        )
    if config.windows.samples is not None:
        rule = f"sees a movie as {config.windows.samples} samples of the whole, which have no place on a timeline"
        raise CheckpointError(f"bundle={str(source)!r}: {rule}; 'vis4mer eval' evaluates it, it cannot be served")
    (runners, chosen), used, reason = on_device(device, build)
    return Classifier(config, runners, source=str(source), device=used, device_reason=reason, precision=chosen)


def sample_bundle() -> Path:
    """Path of the sample bundle that is installed with this package.

    Raises:
        BundleError: this installation has none.
    """
    # Of importlib.resources, files() does not work for a package without code in an editable installation.
    package = importlib.util.find_spec(_SAMPLE_BUNDLE)
    for folder in (package and package.submodule_search_locations) or ():
        if (Path(folder) / MANIFEST).is_file():
            return Path(folder)
    raise BundleError(
        f"bundle=None: the package {_SAMPLE_BUNDLE} is not installed or holds no {MANIFEST}; name a bundle"
    )


def is_bundle(path: Path) -> bool:
    """Whether `path` is a bundle, as opposed to a checkpoint.

    Raises:
        BundleError: it is neither.
    """
    try:
        if (path / MANIFEST).exists():
            return True
        if (path / _CHECKPOINT_CONFIG).exists():
            return False
        if path.is_file():
            return _require_checkpoint(path)
        missing = f"holds neither {MANIFEST} nor {_CHECKPOINT_CONFIG}" if path.exists() else "does not exist"
    except OSError as error:
        missing = f"cannot be read: {error.strerror}"
    raise BundleError(f"bundle={str(path)!r}: {missing}; {_GIVE_A_MODEL}")


def _require_checkpoint(file: Path) -> Literal[False]:
    """Raises BundleError if `file` does not look like weights, which is told without PyTorch."""
    if (file.parent / MANIFEST).exists():
        folder = str(file.parent)
        raise BundleError(f"bundle={str(file)!r}: is one file of a bundle; give its directory, {folder!r}")
    if file.suffix.lower() in _WEIGHTS_SUFFIXES:
        return False
    with file.open("rb") as opened:
        if opened.read(4).startswith(_WEIGHTS_MAGIC):
            return False
    raise BundleError(f"bundle={str(file)!r}: is neither a bundle nor a checkpoint; {_GIVE_A_MODEL}")


def _open_bundle(path: Path, asked: RequestedPrecision) -> tuple[ModelConfig, Build]:
    bundle = Bundle.open(path)
    chosen = bundle_precision(bundle, asked)

    def build(device: Device) -> tuple[Mapping[str, Runner], Chosen]:
        return {name: open_graph(bundle, name, device) for name in bundle.graphs}, chosen

    return bundle.model, build


def _open_checkpoint(path: Path, asked: RequestedPrecision) -> tuple[ModelConfig, Build]:
    model = load_model(path)

    def build(device: Device) -> tuple[Mapping[str, Runner], Chosen]:
        return eager_runners(model, device, asked)

    return model.config, build


def load_model(path: Path) -> "Vis4mer":
    """Loads a checkpoint on the CPU, in evaluation mode.

    Raises:
        CheckpointError: it cannot be read.
        MissingDependencyError: PyTorch is not installed.
    """
    try:
        from vis4mer.models.checkpoint import load_checkpoint
    except ImportError as error:
        rule = "is needed to load a checkpoint; pip install 'vis4mer[torch]', or give a bundle exported to ONNX"
        raise MissingDependencyError(f"package={error.name!r}: {rule}") from None
    return load_checkpoint(path)


def eager_runners(
    model: "Vis4mer", device: Device, asked: RequestedPrecision = "auto"
) -> tuple[dict[str, EagerRunner], Chosen]:
    """Moves `model` to `device` and makes a runner for its encoder and one for each head.

    Args:
        model: in evaluation mode, with an encoder of frames.
        device: to run on.
        asked: precision of the encoder; heads compute in fp32.

    Returns:
        The runners by graph, and the encoder's precision.

    Raises:
        DeviceError: PyTorch cannot use the device.
    """
    try:
        model.to(str(device))
    except (RuntimeError, AssertionError) as error:  # a CPU-only build asserts
        rule = f"PyTorch cannot use it: {' '.join(str(error).split())[:300]}; use --device cpu or auto"
        raise DeviceError(f"device={str(device)!r}: {rule}") from None
    assert model.encoder is not None, "load() refuses models without encoder"
    in_fp32, in_bf16 = (EagerRunner(model.encoder, ENCODER, device, precision) for precision in ("fp32", "bf16"))
    chosen = encoder_precision(in_fp32, in_bf16, asked, device, model.config.preprocessing)
    heads = {name: EagerRunner(head, name, device) for name, head in model.heads.items()}
    return {ENCODER: in_bf16 if chosen.precision == "bf16" else in_fp32, **heads}, chosen
