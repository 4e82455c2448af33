"""What stands in the repository under the names of a plan's tasks: workspaces, branches and results of earlier runs.

Looks and refuses; what becomes of what it finds is decided by the plan and its refinements.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from moderator.context import ExecutionContext, IsolationLevel
from moderator.errors import UnknownRevision, to_type
from moderator.git.leases import busy, is_alive
from moderator.git.manager import GitManager
from moderator.git.values import Commit, Workspace
from moderator.plan import Plan, PlannedTask, Start, refuse_taken

_ENDING = 5.0  # seconds beyond the grace time in which a dead run's supervisor has surely ended its tasks


@dataclass(frozen=True)
class Leftovers:
    """What was found: `tasks` are those that were asked for, `workspaces` has by their ids whichever have their names."""

    git: GitManager
    tasks: Sequence[PlannedTask]
    branches: set[str]
    results: Mapping[str, str]
    workspaces: Mapping[str, Workspace]

    @classmethod
    def of(cls, git: GitManager, level: IsolationLevel, tasks: Sequence[PlannedTask]) -> Leftovers:
        """Look for what is under the names of these tasks."""
        ids = [one.task.id for one in tasks]
        return cls(
            git,
            tasks,
            git.existing_branches(one.branch for one in tasks if one.branch),
            git.results(ids) if level is IsolationLevel.DIRECTORY else {},
            git.owners(ids),
        )

    @property
    def task_ids(self) -> set[str]:
        """The ids of tasks under whose names anything is."""
        found = {*self.results, *self.workspaces}
        return found | {one.task.id for one in self.tasks if one.branch in self.branches}

    def newest_commits(self, base: str) -> dict[str, Commit]:
        """Return, by task id, the newest commit since `base` on each task's branch or result."""
        found: dict[str, Commit] = {}
        for one in self.tasks:
            ref = f"refs/heads/{one.branch}" if one.branch in self.branches else self.results.get(one.task.id)
            try:
                commits = self.git.log_between(base, self.git.resolve_base(ref).commit) if ref else []
            except UnknownRevision:  # deleted since, or pruned: it proves nothing
                continue
            if commits:
                found[one.task.id] = commits[0]
        return found

    def refuse_busy(self, grace: float) -> None:
        """Raise WorkspaceBusy if a live process holds one of the workspaces.

        What a dead one left running is ended by its supervisor, within `grace` seconds and a little: that is waited for.
        """
        deadline = time.monotonic() + grace + _ENDING
        for task_id, workspace in sorted({one.task_id: one for one in self.workspaces.values()}.items()):
            while owner := self.git.holder(workspace):
                if is_alive(owner) or time.monotonic() > deadline:
                    cure = to_type("moderator", "unlock", task_id, "--abandoned")
                    raise busy(f"the workspace of task {task_id!r}", owner, cure)
                time.sleep(0.02)

    def refuse_taken(self, plan: Plan) -> None:
        """Raise WorkspaceOccupied if anything is in the way of the plan, or whatever forbids to set aside what it would."""
        refuse_taken(
            plan,
            self.branches,
            {
                task_id: f"the workspace{'' if one.task_id == task_id else f' of task {one.task_id!r}'} at {one.path} exists"
                for task_id, one in self.workspaces.items()
            },
            self.results,
            {task_id: one.task_id for task_id, one in self.workspaces.items()},
        )
        self.git.check_set_aside(to_set_aside(self.git, one) for one in plan.tasks if one.start is Start.AGAIN)


def to_set_aside(git: GitManager, planned: PlannedTask) -> ExecutionContext | Workspace:
    """Return what names the things under a task's names: its context, or its workspace where the level names nothing."""
    return planned.context if planned.context.task_id else git.of_task(planned.task.id)
