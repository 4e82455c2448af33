"""A task's way from context to result: whatever a task does is an outcome, and its work is where its level says."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from commandline import alive, picture, wait_until
from moderator.context import IsolationLevel
from moderator.execution.pipeline import log_file
from moderator.git.manager import GitManager
from moderator.models import Outcome, TaskResult
from moderator.process import Cancellation, Limits
from repos import EMAIL, NAME, git
from runs import base_context, execute, execute_one, inherited, sample, shell, words

LEVELS = list(IsolationLevel)


def in_commit(repository: Path, revision: str | None) -> dict[str, str]:
    """Return every file of a commit with its content."""
    names = git(repository, "ls-tree", "-r", "-z", "--name-only", str(revision)).split("\0")[:-1]
    return {name: git(repository, "show", f"{revision}:{name}") + "\n" for name in names}


def in_tree(folder: Path | str | None) -> dict[str, str]:
    """Return every file of a working tree with its content."""
    tops = Path(str(folder))
    files = [path for path in sorted(tops.rglob("*")) if path.is_file() and ".git" not in path.parts]
    return {str(path.relative_to(tops)): path.read_text() for path in files}


# -- every way to end --------------------------------------------------------------------------------------------------


def test_a_task_that_changed_something_succeeded(tmp_path: Path) -> None:
    """The result of a task that did well is complete: what, where, from where, and the commit that holds it."""
    repository = sample(tmp_path)
    task = shell("task_001", "echo said; echo warned >&2; echo new > new", "Add a file")
    (result,) = execute(repository, task, run_id="run-1")
    assert result.duration_seconds > 0
    result.duration_seconds = 0.0
    log = tmp_path / "state/tasks/task_001/run-1/1/output.log"
    assert result == TaskResult(
        task=task, exit_code=0, stdout="said\n", stderr="warned\n", duration_seconds=0.0,
        artifacts_path=str(log.parent), error_message=None, outcome=Outcome.SUCCEEDED, run_id="run-1", attempt=1,
        backend="shell", branch="main-task-task-001", base=git(repository, "rev-parse", "main"),
        commit=git(repository, "rev-parse", "main-task-task-001"), path=str(tmp_path / "checkouts/tasks/task_001"),
        log=str(log), workspace_kept=True, notes=[],
    )  # fmt: skip
    assert log == log_file(base_context(repository), "task_001", "run-1", 1)
    assert log.read_text() == "said\nwarned\n"
    assert in_commit(repository, result.commit) == {**in_commit(repository, "main"), "new": "new\n"}


def test_a_task_that_changed_nothing_is_unchanged(tmp_path: Path) -> None:
    """Success without changes is told apart, and makes no commit: also where files came and went."""
    repository = sample(tmp_path)
    (result,) = execute(repository, shell("one", "echo x > README.md; git checkout -q README.md; touch README.md"))
    assert (words(result), result.success, result.commit) == ("unchanged", True, None)
    assert git(repository, "rev-parse", "main-task-one") == git(repository, "rev-parse", "main")


@pytest.mark.parametrize(
    ("run", "options", "outcome", "exit_code", "message"),
    [
        ("echo half; exit 3", {}, "failed", 3, "exit code 3: half"),
        ("exit 3", {}, "failed", 3, "exit code 3"),
        ("kill -KILL $$", {}, "failed", -9, "exit code -9"),
        (
            ["no-such-command"], {}, "could not start", None,
            "'no-such-command' does not exist: install it, or put its directory on PATH",
        ),
        (
            ["./README.md"], {}, "could not start", None,
            "'./README.md' may not be executed: is it a program, and has it the permission (chmod +x)?",
        ),
        (
            None, {}, "could not start", None,
            "task 'one' has nothing to run; hint: give it run:, or a backend that takes its prompt",
        ),
        ("no-such-command", {}, "failed", 127, None),
    ],
)  # fmt: skip
def test_a_task_that_fails_says_how(
    run: Any, options: dict[str, Any], outcome: str, exit_code: int | None, message: str | None, tmp_path: Path
) -> None:
    """An exit code, a signal, a command that is missing or no program: an outcome, with the reason in words."""
    result = execute_one(sample(tmp_path), run, **options)
    assert (words(result), result.success, result.exit_code) == (outcome, False, exit_code)
    assert message in (None, result.error_message)


@pytest.mark.parametrize(
    ("fields", "outcome", "message"),
    [({"timeout": 0.3}, "timed out", "limit of 0.3 s passed"), ({"idle_timeout": 0.3}, "idle", "no output for 0.3 s")],
)
def test_limits_end_the_whole_tree_of_a_task(
    fields: dict[str, float], outcome: str, message: str, tmp_path: Path
) -> None:
    """A task past its limit is ended with all its descendants, in sessions of their own too."""
    pids = tmp_path / "pids"
    run = f"setsid sleep 60 & echo $! >> {pids}; sh -c 'echo $$ >> {pids}; sleep 60'"
    (result,) = execute(sample(tmp_path), shell("one", run, **fields))
    assert (words(result), result.success) == (outcome, False)
    assert message in str(result.error_message)
    assert [pid for pid in pids.read_text().split() if alive(int(pid))] == []


def test_a_task_that_is_cancelled_is_asked_to_end(tmp_path: Path) -> None:
    """Cancelled tasks get SIGTERM and time to end in order; what they left is in the workspace."""
    cancellation = Cancellation()

    class AtStart:
        def on_task_start(self, task: Any) -> None: ...
        def on_task_complete(self, result: Any) -> None: ...
        def on_task_error(self, task: Any, error: Any) -> None: ...

    ready = tmp_path / "ready"
    run = f"trap 'echo ended > ended; exit 0' TERM; touch {ready}; while :; do sleep 0.05; done"
    threading.Thread(target=lambda: (wait_until(ready.exists), cancellation.cancel())).start()
    result = execute_one(sample(tmp_path), run, cancellation=cancellation, limits=Limits(grace=10))
    assert (words(result), in_tree(result.path)["ended"]) == ("cancelled", "ended\n")
    assert result.commit is None


def test_a_workspace_that_cannot_be_made_is_an_outcome(tmp_path: Path) -> None:
    """Foreign files in the way: nothing runs, nothing of theirs is touched, and no branch is left."""
    repository = sample(tmp_path)
    foreign = tmp_path / "checkouts/tasks/one"
    foreign.mkdir(parents=True)
    (foreign / "mine.txt").write_text("mine")
    before = picture(foreign)
    result = execute_one(repository, f"touch {tmp_path}/ran")
    assert (words(result), result.exit_code, result.path, result.workspace_kept) == ("no workspace", None, None, False)
    assert result.error_message == (
        f"{str(foreign)!r} already holds files that are not task 'one''s: mine.txt; "
        "hint: move them away, or choose another id"
    )
    assert picture(foreign) == before
    assert not (tmp_path / "ran").exists()
    assert git(repository, "branch", "--format=%(refname:short)") == "main"


# -- what the levels mean ----------------------------------------------------------------------------------------------

CHANGE = "echo changed > README.md; echo new > src/new; rm src/a.txt"
CHANGED = {"README.md": "changed\n", "src/b.txt": "2\n", "src/new": "new\n"}


def test_level_none_leaves_the_work_in_the_checkout(tmp_path: Path) -> None:
    """NONE runs in the base checkout and leaves everything there, uncommitted; no ref or HEAD moves."""
    repository = sample(tmp_path)
    refs = git(repository, "show-ref", "--head")
    result = execute_one(repository, CHANGE, level=IsolationLevel.NONE)
    assert (words(result), result.path, result.branch, result.commit) == ("succeeded", str(repository), None, None)
    assert in_tree(repository) == CHANGED
    assert git(repository, "show-ref", "--head") == refs
    assert git(repository, "diff", "--cached", "--name-only") == ""
    assert words(execute_one(sample(tmp_path / "again"), "true", level=IsolationLevel.NONE)) == "unchanged"


def test_level_directory_keeps_the_work_at_a_ref_of_ours(tmp_path: Path) -> None:
    """DIRECTORY runs in a worktree with a detached HEAD; the work is a commit at our ref, and no branch ever moves."""
    repository = sample(tmp_path)
    branches = git(repository, "show-ref", "--heads")
    result = execute_one(
        repository, f"git symbolic-ref -q HEAD || echo detached; {CHANGE}", level=IsolationLevel.DIRECTORY
    )
    assert (words(result), result.stdout, result.branch) == ("succeeded", "detached\n", None)
    assert result.path == str(tmp_path / "checkouts/tasks/one")
    assert git(repository, "rev-parse", "refs/moderator/result/one", "main") == f"{result.commit}\n{result.base}"
    assert in_commit(repository, result.commit) == CHANGED
    assert git(repository, "show-ref", "--heads") == branches
    assert (in_tree(repository), git(repository, "status", "--porcelain")) == (in_commit(repository, "main"), "")


def test_level_branch_commits_and_puts_the_checkout_back(tmp_path: Path) -> None:
    """BRANCH runs in the base checkout without switching it; the work is on the task's branch, the checkout as before."""
    repository = sample(tmp_path)
    head = (repository / ".git/HEAD").read_text()
    result = execute_one(repository, CHANGE, level=IsolationLevel.BRANCH)
    assert (words(result), result.path, result.branch) == ("succeeded", str(repository), "main-task-one")
    assert in_commit(repository, "main-task-one") == CHANGED
    assert git(repository, "rev-parse", "main-task-one^", "main") == f"{result.base}\n{result.base}"
    assert (repository / ".git/HEAD").read_text() == head
    assert (in_tree(repository), git(repository, "status", "--porcelain")) == (in_commit(repository, "main"), "")


