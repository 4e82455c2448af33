"""Where a task is done: as at the start before every attempt, whatever the one before did there, and nobody else's meanwhile."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from commandline import document, moderator
from moderator.context import IsolationLevel
from moderator.execution import retrying
from moderator.execution.sequential import SequentialExecutor
from moderator.git.manager import GitManager
from moderator.models import Task, TaskResult
from moderator.process import Cancellation, Limits
from moderator.routing import BackendRouter
from moderator.testing import fake_backend
from repos import git
from runs import Listening, base_context, execute, sample, words


@pytest.fixture(autouse=True)
def without_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let second tries come at once: how long the pauses are is a test of its own."""
    monkeypatch.setattr(retrying, "SHORTEST_PAUSE", 0.01)


def vandal(script: str) -> dict[str, Any]:
    """A backend that does something to its workspace, and then has a trouble of its own."""
    return {"argv": ["sh", "-c", f"{script}\necho rate limit >&2; exit 1"], "retry": ["rate limit"]}


def after(script: str, tmp_path: Path, **options: Any) -> tuple[Path, TaskResult]:
    """Let a backend do this and fail, and another one do the task if it is let; return the repository and the result."""
    repository = sample(tmp_path)
    routing = {"backend_routing": {"default_backend": ["vandal", "good"]}}
    asked = BackendRouter({"gear3": routing, "backends": {"vandal": vandal(script), "good": fake_backend()}})
    (result,) = execute(repository, Task("one", "Do one", prompt="Write it down"), router=asked, **options)
    return repository, result


OWN = "-c user.name=Agent -c user.email=agent@example.org"


@pytest.mark.parametrize(
    "level",
    [IsolationLevel.FULL, pytest.param(IsolationLevel.DIRECTORY, marks=pytest.mark.slow)],
    ids=lambda level: level.value,
)
@pytest.mark.parametrize(
    "script",
    [
        "true",
        "git checkout -q -b other",
        "git checkout -q --detach; git branch -D main-task-one",
        f"git checkout -q --detach; git {OWN} commit -q --allow-empty -m x",
        "git branch -m renamed",
        f"git {OWN} commit -q --allow-empty -m x",
        'rm -rf "$PWD"',
        'rm -rf "$PWD"; mkdir "$PWD"',
        'touch "$(git rev-parse --git-dir)/index.lock"',
        "git config extensions.worktreeConfig true; git config --worktree core.sparseCheckout true",
        "git update-index --skip-worktree README.md; echo changed > README.md",
        "git update-index --assume-unchanged README.md",
        "git read-tree --empty",
        "mkdir empty; echo secret > .env; echo .env > .gitignore",
        'git rev-parse HEAD > "$(git rev-parse --git-dir)/MERGE_HEAD"',
        "chmod 600 README.md; mkdir -m 0 closed",
    ],
)
@pytest.mark.some(3)
def test_a_worktree_is_as_at_the_start_whatever_was_done_to_it(
    script: str, level: IsolationLevel, tmp_path: Path
) -> None:
    """The next attempt finds the task's own branch at the base, checked out whole, and nothing of the attempt before."""
    repository, result = after(f"( {script} ) >&2 || true", tmp_path, level=level)
    assert (words(result), result.backend, result.attempt) == ("succeeded", "good", 2), result.notes
    base = git(repository, "rev-parse", "main")
    assert git(repository, "rev-parse", f"{result.commit}^") == base
    assert git(repository, "diff", "--name-only", base, str(result.commit)) == "agent.txt"
    path = Path(str(result.path))
    entry = git(path, "rev-parse", "--absolute-git-dir")
    head = git(path, "rev-parse", "--symbolic-full-name", "HEAD")
    assert head == ("refs/heads/main-task-one" if level is IsolationLevel.FULL else "HEAD")
    assert {"index.lock", "MERGE_HEAD", "config.worktree"}.isdisjoint(os.listdir(entry))
    assert {line[:2] for line in git(path, "ls-files", "-v").splitlines()} == {"H "}
    assert git(path, "status", "--porcelain", "--ignored") == ""
    assert sorted(os.listdir(path)) == [".git", "README.md", "agent.txt", "src"]


@pytest.mark.parametrize("script", ["rm .git", 'echo mine > "$(git rev-parse --git-dir)/locked"'])
def test_where_a_worktree_cannot_be_made_anew_nobody_tries_again(script: str, tmp_path: Path) -> None:
    """What is not as we made it, or somebody's to keep, is left alone, and the result says why there was one attempt."""
    _, result = after(script, tmp_path)
    assert (words(result), result.backend, result.attempt) == ("backend failed", "vandal", 1)
    assert [note for note in result.notes if "not tried again, for the workspace cannot be put back: " in note]
    assert result.workspace_kept
    assert Path(str(result.path), "README.md").exists()


