"""The commands that look at what tasks did: list, show, diff, logs, history.  They change nothing."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from moderator.cli.options import json_option, repo_option
from moderator.cli.output import page, paint, print_bytes, print_json, say, say_error
from moderator.errors import EnvironmentProblem, StoreProblem, UnknownRevision, UnknownWorkspace, UsageError
from moderator.git.inspection import Inspector
from moderator.opening import opened
from moderator.preparing.standing import SET_UP_FAILED, Standing, Standings, stage_of
from moderator.reports import text

if TYPE_CHECKING:
    from moderator.git.manager import GitManager
    from moderator.git.values import Change, Commit, WorkspaceStatus
    from moderator.store import AttemptRecord, RunRecord, Store

LOOKED_INTO = 50
"""Workspaces up to which `list` looks for changes without being asked."""
_COLOURS = {"succeeded": "green", "unchanged": "green", "running": "cyan", "finished": "green"}
_HEADS = ("TASK", "STATE", "BRANCH", "AHEAD/BEHIND", "CHANGES", "LAST OUTCOME", "AGE")
_ORDINARY = ("", "", "", "", "999 files", "", "")
"""What a look into a tree finds out, as wide as it ordinarily gets."""
_FOLLOW_EVERY = 0.2  # seconds between looks at a log that is followed
_TAIL = 10  # lines of output that `show` ends with


@click.command("list")
@click.option("--status", "look", is_flag=True, help="Look for changes in every workspace, however many there are.")
@json_option
@repo_option
def list_command(look: bool, as_json: bool, repo: str) -> int:
    """List the workspaces: state, branch, commits ahead and behind, changes, last outcome, age."""
    inspector = Inspector.at(repo)
    outlines, unreadable = inspector.overview()
    looking = look or len(outlines) <= LOOKED_INTO
    attempts = _last_attempts(inspector.state_root) if outlines else {}
    standings = Standings(inspector.state_root).of_all(status.task_id for status in outlines)
    for problem in unreadable:
        say_error(problem)
    code = EnvironmentProblem.exit_code if unreadable else 0  # of one of them nobody knows
    statuses = inspector.looked_into(outlines) if looking else outlines
    if as_json:
        ids = {status.task_id: (attempts.get(status.task_id), standings.get(status.task_id)) for status in outlines}
        print_json({"workspaces": [_described(status, *ids[status.task_id]) for status in statuses]})
        return code
    if not outlines:
        say("none", "there are no workspaces here; moderator run TASKS.yaml makes them")
        return code
    now = time.time()

    # Rows appear as their trees are looked into, so the columns are as wide as what is known before.
    def row_of(status: WorkspaceStatus) -> tuple[str, ...]:
        return _row(status, attempts.get(status.task_id), standings.get(status.task_id), now)

    known = [row_of(status) for status in outlines]
    columns = text.Columns([_HEADS, *([_ORDINARY] if looking else []), *known], right=(6,))
    page(paint(columns.line(_HEADS), "bright_black"))
    for status in statuses:
        row = row_of(status)
        colour = (
            "red" if row[1] in ("missing", "damaged", SET_UP_FAILED) else _COLOURS.get(row[5].split(" (")[0], "yellow")
        )
        page(paint(columns.line(row), colour))
    if not looking:
        say("note", "changes were not looked for in so many workspaces; --status does")
    return code


def _row(
    status: WorkspaceStatus, attempt: AttemptRecord | None, standing: Standing | None, now: float
) -> tuple[str, ...]:
    return (
        text.shortened(status.task_id, 32),
        (status.locked_by_person and "locked") or stage_of(status, standing, attempt),
        text.shortened(status.branch or "(detached)", 48),
        "-" if status.ahead is None else f"+{status.ahead} -{status.behind or 0}",
        _changes(status),
        _outcome(attempt, status),
        text.duration(now - status.created_at),
    )


@click.command("show")
@click.argument("task")
@json_option
@repo_option
def show_command(task: str, as_json: bool, repo: str) -> None:
    """Show TASK's workspace, its last attempt, its commits and the files it changed."""
    git = _manager(repo)
    status, attempt = _status_of(git, task), _attempt_if_readable(git, task)
    if status is None and attempt is None:
        if _show_variants(git, task, as_json):
            return
        git.find(task)  # says what is there instead
    changes, commits = _work(git, task, status, attempt)
    standing = Standings(git.state_root).of(status.task_id) if status else None
    if as_json:
        print_json(
            {
                "workspace": _described(status, attempt, standing) if status else None,
                "attempt": _attempt(attempt) if attempt else None,
                "commits": [_commit(commit) for commit in commits],
                "changes": [_change(change) for change in changes],
            }
        )
        return
    page(paint(f"task {text.one_line(status.task_id if status else task)}", "bright_white"))
    if attempt:
        page(f"  description  {text.shortened(attempt.description, 100)}")
        page(f"  outcome      {_attempt_outcome(attempt, status)}, {text.duration(attempt.duration_seconds)}")
        if attempt.error_message:
            page(f"  reason       {text.one_line(attempt.error_message)}")
        for note in attempt.notes:
            page(f"  note         {text.one_line(note)}")
        page(f"  run          {attempt.run_id}{f', attempt {attempt.attempt}' if attempt.attempt > 1 else ''}")
        if attempt.backend != "shell":
            page(f"  backend      {_backend(attempt)}")
        page(f"  log          {attempt.log or '-'}")
    if status:
        _page_status(status, stage_of(status, standing, attempt))
        if standing and standing.problem and standing.is_of(status.created_at):
            page(f"  problem      {text.one_line(standing.problem)}")
            if standing.folder and os.path.isfile(log := os.path.join(standing.folder, "setup.log")):
                page(f"  set-up log   {log}")
    else:
        page("  workspace    removed")
    if commits:
        page(f"commits since the fork ({len(commits)})")
        for commit in commits[:20]:
            page(f"  {commit.id[:12]}  {text.shortened(commit.subject, 90)}")
    if changes:
        page(f"files that differ from the fork ({len(changes)})")
        for line in _change_lines(changes[:50]):
            page(f"  {line}")
        if len(changes) > 50:
            page(f"  and {len(changes) - 50} more; moderator diff {task} --stat lists them")
    if attempt and attempt.reply:
        page("what it said last")
        for line in attempt.reply.splitlines()[-_TAIL:]:
            page(f"  {text.one_line(line)}")
    if attempt and attempt.log and (tail := _tail(attempt.log)):
        page("end of its output")
        for line in tail:
            page(f"  {line}")


