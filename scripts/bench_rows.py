"""What sections have in common: the sizes of everything, a row of the table, the ground, and the two sides of a pair."""

from __future__ import annotations

import os
import shlex
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench_ground import delete, done, git, repository, seconds

from moderator.context import ExecutionContext, IsolationLevel
from moderator.git.manager import GitManager

CORES = os.cpu_count() or 1


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    files: tuple[int, ...]  # of the repositories in which one workspace is made
    rounds: tuple[int, ...]  # for each of them
    width: int  # how many at once
    at_once: int  # rounds of them
    races: int  # the same on the ordinary file system, to count failures
    present: tuple[int, int]  # workspaces: few and many
    flat: int  # rounds
    moved: int  # files by which the base has moved
    many_tasks: int  # that do nothing, in one run
    pooled_tasks: int  # over four workers, with spares
    lists: tuple[int, ...]  # workspaces that are listed
    tasks: int
    runs: int  # pairs of runs
    listed: int  # workspaces with changes
    starts: int  # rounds
    queued: int  # tasks
    printed: int  # bytes
    pause: float = 1.05  # seconds until git can tell what was written before its index from what was after


FULL = Sizes(
    (200, 5_000, 30_000), (15, 9, 7), 16, 6, 24, (10, 1_000), 15, 400, 1_000, 64, (10, 100, 1_000), 200, 3, 10, 20, 1_000,
    2_000_000_000,
)  # fmt: skip
QUICK = Sizes((200, 10_000), (4, 2), 16, 1, 1, (10, 100), 4, 100, 100, 8, (10, 100), 20, 1, 10, 4, 50, 200_000_000)
SMOKE = Sizes((10, 20), (1, 1), 2, 1, 1, (1, 2), 1, 3, 2, 2, (2,), 2, 1, 2, 1, 2, 1_000_000, 0.0)


@dataclass
class Row:
    """One line of the table.  `pairs` are (theirs, ours) in the unit; the aim is a limit of the ratio or of ours."""

    what: str
    pairs: list[tuple[float, float]]
    unit: str = "s"
    most_ratio: float | None = None
    most: float | None = None
    scaled: float = 1.0  # how much slower this machine is than the one the aim in absolute terms was set for
    beside: str = ""  # what the first figure is, where it is not plain git
    failed: tuple[int, int, int] | None = None  # of theirs, of ours, of how many each

    @property
    def cells(self) -> tuple[str, ...]:
        theirs, ours, ratio, aim, met = "-", "-", "-", "-", "-"
        if self.pairs:
            first = statistics.median(pair[0] for pair in self.pairs)
            second = statistics.median(pair[1] for pair in self.pairs)
            ours = _shown(second, self.unit)
            if first:
                theirs = _shown(first, self.unit) + (f" ({self.beside})" if self.beside else "")
                ratios = sorted(one[1] / one[0] for one in self.pairs)
                middle = statistics.median(ratios)
                ratio = f"{middle:.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"
                if self.most_ratio is not None:
                    aim, met = f"{self.most_ratio:g}x", "yes" if middle <= self.most_ratio else "**no**"
            if self.most is not None:
                aim = _shown(self.most, self.unit)
                if self.unit == "s":
                    ours += f", least {_shown(min(pair[1] for pair in self.pairs), self.unit)}"
                met = "yes" if second < self.most else "scaled" if second < self.most * self.scaled else "**no**"
        if self.failed is not None:
            theirs, ours = (f"{count} of {self.failed[2]} failed" for count in self.failed[:2])
            aim, met = "no failure", "**no**" if self.failed[1] else "yes"
        return self.what, theirs, ours, ratio, aim, met

    def to_dict(self) -> dict[str, Any]:
        """Return the row with every single figure."""
        theirs, ours = ([pair[side] for pair in self.pairs] for side in (0, 1))
        return {
            "what": self.what, "unit": self.unit, "theirs": theirs, "ours": ours, "beside": self.beside or "plain git",
            "most_ratio": self.most_ratio, "most": self.most, "failed": self.failed, "cells": list(self.cells),
        }  # fmt: skip


