"""The pool is filled while a run goes on, as long as tasks wait; whoever listens to the run is told everything."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from commandline import wait_until
from moderator.execution.filling import Filler
from moderator.git.manager import GitManager
from moderator.git.pool import PoolLimits
from moderator.models import TaskResult
from repos import git, make_repository
from runs import Listening, shell
from workspaces import context

TASK = shell("one")
RESULT = TaskResult(TASK, 0, "", "", 0.1)


class ListeningClosely(Listening):
    """One that wants to hear of attempts too."""

    def on_attempt_end(self, result: TaskResult, backend: str, pause: float) -> None:
        self.said.append(("attempt", backend, str(pause)))


def filler(folder: Path, size: int, tasks: int, then: Listening | None = None) -> Filler:
    repo = make_repository(folder / "repo")
    git_manager = GitManager(repo, pool=PoolLimits(size))
    return Filler(git_manager, str(folder / "checkouts"), git(repo, "rev-parse", "HEAD"), tasks, then or Listening())


def ready(folder: Path) -> int:
    return GitManager(folder / "repo").pool_status().ready


def tell_everything(told: Filler) -> None:
    told.on_task_start(TASK)
    if tell := getattr(told, "on_attempt_end", None):
        tell(RESULT, "shell", 0.5)
    told.on_task_complete(RESULT)
    told.on_task_error(TASK, ValueError("broken"))


def test_every_callback_is_passed_on(tmp_path: Path) -> None:
    """What a run tells of its tasks and attempts reaches who listens, in the same order."""
    listening = ListeningClosely()
    with filler(tmp_path, 0, 1, listening) as told:
        tell_everything(told)
    assert [kind for kind, *_ in listening.said] == ["start", "attempt", "complete", "error"]


def test_who_does_not_care_for_attempts_is_spared_them(tmp_path: Path) -> None:
    """Somebody without a word for attempts is told of the rest."""
    listening = Listening()
    with filler(tmp_path, 0, 1, listening) as told:
        tell_everything(told)
    assert [kind for kind, *_ in listening.said] == ["start", "complete", "error"]


def test_as_many_spares_as_tasks_wait(tmp_path: Path) -> None:
    """No more are made than tasks have yet to begin, nor than the pool may hold."""
    with filler(tmp_path, 4, 2):
        wait_until(lambda: ready(tmp_path) == 2, "a spare for each task")
    assert ready(tmp_path) == 2


def test_none_for_workspaces_that_come_back(tmp_path: Path) -> None:
    """Where removed workspaces become spares, only as many are made as tasks ended without giving one back."""
    git_manager = GitManager(make_repository(tmp_path / "repo"), pool=PoolLimits(4, recycle="pristine"))
    with Filler(
        git_manager, str(tmp_path / "checkouts"), git(tmp_path / "repo", "rev-parse", "HEAD"), 9, Listening(), True
    ) as told:
        assert told._wanted() == 0
        told.on_task_start(TASK)
        told.on_task_complete(RESULT)
        wait_until(lambda: ready(tmp_path) == 1, "a spare for the one that did not come back")
        git_manager.create_workspace(context(tmp_path, "one"), "main").release()
        git_manager.remove_workspace("one", recycle=True)
        told.on_task_complete(RESULT)
        assert told._wanted() == 1
    assert ready(tmp_path) == 1


def test_no_pool_no_thread(tmp_path: Path) -> None:
    """Where no spares are wanted nothing is made, and nothing is waited for."""
    with filler(tmp_path, 0, 5) as told:
        assert told._thread is None
    assert ready(tmp_path) == 0


def test_a_pool_that_cannot_be_filled_costs_speed_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A place that cannot be written to is told once, and the run goes on."""
    (tmp_path / "checkouts").write_text("a file")
    with caplog.at_level(logging.WARNING), filler(tmp_path, 1, 1):
        wait_until(lambda: caplog.records, "a warning")
    assert ["the pool of spares cannot be filled" in record.getMessage() for record in caplog.records] == [True]
