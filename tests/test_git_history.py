"""What changed since the fork, in values: paths in any bytes, renames, binary files, commits."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from moderator.errors import UnknownRevision
from moderator.git.history import read_commit
from moderator.git.manager import GitManager
from moderator.git.repository import Repository
from moderator.git.values import Change, Commit
from repos import Symlink, git, git_processes, make_repository
from workspaces import context, files

LINES = "".join(f"line {number}\n" for number in range(20))
COMMITS = [
    (
        "first",
        {
            "kept.txt": "same\n",
            "changed.txt": "1\n2\n",
            "deleted.txt": "gone\n",
            "old name": LINES,
            "binary": b"\0" * 10,
            "mode": "m\n",
            "link": Symlink("kept.txt"),
            "becomes a link": "text\n",
            b'odd\n\xff\t"': "odd\n",
            "dir/file": "d\n",
        },
    )
]
ODD = os.fsdecode(b'odd\n\xff\t"')
NEW = os.fsdecode(b":new\n\xfe")

CHANGES = {
    Change("changed.txt", "M", 1, 1),
    Change("deleted.txt", "D", 0, 1),
    Change("new name\n", "R", 1, 0, "old name"),
    Change("binary", "M", None, None),
    Change("mode", "M", 0, 0),
    Change("link", "M", 1, 1),
    Change("becomes a link", "T", 1, 1),
    Change(ODD, "M", 1, 0),
    Change(NEW, "A", 1, 0),
    Change("run", "A", 1, 0),
    Change("dir/file", "D", 0, 1),
    Change("dir", "A", 1, 0),
}

HOSTILE = {
    "core.autocrlf": "false",
    "core.quotePath": "true",
    "color.ui": "always",
    "color.diff": "always",
    "diff.external": "false",
    "diff.noprefix": "true",
    "diff.mnemonicPrefix": "true",
    "diff.renames": "false",
    "diff.relative": "true",
    "diff.context": "0",
    "diff.submodule": "log",
    "diff.ignoreSubmodules": "all",
    "diff.orderFile": "/dev/null",
    "diff.wordRegex": ".",
    "log.showSignature": "true",
    "log.decorate": "full",
    "log.follow": "true",
    "log.date": "relative",
    "format.pretty": "oneline",
    "core.pager": "false",
    "pager.diff": "true",
    "i18n.logOutputEncoding": "latin1",
    "status.showUntrackedFiles": "no",
    "core.fsmonitor": "true",
    "diff.x.textconv": "false",
    "diff.x.command": "false",
    "core.splitIndex": "true",
    "feature.manyFiles": "true",
}
"""Settings of a user's that have changed what git prints."""


def configure(repo: Path, settings: dict[str, str]) -> None:
    for name, value in settings.items():
        git(repo, "config", "--global", name, value)


def work(tree: Path) -> None:
    (tree / "changed.txt").write_text("1\ntwo\n")
    (tree / "deleted.txt").unlink()
    (tree / "old name").rename(tree / "new name\n")
    with (tree / "new name\n").open("a") as file:
        file.write("more\n")
    (tree / "binary").write_bytes(b"\0" * 11)
    (tree / "mode").chmod(0o755)
    (tree / "link").unlink()
    (tree / "link").symlink_to("changed.txt")
    (tree / "becomes a link").unlink()
    (tree / "becomes a link").symlink_to("kept.txt")
    (tree / ODD).write_text("odd\nand more\n")
    (tree / NEW).write_text("new\n")
    (tree / "run").write_text("#!/bin/sh\n")
    (tree / "run").chmod(0o755)
    (tree / "dir/file").unlink()
    (tree / "dir").rmdir()
    (tree / "dir").write_text("a file now\n")


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "repo", COMMITS)


def applied(folder: Path, repo: Path, patch: bytes) -> str:
    """The tree that `git apply` makes of a patch on the base."""
    git(folder, "clone", "--quiet", "--no-local", repo, folder / "applied")
    subprocess.run(["git", "apply", "--index", "-"], cwd=folder / "applied", input=patch, check=True)
    return git(folder / "applied", "write-tree")


