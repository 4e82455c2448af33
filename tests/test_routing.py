"""Who does a task's work: the backend that the configuration names, asked for one command."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from moderator.backends.probing import Availability
from moderator.context import ExecutionContext
from moderator.errors import BackendUnavailable, ConfigurationError
from moderator.models import Task
from moderator.routing import Backend, BackendRouter, Call, Place, Route, ShellBackend
from moderator.testing import fake_backend

HERE = Place("/srv/tasks/one", "main-task-one", "0" * 40, "/srv/state", "/srv/state/1")
CONTEXT = ExecutionContext("shop", "/work", "main", "/state")


class Agent:
    """A backend that somebody else brings along."""

    def __init__(self, name: str) -> None:
        self.name = name

    def command(self, task: Task, workspace: Place) -> list[str]:
        return [self.name, "--in", workspace.path, task.description]


def routing(**keys: Any) -> dict[str, Any]:
    return {"gear3": {"backend_routing": keys}}


@pytest.mark.parametrize(
    ("run", "command"),
    [
        ("make test && echo $HOME", ["/bin/sh", "-c", "make test && echo $HOME"]),
        (["make", "test && echo $HOME"], ["make", "test && echo $HOME"]),
    ],
)
def test_text_goes_to_the_shell_and_a_list_is_executed_as_it_is(run: str | list[str], command: list[str]) -> None:
    """Text is one argument of `/bin/sh -c`; a list is passed on untouched, and is not the task's own list."""
    task = Task("one", "Do it", run=run)
    made = ShellBackend().command(task, HERE)
    assert made == Call(command)
    assert made.argv is not task.run


@pytest.mark.parametrize("run", [None, "", []], ids=repr)
def test_a_task_without_a_command_is_told(run: Any) -> None:
    """The shell cannot do a task that says nothing of what to run."""
    with pytest.raises(ConfigurationError) as refused:
        ShellBackend().command(Task("one", "Do it", run=run), HERE)
    assert str(refused.value) == "task 'one' has nothing to run"


@pytest.mark.parametrize(
    ("config", "kind", "chosen"),
    [
        (None, "docs", "shell"),
        ({}, "docs", "shell"),
        (routing(default_backend="claude"), "docs", "claude"),
        (routing(enabled=False, rules={"docs": "claude"}), "docs", "shell"),
        (routing(enabled=True, rules={"docs": "claude"}), "docs", "claude"),
        (routing(enabled=True, rules={"docs": "claude"}), "code", "shell"),
        (routing(enabled=True, rules={"docs": "shell"}, default_backend="claude"), "", "claude"),
    ],
)
def test_the_kind_of_a_task_decides_where_routing_is_enabled(config: Any, kind: str, chosen: str) -> None:
    """With routing, the rule for a task's kind; without, or without a rule, the default backend."""
    router = BackendRouter(config, {"claude": Agent("claude")})
    assert router.select_backend(Task("one", "Do it", kind=kind), CONTEXT).name == chosen


def test_a_backend_can_take_the_place_of_a_shipped_one() -> None:
    """Backends are found by name, and who brings one along is meant."""
    agent: Backend = Agent("claude_code")
    router = BackendRouter(routing(default_backend="claude_code"), {"claude_code": agent})
    backend = router.select_backend(Task("one", "Do it"), CONTEXT)
    assert backend is agent
    assert backend.command(Task("one", "Do it"), HERE) == ["claude_code", "--in", "/srv/tasks/one", "Do it"]


class Counted(Agent):
    """One that knows a limit, and says of itself what it is told to."""

    def __init__(self, name: str, limit: Any = 1, known: Any = None) -> None:
        super().__init__(name)
        self.limit = limit
        self._known = known

    def availability(self, environment: Any) -> Any:
        if isinstance(self._known, BaseException):
            raise self._known
        return self._known


