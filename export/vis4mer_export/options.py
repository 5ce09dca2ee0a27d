"""The options of an export, checked before any work is done."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vis4mer.errors import ExportError
from vis4mer_export.longconv import Lowering, RequestedLowering
from vis4mer_export.targets import registry
from vis4mer_export.targets.base import Obstacle, Target

if TYPE_CHECKING:
    from vis4mer.runtime.manifest import Precision


@dataclass(frozen=True)
class ExportOptions:
    """The options of an export.

    Attributes:
        format: Name of the target.
        requested_precision: Precision of the matrix products and of the weights' storage; the target's default if None.
        lowering: Lowering of the long convolutions; ``auto`` takes the target's fastest accurate one.
        length: L, number of tokens in a head's input; the model's window if None.
        target_options: Values of the target's own options by name, as text or as what converts to it.
        unverified: Whether graphs are written that this machine cannot execute in the form in which they are written.

    Raises:
        ConfigError: There is no such target, or it does not take one of the values.
    """

    format: str
    requested_precision: "Precision | None" = None
    lowering: RequestedLowering = "auto"
    length: int | None = None
    target_options: Mapping[str, object] = field(default_factory=dict)
    unverified: bool = False

    def __post_init__(self) -> None:
        self.target.require_precision(self.precision)
        self.target.candidates(self.lowering)
        self.target.parse_options(self.target_options)

    @property
    def target(self) -> Target:
        """The target."""
        return registry.target(self.format)

    @property
    def precision(self) -> "Precision":
        """Precision of the matrix products and of the weights' storage."""
        return self.requested_precision or self.target.default_precision

    @property
    def candidates(self) -> tuple[Lowering, ...]:
        """Lowerings to try, in order of preference."""
        return self.target.candidates(self.lowering)

    @property
    def settings(self) -> dict[str, Any]:
        """Parsed value of every option of the target."""
        return self.target.parse_options(self.target_options)

    def require_executable(self, obstacle: Obstacle | None) -> None:
        """Refuses graphs that this machine cannot execute as they are written, unless they were requested.

        Args:
            obstacle: Why it cannot; None if it can.

        Raises:
            ExportError: There is an obstacle, and `unverified` is not set.
        """
        if obstacle is not None and not self.unverified:
            rule = f"this machine cannot execute {self.format} graphs in {self.precision} ({obstacle.reason})"
            remedy = f"{obstacle.remedy}, or pass --unverified (in Python unverified=True) to write them all the same"
            raise ExportError.of("format", self.format, rule, remedy)
