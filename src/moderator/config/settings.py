"""What can be set, and what holds when nothing is: plain frozen data.

Must not know how settings are written, checked or merged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from moderator.context import IsolationLevel
from moderator.furnishing import SMUDGE_CHOICES, Carry, Furnishing, Render
from moderator.models import Command

FEWEST_WORKERS = 1
MOST_WORKERS = 32
MOST_SPARES = 100
LOWEST_PORT, HIGHEST_PORT = 1024, 65535
MOST_PORTS = 1000
"""How many ports one task can be given."""
KEEP_CHOICES = ("always", "failed", "never")
SANDBOX_CHOICES = ("none", "bwrap")
REFILL_CHOICES = ("background", "never")
RECYCLE_CHOICES = ("none", "pristine", "keep_ignored")
PROMPT_CHOICES = ("stdin", "file", "argument")
PARSERS = ("text", "claude-json", "codex-jsonl", "gemini-json", "copilot-jsonl", "opencode-json", "goose-json")
"""What a backend's output can be read as."""
PLACEHOLDERS = ("prompt", "prompt_file", "workspace", "branch", "base", "state_dir", "task_id")
"""What can stand in braces in a backend's `argv` and `env`."""
SPLICE = "{extra_args}"
"""The word of an `argv` in whose place the words of `extra_args` come; without it they come last."""
PROMPT_PLACEHOLDERS = ("prompt", "description", "criteria", "workspace", "branch", "base", "task_id", "kind")
"""What can stand in braces in the template of a prompt."""
OPEN_PLACEHOLDERS = ("path", "task_id", "branch")
"""What can stand in braces in the words of `open`."""
PROMPT_TEMPLATE = """\
{prompt}
{criteria}
You work in {workspace}, a worktree of its own on the branch {branch}: change files there and nowhere else.
Do not commit, switch branches or make another worktree. What you leave in the directory is committed when you have finished.
Nobody can answer questions: where something is unclear, take the simplest reading and say so at the end.
"""
AGREED = (
    *("setup", "verify", "teardown", "env", "open", "backends", "prompt_template", "commit"),
    *("carry", "submodules", "render"),
)
"""Settings by which a repository's own configuration decides what is executed, or what goes to where: see `trust`."""
KIND_RULES = (
    ("prototyping", ("prototyp*", "spike", "proof of concept", "poc", "mock-up", "mockup", "experiment*", "try out")),
    (
        "refactoring",
        (
            "refactor*",
            "restructur*",
            "renam*",
            "clean up",
            "cleanup",
            "simplif*",
            "extract*",
            "dedup*",
            "modernis*",
            "moderniz*",
        ),
    ),
    ("testing", ("test", "tests", "testing", "unittest*", "pytest", "coverage", "regression test*", "fixture*")),
    ("documentation", ("document*", "docs", "doc", "docstring*", "readme", "changelog", "tutorial*", "spell-check*")),
    ("general", ()),
)
"""What a task is that does not say so itself: the first rule one of whose words stands in its text; the last has none."""


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


Row = str | tuple[str, ...]
"""Who does a task: the name of a backend, or several in the order in which they are tried."""


@dataclass(frozen=True)
class BackendRoutingConfig:
    """Which backend executes a task.

    `rules` maps a task's kind to a row, `default_backend` is the row of everything else.  `kinds` says what kind a task is
    that does not say so itself: words (`*` at the end stands for any ending), the first rule wins, the last has no words.
    `max_attempts`: how often a task is tried when a backend fails for reasons of its own.
    """

    enabled: bool = False
    default_backend: Row = "shell"
    rules: Mapping[str, Row] = field(default_factory=dict, hash=False)
    kinds: tuple[tuple[str, tuple[str, ...]], ...] = KIND_RULES
    max_attempts: int = 3


