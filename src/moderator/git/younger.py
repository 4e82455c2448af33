"""Whether anything in a tree was changed later than a moment, and in which of many.

Asked of nothing but times of change (ctime), which no program can set.  Most of a large tree is walked through by find(1), one for
each core: that is several times faster than Python.  No find is simply believed: one that has not shown that it compares these
times to the nanosecond is not asked, and each has to tell of a file that is younger, and of nothing else, or Python looks itself.

Must not know what a worktree is, nor what the moment means.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence

from moderator.git.helper import helper

_ALONE = 1_000  # entries that Python looks at in less time than it takes to start other processes
_MOST_FINDS = 4
_LONGEST_ARGUMENTS = 100_000  # bytes: every system lets a process have as many
_TICK = 0.02  # seconds after which the clock of a file system has moved on
_SECOND = 10**9  # nanoseconds


def is_anything_younger(tree: str, at: int, alone: int = _ALONE, programs: str = os.defpath) -> bool:
    """Return whether anything below a directory was changed later than `at`, in nanoseconds; the directory's own `.git` apart.

    Links are not followed.  Once Python has looked at `alone` entries, the find that stands in one of the directories `programs`
    is asked; not one of PATH, where anybody may have put something.  Raises OSError where somebody may not look.
    """
    folders, seen, may_ask = collections.deque([tree]), 0, True
    while folders:
        # The nearest first: then those that are left are many, and alike in size, when they are shared out.
        folder = folders.popleft()
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.stat(follow_symlinks=False).st_ctime_ns > at and not (entry.name == ".git" and folder == tree):
                    return True
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                seen += 1
        if may_ask and seen >= alone and len(folders) > 1:
            may_ask = False
            if (answer := _asked_of_others(folders, at, programs)) is not None:
                return answer
    return False


def younger_among(trees: Sequence[str], at: int, programs: str = os.defpath) -> set[str]:
    """Return those of some trees that changed later than `at`, in nanoseconds, or may have; their own `.git` files apart.

    One find for all of them, where there is one that can be believed.  Otherwise Python looks, and of a tree in which somebody may
    not look, or that is gone, nobody can tell.
    """
    told = _told_by_finds([list(trees)], at, programs)
    if told is None:
        return {tree for tree in trees if _may_be_younger(tree, at, programs)}
    known = {os.fsencode(tree): tree for tree in trees}
    pointers = {os.path.join(name, b".git") for name in known}
    found, last = set[str](), b"\0"
    for path in told:
        if path in pointers or path.startswith(last):  # of one tree there may be many
            continue
        name = path
        while name not in known and name != os.path.dirname(name):
            name = os.path.dirname(name)
        if name not in known:
            return set(trees)
        found.add(known[name])
        last = os.path.join(name, b"")
    return found


def _may_be_younger(tree: str, at: int, programs: str) -> bool:
    try:
        return os.lstat(tree).st_ctime_ns > at or is_anything_younger(tree, at, programs=programs)
    except OSError:
        return True


def _asked_of_others(folders: Sequence[str], at: int, programs: str) -> bool | None:
    """Return whether anything below these is younger, by find(1); None if there is none that can tell."""
    shares = min(_MOST_FINDS, os.cpu_count() or 1)
    told = _told_by_finds([list(folders)[number::shares] for number in range(shares)], at, programs)
    return None if told is None else bool(told)


def _told_by_finds(shares: Sequence[Sequence[str]], at: int, programs: str) -> list[bytes] | None:
    """Return the paths of what is younger in some folders, themselves included, by a find for each share of them.

    None if there is none that can tell.
    """
    find = shutil.which("find", path=programs) if os.name == "posix" else None
    longest = max(sum(len(os.fsencode(folder)) + 9 for folder in some) for some in shares)
    if find is None or longest > _LONGEST_ARGUMENTS:
        return None
    try:
        if not _compares(find):
            return None
        with contextlib.ExitStack() as stack:
            moment = stack.enter_context(tempfile.NamedTemporaryFile(prefix="moderator-")).name
            os.utime(moment, ns=(at, at))
            if os.stat(moment).st_mtime_ns > at:
                return None
            finds = [stack.enter_context(_find(find, some, moment)) for some in shares if some]
            told = [(*one.communicate(), one.returncode) for one in finds]
    except OSError:
        return None
    paths: list[bytes] = []
    for said, complaints, code in told:
        # The file is younger than its own time, so every one of them must tell of it, and last: it is asked of last.
        before, mark, after = said.rpartition(os.fsencode(moment) + b"\0")
        if code or complaints or after or not mark or (before and not before.endswith(b"\0")):
            return None
        paths += before.split(b"\0")[:-1]
    return paths


@functools.cache
def _compares(find: str) -> bool:
    """Return whether a find tells of what was changed, but not of what was not, by less than a second.  Raises OSError."""
    with tempfile.TemporaryDirectory(prefix="moderator-") as folder:
        tree, moment = os.path.join(folder, "tree"), os.path.join(folder, "moment")
        os.mkdir(tree)
        old, new = (os.path.join(tree, name) for name in ("old", "new"))
        changed = at = 0
        while changed // _SECOND != at // _SECOND or not at:
            for path in (old, new, moment):
                with open(path, "wb"):
                    pass
            at = max(os.stat(path).st_ctime_ns for path in (tree, old, new))
            deadline = time.monotonic() + _TICK
            while (changed := os.stat(new).st_ctime_ns) <= at:
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.0005)
                os.utime(new)
        os.utime(moment, ns=(at, at))
        with _find(find, [tree], moment) as process:
            said, _ = process.communicate()
    return said == b"".join(os.fsencode(path) + b"\0" for path in (new, moment))


def _find(find: str, folders: Sequence[str], moment: str) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    """Start a find that prints what is younger, the file itself that says when last."""
    return helper([find, "-P", *folders, moment, "-newercm", moment, "-print0"])
