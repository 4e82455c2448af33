"""What a run that was cut short left to do, task by task; and what a run that starts anew must set aside.

Pure, like the plan that it refines: what the record of runs and the repository know is handed in.  What counts as finished
is written here and nowhere else: a task is done at most once, and never done again because its record is missing.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from moderator.context import IsolationLevel
from moderator.errors import UsageError, WorkspaceBusy, to_type
from moderator.git.leases import Owner, is_alive, this_process
from moderator.git.values import Commit
from moderator.git.whereabouts import Whereabouts
from moderator.models import Outcome, TaskResult
from moderator.plan import Plan, PlannedTask, Start
from moderator.preparing.standing import SET_UP_FAILED, SETTING_UP, Standing
from moderator.store import AttemptRecord, RunRecord

NOTHING_RAN = frozenset(one.value for one in (Outcome.NO_WORKSPACE, Outcome.COULD_NOT_START, Outcome.SET_UP_FAILED))
"""Outcomes of attempts whose command was never started, whatever kept it from that: trying again does nothing twice."""
_UNFINISHED = frozenset({None, Outcome.CANCELLED.value, Outcome.BACKEND_FAILED.value, *NOTHING_RAN})


def is_finished(attempt: AttemptRecord | None) -> bool:
    """Whether an attempt's command was started and came to an end of its own: well or badly, but neither killed nor cancelled.

    Of a backend that failed for reasons of its own the task knows nothing yet.
    """
    return attempt is not None and attempt.outcome not in _UNFINISHED


@dataclass(frozen=True)
class LastRun:
    """The newest run of a file's tasks, with the last attempt of each: its own, or that of the run it follows.

    `anew` are the tasks whose names the run began by setting aside; `held` those that somebody else had when it came to them,
    with the number that the attempt got all the same.
    """

    run: RunRecord
    attempts: Mapping[str, AttemptRecord]
    anew: frozenset[str] = frozenset()
    held: Mapping[str, int] = field(default_factory=dict)

    def finished(self, task_ids: Iterable[str]) -> list[str]:
        """Return which of these tasks are finished."""
        return [task_id for task_id in task_ids if is_finished(self.attempts.get(task_id))]

    def goes_on(self, task_ids: Iterable[str]) -> bool:
        """Whether these tasks are to be done in this run: it was cut short, or one that it came to is not finished."""
        return self.run.state != "finished" or any(
            self._number(task_id) and not is_finished(self.attempts.get(task_id)) for task_id in task_ids
        )

    def next_number(self, task_id: str) -> int:
        """Return the number of the next attempt at a task in this run."""
        return self._number(task_id) + 1

    def _number(self, task_id: str) -> int:
        last = self.attempts.get(task_id)
        own = last.attempt if last and last.run_id == self.run.run_id else 0
        return max(own, self.held.get(task_id, 0))

    @property
    def did_nothing(self) -> bool:
        """Whether all that it came to was somebody else's, so that it knows nothing of any task."""
        own = any(attempt.run_id == self.run.run_id for attempt in self.attempts.values())
        return self.run.state == "finished" and bool(self.held) and not (own or self.anew or self.run.follows)


def last_of(runs: Iterable[LastRun]) -> LastRun | None:
    """Return what is known of a file's tasks after these runs, the newest of which comes first.

    A run that met another one of the same tasks knows nothing of those that the other had: of them the other one tells.
    """
    newest: LastRun | None = None
    chosen: LastRun | None = None
    for known in runs:
        newest = newest or known
        if chosen is None:
            chosen = None if known.did_nothing else known
        else:
            told = {task_id: known.attempts[task_id] for task_id in _open(chosen) if task_id in known.attempts}
            chosen = replace(chosen, attempts={**chosen.attempts, **told})
        if chosen and not _open(chosen):
            break
    return chosen or newest


def _open(known: LastRun) -> list[str]:
    return [task_id for task_id in known.held if task_id not in known.attempts and task_id not in known.anew]


def process_of(run: RunRecord) -> Owner:
    """Return the process that carries a run out, or did."""
    return Owner(run.host, run.boot_id, run.pid, int(run.process_started))


