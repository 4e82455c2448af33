"""Out of sight in one step, deleted in many: trees and entries are renamed before anything of them goes.

A rename inside one file system is instant, whole and can be undone; a deletion is none of these.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile

from moderator.errors import EnvironmentProblem
from moderator.git.contents import Worktree, printable
from moderator.git.entries import ASIDE
from moderator.git.registry import Record
from moderator.git.repository import Repository

_TRASH = ".trash"


def trash_of(record: Record) -> str:
    """Return where a record's tree goes: beside the workspaces, under a name that no task can have."""
    return os.path.join(os.path.dirname(record.path), _TRASH, record.entry)


def retired_of(repository: Repository, record: Record) -> str:
    """Return where a record's administrative directory goes."""
    return os.path.join(repository.ours, "trash", record.entry)


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


def foreign_files(repository: Repository, tree: str, commit: str) -> list[str]:
    """Return the files in a half-made tree that a checkout of the commit cannot have put there."""
    listed = set(repository.git("ls-tree", "-r", "-z", "--name-only", "--full-tree", commit).fields)
    return [
        path
        for where, _, names in os.walk(tree)
        for name in names
        if (path := os.path.relpath(os.path.join(where, name), tree)) not in listed and path not in (".git", ASIDE)
    ]


def changed_files(repository: Repository, tree: str, commit: str) -> list[str]:
    """Return the files in a tree that are not as in the commit; those that are not there at all do not count."""
    with tempfile.TemporaryDirectory(prefix="moderator-") as folder:
        private = {"GIT_INDEX_FILE": os.path.join(folder, "index")}
        worktree = Worktree(tree, repository.common)
        worktree.git("read-tree", commit, env=private)
        worktree.git("update-index", "-q", "--refresh", env=private, accept=(0, 1))
        return worktree.git("diff-files", "-z", "--name-only", "--diff-filter=d", env=private).fields


def delete(folder: str) -> None:
    """Delete what was proven to hold nothing of its own.  What cannot be deleted stays in the trash."""

    def writable_again(_function: object, path: str, _error: object) -> None:
        # Read-only directories refuse the deletion of their files.
        with contextlib.suppress(OSError):
            os.chmod(os.path.dirname(path), 0o700)
            if os.path.islink(path) or not os.path.isdir(path):
                os.unlink(path)
            else:
                os.chmod(path, 0o700)
                shutil.rmtree(path, ignore_errors=True)

    if os.path.lexists(folder):
        shutil.rmtree(folder, onerror=writable_again)
