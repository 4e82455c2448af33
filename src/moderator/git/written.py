"""What was written down by us, or by whoever can write where we do: taken for what it says only if it can be true.

Records of removals and descriptions of rescues lead to renames, deletions and command lines.  A task may have written them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from moderator.git.registry import READY, Record, as_read

_OBJECT_ID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_FREE = ("task_id", "project_id", "state_dir")  # may hold line breaks: they lead to no command line
_LATEST = 253402300800.0  # the year 10000: later than any clock, and still a date
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""What reading such things may raise."""


def text(value: object) -> str:
    """Return a text without NUL or line break.  Raises ValueError."""
    if not isinstance(value, str) or any(character in value for character in "\0\n"):
        raise ValueError(f"{value!r} is no text of one line")
    return value


def object_id(value: object) -> str:
    """Return the id of an object.  Raises ValueError."""
    if not _OBJECT_ID.fullmatch(text(value)):
        raise ValueError(f"{value!r} is no object id")
    return text(value)


def branch(value: object) -> str:
    """Return the full name of a branch, or "" for none.  Raises ValueError."""
    if text(value) and not text(value).startswith("refs/heads/"):
        raise ValueError(f"{value!r} is no branch")
    return text(value)


def moment(value: object) -> float:
    """Return a time in unix seconds.  Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < _LATEST:
        raise ValueError(f"{value!r} is no time")
    return float(value)


def paths(value: object) -> tuple[str, ...]:
    """Return a list of texts.  Raises ValueError."""
    if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) and "\0" not in one for one in value):
        raise ValueError(f"{value!r} is no list of paths")
    return tuple(value)


def modes(value: object) -> dict[str, int]:
    """Return permissions by path, each path inside the tree.  Raises ValueError."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{value!r} holds no permissions")
    for path, mode in value.items():
        parts = str(path).split("/")
        if os.path.isabs(path) or {"", ".", "..", ".git"} & {part.casefold() for part in parts} or "\0" in path:
            raise ValueError(f"{path!r} leads out of the tree")
        if isinstance(mode, bool) or not isinstance(mode, int) or not 0 <= mode <= 0o7777:
            raise ValueError(f"{mode!r} are no permissions")
    return dict(value)


def refs(value: object) -> dict[str, str]:
    """Return object ids by the names of refs.  Raises ValueError."""
    if not isinstance(value, Mapping) or any(name.startswith("-") for name in value):
        raise ValueError(f"{value!r} holds no refs")
    return {text(name): object_id(commit) for name, commit in value.items()}


def record(value: Mapping[str, Any]) -> Record:
    """Return the record of a workspace that is gone.  Raises ValueError, KeyError, TypeError."""
    value = as_read(value)
    for name in set(value) - {"level", "branch", "created_at", "base", *_FREE}:
        text(value[name])
    paths([value[name] for name in _FREE])
    if value["branch"] is not None:
        text(value["branch"])
    if value["base"]:
        object_id(value["base"])
    moment(value["created_at"])
    entry, path = value["entry"], value["path"]
    if os.sep in entry or entry in (".", "..") or (path and not os.path.isabs(path)):
        raise ValueError("it leads out of its place")
    return Record(**{**value, "state": READY})
