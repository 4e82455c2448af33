"""The process table where there is no /proc: psutil's.

Imported only there, because psutil takes longer to import than a command takes to start.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress

import psutil

from moderator.process.table import Process

_SLACK = 2.0  # seconds by which a clock may be set back while a command starts
_GONE_OR_CLOSED = (psutil.Error, ProcessLookupError, PermissionError)


class PsutilTable:
    """See ProcessTable.  `started` is in seconds since the epoch.  Each look reads every process."""

    def __init__(self, since: float) -> None:
        self._since = since

    @classmethod
    def from_now(cls) -> PsutilTable:
        """Return a table of the processes that begin after this call, give or take the clock's slack."""
        return cls(time.time() - _SLACK)

    @classmethod
    def from_my_start(cls) -> PsutilTable:
        """Return a table of the processes that began after this one did."""
        return cls(psutil.Process().create_time())

    def younger(self) -> Iterator[Process | None]:
        for found in psutil.process_iter():
            with suppress(*_GONE_OR_CLOSED):
                with found.oneshot():
                    started, status, parent = found.create_time(), found.status(), found.ppid()
                if started >= self._since and status not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
                    group, session = os.getpgid(found.pid), os.getsid(found.pid)
                    yield Process(found.pid, started, parent, group, session, status == psutil.STATUS_STOPPED)

    def environment(self, process: Process) -> bytes | None:
        with suppress(*_GONE_OR_CLOSED):
            entries = psutil.Process(process.pid).environ().items()
            return "\0".join(f"{name}={value}" for name, value in entries).encode("utf-8", "surrogateescape")
        return b""

    def outputs(self, process: Process) -> tuple[str, ...]:  # noqa: ARG002 - psutil cannot tell
        return ()

    def is_still(self, process: Process) -> bool:
        with suppress(*_GONE_OR_CLOSED):
            found = psutil.Process(process.pid)
            return found.create_time() == process.started and found.status() != psutil.STATUS_ZOMBIE
        return False
