"""The export targets by name: the built-in ones, those of plug-ins, and those that a program registers."""

import re

from vis4mer.errors import ConfigError
from vis4mer.plugins import load_plugins
from vis4mer_export.targets.base import Target, TargetOption
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

_NAME = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")
# Without a dot: a graph's name is what stands before the last dot of its file's name.
_SUFFIX = re.compile(r"[A-Za-z0-9]+")
_OPTION_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")

# Options of every export, as `vis4mer.export` names them or as the command does.
COMMON_OPTIONS = frozenset(
    {
        "checkpoint",
        "output",
        "format",
        "precision",
        "length",
        "lowering",
        "head",
        "heads",
        "encoder",
        "encoder_weights",
        "labels",
        "movie",
        "unverified",
        "force",
        "help",
    }
)


def register(target: Target) -> None:
    """Registers a target and its backend for `vis4mer.export` and the commands.

    Raises:
        ConfigError: The name, or the backend's format, is taken; the name or the suffix is malformed; or an option's
            name is malformed, that of a common option, or that of another target's option with another definition.
    """
    from vis4mer.runtime.backends import registry as backends

    if target.name in _targets:
        raise ConfigError.of("format", target.name, "another target has this name", "choose another name")
    if not _NAME.fullmatch(target.name):
        raise ConfigError.of("format", target.name, "must be words of lower-case letters and digits, joined by - or _")
    if not _SUFFIX.fullmatch(target.suffix):
        raise ConfigError.of("suffix", target.suffix, "must be letters and digits alone")
    for option in target.options:
        _check_option(option, target)
    # This may still raise an exception, so the target is added only after it.
    backends.register(target.backend)
    _targets[target.name] = target


def _check_option(option: TargetOption, target: Target) -> None:
    """Checks that an option can stand beside those of every export and of all other targets, in one command."""
    if not _OPTION_NAME.fullmatch(option.name):
        raise ConfigError.of("option", option.name, "must be words of lower-case letters and digits, joined by _")
    if option.name in COMMON_OPTIONS:
        raise ConfigError.of("option", option.name, "every format has an option of this name", "choose another name")
    # The command has one flag per name, so equal definitions share it. A target is also compared with itself, since it
    # may define a name twice.
    for other in (target, *_targets.values()):
        if any(known.name == option.name and known != option for known in other.options):
            rule = f"format {other.name} defines an option of this name differently"
            raise ConfigError.of("option", option.name, rule, "use its definition, or choose another name")


def target(name: str) -> Target:
    """Returns the target of a name.

    Raises:
        ConfigError: No target has this name.
    """
    # Plug-ins are imported only for a name that is not built in, because their imports may be slow.
    if name not in _targets:
        load_plugins()
    if name not in _targets:
        raise ConfigError.of("format", name, f"must be one of {', '.join(_targets)}")
    return _targets[name]


def names() -> tuple[str, ...]:
    """Returns the names of all targets."""
    load_plugins()
    return tuple(_targets)
