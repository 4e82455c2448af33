"""What is wrong is told in words, with the right exit code, and nothing is made or changed."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from commandline import command, document, moderator, picture, task_list
from repos import git, make_repository

SHORTEST = "  hint: the shortest task list: tasks: [{id: task_001, run: make test}]"
RANGE = "is not in the range 1<=x<=32."

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs the rights of root")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "sample", [("first", {"README.md": "# Sample\n"})])


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    return task_list(tmp_path / "tasks.yaml", {"id": "one", "run": "echo x > x"}, {"id": "two", "run": "true"})


def refused(tmp_path: Path, cwd: Path, *arguments: str | Path, **environment: str) -> tuple[int, str]:
    """Return the exit code and what was said, after seeing that nothing changed anywhere and nothing was printed."""
    before = picture(tmp_path)
    done = moderator(cwd, *arguments, **environment)
    assert done.stdout == ""
    assert picture(tmp_path) == before
    return done.returncode, done.stderr


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path, repository: Path) -> None:
    """Neither as the configuration, nor as a list of tasks, nor where one of these names a file; our own input is read."""
    os.mkfifo(tmp_path / "pipe")
    named = task_list(
        tmp_path / "named", {"id": "a", "prompt_file": "pipe"}, {"id": "b", "run": "x", "foreach": {"lines": "pipe"}}
    )
    for arguments, times in ((["run", "../pipe", "--dry-run"], 1), (["run", named, "--dry-run"], 2)):
        code, said = refused(tmp_path, repository, *arguments)
        assert (code, said.count("it is a pipe or a device, not a file")) == (2, times), said
    os.mkfifo(repository / "moderator.yaml")
    code, said = refused(tmp_path, repository, "clean", "--all")
    assert (code, "it is a pipe or a device, not a file" in said) == (2, True), said
    (repository / "moderator.yaml").unlink()
    done = subprocess.run(
        command("run", "/dev/stdin", "--dry-run"), cwd=repository, input=b"tasks: [{id: a, run: x}]", check=False
    )
    assert done.returncode == 0


# -- the repository ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["list"], ["show", "a"], ["path", "a"], ["diff", "a"], ["logs", "a"], ["history"],
                                       ["clean", "--all"], ["run", "../tasks.yaml"]], ids=" ".join)  # fmt: skip
@pytest.mark.some(4)
def test_not_a_repository(tmp_path: Path, tasks: Path, arguments: list[str]) -> None:
    """Every command says where it looked, and how to name a repository."""
    plain = tmp_path / "plain"
    plain.mkdir()
    assert refused(tmp_path, plain, *arguments) == (
        2,
        f"error: {str(plain)!r} is not in a git repository\n"
        "  cause: fatal: not a git repository (or any of the parent directories): .git\n"
        "  hint: go to a repository, or name one with --repo\n",
    )


def test_a_repository_that_is_no_directory(tmp_path: Path, tasks: Path) -> None:
    """`--repo` must name a directory that is there."""
    assert refused(tmp_path, tmp_path, "run", tasks, "--repo", tmp_path / "absent") == (
        2, f"error: '{tmp_path}/absent' is not a directory\n  hint: name a directory inside a repository\n",
    )  # fmt: skip


def test_git_is_too_old(tmp_path: Path, repository: Path, tasks: Path) -> None:
    """The version that was found and the one that is needed."""
    old = tmp_path / "bin/git"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho git version 2.25.1\n")
    old.chmod(0o755)
    for arguments in (["run", str(tasks)], ["list"]):
        assert refused(tmp_path, repository, *arguments, PATH=f"{old.parent}{os.pathsep}{os.environ['PATH']}") == (
            4,
            "error: git is too old: found 'git version 2.25.1', 2.38 is needed\n  hint: install git 2.38 or newer\n",
        )


def test_git_is_missing(tmp_path: Path, repository: Path, tasks: Path) -> None:
    """Without git there is nothing to be done, and that is told."""
    assert refused(tmp_path, repository, "run", tasks, PATH=str(tmp_path)) == (
        4,
        "error: git is not installed, or not on PATH\n"
        "  cause: [Errno 2] No such file or directory: 'git'\n"
        "  hint: install git 2.38 or newer\n",
    )


@as_root
def test_a_repository_of_another_user(tmp_path: Path, repository: Path, tasks: Path) -> None:
    """What git refuses for safety is refused, with the command that trusts it."""
    for path in [repository, *repository.rglob("*")]:
        os.chown(path, 65534, 65534)
    assert refused(tmp_path, repository, "run", tasks) == (
        2,
        f"error: git refuses the repository at '{repository}' because it belongs to another user\n"
        f"  cause: fatal: detected dubious ownership in repository at '{repository}'\n"
        f"  hint: if you trust it: git config --global --add safe.directory {repository}\n",
    )


def test_a_mirror_is_refused_with_the_setting_to_change(tmp_path: Path, repository: Path, tasks: Path) -> None:
    """Where the next fetch would delete every branch of ours, no task gets a workspace, and none is left half-made."""
    git(repository, "config", "remote.origin.url", ".")
    git(repository, "config", "remote.origin.fetch", "+refs/*:refs/*")
    refs = git(repository, "show-ref")
    done = moderator(repository, "run", tasks, "--json")
    results = document(done)["results"]
    assert (done.returncode, [result["outcome"] for result in results]) == (1, ["no workspace"] * 2)
    assert results[0]["error_message"] == (
        "the next fetch from 'origin' would delete the branches of tasks: it mirrors every ref; "
        "hint: git config remote.origin.fetch '+refs/heads/*:refs/remotes/origin/*'"
    )
    assert git(repository, "show-ref") == refs
    assert list((tmp_path / "sample.moderator/tasks").iterdir()) == []


# -- the task list -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, ["a problem", "T: there is no such file; check the path"]),
        ("", ["a problem", "T:1:1: the file is empty; write the tasks under 'tasks:'", SHORTEST]),
        ("tasks: []", ["a problem", "T:1:8: there are no tasks; write them under 'tasks:'", SHORTEST]),
        ("tasks: {]", ["a problem", "T:1:9: a value is missing here; check the brackets, and quote a text that begins with one"]),
        (
            "tasks:\n- {id: a, run: x}\ntasks:\n- {id: b, run: y}\n",
            ["a problem", "T:3:1: the key 'tasks' is given twice, first in line 1; keep one"],
        ),
        (
            "tasks:\n- {id: a, run: x}\n- {id: a, run: y}\n",
            ["a problem", "T:3:8: the id 'a' is taken, by the task in line 2; give every task its own"],
        ),
        (
            "tasks:\n- {id: a, run: {b: 1}, timeout: soon}\n- {run: x, tiemout: 3, env: [A]}\n",
            [
                "5 problems",
                "T:2:16: run must be text for the shell, or a list of texts, not a mapping",
                "T:2:33: timeout must be a number of seconds, not the text 'soon'",
                "T:3:3: task 2 has no 'id': give it one, such as task_002",
                "T:3:12: unknown key 'tiemout'; did you mean 'timeout'?",
                "T:3:29: env must be a mapping of names to texts, not a list",
            ],
        ),
    ],
    ids=["missing", "empty", "no tasks", "not YAML", "duplicate keys", "duplicate ids", "types and keys"],
)  # fmt: skip
@pytest.mark.some(3)
def test_a_task_list_that_cannot_be_read(tmp_path: Path, repository: Path, text: str | None, said: list[str]) -> None:
    """Every problem of the file at once, each with its line and column, and a suggestion for what is misspelt."""
    listed = tmp_path / "tasks.yaml"
    if text is not None:
        listed.write_text(text)
    first, *lines = said
    expected = [f"error: the task list {str(listed)!r} has {first}"]
    expected += [line if line.startswith("  hint") else "    " + line.replace("T:", f"{listed}:", 1) for line in lines]
    code, told = refused(tmp_path, repository, "run", listed)
    assert (code, told.splitlines()) == (2, expected)


def test_a_directory_is_no_task_list(tmp_path: Path, repository: Path) -> None:
    """Another kind of file is told as what it is."""
    assert refused(tmp_path, repository, "run", tmp_path) == (
        2,
        f"error: the task list {str(tmp_path)!r} has a problem\n"
        f"    {tmp_path}: this is a directory; give the path of a file in it\n",
    )


def test_ids_that_would_share_a_name(tmp_path: Path, repository: Path) -> None:
    """All ids that collide are told, with their lines, before anything is made."""
    listed = tmp_path / "tasks.yaml"
    listed.write_text("tasks:\n- {id: a_b, run: x}\n- {id: a-b, run: x}\n- {id: A b, run: x}\n")
    assert refused(tmp_path, repository, "run", listed) == (
        2,
        "error: these tasks cannot be run\n"
        f"    {listed}:3: tasks 'a_b' and 'a-b' would share the branch 'main-task-a-b'; rename one of them\n"
        f"    {listed}:4: tasks 'a_b' and 'A b' would share the branch 'main-task-A-b'; rename one of them\n"
        "  hint: nothing was started; mend what is named here and run again\n",
    )


@pytest.mark.parametrize("level", ["none", "branch"])
def test_many_at_once_in_one_checkout(tmp_path: Path, repository: Path, tasks: Path, level: str) -> None:
    """Levels that share the base checkout are for one task at a time."""
    assert refused(tmp_path, repository, "run", tasks, "--isolation", level, "-j", "3") == (
        2,
        "error: these tasks cannot be run\n"
        f"    level {level} runs in the base checkout, which one task at a time can have: 3 workers are too many\n"
        "  hint: nothing was started; mend what is named here and run again\n",
    )


@pytest.mark.parametrize("level", ["none", "branch"])
def test_a_checkout_with_changes(tmp_path: Path, repository: Path, tasks: Path, level: str) -> None:
    """Levels that run in the base checkout do not run over what a person has not committed."""
    (repository / "mine").write_text("mine")
    assert refused(tmp_path, repository, "run", tasks, "--isolation", level) == (
        3,
        f"error: the checkout {str(repository)!r} has changes that are not committed: mine\n"
        "  hint: commit or stash them, or use --isolation full, which does not touch the checkout\n",
    )


# -- what was typed ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said", "hint"),
    [
        (["rnu"], "no command is called 'rnu'; did you mean 'run'?", "moderator --help"),
        (["zzz"], "no command is called 'zzz'", "moderator --help"),
        (["run"], "there is nothing to run; name a file of tasks, or give --cmd 'COMMAND'", "moderator run --help"),
        (["show"], "Missing argument 'TASK'.", "moderator show --help"),
        (["run", "../tasks.yaml", "-j", "0"], f"Invalid value for '-j' / '--jobs': 0 {RANGE}", "moderator run --help"),
        (["run", "../tasks.yaml", "-j", "33"], f"Invalid value for '-j' / '--jobs': 33 {RANGE}", "moderator run --help"),
        (["run", "../tasks.yaml", "--timeout", "nan"], "--timeout must be positive, not nan", "give seconds, such as 600"),
        (["run", "../tasks.yaml", "--timeout", "-1"], "--timeout must be positive, not -1", "give seconds, such as 600"),
        (["run", "../tasks.yaml", "--base", "mian"], "the base 'mian' names no commit in this repository", "did you mean 'main'?"),
        (["run", "../tasks.yaml", "--base", "--help"], "'--help' cannot be a base", "name a branch, a tag or a commit"),
        (["run", "../tasks.yaml", "--base", "main:a"], "the base 'main:a' names no commit in this repository", None),
        (["history", "-n", "0"], "Invalid value for '-n': 0 is not in the range x>=1.", "moderator history --help"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
@pytest.mark.some(5)
def test_what_was_typed_does_not_fit(
    tmp_path: Path, repository: Path, tasks: Path, arguments: list[str], said: str, hint: str | None
) -> None:
    """A sentence, the nearest right word where there is one, and what to type: exit 2."""
    code, told = refused(tmp_path, repository, *arguments)
    assert (code, told.splitlines()[0]) == (2, f"error: {said}")
    assert hint is None or told.splitlines()[1:] == [f"  hint: {hint}"]


def test_an_option_that_is_misspelt(tmp_path: Path, repository: Path, tasks: Path) -> None:
    """The nearest options are named."""
    code, told = refused(tmp_path, repository, "run", tasks, "--isolaton", "full")
    assert (code, told.startswith("error: No such option"), "--isolation" in told) == (2, True, True)


def test_a_branch_without_commits(tmp_path: Path, tasks: Path) -> None:
    """A repository without a commit has nothing to fork from; how to make one is told."""
    unborn = make_repository(tmp_path / "unborn", [])
    said = "error: the branch 'main' has no commits yet, so there is nothing to fork from\n"
    hint = "  hint: make a first commit (git commit --allow-empty -m start), or name another base"
    assert refused(tmp_path, unborn, "run", tasks) == (2, f"{said}{hint} with --base\n")
    assert refused(tmp_path, unborn, "run", tasks, "--base", "main") == (2, f"{said}{hint}\n")


def test_a_configuration_that_is_wrong(tmp_path: Path, repository: Path, tasks: Path) -> None:
    """Every complaint about every file, before anything is made; a task list is not even looked at."""
    (repository / "moderator.yaml").write_text("gear3: {parallel: {max_worker: 3}}\nkeep: sometimes\n")
    code, told = refused(tmp_path, repository, "run", tasks)
    assert code == 2
    assert told == (
        "error: 2 things are wrong with the configuration:\n"
        f"  - {repository}/moderator.yaml:1:20: unknown key 'max_worker' in 'gear3.parallel'; did you mean 'max_workers'?\n"
        f"  - {repository}/moderator.yaml:2:7: keep must be one of 'always', 'failed', 'never', not the text 'sometimes'\n"
    )


# -- the machine -------------------------------------------------------------------------------------------------------


def test_workspaces_that_have_no_place(tmp_path: Path, repository: Path, tasks: Path) -> None:
    """A file where the directory of workspaces should be: exit 4, and the setting that chooses another place."""
    (tmp_path / "sample.moderator").write_text("mine")
    assert refused(tmp_path, repository, "run", tasks) == (
        4,
        f"error: workspaces cannot be made in '{tmp_path}/sample.moderator'\n"
        f"  cause: [Errno 20] Not a directory: '{tmp_path}/sample.moderator/tasks'\n"
        "  hint: choose another place: root: /somewhere/writable in moderator.yaml\n",
    )


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A directory that is a file system of its own, of one megabyte; skips where mounting is not allowed."""
    place = tmp_path / "mounted"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot mount: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


