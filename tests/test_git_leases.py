"""Who holds a workspace: one process at a time, and nobody once it is dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from moderator.errors import WorkspaceBusy
from moderator.git import leases
from moderator.git.manager import GitManager
from repos import git, make_repository
from workspaces import BRANCH, NONE, context, listing

HOLDER = """
import sys
from moderator.git.manager import GitManager
from moderator.context import ExecutionContext, IsolationLevel
folder, repository = sys.argv[1:]
base = ExecutionContext("project", folder + "/checkouts", "main", folder + "/state")
workspace = GitManager(repository).create_workspace(
    ExecutionContext.create_isolated_context(base, "t", IsolationLevel.FULL)
)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "repo")


def holder_in(folder: Path, repo: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), str(repo)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdout.readline() == b"held\n"
    return process


def test_a_second_process_is_told_who_holds_it(tmp_path: Path, repo: Path) -> None:
    """While another process holds a workspace, it can be looked at but neither taken nor removed; killed, it is free."""
    with holder_in(tmp_path, repo) as process:
        manager = GitManager(repo)
        before = listing(tmp_path / "checkouts", repo)
        for ask in (lambda: manager.create_workspace(context(tmp_path, "t")), lambda: manager.remove_workspace("t")):
            with pytest.raises(WorkspaceBusy, match=f"is held by process {process.pid} on ") as caught:
                ask()
            assert caught.value.exit_code == 75
        owner = manager.holder("t")
        assert (owner, manager.status("t").lease) == (owner, owner)
        assert owner is not None and (owner.pid, owner.host, leases.is_alive(owner)) == (
            process.pid,
            os.uname().nodename,
            True,
        )
        assert listing(tmp_path / "checkouts", repo) == before
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (manager.holder("t"), leases.is_alive(owner)) == (None, False)
        with manager.create_workspace(context(tmp_path, "t")):
            held = manager.holder("t")
            assert held is not None and held.pid == os.getpid()
        assert manager.holder("t") is None


def test_a_lease_lasts_from_with_to_release(tmp_path: Path, repo: Path) -> None:
    """Each giver-out holds: only when the last of them has released is the workspace free, and releasing twice counts once."""
    manager, stranger = GitManager(repo), GitManager(repo)
    first = manager.create_workspace(context(tmp_path, "t"))
    with manager.create_workspace(context(tmp_path, "t")) as second:
        assert second == first
        first.release()
        first.release()
        with pytest.raises(WorkspaceBusy):
            stranger.create_workspace(context(tmp_path, "t"))
    with stranger.create_workspace(context(tmp_path, "t")) as third:
        assert third == first


def test_threads_that_ask_at_once_get_the_same_workspace(tmp_path: Path, repo: Path) -> None:
    """Many threads asking one manager for one task are given one workspace, made once."""
    manager, together = GitManager(repo), threading.Barrier(8)

    def ask(_: int) -> object:
        together.wait()
        return manager.create_workspace(context(tmp_path, "t"))

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(ask, range(8)))
    assert made == [made[0]] * 8
    assert len(os.listdir(repo / ".git/worktrees")) == 1


def test_a_removed_workspace_leaves_no_lease_behind(tmp_path: Path, repo: Path) -> None:
    """After a removal by its holder, the next workspace of that task is leased anew: two processes never both have it."""
    manager, stranger = GitManager(repo), GitManager(repo)
    old = manager.create_workspace(context(tmp_path, "t"))
    manager.remove_workspace(old)
    assert list((repo / ".git/moderator/leases").iterdir()) == []
    git(repo, "branch", "-D", "main-task-t")
    new = manager.create_workspace(context(tmp_path, "t"))
    with pytest.raises(WorkspaceBusy):
        stranger.create_workspace(context(tmp_path, "t"))
    old.release()
    with pytest.raises(WorkspaceBusy):
        stranger.create_workspace(context(tmp_path, "t"))
    new.release()
    stranger.create_workspace(context(tmp_path, "t")).release()


def test_a_failed_attempt_leaves_no_lease_behind(tmp_path: Path, repo: Path) -> None:
    """When a workspace cannot be made, its lock is free at once and its file is gone."""
    git(repo, "branch", "main-task-t")
    manager = GitManager(repo)
    with pytest.raises(Exception, match="exists already"):
        manager.create_workspace(context(tmp_path, "t"))
    assert list((repo / ".git/moderator/leases").iterdir()) == []
    git(repo, "branch", "-D", "main-task-t")
    GitManager(repo).create_workspace(context(tmp_path, "t")).release()


@pytest.mark.parametrize("level", [BRANCH, NONE])
def test_the_base_checkout_is_for_one_task_at_a_time(tmp_path: Path, repo: Path, level: object) -> None:
    """Levels that run in the checkout hold it; a second task is refused and gets no branch."""
    manager = GitManager(repo)
    with manager.create_workspace(context(tmp_path, "a", level, checkout=repo)):
        for other in (manager, GitManager(repo)):
            with pytest.raises(WorkspaceBusy, match="the checkout"):
                other.create_workspace(context(tmp_path, "b", BRANCH, checkout=repo))
        assert (
            git(repo, "branch", "--list", "*-b"),
            [w.task_id for w in manager.workspaces() if w.task_id == "b"],
        ) == ("", [])
    manager.create_workspace(context(tmp_path, "b", BRANCH, checkout=repo)).release()


def test_a_task_may_ask_for_its_checkout_again(tmp_path: Path, repo: Path) -> None:
    """Level branch: asked again in the middle of its work, a task is given the same workspace."""
    manager, given = GitManager(repo), context(tmp_path, "t", BRANCH, checkout=repo)
    with manager.create_workspace(given) as first:
        (repo / "work").write_text("work")
        with manager.create_workspace(given) as second:
            assert second == first
        with pytest.raises(WorkspaceBusy):
            GitManager(repo).create_workspace(given)
        (repo / "work").unlink()
    GitManager(repo).create_workspace(given).release()


def test_those_who_only_look_are_in_nobodys_way(tmp_path: Path) -> None:
    """Looking who holds a lock neither takes it nor makes its file."""
    path = tmp_path / "locks/x.lock"
    assert (leases.holder(path), path.exists()) == (None, False)
    lease = leases.acquire(path, "it")
    assert leases.holder(path) == leases.this_process()
    lease.release()
    looking = os.open(path, os.O_RDONLY)
    leases._locked(looking, leases.fcntl.LOCK_SH)
    assert leases.holder(path) is None
    os.close(looking)
    lease = leases.acquire(path, "it")
    lease.forget()
    lease.release()
    assert (path.exists(), leases.holder(path)) == (False, None)
