"""`moderator.preparing` in runs of real tasks: set-ups, what they leave, teardowns, and the word for what a workspace is at."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderator.backends.shell import ShellBackend
from moderator.config.settings import BackendConfig
from moderator.context import IsolationLevel
from moderator.errors import WouldLoseWork
from moderator.execution import retrying
from moderator.execution.scratch import sweep_scratch
from moderator.git.manager import GitManager
from moderator.git.values import WorkspaceStatus
from moderator.models import Outcome, TaskResult
from moderator.ports import PortRange, reserve
from moderator.preparing import standing
from moderator.preparing.commands import Teardowns
from moderator.preparing.standing import Standing, Standings, stage_of
from repos import git
from runs import execute, inherited, sample, shell, words


def tree_of(repository: Path, task_id: str = "one") -> Path:
    return repository.parent / "checkouts" / "tasks" / task_id


def stage(repository: Path, task_id: str = "one") -> str:
    found = Standings(GitManager(repository).state_root).of(task_id)
    return found.stage if found else ""


def log_of(result: TaskResult, name: str) -> str:
    return Path(str(result.artifacts_path), name).read_text()


def one(repository: Path, run: Any = "true", env: Any = (), **fields: Any) -> TaskResult:
    """Run one task, `one`; `fields` that are no task's are the executor's."""
    own = {name: fields.pop(name) for name in ("setup", "teardown", "verify", "setup_timeout") if name in fields}
    (result,) = execute(repository, shell("one", run, env=dict(env), **own), **fields)
    return result


def test_a_set_up_comes_first_with_the_tasks_environment(tmp_path: Path) -> None:
    """Its commands run in order, in the workspace, with a log of their own and nothing to read."""
    repository = sample(tmp_path)
    setup = [
        'echo "$A in $PWD as $MODERATOR_TASK_ID" > made; cat',
        ["sh", "-c", "echo $0 $TMPDIR >> made; echo done", "word"],
    ]
    result = one(repository, "cat made; echo $TMPDIR", {"A": "{task_id}@{slot}"}, setup=setup)
    assert (words(result), result.error_message) == ("unchanged", None)
    lines = result.stdout.splitlines()
    assert lines == [f"one@0 in {tree_of(repository)} as one", f"word {lines[2]}", lines[2]]
    assert log_of(result, "setup.log") == "done\n"
    assert stage(repository) == standing.READY


@pytest.mark.parametrize(
    ("setup", "said"),
    [
        ("echo out; echo it broke >&2; exit 3", "set-up: exit code 3: it broke; all it printed is in "),
        ("false\necho later > later", "set-up: exit code 1; all it printed is in "),
        ([["no-such-program-here"], "echo later > later"], "set-up: 'no-such-program-here' does not exist: install it"),
        (
            "read line < /dev/tty",
            "it runs without a terminal and with nothing on standard input, so it cannot ask anybody",
        ),
        ("echo password: ; read line", "so it cannot ask anybody"),
        (["sleep 0.2", "echo hanging; sleep 60"], "set-up: ended: the limit of 0.5 s passed; all it printed is in "),
    ],
)
def test_a_set_up_that_fails_ends_the_task_before_it_began(setup: Any, said: str, tmp_path: Path) -> None:
    """The outcome says what it said last, the workspace is never called ready, and no later command runs."""
    repository = sample(tmp_path)
    result = one(repository, "echo ran > ran", setup=setup if isinstance(setup, list) else [setup], setup_timeout=0.5)
    assert (words(result), result.exit_code, result.success) == ("set-up failed", None, False)
    assert said in str(result.error_message)
    assert result.log == str(Path(str(result.artifacts_path), "setup.log"))
    assert sorted(os.listdir(tree_of(repository))) == [".git", "README.md", "src"]
    assert (stage(repository), result.workspace_kept) == (standing.SET_UP_FAILED, True)


def test_what_a_set_up_changed_is_told_and_not_committed_as_the_tasks_work(tmp_path: Path) -> None:
    """Edited, deleted, new and replaced files stay out as the set-up left them; what the task changed goes in."""
    repository = sample(tmp_path)
    setup = "echo 2 >> src/a.txt; rm README.md; mkdir README.md; echo new > README.md/x; echo b > src/b.txt; echo n > n; echo m > m"
    kept = one(repository, "echo task >> src/b.txt; echo task > n; echo own > own", setup=[setup])
    assert words(kept) == "succeeded"
    assert kept.notes == [
        "the set-up changed files that git does not ignore: README.md, README.md/x, m, n, src/a.txt and 1 more",
        "as the set-up left them, in no commit: README.md, README.md/x, m, src/a.txt",
    ]
    assert git(repository, "diff-tree", "-r", "--name-status", "main", "main-task-one").splitlines() == [
        "A\tn", "A\town", "M\tsrc/b.txt",
    ]  # fmt: skip
    assert git(repository, "show", "main-task-one:src/b.txt") == "b\ntask"
    assert git(tree_of(repository), "status", "--porcelain", "-uall").splitlines() == [
        " D README.md", " M src/a.txt", "?? README.md/x", "?? m",
    ]  # fmt: skip


def test_what_the_tasks_own_commit_took_of_a_set_up_is_not_called_uncommitted(tmp_path: Path) -> None:
    """What is said of files that a set-up left holds when it is said: some are in the commit that the task made."""
    repository = sample(tmp_path)
    setup = ["echo 2 >> src/a.txt; echo n > n"]
    commit = "git -c user.name=t -c user.email=t@t commit -qm own"
    for task_id, rest in (("one", ["as the set-up left them, in no commit: n"]), ("two", [])):
        run = f"{'git add -A; ' if task_id == 'two' else ''}{commit} -a"
        result = execute(repository, shell(task_id, run, setup=setup))[0]
        assert (words(result), git(repository, "show", f"main-task-{task_id}:src/a.txt")[-1]) == ("succeeded", "2")
        assert result.notes == ["the set-up changed files that git does not ignore: n, src/a.txt", *rest]


@pytest.mark.parametrize("setup", ["rm .git", 'rm -rf "$PWD"'])
def test_a_set_up_that_spoils_its_workspace_has_failed(setup: str, tmp_path: Path) -> None:
    """It ended well, but nothing could be done or kept there: the task does not begin."""
    repository, ran = sample(tmp_path), tmp_path / "ran"
    result = one(repository, f"touch {ran}", setup=[setup])
    assert (words(result), ran.exists(), stage(repository)) == ("set-up failed", False, standing.SET_UP_FAILED)


def test_a_workspace_with_what_a_set_up_left_goes_with_a_rescue(tmp_path: Path) -> None:
    """Keep: never removes it, what the set-up left is rescued; with work of the task that is in no commit it stays."""
    repository = sample(tmp_path)
    result = one(repository, "true", setup=["echo 2 >> src/a.txt; echo n > n"], keep="never")
    assert (words(result), result.workspace_kept) == ("unchanged", False)
    assert result.notes[2:] == ["what the set-up left was rescued: changed, not committed: src/a.txt; untracked: n"]
    (rescue,) = GitManager(repository).rescues()
    assert (rescue.modified, rescue.untracked) == (("src/a.txt",), ("n",))
    again = execute(repository, shell("two", "echo work > w; exit 1", setup=["echo n > n"]), keep="never")[0]
    assert (again.workspace_kept, (tree_of(repository, "two") / "w").exists()) == (True, True)


def test_a_workspace_is_set_up_once_and_a_new_one_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt in a workspace that was made anew has its own set-up, with the teardown of the old one in between."""
    monkeypatch.setattr(retrying, "SHORTEST_PAUSE", 0.0)
    repository, count = sample(tmp_path), tmp_path / "count"
    backend = ShellBackend(BackendConfig("shell", retry=("rate limit",)))
    run = f"test -e made && test $(grep -c up {count}) -ge 2 || {{ echo rate limit; exit 1; }}"
    result = one(
        repository,
        run,
        setup=[f"echo up >> {count}; echo made > made"],
        teardown=[f"echo down >> {count}"],
        backend=backend,
    )
    assert (words(result), result.attempt) == ("unchanged", 2)
    assert count.read_text().split() == ["up", "down", "up"]


