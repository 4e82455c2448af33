"""Worktrees made whole, refused whole, and understood by git as its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderator.errors import (
    EnvironmentProblem,
    IsolationError,
    ModeratorError,
    PersonNeeded,
    WorkspaceOccupied,
    WouldLoseWork,
)
from moderator.git.manager import GitManager
from moderator.git.worktrees import idle
from repos import Executable, Symlink, git, make_repository
from workspaces import BRANCH, DIRECTORY, FULL, NONE, context, files, listing, mounted

COMMITS = [
    (
        "first",
        {
            "README.md": "# Sample\n",
            "src/a.py": "a = 1\n",
            b"src/\xff\n\xe9": b"\0any\xff",
            "run": Executable("#!/bin/sh\n"),
            "link": Symlink("src/a.py"),
            ".gitignore": "*.log\n.env\ncache/\n",
        },
    )
]


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "repo", COMMITS)


@pytest.fixture
def manager(repo: Path) -> GitManager:
    return GitManager(repo)


def porcelain(repo: Path) -> list[dict[str, str]]:
    """`git worktree list --porcelain -z`, an entry each."""
    blocks = git(repo, "worktree", "list", "--porcelain", "-z").strip("\0").split("\0\0")
    return [dict(line.partition(" ")[::2] for line in block.split("\0")) for block in blocks]


def fallback(repo: Path) -> None:
    git(repo, "config", "extensions.worktreeConfig", "true")


def sparse(repo: Path) -> None:
    git(repo, "sparse-checkout", "set", "--no-cone", "/*")


def plain(repo: Path) -> None:
    pass


# -- what git makes of it ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prepare", [plain, fallback, sparse], ids=["written", "by git", "sparse"])
def test_git_takes_the_worktree_for_its_own(tmp_path: Path, repo: Path, prepare: Callable[[Path], None]) -> None:
    """However it was entered: git lists it, locked, checks it without complaint, repairs nothing and never drops it."""
    prepare(repo)
    with GitManager(repo).create_workspace(context(tmp_path, "t_1")) as workspace:
        tree, commit = Path(workspace.path), git(repo, "rev-parse", "main")
        expected = {"worktree": str(tree), "HEAD": commit, "branch": "refs/heads/main-task-t-1"}

        def entry() -> dict[str, str]:
            (found,) = (each for each in porcelain(repo) if each["worktree"] == str(tree))
            assert found.pop("locked").startswith("moderator: 't_1'")
            return found

        assert entry() == expected
        assert git(tree, "status", "--porcelain", "--ignored") == ""
        assert files(tree) == files(repo)
        assert os.stat(tree / "run").st_mode & 0o111
        for command in (
            "fsck --strict",
            "worktree repair",
            "worktree prune --expire=now",
            "gc --quiet --prune=now",
            "fetch .",
        ):
            git(repo, *command.split())
            assert entry() == expected, command
        git(repo, "worktree", "repair", tree)
        git(tree, "commit", "--quiet", "--allow-empty", "-m", "by hand")
        assert entry() == {**expected, "HEAD": git(repo, "rev-parse", "main-task-t-1")}
        assert git(tree, "fsck", "--strict") == ""
    entries = os.listdir(repo / ".git/worktrees")
    assert (len(entries), entries[0].startswith("t-1-")) == (1, True)


def test_git_moves_and_finds_the_worktree(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """A worktree that a person unlocked, moved and moved back with git is still whole."""
    workspace = manager.create_workspace(context(tmp_path, "t"))
    git(repo, "worktree", "move", "-f", "-f", workspace.path, tmp_path / "elsewhere")
    assert manager.status("t").state == "missing"
    git(repo, "worktree", "move", "-f", "-f", tmp_path / "elsewhere", workspace.path)
    assert manager.status("t").state == "ready"


@given(st.integers(1, 64), st.integers(-2, 500))
def test_no_more_help_than_cores_are_idle(cores: int, running: int) -> None:
    """A checkout is never left without a worker, never has more than cores, and one less for each process that runs."""
    assert 1 <= idle(cores, running) <= cores
    assert idle(cores, running) == cores or running > 0
    assert idle(cores, running) + running <= max(cores, 1 + running)


def test_a_sparse_checkout_is_followed(tmp_path: Path, repo: Path) -> None:
    """A repository with a sparse checkout gives sparse workspaces, whose commits keep what is not checked out."""
    git(repo, "sparse-checkout", "set", "docs")
    with GitManager(repo).create_workspace(context(tmp_path, "t")) as workspace:
        tree = Path(workspace.path)
        assert not (tree / "src").exists()
        (tree / "src").mkdir()
        (tree / "src/new.py").write_text("new\n")
        GitManager(repo).commit(workspace, "work")
        assert git(repo, "diff", "--name-status", "main", "main-task-t") == "A\tsrc/new.py"


def test_a_fresh_worktree_costs_no_shared_setting(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """Making and removing workspaces writes nothing into the configuration, not even from a remote's branch."""
    git(repo, "clone", "--quiet", repo, tmp_path / "clone")
    clone = GitManager(tmp_path / "clone")
    before = (tmp_path / "clone/.git/config").read_bytes()
    for level in (FULL, DIRECTORY):
        workspace = clone.create_workspace(context(tmp_path, "t", level), base="origin/main")
        clone.remove_workspace(workspace)
    assert (tmp_path / "clone/.git/config").read_bytes() == before


