"""Set-ups on the command line: what people see of them, and how a run goes on where one failed or was cut short."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from commandline import alive, document, moderator, started, task_list, wait_until
from repos import git, make_repository

QUIET = ("--progress", "none")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "shop", [("first", {"a.txt": "1\n"})])


def states(repository: Path) -> dict[str, tuple[str, str | None]]:
    """Return the state and the last outcome of each workspace."""
    listed = document(moderator(repository, "list", "--json"))["workspaces"]
    return {one["task_id"]: (one["state"], one["outcome"]) for one in listed}


@pytest.mark.slow
def test_a_run_killed_in_a_set_up_sets_up_again(repository: Path, tmp_path: Path) -> None:
    """Every stage has its word; the set-up ends with its run; --resume repeats it in a new workspace, in the old one if asked."""
    pids, go = tmp_path / "pids", tmp_path / "go"
    setup = f"echo $$ >> {pids}; echo x >> made; echo made > .gitignore; test -e {go} || sleep 60"
    listed = task_list(
        tmp_path / "tasks.yaml",
        *(
            {"id": task_id, "run": f"wc -l < made > lines; cat lines >> {tmp_path}/said", "setup": setup}
            for task_id in "ab"
        ),
        {"id": "fine", "run": "true", "setup": "true"},
    )
    with started(repository, "run", listed, "-j", "3", *QUIET) as running:
        wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 2, "both set-ups")
        wait_until(lambda: states(repository).get("fine") == ("done", "unchanged"), "the third task")
        assert [states(repository)[task_id] for task_id in "ab"] == [("setting up", "running")] * 2
        assert "state        setting up, held by process" in moderator(repository, "show", "a").stdout
        running.kill()
    wait_until(lambda: not any(alive(int(pid)) for pid in pids.read_text().split()), "the end of the set-ups")
    wait_until(
        lambda: states(repository)["a"][0] != "setting up" != states(repository)["b"][0], "the end of the leases"
    )
    assert [states(repository)[task_id] for task_id in "ab"] == [("set-up interrupted", "interrupted")] * 2
    go.touch()
    refused = moderator(repository, "run", listed, "--resume-setup", "fine", *QUIET)
    assert (refused.returncode, "'fine' has no workspace whose set-up failed" in refused.stderr) == (2, True)
    done = moderator(repository, "run", listed, "-j", "1", "--resume-setup", "b", *QUIET)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "said").read_text().split() == ["1", "2"]  # a anew, b as its first set-up had left it
    assert states(repository) == {"a": ("done", "succeeded"), "b": ("done", "succeeded"), "fine": ("done", "unchanged")}


@pytest.mark.slow
def test_a_set_up_that_failed_is_shown_and_repeated(repository: Path, tmp_path: Path) -> None:
    """List, show, logs and JSON say so; --resume runs it again; what stays undone is no success."""
    setup: Any = f"echo trying; test -e {tmp_path}/there"
    listed = task_list(tmp_path / "tasks.yaml", {"id": "one", "run": "echo ran > ran", "setup": setup})
    failed = moderator(repository, "run", listed, "--json", *QUIET)
    (result,) = document(failed)["results"]
    assert (failed.returncode, result["outcome"], result["exit_code"], result["commit"]) == (
        1,
        "set-up failed",
        None,
        None,
    )
    assert result["error_message"].startswith("set-up: exit code 1: trying; all it printed is in ")
    assert states(repository) == {"one": ("set-up failed", "set-up failed")}
    shown = moderator(repository, "show", "one").stdout
    assert [
        line in shown for line in ("  state        set-up failed\n", "  outcome      set-up failed, ", "  trying\n")
    ] == [True] * 3
    assert moderator(repository, "logs", "one").stdout == "trying\n"
    (tmp_path / "there").touch()
    assert moderator(repository, "run", listed, "--resume", *QUIET).returncode == 0
    assert git(repository, "show", "main-task-one:ran") == "ran"


@pytest.mark.slow
def test_clean_tears_down_first(repository: Path, tmp_path: Path) -> None:
    """With what the run had, whatever the configuration says by now; a failure is a warning, and the workspace goes."""
    config = tmp_path / "config.yaml"
    config.write_text(
        json.dumps({"setup": "true", "teardown": [f'echo "$MODERATOR_TASK_ID $A" >> {tmp_path}/said', "exit 3"]})
    )
    listed = task_list(tmp_path / "tasks.yaml", {"id": "one", "run": "true", "env": {"A": "a"}})
    assert moderator(repository, "run", listed, "--config", config, *QUIET).returncode == 0
    done = moderator(repository, "clean", "one")
    assert (done.returncode, (tmp_path / "said").read_text()) == (0, "one a\n")
    assert "warning: one: the teardown failed: exit code 3; all it printed is in " in done.stderr
    assert not os.path.exists(f"{repository}.moderator/tasks/one")
    assert moderator(repository, "undo").returncode == 0
    assert states(repository) == {"one": ("teardown failed", "unchanged")}


@pytest.mark.slow
def test_a_repositorys_own_teardown_is_not_executed_once_the_agreement_is_taken_back(
    repository: Path, tmp_path: Path
) -> None:
    """It is skipped, and told; agreed to again it is executed.  One that is the task list's own needs no agreement."""
    said = tmp_path / "said"
    (repository / "moderator.yaml").write_text(f"teardown: echo guest >> {said}\nenv: {{A: a}}\n")
    listed = task_list(
        tmp_path / "tasks.yaml",
        {"id": "one", "run": "true"},
        {"id": "two", "run": "true", "teardown": f"echo own >> {said}"},
    )
    assert moderator(repository, "trust", "--yes").returncode == 0
    assert moderator(repository, "run", listed, *QUIET).returncode == 0
    assert moderator(repository, "trust", "--revoke").returncode == 0
    done = moderator(repository, "clean", "one", "two")
    assert (done.returncode, said.read_text()) == (0, "own\n")
    assert "one: the teardown was skipped, for it is the word of the repository's own configuration" in done.stderr
    assert moderator(repository, "undo", "one").returncode == 0
    (repository / "moderator.yaml").write_text(f"teardown: echo other >> {said}\nenv: {{A: a}}\n")
    assert moderator(repository, "trust", "--yes").returncode == 0
    assert "the teardown was skipped" in moderator(repository, "clean", "one").stderr
    assert moderator(repository, "undo", "one").returncode == 0
    (repository / "moderator.yaml").write_text(f"teardown: echo guest >> {said}\nenv: {{A: a}}\n")
    assert moderator(repository, "trust", "--yes").returncode == 0
    assert moderator(repository, "clean", "one").returncode == 0
    assert said.read_text() == "own\nguest\n"


