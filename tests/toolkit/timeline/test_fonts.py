from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import ImageFont

from vis4mer.timeline import fonts
from vis4mer.timeline.fonts import font_for, text_width

ARMENIAN = "Հայերեն"  # in DejaVu Sans, not in Noto Sans


@pytest.fixture(autouse=True)
def _fresh_choice() -> Iterator[None]:
    """Forgets the fonts that were found for earlier texts, and afterwards those of this test."""
    fonts._font_file.cache_clear()
    yield
    fonts._font_file.cache_clear()


def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Makes `script` the machine's only fc-match."""
    program = tmp_path / "fc-match"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.parametrize(
    "text",
    [
        "movie.mp4 (2024) [x264] {a} <b> & 'c' \"d\"",
        "Größe, Übermut, Straße",
        "à l'ancienne – «Cœur» … naïve",
        "Zażółć gęślą jaźń, Łódź, český, İstanbul, Việt Nam",
        "Ελληνικά Русский Українська",
        "12 € − 5 ± 1 × ½",
        "decomposed: u\u0308",
    ],
)
@pytest.mark.parametrize("bold", [False, True])
def test_european_text_is_set_in_one_font_on_any_machine(
    text: str, bold: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    assert font_for(text, 13, bold).getname() == ("Noto Sans", "SemiBold" if bold else "Regular")
    assert not fonts._missing(*fonts._font_file("".join(set(text)), bold), text)


def test_other_scripts_are_set_in_a_font_of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    dejavu = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    install(tmp_path, monkeypatch, f"echo \"$2\" > {tmp_path}/asked; printf '%s\\n%s' '{dejavu}' 65536")
    assert font_for(f"{ARMENIAN} (1953).mp4", 13).getname()[0] == "DejaVu Sans"
    pattern = (tmp_path / "asked").read_text()
    assert set(pattern.partition("charset=")[2].split()) == {f"{ord(letter):x}" for letter in ARMENIAN}
    assert text_width(ARMENIAN, 13) == pytest.approx(ImageFont.truetype(dejavu, 100).getlength(ARMENIAN) * 0.13)


@pytest.mark.parametrize(
    "script",
    [
        "exit 1",
        "printf '/nowhere/font.ttf\\n0'",
        f"printf '{Path(__file__)}\\n0'",  # not a font
        f"printf '{fonts._FOLDER / 'NotoSans-Regular.ttf'}\\n0'",  # which has none of the letters either
        "printf ''",
    ],
)
def test_letters_that_no_font_has_are_boxes(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, script)
    font = font_for("東京 (1953)", 13)
    assert font.getname() == ("Noto Sans", "Regular")
    box = font.getmask("\U0010ffff")
    assert box.getbbox() is not None
    assert bytes(font.getmask("東")) == bytes(box)


def test_a_machine_without_fontconfig_draws_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert font_for("東京", 13).getname() == ("Noto Sans", "Regular")
    assert text_width("東京", 13) > 0


def test_widths_are_those_of_the_drawn_text() -> None:
    for text in ("returns 88.1%", "Größe (Łódź)"):
        for size in (13, 52, 96):
            assert text_width(text, size) == pytest.approx(font_for(text, size).getlength(text), rel=0.02)
