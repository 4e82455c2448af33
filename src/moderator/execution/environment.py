"""What a command finds in its environment in a workspace: the same for a task's own and for one that a person runs there."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

from moderator.config.settings import Config
from moderator.errors import ConfigurationError
from moderator.expanding.filling import OUR_VARIABLES, variable_of
from moderator.git.manager import GitManager
from moderator.git.values import Workspace
from moderator.machine import ports_folder, slots_folder
from moderator.models import ENV_PLACEHOLDERS
from moderator.plan import ports_named
from moderator.ports import Block, PortRange, reserve
from moderator.slots import Slots
from moderator.templates import faults_of, fill, names_in

_PORTS = ("MODERATOR_PORT", "MODERATOR_PORT_COUNT")
_FLEETING = {"slot", "port", *(name for name in ENV_PLACEHOLDERS if name.startswith("port_"))}


def fleeting_in(templates: Mapping[str, str]) -> set[str]:
    """Return the variables that name a task's slot or ports: another one's, once this one has given them up."""
    return {name for name, template in templates.items() if names_in(template) & _FLEETING}


def reserver(config: Config, environment: Mapping[str, str]) -> Callable[[int], Block] | None:
    """Return what reserves ports for whoever has a slot, None if the configuration gives none.

    Raises ConfigurationError if its `env` names more than it gives.
    """
    if (needed := ports_named(config.env)) > config.ports_count:
        raise ConfigurationError(
            f"env: its values name {needed} ports of a task's own, and tasks are given {config.ports_count}",
            hint=f"set ports: {{count: {needed}}} or more",
        )
    if not config.ports_count:
        return None
    return partial(reserve, ports_folder(environment), PortRange(*config.ports_range, config.ports_count))


def slots_of(git: GitManager, environment: Mapping[str, str]) -> Slots:
    """Return what numbers the tasks of all runs of this user on the machine, or at least of this repository."""
    return Slots(slots_folder(environment), Path(git.state_root, "slots"))


def placeholders_in(
    workspace: Workspace, *, task_id: str, slot: int, scratch: str, block: Block | None
) -> dict[str, str]:
    """Return what the placeholders of variables stand for in a workspace."""
    values = {
        "workspace": workspace.path,
        "branch": workspace.branch or "",
        "base": workspace.base,
        "state_dir": os.path.abspath(workspace.state_dir),
        "tmp": scratch,
        "task_id": task_id,
        "slot": str(slot),
    }
    if block:
        values["port"] = str(block.first)
        values |= {f"port_{number}": str(block.first + number) for number in range(1, min(block.count, 10))}
    return values


def filled(texts: Mapping[str, str], values: Mapping[str, str], ports: int) -> dict[str, str]:
    """Return variables with their placeholders filled in.  Raises ConfigurationError for one that nothing stands for.

    `ports` is how many there are.
    """
    for name, text in texts.items():
        for fault in faults_of(text, values):
            hint = "for a brace itself write '{{'"
            if names_in(text) - values.keys() <= {*ENV_PLACEHOLDERS}:
                hint = f"tasks are given {ports} ports; set ports: {{count: ...}} to more"
            raise ConfigurationError(f"env.{name}: {fault}", hint=hint)
    return {name: fill(text, values) for name, text in texts.items()}


def environment_in(
    workspace: Workspace,
    inherited: Mapping[str, str],
    given: Mapping[str, str],
    *,
    task_id: str,
    run_id: str,
    attempt: int,
    slot: int,
    ports: tuple[int, int] | None = None,
    values: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    """Return the whole environment of a command in a workspace: `given` wins over what is inherited.

    `ports` are the first of its own, and how many; `values` what the task is made for, where one stands for many.

    Tasks are guests: nothing of ours that ties git to a repository, no gc that would get in the others' way.  Raises
    ConfigurationError for a variable that no environment can hold.
    """
    # A moderator that is a task itself is made for values, and has ports, that are not this task's.
    foreign = ("GIT_", *OUR_VARIABLES)
    environment = {**{name: value for name, value in inherited.items() if not name.startswith(foreign)}, **given}
    told = environment.get("GIT_CONFIG_COUNT", "")
    count = int(told) if told.isdecimal() else 0  # settings that the task's own `env` has stay
    environment |= {
        "GIT_CONFIG_COUNT": str(count + 2),
        f"GIT_CONFIG_KEY_{count}": "gc.auto",
        f"GIT_CONFIG_VALUE_{count}": "0",
        f"GIT_CONFIG_KEY_{count + 1}": "maintenance.auto",
        f"GIT_CONFIG_VALUE_{count + 1}": "false",
        "MODERATOR_TASK_ID": task_id,
        "MODERATOR_WORKSPACE": workspace.path,
        "MODERATOR_BRANCH": workspace.branch or "",
        "MODERATOR_BASE": workspace.base,
        "MODERATOR_STATE_DIR": os.path.abspath(workspace.state_dir),
        "MODERATOR_RUN": run_id,
        "MODERATOR_ATTEMPT": str(attempt),
        "MODERATOR_SLOT": str(slot),
        **{variable_of(name): value for name, value in values.items()},
    }
    for variable, number in zip(_PORTS, ports or (None, None), strict=True):
        environment.pop(variable, None)
        environment |= {variable: str(number)} if number is not None else {}
    for name, value in environment.items():
        if "\0" in name or "\0" in value or "=" in name:
            raise ConfigurationError(f"the environment variable {name!r} cannot be passed on", hint="take it out")
    return environment
