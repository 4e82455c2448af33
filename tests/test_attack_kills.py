"""A killed `moderator` is called again and goes on: each task done once, nothing lost, nothing left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

import attacks

storm_kills = attacks.load("storm_kills")
Options, Row = storm_kills.Options, storm_kills.Row

STEPS = {
    "the claim": "os.link workspaces/.",
    "the entry": "os.rename staging",
    "the checkout": "subprocess.Popen read-tree",
    "the record": "os.rename .new",
    "the commit": "subprocess.Popen commit-tree",
    "the history": "sql UPDATE",
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.some(1)
def test_a_run_killed_at_a_step_is_resumed(tmp_path: Path, step: str) -> None:
    """Killed right before a named step, a run is resumed to its end, and every task has done its work once."""
    victim, row = storm_kills.Victim(tmp_path, 0), Row("one kill")
    run = ("run", str(victim.tasks), "--progress", "none")
    assert victim.call(*run, last=STEPS[step]).returncode == -9
    resumed = victim.patient("run", "--resume", *run[1:])
    assert resumed.returncode == 1, resumed.stderr  # one of the tasks fails on purpose
    storm_kills.judge(victim, row, run, ran=True)
    assert (row.losses, row.failures) == ([], [])


@pytest.mark.timeout(180)
def test_a_storm_of_kills(tmp_path: Path) -> None:
    """Killed at random while it runs, resumes, cleans, brings back, starts anew, restores and mends, it loses nothing.

    And it comes to its end.
    """
    row = storm_kills.storm(str(tmp_path / "storm"), seed=4, kills=5)
    assert (row.losses, row.failures) == ([], [])
    assert row.kills >= 2


def test_the_judge_misses_what_is_gone(tmp_path: Path) -> None:
    """Content that a task wrote and that is nowhere is a loss, and a task that has no commit is a failure."""
    victim, row = storm_kills.Victim(tmp_path, 0), Row("planted")
    victim.journal.write_text("writes run-1 note-1\n")
    storm_kills.judge(victim, row, ("run", "tasks.yaml"), ran=True)
    assert [loss.rpartition(" (")[0] for loss in row.losses] == ["after run tasks.yaml: writes: writes run-1 note-1"]
    assert len(row.failures) == 2 * len(storm_kills.GOOD)


def test_the_judge_counts_work_that_was_done_twice(tmp_path: Path) -> None:
    """A task whose branch shows its work twice is found."""
    victim = storm_kills.Victim(tmp_path, 0)
    done = victim.patient("run", str(victim.tasks), "--progress", "none")
    assert (done.returncode, storm_kills.done_once(victim)) == (1, [])
    tree = tmp_path / "repo.moderator/tasks/writes"
    (tree / "done.txt").write_text("writes\nwrites\n")
    storm_kills.git(tree, "commit", "--quiet", "--all", "-m", "again", "-m", "Moderator-Task: writes")
    storm_kills.note_journal(victim)
    assert storm_kills.done_once(victim) == [
        "task 'writes' has commits of ours: ['writes', 'writes']",
        "task 'writes' did its work not once: 'writes\\nwrites\\n'",
    ]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_three_hundred_kills(tmp_path: Path) -> None:
    """The long form of the storm."""
    row = storm_kills.kills(tmp_path, Options(seed=1))
    assert (row.losses, row.failures) == ([], [])
    assert row.kills >= 200
