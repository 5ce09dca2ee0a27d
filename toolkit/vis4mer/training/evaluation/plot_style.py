"""The look that the plots of a report share: that of the timeline."""

from functools import cache
from typing import TYPE_CHECKING, Any

from matplotlib import font_manager

from vis4mer.colours import LIGHT
from vis4mer.text import count, shorten
from vis4mer.training.evaluation.report import Report

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

DPI = 150

SURFACE, INK, MUTED, GRID = (LIGHT[name] for name in ("surface", "ink", "muted", "grid"))
SERIES = tuple(LIGHT[f"line{i}"] for i in range(6))  # those of several runs
BLUE, ORANGE = SERIES[:2]

_MAX_NAME_LENGTH = 60  # characters

# Matplotlib brings DejaVu Sans along, which covers European scripts. The others add East Asian ones where installed.
_FONTS = ("DejaVu Sans", "Noto Sans CJK JP", "Noto Sans CJK SC", "WenQuanYi Zen Hei", "Droid Sans Fallback")


def style() -> "dict[RcKeyType, Any]":
    """Returns the settings of Matplotlib for all plots."""
    return {
        "font.family": _installed_fonts(),
        "font.size": 9,
        # A class may be called "$5 or $6", which is no formula.
        "text.parse_math": False,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": MUTED,
        "axes.titlesize": 10,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "grid.color": GRID,
        "figure.facecolor": SURFACE,
        "axes.facecolor": SURFACE,
        "legend.frameon": False,
    }


def title(report: Report, figure: str) -> str:
    """Returns the title of a plot: the data set, its figure, and the number of movies and runs."""
    runs = "" if len(report.runs) == 1 else f", {len(report.runs)} runs"
    return f"{shown_name(report.name)}: {figure}\n{count(report.movies, 'movie')}{runs}"


def shown_name(name: str) -> str:
    """Returns a name as plots show it."""
    return shorten(name, lambda text: len(text) <= _MAX_NAME_LENGTH)


@cache
def _installed_fonts() -> list[str]:
    installed = set(font_manager.get_font_names())
    return [name for name in _FONTS if name in installed]
