"""`moderator rescue`: what was kept before something destructive, and how to get it back."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import click

from moderator.cli.furnished import Furnisher
from moderator.cli.options import json_option, opened, repo_option
from moderator.cli.output import page, paint, print_bytes, print_json, say
from moderator.errors import UsageError, WorkspaceBusy
from moderator.git.contents import printable
from moderator.git.manager import GitManager
from moderator.git.values import Removal, Rescue
from moderator.reports import text

_LONGEST = 3600.0  # seconds that a process nobody waits for may be at it
_SHOWN = 40  # paths of each kind that `show` lists


@click.group("rescue")
def rescue_command() -> None:
    """What was in no commit when a workspace was removed or begun anew.

    RESCUE is an id that `list` shows, the beginning of one, or a task's id: then its newest.
    """


@rescue_command.command("list")
@json_option
@repo_option
def list_rescues(as_json: bool, repo: str) -> None:
    """List everything that was rescued, and what the trash keeps of it, oldest first."""
    git, _ = opened(repo)
    in_trash = [removal for removal in git.removals() if git.trash_of(removal)]
    removals = {removal.rescue: removal for removal in in_trash if removal.rescue}
    alone = [removal for removal in in_trash if removal.left and not removal.rescue]
    rescues = git.rescues()
    if as_json:
        kept = [
            {
                "task_id": one.task_id,
                "left": list(one.left),
                "in_trash_until": one.kept_until,
                "path": git.trash_of(one),
            }
            for one in alone
        ]
        print_json({"rescues": [_described(rescue, removals.get(rescue.id)) for rescue in rescues], "in_trash": kept})
        return
    if rescues:
        _page_rescues(rescues, removals)
    elif not alone:
        say("none", "nothing has been rescued here")
    for removal in alone:
        left = text.shortened(", ".join(map(printable, removal.left)), 60)
        page(f"in the trash, of {text.one_line(removal.task_id)}: {left}; {_trash(git, removal)}")


def _page_rescues(rescues: Sequence[Rescue], removals: Mapping[str, Removal]) -> None:
    now = time.time()
    rows = [
        (
            rescue.id,
            text.shortened(rescue.task_id, 32),
            text.duration(now - rescue.created_at),
            text.shortened(rescue.reason, 24),
            (rescue if rescue.id in removals else replace(rescue, left=())).what,  # it is back, or its time was over
        )
        for rescue in rescues
    ]
    lines = text.table(("RESCUE", "TASK", "AGE", "BEFORE", "HOLDS"), rows, right=(2,))
    page(paint(lines[0], "bright_black"))
    for line in lines[1:]:
        page(line)


@rescue_command.command("show")
@click.argument("rescue")
@click.option("-p", "--patch", is_flag=True, help="Print what it changed, as a patch that git apply takes.")
@json_option
@repo_option
def show_rescue(rescue: str, patch: bool, as_json: bool, repo: str) -> None:
    """Show what RESCUE holds: paths by kind, what only the trash has, and how to get it back."""
    git, _ = opened(repo)
    found = git.find_rescue(rescue)
    removal = _removal_of(git, found)
    in_trash = removal is not None and git.trash_of(removal) is not None
    if as_json:
        print_json({"rescue": _described(found, removal if in_trash else None)})
        return
    if patch:
        print_bytes(git.rescue_patch(found))
        return
    page(paint(f"rescue {found.id}", "bright_white"))
    made = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found.created_at))
    page(f"  task         {text.one_line(found.task_id)}, before: {text.one_line(found.reason)}")
    page(f"  made         {made}")
    page(f"  HEAD         {found.head[:12]}" + (f", branch {text.one_line(found.branch)}" if found.branch else ""))
    page(f"  ref          {found.ref}")
    if found.operation:
        page(f"  operation    a {found.operation} in progress; it can be continued after a restore")
    if found.commits:
        page(f"  commits      {found.commits} that no branch holds")
    for kind, paths in (
        ("staged", found.staged),
        ("modified", found.modified),
        ("in conflict", found.unmerged),
        ("untracked", found.untracked),
        ("only in the trash" if in_trash else "in the trash no longer", found.left),
    ):
        if paths:
            page(f"{kind} ({len(paths)})")
            for path in paths[:_SHOWN]:
                page(f"  {printable(path)}")
            if len(paths) > _SHOWN:
                page(f"  and {len(paths) - _SHOWN} more; --json lists them")
    if removal and removal.left:
        page(f"the trash: {_trash(git, removal)}")
    say("restore", f"moderator rescue restore {found.id}   (into a new workspace)")
    say("or", f"git stash apply --index {found.commit[:12]}   (tracked and untracked files, where you are)")


@rescue_command.command("restore")
@click.argument("rescue")
@click.option("--as", "task_id", metavar="ID", help="Under which task id (default: its own if free, or one like it).")
@json_option
@repo_option
def restore_rescue(rescue: str, task_id: str | None, as_json: bool, repo: str) -> None:
    """Lay RESCUE out in a new workspace: files, permissions, what was staged, an operation in progress.  It stays."""
    git, config = opened(repo)
    found = git.find_rescue(rescue)
    with Furnisher(git, config).brought_back(lambda wanted: git.restore_rescue(found, task_id, wanted)) as workspace:
        pass
    if as_json:
        print_json({"task_id": workspace.task_id, "path": workspace.path, "branch": workspace.branch})
        return
    page(f"{found.id} is laid out as {text.one_line(workspace.task_id)} in {text.one_line(workspace.path)}")
    removal = _removal_of(git, found)
    if removal and removal.left:
        say("note", f"{text.counted(len(removal.left), 'path')} that no commit holds: {_trash(git, removal)}")


@rescue_command.command("drop")
@click.argument("rescues", nargs=-1, metavar="RESCUE...")
@click.option("--yes", is_flag=True, help="Really: it cannot be brought back.")
@json_option
@repo_option
def drop_rescue(rescues: tuple[str, ...], yes: bool, as_json: bool, repo: str) -> None:
    """Forget RESCUEs for good, with what the trash keeps for them."""
    git, _ = opened(repo)
    if not rescues:
        raise UsageError("say which rescues to drop", hint="moderator rescue list shows what there is")
    # All names are looked up first, so that a misspelt one changes nothing.
    found = list({one.id: one for one in map(git.find_rescue, rescues)}.values())
    if not yes:
        listed = ", ".join(one.id for one in found)
        raise UsageError(
            f"this forgets {listed} for good",
            hint="look at it first (moderator rescue show), then add --yes",
        )
    for one in found:
        git.drop_rescue(one)
        if not as_json:
            page(f"dropped {one.id} ({one.what})")
    git.empty_trash()
    if as_json:
        print_json({"dropped": [one.id for one in found]})


@rescue_command.command("tidy")
@click.option("--quietly", is_flag=True, hidden=True)
@json_option
@repo_option
def tidy_trash(quietly: bool, as_json: bool, repo: str) -> None:
    """Delete what removed workspaces left in the trash and nobody can want any more.

    Commands do so by the way, and leave to a process of low priority what takes longer.
    """
    git, _ = opened(repo)
    if quietly:
        with suppress(WorkspaceBusy):  # another process is at it
            git.empty_trash_at_leisure(_LONGEST)
        return
    gone = git.empty_trash()
    if as_json:
        print_json({"all_gone": gone})
    else:
        page("what may go is gone" if gone else "some of it cannot be deleted; moderator doctor says why")


def _removal_of(git: GitManager, rescue: Rescue) -> Removal | None:
    return next((one for one in git.removals() if one.rescue == rescue.id), None)


def _described(rescue: Rescue, removal: Removal | None) -> dict[str, object]:
    kept_until = removal.kept_until if removal else None
    return {**rescue.to_dict(), "in_trash_until": kept_until if removal and removal.left else None}


def _trash(git: GitManager, removal: Removal) -> str:
    where = git.trash_of(removal)
    if where is None:
        return "gone"
    until = time.strftime("%Y-%m-%d", time.localtime(removal.kept_until)) if removal.kept_until else "the next clean"
    return f"{where} until {until}"
