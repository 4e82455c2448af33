"""The one switch that ends every command of a run.

Must not know who runs or what: commands wait for a descriptor to become readable, so that throwing the switch is one
write, which a signal handler may do and which takes no lock.
"""

from __future__ import annotations

import os
import select
import weakref


class Cancellation:
    """Shared by all commands of one run; thread-safe; `cancel` and `kill` may be called from a signal handler."""

    def __init__(self) -> None:
        self._cancelled = False
        self._killed = False
        self._cancel_reader, self._cancel_writer = os.pipe()
        self._kill_reader, self._kill_writer = os.pipe()
        descriptors = (self._cancel_reader, self._cancel_writer, self._kill_reader, self._kill_writer)
        # Not at interpreter exit: threads may still be waiting for these, and the kernel closes them anyway.
        weakref.finalize(self, _close, descriptors).atexit = False

    def cancel(self) -> None:
        """End every command, running or still to come: SIGTERM, the grace time of its limits, SIGKILL."""
        if not self._cancelled:
            self._cancelled = True
            os.write(self._cancel_writer, b"c")

    def kill(self) -> None:
        """End every command at once, by SIGKILL."""
        if not self._killed:
            self._killed = True
            os.write(self._kill_writer, b"k")
        self.cancel()

    def wait(self, seconds: float) -> bool:
        """Return after so many seconds, or as soon as `cancel` was called; whether it was."""
        poll = select.poll()  # unlike select(), it takes any descriptor
        poll.register(self._cancel_reader, select.POLLIN)
        return bool(poll.poll(max(seconds, 0.0) * 1000))

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` or `kill` was called."""
        return self._cancelled

    @property
    def killed(self) -> bool:
        """Whether `kill` was called."""
        return self._killed

    @property
    def cancel_descriptor(self) -> int:
        """Becomes readable, for good, once `cancelled`; not to be read from."""
        return self._cancel_reader

    @property
    def kill_descriptor(self) -> int:
        """Becomes readable, for good, once `killed`; not to be read from."""
        return self._kill_reader


def _close(descriptors: tuple[int, ...]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