@pytest.mark.parametrize("level", [IsolationLevel.BRANCH, IsolationLevel.NONE], ids=lambda level: level.value)
@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (f"git {OWN} commit -q --allow-empty -m x", "the attempt left a commit on main: "),
        ("git checkout -q -b other", "the attempt switched the checkout from main to other"),
        ("git checkout -q --detach", "the attempt switched the checkout from main to no branch, at "),
        ("git update-index --skip-worktree README.md", "the attempt told git not to look at some files"),
        ("touch .git/index.lock", "the attempt left the index of the checkout locked"),
        ("echo more > more.txt", "the checkout "),
    ],
)
@pytest.mark.some(6)
def test_in_a_checkout_another_attempt_needs_it_exactly_as_it_was(
    script: str, reason: str, level: IsolationLevel, tmp_path: Path
) -> None:
    """What is the person's too is not made anew: what the attempt did there is told, and nobody tries again."""
    _, result = after(script, tmp_path, level=level)
    assert (words(result), result.backend, result.attempt) == ("backend failed", "vandal", 1)
    start = f"not tried again, for the workspace cannot be put back: {reason}"
    assert [note for note in result.notes if note.startswith(start)], result.notes


def test_a_branch_that_an_attempt_moved_is_not_built_upon(tmp_path: Path) -> None:
    """At level branch the task's own branch must be at the base too."""
    script = f"git update-ref refs/heads/main-task-one $(git {OWN} commit-tree -m x $(git write-tree))"
    _, result = after(script, tmp_path, level=IsolationLevel.BRANCH)
    assert (words(result), result.attempt) == ("backend failed", 1)
    assert [note for note in result.notes if "the attempt moved the branch main-task-one" in note], result.notes


@pytest.mark.parametrize("level", [IsolationLevel.BRANCH, IsolationLevel.NONE], ids=lambda level: level.value)
def test_a_checkout_that_was_left_alone_is_tried_in_again(level: IsolationLevel, tmp_path: Path) -> None:
    """An attempt that did nothing is followed by the next one, in the same checkout."""
    _, result = after("true", tmp_path, level=level)
    assert (words(result), result.backend, result.attempt) == ("succeeded", "good", 2)


# -- between two attempts ----------------------------------------------------------------------------------------------


class Waits(Listening):
    """Looks at the repository, as other processes do, while a task waits to be tried again; then ends the run."""

    def __init__(self, repository: Path, cancellation: Cancellation) -> None:
        super().__init__()
        self.seen: dict[str, Any] = {}
        self._repository = repository
        self._cancellation = cancellation

    def on_attempt_end(self, result: TaskResult, backend: str, pause: float) -> None:
        try:
            self._look()
        finally:
            self._cancellation.cancel()

    def _look(self) -> None:
        (listed,) = document(moderator(self._repository, "list", "--json"))["workspaces"]
        self.seen["list"] = (bool(listed["held_by"]), listed["dirty"], listed["ahead"])
        self.seen["clean"] = moderator(self._repository, "clean", "one").returncode


def test_between_two_attempts_a_workspace_belongs_to_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made at once and held through the pause: others see that it is in use, and cannot remove it."""
    monkeypatch.setattr(retrying, "SHORTEST_PAUSE", 3600.0)
    monkeypatch.setattr(retrying, "LONGEST_PAUSE", 3600.0)
    repository = sample(tmp_path)
    limited = fake_backend("codex-jsonl", "rate-limit", "--counter", str(tmp_path / "count"))
    asked = BackendRouter(
        {"gear3": {"backend_routing": {"default_backend": "limited"}}, "backends": {"limited": limited}}
    )
    cancellation = Cancellation()
    told = Waits(repository, cancellation)
    manager = GitManager(repository)
    executor = SequentialExecutor(git=manager, router=asked, limits=Limits(timeout=60), cancellation=cancellation)
    (result,) = executor.execute_tasks([Task("one", "Do one", prompt="Write it down")], base_context(repository), told)
    assert told.seen == {"list": (True, 0, 0), "clean": 75}
    assert (words(result), result.attempt, result.workspace_kept) == ("cancelled", 2, True)
    assert manager.holder("one") is None
    assert result.path == manager.find("one").path


@pytest.mark.parametrize(("keep", "kept"), [("always", True), ("failed", True), ("never", False)])
def test_a_workspace_whose_backend_failed_for_good_goes_as_others_do(keep: str, kept: bool, tmp_path: Path) -> None:
    """The last attempt's trouble is an end like any other: a clean workspace goes where all of them are to go."""
    repository = sample(tmp_path)
    asked = BackendRouter({"backends": {"vandal": vandal("true")}})
    task = Task("one", "Do one", prompt="Write it down", backend="vandal", max_attempts=1)
    (result,) = execute(repository, task, router=asked, keep=keep)
    assert (words(result), result.workspace_kept) == ("backend failed", kept)
    assert Path(str(result.path)).exists() == kept
