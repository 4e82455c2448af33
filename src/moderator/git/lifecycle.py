"""From a claim to a workspace and from a workspace to nothing, each step such that a killed process can be followed.

Whoever calls holds the workspace's lease.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from dataclasses import replace

from moderator.context import ExecutionContext, IsolationLevel
from moderator.errors import (
    IsolationError,
    ModeratorError,
    NotARepository,
    PersonNeeded,
    UnknownRevision,
    WorkspaceOccupied,
    to_type,
)
from moderator.git import branches, entries, leases, retiring, worktrees
from moderator.git.contents import Worktree, printable
from moderator.git.registry import MAKING, READY, RETIRING, Record, Registry
from moderator.git.repository import Base, Repository
from moderator.naming import task_slug


class Lifecycle:
    """Makes and retires the workspaces of one repository."""

    def __init__(self, repository: Repository, registry: Registry) -> None:
        self._repository = repository
        self._registry = registry

    def make(self, context: ExecutionContext, base: str | None, lease: leases.Lease, fresh: bool) -> Record:
        """Return the record of the context's workspace: the one that is there already, unless `fresh`, or a new one."""
        settled = self._settled(context, base)
        if settled and fresh:
            raise WorkspaceOccupied(
                f"task {settled.task_id!r} has a workspace already, made meanwhile or by an earlier run",
                hint=f"look at it: {to_type('moderator', 'show', settled.task_id)}",
            )
        return settled or self._made(context, base, lease)

    def _settled(self, context: ExecutionContext, base: str | None) -> Record | None:
        """Return the workspace that is there already, after mending what a dead process left; None if there is none."""
        record = self._registry.owner_of_name(context.task_id)
        if record is None:
            return None
        if record.task_id != context.task_id:
            raise IsolationError(
                f"task {context.task_id!r} cannot have its names: they belong to task {record.task_id!r}",
                hint="rename one of the two: ids must differ in more than letter case, '_', '-' and spaces",
            )
        record = self._recovered(record)
        if record is None:
            return None
        _refuse_other_names(record, context)
        if record.level is IsolationLevel.BRANCH:
            self.require_checkout_at(context.working_directory, Base(record.base_branch, record.base))
        else:
            self.require_tree(record)
        if base is not None and self._base(base).commit != record.base:
            raise WorkspaceOccupied(
                f"task {record.task_id!r} has a workspace that forked from {record.base[:12]}, not from {base!r}",
                hint=f"remove it first ({to_type('moderator', 'clean', record.task_id)}), or leave the base out",
            )
        return record

    def _recovered(self, record: Record) -> Record | None:
        """Bring a record whose owner died in the middle to one of its ends.  The caller holds the lease."""
        if record.state == RETIRING:
            if os.path.isdir(entries.entry_dir(self._repository, record)):
                retiring.undo_retiring(record)
                return self._ready(record)
            retiring.finish_retiring(self._repository, record)
            self._registry.drop(record)
            return None
        if record.state == MAKING:
            if record.level is IsolationLevel.BRANCH:
                whole = self._repository.commit_of(record.ref) is not None and branches.branch_is_ours(
                    self._repository, record
                )
            else:
                whole = entries.is_whole(self._repository, record)
            if whole:
                return self._ready(record)
            worktrees.discard(self._repository, record, crashed=True)
            self._registry.drop(record)
            return None
        return record

    def _made(self, context: ExecutionContext, base: str | None, lease: leases.Lease) -> Record:
        level = context.isolation_level
        fork = self._base(base if base is not None else context.base_branch)
        path = os.path.abspath(context.working_directory) if level.isolates_directory else ""
        record = Record(
            task_id=context.task_id,
            project_id=context.project_id,
            level=level,
            branch=context.git_branch if level.isolates_branch else None,
            path=path,
            state_dir=context.state_dir,
            base_branch=context.base_branch,
            base=fork.commit,
            entry=entries.new_entry_id(task_slug(context.task_id)) if path else "",
            token=secrets.token_hex(16),
            created_at=time.time(),
            checkout="" if path else os.path.abspath(context.working_directory),
        )
        if path:
            worktrees.check_place(self._repository, context.task_id, path)
            if not record.branch and self._repository.commit_of(record.result_ref):
                raise WorkspaceOccupied(
                    f"the result of an earlier workspace of task {record.task_id!r} is kept at {record.result_ref}",
                    hint=f"keep it as a branch (git branch NEW-NAME {record.result_ref}), then take it out of the way: "
                    f"git update-ref -d {record.result_ref}",
                )
        else:
            self.require_checkout_at(context.working_directory, fork)
        self._registry.claim(record)
        try:
            if path:
                worktrees.publish(self._repository, record, lease)
            else:
                branches.create_branch(self._repository, record)
            return self._ready(record)
        except BaseException:
            # What cannot be undone now, on a full disk say, stays in the record: the next attempt finds it there.
            with contextlib.suppress(ModeratorError, OSError):
                worktrees.discard(self._repository, record)
                self._registry.drop(record)
            raise

    def _ready(self, record: Record) -> Record:
        ready = replace(record, state=READY)
        self._registry.replace(ready)
        return ready

    def retire(self, found: Record) -> None:
        """Remove a workspace and free its name, if nothing would be lost; its branch stays."""
        record = self._recovered(found)
        if record is None:
            return
        if record.path:
            self._registry.replace(replace(record, state=RETIRING))
            try:
                if entries.is_missing(record):
                    retiring.retire_missing(self._repository, record)
                else:
                    retiring.retire(self._repository, record)
            except BaseException:
                if os.path.isdir(entries.entry_dir(self._repository, record)):
                    self._registry.replace(record)
                raise
        self._registry.drop(record)

    def require_tree(self, record: Record, has_branch: bool | None = None) -> None:
        """Raise PersonNeeded unless the worktree is there and as it was made; `has_branch` is for callers who know."""
        if entries.is_missing(record):
            raise PersonNeeded(
                f"the directory of task {record.task_id!r} was deleted by hand: {printable(record.path)}",
                hint=f"its commits are on {record.branch or record.result_ref}; "
                f"this removes the rest: {to_type('moderator', 'clean', record.task_id)}",
            )
        if not entries.is_whole(self._repository, record, has_branch):
            raise PersonNeeded(
                f"the worktree of task {record.task_id!r} at {printable(record.path)!r} is not as moderator made it",
                hint="look at its .git file and at git worktree list",
            )

    def require_checkout_at(self, directory: str, fork: Base) -> None:
        """Raise UnknownRevision unless the checkout at `directory` is at the base: a level that runs there forks from it."""
        checkout = checkout_at(self._repository, directory)
        head = checkout.git("rev-parse", "--verify", "--quiet", "HEAD", accept=(0, 1, 128)).text
        if head != fork.commit:
            nameless = fork.commit.startswith(fork.name)
            switch = ("git", "switch", *(("--detach", fork.commit) if nameless else (fork.name,)))
            raise UnknownRevision(
                f"levels none and branch run in the checkout, which is at {head[:12] or 'no commit'}, "
                f"not at the base {fork.commit[:12]}",
                hint=f"{to_type(*switch)} there, or use level full",
            )

    def _base(self, revision: str) -> Base:
        return self._repository.base(revision)


def checkout_at(repository: Repository, directory: str) -> Worktree:
    """Return the checkout of this repository that `directory` is in.  Raises NotARepository."""
    opened = Repository.open(directory)
    if opened.common != repository.common:
        raise NotARepository(
            f"{printable(directory)!r} is a checkout of another repository",
            hint="use that repository's own manager",
        )
    if opened.top is None:
        raise NotARepository(
            f"{printable(directory)!r} is not in a checkout",
            hint="levels none and branch run in a checkout; use directory or full",
        )
    return Worktree(opened.top, opened.git_dir)


def _refuse_other_names(record: Record, context: ExecutionContext) -> None:
    level = context.isolation_level
    same = (
        record.level is level
        and (record.path or record.checkout) == os.path.abspath(context.working_directory)
        and (not level.isolates_branch or record.branch == context.git_branch)
    )
    if not same:
        raise WorkspaceOccupied(
            f"task {record.task_id!r} already has a workspace with other names: {record.branch or 'no branch'} in "
            f"{printable(record.path or record.checkout)!r}",
            hint=f"remove it first ({to_type('moderator', 'clean', record.task_id)}), or give the task another id",
        )
