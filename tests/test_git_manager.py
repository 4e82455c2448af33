"""`GitManager`: every level made real, asked about in the user's words, and safe to share."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from moderator.context import ExecutionContext
from moderator.errors import (
    CheckoutNotClean,
    ConfigurationError,
    IsolationError,
    ModeratorError,
    NotARepository,
    UnknownRevision,
    UnknownWorkspace,
)
from moderator.git.manager import GitManager
from moderator.git.values import Counts, Workspace
from repos import git, make_repository
from workspaces import BRANCH, DIRECTORY, FULL, NONE, context, files, listing

COMMITS = [("first", {"a.txt": "a\n", "b.txt": "b\n", ".gitignore": "*.log\ncache/\n"}), ("second", {"a.txt": "2\n"})]


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "repo", COMMITS)


@pytest.fixture
def manager(repo: Path) -> GitManager:
    return GitManager(repo)


def test_every_level_is_made_real(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """FULL: a worktree on a branch. DIRECTORY: a worktree on no branch. BRANCH: a branch. NONE: the checkout."""
    tip = git(repo, "rev-parse", "main")
    given = {
        level: context(tmp_path, "t_1", level, checkout=repo if level in (BRANCH, NONE) else None)
        for level in (FULL, NONE)
    }
    with manager.create_workspace(given[FULL]) as full:
        tree = tmp_path / "checkouts/tasks/t_1"
        assert full == Workspace(
            "t_1", str(tree), "main-task-t-1", tip, "main", str(tmp_path / "state/tasks/t_1"), FULL, given[FULL]
        )
        assert (git(tree, "symbolic-ref", "HEAD"), files(tree)) == ("refs/heads/main-task-t-1", files(repo))
    directory = context(tmp_path, "d", DIRECTORY)
    with manager.create_workspace(directory) as workspace:
        tree = tmp_path / "checkouts/tasks/d"
        assert workspace == Workspace("d", str(tree), None, tip, "main", str(tmp_path / "state"), DIRECTORY, directory)
        assert (git(tree, "branch", "--show-current"), git(tree, "rev-parse", "HEAD"), files(tree)) == (
            "",
            tip,
            files(repo),
        )
    branch = context(tmp_path, "b", BRANCH, checkout=repo)
    with manager.create_workspace(branch) as workspace:
        assert workspace == Workspace(
            "b", str(repo), "main-task-b", tip, "main", str(tmp_path / "state"), BRANCH, branch
        )
        assert (git(repo, "branch", "--show-current"), git(repo, "rev-parse", "main-task-b")) == ("main", tip)
    with manager.create_workspace(given[NONE]) as workspace:
        assert (workspace.path, workspace.branch, workspace.base) == (str(repo), None, tip)
    assert [(w.task_id, w.level) for w in manager.workspaces()] == [("b", BRANCH), ("d", DIRECTORY), ("t_1", FULL)]
    assert git(repo, "for-each-ref", "--format=%(refname:short)").split() == ["main", "main-task-b", "main-task-t-1"]
    for name in ("b", "d", "t_1"):
        manager.remove_workspace(name)
    assert git(repo, "for-each-ref", "--format=%(refname:short)").split() == ["main", "main-task-b", "main-task-t-1"]


def test_a_workspace_counts_what_is_in_it(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """Staged, modified, untracked and ignored paths, commits ahead and behind, size and tip, whatever the settings hide."""
    git(repo, "config", "status.showUntrackedFiles", "no")
    with manager.create_workspace(context(tmp_path, "t")) as workspace:
        fresh = manager.status(workspace)
        assert (fresh.state, fresh.counts, fresh.ahead, fresh.behind, fresh.tip) == (
            "ready",
            Counts(),
            0,
            0,
            workspace.base,
        )
        tree = Path(workspace.path)
        (tree / "own").touch()
        manager.commit(workspace, "own")
        for number in range(3):
            git(repo, "commit", "--quiet", "--allow-empty", "-m", str(number))
        (tree / "staged").touch()
        git(tree, "add", "staged")
        (tree / "a.txt").write_text("changed")
        (tree / "b.txt").unlink()
        (tree / "new").mkdir()
        for name in ("1", "2", "3"):
            (tree / "new" / name).touch()
        (tree / "x.log").write_bytes(b"x" * 100_000)
        (tree / "cache").mkdir()
        (tree / "cache/y").touch()
        status = manager.status("t", size=True)
        assert (status.counts, status.dirty, status.ahead, status.behind) == (Counts(1, 2, 3, 2, 0), 6, 1, 3)
        assert (status.tip, status.base, status.branch) == (
            git(repo, "rev-parse", "main-task-t"),
            workspace.base,
            "main-task-t",
        )
        assert status.size is not None and status.size >= 100_000
        assert status.lease is not None and status.lease.pid == os.getpid()
        quick = manager.status("t", changes=False)
        assert (quick.counts, quick.dirty, quick.size) == (None, None, None)
        assert manager.statuses() == [manager.status("t")]
        described = status.to_dict()
        assert (described["dirty"], described["staged"], described["ignored"], described["state"]) == (6, 1, 2, "ready")


@pytest.mark.parametrize("operation", ["merge", "rebase", "cherry-pick", "revert", "bisect"])
def test_an_operation_in_progress_is_named(tmp_path: Path, repo: Path, manager: GitManager, operation: str) -> None:
    """A merge, rebase, cherry-pick, revert or bisect that was left unfinished shows in the status."""
    with manager.create_workspace(context(tmp_path, "t")) as workspace:
        tree = Path(workspace.path)
        git(tree, "switch", "--quiet", "-c", "side", "main~1")
        (tree / "a.txt").write_text("theirs\n")
        git(tree, "commit", "--quiet", "-a", "-m", "theirs")
        git(tree, "switch", "--quiet", "main-task-t")
        commands = {
            "merge": ["merge", "side"],
            "rebase": ["rebase", "side"],
            "cherry-pick": ["cherry-pick", "side"],
            "revert": ["revert", "--no-commit", "HEAD"],
            "bisect": ["bisect", "start"],
        }
        subprocess.run(["git", *commands[operation]], cwd=tree, capture_output=True)
        assert (manager.status("t").operation, manager.status("t").state) == (operation, "ready")


def test_a_busy_index_is_no_damage(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """While git holds the index of a workspace, it is still a workspace, for those who look and those who ask for it."""
    with manager.create_workspace(context(tmp_path, "t")):
        (next((repo / ".git/worktrees").iterdir()) / "index.lock").touch()
        assert manager.status("t").state == "ready"
        manager.create_workspace(context(tmp_path, "t")).release()


def test_one_broken_workspace_does_not_hide_the_others(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """A workspace whose index git cannot read is shown as damaged among the rest."""
    for name in ("a", "b"):
        manager.create_workspace(context(tmp_path, name)).release()
    (next((repo / ".git/worktrees").glob("a-*")) / "index").write_bytes(b"garbage")
    assert [(status.task_id, status.state) for status in manager.statuses()] == [("a", "damaged"), ("b", "ready")]
    with pytest.raises(ModeratorError):
        manager.remove_workspace("a")
    assert files(tmp_path / "checkouts/tasks/a") == files(repo)


def test_looking_changes_nothing(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """Status and lists write nothing, not even into the index."""
    manager.create_workspace(context(tmp_path, "t")).release()
    before = listing(repo, tmp_path / "checkouts")
    manager.statuses(), manager.status("t", size=True), manager.workspaces(), manager.holder("t"), manager.tip("t")
    assert listing(repo, tmp_path / "checkouts") == before


def test_a_task_gets_the_same_workspace_again(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """Asked again, in this process or a later one, a task finds its workspace with its work in it."""
    with manager.create_workspace(context(tmp_path, "t")) as first:
        (Path(first.path) / "work").write_text("half done")
    for other in (manager, GitManager(repo)):
        with other.create_workspace(context(tmp_path, "t")) as again:
            assert (again, (Path(again.path) / "work").read_text()) == (first, "half done")
    assert len(os.listdir(repo / ".git/worktrees")) == 1


def test_a_workspace_is_found_by_all_its_names(tmp_path: Path, manager: GitManager) -> None:
    """By id, by branch, by context and by itself; never by its directory's name; a near miss gets a suggestion."""
    with manager.create_workspace(context(tmp_path, "task_1")) as workspace:
        for name in ("task_1", "main-task-task-1", workspace, context(tmp_path, "task_1")):
            assert manager.find(name).path == workspace.path
        for name in ("", " ", "\0", "task-1", str(workspace.path), "main", "task_2"):
            with pytest.raises(UnknownWorkspace) as caught:
                manager.find(name)
        assert (caught.value.hint, caught.value.exit_code) == ("did you mean 'task_1'?", 2)
        with pytest.raises(UnknownWorkspace):
            manager.status(context(tmp_path, "task_2"))


