"""Whether there is room for what was removed and waits to be deleted, and making some where something else wants it.

What waits takes nobody's time, but space, and files.  So it goes at once where less than half of what the file system had left is
left of that, or less than a tenth of all that it has.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from moderator.errors import EnvironmentProblem, NoRoom
from moderator.git.command import abreast, is_stopped

_STEP = 0.5  # seconds of deletion between two looks whether there is room
_GLANCE = 0.2  # seconds between looks whether room is still wanted
_LEAST = 10  # of all that a file system has, this part is not for what waits
_W = TypeVar("_W")
_T = TypeVar("_T")


class Room(Generic[_W]):
    """Knows what waits.

    `delete` is called with something that does, and with what tells it when to stop; `stopped` says that nobody waits any more for
    room.
    """

    def __init__(self, delete: Callable[[_W, Callable[[], bool]], object], stopped: Callable[[], bool]) -> None:
        self._delete = delete
        self._stopped = stopped
        self._waiting: list[_W] = []
        self._free_at_first: dict[int, tuple[int, int]] = {}  # by device: when the first of what waits came
        self._changing, self._making = threading.Lock(), threading.Lock()

    @property
    def has_waiting(self) -> bool:
        """Whether anything waits."""
        return bool(self._waiting)

    def takes(self, removed: _W, folder: str) -> bool:
        """Whether what was removed, and lies in a folder, may wait there; if so, it does."""
        try:
            device = os.stat(folder).st_dev
            with self._changing:
                if not self._waiting:
                    self._free_at_first.clear()
                if not self._is_enough(folder, self._free_at_first.setdefault(device, _free(folder))):
                    return False
                self._waiting.append(removed)
        except OSError:
            return False
        return True

    def empty(self, seconds: float, cores: int | None = None, stop: Callable[[], bool] = lambda: False) -> None:
        """Delete of what waits, on so many cores, for some seconds or until `stop` says so, which is asked all the time."""
        deadline = time.monotonic() + seconds

        def is_over() -> bool:
            return time.monotonic() > deadline or stop() or is_stopped()

        def away(one: _W) -> None:
            if is_over():
                return
            self._delete(one, is_over)
            # What is still there though there was time cannot be deleted now, or must not: that is for others to see.
            if not is_over():
                with self._changing, contextlib.suppress(ValueError):
                    self._waiting.remove(one)

        waiting = list(self._waiting)
        most = min(cores or os.cpu_count() or 1, len(waiting))
        for _ in abreast(away, waiting, most=most) if most > 1 else map(away, waiting):
            pass

    def make(self, folder: str, stop: Callable[[], bool] = lambda: False) -> None:
        """Delete of what waits as much as leaves room again where a folder is to be made; others wait for that.

        It ends where nothing is won by it any more, or when `stop` says so.
        """
        there = _nearest(folder)
        if not self._is_short(there):
            return
        with self._alone(stop), contextlib.suppress(OSError):
            won = True
            while won and self._is_short(there) and not self._is_over(stop):
                before = _free(there)
                self.empty(_STEP, stop=lambda: self._is_over(stop))
                won = any(now > then for now, then in zip(_free(there), before, strict=True))

    def with_room(self, folder: str, make: Callable[[], _T]) -> _T:
        """Call what makes something in a folder, with room made for it; once more without all that waits, if it found none.

        It may be larger than what is free, and quotas are told nowhere.
        """
        self.make(folder)
        waited = self.has_waiting
        try:
            return make()
        except EnvironmentProblem as error:
            if not (waited or self.has_waiting) or not _is_for_want_of_room(error):
                raise
            with self._alone():
                while self.has_waiting and not self._stopped():
                    self.empty(_STEP, stop=self._stopped)
            if self._stopped():
                raise
        return make()

    def _is_over(self, stop: Callable[[], bool]) -> bool:
        return stop() or self._stopped()

    @contextlib.contextmanager
    def _alone(self, stop: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Be the only one who makes room, or know that it is not wanted any more."""
        has = False
        while not has and not self._is_over(stop):
            has = self._making.acquire(timeout=_GLANCE)
        try:
            yield
        finally:
            if has:
                self._making.release()

    def _is_short(self, folder: str) -> bool:
        if not self._waiting:
            return False
        try:
            first = self._free_at_first.get(os.stat(folder).st_dev)
            return first is not None and not self._is_enough(folder, first)
        except OSError:
            return False

    def _is_enough(self, folder: str, first: tuple[int, int]) -> bool:
        return all(
            2 * free >= then and _LEAST * free >= whole
            for free, then, whole in zip(_free(folder), first, _whole(folder), strict=True)
        )


def _is_for_want_of_room(error: BaseException) -> bool:
    """Whether an error, or one that it comes from, says so."""
    known: BaseException | None = error
    while known is not None:
        if isinstance(known, NoRoom) or (isinstance(known, OSError) and known.errno in (errno.ENOSPC, errno.EDQUOT)):
            return True
        known = known.__cause__ or known.__context__
    return False


def _nearest(folder: str) -> str:
    """Return a folder, or the nearest one above it that is there."""
    while not os.path.isdir(folder) and folder != os.path.dirname(folder):
        folder = os.path.dirname(folder)
    return folder


def _free(folder: str) -> tuple[int, int]:
    """Return how many bytes, and how many files, a file system still has room for.  Raises OSError."""
    if not hasattr(os, "statvfs"):
        return shutil.disk_usage(folder).free, 0
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize, found.f_favail


def _whole(folder: str) -> tuple[int, int]:
    """Return how many bytes, and how many files, it has room for in all; some tell of no files.  Raises OSError."""
    if not hasattr(os, "statvfs"):
        return shutil.disk_usage(folder).total, 0
    found = os.statvfs(folder)
    return found.f_blocks * found.f_frsize, found.f_files
