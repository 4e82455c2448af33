"""The deletion of a tree: here, or as a program of its own.

Python lets go of its lock at every file, and threads that delete at once wait for each other: two take as long as one after the
other, and three times the work.  So what is large is deleted by another process, which starts in a moment: this file imports
nothing of the house.

Must not know what may be deleted.
"""

from __future__ import annotations

import contextlib
import math
import os
import stat
import sys
from collections.abc import Callable

FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_MANY = 3_000
"""Files from which another process is worth its start."""
_GLANCE = 0.1  # seconds between looks whether it is to end


class Deletion:
    """Deletes until `stopped` says so, and no more than so many files."""

    def __init__(self, stopped: Callable[[], bool] = lambda: False, most: float = math.inf) -> None:
        self._stopped = stopped
        self._left = most

    def empty(self, opened: int) -> bool:
        """Delete what is in an opened directory; return whether that went to its end, though something may not have gone.

        By descriptors, never by names: a directory that becomes a link meanwhile is not entered.  Raises OSError.
        """
        with os.scandir(opened) as found:
            entries = list(found)
        for entry in entries:
            if self._left <= 0 or self._stopped():
                return False
            with contextlib.suppress(OSError):
                if not entry.is_dir(follow_symlinks=False):
                    self._left -= 1
                    os.unlink(entry.name, dir_fd=opened)
                    continue
                inside = _entered(opened, entry.name)  # one call for each level: there may be hundreds
                try:
                    whole = self.empty(inside)
                finally:
                    os.close(inside)
                if not whole:
                    return False
                os.rmdir(entry.name, dir_fd=opened)
        return True


def delete_in(above: int, name: str, stopped: Callable[[], bool] = lambda: False) -> None:
    """Delete a directory of an opened one, as far as a `Deletion` goes; most of a large one by another process.

    Raises OSError, also where not all of it could be deleted; RecursionError.
    """
    opened = _entered(above, name)
    try:
        whole = Deletion(stopped, _MANY).empty(opened)
        if not whole and not stopped() and not _emptied_apart(opened, stopped):
            Deletion(stopped).empty(opened)
    finally:
        os.close(opened)
    os.rmdir(name, dir_fd=above)


def _emptied_apart(opened: int, stopped: Callable[[], bool]) -> bool:
    """Let another process delete what is in an opened directory; return whether there was one that went as far as it was let.

    It has the directory itself, not its name, and ends when we do: what comes to be there later is not its business.
    """
    import subprocess

    from moderator.git.helper import helper

    if not sys.executable or os.name != "posix":
        return False
    command = [sys.executable, "-I", "-S", __file__, str(opened), str(os.getpid())]
    try:
        with helper(command, subprocess.DEVNULL, (opened,)) as process:
            while process.poll() is None:
                if stopped():
                    return True
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_GLANCE)
            return process.returncode <= 0  # somebody ended it: Ctrl-C reaches it too
    except OSError:
        return False


def _entered(above: int, name: str) -> int:
    """Open a directory, made writable for its owner: read-only ones refuse the deletion of their files."""
    try:
        opened = os.open(name, FOLDER, dir_fd=above)
    except PermissionError:  # not even readable
        if not stat.S_ISDIR(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode):
            raise
        os.chmod(name, 0o700, dir_fd=above)
        opened = os.open(name, FOLDER, dir_fd=above)
    if os.fstat(opened).st_mode & 0o700 != 0o700:
        with contextlib.suppress(OSError):
            os.fchmod(opened, 0o700)
    return opened


if __name__ == "__main__":
    Deletion(lambda: os.getppid() != int(sys.argv[2])).empty(int(sys.argv[1]))