def test_level_branch_lets_the_next_task_begin_clean(tmp_path: Path) -> None:
    """Tasks at level BRANCH follow each other in one checkout, each with its own work alone on its branch."""
    repository = sample(tmp_path)
    tasks = [shell(name, f"echo {name} > {name}; echo {name} > README.md") for name in ("one", "two")]
    results = execute(repository, *tasks, level=IsolationLevel.BRANCH)
    assert [words(result) for result in results] == ["succeeded", "succeeded"]
    for name in ("one", "two"):
        assert in_commit(repository, f"main-task-{name}") == {
            **in_commit(repository, "main"), "README.md": f"{name}\n", name: f"{name}\n",
        }  # fmt: skip


def test_level_branch_leaves_the_work_of_a_failed_task(tmp_path: Path) -> None:
    """A failed task's changes stay in the checkout, so the next task finds it in use and does not run over them."""
    repository = sample(tmp_path)
    results = execute(
        repository, shell("one", f"{CHANGE}; exit 1"), shell("two", "echo x > x"), level=IsolationLevel.BRANCH
    )
    assert [words(result) for result in results] == ["failed", "no workspace"]
    assert in_tree(repository) == CHANGED
    assert "has changes that are not committed: README.md, src/a.txt, src/new" in str(results[1].error_message)