def _show_variants(git: GitManager, task: str, as_json: bool) -> bool:
    """Show the variants of a task side by side; False if it has none."""
    from moderator.cli.variants import compared, group_of
    from moderator.reports.variants import side_by_side

    group = group_of(git, task)
    if group is None or task != group.of:
        return False
    variants = compared(git, group)
    if as_json:
        print_json({"task_id": task, "variants": [one.to_dict() for one in variants]})
        return True
    page(paint(f"variants of task {text.one_line(task)}", "bright_white"))
    for line in side_by_side(variants):
        page(f"  {line}")
    return True


def _backend(attempt: AttemptRecord) -> str:
    """Return who did it, and what it says that took."""
    tokens = (f"{attempt.tokens_in or 0:,} tokens in, {attempt.tokens_out or 0:,} out",)
    parts = [
        _who(attempt),
        *(tokens if attempt.tokens_in is not None or attempt.tokens_out is not None else ()),
        *((text.cost(attempt.cost_usd),) if attempt.cost_usd is not None else ()),
    ]
    return ", ".join(parts)


@click.command("diff")
@click.argument("task")
@click.option("--stat", is_flag=True, help="Only the files and how many lines.")
@json_option
@repo_option
def diff_command(task: str, stat: bool, as_json: bool, repo: str) -> None:
    """Show what TASK changed since the fork, committed or not, as a patch that git apply takes."""
    git = _manager(repo)
    status, attempt = _status_of(git, task), _attempt_if_readable(git, task)
    if status is None and (attempt is None or not attempt.commit):
        git.find(task)
    if as_json or stat:
        changes, _ = _work(git, task, status, attempt, commits=False)
        if as_json:
            print_json({"task_id": task, "changes": [_change(change) for change in changes]})
        else:
            for line in _change_lines(changes):
                page(line)
        return
    if status is not None:
        print_bytes(git.patch(task))
    elif attempt is not None:
        print_bytes(git.patch_between(str(attempt.base), str(attempt.commit)))


