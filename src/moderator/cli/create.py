"""`moderator create`: a workspace without a run, for people and for whoever brings tasks of their own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from moderator.cli.furnished import Furnisher
from moderator.cli.options import as_document, configuration, json_option, repo_option, require_agreement
from moderator.cli.output import print_bytes, print_json, say, say_error
from moderator.context import ExecutionContext, IsolationLevel
from moderator.errors import UsageError, WorkspaceOccupied, to_type

if TYPE_CHECKING:
    from moderator.cli.setting_up import Shown
    from moderator.config import Config
    from moderator.execution.setting_up import SettingUp
    from moderator.git.manager import GitManager
    from moderator.git.values import Workspace


@click.command("create")
@click.argument("task_id", metavar="ID")
@click.option("--base", metavar="REV", help="Branch, tag or commit to fork from (default: what is checked out).")
@click.option(
    "--level",
    type=click.Choice(["directory", "branch", "full"], case_sensitive=False),
    help="How much of its surroundings is its own (default: what the configuration says, mostly full).",
)
@click.option("--no-setup", is_flag=True, help="Leave it as it is made: moderator setup ID sets it up later.")
@json_option
@repo_option
def create_command(task_id: str, base: str | None, level: str | None, no_setup: bool, as_json: bool, repo: str) -> int:
    """Make the workspace of a task called ID, with the names a run would give it, and print its directory.

    It is set up as a run would do it; what that prints is shown on standard error.  If it fails the exit code is 1, and the
    workspace stays.  Nobody holds it afterwards.  Asked again for the same, it is the same workspace; what was worked in it
    stays, and a set-up that has not come through is done.
    """
    from moderator.git.manager import GitManager
    from moderator.orchestrator import Orchestrator
    from moderator.preparing.standing import Standings, stage_of

    git = GitManager(repo)
    config = configuration(git)
    require_agreement(git, config)  # what is carried into a workspace is the configuration's to say
    orchestrator = Orchestrator(config, repo)
    git = orchestrator.git
    wanted = IsolationLevel.of(level or orchestrator.config.parallel.isolation_level)
    if wanted is IsolationLevel.NONE:
        raise UsageError(
            "at level none, which the configuration asks for, a task has no workspace of its own",
            hint="add --level full",
        )
    fork = git.resolve_base(base or "")
    context = ExecutionContext.named(orchestrator.base_context(fork.name, wanted), task_id)
    furnisher, shown = Furnisher(git, config), None
    setting_up = _setting_up(git, config, wanted) if not no_setup else None
    try:
        with git.create_workspace(context, None if base is None else fork.commit) as workspace:
            os.makedirs(workspace.state_dir, exist_ok=True)
            if setting_up is None:
                furnisher.say_what_is_missing(workspace)
            elif furnisher.has_made or not furnisher.is_ready(workspace):
                shown = _set_up(setting_up, git, workspace)
            if config.render and workspace.level.isolates_directory and furnisher.has_made and shown is None:
                command = to_type("moderator", "exec", workspace.task_id, "--", "COMMAND")
                say("note", f"files are rendered there by runs, and for each command by: {command}")
    except WorkspaceOccupied as error:
        by_itself = wanted is IsolationLevel.FULL and task_id not in git.owners([task_id])
        if by_itself and git.existing_branches([context.git_branch]):
            error.hint = f"take it up again: {to_type('moderator', 'adopt', context.git_branch)}\n{error.hint}"
        raise
    code = shown.code if shown else 0
    if not as_json:
        print_bytes(os.fsencode(workspace.path) + b"\n")
        return code
    standing = Standings(git.state_root).of_workspace(workspace)
    print_json(
        {
            **as_document(workspace),
            "isolation_level": workspace.level.value,
            "created": furnisher.has_made,
            "state": stage_of(git.status(workspace, changes=False), standing, None),
            "problem": shown and (shown.problem or None),
            "setup_log": shown and str(shown.log),
        }
    )
    return code


def _setting_up(git: GitManager, config: Config, level: IsolationLevel) -> SettingUp | None:
    """Return what sets a new workspace up, None if there is nothing to do; what keeps it from that is raised before one is made."""
    if not (level.isolates_directory and (config.setup or config.teardown)):
        return None
    from moderator.execution.setting_up import SettingUp  # only where there is something to do

    return SettingUp(git, os.environ, config)


def _set_up(setting_up: SettingUp, git: GitManager, workspace: Workspace) -> Shown | None:
    """Set a workspace up; None after saying so if that is for a run to do, which made it."""
    from moderator.cli.setting_up import refuse_set_up_of_a_run, set_up_and_show

    try:
        refuse_set_up_of_a_run(git, workspace)
    except UsageError as refusal:
        say_error(refusal, "note")
        return None
    return set_up_and_show(git, setting_up, workspace)
