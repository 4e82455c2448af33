"""`moderator exec` and `open`: a person's command in workspaces, as if it had been typed there."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from commandline import PATIENCE, alive, command, document, ids, moderator, picture, started, wait_until
from moderator.git.manager import GitManager
from repos import git, make_repository
from terminal import Shell, Terminal
from workspaces import BRANCH, context


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    repository = make_repository(tmp_path / "sample", [("first", {"README.md": "# Sample\n"})])
    manager = GitManager(repository)
    for task_id in ("one", "two", "my task"):
        manager.create_workspace(context(tmp_path, task_id)).release()
    return repository


def test_it_is_as_if_the_command_had_been_typed_there(repository: Path, tmp_path: Path) -> None:
    """Directory, environment, arguments, streams and exit code are the command's own; a signal's is 128 and its number."""
    script = "pwd; env | grep ^MODERATOR_ | sort; printf '<%s>' \"$@\"; cat; echo err >&2; exit 7"
    done = subprocess.run(
        command("exec", "main-task-one", "--", "sh", "-c", script, "name", "--json", "a  b", "--", ""),
        cwd=repository, input=b"in\xff", capture_output=True, env={**os.environ, "GIT_DIR": "/nowhere"},
    )  # fmt: skip
    workspace = GitManager(repository).of_task("one")
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (7, b"err\n")
    assert lines[0].decode() == workspace.path
    told = dict(line.decode().split("=", 1) for line in lines[1:-1])
    assert told.pop("MODERATOR_RUN")
    assert told == {
        "MODERATOR_TASK_ID": "one", "MODERATOR_WORKSPACE": workspace.path, "MODERATOR_BRANCH": "main-task-one",
        "MODERATOR_BASE": workspace.base, "MODERATOR_STATE_DIR": workspace.state_dir, "MODERATOR_ATTEMPT": "0",
        "MODERATOR_SLOT": "0",
    }  # fmt: skip
    assert lines[-1] == b"<--json><a  b><--><>in\xff"
    assert moderator(repository, "exec", "one", "--", "sh", "-c", "kill -9 $$").returncode == 128 + 9
    missing = moderator(repository, "exec", "one", "--", "no-such-program")
    assert (missing.returncode, missing.stdout) == (127, "") and "'no-such-program' does not exist" in missing.stderr
    assert moderator(repository, "exec", "one", "--", "./README.md").returncode == 126


@pytest.mark.slow
def test_it_has_what_the_configuration_gives_to_tasks(repository: Path) -> None:
    """Variables filled in, ports and temporary files of its own; a repository's own word only once it is agreed to."""
    (repository / "moderator.yaml").write_text(
        "ports: {count: 2}\nenv: {A: 'shop-{task_id}-{slot}', P: '{port_1}', C: '{tmp}/c', W: '{workspace}|{branch}|{base}'}\n"
    )
    script = 'echo "$A|$P|$MODERATOR_PORT|$MODERATOR_PORT_COUNT|$C|$TMPDIR|$W"; echo x > "$C"'
    refused = moderator(repository, "exec", "one", "--", "sh", "-c", script)
    assert (refused.returncode, refused.stdout, "nobody has agreed" in refused.stderr) == (3, "", True)
    assert moderator(repository, "trust", "--yes").returncode == 0
    done = moderator(repository, "exec", "one", "--", "sh", "-c", script)
    assert (done.returncode, done.stderr) == (0, "")
    name, second, first, count, file, scratch, *rest = done.stdout.strip().split("|")
    workspace = GitManager(repository).of_task("one")
    assert (name, int(second), count, file) == ("shop-one-0", int(first) + 1, "2", f"{scratch}/c")
    assert (rest, os.path.exists(scratch)) == ([workspace.path, "main-task-one", workspace.base], False)
    failed = moderator(repository, "exec", "one", "two", "--json", "--", "sh", "-c", f"{script}; sleep 1; exit 3")
    told = [one["stdout"].split("|") for one in document(failed)["results"]]
    assert len({one[2] for one in told}) == 2  # at the same time
    for one in told:
        assert f"its temporary files stay for a time: {one[5]}" in failed.stderr
        shutil.rmtree(one[5])
    (repository / "moderator.yaml").write_text("env: {P: '{port_1}'}\n")
    assert moderator(repository, "trust", "--yes").returncode == 0
    none = moderator(repository, "exec", "one", "--", "true")
    assert (none.returncode, "tasks are given 0" in none.stderr) == (2, True)


def test_what_is_typed_wrong_starts_nothing(repository: Path, tmp_path: Path) -> None:
    """Each with what to type instead."""
    touch = ("--", "touch", str(tmp_path / "began"))
    full = tmp_path / "full"
    full.mkdir()
    (full / "kept").touch()
    for arguments, said in [
        (("one",), "moderator exec TASK -- COMMAND..."),
        (("one", "--"), "no command is given"),
        (touch, "no command is given"),
        (("--json", *touch), "say in which workspaces"),
        (("one", "nope", *touch), "no workspace belongs to 'nope'"),
        (("one", "--all", *touch), "by name, or by what holds for them, not both"),
        (("--all", "--done", *touch), "moderator exec --done"),
        (("--all", "--output", str(full), *touch), "is there already, and not empty"),
        (("one", "-j", "0", *touch), "not in the range"),
    ]:
        done = moderator(repository, "exec", *arguments)
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "began").exists()


