"""A set-up by hand as people see it: what it prints while it runs, how it ended, and what to type next."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moderator.cli.output import say
from moderator.errors import PersonNeeded, StoreProblem, UsageError, to_type
from moderator.opening import opened
from moderator.reports import text

if TYPE_CHECKING:
    from moderator.execution.setting_up import SettingUp
    from moderator.git.manager import GitManager
    from moderator.git.values import Workspace

_EVERY = 0.05  # seconds between looks at a log that grows
_PATIENCE = 1.0  # seconds for whoever reads our output, once somebody wants an end
_PIECE = 2**16  # bytes that are shown at once


@dataclass(frozen=True)
class Shown:
    """How a set-up ended: an exit code, and what scripts are told."""

    code: int
    problem: str
    log: Path

    def to_dict(self) -> dict[str, Any]:
        return {"problem": self.problem or None, "setup_log": str(self.log)}


def set_up_and_show(git: GitManager, setting_up: SettingUp, workspace: Workspace) -> Shown:
    """Set a workspace up, what it prints on standard error, and say how it ended.  A signal ends it, and nothing else is lost.

    Raises what `SettingUp.set_up` does.
    """
    from moderator.cli.signals import handled
    from moderator.interruption import code_of
    from moderator.process import Cancellation

    cancellation, received, log = Cancellation(), list[signal.Signals](), setting_up.log_of(workspace)
    with _shown_as_it_grows(log, cancellation), handled(cancellation, received):
        gone = setting_up.set_up(workspace, cancellation).gone
    for note in setting_up.notes:
        say("note", text.one_line(note))
    if gone.problem:
        how = "was interrupted" if gone.cancelled else f"failed: {gone.problem}"
        say(
            "error", f"the set-up of task {text.one_line(workspace.task_id)!r} {how}; all it printed is in {log}", "red"
        )
        say("hint", _how_to_go_on(git, workspace), "cyan", indent=2)
    return Shown(code_of(received) if gone.cancelled else int(bool(gone.problem)), gone.problem, log)


def _how_to_go_on(git: GitManager, workspace: Workspace) -> str:
    try:
        git.require_there(workspace)
    except PersonNeeded as problem:  # the set-up itself may have done anything to it
        return problem.hint
    return f"the workspace stays; to repeat it there: {how_to_set_up(workspace.task_id)}"


def how_to_set_up(task_id: str) -> str:
    """Return what to type to have a workspace set up."""
    return to_type("moderator", "setup", *(["--"] if task_id.startswith("-") else []), task_id)


def refuse_set_up_of_a_run(git: GitManager, workspace: Workspace) -> None:
    """Raise UsageError if a set-up that failed, or was cut short, is that of a run: its task may have one of its own."""
    from moderator.preparing.standing import SET_UP_FAILED, SETTING_UP, Standings

    standing = Standings(git.state_root).of_workspace(workspace)
    if standing is None or standing.stage not in (SET_UP_FAILED, SETTING_UP):
        return
    if source := _tasks_of_run(git, Path(standing.folder).parent.name):
        again = to_type("moderator", "run", source, "--resume-setup", workspace.task_id)
        raise UsageError(
            f"the set-up of task {workspace.task_id!r} is that of its run, whose list may have one of its own",
            hint=f"repeat it, and go on with the run: {again}",
        )


def _tasks_of_run(git: GitManager, run_id: str) -> str:
    """Return the file that lists the tasks of a run, "" if there is no such run, or no such file."""
    if not run_id:
        return ""
    from moderator.store import Store, history_file

    with contextlib.suppress(StoreProblem, UsageError):
        if store := Store.existing(history_file(git.state_root)):
            with store:
                return store.run(run_id).source
    return ""


@contextlib.contextmanager
def _shown_as_it_grows(path: Path, cancellation: Any) -> Iterator[None]:
    """Show on standard error what is written to a file meanwhile.

    By a thread: a terminal that was stopped, or a reader that does not read, must neither hold up limits nor signals.
    """
    over = threading.Event()
    thread = threading.Thread(target=_show, args=(path, over), name="moderator-show", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(_PATIENCE)
        while thread.is_alive() and not cancellation.cancelled:
            thread.join(_PATIENCE)


def _show(path: Path, over: threading.Event) -> None:
    last = b"\n"
    with contextlib.suppress(OSError):  # nobody reads it any more; all of it is in the file
        while not path.exists():
            if over.wait(_EVERY):
                break
        if not path.exists():
            return
        with opened(path) as log:
            while True:
                ended = over.wait(_EVERY)
                while piece := log.read(_PIECE):
                    last = piece
                    while piece:
                        piece = piece[os.write(2, piece) :]
                if ended:
                    break
        if not last.endswith(b"\n"):
            os.write(2, b"\n")
