"""`moderator run`: from a task list to finished branches, as people and scripts see it."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from commandline import PATIENCE, command, document, ids, moderator, picture, started, task_list, wait_until
from repos import git, make_repository

RUN_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{6}")
TASKS = (
    {"id": "task_001", "description": "Add a file", "run": "echo said; echo new > new"},
    {"id": "idle", "description": "Do nothing", "run": "true"},
    {"id": "bad", "description": "Fail", "run": "echo oops >&2; exit 3"},
)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "sample", [("first", {"README.md": "# Sample\n", "src/a.txt": "1\n"})])


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    return task_list(tmp_path / "tasks.yaml", *TASKS)


def plain(text: str) -> str:
    """Return a text without what differs between two runs of the same."""
    return re.sub(r"\b\d+\.\ds\b", "N.Ns", RUN_ID.sub("RUN", text))


def test_a_run_ends_with_a_table(repository: Path, tasks: Path) -> None:
    """Every task's outcome, time, changes and branch or reason, a total, and what to type next; nothing on stdout."""
    done = moderator(repository, "run", tasks, "--progress", "none", "-j", "1")
    assert (done.returncode, done.stdout) == (1, "")
    python = sys.executable
    assert plain(done.stderr).splitlines() == [
        "   TASK      OUTCOME    TOOK  CHANGED       BRANCH, OR WHY NOT",
        "✓  task_001  succeeded  N.Ns  1 file +1 -0  main-task-task-001",
        "✓  idle      unchanged  N.Ns  -             main-task-idle",
        "✗  bad       failed     N.Ns  -             exit code 3: oops",
        "done: 2 of 3 tasks succeeded (run RUN)",
        "next:",
        f"  {python} -m moderator list           what is in every workspace",
        f"  {python} -m moderator show bad       how that task ended, and what it printed last",
        f"  {python} -m moderator diff task_001  what that task changed",
    ]
    assert git(repository, "show", "main-task-task-001:new") == "new"
    assert git(repository, "status", "--porcelain") == ""


def test_a_run_of_successes_exits_with_0(repository: Path, tmp_path: Path) -> None:
    """0 says that every task succeeded, with or without changes."""
    done = moderator(repository, "run", task_list(tmp_path / "t", *TASKS[:2]), "--progress", "none")
    assert (done.returncode, done.stdout) == (0, "")


def test_json_is_one_document_as_promised(repository: Path, tasks: Path, tmp_path: Path) -> None:
    """`--json` prints one document with every result; people's text stays on stderr."""
    done = moderator(repository, "run", tasks, "--json", "--progress", "plain")
    found = document(done)
    run_id = found["run_id"]
    assert RUN_ID.fullmatch(run_id)
    assert all(one.pop("duration_seconds") >= 0 for one in found["results"])
    base = git(repository, "rev-parse", "main")
    commons = {"run_id": run_id, "attempt": 1, "backend": "shell", "base": base, "workspace_kept": True, "notes": []}
    commons |= {
        "backend_version": None,
        "cost_usd": None,
        "tokens_in": None,
        "tokens_out": None,
        "reply": "",
        "variant_of": "",
    }

    def expected(task: dict[str, str], slug: str, **fields: Any) -> dict[str, Any]:
        state = f"{repository}/.git/moderator/state/tasks/{task['id']}/{run_id}/1"
        return {
            "task_id": task["id"], "description": task["description"], "branch": f"main-task-{slug}",
            "path": f"{tmp_path}/sample.moderator/tasks/{task['id']}", "log": f"{state}/output.log",
            "artifacts_path": state, "error_message": None, "exit_code": 0, "commit": None, **commons, **fields,
        }  # fmt: skip

    assert (done.returncode, found) == (
        1,
        {
            "run_id": run_id,
            "interrupted": False,
            "cost_usd": None,
            "tokens_in": None,
            "tokens_out": None,
            "results": [
                expected(
                    TASKS[0], "task-001", outcome="succeeded", success=True,
                    commit=git(repository, "rev-parse", "main-task-task-001"),
                ),
                expected(TASKS[1], "idle", outcome="unchanged", success=True),
                expected(
                    TASKS[2], "bad", outcome="failed", success=False, exit_code=3, error_message="exit code 3: oops"
                ),
            ],
        },
    )  # fmt: skip
    assert sorted(plain(done.stderr).splitlines()) == sorted(
        [
            "started   task_001: Add a file",
            "started   idle: Do nothing",
            "started   bad: Fail",
            *(line for line in plain(done.stderr).splitlines() if re.match(r"\[[123]/3\] [✓✗] ", line)),
        ]
    )
    ended = re.findall(r"^\[[123]/3\] (.*)$", plain(done.stderr), re.MULTILINE)
    assert sorted(ended) == [
        "✓ idle unchanged in N.Ns",
        "✓ task_001 succeeded in N.Ns",
        "✗ bad failed in N.Ns: exit code 3: oops",
    ]


