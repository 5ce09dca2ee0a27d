"""Errors that a user can cause. Each has a one-line message: the value, the rule that it breaks, the remedy.

Commands print the message of any of these and exit with status 1; a traceback means a bug in this project.
"""

import os
from typing import Self

# A value of a file, such as a JSON object, may be of any size. Text, such as a path, is shown whole.
_SHOWN_CHARACTERS = 200


class Vis4merError(Exception):
    """Base of every error that this project raises on purpose.

    Raise it through `of`, so that all messages have one form::

        raise DeviceError.of("device", "cuda:3", "this machine has 2 GPUs", "use cuda:0 or cuda:1")
        # DeviceError: device='cuda:3': this machine has 2 GPUs; use cuda:0 or cuda:1

    The constructor itself takes a finished message, for errors that concern no particular value.
    """

    @classmethod
    def of(cls, name: str, value: object, rule: str, remedy: str = "") -> Self:
        """Builds an error whose message reads ``name=value: rule; remedy``.

        Args:
            name: What the user set: an argument, an option, a key of a file or a kind of file.
            value: Its value, shown as its `repr`; a path is shown as a string, and a long value other than text is cut.
            rule: Rule that the value breaks, as a predicate without a full stop: ``must be positive``.
            remedy: What to do about it, as an imperative: ``use --device cpu``. Leave it out where the rule implies it.

        Returns:
            The error, for the caller to raise.
        """
        text = os.fspath(value) if isinstance(value, os.PathLike) else value
        shown = repr(text)
        if len(shown) > _SHOWN_CHARACTERS and not isinstance(text, str | bytes):
            shown = f"{shown[:_SHOWN_CHARACTERS]}..."
        return cls(f"{name}={shown}: {rule}" + (f"; {remedy}" if remedy else ""))


class ConfigError(Vis4merError, ValueError):
    """A configuration value breaks its rule."""


class CheckpointError(Vis4merError, ValueError):
    """A checkpoint cannot be read, or does not fit the model."""


class BundleError(Vis4merError, ValueError):
    """An exported bundle is incomplete, altered, or of an unknown schema."""


class VideoError(Vis4merError, OSError):
    """A video cannot be opened, or yields no frame."""


class OutputError(Vis4merError, OSError):
    """A file cannot be written; `strerror` is the operating system's reason."""


class DataError(Vis4merError, ValueError):
    """A dataset listing, a label or a feature cache does not fit the task."""


class ExportError(Vis4merError, RuntimeError):
    """A model cannot be exported, or the exported graph does not compute what the model computes."""


class MissingDependencyError(Vis4merError, ImportError):
    """A feature needs a package that is not installed; the message names the extra that installs it."""


class DeviceError(Vis4merError, RuntimeError):
    """The device is absent, or cannot run what was requested of it."""


class OpsError(Vis4merError, RuntimeError):
    """The native ops cannot be built or loaded, or do not run on the requested device."""
