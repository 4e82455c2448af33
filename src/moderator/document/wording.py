"""How a complaint about something written by hand sounds: what is wrong, what was found, what to write.

One place, so that settings and task lists speak alike.  Must not know what any key means.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from moderator.document.nodes import ListNode, MappingNode, Node, Place, plain_value, scalar_value

LONGEST_QUOTE = 60
"""Characters of somebody's text that a message repeats."""

_TRUE_WORDS = frozenset(("yes", "y", "on", "true", "1"))
_FALSE_WORDS = frozenset(("no", "n", "off", "false", "0"))


class Complaints:
    """Everything that is wrong with one document, in the order of its lines."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._found: list[tuple[int, int, str]] = []

    def add(self, sentence: str, at: Node | Place | None = None) -> None:
        """Note a complaint; without a place it is about the whole document."""
        place = at.place if isinstance(at, Node) else at
        self._found.append((place.line, place.column, sentence) if place else (0, 0, sentence))

    def sentences(self) -> list[str]:
        """Return each complaint once, as `source:line:column: sentence`."""
        ordered = sorted(dict.fromkeys(self._found), key=lambda found: found[:2])
        return [
            f"{self.source}:{line}:{column}: {text}" if line else f"{self.source}: {text}"
            for line, column, text in ordered
        ]

    def __len__(self) -> int:
        return len(self._found)


def shown(value: object) -> str:
    """Return a value as a sentence can hold it: `the text '4'`, `4`, `a list`."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the text {quoted(value)}"
    if isinstance(value, (int, float)):
        return _shortened(repr(value))
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    return f"a value of type {type(value).__name__}"


def shown_node(node: Node) -> str:
    """Return what stands in the document as a sentence can hold it."""
    if isinstance(node, ListNode):
        return "a list"
    return "a mapping" if isinstance(node, MappingNode) else shown(plain_value(node))


def quoted(text: str) -> str:
    return repr(_shortened(text))


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_QUOTE else text[: LONGEST_QUOTE - 3] + "..."


def mismatch(name: str, wanted: str, value: Any, kind: type | None = None) -> str:
    """Return the sentence for a value that is not what was wanted, with advice if the reason can be guessed.

    >>> mismatch("max_workers", "a whole number", "010", int)
    "max_workers must be a whole number, not the text '010'; a number does not begin with 0"
    """
    if value is None:
        return f"{name} has no value; it must be {wanted}"
    if isinstance(value, str) and not value.strip():
        return f"{name} is empty; it must be {wanted}"
    return f"{name} must be {wanted}, not {shown(value)}{_advice(value, kind)}"


def _advice(value: Any, kind: type | None) -> str:
    if kind is str and isinstance(value, (bool, int, float)):
        return "; put it in quotes"
    if not isinstance(value, str):
        return ""
    text = value.strip()
    if kind in (int, float):
        meant = scalar_value(text)
        if isinstance(meant, (int, float)) and not isinstance(meant, bool):
            return "; write it without quotes"
        bare = text.lstrip("0")
        if bare != text and isinstance(scalar_value(bare or "0"), (int, float)):
            return "; a number does not begin with 0"
    if kind is bool and text.lower() in _TRUE_WORDS | _FALSE_WORDS:
        word = "true" if text.lower() in _TRUE_WORDS else "false"
        return f"; write {word}" + (" without quotes" if text == word else "")
    return ""


def unknown_key(key: str, section: str, known: Iterable[str]) -> str:
    """Return the sentence for a key that nobody reads; `section` is "" at the top of the document."""
    place = f" in '{section}'" if section else ""
    known = list(known)
    return f"unknown key {quoted(key)}{place}{did_you_mean(key, known, f'; known here: {listed(known)}')}"


def did_you_mean(word: str, known: Iterable[str], otherwise: str) -> str:
    """Return the end of a sentence that names the nearest of the known words; `otherwise` if none is near."""
    import difflib  # here, because it is slow to import and seldom needed

    folded = {name.lower().replace("-", "_"): name for name in known}
    near = difflib.get_close_matches(word[:LONGEST_QUOTE].lower().replace("-", "_"), folded, n=1)
    return f"; did you mean '{folded[near[0]]}'?" if near else otherwise


def listed(words: Iterable[str]) -> str:
    return ", ".join(f"'{word}'" for word in words)
