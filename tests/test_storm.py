"""The storm works: every section of it prints its line, and what is lost or fails is told and ends with exit code 1."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import attacks

STORM = attacks.SCRIPTS / "storm_main.py"


def storm(tmp_path: Path, *arguments: str) -> tuple[int, dict[str, list[str]], str]:
    """Run the smallest form; return the exit code, the last table's cells by their first, and everything printed."""
    done = subprocess.run(
        [sys.executable, str(STORM), "--smoke", "--jobs", "2", "--dir", str(tmp_path), *arguments],
        capture_output=True,
        text=True,
    )
    lines = done.stdout.split("| what")[-1].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("|")]
    assert list(tmp_path.iterdir()) == [], "something was left behind"
    return done.returncode, {row[0]: row[1:] for row in rows}, done.stdout + done.stderr


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("section", "rows"),
    [
        pytest.param("matrix", ["removal matrix: remove", "removal matrix: rescue"], marks=pytest.mark.slow),
        pytest.param("ledger", ["ledger machine"], marks=pytest.mark.slow),
        pytest.param("kills", ["kill storm: run, resume, clean, undo, fresh, restore, doctor"], marks=pytest.mark.slow),
        pytest.param(
            "races",
            ["race storm: own tasks", "race storm: shared tasks", "race storm: plain git beside"],
            marks=pytest.mark.slow,
        ),
        pytest.param("hostile", ["hostile tasks and machines"], marks=pytest.mark.slow),
    ],
)
def test_a_section_prints_its_lines(tmp_path: Path, section: str, rows: list[str]) -> None:
    """Each section counts what it did, and finds nothing lost and nothing failing."""
    code, table, printed = storm(tmp_path, section)
    assert [table[row][3:] for row in rows] == [["0", "0"] for _ in rows], printed
    assert (code, all(int(table[row][0]) > 0 for row in rows)) == (0, True), printed


@pytest.mark.slow
def test_a_planted_loss_is_noticed(tmp_path: Path) -> None:
    """A command that loses work stands in the matrix as such; held to our promises, it ends the storm with exit code 1."""
    line = "rm -rf {path}; git worktree prune"
    code, table, printed = storm(tmp_path, "matrix", "--command", line, "--strict")
    assert code == 1
    assert int(table["removal matrix: rm -rf"][3]) > 0
    assert "LOSS: removal matrix: rm -rf: modified / plain: file 'src/a.txt'" in printed
    assert "**lost**" in printed


def test_an_unknown_section_is_refused(tmp_path: Path) -> None:
    """A misspelt section says which there are."""
    code, _, printed = storm(tmp_path, "killz")
    assert (code, "matrix, ledger, kills, races, hostile" in printed) == (2, True)
