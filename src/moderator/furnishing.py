"""What a new workspace gets beside its checkout: ignored files of the main checkout, submodules, and whether filters run.

Plain data with the rules that need no repository.  Must not know how any of it is brought about.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

CARRY_WAYS = ("clone", "copy", "link")
SMUDGE_CHOICES = ("run", "skip")
INCLUDE_FILE = ".worktreeinclude"
"""A file at the top of the main worktree whose patterns, written like those of `.gitignore`, name more to carry."""


@dataclass(frozen=True)
class Carry:
    """Something that git ignores in the main checkout and every new workspace gets.

    `path` is a path from the top of the repository, or a pattern: `*`, `?` and `[...]` within a name, `**` for any folders that
    git does not ignore.  `by` is "clone" (blocks shared with the original until either is written to, where the disk can do
    that, otherwise a copy), "copy", or "link" (a symbolic link to the original, so that a task writes into that).  `where` is
    where it is written, for errors.
    """

    path: str
    by: str = CARRY_WAYS[0]
    where: str = field(default="", compare=False)


@dataclass(frozen=True)
class Furnishing:
    """What a new workspace gets.

    `included`: also what `.worktreeinclude` names.  `submodules`: they are checked out, those inside them too.  `smudge` is
    "run", or "skip": what a filter would convert at the checkout (LFS pointers, say) is left as it is stored.
    """

    carry: tuple[Carry, ...] = ()
    included: bool = False
    submodules: bool = False
    smudge: str = SMUDGE_CHOICES[0]

    def with_own(self, carry: Sequence[Carry | str] | None, submodules: bool | None, smudge: str | None) -> Furnishing:
        """Return what a workspace gets for which some of it is said anew; None leaves it.

        No `carry` at all, an empty list, means that nothing is carried, whatever a file names.
        """
        changed = self
        if carry is not None:
            items = tuple(Carry(one) if isinstance(one, str) else one for one in carry)
            changed = replace(changed, carry=items, included=changed.included and bool(items))
        if submodules is not None:
            changed = replace(changed, submodules=submodules)
        return changed if smudge is None else replace(changed, smudge=smudge)

    @property
    def carried(self) -> Furnishing:
        """What of this can be had beside files that are laid out again: what is carried; their checkout is as it was."""
        return replace(self, submodules=False, smudge=SMUDGE_CHOICES[0])


NOTHING = Furnishing()
Wanted = Callable[[], Furnishing]
"""Says what a workspace gets; asked only where one is made, for it may raise."""


def nothing_wanted() -> Furnishing:
    return NOTHING


def as_plain(one: Carry | str) -> str | dict[str, str]:
    """Return an item as it would be written in a file."""
    item = Carry(one) if isinstance(one, str) else one
    return item.path if item.by == CARRY_WAYS[0] else {"path": item.path, "by": item.by}


def fault_in_path(path: str) -> str:
    """Return what a path to carry must be and is not, "" if it can be one."""
    parts = PurePosixPath(path).parts
    if path.startswith("/"):
        return "relative to the top of the repository"
    if ".." in parts:
        return "a path inside the repository, without '..'"
    if not parts or "\0" in path or "\n" in path:
        return "the path of something that git ignores, such as .env or node_modules"
    if ".git" in (part.casefold() for part in parts):
        return "the path of something that git ignores, and nothing of git's own"
    return ""