@as_root
def test_workspaces_on_a_read_only_disk(tmp_path: Path, repository: Path, tasks: Path, mounted: Path) -> None:
    """A root that cannot be written is told before anything starts."""
    subprocess.run(["mount", "-o", "remount,ro", mounted], check=True)
    (repository / "moderator.yaml").write_text(f"root: {mounted}/w\n")
    assert refused(tmp_path, repository, "run", tasks) == (
        4,
        f"error: workspaces cannot be made in '{mounted}/w'\n"
        f"  cause: [Errno 30] Read-only file system: '{mounted}/w'\n"
        "  hint: choose another place: root: /somewhere/writable in moderator.yaml\n",
    )


@as_root
def test_workspaces_on_a_full_disk(tmp_path: Path, mounted: Path) -> None:
    """A tree that does not fit is an outcome with git's own words; no branch, entry or file of it stays."""
    repository = make_repository(tmp_path / "sample", [("first", {"big": os.urandom(3 << 20)})])
    (repository / "moderator.yaml").write_text(f"root: {mounted}/w\n")
    refs = git(repository, "show-ref")
    listed = task_list(tmp_path / "t", {"id": "one", "run": "true"}, {"id": "two", "run": "true"})
    done = moderator(repository, "run", listed, "--json", "-j", "2")
    results = document(done)["results"]
    assert (done.returncode, [result["outcome"] for result in results]) == (1, ["no workspace"] * 2)
    assert all("space" in result["error_message"] for result in results)
    assert git(repository, "show-ref") == refs
    assert git(repository, "worktree", "list", "--porcelain").count("worktree ") == 1
    assert [path for path in mounted.rglob("*") if not path.is_dir()] == []
    assert git(repository, "fsck", "--strict") == ""


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (["no-such-command"], "'no-such-command' does not exist: install it, or put its directory on PATH"),
        (["./README.md"], "'./README.md' may not be executed: is it a program, and has it the permission (chmod +x)?"),
        (["./no/such"], "'./no/such' does not exist"),
    ],
)
@pytest.mark.some(1)
def test_a_command_that_cannot_be_started(tmp_path: Path, repository: Path, run: list[str], said: str) -> None:
    """The task could not start and says why; its neighbours run."""
    listed = task_list(tmp_path / "t", {"id": "bad", "run": run}, {"id": "good", "run": "echo x > x"})
    done = moderator(repository, "run", listed, "--json")
    assert [(one["outcome"], one["error_message"]) for one in document(done)["results"]] == [
        ("could not start", said),
        ("succeeded", None),
    ]
    logs = moderator(repository, "logs", "bad")
    assert (done.returncode, logs.stdout) == (1, "")


