"""Whether there is room for what was removed and waits to be deleted, and making some where it is wanted for something else.

Where that waits it takes nobody's time, but space and files: never more than half of what the file system still had at first.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Callable
from typing import TypeVar

from moderator.errors import EnvironmentProblem

_STEP = 0.5  # seconds of deletion between two looks whether there is room
_T = TypeVar("_T")


class Room:
    """Knows what waits; `empty` is called to delete of it, for so many seconds, None: all."""

    def __init__(self, empty: Callable[[float | None], object]) -> None:
        self._empty = empty
        self._free_at_first: dict[int, tuple[int, int]] = {}  # by device: when the first of what waits there came
        self._came = 0
        self._counting, self._making = threading.Lock(), threading.Lock()

    def may_wait(self, folder: str) -> bool:
        """Whether what has come into a folder to be deleted may lie there; if so, it counts as waiting."""
        try:
            device, free = os.stat(folder).st_dev, _free(folder)
        except OSError:
            return False
        with self._counting:
            self._came += 1
            return _is_half(free, self._free_at_first.setdefault(device, free))

    @property
    def has_waiting(self) -> bool:
        """Whether something waits."""
        return bool(self._free_at_first)

    @property
    def came(self) -> int:
        """How often something has come to wait."""
        return self._came

    def is_empty(self, came: int) -> None:
        """Nothing waits any more of what had come until there were so many; what came later still does."""
        with self._counting:
            if came == self._came:
                self._free_at_first.clear()

    def make(self, folder: str, stop: Callable[[], bool] = lambda: False) -> None:
        """Delete of what waits as much as leaves room again where a folder is to be made; others wait for that.

        It ends where nothing is won by it any more, or when `stop` says so.
        """
        there = _nearest(folder)
        if not self._is_short(there):
            return
        with self._making, contextlib.suppress(OSError):
            free = (-1, -1)
            while self._is_short(there) and not stop() and (now := _free(there)) > free:
                free = now
                self._empty(_STEP)

    def with_room(self, folder: str, make: Callable[[], _T]) -> _T:
        """Call what makes something in a folder, with room made for it; once more without all that waits, if it found none.

        It may be larger than what is free, and quotas are told nowhere.
        """
        self.make(folder)
        try:
            return make()
        except EnvironmentProblem:
            if not self.has_waiting:
                raise
        with self._making:
            if self.has_waiting:
                self._empty(None)
        return make()

    def _is_short(self, folder: str) -> bool:
        if not self._free_at_first:
            return False
        try:
            first = self._free_at_first.get(os.stat(folder).st_dev)
            return first is not None and not _is_half(_free(folder), first)
        except OSError:
            return False


def _nearest(folder: str) -> str:
    """Return a folder, or the nearest one above it that is there."""
    while not os.path.isdir(folder) and folder != os.path.dirname(folder):
        folder = os.path.dirname(folder)
    return folder


def _is_half(now: tuple[int, int], first: tuple[int, int]) -> bool:
    return all(2 * free >= then for free, then in zip(now, first, strict=True))


def _free(folder: str) -> tuple[int, int]:
    """Return how many bytes, and how many files, a file system still has room for.  Raises OSError."""
    if not hasattr(os, "statvfs"):
        return shutil.disk_usage(folder).free, 0
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize, found.f_favail
