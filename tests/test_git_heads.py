"""Where worktrees stand, and how they and their entries name each other, in every way that git has for these."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from moderator.errors import EnvironmentProblem
from moderator.git import heads
from moderator.git.branches import branches_in_use
from moderator.git.doctor.doctor import Doctor
from moderator.git.fingerprint import Fingerprint
from moderator.git.manager import GitManager
from moderator.git.pool import PoolLimits
from moderator.git.registry import Registry
from moderator.git.repository import Repository
from repos import git, make_repository
from workspaces import context

COMMITS = [("first", {"a": "a\n", ".gitignore": "ignored\n"}), ("second", {"b": "b\n"})]


def stored_as(kind: str, path: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIT_DEFAULT_REF_FORMAT", kind)
        made = make_repository(path, COMMITS)
    if heads.are_files(str(made / ".git")) != (kind == "files"):
        pytest.skip(f"this git knows no {kind}")
    return made


@pytest.fixture(params=["files", "reftable"])
def repo(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return stored_as(request.param, tmp_path / "repo")


def entry_of(tree: str | Path) -> str:
    return git(tree, "rev-parse", "--absolute-git-dir")


def test_what_a_worktree_has_for_itself_survives_its_removal(tmp_path: Path, repo: Path) -> None:
    """An operation in progress is told and goes on after an undo; refs of its own, and commits that only a log names, are kept."""
    manager = GitManager(repo)
    with manager.create_workspace(context(tmp_path, "t")) as workspace:
        tree = Path(workspace.path)
    own = git(tree, "commit-tree", "HEAD^{tree}", "-m", "named by the worktree alone")
    git(tree, "update-ref", "refs/worktree/mine", own)
    git(tree, "commit", "--quiet", "--allow-empty", "-m", "named by a log alone")
    loose = git(tree, "rev-parse", "HEAD")
    git(tree, "reset", "--quiet", "--hard", "HEAD~1")
    (tree / "a").write_text("mine\n")
    git(tree, "commit", "--quiet", "-am", "mine")
    git(repo, "switch", "--quiet", "-c", "side")
    (repo / "a").write_text("theirs\n")
    git(repo, "commit", "--quiet", "-am", "theirs")
    assert subprocess.run(["git", "cherry-pick", "side"], cwd=tree, capture_output=True).returncode == 1
    assert manager.status("t").operation == "cherry-pick"
    in_use = branches_in_use(Repository.open(repo))
    assert in_use == {"refs/heads/side": [entry_of(repo)], "refs/heads/main-task-t": [entry_of(tree)]}
    manager.remove_workspace("t", rescue=True)
    git(repo, "gc", "--quiet", "--prune=now")
    assert [git(repo, "cat-file", "-t", commit) for commit in (own, loose)] == ["commit", "commit"]
    manager.undo_removal().release()
    assert (
        git(tree, "rev-parse", "refs/worktree/mine", "CHERRY_PICK_HEAD") == f"{own}\n{git(repo, 'rev-parse', 'side')}"
    )
    assert manager.status("t").operation == "cherry-pick"


@pytest.mark.parametrize("in_trash", [True, False])
def test_head_stands_where_it_stood_after_an_undo(tmp_path: Path, repo: Path, in_trash: bool) -> None:
    """Whether its tree and its entry come back from the trash or are made again."""
    manager = GitManager(repo)
    manager.create_workspace(context(tmp_path, "t")).release()
    tree = tmp_path / "checkouts/tasks/t"
    git(tree, "switch", "--quiet", "--detach", "HEAD~1")
    if in_trash:
        (tree / "ignored").write_text("stays\n")
    manager.remove_workspace("t", rescue=True)
    manager.undo_removal().release()
    assert heads.said(entry_of(tree)) == git(repo, "rev-parse", "main~1")
    git(tree, "switch", "--quiet", "main-task-t")
    assert heads.said(entry_of(tree)) == "ref: refs/heads/main-task-t"


def test_the_main_checkout_is_watched(repo: Path) -> None:
    """A commit, another branch and a stash there are told; a commit elsewhere is not."""
    repository = Repository.open(repo)

    def after(*command: str) -> list[str]:
        before = Fingerprint.of(repository)
        git(repo, *command)
        return before.differences(Fingerprint.of(repository, before))

    head, stash = "HEAD of the main checkout", "the stash"
    assert after("branch", "other") == []
    assert after("commit", "--quiet", "--allow-empty", "-m", "more") == [head]
    assert after("symbolic-ref", "HEAD", "refs/heads/other") == [head]
    (repo / "a").write_text("stashed\n")
    assert after("stash", "push", "--quiet") == [stash]


def test_refs_in_tables_that_are_gone_are_made_again(tmp_path: Path) -> None:
    """The doctor does not take the word in the file HEAD for a branch, and lets HEAD stand on the workspace's own again."""
    repo = stored_as("reftable", tmp_path / "repo")
    GitManager(repo).create_workspace(context(tmp_path, "t")).release()
    tree = tmp_path / "checkouts/tasks/t"
    shutil.rmtree(os.path.join(entry_of(tree), "reftable"))
    opened = Repository.open(repo)
    doctor = Doctor(opened, Registry(opened.ours))
    assert [one.code for one in doctor.examine()] == ["head-damaged"]
    doctor.examine(fix=True)
    assert (doctor.examine(), git(tree, "status", "--porcelain", "--branch")) == ([], "## main-task-t")


def test_refs_that_are_stored_elsewhere_are_refused(tmp_path: Path) -> None:
    """Before anything is made, with what to type."""
    repo = make_repository(tmp_path / "repo")
    opened = Repository.open(repo)
    opened.settings["extensions.refstorage"] = ["reftable:///elsewhere"]
    with pytest.raises(EnvironmentProblem, match="the refs of this repository are stored in 'reftable:///elsewhere'"):
        opened.refuse_strange_refs()


def test_links_are_relative_where_git_makes_them_so(tmp_path: Path) -> None:
    """A worktree and its entry name each other as git would: made by git, by us, from a spare, and brought back."""
    repo = make_repository(tmp_path / "repo", COMMITS)
    git(repo, "config", "worktree.useRelativePaths", "true")
    manager = GitManager(repo, pool=PoolLimits(1, recycle="pristine"))
    manager.create_workspace(context(tmp_path, "by-git")).release()
    if not Repository.open(repo).links_relatively:
        pytest.skip("this git knows no relative links")
    manager = GitManager(repo, pool=PoolLimits(1, recycle="pristine"))
    manager.create_workspace(context(tmp_path, "by-us")).release()
    assert manager.fill_pool(str(tmp_path / "checkouts"), "main", 1).problem == ""
    manager.create_workspace(context(tmp_path, "spare")).release()
    manager.remove_workspace("by-us")
    manager.undo_removal().release()
    tasks = tmp_path / "checkouts/tasks"
    for name in ("by-git", "by-us", "spare"):
        entry = os.path.basename(entry_of(tasks / name))
        assert (tasks / name / ".git").read_text() == f"gitdir: ../../../repo/.git/worktrees/{entry}\n"
        assert (repo / ".git/worktrees" / entry / "gitdir").read_text() == f"../../../../checkouts/tasks/{name}/.git\n"
    opened = Repository.open(repo)
    assert Doctor(opened, Registry(opened.ours)).examine() == []
    manager.remove_workspace("spare", recycle=True)
    assert [spare.seal is not None for spare in manager.pool_status().spares] == [True]
