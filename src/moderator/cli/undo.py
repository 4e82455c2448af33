"""`moderator undo`: bring back the workspace that was removed last."""

from __future__ import annotations

import click

from moderator.cli.furnished import Furnisher
from moderator.cli.options import json_option, opened, repo_option
from moderator.cli.output import page, print_json
from moderator.errors import to_type
from moderator.reports.text import one_line


@click.command("undo")
@click.argument("removed", metavar="[TASK]", required=False)
@json_option
@repo_option
def undo_command(removed: str | None, as_json: bool, repo: str) -> None:
    """Bring back the workspace that was removed last, or TASK's that was: its files, what was staged, its branch."""
    git, config = opened(repo)
    with Furnisher(git, config).brought_back(lambda wanted: git.undo_removal(removed, wanted)) as workspace:
        stand = git.stand_of_checkout(workspace.path) if workspace.level.isolates_directory else None
    if as_json:
        print_json({"task_id": workspace.task_id, "path": workspace.path, "branch": workspace.branch})
        return
    page(f"{one_line(workspace.task_id)} is back in {one_line(workspace.path)}")
    if stand and workspace.branch and stand.ref != f"refs/heads/{workspace.branch}":
        where = stand.ref.removeprefix("refs/heads/") or f"no branch, at {stand.commit[:12]}"
        back = to_type("git", "-C", workspace.path, "switch", workspace.branch)
        page(f"  its HEAD is on {one_line(where)}; to go to the task's branch: {back}")
