"""From tasks and settings to everything a run will do, or every reason why it cannot.

Pure: decides, creates nothing, and what it needs to know of the repository is handed in.  `--dry-run` prints the value.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any

from moderator.config.settings import MOST_WORKERS
from moderator.context import ExecutionContext, IsolationLevel, overlaps
from moderator.errors import ConfigurationError, InvalidTaskId, PlanError, WorkspaceOccupied, to_type
from moderator.git.values import Commit
from moderator.models import ENV_PLACEHOLDERS, Task
from moderator.naming import generate_task_directory, task_slug
from moderator.store import AttemptRecord, RunRecord
from moderator.templates import names_in


class Start(Enum):
    """What a run does with one of its tasks."""

    RUN = "run"
    """It runs; nothing is there under its names."""
    KEPT = "kept"
    """It is finished: nothing runs, and how it ended is reported as it was."""
    RECORDED = "recorded"
    """Its work is committed and only the record of that is missing: it is written, and nothing runs."""
    AGAIN = "again"
    """What is there under its names is set aside, and then it runs."""
    SET_UP = "set up again"
    """Its workspace stays as it is and is set up once more, and then it runs."""

    @property
    def runs(self) -> bool:
        return self in (Start.RUN, Start.AGAIN, Start.SET_UP)


@dataclass(frozen=True)
class PlannedTask:
    """One task of a plan with its names, what executes it, and what becomes of an attempt that was made before.

    `attempt` is the number that the next attempt gets; `earlier` the last one before, None if there was none; `commit`
    holds the work of one that is only to be recorded.
    """

    task: Task
    context: ExecutionContext
    backend: str
    start: Start = Start.RUN
    attempt: int = 1
    earlier: AttemptRecord | None = None
    commit: Commit | None = None

    @property
    def branch(self) -> str | None:
        return self.context.git_branch if self.context.isolation_level.isolates_branch else None

    @property
    def path(self) -> str:
        return self.context.working_directory

    @property
    def reads_differently(self) -> bool:
        """Whether the task says something else now than when it was last run; False where nobody knows."""
        return bool(self.earlier and self.earlier.digest and self.earlier.digest != self.task.digest)

    def to_dict(self) -> dict[str, Any]:
        return {
            "task_id": self.task.id,
            "description": self.task.description,
            "backend": self.backend,
            "run": self.task.run,
            **{name: value for name, value in self.task.to_dict().items() if name in ("setup", "verify", "teardown")},
            "branch": self.branch,
            "path": self.path,
            "timeout": self.task.timeout,
            "idle_timeout": self.task.idle_timeout,
            "start": self.start.value,
            "attempt": self.attempt,
        }


@dataclass(frozen=True)
class Plan:
    """What a run will do, in the order in which tasks start.

    `base_branch` and `base_commit` are what every task forks from; `keep` says whose workspaces stay: always, failed, never.
    `source` is the file that lists the tasks, as an absolute path, "" if there is none.  `earlier` is the run of that file
    that this one goes on with, under the same id, if it `continues`, or else follows; `vanished` are its tasks that the file no
    longer lists.
    """

    base_context: ExecutionContext
    base_branch: str
    base_commit: str
    level: IsolationLevel
    workers: int
    keep: str
    tasks: tuple[PlannedTask, ...]
    source: str = ""
    earlier: RunRecord | None = None
    continues: bool = False
    vanished: tuple[str, ...] = ()

    @property
    def to_run(self) -> tuple[PlannedTask, ...]:
        """The tasks that something will be run for."""
        return tuple(planned for planned in self.tasks if planned.start.runs)

    @property
    def is_done(self) -> bool:
        """Whether an earlier run has finished all of it."""
        kept = all(planned.start is Start.KEPT for planned in self.tasks)
        return kept and self.earlier is not None and not self.continues

    def to_dict(self) -> dict[str, Any]:
        return {
            "base": {"branch": self.base_branch, "commit": self.base_commit},
            "isolation_level": self.level.value,
            "workers": self.workers,
            "keep": self.keep,
            "run_id": self.earlier.run_id if self.earlier and (self.continues or self.is_done) else None,
            "tasks": [planned.to_dict() for planned in self.tasks],
        }


def make_plan(
    tasks: Sequence[Task],
    base_context: ExecutionContext,
    base_commit: str,
    workers: int | None,
    default_workers: int = 4,
    keep: str = "always",
    backend_of: Callable[[Task, ExecutionContext], str] = lambda *_: "shell",
    where: Callable[[int], str] = lambda index: f"task {index + 1}",
    ports: int | None = None,
) -> Plan:
    """Return the plan of a run whose base context has the level every task gets.

    `workers=None` means as many as the level allows, `default_workers` at most.  `where` names a task by its place in the
    list.  `ports` is how many a task is given, None where that is not known.  Raises PlanError with every problem there is.
    """
    level = base_context.isolation_level
    alone = not level.isolates_directory
    problems = []
    if not tasks:
        problems.append("there are no tasks")
    if workers is not None and alone and workers > 1:
        problems.append(
            f"level {level.value} runs in the base checkout, which one task at a time can have: "
            f"{workers} workers are too many"
        )
    if workers is not None and not 1 <= workers <= MOST_WORKERS:
        problems.append(f"workers must be between 1 and {MOST_WORKERS}, not {workers}")
    planned: list[PlannedTask] = []
    places: dict[str, str] = {}
    slugs: dict[str, str] = {}
    for index, task in enumerate(tasks):
        try:
            generate_task_directory("", task.id)  # also where the level makes no names
            if task.id in places:
                problems.append(f"{where(index)}: the id {task.id!r} is taken by {places[task.id]}")
                continue
            context = ExecutionContext.named(base_context, task.id)
            slug = task_slug(task.id).casefold()  # what logs, results and records of every level are kept under
            if slug in slugs and not level.isolates_branch:
                problems.append(
                    f"{where(index)}: {task.id!r} and {slugs[slug]!r} would share names; rename one of them"
                )
                continue
            slugs[slug] = task.id
            if ports is not None and (needed := ports_named(task.env)) > ports:
                advice = f"set ports: {{count: {needed}}} in the configuration"
                problems.append(
                    f"{where(index)}: the env of {task.id!r} needs {needed} of its own ports, and tasks are given {ports}; {advice}"
                )
            planned.append(PlannedTask(task, context, backend_of(task, context)))
            places[task.id] = where(index)
        except (InvalidTaskId, ConfigurationError) as error:
            problems.append(f"{where(index)}: {error.message}")
    problems.extend(
        f"{places[overlap.second.task_id]}: {overlap}; rename one of them"
        for overlap in overlaps(one.context for one in planned if one.context is not base_context)
    )
    if problems:
        raise PlanError(
            "these tasks cannot be run", problems, hint="nothing was started; mend what is named here and run again"
        )
    return Plan(
        base_context,
        base_context.git_branch,
        base_commit,
        level,
        1 if alone else (workers or default_workers),
        keep,
        tuple(planned),
    )


def ports_named(variables: Mapping[str, str]) -> int:
    """Return how many ports variables ask for by name: `port_3` is the fourth."""
    names = {name for text in variables.values() for name in names_in(text)} & {*ENV_PLACEHOLDERS}
    numbers = [int(name.partition("_")[2] or 0) + 1 for name in names if name.startswith("port")]
    return max(numbers, default=0)


def refuse_taken(
    plan: Plan,
    branches: Collection[str],
    workspaces: Mapping[str, str],
    results: Mapping[str, str] = MappingProxyType({}),
    owners: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Raise WorkspaceOccupied if an earlier run left something under the names of this plan that it would not set aside.

    `branches` are those that exist, `workspaces` the ids whose names a workspace has, with a sentence about it, `owners` the
    ids such workspaces belong to where it is another, `results` the ids of tasks without a branch whose earlier result is
    kept, with the ref that keeps it.
    """
    found: list[str] = []
    in_the_way: list[PlannedTask] = []
    for planned in plan.to_run:
        known = len(found)
        if (
            planned.start in (Start.AGAIN, Start.SET_UP)
            and owners.get(planned.task.id, planned.task.id) == planned.task.id
        ):
            continue
        if planned.task.id in workspaces:
            found.append(f"task {planned.task.id!r}: {workspaces[planned.task.id]}")
        elif planned.branch in branches:
            found.append(f"task {planned.task.id!r}: the branch {planned.branch!r} exists")
        elif planned.task.id in results:
            found.append(f"task {planned.task.id!r}: its earlier result is kept at {results[planned.task.id]}")
        if len(found) > known:
            in_the_way.append(planned)
    if found:
        first = in_the_way[0]
        hints, ours = ["or give the tasks other ids"], owners.get(first.task.id, first.task.id)
        if first.branch:
            branch = shlex.quote(first.branch)
            hints.insert(0, f"keep its branch under another name: git branch -m {branch} NEW-NAME")
            hints.insert(1, f"or delete its branch: git branch -d {branch} (refuses what is not merged)")
        if first.task.id in results:
            ref = shlex.quote(results[first.task.id])
            hints.insert(0, f"keep its result as a branch: git branch NEW-NAME {ref}")
            hints.insert(1, f"then take it out of the way: git update-ref -d {ref}")
        if first.task.id in workspaces:
            hints.insert(0, f"look at it: {to_type('moderator', 'show', ours)}")
            hints.insert(1, f"remove its workspace first: {to_type('moderator', 'clean', ours)}")
        raise WorkspaceOccupied(
            f"{len(found)} of {len(plan.to_run)} tasks have something from an earlier run under their names; nothing was started",
            hint="\n".join(hints),
            findings=found,
        )
