"""Submodules come with a workspace, from what the main checkout has of them, and go without losing work."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from moderator.errors import GitFailed, WouldLoseWork
from moderator.furnishing import Furnishing
from moderator.git.manager import GitManager
from repos import git, make_repository
from workspaces import context, files, killed_before

WITH = Furnishing(submodules=True)
FILES = {
    ".gitmodules": None, "README.md": b"# Sample\n", ".gitignore": b"deps/\n.env\n", "libs/outer/o.txt": b"outer\n",
    "libs/outer/inner/i.txt": b"inner\n", "other/i.txt": b"inner\n",
}  # fmt: skip
LOCAL = ("-c", "protocol.file.allow=always", "submodule", "--quiet")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a repository that has two submodules, one of which has one itself; made once, for copies."""
    folder = tmp_path_factory.mktemp("made")
    make_repository(folder / "inner", [("first", {"i.txt": "inner\n", ".gitignore": "*.o\n"})])
    outer = make_repository(folder / "outer", [("first", {"o.txt": "outer\n"})])
    git(outer, *LOCAL, "add", "../inner", "inner")
    git(outer, "commit", "-q", "-m", "inner")
    main = make_repository(folder / "sample", [("first", {"README.md": "# Sample\n", ".gitignore": "deps/\n.env\n"})])
    git(main, *LOCAL, "add", "../outer", "libs/outer")
    git(main, *LOCAL, "add", "--name", "a/name", "../inner", "other")
    git(main, "commit", "-q", "-m", "submodules")
    git(main, *LOCAL, "update", "--init", "--recursive")
    return folder


@pytest.fixture
def repository(made: Path, tmp_path: Path) -> Path:
    """A copy of that repository; where its submodules came from is out of reach."""
    shutil.copytree(made / "sample", tmp_path / "sample", symlinks=True)
    return tmp_path / "sample"


def in_tree(path: str) -> dict[str, bytes | str]:
    return {name: text for name, text in files(path).items() if name != ".gitmodules" and "/.git" not in name}


def test_submodules_come_without_a_network_and_go_without_a_question(repository: Path) -> None:
    """They are clean, at their commits, with remotes as before, in git directories of their own; untouched they go like files."""
    before = git(repository, "config", "--list", "--local")
    manager = GitManager(repository, furnishing=WITH)
    with manager.create_workspace(context(repository.parent, "one")) as workspace:
        there = Path(workspace.path)
        wanted = {name: text for name, text in FILES.items() if text is not None}
        assert in_tree(workspace.path) == wanted
        assert git(there, "status", "--porcelain", "--ignored") == ""
        assert [
            git(at, "submodule", "--quiet", "foreach", "--recursive", "git rev-parse HEAD")
            for at in (there, repository)
        ] == [git(repository, "submodule", "--quiet", "foreach", "--recursive", "git rev-parse HEAD")] * 2
        assert git(there, "submodule", "status", "--recursive").count("\n ") == 2  # neither '-' nor '+' before one
        assert git(there / "other", "remote", "get-url", "origin") == git(
            repository / "other", "remote", "get-url", "origin"
        )
        assert git(there / "libs/outer", "rev-parse", "--git-dir").startswith(str(repository / ".git/worktrees"))
        assert git(repository, "config", "--list", "--local") == before
        # What gc does in the main checkout's own is nothing to this one: objects are linked, not borrowed.
        git(repository / "other", "update-ref", "-d", "refs/remotes/origin/main")
        git(repository / "other", "checkout", "-q", "--orphan", "empty")
        git(repository / "other", "reflog", "expire", "--expire=now", "--all")
        git(repository / "other", "update-ref", "-d", "refs/heads/main")
        git(repository / "other", "gc", "-q", "--prune=now")
        git(there / "other", "fsck", "--strict")
    assert manager.check_removal("one").findings == []
    removal = manager.remove_workspace("one")
    assert removal and (removal.rescue, removal.left) == (None, ())


