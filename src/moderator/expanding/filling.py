"""Values in the commands and texts of a task: `{item}` is the value, `{{item}}` the text `{item}`.

In a text that is written in a language of its own (a shell line, a prompt) only the names that are known are placeholders, for
such texts are full of braces; everywhere else every brace counts, as in `templates`.  In a shell line a value is quoted, and
so it may stand only where the shell reads a quoted word as one: not in quotes, comments or here-documents.  What is not plainly
such a place is refused: the same value is in the environment, whatever it holds.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping

Values = Mapping[str, str]

ITEM = "item"
"""The placeholder for what `foreach` names."""

# What makes it uncertain how a shell reads all that follows.
_UNCERTAIN = r"`|<<|\$'|\$\"|\$\[|\(\(|\$\{(?!\w+\})"
_IN_DOUBLE = r"`|\$\(|\$\[|\$\{(?!\w+\})"
_IN_QUOTES = "inside quotes"
_IN_COMMENT = "in a comment"
OUR_VARIABLES = ("MODERATOR_ITEM", "MODERATOR_MATRIX_")
"""How the names of all the variables begin that hold values: what a task inherits of another one's is not its own."""


def variable_of(name: str) -> str:
    """Return the environment variable that has the value of a name.

    >>> variable_of("item"), variable_of("py-version")
    ('MODERATOR_ITEM', 'MODERATOR_MATRIX_PY_VERSION')
    """
    return "MODERATOR_ITEM" if name == ITEM else f"MODERATOR_MATRIX_{name.upper().replace('-', '_')}"


def fill_known(text: str, values: Values, quote: Callable[[str], str] = str) -> str:
    """Return a text with the placeholders of known names filled in; every other brace stays."""

    def part(found: re.Match[str]) -> str:
        return found[0][1:-1] if found["escaped"] else quote(values[found["name"]])

    return re.sub(_known(values), part, text) if values else text


def fill_line(line: str, values: Values) -> str:
    """Return a shell line with every value filled in as one word of the shell, or one part of a word.

    >>> fill_line("wc -l -- {item} > ${out}", {"item": "it's.txt"})
    'wc -l -- \\'it\\'"\\'"\\'s.txt\\' > ${out}'
    """
    return fill_known(line, values, shlex.quote)


def misplaced_in(line: str, names: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield each placeholder of a shell line that stands where no value can be filled in, and what it stands in."""
    if not names:
        return
    placeholder = re.compile(_known(names))
    quote, comment, lost = "", False, ""
    at = 0
    while at < len(line):
        char = line[at]
        found = placeholder.match(line, at)
        if found:
            if not found["escaped"] and (lost or comment or quote):
                yield found["name"], lost or (_IN_COMMENT if comment else _IN_QUOTES)
            at = found.end()
            continue
        if lost:
            at += 1
            continue
        if comment:
            comment = char != "\n"
        elif quote == "'":
            quote = "" if char == "'" else quote
        elif char == "\\":
            at += 1
        elif sign := _uncertain(line, at, quote):
            lost = f"behind {sign!r}, where it is uncertain how the shell reads it"
        elif char == '"':
            quote = "" if quote else '"'
        elif char == "'" and not quote:
            quote = "'"
        elif char == "#" and not quote and (at == 0 or line[at - 1] in " \t\n;&|()<>"):
            if line[at - 2 : at] == "\\\n":  # it goes on with the word of the line before
                lost = "behind a '#', where it is uncertain how the shell reads it"
            comment = not lost
        at += 1


def _uncertain(line: str, at: int, quote: str) -> str:
    """Return what begins here and makes it uncertain how a shell reads what follows, "" if nothing does."""
    found = re.compile(_IN_DOUBLE if quote else _UNCERTAIN).match(line, at)
    return found[0] if found else ""


def _known(names: Collection[str]) -> str:
    either = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    return rf"(?P<escaped>\{{\{{(?:{either})\}}\}})|(?<![$\\{{])\{{(?P<name>{either})\}}"
