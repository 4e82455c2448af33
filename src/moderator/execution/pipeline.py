"""A task's way from context to result: the steps of one attempt in order, written once.

Serial, threads and cluster run these same steps; only who calls them differs.  Nothing raises for a task's sake: whatever
goes wrong becomes an Outcome, and the work stays where it is.  An attempt that ended in a trouble of its backend's own may be
followed by another, in a workspace that is as it was at the start.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from moderator.backends.calls import Backend, Call, Place, call_of
from moderator.backends.judging import Trouble, judge
from moderator.backends.parsers import Answer, parser_for
from moderator.backends.shell import command_of
from moderator.context import ExecutionContext, IsolationLevel
from moderator.errors import ConfigurationError, ModeratorError, WouldLoseWork, to_type
from moderator.execution.environment import environment_in, filled, fleeting_in, placeholders_in
from moderator.execution.leavings import put_litter_aside
from moderator.execution.places import HeldPlace
from moderator.execution.readiness import make_ready, notes_of_changes
from moderator.execution.rendering import marks_of, render
from moderator.execution.retrying import Next, next_attempt
from moderator.execution.scheduling import Job
from moderator.execution.scratch import end_scratch, make_scratch
from moderator.git.contents import IGNORED, shown
from moderator.git.fingerprint import Fingerprint
from moderator.git.manager import GitManager
from moderator.git.unsaved import Unsaved
from moderator.git.values import Workspace
from moderator.models import Command, Outcome, Task, TaskResult
from moderator.naming import generate_task_state_dir
from moderator.ports import Block
from moderator.preparing.commands import Teardown, Teardowns, kept_in
from moderator.process import Cancellation, Ended, Ending, Limits, Supervisor, run
from moderator.routing import BackendRouter
from moderator.slots import Slots

log = logging.getLogger(__name__)


class Listener(Protocol):
    """Who is told what happens to a task."""

    def attempted(self, task: Task, attempt: int, backend: str) -> None: ...
    def started(self, task: Task) -> None: ...
    def again(self, result: TaskResult, following: Next) -> None: ...
    def removing(self, result: TaskResult) -> None: ...
    def completed(self, result: TaskResult) -> None: ...
    def broken(self, task: Task, error: Exception) -> None: ...


@dataclass(frozen=True)
class Surroundings:
    """What all tasks of a run have in common.

    `tail` is how many characters of a task's output its result holds, of each stream.  `sandbox` is the
    program that keeps tasks from writing elsewhere, "" for none.  `teardowns` are what runs before workspaces are removed,
    `setup_timeout` is seconds for a set-up or a teardown, `variables` are those of every task's environment, `slots` number the
    tasks, and `reserve` gives ports to the task on a slot, None if there are none to give.  `asked` tells what of a teardown is a
    repository's own word.
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
    teardowns: Teardowns
    slots: Slots
    sandbox: str = ""
    setup_timeout: float | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    reserve: Callable[[int], Block] | None = None
    asked: Callable[[Sequence[Command]], Mapping[str, Any]] = lambda _: {}


@dataclass(frozen=True)
class Step:
    """How an attempt ended, and the one that follows it, None if it was the last."""

    result: TaskResult
    following: Next | None = None


