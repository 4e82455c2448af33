"""Runs of real tasks on a real repository, without a command line around them."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from moderator.context import ExecutionContext, IsolationLevel
from moderator.execution.sequential import SequentialExecutor
from moderator.git.manager import GitManager
from moderator.models import Task, TaskResult
from moderator.process import Limits
from repos import make_repository

FILES = {"README.md": "# Sample\n", "src/a.txt": "1\n", "src/b.txt": "2\n"}


def sample(tmp_path: Path) -> Path:
    """Make a repository with one commit of three files."""
    return make_repository(tmp_path / "sample", [("first", FILES)])


def base_context(repository: Path, level: IsolationLevel = IsolationLevel.FULL) -> ExecutionContext:
    """Return the base context of a run: worktrees beside the repository, or the checkout itself where levels share it."""
    beside = repository.parent / "checkouts"
    directory = beside if level.isolates_directory else repository
    return ExecutionContext("sample", str(directory), "main", str(repository.parent / "state"), level)


def shell(task_id: str, run: Any = "true", description: str = "", **fields: Any) -> Task:
    return Task(task_id, description or f"Do {task_id}", run=run, **fields)


def execute(
    repository: Path, *tasks: Task, level: IsolationLevel = IsolationLevel.FULL, callback: Any = None, **options: Any
) -> list[TaskResult]:
    """Run tasks one after the other and return their results."""
    options.setdefault("limits", Limits(timeout=60, grace=1))
    executor = SequentialExecutor(git=GitManager(repository), **options)
    return executor.execute_tasks(tasks, base_context(repository, level), callback)


def execute_one(repository: Path, run: Any, **options: Any) -> TaskResult:
    """Run one task, `one`, and return its result."""
    (result,) = execute(repository, shell("one", run), **options)
    return result


def words(result: TaskResult) -> str:
    """Return the outcome as people read it."""
    return result.outcome.value if result.outcome else "none"


class Listening:
    """A callback that writes down what it is told, and may fail."""

    def __init__(self, fail: bool = False) -> None:
        self.said: list[tuple[str, str, str]] = []
        self._fail = fail
        self._lock = threading.Lock()

    def on_task_start(self, task: Task) -> None:
        self._note("start", task.id, "")

    def on_task_complete(self, result: TaskResult) -> None:
        self._note("complete", result.task.id, words(result))

    def on_task_error(self, task: Task, error: Exception) -> None:
        self._note("error", task.id, str(error))

    def _note(self, *what: str) -> None:
        with self._lock:
            self.said.append(what)  # type: ignore[arg-type]
        if self._fail:
            raise RuntimeError(f"the callback fails on purpose: {what}")


def inherited(**more: str) -> dict[str, str]:
    """Return this process's environment with more in it: what a task is given to inherit."""
    return {**os.environ, **more}
