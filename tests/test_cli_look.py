"""The commands that look: list, show, path, diff, logs and history.  They change nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from commandline import PATIENCE, command, document, ids, moderator, picture, started, task_list, wait_until
from moderator.context import ExecutionContext, IsolationLevel
from moderator.git.manager import GitManager
from repos import git, git_processes, make_repository

TASKS = (
    {
        "id": "task_001",
        "description": "Change things",
        "run": "echo said; echo new > 'a new'; echo 1 > README.md; rm src/a",
    },
    {"id": "bad", "description": "Fail halfway", "run": "echo half > half; echo oops >&2; exit 3"},
    {"id": "idle", "run": "true"},
)
COMMITS = [("first", {"README.md": "# Sample\n", "src/a": "1\n", "src/b": b"\0\1"})]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository after one run, for everybody to look at: nobody changes it."""
    folder = tmp_path_factory.mktemp("ran")
    repository = make_repository(folder / "sample", COMMITS)
    done = moderator(repository, "run", task_list(folder / "tasks.yaml", *TASKS), "--json", "-j", "1")
    (folder / "run.json").write_text(done.stdout)
    git(repository, "hash-object", "-w", "--stdin")  # the empty blob, which git stores to compare untracked files
    return repository


@pytest.fixture
def untouched(ran: Path) -> Iterator[Path]:
    """The same, seen to be the same afterwards."""
    before = picture(ran.parent)
    yield ran
    after = picture(ran.parent)
    after.pop(str(ran / ".git/moderator/looks.json"), None)  # what was seen, for the next look
    assert after == {path: one for path, one in before.items() if not path.endswith("/looks.json")}


def results(repository: Path) -> dict[str, dict[str, str]]:
    found = json.loads((repository.parent / "run.json").read_text())["results"]
    return {result["task_id"]: result for result in found}


def plain(text: str) -> str:
    return re.sub(r"\d+\.\ds\b", "N.Ns", re.sub(r"\b\d{8}-\d{6}-[0-9a-f]{6}\b", "RUN", text))


def test_list_is_one_table(untouched: Path) -> None:
    """State, branch, ahead and behind, changes, last outcome and age of every workspace."""
    done = moderator(untouched, "list")
    assert (done.returncode, done.stderr) == (0, "")
    assert [re.sub(r" +N", " N", line) for line in plain(done.stdout).splitlines()] == [
        "TASK      STATE  BRANCH              AHEAD/BEHIND  CHANGES    LAST OUTCOME   AGE",
        "bad       done   main-task-bad       +0 -0         1 file     failed (3) N.Ns",
        "idle      done   main-task-idle      +0 -0         clean      unchanged N.Ns",
        "task_001  done   main-task-task-001  +1 -0         clean      succeeded N.Ns",
    ]


def test_list_as_json(untouched: Path) -> None:
    """Everything that is known of each workspace, by the promised names."""
    done = moderator(untouched, "list", "--json")
    found = document(done)["workspaces"]
    base, tip = git(untouched, "rev-parse", "main", "main-task-task-001").split("\n")
    (changed,) = [one for one in found if one["task_id"] == "task_001"]
    assert abs(changed.pop("created_at") - time.time()) < 3600
    assert (ids(found), done.stderr) == (["bad", "idle", "task_001"], "")
    assert changed == {
        "task_id": "task_001", "isolation_level": "full", "branch": "main-task-task-001",
        "path": f"{untouched}.moderator/tasks/task_001", "state": "done", "problem": None, "base": base, "base_branch": "main",
        "tip": tip, "ahead": 1, "behind": 0, "dirty": 0, "staged": 0, "modified": 0, "untracked": 0, "ignored": 0,
        "unmerged": 0, "operation": None, "size": None, "held_by": None, "locked_by_person": None,
        "outcome": "succeeded", "run_id": results(untouched)["task_001"]["run_id"],
        "log": results(untouched)["task_001"]["log"],
    }  # fmt: skip
    assert {one["task_id"]: (one["dirty"], one["untracked"], one["outcome"]) for one in found} == {
        "bad": (1, 1, "failed"),
        "idle": (0, 0, "unchanged"),
        "task_001": (0, 0, "succeeded"),
    }


