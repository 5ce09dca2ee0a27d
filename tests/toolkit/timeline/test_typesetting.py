import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vis4mer.timeline.fonts import text_width
from vis4mer.timeline.typesetting import estimated_width, fit, wrap, wrap_name


def per_letter(text: str, size: float, bold: bool = False) -> float:
    """Every letter is as wide as half the font size, in bold as wide as the size."""
    return len(text) * size * (1.0 if bold else 0.5)


names = st.text(st.sampled_from("abc déß長 ."), max_size=80)


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("short.mp4", 500, "short.mp4"),
        ("a" * 20 + "b" * 20, 5 * 15, "aaaaaaaa...bbbb"),
        ("exactly", 5 * 7, "exactly"),
        ("abcdef", 0, "ab...f"),
        ("abcd", 0, "ab...d"),
    ],
)
def test_text_that_is_too_wide_is_shortened_in_its_middle(text: str, width: float, shown: str) -> None:
    assert fit(text, width, 10, per_letter) == shown


@given(names, st.integers(30, 400))
@settings(deadline=None)
def test_shortened_text_fits_and_keeps_as_much_as_fits(text: str, width: int) -> None:
    shown = fit(text, width, 10, per_letter)
    assert per_letter(shown, 10) <= width
    if shown != text:
        assert per_letter(shown, 10) > width - 10, "one more letter would not fit"


@given(names, st.integers(10, 400))
@settings(deadline=None)
def test_lines_hold_the_whole_text_and_fit(text: str, width: int) -> None:
    lines = wrap(text, width, 10, per_letter)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(per_letter(line, 10) <= width for line in lines)


def test_lines_break_between_words_and_inside_of_long_ones() -> None:
    assert wrap("one two three", 5 * 8, 10, per_letter) == ["one two", "three"]
    assert wrap("one abcdefghijkl two", 5 * 8, 10, per_letter) == ["one", "abcdefgh", "ijkl two"]
    assert wrap("one two", 5 * 8, 10, lambda *args: per_letter(args[0], args[1], True)) == ["one", "two"]
    assert wrap("", 40, 10, per_letter) == [""]


@given(names, st.integers(60, 400))
@settings(deadline=None)
def test_a_name_has_two_lines_at_most_and_its_end(text: str, width: int) -> None:
    text = text.strip() or "x"
    lines = wrap_name(text, width, 10, per_letter)
    assert len(lines) <= 2
    assert all(per_letter(line, 10) <= width for line in lines)
    assert lines[-1].endswith(text[-1])
    if per_letter(text, 10) <= width:
        assert lines == wrap(text, width, 10, per_letter)


def test_a_name_of_long_words_keeps_its_end() -> None:
    # The first line has room for one word only, and most of it is empty.
    text = "short longer-than-all-others and-its-end"
    assert wrap_name(text, 5 * 20, 10, per_letter) == ["short", "longer-tha...its-end"]


@pytest.mark.parametrize("bold", [False, True])
def test_the_estimate_for_a_page_is_wider_than_our_font(bold: bool) -> None:
    for text in ("comedy 45.2%", "Dokumentarfilm (Österreich)"):
        assert 1.05 < estimated_width(text, 13, bold) / text_width(text, 13, bold) < 1.25
    assert estimated_width("東京", 13) == 26
