"""A process of our own making: noticing its end without giving up its process id.

Must not know why it runs.  As long as a child is not reaped its id, which is also that of its group and session,
cannot become somebody else's; so its end is looked at with WNOWAIT and it is reaped when nothing is left to be done.
"""

from __future__ import annotations

import os
import subprocess


def open_pidfd(pid: int) -> int | None:
    """Return a descriptor that stands for the process and becomes readable when it ends: pidfd_open(2).

    None where there are none: not Linux, older than 5.3, or forbidden.  Raises ProcessLookupError if it is gone.
    """
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except OSError:
        return None


def has_ended(child: subprocess.Popen[bytes]) -> bool:
    """Return whether the child has ended, without waiting and, where the system can, without reaping it."""
    if child.returncode is not None:
        return True
    if not hasattr(os, "waitid"):  # macOS before Python 3.13
        return child.poll() is not None
    try:
        return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def pipe_names(child: subprocess.Popen[bytes]) -> list[str]:
    """Return the names of the pipes that are its output, as /proc shows them: `pipe:[inode]`."""
    pipes = (child.stdout, child.stderr)
    return [f"pipe:[{os.fstat(pipe.fileno()).st_ino}]" for pipe in pipes if pipe is not None]