def test_without_progress_json_is_all_there_is(repository: Path, tasks: Path) -> None:
    """`--progress none --json` says nothing to people."""
    done = moderator(repository, "run", tasks, "--json", "--progress", "none")
    assert (done.returncode, done.stderr, len(document(done)["results"])) == (1, "", 3)


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
@pytest.mark.parametrize("level", ["none", "directory", "branch", "full"])
@pytest.mark.some(3)
def test_a_dry_run_creates_nothing_at_all(
    repository: Path, tasks: Path, tmp_path: Path, level: str, as_json: bool
) -> None:
    """`--dry-run` prints the plan; no file, directory or ref is made or changed anywhere."""
    before = picture(tmp_path)
    done = moderator(repository, "run", tasks, "--dry-run", "--isolation", level, *(["--json"] if as_json else []))
    assert (done.returncode, done.stderr) == (0, "")
    assert picture(tmp_path) == before
    if as_json:
        plan = document(done)["plan"]
        assert ids(plan["tasks"]) == ["task_001", "idle", "bad"]
        assert (plan["base"]["branch"], plan["isolation_level"], plan["keep"]) == ("main", level, "always")


def test_a_dry_run_shows_the_plan(repository: Path, tasks: Path, tmp_path: Path) -> None:
    """Names, commands and order, with what they fork from and where they will be."""
    commit = git(repository, "rev-parse", "main")[:12]
    assert moderator(repository, "run", tasks, "--dry-run", "-j", "2").stdout.splitlines() == [
        f"3 tasks, 2 at once, isolation full, from main {commit}; workspaces are kept: always",
        "   TASK      BRANCH              COMMAND",
        "1  task_001  main-task-task-001  echo said; echo new > new",
        "2  idle      main-task-idle      true",
        "3  bad       main-task-bad       echo oops >&2; exit 3",
        f"workspaces in {tmp_path}/sample.moderator/tasks",
    ]


@pytest.mark.parametrize(("keep", "kept"), [("always", [*"cdfg"]), ("failed", [*"fg"]), ("never", [*"fg"])])
@pytest.mark.some(2)
def test_keep_says_whose_workspaces_stay(repository: Path, tmp_path: Path, keep: str, kept: list[str]) -> None:
    """`--keep` removes what it may; work that is in no commit is kept whatever it says, and told once for all of them."""
    listed = task_list(
        tmp_path / "t",
        {"id": "c", "run": "echo x > x"},
        {"id": "d", "run": "true"},
        {"id": "f", "run": "echo x > x; exit 1"},
        {"id": "g", "run": "echo x > x; exit 1"},
    )
    done = moderator(repository, "run", listed, "--keep", keep, "--progress", "none")
    assert ids(document(moderator(repository, "list", "--json"))["workspaces"]) == kept
    note = "note: f, g: the workspace was kept, because removing it would lose work: untracked: x"
    assert (note in done.stderr.splitlines()) is (keep == "never")


@pytest.mark.parametrize("level", ["none", "directory", "branch", "full"])
def test_isolation_says_where_the_work_ends_up(repository: Path, tmp_path: Path, level: str) -> None:
    """Each level's work is where the table of levels says."""
    listed = task_list(tmp_path / "t", {"id": "one", "run": "echo new > new"})
    done = moderator(repository, "run", listed, "--isolation", level, "--json")
    (result,) = document(done)["results"]
    found = {
        "checkout": (repository / "new").exists(),
        "branch": "main-task-one" in git(repository, "branch", "--format=%(refname:short)").split(),
        "result": git(repository, "for-each-ref", "refs/moderator") != "",
        "worktree": (tmp_path / "sample.moderator/tasks/one/new").exists(),
    }
    assert (done.returncode, result["outcome"], [where for where, there in found.items() if there]) == (
        0,
        "succeeded",
        {
            "none": ["checkout"],
            "directory": ["result", "worktree"],
            "branch": ["branch"],
            "full": ["branch", "worktree"],
        }[level],
    )


