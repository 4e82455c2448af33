"""What a run that was cut short left to do: decided from records and commits, never done twice."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from commandline import picture
from moderator.context import IsolationLevel
from moderator.errors import CheckoutNotClean, UsageError, WorkspaceBusy, WorkspaceOccupied
from moderator.git.manager import GitManager
from moderator.git.values import Commit
from moderator.models import Outcome
from moderator.orchestrator import Orchestrator, RunSummary
from moderator.plan import Start, make_plan
from moderator.preparing.standing import Standing
from moderator.process import Cancellation
from moderator.resuming import (
    NOTHING_RAN,
    LastRun,
    afresh,
    is_work_of,
    last_of,
    refuse_other_choices,
    resumed,
    with_set_up_again,
)
from moderator.store import AttemptRecord, RunRecord, Store, history_file
from repos import git
from runs import Listening, base_context, sample, shell, words

RUN = RunRecord(
    run_id="r-1", started_at=1.0, finished_at=None, state="running", base_branch="main", base_commit="a" * 40,
    isolation_level="full", workers=4, command_line="", pid=0, boot_id="", host="h", process_started=0.0,
    source="/srv/tasks.yaml",
)  # fmt: skip
ATTEMPT = AttemptRecord(
    run_id="r-1", task_id="one", attempt=1, description="", started_at=10.0, finished_at=None, outcome=None,
    exit_code=None, error_message=None, branch="main-task-one", base="a" * 40, commit=None, path="/p", log="/l/output.log",
    backend="shell", duration_seconds=None, notes=(),
)  # fmt: skip
OURS = {"Moderator-Task": "one", "Moderator-Run": "r-1", "Moderator-Attempt": "1"}


def commit(**trailers: str) -> Commit:
    named = {name.replace("_", "-"): value for name, value in trailers.items()}
    return Commit("c" * 40, "s", "m", "A", 12.5, OURS | named, ("a" * 40,))


@pytest.mark.parametrize(
    ("attempt", "last_commit", "left", "state", "start", "number"),
    [
        (None, None, False, "running", Start.RUN, 1),
        (None, commit(), True, "running", Start.RUN, 1),
        *((replace(ATTEMPT, outcome=outcome.value), commit(), True, "running", Start.KEPT, 1)
          for outcome in Outcome if outcome.value not in {"cancelled", "backend failed", *NOTHING_RAN}),
        (replace(ATTEMPT, attempt=3, outcome="failed"), None, False, "interrupted", Start.KEPT, 3),
        (ATTEMPT, commit(), True, "running", Start.RECORDED, 1),
        (ATTEMPT, commit(Moderator_Run="r-2"), True, "running", Start.AGAIN, 2),
        (ATTEMPT, commit(Moderator_Attempt="2"), True, "running", Start.AGAIN, 2),
        (ATTEMPT, commit(Moderator_Task="two"), True, "running", Start.AGAIN, 2),
        (ATTEMPT, None, True, "interrupted", Start.AGAIN, 2),
        (replace(ATTEMPT, attempt=4), None, True, "interrupted", Start.AGAIN, 5),
        (ATTEMPT, None, False, "running", Start.RUN, 2),
        (replace(ATTEMPT, outcome="cancelled"), None, False, "interrupted", Start.RUN, 2),
        (replace(ATTEMPT, outcome="cancelled"), None, True, "interrupted", Start.AGAIN, 2),
        (replace(ATTEMPT, outcome="cancelled"), commit(), True, "interrupted", Start.RECORDED, 1),
        (replace(ATTEMPT, run_id="r-0", attempt=4), None, True, "running", Start.AGAIN, 1),
        (ATTEMPT, None, True, "finished", Start.AGAIN, 2),
        (replace(ATTEMPT, run_id="r-0"), None, True, "finished", Start.AGAIN, 1),
        (replace(ATTEMPT, outcome="could not start"), None, True, "finished", Start.AGAIN, 2),
        (replace(ATTEMPT, outcome="could not start"), None, False, "interrupted", Start.RUN, 2),
        (replace(ATTEMPT, outcome="no workspace"), None, False, "finished", Start.RUN, 2),
        (replace(ATTEMPT, outcome="no workspace"), None, True, "finished", Start.RUN, 2),
        (replace(ATTEMPT, outcome="no workspace"), None, True, "running", Start.RUN, 2),
    ],
)  # fmt: skip
def test_what_becomes_of_a_task(
    attempt: AttemptRecord | None, last_commit: Commit | None, left: bool, state: str, start: Start, number: int,
    tmp_path: Path,
) -> None:  # fmt: skip
    """An end of its own is kept, a commit of exactly this attempt is recorded, anything else is run again.

    Where something of its own is not finished, a run goes on, whatever it says of itself.  Of an attempt that got no workspace
    nothing can be left: what is there is not set aside.
    """
    plan = make_plan([shell("one")], base_context(tmp_path), "a" * 40, None)
    last = LastRun(replace(RUN, state=state), {"one": attempt} if attempt else {})
    found = resumed(plan, last, {"one": last_commit} if last_commit else {}, {"one"} if left else set())
    (planned,) = found.tasks
    recorded = last_commit if start is Start.RECORDED else None
    assert (planned.start, planned.attempt, planned.earlier, planned.commit) == (start, number, attempt, recorded)
    goes_on = state != "finished" or (attempt is not None and attempt.run_id == "r-1" and start is not Start.KEPT)
    assert (found.continues, found.is_done) == (goes_on, state == "finished" and start is Start.KEPT)


def known(run_id: str, held: dict[str, int] | None = None, state: str = "finished", **attempts: str | None) -> LastRun:
    """A run with these tasks' outcomes."""
    own = {name: replace(ATTEMPT, run_id=run_id, task_id=name, outcome=outcome) for name, outcome in attempts.items()}
    return LastRun(replace(RUN, run_id=run_id, state=state), own, frozenset(), held or {})


