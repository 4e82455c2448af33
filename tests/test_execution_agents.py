"""Agents through the real pipeline: every dialect and every bad habit, with a program that has them all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from commandline import alive, wait_until
from moderator.config.settings import PARSERS
from moderator.context import IsolationLevel
from moderator.execution import retrying
from moderator.execution.parallel import ParallelTaskExecutor
from moderator.git.manager import GitManager
from moderator.models import Task, TaskResult
from moderator.process import Cancellation, Limits
from moderator.routing import BackendRouter, Call, Place
from moderator.testing import fake_backend
from repos import git
from runs import Listening, base_context, execute, sample, words


@pytest.fixture(autouse=True)
def without_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let second tries come at once: how long the pauses are is a test of its own."""
    monkeypatch.setattr(retrying, "SHORTEST_PAUSE", 0.01)


def router(default: str | list[str] = "", **backends: dict[str, Any]) -> BackendRouter:
    routing = {"default_backend": default or list(backends), "max_attempts": 3}
    return BackendRouter({"gear3": {"backend_routing": routing}, "backends": backends})


def ask(repository: Path, asked: BackendRouter, *tasks: Task, **options: Any) -> list[TaskResult]:
    return execute(repository, *tasks, router=asked, **options)


def prompt(task_id: str = "one", text: str = "Write it down", **fields: Any) -> Task:
    return Task(task_id, f"Do {task_id}", prompt=text, **fields)


def summary(result: TaskResult) -> tuple[str, str | None, int]:
    return words(result), result.error_message, result.attempt


@pytest.mark.parametrize("way", ["stdin", "file", "argument"])
@pytest.mark.parametrize("dialect", PARSERS)
@pytest.mark.some(7)
def test_an_agent_gets_its_prompt_and_its_work_is_committed(dialect: str, way: str, tmp_path: Path) -> None:
    """Whatever it speaks and however the prompt goes in: the work is a commit, and what it said is told with the result."""
    repository = sample(tmp_path)
    task = prompt(acceptance_criteria=["it is done", "--twice"])
    (result,) = ask(repository, router(fake=fake_backend(dialect, "edit", prompt=way)), task)
    assert summary(result) == ("succeeded", None, 1)
    assert (result.backend, result.backend_version, result.reply) == ("fake", "9.8.7", "Done.")
    told = {"text": (None, None, None), "claude-json": (0.25, 1200, 34), "opencode-json": (0.25, 1200, 34)}
    assert (result.cost_usd, result.tokens_in, result.tokens_out) == told.get(dialect, (None, 1200, 34))
    asked = git(repository, "show", f"{result.commit}:agent.txt")
    assert asked.startswith("Write it down\n\nIt is done when:\n- it is done\n- --twice\n\nYou work in ")
    assert f"{result.path}, a worktree of its own on the branch main-task-one" in asked
    assert git(repository, "status", "--porcelain") == ""


@pytest.mark.parametrize("dialect", PARSERS)
def test_a_failure_in_the_dialect_is_one_whatever_the_exit_code(dialect: str, tmp_path: Path) -> None:
    """An agent that says that it failed has failed, also when it ends with 0; its work stays, uncommitted."""
    asked = router(fake=fake_backend(dialect, "fail-with-zero"))
    if dialect in ("text", "gemini-json"):  # their errors are on standard error, where others put warnings
        asked = router(fake=fake_backend(dialect, "fail-with-zero", failed=["could not make"]))
    (result,) = ask(sample(tmp_path), asked, prompt())
    reason = "its output holds no object of type" if dialect == "gemini-json" else "I could not make the tests pass"
    outcome = "failed"
    if dialect == "gemini-json":
        reason, outcome = "I could not make the tests pass", "failed"
    assert (words(result), reason in str(result.error_message), result.exit_code) == (outcome, True, 0)
    assert Path(str(result.path), "agent.txt").exists()
    assert result.commit is None


@pytest.mark.parametrize("dialect", [name for name in PARSERS if name != "text"])
def test_output_that_is_not_the_dialects_is_never_a_success(dialect: str, tmp_path: Path) -> None:
    """Exit code 0 and no word in the dialect: the outcome says what is missing and shows what was printed instead."""
    (result,) = ask(sample(tmp_path), router(fake=fake_backend(dialect, "mumble")), prompt())
    message = str(result.error_message)
    assert (words(result), message.startswith("its output holds no "), message.endswith("I think I am done")) == (
        "unreadable",
        True,
        True,
    )


