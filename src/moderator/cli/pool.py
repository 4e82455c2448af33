"""`moderator pool`: the spare worktrees that wait to become workspaces."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import click

from moderator.cli.options import configuration, json_option, repo_option
from moderator.cli.output import page, print_json, say
from moderator.config.settings import MOST_SPARES
from moderator.errors import EnvironmentProblem, WorkspaceBusy
from moderator.reports import text

if TYPE_CHECKING:
    from moderator.git.pool import PoolStatus
    from moderator.git.spares import Spare
    from moderator.orchestrator import Orchestrator


@click.group("pool")
def pool_command() -> None:
    """Worktrees that are made before anybody waits for one: a workspace then takes milliseconds, whatever its size."""


@pool_command.command("status")
@json_option
@repo_option
def status_command(as_json: bool, repo: str) -> None:
    """Show the spares: of which commit, how old, how large."""
    orchestrator = _orchestrator(repo)
    _show(orchestrator.git.pool_status(), as_json)


@pool_command.command("fill")
@click.argument("size", required=False, type=click.IntRange(0, MOST_SPARES), metavar="[N]")
@click.option("--base", metavar="REV", default="", help="Branch, tag or commit (default: what is checked out).")
@click.option("--root", metavar="DIR", hidden=True, help="Where the workspaces go that they are for.")
@click.option("--quietly", is_flag=True, hidden=True)
@json_option
@repo_option
def fill_command(size: int | None, base: str, root: str | None, quietly: bool, as_json: bool, repo: str) -> int:
    """Make spares until there are N (default: the size in the configuration), and return when they are ready.

    Those that are too old, of another commit or touched by somebody are given up first.
    """
    orchestrator = _orchestrator(repo)
    git = orchestrator.git
    wanted = git.pool_size if size is None else size
    if not wanted and size is None and not quietly:
        say("none", "the configuration asks for no spares (pool: size); moderator pool fill N makes some")
    try:
        status = git.fill_pool(root or orchestrator.root, base, wanted)
    except WorkspaceBusy:
        if quietly:
            return 0
        raise
    if not quietly:
        _show(status, as_json)
    if status.problem and not quietly:
        raise EnvironmentProblem(
            f"there are {status.ready} of {wanted} spares",
            hint="moderator pool drain gives all of them up"
            if status.spares
            else "workspaces are made without them all the same; to ask for none: pool: {size: 0} in moderator.yaml",
            cause=status.problem,
        )
    return 0


@pool_command.command("drain")
@json_option
@repo_option
def drain_command(as_json: bool, repo: str) -> None:
    """Give up all spares.  Workspaces are not touched."""
    gone = _orchestrator(repo).git.drain_pool()
    if as_json:
        print_json({"gone": [_document(spare) for spare in gone]})
    else:
        page(f"gave up {text.counted(len(gone), 'spare')} and freed {text.size(sum(spare.size for spare in gone))}")


def _orchestrator(repo: str) -> Orchestrator:
    from moderator.git.manager import GitManager
    from moderator.orchestrator import Orchestrator

    return Orchestrator(configuration(GitManager(repo)), repo)


def _show(status: PoolStatus, as_json: bool) -> None:
    if as_json:
        spares = [_document(spare) for spare in status.spares]
        print_json({"wanted": status.wanted, "ready": status.ready, "problem": status.problem, "spares": spares})
        return
    now = time.time()
    rows = [
        (
            spare.entry,
            spare.commit[:12],
            "ready" if spare.seal else "being made",
            text.duration(now - spare.made_at),
            text.size(spare.size),
            text.one_line(os.path.dirname(spare.path)),
        )
        for spare in status.spares
    ]
    for line in text.table(("SPARE", "COMMIT", "STATE", "AGE", "SIZE", "IN"), rows, right=(3, 4)) if rows else ():
        page(line)
    page(f"{text.counted(status.ready, 'spare')} ready, {status.wanted} wanted")


def _document(spare: Spare) -> dict[str, Any]:
    return {
        "entry": spare.entry, "path": spare.path, "commit": spare.commit, "made_at": spare.made_at, "size": spare.size,
        "ready": spare.seal is not None, "recycled": spare.keeps_ignored,
    }  # fmt: skip
