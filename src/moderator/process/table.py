"""What one needs to know of processes, whatever the system.

Must not know which of them matter, and sends no signal.  A table looks only at what began after a moment of its own,
because that is where the processes of a command are: this is what makes the look after a command that left nothing
behind cheap, and a safeguard against confusing a process with an older one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol


class Process(NamedTuple):
    """One living process.  `started` is in the table's own unit; with `pid` it tells a process from its successors."""

    pid: int
    started: float
    parent: int
    group: int
    session: int
    stopped: bool

    @property
    def identity(self) -> tuple[int, float]:
        return self.pid, self.started


class ProcessTable(Protocol):
    """The processes that began since a moment."""

    def younger(self) -> Iterator[Process | None]:
        """Yield the living ones, each as soon as it is read, the newest first as a rule.

        None stands for somebody who ended between being listed and being read, or is just ending: children made
        meanwhile are not listed, so such a look may have missed somebody.
        """

    def environment(self, process: Process) -> bytes | None:
        """Return `NAME=value` entries joined by NUL, b"" if nobody may read them, None if one cannot tell yet."""

    def outputs(self, process: Process) -> tuple[str, ...]:
        """Return what standard output and error are, such as `pipe:[4242]`, as far as it can be known."""

    def is_still(self, process: Process) -> bool:
        """Return whether the process id still stands for that very process, alive."""
