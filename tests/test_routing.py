"""Who does a task's work: the backend that the configuration names, asked for one command."""

from __future__ import annotations

from typing import Any

import pytest

from moderator.context import ExecutionContext
from moderator.errors import ConfigurationError
from moderator.models import Task
from moderator.routing import Backend, BackendRouter, Place, ShellBackend

CONTEXT = ExecutionContext("shop", "/work", "main", "/state")


class Agent:
    """A backend that somebody else brings along."""

    def __init__(self, name: str) -> None:
        self.name = name

    def command(self, task: Task, workspace: Place) -> list[str]:
        return [self.name, "--in", workspace.path, task.description]


class Here:
    path = "/srv/tasks/one"


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
    made = ShellBackend().command(task, Here())
    assert made == command
    assert made is not task.run


@pytest.mark.parametrize("run", [None, "", []], ids=repr)
def test_a_task_without_a_command_is_told(run: Any) -> None:
    """The shell cannot do a task that says nothing of what to run."""
    with pytest.raises(ConfigurationError) as refused:
        ShellBackend().command(Task("one", "Do it", run=run), Here())
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
    agent: Backend = Agent("mine")
    router = BackendRouter(None, {"shell": agent})
    backend = router.select_backend(Task("one", "Do it"), CONTEXT)
    assert backend is agent
    assert backend.command(Task("one", "Do it"), Here()) == ["mine", "--in", "/srv/tasks/one", "Do it"]


@pytest.mark.parametrize("config", [routing(default_backend="codex"), routing(rules={"docs": "codex"})])
def test_a_backend_that_nobody_has_is_told_before_anything_runs(config: Any) -> None:
    """Every name in the configuration is checked at once, whether routing is enabled or not."""
    with pytest.raises(ConfigurationError) as refused:
        BackendRouter(config, {"claude": Agent("claude")})
    assert (str(refused.value), refused.value.hint) == (
        "no backend is called 'codex'",
        "choose one of claude, shell",
    )
