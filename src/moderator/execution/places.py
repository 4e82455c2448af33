"""Where a task is done, from its first attempt to its last: held all the time, and made as at the start between two attempts.

An agent may do anything to a place: commit, switch, rename its branch, delete the directory, leave locks and settings in the
entry.  So a worktree is never mended: it is removed with a rescue, and a new one is made.  A checkout that others use too
cannot be made anew; there the next attempt begins only if it stands exactly where it stood.

Must not know what an attempt is, nor why another one follows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar, cast

from moderator.context import ExecutionContext, IsolationLevel
from moderator.errors import CheckoutNotClean
from moderator.furnishing import Furnishing
from moderator.git.manager import Before, GitManager
from moderator.git.values import Rescue, Stand, Workspace
from moderator.ports import Block
from moderator.process import Supervisor
from moderator.slots import Slot

Reserved = TypeVar("Reserved", Block, Slot)


class HeldPlace:
    """A workspace that a run has for one task.

    The supervisor holds its leases, slot and ports too: if this process dies, they last until the task's processes are gone.
    `is_ready` says whether it has been set up since it was made, `left_by_set_up` what the next commit would take of that.
    """

    def __init__(
        self,
        git: GitManager,
        supervisor: Supervisor,
        context: ExecutionContext,
        base: str,
        directories: Sequence[str] = (),
        furnishing: Furnishing | None = None,
        fresh: bool = True,
    ) -> None:
        """Make the workspace, with these directories only if there are any, and with what is given beside its checkout.

        Unless `fresh`, one that is there is taken.  Raises what `GitManager.create_workspace` does, where it is to be fresh also
        if there is one already.
        """
        self._git = git
        self._supervisor = supervisor
        self._context = context
        self._base = base
        self._directories = directories
        self._furnishing = furnishing
        self._names: list[str] = []
        self._reserved: dict[str, Block | Slot] = {}
        self.is_ready = False
        self.left_by_set_up: Mapping[str, str] = {}
        self.workspace = self._made(fresh)

    def release(self) -> None:
        """Let go of the workspace, which stays, of the slot and the ports.  A second call does nothing."""
        self.let_go()
        while self._reserved:
            name, reserved = self._reserved.popitem()
            self._supervisor.release(name)
            reserved.release()

    def let_go(self) -> None:
        """Let go of the workspace alone.  A second call does nothing."""
        self._leave_supervisor()
        self.workspace.release()

    def ports(self, reserve: Callable[[], Block]) -> Block:
        """Return the ports that belong to the place for as long as it is held.  Raises what `reserve` does."""
        return self._kept("ports", reserve)

    def slot(self, reserve: Callable[[], Slot]) -> Slot:
        """Return the slot that belongs to the place for as long as it is held.  Raises what `reserve` does."""
        return self._kept("slot", reserve)

    def put_back(self, reason: str, before: Before | None = None) -> Rescue | None:
        """Make the workspace what it was at the start; return the rescue of what an attempt left in it.

        `before` is called right before it is removed.

        Nobody else gets it meanwhile, but for the moment between the old one and the new one, in which none is there.  Raises
        CheckoutNotClean for a checkout that is not as it was, and what `GitManager.set_aside` and `create_workspace` do.
        """
        if not self.workspace.level.isolates_directory:
            self._require_as_at_the_start()
            return None
        rescue = self._git.set_aside(self.workspace, reason, before=before)
        self.let_go()
        self.workspace = self._made(fresh=True)
        return rescue

    def _kept(self, what: str, reserve: Callable[[], Reserved]) -> Reserved:
        name = f"{self._context.task_id}#{what}"
        if name not in self._reserved:
            self._reserved[name] = reserve()
            self._supervisor.hold(name, self._reserved[name].descriptor)
        return cast(Reserved, self._reserved[name])

    def _made(self, fresh: bool) -> Workspace:
        self.is_ready, self.left_by_set_up = False, {}
        workspace = self._git.create_workspace(
            self._context, self._base, fresh=fresh, directories=self._directories, furnishing=self._furnishing
        )
        try:
            self._stand = None if workspace.level.isolates_directory else self._git.stand_of_checkout(workspace.path)
            for number, descriptor in enumerate(self._git.lease_descriptors(workspace)):
                name = f"{self._context.task_id}#{number}"
                self._supervisor.hold(name, descriptor)
                self._names.append(name)
        except BaseException:
            self._leave_supervisor()
            workspace.release()
            raise
        return workspace

    def _leave_supervisor(self) -> None:
        while self._names:
            self._supervisor.release(self._names.pop())

    def _require_as_at_the_start(self) -> None:
        workspace, before = self.workspace, self._stand
        assert before is not None
        if what := _moved(before, self._git.stand_of_checkout(workspace.path)):
            raise CheckoutNotClean(what)
        if workspace.level is IsolationLevel.BRANCH and self._git.tip(workspace) != workspace.base:
            raise CheckoutNotClean(f"the attempt moved the branch {workspace.branch}")
        self._git.require_clean_checkout(workspace.path)


def _moved(before: Stand, now: Stand) -> str:
    """Return what an attempt did to where a checkout stands, "" for nothing."""
    if now.ref != before.ref:
        return f"the attempt switched the checkout from {before.branch} to {now.branch}"
    if now.commit != before.commit:
        return f"the attempt left a commit on {now.branch}: {now.commit[:12] or 'none'} instead of {before.commit[:12]}"
    if now.hidden != before.hidden:
        return "the attempt told git not to look at some files of the checkout"
    if now.locked:
        return "the attempt left the index of the checkout locked"
    return ""