@pytest.mark.slow
def test_an_agent_that_hangs_is_ended_by_its_backends_limits(tmp_path: Path) -> None:
    """Silent or noisy, deaf to SIGTERM or not: the limits of the backend end it, and the task's own come before them."""
    silent = fake_backend("codex-jsonl", "hang-silently", idle_timeout=1, retry=[])
    noisy = fake_backend("codex-jsonl", "hang-noisily", timeout=1, retry=[])
    tasks = [
        prompt("silent", backend="silent"),
        prompt("noisy", backend="noisy"),
        prompt("own", backend="noisy", timeout=0.5),
    ]
    results = ask(sample(tmp_path), router("silent", silent=silent, noisy=noisy), *tasks)
    assert [words(result) for result in results] == ["idle", "timed out", "timed out"]
    assert "limit of 0.5 s passed" in str(results[2].error_message)


def test_a_tool_that_waits_for_the_network_for_ever_has_a_trouble_of_its_own(tmp_path: Path) -> None:
    """A limit that passed while the tool complained of the network is the tool's failure: the next one does the task."""
    noisy = fake_backend("codex-jsonl", "hang-noisily", timeout=1, retry=["waiting for network"])
    (result,) = ask(sample(tmp_path), router(noisy=noisy, good=fake_backend()), prompt())
    assert (words(result), result.backend, result.attempt) == ("succeeded", "good", 2)


@pytest.mark.parametrize("behaviour", ["flood", "one-long-line"])
def test_gigabytes_of_output_are_read_in_bounded_memory(behaviour: str, tmp_path: Path) -> None:
    """What an agent says at the end of a flood is found, and the log has all of it."""
    asked = router(fake=fake_backend("claude-json", behaviour, "--bytes", str(40 * 1024 * 1024)))
    (result,) = ask(sample(tmp_path), asked, prompt())
    assert summary(result) == ("succeeded", None, 1)
    assert os.stat(str(result.log)).st_size > 40 * 1024 * 1024
    assert len(result.stdout) <= 64 * 1024


def test_what_an_agent_starts_ends_with_it(tmp_path: Path) -> None:
    """A daemon in a session of its own does not outlive the agent, and the result tells of it."""
    (result,) = ask(sample(tmp_path), router(fake=fake_backend("goose-json", "fork")), prompt())
    pid = int(git(tmp_path / "sample", "show", f"{result.commit}:daemon.txt"))
    wait_until(lambda: not alive(pid), "the end of the daemon")
    assert (words(result), result.notes) == ("succeeded", ["processes it left behind were ended: 1"])


def test_an_agent_that_commits_loses_nothing_by_it(tmp_path: Path) -> None:
    """What it committed although it was told not to, and what it left uncommitted, are both on the branch."""
    repository = sample(tmp_path)
    (result,) = ask(repository, router(fake=fake_backend("copilot-jsonl", "commit")), prompt())
    assert words(result) == "succeeded"
    assert git(repository, "log", "--format=%s", "main..main-task-one").splitlines() == ["Do one", "I was told not to"]
    assert git(repository, "ls-tree", "--name-only", "main-task-one").splitlines() == [
        "README.md",
        "agent.txt",
        "later.txt",
        "src",
    ]


def test_a_worktree_of_the_agents_own_is_not_committed_as_if_it_were_work(tmp_path: Path) -> None:
    """A worktree inside the workspace cannot be committed: the outcome says so, and everything stays as it is."""
    (result,) = ask(sample(tmp_path), router(fake=fake_backend("claude-json", "own-worktree")), prompt())
    assert (words(result), "own-worktree" in str(result.error_message)) == ("not kept", True)
    assert Path(str(result.path), "own-worktree", "there.txt").read_text() == "in the wrong place\n"


def test_nobody_answers_an_agent_that_asks(tmp_path: Path) -> None:
    """It has no terminal and the end of its input, so it fails at once instead of waiting."""
    (result,) = ask(sample(tmp_path), router(fake=fake_backend("opencode-json", "ask")), prompt())
    assert summary(result) == ("failed", "exit code 1: nobody answered", 1)


def test_what_a_tool_leaves_behind_is_put_beside_the_log(tmp_path: Path) -> None:
    """Files of the tool's own are not committed and not deleted; one of that name that the base has is the project's."""
    repository = sample(tmp_path)
    asked = router(fake=fake_backend("text", "litter", litter=[".agent*", "README*"]))
    (result,) = ask(repository, asked, prompt())
    assert git(repository, "ls-tree", "--name-only", "main-task-one").splitlines() == ["README.md", "agent.txt", "src"]
    assert Path(str(result.artifacts_path), "litter", ".agent.history").read_text() == "what I did\n"