def test_a_run_that_did_nothing_hides_no_other() -> None:
    """What was held by somebody else is asked of the runs before; a run of which that is all is passed over."""
    cut_short = known("r-1", state="interrupted", one=None, two="succeeded")
    idle, busy = known("r-2", {"one": 1, "two": 1}), known("r-3", {"one": 1}, three="succeeded")
    assert last_of([]) is None
    assert last_of([idle]) == idle
    assert last_of([idle, cut_short]) == cut_short
    assert last_of([idle, idle, cut_short, known("r-0", one="failed")]) == cut_short
    both = last_of([busy, idle, cut_short, known("r-0", one="failed")])
    assert both == replace(busy, attempts={**busy.attempts, "one": cut_short.attempts["one"]})
    assert (both.finished(["one", "three"]), both.goes_on(["one"]), both.goes_on(["three"])) == (["three"], True, False)
    assert (both.next_number("one"), both.next_number("three"), both.next_number("four")) == (2, 2, 1)
    for told in (replace(idle, anew=frozenset({"one", "two"})), replace(idle, run=replace(idle.run, state="running"))):
        assert last_of([told, known("r-0", four="failed")]) == told


def test_a_task_that_is_not_listed_any_more_is_named(tmp_path: Path) -> None:
    """Tasks that the run had and the list has not are told, in order."""
    plan = make_plan([shell("one"), shell("new")], base_context(tmp_path), "a" * 40, None)
    attempts = {name: replace(ATTEMPT, task_id=name) for name in ("z", "one", "b")}
    assert resumed(plan, LastRun(RUN, attempts), {}, set()).vanished == ("b", "z")


def test_an_id_is_compared_as_it_stands_in_a_line() -> None:
    """Trailers hold an id with its blanks folded; the work of such a task is known all the same."""
    assert is_work_of(commit(Moderator_Task="a b"), replace(ATTEMPT, task_id="a  b\n"))
    assert not is_work_of(commit(Moderator_Task="a b"), replace(ATTEMPT, task_id="ab"))


def test_starting_afresh_sets_aside_what_is_there(tmp_path: Path) -> None:
    """Tasks with something under their names start again, as the first attempt of a new run; the others just run."""
    plan = afresh(make_plan([shell("one"), shell("two")], base_context(tmp_path), "a" * 40, None), {"two"})
    assert [(one.start, one.attempt, one.earlier) for one in plan.tasks] == [
        (Start.RUN, 1, None), (Start.AGAIN, 1, None),
    ]  # fmt: skip
    assert (plan.continues, plan.is_done, plan.earlier) == (False, False, None)


