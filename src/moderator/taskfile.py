"""A file written by hand -> tasks, with everything that is wrong with it at once.

Texts are taken as they are written: the id `001`, the command `true` and the value `1.10` need no quotes.
Must not know a repository, contexts or a plan: that two ids would share a name is the plan's to say, and
`where` gives it the line.
"""

from __future__ import annotations

import copy
import math
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moderator.document import (
    Complaints,
    ListNode,
    MappingNode,
    Node,
    Place,
    ScalarNode,
    is_null,
    mismatch,
    plain_value,
    quoted,
    read_document,
    unknown_key,
)
from moderator.errors import InvalidTaskId, PlanError
from moderator.models import Task
from moderator.naming import task_slug

EXAMPLE = "tasks: [{id: task_001, run: make test}]"
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
        """Return where the task of that index begins: `tasks.yaml:12`."""
        return f"{self.path}:{self.lines[index]}"

    def refusal(self, more: Sequence[str] = ()) -> PlanError:
        """Return the error with every problem of the file, and `more` that others found in its tasks."""
        problems = [*self.problems, *more]
        count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
        return PlanError(f"the task list {self.path!r} has {count}", problems, self.hint)


def load_tasks(path: Path) -> TaskFile:
    """Read a task list.

    Raises PlanError with every problem of the file, each with its line and column; a file that is not there or
    has no tasks is a problem too.
    """
    listed = read_tasks(path)
    if listed.problems:
        raise listed.refusal()
    return listed


def read_tasks(path: Path) -> TaskFile:
    """Read a task list with its problems, for whoever wants to tell them together with others."""
    document = read_document(path)
    complaints = document.complaints
    readable = document.root is not None or not complaints
    root = _root(document.root, complaints) if readable else None
    nodes = _list_of_tasks(root, complaints) if root else ()
    base = _base(root, complaints) if root else None
    tasks = _tasks(nodes, _defaults(root, complaints) if root else {}, complaints)
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
        _complain(root, "a task list", "a mapping with the key 'tasks'", complaints)
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
        _complain(node, "tasks", "a list, each task behind a '-'", complaints)
    return ()


def _base(root: MappingNode, complaints: Complaints) -> str | None:
    node = root.get("base")
    return None if node is None or is_null(node) else _text(node, "base", complaints)


def _defaults(root: MappingNode, complaints: Complaints) -> dict[str, Any]:
    node = root.get("defaults")
    if isinstance(node, MappingNode):
        if "id" in node.entries:
            complaints.add("'id' can have no default; give every task its own", node.entries["id"][0])
        return _fields(node, "defaults", complaints)
    if node is not None and not is_null(node):
        _complain(node, "defaults", "a mapping of keys to values", complaints)
    return {}


def _tasks(nodes: Iterable[Node], defaults: Mapping[str, Any], complaints: Complaints) -> list[tuple[int, Task]]:
    """Return the tasks that have an id of their own, each with its line, as far as each can be understood."""
    tasks = []
    lines_of_ids: dict[str, int] = {}
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
        fields = _merged(defaults, _fields(node, "", complaints))
        if "run" not in fields:
            name = f"task {number}" if task_id is None else f"task {quoted(task_id)}"
            complaints.add(f"{name} has no 'run': say what to execute", node)
        if task_id is not None and lines_of_ids[task_id] == node.place.line:
            tasks.append((node.place.line, Task(task_id, **fields)))
    return tasks


