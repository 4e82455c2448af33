"""A file written by hand -> tasks, with everything that is wrong with it at once.

Texts are taken as they are written: the id `001`, the command `true` and the value `1.10` need no quotes.
A task with `matrix` or `foreach` stands for many (`expanding`).  Must not know a repository, contexts or a plan: that two ids
would share a name is the plan's to say, and `where` gives it the line.
"""

from __future__ import annotations

import copy
import math
import os
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from moderator.document import (
    Complaints,
    Document,
    ListNode,
    MappingNode,
    Node,
    Place,
    ScalarNode,
    choice_of,
    complain_of,
    flag_of,
    is_null,
    mismatch,
    opened,
    plain_value,
    quoted,
    read_document,
    text_of,
    texts_of,
    unknown_key,
)
from moderator.errors import InvalidTaskId, PlanError
from moderator.expanding.copies import KEYS as EXPANDING
from moderator.expanding.copies import Copy, Surroundings, copies, names_of, read_combinations
from moderator.expanding.items import MOST_TASKS, Sources
from moderator.expanding.labels import combination_hash, label
from moderator.furnishing import CARRY_WAYS, SMUDGE_CHOICES, Carry, Render, fault_in_path, fault_in_rendering, named_by
from moderator.models import ENV_PLACEHOLDERS, Command, Task
from moderator.naming import task_slug
from moderator.templates import faults_of, names_in

EXAMPLE = "tasks: [{id: task_001, run: make test}]"
_LONGEST_PROMPT = 1024 * 1024  # bytes of a prompt's file
MOST_ATTEMPTS = 20
MOST_VARIANTS = 32
OUR_OPTION = "--cmd"
"""What the list is called that the command line itself is."""
OUR_VARIABLES = "MODERATOR_"
"""How the names of the environment variables begin that every task is given."""


@dataclass(frozen=True)
class TaskFile:
    """The tasks of a file, in its order.

    `base` is the branch, tag or commit they fork from, None if the file names none; `lines` has each task's.  `problems` is
    everything that is wrong with the file; the tasks are then those that can be understood.
    """

    path: str
    base: str | None
    tasks: tuple[Task, ...]
    lines: tuple[int, ...]
    problems: tuple[str, ...] = ()
    hint: str = ""

    def where(self, index: int) -> str:
        """Return where the task of that index begins: `tasks.yaml:12`, or its id where no file has it."""
        return f"{self.path}:{self.lines[index]}" if self.lines[index] else self.tasks[index].id

    def refusal(self, more: Sequence[str] = ()) -> PlanError:
        """Return the error with every problem of the file, and `more` that others found in its tasks."""
        problems = [*self.problems, *more]
        count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
        what = "this command" if self.path == OUR_OPTION else f"the task list {self.path!r}"
        return PlanError(f"{what} has {count}", problems, self.hint)


def load_tasks(path: Path, sources: Sources | None = None) -> TaskFile:
    """Read a task list.

    `sources` looks up what `foreach` names in a repository; without it such a task is a problem.

    Raises PlanError with every problem of the file, each with its line and column; a file that is not there or has no tasks
    is a problem too.
    """
    listed = read_tasks(path, sources)
    if listed.problems:
        raise listed.refusal()
    return listed


def read_tasks(path: Path, sources: Sources | None = None) -> TaskFile:
    """Read a task list with its problems, for whoever wants to tell them together with others."""
    return _read(read_document(path), Path(os.path.abspath(path)).parent, sources)


def tasks_of_command(
    run: str, patterns: Sequence[str], task_id: str | None, folder: Path, sources: Sources | None = None
) -> TaskFile:
    """Return the list of a single task that runs a command, or one for each file that the patterns mean.

    Without an id it is named after the command's program, with a hash of the whole, so that another command is another task.
    """
    nowhere = Place(0, 0)  # complaints of it have no line

    def text(value: str) -> Node:
        return ScalarNode(nowhere, 1, value, plain=False)

    def mapping(**entries: Node) -> MappingNode:
        return MappingNode(
            nowhere, 1, {key: (ScalarNode(nowhere, 1, key, True), node) for key, node in entries.items()}
        )

    program = os.path.basename(run.split()[0]) if run.strip() else "task"
    named = label(program) if program == run else f"{label(program)}-{combination_hash({'run': run})}"
    task = {"id": text(task_id or named), "run": text(run)}
    if patterns:
        task["foreach"] = mapping(files=ListNode(nowhere, 1, tuple(map(text, patterns))))
    root = mapping(tasks=ListNode(nowhere, 1, (mapping(**task),)))
    return _read(Document(OUR_OPTION, root, Complaints(OUR_OPTION)), folder, sources)


