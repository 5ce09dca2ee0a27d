"""The export targets by name."""

from vis4mer.errors import ConfigError
from vis4mer_export.targets.base import Target
from vis4mer_export.targets.onnx import OnnxTarget
from vis4mer_export.targets.pt2 import Pt2Target
from vis4mer_export.targets.torchscript import TorchScriptTarget
from vis4mer_export.targets.trt import TensorRTTarget
from vis4mer_export.targets.trt_rtx import TensorRTForRTXTarget

_BUILT_IN: tuple[Target, ...] = (
    TorchScriptTarget(),
    Pt2Target(),
    OnnxTarget(),
    TensorRTTarget(),
    TensorRTForRTXTarget(),
)
_targets = {target.name: target for target in _BUILT_IN}


def register(target: Target) -> None:
    """Registers a target and its backend for `vis4mer.export` and the commands.

    Raises:
        ConfigError: The name, or the backend's format, is taken.
    """
    from vis4mer.runtime.backends import registry as backends

    if target.name in _targets:
        raise ConfigError.of("format", target.name, "another target has this name", "choose another name")
    backends.register(target.backend)
    _targets[target.name] = target


def target(name: str) -> Target:
    """Returns the target of a name.

    Raises:
        ConfigError: No registered target has this name.
    """
    if name not in _targets:
        raise ConfigError.of("format", name, f"must be one of {', '.join(_targets)}")
    return _targets[name]


def names() -> tuple[str, ...]:
    """Returns the names of all registered targets."""
    return tuple(_targets)
