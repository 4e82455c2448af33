"""One task that stands for many, and a command without a file, as people and scripts see them."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from commandline import alive, document, ids, moderator, picture, started, task_list, wait_until
from repos import git, make_repository

ODD = 'd/it\'s $(touch pwned) "q"\n.txt'
LATIN = b"d/lat\xe9.txt"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    files: dict[str | bytes, str] = {"a.py": "1\n", "d/b.py": "22\n", "d/c.txt": "3\n", ODD: "4\n", LATIN: "5\n"}
    return make_repository(tmp_path / "r", [("first", files)])


def test_a_command_runs_for_each_file_whatever_its_name_holds(repository: Path) -> None:
    """Quotes, line breaks, bytes that are no UTF-8: the command gets the file, in its words and in its environment."""
    line = 'test -f {item} && printf %s "$MODERATOR_ITEM" > out && cmp -s {item} "$MODERATOR_ITEM"'
    (repository / "d/new.txt").write_text("not tracked\n")
    done = moderator(
        repository, "run", "--cmd", line, "--foreach", "d/*", "--foreach", "!**/b.*", "--json", "--id", "x"
    )
    results = document(done)["results"]
    assert (done.returncode, [one["outcome"] for one in results]) == (0, ["succeeded"] * 3)
    assert ids(results) == ["x-d--c.txt", "x-d-it-s-touch-pwned-q.txt-0755c430", "x-d-lat.txt-eca0fef2"]
    held = [git(repository, "show", f"{one['branch']}:out") for one in results]
    assert held == ["d/c.txt", ODD, os.fsdecode(LATIN)]
    assert git(repository, "log", "-1", "--format=%s", results[2]["branch"]).startswith("test -f d/lat\\udce9.txt &&")
    inner = (
        "run",
        "--cmd",
        'printf %s "[$MODERATOR_ITEM$MODERATOR_MATRIX_A]" > out',
        "--id",
        "inner",
        "--progress",
        "none",
    )
    assert moderator(repository, *inner, MODERATOR_ITEM="outer", MODERATOR_MATRIX_A="outer").returncode == 0
    assert git(repository, "show", "main-task-inner:out") == "[]"  # what a task around it is made for is not its own


@pytest.mark.slow
def test_the_plan_shows_every_task_and_makes_nothing(repository: Path, tmp_path: Path) -> None:
    """What each is made for is in the document; the files are those of the base, and a list's command runs in the checkout."""
    git(repository, "branch", "old")
    (repository / "new.py").write_text("x\n")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "second")
    tasks = task_list(
        tmp_path / "tasks.yaml",
        {"id": "check", "run": "check {item}", "foreach": "*.py"},
        {"id": "top", "run": ["echo", "{item}"], "foreach": {"command": "ls *.py; pwd > ../where"}},
        {"id": "loose", "run": "echo {item}", "foreach": {"files": "*.loose", "untracked": True}},
        {"id": "test", "run": "x", "matrix": {"py": ["3.11", "3.12"], "db": ["a"]}, "variants": 2},
    )
    (repository / "f.loose").touch()
    before = picture(repository)
    plan = document(moderator(repository, "run", tasks, "--dry-run", "--json"))["plan"]
    assert {one["task_id"]: one["values"] for one in plan["tasks"]} == {
        "check-a.py": {"item": "a.py"},
        "check-new.py": {"item": "new.py"},
        "top-a.py": {"item": "a.py"},
        "top-new.py": {"item": "new.py"},
        "loose-f.loose": {"item": "f.loose"},
        **{f"test-{py}-a@{n}": {"py": py, "db": "a"} for py in ("3.11", "3.12") for n in (1, 2)},
    }
    assert plan["tasks"][2]["run"] == ["echo", "a.py"]
    assert picture(repository) == before
    assert (tmp_path / "where").read_text() == f"{repository}\n"
    old = document(moderator(repository, "run", tasks, "--dry-run", "--json", "--base", "old"))["plan"]
    assert ids(old["tasks"])[:2] == ["check-a.py", "top-a.py"]
    (tmp_path / "where").unlink()
    unasked = moderator(repository, "route", tasks)
    assert (unasked.returncode, "prints; add --lists" in unasked.stderr, (tmp_path / "where").exists()) == (
        2,
        True,
        False,
    )
    routed = document(moderator(repository, "route", tasks, "--lists", "--json"))["tasks"]
    assert ids(routed) == ids(plan["tasks"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--foreach", "*.py"], "--foreach needs a --cmd to run; name a file of tasks, or give --cmd 'COMMAND'"),
        (["t.yaml", "--cmd", "x"], "--cmd stands beside 't.yaml'; give a file of tasks, or --cmd"),
        (["--cmd", " "], "--cmd: run is empty; it must be text"),
        (["--cmd", "x", "--resume"], "only a run of tasks that a file lists can be resumed"),
        (["--cmd", 'x "{item}"', "--foreach", "*"], "--cmd: '{item}' stands inside quotes in run; what"),
        (["--cmd", "x", "--foreach", "b.py"], "--cmd: no tracked file matches 'b.py'; '**/b.py' also looks into directories"),
        (["--cmd", "x", "--foreach", "*", "--base", "nope"], "--cmd: the base 'nope' names no commit in this repository"),
        (["--cmd", "x", "--foreach", "!*"], "--cmd: every pattern of files takes some away and none names any"),
        (["--cmd", "x", "--id", "a-{item}"], None),
        (["--cmd", "x", "--foreach", "*", "--id", "{hsh}"], "no placeholder is called 'hsh'; did you mean 'hash'?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
@pytest.mark.some(5)
def test_what_does_not_fit_is_told(repository: Path, arguments: list[str], said: str | None) -> None:
    """A sentence, exit code 2, and nothing is made."""
    before = picture(repository)
    done = moderator(repository, "run", *arguments, *([] if said else ["--dry-run"]))
    assert (done.returncode, said is None or said in done.stderr) == (2 if said else 0, True), done.stderr
    assert picture(repository) == before


def test_a_list_that_cannot_be_had_stops_the_run(repository: Path, tmp_path: Path) -> None:
    """A command that fails, or takes too long, is a problem of the plan, with what it complained of; nothing of it stays."""
    pid = tmp_path / "pid"
    tasks = task_list(
        tmp_path / "t.yaml",
        {"id": "a", "run": "x", "foreach": {"command": "echo it broke >&2; exit 3"}},
        {"id": "b", "run": "x", "foreach": {"command": f"echo $$ > {pid}; sleep 60", "timeout": 0.5}},
        {"id": "c", "run": "x", "foreach": {"command": ["no-such-program"]}},
    )
    done = moderator(repository, "run", tasks)
    assert done.returncode == 2
    assert "the command that lists what to do failed: exit code 3 (it broke)" in done.stderr
    assert "limit of 0.5 s passed" in done.stderr
    assert "'no-such-program' does not exist" in done.stderr
    assert not alive(int(pid.read_text()))
    bare = tmp_path / "bare"
    git(tmp_path, "clone", "--quiet", "--bare", repository, bare)
    done = moderator(bare, "run", tasks)
    assert (done.returncode, done.stderr.count("a bare repository has no checkout")) == (2, 3)
    assert moderator(bare, "run", "--cmd", "true", "--foreach", "*.py", "--dry-run").returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_command_of_a_list_ends_with_us(repository: Path, tmp_path: Path, number: signal.Signals) -> None:
    """Whatever ends moderator while a list is made ends what makes it."""
    pid = tmp_path / "pid"
    command = f"echo $$ > {pid}.new; mv {pid}.new {pid}; sleep 60"
    tasks = task_list(tmp_path / "t.yaml", {"id": "b", "run": "x", "foreach": {"command": command}})
    with started(repository, "run", tasks) as process:
        wait_until(pid.exists, "the command")
        process.send_signal(number)
        process.wait()
        assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}.get(number, -number)
    wait_until(lambda: not alive(int(pid.read_text())), "its end")


def test_a_run_goes_on_when_its_list_has_grown(repository: Path, tmp_path: Path) -> None:
    """What is done is known by its id, wherever it now stands in the list; only what is new is run."""
    (tmp_path / "list").write_text("m\nz\n")
    tasks = task_list(tmp_path / "t.yaml", {"id": "t", "run": "echo {item} > out", "foreach": {"lines": "list"}})
    first = document(moderator(repository, "run", tasks, "--json"))
    (tmp_path / "list").write_text("a\nm\nz\n")
    again = document(moderator(repository, "run", tasks, "--json", "--resume"))
    assert ids(again["results"]) == ["t-a", "t-m", "t-z"]
    assert [one["commit"] for one in again["results"][1:]] == [one["commit"] for one in first["results"]]
    assert git(repository, "show", "main-task-t-a:out") == "a"
