"""Many tasks at once, on threads that each wait for a process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from moderator.config.settings import MOST_WORKERS
from moderator.context import ExecutionContext, IsolationLevel
from moderator.errors import AggregateExecutionError, ConfigurationError
from moderator.execution.base import LocalExecutor, ProgressCallback
from moderator.models import Outcome, Task, TaskResult
from moderator.process import Limits


class ParallelTaskExecutor(LocalExecutor):
    """Runs up to `max_workers` tasks at once.

    `config` holds `max_workers` (default 4, 1 to 32), `timeout` (seconds for one task, default 3600) and
    `isolation_level` (default: the context's, or full where that is none), itself or in its `gear3.parallel` section.
    Raises ConfigurationError for values outside.
    """

    def __init__(self, config: Mapping[str, Any] | None = None, **options: Any) -> None:
        section: Mapping[str, Any] = config or {}
        if "gear3" in section:
            section = (section["gear3"] or {}).get("parallel") or {}
        self.max_workers = _workers(section.get("max_workers", 4))
        limits = options.get("limits") or Limits()
        self.timeout = _seconds(section.get("timeout", limits.timeout or 3600))
        if (level := section.get("isolation_level")) is not None and options.get("level") is None:
            options["level"] = IsolationLevel.of(level)
        options["limits"] = replace(limits, timeout=self.timeout)
        super().__init__(**options)

    def execute_tasks(
        self, tasks: Sequence[Task], context: ExecutionContext, progress_callback: ProgressCallback | None = None
    ) -> list[TaskResult]:
        """Execute the tasks at once, as many as there are workers; return results in the order of the tasks.

        Raises AggregateExecutionError if every one of them failed, ConfigurationError for a level that runs in the base
        checkout, which only one worker can have.
        """
        level = self._level or context.isolation_level
        if self._level is None and level is IsolationLevel.NONE:
            level = IsolationLevel.FULL
        if not level.isolates_directory and self.max_workers > 1:
            raise ConfigurationError(
                f"isolation level {level.value} runs in the base checkout, which one task at a time can have",
                hint="set max_workers to 1, or isolation_level to full",
            )
        results = self._execute(tasks, context, progress_callback, self.max_workers, level)
        if results and not any(result.success for result in results):
            if any(result.outcome is Outcome.CANCELLED for result in results):
                return results  # interrupted, not failed
            raise AggregateExecutionError(f"all {len(results)} tasks failed", results)
        return results

    def get_execution_mode(self) -> str:
        return "parallel"


def _workers(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_WORKERS:
        raise ConfigurationError(f"max_workers must be between 1 and {MOST_WORKERS}, not {value!r}")
    return value


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise ConfigurationError(f"timeout must be positive, not {value!r}")
    return value
