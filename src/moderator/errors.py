"""What can go wrong, in one tree.  Every error says what happened and, where there is one, the way out.

Must not know anything else of this package: every room may raise these.

    ModeratorError                    5  our own bug, if it ever reaches a person bare
    ├── UsageError                    2  what was typed or written does not fit
    │   ├── ConfigurationError        2  a setting is wrong
    │   ├── InvalidTaskId             2  an id that no name can be made of (also a ValueError)
    │   ├── IsolationError            2  two tasks would share a name, or a name is somebody else's
    │   ├── PlanError                 2  every problem of a task list at once
    │   ├── NotARepository            2  the directory is in no repository that git will open
    │   ├── UnknownRevision           2  a base that names no commit
    │   ├── UnknownWorkspace          2  no workspace of that task id or branch
    │   ├── AmbiguousName             2  a name that means more than one
    │   └── UnknownRescue             2  no rescue, or no removal, of that name
    ├── PersonNeeded                  3  a person must decide
    │   ├── WouldLoseWork             3  the removal would destroy something; lists it
    │   ├── WorkspaceOccupied         3  a directory or branch is there already and is not ours to use
    │   ├── CheckoutNotClean          3  a level that runs in the base checkout found changes there
    │   ├── NotTrusted                3  commands of a repository's own configuration that nobody has agreed to
    │   └── CannotCommit              3  the workspace is in a state no commit should be made of
    ├── EnvironmentProblem            4  the machine: git too old, not writable
    │   ├── NoRoom                    4  the disk is full, or a quota used up
    │   ├── GitFailed                 4  a git command failed for no reason we have a better word for
    │   ├── StoreProblem              4  the record of runs is damaged, newer, or cannot be written
    │   └── BackendUnavailable        4  nothing that could do a task is there, or logged in; lists each and why
    ├── AggregateExecutionError       1  every task of a run failed
    └── WorkspaceBusy                75  somebody else holds it now (EX_TEMPFAIL of sysexits.h)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def to_type(*words: str) -> str:
    """Return a command line that can be pasted into a shell, whatever the words hold."""
    import shlex  # only where something went wrong

    return shlex.join(words)


class ModeratorError(Exception):
    """The root of the tree.

    `message` says what happened in one sentence, `hint` what to type next (or ""), `cause` the words of the
    tool that refused, git's as a rule (or "").  `exit_code` is what the command line ends with.
    """

    exit_code = 5

    def __init__(self, message: str, hint: str = "", cause: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.cause = cause

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions with more than one argument do not survive pickling unless told how.
        return _revive, (type(self), dict(self.__dict__))


def _revive(kind: type[ModeratorError], state: dict[str, Any]) -> ModeratorError:
    error = kind.__new__(kind)
    Exception.__init__(error, state.get("message", ""))
    error.__dict__.update(state)
    return error


class UsageError(ModeratorError):
    """What was typed or written does not fit; nothing was changed."""

    exit_code = 2


class ConfigurationError(UsageError):
    """A setting is wrong."""


class InvalidTaskId(UsageError, ValueError):
    """A task id that is empty, blank, not text, or holds NUL: no name can be made of it."""


class IsolationError(UsageError):
    """Two tasks would share a name, or a context asks for a name that is not its own."""


class PlanError(UsageError):
    """A task list that cannot be run.  `problems` holds every one of them, in the order of the list."""

    def __init__(self, message: str, problems: Sequence[str], hint: str = "") -> None:
        super().__init__(message, hint)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join((self.message, *(f"  - {problem}" for problem in self.problems)))


class NotARepository(UsageError):
    """The directory is in no repository, or git refuses to open it."""


class UnknownRevision(UsageError):
    """A base that names no commit: misspelt, or a branch without commits yet."""


class UnknownWorkspace(UsageError):
    """No workspace has that task id or branch."""


class AmbiguousName(UsageError):
    """A name that means more than one workspace, or what was removed of more than one; the hint has a name for each."""


class UnknownRescue(UsageError):
    """Nothing that was rescued or removed has that name, or more than one has."""


class PersonNeeded(ModeratorError):
    """A person must decide; nothing was changed."""

    exit_code = 3


class WouldLoseWork(PersonNeeded):
    """A removal that would destroy something.  `findings` lists what, one sentence each."""

    def __init__(self, message: str, findings: Sequence[str], hint: str = "") -> None:
        super().__init__(message, hint)
        self.findings = tuple(findings)


class WorkspaceOccupied(PersonNeeded):
    """A directory or a branch is there already and was not made for this workspace.

    `findings` lists them where several are looked for at once.
    """

    def __init__(self, message: str, hint: str = "", cause: str = "", findings: Sequence[str] = ()) -> None:
        super().__init__(message, hint, cause)
        self.findings = tuple(findings)


class CheckoutNotClean(PersonNeeded):
    """A level that runs in the base checkout needs it clean, and it is not."""


class NotTrusted(PersonNeeded):
    """A repository's own configuration has commands that nobody has agreed to.  `findings` lists them, one line each."""

    def __init__(self, message: str, hint: str = "", cause: str = "", findings: Sequence[str] = ()) -> None:
        super().__init__(message, hint, cause)
        self.findings = tuple(findings)


class CannotCommit(PersonNeeded):
    """The workspace is in a state of which no commit should be made (a merge in progress, another branch)."""


class EnvironmentProblem(ModeratorError):
    """The machine does not provide what is needed: a newer git, room on the disk, permission to write."""

    exit_code = 4


class NoRoom(EnvironmentProblem):
    """The disk is full, or a quota used up."""


class GitFailed(EnvironmentProblem):
    """A git command failed; `cause` has its own words."""


class StoreProblem(EnvironmentProblem):
    """The record of runs is damaged, written by a newer version, or cannot be written.  It is left as it is."""


class BackendUnavailable(EnvironmentProblem):
    """No backend that a task may go to can be used.  `findings` lists each of them and why not."""

    def __init__(self, message: str, findings: Sequence[str], hint: str = "") -> None:
        super().__init__(message, hint)
        self.findings = tuple(findings)


class AggregateExecutionError(ModeratorError):
    """Every task of a run failed.  `failed_tasks` holds their results."""

    exit_code = 1

    def __init__(self, message: str, failed_tasks: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.failed_tasks = list(failed_tasks)


class WorkspaceBusy(ModeratorError):
    """Somebody else, alive, holds the workspace."""

    exit_code = 75
