"""Whether a worktree is exactly as it was when it was handed out, told without git and without reading a file.

Most tasks that check something change nothing, and `git status` is half of what such a task costs beyond its checkout.
Whatever changes a file, its name or its mode gives it, or the directory it is in, a new time of change (ctime, which
nobody can set).  So it is enough that the clock of that file system has moved on between the checkout and the first moment
in which somebody can have worked: then everything that is younger was changed since, and what is not was not.

Yes is certain, no is not: whatever is unusual (a packed branch, a clock that was put back, a file system that counts
whole seconds) is a no, and git is asked.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from moderator.git.contents import Worktree
from moderator.git.younger import is_anything_younger
from moderator.opening import opened

_PATIENCE = (
    0.02  # seconds for the clock of a file system to move on: some count in steps of 10 ms, some in whole seconds
)
_SET_BACK = 1_000_000  # nanoseconds that three readings of two clocks may be apart without anybody having set one

_Notes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Untouched:
    """What a worktree was when it was handed out: nothing in the tree is younger than `at`, in nanoseconds."""

    at: int
    ahead: int
    notes: _Notes

    @classmethod
    def of(cls, worktree: Worktree) -> Untouched | None:
        """Return what a worktree is in which nobody has worked yet; None where no later look could tell.

        Waits until what is written next is younger than what is there: some milliseconds at most.
        """
        if os.path.lexists(os.path.join(worktree.git_dir, "modules")):
            return None  # a submodule moves on without a trace in the tree, by a commit of what is there already
        pointer = os.path.join(worktree.tree, ".git")
        deadline = time.monotonic() + _PATIENCE
        try:
            at = _touched(pointer)
            while _touched(pointer) <= at:
                if time.monotonic() > deadline:
                    return None
                time.sleep(0.0005)
            return cls(at, ahead_of_all(), notes_of(worktree.git_dir))
        except OSError:
            return None

    def holds(self, worktree: Worktree, ref: str | None, commit: str) -> bool:
        """Whether nothing has changed since: neither tree, nor index, HEAD and what else git notes, nor the branch `ref`."""
        try:
            return (
                not is_set_back(self.ahead)
                and notes_of(worktree.git_dir) == self.notes
                and (ref is None or _points_to(os.path.join(worktree.git_dir, "../..", ref), commit))
                and os.lstat(worktree.tree).st_ctime_ns <= self.at
                and not is_anything_younger(worktree.tree, self.at)  # `.git` is ours: the clock is read from it
            )
        except OSError:
            return False


def is_set_back(ahead: int) -> bool:
    """Whether the clock by which files are dated has been put back since it was noted how far it is ahead: see Untouched."""
    return ahead_of_all() <= ahead - _SET_BACK


def _touched(path: str) -> int:
    """Return the time in nanoseconds that the file system gives to what is changed now."""
    os.utime(path)
    return os.stat(path).st_ctime_ns


def ahead_of_all() -> int:
    """Return how far the clock by which files are dated is ahead of one that nobody can set, in nanoseconds.

    A pause between the two readings makes it more, so the least of some is the best.
    """
    return min(-time.monotonic_ns() + time.time_ns() for _ in range(3))


def notes_of(git_dir: str) -> _Notes:
    """Return what changes when anything in an administrative directory does: index, HEAD, logs, states of operations."""
    with os.scandir(git_dir) as entries:
        found = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
    return {name: (one.st_ino, one.st_mode, one.st_size, one.st_mtime_ns, one.st_ctime_ns) for name, one in found}


def _points_to(path: str, commit: str) -> bool:
    """Whether a ref that is a file of its own names this commit."""
    with opened(path) as file:
        return file.read(len(commit) + 1) == commit.encode() + b"\n"
