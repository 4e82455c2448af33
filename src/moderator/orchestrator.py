"""From a list of tasks and a repository to finished branches: wires the plan, an executor and the record of runs."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from moderator.config import Config, config_from_mapping
from moderator.context import ExecutionContext, IsolationLevel
from moderator.errors import (
    AggregateExecutionError,
    BackendUnavailable,
    CheckoutNotClean,
    ConfigurationError,
    EnvironmentProblem,
    ModeratorError,
    NotARepository,
    PlanError,
    UnknownRevision,
    UsageError,
    WorkspaceBusy,
    to_type,
)
from moderator.execution.base import LocalExecutor, ProgressCallback, new_run_id
from moderator.execution.environment import reserver
from moderator.execution.housekeeping import Housekeeper
from moderator.execution.parallel import ParallelTaskExecutor
from moderator.execution.pipeline import tidy
from moderator.execution.recording import Recorder
from moderator.execution.rendering import TO_MEND, faults_before
from moderator.execution.scratch import sweep_scratch
from moderator.execution.sequential import SequentialExecutor
from moderator.furnishing import Furnishing
from moderator.git.committing import CommitStyle
from moderator.git.leases import this_process
from moderator.git.manager import GitManager
from moderator.git.pool import PoolLimits
from moderator.git.repository import Base
from moderator.git.values import Keeping
from moderator.leftovers import Leftovers, to_set_aside
from moderator.models import Outcome, Task, TaskResult
from moderator.plan import Plan, PlannedTask, Start, make_plan
from moderator.preparing.commands import Teardowns
from moderator.preparing.standing import Standing, Standings
from moderator.process import Cancellation, Limits
from moderator.process.detached import leave_moderator_behind
from moderator.process.sandbox import find_sandbox
from moderator.resuming import (
    LastRun,
    afresh,
    how_to_clear,
    last_of,
    note_of_rescue,
    process_of,
    reason_to_set_aside,
    refuse_other_choices,
    refuse_running,
    result_before,
    resumed,
    with_set_up_again,
)
from moderator.routing import Backend, BackendRouter
from moderator.store import VARIANTS, RunRecord, Store, history_file

_TIDYING = 0.5  # seconds at the end of a run for deleting what removals left
_ANEW = "begins anew"
"""The event that names the tasks under whose names a run sets everything aside before it starts them."""


@dataclass(frozen=True)
class RunSummary:
    """How a run ended: results in the order of its tasks.

    `held` are the tasks for which nothing ran because somebody else had their workspaces.
    """

    run_id: str
    plan: Plan
    results: list[TaskResult]
    interrupted: bool
    held: frozenset[str] = frozenset()

    @property
    def success(self) -> bool:
        return not self.interrupted and all(result.success for result in self.results)

    @property
    def is_held(self) -> bool:
        """Whether nothing was done at all because somebody else is at every one of the tasks."""
        return bool(self.results) and all(result.task.id in self.held for result in self.results)


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
            self.config = config_from_mapping(config or {}, backends=backends or {})
            section = ((config or {}).get("gear3") or {}).get("parallel") or {}
            self.parallel = bool(section.get("enabled", False))
        self._cancellation = cancellation or Cancellation()
        stopped = self._cancellation
        self.git = GitManager(
            repository,
            CommitStyle(self.config.commit_hooks, self.config.commit_sign, stopped=lambda: stopped.cancelled),
            Keeping(self.config.trash_days, self.config.rescue_largest_file * 1e6),
            pool_limits(self.config),
            self.config.furnishing,
        )
        environment_now = os.environ if environment is None else environment
        self._reserve = reserver(self.config, environment_now)
        cache = Path(self.git.state_root, "programs.json")
        self.router = BackendRouter(self.config, backends, environment=environment, cache=cache)
        self._environment = environment
        self._teardowns = Teardowns(self.git, environment_now, self._cancellation)

    def plan(
        self,
        tasks: Sequence[Task],
        *,
        base: str | None = None,
        level: IsolationLevel | str | None = None,
        workers: int | None = None,
        keep: str | None = None,
        where: Callable[[int], str] | None = None,
        source: str = "",
        resume: bool = False,
        fresh: bool = False,
        set_up_again: Collection[str] = (),
    ) -> Plan:
        """Return what a run of these tasks would do; creates nothing.  What they lack the configuration has.

        `source` is the file that lists the tasks: its runs can be continued.  `resume` plans what its newest run left to do,
        from the same commit and at the same level, or where that one has finished, a run of the tasks it did not have;
        where there was none, a plain run.  `fresh` plans to set everything aside that is under the tasks' names.  `set_up_again`
        are tasks of a resumed run whose workspaces stay as their set-up left them, to be set up once more.

        Raises PlanError with every problem of the list, WorkspaceOccupied if an earlier run left something under its names,
        UnknownRevision for a base that names no commit, CheckoutNotClean for a level that needs a clean checkout; UsageError
        for a base or level that the run to be continued does not have, WorkspaceBusy if that run is still going on, and for
        what is to be set aside whatever `GitManager.check_set_aside` raises.
        """
        if resume and fresh:
            raise UsageError("a run is resumed or started afresh, not both", hint="leave out --resume or --fresh")
        if resume and not source:
            raise UsageError("only a run of tasks that a file lists can be resumed", hint="name the file")
        tasks = [self._with_commands(task) for task in tasks]
        last = self.last_run(source) if resume or fresh else None
        if last:
            refuse_running(last.run, here=fresh)
        plan = self._named(tasks, base, level, workers, keep, where, last if resume else None)
        plan = replace(plan, source=source)
        finished = set(last.finished(one.task.id for one in plan.tasks)) if last and resume else set()
        unfinished = [one for one in plan.tasks if one.task.id not in finished]
        leftovers = Leftovers.of(self.git, plan.level, unfinished)
        if resume or fresh:
            leftovers.refuse_busy(self.config.grace)
        if last and resume:
            begun = replace(leftovers, tasks=[one for one in unfinished if one.task.id in last.attempts])
            plan = resumed(plan, last, begun.newest_commits(plan.base_commit), leftovers.task_ids)
            plan = with_set_up_again(plan, set_up_again, self._standings() if set_up_again else {})
        elif set_up_again:
            raise UsageError(
                "no set-up can be repeated, for there is no earlier run of these tasks",
                hint="leave --resume-setup out",
            )
        elif fresh:
            plan = afresh(plan, leftovers.task_ids)
        leftovers.refuse_taken(plan)
        self._refuse_unfit_furnishing(plan)
        if not plan.level.isolates_directory and plan.to_run:
            self._require_checkout(plan)
        return self._with_backends(plan)

    def _refuse_unfit_furnishing(self, plan: Plan) -> None:
        """Raise ConfigurationError, or PlanError with all there are, for what workspaces of the plan cannot get."""
        if not plan.level.isolates_directory:
            return
        problems: dict[str, ConfigurationError] = {}
        tasks: dict[Furnishing, list[Task]] = {}
        for one in plan.to_run:
            tasks.setdefault(one.task.furnishing(self.git.furnishing), []).append(one.task)
        for wanted, of in tasks.items():
            try:
                self.git.check_furnishing(wanted, plan.base_commit)
                for fault in faults_before(self.git, plan.base_commit, wanted.render, of, self.config.ports_count):
                    problems.setdefault(fault, ConfigurationError(fault, hint=TO_MEND))
            except ConfigurationError as error:
                problems.setdefault(error.message, error)
        if len(problems) > 1:
            hint = "\n".join(dict.fromkeys(problem.hint for problem in problems.values()))
            raise PlanError("these tasks cannot be run", list(problems), hint=hint)
        for problem in problems.values():
            raise problem

    def _standings(self) -> dict[str, Standing]:
        """Return how ready the workspaces are that are there, by task id."""
        created = self.git.created()
        known = Standings(self.git.state_root).of_all(created)
        return {task_id: one for task_id, one in known.items() if one.is_of(created[task_id])}

    def _with_commands(self, task: Task) -> Task:
        """Return a task with the commands of the configuration where it has none of its own."""
        config = self.config
        verify = config.verify if config.verify is None or isinstance(config.verify, str) else list(config.verify)
        return replace(
            task,
            setup=list(task.setup or config.setup),
            teardown=list(task.teardown or config.teardown),
            verify=verify if task.verify is None else task.verify,
        )

    def _with_backends(self, plan: Plan) -> Plan:
        """Return the plan with who is there to do each task.  Raises BackendUnavailable, naming each and why, if nobody is."""
        unavailable: list[BackendUnavailable] = []
        chosen = []
        for one in plan.tasks:
            if one.start.runs:
                try:
                    one = replace(one, backend=self.router.candidates(one.task)[0].name)
                except BackendUnavailable as error:
                    unavailable.append(error)
            chosen.append(one)
        if unavailable:
            count = f"{len(unavailable)} of {len(plan.to_run)} tasks"
            raise BackendUnavailable(
                unavailable[0].message
                if len(unavailable) == 1
                else f"nobody is there to do {count}; nothing was started",
                list(dict.fromkeys(finding for error in unavailable for finding in error.findings)),
                hint="\n".join(dict.fromkeys(error.hint for error in unavailable if error.hint)),
            )
        return replace(plan, tasks=tuple(chosen))

    def _named(
        self,
        tasks: Sequence[Task],
        base: str | None,
        level: IsolationLevel | str | None,
        workers: int | None,
        keep: str | None,
        where: Callable[[int], str] | None,
        last: LastRun | None,
    ) -> Plan:
        """Return the plan with every name, before anybody has looked whether they are free."""
        fork, no_base = Base("base", "0" * 40), None
        ids = [one.id for one in tasks]
        if last and (last.goes_on(ids) or len(last.finished(ids)) == len(ids)):
            asked = IsolationLevel.of(level).value if level is not None else None
            known = base is None or base == last.run.base_branch
            refuse_other_choices(last.run, base, None if known else self.git.resolve_base(str(base)).commit, asked)
            wanted = IsolationLevel.of(last.run.isolation_level)
            fork = Base(last.run.base_branch, last.run.base_commit)
        else:
            wanted = IsolationLevel.of(self.config.parallel.isolation_level if level is None else level)
            try:
                fork = self.git.resolve_base(base or "")
            except UnknownRevision as error:  # told with everything else that is wrong
                fork, no_base = Base(base or "base", "0" * 40), error
        context = self.base_context(fork.name, wanted)
        try:
            plan = make_plan(
                tasks,
                context,
                fork.commit,
                workers,
                default_workers=self.config.parallel.max_workers if self.parallel else 1,
                keep=keep or self.config.keep,
                ports=self.config.ports_count,
                backend_of=lambda task, _: self.router.route(task).backends[0],
                **({"where": where} if where else {}),
            )
        except PlanError as error:
            if no_base is None:
                raise
            raise PlanError(error.message, [no_base.message, *error.problems], error.hint) from no_base
        if no_base is not None:
            raise no_base
        return plan

    def base_context(self, branch: str, level: IsolationLevel) -> ExecutionContext:
        """Return what the contexts of tasks that fork from a branch are derived from.

        Raises NotARepository for a level that runs in the checkout where there is none.
        """
        return ExecutionContext(
            project_id=os.path.basename(self.git.main_worktree or self.git.checkout or "repository"),
            working_directory=self.root if level.isolates_directory else self._checkout(),
            git_branch=branch,
            state_dir=os.path.join(self.git.state_root, "state"),
            isolation_level=level,
        )

    def last_run(self, source: str) -> LastRun | None:
        """Return the newest run of the tasks that a file lists, with what is known of them; None if there is none."""
        store = Store.existing(history_file(self.git.state_root))
        if store is None:
            return None

        def known(run: RunRecord) -> LastRun:
            anew = {task_id for event in store.events(run.run_id, _ANEW) for task_id in event["task_ids"]}
            held = {one.task_id: one.attempt for one in store.attempts(run.run_id) if one.held}
            return LastRun(run, store.attempts_up_to(run), frozenset(anew), held)

        with store:
            return last_of(map(known, store.runs_of(source)))

    def run(
        self, tasks: Sequence[Task], progress_callback: ProgressCallback | None = None, **choices: Any
    ) -> RunSummary:
        """Plan and carry out: `choices` are those of `plan`."""
        return self.carry_out(self.plan(tasks, **choices), progress_callback)

    def carry_out(
        self, plan: Plan, progress_callback: ProgressCallback | None = None, command_line: str = ""
    ) -> RunSummary:
        """Do what the plan says and record it.  A task's failure is in the summary, never raised.

        Raises WorkspaceBusy if another process has gone on with the run that the plan continues, or is at another run of the same
        file's tasks, and whatever `GitManager.set_aside` raises: then nothing has been started.
        """
        if plan.earlier and plan.is_done:
            return RunSummary(plan.earlier.run_id, plan, list(self._ended_before(plan).values()), False)
        find_sandbox(self.config.sandbox)  # before anything is recorded, set aside or made
        with self._record(plan) as store:
            run_id = self._begin_run(store, plan, command_line)
            recorder = Recorder(store, plan, run_id, progress_callback)
            try:
                results = self._ended_before(plan)
                for planned in plan.tasks:
                    if planned.start is Start.RECORDED:
                        tidy(results[planned.task.id], self.git, plan.keep, plan.level, self._teardowns)
                        recorder.record(results[planned.task.id])
                notes = self._set_aside(plan, recorder)
                executor = self._executor(plan, run_id, notes)
                waiting = len(plan.to_run) if plan.level.isolates_directory else 0
                root = plan.base_context.working_directory
                removes = plan.keep != "always" and plan.level.isolates_directory
                with Housekeeper(self.git, root, plan.base_commit, waiting, recorder, removes) as keeper:
                    try:
                        ran = executor.execute_tasks([one.task for one in plan.to_run], plan.base_context, keeper)
                    except AggregateExecutionError as error:
                        ran = list(error.failed_tasks)
            except BaseException:
                recorder.finish("interrupted")
                raise
            interrupted = self._cancellation.cancelled
            for result in ran:
                results[result.task.id] = result
                if result.outcome is Outcome.CANCELLED and result.exit_code is None:
                    recorder.record(result)  # never began, so no callback told of it
            recorder.finish("interrupted" if interrupted else "finished")
        if self.config.pool_refill == "background" and self.git.pool_size and plan.level.isolates_directory:
            leave_moderator_behind(self.git.home, "pool", "fill", "--quietly", "--base", plan.base_branch)
        with contextlib.suppress(ModeratorError, OSError):  # what cannot be deleted now can be later
            self.git.tidy_trash(_TIDYING)
        sweep_scratch(self.git.state_root, self.config.trash_days)
        in_order = [results[one.task.id] for one in plan.tasks]
        held = frozenset(result.task.id for result in in_order if recorder.was_held(result))
        return RunSummary(run_id, plan, in_order, interrupted, held)

    def _begin_run(self, store: Store, plan: Plan, command_line: str) -> str:
        """Write down that a run begins, or goes on in this process; return its id."""
        process = this_process()
        run = RunRecord(
            run_id=plan.earlier.run_id if plan.earlier and plan.continues else new_run_id(),
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
            source=plan.source,
            follows=plan.earlier.run_id if plan.earlier and not plan.continues else "",
        )
        if not (plan.earlier and plan.continues):
            # Before the run itself: one that is known must never lack what it was told.
            if anew := [one.task.id for one in plan.tasks if one.start is Start.AGAIN]:
                store.add_event(run.run_id, _ANEW, run.started_at, {"task_ids": anew})
            for of, variants in _variants(plan).items():
                data = {"of": of, "ids": [one.id for one in variants], "verify": any(one.verify for one in variants)}
                store.add_event(run.run_id, VARIANTS, run.started_at, data)
            _begin_alone(store, run)
            return run.run_id
        if not store.take_over(plan.earlier, run):
            now = store.run(run.run_id)
            raise WorkspaceBusy(
                f"run {run.run_id} was resumed by {process_of(now)} meanwhile",
                hint=f"{to_type('moderator', 'history', run.run_id)} shows how far it is",
            )
        data = {"command_line": command_line, "state": plan.earlier.state, "process": str(process_of(plan.earlier))}
        store.add_event(run.run_id, "resumed", run.started_at, data)
        return run.run_id

    def _ended_before(self, plan: Plan) -> dict[str, TaskResult]:
        """Return the results of the tasks that nothing is run for."""
        ended = {one.task.id: (one, one.earlier) for one in plan.tasks if not one.start.runs}
        attempts = [last for _, last in ended.values() if last]
        there = self.git.owners(ended)
        branches = self.git.existing_branches(last.branch for last in attempts if last.branch)
        work = self.git.whereabouts((last.commit for last in attempts if last.commit), plan.base_branch)
        return {
            task_id: result_before(
                planned,
                last,
                has_workspace=task_id in there and there[task_id].task_id == task_id,
                has_branch=last.branch in branches,
                work=work.get(last.commit or ""),
            )
            for task_id, (planned, last) in ended.items()
            if last
        }

    def _set_aside(self, plan: Plan, recorder: Recorder) -> dict[str, list[str]]:
        """Set aside what is under the names of tasks that start again; return notes for their results.

        What forbids it was looked for when the plan was made.  Of what came since, every task is tried before the first problem
        is raised, so that trying again has the less to do.
        """
        again = [one for one in plan.tasks if one.start is Start.AGAIN]
        if not again:
            return {}

        def aside(planned: PlannedTask) -> list[str]:
            if self._cancellation.cancelled:
                return []
            teardown = self._teardowns.of(planned.task.id)
            reason = reason_to_set_aside(plan, planned)
            rescue = self.git.set_aside(to_set_aside(self.git, planned), reason, before=teardown)
            data = {"task_id": planned.task.id, "rescue": rescue and rescue.id, "attempt": planned.attempt}
            recorder.note("set aside", data)
            return [*([note_of_rescue(planned, rescue.id)] if rescue else ()), *(teardown.notes if teardown else ())]

        with ThreadPoolExecutor(min(len(again), os.cpu_count() or 1)) as pool:
            waiting = [(one.task.id, pool.submit(aside, one)) for one in again]
        return {task_id: notes for task_id, future in waiting if (notes := future.result())}

    def _require_checkout(self, plan: Plan) -> None:
        directory = plan.base_context.working_directory
        self.git.require_checkout_at(directory, Base(plan.base_branch, plan.base_commit))
        try:
            self.git.require_clean_checkout(directory)
        except CheckoutNotClean as error:
            if plan.continues:
                error.hint = how_to_clear(directory, plan.level)
            raise

    def _executor(
        self, plan: Plan, run_id: str, notes: Mapping[str, Sequence[str]] = MappingProxyType({})
    ) -> LocalExecutor:
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
            "attempts": {one.task.id: one.attempt for one in plan.to_run},
            "notes": notes,
            "sandbox": self.config.sandbox,
            "stay": {one.task.id for one in plan.tasks if one.start is Start.SET_UP},
            "setup_timeout": self.config.setup_timeout,
            "variables": self.config.env,
            "reserve": self._reserve,
            "asked": self.config.asked_with,
            "limits": Limits(parallel.timeout, parallel.idle_timeout, self.config.grace),
        }
        if plan.workers == 1:
            return SequentialExecutor(**options)
        return ParallelTaskExecutor({"max_workers": plan.workers, "timeout": parallel.timeout}, **options)

    @property
    def root(self) -> str:
        """Where workspaces go."""
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


def pool_limits(config: Config) -> PoolLimits:
    """Return what a configuration says of spares."""
    largest = config.pool_max_size and config.pool_max_size * 1e6
    refill = config.pool_refill == "background"
    return PoolLimits(config.pool_size, config.pool_days, largest, config.recycle, refill)


def _variants(plan: Plan) -> dict[str, list[Task]]:
    """Return the tasks of a plan that are variants of one, by what they are variants of."""
    groups: dict[str, list[Task]] = {}
    for one in plan.tasks:
        if one.task.variant_of:
            groups.setdefault(one.task.variant_of, []).append(one.task)
    return groups


def _begin_alone(store: Store, run: RunRecord) -> None:
    """Write down that a run begins.  Raises WorkspaceBusy if another run of the same file's tasks is going on here.

    Whoever came later would find the tasks held one by one, and be the newest run of them without having done anything.
    """
    while True:
        beside = store.running(run.source)
        for other in beside:
            refuse_running(other, here=True)
        if store.begin_run(run, beside):
            return
