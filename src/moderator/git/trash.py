"""Out of sight in one step, deleted in many: trees and entries are renamed before anything of them goes.

A rename inside one file system is instant, whole and can be undone; a deletion is none of these.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from moderator.errors import EnvironmentProblem
from moderator.git.contents import printable
from moderator.git.deleting import FOLDER, delete_in
from moderator.git.entries import entry_dir, is_elsewhere
from moderator.git.mounts import mounts_in
from moderator.git.registry import Record
from moderator.git.repository import Repository

_TRASH, _TRASH_ELSEWHERE = ".trash", ".moderator-trash"
GARBAGE = ".deleting"
"""How the name of something ends that is only waiting to be deleted."""
TAKEN_OUT = ".carried" + GARBAGE
"""The same for what is taken out of a tree while that comes back to the pool, and is put back if it does not."""


def trash_of(record: Record) -> str:
    """Return where a record's tree goes: beside the workspaces, under a name that no task can have."""
    return os.path.join(trash_beside(record.path), record.mark)


def trash_beside(path: str) -> str:
    """Return the folder to which the trees of a workspace and of its neighbours go; among a person's it says whose it is."""
    return os.path.join(os.path.dirname(path), _TRASH_ELSEWHERE if is_elsewhere(path) else _TRASH)


def retired_of(repository: Repository, record: Record) -> str:
    """Return where a record's administrative directory goes."""
    return os.path.join(repository.ours, "trash", record.mark)


def into_garbage(path: str) -> str | None:
    """Rename something to a name that says it is to be deleted; None if it is not there."""
    garbage = path + GARBAGE
    try:
        os.rename(path, garbage)
    except FileNotFoundError:
        return None
    return garbage


def into_trash(record: Record) -> str:
    """Rename the tree to a place beside the workspaces: the same file system, so it is one step and can be undone."""
    trash = trash_of(record)
    try:
        rename_into(record.path, trash)
    except OSError as error:
        raise EnvironmentProblem(
            f"the directory {printable(record.path)!r} cannot be moved aside",
            hint="check permissions there; nothing was removed",
            cause=str(error),
        ) from error
    return trash


def retire_entry(repository: Repository, record: Record, entry: str) -> None:
    """Rename an administrative directory out of git's sight."""
    rename_into(entry, retired_of(repository, record))


def is_whole_in_trash(repository: Repository, record: Record) -> bool:
    """Whether both the tree and the administrative directory of a removed worktree are still there."""
    return os.path.isdir(trash_of(record)) and os.path.isdir(retired_of(repository, record))


def is_in_trash(repository: Repository, record: Record) -> bool:
    """Whether something of a removed worktree is still there."""
    if not record.path:
        return False
    places = (trash_of(record), retired_of(repository, record))
    return any(os.path.lexists(path) or os.path.lexists(path + GARBAGE) for path in places)


def enter_again(repository: Repository, record: Record) -> None:
    """Rename an administrative directory back into git's sight."""
    rename_into(retired_of(repository, record), entry_dir(repository, record))


def rename_into(source: str, target: str) -> None:
    """Rename to a place whose folder others take away while it is empty: `git worktree prune`, another removal."""
    for attempt in range(10):
        try:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.rename(source, target)
            return
        except (FileNotFoundError, FileExistsError):
            if attempt == 9 or not os.path.lexists(source) or os.path.lexists(target):
                raise


def delete(folder: str, stopped: Callable[[], bool] = lambda: False) -> bool:
    """Delete what was proven to hold nothing of its own; return whether all of it is gone.

    What cannot be deleted stays, and so does what is left when `stopped` says so: the rest can go later.
    Nothing is deleted through a symbolic link that took the place of one of our folders, nor where something is mounted: these
    lead to somebody else's files.
    """
    if stopped() or leads_elsewhere(os.path.dirname(folder)) or mounts_in(folder):
        return not os.path.lexists(folder)
    if os.path.islink(folder) or not os.path.isdir(folder):
        with contextlib.suppress(OSError):
            os.unlink(folder)
        return not os.path.lexists(folder)
    with contextlib.suppress(OSError, RecursionError):
        above = os.open(os.path.dirname(folder), FOLDER)
        try:
            delete_in(above, os.path.basename(folder), stopped)
        finally:
            os.close(above)
    return not os.path.lexists(folder)


def tidy_trash_beside(path: str) -> None:
    """Take the folder of the trash beside a workspace away if nothing is in it."""
    with contextlib.suppress(OSError):
        os.rmdir(trash_beside(path))


def leads_elsewhere(folder: str) -> bool:
    """Whether one of our folders, or the one that it is in, is a symbolic link."""
    return os.path.islink(folder) or os.path.islink(os.path.dirname(folder))
