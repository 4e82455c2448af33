"""The seam between a run and whatever does the work: one question, and a value that answers it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from moderator.models import Task


@dataclass(frozen=True)
class Place:
    """Where a task is done.

    `path` is the workspace, `branch` the branch it is on (None: none), `base` the commit it forked from, `state_dir` where
    what outlives the task can be kept, `folder` the directory of this one attempt, beside its log.
    """

    path: str
    branch: str | None = None
    base: str = ""
    state_dir: str = ""
    folder: str = ""


@dataclass(frozen=True)
class Call:
    """One execution of a program.

    `argv` is executed as it is, with `stdin` as standard input and `env` on top of the environment.  `files` have to be
    there first: path and content.  `parser` is what the output is read as, "" for not at all; `failed`, `retry` and `give_up`
    are regular expressions in it.  `timeout` and `idle_timeout` are seconds for a task that has none of its own, None: the
    run's.  `litter` are patterns of what the program leaves at the top of the workspace and nobody wants committed.
    """

    argv: Sequence[str]
    stdin: bytes = b""
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    parser: str = ""
    failed: Sequence[str] = ()
    retry: Sequence[str] = ()
    give_up: Sequence[str] = ()
    timeout: float | None = None
    idle_timeout: float | None = None
    litter: Sequence[str] = ()


class Backend(Protocol):
    """What does a task's work.

    It may also have `limit`, how many of its tasks run at once (None: any number), and `availability(environment)`, which
    returns an `Availability`; without them it is always there and knows no limit.
    """

    @property
    def name(self) -> str: ...

    def command(self, task: Task, workspace: Place) -> Call | Sequence[str]:
        """Return the call that does the task, or only its argv.  Raises ConfigurationError if it cannot do such a task."""
        ...


def call_of(backend: Backend, task: Task, place: Place) -> Call:
    """Ask a backend for its call."""
    answer = backend.command(task, place)
    return answer if isinstance(answer, Call) else Call(list(answer))
