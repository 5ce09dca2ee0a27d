"""The HTML page around a timeline's drawings, with light and dark colours and a readout under the pointer."""

import base64
import dataclasses
import hashlib
import html
import json
from collections.abc import Sequence
from itertools import pairwise

from vis4mer.colours import DARK, LIGHT
from vis4mer.timeline.drawing import Drawing
from vis4mer.timeline.readout import Readout
from vis4mer.timeline.svg import css_class, css_variables, to_svg

# A drawing is scaled down this much before a narrower one replaces it, and up this much before margins grow.
_SMALLEST_SCALE, _LARGEST_SCALE = 0.93, 1.3


def to_html(drawings: Sequence[Drawing], title: str, readout: Readout) -> str:
    """Returns one page that needs no other file and, by its content security policy, cannot load any.

    Args:
        drawings: Drawings of one timeline for pages of different widths, the narrowest first. The browser shows the
            one that fits its window.
        title: Title of the page.
        readout: Numbers for the script, which are rounded to four digits.
    """
    # Labels come from users. With "<" escaped, no label can end the script element that holds the data.
    data = json.dumps(_rounded(dataclasses.asdict(readout)), separators=(",", ":")).replace("<", "\\u003c")
    digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    drawn = "\n".join(map(to_svg, drawings))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<style>
:root {{ color-scheme: light dark; {css_variables(LIGHT)} }}
@media screen and (prefers-color-scheme: dark) {{ :root {{ {css_variables(DARK)} }} }}
{_STYLE}{_choice(drawings)}</style>
</head>
<body>
<main>
{drawn}
<div id="readout" role="status" hidden></div>
</main>
<script type="application/json" id="data">{data}</script>
<script>{_SCRIPT}</script>
</body>
</html>
"""


def _choice(drawings: Sequence[Drawing]) -> str:
    """Returns the CSS that shows one drawing, by the width of the window or of the printed page."""
    rules = [f".{css_class(d)} {{ max-width: {_LARGEST_SCALE * d.width:g}px; }}" for d in drawings]
    for narrow, wide in pairwise(drawings):
        switch = f"{_SMALLEST_SCALE * wide.width:g}px"
        rules.append(f"@media (width >= {switch}) {{ .{css_class(narrow)} {{ display: none; }} }}")
        rules.append(f"@media (width < {switch}) {{ .{css_class(wide)} {{ display: none; }} }}")
    return "\n".join(rules) + "\n"


def _rounded(value: object) -> object:
    """Rounds all numbers in nested containers: to four digits below 1, to three decimals above."""
    match value:
        case float():
            return float(f"{value:.4g}") if abs(value) < 1 else round(value, 3)
        case dict():
            return {key: _rounded(item) for key, item in value.items()}
        case list() | tuple():
            return [_rounded(item) for item in value]
    return value


_STYLE = """\
body { margin: 0; background: var(--surface); color: var(--ink); font-family: "Noto Sans", system-ui, sans-serif; }
main { position: relative; }
svg { display: block; width: 100%; height: auto; margin: 0 auto; font-variant-numeric: tabular-nums;
  touch-action: pan-y; }
svg:focus-visible { outline: 2px solid var(--line0); outline-offset: -2px; }
#readout { position: absolute; top: 0; left: 0; pointer-events: none; padding: 8px 12px; border-radius: 8px;
  background: var(--surface); border: 1px solid var(--grid); box-shadow: 0 4px 16px rgb(0 0 0 / 0.18);
  box-sizing: border-box; max-width: 100%; font-size: 13px; line-height: 1.5; font-variant-numeric: tabular-nums; }
#readout .time, #readout .head, #readout .note { color: var(--muted); }
#readout table { border-spacing: 0; }
#readout td { padding: 0 0 0 12px; text-align: right; white-space: nowrap; }
#readout td:first-child { padding: 0; text-align: left; white-space: normal; overflow-wrap: anywhere; }
#readout td:nth-child(2) { font-weight: 600; }
#readout i { display: inline-block; width: 10px; height: 10px; border-radius: 5px; margin-right: 8px; }
@media print { #readout { display: none; } }
"""

_SCRIPT = """
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const main = document.querySelector("main"), box = document.getElementById("readout");

const clock = seconds => {
  const whole = Math.round(seconds), two = n => String(n).padStart(2, "0");
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
};
const number = value => Math.abs(value) >= 9999.5
  ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(4)));
