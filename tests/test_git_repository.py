"""Opening a repository from anywhere, and what a base is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from moderator.errors import NotARepository, UnknownRevision
from moderator.git.manager import GitManager
from moderator.git.repository import Base
from repos import git, git_processes, make_repository
from workspaces import context, files

COMMITS = [("first", {"a.txt": "1\n", "src/b.txt": "b\n"}), ("second", {"a.txt": "2\n"})]


def works(folder: Path, opened: Path | str, expected: dict[str, bytes]) -> None:
    """Opened there, a workspace can be made, committed in and removed."""
    manager = GitManager(opened)
    with manager.create_workspace(context(folder / "of workspaces", "t"), base="main") as workspace:
        assert files(workspace.path) == expected
        (Path(workspace.path) / "new").write_text("new\n")
        assert manager.commit(workspace, "work") is not None
    manager.remove_workspace("t")
    assert manager.workspaces() == []


def test_it_opens_from_every_place_in_a_repository(tmp_path: Path) -> None:
    """The top, a subdirectory, the git directory and a linked worktree are all the same repository."""
    repo = make_repository(tmp_path / "repo", COMMITS)
    git(repo, "worktree", "add", "--quiet", tmp_path / "linked")
    places = [repo, repo / "src", repo / ".git", tmp_path / "linked/src"]
    managers = [GitManager(place) for place in places]
    assert {(m.state_root, m.main_worktree, m.default_root) for m in managers} == {
        (str(repo / ".git/moderator"), str(repo), str(tmp_path / "repo.moderator"))
    }
    assert [m.checkout for m in managers] == [str(repo), str(repo), None, str(tmp_path / "linked")]
    works(tmp_path, tmp_path / "linked/src", files(repo))


def test_it_opens_bare_repositories(tmp_path: Path) -> None:
    """A bare repository has no checkout, and its workspaces have files all the same; so has a worktree of it."""
    expected = files(make_repository(tmp_path / "plain", COMMITS))
    bare = make_repository(tmp_path / "bare.git", COMMITS, bare=True)
    manager = GitManager(bare)
    assert (manager.main_worktree, manager.checkout, manager.default_root) == (None, None, f"{bare}.moderator")
    works(tmp_path, bare, expected)
    git(bare, "worktree", "add", "--quiet", "-b", "side", tmp_path / "linked", "main")
    works(tmp_path / "again", bare, expected) if git(bare, "branch", "-D", "main-task-t") else None
    git(bare, "branch", "-D", "main-task-t")
    works(tmp_path / "thrice", tmp_path / "linked", expected)


@pytest.mark.parametrize("name", [b"with spaces and 'quotes'", b"\xff\xe9 bytes", b"-dash", "日本".encode()])
def test_it_opens_paths_in_any_bytes(tmp_path: Path, name: bytes) -> None:
    """A repository may be called whatever the file system allows."""
    where = tmp_path / os.fsdecode(name)
    repo = make_repository(where, COMMITS)
    works(where, repo, files(repo))


def test_a_line_break_in_the_path_is_refused(tmp_path: Path) -> None:
    """Git keeps paths of worktrees a line each, so such a repository is refused and not mistaken for another."""
    make_repository(tmp_path / "a", COMMITS)
    for make in (make_repository(tmp_path / "a\nb", COMMITS), make_repository(tmp_path / "a\nc", COMMITS, bare=True)):
        with pytest.raises(NotARepository, match="line break"):
            GitManager(make)


def test_it_opens_a_separate_git_directory(tmp_path: Path) -> None:
    """A checkout whose git directory is elsewhere is one repository with it."""
    (tmp_path / "repo").mkdir()
    git(tmp_path / "repo", "init", "--quiet", "--separate-git-dir", tmp_path / "storage")
    (tmp_path / "repo/a.txt").write_text("a\n")
    git(tmp_path / "repo", "add", ".")
    git(tmp_path / "repo", "commit", "--quiet", "-m", "first")
    assert GitManager(tmp_path / "repo").state_root == str(tmp_path / "storage/moderator")
    works(tmp_path, tmp_path / "repo", {"a.txt": b"a\n"})


def test_it_opens_a_submodule(tmp_path: Path) -> None:
    """A submodule is a repository of its own, whose workspaces are not its superproject's."""
    library, repo = make_repository(tmp_path / "library", COMMITS), make_repository(tmp_path / "repo")
    git(repo, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", library, "library")
    assert GitManager(repo / "library").main_worktree == str(repo / "library")
    works(tmp_path, repo / "library", files(library))


def test_what_is_no_repository_is_said_so(tmp_path: Path) -> None:
    """A plain directory, a file and nothing at all are usage errors with a hint."""
    (tmp_path / "file").touch()
    for where in (tmp_path, tmp_path / "file", tmp_path / "nowhere"):
        with pytest.raises(NotARepository) as caught:
            GitManager(where)
        assert (caught.value.exit_code, bool(caught.value.hint), str(where) in caught.value.message) == (2, True, True)


def test_the_environment_of_a_hook_does_not_lead_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Called from inside another repository's hook, it is the named repository that is opened and worked on."""
    repo, other = make_repository(tmp_path / "repo", COMMITS), make_repository(tmp_path / "other")
    before = git(other, "for-each-ref"), files(other)
    for name, value in {
        "GIT_DIR": other / ".git",
        "GIT_WORK_TREE": other,
        "GIT_INDEX_FILE": other / ".git/index",
        "GIT_OBJECT_DIRECTORY": other / ".git/objects",
        "GIT_COMMON_DIR": other / ".git",
        "GIT_PREFIX": "src/",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.bare",
        "GIT_CONFIG_VALUE_0": "true",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_EXTERNAL_DIFF": "false",
    }.items():
        monkeypatch.setenv(name, str(value))
    manager = GitManager(repo)
    with manager.create_workspace(context(tmp_path, "t")) as workspace:
        (Path(workspace.path) / "new").write_text("new\n")
        made = manager.commit(workspace, "work")
        assert [commit.id for commit in manager.log(workspace)] == [made.id if made else ""]
        assert [change.path for change in manager.diff(workspace)] == ["new"]
        assert b"+new" in manager.patch(workspace)
    manager.remove_workspace("t")
    monkeypatch.undo()
    assert (git(other, "for-each-ref"), files(other)) == before
    assert git(repo, "log", "--format=%s", "main..main-task-t") == "work"


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """Two commits on main; `feature/x` and both kinds of tag at the first; the same name as branch and as tag."""
    upstream = make_repository(tmp_path / "upstream", COMMITS)
    git(upstream, "branch", "release/1", "main~1")
    git(tmp_path, "clone", "--quiet", "--origin", "up/stream", upstream, tmp_path / "repo")
    repo = tmp_path / "repo"
    git(repo, "branch", "feature/x", "main~1")
    git(repo, "tag", "v1", "main~1")
    git(repo, "tag", "-a", "-m", "release", "v2", "main~1")
    git(repo, "branch", "both", "main~1")
    git(repo, "tag", "both", "main")
    git(repo, "tag", "-a", "-m", "tree", "of-tree", "main^{tree}")
    return repo


def test_everything_that_names_a_commit_is_a_base(repo: Path) -> None:
    """A branch and a tag keep their name, a remote's branch loses the remote, all else is called by its first digits."""
    first, second = git(repo, "rev-parse", "main~1"), git(repo, "rev-parse", "main")
    manager = GitManager(repo)
    expected = {
        "": Base("main", second),
        "HEAD": Base("main", second),
        "@": Base("main", second),
        "main": Base("main", second),
        "refs/heads/main": Base("main", second),
        "feature/x": Base("feature/x", first),
        "v1": Base("v1", first),
        "v2": Base("v2", first),
        "refs/tags/v2": Base("v2", first),
        "both": Base("both", first),
        "up/stream/main": Base("main", second),
        "up/stream/release/1": Base("release/1", first),
        first: Base(first[:12], first),
        first[:8]: Base(first[:12], first),
        "main~1": Base(first[:12], first),
        "HEAD~1": Base(first[:12], first),
        "main^{/first}": Base(first[:12], first),
    }
    assert {revision: manager.resolve_base(revision) for revision in expected} == expected


def test_a_branch_is_found_however_it_is_stored(tmp_path: Path, repo: Path) -> None:
    """One with a file of its own costs no process; a packed one, a symbolic one, a file that is no ref: git is asked."""
    first, second = git(repo, "rev-parse", "main~1"), git(repo, "rev-parse", "main")
    git(repo, "pack-refs", "--all")
    git(repo, "update-ref", "refs/heads/main", first)  # what is packed is older
    git(repo, "symbolic-ref", "refs/heads/link", "refs/heads/main")
    (repo / ".git/refs/heads/feature").mkdir(exist_ok=True)
    (repo / ".git/refs/heads/feature/x.lock").write_text(f"{second}\n")
    manager = GitManager(repo)
    with git_processes(tmp_path / "trace") as commands:
        assert manager.resolve_base("main") == Base("main", first)
    assert commands == []
    assert [manager.resolve_base(name) for name in ("link", "feature/x")] == [
        Base("link", first),
        Base("feature/x", first),
    ]
    for name in ("feature/x.lock", "../heads/main", "feature"):
        with pytest.raises(UnknownRevision):
            manager.resolve_base(name)


@pytest.mark.parametrize(
    "revision",
    ["-x", "--all", "^main", "main..v1", "no-such", "of-tree", "main:a.txt", " ", "\0", "0" * 40, "ma\nin", "a" * 300],
)
def test_what_names_no_commit_is_refused(tmp_path: Path, repo: Path, revision: str) -> None:
    """An unknown base, or one that could pose as an option, is a usage error and makes nothing."""
    manager = GitManager(repo)
    refs = git(repo, "for-each-ref")
    with pytest.raises(UnknownRevision) as caught:
        manager.create_workspace(context(tmp_path, "t"), base=revision)
    assert (caught.value.exit_code, bool(caught.value.hint)) == (2, True)
    assert (manager.workspaces(), git(repo, "for-each-ref")) == ([], refs)
    assert list((repo / ".git/moderator").rglob("*.lock")) == []


def test_a_misspelt_base_gets_a_suggestion(repo: Path) -> None:
    """The hint of an unknown base names what is close to it."""
    with pytest.raises(UnknownRevision) as caught:
        GitManager(repo).resolve_base("faeture/x")
    assert caught.value.hint == "did you mean 'feature/x'?"


def test_a_branch_without_commits_gets_a_clear_answer(tmp_path: Path) -> None:
    """In a repository without commits there is nothing to fork from, by whatever name it is asked for."""
    manager = GitManager(make_repository(tmp_path / "repo", []))
    for revision in ("", "HEAD", "main"):
        with pytest.raises(UnknownRevision, match="the branch 'main' has no commits yet"):
            manager.resolve_base(revision)
    with pytest.raises(UnknownRevision, match="has no commits yet"):
        manager.create_workspace(context(tmp_path, "t"))


def test_a_detached_head_is_called_by_its_commit(tmp_path: Path, repo: Path) -> None:
    """A workspace can fork from a detached HEAD; its branch is named for the commit."""
    git(repo, "checkout", "--quiet", "--detach", "main~1")
    manager = GitManager(repo)
    base = manager.resolve_base()
    assert base == Base(git(repo, "rev-parse", "HEAD")[:12], git(repo, "rev-parse", "HEAD"))
    with manager.create_workspace(context(tmp_path, "t", base=base.name)) as workspace:
        assert (workspace.branch, workspace.base) == (f"{base.name}-task-t", base.commit)
