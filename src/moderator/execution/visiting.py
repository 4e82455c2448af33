"""A person's command in workspaces that are there: held meanwhile, with the environment that their tasks get.

Must not know who asks, nor what is shown of it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from moderator.config.settings import Config
from moderator.errors import EnvironmentProblem, ModeratorError, WorkspaceBusy
from moderator.execution.base import new_run_id
from moderator.execution.environment import environment_in, filled, placeholders_in, reserver, slots_of
from moderator.execution.rendering import marks_of, render, rendered_before
from moderator.execution.scratch import end_scratch, make_scratch
from moderator.expanding.filling import variable_of
from moderator.git.contents import shown
from moderator.git.manager import GitManager
from moderator.git.values import Workspace
from moderator.naming import task_directory_name
from moderator.ports import Block
from moderator.process import Cancellation, Ended, Ending, Limits, Supervisor, run
from moderator.process.attended import attend
from moderator.slots import Slot


@dataclass(frozen=True)
class Visit:
    """How a command ended in one workspace.  `ended` is None where `problem` kept it from being started."""

    workspace: Workspace
    log: Path
    ended: Ended | None = None
    problem: ModeratorError | None = None

    @property
    def success(self) -> bool:
        return self.ended is not None and self.ended.ending is Ending.EXITED and self.ended.exit_code == 0

    @property
    def is_held(self) -> bool:
        """Whether somebody else had the workspace."""
        return isinstance(self.problem, WorkspaceBusy)

    @property
    def exit_code(self) -> int | None:
        """What a shell would say: the command's own exit code, 128 and the number of a signal; None if it was never started."""
        code = self.ended.exit_code if self.ended else None
        return 128 - code if code is not None and code < 0 else code

    @property
    def reason(self) -> str:
        """Why it did not succeed, "" if it did."""
        if self.problem:
            return self.problem.message
        assert self.ended is not None
        if self.ended.message or self.success:
            return self.ended.message
        return f"exit code {self.exit_code}"


