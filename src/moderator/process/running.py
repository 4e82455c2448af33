"""run(): one command in one directory, from start to the last of its processes.

Must not know what the command is for.  Keeps no state between calls, installs no signal handler and changes no
directory, so that any number of threads may call it at once.
"""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path

from moderator.errors import EnvironmentProblem
from moderator.process.cancellation import Cancellation
from moderator.process.child import pipe_names
from moderator.process.ended import Ended, Ending, Limits
from moderator.process.output import Log
from moderator.process.pump import Pump
from moderator.process.tree import Sweep, Tree, table_from_now

_TAIL_SIZE = 64 * 1024  # bytes of each stream that are kept in memory
_TOKEN = "MODERATOR_TOKEN"  # noqa: S105 - the variable by which the processes of one command are found
_NO_LIMITS = Limits()
_PATIENCE = 5.0  # seconds for the kernel to do away with what was killed
_SETTLING = 0.2  # seconds for processes that are about to end by themselves, such as the `tee` of a finished shell


def run(
    command: Sequence[str],
    *,
    cwd: str | os.PathLike[str],
    env: Mapping[str, str],
    log: Path,
    limits: Limits = _NO_LIMITS,
    cancellation: Cancellation | None = None,
    stdin: bytes = b"",
    listen: Callable[[memoryview], None] | None = None,
) -> Ended:
    """Run the command and return how it ended; when this returns, none of its processes is left.

    `command` is an argv, no shell is involved.  `env` is the whole environment, to which only a random
    MODERATOR_TOKEN is added.  The command gets a session of its own, `stdin` as its standard input, and no other
    descriptor.  What it prints is appended to the file `log`, whose directories are made; output and errors are in the
    order in which they arrived.  `listen` is called with each part of standard output; it must not keep the memory.

    A command that cannot be started, a limit that passed, a log that cannot be written are told in the result, not
    raised.  Raises EnvironmentProblem on systems without POSIX processes, and whatever interrupts the calling thread
    (KeyboardInterrupt), after killing the command.
    """
    if os.name != "posix":
        raise EnvironmentProblem("commands can be run on Linux and macOS only", hint="on Windows, use WSL")
    if isinstance(command, str | bytes):
        raise TypeError("the command must be a list of arguments; for a shell line write ['sh', '-c', line]")
    if cancellation is not None and cancellation.cancelled:
        return Ended(Ending.CANCELLED, None, "", "", 0.0, "cancelled before it was started")
    if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:
        # The kernel would throw exit codes away, and a failed command would look like one that succeeded.
        return _not_started("SIGCHLD is ignored, so nobody could tell how a command ends: start moderator without that")
    started = time.monotonic()
    token = os.urandom(16).hex()
    table = table_from_now()
    environment = {name: _encoded(value) for name, value in env.items()}
    # A moderator inside a task of another one: the outer must find our processes by its own token too.
    environment[_TOKEN] = _encoded(f"{env[_TOKEN]}-{token}" if _TOKEN in env else token)
    try:
        child = subprocess.Popen(
            [_encoded(word) for word in command],
            cwd=cwd,
            env=environment,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
    except (OSError, ValueError, IndexError, subprocess.SubprocessError) as error:
        return _not_started(why_not_started(error, command, os.fspath(cwd), env))
    tree = Tree(table, token.encode(), child.pid, pipe_names(child))
    try:
        with closing(Log(log)) as log_file:
            return _see_through(child, tree, log_file, limits, cancellation, stdin, started, listen)
    except BaseException:
        tree.kill()
        with suppress(subprocess.TimeoutExpired):
            child.wait(_PATIENCE)
        raise


def _encoded(word: str) -> bytes:
    """Return a text as the system takes it: what the locale has no bytes for came from a task list, which is UTF-8."""
    try:
        return os.fsencode(word)
    except UnicodeEncodeError:
        return word.encode("utf-8", "surrogateescape")


def _see_through(
    child: subprocess.Popen[bytes],
    tree: Tree,
    log: Log,
    limits: Limits,
    cancellation: Cancellation | None,
    stdin: bytes,
    started: float,
    listen: Callable[[memoryview], None] | None,
) -> Ended:
    def hurry() -> bool:
        return cancellation is not None and cancellation.killed

    with Pump(child, log, _TAIL_SIZE, stdin, cancellation, listen) as pump:
        ending, reason = _until_over(pump, limits, cancellation, started)
        sweep = Sweep(0, [])
        if ending is not Ending.EXITED or _somebody_stays(tree, pump):
            sweep = tree.end(limits.grace, pump.pause, hurry)
        pump.drain(_SETTLING)
        log.close()
        notes = [reason, log.failure]
        if sweep.survivors:
            pids = ", ".join(str(process.pid) for process in sweep.survivors)
            notes.append(f"these processes could not be ended: {pids}")
        elif not pump.drained:
            notes.append("a process that cannot be reached still holds its output open")
    return Ended(
        ending=ending,
        exit_code=child.poll(),
        stdout=pump.stdout.text(),
        stderr=pump.stderr.text(),
        duration_seconds=time.monotonic() - started,
        message="; ".join(note for note in notes if note),
        leftovers=sweep.ended if ending is Ending.EXITED else 0,
    )


def _until_over(pump: Pump, limits: Limits, cancellation: Cancellation | None, started: float) -> tuple[Ending, str]:
    """Pump until the command has ended or has to; returns why, and the reason in words if it has to."""
    timeout = math.inf if limits.timeout is None else limits.timeout
    idle_timeout = math.inf if limits.idle_timeout is None else limits.idle_timeout
    while not pump.exited:
        now = time.monotonic()
        took = f"after {now - started:.1f} s"
        if cancellation is not None and cancellation.cancelled:
            return Ending.CANCELLED, f"cancelled {took}"
        if now - started >= timeout:
            return Ending.TIMED_OUT, f"ended {took}: limit of {timeout:g} s passed"
        if now - pump.last_output >= idle_timeout:
            return Ending.IDLE, f"ended {took}: no output for {idle_timeout:g} s"
        pump.turn(min(started + timeout, pump.last_output + idle_timeout) - now)
    return Ending.EXITED, ""


def _somebody_stays(tree: Tree, pump: Pump) -> bool:
    """Tell whether processes are left, after a moment for those that are about to end by themselves."""
    deadline = time.monotonic() + _SETTLING
    pump.drain()
    while (stay := bool(tree.living())) or not pump.drained:
        if time.monotonic() >= deadline:
            break
        pump.pause(0.01)
    return stay


def _not_started(message: str) -> Ended:
    return Ended(Ending.COULD_NOT_START, None, "", "", 0.0, message)


def why_not_started(error: Exception, command: Sequence[str], cwd: str, env: Mapping[str, str]) -> str:
    """Return in words why a command could not be started."""
    if not command:
        return "the command is empty: give at least the name of a program"
    if not os.path.isdir(cwd):
        return f"the working directory {cwd!r} {'is not a directory' if os.path.exists(cwd) else 'does not exist'}"
    if not os.access(cwd, os.X_OK):
        return f"the working directory {cwd!r} may not be entered: check its permissions"
    name = os.fspath(command[0])
    place = (
        os.path.join(cwd, name) if os.path.dirname(name) else shutil.which(name, os.F_OK, env.get("PATH", os.defpath))
    )
    if isinstance(error, FileNotFoundError):
        if place is None:
            return f"{name!r} does not exist: install it, or put its directory on PATH"
        if not os.path.exists(place):
            return f"{name!r} does not exist"
        return f"{name!r} could not be started: the interpreter it asks for does not exist"
    if isinstance(error, PermissionError):
        return f"{name!r} may not be executed: is it a program, and has it the permission (chmod +x)?"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{name!r} could not be started: {reason}"
