"""What is mounted below a directory, files of somebody else's, which are no part of any workspace; and what a file system is."""

from __future__ import annotations

import os
import re

_ESCAPED = re.compile(rb"\\([0-7]{3})")
_TABLE = "/proc/self/mountinfo"
_LOCAL = frozenset("bcachefs btrfs ext2 ext3 ext4 f2fs jfs overlay tmpfs xfs zfs".split())
"""File systems that nobody but this machine's own kernel writes to, and so by one clock."""


def mounts_in(folder: str) -> list[str]:
    """Return the places below a directory, itself included, at which another file system or directory is mounted."""
    inside = os.path.realpath(folder)
    return [place for place in _mounted() if place == inside or place.startswith(inside + os.sep)]


def is_local(folder: str) -> bool:
    """Whether a directory is on a file system that this machine alone writes to; False where that cannot be told."""
    inside = os.path.realpath(folder)
    try:
        mounted = _listed()
    except OSError:
        return False
    # Of two at one place the later one covers the other.
    over = [
        (len(place), number)
        for number, (place, _) in enumerate(mounted)
        if f"{inside}/".startswith(f"{place.rstrip('/')}/")
    ]
    return bool(over) and mounted[max(over)[1]][1] in _LOCAL


def _listed() -> list[tuple[str, str]]:
    """Return the places at which something is mounted, and the kinds of file systems.  Raises OSError."""
    with open(_TABLE, "rb") as table:
        # Id, parent, device, root, place, ..., -, kind, ...; blanks and the like are written as octal numbers.
        fields = [line.split(b" ") for line in table]
    return [(os.fsdecode(_ESCAPED.sub(_unescaped, one[4])), os.fsdecode(one[one.index(b"-", 6) + 1])) for one in fields]


def _mounted() -> list[str]:
    try:
        return [place for place, _ in _listed()]
    except OSError:
        import psutil  # only where there is no /proc

        return [one.mountpoint for one in psutil.disk_partitions(all=True)]


def _unescaped(found: re.Match[bytes]) -> bytes:
    return bytes([int(found[1], 8)])
