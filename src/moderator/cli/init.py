"""`moderator init`: a first configuration and list of tasks that fit the repository, never in the place of anything."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import click

from moderator.cli.options import json_option, repo_option
from moderator.cli.output import page, print_json, say
from moderator.errors import UsageError, WorkspaceOccupied
from moderator.git.manager import GitManager

CONFIGURATION, TASKS = "moderator.yaml", "tasks.yaml"


@click.command("init")
@click.option("--stdout", "only_show", is_flag=True, help="Print what would be written, and write nothing.")
@click.option("--dry-run", "only_show", is_flag=True, help="The same.")
@json_option
@repo_option
def init_command(only_show: bool, as_json: bool, repo: str) -> None:
    """Look at the project and write a moderator.yaml and a tasks.yaml that fit it, at the top of the repository."""
    from moderator.config import load_config

    git = GitManager(repo)
    top = git.main_worktree
    if top is None:
        raise UsageError(
            "a bare repository has no checkout in which the files could stand",
            hint="make a clone with a checkout and type it there, or name a configuration with --config when you run",
        )
    texts = _texts(git, top)
    if only_show:
        _show(texts, as_json)
        return
    there = [name for name in texts if os.path.lexists(os.path.join(top, name))]
    if there:
        raise WorkspaceOccupied(
            f"{' and '.join(map(repr, there))} {'is' if len(there) == 1 else 'are'} there already in {top!r}; "
            "nothing was written",
            hint="moderator init --stdout shows what would be written",
        )
    _write_schemas(git)
    for name, text in texts.items():
        _write_new(Path(top, name), text)
    written = [os.path.join(top, name) for name in texts]
    own = Path(top, CONFIGURATION)
    to_type = ["moderator trust"] if load_config([own], guest=own).asked_by_guest else []
    to_type += [f"moderator run {TASKS} --dry-run", f"moderator run {TASKS}"]
    if as_json:
        print_json({"written": written, "next": to_type})
        return
    for path in written:
        say("wrote", path)
    say("next", "look at both, and type")
    for line in to_type:
        click.echo(f"  {line}", err=True)


def _texts(git: GitManager, top: str) -> dict[str, str]:
    from moderator.scaffolding.survey import survey
    from moderator.scaffolding.writing import configuration, task_list

    base = git.resolve_base()
    project = survey(top, git.files_at(), git.ignored_entries())
    schemas = os.path.relpath(_schemas(git), top)
    return {
        CONFIGURATION: configuration(project, os.path.join(schemas, CONFIGURATION + ".json")),
        TASKS: task_list(project, base.name, os.path.join(schemas, TASKS + ".json")),
    }


def _show(texts: dict[str, str], as_json: bool) -> None:
    if as_json:
        print_json({"would_write": texts})
        return
    for name, text in texts.items():
        page(f"# ---- {name}\n{text}")


def _schemas(git: GitManager) -> str:
    """Return the directory that an editor finds the schemas in: inside the git directory, so that none is ever committed."""
    return os.path.join(git.state_root, "schemas")


def _write_schemas(git: GitManager) -> None:
    from moderator.config.describing import config_schema
    from moderator.taskschema import task_schema

    folder = Path(_schemas(git))
    folder.mkdir(parents=True, exist_ok=True)
    for name, schema in ((CONFIGURATION, config_schema()), (TASKS, task_schema())):
        _write_whole(folder / f"{name}.json", json.dumps(schema, indent=2) + "\n", os.replace)


def _write_new(path: Path, text: str) -> None:
    """Write a file whole; raise WorkspaceOccupied if there is one of that name by now."""
    try:
        _write_whole(path, text, os.link)
    except FileExistsError as error:
        raise WorkspaceOccupied(
            f"{str(path)!r} was made by somebody else meanwhile; it is left as it is",
            hint="moderator init --stdout shows what would be written",
        ) from error


def _write_whole(path: Path, text: str, publish: Callable[[Path, Path], None]) -> None:
    aside = path.with_name(f".{path.name}-{os.urandom(6).hex()}")
    try:
        with open(aside, "x", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        publish(aside, path)
    finally:
        aside.unlink(missing_ok=True)
