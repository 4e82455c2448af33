"""From YAML text to a tree, strictly, in bounded memory.

PyYAML's events are read rather than its nodes: they come one by one, so that depth and aliases can be bounded
before anything is built, and so that everything keeps its place.  This module alone imports yaml, and is
itself imported only when there is a file to read.  Must not know files, nor what any key means.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NoReturn

import yaml

from moderator.document.nodes import ListNode, MappingNode, Node, Place, ScalarNode, scalar_value
from moderator.document.wording import Complaints, quoted, shown_node

MOST_ALIASED_NODES = 10_000
"""What all aliases of a document may add up to: far beyond any honest file, far below a "billion laughs"."""
DEEPEST = 64
"""Levels of nesting."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_CORE = "tag:yaml.org,2002:"
_SCALAR_TAGS: dict[str, tuple[type, ...]] = {
    "null": (type(None),),
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
}

# The parser's words, in part, and ours.  The C and the Python parser differ in detail, but not in these.
_TRANSLATIONS = (
    ("cannot start any token", "{character} cannot begin a value here; put the text in quotes"),
    (
        "mapping values are not allowed",
        "no key can stand here; check the indentation, and put a text that holds ': ' in quotes",
    ),
    ("expected alphabetic or numeric", "a text that begins with '*' or '&' must be in quotes"),
    ("undefined tag handle", "a text that begins with '!' must be in quotes"),
    ("unknown escape character", "this escape is unknown; write a backslash twice, or use single quotes"),
    ("Unicode character escape", "this escape stands for no character; write another"),
    ("could not find expected ':'", "this line is no 'key: value'; check it, and the quotes before it"),
    ("',' or ']'", "a list that began with '[' goes on here without ',' or ']'; close it"),
    ("',' or '}'", "a mapping that began with '{{' goes on here without ',' or '}}'; close it"),
    ("node content", "a value is missing here; check the brackets, and quote a text that begins with one"),
    ("expected key", "this does not fit what stands before it; check the indentation and the quotes"),
    ("block end", "this does not fit what stands before it; check the indentation and the quotes"),
    ("expected '-' indicator", "this does not fit the list before it; check the indentation"),
)


class _UnusableError(Exception):
    """The rest of the document cannot be understood; the complaint is made already."""


def parse_document(text: str, complaints: Complaints, loader: Any = None) -> Node | None:
    """Return the tree of a YAML text, or None if there is nothing in it or it is not usable.

    What is wrong goes to `complaints`; after some complaints (a key given twice) the tree is returned all the
    same, so that its other faults can be found too.  `loader` is the parser: PyYAML's own in C if there is one.
    """
    loader = loader or getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _Composer(iter(yaml.parse(text, Loader=loader)), complaints).document()
    except _UnusableError:
        return None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # the last two: the Python parser's chr()
        if "nesting depth" in str(error) and loader is not yaml.SafeLoader:
            # The C parser looks far ahead and stops at a depth of its own; the other comes to ours first, and says where.
            return parse_document(text, complaints, yaml.SafeLoader)
        _complain_of_syntax(error, text, complaints)
        return None


def _complain_of_syntax(error: Exception, text: str, complaints: Complaints) -> None:
    problem = getattr(error, "problem", None) or str(error)
    mark = getattr(error, "problem_mark", None)
    if "unexpected end of stream" in problem and "quoted" in (getattr(error, "context", "") or ""):
        complaints.add("a quote opens here and is never closed; close it", _place(getattr(error, "context_mark", mark)))
        return
    character = text[mark.index : mark.index + 1] if mark is not None else ""
    for words, sentence in _TRANSLATIONS:
        if words in problem:
            if character == "\t":
                sentence = "a tab stands here; indent with spaces"
            complaints.add(sentence.format(character=quoted(character)), _place(mark))
            return
    complaints.add(f"this is not YAML: {problem}", _place(mark))


def _place(mark: Any) -> Place:
    return Place(mark.line + 1, mark.column + 1) if mark is not None else Place(1, 1)


