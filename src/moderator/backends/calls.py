"""The seam between a run and whatever does the work: one question, and a value that answers it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from moderator.config.settings import PARSERS
from moderator.errors import ConfigurationError
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


class Called:
    """A backend under the name by which a program hands it in, where it calls itself otherwise: all goes by that name."""

    def __init__(self, name: str, backend: Backend) -> None:
        self.name = name
        self.backend = backend
        self.limit: int | None = getattr(backend, "limit", None)
        if look := getattr(backend, "availability", None):
            self.availability = look

    def command(self, task: Task, workspace: Place) -> Call | Sequence[str]:
        return self.backend.command(task, workspace)


def handed_in(name: str, backend: Backend) -> Backend:
    """Return a backend that a program brings along, under its name there.  Raises ConfigurationError for one that cannot be."""
    if not isinstance(name, str) or not name.strip():
        raise ConfigurationError(f"a backend needs a name that is text, not {name!r}")
    if not callable(getattr(backend, "command", None)):
        raise ConfigurationError(f"backend {name!r} is no backend: it has no command(task, workspace)")
    limit = getattr(backend, "limit", None)
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise ConfigurationError(f"backend {name!r}: limit must be 1 or more, or None for any number, not {limit!r}")
    return backend if getattr(backend, "name", None) == name else Called(name, backend)


def call_of(backend: Backend, task: Task, place: Place) -> Call:
    """Ask a backend for its call.  Raises ConfigurationError, naming the backend and the field, for one that cannot be made."""
    try:
        answer = backend.command(task, place)
    except (SystemExit, KeyboardInterrupt, GeneratorExit) as error:
        # Only a task's own thread asks, so this is no wish of the person's: it would end the thread, and nothing else.
        raise ConfigurationError(f"backend {backend.name!r} has no call for the task: it raised {error!r}") from error
    if not isinstance(answer, Call):
        if isinstance(answer, str | bytes) or not isinstance(answer, Sequence):
            raise ConfigurationError(
                f"backend {backend.name!r}: what command() returns must be a Call or a list of words, not {answer!r:.100}",
                hint="for a line of the shell, return ['/bin/sh', '-c', line]",
            )
        answer = Call(list(answer))
    for name, wanted, holds in _FIELDS:
        value = getattr(answer, name)
        if not holds(value):
            raise ConfigurationError(
                f"backend {backend.name!r}: {name} of its call must be {wanted}, not {value!r:.100}"
            )
    return answer


def _are_texts(value: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str | bytes)
        and all(isinstance(one, str) and "\0" not in one for one in value)
    )


def _are_patterns(value: Any) -> bool:
    try:
        return _are_texts(value) and all(re.compile(one) for one in value)
    except re.error:
        return False


def _are_named_texts(value: Any) -> bool:
    return isinstance(value, Mapping) and _are_texts([*value]) and all(isinstance(one, str) for one in value.values())


def _is_limit(value: Any) -> bool:
    return value is None or (
        not isinstance(value, bool) and isinstance(value, int | float) and 0 < value < float("inf")
    )


_TEXTS, _PATTERNS, _SECONDS = (
    "a list of texts",
    "a list of regular expressions",
    "a positive number of seconds, or None",
)
_FIELDS: tuple[tuple[str, str, Callable[[Any], bool]], ...] = (
    (
        "argv",
        "a list of texts that begins with a program",
        lambda value: _are_texts(value) and bool(value and value[0]),
    ),
    ("stdin", "bytes", lambda value: isinstance(value, bytes)),
    ("env", "a mapping of texts to texts", _are_named_texts),
    ("files", "a mapping of paths to texts", _are_named_texts),
    ("parser", f"one of {', '.join(PARSERS)}, or '' for none", lambda value: value in ("", *PARSERS)),
    ("failed", _PATTERNS, _are_patterns),
    ("retry", _PATTERNS, _are_patterns),
    ("give_up", _PATTERNS, _are_patterns),
    ("timeout", _SECONDS, _is_limit),
    ("idle_timeout", _SECONDS, _is_limit),
    ("litter", _TEXTS, _are_texts),
)
"""What each field of a call must be: a backend may be anybody's, and what it says must not end a worker."""
