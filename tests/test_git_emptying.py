"""What removals left is deleted by whoever has time: never while somebody works, never what has its time, by one at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from commandline import document, moderator, wait_until
from moderator.errors import WorkspaceBusy
from moderator.git import leases
from moderator.git.manager import GitManager
from moderator.git.values import Keeping
from repos import make_repository
from workspaces import context


@pytest.fixture
def git_manager(tmp_path: Path) -> GitManager:
    make_repository(tmp_path / "repo", [("first", {"a.txt": "a\n", "deep/b.txt": "b\n", ".gitignore": ".env\n"})])
    return GitManager(tmp_path / "repo", keeping=Keeping(days=30.0))


def remove(folder: Path, git_manager: GitManager, task_id: str, *, secret: bool = False) -> Path:
    """Make a workspace and remove it, and return where its tree waits."""
    made = git_manager.create_workspace(context(folder, task_id))
    made.release()
    if secret:
        Path(made.path, ".env").write_text("secret")
    removal = git_manager.remove_workspace(task_id, rescue=secret, later=True)
    assert removal is not None
    tree = git_manager.trash_of(removal)
    assert tree is not None
    return Path(tree)


def test_whoever_works_goes_first(tmp_path: Path, git_manager: GitManager) -> None:
    """Nothing is deleted while a workspace is held; what only the trash has, or somebody wrote to, stays after that too."""
    bare, secret, written = (
        remove(tmp_path, git_manager, name, secret=name == "secret") for name in ("bare", "secret", "written")
    )
    (written / "late.txt").write_text("written after the removal")
    with git_manager.create_workspace(context(tmp_path, "busy")):
        assert not git_manager.empty_trash_at_leisure(0.2)
        assert bare.exists()
    wait_until(lambda: git_manager.empty_trash_at_leisure(5.0), "an empty trash")
    assert (bare.exists(), (secret / ".env").read_text()) == (False, "secret")
    assert (written / "late.txt").read_text() == "written after the removal"
    assert list(tmp_path.rglob("*.deleting")) == []


def test_one_at_once_and_to_the_end(tmp_path: Path, git_manager: GitManager) -> None:
    """Where another process is at it there is nothing to do; a deletion that was cut short is finished by the next."""
    tree = remove(tmp_path, git_manager, "t")
    lock = tmp_path / "repo/.git/moderator/leases/trash@all.lock"
    with leases.held(lock, "the trash", 0.0):
        with pytest.raises(WorkspaceBusy):
            git_manager.empty_trash_at_leisure(1.0)
        assert moderator(tmp_path / "repo", "rescue", "tidy", "--quietly").returncode == 0
        assert tree.exists()
    git_manager.empty_trash(0.0)  # renamed, and no time is left
    assert (tree.exists(), os.listdir(tree.parent)) == (False, [f"{tree.name}.deleting"])
    assert document(moderator(tmp_path / "repo", "rescue", "tidy", "--json"))["all_gone"] is True
    assert not tree.parent.exists()


def test_a_command_leaves_the_rest_to_a_process(tmp_path: Path, git_manager: GitManager) -> None:
    """What a command has no time for is deleted after it has ended, and nothing of that process stays."""
    tree = remove(tmp_path, git_manager, "t")
    git_manager.tidy_trash(0.0)
    wait_until(lambda: not tree.parent.exists(), "an empty trash")
    wait_until(lambda: not (tmp_path / "repo/.git/moderator/leases/trash@all.lock").exists(), "the process's end")
