"""Files of a worktree that are made of templates: where these come from, and how what was made of them gets into its place.

A template is a file of the worktree itself, or else one that git ignores in the main checkout.  What is made of it goes to a path
that git ignores, never over anything but what we have put there ourselves and is as it was.  It is written into a folder at the
top of the tree in which git ignores everything, remembered, and then linked into its place: a link takes no name that is taken.
No symbolic link is followed on any way, for a task may have put one there.

Must not know what stands in a template.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from moderator.errors import ConfigurationError, EnvironmentProblem, to_type
from moderator.furnishing import Render, fault_in_rendering
from moderator.git.carried import NO_SOURCE, Note, notes_in, notes_of, unchanged_of
from moderator.git.carrying import new_file, wait_until_younger, written_whole
from moderator.git.command import polling
from moderator.git.contents import Worktree, printable
from moderator.git.entries import RENDERED, RENDERING
from moderator.git.repository import Repository
from moderator.git.selecting import ignored_in, rules_at

LARGEST = 16 * 2**20
"""Bytes that a template can have."""
_FILES = ("100644", "100755")
_LINK, _SUBMODULE = "120000", "160000"
_NOT_BY_LINK = getattr(os, "O_NOFOLLOW", 0)
_FOLDER = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_DIRECTORY", 0) | _NOT_BY_LINK
_READ = os.O_RDONLY | os.O_CLOEXEC | _NOT_BY_LINK | getattr(os, "O_NONBLOCK", 0)
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | _NOT_BY_LINK
_PRIVATE = 0o600
_STAGED = re.compile(r"\.gitignore|(before )?[0-9]+")
"""The names that we give to what lies in our folder."""


@dataclass(frozen=True)
class Template:
    """What a file is made of.  `mode` has the permissions that the file gets."""

    render: Render
    content: bytes
    mode: int = _PRIVATE


def templates_at(repository: Repository, commit: str, wanted: Sequence[Render]) -> list[Template]:
    """Return what will be rendered in worktrees of a commit, as far as it can be known before there is one.

    Raises ConfigurationError for a template that is not there or is no file, and for a place that git tracks or does not ignore.
    """
    if not wanted:
        return []
    _refuse_unfit(wanted)
    paths = {one.source for one in wanted} | {path for one in wanted for path in _on_the_way(one.target)}
    listed = _listed(repository, commit, sorted(paths))
    with rules_at(repository, commit) as tree:
        for one in wanted:
            _refuse_tracked(one, listed)
        _refuse_unignored(tree, wanted)
    return [_at_commit(repository, one, listed) or _in_main(repository, one, commit) for one in wanted]


def templates_in(repository: Repository, worktree: Worktree, commit: str, wanted: Sequence[Render]) -> list[Template]:
    """Return the templates for a worktree that forked from a commit: its own, or else what `templates_at` would return."""
    _refuse_unfit(wanted)
    return [
        _read(worktree.tree, one)
        or _at_commit(repository, one, _listed(repository, commit, [one.source]))
        or _in_main(repository, one, commit)
        for one in wanted
    ]


def write(worktree: Worktree, files: Sequence[Template]) -> list[str]:
    """Put rendered files into a worktree in which nobody works; return the paths of those that were left as they are.

    These are files that we have not rendered, or that somebody has changed since.
    Raises ConfigurationError for a place that git does not ignore, or to which a link leads; EnvironmentProblem.
    """
    wanted = [one.render for one in files]
    _refuse_unfit(wanted)
    _refuse_other_ways(worktree, wanted)
    _refuse_unignored(worktree, wanted)
    try:
        return _Writing(worktree, files).write()
    except OSError as error:
        raise EnvironmentProblem(
            f"what is rendered cannot be written into {printable(worktree.tree)!r}",
            hint="check permissions and free space there",
            cause=str(error),
        ) from error


class _Writing:
    """One time that files are put into a worktree."""

    def __init__(self, worktree: Worktree, files: Sequence[Template]) -> None:
        self._worktree = worktree
        self._files = files
        self._staging = os.path.join(worktree.tree, RENDERING)
        self._left: list[str] = []
        self._is_moving = False
        self._notes: dict[str, Note] = {}

    def write(self) -> list[str]:
        if self._files:
            self._clear()
            try:
                with contextlib.ExitStack() as opened:
                    self._place(opened)
            except OSError:
                if not self._is_moving:  # so nothing in there was anywhere else
                    self._delete()
                raise
            self._delete()
        self._remember()
        return self._left

    def _place(self, opened: contextlib.ExitStack) -> None:
        tree = _opened(self._worktree.tree, _FOLDER, opened)
        os.mkdir(RENDERING, 0o700, dir_fd=tree)
        staging = _opened(RENDERING, _FOLDER, opened, tree)
        self._have_ignored(staging)
        # Of what was carried only what the main checkout still has: this may be the last copy.
        same = unchanged_of(self._worktree, [one.render.target for one in self._files])
        ours = {note.path: note for note in notes_in(self._worktree.git_dir) if note.path in same}
        waiting: list[tuple[str, int, str, str]] = []
        for number, one in enumerate(self._files):
            above = self._folder_of(one.render, tree, opened)
            target, name = one.render.target, os.path.basename(one.render.target)
            if not _can_be_free(name, above, ours.get(target)):
                self._left.append(target)
                continue
            descriptor = os.open(str(number), _WRITE, _PRIVATE, dir_fd=staging)
            with open(descriptor, "wb") as file:
                file.write(one.content)
                file.flush()
                os.fchmod(descriptor, one.mode)
                self._notes[target] = Note.of(target, os.fstat(descriptor), NO_SOURCE, placed=False)
            waiting.append((str(number), above, name, target))

        def make_free() -> None:
            self._is_moving = True
            for _, above, name, target in waiting:
                if not _made_free(name, above, staging, ours.get(target)):
                    self._left.append(target)

        self._remember(make_free)
        for staged, above, name, target in waiting:
            if target in self._left:
                continue
            try:
                _take(staged, staging, name, above)
            except FileExistsError:  # made in this very moment
                self._left.append(target)

    def _clear(self) -> None:
        """Delete what a killed process of ours left.  Raises EnvironmentProblem if somebody has put something there."""
        if os.path.islink(self._staging) or not os.path.exists(self._staging):
            there = []
        else:
            there = os.listdir(self._staging) if os.path.isdir(self._staging) else [RENDERING]
        if strange := sorted(name for name in there if not _STAGED.fullmatch(name)):
            raise EnvironmentProblem(
                f"what is rendered cannot be written into {printable(self._worktree.tree)!r}: "
                f"{printable(strange[0])!r} in {RENDERING} is not ours",
                hint=f"move it away: {printable(self._staging)}",
            )
        if os.path.islink(self._staging):
            os.unlink(self._staging)
        self._delete()

    def _delete(self) -> None:
        """Delete what is ours in the folder, its rules last: whatever a process that is killed leaves of it is ignored."""
        with contextlib.suppress(OSError), contextlib.ExitStack() as opened:
            staging = _opened(self._staging, _FOLDER, opened)
            for name in sorted(filter(_STAGED.fullmatch, os.listdir(staging)), reverse=True):
                os.unlink(name, dir_fd=staging)
            os.rmdir(self._staging)

    def _have_ignored(self, staging: int) -> None:
        """Let git ignore everything in a folder, and this too: what a process that is killed leaves there is nobody's work."""
        rules = os.path.join(self._worktree.git_dir, f"{RENDERED}.ignore")
        with new_file(rules) as file:
            file.write(b"*\n")
        try:
            os.link(rules, ".gitignore", dst_dir_fd=staging)  # whole from its first moment on
        except OSError:  # the git directory is on another file system
            with open(os.open(".gitignore", _WRITE, _PRIVATE, dir_fd=staging), "wb") as file:
                file.write(b"*\n")
        os.unlink(rules)

    def _folder_of(self, one: Render, tree: int, opened: contextlib.ExitStack) -> int:
        """Open the folder that a file is to be in, made where it is not there."""
        above = tree
        for part in one.target.split("/")[:-1]:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, dir_fd=above)
            try:
                above = _opened(part, _FOLDER, opened, above)
            except OSError as error:
                raise _no_way(one, part) from error
        return above

    def _remember(self, make_free: Callable[[], None] | None = None) -> None:
        """Write down what was rendered, now and before: as it is in its place, or before it is there.

        Then `make_free` takes what is in its place out of the way once the new notes are on disk, and before they hold: where
        there is no space for them, everything stays as it is.
        """
        worktree, youngest = self._worktree, 0
        before = {one.path: one for one in notes_of(worktree.git_dir, RENDERED) if _holds(worktree, one)}
        with written_whole(os.path.join(worktree.git_dir, RENDERED), "") as memory:
            for path, note in sorted({**before, **self._notes}.items(), key=lambda item: item[1].parts):
                if make_free is None and path in self._notes:
                    if path in self._left:
                        continue
                    with contextlib.suppress(FileNotFoundError):
                        found = os.lstat(os.path.join(worktree.tree, path))
                        note = Note.of(path, found, NO_SOURCE) if note.describes(found) else note
                youngest = max(youngest, note.changed)
                memory.write(note.line)
            if make_free is None:
                wait_until_younger(worktree, youngest, memory)
            else:
                memory.flush()
                os.fsync(memory.fileno())
                make_free()