@pytest.mark.parametrize(
    ("base", "branch"),
    [("feature/login", "feature/login-task-one"), ("v1", "v1-task-one"), ("HEAD", "main-task-one"), ("", "")],
)
def test_base_says_what_tasks_fork_from(repository: Path, tmp_path: Path, base: str, branch: str) -> None:
    """A branch, a tag, HEAD or a commit: its name is the beginning of the branches; the option wins over the file."""
    first = git(repository, "rev-parse", "HEAD")
    git(repository, "branch", "feature/login")
    git(repository, "tag", "v1")
    git(repository, "commit", "--quiet", "--allow-empty", "-m", "second")
    branch, base = branch or f"{first[:12]}-task-one", base or first
    listed = task_list(tmp_path / "t", {"id": "one", "run": "echo x > x"}, base="no-such-base")
    (result,) = document(moderator(repository, "run", listed, "--base", base, "--json"))["results"]
    assert (result["branch"], result["base"]) == (branch, git(repository, "rev-parse", base))


def test_the_base_of_the_file_is_the_default(repository: Path, tmp_path: Path) -> None:
    """`base:` in a task list is what its tasks fork from."""
    git(repository, "branch", "other")
    listed = task_list(tmp_path / "t", {"id": "one", "run": "true"}, base="other")
    (result,) = document(moderator(repository, "run", listed, "--json"))["results"]
    assert result["branch"] == "other-task-one"


def test_jobs_says_how_many_at_once(repository: Path, tmp_path: Path) -> None:
    """Two tasks that wait for each other end only if both run at once; with one job they come one after the other."""
    meet = "touch {0}.here; for i in $(seq 600); do [ -e {1}.here ] && exit 0; sleep 0.05; done; exit 1"
    pair = [
        {"id": "one", "run": meet.format(tmp_path / "one", tmp_path / "two")},
        {"id": "two", "run": meet.format(tmp_path / "two", tmp_path / "one")},
    ]
    assert moderator(repository, "run", task_list(tmp_path / "t", *pair), "-j", "2").returncode == 0
    alone = task_list(
        tmp_path / "t", *({"id": f"slot{n}", "run": "sleep 0.05; echo $MODERATOR_SLOT"} for n in range(3))
    )
    results = document(moderator(repository, "run", alone, "-j", "1", "--json"))["results"]
    assert [Path(result["log"]).read_text() for result in results] == ["0\n"] * 3


def test_timeout_is_for_tasks_without_their_own(repository: Path, tmp_path: Path) -> None:
    """`--timeout` limits a task that says nothing itself."""
    listed = task_list(
        tmp_path / "t",
        {"id": "long", "run": "sleep 60"},
        {"id": "own", "run": "sleep 0.6", "timeout": 30},
        {"id": "idle", "run": "sleep 60", "timeout": 30, "idle_timeout": 0.4},
    )
    results = document(moderator(repository, "run", listed, "--timeout", "0.4", "--json"))["results"]
    assert [result["outcome"] for result in results] == ["timed out", "unchanged", "idle"]


def test_configuration_is_read_from_the_main_worktree(repository: Path, tmp_path: Path, home: Path) -> None:
    """The person's file, the repository's, the one named: later wins, and options win over all."""
    (home / ".config/moderator").mkdir(parents=True)
    (home / ".config/moderator/config.yaml").write_text("keep: failed\ngear3: {parallel: {max_workers: 7}}\n")
    (repository / "moderator.yaml").write_text("gear3: {parallel: {max_workers: 5}}\nroot: ../elsewhere\n")
    (tmp_path / "named.yaml").write_text("gear3: {parallel: {isolation_level: directory}}\n")
    listed = task_list(tmp_path / "t", {"id": "one", "run": "true"})

    def planned(*options: str | Path, **environment: str) -> tuple[Any, ...]:
        plan = document(moderator(repository, "run", listed, "--dry-run", "--json", *options, **environment))["plan"]
        return (plan["workers"], plan["keep"], plan["isolation_level"], os.path.abspath(plan["tasks"][0]["path"]))

    elsewhere = str(tmp_path / "elsewhere/tasks/one")
    assert planned() == (5, "failed", "full", elsewhere)
    assert planned(MODERATOR_CONFIG=str(tmp_path / "named.yaml")) == (5, "failed", "directory", elsewhere)
    assert planned("--config", tmp_path / "named.yaml", "-j", "2", "--keep", "never", "--isolation", "full") == (
        *(2, "never", "full", elsewhere),
    )


