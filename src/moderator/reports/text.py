"""Tables and figures as plain text.

Must not know the terminal: what it returns is the same in a pipe.  Colours are the printer's.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Return lines of columns two spaces apart; the columns in `right` are aligned to the right."""
    columns = Columns([heads, *rows], right)
    return [columns.line(row) for row in (heads, *rows)]


class Columns:
    """Columns that are wide enough for the lines that are known; one that comes later may stick out."""

    def __init__(self, lines: Sequence[Sequence[str]], right: Sequence[int] = ()) -> None:
        self._widths = [max(map(width, column)) for column in zip(*lines, strict=True)]
        self._right = right

    def line(self, cells: Sequence[str]) -> str:
        """Return the cells as one line, two spaces apart."""
        last = len(cells) - 1
        padded = (_padded(cell, self._widths[n], n in self._right, n == last) for n, cell in enumerate(cells))
        return "  ".join(padded).rstrip()


def width(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def _padded(cell: str, wanted: int, right: bool, last: bool) -> str:
    space = " " * (wanted - width(cell))
    if right:
        return space + cell
    return cell if last else cell + space


def one_line(text: str) -> str:
    """Return a text that others wrote as a terminal can take it: in one line, nothing in it that would control it."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def some(names: Sequence[str], most: int = 3) -> str:
    """Return the first of some names, and how many there are beside these."""
    listed = ", ".join(names[:most])
    return listed if len(names) <= most else f"{listed} and {len(names) - most} more"


def shortened(text: str, most: int) -> str:
    """Return a text in one line of at most `most` columns, with an ellipsis where something is left out."""
    line = one_line(text)
    if width(line) <= most:
        return line
    kept = ""
    for char in line:
        if width(kept + char) > most - 1:
            break
        kept += char
    return kept + "…"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural where there is not one."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def changed(files: int, added: int, removed: int) -> str:
    """Return how much differs, as people say it."""
    return f"{counted(files, 'file')} +{added} -{removed}"


def cost(dollars: float | None) -> str:
    """Return a sum of US dollars: $0.042, $1.20."""
    if dollars is None:
        return "-"
    return f"${dollars:.3f}" if dollars < 1 else f"${dollars:,.2f}"


def duration(seconds: float | None) -> str:
    """Return a length of time as people say it: 0.4s, 12s, 3m 20s, 2h 5m, 3d."""
    if seconds is None:
        return "-"
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest}s"
    if minutes < 60:
        return f"{minutes}m {rest}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}h {minutes}m"
    return f"{hours // 24}d"


def size(count: int) -> str:
    """Return a number of bytes as people say it."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
