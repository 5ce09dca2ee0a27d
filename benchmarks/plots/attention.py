"""Time and peak memory of a training step against the length of the sequence, for S4 and self-attention."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

_LABELS = {"S4": "S4", "fused": "self-attention, fused", "softmax": "self-attention, softmax written out"}
_COLOURS = {"S4": "#0b6e99", "fused": "#d9730d", "softmax": "#9b9a97"}
_PANELS = (("seconds", 1.0, "seconds"), ("peak_bytes", 1e-9, "peak memory, GB"))


def draw(rows: Sequence[Mapping[str, Any]], published: Mapping[str, float], path: Path) -> None:
    """Writes the plot.

    Args:
        rows: Rows of the benchmark, all of one dtype and device.
        published: Published ratios of self-attention to S4, by field: ``seconds`` and ``peak_bytes``.
        path: PNG file.
    """
    steps = [row for row in rows if row["call"] == "step"]
    style: dict[Any, Any] = {
        "font.family": "sans-serif",
        "font.size": 11,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with plt.rc_context(style):
        figure, panels = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
        for axes, (field, scale, label) in zip(panels, _PANELS, strict=True):
            _panel(axes, steps, field, scale, published[field])
            axes.set_title(label, loc="left", fontsize=11)
        where, d = f"{steps[0]['device'].upper()}, {steps[0]['dtype']}", steps[0]["D"]
        figure.suptitle(f"One training step, multi-scale decoder from d = {d}, B = 1 ({where})", x=0.01, ha="left")
        figure.savefig(path, dpi=160)
        plt.close(figure)


def _panel(axes: Axes, rows: Sequence[Mapping[str, Any]], field: str, scale: float, published: float) -> None:
    """Draws one field of the rows, multiplied by `scale`, against L on logarithmic axes."""
    axes.set(xscale="log", yscale="log", xlabel="tokens in the sequence")
    lengths = sorted({row["L"] for row in rows})
    s4 = {row["L"]: row[field] for row in rows if row["mixer"] == "S4"}
    for mixer, label in _LABELS.items():
        points = sorted((row["L"], row[field]) for row in rows if row["mixer"] == mixer)
        if not points:
            continue
        axes.plot(*zip(*((L, scale * y) for L, y in points), strict=True), "o-", color=_COLOURS[mixer], label=label)
        if mixer != "S4":
            L, y = points[-1]
            below = mixer == "fused"  # so that the labels do not overlap where both lines end at one height
            axes.annotate(
                f"{y / s4[L]:.1f}x",
                *((L, scale * y), (7, -12 if below else 1)),
                textcoords="offset points",
                color=_COLOURS[mixer],
            )
    axes.plot(
        lengths[-1], scale * published * s4[lengths[-1]], "*", color="black", markersize=11,
        label=f"{published:g}x S4, as published",
    )  # fmt: skip
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(plain)
    axes.set_xticks(lengths)
    axes.set_xlim(lengths[0] / 1.15, lengths[-1] * 1.35)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.legend(frameon=False, fontsize=9)