# -- refused, with nothing touched ---------------------------------------------------------------------------------------


def foreign_files(folder: Path, repo: Path) -> None:
    (folder / "checkouts/tasks/t").mkdir(parents=True)
    (folder / "checkouts/tasks/t/notes").write_text("mine")


def a_file(folder: Path, repo: Path) -> None:
    (folder / "checkouts/tasks").mkdir(parents=True)
    (folder / "checkouts/tasks/t").write_text("mine")


def link_at_leaf(folder: Path, repo: Path) -> None:
    (folder / "target").mkdir()
    (folder / "checkouts/tasks").mkdir(parents=True)
    (folder / "checkouts/tasks/t").symlink_to(folder / "target")


def broken_link_at_leaf(folder: Path, repo: Path) -> None:
    (folder / "checkouts/tasks").mkdir(parents=True)
    (folder / "checkouts/tasks/t").symlink_to(folder / "nowhere")


def link_at_tasks(folder: Path, repo: Path) -> None:
    (folder / "target").mkdir()
    (folder / "checkouts").mkdir()
    (folder / "checkouts/tasks").symlink_to(folder / "target")


def a_file_at_tasks(folder: Path, repo: Path) -> None:
    (folder / "checkouts").mkdir()
    (folder / "checkouts/tasks").write_text("mine")


def branch_exists(folder: Path, repo: Path) -> None:
    git(repo, "branch", "main-task-t")


def branch_below(folder: Path, repo: Path) -> None:
    git(repo, "branch", "main-task-t/part")


def copied_workspace(folder: Path, repo: Path) -> None:
    other = GitManager(repo).create_workspace(context(folder, "other"))
    other.release()
    shutil.copytree(other.path, folder / "checkouts/tasks/t", symlinks=True)


def mirror(folder: Path, repo: Path) -> None:
    git(repo, "remote", "add", "--mirror=fetch", "upstream", "/nowhere")


def mirror_of_heads(folder: Path, repo: Path) -> None:
    git(repo, "config", "remote.upstream.fetch", "+refs/heads/*:refs/heads/*")


def failing_filter(folder: Path, repo: Path) -> None:
    (repo / ".git/info/attributes").write_text("*.py filter=broken\n")
    git(repo, "config", "filter.broken.smudge", "false")
    git(repo, "config", "filter.broken.required", "true")


def file_at_worktrees(folder: Path, repo: Path) -> None:
    (repo / ".git/worktrees").write_text("in the way")


def file_at_ours(folder: Path, repo: Path) -> None:
    (repo / ".git/moderator").write_text("in the way")


def stale_ref_lock_folder(folder: Path, repo: Path) -> None:
    (repo / ".git/logs/refs/heads/main-task-t/x").mkdir(parents=True)
    (repo / ".git/logs/refs/heads/main-task-t/x/y").write_text("in the way")


