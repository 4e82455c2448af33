"""What people are told of runs that were cut short: what to type, and what becomes of each task.

The words only: what is done with a task is decided by the plan.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress

from moderator.cli.output import say
from moderator.errors import StoreProblem, WorkspaceOccupied
from moderator.models import Outcome
from moderator.orchestrator import Orchestrator
from moderator.plan import Plan, PlannedTask, Start
from moderator.reports import text
from moderator.resuming import NOTHING_RAN, refuse_running


def fate(planned: PlannedTask) -> str:
    """Return what a plan does with a task, in a few words."""
    last = planned.earlier
    if planned.start is Start.KEPT:
        return f"kept: {last.outcome if last else ''}{', though it reads differently now' * planned.reads_differently}"
    if planned.start is Start.RECORDED:
        return f"recorded: committed as {planned.commit.id[:12] if planned.commit else ''}"
    if planned.start is Start.AGAIN:
        return "what is there is rescued, then run again" if last else "what is there is rescued, then run"
    if planned.start is Start.SET_UP:
        return "set up again as it is, then run"
    return "run again" if last else "run"


def say_what_is_resumed(plan: Plan, tasks_file: str, notes_only: bool = False) -> None:
    """Say how a run goes on: what of it is done, and which of its tasks nobody asks for any more."""
    run = plan.earlier
    if run is None:
        if not notes_only:
            say("resume", "there is no earlier run of this file: everything is run")
        return
    for task_id in plan.vanished:
        say(
            "note",
            f"task {text.one_line(task_id)!r} of run {run.run_id} is no longer in {tasks_file}; it is left as it is",
        )
    if notes_only:
        return
    if plan.is_done:
        say("resume", f"nothing is left to do: run {run.run_id} has finished with all of these tasks")
        return
    done = len(plan.tasks) - len(plan.to_run)
    never = sum(one.earlier is not None and one.earlier.outcome in NOTHING_RAN for one in plan.to_run)
    failed = sum(one.earlier is not None and one.earlier.outcome == Outcome.BACKEND_FAILED.value for one in plan.to_run)
    waiting = sum(one.start is not Start.AGAIN and not _was_begun(one) for one in plan.to_run)
    again = len(plan.to_run) - never - failed - waiting
    parts = [f"{done} of {text.counted(len(plan.tasks), 'task')} {'is' if done == 1 else 'are'} done"]
    parts += [f"{again} {'was cut short and starts' if again == 1 else 'were cut short and start'} again"] * bool(again)
    parts += [f"{failed} whose backend failed {'is' if failed == 1 else 'are'} tried again"] * bool(failed)
    parts += [f"{never} never ran and {'is' if never == 1 else 'are'} tried again"] * bool(never)
    parts += [f"{waiting} {'was' if waiting == 1 else 'were'} not begun"] * bool(waiting)
    what = f"run {run.run_id} goes on" if plan.continues else f"run {run.run_id} has finished; what is new is run"
    say("resume", f"{what}: {', '.join(parts)}")


def _was_begun(planned: PlannedTask) -> bool:
    """Whether anything was started for a task: what the end of a run came before has no log, also if its end is recorded."""
    last = planned.earlier
    return last is not None and (last.outcome != Outcome.CANCELLED.value or last.log is not None)


def say_how_to_go_on(error: WorkspaceOccupied, orchestrator: Orchestrator, source: str, task_ids: list[str]) -> None:
    """Put what to type first into the hint of a refusal: the same command line with the one word that helps.

    Not the word that stands there already, for it did not help.

    Raises WorkspaceBusy instead if what is in the way belongs to a run of the same file that is still going on.
    """
    lines: list[tuple[str, str]] = []
    with suppress(StoreProblem):  # what cannot be looked up leaves the refusal as it is
        if last := orchestrator.last_run(source):
            refuse_running(last.run)
            done = len(last.finished(task_ids))
            of_all = f"{done} of {text.counted(len(task_ids), 'task')} {'is' if done == 1 else 'are'} done"
            if last.goes_on(task_ids):
                lines.append(("--resume", f"continue run {last.run.run_id}: {of_all}"))
            elif 0 < done < len(task_ids):
                lines.append(("--resume", f"run what run {last.run.run_id} has not done: {of_all}"))
    lines.append(("--fresh", "start anew; what is there is set aside and kept"))
    said = [f"{_typed_with(flag)}   # {meaning}" for flag, meaning in lines if flag not in sys.argv]
    error.hint = "\n".join([*said, error.hint])


def _typed_with(flag: str) -> str:
    """Return the command line as it was typed, with one of the two flags that say how to begin."""
    return f"{program()} {with_flag(sys.argv[1:], flag)}"


def with_flag(typed: Sequence[str], flag: str) -> str:
    """Return words of a command line as they are typed, with one of the two flags that say how to begin in the place of any."""
    end = typed.index("--") if "--" in typed else len(typed)
    words = [word for word in typed[:end] if word not in ("--resume", "--fresh")]
    return shlex.join([*words, flag, *typed[end:]])


def program() -> str:
    """Return how this program was called, so that lines that begin so can be pasted."""
    if sys.argv[0].endswith("__main__.py"):
        return f"{shlex.quote(sys.executable)} -m moderator"
    return "moderator" if shutil.which("moderator") else shlex.quote(sys.argv[0])
