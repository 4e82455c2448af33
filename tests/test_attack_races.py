"""Processes of ours that make, clean, bring back and list at once, beside plain git: none fails, nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

import attacks

storm_races = attacks.load("storm_races")


@pytest.mark.slow
def test_a_storm_of_races(tmp_path: Path) -> None:
    """In its short form: nothing of ours fails, nothing is lost, a person's commits go through."""
    rows = storm_races.races(tmp_path, storm_races.Options(seed=3, share=0.02), processes=4)
    assert [(row.what, row.losses, row.failures) for row in rows] == [(row.what, [], []) for row in rows]
    assert all(row.creations > 0 for row in rows[:2])


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_long_storm_of_races(tmp_path: Path) -> None:
    """Eight processes, as in scripts/storm."""
    rows = storm_races.races(tmp_path, storm_races.Options(seed=5))
    assert [(row.what, row.losses, row.failures) for row in rows] == [(row.what, [], []) for row in rows]
