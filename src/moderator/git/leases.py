"""Who holds a workspace now: locks that the kernel frees when the last holder is gone.

A lease is a `flock` on a file of its own.  The descriptor is handed to git children and to the supervisor, never
to a task, so that the lease outlives a killed `moderator` for exactly as long as something of it still works in the
workspace.  On one machine the lock is the truth, whatever is written in the file.

What is written there, the holder (host, boot, pid, start time), is for people and for disks shared by machines whose
locks do not reach each other.  A lease that is given back leaves its file empty; a holder that died leaves its name.  The
name of this machine, in this boot or an earlier one, means nothing once the lock is free.  The name of another machine
means that nobody here can tell whether it still works there: the lease is not taken until a person says that it was
abandoned.  Boot ids tell a machine that changed its host name, as laptops do from network to network, from another one;
after a restart under another name nothing does, and the person's word is the way out.  Two machines that take a lease in
the same instant are not kept apart by this, and two of one name count as one.
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

from moderator.errors import EnvironmentProblem, WorkspaceBusy, to_type

try:
    import fcntl
except ImportError:  # Windows has no flock; only taking a lease fails there
    fcntl = None  # type: ignore[assignment]

_PROBE_ALLOWANCE = 0.25  # seconds for which a lock may be held by somebody who only looks at it
_LOOKS, _BETWEEN_LOOKS = 10, 0.01  # how often, seconds at most: whoever takes a lock writes its name right after
_LONGEST_NAME = 4096  # bytes of a lock file that are read
_NO_PID = 1 << 31


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
            with contextlib.suppress(OSError):
                os.ftruncate(self.descriptor, 0)  # while it is locked: later it may be the next holder's name
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


def acquire(path: Path, what: str, patience: float = _PROBE_ALLOWANCE, *, cure: str = "") -> Lease:
    """Take the lock at `path`, waiting `patience` seconds at most.

    `cure` is the command that a person types once another machine, whose name is in the way, is known to be gone.

    Raises WorkspaceBusy naming `what` and the holder; EnvironmentProblem if the lock cannot be made at all.
    """
    deadline = time.monotonic() + patience
    name = json.dumps(asdict(this_process())).encode()
    while True:
        descriptor = _open(path)
        try:
            taken = _locked(descriptor, fcntl.LOCK_EX) and _still_named(path, descriptor)
            owner = _written(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        if taken and not _is_foreign(owner):
            with contextlib.suppress(OSError):  # a full disk: the lock holds, only its holder's name is missing
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, name, 0)
            return Lease(path, descriptor)
        os.close(descriptor)
        if taken or time.monotonic() >= deadline:
            raise busy(what, owner, cure or to_type("rm", str(path)))
        time.sleep(random.uniform(0.002, 0.02))


def try_acquire(path: Path) -> Lease | None:
    """Take a lock that only this machine uses, at once; None if somebody has it.  No name is written: it is for many looks.

    Raises EnvironmentProblem if the lock cannot be made at all.
    """
    descriptor = _open(path)
    try:
        taken = _locked(descriptor, fcntl.LOCK_EX) and _still_named(path, descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    if taken:
        return Lease(path, descriptor)
    os.close(descriptor)
    return None


def busy(what: str, owner: Owner | None, cure: str) -> WorkspaceBusy:
    """Return what is said where a holder is in the way; `cure` as for `acquire`."""
    hint = "wait until it has finished, or end it, and try again"
    if _is_foreign(owner):
        hint = f"wait until it has finished; if that machine is gone: {cure}"
    return WorkspaceBusy(f"{what} is held by {owner or 'another process'}", hint=hint)


def abandon(path: Path, what: str, patience: float = _PROBE_ALLOWANCE) -> Owner | None:
    """Take another machine's name out of the lock at `path`, on a person's word that it is gone; return whose it was.

    None, and nothing is changed, if no other machine's is there.  Raises WorkspaceBusy if somebody holds the lock.
    """
    deadline = time.monotonic() + patience
    while (descriptor := _opened(path, os.O_RDWR)) is not None:
        try:
            if _locked(descriptor, fcntl.LOCK_EX):
                owner = _written(descriptor)
                if not _is_foreign(owner) or not _still_named(path, descriptor):
                    return None
                os.ftruncate(descriptor, 0)
                return owner
            if time.monotonic() >= deadline:
                owner = _written(descriptor)
                raise WorkspaceBusy(
                    f"{what} is held by {owner or 'another process'}, which works at it now",
                    hint="wait until it has finished, or end it, and try again",
                )
        except OSError as error:
            raise _no_lock(path, error) from error
        finally:
            os.close(descriptor)
        time.sleep(random.uniform(0.002, 0.02))
    return None


def holder(path: Path) -> Owner | None:
    """Return who holds the lock at `path` now, None if nobody does.  Another machine counts until it is `abandon`ed."""
    owner = None
    for _ in range(_LOOKS):
        descriptor = _opened(path, os.O_RDONLY)
        if descriptor is None:
            return None
        try:
            free = _locked(descriptor, fcntl.LOCK_SH)  # those who only look do not meet each other
            owner = _written(descriptor)
        finally:
            os.close(descriptor)
        if free:
            return owner if _is_foreign(owner) else None
        if owner and is_alive(owner):
            return owner
        # Taken a moment ago, and its holder's name is not in it yet; or a supervisor keeps it for one who died.
        time.sleep(random.uniform(0, _BETWEEN_LOOKS))
    return owner or Owner("unknown", "", 0, 0)


def _opened(path: Path, mode: int) -> int | None:
    """Open a lock file that is there; None if there is none."""
    if fcntl is None:
        raise EnvironmentProblem("this system has no flock", hint="use Linux or macOS")
    try:
        return os.open(path, mode | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _no_lock(path, error) from error


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
    """Whether that very process still runs; of another machine's nothing is known, so it counts as alive."""
    if _is_foreign(owner):
        return True
    if owner.boot_id != _boot_id():
        return False
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return _started(owner.pid) == owner.started


def _is_foreign(owner: Owner | None) -> bool:
    """Whether an owner is of another machine than this, as far as one can tell."""
    if owner is None or owner.host == _host():
        return False
    return not owner.boot_id or owner.boot_id != _boot_id()


_ENDED = -1  # of a process that only waits for its parent to notice


def _started(pid: int) -> int:
    try:
        # Field 22 of proc(5); the command name in field 2 may hold spaces and parentheses.
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        return int(stat[19]) if stat[0] not in "ZX" else _ENDED
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


def _written(descriptor: int) -> Owner | None:
    """Return the name that stands in a lock file; None if there is none, or something else, say half of one."""
    try:
        values = json.loads(os.pread(descriptor, _LONGEST_NAME, 0))
        owner = Owner(values["host"], values["boot_id"], values["pid"], values["started"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    kinds = (type(owner.host), type(owner.boot_id), type(owner.pid), type(owner.started))
    return owner if kinds == (str, str, int, int) and 0 < owner.pid < _NO_PID else None


def _no_lock(path: Path, error: OSError) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"the lock {str(path)!r} could not be made",
        hint="check permissions and space there",
        cause=str(error),
    )
