"""Loads a model for prediction, from a bundle's graphs or a checkpoint's modules."""

import importlib.util
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from vis4mer.config import ModelConfig
from vis4mer.devices.device import Device, on_device
from vis4mer.errors import BundleError, CheckpointError, ConfigError
from vis4mer.packages import missing
from vis4mer.runtime.backends.base import CheckedRunner, Runner
from vis4mer.runtime.backends.eager import EagerRunner
from vis4mer.runtime.bundle import Bundle
from vis4mer.runtime.classifier import Classifier
from vis4mer.runtime.interface import ENCODER, graph_interfaces
from vis4mer.runtime.manifest import MANIFEST
from vis4mer.runtime.model_path import is_bundle
from vis4mer.runtime.precision import ChosenPrecision, RequestedPrecision, bundle_precision, encoder_precision

if TYPE_CHECKING:
    from torch import nn

    from vis4mer.models.vis4mer import Vis4mer

_SAMPLE_BUNDLE = "vis4mer_sample_bundle"


class Runners(NamedTuple):
    """A model's graphs on a device.

    Attributes:
        by_graph: Runners of the encoder and of every head.
        precision: Precision of the encoder.
    """

    by_graph: Mapping[str, Runner]
    precision: ChosenPrecision


class _Model(NamedTuple):
    """A model that has been read but is not on a device yet."""

    config: ModelConfig
    place: Callable[[Device], Runners]


def load(
    path: str | os.PathLike[str] | None = None, device: str | Device = "auto", precision: RequestedPrecision = "auto"
) -> Classifier:
    """Loads a model for prediction.

    Args:
        path: Path of a bundle (folder with ``manifest.json``) or a checkpoint (folder with ``config.json``, or a
            file); the sample bundle that is installed with this package by default.
        device: Device, or its name: ``cpu``, ``cuda`` or ``cuda:N``. ``auto`` takes the first GPU if it works, and
            the CPU otherwise.
        precision: Precision of a checkpoint's encoder: ``fp32``, ``bf16``, or ``auto`` for bf16 where the device is
            faster with it and the encoder's tokens stay close to those in fp32. A bundle keeps the precision of its
            export.

    Raises:
        BundleError: The bundle is incomplete, altered, or of a format that cannot run here.
        CheckpointError: The checkpoint cannot be read, has no encoder, or has no windows of seconds.
        ConfigError: The bundle was exported in another precision, or an argument breaks its rule.
        DeviceError: The requested device is absent or unusable.
        MissingDependencyError: The checkpoint needs PyTorch, or the bundle ONNX Runtime, which is not installed.
    """
    if precision not in get_args(RequestedPrecision):
        raise ConfigError.of("precision", precision, f"must be one of {', '.join(get_args(RequestedPrecision))}")
    source = sample_bundle() if path is None else Path(path)
    model = _read_bundle(source, precision) if is_bundle(source) else _read_checkpoint(source, precision)
    # Checked before the weights go to a device, which can take long.
    _require_servable(source, model.config)
    # `auto` calls `place` a second time, for the CPU, if the GPU fails.
    runners, used, reason = on_device(device, model.place)
    return Classifier(
        model.config,
        runners.by_graph,
        source=str(source),
        device=used,
        device_reason=reason,
        precision=runners.precision,
    )


def _require_servable(source: Path, config: ModelConfig) -> None:
    """Raises CheckpointError for a model that cannot classify a movie file window by window."""
    if config.encoder is None:
        rule = "holds decoders only, and a movie needs a frame encoder too"
        remedy = "'vis4mer export --encoder NAME' adds an encoder to a checkpoint of decoders"
        raise CheckpointError.of("bundle", source, rule, remedy)
    if config.windows.samples is not None:
        rule = f"takes {config.windows.samples} samples of a whole movie, so it has no windows in time"
        raise CheckpointError.of("bundle", source, rule, "it cannot be served; evaluate it with 'vis4mer eval'")


def sample_bundle() -> Path:
    """Returns the path of the sample bundle that is installed with this package.

    Raises:
        BundleError: This installation has none.
    """
    # importlib.resources.files() fails for a package without code in an editable installation, so its spec is used.
    package = importlib.util.find_spec(_SAMPLE_BUNDLE)
    for folder in (package and package.submodule_search_locations) or ():
        if (Path(folder) / MANIFEST).is_file():
            return Path(folder)
    rule = f"the package {_SAMPLE_BUNDLE} is not installed or holds no {MANIFEST}"
    raise BundleError.of("bundle", None, rule, "pass a bundle")


def _read_bundle(path: Path, requested: RequestedPrecision) -> _Model:
    bundle = Bundle.open(path)
    precision = bundle_precision(bundle, requested)

    # Graphs are read when they are placed, so each attempt loads them anew for its own device.
    def place_graphs(device: Device) -> Runners:
        return Runners({name: bundle.open_graph(name, device) for name in bundle.graphs}, precision)

    return _Model(bundle.model, place_graphs)


def _read_checkpoint(path: Path, requested: RequestedPrecision) -> _Model:
    model = load_model(path)
    return _Model(model.config, lambda device: eager_runners(model, device, requested))


def load_model(path: Path) -> "Vis4mer":
    """Loads a checkpoint on the CPU, in evaluation mode.

    Raises:
        CheckpointError: It cannot be read.
        MissingDependencyError: PyTorch is not installed.
    """
    try:
        # Bundles run without PyTorch, so only the paths that need checkpoints import it.
        from vis4mer.models.checkpoint import load_checkpoint
    except ImportError as error:
        alternative = "use a bundle exported to ONNX"
        raise missing(error.name or "torch", "to load a checkpoint", "torch", alternative) from None
    return load_checkpoint(path)


def eager_runners(model: "Vis4mer", device: Device, requested: RequestedPrecision = "auto") -> Runners:
    """Moves `model` to `device` and makes a runner for its encoder and one for each head.

    Args:
        model: Model in evaluation mode, with an encoder of frames.
        device: Device to run on.
        requested: Precision of the encoder; heads compute in fp32.

    Raises:
        DeviceError: PyTorch cannot use the device, or the device cannot run the model.
    """
    from vis4mer.models.placement import to_device

    # Modules move in place. After a failed attempt on a GPU, the call for the CPU brings back whatever had moved.
    to_device(model, str(device))
    assert model.encoder is not None, "load() rejects models without encoder"
    interfaces = graph_interfaces(model.config)

    def runner(name: str, module: "nn.Module", precision: Literal["fp32", "bf16"] = "fp32") -> CheckedRunner:
        return CheckedRunner(EagerRunner(module, name, device, precision), name, interfaces[name])

    # Both runners share one module: bf16 is a setting of the run, so trying it needs no second model in memory.
    in_fp32, in_bf16 = runner(ENCODER, model.encoder), runner(ENCODER, model.encoder, "bf16")
    precision = encoder_precision(in_fp32, in_bf16, requested, device, model.config.preprocessing)
    encoder = in_bf16 if precision.precision == "bf16" else in_fp32
    runners = {ENCODER: encoder} | {name: runner(name, head) for name, head in model.heads.items()}
    if device.kind == "cuda":
        for each in runners.values():
            each.warm_up()
    return Runners(runners, precision)