# -- what earlier runs left --------------------------------------------------------------------------------------------


def test_a_branch_of_an_earlier_run(tmp_path: Path, repository: Path, tasks: Path) -> None:
    """A branch under a task's name refuses the whole run before anything starts, with the choices."""
    git(repository, "branch", "main-task-two")
    assert refused(tmp_path, repository, "run", tasks) == (
        3,
        "error: 1 of 2 tasks have something from an earlier run under their names; nothing was started\n"
        "    task 'two': the branch 'main-task-two' exists\n"
        f"  hint: {shlex.join(command('run', tasks, '--fresh'))}   # start anew; what is there is set aside and kept\n"
        "        keep its branch under another name: git branch -m main-task-two NEW-NAME\n"
        "        or delete its branch: git branch -d main-task-two (refuses what is not merged)\n"
        "        or give the tasks other ids\n",
    )


def test_workspaces_of_an_earlier_run(tmp_path: Path, repository: Path, tasks: Path) -> None:
    """The same list twice: the second is refused with every workspace that is there, and the commands in their order."""
    assert moderator(repository, "run", tasks).returncode == 0
    workspaces = tmp_path / "sample.moderator/tasks"
    assert refused(tmp_path, repository, "run", tasks) == (
        3,
        "error: 2 of 2 tasks have something from an earlier run under their names; nothing was started\n"
        f"    task 'one': the workspace at {workspaces}/one exists\n"
        f"    task 'two': the workspace at {workspaces}/two exists\n"
        f"  hint: {shlex.join(command('run', tasks, '--fresh'))}   # start anew; what is there is set aside and kept\n"
        "        look at it: moderator show one\n"
        "        remove its workspace first: moderator clean one\n"
        "        keep its branch under another name: git branch -m main-task-one NEW-NAME\n"
        "        or delete its branch: git branch -d main-task-one (refuses what is not merged)\n"
        "        or give the tasks other ids\n",
    )


