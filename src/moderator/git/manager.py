"""`GitManager`: what others ask of git, in their words.

Every method takes a context, a workspace or a task id and returns typed values.  Safe to be shared by threads; several
processes may work on one repository, each with a manager of its own.  No database is needed: what is known about
workspaces is kept beside the repository's own files.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from moderator.context import ExecutionContext, IsolationLevel
from moderator.errors import (
    CheckoutNotClean,
    ConfigurationError,
    EnvironmentProblem,
    IsolationError,
    ModeratorError,
    NotARepository,
    PersonNeeded,
    UnknownRevision,
    UnknownWorkspace,
    WorkspaceBusy,
    WorkspaceOccupied,
)
from moderator.git import committing, history, leases, worktrees
from moderator.git.committing import CommitStyle
from moderator.git.contents import Worktree, printable
from moderator.git.registry import MAKING, READY, RETIRING, Record, Registry, key_of
from moderator.git.repository import Repository
from moderator.git.values import Base, Change, Commit, Workspace, WorkspaceStatus
from moderator.naming import task_slug

Target = ExecutionContext | Workspace | str
"""What names a workspace: its context, itself, or the task's id (or exact branch)."""


@dataclass
class _Hold:
    """A lease of this process, for whom it was taken, and how many workspaces were given out on it."""

    lease: leases.Lease
    owner: object = None
    users: int = 1


