"""Ctrl-C, SIGTERM and kill -9 in the middle of a run; and two runs at once."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from commandline import PATIENCE, alive, command, document, ids, moderator, started, task_list, wait_until
from repos import git, make_repository


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "sample", [("first", {"README.md": "# Sample\n"})])


def patient(tmp_path: Path, name: str, on_term: str = "exit 0") -> dict[str, str]:
    """A task that writes down its process and waits; `on_term` is what it does when it is asked to end."""
    run = f"trap '{on_term}' TERM; echo work > work; echo $$ > {tmp_path}/{name}.pid; while :; do sleep 0.05; done"
    return {"id": name, "run": run}


def pids(tmp_path: Path, *names: str) -> list[int]:
    """Return the processes of tasks, after they are all at work."""
    files = [tmp_path / f"{name}.pid" for name in names]
    wait_until(lambda: all(file.exists() and file.read_text().strip() for file in files), "the tasks")
    return [int(file.read_text()) for file in files]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=["INT", "TERM", "HUP"]
)
def test_one_signal_ends_the_tasks_in_order(
    repository: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """Running tasks get SIGTERM and their time, the others never begin; then the summary, and the signal's exit code."""
    ended = f"sleep 0.2; echo ended > {tmp_path}/ended; exit 0"
    listed = task_list(
        tmp_path / "t",
        {"id": "quick", "run": "echo x > x"},
        patient(tmp_path, "slow", ended),
        {"id": "later", "run": f"touch {tmp_path}/began"},
    )
    with started(repository, "run", listed, "-j", "1", "--json", "--progress", "plain") as running:
        (task,) = pids(tmp_path, "slow")
        running.send_signal(number)
        out, err = running.communicate(timeout=PATIENCE)
    assert (running.returncode, alive(task), (tmp_path / "ended").read_text()) == (code, False, "ended\n")
    found = json.loads(out)
    assert found["interrupted"] is True
    assert [(one["task_id"], one["outcome"]) for one in found["results"]] == [
        ("quick", "succeeded"),
        ("slow", "cancelled"),
        ("later", "cancelled"),
    ]
    assert "\nending what runs; once more ends it at once\n" in err
    assert not (tmp_path / "began").exists()
    history = document(moderator(repository, "history", found["run_id"], "--json"))
    assert history["run"]["state"] == "interrupted"
    assert sorted((one["task_id"], one["outcome"]) for one in history["attempts"]) == [
        ("later", "cancelled"),
        ("quick", "succeeded"),
        ("slow", "cancelled"),
    ]
    assert (tmp_path / "sample.moderator/tasks/slow/work").read_text() == "work\n"
    assert git(repository, "fsck", "--strict", "--no-dangling") == ""


def test_an_interrupted_run_ends_with_its_table(repository: Path, tmp_path: Path) -> None:
    """People see what was done and what was not."""
    listed = task_list(tmp_path / "t", patient(tmp_path, "slow"), {"id": "later", "run": "true"})
    with started(repository, "run", listed, "-j", "1", "--progress", "none") as running:
        pids(tmp_path, "slow")
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=PATIENCE)
    lines = re.sub(r"\d+\.\d ?s", "N.Ns", err).splitlines()
    assert (running.returncode, out) == (130, "")
    assert lines[:5] == [
        "",
        "ending what runs; once more ends it at once",
        "   TASK   OUTCOME    TOOK  CHANGED  BRANCH, OR WHY NOT",
        "✗  slow   cancelled  N.Ns  -        cancelled after N.Ns",
        "✗  later  cancelled  N.Ns  -        the run was interrupted before the task began",
    ]
    assert re.fullmatch(r"interrupted: 0 of 2 tasks succeeded \(run \S+\)", lines[5])


def test_a_second_signal_ends_tasks_at_once(repository: Path, tmp_path: Path) -> None:
    """A task that does not want to end is given its grace once; asked again, nobody waits for it."""
    (repository / "moderator.yaml").write_text("grace: 3600\n")
    listed = task_list(tmp_path / "t", patient(tmp_path, "stubborn", f"touch {tmp_path}/asked"))
    with started(repository, "run", listed, "--json") as running:
        (task,) = pids(tmp_path, "stubborn")
        running.send_signal(signal.SIGINT)
        wait_until((tmp_path / "asked").exists, "SIGTERM to the task")
        assert alive(task)
        running.send_signal(signal.SIGINT)
        out, _ = running.communicate(timeout=PATIENCE)
    assert (running.returncode, alive(task), json.loads(out)["results"][0]["outcome"]) == (130, False, "cancelled")