def test_a_teardown_has_the_ports_only_as_long_as_they_are_the_tasks(tmp_path: Path) -> None:
    """In the run they are held until it is done; later another task may have them, and so none is named."""
    repository, said, folder = sample(tmp_path), tmp_path / "said", tmp_path / "ports"
    probe = f"import os, socket; socket.create_server(('', $MODERATOR_PORT)); print('free', len(os.listdir({str(folder)!r})))"
    teardown = [
        f'echo "$MODERATOR_PORT,$MODERATOR_PORT_COUNT,$MODERATOR_SLOT,$P,$S,$T" >> {said}',
        f'test -z "$MODERATOR_PORT" || "{sys.executable}" -c "{probe}" >> {said}',
    ]
    ports = PortRange(24000 + os.getpid() % 4000, 28999, 2)

    def run(task_id: str, keep: str) -> TaskResult:
        task = shell(task_id, "true", teardown=teardown, env={"T": "{task_id}", "P": "{port_1}"})
        options = {"reserve": lambda _: reserve(folder, ports), "variables": {"S": "s{slot}", "P": "{task_id}"}}
        return execute(repository, task, keep=keep, environment=inherited(S="mine"), **options)[0]

    assert run("one", "never").notes == []
    first, count, slot, second, *others = said.read_text().splitlines()[0].split(",")
    assert (count, slot, int(second), others) == ("2", "0", int(first) + 1, ["s0", "one"])
    assert said.read_text().splitlines()[1] == "free 2"  # the block's lock, and that of whoever chooses
    said.unlink()
    run("two", "always")
    git_manager = GitManager(repository)
    teardowns = Teardowns(git_manager, inherited(MODERATOR_PORT="1", S="mine"))
    git_manager.remove_workspace("two", before=teardowns.of("two"))
    assert said.read_text() == ",,,,,two\n"


