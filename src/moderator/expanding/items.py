"""What `foreach` names: an inline list, the lines of a file, tracked files, or what a command prints.

    foreach: "**/*.py"                           # tracked files, of the commit that the tasks fork from
    foreach: [a, b]
    foreach: {files: ["**/*.py", "!vendor/**"], untracked: true}
    foreach: {lines: list.txt, split: nul}
    foreach: {command: "git ls-files -z", split: nul, timeout: 60}

Whatever is wrong becomes a complaint where `foreach` stands.  Must not know a repository, nor how a command is run: that is
asked of `Sources`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from moderator.document import (
    Complaints,
    ListNode,
    MappingNode,
    Node,
    ScalarNode,
    choice_of,
    complain_of,
    flag_of,
    is_null,
    listed,
    opened,
    plain_value,
    quoted,
    text_of,
    texts_of,
    unknown_key,
)
from moderator.errors import ModeratorError
from moderator.expanding.globs import fault_of, matching

MOST_TASKS = 10_000
"""Tasks that a list may come to, all told."""
LONGEST_ITEM = 4096
"""Bytes of one item: as long as a path can be."""
LARGEST_LIST = 4 * 1024 * 1024
"""Bytes of a file of lines, or of what a command prints."""
TIMEOUT = 60.0
"""Seconds that a command may take to print its list, if nothing else is said."""

WAYS = ("files", "lines", "command")
OPTIONS = {"files": ("untracked",), "lines": ("split",), "command": ("split", "timeout")}
SPLITS = ("lines", "nul")
_TOLD = 5  # faults that are named one by one
_Answer = TypeVar("_Answer")


class Sources(Protocol):
    """Who knows the repository and can run a command.  What cannot be had is a ModeratorError."""

    def files(self, base: str | None, untracked: bool) -> Sequence[str]:
        """Return the regular files of the commit that a base names, and those of the main checkout that are not tracked."""

    def output(self, command: str | list[str], timeout: float) -> bytes:
        """Return what a command prints in the main checkout; one that fails or takes longer is an error."""


def read_items(
    node: Node, complaints: Complaints, folder: Path, base: str | None, sources: Sources | None
) -> list[str] | None:
    """Return what `foreach` names, in order, each once; None after complaining."""
    before = len(complaints)
    if isinstance(node, ListNode):
        items = _inline(node, complaints)
        return items if len(complaints) == before else None
    found = _found(node, complaints, folder, base, sources)
    if found is None or len(complaints) > before:
        return None
    items, name_of = found
    for sentence in _faults(items, name_of):
        complaints.add(sentence, node)
    return items if len(complaints) == before else None


_Found = tuple[list[str], Callable[[int], str]]
"""Items, and how people call the one of a number."""


def _inline(node: ListNode, complaints: Complaints) -> list[str]:
    if not node.items:
        complaints.add("foreach is an empty list; write in it what there is to do something for", node)
    first: dict[str, int] = {}
    items = []
    for item in node.items:
        text = text_of(item, "an item of foreach", complaints)
        if text is None:
            continue
        if text in first:
            complaints.add(f"the item {quoted(text)} is there twice, first in line {first[text]}; keep one", item)
        elif fault := _fault(text):
            complaints.add(f"an item of foreach {fault}", item)
        first.setdefault(text, item.place.line)
        items.append(text)
    return items


def _found(
    node: Node, complaints: Complaints, folder: Path, base: str | None, sources: Sources | None
) -> _Found | None:
    if isinstance(node, ScalarNode):
        return _files(node, False, complaints, base, sources)
    if not isinstance(node, MappingNode):
        return None
    ways = [way for way in WAYS if way in node.entries]
    if len(ways) != 1:
        wanted = f"foreach must be a list, a pattern of files, or a mapping with one of {listed(WAYS)}"
        complaints.add(f"{wanted}, not {'several' if ways else 'none'} of these", node)
        return None
    way = ways[0]
    for key, (name, _) in node.entries.items():
        if key != way and key not in OPTIONS[way]:
            complaints.add(unknown_key(key, "foreach", (way, *OPTIONS[way])), name)
    given = node.entries[way][1]
    split, untracked = node.get("split"), node.get("untracked")
    by_nul = not is_null(split) and split is not None and choice_of(split, "split", complaints, SPLITS) == "nul"
    if way == "files":
        also = not is_null(untracked) and untracked is not None and flag_of(untracked, "untracked", complaints) is True
        return _files(given, also, complaints, base, sources)
    if way == "lines":
        return _lines(given, by_nul, complaints, folder)
    return _printed(given, by_nul, _limit(node, complaints), complaints, sources)


def _files(
    node: Node, untracked: bool, complaints: Complaints, base: str | None, sources: Sources | None
) -> _Found | None:
    if isinstance(node, ListNode):
        patterns = texts_of(node, "a part of files", complaints)
        if not patterns:
            complaints.add("files is an empty list; write patterns in it, such as '**/*.py'", node)
    else:
        text = text_of(node, "a pattern of files", complaints)
        patterns = [] if text is None else [text]
    before = len(complaints)
    for pattern in patterns:
        if not pattern.strip("!"):
            complaints.add("a pattern of files is empty; write one such as '**/*.py'", node)
        elif fault := fault_of(pattern):
            complaints.add(f"the pattern {quoted(pattern)} means no file: {fault}", node)
    if patterns and all(one.startswith("!") for one in patterns):
        complaints.add("every pattern of files takes some away and none names any; write '**' as the first", node)
    if not patterns or len(complaints) > before:
        return None
    known = _asked(node, complaints, sources, lambda to_ask: to_ask.files(base, untracked))
    if known is None:
        return None
    found = matching(known, patterns)
    if not found:
        what = quoted(" ".join(patterns))
        deep = [one if one.startswith("!") else f"**/{one}" for one in patterns]
        advice = f"; {deep[0]!r} also looks into directories" if matching(known, deep) else ""
        complaints.add(f"no {'' if untracked else 'tracked '}file matches {what}{advice}", node)
        return None
    return found, lambda number: f"file {quoted(found[number])}"


def _lines(node: Node, by_nul: bool, complaints: Complaints, folder: Path) -> _Found | None:
    """The lines of a file, which is looked for from the folder of the task list."""
    name = text_of(node, "lines", complaints)
    if name is None:
        return None
    try:
        with opened(folder / name) as file:
            content = file.read(LARGEST_LIST + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "no file can have this name"
        complaints.add(f"the lines of {quoted(name)} cannot be read from {str(folder)!r}: {reason}", node)
        return None
    try:
        content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        complaints.add(f"line {line} of {quoted(name)} is not UTF-8; is it a text file?", node)
        return None
    return _split(content.removeprefix(b"\xef\xbb\xbf"), by_nul, f"{quoted(name)}", node, complaints)


def _printed(
    node: Node, by_nul: bool, timeout: float, complaints: Complaints, sources: Sources | None
) -> _Found | None:
    command: str | list[str] | None
    if isinstance(node, ListNode):
        command = texts_of(node, "a part of command", complaints)
        if not command or not command[0].strip():
            complaints.add("command is an empty list; say what to execute", node)
            return None
    else:
        command = text_of(node, "command", complaints)
    if command is None:
        return None
    content = _asked(node, complaints, sources, lambda to_ask: to_ask.output(command, timeout))
    return None if content is None else _split(content, by_nul, "what the command printed", node, complaints)


def _split(content: bytes, by_nul: bool, what: str, node: Node, complaints: Complaints) -> _Found | None:
    if len(content) > LARGEST_LIST:
        complaints.add(f"{what} is longer than {LARGEST_LIST // 1024 // 1024} MiB; is it the right list?", node)
        return None
    text = os.fsdecode(content)
    parts = text.split("\0") if by_nul else [line.removesuffix("\r") for line in text.split("\n")]
    numbered = [(number, part) for number, part in enumerate(parts, 1) if (part if by_nul else part.strip())]
    if not numbered:
        complaints.add(f"there is nothing in {what} to do anything for", node)
        return None
    part_of = "part" if by_nul else "line"
    return [part for _, part in numbered], lambda at: f"{part_of} {numbered[at][0]} of {what}"


def _faults(items: Sequence[str], name_of: Callable[[int], str]) -> list[str]:
    """Return sentences for items that cannot be one, or are there twice."""
    faults = []
    first: dict[str, int] = {}
    for number, item in enumerate(items):
        if fault := _fault(item):
            faults.append(f"{name_of(number)} {fault}")
        elif item in first:
            faults.append(f"{name_of(number)} is the same as {name_of(first[item])}: {quoted(item)}; keep one")
        first.setdefault(item, number)
    return [*faults[:_TOLD], *([f"and {len(faults) - _TOLD} more of these"] if len(faults) > _TOLD else [])]


def _fault(item: str) -> str:
    if "\0" in item:
        return "holds a NUL character; for a list with NUL between its parts write split: nul"
    size = len(item.encode("utf-8", "surrogatepass"))
    return f"is {size} bytes long; at most {LONGEST_ITEM} can be" if size > LONGEST_ITEM else ""


def _asked(
    node: Node, complaints: Complaints, sources: Sources | None, ask: Callable[[Sources], _Answer]
) -> _Answer | None:
    if sources is None:
        complaints.add("only in a repository can these be looked up; write a list instead", node)
        return None
    try:
        return ask(sources)
    except ModeratorError as error:
        because = f" ({' '.join(error.cause.split())[:2000]})" if error.cause else ""
        complaints.add(f"{error.message}{because}{f'; {error.hint}' if error.hint else ''}", node)
        return None


def _limit(node: MappingNode, complaints: Complaints) -> float:
    given = node.get("timeout")
    value = plain_value(given)
    if given is None or value is None:
        return TIMEOUT
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        complain_of(given, "timeout", "a positive number of seconds", complaints, float)
        return TIMEOUT
    return value
