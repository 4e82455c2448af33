"""What the last look into a worktree found, and whether that is still so: told without git, by times of change.

Whoever lists workspaces again and again looks into the same trees, and in most of them nothing has happened.  What `git status`
says hangs on the tree, on the worktree's administrative directory, on the tip of its branch and on settings.  So what it said is
kept in one file, with what these were before git looked: the times that nobody can set (ctime) tell whether the first two are
still as they were, many trees at once, the others are compared.  It was noted as of two seconds before, so whatever happened
since then, while git looked too, is younger.

Yes is certain, but for what is written through a mapping of a file that was written through before; no is not.  What hangs on
more than that is always asked of git, and so is what git answers sooner than every file is looked at.  Good for being shown;
whether work would be lost is never told from this.  Losing the file costs time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace

from moderator.errors import ModeratorError
from moderator.git import leases
from moderator.git.contents import Contents, Worktree
from moderator.git.dating import dates_changes
from moderator.git.mounts import is_local, mounts_in
from moderator.git.repository import Repository
from moderator.git.spares import conversion_of
from moderator.git.untouched import ahead_of_all, is_set_back, notes_of
from moderator.git.values import Counts
from moderator.git.younger import younger_among
from moderator.opening import content

_VERSION = 1
_MARGIN = 2 * 10**9
"""Nanoseconds by which times of files may be behind the clock: some file systems count in whole seconds."""
_MOST_IGNORED = 2_000
"""Entries of ignored directories: git does not look into these, but everything is looked at for its time of change."""
_GITLINK = (0o160000).to_bytes(4, "big")
"""The mode of a submodule in an index, gitformat-index(5); elsewhere in one these bytes are rare."""


@dataclass(frozen=True)
class Before:
    """What a look into a worktree hangs on, beside the files in it, as it was before the look."""

    tip: str
    digest: str


@dataclass(frozen=True)
class _Look:
    """What was found: nothing in the tree is younger than `at`, in nanoseconds, unless it came after."""

    before: Before
    at: int
    ahead: int
    counts: Counts


class Looks:
    """What is known of the worktrees of one repository, at one moment; begin a new one for every round of looks."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._file = repository.ours / "looks.json"
        self._at, self._ahead = time.time_ns() - _MARGIN, ahead_of_all()
        self._settings = ""
        with contextlib.suppress(OSError, ModeratorError):
            self._settings = _settings(replace(repository))  # as it is configured at this moment
        self._known = self._read() if self._settings else {}
        self._still = dict[str, _Look]()
        self._dated = dict[tuple[str, int], bool]()

    def before(self, worktree: Worktree, tip: str | None) -> Before | None:
        """Return what a look hangs on now, `tip` the commit of the branch; None where no later look could tell."""
        with contextlib.suppress(OSError):
            tree = os.lstat(worktree.tree)
            where = (os.path.dirname(worktree.tree), tree.st_dev)
            if where not in self._dated:
                self._dated[where] = self._dates(*where)
            own = os.path.lexists(os.path.join(worktree.git_dir, "config.worktree"))  # may lead to any other file
            if self._settings and self._dated[where] and not own:
                place = (worktree.tree, tree.st_dev, tree.st_ino)
                told = (self._settings, place, sorted(notes_of(worktree.git_dir).items()))
                return Before(tip or "", hashlib.sha256(json.dumps(told).encode()).hexdigest())
        return None

    def find(self, worktrees: Mapping[str, Worktree], before: Mapping[str, Before]) -> dict[str, Counts]:
        """Return what was found at the last look in those of some worktrees in which nothing has happened since."""
        rounds: dict[int, dict[str, str]] = {}  # when they were looked into last, mostly all at once
        for name, worktree in worktrees.items():
            known = self._known.get(_key(worktree))
            if known and known.before == before[name] and known.at < self._at and not is_set_back(known.ahead):
                rounds.setdefault(known.at, {})[name] = worktree.tree
        found = {}
        for at, trees in rounds.items():
            younger = younger_among(list(trees.values()), at)
            for name, tree in trees.items():
                if tree not in younger:
                    key = _key(worktrees[name])
                    self._still[key] = replace(self._known[key], at=self._at, ahead=self._ahead)
                    found[name] = self._known[key].counts
        return found

    def note(self, worktree: Worktree, before: Before, contents: Contents) -> None:
        """Note what git found in a worktree that was as `before`; not where that hangs on what is elsewhere, or is found sooner."""
        if contents.gitlinks or contents.nested or contents.warnings:
            return
        with contextlib.suppress(OSError):
            if any(name == "modules" or name.startswith("sharedindex.") for name in os.listdir(worktree.git_dir)):
                return
            folders = [os.path.join(worktree.tree, path) for path in contents.ignored if path.endswith("/")]
            if _has_few(folders) and _GITLINK not in content(os.path.join(worktree.git_dir, "index")):
                self._still[_key(worktree)] = _Look(before, self._at, self._ahead, contents.counts)

    def keep(self) -> None:
        """Write down what is known, but of worktrees that are gone; somebody who writes at this moment goes first."""
        if not self._still:
            return
        there = set[str]()
        with contextlib.suppress(OSError):
            there.update(os.listdir(os.path.join(self._repository.common, "worktrees")))
        looks = {key: one for key, one in (self._known | self._still).items() if key in there}
        values = {"version": _VERSION, "boot": leases.this_process().boot_id}
        values["looks"] = {
            key: [one.before.tip, one.before.digest, one.at, one.ahead, *astuple(one.counts)]
            for key, one in looks.items()
        }
        with contextlib.suppress(OSError, ModeratorError):  # a full disk, say: then git looks again
            if lease := leases.try_acquire(self._repository.ours / "leases" / "looks.lock"):
                try:
                    aside = self._file.with_name(f".{self._file.name}.new")
                    aside.write_text(json.dumps(values), "ascii")
                    os.replace(aside, self._file)
                    lease.forget()
                finally:
                    lease.release()

    def _read(self) -> dict[str, _Look]:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            values = json.loads(content(self._file))
            if values["version"] == _VERSION and values["boot"] == leases.this_process().boot_id:
                return {key: _look(*told) for key, told in values["looks"].items()}
        return {}

    def _dates(self, folder: str, device: int) -> bool:
        """Whether times of change tell all that happens in a tree in this folder."""
        ours = self._repository.ours
        if os.lstat(ours).st_dev != device or not is_local(folder) or mounts_in(folder):
            return False
        staging = ours / "staging"  # where `doctor` finds what a killed process leaves
        staging.mkdir(exist_ok=True)
        return dates_changes(str(staging), device)


