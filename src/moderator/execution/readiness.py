"""Making a workspace ready for its task: the set-up, once for each workspace, and what is written down of it.

Only where the workspace is the task's own: at levels none and branch it is a person's checkout, which that person has set up.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from moderator.errors import ModeratorError
from moderator.git.contents import shown
from moderator.git.manager import GitManager
from moderator.git.values import Workspace
from moderator.models import Command
from moderator.preparing.commands import Gone, set_up
from moderator.preparing.standing import READY, SET_UP_FAILED, SETTING_UP, Standing, Standings
from moderator.process import Cancellation, Limits


@dataclass(frozen=True)
class Readied:
    """How a set-up went, and what it left that the next commit would take, with mode and content as git names them."""

    gone: Gone
    left: Mapping[str, str] = field(default_factory=dict)


def make_ready(
    git: GitManager,
    workspace: Workspace,
    setup: Sequence[Command],
    teardown: Sequence[Command],
    *,
    env: Mapping[str, str],
    inherited: Mapping[str, str],
    log_file: Path,
    limits: Limits,
    cancellation: Cancellation,
    sandbox: str,
    fleeting: Collection[str],
    asked: Mapping[str, Any],
    around: Callable[[Sequence[str]], Sequence[str]],
    kept: Standing | None = None,
) -> Readied:
    """Set a workspace up that is held, and return how it went; `teardown` is written down for the day on which it goes.

    `env` is what the task's command gets, `inherited` what of that comes from outside, `fleeting` are the variables of it that are
    somebody else's once the task's place is given up, `asked` is what of a teardown is a repository's own word.  `kept` is how the
    workspace stands that has another teardown to come, which stays.

    Raises what writing it down can raise.
    """
    standings = Standings(git.state_root)

    def note(stage: str, problem: str = "") -> None:
        standings.write(
            replace(kept, stage=stage, problem=problem, folder=str(log_file.parent))
            if kept
            else Standing(
                workspace.task_id,
                workspace.created_at,
                stage,
                problem,
                tuple(one if isinstance(one, str) else tuple(one) for one in teardown),
                # Only where they are needed: variables may be secrets.
                {name: value for name, value in env.items() if teardown and inherited.get(name) != value},
                str(log_file.parent),
                limits.timeout,
                limits.grace,
                sandbox,
                tuple(sorted(fleeting)),
                asked,
            )
        )

    note(SETTING_UP)
    gone = set_up(
        setup,
        cwd=workspace.path,
        env=env,
        log_file=log_file,
        limits=limits,
        cancellation=cancellation,
        around=around,
    )
    if gone.cancelled:
        return Readied(gone)  # it stays what it is: somebody cut it short
    left: Mapping[str, str] = {}
    if setup and not gone.problem:
        try:
            left = git.uncommitted(workspace)
        except (ModeratorError, OSError) as error:  # the set-up may have done anything to the worktree
            gone = Gone(f"it ended well, but {error}", notes=gone.notes)
    note(SET_UP_FAILED if gone.problem else READY, gone.problem)
    return Readied(gone, left)


def notes_of_changes(
    git: GitManager, workspace: Workspace, left: Mapping[str, str], tip: str | None = None
) -> list[str]:
    """Return warnings for people if a set-up changed what the task's commit would take, or committed it itself.

    `tip` is where the branch was before; None: at the base, for the workspace was new.
    """
    notes = []
    if left:
        notes.append(f"the set-up changed files that git does not ignore: {shown(sorted(left))}")
    if git.tip(workspace) not in (tip or workspace.base, None):
        notes.append("the set-up made commits of its own, which the branch now has")
    return notes
