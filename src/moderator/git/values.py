"""What the git room hands out: typed values, never text to be parsed.

Paths and names are `str` in which bytes that are no UTF-8 survive as surrogates (`os.fsencode` gives them back).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from moderator.context import ExecutionContext, IsolationLevel
from moderator.git.leases import Owner


@dataclass(frozen=True)
class Workspace:
    """A context's names made real.

    `path` is where the task runs.  `branch` is None where the level has none; `base` is the commit it forked from;
    `created_at` is in unix seconds, 0 for a checkout that is nobody's own.
    In a `with`, or until `release`, this process holds the workspace's lease.
    """

    task_id: str
    path: str
    branch: str | None
    base: str
    base_branch: str
    state_dir: str
    level: IsolationLevel
    context: ExecutionContext
    _release: Callable[[], None] = field(default=lambda: None, compare=False, repr=False)
    created_at: float = field(default=0.0, compare=False, repr=False)

    def release(self) -> None:
        """Give the lease back; the workspace stays.  A second call does nothing."""
        self._release()

    def __enter__(self) -> Workspace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


@dataclass(frozen=True)
class Stand:
    """Where a checkout stands, apart from its files.

    `ref` is the ref that HEAD is on, "" on none, `commit` the commit that it is at, "" without one; `hidden` are the entries of
    the index that git was told not to look at, `locked` says that somebody holds the index, or died with it.
    """

    ref: str
    commit: str
    hidden: tuple[str, ...] = ()
    locked: bool = False

    @property
    def branch(self) -> str:
        """What HEAD is on, as people say it."""
        return self.ref.removeprefix("refs/heads/") or f"no branch, at {self.commit[:12] or 'no commit'}"


@dataclass(frozen=True)
class Counts:
    """How many paths of each kind a workspace holds that are in no commit."""

    staged: int = 0
    modified: int = 0
    untracked: int = 0
    ignored: int = 0
    unmerged: int = 0

    @property
    def dirty(self) -> int:
        """Paths with work that the next commit would take."""
        return self.staged + self.modified + self.untracked + self.unmerged


@dataclass(frozen=True)
class WorkspaceStatus:
    """What a workspace holds now.

    `state` is "ready", "making" (half-made, by a process at work or a dead one), "missing" (its directory was deleted
    by hand) or "damaged".  `tip` is the newest commit of its branch; `ahead` counts commits since the fork that the base
    does not have, `behind` the base branch's since the fork.  `counts` is None where nobody looked; `operation` names a
    merge, rebase, cherry-pick, revert or bisect in progress; `size` is in bytes, on request; `lease` is who holds it.
    `problem` says in a few words why it is damaged.
    """

    task_id: str
    level: IsolationLevel
    path: str
    branch: str | None
    base: str
    base_branch: str
    tip: str | None
    ahead: int | None
    behind: int | None
    state: str
    created_at: float
    counts: Counts | None = None
    operation: str | None = None
    size: int | None = None
    lease: Owner | None = None
    locked_by_person: str | None = None
    problem: str = ""

    @property
    def dirty(self) -> int | None:
        return None if self.counts is None else self.counts.dirty

    def to_dict(self) -> dict[str, Any]:
        """Return the status as JSON takes it."""
        return {
            "task_id": self.task_id,
            "isolation_level": self.level.value,
            "branch": self.branch,
            "path": self.path,
            "state": self.state,
            "problem": self.problem or None,
            "base": self.base,
            "base_branch": self.base_branch,
            "tip": self.tip,
            "ahead": self.ahead,
            "behind": self.behind,
            "dirty": self.dirty,
            "staged": self.counts and self.counts.staged,
            "modified": self.counts and self.counts.modified,
            "untracked": self.counts and self.counts.untracked,
            "ignored": self.counts and self.counts.ignored,
            "unmerged": self.counts and self.counts.unmerged,
            "operation": self.operation,
            "size": self.size,
            "held_by": str(self.lease) if self.lease else None,
            "locked_by_person": self.locked_by_person,
            "created_at": self.created_at,
        }


@dataclass(frozen=True)
class Change:
    """One path that differs.  `status` is git's letter: A, M, D, R, C, T.  Lines are None for binary files."""

    path: str
    status: str
    added: int | None
    removed: int | None
    old_path: str | None = None


