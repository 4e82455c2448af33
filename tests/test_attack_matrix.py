"""Every kind of unsaved work survives every command that deletes, whatever the user's settings hide.

A covering selection: each kind under each command or setting once at least; the product of all is `scripts/storm matrix`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import attacks
from unsaved import KINDS, Kind, kind

storm_matrix = attacks.load("storm_matrix")
KEPT, LOST, REFUSED = storm_matrix.KEPT, storm_matrix.LOST, storm_matrix.REFUSED
OURS, PLAIN_GIT, SETTINGS = storm_matrix.OURS, storm_matrix.PLAIN_GIT, storm_matrix.SETTINGS


def went_wrong(cells: list[storm_matrix.Cell]) -> list[str]:
    """What was lost, and what did not do as it should, of a group."""
    return [f"{cell.kind}: {one}" for cell in cells for one in (*cell.lost, *cell.failures)]


def covering() -> list[tuple[storm_matrix.Remover, storm_matrix.Setting, list[Kind]]]:
    """Groups in which every kind stands once, every setting once, and every command once or more."""
    ours = [one for one in OURS if one.is_there]
    return [
        (ours[number % len(ours)], setting, KINDS[number :: len(SETTINGS)]) for number, setting in enumerate(SETTINGS)
    ]


def test_the_selection_covers() -> None:
    """Every command stands in the selection under a setting that it can be judged under, and every kind does."""
    assert {remover.name for remover, _, _ in covering()} == {one.name for one in OURS}
    assert [setting.name for remover, setting, _ in covering() if not setting.fits(remover)] == []
    assert sorted(one.name for _, _, kinds in covering() for one in kinds) == sorted(one.name for one in KINDS)


@pytest.mark.parametrize(
    ("remover", "setting", "kinds"), [pytest.param(*one, id=f"{one[0].name}-{one[1].name}") for one in covering()]
)
@pytest.mark.some(2)
def test_nothing_is_lost(
    tmp_path: Path, remover: storm_matrix.Remover, setting: storm_matrix.Setting, kinds: list[Kind]
) -> None:
    """Whatever is removed is a file or reachable from a ref afterwards, and what may be removed is."""
    cells = storm_matrix.attack(tmp_path / "ground", remover, setting, kinds)
    assert (len(cells), went_wrong(cells)) == (len(kinds), [])


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("setting", SETTINGS, ids=lambda one: one.name)
@pytest.mark.parametrize("remover", [one for one in OURS if one.is_there], ids=lambda one: one.name)
def test_nothing_is_lost_in_the_whole_matrix(
    tmp_path: Path, remover: storm_matrix.Remover, setting: storm_matrix.Setting
) -> None:
    """The same for every kind under every command and every setting."""
    if not setting.fits(remover):
        pytest.skip("what is ignored may go when its time is over")
    assert went_wrong(storm_matrix.attack(tmp_path / "ground", remover, setting, KINDS)) == []


def test_the_judge_sees_what_plain_git_loses(tmp_path: Path) -> None:
    """`git worktree remove` refuses what it sees and loses what it does not look at: the matrix tells the one from the other."""
    names = ("modified", "ignored .env", "commits on a detached HEAD", "on another branch", "nothing")
    cells = storm_matrix.attack(tmp_path / "ground", PLAIN_GIT[0], SETTINGS[0], [kind(name) for name in names])
    assert {cell.kind: cell.verdict for cell in cells} == {
        "modified": REFUSED,
        "ignored .env": LOST,
        "commits on a detached HEAD": LOST,
        "on another branch": REFUSED,
        "nothing": KEPT,
    }
    assert {cell.kind: len(cell.lost) for cell in cells if cell.lost} == {
        "ignored .env": 1,
        "commits on a detached HEAD": 4,
    }


@pytest.mark.slow
def test_every_kind_would_be_missed(tmp_path: Path) -> None:
    """A command that deletes without looking loses something of every kind whose content only the tree or its entry holds."""
    line = "rm -rf {path}; rm -rf .git/worktrees/{name}; git update-ref -d refs/heads/{branch}; git gc -q --prune=now"
    cells = storm_matrix.attack(tmp_path / "ground", storm_matrix.command(line), SETTINGS[0])
    contentless = {"deleted", "mode changed", "empty directory", "fifo and socket", "nothing"}
    assert {cell.kind for cell in cells if cell.verdict != LOST} == contentless
