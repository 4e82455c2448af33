"""Part of a tree only: the directories that a workspace checks out, with the files on the way to them.

What git calls cone mode (git-sparse-checkout(1)): whole directories, never single patterns.  The index says of everything else
that it is left out (skip-worktree), and that holds by itself: no setting of the repository is written, which all worktrees share.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import PurePosixPath

from moderator.errors import UsageError
from moderator.git.contents import printable
from moderator.git.repository import Repository

SETTINGS = {"core.sparseCheckout": "true", "core.sparseCheckoutCone": "true"}
"""What a checkout has to be told beside the patterns."""


def sound(directories: Sequence[str]) -> tuple[str, ...]:
    """Return the directories in git's form, sorted, each once.  Raises UsageError for what leads out of the tree."""
    found = set()
    for given in directories:
        path = PurePosixPath(given.replace(os.sep, "/"))
        if path.is_absolute() or ".." in path.parts or not path.parts or any(char in given for char in "\n\0*?[\\"):
            raise UsageError(
                f"{given!r} is no directory inside the repository",
                hint="name directories from its top, such as src/parser",
            )
        found.add(str(path))
    return tuple(sorted(found))


def require_present(repository: Repository, commit: str, directories: Sequence[str]) -> None:
    """Raise UsageError if one of the directories is not in the commit."""
    listed = repository.git("ls-tree", "-d", "-z", "--name-only", "--full-tree", commit, "--", *directories).fields
    for missing in sorted(set(directories) - set(listed)):
        raise UsageError(
            f"there is no directory {printable(missing)!r} in {commit[:12]}, so nothing of it can be checked out",
            hint=f"git ls-tree -d --name-only {commit[:12]} lists those at the top",
        )


def patterns(directories: Sequence[str]) -> str:
    """Return the text of `info/sparse-checkout` for these directories.

    >>> print(patterns(["a/b"]), end="")
    /*
    !/*/
    /a/
    !/a/*/
    /a/b/
    """
    whole = set(directories)
    above = {str(parent) for one in directories for parent in PurePosixPath(one).parents if str(parent) != "."}
    lines = ["/*", "!/*/"]
    for path in sorted(whole | above):
        if any(str(parent) in whole for parent in PurePosixPath(path).parents):
            continue  # inside one that is there as a whole
        lines.append(f"/{path}/")
        if path not in whole:
            lines.append(f"!/{path}/*/")
    return "".join(f"{line}\n" for line in lines)