class _Composer:
    """Builds the tree of one document from the parser's events."""

    def __init__(self, events: Iterator[Any], complaints: Complaints) -> None:
        self._events = events
        self._complaints = complaints
        self._anchors: dict[str, Node | None] = {}  # None: still being read
        self._aliased = 0

    def document(self) -> Node | None:
        root = None
        seen = False
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent) and seen:
                self._complaints.add(
                    "a second document begins here and would not be read; take the '---' out",
                    _place(event.start_mark),
                )
                raise _UnusableError
            if isinstance(event, yaml.NodeEvent):
                seen = True
                root = self._node(event, depth=1)
        return root

    def _node(self, event: Any, depth: int) -> Node:
        place = _place(event.start_mark)
        if depth > DEEPEST:
            self._give_up(f"this is nested more than {DEEPEST} levels deep; write it flatter", place)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(str(event.anchor), place)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            node = self._scalar(event, place)
        elif isinstance(event, yaml.SequenceStartEvent):
            self._check_tag(event.tag, "seq", place)
            node = self._list(place, depth)
        else:
            self._check_tag(event.tag, "map", place)
            node = self._mapping(place, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, name: str, place: Place) -> Node:
        if name not in self._anchors:
            self._give_up(
                f"no '&{name}' stands before this '*{name}'; put a text that begins with '*' in quotes", place
            )
        node = self._anchors[name]
        if node is None:
            self._give_up(f"'*{name}' stands inside what '&{name}' names; write it out", place)
        self._aliased += node.size
        if self._aliased > MOST_ALIASED_NODES:
            self._give_up(f"aliases such as this one add up to more than {MOST_ALIASED_NODES} values", place)
        return node

    def _scalar(self, event: Any, place: Place) -> ScalarNode:
        text: str = event.value
        plain: bool = event.implicit[0] and event.tag is None
        if "\0" in text:
            self._complaints.add("a NUL character stands in this text; take it out", place)
            text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")  # so that nobody complains again
        elif _SURROGATE.search(text):
            self._complaints.add("half a surrogate pair stands in this text; take it out", place)
        kind = (event.tag or "").removeprefix(_CORE)
        if event.tag not in (None, "!") and kind in _SCALAR_TAGS:
            plain = type(scalar_value(text)) in _SCALAR_TAGS[kind]
            if not plain:
                self._complaints.add(f"{quoted(text)} is not what its tag '!!{kind}' says", place)
        elif event.tag is not None:
            self._check_tag(event.tag, "str", place)
        return ScalarNode(place, 1, text, plain)

    def _check_tag(self, tag: str | None, kind: str, place: Place) -> None:
        if tag not in (None, "!", _CORE + kind):
            name = tag.replace(_CORE, "!!", 1)
            self._complaints.add(
                f"the tag {quoted(name)} is not known here; put a text that begins with '!' in quotes",
                place,
            )

    def _list(self, place: Place, depth: int) -> ListNode:
        items = []
        for event in self._events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            items.append(self._node(event, depth + 1))
        return ListNode(place, 1 + sum(item.size for item in items), tuple(items))

    def _mapping(self, place: Place, depth: int) -> MappingNode:
        entries: dict[str, tuple[ScalarNode, Node]] = {}
        merged: list[MappingNode] | None = None
        for event in self._events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            key = self._node(event, depth + 1)
            value = self._node(next(self._events), depth + 1)
            if not isinstance(key, ScalarNode):
                advice = "put a text that begins with '{' or '[' in quotes"
                self._complaints.add(f"a key must be text, not {shown_node(key)}; {advice}", key)
            elif key.plain and key.text == "<<":
                if merged is not None:
                    self._complaints.add("the key '<<' is given twice; write '<<: [*one, *other]'", key)
                merged = self._merged(value)
            elif key.text in entries:
                first = entries[key.text][0].place.line
                self._complaints.add(f"the key {quoted(key.text)} is given twice, first in line {first}; keep one", key)
            else:
                entries[key.text] = (key, value)
        for mapping in merged or ():  # explicit keys first, then earlier mappings (yaml.org/type/merge.html)
            for name, entry in mapping.entries.items():
                entries.setdefault(name, entry)
        size = 1 + sum(key.size + value.size for key, value in entries.values())
        return MappingNode(place, size, entries)

    def _merged(self, value: Node) -> list[MappingNode]:
        found = list(value.items) if isinstance(value, ListNode) else [value]
        mappings = [node for node in found if isinstance(node, MappingNode)]
        if len(mappings) < len(found):
            self._complaints.add("'<<' takes a mapping, or a list of mappings; write '<<: *name'", value)
        return mappings

    def _give_up(self, sentence: str, place: Place) -> NoReturn:
        self._complaints.add(sentence, place)
        raise _UnusableError
