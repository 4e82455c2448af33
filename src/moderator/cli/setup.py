"""`moderator setup`: the set-up of a workspace that no run has set up, or whose set-up failed."""

from __future__ import annotations

import os

import click

from moderator.cli.options import json_option, opened, repo_option, require_agreement
from moderator.cli.output import page, print_json, say
from moderator.errors import ConfigurationError, UsageError
from moderator.reports.text import one_line


@click.command("setup")
@click.argument("task")
@click.option("--again", is_flag=True, help="Also where it was done already.")
@json_option
@repo_option
def setup_command(task: str, again: bool, as_json: bool, repo: str) -> int:
    """Run the configuration's set-up in TASK's workspace, in the same way as a run does, and write down that it is ready.

    For one that is `not set up`: after create --no-setup, adopt, undo or rescue restore; or whose set-up failed or was cut
    short.  What it prints is shown on standard error, and kept.  The exit code is 1 if it fails.
    """
    from moderator.cli.setting_up import refuse_set_up_of_a_run, set_up_and_show
    from moderator.execution.setting_up import SettingUp
    from moderator.preparing.standing import Standings, stage_of

    git, config = opened(repo)
    workspace = git.find(task)
    if not workspace.level.isolates_directory:
        raise UsageError(
            f"task {workspace.task_id!r} works in your own checkout, which is yours to set up",
            hint=f"it is in {workspace.path}",
        )
    if not config.setup:
        raise ConfigurationError(
            "the configuration has no set-up",
            hint="write setup: COMMAND into moderator.yaml; moderator config shows what holds here",
        )
    for setting in ("setup", "teardown", "env", "render"):
        require_agreement(git, config, setting)
    standings = Standings(git.state_root)

    def is_done() -> bool:
        standing = standings.of_workspace(workspace)
        return bool(standing and standing.is_ready and not again)

    shown = None
    if not is_done():
        with git.hold(workspace):  # whoever held it until now may have done it
            if not is_done():
                refuse_set_up_of_a_run(git, workspace)
                shown = set_up_and_show(git, SettingUp(git, os.environ, config), workspace)
    if shown is None:
        say("note", f"{one_line(workspace.task_id)} is set up already; --again repeats it")
    if as_json:
        state = stage_of(git.status(workspace, changes=False), standings.of_workspace(workspace), None)
        print_json(
            {
                "task_id": workspace.task_id,
                "path": workspace.path,
                "state": state,
                "done": shown is not None,
                "problem": shown and (shown.problem or None),
                "setup_log": shown and str(shown.log),
            }
        )
    elif shown and not shown.code:
        page(f"{one_line(workspace.task_id)} is set up")
    return shown.code if shown else 0
