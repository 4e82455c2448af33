"""The one runner of git commands: environment, hostile settings, failures in words."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from moderator.errors import EnvironmentProblem, GitFailed, NotARepository
from moderator.git.command import LOCAL_ENVIRONMENT, run_git, scrubbed_environment
from moderator.git.manager import GitManager
from repos import git, make_repository


def script(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def test_every_variable_that_ties_git_to_a_repository_is_known(tmp_path: Path) -> None:
    """Whatever the installed git calls local to a repository is taken out of its environment."""
    assert set(git(tmp_path, "rev-parse", "--local-env-vars").split()) - LOCAL_ENVIRONMENT == set()


def test_an_environment_is_scrubbed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repository variables and configuration by number go, everything else stays, and what a call adds wins."""
    given = {
        b"GIT_DIR": b"/x",
        b"GIT_CONFIG_COUNT": b"1",
        b"GIT_CONFIG_KEY_0": b"a.b",
        b"GIT_CONFIG_VALUE_0": b"c",
        b"HOME": b"/h",
    }
    assert scrubbed_environment({"GIT_INDEX_FILE": "i"}, given) == {b"HOME": b"/h", b"GIT_INDEX_FILE": b"i"}


def test_a_failure_has_gits_own_words(tmp_path: Path) -> None:
    """A command that fails names the command, not its options, and carries what git said."""
    repo = make_repository(tmp_path / "repo")
    with pytest.raises(GitFailed) as caught:
        run_git("--no-pager", "rev-parse", "--verify", "no-such", cwd=str(repo))
    assert (caught.value.message, caught.value.cause) == (
        f"git rev-parse in {str(repo)!r} failed with exit code 128",
        "fatal: Needed a single revision",
    )


def test_a_command_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its time limit a command is killed with everything it started, and the error says so."""
    script(tmp_path / "bin/git", "echo $$ > pid; exec sleep 600")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    with pytest.raises(EnvironmentProblem, match=r"did not end within 0\.5 seconds"):
        run_git("status", cwd=str(tmp_path), timeout=0.5)
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()


@pytest.mark.parametrize(
    ("body", "message", "hint"),
    [
        (None, "git is not installed, or not on PATH", "install git 2.38 or newer"),
        (
            "echo git version 2.30.2",
            "git is too old: found 'git version 2.30.2', 2.38 is needed",
            "install git 2.38 or newer",
        ),
    ],
    ids=["missing", "too old"],
)
def test_git_itself_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str | None, message: str, hint: str
) -> None:
    """A git that is missing or too old is said so, with what to install."""
    repo = make_repository(tmp_path / "repo")
    (tmp_path / "bin").mkdir()
    if body:
        script(tmp_path / "bin/git", body)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(EnvironmentProblem) as caught:
        GitManager(repo)
    assert (caught.value.message, caught.value.hint, caught.value.exit_code) == (message, hint, 4)


def test_a_directory_that_is_gone_is_not_taken_for_a_missing_git(tmp_path: Path) -> None:
    """A working directory that does not exist is named as such."""
    with pytest.raises(EnvironmentProblem, match="does not exist"):
        run_git("version", cwd=str(tmp_path / "nowhere"))


def test_contention_is_waited_out(tmp_path: Path) -> None:
    """A repeatable command succeeds once the lock that somebody held is gone; any other fails at once."""
    repo = make_repository(tmp_path / "repo")
    lock = repo / ".git/config.lock"
    lock.touch()
    with pytest.raises(GitFailed):
        run_git("config", "a.b", "1", cwd=str(repo))
    with subprocess.Popen(["sh", "-c", f"sleep 0.2; rm '{lock}'"]) as freeing:
        run_git("config", "a.b", "2", cwd=str(repo), repeatable=True)
        freeing.wait()
    assert git(repo, "config", "a.b") == "2"


def test_a_moved_ref_is_no_contention(tmp_path: Path) -> None:
    """A ref that is not where it was expected fails although the command is repeatable: waiting would not mend it."""
    repo = make_repository(tmp_path / "repo", [("one", {"a": "1"}), ("two", {"a": "2"})])
    old = git(repo, "rev-parse", "main~1")
    with pytest.raises(GitFailed, match="update-ref"):
        run_git("update-ref", "refs/heads/main", old, old, cwd=str(repo), repeatable=True, timeout=5)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a repository to somebody else")
def test_a_repository_of_somebody_else_is_refused_with_the_command_to_type(tmp_path: Path) -> None:
    """What safe.directory refuses is a usage error whose hint is git's own cure, and the cure works."""
    repo = make_repository(tmp_path / "repo")
    for path in (repo, repo / ".git"):
        os.chown(path, 12345, 12345)
    with pytest.raises(NotARepository, match="belongs to another user") as caught:
        GitManager(repo)
    command = caught.value.hint.partition(": ")[2]
    assert (command, caught.value.exit_code) == (f"git config --global --add safe.directory {repo}", 2)
    git(tmp_path, *command.split()[1:])
    assert GitManager(repo).main_worktree == str(repo)
