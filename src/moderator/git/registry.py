"""Which task owns which workspace: one record a task, on disk, found in constant time.

A record appears whole or not at all and its name is taken by exactly one task: it is written aside, synced and linked to
its name, and the link fails if the name is taken.  `git worktree list` is never asked; it costs more with every worktree.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from moderator.context import IsolationLevel
from moderator.errors import AmbiguousName, EnvironmentProblem, IsolationError, UnknownWorkspace, to_type
from moderator.git import leases
from moderator.naming import BETWEEN, task_slug
from moderator.opening import content

MAKING, READY, RETIRING = "making", "ready", "retiring"
BRANCH, TREE = "branch", "tree"
"""What of an adopted workspace was there before: its branch only, or its worktree too."""
_VERSION = 1
_SELDOM = ("adopted", "rendered")
_FEW = 5  # workspaces that are all named where a name comes close to none


@dataclass(frozen=True)
class Record:
    """What was promised to a task.

    `path` is the worktree, "" for a level without one; `checkout` is where such a level runs.  `entry` is the id of the
    worktree's administrative directory; `token` is random and also stands in the reflog of the branch, so that after a
    crash one can tell whether the branch is ours.  `adopted` is BRANCH or TREE where a person's was taken over, "" where we made
    everything.  `rendered` is the memo of what was rendered in it: here, for a task can write into its entry.
    """

    task_id: str
    project_id: str
    level: IsolationLevel
    branch: str | None
    path: str
    state_dir: str
    base_branch: str
    base: str
    entry: str
    token: str
    created_at: float
    state: str = MAKING
    checkout: str = ""
    adopted: str = ""
    rendered: str = ""

    @property
    def mark(self) -> str:
        """What its removal, and its tree and entry in the trash, are called: never used twice.

        The name of the entry will do, unless git gave it, and may give it again once this one has gone.
        """
        if self.adopted != TREE:
            return self.entry
        return f"{task_slug(self.task_id)[:40].rstrip('.-')}-{self.token[:8]}"

    @property
    def key(self) -> str:
        return key_of(self.task_id)

    @property
    def result_ref(self) -> str:
        """Where a workspace without a branch keeps its commits."""
        return result_ref(self.task_id)

    @property
    def ref(self) -> str:
        """The ref that holds the workspace's commits."""
        return f"refs/heads/{self.branch}" if self.branch else self.result_ref


def as_written(record: Record) -> dict[str, Any]:
    """Return a record as JSON takes it; what is seldom so is left out where it is not."""
    values = vars(record) | {"level": record.level.value}
    return {name: value for name, value in values.items() if value or name not in _SELDOM}


