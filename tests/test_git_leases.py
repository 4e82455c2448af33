"""Who holds a workspace: one process at a time, and nobody once it is dead."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
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


HERE = leases.this_process()
ANOTHER = "00000000-0000-4000-8000-000000000000"
"""A boot id that no machine has."""


def written(path: Path, content: bytes | leases.Owner) -> Path:
    """Make a lock file that holds this, and that nobody holds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(asdict(content)).encode())
    return path


def test_a_lease_that_is_given_back_leaves_no_name(tmp_path: Path, repo: Path) -> None:
    """The lock file is empty after a release, and holds the name of a holder that was killed until somebody takes it."""
    path = repo / ".git/moderator/leases/t.lock"
    GitManager(repo).create_workspace(context(tmp_path, "t")).release()
    assert path.read_bytes() == b""
    with holder_in(tmp_path, repo) as process:
        named = json.loads(path.read_bytes())
        process.send_signal(signal.SIGKILL)
    assert json.loads(path.read_bytes()) == named == {**asdict(HERE), "pid": process.pid, "started": named["started"]}
    with GitManager(repo).create_workspace(context(tmp_path, "t")):
        assert json.loads(path.read_bytes()) == asdict(leases.this_process())
    assert path.read_bytes() == b""


def test_a_dead_holder_s_lease_lasts_as_long_as_its_duplicate(tmp_path: Path) -> None:
    """Whoever was given the descriptor keeps the lease, and the dead holder's name, until it has ended too."""
    path = tmp_path / "x.lock"
    keeper = "import sys; sys.stdin.read()"
    program = (
        "import os, signal, subprocess, sys; from pathlib import Path; from moderator.git import leases\n"
        "lease = leases.acquire(Path(sys.argv[1]), 'it')\n"
        f"subprocess.Popen([sys.executable, '-c', {keeper!r}], pass_fds=[lease.descriptor])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE) as process:
        assert process.wait() == -signal.SIGKILL
        owner = leases.holder(path)
        assert owner is not None and (owner.pid, leases.is_alive(owner)) == (process.pid, False)
        with pytest.raises(WorkspaceBusy, match=f"^it is held by process {process.pid} on "):
            leases.acquire(path, "it", patience=0)
        assert process.stdin is not None
        process.stdin.close()
        leases.acquire(path, "it", patience=30).release()
    assert (leases.holder(path), path.read_bytes()) == (None, b"")


@pytest.mark.parametrize(
    "content",
    [
        replace(HERE, started=HERE.started + 1),
        replace(HERE, pid=2**22 + 1),
        replace(HERE, boot_id=ANOTHER),
        replace(HERE, host="renamed"),
        b"",
        b"\0" * 200,
        json.dumps(asdict(replace(HERE, host="elsewhere", boot_id=ANOTHER))).encode()[:-9],
        b'{"host": "elsewhere", "boot_id": "x", "pid": "1", "started": []}',
        b'{"host": "elsewhere", "boot_id": "x", "pid": -1, "started": 1}',
        b"[" * 9000,
        b"\xff\xfe",
        b'["elsewhere"]',
    ],
    ids="pid-reused pid-gone rebooted renamed empty zeros torn wrong-kinds no-pid nested no-text list".split(),
)
def test_a_free_lock_of_this_machine_is_taken_over(tmp_path: Path, repo: Path, content: bytes | leases.Owner) -> None:
    """A reused pid, a restart, a new host name, half a name or rubbish: with nobody holding the lock, all mean nobody."""
    GitManager(repo).create_workspace(context(tmp_path, "t")).release()
    path = written(repo / ".git/moderator/leases/t.lock", content)
    manager = GitManager(repo)
    assert (leases.holder(path), manager.holder("t"), manager.status("t").lease) == (None, None, None)
    with manager.create_workspace(context(tmp_path, "t")):
        assert leases.holder(path) == leases.this_process()
    assert path.read_bytes() == b""


def test_what_another_machine_holds_is_not_taken(tmp_path: Path, repo: Path) -> None:
    """On a shared disk whose locks stop at each machine, a name from elsewhere is in the way until a person gives it up."""
    manager = GitManager(repo)
    manager.create_workspace(context(tmp_path, "t")).release()
    elsewhere = replace(HERE, host="desk", boot_id=ANOTHER, pid=77)
    path = written(repo / ".git/moderator/leases/t.lock", elsewhere)
    before = listing(tmp_path)
    assert (manager.holder("t"), manager.status("t").lease, [one.lease for one in manager.statuses()]) == (
        elsewhere, elsewhere, [elsewhere],
    )  # fmt: skip
    assert leases.is_alive(elsewhere)
    for ask in (lambda: manager.create_workspace(context(tmp_path, "t")), lambda: manager.remove_workspace("t")):
        with pytest.raises(WorkspaceBusy) as caught:
            ask()
        assert (caught.value.message, caught.value.hint, caught.value.exit_code) == (
            "the workspace of task 't' is held by process 77 on desk",
            "wait until it has finished; if that machine is gone: moderator unlock t --abandoned",
            75,
        )
    assert listing(tmp_path) == before
    assert (manager.abandon("t"), path.read_bytes(), manager.abandon("t"), manager.holder("t")) == (
        elsewhere, b"", None, None,
    )  # fmt: skip
    manager.create_workspace(context(tmp_path, "t")).release()


def test_a_checkout_that_another_machine_holds_can_be_given_up_too(tmp_path: Path, repo: Path) -> None:
    """Level branch holds two leases; both are refused, and both are freed by the same word."""
    manager, given = GitManager(repo), context(tmp_path, "t", BRANCH, checkout=repo)
    manager.create_workspace(given).release()
    elsewhere = replace(HERE, host="desk", boot_id=ANOTHER)
    locks = sorted((repo / ".git/moderator/leases").iterdir())
    assert len(locks) == 2
    for path in locks:
        written(path, elsewhere)
        with pytest.raises(WorkspaceBusy, match=r"held by process \d+ on desk") as caught:
            manager.create_workspace(given)
        assert caught.value.hint.endswith("moderator unlock t --abandoned")
        assert manager.abandon("t") == elsewhere
        manager.create_workspace(given).release()


def test_a_lock_without_a_task_names_its_file(tmp_path: Path) -> None:
    """Where no task can be named, the way out is the file itself."""
    path = written(tmp_path / "x.lock", replace(HERE, host="desk", boot_id=ANOTHER))
    with pytest.raises(WorkspaceBusy) as caught:
        leases.acquire(path, "it")
    assert caught.value.hint.endswith(f"if that machine is gone: rm {path}")


def test_a_live_holder_cannot_be_given_up(tmp_path: Path, repo: Path) -> None:
    """While a process of this machine holds the workspace, whatever the file says, no word of a person frees it."""
    manager, stranger = GitManager(repo), GitManager(repo)
    with manager.create_workspace(context(tmp_path, "t")):
        written(repo / ".git/moderator/leases/t.lock", replace(HERE, host="desk", boot_id=ANOTHER))
        with pytest.raises(WorkspaceBusy, match="which works at it now"):
            stranger.abandon("t")
        with pytest.raises(WorkspaceBusy):
            stranger.create_workspace(context(tmp_path, "t"))


def test_a_look_never_sees_half_a_name(tmp_path: Path) -> None:
    """While a lock is taken and given back over and over, a look sees its holder or nobody, and never holds it up.

    On a busy machine a holder may be put aside for long just before it writes its name: then it has none, and not half.
    """
    path, over = tmp_path / "x.lock", threading.Event()

    def take_turns() -> None:
        try:
            for _ in range(100):
                lease = leases.acquire(path, "it")
                time.sleep(0.002)  # as good as nothing, but more than it takes to write a name
                lease.release()
        finally:
            over.set()

    with ThreadPoolExecutor(1) as pool:
        turns = pool.submit(take_turns)
        seen = set()
        while not over.is_set():
            seen.add(leases.holder(path))
        turns.result()
    assert HERE in seen
    assert seen <= {None, HERE, leases.Owner("unknown", "", 0, 0)}


def test_whether_an_owner_lives() -> None:
    """The boot id tells this machine under another name from another machine, of which nothing is known."""
    owners = {
        "this process": HERE,
        "renamed": replace(HERE, host="renamed"),
        "pid reused": replace(HERE, started=HERE.started + 1),
        "renamed, pid reused": replace(HERE, host="renamed", started=HERE.started + 1),
        "rebooted": replace(HERE, boot_id=ANOTHER),
        "elsewhere": replace(HERE, host="desk", boot_id=ANOTHER, pid=2**22 + 1),
        "elsewhere, without boot ids": replace(HERE, host="desk", boot_id=""),
    }
    assert [name for name, owner in owners.items() if leases.is_alive(owner)] == [
        "this process", "renamed", "elsewhere", "elsewhere, without boot ids",
    ]  # fmt: skip


def test_a_process_that_ended_is_dead_before_its_parent_notices() -> None:
    """One that was killed and waits for its parent to ask does nothing any more: it counts as gone."""
    with subprocess.Popen([sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # fmt: skip
        assert process.stdout and process.stdout.readline() == b"\n"
        owner = replace(leases.this_process(), pid=process.pid, started=leases._started(process.pid))
        assert leases.is_alive(owner)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not leases.is_alive(owner)