def _read(document: Document, folder: Path, sources: Sources | None) -> TaskFile:
    complaints = document.complaints
    readable = document.root is not None or not complaints
    root = _root(document.root, complaints) if readable else None
    nodes = _list_of_tasks(root, complaints) if root else ()
    base = _base(root, complaints) if root else None
    defaults = _defaults(root, complaints, folder) if root else {}
    common = _variables_in(root.get("defaults") if root else None)
    tasks = _tasks(nodes, defaults, common, complaints, Surroundings(folder, base, sources))
    return TaskFile(
        document.source,
        base,
        tuple(task for _, task in tasks),
        tuple(line for line, _ in tasks),
        tuple(complaints.sentences()),
        f"the shortest task list: {EXAMPLE}" if readable and not nodes else "",
    )


def _root(root: Node | None, complaints: Complaints) -> MappingNode | None:
    if root is None or is_null(root):
        complaints.add("the file is empty; write the tasks under 'tasks:'", Place(1, 1))
        return None
    if isinstance(root, ListNode):
        complaints.add("the list needs a name; write 'tasks:' in a line above it", root)
        return None
    if not isinstance(root, MappingNode):
        complain_of(root, "a task list", "a mapping with the key 'tasks'", complaints)
        return None
    known = ("base", "defaults", "tasks")
    for key, (name, _) in root.entries.items():
        if key not in known:
            complaints.add(unknown_key(key, "", known), name)
    return root


def _list_of_tasks(root: MappingNode, complaints: Complaints) -> tuple[Node, ...]:
    node = root.get("tasks")
    if isinstance(node, ListNode) and node.items:
        return node.items
    if node is None or is_null(node) or isinstance(node, ListNode):
        complaints.add("there are no tasks; write them under 'tasks:'", node or root)
    else:
        complain_of(node, "tasks", "a list, each task behind a '-'", complaints)
    return ()


def _base(root: MappingNode, complaints: Complaints) -> str | None:
    node = root.get("base")
    return None if node is None or is_null(node) else text_of(node, "base", complaints)


def _defaults(root: MappingNode, complaints: Complaints, folder: Path) -> dict[str, Any]:
    node = root.get("defaults")
    if isinstance(node, MappingNode):
        for key in ("id", *EXPANDING):
            if key in node.entries:
                complaints.add(f"'{key}' can have no default; give every task its own", node.entries[key][0])
        return _fields(node, "defaults", complaints, folder)
    if node is not None and not is_null(node):
        complain_of(node, "defaults", "a mapping of keys to values", complaints)
    return {}


def _tasks(
    nodes: Iterable[Node],
    defaults: Mapping[str, Any],
    common: Mapping[str, Node],
    complaints: Complaints,
    around: Surroundings,
) -> list[tuple[int, Task]]:
    """Return the tasks that have an id of their own, each with its line, as far as each can be understood.

    `common` are the variables of the defaults, as they are written.
    """
    tasks: list[tuple[int, Task]] = []
    lines_of_ids: dict[str, int] = {}
    told: set[Node] = set()
    for number, node in enumerate(nodes, start=1):
        if not isinstance(node, MappingNode):
            advice = f"; write {{id: task_{number:03}, run: ...}}"
            complaints.add(mismatch("a task", "a mapping of keys to values", plain_value(node)) + advice, node)
            continue
        task_id = _id(number, node, complaints)
        if task_id in lines_of_ids:
            sentence = f"the id {quoted(task_id)} is taken, by the task in line {lines_of_ids[task_id]}"
            complaints.add(f"{sentence}; give every task its own", node.get("id"))
        elif task_id is not None:
            lines_of_ids[task_id] = node.place.line
        own = _fields(node, "", complaints, around.folder)
        fields = _merged(defaults, own)
        if "run" not in fields and "prompt" not in fields:
            name = f"task {number}" if task_id is None else f"task {quoted(task_id)}"
            complaints.add(
                f"{name} has neither 'run' nor 'prompt': say what to execute, or what to ask an agent for", node
            )
        if task_id is None or lines_of_ids[task_id] != node.place.line:
            continue
        wanted = fields.pop("variants", None)
        variables = {**common, **_variables_in(node)}
        for one in _copies(task_id, fields, wanted, node, variables, told, complaints, around, MOST_TASKS - len(tasks)):
            for variant in _variants(one, wanted):
                tasks.append((node.place.line, variant))
                if variant.id != task_id and variant.id in lines_of_ids:
                    kind = "a variant" if variant.variant_of else "one that it stands for"
                    line = lines_of_ids[variant.id]
                    sentence = f"the id {quoted(variant.id)} of {kind} is taken, by the task in line {line}"
                    complaints.add(f"{sentence}; give that task another", node)
                lines_of_ids.setdefault(variant.id, node.place.line)
    return tasks


