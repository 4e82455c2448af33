"""Where a command's output goes: one log file for all of it, and a bounded tail of each stream in memory.

Must not know where the bytes come from.
"""

from __future__ import annotations

import os
from pathlib import Path

_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0)
"""A pipe that a task has put there is not waited for."""


class Tail:
    """The last `size` bytes of a stream, in at most twice the memory."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept = bytearray()
        self._cut = False

    def add(self, part: memoryview) -> None:
        if len(part) >= self._size:
            self._cut = self._cut or bool(self._kept) or len(part) > self._size
            self._kept[:] = part[-self._size :]
            return
        self._kept += part
        if len(self._kept) > 2 * self._size:
            self._trim()

    def text(self) -> str:
        """Return the tail as text; bytes that are not UTF-8 are replaced, a character cut in two left out."""
        self._trim()
        start = 0
        while self._cut and start < min(3, len(self._kept)) and self._kept[start] & 0xC0 == 0x80:
            start += 1
        return self._kept[start:].decode("utf-8", "replace")

    def _trim(self) -> None:
        if len(self._kept) > self._size:
            self._cut = True
            del self._kept[: -self._size]


class Log:
    """A file that is appended to.  It never raises: the first `failure` ends the writing and is kept to be told."""

    def __init__(self, path: Path) -> None:
        self.failure = ""
        self._path = path
        self._descriptor: int | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, _APPEND, 0o666)
        except (OSError, ValueError) as error:
            self._give_up(error)

    def add(self, part: memoryview) -> None:
        if self._descriptor is None:
            return
        try:
            while part:
                part = part[os.write(self._descriptor, part) :]
        except OSError as error:
            self._give_up(error)

    def close(self) -> None:
        """Close the file; may be called again."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            try:
                os.close(descriptor)
            except OSError as error:  # network file systems report a full disk only here
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        self.failure = self.failure or f"the log {str(self._path)!r} is incomplete: {reason}"
        self.close()
