"""A process that is left behind on purpose: of low priority, without a terminal, and nobody waits for it."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Sequence

_LOW = ("nice", "-n", "15")  # nice(1) of POSIX


def leave_behind(command: Sequence[str], cwd: str) -> None:
    """Start a command in a session of its own and forget it.  One that cannot be started is passed over."""
    with contextlib.suppress(OSError), open(os.devnull, "r+b") as nothing:
        child = subprocess.Popen(
            [*_LOW, *command], cwd=cwd, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True
        )
        # Not ours to reap: it will outlive us, and until then nobody is to be warned that it runs.
        child.returncode = 0
