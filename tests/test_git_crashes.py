"""A process killed at any step of making or removing a workspace loses nothing and leaves nothing half-made."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from repos import git, make_repository

from moderator.context import IsolationLevel
from moderator.errors import CheckoutNotClean, WouldLoseWork
from moderator.git.manager import GitManager
from workspaces import BRANCH, DIRECTORY, FULL, context, files, killed_before, listing

COMMITS = [("first", {"README.md": "# Sample\n", "src/a.py": "a = 1\n", "src/b.py": "b = 2\n"})]
TREE = {"README.md": b"# Sample\n", "src/a.py": b"a = 1\n", "src/b.py": b"b = 2\n"}


def repository_in(folder: Path, fallback: bool) -> Path:
    repo = make_repository(folder / "repo", COMMITS)
    if fallback:
        git(repo, "config", "extensions.worktreeConfig", "true")
    return repo


def entries(repo: Path) -> list[str]:
    return sorted(os.listdir(repo / ".git/worktrees")) if (repo / ".git/worktrees").is_dir() else []


def leftovers(folder: Path, repo: Path) -> list[str]:
    """Everything of ours but records, locks of workspaces that exist, and their trees."""
    places = [repo / ".git/moderator/trash", repo / ".git/moderator/staging", folder / "checkouts/tasks/.trash"]
    hidden = (repo / ".git/moderator/workspaces").glob(".*")
    return [str(path) for place in places if place.is_dir() for path in place.rglob("*")] + [str(path) for path in hidden]


def assert_whole(folder: Path, repo: Path, level: IsolationLevel) -> None:
    """The workspace of task `t` is all there, once, and git finds nothing wrong."""
    tree = folder / "checkouts/tasks/t"
    assert len(entries(repo)) == 1
    assert files(tree) == TREE
    assert git(tree, "status", "--porcelain", "--branch") == ("## main-task-t" if level is FULL else "## HEAD (no branch)")
    assert git(repo, "fsck", "--strict", "--no-dangling") == ""
    assert (folder / "checkouts/tasks/.trash").exists() is False
    assert [(w.task_id, w.path) for w in GitManager(repo).workspaces()] == [("t", str(tree))]


@pytest.mark.parametrize(("level", "fallback"), [(FULL, False), (DIRECTORY, False), (FULL, True)], ids=str)
def test_killed_at_any_step_of_making_a_workspace(tmp_path: Path, level: IsolationLevel, fallback: bool) -> None:
    """Wherever its maker is killed, the next attempt gets a whole workspace, and only that."""
    step, steps = 1, []
    while True:
        folder = tmp_path / str(step)
        repo = repository_in(folder, fallback)
        what = killed_before(step, folder, repo, "t", "create", level)
        if what is None:
            break
        steps.append(what)
        with GitManager(repo).create_workspace(context(folder, "t", level)):
            assert_whole(folder, repo, level)
            assert leftovers(folder, repo) == [], what
        step += 1
    assert len(steps) > 12


@pytest.mark.parametrize("fallback", [False, True])
def test_killed_at_any_step_of_removing_a_workspace(tmp_path: Path, fallback: bool) -> None:
    """Wherever its remover is killed, the workspace is whole or gone; asked for again, it is whole."""
    step, ends = 1, []
    while True:
        folder = tmp_path / str(step)
        repo = repository_in(folder, fallback)
        what = killed_before(step, folder, repo, "t", "remove")
        if what is None:
            break
        manager = GitManager(repo)
        if manager.owners(["t"]):
            manager.remove_workspace("t")
            ends.append("finished")
        else:
            ends.append("gone")
        assert (manager.workspaces(), entries(repo), leftovers(folder, repo)) == ([], [], []), what
        assert (files(folder / "checkouts"), git(repo, "rev-parse", "main-task-t")) == ({}, git(repo, "rev-parse", "main"))
        step += 1
    assert "finished" in ends and len(ends) > 5


def test_a_removal_that_was_killed_can_be_taken_back(tmp_path: Path) -> None:
    """Wherever a remover is killed before it decided, asking for the workspace again gives it back with its commits."""
    step, ends = 1, set()
    while True:
        folder = tmp_path / str(step)
        repo = repository_in(folder, False)
        what = killed_before(step, folder, repo, "t", "remove")
        if what is None:
            break
        if not entries(repo):
            ends.add("gone")
            GitManager(repo).owners(["t"]) and GitManager(repo).remove_workspace("t")
            git(repo, "branch", "-D", "main-task-t")
        else:
            ends.add("back")
        with GitManager(repo).create_workspace(context(folder, "t")):
            assert_whole(folder, repo, FULL)
            assert leftovers(folder, repo) == [], what
        step += 1
    assert ends == {"gone", "back"}


def test_work_done_between_a_killed_removal_and_the_next_is_kept(tmp_path: Path) -> None:
    """A removal killed after it renamed the tree away is looked at anew: what was written since is found."""
    step = 1
    while what := killed_before(step, tmp_path / str(step), repository_in(tmp_path / str(step), False), "t", "remove"):
        folder = tmp_path / str(step)
        trash = folder / "checkouts/tasks/.trash"
        if trash.is_dir() and entries(folder / "repo") and (trees := list(trash.iterdir())):
            (trees[0] / "late").write_text("work")
            with pytest.raises(WouldLoseWork, match="would lose work") as caught:
                GitManager(folder / "repo").remove_workspace("t")
            assert caught.value.findings == ("untracked: late",)
            assert (folder / "checkouts/tasks/t/late").read_text() == "work"
            return
        step += 1
    raise AssertionError(f"no step leaves the tree in the trash: {what}")


def test_killed_at_any_step_of_claiming_a_branch(tmp_path: Path) -> None:
    """Level branch: the next attempt gets the branch, and the worktrees of others are not touched."""
    step, steps = 1, []
    while True:
        folder = tmp_path / str(step)
        repo = repository_in(folder, False)
        git(repo, "worktree", "add", "--quiet", "-b", "person", folder / "person")
        before = listing(repo / ".git/worktrees", folder / "person")
        what = killed_before(step, folder, repo, "t", "create", BRANCH)
        if what is None:
            break
        steps.append(what)
        with GitManager(repo).create_workspace(context(folder, "t", BRANCH, checkout=repo)) as workspace:
            assert (workspace.path, workspace.branch) == (str(repo), "main-task-t")
        assert listing(repo / ".git/worktrees", folder / "person") == before, what
        assert git(repo, "status", "--porcelain", "--branch") == "## main"
        step += 1
    assert len(steps) > 4


def test_a_removal_of_a_claimed_branch_touches_no_worktree(tmp_path: Path) -> None:
    """A claim of level branch that never got its branch is removed without a look at anybody's worktree."""
    step = 1
    while True:
        folder = tmp_path / str(step)
        repo = repository_in(folder, False)
        git(repo, "worktree", "add", "--quiet", "-b", "person", folder / "person")
        before = listing(repo / ".git/worktrees", folder / "person")
        if killed_before(step, folder, repo, "t", "create", BRANCH) is None:
            break
        if GitManager(repo).owners(["t"]):
            GitManager(repo).remove_workspace("t")
        assert (listing(repo / ".git/worktrees", folder / "person"), GitManager(repo).workspaces()) == (before, [])
        step += 1


