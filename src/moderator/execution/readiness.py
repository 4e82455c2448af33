"""Making a held place ready for its task: the set-up, once for each workspace, and what is written down of it.

Only where the workspace is the task's own: at levels none and branch it is a person's checkout, which that person has set up.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from moderator.errors import ModeratorError
from moderator.execution.places import HeldPlace
from moderator.git.contents import shown
from moderator.git.manager import GitManager
from moderator.models import Task
from moderator.preparing.commands import Gone, set_up
from moderator.preparing.standing import READY, SET_UP_FAILED, SETTING_UP, Standing, Standings
from moderator.process import Cancellation, Limits


def make_ready(
    git: GitManager,
    place: HeldPlace,
    task: Task,
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
) -> Gone | None:
    """Set the workspace up, unless that was done; return how it went, None if there was nothing to do.

    `env` is what the task's command gets, `inherited` what of that comes from outside, `fleeting` are the variables of it that are
    somebody else's once the task's place is given up, `asked` is what of a teardown is a repository's own word.

    Raises what writing it down, and looking for what the set-up changed, can raise.
    """
    if place.is_ready or not place.workspace.level.isolates_directory or not (task.setup or task.teardown):
        return None
    standings = Standings(git.state_root)

    def note(stage: str, problem: str = "") -> None:
        standings.write(
            Standing(
                task.id,
                place.workspace.created_at,
                stage,
                problem,
                tuple(one if isinstance(one, str) else tuple(one) for one in task.teardown),
                # Only where they are needed: variables may be secrets.
                {name: value for name, value in env.items() if task.teardown and inherited.get(name) != value},
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
        task.setup,
        cwd=place.workspace.path,
        env=env,
        log_file=log_file,
        limits=limits,
        cancellation=cancellation,
        around=around,
    )
    if gone.cancelled:
        return gone  # it stays what it is: somebody cut it short
    if gone.problem:
        note(SET_UP_FAILED, gone.problem)
        return gone
    if task.setup:
        try:
            place.left_by_set_up = git.uncommitted(place.workspace)
        except (ModeratorError, OSError) as error:
            note(SET_UP_FAILED, str(error))
            raise
    note(READY)
    place.is_ready = True
    return gone


def notes_of_changes(git: GitManager, place: HeldPlace) -> list[str]:
    """Return warnings for people if a set-up changed what the task's commit would take, or committed it itself."""
    notes = []
    if place.left_by_set_up:
        notes.append(f"the set-up changed files that git does not ignore: {shown(sorted(place.left_by_set_up))}")
    if git.tip(place.workspace) not in (place.workspace.base, None):
        notes.append("the set-up made commits of its own, which the branch now has")
    return notes