@pytest.mark.parametrize(
    ("prepare", "error", "words"),
    [
        (foreign_files, WorkspaceOccupied, "already holds files that are not task 't''s: notes"),
        (a_file, WorkspaceOccupied, "is a file"),
        (link_at_leaf, WorkspaceOccupied, "is a symbolic link"),
        (broken_link_at_leaf, WorkspaceOccupied, "is a symbolic link"),
        (link_at_tasks, WorkspaceOccupied, "is a symbolic link"),
        (a_file_at_tasks, WorkspaceOccupied, "is a file"),
        (branch_exists, WorkspaceOccupied, "the branch 'main-task-t' of task 't' exists already"),
        (branch_below, WorkspaceOccupied, "the branch 'main-task-t' of task 't' cannot be created"),
        (copied_workspace, WorkspaceOccupied, "already holds files"),
        (mirror, EnvironmentProblem, "'upstream' would delete the branches of tasks"),
        (mirror_of_heads, EnvironmentProblem, "'upstream' would delete the branches of tasks"),
        (failing_filter, EnvironmentProblem, "the filter 'broken' fails on '.*.py' at the checkout into"),
        (file_at_worktrees, EnvironmentProblem, "could not be entered in the repository"),
        (file_at_ours, EnvironmentProblem, "the lock .* could not be made"),
    ],
)
def test_what_stands_in_the_way_is_refused(
    tmp_path: Path, repo: Path, prepare: Callable[[Path, Path], None], error: type[ModeratorError], words: str
) -> None:
    """Refused with a reason and a way out, nothing half-made stays, and nothing of the user's is touched."""
    prepare(tmp_path, repo)
    given = context(tmp_path / "names", "t")
    given.working_directory = str(tmp_path / "checkouts/tasks/t")
    before = listing(tmp_path)
    with pytest.raises(error, match=words) as caught:
        GitManager(repo).create_workspace(given)
    assert caught.value.hint or caught.value.cause
    ours = {str(repo / ".git/moderator" / name) for name in ("", "leases", "workspaces", "staging", "trash")}
    ours |= {
        str(repo / ".git/moderator"),
        str(repo / ".git/worktrees"),
        str(tmp_path / "checkouts"),
        str(tmp_path / "checkouts/tasks"),
    }
    after = {path: what for path, what in listing(tmp_path).items() if path in before or path not in ours}
    assert {path: after.get(path) for path in {*before, *after} if before.get(path) != after.get(path)} == {}


