"""Which job a free worker takes next: limits of backends hold over the whole run, and no worker waits while it could work.

Must not know what a job's steps are.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from moderator.backends.calls import Backend
from moderator.execution.places import HeldPlace
from moderator.models import Task

_GLANCE = 0.1  # seconds between looks whether the run was cancelled, while nothing can be taken


@dataclass
class Job:
    """One task on its way through its attempts.

    `candidates` are the backends that may do it, in order, and `backend` the one that does the next attempt, None where none
    could be found (`problem` says why).  `attempt` is the number of that attempt, `tried` says how often this run has tried each
    backend.  `place` is where the next attempt will be made, held since the one before; None where there was none.  `stays`: the
    task's workspace is there, and is taken as it is.
    """

    index: int
    task: Task
    candidates: list[Backend]
    backend: Backend | None
    attempt: int = 1
    tried: dict[str, int] = field(default_factory=dict)
    problem: Exception | None = None
    notes: list[str] = field(default_factory=list)
    place: HeldPlace | None = None
    stays: bool = False

    @property
    def backend_name(self) -> str:
        return self.backend.name if self.backend else ""


class Schedule:
    """The jobs that wait.  Workers take from it until nothing is left that could ever be taken.

    Of all jobs whose backend has room the first in order is taken, so tasks start in the order of the list wherever limits
    allow it.  `limit_of` says how many jobs of a backend may run at once, None for any number.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        limit_of: Callable[[str], int | None],
        cancelled: Callable[[], bool],
    ) -> None:
        self._changed = threading.Condition()
        self._limit_of = limit_of
        self._cancelled = cancelled
        self._waiting: dict[str, list[tuple[int, Job]]] = {}
        self._later: list[tuple[float, int, Job]] = []
        self._running: dict[str, int] = {}
        for job in jobs:
            self._queue(job)

    def take(self) -> Job | None:
        """Return the next job; waits for one.  None once there will be none, or the run was cancelled."""
        with self._changed:
            while not self._cancelled():
                self._wake_up()
                open_to = [name for name, queue in self._waiting.items() if queue and self._has_room(name)]
                if open_to:
                    name = min(open_to, key=lambda name: self._waiting[name][0][0])
                    _, job = heapq.heappop(self._waiting[name])
                    self._running[name] = self._running.get(name, 0) + 1
                    return job
                if not (self._later or any(self._waiting.values())):
                    return None  # whoever runs a job can take it again itself
                self._changed.wait(self._patience())
            return None

    def end(self, of: str) -> None:
        """A job that was taken for the backend `of` is done."""
        with self._changed:
            self._running[of] -= 1
            self._changed.notify_all()

    def put_back(self, job: Job, of: str, pause: float) -> None:
        """A job wants another attempt, `pause` seconds from now at the earliest."""
        with self._changed:
            self._running[of] -= 1
            if pause > 0:
                heapq.heappush(self._later, (time.monotonic() + pause, job.index, job))
            else:
                self._queue(job)
            self._changed.notify_all()

    def _queue(self, job: Job) -> None:
        heapq.heappush(self._waiting.setdefault(job.backend_name, []), (job.index, job))

    def _wake_up(self) -> None:
        while self._later and self._later[0][0] <= time.monotonic():
            self._queue(heapq.heappop(self._later)[2])

    def _has_room(self, name: str) -> bool:
        limit = self._limit_of(name) if name else None
        return limit is None or self._running.get(name, 0) < limit

    def _patience(self) -> float:
        due = self._later[0][0] - time.monotonic() if self._later else _GLANCE
        return min(max(due, 0.001), _GLANCE)
