"""From a task id to the names of its branch and directories: pure, total, deterministic, bounded.

The names are part of the public contract: the same id gives the same names on every machine, for ever.
Must not know the file system, git, the clock or chance.  What git accepts in a branch name is
git-check-ref-format(1); what file systems refuse is the list of reserved names of Windows
(learn.microsoft.com, "Naming Files, Paths, and Namespaces") and a leading dot or dash.
"""

from __future__ import annotations

import re
from pathlib import PurePath

from moderator.errors import ConfigurationError, InvalidTaskId

LONGEST_TASK_PART = 100
"""Bytes of the part that comes from the task id."""
LONGEST_BRANCH_COMPONENT = 240
"""Bytes of a branch's last component: a file name of 255 less `.lock` and a margin for git's own suffixes."""
HASH_LENGTH = 8
"""Hex digits of the id's SHA-256 that tell mended names apart."""
BETWEEN = "-task-"
"""What stands between the base branch and the task in the name of every task's branch."""
NAMELESS = "task"
"""What an id is called when nothing of it can be kept."""

_RESERVED_STEMS = frozenset(
    ["con", "prn", "aux", "nul"]
    + [f"{port}{digit}" for port in ("com", "lpt") for digit in range(10)]
    + ["conin", "conout"]  # CONIN$ and CONOUT$ once the dollar is gone
)
_NOT_IN_SLUG = re.compile(r"[^A-Za-z0-9.-]")
_NOT_IN_DIRECTORY = re.compile(r"[^A-Za-z0-9._-]")


def generate_task_branch(base_branch: str, task_id: str) -> str:
    """Return the branch of a task: `{base_branch}-task-{slug}`.

    `base_branch` is a branch's short name and is taken as it is.  Raises InvalidTaskId for an id that no name can
    be made of, and ConfigurationError if the base's last component leaves no room for a task at all.

    >>> generate_task_branch("feature/user-auth", "task_042")
    'feature/user-auth-task-task-042'
    """
    slug = task_slug(task_id)
    stem = base_branch.rpartition("/")[2] + BETWEEN
    room = LONGEST_BRANCH_COMPONENT - len(stem.encode("utf-8", "surrogatepass"))
    if room < HASH_LENGTH:
        raise ConfigurationError(
            f"the name of base branch {base_branch!r} is too long: its last part leaves no room for a task's name",
            hint=f"use a base branch whose last part is at most {LONGEST_BRANCH_COMPONENT - len(BETWEEN) - HASH_LENGTH} bytes",
        )
    return f"{base_branch}{BETWEEN}{slug if len(slug) <= room else _hashed(slug, task_id, room)}"


def generate_task_directory(base_working_directory: str, task_id: str) -> str:
    """Return the working directory of a task: `{base_working_directory}/tasks/{directory name}`.

    >>> generate_task_directory("checkouts", "task_042")
    'checkouts/tasks/task_042'
    """
    return str(PurePath(base_working_directory) / "tasks" / task_directory_name(task_id))


def generate_task_state_dir(base_state_dir: str, task_id: str) -> str:
    """Return the state directory of a task: `{base_state_dir}/tasks/{directory name}`.

    >>> generate_task_state_dir("state", "task_042")
    'state/tasks/task_042'
    """
    return str(PurePath(base_state_dir) / "tasks" / task_directory_name(task_id))


def task_slug(task_id: str) -> str:
    """Return the id in the alphabet `[A-Za-z0-9.-]`: the part of a ref that stands for the task.

    >>> [task_slug(task_id) for task_id in ("task_001", "PROJ-12", "fix.typo", "日本語")]
    ['task-001', 'PROJ-12', 'fix.typo', 'task-77710aed']
    """
    replaced = _checked(task_id).replace("_", "-").replace(" ", "-")
    mended = _mended(_NOT_IN_SLUG.sub("", replaced))
    return mended if mended == replaced and len(mended) <= LONGEST_TASK_PART else _hashed(mended, task_id)


def task_directory_name(task_id: str) -> str:
    """Return the one path component that stands for the task, in the alphabet `[A-Za-z0-9._-]`.

    >>> [task_directory_name(task_id) for task_id in ("task_001", "my task", "../../etc")]
    ['task_001', 'my-task', 'etc-74ccf3c5']
    """
    replaced = _checked(task_id).replace(" ", "-")
    if _safe_on_file_systems(replaced):
        return replaced
    return _hashed(_mended(_NOT_IN_DIRECTORY.sub("", replaced)), task_id)


def _safe_on_file_systems(name: str) -> bool:
    return (
        not _NOT_IN_DIRECTORY.search(name)
        and not name.startswith((".", "-"))
        and not name.endswith(".")
        and not _is_reserved(name)
        and len(name) <= LONGEST_TASK_PART
    )


def _is_reserved(name: str) -> bool:
    return name.partition(".")[0].lower() in _RESERVED_STEMS


def _checked(task_id: str) -> str:
    if not isinstance(task_id, str):
        raise InvalidTaskId(f"a task id must be text, not {type(task_id).__name__}", hint="write the id in quotes")
    if not task_id.strip():
        raise InvalidTaskId("a task id must not be empty or blank", hint="give every task an id such as task_001")
    if "\0" in task_id:
        raise InvalidTaskId(f"the task id {task_id!r} holds a NUL character", hint="take the NUL out")
    return task_id


def _mended(name: str) -> str:
    """Take away what git or a file system would choke on; the result is "task" rather than empty."""
    before = None
    while name != before:  # one cure can bring out the next: "a.lock.lock" is "a.lock" is "a"
        before = name
        name = re.sub(r"\.{2,}", ".", name).lstrip(".-").rstrip(".")
        if name.lower().endswith(".lock"):
            name = name[: -len(".lock")]
    if not name:
        return NAMELESS
    return f"{NAMELESS}-{name}" if _is_reserved(name) else name


def _hashed(name: str, task_id: str, room: int = LONGEST_TASK_PART) -> str:
    import hashlib  # takes as long to load as all the rest of this module, and most ids need no hash

    digest = hashlib.sha256(task_id.encode("utf-8", "surrogatepass")).hexdigest()[:HASH_LENGTH]
    kept = name[: max(room - HASH_LENGTH - 1, 0)].rstrip(".-")
    return f"{kept}-{digest}" if kept else digest
