"""Several attempts at one task, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from moderator.reports import text


@dataclass(frozen=True)
class Variant:
    """What is to be compared of one attempt.

    `verified` is None where there was nothing to check with, `changed` (files, lines added, lines removed) None where it is not
    known.  The cost is in US dollars, None where the backend does not tell.
    """

    task_id: str
    backend: str
    outcome: str
    verified: bool | None = None
    changed: tuple[int, int, int] | None = None
    duration_seconds: float | None = None
    cost_usd: float | None = None

    def to_dict(self) -> dict[str, Any]:
        files, added, removed = self.changed or (None, None, None)
        rest = {name: value for name, value in vars(self).items() if name != "changed"}
        return {**rest, "files": files, "added": added, "removed": removed}


def side_by_side(variants: Sequence[Variant]) -> list[str]:
    """Return a table of variants, in the order given."""
    rows = [
        (
            text.shortened(one.task_id, 32),
            one.backend or "-",
            one.outcome,
            {True: "passed", False: "failed", None: "-"}[one.verified],
            "-" if one.changed is None else text.changed(*one.changed),
            text.duration(one.duration_seconds),
            text.cost(one.cost_usd),
        )
        for one in variants
    ]
    return text.table(("VARIANT", "BACKEND", "OUTCOME", "VERIFY", "CHANGED", "TOOK", "COST"), rows, right=(5, 6))
