"""`moderator backends` and `moderator route`: what could do tasks here, and which task goes where, and why.

Nothing is run for a task; programs are asked for their version and whether they are logged in, nothing else; what prints a list
of tasks is executed only if that is asked for.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from moderator.cli.options import configuration, json_option, repo_option, require_agreement
from moderator.cli.output import log_to_stderr, page, paint, print_json, say_error
from moderator.errors import BackendUnavailable, ConfigurationError
from moderator.git.manager import GitManager
from moderator.reports import text

if TYPE_CHECKING:
    from moderator.backends.probing import Availability
    from moderator.models import Task
    from moderator.routing import BackendRouter

_AT_ONCE = 8  # programs asked at the same time: each takes up to a few seconds, and waits for most of them


@click.command("backends")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--config", metavar="FILE", help="A configuration file that wins over the others.")
@json_option
@repo_option
def backends_command(names: tuple[str, ...], config: str | None, as_json: bool, repo: str) -> None:
    """Show what can do tasks: found, version, logged in, how many at once, and why not."""
    router = _router(repo, config)
    wanted = list(dict.fromkeys(names)) or router.names
    for name in wanted:
        router.backend(name)  # refuses one that nobody has
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = dict(zip(wanted, pool.map(router.availability, wanted), strict=True))
    default, rules = router.rows
    if as_json:
        documents = [_document(name, known, router.limit_of(name)) for name, known in found.items()]
        print_json(
            {"backends": documents, "default_backend": list(default), "rules": {kind: list(row) for kind, row in rules}}
        )
        return
    rows = [_row(name, known, router.limit_of(name)) for name, known in found.items()]
    lines = text.table(("BACKEND", "USABLE", "VERSION", "LOGGED IN", "LIMIT", "WHERE, OR WHY NOT"), rows)
    page(paint(lines[0], "bright_black"))
    for line, known in zip(lines[1:], found.values(), strict=True):
        page(paint(line, "green" if known.usable else "bright_black"))
    if not names:
        page(f"who does what: {'; '.join(_said_of(rules, default))}")


@click.command("route")
@click.argument("tasks_file", metavar="TASKS.yaml")
@click.option("--lists", is_flag=True, help="Execute the commands of foreach, which print what there is a task for.")
@click.option("--config", metavar="FILE", help="A configuration file that wins over the others.")
@json_option
@repo_option
def route_command(tasks_file: str, lists: bool, config: str | None, as_json: bool, repo: str) -> int:
    """Show which backend each task of TASKS.yaml goes to, and which rule says so; runs no task, and no list's command unasked."""
    from moderator.cli.sources import RepositorySources
    from moderator.taskfile import read_tasks

    log_to_stderr()
    router = _router(repo, config)
    listed = read_tasks(Path(tasks_file), RepositorySources(GitManager(repo), executing=lists))
    problems: list[str] = []
    documents = []
    missing: list[BackendUnavailable] = []
    for index, task in enumerate(listed.tasks):
        try:
            documents.append(_routed(router, task, missing))
        except ConfigurationError as problem:
            problems.append(f"{listed.where(index)}: {problem.message}")
    if listed.problems or problems or not listed.tasks:
        raise listed.refusal(problems)
    if as_json:
        print_json({"tasks": documents})
    else:
        rows = [
            (
                text.shortened(one["task_id"], 32),
                one["backend"] or "-",
                one["kind"],
                one["row"],
                text.shortened(one["because"], 40),
                ", ".join(one["backends"][1:]) or "-",
            )
            for one in documents
        ]
        for line in text.table(("TASK", "BACKEND", "KIND", "ROW", "BECAUSE OF", "THEN"), rows):
            page(line)
    for error in {error.findings: error for error in missing}.values():
        say_error(error)
    return BackendUnavailable.exit_code if missing else 0


def _router(repo: str, config: str | None) -> BackendRouter:
    from moderator.routing import BackendRouter

    git = GitManager(repo)
    settings = configuration(git, config)
    require_agreement(git, settings, "backends")  # to see whether they are there, they are started
    return BackendRouter(settings, cache=Path(git.state_root, "programs.json"))


def _row(name: str, known: Availability, limit: int | None) -> tuple[str, ...]:
    logged_in = {True: "yes", False: "no", None: "-"}[known.logged_in]
    where = known.path or "-"
    if not known.usable:
        where = known.problem + (f"; {known.hint}" if known.hint else "")
    return (
        text.one_line(name),
        "yes" if known.usable else "no",
        text.one_line(known.version or "-"),
        logged_in,
        "-" if limit is None else str(limit),
        text.one_line(where),
    )


def _document(name: str, known: Availability, limit: int | None) -> dict[str, Any]:
    return {"name": name, **vars(known), "usable": known.usable, "limit": limit}


def _said_of(rules: list[tuple[str, tuple[str, ...]]], default: tuple[str, ...]) -> list[str]:
    return [*(f"{kind} -> {', '.join(row)}" for kind, row in rules), f"all else -> {', '.join(default)}"]


def _routed(router: BackendRouter, task: Task, missing: list[BackendUnavailable]) -> dict[str, Any]:
    route = router.route(task)
    chosen = None
    try:
        chosen = router.candidates(task)[0].name
    except BackendUnavailable as error:
        missing.append(error)
    return {
        "task_id": task.id,
        "backend": chosen,
        "kind": route.kind,
        "because": route.because,
        "row": route.row,
        "backends": list(route.backends),
    }
