"""What the supervisor's process does: hold descriptors, wait for the end of its maker, then end the run's processes.

Must not know anything of its maker but the socket.  Messages are lines; a descriptor travels with the line that names
it, and descriptors arrive in the order in which they were sent.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque

from moderator.process.tree import Tree, table_from_my_start

HOLD, RELEASE, GOODBYE = b"hold", b"release", b"goodbye"
RUN = "MODERATOR_RUN"
"""The environment variable by which the processes of a run are found."""

_GRACE = 2.0  # seconds between SIGTERM and SIGKILL
_LOOKS = 3  # times in a row that nobody must be found
_BETWEEN_LOOKS = 0.05  # seconds


def message(verb: bytes, name: str = "") -> bytes:
    """Return a line of the protocol; the name is in hex so that it may hold anything."""
    return b"%s %s\n" % (verb, name.encode("utf-8", "surrogatepass").hex().encode())


def main(run_id: str, descriptor: int) -> None:
    """Serve until goodbye, or until the maker is gone and all processes of the run have been ended."""
    os.set_inheritable(descriptor, False)
    held: dict[bytes, int] = {}
    with socket.socket(fileno=descriptor) as connection:
        parted = serve(connection, held)
    if not parted:
        end_run(run_id)
    os._exit(0)  # closes what is held


def serve(connection: socket.socket, held: dict[bytes, int]) -> bool:
    """Hold and release what the messages say; True after a goodbye, False if the connection ended without."""
    descriptors: deque[int] = deque()
    unread = b""
    while True:
        try:
            part, arrived, _, _ = socket.recv_fds(connection, 1 << 16, 64)
        except OSError:
            return False
        if not part:
            return False
        descriptors.extend(arrived)
        *lines, unread = (unread + part).split(b"\n")
        for line in lines:
            verb, _, name = line.partition(b" ")
            if verb == GOODBYE:
                return True
            if name in held:
                os.close(held.pop(name))
            if verb == HOLD and descriptors:
                held[name] = descriptors.popleft()


def end_run(run_id: str) -> None:
    """End every process that carries the run's id, and their descendants, until none is found any more."""
    mark = b"\0" + f"{RUN}={run_id}".encode("utf-8", "surrogateescape") + b"\0"
    tree = Tree(table_from_my_start(), mark)
    quiet = 0
    while quiet < _LOOKS:
        try:
            sweep = tree.end(_GRACE, time.sleep, lambda: False)
        except OSError:  # too many open files, out of memory: it may pass, and nobody else will do this
            time.sleep(_BETWEEN_LOOKS)
            continue
        # What cannot be ended is waited for: the leases say that its workspace is in use, and it is.
        quiet = quiet + 1 if sweep.ended == 0 and not sweep.survivors else 0
        time.sleep(_BETWEEN_LOOKS)
