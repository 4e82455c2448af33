"""Many tasks at once: the limits of the configuration, and what many at once must not change."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from moderator.context import IsolationLevel
from moderator.errors import AggregateExecutionError, ConfigurationError
from moderator.execution.parallel import ParallelTaskExecutor
from moderator.git.manager import GitManager
from moderator.models import Outcome
from moderator.process import Cancellation, Limits
from repos import git
from runs import Listening, base_context, sample, shell, words


@pytest.mark.parametrize(
    ("config", "workers", "timeout"),
    [
        (None, 4, 3600),
        ({}, 4, 3600),
        ({"max_workers": 1, "timeout": 0.5}, 1, 0.5),
        ({"max_workers": 32}, 32, 3600),
        ({"gear3": {"parallel": {"max_workers": 8, "timeout": 60}}}, 8, 60),
        ({"gear3": {"parallel": {"enabled": True}}}, 4, 3600),
        ({"gear3": {"parallel": None}}, 4, 3600),
        ({"gear3": None}, 4, 3600),
        ({"gear3": {}}, 4, 3600),
    ],
)
def test_the_configuration_is_read_flat_or_nested(config: dict[str, Any] | None, workers: int, timeout: float) -> None:
    """`max_workers` and `timeout` come from the mapping itself or its `gear3.parallel`, else they are 4 and 3600."""
    executor = ParallelTaskExecutor(config)
    assert (executor.max_workers, executor.timeout, executor.get_execution_mode()) == (workers, timeout, "parallel")


@pytest.mark.parametrize("nested", [False, True], ids=["flat", "nested"])
@pytest.mark.parametrize("value", [0, -1, 33, 4.0, "4", None, True, False, math.nan], ids=repr)
def test_workers_are_between_one_and_32(value: Any, nested: bool) -> None:
    """Anything else, true and false too, is refused with the limits and the value."""
    config: dict[str, Any] = {"max_workers": value}
    with pytest.raises(ConfigurationError) as refused:
        ParallelTaskExecutor({"gear3": {"parallel": config}} if nested else config)
    assert str(refused.value) == f"max_workers must be between 1 and 32, not {value!r}"


@pytest.mark.parametrize("value", [0, -1, -0.5, math.nan, math.inf, "60", None, True, False], ids=repr)
def test_a_timeout_is_positive(value: Any) -> None:
    """Nought, less, no number at all: refused with the value."""
    with pytest.raises(ConfigurationError) as refused:
        ParallelTaskExecutor({"timeout": value})
    assert str(refused.value) == f"timeout must be positive, not {value!r}"


@pytest.mark.parametrize(
    ("config", "workers", "timeout", "message"),
    [
        ({"max_workers": 50}, 0, 0, "max_workers must be between 1 and 32"),
        ({"timeout": -1}, 0, 0, "timeout must be positive"),
    ],
)
def test_the_messages_begin_as_promised(config: dict[str, Any], workers: int, timeout: int, message: str) -> None:
    """Other people's code looks for these words."""
    with pytest.raises(ConfigurationError, match=message):
        ParallelTaskExecutor(config)


def test_all_failing_raises_with_every_result(tmp_path: Path) -> None:
    """If no task did well, the error carries what would have been returned, in order."""
    executor = ParallelTaskExecutor(git=GitManager(sample(tmp_path)))
    tasks = [shell("a", "exit 1"), shell("b", ["none"]), shell("c", "exit 2")]
    with pytest.raises(AggregateExecutionError) as failed:
        executor.execute_tasks(tasks, base_context(tmp_path / "sample"))
    assert str(failed.value) == "all 3 tasks failed"
    assert [(result.task, words(result)) for result in failed.value.failed_tasks] == [
        (tasks[0], "failed"),
        (tasks[1], "could not start"),
        (tasks[2], "failed"),
    ]


def test_one_success_among_failures_is_a_list(tmp_path: Path) -> None:
    """A task that did well, even by changing nothing, makes the run no failure as a whole."""
    executor = ParallelTaskExecutor(git=GitManager(sample(tmp_path)))
    results = executor.execute_tasks([shell("a", "exit 1"), shell("b")], base_context(tmp_path / "sample"))
    assert [words(result) for result in results] == ["failed", "unchanged"]


