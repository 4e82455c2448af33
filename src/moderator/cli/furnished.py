"""What the configuration gives to workspaces that commands make beside runs: what is carried, and the word that none is set up."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from moderator.cli.options import require_agreement
from moderator.cli.output import say
from moderator.errors import ConfigurationError, EnvironmentProblem, NotTrusted
from moderator.furnishing import Furnishing, Wanted, nothing_wanted

if TYPE_CHECKING:
    from moderator.config import Config
    from moderator.git.manager import GitManager
    from moderator.git.values import Workspace


class Furnisher:
    """Says what a workspace gets beside its files when one is made, and remembers whether one was."""

    def __init__(self, git: GitManager, config: Config) -> None:
        self._git = git
        self._config = config
        self.has_made = False

    def __call__(self) -> Furnishing:
        """Raises NotTrusted if it is a repository's own word that nobody has agreed to."""
        self.has_made = True
        for setting in ("carry", "submodules"):
            require_agreement(self._git, self._config, setting)
        return self._config.furnishing

    def brought_back(self, bring: Callable[[Wanted], Workspace]) -> Workspace:
        """Return the workspace that `bring` brings back; what cannot be carried into it is told, and keeps nothing from anybody."""
        try:
            workspace = bring(self)
        except (NotTrusted, ConfigurationError, EnvironmentProblem) as error:
            workspace = bring(nothing_wanted)
            say("note", f"without what is carried into workspaces: {error.message}")
        self.note_set_up(workspace)
        return workspace

    def note_set_up(self, workspace: Workspace) -> None:
        """Write down, and say, that a workspace that was made is not set up, if the configuration has a set-up."""
        from moderator.preparing.standing import NOT_SET_UP, TORN_DOWN, Standing, Standings

        if not (self.has_made and self._config.setup and workspace.level.isolates_directory):
            return
        standings = Standings(self._git.state_root)
        before = standings.of_workspace(workspace)
        if before and before.teardown and before.stage != TORN_DOWN:
            return  # what is still to be torn down is not forgotten
        standings.write(Standing(workspace.task_id, workspace.created_at, NOT_SET_UP))
        say("note", "it is not set up: that is done by runs, for the workspaces that they make")