def test_where_nothing_was_run(tmp_path: Path) -> None:
    """An empty list is no error, says so to people alone, and makes no directory."""
    repository = make_repository(tmp_path / "sample")
    before = picture(tmp_path)
    said = {}
    for arguments in (("list",), ("history",), ("list", "--json"), ("history", "--json")):
        done = moderator(repository, *arguments)
        assert done.returncode == 0
        said[" ".join(arguments)] = (done.stdout and document(done), done.stderr)
    assert said == {
        "list": ("", "none: there are no workspaces here; moderator run TASKS.yaml makes them\n"),
        "history": ("", "none: nothing has been run here yet; moderator run TASKS.yaml\n"),
        "list --json": ({"workspaces": []}, ""),
        "history --json": ({"runs": []}, ""),
    }
    assert picture(tmp_path) == before


@pytest.mark.slow
def test_list_looks_into_fifty_workspaces_unasked(tmp_path: Path) -> None:
    """Beyond fifty, changes are unknown until `--status` asks for them, and a note says so."""
    repository = make_repository(tmp_path / "sample")
    manager = GitManager(repository)
    base = ExecutionContext("sample", str(tmp_path / "w"), "main", str(tmp_path / "s"), IsolationLevel.FULL)

    def make(number: int) -> None:
        context = ExecutionContext.create_isolated_context(base, f"task_{number:03d}")
        with manager.create_workspace(context) as workspace:
            Path(workspace.path, "new").touch()

    def dirty(*options: str) -> set[int | None]:
        found = document(moderator(repository, "list", "--json", *options))["workspaces"]
        assert ids(found) == [f"task_{number:03d}" for number in range(len(found))]
        return {one["dirty"] for one in found}

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(make, range(50)))
    assert dirty() == {1}
    make(50)
    assert (dirty(), dirty("--status")) == ({None}, {1})
    done = moderator(repository, "list")
    assert done.stderr == "note: changes were not looked for in so many workspaces; --status does\n"
    assert len(done.stdout.splitlines()) == 52


def test_list_asks_git_no_more_often_for_many(tmp_path: Path) -> None:
    """A handful of processes for any number of workspaces that are only listed; one more for each that is looked into."""
    repository = make_repository(tmp_path / "sample")
    manager = GitManager(repository)
    base = ExecutionContext("sample", str(tmp_path / "w"), "main", str(tmp_path / "s"), IsolationLevel.FULL)
    for number in range(52):
        context = ExecutionContext.create_isolated_context(base, f"task_{number:03d}")
        with manager.create_workspace(context) as workspace:
            if number % 2:
                git(workspace.path, "commit", "--quiet", "--allow-empty", "-m", "work")
    git(repository, "commit", "--quiet", "--allow-empty", "-m", "meanwhile")
    with git_processes(tmp_path / "listed") as listed:
        done = moderator(repository, "list", "--json")
    found = [(one["ahead"], one["behind"], one["dirty"]) for one in document(done)["workspaces"]]
    assert found == [(0, 1, None), (1, 1, None)] * 26
    assert listed == ["cat-file", "merge-base", "rev-list", "rev-parse", "version"]
    with git_processes(tmp_path / "looked") as looked:
        moderator(repository, "list", "--status")
    assert looked == sorted([*listed, "config", *["status"] * 52])


def test_rows_appear_as_they_are_known(tmp_path: Path) -> None:
    """In the order of the list and in columns that are known before: nobody waits for the slowest tree to see the first."""
    repository = make_repository(tmp_path / "sample", [("first", {"a": "1\n", ".gitattributes": "slow filter=slow\n"})])
    manager = GitManager(repository)
    base = ExecutionContext("sample", str(tmp_path / "w"), "main", str(tmp_path / "s"), IsolationLevel.FULL)
    for name in ("first", "second"):
        manager.create_workspace(ExecutionContext.create_isolated_context(base, name)).release()
    slow = Path(manager.find("second").path, "slow")
    slow.write_text("x\n")
    git(slow.parent, "add", "slow")
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    git(repository, "config", "filter.slow.clean", f"cat {gate}")
    os.utime(slow, (1, 1))  # so that git has to read it, through the filter
    with started(repository, "list") as listing:
        assert listing.stdout is not None
        heads, first = listing.stdout.readline(), listing.stdout.readline()
        assert (heads.split()[0], first.split()[0]) == ("TASK", "first")
        gate.write_text("x\n")
        second = listing.stdout.readline()
        assert listing.wait(PATIENCE) == 0
    assert second.split()[0] == "second"
    assert first.index("clean") == second.index("1 file") == heads.index("CHANGES")


