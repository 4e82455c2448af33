"""The JSON Schema of a list of tasks: for each key that the reader knows, what may stand there and what it means.

The keys are the reader's own; a test compares what the two accept.  A text can be written without quotes whatever it looks like
(`id: 001`), so numbers and words such as `true` are texts here too.
"""

from __future__ import annotations

from typing import Any

from moderator.config.describing import DIALECT
from moderator.expanding.copies import KEYS as EXPANDING
from moderator.expanding.items import SPLITS, TIMEOUT
from moderator.furnishing import CARRY_WAYS, SMUDGE_CHOICES, TEMPLATE_NAME
from moderator.taskfile import LIMITS, MOST_ATTEMPTS, MOST_VARIANTS, OUR_VARIABLES, READERS

_SCALAR = {"type": ["string", "number", "boolean"]}
_NOT_BLANK = {"type": ["string", "number", "boolean"], "pattern": r"\S"}
_TEXTS = {"type": "array", "items": _SCALAR}
_COMMAND = {"anyOf": [_NOT_BLANK, {"type": "array", "items": _SCALAR, "minItems": 1, "prefixItems": [_NOT_BLANK]}]}
_ONE_OR_MORE = {"anyOf": [_NOT_BLANK, {"type": "array", "items": _NOT_BLANK, "minItems": 1}]}
_SECONDS = {"type": ["number", "null"], "exclusiveMinimum": 0}
_ENTRIES = {
    "type": ["array", "null"],
    "items": {"type": "object", "minProperties": 1, "additionalProperties": _NOT_BLANK},
}
_SPLIT = {
    "enum": [*SPLITS, None],
    "description": "What stands between the items: line ends, or NUL as find -print0 has it.",
}
_ONE_WAY = {
    "files": {
        "files": {**_ONE_OR_MORE, "description": "Patterns of tracked files: *, **, ?; those behind a '!' take away."},
        "untracked": {"type": ["boolean", "null"], "description": "Also files of the checkout that are not tracked."},
    },
    "lines": {
        "lines": {**_NOT_BLANK, "description": "A file, beside this one, that lists the items."},
        "split": _SPLIT,
    },
    "command": {
        "command": {**_COMMAND, "description": "A command in the main checkout that prints the items."},
        "split": _SPLIT,
        "timeout": {**_SECONDS, "description": f"Seconds that the command may take (default: {TIMEOUT:g})."},
    },
}
_ITEMS = {
    "anyOf": [
        {"type": "null"},
        _NOT_BLANK,
        {"type": "array", "items": _NOT_BLANK, "minItems": 1, "uniqueItems": True},
        *(
            {"type": "object", "required": [way], "additionalProperties": False, "properties": properties}
            for way, properties in _ONE_WAY.items()
        ),
    ]
}
_MATRIX = {
    "anyOf": [
        {"type": "null"},
        {
            "type": "object",
            "minProperties": 1,
            "properties": {
                "exclude": {**_ENTRIES, "description": "Combinations that are left out: all that have these values."},
                "include": {**_ENTRIES, "description": "More values for combinations that have these, or one more."},
            },
            "propertyNames": {"pattern": "^(?!(item|hash)$)[A-Za-z_][A-Za-z0-9_-]*$"},
            "additionalProperties": {"type": "array", "items": _NOT_BLANK, "minItems": 1, "uniqueItems": True},
        },
    ]
}
_VARIABLES = {
    "type": ["object", "null"],
    "propertyNames": {"pattern": f"^(?!{OUR_VARIABLES})[^=]+$"},
    "additionalProperties": _SCALAR,
}


_COMMANDS = {"anyOf": [{"type": "null"}, _NOT_BLANK, {"type": "array", "items": _COMMAND}]}
_CARRY = {
    "type": ["array", "null"],
    "items": {
        "anyOf": [
            _NOT_BLANK,
            {
                "type": "object",
                "required": ["path"],
                "additionalProperties": False,
                "properties": {
                    "path": {**_NOT_BLANK, "description": "What is carried: a path from the top, with patterns."},
                    "by": {"enum": [*CARRY_WAYS, None], "description": "How it is carried."},
                },
            },
        ]
    },
}


def _optional(shape: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [shape, {"type": "null"}]}