def test_a_workspace_made_by_hand_is_set_up_as_a_run_would(repository: Path, tmp_path: Path) -> None:
    """Once it is agreed to; what it prints is shown; if it fails the workspace stays, and the same command goes on."""
    go = tmp_path / "go"
    (repository / "moderator.yaml").write_text(
        f"setup: [echo said of $MODERATOR_TASK_ID $WHAT; echo wrong >&2, test -e {go}]\nenv: {{WHAT: '{{branch}}'}}\n"
    )
    refused = moderator(repository, "create", "one")
    assert (refused.returncode, refused.stdout, states(repository)) == (3, "", {})
    assert moderator(repository, "trust", "--yes").returncode == 0
    made = moderator(repository, "create", "one")
    tree = tmp_path / "shop.moderator/tasks/one"
    assert (made.returncode, made.stdout) == (1, f"{tree}\n")
    said = ("said of one main-task-one\nwrong\n", "set-up of task 'one' failed: exit code 1", "moderator setup one\n")
    assert all(one in made.stderr for one in said)
    assert states(repository) == {"one": ("set-up failed", None)}
    go.touch()
    again = document(moderator(repository, "create", "one", "--json"))
    assert (again["created"], again["state"], again["problem"]) == (False, "ready", None)
    assert Path(again["setup_log"]).read_text() == said[0]
    assert "note: one is set up already" in moderator(repository, "setup", "one").stderr


@pytest.mark.slow
def test_a_set_up_can_be_left_for_later(repository: Path, tmp_path: Path) -> None:
    """`--no-setup` leaves it, `setup` does it, with the teardown to come; that of a run is the run's to repeat."""
    said = tmp_path / "said"
    config = tmp_path / "config.yaml"
    config.write_text(f"setup: echo up >> {said}\nteardown: echo down >> {said}\n")
    variables = {"MODERATOR_CONFIG": str(config)}
    own = {"id": "own", "run": "true", "setup": "true", "teardown": f"echo own >> {said}"}
    listed = task_list(tmp_path / "tasks.yaml", {"id": "run", "run": "true", "setup": "false"}, own)
    assert moderator(repository, "run", listed, *QUIET, **variables).returncode == 1
    refused = moderator(repository, "setup", "run", **variables)
    assert (refused.returncode, f"moderator run {listed} --resume-setup run" in refused.stderr) == (2, True)
    made = moderator(repository, "create", "one", "--no-setup", **variables)
    assert (made.returncode, "it is not set up; to do that: moderator setup one" in made.stderr) == (0, True)
    assert (states(repository)["one"], said.exists()) == (("not set up", None), False)
    with started(repository, "setup", "one", **variables) as first:  # of two at once one does it
        second = moderator(repository, "setup", "one", **variables)
        first.communicate()
        assert sorted({0, first.returncode, second.returncode}) in ([0], [0, 75]), second.stderr
    assert (said.read_text(), first.returncode * second.returncode) == ("up\n", 0)
    told = document(moderator(repository, "setup", "main-task-one", "--json", **variables))
    assert (told["state"], told["done"]) == ("ready", False)
    tree = Path(moderator(repository, "path", "own").stdout.strip())
    git(tree, "commit", "-q", "--allow-empty", "-m", "somebody's")
    (tree / "a.txt").write_text("somebody's\n")
    again = moderator(repository, "setup", "own", "--again", **variables)
    assert (again.returncode, "note: " in again.stderr) == (0, False)
    assert moderator(repository, "clean", "one", "own").returncode == 0
    assert said.read_text() == "up\nup\ndown\nown\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
