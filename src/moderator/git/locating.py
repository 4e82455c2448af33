"""Where a task's workspace is, without anything else: the one question that must be answered in milliseconds."""

from __future__ import annotations

import os

from moderator.errors import PersonNeeded, UsageError, to_type
from moderator.git.registry import RETIRING, Registry
from moderator.git.repository import Repository


def locate(repository: str, target: str) -> str:
    """Return the directory of the workspace of a task id or branch, as `GitManager.find` does.

    Raises NotARepository, UnknownWorkspace, AmbiguousName, PersonNeeded if nothing is there.
    """
    record = Registry(Repository.open(repository).ours).named(target)
    path = record.path or record.checkout
    if os.path.isdir(path):
        return path
    clean = to_type("moderator", "clean", record.task_id)
    if record.state == RETIRING:
        raise PersonNeeded(
            f"the workspace of task {record.task_id!r} is not there: a removal of it has begun and not ended",
            hint=f"bring it back: {to_type('moderator', 'undo', record.task_id)}; or remove the rest: {clean}",
        )
    raise PersonNeeded(
        f"the directory of task {record.task_id!r} is not there: {path!r}", hint=f"this removes the rest: {clean}"
    )


def main_checkout(repository: str) -> str:
    """Return the top of the main worktree.  Raises NotARepository, UsageError for a bare repository, which has none."""
    opened = Repository.open(repository)
    if opened.main_top is None:
        raise UsageError(f"{opened.common!r} is a bare repository and has no main checkout", hint="name a task")
    return opened.main_top