_RENDER = {
    "type": ["array", "null"],
    "items": {
        "anyOf": [
            {"type": "string", "pattern": TEMPLATE_NAME},
            {
                "type": "object",
                "required": ["from"],
                "additionalProperties": False,
                "properties": {
                    "from": {**_NOT_BLANK, "description": "The template: tracked, or ignored in the main checkout."},
                    "to": {
                        **_optional(_NOT_BLANK),
                        "description": "Where it goes; default: its name without its ending.",
                    },
                },
            },
        ]
    },
}


SHAPES: dict[str, tuple[dict[str, Any], str]] = {
    "id": (_NOT_BLANK, "The name of the task: its branch and directory are called after it."),
    "description": (
        _optional(_SCALAR),
        "What it is about; the message of its commit. Default: the command's first line.",
    ),
    "kind": (_optional(_SCALAR), "What kind of work it is, for the rules that choose a backend."),
    "run": (_optional(_COMMAND), "What to execute: a text for the shell, or a list that is executed as it is."),
    "prompt": (_optional(_NOT_BLANK), "What to ask an agent for."),
    "prompt_file": (_optional(_NOT_BLANK), "A file, beside this one, that holds the prompt."),
    "backend": (_optional(_ONE_OR_MORE), "Who does it, or several in the order in which they are tried."),
    "verify": (_optional(_COMMAND), "A command that must end with 0 in the workspace afterwards."),
    "max_attempts": (
        _optional({"type": "integer", "minimum": 1, "maximum": MOST_ATTEMPTS}),
        "How often it is tried when its backend fails for reasons of its own.",
    ),
    "variants": (
        {
            "anyOf": [
                {"type": "null"},
                {"type": "integer", "minimum": 1, "maximum": MOST_VARIANTS},
                {"type": "array", "items": _NOT_BLANK, "minItems": 1},
            ]
        },
        "How many attempts at it are made side by side, or by which backends.",
    ),
    "setup": (_COMMANDS, "Commands that make its new workspace ready before it begins."),
    "teardown": (_COMMANDS, "Commands that run before its workspace is removed."),
    "setup_timeout": (_SECONDS, "Seconds that its set-up, or teardown, may take. null: the common limit."),
    "carry": (_CARRY, "What git ignores and its workspace gets from the main checkout."),
    "submodules": ({"type": ["boolean", "null"]}, "Check out submodules in its workspace."),
    "smudge": ({"enum": [*SMUDGE_CHOICES, None]}, "Whether filters (git-lfs) run when its workspace is checked out."),
    "render": (_RENDER, "Files that are made for it of templates, with ${MODERATOR_...} filled in."),
    "sparse": (_optional(_TEXTS), "The directories that its workspace has; default: all."),
    "env": (_VARIABLES, "Variables added to the command's environment."),
    "acceptance_criteria": (_optional(_TEXTS), "What must hold afterwards; an agent is told."),
    "timeout": (_SECONDS, "Seconds that it may take. null: the run's own limit."),
    "idle_timeout": (_SECONDS, "Seconds without output. null: the run's own limit."),
    "matrix": (_MATRIX, "Makes it one task for each combination of values: {name}, $MODERATOR_MATRIX_NAME."),
    "foreach": (_ITEMS, "Makes it one task for each item of a list, or file of a pattern: {item}, $MODERATOR_ITEM."),
}
"""Every key of a task: what may stand there, and what it means."""


def task_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a list of tasks."""
    shared = {key: _described(key) for key in (*READERS, "prompt_file", *LIMITS)}
    task = {"id": _described("id"), **shared, **{key: _described(key) for key in EXPANDING}}
    return {
        "$schema": DIALECT,
        "title": "A list of tasks",
        "type": "object",
        "required": ["tasks"],
        "additionalProperties": False,
        "properties": {
            "base": {**_optional(_NOT_BLANK), "description": "Branch, tag or commit that the tasks fork from."},
            "defaults": {
                "description": "What every task has that does not say otherwise.",
                "anyOf": [{"type": "null"}, {"type": "object", "additionalProperties": False, "properties": shared}],
            },
            "tasks": {
                "description": "The tasks, in the order in which they start.",
                "type": "array",
                "minItems": 1,
                "items": {"type": "object", "required": ["id"], "additionalProperties": False, "properties": task},
            },
        },
    }


def _described(key: str) -> dict[str, Any]:
    shape, said = SHAPES.get(key, ({}, ""))
    return {**shape, "description": said}
