"""Runs many tasks on one Git repository at the same time, each in a workspace of its own.

The public names; each is imported when it is first used, because the command line must start in milliseconds.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "AggregateExecutionError": "moderator.errors",
    "BackendRouter": "moderator.routing",
    "ConfigurationError": "moderator.errors",
    "ExecutionContext": "moderator.context",
    "GitManager": "moderator.git.manager",
    "InvalidTaskId": "moderator.errors",
    "IsolationError": "moderator.errors",
    "IsolationLevel": "moderator.context",
    "LoggingProgressCallback": "moderator.execution.base",
    "Orchestrator": "moderator.orchestrator",
    "ParallelTaskExecutor": "moderator.execution.parallel",
    "ProgressCallback": "moderator.execution.base",
    "SequentialExecutor": "moderator.execution.sequential",
    "Task": "moderator.models",
    "TaskExecutor": "moderator.execution.base",
    "TaskResult": "moderator.models",
    "TaskStatus": "moderator.models",
    "ensure_disjoint": "moderator.context",
}

__all__ = [
    "AggregateExecutionError",
    "BackendRouter",
    "ConfigurationError",
    "ExecutionContext",
    "GitManager",
    "InvalidTaskId",
    "IsolationError",
    "IsolationLevel",
    "LoggingProgressCallback",
    "Orchestrator",
    "ParallelTaskExecutor",
    "ProgressCallback",
    "SequentialExecutor",
    "Task",
    "TaskExecutor",
    "TaskResult",
    "TaskStatus",
    "ensure_disjoint",
]

if TYPE_CHECKING:
    from moderator.context import ExecutionContext, IsolationLevel, ensure_disjoint
    from moderator.errors import AggregateExecutionError, ConfigurationError, InvalidTaskId, IsolationError
    from moderator.execution.base import LoggingProgressCallback, ProgressCallback, TaskExecutor
    from moderator.execution.parallel import ParallelTaskExecutor
    from moderator.execution.sequential import SequentialExecutor
    from moderator.git.manager import GitManager
    from moderator.models import Task, TaskResult, TaskStatus
    from moderator.orchestrator import Orchestrator
    from moderator.routing import BackendRouter


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
