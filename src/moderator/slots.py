"""Small numbers, no two of them the same at one time among all processes of one user on this machine.

A number is a lock on a file that is called after it, as a block of ports is (see `ports`): the supervisor keeps the descriptor
too, so that the number of a `moderator` that died is free only when the processes of its task are gone.  The smallest that is
free is taken, which nobody has to wait for.

Must not know what a task is, nor what the number is good for.
"""

from __future__ import annotations

import itertools
import logging
from pathlib import Path

from moderator.errors import EnvironmentProblem
from moderator.git.leases import Lease, try_acquire

log = logging.getLogger(__name__)


class Slot:
    """A number that is held."""

    def __init__(self, number: int, lease: Lease) -> None:
        self.number = number
        self._lease = lease

    @property
    def descriptor(self) -> int:
        """What holds the number: for a supervisor that must outlive this process."""
        return self._lease.descriptor

    def release(self) -> None:
        """Give the number back; a second call does nothing.  The file stays: the next one needs it."""
        self._lease.release()


class Slots:
    """Gives numbers away, from 0 on.

    `folder` is where the processes of this machine and user meet.  Where no lock can be had there, in a home that nobody may write
    to, say, they meet in `otherwise`, and a warning says that this is all they know of each other.
    """

    def __init__(self, folder: Path, otherwise: Path) -> None:
        self._folder = folder
        self._otherwise = otherwise

    def take(self) -> Slot:
        """Take the smallest number that nobody has.  Raises EnvironmentProblem if no lock can be had anywhere."""
        folder = self._folder
        try:
            return _taken_in(folder)
        except EnvironmentProblem as problem:
            if folder == self._otherwise:
                raise
            log.warning(
                "slots are kept apart from those of this repository's runs only: %s (%s)",
                problem.message,
                problem.cause,
            )
            self._folder = self._otherwise  # of one run all, and no second warning
        return _taken_in(self._otherwise)


def _taken_in(folder: Path) -> Slot:
    for number in itertools.count():
        if lease := try_acquire(folder / f"{number}.lock"):
            return Slot(number, lease)
    raise AssertionError("unreachable")
