"""From a list of tasks and a repository to finished branches: wires the plan, an executor and the record of runs."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from moderator.config import Config, config_from_mapping
from moderator.context import ExecutionContext, IsolationLevel
from moderator.errors import (
    AggregateExecutionError,
    EnvironmentProblem,
    NotARepository,
    PlanError,
    StoreProblem,
    UnknownRevision,
)
from moderator.execution.base import LocalExecutor, ProgressCallback, new_run_id
from moderator.execution.parallel import ParallelTaskExecutor
from moderator.execution.pipeline import log_file
from moderator.execution.sequential import SequentialExecutor
from moderator.git.committing import CommitStyle
from moderator.git.leases import this_process
from moderator.git.manager import GitManager
from moderator.git.repository import Base
from moderator.models import Outcome, Task, TaskResult
from moderator.plan import Plan, make_plan, refuse_taken
from moderator.process import Cancellation, Limits
from moderator.routing import Backend, BackendRouter
from moderator.store import AttemptRecord, RunRecord, Store, history_file

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunSummary:
    """How a run ended: results in the order of its tasks."""

    run_id: str
    plan: Plan
    results: list[TaskResult]
    interrupted: bool

    @property
    def success(self) -> bool:
        return not self.interrupted and all(result.success for result in self.results)


class Orchestrator:
    """Runs lists of tasks on one repository and records what became of them.

    `config` is a Config, or a mapping like a configuration file's; a mapping without `gear3.parallel.enabled` runs tasks one at
    a time.  `repository` is any directory inside the repository.  Raises what GitManager and the configuration raise.
    """

    def __init__(
        self,
        config: Config | Mapping[str, Any] | None = None,
        repository: str | os.PathLike[str] = ".",
        *,
        backends: Mapping[str, Backend] | None = None,
        environment: Mapping[str, str] | None = None,
        cancellation: Cancellation | None = None,
    ) -> None:
        if isinstance(config, Config):
            self.config, self.parallel = config, config.parallel.enabled
        else:
            self.config = config_from_mapping(config or {})
            section = ((config or {}).get("gear3") or {}).get("parallel") or {}
            self.parallel = bool(section.get("enabled", False))
        self.git = GitManager(repository, CommitStyle(self.config.commit_hooks, self.config.commit_sign))
        self.router = BackendRouter(self.config, backends)
        self._environment = environment
        self._cancellation = cancellation or Cancellation()

    def plan(
        self,
        tasks: Sequence[Task],
        *,
        base: str | None = None,
        level: IsolationLevel | str | None = None,
        workers: int | None = None,
        keep: str | None = None,
        where: Callable[[int], str] | None = None,
    ) -> Plan:
        """Return what a run of these tasks would do; creates nothing.

        Raises PlanError with every problem of the list, WorkspaceOccupied if an earlier run left something under its names,
        UnknownRevision for a base that names no commit, CheckoutNotClean for a level that needs a clean checkout.
        """
        wanted = IsolationLevel.of(self.config.parallel.isolation_level if level is None else level)
        try:
            fork, no_base = self.git.resolve_base(base or ""), None
        except UnknownRevision as error:  # told with everything else that is wrong
            fork, no_base = Base(base or "base", "0" * 40), error
        context = ExecutionContext(
            project_id=os.path.basename(self.git.main_worktree or self.git.checkout or "repository"),
            working_directory=self._root() if wanted.isolates_directory else self._checkout(),
            git_branch=fork.name,
            state_dir=os.path.join(self.git.state_root, "state"),
            isolation_level=wanted,
        )
        try:
            plan = make_plan(
                tasks,
                context,
                fork.commit,
                workers,
                default_workers=self.config.parallel.max_workers if self.parallel else 1,
                keep=keep or self.config.keep,
                backend_of=lambda task, named: self.router.select_backend(task, named).name,
                **({"where": where} if where else {}),
            )
        except PlanError as error:
            if no_base is None:
                raise
            raise PlanError(error.message, [no_base.message, *error.problems], error.hint) from no_base
        if no_base is not None:
            raise no_base
        branches = self.git.existing_branches(one.branch for one in plan.tasks if one.branch)
        ids = [one.task.id for one in plan.tasks]
        results = self.git.results(ids) if wanted is IsolationLevel.DIRECTORY else {}
        taken = self.git.owners(ids)
        refuse_taken(
            plan,
            branches,
            {
                task_id: f"the workspace{'' if one.task_id == task_id else f' of task {one.task_id!r}'} at {one.path} exists"
                for task_id, one in taken.items()
            },
            results,
            {task_id: one.task_id for task_id, one in taken.items()},
        )
        if not wanted.isolates_directory:
            self.git.require_checkout_at(context.working_directory, fork)
            self.git.require_clean_checkout(context.working_directory)
        return plan

    def run(
        self, tasks: Sequence[Task], progress_callback: ProgressCallback | None = None, **choices: Any
    ) -> RunSummary:
        """Plan and carry out: `choices` are those of `plan`."""
        return self.carry_out(self.plan(tasks, **choices), progress_callback)

    def carry_out(
        self, plan: Plan, progress_callback: ProgressCallback | None = None, command_line: str = ""
    ) -> RunSummary:
        """Do what the plan says and record it.  A task's failure is in the summary, never raised."""
        with self._record(plan) as store:
            run_id = new_run_id()
            process = this_process()
            store.begin_run(
                RunRecord(
                    run_id=run_id,
                    started_at=time.time(),
                    finished_at=None,
                    state="running",
                    base_branch=plan.base_branch,
                    base_commit=plan.base_commit,
                    isolation_level=plan.level.value,
                    workers=plan.workers,
                    command_line=command_line,
                    pid=process.pid,
                    boot_id=process.boot_id,
                    host=process.host,
                    process_started=process.started,
                )
            )
            recorder = _Recorder(store, plan, run_id, progress_callback)
            executor = self._executor(plan, run_id)
            try:
                results = executor.execute_tasks([one.task for one in plan.tasks], plan.base_context, recorder)
            except AggregateExecutionError as error:
                results = list(error.failed_tasks)
            except BaseException:
                with _told():
                    store.finish_run(run_id, "interrupted", time.time())
                raise
            interrupted = self._cancellation.cancelled
            with _told():
                for result in results:
                    if result.outcome is Outcome.CANCELLED and result.exit_code is None:
                        recorder.record(result)  # never began, so no callback told of it
                store.finish_run(run_id, "interrupted" if interrupted else "finished", time.time())
        return RunSummary(run_id, plan, results, interrupted)

    def _executor(self, plan: Plan, run_id: str) -> LocalExecutor:
        parallel = self.config.parallel
        options: dict[str, Any] = {
            "git": self.git,
            "router": self.router,
            "base": plan.base_commit,
            "level": plan.level,
            "keep": plan.keep,
            "run_id": run_id,
            "environment": self._environment,
            "cancellation": self._cancellation,
            "limits": Limits(parallel.timeout, parallel.idle_timeout, self.config.grace),
        }
        if plan.workers == 1:
            return SequentialExecutor(**options)
        return ParallelTaskExecutor({"max_workers": plan.workers, "timeout": parallel.timeout}, **options)

    def _root(self) -> str:
        if self.config.root is None:
            return self.git.default_root
        return os.path.join(self.git.main_worktree or self.git.state_root, os.path.expanduser(self.config.root))

    def _checkout(self) -> str:
        if self.git.checkout is None:
            raise NotARepository(
                "levels none and branch run in a checkout, and there is none here",
                hint="go to a checkout of the repository, or use level full",
            )
        return self.git.checkout

    def _record(self, plan: Plan) -> Store:
        """Open the record of runs and make the root of the workspaces; where one cannot be had, the other is not begun."""
        path = history_file(self.git.state_root)
        found = Store.existing(path)
        try:
            self._make_root(plan)
        except BaseException:
            if found:
                found.close()
            raise
        return found or Store(path)

    def _make_root(self, plan: Plan) -> None:
        if not plan.level.isolates_directory:
            return
        folder = os.path.join(plan.base_context.working_directory, "tasks")
        try:
            os.makedirs(folder, exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(f"no permission to write in {folder!r}")
        except OSError as error:
            raise EnvironmentProblem(
                f"workspaces cannot be made in {plan.base_context.working_directory!r}",
                hint="choose another place: root: /somewhere/writable in moderator.yaml",
                cause=str(error),
            ) from error


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """The work is done and safe by now: a record that cannot be written is said, and costs only history."""
    try:
        yield
    except StoreProblem as problem:
        log.warning("the end of the run could not be recorded: %s (%s)", problem.message, problem.cause)


class _Recorder:
    """A progress callback that writes the record and passes everything on."""

    def __init__(self, store: Store, plan: Plan, run_id: str, then: ProgressCallback | None) -> None:
        self._store = store
        self._plan = plan
        self._run_id = run_id
        self._then = then
        self._failed = False
        self._planned = {one.task.id: one for one in plan.tasks}

    def on_task_start(self, task: Task) -> None:
        try:
            with self._quietly():
                self._begin(task)
        finally:
            if self._then:
                self._then.on_task_start(task)

    @contextlib.contextmanager
    def _quietly(self) -> Iterator[None]:
        """Say once, not for every task, that the record cannot be written; the run is worth more than its history."""
        try:
            yield
        except StoreProblem as problem:
            if not self._failed:
                log.warning("this run is no longer recorded: %s (%s)", problem.message, problem.cause)
            self._failed = True

    def _begin(self, task: Task) -> None:
        planned = self._planned[task.id]
        self._store.begin_attempt(
            AttemptRecord(
                run_id=self._run_id,
                task_id=task.id,
                attempt=1,
                description=task.description,
                started_at=time.time(),
                finished_at=None,
                outcome=None,
                exit_code=None,
                error_message=None,
                branch=planned.branch,
                base=self._plan.base_commit,
                commit=None,
                path=planned.path,
                log=str(log_file(self._plan.base_context, task.id, self._run_id, 1)),
                backend=planned.backend,
                duration_seconds=None,
                notes=(),
            )
        )

    def on_task_complete(self, result: TaskResult) -> None:
        try:
            with self._quietly():
                self.record(result)
        finally:
            if self._then:
                self._then.on_task_complete(result)

    def on_task_error(self, task: Task, error: Exception) -> None:
        if self._then:
            self._then.on_task_error(task, error)

    def record(self, result: TaskResult) -> None:
        self._store.finish_attempt(result, time.time())