@pytest.mark.parametrize("level", [IsolationLevel.NONE, IsolationLevel.BRANCH])
def test_a_persons_own_checkout_is_not_set_up(level: IsolationLevel, tmp_path: Path) -> None:
    """Where a task has no workspace of its own, neither set-up nor teardown touches anything."""
    repository = sample(tmp_path)
    result = one(repository, "true", setup=["echo x > made"], teardown=["echo x > made"], level=level, keep="never")
    assert (words(result), git(repository, "status", "--porcelain"), stage(repository)) == ("unchanged", "", "")


def test_a_teardown_comes_before_the_removal_and_blocks_none(tmp_path: Path) -> None:
    """It has the environment of the task; one that fails is told; one that came through is not repeated."""
    repository, said = sample(tmp_path), tmp_path / "said"
    teardown = [f'echo "$A $MODERATOR_TASK_ID $(ls made)" >> {said}', ["sh", "-c", "exit 7"], f"echo end >> {said}"]
    fine = one(
        repository,
        "true",
        {"A": "a"},
        setup=["touch made; echo made > .gitignore"],
        teardown=teardown[:1],
        keep="never",
    )
    assert (fine.workspace_kept, said.read_text(), stage(repository)) == (False, "a one made\n", standing.TORN_DOWN)
    GitManager(repository).undo_removal("one").release()
    assert Teardowns(GitManager(repository), inherited()).of("one") is None
    said.unlink()
    broken = execute(repository, shell("two", setup=["touch made"], teardown=teardown), keep="never")[0]
    log = Path(str(broken.artifacts_path), "teardown.log")
    assert (broken.workspace_kept, said.read_text()) == (False, " two made\nend\n")
    assert broken.notes[-1] == f"the teardown failed: exit code 7; all it printed is in {log}"
    assert stage(repository, "two") == standing.TEARDOWN_FAILED


