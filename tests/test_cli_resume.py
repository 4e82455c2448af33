"""A run that was killed is continued; the same command line typed again says which word does it."""

from __future__ import annotations

import json
import shlex
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from commandline import PATIENCE, command, document, moderator, started, task_list, wait_until
from moderator.git.leases import held
from moderator.git.registry import Registry, key_of
from moderator.git.repository import Repository
from moderator.store import history_file
from repos import git
from runs import sample


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return sample(tmp_path)


def counting(tmp_path: Path, task_id: str, then: str = "") -> dict[str, str]:
    """A task that notes outside its workspace that it ran, does some work, and then does `then`."""
    note = f"echo $MODERATOR_TASK_ID $MODERATOR_ATTEMPT >> {tmp_path}/ran"
    return {"id": task_id, "run": f"{note}; echo work > {task_id}.txt; {then or 'true'}"}


def waiting(tmp_path: Path, task_id: str) -> dict[str, str]:
    """A task that waits, with work in its tree that is not committed, until `go` is there."""
    return counting(
        tmp_path, task_id, f"touch {tmp_path}/{task_id}.on; while ! [ -e {tmp_path}/go ]; do sleep 0.02; done"
    )


def ran(tmp_path: Path) -> list[str]:
    """Every attempt that was made at a task, in the order of their names."""
    return sorted((tmp_path / "ran").read_text().splitlines())


def killed_run(repository: Path, listed: Path, *until: Path, jobs: int = 2, flags: Sequence[str] = ()) -> None:
    """Run the tasks and kill the process once these files are there."""
    with started(repository, "run", listed, "-j", str(jobs), "--progress", "none", *flags) as running:
        for mark in until:
            wait_until(mark.exists, mark.name)
        running.kill()


def five(tmp_path: Path) -> Path:
    """Two tasks that end, one of them badly, two that wait, and one that is never reached."""
    return task_list(
        tmp_path / "tasks.yaml",
        counting(tmp_path, "done"),
        counting(tmp_path, "bad", "exit 3"),
        waiting(tmp_path, "one"),
        waiting(tmp_path, "two"),
        counting(tmp_path, "later"),
    )


def outcomes(done: subprocess.CompletedProcess[str]) -> list[tuple[str, str, int]]:
    return [(one["task_id"], one["outcome"], one["attempt"]) for one in document(done)["results"]]


