"""`Tree` with each way of looking at processes; those that run elsewhere are tried here too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from moderator.process.table import ProcessTable
from moderator.process.table_psutil import PsutilTable
from moderator.process.tree import Tree, table_from_now

TABLES = [table_from_now, PsutilTable.from_now]


def start(*command: str, **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, env={**os.environ, **environment}, start_new_session=True)


@pytest.fixture(params=TABLES)
def table(request: pytest.FixtureRequest) -> ProcessTable:
    made: ProcessTable = request.param()
    return made


def test_members_are_found_by_session_mark_and_descent(table: ProcessTable) -> None:
    """And nobody else, though it began at the same time and was made by the same process."""
    mark = os.urandom(16).hex()
    leader = start("sh", "-c", "sleep 300 & wait")
    marked = start("sh", "-c", "env -i sleep 300; true", MARK=mark)
    stranger = start("sleep", "300", MARK="another")
    tree = Tree(table, mark.encode(), leader.pid)
    try:
        deadline = time.monotonic() + 10
        while len(tree.living()) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        members = tree.living()
        assert {leader.pid, marked.pid} < {process.pid for process in members} and len(members) == 4
        sweep = tree.end(5, time.sleep, lambda: False)
        assert (sweep.ended, sweep.survivors, tree.living()) == (4, [], [])
        assert (leader.wait(), marked.wait(), stranger.poll()) == (-signal.SIGTERM, -signal.SIGTERM, None)
    finally:
        for process in (leader, marked, stranger):
            process.kill()
            process.wait()


def test_processes_older_than_the_table_are_never_members() -> None:
    """Even one that carries the mark: it cannot be of a command that was started later."""
    mark = os.urandom(16).hex()
    old = start("sleep", "300", MARK=mark)
    time.sleep(0.05)
    tree = Tree(table_from_now(), mark.encode())
    assert (tree.living(), tree.kill(), old.poll()) == ([], [], None)
    old.kill()
    old.wait()


def test_a_successor_of_the_same_number_is_not_signalled(table: ProcessTable) -> None:
    """A process id means a process only together with the time of its start."""
    process = start("sleep", "300")
    (member,) = Tree(table, b"no mark", process.pid).living()
    earlier = member._replace(started=member.started - 1)
    assert (table.is_still(member), table.is_still(earlier)) == (True, False)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not table.is_still(member)


@pytest.mark.skipif(sys.platform != "linux", reason="threads outlive the main one so on Linux")
def test_a_process_whose_main_thread_has_ended_is_alive(table: ProcessTable) -> None:
    """It is shown as a zombie although its other threads go on working."""
    if isinstance(table, PsutilTable):
        pytest.skip("psutil cannot tell")
    script = (
        "import ctypes, threading, time\n"
        "threading.Thread(target=time.sleep, args=(300,)).start()\n"
        "print(flush=True)\n"
        "ctypes.CDLL(None).pthread_exit(None)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None and process.stdout.readline() == b"\n"
    time.sleep(0.1)
    tree = Tree(table, b"no mark", process.pid)
    assert [member.pid for member in tree.living()] == [process.pid]
    assert (tree.kill(), process.wait()) == ([], -signal.SIGKILL)
    process.stdout.close()


def test_what_kill_leaves_nobody_can_see(table: ProcessTable) -> None:
    """A hundred processes in one group that ignore SIGTERM, at once."""
    script = "trap '' TERM; for i in $(seq 100); do sleep 300 & done; wait"
    leader = start("sh", "-c", script)
    tree = Tree(table, b"no mark", leader.pid)
    deadline = time.monotonic() + 10
    while len(tree.living()) < 101 and time.monotonic() < deadline:
        time.sleep(0.01)
    sweep = tree.end(0.05, time.sleep, lambda: False)
    assert (sweep.ended, sweep.survivors, leader.wait()) == (101, [], -signal.SIGKILL)
