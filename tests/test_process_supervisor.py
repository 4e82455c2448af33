"""`Supervisor`: what happens to a run's processes and leases when `moderator` itself dies."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from moderator.process import Supervisor

PARENT = """
import fcntl, os, signal, subprocess, sys, threading
from pathlib import Path
from moderator.process import Limits, Supervisor, run
run_id, mark, folder, ending = sys.argv[1:]
env = {"PATH": os.environ["PATH"], "MODERATOR_RUN": run_id}
supervisor = Supervisor(run_id)
if ending == "at once":
    subprocess.Popen(["sleep", mark], env=env)
    os.kill(os.getpid(), signal.SIGKILL)
lease = open(folder + "/lease", "w")
fcntl.flock(lease, fcntl.LOCK_EX)
supervisor.hold("lease", lease.fileno())
lines = [
    f"trap '' TERM; sleep {mark} & wait",
    f"setsid sh -c 'trap \\"\\" TERM; sleep {mark} & exec sleep {mark}'",
    f"env -i setsid sleep {mark}; true",
]
for number, line in enumerate(lines):
    options = {"cwd": folder, "env": env, "log": Path(folder, f"log{number}")}
    threading.Thread(target=run, args=(["sh", "-c", line],), kwargs=options, daemon=True).start()
sys.stdin.read()
if ending == "exit":
    sys.exit()
"""


@pytest.fixture
def mark() -> Iterator[str]:
    """A number of seconds to sleep that only this test's processes have among their arguments."""
    number = f"3{int.from_bytes(os.urandom(4)):010d}"
    yield number
    for process in carriers(number):
        process.kill()


@pytest.fixture
def run_id() -> str:
    return f"test-{os.urandom(8).hex()}"


def carriers(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if any(mark in argument for argument in process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def eventually(holds: Callable[[], object], seconds: float = 15.0) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def supervisor_of(run_id: str) -> psutil.Process:
    assert eventually(lambda: any("watch.main" in " ".join(found.cmdline()) for found in carriers(run_id)))
    (process,) = [found for found in carriers(run_id) if "watch.main" in " ".join(found.cmdline())]
    return process


def is_free(lease: Path) -> bool:
    with lease.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def wait_until_up(supervisor: Supervisor, folder: Path) -> None:
    with (folder / "greeting").open("w") as lease:
        fcntl.flock(lease, fcntl.LOCK_EX)
        supervisor.hold("greeting", lease.fileno())
    supervisor.release("greeting")
    assert eventually(lambda: is_free(folder / "greeting"))


def start_parent(run_id: str, mark: str, folder: Path, ending: str) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-c", PARENT, run_id, mark, str(folder), ending]
    return subprocess.Popen(arguments, stdin=subprocess.PIPE)


@pytest.mark.parametrize("ending", ["kill -9", "exit"])
@pytest.mark.some(1)
def test_if_moderator_dies_its_processes_are_ended_and_then_the_leases_freed(
    run_id: str, mark: str, tmp_path: Path, ending: str
) -> None:
    """Whoever gets the lease finds nobody at work in the workspace, though some of them ignore SIGTERM."""
    with start_parent(run_id, mark, tmp_path, ending) as parent:
        assert eventually(lambda: sum(process.name() == "sleep" for process in carriers(mark)) == 4)
        assert not is_free(tmp_path / "lease")
        if ending == "kill -9":
            parent.kill()
    assert not is_free(tmp_path / "lease")
    assert eventually(lambda: is_free(tmp_path / "lease"))
    assert carriers(mark) == []
    assert eventually(lambda: carriers(run_id) == [])  # the supervisor itself does not stay either


def test_a_death_right_after_the_start_is_noticed(run_id: str, mark: str, tmp_path: Path) -> None:
    """The supervisor was not even up; its maker started a command and was killed."""
    with start_parent(run_id, mark, tmp_path, "at once") as parent:
        assert parent.wait(15) == -signal.SIGKILL
    assert eventually(lambda: carriers(mark) == [] and carriers(run_id) == [])


def test_a_clean_end_kills_nothing(run_id: str, mark: str, tmp_path: Path) -> None:
    """After a goodbye the supervisor is gone, and whoever carries the run's id lives; closing again does nothing."""
    with subprocess.Popen(["sleep", mark], env={**os.environ, "MODERATOR_RUN": run_id}) as sleeper:
        with Supervisor(run_id) as supervisor:
            wait_until_up(supervisor, tmp_path)
        supervisor.close()
        assert (carriers(run_id), sleeper.poll()) == ([], None)
        sleeper.kill()


def test_a_lease_is_held_until_it_is_released(run_id: str, tmp_path: Path) -> None:
    """The supervisor's duplicate keeps the lock although ours is closed; holds may come before it is up."""
    with Supervisor(run_id) as supervisor:
        for name in ("one", "two", "three"):
            with (tmp_path / name).open("w") as lease:
                fcntl.flock(lease, fcntl.LOCK_EX)
                supervisor.hold(f"lease {name}\n", lease.fileno())
        supervisor_of(run_id)
        supervisor.release("no such lease")
        supervisor.release("lease two\n")
        assert eventually(lambda: is_free(tmp_path / "two"))
        assert [is_free(tmp_path / name) for name in ("one", "three")] == [False, False]
    assert [is_free(tmp_path / name) for name in ("one", "three")] == [True, True]


def test_the_supervisor_keeps_to_itself(run_id: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No sign of a run in its environment, no directory, terminal or descriptor of ours, deaf to polite signals."""
    monkeypatch.setenv("MODERATOR_RUN", run_id)
    leaky = os.open("/", os.O_RDONLY)
    os.set_inheritable(leaky, True)
    with Supervisor(run_id) as supervisor:
        wait_until_up(supervisor, tmp_path)
        process = supervisor_of(run_id)
        assert not [name for name in process.environ() if name.startswith("MODERATOR_")]
        assert (process.cwd(), os.getsid(process.pid)) == ("/", process.pid)
        assert {os.readlink(f"/proc/{process.pid}/fd/{number}") for number in range(3)} == {os.devnull}
        assert process.num_fds() == 4
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            process.send_signal(number)
        time.sleep(0.05)
        assert process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    os.close(leaky)


def test_a_lost_supervisor_is_a_warning(run_id: str, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """The run goes on without it, and says so once."""
    with caplog.at_level(logging.WARNING), Supervisor(run_id) as supervisor, (tmp_path / "lease").open("w") as lease:
        supervisor_of(run_id).kill()
        assert eventually(lambda: all(found.status() == "zombie" for found in carriers(run_id)))
        for _ in range(3):
            supervisor.hold("lease", lease.fileno())
            supervisor.release("lease")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert caplog.messages[0].startswith(f"the supervisor of run {run_id!r} is lost")
    assert caplog.messages[0].endswith("if moderator is killed now, its commands will go on running")
