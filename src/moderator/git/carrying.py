"""Carry what git ignores from the main checkout into a new workspace.

Each item is copied whole into a folder at the top of the tree, noted, and then renamed into place: what is in its place is never
half of anything, and whatever a killed process leaves is known to be ours.  Nothing that is there is ever overwritten.  Memory
does not grow with what is copied.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

from moderator.errors import ConfigurationError, EnvironmentProblem
from moderator.git.carried import HEAD, NO_SOURCE, Note, Stamps, notes_of, stamps_of
from moderator.git.contents import Worktree, printable
from moderator.git.entries import CARRIED, CARRYING
from moderator.git.selecting import Item
from moderator.git.trash import delete

_CLONE = 0x40049409
"""FICLONE of ioctl_ficlonerange(2)."""
_NO_CLONES = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EXDEV, errno.ENOSYS, errno.EPERM, errno.EACCES)
_PIECE = 2**20  # bytes that are copied at once
_NOT_BY_LINK = getattr(os, "O_NOFOLLOW", 0)
_READ = os.O_RDONLY | _NOT_BY_LINK | getattr(os, "O_NONBLOCK", 0)
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOT_BY_LINK
_PATIENCE = 2.5  # seconds for the clock of a file system to move on: some count in steps of 4 ms, some in two seconds


def stand_in(tree: str, paths: Iterable[str]) -> bool:
    """Whether something stands already at one of the paths."""
    return any(os.path.lexists(os.path.join(tree, path)) for path in paths)


def carry(worktree: Worktree, items: Sequence[Item]) -> None:
    """Carry the items, which are in the order of their paths, into a worktree in which nobody works.

    Raises ConfigurationError for what cannot be carried, EnvironmentProblem for what the machine refuses.
    """
    staging = os.path.join(worktree.tree, CARRYING)
    _refuse_itself(worktree.tree, items)
    try:
        os.mkdir(staging, 0o700)
        staged = _staged(worktree, staging, items)
        placed = {path for item, place in staged for path in _placed(worktree.tree, place, item.path)}
        _note_places(worktree, placed, _origin_of(items))
        delete(staging)  # with what was in its place already
    except (OSError, RecursionError) as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        named = getattr(error, "filename", None)
        raise EnvironmentProblem(
            f"what git ignores cannot be carried into {printable(worktree.tree)!r}",
            hint="free some space and try again" if full else "check permissions, or take it out of what is carried",
            cause=f"{error.strerror}: {named}" if isinstance(error, OSError) and isinstance(named, str) else str(error),
        ) from error


def _refuse_itself(tree: str, items: Sequence[Item]) -> None:
    """Raise ConfigurationError for an item that the worktree is in: it would be carried into itself."""
    real = os.path.realpath(tree)
    for item in items:
        source = os.path.realpath(item.source)
        if item.by != "link" and os.path.commonpath([source, real]) == source:
            raise _refused(item, "the workspaces are in it", "choose another root for workspaces, or take it out")


def _refused(item: Item, why: str, hint: str) -> ConfigurationError:
    place = f"{item.where}: " if item.where else ""
    return ConfigurationError(f"{place}{printable(item.path)!r} cannot be carried into workspaces: {why}", hint=hint)


def _origin_of(items: Sequence[Item]) -> str:
    """Return the directory that items are carried from: the same for all."""
    return items[0].source.removesuffix(f"/{items[0].path}") or "/"


def _staged(worktree: Worktree, staging: str, items: Sequence[Item]) -> list[tuple[Item, str]]:
    """Copy the items into a folder and note what was copied; return where each is."""
    staged = []
    memory = os.path.join(worktree.git_dir, CARRIED)
    with written_whole(memory, _origin_of(items)) as notes:
        for number, item in enumerate(items):
            target = os.path.join(worktree.tree, item.path)
            if os.path.lexists(target) and not (item.is_folder and item.by != "link" and os.path.isdir(target)):
                continue
            place = os.path.join(staging, str(number))
            with contextlib.suppress(FileNotFoundError):
                _Copying(item, notes).copy_to(place)
            if os.path.lexists(place):  # otherwise it has gone this moment
                staged.append((item, place))
    return staged


class _Copying:
    """Copies one item, and writes down what came of every part of it in the order of the paths."""

    def __init__(self, item: Item, notes: BinaryIO) -> None:
        self._item = item
        self._notes = notes
        self._clones = item.by == "clone" and sys.platform == "linux"

    def copy_to(self, place: str) -> None:
        item = self._item
        if item.by == "link":
            os.symlink(item.source, place)
            self._note(item.path, os.lstat(place), NO_SOURCE, placed=False)
            return
        above, target = os.open(os.path.dirname(item.source), _FOLDER), -1
        try:
            target = os.open(os.path.dirname(place), _FOLDER)
            found = os.stat(os.path.basename(item.source), dir_fd=above, follow_symlinks=False)
            self._copy(above, os.path.basename(item.source), target, os.path.basename(place), item.path, found, False)
        finally:
            for opened in (above, target):
                if opened >= 0:
                    os.close(opened)

    def _note(self, path: str, found: os.stat_result, source: Stamps, placed: bool) -> None:
        self._notes.write(Note.of(path, found, source, placed).line)

    def _copy(
        self, above: int, name: str, target: int, new: str, path: str, found: os.stat_result, placed: bool
    ) -> None:
        """Copy one entry of an opened folder into another; what is neither file, folder nor link means nothing elsewhere."""
        kind = found.st_mode
        if stat.S_ISREG(kind):
            self._copy_file(above, name, target, new, path, placed)
        elif stat.S_ISDIR(kind):
            self._copy_folder(above, name, target, new, path, found, placed)
        elif stat.S_ISLNK(kind):
            os.symlink(os.readlink(name, dir_fd=above), new, dir_fd=target)
            os.utime(new, ns=(found.st_atime_ns, found.st_mtime_ns), dir_fd=target, follow_symlinks=False)
            self._note(path, os.stat(new, dir_fd=target, follow_symlinks=False), stamps_of(found), placed)

    def _copy_folder(
        self, above: int, name: str, target: int, new: str, path: str, found: os.stat_result, placed: bool
    ) -> None:
        os.mkdir(new, 0o700, dir_fd=target)
        source, copy = os.open(name, _FOLDER | _NOT_BY_LINK, dir_fd=above), -1
        try:
            copy = os.open(new, _FOLDER, dir_fd=target)
            self._note(path, os.fstat(copy), NO_SOURCE, placed)
            with os.scandir(source) as listed:
                entries = sorted(listed, key=lambda entry: entry.name)
            for entry in entries:
                below = f"{path}/{entry.name}"
                if entry.is_file(follow_symlinks=False):
                    if entry.name == ".git":
                        raise _refused(
                            self._item,
                            f"{printable(path)!r} is a worktree, or a submodule, whose copy would write into its repository",
                            "name the parts without it",
                        )
                    self._copy_file(source, entry.name, copy, entry.name, below, True)
                    continue
                with contextlib.suppress(FileNotFoundError):
                    self._copy(source, entry.name, copy, entry.name, below, entry.stat(follow_symlinks=False), True)
            os.fchmod(copy, stat.S_IMODE(found.st_mode))
            os.utime(copy, ns=(found.st_atime_ns, found.st_mtime_ns))
        finally:
            os.close(source)
            if copy >= 0:
                os.close(copy)

    def _copy_file(self, above: int, name: str, target: int, new: str, path: str, placed: bool) -> None:
        try:
            source = os.open(name, _READ, dir_fd=above)
        except FileNotFoundError:  # it has gone this moment
            return
        except OSError as error:
            error.filename = self._item.source + path.removeprefix(self._item.path)
            raise
        try:
            found = os.fstat(source)
            mode = stat.S_IMODE(found.st_mode)
            copy = os.open(new, _WRITE, mode, dir_fd=target)
            try:
                if found.st_size and not self._cloned(source, copy):
                    rest = found.st_size
                    while rest > 0 and (piece := os.read(source, min(rest, _PIECE))):
                        _write_all(copy, piece)
                        rest -= len(piece)
                os.utime(copy, ns=(found.st_atime_ns, found.st_mtime_ns))
                copied = os.fstat(copy)
                if stat.S_IMODE(copied.st_mode) != mode:  # the mask of this process took something away
                    os.fchmod(copy, mode)
                    copied = os.fstat(copy)
                self._note(path, copied, stamps_of(found), placed)
            finally:
                os.close(copy)
        finally:
            os.close(source)

    def _cloned(self, source: int, copy: int) -> bool:
        """Share the blocks of a file, where the file system can; not asked again once it could not."""
        if not self._clones:
            return False
        import fcntl

        try:
            fcntl.ioctl(copy, _CLONE, source)
            return True
        except OSError as error:
            if error.errno not in _NO_CLONES:
                raise
            self._clones = False
            return False


def _write_all(target: int, piece: bytes) -> None:
    rest = memoryview(piece)
    while rest:
        rest = rest[os.write(target, rest) :]


def _placed(tree: str, place: str, path: str) -> Iterator[str]:
    """Rename what was copied to where it belongs, as far as nothing is there; yield the paths that were renamed."""
    above = tree
    for part in os.path.dirname(path).split("/") if "/" in path else ():
        above = os.path.join(above, part)
        with contextlib.suppress(FileExistsError):
            os.mkdir(above)
        if os.path.islink(above):
            raise ConfigurationError(
                f"{printable(path)!r} cannot be carried into workspaces: {printable(above)!r} is a symbolic link there",
                hint="take it out of what is carried",
            )
    yield from _renamed(place, os.path.join(tree, path), path)


def _renamed(place: str, target: str, path: str) -> Iterator[str]:
    if not os.path.lexists(target):
        _rename(place, target)
        yield path
    elif not os.path.islink(target) and os.path.isdir(target) and os.path.isdir(place) and not os.path.islink(place):
        for name in sorted(os.listdir(place)):
            yield from _renamed(os.path.join(place, name), os.path.join(target, name), f"{path}/{name}")


def _rename(place: str, target: str) -> None:
    try:
        os.rename(place, target)
    except PermissionError:  # a folder that may not be written to cannot get another parent
        mode = stat.S_IMODE(os.lstat(place).st_mode)
        os.chmod(place, mode | 0o700)
        os.rename(place, target)
        os.chmod(target, mode)


def _note_places(worktree: Worktree, placed: set[str], origin: str) -> None:
    """Complete the notes of what was renamed, whose time of change is a later one, and have them on disk.

    Waits until what is written next is younger than everything that was carried: then a file with the same times is the same.
    """
    memory = os.path.join(worktree.git_dir, CARRIED)
    youngest = 0
    with written_whole(memory, origin) as file:
        for note in notes_of(worktree.git_dir, CARRIED):
            if note.path in placed:
                note = Note.of(note.path, os.lstat(os.path.join(worktree.tree, note.path)), note.source)
            elif not note.is_placed:  # something was in its place
                continue
            youngest = max(youngest, note.changed)
            file.write(note.line)
        wait_until_younger(worktree, youngest, file)


def wait_until_younger(worktree: Worktree, youngest: int, memory: BinaryIO) -> None:
    """Wait until what is written next is younger than what a memory has, whose last change was at `youngest`."""
    pointer, deadline = os.path.join(worktree.tree, ".git"), time.monotonic() + _PATIENCE
    while _now(pointer) <= youngest:
        if time.monotonic() > deadline:  # no later look could tell, so nothing is remembered and all of it counts
            memory.seek(0)
            memory.truncate()
            return
        time.sleep(0.001)


def _now(path: str) -> int:
    """Return the time, in nanoseconds, that the file system gives to what is changed now."""
    os.utime(path)
    return os.stat(path).st_ctime_ns


def new_file(path: str) -> BinaryIO:
    """Open a new file in the place of whatever is there: a task can write into its worktree's entry, links too."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    return open(os.open(path, _WRITE, 0o666), "wb")


@contextlib.contextmanager
def written_whole(path: str, head: str) -> Iterator[BinaryIO]:
    """Give a memory that replaces the one of that name, whole and on disk, at the end of the `with`; `head` is in it already."""
    aside = f"{path}.new"
    with new_file(aside) as file:
        file.write(HEAD + os.fsencode(head) + b"\0")
        yield file
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)