def test_a_base_context_is_refused_where_a_task_is_needed(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """A context that belongs to no task cannot be made real at a level that isolates."""
    with pytest.raises(ConfigurationError, match="belongs to no task"):
        manager.create_workspace(ExecutionContext("p", str(tmp_path), "main", str(tmp_path), FULL))
    assert not (repo / ".git/moderator").exists()


def test_level_branch_needs_a_clean_checkout_at_its_base(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """Changes, another commit checked out, another repository or no checkout at all: refused, and nothing is made."""
    other = make_repository(tmp_path / "other")
    (tmp_path / "plain").mkdir()
    given = context(tmp_path, "t", BRANCH, checkout=repo)
    for checkout in (other, tmp_path / "plain", repo / ".git"):
        with pytest.raises(NotARepository):
            manager.create_workspace(context(tmp_path, "t", BRANCH, checkout=checkout))
    with pytest.raises(UnknownRevision, match="not at the base"):
        manager.create_workspace(given, base="main~1")
    (repo / "mine").write_text("mine")
    with pytest.raises(CheckoutNotClean, match="mine") as caught:
        manager.create_workspace(given)
    assert (caught.value.exit_code, (repo / "mine").read_text()) == (3, "mine")
    assert (manager.workspaces(), git(repo, "branch", "--list", "*task*")) == ([], "")
    (repo / "mine").unlink()
    manager.create_workspace(given).release()
    git(repo, "commit", "--quiet", "--allow-empty", "-m", "moved on")
    with pytest.raises(UnknownRevision, match="not at the base"):
        manager.create_workspace(given)


def test_a_branch_that_git_would_not_take_is_refused(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """A context made by hand may not name a branch that poses as an option or is none, whatever was made before it."""
    manager.create_workspace(context(tmp_path, "good")).release()
    refs = git(repo, "for-each-ref")
    for branch in ("-x", "a..b", "HEAD", "@{-1}", "a b", "a.lock"):
        given = context(tmp_path, "t")
        given.git_branch = branch
        with pytest.raises(IsolationError, match="does not accept"):
            manager.create_workspace(given)
    assert (git(repo, "for-each-ref"), [w.task_id for w in manager.workspaces()]) == (refs, ["good"])


def test_branches_are_compared_as_file_systems_compare(repo: Path, manager: GitManager) -> None:
    """Which of some branches exist is answered without regard to letter case."""
    git(repo, "branch", "Fix")
    assert manager.existing_branches(["fix", "main", "other"]) == {"fix", "main"}


def test_a_fingerprint_tells_what_was_touched(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """HEAD, staged content and configuration of the main checkout; a mere look with git status is no change."""
    before = manager.fingerprint()
    os.utime(repo / "a.txt", (1, 1))
    git(repo, "status")
    assert before.differences(manager.fingerprint()) == []
    (repo / "a.txt").write_text("x")
    git(repo, "add", "a.txt")
    git(repo, "config", "a.b", "c")
    git(repo, "switch", "--quiet", "-c", "side")
    assert before.differences(manager.fingerprint()) == [
        "HEAD of the main checkout",
        "the index of the main checkout",
        "the repository's configuration",
    ]


def test_a_branch_moved_underneath_its_checkout_is_told(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """Packing the refs is no finding; moving the branch that is checked out from a workspace is."""
    before = manager.fingerprint()
    git(repo, "pack-refs", "--all")
    assert before.differences(manager.fingerprint()) == []
    with manager.create_workspace(context(tmp_path, "t")) as workspace:
        git(Path(workspace.path), "commit", "--quiet", "--allow-empty", "-m", "theirs")
        git(Path(workspace.path), "update-ref", "refs/heads/main", "HEAD")
    assert before.differences(manager.fingerprint()) == ["HEAD of the main checkout"]


def test_the_tree_of_a_checkout_is_known_without_touching_it(repo: Path, manager: GitManager) -> None:
    """What git would commit in a checkout, untracked files included, has an id; index and files stay."""
    assert manager.tree_of_checkout(str(repo)) == git(repo, "rev-parse", "main^{tree}")
    (repo / "new").write_text("new\n")
    index = (repo / ".git/index").read_bytes()
    tree = manager.tree_of_checkout(str(repo))
    assert (repo / ".git/index").read_bytes() == index
    git(repo, "add", "--all")
    assert tree == git(repo, "write-tree")


@pytest.mark.parametrize("count", [1_000, pytest.param(30_000, marks=pytest.mark.slow)])
def test_many_files(tmp_path: Path, count: int) -> None:
    """A repository with many files is checked out whole, and clean."""
    commits = [("first", {f"d{number % 97}/f{number}": f"{number}\n" for number in range(count)})]
    repo = make_repository(tmp_path / "repo", commits)
    with GitManager(repo).create_workspace(context(tmp_path, "t")) as workspace:
        assert git(Path(workspace.path), "status", "--porcelain") == ""
        assert files(workspace.path) == files(repo)
