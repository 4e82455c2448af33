"""Files in whose place anything may stand: opened without ever waiting for somebody else.

People, or what they wrote, name some of them; others a task could replace.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from typing import BinaryIO

_OUR_OWN = re.compile(r"/dev/stdin|(/dev|/proc/self)/fd/[0-9]+")
"""What was handed to this process opened: `moderator run /dev/stdin`, and the `<(...)` of a shell."""


def opened(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a plain file to read it; the empty device is one with nothing in it.

    A pipe that nobody writes to, or a terminal, would be waited for: such a thing is refused wherever it stands, behind a link
    too, but for one that this process was started with and that is named as such.

    Raises OSError, for what is no plain file too, and ValueError for a name that no file can have.
    """
    if _OUR_OWN.fullmatch(os.fspath(path)):
        return open(path, "rb")
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        empty = stat.S_ISCHR(found.st_mode) and found.st_rdev == os.stat(os.devnull).st_rdev
        if not (stat.S_ISREG(found.st_mode) or empty):
            raise OSError(errno.EINVAL, "it is a pipe or a device, not a file", os.fspath(path))
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def content(path: str | os.PathLike[str]) -> bytes:
    """Return what a plain file holds.  Raises what `opened` does."""
    with opened(path) as file:
        return file.read()