def run_record(repository: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = document(moderator(repository, "history", "--json"))["runs"]
    return found


def events(repository: Path) -> list[tuple[str, dict[str, Any]]]:
    with closing(sqlite3.connect(history_file(str(repository / ".git/moderator")))) as record:
        return [(kind, json.loads(data)) for kind, data in record.execute("SELECT kind, data FROM events ORDER BY id")]


@pytest.mark.slow
def test_a_killed_run_is_continued(repository: Path, tmp_path: Path) -> None:
    """What is finished stays so, well or badly; what was cut short is rescued and run again; the rest is run."""
    listed = five(tmp_path)
    killed_run(repository, listed, tmp_path / "one.on", tmp_path / "two.on")
    base = git(repository, "rev-parse", "main")
    git(repository, "commit", "--quiet", "--allow-empty", "-m", "the branch moves on")
    (run,) = run_record(repository)

    refused = moderator(repository, "run", listed, "-j", "2", "--repo", repository)
    typed = shlex.join([sys.executable, "-m", "moderator", "run", str(listed), "-j", "2", "--repo", str(repository)])
    assert (refused.returncode, refused.stdout) == (3, "")
    hints = refused.stderr[refused.stderr.index("hint: ") + 6 :].splitlines()
    assert [line.strip() for line in hints][:2] == [
        f"{typed} --resume   # continue run {run['run_id']}: 2 of 5 tasks are done",
        f"{typed} --fresh   # start anew; what is there is set aside and kept",
    ]

    planned = moderator(repository, "run", listed, "--resume", "--dry-run", "--json")
    assert [(one["task_id"], one["start"], one["attempt"]) for one in document(planned)["plan"]["tasks"]] == [
        ("done", "kept", 1), ("bad", "kept", 1), ("one", "again", 2), ("two", "again", 2), ("later", "run", 1),
    ]  # fmt: skip
    (tmp_path / "go").touch()
    done = moderator(repository, "run", listed, "--resume", "--json", "--progress", "none")
    assert (done.returncode, outcomes(done)) == (
        1,
        [("done", "succeeded", 1), ("bad", "failed", 1), ("one", "succeeded", 2), ("two", "succeeded", 2),
         ("later", "succeeded", 1)],
    )  # fmt: skip
    assert ran(tmp_path) == ["bad 1", "done 1", "later 1", "one 1", "one 2", "two 1", "two 2"]
    assert {one["base"] for one in document(done)["results"]} == {base}
    assert [git(repository, "rev-parse", f"main-task-{name}~1") for name in ("done", "one", "two", "later")] == [
        base
    ] * 4

    (record,) = run_record(repository)
    assert {**run, "succeeded": 4, "failed": 1, "tasks": 5, "state": "finished"}.items() >= {
        name: record[name] for name in ("run_id", "started_at", "base_commit", "state", "succeeded", "failed", "tasks")
    }.items()
    attempts = document(moderator(repository, "history", run["run_id"], "--json"))["attempts"]
    assert sorted((one["task_id"], one["attempt"], one["outcome"]) for one in attempts) == [
        ("bad", 1, "failed"), ("done", 1, "succeeded"), ("later", 1, "succeeded"),
        ("one", 1, "cancelled"), ("one", 2, "succeeded"), ("two", 1, "cancelled"), ("two", 2, "succeeded"),
    ]  # fmt: skip
    kinds = events(repository)
    assert [kind for kind, _ in kinds] == ["resumed", "set aside", "set aside"]
    for one in document(done)["results"][2:4]:
        (rescue,) = [data["rescue"] for kind, data in kinds[1:] if data["task_id"] == one["task_id"]]
        assert one["notes"] == [f"what attempt 1 left was set aside first: moderator rescue show {rescue}"]
        held = git(repository, "for-each-ref", "--format=%(refname)", f"refs/moderator/rescue/{one['task_id']}")
        assert f"{one['task_id']}.txt" in everything_in(repository, held)
    assert git(repository, "fsck", "--strict", "--no-dangling") == ""


def everything_in(repository: Path, ref: str) -> str:
    """The names of all files in the commits that a ref reaches."""
    return git(repository, "log", "-m", "--name-only", "--format=", ref)


@pytest.mark.slow
def test_two_that_resume_at_once(repository: Path, tmp_path: Path) -> None:
    """Exactly one goes on with the run, the other is told by whom it is held; no task is run by both."""
    listed = task_list(tmp_path / "t", waiting(tmp_path, "one"), counting(tmp_path, "two"))
    killed_run(repository, listed, tmp_path / "one.on", jobs=1)
    (tmp_path / "one.on").unlink()
    arguments = ("run", listed, "--resume", "--json", "--progress", "none")
    with started(repository, *arguments) as first, started(repository, *arguments) as second:
        wait_until(lambda: None not in (first.poll(), second.poll()) or (tmp_path / "one.on").exists(), "the task")
        wait_until(lambda: {first.poll(), second.poll()} != {None}, "the end of one of them")
        (tmp_path / "go").touch()
        said = {running.communicate(timeout=PATIENCE)[1]: running.returncode for running in (first, second)}
        winner = first if first.returncode == 0 else second
    assert sorted(said.values()) == [0, 75]
    (loser,) = [text for text, code in said.items() if code == 75]
    assert f"process {winner.pid} on " in loser
    assert ran(tmp_path) == ["one 1", "one 2", "two 1"]
    (run,) = run_record(repository)
    assert (run["state"], run["pid"], run["succeeded"]) == ("finished", winner.pid, 2)


@pytest.mark.slow
def test_two_that_begin_at_once(repository: Path, tmp_path: Path) -> None:
    """One of them runs, the other is told that it is held and leaves no run behind; killed, the one is what is resumed."""
    listed = task_list(tmp_path / "t", waiting(tmp_path, "one"), counting(tmp_path, "two"))
    arguments = ("run", listed, "-j", "1", "--progress", "none")
    with started(repository, *arguments) as first, started(repository, *arguments) as second:
        wait_until(lambda: None not in (first.poll(), second.poll()) or (tmp_path / "one.on").exists(), "the task")
        wait_until(lambda: {first.poll(), second.poll()} != {None}, "the end of one of them")
        loser, winner = (first, second) if first.poll() is not None else (second, first)
        said = loser.communicate(timeout=PATIENCE)[1]
        wait_until((tmp_path / "one.on").exists, "the task")
        winner.kill()
    assert (loser.returncode, f"process {winner.pid} on " in said) == (75, True)
    (run,) = run_record(repository)
    (tmp_path / "go").touch()
    done = moderator(repository, *arguments, "--resume", "--json")
    assert (done.returncode, outcomes(done)) == (0, [("one", "succeeded", 2), ("two", "succeeded", 1)])
    assert (document(done)["run_id"], ran(tmp_path)) == (run["run_id"], ["one 1", "one 2", "two 1"])


@pytest.mark.slow
def test_a_run_whose_tasks_are_all_held_says_so(repository: Path, tmp_path: Path) -> None:
    """Where somebody else has every task, nothing is run and the exit code says why; where one is free, a task has failed."""
    listed = task_list(tmp_path / "t", counting(tmp_path, "one"), counting(tmp_path, "two"))
    registry = Registry(Repository.open(repository).ours)
    with held(registry.lease_path(key_of("one")), "one", PATIENCE):
        with held(registry.lease_path(key_of("two")), "two", PATIENCE):
            done = moderator(repository, "run", listed, "--json")
            assert (done.returncode, [outcome for _, outcome, _ in outcomes(done)]) == (75, 2 * ["no workspace"])
        done = moderator(repository, "run", listed, "--resume", "--json")
        assert (done.returncode, outcomes(done)) == (1, [("one", "no workspace", 2), ("two", "succeeded", 2)])
    assert moderator(repository, "run", listed, "--resume").returncode == 0
    assert (ran(tmp_path), len(run_record(repository))) == (["one 3", "two 2"], 1)


def test_a_run_that_is_alive_is_not_resumed(repository: Path, tmp_path: Path) -> None:
    """Whatever is typed meanwhile is refused with the process that is at it, and nothing is touched."""
    listed = task_list(tmp_path / "t", waiting(tmp_path, "one"), counting(tmp_path, "two"))
    with started(repository, "run", listed, "-j", "1", "--json") as first:
        wait_until((tmp_path / "one.on").exists, "the first task")
        for flags in (["--resume", "--dry-run"], ["--fresh"], []):
            second = moderator(repository, "run", listed, *flags)
            assert (second.returncode, second.stdout) == (75, "")
            assert f"is still going on: process {first.pid} on " in second.stderr
        (tmp_path / "go").touch()
        first.communicate(timeout=PATIENCE)
    assert (first.returncode, ran(tmp_path), len(run_record(repository))) == (0, ["one 1", "two 1"], 1)


def test_an_interrupted_run_is_continued(repository: Path, tmp_path: Path) -> None:
    """Tasks that Ctrl-C ended, and those it came before, are run in the same run; its history shows every attempt."""
    listed = task_list(tmp_path / "t", counting(tmp_path, "done"), waiting(tmp_path, "one"), counting(tmp_path, "two"))
    with started(repository, "run", listed, "-j", "1", "--progress", "none") as running:
        wait_until((tmp_path / "one.on").exists, "the task")
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=PATIENCE)
    assert running.returncode == 130
    (tmp_path / "go").touch()
    done = moderator(repository, "run", listed, "-j", "1", "--resume", "--progress", "plain")
    (run,) = run_record(repository)
    assert (done.returncode, run["state"], run["succeeded"]) == (0, "finished", 3)
    assert done.stderr.splitlines()[0] == (
        f"resume: run {run['run_id']} goes on: 1 of 3 tasks is done, 1 was cut short and starts again, 1 was not begun"
    )
    assert "[2/2] ✓ two succeeded" in done.stderr
    assert ran(tmp_path) == ["done 1", "one 1", "one 2", "two 2"]
    shown = moderator(repository, "history", run["run_id"]).stdout.splitlines()[2:]
    assert [line.split()[:3] for line in shown] == [
        ["done", "1", "succeeded"], ["one", "1", "cancelled"], ["two", "1", "cancelled"],
        ["one", "2", "succeeded"], ["two", "2", "succeeded"],
    ]  # fmt: skip


