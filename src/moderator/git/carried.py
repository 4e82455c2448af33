"""What was carried into a worktree, or rendered in it, as it is remembered, and which of it is still exactly that.

The memory is a file in the worktree's entry (another one for what was rendered, which may be said anew without the first): it
comes and goes with the worktree, and costs nobody else anything.  For every
file it has what changes when anybody writes to it: inode, mode, size, both times.  No program can set the time of change
(ctime) back, so a file with the same stamps is the one that was carried; whatever else differs counts as somebody's work.
And so does the copy of what the main checkout has no longer, or has otherwise: it may be the last one.
Names and stamps are in the order of the paths, so that trees of any size are compared in little memory.
"""

from __future__ import annotations

import contextlib
import functools
import heapq
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from moderator.git.contents import Worktree
from moderator.git.entries import CARRIED, RENDERED
from moderator.git.survey import above

HEAD = b"carried 2 "
"""How the memory begins; the directory that was carried from follows."""
NO_SOURCE = (-1, -1, -1, -1)
"""In place of the stamps of an original: a link to it, or a folder, holds nothing that could be lost."""
_UNKNOWN = -1
"""The time of change of what has not reached its place yet: placing it sets another."""
_PIECE = 2**16  # bytes that are read at once
_LONGEST_LINE = 2**16  # bytes: no path is longer
_MOST_READ = 2**26  # bytes that one look compares with originals whose stamps have changed: what is more counts as work
_READ = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)

Stamps = tuple[int, int, int, int]


def stamps_of(found: os.stat_result) -> Stamps:
    """Return what of an original changes when anybody writes to it: inode, size, both times."""
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


class Note(NamedTuple):
    """What is remembered of one path; `source` are the stamps of what it was copied from."""

    path: str
    inode: int
    mode: int
    size: int
    modified: int
    changed: int
    source: Stamps

    @classmethod
    def of(cls, path: str, found: os.stat_result, source: Stamps, placed: bool = True) -> Note:
        changed = found.st_ctime_ns if placed else _UNKNOWN
        return cls(path, found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns, changed, source)

    @property
    def parts(self) -> tuple[str, ...]:
        return _parts(self.path)

    @property
    def is_placed(self) -> bool:
        return self.changed != _UNKNOWN

    @property
    def line(self) -> bytes:
        numbers = (self.inode, self.mode, self.size, self.modified, self.changed, *self.source)
        return f"{' '.join(map(str, numbers))} ".encode() + os.fsencode(self.path) + b"\0"

    def describes(self, found: os.stat_result) -> bool:
        """Whether a file, or a link, is exactly the one that was carried; of a folder, whether it is the same one."""
        if stat.S_ISDIR(self.mode):
            return stat.S_ISDIR(found.st_mode) and found.st_ino == self.inode
        now = Note.of(self.path, found, self.source)
        return now == self or (not self.is_placed and now._replace(changed=_UNKNOWN) == self)


def notes_in(entry: str) -> Iterator[Note]:
    """Yield what is remembered, in the order of the paths; nothing of a memory that cannot be read."""
    rendered = list(notes_of(entry, RENDERED))
    if not rendered:
        yield from notes_of(entry, CARRIED)
        return
    over = {note.path for note in rendered}  # in the place of what was carried there
    others = (note for note in notes_of(entry, CARRIED) if note.path not in over)
    yield from heapq.merge(rendered, others, key=lambda note: note.parts)


def head_of(entry: str, memory: str) -> bytes:
    """Return what is written first in a memory, b"" if there is none or nobody can read it."""
    with contextlib.suppress(OSError), open(os.open(os.path.join(entry, memory), _READ), "rb") as file:
        head = next(_split(file), b"")
        return head.removeprefix(HEAD) if head.startswith(HEAD) else b""
    return b""


def notes_of(entry: str, memory: str) -> Iterator[Note]:
    """Yield what one of the two memories has."""
    try:
        # A task may have put a link there, or a pipe to wait for.
        file = open(os.open(os.path.join(entry, memory), _READ), "rb")  # noqa: SIM115
    except OSError:
        return
    with file:
        lines = _split(file)
        if not next(lines, b"").startswith(HEAD):
            return
        for line in lines:
            try:
                *numbers, path = line.split(b" ", 9)
                inode, mode, size, modified, changed, *of_source = map(int, numbers)
                first, second, third, fourth = of_source
            except ValueError:  # what follows cannot be trusted to be in order
                return
            if path.startswith(b"/"):  # of no tree: a task has written it
                return
            yield Note(os.fsdecode(path), inode, mode, size, modified, changed, (first, second, third, fourth))


