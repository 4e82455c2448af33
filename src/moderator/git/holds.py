"""The leases that this process holds, shared by its own threads and by nobody else."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from moderator.errors import to_type
from moderator.git import leases


@dataclass
class Hold:
    """A lease of this process, for whom it was taken, and how many workspaces were given out on it."""

    lease: leases.Lease
    owner: object = None
    users: int = 1


class Holds:
    """Takes each lease once for the whole process and counts who uses it.  Safe to be shared by threads."""

    def __init__(self) -> None:
        self._held: dict[Path, Hold] = {}
        self._guard = threading.Lock()
        self._turns: dict[Path, threading.Lock] = {}

    @contextlib.contextmanager
    def turn(self, path: Path) -> Iterator[None]:
        """Let this process's threads do what changes the holder of a lease one after the other."""
        with self._guard:
            lock = self._turns.setdefault(path, threading.Lock())
        with lock:
            yield

    def take(self, path: Path, what: str, owner: object = None, task_id: str = "") -> Hold:
        """Take a lease, or share the one this process has for the same owner.

        Raises WorkspaceBusy; `task_id` is by whose name a person gives up the lease of another machine that is gone.
        """
        with self._guard:
            hold = self._held.get(path)
            if hold and hold.owner == owner:
                hold.users += 1
                return hold
        cure = to_type("moderator", "unlock", task_id, "--abandoned") if task_id else ""
        hold = Hold(leases.acquire(path, what, cure=cure), owner)
        with self._guard:
            self._held[path] = hold
        return hold

    def give_back(self, hold: Hold, forget: bool = False) -> None:
        """End one use; the last one frees the lease.  `forget` ends all of them: what they held is gone."""
        with self._guard:
            hold.users -= 1
            if forget:
                hold.lease.forget()
            if forget or hold.users <= 0:
                if self._held.get(hold.lease.path) is hold:
                    del self._held[hold.lease.path]
                hold.lease.release()

    def releaser(self, hold: Hold) -> Callable[[], None]:
        """Return a function that gives the hold back once, however often it is called."""
        released = threading.Event()

        def release() -> None:
            with self._guard:
                if released.is_set():
                    return
                released.set()
            self.give_back(hold)

        return release

    def descriptor(self, path: Path) -> int:
        """Return the descriptor of a lease that is held, -1 if it is not."""
        with self._guard:
            hold = self._held.get(path)
            return hold.lease.descriptor if hold else -1
