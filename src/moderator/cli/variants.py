"""Which variants a task has, and how each of them ended: looked up for `show` and `pick`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from moderator.errors import ModeratorError
from moderator.git.manager import GitManager
from moderator.reports.variants import Variant
from moderator.store import VARIANTS, AttemptRecord, Store, history_file

Sizes = dict[tuple[str | None, str | None], tuple[int, int, int]]


@dataclass(frozen=True)
class Group:
    """The variants of one task, in their order, with the last attempt of each that has one."""

    of: str
    ids: tuple[str, ...]
    verified: bool
    attempts: Mapping[str, AttemptRecord]


def group_of(git: GitManager, name: str) -> Group | None:
    """Return the newest group of variants of the task `name`, or that `name` is one of; None if there is none.

    Raises StoreProblem if the record of runs cannot be read.
    """
    store = Store.existing(history_file(git.state_root))
    if store is None:
        return None
    with store:
        found = next((one for one in store.newest_events(VARIANTS) if name == one["of"] or name in one["ids"]), None)
        if found is None:
            return None
        last = {task_id: store.attempts(task_id=task_id)[-1:] for task_id in found["ids"]}
    attempts = {task_id: attempts[0] for task_id, attempts in last.items() if attempts}
    return Group(found["of"], tuple(found["ids"]), bool(found.get("verify")), attempts)


def compared(git: GitManager, group: Group) -> list[Variant]:
    """Return what there is to compare of a group's variants."""
    sizes = measured(git, ((one.base, one.commit) for one in group.attempts.values()))
    return [_compared(task_id, group, sizes) for task_id in group.ids]


def _compared(task_id: str, group: Group, sizes: Sizes) -> Variant:
    attempt = group.attempts.get(task_id)
    if attempt is None:
        return Variant(task_id, "", "not begun")
    return Variant(
        task_id,
        attempt.backend,
        attempt.outcome or "running, or interrupted",
        verified(attempt.outcome, group.verified),
        sizes.get((attempt.base, attempt.commit)),
        attempt.duration_seconds,
        attempt.cost_usd,
    )


def verified(outcome: str | None, checks: bool) -> bool | None:
    """Return whether the check of a task's work passed; None where there is none, or it was not come to."""
    if not checks or outcome not in ("succeeded", "unchanged", "not verified", "not kept"):
        return None
    return outcome != "not verified"


def measured(git: GitManager, pairs: Iterable[tuple[str | None, str | None]]) -> Sizes:
    """Return files, lines added and lines removed between commits, of the pairs that can be compared."""
    try:
        found = git.sizes_between([(base, commit) for base, commit in pairs if base and commit])
    except ModeratorError:  # everything has run; figures that cannot be had must not cost the table
        return {}
    return {(base, commit): size for (base, commit), size in found.items()}
