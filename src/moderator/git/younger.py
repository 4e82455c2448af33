"""Whether anything in a tree was changed later than a moment.

Asked of nothing but times of change (ctime), which no program can set.  Most of a large tree is walked through by find(1), one for
each core: that is several times faster than Python.  No find is simply believed: each has to tell of a file that is younger, after
all else, or Python looks itself.

Must not know what a worktree is, nor what the moment means.
"""

from __future__ import annotations

import collections
import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence

_ALONE = 1_000  # entries that Python looks at in less time than it takes to start other processes
_MOST_FINDS = 4
_LONGEST_ARGUMENTS = 100_000  # bytes: every system lets a process have as many


def is_anything_younger(tree: str, at: int, alone: int = _ALONE) -> bool:
    """Return whether anything below a directory was changed later than `at`, in nanoseconds; the directory's own `.git` apart.

    Links are not followed.  Other processes are asked once Python has looked at `alone` entries.  Raises OSError where
    somebody may not look.
    """
    folders, seen, helped = collections.deque([tree]), 0, True
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
        if helped and seen >= alone and len(folders) > 1:
            helped = False
            if (answer := _asked_of_others(folders, at)) is not None:
                return answer
    return False


def _asked_of_others(folders: Sequence[str], at: int) -> bool | None:
    """Return whether anything below these is younger, by find(1); None if there is none that can tell."""
    find = shutil.which("find") if os.name == "posix" else None
    if find is None or sum(len(os.fsencode(folder)) + 9 for folder in folders) > _LONGEST_ARGUMENTS:
        return None
    shares = min(_MOST_FINDS, os.cpu_count() or 1)
    with contextlib.ExitStack() as stack:
        try:
            moment = stack.enter_context(tempfile.NamedTemporaryFile(prefix="moderator-"))
            os.utime(moment.name, ns=(at, at))
            # What is looked at last is younger than its own time, so every one of them must tell of it, and of nothing else.
            finds = [
                stack.enter_context(_find([find, "-P", *some, moment.name], moment.name))
                for number in range(shares)
                if (some := list(folders)[number::shares])
            ]
            told = [(*one.communicate(), one.returncode) for one in finds]
        except OSError:
            return None
    if any(code or complaints for _, complaints, code in told):
        return None
    return any(found != os.fsencode(moment.name) + b"\n" for found, _, _ in told)


@contextlib.contextmanager
def _find(begin: Sequence[str], moment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a find that prints the first thing that is younger, and that does not outlive the `with`."""
    command = [*begin, "-newercm", moment, "-print", "-quit"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