def refuse_running(run: RunRecord, here: bool = False) -> None:
    """Raise WorkspaceBusy if the process of a run is alive; of another host's, which nobody can tell, unless `here`."""
    process = process_of(run)
    if run.state != "running" or not is_alive(process) or (here and process.host != this_process().host):
        return
    hint = f"wait until it has finished: {to_type('moderator', 'history', run.run_id)} shows how far it is"
    if process.host != this_process().host:
        hint += "\nif it no longer runs on that machine, start anew with --fresh"
    raise WorkspaceBusy(f"run {run.run_id} of these tasks is still going on: {process}", hint=hint)


def refuse_other_choices(run: RunRecord, base: str | None, commit: str | None, level: str | None) -> None:
    """Raise UsageError if a run to be continued has another base or isolation level than was asked for (None: was not).

    `commit` is what `base` names.
    """
    if base is not None and base != run.base_branch and commit != run.base_commit:
        raise UsageError(
            f"run {run.run_id} forked from {run.base_branch} {run.base_commit[:12]}, not from {base!r}",
            hint="leave the base out to continue it, or start anew with --fresh instead of --resume",
        )
    if level is not None and level != run.isolation_level:
        raise UsageError(
            f"run {run.run_id} has isolation level {run.isolation_level}, not {level}",
            hint="leave the level out to continue it, or start anew with --fresh instead of --resume",
        )


def is_work_of(commit: Commit, attempt: AttemptRecord) -> bool:
    """Whether a commit is the one that we made of exactly this attempt's work."""
    wanted = {
        "Moderator-Task": " ".join(attempt.task_id.split()),  # as it stands in a line
        "Moderator-Run": attempt.run_id,
        "Moderator-Attempt": str(attempt.attempt),
    }
    return wanted.items() <= commit.trailers.items()


def resumed(
    plan: Plan,
    last: LastRun,
    commits: Mapping[str, Commit],
    leftovers: Collection[str],
) -> Plan:
    """Return the plan of what the last run left to do.

    `commits` has the newest commit under the names of tasks that did not finish; `leftovers` are the ids of tasks under
    whose names anything is.
    """
    continues = last.goes_on(planned.task.id for planned in plan.tasks)

    def begun(planned: PlannedTask) -> PlannedTask:
        task_id = planned.task.id
        attempt, commit = last.attempts.get(task_id), commits.get(task_id)
        number = last.next_number(task_id) if continues else 1
        if attempt is None:
            # It may have died before it came to what it had been told to set aside.
            start = Start.AGAIN if task_id in leftovers and task_id in last.anew else Start.RUN
            return replace(planned, start=start, attempt=number)
        if is_finished(attempt):
            return replace(planned, start=Start.KEPT, attempt=attempt.attempt, earlier=attempt)
        if commit is not None and is_work_of(commit, attempt):
            return replace(planned, start=Start.RECORDED, attempt=attempt.attempt, earlier=attempt, commit=commit)
        # An attempt that got no workspace left nothing: what is under its names is somebody else's, and not to be set aside.
        its_own = task_id in leftovers and attempt.outcome != Outcome.NO_WORKSPACE.value
        start = Start.AGAIN if its_own else Start.RUN
        return replace(planned, start=start, attempt=number, earlier=attempt)

    listed = {planned.task.id for planned in plan.tasks}
    vanished = tuple(sorted(set(last.attempts) - listed))
    tasks = tuple(map(begun, plan.tasks))
    return replace(plan, tasks=tasks, earlier=last.run, continues=continues, vanished=vanished)


def with_set_up_again(plan: Plan, task_ids: Collection[str], standings: Mapping[str, Standing]) -> Plan:
    """Return the plan of a resumed run in which the workspaces of these tasks stay, to be set up once more.

    Raises UsageError for a task whose set-up neither failed nor was cut short, or whose workspace is not there.
    """
    planned = {one.task.id: one for one in plan.tasks}
    for task_id in task_ids:
        standing = standings.get(task_id)
        if task_id not in planned:
            raise UsageError(
                f"no task of the list has the id {task_id!r}", hint=f"there are {', '.join(map(repr, planned))}"
            )
        if (
            standing is None
            or standing.stage not in (SETTING_UP, SET_UP_FAILED)
            or planned[task_id].start is not Start.AGAIN
        ):
            how = "has no workspace whose set-up failed or was cut short"
            raise UsageError(
                f"task {task_id!r} {how}", hint="moderator list shows what there is; --resume runs what is left"
            )
    return replace(
        plan,
        tasks=tuple(replace(one, start=Start.SET_UP) if one.task.id in task_ids else one for one in plan.tasks),
    )


