"""Where a task is done, from its first attempt to its last: held all the time, and made as at the start between two attempts.

An agent may do anything to a place: commit, switch, rename its branch, delete the directory, leave locks and settings in the
entry.  So a worktree is never mended: it is removed with a rescue, and a new one is made.  A checkout that others use too
cannot be made anew; there the next attempt begins only if it stands exactly where it stood.

Must not know what an attempt is, nor why another one follows.
"""

from __future__ import annotations

from collections.abc import Sequence

from moderator.context import ExecutionContext, IsolationLevel
from moderator.errors import CheckoutNotClean
from moderator.furnishing import Furnishing
from moderator.git.manager import GitManager
from moderator.git.values import Rescue, Stand, Workspace
from moderator.process import Supervisor


class HeldPlace:
    """A workspace that a run has for one task.

    The supervisor holds its leases too: if this process dies, they last until the task's processes are gone.
    """

    def __init__(
        self,
        git: GitManager,
        supervisor: Supervisor,
        context: ExecutionContext,
        base: str,
        directories: Sequence[str] = (),
        furnishing: Furnishing | None = None,
    ) -> None:
        """Make the workspace, with these directories only if there are any, and with what is given beside its checkout.

        Raises what `GitManager.create_workspace` does, also where there is one already.
        """
        self._git = git
        self._supervisor = supervisor
        self._context = context
        self._base = base
        self._directories = directories
        self._furnishing = furnishing
        self._names: list[str] = []
        self.workspace = self._made()

    def release(self) -> None:
        """Let go of the workspace; it stays.  A second call does nothing."""
        self._leave_supervisor()
        self.workspace.release()

    def put_back(self, reason: str) -> Rescue | None:
        """Make the workspace what it was at the start; return the rescue of what an attempt left in it.

        Nobody else gets it meanwhile, but for the moment between the old one and the new one, in which none is there.  Raises
        CheckoutNotClean for a checkout that is not as it was, and what `GitManager.set_aside` and `create_workspace` do.
        """
        if not self.workspace.level.isolates_directory:
            self._require_as_at_the_start()
            return None
        rescue = self._git.set_aside(self.workspace, reason)
        self.release()
        self.workspace = self._made()
        return rescue

    def _made(self) -> Workspace:
        workspace = self._git.create_workspace(
            self._context, self._base, fresh=True, directories=self._directories, furnishing=self._furnishing
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