def test_show_tells_what_a_task_did(untouched: Path) -> None:
    """Its last attempt, its workspace, its commits, the files it changed and the end of its output."""
    base, tip = (one[:12] for one in git(untouched, "rev-parse", "main", "main-task-task-001").split("\n"))
    done = moderator(untouched, "show", "task_001")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.sub(r"size +.*", "size         N", plain(done.stdout)).splitlines() == [
        "task task_001",
        "  description  Change things",
        "  outcome      succeeded, exit code 0, N.Ns",
        "  run          RUN",
        f"  log          {untouched}/.git/moderator/state/tasks/task_001/RUN/1/output.log",
        f"  workspace    {untouched}.moderator/tasks/task_001",
        "  state        done",
        "  branch       main-task-task-001",
        f"  base         main {base}",
        f"  tip          {tip}, 1 ahead, 0 behind",
        "  changes      none that are not committed",
        "  size         N",
        "commits since the fork (1)",
        f"  {tip}  Change things",
        "files that differ from the fork (3)",
        "  M  README.md  +1 -1",
        "  A  a new      +1 -0",
        "  D  src/a      +0 -1",
        "end of its output",
        "  said",
    ]


def test_show_as_json(untouched: Path) -> None:
    """The same as values: workspace, attempt, commits and changes."""
    found = document(moderator(untouched, "show", "bad", "--json"))
    assert sorted(found) == ["attempt", "changes", "commits", "workspace"]
    assert (found["workspace"]["dirty"], found["attempt"]["outcome"], found["attempt"]["exit_code"]) == (1, "failed", 3)
    assert found["commits"] == []
    assert found["changes"] == [{"path": "half", "status": "A", "added": 1, "removed": 0, "old_path": None}]
    (commit,) = document(moderator(untouched, "show", "task_001", "--json"))["commits"]
    run_id = results(untouched)["task_001"]["run_id"]
    assert (commit["subject"], commit["id"]) == ("Change things", git(untouched, "rev-parse", "main-task-task-001"))
    assert commit["trailers"] == {"Moderator-Task": "task_001", "Moderator-Run": run_id, "Moderator-Attempt": "1"}


@pytest.mark.parametrize("name", ["task_001", "main-task-task-001"])
def test_path_prints_where_it_is(untouched: Path, name: str) -> None:
    """For `cd "$(moderator path TASK)"`: the directory alone, by id or by branch."""
    done = moderator(untouched, "path", name)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{untouched}.moderator/tasks/task_001\n", "")


@pytest.mark.parametrize(("task", "committed"), [("task_001", True), ("bad", False)])
def test_diff_is_a_patch_that_git_takes(untouched: Path, tmp_path: Path, task: str, committed: bool) -> None:
    """`moderator diff TASK | git apply` gives what the task has, committed or not."""
    done = subprocess.run(command("diff", task), cwd=untouched, capture_output=True, check=True)
    (tmp_path / "patch").write_bytes(done.stdout)
    copy = tmp_path / "copy"
    git(tmp_path, "clone", "-q", untouched, copy)
    git(copy, "apply", "--index", tmp_path / "patch")
    workspace = Path(f"{untouched}.moderator/tasks/{task}")
    files = {path.relative_to(copy) for path in copy.rglob("*") if path.is_file() and ".git" not in path.parts}
    assert files == {
        path.relative_to(workspace) for path in workspace.rglob("*") if path.is_file() and path.name != ".git"
    }
    assert all((copy / name).read_bytes() == (workspace / name).read_bytes() for name in files)
    assert (git(copy, "write-tree") == git(untouched, "rev-parse", f"main-task-{task}^{{tree}}".replace("_", "-"))) is (
        committed
    )