@pytest.mark.slow
def test_a_finished_run_has_nothing_left_to_do(repository: Path, tmp_path: Path) -> None:
    """Its table is shown with its exit code, from the branch that moved on as well; new tasks are a new run of their own."""
    tasks = [counting(tmp_path, "good"), counting(tmp_path, "bad", "exit 3")]
    listed = task_list(tmp_path / "t", *tasks)
    assert moderator(repository, "run", listed, "--resume", "--progress", "none").returncode == 1
    (run,) = run_record(repository)
    git(repository, "commit", "--quiet", "--allow-empty", "-m", "the branch moves on")
    again = moderator(repository, "run", listed, "--resume")
    assert (again.returncode, again.stderr.splitlines()[0]) == (
        1, f"resume: nothing is left to do: run {run['run_id']} has finished with all of these tasks"
    )  # fmt: skip
    assert f"done: 1 of 2 tasks succeeded (run {run['run_id']})" in again.stderr
    assert (ran(tmp_path), run_record(repository)) == (["bad 1", "good 1"], [run])

    listed = task_list(listed, *tasks, counting(tmp_path, "new"))
    refused = moderator(repository, "run", listed)
    said = f"--resume   # run what run {run['run_id']} has not done: 2 of 3 tasks are done"
    assert (refused.returncode, said in refused.stderr) == (3, True)
    more = moderator(repository, "run", listed, "--resume", "--json", "--progress", "none")
    assert outcomes(more) == [("good", "succeeded", 1), ("bad", "failed", 1), ("new", "succeeded", 1)]
    assert ran(tmp_path) == ["bad 1", "good 1", "new 1"]
    newest = run_record(repository)[0]
    assert (newest["follows"], newest["tasks"], newest["base_commit"]) == (
        run["run_id"], 1, git(repository, "rev-parse", "main"),
    )  # fmt: skip
    once_more = moderator(repository, "run", listed, "--resume", "--json")
    assert (once_more.returncode, len(run_record(repository)), ran(tmp_path)) == (1, 2, ["bad 1", "good 1", "new 1"])

    git(repository, "worktree", "remove", "--force", "--force", f"{repository}.moderator/tasks/good")
    git(repository, "branch", "-D", "main-task-good")
    warned = moderator(repository, "run", listed, "--resume").stderr.splitlines()
    (row,) = [line for line in warned if line.startswith("✓  good ")]
    (note,) = [line for line in warned if line.startswith("note: ")]
    assert ("main-task-good" in row, note.partition(" to its commit ")[0]) == (False, "note: good: nothing leads")