def _key(worktree: Worktree) -> str:
    return os.path.basename(worktree.git_dir)


def _look(tip: str, digest: str, at: int, ahead: int, *counts: int) -> _Look:
    """Return a look as it was written.  Raises TypeError, ValueError."""
    if not all(type(number) is int for number in (at, ahead, *counts)) or len(counts) != len(astuple(Counts())):
        raise ValueError("no look of ours")
    return _Look(Before(tip, digest), at, ahead, Counts(*counts))


def _has_few(folders: list[str]) -> bool:
    """Whether there is not much in some directories.  Raises OSError."""
    seen = 0
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                seen += 1
                if seen > _MOST_IGNORED:
                    return False
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
    return True


def _settings(repository: Repository) -> str:
    """Return a digest of all that decides what git finds in a tree, beside what is in it; "" where that differs from tree to tree.

    A file that is included on a condition counts whether or not that holds here: it may in a worktree.  Raises OSError, GitFailed.
    """
    files = [repository.setting(key) for key in ("core.excludesfile", "core.attributesfile")]
    for key, values in repository.settings.items():
        if key.startswith("includeif.onbranch:"):
            return ""
        if key.startswith("includeif."):
            files += values
    if not all(not name or os.path.isabs(os.path.expanduser(name)) for name in files):
        return ""
    told: list[object] = [conversion_of(repository), sorted(repository.settings.items())]
    for name in filter(None, files):
        with contextlib.suppress(FileNotFoundError):
            told.append(hashlib.sha256(content(os.path.expanduser(name))).hexdigest())
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()
