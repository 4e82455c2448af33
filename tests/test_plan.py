"""From tasks to everything a run will do, or every reason why it cannot: decided, and nothing made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from commandline import picture
from moderator.context import ExecutionContext, IsolationLevel
from moderator.errors import PlanError, WorkspaceOccupied
from moderator.models import Task
from moderator.plan import Plan, PlannedTask, make_plan, refuse_taken

COMMIT = "a" * 40


def base(folder: Path, level: IsolationLevel = IsolationLevel.FULL, branch: str = "main") -> ExecutionContext:
    return ExecutionContext("shop", str(folder / "checkouts"), branch, str(folder / "state"), level)


def tasks(*task_ids: Any) -> list[Task]:
    return [Task(task_id, f"Do {task_id}", run="make") for task_id in task_ids]


def problems(*arguments: Any, **options: Any) -> tuple[str, ...]:
    with pytest.raises(PlanError) as refused:
        make_plan(*arguments, **options)
    assert (refused.value.message, refused.value.exit_code) == ("these tasks cannot be run", 2)
    assert refused.value.hint == "nothing was started; mend what is named here and run again"
    return refused.value.problems


def test_a_plan_has_every_name_in_the_order_of_the_list(tmp_path: Path) -> None:
    """A plan is the value of everything a run will do: its tasks in their order, with their names and backends."""
    context = base(tmp_path)
    listed = tasks("zebra", "task_001", "日本語")
    plan = make_plan(listed, context, COMMIT, 3, keep="failed", backend_of=lambda task, _: f"for {task.id}")
    assert plan == Plan(
        context, "main", COMMIT, IsolationLevel.FULL, 3, "failed",
        tuple(PlannedTask(task, ExecutionContext.named(context, task.id), f"for {task.id}") for task in listed),
    )  # fmt: skip
    assert [(one.branch, one.path) for one in plan.tasks] == [
        ("main-task-zebra", f"{tmp_path}/checkouts/tasks/zebra"),
        ("main-task-task-001", f"{tmp_path}/checkouts/tasks/task_001"),
        ("main-task-task-77710aed", f"{tmp_path}/checkouts/tasks/task-77710aed"),
    ]


def test_a_plan_is_ready_for_json(tmp_path: Path) -> None:
    """`--dry-run --json` prints this dictionary."""
    plan = make_plan([Task("a_b", "Do it", run=["make", "-j"], timeout=3)], base(tmp_path), COMMIT, None)
    assert json.loads(json.dumps(plan.to_dict())) == {
        "base": {"branch": "main", "commit": COMMIT},
        "isolation_level": "full",
        "workers": 4,
        "keep": "always",
        "run_id": None,
        "tasks": [
            {
                "task_id": "a_b",
                "description": "Do it",
                "backend": "shell",
                "run": ["make", "-j"],
                "setup": [],
                "teardown": [],
                "verify": None,
                "branch": "main-task-a-b",
                "path": f"{tmp_path}/checkouts/tasks/a_b",
                "timeout": 3,
                "idle_timeout": None,
                "start": "run",
                "attempt": 1,
            }
        ],
    }


def test_planning_makes_nothing(tmp_path: Path) -> None:
    """Neither a plan nor a refusal leaves a trace on the disk."""
    before = picture(tmp_path)
    for level in IsolationLevel:
        make_plan(tasks("one", "two"), base(tmp_path, level), COMMIT, None)
    problems(tasks("one", "one"), base(tmp_path), COMMIT, None)
    assert picture(tmp_path) == before


@pytest.mark.parametrize(
    ("level", "branch", "directory"),
    [
        (IsolationLevel.NONE, None, ""),
        (IsolationLevel.DIRECTORY, None, "/tasks/a_b"),
        (IsolationLevel.BRANCH, "main-task-a-b", ""),
        (IsolationLevel.FULL, "main-task-a-b", "/tasks/a_b"),
    ],
)
def test_each_level_gives_the_names_it_isolates(
    tmp_path: Path, level: IsolationLevel, branch: str | None, directory: str
) -> None:
    """A task has a branch or a directory of its own exactly where its level says so."""
    (planned,) = make_plan(tasks("a_b"), base(tmp_path, level), COMMIT, 1).tasks
    assert (planned.branch, planned.path) == (branch, f"{tmp_path}/checkouts{directory}")


@pytest.mark.parametrize(
    ("level", "wanted", "default", "workers"),
    [
        (IsolationLevel.FULL, None, 4, 4),
        (IsolationLevel.FULL, None, 1, 1),
        (IsolationLevel.FULL, 32, 4, 32),
        (IsolationLevel.DIRECTORY, 2, 4, 2),
        (IsolationLevel.BRANCH, None, 4, 1),
        (IsolationLevel.NONE, None, 4, 1),
        (IsolationLevel.NONE, 1, 4, 1),
    ],
)
def test_there_are_as_many_workers_as_the_level_allows(
    tmp_path: Path, level: IsolationLevel, wanted: int | None, default: int, workers: int
) -> None:
    """What was asked for, else the default; always one where tasks share the base checkout."""
    assert make_plan(tasks("a"), base(tmp_path, level), COMMIT, wanted, default_workers=default).workers == workers


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    """A list with many faults is refused once, with all of them, each at its place."""
    found = problems(
        tasks("a_b", "ok", "", "a-b", "ok", "  ", "nul\0", 7, "Ok", "a b"),
        base(tmp_path), COMMIT, 99, where=lambda index: f"tasks.yaml:{index + 2}",
    )  # fmt: skip
    assert found == (
        "workers must be between 1 and 32, not 99",
        "tasks.yaml:4: a task id must not be empty or blank",
        "tasks.yaml:6: the id 'ok' is taken by tasks.yaml:3",
        "tasks.yaml:7: a task id must not be empty or blank",
        "tasks.yaml:8: the task id 'nul\\x00' holds a NUL character",
        "tasks.yaml:9: a task id must be text, not int",
        "tasks.yaml:5: tasks 'a_b' and 'a-b' would share the branch 'main-task-a-b'; rename one of them",
        "tasks.yaml:10: tasks 'ok' and 'Ok' would share the branch 'main-task-Ok'; rename one of them",
        "tasks.yaml:11: tasks 'a_b' and 'a b' would share the branch 'main-task-a-b'; rename one of them",
    )


def test_no_tasks_are_a_problem(tmp_path: Path) -> None:
    """An empty list is a mistake of whoever made it, not a run that did well."""
    assert problems([], base(tmp_path), COMMIT, None) == ("there are no tasks",)


@pytest.mark.parametrize("level", [IsolationLevel.NONE, IsolationLevel.BRANCH])
def test_many_workers_cannot_share_the_base_checkout(tmp_path: Path, level: IsolationLevel) -> None:
    """Levels that run in the base checkout are for one task at a time; asking for more is told, with the others."""
    assert problems(tasks("a", "a"), base(tmp_path, level), COMMIT, 2) == (
        f"level {level.value} runs in the base checkout, which one task at a time can have: 2 workers are too many",
        "task 2: the id 'a' is taken by task 1",
    )


def test_ids_that_share_a_slug_are_told_at_every_level(tmp_path: Path) -> None:
    """Directories alone keep `a_b` and `a-b` apart, but not what is kept under their slugs: records, results and logs."""
    pair = tasks("a_b", "a-b")
    assert problems(pair, base(tmp_path, IsolationLevel.BRANCH), COMMIT, None) == (
        "task 2: tasks 'a_b' and 'a-b' would share the branch 'main-task-a-b'; rename one of them",
    )
    for level in (IsolationLevel.DIRECTORY, IsolationLevel.NONE):
        assert problems(pair, base(tmp_path, level), COMMIT, None) == (
            "task 2: 'a-b' and 'a_b' would share names; rename one of them",
        )


def test_a_base_whose_name_is_too_long_is_told(tmp_path: Path) -> None:
    """A base branch that leaves no room for a task's part is a problem of the plan, not of the first task to run."""
    found = problems(tasks("a"), base(tmp_path, branch="b" * 250), COMMIT, None)
    assert found == (
        f"task 1: the name of base branch {'b' * 250!r} is too long: its last part leaves no room for a task's name",
    )


