"""What a command finds in its environment in a workspace: the same for a task's own and for one that a person runs there."""

from __future__ import annotations

import os
from collections.abc import Mapping

from moderator.errors import ConfigurationError
from moderator.git.values import Workspace

_PORTS = ("MODERATOR_PORT", "MODERATOR_PORT_COUNT")


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
) -> dict[str, str]:
    """Return the whole environment of a command in a workspace: `given` wins over what is inherited.

    `ports` are the first of its own, and how many.

    Tasks are guests: nothing of ours that ties git to a repository, no gc that would get in the others' way.  Raises
    ConfigurationError for a variable that no environment can hold.
    """
    environment = {**{name: value for name, value in inherited.items() if not name.startswith("GIT_")}, **given}
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
    }
    for variable, number in zip(_PORTS, ports or (None, None), strict=True):
        environment.pop(variable, None)  # a moderator that is a task itself has ports that are not this task's
        environment |= {variable: str(number)} if number is not None else {}
    for name, value in environment.items():
        if "\0" in name or "\0" in value or "=" in name:
            raise ConfigurationError(f"the environment variable {name!r} cannot be passed on", hint="take it out")
    return environment
