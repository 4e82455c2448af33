"""Take workspaces away and bring them back: removal, undo, rescues, the trash.  The half of `GitManager` that must lose nothing.

Every method takes the lease of the workspace it touches for as long as it touches it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from moderator.context import IsolationLevel
from moderator.errors import EnvironmentProblem, PersonNeeded, UnknownRescue, WorkspaceBusy, to_type
from moderator.furnishing import Wanted
from moderator.git import entries, leases, rescues, retiring
from moderator.git.choosing import removal_meant
from moderator.git.emptying import Emptier, trash_lock
from moderator.git.holds import Hold, Holds
from moderator.git.lifecycle import KEPT, Lifecycle
from moderator.git.registry import MAKING, READY, Record, Registry, key_of, unknown
from moderator.git.removals import Removals
from moderator.git.repository import Repository
from moderator.git.rescues import Described
from moderator.git.retiring import Retired, Wish
from moderator.git.trash import delete, retired_of, trash_of
from moderator.git.unsaved import Unsaved
from moderator.git.values import Keeping, Removal, Rescue
from moderator.git.worktrees import Start
from moderator.naming import generate_task_branch, task_directory_name, task_slug

_MOST_COPIES = 1000  # restored workspaces of one task before a name must be given


def refuse_adopted(record: Record) -> None:
    """Raise PersonNeeded for a workspace whose branch a person made: that is nobody's to free."""
    if record.adopted:
        raise PersonNeeded(
            f"the workspace of task {record.task_id!r} was adopted: its branch {record.branch!r} is not moderator's to set aside",
            hint=f"remove the workspace, the branch stays: {to_type('moderator', 'clean', record.task_id)}; "
            "or give the new task another id",
        )


