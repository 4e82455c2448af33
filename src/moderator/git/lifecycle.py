"""From a claim to a workspace and from a workspace to nothing, each step such that a killed process can be followed.

Whoever calls holds the workspace's lease.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
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
from moderator.furnishing import NOTHING, Furnishing, Wanted, nothing_wanted
from moderator.git import (
    adopting,
    branches,
    carrying,
    entries,
    heads,
    leases,
    rescues,
    rescuing,
    restoring,
    retiring,
    sparse,
    trash,
    worktrees,
)
from moderator.git.contents import Worktree, printable
from moderator.git.furnish import Needs
from moderator.git.pool import Pool, PoolLimits
from moderator.git.registry import BRANCH, MAKING, READY, RETIRING, TREE, Record, Registry
from moderator.git.removals import Removals
from moderator.git.repository import Base, Repository
from moderator.git.retiring import Retired, Wish
from moderator.git.values import Keeping, Removal
from moderator.naming import task_directory_name, task_slug

KEPT = "what is kept of removed workspaces"
"""What a removal relies on: refs, which must stay."""
_NO_SPARES = PoolLimits()


class Lifecycle:
    """Makes and retires the workspaces of one repository."""

    def __init__(
        self,
        repository: Repository,
        registry: Registry,
        removals: Removals,
        keeping: Keeping,
        limits: PoolLimits = _NO_SPARES,
    ) -> None:
        self._repository = repository
        self._registry = registry
        self._removals = removals
        self._keeping = keeping
        self.pool = Pool(repository, self._discard, self._rescue_spare, limits)
        self.claimed: Callable[[Record], object] = lambda _: None
        """Called with what is about to be made, before anything of it is there."""

    def make(
        self,
        context: ExecutionContext,
        base: str | None,
        lease: leases.Lease,
        fresh: bool,
        directories: Sequence[str] = (),
        furnishing: Furnishing = NOTHING,
    ) -> Record:
        """Return the record of the context's workspace: the one that is there already, unless `fresh`, or a new one."""
        settled = self._settled(context, base)
        if settled and fresh:
            raise WorkspaceOccupied(
                f"task {settled.task_id!r} has a workspace already, made meanwhile or by an earlier run",
                hint=f"look at it: {to_type('moderator', 'show', settled.task_id)}",
            )
        return settled or self._made(context, base, lease, sparse.sound(directories), furnishing)

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
        record = self.recovered(record)
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

    def recovered(self, record: Record) -> Record | None:
        """Bring a record whose owner died in the middle to one of its ends.  The caller holds the lease."""
        if record.state == RETIRING:
            came_through = self._removals.find(record.mark) is not None
            if entries.is_in_place(entries.entry_dir(self._repository, record), record) or not came_through:
                retiring.undo_retiring(record)
                retiring.require_back(record)
                self._removals.drop(record.mark)
                return self._ready(record)
            retiring.tidy_trash(record)  # the removal is written down, and what is in the trash has its time
            self._registry.drop(record)
            return None
        if record.state == MAKING and record.adopted == TREE:
            return self._taken_over(record)
        if record.state == MAKING:
            if record.level is IsolationLevel.BRANCH:
                whole = self._repository.commit_of(record.ref) is not None and branches.branch_is_ours(
                    self._repository, record
                )
            else:
                whole = entries.is_whole(self._repository, record)
            if whole:
                return self._ready(record)
            self._discard(record, crashed=True)
            self._registry.drop(record)
            return None
        return record

    def take_over(self, record: Record) -> Record:
        """Make a person's worktree the workspace of a task; nothing of it is moved or changed.

        Raises PersonNeeded if somebody has locked it in this moment.
        """
        self._registry.claim(record)
        try:
            adopting.enter(self._repository, record)
        except BaseException:
            with contextlib.suppress(ModeratorError, OSError):
                adopting.leave(self._repository, record)
                self._registry.drop(record)
            raise
        return self._ready(record)

    def _taken_over(self, record: Record) -> Record | None:
        """Finish what a dead process began to take over; where that cannot be, it is a person's as before, and None."""
        if entries.is_whole(self._repository, record) and not entries.person_lock(self._repository, record):
            with contextlib.suppress(PersonNeeded):
                adopting.enter(self._repository, record)
                return self._ready(record)
        adopting.leave(self._repository, record)
        self._registry.drop(record)
        return None

    def _discard(self, record: Record, crashed: bool = False) -> None:
        """Take a half-made workspace away; what of it is somebody's stays in the trash for its time."""
        if theirs := worktrees.discard(self._repository, record, crashed):
            now = time.time()
            kept = Removal(
                id=record.entry,
                task_id=record.task_id,
                branch=record.branch,
                path=record.path,
                tip=None,
                removed_at=now,
                reason="half made",
                half_made=True,
                left=tuple(theirs),
                kept_until=now + self._keeping.days * 86400,
            )
            self._removals.write(kept, record)

    def _rescue_spare(self, spare: Record) -> str | None:
        """Rescue what somebody left in a spare; what is restored of it becomes an ordinary workspace."""
        home = os.path.dirname(os.path.dirname(spare.path))
        state_dir = str(self._repository.ours / "state" / spare.task_id)
        record = replace(spare, path=os.path.join(home, task_directory_name(spare.task_id)), state_dir=state_dir)
        wish = Wish(True, "left in a spare", keeping=self._keeping)
        return retiring.snapshot(self._repository, record, wish, entries.worktree_of(self._repository, spare))

    def _made(
        self,
        context: ExecutionContext,
        base: str | None,
        lease: leases.Lease,
        directories: Sequence[str],
        furnishing: Furnishing,
    ) -> Record:
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
        if directories:
            sparse.require_present(self._repository, fork.commit, directories)
        needs = Needs.of(self._repository, furnishing if path else NOTHING)
        anew = directories or needs.unfiltered
        with contextlib.nullcontext() if anew else self.pool.reserved(record) as spare:
            if spare and spare.keeps_ignored and carrying.stand_in(spare.path, needs.paths):
                spare = None  # what an earlier task left there would pass for what is carried
            if spare:
                record = replace(record, entry=spare.entry)
            self._registry.claim(record)
            try:
                self.claimed(record)
                # Before the files are written: if it changes meanwhile, it is not this any longer.
                conversion = "" if anew or not path else spare.conversion if spare else self.pool.conversion()
                if spare:
                    self.pool.hand_out(spare, record, whole=not needs)
                elif path:
                    worktrees.publish(
                        self._repository, record, lease,
                        directories=directories, whole=not needs, unfiltered=needs.unfiltered,
                    )  # fmt: skip
                else:
                    branches.create_branch(self._repository, record)
                if conversion:
                    self.pool.note(record, conversion)
                if needs:
                    needs.meet(entries.worktree_of(self._repository, record, (lease.descriptor,)), record.base)
                    worktrees.finish(self._repository, record)
                return self._ready(record)
            except BaseException:
                # What cannot be undone now, on a full disk say, stays in the record: the next attempt finds it there.
                with contextlib.suppress(ModeratorError, OSError):
                    self._discard(record)
                    self._registry.drop(record)
                raise

    def _ready(self, record: Record) -> Record:
        ready = replace(record, state=READY)
        self._registry.replace(ready)
        return ready

    def retire(self, found: Record, wish: Wish) -> Retired | None:
        """Remove a workspace and free its name, with nothing lost; None if a dead process had come that far already.

        Its branch stays, unless the wish is to free it: then what it held is in the rescue.
        """
        record = self.recovered(found)
        if record is None:
            return None
        self._repository.refuse_mirror(KEPT, afresh=True)
        if wish.frees:  # before anything goes that would have to come back
            own = entries.entry_dir(self._repository, record) if record.path else ""
            if where := branches.checked_out_at(self._repository, record.ref, own):
                raise branches.checked_out(record.ref, where)
        if not record.path:
            retired = Retired(retiring.removal_without_tree(self._repository, record, wish))
            self._removals.write(retired.removal, record)
        else:
            self._registry.replace(replace(record, state=RETIRING))
            try:
                retiring.undo_retiring(record)  # a removal that failed may have found its place taken
                missing = entries.is_missing(record)
                if missing:
                    retiring.require_back(record)
                how = retiring.retire_missing if missing else retiring.retire
                retired = how(self._repository, self._removals, record, wish)
            except BaseException:
                if self._removals.find(record.mark) is None:
                    self._registry.replace(record)
                raise
        if wish.frees and (tip := self._repository.commit_of(record.ref)):
            made = self._freed(record, tip, wish.reason)
            removal = replace(retired.removal, branch_deleted=True, rescue=retired.removal.rescue or made)
            self._removals.write(removal, record)
            retired = replace(retired, removal=removal)
        self._registry.drop(record)
        return retired

    def _freed(self, record: Record, tip: str, reason: str, always: bool = False) -> str | None:
        """Delete a branch or a result; return the rescue that was made if it, or its log, held what nothing else does."""
        named = list(dict.fromkeys([tip, *self._reflog(record)]))
        asked = "".join(f"{name}\n" for name in named).encode()
        others = ("--not", f"--exclude={record.ref}", "--glob=refs/*")
        lost = set(self._repository.git("rev-list", "--stdin", *others, stdin=asked).text.split())
        made = None
        if always or lost & set(named):
            made = rescuing.rescue_branch(self._repository, record, tip, reason, named)
        branches.delete_ref(self._repository, record.ref, tip)
        return made

    def _reflog(self, record: Record) -> list[str]:
        answer = self._repository.git("rev-list", "--walk-reflogs", record.ref, "--", accept=(0, 128))
        return list(dict.fromkeys(answer.text.split()))

    def set_ref_aside(self, record: Record, reason: str) -> str | None:
        """Free a branch or a result that no workspace stands on; what it held is rescued.  None if there is none."""
        tip = self._repository.commit_of(record.ref)
        if tip is None:
            return None
        self._repository.refuse_mirror(KEPT, afresh=True)
        if where := branches.checked_out_at(self._repository, record.ref):
            raise branches.checked_out(record.ref, where)
        return self._freed(record, tip, reason, always=True)

    def take_back(
        self, removal: Removal, record: Record, lease: leases.Lease, furnishing: Wanted = nothing_wanted
    ) -> Record:
        """Undo a removal: what is in the trash is renamed back, what has gone from there is made again.

        `furnishing` is asked for what one that is made again gets beside its files.

        Raises WorkspaceOccupied if something has taken its place meanwhile, or its branch has moved.
        """
        self._refuse_if_taken(record)
        if removal.left and record.path:
            entries.require_home(record)
        if removal.half_made or removal.tip is None:
            raise PersonNeeded(
                f"what was half made of task {record.task_id!r} cannot be brought back as a workspace",
                hint=f"look into {printable(trash.trash_of(record))}",
            )
        tip = self._repository.commit_of(record.ref)
        if tip not in (removal.tip, None):
            hint = f"it was at {removal.tip[:12]}; put it back there"
            restore = to_type("moderator", "rescue", "restore", removal.rescue or "")
            raise WorkspaceOccupied(
                f"{record.ref!r} has moved since the workspace of task {record.task_id!r} was removed",
                hint=f"{hint}, or restore what was rescued under another id: {restore}" if removal.rescue else hint,
            )
        for commit in filter(None, (removal.tip, removal.head)):
            if self._repository.commit_of(commit) is None:
                raise PersonNeeded(
                    f"the commits of task {record.task_id!r} are gone from the repository: {commit[:12]}",
                    hint="fetch them from wherever they are, and try again",
                )
        stood_on_it = record.branch and (removal.head is None or removal.head_ref == record.ref)
        if stood_on_it and (where := branches.checked_out_at(self._repository, record.ref)):
            raise branches.checked_out(record.ref, where)
        if record.path and trash.is_whole_in_trash(self._repository, record):
            back = self._renamed_back(record, removal, tip)
        elif record.path:
            described = rescues.find_rescue(self._repository, removal.rescue) if removal.rescue else None
            head = described.rescue.head if described else removal.head or removal.tip
            entry = entries.new_entry_id(task_slug(record.task_id))
            # Written down first, so that an undo that was killed is known again.
            self._removals.write(replace(removal, returning=entry), record)
            # What is made again is made by us, wherever it is.
            adopted = BRANCH if record.adopted else ""
            new = replace(record, entry=entry, token=secrets.token_hex(16), state=MAKING, adopted=adopted)
            stays = tip is not None or removal.branch_missing
            stood = removal.head_ref if removal.head else record.ref if record.branch else ""
            start = worktrees.Start(removal.tip, head, stays, stood)
            back = self.bring_back(new, start, described, lease, removal.modes, furnishing, indulgent=True)
        else:
            self._restore_ref(record, removal.tip, tip)
            back = replace(record, state=READY)
            self._registry.claim(back)
        if not trash.is_in_trash(self._repository, record):
            self._removals.drop(removal.id)
        return back

    def found_back(self, removal: Removal, record: Record) -> Record | None:
        """Return the workspace of a removal that a dead process had taken back already, None if there is none."""
        other = self._registry.find(record.task_id)
        if other is None or other.mark not in (record.mark, removal.returning):
            return None
        if (back := self.recovered(other)) is None:
            return None
        self._removals.drop(removal.id)
        return back

    def _refuse_if_taken(self, record: Record) -> None:
        other = self._registry.owner_of_name(record.task_id)
        if other and other.task_id == record.task_id:
            other = self.recovered(other)  # of a process that died while it removed it
        if other:
            raise WorkspaceOccupied(
                f"task {other.task_id!r} has a workspace under the names of {record.task_id!r}",
                hint=f"look at it: {to_type('moderator', 'show', other.task_id)}; "
                f"remove it first: {to_type('moderator', 'clean', other.task_id)}",
            )

    def _restore_ref(self, record: Record, tip: str, now: str | None) -> None:
        if now is None:
            if record.branch:
                branches.create_branch(self._repository, record, tip)
            elif tip != record.base:
                self._repository.git("update-ref", "--create-reflog", record.result_ref, tip, "0" * len(tip))

    def _renamed_back(self, record: Record, removal: Removal, tip: str | None) -> Record:
        worktrees.check_place(self._repository, record.task_id, record.path, anywhere=bool(record.adopted))
        place = entries.entry_dir(self._repository, record)
        if os.path.lexists(place):  # of an adopted worktree, whose name git has given to another one since
            raise WorkspaceOccupied(
                f"git has entered another worktree where that of task {record.task_id!r} was: {printable(place)}",
                hint=f"remove that one (git worktree list), and try again; its files are in {printable(trash.trash_of(record))}",
            )
        retired = replace(record, state=RETIRING)
        self._registry.claim(retired)  # a crash from here on is either no undo, or a removal that is undone
        try:
            if not removal.branch_missing:
                self._restore_ref(record, str(removal.tip), tip)
            if removal.head:
                where = trash.retired_of(self._repository, record)
                self._place_head(record, where, record.ref, removal.head_ref, removal.head)
            trash.enter_again(self._repository, record)
            retiring.undo_retiring(record)
        except BaseException:
            with contextlib.suppress(ModeratorError, OSError):
                if not os.path.isdir(entries.entry_dir(self._repository, record)):
                    self._registry.drop(retired)
            raise
        return self._ready(record)

    def bring_back(
        self,
        record: Record,
        start: worktrees.Start,
        described: rescues.Described | None,
        lease: leases.Lease,
        modes: Mapping[str, int] | None = None,
        furnishing: Wanted = nothing_wanted,
        indulgent: bool = False,
    ) -> Record:
        """Make a workspace that holds what a rescue describes; None: just the files of `start`, with these permissions.

        What it gets beside that is what is wanted then, and never in the place of anything that is brought back.  `indulgent`:
        submodules that cannot be had are left out.
        """
        self._refuse_if_taken(record)
        worktrees.check_place(self._repository, record.task_id, record.path, anywhere=bool(record.adopted))
        needs = Needs.of(self._repository, furnishing())
        self._registry.claim(record)
        try:
            self.claimed(record)
            worktrees.publish(self._repository, record, lease, start, unfiltered=needs.unfiltered)
            worktree = entries.worktree_of(self._repository, record)
            if record.branch is None and start.tip != record.base and not start.has_branch:
                self._restore_ref(record, start.tip, None)
            entry, own = worktree.git_dir, described.record.ref if described else record.ref
            if described:
                unborn = bool(described.values.get("unborn"))
                self._place_head(record, entry, own, described.values["head_ref"], start.head, unborn)
                restoring.lay_out(self._repository, described, worktree, record.branch)
            else:
                self._place_head(record, entry, own, start.head_ref, start.head)
                restoring.set_modes(worktree.tree, modes or {})
            if needs:
                source = described.rescue.commit if described else start.head
                needs.meet(replace(worktree, descriptors=(lease.descriptor,)), source, brought_back=indulgent)
            worktrees.finish(self._repository, record)
            return self._ready(record)
        except BaseException:
            with contextlib.suppress(ModeratorError, OSError):
                self._discard(record)
                self._registry.drop(record)
            raise

    def _place_head(self, record: Record, entry: str, own: str, head_ref: str, head: str, unborn: bool = False) -> None:
        """Let the HEAD of an entry stand where it stood: on the workspace's own branch, on another that is free, or on none.

        `own` is the ref that was the workspace's own when it stood there.
        """
        if head_ref == own and record.branch:
            return
        stands = self._repository.commit_of(head_ref) if head_ref else None
        free = head_ref and stands == (None if unborn else head)
        if free and branches.checked_out_at(self._repository, head_ref, entry) is None:
            text = f"ref: {head_ref}"
        elif head_ref and record.branch and self._repository.commit_of(record.ref) == head:
            text = f"ref: {record.ref}"
        else:
            text = head
        heads.place(self._repository.common, entry, text)

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
