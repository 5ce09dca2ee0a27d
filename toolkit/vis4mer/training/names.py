"""Lists of names in messages."""

from collections.abc import Sequence

_SHOWN = 5


def shortened(names: Sequence[str]) -> str:
    """Joins names by commas; the sixth and all further ones are only counted."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
