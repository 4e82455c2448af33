"""Many processes at one repository at once: every workspace whole, nobody's git command disturbed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from moderator.git.manager import GitManager
from repos import git, make_repository
from workspaces import DIRECTORY, FULL, context, files

COMMITS = [("first", {f"d{number % 7}/f{number}": f"{number}\n" for number in range(60)})]

RACER = """
import sys
from pathlib import Path
from moderator.context import ExecutionContext, IsolationLevel
from moderator.errors import ModeratorError
from moderator.git.manager import GitManager

folder, repository, retire, *task_ids = sys.argv[1:]
manager = GitManager(repository)
base = ExecutionContext("project", folder + "/checkouts", "main", folder + "/state")
print("ready", flush=True)
sys.stdin.readline()
for task_id in task_ids:
    context = ExecutionContext.create_isolated_context(base, task_id, IsolationLevel.FULL)
    try:
        workspace = manager.create_workspace(context)
        (Path(workspace.path) / "work").write_text(task_id)
        manager.commit(workspace, task_id)
        if retire == "retire":
            manager.remove_workspace(workspace)
        print("made", flush=True)
    except ModeratorError as error:
        print(type(error).__name__, error.message, error.cause.replace("\\n", " "), flush=True)
print("done", flush=True)
sys.stdin.readline()
"""


def race(folder: Path, repo: Path, tasks: list[list[str]], retire: bool = False) -> list[list[str]]:
    """Let a process for each list of tasks make them all, started together; return what each printed."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(folder), str(repo), "retire" if retire else "keep", *ids],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for ids in tasks
    ]
    for process in processes:
        assert process.stdout and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    printed = []
    for process in processes:
        assert process.stdout
        lines = list(iter(process.stdout.readline, "done\n"))
        printed.append([line.rstrip("\n") for line in lines if line])
    for process in processes:  # they hold what they made until all have tried
        _, complaints = process.communicate("end\n")
        assert (process.returncode, complaints) == (0, "")
    return printed


@contextmanager
def disturbed(repo: Path, commands: list[list[str]]) -> Iterator[list[str]]:
    """Loop plain git commands in a repository; the list given fills with the complaints of those that fail."""
    stop, failures = threading.Event(), []

    def loop(command: list[str]) -> int:
        rounds = 0
        while not stop.is_set() or not rounds:
            done = subprocess.run(["git", *command], cwd=repo, capture_output=True, text=True)
            if done.returncode:
                failures.append(f"git {' '.join(command)}: {done.stderr}")
            rounds += 1
        return rounds

    with ThreadPoolExecutor(len(commands)) as pool:
        loops = [pool.submit(loop, command) for command in commands]
        try:
            yield failures
        finally:
            stop.set()
            assert all(each.result() for each in loops)


GONE_WHILE_READ = re.compile(
    r"worktrees/.*: No such file or directory$"
    r"|^git gc --quiet: error: unable to write reflog '\.git/worktrees/[^']*' \(No such file or directory\)\s"
)
"""What git 2.39 says of a worktree that goes away between two of its own steps, however it goes (worktree.c, setup.c, and the
`reflog expire --all` of gc, which lists worktrees first and rewrites their logs later)."""
LOOKERS = [
    ["worktree", "list"],
    ["worktree", "prune"],
    ["branch"],
    ["fetch", "--quiet", "."],
    ["rev-list", "--all", "--count"],
]


def assert_all_whole(folder: Path, repo: Path, task_ids: list[str]) -> None:
    expected = files(repo)
    for task_id in task_ids:
        tree = folder / "checkouts/tasks" / task_id
        assert files(tree) == {**expected, "work": task_id.encode()}
        assert git(tree, "status", "--porcelain", "--branch") == f"## main-task-{task_id}"
    assert len(os.listdir(repo / ".git/worktrees")) == len(task_ids)
    assert git(repo, "fsck", "--strict", "--no-dangling") == ""


@pytest.mark.slow
def test_many_processes_make_workspaces_while_others_look(tmp_path: Path) -> None:
    """Sixteen processes at once: every workspace is whole, and no git command of anybody's fails meanwhile."""
    repo = make_repository(tmp_path / "repo", COMMITS)
    tasks = [[f"t{number}"] for number in range(16)]
    with disturbed(repo, LOOKERS) as failures:
        printed = race(tmp_path, repo, tasks)
    assert (printed, failures) == ([["made"]] * 16, [])
    assert_all_whole(tmp_path, repo, [task_id for ids in tasks for task_id in ids])