def test_a_result_of_an_earlier_run(tmp_path: Path, repository: Path) -> None:
    """At level DIRECTORY the result of an earlier run is in the way as a branch would be: it is never replaced."""
    first = task_list(tmp_path / "first.yaml", {"id": "one", "run": "echo first > x"})
    second = task_list(tmp_path / "second.yaml", {"id": "one", "run": "echo second > y"})
    assert moderator(repository, "run", first, "--isolation", "directory", "--keep", "never").returncode == 0
    assert moderator(repository, "run", second, "--isolation", "directory").returncode == 3
    assert git(repository, "show", "refs/moderator/result/one:x") == "first"


@pytest.fixture
def damaged(repository: Path, tasks: Path) -> Path:
    """A repository with two workspaces and a record of runs that is none."""
    assert moderator(repository, "run", tasks).returncode == 0
    record = repository / ".git/moderator/history.db"
    for path in record.parent.glob("history.db-*"):
        path.unlink()
    record.write_bytes(b"garbage\n" * 100)
    return record


def _damage(record: Path, kind: str = "error") -> str:
    return (
        f"{kind}: the record of runs {str(record)!r} is damaged, or not a record of runs\n"
        "  cause: file is not a database\n"
        "  hint: move the file aside, with its -wal and -shm; a new one is begun, nothing in git depends on it\n"
    )


