"""What the README shows is so."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

from moderator.cli import commands
from moderator.taskfile import load_tasks
from repos import git, make_repository

README = Path(__file__).parent.parent / "README.md"


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", README.read_text("utf-8"), re.S)
    assert found
    return found[1]


def test_the_orchestrator_works_as_shown(tmp_path: Path) -> None:
    """The example for programs, run as it stands but for its paths, prints what its comment says."""
    repository = make_repository(tmp_path / "shop", [("start", {"a.txt": "a\n"})])
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(block("python").replace("/srv/", f"{tmp_path}/"), {})
    assert printed.getvalue() == "main-task-task-001 1 0\nmain-task-task-002 1 0\n"
    assert git(repository, "show", "main-task-task-002:notes.txt") == "done by task_002"
    assert list((tmp_path / "checkouts/tasks").iterdir()) == []


def test_the_task_list_is_one(tmp_path: Path) -> None:
    """The task list that is shown can be read."""
    path = tmp_path / "tasks.yaml"
    path.write_text(block("yaml"), "utf-8")
    listed = load_tasks(path)
    assert (listed.base, [task.id for task in listed.tasks]) == ("main", ["task_001"])


def test_every_command_is_in_the_table() -> None:
    """The table of commands has each of them and no other."""
    shown = set(
        re.findall(r"`(?:cd \"\$\()?moderator ([a-z-]+)", README.read_text("utf-8").split("## As a library")[0])
    )
    assert shown == set(commands.list_commands(commands.make_context("moderator", ["list"])))