def test_level_branch_keeps_ignored_files_where_they_are(tmp_path: Path) -> None:
    """What git ignores is in no commit, so putting the checkout back does not touch it."""
    repository = sample(tmp_path)
    (repository / ".git/info/exclude").write_text("*.log\n")
    result = execute_one(repository, f"echo kept > a.log; {CHANGE}", level=IsolationLevel.BRANCH)
    assert words(result) == "succeeded"
    assert in_tree(repository) == {**in_commit(repository, "main"), "a.log": "kept\n"}


def test_level_full_keeps_the_work_on_a_branch_of_its_own(tmp_path: Path) -> None:
    """FULL runs in a worktree on its own branch with its own state directory; the main checkout notices nothing."""
    repository = sample(tmp_path)
    result = execute_one(repository, f"git symbolic-ref --short HEAD; {CHANGE}")
    assert (words(result), result.stdout, result.branch) == ("succeeded", "main-task-one\n", "main-task-one")
    assert in_commit(repository, "main-task-one") == CHANGED
    assert git(str(result.path), "status", "--porcelain") == ""
    assert (in_tree(repository), git(repository, "status", "--porcelain")) == (in_commit(repository, "main"), "")


@pytest.mark.parametrize("level", [IsolationLevel.NONE, IsolationLevel.BRANCH])
def test_levels_in_the_checkout_need_it_clean(level: IsolationLevel, tmp_path: Path) -> None:
    """A person's uncommitted changes are never mixed with a task's: nothing runs, nothing is touched."""
    repository = sample(tmp_path)
    (repository / "README.md").write_text("mine\n")
    before = in_tree(repository)
    try:
        result = execute_one(repository, f"touch {tmp_path}/ran", level=level)
        assert words(result) == "no workspace"
        said = str(result.error_message)
    except Exception as error:
        said = str(error)
    assert "has changes that are not committed: README.md" in said
    assert in_tree(repository) == before
    assert not (tmp_path / "ran").exists()


# -- what is committed -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [IsolationLevel.DIRECTORY, IsolationLevel.BRANCH, IsolationLevel.FULL])
def test_a_commit_says_which_task_run_and_attempt_it_is_of(level: IsolationLevel, tmp_path: Path) -> None:
    """The description is the message, with the trailers at its end; whose commit it is, the person's settings say."""
    repository = sample(tmp_path)
    task = shell("task_001", CHANGE, "Tidy up\n\nAll of it.\n")
    (result,) = execute(repository, task, level=level, run_id="run-7")
    assert git(repository, "show", "--no-patch", "--format=%an <%ae>%n%B", str(result.commit)) == (
        f"{NAME} <{EMAIL}>\nTidy up\n\nAll of it.\n\n"
        "Moderator-Task: task_001\nModerator-Run: run-7\nModerator-Attempt: 1\n"
    )


