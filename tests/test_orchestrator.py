"""From a list of tasks and a repository to finished branches, and a record of it."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from commandline import picture
from moderator.config import Config, ParallelConfig
from moderator.context import IsolationLevel
from moderator.errors import (
    CheckoutNotClean,
    ConfigurationError,
    EnvironmentProblem,
    NotARepository,
    PlanError,
    StoreProblem,
    UnknownRevision,
    WorkspaceOccupied,
)
from moderator.execution.parallel import ParallelTaskExecutor
from moderator.execution.sequential import SequentialExecutor
from moderator.models import Outcome, Task, TaskResult
from moderator.orchestrator import Orchestrator, RunSummary
from moderator.process import Cancellation
from moderator.routing import Place
from moderator.store import Store, history_file
from repos import git, git_processes, make_repository
from runs import Listening, sample, shell, words

TASKS = [shell("changes", "echo new > new"), shell("nothing"), shell("fails", "exit 3")]


def parallel(**keys: Any) -> dict[str, Any]:
    return {"gear3": {"parallel": keys}}


@pytest.mark.parametrize(
    ("config", "workers", "kind"),
    [
        (None, 1, SequentialExecutor),
        ({}, 1, SequentialExecutor),
        (parallel(max_workers=8), 1, SequentialExecutor),
        (parallel(enabled=False, max_workers=8), 1, SequentialExecutor),
        (parallel(enabled=True), 4, ParallelTaskExecutor),
        (parallel(enabled=True, max_workers=8), 8, ParallelTaskExecutor),
        (Config(), 4, ParallelTaskExecutor),
        (Config(ParallelConfig(enabled=False)), 1, SequentialExecutor),
    ],
)
def test_a_mapping_runs_in_parallel_only_if_it_says_so(
    config: Any, workers: int, kind: type[Any], tmp_path: Path
) -> None:
    """Without `gear3.parallel.enabled`, or with it false, tasks run one at a time and in order."""
    orchestrator = Orchestrator(config, sample(tmp_path))
    plan = orchestrator.plan(TASKS)
    assert plan.workers == workers
    assert type(orchestrator._executor(plan, "r")) is kind


def test_a_run_is_planned_carried_out_and_recorded(tmp_path: Path) -> None:
    """What comes back are the results in order; what is recorded are the same."""
    repository = sample(tmp_path)
    listening = Listening()
    orchestrator = Orchestrator(parallel(enabled=True), repository)
    summary = orchestrator.run(TASKS, listening)
    assert isinstance(summary, RunSummary)
    assert ([words(result) for result in summary.results], summary.interrupted, summary.success) == (
        ["succeeded", "unchanged", "failed"], False, False,
    )  # fmt: skip
    assert {result.run_id for result in summary.results} == {summary.run_id}
    assert [result.path for result in summary.results] == [f"{repository}.moderator/tasks/{task.id}" for task in TASKS]
    with Store(history_file(orchestrator.git.state_root)) as store:
        (run,) = store.runs()
        attempts = {attempt.task_id: attempt for attempt in store.attempts()}
    assert (run.run_id, run.state, run.pid, run.workers) == (summary.run_id, "finished", os.getpid(), 4)
    assert (run.base_branch, run.base_commit) == ("main", git(repository, "rev-parse", "main"))
    assert (run.tasks, run.succeeded, run.failed) == (3, 2, 1)
    for result in summary.results:
        attempt = attempts[result.task.id]
        assert (attempt.outcome, attempt.exit_code, attempt.commit, attempt.log, attempt.path, attempt.branch) == (
            words(result), result.exit_code, result.commit, result.log, result.path, result.branch,
        )  # fmt: skip
    assert sorted(said[:2] for said in listening.said) == sorted(
        (what, task.id) for task in TASKS for what in ("start", "complete")
    )


def test_a_task_costs_no_more_processes_than_it_needs(tmp_path: Path) -> None:
    """Two for one that changes nothing (its branch, its files), five more for one whose work is committed."""
    repository = sample(tmp_path)
    found: dict[str, Counter[str]] = {}
    for what, command in (("idle", "true"), ("busy", "echo new > new")):
        for count in (1, 4):
            tasks = [shell(f"{what}-{count}-{number}", command) for number in range(count)]
            orchestrator = Orchestrator({}, repository)
            with git_processes(tmp_path / f"{what}-{count}") as commands:
                assert orchestrator.run(tasks).success
            found[f"{what} {count}"] = Counter(commands)
    assert found["idle 4"] - found["idle 1"] == Counter({"update-ref": 3, "read-tree": 3})
    assert found["busy 4"] - found["busy 1"] == Counter(
        {"update-ref": 6, "read-tree": 3, "status": 3, "add": 3, "write-tree": 3, "commit-tree": 3}
    )


class _AtRemoval(Listening):
    """A callback that looks what is known of an attempt, and what is there of it, right before its workspace goes."""

    def __init__(self, store: Path) -> None:
        super().__init__()
        self._store = store
        self.found: list[tuple[str, str | None, str | None, bool]] = []

    def on_removal(self, result: TaskResult) -> None:
        with Store(self._store) as store:
            (attempt,) = store.attempts(task_id=result.task.id)
        self.found.append((result.task.id, attempt.outcome, attempt.commit, Path(str(result.path), ".git").exists()))


def test_an_end_is_recorded_before_the_workspace_goes(tmp_path: Path) -> None:
    """A crash between the two must not leave a task of which neither is to be found."""
    orchestrator = Orchestrator({}, sample(tmp_path))
    looking = _AtRemoval(history_file(orchestrator.git.state_root))
    summary = orchestrator.run(TASKS, looking, keep="never")
    tips = {result.task.id: result.commit for result in summary.results}
    assert looking.found == [
        ("changes", "succeeded", tips["changes"], True),
        ("nothing", "unchanged", None, True),
        ("fails", "failed", None, True),
    ]
    assert [Path(str(result.path)).exists() for result in summary.results] == [False] * 3
    assert [what for what, *_ in looking.said] == ["start", "complete"] * 3


def test_all_tasks_failing_is_a_summary(tmp_path: Path) -> None:
    """An orchestrator never raises for what tasks do, not even for all of them."""
    summary = Orchestrator(parallel(enabled=True), sample(tmp_path)).run([shell("a", "exit 1"), shell("b", "exit 2")])
    assert ([words(result) for result in summary.results], summary.success) == (["failed", "failed"], False)


def test_a_cancelled_run_is_recorded_as_interrupted(tmp_path: Path) -> None:
    """Tasks that never began are in the summary and in the record, as cancelled."""
    cancellation = Cancellation()

    class Cancelling(Listening):
        def on_task_complete(self, result: Any) -> None:
            super().on_task_complete(result)
            cancellation.cancel()

    orchestrator = Orchestrator(None, sample(tmp_path), cancellation=cancellation)
    summary = orchestrator.run(TASKS, Cancelling())
    assert (summary.interrupted, summary.success) == (True, False)
    assert [words(result) for result in summary.results] == ["succeeded", "cancelled", "cancelled"]
    with Store(history_file(orchestrator.git.state_root)) as store:
        (run,) = store.runs()
        recorded = [(attempt.task_id, attempt.outcome) for attempt in store.attempts()]
    assert (run.state, run.succeeded, run.failed) == ("interrupted", 1, 0)
    assert sorted(recorded) == [("changes", "succeeded"), ("fails", "cancelled"), ("nothing", "cancelled")]


def test_a_callback_that_fails_costs_no_record(tmp_path: Path) -> None:
    """What listens may fail at every call: every attempt is recorded from its beginning to its end."""
    orchestrator = Orchestrator(None, sample(tmp_path))
    orchestrator.run(TASKS, Listening(fail=True))
    with Store(history_file(orchestrator.git.state_root)) as store:
        recorded = [(attempt.task_id, attempt.outcome, attempt.description) for attempt in store.attempts()]
    assert recorded == [
        ("changes", "succeeded", "Do changes"),
        ("nothing", "unchanged", "Do nothing"),
        ("fails", "failed", "Do fails"),
    ]


def test_a_record_that_breaks_during_a_run_costs_no_work(tmp_path: Path) -> None:
    """A record of runs that is destroyed while tasks run loses history, never a task's result."""
    repository = sample(tmp_path)
    record = repository / ".git/moderator/history.db"
    breaking = shell("breaks", f"for f in {record}*; do echo garbage > $f; done; echo x > x")
    summary = Orchestrator(None, repository).run([breaking, shell("after", "echo y > y")])
    assert [words(result) for result in summary.results] == ["succeeded", "succeeded"]
    assert git(repository, "show", "main-task-after:y") == "y"