def test_kill_9_loses_nothing_and_leaves_nothing_running(repository: Path, tmp_path: Path) -> None:
    """The tasks' whole trees are ended, workspaces stay with their work, every later command says what happened."""
    pair = ("one", "two")
    listed = task_list(
        tmp_path / "t", {"id": "done", "run": "echo x > x"}, *(patient(tmp_path, name) for name in pair),
        {"id": "later", "run": "true"},
    )  # fmt: skip
    with started(repository, "run", listed, "-j", "2", "--progress", "none") as running:
        tasks = pids(tmp_path, *pair)
        running.kill()
    wait_until(lambda: not any(alive(task) for task in tasks), "the end of the tasks")

    def listing() -> list[dict[str, str]]:
        found: list[dict[str, str]] = document(moderator(repository, "list", "--json"))["workspaces"]
        return found

    wait_until(lambda: all(one["held_by"] is None for one in listing()), "the end of the leases")
    assert [(one["task_id"], one["state"], one["outcome"]) for one in listing()] == [
        ("done", "done", "succeeded"),
        ("one", "interrupted", "interrupted"),
        ("two", "interrupted", "interrupted"),
    ]
    table = moderator(repository, "list").stdout.splitlines()
    assert [re.sub(r"  +", "|", line).split("|")[5] for line in table] == [
        *("LAST OUTCOME", "succeeded", "interrupted", "interrupted"),
    ]
    (run,) = document(moderator(repository, "history", "--json"))["runs"]
    assert (run["state"], run["succeeded"], run["failed"]) == ("interrupted", 1, 0)
    assert "interrupted before it ended" in moderator(repository, "show", "one").stdout
    assert "interrupted" in moderator(repository, "history", run["run_id"]).stdout
    assert moderator(repository, "logs", "-f", "one").returncode == 0
    for name in pair:
        assert (tmp_path / f"sample.moderator/tasks/{name}/work").read_text() == "work\n"
    assert git(repository, "show", "main-task-done:x") == "x"
    assert (git(repository, "fsck", "--strict", "--no-dangling"), git(repository, "status", "--porcelain")) == ("", "")
    again = moderator(repository, "run", task_list(tmp_path / "t", {"id": "other", "run": "echo x > x"}))
    assert again.returncode == 0
    cleaned = moderator(repository, "clean", "--all")
    assert (cleaned.returncode, [line for line in cleaned.stdout.splitlines() if line.startswith("removed")]) == (
        0,
        [f"removed {name}; its branch main-task-{name} stays" for name in ("done", "one", "other", "two")],
    )
    for rescue in document(moderator(repository, "rescue", "list", "--json"))["rescues"]:
        assert git(repository, "show", f"{rescue['ref']}^3:work") == "work"


@pytest.mark.slow
def test_two_runs_with_other_tasks_go_side_by_side(repository: Path, tmp_path: Path) -> None:
    """Two runs on one repository at the same time know nothing of each other."""
    lists = [
        task_list(tmp_path / name, *({"id": f"{name}{number}", "run": "echo x > x"} for number in range(6)))
        for name in ("left", "right")
    ]
    with (
        started(repository, "run", lists[0], "--json") as left,
        started(repository, "run", lists[1], "--json") as right,
    ):
        results = [json.loads(running.communicate(timeout=PATIENCE)[0])["results"] for running in (left, right)]
    assert (left.returncode, right.returncode) == (0, 0)
    assert [[one["outcome"] for one in found] for found in results] == [["succeeded"] * 6] * 2
    runs = document(moderator(repository, "history", "--json"))["runs"]
    assert [(run["state"], run["succeeded"]) for run in runs] == [("finished", 6)] * 2
    assert git(repository, "fsck", "--strict", "--no-dangling") == ""