def test_only_what_a_set_up_left_unfinished_is_set_up_again(tmp_path: Path) -> None:
    """A workspace stays if its set-up failed or was cut short; for any other task the wish is refused."""
    plan = make_plan([shell("one"), shell("two")], base_context(tmp_path), "a" * 40, None)
    plan = replace(plan, tasks=(replace(plan.tasks[0], start=Start.AGAIN), plan.tasks[1]))
    for stage in ("set-up failed", "setting up"):
        found = with_set_up_again(plan, ["one"], {"one": Standing("one", 1.0, stage)})
        assert [one.start for one in found.tasks] == [Start.SET_UP, Start.RUN]
    assert with_set_up_again(plan, [], {}) == plan
    for standings in ({}, {"one": Standing("one", 1.0, "ready")}):
        with pytest.raises(UsageError, match="task 'one' has no workspace whose set-up failed or was cut short"):
            with_set_up_again(plan, ["one"], standings)
    with pytest.raises(UsageError, match="task 'two' has no workspace whose set-up failed"):  # it is not there any more
        with_set_up_again(plan, ["two"], {"two": Standing("two", 1.0, "set-up failed")})
    with pytest.raises(UsageError, match="no task of the list has the id 'three'"):
        with_set_up_again(plan, ["three"], {})


def test_a_run_keeps_its_base_and_level() -> None:
    """The same base may be named by its branch or by any name of its commit."""
    for base, commit_id, level in ((None, None, None), ("main", None, "full"), ("v1", "a" * 40, None)):
        refuse_other_choices(RUN, base, commit_id, level)
    with pytest.raises(UsageError, match="run r-1 forked from main aaaaaaaaaaaa, not from 'v2'"):
        refuse_other_choices(RUN, "v2", "b" * 40, None)
    with pytest.raises(UsageError, match="run r-1 has isolation level full, not branch"):
        refuse_other_choices(RUN, None, None, "branch")


# -- with real runs ----------------------------------------------------------------------------------------------------

_KILLED = """
import fcntl, os, signal, sys
from moderator.models import Task
from moderator.orchestrator import Orchestrator

repository, source, level, count = sys.argv[1:]
committed = False

def watch(event, arguments):
    # The first lease that is given back after the work's ref has moved: the record is written only then.
    global committed
    if event == "subprocess.Popen" and "moderator: work committed" in arguments[1]:
        committed = True
    elif committed and event == "fcntl.flock" and arguments[1] == fcntl.LOCK_UN:
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
tasks = [Task("one", "Do one", run=f"echo one >> {count}; echo x > x"), Task("two", "Do two", run=f"echo two >> {count}")]
Orchestrator(None, repository).run(tasks, source=source, level=level)
"""


def counted(tmp_path: Path) -> list[Any]:
    """The same two tasks as those of the killed process: each notes outside its workspace that it ran."""
    return [
        shell("one", f"echo one >> {tmp_path}/ran; echo x > x"),
        shell("two", f"echo two >> {tmp_path}/ran"),
    ]


def cut_short(repository: Path, state: str = "running") -> None:
    """Make the only run one whose process died before it could say so, in another boot."""
    with closing(sqlite3.connect(history_file(str(repository / ".git/moderator")), isolation_level=None)) as record:
        record.execute("UPDATE runs SET state = ?, finished_at = NULL, boot_id = 'another'", (state,))


def forget_end(repository: Path, task_id: str) -> None:
    """Take from the record how an attempt ended, as if the process had died before writing it."""
    with closing(sqlite3.connect(history_file(str(repository / ".git/moderator")), isolation_level=None)) as record:
        record.execute(
            'UPDATE attempts SET outcome = NULL, exit_code = NULL, "commit" = NULL WHERE task_id = ?', (task_id,)
        )


def resume(repository: Path, tmp_path: Path, tasks: list[Any], **choices: Any) -> RunSummary:
    return Orchestrator(None, repository).run(tasks, source=str(tmp_path / "t"), resume=True, **choices)


