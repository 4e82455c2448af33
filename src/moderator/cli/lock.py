"""`moderator lock` and `moderator unlock`: a person's word that a workspace stays, and that it may go again."""

from __future__ import annotations

import time

import click

from moderator.cli.options import json_option, repo_option
from moderator.cli.output import page, print_json
from moderator.reports.text import one_line


@click.command("lock")
@click.argument("task")
@click.option("--reason", metavar="TEXT", help="Why it has to stay (default: who locked it, and when).")
@json_option
@repo_option
def lock_command(task: str, reason: str | None, as_json: bool, repo: str) -> None:
    """Keep TASK's workspace: nothing removes it until it is unlocked.  A task that works in it goes on."""
    from moderator.git.manager import GitManager

    git = GitManager(repo)
    workspace = git.find(task)
    task_id = workspace.task_id
    written = git.lock(workspace, reason if reason and reason.strip() else _who_and_when())
    if as_json:
        print_json({"task_id": task_id, "locked": True, "reason": written})
    else:
        page(f"locked {one_line(task_id)}: {one_line(written)}")


@click.command("unlock")
@click.argument("task")
@click.option(
    "--abandoned", is_flag=True, help="Free a workspace that another machine holds, because that machine is gone."
)
@json_option
@repo_option
def unlock_command(task: str, abandoned: bool, as_json: bool, repo: str) -> None:
    """Let TASK's workspace be removed again.

    With --abandoned, say instead that the machine is gone whose process holds the workspace.  Only on a disk that several
    machines share is there anything to say; a person's lock stays.
    """
    from moderator.git.manager import GitManager

    git = GitManager(repo)
    if abandoned:
        owner = git.abandon(task)
        if as_json:
            print_json({"task": task, "abandoned_by": str(owner) if owner else None})
        elif owner:
            page(f"freed {one_line(task)}: {one_line(str(owner))} held it")
        else:
            page(f"{one_line(task)} was not held by another machine")
        return
    workspace = git.find(task)
    task_id = workspace.task_id
    name = one_line(task_id)
    reason = git.unlock(workspace)
    if as_json:
        print_json({"task_id": task_id, "locked": False, "reason": reason})
    else:
        page(f"{name} was not locked" if reason is None else f"unlocked {name}: {one_line(reason)}")


def _who_and_when() -> str:
    import getpass

    try:
        who = getpass.getuser()
    except (OSError, KeyError, ImportError):  # no name in the environment, none in the system's list
        who = "somebody"
    return f"locked by {who} on {time.strftime('%Y-%m-%d at %H:%M')}"
