"""The few changes the doctor makes.  Each is made under a lock, after a second look, and takes nothing away for good.

What is replaced is set aside first, below the trash; files of a working tree are never written, moved or removed.
"""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path

from moderator.errors import EnvironmentProblem, PersonNeeded
from moderator.git import leases
from moderator.git.contents import printable
from moderator.git.entries import ASIDE, entry_dir, files_of_entry, link_to_tree, names, pointer_to, points_at
from moderator.git.registry import Record
from moderator.git.repository import Repository
from moderator.git.trash import rename_into
from moderator.opening import content

_PATIENCE = 10.0  # seconds to wait for the repository lock


def set_aside(repository: Repository, path: str, kind: str) -> str:
    """Rename what stands at `path` into the trash and return its new place."""
    name = f"{os.path.basename(path)}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(4)}"
    target = str(repository.ours / "trash" / kind / name)
    rename_into(path, target)
    return target


def replace_file(path: str, text: str, aside: str) -> None:
    """Write a file whole, or not at all; `aside` is its name until then, on the same file system."""
    with open(aside, "wb") as file:
        file.write(os.fsencode(text))
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)


def point_to_entry(repository: Repository, record: Record) -> None:
    """Write the `.git` file of a record's tree anew, where the entry names the tree and the old file leads nowhere."""
    entry, pointer = entry_dir(repository, record), os.path.join(record.path, ".git")
    if not names(entry, record.path):
        raise PersonNeeded("the entry does not name this tree")
    if os.path.lexists(pointer):
        aside = os.path.join(repository.ours, "trash", "pointers", f"{record.entry}-{secrets.token_hex(4)}")
        os.makedirs(os.path.dirname(aside), exist_ok=True)
        Path(aside).write_bytes(content(pointer))  # may be another file system, so no rename
    replace_file(pointer, os.fsdecode(pointer_to(repository, record.path, entry)), os.path.join(record.path, ASIDE))


def point_to_tree(repository: Repository, record: Record) -> None:
    """Write the `gitdir` file of a record's entry anew, where the tree names the entry."""
    entry = entry_dir(repository, record)
    if not points_at(record.path, entry):
        raise PersonNeeded("the tree does not name this entry")
    write_in_entry(entry, "gitdir", link_to_tree(repository, record))


def write_in_entry(entry: str, name: str, text: str) -> None:
    """Write one of the files of an administrative directory anew."""
    replace_file(os.path.join(entry, name), text + "\n", os.path.join(entry, f"{name}.new"))


def rebuild_index(repository: Repository, record: Record, commit: str) -> None:
    """Give a worktree an index that says what the commit holds: its files are not touched, what was staged is changed now."""
    entry = entry_dir(repository, record)
    index, aside = os.path.join(entry, "index"), _index_of(repository, record.entry, commit)
    if os.path.lexists(index):
        set_aside(repository, index, "indexes")
    os.replace(aside, index)


def register_again(repository: Repository, record: Record, head: str, commit: str) -> None:
    """Make the entry of a tree whose entry somebody removed: the tree is not touched and says what it held as changes.

    `head` is what its HEAD says, `commit` what that names.
    """
    entry = entry_dir(repository, record)
    if os.path.lexists(entry) or not points_at(record.path, entry):
        raise PersonNeeded("the worktree has changed meanwhile")
    staging = os.path.join(repository.ours, "staging", f"{record.entry}.again-{secrets.token_hex(4)}")
    os.makedirs(os.path.join(staging, "refs"))
    for name, text in files_of_entry(repository, record, head):
        Path(staging, name).write_bytes(os.fsencode(text) + b"\n")
    os.replace(_index_of(repository, record.entry, commit), os.path.join(staging, "index"))
    rename_into(staging, entry)


def _index_of(repository: Repository, name: str, commit: str) -> str:
    aside = repository.ours / "staging" / f"{name}-{secrets.token_hex(4)}.index"
    aside.parent.mkdir(parents=True, exist_ok=True)
    repository.git("read-tree", commit, env={"GIT_INDEX_FILE": str(aside)})
    return str(aside)


def edit_config(repository: Repository, *change: str) -> None:
    """Change the shared configuration with `git config`; a copy of the file is kept in the trash."""
    file = os.path.join(repository.common, "config")
    with leases.held(repository.ours / "repository.lock", "the repository", _PATIENCE):
        copy = (
            repository.ours
            / "trash"
            / f"config-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(4)}"
        )
        try:
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(content(file))
        except OSError as error:
            raise EnvironmentProblem(
                f"no copy of {printable(file)!r} could be made, so it was left as it is",
                hint="check permissions and space",
                cause=str(error),
            ) from error
        repository.git("config", "--file", file, *change, repeatable=True)