def _copies(
    task_id: str,
    fields: Mapping[str, Any],
    wanted: int | tuple[str, ...] | None,
    node: MappingNode,
    variables: Mapping[str, Node],
    told: set[Node],
    complaints: Complaints,
    around: Surroundings,
    room: int,
) -> list[Task]:
    """Return a task, or all those that one with `matrix` or `foreach` stands for; `variables` is its `env` as it is written.

    `told` are those of them that were complained of.
    """
    each = max(1, len(wanted) if isinstance(wanted, tuple) else wanted or 1)
    combinations = read_combinations(node, complaints, around, room, each)
    if combinations != []:
        _check_variables(variables, names_of(combinations or ()), told, complaints)
    if combinations is None:
        return [Task(task_id, **{**fields, "description": _described(fields)})]
    if not combinations:
        return []
    found: list[Copy] = copies(
        task_id,
        fields,
        _described(fields),
        combinations,
        lambda key, sentence: complaints.add(sentence, node.get(key) or node),
    )
    return [Task(one.id, **{**copy.deepcopy(dict(fields)), **one.fields}, values=one.values) for one in found]


def _variants(task: Task, wanted: int | tuple[str, ...] | None) -> list[Task]:
    """Return a task, or the several attempts at it that were asked for: `task@1`, `task@2`, ..."""
    if not wanted:
        return [task]
    backends = wanted if isinstance(wanted, tuple) else (task.backend,) * wanted
    return [
        replace(copy.deepcopy(task), id=f"{task.id}@{number}", backend=backend, variant_of=task.id)
        for number, backend in enumerate(backends, 1)
    ]


