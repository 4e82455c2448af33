"""`moderator exec`: a person's own command in the workspaces of tasks, with the environment that the tasks get."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from moderator.cli.options import json_option, opened, repo_option, require_agreement, selection_options
from moderator.cli.output import coloured, print_json, say, say_notes
from moderator.config.settings import MOST_WORKERS
from moderator.errors import UsageError, WorkspaceBusy
from moderator.opening import opened as opened_file
from moderator.reports import text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moderator.config import Config
    from moderator.execution.visiting import Visit, Visitor
    from moderator.git.values import Workspace

_COMMAND = "moderator.exec.command"


class _BeforeACommand(click.Command):
    """A command of ours that ends with "--" and one of somebody else's, whose words are nobody's options here.

    Where "--" stands first of all, tasks follow whose ids begin with a dash, then a second one.
    """

    takes_command = True

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = next((place for place, word in enumerate(args) if word == "--" and place > 0), len(args))
        ctx.meta[_COMMAND] = args[end + 1 :]
        return super().parse_args(ctx, args[:end])

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "-- COMMAND..."]


@click.command("exec", cls=_BeforeACommand)
@click.argument("tasks", nargs=-1, metavar="[TASK]...")
@selection_options
@click.option("-j", "--jobs", type=click.IntRange(1, MOST_WORKERS), help="How many at once (default: 4).")
@click.option("--output", metavar="DIR", help="Put what it prints into a file for each task in this new directory.")
@click.option("--shared", is_flag=True, help="Also where a run is at work: for what only reads. Holds no workspace.")
@json_option
@repo_option
@click.pass_context
def exec_command(
    ctx: click.Context,
    /,
    tasks: tuple[str, ...],
    jobs: int | None,
    output: str | None,
    shared: bool,
    as_json: bool,
    repo: str,
    **choices: Any,
) -> int:
    """Run COMMAND in TASK's workspace: no shell is involved, and the environment is that of tasks.

    With one TASK the command has this terminal, and its exit code is passed on (128 and the signal's number if one ended it).
    With several, or those for which the options hold together, it runs in all of them, and each line it prints follows the
    task's name; the exit code is 1 if it failed in one.  While it runs nobody else gets the workspaces, and nobody removes them.
    """
    from moderator.cleaning import select

    command: list[str] = ctx.meta[_COMMAND]
    if not command:
        raise UsageError("no command is given", hint="moderator exec TASK -- COMMAND...")
    selection = select(tasks, **choices, command="exec")
    if selection.is_empty:
        raise UsageError(
            "say in which workspaces: name them, or say what holds for them",
            hint=f"moderator exec TASK... -- {shlex.join(command)}, or moderator exec --all -- ...",
        )
    git, config = opened(repo)
    from moderator.execution.visiting import Visitor

    for setting in ("env", "render"):
        require_agreement(git, config, setting)
    visitor = Visitor(git, os.environ, shared, config)
    if len(tasks) == 1 and jobs is None and output is None and not as_json:
        code, why_not = visitor.attend(git.find(tasks[0]), command)
        if why_not:
            say("error", why_not, "red")
        say_notes(visitor.notes)
        return code
    if tasks:  # all names are looked up first, so that a misspelt one starts nothing
        workspaces = list({one.task_id: one for one in map(git.find, tasks)}.values())
    else:
        from moderator.cleaning import Quotas
        from moderator.cli.clean_facts import decided

        workspaces = git.workspaces()
        answers = git.merged(workspaces) if selection.merged else {}
        decisions, _ = decided(git, workspaces, answers, selection, Quotas())
        workspaces = [one for one, decision in zip(workspaces, decisions, strict=True) if decision.remove]
    return _in_each(visitor, config, workspaces, command, jobs, output, as_json)


def _in_each(
    visitor: Visitor,
    config: Config,
    workspaces: Sequence[Workspace],
    command: Sequence[str],
    jobs: int | None,
    output: str | None,
    as_json: bool,
) -> int:
    from moderator.cli.signals import handled
    from moderator.interruption import code_of
    from moderator.process import Cancellation

    cancellation, received = Cancellation(), list[signal.Signals]()
    done: dict[str, Visit] = {}
    with _logs(output) as logs, handled(cancellation, received):
        visits = visitor.visit(
            workspaces, command, jobs=jobs or config.parallel.max_workers, logs=logs, grace=config.grace,
            cancellation=cancellation,
        )  # fmt: skip
        try:
            for visit in visits:
                done[visit.workspace.task_id] = visit
                if not as_json and output is None:
                    _print_prefixed(visit)
        except BaseException:  # whoever read our output has gone, say: the others need not run to their ends
            cancellation.cancel()
            raise
    in_order = [done[one.task_id] for one in workspaces]
    if as_json:
        kept = output is not None
        print_json({"command": list(command), "results": [_document(visit, kept) for visit in in_order]})
    else:
        _say_table(in_order, output)
    say_notes(visitor.notes)
    if received:
        return code_of(received)
    if in_order and all(visit.is_held for visit in in_order):
        return WorkspaceBusy.exit_code
    return 0 if all(visit.success for visit in in_order) else 1


@contextlib.contextmanager
def _logs(output: str | None) -> Iterator[Path]:
    """Give the folder that what is printed goes into; without one that was asked for, it is there until the end of the `with`."""
    if output is None:
        with tempfile.TemporaryDirectory(prefix="moderator-") as folder:
            yield Path(folder)
        return
    try:
        os.makedirs(output)
    except FileExistsError:
        if not os.path.isdir(output) or os.listdir(output):
            raise UsageError(f"{output!r} is there already, and not empty", hint="name a new directory") from None
    except OSError as error:
        raise UsageError(
            f"the directory {output!r} cannot be made: {error.strerror}", hint="name one in a place where you may write"
        ) from error
    yield Path(output)


def _print_prefixed(visit: Visit) -> None:
    prefix = f"{text.one_line(visit.workspace.task_id)} | ".encode("utf-8", "backslashreplace")
    sys.stdout.flush()
    with contextlib.suppress(FileNotFoundError), opened_file(visit.log) as printed:
        for line in printed:
            sys.stdout.buffer.write(prefix + line.removesuffix(b"\n") + b"\n")
    sys.stdout.buffer.flush()


def _say_table(visits: Sequence[Visit], output: str | None) -> None:
    if not visits:
        say("none", "there is no workspace of which that holds")
        return
    rows = [
        (
            "✓" if visit.success else "✗",
            text.shortened(visit.workspace.task_id, 32),
            "-" if visit.exit_code is None else str(visit.exit_code),
            text.duration(visit.ended.duration_seconds if visit.ended else None),
            text.shortened(visit.reason, 70) or (str(visit.log) if output else ""),
        )
        for visit in visits
    ]
    lines = text.table(
        ("", "TASK", "EXIT CODE", "TOOK", "OUTPUT, OR WHY NOT" if output else "WHY NOT"), rows, right=(2, 3)
    )
    colour = coloured(sys.stderr)
    colours = ["bright_black", *("green" if visit.success else "red" for visit in visits)]
    for line, fg in zip(lines, colours, strict=True):
        click.echo(click.style(line, fg=fg) if colour else line, err=True, color=True)


def _document(visit: Visit, kept: bool) -> dict[str, Any]:
    ended = visit.ended
    return {
        "task_id": visit.workspace.task_id,
        "path": visit.workspace.path,
        "branch": visit.workspace.branch,
        "success": visit.success,
        "exit_code": visit.exit_code,
        "ending": ended.ending.value if ended else None,
        "reason": visit.reason or None,
        "duration_seconds": ended.duration_seconds if ended else None,
        "stdout": ended.stdout if ended else "",
        "stderr": ended.stderr if ended else "",
        "log": str(visit.log) if kept else None,
    }
