"""Records of workspaces: whole or not there, one owner each, never written over when they cannot be read."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from moderator.errors import AmbiguousName, EnvironmentProblem, IsolationError
from moderator.git.manager import GitManager
from moderator.git.registry import READY, Record, Registry, key_of
from repos import make_repository
from workspaces import BRANCH, DIRECTORY, FULL, context, listing

RECORD = Record(
    "Task 1", "p", FULL, "main-task-Task-1", "/w/tasks/Task-1", "/s", "main", "0" * 40, "Task-1-ff", "token", 1.5
)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "moderator")


def test_a_record_comes_back_as_it_was(registry: Registry, tmp_path: Path) -> None:
    """What was claimed and replaced is found by id, by branch and among all, byte for byte; dropped, it is gone."""
    record = replace(RECORD, path=os.fsdecode(b"/w\xff/tasks/Task-1"))
    registry.claim(record)
    registry.replace(replace(record, state=READY))
    record = replace(record, state=READY)
    assert (registry.find("Task 1"), registry.named("main-task-Task-1"), list(registry)) == (
        record,
        record,
        [record],
    )
    assert (registry.find("task-1"), registry.owner_of_name("task-1")) == (None, record)
    registry.drop(record)
    assert (registry.find("Task 1"), list(registry), listing(tmp_path / "moderator/workspaces")) == (None, [], {})


def test_a_name_is_claimed_once(registry: Registry) -> None:
    """A second claim of a name fails, says whose it is, and changes nothing."""
    registry.claim(RECORD)
    for other in (RECORD, replace(RECORD, task_id="task_1")):
        with pytest.raises(IsolationError, match="they belong to task 'Task 1'"):
            registry.claim(other)
    assert list(registry) == [RECORD]


def test_a_name_that_means_two_is_refused(registry: Registry) -> None:
    """The id of one task that is the branch of another names neither; the ref that holds its commits always names one."""
    x = replace(RECORD, task_id="x", branch="main-task-x", entry="x-ff")
    other = replace(RECORD, task_id="main-task-x", branch=None, entry="o-ff", level=DIRECTORY)
    odd = replace(RECORD, task_id="refs/heads/main-task-x", branch="main-task-odd", entry="odd-ff")
    for record in (x, other, odd):
        registry.claim(record)
    with pytest.raises(AmbiguousName) as caught:
        registry.named("main-task-x")
    assert (caught.value.message, caught.value.hint) == (
        "'main-task-x' means 2 workspaces: by task id or by branch, those of 'main-task-x' and 'x'",
        "for 'main-task-x' type refs/moderator/result/main-task-x; for 'x' type refs/heads/main-task-x",
    )
    assert [registry.named(one.ref) for one in (x, other, odd)] == [x, other, odd]
    assert registry.named("x") == x
    registry.drop(other)
    assert registry.named("main-task-x") == x


def test_ids_that_differ_only_as_names_have_one_key() -> None:
    """Letter case, underscores, dashes and spaces do not make a second name."""
    assert {key_of(task_id) for task_id in ("A_b", "a-b", "a b", "A-B")} == {"a-b"}


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"{}", b"\xff\xfe", b'{"version": 2}', None],
    ids=["empty", "cut short", "a list", "null", "no fields", "bytes", "newer", "a directory"],
)
def test_a_record_that_cannot_be_read_is_reported_and_kept(tmp_path: Path, content: bytes | None) -> None:
    """Every question that needs it gets an error naming the file; nothing writes over it; other tasks go on."""
    repo = make_repository(tmp_path / "repo")
    manager = GitManager(repo)
    manager.create_workspace(context(tmp_path, "t")).release()
    path = repo / ".git/moderator/workspaces/t.json"
    path.unlink()
    path.write_bytes(content) if content is not None else path.mkdir()
    before = listing(tmp_path / "checkouts", path.parent)
    for ask in (
        lambda: manager.create_workspace(context(tmp_path, "t")),
        lambda: manager.remove_workspace("t"),
        lambda: manager.status("t"),
    ):
        with pytest.raises(EnvironmentProblem, match=r"t\.json' cannot be read") as caught:
            ask()
        assert caught.value.hint
    assert (manager.workspaces(), manager.statuses()) == ([], [])
    assert [str(path) in problem.message for problem in manager.unreadable()] == [True]
    assert listing(tmp_path / "checkouts", path.parent) == before
    manager.create_workspace(context(tmp_path, "other")).release()
    assert listing(tmp_path / "checkouts/tasks/t", path) == listing(tmp_path / "checkouts/tasks/t", path)


def test_a_record_with_unknown_fields_is_not_guessed_at(registry: Registry, tmp_path: Path) -> None:
    """A record that has a field more or less than this version writes is not read."""
    registry.claim(RECORD)
    path = tmp_path / "moderator/workspaces/task-1.json"
    values = json.loads(path.read_text())
    for broken in ({**values, "more": 1}, {key: value for key, value in values.items() if key != "token"}):
        path.write_text(json.dumps(broken))
        with pytest.raises(EnvironmentProblem, match="cannot be read"):
            registry.find("Task 1")


def test_files_of_others_are_passed_over(registry: Registry, tmp_path: Path) -> None:
    """What is no record by its name is nobody's workspace."""
    registry.claim(RECORD)
    (tmp_path / "moderator/workspaces/notes.txt").write_text("hello")
    (tmp_path / "moderator/workspaces/.task-1.new").write_text("cut sh")
    assert list(registry) == [RECORD]
    registry.replace(replace(RECORD, state=READY))
    assert list(registry) == [replace(RECORD, state=READY)]


def test_a_workspace_without_a_tree_says_where_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Level branch: found by its id, from whatever directory, the workspace is the checkout that it was made in."""
    repo = make_repository(tmp_path / "repo")
    manager = GitManager(repo)
    manager.create_workspace(context(tmp_path, "t", BRANCH, checkout=repo)).release()
    monkeypatch.chdir(tmp_path)
    found = manager.find("t")
    assert (found.path, found.context.working_directory, manager.status("t").path) == (str(repo),) * 3