def _merged(defaults: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    fields = {**copy.deepcopy(dict(defaults)), **own}
    if "run" in own or "prompt" in own:  # what a task says itself takes the place of either default
        for key in {"run", "prompt"} - own.keys():
            fields.pop(key, None)
    fields["env"] = {**defaults.get("env", {}), **own.get("env", {})}
    return fields


def _described(fields: Mapping[str, Any]) -> str:
    """Return how a task is described: as it says itself, or by what it runs."""
    return fields.get("description") or _first_line(fields.get("run") or fields.get("prompt") or "")


def _id(number: int, task: MappingNode, complaints: Complaints) -> str | None:
    node = task.get("id")
    if node is None or (isinstance(node, ScalarNode) and node.plain and not node.text):
        complaints.add(f"task {number} has no 'id': give it one, such as task_{number:03}", node or task)
        return None
    if not isinstance(node, ScalarNode):
        complain_of(node, "id", "text", complaints)
        return None
    try:
        task_slug(node.text)
    except InvalidTaskId as error:
        complaints.add(f"{error.message}; {error.hint}", node)
        return None
    return node.text


def _fields(mapping: MappingNode, section: str, complaints: Complaints, folder: Path) -> dict[str, Any]:
    """Read what a task and the defaults can both have.  A value that is wrong is there, as None or in part."""
    fields: dict[str, Any] = {}
    ways = [key for key in ("run", "prompt", "prompt_file") if not is_null(mapping.get(key))]
    if len(ways) > 1:
        complaints.add(
            f"'{ways[0]}' and '{ways[1]}' cannot both be there: a task is a command or a prompt", mapping.get(ways[1])
        )
    for key, (name, node) in mapping.entries.items():
        if key in LIMITS:
            fields[key] = None if is_null(node) else _seconds(node, key, complaints)
        elif key == "prompt_file":
            if not is_null(node):
                fields["prompt"] = _prompt_file(node, complaints, folder)
        elif key in READERS:
            if not is_null(node):
                fields[key] = READERS[key](node, key, complaints)
        elif key not in ("id", *EXPANDING):
            known = (*READERS, "prompt_file", *LIMITS)
            complaints.add(unknown_key(key, section, known if section else ("id", *known, *EXPANDING)), name)
    return fields


def _label(node: Node, name: str, complaints: Complaints) -> str:
    return (text_of(node, name, complaints, may_be_blank=True) or "").strip()


def _run(node: Node, name: str, complaints: Complaints) -> str | list[str] | None:
    if isinstance(node, ScalarNode):
        return text_of(node, name, complaints)
    if isinstance(node, ListNode):
        if not node.items:
            complaints.add(f"{name} is an empty list; say what to execute", node)
        first = node.items[0] if node.items else None
        if isinstance(first, ScalarNode) and not first.plain and not first.text.strip():
            complaints.add(f"{name} begins with an empty text; say what to execute", first)
        return texts_of(node, f"a part of {name}", complaints)
    complain_of(node, name, "text for the shell, or a list of texts", complaints)
    return None


def _prompt(node: Node, name: str, complaints: Complaints) -> str | None:
    return text_of(node, name, complaints)


def _prompt_file(node: Node, complaints: Complaints, folder: Path) -> str | None:
    """Return what stands in the file that a task names, from the folder of the task list."""
    name = text_of(node, "prompt_file", complaints)
    if name is None:
        return None
    try:
        with opened(folder / name) as file:
            content = file.read(_LONGEST_PROMPT + 1)
        text = content.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is not UTF-8"
        complaints.add(f"prompt_file {quoted(name)} cannot be read from {str(folder)!r}: {reason}", node)
        return None
    if len(content) > _LONGEST_PROMPT:
        complaints.add(f"prompt_file {quoted(name)} is longer than {_LONGEST_PROMPT} bytes; is it the right one?", node)
    elif "\0" in text:
        complaints.add(f"prompt_file {quoted(name)} holds a NUL character; is it a text file?", node)
    elif not text.strip():
        complaints.add(f"prompt_file {quoted(name)} is empty; write into it what to ask for", node)
    return text


def _backend(node: Node, name: str, complaints: Complaints) -> str | tuple[str, ...]:
    if isinstance(node, ListNode):
        return _names(node, name, complaints)
    return text_of(node, name, complaints) or ""


def _names(node: ListNode, name: str, complaints: Complaints) -> tuple[str, ...]:
    if not node.items:
        complaints.add(f"{name} is an empty list; name a backend in it", node)
    return tuple(text_of(item, f"a part of {name}", complaints) or "" for item in node.items)


def _sparse(node: Node, name: str, complaints: Complaints) -> list[str]:
    if isinstance(node, ListNode):
        return texts_of(node, f"a part of {name}", complaints)
    complain_of(node, name, "a list of directories", complaints)
    return []


def _carry(node: Node, name: str, complaints: Complaints) -> list[Carry | str]:
    if not isinstance(node, ListNode):
        complain_of(node, name, "a list of paths, or of {path: PATH, by: copy|clone|link}", complaints)
        return []
    found: list[Carry | str] = []
    for item in node.items:
        said = item
        by: str | None = CARRY_WAYS[0]
        if isinstance(item, MappingNode):
            for key, (at, _) in item.entries.items():
                if key not in ("path", "by"):
                    complaints.add(unknown_key(key, name, ("path", "by")), at)
            if not is_null(item.get("by")):
                by = choice_of(item.entries["by"][1], "by", complaints, CARRY_WAYS)
            if (path_node := item.get("path")) is None:
                complaints.add(f"a part of {name} has no 'path'", item)
                continue
            said = path_node
        path = text_of(said, f"a part of {name}", complaints)
        if path is None or by is None:
            continue
        if fault := fault_in_path(path):
            complain_of(said, f"a part of {name}", fault, complaints)
        found.append(Carry(path, by, f"{complaints.source}:{said.place.line}:{said.place.column}"))
    return found


def _render(node: Node, name: str, complaints: Complaints) -> list[Render | str]:
    if not isinstance(node, ListNode):
        complain_of(node, name, "a list of templates, or of {from: TEMPLATE, to: PATH}", complaints)
        return []
    found: list[Render | str] = []
    for item in node.items:
        said, target = item, None
        if isinstance(item, MappingNode):
            for key, (at, value) in item.entries.items():
                if key not in ("from", "to"):
                    complaints.add(unknown_key(key, name, ("from", "to")), at)
                elif key == "to" and not is_null(value):
                    target = text_of(value, "to", complaints)
            if (source_node := item.get("from")) is None:
                complaints.add(f"a part of {name} has no 'from'", item)
                continue
            said = source_node
        source = text_of(said, f"a part of {name}", complaints)
        if source is None:
            continue
        target = named_by(source) if target is None else target
        if fault := fault_in_rendering(source, target):
            complaints.add(f"{name}: {quoted(source)} cannot be rendered: {fault}", item)
        else:
            found.append(Render(source, target, f"{complaints.source}:{item.place.line}:{item.place.column}"))
    return found


def _smudge(node: Node, name: str, complaints: Complaints) -> str | None:
    return choice_of(node, name, complaints, SMUDGE_CHOICES)


def _attempts(node: Node, name: str, complaints: Complaints) -> int | None:
    return _whole(node, name, complaints, 1, MOST_ATTEMPTS)


def _variants_wanted(node: Node, name: str, complaints: Complaints) -> int | tuple[str, ...] | None:
    if isinstance(node, ListNode):
        return _names(node, name, complaints)
    return _whole(node, name, complaints, 1, MOST_VARIANTS)


def _whole(node: Node, name: str, complaints: Complaints, least: int, most: int) -> int | None:
    value = plain_value(node)
    if isinstance(value, bool) or not isinstance(value, int):
        complain_of(node, name, "a whole number", complaints, int)
    elif not least <= value <= most:
        complain_of(node, name, f"between {least} and {most}", complaints)
    else:
        return value
    return None


def _env(node: Node, name: str, complaints: Complaints) -> dict[str, str]:
    if not isinstance(node, MappingNode):
        complain_of(node, name, "a mapping of names to texts", complaints)
        return {}
    variables = {}
    for variable, (key, value) in node.entries.items():
        if not variable or "=" in variable:
            complaints.add(f"no variable can be called {quoted(variable)}; a name is not empty and has no '='", key)
        elif variable.startswith(OUR_VARIABLES):
            complaints.add(f"{quoted(variable)} is not yours to set; '{OUR_VARIABLES}...' is kept for us", key)
        if is_null(value):
            complaints.add(f"env.{variable} has no value; write '' for an empty one", value)
        else:
            variables[variable] = text_of(value, f"env.{variable}", complaints, may_be_blank=True) or ""
    return variables


def _variables_in(node: Node | None) -> dict[str, Node]:
    """Return the variables of a task, or of the defaults, as they are written."""
    env = node.get("env") if isinstance(node, MappingNode) else None
    return {name: value for name, (_, value) in env.entries.items()} if isinstance(env, MappingNode) else {}


def _check_variables(
    variables: Mapping[str, Node], names: Sequence[str], told: set[Node], complaints: Complaints
) -> None:
    """Complain of placeholders that stand for nothing in a task that is made for values of these names, or for two things.

    `told` are the values of the defaults that were complained of, once for all tasks.
    """
    for variable, node in variables.items():
        if node in told:
            continue
        before = len(complaints)
        text = node.text if isinstance(node, ScalarNode) else ""
        for fault in faults_of(text, dict.fromkeys([*ENV_PLACEHOLDERS, *names])):
            complaints.add(f"env.{variable}: {fault}; for a brace itself write '{{{{'", node)
        for name in sorted(names_in(text) & {*ENV_PLACEHOLDERS} & {*names}):
            complaints.add(
                f"env.{variable}: '{{{name}}}' could be the matrix's or the task's own {name}; "
                "give the values in the matrix another name",
                node,
            )
        if len(complaints) > before:
            told.add(node)


def _commands(node: Node, name: str, complaints: Complaints) -> list[Command]:
    """Read commands that run one after the other; a single one needs no list."""
    if not isinstance(node, ListNode):
        command = _run(node, name, complaints)
        return [] if command is None else [command]
    return [one for item in node.items if (one := _run(item, f"a command of {name}", complaints)) is not None]


def _criteria(node: Node, name: str, complaints: Complaints) -> list[str]:
    if isinstance(node, ListNode):
        return texts_of(node, f"a part of {name}", complaints)
    complain_of(node, name, "a list of texts", complaints)
    return []


READERS: dict[str, Callable[[Node, str, Complaints], Any]] = {
    "description": _label,
    "kind": _label,
    "run": _run,
    "prompt": _prompt,
    "backend": _backend,
    "verify": _run,
    "setup": _commands,
    "teardown": _commands,
    "max_attempts": _attempts,
    "variants": _variants_wanted,
    "sparse": _sparse,
    "carry": _carry,
    "submodules": flag_of,
    "smudge": _smudge,
    "render": _render,
    "env": _env,
    "acceptance_criteria": _criteria,
}
"""What can be in a task beside its id; a key without a value counts as not written."""
LIMITS = ("timeout", "idle_timeout", "setup_timeout")
"""Limits in seconds; one without a value takes back what the defaults say."""


def _seconds(node: Node, name: str, complaints: Complaints) -> float | None:
    value = plain_value(node)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        complain_of(node, name, "a number of seconds", complaints, float)
    elif not math.isfinite(value):
        complain_of(node, name, "a finite number", complaints)
    elif value <= 0:
        complain_of(node, name, "positive", complaints)
    else:
        return value
    return None


def _first_line(run: str | list[str]) -> str:
    text = run if isinstance(run, str) else shlex.join(run)
    return text.strip().partition("\n")[0].strip()
