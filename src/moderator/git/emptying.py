"""Delete at leisure what removals left in the trash, and only what nobody can want any more.

What a removal found to be held by commits may go at once; what only the trash holds stays until its time.  A tree in which
somebody works, or that was written to after it was removed, stays too.  Whatever is deleted gets a name first that says so:
an interrupted deletion is finished by the next one, whoever starts it.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterable
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
from moderator.git.room import Room, Size
from moderator.git.trash import (
    GARBAGE,
    TAKEN_OUT,
    delete,
    into_garbage,
    is_in_trash,
    leads_elsewhere,
    retired_of,
    trash_beside,
    trash_of,
)
from moderator.git.users import hands_in, processes_in
from moderator.git.values import Removal
from moderator.git.younger import is_anything_younger

_Work = Callable[[Callable[[], bool]], bool]
"""Deletes something, until what it is given says that it is to stop; returns whether it is gone."""
_STRAGGLER = "what was written into it after its removal"
_REMEMBERED = 200  # removals of which nothing but commits is kept
_STEP = 0.5  # seconds of deletion between two looks whether somebody works
_PAUSE = 1.0  # seconds between looks while somebody does
_CLOCK_TICK = 0.01  # seconds by which times of files may be behind the clock
_ROUNDED = 1_000  # nanoseconds by which a time in seconds may be off


def trash_lock(repository: Repository, name: str) -> Path:
    """Return the lock that whoever deletes a removal's trash, or brings it back, holds."""
    return repository.ours / "leases" / f"trash@{name}.lock"