@dataclass(frozen=True)
class BackendConfig:
    """A backend as data: a program that does tasks, and all that is known of its ways.

    `argv` is executed as it is, no shell is involved; without one it is the shell, and the command is the task's own.
    `prompt` is how a prompt goes in: "stdin", "file" or "argument".  `parser` is what its output is read as, one of PARSERS.
    `probe` is a command that ends with 0 where the program is there, and prints its version; `login` one that ends with 0
    where it is logged in; `login_env` are variables, `login_files` files one of which is enough to be.
    `failed` are patterns in its last five lines that mean that it failed in spite of exit code 0; `retry` are those that mean in a
    failure "try again" (a rate limit, the network), `give_up` "never mind" (not logged in).  Patterns are regular expressions
    of `re`, whatever the letter case.
    `limit` is how many of its tasks run at once, None: as many as there are workers.  `timeout` and `idle_timeout` are seconds
    for a task that has none of its own, None: the run's.  `template` is the prompt's, None: the common one.  `litter` are
    patterns of `fnmatch` for what the program leaves at the top of a workspace and nobody wants committed.  `install` is what
    to type to get it, for hints.
    """

    name: str
    argv: tuple[str, ...] = ()
    extra_args: tuple[str, ...] = ()
    prompt: str = "stdin"
    parser: str = "text"
    probe: tuple[str, ...] = ()
    login: tuple[str, ...] = ()
    login_env: tuple[str, ...] = ()
    login_files: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, hash=False)
    failed: tuple[str, ...] = ()
    retry: tuple[str, ...] = ()
    give_up: tuple[str, ...] = ()
    limit: int | None = None
    timeout: float | None = None
    idle_timeout: float | None = None
    template: str | None = None
    litter: tuple[str, ...] = ()
    install: str = ""

    @property
    def is_shell(self) -> bool:
        return not self.argv

    @property
    def words(self) -> tuple[str, ...]:
        """The whole command line as a template, the extra arguments in their place."""
        if SPLICE not in self.argv:
            return (*self.argv, *self.extra_args)
        place = self.argv.index(SPLICE)
        return (*self.argv[:place], *self.extra_args, *self.argv[place + 1 :])


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
    `pool_size`: how many spare worktrees are kept ready; "auto": as many as there are cores, where a checkout takes long.
    `pool_refill`: whether a run leaves a process behind that makes new ones.  `pool_days`, `pool_max_size`: how many days old, and
    how many megabytes together, they may be.  `recycle`: which workspaces become spares when they are removed.
    `carry`, `submodules`, `smudge`: what new workspaces get beside their checkout (see Furnishing); no `carry` at all, None, is
    what `.worktreeinclude` names, an empty one is nothing.  `render`: files that are made for each task (see Render).
    `open`: what opens a workspace for a person, with {path}, {task_id} and {branch}; empty: an editor of the environment.
    `prompt_template`: what an agent is told, with placeholders.
    `setup`, `verify`, `teardown`: the commands of tasks that have none of their own; `setup_timeout`: seconds for all of a set-up.
    `env`: variables of every task, with the placeholders of a task's own.
    `ports_range`: the first and the last port that tasks may be given; `ports_count`: how many each of them gets.
    `backends`: those that were configured, by name; those that are shipped come on top.
    `asked_by_guest`: what the file of a guest says of AGREED, as JSON takes it; nothing if nothing of it is in force.
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
    pool_size: int | str = 0
    pool_refill: str = "background"
    pool_days: float = 7.0
    pool_max_size: float | None = None
    recycle: str = "none"
    carry: tuple[Carry, ...] | None = None
    submodules: bool = False
    smudge: str = SMUDGE_CHOICES[0]
    render: tuple[Render, ...] = ()
    open: tuple[str, ...] = ()
    prompt_template: str = PROMPT_TEMPLATE
    setup: tuple[Command, ...] = ()
    verify: Command | None = None
    teardown: tuple[Command, ...] = ()
    setup_timeout: float = 600.0
    env: Mapping[str, str] = field(default_factory=dict, hash=False)
    ports_range: tuple[int, int] = (20000, 29999)
    ports_count: int = 0
    backends: Mapping[str, BackendConfig] = field(default_factory=dict, hash=False)
    asked_by_guest: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def asked_with(self, teardown: Sequence[Command]) -> dict[str, Any]:
        """Return what the guest's file says of a teardown and its variables, nothing if this teardown is not its word."""
        told = self.asked_by_guest.get("teardown")
        commands = [told] if isinstance(told, str) else list(told or ())
        if not commands or commands != [one if isinstance(one, str) else list(one) for one in teardown]:
            return {}
        return {name: self.asked_by_guest[name] for name in ("teardown", "env") if name in self.asked_by_guest}

    @property
    def furnishing(self) -> Furnishing:
        """What new workspaces get beside their checkout."""
        return Furnishing(included=True).with_own(self.carry, self.submodules, self.smudge, self.render)
