"""`sandbox: bwrap` as a run sees it: tasks that write elsewhere fail, and nothing is begun where there is no sandbox."""

from __future__ import annotations

from pathlib import Path

import pytest

from commandline import document, moderator, picture, task_list
from moderator.errors import EnvironmentProblem
from moderator.process.sandbox import find_sandbox
from repos import git, make_repository


def why_not() -> str:
    try:
        find_sandbox("bwrap")
    except EnvironmentProblem as problem:
        return f"{problem.message}: {problem.cause}"
    return ""


needs_bwrap = pytest.mark.skipif(bool(why_not()), reason=why_not())


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository whose configuration asks for a sandbox."""
    return make_repository(tmp_path / "sample", [("first", {"moderator.yaml": "sandbox: bwrap\n", "a.txt": "1\n"})])


@needs_bwrap
@pytest.mark.parametrize("isolation", ["full", "directory"])
def test_a_task_that_writes_into_the_main_checkout_fails(repository: Path, tmp_path: Path, isolation: str) -> None:
    """Its own work is committed as ever; a neighbour that goes astray gets an error, and the checkout is as it was."""
    before = picture(
        repository / "a.txt", repository / ".git/hooks", repository / ".git/config", repository / ".git/HEAD"
    )
    tasks = task_list(
        tmp_path / "t",
        {"id": "good", "run": "echo 2 > a.txt; mktemp; echo s > $MODERATOR_STATE_DIR/note"},
        {"id": "astray", "run": f"set -e; echo 3 > mine; echo 2 > {repository}/a.txt"},
    )
    done = moderator(repository, "run", tasks, "--isolation", isolation)
    assert done.returncode == 1
    shown = document(moderator(repository, "show", "astray", "--json"))["attempt"]
    assert (shown["outcome"], shown["notes"], shown["error_message"].endswith(f"{repository}/a.txt: Read-only file system")) == (
        "failed", [], True,
    )  # fmt: skip
    ref = "main-task-good" if isolation == "full" else "refs/moderator/result/good"
    assert git(repository, "show", f"{ref}:a.txt") == "2"
    assert Path(f"{repository}.moderator/tasks/astray/mine").read_text() == "3\n"
    assert git(repository, "status", "--short") == ""
    assert (
        picture(repository / "a.txt", repository / ".git/hooks", repository / ".git/config", repository / ".git/HEAD")
        == before
    )


@needs_bwrap
def test_a_branch_is_in_reach_and_watched(repository: Path, tmp_path: Path) -> None:
    """Refs have to be writable inside, so a task can take the branch away that is checked out: it is reported."""
    listed = task_list(tmp_path / "t", {"id": "one", "run": f"rm -rf {repository}/.git/refs/heads/main"})
    assert moderator(repository, "run", listed).returncode == 0
    shown = document(moderator(repository, "show", "one", "--json"))["attempt"]
    assert shown["notes"] == ["HEAD of the main checkout changed while the task ran"]


def test_without_a_sandbox_nothing_is_begun(repository: Path, tmp_path: Path) -> None:
    """Asked for and not there: exit 4 with what to do, no workspace, no branch, no record of a run."""
    import shutil

    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("git", "sh"):
        (tools / name).symlink_to(str(shutil.which(name)))
    before = picture(repository)
    done = moderator(repository, "run", task_list(tmp_path / "t", {"id": "one", "run": "true"}), PATH=str(tools))
    assert (done.returncode, done.stdout, done.stderr.splitlines()[-2:]) == (
        4, "",
        [
            "error: sandbox: bwrap is set, and bubblewrap is not installed",
            "  hint: apt-get install bubblewrap, or set sandbox: none",
        ],
    )  # fmt: skip
    assert picture(repository) == before
    assert not Path(f"{repository}.moderator").exists()