def test_a_removal_that_is_refused_tears_nothing_down(tmp_path: Path) -> None:
    """Work that would be lost is found first; what a teardown itself leaves is looked at like anything else."""
    repository, said = sample(tmp_path), tmp_path / "said"
    one(repository, "echo work > w; exit 1", teardown=[f"echo down >> {said}; echo late > late"])
    manager = GitManager(repository)
    teardowns = Teardowns(manager, inherited())
    with pytest.raises(WouldLoseWork):
        manager.remove_workspace("one", before=teardowns.of("one"))
    assert (said.exists(), stage(repository)) == (False, standing.READY)
    removal = manager.remove_workspace("one", rescue=True, before=teardowns.of("one"))
    assert removal is not None and removal.rescue is not None
    assert (said.read_text(), manager.find_rescue(removal.rescue).untracked) == ("down\n", ("late", "w"))


def test_temporary_files_go_with_a_task_that_succeeded(tmp_path: Path) -> None:
    """What a task left that did not stays, and is told; the name is short enough for a socket; a task's own word wins."""
    repository = sample(tmp_path)
    (tmp_path / "tmp").mkdir()
    options: dict[str, Any] = {"environment": inherited(TMPDIR=str(tmp_path / "tmp"))}
    look = "mkdir $TMPDIR/d; touch $TMPDIR/d/f; chmod 500 $TMPDIR/d; ls -ld $TMPDIR; echo $TMPDIR $COPY"
    done = one(repository, look, {"COPY": "{tmp}"}, **options)
    mode, folder, copy = done.stdout.split()[0], *done.stdout.splitlines()[-1].split()
    assert (mode[:10], folder, os.path.dirname(folder)) == ("drwx------", copy, str(tmp_path / "tmp"))
    assert (words(done), done.notes, os.listdir(tmp_path / "tmp")) == ("unchanged", [], [])
    empty, full = execute(repository, shell("e", "exit 1"), shell("f", "echo x > $TMPDIR/x; exit 1"), **options)
    (left,) = (tmp_path / "tmp").iterdir()
    assert (empty.notes, full.notes) == ([], [f"its temporary files stay for a time: {left}"])
    assert len(os.path.basename(left)) < 24
    own = execute(repository, shell("own", "echo $TMPDIR", env={"TMPDIR": "/own"}), **options)[0]
    assert own.stdout == "/own\n"


