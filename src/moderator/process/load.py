"""How many cores of this machine have nothing to do."""

from __future__ import annotations

import os
import time
from pathlib import Path

_STATES = Path("/proc/stat")  # of Linux, proc(5): how long the cores were in each state, in ticks since boot
_NICE, _IDLE = 2, 4
"""Where it stands there how long they ran what gives way to everybody else, and nothing at all."""


class IdleCores:
    """Tells how many cores had nothing to do since it was asked last: on the average, in fractions."""

    def __init__(self) -> None:
        self._at, self._idle = time.monotonic(), _idle_seconds()

    def __call__(self) -> float:
        """Return that, and begin anew.  Where the system only tells its load, the average of a minute, it is what that leaves."""
        before, since = self._idle, self._at
        self._at, self._idle = time.monotonic(), _idle_seconds()
        if before is None or self._idle is None:
            return max(0.0, (os.cpu_count() or 1) - _load())
        return max(0.0, self._idle - before) / max(self._at - since, 1e-9)  # some counters may go back, proc(5)


def _load() -> float:
    """Return how many processes ran or waited for a core, on the average; 0 where nobody tells."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return 0.0


def _idle_seconds() -> float | None:
    """Return for how long all cores together have had nothing to do since boot, None where that is not told."""
    try:
        fields = _STATES.read_text("ascii").split("\n", 1)[0].split()
        return (int(fields[_NICE]) + int(fields[_IDLE])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None
