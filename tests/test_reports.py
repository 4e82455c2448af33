"""Tables and figures as plain text: the same in a pipe as on a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderator.reports import text


def test_columns_stand_under_each_other() -> None:
    """Two spaces between columns, numbers to the right where asked, nothing at the end of a line."""
    rows = [("a", "1", "x"), ("日本", "1000", ""), ("e\u0301", "10", "longer")]
    assert text.table(("ID", "N", "WHAT"), rows, right=(1,)) == [
        "ID       N  WHAT",
        "a        1  x",
        "日本  1000",
        "e\u0301       10  longer",
    ]


def test_a_table_without_rows_is_its_heads() -> None:
    """There is always a first line."""
    assert text.table(("ID", "WHAT"), []) == ["ID  WHAT"]


@pytest.mark.parametrize(("shown", "columns"), [("", 0), ("abc", 3), ("日本語", 6), ("e\u0301", 1), ("─", 1)])
def test_width_is_counted_in_columns_of_a_terminal(shown: str, columns: int) -> None:
    """Wide characters take two columns, accents that combine none."""
    assert text.width(shown) == columns


@pytest.mark.parametrize(
    ("long", "most", "short"),
    [
        ("as it is", 8, "as it is"),
        ("one too long", 11, "one too lo…"),
        ("two\n\tlines ", 20, "two lines"),
        ("\x1b[31mred\x07", 20, "[31mred"),
        ("日本語です", 6, "日本…"),
    ],
)
def test_a_shortened_text_says_that_it_is(long: str, most: int, short: str) -> None:
    """What does not fit ends in an ellipsis; line breaks and control characters are blanks."""
    assert text.shortened(long, most) == short


@given(st.text(), st.integers(1, 40))
def test_a_shortened_text_is_one_line_that_fits(long: str, most: int) -> None:
    """Whatever it is given, the result is printable, in one line, and no wider than asked."""
    short = text.shortened(long, most)
    assert text.width(short) <= most
    assert short.isprintable()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "-"),
        (0, "0.0s"),
        (9.94, "9.9s"),
        (9.96, "10s"),
        (59.4, "59s"),
        (59.6, "1m 0s"),
        (200, "3m 20s"),
        (3599.9, "1h 0m"),
        (7500, "2h 5m"),
        (172799, "47h 59m"),
        (172800, "2d"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds: float | None, said: str) -> None:
    """The two units that matter, and never sixty of one."""
    assert text.duration(seconds) == said


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1 << 20, "1.0 MiB"), (5 << 30, "5.0 GiB"), (3 << 40, "3.0 TiB")],
)
def test_sizes_are_said_as_people_say_them(count: int, said: str) -> None:
    """In the unit that keeps the number small."""
    assert text.size(count) == said


@pytest.mark.parametrize(("number", "said"), [(0, "0 files"), (1, "1 file"), (2, "2 files")])
def test_one_thing_is_not_many(number: int, said: str) -> None:
    """The noun is in the plural where there is not one."""
    assert text.counted(number, "file") == said