class Safekeeping:
    """What takes away and brings back, for one repository.  Safe to be shared by threads."""

    def __init__(
        self,
        repository: Repository,
        registry: Registry,
        removals: Removals,
        lifecycle: Lifecycle,
        holds: Holds,
        keeping: Keeping,
        stopped: Callable[[], bool] | None = None,
    ) -> None:
        self._repository = repository
        self._registry = registry
        self._removals = removals
        self._lifecycle = lifecycle
        self._holds = holds
        self._keeping = keeping
        self.emptier = Emptier(repository, registry, removals, keeping.days, stopped)

    # -- away -----------------------------------------------------------------------------------------------------

    def remove(
        self,
        record: Record,
        rescue: bool,
        reason: str,
        frees: bool = False,
        later: bool = False,
        recycle: bool = False,
        before: Callable[[Record], object] | None = None,
    ) -> Removal:
        """Remove a workspace; the trash that need not be kept at all is deleted at once, or `later` as long as there is room.

        With `recycle` it goes to the pool instead, if it is fit for that and the pool takes any.  `before` is called with the
        record of a workspace that can be removed as it stands, unless its directory is gone.
        """
        pool = self._lifecycle.pool
        recycle = recycle and not record.adopted
        keeps = recycle and not rescue and pool.limits.keeps_ignored
        wish = Wish(rescue, reason, frees, keeps, self._keeping)
        retired: Retired | None = None
        with self._held(record.task_id) as done:
            current = self._registry.find(record.task_id)
            if current is None:
                raise unknown(record.task_id)
            if before and current.state == READY and not (current.path and entries.is_missing(current)):
                if current.path:
                    retiring.check_retirement(self._repository, current, wish)
                before(current)
            retired = self._lifecycle.retire(current, wish)
            done()
        if retired is None:  # a dead process had removed it but for its name
            known = next((found for found, _ in self._removals if found.id == record.mark), None)
            retired = Retired(known or retiring.removal_without_tree(self._repository, record, wish))
        removal = retired.removal
        taken = None
        if recycle and removal.rescue is None and removal.head:
            taken = self._taken_by_pool(retired, record)
        pool.forget(record)
        if taken:
            return taken
        waits = later and retired.size is not None and self.emptier.may_wait(removal, record, retired.size)
        if removal.kept_until is not None or waits:
            return removal
        if found := self._removals.find(removal.id):
            self.emptier.release(*found)
            self.emptier.delete_garbage_of(record)
        return removal

    def _taken_by_pool(self, retired: Retired, record: Record) -> Removal | None:
        """Give a removed workspace to the pool; None, and it is as it was, if the pool does not take it."""
        removal, pool = retired.removal, self._lifecycle.pool
        lock = trash_lock(self._repository, removal.id)
        # Somebody deletes it, or brings it back, at this moment; or there is no space for a lock.
        with contextlib.suppress(WorkspaceBusy, EnvironmentProblem), leases.held(lock, "the trash", 0.0) as trash:
            since = removal.removed_at if removal.renamed_at is None else removal.renamed_at
            if self._removals.find(removal.id) and pool.take_back(record, str(removal.head), since, retired.seen):
                removal = replace(removal, left=(), kept_until=None)
                self._removals.write(removal, record)
                delete(retired_of(self._repository, record))
                trash.forget()
                return removal
            trash.forget()
        return None

    def check(self, record: Record, rescue: bool) -> Unsaved:
        """Return what a removal would find in no commit; raise what it would raise."""
        if owner := self._registry.holder(record):
            cure = to_type("moderator", "unlock", record.task_id, "--abandoned")
            raise leases.busy(f"the workspace of task {record.task_id!r}", owner, cure)
        if record.state != READY:  # a dead process left it half-way: a removal brings it to one of its ends first
            return Unsaved.nothing()
        self._repository.refuse_mirror(KEPT, afresh=True)
        if not record.path:
            return Unsaved.nothing()
        return retiring.foreseen(self._repository, record, Wish(rescue, "", keeping=self._keeping))

    def set_aside(self, record: Record, reason: str, before: Callable[[Record], object] | None = None) -> Rescue | None:
        """Free every name of a task; what had them is in the rescue that is returned, None if there was nothing to keep.

        `record` need not be registered: a branch or a result may be all that is left.
        """
        if found := self._registry.find(record.task_id):
            refuse_adopted(found)
            made = self.remove(found, True, reason, frees=True, before=before).rescue
            record = found
        else:
            made = None
        if self._repository.commit_of(record.ref):  # all that is left, of an earlier time or of one that was cut short
            with self._held(record.task_id) as done:
                made = self._lifecycle.set_ref_aside(record, reason) or made
                done()
        return rescues.find_rescue(self._repository, made).rescue if made else None

    def rescue(self, record: Record, reason: str) -> Rescue | None:
        """Rescue what is in no commit and leave the workspace as it is; None if all is in commits."""
        with self._held(record.task_id):
            if not record.path:
                return None
            self._lifecycle.require_tree(record)
            self._repository.refuse_mirror(KEPT, afresh=True)
            made = retiring.snapshot(self._repository, record, Wish(True, reason, keeping=self._keeping))
        return rescues.find_rescue(self._repository, made).rescue if made else None

    # -- back -----------------------------------------------------------------------------------------------------

    def undo(self, name: str | None, furnishing: Wanted) -> tuple[Record, Callable[[], None]]:
        """Bring back the workspace that was removed last, or last of a task; return it with what gives its lease back."""
        meant = removal_meant(self._repository, self._registry, self._removals, name)
        removal, record = meant.removal, meant.record
        if removal is None:
            return self._taken_back(record)
        lock = trash_lock(self._repository, removal.id)
        with leases.held(lock, "the trash", 10.0) as trash, self._taken(record.task_id) as (hold, release):
            found = self._removals.find(removal.id)
            if found is None:
                raise UnknownRescue(f"the removal of task {record.task_id!r} has been undone, or forgotten, meanwhile")
            back = self._lifecycle.found_back(*found) or self._lifecycle.take_back(*found, hold.lease, furnishing)
            trash.forget()
        return back, release

    def _taken_back(self, record: Record) -> tuple[Record, Callable[[], None]]:
        """Take back a removal that a dead process had not come to write down."""
        with self._taken(record.task_id) as (_, release):
            now = self._registry.find(record.task_id)
            back = self._lifecycle.recovered(now) if now == record else None
            if back is None:
                raise UnknownRescue(f"the removal of task {record.task_id!r} has been finished, or undone, meanwhile")
        return back, release

    def restore(
        self, described: Described, task_id: str | None, root: str, furnishing: Wanted
    ) -> tuple[Record, Callable[[], None]]:
        """Lay a rescue out in a new workspace, under the task's own id if its names are free, or under `task_id`."""
        old = described.record
        new_id = self._free_id(old) if task_id is None else task_id
        ours = old.path and not entries.is_elsewhere(old.path)
        home = os.path.dirname(old.path) if ours else os.path.join(root, entries.TASKS)
        level = old.level if old.path else IsolationLevel.FULL
        record = replace(
            old,
            task_id=new_id,
            level=level,
            branch=self._branch_for(old, new_id) if level.isolates_branch else None,
            path=os.path.join(home, task_directory_name(new_id)),
            state_dir=os.path.join(os.path.dirname(old.state_dir), task_directory_name(new_id)),
            entry=entries.new_entry_id(task_slug(new_id)),
            token=secrets.token_hex(16),
            created_at=time.time(),
            state=MAKING,
            checkout="",
            adopted="",
            rendered="",
            base=old.base or described.rescue.head,
        )
        rescue = described.rescue
        own = described.values.get("head_ref", "") in ("", old.ref)
        tip = (rescue.tip or rescue.head) if own else rescue.head
        with self._taken(new_id) as (hold, release):
            start = Start(tip, rescue.head)
            back = self._lifecycle.bring_back(
                record, start, described, hold.lease, furnishing=furnishing, indulgent=True
            )
        return back, release

    def _branch_for(self, old: Record, new_id: str) -> str:
        return (
            str(old.branch) if new_id == old.task_id and old.branch else generate_task_branch(old.base_branch, new_id)
        )

    def _free_id(self, old: Record) -> str:
        names = [old.task_id, *(f"{old.task_id}-rescued{n or ''}" for n in (0, *range(2, _MOST_COPIES)))]
        for name in names:
            record = replace(
                old, task_id=name, branch=self._branch_for(old, name) if old.level.isolates_branch else None
            )
            if self._registry.owner_of_name(name) is None and self._repository.commit_of(record.ref) is None:
                return name
        raise UnknownRescue(f"all names for copies of {old.task_id!r} are taken", hint="give one with --as")

    # -- the trash ------------------------------------------------------------------------------------------------

    def trash_of(self, removal: Removal) -> str | None:
        found = self._removals.find(removal.id)
        tree = trash_of(found[1]) if found and found[1].path else ""
        return tree if os.path.isdir(tree) else None

    def drop(self, rescue: Rescue) -> None:
        """Forget a rescue for good, and let go what the trash holds for it."""
        rescues.drop_rescue(self._repository, rescue)
        for removal, record in list(self._removals):
            if removal.rescue == rescue.id:
                with leases.held(trash_lock(self._repository, removal.id), "the trash", 10.0) as lock:
                    if found := self._removals.find(removal.id):
                        # The removal can still be undone as far as commits go; what was rescued is what is given up.
                        kept_until = 0.0 if removal.left else None
                        self._removals.write(replace(found[0], kept_until=kept_until, rescue=None), record)
                    lock.forget()

    # -- leases ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _held(self, task_id: str) -> Iterator[Callable[[], None]]:
        """Hold a workspace's lease; the function that is given says that what it protected is gone."""
        path = self._registry.lease_path(key_of(task_id))
        gone = False

        def done() -> None:
            nonlocal gone
            gone = True

        with self._holds.turn(path):
            hold = self._holds.take(path, f"the workspace of task {task_id!r}", task_id=task_id)
            try:
                yield done
            finally:
                self._holds.give_back(hold, forget=gone)

    @contextlib.contextmanager
    def _taken(self, task_id: str) -> Iterator[tuple[Hold, Callable[[], None]]]:
        """Take a workspace's lease for whoever gets the workspace; it is given back only if something goes wrong."""
        path = self._registry.lease_path(key_of(task_id))
        with self._holds.turn(path):
            hold = self._holds.take(path, f"the workspace of task {task_id!r}", task_id=task_id)
            release = self._holds.releaser(hold)
            try:
                yield hold, release
            except BaseException:
                release()
                raise