def test_a_configuration_can_ask_for_one_at_a_time(repository: Path, tmp_path: Path) -> None:
    """`enabled: false` runs tasks in their order, one at a time."""
    (repository / "moderator.yaml").write_text("gear3: {parallel: {enabled: false}}\n")
    listed = task_list(tmp_path / "t", {"id": "one", "run": "true"}, {"id": "two", "run": "true"})
    assert document(moderator(repository, "run", listed, "--dry-run", "--json"))["plan"]["workers"] == 1


# -- wherever it is called ---------------------------------------------------------------------------------------------


def _ran(done: subprocess.CompletedProcess[str], tmp_path: Path, branch: str) -> None:
    (result,) = document(done)["results"]
    assert (done.returncode, result["branch"], result["path"]) == (
        *(0, branch, f"{tmp_path}/sample.moderator/tasks/one"),
    )


def test_from_a_subdirectory(repository: Path, tmp_path: Path) -> None:
    """Any directory of the repository will do, and the list is found from where one stands."""
    task_list(repository / "src/t.yaml", {"id": "one", "run": "pwd"})
    _ran(moderator(repository / "src", "run", "t.yaml", "--json"), tmp_path, "main-task-one")


def test_from_elsewhere(repository: Path, tmp_path: Path) -> None:
    """`--repo` names a repository, and the commands to type next name it too."""
    listed = task_list(tmp_path / "t", {"id": "one", "run": "true"})
    done = moderator("/", "run", listed, "--repo", repository, "--progress", "none")
    assert done.returncode == 0
    assert f" show one --repo {repository}  " in done.stderr


def test_from_a_linked_worktree(repository: Path, tmp_path: Path) -> None:
    """A worktree that a person made: its branch is the base; workspaces go beside the main worktree all the same."""
    git(repository, "worktree", "add", "-q", "-b", "side", tmp_path / "linked")
    listed = task_list(tmp_path / "t", {"id": "one", "run": "true"})
    _ran(moderator(tmp_path / "linked", "run", listed, "--json"), tmp_path, "side-task-one")


def test_from_inside_a_tasks_worktree(repository: Path, tmp_path: Path) -> None:
    """In a task's worktree every command knows the same workspaces, and a run there forks from the task's branch."""
    first = task_list(tmp_path / "t", {"id": "first", "run": "echo x > x"})
    assert moderator(repository, "run", first).returncode == 0
    inside = tmp_path / "sample.moderator/tasks/first"
    second = task_list(tmp_path / "t", {"id": "one", "run": "cat x"})
    _ran(moderator(inside, "run", second, "--json"), tmp_path, "main-task-first-task-one")
    assert ids(document(moderator(inside, "list", "--json"))["workspaces"]) == ["first", "one"]


def test_from_a_bare_repository(tmp_path: Path) -> None:
    """A repository without a checkout runs tasks in worktrees beside it."""
    bare = make_repository(tmp_path / "store.git", bare=True)
    listed = task_list(tmp_path / "t", {"id": "one", "run": "echo x > x"})
    (result,) = document(moderator(bare, "run", listed, "--json"))["results"]
    assert (result["outcome"], git(bare, "show", "main-task-one:x")) == ("succeeded", "x")


def test_variables_that_tie_git_tie_nothing_here(repository: Path, tmp_path: Path) -> None:
    """Called from a git hook, with GIT_DIR and its like set, the repository is the one that one stands in."""
    other = make_repository(tmp_path / "other")
    before = picture(other)
    listed = task_list(tmp_path / "t", {"id": "one", "run": "echo x > x; git add x; git commit -qm own"})
    environment = {
        "GIT_DIR": str(other / ".git"), "GIT_WORK_TREE": str(other), "GIT_INDEX_FILE": str(other / ".git/index"),
        "GIT_PREFIX": "src/",
    }  # fmt: skip
    _ran(moderator(repository, "run", listed, "--json", **environment), tmp_path, "main-task-one")
    assert document(moderator(repository, "list", "--json", **environment))["workspaces"][0]["ahead"] == 1
    assert picture(other) == before


def test_a_running_task_holds_nothing_of_the_person(repository: Path, tmp_path: Path) -> None:
    """While tasks run, a person commits in the main checkout; that is reported, for nobody knows who it was, and disturbs none."""
    run = f"touch {tmp_path}/on; while ! [ -e {tmp_path}/go ]; do sleep 0.02; done; echo x > x"
    listed = task_list(tmp_path / "t", {"id": "one", "run": run})
    with started(repository, "run", listed, "--json") as running:
        wait_until((tmp_path / "on").exists)
        git(repository, "commit", "--quiet", "--allow-empty", "-m", "mine")
        git(repository, "fetch", "--quiet", ".")
        (tmp_path / "go").touch()
        out, _ = running.communicate(timeout=PATIENCE)
    (result,) = json.loads(out)["results"]
    noted = ["HEAD of the main checkout changed while the task ran"]
    assert (running.returncode, result["outcome"], result["notes"]) == (0, "succeeded", noted)