def test_a_task_without_a_description_has_a_message_all_the_same(tmp_path: Path) -> None:
    """A blank description gives way to the id."""
    repository = sample(tmp_path)
    task = shell("one", CHANGE)
    task.description = "  "
    execute(repository, task)
    assert git(repository, "log", "-1", "--format=%s", "main-task-one") == "Work of task one"


@pytest.mark.parametrize("level", [IsolationLevel.DIRECTORY, IsolationLevel.FULL])
def test_commits_of_the_task_itself_count(level: IsolationLevel, tmp_path: Path) -> None:
    """A task that commits everything itself succeeded, with its own newest commit; what it left over is one more."""
    repository = sample(tmp_path)
    own = "echo own > own; git add own; git commit -qm own"
    results = execute(repository, shell("all", own), shell("part", f"{own}; echo left > left"), level=level)
    assert [words(result) for result in results] == ["succeeded", "succeeded"]
    assert [
        git(repository, "log", "--format=%s", f"{result.base}..{result.commit}").split("\n") for result in results
    ] == [["own"], ["Do part", "own"]]
    for result in results:
        assert git(repository, "for-each-ref", f"--points-at={result.commit}") != ""
    assert in_commit(repository, results[1].commit) == {
        **in_commit(repository, "main"), "own": "own\n", "left": "left\n",
    }  # fmt: skip


def test_hooks_of_the_repository_do_not_decide_whether_work_is_kept(tmp_path: Path) -> None:
    """A hook that refuses every commit of a person refuses none of ours."""
    repository = sample(tmp_path)
    for name in ("pre-commit", "commit-msg", "reference-transaction", "post-checkout"):
        hook = repository / ".git/hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\necho {name} >> {tmp_path}/hooks\nexit 1\n")
        hook.chmod(0o755)
    assert words(execute_one(repository, "echo x > x")) == "succeeded"
    assert not (tmp_path / "hooks").exists()


def test_a_person_without_a_name_can_run_tasks(tmp_path: Path, home: Path) -> None:
    """Where git knows no name to put on a commit, ours is put there: work is kept all the same."""
    repository = sample(tmp_path)
    (home / ".gitconfig").write_text("[user]\nuseConfigOnly = true\n")
    assert words(execute_one(repository, "echo x > x")) == "succeeded"
    assert git(repository, "log", "-1", "--format=%an <%ae>", "main-task-one") == "moderator <moderator@localhost>"


@pytest.mark.parametrize("ending", ["exit 3", "kill -KILL $$", "sleep 60"])
def test_work_of_a_task_that_did_not_do_well_stays_in_its_workspace(ending: str, tmp_path: Path) -> None:
    """Failed, killed or ended by a limit: nothing is committed, everything is where the task left it."""
    repository = sample(tmp_path)
    (result,) = execute(repository, shell("one", f"{CHANGE}; {ending}", timeout=1))
    assert (result.success, result.commit, result.workspace_kept) == (False, None, True)
    assert in_tree(result.path) == CHANGED
    assert git(repository, "rev-parse", "main-task-one") == result.base


# -- what stays --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        ("always", ["changes", "nothing", "fails", "clean-fail"]),
        ("failed", ["fails", "clean-fail"]),
        ("never", ["fails"]),
    ],
)
def test_workspaces_stay_as_the_policy_says_and_work_stays_always(keep: str, kept: list[str], tmp_path: Path) -> None:
    """Removed is what the policy gives up and git holds; what would be lost is kept whatever it says, and told."""
    repository = sample(tmp_path)
    tasks = [
        shell("changes", CHANGE),
        shell("nothing"),
        shell("fails", f"{CHANGE}; exit 1"),
        shell("clean-fail", "exit 1"),
    ]
    results = execute(repository, *tasks, keep=keep)
    assert [result.task.id for result in results if result.workspace_kept] == kept
    assert [result.task.id for result in results if Path(str(result.path)).is_dir()] == kept
    assert sorted(workspace.task_id for workspace in GitManager(repository).workspaces()) == sorted(kept)
    told = ["the workspace was kept, because removing it would lose work: "
            "changed, not committed: README.md, src/a.txt; untracked: src/new"]  # fmt: skip
    assert [result.notes for result in results] == [[], [], told if keep == "never" else [], []]
    assert in_commit(repository, "main-task-changes") == CHANGED
    assert in_tree(results[2].path) == CHANGED