@pytest.mark.parametrize("keep", ["always", "never"])
@pytest.mark.parametrize("level", ["full", "directory", "branch"])
@pytest.mark.some(3)
def test_a_kill_between_commit_and_record_costs_nothing(level: str, keep: str, tmp_path: Path) -> None:
    """A task whose work is committed is recorded as done, with that commit, and not run a second time."""
    repository = sample(tmp_path)
    arguments = [str(repository), str(tmp_path / "t"), level, str(tmp_path / "ran")]
    killed = subprocess.run([sys.executable, "-c", _KILLED, *arguments], capture_output=True, text=True)
    assert (killed.returncode, killed.stderr) == (-signal.SIGKILL, "")
    ref = "refs/moderator/result/one" if level == "directory" else "refs/heads/main-task-one"
    tip = git(repository, "rev-parse", ref)
    with Store(history_file(str(repository / ".git/moderator"))) as store:
        assert [(one.task_id, one.outcome) for one in store.attempts()] == [("one", None)]

    summary = resume(repository, tmp_path, counted(tmp_path), keep=keep)
    one, two = summary.results
    assert (one.outcome, one.commit, one.attempt, one.exit_code, one.success) == (Outcome.SUCCEEDED, tip, 1, 0, True)
    assert one.notes == [f"its run was cut short after the commit {tip[:12]}; only the record of that was missing"]
    assert (two.outcome, summary.success) == (Outcome.UNCHANGED, True)
    assert (tmp_path / "ran").read_text().split() == ["one", "two"]
    assert (git(repository, "rev-parse", ref), git(repository, "show", f"{ref}:x")) == (tip, "x")
    assert one.workspace_kept is (keep == "always")
    assert Path(f"{repository}.moderator/tasks/one").exists() is (keep == "always" and level != "branch")
    with Store(history_file(str(repository / ".git/moderator"))) as store:
        (run,) = store.runs()
        (first, _) = store.attempts()
    assert (run.run_id, run.state, run.succeeded) == (summary.run_id, "finished", 2)
    assert (first.outcome, first.commit, first.notes) == ("succeeded", tip, tuple(one.notes))


@pytest.mark.parametrize("level", ["full", "directory"])
def test_what_is_not_this_attempts_commit_is_run_again(level: str, tmp_path: Path) -> None:
    """A branch or result on which only the task itself, or somebody else, has committed proves nothing."""
    repository = sample(tmp_path)
    own = "git add . && git commit --quiet -m 'the task says that it is done'"
    tasks = [shell("one", f"echo one >> {tmp_path}/ran; echo x > x; {own}")]
    orchestrator = Orchestrator(None, repository)
    (first,) = orchestrator.run(tasks, source=str(tmp_path / "t"), level=level).results
    cut_short(repository)
    forget_end(repository, "one")
    summary = resume(repository, tmp_path, tasks)
    (again,) = summary.results
    assert (words(again), again.attempt, summary.run_id) == ("succeeded", 2, first.run_id)
    assert [note.partition(":")[0] for note in again.notes] == ["what attempt 1 left was set aside first"]
    assert (tmp_path / "ran").read_text().split() == ["one", "one"]
    held = git(repository, "for-each-ref", "--format=%(refname)", "refs/moderator/rescue/one")
    git(repository, "merge-base", "--is-ancestor", str(first.commit), held)
    assert Path(str(again.log)).parent.name == "2"


def test_a_run_killed_at_its_very_end_is_only_finished(tmp_path: Path) -> None:
    """Where every task is recorded, nothing is run and nothing is asked of the checkout; the run says that it is finished."""
    repository = sample(tmp_path)
    orchestrator = Orchestrator(None, repository)
    before = orchestrator.run(counted(tmp_path), source=str(tmp_path / "t"), level="none")
    cut_short(repository)
    listening = Listening()
    plan = orchestrator.plan(counted(tmp_path), source=str(tmp_path / "t"), resume=True)
    after = orchestrator.carry_out(plan, listening)
    assert (after.run_id, listening.said) == (before.run_id, [])
    assert [(words(one), one.duration_seconds) for one in after.results] == [
        (words(one), one.duration_seconds) for one in before.results
    ]
    with Store(history_file(orchestrator.git.state_root)) as store:
        assert [(run.state, run.boot_id != "another") for run in store.runs()] == [("finished", True)]
    assert (tmp_path / "ran").read_text().split() == ["one", "two"]