class GitManager:
    """Makes, inspects, commits and removes the workspaces of one repository."""

    def __init__(self, repository: str | os.PathLike[str], style: CommitStyle | None = None) -> None:
        """Open the repository that `repository`, any directory inside it, belongs to.

        Linked worktrees and bare repositories will do.  Raises NotARepository, or EnvironmentProblem if git is missing
        or older than 2.38.
        """
        self._repository = Repository.open(repository)
        self._registry = Registry(self._repository.ours)
        self._style = style or CommitStyle()
        self._holds: dict[Path, _Hold] = {}
        self._guard = threading.Lock()
        self._keys: dict[str, threading.Lock] = {}

    # -- the repository -------------------------------------------------------------------------------------------

    @property
    def state_root(self) -> str:
        """Where state that belongs to the repository goes: found from every worktree, never committed."""
        return str(self._repository.ours)

    @property
    def main_worktree(self) -> str | None:
        """The top of the main worktree, None in a bare repository."""
        return self._repository.main_top

    @property
    def checkout(self) -> str | None:
        """The top of the worktree that this manager was opened in, None outside any."""
        return self._repository.top

    @property
    def default_root(self) -> str:
        """Where workspaces go if nobody says otherwise: a directory beside the repository."""
        return self._repository.default_root

    def resolve_base(self, revision: str = "") -> Base:
        """Return the base that a branch, a tag, a commit or HEAD ("") names.  Raises UnknownRevision."""
        return self._repository.base(revision)

    def existing_branches(self, names: Iterable[str]) -> set[str]:
        """Return which of these branches exist, compared without regard to case, as some file systems do."""
        wanted = {name.casefold(): name for name in names}
        answer = self._repository.git("for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads")
        return {wanted[name.casefold()] for name in answer.text.split("\n") if name.casefold() in wanted}

    def require_clean_checkout(self, directory: str) -> None:
        """Raise CheckoutNotClean unless the checkout at `directory` has nothing uncommitted."""
        checkout = self._checkout_at(directory)
        dirty = checkout.contents(ignored=False).uncommitted
        if dirty or checkout.operation:
            shown = ", ".join(printable(path) for path in dirty[:5]) or f"a {checkout.operation} in progress"
            raise CheckoutNotClean(
                f"the checkout {checkout.tree!r} has changes that are not committed: {shown}",
                hint="commit or stash them, or use --isolation full, which does not touch the checkout",
            )

    def fingerprint(self, before: Fingerprint | None = None) -> Fingerprint:
        """Return what tasks must leave alone: the main checkout's HEAD and index, and the shared configuration.

        `before`, an earlier one, saves the work where nothing was touched.
        """
        return Fingerprint.of(self._repository, before)

    def tree_of_checkout(self, directory: str) -> str:
        """Return the id of everything in the checkout at `directory` as git would commit it; the index is not touched."""
        return committing.tree_of(self._checkout_at(directory), self._repository)

    # -- workspaces -----------------------------------------------------------------------------------------------

    def create_workspace(self, context: ExecutionContext, base: str | None = None) -> Workspace:
        """Make the context's names real and return the workspace, leased.

        `base` is a branch, tag or commit; None means the commit of `context.base_branch`.  The lease is held until the
        `with` ends, `release` is called, or this process ends.  Asked again for the same task it returns the same
        workspace; what a dead process left half-made is made again.

        Raises WorkspaceBusy if another process holds it, IsolationError if the names belong to another task,
        WorkspaceOccupied if a branch, foreign files or a symbolic link is in the way, UnknownRevision for a base
        that names no commit, CheckoutNotClean for level BRANCH in a checkout with changes, EnvironmentProblem.
        """
        level = context.isolation_level
        if level is IsolationLevel.NONE:
            return self._use_checkout(context)
        if not context.task_id:
            raise ConfigurationError(
                "this context belongs to no task",
                hint="derive one with ExecutionContext.create_isolated_context",
            )
        key = key_of(context.task_id)
        with self._one_at_a_time(key):
            hold = self._take(self._registry.lease_path(key), f"the workspace of task {context.task_id!r}")
            release = self._releaser(hold)
            try:
                if level is IsolationLevel.BRANCH:  # first, for where it cannot be had nothing must be made
                    release = self._with_checkout(context, release)
                record = self._settled(context, base)
                if record is None:
                    record = self._make(context, base, hold.lease)
            except BaseException:
                with contextlib.suppress(EnvironmentProblem):  # a record that cannot be read keeps its lock
                    if self._registry.owner_of_name(context.task_id) is None:
                        hold.lease.forget()
                release()
                raise
        return _workspace(record, context, release)

    def workspaces(self) -> list[Workspace]:
        """Return every workspace of this repository, by name.  They are not leased."""
        return [_workspace(record, _context_of(record)) for record in self._registry]

    def find(self, target: Target) -> Workspace:
        """Return one workspace, not leased.  Raises UnknownWorkspace."""
        record = self._record(target)
        return _workspace(record, _context_of(record))

    def owners(self, task_ids: Iterable[str]) -> dict[str, str]:
        """Return which of these ids cannot have their names because a workspace has them, and whose it is."""
        found = {}
        for task_id in task_ids:
            if record := self._registry.owner_of_name(task_id):
                whose = "" if record.task_id == task_id else f" of task {record.task_id!r}"
                found[task_id] = f"the workspace{whose} at {printable(record.path) or record.branch} exists"
        return found

    def holder(self, target: Target) -> leases.Owner | None:
        """Return who holds the workspace now, None if nobody does."""
        return self._registry.holder(self._record(target))

    def status(self, target: Target, size: bool = False, changes: bool = True) -> WorkspaceStatus:
        """Return what a workspace holds now; `size` measures the disk, `changes=False` does not look into the tree."""
        return self._status(self._record(target), size, changes)

    def statuses(self, changes: bool = True) -> list[WorkspaceStatus]:
        """Return the status of every workspace, looked up as many at once as there are cores."""
        records = list(self._registry)
        if not records:
            return []
        with ThreadPoolExecutor(max_workers=min(len(records), 2 * (os.cpu_count() or 1))) as pool:
            return list(pool.map(lambda record: self._status(record, False, changes), records))

    def commit(self, target: Target, message: str, trailers: Mapping[str, str] | None = None) -> Commit | None:
        """Commit everything in the workspace, untracked files included; None if there is nothing.

        Where the commit goes is the level's: the branch, or `refs/moderator/result/{slug}` for DIRECTORY; for NONE nothing
        is committed.  Raises CannotCommit, changing nothing, for a merge in progress, another branch, a nested repository.
        """
        return self.commit_reporting(target, message, trailers)[0]

    def commit_reporting(
        self, target: Target, message: str, trailers: Mapping[str, str] | None = None
    ) -> tuple[Commit | None, list[str]]:
        """Like `commit`; also return, for level BRANCH, the paths that were left in the base checkout."""
        if _is_base(target):
            return None, []
        record = self._record(target)
        text = committing.with_trailers(message or f"Work of task {record.task_id}", trailers or {})
        left: list[str] = []
        if record.level is IsolationLevel.BRANCH:
            checkout = self._checkout_at(record.checkout)
            new, left = committing.commit_checkout(self._repository, record, checkout, text, self._style)
        else:
            self._require_tree(record)
            worktree = worktrees.worktree_of(self._repository, record)
            new = committing.commit_worktree(self._repository, record, worktree, text, self._style)
        return (history.read_commit(self._repository, new) if new else None), left

    def diff(self, target: Target) -> list[Change]:
        """Return the paths that differ between the fork point and the workspace as it is now, untracked ones included."""
        record = self._record(target)
        if record.path and os.path.isdir(record.path):
            return history.changes_in(worktrees.worktree_of(self._repository, record), record.base)
        return self.diff_between(record.base, self._tip(record) or record.base)

    def patch(self, target: Target) -> bytes:
        """Return the same as a patch, in git's own bytes."""
        record = self._record(target)
        if record.path and os.path.isdir(record.path):
            return history.patch_in(worktrees.worktree_of(self._repository, record), record.base)
        return self.patch_between(record.base, self._tip(record) or record.base)

    def log(self, target: Target, limit: int | None = None) -> list[Commit]:
        """Return the commits since the fork point, newest first."""
        record = self._record(target)
        return history.commits_between(self._repository, record.base, self._tip(record) or record.base, limit)

    def diff_between(self, base: str, tip: str) -> list[Change]:
        """Return the paths that differ between two commits: for a task whose workspace is gone."""
        return history.changes_between(self._repository, self._known(base), self._known(tip))

    def patch_between(self, base: str, tip: str) -> bytes:
        return history.patch_between(self._repository, self._known(base), self._known(tip))

    def log_between(self, base: str, tip: str) -> list[Commit]:
        return history.commits_between(self._repository, self._known(base), self._known(tip))

    def tip(self, target: Target) -> str | None:
        """Return the newest commit of the workspace's branch or result; None if it has none."""
        return self._tip(self._record(target))

    def remove_workspace(self, target: Target) -> None:
        """Remove a workspace if nothing would be lost; its branch stays.

        Raises WouldLoseWork (exit code 3) with everything that is in no commit reachable from a ref, PersonNeeded if
        somebody locked it or it is not as we made it, WorkspaceBusy if it is held, UnknownWorkspace.
        """
        if _is_base(target):
            return
        record = self._record(target)
        with self._one_at_a_time(record.key):
            hold = self._take(self._registry.lease_path(record.key), f"the workspace of task {record.task_id!r}")
            gone = False
            try:
                current = self._registry.find(record.task_id)
                if current is None:
                    raise _unknown(record.task_id)
                self._retire(current)
                gone = True
            finally:
                self._give_back(hold, forget=gone)

    def check_removal(self, target: Target) -> None:
        """Raise what `remove_workspace` would, without removing anything."""
        record = self._record(target)
        if owner := self._registry.holder(record):
            raise WorkspaceBusy(f"the workspace of task {record.task_id!r} is held by {owner}", hint="wait for it")
        if record.path and os.path.isdir(record.path):
            worktrees.check_retirement(self._repository, record)

    # -- how ------------------------------------------------------------------------------------------------------

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
            self._require_checkout_at(context, Base(record.base_branch, record.base))
        else:
            self._require_tree(record)
        if base is not None and self.resolve_base(base).commit != record.base:
            raise WorkspaceOccupied(
                f"task {record.task_id!r} has a workspace that forked from {record.base[:12]}, not from {base!r}",
                hint=f"remove it first (moderator clean {record.task_id}), or leave the base out",
            )
        return record

    def _recovered(self, record: Record) -> Record | None:
        """Bring a record whose owner died in the middle to one of its ends.  The caller holds the lease."""
        if record.state == RETIRING:
            if os.path.isdir(worktrees.entry_dir(self._repository, record)):
                worktrees.undo_retiring(record)
                record = replace(record, state=READY)
                self._registry.replace(record)
                return record
            worktrees.finish_retiring(self._repository, record)
            self._registry.drop(record)
            return None
        if record.state == MAKING:
            if record.level is IsolationLevel.BRANCH:
                whole = self._repository.commit_of(record.ref) is not None and worktrees.branch_is_ours(
                    self._repository, record
                )
            else:
                whole = worktrees.is_whole(self._repository, record)
            if whole:
                record = replace(record, state=READY)
                self._registry.replace(record)
                return record
            worktrees.discard(self._repository, record)
            self._registry.drop(record)
            return None
        return record

    def _make(self, context: ExecutionContext, base: str | None, lease: leases.Lease) -> Record:
        level = context.isolation_level
        fork = self.resolve_base(base if base is not None else context.base_branch)
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
            entry=worktrees.new_entry_id(task_slug(context.task_id)) if path else "",
            token=secrets.token_hex(16),
            created_at=time.time(),
            checkout="" if path else os.path.abspath(context.working_directory),
        )
        if path:
            worktrees.check_place(self._repository, context.task_id, path)
        else:
            self._require_checkout_at(context, fork)
        self._registry.claim(record)
        try:
            if path:
                worktrees.publish(self._repository, record, lease)
            else:
                worktrees.create_branch(self._repository, record)
            ready = replace(record, state=READY)
            self._registry.replace(ready)
        except BaseException:
            # What cannot be undone now, on a full disk say, stays in the record: the next attempt finds it there.
            with contextlib.suppress(ModeratorError, OSError):
                worktrees.discard(self._repository, record)
                self._registry.drop(record)
            raise
        return ready

    def _retire(self, record: Record) -> None:
        recovered = self._recovered(record)
        if recovered is None:
            return
        record = recovered
        if record.path:
            self._registry.replace(replace(record, state=RETIRING), durable=True)
            try:
                if worktrees.is_missing(record):
                    worktrees.retire_missing(self._repository, record)
                else:
                    worktrees.retire(self._repository, record)
            except BaseException:
                if os.path.isdir(worktrees.entry_dir(self._repository, record)):
                    self._registry.replace(record)
                raise
        self._registry.drop(record)

    def _use_checkout(self, context: ExecutionContext) -> Workspace:
        base = self.resolve_base(context.git_branch or "")
        release = self._with_checkout(context, lambda: None, clean=False)
        return Workspace(
            context.task_id,
            os.path.abspath(context.working_directory),
            None,
            base.commit,
            context.git_branch,
            context.state_dir,
            IsolationLevel.NONE,
            context,
            release,
        )

    def _with_checkout(
        self, context: ExecutionContext, release: Callable[[], None], clean: bool = True
    ) -> Callable[[], None]:
        """Hold the base checkout too: a level that runs there shares it with nobody."""
        checkout = self._checkout_at(context.working_directory)
        name = f"checkout@{hashlib.sha256(os.fsencode(checkout.git_dir)).hexdigest()[:16]}"
        with self._one_at_a_time(name):
            owner = context.task_id or object()  # a task may ask again; whoever has no id shares with nobody
            hold = self._take(self._registry.lease_path(name), f"the checkout {checkout.tree!r}", owner)
            release_checkout = self._releaser(hold)
            try:
                if clean and hold.users == 1:  # later the changes are the task's own
                    self.require_clean_checkout(context.working_directory)
            except BaseException:
                release_checkout()
                raise

        def release_both() -> None:
            release_checkout()
            release()

        return release_both

    def _checkout_at(self, directory: str) -> Worktree:
        opened = Repository.open(directory)
        if opened.common != self._repository.common:
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

    def _require_checkout_at(self, context: ExecutionContext, fork: Base) -> None:
        checkout = self._checkout_at(context.working_directory)
        head = checkout.git("rev-parse", "--verify", "--quiet", "HEAD", accept=(0, 1, 128)).text
        if head != fork.commit:
            raise UnknownRevision(
                f"level branch runs in the checkout, which is at {head[:12] or 'no commit'}, not at the base {fork.commit[:12]}",
                hint=f"git switch {fork.name} there, or use level full",
            )

    def _status(self, record: Record, size: bool, changes: bool) -> WorkspaceStatus:
        repository, state, counts, operation = self._repository, record.state, None, None
        tip = self._tip(record)
        measured = None
        if record.path:
            if worktrees.is_missing(record):
                state = "missing" if state == READY else state
            elif not worktrees.is_whole(repository, record):
                state = "damaged" if state == READY else state
            else:
                state = READY if state == MAKING else state
                worktree = worktrees.worktree_of(repository, record)
                operation = worktree.operation
                try:
                    if changes:
                        counts = worktree.contents().counts
                except ModeratorError:  # one that git cannot read must not hide the others
                    state = "missing" if worktrees.is_missing(record) else "damaged"
                if size:
                    measured = _bytes_in(record.path)
        ahead = behind = None
        if tip:
            base_tip = repository.commit_of(f"refs/heads/{record.base_branch}") or record.base
            ahead = self._count(record.base, tip)
            behind = self._count(tip, base_tip) if base_tip != record.base else 0
        return WorkspaceStatus(
            record.task_id,
            record.level,
            record.path or record.checkout,
            record.branch,
            record.base,
            record.base_branch,
            tip,
            ahead,
            behind,
            state,
            record.created_at,
            counts,
            operation,
            measured,
            self._registry.holder(record),
            worktrees.person_lock(repository, record) if record.path else None,
        )

    def _count(self, without: str, tip: str) -> int:
        if without == tip:
            return 0
        return int(self._repository.git("rev-list", "--count", f"{without}..{tip}").text)

    def _tip(self, record: Record) -> str | None:
        return self._repository.commit_of(record.ref) or (record.base if record.branch is None else None)

    def _known(self, revision: str) -> str:
        commit = self._repository.commit_of(revision)
        if commit is None:
            raise UnknownRevision(f"{revision!r} names no commit any more", hint="it may have been pruned")
        return commit

    def _record(self, target: Target) -> Record:
        if isinstance(target, (Workspace, ExecutionContext)):
            if record := self._registry.find(target.task_id) if target.task_id else None:
                return record
            raise _unknown(target.task_id)
        if target.strip() and "\0" not in target and (record := self._registry.find(target)):
            return record
        if record := self._registry.find_branch(target):
            return record
        raise _unknown(target, [record.task_id for record in self._registry])

    def _require_tree(self, record: Record) -> None:
        if worktrees.is_missing(record):
            raise PersonNeeded(
                f"the directory of task {record.task_id!r} was deleted by hand: {printable(record.path)}",
                hint=f"its commits are on {record.branch or record.result_ref}; moderator clean {record.task_id} removes the rest",
            )
        if not worktrees.is_whole(self._repository, record):
            raise PersonNeeded(
                f"the worktree of task {record.task_id!r} at {printable(record.path)!r} is not as moderator made it",
                hint="look at its .git file and at git worktree list",
            )

    # -- leases ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _one_at_a_time(self, key: str) -> Iterator[None]:
        with self._guard:
            lock = self._keys.setdefault(key, threading.Lock())
        with lock:
            yield

    def _take(self, path: Path, what: str, owner: object = None) -> _Hold:
        with self._guard:
            hold = self._holds.get(path)
            if hold and hold.owner == owner:
                hold.users += 1
                return hold
        hold = _Hold(leases.acquire(path, what), owner)
        with self._guard:
            self._holds[path] = hold
        return hold

    def _give_back(self, hold: _Hold, forget: bool = False) -> None:
        with self._guard:
            hold.users -= 1
            if forget:  # for all its users: what they held is gone
                hold.lease.forget()
            if forget or hold.users <= 0:
                if self._holds.get(hold.lease.path) is hold:
                    del self._holds[hold.lease.path]
                hold.lease.release()

    def _releaser(self, hold: _Hold) -> Callable[[], None]:
        released = threading.Event()

        def release() -> None:
            with self._guard:
                if released.is_set():
                    return
                released.set()
            self._give_back(hold)

        return release

    def lease_descriptor(self, target: Target) -> int:
        """Return the descriptor that holds the workspace's lease: for a supervisor that must outlive this process."""
        record = self._record(target)
        with self._guard:
            hold = self._holds.get(self._registry.lease_path(record.key))
            return hold.lease.descriptor if hold else -1


