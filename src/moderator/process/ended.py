"""What a command may do and what became of it: plain data that pickles and compares.

Must not know how a command is run.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True)
class Limits:
    """How long a command may take, all in seconds.

    `timeout` is the wall time, `idle_timeout` the time without a byte on standard output or error; None means no
    limit.  `grace` is the time between SIGTERM and SIGKILL.
    """

    timeout: float | None = None
    idle_timeout: float | None = None
    grace: float = 5.0


class Ending(Enum):
    """Every way a command can end."""

    EXITED = "exited"
    """By itself: an exit code, or a signal that was not ours."""
    TIMED_OUT = "timed out"
    """The wall limit passed."""
    IDLE = "idle"
    """The idle limit passed."""
    CANCELLED = "cancelled"
    """The run was cancelled, perhaps before the command was started."""
    COULD_NOT_START = "could not start"
    """There is no such command or directory, or it may not be executed."""


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    `exit_code` is the command's own, negative for the signal that ended it, None if it was never started (or is stuck
    in the kernel and cannot be ended).  `stdout` and `stderr` are the last 64 KiB of each; bytes that are not UTF-8
    are replaced.  `duration_seconds` runs until the last process of the tree was gone.  `message` says in words for
    people what went otherwise than well, and is "" where there is nothing to say.  `leftovers` counts the processes
    that outlived a command that ended by itself, and were then ended.
    """

    ending: Ending
    exit_code: int | None
    stdout: str
    stderr: str
    duration_seconds: float
    message: str = ""
    leftovers: int = 0
