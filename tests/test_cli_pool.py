"""`moderator pool`: what is shown, filled and drained, what it exits with; and what other commands make of spares."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from commandline import document, moderator, task_list, wait_until
from moderator.git import leases
from moderator.git.manager import GitManager
from moderator.git.pool import PoolLimits
from repos import git, make_repository
from workspaces import context

FILES = {"README.md": "# Sample\n", "src/a.txt": "a\n", ".gitignore": "build/\n"}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "sample", [("first", FILES)])


def configure(repository: Path, **values: Any) -> None:
    """Write a configuration; JSON is YAML."""
    (repository / "moderator.yaml").write_text(json.dumps(values))


def ready(repository: Path) -> int:
    return GitManager(repository).pool_status().ready


def filling(repository: Path) -> list[str]:
    """The command lines of the processes that fill the pool of a repository."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"pool" in words and b"fill" in words and os.fsencode(repository) in words:
            found.append(os.fsdecode(b" ".join(words)))
    return found


def test_spares_are_made_shown_and_given_up(repository: Path) -> None:
    """Fill returns when the spares are ready, status shows them, drain takes all of them away; no other command minds them."""
    done = moderator(repository, "pool", "fill", "2")
    assert (done.returncode, done.stderr) == (0, "")
    head, *rows, last = done.stdout.splitlines()
    assert head.split() == ["SPARE", "COMMIT", "STATE", "AGE", "SIZE", "IN"]
    tip = git(repository, "rev-parse", "--short=12", "HEAD")
    assert [re.match(r"spare-[0-9a-f]{8}  (\w+)  (\w+) ", row).groups() for row in rows] == [(tip, "ready")] * 2  # type: ignore[union-attr]
    assert last == "2 spares ready, 2 wanted"
    shown = document(moderator(repository, "pool", "status", "--json"))
    assert (shown["ready"], shown["wanted"], shown["problem"], len(shown["spares"])) == (2, 0, "", 2)
    assert [spare["commit"] for spare in shown["spares"]] == [git(repository, "rev-parse", "HEAD")] * 2
    assert [(spare["ready"], spare["recycled"]) for spare in shown["spares"]] == [(True, False)] * 2

    assert document(moderator(repository, "list", "--json"))["workspaces"] == []
    doctor = moderator(repository, "doctor", "--json")
    assert (doctor.returncode, document(doctor)["findings"]) == (0, [])
    clean = moderator(repository, "clean", "--all")
    assert clean.returncode == 0
    assert "2 spares of the pool stay: moderator pool drain gives them up" in clean.stdout

    drained = moderator(repository, "pool", "drain")
    assert (drained.returncode, drained.stdout.startswith("gave up 2 spares and freed ")) == (0, True)
    assert document(moderator(repository, "pool", "drain", "--json")) == {"gone": []}
    assert moderator(repository, "pool", "status").stdout == "0 spares ready, 0 wanted\n"
    assert os.listdir(repository / ".git/worktrees") == []


def test_what_it_exits_with(repository: Path) -> None:
    """Usage is 2, somebody else at work 75, a repository that takes no spares 4; quietly, nothing of this is told."""
    assert moderator(repository, "pool", "fill", "-1").returncode == 2
    assert moderator(repository, "pool", "fill", "1", "--base", "nonsense").returncode == 2
    with leases.held(repository / ".git/moderator/leases/spare@pool.lock", "the pool", 0.0):
        busy = moderator(repository, "pool", "fill", "1")
        assert (busy.returncode, "the pool is held by process" in busy.stderr) == (75, True)
        assert moderator(repository, "pool", "fill", "1", "--quietly").returncode == 0
    git(repository, "config", "extensions.worktreeConfig", "true")
    refused = moderator(repository, "pool", "fill", "1")
    assert (refused.returncode, "made by git itself" in refused.stderr, "drain" in refused.stderr) == (4, True, False)
    assert ready(repository) == 0


