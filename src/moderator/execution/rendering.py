"""What files of a workspace are made of: their templates, filled in with what the task's commands find in their environment.

Before a task and its set-up begin, and again before a person's command: whoever runs in a workspace has other ports than who ran
there before, and what he reads in a file had better be what stands in his environment.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from moderator.document import did_you_mean
from moderator.errors import ConfigurationError
from moderator.expanding.filling import OUR_VARIABLES, variable_of
from moderator.furnishing import Render
from moderator.git.contents import printable
from moderator.git.manager import GitManager
from moderator.git.rendering import Template
from moderator.git.values import Workspace
from moderator.models import ENV_PLACEHOLDERS, Task
from moderator.templates import fill_marks, marks_in

_MATRIX = OUR_VARIABLES[1]
_OF_THE_ATTEMPT = ("MODERATOR_RUN", "MODERATOR_ATTEMPT", "MODERATOR_PORT_COUNT")
_OF_LINES = r"[\r\n\0]"
TO_MEND = "correct the template, or take it out of render"
_TOLD = 5  # faults of one template that are named
_BARE = rb"(?<![$\\{])\{(" + b"|".join(name.encode() for name in ENV_PLACEHOLDERS) + rb")\}(?!\})"


def mark_of(placeholder: str) -> str:
    """Return the name that a placeholder of `env` has in a file.

    >>> mark_of("port_1")
    'MODERATOR_PORT_1'
    """
    return f"MODERATOR_{placeholder.upper()}"


def marks_of(placeholders: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """Return what can be filled into files: the placeholders of `env`, and of an environment what is the task's own."""
    own = {
        name: value
        for name, value in environment.items()
        if name in _OF_THE_ATTEMPT or name == OUR_VARIABLES[0] or name.startswith(_MATRIX)
    }
    return {**own, **{mark_of(name): value for name, value in placeholders.items()}}


def faults_before(
    git: GitManager, commit: str, wanted: Sequence[Render], tasks: Sequence[Task], ports: int
) -> list[str]:
    """Return a sentence for everything in the templates that cannot be filled in for these tasks, with so many ports each.

    As far as it can be known before a workspace is made.  Raises what `GitManager.templates_at` does.
    """
    templates = git.templates_at(commit, wanted)
    kinds: dict[frozenset[tuple[str, str]], None] = {}
    for task in tasks if templates else ():  # of many values of one name one is as good as another
        values = {variable_of(name): value for name, value in task.values.items()}
        kinds[frozenset((name, value if re.search(_OF_LINES, value) else "") for name, value in values.items())] = None
    found: dict[str, None] = {}
    for kind in kinds:
        values = dict(kind)
        for template in templates:
            found |= dict.fromkeys(_faults_of(template, values.keys() | _always(ports), ports, values))
    return list(found)


def render(
    git: GitManager,
    workspace: Workspace,
    wanted: Sequence[Render],
    marks: Mapping[str, str],
    ports: int,
    values: Mapping[str, str],
    as_made: bool = False,
) -> list[str]:
    """Write the files into a workspace in which nobody works; return the paths of those that were left as they are.

    These are files that we have not written, or that somebody has changed.  `values` are what the task is made for, `as_made` is as
    for `GitManager.write_rendered`.  Raises ConfigurationError for a template that cannot be filled in, and what that does.
    """
    files = []
    for template in git.templates_in(workspace, wanted):
        if faults := _faults_of(template, marks, ports, marks):
            raise ConfigurationError("; ".join(faults), hint=TO_MEND)
        filled = fill_marks(template.content, {name: os.fsencode(value) for name, value in marks.items()})
        files.append(replace(template, content=filled))
    memo = json.dumps({"render": [[one.source, one.target] for one in wanted], "values": dict(values)})
    return git.write_rendered(workspace, files, memo, as_made)


def rendered_before(git: GitManager, workspace: Workspace) -> tuple[list[Render], dict[str, str]] | None:
    """Return what was rendered in a workspace, and for which values; None if nothing was."""
    if not (memo := git.rendered_in(workspace)):
        return None
    found = json.loads(memo)
    return [Render(source, target) for source, target in found["render"]], found["values"]


def faults_in(
    content: bytes, there: Collection[str], ports: int, values: Mapping[str, str] | None = None
) -> Iterator[tuple[int, str]]:
    """Yield the line of everything that is wrong with a template, and a sentence.

    `there` are the names that something stands for, `values` what it is where that is known.
    """
    every = {mark_of(name) for name in ENV_PLACEHOLDERS} | {*_OF_THE_ATTEMPT, OUR_VARIABLES[0]}
    any_there = False
    for mark in marks_in(content):
        any_there = True
        if not mark.name:
            yield (
                mark.line,
                "this cannot be read; write ${MODERATOR_NAME}, or ${MODERATOR_NAME:-TEXT} with a text without braces",
            )
        elif mark.name not in every and not mark.name.startswith(_MATRIX):
            near = did_you_mean(
                mark.name, every, "; see what env can hold, each with MODERATOR_ before it, in capitals"
            )
            yield mark.line, f"nothing is called ${{{mark.name}}}{near}"
        elif mark.name not in there and mark.otherwise is None:
            otherwise = f"write ${{{mark.name}:-TEXT}} with what stands there without it"
            if mark.name.startswith("MODERATOR_PORT"):
                yield (
                    mark.line,
                    f"there is no ${{{mark.name}}}, for tasks are given {ports} ports; set ports: {{count: ...}}, or {otherwise}",
                )
            else:
                yield mark.line, f"there is no ${{{mark.name}}} for every task; {otherwise}"
        elif values is not None and re.search(_OF_LINES, values.get(mark.name, "")):
            yield mark.line, f"the value of ${{{mark.name}}} has several lines, which would be other lines of the file"
    if not any_there and (bare := re.search(_BARE, content)):
        name = bare[1].decode()
        line = content.count(b"\n", 0, bare.start()) + 1
        yield line, f"{{{name}}} is filled in in env, not in files; write ${{{mark_of(name)}}}"


def _always(ports: int) -> set[str]:
    """Return the names that something stands for in every task that is given so many ports."""
    none = {"port", *(name for name in ENV_PLACEHOLDERS if name.startswith("port_"))} - set(_port_names(ports))
    return {mark_of(name) for name in ENV_PLACEHOLDERS if name not in none} | {
        name for name in _OF_THE_ATTEMPT if ports or name != "MODERATOR_PORT_COUNT"
    }


def _port_names(ports: int) -> list[str]:
    return [f"port_{number}" if number else "port" for number in range(ports)]


def _faults_of(template: Template, there: Collection[str], ports: int, values: Mapping[str, str] | None) -> list[str]:
    faults = faults_in(template.content, there, ports, values)
    found = [f"{printable(template.render.source)}:{line}: {sentence}" for line, sentence in faults]
    return found if len(found) <= _TOLD else [*found[:_TOLD], f"and {len(found) - _TOLD} more in that file"]