def _merged(defaults: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    fields = {**copy.deepcopy(dict(defaults)), **own}
    fields["env"] = {**defaults.get("env", {}), **own.get("env", {})}
    fields["description"] = fields.get("description") or _first_line(fields.get("run") or "")
    return fields


def _id(number: int, task: MappingNode, complaints: Complaints) -> str | None:
    node = task.get("id")
    if node is None or (isinstance(node, ScalarNode) and node.plain and not node.text):
        complaints.add(f"task {number} has no 'id': give it one, such as task_{number:03}", node or task)
        return None
    if not isinstance(node, ScalarNode):
        _complain(node, "id", "text", complaints)
        return None
    try:
        task_slug(node.text)
    except InvalidTaskId as error:
        complaints.add(f"{error.message}; {error.hint}", node)
        return None
    return node.text


def _fields(mapping: MappingNode, section: str, complaints: Complaints) -> dict[str, Any]:
    """Read what a task and the defaults can both have.  A value that is wrong is there, as None or in part."""
    fields: dict[str, Any] = {}
    for key, (name, node) in mapping.entries.items():
        if key in _LIMITS:
            fields[key] = None if is_null(node) else _seconds(node, key, complaints)
        elif key in _READERS:
            if not is_null(node):
                fields[key] = _READERS[key](node, key, complaints)
        elif key != "id":
            known = (*_READERS, *_LIMITS)
            complaints.add(unknown_key(key, section, known if section else ("id", *known)), name)
    return fields


def _label(node: Node, name: str, complaints: Complaints) -> str:
    return (_text(node, name, complaints, may_be_blank=True) or "").strip()


def _run(node: Node, name: str, complaints: Complaints) -> str | list[str] | None:
    if isinstance(node, ScalarNode):
        return _text(node, name, complaints)
    if isinstance(node, ListNode):
        if not node.items:
            complaints.add("run is an empty list; say what to execute", node)
        first = node.items[0] if node.items else None
        if isinstance(first, ScalarNode) and not first.plain and not first.text.strip():
            complaints.add("run begins with an empty text; say what to execute", first)
        return _texts(node, "a part of run", complaints)
    _complain(node, name, "text for the shell, or a list of texts", complaints)
    return None


def _env(node: Node, name: str, complaints: Complaints) -> dict[str, str]:
    if not isinstance(node, MappingNode):
        _complain(node, name, "a mapping of names to texts", complaints)
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
            variables[variable] = _text(value, f"env.{variable}", complaints, may_be_blank=True) or ""
    return variables


def _criteria(node: Node, name: str, complaints: Complaints) -> list[str]:
    if isinstance(node, ListNode):
        return _texts(node, f"a part of {name}", complaints)
    _complain(node, name, "a list of texts", complaints)
    return []


_READERS: dict[str, Callable[[Node, str, Complaints], Any]] = {
    "description": _label,
    "kind": _label,
    "run": _run,
    "env": _env,
    "acceptance_criteria": _criteria,
}
"""What can be in a task beside its id; a key without a value counts as not written."""
_LIMITS = ("timeout", "idle_timeout")
"""Limits in seconds; one without a value takes back what the defaults say."""


def _seconds(node: Node, name: str, complaints: Complaints) -> float | None:
    value = plain_value(node)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        _complain(node, name, "a number of seconds", complaints, float)
    elif not math.isfinite(value):
        _complain(node, name, "a finite number", complaints)
    elif value <= 0:
        _complain(node, name, "positive", complaints)
    else:
        return value
    return None


def _texts(node: ListNode, name: str, complaints: Complaints) -> list[str]:
    return [_text(item, name, complaints, may_be_blank=True) or "" for item in node.items]


def _text(node: Node, name: str, complaints: Complaints, may_be_blank: bool = False) -> str | None:
    """Return a text as it is written, or None after complaining."""
    if isinstance(node, ScalarNode) and (node.text.strip() or (may_be_blank and not node.plain)):
        return node.text
    _complain(node, name, "text", complaints)
    return None


def _complain(node: Node, name: str, wanted: str, complaints: Complaints, kind: type | None = None) -> None:
    advice = "; put a text that holds ': ' in quotes" if wanted == "text" and isinstance(node, MappingNode) else ""
    complaints.add(mismatch(name, wanted, plain_value(node), kind) + advice, node)


def _first_line(run: str | list[str]) -> str:
    text = run if isinstance(run, str) else shlex.join(run)
    return text.strip().partition("\n")[0].strip()