@pytest.mark.parametrize("settings", [{}, HOSTILE], ids=["plain", "hostile"])
def test_changes_and_patch_are_the_same_before_and_after_the_commit(
    tmp_path: Path, repo: Path, settings: dict[str, str]
) -> None:
    """Every kind of change is told with its lines, the patch makes the committed tree, and looking touches nothing."""
    configure(repo, settings)
    (repo / ".git/info/attributes").write_text("*.txt diff=x\n")
    manager = GitManager(repo)
    with manager.create_workspace(context(tmp_path, "t")) as workspace:
        assert (manager.diff(workspace), manager.patch(workspace), manager.log(workspace)) == ([], b"", [])
        tree = Path(workspace.path)
        work(tree)
        index = next((repo / ".git/worktrees").iterdir()) / "index"
        before = index.read_bytes()
        assert set(manager.diff(workspace)) == CHANGES
        patch = manager.patch(workspace)
        assert (index.read_bytes(), manager.status(workspace).counts.staged) == (before, 0)
        commit = manager.commit(workspace, "work")
        assert commit is not None
        assert (set(manager.diff("t")), manager.patch("t")) == (CHANGES, patch)
        assert git(repo, "rev-parse", "main-task-t^{tree}") == applied(tmp_path, repo, patch)
        assert manager.log("t") == [commit]
    manager.remove_workspace("t")
    base, tip = git(repo, "rev-parse", "main"), git(repo, "rev-parse", "main-task-t")
    assert (set(manager.diff_between(base, tip)), manager.patch_between(base, tip)) == (CHANGES, patch)


def test_an_untracked_repository_does_not_hide_other_changes(tmp_path: Path, repo: Path) -> None:
    """A repository inside the workspace, with commits or without, leaves the other new files in the diff."""
    manager = GitManager(repo)
    with manager.create_workspace(context(tmp_path, "t")) as workspace:
        make_repository(Path(workspace.path, "a empty"), [])
        make_repository(Path(workspace.path, "b full"))
        Path(workspace.path, "c.txt").write_text("c\n")
        assert Change("c.txt", "A", 1, 0) in manager.diff(workspace)


def test_a_conflict_can_be_looked_at(tmp_path: Path, repo: Path) -> None:
    """In the middle of a merge conflict the diff names the file in conflict, once."""
    manager = GitManager(repo)
    with manager.create_workspace(context(tmp_path, "t")) as workspace:
        tree = Path(workspace.path)
        for branch, body in (("side", "theirs\n"), ("main-task-t", "ours\n")):
            git(tree, "switch", "--quiet", *(["-c"] if branch == "side" else []), branch)
            (tree / "kept.txt").write_text(body)
            git(tree, "commit", "--quiet", "-a", "-m", branch)
        subprocess.run(["git", "merge", "--quiet", "side"], cwd=tree, capture_output=True)
        assert [change.path for change in manager.diff(workspace)] == ["kept.txt"]
        assert (manager.status("t").counts.unmerged, manager.status("t").operation) == (1, "merge")


def test_the_log_is_newest_first_and_bounded(tmp_path: Path, repo: Path) -> None:
    """Commits since the fork, merges included, in git's order; `limit` takes the newest."""
    manager = GitManager(repo)
    with manager.create_workspace(context(tmp_path, "t")) as workspace:
        for name in "abc":
            (Path(workspace.path) / name).touch()
            manager.commit(workspace, name)
        expected = git(repo, "rev-list", "main..main-task-t").split()
        assert [commit.id for commit in manager.log("t")] == expected
        assert [commit.subject for commit in manager.log("t", limit=2)] == ["c", "b"]


