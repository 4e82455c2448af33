"""`run`: real commands, real processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from moderator.process import Cancellation, Ended, Ending, Limits, run

ENV = {"PATH": os.environ["PATH"]}
Run = Callable[..., Ended]

DAEMON = """
import os, sys
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
null = os.open("/dev/null", os.O_RDWR)
keep = [int(number) for number in sys.argv[3:]]
for number in (0, 1, 2):
    if number not in keep: os.dup2(null, number)
os.execve("/bin/sleep", ["sleep", sys.argv[1]], {} if sys.argv[2] == "bare" else os.environ)
"""
"""Becomes a daemon as the book says, then sleeps; `bare` without an environment; the rest: descriptors to keep."""


def daemon(mark: str, environment: str = "kept", *keep: str) -> list[str]:
    return [sys.executable, "-S", "-c", DAEMON, mark, environment, *keep]


@pytest.fixture
def go(tmp_path: Path) -> Run:
    """`run`, in a directory of the test's own and with a log there."""

    def go(*command: str, **options: object) -> Ended:
        given = {"cwd": tmp_path, "env": ENV, "log": tmp_path / "logs" / "output.log", **options}
        return run(list(command), **given)  # type: ignore[arg-type]

    return go


@pytest.fixture
def mark() -> Iterator[str]:
    """A number of seconds to sleep that only this test's processes have among their arguments."""
    number = f"3{int.from_bytes(os.urandom(4)):010d}"
    yield number
    for process in carriers(number):
        process.kill()


