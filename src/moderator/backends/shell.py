"""The shell: executes what a task itself says."""

from __future__ import annotations

from moderator.backends.calls import Call, Place
from moderator.backends.prompts import values_for
from moderator.config.settings import BackendConfig
from moderator.errors import ConfigurationError
from moderator.models import Task
from moderator.templates import fill


class ShellBackend:
    """Executes a task's own `run`: text with `/bin/sh -c`, a list as it is."""

    def __init__(self, config: BackendConfig | None = None) -> None:
        self._config = config or BackendConfig("shell")
        self.name = self._config.name
        self.limit = self._config.limit

    def command(self, task: Task, workspace: Place) -> Call:
        if not task.run:
            raise ConfigurationError(
                f"task {task.id!r} has nothing to run", hint="give it run:, or a backend that takes its prompt"
            )
        config = self._config
        values = values_for(task, workspace) if config.env else {}
        return Call(
            command_of(task.run),
            env={name: fill(text, values) for name, text in config.env.items()},
            retry=config.retry,
            give_up=config.give_up,
            timeout=config.timeout,
            idle_timeout=config.idle_timeout,
        )


def command_of(run: str | list[str]) -> list[str]:
    """Return what a task says as an argv: text is the shell's."""
    return ["/bin/sh", "-c", run] if isinstance(run, str) else list(run)