def run_attempt(job: Job, surroundings: Surroundings, listener: Listener) -> Step:
    """Make one attempt at a task; return how it ended and what follows.  Never raises."""
    listener.attempted(job.task, job.attempt, job.backend_name)
    if not job.tried:
        listener.started(job.task)
    began = time.monotonic()
    job.tried[job.backend_name] = job.tried.get(job.backend_name, 0) + 1
    steps = _Steps(job, surroundings)
    following = None
    try:
        result = steps.walk(lambda result: _tidied(result, began, surroundings, listener, steps.left_out))
        following = steps.following
    except (Exception, SystemExit) as error:  # which would end the worker, and nothing else
        if not isinstance(error, (ModeratorError, OSError)):
            log.exception("task %r could not be carried through", job.task.id)
        problem = error if isinstance(error, Exception) else RuntimeError(f"{type(error).__name__} was raised: {error}")
        listener.broken(job.task, problem)
        result = steps.result(steps.failing, steps.ended, error=problem)
    steps.end_scratch(result)
    result.duration_seconds = time.monotonic() - began
    if following is None:
        listener.completed(result)
        return Step(result)
    listener.again(result, following)
    job.notes = [
        *result.notes,
        f"attempt {job.attempt} with {result.backend}: {result.error_message}; "
        f"{following.backend.name if following.backend.name != result.backend else 'the same'} tried next",
    ]
    job.attempt += 1
    job.backend = following.backend
    if not surroundings.level.isolates_directory:
        # The checkout is held for this task, so no other could begin meanwhile.
        surroundings.cancellation.wait(following.pause)
        following = replace(following, pause=0.0)
    return Step(result, following)


def not_started(job: Job, surroundings: Surroundings) -> TaskResult:
    """Return the result of a job that the end of the run came before."""
    place = job.place.workspace if job.place else None
    return TaskResult(
        job.task, None, "", "", 0.0,
        error_message=f"the run was interrupted before {'it was tried again' if job.tried else 'the task began'}",
        outcome=Outcome.CANCELLED, run_id=surroundings.run_id, attempt=job.attempt, base=surroundings.base_commit,
        branch=place.branch if place else None, path=place.path if place else None, workspace_kept=place is not None,
        notes=list(job.notes),
    )  # fmt: skip


def tidy(
    result: TaskResult,
    git: GitManager,
    keep: str,
    level: IsolationLevel,
    teardowns: Teardowns,
    left_out: Collection[str] = (),
) -> None:
    """Remove the workspace of a task that has ended, if the policy `keep` says so and nothing would be lost.

    `left_out` are the paths in it that no commit holds because a set-up made them: they are rescued.
    """
    if not _is_to_go(result, keep, level):
        return
    teardown = teardowns.of(result.task.id)
    try:
        result.notes += _removed(result.task.id, git, f"keep: {keep}", teardown, left_out)
        result.workspace_kept = False
    except (ModeratorError, OSError) as error:
        findings = "; ".join(getattr(error, "findings", ()))
        reason = (
            f"because removing it would lose work: {findings}" if findings else f"for it cannot be removed: {error}"
        )
        result.notes.append(f"the workspace was kept, {reason}")
    if teardown:
        result.notes += teardown.notes


def _is_to_go(result: TaskResult, keep: str, level: IsolationLevel) -> bool:
    return level is not IsolationLevel.NONE and (keep == "never" or (keep == "failed" and result.success))


def _tidied(
    result: TaskResult, began: float, surroundings: Surroundings, listener: Listener, left_out: Collection[str]
) -> None:
    """Remove the workspace of an attempt if it is to go, once how it ended has been told: whoever writes that down has it first."""
    if _is_to_go(result, surroundings.keep, surroundings.level):
        result.duration_seconds = time.monotonic() - began
        listener.removing(result)
        tidy(result, surroundings.git, surroundings.keep, surroundings.level, surroundings.teardowns, left_out)


def _removed(
    task_id: str, git: GitManager, reason: str, before: Teardown | None, left_out: Collection[str]
) -> list[str]:
    """Remove a workspace that holds nothing but commits, what git ignores and what a set-up left; return notes about these."""
    workspace = git.of_task(task_id)
    try:
        git.remove_workspace(workspace, recycle=True, later=git.deletes_later, before=before)
    except WouldLoseWork as error:
        others = [finding for finding in error.findings if not finding.startswith(IGNORED)]
        if others and not (left_out and _is_only(git.check_removal(workspace, rescue=True), left_out)):
            raise
        git.remove_workspace(workspace, rescue=True, reason=reason, later=git.deletes_later, before=before)
        ignored = [finding for finding in error.findings if finding not in others]
        notes = [f"what the set-up left was rescued: {'; '.join(others)}"] if others else []
        if ignored:
            names = "; ".join(finding.removeprefix(IGNORED).removeprefix(": ") for finding in ignored)
            notes.append(f"what git ignores stays in the trash for a time (moderator rescue list): {names}")
        return notes
    return []


