"""What a project is made of -> the text of its first `moderator.yaml` and `tasks.yaml`.

Pure.  Every line that is not sure to fit stands there as a comment.
"""

from __future__ import annotations

from collections.abc import Iterator

from moderator.document import flow
from moderator.scaffolding.survey import Port, Project

MANY_FILES = 2000
"""Files from which a checkout takes long enough for spares to be worth their room."""
_MOST_PORTS = 10  # that a variable can have a name for: {port}, {port_1} to {port_9}
_CHECK = "import ast, sys; ast.parse(open(sys.argv[1], 'rb').read(), sys.argv[1])"
_MORE = (
    "",
    "# Some more of what can be set, with what holds if it is not:",
    "# gear3:",
    "#   parallel: {max_workers: 4, timeout: 3600}   # tasks at the same time; seconds for one task",
    "# keep: always                                  # whose workspaces stay: always, failed or never",
)
_SERVER = "# yaml-language-server: $schema="


def configuration(project: Project, schema: str) -> str:
    """Return the text of a configuration; `schema` is where the schema of one is."""
    return "\n".join([*_head(project, schema), *_settings(project), *_MORE]) + "\n"


def task_list(project: Project, base: str, schema: str) -> str:
    """Return the text of a list of tasks; `base` is the branch that is checked out."""
    return "\n".join(_tasks(project, base, schema)) + "\n"


def _head(project: Project, schema: str) -> Iterator[str]:
    languages = ", ".join(f"{name} ({count})" for name, count in project.languages[:4]) or "no language that is known"
    yield f"{_SERVER}{schema}"
    yield "# How tasks run in this repository. `moderator config` prints every setting, those that are not here too."
    yield f"# Found when this was written: {project.files} files; {languages}."


def _settings(project: Project) -> Iterator[str]:
    carried = [*project.env_files, *(f"{name}/" for name in project.present)]
    if carried:
        yield ""
        yield "# What git ignores and a workspace needs all the same: copied from this checkout."
        yield f"carry: {flow(carried)}"
    if project.managers:
        yield ""
        missing = [one for one in project.managers if one.makes not in project.present]
        yield "# What makes a new workspace ready before its task begins."
        if missing:
            yield f"setup: {flow([one.setup for one in missing])}"
        for one in project.managers:
            if one not in missing:
                yield f"# {one.makes} is carried; to make it anew in each workspace ({one.name}):  setup: {flow([one.setup])}"
    if project.submodules:
        yield ""
        yield "# This repository has submodules: check them out in workspaces too."
        if project.absent:
            yield f"# Not all of them are here ({', '.join(project.absent)}): git submodule update --init, and take the # away."
        yield f"{'# ' if project.absent else ''}submodules: true"
    if project.lfs:
        yield ""
        yield "# Large files are stored by git-lfs. For tasks that do not need them:"
        yield "# smudge: skip"
    if project.ports:
        yield from _ports(project.ports)
    if project.files >= MANY_FILES:
        yield ""
        yield "# A checkout of this size takes a while: keep spare ones ready, as many as there are cores."
        yield "pool: {size: auto}"


def _ports(ports: tuple[Port, ...]) -> Iterator[str]:
    named = [port for port in ports if port.variable][:_MOST_PORTS]
    fixed = [port for port in ports if port not in named]
    yield ""
    yield "# Ports that each running task has for itself, so that several can listen at the same time."
    for port in fixed:
        yield f"# {port.number} stands in {port.where}: let it be $MODERATOR_PORT, or another of the block, there."
    yield f"ports: {{count: {max(len(named), 1)}}}"
    if named:
        yield "env:"
        for number, port in enumerate(named):
            yield f'  {port.variable}: "{{port{f"_{number}" if number else ""}}}"  # {port.number} in {port.where}'


def _tasks(project: Project, base: str, schema: str) -> Iterator[str]:
    yield f"{_SERVER}{schema}"
    yield "# What is to be done: each task in a worktree and on a branch of its own."
    yield "#   moderator run tasks.yaml --dry-run    shows what would be done"
    yield "#   moderator run tasks.yaml              does it"
    yield f"# base: {flow(base)}   # what the tasks fork from; default: the branch that is checked out"
    yield "defaults: {timeout: 600}"
    yield "tasks:"
    if project.tests:
        off = "# " if project.missing else ""
        if off:
            yield f"  # Nothing that was found installs {project.missing}: let setup in moderator.yaml do it, and take the # away."
        yield f"  {off}- id: tests"
        yield f"  {off}  description: Run the tests"
        yield f"  {off}  run: {flow(project.tests)}"
        yield ""
    if project.patterns:
        yield "  # One task for each file of a pattern; put a command of yours in the place of this one, such as a formatter."
        yield "  - id: check"
        yield f"    description: {'Check that {item} can be parsed' if project.checkable else 'Count the lines of {item}'}"
        one = len(project.patterns) == 1
        yield f"    foreach: {flow(project.patterns[0] if one else {'files': list(project.patterns)})}"
        command = ["python3", "-c", _CHECK, "{item}"] if project.checkable else ["wc", "-l", "{item}"]
        yield f"    run: {flow(command)}"
        if any(one.makes not in project.present for one in project.managers):
            yield "    setup: 'true'  # this needs nothing installed; without this line, setup in moderator.yaml runs"
        yield ""
    if (not project.tests or project.missing) and not project.patterns:
        yield "  - id: status"
        yield "    description: Show what is checked out; put a command of yours in its place"
        yield "    run: git log -1 --stat"
        yield ""
    yield "  # Work for an agent, checked by a command (moderator backends shows who is there):"
    yield "  # - id: improve"
    yield "  #   prompt: Make the error messages say what to do."
    yield "  #   backend: claude_code"
    yield f"  #   verify: {flow(project.tests or 'true')}"
