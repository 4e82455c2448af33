"""Which processes belong to a command, and how every one of them is ended.

Must not know what the command is or why it has to go.  Belonging is a matter of descent, of the command's own session
and process group, of a mark in the environment (which survives setsid and being orphaned), of standard output or error
that is the command's own pipe, and of having belonged before.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NamedTuple

from moderator.process.child import open_pidfd
from moderator.process.table import Process, ProcessTable

_LOOKS = 8  # at least, where a look may have missed somebody
_DOUBTING = 0.01  # seconds of such looks
_INSISTING = 1.0  # seconds of such looks where there was somebody before
_EXEC = 0.05  # seconds for which an environment may be out of sight while a process is replaced by exec
_LONGEST_PAUSE = 0.1  # seconds between looks while processes take their time to end
_FREEZING = 1.0  # seconds at most until all of them stand still
_PATIENCE = 10.0  # seconds to wait for processes that SIGKILL does not end: they are stuck in the kernel

Pause = Callable[[float], object]
"""Waits about so many seconds; may return early."""


def table_from_now() -> ProcessTable:
    """Return a table of the processes that begin after this call."""
    if sys.platform == "linux":
        from moderator.process.table_linux import LinuxTable as Table
    else:
        from moderator.process.table_psutil import PsutilTable as Table
    return Table.from_now()


def table_from_my_start() -> ProcessTable:
    """Return a table of the processes that began after this one did."""
    if sys.platform == "linux":
        from moderator.process.table_linux import LinuxTable as Table
    else:
        from moderator.process.table_psutil import PsutilTable as Table
    return Table.from_my_start()


class Sweep(NamedTuple):
    """How many processes were ended, and those that could not be: not ours to signal, or stuck in the kernel."""

    ended: int
    survivors: list[Process]


class Tree:
    """The living processes that belong together.

    `mark` is looked for in the environment, written as NUL-terminated entries with a NUL before the first.  `leader`
    is the process id of the command, whose session and group it names; it must not be reaped (see `child`) while the
    tree is in use, so that the number means nobody else.  `outputs` are pipes, written `pipe:[inode]`.
    """

    def __init__(
        self, table: ProcessTable, mark: bytes, leader: int | None = None, outputs: Iterable[str] = ()
    ) -> None:
        self._table = table
        self._mark = mark
        self._leader = leader
        self._outputs = frozenset(outputs)
        self._seen: set[tuple[int, float]] = set()
        self._blank: dict[tuple[int, float], float] = {}
        self._out_of_reach: set[tuple[int, float]] = set()

    def living(self, strike: signal.Signals | None = None) -> list[Process]:
        """Return those that are alive; looks again where a look may have missed somebody."""
        members, certain = self._look(strike)
        deadline = time.monotonic() + (_INSISTING if self._seen else _DOUBTING)
        looks = 1
        while not members and not certain and (looks < _LOOKS or time.monotonic() < deadline):
            time.sleep(0)
            members, certain = self._look(strike)
            looks += 1
        return members

    def end(self, grace: float, pause: Pause, hurry: Callable[[], bool]) -> Sweep:
        """End all of them: SIGTERM, then after `grace` seconds, or once `hurry()` says so, SIGKILL."""
        alive = {process.identity for process in self.living()}
        gone_before = self._seen - alive
        asked: set[tuple[int, float]] = set()
        deadline = time.monotonic() + grace
        wait = 0.002
        while (members := self._reachable()) and not hurry() and (left := deadline - time.monotonic()) > 0:
            # Newcomers may be at work for somebody who was asked and is tidying up; they are asked once nobody is.
            if asked.isdisjoint(process.identity for process in members):
                # Parents first, or a shell would see its child die and go on with the next line of its script.
                for process in sorted(members, key=lambda process: (process.started, process.pid)):
                    asked.add(process.identity)
                    self._signal(process, signal.SIGTERM)
                    self._signal(process, signal.SIGCONT)  # what is stopped cannot hear
            pause(min(wait, left))
            wait = min(wait * 2, _LONGEST_PAUSE)
        survivors = self.kill(pause) if members else self.living()
        return Sweep(len(self._seen - gone_before) - len(survivors), survivors)

    def kill(self, pause: Pause = time.sleep) -> list[Process]:
        """End all of them by SIGKILL; returns those that could not be ended."""
        deadline = time.monotonic() + _PATIENCE
        wait = 0.001
        while (members := self._freeze()) and time.monotonic() < deadline:
            for process in members:
                self._signal(process, signal.SIGKILL)
            self._signal_group(signal.SIGKILL)
            pause(wait)
            wait = min(wait * 2, _LONGEST_PAUSE)
        return self.living()

    def _freeze(self) -> list[Process]:
        """Stop all of them, so that none forks while the others are being ended, and return them.

        Each is stopped at the moment it is seen: some live for a millisecond only, and leave a child.
        """
        deadline = time.monotonic() + _FREEZING
        known: set[tuple[int, float]] = set()
        self._signal_group(signal.SIGSTOP)
        while members := self._reachable(signal.SIGSTOP):
            identities = {process.identity for process in members}
            if identities <= known and all(process.stopped for process in members):
                break
            if time.monotonic() > deadline:
                break  # somebody is stuck in the kernel, or waits for a vfork child that stands still
            known |= identities
        return members

    def _reachable(self, strike: signal.Signals | None = None) -> list[Process]:
        return [process for process in self.living(strike) if process.identity not in self._out_of_reach]

    def _look(self, strike: signal.Signals | None = None) -> tuple[list[Process], bool]:
        """Return the living members and whether none can have been missed; signals each as soon as it is seen."""
        members: dict[int, Process] = {}
        strangers: dict[int, Process] = {}
        certain = True

        def admit(process: Process) -> None:
            members[process.pid] = process
            self._seen.add(process.identity)
            if strike is not None:
                self._signal(process, strike)

        for process in self._table.younger():
            if process is None:
                certain = False
            elif process.pid == os.getpid():
                continue
            elif belongs := self._belongs(process):
                admit(process)
            else:
                strangers[process.pid] = process
                certain = certain and belongs is False
        while children := [process for process in strangers.values() if process.parent in members]:
            for process in children:
                admit(strangers.pop(process.pid))
        return list(members.values()), certain

    def _belongs(self, process: Process) -> bool | None:
        """Tell without regard to descent; None if it cannot be told yet."""
        if process.identity in self._seen:
            return True
        if self._leader is not None and self._leader in (process.pid, process.group, process.session):
            return True
        environment = self._table.environment(process)
        if environment is not None and self._mark in b"\0" + environment + b"\0":
            return True
        if self._outputs and not self._outputs.isdisjoint(self._table.outputs(process)):
            return True
        if environment is None:
            first_look = self._blank.setdefault(process.identity, time.monotonic())
            return None if time.monotonic() - first_look < _EXEC else False
        return False

    def _signal(self, process: Process, number: signal.Signals) -> None:
        try:
            descriptor = open_pidfd(process.pid)
            try:
                # Open first, then compare: from then on the descriptor cannot mean anybody else.
                if self._table.is_still(process):
                    if descriptor is None:
                        os.kill(process.pid, number)
                    else:
                        signal.pidfd_send_signal(descriptor, number)
            finally:
                if descriptor is not None:
                    os.close(descriptor)
        except ProcessLookupError:
            pass
        except PermissionError:
            self._out_of_reach.add(process.identity)

    def _signal_group(self, number: signal.Signals) -> None:
        """Signal the leader's group: one call that no fork inside the group can outrun."""
        if self._leader is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._leader, number)