@pytest.mark.parametrize(
    ("choices", "error", "said"),
    [
        ({"base": "mian"}, UnknownRevision, "the base 'mian' names no commit in this repository"),
        ({"level": "none", "workers": 2}, PlanError, "these tasks cannot be run"),
        ({"level": "everything"}, ConfigurationError, "'everything' is no isolation level"),
        ({"workers": 0}, PlanError, "these tasks cannot be run"),
        ({"workers": 33}, PlanError, "these tasks cannot be run"),
        ({"level": "branch"}, CheckoutNotClean, "has changes that are not committed: mine"),
        ({"level": IsolationLevel.NONE}, CheckoutNotClean, "has changes that are not committed: mine"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_made(
    choices: dict[str, Any], error: type[Exception], said: str, tmp_path: Path
) -> None:
    """A plan that cannot be carried out raises, and leaves no file, directory or ref."""
    repository = sample(tmp_path)
    (repository / "mine").write_text("mine")
    before = picture(tmp_path)
    with pytest.raises(error, match=said):
        Orchestrator(None, repository).run(TASKS, **choices)
    assert picture(tmp_path) == before


def test_planning_makes_nothing(tmp_path: Path) -> None:
    """A plan can be had, and looked at, without a trace."""
    repository = sample(tmp_path)
    before = picture(tmp_path)
    plan = Orchestrator(parallel(enabled=True), repository).plan(TASKS, keep="never")
    assert (plan.base_branch, plan.base_commit, plan.keep) == ("main", git(repository, "rev-parse", "main"), "never")
    assert picture(tmp_path) == before


def test_what_an_earlier_run_left_is_not_run_over(tmp_path: Path) -> None:
    """The same tasks again are refused as a whole; so are ids that differ only as names do."""
    repository = sample(tmp_path)
    Orchestrator(None, repository).run([shell("a_b", "echo x > x")])
    for task_id in ("a_b", "a-b", "A_B"):
        with pytest.raises(WorkspaceOccupied) as refused:
            Orchestrator(None, repository).run([shell("new"), shell(task_id)])
        whose = "" if task_id == "a_b" else " of task 'a_b'"
        assert refused.value.findings == (
            f"task {task_id!r}: the workspace{whose} at {repository}.moderator/tasks/a_b exists",
        )
    assert not Path(f"{repository}.moderator/tasks/new").exists()


def test_a_damaged_record_refuses_a_run_before_anything_is_made(tmp_path: Path) -> None:
    """A run that could not be recorded is not begun; the file is left as it is."""
    repository = sample(tmp_path)
    (repository / ".git/moderator").mkdir()
    (repository / ".git/moderator/history.db").write_bytes(b"garbage")
    before = picture(tmp_path)
    with pytest.raises(StoreProblem, match="is damaged, or not a record of runs"):
        Orchestrator(None, repository).run(TASKS)
    assert picture(tmp_path) == before


def test_a_root_that_cannot_be_had_refuses_a_run_before_anything_is_made(tmp_path: Path) -> None:
    """Where workspaces cannot be made, no record is begun either."""
    repository = sample(tmp_path)
    (tmp_path / "sample.moderator").write_text("mine")
    before = picture(tmp_path)
    with pytest.raises(EnvironmentProblem, match="workspaces cannot be made in"):
        Orchestrator(None, repository).run(TASKS)
    assert picture(tmp_path) == before


@pytest.mark.parametrize("root", ["../elsewhere", "{tmp}/elsewhere", "~/elsewhere"])
def test_another_root_can_be_chosen(root: str, tmp_path: Path, home: Path) -> None:
    """`root:` is absolute, below the home, or relative to the main worktree."""
    repository = sample(tmp_path)
    summary = Orchestrator({"root": root.format(tmp=tmp_path)}, repository).run([shell("one", "echo x > x")])
    expected = (home if root.startswith("~") else tmp_path) / "elsewhere/tasks/one"
    assert (words(summary.results[0]), os.path.realpath(str(summary.results[0].path))) == ("succeeded", str(expected))


def test_an_orchestrator_needs_a_repository(tmp_path: Path) -> None:
    """Anywhere else it cannot even be made."""
    with pytest.raises(NotARepository, match="is not in a git repository"):
        Orchestrator(None, tmp_path)


@pytest.mark.parametrize("level", ["none", "branch"])
def test_a_bare_repository_has_no_checkout_to_run_in(level: str, tmp_path: Path) -> None:
    """Levels that run in the base checkout are refused where there is none, and nothing is made."""
    bare = make_repository(tmp_path / "store.git", bare=True)
    before = picture(tmp_path)
    with pytest.raises(NotARepository) as refused:
        Orchestrator(None, bare).run([shell("one")], level=level)
    assert (str(refused.value), refused.value.hint, refused.value.exit_code) == (
        "levels none and branch run in a checkout, and there is none here",
        "go to a checkout of the repository, or use level full",
        2,
    )
    assert picture(tmp_path) == before


class Agent:
    """A backend of somebody's own."""

    name = "agent"

    def command(self, task: Task, workspace: Place) -> list[str]:
        return ["sh", "-c", 'printf %s "$1" > "$2/said"', "sh", task.description, workspace.path]


def test_kinds_of_tasks_go_to_their_backends(tmp_path: Path) -> None:
    """The rules of the configuration decide who does which task, and results and record say who did."""
    repository = sample(tmp_path)
    config = {"gear3": {"backend_routing": {"enabled": True, "rules": {"talk": "agent"}}}}
    orchestrator = Orchestrator(config, repository, backends={"agent": Agent()})
    summary = orchestrator.run([shell("one", "echo x > x"), Task("two", "Hello", kind="talk")])
    assert [(words(result), result.backend) for result in summary.results] == [
        ("succeeded", "shell"),
        ("succeeded", "agent"),
    ]
    assert git(repository, "show", "main-task-two:said") == "Hello"
    with Store(history_file(orchestrator.git.state_root)) as store:
        assert [attempt.backend for attempt in store.attempts()] == ["shell", "agent"]


def test_hooks_and_signing_are_the_configurations(tmp_path: Path) -> None:
    """`commit: {hooks: true}` runs the repository's hooks on our commits; one that refuses makes an outcome."""
    repository = sample(tmp_path)
    hook = repository / ".git/hooks/pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho not like this >&2\nexit 1\n")
    hook.chmod(0o755)
    summary = Orchestrator({"commit": {"hooks": True}}, repository).run([shell("one", "echo x > x")])
    (result,) = summary.results
    assert (result.outcome, result.exit_code) == (Outcome.NOT_KEPT, 0)
    assert "not like this" in str(result.error_message)
    assert Path(f"{repository}.moderator/tasks/one/x").read_text() == "x\n"


def test_limits_are_the_configurations(tmp_path: Path) -> None:
    """Wall and idle limits and the grace time reach every task that has none of its own."""
    config = {**parallel(timeout=30, idle_timeout=0.3), "grace": 0.1}
    run = "trap '' TERM; sleep 60 & wait; sleep 60"
    (result,) = Orchestrator(config, sample(tmp_path)).run([shell("one", run)]).results
    assert words(result) == "idle"


def test_tasks_without_commands_have_the_configurations(tmp_path: Path) -> None:
    """Set-up, verify, teardown, their limit and the variables come from it where a task has none of its own."""
    config = {
        "setup": 'test -z "$FAIL"; echo common > made; echo made > .gitignore; sleep "$WAIT"',
        "verify": ["grep", "common", "made"],
        "teardown": [f"echo $WHO >> {tmp_path}/said"],
        "setup_timeout": 0.5,
        "env": {"WHO": "{task_id}", "WAIT": "0"},
        "keep": "never",
    }
    tasks = [
        shell("plain"),
        shell("verified", verify="true", setup=["echo own > made"]),
        shell("unverified", setup=["echo own > made"], teardown=["true"]),
        shell("hanging", env={"WAIT": "60"}),
        shell("patient", env={"WAIT": "0.6"}, setup_timeout=30),
        shell("failing", env={"FAIL": "1"}),
    ]
    summary = Orchestrator(config, sample(tmp_path)).run(tasks)
    assert {result.task.id: words(result) for result in summary.results} == {
        "plain": "unchanged", "verified": "unchanged", "unverified": "not verified", "hanging": "set-up failed",
        "patient": "unchanged", "failing": "set-up failed",
    }  # fmt: skip
    assert (tmp_path / "said").read_text().split() == ["plain", "verified", "patient", "failing"]
    # What a set-up that was ended had made is nobody's to throw away; whoever looks into it finds it.
    assert [result.task.id for result in summary.results if result.workspace_kept] == ["unverified", "hanging"]
