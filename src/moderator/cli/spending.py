"""What attempts took, by what their backends say: the ones that failed were paid for too."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from moderator.errors import StoreProblem
from moderator.git.manager import GitManager
from moderator.models import TaskResult
from moderator.store import AttemptRecord, Store, history_file


@dataclass(frozen=True)
class Spent:
    """US dollars and tokens; None where no backend told."""

    cost_usd: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None

    @classmethod
    def of(cls, attempts: Iterable[AttemptRecord | TaskResult | Spent]) -> Spent:
        """Return the sum of what some attempts took."""
        found = list(attempts)
        costs = [one.cost_usd for one in found if one.cost_usd is not None]
        tokens_in = [one.tokens_in for one in found if one.tokens_in is not None]
        tokens_out = [one.tokens_out for one in found if one.tokens_out is not None]
        return cls(
            sum(costs) if costs else None,
            sum(tokens_in) if tokens_in else None,
            sum(tokens_out) if tokens_out else None,
        )


def spent_in(git: GitManager, run_id: str, results: Iterable[TaskResult]) -> dict[str, Spent]:
    """Return what each task took in a run, over all its attempts; where the record cannot be read, what its last one took."""
    by_task: dict[str, list[AttemptRecord | TaskResult]] = {}
    try:
        if (store := Store.existing(history_file(git.state_root))) is not None:
            with store:
                for attempt in store.attempts(run_id):
                    by_task.setdefault(attempt.task_id, []).append(attempt)
    except StoreProblem:  # said already, by whoever could not write it
        by_task = {}
    for result in results:
        if result.run_id == run_id and result.task.id not in by_task:
            by_task[result.task.id] = [result]
    return {task_id: Spent.of(attempts) for task_id, attempts in by_task.items()}