def _split(file: BinaryIO) -> Iterator[bytes]:
    rest = b""
    while piece := file.read(_PIECE):
        *whole, rest = (rest + piece).split(b"\0")
        yield from whole
        if len(rest) > _LONGEST_LINE:
            return


def left_beside(worktree: Worktree, ignored: Sequence[str]) -> list[str]:
    """Return the ignored paths without what was carried and is as it was, here and where it was carried from.

    A folder with some of that is told as the files beside it.
    """
    notes = _Following(worktree.git_dir)
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
        return note is None or not (note.describes(found) and notes.have_original(note, there)), []
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


def as_carried(worktree: Worktree, folders: Iterable[str], top: str | None) -> set[str]:
    """Return which of these folders are exactly as they were carried from `top`, whole and with nothing beside, here and there."""
    asked = set(folders)
    notes = _Following(worktree.git_dir) if asked else None
    if notes is None or not notes.are_from(top):
        return set()
    found = set[str]()
    for path in sorted((one for one in asked if not asked.intersection(above(one))), key=_parts):
        with contextlib.suppress(OSError, RecursionError):  # what cannot be looked into to the end is not proven
            none_carried, inside = _beside(worktree.tree, path, notes)
            if not none_carried and not inside:
                found.add(path)
    for note in notes_in(worktree.git_dir) if found else ():
        if gone_from := found.intersection((note.path, *above(note.path))):
            found -= set() if _stands(worktree.tree, note) else gone_from
    return {path for path in asked if found.intersection((path, *above(path)))}


def unchanged_of(worktree: Worktree, paths: Iterable[str]) -> set[str]:
    """Return which of these files, or links, are as they were carried, here and where from."""
    notes, found = _Following(worktree.git_dir), set[str]()
    for path in sorted(paths, key=_parts):
        if (note := notes.at(path)) and not stat.S_ISDIR(note.mode):
            there = os.path.join(worktree.tree, path)
            if _stands(worktree.tree, note) and notes.have_original(note, there):
                found.add(path)
    return found


def was_carried(worktree: Worktree, folder: str, top: str | None) -> bool:
    """Whether a folder was carried from `top`."""
    notes = _Following(worktree.git_dir)
    return notes.are_from(top) and notes.at(folder) is not None


def _same_content(one: str, other: str) -> bool:
    with (
        open(os.open(one, _READ), "rb", buffering=0) as first,
        open(os.open(other, _READ), "rb", buffering=0) as second,
    ):
        while (piece := first.read(_PIECE)) == second.read(_PIECE):
            if not piece:
                return True
    return False


def _parts(path: str) -> tuple[str, ...]:
    return tuple(path.rstrip("/").split("/"))


class _Following:
    """Goes through the notes of an entry beside a walk in the same order."""

    def __init__(self, entry: str) -> None:
        self._entry = entry
        self._notes = notes_in(entry)
        self._may_read = _MOST_READ
        self._direct = functools.lru_cache(maxsize=64)(self._is_direct)
        self.here = next(self._notes, None)

    @functools.cached_property
    def origin(self) -> str:
        """The directory that was carried from, "" if nothing was."""
        return os.fsdecode(head_of(self._entry, CARRIED))

    def are_from(self, top: str | None) -> bool:
        """Whether there are notes, of what was carried from this directory: a task may have written them."""
        if top is None or self.here is None or not self.origin:
            return False
        return os.path.realpath(self.origin) == os.path.realpath(top)

    def _is_direct(self, folder: str) -> bool:
        """Whether a folder below the origin is there itself, not at the end of a link: that may lead to the very copy."""
        real = os.path.realpath(self.origin)
        return os.path.realpath(os.path.join(self.origin, folder)) == os.path.normpath(os.path.join(real, folder))

    def have_original(self, note: Note, copy: str) -> bool:
        """Whether what was carried is still where it was carried from: with its stamps, or else with the content of the copy."""
        if note.source == NO_SOURCE:
            return True
        try:
            original = os.path.join(self.origin, note.path)
            now = os.lstat(original)
            if stamps_of(now) == note.source:
                return True
            if stat.S_IFMT(now.st_mode) != stat.S_IFMT(note.mode) or now.st_size != note.size:
                return False
            if not self._direct(os.path.dirname(note.path)):
                return False
            if stat.S_ISLNK(now.st_mode):
                return os.readlink(original) == os.readlink(copy)
            self._may_read -= now.st_size
            return self._may_read >= 0 and _same_content(original, copy)
        except OSError:
            return False

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
    notes, carried = _Following(entry), list[str]()
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