@pytest.mark.some(1)
def test_a_set_up_by_hand_that_is_cut_short_leaves_no_process(
    number: signal.Signals, code: int, repository: Path, tmp_path: Path
) -> None:
    """However it was ended: the list says so, and the same command goes on in the workspace that is there."""
    pids, go, config = tmp_path / "pids", tmp_path / "go", tmp_path / "config.yaml"
    config.write_text(
        f"setup: echo $$ >> {pids}; setsid sleep 60 & echo $! >> {pids}; test -e {go} || sleep 60; kill $!\n"
    )
    variables = {"MODERATOR_CONFIG": str(config)}
    with started(repository, "create", "one", **variables) as creating:
        wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 2, "the set-up")
        assert states(repository) == {"one": ("setting up", None)}
        creating.send_signal(number)
        creating.communicate()
        assert creating.returncode == code
    wait_until(lambda: not any(alive(int(pid)) for pid in pids.read_text().split()), "the end of its processes")
    wait_until(lambda: states(repository)["one"][0] != "setting up", "the end of its lease")
    assert states(repository) == {"one": ("set-up interrupted", None)}
    go.touch()
    assert moderator(repository, "create", "one", **variables).returncode == 0
    assert states(repository) == {"one": ("ready", None)}


@pytest.mark.slow
def test_what_is_made_again_gets_what_is_carried(repository: Path, tmp_path: Path) -> None:
    """By undo, adopt, rescue restore as by create, and none is called ready; what cannot be had is told, and holds no undo up."""
    (repository / ".git/info/exclude").write_text(".env\n")
    (repository / ".env").write_text("SECRET=1\n")
    (repository / "moderator.yaml").write_text("setup: 'true'\ncarry: [.env]\n")
    git(repository, "branch", "mine")
    tasks = tmp_path / "shop.moderator/tasks"
    refused = moderator(repository, "adopt", "mine")
    assert (refused.returncode, "nobody has agreed" in refused.stderr, tasks.exists()) == (3, True, False)
    assert moderator(repository, "trust", "--yes").returncode == 0
    adopted = moderator(repository, "adopt", "mine")
    assert (adopted.returncode, "note: it is not set up; to do that: moderator setup mine" in adopted.stderr) == (
        0,
        True,
    )
    assert moderator(repository, "create", "one").returncode == 0
    assert [(tasks / one / ".env").read_text() for one in ("mine", "one")] == ["SECRET=1\n"] * 2
    (tasks / "one/new.txt").write_text("new\n")
    assert moderator(repository, "clean", "one", "mine").returncode == 0
    assert moderator(repository, "undo", "mine").returncode == 0
    restored = moderator(repository, "rescue", "restore", "one", "--as", "two")
    assert restored.returncode == 0, restored.stderr
    assert (tasks / "two/.env").read_text() + (tasks / "two/new.txt").read_text() == "SECRET=1\nnew\n"
    assert (tasks / "mine/.env").read_text() == "SECRET=1\n"
    assert states(repository) == dict.fromkeys(("mine", "two"), ("not set up", None))
    assert moderator(repository, "clean", "mine").returncode == 0
    assert not (tasks / "mine").exists()
    (repository / ".env").unlink()
    back = moderator(repository, "undo", "mine")
    assert (back.returncode, (tasks / "mine/a.txt").read_text()) == (0, "1\n")
    assert "note: without what is carried into workspaces: " in back.stderr and ".env' cannot be carried" in back.stderr
    (repository / "moderator.yaml").write_text("carry: [other]\n")
    assert moderator(repository, "clean", "mine").returncode == 0
    back = moderator(repository, "undo", "mine")
    assert (back.returncode, "the one that was agreed to" in back.stderr) == (0, True)
