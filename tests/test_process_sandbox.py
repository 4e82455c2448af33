"""Commands that can write only where they are told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from moderator.context import IsolationLevel
from moderator.errors import ConfigurationError, EnvironmentProblem
from moderator.git.manager import GitManager
from moderator.git.values import Workspace
from moderator.process import Ended, Ending, Limits, run
from moderator.process.sandbox import find_sandbox, sandboxed
from repos import git, make_repository
from workspaces import BRANCH, DIRECTORY, FULL, NONE, context, listing


def why_not() -> str:
    try:
        find_sandbox("bwrap")
    except EnvironmentProblem as problem:
        return f"{problem.message}: {problem.cause}"
    return ""


needs_bwrap = pytest.mark.skipif(bool(why_not()), reason=why_not())


def test_what_is_put_around_a_command() -> None:
    """Everything is read-only but the given directories, each once and the outer before the inner; then the command as it was."""
    around = sandboxed(
        ["sh", "-c", "a 'b' --"], ["/w/t", "/r/objects/", "/r/objects/pack", "/w/tt", "/w/t"],
        program="/bin/bwrap", directory="/w/t", scratch="/w/t/tmp",
    )  # fmt: skip
    assert around == [
        "/bin/bwrap", "--ro-bind", "/", "/", "--dev-bind", "/dev", "/dev", "--bind", "/proc", "/proc",
        "--cap-drop", "CAP_SYS_ADMIN",
        "--bind", "/r/objects/", "/r/objects/", "--bind", "/w/t", "/w/t", "--bind", "/w/tt", "/w/tt",
        "--chdir", "/w/t", "--setenv", "TMPDIR", "/w/t/tmp", "--", "sh", "-c", "a 'b' --",
    ]  # fmt: skip


def test_no_sandbox_needs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `none` nothing is looked for; another word is a wrong setting."""
    monkeypatch.setenv("PATH", "/nonexistent")
    assert find_sandbox("none") == ""
    with pytest.raises(ConfigurationError, match="sandbox must be none or bwrap, not 'jail'"):
        find_sandbox("jail")


