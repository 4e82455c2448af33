"""A task with `matrix` or `foreach` -> the tasks that it stands for.

Counted before anything is made.  The values reach a task's commands by their environment (`MODERATOR_ITEM`,
`MODERATOR_MATRIX_...`) and by placeholders in what it says.  Must not know what else a task can hold: it is given its fields.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moderator.config.shellwords import shell_programs
from moderator.document import (
    Complaints,
    ListNode,
    MappingNode,
    Node,
    complain_of,
    is_null,
    quoted,
    text_of,
    unknown_key,
)
from moderator.expanding import matrix
from moderator.expanding.filling import ITEM, fill_known, fill_line, misplaced_in, variable_of
from moderator.expanding.items import LONGEST_ITEM, MOST_TASKS, Sources, read_items
from moderator.expanding.labels import HASH, expanded_id
from moderator.expanding.matrix import Combination
from moderator.naming import task_slug
from moderator.templates import faults_of, fill, fill_some, names_in

KEYS = ("matrix", "foreach")
"""The keys of a task that stands for many."""
_SELECTIONS = ("exclude", "include")
_NAME = r"[A-Za-z_][A-Za-z0-9_-]*"
_TOLD = 5  # pairs whose ids meet that are named one by one
_COUNTABLE = 10**15
_LONGEST_SHOWN = 72  # characters of a value in a description
_COMMANDS = ("run", "verify")
_PLAIN = ("sparse", "kind", "backend", "description")
"""Fields in which every brace counts; a command that is a list is another."""
_LANGUAGES = ("prompt", "acceptance_criteria")
"""Texts in languages of their own, in which only known placeholders count."""
_VARIABLES = "env"
"""The field whose texts have other placeholders too, which are filled in when the task runs."""


@dataclass(frozen=True)
class Surroundings:
    """What the list of a task may be looked up in: the folder of the file, the base that it names, and who knows the rest."""

    folder: Path
    base: str | None = None
    sources: Sources | None = None


@dataclass(frozen=True)
class Copy:
    """One of the tasks that a task stands for: its id, what it is made for, and the fields of it that differ."""

    id: str
    values: Mapping[str, str]
    fields: Mapping[str, Any] = field(default_factory=dict)


def read_combinations(
    node: MappingNode, complaints: Complaints, around: Surroundings, room: int, each: int = 1
) -> list[Combination] | None:
    """Return what a task is to be made for; None if it is made once, [] after complaining.

    `room` is how many more tasks there can be, `each` how many one combination makes.
    """
    keys = [key for key in KEYS if not is_null(node.get(key))]
    if not keys:
        return None
    before = len(complaints)
    at = node.entries[keys[0]][1]
    read = _matrix(node.entries["matrix"][1], complaints) if "matrix" in keys else None
    most = read.count() if read else 1
    if most * each > room:  # before a list is looked up: a command would run for nothing
        complaints.add(_too_many(most * each), at)
        return []
    items: Sequence[str] | None = None
    if "foreach" in keys:
        given = node.entries["foreach"][1]
        items = read_items(given, complaints, around.folder, around.base, around.sources)
        most *= len(items or ())
        if most * each > room:
            complaints.add(_too_many(most * each), given)
    if len(complaints) > before:
        return []
    crossed = read.combinations() if read else [Combination({}, {})]
    if not crossed:
        complaints.add("nothing is left of the matrix: everything in it is excluded", at)
    if items is None:
        return crossed
    return [Combination({ITEM: item}, {ITEM: item}).joined(one) for item in items for one in crossed]


def names_of(combinations: Sequence[Combination]) -> list[str]:
    """Return the names of all values that there are."""
    return list(dict.fromkeys(name for one in combinations for name in one.values))


def copies(
    task_id: str,
    fields: Mapping[str, Any],
    described: str,
    combinations: Sequence[Combination],
    complain: Callable[[str, str], None],
) -> list[Copy]:
    """Return the tasks that one stands for, as far as nothing is wrong with them.

    `described` is the description, or what stands in for one; `complain` is called with the key that a sentence is about.
    Whoever calls has seen to the placeholders of `env`, for that has other ones too.
    """
    names = names_of(combinations)
    faults = list(_faults(task_id, fields, names))
    for key, sentence in faults:
        complain(key, sentence)
    if faults:
        return []
    made: dict[str, Copy] = {}
    met: list[str] = []
    for one in combinations:
        copy = _copy(task_id, fields, described, {**dict.fromkeys(names, ""), **one.values}, one)
        other = made.setdefault(task_slug(copy.id).casefold(), copy)
        if other is not copy:
            both = f"{_shown(other.values)} and {_shown(one.values)}"
            met.append(f"the ids for {both} would meet: {quoted(other.id)} and {quoted(copy.id)}")
    stem = task_id if names_in(task_id) else f"{task_id}-" + "-".join(f"{{{name}}}" for name in combinations[0].naming)
    for sentence in met[:_TOLD]:
        complain("id", f"{sentence}; write id: {quoted(stem + '-{hash}')} to tell them apart")
    if len(met) > _TOLD:
        complain("id", f"and {len(met) - _TOLD} more pairs of ids that meet")
    return list(made.values())


def _copy(
    task_id: str,
    fields: Mapping[str, Any],
    described: str,
    values: Mapping[str, str],
    one: Combination,
) -> Copy:
    def filled(value: Any, way: Callable[[str, Mapping[str, str]], str]) -> Any:
        if isinstance(value, str):
            return way(value, values)
        return type(value)(way(text, values) for text in value)

    own: dict[str, Any] = {}
    for key, value in fields.items():
        if key in _COMMANDS and isinstance(value, str):
            own[key] = filled(value, fill_line)
        elif key in (*_COMMANDS, *_PLAIN) and value:
            own[key] = filled(value, fill)
        elif key in _LANGUAGES and value:
            own[key] = filled(value, fill_known)
        elif key == _VARIABLES:
            own[key] = {variable: fill_some(text, values) for variable, text in value.items()}
    own["description"] = described
    shown = {name: _printable(value) for name, value in values.items()}
    if (said := fields.get("description") or "") and names_in(said):
        own["description"] = fill(said, shown)
    elif (filled_in := fill_known(described, shown)) == described:
        own["description"] = f"{described} ({', '.join(_printable(value) for value in one.naming.values())})"
    else:
        own["description"] = filled_in
    return Copy(expanded_id(task_id, one.naming), dict(one.values), own)


def _faults(task_id: str, fields: Mapping[str, Any], names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the key and a sentence for every placeholder that cannot be filled in."""
    for fault in faults_of(task_id, [*names, HASH]):
        yield "id", f"id {quoted(task_id)}: {fault}"
    for key, value in fields.items():
        if key in _COMMANDS and isinstance(value, str):
            for name, where in dict.fromkeys(misplaced_in(value, names)):
                yield (
                    key,
                    f"'{{{name}}}' stands {where} in {key}; what is filled in is quoted as it needs to be, "
                    f'so write it without quotes, or write "${variable_of(name)}" instead',
                )
        elif key in (*_COMMANDS, *_PLAIN) and value:
            for text in (value,) if isinstance(value, str) else value:
                for fault in faults_of(text, names):
                    yield key, f"{key}: {fault}"
        if key in _COMMANDS and isinstance(value, list) and value:
            for word in shell_programs(value):
                for name in sorted(names_in(word or "") & set(names)):
                    yield (
                        key,
                        f"a shell would read what is filled in for '{{{name}}}' as a part of its program; "
                        f'pass it behind that, or write "${variable_of(name)}" instead',
                    )