@click.command("logs")
@click.argument("task")
@click.option("-f", "--follow", is_flag=True, help="Wait for more until the attempt has ended.")
@click.option("--path", "only_path", is_flag=True, help="Print where the log is instead.")
@repo_option
def logs_command(task: str, follow: bool, only_path: bool, repo: str) -> None:
    """Print everything TASK's last attempt printed."""
    git = _manager(repo)
    attempt = _attempt_of(git, task)
    if attempt is None or not attempt.log:
        raise UnknownWorkspace(f"no run of task {task!r} is recorded here", hint="moderator history lists the runs")
    if only_path:
        print_bytes(os.fsencode(attempt.log) + b"\n")
        return
    position = 0
    printed = False
    while True:
        going, following = _goes_on(git, attempt) if follow else (False, None)
        try:
            with opened(attempt.log) as log:
                log.seek(position)
                while chunk := log.read(1 << 20):
                    print_bytes(chunk)
                position = log.tell()
            printed = True
        except FileNotFoundError:
            if not (going or following or printed):
                reason = attempt.error_message or "it printed nothing"
                raise UsageError(f"task {task!r} has no output: {reason}", hint=f"moderator show {task}") from None
        if following and following.log:
            attempt, position = following, 0
            say("note", f"attempt {attempt.attempt} with {text.one_line(attempt.backend)}")
        elif not going:
            return
        else:
            time.sleep(_FOLLOW_EVERY)


@click.command("history")
@click.argument("run", required=False)
@click.option("-n", "limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many runs.")
@json_option
@repo_option
def history_command(run: str | None, limit: int, as_json: bool, repo: str) -> None:
    """List past runs, newest first; or the attempts of one RUN, by the beginning of its id."""
    git = _manager(repo)
    store = _store(git.state_root)
    if store is None:
        if run:
            raise UsageError(f"no run's id begins with {run!r}", hint="no run has been recorded yet")
        if as_json:
            print_json({"runs": []})
        else:
            say("none", "nothing has been run here yet; moderator run TASKS.yaml")
        return
    with store:
        if run:
            found = store.run(run)
            _page_run(found, store.attempts(run_id=found.run_id), as_json)
            return
        runs = store.runs(limit)
    if as_json:
        print_json({"runs": [_run(one) for one in runs]})
        return
    rows = [
        (
            one.run_id,
            _when(one.started_at),
            _state(one),
            one.base_branch,
            str(one.tasks),
            str(one.succeeded),
            str(one.failed),
            text.duration(one.finished_at and one.finished_at - one.started_at),
        )
        for one in runs
    ]
    heads = ("RUN", "STARTED", "STATE", "BASE", "TASKS", "OK", "FAILED", "TOOK")
    for line in text.table(heads, rows, right=(4, 5, 6, 7)):
        page(line)


def _page_run(run: RunRecord, attempts: list[AttemptRecord], as_json: bool) -> None:
    if as_json:
        print_json({"run": _run(run), "attempts": [_attempt(attempt) for attempt in attempts]})
        return
    page(f"run {run.run_id}: {_state(run)}, {run.workers} at once, from {run.base_branch} {run.base_commit[:12]}")
    agents = any(one.backend != "shell" for one in attempts)
    rows = [
        (
            text.shortened(one.task_id, 32),
            str(one.attempt),
            one.outcome or ("running" if _state(run) == "running" else "interrupted"),
            text.duration(one.duration_seconds),
            *(_made_by(one) if agents else ()),
            (one.commit or "-")[:12],
            text.shortened(one.error_message or one.description, 70),
        )
        for one in attempts
    ]
    made_by = ("BACKEND", "TOKENS IN", "OUT", "COST") if agents else ()
    heads = ("TASK", "ATTEMPT", "OUTCOME", "TOOK", *made_by, "COMMIT", "WHAT")
    for line in text.table(heads, rows, right=(1, 3, *((5, 6, 7) if agents else ()))):
        page(line)


