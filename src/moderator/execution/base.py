"""What every executor is, what it tells while it works, and the workers that all of them share.

One worker and many run the same code.  Must not know what a task's steps are: that is the pipeline's.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

from moderator.config.settings import Config
from moderator.context import ExecutionContext, IsolationLevel
from moderator.errors import ConfigurationError
from moderator.execution.environment import slots_of
from moderator.execution.pipeline import Surroundings
from moderator.execution.retrying import Next
from moderator.execution.scheduling import Job
from moderator.execution.workers import Workers
from moderator.git.manager import GitManager
from moderator.models import Command, Task, TaskResult
from moderator.ports import Block
from moderator.preparing.commands import Teardowns
from moderator.process import Cancellation, Limits, Supervisor
from moderator.process.sandbox import find_sandbox
from moderator.routing import Backend, BackendRouter

log = logging.getLogger(__name__)

_LONGEST_TAIL = 64 * 1024  # characters of one stream of one task that its result holds
_TAILS_IN_ALL = 8 * 1024 * 1024  # of each stream over a whole run: a thousand results must not fill the memory


class ProgressCallback(Protocol):
    """Who wants to know what happens.  Called from worker threads; an exception is logged and stops nothing.

    It may also have `on_attempt_start(task, attempt, backend)`: an attempt begins, and who makes it; for the first one it comes
    before `on_task_start`.  And `on_attempt_end(result, backend, pause)`: an attempt failed for reasons of its backend's own, and
    the task is to be tried again by `backend` after `pause` seconds.  Start and end of a task are told once, however often it is
    tried.
    And it may have `on_removal(result)`: an attempt has ended like this, and its workspace is removed when this returns.
    """

    def on_task_start(self, task: Task) -> None:
        """A task begins."""

    def on_task_complete(self, result: TaskResult) -> None:
        """A task ended, well or not."""

    def on_task_error(self, task: Task, error: Exception) -> None:
        """A task could not be carried through for a reason that is not its own."""


class LoggingProgressCallback:
    """Prints one line for each thing that happens, to standard output."""

    def on_task_start(self, task: Task) -> None:
        self._say(f"[Task {task.id}] Starting: {task.description}")

    def on_task_complete(self, result: TaskResult) -> None:
        mark = "✓" if result.success else "✗"
        line = f"[Task {result.task.id}] {mark} Completed in {result.duration_seconds:.1f}s"
        if not result.success:
            reason = result.error_message or (f"exit code {result.exit_code}" if result.exit_code is not None else "")
            line += f"\n  Error: {reason}" if reason else ""
        self._say(line)

    def on_task_error(self, task: Task, error: Exception) -> None:
        self._say(f"[Task {task.id}] ✗ ERROR: {error}")

    def _say(self, line: str) -> None:
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        print(line.encode(encoding, "replace").decode(encoding), flush=True)  # noqa: T201 - printing is its contract


class TaskExecutor(ABC):
    """Executes lists of tasks."""

    @abstractmethod
    def execute_tasks(
        self,
        tasks: Sequence[Task],
        context: ExecutionContext,
        progress_callback: ProgressCallback | None = None,
    ) -> list[TaskResult]:
        """Execute the tasks from a base context; return their results in the order of the tasks.

        Never raises for one task: its failure is its result.  Raises RuntimeError after `shutdown`.
        """

    @abstractmethod
    def get_execution_mode(self) -> str:
        """Return "sequential", "parallel" or "cluster"."""

    @abstractmethod
    def shutdown(self, timeout: int = 30) -> None:
        """End what runs, waiting `timeout` seconds for it.  A second call does nothing."""


class LocalExecutor(TaskExecutor):
    """Runs tasks on this machine, on as many workers as it is told.

    `git` is the manager of the repository (default: the one that the context's working directory is in; workspaces are made
    below that directory, so it had better not be the checkout itself), `router` or
    `backend` says who does the work (default: the shell), `base` what to fork from (default: the context's branch), `keep`
    whose workspaces stay.  `environment` is what tasks inherit (default: this process's).  `cancellation` ends the run from
    outside, a signal handler for instance.  `attempts` has, by task id, the number of the attempt where it is not the first,
    `notes` what the results of such tasks shall say of that.  `sandbox` is what keeps tasks from writing elsewhere: "none" or
    "bwrap"; where it is not to be had, nothing is begun (EnvironmentProblem).  `stay` are the tasks whose workspaces are there
    and are taken as they are; `setup_timeout` is seconds for a set-up or a teardown; `variables` go into every task's
    environment; `reserve` gives ports to the task on a slot; `asked` tells what of a teardown is a repository's own word, which is
    then torn down only as long as somebody agrees to that.
    """

    def __init__(
        self,
        *,
        git: GitManager | None = None,
        router: BackendRouter | None = None,
        backend: Backend | None = None,
        base: str | None = None,
        level: IsolationLevel | None = None,
        limits: Limits | None = None,
        keep: str = "always",
        run_id: str | None = None,
        environment: Mapping[str, str] | None = None,
        cancellation: Cancellation | None = None,
        attempts: Mapping[str, int] | None = None,
        notes: Mapping[str, Sequence[str]] | None = None,
        sandbox: str = "none",
        stay: Collection[str] = (),
        setup_timeout: float = Config.setup_timeout,
        variables: Mapping[str, str] = MappingProxyType({}),
        reserve: Callable[[int], Block] | None = None,
        asked: Callable[[Sequence[Command]], Mapping[str, Any]] = lambda _: {},
    ) -> None:
        if keep not in ("always", "failed", "never"):
            raise ConfigurationError(f"keep must be always, failed or never, not {keep!r}")
        self._git = git
        self._router = router or _router_for(backend, environment)
        self._base = base
        self._level = level
        self._limits = limits or Limits()
        self._keep = keep
        self._run_id = run_id
        self._environment = environment
        self._cancellation = cancellation or Cancellation()
        self._attempts = attempts or {}
        self._notes = notes or {}
        self._sandbox = sandbox
        self._stay = stay
        self._setup_timeout = setup_timeout
        self._variables = variables
        self._reserve = reserve
        self._asked = asked
        self._closed = False
        self._idle = threading.Condition()
        self._running = 0

    def shutdown(self, timeout: int = 30) -> None:
        with self._idle:
            if self._closed:
                return
            self._closed = True
            if self._running:
                self._cancellation.cancel()
                self._idle.wait_for(lambda: not self._running, timeout)

    def _execute(
        self,
        tasks: Sequence[Task],
        context: ExecutionContext,
        callback: ProgressCallback | None,
        workers: int,
        level: IsolationLevel,
    ) -> list[TaskResult]:
        with self._idle:
            if self._closed:
                raise RuntimeError("this executor has been shut down; make a new one")
            self._running += 1
        try:
            if not tasks:
                return []
            git = self._git or GitManager(context.working_directory)
            if level is IsolationLevel.NONE:
                git.require_clean_checkout(context.working_directory)
            # A run forks every task from one commit, also when the base branch moves meanwhile.
            base = git.resolve_base(self._base if self._base is not None else context.git_branch)
            run_id = self._run_id or new_run_id()
            sandbox = find_sandbox(self._sandbox)
            environment = os.environ if self._environment is None else self._environment
            with Supervisor(run_id) as supervisor:
                surroundings = Surroundings(
                    git=git,
                    base_context=context,
                    base_commit=base.commit,
                    level=level,
                    router=self._router,
                    run_id=run_id,
                    limits=self._limits,
                    keep=self._keep,
                    environment=environment,
                    supervisor=supervisor,
                    cancellation=self._cancellation,
                    tail=min(_LONGEST_TAIL, max(_TAILS_IN_ALL // len(tasks), 1024)),
                    teardowns=Teardowns(git, environment, self._cancellation, run_id),
                    slots=slots_of(git, environment),
                    sandbox=sandbox,
                    setup_timeout=self._setup_timeout,
                    variables=self._variables,
                    reserve=self._reserve,
                    asked=self._asked,
                )
                jobs = [self._job(index, task) for index, task in enumerate(tasks)]
                return Workers(jobs, surroundings, Announcer(callback)).run(min(workers, len(tasks)))
        finally:
            with self._idle:
                self._running -= 1
                self._idle.notify_all()

    def _job(self, index: int, task: Task) -> Job:
        """Return a task with those who may do it; where nobody can, that is its own problem and no other's."""
        attempt, notes = self._attempts.get(task.id, 1), list(self._notes.get(task.id, ()))
        try:
            candidates = self._router.candidates(task)
        except Exception as problem:  # noqa: BLE001 - a backend may be anybody's; it is told with the task
            return Job(index, task, [], None, attempt, problem=problem, notes=notes)
        return Job(index, task, candidates, candidates[0], attempt, notes=notes, stays=task.id in self._stay)


def _router_for(backend: Backend | None, environment: Mapping[str, str] | None) -> BackendRouter:
    """Return a router that gives every task to one backend, or to the shell."""
    if backend is None:
        return BackendRouter(environment=environment)
    name = getattr(backend, "name", None)
    row = (
        name if isinstance(name, str) and name.strip() else "shell"
    )  # what is wrong with the name is told with the backend
    config = {"gear3": {"backend_routing": {"default_backend": row}}}
    return BackendRouter(config, {name: backend}, environment=environment)  # type: ignore[dict-item]


def new_run_id() -> str:
    """Return an id for a run: sorts by time, never the same twice."""
    return time.strftime("%Y%m%d-%H%M%S", time.gmtime()) + "-" + secrets.token_hex(3)


class Announcer:
    """Calls a callback and survives it."""

    def __init__(self, callback: ProgressCallback | None) -> None:
        self._callback = callback

    def attempted(self, task: Task, attempt: int, backend: str) -> None:
        """Tell that an attempt begins: callbacks that have an `on_attempt_start` for that."""
        if tell := getattr(self._callback, "on_attempt_start", None):
            with _logged("on_attempt_start"):
                tell(task, attempt, backend)

    def started(self, task: Task) -> None:
        if self._callback:
            with _logged("on_task_start"):
                self._callback.on_task_start(task)

    def again(self, result: TaskResult, following: Next) -> None:
        """Tell of an attempt that another one follows: to callbacks that have an `on_attempt_end` for that."""
        if tell := getattr(self._callback, "on_attempt_end", None):
            with _logged("on_attempt_end"):
                tell(result, following.backend.name, following.pause)

    def removing(self, result: TaskResult) -> None:
        """Tell how an attempt ended whose workspace is about to be removed: callbacks that have an `on_removal` for that."""
        if tell := getattr(self._callback, "on_removal", None):
            with _logged("on_removal"):
                tell(result)

    def completed(self, result: TaskResult) -> None:
        if self._callback:
            with _logged("on_task_complete"):
                self._callback.on_task_complete(result)

    def broken(self, task: Task, error: Exception) -> None:
        if self._callback:
            with _logged("on_task_error"):
                self._callback.on_task_error(task, error)


@contextlib.contextmanager
def _logged(what: str) -> Iterator[None]:
    try:
        yield
    except (Exception, SystemExit):  # which would end the worker, and nothing else
        log.exception("the progress callback failed in %s; the run goes on", what)
