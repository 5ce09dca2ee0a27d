"""Curves with no more points than a plot has room for."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vis4mer.runtime.prediction import WindowPrediction

# Windows are drawn one by one while they are at least this far apart. Points that stand for several are further apart,
# because only then the line and the band around it are easy to tell apart.
_PIXELS_PER_WINDOW = 2.0  # CSS pixels
_PIXELS_PER_POINT = 4.0  # CSS pixels


@dataclass(frozen=True)
class Group:
    """Consecutive windows that are one point of each curve.

    Attributes:
        start: Start of the first window, in seconds.
        end: End of the last window, in seconds.
        centre: Mean of the windows' middles, in seconds.
        count: Number of windows.
    """

    start: float
    end: float
    centre: float
    count: int


@dataclass(frozen=True)
class Series:
    """Values of a curve, one for each group of windows, float64 ``[N]`` each.

    Attributes:
        mean: Mean over each group.
        low: Lowest value of each group.
        high: Highest value of each group.
    """

    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def group_size(windows: Sequence[WindowPrediction], duration: float, width: float) -> int:
    """Returns the number of consecutive windows that share one point of a curve; 1 if there is room for all.

    Args:
        windows: Windows of the movie.
        duration: Time that the plot spans, in seconds.
        width: Width of the plot, in CSS pixels.
    """
    span = (middle(windows[-1]) - middle(windows[0])) / duration * width
    if len(windows) * _PIXELS_PER_WINDOW <= span or len(windows) == 1:
        return 1
    return math.ceil(len(windows) / max(1.0, span / _PIXELS_PER_POINT))


def group_windows(windows: Sequence[WindowPrediction], size: int) -> list[Group]:
    """Returns the groups of `size` windows, the last of which may have fewer."""
    groups = [windows[i : i + size] for i in range(0, len(windows), size)]
    return [Group(g[0].start, g[-1].end, sum(map(middle, g)) / len(g), len(g)) for g in groups]


def condense(values: Sequence[float], size: int) -> Series:
    """Returns mean, lowest and highest value of each group of `size` values, the last of which may have fewer."""
    array = np.asarray(values, np.float64)
    starts = np.arange(0, len(array), size)
    counts = np.diff(np.append(starts, len(array)))
    return Series(
        mean=np.add.reduceat(array, starts) / counts,
        low=np.minimum.reduceat(array, starts),
        high=np.maximum.reduceat(array, starts),
    )


def middle(window: WindowPrediction) -> float:
    """Returns the time in seconds at which a window is drawn.

    A prediction holds for its whole window, so the middle misrepresents it least.
    """
    return (window.start + window.end) / 2
