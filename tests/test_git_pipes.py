"""Pipes where git, or we, read: nobody waits for them, and who is told what is in the way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from moderator.git.manager import GitManager
from moderator.opening import content
from repos import git, make_repository
from workspaces import context


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "sample", [("first", {"a": "a\n", "deep/b": "b\n"})])


def put_pipe(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    return path


def entry_of(tree: Path) -> Path:
    return Path(git(tree, "rev-parse", "--absolute-git-dir"))


def made(repository: Path, task_id: str = "t") -> Path:
    """Make a workspace with a repository inside and nobody in it; return its tree."""
    with GitManager(repository).create_workspace(context(repository.parent, task_id)) as workspace:
        tree = Path(workspace.path)
    make_repository(tree / "inside", [("x", {"x": "x\n"})])
    return tree


def test_our_own_readers_do_not_wait(repository: Path) -> None:
    """Whatever small file of a workspace has become a pipe, the list says what it can."""
    tree = made(repository)
    entry, ours = entry_of(tree), repository / ".git/moderator"
    for place in (
        entry / "locked", entry / "gitdir", entry / "moderator.rendered", entry / "moderator.carried", ours / "leases/t.lock",
        tree / ".git", ours / "workspaces/t.json",
    ):  # fmt: skip
        put_pipe(place)
        listed, _ = GitManager(repository).overview()
        assert [one.task_id for one in listed] == ([] if place.suffix == ".json" else ["t"])
        with pytest.raises(OSError, match="it is a pipe or a device"):
            content(place)
