"""What follows an attempt that ended in a trouble of its backend's own.  Pure, but for chance.

A backend that fails for good (nobody is logged in) is left out; one whose trouble may pass gives way to the next of the row,
and comes round again after a pause, when every other was tried as often.  A task that simply failed is never tried again.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from moderator.backends.calls import Backend
from moderator.backends.judging import Trouble

SHORTEST_PAUSE = 2.0
"""Seconds before a backend is tried for the second time; each further time doubles it."""
LONGEST_PAUSE = 120.0


@dataclass(frozen=True)
class Next:
    """Who makes the next attempt, and how many seconds from now at the earliest."""

    backend: Backend
    pause: float


def next_attempt(
    candidates: Sequence[Backend],
    times: Mapping[str, int],
    trouble: Trouble,
    most: int,
    shortest: float | None = None,
    chance: random.Random | None = None,
) -> Next | None:
    """Return what follows an attempt that ended in this trouble; None if nothing does.

    `candidates` are those that can still be tried, in order; `times` says how often each backend has been, `most` is how many
    attempts there may be in all.  Who has been tried least is next, without a pause the first time; later pauses have a
    jitter of half their length, so that many tasks that met one rate limit do not come back at once.
    """
    if trouble is Trouble.NONE or sum(times.values()) >= most or not candidates:
        return None
    following = min(candidates, key=lambda one: times.get(one.name, 0))
    before = times.get(following.name, 0)
    if not before:
        return Next(following, 0.0)
    pause = min((SHORTEST_PAUSE if shortest is None else shortest) * 2.0 ** min(before - 1, 60), LONGEST_PAUSE)
    return Next(following, pause * (chance or random).uniform(0.5, 1.5))