def test_a_commit_is_read_whole(tmp_path: Path, repo: Path) -> None:
    """Author, date, parents, message and trailers come as git has them, by either way of reading."""
    message = "Subject: not a trailer\n\nBody with: colon\nin it.\n\nModerator-Task: t\nReviewed-by: A <a@b>\n"
    git(repo, "commit", "--quiet", "--allow-empty", "--file=-", "--author=Ünï Cödé <u@c>", stdin=message)
    git(repo, "commit", "--quiet", "--allow-empty", "-m", "fix: a subject alone")
    first, tip = git(repo, "rev-parse", "main~1", "main").split("\n")
    base = git(repo, "rev-parse", "main~2")
    opened = Repository.open(repo)
    expected = [
        Commit(
            tip, "fix: a subject alone", "fix: a subject alone\n", "Ada Lovelace <ada@example.com>", 1.7e9, {}, (first,)
        ),
        Commit(
            first,
            "Subject: not a trailer",
            message,
            "Ünï Cödé <u@c>",
            1.7e9,
            {"Moderator-Task": "t", "Reviewed-by": "A <a@b>"},
            (base,),
        ),
    ]
    assert [read_commit(opened, tip), read_commit(opened, first)] == expected
    from moderator.git.history import commits_between

    assert commits_between(opened, base, tip) == expected


def test_a_commit_that_is_gone_is_said_so(repo: Path) -> None:
    """A diff between commits that no longer exist is an unknown revision."""
    with pytest.raises(UnknownRevision):
        GitManager(repo).diff_between("main", "0" * 40)


def test_nothing_that_was_read_changed_the_files(tmp_path: Path, repo: Path) -> None:
    """Reading the history of a workspace leaves its files as they are."""
    manager = GitManager(repo)
    with manager.create_workspace(context(tmp_path, "t")) as workspace:
        work(Path(workspace.path))
        before = files(workspace.path)
        manager.diff(workspace), manager.patch(workspace), manager.log(workspace), manager.status(workspace, size=True)
        assert files(workspace.path) == before


def test_the_history_of_a_sha256_repository_is_read(tmp_path: Path) -> None:
    """Commits are listed where object ids are longer, too."""
    repository = tmp_path / "long"
    repository.mkdir()
    git(repository, "init", "--quiet", "--object-format=sha256", "--initial-branch=main")
    git(repository, "commit", "--quiet", "--allow-empty", "-m", "start")
    manager = GitManager(repository)
    with manager.create_workspace(context(tmp_path, "t")) as workspace:
        (Path(workspace.path) / "new").write_text("new\n")
        commit = manager.commit(workspace, "work")
        assert commit is not None and manager.log(workspace) == [commit]


def test_sizes_are_those_of_the_changes(tmp_path: Path) -> None:
    """Of any number of pairs, in two processes; a tip that several bases are compared with is told for each."""
    repository = make_repository(
        tmp_path / "sample", [*COMMITS, ("second", {"kept.txt": "other\n", "old name": None, "new name": LINES})]
    )
    git(repository, "checkout", "--quiet", "--orphan", "apart")
    git(repository, "commit", "--quiet", "-m", "apart")
    git(repository, "merge", "--quiet", "--allow-unrelated-histories", "-s", "ours", "-m", "merged", "main~1")
    commits = git(repository, "rev-list", "--all").split()
    manager = GitManager(repository)
    pairs = [(base, tip) for base in commits for tip in commits]
    expected = {}
    for base, tip in pairs:
        changes = manager.diff_between(base, tip)
        lines = [(one.added or 0, one.removed or 0) for one in changes]
        expected[base, tip] = (len(changes), sum(added for added, _ in lines), sum(removed for _, removed in lines))
    gone = [("1" * 40, commits[0]), (commits[0], "1" * 40)]
    with git_processes(tmp_path / "trace") as commands:
        found = manager.sizes_between([gone[0], *pairs, gone[1]])
    assert (found, commands) == (expected, ["cat-file", "diff-tree"])
    assert manager.sizes_between([]) == manager.sizes_between(gone) == {}
