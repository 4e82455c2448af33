"""Delete at leisure what removals left in the trash, and only what nobody can want any more.

What a removal found to be held by commits may go at once; what only the trash holds stays until its time.  A tree in which
somebody works, or that was written to after it was removed, stays too.  Whatever is deleted gets a name first that says so:
an interrupted deletion is finished by the next one, whoever starts it.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from moderator.errors import EnvironmentProblem, WorkspaceBusy
from moderator.git import leases
from moderator.git.command import abreast, is_stopped
from moderator.git.registry import Record, Registry
from moderator.git.removals import Removals
from moderator.git.repository import Repository
from moderator.git.retiring import tidy_trash
from moderator.git.trash import GARBAGE, delete, into_garbage, is_in_trash, leads_elsewhere, retired_of, trash_of
from moderator.git.users import processes_in, writers_in
from moderator.git.values import Removal
from moderator.git.younger import is_anything_younger

_STRAGGLER = "what was written into it after its removal"
_REMEMBERED = 200  # removals of which nothing but commits is kept
_MOST_WAITING = 8  # trees that a run leaves to be deleted when its tasks have ended
_STEP = 0.5  # seconds of deletion between two looks whether somebody works
_PAUSE = 1.0  # seconds between looks while somebody does
_CLOCK_TICK = 0.01  # seconds by which times of files may be behind the clock
_ROUNDED = 1_000  # nanoseconds by which a time in seconds may be off


def trash_lock(repository: Repository, name: str) -> Path:
    """Return the lock that whoever deletes a removal's trash, or brings it back, holds."""
    return repository.ours / "leases" / f"trash@{name}.lock"