@pytest.mark.slow
def test_workspaces_come_and_go_while_others_look(tmp_path: Path) -> None:
    """Making and removing at once: nothing fails, nothing is left, every branch has its work."""
    repo = make_repository(tmp_path / "repo", COMMITS)
    tasks = [[f"t{number}-{again}" for again in range(2)] for number in range(6)]
    with disturbed(repo, LOOKERS[:2]) as failures:
        printed = race(tmp_path, repo, tasks, retire=True)
    assert (printed, [failure for failure in failures if not GONE_WHILE_READ.search(failure)]) == (
        [["made"] * 2] * 6,
        [],
    )
    made = [task_id for ids in tasks for task_id in ids]
    assert git(repo, "for-each-ref", "--format=%(refname:short) %(subject)", "refs/heads/main-task-*").split("\n") == [
        f"main-task-{task_id} {task_id}" for task_id in sorted(made)
    ]
    assert (GitManager(repo).workspaces(), os.listdir(tmp_path / "checkouts/tasks")) == ([], [])
    left = [path for path in (repo / ".git/moderator").rglob("*") if path.is_file() and "removed" not in path.parts]
    assert (left, len(GitManager(repo).removals())) == ([], len(made))
    assert git(repo, "fsck", "--strict", "--no-dangling") == ""


def test_one_of_many_gets_the_same_task(tmp_path: Path) -> None:
    """Eight processes want one task: one has it, the others are told that it is held, and it is whole."""
    repo = make_repository(tmp_path / "repo", COMMITS)
    printed = race(tmp_path, repo, [["t"]] * 8)
    words = Counter(line.split()[0] for (line,) in printed)
    assert words == {"made": 1, "WorkspaceBusy": 7}
    assert_all_whole(tmp_path, repo, ["t"])


def test_one_of_many_gets_a_colliding_name(tmp_path: Path) -> None:
    """Ids that share a name are never both made, whoever is first."""
    repo = make_repository(tmp_path / "repo", COMMITS)
    ids = ["a_b", "a-b", "A-b", "a b", "A_B", "a-B", "A b", "A_b"]
    printed = race(tmp_path, repo, [[task_id] for task_id in ids])
    words = Counter(line.split()[0] for (line,) in printed)
    assert words["made"] == 1
    assert words["WorkspaceBusy"] + words["IsolationError"] == 7
    assert len(os.listdir(repo / ".git/worktrees")) == 1
    assert len(GitManager(repo).workspaces()) == 1
    assert len(git(repo, "branch", "--list", "*task*").split("\n")) == 1


@pytest.mark.slow
def test_the_fallback_is_as_safe(tmp_path: Path) -> None:
    """Where git itself must add the worktrees, several processes still each get theirs."""
    repo = make_repository(tmp_path / "repo", COMMITS)
    git(repo, "config", "extensions.worktreeConfig", "true")
    tasks = [[f"t{number}"] for number in range(6)]
    assert race(tmp_path, repo, tasks) == [["made"]] * 6
    assert_all_whole(tmp_path, repo, [task_id for ids in tasks for task_id in ids])


def test_threads_share_a_manager(tmp_path: Path) -> None:
    """One manager, many threads: making, asking and removing at once is as good as one after the other."""
    repo = make_repository(tmp_path / "repo", COMMITS)
    manager = GitManager(repo)

    def one(number: int) -> int | None:
        with manager.create_workspace(context(tmp_path, f"t{number}", FULL if number % 2 else DIRECTORY)) as workspace:
            (Path(workspace.path) / "work").write_text(str(number))
            manager.statuses()
            manager.commit(workspace, "work")
        ahead = manager.status(f"t{number}").ahead
        manager.remove_workspace(f"t{number}")
        return ahead

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(12))) == [1] * 12
    assert (manager.workspaces(), git(repo, "fsck", "--strict", "--no-dangling")) == ([], "")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_thousand_workspaces(tmp_path: Path) -> None:
    """A thousand workspaces are all there, all disjoint, and each is found and removed like the first."""
    repo = make_repository(tmp_path / "repo", [("first", {"a": "a\n", "b": "b\n"})])
    manager = GitManager(repo)

    def one(number: int) -> str:
        with manager.create_workspace(context(tmp_path, f"t{number}")) as workspace:
            return workspace.path

    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(one, range(1000)))
    assert len(set(paths)) == 1000
    assert {status.state for status in manager.statuses()} == {"ready"}
    assert len(git(repo, "worktree", "list").split("\n")) == 1001
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: manager.remove_workspace(f"t{number}"), range(1000)))
    assert (manager.workspaces(), git(repo, "worktree", "list").count("\n")) == ([], 0)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_long_race(tmp_path: Path) -> None:
    """The race of sixteen, longer, with every third kind of disturbance."""
    repo = make_repository(tmp_path / "repo", COMMITS)
    tasks = [[f"t{number}-{again}" for again in range(20)] for number in range(16)]
    with disturbed(repo, [*LOOKERS, ["gc", "--quiet"], ["pack-refs", "--all"]]) as failures:
        printed = race(tmp_path, repo, tasks, retire=True)
    assert printed == [["made"] * 20] * 16
    assert [failure for failure in failures if not GONE_WHILE_READ.search(failure)] == []
    assert git(repo, "fsck", "--strict", "--no-dangling") == ""
