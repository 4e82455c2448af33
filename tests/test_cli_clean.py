"""`moderator clean`: removed is what holds nothing unsaved; the rest is kept, and named."""

from __future__ import annotations

from pathlib import Path

import pytest

from commandline import PATIENCE, document, ids, moderator, picture, started, task_list, wait_until
from repos import git, make_repository


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with three workspaces: `done` can go, `half` and `secret` hold what is in no commit."""
    repository = make_repository(tmp_path / "sample", [("first", {"README.md": "# Sample\n", ".gitignore": "*.key\n"})])
    listed = task_list(
        tmp_path / "t",
        {"id": "done", "run": "echo new > new"},
        {"id": "half", "run": "echo half > half; echo 1 > README.md; exit 1"},
        {"id": "secret", "run": "echo key > a.key"},
    )
    assert moderator(repository, "run", listed).returncode == 1
    return repository


def refused(repository: Path, task: str, *findings: str) -> str:
    workspace = f"{repository}.moderator/tasks/{task}"
    hint = "commit or move what you want, delete what you do not, and try again"
    if findings == SECRET:
        hint = f"if these can be made again, delete them: git -C {workspace} clean -fdX"
    return "".join(
        (
            f"error: removing the workspace of task {task!r} would lose work in {workspace!r}\n",
            *(f"    {finding}\n" for finding in findings),
            f"  hint: {hint}\n",
        )
    )


HALF = ("changed, not committed: README.md", "untracked: half")
SECRET = ("ignored by git, so in no commit: a.key",)


def test_clean_removes_what_holds_nothing_unsaved(repository: Path) -> None:
    """The worktree goes, the branch stays, and git knows of no worktree there."""
    done = moderator(repository, "clean", "done")
    assert (done.returncode, done.stdout, done.stderr) == (0, "removed done; its branch main-task-done stays\n", "")
    assert ids(document(moderator(repository, "list", "--json"))["workspaces"]) == ["half", "secret"]
    assert not Path(f"{repository}.moderator/tasks/done").exists()
    assert git(repository, "show", "main-task-done:new") == "new"
    assert "tasks/done" not in git(repository, "worktree", "list")


def test_clean_all_keeps_what_would_be_lost(repository: Path) -> None:
    """Each workspace that is kept is named with everything in it that is in no commit; exit 3, nothing of them touched."""
    before = picture(*(Path(f"{repository}.moderator/tasks/{task}") for task in ("half", "secret")))
    done = moderator(repository, "clean", "--all")
    assert (done.returncode, done.stdout) == (3, "removed done; its branch main-task-done stays\n")
    assert done.stderr == refused(repository, "half", *HALF) + refused(repository, "secret", *SECRET)
    assert picture(*(Path(f"{repository}.moderator/tasks/{task}") for task in ("half", "secret"))) == before
    assert ids(document(moderator(repository, "list", "--json"))["workspaces"]) == ["half", "secret"]


@pytest.mark.parametrize("names", [["--all"], ["half", "secret", "done"]], ids=" ".join)
def test_a_dry_run_says_the_same_and_does_nothing(repository: Path, names: list[str], tmp_path: Path) -> None:
    """`--dry-run` judges every workspace as a real call would, and changes no file anywhere."""
    before = picture(tmp_path)
    done = moderator(repository, "clean", "--dry-run", *names)
    assert (done.returncode, done.stdout) == (3, "would remove done; its branch main-task-done stays\n")
    assert done.stderr == refused(repository, "half", *HALF) + refused(repository, "secret", *SECRET)
    assert picture(tmp_path) == before


def test_clean_as_json(repository: Path) -> None:
    """One document with each workspace, whether it was removed and why not; the exit code is the same."""

    def entry(task: str, removed: bool, *reasons: str) -> dict[str, object]:
        return {
            "task_id": task, "path": f"{repository}.moderator/tasks/{task}", "branch": f"main-task-{task}",
            "removed": removed, "would_remove": not reasons, "reasons": list(reasons),
        }  # fmt: skip

    for dry in (True, False):
        done = moderator(repository, "clean", "--all", "--json", *(["--dry-run"] if dry else []))
        assert (done.returncode, done.stderr, document(done)) == (
            3, "",
            {
                "dry_run": dry,
                "workspaces": [entry("done", not dry), entry("half", False, *HALF), entry("secret", False, *SECRET)],
            },
        )  # fmt: skip


def test_what_is_taken_care_of_can_go(repository: Path) -> None:
    """After the person committed or deleted what was there, the same call removes it."""
    half = f"{repository}.moderator/tasks/half"
    git(half, "add", "--all")
    git(half, "commit", "-qm", "by hand")
    Path(f"{repository}.moderator/tasks/secret/a.key").unlink()
    done = moderator(repository, "clean", "--all")
    assert (done.returncode, len(done.stdout.splitlines()), done.stderr) == (0, 3, "")
    assert git(repository, "show", "main-task-half:half") == "half"
    again = moderator(repository, "clean", "--all")
    assert (again.returncode, again.stdout) == (0, "there are no workspaces\n")


def test_one_name_that_is_wrong_changes_nothing(repository: Path) -> None:
    """All names are looked up before the first workspace is removed."""
    done = moderator(repository, "clean", "done", "haalf")
    assert (done.returncode, done.stdout, done.stderr) == (
        2, "", "error: no workspace belongs to 'haalf'\n  hint: did you mean 'half'?\n",
    )  # fmt: skip
    assert ids(document(moderator(repository, "list", "--json"))["workspaces"]) == ["done", "half", "secret"]


@pytest.mark.parametrize("names", [[], ["--all", "done"]], ids=["none", "both"])
def test_which_ones_must_be_said(repository: Path, names: list[str]) -> None:
    """Some by name or all of them: neither and both are refused."""
    done = moderator(repository, "clean", *names)
    assert (done.returncode, done.stdout, done.stderr) == (
        2, "",
        "error: say which workspaces to remove: some by name, or all of them\n"
        "  hint: moderator clean TASK..., or moderator clean --all\n",
    )  # fmt: skip


def test_a_workspace_named_twice_is_removed_once(repository: Path) -> None:
    """By id and by branch it is the same workspace."""
    done = moderator(repository, "clean", "done", "main-task-done", "done")
    assert (done.returncode, done.stdout) == (0, "removed done; its branch main-task-done stays\n")


def test_a_workspace_that_a_task_runs_in_is_held(repository: Path, tmp_path: Path) -> None:
    """While a task runs, nobody removes its workspace: exit 75, and the task goes on."""
    run = f"touch {tmp_path}/on; while ! [ -e {tmp_path}/go ]; do sleep 0.02; done; echo x > x"
    with started(repository, "run", task_list(tmp_path / "t", {"id": "busy", "run": run})) as running:
        wait_until((tmp_path / "on").exists)
        for options in ([], ["--dry-run"]):
            done = moderator(repository, "clean", "busy", *options)
            assert (done.returncode, done.stdout) == (75, "")
            assert done.stderr.startswith(f"error: the workspace of task 'busy' is held by process {running.pid} on ")
        (tmp_path / "go").touch()
        running.communicate(timeout=PATIENCE)
    assert (running.returncode, git(repository, "show", "main-task-busy:x")) == (0, "x")


def test_a_workspace_that_a_person_locked_is_respected(repository: Path) -> None:
    """`git worktree lock` is a person's word: exit 3 with the reason, until it is unlocked."""
    path = f"{repository}.moderator/tasks/done"
    git(repository, "worktree", "unlock", path)
    git(repository, "worktree", "lock", "--reason", "on my stick", path)
    done = moderator(repository, "clean", "done")
    assert (done.returncode, done.stdout, done.stderr.splitlines()[0]) == (
        3, "", "error: the worktree of task 'done' is locked: on my stick",
    )  # fmt: skip
    assert Path(path).is_dir()
    git(repository, "worktree", "unlock", path)
    assert moderator(repository, "clean", "done").returncode == 0