def test_what_ended_processes_left_in_their_temporary_files_goes_after_its_time(tmp_path: Path) -> None:
    """That of a process that runs stays, and so does whatever a link leads to that is none of ours."""
    state, names = tmp_path / "state", ("moderator-old", "moderator-young", "moderator-used", "precious")
    (state / "scratch").mkdir(parents=True)
    with subprocess.Popen(["true"]) as ended:
        pass
    for name in names:
        (tmp_path / name / "in it").mkdir(parents=True)
        pid = os.getpid() if name == "moderator-used" else ended.pid
        (state / "scratch" / f"{pid}-{name}").symlink_to(tmp_path / name)
    (state / "scratch" / f"{ended.pid}-moderator-link").symlink_to(tmp_path / "precious")
    for link in (state / "scratch").iterdir():
        if "young" not in link.name:
            os.utime(link, (1.0, 1.0), follow_symlinks=False)
    sweep_scratch(str(state), 3.0)
    assert sorted(path.name for path in tmp_path.iterdir()) == [*sorted(names)[1:], "state"]
    sweep_scratch(str(state), 0.0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["moderator-used", "precious", "state"]
    assert len(list((state / "scratch").iterdir())) == 3
    sweep_scratch(str(tmp_path / "nowhere"), 0.0)


def test_placeholders_of_variables_are_filled_in(tmp_path: Path) -> None:
    """Those of the run give way to the backend's and these to the task's; a misspelt one ends the task before it begins."""
    repository = sample(tmp_path)
    backend = ShellBackend(BackendConfig("shell", env={"B": "backend", "C": "backend"}))
    env = {"C": "{workspace}|{branch}|{base}|{state_dir}", "D": "{{{task_id}}}"}
    result = one(repository, "echo $A $B $C $D", env, backend=backend, variables={"A": "{slot}", "B": "x", "C": "x"})
    state = tmp_path / "state" / "tasks" / "one"
    base = git(repository, "rev-parse", "main")
    assert result.stdout == f"0 backend {tree_of(repository)}|main-task-one|{base}|{state} {{one}}\n"
    bad = execute(repository, shell("bad", "echo ran > ran", env={"A": "{port}"}))[0]
    assert (words(bad), bad.exit_code) == ("could not start", None)
    assert "env.A: no placeholder is called 'port'" in str(bad.error_message)
    assert "tasks are given 0 ports" in str(bad.error_message)


STATUS = WorkspaceStatus("t", IsolationLevel.FULL, "/w", "b", "c", "main", "c", 0, 0, "ready", 100.0)
STAGES = [getattr(standing, name) for name in (
    "NOT_SET_UP", "SETTING_UP", "SET_UP_FAILED", "READY", "TEARING_DOWN", "TORN_DOWN", "TEARDOWN_FAILED", "UNCLEAR",
)]  # fmt: skip


@given(st.sampled_from(STAGES), st.booleans(), st.sampled_from([100.0, 99.0]))
def test_a_workspace_is_called_ready_only_if_its_set_up_came_through(now: str, held: bool, created_at: float) -> None:
    """Whatever else is known: what is not ready is neither called ready nor done; what is known of another one does not count."""
    status = dataclasses.replace(STATUS, lease=object() if held else None)  # type: ignore[arg-type]
    about_this = created_at == STATUS.created_at or now == standing.UNCLEAR
    word = stage_of(status, Standing("t", created_at, now), None)
    if not held:
        assert (word in (standing.READY, standing.DONE)) == (now == standing.READY or not about_this)
    else:
        assert word == (now if about_this and now in (standing.SETTING_UP, standing.TEARING_DOWN) else standing.RUNNING)
    assert stage_of(dataclasses.replace(status, state="missing"), None, None) == "missing"
    assert stage_of(dataclasses.replace(status, state="making"), None, None) == ("creating" if held else "making")


def test_a_standing_that_was_damaged_is_nobodys_readiness(tmp_path: Path) -> None:
    """It comes back as it was written; half a file is unclear; one of another task under the same name is none."""
    kept = Standings(str(tmp_path))
    written = Standing("a_b", 1.5, "ready", "", ("x", ("y", "z")), {"A": "\udcff"}, "/f", None, 1.0, "/bwrap")
    assert (kept.of("a_b"), kept.of_all(["a_b"])) == (None, {})
    kept.write(written)
    assert (kept.of("a_b"), kept.of("a-b"), kept.of_all(["a-b", "b", "a_b"])) == (written, None, {"a_b": written})
    (file,) = (tmp_path / "standing").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_bytes(file.read_bytes()[:40])
    found = kept.of("a_b")
    assert found is not None and (found.stage, found.is_of(7.0)) == (standing.UNCLEAR, True)
    assert kept.of_all(["a_b", "b"]) == {"a_b": found}


def test_the_outcome_says_where_it_stands() -> None:
    """A failed set-up is a failure of its own, for people and for resuming."""
    assert (Outcome.SET_UP_FAILED.value, Outcome.SET_UP_FAILED.success) == ("set-up failed", False)
