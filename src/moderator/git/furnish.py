"""What a workspace needs beside its checkout, as far as it can be known before anything is made; and how it gets it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from moderator.furnishing import Furnishing
from moderator.git import carrying, filters
from moderator.git.contents import Worktree
from moderator.git.repository import Repository
from moderator.git.selecting import Item, refuse_unignored, selected
from moderator.git.submodules import check_out_submodules


@dataclass(frozen=True)
class Needs:
    """`items` are to be carried, `unfiltered` are the filters that are to be left out, `skips` says whether any would be.

    `targets` are the paths that files will be rendered to, later.  False where there is nothing to do now.
    """

    repository: Repository
    items: tuple[Item, ...]
    unfiltered: tuple[str, ...]
    submodules: bool
    skips: bool
    targets: tuple[str, ...] = ()

    @classmethod
    def of(cls, repository: Repository, furnishing: Furnishing) -> Needs:
        """Find what is asked for.  Raises ConfigurationError for what cannot be followed."""
        skips = furnishing.smudge == "skip"
        unfiltered = tuple(filters.converting(replace(repository).settings)) if skips else ()
        items, targets = tuple(selected(repository, furnishing)), tuple(one.target for one in furnishing.render)
        return cls(repository, items, unfiltered, furnishing.submodules, skips, targets)

    def __bool__(self) -> bool:
        return bool(self.items or self.unfiltered or self.submodules)

    @property
    def paths(self) -> tuple[str, ...]:
        """Where something will be that nothing may stand at before."""
        return (*(item.path for item in self.items), *self.targets)

    def meet(self, worktree: Worktree, commit: str, brought_back: bool = False) -> None:
        """Do it, in a worktree of the commit in which nobody works.  Raises ConfigurationError, EnvironmentProblem.

        `brought_back`: in one whose tree was brought back from the commit, where submodules that cannot be had are left out.
        """
        refuse_unignored(worktree, self.items)
        filters.refuse_unstable(worktree, self.unfiltered)
        if self.submodules:
            check_out_submodules(self.repository, worktree, commit, self.skips, brought_back)
        if self.items:
            carrying.carry(worktree, self.items)
