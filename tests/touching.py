"""Everything that can happen in a worktree of `FILES`, however it is hidden; beside it stands a file `older`."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from pathlib import Path

from repos import Executable, Symlink, git

FILES = {"a": "1\n", "src/b": "2\n", "src/deep/c": "3\n", "run": Executable("#!/bin/sh\n"), "link": Symlink("a")}


def write_mapped(tree: Path) -> None:
    with (tree / "a").open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[:1] = b"9"


def write_and_set_back(tree: Path) -> None:
    before = (tree / "a").stat()
    (tree / "a").write_text("9\n")
    os.utime(tree / "a", ns=(before.st_atime_ns, before.st_mtime_ns))


def rename_in(tree: Path) -> None:
    """A file that is older than the worktree takes the place of one."""
    os.rename(tree.parent / "older", tree / "src/deep/c")


def write_through_link(tree: Path) -> None:
    os.link(tree / "a", tree.parent / "elsewhere")
    (tree.parent / "elsewhere").write_text("9\n")


def branch(tree: Path) -> str:
    return git(tree, "symbolic-ref", "HEAD")


CHANGES: dict[str, Callable[[Path], object]] = {
    "a file written in place": lambda tree: (tree / "src/deep/c").write_text("9\n"),
    "a file written, its time set back": write_and_set_back,
    "a file written through a mapping": write_mapped,
    "a file written through another name": write_through_link,
    "a file renamed in": rename_in,
    "a mode": lambda tree: (tree / "a").chmod(0o755),
    "a new file": lambda tree: (tree / "src/deep/new").touch(),
    "a new directory": lambda tree: (tree / "src/empty").mkdir(),
    "a file less": lambda tree: (tree / "src/deep/c").unlink(),
    "a link": lambda tree: ((tree / "link").unlink(), (tree / "link").symlink_to("src/b")),
    "a file renamed": lambda tree: (tree / "src/b").rename(tree / "b"),
    "something staged": lambda tree: git(tree, "update-index", "--chmod=+x", "a"),
    "a flag in the index": lambda tree: git(tree, "update-index", "--assume-unchanged", "a"),
    "a commit": lambda tree: git(tree, "commit", "--quiet", "--allow-empty", "-m", "work"),
    "a commit taken back": lambda tree: (
        git(tree, "commit", "--quiet", "--allow-empty", "-m", "work"),
        git(tree, "update-ref", "HEAD", "HEAD~1"),
    ),
    "another branch": lambda tree: git(tree, "switch", "--quiet", "-c", "other"),
    "no branch": lambda tree: git(tree, "switch", "--quiet", "--detach"),
    "its branch moved": lambda tree: git(
        tree, "update-ref", branch(tree), git(tree, "commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", "x")
    ),
    "its branch packed": lambda tree: git(tree, "pack-refs", "--all"),
    "its branch deleted": lambda tree: git(tree, "update-ref", "-d", branch(tree)),
    "a merge begun": lambda tree: Path(git(tree, "rev-parse", "--absolute-git-dir"), "MERGE_HEAD").touch(),
    "a private ref": lambda tree: git(tree, "update-ref", "refs/worktree/mine", "HEAD"),
}
