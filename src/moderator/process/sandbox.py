"""A command around a command, so that it can write only where it is told.

`bwrap` (bubblewrap) shows the command the same file system read-only, but for the given directories.  It keeps accidents
in, a `cd` too far or a path into the main checkout; it is no jail for somebody who wants out.  Reading, the network and
other processes are not restricted.  Must not know which directories a task needs: that is said to it.

What is on purpose not asked of `bwrap`: a process namespace of its own, in which nobody could find the command's processes
to end them, and to die with its parent, which would take from them the time between SIGTERM and SIGKILL.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence

from moderator.errors import ConfigurationError, EnvironmentProblem

NONE, BWRAP = "none", "bwrap"
_PATIENCE = 10.0  # seconds for the first try
_READ_ONLY = ("--ro-bind", "/", "/", "--dev-bind", "/dev", "/dev", "--bind", "/proc", "/proc")
# With it, root's command could make everything writable again by accident of a mount; nobody else has it anyway.
_UNABLE_TO_MOUNT = ("--cap-drop", "CAP_SYS_ADMIN")


def find_sandbox(kind: str) -> str:
    """Return the program that makes sandboxes of this kind, "" for "none".

    Raises EnvironmentProblem unless it is installed and works here: it is tried once.  ConfigurationError for another kind.
    """
    if kind == NONE:
        return ""
    if kind != BWRAP:
        raise ConfigurationError(f"sandbox must be none or bwrap, not {kind!r}", hint="set sandbox: none, or bwrap")
    program = shutil.which("bwrap")
    if program is None:
        raise EnvironmentProblem(
            "sandbox: bwrap is set, and bubblewrap is not installed",
            hint="apt-get install bubblewrap, or set sandbox: none",
        )
    program = os.path.abspath(program)
    try:
        tried = subprocess.run(
            sandboxed(["true"], (), program=program),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
        )
        said = tried.stderr.decode("utf-8", "replace").strip() or f"exit code {tried.returncode}"
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _does_not_work(program, str(error)) from error
    if tried.returncode:
        raise _does_not_work(program, said)
    return program


def _does_not_work(program: str, cause: str) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"sandbox: bwrap is set, and {program} does not work here",
        hint="let it make user namespaces (in a container and on some systems they are switched off), or set sandbox: none",
        cause=cause,
    )


def sandboxed(
    command: Sequence[str],
    writable: Iterable[str],
    *,
    program: str = "bwrap",
    directory: str = "",
    scratch: str = "",
) -> list[str]:
    """Return the command that runs `command` in `directory` with nothing writable but these directories.

    They must exist, and be absolute without symbolic links; `scratch` is one more, for TMPDIR.  A program that does not
    exist is told by `bwrap`, with exit code 1.

    >>> sandboxed(["make"], ["/w/t", "/r/.git/objects"], directory="/w/t", scratch="/s/tmp")[-11:]
    ['/s/tmp', '--bind', '/w/t', '/w/t', '--chdir', '/w/t', '--setenv', 'TMPDIR', '/s/tmp', '--', 'make']
    """
    places = sorted({*writable, *([scratch] if scratch else [])})
    outermost = [
        one for one in places if not any(one.startswith(os.path.join(other, "")) for other in places if other != one)
    ]
    around = [program, *_READ_ONLY, *_UNABLE_TO_MOUNT]
    for place in outermost:
        around += ("--bind", place, place)
    if directory:
        around += ("--chdir", directory)
    if scratch:
        around += ("--setenv", "TMPDIR", scratch)
    return [*around, "--", *command]
