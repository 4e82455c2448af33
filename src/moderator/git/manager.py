"""`GitManager`: what others ask of git, in their words.

Every method takes a context, a workspace or a task id and returns typed values.  Safe to be shared by threads; several
processes may work on one repository, each with a manager of its own.  No database is needed: what is known about
workspaces is kept beside the repository's own files.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import math
import os
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from moderator.context import ExecutionContext, IsolationLevel
from moderator.errors import (
    CheckoutNotClean,
    ConfigurationError,
    EnvironmentProblem,
    GitFailed,
    PersonNeeded,
    UnknownRescue,
    UnknownRevision,
    UnknownWorkspace,
    WorkspaceBusy,
    to_type,
)
from moderator.furnishing import NOTHING, Furnishing, Render, Wanted
from moderator.git import (
    adopting,
    branches,
    committing,
    entries,
    history,
    leases,
    locking,
    rendering,
    rescues,
    selecting,
)
from moderator.git.committing import CommitStyle, Kept
from moderator.git.contents import Worktree, printable
from moderator.git.fingerprint import Fingerprint
from moderator.git.furnish import Needs
from moderator.git.holds import Holds
from moderator.git.lifecycle import Lifecycle, checkout_at
from moderator.git.listing import files_in, ignored_entries, untracked_files
from moderator.git.pool import PoolLimits, PoolStatus
from moderator.git.registry import BRANCH, MAKING, READY, TREE, Record, Registry, key_of, result_ref, unknown
from moderator.git.removals import Removals
from moderator.git.rendering import Template
from moderator.git.repository import Base, Repository, require_git
from moderator.git.safekeeping import Safekeeping, refuse_adopted
from moderator.git.spares import Spare
from moderator.git.unsaved import Unsaved
from moderator.git.untouched import Untouched
from moderator.git.values import Change, Commit, Keeping, Removal, Rescue, Stand, Workspace, WorkspaceStatus
from moderator.git.worktrees import Start
from moderator.naming import task_slug

if TYPE_CHECKING:
    from moderator.git.inspection import Inspector
    from moderator.git.merged import Merged, NotMerged
    from moderator.git.whereabouts import Whereabouts

_BETWEEN_REFILLS = 1.0  # seconds: a process that fills goes on for longer, and sees what has been taken meanwhile
_PATIENCE = 10.0  # seconds to wait for somebody who adopts something at this moment

Target = ExecutionContext | Workspace | str
"""What names a workspace: its context, itself, or what people type: the task's id, its exact branch, or the whole ref.

