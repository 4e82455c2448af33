"""Who does a task's work: backends, and the router that picks one.

A backend is asked one thing: the command that does the task in a workspace.  Must not know how commands are run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from moderator.config import Config, config_from_mapping
from moderator.context import ExecutionContext
from moderator.errors import ConfigurationError
from moderator.models import Task


class Place(Protocol):
    """What a backend may know of a workspace."""

    @property
    def path(self) -> str: ...


class Backend(Protocol):
    """What executes a task."""

    @property
    def name(self) -> str: ...

    def command(self, task: Task, workspace: Place) -> list[str]:
        """Return the command that does the task.  Raises ConfigurationError if the task gives it nothing to do."""
        ...


class ShellBackend:
    """Executes a task's own `run`: text with `/bin/sh -c`, a list as it is."""

    name = "shell"

    def command(self, task: Task, workspace: Place) -> list[str]:  # noqa: ARG002 - the shell starts in the workspace anyway
        if not task.run:
            raise ConfigurationError(
                f"task {task.id!r} has nothing to run", hint="give it run:, or a backend that makes a command of it"
            )
        return ["/bin/sh", "-c", task.run] if isinstance(task.run, str) else list(task.run)


class BackendRouter:
    """Picks the backend of each task: by its kind if routing is enabled, otherwise the default one.

    `config` is a Config or a mapping with a `gear3.backend_routing` section; `backends` adds to, or replaces, the shipped
    ones by name.  Raises ConfigurationError for a name in the configuration that no backend has.
    """

    def __init__(
        self, config: Config | Mapping[str, Any] | None = None, backends: Mapping[str, Backend] | None = None
    ) -> None:
        if not isinstance(config, Config):
            config = config_from_mapping(config or {})
        self._routing = config.backend_routing
        self._backends: dict[str, Backend] = {"shell": ShellBackend(), **(backends or {})}
        for name in (self._routing.default_backend, *self._routing.rules.values()):
            if name not in self._backends:
                raise ConfigurationError(
                    f"no backend is called {name!r}", hint=f"choose one of {', '.join(sorted(self._backends))}"
                )

    def select_backend(self, task: Task, context: ExecutionContext) -> Backend:  # noqa: ARG002 - part of the interface
        """Return the backend for a task."""
        name = self._routing.default_backend
        if self._routing.enabled:
            name = self._routing.rules.get(task.kind, name)
        return self._backends[name]
