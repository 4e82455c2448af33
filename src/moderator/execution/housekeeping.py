"""What a run does beside its tasks, on cores that have nothing to do: fill the pool of spares, delete what removals have left.

Both take as long whenever they are done, so where all cores are busy each would cost the tasks more than it gives them.  No more
spares are made than the tasks that have not begun can use; where workspaces come back when they are removed, only those that did
not.  Making one gives way to workspaces that a task waits for, and ends with the need for it; deletion stops when a task begins.
Only where it leaves no room is something deleted at once.  What cannot be done costs speed, nothing else.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable
from typing import Any

from moderator.errors import ModeratorError, WorkspaceBusy
from moderator.execution.base import ProgressCallback
from moderator.git.entries import TASKS
from moderator.git.manager import GitManager
from moderator.models import Task, TaskResult
from moderator.process.load import IdleCores

log = logging.getLogger(__name__)

_LOOK = 0.5  # seconds for which a core has to have nothing to do
_STEP = 0.5  # seconds of deletion between two looks
_COSTS_SPEED = (ModeratorError, OSError, RuntimeError)  # RuntimeError: no thread more can be started


class Housekeeper:
    """A progress callback that hears how far a run is, and passes everything on.  A context manager."""

    def __init__(
        self,
        git: GitManager,
        root: str,
        commit: str,
        tasks: int,
        then: ProgressCallback,
        removes: bool = False,
        idle: Callable[[], float] | None = None,
    ) -> None:
        """`tasks` is how many are to begin; `removes`: some of their workspaces are removed.

        `idle` tells how many cores have had nothing to do since it was asked last.
        """
        self._idle = idle or IdleCores()
        self._removes = removes
        self._come_back = removes and git.recycles
        self._git = git
        self._root = root
        self._commit = commit
        self._waiting = tasks
        self._ended = 0
        self._then = then
        self._over = threading.Event()
        self._refilled = git.refills
        self._counting = threading.Lock()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Housekeeper:
        # This is who does both, for as long as the run goes on.
        self._git.refills, self._git.deletes_later = False, self._removes
        if self._git.pool_size or self._removes:
            self._thread = threading.Thread(target=self._keep, name="moderator-housekeeping", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._git.refills, self._git.deletes_later = self._refilled, False
        self._over.set()
        if self._thread:
            self._thread.join()

    def on_task_start(self, task: Task) -> None:
        with self._counting:
            self._waiting -= 1
        self._then.on_task_start(task)

    def on_task_complete(self, result: TaskResult) -> None:
        with self._counting:
            self._ended += 1
        self._then.on_task_complete(result)

    def on_task_error(self, task: Task, error: Exception) -> None:
        self._then.on_task_error(task, error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._then, name)  # whatever else a callback may have

    def _keep(self) -> None:
        if fills := self._git.pool_size > 0:
            # Nothing is looked at closely: who looks at a spare keeps it from the tasks that begin at this very moment.
            with contextlib.suppress(*_COSTS_SPEED):
                self._git.tidy_pool()
        while self._removes or (fills and self._spares_may_be_wanted()):
            self._idle()
            if self._over.wait(_LOOK):
                return
            with contextlib.suppress(*_COSTS_SPEED):
                self._git.make_room(self._root, self._over.is_set)
            if not (cores := round(self._idle())):
                continue
            if self._git.has_trash_waiting:  # first: where it lies there may be no room for spares
                self._delete(cores)
            elif fills and (problem := self._filled(cores)):
                log.warning("the pool of spares cannot be filled: %s", problem)
                fills = False

    def _filled(self, cores: int) -> str:
        """Make what is wanted now, a spare for each core; return why that cannot be done."""
        home = os.path.realpath(os.path.join(self._root, TASKS))
        try:
            there = sum(spare.home == home for spare in self._git.pool_status().spares) if self._wanted() > 0 else 0
            most = min(self._wanted(), there + cores)
            if there >= most:
                return ""
            return self._git.fill_pool(
                self._root, self._commit, most, stop=lambda: self._wanted() <= 0, look=False
            ).problem
        except WorkspaceBusy:  # another process fills it
            return ""
        except _COSTS_SPEED as error:
            return str(error)

    def _delete(self, cores: int) -> None:
        waiting = self._waiting
        with contextlib.suppress(*_COSTS_SPEED):
            self._git.empty_trash_meanwhile(_STEP, cores, lambda: self._over.is_set() or self._waiting < waiting)

    def _spares_may_be_wanted(self) -> bool:
        return self._waiting > 0 and self._git.pool_size > 0

    def _wanted(self) -> int:
        if self._over.is_set() or not self._spares_may_be_wanted():
            return 0
        did_not_come_back = self._ended - self._git.came_back if self._come_back else self._waiting
        return min(self._git.pool_size, self._waiting, did_not_come_back)
