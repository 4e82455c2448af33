"""One task after the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from moderator.context import IsolationLevel
from moderator.execution.parallel import ParallelTaskExecutor
from moderator.execution.sequential import SequentialExecutor
from moderator.git.manager import GitManager
from moderator.models import Task, TaskResult
from repos import git
from runs import base_context, sample, shell, words


def test_tasks_run_one_at_a_time_in_their_order(tmp_path: Path) -> None:
    """Each task begins after the one before it has ended."""
    journal = tmp_path / "journal"
    run = f'echo "$MODERATOR_TASK_ID begins" >> {journal}; sleep 0.05; echo "$MODERATOR_TASK_ID ends" >> {journal}'
    names = ["c", "a", "b"]
    executor = SequentialExecutor(git=GitManager(sample(tmp_path)))
    executor.execute_tasks([shell(name, run) for name in names], base_context(tmp_path / "sample"))
    assert journal.read_text().splitlines() == [f"{name} {what}" for name in names for what in ("begins", "ends")]


def test_all_failing_is_a_list_of_results(tmp_path: Path) -> None:
    """A sequential executor returns failures, however many: only the parallel one raises when all of them fail."""
    executor = SequentialExecutor(git=GitManager(sample(tmp_path)))
    results = executor.execute_tasks([shell("a", "exit 1"), shell("b", "exit 2")], base_context(tmp_path / "sample"))
    assert [(words(result), result.exit_code) for result in results] == [("failed", 1), ("failed", 2)]


def test_the_level_is_the_contexts_unless_told(tmp_path: Path) -> None:
    """An executor's own level wins over the base context's."""
    repository = sample(tmp_path)
    run = "echo x > x"
    for level, wanted in ((IsolationLevel.DIRECTORY, None), (IsolationLevel.FULL, IsolationLevel.DIRECTORY)):
        executor = SequentialExecutor(git=GitManager(repository), level=wanted)
        (result,) = executor.execute_tasks([shell(f"at-{level.value}", run)], base_context(repository, level))
        assert (words(result), result.branch) == ("succeeded", None)
    assert git(repository, "for-each-ref", "--format=%(refname)").split() == [
        "refs/heads/main",
        "refs/moderator/result/at-directory",
        "refs/moderator/result/at-full",
    ]


TASKS = [
    shell("changes", "echo more >> README.md; echo new > 'a new file'; rm src/a.txt"),
    shell("nothing"),
    shell("fails", "echo half > half; echo oops >&2; exit 3"),
    shell("commits", "echo own > own; git add own; git commit -qm own; echo left > left"),
    shell("absent", ["no-such-command"]),
    shell("slow", "sleep 60", timeout=0.3),
]


def _told(results: list[TaskResult], repository: Path) -> list[tuple[object, ...]]:
    def tree(result: TaskResult) -> str:
        return git(repository, "ls-tree", "-r", str(result.commit)) if result.commit else ""

    def left(result: TaskResult) -> str:
        return git(str(result.path), "status", "--porcelain")

    return [
        (*(result.task, words(result), result.exit_code, result.stdout, result.stderr), *(tree(result), left(result)))
        for result in results
    ]


def test_one_worker_and_many_give_the_same_results(tmp_path: Path) -> None:
    """The same tasks end the same, with the same commits and the same left behind, whoever runs them."""
    told = []
    for name, executor in (("one", SequentialExecutor), ("many", ParallelTaskExecutor)):
        (tmp_path / name).mkdir()
        repository = sample(tmp_path / name)
        results = executor(git=GitManager(repository)).execute_tasks(TASKS, base_context(repository))
        told.append(_told(results, repository))
    assert told[0] == told[1]
    assert [line[1] for line in told[0]] == [
        *("succeeded", "unchanged", "failed", "succeeded", "could not start", "timed out"),
    ]


@pytest.mark.parametrize("tasks", [(), (Task("only", "one", run="true"),)], ids=len)
def test_tasks_may_be_any_sequence(tasks: tuple[Task, ...], tmp_path: Path) -> None:
    """A tuple does as well as a list."""
    results = SequentialExecutor(git=GitManager(sample(tmp_path))).execute_tasks(
        tasks, base_context(tmp_path / "sample")
    )
    assert [result.task for result in results] == list(tasks)