class Visitor:
    """Runs commands in workspaces.  `shared`: also where somebody else holds one, and without holding it itself.

    With a `config` each command has the variables of that, a directory for temporary files, and ports where tasks have some, and
    what was rendered for a task is rendered anew for it.
    `notes` say which of such directories stay.  Raises ConfigurationError if the variables name more ports than there are.
    """

    def __init__(
        self, git: GitManager, environment: Mapping[str, str], shared: bool = False, config: Config | None = None
    ) -> None:
        self._git = git
        self._environment = environment
        self._shared = shared
        self._run_id = new_run_id()
        self._variables = None if config is None else config.env
        self._wanted = () if config is None else config.furnishing.render
        self._slots = slots_of(git, environment)
        self._reserve = None if config is None else reserver(config, environment)
        self.notes: list[str] = []

    def attend(self, workspace: Workspace, command: Sequence[str], goes_on: bool = False) -> tuple[int, str]:
        """Run a command with this process's own terminal; return its exit code, and why it was not started.

        `goes_on`: what it starts may outlive it, as an editor's window does, so it gets no directory for temporary files that goes.
        If this process is killed, so is the command, and only then the workspace is free.  Raises WorkspaceBusy and what else
        `GitManager.hold` does.
        """
        with Supervisor(self._run_id) as supervisor, self._held(workspace, supervisor) as held:
            with self._environment_in(held, supervisor, goes_on) as (env, done):
                code, why_not = attend(command, cwd=held.path, env=env)
                done(code == 0)
            return code, why_not

    def visit(
        self,
        workspaces: Sequence[Workspace],
        command: Sequence[str],
        *,
        jobs: int,
        logs: Path,
        grace: float,
        cancellation: Cancellation,
    ) -> Iterator[Visit]:
        """Run a command in each of these, so many at once, and yield how it ended as soon as it has.

        What it prints goes into a file for each in the folder `logs`.  Nothing is raised for the sake of one of them.
        """
        with Supervisor(self._run_id) as supervisor, ThreadPoolExecutor(max(min(jobs, len(workspaces)), 1)) as pool:

            def one(workspace: Workspace) -> Visit:
                log = logs / f"{task_directory_name(workspace.task_id)}.log"
                try:
                    with self._held(workspace, supervisor) as held:
                        limits = Limits(grace=grace)
                        with self._environment_in(held, supervisor) as (env, done):
                            ended = run(
                                command, cwd=held.path, env=env, log=log, limits=limits, cancellation=cancellation
                            )
                            visit = Visit(workspace, log, ended)
                            done(visit.success)
                    return visit
                except ModeratorError as problem:
                    return Visit(workspace, log, problem=problem)
                except OSError as error:
                    return Visit(workspace, log, problem=EnvironmentProblem(str(error)))

            waiting = [pool.submit(one, workspace) for workspace in workspaces]
            yield from (future.result() for future in as_completed(waiting))

    @contextlib.contextmanager
    def _held(self, workspace: Workspace, supervisor: Supervisor) -> Iterator[Workspace]:
        if self._shared:
            self._git.require_there(workspace)
            yield workspace
            return
        with self._git.hold(workspace) as held:
            names = []
            for number, descriptor in enumerate(self._git.lease_descriptors(held)):
                names.append(f"{held.task_id}#{number}")
                supervisor.hold(names[-1], descriptor)
            try:
                yield held
            finally:
                for name in names:
                    supervisor.release(name)

    @contextlib.contextmanager
    def _environment_in(
        self, workspace: Workspace, supervisor: Supervisor, goes_on: bool = False
    ) -> Iterator[tuple[dict[str, str], Callable[[bool], None]]]:
        """Give the environment of a command, with what is to be told whether that ended well; what is its own goes afterwards."""
        os.makedirs(workspace.state_dir, exist_ok=True)
        given: dict[str, str] = {}
        scratch, ended_well, values = "", False, dict[str, str]()
        reserved: dict[str, Block | Slot] = {}

        def done(well: bool) -> None:
            nonlocal ended_well
            ended_well = well

        def hold(what: str, one: Block | Slot) -> None:
            name = f"{workspace.task_id}#{what}@{self._run_id}"
            reserved[name] = one
            supervisor.hold(name, one.descriptor)

        try:
            slot = self._slots.take()
            hold("slot", slot)
            block = self._reserve(slot.number) if self._reserve else None
            if block:
                hold("ports", block)
            if self._variables is not None:
                scratch = make_scratch(self._git.state_root, self._environment.get("TMPDIR"))
                values = placeholders_in(
                    workspace, task_id=workspace.task_id, slot=slot.number, scratch=scratch, block=block
                )
                own = {} if goes_on else {"TMPDIR": scratch}
                given = {**own, **filled(self._variables, values, block.count if block else 0)}
            env = environment_in(
                workspace, self._environment, given,
                task_id=workspace.task_id, run_id=self._run_id, attempt=0, slot=slot.number,
                ports=(block.first, block.count) if block else None,
            )  # fmt: skip
            if not self._shared and self._variables is not None:
                self._render(workspace, marks_of(values, env), block)
            yield env, done
        finally:
            if scratch and (note := end_scratch(self._git.state_root, scratch, ended_well)):
                self.notes.append(f"{workspace.task_id}: {note}")
            for name, one in reserved.items():
                supervisor.release(name)
                one.release()

    def _render(self, workspace: Workspace, marks: Mapping[str, str], block: Block | None) -> None:
        """Write what was rendered there before anew, or else what the configuration says: it is to agree with the environment.

        What cannot be written is told, and stays as it is: a command that only looks needs none of it.
        """
        if not workspace.level.isolates_directory:
            return
        wanted, made_for = rendered_before(self._git, workspace) or (self._wanted, {})
        if not wanted:
            return
        marks = {**marks, **{variable_of(name): value for name, value in made_for.items()}}
        try:
            left = render(self._git, workspace, wanted, marks, block.count if block else 0, made_for)
        except ModeratorError as problem:
            self.notes.append(f"{workspace.task_id}: nothing is rendered anew: {problem.message}")
            return
        if left:
            self.notes.append(
                f"{workspace.task_id}: somebody's own, or changed since it was rendered, so it stays as it is: {shown(left)}"
            )