def test_diff_in_short(untouched: Path) -> None:
    """`--stat` lists the files; `--json` has them as values."""
    assert moderator(untouched, "diff", "task_001", "--stat").stdout.splitlines() == [
        "M  README.md  +1 -1",
        "A  a new      +1 -0",
        "D  src/a      +0 -1",
    ]
    found = document(moderator(untouched, "diff", "bad", "--json"))
    assert (found["task_id"], [change["path"] for change in found["changes"]]) == ("bad", ["half"])


def test_logs_prints_what_a_task_printed(untouched: Path) -> None:
    """Both streams, as they came; a task that printed nothing has nothing; `--path` says where the file is."""
    log = results(untouched)["bad"]["log"]
    assert [moderator(untouched, "logs", name).stdout for name in ("task_001", "bad", "idle")] == [
        "said\n",
        "oops\n",
        "",
    ]
    assert moderator(untouched, "logs", "--path", "bad").stdout == f"{log}\n"
    assert moderator(untouched, "logs", "--follow", "bad").stdout == "oops\n"


def test_logs_follows_a_running_task(tmp_path: Path) -> None:
    """`-f` prints what is there, waits for more, and ends with the attempt: not one byte lost or printed twice."""
    repository = make_repository(tmp_path / "sample")
    go = tmp_path / "go"
    run = f"echo first; touch {tmp_path}/on; while ! [ -e {go} ]; do sleep 0.02; done; seq 1 5000; echo last >&2"
    listed = task_list(tmp_path / "t", {"id": "one", "run": run})
    followed = tmp_path / "followed"
    with started(repository, "run", listed) as running:
        wait_until((tmp_path / "on").exists)
        with (
            followed.open("wb") as out,
            subprocess.Popen(command("logs", "-f", "one"), cwd=repository, stdout=out) as follower,
        ):
            wait_until(followed.read_text, "the first line")
            assert document(moderator(repository, "list", "--json"))["workspaces"][0]["held_by"] is not None
            assert "one   ready" not in moderator(repository, "list").stdout
            assert moderator(repository, "logs", "one").stdout == "first\n"
            go.touch()
            assert follower.wait(PATIENCE) == 0
        running.communicate(timeout=PATIENCE)
    assert followed.read_text() == "first\n" + "".join(f"{n}\n" for n in range(1, 5001)) + "last\n"


def test_history_lists_runs_and_the_tasks_of_one(untouched: Path) -> None:
    """The newest first; a run by the beginning of its id."""
    run_id = results(untouched)["bad"]["run_id"]
    (run,) = document(moderator(untouched, "history", "--json"))["runs"]
    assert {name: run[name] for name in ("run_id", "state", "base_branch", "tasks", "succeeded", "failed", "workers")} == {
        "run_id": run_id, "state": "finished", "base_branch": "main", "tasks": 3, "succeeded": 2, "failed": 1,
        "workers": 1,
    }  # fmt: skip
    heads, line = moderator(untouched, "history").stdout.splitlines()
    assert heads.split() == ["RUN", "STARTED", "STATE", "BASE", "TASKS", "OK", "FAILED", "TOOK"]
    assert [*line.split()[:1], *line.split()[3:8]] == [run_id, "finished", "main", "3", "2", "1"]
    tip, base = (one[:12] for one in git(untouched, "rev-parse", "main-task-task-001", "main").split("\n"))
    found = document(moderator(untouched, "history", run_id, "--json"))
    assert (found["run"], ids(found["attempts"])) == (run, ["task_001", "bad", "idle"])
    assert plain(moderator(untouched, "history", run_id[:-2]).stdout).splitlines() == [
        f"run RUN: finished, 1 at once, from main {base}",
        "TASK      ATTEMPT  OUTCOME    TOOK  COMMIT        WHAT",
        f"task_001        1  succeeded  N.Ns  {tip}  Change things",
        "bad             1  failed     N.Ns  -             exit code 3: oops",
        "idle            1  unchanged  N.Ns  -             true",
    ]


