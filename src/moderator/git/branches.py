"""The branch of a workspace: created only where there was none, and known again after a crash by its reflog."""

from __future__ import annotations

import re

from moderator.errors import GitFailed, IsolationError, WorkspaceOccupied, to_type
from moderator.git.registry import Record
from moderator.git.repository import Repository

_ORDINARY_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*(/[A-Za-z0-9_][A-Za-z0-9_-]*)*")
"""Names of branches that need not be shown to git: none of git-check-ref-format(1)'s rules can touch them."""


def create_branch(repository: Repository, record: Record) -> None:
    """Create the record's branch at its base.  Raises WorkspaceOccupied if there is one of that name."""
    _check_branch_name(repository, record)
    try:
        repository.git(
            "update-ref", "--stdin", "--create-reflog", "-m", _reflog_message(record),
            stdin=f"create {record.ref} {record.base}\n".encode("utf-8", "surrogateescape"), repeatable=True,
        )  # fmt: skip
    except GitFailed as failure:
        if repository.commit_of(record.ref):
            raise branch_exists(record.task_id, str(record.branch)) from failure
        raise WorkspaceOccupied(
            f"the branch {record.branch!r} of task {record.task_id!r} cannot be created",
            hint="a branch whose name begins with this one, or is its beginning, is in the way: rename it or the base",
            cause=failure.cause,
        ) from failure


def branch_exists(task_id: str, branch: str) -> WorkspaceOccupied:
    """Return what is said about a branch that an earlier run, or a person, left."""
    return WorkspaceOccupied(
        f"the branch {branch!r} of task {task_id!r} exists already",
        hint=f"keep it under another name ({to_type('git', 'branch', '-m', branch, 'NEW')}), "
        f"delete it if it is merged ({to_type('git', 'branch', '-d', branch)}), "
        "or give the task another id",
    )


def _check_branch_name(repository: Repository, record: Record) -> None:
    if _ORDINARY_NAME.fullmatch(str(record.branch)) and record.branch != "HEAD":
        return
    answer = repository.git("check-ref-format", "--branch", str(record.branch), accept=(0, 1, 128, 129))
    if answer.code or answer.text != record.branch:
        raise IsolationError(
            f"git does not accept {record.branch!r} as the name of a branch",
            hint="use a base branch with an ordinary name",
            cause=answer.err.strip(),
        )


def _reflog_message(record: Record) -> str:
    return f"moderator: {record.token} workspace made"


def branch_is_ours(repository: Repository, record: Record) -> bool:
    """Whether the record's branch was created by the attempt that wrote the record."""
    answer = repository.git("log", "--walk-reflogs", "--format=%gs", record.ref, "--", accept=(0, 128))
    return answer.code == 0 and _reflog_message(record) in answer.text.split("\n")
