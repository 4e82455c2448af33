"""What the configuration gives to workspaces that commands make beside runs, and the word that they are not set up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from moderator.cli.options import require_agreement
from moderator.cli.output import log_to_stderr, say
from moderator.errors import ConfigurationError, EnvironmentProblem, NotTrusted
from moderator.furnishing import Furnishing, Wanted, nothing_wanted

if TYPE_CHECKING:
    from moderator.config import Config
    from moderator.git.manager import GitManager
    from moderator.git.values import Workspace


class Furnisher:
    """Says what a workspace gets beside its files when one is made, and notes of each that is made that it is not set up.

    `has_made`: whether one was.
    """

    def __init__(self, git: GitManager, config: Config) -> None:
        self._git = git
        self._config = config
        self.has_made = False
        git.note_new(self._note_new)

    def __call__(self) -> Furnishing:
        """Raises NotTrusted if it is a repository's own word that nobody has agreed to."""
        for setting in ("carry", "submodules"):
            require_agreement(self._git, self._config, setting)
        return self._config.furnishing

    def brought_back(self, bring: Callable[[Wanted], Workspace]) -> Workspace:
        """Return the workspace that `bring` brings back; what cannot be had beside that is told, and keeps nothing from anybody."""
        log_to_stderr()  # what is left out of it
        ways: list[tuple[Wanted, str]] = [
            (self, ""),
            (lambda: self().nothing_carried, "what is carried into workspaces"),
            (nothing_wanted, "what the configuration gives to workspaces"),
        ]
        why = ""
        for wanted, without in ways:
            try:
                workspace = bring(wanted)
            except (NotTrusted, ConfigurationError, EnvironmentProblem) as error:
                if wanted is nothing_wanted:
                    raise
                why = error.message
                continue
            if without:
                say("note", f"without {without}: {why}")
            self.say_what_is_missing(workspace)
            return workspace
        raise AssertionError("the last way returns or raises")

    def is_ready(self, workspace: Workspace) -> bool:
        """Whether a workspace is set up, as far as anything is known of that."""
        from moderator.preparing.standing import Standings

        standing = Standings(self._git.state_root).of_workspace(workspace)
        return standing is None or standing.is_ready

    def say_what_is_missing(self, workspace: Workspace) -> None:
        """Say of a workspace that is not set up, where the configuration has a set-up, how that is done."""
        if self._config.setup and workspace.level.isolates_directory and not self.is_ready(workspace):
            from moderator.cli.setting_up import how_to_set_up  # a quick command has nothing to say

            say("note", f"it is not set up; to do that: {how_to_set_up(workspace.task_id)}")

    def _note_new(self, workspace: Workspace) -> None:
        """Write down of a workspace that is about to be made that it is not set up, if the configuration has a set-up."""
        from moderator.preparing.standing import NOT_SET_UP, Standing, Standings

        self.has_made = True
        if not (self._config.setup and workspace.level.isolates_directory):
            return
        standings = Standings(self._git.state_root)
        new = Standing(workspace.task_id, workspace.created_at, NOT_SET_UP)
        before = standings.of_workspace(workspace)
        if before and before.is_to_be_torn_down:  # which is not forgotten
            new = replace(before, stage=NOT_SET_UP, problem="")
        standings.write(new)
