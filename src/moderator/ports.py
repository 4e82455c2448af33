"""Ports of a task's own: a block that nobody listens on, reserved among all processes of one user on this machine.

A block is reserved by a lock on a file that is called after it.  The descriptor is handed to the supervisor too, so that a
block of a `moderator` that died is free only when the processes of its tasks are gone.  And since a process can escape even
that, and other programs have ports too, each port of a block is bound once before the block is given away.

Must not know what a task is, nor who asks.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from moderator.errors import ConfigurationError, EnvironmentProblem, WorkspaceBusy
from moderator.git.leases import Lease, acquire, held

_PATIENCE = 30.0  # seconds for other processes that choose a block: each of them takes milliseconds
_ADDRESSES = (
    (socket.AF_INET, "0.0.0.0"),  # noqa: S104 - bound for a moment, never listened on
    (socket.AF_INET, "127.0.0.1"),
    (socket.AF_INET6, "::"),
    (socket.AF_INET6, "::1"),
)
_NO_SUCH_ADDRESS = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT)


@dataclass(frozen=True)
class PortRange:
    """Which ports may be given away, `first` to `last`, and how many a block has."""

    first: int
    last: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.count <= self.last - self.first + 1:
            raise ConfigurationError(
                f"ports: {self.count} in a row do not fit into the range {self.first}-{self.last}",
                hint=f"set ports: {{count: {self.last - self.first + 1}}} or less, or a wider range",
            )

    @property
    def blocks(self) -> range:
        """The first port of each block."""
        return range(self.first, self.last - self.count + 2, self.count)


class Block:
    """A reserved block of ports, from `first` on."""

    def __init__(self, first: int, count: int, lease: Lease) -> None:
        self.first = first
        self.count = count
        self._lease = lease

    @property
    def descriptor(self) -> int:
        """What holds the reservation: for a supervisor that must outlive this process."""
        return self._lease.descriptor

    def release(self) -> None:
        """Give the block back; a second call does nothing."""
        self._lease.forget()
        self._lease.release()


def reserve(folder: Path, ports: PortRange, preferred: int = 0) -> Block:
    """Reserve a block of ports that nobody holds and that can be bound, every one; `preferred` is the number of the first to try.

    `folder` is where the processes of this machine and user meet; it is made.  Raises EnvironmentProblem if there is none.
    """
    reserved = in_use = 0
    blocks = ports.blocks
    with _turn(folder):
        taken = _reserved_in(folder)
        for number in range(len(blocks)):
            first = blocks[(number + preferred) % len(blocks)]
            if any(first <= there_last and there_first < first + ports.count for there_first, there_last in taken):
                reserved += 1
                continue
            if not all(map(_can_be_bound, range(first, first + ports.count))):
                in_use += 1
                continue
            name = f"{first}-{first + ports.count - 1}.lock"
            return Block(first, ports.count, acquire(folder / name, f"the ports from {first} on", 0.0))
    raise EnvironmentProblem(
        f"no {ports.count} ports in a row are free from {ports.first} to {ports.last}: "
        f"of {len(blocks)} blocks {reserved} are reserved for tasks, and in {in_use} a port is in use",
        hint="run fewer tasks at once, or set ports: {range: ...} to a wider range",
    )


@contextlib.contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """Be the only one of all processes that chooses a block."""
    with held(folder / "choosing.lock", "the choice of ports", _PATIENCE):
        yield


def _reserved_in(folder: Path) -> list[tuple[int, int]]:
    """Return the first and last ports of the blocks that somebody holds; the names of those that died are taken away."""
    found = []
    for name in os.listdir(folder):
        first, dash, last = name.removesuffix(".lock").partition("-")
        if not (dash and first.isdecimal() and last.isdecimal()):
            continue
        try:
            stale = acquire(folder / name, name, 0.0)
        except WorkspaceBusy:
            found.append((int(first), int(last)))
        else:
            stale.forget()
            stale.release()
    return found


def _can_be_bound(port: int) -> bool:
    """Whether nobody has the port, on any address, on this machine's own or in the other protocol."""
    for family, address in _ADDRESSES:
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind((address, port))
        except OSError as error:
            if error.errno not in _NO_SUCH_ADDRESS:  # a machine without this protocol has nobody there
                return False
    return True
