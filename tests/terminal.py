"""Programs in a pseudo-terminal of their own: typed to, and read from, as a person does.

with Shell("bash", repository) as shell:
    shown, code = shell.run("ls REA\\t")
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from commandline import PATIENCE

_ESCAPES = re.compile(r"\x1b\[[0-9;?<>=]*[A-Za-z]|\x1b\][^\x07\x1b]*(\x07|\x1b\\)|\x1b[=>()][0-9A-Za-z]?|[\x0e\x0f]")


class Terminal:
    """A program whose standard streams and controlling terminal are one pseudo-terminal; killed at the end of the `with`."""

    def __init__(self, command: Sequence[str], cwd: Path, **environment: str) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 500, 0, 0))  # no line is wrapped
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, "TERM": "xterm", "PS1": "$ ", **environment},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)
        self._seen = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for name in ("SIGHUP", "SIGKILL"):
            self.process.send_signal(getattr(signal, name))
        self.process.wait()
        os.close(self._ours)

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def until(self, pattern: str) -> re.Match[str]:
        """Read until something that matches has been shown; what came before it, and it, is not returned again."""
        deadline = time.monotonic() + PATIENCE
        while not (found := re.search(pattern, plain := _ESCAPES.sub("", self._seen))):
            assert time.monotonic() < deadline, f"{pattern!r} was never shown: {plain!r}"
            if select.select([self._ours], [], [], 0.1)[0]:
                try:
                    self._seen += os.read(self._ours, 65536).decode("utf-8", "replace")
                except OSError:  # every other end is closed
                    assert re.search(pattern, _ESCAPES.sub("", self._seen)), f"ended without {pattern!r}: {plain!r}"
        self._seen = plain[found.end() :]
        return found


_ARGUMENTS = {"bash": ["--norc", "--noprofile", "-i"], "zsh": ["-f", "-i"], "fish": ["--no-config", "-i"]}
_TELL = {
    "bash": "PROMPT_COMMAND='printf \"[%s=%s]\" ended $?'",
    "zsh": "precmd() { printf '[%s=%s]' ended $? }; unsetopt PROMPT_SP PROMPT_CR ZLE_BRACKETED_PASTE 2>/dev/null",
    "fish": "function tell --on-event fish_prompt; printf '[%s=%s]' ended $status; end; set -g fish_greeting",
}
"""What lets each shell say how a command ended, once for each."""


class Shell(Terminal):
    """An interactive shell without anybody's settings."""

    def __init__(self, name: str, cwd: Path, **environment: str) -> None:
        super().__init__([name, *_ARGUMENTS[name]], cwd, **environment)
        self.run(_TELL[name])

    def run(self, line: str) -> tuple[str, int]:
        """Type a line, which may have TABs in it; return what was shown until the next prompt, and the exit code."""
        self.type(f"{line}\r")
        found = self.until(r"(?s).*?\[ended=(\d+)\]")
        return found[0].rpartition("[")[0], int(found[1])
