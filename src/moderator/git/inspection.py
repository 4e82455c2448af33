"""The status of workspaces, one or all: what their records, refs and trees say now.

Changes nothing, but for git's own note in an index nobody else uses of what it found unchanged.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence

from moderator.errors import ModeratorError
from moderator.git import entries
from moderator.git.registry import MAKING, READY, Record, Registry
from moderator.git.repository import Repository
from moderator.git.values import Counts, WorkspaceStatus

_YOUNG = 2.0  # seconds: git compares times in whole ones


class Inspector:
    """Looks at a list of records.  Every ref that matters is asked for once, in one process."""

    def __init__(self, repository: Repository, registry: Registry, records: Sequence[Record]) -> None:
        self._repository = repository
        self._registry = registry
        self._records = records
        refs = {ref for record in records for ref in (record.ref, f"refs/heads/{record.base_branch}")}
        self._commits = repository.commits_of(sorted(refs))

    def all(self, changes: bool) -> list[WorkspaceStatus]:
        """Return the status of every record, as many at once as there are cores."""
        if not self._records:
            return []
        from concurrent.futures import ThreadPoolExecutor  # costs a tenth of a quick command

        with ThreadPoolExecutor(max_workers=min(len(self._records), 2 * (os.cpu_count() or 1))) as pool:
            return list(pool.map(lambda number: self.status(number, False, changes), range(len(self._records))))

    def status(self, number: int, size: bool, changes: bool) -> WorkspaceStatus:
        """Return the status of one record."""
        record, repository = self._records[number], self._repository
        tip = self._commits[record.ref] or (record.base if record.branch is None else None)
        state, counts, operation = self._tree(record, changes)
        ahead = behind = None
        if tip:
            base_tip = self._commits[f"refs/heads/{record.base_branch}"] or record.base
            ahead = self._count(record.base, tip)
            behind = self._count(tip, base_tip) if base_tip != record.base else 0
        return WorkspaceStatus(
            task_id=record.task_id,
            level=record.level,
            path=record.path or record.checkout,
            branch=record.branch,
            base=record.base,
            base_branch=record.base_branch,
            tip=tip,
            ahead=ahead,
            behind=behind,
            state=state,
            created_at=record.created_at,
            counts=counts,
            operation=operation,
            size=_bytes_in(record.path) if size and record.path and os.path.isdir(record.path) else None,
            lease=self._registry.holder(record),
            locked_by_person=entries.person_lock(repository, record) if record.path else None,
        )

    def _tree(self, record: Record, changes: bool) -> tuple[str, Counts | None, str | None]:
        if not record.path:
            return record.state, None, None
        if entries.is_missing(record):
            return "missing" if record.state == READY else record.state, None, None
        if not entries.is_whole(self._repository, record, has_branch=self._commits[record.ref] is not None):
            return "damaged" if record.state == READY else record.state, None, None
        state = READY if record.state == MAKING else record.state
        worktree = entries.worktree_of(self._repository, record)
        try:
            refresh = changes and _is_unsettled(worktree.git_dir, record) and self._registry.holder(record) is None
            return state, worktree.contents(refresh=refresh).counts if changes else None, worktree.operation
        except (ModeratorError, OSError):  # one that git cannot read must not hide the others
            return "missing" if entries.is_missing(record) else "damaged", None, worktree.operation

    def _count(self, without: str, tip: str) -> int:
        if without == tip:
            return 0
        return int(self._repository.git("rev-list", "--count", f"{without}..{tip}").text)


def _is_unsettled(git_dir: str, record: Record) -> bool:
    """Whether the index is still as young as the files that were checked out, so that every look reads all of them.

    True once at most: the look that is allowed to refresh makes the index younger than they are.
    """
    written = os.stat(os.path.join(git_dir, "index")).st_mtime
    return written < record.created_at + _YOUNG and time.time() > written + _YOUNG


def _bytes_in(folder: str) -> int:
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(where, name)).st_blocks * 512
    return total
