"""`moderator pick`: keep one of several variants of a task and retire the others, with nothing lost."""

from __future__ import annotations

from typing import Any

import click

from moderator.cli.options import json_option, opened, repo_option
from moderator.cli.output import page, print_json, say
from moderator.cli.variants import group_of
from moderator.errors import ModeratorError, UsageError, WorkspaceBusy, to_type
from moderator.git.manager import GitManager
from moderator.reports.text import one_line


@click.command("pick")
@click.argument("variant", metavar="TASK@N")
@click.option("--branches", is_flag=True, help="Free the branches of the others too; their commits are rescued.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@json_option
@repo_option
def pick_command(variant: str, branches: bool, dry_run: bool, as_json: bool, repo: str) -> None:
    """Keep TASK@N and remove the workspaces of the other variants; what is in no commit is rescued first.

    Their branches stay, unless --branches says otherwise.  Where one of them cannot go, none of them does.
    """
    git, _ = opened(repo)
    group = group_of(git, variant)
    if group is None or variant not in group.ids:
        known = (
            f"the variants of {variant!r} are {', '.join(group.ids)}" if group else "moderator list shows what there is"
        )
        raise UsageError(f"{variant!r} is not one of several variants of a task", hint=known)
    attempt = group.attempts.get(variant)
    others = [task_id for task_id in group.ids if task_id != variant]
    owned = git.owners(others)
    going = [owned[task_id] for task_id in others if task_id in owned and owned[task_id].task_id == task_id]
    if (holder := git.holder(variant) if variant in git.owners([variant]) else None) is not None:
        raise WorkspaceBusy(f"{variant!r} is still held by {holder}", hint="wait until it has finished")
    for workspace in going:  # all of them first, so that a refusal changes nothing
        git.check_removal(workspace, rescue=True)
    if attempt and attempt.outcome not in ("succeeded", "unchanged"):
        say("note", f"{one_line(variant)} itself ended: {attempt.outcome or 'not yet'}")
    entries: list[dict[str, Any]] = []
    for workspace in going:
        entry: dict[str, Any] = {
            "task_id": workspace.task_id,
            "branch": workspace.branch,
            "removed": not dry_run,
            "rescue": None,
        }
        if not dry_run:
            entry["rescue"] = _retire(git, workspace.task_id, f"pick {variant}", branches)
        entries.append(entry)
        if not as_json:
            verb = "would remove" if dry_run else "removed"
            rest = "" if not workspace.branch else f" and its branch {workspace.branch}" if branches else ""
            stays = f"; its branch {workspace.branch} stays" if workspace.branch and not branches else ""
            page(f"{verb} {one_line(workspace.task_id)}{rest}{stays}")
            if entry["rescue"]:
                page(f"  rescued: {to_type('moderator', 'rescue', 'show', entry['rescue'])}")
    if not dry_run:
        git.empty_trash(seconds=0.5)
    branch = attempt.branch if attempt else None
    if as_json:
        print_json({"picked": variant, "branch": branch, "dry_run": dry_run, "retired": entries})
        return
    page(f"{'would keep' if dry_run else 'kept'} {one_line(variant)}" + (f" on its branch {branch}" if branch else ""))


def _retire(git: GitManager, task_id: str, reason: str, branches: bool) -> str | None:
    """Remove one variant; return the id of the rescue that holds what is in no commit, or with `branches` on no branch."""
    try:
        if branches:
            rescue = git.set_aside(task_id, reason)
            return rescue.id if rescue else None
        removal = git.remove_workspace(task_id, rescue=True, reason=reason, later=True)
    except ModeratorError as error:
        error.hint = "\n".join(
            filter(None, [error.hint, "the variants before it have gone; moderator undo brings one back"])
        )
        raise
    return removal.rescue if removal else None
