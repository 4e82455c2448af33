"""What is noticed of what tasks must leave alone, and what is no finding."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from moderator.git.fingerprint import Fingerprint
from moderator.git.manager import GitManager
from moderator.git.repository import Repository
from repos import git, make_repository
from runs import execute_one, sample
from workspaces import context

HEAD = "HEAD of the main checkout"
HOOKS, STASH = "the hooks of the repository", "the stash"
CONFIG, INFO = "the repository's configuration", "the attributes or excludes of the repository"
OLD_HOOK = "#!/bin/sh\ntrue\n"


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repository with a hook, excludes, and a stash of two entries."""
    repo = make_repository(tmp_path / "repo", [("first", {"README.md": "# Sample\n"}), ("second", {"a": "a\n"})])
    hook(repo)
    (repo / ".git/info/exclude").write_text("*.o\n")
    for content in ("1", "2"):
        (repo / "README.md").write_text(content)
        git(repo, "stash", "push", "--quiet")
    return repo


def hook(repo: Path, content: str = OLD_HOOK, name: str = "pre-commit", mode: int = 0o755) -> None:
    path = repo / ".git/hooks" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    path.chmod(mode)


def differences(repo: Path, change: Callable[[Path], object]) -> list[str]:
    """What is reported of a change, whether the second look knows of the first or not."""
    repository = Repository.open(repo)
    before = Fingerprint.of(repository)
    change(repo)
    after, anew = Fingerprint.of(repository, before), Fingerprint.of(Repository.open(repo))
    assert before.differences(after) == before.differences(anew)
    assert after.differences(anew) == []
    return before.differences(after)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda repo: hook(repo, "#!/bin/sh\nfals\n"), [HOOKS]),
        (lambda repo: hook(repo, name="post-checkout"), [HOOKS]),
        (lambda repo: hook(repo, mode=0o644), [HOOKS]),
        (lambda repo: (repo / ".git/hooks/pre-commit").unlink(), [HOOKS]),
        (lambda repo: (repo / ".git/hooks").rename(repo / ".git/no-hooks"), [HOOKS]),
        (lambda repo: (repo / ".git/hooks/pre-push").symlink_to("pre-commit"), [HOOKS]),
        (lambda repo: git(repo, "stash", "drop", "--quiet", "stash@{1}"), [STASH]),
        (lambda repo: git(repo, "stash", "drop", "--quiet"), [STASH]),
        (lambda repo: git(repo, "stash", "clear"), [STASH]),
        (lambda repo: (repo / ".git/info/exclude").write_text("*\n"), [INFO]),
        (lambda repo: (repo / ".git/info/attributes").write_text("* -text\n"), [INFO]),
        (lambda repo: (repo / ".git/config.worktree").write_text("[core]\n\tbare = true\n"), [CONFIG]),
        (lambda repo: git(repo, "config", "core.hooksPath", ".hooks"), [CONFIG]),
        (lambda repo: git(repo, "update-ref", "-d", "refs/heads/main"), [HEAD]),
        (lambda repo: (repo / ".git/refs/heads/main").unlink(), [HEAD]),
        (lambda repo: git(repo, "update-ref", "refs/heads/main", "main~1"), [HEAD]),
        (lambda repo: git(repo, "reset", "--quiet", "--soft", "HEAD~1"), [HEAD]),
        (lambda repo: git(repo, "commit", "--quiet", "--amend", "-m", "other"), [HEAD]),
        (lambda repo: git(repo, "commit", "--quiet", "--allow-empty", "-m", "rogue"), [HEAD]),
        (lambda repo: git(repo, "switch", "--quiet", "--detach"), [HEAD]),
        (lambda repo: git(repo, "symbolic-ref", "HEAD", "refs/heads/unborn"), [HEAD]),
    ],
    ids=(
        "hook-content hook-new hook-mode hook-gone hooks-gone hook-link stash-older stash-newest stash-all "
        "excludes attributes worktree-config hooks-path "
        "branch-deleted branch-file-gone branch-moved soft-reset amended committed detached unborn"
    ).split(),
)
def test_each_change_is_named(repo: Path, change: Callable[[Path], object], found: list[str]) -> None:
    """Whatever is changed, exactly that is named."""
    assert differences(repo, change) == found