def _shown(value: float, unit: str) -> str:
    if unit == "MB":
        return f"{value:.0f} MB"
    if not unit:
        return f"{value:.1f}"
    return f"{value * 1000:.{0 if value >= 0.03 else 1}f} ms" if value < 1 else f"{value:.2f} s"


@dataclass
class Ground:
    """Where to measure, and what was prepared once for several sections."""

    folder: Path
    race_folder: Path
    sizes: Sizes
    say: Callable[[str], None]
    given: Path | None = None  # a repository of the user's, instead of generated ones
    compare: tuple[str, str] | None = None  # the commands of another tool that make a workspace and remove it
    _made: dict[int, Path] = field(default_factory=dict)

    def template(self, files: int) -> Path:
        """Return a repository that is copied, never changed."""
        if files not in self._made and self.given and files == self.sizes.files[-1]:
            self.say(f"cloning {self.given}")
            place = self.folder / f"template-{files}"
            git(self.folder, "clone", "--quiet", "--no-hardlinks", str(self.given), str(place))
            git(place, "checkout", "--quiet", "-B", "main")
            self._made[files] = place
        if files not in self._made:
            self.say(f"making a repository of {files:,} files")
            self._made[files] = repository(self.folder / f"template-{files}", files)
        return self._made[files]


class Ours:
    """One repository in which workspaces are made."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.manager = GitManager(place)
        self.base = base_of(place)

    @property
    def root(self) -> str:
        return self.base.working_directory

    def create(self, name: str) -> None:
        context = ExecutionContext.create_isolated_context(self.base, name)
        self.manager.create_workspace(context).release()

    def put_away(self, name: str) -> None:
        """Remove a workspace as a person sees it: both looks and the renames; it is deleted at leisure."""
        self.manager.remove_workspace(name, later=True)

    def remove(self, name: str) -> None:
        branch = self.manager.find(name).branch
        self.manager.remove_workspace(name)
        git(self.place, "branch", "-qD", str(branch))


class Theirs:
    """The same with plain git."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def create(self, name: str) -> None:
        tree = f"{self.place}.trees/{name}"
        done(["git", "worktree", "add", "-b", f"main-task-{name}", tree, "main"], self.place)

    def take_away(self, name: str) -> None:
        git(self.place, "worktree", "remove", f"{self.place}.trees/{name}")

    def remove(self, name: str) -> None:
        git(self.place, "worktree", "remove", "--force", f"{self.place}.trees/{name}")
        git(self.place, "branch", "-qD", f"main-task-{name}")


def base_of(place: Path) -> ExecutionContext:
    state = str(place / ".git" / "moderator" / "state")
    return ExecutionContext("bench", f"{place}.moderator", "main", state, IsolationLevel.FULL)


def timed(
    number: int, theirs: Callable[..., object], ours: Callable[..., object], *arguments: object
) -> tuple[float, float]:
    if number % 2:
        second = seconds(ours, *arguments)
        return seconds(theirs, *arguments), second
    return seconds(theirs, *arguments), seconds(ours, *arguments)


def clear(folder: Path, prefix: str) -> None:
    for made in folder.glob(f"{prefix}*"):
        delete(made)


@dataclass
class Other:
    """Another tool, by the commands that a person would type: `{repo}`, `{path}` and `{branch}` stand for the names."""

    place: Path
    making: str
    removing: str

    def create(self, name: str) -> None:
        self._run(self.making, name)

    def remove(self, name: str) -> None:
        self._run(self.removing, name)

    def _run(self, command: str, name: str) -> None:
        names = {"repo": str(self.place), "path": f"{self.place}.other/{name}", "branch": f"other-{name}"}
        done([word.format(**names) for word in shlex.split(command)], self.place)