@pytest.mark.slow
def test_a_run_that_is_unknown_or_not_named_well_is_told(tmp_path: Path) -> None:
    """No run begins so, or several do: exit 2, with the ids to choose from."""
    repository = make_repository(tmp_path / "sample")
    done = moderator(repository, "history", "2026")
    assert (done.returncode, done.stderr) == (
        *(2, "error: no run's id begins with '2026'\n  hint: no run has been recorded yet\n"),
    )
    made = [
        document(moderator(repository, "run", task_list(tmp_path / "t", {"id": name, "run": "true"}), "--json"))[
            "run_id"
        ]
        for name in ("one", "two")
    ]
    both = f"{made[1]!r}, {made[0]!r}"
    for prefix, said in (
        ("x", f"error: no run's id begins with 'x'\n  hint: the newest runs are {both}\n"),
        (made[0][:8], f"error: the ids of 2 runs begin with {made[0][:8]!r}\n  hint: type more of one of {both}\n"),
    ):
        done = moderator(repository, "history", prefix)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", said)


@pytest.mark.parametrize("name", ["task_01", "task-001"])
@pytest.mark.parametrize("arguments", [["show"], ["path"], ["diff"], ["clean"], ["clean", "--dry-run"]], ids=" ".join)
@pytest.mark.some(4)
def test_a_task_that_is_misspelt_is_told(untouched: Path, arguments: list[str], name: str) -> None:
    """An id that no workspace has is an error with the nearest one, and changes nothing."""
    done = moderator(untouched, *arguments, name)
    assert (done.returncode, done.stdout, done.stderr) == (
        *(2, "", f"error: no workspace belongs to {name!r}\n  hint: did you mean 'task_001'?\n"),
    )


def test_logs_of_a_task_that_never_ran(untouched: Path) -> None:
    """There is nothing to print, and that is told."""
    done = moderator(untouched, "logs", "never")
    assert (done.returncode, done.stdout, done.stderr) == (
        2, "", "error: no run of task 'never' is recorded here\n  hint: moderator history lists the runs\n",
    )  # fmt: skip


@pytest.mark.slow
def test_what_a_removed_task_did_can_still_be_seen(tmp_path: Path) -> None:
    """With its workspace removed, a task's attempt, commits, diff and log are still shown."""
    repository = make_repository(tmp_path / "sample", COMMITS)
    assert moderator(repository, "run", task_list(tmp_path / "t", *TASKS[:1]), "--keep", "never").returncode == 0
    assert document(moderator(repository, "list", "--json"))["workspaces"] == []
    shown = document(moderator(repository, "show", "task_001", "--json"))
    assert (shown["workspace"], shown["attempt"]["outcome"]) == (None, "succeeded")
    assert (len(shown["commits"]), len(shown["changes"])) == (1, 3)
    assert "  workspace    removed" in moderator(repository, "show", "task_001").stdout.splitlines()
    assert moderator(repository, "diff", "task_001").stdout == git(
        repository, "diff", "--binary", "main", "main-task-task-001"
    ) + "\n"  # fmt: skip
    assert moderator(repository, "logs", "task_001").stdout == "said\n"


@pytest.mark.parametrize(
    "arguments", [["list"], ["list", "--json"], ["show", "task_001"], ["diff", "task_001"], ["history"]]
)
@pytest.mark.some(2)
def test_a_reader_that_goes_away_is_no_error(untouched: Path, arguments: list[str]) -> None:
    """`| head -1` and a reader that never reads: no traceback, no message."""
    line = " ".join(f"'{part}'" for part in command(*arguments))
    for reader in ("head -1", "true"):
        done = subprocess.run(
            ["sh", "-c", f"{line} | {reader}"], cwd=untouched, capture_output=True, text=True, check=True
        )
        assert done.stderr == ""


def test_output_that_cannot_be_written_is_told(untouched: Path) -> None:
    """A full disk behind standard output is the machine's trouble: exit 4, no traceback."""
    with open("/dev/full", "w") as full:
        for arguments in (["list", "--json"], ["path", "bad"], ["diff", "bad"]):
            done = subprocess.run(command(*arguments), cwd=untouched, stdout=full, stderr=subprocess.PIPE, text=True)
            assert (done.returncode, done.stderr) == (
                4,
                "error: the machine refused: [Errno 28] No space left on device\n"
                "  hint: check the disk, its permissions, and where the output goes\n",
            )


