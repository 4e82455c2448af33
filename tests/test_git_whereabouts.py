"""What has become of a commit: held, merged, loose or gone, and nothing said where git cannot tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from moderator.git.repository import Repository
from moderator.git.whereabouts import Whereabouts, find_whereabouts
from repos import git, make_repository


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repository whose commit of work no ref names any more; `main` is checked out."""
    repo = make_repository(tmp_path / "repo", [("first", {"a": "1\n"})])
    git(repo, "switch", "--quiet", "-c", "work")
    (repo / "a").write_text("2\n")
    git(repo, "commit", "--quiet", "-am", "work")
    git(repo, "switch", "--quiet", "main")
    return repo


def test_each_place_is_told(repo: Path, tmp_path: Path) -> None:
    """By a branch, another ref or the HEAD of a worktree; by what the branch has of it; by nothing; not there at all."""
    work, never = git(repo, "rev-parse", "work"), "0123456789" * 4

    def now(branch: str = "main") -> list[Whereabouts]:
        found = find_whereabouts(Repository.open(repo), [work, never], branch)
        assert found.pop(never) is Whereabouts.GONE
        return list(found.values())

    assert now() == [Whereabouts.HELD]
    git(repo, "update-ref", "refs/elsewhere/work", work)
    git(repo, "branch", "-D", "work")
    assert now() == [Whereabouts.HELD]
    git(repo, "update-ref", "-d", "refs/elsewhere/work")
    assert (now(), now("no-such-branch")) == ([Whereabouts.LOOSE], [Whereabouts.LOOSE])
    git(repo, "worktree", "add", "--quiet", "--detach", tmp_path / "tree", work)
    assert now() == [Whereabouts.HELD]
    git(repo, "worktree", "remove", tmp_path / "tree")
    git(repo, "merge", "--quiet", "--squash", work)
    git(repo, "commit", "--quiet", "-m", "squashed")
    assert now() == [Whereabouts.MERGED]


def test_where_git_cannot_tell_nothing_is_said(repo: Path) -> None:
    """A ref that leads to nothing makes every answer a guess; only what is not there is known not to be."""
    work = git(repo, "rev-parse", "work")
    (repo / ".git/refs/heads/broken").write_text("f" * 40 + "\n")
    assert find_whereabouts(Repository.open(repo), [work], "main") == {}
    assert find_whereabouts(Repository.open(repo), [], "main") == {}