@pytest.mark.slow
def test_in_all_of_them(repository: Path, tmp_path: Path) -> None:
    """Every line has its task's name, then a table; 1 if one failed; files or one document instead where asked for."""
    script = 'echo out; echo "of $MODERATOR_TASK_ID" >&2; [ "$MODERATOR_TASK_ID" != two ] || kill -TERM $$'
    done = moderator(repository, "exec", "--all", "-j", "2", "--", "sh", "-c", script)
    assert done.returncode == 1
    assert sorted(done.stdout.splitlines()) == sorted(
        line for one in ("one", "two", "my task") for line in (f"{one} | out", f"{one} | of {one}")
    )
    rows = [re.split(r"  +", line) for line in done.stderr.splitlines()]
    assert [row[0] for row in rows] == ["", "✓", "✓", "✗"]
    assert [row[1:3] + row[4:] for row in rows[1:]] == [["my task", "0"], ["one", "0"], ["two", "143", "exit code 143"]]
    found = document(moderator(repository, "exec", "one", "my task", "--json", "--", "sh", "-c", script))
    assert ids(found["results"]) == ["one", "my task"]
    assert [(one["success"], one["exit_code"], one["stdout"]) for one in found["results"]] == [(True, 0, "out\n")] * 2
    files = tmp_path / "logs"
    assert moderator(repository, "exec", "--all", "--output", files, "--", "echo", "x").returncode == 0
    assert sorted((file.name, file.read_text()) for file in files.iterdir()) == [
        ("my-task.log", "x\n"), ("one.log", "x\n"), ("two.log", "x\n"),
    ]  # fmt: skip
    nothing = moderator(repository, "exec", "--done", "--json", "--", "false")
    assert (nothing.returncode, document(nothing)["results"]) == (0, [])


@pytest.mark.slow
def test_nobody_else_gets_a_workspace_meanwhile(repository: Path, tmp_path: Path) -> None:
    """A live run's workspace is refused, unless only reading is meant; and what exec has is neither run in nor removed."""
    with GitManager(repository).hold("one"):
        held = moderator(repository, "exec", "one", "--", "touch", "x")
        assert (held.returncode, "is held by process" in held.stderr) == (75, True)
        assert moderator(repository, "exec", "one", "--shared", "--", "cat", "README.md").stdout == "# Sample\n"
        some = moderator(repository, "exec", "one", "two", "--json", "--", "true")
        assert (some.returncode, [one["exit_code"] for one in document(some)["results"]]) == (1, [None, 0])
        assert moderator(repository, "exec", "one", "--json", "--", "true").returncode == 75
    pid = tmp_path / "pid"
    with started(repository, "exec", "one", "--", "sh", "-c", f"echo $$ > {pid}; exec sleep 600") as running:
        wait_until(lambda: pid.exists() and pid.read_text(), "the command")
        assert moderator(repository, "clean", "one").returncode == 75
        assert moderator(repository, "exec", "one", "--", "true").returncode == 75
        running.kill()  # its supervisor ends the command, and holds the workspace until it has
        running.wait()
    wait_until(lambda: not alive(int(pid.read_text())), "the end of the command")
    wait_until(lambda: GitManager(repository).holder("one") is None, "the end of the lease")
    assert moderator(repository, "clean", "one").returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_are_passed_on(repository: Path, tmp_path: Path, number: signal.Signals) -> None:
    """To one command, whose exit code tells; and to all of them, which are ended in order."""
    ready = tmp_path / "ready"
    name = number.name.removeprefix("SIG")
    one = f"trap 'echo got {name}; exit 9' {name}; touch {ready}; while :; do sleep 0.01; done"
    with started(repository, "exec", "one", "--", "sh", "-c", one) as running:
        wait_until(ready.exists)
        running.send_signal(number)
        assert running.communicate(timeout=PATIENCE)[0] == f"got {name}\n"
    assert running.returncode == 9
    if number is signal.SIGTERM:
        many = "touch $MODERATOR_TASK_ID.ready; sleep 600"
        with started(repository, "exec", "one", "two", "--json", "--", "sh", "-c", many) as running:
            paths = [Path(GitManager(repository).of_task(name).path, f"{name}.ready") for name in ("one", "two")]
            wait_until(lambda: all(map(Path.exists, paths)))
            running.send_signal(number)
            found = json.loads(running.communicate(timeout=PATIENCE)[0])
        assert (running.returncode, [one["ending"] for one in found["results"]]) == (143, ["cancelled"] * 2)