@pytest.mark.slow
def test_a_task_that_left_the_file_is_left_alone(repository: Path, tmp_path: Path) -> None:
    """Its workspace stays as the kill left it, and a note says so; a task that came is run."""
    listed = task_list(tmp_path / "t", waiting(tmp_path, "one"), waiting(tmp_path, "two"))
    killed_run(repository, listed, tmp_path / "one.on", tmp_path / "two.on")
    (tmp_path / "go").touch()
    task_list(listed, waiting(tmp_path, "one"), counting(tmp_path, "new"))
    done = moderator(repository, "run", listed, "--resume", "--progress", "none")
    (run,) = run_record(repository)
    assert done.returncode == 0
    assert done.stderr.splitlines()[0] == (
        f"note: task 'two' of run {run['run_id']} is no longer in {listed}; it is left as it is"
    )
    assert ran(tmp_path) == ["new 1", "one 1", "one 2", "two 1"]
    assert (tmp_path / "sample.moderator/tasks/two/two.txt").read_text() == "work\n"


def test_a_run_goes_on_as_it_began_or_not_at_all(repository: Path, tmp_path: Path) -> None:
    """Another base or level than the run has is a usage error, and changes nothing; the same ones may be named."""
    git(repository, "branch", "other")
    git(repository, "commit", "--quiet", "--allow-empty", "-m", "second")
    listed = task_list(tmp_path / "t", counting(tmp_path, "one"), waiting(tmp_path, "two"))
    killed_run(repository, listed, tmp_path / "two.on", jobs=1)
    (run,) = run_record(repository)
    forked = f"run {run['run_id']} forked from main {run['base_commit'][:12]}, not from 'other'"
    for flags, said in (
        (["--fresh"], "a run is resumed or started afresh, not both"),
        (["--base", "other"], forked),
        (["--isolation", "directory"], f"run {run['run_id']} has isolation level full, not directory"),
        (["--base", "nowhere"], "the base 'nowhere' names no commit in this repository"),
    ):
        refused = moderator(repository, "run", listed, "--resume", *flags)
        assert (refused.returncode, refused.stderr.splitlines()[0]) == (2, f"error: {said}")
    assert (run_record(repository), ran(tmp_path)) == ([run], ["one 1", "two 1"])
    (tmp_path / "go").touch()
    same = moderator(repository, "run", listed, "--resume", "--base", "main", "--isolation", "full")
    assert (same.returncode, ran(tmp_path)) == (0, ["one 1", "two 1", "two 2"])


