"""What follows an attempt that a backend failed at: who is next, after which pause, and when it is enough."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from moderator.backends.judging import Trouble
from moderator.execution.retrying import LONGEST_PAUSE, SHORTEST_PAUSE, Next, next_attempt
from moderator.models import Task
from moderator.routing import Place

RETRY, GIVE_UP, NONE = Trouble.RETRY, Trouble.GIVE_UP, Trouble.NONE


class Named:
    """A backend of which only its name counts."""

    def __init__(self, name: str) -> None:
        self.name = name

    def command(self, task: Task, workspace: Place) -> list[str]:
        return [self.name]


A, B, C, D = ROW = [Named(name) for name in "abcd"]
COINCIDENCE = 7
"""The seed of every jitter here."""


def jitter() -> float:
    return random.Random(COINCIDENCE).uniform(0.5, 1.5)


def walk(row: Sequence[Named], troubles: Sequence[Trouble], most: int = 20) -> list[tuple[str, float]]:
    """Return who makes each attempt and the pause before it, without its jitter, where attempts end in these troubles."""
    candidates, current = list(row), row[0]
    made, times = [(current.name, 0.0)], Counter([current.name])
    for trouble in troubles:
        if trouble is GIVE_UP:
            candidates.remove(current)
        following = next_attempt(candidates, times, trouble, most, chance=random.Random(COINCIDENCE))
        if following is None:
            break
        current = following.backend  # type: ignore[assignment]
        times[current.name] += 1
        made.append((current.name, round(following.pause / jitter(), 6)))
    return made


@pytest.mark.parametrize(
    ("row", "made"),
    [
        ([A], "a0 a2 a4 a8 a16 a32 a64"),
        ([A, B], "a0 b0 a2 b2 a4 b4 a8"),
        ([A, B, C], "a0 b0 c0 a2 b2 c2 a4"),
        ([A, B, C, D], "a0 b0 c0 d0 a2 b2 c2"),
    ],
)
def test_backends_take_turns_and_each_further_time_doubles_the_pause(row: list[Named], made: str) -> None:
    """The first round has no pause; before a backend's second time there is the shortest, before its third twice that."""
    assert " ".join(f"{name}{pause:g}" for name, pause in walk(row, [RETRY] * 6)) == made


@pytest.mark.parametrize(
    ("troubles", "made"),
    [
        ([GIVE_UP, GIVE_UP, GIVE_UP], "a0 b0 c0"),
        ([GIVE_UP, RETRY], "a0 b0 c0"),
        ([GIVE_UP, RETRY, RETRY], "a0 b0 c0 b2"),
        ([RETRY, GIVE_UP], "a0 b0 c0"),
        ([RETRY, GIVE_UP, GIVE_UP], "a0 b0 c0 a2"),
        ([RETRY, RETRY, GIVE_UP], "a0 b0 c0 a2"),
        ([RETRY, RETRY, RETRY, GIVE_UP], "a0 b0 c0 a2 b2"),
    ],
    ids=lambda value: " ".join(one.name for one in value) if isinstance(value, list) else value,
)
def test_a_backend_that_cannot_work_is_left_out(troubles: list[Trouble], made: str) -> None:
    """The next of the row takes its place at once; whoever was tried before comes round only after the rest, and a pause."""
    assert " ".join(f"{name}{pause:g}" for name, pause in walk([A, B, C], troubles)) == made


def test_a_single_backend_left_over_is_not_asked_again_at_once() -> None:
    """One that met a rate limit has its pause, also where the other of the row cannot work."""
    assert walk([A, B], [RETRY, GIVE_UP]) == [("a", 0.0), ("b", 0.0), ("a", SHORTEST_PAUSE)]


@given(st.integers(1, 4), st.lists(st.sampled_from([RETRY, GIVE_UP]), max_size=12), st.integers(1, 20))
@example(3, [RETRY, GIVE_UP], 20)
def test_nobody_is_tried_again_before_everybody_was_tried(size: int, troubles: list[Trouble], most: int) -> None:
    """Whatever happens: at most so many attempts, everyone who can work once before anyone twice, and pauses between."""
    made = walk(ROW[:size], troubles, most)
    assert len(made) <= most
    gone: set[str] = set()
    times: Counter[str] = Counter()
    for (name, pause), trouble in itertools.zip_longest(made, troubles[: len(made)]):
        assert name not in gone
        there = {one.name for one in ROW[:size]} - gone
        assert times[name] == 0 or all(times[one] > 0 for one in there)
        assert (pause > 0) == (times[name] > 0)
        times[name] += 1
        if trouble is GIVE_UP:
            gone.add(name)
    if len(made) <= len(troubles) and len(made) < most:
        assert len(gone) == size


@given(st.integers(1, 5000), st.integers())
def test_pauses_are_bounded(before: int, seed: int) -> None:
    """However often a backend was tried, its pause is at most the longest and its jitter, and nothing is raised."""
    following = next_attempt([A], {"a": before}, RETRY, before + 1, chance=random.Random(seed))
    assert following is not None
    assert 0.5 * SHORTEST_PAUSE <= following.pause <= 1.5 * LONGEST_PAUSE


def test_many_tasks_do_not_come_back_at_once() -> None:
    """The jitter spreads pauses over half their length to both sides, and needs no chance of the caller's."""
    pauses = [following.pause for _ in range(300) if (following := next_attempt([A], {"a": 2}, RETRY, 9))]
    base = 2 * SHORTEST_PAUSE
    assert len(set(pauses)) > 200
    assert 0.5 * base <= min(pauses) < 0.7 * base < 1.3 * base < max(pauses) <= 1.5 * base


def test_the_shortest_pause_can_be_another() -> None:
    """A caller in a hurry says so, and every pause is in proportion; none at all is possible too."""
    for shortest in (0.01, 0.0):
        following = next_attempt([A], {"a": 2}, RETRY, 9, shortest, random.Random(COINCIDENCE))
        assert following == Next(A, 2 * shortest * jitter())


counts = st.dictionaries(st.sampled_from([one.name for one in ROW]), st.integers(0, 4))


@given(st.integers(0, 4), counts, st.sampled_from(Trouble), st.integers(1, 10))
def test_the_next_is_the_first_of_those_tried_least(
    size: int, times: dict[str, int], trouble: Trouble, most: int
) -> None:
    """No trouble, no attempts left or nobody left: nothing follows; else who of the row is least tried, first come first."""
    candidates = ROW[:size]
    following = next_attempt(candidates, times, trouble, most)
    if trouble is NONE or sum(times.values()) >= most or not candidates:
        assert following is None
        return
    assert following is not None
    least = min(times.get(one.name, 0) for one in candidates)
    assert following.backend is next(one for one in candidates if times.get(one.name, 0) == least)
    assert (following.pause > 0) == (least > 0)


def test_attempts_of_backends_that_are_gone_count_too() -> None:
    """Who cannot work any more has used up its attempts, and is in nobody's way."""
    assert next_attempt([B, C], {"a": 2, "b": 1}, RETRY, 3) is None
    assert next_attempt([B, C], {"a": 2, "b": 1}, RETRY, 4) == Next(C, 0.0)
