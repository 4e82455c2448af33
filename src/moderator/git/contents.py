"""What a worktree holds, as git tells: every path that is in no commit, where HEAD is, what is in progress.

Nothing here changes anything.  The user's own settings are overruled where they would hide work
(`status.showUntrackedFiles=no`, `core.ignoreStat`, `diff.ignoreSubmodules`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from moderator.git import heads
from moderator.git.command import Answer, git_beside, polling, run_git
from moderator.git.values import Counts

_TELLING_ALL = {
    "core.ignoreStat": "false",
    "core.checkStat": "default",
    "core.trustctime": "true",
    "status.showUntrackedFiles": "all",
    "status.renames": "false",
    "advice.statusHints": "false",
    "core.untrackedCache": "false",
    "core.splitIndex": "false",  # the shared part of a private index would be written beside the user's
}
_OPERATIONS = {
    "MERGE_HEAD": "merge",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
    "rebase-merge": "rebase",
    "rebase-apply": "rebase",
    "BISECT_LOG": "bisect",
    "sequencer": "sequence of commits",
}
IGNORED = "ignored by git, so in no commit"
"""How a finding about ignored files begins."""
_PATIENCE = 1800.0  # seconds: a look that takes longer waits for something that never comes
_SHOWN = 5  # paths named in a finding before the rest is counted


@dataclass
class Contents:
    """Every path that is in no commit, by kind, and where HEAD is."""

    head: str = ""
    branch: str | None = None
    staged: list[str] = field(default_factory=list)
    modified: list[str] = field(default_factory=list)
    unmerged: list[str] = field(default_factory=list)
    untracked: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    gitlinks: set[str] = field(default_factory=set)
    became_repositories: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def counts(self) -> Counts:
        return Counts(len(self.staged), len(self.modified), len(self.untracked), len(self.ignored), len(self.unmerged))

    @property
    def nested(self) -> list[str]:
        """Repositories of their own whose content no commit of this one would hold."""
        return [path for path in self.untracked if path.endswith("/")] + self.became_repositories

    @property
    def uncommitted(self) -> list[str]:
        """Paths that the next commit would take."""
        return list(dict.fromkeys([*self.staged, *self.modified, *self.unmerged, *self.untracked]))


@dataclass(frozen=True)
class Worktree:
    """A working tree and its administrative directory, named outright so that nothing is discovered on the way."""

    tree: str
    git_dir: str
    descriptors: tuple[int, ...] = ()

    def git(self, *arguments: str, settings: dict[str, str] | None = None, **options: object) -> Answer:
        options.setdefault("descriptors", self.descriptors)
        return run_git(
            *self._itself,
            *arguments,
            cwd=self.tree,
            settings={**_TELLING_ALL, **(settings or {})},
            **options,  # type: ignore[arg-type]
        )

    @property
    def _itself(self) -> tuple[str, str]:
        return (f"--git-dir={self.git_dir}", f"--work-tree={self.tree}")

    def contents(self, ignored: bool = True, refresh: bool = False, submodules: bool = True) -> Contents:
        """Return everything in the tree that is in no commit.

        `refresh` lets git note in the index what it found unchanged, for whoever has the worktree to himself: files that
        are as young as the index are read anew by every look until one of them is allowed to.
        """
        env = {} if refresh else polling()
        return _told(self.git(*_status(ignored, submodules), env=env, timeout=_PATIENCE))

    @contextlib.contextmanager
    def looked_at(self, submodules: bool) -> Iterator[tuple[Callable[[], Contents], Callable[[], list[str]]]]:
        """Let git look while the caller does; what is given waits for its `contents`, and for the lines of the index.

        These are as `git ls-files -v -s` writes them: a tag that says whether git looks at the file, mode, blob, stage, a tab,
        the path.
        """
        with (
            self._beside(*_status(True, submodules)) as status,
            self._beside("ls-files", "-v", "-s", "-z") as listed,
        ):
            yield lambda: _told(status()), lambda: listed().fields

    def _beside(self, *arguments: str) -> AbstractContextManager[Callable[[], Answer]]:
        return git_beside(
            *self._itself, *arguments,
            cwd=self.tree, env=polling(), settings=_TELLING_ALL, descriptors=self.descriptors,
        )  # fmt: skip

    @property
    def operation(self) -> str | None:
        """The merge, rebase, cherry-pick, revert or bisect in progress, None if there is none."""
        try:
            there = {*os.listdir(self.git_dir), *heads.own_refs(self.git_dir)}
        except OSError:
            return None
        return next((operation for name, operation in _OPERATIONS.items() if name in there), None)


def _status(ignored: bool, submodules: bool) -> tuple[str, ...]:
    return (
        "status", "--porcelain=v2", "-z", "--branch", "--untracked-files=all", "--no-renames",
        "--ignored=matching" if ignored else "--ignored=no",
        f"--ignore-submodules={'none' if submodules else 'all'}",
    )  # fmt: skip


def _told(answer: Answer) -> Contents:
    contents = _parsed(answer.fields)
    # A directory that git may not read is only warned of, and what is in it not told.
    contents.warnings = [line for line in answer.err.splitlines() if line.startswith("warning: could not open")]
    return contents


def _parsed(entries: Iterable[str]) -> Contents:
    contents = Contents()
    for entry in entries:
        kind, _, rest = entry.partition(" ")
        if kind == "#":
            name, _, value = rest.partition(" ")
            if name == "branch.oid":
                contents.head = "" if value == "(initial)" else value
            elif name == "branch.head":
                contents.branch = None if value == "(detached)" else value
        elif kind == "1":  # 1 XY sub mH mI mW hH hI path
            xy, _, _, index_mode, tree_mode, _, _, path = rest.split(" ", 7)
            if "160000" in (index_mode, tree_mode):
                contents.gitlinks.add(path)
            if tree_mode == "160000" != index_mode:
                contents.became_repositories.append(path)
            if xy[0] != ".":
                contents.staged.append(path)
            if xy[1] != ".":
                contents.modified.append(path)
        elif kind == "u":  # u XY sub m1 m2 m3 mW h1 h2 h3 path
            contents.unmerged.append(rest.split(" ", 9)[9])
        elif kind == "?":
            contents.untracked.append(rest)
        elif kind == "!":
            contents.ignored.append(rest)
    return contents


def shown(paths: Sequence[str]) -> str:
    names = ", ".join(printable(path) for path in paths[:_SHOWN])
    return names if len(paths) <= _SHOWN else f"{names} and {len(paths) - _SHOWN} more"


def printable(path: str) -> str:
    """Return a path as a terminal can take it: control characters and broken bytes escaped."""
    return path if path.isprintable() else ascii(path)[1:-1]