@dataclass
class _Matrix:
    dimensions: dict[str, list[str]] = field(default_factory=dict)
    exclude: list[dict[str, str]] = field(default_factory=list)
    include: list[dict[str, str]] = field(default_factory=list)

    def count(self) -> int:
        return matrix.count(self.dimensions, self.include)

    def combinations(self) -> list[Combination]:
        return matrix.combinations(self.dimensions, self.exclude, self.include)


def _matrix(node: Node, complaints: Complaints) -> _Matrix:
    found = _Matrix()
    before = len(complaints)
    if not isinstance(node, MappingNode):
        complain_of(node, "matrix", "a mapping of names to lists of values", complaints)
        return found
    variables: dict[str, str] = {}
    for name, (key, value) in node.entries.items():
        if name in _SELECTIONS:
            continue
        _check_name(name, key, variables, complaints)
        if not isinstance(value, ListNode):
            complain_of(value, f"matrix.{name}", "a list of values", complaints)
            continue
        if not value.items:
            complaints.add(f"matrix.{name} is an empty list; write values in it, or take it out", value)
        found.dimensions[name] = _values(value, name, complaints)
    for selection, into in zip(_SELECTIONS, (found.exclude, found.include), strict=True):
        entries = node.get(selection)
        if entries is not None and not is_null(entries):
            into += _entries(entries, selection, found.dimensions, variables, complaints)
    if not found.dimensions and not found.include and len(complaints) == before:
        complaints.add("the matrix is empty; write a name and a list of values in it", node)
    return found


