"""To what a file system gives a new time of change (ctime): tried out, once for each, before anything hangs on it.

No program can set that time, so it tells what was written since; but not all that can be mounted keeps it as POSIX wants.
"""

from __future__ import annotations

import functools
import mmap
import os
import tempfile
import time

from moderator.git.trash import GARBAGE

_TICK = 0.02  # seconds after which the clock of a file system has moved on; coarser ones count as none


@functools.cache
def dates_changes(folder: str, device: int) -> bool:  # noqa: ARG001 - the answer is the file system's
    """Return whether what is written to a file dates it, and a name that comes or goes the directory that it is in.

    Tried out in `folder`, where a directory is made and deleted.  Raises OSError.
    """
    with tempfile.TemporaryDirectory(suffix=GARBAGE, dir=folder) as there:
        folders = [os.path.join(there, name) for name in ("from", "to")]
        for one in folders:
            os.mkdir(one)
        moved, kept = (os.path.join(one, "file") for one in folders)
        with open(moved, "wb", buffering=0) as file:
            before = [os.fstat(file.fileno()).st_ctime_ns, *(os.stat(one).st_ctime_ns for one in folders)]
            deadline = time.monotonic() + _TICK
            while os.fstat(file.fileno()).st_ctime_ns <= before[0]:
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.0005)
                file.write(b"?")
        os.rename(moved, kept)
        return all(os.stat(one).st_ctime_ns > was for one, was in zip(folders, before[1:], strict=True))


@functools.cache
def dates_mappings(folder: str, device: int) -> bool:  # noqa: ARG001 - the answer is the file system's
    """Return whether what is written through a mapping of a page that was only read before dates the file.  Raises OSError."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"?")
        file.flush()
        with mmap.mmap(file.fileno(), 1) as mapping:
            before = (mapping[0], os.fstat(file.fileno()).st_ctime_ns)
            time.sleep(_TICK)
            mapping[0] = before[0] + 1
            return os.fstat(file.fileno()).st_ctime_ns > before[1]