def test_a_plan_to_resume_that_came_too_late_is_refused(tmp_path: Path) -> None:
    """Two plans of one run: the first that is carried out has it, the second learns who, and runs nothing."""
    repository = sample(tmp_path)
    orchestrator = Orchestrator(None, repository)
    orchestrator.run(counted(tmp_path), source=str(tmp_path / "t"))
    cut_short(repository, "interrupted")
    forget_end(repository, "two")
    choices: dict[str, Any] = {"source": str(tmp_path / "t"), "resume": True}
    plans = [orchestrator.plan(counted(tmp_path), **choices) for _ in range(2)]
    assert orchestrator.carry_out(plans[0]).success
    before = picture(tmp_path / "sample.moderator")
    with pytest.raises(WorkspaceBusy, match=r"run .* was resumed by process \d+ on .* meanwhile"):
        orchestrator.carry_out(plans[1])
    assert picture(tmp_path / "sample.moderator") == before
    assert (tmp_path / "ran").read_text().split() == ["one", "two", "two"]


@pytest.mark.parametrize("change", ["process_started = process_started + 1", "boot_id = 'another'", "pid = 0x7fffffff"])
def test_a_pid_that_was_given_to_another_process_means_nothing(change: str, tmp_path: Path) -> None:
    """A run whose pid is a living process that started at another moment, or in another boot, is continued."""
    repository = sample(tmp_path)
    orchestrator = Orchestrator(None, repository)
    orchestrator.run(counted(tmp_path), source=str(tmp_path / "t"))
    forget_end(repository, "two")
    with closing(sqlite3.connect(history_file(orchestrator.git.state_root), isolation_level=None)) as record:
        record.execute("UPDATE runs SET state = 'running', finished_at = NULL")
        for choices in ({"resume": True}, {"fresh": True}):
            with pytest.raises(WorkspaceBusy, match=rf"is still going on: process {os.getpid()} on "):
                orchestrator.plan(counted(tmp_path), source=str(tmp_path / "t"), **choices)
        record.execute(f"UPDATE runs SET {change}")
    assert [one.attempt for one in resume(repository, tmp_path, counted(tmp_path)).results] == [1, 2]
    assert (tmp_path / "ran").read_text().split() == ["one", "two", "two"]


def test_a_run_on_another_machine_is_not_resumed_but_may_be_given_up(tmp_path: Path) -> None:
    """Nobody here can tell whether it still runs there; what is not leased may be set aside."""
    repository = sample(tmp_path)
    orchestrator = Orchestrator(None, repository)
    orchestrator.run(counted(tmp_path), source=str(tmp_path / "t"))
    with closing(sqlite3.connect(history_file(orchestrator.git.state_root), isolation_level=None)) as record:
        record.execute("UPDATE runs SET state = 'running', finished_at = NULL, host = 'elsewhere'")
    with pytest.raises(WorkspaceBusy) as refused:
        orchestrator.plan(counted(tmp_path), source=str(tmp_path / "t"), resume=True)
    assert "on elsewhere" in refused.value.message
    assert "start anew with --fresh" in refused.value.hint
    summary = orchestrator.run(counted(tmp_path), source=str(tmp_path / "t"), fresh=True)
    assert (summary.success, [one.attempt for one in summary.results]) == (True, [1, 1])


def test_planning_to_resume_makes_nothing(tmp_path: Path) -> None:
    """Neither kind of plan leaves a file or ref, whatever it would do."""
    repository = sample(tmp_path)
    orchestrator = Orchestrator(None, repository)
    orchestrator.run(counted(tmp_path), source=str(tmp_path / "t"))
    cut_short(repository)
    forget_end(repository, "two")
    orchestrator.last_run("")  # an old record would be brought up to date on opening
    before = picture(tmp_path)
    for choices in ({"resume": True}, {"fresh": True}):
        orchestrator.plan(counted(tmp_path), source=str(tmp_path / "t"), **choices)
    assert picture(tmp_path) == before