def test_ignored_files_go_to_the_trash_with_their_workspace(tmp_path: Path) -> None:
    """Ignored files are in no commit, so a workspace with nothing else goes with them to the trash, and that is told."""
    repository = sample(tmp_path)
    (repository / ".git/info/exclude").write_text("*.secret\n")
    result = execute_one(repository, "echo key > a.secret", keep="never")
    assert (words(result), result.workspace_kept, result.notes) == (
        "unchanged", False, ["what git ignores stays in the trash for a time (moderator rescue list): a.secret"],
    )  # fmt: skip
    assert not Path(str(result.path)).exists()
    (kept,) = (tmp_path / "checkouts").rglob("a.secret")
    assert kept.read_text() == "key\n"
    (removal,) = GitManager(repository).removals()
    assert (removal.task_id, removal.reason) == ("one", "keep: never")


def test_ignored_files_beside_unsaved_work_stay_where_they_are(tmp_path: Path) -> None:
    """A workspace with anything that a commit could hold is kept under any policy, whole, and told."""
    repository = sample(tmp_path)
    (repository / ".git/info/exclude").write_text("*.secret\n")
    result = execute_one(repository, "echo key > a.secret; echo x > x; exit 1", keep="never")
    assert (words(result), result.workspace_kept, result.notes) == (
        "failed", True,
        ["the workspace was kept, because removing it would lose work: untracked: x; ignored by git, so in no commit: a.secret"],
    )  # fmt: skip
    assert (Path(str(result.path)) / "a.secret").read_text() == "key\n"


# -- tasks are guests --------------------------------------------------------------------------------------------------


def _environment(result: TaskResult) -> dict[str, str]:
    return dict(line.partition("=")[::2] for line in result.stdout.split("\0")[:-1])  # type: ignore[misc]


@pytest.mark.parametrize("level", LEVELS)
def test_a_task_knows_where_it_is(level: IsolationLevel, tmp_path: Path) -> None:
    """Every task is told its id, place, branch, base, state directory, run, attempt and slot."""
    repository = sample(tmp_path)
    result = execute_one(repository, ["env", "-0"], level=level, run_id="run-1")
    found = _environment(result)
    ours = {name: value for name, value in found.items() if name.startswith("MODERATOR_") and name != "MODERATOR_TOKEN"}
    state = tmp_path / "state"
    assert ours == {
        "MODERATOR_TASK_ID": "one",
        "MODERATOR_WORKSPACE": str(tmp_path / "checkouts/tasks/one" if level.isolates_directory else repository),
        "MODERATOR_BRANCH": "main-task-one" if level.isolates_branch else "",
        "MODERATOR_BASE": git(repository, "rev-parse", "main"),
        "MODERATOR_STATE_DIR": str(state / "tasks/one" if level.isolates_state else state),
        "MODERATOR_RUN": "run-1",
        "MODERATOR_ATTEMPT": "1",
        "MODERATOR_SLOT": "0",
    }


def test_a_task_inherits_nothing_that_ties_git(tmp_path: Path) -> None:
    """A run started from inside a git hook has GIT_DIR and its like; its tasks have none, only that gc stays off."""
    repository = sample(tmp_path)
    stray = {
        "GIT_DIR": "/nowhere", "GIT_WORK_TREE": "/nowhere", "GIT_INDEX_FILE": "/nowhere", "GIT_PREFIX": "src/",
        "GIT_AUTHOR_DATE": "1", "GIT_CONFIG_PARAMETERS": "'a.b=c'", "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "a.b", "GIT_CONFIG_VALUE_0": "c", "GIT_EXEC_PATH": "/nowhere",
    }  # fmt: skip
    result = execute_one(repository, ["env", "-0"], environment=inherited(**stray, KEPT="yes"))
    found = _environment(result)
    assert {name: value for name, value in found.items() if name.startswith("GIT_")} == {
        "GIT_CONFIG_COUNT": "2",
        "GIT_CONFIG_KEY_0": "gc.auto",
        "GIT_CONFIG_VALUE_0": "0",
        "GIT_CONFIG_KEY_1": "maintenance.auto",
        "GIT_CONFIG_VALUE_1": "false",
    }
    assert found["KEPT"] == "yes"


