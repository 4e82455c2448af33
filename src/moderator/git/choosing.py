"""Which removal an undo means: the last one, or the last under a name.

What cannot be told is refused, never guessed: a record that cannot be read may be that of the last removal, a name may mean two
tasks, and a removal that was cut short may have no record yet.  Changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from moderator.errors import EnvironmentProblem, UnknownRescue, to_type
from moderator.git.contents import printable
from moderator.git.entries import may_be_of
from moderator.git.registry import READY, RETIRING, Record, Registry, ambiguous
from moderator.git.removals import Removals
from moderator.git.repository import Repository
from moderator.git.trash import trash_beside, trash_of
from moderator.git.values import Removal
from moderator.naming import task_slug


@dataclass(frozen=True)
class Meant:
    """A removal that can be undone.  `removal` is None if it was cut short before it was written down; `at` is when."""

    record: Record
    removal: Removal | None
    at: float


def removal_meant(repository: Repository, registry: Registry, removals: Removals, name: str | None) -> Meant:
    """Return the last removal, or the last of a task id, a branch, a whole ref or a removal's own id.

    Raises UnknownRescue if there is none, AmbiguousName if the name means two tasks, EnvironmentProblem if a record that cannot
    be read may be the one.
    """
    found = [
        Meant(record, removal, removal.removed_at)
        for removal, record in removals.all()
        if not (removal.half_made or _is_over(registry, removals, removal, record))
    ]
    found += [
        Meant(record, None, registry.changed_at(record))
        for record in registry
        if record.state == RETIRING and removals.find(record.mark) is None
    ]
    found.sort(key=lambda one: one.at)
    doubtful = removals.unreadable()
    if name is None:
        # What made room for the same task again is not what a person removed last, and what is at work has not removed yet.
        wanted = [
            one
            for one in found
            if not (one.removal.set_aside if one.removal else registry.holder(one.record) is not None)
        ]
    else:
        if own := [one for one in found if one.removal and one.removal.id == name]:
            return own[-1]
        wanted = _named(found, name)
        if wanted:
            slug = task_slug(wanted[-1].record.task_id)
            doubtful = [path for path in doubtful if may_be_of(_id_of(path), slug)]
    if doubtful:
        raise _doubt(repository, registry, found, doubtful, wanted, name)
    if not wanted:
        raise _unknown(found, name)
    return wanted[-1]


def _is_over(registry: Registry, removals: Removals, removal: Removal, record: Record) -> bool:
    """Whether a removal never came to be, or was undone to its end: then there is nothing to bring back."""
    now = registry.find(record.task_id)
    marks = (record.mark, removal.returning)
    return removals.stands(removal, record) and now is not None and now.state == READY and now.mark in marks


def _named(found: Sequence[Meant], name: str) -> list[Meant]:
    if by_ref := [one for one in found if one.record.ref == name]:
        return by_ref
    by_id = [one for one in found if one.record.task_id == name]
    by_branch = [one for one in found if one.record.branch == name]
    if len({one.record.task_id for one in (*by_id, *by_branch)}) > 1:
        raise ambiguous(name, (one.record for one in (*by_id, *by_branch)))
    return by_id or by_branch


def _unknown(found: Sequence[Meant], name: str | None) -> UnknownRescue:
    newest = _newest(found)
    if name is None:
        hint = f"name one that was set aside for a new beginning: {newest}" if found else "moderator rescue list"
        return UnknownRescue("no workspace was removed here that could be brought back", hint=hint)
    return UnknownRescue(
        f"no removal of {name!r} is known", hint=f"removed were {newest}" if found else "nothing was removed here"
    )


def _doubt(
    repository: Repository,
    registry: Registry,
    found: Sequence[Meant],
    doubtful: Sequence[str],
    wanted: Sequence[Meant],
    name: str | None,
) -> EnvironmentProblem:
    what = "what was removed last" if name is None else f"whether it is what was removed last of {name!r}"
    folders = {trash_beside(os.path.join(repository.default_root, "tasks", "any"))}
    folders |= {os.path.dirname(trash_of(one)) for one in (*registry, *(one.record for one in found)) if one.path}
    kept = [path for folder in sorted(folders) if os.path.isdir(path := os.path.join(folder, _id_of(doubtful[0])))]
    ways = [f"its files are in {printable(kept[0])}"] if kept else []
    ways.append("upgrade moderator if a newer one wrote the record, otherwise move it aside")
    if name is not None and wanted and wanted[-1].removal:
        ways.append(f"an earlier one comes back with {to_type('moderator', 'undo', wanted[-1].removal.id)}")
    elif name is None and found:
        ways.append(f"what else was removed comes back by name: {_newest(found)}")
    return EnvironmentProblem(
        f"the record {doubtful[0]!r} of a removal cannot be read, so nobody knows {what}", hint="; ".join(ways)
    )


def _newest(found: Iterable[Meant]) -> str:
    return ", ".join(list(dict.fromkeys(repr(one.record.task_id) for one in reversed(list(found))))[:5])


def _id_of(path: str) -> str:
    return os.path.basename(path).removesuffix(".json")
