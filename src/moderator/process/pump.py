"""Moves bytes between a running command and us, and notices whatever else one has to notice meanwhile.

Must not know limits nor how a command is ended.  One thread, one selector; nothing here blocks but the wait itself.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import IO

from moderator.process.cancellation import Cancellation
from moderator.process.child import has_ended, open_pidfd
from moderator.process.output import Log, Tail

if sys.platform == "linux":
    import fcntl

_CHUNK = 1 << 16  # bytes of one read: what a pipe holds
_LARGE_CHUNK = 1 << 18  # the same for a command that prints a lot; more would eat up the user's share of pipe pages
_READS = 8  # of one pipe in a row, before anything else gets its turn
_POLL = 0.02  # seconds between looks at the command where no descriptor tells of its end
_LONGEST_WAIT = 3600.0  # seconds; selectors do not take arbitrarily large numbers


class Pump:
    """The pipes of one command; a context manager that closes them."""

    def __init__(
        self,
        command: subprocess.Popen[bytes],
        log: Log,
        tail_size: int,
        stdin: bytes,
        cancellation: Cancellation | None,
        listen: Callable[[memoryview], None] | None = None,
    ) -> None:
        assert command.stdout is not None and command.stderr is not None
        self.stdout, self.stderr = Tail(tail_size), Tail(tail_size)
        self.exited = False
        self.last_output = time.monotonic()
        self._command = command
        self._log = log
        self._cancellation = cancellation
        self._listen = listen
        self._room = memoryview(bytearray(_CHUNK))
        self._input = memoryview(stdin)
        self._open = 0
        self._selector = selectors.DefaultSelector()
        self._pidfd = open_pidfd(command.pid)
        if self._pidfd is not None:
            self._watch(self._pidfd, self._notice_exit)
        self._receive_from(command.stdout, self.stdout)
        self._receive_from(command.stderr, self.stderr)
        if command.stdin is not None:
            os.set_blocking(command.stdin.fileno(), False)
            self._selector.register(command.stdin, selectors.EVENT_WRITE, self._feed)
        if cancellation is not None:
            self._watch(cancellation.cancel_descriptor, lambda: self._unwatch(cancellation.cancel_descriptor))
            self._watch(cancellation.kill_descriptor, lambda: self._unwatch(cancellation.kill_descriptor))

    def __enter__(self) -> Pump:
        return self

    def __exit__(self, *exception: object) -> None:
        self._selector.close()
        if self._pidfd is not None:
            os.close(self._pidfd)
        for pipe in (self._command.stdin, self._command.stdout, self._command.stderr):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    @property
    def drained(self) -> bool:
        """Whether nobody is left who could write to the pipes."""
        return self._open == 0

    def turn(self, seconds: float) -> None:
        """Wait until something happens, at most so long, and handle it."""
        wait = max(0.0, min(seconds, _LONGEST_WAIT))
        if self._pidfd is None and not self.exited:
            wait = min(wait, _POLL)
        for key, _ in self._selector.select(wait):
            key.data()
        if self._pidfd is None and not self.exited:
            self.exited = has_ended(self._command)

    def pause(self, seconds: float) -> None:
        """Pump for so long; less if the command ends or all are to be killed meanwhile."""
        was = self._urgent()
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and self._urgent() == was:
            self.turn(left)

    def drain(self, seconds: float = 0.0) -> None:
        """Take what is in the pipes, waiting at most so long for those who are about to close them."""
        for pipe, tail in ((self._command.stdout, self.stdout), (self._command.stderr, self.stderr)):
            assert pipe is not None
            for _ in range(32):  # a stranger may write for ever; ours can have left no more than the pipe holds
                if pipe.fileno() not in self._selector.get_map() or not self._receive(pipe, tail):
                    break
        until = time.monotonic() + seconds
        while not self.drained and (left := until - time.monotonic()) > 0:
            self.turn(left)

    def _urgent(self) -> tuple[bool, bool]:
        return self.exited, self._cancellation is not None and self._cancellation.killed

    def _watch(self, descriptor: int, notice: Callable[[], None]) -> None:
        self._selector.register(descriptor, selectors.EVENT_READ, notice)

    def _unwatch(self, descriptor: int) -> None:
        self._selector.unregister(descriptor)

    def _notice_exit(self) -> None:
        assert self._pidfd is not None
        self._unwatch(self._pidfd)
        self.exited = True

    def _receive_from(self, pipe: IO[bytes], tail: Tail) -> None:
        os.set_blocking(pipe.fileno(), False)
        self._open += 1

        def receive() -> None:
            for _ in range(_READS):
                if not self._receive(pipe, tail):
                    break

        self._watch(pipe.fileno(), receive)

    def _receive(self, pipe: IO[bytes], tail: Tail) -> bool:
        """Read once; False if there was nothing."""
        try:
            size = os.readv(pipe.fileno(), [self._room])
        except BlockingIOError:
            return False
        except OSError:
            size = 0
        if size == 0:
            self._unwatch(pipe.fileno())
            self._open -= 1
            return False
        self.last_output = time.monotonic()
        self._log.add(self._room[:size])
        tail.add(self._room[:size])
        if self._listen is not None and tail is self.stdout:
            self._listen(self._room[:size])
        if size == _CHUNK:
            self._enlarge(pipe)
        return True

    def _enlarge(self, pipe: IO[bytes]) -> None:
        """Let the pipe hold more, and take more at once: half the system calls, half the time."""
        if sys.platform == "linux":
            with suppress(OSError):
                fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _LARGE_CHUNK)
                if len(self._room) < _LARGE_CHUNK:
                    self._room = memoryview(bytearray(_LARGE_CHUNK))

    def _feed(self) -> None:
        pipe = self._command.stdin
        assert pipe is not None
        try:
            self._input = self._input[os.write(pipe.fileno(), self._input[:_CHUNK]) :]
        except BlockingIOError:
            return
        except OSError:  # it does not want any more
            self._input = self._input[:0]
        if not self._input:
            self._selector.unregister(pipe)
            pipe.close()
