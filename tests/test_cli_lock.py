"""`moderator lock` and `unlock`: what a person locked stays, and what another machine left can be freed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from commandline import document, moderator, picture, started, task_list, wait_until
from moderator.git.manager import GitManager
from repos import git, make_repository
from workspaces import BRANCH, context


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one workspace, of task `t_1`, that holds nothing unsaved."""
    repository = make_repository(tmp_path / "sample")
    checkouts = context(Path(f"{repository}.moderator"), "t_1")
    checkouts.working_directory = f"{repository}.moderator/tasks/t_1"
    GitManager(repository).create_workspace(checkouts).release()
    return repository


def locked_file(repository: Path) -> Path:
    (entry,) = (repository / ".git/worktrees").iterdir()
    return entry / "locked"


def test_what_is_locked_stays_until_it_is_unlocked(repository: Path, tmp_path: Path) -> None:
    """A locked workspace is shown as such and survives every way of removing it; unlocked, its entry is as it was made."""
    as_made = picture(repository / ".git/worktrees")
    done = moderator(repository, "lock", "t_1", "--reason", "the demo\non Friday \x1b[31m")
    assert (done.returncode, done.stdout, done.stderr) == (0, "locked t_1: the demo on Friday [31m\n", "")
    assert locked_file(repository).read_bytes() == b"the demo on Friday [31m\n"
    assert "locked the demo on Friday [31m" in git(repository, "worktree", "list", "--porcelain")
    (listed,) = document(moderator(repository, "list", "--json"))["workspaces"]
    assert listed["locked_by_person"] == "the demo on Friday [31m"
    for selection in ("t_1", "--all"):
        kept = moderator(repository, "clean", selection)
        assert (kept.returncode, kept.stdout) == (3, "")
        assert kept.stderr.startswith("error: the worktree of task 't_1' is locked: the demo on Friday [31m\n")
    done = moderator(repository, "unlock", "t_1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "unlocked t_1: the demo on Friday [31m\n", "")
    assert picture(repository / ".git/worktrees") == as_made
    assert moderator(repository, "clean", "t_1").returncode == 0
    assert not Path(f"{repository}.moderator/tasks/t_1").exists()


def test_a_lock_without_a_reason_says_who_and_when(repository: Path) -> None:
    """Nobody has to think of a reason; one that is only blanks is none."""
    for reason in ([], ["--reason", " \t\n"]):
        done = moderator(repository, "lock", "t_1", *reason, LOGNAME="ada")
        assert re.fullmatch(r"locked t_1: locked by ada on \d{4}-\d\d-\d\d at \d\d:\d\d\n", done.stdout)
        assert moderator(repository, "unlock", "t_1").returncode == 0


def test_a_reason_never_reads_like_our_own_lock(repository: Path) -> None:
    """Whatever a person writes is a person's lock: also what begins as ours does."""
    ours = locked_file(repository).read_text().strip()
    done = moderator(repository, "lock", "t_1", "--reason", f"  {ours}")
    assert (done.returncode, done.stdout) == (0, f"locked t_1: by a person: {ours}\n")
    assert moderator(repository, "clean", "t_1").returncode == 3


def test_a_second_lock_is_refused_with_the_first_reason(repository: Path, tmp_path: Path) -> None:
    """Nobody's reason is written over, whether moderator or git set it."""
    path = f"{repository}.moderator/tasks/t_1"
    git(repository, "worktree", "unlock", path)
    git(repository, "worktree", "lock", "--reason", "on my stick", path)
    before = picture(tmp_path)
    done = moderator(repository, "lock", "t_1", "--reason", "mine")
    assert (done.returncode, done.stdout, done.stderr) == (
        3, "",
        "error: the worktree of task 't_1' is locked already: on my stick\n"
        "  hint: if the reason is gone: moderator unlock t_1\n",
    )  # fmt: skip
    assert picture(tmp_path) == before


def test_unlocking_what_nobody_locked(repository: Path, tmp_path: Path) -> None:
    """It is no mistake and changes nothing; a worktree that git unlocked gets our own lock back."""
    before = picture(tmp_path)
    done = moderator(repository, "unlock", "t_1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "t_1 was not locked\n", "")
    assert picture(tmp_path) == before
    git(repository, "worktree", "unlock", f"{repository}.moderator/tasks/t_1")
    assert not locked_file(repository).exists()
    assert moderator(repository, "unlock", "t_1").stdout == "t_1 was not locked\n"
    assert picture(repository / ".git/worktrees") == {
        path: found for path, found in before.items() if path.startswith(f"{repository}/.git/worktrees")
    }


def test_locks_as_json(repository: Path) -> None:
    """One document each: what holds now, and the reason."""
    answers = [
        document(moderator(repository, *arguments, "--json"))
        for arguments in (
            ("lock", "main-task-t-1", "--reason", "x"), ("unlock", "t_1"), ("unlock", "t_1"), ("unlock", "t_1", "--abandoned"),
        )
    ]  # fmt: skip
    assert answers == [
        {"task_id": "t_1", "locked": True, "reason": "x"},
        {"task_id": "t_1", "locked": False, "reason": "x"},
        {"task_id": "t_1", "locked": False, "reason": None},
        {"task": "t_1", "abandoned_by": None},
    ]


@pytest.mark.parametrize("command", ["lock", "unlock"])
def test_what_cannot_be_locked_is_said(repository: Path, tmp_path: Path, command: str) -> None:
    """A name nobody has, a level without a worktree and an entry that is gone: each refused, nothing changed."""
    GitManager(repository).create_workspace(context(tmp_path, "flat", BRANCH, checkout=repository)).release()
    before = picture(tmp_path)
    unknown, flat = moderator(repository, command, "t_2"), moderator(repository, command, "flat")
    assert (unknown.returncode, unknown.stderr) == (
        2, "error: no workspace belongs to 't_2'\n  hint: did you mean 't_1'?\n",
    )  # fmt: skip
    assert (flat.returncode, flat.stderr) == (
        2,
        "error: task 'flat' has no worktree of its own at level branch, so there is nothing to lock\n"
        "  hint: its commits are safe on their branch\n",
    )
    assert picture(tmp_path) == before
    locked_file(repository).parent.rename(tmp_path / "elsewhere")
    gone = moderator(repository, command, "t_1")
    assert (gone.returncode, gone.stderr) == (
        3,
        "error: git's entry of the worktree of task 't_1' is not there, or is not as moderator made it\n"
        "  hint: moderator doctor\n",
    )


def test_a_workspace_can_be_locked_while_its_task_runs(repository: Path, tmp_path: Path) -> None:
    """The lock needs no lease, harms nothing, and holds when the task is done and its workspace would go."""
    run = f"touch {tmp_path}/on; while ! [ -e {tmp_path}/go ]; do sleep 0.02; done; echo x > x"
    tasks = task_list(tmp_path / "t", {"id": "busy", "run": run})
    with started(repository, "run", tasks, "--keep", "never") as running:
        wait_until((tmp_path / "on").exists)
        assert moderator(repository, "lock", "busy", "--reason", "mine").returncode == 0
        (tmp_path / "go").touch()
        running.communicate(timeout=30)
    assert running.returncode == 0
    assert Path(f"{repository}.moderator/tasks/busy/x").read_text() == "x\n"
    assert git(repository, "show", "main-task-busy:x") == "x"


@pytest.mark.slow
def test_what_another_machine_left_is_freed_by_a_person_s_word(repository: Path) -> None:
    """Its name keeps the workspace from everybody here until `--abandoned`; a person's lock stays all the same."""
    lease = repository / ".git/moderator/leases/t-1.lock"
    lease.write_text(json.dumps({"host": "desk", "boot_id": "0-0", "pid": 7, "started": 1}))
    assert moderator(repository, "lock", "t_1", "--reason", "mine").returncode == 0
    (listed,) = document(moderator(repository, "list", "--json"))["workspaces"]
    assert listed["held_by"] == "process 7 on desk"
    refused = moderator(repository, "clean", "t_1")
    assert (refused.returncode, refused.stderr) == (
        75,
        "error: the workspace of task 't_1' is held by process 7 on desk\n"
        "  hint: wait until it has finished; if that machine is gone: moderator unlock t_1 --abandoned\n",
    )
    freed = moderator(repository, "unlock", "t_1", "--abandoned")
    assert (freed.returncode, freed.stdout, freed.stderr) == (0, "freed t_1: process 7 on desk held it\n", "")
    assert lease.read_bytes() == b""
    assert moderator(repository, "clean", "t_1").returncode == 3
    again = moderator(repository, "unlock", "t_1", "--abandoned")
    assert (again.returncode, again.stdout) == (0, "t_1 was not held by another machine\n")


@pytest.mark.slow
def test_a_lease_without_a_workspace_is_freed_too(repository: Path, tmp_path: Path) -> None:
    """A machine that died before it made anything leaves only its name: the command in the hint frees that as well."""
    lease = repository / ".git/moderator/leases/new.lock"
    lease.write_text(json.dumps({"host": "desk", "boot_id": "0-0", "pid": 7, "started": 1}))
    tasks = task_list(tmp_path / "t", {"id": "new", "run": "true"})
    held = moderator(repository, "run", tasks)
    assert (held.returncode, "is held by process 7 on desk" in held.stderr) == (75, True)
    assert moderator(repository, "unlock", "new").returncode == 2
    assert moderator(repository, "unlock", "new", "--abandoned").stdout == "freed new: process 7 on desk held it\n"
    again = moderator(repository, "unlock", "new", "--abandoned")
    assert (again.returncode, again.stderr.splitlines()[0]) == (2, "error: no workspace belongs to 'new'")
    assert moderator(repository, "run", tasks).returncode == 0


def test_a_live_holder_is_not_abandoned(repository: Path, tmp_path: Path) -> None:
    """While a process of this machine holds the workspace, `--abandoned` frees nothing: exit 75."""
    with GitManager(repository).create_workspace(GitManager(repository).find("t_1").context):
        done = moderator(repository, "unlock", "t_1", "--abandoned")
        assert (done.returncode, done.stdout) == (75, "")
        assert ", which works at it now\n" in done.stderr
