"""One task after the other."""

from __future__ import annotations

from collections.abc import Sequence

from moderator.context import ExecutionContext
from moderator.execution.base import LocalExecutor, ProgressCallback
from moderator.models import Task, TaskResult


class SequentialExecutor(LocalExecutor):
    """Runs tasks one at a time, in order, at the level it was given or else the context's own."""

    def execute_tasks(
        self, tasks: Sequence[Task], context: ExecutionContext, progress_callback: ProgressCallback | None = None
    ) -> list[TaskResult]:
        return self._execute(tasks, context, progress_callback, 1, self._level or context.isolation_level)

    def get_execution_mode(self) -> str:
        return "sequential"