@pytest.mark.parametrize(
    "change",
    [
        lambda _: None,
        hook,
        lambda repo: os.utime(repo / ".git/hooks/pre-commit", (1, 1)),
        lambda repo: git(repo, "pack-refs", "--all"),
        lambda repo: git(repo, "reflog", "expire", "--all"),
        lambda repo: git(repo, "gc", "--quiet"),
        lambda repo: git(repo, "status"),
        lambda repo: git(repo, "branch", "side"),
        lambda repo: git(repo, "branch", "--force", "other", "main~1"),
    ],
    ids="nothing same-hook touched pack-refs expire gc status branch other-branch".split(),
)
def test_what_is_no_change_is_not_reported(repo: Path, change: Callable[[Path], object]) -> None:
    """Rewriting the same, packing, and ordinary work with branches that are not checked out are no findings."""
    git(repo, "branch", "other")
    assert differences(repo, change) == []


def test_a_branch_that_is_another_name_is_followed(repo: Path) -> None:
    """Where the branch that is checked out stands for another one, moving that one moves HEAD; packed or not."""
    git(repo, "symbolic-ref", "refs/heads/alias", "refs/heads/main")
    git(repo, "symbolic-ref", "HEAD", "refs/heads/alias")
    for packed in (False, True):
        if packed:
            git(repo, "pack-refs", "--all")
        assert differences(repo, lambda repo: git(repo, "commit", "--quiet", "--allow-empty", "-m", "more")) == [HEAD]


def test_hooks_that_are_kept_in_the_main_worktree_are_watched(repo: Path, tmp_path: Path) -> None:
    """`core.hooksPath` inside the main worktree counts as hooks; elsewhere it is not this repository's."""
    for place, found in ((repo / "tools/hooks", [HOOKS]), (tmp_path / "shared", [])):
        place.mkdir(parents=True)
        (place / "pre-commit").write_text(OLD_HOOK)
        git(repo, "config", "core.hooksPath", os.path.relpath(place, repo))
        assert differences(repo, lambda _, place=place: (place / "pre-commit").write_text("exit 1\n")) == found


def test_a_repository_without_any_of_it(tmp_path: Path) -> None:
    """A bare repository without index, hooks and stash has a fingerprint too; what comes to be is noticed."""
    bare = make_repository(tmp_path / "bare", bare=True)
    for name in ("hooks", "info"):
        (bare / name).rename(tmp_path / name)
    repository = Repository.open(bare)
    before = Fingerprint.of(repository)
    assert before.differences(Fingerprint.of(repository, before)) == []
    (tmp_path / "hooks").rename(bare / "hooks")
    assert before.differences(Fingerprint.of(repository, before)) == []  # samples, which git does not run
    (bare / "hooks/pre-receive").write_text(OLD_HOOK)
    assert before.differences(Fingerprint.of(repository, before)) == [HOOKS]


def test_a_second_look_starts_no_process(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing has changed, git is not asked: with no git to be found the look is the same."""
    manager = GitManager(repo)
    before = manager.fingerprint()
    monkeypatch.setenv("PATH", "/nonexistent")
    assert before.differences(manager.fingerprint()) == []


def test_a_stash_made_in_a_workspace_is_the_repository_s(tmp_path: Path, repo: Path) -> None:
    """All worktrees share one stash: a task that stashes is reported."""
    manager = GitManager(repo)
    with manager.create_workspace(context(tmp_path, "t")) as workspace:
        before = manager.fingerprint()
        Path(workspace.path, "README.md").write_text("theirs")
        git(workspace.path, "stash", "push", "--quiet")
        assert before.differences(manager.fingerprint()) == [STASH]


def test_a_task_that_touches_them_is_reported(tmp_path: Path) -> None:
    """The result of a task names each, and is no failure."""
    repository = sample(tmp_path)
    result = execute_one(
        repository,
        f"echo exit 1 > {repository}/.git/hooks/pre-commit; echo '*' > {repository}/.git/info/exclude; "
        "echo x > README.md; git stash push --quiet; echo y > README.md",
    )
    assert (result.success, result.notes) == (
        True,
        [f"{name} changed while the task ran" for name in (HOOKS, STASH, INFO)],
    )
