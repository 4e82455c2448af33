"""A set-up by hand: in a workspace that no run is at work in, as a run would do it.

Must not know who asks, nor what is shown of it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from moderator.config.settings import Config
from moderator.errors import ModeratorError
from moderator.execution.environment import fleeting_in
from moderator.execution.readiness import Readied, make_ready, notes_of_changes
from moderator.execution.visiting import Visitor
from moderator.git.manager import GitManager
from moderator.git.values import Workspace
from moderator.naming import generate_task_state_dir
from moderator.preparing.commands import kept_in
from moderator.preparing.standing import Standing, Standings
from moderator.process import Cancellation, Limits, Supervisor
from moderator.process.sandbox import find_sandbox


class SettingUp(Visitor):
    """Sets workspaces up with the commands of a configuration, held meanwhile.

    Raises what a Visitor does, and EnvironmentProblem if the configuration's sandbox is not to be had: before anything is made.
    """

    def __init__(self, git: GitManager, environment: Mapping[str, str], config: Config) -> None:
        super().__init__(git, environment, config=config)
        self._config = config
        self._sandbox = find_sandbox(config.sandbox)
        self._teardown = tuple(one if isinstance(one, str) else tuple(one) for one in config.teardown)

    def log_of(self, workspace: Workspace) -> Path:
        """Return the file into which goes what the set-up of a workspace prints."""
        state = generate_task_state_dir(os.path.join(self._git.state_root, "state"), workspace.task_id)
        return Path(state, self._run_id, "0", "setup.log")

    def set_up(self, workspace: Workspace, cancellation: Cancellation) -> Readied:
        """Set a workspace up and write down how ready it is then; what is to be told besides is in `notes`.

        A set-up that fails is told in what is returned.  If this process is killed, so are its commands, and only then the
        workspace is free.  Raises WorkspaceBusy and what else `GitManager.hold` does, and what making its environment can raise.
        """
        config = self._config
        with (
            Supervisor(self._run_id) as supervisor,
            self._held(workspace, supervisor) as held,
            self._environment_in(held, supervisor) as (env, done),
        ):
            before, tip = self._uncommitted(held), self._git.tip(held)
            readied = make_ready(
                self._git,
                held,
                config.setup,
                config.teardown,
                env=env,
                inherited=self._environment,
                log_file=self.log_of(held),
                limits=Limits(config.setup_timeout, None, config.grace),
                cancellation=cancellation,
                sandbox=self._sandbox,
                fleeting=fleeting_in(config.env),
                asked=config.asked_with(config.teardown),
                around=lambda command: kept_in(self._git, held, command, self._sandbox, env["TMPDIR"]),
                kept=self._with_another_teardown(held),
            )
            done(not readied.gone.problem)
            self.notes += [f"set-up: {note}" for note in readied.gone.notes]
            changed = {path: what for path, what in readied.left.items() if before.get(path) != what}
            self.notes += notes_of_changes(self._git, held, changed, tip)
        return readied

    def _uncommitted(self, workspace: Workspace) -> Mapping[str, str]:
        """Return what somebody has changed before: here the workspace need not be new."""
        with contextlib.suppress(ModeratorError, OSError):  # where it cannot be told, all counts as the set-up's
            return self._git.uncommitted(workspace)
        return {}

    def _with_another_teardown(self, workspace: Workspace) -> Standing | None:
        """Return how a workspace stands whose run has left it a teardown of the task's own, None if it has none."""
        standing = Standings(self._git.state_root).of_workspace(workspace)
        return standing if standing and standing.is_to_be_torn_down and standing.teardown != self._teardown else None
