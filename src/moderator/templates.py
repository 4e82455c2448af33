"""Texts with placeholders such as `{workspace}`: which they hold, what is wrong with one, and filling it in.

A placeholder is a name in braces and nothing else: no attributes, indexes or formats, so that a text from a configuration
file reaches no object's insides.  `{{` and `}}` are braces.  Must not know what any name stands for.

Files that are filled in have their own marks, `${MODERATOR_PORT}` and, with what stands there where there is no value,
`${MODERATOR_PORT:-3000}`: such files are full of braces and of variables of their own, and nothing else in them is touched, nor
has to be written in another way.  A `$` or a backslash in front of a mark makes it text, as in the languages that such files are
written in.  They are bytes: of any encoding, with any line ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from moderator.document import did_you_mean, listed, quoted

_PARTS = r"\{\{|\}\}|\{([^{}]*)\}|[{}]"
"""An escaped brace, a placeholder, or a brace that stands alone."""


def names_in(template: str) -> set[str]:
    """Return the names of a template's placeholders."""
    return {found[1] for found in re.finditer(_PARTS, template) if found[1] is not None}


def faults_of(template: str, known: Iterable[str]) -> list[str]:
    """Return a sentence for everything that is wrong with a template whose placeholders may have these names."""
    known = list(known)
    faults = []
    for found in re.finditer(_PARTS, template):
        if found[0] in ("{", "}"):
            faults.append(f"a {found[0]!r} stands alone; write {found[0] * 2!r} for the character itself")
        elif found[1] is not None and found[1] not in known:
            near = did_you_mean(found[1], known, f"; known here: {listed(known)}")
            faults.append(f"no placeholder is called {quoted(found[1])}{near}")
    return list(dict.fromkeys(faults))


def fill(template: str, values: Mapping[str, str]) -> str:
    """Return the template with every placeholder replaced by its value; what a value holds is not looked at again.

    >>> fill("{{}} {name}", {"name": "{other}"})
    '{} {other}'
    """

    def part(found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0][0]
        return values[found[1]]

    return re.sub(_PARTS, part, template)


def fill_some(template: str, values: Mapping[str, str]) -> str:
    """Return the template with the placeholders of these names filled in; it is a template still, and a value's braces braces.

    >>> fill_some("{{}} {name} {other}", {"name": "{other}"})
    '{{}} {{other}} {other}'
    """

    def part(found: re.Match[str]) -> str:
        if found[1] not in values:
            return found[0]
        return values[found[1]].replace("{", "{{").replace("}", "}}")

    return re.sub(_PARTS, part, template)


_MARK = rb"(?<![$\\])\$\{(MODERATOR_)(?:([A-Za-z0-9_]*)(?:(:?-)([^{}\r\n]*))?\})?"


class Mark(NamedTuple):
    """A mark in a file.  `name` is "" for one that cannot be read, `otherwise` is what stands in for a value that is not there."""

    line: int
    name: str
    otherwise: bytes | None


def marks_in(content: bytes) -> Iterator[Mark]:
    """Yield the marks of a file, in their order."""
    line, counted = 1, 0
    for found in re.finditer(_MARK, content):
        line += content.count(b"\n", counted, found.start())
        counted = found.start()
        yield Mark(line, (found[1] + found[2]).decode() if found[2] else "", found[4])


def fill_marks(content: bytes, values: Mapping[str, bytes]) -> bytes:
    """Return a file with every mark replaced by its value; behind `:-` stands what an empty value gives way to.

    >>> fill_marks(b"${HOME} ${MODERATOR_A} ${MODERATOR_B:-3} $${MODERATOR_A}", {"MODERATOR_A": b"1"})
    b'${HOME} 1 3 $${MODERATOR_A}'
    """

    def part(found: re.Match[bytes]) -> bytes:
        value = values.get((found[1] + found[2]).decode())
        if found[4] is not None and (value is None or (not value and found[3] == b":-")):
            return found[4]
        assert value is not None
        return value

    return re.sub(_MARK, part, content)
