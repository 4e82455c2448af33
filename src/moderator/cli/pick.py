"""`moderator pick`: keep one of several variants of a task and retire the others, with nothing lost."""

from __future__ import annotations

import os
from typing import Any

import click

from moderator.cli.options import json_option, opened, repo_option, teardowns
from moderator.cli.output import page, print_json, say
from moderator.cli.variants import Group, group_of
from moderator.context import ExecutionContext, IsolationLevel
from moderator.errors import ModeratorError, UsageError, WorkspaceBusy, to_type
from moderator.git.manager import GitManager
from moderator.git.values import Workspace
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
    owned = git.owners(group.ids)
    workspaces = {task_id: found for task_id, found in owned.items() if found.task_id == task_id}
    there = git.existing_branches(one.branch for one in group.attempts.values() if one.branch)
    branched = {task_id for task_id, one in group.attempts.items() if one.branch in there}
    if not (variant in workspaces or variant in branched or git.results([variant])):
        left = [task_id for task_id in group.ids if task_id in workspaces or task_id in branched]
        began = "has neither a workspace nor a branch" if variant in group.attempts else "never began"
        raise UsageError(
            f"{variant!r} {began}", hint=f"pick one of {', '.join(left)}" if left else "none of them is left"
        )
    attempt = group.attempts.get(variant)
    others = [task_id for task_id in group.ids if task_id != variant]
    going: list[Workspace | ExecutionContext] = [workspaces[task_id] for task_id in others if task_id in workspaces]
    if branches:  # also those whose workspaces have gone before
        going += [_names_of(git, group, task_id) for task_id in others if task_id in branched - workspaces.keys()]
    if (holder := git.holder(workspaces[variant]) if variant in workspaces else None) is not None:
        raise WorkspaceBusy(f"{variant!r} is still held by {holder}", hint="wait until it has finished")
    for one in going:  # all of them first, so that a refusal changes nothing
        if isinstance(one, ExecutionContext):
            git.check_set_aside([one])
        else:
            git.check_removal(one, rescue=True)
    if attempt and attempt.outcome not in ("succeeded", "unchanged"):
        say("note", f"{one_line(variant)} itself ended: {attempt.outcome or 'not yet'}")
    entries: list[dict[str, Any]] = []
    for one in going:
        branch = one.git_branch if isinstance(one, ExecutionContext) else one.branch
        entry: dict[str, Any] = {"task_id": one.task_id, "branch": branch, "removed": not dry_run, "rescue": None}
        if not dry_run:
            entry["rescue"] = _retire(git, one, f"pick {variant}", branches)
        entries.append(entry)
        if not as_json:
            verb = "would remove" if dry_run else "removed"
            rest = "" if not branch else f" and its branch {branch}" if branches else ""
            stays = f"; its branch {branch} stays" if branch and not branches else ""
            what = f"the branch {branch} of {one_line(one.task_id)}"
            page(f"{verb} {what if isinstance(one, ExecutionContext) else one_line(one.task_id) + rest + stays}")
            if entry["rescue"]:
                page(f"  rescued: {to_type('moderator', 'rescue', 'show', entry['rescue'])}")
    if not dry_run:
        git.tidy_trash(0.5)
    branch = attempt.branch if attempt else None
    if as_json:
        print_json({"picked": variant, "branch": branch, "dry_run": dry_run, "retired": entries})
        return
    page(f"{'would keep' if dry_run else 'kept'} {one_line(variant)}" + (f" on its branch {branch}" if branch else ""))


def _names_of(git: GitManager, group: Group, task_id: str) -> ExecutionContext:
    """Return the names of a variant of which only the branch is left."""
    attempt = group.attempts[task_id]
    return ExecutionContext(
        project_id=os.path.basename(git.main_worktree or git.state_root),
        working_directory=attempt.path or git.default_root,
        git_branch=str(attempt.branch),
        state_dir=os.path.join(git.state_root, "state"),
        isolation_level=IsolationLevel.FULL,
        task_id=task_id,
        base_branch=group.bases[task_id],
    )


def _retire(git: GitManager, target: Workspace | ExecutionContext, reason: str, branches: bool) -> str | None:
    """Remove one variant; return the id of the rescue that holds what is in no commit, or with `branches` on no branch."""
    before = teardowns(git).of(target.task_id)
    try:
        if branches:
            rescue = git.set_aside(target, reason, before=before)
            return rescue.id if rescue else None
        removal = git.remove_workspace(target, rescue=True, reason=reason, later=True, before=before)
    except ModeratorError as error:
        error.hint = "\n".join(
            filter(None, [error.hint, "the variants before it have gone; moderator undo brings one back"])
        )
        raise
    finally:
        for note in before.notes if before else ():
            say("warning", one_line(f"{target.task_id}: {note}"), "yellow")
    return removal.rescue if removal else None
