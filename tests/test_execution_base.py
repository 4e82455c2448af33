"""What every executor is, whatever it runs and however many at once."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from commandline import wait_until
from moderator.context import ExecutionContext, IsolationLevel
from moderator.errors import ConfigurationError
from moderator.execution.base import LocalExecutor, LoggingProgressCallback, TaskExecutor, new_run_id
from moderator.execution.parallel import ParallelTaskExecutor
from moderator.execution.sequential import SequentialExecutor
from moderator.git.manager import GitManager
from moderator.models import Outcome, Task, TaskResult
from moderator.process import Cancellation, Limits
from moderator.routing import Place
from repos import git
from runs import Listening, base_context, sample, shell, words

Make = Callable[..., LocalExecutor]


def parallel(**options: Any) -> LocalExecutor:
    return ParallelTaskExecutor({"max_workers": 3}, **options)


both = pytest.mark.parametrize("make", [SequentialExecutor, parallel], ids=["sequential", "parallel"])


@both
def test_an_executor_is_what_the_interface_says(make: Make) -> None:
    """Both kinds are TaskExecutors, and say which they are."""
    executor = make()
    assert isinstance(executor, TaskExecutor)
    assert executor.get_execution_mode() == {SequentialExecutor: "sequential"}.get(type(executor), "parallel")


@both
def test_results_come_in_the_order_of_the_tasks(make: Make, tmp_path: Path) -> None:
    """However long each takes and however it ends, the list of results is the list of tasks."""
    tasks = [shell("late", "sleep 0.5"), shell("bad", "exit 3"), shell("early", "echo x > x"), shell("none", ["none"])]
    executor = make(git=GitManager(sample(tmp_path)))
    results = executor.execute_tasks(tasks, base_context(tmp_path / "sample"))
    assert [(result.task, words(result)) for result in results] == [
        (tasks[0], "unchanged"),
        (tasks[1], "failed"),
        (tasks[2], "succeeded"),
        (tasks[3], "could not start"),
    ]


@both
def test_no_tasks_give_no_results(make: Make, tmp_path: Path) -> None:
    """An empty list asks nothing of anybody, not even of a repository."""
    assert make().execute_tasks([], base_context(tmp_path / "nowhere")) == []


@both
def test_the_repository_is_found_from_the_context(make: Make, tmp_path: Path) -> None:
    """Without a manager, the context's working directory says which repository it is."""
    repository = sample(tmp_path)
    context = ExecutionContext("sample", str(repository), "main", str(tmp_path / "state"), IsolationLevel.FULL)
    (result,) = make().execute_tasks([shell("one", "echo x > x")], context)
    assert (words(result), result.path) == ("succeeded", str(repository / "tasks" / "one"))


@both
def test_who_listens_hears_everything_in_order(make: Make, tmp_path: Path) -> None:
    """Each task is told to start, then to have ended; why it could not be carried through comes between."""
    (tmp_path / "checkouts" / "tasks").mkdir(parents=True)
    (tmp_path / "checkouts" / "tasks" / "blocked").write_text("mine")
    listening = Listening()
    tasks = [shell("good", "echo x > x"), shell("blocked")]
    make(git=GitManager(sample(tmp_path))).execute_tasks(tasks, base_context(tmp_path / "sample"), listening)
    assert [said for said in listening.said if said[1] == "good"] == [
        ("start", "good", ""),
        ("complete", "good", "succeeded"),
    ]
    blocked = [said for said in listening.said if said[1] == "blocked"]
    assert [said[0] for said in blocked] == ["start", "error", "complete"]
    assert blocked[2] == ("complete", "blocked", "no workspace")