@dataclass(frozen=True)
class Commit:
    """One commit."""

    id: str
    subject: str
    message: str
    author: str
    committed_at: float
    trailers: dict[str, str]
    parents: tuple[str, ...]


@dataclass(frozen=True)
class Rescue:
    """Everything a workspace held before something destructive, in one commit under a ref.

    `id` is what commands take.  `commit` is shaped like a stash: the working tree, with HEAD, what was staged, the untracked
    files and an anchor for the rest as its parents.  `head` is where HEAD was, `branch` the workspace's branch and `tip`
    where that stood.  Paths are listed by kind; `left` names what no commit holds: ignored files, sockets, files over the
    limit; they stay in the trash.  `commits` counts what only the workspace named.  `created_at` is in unix seconds.
    """

    id: str
    ref: str
    commit: str
    task_id: str
    level: IsolationLevel
    reason: str
    created_at: float
    head: str
    branch: str | None
    tip: str | None
    base: str
    base_branch: str
    path: str
    operation: str | None = None
    staged: tuple[str, ...] = ()
    modified: tuple[str, ...] = ()
    untracked: tuple[str, ...] = ()
    unmerged: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    commits: int = 0

    @property
    def what(self) -> str:
        """What it holds, in words."""
        parts = [
            f"{len(paths)} {word}"
            for paths, word in (
                (self.staged, "staged"),
                (self.modified, "modified"),
                (self.unmerged, "in conflict"),
                (self.untracked, "untracked"),
            )
            if paths
        ]
        if self.operation:
            parts.append(f"a {self.operation} in progress")
        if self.commits:
            parts.append(f"{self.commits} {'commit' if self.commits == 1 else 'commits'} no branch holds")
        if self.left:
            parts.append(f"{len(self.left)} only in the trash")
        return ", ".join(parts) or f"the branch at {(self.tip or self.head)[:12]}"

    def to_dict(self) -> dict[str, Any]:
        """Return the rescue as JSON takes it."""
        return {
            "id": self.id,
            "ref": self.ref,
            "commit": self.commit,
            "task_id": self.task_id,
            "isolation_level": self.level.value,
            "reason": self.reason,
            "created_at": self.created_at,
            "head": self.head,
            "branch": self.branch,
            "tip": self.tip,
            "base": self.base,
            "base_branch": self.base_branch,
            "path": self.path,
            "operation": self.operation,
            "staged": list(self.staged),
            "modified": list(self.modified),
            "untracked": list(self.untracked),
            "unmerged": list(self.unmerged),
            "left": list(self.left),
            "commits": self.commits,
        }


@dataclass(frozen=True)
class Removal:
    """A workspace that was removed, and what is kept of it.

    `tip` is where its branch, or its result, stood; `branch_missing`: that branch had been deleted or renamed before.  `head` is
    the commit that HEAD was at, None if at none or not known, `head_ref` the full name of the branch that it was on.
    `rescue` is the id of what was rescued, None if everything was in commits.  `left` names what only the trash has, until
    `kept_until` (unix seconds); None if it need not be kept.  `branch_deleted`: the branch went too.  `set_aside`: its task
    began anew under the same names.  `half_made`: it never became whole.  `renamed_at` is when its tree left its place, by the
    file system's clock, or was last found to have been written to since; `returning` is the entry under which it is being
    brought back.  `modes` are the permissions in its tree that no checkout gives.
    """

    id: str
    task_id: str
    branch: str | None
    path: str
    tip: str | None
    removed_at: float
    reason: str
    rescue: str | None = None
    left: tuple[str, ...] = ()
    kept_until: float | None = None
    size: int | None = None
    branch_deleted: bool = False
    set_aside: bool = False
    half_made: bool = False
    renamed_at: float | None = None
    returning: str = ""
    head: str | None = None
    head_ref: str = ""
    branch_missing: bool = False
    modes: Mapping[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the removal as JSON takes it."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}


@dataclass(frozen=True)
class Keeping:
    """How long and how much is kept of what was removed: `days` in the trash, files up to `largest_file` bytes in rescues."""

    days: float = 30.0
    largest_file: float = 100 * 1e6