# -- attempts ----------------------------------------------------------------------------------------------------------


class Attempts(Listening):
    """A callback that is told of attempts too."""

    def on_attempt_end(self, result: TaskResult, backend: str, pause: float) -> None:
        self._note("again", f"{result.attempt} {result.backend}", backend)


def test_a_rate_limit_gives_the_task_to_the_next_in_a_workspace_as_at_the_start(tmp_path: Path) -> None:
    """The next backend does it, from the base commit; what the first left is in a rescue, and both attempts are told."""
    repository = sample(tmp_path)
    limited = fake_backend("codex-jsonl", "rate-limit", "--counter", str(tmp_path / "count"))
    told = Attempts()
    (result,) = ask(repository, router(limited=limited, good=fake_backend()), prompt(), callback=told)
    assert (words(result), result.backend, result.attempt) == ("succeeded", "good", 2)
    assert git(repository, "ls-tree", "--name-only", "main-task-one").splitlines() == ["README.md", "agent.txt", "src"]
    (rescue,) = GitManager(repository).rescues()
    assert (rescue.task_id, rescue.untracked) == ("one", ("half.txt",))
    assert [note.split(":")[0] for note in result.notes] == [
        "what attempt 1 left was set aside",
        "attempt 1 with limited",
    ]
    assert told.said == [("start", "one", ""), ("again", "1 limited", "good"), ("complete", "one", "succeeded")]


@pytest.mark.slow
def test_one_backend_alone_is_tried_again_as_often_as_is_allowed(tmp_path: Path) -> None:
    """Without another in the row the same one comes round again; after the last attempt its failure is the task's end."""
    repository = sample(tmp_path)

    def network(name: str, times: int) -> dict[str, Any]:
        return fake_backend("copilot-jsonl", "network", "--times", str(times), "--counter", str(tmp_path / name))

    asked = router("good", good=network("good", 2), bad=network("bad", 9))
    tasks = [
        prompt("good", backend="good"),
        prompt("bad", backend="bad"),
        prompt("once", backend="bad", max_attempts=1),
    ]
    assert [summary(result) for result in ask(repository, asked, *tasks)] == [
        ("succeeded", None, 3),
        ("backend failed", "exit code 1: connect ECONNREFUSED 127.0.0.1:443", 3),
        ("backend failed", "exit code 1: connect ECONNREFUSED 127.0.0.1:443", 1),
    ]


def test_who_is_not_logged_in_is_asked_once_in_a_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """After the first word of it, every later task goes to the next backend without trying, and that is told."""

    class Begun(Listening):
        def on_attempt_start(self, task: Task, attempt: int, backend: str) -> None:
            self._note("attempt", task.id, f"{attempt} {backend}")

    told = Begun()
    out = fake_backend("gemini-json", "need-login")
    tasks = [prompt(f"t{number}") for number in range(3)]
    results = ask(sample(tmp_path), router(out=out, good=fake_backend()), *tasks, callback=told)
    assert [(words(result), result.backend, result.attempt) for result in results] == [
        ("succeeded", "good", 2),
        ("succeeded", "good", 1),
        ("succeeded", "good", 1),
    ]
    assert [record.getMessage() for record in caplog.records] == [
        "backend out is not used any more in this run: Not logged in. Please run /login"
    ]
    note = "out cannot be used any more (Not logged in. Please run /login); good took its place"
    assert [note in result.notes for result in results] == [False, True, True]
    begun = [(task_id, what) for kind, task_id, what in told.said if kind == "attempt"]
    assert begun == [("t0", "1 out"), ("t0", "2 good"), ("t1", "1 good"), ("t2", "1 good")]


def test_text_that_says_so_is_believed_the_second_time(tmp_path: Path) -> None:
    """One task may have put the words into a tool's mouth: that one goes elsewhere; after two, the backend is not used."""
    out = fake_backend("text", "need-login")
    tasks = [prompt(f"t{number}") for number in range(4)]
    results = ask(sample(tmp_path), router(out=out, good=fake_backend()), *tasks)
    assert [(words(result), result.backend, result.attempt) for result in results] == [
        ("succeeded", "good", 2),
        ("succeeded", "good", 2),
        ("succeeded", "good", 1),
        ("succeeded", "good", 1),
    ]


