"""One tree of errors: the one that is drawn, with the exit codes that are promised."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Iterator

import pytest

from moderator import errors
from moderator.errors import (
    AggregateExecutionError,
    BackendUnavailable,
    InvalidTaskId,
    ModeratorError,
    PlanError,
    WouldLoseWork,
)

Line = tuple[str, str, int]
"""An error's parent, its name, its exit code."""


LISTING = (PlanError, WouldLoseWork, BackendUnavailable)
"""Those that carry a list of what is wrong."""


def tree(kind: type[ModeratorError] = ModeratorError, parent: str = "") -> Iterator[Line]:
    yield parent, kind.__name__, kind.exit_code
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from tree(child, kind.__name__)


def drawn_tree() -> Iterator[Line]:
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if drawn := re.match(r" {4}((?:[│ ]   )*)(?:[├└]── )?([A-Z]\w+) +(\d+)", line):
            indent, name, code = drawn.groups()
            depth = len(indent) // 4 + ("── " in line)
            path[depth:] = [name]
            yield path[depth - 1] if depth else "", name, int(code)


def kinds() -> list[type[ModeratorError]]:
    return [getattr(errors, name) for _, name, _ in tree()]


def example(kind: type[ModeratorError]) -> ModeratorError:
    if kind is AggregateExecutionError:
        return AggregateExecutionError("all 2 tasks failed", ["first", "second"])
    if kind in LISTING:
        return kind("it cannot be", ["for one thing", "for another"], hint="type this")  # type: ignore[call-arg, arg-type]
    return kind("it cannot be", hint="type this", cause="fatal: no")


def test_the_drawn_tree_is_the_real_one() -> None:
    """The docstring shows every error once, below its parent, in the order of the code, with its exit code."""
    assert list(drawn_tree()) == list(tree())
    assert len(list(tree())) == len({name for _, name, _ in tree()}) > 15


def test_every_error_of_the_module_is_in_the_tree() -> None:
    """No error stands beside the tree, where the command line would not find its exit code."""
    defined = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert defined == {name for _, name, _ in tree()}


@pytest.mark.parametrize("kind", kinds())
def test_every_error_travels_between_processes_whole(kind: type[ModeratorError]) -> None:
    """Pickled or copied, an error keeps its kind, its text and everything that it carries."""
    error = example(kind)
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert (type(twin), twin.args, str(twin), vars(twin)) == (kind, error.args, str(error), vars(error))


@pytest.mark.parametrize("kind", kinds())
def test_every_error_says_what_happened_and_needs_no_more(kind: type[ModeratorError]) -> None:
    """The message is what `str` shows first; hint and cause are empty text where there is none."""
    error = kind("it cannot be", []) if kind in LISTING else kind("it cannot be")  # type: ignore[arg-type]
    assert (str(error), error.message, error.hint, error.cause) == ("it cannot be", "it cannot be", "", "")


def test_an_invalid_task_id_is_a_value_error() -> None:
    """Code that knows nothing of this package catches it as what it is."""
    with pytest.raises(ValueError, match="empty"):
        raise InvalidTaskId("a task id must not be empty")


def test_a_plan_error_shows_every_problem() -> None:
    """All problems of a task list are told at once, in its order."""
    error = PlanError("tasks.yaml cannot be run", ["tasks[0]: no id", "tasks[3]: no command"])
    assert error.problems == ("tasks[0]: no id", "tasks[3]: no command")
    assert str(error) == "tasks.yaml cannot be run\n  - tasks[0]: no id\n  - tasks[3]: no command"


def test_an_error_of_all_tasks_carries_their_results() -> None:
    """Who catches it has what a run that half succeeded would have returned."""
    assert AggregateExecutionError("all 2 tasks failed", (1, 2)).failed_tasks == [1, 2]
