"""Rescue, removal with a rescue, undo, restore: everything a workspace held comes back, byte for byte."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from commandline import moderator
from moderator.errors import (
    AmbiguousName,
    EnvironmentProblem,
    GitFailed,
    PersonNeeded,
    UnknownRescue,
    WorkspaceOccupied,
    WouldLoseWork,
)
from moderator.git import retiring
from moderator.git.manager import GitManager
from moderator.git.trash import delete
from moderator.git.values import Keeping, Workspace
from repos import git, make_repository
from workspaces import BRANCH, DIRECTORY, FULL, context, killed_before, listing

COMMITS = [
    ("first", {"README.md": "# Sample\n", "src/a.py": "a = 1\n", "src/b.py": "b = 2\n", "tool": "#!/bin/sh\n"}),
    ("second", {"src/a.py": "a = 2\n", "docs/x.txt": "x\n", ".gitignore": ".env\ncache/\n"}),
]
Spoil = Callable[[Path], None]


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "repo", COMMITS)


@pytest.fixture
def manager(repo: Path) -> GitManager:
    return GitManager(repo)


def made(folder: Path, manager: GitManager, task_id: str = "t", level: object = FULL) -> Workspace:
    workspace = manager.create_workspace(context(folder, task_id, level))  # type: ignore[arg-type]
    workspace.release()
    return workspace


def state(tree: Path) -> dict[str, object]:
    """Everything that can be seen of a worktree: files, modes, links, what git says of them, where HEAD is."""
    found: dict[str, object] = {}
    for where, folders, names in os.walk(tree):
        for name in [*folders, *names]:
            path = Path(where, name)
            if name == ".git" and Path(where) == tree:
                continue
            mode = path.lstat().st_mode
            content: object = (
                os.readlink(path) if path.is_symlink() else path.read_bytes() if stat.S_ISREG(mode) else ""
            )
            found[str(path.relative_to(tree))] = (mode, content)
    said = subprocess.run(
        ["git", "status", "--porcelain=v2", "--branch", "-z", "--untracked-files=all", "--ignored=matching"],
        cwd=tree, capture_output=True, check=True,
    ).stdout  # fmt: skip
    flags = subprocess.run(["git", "ls-files", "-v", "-z"], cwd=tree, capture_output=True, check=True).stdout
    return {"files": found, "status": said, "flags": flags}


def edited(tree: Path) -> None:
    (tree / "src/a.py").write_bytes(b"a = 3\r\nno newline")
    (tree / "src/b.py").unlink()


def staged(tree: Path) -> None:
    (tree / "src/a.py").write_text("staged\n")
    (tree / "new.py").write_text("new, staged\n")
    git(tree, "add", "src/a.py", "new.py")
    git(tree, "rm", "--quiet", "src/b.py")
    (tree / "src/a.py").write_text("and edited again\n")
    (tree / "new.py").unlink()


def odd_names(tree: Path) -> None:
    for name in (b"line\nbreak", b"-dash", b'"quoted"', b" lead", b"trail ", b"\xff\xfe", "日本".encode(), b"tab\t"):
        Path(os.fsdecode(os.fsencode(tree) + b"/" + name)).write_bytes(name)
    (tree / "deep/er").mkdir(parents=True)
    (tree / "deep/er/file").write_text("deep")


def modes(tree: Path) -> None:
    (tree / "tool").chmod(0o755)
    (tree / "secret").write_text("s")
    (tree / "secret").chmod(0o600)
    (tree / "script").write_text("s")
    (tree / "script").chmod(0o700)
    (tree / "empty").mkdir(mode=0o750)


def links(tree: Path) -> None:
    (tree / "link").symlink_to("nowhere/at all")
    (tree / "README.md").unlink()
    (tree / "README.md").symlink_to("docs/x.txt")
    (tree / "src/a.py").unlink()
    (tree / "src/b.py").unlink()
    (tree / "src").rmdir()
    (tree / "src").symlink_to("docs")


def kinds_swapped(tree: Path) -> None:
    (tree / "README.md").unlink()
    (tree / "README.md").mkdir()
    (tree / "README.md/inside").write_text("was a file")
    (tree / "docs/x.txt").unlink()
    (tree / "docs").rmdir()
    (tree / "docs").write_text("was a directory")


def intent_to_add(tree: Path) -> None:
    (tree / "ita").write_text("later")
    git(tree, "add", "--intent-to-add", "ita")


def flagged(tree: Path) -> None:
    git(tree, "update-index", "--assume-unchanged", "src/a.py")
    git(tree, "update-index", "--skip-worktree", "src/b.py")
    (tree / "src/a.py").write_text("hidden edit\n")
    (tree / "src/b.py").write_text("hidden edit too\n")


def _other_side(tree: Path) -> str:
    git(tree, "switch", "--quiet", "--detach")
    (tree / "src/a.py").write_text("theirs\n")
    git(tree, "commit", "--quiet", "--all", "--message", "theirs")
    theirs = git(tree, "rev-parse", "HEAD")
    git(tree, "switch", "--quiet", "main-task-t")
    (tree / "src/a.py").write_text("ours\n")
    git(tree, "commit", "--quiet", "--all", "--message", "ours")
    return theirs


def _fails(tree: Path, *arguments: str) -> None:
    assert subprocess.run(["git", *arguments], cwd=tree, capture_output=True).returncode


def merging(tree: Path) -> None:
    _fails(tree, "merge", _other_side(tree))


def rebasing(tree: Path) -> None:
    _fails(tree, "rebase", _other_side(tree))


def picking(tree: Path) -> None:
    _fails(tree, "cherry-pick", _other_side(tree))


def merged_clean(tree: Path) -> None:
    git(tree, "merge", "--quiet", "--strategy=ours", "--no-commit", _other_side(tree))


def bisecting(tree: Path) -> None:
    git(tree, "bisect", "start", "HEAD", "HEAD~1")


def detached(tree: Path) -> None:
    git(tree, "switch", "--quiet", "--detach")
    (tree / "d").write_text("d")
    git(tree, "add", "d")
    git(tree, "commit", "--quiet", "--message", "on no branch")


def amended(tree: Path) -> None:
    (tree / "once").write_text("once")
    git(tree, "add", "once")
    git(tree, "commit", "--quiet", "--message", "once")
    (tree / "once").write_text("twice")
    git(tree, "commit", "--quiet", "--all", "--amend", "--message", "twice")


def private_ref(tree: Path) -> None:
    blob = git(tree, "hash-object", "-w", "README.md")
    git(tree, "update-ref", "refs/worktree/keep", git(tree, "commit-tree", "HEAD^{tree}", "-m", "private"))
    git(tree, "update-ref", "refs/worktree/blob", blob)


def everything(tree: Path) -> None:
    odd_names(tree)
    modes(tree)
    intent_to_add(tree)
    staged(tree)
    (tree / "docs/x.txt").unlink()
    (tree / "docs/x.txt").symlink_to("/nonexistent")


KINDS: list[Spoil] = [
    edited, staged, odd_names, modes, links, kinds_swapped, intent_to_add, flagged, merging, rebasing, picking,
    merged_clean, bisecting, detached, amended, private_ref, everything,
]  # fmt: skip


@pytest.mark.parametrize("spoil", KINDS, ids=lambda spoil: spoil.__name__)
@pytest.mark.some(4)
def test_a_removed_workspace_is_made_again_as_it_was(
    tmp_path: Path, repo: Path, manager: GitManager, spoil: Spoil
) -> None:
    """After a removal with a rescue, and a gc that prunes all it can, undo brings back every path, mode and staged state."""
    tree = Path(made(tmp_path, manager).path)
    spoil(tree)
    before, refs = state(tree), git(repo, "for-each-ref", "refs/heads")
    removal = manager.remove_workspace("t", rescue=True)
    assert removal is not None
    assert (removal.rescue is not None, removal.left, tree.exists()) == (True, (), False)
    assert not (tree.parent / ".trash").exists()
    git(repo, "gc", "--quiet", "--prune=now")
    with manager.undo_removal() as back:
        assert (back.path, back.branch) == (str(tree), "main-task-t")
    assert state(tree) == before
    assert git(repo, "for-each-ref", "refs/heads") == refs
    assert git(repo, "fsck", "--strict", "--no-dangling") == ""
    assert [w.task_id for w in manager.workspaces()] == ["t"]


@pytest.mark.parametrize("go_on", [("rebase", "--continue"), ("commit", "--no-edit"), ("cherry-pick", "--continue")])
def test_an_operation_can_be_continued(tmp_path: Path, repo: Path, manager: GitManager, go_on: tuple[str, ...]) -> None:
    """What was stopped by a conflict is finished in the restored workspace, on its own branch; the first branch stays."""
    tree = Path(made(tmp_path, manager).path)
    {"rebase": rebasing, "commit": merging, "cherry-pick": picking}[go_on[0]](tree)
    tip = git(repo, "rev-parse", "main-task-t")
    manager.remove_workspace("t", rescue=True)
    with manager.restore_rescue(manager.find_rescue("t"), "again") as workspace:
        there = Path(workspace.path)
        (there / "src/a.py").write_text("solved\n")
        git(there, "add", "src/a.py")
        git(there, *go_on, GIT_EDITOR="true")
        assert git(there, "status", "--porcelain", "--branch") == "## main-task-again"
        assert "theirs" in git(there, "log", "--format=%s") or go_on[0] == "rebase"
    assert git(repo, "rev-parse", "main-task-t") == tip


def test_git_itself_restores_a_rescue(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """The rescue is shaped like a stash: `git stash apply --index` gives staged, changed and untracked files back."""
    tree = Path(made(tmp_path, manager).path)
    staged(tree)
    (tree / "notes").write_text("untracked")
    status = git(tree, "status", "--porcelain")
    rescue = manager.rescue("t")
    assert rescue is not None
    other = Path(made(tmp_path, manager, "other").path)
    git(other, "stash", "apply", "--quiet", "--index", rescue.ref)
    assert git(other, "status", "--porcelain") == status


def test_a_rescue_leaves_the_workspace_untouched(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """Making a rescue runs no hook and writes nothing in the tree or its administrative directory."""
    tree = Path(made(tmp_path, manager).path)
    everything(tree)
    hooks = repo / ".git/hooks"
    for name in ("pre-commit", "post-index-change", "reference-transaction", "post-commit"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/hook-ran\nexit 1\n")
        (hooks / name).chmod(0o755)
    before = listing(tree, repo / ".git/worktrees")
    rescue = manager.rescue("t", "look")
    assert listing(tree, repo / ".git/worktrees") == before
    assert not (tmp_path / "hook-ran").exists()
    assert rescue is not None
    assert (rescue.reason, manager.rescues(), manager.rescue("t") is not None) == ("look", [rescue], True)


def test_nothing_unsaved_is_no_rescue(tmp_path: Path, manager: GitManager) -> None:
    """Where all is in commits there is nothing to rescue; the removal says so and is undone all the same."""
    tree = Path(made(tmp_path, manager).path)
    (tree / "done").write_text("done")
    manager.commit("t", "Work")
    before = state(tree)
    assert manager.rescue("t") is None
    removal = manager.remove_workspace("t", rescue=True)
    assert removal is not None
    assert (removal.rescue, removal.left, removal.kept_until, manager.rescues()) == (None, (), None, [])
    manager.undo_removal("t").release()
    assert state(tree) == before


def test_what_no_commit_holds_stays_in_the_trash(tmp_path: Path, repo: Path) -> None:
    """Ignored files, sockets, pipes and files over the limit stay, by name, and come back with undo: the same inodes."""
    manager = GitManager(repo, keeping=Keeping(days=30, largest_file=1000))
    tree = Path(made(tmp_path, manager).path)
    (tree / ".env").write_text("SECRET=1")
    (tree / "cache/deep").mkdir(parents=True)
    (tree / "cache/deep/x").write_text("x")
    (tree / "big").write_bytes(os.urandom(2000))
    (tree / "src/a.py").write_bytes(b"#" * 3000)
    os.mkfifo(tree / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(tree / "sock"))
    before = state(tree)
    removal = manager.remove_workspace("t", rescue=True)
    assert removal is not None and removal.kept_until is not None
    assert sorted(removal.left) == [".env", "big", "cache/", "pipe", "sock", "src/a.py"]
    assert (manager.find_rescue("t").left, manager.find_rescue("t").untracked) == (removal.left, ())
    assert manager.empty_trash()
    assert manager.trash_of(removal) == str(tree.parent / ".trash" / removal.id)
    secrets = git(repo, "rev-list", "--all", "--objects")
    assert ".env" not in secrets
    with manager.undo_removal():
        assert state(tree) == before
    assert not (tree.parent / ".trash").exists()


def test_the_trash_goes_when_its_time_has_come(tmp_path: Path, repo: Path) -> None:
    """After the days that are configured the trash is deleted; what was rescued stays, and can still be laid out."""
    manager = GitManager(repo, keeping=Keeping(days=0))
    tree = Path(made(tmp_path, manager).path)
    (tree / ".env").write_text("SECRET=1")
    (tree / "note").write_text("untracked")
    removal = manager.remove_workspace("t", rescue=True)
    assert removal is not None
    assert manager.empty_trash()
    assert (manager.trash_of(removal), (tree.parent / ".trash").exists()) == (None, False)
    with manager.restore_rescue(manager.find_rescue(removal.rescue or "")) as workspace:
        assert (workspace.task_id, Path(workspace.path, "note").read_text()) == ("t-rescued", "untracked")


def test_what_is_written_into_the_trash_is_kept(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """A straggler that writes into a tree after its removal keeps it from being deleted."""
    tree = Path(made(tmp_path, manager).path)
    removal = manager.remove_workspace("t", later=True)
    assert removal is not None
    trash = Path(str(manager.trash_of(removal)))
    os.utime(trash / "README.md")
    assert manager.empty_trash()
    assert (trash / "README.md").exists()
    manager.undo_removal().release()
    assert (tree / "README.md").read_text() == "# Sample\n"


def test_a_nested_repository_with_work_refuses(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """What a repository inside the tree holds is nowhere else: refused, rescue or not; once it is pushed, it may go."""
    tree = Path(made(tmp_path, manager).path)
    nested = make_repository(tree / "cache/nested", [("first", {"n": "n\n"})])
    before = listing(tree)
    with pytest.raises(WouldLoseWork, match="repositories inside the workspace") as caught:
        manager.remove_workspace("t", rescue=True)
    assert [finding.split(":")[:2] for finding in caught.value.findings] == [
        ["cache/nested", " commits that are at no remote"]
    ]
    assert (listing(tree), manager.rescues(), manager.removals()) == (before, [], [])
    git(tmp_path, "clone", "--quiet", "--bare", nested, tmp_path / "remote.git")
    git(nested, "remote", "add", "origin", tmp_path / "remote.git")
    git(nested, "fetch", "--quiet", "origin")
    removal = manager.remove_workspace("t", rescue=True)
    assert removal is not None
    assert removal.left == ("cache/",)
    (tree.parent / ".trash" / removal.id / "cache/nested/n").read_text()


def test_lossy_filters_hide_nothing(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """Bytes that a clean filter or line endings take away before git compares are found, rescued and given back."""
    (repo / ".gitattributes").write_text("*.nb filter=strip\n*.txt text\n*.id ident\n")
    for name in ("a.nb", "a.txt", "a.id"):
        (repo / name).write_text("code\n$Id$\n")
    git(repo, "config", "filter.strip.clean", "grep -v output || true")
    git(repo, "add", ".")
    git(repo, "commit", "--quiet", "--message", "filters")
    tree = Path(made(tmp_path, manager).path)
    (tree / "a.nb").write_bytes(b"code\n$Id$\noutput 42\n")
    (tree / "a.txt").write_bytes(b"code\r\n$Id$\r\n")
    git(tree, "add", "a.nb", "a.txt")  # from now on git takes them for unchanged
    (tree / "new.nb").write_bytes(b"output 43\n")
    before = state(tree)
    with pytest.raises(WouldLoseWork) as caught:
        manager.remove_workspace("t")
    assert "other bytes than git compares, by a filter or line endings: a.nb, a.txt" in caught.value.findings
    manager.remove_workspace("t", rescue=True)
    manager.undo_removal().release()
    assert state(tree)["files"] == before["files"]


def test_setting_aside_frees_every_name(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """The workspace and its branch go, a rescue holds all of it, and the task can begin anew; undo needs the names free."""
    tree = Path(made(tmp_path, manager).path)
    (tree / "done").write_text("done")
    commit = manager.commit("t", "Work")
    (tree / "more").write_text("more")
    before = state(tree)
    assert commit is not None
    rescue = manager.set_aside("t", "run --fresh")
    assert rescue is not None
    assert (rescue.tip, rescue.untracked, rescue.reason) == (commit.id, ("more",), "run --fresh")
    assert "main-task-t" not in git(repo, "branch", "--list")
    again = made(tmp_path, manager)
    assert (again.base, Path(again.path, "done").exists()) == (git(repo, "rev-parse", "main"), False)
    with pytest.raises(WorkspaceOccupied, match="has a workspace under the names"):
        manager.undo_removal("t")
    assert manager.set_aside("t", "again") is None
    git(repo, "gc", "--quiet", "--prune=now")
    manager.undo_removal(manager.removals()[0].id).release()
    assert state(tree) == before


@pytest.mark.parametrize("level", [FULL, DIRECTORY, BRANCH], ids=lambda level: level.value)
def test_a_ref_without_a_workspace_is_set_aside(tmp_path: Path, repo: Path, manager: GitManager, level: object) -> None:
    """A branch or result that an earlier run left is held by a rescue, freed, and its commits can be laid out again."""
    names = context(tmp_path, "t", level, checkout=repo if level is BRANCH else None)  # type: ignore[arg-type]
    with manager.create_workspace(names) as workspace:
        Path(workspace.path, "done").write_text("done")
        commit = manager.commit(workspace, "Work")
    manager.remove_workspace("t")
    assert commit is not None
    rescue = manager.set_aside(names, "run --fresh")
    assert rescue is not None and rescue.tip == commit.id
    assert git(repo, "for-each-ref", "refs/heads", "refs/moderator/result", "--format=%(refname)") == "refs/heads/main"
    assert manager.set_aside(names, "run --fresh") is None
    git(repo, "gc", "--quiet", "--prune=now")
    with manager.restore_rescue(rescue) as workspace:
        assert Path(workspace.path, "done").read_text() == "done"


def test_a_branch_that_is_checked_out_is_not_set_aside(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """A branch that a person is on stays, and nothing is rescued for nothing."""
    names = context(tmp_path, "t")
    made(tmp_path, manager)
    manager.remove_workspace("t")
    git(repo, "switch", "--quiet", "main-task-t")
    with pytest.raises(WorkspaceOccupied, match="is checked out by"):
        manager.set_aside(names, "run --fresh")
    assert (manager.rescues(), git(repo, "rev-parse", "main-task-t")) == ([], git(repo, "rev-parse", "main"))


def test_undo_refuses_what_moved(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """A workspace whose branch was moved since is not put back on it: its next commit would revert what came."""
    made(tmp_path, manager)
    manager.remove_workspace("t")
    git(repo, "branch", "--force", "main-task-t", "main~1")
    with pytest.raises(WorkspaceOccupied, match="has moved since"):
        manager.undo_removal("t")
    with pytest.raises(UnknownRescue, match="no removal of 'x'"):
        manager.undo_removal("x")
    git(repo, "branch", "--force", "main-task-t", "main")
    manager.undo_removal().release()
    with pytest.raises(UnknownRescue, match="no workspace was removed"):
        manager.undo_removal()


def test_names_of_rescues(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """A rescue is found by its id, the beginning of it and its task; what is ambiguous or unknown names what there is."""
    tree = Path(made(tmp_path, manager).path)
    for text in ("one", "two"):
        (tree / "note").write_text(text)
        manager.rescue("t", text)
    one, two = manager.rescues()
    assert [manager.find_rescue(name) for name in (one.id, one.id[:-1], one.ref, "t", two.id.partition("/")[2])] == [
        one, one, one, two, two,
    ]  # fmt: skip
    with pytest.raises(UnknownRescue, match="is the beginning of 2 rescues") as caught:
        manager.find_rescue("t/2")
    assert caught.value.hint == f"type more of one: {one.id}, {two.id}"
    with pytest.raises(UnknownRescue, match="no rescue is called 'x'"):
        manager.find_rescue("x")
    manager.drop_rescue(one)
    assert manager.rescues() == [two]


def test_staged_work_of_a_deleted_directory_is_rescued(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """Where somebody deleted the tree, what was staged and what no branch holds is rescued from the entry."""
    tree = Path(made(tmp_path, manager).path)
    (tree / "new").write_text("staged")
    git(tree, "add", "new")
    git(tree, "switch", "--quiet", "--detach")
    git(tree, "commit", "--quiet", "--message", "on no branch", "--allow-empty")
    lost = git(tree, "rev-parse", "HEAD")
    subprocess.run(["rm", "-rf", tree], check=True)
    removal = manager.remove_workspace("t", rescue=True)
    assert removal is not None
    git(repo, "gc", "--quiet", "--prune=now")
    rescue = manager.find_rescue("t")
    assert (rescue.id, rescue.staged, rescue.head) == (removal.rescue, (), lost)
    assert git(repo, "cat-file", "-t", lost) == "commit"


@pytest.mark.parametrize("flag", ["--assume-unchanged", "--skip-worktree"])
@pytest.mark.some(1)
def test_an_edit_in_the_same_second_is_found(tmp_path: Path, repo: Path, manager: GitManager, flag: str) -> None:
    """A hidden edit of the same size, made in the second of the checkout, is not taken for the file that was checked out."""
    time.sleep(1 - time.time() % 1)  # git compares whole seconds: begin with one
    tree = Path(made(tmp_path, manager).path)
    git(tree, "update-index", flag, "src/a.py")
    (tree / "src/a.py").write_text("a = 9\n")
    time.sleep(1.02 - time.time() % 1)  # whatever is written from now on is younger
    (tree / "src/b.py").touch()
    git(tree, "status")  # which writes the index anew, and takes what it does not look at for unchanged
    with pytest.raises(WouldLoseWork, match="would lose work"):
        manager.remove_workspace("t")
    manager.remove_workspace("t", rescue=True)
    manager.undo_removal().release()
    assert (tree / "src/a.py").read_text() == "a = 9\n"


@pytest.mark.parametrize(
    "place", ["repo/.git/moderator/trash", "repo/.git/moderator/staging", "checkouts/tasks/.trash"]
)
def test_nothing_is_deleted_through_a_link(tmp_path: Path, repo: Path, manager: GitManager, place: str) -> None:
    """Where a link has taken the place of one of our folders, what it leads to is somebody else's and stays."""
    theirs = tmp_path / "theirs"
    (theirs / "old.deleting").mkdir(parents=True)
    (theirs / "old.deleting/file").write_text("theirs")
    (theirs / "rescue-0").mkdir()
    before = listing(theirs)
    made(tmp_path, manager)
    link = tmp_path / place
    subprocess.run(["rm", "-rf", link], check=True)
    link.symlink_to(theirs)
    made(tmp_path, manager, "other")
    manager.empty_trash()
    moderator(repo, "doctor", "--fix", "--json")
    manager.empty_trash()
    after = listing(theirs)
    assert {path: after.get(path) for path in before} == before


