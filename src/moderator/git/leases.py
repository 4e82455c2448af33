"""Who holds a workspace now: locks that the kernel frees when the last holder is gone.

A lease is a `flock` on a file of its own.  The descriptor is handed to git children and to the supervisor, never
to a task, so that the lease outlives a killed `moderator` for exactly as long as something of it still works in the
workspace.  What is written in the file (host, boot, pid, start time) is for people, and for disks shared by hosts.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from moderator.errors import EnvironmentProblem, WorkspaceBusy

try:
    import fcntl
except ImportError:  # Windows has no flock; only taking a lease fails there
    fcntl = None  # type: ignore[assignment]

_PROBE_ALLOWANCE = 0.25  # seconds for which a lock may be held by somebody who only looks at it


@dataclass(frozen=True)
class Owner:
    """The process that holds, or last held, a lease.  `started` is in clock ticks since that host's boot."""

    host: str
    boot_id: str
    pid: int
    started: int

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class Lease:
    """A held lock.  `descriptor` may be given to children that must keep it."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor

    def release(self) -> None:
        """Give the lock back; a second call does nothing."""
        if self.descriptor >= 0:
            # Unlocked, not only closed: the supervisor may close its duplicate a moment later.
            with contextlib.suppress(OSError):
                fcntl.flock(self.descriptor, fcntl.LOCK_UN)
            os.close(self.descriptor)
            self.descriptor = -1

    def forget(self) -> None:
        """Take the lock's name away: what it protected is gone."""
        # While it is still locked: whoever opened it before sees that the name is gone and opens anew.
        if self.descriptor >= 0:
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()


def acquire(path: Path, what: str, patience: float = _PROBE_ALLOWANCE) -> Lease:
    """Take the lock at `path`, waiting `patience` seconds at most.

    Raises WorkspaceBusy naming `what` and the holder; EnvironmentProblem if the lock cannot be made at all.
    """
    deadline = time.monotonic() + patience
    while True:
        descriptor = _open(path)
        try:
            taken = _locked(descriptor, fcntl.LOCK_EX) and _still_named(path, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        if taken:
            with contextlib.suppress(OSError):  # a full disk: the lock holds, only its holder's name is missing
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, json.dumps(asdict(this_process())).encode(), 0)
            return Lease(path, descriptor)
        os.close(descriptor)
        if time.monotonic() >= deadline:
            owner = _written(path)
            raise WorkspaceBusy(
                f"{what} is held by {owner or 'another process'}",
                hint="wait until it has finished, or end it, and try again",
            )
        time.sleep(random.uniform(0.002, 0.02))


def holder(path: Path) -> Owner | None:
    """Return who holds the lock at `path` now, None if nobody does."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _no_lock(path, error) from error
    try:
        if _locked(descriptor, fcntl.LOCK_SH):  # those who only look do not meet each other
            return None
        return _written(path) or Owner("unknown", "", 0, 0)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def held(path: Path, what: str, patience: float) -> Iterator[Lease]:
    """Hold the lock at `path` for the length of a `with`."""
    lease = acquire(path, what, patience)
    try:
        yield lease
    finally:
        lease.release()


def _host() -> str:
    return os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")


@cache
def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def this_process() -> Owner:
    """Return what identifies this process, also after its pid has been given to another."""
    return Owner(_host(), _boot_id(), os.getpid(), _started(os.getpid()))


def is_alive(owner: Owner) -> bool:
    """Whether that very process still runs; of another host's nothing is known, so it counts as alive."""
    here = this_process()
    if owner.host != here.host:
        return True
    if owner.boot_id != here.boot_id:
        return False
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return _started(owner.pid) == owner.started


def _started(pid: int) -> int:
    try:
        # Field 22 of proc(5); the command name in field 2 may hold spaces and parentheses.
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
        return int(stat.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


def _open(path: Path) -> int:
    if fcntl is None:
        raise EnvironmentProblem("this system has no flock", hint="use Linux or macOS")
    for attempt in (1, 2):
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError as error:
            if attempt == 2:
                raise _no_lock(path, error) from error
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as refused:
                raise _no_lock(path, refused) from refused
        except OSError as error:
            raise _no_lock(path, error) from error
    raise AssertionError("unreachable")


def _locked(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.EAGAIN):
            return False
        raise EnvironmentProblem(
            "this file system cannot lock files", hint="put the repository on a local disk", cause=str(error)
        ) from error
    return True


def _still_named(path: Path, descriptor: int) -> bool:
    ours = os.fstat(descriptor)
    try:
        named = path.stat()
    except FileNotFoundError:
        return False
    return (ours.st_dev, ours.st_ino) == (named.st_dev, named.st_ino)


def _written(path: Path) -> Owner | None:
    try:
        return Owner(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def _no_lock(path: Path, error: OSError) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"the lock {str(path)!r} could not be made",
        hint="check permissions and space there",
        cause=str(error),
    )
