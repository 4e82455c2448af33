"""While a run goes on the pool is filled and the trash emptied on idle cores; whoever listens to the run is told everything."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from commandline import wait_until
from moderator.execution.housekeeping import Housekeeper
from moderator.git.manager import GitManager
from moderator.git.pool import PoolLimits
from moderator.models import TaskResult
from moderator.process.load import IdleCores
from repos import git, make_repository
from runs import Listening, shell
from workspaces import context, mounted

TASK = shell("one")
RESULT = TaskResult(TASK, 0, "", "", 0.1)


class ListeningClosely(Listening):
    """One that wants to hear of attempts too."""

    def on_attempt_end(self, result: TaskResult, backend: str, pause: float) -> None:
        self.said.append(("attempt", backend, str(pause)))


def housekeeper(folder: Path, size: int, tasks: int, then: Listening | None = None, cores: float = 2.0) -> Housekeeper:
    repo = make_repository(folder / "repo")
    git_manager = GitManager(repo, pool=PoolLimits(size))
    then = then or Listening()
    return Housekeeper(
        git_manager, str(folder / "checkouts"), git(repo, "rev-parse", "HEAD"), tasks, then, idle=lambda: float(cores)
    )


def ready(folder: Path) -> int:
    return GitManager(folder / "repo").pool_status().ready


def tell_everything(told: Housekeeper) -> None:
    told.on_task_start(TASK)
    if tell := getattr(told, "on_attempt_end", None):
        tell(RESULT, "shell", 0.5)
    told.on_task_complete(RESULT)
    told.on_task_error(TASK, ValueError("broken"))


def test_every_callback_is_passed_on(tmp_path: Path) -> None:
    """What a run tells of its tasks and attempts reaches who listens, in the same order."""
    listening = ListeningClosely()
    with housekeeper(tmp_path, 0, 1, listening) as told:
        tell_everything(told)
    assert [kind for kind, *_ in listening.said] == ["start", "attempt", "complete", "error"]


def test_who_does_not_care_for_attempts_is_spared_them(tmp_path: Path) -> None:
    """Somebody without a word for attempts is told of the rest."""
    listening = Listening()
    with housekeeper(tmp_path, 0, 1, listening) as told:
        tell_everything(told)
    assert [kind for kind, *_ in listening.said] == ["start", "complete", "error"]


def test_as_many_spares_as_tasks_wait(tmp_path: Path) -> None:
    """No more are made than tasks have yet to begin, nor than the pool may hold."""
    with housekeeper(tmp_path, 4, 2):
        wait_until(lambda: ready(tmp_path) == 2, "a spare for each task")
    assert ready(tmp_path) == 2


def test_none_for_workspaces_that_come_back(tmp_path: Path) -> None:
    """Where removed workspaces become spares, only as many are made as tasks ended without giving one back."""
    git_manager = GitManager(make_repository(tmp_path / "repo"), pool=PoolLimits(4, recycle="pristine"))
    with Housekeeper(
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


def removing(folder: Path, git_manager: GitManager, idle: Callable[[], float]) -> Housekeeper:
    """A run of nine tasks that removes what they made."""
    return Housekeeper(git_manager, str(folder / "checkouts"), "main", 9, Listening(), True, idle)


def removed(folder: Path, git_manager: GitManager, task_id: str) -> Path:
    git_manager.create_workspace(context(folder, task_id)).release()
    removal = git_manager.remove_workspace(task_id, later=True)
    assert removal is not None
    return Path(str(git_manager.trash_of(removal)))


def test_what_was_removed_goes_while_cores_are_idle(tmp_path: Path) -> None:
    """The run goes on meanwhile."""
    git_manager = GitManager(make_repository(tmp_path / "repo"))
    with removing(tmp_path, git_manager, lambda: 1.0) as told:
        tree = removed(tmp_path, git_manager, "one")
        wait_until(lambda: not tree.parent.exists(), "an empty trash")
        assert git_manager.deletes_later
        told.on_task_start(TASK)
    assert not git_manager.deletes_later


def test_deletion_stops_when_a_task_begins(tmp_path: Path) -> None:
    """At the very next file; it goes on when no other begins."""
    git_manager = GitManager(make_repository(tmp_path / "repo", [("first", {f"{number}": "" for number in range(9)})]))
    told = removing(tmp_path, git_manager, lambda: 1.0)
    waiting = f"{removed(tmp_path, git_manager, 'one')}.deleting"
    gone: list[str] = []
    listening = True

    def begin_a_task(event: str, arguments: tuple[Any, ...]) -> None:
        if listening and event == "os.remove" and str(arguments[0]).isdigit():
            gone.append(str(arguments[0]))
            told.on_task_start(TASK)

    sys.addaudithook(begin_a_task)  # which nobody can take away again
    told._delete(1)
    assert (len(gone), len([name for name in os.listdir(waiting) if name.isdigit()])) == (1, 8)
    listening = False
    told._delete(1)
    assert not os.path.exists(waiting)


def test_what_was_removed_waits_while_cores_are_busy_and_there_is_room(tmp_path: Path) -> None:
    """Where there is none any more it goes at once: a task may need it."""
    git_manager = GitManager(make_repository(tmp_path / "repo", [("first", {"large": b"x" * 700_000})]))
    looks = []

    def busy() -> float:
        looks.append(1)
        return 0.4

    with mounted(tmp_path / "checkouts", "size=4m"), removing(tmp_path, git_manager, busy):
        tree = removed(tmp_path, git_manager, "one")
        seen = len(looks)
        wait_until(lambda: len(looks) > seen + 4, "some looks")
        assert tree.exists()
        (tmp_path / "checkouts/build").write_bytes(b"x" * 2_000_000)
        wait_until(lambda: not tree.exists(), "room")


def test_no_pool_no_thread(tmp_path: Path) -> None:
    """Where no spares are wanted nothing is made, and nothing is waited for."""
    with housekeeper(tmp_path, 0, 5) as told:
        assert told._thread is None
    assert ready(tmp_path) == 0


def test_a_pool_that_cannot_be_filled_costs_speed_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A place that cannot be written to is told once, and the run goes on."""
    (tmp_path / "checkouts").write_text("a file")
    with caplog.at_level(logging.WARNING), housekeeper(tmp_path, 1, 1):
        wait_until(lambda: caplog.records, "a warning")
    assert ["the pool of spares cannot be filled" in record.getMessage() for record in caplog.records] == [True]


def test_none_while_every_core_is_busy(tmp_path: Path) -> None:
    """Then each costs the tasks more than it gives them."""
    asked = []

    def busy() -> float:
        asked.append(1)
        return 0.4

    told = housekeeper(tmp_path, 4, 2)
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
    told = Housekeeper(
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