def test_a_sandbox_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for and not there: an error of the machine, with what to install."""
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(EnvironmentProblem) as caught:
        find_sandbox("bwrap")
    assert (caught.value.message, caught.value.hint, caught.value.exit_code) == (
        "sandbox: bwrap is set, and bubblewrap is not installed",
        "apt-get install bubblewrap, or set sandbox: none",
        4,
    )


@pytest.mark.parametrize(
    ("program", "cause"),
    [
        (
            "#!/bin/sh\necho 'bwrap: No permissions to create a new namespace' >&2\nexit 1\n",
            "bwrap: No permissions to create",
        ),
        ("#!/bin/sh\nexit 3\n", "exit code 3"),
        ("#!/nonexistent/interpreter\n", "No such file or directory"),
    ],
    ids="forbidden silent broken".split(),
)
def test_a_sandbox_that_does_not_work_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, cause: str
) -> None:
    """It is tried before anything depends on it, and its own words are passed on."""
    fake = tmp_path / "bwrap"
    fake.write_text(program)
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentProblem) as caught:
        find_sandbox("bwrap")
    assert caught.value.message == f"sandbox: bwrap is set, and {fake} does not work here"
    assert cause in caught.value.cause
    assert caught.value.hint.endswith("or set sandbox: none")


def inside(workspace: Workspace, manager: GitManager, script: str, limits: Limits | None = None) -> Ended:
    """Run a script in a workspace as a task in a sandbox runs."""
    scratch = Path(workspace.state_dir, "tmp")
    scratch.mkdir(parents=True, exist_ok=True)
    command = sandboxed(
        ["sh", "-c", script], manager.writable_for(workspace),
        program=find_sandbox("bwrap"), directory=os.path.realpath(workspace.path), scratch=os.path.realpath(scratch),
    )  # fmt: skip
    log = Path(workspace.state_dir, "output.log")
    return run(command, cwd=workspace.path, env=os.environ, log=log, limits=limits or Limits(timeout=60, grace=10))


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "repo", [("first", {"a.txt": "1\n"})])


@needs_bwrap
@pytest.mark.parametrize("level", [FULL, DIRECTORY])
def test_a_task_writes_in_its_workspace_and_nowhere_else(tmp_path: Path, repo: Path, level: IsolationLevel) -> None:
    """Its files, a commit and temporary files are its own; the main checkout, what it shares and all else are read-only."""
    manager = GitManager(repo)
    home = Path(os.environ["HOME"])
    manager.create_workspace(context(tmp_path, "other")).release()
    with manager.create_workspace(context(tmp_path, "t", level)) as workspace:
        outside = [
            repo / name for name in ("a.txt", "new", ".git/config", ".git/HEAD", ".git/index", ".git/hooks/pre-commit")
        ]
        outside += [tmp_path / "checkouts/tasks/other/new", home / "new", repo / ".git/moderator/workspaces/t.json"]
        before = listing(repo, tmp_path / "checkouts/tasks/other", home)
        script = "".join(f"echo x >> {place}; " for place in outside)
        ended = inside(workspace, manager, script + "git config a.b c; exit 7")
        refused = ended.stderr.splitlines()
        assert [f"{place}: Read-only file system" in line for place, line in zip(outside, refused, strict=False)] == [
            True
        ] * len(outside)
        assert "could not lock config file" in refused[-1]
        assert (ended.ending, ended.exit_code, listing(repo, tmp_path / "checkouts/tasks/other", home)) == (
            Ending.EXITED, 7, before,
        )  # fmt: skip
        ended = inside(
            workspace, manager,
            "pwd; cat ../other/a.txt; echo 2 > a.txt; echo n > new; mktemp;"
            " git add -A && git commit -qm work && git status -s; git branch extra",
        )  # fmt: skip
        where, read, made = ended.stdout.splitlines()
        assert (where, read, made.startswith(f"{workspace.state_dir}/tmp/")) == (workspace.path, "1", True)
        allowed = level is FULL
        assert (ended.exit_code == 0, git(repo, "branch", "--list", "extra") != "") == (allowed, allowed)
        assert git(workspace.path, "log", "-1", "--format=%s", "--name-status", "HEAD") == "work\n\nM\ta.txt\nA\tnew"
        if workspace.branch:
            assert git(repo, "show", f"{workspace.branch}:new") == "n"
    assert (git(repo, "status", "--short"), git(repo, "fsck")) == ("", "")


@needs_bwrap
@pytest.mark.parametrize("level", [BRANCH, NONE])
def test_at_levels_in_the_checkout_the_checkout_is_writable(tmp_path: Path, repo: Path, level: IsolationLevel) -> None:
    """There the checkout is the workspace; what is outside the repository stays read-only."""
    manager = GitManager(repo)
    with manager.create_workspace(context(tmp_path, "t", level, checkout=repo)) as workspace:
        ended = inside(workspace, manager, f"echo 2 > a.txt; git add a.txt; echo x > {tmp_path}/x")
    assert ended.stderr.endswith(f"{tmp_path}/x: Read-only file system\n")
    assert git(repo, "status", "--short") == "M  a.txt"


@needs_bwrap
def test_the_processes_of_a_sandbox_are_seen_and_ended(tmp_path: Path, repo: Path) -> None:
    """What a command leaves behind is ended as without a sandbox, and one that is asked to end is given its time."""
    manager = GitManager(repo)
    with manager.create_workspace(context(tmp_path, "t")) as workspace:
        ended = inside(workspace, manager, "setsid sh -c 'sleep 600 & sleep 600' > /dev/null 2>&1 & sleep 0.2")
        assert (ended.ending, ended.exit_code, ended.leftovers > 0) == (Ending.EXITED, 0, True)
        ended = inside(
            workspace, manager, "trap 'sleep 0.1; echo tidied > tidied; exit' TERM; while :; do sleep 0.02; done",
            Limits(timeout=0.5, grace=10),
        )  # fmt: skip
        assert ended.ending is Ending.TIMED_OUT
        assert Path(workspace.path, "tidied").read_text() == "tidied\n"


@needs_bwrap
def test_a_folder_of_workspaces_behind_a_link_is_writable(tmp_path: Path, repo: Path) -> None:
    """Links on the way to a workspace are followed before, for a sandbox would not follow them."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "checkouts").symlink_to("disk")
    manager = GitManager(repo)
    with manager.create_workspace(context(tmp_path, "t")) as workspace:
        ended = inside(workspace, manager, "echo n > new && git add new && git commit -qm work")
    assert (ended.exit_code, ended.stderr, git(repo, "show", "main-task-t:new")) == (0, "", "n")
