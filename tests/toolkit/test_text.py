import pytest

from vis4mer.text import clock, printable


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
def test_what_is_shown_cannot_act(text: str, shown: str) -> None:
    assert printable(text) == shown
