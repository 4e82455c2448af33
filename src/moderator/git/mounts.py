"""What is mounted below a directory: files of somebody else's, which are no part of any workspace."""

from __future__ import annotations

import os
import re

_ESCAPED = re.compile(rb"\\([0-7]{3})")
_TABLE = "/proc/self/mountinfo"


def mounts_in(folder: str) -> list[str]:
    """Return the places below a directory, itself included, at which another file system or directory is mounted."""
    inside = os.path.realpath(folder)
    return [place for place in _mounted() if place == inside or place.startswith(inside + os.sep)]


def _mounted() -> list[str]:
    try:
        with open(_TABLE, "rb") as table:
            # Id, parent, device, root, place, ...; blanks and the like are written as octal numbers.
            return [os.fsdecode(_ESCAPED.sub(_unescaped, line.split(b" ", 5)[4])) for line in table]
    except OSError:
        import psutil  # only where there is no /proc

        return [one.mountpoint for one in psutil.disk_partitions(all=True)]


def _unescaped(found: re.Match[bytes]) -> bytes:
    return bytes([int(found[1], 8)])