@pytest.mark.parametrize("own", ["codex", "shell", "other", "mine"])
def test_a_backend_goes_by_the_name_under_which_it_is_handed_in(own: str) -> None:
    """Whatever it calls itself, also after a shipped one: its limit and what is known of it are its own, and no other's."""
    router = BackendRouter(routing(default_backend="mine"), {"mine": Counted(own, known=Availability(version="7"))})
    (chosen,) = router.candidates(Task("one", "Do it"))
    assert (chosen.name, router.limit_of("mine"), router.availability("mine").version) == ("mine", 1, "7")
    assert chosen.command(Task("one", "Do it"), HERE) == [own, "--in", "/srv/tasks/one", "Do it"]
    router.give_up("mine", "it is out of order")
    with pytest.raises(BackendUnavailable) as refused:
        router.candidates(Task("one", "Do it"))
    assert refused.value.findings == ("mine: it is out of order",)
    assert router.limit_of("codex") is None
    assert ("other" in router.names) is False


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        (Counted("a", 0), "backend 'a': limit must be 1 or more, or None for any number, not 0"),
        (Counted("a", -1), "backend 'a': limit must be 1 or more, or None for any number, not -1"),
        (Counted("a", 1.5), "backend 'a': limit must be 1 or more, or None for any number, not 1.5"),
        (Counted("a", True), "backend 'a': limit must be 1 or more, or None for any number, not True"),
        ("agent", "backend 'a' is no backend: it has no command(task, workspace)"),
    ],
)
def test_what_cannot_be_a_backend_is_refused_when_it_is_handed_in(backend: Any, message: str) -> None:
    """A limit under which nothing could ever run would leave a run waiting for ever."""
    with pytest.raises(ConfigurationError) as refused:
        BackendRouter(None, {"a": backend})
    assert refused.value.message == message


@pytest.mark.parametrize(
    ("known", "problem"),
    [
        (RuntimeError("no idea"), "it cannot say whether it is there: RuntimeError: no idea"),
        (SystemExit(3), "it cannot say whether it is there: SystemExit: 3"),
        ("yes", "it says 'yes' where it should say whether it is there: an Availability"),
        (None, "it says None where it should say whether it is there: an Availability"),
    ],
)
def test_who_cannot_say_whether_it_is_there_is_not(known: Any, problem: str) -> None:
    """Its reason is told with the others', and the next of the row does the task."""
    asked = BackendRouter(
        routing(default_backend=["odd", "good"]), {"odd": Counted("odd", 1, known), "good": Agent("good")}
    )
    assert asked.availability("odd").problem == problem
    assert asked.select_backend(Task("one", "Do it"), CONTEXT).name == "good"


@pytest.mark.parametrize("config", [routing(default_backend="codx"), routing(rules={"docs": ["shell", "codx"]})])
def test_a_backend_that_nobody_has_is_told_before_anything_runs(config: Any) -> None:
    """Every name in the configuration is checked at once, whether routing is enabled or not."""
    with pytest.raises(ConfigurationError) as refused:
        BackendRouter(config, {"claude": Agent("claude")})
    assert "no backend is called 'codx'; did you mean 'codex'?" in str(refused.value)


def agents(**more: Any) -> dict[str, Any]:
    """A configuration with two agents, and whatever else there is to be in it."""
    return {"backends": {"one": fake_backend(), "two": fake_backend(limit=2)}, **more}


def task(prompt: str | None = None, **fields: Any) -> Task:
    return Task("t", fields.pop("description", prompt or "Do it"), prompt=prompt, **fields)


@pytest.mark.parametrize(
    ("keys", "asked", "expected"),
    [
        ({}, task(run="make"), Route("general", "no rule knows its words", "default_backend", ("shell",))),
        (
            {"default_backend": ["one", "two"]},
            task("Do it"),
            Route("general", "no rule knows its words", "default_backend", ("one", "two")),
        ),
        # A command goes to the shell, whoever is the default.
        (
            {"default_backend": "one"},
            task(run="make"),
            Route("general", "no rule knows its words", "it is a command", ("shell",)),
        ),
        # The shell is passed over for a prompt.
        (
            {"default_backend": ["shell", "two"]},
            task("Do it"),
            Route("general", "no rule knows its words", "default_backend", ("two",)),
        ),
        (
            {"default_backend": "one", "enabled": True, "rules": {"testing": ["two", "one"]}},
            task("Write tests for the parser"),
            Route("testing", "'tests' in its description", "rules.testing", ("two", "one")),
        ),
        (
            {"default_backend": "one", "enabled": True, "rules": {"testing": "two"}},
            task("Do it", kind="testing"),
            Route("testing", "kind: testing", "rules.testing", ("two",)),
        ),
        (
            {"default_backend": "one", "enabled": False, "rules": {"testing": "two"}},
            task("Do it", kind="testing"),
            Route("testing", "kind: testing", "default_backend", ("one",)),
        ),
        (
            {"default_backend": "one", "enabled": True, "rules": {"testing": "one"}},
            task("Do it", kind="testing", backend=("two", "one")),
            Route("testing", "kind: testing", "the task names it", ("two", "one")),
        ),
    ],
)
def test_the_table_says_who_does_a_task_and_why(keys: dict[str, Any], asked: Task, expected: Route) -> None:
    """The task's own word first, then the rule for its kind, then the default; only those count that can do such a task."""
    assert BackendRouter(agents(**routing(**keys))).route(asked) == expected


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (task("Do it"), "the task is a prompt, and default_backend names only the shell, which executes commands"),
        (task(run="make", backend="one"), "'one' takes a prompt, and the task is a command"),
        (task("Do it", backend="three"), "task 't': no backend is called 'three'"),
        (task("Do it", backend=["one", "tow"]), "task 't': no backend is called 'tow'; did you mean 'two'?"),
    ],
)
def test_a_task_that_nobody_could_do_is_refused(asked: Task, message: str) -> None:
    """What cannot be is said before anything is looked for."""
    with pytest.raises(ConfigurationError) as refused:
        BackendRouter(agents()).route(asked)
    assert message in str(refused.value)