@pytest.mark.parametrize("level", [IsolationLevel.NONE, IsolationLevel.BRANCH])
def test_what_a_task_left_in_the_checkout_is_the_persons(level: IsolationLevel, tmp_path: Path) -> None:
    """A level that runs in the checkout is resumed once a person has put aside, as told, what the killed attempt left there."""
    repository = sample(tmp_path)
    cancellation = Cancellation()

    class Cancelling(Listening):
        def on_task_start(self, task: Any) -> None:
            if task.id == "two":
                cancellation.cancel()

    tasks = [shell("one"), shell("two", "echo half > half; sleep 0.3; echo whole > half")]
    orchestrator = Orchestrator(None, repository, cancellation=cancellation)
    first = orchestrator.run(tasks, Cancelling(), source=str(tmp_path / "t"), level=level)
    assert [words(one) for one in first.results] == ["unchanged", "cancelled"]
    (repository / "half").write_text("half\n")
    before = picture(repository / "half", repository / "README.md")
    with pytest.raises(CheckoutNotClean) as refused:
        resume(repository, tmp_path, tasks)
    assert "a task that was cut short may have left them" in refused.value.hint
    assert picture(repository / "half", repository / "README.md") == before
    told = dict(line.rsplit(": ", 1) for line in refused.value.hint.splitlines() if ": git " in line)
    subprocess.run(told["put them aside"], shell=True, check=True, stdout=subprocess.DEVNULL)
    assert not (repository / "half").exists()
    summary = resume(repository, tmp_path, tasks)
    assert [(words(one), one.attempt) for one in summary.results] == [("unchanged", 1), ("succeeded", 2)]
    assert summary.run_id == first.run_id
    (repository / "half").unlink(missing_ok=True)
    back = next(line for name, line in told.items() if name.endswith("have them back later"))
    subprocess.run(back, shell=True, check=True, stdout=subprocess.DEVNULL)
    assert (repository / "half").read_text() == "half\n"


def test_what_no_record_knows_is_not_run_over(tmp_path: Path) -> None:
    """A task that the run had not begun, but under whose names something is, refuses the whole run."""
    repository = sample(tmp_path)
    orchestrator = Orchestrator(None, repository)
    orchestrator.run(counted(tmp_path), source=str(tmp_path / "t"))
    cut_short(repository)
    git(repository, "branch", "main-task-new")
    with pytest.raises(WorkspaceOccupied) as refused:
        resume(repository, tmp_path, [*counted(tmp_path), shell("new")])
    assert refused.value.findings == ("task 'new': the branch 'main-task-new' exists",)
    with Store(history_file(orchestrator.git.state_root)) as store:
        assert [run.state for run in store.runs()] == ["running"]


@pytest.mark.parametrize("how", ["switched to", "being rebased"])
def test_a_branch_that_somebody_is_on_is_found_before_anything_is_set_aside(how: str, tmp_path: Path) -> None:
    """One branch without a workspace that a person has checked out refuses the whole of a new beginning; all stays as it was."""
    repository = sample(tmp_path)
    orchestrator = Orchestrator(None, repository)
    orchestrator.run(counted(tmp_path), source=str(tmp_path / "t"))
    orchestrator.git.remove_workspace("two")
    git(repository, "switch", "--quiet", "main-task-two")
    if how == "being rebased":
        git(repository, "rebase", "--quiet", "--interactive", "--root", GIT_SEQUENCE_EDITOR="echo break >")
    before = picture(tmp_path)
    with pytest.raises(WorkspaceOccupied, match="the branch 'main-task-two' is checked out by the worktree of "):
        orchestrator.run(counted(tmp_path), source=str(tmp_path / "t"), base="main", fresh=True)
    assert picture(tmp_path) == before
    if how == "being rebased":
        git(repository, "rebase", "--abort")
    git(repository, "switch", "--quiet", "main")
    assert orchestrator.run(counted(tmp_path), source=str(tmp_path / "t"), fresh=True).success