def as_read(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `as_written` gave with every field.  Raises ValueError if one is missing, unknown or cannot be."""
    known = {**dict.fromkeys(_SELDOM, ""), **values}
    if set(known) != {field.name for field in fields(Record)} or known["adopted"] not in ("", BRANCH, TREE):
        raise ValueError("fields are missing or unknown")
    return {**known, "level": IsolationLevel(known["level"])}


def unknown(name: str, known: Iterable[str] = ()) -> UnknownWorkspace:
    """Return what is said when no workspace has a name; `known` are those that have one."""
    import difflib

    names = list(known)
    if close := difflib.get_close_matches(name, names, n=3):
        hint = f"did you mean {' or '.join(map(repr, close))}?"
    elif 0 < len(names) <= _FEW:
        hint = f"there {'is only' if len(names) == 1 else 'are'} {', '.join(map(repr, names))}"
    else:
        hint = "moderator list shows what there is"
    return UnknownWorkspace(f"no workspace belongs to {name!r}", hint=hint)


def ambiguous(name: str, candidates: Iterable[Record]) -> AmbiguousName:
    """Return what is said when several workspaces have a name: the refs that hold their commits, no two of which are one."""
    shown = {record.task_id: record.ref for record in candidates}
    return AmbiguousName(
        f"{name!r} means {len(shown)} workspaces: by task id or by branch, those of {' and '.join(map(repr, shown))}",
        hint="; ".join(f"for {task_id!r} type {to_type(ref)}" for task_id, ref in shown.items()),
    )


def result_ref(task_id: str) -> str:
    """Return the ref that keeps the commits of a task's workspace without a branch."""
    return f"refs/moderator/result/{task_slug(task_id)}"


def key_of(task_id: str) -> str:
    """Return the name under which a task is registered; ids that differ only as names may not share one."""
    return task_slug(task_id).casefold()


class Registry:
    """The records under a repository's `moderator` directory."""

    def __init__(self, ours: Path) -> None:
        self._records = ours / "workspaces"
        self._leases = ours / "leases"

    def lease_path(self, key: str) -> Path:
        return self._leases / f"{key}.lock"

    def holder(self, record: Record) -> leases.Owner | None:
        return leases.holder(self.lease_path(record.key))

    def find(self, task_id: str) -> Record | None:
        """Return the record of a task; None if it has none, or the name belongs to another id."""
        record = self._read(key_of(task_id))
        return record if record and record.task_id == task_id else None

    def named(self, name: str) -> Record:
        """Return the record of a task id, of exactly a branch, or of the full name of the ref that holds its commits.

        Raises UnknownWorkspace with what comes close, AmbiguousName if the branch of one is the id of another.
        """
        by_id = self.find(name) if name.strip() and "\0" not in name else None
        if by_id and BETWEEN not in name:
            return by_id  # no branch of a workspace can be called so, and going through all of them takes time
        by_branch = None
        for record in self:
            if record.ref == name:
                return record  # no other can have it: so every one has a name of its own
            if record.branch == name:
                by_branch = record
        if by_id and by_branch and by_id != by_branch:
            raise ambiguous(name, (by_id, by_branch))
        if found := by_id or by_branch:
            return found
        raise unknown(name, [record.task_id for record in self])

    def changed_at(self, record: Record) -> float:
        """Return when a record was written last, in unix seconds."""
        try:
            return self._file(record.key).stat().st_mtime
        except OSError:  # dropped this moment
            return 0.0

    def __iter__(self) -> Iterator[Record]:
        # One that cannot be read must not hide the others.
        return (found for found in self.everything() if isinstance(found, Record))

    def everything(self) -> Iterator[Record | EnvironmentProblem]:
        """Yield every record by name; for one that cannot be read, what is wrong with it."""
        try:
            names = sorted(os.listdir(self._records))
        except (FileNotFoundError, NotADirectoryError):
            return
        for name in names:
            try:
                if name.endswith(".json") and (record := self._read(name.removesuffix(".json"))):
                    yield record
            except EnvironmentProblem as problem:
                yield problem

    def unreadable(self) -> list[EnvironmentProblem]:
        """Return what is wrong with the records that going through all of them passes over."""
        return [found for found in self.everything() if isinstance(found, EnvironmentProblem)]

    def owner_of_name(self, task_id: str) -> Record | None:
        """Return the record that stands where this task's would, whoever's it is."""
        return self._read(key_of(task_id))

    def claim(self, record: Record) -> None:
        """Take the name for a task.  Raises IsolationError if another task has it."""
        aside = self._write_aside(record)
        try:
            os.link(aside, self._file(record.key))
        except FileExistsError:
            other = self._read(record.key)
            raise IsolationError(
                f"task {record.task_id!r} cannot have its names: they belong to task {other.task_id if other else '?'!r}",
                hint="rename one of the two: ids must differ in more than letter case, '_', '-' and spaces",
            ) from None
        except OSError as error:
            raise EnvironmentProblem(
                f"the name of task {record.task_id!r} cannot be claimed in {str(self._records)!r}",
                hint="the repository must be on a file system with hard links, and writable",
                cause=str(error),
            ) from error
        finally:
            aside.unlink()
        sync(self._records)

    def replace(self, record: Record) -> None:
        """Write a new state of a record that this process holds the lease of."""
        os.replace(self._write_aside(record), self._file(record.key))

    def drop(self, record: Record) -> None:
        """Free the name."""
        for path in (self._file(record.key), self._aside(record.key)):
            path.unlink(missing_ok=True)

    def _file(self, key: str) -> Path:
        return self._records / f"{key}.json"

    def _aside(self, key: str) -> Path:
        # One name a task, since only the holder of its lease writes: a killed process leaves nothing for ever.
        return self._records / f".{key}.new"

    def _write_aside(self, record: Record) -> Path:
        values = as_written(record) | {"version": _VERSION}
        aside = self._aside(record.key)
        text = json.dumps(values, indent=1).encode("ascii")
        try:
            self._records.mkdir(parents=True, exist_ok=True)
            aside.unlink(missing_ok=True)  # never written over: it may be linked to its name already
            with aside.open("xb") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())  # a record that a power cut left empty would hide whose the workspace is
        except OSError as error:
            with contextlib.suppress(OSError):
                aside.unlink()
            raise EnvironmentProblem(
                f"the workspace of task {record.task_id!r} could not be registered in {str(self._records)!r}",
                hint="check permissions and free space there",
                cause=str(error),
            ) from error
        return aside

    def _read(self, key: str) -> Record | None:
        path = self._file(key)
        try:
            text = content(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreadable(path, error) from error
        try:
            values = json.loads(text)
            if values.pop("version") != _VERSION:
                raise ValueError("written by another version")
            return Record(**as_read(values))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"the record {str(path)!r} cannot be read, so nobody knows whose workspace it is",
        hint="upgrade moderator if a newer one wrote it; otherwise move the file aside and look at the workspace by hand",
        cause=f"{error} is missing" if isinstance(error, KeyError) else str(error),
    )


def sync(directory: Path) -> None:
    """Have what was renamed or linked in a directory on disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
