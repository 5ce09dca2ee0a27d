import pytest

from vis4mer.text import clock, first_line, printable, shorten


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00"),
        (9.4, "0:09"),
        (59.5, "1:00"),
        (60, "1:00"),
        (3599.4, "59:59"),
        (3600, "1:00:00"),
        (36061, "10:01:01"),
    ],
)
def test_a_clock_has_hours_only_where_needed(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain [b]name[/b].mp4", "plain [b]name[/b].mp4"),
        ("Ménage à trois – 東京", "Ménage à trois – 東京"),
        ("a\nb\tc\x1b[2J\x7f", "a\\nb\\tc\\x1b[2J\\x7f"),
        ("\u202egpj.exe\u200b", "\\u202egpj.exe\\u200b"),
        (b"\xff.mp4".decode(errors="surrogateescape"), "\\udcff.mp4"),
    ],
)
def test_printable_text_cannot_act_on_a_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("message", "line"),
    [("no such file", "no such file"), ("\n  the cause\nits trace", "the cause"), ("", "OSError"), (" \n", "OSError")],
)
def test_the_first_line_of_an_error_is_never_empty(message: str, line: str) -> None:
    assert first_line(OSError(message)) == line


def test_the_first_line_of_an_error_is_short_enough_to_quote() -> None:
    assert first_line(OSError("a" * 300)) == "a" * 300
    assert first_line(OSError("a" * 301)) == "a" * 296 + " ..."


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("exactly", 7, "exactly"),
        ("a" * 20 + "b" * 20, 15, "aaaaaaaa...bbbb"),
        ("abcdefgh", 7, "abc...h"),
        ("abcdefgh", 0, "ab...h"),
    ],
)
def test_text_that_is_too_wide_is_cut_in_its_middle(text: str, width: int, shown: str) -> None:
    assert shorten(text, lambda line: len(line) <= width) == shown