@dataclass(frozen=True)
class Fingerprint:
    """What tasks must leave alone, in a form that can be compared."""

    head: bytes
    config: bytes
    index: tuple[int, ...]
    staged: str

    @classmethod
    def of(cls, repository: Repository, before: Fingerprint | None = None) -> Fingerprint:
        common = Path(repository.common)
        head = _content(common / "HEAD")
        config = hashlib.sha256(_content(common / "config")).digest()
        try:
            stat = (common / "index").stat()
            index: tuple[int, ...] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        except FileNotFoundError:
            return cls(head, config, (), "")
        if before and before.index == index:
            return cls(head, config, index, before.staged)
        # `git status` rewrites the index without changing what is staged; only the latter counts.
        listed = repository.git("ls-files", "--stage", "-z", accept=(0, 128))
        return cls(head, config, index, hashlib.sha256(listed.out).hexdigest())

    def differences(self, after: Fingerprint) -> list[str]:
        """Return the names of what changed between this and a later one."""
        return [
            name
            for name, same in (
                ("HEAD of the main checkout", self.head == after.head),
                ("the index of the main checkout", self.staged == after.staged),
                ("the repository's configuration", self.config == after.config),
            )
            if not same
        ]


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _is_base(target: Target) -> bool:
    level = target.level if isinstance(target, Workspace) else getattr(target, "isolation_level", None)
    return level is IsolationLevel.NONE


def _context_of(record: Record) -> ExecutionContext:
    return ExecutionContext(
        record.project_id,
        record.path or record.checkout,
        record.branch or record.base_branch,
        record.state_dir,
        record.level,
        record.task_id,
        record.base_branch,
    )


def _workspace(record: Record, context: ExecutionContext, release: Callable[[], None] = lambda: None) -> Workspace:
    return Workspace(
        record.task_id,
        record.path or record.checkout,
        record.branch,
        record.base,
        record.base_branch,
        record.state_dir,
        record.level,
        context,
        release,
    )


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
            hint=f"remove it first (moderator clean {record.task_id}), or give the task another id",
        )


def _unknown(name: str, known: Iterable[str] = ()) -> UnknownWorkspace:
    import difflib

    close = difflib.get_close_matches(name, list(known), n=3)
    return UnknownWorkspace(
        f"no workspace belongs to {name!r}",
        hint=f"did you mean {' or '.join(map(repr, close))}?" if close else "moderator list shows what there is",
    )


def _bytes_in(folder: str) -> int:
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(where, name)).st_blocks * 512
    return total
