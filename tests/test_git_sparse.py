"""Workspaces that have a part of the tree only."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from moderator.errors import UsageError
from moderator.git.manager import GitManager
from moderator.git.sparse import patterns, sound
from repos import git, make_repository
from runs import execute, shell, words
from workspaces import context

FILES = {"top.txt": "t\n", "a/one.txt": "1\n", "a/b/two.txt": "2\n", "a/c/three.txt": "3\n", "d/four.txt": "4\n"}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "sample", [("first", FILES)])


def files_in(tree: str) -> list[str]:
    found = [os.path.relpath(os.path.join(where, name), tree) for where, _, names in os.walk(tree) for name in names]
    return sorted(path for path in found if path != ".git")


def test_a_task_has_the_directories_it_asks_for(repository: Path) -> None:
    """Checked out is what it named and the files on the way; its work is committed, and the rest stays in the commit."""
    before = git(repository, "config", "--list", "--local")
    task = shell("one", "ls; echo more >> a/b/two.txt; echo new > a/b/new.txt", sparse=["a/b"])
    (result,) = execute(repository, task)
    assert words(result) == "succeeded"
    assert files_in(str(result.path)) == ["a/b/new.txt", "a/b/two.txt", "a/one.txt", "top.txt"]
    assert git(repository, "diff", "--name-status", "main", "main-task-one").split() == [
        "A",
        "a/b/new.txt",
        "M",
        "a/b/two.txt",
    ]
    assert git(Path(str(result.path)), "status", "--porcelain") == ""
    assert git(repository, "config", "--list", "--local") == before


def test_a_workspace_in_part_is_removed_like_any_other(repository: Path) -> None:
    """What was never checked out is no loss; what was written where nothing was checked out is."""
    manager = GitManager(repository)
    ours = context(repository.parent, "one")
    with manager.create_workspace(ours, directories=["d"]) as workspace:
        assert files_in(workspace.path) == ["d/four.txt", "top.txt"]
        Path(workspace.path, "a").mkdir()
        Path(workspace.path, "a", "one.txt").write_text("mine\n")
    assert manager.check_removal(ours, rescue=True).findings != []
    Path(workspace.path, "a", "one.txt").unlink()
    Path(workspace.path, "a").rmdir()
    manager.remove_workspace(ours)
    assert not Path(workspace.path).exists()


@pytest.mark.parametrize("wrong", ["/etc", "../x", "a/../..", "", ".", "a*", "a\nb"])
def test_what_leads_out_of_the_tree_is_refused(wrong: str, repository: Path) -> None:
    """Only directories inside the repository can be named, without patterns; nothing is made otherwise."""
    manager = GitManager(repository)
    with pytest.raises(UsageError, match="is no directory inside the repository"):
        manager.create_workspace(context(repository.parent, "one"), directories=[wrong])
    assert manager.workspaces() == []


def test_a_directory_that_the_base_does_not_have_is_told(repository: Path) -> None:
    """A misspelt directory would give an empty workspace; it is an error that names it, and nothing is made."""
    (result,) = execute(repository, shell("one", sparse=["a/b", "a/x"]))
    assert (words(result), "there is no directory 'a/x' in " in str(result.error_message)) == ("no workspace", True)
    assert git(repository, "branch", "--list", "main-task-*") == ""


def test_directories_are_written_as_git_reads_them() -> None:
    """Parents come with their files only, and what is inside another one is not named twice."""
    assert sound(["b/", "a//c", "b"]) == ("a/c", "b")
    assert patterns(["a/c", "b", "b/d"]).splitlines() == ["/*", "!/*/", "/a/", "!/a/*/", "/a/c/", "/b/"]


def test_each_task_has_its_own_part(repository: Path) -> None:
    """Two tasks of one run may have different directories; neither sees the other's."""
    one, two = execute(repository, shell("one", sparse=["a"]), shell("two", sparse=["d"]))
    assert files_in(str(one.path)) == ["a/b/two.txt", "a/c/three.txt", "a/one.txt", "top.txt"]
    assert files_in(str(two.path)) == ["d/four.txt", "top.txt"]
