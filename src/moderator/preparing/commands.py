"""A set-up and a teardown: commands one after the other, with nothing to read from, and one limit for all of them.

Each is ended with everything it started, as any command is: no process of a set-up is there when the task begins.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from moderator.backends.calls import Call
from moderator.backends.judging import judge
from moderator.backends.parsers import Answer
from moderator.backends.shell import command_of
from moderator.errors import ModeratorError, NotTrusted
from moderator.git.manager import GitManager
from moderator.git.values import Workspace
from moderator.machine import state_home
from moderator.models import Command, Outcome
from moderator.preparing.standing import TEARDOWN_FAILED, TEARING_DOWN, TORN_DOWN, Standing, Standings
from moderator.process import Cancellation, Ended, Ending, Limits, Supervisor, run
from moderator.trust import Agreements

log = logging.getLogger(__name__)

_ASKS = re.compile(r"\b(tty|terminal|stdin|standard input|EOF|password|passphrase|prompts?|interactive)\b", re.I)
"""Words in which programs complain that they have nobody to ask."""
_NOBODY = "it runs without a terminal and with nothing on standard input, so it cannot ask anybody"
_FLEETING = ("MODERATOR_PORT", "MODERATOR_PORT_COUNT", "MODERATOR_SLOT")
_HURRY = 30.0  # seconds that a teardown may take once its run was interrupted


@dataclass(frozen=True)
class Gone:
    """How commands went one after the other.

    `problem` is "" if each of them ended well; otherwise `ended` is how the last one ended.  `notes` are sentences about what
    does not matter to that.
    """

    problem: str = ""
    ended: Ended | None = None
    notes: tuple[str, ...] = ()

    @property
    def cancelled(self) -> bool:
        return self.ended is not None and self.ended.ending is Ending.CANCELLED


def set_up(
    commands: Sequence[Command],
    *,
    cwd: str,
    env: Mapping[str, str],
    log_file: Path,
    limits: Limits,
    cancellation: Cancellation | None,
    around: Callable[[Sequence[str]], Sequence[str]] = lambda command: command,
) -> Gone:
    """Run the commands until one fails; in a text of several lines each line must end well.  `around` wraps each of them."""
    return _in_turn(commands, cwd, env, log_file, limits, cancellation, around, strict=True)


def _in_turn(
    commands: Sequence[Command],
    cwd: str,
    env: Mapping[str, str],
    log_file: Path,
    limits: Limits,
    cancellation: Cancellation | None,
    around: Callable[[Sequence[str]], Sequence[str]],
    strict: bool,
) -> Gone:
    deadline = time.monotonic() + (limits.timeout or 0.0)
    gone = Gone()
    for command in commands:
        left = None if limits.timeout is None else max(deadline - time.monotonic(), 0.001)
        ended = run(
            around(_strict(command) if strict else command_of(_own(command))),
            cwd=cwd,
            env=env,
            log=log_file,
            limits=replace(limits, timeout=left),
            cancellation=cancellation,
        )
        notes = gone.notes
        if ended.leftovers:
            notes += (f"processes it left behind were ended: {ended.leftovers}",)
        if ended.message and ended.ending is Ending.EXITED:
            notes += (ended.message,)
        problem = _problem(ended, limits)
        if problem or not gone.problem:
            gone = Gone(problem or gone.problem, ended if problem else None, notes)
        if problem and (strict or gone.cancelled):
            break
    return gone


def _problem(ended: Ended, limits: Limits) -> str:
    """Return what went wrong, "" for nothing."""
    verdict = judge(Call(()), ended, Answer())
    if verdict.outcome is None:
        return ""
    if ended.ending is Ending.TIMED_OUT:
        return f"ended: the limit of {limits.timeout:g} s passed"
    asked = verdict.outcome is Outcome.FAILED and _ASKS.search(f"{ended.stderr[-2000:]}\n{ended.stdout[-2000:]}")
    return f"{verdict.message} ({_NOBODY})" if asked else verdict.message


def kept_in(
    git: GitManager, workspace: Workspace, command: Sequence[str], program: str, scratch: str = ""
) -> Sequence[str]:
    """Return a command that writes only where a task in this workspace may, and in `scratch`; without a program, as it is."""
    if not program:
        return command
    from moderator.process.sandbox import sandboxed  # only where one is asked for

    return sandboxed(
        command,
        git.writable_for(workspace),
        program=program,
        directory=os.path.realpath(workspace.path),
        scratch=scratch and os.path.realpath(scratch),
    )


def _strict(command: Command) -> list[str]:
    return ["/bin/sh", "-e", "-c", command] if isinstance(command, str) else list(command)


def _own(command: Command) -> str | list[str]:
    return command if isinstance(command, str) else list(command)


class Teardowns:
    """What runs right before workspaces are removed.

    With a `run_id` a supervisor must be there for that run; otherwise there is one for each teardown.  `held` are the tasks of
    the run that have their slots and ports at this moment.
    """

    def __init__(
        self,
        git: GitManager,
        environment: Mapping[str, str],
        cancellation: Cancellation | None = None,
        run_id: str = "",
    ) -> None:
        self.git = git
        self.standings = Standings(git.state_root)
        self.inherited = {name: value for name, value in environment.items() if not name.startswith("GIT_")}
        self.cancellation = cancellation
        self.run_id = run_id
        self.held: set[str] = set()
        self._agreements = Agreements(state_home(environment) / "trust")

    def is_agreed(self, asked: Mapping[str, Any]) -> bool:
        """Whether what a repository's own configuration said, each value of it, is agreed to now as well."""
        main = self.git.main_worktree
        if not asked or main is None:
            return True
        try:
            agreed = self._agreements.of(main) or {}
        except NotTrusted:
            return False
        return all(agreed.get(name) == value for name, value in asked.items())

    def of(self, task_id: str) -> Teardown | None:
        """Return what is to be called before a task's workspace is removed, None if there is nothing to tear down."""
        standing = self.standings.of(task_id)
        return Teardown(self) if standing and standing.is_to_be_torn_down else None


