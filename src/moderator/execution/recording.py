"""A progress callback that writes the record of a run and passes everything on.

A record that cannot be written is said once and costs only history: the work is worth more than that.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any

from moderator.errors import StoreProblem, WorkspaceBusy
from moderator.execution.base import ProgressCallback
from moderator.execution.pipeline import log_file
from moderator.models import Outcome, Task, TaskResult
from moderator.plan import Plan
from moderator.store import AttemptRecord, Store

log = logging.getLogger(__name__)


class Recorder:
    """Writes down how every attempt of a run begins and ends."""

    def __init__(self, store: Store, plan: Plan, run_id: str, then: ProgressCallback | None) -> None:
        self._store = store
        self._plan = plan
        self._run_id = run_id
        self._then = then
        self._failed = False
        self._planned = {one.task.id: one for one in plan.tasks}
        self._busy: set[str] = set()

    def on_task_start(self, task: Task) -> None:
        try:
            with self._quietly():
                planned = self._planned[task.id]
                self._begin(task, planned.attempt, planned.backend)
        finally:
            if self._then:
                self._then.on_task_start(task)

    def on_task_complete(self, result: TaskResult) -> None:
        try:
            self.record(result)
        finally:
            if self._then:
                self._then.on_task_complete(result)

    def on_attempt_end(self, result: TaskResult, backend: str, pause: float) -> None:
        """Write down an attempt that another one follows: the new one first, so that no end of it passes for the task's."""
        try:
            with self._quietly():
                self._begin(result.task, result.attempt + 1, backend)
            self.record(result)
        finally:
            if tell := getattr(self._then, "on_attempt_end", None):
                tell(result, backend, pause)

    def on_removal(self, result: TaskResult) -> None:
        """Write down how an attempt ended while its workspace is there: a crash later must not leave neither."""
        try:
            self.record(result)
        finally:
            if tell := getattr(self._then, "on_removal", None):
                tell(result)

    def on_task_error(self, task: Task, error: Exception) -> None:
        if isinstance(error, WorkspaceBusy):
            self._busy.add(task.id)
        if self._then:
            self._then.on_task_error(task, error)

    def was_held(self, result: TaskResult) -> bool:
        """Whether nothing ran for a task because somebody else had its workspace."""
        return result.outcome is Outcome.NO_WORKSPACE and result.task.id in self._busy

    def record(self, result: TaskResult) -> None:
        """Write down how an attempt ended."""
        with self._quietly():
            self._store.finish_attempt(result, time.time(), self.was_held(result))

    def note(self, kind: str, data: Mapping[str, Any]) -> None:
        """Write down that something else happened in this run."""
        with self._quietly():
            self._store.add_event(self._run_id, kind, time.time(), data)

    def finish(self, state: str) -> None:
        """Write down how the run ended: "finished" or "interrupted"."""
        try:
            self._store.finish_run(self._run_id, state, time.time())
        except StoreProblem as problem:
            log.warning("the end of the run could not be recorded: %s (%s)", problem.message, problem.cause)

    @contextlib.contextmanager
    def _quietly(self) -> Iterator[None]:
        """Say once, not for every task, that the record cannot be written."""
        try:
            yield
        except StoreProblem as problem:
            if not self._failed:
                log.warning("this run is no longer recorded: %s (%s)", problem.message, problem.cause)
            self._failed = True

    def _begin(self, task: Task, attempt: int, backend: str) -> None:
        planned = self._planned[task.id]
        self._store.begin_attempt(
            AttemptRecord(
                run_id=self._run_id,
                task_id=task.id,
                attempt=attempt,
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
                log=str(log_file(self._plan.base_context, task.id, self._run_id, attempt)),
                backend=backend,
                duration_seconds=None,
                notes=(),
                digest=task.digest,
            )
        )