def carriers(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if any(mark in argument for argument in process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def eventually(holds: Callable[[], object], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def timeless(ended: Ended) -> Ended:
    return replace(ended, duration_seconds=0.0)


# How a command ends by itself


def test_a_command_that_ends_is_told_with_its_code_and_output(go: Run) -> None:
    """An exit code is a fact, not a failure; output and errors are told apart."""
    ended = go("sh", "-c", "echo out; echo err >&2; exit 3")
    assert timeless(ended) == Ended(Ending.EXITED, 3, "out\n", "err\n", 0.0)


@pytest.mark.parametrize(("line", "code"), [("exec nowhere-to-be-found", 127), ("exec /", 126)])
def test_what_a_shell_could_not_start_is_an_exit_code(go: Run, line: str, code: int) -> None:
    """127 and 126 are the shell's words: the shell itself was started."""
    ended = go("sh", "-c", line)
    assert (ended.ending, ended.exit_code) == (Ending.EXITED, code)


def test_a_signal_that_is_not_ours_is_a_negative_exit_code(go: Run) -> None:
    """A command that somebody else killed exited, in the way it did."""
    ended = go("sh", "-c", "kill -USR1 $$")
    assert timeless(ended) == Ended(Ending.EXITED, -signal.SIGUSR1, "", "", 0.0)


def test_a_command_may_close_its_output_and_go_on(go: Run, tmp_path: Path) -> None:
    """End of file on both pipes is not the end of the command."""
    ended = go("sh", "-c", "exec >&- 2>&-; sleep 0.1; echo on > went; exit 5")
    assert (timeless(ended), (tmp_path / "went").read_text()) == (Ended(Ending.EXITED, 5, "", "", 0.0), "on\n")


# What a command is given


def test_the_environment_is_the_given_one_and_a_token(go: Run) -> None:
    """Nothing of ours leaks in, and no two commands have the same token."""
    tokens = set()
    for _ in range(2):
        lines = go("env", env={"PATH": ENV["PATH"], "ONE": "1"}).stdout.splitlines()
        environment = dict(line.split("=", 1) for line in lines)
        tokens.add(environment.pop("MODERATOR_TOKEN"))
        assert environment == {"PATH": ENV["PATH"], "ONE": "1"}
    assert len(tokens) == 2


def test_a_token_of_an_outer_command_is_kept(go: Run) -> None:
    """A moderator inside a task: the outer one still finds what the inner one started."""
    token = go("sh", "-c", "echo $MODERATOR_TOKEN", env={**ENV, "MODERATOR_TOKEN": "0ute5"}).stdout.strip()
    assert token.startswith("0ute5-") and len(token) == len("0ute5-") + 32


def test_the_command_has_a_session_of_its_own_and_three_descriptors(go: Run, tmp_path: Path) -> None:
    """No terminal's Ctrl-C reaches it, and it holds nothing of ours open; standard input is empty."""
    leaky = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(leaky, True)
    script = (
        "import os, sys; p = os.getpid(); print(os.getsid(0) == p == os.getpgid(0), os.getcwd(), sys.stdin.read())\n"
        "for number in range(64):\n try: os.fstat(number); print(number)\n except OSError: pass"
    )
    ended = go(sys.executable, "-S", "-c", script)
    os.close(leaky)
    assert ended.stdout.split() == ["True", os.path.realpath(tmp_path), "0", "1", "2"]


def test_large_input_and_output_pass_each_other(go: Run) -> None:
    """Two megabytes through `cat`: more than any pipe holds, in both directions at once."""
    given = os.urandom(1 << 20).hex().encode()
    ended = go("cat", stdin=given)
    assert (ended.exit_code, ended.stdout) == (0, given[-64 * 1024 :].decode())


def test_input_that_nobody_reads_is_no_failure(go: Run) -> None:
    """The command decides what it reads."""
    assert timeless(go("true", stdin=b"x" * (1 << 20))) == Ended(Ending.EXITED, 0, "", "", 0.0)


# Output


def test_the_log_has_both_streams_in_order_and_is_appended_to(go: Run, tmp_path: Path) -> None:
    """One file tells the whole story of every attempt; its directories are made."""
    line = "echo one; sleep 0.05; echo two >&2; sleep 0.05; echo three"
    ended = [go("sh", "-c", line), go("echo", "four")]
    assert [(each.stdout, each.stderr) for each in ended] == [("one\nthree\n", "two\n"), ("four\n", "")]
    assert (tmp_path / "logs" / "output.log").read_text() == "one\ntwo\nthree\nfour\n"


def test_the_tail_is_the_end_of_the_output(go: Run, tmp_path: Path) -> None:
    """Memory keeps the last 64 KiB of each stream, the log keeps all."""
    ended = go("sh", "-c", "seq 100000; seq 100000 200000 >&2")
    log = (tmp_path / "logs" / "output.log").read_bytes()
    whole = "".join(f"{number}\n" for number in range(1, 100001))
    assert ended.stdout == whole[-64 * 1024 :]
    assert ended.stderr.endswith("\n199999\n200000\n") and len(ended.stderr) == 64 * 1024
    assert len(log) == len(whole) + sum(len(f"{number}\n") for number in range(100000, 200001))


def test_output_that_is_not_utf8_is_replaced(go: Run) -> None:
    """A binary command does not break the result, and a tail does not begin with half a character."""
    assert go("printf", r"a\377b").stdout == "a\ufffdb"
    ended = go("sh", "-c", "yes 日本 | head -n 20000")
    assert "\ufffd" not in ended.stdout and ended.stdout.endswith("日本\n")


def test_much_output_does_not_grow_memory(tmp_path: Path) -> None:
    """200 MB pass through a process whose memory stays where it was."""
    script = f"""
import resource
from pathlib import Path
from moderator.process import run
def command(megabytes):
    line = ["head", "-c", str(megabytes * 1000000), "/dev/zero"]
    ended = run(line, cwd="/", env={ENV!r}, log=Path({os.devnull!r}))
    assert (ended.exit_code, len(ended.stdout), ended.message) == (0, 65536, "")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(command(2), command(200))
"""
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    before, after = map(int, printed.split())
    assert after - before < 4 * 1024 * (1024 if sys.platform == "darwin" else 1)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_told_and_stops_nothing(go: Run) -> None:
    """The command's output is read on although it can be written nowhere."""
    ended = go("sh", "-c", "seq 100000; exit 4", log=Path("/dev/full"))
    assert (ended.ending, ended.exit_code, ended.stdout[-7:]) == (Ending.EXITED, 4, "100000\n")
    assert ended.message == "the log '/dev/full' is incomplete: No space left on device"


def test_a_log_that_cannot_be_opened_is_told_and_stops_nothing(go: Run, tmp_path: Path) -> None:
    """Here a file is where the log's directory should be."""
    (tmp_path / "file").touch()
    ended = go("echo", "hello", log=tmp_path / "file" / "output.log")
    assert (ended.exit_code, ended.stdout) == (0, "hello\n")
    assert ended.message.startswith(f"the log '{tmp_path}/file/output.log' is incomplete: ")


# What cannot be started


def test_what_cannot_be_started_is_told(go: Run, tmp_path: Path) -> None:
    """Every reason has its own sentence, and none is an exception."""
    (tmp_path / "plain").write_text("#!/bin/sh\n")
    (tmp_path / "odd").write_text("#!/no/such/interpreter\n")
    (tmp_path / "odd").chmod(0o755)
    (tmp_path / "garbage").write_bytes(b"\1\2\3")
    (tmp_path / "garbage").chmod(0o755)
    attempts = {
        "'frobnicate' does not exist: install it, or put its directory on PATH": go("frobnicate"),
        "'./frobnicate' does not exist": go("./frobnicate"),
        "'./plain' may not be executed: is it a program, and has it the permission (chmod +x)?": go("./plain"),
        "'./odd' could not be started: the interpreter it asks for does not exist": go("./odd"),
        "'./garbage' could not be started: Exec format error": go("./garbage"),
        "the working directory '/no/such' does not exist": go("true", cwd="/no/such"),
        f"the working directory '{tmp_path}/plain' is not a directory": go("true", cwd=str(tmp_path / "plain")),
        "the command is empty: give at least the name of a program": go(),
        "'true' could not be started: embedded null byte": go("true", "a\0b"),
    }
    assert attempts == {message: Ended(Ending.COULD_NOT_START, None, "", "", 0.0, message) for message in attempts}


def test_a_shell_line_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    """A text would be taken for a list of letters."""
    with pytest.raises(TypeError, match="list of arguments"):
        run("ls", cwd=tmp_path, env=ENV, log=tmp_path / "log")


# Limits


def test_the_wall_limit_ends_the_command(go: Run) -> None:
    """The message says after how long, and which limit."""
    ended = go("sh", "-c", "echo started; sleep 300", limits=Limits(timeout=0.5))
    message = re.sub(r"after \d+\.\d s", "after a while", ended.message)
    assert replace(timeless(ended), message=message) == Ended(
        Ending.TIMED_OUT, -signal.SIGTERM, "started\n", "", 0.0, "ended after a while: limit of 0.5 s passed"
    )


def test_the_idle_limit_ends_a_silent_command(go: Run) -> None:
    """Output on either pipe starts the time anew."""
    line = "for i in 1 2; do sleep 0.3; echo $i; sleep 0.3; echo $i >&2; done; sleep 300"
    ended = go("sh", "-c", line, limits=Limits(idle_timeout=0.9))
    assert (ended.ending, ended.stdout, ended.stderr) == (Ending.IDLE, "1\n2\n", "1\n2\n")
    assert ended.message.endswith(" s: no output for 0.9 s")


def test_a_script_does_not_go_on_when_its_command_is_ended(go: Run, tmp_path: Path) -> None:
    """The shell is told before the command it waits for, and so never gets to the next line."""
    ended = go("sh", "-c", "sleep 300; touch went-on", limits=Limits(timeout=0.3))
    assert (ended.exit_code, (tmp_path / "went-on").exists()) == (-signal.SIGTERM, False)


def test_a_command_may_end_in_its_own_way_when_asked(go: Run) -> None:
    """Within the grace time it may start helpers, write and choose its exit code; all of it is kept."""
    line = "trap 'sleep 0.2; seq 50000; exit 7' TERM; echo ready; while :; do sleep 0.01; done"
    ended = go("sh", "-c", line, limits=Limits(idle_timeout=0.3))
    assert (ended.ending, ended.exit_code, ended.stdout[-6:]) == (Ending.IDLE, 7, "50000\n")


def test_who_ignores_sigterm_gets_sigkill(go: Run, mark: str) -> None:
    """The grace time is a limit too, for the command and for its children."""
    line = f"trap '' TERM; sleep {mark} & echo ready; while :; do sleep 0.05; done"
    ended = go("sh", "-c", line, limits=Limits(timeout=0.3, grace=0.2))
    assert (ended.ending, ended.exit_code, ended.stdout) == (Ending.TIMED_OUT, -signal.SIGKILL, "ready\n")
    assert carriers(mark) == []


def test_a_stopped_command_is_ended(go: Run) -> None:
    """What stands still cannot hear SIGTERM until it is continued."""
    ended = go("sh", "-c", "trap 'exit 9' TERM; kill -STOP $$; sleep 300", limits=Limits(timeout=0.3))
    assert (ended.ending, ended.exit_code) == (Ending.TIMED_OUT, 9)


def test_a_daemon_is_ended_with_the_command_that_made_it(go: Run, mark: str) -> None:
    """A new session, twice forked, an orphan, all descriptors closed: the token still tells."""
    line = '"$@"; while :; do sleep 0.05; done'
    ended = go("sh", "-c", line, "sh", *daemon(mark), limits=Limits(timeout=0.7))
    assert (ended.ending, ended.leftovers, carriers(mark)) == (Ending.TIMED_OUT, 0, [])


def test_a_child_without_environment_is_ended_with_the_command(go: Run, mark: str) -> None:
    """Descent tells where the token was taken away."""
    ended = go("sh", "-c", f"env -i setsid sleep {mark}; true", limits=Limits(timeout=0.3))
    assert (ended.ending, carriers(mark)) == (Ending.TIMED_OUT, [])


# Leftovers


def test_a_daemon_left_behind_is_ended(go: Run, mark: str) -> None:
    """The command succeeded; its daemon may not stay, and is counted."""
    ended = go(*daemon(mark))
    assert timeless(ended) == Ended(Ending.EXITED, 0, "", "", 0.0, leftovers=1)
    assert carriers(mark) == []


def test_a_background_job_left_behind_is_ended(go: Run, mark: str) -> None:
    """It is in the command's group, ignores SIGTERM, and holds the output open."""
    ended = go("sh", "-c", f"trap '' TERM; sleep {mark} & exit 3", limits=Limits(grace=0.1))
    assert timeless(ended) == Ended(Ending.EXITED, 3, "", "", 0.0, leftovers=1)
    assert carriers(mark) == []


def test_who_is_about_to_end_is_let_finish(go: Run) -> None:
    """The last words of a pipe's end are not cut off, and are no leftover."""
    ended = go("sh", "-c", "(sleep 0.05; echo last words) & exit 0")
    assert timeless(ended) == Ended(Ending.EXITED, 0, "last words\n", "", 0.0)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_daemon_without_environment_is_found_by_its_output(go: Run, mark: str) -> None:
    """Whoever prints into our pipe is ours."""
    ended = go("sh", "-c", '"$@"; sleep 0.4', "sh", *daemon(mark, "bare", "2"))
    assert timeless(ended) == Ended(Ending.EXITED, 0, "", "", 0.0, leftovers=1)
    assert carriers(mark) == []


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_pipe_held_out_of_reach_does_not_hang(go: Run, mark: str) -> None:
    """No environment, no parent, no session of ours, and the pipe under another number: we say so and go on."""
    ended = go("sh", "-c", 'exec 7>&1; "$@"; sleep 0.4', "sh", *daemon(mark, "bare"))
    assert timeless(ended) == Ended(
        Ending.EXITED, 0, "", "", 0.0, "a process that cannot be reached still holds its output open"
    )
    assert len(carriers(mark)) == 1


HOPPER = """
import os, sys, time
end = time.monotonic() + 20
while time.monotonic() < end:
    if os.fork(): os._exit(0)
    os.setsid()
"""


@pytest.mark.parametrize("ending", [Ending.EXITED, Ending.TIMED_OUT])
def test_a_process_that_keeps_forking_itself_is_caught(go: Run, mark: str, ending: Ending) -> None:
    """It never lives long enough to be signalled, and each time begins a new session; bounded to 20 s."""
    line = '"$@" & ' + ("sleep 0.2" if ending is Ending.EXITED else "sleep 300")
    hopper = [sys.executable, "-S", "-c", HOPPER, mark]
    ended = go("sh", "-c", line, "sh", *hopper, limits=Limits(timeout=0.5, grace=0.2))
    assert (ended.ending, ended.message.partition(" ")[0]) == (
        ending,
        "" if ending is Ending.EXITED else "ended",
    )
    assert carriers(mark) == []


def test_a_growing_tree_is_ended(go: Run, mark: str) -> None:
    """Each process starts two more, up to 127; all ignore SIGTERM."""
    script = "import os, signal, sys, time\nsignal.signal(15, 1)\nfor _ in range(6): os.fork()\ntime.sleep(30)"
    ended = go(sys.executable, "-S", "-c", script, mark, limits=Limits(timeout=0.4, grace=0.1))
    assert (ended.ending, carriers(mark)) == (Ending.TIMED_OUT, [])


# Cancellation


def test_cancelling_ends_every_running_command(go: Run, mark: str) -> None:
    """One switch for all commands of a run, thrown by another thread."""
    cancellation = Cancellation()
    with ThreadPoolExecutor(4) as threads:
        running = [threads.submit(go, "sleep", mark, cancellation=cancellation, log=Path(os.devnull)) for _ in range(4)]
        assert eventually(lambda: len(carriers(mark)) == 4)
        cancellation.cancel()
        ended = [each.result(10) for each in running]
    assert {(each.ending, each.exit_code) for each in ended} == {(Ending.CANCELLED, -signal.SIGTERM)}
    assert ended[0].message.startswith("cancelled after ")
    assert carriers(mark) == []


def test_killing_does_not_wait_for_the_grace_time(go: Run, mark: str) -> None:
    """The second Ctrl-C: a command that ignores the first has an hour of grace and does not get it."""
    cancellation = Cancellation()
    line = f"trap '' TERM; sleep {mark} & while :; do sleep 0.05; done"
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(go, "sh", "-c", line, cancellation=cancellation, limits=Limits(grace=3600))
        assert eventually(lambda: len(carriers(mark)) >= 2)
        cancellation.cancel()
        time.sleep(0.2)
        assert not running.done()
        cancellation.kill()
        ended = running.result(10)
    assert (ended.ending, ended.exit_code, carriers(mark)) == (Ending.CANCELLED, -signal.SIGKILL, [])


def test_nothing_is_started_once_cancelled(go: Run, tmp_path: Path) -> None:
    """Commands still to come are told as cancelled."""
    cancellation = Cancellation()
    assert (cancellation.cancelled, cancellation.killed) == (False, False)
    cancellation.kill()
    assert (cancellation.cancelled, cancellation.killed) == (True, True)
    ended = go("touch", "started", cancellation=cancellation)
    assert ended == Ended(Ending.CANCELLED, None, "", "", 0.0, "cancelled before it was started")
    assert not (tmp_path / "started").exists()


def test_an_interrupt_kills_the_command_and_is_passed_on(tmp_path: Path, mark: str) -> None:
    """Ctrl-C in a program that has no handler of its own: KeyboardInterrupt, and nobody stays."""
    script = f"""
from pathlib import Path
from moderator.process import run
try:
    run(["sh", "-c", "setsid sleep {mark}; true"], cwd="/", env={ENV!r}, log=Path({str(tmp_path / "log")!r}))
except KeyboardInterrupt:
    print("interrupted")
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as program:
        assert eventually(lambda: any(process.name() == "sleep" for process in carriers(mark)))
        program.send_signal(signal.SIGINT)
        assert program.communicate(timeout=10)[0] == "interrupted\n"
    assert carriers(mark) == []


# Many at once


@pytest.mark.slow
def test_many_threads_run_commands_at_once(tmp_path: Path, mark: str) -> None:
    """32 threads, 96 commands, each with its own daemon, output and log; no descriptor is lost, nothing mixed up."""

    def one(number: int) -> tuple[int | None, str, int, str]:
        line = f"echo {number}; setsid sleep {mark} > /dev/null 2>&1 & echo {number}; exit {number}"
        log = tmp_path / str(number)
        ended = run(["sh", "-c", line], cwd=tmp_path, env=ENV, log=log)
        return ended.exit_code, "".join(sorted(ended.stdout)), ended.leftovers, "".join(sorted(log.read_text()))

    one(200)
    before = (psutil.Process().num_fds(), threading.active_count())
    with ThreadPoolExecutor(32) as threads:
        results = list(threads.map(one, range(96)))
    expected = ["".join(sorted(f"{number}\n{number}\n")) for number in range(96)]
    assert results == [(number, expected[number], 1, expected[number]) for number in range(96)]
    assert (psutil.Process().num_fds(), threading.active_count()) == before
    assert carriers(mark) == []
