"""Whether there is room for what was removed and waits to be deleted, and making some where something else wants it.

What waits takes nobody's time, but space, and files: never more than a quarter of what the file system has left beside it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from moderator.errors import EnvironmentProblem, NoRoom
from moderator.git.command import abreast, is_stopped

_STEP = 0.5  # seconds of deletion between two looks whether there is room
_GLANCE = 0.2  # seconds between looks whether room is still wanted
_BESIDE = 4  # times what waits has to be free beside it
_W = TypeVar("_W")
_T = TypeVar("_T")


@dataclass(frozen=True)
class Size:
    """What something takes of a file system, or may take: bytes, and files of any kind."""

    bytes: int
    files: int


class Room(Generic[_W]):
    """Knows what waits.

    `delete` is called with something that does, and with what tells it when to stop; it returns whether that need not wait any
    more, being gone, or to be kept.  `clear` deletes all that may go, whoever removed it, and returns whether that was anything.
    `stopped` says that nobody waits any more for room.
    """

    def __init__(
        self,
        delete: Callable[[_W, Callable[[], bool]], bool],
        clear: Callable[[Callable[[], bool]], bool],
        stopped: Callable[[], bool],
    ) -> None:
        self._delete = delete
        self._clear = clear
        self._stopped = stopped
        self._waiting: dict[int, tuple[_W, int, Size]] = {}  # in the order in which it came; with the device
        self._came = 0
        self._changing, self._making = threading.Lock(), threading.Lock()

    @property
    def has_waiting(self) -> bool:
        """Whether anything waits."""
        return bool(self._waiting)

    def takes(self, removed: _W, folder: str, size: Size) -> bool:
        """Whether what was removed, and lies in a folder, may wait there; if so, it does."""
        try:
            device = os.stat(folder).st_dev
            with self._changing:
                if not self._is_enough(folder, device, size):
                    return False
                self._came += 1
                self._waiting[self._came] = removed, device, size
        except OSError:
            return False
        return True

    def empty(self, seconds: float, cores: int | None = None, stop: Callable[[], bool] = lambda: False) -> None:
        """Delete of what waits, on so many cores, for some seconds or until `stop` says so, which is asked all the time."""
        deadline = time.monotonic() + seconds

        def is_over() -> bool:
            return time.monotonic() > deadline or stop() or is_stopped()

        def away(number: int) -> None:
            one = self._waiting.get(number)
            if one and not is_over() and self._delete(one[0], is_over):
                with self._changing:
                    self._waiting.pop(number, None)

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
                waiting, free = len(self._waiting), _free(there)
                self.empty(_STEP, stop=lambda: self._is_over(stop))
                now = _free(there)
                won = len(self._waiting) < waiting or now.bytes > free.bytes or now.files > free.files

    def with_room(self, folder: str, make: Callable[[], _T]) -> _T:
        """Call what makes something in a folder, with room made for it; once more without all that may go, if it found none.

        It may be larger than what is free, and quotas are told nowhere.
        """
        self.make(folder)
        waited = self.has_waiting
        try:
            return make()
        except EnvironmentProblem as error:
            if not _is_for_want_of_room(error):
                raise
            with self._alone():
                went = self._clear(self._stopped)
            if self._stopped() or not (waited or went):
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
            device = os.stat(folder).st_dev
            with self._changing:
                return not self._is_enough(folder, device)
        except OSError:
            return False

    def _is_enough(self, folder: str, device: int, more: Size = Size(0, 0)) -> bool:
        """Whether there is room beside what waits on a device, and more of that.  Raises OSError."""
        sizes = [more, *(size for _, where, size in self._waiting.values() if where == device)]
        free = _free(folder)
        return _BESIDE * sum(size.bytes for size in sizes) <= free.bytes and (
            free.files < 0 or _BESIDE * sum(size.files for size in sizes) <= free.files
        )


def _is_for_want_of_room(error: BaseException) -> bool:
    """Whether an error, or one that it comes from, says so."""
    known: BaseException | None = error
    seen = set[int]()  # what was raised while another was handled may lead back to itself
    while known is not None and id(known) not in seen:
        if isinstance(known, NoRoom) or (isinstance(known, OSError) and known.errno in (errno.ENOSPC, errno.EDQUOT)):
            return True
        seen.add(id(known))
        known = known.__cause__ or known.__context__
    return False


def _nearest(folder: str) -> str:
    """Return a folder, or the nearest one above it that is there."""
    while not os.path.isdir(folder) and folder != os.path.dirname(folder):
        folder = os.path.dirname(folder)
    return folder


def _free(folder: str) -> Size:
    """Return what a file system still has room for; -1 for files where it does not count them.  Raises OSError."""
    if not hasattr(os, "statvfs"):
        return Size(shutil.disk_usage(folder).free, -1)
    found = os.statvfs(folder)
    return Size(found.f_bavail * found.f_frsize, found.f_favail if found.f_files else -1)
