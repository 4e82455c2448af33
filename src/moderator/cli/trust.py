"""`moderator trust`: agree, once, to what a repository's own configuration would have executed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from moderator.cli.options import agreements, configuration, json_option, repo_option
from moderator.cli.output import page, print_json, say, say_error
from moderator.errors import NotTrusted, UsageError
from moderator.git.manager import GitManager

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


@click.command("trust")
@click.option("--yes", is_flag=True, help="Agree without being asked.")
@click.option("--show", is_flag=True, help="Only show what there is to agree to, and whether somebody has.")
@click.option("--revoke", is_flag=True, help="Take the agreement back.")
@json_option
@repo_option
def trust_command(yes: bool, show: bool, revoke: bool, as_json: bool, repo: str) -> None:
    """Show what the repository's own moderator.yaml would have executed, and agree to exactly that.

    Until then, and whenever any of it changes, moderator run refuses.
    """
    from moderator.trust import differences, lines_of

    if yes + show + revoke > 1:
        raise UsageError("--yes, --show and --revoke exclude each other", hint="moderator trust --show")
    git = GitManager(repo)
    if git.main_worktree is None:
        raise UsageError(
            "a bare repository has no configuration of its own, so there is nothing to agree to",
            hint="what --config names, or your own configuration, needs no agreement",
        )
    known = agreements()
    if revoke:
        had = known.revoke(git.main_worktree)
        if as_json:
            print_json({"repository": git.main_worktree, "revoked": had})
        else:
            page("taken back" if had else "nothing had been agreed to")
        return
    asked = configuration(git, explicit=False).asked_by_guest  # read once: what is shown is what is agreed to
    agreed: Mapping[str, Any] | None = None
    try:
        agreed = known.of(git.main_worktree)
    except NotTrusted as problem:
        say_error(problem, "warning")
    wants = bool(asked) and agreed != asked
    show = show or (as_json and not yes)  # nobody is asked about what he is not shown
    changed = [str(one) for one in differences(agreed, asked)] if agreed is not None else []
    if not as_json:
        for line in lines_of(asked):
            page(line)
        for line in changed:
            page(f"  {line}")
        if not wants:
            page(
                "agreed to"
                if asked
                else "the repository's own configuration has no commands, so nothing needs agreement"
            )
        elif show:
            page("not agreed to")
    if wants and not show:
        if not yes:
            _ask()
        known.agree(git.main_worktree, asked)
        if not as_json:
            page("agreed to")
    if as_json:
        agreed_now = not wants or not show
        print_json({"repository": git.main_worktree, "asked": asked, "agreed": agreed_now, "changed": changed})


def _ask() -> None:
    """Ask the person.  Raises NotTrusted unless he says yes."""
    if not sys.stdin.isatty():
        raise NotTrusted("nobody is there to be asked", hint="moderator trust --yes   # agrees to all of this")
    if not click.confirm("Execute these for every task of this repository?", err=True):
        say("note", "nothing was agreed to")
        raise NotTrusted("you did not agree, so moderator run will refuse", hint="moderator trust asks again")