def test_git_of_a_task_has_gc_off_and_the_tasks_own_settings(tmp_path: Path) -> None:
    """Git in a task is in its own worktree, never collects garbage, and has what the task's `env` sets."""
    env = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "user.name", "GIT_CONFIG_VALUE_0": "Bot", "GIT_EDITOR": "ed"}
    run = "git config gc.auto; git config maintenance.auto; git config user.name; git var GIT_EDITOR; git rev-parse --show-toplevel"
    (result,) = execute(sample(tmp_path), shell("one", run, env=env))
    assert result.stdout.splitlines() == ["0", "false", "Bot", "ed", str(tmp_path / "checkouts/tasks/one")]


def test_standard_input_is_closed(tmp_path: Path) -> None:
    """A task that asks gets no answer, at once, whatever moderator's own standard input is."""
    result = execute_one(sample(tmp_path), "cat; read answer || echo nobody")
    assert result.stdout == "nobody\n"


def test_values_reach_commands_through_the_environment_alone(tmp_path: Path) -> None:
    """What a value holds is never read by a shell on the way: not in ids, descriptions or variables."""
    nasty = f"$(touch {tmp_path}/pwned); `touch {tmp_path}/pwned` ' \" \\ \n; touch {tmp_path}/pwned #"
    task = shell(nasty, 'printf %s "$VALUE"; printf "|%s" "$MODERATOR_TASK_ID"', nasty, env={"VALUE": nasty})
    (result,) = execute(sample(tmp_path), task)
    assert (words(result), result.stdout) == ("unchanged", f"{nasty}|{nasty}")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("env", [{"A": "nul\0"}, {"A\0": "x"}, {"A=B": "x"}], ids=repr)
def test_a_variable_that_cannot_be_passed_on_is_told(env: dict[str, str], tmp_path: Path) -> None:
    """The system takes no NUL and no `=` in a name: the task could not start, and says why."""
    (result,) = execute(sample(tmp_path), shell("one", env=env))
    assert words(result) == "could not start"
    assert "cannot be passed on" in str(result.error_message)


def test_all_output_is_in_the_log_and_the_end_of_it_in_the_result(tmp_path: Path) -> None:
    """However much a task prints: the file has every byte, the result the last of them."""
    run = "seq 1 200000; seq 1 50000 >&2"
    result = execute_one(sample(tmp_path), run)
    whole = "".join(f"{number}\n" for number in range(1, 200001))
    errors = "".join(f"{number}\n" for number in range(1, 50001))
    assert Path(str(result.log)).stat().st_size == len(whole) + len(errors)
    assert whole.endswith(result.stdout)
    assert errors.endswith(result.stderr)
    assert 0 < len(result.stdout) <= 64 * 1024
    assert 0 < len(result.stderr) <= 64 * 1024


def test_output_of_any_bytes_is_kept_as_it_is(tmp_path: Path) -> None:
    """The log has the bytes themselves; the text in the result replaces what is no UTF-8."""
    result = execute_one(sample(tmp_path), r"printf 'a\377b\000c'")
    assert Path(str(result.log)).read_bytes() == b"a\xffb\0c"
    assert result.stdout == "a�b\0c"


def test_processes_that_a_task_leaves_behind_are_ended_and_told(tmp_path: Path) -> None:
    """A task that ended well but left a server running: it is ended, the work is kept, and a note says so."""
    pids = tmp_path / "pids"
    result = execute_one(sample(tmp_path), f"echo x > x; setsid sleep 60 >/dev/null 2>&1 & echo $! > {pids}")
    assert words(result) == "succeeded"
    assert result.notes == ["processes it left behind were ended: 1"]
    assert not alive(int(pids.read_text()))


# -- tasks that misbehave ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mischief", "note"),
    [
        ("git -C $MAIN switch -qc other", "HEAD of the main checkout changed while the task ran"),
        ("git -C $MAIN commit -q --allow-empty -m rogue", "HEAD of the main checkout changed while the task ran"),
        ("git update-ref -d refs/heads/main", "HEAD of the main checkout changed while the task ran"),
        ("git -C $MAIN rm -q --cached README.md", "the index of the main checkout changed while the task ran"),
        ("git config some.thing else", "the repository's configuration changed while the task ran"),
    ],
)
@pytest.mark.parametrize("level", [IsolationLevel.FULL, IsolationLevel.DIRECTORY])
@pytest.mark.some(5)
def test_a_task_that_touches_the_main_checkout_is_reported(
    mischief: str, note: str, level: IsolationLevel, tmp_path: Path
) -> None:
    """HEAD, index and configuration of the main checkout are compared around every task with a worktree of its own."""
    repository = sample(tmp_path)
    tasks = [shell("good", "git status; git -C $MAIN status"), shell("bad", f"echo x > x; {mischief}")]
    for task in tasks:
        task.env = {"MAIN": str(repository)}
    results = execute(repository, *tasks, level=level)
    assert [(words(result), result.notes) for result in results] == [("unchanged", []), ("succeeded", [note])]


