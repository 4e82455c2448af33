"""What other people import is there, and importing it costs nothing until it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import moderator

PUBLIC_NAMES = [
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
HEAVY = {"distributed", "git", "psutil", "pydantic", "rich", "yaml"}


def modules_after(program: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after running a program."""
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\nimport sys\nprint(*sys.modules, sep='\\n')"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.partition(".")[0] for name in done.stdout.splitlines()}


def test_the_public_names_are_the_promised_ones() -> None:
    """The list is sorted and complete: a name that is added or lost is a change of the promise."""
    assert moderator.__all__ == sorted(moderator.__all__) == PUBLIC_NAMES
    assert set(PUBLIC_NAMES) < set(dir(moderator))


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_every_public_name_can_be_imported(name: str) -> None:
    """The name is found in the room that is said to hold it, and is the same object each time."""
    thing = getattr(moderator, name)
    assert thing.__name__ == name
    assert thing.__module__.startswith("moderator.")
    assert getattr(moderator, name) is thing


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    """A misspelt name fails as in any other module."""
    with pytest.raises(AttributeError, match="module 'moderator' has no attribute 'Moderator'"):
        moderator.Moderator  # noqa: B018  the look-up is the point


@pytest.mark.parametrize("program", ["import moderator", "from moderator import ExecutionContext, Task"])
def test_importing_costs_no_library(program: str) -> None:
    """The package, and the plain data in it, load none of the libraries that take long to import."""
    loaded = modules_after(program)
    assert "moderator" in loaded
    assert loaded & HEAVY == set()
