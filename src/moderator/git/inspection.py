"""The status of workspaces, one or all: what their records, refs and trees say now.

What is told without looking into a tree costs a few processes for all of them together, a look into a tree one process each.
Changes nothing, but for git's own note in an index nobody else uses of what it found unchanged.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from moderator.errors import EnvironmentProblem, ModeratorError
from moderator.git import entries
from moderator.git.broken import broken_filter
from moderator.git.command import abreast
from moderator.git.contents import Worktree, printable
from moderator.git.distances import Between, Distance, distances
from moderator.git.exact import files_in_index
from moderator.git.registry import MAKING, READY, Record, Registry
from moderator.git.repository import Repository, require_git
from moderator.git.values import WorkspaceStatus

if TYPE_CHECKING:
    from moderator.git.looks import Before, Looks

_MOST_TREES, _MOST_FILES = 32, 20_000  # of which it is asked at once whether anything has happened: rows wait for that
_YOUNG = 2.0  # seconds: git compares times in whole ones


class Inspector:
    """Looks at the workspaces of one repository: from outside at once, into their trees only for whoever asks."""

    def __init__(self, repository: Repository, registry: Registry) -> None:
        self._repository = repository
        self._registry = registry

    @classmethod
    def at(cls, directory: str) -> Inspector:
        """Open the repository that a directory belongs to.  Raises what `GitManager` does."""
        repository = Repository.open(directory)
        require_git()
        return cls(repository, Registry(repository.ours))

    @property
    def state_root(self) -> str:
        """Where state that belongs to the repository is."""
        return str(self._repository.ours)

    def overview(self) -> tuple[list[WorkspaceStatus], list[EnvironmentProblem]]:
        """Return the status of every workspace without changes, and what is wrong with records that cannot be read."""
        everything = list(self._registry.everything())
        records = [found for found in everything if isinstance(found, Record)]
        return self.outlines(records), [one for one in everything if isinstance(one, EnvironmentProblem)]

    def outlines(self, records: Sequence[Record]) -> list[WorkspaceStatus]:
        """Return what can be told of records without looking into their trees: a few processes, however many there are."""
        base_refs = {record.task_id: f"refs/heads/{record.base_branch}" for record in records}
        commits = self._repository.commits_of(sorted({*base_refs.values(), *(record.ref for record in records)}))
        between = {
            record.task_id: Between(tip, record.base, commits[base_refs[record.task_id]] or record.base)
            for record in records
            if (tip := commits[record.ref] or (record.base if record.branch is None else None))
        }
        counted = distances(self._repository, between.values())
        found = [(record, between.get(record.task_id)) for record in records]
        return [self._outline(record, one, counted[one] if one else None) for record, one in found]

    def _outline(self, record: Record, between: Between | None, distance: Distance | None) -> WorkspaceStatus:
        ahead, behind = distance or (None, None)
        state, problem, worktree = self._state(record, has_tip=between is not None)
        return WorkspaceStatus(
            task_id=record.task_id,
            level=record.level,
            path=record.path or record.checkout,
            branch=record.branch,
            base=record.base,
            base_branch=record.base_branch,
            tip=between.tip if between else None,
            ahead=ahead,
            behind=behind,
            state=state,
            created_at=record.created_at,
            operation=worktree.operation if worktree else None,
            lease=self._registry.holder(record),
            locked_by_person=entries.person_lock(self._repository, record) if record.path else None,
            problem=problem,
        )

    def _state(self, record: Record, has_tip: bool) -> tuple[str, str, Worktree | None]:
        """Return the state, why it is damaged if it is, and the tree if there is one that can be looked into."""
        if not record.path:
            return record.state, "", None
        if entries.is_missing(record):
            return "missing" if record.state == READY else record.state, "", None
        if why_not := entries.why_not_whole(self._repository, record, has_branch=has_tip):
            return ("damaged", why_not, None) if record.state == READY else (record.state, "", None)
        return READY if record.state == MAKING else record.state, "", entries.worktree_of(self._repository, record)

    def looked_into(self, outlines: Sequence[WorkspaceStatus]) -> Iterator[WorkspaceStatus]:
        """Yield each with what is in its tree, in this order and as soon as it is known: a process for each tree at most.

        Of several, those in which nothing has happened since the last look are as they were then (`looks`).  As many are looked
        into at once as there are cores, some more, since git waits for the disk.
        """
        if len(outlines) < 2:
            yield from map(self._look_into, outlines)
            return
        from moderator.git.looks import Looks  # whoever looks at one has no need of these

        looks, most = Looks(self._repository), 2 * (os.cpu_count() or 1)
        few = _MOST_FILES // max(1, files_in_index(self._repository.common))
        together = max(1, min(_MOST_TREES, few, len(outlines) // most))
        parts = [outlines[first : first + together] for first in range(0, len(outlines), together)]
        for part in abreast(partial(self._look_into_some, looks), parts, most=most):
            yield from part
        looks.keep()

    def _look_into_some(self, looks: Looks, outlines: Sequence[WorkspaceStatus]) -> list[WorkspaceStatus]:
        there: dict[str, Worktree] = {}
        before: dict[str, Before] = {}
        # Somebody works in one that is held: what he does at this moment is what is wanted.
        for outline in (one for one in outlines if one.state == READY and one.lease is None):
            if (record := self._record_of(outline)) and record.path:
                worktree = entries.worktree_of(self._repository, record)
                if now := looks.before(worktree, outline.tip):
                    there[outline.task_id], before[outline.task_id] = worktree, now
        found = looks.find(there, before)
        return [
            replace(outline, counts=found[outline.task_id])
            if outline.task_id in found
            else self._look_into(outline, looks, before.get(outline.task_id))
            for outline in outlines
        ]

    def _record_of(self, outline: WorkspaceStatus) -> Record | None:
        with contextlib.suppress(ModeratorError):
            return self._registry.find(outline.task_id)
        return None

    def _look_into(
        self, outline: WorkspaceStatus, looks: Looks | None = None, before: Before | None = None
    ) -> WorkspaceStatus:
        if (record := self._record_of(outline)) is None:  # removed meanwhile
            return replace(outline, state="missing")
        state, problem, worktree = self._state(record, has_tip=outline.tip is not None)
        if worktree is None:
            return replace(outline, state=state, problem=problem)
        try:
            refresh = _is_unsettled(worktree.git_dir, record) and self._registry.holder(record) is None
            contents = worktree.contents(refresh=refresh)
            # Another branch than its own may move where nobody sees it.
            expected = contents.branch == record.branch and (record.branch is None or contents.head == outline.tip)
            if looks and before and expected:
                looks.note(worktree, before, contents)
            return replace(outline, state=state, counts=contents.counts)
        except (ModeratorError, OSError) as error:  # one that git cannot read must not hide the others
            if entries.is_missing(record):
                return replace(outline, state="missing")
            return replace(outline, state="damaged", problem=_in_few_words(error))


def _in_few_words(error: ModeratorError | OSError) -> str:
    """Return why git cannot read a tree, in less than a line."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if broken := broken_filter(error.cause):
        return f"filter {broken.name!r} fails on {printable(broken.file)}"
    said = error.cause.strip().splitlines() or [error.message]
    return printable(said[-1].removeprefix("fatal: ").removeprefix("error: "))


def measured(status: WorkspaceStatus) -> WorkspaceStatus:
    """Return the same with how much room its tree takes, where it has one."""
    has_tree = status.level.isolates_directory and os.path.isdir(status.path)
    return replace(status, size=bytes_in(status.path)) if has_tree else status


def _is_unsettled(git_dir: str, record: Record) -> bool:
    """Whether the index is still as young as the files that were checked out, so that every look reads all of them.

    True once at most: the look that is allowed to refresh makes the index younger than they are.
    """
    written = os.stat(os.path.join(git_dir, "index")).st_mtime
    return written < record.created_at + _YOUNG and time.time() > written + _YOUNG


def bytes_in(folder: str) -> int:
    """Return how much of a disk a folder takes."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(where, name)).st_blocks * 512
    return total
