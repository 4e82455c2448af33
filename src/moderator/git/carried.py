"""What was carried into a worktree, as it is remembered, and which of it is still exactly that.

The memory is a file in the worktree's entry: it comes and goes with the worktree, and costs nobody else anything.  For every
file it has what changes when anybody writes to it: inode, mode, size, both times.  No program can set the time of change
(ctime) back, so a file with the same stamps is the one that was carried; whatever else differs counts as somebody's work.
Names and stamps are in the order of the paths, so that trees of any size are compared in little memory.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from moderator.git.contents import Worktree
from moderator.git.entries import CARRIED

HEAD = b"carried 1"
"""How the memory begins."""
_UNKNOWN = -1
"""The time of change of what has not reached its place yet: placing it sets another."""
_PIECE = 2**16  # bytes that are read at once
_LONGEST_LINE = 2**16  # bytes: no path is longer


class Note(NamedTuple):
    """What is remembered of one path."""

    path: str
    inode: int
    mode: int
    size: int
    modified: int
    changed: int

    @classmethod
    def of(cls, path: str, found: os.stat_result, placed: bool = True) -> Note:
        changed = found.st_ctime_ns if placed else _UNKNOWN
        return cls(path, found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns, changed)

    @property
    def parts(self) -> tuple[str, ...]:
        return _parts(self.path)

    @property
    def is_placed(self) -> bool:
        return self.changed != _UNKNOWN

    @property
    def line(self) -> bytes:
        numbers = f"{self.inode} {self.mode} {self.size} {self.modified} {self.changed} "
        return numbers.encode() + os.fsencode(self.path) + b"\0"

    def describes(self, found: os.stat_result) -> bool:
        """Whether a file, or a link, is exactly the one that was carried; of a folder, whether it is the same one."""
        if stat.S_ISDIR(self.mode):
            return stat.S_ISDIR(found.st_mode) and found.st_ino == self.inode
        now = Note.of(self.path, found)
        return now == self or (not self.is_placed and now._replace(changed=_UNKNOWN) == self)


def notes_in(entry: str) -> Iterator[Note]:
    """Yield what is remembered, in the order of the paths; nothing of a memory that cannot be read."""
    try:
        file = open(os.path.join(entry, CARRIED), "rb")  # noqa: SIM115
    except OSError:
        return
    with file:
        lines = _split(file)
        if next(lines, b"") != HEAD:
            return
        for line in lines:
            try:
                *numbers, path = line.split(b" ", 5)
                inode, mode, size, modified, changed = map(int, numbers)
            except ValueError:  # what follows cannot be trusted to be in order
                return
            yield Note(os.fsdecode(path), inode, mode, size, modified, changed)


def _split(file: BinaryIO) -> Iterator[bytes]:
    rest = b""
    while piece := file.read(_PIECE):
        *whole, rest = (rest + piece).split(b"\0")
        yield from whole
        if len(rest) > _LONGEST_LINE:
            return


def left_beside(worktree: Worktree, ignored: Sequence[str]) -> list[str]:
    """Return the ignored paths without what was carried and is as it was; a folder with some of that, as the files beside it."""
    notes = _Following(notes_in(worktree.git_dir))
    if notes.here is None:
        return list(ignored)
    found: list[str] = []
    for path in sorted(ignored, key=_parts):
        try:
            whole, inside = _beside(worktree.tree, path.rstrip("/"), notes)
        except (OSError, RecursionError):  # it cannot be looked into to the end, so all of it counts
            whole, inside = True, []
        found += [path] if whole else inside
    return found


def _beside(tree: str, path: str, notes: _Following) -> tuple[bool, list[str]]:
    """Return whether nothing at a path was carried and is as it was; otherwise, what is there beside that."""
    note = notes.at(path)
    there = os.path.join(tree, path)
    try:
        found = os.lstat(there)
    except FileNotFoundError:
        return False, []
    if not stat.S_ISDIR(found.st_mode):
        return note is None or not note.describes(found), []
    if not notes.are_below(path):
        return True, []
    none_carried, inside = True, list[str]()
    with os.scandir(there) as entries:
        names = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    for name, is_folder in names:
        below = f"{path}/{name}"
        whole, more = _beside(tree, below, notes)
        none_carried = none_carried and whole
        inside += [f"{below}/" if is_folder else below] if whole else more
    return none_carried and bool(names), inside


def _parts(path: str) -> tuple[str, ...]:
    return tuple(path.rstrip("/").split("/"))


class _Following:
    """Goes through notes beside a walk in the same order."""

    def __init__(self, notes: Iterator[Note]) -> None:
        self._notes = notes
        self.here = next(notes, None)

    def at(self, path: str) -> Note | None:
        """Return the note of a path, None if there is none.  Never asked for an earlier path than before."""
        parts = _parts(path)
        while self.here is not None and self.here.parts < parts:
            self.here = next(self._notes, None)
        return self.here if self.here is not None and self.here.path == path else None

    def are_below(self, path: str) -> bool:
        """Whether there are notes of a path, to which `at` has come, or of what is in it."""
        parts = _parts(path)
        return self.here is not None and self.here.parts[: len(parts)] == parts


def empty_as_carried(worktree: Worktree, empty: Iterable[str]) -> set[str]:
    """Return which of these empty folders were carried."""
    asked = set(empty)
    if not asked:
        return set()
    return {note.path for note in notes_in(worktree.git_dir) if note.path in asked and _stands(worktree.tree, note)}


def _stands(tree: str, note: Note) -> bool:
    try:
        return note.describes(os.lstat(os.path.join(tree, note.path)))
    except OSError:
        return False


@dataclass(frozen=True)
class TakenOut:
    """What was carried into a tree and is out of it: each path with where it is now, in a folder that may be deleted."""

    tree: str
    folder: str
    places: tuple[tuple[str, str], ...] = ()

    def put_back(self) -> None:
        """Put everything where it was."""
        for path, place in self.places:
            os.rename(place, os.path.join(self.tree, path))
        with contextlib.suppress(OSError):
            os.rmdir(self.folder)


def take_out(tree: str, entry: str, worktree: Worktree, folder: str) -> TakenOut | None:
    """Take what was carried out of a tree in which nobody works, into a new folder.

    `entry` remembers it, `worktree` is the tree with an entry that git can be asked with.  None, and nothing has happened, if some
    of it is not as it was, or something else is beside it.  Raises OSError.
    """
    notes, carried = _Following(notes_in(entry)), list[str]()
    if notes.here is None:
        return TakenOut(tree, folder)
    for path in sorted(worktree.contents(submodules=False).ignored, key=_parts):
        bare = path.rstrip("/")
        notes.at(bare)
        touched = notes.are_below(bare)
        whole, inside = _beside(tree, bare, notes)
        if inside or (whole and touched):
            return None
        if not whole:
            carried.append(bare)
    if not carried:
        return TakenOut(tree, folder)
    os.mkdir(folder)
    taken = TakenOut(tree, folder)
    try:
        for number, path in enumerate(carried):
            place = os.path.join(folder, str(number))
            os.rename(os.path.join(tree, path), place)
            taken = TakenOut(tree, folder, (*taken.places, (path, place)))
    except BaseException:
        taken.put_back()
        raise
    return taken
