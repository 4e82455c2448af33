"""`moderator doctor` as people and scripts call it: what it prints, and its exit codes."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from commandline import document, moderator, picture, started, task_list, wait_until
from moderator.context import ExecutionContext, IsolationLevel
from moderator.git.manager import GitManager
from moderator.store import history_file
from repos import git, make_repository


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A repository with two workspaces, where the command line puts them."""
    shop = make_repository(tmp_path / "shop")
    manager = GitManager(shop)
    base = ExecutionContext("shop", manager.default_root, "main", manager.state_root, IsolationLevel.FULL)
    for task_id in ("one", "two"):
        manager.create_workspace(ExecutionContext.create_isolated_context(base, task_id)).release()
    return shop


def the_entry(shop: Path, task_id: str) -> Path:
    (entry,) = (shop / ".git/worktrees").glob(f"{task_id}-*")
    return entry


def test_a_healthy_repository_ends_with_zero(shop: Path) -> None:
    """One line says that nothing is wrong, from a workspace as well, and nothing changes."""
    before = picture(shop.parent)
    for directory in (shop, shop.parent / "shop.moderator/tasks/one"):
        done = moderator(directory, "doctor", "--fix")
        assert (done.returncode, done.stdout, done.stderr) == (0, "ok: 2 workspaces, nothing is wrong\n", "")
    assert document(moderator(shop, "doctor", "--json")) == {"workspaces": 2, "findings": [], "fixed": 0}
    assert picture(shop.parent) == before


def test_what_can_be_mended_is_offered_then_mended_then_gone(shop: Path) -> None:
    """Problems end with 3 and say what --fix can do; mended ones end with 0; afterwards nothing is wrong."""
    shutil.rmtree(the_entry(shop, "two"))
    looked = moderator(shop, "doctor")
    tree = shop.parent / "shop.moderator/tasks/two"
    assert (looked.returncode, looked.stdout.splitlines()) == (
        3,
        [
            "problems (1)",
            "  somebody removed the entry of the worktree of task 'two' from the repository; its files are all there: "
            f"{tree}",
            "    hint: moderator doctor --fix registers it again; what was staged will be changes that are not staged",
            "moderator doctor --fix can mend 1 of these",
        ],
    )
    mended = document(moderator(shop, "doctor", "--fix", "--json"))
    assert [(one["code"], one["mended"]) for one in mended["findings"]] == [("entry-gone", True)]
    assert (mended["workspaces"], mended["fixed"]) == (2, 1)
    done = moderator(shop, "doctor", "--fix")
    assert (done.returncode, done.stdout) == (0, "ok: 2 workspaces, nothing is wrong\n")


def test_what_needs_a_person_stays_a_problem(shop: Path) -> None:
    """With --fix, what could not be mended still ends with 3, and what could be is marked."""
    shutil.rmtree(shop.parent / "shop.moderator/tasks/one")
    shutil.rmtree(the_entry(shop, "two"))
    done = moderator(shop, "doctor", "--fix", "--json")
    assert done.returncode == 3
    found = document(done)
    assert [(one["code"], one["fixable"], one["mended"]) for one in found["findings"]] == [
        ("tree-missing", False, False),
        ("entry-gone", True, True),
    ]
    assert found["fixed"] == 1
    assert set(found["findings"][0]) == {"code", "severity", "message", "hint", "fixable", "mended", "why_not"}


def test_information_does_not_count(shop: Path) -> None:
    """A repository in which nothing needs to be done ends with 0, and says what there is to know."""
    assert moderator(shop, "clean", "one").returncode == 0
    done = moderator(shop, "doctor")
    lines = done.stdout.splitlines()
    assert (done.returncode, lines[0], lines[1]) == (0, "ok: 1 workspace, nothing is wrong", "for your information (1)")
    assert lines[3] == "    hint: once it is merged: git branch -d main-task-one"


@pytest.mark.parametrize(("damage", "code"), [("core.bare", 0), ("core.worktree", 0)])
def test_it_works_where_git_does_not(shop: Path, damage: str, code: int) -> None:
    """A main checkout in which git refuses to work is no obstacle for the doctor."""
    git(shop, "config", damage, "true" if damage == "core.bare" else "/srv/gone")
    assert moderator(shop, "doctor").returncode == 3
    assert moderator(shop, "doctor", "--fix").returncode == code
    assert git(shop, "status", "--porcelain") == ""


def test_outside_a_repository_it_ends_with_two(tmp_path: Path) -> None:
    """There is nothing to look at."""
    done = moderator(tmp_path, "doctor", "--json")
    assert (done.returncode, done.stdout) == (2, "")


def test_what_could_not_be_looked_at_ends_with_four(shop: Path) -> None:
    """A file where a folder should be is said, the rest is looked at all the same."""
    shutil.rmtree(shop / ".git/moderator/leases")
    (shop / ".git/moderator/leases").write_text("in the way\n")
    done = moderator(shop, "doctor", "--fix", "--json")
    assert (done.returncode, {one["code"] for one in document(done)["findings"]}) == (4, {"could-not-look"})


