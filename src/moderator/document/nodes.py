"""The tree of a document: what was written, where, and which value an unquoted text stands for.

Must not know YAML's syntax: the tree is all that is left of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

# Compiled (and kept by `re`) when there is a file to read, not when every command starts.
_WHOLE = r"[-+]?(0|[1-9][0-9]{0,299})"
_FLOATING = r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?"
_UNBOUNDED = r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
_WORDS = {
    "": None,
    "~": None,
    **dict.fromkeys(("null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


class Place(NamedTuple):
    """A line and a column, both counted from 1 as editors do."""

    line: int
    column: int


@dataclass(frozen=True, eq=False)  # nodes are told apart, never compared; it imports three times faster
class Node:
    """A part of a document.  `size` is how many nodes it is, aliases written out."""

    place: Place
    size: int


@dataclass(frozen=True, eq=False)
class ScalarNode(Node):
    """A text as it was written, quotes and escapes resolved.  `plain` says that it was not quoted."""

    text: str
    plain: bool

    @property
    def value(self) -> str | int | float | bool | None:
        """What the text stands for: the core schema of YAML 1.2 (yaml.org/spec/1.2.2, 10.3.2), decimal only.

        `no`, `on`, `12:30`, `2024-01-01`, `1_000`, `0x1F` and `010` are text; so is everything in quotes.
        """
        return scalar_value(self.text) if self.plain else self.text


@dataclass(frozen=True, eq=False)
class ListNode(Node):
    items: tuple[Node, ...]


@dataclass(frozen=True, eq=False)
class MappingNode(Node):
    """`entries` has each key's text with the key's own node and its value, in the order of the file."""

    entries: Mapping[str, tuple[ScalarNode, Node]]

    def get(self, key: str) -> Node | None:
        return self.entries[key][1] if key in self.entries else None


def scalar_value(text: str) -> str | int | float | bool | None:
    """Return what an unquoted text stands for."""
    if text in _WORDS:
        return _WORDS[text]
    if re.fullmatch(_WHOLE, text):
        return int(text)
    if re.fullmatch(_FLOATING, text):
        return float(text)
    if re.fullmatch(_UNBOUNDED, text):
        return float(text.replace(".", ""))
    return text


def plain_value(node: Node | None) -> Any:
    """Return the tree as dictionaries, lists and values; the size of the tree is bounded, so is this."""
    match node:
        case ScalarNode():
            return node.value
        case ListNode():
            return [plain_value(item) for item in node.items]
        case MappingNode():
            return {key: plain_value(value) for key, (_, value) in node.entries.items()}
    return None


def is_null(node: Node | None) -> bool:
    """Say whether there is nothing: no node, or an unquoted null, `~` or blank."""
    return node is None or (isinstance(node, ScalarNode) and node.value is None)
