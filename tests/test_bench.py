"""The benchmark works: every step of it, and its table; what it measures is another matter."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "scripts" / "bench_main.py"
ROWS = (
    "create one workspace, 10 files",
    "create one workspace, 20 files",
    "claim a spare, 20 files, {}",
    "claim a spare, base moved by 3 files, 20 files, {}",
    "remove one workspace with a commit, 20 files, {}",
    "create 2 at once (threads), 10 files",
    "create 2 at once (threads), 10 files: failures",
    "create 2 at once (processes, until all are there), 10 files",
    "create 2 at once (processes, until all are there), 10 files: failures",
    "create 2 at once (processes, until all have ended), 10 files",
    "create 2 at once (processes, until all have ended), 10 files: failures",
    "create 2 at once (threads), 10 files, ordinary file system: failures",
    "create 2 at once (processes, until all are there), 10 files, ordinary file system: failures",
    "create one with 2 present against 1: plain git",
    "create one with 2 present against 1: moderator",
    "claim with 2 present against 1",
    "remove with 2 present against 1",
    "`moderator path` with 2 present against 1",
    "2 tasks that do nothing, 10 files, 2 at once",
    "2 tasks that write a file, 10 files, 2 at once",
    "2 tasks that do nothing, 10 files, 4 at once",
    "2 tasks over 4 workers, removed again, 10 files, {}",
    "2 tasks over 4 workers, removed again, 10 files, {}, spares",
    "2 tasks over 4 workers, removed again, 10 files, {}, recycled",
    "2 tasks over 4 workers, removed again, 20 files, {}",
    "2 tasks over 4 workers, removed again, 20 files, {}, spares",
    "2 tasks over 4 workers, removed again, 20 files, {}, recycled",
    "`moderator list`, 2 workspaces",
    "`moderator list --status`, 2 workspaces",
    f"`moderator list --status`, 2 workspaces: what `xargs -P {os.cpu_count()}` makes of that loop",
    "`python -I -S -c pass`",
    "`moderator --version`",
    "`moderator path`",
    "`moderator list`, 2 workspaces with changes",
    "peak memory, 2 tasks queued",
    "peak memory, 2 tasks that print 200 kB each",
    "peak memory, a task that prints 1 MB",
)


_OF_SHORT = r"(create|remove) one workspace"
SHORT = ("create", "remove")
"""Sections that are over in a moment."""


@pytest.mark.parametrize("sections", [SHORT, pytest.param((), marks=pytest.mark.slow)], ids=["a few rows", "every row"])
def test_bench_fills_its_table_and_cleans_up(tmp_path: Path, sections: tuple[str, ...]) -> None:
    """In its smallest form it takes every step, prints every row, fails nowhere, and leaves nothing behind."""
    only = ("--only", *sections) if sections else ()
    done = subprocess.run(
        [sys.executable, str(BENCH), "--smoke", *only, "--dir", str(tmp_path), "--race-dir", str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    table = [line.strip("|") for line in done.stdout.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.split(" | ")] for line in table[2:]]
    of_a_disk = ("claim a", "remove one", "2 tasks over")
    found = [
        re.sub(r"(\d+ files), (?!\d)\w+", r"\1, {}", row[0]) if row[0].startswith(of_a_disk) else row[0]
        for row in cells
    ]
    # Rows for each file system; more than two cores add rows with as many tasks at once.
    expected = [row for row in ROWS if not sections or re.match(_OF_SHORT, row)]
    assert list(dict.fromkeys(row for row in found if row in ROWS)) == expected
    assert all(len(row) == 6 and all(row) for row in cells)
    assert not any("of 2 failed" in row[2] and not row[2].startswith("0 ") for row in cells)
    assert list(tmp_path.iterdir()) == []
