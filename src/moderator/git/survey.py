"""One walk through a tree: what git never tells of, and stamps by which a later walk tells that nothing was written since.

A stamp holds the time of change, which no program can set: a file with the same stamp is the same file with the same bytes, if
it was not changed within a tick of its file system's clock of being stamped.  `Watch` tells whether that can have been.  What
alone changes bytes without a trace is a program that has the file mapped into its memory and wrote to that place before.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

from moderator.git.dating import dates_changes
from moderator.git.mounts import is_local
from moderator.git.walking import Stamp, walk, walked_apart
from moderator.git.younger import is_anything_younger

_TICK = 0.05  # seconds by which times of files may be behind the clock, with a wide margin
_COARSE_TICK = 2.0  # the same where only whole seconds are noted
_SECOND = 10**9  # nanoseconds
MANY = 3_000
"""Paths from which a tree is large: other processes are worth their start, and not each path is compared."""

MODE, CHANGED = 0, 2
"""Where they stand in a stamp."""


class Survey:
    """What is in a tree, without following links and without entering repositories' own directories.

    `files` are regular files and links, `special` sockets, pipes and devices, `nested` folders that are repositories of their own,
    `empty` those without anything in them, `unread` those that nobody may list.  `young` is what was written after `since`, in
    nanoseconds, and all below a folder that was: it may have come in with that, as old as it is.  `size` is in bytes.  All
    paths are below the tree.
    """

    def __init__(self, tree: str, since: int = sys.maxsize, large: bool = False) -> None:
        """`large`: it has so many files (`MANY`) that other threads are not to be held up by a look at it."""
        walked = walked_apart(tree, since) if large and threading.active_count() > 1 else None
        walked = walked or walk(tree, since)
        self.stamps, self.files, self.nested, self.special, self.empty, self.unread, young, self.size = walked
        self.young = set(young)
        with contextlib.suppress(OSError):  # its time of change tells of a rename too, which is no change in it
            found = os.lstat(tree)
            self.stamps[""] = (found.st_mode, found.st_ino, 0, 0)

    def overlooked(self, known: Iterable[str], same: Callable[[str], str] | None) -> list[str]:
        """Return the files that git did not tell of; `known` are those it told of, directories among them ending in a `/`.

        Its account of a tracked file that has become a directory has gaps, and nothing may hang on there being no others.
        `same` makes two names of one file equal.
        """
        told = set(map(same, known) if same else known)
        unknown = [path for path in self.files if same(path) not in told] if same else list(set(self.files) - told)
        if not unknown:
            return []
        whole = {path for path in told if path.endswith("/")} | {
            f"{same(path) if same else path}/" for path in self.nested
        }
        return [
            path for path in unknown if not any(f"{folder}/" in whole for folder in above(same(path) if same else path))
        ]

    def stamp_repositories(self, tree: str, modules: str) -> None:
        """Stamp what the repositories inside the tree note of themselves too, in their own directories or in `modules`.

        Not their objects, of which one that nothing names is nobody's work.
        """
        for folder in (*(os.path.join(tree, path, ".git") for path in self.nested), modules):
            for where, folders, names in os.walk(folder):
                if "HEAD" in names and "objects" in folders:  # elsewhere it is a name like any other
                    folders.remove("objects")
                # The shared part of an index is touched by everybody who reads it.
                for path in (os.path.join(where, name) for name in names if not name.startswith("sharedindex.")):
                    with contextlib.suppress(OSError):
                        self.stamps[os.path.relpath(path, tree) if folder != modules else path] = stamp(path)


def stamp(path: str) -> Stamp:
    """Return the stamp of one file or link.  Raises OSError."""
    found = os.lstat(path)
    return (found.st_mode, found.st_ino, found.st_ctime_ns, found.st_size)


def above(path: str) -> Iterator[str]:
    """Yield the folders that a path is in, the nearest first."""
    while path := os.path.dirname(path):
        yield path


@dataclass(frozen=True)
class Watch:
    """A moment from which on nothing in a tree goes unnoticed.

    `began` is when, by the clock of the tree's own file system; `at` by one that nobody can set, `ahead` by how much this
    machine's other clock was ahead of that.  All in seconds.
    """

    began: float
    at: float
    ahead: float

    @classmethod
    def begin(cls, folder: str) -> Watch:
        """Begin; `folder` is on the tree's file system.  One that takes no file more is asked nothing: our own clock has to do."""
        began = time.time()
        # Without a name, where there are such files: nothing is left of it, whatever happens.
        with contextlib.suppress(OSError), tempfile.TemporaryFile(dir=folder) as asked:
            began = os.fstat(asked.fileno()).st_ctime
        return cls(began, time.monotonic(), _ahead())

    def covers(self, stamps: Collection[Stamp]) -> bool:
        """Whether everything that was stamped since then has been as it is since before: not one was changed meanwhile.

        Not where the clock was set meanwhile.
        """
        if self._is_clock_set:
            return False
        tick = _tick(stamps)
        first = (self.began - tick) * _SECOND
        last = (self.began + time.monotonic() - self.at + tick) * _SECOND
        # What is younger than now was changed when the clock was ahead, so not since.
        return not any(first <= changed <= last for _, _, changed, _ in stamps)

    def goes_on(self, tree: str, survey: Survey) -> bool:
        """Whether nothing in a tree, by now perhaps renamed, has changed since the survey; False where only another can tell.

        `survey` is of the tree, and covered: so whatever is younger now was changed since, and nothing else was.  Other machines
        have other clocks, so that holds of what only this one writes to.
        """
        stamps = survey.stamps
        if len(stamps) < MANY or survey.nested or not is_local(tree):
            return False
        try:
            found = os.lstat(tree)
            if not dates_changes(os.path.dirname(tree), found.st_dev):
                return False
            # The tree's own time of change tells of the rename: so what stands in it is compared.
            top = {path: one for path, one in stamps.items() if path and os.sep not in path}
            same = stamps.get("") == (found.st_mode, found.st_ino, 0, 0) and top == {
                name: stamp(os.path.join(tree, name)) for name in os.listdir(tree) if name != ".git"
            }
            oldest = int((self.began - _tick(stamps.values())) * _SECOND)
            return same and not is_anything_younger(tree, oldest) and not self._is_clock_set
        except OSError:
            return False

    def pause(self, stamps: Collection[Stamp]) -> None:
        """Wait until what was changed last is old enough for another watch to cover it."""
        time.sleep(2 * _tick(stamps))

    @property
    def _is_clock_set(self) -> bool:
        return abs(_ahead() - self.ahead) > _TICK / 2


@dataclass(frozen=True)
class Seen:
    """What a look found in a tree, and the watch that covers it: so it can be told later whether that is still so."""

    survey: Survey
    watch: Watch

    def holds(self, tree: str) -> bool:
        """Whether nothing in the tree has changed since; False also where only another look can tell."""
        return self.watch.goes_on(tree, self.survey)


def _tick(stamps: Collection[Stamp]) -> float:
    return _TICK if any(changed % _SECOND for _, _, changed, _ in stamps) else _COARSE_TICK


def _ahead() -> float:
    """Return by how much the clock that can be set is ahead of the one that cannot."""
    return time.time() - time.monotonic()
