"""Whether a worktree is as it was handed out, told by the times of change alone: yes must be certain."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from moderator.git.contents import Worktree
from moderator.git.manager import GitManager
from moderator.git.untouched import Untouched
from moderator.git.values import Workspace
from repos import git, git_processes, make_repository
from touching import CHANGES, FILES
from workspaces import DIRECTORY, FULL, context


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    manager = GitManager(make_repository(tmp_path / "sample", [("first", FILES)]))
    return manager.create_workspace(context(tmp_path, "t"))


def worktree(workspace: Workspace) -> Worktree:
    return Worktree(workspace.path, git(workspace.path, "rev-parse", "--absolute-git-dir"))


def holds(untouched: Untouched | None, workspace: Workspace) -> bool:
    assert untouched is not None
    return untouched.holds(worktree(workspace), f"refs/heads/{workspace.branch}", workspace.base)


@pytest.mark.some(8)
@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_seen(workspace: Workspace, change: str) -> None:
    """However soon after the worktree was handed out, and whatever was done to hide it."""
    tree = Path(workspace.path)
    (tree.parent / "older").write_text("9\n")
    untouched = Untouched.of(worktree(workspace))
    CHANGES[change](tree)
    assert not holds(untouched, workspace)


def test_looking_changes_nothing(workspace: Workspace) -> None:
    """What git does to find out that nothing changed, and reading every file, leaves a worktree untouched."""
    untouched = Untouched.of(worktree(workspace))
    assert holds(untouched, workspace)
    git(workspace.path, "--no-optional-locks", "status")
    git(workspace.path, "log")
    assert [path.read_bytes() for path in Path(workspace.path).rglob("*") if path.is_file()]
    assert holds(untouched, workspace)


def test_a_clock_that_was_put_back_proves_nothing(workspace: Workspace) -> None:
    """What is written then looks older than the checkout."""
    untouched = Untouched.of(worktree(workspace))
    assert untouched is not None
    assert not holds(replace(untouched, ahead=untouched.ahead + 10**9), workspace)


def test_a_tree_that_is_gone_is_not_untouched(workspace: Workspace) -> None:
    """Neither when it was noted, nor later."""
    untouched, tree = Untouched.of(worktree(workspace)), worktree(workspace)
    os.rename(workspace.path, f"{workspace.path}.away")
    assert untouched is not None
    assert (Untouched.of(tree), untouched.holds(tree, None, workspace.base)) == (None, False)


@pytest.mark.parametrize("level", [FULL, DIRECTORY])
def test_work_is_kept_and_nothing_is_asked_where_there_is_none(tmp_path: Path, level: object) -> None:
    """Keeping the work of a task that did nothing starts no process; where it did something, all of it is committed."""
    manager = GitManager(make_repository(tmp_path / "sample", [("first", FILES)]))
    idle = manager.create_workspace(context(tmp_path, "idle", level), fresh=True)
    busy = manager.create_workspace(context(tmp_path, "busy", level), fresh=True)
    with git_processes(tmp_path / "trace") as commands:
        assert (manager.keep(idle, "work").commit, manager.keep(idle, "work").head) == (None, idle.base)
    assert commands == ["status"]  # for the second time: what was noted is good for one look
    Path(busy.path, "src/b").write_text("9\n")
    kept = manager.keep(busy, "work")
    assert git(tmp_path / "sample", "show", f"{kept.commit}:src/b") == "9"
