"""`Doctor`: looks at everything in turn, mends what is safe if told to, and never fails for what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from moderator.git.doctor.branches import look_at_branches, look_at_objects
from moderator.git.doctor.findings import FAILURES, Finding, guarded, said
from moderator.git.doctor.leftovers import look_at_leftovers
from moderator.git.doctor.locks import look_at_locks
from moderator.git.doctor.scene import Scene
from moderator.git.doctor.shared import look_at_settings
from moderator.git.doctor.strays import look_at_strays
from moderator.git.doctor.workspaces import look_at_workspaces
from moderator.git.registry import Registry
from moderator.git.repository import Repository
from moderator.git.values import Keeping

GRACE = 600.0
"""Seconds for which what looks left behind may still be in somebody's hands."""

_LOOKS: tuple[tuple[str, Callable[[Scene], Iterator[Finding]]], ...] = (
    # What stands in git's own way comes first, so that what follows can ask it.
    ("the configuration of the repository", look_at_settings),
    ("the workspaces", look_at_workspaces),
    ("what no record knows", look_at_strays),
    ("lock files", look_at_locks),
    ("leftovers", look_at_leftovers),
    ("branches", look_at_branches),
)
_DEEP = ("the objects", look_at_objects)


class Doctor:
    """Finds what is wrong with one repository."""

    def __init__(
        self, repository: Repository, registry: Registry, keeping: Keeping | None = None, grace: float = GRACE
    ) -> None:
        """`grace` is how many seconds old a lock file or leftover must be to count as one."""
        self._repository = repository
        self._registry = registry
        self._keeping = keeping or Keeping()
        self._grace = grace

    @property
    def workspaces(self) -> int:
        """How many workspaces can be told of."""
        try:
            return len(self._scene().records)
        except OSError:
            return 0

    def examine(self, fix: bool = False, deep: bool = False) -> list[Finding]:
        """Return everything found.  `fix` mends what is safe; `deep` also looks at every object, which may take minutes.

        A part that cannot be looked at becomes a finding with the code COULD_NOT_LOOK; nothing is raised.
        """
        found: list[Finding] = []
        for what, look in (*_LOOKS, *((_DEEP,) if deep else ())):
            # Mended as it is found: what is looked at later must see it.
            for finding in guarded(what, self._found(look)):
                found.append(_mended(finding) if fix else finding)  # noqa: PERF401 - what was found before a failure stays
        return found

    def _found(self, look: Callable[[Scene], Iterator[Finding]]) -> Iterator[Finding]:
        yield from look(self._scene())

    def _scene(self) -> Scene:
        return Scene.of(self._repository, self._registry, self._keeping, self._grace)


def _mended(finding: Finding) -> Finding:
    if finding.mend is None:
        return finding
    try:
        finding.mend()
    except FAILURES as error:
        return replace(finding, why_not=said(error))
    return replace(finding, mended=True)