def test_a_task_that_simply_failed_is_not_tried_again(tmp_path: Path) -> None:
    """Its events quote a rate limit, its error is its own: there is one attempt, and nobody else is asked."""
    (result,) = ask(sample(tmp_path), router(fails=fake_backend("claude-json", "fail"), good=fake_backend()), prompt())
    assert summary(result) == ("failed", "exit code 1: I could not make the tests pass", 1)


def test_a_cancelled_run_does_not_wait_for_another_try(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pause before a second try ends with the run, and the task is told as cancelled."""
    monkeypatch.setattr(retrying, "SHORTEST_PAUSE", 3600.0)
    monkeypatch.setattr(retrying, "LONGEST_PAUSE", 3600.0)
    cancellation = Cancellation()

    class Cancels(Attempts):
        def on_attempt_end(self, result: TaskResult, backend: str, pause: float) -> None:
            cancellation.cancel()

    limited = fake_backend("codex-jsonl", "rate-limit", "--counter", str(tmp_path / "count"))
    asked = router(limited=limited)
    (result,) = ask(sample(tmp_path), asked, prompt(), callback=Cancels(), cancellation=cancellation)
    assert summary(result) == ("cancelled", "the run was interrupted before it was tried again", 2)


@pytest.mark.parametrize("level", [IsolationLevel.DIRECTORY, IsolationLevel.BRANCH, IsolationLevel.NONE])
def test_a_second_try_needs_a_clean_place_at_every_level(level: IsolationLevel, tmp_path: Path) -> None:
    """In a worktree what was left is rescued; in the checkout it is the person's to look at, and nobody tries again."""
    repository = sample(tmp_path)
    limited = fake_backend("codex-jsonl", "rate-limit", "--counter", str(tmp_path / "count"))
    (result,) = ask(repository, router(limited=limited, good=fake_backend()), prompt(), level=level)
    if level is IsolationLevel.DIRECTORY:
        assert (words(result), result.attempt) == ("succeeded", 2)
        return
    assert (words(result), result.attempt) == ("backend failed", 1)
    assert result.notes[0].startswith("not tried again, for the workspace cannot be put back: ")
    assert (repository / "half.txt").read_text() == "half of it\n"


# -- checks, and backends from Python ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verify", "outcome", "reason"),
    [
        ("test -f agent.txt", "succeeded", None),
        (["grep", "-q", "Write it down", "agent.txt"], "succeeded", None),
        ("echo 3 tests failed; exit 7", "not verified", "verify: exit code 7: 3 tests failed; all it printed is in "),
        ("no-such-command-here", "not verified", "verify: exit code 127"),
        (["no-such-command-here"], "not verified", "verify: 'no-such-command-here' does not exist"),
    ],
)
def test_a_tasks_own_check_decides(verify: Any, outcome: str, reason: str | None, tmp_path: Path) -> None:
    """Success needs the task's own command to end with 0 in the workspace; otherwise the work stays there, uncommitted."""
    (result,) = ask(sample(tmp_path), router(fake=fake_backend()), prompt(verify=verify))
    assert (words(result), str(result.error_message).startswith(str(reason))) == (outcome, True)
    assert (result.commit is None) == (outcome != "succeeded")
    assert Path(str(result.path), "agent.txt").exists()


class FromPython:
    """A backend that a program brings along: it makes one call, and knows a limit."""

    name = "python"
    limit = 1

    def command(self, task: Task, workspace: Place) -> Call:
        done = {"type": "result", "is_error": False, "result": workspace.branch}
        return Call(
            ["sh", "-c", 'cat > in.txt; echo "$1"', "sh", json.dumps(done)], stdin=b"from python", parser="claude-json"
        )


def test_any_object_can_be_a_backend(tmp_path: Path) -> None:
    """What it returns is executed as it is, read as it says, and its name stands in the result."""
    (result,) = execute(sample(tmp_path), prompt(), backend=FromPython())
    assert (words(result), result.backend, result.reply) == ("succeeded", "python", "main-task-one")
    assert Path(str(result.path), "in.txt").read_text() == "from python"