def test_nothing_of_an_earlier_run_is_used_again(tmp_path: Path) -> None:
    """A branch or a workspace under a task's names refuses the whole run, naming each, with the commands to choose from."""
    plan = make_plan(tasks("one", "two", "three"), base(tmp_path), COMMIT, None)
    refuse_taken(plan, {"main", "main-task-four"}, {})
    with pytest.raises(WorkspaceOccupied) as refused:
        refuse_taken(plan, {"main-task-one", "main-task-three"}, {"three": "the workspace at /x exists"})
    error = refused.value
    assert error.exit_code == 3
    assert str(error) == ("2 of 3 tasks have something from an earlier run under their names; nothing was started")
    assert error.findings == (
        "task 'one': the branch 'main-task-one' exists",
        "task 'three': the workspace at /x exists",
    )
    assert error.hint == (
        "keep its branch under another name: git branch -m main-task-one NEW-NAME\n"
        "or delete its branch: git branch -d main-task-one (refuses what is not merged)\n"
        "or give the tasks other ids"
    )


def test_a_workspace_of_an_earlier_run_is_looked_at_and_removed_first(tmp_path: Path) -> None:
    """The hint names only what is there: without a branch no command for branches, and ids are quoted for the shell."""
    plan = make_plan(tasks("it's"), base(tmp_path, IsolationLevel.DIRECTORY), COMMIT, None)
    with pytest.raises(WorkspaceOccupied) as refused:
        refuse_taken(plan, set(), {"it's": "the workspace at /x exists"})
    assert refused.value.hint == (
        "look at it: moderator show 'it'\"'\"'s'\n"
        "remove its workspace first: moderator clean 'it'\"'\"'s'\n"
        "or give the tasks other ids"
    )
