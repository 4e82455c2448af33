"""The walk through a tree that a survey is made of: here, or as a program of its own.

Python lets go of its lock at every file that is looked at, and of several threads that walk at once each then waits for the others:
together they take many times as long.  So in a process with threads a large tree is walked through by another process.  That has to
start in a moment, which is why this file imports nothing of the house.
"""

from __future__ import annotations

import os
import stat
import sys

Stamp = tuple[int, int, int, int]
"""Mode, inode, time of change in nanoseconds, size: a plain tuple, for there may be a million."""
Walk = tuple[dict[str, Stamp], list[str], list[str], list[str], list[str], list[str], list[str], int]
"""Stamps by path; then the paths of files and links, repositories, other kinds, empty folders, unread ones, young ones; bytes."""


def walk(tree: str, since: int) -> Walk:
    """Look at everything in a tree once; what any of it means says `Survey`.

    This is most of what a removal costs: a line more for each file is felt.
    """
    stamps: dict[str, Stamp] = {}
    files: list[str] = []
    nested: list[str] = []
    special: list[str] = []
    empty: list[str] = []
    unread: list[str] = []
    young: list[str] = []
    blocks = 0
    kind_of, folder_kind, file_kinds = stat.S_IFMT, stat.S_IFDIR, (stat.S_IFREG, stat.S_IFLNK)
    by_descriptor = os.scandir in os.supports_fd
    folders = [("", since)]
    while folders:
        inside, since_here = folders.pop()
        before, held = inside + os.sep if inside else "", len(stamps)
        opened: int | str
        try:
            opened = where = os.path.join(tree, inside)
            if by_descriptor:  # of what is found by a descriptor the system need not look for the folder again
                opened = os.open(where, os.O_RDONLY | os.O_DIRECTORY | (os.O_NOFOLLOW if inside else 0))
            try:
                with os.scandir(opened) as entries:
                    for entry in entries:
                        if (name := entry.name) == ".git":
                            if inside:
                                nested.append(inside)
                            held = -1
                            continue
                        try:
                            found = entry.stat(follow_symlinks=False)
                        except OSError:  # it has gone this moment, and the second look will tell
                            continue
                        path, mode, changed = before + name, found.st_mode, found.st_ctime_ns
                        stamps[path] = (mode, found.st_ino, changed, found.st_size)
                        blocks += found.st_blocks
                        if is_young := changed > since_here or found.st_mtime_ns > since_here:
                            young.append(path)
                        if (kind := kind_of(mode)) in file_kinds:
                            files.append(path)
                        elif kind == folder_kind:
                            folders.append((path, -1 if is_young else since))
                        else:
                            special.append(path)
            finally:
                if isinstance(opened, int):
                    os.close(opened)
        except OSError:
            unread.append(inside)
            continue
        if held == len(stamps) and inside:
            empty.append(inside)
    return stamps, files, nested, special, empty, unread, young, blocks * 512


def walked_apart(tree: str, since: int) -> Walk | None:
    """Return what `walk` does, found by another process; None if there can be none, or it did not do as it should."""
    import marshal
    import subprocess

    from moderator.git.helper import helper

    if not sys.executable:
        return None
    utf8 = ("-X", f"utf8={sys.flags.utf8_mode}")
    try:
        with helper([sys.executable, "-I", "-S", *utf8, __file__, tree, str(since)], subprocess.DEVNULL) as process:
            out, _ = process.communicate()
        encoding, found = marshal.loads(out) if process.returncode == 0 else ("", None)  # noqa: S302 - our own words
    except (OSError, EOFError, ValueError, TypeError):
        return None
    walked: Walk | None = found
    return walked if encoding == sys.getfilesystemencoding() else None


if __name__ == "__main__":
    import marshal

    marshal.dump((sys.getfilesystemencoding(), walk(sys.argv[1], int(sys.argv[2]))), sys.stdout.buffer)
