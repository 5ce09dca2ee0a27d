"""The widths that a timeline is laid out for. All lengths are in CSS pixels."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Page:
    """Dimensions that depend on the width.

    Attributes:
        width: Width of the whole drawing.
        margin: Space on the left and on the right that stays empty.
        title_size: Font size of the title.
        strip_height: Height of the thumbnails.
        plot_height: Height of each plot.
        legend_beside: Whether legends are on the right of their plots, and one time axis is below all; otherwise each
            plot has its time axis and its legend below it.
    """

    width: int
    margin: int
    title_size: int
    strip_height: int
    plot_height: int
    legend_beside: bool = False


NARROW = Page(width=360, margin=14, title_size=19, strip_height=48, plot_height=130)
MEDIUM = Page(width=640, margin=24, title_size=22, strip_height=56, plot_height=150)
WIDE = Page(width=1120, margin=32, title_size=24, strip_height=64, plot_height=150, legend_beside=True)
