"""Lay a rescue out again: in a worktree that was just made at the rescued HEAD, byte for byte.

Files first, then their permissions, then the index as it was, then what git needs to go on with an unfinished merge, rebase,
cherry-pick or bisect.  The rescue itself stays.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from moderator.errors import GitFailed
from moderator.git import heads
from moderator.git.contents import Worktree
from moderator.git.exact import Exact, copy_index, joined
from moderator.git.repository import Repository
from moderator.git.rescues import ANCHOR, Described
from moderator.git.rescuing import ADMINISTRATION, beyond_link
from moderator.opening import content

_OF_THE_ENTRY = {"HEAD", "commondir", "gitdir", "locked", "index", "AUTO_MERGE"}
"""Administrative files that belong to the place, not to the work (HEAD and index are seen to apart)."""


def lay_out(repository: Repository, described: Described, worktree: Worktree, branch: str | None) -> None:
    """Put a rescue's files, permissions, staging and operation into a worktree whose files are those of its HEAD.

    `branch` is the new workspace's, where an operation in progress names the old one.
    """
    commit, values = described.rescue.commit, described.values
    with Exact(repository) as exact:
        _write_files(repository, exact, described, worktree)
        notes = os.path.join(exact.folder, "notes")
        os.mkdir(notes)
        has_notes = repository.git(
            "rev-parse", "--verify", "--quiet", f"{commit}{ANCHOR}:{ADMINISTRATION}", accept=(0, 1)
        )
        if has_notes.code == 0:
            exact.write(notes, has_notes.text)
            _put_notes(notes, worktree, described, branch)
            _put_refs(worktree, values["refs"])
    for path in values.get("empty", {}):
        if beyond_link(worktree.tree, path):
            continue
        os.makedirs(os.path.join(worktree.tree, path), exist_ok=True)
    set_modes(worktree.tree, {**values.get("empty", {}), **values.get("modes", {}), **values.get("folders", {})})


def set_modes(tree: str, modes: Mapping[str, int]) -> None:
    """Give files and folders in a tree the permissions they had, as far as they are there."""
    for path, mode in sorted(modes.items(), reverse=True):  # what is in a folder before the folder
        there = os.path.join(tree, path)
        with contextlib.suppress(OSError):
            if not os.path.islink(there) and not beyond_link(tree, path):
                os.chmod(there, mode)


def _write_files(repository: Repository, exact: Exact, described: Described, worktree: Worktree) -> None:
    rescue, values = described.rescue, described.values
    changed = repository.git(
        "diff-tree", "-r", "-z", "--no-renames", "--name-status", "--ignore-submodules=all", rescue.head, rescue.commit
    ).fields
    letters = dict(zip(changed[1::2], changed[::2], strict=True))
    for path in [path for path, letter in letters.items() if letter in ("D", "T")]:
        _take_away(worktree.tree, path)
    # Besides what differs, what was written raw: its bytes may differ where git sees the same content.
    present = set(repository.git("ls-tree", "-r", "-z", "--name-only", rescue.commit).fields)
    wanted = {path for path, letter in letters.items() if letter != "D"} | set(values.get("written", ()))
    exact.write(worktree.tree, rescue.commit, sorted(wanted & present))
    exact.write(worktree.tree, f"{rescue.commit}^3")


def _take_away(tree: str, path: str) -> None:
    there = Path(tree, path)
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        if there.is_dir() and not there.is_symlink():
            return  # a submodule's place
        there.unlink()
    folder = os.path.dirname(path)
    while folder:
        try:
            os.rmdir(os.path.join(tree, folder))
        except OSError:
            return
        folder = os.path.dirname(folder)


def _put_notes(notes: str, worktree: Worktree, described: Described, branch: str | None) -> None:
    git_dir = worktree.git_dir
    old, new = described.record.ref, f"refs/heads/{branch}" if branch else None
    for where, _, names in os.walk(notes):
        for name in names:
            source = os.path.join(where, name)
            path = os.path.relpath(source, notes)
            if path in _OF_THE_ENTRY or path.startswith("logs" + os.sep) or heads.is_of_tables(path):
                continue
            target = os.path.join(git_dir, path)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if name == "head-name" and new and content(source).strip() == os.fsencode(old):
                Path(target).write_bytes(os.fsencode(new) + b"\n")
            else:
                shutil.copyfile(source, target, follow_symlinks=False)
    log = Path(notes, "logs", "HEAD")
    if log.is_file() and heads.are_files(git_dir):  # what HEAD was before goes before what making the worktree wrote
        mine = Path(git_dir, "logs", "HEAD")
        mine.parent.mkdir(exist_ok=True)
        mine.write_bytes(content(log))
    index = Path(notes, "index")
    if index.is_file():
        aside = Path(git_dir, "index.new")
        aside.write_bytes(content(index))
        os.replace(aside, Path(git_dir, "index"))
        # What is only intended to be added has the id of nothing, of which a collection may have left nothing.
        worktree.git("hash-object", "-w", "--stdin")
        # The stamps in it are of other files: all are read anew, but for those with a flag, which stays.
        worktree.git("update-index", "-q", "--refresh", accept=(0, 1))
        _settle(worktree, described)


def _put_refs(worktree: Worktree, refs: Mapping[str, str]) -> None:
    """Write the refs that the workspace had for itself and that are in no file of its notes: which commit is being picked, say.

    One whose object is gone names nothing any more.
    """
    for name, commit in refs.items():
        with contextlib.suppress(GitFailed):
            heads.write_own_refs(worktree.git_dir, {name: commit})


def _settle(worktree: Worktree, described: Described) -> None:
    """Let git see that files are unchanged which a filter or line endings made longer or shorter than the index says.

    It takes another size for a change without looking.
    """
    known = {*described.rescue.modified, *described.rescue.unmerged, *described.rescue.untracked}
    differing = worktree.git("diff-files", "-z", "--name-only", "--ignore-submodules=all").fields
    odd = [path for path in differing if path not in known]
    if not odd:
        return
    before = worktree.git("ls-files", "-s", "-z").out
    with tempfile.TemporaryDirectory(prefix="moderator-") as folder:
        kept = os.path.join(folder, "index")
        copy_index(worktree.git_dir, kept)
        worktree.git("update-index", "-z", "--stdin", stdin=joined(odd), accept=(0, 1, 128))
        if worktree.git("ls-files", "-s", "-z").out != before:  # it did change after all
            shutil.copy2(kept, os.path.join(worktree.git_dir, "index"))
