"""`moderator adopt`: a worktree or a branch that a person made becomes a workspace."""

from __future__ import annotations

import os

import click

from moderator.cli.furnished import Furnisher
from moderator.cli.options import as_document, configuration, json_option, repo_option
from moderator.cli.output import print_bytes, print_json, say
from moderator.context import IsolationLevel
from moderator.reports.text import one_line


@click.command("adopt")
@click.argument("place", metavar="PATH|BRANCH")
@click.option("--id", "task_id", metavar="ID", help="The id of its task (default: what its branch is called).")
@click.option("--base", metavar="REV", help="What the branch forked from (default: what the main checkout is on).")
@json_option
@repo_option
def adopt_command(place: str, task_id: str | None, base: str | None, as_json: bool, repo: str) -> None:
    """Take a linked worktree, or a branch without one, under management, and print where it is.

    Nothing in the worktree is moved or changed.  From then on it is listed, and exec, clean, undo and rescue know it; the branch
    is never deleted but by clean --branches once it is merged.
    """
    from moderator.git.manager import GitManager
    from moderator.orchestrator import Orchestrator

    config = configuration(GitManager(repo))
    orchestrator = Orchestrator(config, repo)
    context, furnisher = orchestrator.base_context("", IsolationLevel.FULL), Furnisher(orchestrator.git, config)
    with orchestrator.git.adopt(place, context, task_id, base, furnisher) as workspace:
        os.makedirs(workspace.state_dir, exist_ok=True)
        furnisher.say_what_is_missing(workspace)
    if as_json:
        print_json(as_document(workspace))
        return
    say("adopted", f"as task {one_line(workspace.task_id)}, on the branch {workspace.branch}")
    print_bytes(os.fsencode(workspace.path) + b"\n")