def _is_only(unsaved: Unsaved, paths: Collection[str]) -> bool:
    """Whether nothing is unsaved but these paths, and what git ignores."""
    more = (unsaved.operation, unsaved.hidden, unsaved.converted, unsaved.nested, unsaved.objects)
    return not any(more) and set(unsaved.contents.uncommitted) <= set(paths)


def log_file(base_context: ExecutionContext, task_id: str, run_id: str, attempt: int) -> Path:
    """Return where an attempt's output goes: the same place at every level, for it is the run's record of the task."""
    state = generate_task_state_dir(os.path.abspath(base_context.state_dir), task_id)
    return Path(state, run_id, str(attempt), "output.log")


class _Steps:
    """One attempt.  `failing` is what an exception means at the step that is being taken."""

    def __init__(self, job: Job, surroundings: Surroundings) -> None:
        self._job = job
        self._task = job.task
        self._slot = 0
        self._all = surroundings
        self._workspace: Workspace | None = None
        self._has_workspace = False
        self.following: Next | None = None
        self._log: Path | None = None
        self._trouble = Trouble.NONE
        self._sure = False
        self._answer = Answer()
        self.ended: Ended | None = None
        self._notes = list(job.notes)
        self._scratch = ""
        self.left_out: tuple[str, ...] = ()
        self.failing = Outcome.COULD_NOT_START

    def walk(self, tidied: Callable[[TaskResult], None]) -> TaskResult:
        """Make the attempt and return how it ended; `following` is then what follows it, in a place that is held for it.

        If none does, `tidied` removes the workspace where it is to go.
        """
        everything, job = self._all, self._job
        if job.backend is None:
            raise job.problem or ConfigurationError(f"nobody is there to do task {self._task.id!r}")
        self.failing = Outcome.NO_WORKSPACE
        place, job.place = job.place, None
        if place is None:
            context = ExecutionContext.create_isolated_context(everything.base_context, self._task.id, everything.level)
            place = HeldPlace(
                everything.git,
                everything.supervisor,
                context,
                everything.base_commit,
                self._task.sparse,
                self._task.furnishing(everything.git.furnishing),
                fresh=not job.stays,
            )
        try:
            try:
                self._workspace, self._has_workspace = place.workspace, True
                result = self._run_in(place, place.workspace, job.backend)
                self.following = self._following(place, job.backend)
                result.workspace_kept = self._has_workspace
                if self.following:
                    job.place = place
            finally:
                if job.place is None:
                    place.let_go()
            if self.following is None and self._has_workspace:
                tidied(result)
            return result
        finally:
            if job.place is None:  # only now, for a teardown uses the ports that the task had
                everything.teardowns.held.discard(self._task.id)
                place.release()

    def _following(self, place: HeldPlace, backend: Backend) -> Next | None:
        """Return the attempt that follows this one, the workspace put back for it; None if it was the last."""
        job, router = self._job, self._all.router
        if self._trouble is Trouble.NONE:
            return None
        if self._trouble is Trouble.GIVE_UP:
            router.give_up(backend.name, self._reason, self._sure)
            job.candidates = [one for one in job.candidates if one is not backend]
        candidates = [one for one in job.candidates if router.availability(one.name).usable]
        most = self._task.max_attempts or router.max_attempts
        following = next_attempt(candidates, job.tried, self._trouble, most)
        if following is None or self._all.cancellation.cancelled or not self._put_back(place):
            return None
        return following

    def _put_back(self, place: HeldPlace) -> bool:
        """Bring the workspace to what it was at the start; what the attempt left in it is rescued first."""
        before, teardown = place.workspace, self._all.teardowns.of(self._task.id)
        try:
            rescue = place.put_back(
                f"attempt {self._job.attempt} of run {self._all.run_id} ended in a trouble of its backend", teardown
            )
        except (ModeratorError, OSError) as error:
            self._has_workspace = not before.level.isolates_directory or self._is_there(before)
            why = "; ".join([str(error), *getattr(error, "findings", ())])
            self._notes.append(f"not tried again, for the workspace cannot be put back: {why}")
            return False
        finally:
            self._notes += teardown.notes if teardown else ()
        if rescue:
            self._notes.append(
                f"what attempt {self._job.attempt} left was set aside: {to_type('moderator', 'rescue', 'show', rescue.id)}"
            )
        return True

    def _is_there(self, workspace: Workspace) -> bool:
        """Whether a workspace is there: it may have been set aside, and no new one could be made."""
        with contextlib.suppress(ModeratorError, OSError):
            return workspace.task_id in self._all.git.owners([workspace.task_id])
        return True

    def _run_in(self, held: HeldPlace, workspace: Workspace, backend: Backend) -> TaskResult:
        everything, git = self._all, self._all.git
        self.failing = Outcome.COULD_NOT_START
        self._log = log_file(everything.base_context, self._task.id, everything.run_id, self._job.attempt)
        self._scratch = make_scratch(git.state_root, everything.environment.get("TMPDIR"))
        self._slot = held.slot(everything.slots.take).number
        block = held.ports(lambda: reserve(self._slot)) if (reserve := everything.reserve) else None
        everything.teardowns.held.add(self._task.id)
        state_dir = os.path.abspath(workspace.state_dir)
        os.makedirs(state_dir, exist_ok=True)
        place = Place(workspace.path, workspace.branch, workspace.base, state_dir, str(self._log.parent))
        call = call_of(backend, self._task, place)
        before = git.fingerprint() if workspace.level.isolates_directory else None
        tree = git.tree_of_checkout(workspace.path) if workspace.level is IsolationLevel.NONE else None
        parser = parser_for(call.parser)
        for path, content in call.files.items():
            os.makedirs(os.path.dirname(path), exist_ok=True)
            Path(path).write_text(content, "utf-8", "surrogateescape")
        standing_for = placeholders_in(
            workspace, task_id=self._task.id, slot=self._slot, scratch=self._scratch, block=block
        )
        environment = self._environment(workspace, call, block, standing_for)
        # What a call sets stands above the configuration's, and below the task's own.
        fleeting = fleeting_in({**everything.variables, **dict.fromkeys(call.env, ""), **self._task.env})
        self._render(held, marks_of(standing_for, environment), block)
        if not_ready := self._made_ready(held, workspace, environment, fleeting, before):
            return not_ready
        ended = run(
            self._sandboxed(call.argv, workspace),
            cwd=workspace.path,
            env=environment,
            log=self._log,
            limits=self._limits(call),
            cancellation=everything.cancellation,
            stdin=call.stdin,
            listen=None if call.parser == "text" else parser.feed,
        )
        self._answer = parser.answer(ended.stdout, ended.stderr)
        own = replace(call, timeout=None) if self._task.timeout is not None else call  # the limit was the task's
        verdict = judge(own, ended, self._answer)
        self.ended, self._trouble, self._sure = ended, verdict.trouble, verdict.sure
        self.failing = verdict.outcome or Outcome.NOT_KEPT
        self._note_what_it_did(before, ended)
        if verdict.outcome is not None:
            return self.result(verdict.outcome, ended, reason=verdict.message)
        put_litter_aside(git, workspace, call.litter, self._log.parent)
        return self._checked(workspace, ended, environment) or self._keep_work(held, ended, tree)

    def _render(self, held: HeldPlace, marks: Mapping[str, str], block: Block | None) -> None:
        """Write the files that are made for this task alone, where the workspace is its own.

        Raises ConfigurationError if one is there already that is not as we have rendered it.
        """
        git, workspace = self._all.git, held.workspace
        wanted = self._task.furnishing(git.furnishing).render
        if held.is_ready or not workspace.level.isolates_directory or not (wanted or git.furnishing.render):
            return
        self.failing = Outcome.SET_UP_FAILED
        if left := render(git, workspace, wanted, marks, block.count if block else 0, self._task.values, True):
            path = os.path.join(workspace.path, left[0])
            raise ConfigurationError(
                f"{shown(left)}: somebody's own, or changed since it was rendered, so nothing is written over it",
                hint=f"put what you want to keep of it into the template, and then: {to_type('rm', path)}",
            )
        self.failing = Outcome.COULD_NOT_START

    def _made_ready(
        self,
        held: HeldPlace,
        workspace: Workspace,
        environment: Mapping[str, str],
        fleeting: Collection[str],
        before: Fingerprint | None,
    ) -> TaskResult | None:
        """Set the workspace up, once; return how the task ended if it is not ready then."""
        assert self._log is not None
        everything, task = self._all, self._task
        if held.is_ready or not workspace.level.isolates_directory or not (task.setup or task.teardown):
            return None
        log, self.failing = self._log.with_name("setup.log"), Outcome.SET_UP_FAILED
        timeout = task.setup_timeout if task.setup_timeout is not None else everything.setup_timeout
        readied = make_ready(
            everything.git,
            workspace,
            task.setup,
            task.teardown,
            env=environment,
            inherited=everything.environment,
            log_file=log,
            limits=Limits(timeout, None, everything.limits.grace),
            cancellation=everything.cancellation,
            sandbox=everything.sandbox,
            fleeting=fleeting,
            asked=everything.asked(task.teardown),
            around=lambda command: self._sandboxed(command, workspace),
        )
        self.failing = Outcome.COULD_NOT_START
        gone, held.left_by_set_up = readied.gone, readied.left
        self._notes += [f"set-up: {note}" for note in gone.notes]
        self._notes += notes_of_changes(everything.git, workspace, readied.left) if task.setup else []
        if not gone.problem:
            held.is_ready = True
            return None
        self._note_what_it_did(before)
        self._log, self.ended = log, gone.ended and replace(gone.ended, exit_code=None)  # the task's own has none
        self.failing = Outcome.CANCELLED if gone.cancelled else Outcome.SET_UP_FAILED
        return self.result(self.failing, self.ended, reason=f"set-up: {gone.problem}; all it printed is in {log}")

    def end_scratch(self, result: TaskResult) -> None:
        """Take the attempt's temporary files away, unless somebody may want to look at them."""
        if self._scratch and (note := end_scratch(self._all.git.state_root, self._scratch, result.success)):
            result.notes.append(note)

    def _note_what_it_did(self, before: Fingerprint | None, ended: Ended | None = None) -> None:
        """Note what else an attempt did than its work."""
        if before is not None:
            changed = before.differences(self._all.git.fingerprint())
            self._notes += [f"{name} changed while the task ran" for name in changed]
        if ended is None:
            return
        if ended.leftovers:
            self._notes.append(f"processes it left behind were ended: {ended.leftovers}")
        if ended.message and ended.ending is Ending.EXITED:
            self._notes.append(ended.message)

    def _checked(self, workspace: Workspace, ended: Ended, environment: Mapping[str, str]) -> TaskResult | None:
        """Run the task's own check in the workspace; return how the task ended if its work does not pass."""
        if self._task.verify is None:
            return None
        assert self._log is not None
        log = self._log.with_name("verify.log")
        checked = run(
            self._sandboxed(command_of(self._task.verify), workspace),
            cwd=workspace.path,
            env=environment,
            log=log,
            limits=self._limits(),
            cancellation=self._all.cancellation,
        )
        verdict = judge(Call(()), checked, Answer())
        if verdict.outcome is None:
            return None
        self.failing = Outcome.CANCELLED if verdict.outcome is Outcome.CANCELLED else Outcome.NOT_VERIFIED
        return self.result(self.failing, ended, reason=f"verify: {verdict.message}; all it printed is in {log}")

    def _sandboxed(self, command: Sequence[str], workspace: Workspace) -> Sequence[str]:
        return kept_in(self._all.git, workspace, command, self._all.sandbox, self._scratch)

    def _keep_work(self, held: HeldPlace, ended: Ended, tree: str | None) -> TaskResult:
        git, workspace = self._all.git, held.workspace
        try:
            if workspace.level is IsolationLevel.NONE:
                changed = git.tree_of_checkout(workspace.path) != tree
                return self.result(Outcome.SUCCEEDED if changed else Outcome.UNCHANGED, ended)
            kept = git.keep(workspace, self._message(), self._trailers(), held.left_by_set_up)
        except (ModeratorError, OSError) as error:
            return self.result(Outcome.NOT_KEPT, ended, error=error)
        self.left_out = kept.left_out
        if kept.left_out:
            is_all = len(kept.left_out) == len(held.left_by_set_up)
            which = "" if is_all else f": {shown(kept.left_out)}"
            self._notes.append(f"as the set-up left them, in no commit{which}")
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
        reason: str = "",
    ) -> TaskResult:
        workspace = self._workspace
        message = reason or None
        if error is not None:
            hint = getattr(error, "hint", "")
            cause = getattr(error, "cause", "")
            message = "; ".join(part for part in (str(error), cause, hint and f"hint: {hint}") if part)
        backend = self._job.backend_name
        known = self._all.router.availability(backend) if backend else None
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
            attempt=self._job.attempt,
            backend=backend,
            branch=workspace.branch if workspace else None,
            base=self._all.base_commit,
            commit=commit,
            path=workspace.path if workspace else None,
            log=str(self._log) if self._log else None,
            workspace_kept=self._has_workspace,
            notes=self._notes,
            backend_version=known.version if known else None,
            cost_usd=self._answer.cost_usd,
            tokens_in=self._answer.tokens_in,
            tokens_out=self._answer.tokens_out,
            reply=self._answer.reply,
        )

    @property
    def _reason(self) -> str:
        said = self._answer.error or (self.ended.stderr if self.ended else "")
        plain = "".join(char if char.isprintable() else " " for char in said)  # a log may show it on a terminal
        return " ".join(plain.split())[:200] or "it cannot work"

    def _limits(self, call: Call | None = None) -> Limits:
        """Return the limits of a command: the task's own first, then its backend's, then the run's."""
        task, default = self._task, self._all.limits
        given = [(task.timeout, task.idle_timeout)]
        given += [(call.timeout, call.idle_timeout)] if call else []
        given += [(default.timeout, default.idle_timeout)]
        timeout, idle_timeout = (
            next((one for one in each if one is not None), None) for each in zip(*given, strict=True)
        )
        return Limits(timeout, idle_timeout, default.grace)

    def _environment(
        self, workspace: Workspace, call: Call, block: Block | None, standing_for: Mapping[str, str]
    ) -> dict[str, str]:
        ports = block.count if block else 0
        common, own = (filled(texts, standing_for, ports) for texts in (self._all.variables, self._task.env))
        return environment_in(
            workspace, self._all.environment, {"TMPDIR": self._scratch, **common, **call.env, **own},
            task_id=self._task.id, run_id=self._all.run_id, attempt=self._job.attempt, slot=self._slot,
            ports=(block.first, block.count) if block else None, values=self._task.values,
        )  # fmt: skip

    def _message(self) -> str:
        return self._task.description.strip() or f"Work of task {self._task.id}"

    def _trailers(self) -> dict[str, str]:
        return {
            "Moderator-Task": self._task.id,
            "Moderator-Run": self._all.run_id,
            "Moderator-Attempt": str(self._job.attempt),
        }
