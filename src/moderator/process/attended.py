"""One command with this process's own terminal and streams, as if it had been typed: for a person who sits there.

It stays in our process group, so that the terminal's Ctrl-C, Ctrl-Z and window changes reach it as they do any other command.
Must not know tasks, git or stores.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence

from moderator.errors import EnvironmentProblem
from moderator.process.running import why_not_started

NOT_FOUND, NOT_EXECUTABLE = 127, 126
"""What a shell, and env(1), end with where a command is not there, or cannot be executed."""
_PASSED_ON = ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGINT", "SIGQUIT")
_OF_THE_TERMINAL = ("SIGINT", "SIGQUIT")


def attend(command: Sequence[str], *, cwd: str, env: Mapping[str, str]) -> tuple[int, str]:
    """Run a command to its end; return its exit code, 128 and the number of a signal that ended it, and why it never began.

    Signals that this process gets meanwhile go to the command; what the terminal sends to both is not sent twice.  Raises
    EnvironmentProblem on systems without POSIX signals.
    """
    if os.name != "posix":
        raise EnvironmentProblem("commands can be run on Linux and macOS only", hint="on Windows, use WSL")
    children: list[subprocess.Popen[bytes]] = []
    waiting: list[int] = []

    def pass_on(number: int) -> None:
        if children:
            children[0].send_signal(number)
        else:
            waiting.append(number)

    with _passing_on(pass_on):
        try:
            child = subprocess.Popen(list(command), cwd=cwd, env=dict(env))
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            is_missing = isinstance(error, FileNotFoundError | NotADirectoryError)
            return NOT_FOUND if is_missing else NOT_EXECUTABLE, why_not_started(error, command, cwd, env)
        children.append(child)
        for number in waiting:
            child.send_signal(number)
        code = child.wait()
    return (code if code >= 0 else 128 - code), ""


@contextlib.contextmanager
def _passing_on(pass_on: Callable[[int], None]) -> Iterator[None]:
    """Have signals passed on for the length of a `with`; one that was ignored stays so, for the command too."""

    def handle(number: int, _: object) -> None:
        if not (signal.Signals(number).name in _OF_THE_TERMINAL and _in_foreground()):
            pass_on(number)

    heeded = [getattr(signal, name) for name in _PASSED_ON if signal.getsignal(getattr(signal, name)) != signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _in_foreground() -> bool:
    """Whether a terminal sends its signals to our process group, and so to the command too."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:  # there is none
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