def test_two_runs_with_the_same_tasks(repository: Path, tmp_path: Path) -> None:
    """While the first runs, the second is told whose process is at it; the first notices nothing."""
    go = tmp_path / "go"
    run = f"touch {tmp_path}/$MODERATOR_TASK_ID.on; while ! [ -e {go} ]; do sleep 0.02; done; echo x > x"
    listed = task_list(tmp_path / "t", *({"id": name, "run": run} for name in ("one", "two", "three")))
    with started(repository, "run", listed, "-j", "1", "--json") as first:
        wait_until((tmp_path / "one.on").exists, "the first task")
        second = moderator(repository, "run", listed)
        go.touch()
        out, _ = first.communicate(timeout=PATIENCE)
    assert (second.returncode, second.stdout) == (75, "")
    assert f"of these tasks is still going on: process {first.pid} on " in second.stderr.splitlines()[0]
    assert [one["outcome"] for one in json.loads(out)["results"]] == ["succeeded"] * 3
    assert len(document(moderator(repository, "history", "--json"))["runs"]) == 1


def test_two_runs_with_the_same_tasks_at_the_same_moment(repository: Path, tmp_path: Path) -> None:
    """However two runs of one list fall together, every task's work is done once: no branch has two runs in it."""
    listed = task_list(tmp_path / "t", *({"id": f"t{number}", "run": "echo x >> x"} for number in range(6)))
    with (
        started(repository, "run", listed, "--json", "-j", "2") as first,
        started(repository, "run", listed, "--json", "-j", "2") as second,
    ):
        for running in (first, second):
            running.communicate(timeout=PATIENCE)
    found = document(moderator(repository, "list", "--json"))["workspaces"]
    assert ids(found) == [f"t{number}" for number in range(6)]
    assert [(one["ahead"], git(repository, "show", f"{one['branch']}:x")) for one in found] == [(1, "x")] * 6
    assert {first.returncode, second.returncode} <= {0, 1, 3, 75}


def test_a_pipe_that_closes_does_not_stop_a_run(repository: Path, tmp_path: Path) -> None:
    """`moderator run ... 2>&1 | head -1`: tasks are carried through and recorded all the same."""
    listed = task_list(tmp_path / "t", *({"id": f"t{number}", "run": "sleep 0.1; echo x > x"} for number in range(4)))
    with started(repository, "run", listed, "--progress", "plain", "-j", "1") as running:
        assert running.stderr is not None
        running.stderr.close()
        running.stderr = None
        running.wait(PATIENCE)
    (run,) = document(moderator(repository, "history", "--json"))["runs"]
    assert (run["state"], run["succeeded"]) == ("finished", 4)


def test_a_signal_that_everybody_gets_ends_a_run_in_order(repository: Path, tmp_path: Path) -> None:
    """Ctrl-C at a terminal goes to the whole group: tasks are in groups of their own and are ended by us, in order."""
    listed = task_list(tmp_path / "t", patient(tmp_path, "slow", f"touch {tmp_path}/asked; exit 0"))
    program = subprocess.Popen(
        command("run", listed, "--progress", "none"), cwd=repository, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    with program:
        pids(tmp_path, "slow")
        os.killpg(program.pid, signal.SIGINT)
        program.communicate(timeout=PATIENCE)
    assert (program.returncode, (tmp_path / "asked").exists()) == (130, True)


def test_nothing_of_a_run_outlives_it(repository: Path, tmp_path: Path) -> None:
    """After a run no process with its id is left: not the supervisor, not a task's child."""
    listed = task_list(tmp_path / "t", {"id": "one", "run": "setsid sleep 600 & true"})
    found = document(moderator(repository, "run", listed, "--json"))
    token = f"MODERATOR_RUN={found['run_id']}".encode()

    def left() -> list[str]:
        here = []
        for place in Path("/proc").glob("[0-9]*"):
            try:
                if (
                    token in (place / "environ").read_bytes()
                    or found["run_id"].encode() in (place / "cmdline").read_bytes()
                ):
                    here.append(place.name)
            except OSError:
                continue
        return here

    deadline = time.monotonic() + PATIENCE
    while left() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert left() == []