def test_a_damaged_record_stops_what_needs_it(tmp_path: Path, repository: Path, damaged: Path) -> None:
    """No run is begun that could not be recorded, and the file is left as it is."""
    other = task_list(tmp_path / "other", {"id": "three", "run": "true"})
    for arguments in (["run", str(other)], ["history"], ["logs", "one"]):
        assert refused(tmp_path, repository, *arguments) == (4, _damage(damaged))


@pytest.mark.slow
def test_a_damaged_record_stops_nothing_else(repository: Path, damaged: Path) -> None:
    """Workspaces are listed, shown, compared and removed without it; only outcomes are unknown, with a warning."""
    done = moderator(repository, "list", "--json")
    found = document(done)["workspaces"]
    assert (done.returncode, done.stderr) == (0, _damage(damaged, "warning"))
    assert [(one["task_id"], one["state"], one["outcome"]) for one in found] == [
        ("one", "ready", None), ("two", "ready", None),
    ]  # fmt: skip
    assert [
        moderator(repository, *arguments).returncode for arguments in (["list"], ["show", "one"], ["path", "one"])
    ] == [*(0, 0, 0)]
    assert moderator(repository, "diff", "one").stdout.startswith("diff --git")
    assert moderator(repository, "clean", "--all").returncode == 0
    assert damaged.read_bytes() == b"garbage\n" * 100