def _not_kept(result: TaskResult, message: str, workspace_kept: bool = True) -> None:
    assert (words(result), result.exit_code, result.commit) == ("not kept", 0, None)
    assert result.workspace_kept is workspace_kept
    assert message in str(result.error_message)


@pytest.mark.parametrize("level", [IsolationLevel.FULL, IsolationLevel.DIRECTORY])
def test_a_task_that_deletes_its_workspace(level: IsolationLevel, tmp_path: Path) -> None:
    """There is nothing left to commit, and what the task had committed stays: a workspace that alone names it is kept."""
    repository = sample(tmp_path)
    run = 'echo own > own; git add own; git commit -qm own; rm -rf "$MODERATOR_WORKSPACE"'
    result = execute_one(repository, run, level=level, keep="never")
    _not_kept(
        result, f"the directory of task 'one' was deleted by hand: {tmp_path}/checkouts/tasks/one",
        workspace_kept=level is IsolationLevel.DIRECTORY,
    )  # fmt: skip
    (entry,) = (repository / ".git").glob("worktrees/*") if result.workspace_kept else [repository / ".git"]
    where = "HEAD" if result.workspace_kept else "main-task-one"
    assert git(repository, f"--git-dir={entry}", "log", "-1", "--format=%s", where) == "own"
    assert git(repository, "fsck", "--strict") == ""


@pytest.mark.parametrize(
    "mischief",
    ["rm .git", "rm .git; git init -q", "rm .git; git clone -q --bare $MAIN .git", "echo nonsense > .git",
     "echo \"gitdir: $MAIN/.git\" > .git"],
)  # fmt: skip
def test_a_task_that_replaces_its_git_file(mischief: str, tmp_path: Path) -> None:
    """A worktree that is not as it was made is committed nowhere and removed by nobody; its files stay."""
    repository = sample(tmp_path)
    before = in_commit(repository, "main"), git(repository, "show-ref", "--head")
    (result,) = execute(repository, shell("one", f"{CHANGE}; {mischief}", env={"MAIN": str(repository)}), keep="never")
    _not_kept(result, "is not as moderator made it")
    assert in_tree(result.path) == CHANGED
    assert in_tree(repository) == before[0]
    assert git(repository, "symbolic-ref", "HEAD") == "refs/heads/main"
    assert git(repository, "rev-parse", "main", "main-task-one") == f"{result.base}\n{result.base}"


@pytest.mark.parametrize(
    ("mischief", "shown"), [("git switch -qc other", "'other'"), ("git checkout -q --detach", "'no branch'")]
)
def test_a_task_that_leaves_its_branch(mischief: str, shown: str, tmp_path: Path) -> None:
    """Work on another branch is not committed to it by us; it stays where the task left it."""
    repository = sample(tmp_path)
    result = execute_one(repository, f"{mischief}; {CHANGE}", keep="never")
    _not_kept(result, f"the worktree of task 'one' is on {shown}, not on 'main-task-one'")
    assert in_tree(result.path) == CHANGED


def test_a_task_that_deletes_its_branch(tmp_path: Path) -> None:
    """A worktree whose branch is gone is an outcome, and its files stay."""
    repository = sample(tmp_path)
    result = execute_one(repository, f"{CHANGE}; git update-ref -d HEAD", keep="never")
    assert (words(result), result.workspace_kept) == ("not kept", True)
    assert in_tree(result.path) == CHANGED


