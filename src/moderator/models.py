"""Tasks and how they end: plain data that pickles, compares and turns into JSON.

Must not know how a task is run, where its results are stored, or that there is a git.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class TaskStatus(Enum):
    """Where a task is on its way."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Outcome(Enum):
    """Every way an attempt can end."""

    SUCCEEDED = "succeeded"
    """The command ended with 0 and its changes are where the isolation level keeps them."""
    UNCHANGED = "unchanged"
    """The command ended with 0 and changed nothing."""
    FAILED = "failed"
    """The command ended with another exit code, or was killed by a signal that was not ours."""
    TIMED_OUT = "timed out"
    """The wall limit passed; the whole process tree was ended."""
    IDLE = "idle"
    """Nothing was printed for as long as the idle limit allows; the whole process tree was ended."""
    CANCELLED = "cancelled"
    """The run was interrupted: the attempt was ended, or never began."""
    COULD_NOT_START = "could not start"
    """No command, or one that does not exist or may not be executed."""
    NO_WORKSPACE = "no workspace"
    """The workspace could not be made; nothing ran."""
    NOT_KEPT = "not kept"
    """The command ended with 0 but its work could not be committed; it is in the workspace, untouched."""

    @property
    def success(self) -> bool:
        return self in (Outcome.SUCCEEDED, Outcome.UNCHANGED)

    @property
    def status(self) -> TaskStatus:
        if self.success:
            return TaskStatus.COMPLETED
        return TaskStatus.CANCELLED if self is Outcome.CANCELLED else TaskStatus.FAILED


@dataclass
class Task:
    """One thing to do.

    `run` is what a shell backend executes: text goes to the shell, a list is executed as it is.  `env` is added to
    the command's environment.  `timeout` and `idle_timeout` are seconds; None means the executor's.  `kind` is what
    kind of work it is, for a router's rules.
    """

    id: str
    description: str
    acceptance_criteria: list[str] = field(default_factory=list)
    run: str | list[str] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    timeout: float | None = None
    idle_timeout: float | None = None
    kind: str = ""

    @property
    def digest(self) -> str:
        """A short text that is the same as long as the same is to be done; the id and the limits do not count."""
        no_part = ("id", "timeout", "idle_timeout")
        said = {name: value for name, value in self.to_dict().items() if value and name not in no_part}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "description": self.description,
            "acceptance_criteria": list(self.acceptance_criteria),
            "run": self.run if self.run is None or isinstance(self.run, str) else list(self.run),
            "env": dict(self.env),
            "timeout": self.timeout,
            "idle_timeout": self.idle_timeout,
            "kind": self.kind,
        }


@dataclass
class TaskResult:
    """How one attempt at a task ended.

    `stdout` and `stderr` are the last part of what was printed; all of it is in the file `log`.  `exit_code` is
    the command's own, negative for the signal that ended it, and None where nothing ran.  `commit` is the new commit
    that holds the work, or None where there is none.  `notes` are sentences for people that change no outcome.
    """

    task: Task
    exit_code: int | None
    stdout: str
    stderr: str
    duration_seconds: float
    artifacts_path: str | None = None
    error_message: str | None = None
    outcome: Outcome | None = None
    run_id: str = ""
    attempt: int = 1
    backend: str = ""
    branch: str | None = None
    base: str | None = None
    commit: str | None = None
    path: str | None = None
    log: str | None = None
    workspace_kept: bool = True
    notes: list[str] = field(default_factory=list)

    @property
    def success(self) -> bool:
        """True if the exit code is 0 and nothing else went wrong."""
        if self.exit_code != 0 or self.error_message:
            return False
        return self.outcome is None or self.outcome.success

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON takes it, without the text of the output."""
        outcome = self.outcome or (Outcome.SUCCEEDED if self.success else Outcome.FAILED)
        return {
            "task_id": self.task.id,
            "description": self.task.description,
            "outcome": outcome.value,
            "success": self.success,
            "exit_code": self.exit_code,
            "error_message": self.error_message,
            "duration_seconds": round(self.duration_seconds, 3),
            "run_id": self.run_id,
            "attempt": self.attempt,
            "backend": self.backend,
            "branch": self.branch,
            "base": self.base,
            "commit": self.commit,
            "path": self.path,
            "log": self.log,
            "artifacts_path": self.artifacts_path,
            "workspace_kept": self.workspace_kept,
            "notes": list(self.notes),
        }
