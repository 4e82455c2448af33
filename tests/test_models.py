"""Tasks and results: plain data that pickles, compares and turns into JSON."""

from __future__ import annotations

import dataclasses
import json
import pickle
from typing import Any

import pytest

from moderator.models import Outcome, Task, TaskResult, TaskStatus

TASK = Task(
    "task_001", "Spell-check the documentation", ["no typo is left"], "codespell -w docs", {"LANG": "C"}, 600, 120
)


def result(exit_code: int | None = 0, **fields: Any) -> TaskResult:
    return TaskResult(TASK, exit_code, "out", "err", 1.23456, **fields)


def test_the_first_fields_are_the_published_ones() -> None:
    """Other people's code gives these by position; whatever follows has a default."""
    assert [field.name for field in dataclasses.fields(Task)][:3] == ["id", "description", "acceptance_criteria"]
    assert [field.name for field in dataclasses.fields(TaskResult)][:7] == [
        *("task", "exit_code", "stdout", "stderr", "duration_seconds", "artifacts_path", "error_message")
    ]
    assert Task("1", "one") == Task("1", "one", [], None, {}, None, None)
    assert Task("1", "one").acceptance_criteria is not Task("1", "one").acceptance_criteria
    TaskResult(TASK, 0, "", "", 0.0)


@pytest.mark.parametrize(
    ("ended", "success"),
    [
        (result(0), True),
        (result(1), False),
        (result(-9), False),
        (result(None), False),
        (result(0, error_message="the disk is full"), False),
        (result(0, error_message=""), True),
        (result(0, notes=["the main checkout's HEAD moved"]), True),
        *((result(0, outcome=outcome), outcome in (Outcome.SUCCEEDED, Outcome.UNCHANGED)) for outcome in Outcome),
        *((result(1, outcome=outcome), False) for outcome in Outcome),
    ],
)
def test_success_is_zero_and_nothing_else_wrong(ended: TaskResult, success: bool) -> None:
    """A task succeeded if its command ended with 0, no error is told, and its outcome is a good one."""
    assert ended.success is success
    assert ended.to_dict()["success"] is success


def test_every_outcome_has_its_status() -> None:
    """The twelve ways to end fall into completed, cancelled and failed, and success is completion."""
    assert {outcome: outcome.status for outcome in Outcome} == {
        Outcome.SUCCEEDED: TaskStatus.COMPLETED,
        Outcome.UNCHANGED: TaskStatus.COMPLETED,
        Outcome.FAILED: TaskStatus.FAILED,
        Outcome.NOT_VERIFIED: TaskStatus.FAILED,
        Outcome.SET_UP_FAILED: TaskStatus.FAILED,
        Outcome.BACKEND_FAILED: TaskStatus.FAILED,
        Outcome.UNREADABLE: TaskStatus.FAILED,
        Outcome.TIMED_OUT: TaskStatus.FAILED,
        Outcome.IDLE: TaskStatus.FAILED,
        Outcome.CANCELLED: TaskStatus.CANCELLED,
        Outcome.COULD_NOT_START: TaskStatus.FAILED,
        Outcome.NO_WORKSPACE: TaskStatus.FAILED,
        Outcome.NOT_KEPT: TaskStatus.FAILED,
    }
    assert [outcome for outcome in Outcome if outcome.success] == [
        outcome for outcome in Outcome if outcome.status is TaskStatus.COMPLETED
    ]


def test_a_result_is_ready_for_json() -> None:
    """`to_dict` gives what `--json` prints for a task, and not the text of its output."""
    ended = result(
        1,
        artifacts_path="/state/tasks/task_001",
        error_message="it ended with 1",
        outcome=Outcome.FAILED,
        run_id="run-1",
        attempt=2,
        backend="shell",
        branch="main-task-task-001",
        base="0123",
        commit=None,
        path="/srv/tasks/task_001",
        log="/state/tasks/task_001/output.log",
        notes=["kept"],
        backend_version="1.2",
        cost_usd=0.25,
        tokens_in=1200,
        tokens_out=34,
        reply="Done.",
    )
    assert json.loads(json.dumps(ended.to_dict())) == {
        "task_id": "task_001",
        "description": "Spell-check the documentation",
        "outcome": "failed",
        "success": False,
        "exit_code": 1,
        "error_message": "it ended with 1",
        "duration_seconds": 1.235,
        "run_id": "run-1",
        "attempt": 2,
        "backend": "shell",
        "branch": "main-task-task-001",
        "base": "0123",
        "commit": None,
        "path": "/srv/tasks/task_001",
        "log": "/state/tasks/task_001/output.log",
        "artifacts_path": "/state/tasks/task_001",
        "workspace_kept": True,
        "notes": ["kept"],
        "backend_version": "1.2",
        "cost_usd": 0.25,
        "tokens_in": 1200,
        "tokens_out": 34,
        "reply": "Done.",
        "variant_of": "",
    }


@pytest.mark.parametrize(("exit_code", "outcome"), [(0, "succeeded"), (3, "failed"), (None, "failed")])
def test_a_result_without_an_outcome_is_told_by_its_exit_code(exit_code: int | None, outcome: str) -> None:
    """Results that other people's code makes have no outcome; JSON has one all the same."""
    assert result(exit_code).to_dict()["outcome"] == outcome


@pytest.mark.parametrize("run", [None, "make test", ["make", "test"]], ids=repr)
def test_a_task_is_ready_for_json(run: str | list[str] | None) -> None:
    """A task's dictionary, read back, makes the same task, and shares nothing with it that can be changed."""
    task, twin = (Task("1", "one", ["no typo is left"], run, {"LANG": "C"}, 600, 1.5) for _ in range(2))
    written = task.to_dict()
    assert Task(**json.loads(json.dumps(written))) == task
    written["acceptance_criteria"].append("more")
    written["env"]["MORE"] = "1"
    assert task == twin


def test_everything_travels_between_processes_whole() -> None:
    """Pickled and read back, tasks and results are equal to what they were."""
    things = [TASK, result(0), *(result(None, outcome=outcome, notes=["a", "b"]) for outcome in Outcome), *TaskStatus]
    assert pickle.loads(pickle.dumps(things)) == things


def test_a_digest_is_of_what_is_to_be_done() -> None:
    """The id and the limits do not change it, everything else does; two tasks that say the same have the same."""
    task = Task("one", "Do it", run=["make", "é\udcff"])
    for same in (
        dataclasses.replace(task, id="two"),
        dataclasses.replace(task, timeout=1.0),
        dataclasses.replace(task, idle_timeout=1.0),
    ):
        assert same.digest == task.digest
    changes: list[dict[str, Any]] = [
        {"run": "make é"},
        {"env": {"A": ""}},
        {"kind": "x"},
        {"description": ""},
        {"acceptance_criteria": ["all"]},
    ]
    assert len({task.digest, *(dataclasses.replace(task, **change).digest for change in changes)}) == len(changes) + 1