class Emptier:
    """Empties the trash of one repository; `stopped` says that nobody waits any more for what that makes room for."""

    def __init__(
        self,
        repository: Repository,
        registry: Registry,
        removals: Removals,
        days: float,
        stopped: Callable[[], bool] | None = None,
    ) -> None:
        self._repository = repository
        self._registry = registry
        self._removals = removals
        self._days = days
        self.room: Room[tuple[Removal, Record]] = Room(
            lambda removed, is_over: self._let_go(*removed, is_over), self._clear, stopped or (lambda: False)
        )
        """Where what this process removed waits until nobody works."""

    def may_wait(self, removal: Removal, record: Record, size: Size) -> bool:
        """Whether what a removal has put into the trash may wait there; if so, it does.

        Not if somebody can write in it without leaving a time of change, and be gone when it is looked for.
        """
        if not record.path or any(hands_in(trash_of(record))):
            return False
        lock = trash_lock(self._repository, removal.id)
        with contextlib.suppress(WorkspaceBusy, EnvironmentProblem), leases.held(lock, "the trash", 0.0):
            # The lock is there from now on: when it goes, there may be no room for one.
            return self.room.takes((removal, record), trash_beside(record.path), size)
        return False

    def _clear(self, stopped: Callable[[], bool]) -> bool:
        """Delete all that may go; return whether anything went."""
        work, folders = self._work(own=False)
        gone = _worked_off(list(work.values()), math.inf, stopped)
        _tidy(folders)
        return True in gone

    def empty(self, seconds: float | None, own: bool) -> bool:
        """Delete what may go, for so many seconds; return whether all of it is gone.

        `own`: also what only the trash has of removals that were written down here, in this process.
        """
        work, folders = self._work(own)
        gone = _worked_off(list(work.values()), math.inf if seconds is None else seconds)
        _tidy(folders)
        return all(gone)

    def _work(self, own: bool) -> tuple[dict[str, _Work], set[str]]:
        """Return what there is to do, by what it is about, and the folders that may be empty then."""
        found = list(self._removals)
        self._forget(found)
        folders = self._folders(found)
        garbage = [path for folder in folders for path in _garbage_in(folder) if not self._is_borrowed(path)]
        work: dict[str, _Work] = {path: partial(delete, path) for path in garbage}
        for removal, record in found:
            may_go = own or removal.kept_until is None or removal.id not in self._removals.own
            if may_go and self._is_due(removal, record):
                work[removal.id] = partial(self._let_go, removal, record)
        return work, folders

    def _let_go(self, removal: Removal, record: Record, is_over: Callable[[], bool]) -> bool:
        decided = self.release(removal, record)
        return self.delete_garbage_of(record, is_over) and decided

    def _is_borrowed(self, garbage: str) -> bool:
        """Whether something that bears the name of garbage may be put back still."""
        name = os.path.basename(garbage)
        return name.endswith(TAKEN_OUT) and bool(
            leases.holder(trash_lock(self._repository, name.removesuffix(TAKEN_OUT)))
        )

    def _folders(self, found: list[tuple[Removal, Record]]) -> set[str]:
        """Return where something may wait for its deletion."""
        folders = {str(self._repository.ours / "trash")}
        folders |= {os.path.dirname(trash_of(record)) for _, record in found if record.path}
        return folders | {os.path.dirname(trash_of(record)) for record in self._registry if record.path}

    def _forget(self, found: list[tuple[Removal, Record]]) -> None:
        """Forget the removals of which nothing is kept but commits, once they are old, or many."""
        bare = [(removal, record) for removal, record in found if not is_in_trash(self._repository, record)]
        for removal, _ in bare:
            if time.time() > removal.removed_at + self._days * 86400:
                self._removals.drop(removal.id)
        # What was all in commits can be brought back for as long as anybody remembers it, and no longer.
        for removal in [removal for removal, _ in bare if removal.rescue is None][:-_REMEMBERED]:
            self._removals.drop(removal.id)

    def _places_of(self, record: Record) -> list[str]:
        """Return what a removal puts into the trash."""
        return [
            *([trash_of(record)] if record.path else []),
            *([retired_of(self._repository, record)] if record.entry else []),
        ]

    def _is_due(self, removal: Removal, record: Record) -> bool:
        """Whether the trash has something of a removal whose time has come."""
        return (removal.kept_until is None or time.time() >= removal.kept_until) and any(
            map(os.path.lexists, self._places_of(record))
        )

    def empty_at_leisure(self, seconds: float) -> bool:
        """Delete what may go, but never while a workspace is held: whoever works goes first.  Return whether all of it is gone.

        After `seconds` the rest is left to the next one.  Raises WorkspaceBusy if another process is at it.
        """
        deadline = time.monotonic() + seconds
        with leases.held(trash_lock(self._repository, "all"), "the trash", 0.0) as alone:
            try:
                work, seen, gone = dict[str, _Work](), set[str](), True
                while time.monotonic() < deadline:
                    if any(self._registry.holder(record) for record in self._registry):
                        time.sleep(_PAUSE)
                        continue
                    if not work:  # what others have removed meanwhile too, but nothing twice
                        found, folders = self._work(own=True)
                        work = {about: one for about, one in found.items() if about not in seen}
                        seen |= set(work)
                    if not work:
                        return gone
                    done = _worked_off(list(work.values()), _STEP)
                    gone = gone and False not in done
                    work = {about: one for (about, one), told in zip(work.items(), done, strict=True) if told is None}
                    _tidy(folders)
            finally:
                alone.forget()
        return False

    def release(self, removal: Removal, record: Record) -> bool:
        """Give what a removal left to deletion, if its time has come; return whether that is decided, one way or the other."""
        now = time.time()
        if not record.path or not self._is_due(removal, record):
            return True
        tree, entry = trash_of(record), retired_of(self._repository, record)
        lock = trash_lock(self._repository, removal.id)
        # Somebody brings it back at this moment, or the disk is full: it can go later.
        with contextlib.suppress(WorkspaceBusy, EnvironmentProblem), leases.held(lock, "the trash", 0.0) as lease:
            now_known = self._removals.find(removal.id)
            if now_known is None or now_known[0] != removal or self._removals.stands(removal, record):
                return True
            has_folder, writes = hands_in(tree)
            if writes:  # what is written through a mapping may leave no time of change
                self._removals.write(self._kept_on(removal, now), record)
                return True
            if has_folder or next(processes_in(tree), None):
                return True
            since = _known_until(removal)
            if _may_be_younger(tree, since) and (youngest := _youngest(tree)) >= since:
                if youngest < now - _CLOCK_TICK:  # otherwise more may come that looks as old; later there is no doubt
                    self._removals.write(self._kept_on(removal, youngest), record)
                return True
            for path in (tree, entry):
                if not leads_elsewhere(os.path.dirname(path)):
                    with contextlib.suppress(OSError):
                        into_garbage(path)
            lease.forget()
            return True
        return False

    def _kept_on(self, removal: Removal, youngest: float) -> Removal:
        """Return the removal of a tree that was written to: it has its time anew from then on, and no other reason to stay."""
        left = removal.left if _STRAGGLER in removal.left else (*removal.left, _STRAGGLER)
        known = math.nextafter(youngest, math.inf)
        return replace(removal, left=left, kept_until=youngest + self._days * 86400, renamed_at=known)

    def delete_garbage_of(self, record: Record, is_over: Callable[[], bool] = lambda: False) -> bool:
        """Delete what waits for it of one removal; return whether that is gone."""
        gone = [delete(path + GARBAGE, is_over) for path in self._places_of(record)]
        if record.path:
            tidy_trash(record)
        return all(gone)


def _worked_off(work: list[_Work], seconds: float, stopped: Callable[[], bool] = lambda: False) -> list[bool | None]:
    """Do what there is to do, for so many seconds; return of each whether it is done, None if there was no time for it."""
    deadline = time.monotonic() + seconds

    def is_over() -> bool:
        return time.monotonic() > deadline or stopped() or is_stopped()

    def done(one: _Work) -> bool | None:
        if is_over():
            return None
        return one(is_over) or (None if is_over() else False)

    most = min(os.cpu_count() or 1, len(work))
    return list(abreast(done, work, most=most) if most > 1 else map(done, work))


def _tidy(folders: Iterable[str]) -> None:
    """Take the folders of the trash away that are empty."""
    for folder in folders:
        if not leads_elsewhere(folder):
            with contextlib.suppress(OSError):  # only if nothing else is in it
                os.rmdir(folder)


def _garbage_in(folder: str) -> list[str]:
    """Return what a folder of the trash holds that is only waiting to be deleted."""
    if leads_elsewhere(folder):
        return []
    try:
        return [os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(GARBAGE)]
    except OSError:
        return []


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
