"""What `moderator clean` decides by: facts from the record of runs, from git and from the disk, looked up where they matter."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from moderator.errors import ModeratorError, UnknownWorkspace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from moderator.cleaning import Decision, Facts, Quotas, Selection
    from moderator.git.manager import GitManager
    from moderator.git.merged import Merged, NotMerged
    from moderator.git.values import Workspace
    from moderator.store import AttemptRecord

GONE = "somebody else removed it meanwhile"


def decided(
    git: GitManager,
    workspaces: Sequence[Workspace],
    answers: dict[str, Merged | NotMerged],
    selection: Selection,
    quotas: Quotas,
) -> tuple[list[Decision], str]:
    """Return what goes and what stays, and in words what of the quotas cannot be met.

    Raises StoreProblem if what is asked for needs the record of runs, and that cannot be read.
    """
    from moderator.cleaning import Decision, decide, within

    by_quota = selection.is_empty
    history = _last_attempts(git) if by_quota or selection.needs_history else {}
    created = git.created()
    facts, present = [], []
    for one in workspaces:
        with contextlib.suppress(UnknownWorkspace):
            name = one.task_id
            facts.append(_facts(git, name, created.get(name, 0.0), history.get(name), answers.get(name)))
            present.append(one)
    if by_quota:
        decisions, unmet = within(_with_what_quotas_need(git, facts, present, quotas), quotas)
    else:
        decisions, unmet = decide(facts, selection, time.time()), ""
    made = {decision.task_id: decision for decision in decisions}
    return [made.get(one.task_id) or Decision(one.task_id, False, GONE) for one in workspaces], unmet


def _with_what_quotas_need(
    git: GitManager, facts: list[Facts], workspaces: list[Workspace], quotas: Quotas
) -> list[Facts]:
    def size(workspace: Workspace) -> int:
        with contextlib.suppress(UnknownWorkspace):
            return git.status(workspace, size=True, changes=False).size or 0
        return 0

    def obstacle(workspace: Workspace) -> str | None:
        try:
            git.check_removal(workspace)
        except ModeratorError as error:
            return "; ".join(getattr(error, "findings", ())) or error.message
        return None

    if quotas.size is not None:
        sizes = side_by_side(size, workspaces)
        facts = [replace(one, size=found) for one, found in zip(facts, sizes, strict=True)]
    if quotas.excess(len(facts), sum(one.size for one in facts)):
        obstacles = side_by_side(obstacle, workspaces)
        facts = [replace(one, unsaved=found) for one, found in zip(facts, obstacles, strict=True)]
    return facts


def _facts(
    git: GitManager, task_id: str, created_at: float, attempt: AttemptRecord | None, answer: Merged | NotMerged | None
) -> Facts:
    from moderator.cleaning import Facts
    from moderator.git.merged import Merged
    from moderator.models import Outcome

    holder = git.holder(git.of_task(task_id))
    if attempt and attempt.finished_at is not None and attempt.finished_at < created_at:
        attempt = None  # it ran in an earlier workspace of that name
    outcome = {one.value: one for one in Outcome}.get(attempt.outcome or "") if attempt else None
    return Facts(
        task_id,
        max(created_at, (attempt.finished_at or attempt.started_at) if attempt else 0.0),
        outcome,
        attempt is not None and attempt.outcome is None and holder is None,
        str(holder) if holder else None,
        isinstance(answer, Merged),
        str(answer or ""),
    )


def _last_attempts(git: GitManager) -> dict[str, AttemptRecord]:
    """Return the last attempt of every task.  Not to be had is not the same as none: then nothing may be decided by it."""
    from moderator.store import Store, history_file

    store = Store.existing(history_file(git.state_root))
    if store is None:
        return {}
    with store:
        return store.last_attempts()


def side_by_side(function: Callable[..., Any], *arguments: Sequence[Any]) -> list[Any]:
    """Call a function for each workspace, as many at once as git can make use of; the answers in order."""
    if not arguments[0]:
        return []
    import os

    from moderator.git.command import abreast

    return list(abreast(function, *arguments, most=2 * (os.cpu_count() or 1)))
