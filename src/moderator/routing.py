"""Which backend does a task: the table, who of it is there, and what to do when one turns out not to be.

Must not know how commands are run for tasks.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moderator.backends.agents import Agent
from moderator.backends.calls import Backend, Call, Called, Place, handed_in
from moderator.backends.probing import Availability, Probes
from moderator.backends.shell import ShellBackend
from moderator.config import Config, config_from_mapping
from moderator.config.backends import shipped
from moderator.config.settings import BackendConfig
from moderator.context import ExecutionContext
from moderator.document import did_you_mean, listed
from moderator.errors import BackendUnavailable, ConfigurationError
from moderator.kinds import kind_of
from moderator.models import Task

__all__ = ["Backend", "BackendRouter", "Call", "Place", "Route", "ShellBackend"]

log = logging.getLogger(__name__)

_SHELL = "shell"


@dataclass(frozen=True)
class Route:
    """What the table says of a task: its kind and who said so, the row, and the backends in the order they are tried."""

    kind: str
    because: str
    row: str
    backends: tuple[str, ...]


class BackendRouter:
    """Picks the backend of each task: by its kind if routing is enabled, otherwise the default one.

    `config` is a Config or a mapping with a `gear3.backend_routing` section; `backends` adds to, or replaces, the configured
    and the shipped ones by name; results, limits and what is known of one go by the name it has there.  `environment` is what
    programs are looked up in (default: this process's), `cache` a file in which their versions are remembered.  Safe to be
    shared by threads.

    Raises ConfigurationError for a name in the configuration that no backend has, and for an object that can be no backend.
    """

    def __init__(
        self,
        config: Config | Mapping[str, Any] | None = None,
        backends: Mapping[str, Backend] | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        cache: Path | None = None,
    ) -> None:
        given = {name: handed_in(name, one) for name, one in (backends or {}).items()}
        if not isinstance(config, Config):
            config = config_from_mapping(config or {}, backends=given)
        self._config = config
        self._routing = config.backend_routing
        self._environment = os.environ if environment is None else environment
        self._probes = Probes(cache)
        self._backends: dict[str, Backend] = {name: self._made(one) for name, one in shipped().items()}
        self._backends |= {name: self._made(one) for name, one in config.backends.items()}
        self._backends |= given
        for row in (self._routing.default_backend, *self._routing.rules.values()):
            self._require(row)
        self._lock = threading.Lock()
        self._looking: dict[str, threading.Lock] = {}
        self._known: dict[str, Availability] = {}
        self._doubted: set[str] = set()
        self._said: set[tuple[str, str]] = set()

    @property
    def names(self) -> list[str]:
        """The name of every backend there is."""
        return list(self._backends)

    @property
    def rows(self) -> tuple[tuple[str, ...], list[tuple[str, tuple[str, ...]]]]:
        """The row of whatever has none of its own, and those of kinds, as far as they count."""
        rules = self._routing.rules.items() if self._routing.enabled else ()
        return _names(self._routing.default_backend), [(kind, _names(row)) for kind, row in rules]

    @property
    def max_attempts(self) -> int:
        """How often a task that does not say so itself is tried."""
        return self._routing.max_attempts

    def backend(self, name: str) -> Backend:
        """Return a backend by its name.  Raises ConfigurationError."""
        self._require(name)
        return self._backends[name]

    def route(self, task: Task) -> Route:
        """Return what the table says of a task, whoever of it is there.  Raises ConfigurationError if nobody can do it.

        A task that is a command goes to the shell, unless its row has a backend that a program brought along; one that is a
        prompt to those of its row that take prompts.
        """
        kind, because = kind_of(task, self._routing.kinds)
        if task.backend:
            row, names = "the task names it", _names(task.backend)
            self._require(names, f"task {task.id!r}")
        elif self._routing.enabled and kind in self._routing.rules:
            row, names = f"rules.{kind}", _names(self._routing.rules[kind])
        else:
            row, names = "default_backend", _names(self._routing.default_backend)
        fitting = tuple(name for name in names if self._fits(task, name))
        if fitting:
            return Route(kind, because, row, fitting)
        if task.run and not task.backend:
            return Route(kind, because, "it is a command", (_SHELL,))
        if task.run:
            raise ConfigurationError(
                f"{listed(names)} {'takes' if len(names) == 1 else 'take'} a prompt, and the task is a command; "
                "give it prompt: instead of run:, or leave backend: out"
            )
        raise ConfigurationError(
            f"the task is a prompt, and {row} names only the shell, which executes commands; "
            "name a backend that takes prompts, such as default_backend: claude_code, or give the task its own backend:"
        )

    def candidates(self, task: Task) -> list[Backend]:
        """Return who can do a task and is there, in the order in which they are tried.

        Raises BackendUnavailable, with each of them and why not, if none is; ConfigurationError.
        """
        route = self.route(task)
        there, problems = [], []
        for name in route.backends:
            known = self.availability(name)
            if known.usable:
                there.append(self._backends[name])
            else:
                problems.append((name, known))
        if not there:
            raise BackendUnavailable(
                f"nobody is there to do task {task.id!r}",
                [f"{name}: {known.problem}" for name, known in problems],
                hint=next((known.hint for _, known in problems if known.hint), ""),
            )
        for name, known in problems:
            self._log_once(name, there[0].name, known.problem)
        return there

    def select_backend(self, task: Task, context: ExecutionContext) -> Backend:  # noqa: ARG002 - part of the interface
        """Return the backend for a task: the first of its row that is there.  Raises what `candidates` does."""
        return self.candidates(task)[0]

    def availability(self, name: str) -> Availability:
        """Return whether a backend is there; it is looked at once, and by one thread only."""
        with self._lock:
            looking = self._looking.setdefault(name, threading.Lock())
        with looking:
            if name not in self._known:
                self._known[name] = self._asked(name)
            return self._known[name]

    def _asked(self, name: str) -> Availability:
        """Ask a backend whether it is there; it may be anybody's, and one that cannot even say that cannot be used."""
        look = getattr(self._backends[name], "availability", None)
        if look is None:
            return Availability()
        try:
            known = look(self._environment)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - told with the others that cannot be used
            return Availability(problem=f"it cannot say whether it is there: {type(error).__name__}: {error}")
        if isinstance(known, Availability):
            return known
        return Availability(problem=f"it says {known!r:.60} where it should say whether it is there: an Availability")

    def give_up(self, name: str, problem: str, sure: bool = True) -> None:
        """Let a backend count as not there from now on: it said itself that it cannot work.

        Where nobody is `sure` that these were its own words, it is only after the second time.
        """
        with self._lock:
            doubted = name in self._doubted
            self._doubted.add(name)
        if not (sure or doubted):
            return
        known = self.availability(name)
        with self._looking[name]:
            news = self._known[name].usable
            self._known[name] = Availability(known.path, known.version, known.logged_in, problem, known.hint)
        if news:
            log.warning("backend %s is not used any more in this run: %s", name, problem)

    def limit_of(self, name: str) -> int | None:
        """Return how many tasks of a backend may run at once, None for any number."""
        limit: int | None = getattr(self._backends[name], "limit", None)
        return limit

    def _made(self, config: BackendConfig) -> Backend:
        return ShellBackend(config) if config.is_shell else Agent(config, self._config.prompt_template, self._probes)

    def _fits(self, task: Task, name: str) -> bool:
        backend = self._backends[name]
        if isinstance(backend, Called):
            backend = backend.backend
        if isinstance(backend, Agent):
            return bool(task.prompt) or not task.run
        return bool(task.run) or task.prompt is None or not isinstance(backend, ShellBackend)

    def _require(self, row: str | Sequence[str], whose: str = "") -> None:
        for name in _names(row):
            if name not in self._backends:
                near = did_you_mean(name, self._backends, "")
                raise ConfigurationError(
                    f"{f'{whose}: ' if whose else ''}no backend is called {name!r}{near}",
                    hint=f"choose one of {', '.join(sorted(self._backends))}",
                )

    def _log_once(self, name: str, instead: str, problem: str) -> None:
        with self._lock:
            known = (name, instead) in self._said
            self._said.add((name, instead))
        if not known:
            log.warning("backend %s cannot be used: %s; %s takes its place", name, problem, instead)


def _names(row: str | Sequence[str]) -> tuple[str, ...]:
    return (row,) if isinstance(row, str) else tuple(row)