def test_what_never_ran_is_run_when_the_obstacle_is_gone(tmp_path: Path) -> None:
    """A task without a workspace, or whose program was missing, is not finished: the same run goes on with it, from its base."""
    repository, program = sample(tmp_path), tmp_path / "program"
    tasks = [*counted(tmp_path), shell("new"), shell("missing", [str(program)])]
    git(repository, "branch", "main-task-new/in-the-way")
    first = Orchestrator(None, repository).run(tasks, source=str(tmp_path / "t"))
    assert [words(one) for one in first.results] == ["succeeded", "unchanged", "no workspace", "could not start"]
    git(repository, "commit", "--quiet", "--allow-empty", "-m", "the branch moves on")
    again = resume(repository, tmp_path, tasks)
    assert [words(one) for one in again.results] == [words(one) for one in first.results]
    git(repository, "branch", "-D", "main-task-new/in-the-way")
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    last = resume(repository, tmp_path, tasks)
    assert [(words(one), one.attempt) for one in last.results] == [
        ("succeeded", 1), ("unchanged", 1), ("unchanged", 3), ("unchanged", 3)
    ]  # fmt: skip
    assert {one.base for one in last.results} == {first.plan.base_commit}
    assert {first.run_id, again.run_id, last.run_id} == {first.run_id}
    assert (tmp_path / "ran").read_text().split() == ["one", "two"]
    assert resume(repository, tmp_path, tasks).plan.is_done


def test_what_came_under_the_name_of_a_task_that_never_ran_is_not_set_aside(tmp_path: Path) -> None:
    """A branch that kept a task from its workspace is somebody's: resuming refuses until it is out of the way."""
    repository = sample(tmp_path)
    orchestrator = Orchestrator(None, repository)
    plan = orchestrator.plan(counted(tmp_path), source=str(tmp_path / "t"))
    git(repository, "branch", "main-task-two")  # since the plan was made
    assert [words(one) for one in orchestrator.carry_out(plan).results] == ["succeeded", "no workspace"]
    before = git(repository, "for-each-ref")
    with pytest.raises(WorkspaceOccupied) as refused:
        resume(repository, tmp_path, counted(tmp_path))
    assert refused.value.findings == ("task 'two': the branch 'main-task-two' exists",)
    assert git(repository, "for-each-ref") == before
    git(repository, "branch", "-m", "main-task-two", "mine")
    assert [(words(one), one.attempt) for one in resume(repository, tmp_path, counted(tmp_path)).results] == [
        ("succeeded", 1), ("unchanged", 2)
    ]  # fmt: skip


def test_a_run_that_found_everything_held_hides_no_interrupted_one(tmp_path: Path) -> None:
    """It says that it was held, and what goes on is the run before it, though that one is older."""
    repository = sample(tmp_path)
    orchestrator = Orchestrator(None, repository)
    first = orchestrator.run(counted(tmp_path)[:1], source=str(tmp_path / "t"))
    forget_end(repository, "one")
    cut_short(repository, "interrupted")
    planned = orchestrator.plan([shell("two", f"echo two >> {tmp_path}/ran")], source=str(tmp_path / "t"))
    held = GitManager(repository)
    with held.create_workspace(planned.tasks[0].context):
        second = orchestrator.carry_out(planned)
    assert (second.is_held, second.success, second.held) == (True, False, {"two"})
    held.remove_workspace("two")
    git(repository, "branch", "-D", "main-task-two")
    summary = resume(repository, tmp_path, counted(tmp_path))
    assert (summary.run_id, [(words(one), one.attempt) for one in summary.results]) == (
        first.run_id, [("succeeded", 1), ("unchanged", 1)]
    )  # fmt: skip
    assert (tmp_path / "ran").read_text().split() == ["one", "two"]


def kept_notes(repository: Path, tmp_path: Path, tasks: list[Any]) -> list[tuple[str | None, list[str]]]:
    """The branch and the notes of each result of a run that is finished."""
    summary = resume(repository, tmp_path, tasks)
    assert (summary.plan.is_done, summary.success) == (True, True)
    return [(one.branch, one.notes) for one in summary.results]