@pytest.mark.slow
def test_fill_without_a_number_asks_the_configuration(repository: Path) -> None:
    """The size is the configuration's; where that wants no spares it is said what to type."""
    nothing = moderator(repository, "pool", "fill")
    assert (nothing.returncode, "moderator pool fill N makes some" in nothing.stderr) == (0, True)
    configure(repository, pool={"size": 1, "max_size": 0.001})
    small = moderator(repository, "pool", "fill")
    assert (small.returncode, "there are 0 of 1 spares" in small.stderr, "max_size" in small.stderr) == (4, True, True)
    configure(repository, pool={"size": 1})
    assert "1 spare ready, 1 wanted" in moderator(repository, "pool", "fill").stdout


@pytest.mark.slow
def test_clean_gives_up_what_is_too_old(repository: Path) -> None:
    """Spares older than the configuration wants go with clean; a dry run only looks."""
    configure(repository, pool={"size": 1, "days": 1})
    moderator(repository, "pool", "fill")
    (place,) = (repository / ".git/moderator/spares").glob("*.json")
    place.write_text(json.dumps({**json.loads(place.read_text()), "made_at": time.time() - 2 * 86400}))
    moderator(repository, "clean", "--all", "--dry-run")
    assert ready(repository) == 1
    assert "of the pool stay" not in moderator(repository, "clean", "--all").stdout
    assert ready(repository) == 0


def test_a_run_takes_spares_and_leaves_no_process_unless_told_to(repository: Path, tmp_path: Path) -> None:
    """With refill: never nothing runs on after a run; in the background the pool is full again soon after."""
    configure(repository, pool={"size": 2, "refill": "never"}, keep="never", recycle="pristine")
    moderator(repository, "pool", "fill")
    before = set(os.listdir(repository / ".git/worktrees"))
    tasks = task_list(
        tmp_path / "tasks.yaml",
        {"id": "one", "run": "git rev-parse --absolute-git-dir > gone && mv gone $MODERATOR_STATE_DIR"},
    )
    assert moderator(repository, "run", tasks).returncode == 0
    assert filling(repository) == []
    (said,) = tmp_path.rglob("gone")
    assert Path(said.read_text().strip()).name in before  # it worked in a spare
    assert not (repository.parent / "sample.moderator/tasks/one").exists()
    assert ready(repository) == 2  # and its workspace is one again
    GitManager(repository).drain_pool()
    configure(repository, pool={"size": 2, "refill": "background"})
    assert moderator(repository, "run", "--fresh", tasks).returncode == 0
    wait_until(lambda: ready(repository) == 2 and not filling(repository), "a full pool")
    assert moderator(repository, "doctor").returncode == 0


def test_a_program_that_takes_spares_has_new_ones_made(repository: Path) -> None:
    """Outside a run too a process is left behind that fills the pool again, in the same place, one at a time."""
    manager = GitManager(repository, pool=PoolLimits(2, refill=True))
    for task in ("one", "two", "three"):
        manager.create_workspace(context(repository.parent, task)).release()
        assert len(filling(repository)) <= 1
    wait_until(lambda: ready(repository) == 2 and not filling(repository), "a full pool")
    entry = Path(manager.create_workspace(context(repository.parent, "four")).path, ".git").read_text()
    assert "/worktrees/spare-" in entry
    wait_until(lambda: ready(repository) == 2 and not filling(repository), "a full pool")


@pytest.mark.slow
def test_a_run_with_build_caches(repository: Path, tmp_path: Path) -> None:
    """With recycle: keep_ignored the next task finds what the last one built, and nothing is in the trash."""
    configure(repository, keep="never", recycle="keep_ignored")  # and nobody fills the pool meanwhile
    build = "mkdir -p build && echo $MODERATOR_TASK_ID >> build/log && cat build/log > log"
    first, second = (task_list(tmp_path / f"{name}.yaml", {"id": name, "run": build}) for name in ("one", "two"))
    assert moderator(repository, "run", first).returncode == 0
    assert ready(repository) == 1
    assert moderator(repository, "run", second).returncode == 0
    assert git(repository, "show", "main-task-two:log") == "one\ntwo"
    assert GitManager(repository).rescues() == []
