"""A drawing as a list of shapes; `vis4mer.timeline.png` and `vis4mer.timeline.svg` are its two forms."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """A line through points; a dashed one must be horizontal and straight."""

    points: Sequence[Point]
    colour: str
    width: float = 1.0
    dashed: bool = False


@dataclass(frozen=True)
class Area:
    """A filled polygon; an opacity of 1 would hide what is under it."""

    points: Sequence[Point]
    colour: str
    opacity: float = 0.12


@dataclass(frozen=True)
class Dot:
    """A filled circle."""

    centre: Point
    radius: float
    colour: str


@dataclass(frozen=True)
class Label:
    """One line of text; `at` is the start, middle or end of its baseline, as `anchor` specifies."""

    at: Point
    text: str
    size: float
    colour: str = "ink"
    anchor: Literal["start", "middle", "end"] = "start"
    bold: bool = False


@dataclass(frozen=True)
class Picture:
    """Pixels uint8 ``[H, W, 3]``, RGB, scaled to `width` by `height`; `at` is the upper left corner."""

    at: Point
    width: float
    height: float
    pixels: NDArray[np.uint8]


Shape = Line | Area | Dot | Label | Picture


@dataclass(frozen=True)
class Drawing:
    """Shapes on a page, later ones over earlier ones; lengths are in CSS pixels, and y grows downwards.

    Attributes:
        width: Width of the page.
        height: Height of the page.
        shapes: Shapes on it.
        title: Title for readers who do not see the drawing.
        description: Content of the drawing in words, for the same readers.
    """

    width: int
    height: int
    shapes: Sequence[Shape]
    title: str = ""
    description: str = ""