class Emptier:
    """Empties the trash of one repository for at most `seconds`."""

    def __init__(self, repository: Repository, registry: Registry, removals: Removals, days: float) -> None:
        self._repository = repository
        self._registry = registry
        self._removals = removals
        self._days = days
        self._free_at_first: dict[int, tuple[int, int]] = {}
        self._trees = 0
        self._waiting, self._making_room = threading.Lock(), threading.Lock()

    def may_wait(self, record: Record) -> bool:
        """Whether the tree of a workspace may lie in the trash until nobody works; if so, it counts as waiting.

        A few only: where trees are deleted while others are made, these get memory and room just given back.  And none once
        what lies there, or whatever else has come meanwhile, takes more than half of what the file system still had at first.
        """
        try:
            device, free = os.lstat(record.path).st_dev, _free(os.path.dirname(record.path))
        except OSError:
            return False
        with self._waiting:
            may = self._trees < _MOST_WAITING and _is_half(free, self._free_at_first.setdefault(device, free))
            self._trees += may
        return may

    def make_room(self, folder: str) -> None:
        """Delete what waits, if there is no room for it any more where a folder is to be made; others wait for that."""
        while not os.path.isdir(folder) and folder != os.path.dirname(folder):
            folder = os.path.dirname(folder)
        with contextlib.suppress(OSError):
            device = os.stat(folder).st_dev
            if self._is_short(device, folder):
                with self._making_room:
                    if self._is_short(device, folder):
                        self.empty(None, own=False)

    def _is_short(self, device: int, folder: str) -> bool:
        first = self._free_at_first.get(device)
        return first is not None and not _is_half(_free(folder), first)

    def empty(self, seconds: float | None, own: bool) -> bool:
        """Delete what may go; return whether all of that is gone.

        `own`: also what only the trash has of removals that were written down here, in this process.
        """
        deadline = math.inf if seconds is None else time.monotonic() + seconds
        with self._waiting:
            self._free_at_first.clear()
            self._trees = 0
        found = list(self._removals)
        for removal, record in found:
            if own or removal.kept_until is None or removal.id not in self._removals.own:
                self.release(removal, record)
        # What was all in commits can be brought back for as long as anybody remembers it, and no longer.
        bare = [
            removal for removal, record in found if removal.rescue is None and not is_in_trash(self._repository, record)
        ]
        for removal in bare[:-_REMEMBERED]:
            self._removals.drop(removal.id)
        folders = {str(self._repository.ours / "trash")}
        folders |= {os.path.dirname(trash_of(record)) for _, record in found if record.path}
        folders |= {os.path.dirname(trash_of(record)) for record in self._registry if record.path}
        done = [self._delete_garbage(folder, deadline) for folder in folders]
        return all(done)

    def empty_at_leisure(self, seconds: float) -> bool:
        """Delete what may go, but never while a workspace is held: whoever works goes first.  Return whether all of it is gone.

        After `seconds` the rest is left to the next one.  Raises WorkspaceBusy if another process is at it.
        """
        deadline = time.monotonic() + seconds
        with leases.held(trash_lock(self._repository, "all"), "the trash", 0.0) as alone:
            try:
                while (began := time.monotonic()) < deadline:
                    if any(self._registry.holder(record) for record in self._registry):
                        time.sleep(_PAUSE)
                    elif self.empty(_STEP, own=True):
                        return True
                    elif time.monotonic() < began + _STEP:  # what is left cannot be deleted
                        return False
            finally:
                alone.forget()
        return False

    def release(self, removal: Removal, record: Record) -> None:
        """Give what a removal left to deletion, if its time has come; forget the removal when nothing can be kept of it."""
        now = time.time()
        tree, entry = trash_of(record) if record.path else "", retired_of(self._repository, record)
        present = bool(record.path) and (os.path.lexists(tree) or os.path.lexists(entry))
        if not present:
            if now > removal.removed_at + self._days * 86400:
                self._removals.drop(removal.id)
            return
        if removal.kept_until is not None and now < removal.kept_until:
            return
        lock = trash_lock(self._repository, removal.id)
        # Somebody brings it back at this moment, or the disk is full: it can go later.
        with contextlib.suppress(WorkspaceBusy, EnvironmentProblem), leases.held(lock, "the trash", 0.0) as lease:
            now_known = self._removals.find(removal.id)
            if now_known is None or now_known[0] != removal or self._removals.stands(removal, record):
                return
            if next(processes_in(tree), None):
                return
            if next(writers_in(tree), None):  # what is written through a mapping may leave no time of change
                self._removals.write(self._kept_on(removal, now), record)
                return
            since = _known_until(removal)
            if _may_be_younger(tree, since) and (youngest := _youngest(tree)) >= since:
                if youngest < now - _CLOCK_TICK:  # otherwise more may come that looks as old; later there is no doubt
                    self._removals.write(self._kept_on(removal, youngest), record)
                return
            for path in (tree, entry):
                if not leads_elsewhere(os.path.dirname(path)):
                    with contextlib.suppress(OSError):
                        into_garbage(path)
            lease.forget()

    def _kept_on(self, removal: Removal, youngest: float) -> Removal:
        """Return the removal of a tree that was written to: it has its time anew from then on, and no other reason to stay."""
        left = removal.left if _STRAGGLER in removal.left else (*removal.left, _STRAGGLER)
        known = math.nextafter(youngest, math.inf)
        return replace(removal, left=left, kept_until=youngest + self._days * 86400, renamed_at=known)

    def delete_garbage_of(self, record: Record) -> None:
        """Delete what waits for it of one removal."""
        for path in (
            trash_of(record) if record.path else "",
            retired_of(self._repository, record) if record.entry else "",
        ):
            if path:
                delete(path + GARBAGE)
        if record.path:
            tidy_trash(record)

    def _delete_garbage(self, folder: str, deadline: float) -> bool:
        if leads_elsewhere(folder):
            return True
        try:
            names = [name for name in os.listdir(folder) if name.endswith(GARBAGE)]
        except OSError:
            return True
        paths = [os.path.join(folder, name) for name in names]
        away = partial(delete, deadline=deadline, stopped=is_stopped)
        gone = all([*(abreast(away, paths, most=os.cpu_count() or 1) if len(paths) > 1 else map(away, paths))])
        with contextlib.suppress(OSError):  # only if nothing else is in it
            os.rmdir(folder)
        return gone


def _is_half(now: tuple[int, int], first: tuple[int, int]) -> bool:
    return all(2 * free >= then for free, then in zip(now, first, strict=True))


def _free(folder: str) -> tuple[int, int]:
    """Return how many bytes, and how many files, a file system still has room for.  Raises OSError."""
    if not hasattr(os, "statvfs"):
        return shutil.disk_usage(folder).free, 0
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize, found.f_favail


def _known_until(removal: Removal) -> float:
    """Return the time, by the file system's clock, up to which it is known what is in a removed tree."""
    return removal.removed_at - _CLOCK_TICK if removal.renamed_at is None else removal.renamed_at


def _may_be_younger(tree: str, since: float) -> bool:
    """Whether something in a tree may have been written at a time or later; False is certain, and is told sooner."""
    with contextlib.suppress(OSError):
        if os.lstat(os.path.join(tree, ".git")).st_ctime < since:
            return is_anything_younger(tree, int(since * 1e9) - _ROUNDED)
    return True


def _youngest(tree: str) -> float:
    """Return when something in a tree was last written; the tree's own directory does not count: it was renamed."""
    found = -math.inf
    for where, folders, names in os.walk(tree):
        for name in [*folders, *names]:
            with contextlib.suppress(OSError):
                found = max(found, os.lstat(os.path.join(where, name)).st_ctime)
    return found