def test_a_tree_that_was_moved_is_not_given_up(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """A workspace that a person moved is not taken for deleted: refused, with the way back."""
    tree = Path(made(tmp_path, manager).path)
    tree.rename(tree.parent / "elsewhere")
    with pytest.raises(PersonNeeded, match="was moved to") as caught:
        manager.remove_workspace("t", rescue=True)
    assert caught.value.hint == f"move it back (mv {tree.parent / 'elsewhere'} {tree}), and try again"
    (tree.parent / "elsewhere").rename(tree)
    assert manager.remove_workspace("t", rescue=True) is not None


def test_a_submodule_goes_when_its_work_is_elsewhere(
    tmp_path: Path, repo: Path, manager: GitManager, home: Path
) -> None:
    """A submodule with work of its own refuses; once all is pushed it may go, and what it ignores stays in the trash."""
    git(repo, "config", "--file", home / ".gitconfig", "protocol.file.allow", "always")
    library = make_repository(tmp_path / "library", [("first", {"l": "l\n", ".gitignore": "*.o\n"})])
    git(repo, "submodule", "--quiet", "add", library, "lib")
    git(repo, "commit", "--quiet", "--message", "with a submodule")
    tree = Path(made(tmp_path, manager).path)
    git(tree, "submodule", "--quiet", "update", "--init")
    (tree / "lib/l").write_text("changed\n")
    with pytest.raises(WouldLoseWork) as caught:
        manager.remove_workspace("t", rescue=True)
    assert caught.value.findings == ("lib: not committed: l",)
    git(tree / "lib", "commit", "--quiet", "--all", "--message", "mine")
    lost = git(tree / "lib", "rev-parse", "--short=12", "HEAD")
    with pytest.raises(WouldLoseWork) as caught:
        manager.remove_workspace("t", rescue=True)
    assert caught.value.findings[0] == f"lib: commits that are at no remote: {lost}"
    git(tree / "lib", "push", "--quiet", "origin", "HEAD:refs/heads/mine")
    (tree / "lib/x.o").write_text("made")
    removal = manager.remove_workspace("t", rescue=True)
    assert removal is not None
    assert (removal.left, git(repo, "ls-tree", f"refs/moderator/rescue/{removal.rescue}", "lib").split()[2][:12]) == (
        ("lib/",), lost,
    )  # fmt: skip
    manager.undo_removal().release()
    assert ((tree / "lib/x.o").read_text(), git(tree, "status", "--short")) == ("made", " M lib")


def on_another_branch(tree: Path) -> None:
    git(tree, "switch", "--quiet", "-c", "own")
    git(tree, "commit", "--quiet", "--allow-empty", "--message", "own")


def at_an_older_commit(tree: Path) -> None:
    git(tree, "switch", "--quiet", "--detach", "main~1")


def on_a_renamed_branch(tree: Path) -> None:
    git(tree, "commit", "--quiet", "--allow-empty", "--message", "mine")
    git(tree, "branch", "--move", "renamed")


def on_no_branch_of_its_own(tree: Path) -> None:
    git(tree, "switch", "--quiet", "--detach")
    git(tree, "branch", "--quiet", "--delete", "--force", "main-task-t")


def on_a_branch_without_commits(tree: Path) -> None:
    git(tree, "switch", "--quiet", "--orphan", "orphan")


def stands(repo: Path, tree: Path) -> tuple[str, ...]:
    """Where HEAD is, every branch, and whether anything differs from it."""
    head = (tree / ".git").read_text().removeprefix("gitdir: ").strip()
    refs = git(repo, "for-each-ref", "refs/heads", "--format=%(objectname) %(refname)")
    return (Path(head, "HEAD").read_text(), refs, git(tree, "status", "--porcelain"))


@pytest.mark.parametrize("emptied", [False, True], ids=["in the trash", "made again"])
@pytest.mark.parametrize(
    "moved",
    [on_another_branch, at_an_older_commit, on_a_renamed_branch, on_no_branch_of_its_own, on_a_branch_without_commits],
    ids=lambda moved: moved.__name__,
)
def test_undo_puts_head_where_it_stood(
    tmp_path: Path, repo: Path, manager: GitManager, moved: Spoil, emptied: bool
) -> None:
    """Nothing unsaved, but HEAD on another branch, on none or at another commit: it comes back there, and no branch more."""
    tree = Path(made(tmp_path, manager).path)
    moved(tree)
    before = (stands(repo, tree), state(tree)["files"])
    manager.remove_workspace("t", rescue=True, later=True)
    if emptied:
        manager.empty_trash()
    manager.undo_removal().release()
    assert (stands(repo, tree), state(tree)["files"]) == before


@pytest.mark.parametrize("emptied", [False, True], ids=["in the trash", "made again"])
def test_undo_leaves_a_branch_alone_that_somebody_took(
    tmp_path: Path, repo: Path, manager: GitManager, emptied: bool
) -> None:
    """A branch that has moved since, or that another worktree is on, is not stood on again: HEAD comes back at its commit."""
    tree = Path(made(tmp_path, manager).path)
    on_another_branch(tree)
    head = git(repo, "rev-parse", "own")
    manager.remove_workspace("t", rescue=True, later=True)
    if emptied:
        manager.empty_trash()
    git(repo, "switch", "--quiet", "own")
    git(repo, "commit", "--quiet", "--allow-empty", "--message", "since")
    said = moderator(repo, "undo").stdout
    assert f"  its HEAD is on no branch, at {head[:12]}; to go to the task's branch: git -C {tree} switch " in said
    assert (stands(repo, tree)[0], stands(repo, tree)[2]) == (f"{head}\n", "")


def test_undo_of_a_result_stands_at_it(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """Level directory, with a commit: made again, HEAD is at the result and nothing differs from it."""
    tree = Path(made(tmp_path, manager, level=DIRECTORY).path)
    (tree / "done").write_text("done")
    manager.commit("t", "Work")
    before = stands(repo, tree)
    manager.remove_workspace("t")
    manager.undo_removal().release()
    assert stands(repo, tree) == before


def test_clean_does_not_say_that_a_branch_stays_which_had_gone(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """Where the branch was renamed, neither a dry run nor the removal says that it stays."""
    on_a_renamed_branch(Path(made(tmp_path, manager).path))
    for options in (["--dry-run"], []):
        said = moderator(repo, "clean", "t", *options).stdout
        assert said.splitlines()[0].endswith("t; its branch main-task-t had gone before")


def test_what_is_used_in_the_trash_outlasts_its_time(tmp_path: Path, repo: Path) -> None:
    """When its time has come a tree stays while a process works in it, and for the same time again if it was written to."""
    manager = GitManager(repo, keeping=Keeping(days=30))
    tree = Path(made(tmp_path, manager).path)
    (tree / ".env").write_text("SECRET=1")
    removal = manager.remove_workspace("t", rescue=True)
    assert removal is not None
    expire(repo, removal.id)
    trash = Path(str(manager.trash_of(removal)))
    with subprocess.Popen(["sleep", "60"], cwd=trash) as shell:
        manager.empty_trash()
        assert (trash / ".env").read_text() == "SECRET=1"
        shell.kill()
    (trash / "late").write_text("written after the removal")
    written = (trash / "late").stat().st_ctime
    time.sleep(0.05)
    manager.empty_trash()
    assert (trash / "late").exists()
    (kept,) = manager.removals()
    assert (kept.left, kept.kept_until) == (
        (".env", "what was written into it after its removal"), written + 30 * 86400,
    )  # fmt: skip
    expire(repo, removal.id)
    manager.empty_trash()
    assert not trash.exists()


def expire(repo: Path, name: str) -> None:
    """Let the time be over for which the trash keeps what a removal left."""
    path = repo / f".git/moderator/removed/{name}.json"
    told = json.loads(path.read_text())
    told["removal"]["kept_until"] = 1.0
    path.write_text(json.dumps(told))


@pytest.mark.parametrize("refspec", ["+refs/*:refs/*", "+refs/heads/*:refs/heads/*", "+refs/x/*:refs/moderator/*"])
@pytest.mark.some(1)
def test_nothing_is_kept_where_a_fetch_would_prune_it(
    tmp_path: Path, repo: Path, manager: GitManager, refspec: str
) -> None:
    """A mirror that was configured later refuses every removal and rescue, dry or not, with the setting to change."""
    trees = [Path(made(tmp_path, manager, task_id).path) for task_id in ("t", "done")]
    (trees[0] / "note").write_text("untracked")
    manager.status("t")
    made(tmp_path, manager, "gone")
    manager.remove_workspace("gone")
    gone = context(tmp_path, "gone")
    before = git(repo, "for-each-ref")
    git(repo, "config", "remote.far.url", tmp_path / "far")
    git(repo, "config", "remote.far.fetch", refspec)
    kept = listing(tmp_path / "checkouts", repo / ".git/worktrees")
    for task_id in ("t", "done"):
        for ask in (
            lambda task_id=task_id: manager.remove_workspace(task_id, rescue=True),
            lambda task_id=task_id: manager.check_removal(task_id, rescue=True),
            lambda task_id=task_id: manager.set_aside(task_id, "fresh"),
            lambda task_id=task_id: manager.rescue(task_id),
            lambda: manager.set_aside(gone, "fresh"),
        ):
            with pytest.raises(EnvironmentProblem, match="'far' would delete what is kept of removed") as caught:
                ask()
    assert git(repo, "for-each-ref") == before
    assert listing(tmp_path / "checkouts", repo / ".git/worktrees") == kept
    done = moderator(repo, "clean", "--all")
    assert (done.returncode, caught.value.hint in done.stderr) == (4, True)
    subprocess.run(caught.value.hint, shell=True, cwd=repo, check=True)
    assert "removed t;" in moderator(repo, "clean", "--all").stdout


@pytest.fixture
def library(tmp_path: Path, home: Path) -> Path:
    """A repository for submodules, which may be cloned from where it is."""
    git(tmp_path, "config", "--file", home / ".gitconfig", "protocol.file.allow", "always")
    files = {"l": "l\n", "lines": "a\nb\n", ".gitattributes": "lines eol=crlf\n"}
    return make_repository(tmp_path / "library", [("first", files)])


def with_submodule(folder: Path, repo: Path, manager: GitManager, library: Path) -> Path:
    """Return the tree of a workspace with a submodule `lib`, all of it as at its remote."""
    git(repo, "submodule", "--quiet", "add", library, "lib")
    git(repo, "commit", "--quiet", "--message", "with a submodule")
    tree = Path(made(folder, manager).path)
    git(tree, "submodule", "--quiet", "update", "--init", "--recursive")
    return tree


@pytest.mark.parametrize("flag", ["--assume-unchanged", "--skip-worktree"])
def test_hidden_edits_in_a_submodule_refuse(
    tmp_path: Path, repo: Path, manager: GitManager, library: Path, flag: str
) -> None:
    """An edit in a submodule that a flag hides from git is told by name, and neither clean nor its dry run passes it over."""
    tree = with_submodule(tmp_path, repo, manager, library)
    git(tree / "lib", "update-index", flag, "l")
    (tree / "lib/l").write_text("changed\n")
    before = listing(tree)
    for rescue in (True, False):
        with pytest.raises(WouldLoseWork) as caught:
            manager.remove_workspace("t", rescue=rescue)
    with pytest.raises(WouldLoseWork) as caught:
        manager.check_removal("t", rescue=True)
    assert caught.value.findings == ("lib: changed, but hidden by assume-unchanged or skip-worktree: l",)
    assert (listing(tree), manager.removals()) == (before, [])
    (tree / "lib/l").write_text("l\n")
    assert manager.remove_workspace("t", rescue=True) is not None


def test_converted_bytes_in_a_submodule_refuse(tmp_path: Path, repo: Path, manager: GitManager, library: Path) -> None:
    """Bytes in a submodule that line endings make equal for git refuse; those that its commit or a checkout gives do not."""
    tree = with_submodule(tmp_path, repo, manager, library)
    for content in (b"a\nb\n", b"a\r\nb\r\n", b"a\r\nb\n"):
        (tree / "lib/lines").write_bytes(content)
        git(tree / "lib", "-c", "core.safecrlf=false", "add", "lines")
        assert git(tree / "lib", "status", "--porcelain") == ""
        if content != b"a\r\nb\n":
            assert manager.check_removal("t", rescue=True).changed == []
    with pytest.raises(WouldLoseWork) as caught:
        manager.remove_workspace("t", rescue=True)
    assert caught.value.findings == ("lib: other bytes than git compares, by a filter or line endings: lines",)


def test_commits_of_a_submodule_that_was_taken_out_of_a_submodule_refuse(
    tmp_path: Path, repo: Path, manager: GitManager, library: Path
) -> None:
    """After `git submodule deinit` the commits are only in the git directory of a submodule's submodule: found there."""
    middle = make_repository(tmp_path / "middle")
    git(middle, "submodule", "--quiet", "add", library, "in")
    git(middle, "commit", "--quiet", "--message", "with a submodule")
    tree = with_submodule(tmp_path, repo, manager, middle)
    git(tree / "lib/in", "commit", "--quiet", "--allow-empty", "--message", "mine")
    lost = git(tree / "lib/in", "rev-parse", "--short=12", "HEAD")
    git(tree / "lib", "submodule", "--quiet", "deinit", "--force", "in")
    for rescue in (True, False):
        with pytest.raises(WouldLoseWork) as caught:
            manager.remove_workspace("t", rescue=rescue)
    with pytest.raises(WouldLoseWork) as caught:
        manager.check_removal("t", rescue=True)
    assert caught.value.findings == (f"submodule lib/modules/in: commits that are at no remote: {lost}",)
    assert (manager.rescues(), manager.removals()) == ([], [])


_AT_RENAME: dict[str, Callable[[], object]] = {}
"""What somebody does in the very moment in which a tree is renamed, by its path."""


_STARTED: list[str] = []
"""The commands that were started, as text."""


def _at_rename(event: str, arguments: tuple[object, ...]) -> None:
    if event == "subprocess.Popen":
        _STARTED.append(str(arguments[1]))
    if event == "os.rename" and (action := _AT_RENAME.pop(str(arguments[0]), None)):
        action()


sys.addaudithook(_at_rename)


def _same_size_and_time(path: Path) -> None:
    before = path.stat()
    path.write_text("z" * before.st_size)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _filled(tree: Path) -> Path:
    """Commit so many files in a workspace that not each is compared again, and let them become old."""
    for number in range(3_100):
        path = tree / f"many/{number % 50}/deep/{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{number}\n")
    git(tree, "add", "--all")
    git(tree, "commit", "--quiet", "-m", "many files")
    time.sleep(0.06)
    return tree


@pytest.mark.parametrize(
    "action",
    [
        pytest.param(lambda tree: (tree / "new").write_text("mine"), id="new"),
        pytest.param(lambda tree: (tree / ".env").write_text("mine"), id="ignored"),
        pytest.param(lambda tree: _same_size_and_time(tree / "README.md"), id="size and time as before"),
        pytest.param(lambda tree: _same_size_and_time(tree / "src/a.py"), id="hidden"),
        pytest.param(lambda tree: _same_size_and_time(tree / "src/b.py"), id="rescued before"),
        pytest.param(lambda tree: git(tree, "rm", "--quiet", "--cached", "README.md"), id="staged"),
        pytest.param(lambda tree: git(tree, "commit", "--quiet", "--allow-empty", "-m", "mine"), id="commit"),
        pytest.param(lambda tree: _same_size_and_time(tree / "lib/lines"), id="in lib"),
        pytest.param(lambda tree: _same_size_and_time(tree / "lib/l"), id="in lib, hidden"),
        pytest.param(lambda tree: git(tree / "lib", "commit", "-q", "--allow-empty", "-m", "mine"), id="commit in lib"),
    ],
)
@pytest.mark.some(5)
def test_what_is_written_in_the_moment_of_the_rename_is_seen(
    tmp_path: Path, repo: Path, manager: GitManager, library: Path, request: pytest.FixtureRequest, action: Spoil
) -> None:
    """Between the first look and the second nothing goes unseen: the workspace is back where it was, and holds it."""
    if "lib" in request.node.callspec.id:
        tree = with_submodule(tmp_path, repo, manager, library)
        git(tree / "lib", "update-index", "--skip-worktree", "l")
    else:
        tree = Path(made(tmp_path, manager).path)
    git(tree, "update-index", "--assume-unchanged", "src/a.py")
    (tree / "src/b.py").write_text("my edit\n")
    time.sleep(0.06)  # what was written is old enough to be told from what is written now
    seen: list[object] = []
    _AT_RENAME[str(tree)] = lambda: seen.extend([action(tree), listing(tree)])
    with pytest.raises(WouldLoseWork, match="changed while it was being removed"):
        manager.remove_workspace("t", rescue=True)
    assert (listing(tree), manager.removals()) == (seen[1], [])


@pytest.mark.parametrize(
    "action",
    [
        pytest.param(lambda tree: (tree / "new").write_text("mine"), id="new at the top"),
        pytest.param(lambda tree: (tree / "many/7/deep/new").write_text("mine"), id="new"),
        pytest.param(lambda tree: (tree / "many/7/deep/57").unlink(), id="deleted"),
        pytest.param(lambda tree: (tree / "README.md").unlink(), id="deleted at the top", marks=pytest.mark.slow),
        pytest.param(lambda tree: _same_size_and_time(tree / "many/7/deep/57"), id="size and time as before"),
        pytest.param(lambda tree: (tree / "many/7/deep/57").chmod(0o600), id="mode", marks=pytest.mark.slow),
        pytest.param(lambda tree: tree.chmod(0o700), id="mode of the tree", marks=pytest.mark.slow),
        pytest.param(
            lambda tree: (tree / "many/7/deep").rename(tree / "many/7/moved"),
            id="folder renamed",
            marks=pytest.mark.slow,
        ),
        pytest.param(lambda tree: git(tree, "commit", "--quiet", "--allow-empty", "-m", "mine"), id="commit"),
    ],
)
@pytest.mark.some(1)
def test_what_is_written_into_a_large_tree_in_that_moment_is_seen(
    tmp_path: Path, manager: GitManager, action: Spoil
) -> None:
    """The same where what is younger is asked for, not each file compared."""
    tree = _filled(Path(made(tmp_path, manager).path))
    seen: list[object] = []
    _AT_RENAME[str(tree)] = lambda: seen.extend([action(tree), listing(tree)])
    with contextlib.suppress(WouldLoseWork):
        manager.remove_workspace("t", later=True)
        manager.undo_removal().release()  # only modes are no work that refuses: they come back
    assert (listing(tree), manager.removals()) == (seen[1], [])


def test_a_large_tree_is_asked_for_what_is_younger(tmp_path: Path, manager: GitManager) -> None:
    """Nothing was written: no second survey is made, and the workspace is removed and can be brought back."""
    tree = _filled(Path(made(tmp_path, manager).path))
    before = listing(tree)
    _STARTED.clear()
    manager.remove_workspace("t", later=True)
    assert any("-newercm" in command for command in _STARTED)
    manager.undo_removal().release()
    assert listing(tree) == before


def test_a_deletion_that_a_flag_hides_is_no_secret(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """Of an assume-unchanged file that is gone git says nothing; it is told, and gone after undo too, as one staged before."""
    tree = Path(made(tmp_path, manager).path)
    git(tree, "update-index", "--assume-unchanged", "src/a.py")
    (tree / "src/a.py").unlink()
    with pytest.raises(WouldLoseWork) as caught:
        manager.remove_workspace("t")
    assert caught.value.findings == ("changed, but hidden by assume-unchanged or skip-worktree: src/a.py",)
    (tree / "staged").write_text("staged")
    git(tree, "add", "staged")
    git(tree, "update-index", "--assume-unchanged", "staged")
    (tree / "staged").unlink()
    before = state(tree)
    manager.remove_workspace("t", rescue=True)
    manager.undo_removal().release()
    assert state(tree) == before


def test_a_file_that_somebody_writes_into_by_a_mapping_is_kept(tmp_path: Path, manager: GitManager) -> None:
    """He writes where no time of change tells of it: the tree stays in the trash, and longer than he is there."""
    tree = Path(made(tmp_path, manager).path)
    script = (
        "import mmap, os\nfile = open('README.md', 'r+b')\nkept = mmap.mmap(file.fileno(), 0)\nkept[0:1] = b'#'\n"
        "file.close()\nos.chdir('/')\nprint('open', flush=True)\ninput()\nkept[0:4] = b'mine'\nprint('done', flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=tree, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        process.stdout.readline()
        removal = manager.remove_workspace("t")
        assert removal is not None
        process.communicate("\n")
    assert manager.empty_trash()
    assert (tree.parent / ".trash" / removal.id / "README.md").read_text().startswith("mine")


def test_bytes_that_came_in_with_a_folder_are_not_passed_over(tmp_path: Path) -> None:
    """A folder that is older than the workspace, moved in: what git takes for equal in it is looked at as if it were new."""
    repo = make_repository(tmp_path / "repo", [("first", {"d/lines": "a\nb\n", ".gitattributes": "lines eol=crlf\n"})])
    manager, old = GitManager(repo), tmp_path / "old"
    old.mkdir()
    (old / "lines").write_bytes(b"a\r\nb\n")
    tree = Path(made(tmp_path, manager).path)
    (tree / "d/lines").unlink()
    (tree / "d").rmdir()
    old.rename(tree / "d")
    git(tree, "-c", "core.safecrlf=false", "add", "--all")
    assert git(tree, "status", "--porcelain") == ""
    with pytest.raises(WouldLoseWork) as caught:
        manager.remove_workspace("t")
    assert caught.value.findings == ("other bytes than git compares, by a filter or line endings: d/lines",)
    manager.remove_workspace("t", rescue=True)
    manager.undo_removal().release()
    assert (tree / "d/lines").read_bytes() == b"a\r\nb\n"


@pytest.mark.parametrize("rescue", [True, False])
def test_an_index_that_is_written_and_written_back_is_seen(
    tmp_path: Path, manager: GitManager, monkeypatch: pytest.MonkeyPatch, rescue: bool
) -> None:
    """What was staged when git looked, and is not any more when the index is read again, refuses: it is nowhere else."""
    tree = Path(made(tmp_path, manager).path)
    (tree / "new.txt").write_text("mine")
    if not rescue:
        git(tree, "add", "new.txt")
        git(tree, "commit", "--quiet", "--message", "mine")
    look = retiring.check_retirement

    def disturbed(*arguments: object, **named: object) -> object:
        """The real look, after which somebody stages in this very moment what was not staged before."""
        found = look(*arguments, **named)  # type: ignore[arg-type]
        git(tree, "add", "--all")
        git(tree, "reset", "--quiet")
        git(
            tree,
            "update-index",
            "--add",
            "--cacheinfo",
            f"100644,{git(tree, 'hash-object', '-w', tree / '.git')},staged",
        )
        return found

    time.sleep(0.06)
    monkeypatch.setattr(retiring, "check_retirement", disturbed)
    with pytest.raises(WouldLoseWork, match="changed while it was being removed"):
        manager.remove_workspace("t", rescue=rescue)
    assert (tree / "new.txt").read_text() == "mine"


def test_permissions_that_no_checkout_gives_come_back(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """A tracked file that is otherwise as committed keeps its permissions through removal and undo, also made again."""
    tree = Path(made(tmp_path, manager).path)
    git(tree, "config", "core.fileMode", "false")
    for path, mode in (("src/a.py", 0o600), ("tool", 0o755), ("docs", 0o700)):
        (tree / path).chmod(mode)
    before = state(tree)["files"]
    removal = manager.remove_workspace("t", rescue=True)
    assert removal is not None
    assert (removal.rescue, removal.modes) == (None, {"src/a.py": 0o600, "tool": 0o755, "docs": 0o700})
    assert not (tree.parent / ".trash").exists()
    manager.undo_removal().release()
    assert state(tree)["files"] == before
    (tree / "README.md").write_text("edited")
    before = state(tree)["files"]
    manager.remove_workspace("t", rescue=True)
    manager.undo_removal().release()
    assert state(tree)["files"] == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can mount")
@pytest.mark.parametrize("where", ["src", "vol"])
def test_what_is_mounted_in_a_workspace_is_never_deleted(tmp_path: Path, manager: GitManager, where: str) -> None:
    """A directory of a person's that is mounted there refuses the removal; one that is mounted in the trash is passed by."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "data").write_text("precious")
    tree = Path(made(tmp_path, manager).path)
    (tree / where).mkdir(exist_ok=True)
    place = tree / where

    def mounted() -> bool:
        return subprocess.run(["mount", "--bind", theirs, place], capture_output=True).returncode == 0

    if not mounted():
        pytest.skip("this machine does not let anybody mount")
    try:
        with pytest.raises(PersonNeeded, match="something is mounted") as caught:
            manager.remove_workspace("t", rescue=True)
        assert caught.value.hint == f"its files are somebody else's; umount {place}, and try again"
        subprocess.run(["umount", place], check=True)
        garbage = tree.parent / ".trash/old.deleting"
        place = garbage / "deep"
        place.mkdir(parents=True)
        assert mounted()
        assert not manager.empty_trash()
        assert not delete(str(garbage))
    finally:
        subprocess.run(["umount", place], capture_output=True)
    assert (theirs / "data").read_text() == "precious"
    assert manager.empty_trash()


@pytest.mark.parametrize("with_repository", [True, False], ids=["with a repository inside", "without"])
def test_a_tree_that_was_written_a_moment_ago_is_removed(
    tmp_path: Path, repo: Path, manager: GitManager, library: Path, with_repository: bool
) -> None:
    """What is as young as the look itself is looked at again, and not taken for what somebody writes meanwhile."""
    tree = with_submodule(tmp_path, repo, manager, library) if with_repository else Path(made(tmp_path, manager).path)
    (tree / "new").write_text("mine")
    removal = manager.remove_workspace("t", rescue=True)
    assert removal is not None
    assert git(repo, "show", f"refs/moderator/rescue/{removal.rescue}^3:new") == "mine"


def test_a_touched_tree_is_removed(tmp_path: Path, manager: GitManager) -> None:
    """A file that was written anew with the same bytes in between is no new work: the whole second look tells."""
    tree = Path(made(tmp_path, manager).path)
    time.sleep(0.06)
    _AT_RENAME[str(tree)] = lambda: (tree / "README.md").write_bytes((tree / "README.md").read_bytes())
    assert manager.remove_workspace("t") is not None


@pytest.mark.parametrize("gone", ["lib", "."], ids=["its tree", "the workspace"])
def test_a_submodule_without_a_tree_goes_once_its_work_is_elsewhere(
    tmp_path: Path, repo: Path, manager: GitManager, library: Path, gone: str
) -> None:
    """Where a tree was deleted by hand, what only the submodule's git directory has refuses, and names that; the rest goes."""
    tree = with_submodule(tmp_path, repo, manager, library)
    module = Path(git(tree / "lib", "rev-parse", "--absolute-git-dir"))
    (tree / "lib/l").write_text("staged")
    git(tree / "lib", "add", "l")
    subprocess.run(["rm", "-r", tree / gone], check=True)
    with pytest.raises(WouldLoseWork) as caught:
        manager.remove_workspace("t", rescue=True)
    assert (caught.value.findings, caught.value.hint.endswith(f"; they are in {module}")) == (
        ("submodule lib: staged, not committed: l",), True,
    )  # fmt: skip
    git(module, "--work-tree=.", "reset", "--quiet")
    removal = manager.remove_workspace("t", rescue=True)
    assert (removal and removal.rescue is not None, manager.workspaces()) == (gone == "lib", [])


def test_a_dry_run_of_a_deleted_directory_tells_what_is_rescued(
    tmp_path: Path, repo: Path, manager: GitManager
) -> None:
    """Where somebody deleted the tree, what only the index has is announced, and just that is rescued."""
    tree = Path(made(tmp_path, manager).path)
    (tree / "new").write_text("staged")
    git(tree, "add", "new")
    subprocess.run(["rm", "-r", tree], check=True)
    before = listing(tmp_path)
    assert moderator(repo, "clean", "t", "--dry-run").stdout.splitlines()[1:3] == [
        "  rescued first: staged: new", "  frees 0 B",
    ]  # fmt: skip
    assert listing(tmp_path) == before
    assert "  rescued: 1 staged: moderator" in moderator(repo, "clean", "t").stdout
    rescue = manager.find_rescue("t")
    assert (rescue.staged, rescue.modified, git(repo, "show", f"{rescue.ref}^2:new")) == (("new",), (), "staged")


def test_a_dry_run_tells_what_becomes_of_repositories_inside(
    tmp_path: Path, repo: Path, manager: GitManager, library: Path
) -> None:
    """A repository inside that is all elsewhere is not said to be rescued; one that stays whole is named with the trash."""
    tree = with_submodule(tmp_path, repo, manager, library)
    assert "rescued first" not in moderator(repo, "clean", "t", "--dry-run").stdout
    git(tmp_path, "clone", "--quiet", library, tree / "nested")
    done = moderator(repo, "clean", "t", "--dry-run")
    assert [line for line in done.stdout.splitlines() if line.startswith("  stays") or "rescued" in line] == [
        "  stays in the trash for a time: nested/",
    ]


def test_thousands_of_commits_are_held(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """However many commits only a worktree's log names, a rescue holds each of them."""
    tree = Path(made(tmp_path, manager).path)
    stream = "".join(
        f"commit refs/worktree/many\ncommitter A <a@b> {number} +0000\ndata 1\nx\n" + ("deleteall\n" if number else "")
        for number in range(1200)
    )
    lone = "reset refs/worktree/many\n"
    git(tree, "fast-import", "--quiet", stdin=stream.replace("commit refs", f"{lone}commit refs").encode())
    names = git(tree, "cat-file", "--batch-check=%(objectname) %(objecttype)", "--batch-all-objects").split("\n")
    commits = {name.split()[0] for name in names if name.endswith(" commit")}
    log = repo / ".git/worktrees" / os.listdir(repo / ".git/worktrees")[0] / "logs/HEAD"
    log.parent.mkdir(exist_ok=True)
    zero = "0" * 40
    log.write_text("".join(f"{zero} {name} A <a@b> 1 +0000\tmade\n" for name in sorted(commits)))
    removal = manager.remove_workspace("t", rescue=True)
    assert removal is not None and removal.rescue is not None
    assert commits <= set(git(repo, "rev-list", f"refs/moderator/rescue/{removal.rescue}").split())


@pytest.mark.parametrize("damage", ['{"version": 1', '{"version": 1, "removal": {}, "record": {}}', "[]", '"x"'])
@pytest.mark.some(2)
def test_a_damaged_record_of_a_removal_is_told(tmp_path: Path, repo: Path, manager: GitManager, damage: str) -> None:
    """What cannot be read is never trusted, overwritten or passed over: no other comes back in its place but by name."""
    for task_id in ("a", "b"):
        made(tmp_path, manager, task_id)
        manager.remove_workspace(task_id, later=True)
    git(repo, "branch", "--quiet", "--delete", "main-task-b")
    made(tmp_path, manager, "b")
    manager.remove_workspace("b", later=True)
    old, newest = manager.removals()[1:]
    path = repo / f".git/moderator/removed/{newest.id}.json"
    path.write_text(damage)
    assert [removal.task_id for removal in manager.removals()] == ["a", "b"]
    kept = f"its files are in {tmp_path / 'checkouts/tasks/.trash' / newest.id}; "
    for name, words, way in (
        (None, "what was removed last", "what else was removed comes back by name: 'b', 'a'"),
        ("b", "whether it is what was removed last of 'b'", f"an earlier one comes back with moderator undo {old.id}"),
        (newest.id, f"whether it is what was removed last of '{newest.id}'", ""),
    ):
        with pytest.raises(EnvironmentProblem) as caught:
            manager.undo_removal(name)
        assert caught.value.message == f"the record '{path}' of a removal cannot be read, so nobody knows {words}"
        assert caught.value.hint.startswith(kept) and way in caught.value.hint
    assert moderator(repo, "undo").returncode == 4
    assert manager.workspaces() == []
    for name in ("a", old.id):
        manager.undo_removal(name).release()
    assert ([w.task_id for w in manager.workspaces()], path.read_text()) == (["a", "b"], damage)
    assert str(path) in moderator(repo, "doctor", "--json").stdout


def test_a_name_that_means_two_removals_is_refused(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """The id of one task that was another's branch brings back neither; whole refs name each."""
    for task_id in ("x", "main-task-x"):
        made(tmp_path, manager, task_id)
        manager.remove_workspace(manager.of_task(task_id))
    with pytest.raises(AmbiguousName) as caught:
        manager.undo_removal("main-task-x")
    assert "for 'x' type refs/heads/main-task-x" in caught.value.hint
    manager.undo_removal("refs/heads/main-task-x").release()
    assert [w.task_id for w in manager.workspaces()] == ["x"]


@pytest.mark.parametrize("name", ["m1", "main-task-m1", None])
@pytest.mark.some(1)
def test_undo_of_a_removal_that_was_cut_short(tmp_path: Path, repo: Path, name: str | None) -> None:
    """A removal killed before it was written down is what is undone, by name or as the last; no other comes back for it."""
    manager = GitManager(repo)
    made(tmp_path, manager, "earlier")
    manager.remove_workspace("earlier")
    assert killed_before("open removed/.m1", tmp_path, repo, "m1", "rescue")
    tree = tmp_path / "checkouts/tasks/m1"
    done = moderator(repo, "path", "m1")
    assert (done.returncode, done.stdout, "bring it back: moderator undo m1" in done.stderr) == (3, "", True)
    done = moderator(repo, "undo", *filter(None, (name,)))
    assert (done.returncode, done.stdout) == (0, f"m1 is back in {tree}\n")
    assert [(w.task_id, manager.status(w).state) for w in manager.workspaces()] == [("m1", "ready")]
    assert {(tree / file).read_text() for file in (".env", "staged", "note")} == {"secret", "s", ""}
    assert moderator(repo, "path", "m1").stdout == f"{tree}\n"
    assert moderator(repo, "undo").stdout.startswith("earlier is back in ")
    subprocess.run(["rm", "-r", tree], check=True)
    assert moderator(repo, "path", "m1").returncode == 3


def test_refs_that_are_no_rescues_are_passed_over(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """A ref of somebody else's among the rescues, whatever it names, hides none of ours and is left as it is."""
    tree = Path(made(tmp_path, manager).path)
    (tree / "note").write_text("x")
    rescue = manager.rescue("t")
    blob = git(repo, "hash-object", "-w", "README.md")
    git(repo, "update-ref", "refs/moderator/rescue/t/blob", blob)
    git(repo, "update-ref", "refs/moderator/rescue/odd", "HEAD")
    assert manager.rescues() == [rescue]
    for arguments in (("rescue", "list"), ("rescue", "show", "odd"), ("rescue", "restore", "t", "--as", "")):
        done = moderator(repo, *arguments)
        assert (done.returncode in (0, 2), "bug" in done.stderr) == (True, False), done.stderr


def test_names_that_git_takes_into_no_tree_stay_in_the_trash(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """What `git update-index` passes over, and says that all went well, is not told as rescued: the trash keeps it."""
    tree = Path(made(tmp_path, manager).path)
    (tree / ".GIT").mkdir()
    (tree / ".GIT/foo").write_text("one")
    (tree / "x").mkdir()
    (tree / "x/.Git").write_text("two")
    (tree / ".gitmodules").symlink_to("nowhere")
    (tree / "plain").write_text("three")
    before = state(tree)
    removal = manager.remove_workspace("t", rescue=True)
    assert removal is not None
    assert sorted(removal.left) == [".GIT/foo", ".gitmodules", "x/.Git"]
    manager.empty_trash()
    manager.undo_removal().release()
    assert state(tree) == before


def test_a_tree_in_the_trash_whose_place_was_taken_is_kept(tmp_path: Path, repo: Path) -> None:
    """A removal killed after its rename, and a directory made in the tree's place: the tree goes back once it can."""
    (repo / ".git/info/exclude").write_text(".env\n")
    assert killed_before("open removed/.t", tmp_path, repo, "t", "rescue")
    manager, tree = GitManager(repo), tmp_path / "checkouts/tasks/t"
    tree.mkdir()
    (tree / "note-of-mine").write_text("n")
    for _ in range(2):
        with pytest.raises(PersonNeeded, match="something else stands at"):
            manager.remove_workspace("t", rescue=True)
    (trash,) = (tree.parent / ".trash").iterdir()
    assert (trash / ".env").read_text() == "secret"
    subprocess.run(["rm", "-r", tree], check=True)
    removal = manager.remove_workspace("t", rescue=True)
    assert removal is not None
    assert removal.left == (".env",)
    manager.empty_trash()
    manager.undo_removal().release()
    assert (tree / ".env").read_text() == "secret"


def test_a_refused_removal_forgets_nothing(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """Where the entry is gone a removal refuses, again and again, and the workspace stays known."""
    tree = Path(made(tmp_path, manager).path)
    (tree / "note").write_text("n")
    (repo / ".git/worktrees").rename(repo / ".git/worktrees.away")
    for _ in range(3):
        with pytest.raises(PersonNeeded, match="do not point at each other"):
            manager.remove_workspace("t", rescue=True)
    (repo / ".git/worktrees.away").rename(repo / ".git/worktrees")
    assert ([w.task_id for w in manager.workspaces()], (tree / "note").read_text()) == (["t"], "n")
    assert manager.remove_workspace("t", rescue=True) is not None


def test_freeing_a_branch_holds_what_only_its_log_names(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """A commit that the branch was moved away from, by whomever, is held before the branch and its log go."""
    made(tmp_path, manager)
    lost = git(repo, "commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", "lost")
    git(repo, "update-ref", "-m", "there", "refs/heads/main-task-t", lost)
    git(repo, "update-ref", "-m", "back", "refs/heads/main-task-t", "main")
    rescue = manager.set_aside("t", "fresh")
    assert rescue is not None
    assert lost in git(repo, "rev-list", rescue.ref).split()
    assert git(repo, "for-each-ref", "refs/heads", "--format=%(refname)") == "refs/heads/main"


def test_freeing_a_branch_without_worktree_and_entry_holds_its_commits(
    tmp_path: Path, repo: Path, manager: GitManager
) -> None:
    """Where git itself took the worktree away, the commits are held before the branch goes."""
    tree = Path(made(tmp_path, manager).path)
    (tree / "done").write_text("done")
    commit = manager.commit("t", "Work")
    git(repo, "worktree", "remove", "-f", "-f", tree)
    rescue = manager.set_aside("t", "fresh")
    assert commit is not None and rescue is not None
    assert commit.id in git(repo, "rev-list", rescue.ref).split()


def test_setting_aside_refuses_before_anything_goes(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """Where the branch cannot be freed the workspace stays whole, and trying again after the hint works."""
    tree = Path(made(tmp_path, manager).path)
    (tree / "note").write_text("n")
    git(tree, "switch", "--quiet", "--detach")
    git(repo, "switch", "--quiet", "main-task-t")
    with pytest.raises(WorkspaceOccupied, match="is checked out by"):
        manager.set_aside("t", "fresh")
    assert ((tree / "note").read_text(), manager.rescues(), manager.removals()) == ("n", [], [])
    git(repo, "switch", "--quiet", "main")
    assert manager.set_aside("t", "fresh") is not None
    made(tmp_path, manager)


def test_a_workspace_without_a_result_is_undone(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """Level directory, nothing committed: undo brings back what was rescued and what stayed in the trash."""
    (repo / ".git/info/exclude").write_text(".env\n")
    tree = Path(made(tmp_path, manager, level=DIRECTORY).path)
    (tree / "note").write_text("n")
    (tree / ".env").write_text("secret")
    before = state(tree)
    manager.remove_workspace("t", rescue=True)
    manager.undo_removal().release()
    assert state(tree) == before


def test_an_undo_that_fails_can_be_tried_again(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """A checkout that fails in the middle of an undo leaves the removal known, and the next undo brings all back."""
    (repo / ".gitattributes").write_text("*.odd filter=odd\n")
    git(repo, "add", ".")
    git(repo, "commit", "--quiet", "--message", "attributes")
    tree = Path(made(tmp_path, manager).path)
    for name in ("a.odd", "b"):
        (tree / name).write_text("x\n")
    manager.commit("t", "Work")
    (tree / "note").write_text("n")
    before = state(tree)
    manager.remove_workspace("t", rescue=True)
    git(repo, "config", "filter.odd.smudge", "false")
    git(repo, "config", "filter.odd.required", "true")
    for _ in range(2):
        with pytest.raises(GitFailed):
            GitManager(repo).undo_removal()
    git(repo, "config", "--remove-section", "filter.odd")
    GitManager(repo).undo_removal().release()
    assert state(tree)["files"] == before["files"]


@pytest.mark.parametrize(
    "forged",
    [
        {"modes": {"../../../victim": 0o777}},
        {"empty": {"/srv/made": 0o777}},
        {"folders": {"a/../../b": 0o777}},
        {"modes": {"u": "x"}},
        {"modes": [1]},
        {"head": "--help"},
        {"tip": "main\ndelete refs/heads/main"},
        {"created_at": 1e300},
        {"created_at": 10**400},
        {"left": 5},
        {"record": {"task_id": 5}},
    ],
    ids=str,
)
@pytest.mark.some(4)
def test_a_forged_rescue_is_none(tmp_path: Path, repo: Path, manager: GitManager, forged: dict[str, object]) -> None:
    """What a task wrote among the rescues is believed only if it can be true; it hides none, and nothing is done with it."""
    tree = Path(made(tmp_path, manager).path)
    (tree / "note").write_text("x")
    rescue = manager.rescue("t")
    assert rescue is not None
    told = json.loads(git(repo, "show", f"{rescue.ref}^4:rescue.json"))
    other = forged.get("record")
    told |= {"record": {**told["record"], **other}} if isinstance(other, dict) else forged
    blob = git(repo, "hash-object", "-w", "--stdin", stdin=json.dumps(told).encode())
    anchor = git(repo, "mktree", stdin=f"100644 blob {blob}\trescue.json\n".encode())
    last = git(repo, "commit-tree", anchor, "-m", "a")
    parents = [word for n in (1, 2, 3) for word in ("-p", git(repo, "rev-parse", f"{rescue.ref}^{n}"))]
    commit = git(repo, "commit-tree", f"{rescue.ref}^{{tree}}", *parents, "-p", last, "-m", "f")
    git(repo, "update-ref", "refs/moderator/rescue/t/forged", commit)
    assert manager.rescues() == [rescue]
    done = moderator(repo, "rescue", "restore", "t/forged")
    assert (done.returncode, manager.workspaces()[0].task_id, len(manager.workspaces())) == (2, "t", 1)


@pytest.mark.parametrize(
    "change",
    [{"kept_until": "never"}, {"tip": 7}, {"branch": "a\0b"}, {"removed_at": "x"}, {"left": 1}, {"id": "y"}],
    ids=str,
)
@pytest.mark.some(1)
def test_a_removal_with_values_that_cannot_be_is_passed_over(
    tmp_path: Path, repo: Path, manager: GitManager, change: dict[str, object]
) -> None:
    """A record of a removal with a wrong value is left as it is, named by the doctor, and brings down no command."""
    made(tmp_path, manager)
    removal = manager.remove_workspace("t", later=True)
    assert removal is not None
    path = repo / f".git/moderator/removed/{removal.id}.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps({**told, "removal": {**told["removal"], **change}}))
    before = listing(path.parent)
    for arguments in (("undo",), ("clean", "--all"), ("rescue", "list"), ("doctor", "--fix")):
        done = moderator(repo, *arguments)
        assert "bug" not in done.stderr and done.returncode in (0, 3, 4), (arguments, done.stderr)
    assert listing(path.parent) == before
    assert (tmp_path / "checkouts/tasks/.trash" / removal.id / "README.md").exists()


def test_a_link_among_the_administrative_files_is_not_followed(tmp_path: Path, repo: Path, manager: GitManager) -> None:
    """A link that leads nowhere, or to an endless device, hinders neither a look nor a rescue."""
    tree = Path(made(tmp_path, manager).path)
    (tree / "note").write_text("x")
    (entry,) = (repo / ".git/worktrees").iterdir()
    (entry / "nowhere").symlink_to("not/there")
    (entry / "endless").symlink_to("/dev/zero")
    removal = manager.remove_workspace("t", rescue=True)
    assert removal is not None and removal.rescue is not None
    manager.undo_removal().release()
    assert (tree / "note").read_text() == "x"


def test_a_directory_that_becomes_a_link_is_not_entered(tmp_path: Path) -> None:
    """Deleting goes by what was opened: whatever swaps directories for links meanwhile, what they lead to stays."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for number in range(50):
        (theirs / f"f{number}").write_text("theirs")
    before = listing(theirs)
    swapping = (
        "import os, sys\n"
        "doomed, theirs = sys.argv[1:]\n"
        "print('ready', flush=True)\n"
        "while os.path.isdir(doomed):\n"
        "    for n in range(40):\n"
        "        try:\n"
        "            os.rename(f'{doomed}/d{n}', f'{doomed}/was{n}'); os.symlink(theirs, f'{doomed}/d{n}')\n"
        "        except OSError:\n"
        "            pass\n"
    )
    for _ in range(3):
        doomed = tmp_path / "tasks/.trash/x.deleting"
        for number in range(40):
            (doomed / f"d{number}/deep").mkdir(parents=True)
            for name in "abcdefgh":
                (doomed / f"d{number}/deep/{name}").write_text(name)
        with subprocess.Popen([sys.executable, "-c", swapping, doomed, theirs], stdout=subprocess.PIPE) as swapper:
            assert swapper.stdout is not None
            swapper.stdout.readline()
            while not delete(str(doomed)):
                pass
        assert listing(theirs) == before
