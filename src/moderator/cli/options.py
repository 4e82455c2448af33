"""Options that several commands share, and what the environment says."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from moderator.config import Config
    from moderator.git.manager import GitManager
    from moderator.git.values import Workspace
    from moderator.preparing.commands import Teardowns
    from moderator.trust import Agreements

Command = TypeVar("Command", bound=Callable[..., Any])


def repo_option(command: Command) -> Command:
    return click.option(
        "--repo", metavar="DIR", default=".", help="Any directory in the repository (default: this one)."
    )(command)


def json_option(command: Command) -> Command:
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead.")(command)


def selection_options(command: Command) -> Command:
    """Say of which workspaces something is to be done, by what holds for them: see `cleaning.select`."""
    options = (
        click.option(
            "--merged", is_flag=True, help="Those whose work is merged into their base branch; no commits yet is not."
        ),
        click.option("--done", is_flag=True, help="Those whose last attempt succeeded."),
        click.option("--failed", is_flag=True, help="Those whose last attempt ended in any other way."),
        click.option("--older-than", metavar="TIME", help="Those not used for so long: 90m, 12h, 7d, 2w."),
        click.option("--all", "everything", is_flag=True, help="Every workspace of this repository."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def opened(repo: str) -> tuple[GitManager, Config]:
    """Open the repository with its configuration, which says how much is kept of what is removed."""
    from moderator.git.manager import GitManager
    from moderator.git.values import Keeping

    git = GitManager(repo)
    config = configuration(git)
    keeping = Keeping(config.trash_days, config.rescue_largest_file * 1e6)
    return (git if keeping == Keeping() else GitManager(repo, keeping=keeping)), config


def configuration(git: GitManager, named: str | None = None, explicit: bool = True) -> Config:
    """Load the configuration: the user's, the repository's (of the main worktree only), the one named; later wins.

    Without `explicit` none is named, whatever the environment says.
    """
    from moderator.config import load_config

    return load_config([path for path, _ in configuration_files(git, named, explicit)], guest=guest_file(git))


def guest_file(git: GitManager) -> Path | None:
    """Return where the repository's own configuration would be.  Never in a task's worktree: it must not rewrite its own rules."""
    return Path(git.main_worktree, "moderator.yaml") if git.main_worktree else None


def configuration_files(git: GitManager, named: str | None = None, explicit: bool = True) -> list[tuple[Path, str]]:
    """Return the files that count, each with what names it: an option, a variable, or nothing but its place."""
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    paths = [Path(home, "moderator", "config.yaml")]
    if own := guest_file(git):
        paths.append(own)
    present = [(path, "") for path in paths if os.path.lexists(path)]
    variable = os.environ.get("MODERATOR_CONFIG")
    if explicit and (named or variable):
        present.append((Path(named or variable or ""), "--config" if named else "MODERATOR_CONFIG"))
    return present


def require_agreement(git: GitManager, config: Config, of: str | None = None) -> None:
    """Raise NotTrusted if the repository's own configuration would have something executed that nobody has agreed to.

    `of` is the one setting that is to be used; what is agreed to is all of it, though.
    """
    wanted = config.asked_by_guest if of is None else config.asked_by_guest.get(of)
    if wanted and git.main_worktree:
        agreements().require(git.main_worktree, config.asked_by_guest)


def agreements() -> Agreements:
    """Return what was agreed to by whoever calls."""
    from moderator.machine import state_home
    from moderator.trust import Agreements

    return Agreements(state_home(os.environ) / "trust")


def teardowns(git: GitManager) -> Teardowns:
    """Return what runs before workspaces are removed."""
    from moderator.preparing.commands import Teardowns

    return Teardowns(git, os.environ)


def as_document(workspace: Workspace) -> dict[str, Any]:
    """Return a workspace that was made as JSON takes it."""
    return {
        "task_id": workspace.task_id,
        "path": workspace.path,
        "branch": workspace.branch,
        "base": workspace.base,
        "base_branch": workspace.base_branch,
        "state_dir": workspace.state_dir,
    }
