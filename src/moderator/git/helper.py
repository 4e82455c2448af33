"""A program that looks at files for us or deletes them, and does not outlive the moment, unless we are killed.

Git is started elsewhere (`command`).
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Sequence

from moderator import interruption


@contextlib.contextmanager
def helper(
    command: Sequence[str], complaints: int = subprocess.PIPE, descriptors: Sequence[int] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program whose output is read; it does not outlive the `with`, however that is left.

    The descriptors are kept open in it.  Raises OSError.
    """
    interruption.hold()
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints, pass_fds=descriptors
        )
    except BaseException:
        interruption.release()
        raise
    with process:
        try:
            interruption.release()
            yield process
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
