"""A task's way from context to result: the steps in order, written once.

Serial, threads and cluster run these same steps; only who calls them differs.  Nothing raises for a task's sake: whatever
goes wrong becomes an Outcome, and the work stays where it is.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from moderator.context import ExecutionContext, IsolationLevel
from moderator.errors import ConfigurationError, ModeratorError, WouldLoseWork
from moderator.git.contents import IGNORED
from moderator.git.manager import GitManager
from moderator.git.values import Workspace
from moderator.models import Outcome, Task, TaskResult
from moderator.naming import generate_task_state_dir
from moderator.process import Cancellation, Ended, Ending, Limits, Supervisor, run
from moderator.routing import Backend, BackendRouter

log = logging.getLogger(__name__)

_OUTCOMES = {
    Ending.TIMED_OUT: Outcome.TIMED_OUT,
    Ending.IDLE: Outcome.IDLE,
    Ending.CANCELLED: Outcome.CANCELLED,
    Ending.COULD_NOT_START: Outcome.COULD_NOT_START,
}


class Listener(Protocol):
    """Who is told what happens to a task."""

    def started(self, task: Task) -> None: ...
    def completed(self, result: TaskResult) -> None: ...
    def broken(self, task: Task, error: Exception) -> None: ...


@dataclass(frozen=True)
class Surroundings:
    """What all tasks of a run have in common.

    `tail` is how many characters of a task's output its result holds, of each stream.  `attempts` has the number of the
    attempt for tasks that have been begun before, `notes` what their results shall say of that.  `sandbox` is the program
    that keeps tasks from writing elsewhere, "" for none.
    """

    git: GitManager
    base_context: ExecutionContext
    base_commit: str
    level: IsolationLevel
    router: BackendRouter
    run_id: str
    limits: Limits
    keep: str
    environment: Mapping[str, str]
    supervisor: Supervisor
    cancellation: Cancellation
    tail: int
    attempts: Mapping[str, int] = field(default_factory=dict)
    notes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    sandbox: str = ""


def run_task(task: Task, slot: int, surroundings: Surroundings, listener: Listener) -> TaskResult:
    """Take one task all the way; return how it ended.  Never raises."""
    listener.started(task)
    began = time.monotonic()
    steps = _Steps(task, slot, surroundings)
    try:
        result = steps.walk()
    except Exception as error:
        if not isinstance(error, (ModeratorError, OSError)):
            log.exception("task %r could not be carried through", task.id)
        listener.broken(task, error)
        result = steps.result(steps.failing, steps.ended, error=error)
    result.duration_seconds = time.monotonic() - began
    listener.completed(result)
    return result


def not_started(task: Task, surroundings: Surroundings) -> TaskResult:
    """Return the result of a task that the end of the run came before."""
    return TaskResult(
        task, None, "", "", 0.0,
        error_message="the run was interrupted before the task began", outcome=Outcome.CANCELLED,
        run_id=surroundings.run_id, attempt=surroundings.attempts.get(task.id, 1), base=surroundings.base_commit,
        workspace_kept=False, notes=list(surroundings.notes.get(task.id, ())),
    )  # fmt: skip


def _meant_by(ended: Ended) -> Outcome:
    """Return the outcome of a command that ended so, before anybody has seen to its work."""
    if ended.ending is not Ending.EXITED:
        return _OUTCOMES[ended.ending]
    return Outcome.NOT_KEPT if ended.exit_code == 0 else Outcome.FAILED


def _how_it_failed(ended: Ended) -> str:
    """Return the exit code with the last thing the command said: mostly that is the reason."""
    said = [line.strip() for line in (ended.stderr or ended.stdout).splitlines() if line.strip()]
    return f"exit code {ended.exit_code}" + (f": {said[-1][:200]}" if said else "")


def tidy(result: TaskResult, git: GitManager, keep: str, level: IsolationLevel) -> None:
    """Remove the workspace of a task that has ended, if the policy `keep` says so and nothing would be lost."""
    if level is IsolationLevel.NONE or keep == "always" or (keep == "failed" and not result.success):
        return
    try:
        result.notes += _removed(result.task.id, git, f"keep: {keep}")
        result.workspace_kept = False
    except (ModeratorError, OSError) as error:
        findings = "; ".join(getattr(error, "findings", ()))
        reason = (
            f"because removing it would lose work: {findings}" if findings else f"for it cannot be removed: {error}"
        )
        result.notes.append(f"the workspace was kept, {reason}")


def _removed(task_id: str, git: GitManager, reason: str) -> list[str]:
    """Remove a workspace that holds nothing but commits and what git ignores; return a note about the latter."""
    workspace = git.of_task(task_id)
    try:
        git.remove_workspace(workspace)
    except WouldLoseWork as error:
        if not all(finding.startswith(IGNORED) for finding in error.findings):
            raise
        git.remove_workspace(workspace, rescue=True, reason=reason)
        names = "; ".join(finding.removeprefix(IGNORED).removeprefix(": ") for finding in error.findings)
        return [f"what git ignores stays in the trash for a time (moderator rescue list): {names}"]
    return []


def log_file(base_context: ExecutionContext, task_id: str, run_id: str, attempt: int) -> Path:
    """Return where an attempt's output goes: the same place at every level, for it is the run's record of the task."""
    state = generate_task_state_dir(os.path.abspath(base_context.state_dir), task_id)
    return Path(state, run_id, str(attempt), "output.log")


class _Steps:
    """One attempt.  `failing` is what an exception means at the step that is being taken."""

    def __init__(self, task: Task, slot: int, surroundings: Surroundings) -> None:
        self._task = task
        self._slot = slot
        self._all = surroundings
        self._attempt = surroundings.attempts.get(task.id, 1)
        self._workspace: Workspace | None = None
        self._log: Path | None = None
        self._backend = ""
        self.ended: Ended | None = None
        self._notes = list(surroundings.notes.get(task.id, ()))
        self.failing = Outcome.COULD_NOT_START

    def walk(self) -> TaskResult:
        everything = self._all
        context = ExecutionContext.named(everything.base_context, self._task.id, everything.level)
        backend = everything.router.select_backend(self._task, context)
        self._backend = backend.name
        self.failing = Outcome.NO_WORKSPACE
        context = ExecutionContext.create_isolated_context(everything.base_context, self._task.id, everything.level)
        with everything.git.create_workspace(context, everything.base_commit, fresh=True) as workspace:
            self._workspace = workspace
            with self._supervised(workspace):
                result = self._run_in(workspace, backend)
        tidy(result, everything.git, everything.keep, everything.level)
        return result

    @contextlib.contextmanager
    def _supervised(self, workspace: Workspace) -> Iterator[None]:
        """Let the supervisor hold the leases too: if this process dies, they last until the task's processes are gone."""
        held = {f"{self._task.id}#{n}": fd for n, fd in enumerate(self._all.git.lease_descriptors(workspace))}
        for name, descriptor in held.items():
            self._all.supervisor.hold(name, descriptor)
        try:
            yield
        finally:
            for name in held:
                self._all.supervisor.release(name)

    def _run_in(self, workspace: Workspace, backend: Backend) -> TaskResult:
        everything, git = self._all, self._all.git
        self.failing = Outcome.COULD_NOT_START
        command = backend.command(self._task, workspace)
        own_tree = workspace.level.isolates_directory
        before = git.fingerprint() if own_tree else None
        tree = git.tree_of_checkout(workspace.path) if workspace.level is IsolationLevel.NONE else None
        self._log = log_file(everything.base_context, self._task.id, everything.run_id, self._attempt)
        if everything.sandbox:
            command = self._sandboxed(command, workspace, self._log.parent)
        ended = run(
            command,
            cwd=workspace.path,
            env=self._environment(workspace),
            log=self._log,
            limits=self._limits(),
            cancellation=everything.cancellation,
        )
        self.ended, self.failing = ended, _meant_by(ended)
        if before is not None:
            changed = before.differences(git.fingerprint())
            self._notes += [f"{name} changed while the task ran" for name in changed]
        if ended.leftovers:
            self._notes.append(f"processes it left behind were ended: {ended.leftovers}")
        if ended.message and ended.ending is Ending.EXITED:
            self._notes.append(ended.message)
        if self.failing is not Outcome.NOT_KEPT:
            return self.result(self.failing, ended)
        return self._keep_work(workspace, ended, tree)

    def _sandboxed(self, command: Sequence[str], workspace: Workspace, folder: Path) -> list[str]:
        from moderator.process.sandbox import sandboxed  # only where one is asked for

        scratch = folder / "tmp"
        scratch.mkdir(parents=True, exist_ok=True)
        return sandboxed(
            command,
            self._all.git.writable_for(workspace),
            program=self._all.sandbox,
            directory=os.path.realpath(workspace.path),
            scratch=os.path.realpath(scratch),
        )

    def _keep_work(self, workspace: Workspace, ended: Ended, tree: str | None) -> TaskResult:
        git = self._all.git
        try:
            if workspace.level is IsolationLevel.NONE:
                changed = git.tree_of_checkout(workspace.path) != tree
                return self.result(Outcome.SUCCEEDED if changed else Outcome.UNCHANGED, ended)
            kept = git.keep(workspace, self._message(), self._trailers())
        except (ModeratorError, OSError) as error:
            return self.result(Outcome.NOT_KEPT, ended, error=error)
        if kept.left:
            self._notes.append(f"left in the base checkout, changed after the commit: {', '.join(kept.left)}")
        if kept.commit is None and kept.head == workspace.base:
            return self.result(Outcome.UNCHANGED, ended)
        return self.result(Outcome.SUCCEEDED, ended, commit=kept.head)

    def result(
        self,
        outcome: Outcome,
        ended: Ended | None,
        commit: str | None = None,
        error: Exception | None = None,
    ) -> TaskResult:
        workspace = self._workspace
        message = None
        if error is not None:
            hint = getattr(error, "hint", "")
            cause = getattr(error, "cause", "")
            message = "; ".join(part for part in (str(error), cause, hint and f"hint: {hint}") if part)
        elif ended is not None and not outcome.success:
            message = ended.message or _how_it_failed(ended)
        return TaskResult(
            task=self._task,
            exit_code=ended.exit_code if ended else None,
            stdout=ended.stdout[-self._all.tail :] if ended else "",
            stderr=ended.stderr[-self._all.tail :] if ended else "",
            duration_seconds=ended.duration_seconds if ended else 0.0,
            artifacts_path=str(self._log.parent) if self._log else None,
            error_message=message,
            outcome=outcome,
            run_id=self._all.run_id,
            attempt=self._attempt,
            backend=self._backend,
            branch=workspace.branch if workspace else None,
            base=self._all.base_commit,
            commit=commit,
            path=workspace.path if workspace else None,
            log=str(self._log) if self._log else None,
            workspace_kept=workspace is not None,
            notes=self._notes,
        )

    def _limits(self) -> Limits:
        default = self._all.limits
        return Limits(
            timeout=self._task.timeout if self._task.timeout is not None else default.timeout,
            idle_timeout=self._task.idle_timeout if self._task.idle_timeout is not None else default.idle_timeout,
            grace=default.grace,
        )

    def _environment(self, workspace: Workspace) -> dict[str, str]:
        """Tasks are guests: nothing of ours that ties git to a repository, no gc that would get in the others' way."""
        inherited = {name: value for name, value in self._all.environment.items() if not name.startswith("GIT_")}
        environment = {**inherited, **self._task.env}
        given = environment.get("GIT_CONFIG_COUNT", "")
        count = int(given) if given.isdecimal() else 0  # settings that the task's own `env` has stay
        environment |= {
            "GIT_CONFIG_COUNT": str(count + 2),
            f"GIT_CONFIG_KEY_{count}": "gc.auto",
            f"GIT_CONFIG_VALUE_{count}": "0",
            f"GIT_CONFIG_KEY_{count + 1}": "maintenance.auto",
            f"GIT_CONFIG_VALUE_{count + 1}": "false",
            "MODERATOR_TASK_ID": self._task.id,
            "MODERATOR_WORKSPACE": workspace.path,
            "MODERATOR_BRANCH": workspace.branch or "",
            "MODERATOR_BASE": workspace.base,
            "MODERATOR_STATE_DIR": os.path.abspath(workspace.state_dir),
            "MODERATOR_RUN": self._all.run_id,
            "MODERATOR_ATTEMPT": str(self._attempt),
            "MODERATOR_SLOT": str(self._slot),
        }
        for name, value in environment.items():
            if "\0" in name or "\0" in value or "=" in name:
                raise ConfigurationError(f"the environment variable {name!r} cannot be passed on", hint="take it out")
        return environment

    def _message(self) -> str:
        return self._task.description.strip() or f"Work of task {self._task.id}"

    def _trailers(self) -> dict[str, str]:
        return {
            "Moderator-Task": self._task.id,
            "Moderator-Run": self._all.run_id,
            "Moderator-Attempt": str(self._attempt),
        }