def test_an_interrupted_run_is_no_failure(tmp_path: Path) -> None:
    """Tasks that were cancelled come back as results, not as an error."""
    cancellation = Cancellation()
    cancellation.cancel()
    executor = ParallelTaskExecutor(git=GitManager(sample(tmp_path)), cancellation=cancellation)
    results = executor.execute_tasks([shell("a"), shell("b")], base_context(tmp_path / "sample"))
    assert [result.outcome for result in results] == [Outcome.CANCELLED] * 2


@pytest.mark.parametrize("level", [IsolationLevel.NONE, IsolationLevel.BRANCH])
def test_many_workers_cannot_share_the_base_checkout(level: IsolationLevel, tmp_path: Path) -> None:
    """A level that runs in the base checkout is refused for several workers, before anything is made."""
    executor = ParallelTaskExecutor({"isolation_level": level.value}, git=GitManager(sample(tmp_path)))
    with pytest.raises(ConfigurationError) as refused:
        executor.execute_tasks([shell("a")], base_context(tmp_path / "sample", level))
    assert (str(refused.value), refused.value.hint) == (
        f"isolation level {level.value} runs in the base checkout, which one task at a time can have",
        "set max_workers to 1, or isolation_level to full",
    )
    assert GitManager(tmp_path / "sample").workspaces() == []


@pytest.mark.parametrize(
    ("config", "level", "branch"),
    [
        ({}, IsolationLevel.NONE, "main-task-a"),
        ({}, IsolationLevel.DIRECTORY, None),
        ({"isolation_level": "directory"}, IsolationLevel.FULL, None),
        ({"gear3": {"parallel": {"isolation_level": "full"}}}, IsolationLevel.NONE, "main-task-a"),
    ],
)
def test_the_level_is_the_configurations_then_the_contexts_then_full(
    config: dict[str, Any], level: IsolationLevel, branch: str | None, tmp_path: Path
) -> None:
    """A context without isolation is taken for one that nobody set, for tasks side by side need some."""
    repository = sample(tmp_path)
    context = base_context(repository, IsolationLevel.FULL)
    context.isolation_level = level
    (result,) = ParallelTaskExecutor(config, git=GitManager(repository)).execute_tasks([shell("a")], context)
    assert (words(result), result.branch) == ("unchanged", branch)


def test_a_timeout_of_the_configuration_is_every_tasks(tmp_path: Path) -> None:
    """A task without a limit of its own has the executor's; one with keeps its own."""
    executor = ParallelTaskExecutor({"timeout": 0.3}, git=GitManager(sample(tmp_path)), limits=Limits(grace=1))
    tasks = [shell("a", "sleep 60"), shell("b", "sleep 0.5; echo done", timeout=30)]
    results = executor.execute_tasks(tasks, base_context(tmp_path / "sample"))
    assert [(words(result), result.stdout) for result in results] == [("timed out", ""), ("unchanged", "done\n")]


def test_fifty_tasks_on_eight_workers(tmp_path: Path) -> None:
    """Fifty tasks on eight workers each do their own work on their own branch, and no slot has two at once."""
    repository = sample(tmp_path)
    slots = tmp_path / "slots"
    slots.mkdir()
    run = (
        'mkdir "$SLOTS/$MODERATOR_SLOT" || exit 9; sleep 0.02; echo "$MODERATOR_TASK_ID" > own;'
        ' echo "$MODERATOR_SLOT"; rmdir "$SLOTS/$MODERATOR_SLOT"'
    )
    tasks = [shell(f"task_{number:03d}", run, env={"SLOTS": str(slots)}) for number in range(50)]
    listening = Listening()
    executor = ParallelTaskExecutor({"max_workers": 8}, git=GitManager(repository))
    results = executor.execute_tasks(tasks, base_context(repository), listening)
    assert [(result.task, words(result)) for result in results] == [(task, "succeeded") for task in tasks]
    assert {result.stdout.strip() for result in results} <= set("01234567")
    assert len({result.stdout for result in results}) > 1
    assert sorted(said[:2] for said in listening.said) == sorted(
        (what, task.id) for task in tasks for what in ("complete", "start")
    )
    shown = git(
        repository, "cat-file", "--batch=%(objecttype)", stdin="".join(f"{one.branch}:own\n" for one in results)
    )
    assert shown.split("\n")[1::3] == [task.id for task in tasks]
    assert git(repository, "fsck", "--strict") == ""
    assert git(repository, "status", "--porcelain") == ""