# -- what is printed ---------------------------------------------------------------------------------------------------


def _on_terminal(cwd: Path, *arguments: str | Path, **environment: str) -> tuple[int, str]:
    """Run a command whose output is a terminal of 100 columns; return its exit code and what was written there."""
    reader, writer = pty.openpty()
    variables = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30", **environment}
    with subprocess.Popen(
        command(*arguments), cwd=cwd, env=variables, stdin=writer, stdout=writer, stderr=writer
    ) as process:
        os.close(writer)
        shown = b""
        while True:
            try:
                part = os.read(reader, 1 << 16)
            except OSError:  # the last process that had the terminal is gone
                break
            if not part:
                break
            shown += part
    os.close(reader)
    return process.returncode, shown.decode("utf-8", "replace")


def test_a_terminal_shows_the_run_live(repository: Path, tmp_path: Path) -> None:
    """On a terminal, running tasks are drawn with colours and cursor control, and the table follows."""
    listed = task_list(tmp_path / "t", {"id": "one", "run": "sleep 0.4", "description": "Rest a little"})
    code, shown = _on_terminal(repository, "run", listed)
    assert code == 0
    assert "Rest a little" in shown
    assert "\x1b[" in shown
    assert "done: 1 of 1 task succeeded" in shown


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=["NO_COLOR", "TERM=dumb"])
def test_no_colours_where_none_are_wanted(repository: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    """NO_COLOR and a dumb terminal get the same text without a single colour."""
    listed = task_list(tmp_path / "t", {"id": "one", "run": "exit 1"})
    code, shown = _on_terminal(repository, "run", listed, "--progress", "plain", **environment)
    assert (code, "\x1b" in shown) == (1, False)


def test_what_tasks_print_controls_no_terminal(repository: Path, tmp_path: Path) -> None:
    """Escape sequences in descriptions, ids and output are never passed on to a terminal by what is said of a task."""
    listed = task_list(
        tmp_path / "t",
        {"id": "a\x1b[2Jb", "description": "\x1b]0;mine\x07", "run": "printf '\\033[2Joops' >&2; exit 1"},
    )
    for arguments in (("run", listed), ("list",), ("show", "a\x1b[2Jb"), ("clean", "--all")):
        _, shown = _on_terminal(repository, *arguments, "--repo", ".", NO_COLOR="1", TERM="dumb")
        assert ("a [2Jb" in shown, "\x1b" in shown, "\x07" in shown) == (True, False, False), arguments


def test_a_name_in_any_bytes_is_a_name(tmp_path: Path) -> None:
    """A repository whose path is no UTF-8 works, and JSON stays parseable."""
    place = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    repository = make_repository(place)
    listed = task_list(tmp_path / "t", {"id": "one", "run": "echo x > x"})
    (result,) = document(moderator(repository, "run", listed, "--json"))["results"]
    assert (result["outcome"], result["path"]) == ("succeeded", f"{place}.moderator/tasks/one")
    assert moderator(repository, "path", "one").stdout == f"{place}.moderator/tasks/one\n"
    assert moderator(repository, "list").returncode == 0


@pytest.mark.parametrize("redirected", ["2>&-", ">&-", "2>/dev/full", "< /dev/null >&- 2>&-"])
@pytest.mark.some(1)
def test_a_run_is_carried_through_without_anybody_listening(repository: Path, tmp_path: Path, redirected: str) -> None:
    """With stdout or stderr closed or on a full disk, tasks run and are recorded all the same."""
    listed = task_list(tmp_path / "t", {"id": "one", "run": "echo x > x"})
    line = f"{sys.executable} -m moderator run --progress plain {listed} {redirected}"
    subprocess.run(["sh", "-c", line], cwd=repository, check=False, timeout=PATIENCE, capture_output=True)
    (workspace,) = document(moderator(repository, "list", "--json"))["workspaces"]
    (run,) = document(moderator(repository, "history", "--json"))["runs"]
    assert (workspace["outcome"], run["state"], run["succeeded"]) == ("succeeded", "finished", 1)
