"""`moderator create`: a workspace without a run, for people and for whoever brings tasks of their own."""

from __future__ import annotations

import os

import click

from moderator.cli.furnished import Furnisher
from moderator.cli.options import as_document, configuration, json_option, repo_option, require_agreement
from moderator.cli.output import print_bytes, print_json, say
from moderator.context import ExecutionContext, IsolationLevel
from moderator.errors import UsageError, WorkspaceOccupied, to_type


@click.command("create")
@click.argument("task_id", metavar="ID")
@click.option("--base", metavar="REV", help="Branch, tag or commit to fork from (default: what is checked out).")
@click.option(
    "--level",
    type=click.Choice(["directory", "branch", "full"], case_sensitive=False),
    help="How much of its surroundings is its own (default: what the configuration says, mostly full).",
)
@json_option
@repo_option
def create_command(task_id: str, base: str | None, level: str | None, as_json: bool, repo: str) -> None:
    """Make the workspace of a task called ID, with the names a run would give it, and print its directory.

    Nobody holds it afterwards.  Asked again for the same, it is the same workspace; what was worked in it stays.
    """
    from moderator.git.manager import GitManager
    from moderator.orchestrator import Orchestrator

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
    existed, furnisher = task_id in git.owners([task_id]), Furnisher(git, config)
    try:
        with git.create_workspace(context, None if base is None else fork.commit) as workspace:
            os.makedirs(workspace.state_dir, exist_ok=True)
            furnisher.has_made = not existed
            furnisher.note_set_up(workspace)
            if config.render and workspace.level.isolates_directory and not existed:
                command = to_type("moderator", "exec", workspace.task_id, "--", "COMMAND")
                say("note", f"files are rendered there by runs, and for each command by: {command}")
    except WorkspaceOccupied as error:
        if not existed and wanted is IsolationLevel.FULL and git.existing_branches([context.git_branch]):
            error.hint = f"take it up again: {to_type('moderator', 'adopt', context.git_branch)}\n{error.hint}"
        raise
    if not as_json:
        print_bytes(os.fsencode(workspace.path) + b"\n")
        return
    print_json(
        {
            **as_document(workspace),
            "isolation_level": workspace.level.value,
            "created": not existed,
        }
    )
