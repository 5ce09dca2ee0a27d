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
    missing = _missing(_bundled(_MEASURED_SIZE, bold), text)
    if missing:
        file, index = _system_font("".join(sorted(missing)), bold)
        with contextlib.suppress(OSError):  # fonts of bitmaps have few sizes
            if file and len(_missing(ImageFont.truetype(file, _MEASURED_SIZE, index), text)) < len(missing):
                return ImageFont.truetype(file, size, index)
    return _bundled(size, bold)


def text_width(text: str, size: float, bold: bool = False) -> float:
    """Returns the width of a text as `font_for` sets it, in the unit of `size`."""
    return float(font_for(text, _MEASURED_SIZE, bold).getlength(text)) * size / _MEASURED_SIZE


@functools.lru_cache(maxsize=32)
def _bundled(size: float, bold: bool) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(_FOLDER / f"NotoSans-{'SemiBold' if bold else 'Regular'}.ttf", size)


def _missing(font: ImageFont.FreeTypeFont, text: str) -> set[str]:
    """Returns the characters that a font has no glyph for.

    Pillow offers no access to a font's character map, so a glyph is compared with the one for missing characters.
    """
    box = _glyph(font, _NO_CHARACTER)
    return {character for character in set(text) if not character.isspace() and _glyph(font, character) == box}


def _glyph(font: ImageFont.FreeTypeFont, character: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(character)
    return mask.size, bytes(mask)


@functools.lru_cache(maxsize=256)
def _system_font(characters: str, bold: bool) -> tuple[str, int]:
    """Returns the file, and the index in it, of the font that fontconfig prefers for some characters.

    The file is empty on a machine without fontconfig. The font need not have the characters: fontconfig returns its
    default font if none has them.
    """
    charset = " ".join(f"{ord(character):x}" for character in characters)
    pattern = f"sans-serif:weight={180 if bold else 80}:charset={charset}"
    command = ["fc-match", "--format=%{file}\n%{index}", pattern]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=_MATCH_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return "", 0
    file, _, index = result.stdout.partition("\n")
    # The upper 16 bits choose an instance of a variable font.
    return file, int(index or 0) & 0xFFFF