def _holds(worktree: Worktree, note: Note) -> bool:
    """Whether a file is as a note says, in which a task may have written anything."""
    try:
        return note.describes(os.lstat(os.path.join(worktree.tree, note.path)))
    except OSError:
        return False


def _can_be_free(name: str, above: int, note: Note | None) -> bool:
    """Whether nothing is at a place but a file of ours that is as it was."""
    try:
        found = os.stat(name, dir_fd=above, follow_symlinks=False)
    except FileNotFoundError:
        return True
    return note is not None and stat.S_ISREG(found.st_mode) and note.describes(found)


def _made_free(name: str, above: int, staging: int, note: Note | None) -> bool:
    """Take a file of ours that is as it was out of the way; whether nothing is there then."""
    if not _can_be_free(name, above, note):
        return False
    if note is None:
        return True
    aside = f"before {note.inode}"
    try:
        os.rename(name, aside, src_dir_fd=above, dst_dir_fd=staging)
    except FileNotFoundError:
        return True
    moved = os.stat(aside, dir_fd=staging, follow_symlinks=False)
    if note._replace(changed=Note.of(note.path, moved, NO_SOURCE).changed).describes(moved):
        return True
    _take(aside, staging, name, above)  # somebody wrote to it in this very moment
    return False


def _take(staged: str, staging: int, name: str, above: int) -> None:
    """Give a file the name that it is to have.  Raises FileExistsError if something has that already."""
    try:
        os.link(staged, name, src_dir_fd=staging, dst_dir_fd=above, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        with contextlib.suppress(FileNotFoundError):
            os.stat(name, dir_fd=above, follow_symlinks=False)
            raise FileExistsError(name) from None
        os.rename(staged, name, src_dir_fd=staging, dst_dir_fd=above)


def _opened(name: str, flags: int, opened: contextlib.ExitStack, above: int | None = None) -> int:
    descriptor = os.open(name, flags, dir_fd=above)
    opened.callback(os.close, descriptor)
    return descriptor


def _read(tree: str, one: Render) -> Template | None:
    """Return the template in a tree, None if it is not there."""
    with contextlib.ExitStack() as opened:
        try:
            above = _opened(tree, os.O_RDONLY | os.O_CLOEXEC, opened)
            *folders, name = one.source.split("/")
            for folder in folders:
                above = _opened(folder, _FOLDER, opened, above)
            descriptor = _opened(name, _READ, opened, above)
        except FileNotFoundError:
            return None
        except OSError as error:
            path = os.path.join(tree, one.source)
            if isinstance(error, PermissionError):
                raise EnvironmentProblem(
                    f"the template {printable(path)!r} cannot be read",
                    hint=f"{to_type('chmod', 'u+r', path)}, or take it out of render",
                ) from error
            raise _no_file(one, tree) from error
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise _no_file(one, tree)
        if found.st_size > LARGEST:
            raise _too_large(one, found.st_size)
        with open(descriptor, "rb", closefd=False) as file:
            return Template(one, file.read(LARGEST), stat.S_IMODE(found.st_mode) & 0o777)


def _at_commit(repository: Repository, one: Render, listed: Mapping[str, tuple[str, str, int]]) -> Template | None:
    """Return the template that a commit has, None if it has none."""
    if one.source not in listed:
        return None
    mode, blob, size = listed[one.source]
    if mode not in _FILES:
        what = {_LINK: "a symbolic link", _SUBMODULE: "a repository of its own"}.get(mode, "a folder")
        raise _refused(one, f"{printable(one.source)!r} is {what} there", "name a file")
    if size > LARGEST:
        raise _too_large(one, size)
    return Template(one, repository.git("cat-file", "blob", blob).out)


def _in_main(repository: Repository, one: Render, commit: str) -> Template:
    """Return the template that git ignores in the main checkout."""
    top = repository.main_top
    found = _read(top, one) if top else None
    if top is None or found is None:
        raise _refused(
            one,
            f"there is no {printable(one.source)!r}, neither at {commit[:12]} nor in the main checkout",
            "correct the name, make it, or take it out of render",
        )
    if one.source not in ignored_in(Worktree(top, repository.common), [one.source]):
        raise _refused(
            one,
            f"{printable(one.source)!r} is in the main checkout, and neither at {commit[:12]}, from which the workspace forks, "
            "nor ignored by git",
            "commit it first, or add it to .gitignore",
        )
    return found


def _refuse_unfit(wanted: Sequence[Render]) -> None:
    """Raise ConfigurationError for a path that leads elsewhere, for two files at one place, and for one inside another."""
    for one in wanted:
        if fault := fault_in_rendering(one.source, one.target):
            raise _refused(one, fault, "name both from the top of the repository")
    places = {one.target for one in wanted}
    for number, one in enumerate(wanted):
        if one.target in {before.target for before in wanted[:number]}:
            raise _refused(one, "another file is rendered to the same place", "choose another place for one of them")
        for above in _on_the_way(one.target)[:-1]:
            if above in places:
                raise _refused(one, f"{printable(above)!r} is a file that is rendered too", "choose another place")


def _refuse_tracked(one: Render, listed: Mapping[str, tuple[str, str, int]]) -> None:
    *folders, target = _on_the_way(one.target)
    if target in listed:
        raise _refused(
            one, "git tracks what is there at the commit that the workspace forks from", "choose another place"
        )
    for folder in folders:
        mode = listed[folder][0] if folder in listed else ""
        if mode in (*_FILES, _LINK, _SUBMODULE):
            what = {_LINK: "a symbolic link", _SUBMODULE: "a submodule"}.get(mode, "a file")
            raise _refused(one, f"{printable(folder)!r} is {what} there", "choose another place")


def _refuse_other_ways(worktree: Worktree, wanted: Sequence[Render]) -> None:
    """Raise ConfigurationError if the way to a place is no folders: git does not say what it ignores behind a link."""
    for one in wanted:
        for folder in _on_the_way(one.target)[:-1]:
            path = os.path.join(worktree.tree, folder)
            if os.path.islink(path) or (os.path.lexists(path) and not os.path.isdir(path)):
                raise _no_way(one, folder)


def _no_way(one: Render, folder: str) -> ConfigurationError:
    return _refused(one, f"{printable(folder)!r} is no folder there, or a symbolic link", "choose another place")


def _refuse_unignored(worktree: Worktree, wanted: Sequence[Render]) -> None:
    ignored = ignored_in(worktree, [one.target for one in wanted], "--no-index")
    for one in wanted:
        if one.target not in ignored:
            raise _refused(
                one,
                "git does not ignore it there, so a task would commit it",
                "commit the line in .gitignore, put it into .git/info/exclude, or choose another place",
            )


def _listed(repository: Repository, commit: str, paths: Sequence[str]) -> dict[str, tuple[str, str, int]]:
    """Return mode, object and size of what a commit has at these paths."""
    found = {}
    asked = ("ls-tree", "-z", "-l", "--full-tree", commit, "--", *paths)
    for line in repository.git(*asked, env=polling({"GIT_LITERAL_PATHSPECS": "1"})).fields:
        told, _, path = line.partition("\t")
        mode, _, name, size = told.split()
        found[path] = (mode, name, int(size) if size.isdecimal() else 0)
    return found


def _on_the_way(path: str) -> list[str]:
    """Return the folders that a path leads through, and itself."""
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _no_file(one: Render, tree: str) -> ConfigurationError:
    return _refused(
        one,
        f"{printable(one.source)!r} in {printable(tree)!r} is no file, or a symbolic link is on the way to it",
        "name the file itself",
    )


def _too_large(one: Render, size: int) -> ConfigurationError:
    return _refused(
        one, f"{printable(one.source)!r} is {size} bytes long, and at most {LARGEST} can be", "is it the right file?"
    )


def _refused(one: Render, why: str, hint: str) -> ConfigurationError:
    place = f"{one.where}: " if one.where else ""
    return ConfigurationError(f"{place}{printable(one.target)!r} cannot be rendered in workspaces: {why}", hint=hint)
