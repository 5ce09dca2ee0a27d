"""Fonts of the PNG: Noto Sans, which this package contains, and the system's fonts for the letters that it lacks."""

import contextlib
import functools
import subprocess
from pathlib import Path

from PIL import ImageFont

_FOLDER = Path(__file__).parent / "noto_sans"
_MEASURED_SIZE = 100  # widths are proportional to the size, because the fonts are not hinted
_MATCH_SECONDS = 5.0

# No font has a glyph for this code point, which is not a character.
_NO_CHARACTER = "\U0010ffff"


def font_for(text: str, size: float, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Returns the font to draw a text in.

    It is the package's own, unless a font of the system has more of the text's letters. A letter that neither has is
    drawn as an empty box.

    Args:
        text: Text of one line.
        size: Font size, in pixels.
        bold: Whether the text is set in semi-bold.
    """
    file, index = _font_file("".join(sorted(set(text))), bold)
    return _open(file, index, size)


def text_width(text: str, size: float, bold: bool = False) -> float:
    """Returns the width of a text as `font_for` sets it, in the unit of `size`."""
    return float(font_for(text, _MEASURED_SIZE, bold).getlength(text)) * size / _MEASURED_SIZE


@functools.lru_cache(maxsize=1024)
def _font_file(characters: str, bold: bool) -> tuple[Path, int]:
    """Returns the file of the font that has the most of some characters, and the font's index in the file."""
    own = _FOLDER / f"NotoSans-{'SemiBold' if bold else 'Regular'}.ttf", 0
    missing = _missing(*own, characters)
    if missing and (other := _system_font(missing, bold)):
        with contextlib.suppress(OSError):  # fonts of bitmaps have few sizes
            if len(_missing(*other, characters)) < len(missing):
                return other
    return own


@functools.lru_cache(maxsize=32)
def _open(file: Path, index: int, size: float) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(file, size, index)


def _missing(file: Path, index: int, characters: str) -> str:
    """Returns the characters that a font has no glyph for.

    Pillow offers no access to a font's character map, so a glyph is compared with the one for missing characters.
    """
    font = _open(file, index, _MEASURED_SIZE)
    box = _glyph(font, _NO_CHARACTER)
    return "".join(c for c in characters if not c.isspace() and _glyph(font, c) == box)


def _glyph(font: ImageFont.FreeTypeFont, character: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(character)
    return mask.size, bytes(mask)


def _system_font(characters: str, bold: bool) -> tuple[Path, int] | None:
    """Returns the file and index of the font that fontconfig prefers for some characters.

    The font need not have them, because fontconfig returns its default font if none has. The result is None on a
    machine without fontconfig.
    """
    charset = " ".join(f"{ord(character):x}" for character in characters)
    pattern = f"sans-serif:weight={180 if bold else 80}:charset={charset}"
    command = ["fc-match", "--format=%{file}\n%{index}", pattern]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=_MATCH_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    file, _, index = result.stdout.partition("\n")
    # The upper 16 bits choose an instance of a variable font.
    return Path(file), int(index or 0) & 0xFFFF