def _made_by(attempt: AttemptRecord) -> tuple[str, ...]:
    tokens = ("-" if count is None else f"{count:,}" for count in (attempt.tokens_in, attempt.tokens_out))
    return (_who(attempt) or "-", *tokens, text.cost(attempt.cost_usd))


def _who(attempt: AttemptRecord) -> str:
    """Return the backend of an attempt, with its version."""
    return text.one_line(" ".join(filter(None, (attempt.backend, attempt.backend_version))))


def _page_status(status: WorkspaceStatus, stage: str) -> None:
    page(f"  workspace    {status.path}")
    page(f"  state        {stage}{f', held by {status.lease}' if status.lease else ''}")
    if status.problem:
        page(f"  problem      {text.one_line(status.problem)}")
    if status.locked_by_person:
        page(f"  locked       {status.locked_by_person}")
    page(f"  branch       {status.branch or '(detached)'}")
    page(f"  base         {status.base_branch} {status.base[:12]}")
    if status.tip:
        page(f"  tip          {status.tip[:12]}, {status.ahead} ahead, {status.behind} behind")
    if status.operation:
        page(f"  in progress  {status.operation}")
    if status.counts:
        counts = status.counts
        kinds = ("staged", "modified", "unmerged", "untracked", "ignored")
        found = [f"{number} {kind}" for kind in kinds if (number := getattr(counts, kind))]
        page(f"  changes      {', '.join(found) or 'none that are not committed'}")
    if status.size is not None:
        page(f"  size         {text.size(status.size)}")


# -- what is known of a task: its workspace, if it is there, and its last attempt, if one is recorded ------------------


def _manager(repo: str) -> GitManager:
    from moderator.git.manager import GitManager  # `list` has no need of most of it, and is asked again and again

    return GitManager(repo)


def _status_of(git: GitManager, task: str) -> WorkspaceStatus | None:
    try:
        return git.status(task, size=True)
    except UnknownWorkspace:
        return None


def _attempt_of(git: GitManager, task: str) -> AttemptRecord | None:
    store = _store(git.state_root)
    if store is None:
        return None
    with suppress(UnknownWorkspace):
        task = git.find(task).task_id  # also when the branch was given
    with store:
        attempts = store.attempts(task_id=task)
    return attempts[-1] if attempts else None


def _work(
    git: GitManager, task: str, status: WorkspaceStatus | None, attempt: AttemptRecord | None, commits: bool = True
) -> tuple[list[Change], list[Commit]]:
    if status is not None:
        return git.diff(task), git.log(task) if commits and status.ahead else []
    if attempt is not None and attempt.commit and attempt.base:
        try:
            return git.diff_between(attempt.base, attempt.commit), (
                git.log_between(attempt.base, attempt.commit) if commits else []
            )
        except UnknownRevision as problem:  # pruned with its branch; the rest can be shown all the same
            say_error(problem, "warning")
    return [], []


def _attempt_if_readable(git: GitManager, task: str) -> AttemptRecord | None:
    """Return the same, None after saying so where the record cannot be read: a workspace can be shown without it."""
    try:
        return _attempt_of(git, task)
    except StoreProblem as problem:
        say_error(problem, "warning")
        return None


def _last_attempts(state_root: str) -> dict[str, AttemptRecord]:
    try:
        store = _store(state_root)
        if store is None:
            return {}
        with store:
            return store.last_attempts()
    except StoreProblem as problem:
        say_error(problem, "warning")
        return {}