def test_a_worktree_deleted_by_hand_is_seen_and_removed(tmp_path: Path) -> None:
    """`rm -rf` of a workspace is noticed by every command; its branch stays, and `clean` forgets the rest."""
    repository = make_repository(tmp_path / "sample", COMMITS)
    listed = task_list(tmp_path / "t", *TASKS[:1])
    assert moderator(repository, "run", listed).returncode == 0
    shutil.rmtree(tmp_path / "sample.moderator/tasks/task_001")
    (workspace,) = document(moderator(repository, "list", "--json"))["workspaces"]
    assert (workspace["state"], workspace["dirty"], workspace["ahead"]) == ("missing", None, 1)
    assert "  state        missing" in moderator(repository, "show", "task_001").stdout.splitlines()
    assert moderator(repository, "diff", "task_001").stdout.startswith("diff --git")
    again = moderator(repository, "run", listed)
    assert (again.returncode, again.stderr.splitlines()[0]) == (
        3, "error: 1 of 1 tasks have something from an earlier run under their names; nothing was started",
    )  # fmt: skip
    cleaned = moderator(repository, "clean", "task_001")
    assert (cleaned.returncode, cleaned.stdout) == (
        0, "removed task_001; its branch main-task-task-001 stays\nbring the last one back: moderator undo\n",
    )  # fmt: skip
    assert git(repository, "worktree", "list", "--porcelain").count("worktree ") == 1
    git(repository, "branch", "-m", "main-task-task-001", "mine")
    assert moderator(repository, "run", listed).returncode == 0


def test_an_empty_directory_is_no_worktree(tmp_path: Path) -> None:
    """Deleted by hand and made again empty, a workspace is missing: what its branch has is shown, not a deletion of all."""
    repository = make_repository(tmp_path / "sample", COMMITS)
    assert moderator(repository, "run", task_list(tmp_path / "t", *TASKS[:1])).returncode == 0
    before = moderator(repository, "diff", "task_001").stdout
    shutil.rmtree(tmp_path / "sample.moderator/tasks/task_001")
    (tmp_path / "sample.moderator/tasks/task_001").mkdir()
    assert moderator(repository, "diff", "task_001").stdout == before


def test_commands_start_without_what_they_do_not_need(untouched: Path) -> None:
    """`--version`, `path` and `list` import none of rich, pydantic, distributed, GitPython, psutil or yaml."""
    heavy = {"rich", "pydantic", "distributed", "git", "psutil", "yaml"}
    for arguments in (["--version"], ["path", "bad"], ["list"], ["list", "--json"], ["--help"]):
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "moderator", *arguments],
            cwd=untouched, capture_output=True, text=True, check=True,
        )  # fmt: skip
        loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
        assert (loaded & heavy, "click" in loaded) == (set(), True), arguments


def test_the_installed_command_is_the_module(untouched: Path) -> None:
    """`moderator` and `python -m moderator` are one program."""
    installed = Path(sys.executable).with_name("moderator")
    for arguments in (["--version"], ["path", "bad"]):
        done = subprocess.run([installed, *arguments], cwd=untouched, capture_output=True, text=True, check=True)
        assert (done.stdout, done.stderr) == (moderator(untouched, *arguments).stdout, "")
    assert re.fullmatch(r"moderator \d+\.\d+\.\d+\n", moderator("/", "--version").stdout)


def test_people_may_look_from_anywhere(untouched: Path) -> None:
    """From a subdirectory, from inside a task's worktree, with `--repo`, with GIT_DIR set: the same answer."""
    here = moderator(untouched, "list", "--json").stdout
    inside = f"{untouched}.moderator/tasks/bad"
    assert [
        moderator(untouched / "src", "list", "--json").stdout,
        moderator(inside, "list", "--json").stdout,
        moderator("/", "list", "--json", "--repo", inside).stdout,
        moderator(untouched, "list", "--json", GIT_DIR="/nowhere", GIT_WORK_TREE=os.sep).stdout,
    ] == [here] * 4
