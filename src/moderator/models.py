"""Tasks and how they end: plain data that pickles, compares and turns into JSON.

Must not know how a task is run, where its results are stored, or that there is a git.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from moderator.furnishing import Carry, Furnishing, Render, as_plain


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
    """The command ended with another exit code, was killed by a signal that was not ours, or said itself that it failed."""
    NOT_VERIFIED = "not verified"
    """The command ended well, and the check of its work did not; the work is in the workspace, untouched."""
    BACKEND_FAILED = "backend failed"
    """What executes the task failed for reasons of its own: not logged in, a rate limit, no network."""
    UNREADABLE = "unreadable"
    """The command ended with 0, but what it printed is not what its backend prints; nobody can tell whether it is done."""
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
    SET_UP_FAILED = "set-up failed"
    """The set-up of the workspace failed or took too long; the command never ran, and the workspace is as that left it."""
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


Command = str | Sequence[str]
"""What is executed: text goes to the shell, a list of words is executed as it is."""
ENV_PLACEHOLDERS = (
    *("workspace", "branch", "base", "state_dir", "tmp", "task_id", "slot", "port"),
    *(f"port_{number}" for number in range(1, 10)),
)
"""What can stand in braces in a variable of a task's environment; `port_1` is the port after `port`."""


@dataclass
class Task:
    """One thing to do.

    `run` is what a shell backend executes: text goes to the shell, a list is executed as it is.  `prompt` is what an agent
    is asked for instead; without either, it is the description.  `env` is added to the command's environment, with the names of
    ENV_PLACEHOLDERS in braces filled in (`{{` is a brace).  `timeout` and
    `idle_timeout` are seconds; None means the backend's, or the executor's.  `kind` is what kind of work it is, for a
    router's rules; `backend` names who does it, or several in the order in which they are tried, whatever the rules say.
    `verify` is a command, like `run`, that must end with 0 in the workspace afterwards.  `max_attempts` is how often the task
    is tried when its backend fails for reasons of its own; None means the router's.  `variant_of` is the task that this one
    is one of several attempts at, "" if it is none.  `values` are what it is made for, by name, where one task of a list stands
    for many; its commands find them in their environment.  `sparse` are the directories that its workspace has, none: all of them.
    `carry`, `submodules`, `smudge` and `render` are what its workspace gets beside them (see Furnishing); None: what the
    repository's do.
    `setup` are commands that run in its new workspace first, one after the other, until one fails; `teardown` those that run
    before the workspace is removed; `setup_timeout` is seconds that either may take, None: the executor's.
    """

    id: str
    description: str
    acceptance_criteria: list[str] = field(default_factory=list)
    run: str | list[str] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    timeout: float | None = None
    idle_timeout: float | None = None
    kind: str = ""
    prompt: str | None = None
    backend: str | Sequence[str] = ""
    verify: str | list[str] | None = None
    max_attempts: int | None = None
    variant_of: str = ""
    sparse: list[str] = field(default_factory=list)
    values: Mapping[str, str] = field(default_factory=dict)
    carry: list[Carry | str] | None = None
    submodules: bool | None = None
    smudge: str | None = None
    setup: list[Command] = field(default_factory=list)
    teardown: list[Command] = field(default_factory=list)
    setup_timeout: float | None = None
    render: list[Render | str] | None = None

    @property
    def digest(self) -> str:
        """A short text that is the same as long as the same is to be done; id, limits, set-up and teardown do not count."""
        no_part = ("id", "timeout", "idle_timeout", "max_attempts", "variant_of", "setup", "teardown", "setup_timeout")
        said = {name: value for name, value in self.to_dict().items() if value and name not in no_part}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "description": self.description,
            "acceptance_criteria": list(self.acceptance_criteria),
            "run": _listed(self.run),
            "env": dict(self.env),
            "timeout": self.timeout,
            "idle_timeout": self.idle_timeout,
            "kind": self.kind,
            "prompt": self.prompt,
            "backend": _listed(self.backend),
            "verify": _listed(self.verify),
            "max_attempts": self.max_attempts,
            "variant_of": self.variant_of,
            "sparse": list(self.sparse),
            "values": dict(self.values),
            "carry": None if self.carry is None else [as_plain(one) for one in self.carry],
            "submodules": self.submodules,
            "smudge": self.smudge,
            "setup": [_listed(one) for one in self.setup],
            "teardown": [_listed(one) for one in self.teardown],
            "setup_timeout": self.setup_timeout,
            "render": None if self.render is None else [as_plain(one) for one in self.render],
        }

    def furnishing(self, common: Furnishing) -> Furnishing:
        """Return what the task's workspace gets beside its checkout, where every other gets `common`."""
        return common.with_own(self.carry, self.submodules, self.smudge, self.render)


def _listed(value: str | Sequence[str] | None) -> str | list[str] | None:
    return value if value is None or isinstance(value, str) else list(value)


@dataclass
class TaskResult:
    """How one attempt at a task ended.

    `stdout` and `stderr` are the last part of what was printed; all of it is in the file `log`.  `exit_code` is
    the command's own, negative for the signal that ended it, and None where nothing ran.  `commit` is the new commit
    that holds the work, or None where there is none.  `notes` are sentences for people that change no outcome.
    `reply` is the last thing an agent said; its version, the money it says it took and the tokens are None where it does
    not tell.
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
    backend_version: str | None = None
    cost_usd: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    reply: str = ""

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
            "backend_version": self.backend_version,
            "cost_usd": self.cost_usd,
            "tokens_in": self.tokens_in,
            "tokens_out": self.tokens_out,
            "reply": self.reply,
            "variant_of": self.task.variant_of,
        }
