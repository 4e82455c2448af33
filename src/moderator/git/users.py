"""Which processes are at work in a directory: those that stand in it, and those that have something of it open."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

_PROC = "/proc"
_WRITTEN, _FOLDER, _READ = "written", "folder", "read"


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


def hands_in(path: str) -> tuple[bool, bool]:
    """Return whether another process has a directory in `path` open, and whether one has a file open, or mapped, for writing.

    Either can write there without any path, wherever it is by then; looked into are those that `processes_using` looks into.
    """
    inside = os.path.realpath(path)
    found = set[str]()
    if os.path.isdir(f"{_PROC}/self"):
        for pid in _others():
            with contextlib.suppress(OSError):
                found |= set(_open_in(pid, inside))
                if _maps(pid, inside, writing=True):
                    found.add(_WRITTEN)
    return _FOLDER in found, _WRITTEN in found


def _has_open(pid: int, inside: str) -> bool:
    return next(_open_in(pid, inside), None) is not None


def _open_in(pid: int, inside: str) -> Iterator[str]:
    """Yield what kind of thing each is that a process has open there."""
    for name in os.listdir(f"{_PROC}/{pid}/fd"):
        with contextlib.suppress(OSError, ValueError):
            if not _within(os.readlink(f"{_PROC}/{pid}/fd/{name}"), inside):
                continue
            with open(f"{_PROC}/{pid}/fdinfo/{name}", encoding="ascii") as told:  # flags: octal, proc(5)
                flags = int(next((line.split()[1] for line in told if line.startswith("flags:")), "0"), 8)
            if flags & (os.O_WRONLY | os.O_RDWR):
                yield _WRITTEN
            else:
                yield _FOLDER if os.path.isdir(f"{_PROC}/{pid}/fd/{name}") else _READ


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