@both
def test_a_callback_that_fails_stops_nothing(make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Every exception of a callback is logged with its traceback, and the results are what they would have been."""
    listening = Listening(fail=True)
    tasks = [shell("one", "echo x > x"), shell("two", "exit 1")]
    with caplog.at_level(logging.ERROR, "moderator"):
        results = make(git=GitManager(sample(tmp_path))).execute_tasks(
            tasks, base_context(tmp_path / "sample"), listening
        )
    assert [words(result) for result in results] == ["succeeded", "failed"]
    assert len(listening.said) == 4
    logged = [(record.getMessage(), str(record.exc_info and record.exc_info[1])[:31]) for record in caplog.records]
    purpose = "the callback fails on purpose: "
    assert sorted(logged) == [
        ("the progress callback failed in on_task_complete; the run goes on", purpose),
        ("the progress callback failed in on_task_complete; the run goes on", purpose),
        ("the progress callback failed in on_task_start; the run goes on", purpose),
        ("the progress callback failed in on_task_start; the run goes on", purpose),
    ]


@both
def test_after_shutdown_an_executor_refuses(make: Make, tmp_path: Path) -> None:
    """Shutting down twice is nothing; executing afterwards, even of nothing, is a RuntimeError."""
    executor = make(git=GitManager(sample(tmp_path)))
    executor.execute_tasks([shell("one")], base_context(tmp_path / "sample"))
    executor.shutdown()
    executor.shutdown(timeout=0)
    for tasks in ([], [shell("two")]):
        with pytest.raises(RuntimeError, match="this executor has been shut down; make a new one"):
            executor.execute_tasks(tasks, base_context(tmp_path / "sample"))


@both
def test_shutdown_ends_what_runs(make: Make, tmp_path: Path) -> None:
    """Tasks that run are ended in order and the others never begin; all have their result."""
    listening, results = Listening(), list[TaskResult]()
    ready = tmp_path / "ready"
    run = f"trap 'echo ended > {tmp_path}/ended; exit 1' TERM; touch {ready}; while :; do sleep 0.05; done"
    tasks = [shell("first", run), *(shell(f"later{number}", "sleep 60") for number in range(4))]
    executor = make(git=GitManager(sample(tmp_path)), limits=Limits(grace=5))
    context = base_context(tmp_path / "sample")
    thread = threading.Thread(target=lambda: results.extend(executor.execute_tasks(tasks, context, listening)))
    thread.start()
    wait_until(ready.exists, "the first task")
    executor.shutdown(timeout=30)
    thread.join(30)
    assert [words(result) for result in results] == ["cancelled"] * 5
    assert (tmp_path / "ended").read_text() == "ended\n"


def test_a_run_that_was_cancelled_before_it_began_starts_nothing(tmp_path: Path) -> None:
    """Tasks that never began are cancelled, have no workspace, and say why."""
    cancellation = Cancellation()
    cancellation.cancel()
    repository, task = sample(tmp_path), shell("one")
    executor = SequentialExecutor(git=GitManager(repository), cancellation=cancellation, run_id="r")
    results = executor.execute_tasks([task], base_context(repository))
    assert results == [
        TaskResult(
            task, None, "", "", 0.0,
            error_message="the run was interrupted before the task began", outcome=Outcome.CANCELLED,
            run_id="r", base=git(repository, "rev-parse", "main"), workspace_kept=False,
        )
    ]  # fmt: skip
    assert GitManager(repository).workspaces() == []


def test_all_tasks_fork_from_one_commit(tmp_path: Path) -> None:
    """A run's base is decided at its start: a base branch that moves meanwhile moves no task."""
    repository = sample(tmp_path)
    base = git(repository, "rev-parse", "main")
    mover = f"git -C {repository} commit --quiet --allow-empty -m moved"
    executor = SequentialExecutor(git=GitManager(repository))
    results = executor.execute_tasks([shell("mover", mover), shell("after")], base_context(repository))
    assert [result.base for result in results] == [base, base]
    assert git(repository, "rev-parse", "main-task-after") == base != git(repository, "rev-parse", "main")


class Writer:
    """A backend that is no shell: another implementation of the protocol."""

    name = "writer"

    def command(self, task: Task, workspace: Place) -> list[str]:
        return ["sh", "-c", 'printf %s "$1" > "$2/words"', "sh", task.description, workspace.path]


def test_a_backend_of_ones_own_does_the_work(tmp_path: Path) -> None:
    """A backend given to an executor makes the commands of its tasks, and the results say so."""
    repository = sample(tmp_path)
    executor = SequentialExecutor(git=GitManager(repository), backend=Writer())
    (result,) = executor.execute_tasks([Task("one", "Say hello")], base_context(repository))
    assert (words(result), result.backend) == ("succeeded", "writer")
    assert git(repository, "show", "main-task-one:words") == "Say hello"


class Broken:
    """A backend with a mistake in it."""

    name = "broken"

    def command(self, task: Task, workspace: Place) -> list[str]:
        raise ZeroDivisionError("a mistake")


def test_a_backend_that_fails_is_a_result(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a backend raises, its task could not start, the reason is told, and the traceback is in the log."""
    repository = sample(tmp_path)
    executor = SequentialExecutor(git=GitManager(repository), backend=Broken())
    results = executor.execute_tasks([shell("one"), shell("two")], base_context(repository))
    assert [(words(result), result.error_message) for result in results] == [("could not start", "a mistake")] * 2
    assert [record.getMessage() for record in caplog.records] == [
        "task 'one' could not be carried through",
        "task 'two' could not be carried through",
    ]


def test_a_keep_policy_that_is_none_is_refused() -> None:
    """A policy is one of three words."""
    with pytest.raises(ConfigurationError, match="keep must be always, failed or never, not 'sometimes'"):
        SequentialExecutor(keep="sometimes")


def test_run_ids_sort_by_time_and_are_never_the_same() -> None:
    """The seconds first, then what makes them differ within one."""
    made = [new_run_id() for _ in range(200)]
    assert len(set(made)) == 200
    assert [run_id[:15] for run_id in made] == sorted(run_id[:15] for run_id in made)


RESULT = TaskResult(Task("1", "one"), 0, "out", "err", 1.234)


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({}, "[Task 1] ✓ Completed in 1.2s\n"),
        ({"exit_code": 3}, "[Task 1] ✗ Completed in 1.2s\n  Error: exit code 3\n"),
        ({"exit_code": 3, "error_message": "no"}, "[Task 1] ✗ Completed in 1.2s\n  Error: no\n"),
        ({"exit_code": None}, "[Task 1] ✗ Completed in 1.2s\n"),
    ],
)
def test_the_logging_callback_prints_how_a_task_ended(
    fields: dict[str, Any], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mark and the time to a tenth of a second, with the error below where there is one."""
    LoggingProgressCallback().on_task_complete(TaskResult(**{**vars(RESULT), **fields}))
    assert capsys.readouterr() == (line, "")


def test_the_logging_callback_prints_starts_and_errors(capsys: pytest.CaptureFixture[str]) -> None:
    """One line each, on standard output."""
    callback = LoggingProgressCallback()
    callback.on_task_start(Task("1", "Spell-check the documentation"))
    callback.on_task_error(Task("1", "x"), ValueError("it broke"))
    assert capsys.readouterr() == (
        "[Task 1] Starting: Spell-check the documentation\n[Task 1] ✗ ERROR: it broke\n",
        "",
    )


def test_the_logging_callback_prints_on_any_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the encoding has no check mark, something else is printed; nothing raises."""
    with (tmp_path / "out").open("w", encoding="ascii") as out:
        monkeypatch.setattr("sys.stdout", out)
        LoggingProgressCallback().on_task_complete(RESULT)
    assert (tmp_path / "out").read_text() == "[Task 1] ? Completed in 1.2s\n"


def test_tasks_inherit_the_environment_they_are_given(tmp_path: Path) -> None:
    """`environment` takes the place of this process's: what is not in it is not in the task's."""
    repository = sample(tmp_path)
    executor = SequentialExecutor(git=GitManager(repository), environment={"PATH": os.environ["PATH"], "GIVEN": "yes"})
    (result,) = executor.execute_tasks([shell("one", "echo $GIVEN ${HOME-no home}")], base_context(repository))
    assert result.stdout == "yes no home\n"


@both
def test_an_attempt_has_the_number_it_is_given(make: Make, tmp_path: Path) -> None:
    """A task that was begun before knows it, its log lies beside the earlier ones, and its result says what it is to say."""
    executor = make(
        git=GitManager(sample(tmp_path)), run_id="r-1", attempts={"two": 3}, notes={"two": ["it was begun before"]}
    )
    tasks = [shell(name, "echo $MODERATOR_ATTEMPT") for name in ("one", "two")]
    one, two = executor.execute_tasks(tasks, base_context(tmp_path / "sample"))
    assert (one.attempt, one.stdout, one.notes) == (1, "1\n", [])
    assert (two.attempt, two.stdout, two.notes) == (3, "3\n", ["it was begun before"])
    assert [Path(str(one.log)).parts[-3:], Path(str(two.log)).parts[-3:]] == [
        ("r-1", "1", "output.log"),
        ("r-1", "3", "output.log"),
    ]
