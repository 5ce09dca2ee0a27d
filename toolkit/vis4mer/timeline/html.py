"""The HTML page around a timeline's drawing: colours for light and dark screens, and a readout under the pointer."""

import base64
import dataclasses
import hashlib
import html
import json
from collections.abc import Sequence
from dataclasses import dataclass

from vis4mer.timeline.drawing import DARK, LIGHT, Drawing, css_variables, to_svg


@dataclass(frozen=True)
class ReadoutLine:
    """One curve: its label, the name of its colour, and its value in each window."""

    label: str
    colour: str
    values: Sequence[float]


@dataclass(frozen=True)
class ReadoutPlot:
    """One plot: where it lies on the page, in CSS pixels, the values at its lower and upper edge, and its curves."""

    heading: str
    top: float
    height: float
    low: float
    high: float
    lines: Sequence[ReadoutLine]
    percent: bool


@dataclass(frozen=True)
class Readout:
    """What the page's script needs to say what lies under the pointer.

    Attributes:
        x: of the plots' left edge, in CSS pixels.
        width: of the plots.
        top: of the marked window; thumbnails included.
        bottom: of the marked window.
        duration: of the movie, in seconds.
        windows: start and end of each, in seconds.
        centres: of the windows, in seconds.
        plots: from top to bottom.
    """

    x: float
    width: float
    top: float
    bottom: float
    duration: float
    windows: Sequence[tuple[float, float]]
    centres: Sequence[float]
    plots: Sequence[ReadoutPlot]


def to_html(drawing: Drawing, title: str, readout: Readout) -> str:
    """One page that needs nothing else and may load nothing else.

    Args:
        drawing: the timeline.
        title: of the page.
        readout: for the script; numbers are rounded to four digits.
    """
    data = json.dumps(_rounded(dataclasses.asdict(readout)), separators=(",", ":")).replace("<", "\\u003c")
    digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<style>
:root {{ color-scheme: light dark; {css_variables(LIGHT)} }}
@media (prefers-color-scheme: dark) {{ :root {{ {css_variables(DARK)} }} }}
{_STYLE}</style>
</head>
<body>
<main>
{to_svg(drawing)}
<div id="readout" hidden></div>
</main>
<script type="application/json" id="data">{data}</script>
<script>{_SCRIPT}</script>
</body>
</html>
"""


def _rounded(value: object) -> object:
    match value:
        case float():
            return float(f"{value:.4g}") if abs(value) < 1 else round(value, 3)
        case dict():
            return {key: _rounded(item) for key, item in value.items()}
        case list() | tuple():
            return [_rounded(item) for item in value]
    return value


_STYLE = """\
body { margin: 0; background: var(--surface); color: var(--ink); font-family: system-ui, sans-serif; }
main { position: relative; max-width: 1120px; margin: 0 auto; }
svg { display: block; width: 100%; height: auto; font-variant-numeric: tabular-nums; }
#readout { position: absolute; top: 0; left: 0; pointer-events: none; padding: 8px 12px; border-radius: 8px;
  background: var(--surface); border: 1px solid var(--grid); box-shadow: 0 4px 16px rgb(0 0 0 / 0.18);
  font-size: 13px; line-height: 1.5; white-space: nowrap; font-variant-numeric: tabular-nums; }
#readout .time { color: var(--muted); }
#readout .head { color: var(--muted); margin-top: 4px; }
#readout .row { display: flex; align-items: center; gap: 8px; }
#readout .row b { margin-left: auto; padding-left: 16px; font-weight: 600; }
#readout i { width: 10px; height: 10px; border-radius: 5px; }
"""

_SCRIPT = """
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const svg = document.querySelector("svg"), box = document.getElementById("readout");
const shape = (name, attributes) => {
  const element = document.createElementNS(svg.namespaceURI, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return svg.appendChild(element);
};
const span = shape("rect", {y: data.top, height: data.bottom - data.top, fill: "var(--ink)", "fill-opacity": 0.07});
const cursor = shape("line", {y1: data.top, y2: data.bottom, stroke: "var(--muted)"});
const dots = data.plots.map(plot => plot.lines.map(
  line => shape("circle", {r: 4, fill: `var(--${line.colour})`, stroke: "var(--surface)", "stroke-width": 1.5})));
const all = [span, cursor, ...dots.flat()];
const show = visible => { box.hidden = !visible; for (const mark of all) mark.style.display = visible ? "" : "none"; };
show(false);

const clock = seconds => {
  const whole = Math.round(seconds), two = n => String(n).padStart(2, "0");
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
};
const entry = (parent, tag, text, name) => {
  const element = document.createElement(tag);
  element.textContent = text;
  if (name) element.className = name;
  return parent.appendChild(element);
};
const nearest = seconds => {
  let low = 0, high = data.centres.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (seconds - data.centres[middle] > data.centres[middle + 1] - seconds) low = middle + 1; else high = middle;
  }
  return low;
};

svg.addEventListener("pointerleave", () => show(false));
svg.addEventListener("pointermove", event => {
  const bounds = svg.getBoundingClientRect(), scale = bounds.width / svg.viewBox.baseVal.width;
  const x = (event.clientX - bounds.left) / scale, y = (event.clientY - bounds.top) / scale;
  const inside = x >= data.x && x <= data.x + data.width && y >= data.top && y <= data.bottom;
  show(inside);
  if (!inside) return;
  const seconds = (x - data.x) / data.width * data.duration, index = nearest(seconds);
  const [start, end] = data.windows[index], at = t => data.x + t / data.duration * data.width;
  span.setAttribute("x", at(start));
  span.setAttribute("width", at(end) - at(start));
  cursor.setAttribute("x1", x);
  cursor.setAttribute("x2", x);
  box.replaceChildren();
  entry(box, "div", `${clock(seconds)}, window ${clock(start)} to ${clock(end)}`, "time");
  data.plots.forEach((plot, p) => {
    entry(box, "div", plot.heading, "head");
    plot.lines.forEach((line, l) => {
      const value = line.values[index], part = (plot.high - value) / (plot.high - plot.low);
      dots[p][l].setAttribute("cx", x);
      dots[p][l].setAttribute("cy", plot.top + plot.height * part);
      const row = entry(box, "div", "", "row");
      entry(row, "i", "").style.background = `var(--${line.colour})`;
      entry(row, "span", line.label);
      entry(row, "b", plot.percent ? `${(100 * value).toFixed(1)}%` : value.toPrecision(4));
    });
  });
  const left = event.clientX - bounds.left, flip = left + 24 + box.offsetWidth > bounds.width;
  box.style.left = `${flip ? left - 16 - box.offsetWidth : left + 16}px`;
  box.style.top = `${event.clientY - bounds.top + 16}px`;
});
"""