class Says:
    """A backend that answers with whatever it was given, or raises it."""

    name = "odd"

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def command(self, task: Task, workspace: Place) -> Any:
        if isinstance(self._answer, BaseException):
            raise self._answer
        return self._answer


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (SystemExit(3), "backend 'odd' has no call for the task: it raised SystemExit(3)"),
        (KeyboardInterrupt(), "backend 'odd' has no call for the task: it raised KeyboardInterrupt()"),
        ("echo hello", "backend 'odd': what command() returns must be a Call or a list of words, not 'echo hello'; "),
        (None, "backend 'odd': what command() returns must be a Call or a list of words, not None; "),
        ([], "backend 'odd': argv of its call must be a list of texts that begins with a program, not []"),
        (
            ["true", 3],
            "backend 'odd': argv of its call must be a list of texts that begins with a program, not ['true', 3]",
        ),
        (Call(["true"], parser="xml"), "backend 'odd': parser of its call must be one of text, "),
        (
            Call(["true"], retry=["("]),
            "backend 'odd': retry of its call must be a list of regular expressions, not ['(']",
        ),
        (
            Call(["true"], failed="bad"),
            "backend 'odd': failed of its call must be a list of regular expressions, not 'bad'",
        ),
        (
            Call(["true"], env={"A": 1}),
            "backend 'odd': env of its call must be a mapping of texts to texts, not {'A': 1}",
        ),  # type: ignore[dict-item]
        (Call(["true"], stdin="text"), "backend 'odd': stdin of its call must be bytes, not 'text'"),  # type: ignore[arg-type]
        (
            Call(["true"], timeout=0),
            "backend 'odd': timeout of its call must be a positive number of seconds, or None, not 0",
        ),
    ],
    ids=lambda value: str(value)[:30],
)
@pytest.mark.some(3)
def test_a_call_that_cannot_be_made_is_its_tasks_failure(answer: Any, reason: str, tmp_path: Path) -> None:
    """It names the backend and the field; the worker goes on with the next task."""
    routing = {"gear3": {"backend_routing": {"default_backend": "odd"}}}
    asked = BackendRouter({**routing, "backends": {"good": fake_backend()}}, {"odd": Says(answer)})
    first, second = ask(sample(tmp_path), asked, prompt(), prompt("two", backend="good"))
    assert (words(first), words(second)) == ("could not start", "succeeded")
    assert str(first.error_message).startswith(reason)


def test_a_callback_that_wants_to_end_everything_ends_nothing(tmp_path: Path) -> None:
    """Also with SystemExit, which would end a worker without a word."""

    class Ends(Listening):
        def on_task_start(self, task: Task) -> None:
            raise SystemExit(1)

    assert [words(one) for one in ask(sample(tmp_path), router(fake=fake_backend()), prompt(), callback=Ends())] == [
        "succeeded"
    ]


# -- limits ------------------------------------------------------------------------------------------------------------


def intervals(journal: Path) -> dict[str, list[tuple[float, float]]]:
    """Return when each backend was at work, from the journal that they write."""
    begun: dict[tuple[str, str], float] = {}
    found: dict[str, list[tuple[float, float]]] = {}
    for line in journal.read_text().splitlines():
        at, name, what, task_id = line.split()
        if what == "start":
            begun[name, task_id] = float(at)
        else:
            found.setdefault(name, []).append((begun.pop((name, task_id)), float(at)))
    return found


def most_at_once(spans: list[tuple[float, float]]) -> int:
    moments = sorted([(begin, 1) for begin, _ in spans] + [(end, -1) for _, end in spans])
    now = most = 0
    for _, step in moments:
        now += step
        most = max(most, now)
    return most


def test_limits_of_backends_hold_over_the_whole_run_and_no_worker_idles(tmp_path: Path) -> None:
    """Tasks of three backends with limits 1, 2 and 3 on four workers: no limit is passed, and others go on meanwhile."""
    journal = tmp_path / "journal"

    def agent(name: str, limit: int) -> dict[str, Any]:
        seconds = ("--seconds", "0.2")
        return fake_backend("claude-json", "nothing", "--journal", str(journal), "--name", name, *seconds, limit=limit)

    asked = router("a", a=agent("a", 1), b=agent("b", 2), c=agent("c", 3))
    # All of the narrowest backend first: workers that waited for it would leave the others without work.
    tasks = [prompt(f"{name}{number}", backend=name) for name in "abc" for number in range(4)]
    repository = sample(tmp_path)
    executor = ParallelTaskExecutor(
        {"max_workers": 4}, git=GitManager(repository), router=asked, limits=Limits(timeout=60)
    )
    results = executor.execute_tasks(tasks, base_context(repository))
    assert [words(result) for result in results] == ["unchanged"] * 12
    found = intervals(journal)
    assert {name: len(spans) for name, spans in found.items()} == {"a": 4, "b": 4, "c": 4}
    assert [most_at_once(found[name]) for name in "ab"] == [1, 2]
    assert most_at_once(found["c"]) <= 3
    # The first task of the last backend began while the first backend still had tasks waiting.
    assert min(begin for begin, _ in found["c"]) < max(begin for begin, _ in found["a"])