@pytest.mark.slow
def test_what_a_person_keeps_is_not_set_aside(repository: Path, tmp_path: Path) -> None:
    """A workspace that somebody locked refuses the whole run, with or without `--fresh`, before anything is touched."""
    listed = task_list(tmp_path / "t", waiting(tmp_path, "one"), waiting(tmp_path, "two"))
    killed_run(repository, listed, tmp_path / "one.on", tmp_path / "two.on")
    (tmp_path / "go").touch()
    assert moderator(repository, "lock", "two").returncode == 0
    before = run_record(repository), git(repository, "for-each-ref")
    for flag in ("--resume", "--fresh"):
        refused = moderator(repository, "run", listed, flag)
        assert (refused.returncode, refused.stdout) == (3, "")
    assert (run_record(repository), git(repository, "for-each-ref")) == before
    assert ran(tmp_path) == ["one 1", "two 1"]
    assert moderator(repository, "unlock", "two").returncode == 0
    assert moderator(repository, "run", listed, "--resume").returncode == 0
    assert ran(tmp_path) == ["one 1", "one 2", "two 1", "two 2"]


@pytest.mark.slow
def test_a_run_may_be_killed_again_and_again(repository: Path, tmp_path: Path) -> None:
    """Each time it is resumed as the same run; what every attempt left is in a rescue, and the last one ends it."""
    listed = task_list(tmp_path / "t", waiting(tmp_path, "one"), counting(tmp_path, "two"))
    for _ in range(3):
        (tmp_path / "one.on").unlink(missing_ok=True)
        killed_run(repository, listed, tmp_path / "one.on", jobs=1, flags=["--resume"])
    (tmp_path / "go").touch()
    done = moderator(repository, "run", listed, "--resume", "--json")
    assert (done.returncode, outcomes(done)) == (0, [("one", "succeeded", 4), ("two", "succeeded", 1)])
    assert ran(tmp_path) == ["one 1", "one 2", "one 3", "one 4", "two 1"]
    (run,) = run_record(repository)
    assert (run["state"], run["succeeded"], run["tasks"]) == ("finished", 2, 2)
    rescues = git(repository, "for-each-ref", "--format=%(refname)", "refs/moderator/rescue/one").splitlines()
    assert ["one.txt" in everything_in(repository, one) for one in rescues] == [True] * 3


def test_fresh_starts_anew_and_keeps_what_was(repository: Path, tmp_path: Path) -> None:
    """Old branches and what was in no commit are reachable from rescues, and each task is told where; the run is a new one."""
    listed = five(tmp_path)
    killed_run(repository, listed, tmp_path / "one.on", tmp_path / "two.on")
    old = git(repository, "rev-parse", "main-task-done")
    (tmp_path / "go").touch()
    done = moderator(repository, "run", listed, "--fresh", "--progress", "none")
    assert done.returncode == 1
    assert sorted(ran(tmp_path)) == sorted(["bad 1", "done 1", "one 1", "two 1"] * 2 + ["later 1"])
    for name in ("done", "bad", "one", "two"):
        held = git(repository, "for-each-ref", "--format=%(refname)", f"refs/moderator/rescue/{name}")
        assert f"{name}.txt" in everything_in(repository, held)
        assert f"note: {name}: what an earlier run left was set aside first: moderator rescue show " in done.stderr
        if name == "done":
            git(repository, "merge-base", "--is-ancestor", old, held)
    assert [run["state"] for run in run_record(repository)] == ["finished", "interrupted"]
    again = moderator(repository, "run", listed, "--resume", "--json")
    assert [outcome for _, outcome, _ in outcomes(again)] == [
        "succeeded",
        "failed",
        "succeeded",
        "succeeded",
        "succeeded",
    ]


