"""The branch of a workspace: created only where there was none, and known again after a crash by its reflog."""

from __future__ import annotations

import os
import re

from moderator.errors import GitFailed, IsolationError, WorkspaceOccupied, to_type
from moderator.git import heads
from moderator.git.exact import DURABLE
from moderator.git.registry import Record
from moderator.git.repository import Repository
from moderator.opening import content

_ORDINARY_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*(/[A-Za-z0-9_][A-Za-z0-9_-]*)*")
"""Names of branches that need not be shown to git: none of git-check-ref-format(1)'s rules can touch them."""


def create_branch(repository: Repository, record: Record, tip: str | None = None) -> None:
    """Create the record's branch at its base, or at `tip`.  Raises WorkspaceOccupied if there is one of that name."""
    _check_branch_name(repository, record)
    try:
        repository.git(
            "update-ref", "--stdin", "--create-reflog", "-m", _reflog_message(record),
            stdin=f"create {record.ref} {tip or record.base}\n".encode("utf-8", "surrogateescape"), repeatable=True,
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


def untouched_since_made(repository: Repository, record: Record) -> str | None:
    """Return where the record's branch stands if this record's attempt created it and nobody moved it since."""
    answer = repository.git("log", "--walk-reflogs", "--format=%H %gs", record.ref, "--", accept=(0, 128))
    lines = answer.text.split("\n")
    tip, _, words = lines[0].partition(" ")
    return tip if answer.code == 0 and len(lines) == 1 and words == _reflog_message(record) else None


def checked_out_at(repository: Repository, ref: str, apart_from: str = "") -> str | None:
    """Return the administrative directory of a worktree whose HEAD is on a branch, None if there is none.

    A rebase or bisect in progress holds its branch too.  `apart_from` is an entry that does not count.
    """
    return next((git_dir for git_dir in branches_in_use(repository).get(ref, ()) if git_dir != apart_from), None)


def branches_in_use(repository: Repository) -> dict[str, list[str]]:
    """Return every branch that a worktree is on, with the administrative directories of those worktrees."""
    worktrees = os.path.join(repository.common, "worktrees")
    names = ["", *(os.listdir(worktrees) if os.path.isdir(worktrees) else [])]
    found: dict[str, list[str]] = {}
    for name, head in heads.said_by(repository.common, names).items():
        git_dir = os.path.join(worktrees, name) if name else repository.common
        named = {_said(git_dir, f"{how}/head-name") for how in ("rebase-merge", "rebase-apply")}
        named.add(os.fsencode(head.removeprefix("ref: ")))
        if short := _said(git_dir, "BISECT_START"):
            named.add(b"refs/heads/" + short)
        for ref in named:
            if ref.startswith(b"refs/"):
                found.setdefault(os.fsdecode(ref), []).append(git_dir)
    return found


def delete_ref(repository: Repository, ref: str, tip: str) -> None:
    """Delete a branch or a result, if it still stands at `tip` and no worktree is on it.

    Raises WorkspaceOccupied if it is checked out, GitFailed if it has moved.
    """
    if where := checked_out_at(repository, ref):
        raise checked_out(ref, where)
    repository.git("update-ref", "--no-deref", "-d", ref, tip, settings=DURABLE, repeatable=True)


def checked_out(ref: str, git_dir: str) -> WorkspaceOccupied:
    """Return what is said about a branch that a worktree is on."""
    return WorkspaceOccupied(
        f"the branch {ref.removeprefix('refs/heads/')!r} is checked out by the worktree of {git_dir!r}",
        hint="switch that worktree to another branch (git switch), and try again",
    )


def _said(git_dir: str, name: str) -> bytes:
    try:
        return content(os.path.join(git_dir, name)).strip()
    except OSError:
        return b""