class Teardown:
    """Tears one workspace down: for `before` of a removal.

    One that fails is told in `notes` and holds no removal up: what is in the workspace is kept or rescued all the same, and nobody
    could ever get rid of a workspace whose teardown is broken.  One that came through is not repeated.
    """

    def __init__(self, common: Teardowns) -> None:
        self._common = common
        self.notes: list[str] = []

    def __call__(self, workspace: Workspace) -> None:
        standing = self._common.standings.of_workspace(workspace)
        if standing is None or not standing.is_to_be_torn_down:
            return
        if not self._common.is_agreed(standing.asked):
            self.notes.append(
                "the teardown was skipped, for it is the word of the repository's own configuration, and nobody agrees to that "
                f"any more: {'; '.join(one if isinstance(one, str) else shlex.join(one) for one in standing.teardown)}"
            )
            return
        self._write(replace(standing, stage=TEARING_DOWN))
        try:
            gone = self._gone(workspace, standing)
        except (ModeratorError, OSError) as error:
            gone = Gone(str(error))
        self._write(replace(standing, stage=TEARDOWN_FAILED if gone.problem else TORN_DOWN, problem=gone.problem))
        self.notes += [f"teardown: {note}" for note in gone.notes]
        if gone.problem:
            self.notes.append(f"the teardown failed: {gone.problem}; all it printed is in {_log_of(standing)}")

    def _gone(self, workspace: Workspace, standing: Standing) -> Gone:
        common = self._common
        run_id = common.run_id or f"teardown-{secrets.token_hex(8)}"
        environment = {**common.inherited, **standing.environment, "MODERATOR_RUN": run_id}
        if not os.path.isdir(environment.get("TMPDIR", "")):  # the task's own, which went with it
            environment.pop("TMPDIR", None)
            environment |= {name: common.inherited[name] for name in ("TMPDIR",) if name in common.inherited}
        is_held = workspace.task_id in common.held and standing.environment.get("MODERATOR_RUN") == common.run_id
        for name in () if is_held else (*_FLEETING, *standing.fleeting):
            environment.pop(name, None)  # another task may have them now

        limits, cancellation = Limits(standing.timeout, None, standing.grace), common.cancellation
        if (
            cancellation and cancellation.cancelled
        ):  # it would not be run at all; whoever waits for the end waits for this
            limits, cancellation = replace(limits, timeout=min(standing.timeout or _HURRY, _HURRY)), None
        with contextlib.nullcontext() if common.run_id else Supervisor(run_id):
            return _in_turn(
                standing.teardown,
                workspace.path,
                environment,
                _log_of(standing),
                limits,
                cancellation,
                lambda command: kept_in(common.git, workspace, command, standing.sandbox),
                strict=False,
            )

    def _write(self, standing: Standing) -> None:
        try:
            self._common.standings.write(standing)
        except ModeratorError as problem:  # a full disk must not keep a workspace from being removed
            log.warning("%s (%s)", problem.message, problem.cause)


def _log_of(standing: Standing) -> Path:
    return Path(standing.folder, "teardown.log")