HALF_WAY = """
from moderator.git.manager import GitManager
from moderator.context import ExecutionContext, IsolationLevel
import sys
folder, repository = sys.argv[1:]
base = ExecutionContext("project", folder + "/checkouts", "main", folder + "/state")
GitManager(repository).create_workspace(ExecutionContext.create_isolated_context(base, "t", IsolationLevel.FULL))
"""


@pytest.mark.parametrize("victims", ["$PPID", "$(ps -o ppid= -p $PPID)", "$(ps -o ppid= -p $PPID) $PPID"])
def test_killed_in_the_middle_of_a_checkout(tmp_path: Path, victims: str) -> None:
    """Whether git, its caller or both are killed with half the files written, the next attempt gets all of them."""
    repo = make_repository(
        tmp_path / "repo",
        [("first", {".gitattributes": "m* filter=stop\n", "a": "a\n", "m": "m\n", "z": "z\n"})],
    )
    git(repo, "config", "filter.stop.smudge", f"cat; kill -9 {victims}; sleep 0.2")
    done = subprocess.run([sys.executable, "-c", HALF_WAY, str(tmp_path), str(repo)], capture_output=True)
    assert done.returncode == (1 if victims == "$PPID" else -signal.SIGKILL)
    git(repo, "config", "filter.stop.smudge", "cat")
    for _ in range(100):  # a git that outlived its caller holds the lease until it is done
        if GitManager(repo).owners(["t"]) and GitManager(repo).holder("t"):
            subprocess.run(["sleep", "0.05"])
    with GitManager(repo).create_workspace(context(tmp_path, "t")) as workspace:
        assert {name: body for name, body in files(workspace.path).items() if name != ".gitattributes"} == {
            "a": b"a\n",
            "m": b"m\n",
            "z": b"z\n",
        }
        assert (git(Path(workspace.path), "status", "--porcelain"), leftovers(tmp_path, repo)) == ("", [])
        assert len(entries(repo)) == 1


def test_foreign_files_in_a_half_made_tree_stay_in_the_trash(tmp_path: Path) -> None:
    """What somebody wrote into a half-made workspace is not deleted with it."""
    step = 1
    while True:
        folder = tmp_path / str(step)
        repo = repository_in(folder, False)
        what = killed_before(step, folder, repo, "t", "create")
        if what and "read-tree" in what:
            break
        step += 1
    (folder / "checkouts/tasks/t/notes").write_text("mine")
    with GitManager(repo).create_workspace(context(folder, "t")) as workspace:
        assert files(workspace.path) == TREE
    kept = list((folder / "checkouts/tasks/.trash").glob("*/notes"))
    assert [path.read_text() for path in kept] == ["mine"]


def test_the_base_checkout_keeps_the_work_of_a_killed_task(tmp_path: Path) -> None:
    """Level branch: what a task had written when everything was killed is a person's to look at, untouched."""
    repo = repository_in(tmp_path, False)
    assert killed_before(10**6, tmp_path, repo, "t", "create", BRANCH) is None
    (repo / "work").write_text("half done")
    with pytest.raises(CheckoutNotClean):
        GitManager(repo).create_workspace(context(tmp_path, "t", BRANCH, checkout=repo))
    assert files(repo) == {**TREE, "work": b"half done"}
