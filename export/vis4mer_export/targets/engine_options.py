"""Options of TensorRT's two products, and the settings of a build that they make up."""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Self

from vis4mer.devices.device import Device
from vis4mer.errors import ConfigError
from vis4mer_export.targets.base import TargetOption

if TYPE_CHECKING:
    from vis4mer.runtime.backends.tensorrt import Product

_HIGHEST_LEVEL = 5


@dataclass(frozen=True)
class BatchProfile:
    """The batch sizes that an engine is built for: 1 <= min <= opt <= max.

    Attributes:
        min: Smallest size; the runner pads smaller batches.
        opt: Size that the engine is tuned for.
        max: Largest size, which determines the memory that the engine needs; the runner splits larger batches.
    """

    min: int
    opt: int
    max: int

    @classmethod
    def parse(cls, text: str, option: str = "batch_size") -> Self:
        """Reads ``MIN:OPT:MAX``, or ``N`` for ``1:N:N``.

        Args:
            text: Text to read.
            option: Name of the option, for the error.

        Raises:
            ConfigError: The text has neither form, or the sizes are not in order.
        """
        sizes = text.split(":")
        if len(sizes) not in (1, 3) or not all(size.isascii() and size.isdecimal() for size in sizes):
            raise ConfigError.of(option, text, "must be N or MIN:OPT:MAX, in whole numbers")
        numbers = [int(size) for size in sizes]
        profile = cls(1, numbers[0], numbers[0]) if len(numbers) == 1 else cls(*numbers)
        if not 1 <= profile.min <= profile.opt <= profile.max:
            raise ConfigError.of(option, text, "must be MIN:OPT:MAX with 1 <= MIN <= OPT <= MAX")
        return profile


# A classifier encodes 32 frames at once. They are a window of 32 s, so heads get one window at a time, or a few.
BATCH_SIZE = TargetOption(
    "batch_size",
    "N|MIN:OPT:MAX",
    "1:32:32",
    "Frames at once that the encoder's engine takes and is tuned for.",
    BatchProfile.parse,
)
HEAD_BATCH_SIZE = TargetOption(
    "head_batch_size",
    "N|MIN:OPT:MAX",
    "1:1:4",
    "Windows at once that a head's engine takes and is tuned for.",
    partial(BatchProfile.parse, option="head_batch_size"),
)


def _parse_level(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) <= _HIGHEST_LEVEL):
        raise ConfigError.of("optimization_level", text, f"must be from 0 to {_HIGHEST_LEVEL}")
    return int(text)


OPTIMIZATION_LEVEL = TargetOption(
    "optimization_level",
    "0-5",
    "3",
    "Effort of the builder: a higher level may find a faster engine, and takes longer.",
    _parse_level,
)

# TensorRT's names of the levels by this option's values.
HARDWARE_LEVELS = {"none": "NONE", "capability": "SAME_COMPUTE_CAPABILITY", "ampere": "AMPERE_PLUS"}


def _parse_hardware(text: str) -> str:
    if text not in HARDWARE_LEVELS:
        raise ConfigError.of("hardware_compatibility", text, f"must be {', '.join(HARDWARE_LEVELS)}")
    return text


HARDWARE_COMPATIBILITY = TargetOption(
    "hardware_compatibility",
    "|".join(HARDWARE_LEVELS),
    "none",
    "GPUs that run the engine: those of the builder's type, of its compute capability, or all since Ampere. An engine "
    "for more of them may be slower.",
    _parse_hardware,
)


def _parse_versions(text: str) -> str:
    if text not in ("same", "newer"):
        raise ConfigError.of("tensorrt_versions", text, "must be same or newer")
    return text


TENSORRT_VERSIONS = TargetOption(
    "tensorrt_versions",
    "same|newer",
    "same",
    "Versions of TensorRT that run the engine: the builder's, or newer ones too, which may be slower.",
    _parse_versions,
)


@dataclass(frozen=True)
class EngineSettings:
    """How engines are built.

    Attributes:
        product: Product to build with, and to run on.
        encoder: Batch sizes of the encoder's engine.
        heads: Batch sizes of the heads' engines.
        device: GPU to build on, with ``trt``, and to compare on.
        gpus: Compute capabilities to build for, with ``trt-rtx``; empty for all that it supports.
        optimization_level: Effort of the builder, from 0 to 5; only with ``trt``, as all further attributes.
        hardware_compatibility: Key of `HARDWARE_LEVELS`.
        tensorrt_versions: ``same`` or ``newer``.
    """

    product: "Product"
    encoder: BatchProfile
    heads: BatchProfile
    device: Device
    gpus: tuple[str, ...] = ()
    optimization_level: int = 3
    hardware_compatibility: str = "none"
    tensorrt_versions: str = "same"

    def profile(self, graph: str) -> BatchProfile:
        """Returns the batch sizes of a graph's engine."""
        # Imported here, because it imports NumPy, and options are listed without it.
        from vis4mer.runtime.interface import ENCODER

        return self.encoder if graph == ENCODER else self.heads
