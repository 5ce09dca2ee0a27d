"""Turns LaTeX into MathML while the site is built, so equations need no script and no font from elsewhere."""

import re
from html import unescape

from latex2mathml.converter import convert

# Output of the extension pymdownx.arithmatex in its generic mode.
_INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
_DISPLAY = re.compile(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', re.DOTALL)


def render(html: str) -> str:
    """Replaces every equation of a page with MathML."""
    html = _DISPLAY.sub(lambda match: f'<div class="vb-equation">{_mathml(match[1], "block")}</div>', html)
    return _INLINE.sub(lambda match: _mathml(match[1], "inline"), html)


def _mathml(latex: str, display: str) -> str:
    return convert(unescape(latex).strip(), display=display)