def test_at_a_terminal(repository: Path, tmp_path: Path) -> None:
    """The command has the terminal: it reads what is typed, Ctrl-C ends it once, Ctrl-Z stops it and fg goes on."""
    call = " ".join(command("exec", "one", "--"))
    with Shell("bash", repository) as shell:
        shell.type(f"{call} sh -c 'test -t 0 && test -t 1 && echo as''king && read line && echo got:$line:'\r")
        shell.until("asking")
        shell.type("typed\r")
        shell.until("got:typed:")
        shell.until(r"ended=0")
        count = "n=0; trap 'n=$((n+1)); echo caught:$n:' INT; trap 'echo a''gain' CONT; echo re''ady; while :; do sleep 0.05; done"
        shell.type(f'{call} sh -c "{count.replace("$", chr(92) + "$")}"\r')
        shell.until(r"\bready\b")
        shell.type("\x03")
        shell.until("caught:1:")
        shell.type("\x1a")
        shell.until("Stopped")
        shell.type("fg\r")
        shell.until("again")  # before that the terminal is the shell's
        shell.type("\x03")
        shell.until("caught:2:")
        shell.type("\x1c")
        shell.until(f"ended={128 + signal.SIGQUIT}")


@pytest.mark.slow
def test_open(repository: Path, tmp_path: Path) -> None:
    """The configured command, $VISUAL, $EDITOR, or a shell; where nothing is set, it is said what to set."""
    path = GitManager(repository).of_task("my task").path
    editor = tmp_path / "my editor"
    editor.write_text('#!/bin/sh\nprintf "<%s>" "$PWD" "$@"\n')
    editor.chmod(0o755)
    plain = {"VISUAL": "", "EDITOR": ""}
    nothing = moderator(repository, "open", "my task", **plain)
    assert (nothing.returncode, 'open: [code, -n, "{path}"]' in nothing.stderr) == (2, True)
    shown = f"<{path}><-w><{path}>"
    for name in ("VISUAL", "EDITOR"):
        assert moderator(repository, "open", "my task", **{**plain, name: f"'{editor}' -w"}).stdout == shown
    with Terminal(command("open", "my task", "--shell"), repository, SHELL="/bin/sh") as terminal:
        terminal.type("pwd; exit 5\r")
        terminal.until(path)
        assert terminal.process.wait(PATIENCE) == 5
    before = picture(repository / ".git/moderator/workspaces")
    with GitManager(repository).hold("my task"):
        assert moderator(repository, "open", "my task").returncode == 75
    (repository / "moderator.yaml").write_text(f'open: ["{editor}", "{{task_id}} on {{branch}}"]\n')
    assert moderator(repository, "open", "my task").returncode == 3, "nobody has agreed to that"
    assert moderator(repository, "trust", "--yes").returncode == 0
    assert moderator(repository, "open", "my task").stdout == f"<{path}><my task on main-task-my-task><{path}>"
    (repository / "moderator.yaml").write_text("open: code -n\n")
    assert moderator(repository, "open", "my task").returncode == 2
    assert picture(repository / ".git/moderator/workspaces") == before


@pytest.mark.slow
def test_open_renders_what_exec_does(tmp_path: Path) -> None:
    """With the environment that it agrees with, but a directory for temporary files that stays; once that is agreed to."""
    tracked = {".env.example": "PORT=${MODERATOR_PORT}\n", ".gitignore": ".env\n"}
    repository = make_repository(tmp_path / "sample", [("first", tracked)])
    with GitManager(repository).create_workspace(context(tmp_path, "one")) as workspace:
        rendered = Path(workspace.path, ".env")
    (repository / "moderator.yaml").write_text("render: [.env.example]\nports: {count: 1}\nenv: {PORT: '{port}'}\n")
    editor = {"VISUAL": """sh -c 'echo "PORT=$PORT"; cat .env; echo "$TMPDIR"'""", "TMPDIR": str(tmp_path)}
    refused = moderator(repository, "open", "one", **editor)
    assert (refused.returncode, refused.stdout, rendered.exists()) == (3, "", False)
    assert moderator(repository, "trust", "--yes").returncode == 0
    for _ in range(2):
        port, line, temporary = moderator(repository, "open", "one", **editor).stdout.split()
        assert (port == line, port != "PORT=", temporary) == (True, True, str(tmp_path))
    rendered.write_text("PORT=1\n")
    done = moderator(repository, "open", "one", **editor)
    assert (done.returncode, done.stdout.split()[1]) == (0, "PORT=1")
    assert "note: one: somebody's own, or changed since it was rendered" in done.stderr


def test_a_level_that_runs_in_the_checkout(repository: Path, tmp_path: Path) -> None:
    """There the command runs in the checkout; a workspace whose directory is gone is refused."""
    manager = GitManager(repository)
    manager.create_workspace(context(tmp_path, "b", BRANCH, checkout=repository)).release()
    assert moderator(repository, "exec", "b", "--", "pwd").stdout == f"{repository}\n"
    os.rename(manager.of_task("two").path, tmp_path / "moved")
    gone = moderator(repository, "exec", "two", "--", "true")
    assert (gone.returncode, "deleted by hand" in gone.stderr) == (3, True)
    assert git(repository, "status", "--porcelain") == ""