const percentage = value => `${(100 * value).toFixed(1)}%`;
const entry = (parent, tag, text, name) => {
  const element = document.createElement(tag);
  element.textContent = text;
  if (name) element.className = name;
  return parent.appendChild(element);
};
const nearest = seconds => {
  let low = 0, high = data.groups.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (seconds - data.groups[middle].centre > data.groups[middle + 1].centre - seconds) low = middle + 1;
    else high = middle;
  }
  return low;
};

const fill = (seconds, index) => {
  const {start, end, count} = data.groups[index];
  const windows = count > 1 ? `${count} windows from ${clock(start)}` : `window ${clock(start)}`;
  box.replaceChildren();
  entry(box, "div", `${clock(seconds)}, ${windows} to ${clock(end)}`, "time");
  for (const plot of data.plots) {
    const format = plot.percent ? percentage : number, table = document.createElement("table");
    entry(box, "div", plot.heading, "head");
    box.appendChild(table);
    for (const line of plot.lines) {
      const row = entry(table, "tr", ""), label = entry(row, "td", "");
      entry(label, "i", "").style.background = `var(--${line.colour})`;
      label.append(line.label);
      entry(row, "td", format(line.mean[index]));
      if (line.low.length) entry(row, "td", `${format(line.low[index])} to ${format(line.high[index])}`);
    }
  }
  if (data.plots[0].lines[0].low.length) entry(box, "div", "mean, and lowest to highest, of these windows", "note");
};

document.querySelectorAll("main > svg").forEach((svg, drawing) => {
  const place = data.places[drawing];
  const shape = (name, attributes) => {
    const element = document.createElementNS(svg.namespaceURI, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return svg.appendChild(element);
  };
  const edges = {y: place.top, height: place.bottom - place.top};
  const span = shape("rect", {...edges, fill: "var(--ink)", "fill-opacity": 0.07});
  const cursor = shape("line", {y1: place.top, y2: place.bottom, stroke: "var(--muted)"});
  const dots = data.plots.map(plot => plot.lines.map(
    line => shape("circle", {r: 4, fill: `var(--${line.colour})`, stroke: "var(--surface)", "stroke-width": 1.5})));
  const marks = [span, cursor, ...dots.flat()];
  const at = seconds => place.x + seconds / data.duration * place.width;
  let current = 0;

  const hide = () => {
    box.hidden = true;
    for (const mark of marks) mark.style.display = "none";
  };
  const show = (seconds, index) => {
    const {start, end} = data.groups[index], x = at(seconds);
    current = index;
    box.hidden = false;
    for (const mark of marks) mark.style.display = "";
    span.setAttribute("x", at(start));
    span.setAttribute("width", at(end) - at(start));
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
    data.plots.forEach((plot, p) => plot.lines.forEach((line, l) => {
      const part = (plot.high - line.mean[index]) / (plot.high - plot.low);
      dots[p][l].setAttribute("cx", x);
      dots[p][l].setAttribute("cy", place.tops[p] + place.height * part);
    }));
    fill(seconds, index);
  };
  // Beside the point where there is room, else on its other side, and never beyond the page.
  const move = (x, y) => {
    const bounds = main.getBoundingClientRect(), left = x - bounds.left;
    const beside = left + 24 + box.offsetWidth > bounds.width ? left - 16 - box.offsetWidth : left + 16;
    box.style.left = `${Math.max(0, Math.min(beside, bounds.width - box.offsetWidth))}px`;
    box.style.top = `${y - bounds.top + 16}px`;
  };
  const scale = () => svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;

  const point = event => {
    const bounds = svg.getBoundingClientRect();
    const x = (event.clientX - bounds.left) / scale(), y = (event.clientY - bounds.top) / scale();
    const inside = x >= place.x && x <= place.x + place.width && y >= place.top && y <= place.bottom;
    if (!inside) return hide();
    const seconds = (x - place.x) / place.width * data.duration;
    show(seconds, nearest(seconds));
    move(event.clientX, event.clientY);
  };
  const go = index => {
    const clamped = Math.max(0, Math.min(index, data.groups.length - 1)), bounds = svg.getBoundingClientRect();
    show(data.groups[clamped].centre, clamped);
    move(bounds.left + at(data.groups[clamped].centre) * scale(), bounds.top + place.tops[0] * scale());
  };
  const keys = {ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity};

  hide();
  svg.tabIndex = 0;
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("pointermove", point);
  svg.addEventListener("pointerdown", point);
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", event => {
    if (event.key === "Escape") hide();
    if (!(event.key in keys)) return;
    event.preventDefault();
    go(box.hidden && Number.isFinite(keys[event.key]) ? current : current + keys[event.key]);
  });
});
"""
