"""A YAML file as a tree that knows where everything stands, and the sentences to complain with.

Settings and task lists are both written by hand, so both are read here, strictly: what YAML would pass over
in silence (a key given twice, `no` turning into false) is refused or kept as it is written.
Must not know what the files are about, nor which exception their readers raise.
"""

from __future__ import annotations

from moderator.document.asking import choice_of, complain_of, flag_of, text_of, texts_of
from moderator.document.nodes import ListNode, MappingNode, Node, Place, ScalarNode, is_null, plain_value
from moderator.document.reading import Document, read_document
from moderator.document.wording import (
    Complaints,
    did_you_mean,
    listed,
    mismatch,
    quoted,
    shown,
    shown_node,
    unknown_key,
)
from moderator.document.writing import flow
from moderator.opening import opened

__all__ = [
    "Complaints",
    "Document",
    "ListNode",
    "MappingNode",
    "Node",
    "Place",
    "ScalarNode",
    "choice_of",
    "complain_of",
    "did_you_mean",
    "flag_of",
    "flow",
    "is_null",
    "listed",
    "mismatch",
    "opened",
    "plain_value",
    "quoted",
    "read_document",
    "shown",
    "shown_node",
    "text_of",
    "texts_of",
    "unknown_key",
]
