"""Texts with placeholders such as `{workspace}`: which they hold, what is wrong with one, and filling it in.

A placeholder is a name in braces and nothing else: no attributes, indexes or formats, so that a text from a configuration
file reaches no object's insides.  `{{` and `}}` are braces.  Must not know what any name stands for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

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
