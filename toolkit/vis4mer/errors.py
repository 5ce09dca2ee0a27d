"""The errors a user can cause, each with a one-line message: what was given, the rule, the remedy.

The command line prints the message of any of these and exits with 1; a traceback means a defect of this project.
"""


class Vis4merError(Exception):
    """Base of every error this project raises on purpose."""


class ConfigError(Vis4merError, ValueError):
    """A configuration value breaks its rule."""


class CheckpointError(Vis4merError, ValueError):
    """A checkpoint cannot be read, or does not fit the model it should fill."""


class BundleError(Vis4merError, ValueError):
    """An exported bundle is incomplete, altered, or of an unknown schema."""


class VideoError(Vis4merError, OSError):
    """A video cannot be opened, or yields no frame."""


class DataError(Vis4merError, ValueError):
    """A dataset listing, a label or a feature cache does not fit the task."""


class ExportError(Vis4merError, RuntimeError):
    """A model cannot be exported, or the exported graph is not equal to it."""


class MissingDependencyError(Vis4merError, ImportError):
    """A feature needs a package that is not installed; the message names the extra that brings it."""


class DeviceError(Vis4merError, RuntimeError):
    """The asked device does not exist on this machine or cannot run what was asked."""


class OpsError(Vis4merError, RuntimeError):
    """The native ops cannot be built, cannot be loaded, or do not run where they were asked to."""