def test_a_damaged_history_is_a_problem_and_left(shop: Path) -> None:
    """The record of runs is never repaired behind anybody's back."""
    history = history_file(str(shop / ".git/moderator"))
    history.write_bytes(b"garbage" * 1000)
    done = moderator(shop, "doctor", "--fix", "--json")
    assert done.returncode == 3
    assert [(one["code"], one["severity"], one["fixable"]) for one in document(done)["findings"]] == [
        ("history-damaged", "problem", False)
    ]
    assert history.read_bytes() == b"garbage" * 1000


def test_a_history_that_is_damaged_where_nobody_reads_is_a_problem_too(shop: Path) -> None:
    """One page of many is enough: nothing that lists runs meets it, the doctor says so, and the file stays as it is."""
    tasks = task_list(shop.parent / "tasks.yaml", {"id": "three", "run": "true"})
    assert moderator(shop, "run", tasks).returncode == 0
    history = history_file(str(shop / ".git/moderator"))
    whole = history.read_bytes()
    history.write_bytes(damaged := whole[: 2 * 4096] + b"\xff" * 4096 + whole[3 * 4096 :])
    assert moderator(shop, "history").returncode == 0
    done = moderator(shop, "doctor", "--fix", "--json")
    assert done.returncode == 3
    (found,) = document(done)["findings"]
    assert (found["code"], found["severity"], found["mended"]) == ("history-damaged", "problem", False)
    assert "is damaged, or not a record of runs (" in found["message"]
    assert history.read_bytes() == damaged


def test_a_configuration_that_cannot_be_read_is_a_problem_among_others(shop: Path) -> None:
    """A misspelt setting does not keep the doctor from looking at the rest."""
    (shop / "moderator.yaml").write_text("gear4: 1\n")
    shutil.rmtree(the_entry(shop, "two"))
    done = moderator(shop, "doctor", "--fix", "--json")
    assert [(one["code"], one["mended"]) for one in document(done)["findings"]] == [
        ("configuration-invalid", False),
        ("entry-gone", True),
    ]
    assert done.returncode == 3


@pytest.mark.slow
def test_a_run_whose_process_is_dead_is_information(shop: Path) -> None:
    """A run that says that it runs, and does not, is named with what goes on with it."""
    tasks = task_list(shop.parent / "tasks.yaml", {"id": "three", "run": "true"})
    assert moderator(shop, "run", tasks).returncode == 0
    for typed, to_type in (
        ("moderator run a.yaml", "moderator run a.yaml --resume"),
        ("moderator run 'a b' --fresh -j 2", "moderator run 'a b' -j 2 --resume"),
        ("moderator run --resume -- --fresh", "moderator run --resume -- --fresh"),
    ):
        with sqlite3.connect(shop / ".git/moderator/history.db") as history:
            history.execute("UPDATE runs SET state = 'running', boot_id = 'another', command_line = ?", (typed,))
        history.close()
        done = moderator(shop, "doctor", "--json")
        (found,) = document(done)["findings"]
        assert (done.returncode, found["code"], found["severity"]) == (0, "run-interrupted", "information")
        assert found["hint"] == f"to go on with it: {to_type}"


@pytest.mark.slow
def test_it_is_safe_beside_a_run(tmp_path: Path) -> None:
    """While tasks run, --fix finds nothing to mend, changes nothing of theirs, and they succeed."""
    shop, go = make_repository(tmp_path / "shop"), tmp_path / "go"
    waiting = f"touch {tmp_path}/$MODERATOR_TASK_ID; while [ ! -e {go} ]; do sleep 0.02; done; echo 1 > a"
    names = ["one", "two"]
    tasks = task_list(tmp_path / "tasks.yaml", *({"id": name, "run": waiting} for name in names))
    with started(shop, "run", tasks) as run:
        wait_until(lambda: all((tmp_path / name).exists() for name in names), "both tasks' start")
        for _ in range(3):
            done = moderator(shop, "doctor", "--fix", "--json")
            assert (done.returncode, json.loads(done.stdout)["findings"]) == (0, [])
        go.touch()
        assert run.wait(30) == 0
    assert [os.path.exists(shop.parent / f"shop.moderator/tasks/{name}/a") for name in names] == [True, True]
    assert moderator(shop, "doctor").stdout == "ok: 2 workspaces, nothing is wrong\n"


def test_much_information_of_one_kind_is_cut_short(tmp_path: Path) -> None:
    """After many tasks whose branches wait to be merged, people see ten of them and programs all."""
    shop = make_repository(tmp_path / "shop")
    (shop / ".git/moderator/workspaces").mkdir(parents=True)
    for number in range(12):
        (shop / f".git/moderator/workspaces/{number}.txt").touch()
    assert len(document(moderator(shop, "doctor", "--json"))["findings"]) == 12
    lines = moderator(shop, "doctor").stdout.splitlines()
    assert (len(lines), lines[-1]) == (
        2 + 2 * 10 + 1,
        "  and 2 more of the kind foreign-file; moderator doctor --json has them all",
    )
