"""A program from the configuration that takes a prompt: an AI agent's command line, a script of the user's own."""

from __future__ import annotations

import os
from collections.abc import Mapping

from moderator.backends.calls import Call, Place
from moderator.backends.probing import Availability, Probes
from moderator.backends.prompts import prompt_for, values_for
from moderator.config.settings import BackendConfig
from moderator.errors import ConfigurationError
from moderator.models import Task
from moderator.templates import fill

LONGEST_ARGUMENT = 131_071
"""Bytes of one argument: MAX_ARG_STRLEN of Linux less its NUL, execve(2)."""


class Agent:
    """A backend that is a program with a prompt.  `template` is what it is told, unless the configuration has its own."""

    def __init__(self, config: BackendConfig, template: str, probes: Probes | None = None) -> None:
        self.config = config
        self.name = config.name
        self.limit = config.limit
        self._template = template if config.template is None else config.template
        self._probes = probes or Probes()

    def command(self, task: Task, workspace: Place) -> Call:
        """Return the call.  Raises ConfigurationError for a task that is a command, or a prompt that cannot be passed on."""
        if task.run and not task.prompt:
            raise ConfigurationError(
                f"task {task.id!r} is a command, and {self.name} takes a prompt",
                hint="give it prompt: instead of run:, or backend: shell",
            )
        config = self.config
        prompt = prompt_for(task, workspace, self._template)
        try:
            told = prompt.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            character = prompt[error.start]
            raise ConfigurationError(
                f"the prompt of task {task.id!r} holds {character!r}, which is no character", hint="take it out"
            ) from None
        if b"\0" in told:
            raise ConfigurationError(f"the prompt of task {task.id!r} holds a NUL character", hint="take it out")
        values = values_for(task, workspace)
        files = {}
        if config.prompt == "file":
            values["prompt_file"] = os.path.join(workspace.folder or workspace.state_dir or ".", "prompt.md")
            files[values["prompt_file"]] = prompt
        elif config.prompt == "argument":
            values["prompt"] = prompt
        argv = [fill(word, values) for word in config.words]
        longest = max(len(word.encode("utf-8", "surrogatepass")) for word in argv)
        if longest > LONGEST_ARGUMENT:
            raise ConfigurationError(
                f"the prompt of task {task.id!r} is too long for an argument: {longest} bytes, {LONGEST_ARGUMENT} at most",
                hint=f"let it go in by prompt: stdin or file, if {self.name} can take it so",
            )
        return Call(
            argv,
            stdin=told if config.prompt == "stdin" else b"",
            env={name: fill(text, values) for name, text in config.env.items()},
            files=files,
            parser=config.parser,
            failed=config.failed,
            retry=config.retry,
            give_up=config.give_up,
            timeout=config.timeout,
            idle_timeout=config.idle_timeout,
            litter=config.litter,
        )

    def availability(self, environment: Mapping[str, str]) -> Availability:
        """Return whether the program is there and logged in, as far as can be told without asking it for work."""
        return self._probes.look(self.config, environment)
