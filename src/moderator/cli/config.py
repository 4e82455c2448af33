"""`moderator config`: the settings that hold here, where each comes from, and the schemas of what people write."""

from __future__ import annotations

from typing import Any

import click

from moderator.cli.options import configuration_files, guest_file, json_option, repo_option
from moderator.cli.output import page, print_json

_FLAGS = {
    "jobs": ("gear3", "parallel", "max_workers"),
    "timeout": ("gear3", "parallel", "timeout"),
    "isolation": ("gear3", "parallel", "isolation_level"),
    "keep": ("keep",),
}
"""Options of `moderator run` that take the place of a setting."""


@click.command("config")
@click.option("--show-origin", is_flag=True, help="Say of every value where it comes from.")
@click.option(
    "--schema",
    type=click.Choice(["config", "tasks"]),
    is_flag=False,
    flag_value="config",
    help="Print the JSON Schema of moderator.yaml, or of a list of tasks, instead.",
)
@click.option("--config", metavar="FILE", help="A configuration file that wins over the others.")
@click.option("-j", "--jobs", type=int, help="As for run; likewise the next three.")
@click.option("--isolation", metavar="LEVEL")
@click.option("--timeout", type=float, metavar="SECONDS")
@click.option("--keep", metavar="WHEN")
@json_option
@repo_option
def config_command(
    show_origin: bool, schema: str | None, config: str | None, as_json: bool, repo: str, **flags: Any
) -> None:
    """Print the settings that hold in this repository as YAML, every one of them."""
    if schema:
        _print_schema(schema)
        return
    from moderator.config.effective import as_mapping
    from moderator.config.loading import config_from_mapping, load_with_origins
    from moderator.git.manager import GitManager
    from moderator.reports.settings import yaml_lines

    git = GitManager(repo)
    files = configuration_files(git, config)
    loaded, set_in = load_with_origins([path for path, _ in files], guest_file(git))
    named = {str(path): f" ({how})" for path, how in files if how}
    origins = {path: where + named.get(where.rpartition(":")[0], "") for path, where in set_in.items()}
    settings = as_mapping(loaded)
    for option, path in _FLAGS.items():
        if flags[option] is not None:
            given: dict[str, Any] = {}
            _put(given, path, flags[option])
            checked: Any = as_mapping(config_from_mapping(given, f"--{option}"))  # refuses what a file could not say
            for key in path:
                checked = checked[key]
            _put(settings, path, checked)
            origins[path] = f"--{option}"

    def origin(path: tuple[str, ...]) -> str:
        return origins.get(path) or ("what it extends" if path[0] == "backends" and len(path) > 1 else "default")

    if as_json:
        document: dict[str, Any] = {"config": settings, "files": [str(path) for path, _ in files]}
        if show_origin:
            document["origins"] = {".".join(path): origin(path) for path in _leaves(settings)}
        print_json(document)
        return
    for line in yaml_lines(settings, origin if show_origin else lambda _: ""):
        page(line)


def _print_schema(which: str) -> None:
    import json

    from moderator.config.describing import config_schema
    from moderator.taskschema import task_schema

    page(json.dumps(config_schema() if which == "config" else task_schema(), indent=2))


def _put(settings: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        settings = settings.setdefault(key, {})
    settings[path[-1]] = value


def _leaves(settings: dict[str, Any], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for key, value in settings.items():
        found += _leaves(value, (*above, key)) if isinstance(value, dict) and value else [(*above, key)]
    return found
