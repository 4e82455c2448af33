"""A directory for the temporary files of one attempt, under a name that is short enough for a socket's (unix(7): 108 bytes).

It is where the person's temporary files are, not in the repository's state: whoever calls git in a temporary directory must
not find a repository around it.  It goes with an attempt that succeeded, and with any that left nothing in it; otherwise it stays
for a time, for whoever looks for what went wrong, and is told.  A link in the state directory remembers it until it is gone, also
where the process that made it was killed.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from pathlib import Path

from moderator.git.trash import delete

_PREFIX = "moderator-"


def make_scratch(state_root: str, parent: str | None) -> str:
    """Return a new directory that is the person's alone, in `parent` or, without one, where temporary files go."""
    folder = tempfile.mkdtemp(prefix=_PREFIX, dir=parent if parent and os.path.isdir(parent) else None)
    folder = os.path.realpath(folder)
    link = _link_to(state_root, folder)
    try:
        link.parent.mkdir(parents=True, exist_ok=True)
        os.symlink(folder, link)
    except OSError:
        os.rmdir(folder)
        raise
    return folder


def end_scratch(state_root: str, folder: str, everything: bool) -> str:
    """Take the directory away, with `everything` or only if nothing is in it; return a note if it stays, "" if it is gone."""
    if everything:
        delete(folder)
    with contextlib.suppress(OSError):
        os.rmdir(folder)
    if os.path.lexists(folder):
        return f"its temporary files {'could not all be removed' if everything else 'stay for a time'}: {folder}"
    with contextlib.suppress(OSError):
        _link_to(state_root, folder).unlink()
    return ""


def sweep_scratch(state_root: str, days: float) -> None:
    """Take away what attempts of processes that have ended left so many days ago."""
    with contextlib.suppress(OSError):
        for link in Path(state_root, "scratch").iterdir():
            pid, _, name = link.name.partition("-")
            with contextlib.suppress(OSError, ValueError):
                if time.time() - link.lstat().st_mtime < days * 86400 or _runs(int(pid)):
                    continue
                folder = os.readlink(link)
                if os.path.basename(folder) == name and name.startswith(_PREFIX) and _is_own_folder(folder):
                    delete(folder)
                if not os.path.lexists(folder):
                    link.unlink()


def _link_to(state_root: str, folder: str) -> Path:
    return Path(state_root, "scratch", f"{os.getpid()}-{os.path.basename(folder)}")


def _is_own_folder(folder: str) -> bool:
    return os.path.isdir(folder) and not os.path.islink(folder) and os.stat(folder).st_uid == os.getuid()


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
