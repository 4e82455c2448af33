"""A directory for the temporary files of one attempt, under a name that is short enough for a socket's (unix(7): 108 bytes).

It goes with an attempt that succeeded, and with any that left nothing in it; otherwise it stays, for whoever looks for what went
wrong, and is told.
"""

from __future__ import annotations

import contextlib
import os
import tempfile

from moderator.git.trash import delete


def make_scratch(parent: str | None) -> str:
    """Return a new directory that is the person's alone, in `parent` or, without one, where temporary files go."""
    if parent and os.path.isdir(parent):
        with contextlib.suppress(OSError):
            return tempfile.mkdtemp(prefix="moderator-", dir=os.path.abspath(parent))
    return tempfile.mkdtemp(prefix="moderator-")


def end_scratch(folder: str, everything: bool) -> str:
    """Take the directory away, with `everything` or only if nothing is in it; return a note if it stays, "" if it is gone."""
    if everything:
        delete(folder)
    with contextlib.suppress(OSError):
        os.rmdir(folder)
    if not os.path.lexists(folder):
        return ""
    return f"its temporary files {'could not all be removed' if everything else 'stay'}: {folder}"
