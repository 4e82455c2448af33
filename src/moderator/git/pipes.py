"""What a task may have put where git reads, and git would wait for, or read, for ever: pipes and devices, and links to them."""

from __future__ import annotations

import os
import stat

from moderator.errors import PersonNeeded, to_type
from moderator.opening import content

_READ_IN_TREES = (".gitignore", ".gitattributes", ".gitmodules")
_NOT_READ = ("hooks", "lfs", "moderator")
"""Folders of a git directory in which git reads nothing by itself."""


class PipeInTheWay(PersonNeeded):
    """Something that git reads is a pipe or a device: it has no end."""

    def __init__(self, path: str) -> None:
        shown = path if path.isprintable() else ascii(path)[1:-1]
        super().__init__(
            f"git waits for ever for what {shown!r} says: it is a pipe or a device, or a link to one",
            hint=f"delete it: {to_type('rm', path)}",
        )


def refuse(cwd: str, git_dir: str | None, waits: bool = True) -> None:
    """Raise PipeInTheWay for what a command in `cwd` has no end for, the nearest first.

    `git_dir` is what it was told, None: it is to be found.  A pipe is only in the way of a command that `waits`.
    """
    if git_dir is None:
        git_dir, cwd = _found_from(cwd)
    own, common, tree = map(os.path.realpath, (git_dir, _common(git_dir), cwd))
    _refuse_in_git_dir(own, waits)
    if tree not in (own, common):
        _refuse_in_tree(tree, waits)
    if common != own:
        _refuse_in_git_dir(common, waits)  # and in the entries of other worktrees, some of which some commands read


def _refuse_in_git_dir(folder: str, waits: bool = True) -> None:
    """The same, for anything in a git directory, or in the administrative one of a worktree."""
    for where, folders, names in os.walk(folder):
        if where == folder:
            folders[:] = [name for name in folders if name not in _NOT_READ]
        for name in names:
            refuse_one(os.path.join(where, name), waits)


def is_read_in_trees(path: str) -> bool:
    """Whether git reads a file for its own sake, wherever in a tree it is."""
    return os.path.basename(path) in _READ_IN_TREES


def refuse_one(path: str, waits: bool = True) -> None:
    """The same, for this very file; the empty device has an end."""
    try:
        found = os.stat(path)
        empty = stat.S_ISCHR(found.st_mode) and found.st_rdev == os.stat(os.devnull).st_rdev
    except OSError:  # it has gone this moment, or a link leads nowhere
        return
    if (waits and stat.S_ISFIFO(found.st_mode)) or (stat.S_ISCHR(found.st_mode) and not empty):
        raise PipeInTheWay(path)


def _refuse_in_tree(tree: str, waits: bool) -> None:
    for where, folders, names in os.walk(tree):
        for name in _READ_IN_TREES:
            if name in names:
                refuse_one(os.path.join(where, name), waits)
        if ".git" in folders:
            folders.remove(".git")
            if where != tree:
                _refuse_in_git_dir(os.path.join(where, ".git"), waits)
        elif ".git" in names and where != tree and (git_dir := _named_in(os.path.join(where, ".git"))):
            _refuse_in_git_dir(git_dir, waits)


def _found_from(cwd: str) -> tuple[str, str]:
    """Return the git directory that git finds from a directory, and the top of the tree."""
    here = os.path.abspath(cwd)
    while True:
        pointer = os.path.join(here, ".git")
        if os.path.isdir(pointer):
            return pointer, here
        if os.path.lexists(pointer):
            return _named_in(pointer) or cwd, here
        above = os.path.dirname(here)
        if above == here:  # none, or a bare repository
            return cwd, cwd
        here = above


def _named_in(pointer: str) -> str:
    """Return the git directory that a `.git` file names, "" if it names none."""
    try:
        named = content(pointer).strip()
    except OSError:
        return ""
    start = os.path.dirname(pointer)
    return os.path.join(start, os.fsdecode(named.removeprefix(b"gitdir: "))) if named.startswith(b"gitdir: ") else ""


def _common(git_dir: str) -> str:
    try:
        return os.path.join(git_dir, os.fsdecode(content(os.path.join(git_dir, "commondir")).strip()))
    except OSError:
        return git_dir