def _check_name(name: str, at: Node, variables: dict[str, str], complaints: Complaints) -> None:
    if not re.fullmatch(_NAME, name):
        complaints.add(f"{quoted(name)} cannot be a name in a matrix; use letters, digits, '_' and '-'", at)
    elif name in (ITEM, HASH):
        complaints.add(f"{quoted(name)} has a meaning of its own; give the values another name", at)
    elif (other := variables.setdefault(variable_of(name), name)) != name:
        complaints.add(f"{quoted(name)} and {quoted(other)} would both be ${variable_of(name)}; rename one", at)


def _values(node: ListNode, name: str, complaints: Complaints) -> list[str]:
    first: dict[str, int] = {}
    for item in node.items:
        text = _value(item, f"a value of matrix.{name}", complaints)
        if text is not None and text in first:
            complaints.add(f"the value {quoted(text)} is there twice, first in line {first[text]}; keep one", item)
        if text is not None:
            first.setdefault(text, item.place.line)
    return list(first)


def _value(node: Node, name: str, complaints: Complaints) -> str | None:
    text = text_of(node, name, complaints)
    if text is not None and (size := len(text.encode("utf-8", "surrogatepass"))) > LONGEST_ITEM:
        complaints.add(f"{name} is {size} bytes long; at most {LONGEST_ITEM} can be", node)
    return text


def _entries(
    node: Node, key: str, dimensions: Mapping[str, Sequence[str]], variables: dict[str, str], complaints: Complaints
) -> list[dict[str, str]]:
    """The entries of `exclude` or `include`."""
    if not isinstance(node, ListNode):
        complain_of(node, f"matrix.{key}", "a list of mappings, such as [{os: linux, py: '3.11'}]", complaints)
        return []
    entries: list[dict[str, str]] = []
    seen: set[frozenset[tuple[str, str]]] = set()
    for item in node.items:
        if not isinstance(item, MappingNode) or not item.entries:
            complain_of(item, f"an entry of {key}", "a mapping of names to values", complaints)
            continue
        entry: dict[str, str] = {}
        for name, (at, value) in item.entries.items():
            if name in _SELECTIONS or (key == "exclude" and name not in dimensions):
                complaints.add(unknown_key(name, f"matrix.{key}", dimensions), at)
            elif key == "include" and name not in dimensions:
                _check_name(name, at, variables, complaints)
            text = _value(value, f"{name} in {key}", complaints)
            if text is not None:
                entry[name] = text
        if len(entry) < len(item.entries):
            continue
        if frozenset(entry.items()) in seen:
            complaints.add(f"this entry of {key} is there twice; keep one", item)
        elif key == "exclude" and entry.keys() <= dimensions.keys() and matrix.takes_nothing_away(entry, dimensions):
            complaints.add("this excludes nothing: no combination has these values", item)
        seen.add(frozenset(entry.items()))
        entries.append(entry)
    return entries


def _too_many(count: int) -> str:
    many = f"{count:,}" if count < _COUNTABLE else f"more than {_COUNTABLE:,}"
    return f"this would be {many} tasks, and a list can come to {MOST_TASKS:,}; make fewer of it, or several lists"


def _shown(values: Mapping[str, str]) -> str:
    return quoted(", ".join(values.values()))


def _printable(value: str) -> str:
    """A value as a description can hold it: short, in one line, with escapes for what cannot be printed."""
    shown = value if value.isprintable() else value.encode("unicode_escape", "backslashreplace").decode("ascii")
    return (
        shown if len(shown) <= _LONGEST_SHOWN else f"...{shown[3 - _LONGEST_SHOWN :]}"
    )  # of a path the end tells more
