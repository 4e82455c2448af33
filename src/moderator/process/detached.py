"""A process that is left behind on purpose: of low priority, without a terminal, and nobody waits for it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

_LOW = ("nice", "-n", "15")  # nice(1) of POSIX
_IDLE = ("ionice", "-c", "3")  # ionice(1) of Linux: the disk is everybody else's first
_FORGOTTEN = ("sh", "-c", '"$@" &', "sh")
"""The shell ends at once, so that the process is the system's to reap and no child of ours."""


def leave_behind(command: Sequence[str], cwd: str) -> None:
    """Start a command in a session of its own and forget it.  One that cannot be started is passed over."""
    low = (*_LOW, *(_IDLE if shutil.which(_IDLE[0]) else ()))
    with contextlib.suppress(OSError), open(os.devnull, "r+b") as nothing:
        subprocess.run(
            [*_FORGOTTEN, *low, *command],
            cwd=cwd, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True, check=False,
        )  # fmt: skip


def leave_moderator_behind(repository: str, *arguments: str) -> None:
    """Let a `moderator` of its own do something in a repository, after whoever calls has ended too."""
    leave_behind([sys.executable, "-m", "moderator", *arguments, "--repo", repository], os.sep)
