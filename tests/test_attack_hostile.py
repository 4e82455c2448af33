"""Hostile tasks and machines: told clearly, the other tasks finish, nothing is lost, the next command works."""

from __future__ import annotations

from pathlib import Path

import pytest

import attacks

storm_hostile = attacks.load("storm_hostile")

SHORT = {
    "a task points its .git file at a colleague",
    "a rebooted machine, pids reused",
    "a record cut short",
    "a disk that was full from the start",
}
"""What a suite of minutes plays; the others are slow only because there are many."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "name", [name if name in SHORT else pytest.param(name, marks=pytest.mark.slow) for name in storm_hostile.SCENARIOS]
)
@pytest.mark.some(1)
def test_a_scenario(tmp_path: Path, name: str) -> None:
    """No traceback, no exit code of our own bugs, every other task done, every byte found, `doctor` and the next command work."""
    row = storm_hostile.play(tmp_path / "ground", name)
    if row.note:
        pytest.skip(row.note)
    assert (row.losses, row.failures) == ([], [])


def test_the_selection_exists() -> None:
    """What is played always is among the scenarios."""
    assert set(storm_hostile.SCENARIOS) >= SHORT