def afresh(plan: Plan, leftovers: Collection[str]) -> Plan:
    """Return the plan of a run that sets everything aside that is under its names."""
    return replace(
        plan,
        tasks=tuple(
            replace(planned, start=Start.AGAIN) if planned.task.id in leftovers else planned for planned in plan.tasks
        ),
    )


def reason_to_set_aside(plan: Plan, planned: PlannedTask) -> str:
    """Return why what is under a task's names is set aside, in a few words for the rescue that holds it."""
    last = planned.earlier
    if last is None or plan.earlier is None:
        return "run --fresh"
    how = "never ran" if last.outcome in NOTHING_RAN else "was cut short"
    return f"attempt {last.attempt} of run {last.run_id} {how}"


def how_to_clear(directory: str, level: IsolationLevel) -> str:
    """Return what to type where a run that goes on in a checkout finds changes there.

    They are not set aside as a workspace's are: whether the task that was cut short made them or, since then, a person, nothing
    tells.
    """
    lines = [
        "a task that was cut short may have left them, or they are your own, which nobody can tell: so they are left alone",
        f"look at them: {to_type('git', '-C', directory, 'status')}",
        f"put them aside: {to_type('git', '-C', directory, 'stash', 'push', '--include-untracked')}",
        f"type the same again, and have them back later: {to_type('git', '-C', directory, 'stash', 'pop')}",
    ]
    if level is IsolationLevel.NONE:
        lines.insert(1, "what the tasks that are finished did is among them: it is in no commit")
    return "\n".join(lines)


def note_of_rescue(planned: PlannedTask, rescue_id: str) -> str:
    """Return the note for the result of a task whose leftovers were set aside."""
    whose = f"attempt {planned.earlier.attempt}" if planned.earlier else "an earlier run"
    return f"what {whose} left was set aside first: {to_type('moderator', 'rescue', 'show', rescue_id)}"


def result_before(
    planned: PlannedTask,
    last: AttemptRecord,
    has_workspace: bool,
    has_branch: bool = True,
    work: Whereabouts | None = None,
) -> TaskResult:
    """Return how the last attempt at a task ended that is kept, or only to be recorded.

    `work` is what has become of its commit, None where that is unknown.  A branch that is not there is not named.
    """
    result = TaskResult(
        task=planned.task,
        exit_code=last.exit_code,
        stdout="",
        stderr="",
        duration_seconds=last.duration_seconds or 0.0,
        artifacts_path=os.path.dirname(last.log) if last.log else None,
        error_message=last.error_message,
        outcome=Outcome(last.outcome) if last.outcome else None,
        run_id=last.run_id,
        attempt=last.attempt,
        backend=last.backend,
        branch=last.branch if has_branch else None,
        base=last.base,
        commit=last.commit,
        path=last.path,
        log=last.log,
        workspace_kept=has_workspace,
        notes=[*last.notes, *_what_has_changed(planned, last, work)],
        backend_version=last.backend_version,
        cost_usd=last.cost_usd,
        tokens_in=last.tokens_in,
        tokens_out=last.tokens_out,
        reply=last.reply,
    )
    if (commit := planned.commit) is None:
        return result
    return replace(
        result,
        exit_code=0,
        error_message=None,
        outcome=Outcome.SUCCEEDED,
        commit=commit.id,
        duration_seconds=max(commit.committed_at - last.started_at, 0.0),
        notes=[
            f"its run was cut short after the commit {commit.id[:12]}; only the record of that was missing",
            *_what_has_changed(planned, last, None),
        ],
    )


def _what_has_changed(planned: PlannedTask, last: AttemptRecord, work: Whereabouts | None) -> list[str]:
    """Return what a person would not expect of a task that is not run again: a note for each."""
    notes = []
    if work is Whereabouts.LOOSE:
        keep = to_type("git", "branch", last.branch or "NEW-NAME", str(last.commit))
        notes.append(
            f"nothing leads to its commit {str(last.commit)[:12]} any more, and git will delete it; to keep it: {keep}"
        )
    elif work is Whereabouts.GONE:
        notes.append(
            f"its commit {str(last.commit)[:12]} is no longer in the repository; if its work is nowhere else, "
            "give the task another id to have it run, or start anew with --fresh"
        )
    if planned.reads_differently:
        notes.append(
            "it reads differently now than when it was run; give it another id to have it run, or start anew with --fresh"
        )
    return notes