def _store(state_root: str) -> Store | None:
    from moderator.store import Store, history_file

    return Store.existing(history_file(state_root))


def _goes_on(git: GitManager, attempt: AttemptRecord) -> tuple[bool, AttemptRecord | None]:
    """Return whether an attempt is still being made, and the one at the same task that the run has made or makes after it."""
    store = _store(git.state_root)
    if store is None:
        return False, None
    with store:
        run = store.run(attempt.run_id)
        mine = [one for one in store.attempts(attempt.run_id, attempt.task_id) if one.attempt >= attempt.attempt]
    now = {one.attempt: one for one in mine}.get(attempt.attempt)
    following = min((one for one in mine if one.attempt > attempt.attempt), key=lambda one: one.attempt, default=None)
    going = now is not None and now.outcome is None and _state(run) == "running"
    return going, None if going else following


def _state(run: RunRecord) -> str:
    """Return a run's state; one that died without saying so was interrupted."""
    if run.state != "running":
        return run.state
    from moderator.git.leases import Owner, is_alive

    owner = Owner(run.host, run.boot_id, run.pid, int(run.process_started))
    return "running" if is_alive(owner) else "interrupted"


# -- how it is written -----------------------------------------------------------------------------------------------


def _changes(status: WorkspaceStatus) -> str:
    if status.operation:
        return status.operation
    if status.problem:
        return text.shortened(status.problem, 60)
    return {None: "?", 0: "clean"}.get(status.dirty, text.counted(status.dirty or 0, "file"))


def _outcome(attempt: AttemptRecord | None, status: WorkspaceStatus) -> str:
    if attempt is None:
        return "-"
    if attempt.outcome is None:
        return "running" if status.lease else "interrupted"
    return attempt.outcome if attempt.exit_code in (0, None) else f"{attempt.outcome} ({attempt.exit_code})"


def _attempt_outcome(attempt: AttemptRecord, status: WorkspaceStatus | None) -> str:
    if attempt.outcome is None:
        return "running" if status and status.lease else "interrupted before it ended"
    return attempt.outcome if attempt.exit_code is None else f"{attempt.outcome}, exit code {attempt.exit_code}"


def _outcome_word(attempt: AttemptRecord, status: WorkspaceStatus) -> str:
    return attempt.outcome or ("running" if status.lease else "interrupted")


def _described(status: WorkspaceStatus, attempt: AttemptRecord | None, standing: Standing | None) -> dict[str, Any]:
    return {
        **status.to_dict(),
        "state": stage_of(status, standing, attempt),
        "problem": status.problem
        or (standing.problem if standing and standing.is_of(status.created_at) else "")
        or None,
        "outcome": _outcome_word(attempt, status) if attempt else None,
        "run_id": attempt.run_id if attempt else None,
        "log": attempt.log if attempt else None,
    }


def _attempt(attempt: AttemptRecord) -> dict[str, Any]:
    return {**vars(replace(attempt)), "notes": list(attempt.notes)}


def _run(run: RunRecord) -> dict[str, Any]:
    return {**vars(run), "state": _state(run)}


def _commit(commit: Commit) -> dict[str, Any]:
    return {**vars(commit), "parents": list(commit.parents)}


def _change(change: Change) -> dict[str, Any]:
    return dict(vars(change))


def _change_lines(changes: list[Change]) -> list[str]:
    from moderator.git.contents import printable

    lines = []
    for change in changes:
        name = printable(change.path)
        if change.old_path:
            name = f"{printable(change.old_path)} -> {name}"
        counted = "binary" if change.added is None else f"+{change.added} -{change.removed}"
        lines.append((change.status, name, counted))
    return text.table(("", "", ""), lines)[1:] if lines else []


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _tail(log: str) -> list[str]:
    try:
        with opened(log) as file:
            file.seek(max(os.fstat(file.fileno()).st_size - 4096, 0))
            lines = file.read().decode("utf-8", "replace").splitlines()[-_TAIL:]
    except OSError:
        return []
    return [text.shortened(line, 110) for line in lines]
