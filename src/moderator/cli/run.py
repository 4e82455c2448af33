"""`moderator run`: tasks in, finished branches out, and what to type next."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from moderator.cli.options import configuration, json_option, repo_option, require_agreement
from moderator.cli.output import coloured, log_to_stderr, page, print_json, say
from moderator.cli.progress import progress_shown
from moderator.cli.resuming import fate, program, say_how_to_go_on, say_what_is_resumed
from moderator.cli.signals import handled
from moderator.cli.sources import RepositorySources
from moderator.cli.spending import Spent, spent_in
from moderator.cli.variants import Sizes, measured, verified
from moderator.config.settings import MOST_WORKERS
from moderator.context import IsolationLevel
from moderator.errors import ModeratorError, WorkspaceBusy, WorkspaceOccupied
from moderator.furnishing import Furnishing
from moderator.git.manager import GitManager
from moderator.interruption import code_of
from moderator.models import TaskResult
from moderator.orchestrator import Orchestrator, RunSummary
from moderator.plan import Plan, Start
from moderator.process import Cancellation
from moderator.reports import text
from moderator.reports.variants import Variant, side_by_side
from moderator.taskfile import read_tasks, tasks_of_command

_MEASURED = 50  # tasks up to which the table counts changed lines


@click.command("run")
@click.argument("tasks_file", metavar="[TASKS.yaml]", required=False)
@click.option("--cmd", metavar="CMD", help="Run this shell line instead of a file of tasks.")
@click.option(
    "--foreach",
    metavar="PATTERN",
    multiple=True,
    help="Run --cmd once for each tracked file that matches: {item} in it, $MODERATOR_ITEM in its environment.",
)
@click.option("--id", "task_id", metavar="ID", help="What the task of --cmd is called (default: after its program).")
@click.option("--base", metavar="REV", help="Branch, tag or commit to fork from (default: what is checked out).")
@click.option("-j", "--jobs", type=click.IntRange(1, MOST_WORKERS), help="How many tasks at once (default: 4).")
@click.option(
    "--isolation",
    type=click.Choice(["none", "directory", "branch", "full"], case_sensitive=False),
    help="How much of a task's surroundings is its own (default: full).",
)
@click.option("--timeout", type=float, metavar="SECONDS", help="Wall limit of a task that has none of its own.")
@click.option(
    "--keep", type=click.Choice(["always", "failed", "never"]), help="Whose workspaces stay (default: always)."
)
@click.option("--resume", is_flag=True, help="Continue the last run of this file; what is finished stays finished.")
@click.option(
    "--resume-setup",
    multiple=True,
    metavar="TASK",
    help="Resume, and repeat the set-up of TASK in its workspace as it is instead of in a new one; may be given again.",
)
@click.option("--fresh", is_flag=True, help="Start anew; what earlier runs left under the tasks' names is set aside.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Print the plan and make nothing; of all commands only those that print the lists of foreach run.",
)
@click.option("--progress", type=click.Choice(["auto", "live", "plain", "none"]), default="auto", show_default=True)
@click.option("--config", metavar="FILE", help="A configuration file that wins over the others.")
@json_option
@repo_option
def run_command(tasks_file: str | None, repo: str, as_json: bool, progress: str, dry_run: bool, **choices: Any) -> int:
    """Run the tasks of TASKS.yaml, or a command, each in its own workspace, and keep what they did."""
    from dataclasses import replace

    from moderator.errors import ConfigurationError

    _check_what_to_run(tasks_file, choices)
    if tasks_file is not None and not os.path.lexists(tasks_file):
        raise read_tasks(Path(tasks_file)).refusal()  # before anybody is asked to agree to anything
    log_to_stderr()
    git = GitManager(repo)
    config = configuration(git, choices["config"])
    timeout = choices["timeout"]
    if timeout is not None:
        if not 0 < timeout < float("inf"):
            raise ConfigurationError(f"--timeout must be positive, not {timeout:g}", hint="give seconds, such as 600")
        config = replace(config, parallel=replace(config.parallel, timeout=timeout))
    require_agreement(git, config, "backends" if dry_run else None)  # which a plan asks whether they are there
    cancellation = Cancellation()
    resuming = choices["resume"] or bool(choices["resume_setup"])
    orchestrator = Orchestrator(config, repo, cancellation=cancellation)
    # What came through a pipe is gone.
    source = os.path.realpath(tasks_file) if tasks_file and os.path.isfile(tasks_file) else ""
    last = orchestrator.last_run(source) if resuming and source else None
    # The lists of a run that goes on are those of the commit that it forked from.
    resumed = last.run.base_commit if last and last.run.state != "finished" else None
    sources = RepositorySources(git, choices["base"] or resumed)
    if tasks_file is None:
        listed = tasks_of_command(choices["cmd"], choices["foreach"], choices["task_id"], Path.cwd(), sources)
    else:
        listed = read_tasks(Path(tasks_file), sources)
    if not listed.tasks:
        raise listed.refusal()
    try:
        plan = orchestrator.plan(
            listed.tasks,
            base=choices["base"] or listed.base,
            level=choices["isolation"],
            workers=choices["jobs"],
            keep=choices["keep"],
            where=listed.where,
            source=source,
            resume=resuming,
            set_up_again=choices["resume_setup"],
            fresh=choices["fresh"],
        )
    except ModeratorError as error:
        if not listed.problems:
            if isinstance(error, WorkspaceOccupied):
                say_how_to_go_on(error, orchestrator, source, [task.id for task in listed.tasks])
            raise
        # Everything that is wrong at once: what the file says and what the plan says of the tasks that can be understood.
        raise listed.refusal(getattr(error, "problems", None) or [error.message]) from error
    if listed.problems:
        raise listed.refusal()
    if resuming:
        say_what_is_resumed(plan, listed.path, notes_only=as_json)
    if dry_run:
        _show_plan(plan, orchestrator.git.furnishing, as_json)
        return 0
    received: list[signal.Signals] = []
    with (
        handled(cancellation, received),
        progress_shown(progress, replace(plan, tasks=plan.to_run)) as callback,
    ):
        summary = orchestrator.carry_out(plan, callback, shlex.join(sys.argv))
    spent = spent_in(orchestrator.git, summary.run_id, summary.results)
    if as_json:
        print_json(
            {
                "run_id": summary.run_id,
                "interrupted": summary.interrupted,
                **vars(Spent.of(spent.values())),
                "results": [result.to_dict() for result in summary.results],
            }
        )
    else:
        _show_summary(summary, orchestrator.git, repo, spent)
    if summary.interrupted:
        return code_of(received)
    if summary.is_held:
        return WorkspaceBusy.exit_code
    return 0 if summary.success else 1


def _check_what_to_run(tasks_file: str | None, choices: Mapping[str, Any]) -> None:
    """Raise UsageError unless there is either a file of tasks or a command, with what belongs to it."""
    if tasks_file is not None:
        for option, given in (
            ("--cmd", choices["cmd"]),
            ("--foreach", choices["foreach"]),
            ("--id", choices["task_id"]),
        ):
            if given:
                raise click.UsageError(f"{option} stands beside {tasks_file!r}; give a file of tasks, or --cmd")
    elif choices["cmd"] is None:
        what = "--foreach needs a --cmd to run" if choices["foreach"] else "there is nothing to run"
        raise click.UsageError(f"{what}; name a file of tasks, or give --cmd 'COMMAND'")


def _show_plan(plan: Plan, common: Furnishing, as_json: bool) -> None:
    if as_json:
        document = plan.to_dict()
        for one, told in zip(plan.tasks, document["tasks"], strict=True):
            made = one.task.furnishing(common).render if plan.level.isolates_directory else ()
            told["render"] = [{"from": render.source, "to": render.target} for render in made]
        print_json({"plan": document})
        return
    page(
        f"{text.counted(len(plan.tasks), 'task')}, {plan.workers} at once, isolation {plan.level.value}, "
        f"from {plan.base_branch} {plan.base_commit[:12]}; workspaces are kept: {plan.keep}"
    )
    plain = all(one.start is Start.RUN and one.earlier is None for one in plan.tasks)
    agents = any(one.backend != "shell" for one in plan.tasks)
    rows = []
    for number, one in enumerate(plan.tasks, 1):
        run = one.task.run
        command = run if isinstance(run, str) else shlex.join(run or []) or one.task.prompt or one.task.description
        meant = () if plain else (fate(one),)
        who = (one.backend,) if agents else ()
        name = text.shortened(one.task.id, 32)
        rows.append((str(number), name, one.branch or "-", *who, *meant, text.shortened(command, 70)))
    heads = ("", "TASK", "BRANCH", *(("BACKEND",) if agents else ()), *(() if plain else ("WHAT HAPPENS",)))
    heads += ("COMMAND OR PROMPT" if agents else "COMMAND",)
    for line in text.table(heads, rows, right=(0,)):
        page(line)
    if plan.level.isolates_directory:
        for name in ("setup", "teardown"):
            each = [
                [c if isinstance(c, str) else shlex.join(c) for c in getattr(one.task, name)] for one in plan.to_run
            ]
            for line in dict.fromkeys("; ".join(commands) for commands in each if commands):
                page(f"{name}: {text.shortened(line, 110)}")
        each_made = [one.task.furnishing(common).render for one in plan.to_run]
        for render in dict.fromkeys(render for renders in each_made for render in renders):
            page(f"render: {text.one_line(render.source)} -> {text.one_line(render.target)}")
    page(f"workspaces in {os.path.join(plan.base_context.working_directory, 'tasks')}" if rows else "")


def _show_summary(summary: RunSummary, git: GitManager, repo: str, spent: Mapping[str, Spent]) -> None:
    results = summary.results
    rows = []
    wanted = results if len(results) <= _MEASURED else [result for result in results if result.task.variant_of]
    sizes = measured(git, ((result.base, result.commit) for result in wanted))
    for result in results:
        changed = ""
        if result.commit and result.base and len(results) <= _MEASURED:
            found = sizes.get((result.base, result.commit))
            changed = text.changed(*found) if found else "?"
        outcome = result.outcome.value if result.outcome else "?"
        rows.append(
            (
                "✓" if result.success else "✗",
                text.shortened(result.task.id, 32),
                outcome,
                text.duration(result.duration_seconds),
                changed or "-",
                text.shortened(result.error_message or result.branch or "", 70),
            )
        )
    lines = text.table(("", "TASK", "OUTCOME", "TOOK", "CHANGED", "BRANCH, OR WHY NOT"), rows, right=(3,))
    colour = coloured(sys.stderr)
    colours = ["bright_black", *("green" if result.success else "red" for result in results)]
    for line, fg in zip(lines, colours, strict=True):
        click.echo(click.style(line, fg=fg) if colour else line, err=True, color=True)
    told: dict[str, list[str]] = {}
    for result in results:
        for note in result.notes:
            told.setdefault(note, []).append(result.task.id)
    for note, names in told.items():
        say("note", text.one_line(f"{text.some(names)}: {note}"))
    _show_variants(results, sizes, spent)
    good = sum(result.success for result in results)
    ended = "interrupted" if summary.interrupted else "done"
    total = Spent.of(spent.values()).cost_usd
    cost = f", {text.cost(total)} by what the backends say" if total is not None else ""
    say(ended, f"{good} of {text.counted(len(results), 'task')} succeeded{cost} (run {summary.run_id})")
    _say_what_next(summary, repo)


def _show_variants(results: Sequence[TaskResult], sizes: Sizes, spent: Mapping[str, Spent]) -> None:
    """Show the variants of a task side by side."""
    groups: dict[str, list[TaskResult]] = {}
    for result in results:
        if result.task.variant_of:
            groups.setdefault(result.task.variant_of, []).append(result)
    for of, variants in groups.items():
        click.echo(f"variants of {text.one_line(of)}:", err=True)
        rows = [_variant(result, sizes, spent.get(result.task.id, Spent())) for result in variants]
        for line in side_by_side(rows):
            click.echo(f"  {line}", err=True)
        pick = next((result for result in variants if result.success), variants[0])
        click.echo(f"  keep one: {program()} pick {shlex.quote(pick.task.id)}", err=True)


def _variant(result: TaskResult, sizes: Sizes, spent: Spent) -> Variant:
    outcome = result.outcome.value if result.outcome else "?"
    return Variant(
        result.task.id,
        result.backend,
        outcome,
        verified(outcome, result.task.verify is not None),
        sizes.get((result.base, result.commit)),
        result.duration_seconds,
        spent.cost_usd,
    )


def _say_what_next(summary: RunSummary, repo: str) -> None:
    ran = [result for result in summary.results if result.path]
    if not ran:
        return
    failed = next((result for result in summary.results if not result.success), ran[0])
    worked = next((result for result in ran if result.commit), ran[0])
    # As it was called, and for the repository it was called for, so that the lines can be pasted.
    called = program()
    where = "" if repo == "." else f" --repo {shlex.quote(repo)}"
    lines = [
        (f"{called} list{where}", "what is in every workspace"),
        (f"{called} show {shlex.quote(failed.task.id)}{where}", "how that task ended, and what it printed last"),
        (f"{called} diff {shlex.quote(worked.task.id)}{where}", "what that task changed"),
    ]
    if summary.plan.level is IsolationLevel.NONE:  # the work is in the checkout, in no workspace
        lines = [
            (f"git -C {shlex.quote(summary.plan.base_context.working_directory)} diff", "what the tasks changed"),
            lines[1],
            (f"{called} history {summary.run_id}{where}", "how each of them ended"),
        ]
    click.echo("next:", err=True)
    for line in text.table(("", ""), lines)[1:]:
        click.echo(f"  {line if line.isprintable() else text.one_line(line)}", err=True)