def test_fresh_where_nothing_is_left_is_a_plain_run(repository: Path, tmp_path: Path) -> None:
    """Nothing is set aside and nothing is said of it."""
    listed = task_list(tmp_path / "t", counting(tmp_path, "one"))
    done = moderator(repository, "run", listed, "--fresh", "--json", "--progress", "none")
    assert (done.returncode, outcomes(done), done.stderr) == (0, [("one", "succeeded", 1)], "")
    assert document(done)["results"][0]["notes"] == []
    assert git(repository, "for-each-ref", "refs/moderator") == ""


@pytest.mark.slow
def test_fresh_does_not_take_what_belongs_to_another_task(repository: Path, tmp_path: Path) -> None:
    """A name that another id owns is refused for all tasks before anything is set aside."""
    assert moderator(repository, "run", task_list(tmp_path / "t", {"id": "a_b", "run": "echo x > x"})).returncode == 0
    one = task_list(tmp_path / "u", {"id": "one", "run": "echo x > x"})
    assert moderator(repository, "run", one).returncode == 0
    before = git(repository, "for-each-ref")
    both = task_list(tmp_path / "v", {"id": "one", "run": "true"}, {"id": "a-b", "run": "true"})
    refused = moderator(repository, "run", both, "--fresh")
    assert (refused.returncode, git(repository, "for-each-ref")) == (3, before)
    assert "task 'a-b': the workspace of task 'a_b' at" in refused.stderr
    assert "--fresh" not in refused.stderr


def test_a_run_without_a_file_cannot_be_resumed(repository: Path, tmp_path: Path) -> None:
    """Tasks that came through a pipe are gone with it."""
    text = json.dumps({"tasks": [counting(tmp_path, "one")]})
    done = subprocess.run(
        command("run", "/dev/stdin", "--resume"), cwd=repository, input=text, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        2, "error: only a run of tasks that a file lists can be resumed"
    )  # fmt: skip


def test_the_same_file_by_another_name_is_the_same(repository: Path, tmp_path: Path) -> None:
    """A run belongs to the file itself: relative, through a link or from another directory."""
    listed = task_list(tmp_path / "t", counting(tmp_path, "one"))
    (tmp_path / "link").symlink_to("t")
    (tmp_path / "elsewhere").mkdir()
    assert moderator(repository, "run", listed).returncode == 0
    again = moderator(tmp_path / "elsewhere", "run", "../link", "--resume", "--repo", repository)
    assert (again.returncode, again.stderr.splitlines()[0][:31]) == (0, "resume: nothing is left to do: ")
    assert ran(tmp_path) == ["one 1"]


def test_a_plan_says_what_becomes_of_each_task(repository: Path, tmp_path: Path) -> None:
    """`--dry-run` shows it in a column of its own, which a plain run's plan does not have; nothing is made."""
    listed = task_list(tmp_path / "t", {"id": "bad", "run": "exit 3"}, {"id": "good", "run": "echo x > x"})
    assert moderator(repository, "run", listed).returncode == 1
    task_list(listed, {"id": "bad", "run": "exit 3"}, {"id": "new", "run": "true"})
    before = git(repository, "for-each-ref")
    for flag, fates in (
        ("--resume", ["kept: failed", "run"]),
        ("--fresh", ["what is there is rescued, then run", "run"]),
    ):
        shown = moderator(repository, "run", listed, flag, "--dry-run").stdout.splitlines()
        column = shown[1].index("WHAT HAPPENS")
        assert [line[column : shown[1].index("COMMAND")].strip() for line in shown[2:4]] == fates
    assert git(repository, "for-each-ref") == before