def test_work_in_a_submodule_is_never_lost(repository: Path) -> None:
    """Edits, commits that are at no remote, ignored files: each keeps the workspace; once they are held elsewhere it goes."""
    manager = GitManager(repository, furnishing=WITH)
    with manager.create_workspace(context(repository.parent, "one")) as workspace:
        there = Path(workspace.path)
    inner = there / "libs/outer/inner"

    def refused(rescue: bool) -> str:
        with pytest.raises(WouldLoseWork) as caught:
            manager.check_removal("one", rescue=rescue)
        return "; ".join(caught.value.findings)

    (inner / "i.txt").write_text("mine\n")
    assert "libs/outer/inner: not committed: i.txt" in refused(rescue=True)
    git(inner, "commit", "-q", "-a", "-m", "mine")
    git(there / "libs/outer", "commit", "-q", "-a", "-m", "its link")
    git(there, "commit", "-q", "-a", "-m", "its link")
    assert "submodule libs/outer/modules/inner: commits that are at no remote" in refused(rescue=True)
    # The main checkout's own gets them: from then on nothing is only here.
    git(repository / "libs/outer/inner", "fetch", "-q", str(inner), "HEAD:refs/heads/kept")
    git(
        repository / "libs/outer",
        "fetch",
        "-q",
        "--no-recurse-submodules",
        str(there / "libs/outer"),
        "HEAD:refs/heads/kept",
    )
    (there / "other/x.o").write_text("object\n")
    assert refused(rescue=False) == "repositories of their own, submodules say: other"
    assert manager.check_removal("one", rescue=True).left == ("other/",)
    (there / "other/x.o").unlink()
    manager.remove_workspace("one")


