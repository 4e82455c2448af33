"""What a new workspace gets beside its checkout: ignored files of the main checkout, rendered files, submodules, and whether
filters run.

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


TEMPLATE_ENDINGS = (".template", ".example", ".sample", ".dist", ".tmpl", ".tpl")
"""How the names of templates end that say by themselves what is made of them: `.env` of `.env.example`."""
TEMPLATE_NAME = rf"[^/]({'|'.join(ending.replace('.', '[.]') for ending in TEMPLATE_ENDINGS)})$"
"""The same as a pattern."""


@dataclass(frozen=True)
class Render:
    """A file that is written into workspaces anew for each task, with what `${MODERATOR_...}` stands for filled in.

    `source` is the template, a path from the top of the repository: at the commit that the workspace forks from, or else one
    that git ignores in the main checkout.  `target` is where it goes, which git ignores.  `where` is where that is written.
    """

    source: str
    target: str
    where: str = field(default="", compare=False)

    @classmethod
    def of(cls, one: Render | str) -> Render:
        """Return what a template alone means: that its name without its ending is what is made of it."""
        return one if isinstance(one, Render) else cls(one, named_by(one))


@dataclass(frozen=True)
class Furnishing:
    """What a new workspace gets.

    `included`: also what `.worktreeinclude` names.  `submodules`: they are checked out, those inside them too.  `smudge` is
    "run", or "skip": what a filter would convert at the checkout (LFS pointers, say) is left as it is stored.  `render` is written
    before its task begins, by whoever has a slot and ports for it; what is rendered is not carried.
    """

    carry: tuple[Carry, ...] = ()
    included: bool = False
    submodules: bool = False
    smudge: str = SMUDGE_CHOICES[0]
    render: tuple[Render, ...] = ()

    def with_own(
        self,
        carry: Sequence[Carry | str] | None,
        submodules: bool | None,
        smudge: str | None,
        render: Sequence[Render | str] | None = None,
    ) -> Furnishing:
        """Return what a workspace gets for which some of it is said anew; None leaves it.

        No `carry` at all, an empty list, means that nothing is carried, whatever a file names.
        """
        changed = self
        if carry is not None:
            items = tuple(Carry(one) if isinstance(one, str) else one for one in carry)
            changed = replace(changed, carry=items, included=changed.included and bool(items))
        if submodules is not None:
            changed = replace(changed, submodules=submodules)
        if render is not None:
            changed = replace(changed, render=tuple(Render.of(one) for one in render))
        return changed if smudge is None else replace(changed, smudge=smudge)

    @property
    def nothing_carried(self) -> Furnishing:
        """The same without what is carried."""
        return replace(self, carry=(), included=False)


NOTHING = Furnishing()
Wanted = Callable[[], Furnishing]
"""Says what a workspace gets; asked only where one is made, for it may raise."""


def nothing_wanted() -> Furnishing:
    return NOTHING


def as_plain(one: Carry | Render | str) -> str | dict[str, str]:
    """Return an item as it would be written in a file."""
    if isinstance(one, Render):
        return one.source if one.target == named_by(one.source) else {"from": one.source, "to": one.target}
    item = Carry(one) if isinstance(one, str) else one
    return item.path if item.by == CARRY_WAYS[0] else {"path": item.path, "by": item.by}


def named_by(template: str) -> str:
    """Return the path of what is made of a template, "" if its name does not say that."""
    ending = next((one for one in TEMPLATE_ENDINGS if template.endswith(one)), "")
    path = template.removesuffix(ending) if ending else ""
    return "" if path.endswith("/") else path


def fault_in_rendering(source: str, target: str) -> str:
    """Return what is wrong with a template, or with the file that is made of it, "" if nothing is."""
    if not target:
        endings = ", ".join(TEMPLATE_ENDINGS)
        return f"the name does not end in one of {endings}; write {{from: {source}, to: PATH}}"
    for key, path in (("from", source), ("to", target)):
        if fault_in_path(path) or str(PurePosixPath(path)) != path:
            return (
                f"{key} must be the path of a file, from the top of the repository, and none of git's own; not {path!r}"
            )
    return ""


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