@pytest.mark.parametrize("level", [IsolationLevel.FULL, IsolationLevel.DIRECTORY, IsolationLevel.BRANCH])
def test_a_task_that_leaves_a_merge_conflict(level: IsolationLevel, tmp_path: Path) -> None:
    """No commit is made of an unfinished merge; the conflict is where the task left it."""
    repository = sample(tmp_path)
    side = (
        "git switch -q --detach; echo one > README.md; git commit -qam one; git tag mine; git checkout -q {back};"
        " echo two > README.md; git commit -qam two; git merge mine; git ls-files -u | wc -l"
    )
    if level is IsolationLevel.BRANCH:  # there HEAD must stay, so the conflict comes without commits
        run = "echo a > a; git add a; git stash -q -u; echo b > a; git add a; git stash pop; git ls-files -u | wc -l"
    else:
        run = side.format(back="main-task-one" if level is IsolationLevel.FULL else "$MODERATOR_BASE")
    result = execute_one(repository, run, level=level, keep="always" if level is IsolationLevel.BRANCH else "never")
    _not_kept(result, "task 'one' left a ")
    assert int(result.stdout.splitlines()[-1]) > 0
    assert git(str(result.path), "ls-files", "-u") != ""


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("commits", [False, True], ids=["empty", "with a commit"])
def test_a_task_that_makes_a_repository_of_its_own(level: IsolationLevel, commits: bool, tmp_path: Path) -> None:
    """A nested repository's content would be in no commit: told, and left untouched with everything else."""
    repository = sample(tmp_path)
    run = "git init -q inner; echo deep > inner/deep; cd inner"
    run += "; git add deep; git commit -qm deep" if commits else ""
    result = execute_one(repository, run, level=level, keep="never" if level.isolates_directory else "always")
    assert (Path(str(result.path)) / "inner/deep").read_text() == "deep\n"
    if level is IsolationLevel.NONE:
        assert result.exit_code == 0  # it is left where the person asked for it
    else:
        _not_kept(result, "task 'one' left a repository of its own at 'inner/'")


def test_a_task_that_stages_and_commits_half(tmp_path: Path) -> None:
    """Staged, changed and untracked are one commit; the index of the worktree is clean afterwards."""
    repository = sample(tmp_path)
    run = "echo a > a; git add a; echo b >> a; echo c > c; git mv README.md moved; chmod +x src/b.txt; ln -s c link"
    result = execute_one(repository, run)
    assert git(
        repository, "diff-tree", "-r", "--no-renames", "--name-status", str(result.base), str(result.commit)
    ).split("\n") == ["D\tREADME.md", "A\ta", "A\tc", "A\tlink", "A\tmoved", "M\tsrc/b.txt"]
    assert git(str(result.path), "status", "--porcelain") == ""


def test_file_names_in_any_bytes_are_kept(tmp_path: Path) -> None:
    """A name that is no UTF-8, has line breaks or looks like an option is committed like any other."""
    repository = sample(tmp_path)
    run = r"""printf x > "$(printf 'a\377b')"; printf x > "$(printf 'line\nbreak')"; printf x > ./--all; printf x > ':(top)'"""
    result = execute_one(repository, run)
    assert words(result) == "succeeded"
    added = git(repository, "diff-tree", "-r", "-z", "--name-only", str(result.base), str(result.commit)).split("\0")
    assert added[:-1] == ["--all", ":(top)", "a\udcffb", "line\nbreak"]


def test_a_task_may_start_moderator_itself(tmp_path: Path) -> None:
    """A run inside a task works on the same repository, and its tasks are told their own run, not the outer one's."""
    repository = sample(tmp_path)
    inner = tmp_path / "inner.yaml"
    inner.write_text("tasks: [{id: inner, run: 'echo $MODERATOR_TASK_ID > id'}]")
    result = execute_one(repository, [sys.executable, "-m", "moderator", "run", "--progress", "none", str(inner)])
    assert (words(result), result.exit_code) == ("unchanged", 0)
    assert git(repository, "show", "main-task-one-task-inner:id") == "inner"


def test_two_tasks_with_one_workspace_never_meet(tmp_path: Path) -> None:
    """A workspace that another process holds is not given out: its task has none, and the holder's is unharmed."""
    repository = sample(tmp_path)
    run = f"echo x > x; touch {tmp_path}/ready; while ! [ -e {tmp_path}/go ]; do sleep 0.05; done"
    program = (
        "import sys; sys.path.insert(0, sys.argv[2]); from runs import *; from pathlib import Path;"
        f"execute(Path(sys.argv[1]), shell('one', {run!r}))"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(repository), str(Path(__file__).parent)]) as other:
        try:
            wait_until((tmp_path / "ready").exists, "the other's task")
            result = execute_one(repository, "echo mine > x")
        finally:
            (tmp_path / "go").touch()
    assert words(result) == "no workspace"
    assert f"the workspace of task 'one' is held by process {other.pid} on " in str(result.error_message)
    assert other.returncode == 0
    assert git(repository, "show", "main-task-one:x") == "x"
