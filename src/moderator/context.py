"""The names a task gets, at each level of isolation, and whether many of them stay out of each other's way.

Must not know git: a context names a branch, `GitManager` makes it.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Any

from moderator.errors import ConfigurationError, IsolationError
from moderator.naming import generate_task_branch, generate_task_directory, generate_task_state_dir


class IsolationLevel(Enum):
    """How much of a task's surroundings is its own.

    NONE: nothing, it runs in the base checkout and its work is left there.  DIRECTORY: a working directory, no branch.
    BRANCH: a branch, it runs in the base checkout.  FULL: working directory, branch and state directory.
    """

    NONE = "none"
    DIRECTORY = "directory"
    BRANCH = "branch"
    FULL = "full"

    @property
    def isolates_directory(self) -> bool:
        return self in (IsolationLevel.DIRECTORY, IsolationLevel.FULL)

    @property
    def isolates_branch(self) -> bool:
        return self in (IsolationLevel.BRANCH, IsolationLevel.FULL)

    @property
    def isolates_state(self) -> bool:
        return self is IsolationLevel.FULL

    @classmethod
    def of(cls, value: IsolationLevel | str) -> IsolationLevel:
        """Return the level of that name, whatever its case.  Raises ConfigurationError with the choices."""
        if isinstance(value, cls):
            return value
        try:
            # Only text has a case to pass over: str(None), a null in a file, would be the least safe level.
            return cls(value.lower() if isinstance(value, str) else value)
        except ValueError:
            names = ", ".join(level.value for level in cls)
            raise ConfigurationError(f"{value!r} is no isolation level", hint=f"choose one of {names}") from None


@dataclass
class ExecutionContext:
    """Where one task, or a whole run, works: a directory, a branch, a state directory, by name.

    A context whose `task_id` is empty is a base context; `create_isolated_context` derives a task's from it.
    `base_branch` is then the base context's `git_branch`: what the task's branch forks from.
    """

    project_id: str
    working_directory: str
    git_branch: str
    state_dir: str
    isolation_level: IsolationLevel = IsolationLevel.NONE
    task_id: str = ""
    base_branch: str = ""

    @classmethod
    def create_isolated_context(
        cls,
        base_context: ExecutionContext,
        task_id: str,
        isolation_level: IsolationLevel | None = None,
    ) -> ExecutionContext:
        """Return the context of one task, and make the directories that are its own.

        NONE gives the base context itself:

        >>> import tempfile; folder = tempfile.mkdtemp()
        >>> base = ExecutionContext("shop", folder + "/checkouts", "feature/user-auth", folder + "/state")
        >>> ExecutionContext.create_isolated_context(base, "task_042", IsolationLevel.NONE) is base
        True

        DIRECTORY gives the task its own working directory, and nothing else:

        >>> context = ExecutionContext.create_isolated_context(base, "task_042", IsolationLevel.DIRECTORY)
        >>> context.working_directory == folder + "/checkouts/tasks/task_042", context.git_branch
        (True, 'feature/user-auth')

        BRANCH gives it its own branch, and nothing else:

        >>> context = ExecutionContext.create_isolated_context(base, "task_042", IsolationLevel.BRANCH)
        >>> context.working_directory == base.working_directory, context.git_branch
        (True, 'feature/user-auth-task-task-042')

        FULL gives it all three:

        >>> context = ExecutionContext.create_isolated_context(base, "task_042", IsolationLevel.FULL)
        >>> context.git_branch, context.state_dir == folder + "/state/tasks/task_042"
        ('feature/user-auth-task-task-042', True)

        `isolation_level=None` means the base context's.  Isolated paths are absolute; symbolic links in them stay as
        given.  The same id always gives the same names, so a task can be found again.

        What an executor must do with the result: hand it to `GitManager.create_workspace`, which makes the branch and
        the worktree (here only empty directories are made); run the task in the *workspace's* path; give it
        `state_dir` for what it wants to keep beside the repository; and check the contexts of all tasks of a run with
        `ensure_disjoint` before the first of them starts.

        Raises InvalidTaskId for an id that no name can be made of, ConfigurationError for a base branch whose name
        is too long, OSError if a directory cannot be made.
        """
        context = cls.named(base_context, task_id, isolation_level)
        if context is base_context:
            return base_context
        if context.isolation_level.isolates_directory:
            Path(context.working_directory).mkdir(parents=True, exist_ok=True)
        if context.isolation_level.isolates_state:
            Path(context.state_dir).mkdir(parents=True, exist_ok=True)
        return context

    @classmethod
    def named(
        cls, base_context: ExecutionContext, task_id: str, isolation_level: IsolationLevel | None = None
    ) -> ExecutionContext:
        """Return what `create_isolated_context` would, without touching the disk: for plans."""
        level = base_context.isolation_level if isolation_level is None else IsolationLevel.of(isolation_level)
        if level is IsolationLevel.NONE:
            return base_context
        working_directory, git_branch, state_dir = (
            base_context.working_directory,
            base_context.git_branch,
            base_context.state_dir,
        )
        # Generated at every level that makes names at all, so that an id is refused at each of them or at none.
        isolated_directory = generate_task_directory(os.path.abspath(working_directory), task_id)
        if level.isolates_directory:
            working_directory = isolated_directory
        if level.isolates_branch:
            git_branch = generate_task_branch(git_branch, task_id)
        if level.isolates_state:
            state_dir = generate_task_state_dir(os.path.abspath(state_dir), task_id)
        return cls(
            base_context.project_id,
            working_directory,
            git_branch,
            state_dir,
            level,
            task_id,
            base_context.git_branch,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, the isolation level as its text."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values["isolation_level"] = self.isolation_level.value
        return values

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ExecutionContext:
        """Return the context that `to_dict` wrote.

        Keys that are not known are passed over, so that a newer version's dictionaries can be read.  Raises
        ConfigurationError if one of the first four is missing or the level is unknown.
        """
        known = [field.name for field in fields(cls)]
        missing = [name for name in known[:4] if name not in data]
        if missing:
            raise ConfigurationError(
                f"the context lacks {', '.join(missing)}", hint="give every field that to_dict writes"
            )
        values = {name: data[name] for name in known if name in data}
        values["isolation_level"] = IsolationLevel.of(values.get("isolation_level", IsolationLevel.NONE))
        return cls(**values)


def ensure_disjoint(contexts: Iterable[ExecutionContext]) -> None:
    """Raise IsolationError if two of the contexts would meet.

    Compared is, for each context, what its level isolates: directories resolved and nested ones too, names
    without regard to case or Unicode form, since that is how common file systems see them.  Branches nest as
    well: git keeps no branch `a/b` beside a branch `a`.  A context whose own directories meet is refused too.
    """
    for overlap in overlaps(contexts):
        raise IsolationError(overlap.message, hint=overlap.hint)


@dataclass(frozen=True)
class Overlap:
    """Two contexts that would meet, said in a sentence, and the way out."""

    first: ExecutionContext
    second: ExecutionContext
    message: str
    hint: str

    def __str__(self) -> str:
        return self.message


_Claim = tuple[ExecutionContext, str]
"""Whose it is, and how people call it."""


def overlaps(contexts: Iterable[ExecutionContext]) -> Iterator[Overlap]:
    """Yield every context that meets an earlier one, as `ensure_disjoint` judges, once each."""
    claims: dict[tuple[str, ...], _Claim] = {}
    told: dict[int, ExecutionContext] = {}  # by identity, and kept, so that none is used again
    for context in contexts:
        for key, what in _claims(context):
            if key in claims:
                yield _overlap(claims[key], (context, what), nested=False)
                told[id(context)] = context
                break
            claims[key] = (context, what)
    for key, inner in claims.items():
        for length in range(1, len(key)):
            if key[:length] in claims and id(inner[0]) not in told:
                yield _overlap(claims[key[:length]], inner, nested=True)
                told[id(inner[0])] = inner[0]


def _claims(context: ExecutionContext) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield what the context's level isolates: the parts that would clash, and how people call it."""
    level = context.isolation_level
    if level.isolates_branch:
        yield ("branch", *_folded(context.git_branch).split("/")), f"the branch {context.git_branch!r}"
    for isolated, path, kind in (
        (level.isolates_directory, context.working_directory, "working"),
        (level.isolates_state, context.state_dir, "state"),
    ):
        if isolated:
            parts = Path(_folded(os.path.realpath(path))).parts
            yield ("directory", *parts), f"the {kind} directory {path!r}"


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _overlap(first: _Claim, second: _Claim, *, nested: bool) -> Overlap:
    (one, what), (other, other_what) = first, second
    if one is other and what != other_what:
        return Overlap(
            one,
            other,
            f"task {one.task_id!r} would overlap itself: {what} and {other_what}",
            "give the base context a state directory outside its working directory",
        )
    if nested:
        return Overlap(
            one,
            other,
            f"tasks {one.task_id!r} and {other.task_id!r} would overlap: {what} holds {other_what}",
            "give them base contexts whose directories and branches do not hold each other",
        )
    return Overlap(
        one,
        other,
        f"tasks {one.task_id!r} and {other.task_id!r} would share {other_what}",
        "rename one of them: ids must differ in more than letter case, '_', '-' and spaces",
    )