def test_a_name_that_another_id_owns_is_refused(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """Ids that differ only as names may not share one: `a_b`, `a-b`, `A b` are one workspace, whoever came first."""
    with manager.create_workspace(context(tmp_path, "a_b")):
        pass
    before = listing(repo, tmp_path / "checkouts/tasks/a_b")
    for other in ("a-b", "a b", "A_B"):
        with pytest.raises(IsolationError, match="belong to task 'a_b'"):
            manager.create_workspace(context(tmp_path / "elsewhere", other))
    assert listing(repo, tmp_path / "checkouts/tasks/a_b") == before


def test_a_directory_that_is_not_the_tasks_own_is_refused(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """A context made by hand may not point outside its root, into the repository, or over two lines."""
    own = context(tmp_path, "t")
    for directory in (tmp_path / "free", repo / ".git/tasks/t", tmp_path / "a\nb/tasks/t", tmp_path / "tasks/other"):
        given = context(tmp_path, "t")
        given.working_directory = str(directory)
        with pytest.raises(IsolationError):
            manager.create_workspace(given)
        assert not directory.exists()
    assert (manager.workspaces(), git(repo, "branch", "--list", "*task*")) == ([], "")
    manager.create_workspace(own).release()


def test_other_names_for_the_same_task_are_refused(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """A task that has a workspace does not get a second one elsewhere or of another level."""
    manager.create_workspace(context(tmp_path, "t")).release()
    for other in (
        context(tmp_path / "b", "t"),
        context(tmp_path, "t", DIRECTORY),
        context(tmp_path, "t", BRANCH, checkout=repo),
    ):
        with pytest.raises(WorkspaceOccupied, match="already has a workspace with other names"):
            manager.create_workspace(other)


def test_another_base_for_the_same_task_is_refused(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """A workspace is not silently given for a base that it did not fork from."""
    manager.create_workspace(context(tmp_path, "t")).release()
    git(repo, "commit", "--quiet", "--allow-empty", "-m", "second")
    with pytest.raises(WorkspaceOccupied, match="not from 'main'"):
        manager.create_workspace(context(tmp_path, "t"), base="main")
    manager.create_workspace(context(tmp_path, "t"), base="main~1").release()


def test_a_read_only_root_is_refused(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """Where no directory can be made, the error says so and neither branch nor entry nor record stays."""
    given = context(tmp_path, "t")
    os.rmdir(given.working_directory)
    before = listing(repo)
    with mounted(tmp_path / "checkouts", "ro"):
        with pytest.raises(EnvironmentProblem, match="cannot be made") as caught:
            manager.create_workspace(given)
        assert caught.value.cause.endswith(f"Read-only file system: '{tmp_path / 'checkouts/tasks'}'")
    assert {path for path in listing(repo) if path not in before and "/.git/moderator" not in path} == set()
    assert manager.workspaces() == []


def test_a_read_only_repository_can_be_read(tmp_path: Path) -> None:
    """In a repository that cannot be written, looking works and making says why it does not."""
    with mounted(tmp_path / "disk", "size=16m"):
        repo = make_repository(tmp_path / "disk/repo", COMMITS)
        GitManager(repo).create_workspace(context(tmp_path, "t")).release()
        subprocess.run(["mount", "-o", "remount,ro", tmp_path / "disk"], check=True)
        manager = GitManager(repo)
        assert (manager.status("t").state, manager.status("t").counts.dirty) == ("ready", 0)
        for ask in (lambda: manager.create_workspace(context(tmp_path, "u")), lambda: manager.remove_workspace("t")):
            with pytest.raises(EnvironmentProblem):
                ask()
        assert manager.status("t").state == "ready"


@pytest.mark.parametrize("full", ["checkouts", "repository"])
def test_a_full_disk_leaves_nothing_half_made(tmp_path: Path, full: str) -> None:
    """When space runs out while a workspace is made, the error says so, and with space again all is well."""
    commits = [("first", {f"{name}.bin": os.urandom(60_000) for name in "abcdefghijklmnop"})]
    with mounted(tmp_path / "disk", "size=3m"):
        repo = make_repository((tmp_path / "disk" if full == "repository" else tmp_path) / "repo", commits)
        folder = tmp_path if full == "repository" else tmp_path / "disk"
        (tmp_path / "disk/ballast").touch()
        before = listing(tmp_path)
        free = os.statvfs(tmp_path / "disk").f_bavail * 4096
        room = 0 if full == "repository" else 300_000
        (tmp_path / "disk/ballast").write_bytes(b"x" * (free - room))
        manager = GitManager(repo)
        with pytest.raises(EnvironmentProblem) as caught:
            manager.create_workspace(context(folder, "t"))
        assert "space" in caught.value.message + caught.value.cause + caught.value.hint
        (tmp_path / "disk/ballast").write_bytes(b"")
        made = [path for path, what in listing(tmp_path).items() if path not in before and what != "directory"]
        assert [path for path in made if "workspaces/t.json" not in path and "leases/t.lock" not in path] == []
        with manager.create_workspace(context(folder, "t")) as workspace:
            assert files(workspace.path) == files(repo)
        assert len(os.listdir(repo / ".git/worktrees")) == 1


def test_a_checkout_on_another_file_system_is_whole(tmp_path: Path, repo: Path) -> None:
    """Workspaces on another disk than the repository's are made, committed in and removed like any other."""
    with mounted(tmp_path / "disk", "size=16m"):
        manager = GitManager(repo)
        with manager.create_workspace(context(tmp_path / "disk", "t")) as workspace:
            (Path(workspace.path) / "new").write_text("new\n")
            assert manager.commit(workspace, "work") is not None
        manager.remove_workspace("t")
        assert (files(tmp_path / "disk/checkouts"), git(repo, "fsck"), manager.workspaces()) == ({}, "", [])


# -- damaged by hand ---------------------------------------------------------------------------------------------------


def deleted(tree: Path, repo: Path) -> None:
    shutil.rmtree(tree)


def pointer_replaced(tree: Path, repo: Path) -> None:
    (tree / ".git").write_text("gitdir: /elsewhere\n")


def pointer_deleted(tree: Path, repo: Path) -> None:
    (tree / ".git").unlink()


def became_a_repository(tree: Path, repo: Path) -> None:
    (tree / ".git").unlink()
    git(tree, "init", "--quiet")


def became_a_link(tree: Path, repo: Path) -> None:
    tree.rename(tree.parent / "moved")
    tree.symlink_to(tree.parent / "moved")


def entry_pruned(tree: Path, repo: Path) -> None:
    shutil.rmtree(repo / ".git/worktrees")


def points_at_another(tree: Path, repo: Path) -> None:
    other = GitManager(repo).create_workspace(context(tree.parents[2], "other"))
    other.release()
    shutil.copy(Path(other.path, ".git"), tree / ".git")


@pytest.mark.parametrize(
    ("damage", "state"),
    [
        (deleted, "missing"),
        (pointer_replaced, "damaged: its .git is not ours"),
        (pointer_deleted, "damaged: no .git file in it"),
        (became_a_repository, "damaged: its .git is not ours"),
        (entry_pruned, "damaged: git has no entry of it"),
        (points_at_another, "damaged: its .git is not ours"),
    ],
)
def test_a_workspace_that_was_changed_by_hand_is_a_persons(
    tmp_path: Path, repo: Path, manager: GitManager, damage: Callable[[Path, Path], None], state: str
) -> None:
    """It is told apart, not used, not committed in, and its files are not removed."""
    workspace = manager.create_workspace(context(tmp_path, "t"))
    workspace.release()
    damage(Path(workspace.path), repo)
    before = listing(tmp_path / "checkouts")
    found = manager.status("t")
    assert ": ".join(filter(None, (found.state, found.problem))) == state
    for ask in (manager.create_workspace, lambda given: manager.commit(given, "work")):
        with pytest.raises(PersonNeeded):
            ask(context(tmp_path, "t"))
    if state != "missing":
        with pytest.raises(PersonNeeded):
            manager.remove_workspace("t")
        assert listing(tmp_path / "checkouts") == before
    else:
        manager.remove_workspace("t")
        assert (manager.workspaces(), list((tmp_path / "checkouts/tasks").iterdir())) == ([], [])
    assert git(repo, "rev-parse", "main-task-t") == git(repo, "rev-parse", "main")


def test_a_workspace_that_became_a_link_is_not_followed(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """A symbolic link in a workspace's place is never removed through."""
    workspace = manager.create_workspace(context(tmp_path, "t"))
    workspace.release()
    became_a_link(Path(workspace.path), repo)
    before = listing(tmp_path / "checkouts")
    with pytest.raises(PersonNeeded, match="symbolic link"):
        manager.remove_workspace("t")
    assert listing(tmp_path / "checkouts") == before


def test_staged_work_survives_a_deleted_directory(tmp_path: Path, manager: GitManager) -> None:
    """When only the directory was deleted by hand, what is staged is still there and still refuses the removal."""
    workspace = manager.create_workspace(context(tmp_path, "t"))
    workspace.release()
    (Path(workspace.path) / "new").write_text("new\n")
    git(Path(workspace.path), "add", "new")
    shutil.rmtree(workspace.path)
    with pytest.raises(WouldLoseWork) as caught:
        manager.remove_workspace("t")
    assert caught.value.findings == ("staged: new",)
    assert len(list((tmp_path / "repo/.git/worktrees").iterdir())) == 1


# -- removal -----------------------------------------------------------------------------------------------------------

Spoil = Callable[[Path, Path], object]


def commit_file(tree: Path, name: str = "own", body: str = "own\n") -> str:
    (tree / name).write_text(body)
    git(tree, "add", "--force", name)
    git(tree, "commit", "--quiet", "-m", name)
    return git(tree, "rev-parse", "HEAD")


def modified(tree: Path, repo: Path) -> None:
    (tree / "README.md").write_text("changed")


def staged(tree: Path, repo: Path) -> None:
    (tree / "README.md").write_text("changed")
    git(tree, "add", "README.md")


def staged_only(tree: Path, repo: Path) -> None:
    staged(tree, repo)
    (tree / "README.md").write_text("# Sample\n")


def deleted_file(tree: Path, repo: Path) -> None:
    (tree / "README.md").unlink()


def mode(tree: Path, repo: Path) -> None:
    (tree / "README.md").chmod(0o755)


def untracked(tree: Path, repo: Path) -> None:
    (tree / "deep/er").mkdir(parents=True)
    (tree / "deep/er/new").write_text("new")


def untracked_hidden_by_settings(tree: Path, repo: Path) -> None:
    for name, value in (
        ("status.showUntrackedFiles", "no"),
        ("core.untrackedCache", "true"),
        ("core.ignoreStat", "true"),
        ("core.fsmonitor", "true"),
        ("diff.ignoreSubmodules", "all"),
    ):
        git(repo, "config", "--global", name, value)
    untracked(tree, repo)


def ignored_file(tree: Path, repo: Path) -> None:
    (tree / ".env").write_text("SECRET=1")


def ignored_directory(tree: Path, repo: Path) -> None:
    (tree / "cache").mkdir()
    (tree / "cache/x").write_text("x")


def globally_ignored(tree: Path, repo: Path) -> None:
    (repo.parent / "ignore").write_text("*.secret\n")
    git(repo, "config", "--global", "core.excludesFile", str(repo.parent / "ignore"))
    (tree / "a.secret").write_text("x")


def nested_in_ignored(tree: Path, repo: Path) -> None:
    make_repository(tree / "cache/nested")


def nested_untracked(tree: Path, repo: Path) -> None:
    make_repository(tree / "nested")


def nested_without_commits(tree: Path, repo: Path) -> None:
    make_repository(tree / "nested", [])


def nested_over_tracked(tree: Path, repo: Path) -> None:
    git(tree / "src", "init", "--quiet")


def assume_unchanged(tree: Path, repo: Path) -> None:
    git(tree, "update-index", "--assume-unchanged", "README.md")
    (tree / "README.md").write_text("changed")


def skip_worktree(tree: Path, repo: Path) -> None:
    git(tree, "update-index", "--skip-worktree", "README.md")
    (tree / "README.md").write_text("changed")


def detached_commits(tree: Path, repo: Path) -> None:
    git(tree, "checkout", "--quiet", "--detach")
    commit_file(tree)


def detached_and_back(tree: Path, repo: Path) -> None:
    detached_commits(tree, repo)
    git(tree, "switch", "--quiet", "main-task-t")


def private_ref(tree: Path, repo: Path) -> None:
    commit = git(tree, "commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", "private")
    git(tree, "update-ref", "refs/worktree/mine", commit)


def merging(tree: Path, repo: Path) -> None:
    git(repo, "branch", "side", git(tree, "commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", "side"))
    commit_file(tree)
    git(tree, "merge", "--quiet", "--no-commit", "--no-ff", "-s", "ours", "side")


def conflicted(tree: Path, repo: Path) -> None:
    git(tree, "switch", "--quiet", "-c", "side")
    commit_file(tree, "README.md", "theirs")
    git(tree, "switch", "--quiet", "main-task-t")
    commit_file(tree, "README.md", "ours")
    subprocess.run(["git", "merge", "--quiet", "side"], cwd=tree, capture_output=True)


def rebasing(tree: Path, repo: Path) -> None:
    commit_file(tree)
    subprocess.run(
        ["git", "-c", "sequence.editor=sed -i s/pick/edit/", "rebase", "--quiet", "-i", "HEAD~1"],
        cwd=tree,
        env={key: value for key, value in os.environ.items() if key != "GIT_SEQUENCE_EDITOR"},
        capture_output=True,
    )
    assert "rebase in progress" in git(tree, "status")


def bisecting(tree: Path, repo: Path) -> None:
    git(tree, "bisect", "start")


def submodule(tree: Path, repo: Path) -> None:
    library = make_repository(repo.parent / "library")
    git(tree, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", library, "library")
    git(tree, "commit", "--quiet", "-m", "library")


def file_became_repository(tree: Path, repo: Path) -> None:
    (tree / "README.md").unlink()
    make_repository(tree / "README.md")


def odd_names(tree: Path, repo: Path) -> None:
    Path(os.fsdecode(os.fsencode(tree) + b"/\xff\n")).write_text("new")


@pytest.mark.parametrize(
    ("spoil", "finding"),
    [
        (modified, "changed, not committed: README.md"),
        (staged, "staged: README.md"),
        (staged_only, "staged: README.md"),
        (deleted_file, "changed, not committed: README.md"),
        (mode, "changed, not committed: README.md"),
        (untracked, "untracked: deep/er/new"),
        (untracked_hidden_by_settings, "untracked: deep/er/new"),
        (odd_names, r"untracked: \udcff\n"),
        (ignored_file, "ignored by git, so in no commit: .env"),
        (ignored_directory, "ignored by git, so in no commit: cache/"),
        (globally_ignored, "ignored by git, so in no commit: a.secret"),
        (nested_in_ignored, "ignored by git, so in no commit: cache/"),
        (nested_untracked, "repositories of their own, submodules say: nested"),
        (nested_without_commits, "repositories of their own, submodules say: nested"),
        (nested_over_tracked, "repositories of their own, submodules say: src"),
        (file_became_repository, "changed, not committed: README.md"),
        (assume_unchanged, "changed, but hidden by assume-unchanged or skip-worktree: README.md"),
        (skip_worktree, "changed, but hidden by assume-unchanged or skip-worktree: README.md"),
        (detached_commits, "commits that no branch holds: "),
        (detached_and_back, "commits that no branch holds: "),
        (private_ref, "commits that no branch holds: "),
        (merging, "a merge in progress"),
        (conflicted, "in conflict: README.md"),
        (rebasing, "a rebase in progress"),
        (bisecting, "a bisect in progress"),
        (submodule, "repositories of their own, submodules say: library"),
    ],
)
@pytest.mark.some(13)
def test_work_that_is_in_no_commit_refuses_the_removal(
    tmp_path: Path, repo: Path, manager: GitManager, spoil: Spoil, finding: str
) -> None:
    """Whatever a removal would lose is named, and everything stays as it is, byte for byte."""
    workspace = manager.create_workspace(context(tmp_path, "t"))
    workspace.release()
    spoil(Path(workspace.path), repo)
    git(Path(workspace.path), "status")  # so that the index is as fresh as it gets
    before = listing(tmp_path / "checkouts", repo / ".git/worktrees")
    with pytest.raises(WouldLoseWork) as caught:
        manager.remove_workspace("t")
    assert any(each.startswith(finding) for each in caught.value.findings), caught.value.findings
    with pytest.raises(WouldLoseWork) as foretold:
        manager.check_removal("t")
    assert (foretold.value.findings, caught.value.exit_code) == (caught.value.findings, 3)
    assert listing(tmp_path / "checkouts", repo / ".git/worktrees") == before
    assert manager.status("t").state == "ready"


def nothing(tree: Path, repo: Path) -> None:
    pass


def committed(tree: Path, repo: Path) -> None:
    commit_file(tree)


def amended(tree: Path, repo: Path) -> None:
    commit_file(tree)
    git(tree, "commit", "--quiet", "--amend", "-m", "better")


def stashed(tree: Path, repo: Path) -> None:
    modified(tree, repo)
    git(tree, "stash", "--quiet")


def on_another_branch(tree: Path, repo: Path) -> None:
    git(tree, "switch", "--quiet", "-c", "another")
    commit_file(tree)


def rebased(tree: Path, repo: Path) -> None:
    commit_file(tree)
    git(repo, "commit", "--quiet", "--allow-empty", "-m", "base moved")
    git(tree, "rebase", "--quiet", "main")


def flagged_but_same(tree: Path, repo: Path) -> None:
    git(tree, "update-index", "--skip-worktree", "README.md")
    git(tree, "update-index", "--assume-unchanged", "src/a.py")


def touched(tree: Path, repo: Path) -> None:
    os.utime(tree / "README.md", (1, 1))


def read_only(tree: Path, repo: Path) -> None:
    (tree / "src").chmod(0o500)


@pytest.mark.parametrize(
    "spoil", [nothing, committed, amended, stashed, on_another_branch, rebased, flagged_but_same, touched, read_only]
)
def test_a_workspace_with_nothing_to_lose_is_removed(tmp_path: Path, repo: Path, spoil: Spoil) -> None:
    """Its tree, entry, record and lock are gone; branches, reflogs, stash and other worktrees stay, and git is content."""
    git(repo, "worktree", "add", "--quiet", "-b", "person", tmp_path / "person")
    manager = GitManager(repo)
    manager.create_workspace(context(tmp_path, "other")).release()
    workspace = manager.create_workspace(context(tmp_path, "t"))
    tree = Path(workspace.path)
    spoil(tree, repo)
    refs, reflog = git(repo, "for-each-ref"), git(repo, "reflog", "main-task-t")
    others = listing(tmp_path / "person", tmp_path / "checkouts/tasks/other")
    manager.remove_workspace(workspace)
    assert (git(repo, "for-each-ref"), git(repo, "reflog", "main-task-t")) == (refs, reflog)
    assert listing(tmp_path / "person", tmp_path / "checkouts/tasks/other") == others
    assert {each["worktree"] for each in porcelain(repo)} == {
        str(repo),
        str(tmp_path / "person"),
        str(tmp_path / "checkouts/tasks/other"),
    }
    assert [w.task_id for w in manager.workspaces()] == ["other"]
    assert os.listdir(tmp_path / "checkouts/tasks") == ["other"]
    assert {
        path.name for path in (repo / ".git/moderator").rglob("*") if path.is_file() and "removed" not in path.parts
    } == {
        "other.json",
        "other.lock",
    }
    assert git(repo, "fsck", "--strict", "--no-dangling") == ""


def test_a_worktree_added_by_git_is_removed(tmp_path: Path, repo: Path) -> None:
    """One that git entered itself goes as completely as one that we entered."""
    fallback(repo)
    manager = GitManager(repo)
    with manager.create_workspace(context(tmp_path, "t")) as workspace:
        commit_file(Path(workspace.path))
        manager.remove_workspace(workspace)
    assert (len(porcelain(repo)), list((tmp_path / "checkouts/tasks").iterdir()), git(repo, "fsck")) == (1, [], "")


def test_a_lock_by_a_person_is_respected(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """A worktree that somebody locked with git is not removed, and the reason is given."""
    workspace = manager.create_workspace(context(tmp_path, "t"))
    workspace.release()
    git(repo, "worktree", "unlock", workspace.path)
    git(repo, "worktree", "lock", "--reason", "on a stick", workspace.path)
    before = listing(tmp_path / "checkouts", repo / ".git/worktrees")
    with pytest.raises(PersonNeeded, match="is locked: on a stick"):
        manager.remove_workspace("t")
    assert (manager.status("t").locked_by_person, listing(tmp_path / "checkouts", repo / ".git/worktrees")) == (
        "on a stick",
        before,
    )


def test_a_process_at_work_refuses_the_removal(tmp_path: Path, manager: GitManager) -> None:
    """A workspace that some process has as its current directory stays, and the process is named."""
    workspace = manager.create_workspace(context(tmp_path, "t"))
    workspace.release()
    with subprocess.Popen(["sleep", "600"], cwd=Path(workspace.path) / "src") as sleeper:
        try:
            with pytest.raises(WouldLoseWork) as caught:
                manager.remove_workspace("t")
            assert caught.value.findings == (f"process {sleeper.pid} works in it",)
        finally:
            sleeper.kill()
    manager.remove_workspace("t")


def test_a_copy_of_a_workspace_is_nobodys_to_remove(tmp_path: Path, manager: GitManager) -> None:
    """Removing a workspace leaves a copy of its directory alone, and a copy in its place is not taken for it."""
    workspace = manager.create_workspace(context(tmp_path, "t"))
    workspace.release()
    copy = tmp_path / "copy"
    shutil.copytree(workspace.path, copy, symlinks=True)
    before = files(copy)
    manager.remove_workspace("t")
    assert files(copy) == before


def test_a_removed_directory_level_keeps_its_result(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """Level directory: its commits are under refs/moderator/result and stay; before they are, nothing is removed."""
    with manager.create_workspace(context(tmp_path, "t", DIRECTORY)) as workspace:
        tree = Path(workspace.path)
        own = commit_file(tree)
        with pytest.raises(WouldLoseWork) as caught:
            manager.remove_workspace("t")
        assert caught.value.findings == (f"commits that no branch holds: {own[:12]}",)
        assert manager.commit(workspace, "nothing more") is None
        assert git(repo, "rev-parse", "refs/moderator/result/t") == own
    manager.remove_workspace("t")
    assert git(repo, "rev-parse", "refs/moderator/result/t") == own
    assert git(repo, "fsck", "--strict", "--no-dangling") == ""


def test_the_base_context_is_never_removed(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """Level none owns nothing, so removing it removes nothing."""
    before = listing(repo)
    manager.remove_workspace(context(tmp_path, "t", NONE, checkout=repo))
    assert listing(repo) == before