@pytest.mark.parametrize(
    ("how", "noted"),
    [
        ("merged", ""),
        ("squashed", ""),
        ("renamed", ""),
        ("workspace stays", ""),
        ("nowhere", "nothing leads"),
        ("pruned", "its commit"),
    ],
)
@pytest.mark.some(3)
def test_a_result_whose_branch_is_gone_says_what_has_become_of_its_work(how: str, noted: str, tmp_path: Path) -> None:
    """Merged, or held by another name, all is well; a commit that nothing leads to, or that is gone, is told, the branch is not."""
    repository = sample(tmp_path)
    orchestrator = Orchestrator(None, repository)
    one, _ = orchestrator.run(counted(tmp_path), source=str(tmp_path / "t")).results
    if how != "workspace stays":
        orchestrator.git.remove_workspace("one")
    orchestrator.git.remove_workspace("two")
    if how in ("merged", "squashed"):
        git(repository, "merge", "--quiet", *(["--squash"] if how == "squashed" else ["--no-ff"]), "main-task-one")
    if how == "squashed":
        git(repository, "commit", "--quiet", "-m", "all of it")
    if how == "renamed":
        git(repository, "branch", "-m", "main-task-one", "mine")
    elif how != "workspace stays":
        git(repository, "branch", "-D", "main-task-one")
    git(repository, "branch", "-D", "main-task-two")
    if how == "pruned":
        git(repository, "-c", "gc.reflogExpire=now", "gc", "--quiet", "--prune=now")
    (branch, notes), unchanged = kept_notes(repository, tmp_path, counted(tmp_path))
    assert (branch, unchanged) == ("main-task-one" if how == "workspace stays" else None, (None, []))
    assert [note.startswith(noted) and str(one.commit)[:12] in note for note in notes] == [True] * bool(noted)
    if how == "nowhere":
        subprocess.run(notes[0].partition("to keep it: ")[2], shell=True, cwd=repository, check=True)
        assert kept_notes(repository, tmp_path, counted(tmp_path))[0] == ("main-task-one", [])


def test_a_finished_task_that_reads_differently_now_says_so(tmp_path: Path) -> None:
    """What was run is written down: another command, environment or description is told, another limit is none of it."""
    repository = sample(tmp_path)
    tasks = [shell("one", "echo x > x", timeout=30.0), shell("two", ["true"])]
    Orchestrator(None, repository).run(tasks, source=str(tmp_path / "t"))
    assert kept_notes(repository, tmp_path, [replace(tasks[0], timeout=60.0), tasks[1]]) == [
        ("main-task-one", []), ("main-task-two", [])
    ]  # fmt: skip
    said = (
        "it reads differently now than when it was run; give it another id to have it run, or start anew with --fresh"
    )
    for change in ({"run": "echo y > x"}, {"env": {"A": "1"}}, {"description": "Do it otherwise"}):
        changed = [replace(tasks[0], **change), tasks[1]]
        assert kept_notes(repository, tmp_path, changed) == [("main-task-one", [said]), ("main-task-two", [])]
    cut_short(repository)
    forget_end(repository, "one")
    (recorded, _) = resume(repository, tmp_path, [replace(tasks[0], run="echo y > x"), tasks[1]]).results
    assert (words(recorded), recorded.notes[1:]) == ("succeeded", [said])
    with closing(sqlite3.connect(history_file(str(repository / ".git/moderator")), isolation_level=None)) as record:
        record.execute("UPDATE attempts SET digest = '', notes = '[]'")  # as an older moderator left it
    assert kept_notes(repository, tmp_path, [replace(tasks[0], run="echo y > x"), tasks[1]])[0][1] == []


def test_resuming_needs_a_file_and_one_wish(tmp_path: Path) -> None:
    """What cannot be meant is a usage error; without any earlier run everything is simply run."""
    repository = sample(tmp_path)
    orchestrator = Orchestrator(None, repository)
    with pytest.raises(UsageError, match="only a run of tasks that a file lists can be resumed"):
        orchestrator.plan(counted(tmp_path), resume=True)
    with pytest.raises(UsageError, match="a run is resumed or started afresh, not both"):
        orchestrator.plan(counted(tmp_path), source="/srv/t", resume=True, fresh=True)
    assert [words(one) for one in resume(repository, tmp_path, counted(tmp_path)).results] == ["succeeded", "unchanged"]
