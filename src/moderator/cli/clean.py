"""`moderator clean`: remove what holds nothing unsaved, keep and name the rest."""

from __future__ import annotations

import click

from moderator.cli.options import json_option, repo_option
from moderator.cli.output import page, print_json, say_error
from moderator.reports.text import one_line


@click.command("clean")
@click.argument("tasks", nargs=-1, metavar="[TASK]...")
@click.option("--all", "everything", is_flag=True, help="Every workspace of this repository.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@json_option
@repo_option
def clean_command(tasks: tuple[str, ...], everything: bool, dry_run: bool, as_json: bool, repo: str) -> int:
    """Remove the workspaces of these TASKs.  A workspace whose content is not all in commits is kept; branches stay."""
    from moderator.errors import ModeratorError, UsageError
    from moderator.git.manager import GitManager

    if bool(tasks) == everything:
        raise UsageError(
            "say which workspaces to remove: some by name, or all of them",
            hint="moderator clean TASK..., or moderator clean --all",
        )
    git = GitManager(repo)
    # All names are looked up first, so that a misspelt one changes nothing.
    workspaces = git.workspaces() if everything else list({one.task_id: one for one in map(git.find, tasks)}.values())
    done, codes = [], set()
    for workspace in workspaces:
        entry: dict[str, object] = {"task_id": workspace.task_id, "path": workspace.path, "branch": workspace.branch}
        try:
            if dry_run:
                git.check_removal(workspace)
            else:
                git.remove_workspace(workspace)
            entry |= {"removed": not dry_run, "would_remove": True, "reasons": []}
            if not as_json:
                verb = "would remove" if dry_run else "removed"
                stays = f"; its branch {workspace.branch} stays" if workspace.branch else ""
                page(f"{verb} {one_line(workspace.task_id)}{stays}")
        except ModeratorError as error:
            reasons = list(getattr(error, "findings", ())) or [error.message]
            entry |= {"removed": False, "would_remove": False, "reasons": reasons}
            codes.add(error.exit_code)
            if not as_json:
                say_error(error)
        done.append(entry)
    for problem in git.unreadable() if everything else ():
        codes.add(problem.exit_code)
        say_error(problem)
    if as_json:
        print_json({"dry_run": dry_run, "workspaces": done})
    elif not workspaces:
        page("there are no workspaces")
    # What a person must see to comes before what time may solve.
    return next((code for code in (5, 4, 3, 2, 75) if code in codes), 0)
