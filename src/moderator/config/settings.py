"""What can be set, and what holds when nothing is: plain frozen data.

Must not know how settings are written, checked or merged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from moderator.context import IsolationLevel

FEWEST_WORKERS = 1
MOST_WORKERS = 32
KEEP_CHOICES = ("always", "failed", "never")
SANDBOX_CHOICES = ("none", "bwrap")


@dataclass(frozen=True)
class ParallelConfig:
    """How tasks run.

    `enabled` false: one at a time, in order.  `max_workers`: how many at once, 1 to 32.  `timeout`: seconds
    for one task.  `idle_timeout`: seconds without output after which a task is ended; None: no such limit.
    """

    enabled: bool = True
    max_workers: int = 4
    timeout: float = 3600
    isolation_level: IsolationLevel = IsolationLevel.FULL
    idle_timeout: float | None = None


@dataclass(frozen=True)
class BackendRoutingConfig:
    """Which backend executes a task: `rules` maps a task's type to a backend's name."""

    enabled: bool = False
    default_backend: str = "shell"
    rules: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Config:
    """Every setting.

    `root`: the directory workspaces go to, as it was written; None: beside the repository.
    `keep`: after which tasks the workspace stays: "always", "failed" or "never".
    `commit_hooks`: run the repository's hooks on our commits.
    `commit_sign`: let git's `commit.gpgSign` decide; otherwise our commits are not signed.
    `grace`: seconds between SIGTERM and SIGKILL.
    `rescue_largest_file`: megabytes up to which a file is taken into a rescue.
    `trash_days`: days for which what was removed and is in no commit stays in the trash.
    `clean_max_workspaces`, `clean_max_size`: how many workspaces, and how many megabytes of them, `clean` leaves; None:
    any number.
    `sandbox`: what keeps tasks from writing outside their workspace: "none" or "bwrap".
    """

    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    backend_routing: BackendRoutingConfig = field(default_factory=BackendRoutingConfig)
    root: str | None = None
    keep: str = "always"
    commit_hooks: bool = False
    commit_sign: bool = False
    grace: float = 5.0
    rescue_largest_file: float = 100.0
    trash_days: float = 30.0
    clean_max_workspaces: int | None = None
    clean_max_size: float | None = None
    sandbox: str = "none"