@pytest.mark.slow
def test_a_root_for_workspaces_that_vanished(tmp_path: Path, repository: Path, tasks: Path) -> None:
    """With the whole folder of workspaces away, a disk not mounted say, all are missing, and none is given up for that."""
    assert moderator(repository, "run", tasks).returncode == 0
    shutil.rmtree(tmp_path / "sample.moderator")
    found = document(moderator(repository, "list", "--json"))["workspaces"]
    assert [(one["task_id"], one["state"]) for one in found] == [("one", "missing"), ("two", "missing")]
    for arguments in (("clean", "--all"), ("clean", "--all", "--dry-run")):
        refused = moderator(repository, *arguments)
        assert refused.returncode == 3
        assert (
            f"hint: mount it or move it back; if it is really gone, make it again empty: mkdir -p {tmp_path}"
            in refused.stderr
        )
    (tmp_path / "sample.moderator/tasks").mkdir(parents=True)
    done = moderator(repository, "clean", "--all")
    assert (done.returncode, done.stderr) == (0, "")
    other = task_list(tmp_path / "other", {"id": "three", "run": "true"})
    assert moderator(repository, "run", other).returncode == 0


def test_a_bug_of_ours_is_told_as_one(repository: Path, tmp_path: Path) -> None:
    """A mistake in the program ends with 5, one line, and the file that has the traceback."""
    program = (
        "import sys; from moderator.cli.output import failing\n"
        "def broken(): raise ZeroDivisionError('a mistake')\n"
        "sys.exit(failing(broken))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=repository, env={**os.environ, "TMPDIR": str(tmp_path)}, capture_output=True,
        text=True,
    )  # fmt: skip
    (trace,) = tmp_path.glob("moderator-*.log")
    assert (done.returncode, done.stdout, done.stderr) == (
        5, "",
        "error: this is a bug in moderator: ZeroDivisionError: a mistake\n"
        f"  hint: report it with the file {trace}\n",
    )  # fmt: skip
    assert "Traceback" in trace.read_text()


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path, repository: Path) -> None:
    """What the file says wrong, names that meet, too many workers and a base that is none come in one answer."""
    listed = tmp_path / "tasks.yaml"
    listed.write_text("base: nowhere\ntasks:\n  - {id: a_b, run: x, tiemout: 3}\n  - {id: a-b, run: x}\n")
    assert refused(tmp_path, repository, "run", listed, "--isolation", "branch", "-j", "4") == (
        2,
        f"error: the task list {str(listed)!r} has 4 problems\n"
        f"    {listed}:3:23: unknown key 'tiemout'; did you mean 'timeout'?\n"
        "    the base 'nowhere' names no commit in this repository\n"
        "    level branch runs in the base checkout, which one task at a time can have: 4 workers are too many\n"
        f"    {listed}:4: tasks 'a_b' and 'a-b' would share the branch 'nowhere-task-a-b'; rename one of them\n",
    )


@pytest.mark.parametrize("level", ["none", "branch"])
def test_a_level_that_runs_in_the_checkout_forks_from_it(
    tmp_path: Path, repository: Path, tasks: Path, level: str
) -> None:
    """A base that is not what is checked out is refused before anything starts, with the command that checks it out."""
    git(repository, "branch", "old")
    git(repository, "commit", "--quiet", "--allow-empty", "-m", "newer")
    code, said = refused(tmp_path, repository, "run", tasks, "--isolation", level, "--base", "old")
    assert (code, "hint: git switch old there, or use level full" in said) == (2, True)