def test_a_commit_that_is_not_there_is_fetched_where_git_allows_it(
    repository: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the main checkout never had comes from its URL, by git's own rules; otherwise it is named, and what to type."""
    monkeypatch.delenv("GIT_ALLOW_PROTOCOL")
    git(repository, "submodule", "--quiet", "deinit", "-f", "other")
    shutil.rmtree(repository / ".git/modules/a")
    git(repository, "config", "remote.origin.url", str(made / "sample"))
    manager = GitManager(repository, furnishing=WITH)
    with pytest.raises(
        GitFailed, match="the submodule at 'other' is not in the main checkout, and cannot be fetched"
    ) as caught:
        manager.create_workspace(context(repository.parent, "one"))
    assert "transport 'file' not allowed" in caught.value.cause
    assert caught.value.hint == f"bring it there: git -C {repository} submodule update --init --recursive"
    assert (manager.workspaces(), manager.removals()) == ([], [])
    assert not any((repository / ".git").glob("worktrees/*"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(repository.parent / "global"))
    git(repository, "config", "--global", "protocol.file.allow", "always")
    with manager.create_workspace(context(repository.parent, "one")) as workspace:
        assert Path(workspace.path, "other/i.txt").read_text() == "inner\n"
    assert not (repository / ".git/modules/a").exists()
    manager.remove_workspace("one")


def test_what_is_switched_off_stays_empty(repository: Path) -> None:
    """`update = none` and `active = false` are git's own words for that; an empty folder is nothing that could be lost."""
    git(repository, "config", "submodule.a/name.update", "none")
    git(repository, "config", "submodule.libs/outer.active", "false")
    manager = GitManager(repository, furnishing=WITH)
    with manager.create_workspace(context(repository.parent, "one")) as workspace:
        assert [os.listdir(Path(workspace.path, name)) for name in ("other", "libs/outer")] == [[], []]
    removal = manager.remove_workspace("one", rescue=True)
    assert removal and removal.rescue is None


def test_a_submodule_that_moved_on_is_a_change(repository: Path) -> None:
    """Also by a commit that leaves no trace in the tree: a task that did no more than that has done something."""
    manager = GitManager(repository, furnishing=WITH)
    with manager.create_workspace(context(repository.parent, "one"), fresh=True) as workspace:
        git(Path(workspace.path, "other"), "commit", "-q", "--allow-empty", "-m", "mine")
        assert manager.commit(workspace, "moved on")
    assert [change.path for change in manager.diff("one")] == ["other"]


def test_what_is_brought_back_has_its_submodules_again(
    repository: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each where it stood, by undo and from a rescue; never over what is brought back; one that cannot be had is told."""
    manager = GitManager(repository, furnishing=WITH)
    with manager.create_workspace(context(repository.parent, "one")) as workspace:
        there = Path(workspace.path)
    git(there / "other", "commit", "-q", "--allow-empty", "-m", "mine")
    mine = git(there / "other", "rev-parse", "HEAD")
    git(repository / "other", "fetch", "-q", str(there / "other"), "HEAD:refs/heads/kept")
    (there / "README.md").write_text("changed\n")
    before, told = in_tree(workspace.path), git(there, "status", "--porcelain")
    removal = manager.remove_workspace("one", rescue=True)
    assert removal and (removal.left, manager.trash_of(removal)) == ((), None)
    manager.undo_removal().release()
    assert (in_tree(workspace.path), git(there, "status", "--porcelain")) == (before, told)
    assert (git(there / "other", "rev-parse", "HEAD"), caplog.text) == (mine, "")
    shutil.rmtree(there / "other")
    (there / "other").write_text("a file\n")
    (repository.parent / "theirs").mkdir()
    shutil.rmtree(there / "libs")
    (there / "libs").symlink_to(repository.parent / "theirs")
    linked = manager.remove_workspace("one", rescue=True)
    manager.undo_removal().release()
    assert linked and (os.listdir(repository.parent / "theirs"), caplog.text.count("in its place")) == ([], 2)
    caplog.clear()
    (there / "libs").unlink()
    (there / "libs/outer").mkdir(parents=True)
    again = manager.remove_workspace("one", rescue=True)
    assert again and again.rescue
    shutil.rmtree(repository / ".git/modules/libs/outer/modules/inner")
    monkeypatch.delenv("GIT_ALLOW_PROTOCOL")
    manager.undo_removal().release()
    assert ((there / "other").read_text(), git(there / "libs/outer", "status", "--porcelain")) == ("a file\n", "")
    assert (os.listdir(there / "libs/outer/inner"), caplog.text.count("without the submodule at")) == ([], 2)
    restored = manager.restore_rescue(manager.find_rescue(str(removal.rescue)), "two")
    assert git(Path(restored.path, "other"), "rev-parse", "HEAD") == mine
    manager.remove_workspace("two", rescue=True)


@pytest.mark.parametrize(
    "step",
    [
        "os.link modules/a/name",
        "open libs/outer/.git",
        "read-tree libs/outer",
        "read-tree modules/inner",
        "remove restoring",
    ],
)
@pytest.mark.some(2)
def test_a_process_killed_in_between_leaves_nothing_half_made(step: str, repository: Path) -> None:
    """The next one makes the workspace anew and whole; what the dead one checked out is not taken for anybody's work."""
    (repository / "deps").mkdir()
    (repository / "deps/d").write_text("d\n")
    (repository / ".env").write_text("e\n")
    assert killed_before(step, repository.parent, repository, "one", "furnish")
    given = context(repository.parent, "one")
    if step == "remove restoring":
        Path(given.working_directory, "libs/outer/inner/i.txt").write_text("changed\n")
        Path(given.working_directory, "other/note").write_text("mine\n")
    manager = GitManager(repository, furnishing=WITH)
    with manager.create_workspace(given) as workspace:
        assert in_tree(workspace.path) == {name: text for name, text in FILES.items() if text is not None}
    theirs = [sorted(one.left) for one in manager.removals()]
    assert theirs == ([["libs/outer/inner/i.txt", "other/note"]] if step == "remove restoring" else [])
    git(repository, "fsck")
