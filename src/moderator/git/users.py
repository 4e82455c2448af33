"""Which processes are at work in a directory: those that stand in it, and those that have something of it open."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

_PROC = "/proc"


def processes_in(path: str) -> Iterator[int]:
    """Yield the processes, other than this one, whose current directory is in `path`."""
    inside = os.path.realpath(path)
    if os.path.isdir(f"{_PROC}/self"):
        for pid in _others():
            with contextlib.suppress(OSError):
                if _within(os.readlink(f"{_PROC}/{pid}/cwd"), inside):
                    yield pid
        return
    import psutil  # only where there is no /proc

    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if _within(process.cwd(), inside) and process.pid != os.getpid():
                yield process.pid


def processes_using(path: str) -> Iterator[int]:
    """Yield the processes, other than this one, that stand in `path`, or have a file or directory in it open or mapped.

    Only of processes that we may look into: those of the same user.
    """
    inside = os.path.realpath(path)
    if not os.path.isdir(f"{_PROC}/self"):
        yield from processes_in(path)
        return
    for pid in _others():
        with contextlib.suppress(OSError):
            if _within(os.readlink(f"{_PROC}/{pid}/cwd"), inside) or _has_open(pid, inside) or _maps(pid, inside):
                yield pid


def writers_in(path: str) -> Iterator[int]:
    """Yield the processes, other than this one, that have a file in `path` open or mapped for writing, as `processes_using`."""
    inside = os.path.realpath(path)
    if os.path.isdir(f"{_PROC}/self"):
        for pid in _others():
            with contextlib.suppress(OSError):
                if _has_open(pid, inside, writing=True) or _maps(pid, inside, writing=True):
                    yield pid


def _has_open(pid: int, inside: str, writing: bool = False) -> bool:
    for name in os.listdir(f"{_PROC}/{pid}/fd"):
        with contextlib.suppress(OSError, ValueError):
            if _within(os.readlink(f"{_PROC}/{pid}/fd/{name}"), inside):
                if not writing:
                    return True
                with open(f"{_PROC}/{pid}/fdinfo/{name}", encoding="ascii") as told:  # flags: octal, proc(5)
                    flags = next((line.split()[1] for line in told if line.startswith("flags:")), "0")
                if int(flags, 8) & (os.O_WRONLY | os.O_RDWR):
                    return True
    return False


def _maps(pid: int, inside: str, writing: bool = False) -> bool:
    prefix = os.fsencode(inside) + b"/"
    with open(f"{_PROC}/{pid}/maps", "rb") as maps:
        # address permissions offset device inode path
        return any(prefix in line and (not writing or line.split(b" ", 2)[1] == b"rw-s") for line in maps)


def _others() -> Iterator[int]:
    own = os.getpid()
    return (pid for pid in map(int, filter(str.isdigit, os.listdir(_PROC))) if pid != own)


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + os.sep)
