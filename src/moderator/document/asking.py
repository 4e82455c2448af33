"""What a reader of a document asks of a node: a text, a word, true or false; or a complaint that it is none.

Must not know what any key means.
"""

from __future__ import annotations

from collections.abc import Sequence

from moderator.document.nodes import ListNode, MappingNode, Node, ScalarNode, plain_value
from moderator.document.wording import Complaints, listed, mismatch


def text_of(node: Node, name: str, complaints: Complaints, may_be_blank: bool = False) -> str | None:
    """Return a text as it is written, or None after complaining."""
    if isinstance(node, ScalarNode) and (node.text.strip() or (may_be_blank and not node.plain)):
        return node.text
    complain_of(node, name, "text", complaints)
    return None


def texts_of(node: ListNode, name: str, complaints: Complaints) -> list[str]:
    """Return the texts of a list; what is none is complained of, and is an empty one."""
    return [text_of(item, name, complaints, may_be_blank=True) or "" for item in node.items]


def complain_of(node: Node, name: str, wanted: str, complaints: Complaints, kind: type | None = None) -> None:
    """Complain that a node is not what was wanted."""
    advice = "; put a text that holds ': ' in quotes" if wanted == "text" and isinstance(node, MappingNode) else ""
    complaints.add(mismatch(name, wanted, plain_value(node), kind) + advice, node)


def flag_of(node: Node, name: str, complaints: Complaints) -> bool | None:
    """Return true or false, or None after complaining."""
    value = plain_value(node)
    if isinstance(value, bool):
        return value
    complain_of(node, name, "true or false", complaints, bool)
    return None


def choice_of(node: Node, name: str, complaints: Complaints, choices: Sequence[str]) -> str | None:
    """Return one of the words, written in any case, or None after complaining."""
    value = plain_value(node)
    if isinstance(value, str) and value.lower() in choices:
        return value.lower()
    complain_of(node, name, f"one of {listed(choices)}", complaints)
    return None
