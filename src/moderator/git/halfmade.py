"""What somebody left in a worktree that never became whole: files that neither a checkout nor we ourselves have put there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator

from moderator.errors import ModeratorError
from moderator.git.carried import left_beside
from moderator.git.contents import Worktree
from moderator.git.entries import ASIDE, CARRYING
from moderator.git.repository import Repository
from moderator.git.submodules import made_in


def theirs_in(repository: Repository, entry: str, tree: str, commit: str, changed: bool) -> list[str]:
    """Return the files in a half-made tree that a checkout of the commit, of its submodules, or carrying cannot have put there.

    With `changed`, also those that git put there and that are not as in the commit; those that are not there at all do not count.
    """
    # The repository is asked, not the entry: that may be half-made too.
    found = list(_beside(Worktree(tree, repository.common), entry, commit, changed, ""))
    return left_beside(Worktree(tree, entry), found)


def _beside(worktree: Worktree, entry: str, commit: str, changed: bool, prefix: str) -> Iterator[str]:
    listed = set(worktree.git("ls-tree", "-r", "-z", "--name-only", "--full-tree", commit).fields)
    submodules = {path: git_dir for path, git_dir in made_in(entry) if path in listed}
    inner = {os.path.join(worktree.tree, path) for path in submodules}
    for where, folders, names in os.walk(worktree.tree):
        if where == worktree.tree and not prefix and CARRYING in folders:
            folders.remove(CARRYING)
        folders[:] = [name for name in folders if os.path.join(where, name) not in inner]
        for name in names:
            path = os.path.relpath(os.path.join(where, name), worktree.tree)
            if path not in listed and path not in (".git", ASIDE):
                yield prefix + path
    if changed:
        yield from (prefix + path for path in _changed(worktree, commit))
    for path, git_dir in submodules.items():
        inside, below = Worktree(os.path.join(worktree.tree, path), git_dir), f"{prefix}{path}/"
        if os.path.isdir(inside.tree):
            try:
                head = inside.git("rev-parse", "--verify", "--quiet", "HEAD^{commit}", accept=(0, 1)).text
                # Without a commit it was never checked out, so whatever is in it is somebody's.
                yield from _beside(inside, git_dir, head, changed, below) if head else _all_in(inside.tree, below)
            except ModeratorError:
                yield from _all_in(inside.tree, below)


def _all_in(tree: str, prefix: str) -> Iterator[str]:
    for where, _, names in os.walk(tree):
        for name in names:
            path = os.path.relpath(os.path.join(where, name), tree)
            if path != ".git":
                yield prefix + path


def _changed(worktree: Worktree, commit: str) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="moderator-") as folder:
        private = {"GIT_INDEX_FILE": os.path.join(folder, "index")}
        worktree.git("read-tree", commit, env=private)
        worktree.git("update-index", "-q", "--ignore-submodules", "--refresh", env=private, accept=(0, 1))
        asked = ("diff-files", "-z", "--name-only", "--diff-filter=d", "--ignore-submodules=all")
        return worktree.git(*asked, env=private).fields