A text that is the id of one and the branch of another is refused (AmbiguousName); `of_task` takes an id for an id.
"""

Before = Callable[[Workspace], object]
"""What is to be done with a workspace right before it is removed."""


class GitManager:
    """Makes, inspects, commits and removes the workspaces of one repository."""

    def __init__(
        self,
        repository: str | os.PathLike[str],
        style: CommitStyle | None = None,
        keeping: Keeping | None = None,
        pool: PoolLimits | None = None,
        furnishing: Furnishing = NOTHING,
    ) -> None:
        """Open the repository that `repository`, any directory inside it, belongs to.

        Linked worktrees and bare repositories will do.  `style` is how commits are made, `keeping` how much is kept of what is
        removed, `pool` how many spares there may be, `furnishing` what new workspaces get beside their checkout.  Raises
        NotARepository, or EnvironmentProblem if git is missing or older than 2.38.
        """
        self._repository = Repository.open(repository)
        require_git()
        self._registry = Registry(self._repository.ours)
        self._style = style or CommitStyle()
        self.furnishing = furnishing
        self._holds = Holds()
        self._removals = Removals(self._repository.ours)
        keeping = keeping or Keeping()
        limits = pool or PoolLimits()
        self._lifecycle = Lifecycle(self._repository, self._registry, self._removals, keeping, limits)
        self._safe = Safekeeping(
            self._repository, self._registry, self._removals, self._lifecycle, self._holds, keeping, self._style.stopped
        )
        self._fingerprint: Fingerprint | None = None
        self.refills = limits.refill
        self.deletes_later = False
        """Whether somebody keeps house: then tasks leave what they remove to him."""
        self._refilled = -math.inf
        self._untouched: dict[str, Untouched] = {}

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
    def home(self) -> str:
        """A directory by which another process finds this repository, whatever becomes of its worktrees."""
        return self.main_worktree or self.state_root

    @property
    def default_root(self) -> str:
        """Where workspaces go if nobody says otherwise: a directory beside the repository."""
        return self._repository.default_root

    def resolve_base(self, revision: str = "") -> Base:
        """Return the base that a branch, a tag, a commit or HEAD ("") names.  Raises UnknownRevision."""
        return self._repository.base(revision)

    def files_at(self, revision: str = "") -> list[str]:
        """Return the paths of the regular files of a base: those that every workspace begins with.  Raises UnknownRevision."""
        return files_in(self._repository, self.resolve_base(revision).commit)

    def untracked_files(self) -> list[str]:
        """Return the paths in the main checkout that are neither tracked nor ignored; none where there is no checkout."""
        return untracked_files(self.main_worktree) if self.main_worktree else []

    def ignored_entries(self) -> list[str]:
        """Return what git ignores in the main checkout, directories with a `/` behind them; nothing where there is no checkout."""
        return ignored_entries(self.main_worktree) if self.main_worktree else []

    def existing_branches(self, names: Iterable[str]) -> set[str]:
        """Return which of these branches exist, compared without regard to case, as some file systems do."""
        wanted = {name.casefold(): name for name in names}
        answer = self._repository.git("for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads")
        return {wanted[name.casefold()] for name in answer.text.split("\n") if name.casefold() in wanted}

    def require_clean_checkout(self, directory: str) -> None:
        """Raise CheckoutNotClean unless the checkout at `directory` has nothing uncommitted."""
        checkout = checkout_at(self._repository, directory)
        dirty = checkout.contents(ignored=False).uncommitted
        if dirty or checkout.operation:
            shown = ", ".join(printable(path) for path in dirty[:5]) or f"a {checkout.operation} in progress"
            raise CheckoutNotClean(
                f"the checkout {checkout.tree!r} has changes that are not committed: {shown}",
                hint="commit or stash them, or use --isolation full, which does not touch the checkout",
            )

    def require_checkout_at(self, directory: str, fork: Base) -> None:
        """Raise UnknownRevision unless the checkout at `directory` is at the base `fork`."""
        self._lifecycle.require_checkout_at(directory, fork)

    def stand_of_checkout(self, directory: str) -> Stand:
        """Return where the checkout at `directory` stands, whatever is in its files."""
        checkout = checkout_at(self._repository, directory)
        entries = checkout.git("ls-files", "-v", "-z").fields
        return Stand(
            checkout.git("symbolic-ref", "--quiet", "HEAD", accept=(0, 1)).text,
            checkout.git("rev-parse", "--verify", "--quiet", "HEAD", accept=(0, 1, 128)).text,
            tuple(entry for entry in entries if not entry.startswith("H ")),
            os.path.lexists(os.path.join(checkout.git_dir, "index.lock")),
        )

    def fingerprint(self) -> Fingerprint:
        """Return what tasks must leave alone: see Fingerprint."""
        self._fingerprint = Fingerprint.of(self._repository, self._fingerprint)
        return self._fingerprint

    def tree_of_checkout(self, directory: str) -> str:
        """Return the id of everything in the checkout at `directory` as git would commit it; the index is not touched."""
        return committing.tree_of(checkout_at(self._repository, directory), self._repository)

    # -- workspaces -----------------------------------------------------------------------------------------------

    def note_new(self, note: Callable[[Workspace], object]) -> None:
        """Have `note` called with every workspace that is to be made from now on, before anything of it is there.

        So what is known of it is known as soon as anybody can find it, whenever this process is killed.  What `note` raises keeps
        it from being made.
        """
        self._lifecycle.claimed = lambda record: note(_workspace(record, _context_of(record)))

    def create_workspace(
        self,
        context: ExecutionContext,
        base: str | None = None,
        *,
        fresh: bool = False,
        directories: Sequence[str] = (),
        furnishing: Furnishing | None = None,
    ) -> Workspace:
        """Make the context's names real and return the workspace, leased.

        `base` is a branch, tag or commit; None means the commit of `context.base_branch`.  The lease is held until the
        `with` ends, `release` is called, or this process ends.  Asked again for the same task it returns the same
        workspace; what a dead process left half-made is made again.  `fresh` refuses a workspace that is there already: for
        whoever must know that nobody has worked in it.  `directories` are those of the tree that are checked out, with the
        files on the way to them (a new worktree only); none: everything.  `furnishing` is what a new worktree gets beside its
        checkout; None: the manager's own.

        Raises WorkspaceBusy if another process holds it, IsolationError if the names belong to another task,
        WorkspaceOccupied if a branch, foreign files or a symbolic link is in the way, UnknownRevision for a base
        that names no commit, UsageError for a directory that it does not have, ConfigurationError for what cannot be carried,
        CheckoutNotClean for level BRANCH in a checkout with changes, EnvironmentProblem.
        """
        level = context.isolation_level
        if level is IsolationLevel.NONE:
            return self._use_checkout(context, base)
        if not context.task_id:
            raise ConfigurationError(
                "this context belongs to no task",
                hint="derive one with ExecutionContext.create_isolated_context",
            )
        lease_path = self._registry.lease_path(key_of(context.task_id))
        with self._holds.turn(lease_path):
            hold = self._holds.take(lease_path, f"the workspace of task {context.task_id!r}", task_id=context.task_id)
            release = self._holds.releaser(hold)
            try:
                if level is IsolationLevel.BRANCH:  # first, for where it cannot be had nothing must be made
                    release = self._with_checkout(context, release)
                wanted = self.furnishing if furnishing is None else furnishing
                record = self._safe.emptier.room.with_room(
                    context.working_directory,
                    lambda: self._lifecycle.make(context, base, hold.lease, fresh, directories, wanted),
                )
                self._refill(record)
                if fresh and record.path:
                    self._note_untouched(record)
            except BaseException:
                with contextlib.suppress(EnvironmentProblem):  # a record that cannot be read keeps its lock
                    if self._registry.owner_of_name(context.task_id) is None:
                        hold.lease.forget()
                release()
                raise
        return _workspace(record, context, release)

    def check_furnishing(self, furnishing: Furnishing, base: str) -> None:
        """Raise ConfigurationError if workspaces of a commit cannot get this, as far as it can be known before one is made."""
        needs = Needs.of(self._repository, furnishing)
        selecting.refuse_unignored_at(self._repository, base, needs.items)

    def templates_at(self, commit: str, wanted: Sequence[Render]) -> list[Template]:
        """Return what files are made of that will be rendered in workspaces of a commit, before there is one.

        Raises ConfigurationError for a template that is not there or is no file, and for a place that git tracks or does not
        ignore.
        """
        return rendering.templates_at(self._repository, commit, wanted)

    def templates_in(self, workspace: Workspace, wanted: Sequence[Render]) -> list[Template]:
        """The same for a workspace that is there: its own files first.  Raises ConfigurationError, EnvironmentProblem."""
        return rendering.templates_in(self._repository, self._worktree(workspace), workspace.base, wanted)

    def write_rendered(
        self, workspace: Workspace, files: Sequence[Template], memo: str, as_made: bool = False
    ) -> list[str]:
        """Put rendered files into a workspace that the caller holds; return those that were left, for they are not ours.

        Unchanged they are no reason to keep the workspace.  `memo` is what `rendered_in` returns.  `as_made`: nobody
        has worked in it since it was made.  Raises ConfigurationError for a place that git does not ignore or to which a link
        leads, EnvironmentProblem.
        """
        record = self._record(workspace)
        noted = self._untouched.pop(record.entry, None)
        if memo != record.rendered:
            self._registry.replace(replace(record, rendered=memo))
        left = rendering.write(entries.worktree_of(self._repository, record), files)
        if noted and as_made:
            self._note_untouched(record)
        return left

    def rendered_in(self, workspace: Workspace) -> str:
        """Return the memo of the files that were rendered in a workspace, "" if none were."""
        return self._record(workspace).rendered

    def _worktree(self, workspace: Workspace) -> Worktree:
        return entries.worktree_of(self._repository, self._record(workspace))

    def adopt(
        self,
        what: str,
        base_context: ExecutionContext,
        task_id: str | None = None,
        base: str | None = None,
        furnishing: Wanted | None = None,
    ) -> Workspace:
        """Make a person's linked worktree, or a branch that no worktree is on, the workspace of a task; return it, leased.

        Nothing of a worktree is moved or changed; a branch gets one below the directory of `base_context`, whose state
        directory is that of its tasks.  `task_id` defaults to the name of the branch, `base`, what that forked from, to what
        the main worktree is on; `furnishing` is asked what a new worktree gets beside its checkout, None: the manager's own.

        Raises what `adopting.find`, `refuse_other_names` and `fork_of` do, WorkspaceBusy, and before anything is made.
        """
        # One at a time: two that adopt the same under two ids would both find it free.
        with leases.held(self._repository.ours / "adopting.lock", "the adoption of worktrees here", _PATIENCE):
            for half in [one for one in self._registry if one.adopted and one.state == MAKING]:
                with contextlib.suppress(WorkspaceBusy, PersonNeeded, UnknownWorkspace):  # finished, or taken back
                    self.hold(_workspace(half, _context_of(half))).release()
            return self._adopted(what, base_context, task_id, base, furnishing or self._wanted)

    def _adopted(
        self, what: str, base_context: ExecutionContext, task_id: str | None, base: str | None, furnishing: Wanted
    ) -> Workspace:
        found = adopting.find(self._repository, self._registry, what)
        name = adopting.id_for(self._removals, found) if task_id is None else task_id
        homes = {os.path.dirname(one.path) for one in self._registry if one.path and not entries.is_elsewhere(one.path)}
        homes |= {os.path.join(root, entries.TASKS) for root in (self.default_root, base_context.working_directory)}
        adopting.refuse_other_names(self._registry, found, name, set(map(os.path.realpath, homes)))
        adopting.refuse_a_place_inside(self._repository, found)
        fork = adopting.fork_of(self._repository, found, base)
        self._repository.refuse_mirror("the branches of tasks")
        context = ExecutionContext.named(replace(base_context, git_branch=fork.name), name, IsolationLevel.FULL)
        record = replace(
            _unregistered(replace(context, git_branch=found.branch)),
            path=found.tree or os.path.abspath(context.working_directory),
            base=fork.commit,
            entry=os.path.basename(found.entry) or entries.new_entry_id(task_slug(name)),
            token=secrets.token_hex(16),
            created_at=time.time(),
            state=MAKING,
            adopted=TREE if found.tree else BRANCH,
        )
        lease_path = self._registry.lease_path(record.key)
        with self._holds.turn(lease_path):
            hold = self._holds.take(lease_path, f"the workspace of task {name!r}", task_id=name)
            release = self._holds.releaser(hold)
            try:
                if found.tree:
                    record = self._lifecycle.take_over(record)
                else:
                    start = Start(found.tip, found.tip, True, record.ref)
                    record = self._lifecycle.bring_back(record, start, None, hold.lease, furnishing=furnishing)
            except BaseException:
                with contextlib.suppress(EnvironmentProblem):  # a record that cannot be read keeps its lock
                    if self._registry.owner_of_name(name) is None:
                        hold.lease.forget()
                release()
                raise
        return _workspace(record, _context_of(record), release)

    def hold(self, target: Target) -> Workspace:
        """Return a workspace that is there already, leased as `create_workspace` leases it; a half-made one is not there.

        Raises UnknownWorkspace, AmbiguousName, WorkspaceBusy if another process holds it, PersonNeeded if its tree is not there
        or not as it was made.
        """
        record = self._record(target)
        lease_path = self._registry.lease_path(record.key)
        with self._holds.turn(lease_path):
            hold = self._holds.take(lease_path, f"the workspace of task {record.task_id!r}", task_id=record.task_id)
            release = self._holds.releaser(hold)
            try:
                current = self._registry.find(record.task_id)
                current = current and self._lifecycle.recovered(current)
                if current is None:
                    hold.lease.forget()
                    raise unknown(record.task_id)
                if current.path:
                    self._lifecycle.require_tree(current)
                else:
                    release = self._with_checkout(_context_of(current), release, clean=False)
            except BaseException:
                release()
                raise
        return _workspace(current, _context_of(current), release)

    def require_there(self, target: Target) -> None:
        """Raise PersonNeeded unless the workspace's tree is there and as it was made; its lease is not asked for."""
        record = self._record(target)
        if record.path:
            self._lifecycle.require_tree(record)

    def workspaces(self) -> list[Workspace]:
        """Return every workspace of this repository, by name.  They are not leased."""
        return [_workspace(record, _context_of(record)) for record in self._registry]

    def unreadable(self) -> list[EnvironmentProblem]:
        """Return what is wrong with records that cannot be read; whose workspaces they are nobody knows."""
        return self._registry.unreadable()

    def find(self, target: Target) -> Workspace:
        """Return one workspace, not leased.  Raises UnknownWorkspace, AmbiguousName."""
        record = self._record(target)
        return _workspace(record, _context_of(record))

    def of_task(self, task_id: str) -> Workspace:
        """Return the workspace of exactly this task, not leased, whatever branches are called.  Raises UnknownWorkspace."""
        if (record := self._registry.find(task_id)) is None:
            raise unknown(task_id)
        return _workspace(record, _context_of(record))

    def owners(self, task_ids: Iterable[str]) -> dict[str, Workspace]:
        """Return which of these ids cannot have their names because a workspace has them, of whichever task."""
        found = {}
        for task_id in task_ids:
            if record := self._registry.owner_of_name(task_id):
                found[task_id] = _workspace(record, _context_of(record))
        return found

    def results(self, task_ids: Iterable[str]) -> dict[str, str]:
        """Return the refs that keep results of earlier workspaces without a branch, of these ids."""
        refs = {task_id: result_ref(task_id) for task_id in task_ids}
        commits = self._repository.commits_of(list(refs.values()))
        return {task_id: ref for task_id, ref in refs.items() if commits[ref]}

    def holder(self, target: Target) -> leases.Owner | None:
        """Return who holds the workspace now, None if nobody does."""
        return self._registry.holder(self._record(target))

    def lock(self, target: Target, reason: str) -> str:
        """Keep a workspace from being removed until `unlock`; return the reason as it was written.

        Raises PersonNeeded if somebody did already, UsageError at a level that has no worktree.
        """
        return locking.lock(self._repository, self._record(target), reason)

    def unlock(self, target: Target) -> str | None:
        """Take a person's lock away; return its reason, None if there was none."""
        return locking.unlock(self._repository, self._record(target))

    def abandon(self, target: Target) -> leases.Owner | None:
        """Free a workspace that another machine holds, on a person's word that it is gone; return who held it.

        Raises WorkspaceBusy if it is held by a process of this one.
        """
        try:
            record = self._record(target)
        except UnknownWorkspace:  # that machine may have died before it claimed the name
            path = self._registry.lease_path(key_of(target)) if isinstance(target, str) else None
            if path and (owner := leases.abandon(path, f"the workspace of task {target!r}")):
                return owner
            raise
        given_up = leases.abandon(self._registry.lease_path(record.key), f"the workspace of task {record.task_id!r}")
        if record.checkout:
            checkout = checkout_at(self._repository, record.checkout)
            given_up = leases.abandon(self._checkout_lease(checkout), f"the checkout {checkout.tree!r}") or given_up
        return given_up

    def status(self, target: Target, size: bool = False, changes: bool = True) -> WorkspaceStatus:
        """Return what a workspace holds now; `size` measures the disk, `changes=False` does not look into the tree."""
        outlines = self._inspector.outlines([self._record(target)])
        from moderator.git.inspection import measured  # as for all of these

        [status] = self._inspector.looked_into(outlines) if changes else outlines
        return measured(status) if size else status

    def statuses(self, changes: bool = True) -> list[WorkspaceStatus]:
        """Return the status of every workspace, by name; without `changes` a few processes do for any number of them."""
        outlines = self._inspector.outlines(list(self._registry))
        return list(self._inspector.looked_into(outlines)) if changes else outlines

    def overview(self) -> tuple[list[WorkspaceStatus], list[EnvironmentProblem]]:
        """Return the status of every workspace without changes, and what is wrong with records that cannot be read."""
        return self._inspector.overview()

    def look_into(self, statuses: Sequence[WorkspaceStatus]) -> Iterator[WorkspaceStatus]:
        """Yield statuses that are without changes with them, in this order, each as soon as it is known."""
        return self._inspector.looked_into(statuses)

    def commit(self, target: Target, message: str, trailers: Mapping[str, str] | None = None) -> Commit | None:
        """Commit everything in the workspace, untracked files included; None if there is nothing.

        Where the commit goes is the level's: the branch, or `refs/moderator/result/{slug}` for DIRECTORY; for NONE nothing
        is committed.  Raises CannotCommit, changing nothing, for a merge in progress, another branch, a nested repository.
        """
        kept = self.keep(target, message, trailers)
        return history.read_commit(self._repository, kept.commit) if kept.commit else None

    def uncommitted(self, workspace: Workspace) -> dict[str, str]:
        """Return every path that the next commit of a worktree would take, with mode and content as git names them.

        Raises PersonNeeded if the worktree is not as it was made.
        """
        record = self._record(workspace)
        self._lifecycle.require_tree(record)
        worktree = entries.worktree_of(self._repository, record)
        if not worktree.contents(ignored=False).uncommitted:
            return {}
        return committing.uncommitted_entries(self._repository, worktree)

    def keep(
        self,
        target: Target,
        message: str,
        trailers: Mapping[str, str] | None = None,
        leaving: Mapping[str, str] | None = None,
    ) -> Kept:
        """Like `commit`, and return what an executor needs to know of it.

        What is in a worktree exactly as it was told by `uncommitted` before, and is `leaving`, stays out of the commit.
        """
        if _is_base(target):
            return Kept(None, "")
        record = self._record(target)
        text = committing.with_trailers(
            message if message.strip() else f"Work of task {record.task_id}", trailers or {}
        )
        if record.level is IsolationLevel.BRANCH:
            checkout = checkout_at(self._repository, record.checkout)
            return committing.commit_checkout(self._repository, record, checkout, text, self._style)
        self._lifecycle.require_tree(record, has_branch=True)  # the look that follows sees whether HEAD still has one
        untouched = self._untouched.pop(record.entry, None)
        branch = record.ref if record.branch else None
        if untouched and untouched.holds(entries.worktree_of(self._repository, record), branch, record.base):
            return Kept(None, record.base)
        held = self._holds.descriptor(self._registry.lease_path(record.key))
        worktree = entries.worktree_of(self._repository, record, (held,) if held >= 0 else ())
        return committing.commit_worktree(self._repository, record, worktree, text, self._style, leaving or {})

    def diff(self, target: Target) -> list[Change]:
        """Return the paths that differ between the fork point and the workspace as it is now, untracked ones included."""
        record = self._record(target)
        if record.path and not entries.is_missing(record):
            return history.changes_in(entries.worktree_of(self._repository, record), record.base)
        return self.diff_between(record.base, self._tip(record) or record.base)

    def patch(self, target: Target) -> bytes:
        """Return the same as a patch, in git's own bytes."""
        record = self._record(target)
        if record.path and not entries.is_missing(record):
            return history.patch_in(entries.worktree_of(self._repository, record), record.base)
        return self.patch_between(record.base, self._tip(record) or record.base)

    def log(self, target: Target, limit: int | None = None) -> list[Commit]:
        """Return the commits since the fork point, newest first."""
        record = self._record(target)
        return history.commits_between(self._repository, record.base, self._tip(record) or record.base, limit)

    def diff_between(self, base: str, tip: str) -> list[Change]:
        """Return the paths that differ between two commits: for a task whose workspace is gone.

        Raises UnknownRevision if one of them is gone too; so do the two that follow.
        """
        with _commits_gone(base, tip):
            return history.changes_between(self._repository, base, tip)

    def sizes_between(self, pairs: Collection[tuple[str, str]]) -> dict[tuple[str, str], tuple[int, int, int]]:
        """Return how many paths differ, and lines are added and removed, between each two commits that are still there.

        Git is asked for all of them at once.
        """
        return history.sizes_between(self._repository, pairs)

    def patch_between(self, base: str, tip: str) -> bytes:
        """Return the same as a patch."""
        with _commits_gone(base, tip):
            return history.patch_between(self._repository, base, tip)

    def log_between(self, base: str, tip: str) -> list[Commit]:
        """Return the commits that lead from one to the other, newest first."""
        with _commits_gone(base, tip):
            return history.commits_between(self._repository, base, tip)

    def whereabouts(self, commits: Iterable[str], branch: str) -> dict[str, Whereabouts]:
        """Return what has become of commits that were made earlier, on or beside a branch: see Whereabouts."""
        from moderator.git.whereabouts import find_whereabouts  # the same

        return find_whereabouts(self._repository, commits, branch)

    def tip(self, target: Target) -> str | None:
        """Return the newest commit of the workspace's branch or result; None if it has none."""
        return self._tip(self._record(target))

    # -- spares ---------------------------------------------------------------------------------------------------

    def fill_pool(
        self,
        root: str,
        base: str = "",
        size: int | None = None,
        *,
        stop: Callable[[], bool] = lambda: False,
        look: bool = True,
    ) -> PoolStatus:
        """Make spares of `base` for workspaces below `root` until there are `size` (None: the pool's own); return what there is.

        `create_workspace` takes a spare whenever there is one.  See `Pool.fill` for `stop` and `look`.  Raises UnknownRevision,
        WorkspaceBusy if another process is filling the pool.
        """
        commit = self.resolve_base(base).commit
        return self._lifecycle.pool.fill(os.path.join(os.path.abspath(root), "tasks"), commit, size, stop, look)

    @property
    def pool_size(self) -> int:
        """How many spares there should be."""
        return self._lifecycle.pool.size

    @property
    def recycles(self) -> bool:
        """Whether a workspace that is removed may become a spare."""
        return self._lifecycle.pool.recycles

    @property
    def came_back(self) -> int:
        """How many of the workspaces that this manager removed have become spares."""
        return self._lifecycle.pool.came_back

    def pool_status(self) -> PoolStatus:
        """Return which spares there are."""
        return self._lifecycle.pool.status()

    def tidy_pool(self, days: float | None = None) -> list[Spare]:
        """Give up the spares that are of no use any more: never finished, or older than so many days; return those."""
        return self._lifecycle.pool.tidy(look=False, days=days)

    def drain_pool(self) -> list[Spare]:
        """Give up all spares; return those.  What somebody left in one stays in the trash for its time."""
        return self._lifecycle.pool.drain()

    # -- away and back --------------------------------------------------------------------------------------------

    def merged(self, targets: Iterable[Target], into: str | None = None) -> dict[str, Merged | NotMerged]:
        """Return for each of these workspaces, by task id, whether its work is in its base branch, or in the branch `into`.

        However it was merged there: by ancestry, squashed or rebased.  A workspace that has gone meanwhile has no answer.
        Raises UnknownRevision if `into` is no branch, UnknownWorkspace for a name.
        """
        found = [
            self._registry.find(target.task_id) if isinstance(target, Workspace) else self._record(target)
            for target in targets
        ]
        from moderator.git.merged import find_merged  # costs every program that only makes workspaces its time

        return find_merged(self._repository, [record for record in found if record], into)

    def created(self) -> dict[str, float]:
        """Return when each workspace was made, by task id, in unix seconds."""
        return {record.task_id: record.created_at for record in self._registry}

    def delete_merged_branch(self, removal: Removal, merged: Merged) -> Removal:
        """Delete the branch of a workspace that was removed and found to be merged; return what is then known of the removal.

        What only the branch holds is rescued first; undoing the removal makes the branch again.  Raises PersonNeeded if the
        branch has moved or is merged no longer, WorkspaceOccupied if a worktree is on it, WorkspaceBusy.
        """
        from moderator.git.merged import delete_merged_branch  # the same

        lease_path = self._registry.lease_path(key_of(removal.task_id))
        with self._holds.turn(lease_path):
            hold = self._holds.take(lease_path, f"the branch of task {removal.task_id!r}", task_id=removal.task_id)
            free = False
            try:
                found = self._removals.find(removal.id)
                free = self._registry.owner_of_name(removal.task_id) is None
                if found is None or not free:
                    raise UnknownRescue(f"the removal of task {removal.task_id!r} has been undone meanwhile")
                _, record = found
                rescue = delete_merged_branch(self._repository, record, merged, self._lifecycle.set_ref_aside)
                gone = replace(removal, branch_deleted=True, rescue=removal.rescue or rescue)
                self._removals.write(gone, record)
                return gone
            finally:
                self._holds.give_back(hold, forget=free)

    def remove_workspace(
        self,
        target: Target,
        *,
        rescue: bool = False,
        reason: str = "removed",
        later: bool = False,
        recycle: bool = False,
        before: Before | None = None,
    ) -> Removal | None:
        """Remove a workspace with nothing lost and return what is kept of it; its branch stays.

        Without `rescue` it refuses unless everything is in commits reachable from refs.  With it, what is not is put into a
        rescue first, and what no commit holds (ignored files, sockets, files over the limit) stays in the trash for its time.
        `later` leaves the deletion to `empty_trash`, as long as there is room; with `recycle` the tree goes to the pool, if that
        takes any (PoolLimits) and it is fit for it.  `before` is called with the workspace when it is held for the removal and
        nothing has been found that forbids that: what it leaves in the workspace is looked at as anything else.  None at level
        NONE, which has nothing to remove.

        Raises WouldLoseWork (exit code 3) with everything that would be lost, PersonNeeded if somebody locked it or it is
        not as we made it, WorkspaceBusy if another process or manager holds it (what this one has given out itself is its
        own affair), UnknownWorkspace.
        """
        if _is_base(target):
            return None
        return self._safe.remove(
            self._record(target), rescue, reason, later=later, recycle=recycle, before=_with_workspace(before)
        )

    def check_removal(self, target: Target, *, rescue: bool = False) -> Unsaved:
        """Return what the workspace holds that is in no commit, with its size on disk; nothing is removed.

        Raises what `remove_workspace` would.
        """
        return self._safe.check(self._record(target), rescue)

    def set_aside(self, target: Target, reason: str, *, before: Before | None = None) -> Rescue | None:
        """Free every name of a task, so that it can begin anew; return the rescue of what had them.

        The workspace, if there is one, is removed; its branch or result goes too, held by the rescue.  A context will do for
        names under which only a branch is left.  `before` is as for `remove_workspace`.  None if there was nothing that is not
        held elsewhere.

        Raises what `remove_workspace` would, WorkspaceOccupied if a worktree is on the branch.
        """
        return self._safe.set_aside(self._named_by(target), reason, before=_with_workspace(before))

    def check_set_aside(self, targets: Iterable[Target]) -> None:
        """Raise what `set_aside` would for one of these, as far as it can be known before; nothing is touched."""
        in_use = branches.branches_in_use(self._repository)
        for record in map(self._named_by, targets):
            own = ""
            if registered := self._registry.find(record.task_id):
                refuse_adopted(registered)
                self._safe.check(registered, True)
                own = entries.entry_dir(self._repository, registered) if registered.path else ""
            elif owner := self._registry.holder(record):
                cure = to_type("moderator", "unlock", record.task_id, "--abandoned")
                raise leases.busy(f"the workspace of task {record.task_id!r}", owner, cure)
            for git_dir in in_use.get(record.ref, ()):
                if git_dir != own:
                    raise branches.checked_out(record.ref, git_dir)

    def rescue(self, target: Target, reason: str = "asked for") -> Rescue | None:
        """Rescue what is in no commit and leave the workspace as it is, byte for byte; None if all is in commits."""
        return self._safe.rescue(self._record(target), reason)

    def rescues(self) -> list[Rescue]:
        """Return every rescue, the oldest first."""
        return [one.rescue for one in rescues.all_rescues(self._repository)]

    def find_rescue(self, name: str) -> Rescue:
        """Return a rescue by its id, a beginning of it, or its task's id (then the newest).  Raises UnknownRescue."""
        return rescues.find_rescue(self._repository, name).rescue

    def restore_rescue(self, rescue: Rescue, task_id: str | None = None, furnishing: Wanted | None = None) -> Workspace:
        """Lay a rescue out in a new workspace, leased, with files, permissions and staging as they were; the rescue stays.

        The workspace gets the task's own id if its names are free, otherwise one like it, or `task_id`.  `furnishing` says what
        it gets beside that; None: what the manager's own does.  Submodules that cannot be had are left out, with a warning.
        Raises what `create_workspace` would.
        """
        described = rescues.find_rescue(self._repository, rescue.id)
        record, release = self._safe.restore(described, task_id, self.default_root, furnishing or self._wanted)
        return _workspace(record, _context_of(record), release)

    def rescue_patch(self, rescue: Rescue) -> bytes:
        """Return what a rescue holds beyond the commit that HEAD was at, as a patch: tracked files, then untracked ones."""
        return history.patch_of_rescue(self._repository, rescue)

    def drop_rescue(self, rescue: Rescue) -> None:
        """Forget a rescue for good; what the trash keeps for it may go."""
        self._safe.drop(rescue)

    def removals(self) -> list[Removal]:
        """Return the removals of which something is known, the oldest first."""
        return [removal for removal, _ in self._removals]

    def trash_of(self, removal: Removal) -> str | None:
        """Return the directory in which the files of a removed workspace are, None if they have gone."""
        return self._safe.trash_of(removal)

    def undo_removal(self, name: str | None = None, furnishing: Wanted | None = None) -> Workspace:
        """Bring back the workspace that was removed last, or last under a task's id, a branch or a removal's id, leased.

        `furnishing` is asked what one gets beside its files that has to be made again; None: what the manager's own does.
        Submodules that cannot be had are left out, with a warning.
        Raises UnknownRescue if there is none, AmbiguousName if the name means two, EnvironmentProblem if a record that cannot
        be read may be the one, WorkspaceOccupied if its names are taken or its branch has moved.
        """
        record, release = self._safe.undo(name, furnishing or self._wanted)
        return _workspace(record, _context_of(record), release)

    def empty_trash(self, seconds: float | None = None, *, own: bool = True) -> bool:
        """Delete what removals left and nobody can want any more, for `seconds` at most; return whether all of it is gone.

        `own=False`: what only the trash has of this manager's own removals stays, however short its time is.
        """
        return self._safe.emptier.empty(seconds, own)

    def empty_trash_meanwhile(self, seconds: float, cores: int, stop: Callable[[], bool]) -> None:
        """Delete of what this manager has removed `later`, on so many cores, for some seconds or until `stop` says so."""
        self._safe.emptier.room.empty(seconds, cores, stop)

    @property
    def has_trash_waiting(self) -> bool:
        """Whether anything that this manager has removed `later` is still to be deleted."""
        return self._safe.emptier.room.has_waiting

    def make_room(self, folder: str, stop: Callable[[], bool] = lambda: False) -> None:
        """Delete of what this manager has removed `later` as much as leaves room where a folder is to be made, see `Room`."""
        self._safe.emptier.room.make(folder, stop)

    def tidy_trash(self, seconds: float) -> None:
        """End a command: delete for some seconds what nobody can want, and leave the rest to a process of low priority."""
        if not self.empty_trash(seconds, own=False):
            from moderator.process.detached import leave_moderator_behind  # most commands leave nothing

            leave_moderator_behind(self.home, "rescue", "tidy", "--quietly")

    def empty_trash_at_leisure(self, seconds: float) -> bool:
        """The same for a process that nobody waits for: it pauses while anybody holds a workspace.

        Raises WorkspaceBusy if another process is at it.
        """
        return self._safe.emptier.empty_at_leisure(seconds)

    # -- how ------------------------------------------------------------------------------------------------------

    def _wanted(self) -> Furnishing:
        return self.furnishing

    @functools.cached_property
    def _inspector(self) -> Inspector:
        from moderator.git.inspection import Inspector  # costs every program that only makes workspaces its time

        return Inspector(self._repository, self._registry)

    def _named_by(self, target: Target) -> Record:
        """Return the record of a task whose names are to be freed: a context's names may be taken without a workspace."""
        if isinstance(target, ExecutionContext):
            return self._registry.find(target.task_id) or _unregistered(target)
        return self._record(target)

    def _use_checkout(self, context: ExecutionContext, revision: str | None) -> Workspace:
        base = self.resolve_base(context.git_branch if revision is None else revision)
        if revision is not None:
            self.require_checkout_at(context.working_directory, base)
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
        checkout = checkout_at(self._repository, context.working_directory)
        lease_path = self._checkout_lease(checkout)
        with self._holds.turn(lease_path):
            owner = context.task_id or object()  # a task may ask again; whoever has no id shares with nobody
            hold = self._holds.take(
                lease_path, f"the checkout {checkout.tree!r}", owner, context.task_id if clean else ""
            )
            release_checkout = self._holds.releaser(hold)
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

    def _refill(self, record: Record) -> None:
        """Leave a process behind that makes spares where there are too few, if that is wanted and none is at it."""
        pool = self._lifecycle.pool
        now = time.monotonic()
        if self.refills and record.path and now > self._refilled + _BETWEEN_REFILLS and pool.lacks(record):
            from moderator.process.detached import leave_moderator_behind  # only where spares are wanted

            self._refilled = now
            root = os.path.dirname(os.path.dirname(record.path))
            base = ("--base", record.base, "--root", root)
            leave_moderator_behind(self.home, "pool", "fill", str(pool.size), "--quietly", *base)

    def _note_untouched(self, record: Record) -> None:
        """Note what a workspace is in which nobody has worked: if that is how it is kept, git need not be asked."""
        if noted := Untouched.of(entries.worktree_of(self._repository, record)):
            self._untouched[record.entry] = noted

    def _tip(self, record: Record) -> str | None:
        return self._repository.commit_of(record.ref) or (record.base if record.branch is None else None)

    def _record(self, target: Target) -> Record:
        if _is_base(target):
            raise UnknownWorkspace(
                "at level none a task has no workspace of its own to look at",
                hint="look at the base checkout with git, or use another level",
            )
        if isinstance(target, (Workspace, ExecutionContext)):
            if record := self._registry.find(target.task_id) if target.task_id else None:
                return record
            raise unknown(target.task_id)
        return self._registry.named(target)

    def lease_descriptors(self, workspace: Workspace) -> tuple[int, ...]:
        """Return the descriptors that hold a workspace's leases: for a supervisor that must outlive this process."""
        paths = [] if workspace.level is IsolationLevel.NONE else [self._registry.lease_path(key_of(workspace.task_id))]
        if not workspace.level.isolates_directory:
            paths.append(self._checkout_lease(checkout_at(self._repository, workspace.context.working_directory)))
        return tuple(found for path in paths if (found := self._holds.descriptor(path)) >= 0)

    def writable_for(self, workspace: Workspace) -> list[str]:
        """Return the directories that a task in this workspace has to write to: for a sandbox.

        What git needs for a commit there is among them: objects, and where the level has a branch all refs with their logs,
        for a ref is replaced by renaming and so its directory has to be writable.  The main checkout, its HEAD and index, hooks
        and configuration, packed refs and other workspaces are not; at the levels that run in the checkout, the checkout is.
        """
        common = self._repository.common
        if workspace.level.isolates_directory:
            needed = [f"{common}/worktrees/{self._record(workspace).entry}", f"{common}/objects"]
            needed += [f"{common}/{name}" for name in ("refs", "logs", "reftable") if workspace.branch]
            needed += [f"{common}/{name}" for name in ("lfs", "rr-cache")]
        else:
            needed = [common, checkout_at(self._repository, workspace.path).git_dir]
        places = (os.path.realpath(place) for place in (workspace.path, workspace.state_dir, *needed))
        return [place for place in places if os.path.isdir(place)]

    def _checkout_lease(self, checkout: Worktree) -> Path:
        digest = hashlib.sha256(os.fsencode(checkout.git_dir)).hexdigest()[:16]
        return self._registry.lease_path(f"checkout@{digest}")


@contextlib.contextmanager
def _commits_gone(base: str, tip: str) -> Iterator[None]:
    try:
        yield
    except GitFailed as failure:
        raise UnknownRevision(
            f"the commits {base[:12]} and {tip[:12]} cannot be compared",
            hint="one of them may have been pruned with its branch",
            cause=failure.cause,
        ) from failure


def _is_base(target: Target) -> bool:
    level = target.level if isinstance(target, Workspace) else getattr(target, "isolation_level", None)
    return level is IsolationLevel.NONE


def _unregistered(context: ExecutionContext) -> Record:
    """Return the record that a context's workspace would have, for names that may be taken without one."""
    level = context.isolation_level
    return Record(
        task_id=context.task_id,
        project_id=context.project_id,
        level=level,
        branch=context.git_branch if level.isolates_branch else None,
        path=os.path.abspath(context.working_directory) if level.isolates_directory else "",
        state_dir=context.state_dir,
        base_branch=context.base_branch,
        base="",
        entry="",
        token="",
        created_at=0.0,
        state=READY,
    )


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


def _with_workspace(before: Before | None) -> Callable[[Record], object] | None:
    return before and (lambda record: before(_workspace(record, _context_of(record))))


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
        record.created_at,
    )