def absent(name: str = "no-such-program-here") -> dict[str, Any]:
    return {"argv": [name], "prompt": "stdin"}


def test_who_is_not_there_gives_way_to_the_next_with_a_reason(caplog: pytest.LogCaptureFixture) -> None:
    """The first of the row that can be used does the task; why the one before it cannot is logged, once."""
    config = {"backends": {"gone": absent(), "one": fake_backend()}, **routing(default_backend=["gone", "one"])}
    router = BackendRouter(config)
    with caplog.at_level("WARNING"):
        assert [router.select_backend(task("Do it"), CONTEXT).name for _ in range(3)] == ["one"] * 3
    assert [record.getMessage() for record in caplog.records] == [
        "backend gone cannot be used: 'no-such-program-here' is not on PATH; one takes its place"
    ]


def test_nobody_there_is_a_problem_of_the_machine_that_names_each() -> None:
    """Where none of a row can be used, each is named with its reason; the exit code is 4."""
    out = fake_backend("claude-json", login=["false"])
    config = {"backends": {"gone": absent(), "out": out}, **routing(default_backend=["gone", "out"])}
    with pytest.raises(BackendUnavailable) as refused:
        BackendRouter(config).select_backend(task("Do it"), CONTEXT)
    assert (refused.value.exit_code, refused.value.findings) == (
        4,
        ("gone: 'no-such-program-here' is not on PATH", "out: it is not logged in"),
    )


def test_who_gives_up_in_mid_run_is_not_asked_again() -> None:
    """A backend that said that it cannot work is passed over from then on."""
    router = BackendRouter(agents(**routing(default_backend=["one", "two"])))
    assert [backend.name for backend in router.candidates(task("Do it"))] == ["one", "two"]
    router.give_up("one", "not logged in")
    assert [backend.name for backend in router.candidates(task("Do it"))] == ["two"]


def test_a_thousand_tasks_on_many_threads_look_at_a_program_once(tmp_path: Path) -> None:
    """Selecting is safe for threads, and a program is asked for its version only once."""
    journal = tmp_path / "journal"
    probe = ["/bin/sh", "-c", f"echo asked >> {journal}; sleep 0.2; echo 1.2"]
    config = {"backends": {"one": fake_backend(probe=probe)}, **routing(default_backend="one")}
    router = BackendRouter(config)
    with ThreadPoolExecutor(8) as pool:
        chosen = list(pool.map(lambda number: router.select_backend(task(f"Do {number}"), CONTEXT).name, range(1000)))
    assert (set(chosen), journal.read_text()) == ({"one"}, "asked\n")


def test_limits_are_those_of_the_backends() -> None:
    """A backend has the limit it says; those that say none have none."""
    router = BackendRouter(agents(), {"mine": Agent("mine")})
    assert [router.limit_of(name) for name in ("one", "two", "shell", "mine")] == [None, 2, None, None]


def test_a_backend_from_python_can_be_named_in_a_dictionary() -> None:
    """A name in rules may be that of an object that is handed in beside them."""
    router = BackendRouter(routing(enabled=True, rules={"docs": "mine"}), {"mine": Agent("mine")})
    assert router.select_backend(task("Do it", kind="docs"), CONTEXT).name == "mine"
