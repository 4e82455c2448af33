"""The pool is filled while a run goes on, as long as tasks wait; whoever listens to the run is told everything."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import pytest

from commandline import wait_until
from moderator.execution.filling import Filler
from moderator.git.manager import GitManager
from moderator.git.pool import PoolLimits
from moderator.models import TaskResult
from moderator.process.load import IdleCores
from repos import git, make_repository
from runs import Listening, shell
from workspaces import context

TASK = shell("one")
RESULT = TaskResult(TASK, 0, "", "", 0.1)


class ListeningClosely(Listening):
    """One that wants to hear of attempts too."""

    def on_attempt_end(self, result: TaskResult, backend: str, pause: float) -> None:
        self.said.append(("attempt", backend, str(pause)))


def filler(folder: Path, size: int, tasks: int, then: Listening | None = None, cores: float = 2.0) -> Filler:
    repo = make_repository(folder / "repo")
    git_manager = GitManager(repo, pool=PoolLimits(size))
    then = then or Listening()
    return Filler(
        git_manager, str(folder / "checkouts"), git(repo, "rev-parse", "HEAD"), tasks, then, idle=lambda: float(cores)
    )


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
        git_manager,
        str(tmp_path / "checkouts"),
        git(tmp_path / "repo", "rev-parse", "HEAD"),
        9,
        Listening(),
        True,
        lambda: 2.0,
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


def test_none_while_every_core_is_busy(tmp_path: Path) -> None:
    """Then each costs the tasks more than it gives them."""
    asked = []

    def busy() -> float:
        asked.append(1)
        return 0.4

    told = filler(tmp_path, 4, 2)
    told._idle = busy
    with told:
        wait_until(lambda: len(asked) > 4, "several looks")
    assert ready(tmp_path) == 0


def test_what_nobody_needs_any_more_is_not_finished(tmp_path: Path) -> None:
    """A spare that is half made when the last task begins is taken away, and nobody waits for it."""
    repo = make_repository(tmp_path / "repo", [("first", {"slow": "1\n", ".gitattributes": "slow filter=slow\n"})])
    begun, pause = tmp_path / "begun", tmp_path / "pause"
    os.mkfifo(pause)
    git(repo, "config", "filter.slow.smudge", f"touch {begun}; cat {pause}")
    told = Filler(
        GitManager(repo, pool=PoolLimits(1)), str(tmp_path / "checkouts"), git(repo, "rev-parse", "HEAD"), 1, Listening(),
        idle=lambda: 2.0,
    )  # fmt: skip
    with told:
        wait_until(begun.exists, "a checkout")
        told.on_task_start(TASK)
    assert GitManager(repo).pool_status().spares == ()
    assert os.listdir(repo / ".git/worktrees") == os.listdir(tmp_path / "checkouts/tasks") == []


def test_cores_are_busy_or_idle() -> None:
    """What is told is of this machine, since it was asked last: never more than it has."""
    idle = IdleCores()
    time.sleep(0.1)
    assert 0 <= idle() <= (os.cpu_count() or 1) + 0.5  # ticks are 10 ms, and one may be over
