"""What of the main checkout is to be carried into a workspace: what was asked for, found on disk, and ignored by git.

Everything that is wrong is an error before anything is made: a pattern without a match, a tracked file, a way out of the
repository.  Reads only.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from moderator.errors import ConfigurationError, EnvironmentProblem, to_type
from moderator.furnishing import CARRY_WAYS, INCLUDE_FILE, Carry, Furnishing, fault_in_path
from moderator.git.command import polling
from moderator.git.contents import Worktree, printable
from moderator.git.exact import joined
from moderator.git.repository import Repository

_WILD = re.compile(r"[*?\[]")
_AT_ONCE = 500  # paths on one command line
_SHOWN = 3  # paths named in an error


@dataclass(frozen=True)
class Item:
    """One file, link or folder to carry.  `path` is from the top, `source` where it is, `where` where it was asked for."""

    path: str
    source: str
    by: str
    is_folder: bool
    where: str = ""

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(self.path.split("/"))

    @property
    def as_told(self) -> str:
        """The path as git has to be asked about what it will be in a workspace: a link is no folder."""
        return f"{self.path}/" if self.is_folder and self.by != "link" else self.path


def selected(repository: Repository, furnishing: Furnishing) -> list[Item]:
    """Return what is to be carried, in the order of the paths, none inside another.

    Raises ConfigurationError for the first pattern that cannot be followed, with where it is written.
    """
    wanted = furnishing.carry
    top = repository.main_top
    if not wanted and not (furnishing.included and top and os.path.lexists(os.path.join(top, INCLUDE_FILE))):
        return []
    if top is None:
        raise _refused(wanted[0], "this repository has no main checkout that it could be carried from", "take it out")
    main = Worktree(top, repository.common)
    found: dict[str, Item] = {}
    for one in wanted:
        for path in _matching(main, one):
            found.setdefault(path, _item(main, path, one))
    if furnishing.included:
        for path in _included(main):
            found.setdefault(path, _item(main, path, Carry(path, where=INCLUDE_FILE)))
    kept: list[Item] = []
    rendered = {one.target for one in furnishing.render}
    for item in sorted(found.values(), key=lambda item: item.parts):
        if item.path not in rendered and (not kept or item.parts[: len(kept[-1].parts)] != kept[-1].parts):
            kept.append(item)
    return kept


def refuse_unignored(worktree: Worktree, items: Sequence[Item]) -> None:
    """Raise ConfigurationError if git would not ignore one of the items in this worktree: a task would commit it."""
    if not items:
        return
    # By the patterns alone: what the base tracks in a carried folder is there already, and is never overwritten.
    ignored = ignored_in(worktree, [item.as_told for item in items], "--no-index")
    for item in items:
        if item.as_told in ignored:
            continue
        carry = Carry(item.path, item.by, item.where)
        if (
            item.by == "link"
            and item.is_folder
            and f"{item.path}/" in ignored_in(worktree, [f"{item.path}/"], "--no-index")
        ):
            raise _refused(
                carry,
                "as a link it would not be ignored by git, for a pattern that ends in '/' is for folders only",
                f"write {item.path!r} without '/' in .gitignore, or carry it by clone",
            )
        raise _refused(
            carry,
            "at the commit that the workspace forks from, git does not ignore it, so a task would commit it",
            "commit the line in .gitignore, put it into .git/info/exclude, or take it out of what is carried",
        )


def refuse_unignored_at(repository: Repository, commit: str, items: Sequence[Item]) -> None:
    """Raise ConfigurationError if git would not ignore one of the items in a worktree of this commit, before there is one."""
    if items:
        with rules_at(repository, commit) as tree:
            refuse_unignored(tree, items)


@contextlib.contextmanager
def rules_at(repository: Repository, commit: str) -> Iterator[Worktree]:
    """Give a tree that has nothing but the rules of a commit about what git ignores."""
    with tempfile.TemporaryDirectory(prefix="moderator-") as folder:
        tree = Worktree(os.path.join(folder, "tree"), repository.common)
        os.mkdir(tree.tree)
        private = {"GIT_INDEX_FILE": os.path.join(folder, "index")}
        listed = tree.git("ls-tree", "-r", "-z", "--name-only", "--full-tree", commit).fields
        if rules := [path for path in listed if os.path.basename(path) == ".gitignore"]:
            tree.git("read-tree", commit, env=private)
            tree.git("checkout-index", "-z", "--stdin", stdin=joined(rules), env=private)
        yield tree


def _matching(main: Worktree, one: Carry) -> list[str]:
    if fault := fault_in_path(one.path):
        raise _refused(one, f"it must be {fault}", "name it from the top of the repository")
    if one.by not in CARRY_WAYS:
        raise _refused(one, f"there is no way {one.by!r}", f"choose one of {', '.join(CARRY_WAYS)}")
    parts = PurePosixPath(one.path).parts
    paths = list(_expanded(main, parts, one))
    if one.path.endswith("/"):
        paths = [path for path in paths if _is_folder(os.path.join(main.tree, path))]
    if not paths:
        raise _refused(
            one, f"nothing in {printable(main.tree)!r} matches it", "correct it, make what it names, or take it out"
        )
    if tracked := _tracked(main, paths):
        raise _refused(
            one,
            f"git tracks {_named(tracked)}, which every workspace has anyway",
            "name only what git ignores",
        )
    ignored = ignored_in(main, paths)
    if others := [path for path in paths if path not in ignored]:
        raise _refused(
            one,
            f"git does not ignore {_named(others)}, so a task would commit it",
            "add it to .gitignore, or name only what is ignored"
            + (f": {others[0]}/*" if _is_folder(os.path.join(main.tree, others[0])) else ""),
        )
    return paths


def _expanded(main: Worktree, parts: Sequence[str], one: Carry) -> Iterator[str]:
    """Yield the paths that a pattern matches, without following a link on the way."""
    ignored_folders: set[str] | None = None
    waiting: list[tuple[str, int]] = [("", 0)]
    seen: set[tuple[str, int]] = set()
    while waiting:
        inside, index = waiting.pop()
        if (inside, index) in seen:
            continue
        seen.add((inside, index))
        folder = os.path.join(main.tree, inside)
        part, is_last = parts[index], index == len(parts) - 1
        if not _WILD.search(part):
            path = f"{inside}/{part}" if inside else part
            there = os.path.join(main.tree, path)
            if is_last:
                if os.path.lexists(there):
                    yield path
            elif os.path.islink(there):
                raise _refused(
                    one,
                    f"{printable(path)!r} is a symbolic link, to {printable(os.readlink(there))!r}",
                    "name the file itself",
                )
            elif os.path.isdir(there):
                waiting.append((path, index + 1))
            continue
        for name in _names_in(folder):
            path = f"{inside}/{name}" if inside else name
            is_folder = _is_folder(os.path.join(folder, name))
            if part == "**":
                if ignored_folders is None:
                    ignored_folders = set(_all_ignored(main))
                if is_last:
                    yield path
                elif (
                    is_folder
                    and f"{path}/" not in ignored_folders
                    and not os.path.lexists(os.path.join(folder, name, ".git"))
                ):
                    waiting.append((path, index))
            elif fnmatch.fnmatchcase(name, part) and (is_last or is_folder):
                if is_last:
                    yield path
                else:
                    waiting.append((path, index + 1))
        if part == "**" and not is_last:  # which also stands for no folder at all
            waiting.append((inside, index + 1))


def _names_in(folder: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if name != ".git")
    except OSError:
        return []


def _included(main: Worktree) -> list[str]:
    """Return what `.worktreeinclude` names and git ignores.  It need not match anything: the file is written for everybody."""
    listed = os.path.join(main.tree, INCLUDE_FILE)
    if not os.path.isfile(listed):
        return []
    asked = ("ls-files", "-z", "--others", "--ignored", "--directory")
    matching = main.git(*asked, f"--exclude-from={listed}", env=polling()).fields
    ignored = ignored_in(main, [path.rstrip("/") for path in matching])
    found = {path.rstrip("/") for path in matching} & ignored
    mixed = tuple(path for path in matching if path.endswith("/") and path.rstrip("/") not in ignored)
    if mixed:  # folders that are not ignored as such
        found |= {path.rstrip("/") for path in _all_ignored(main) if path.startswith(mixed)}
        found = {path for path in found if f"{path}/" not in mixed}
    return sorted(found)


def _all_ignored(main: Worktree) -> list[str]:
    asked = ("ls-files", "-z", "--others", "--ignored", "--directory", "--exclude-standard")
    return main.git(*asked, env=polling()).fields


def ignored_in(worktree: Worktree, paths: Sequence[str], *how: str) -> set[str]:
    """Return which of these paths git ignores in a worktree."""
    if not paths:
        return set()
    asked = {f"./{path}" if path.startswith(":") else path: path for path in paths}  # a colon means magic to it
    answer = worktree.git("check-ignore", "-z", "--stdin", *how, stdin=joined(asked), env=polling(), accept=(0, 1))
    return {asked[path] for path in answer.fields}


def _tracked(main: Worktree, paths: Sequence[str]) -> list[str]:
    found: list[str] = []
    for start in range(0, len(paths), _AT_ONCE):
        asked = paths[start : start + _AT_ONCE]
        found += main.git("ls-files", "-z", "--", *asked, env=polling({"GIT_LITERAL_PATHSPECS": "1"})).fields
    return found


def _item(main: Worktree, path: str, one: Carry) -> Item:
    source = os.path.join(main.tree, path)
    if os.path.islink(source):
        leads_to, top = os.path.realpath(source), os.path.realpath(main.tree)
        if os.path.commonpath([leads_to, top]) != top:
            raise _refused(
                one,
                f"{printable(path)!r} is a symbolic link that leads out of the repository, to {printable(leads_to)!r}",
                "put a file of its own there, or let the task find it where it is",
            )
    elif one.by != "link" and not (os.path.isfile(source) or os.path.isdir(source)):
        raise _refused(one, f"{printable(path)!r} is neither a file nor a folder", "carry it by link")
    elif not os.access(source, os.R_OK):
        raise EnvironmentProblem(
            f"{printable(source)!r} is to be carried into workspaces and cannot be read",
            hint=f"{to_type('chmod', 'u+r', source)}, or take it out of what is carried",
        )
    return Item(path, source, one.by, _is_folder(source), one.where)


def _is_folder(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)


def _named(paths: Sequence[str]) -> str:
    named = ", ".join(repr(printable(path)) for path in paths[:_SHOWN])
    return named if len(paths) <= _SHOWN else f"{named} and {len(paths) - _SHOWN} more"


def _refused(one: Carry, why: str, hint: str) -> ConfigurationError:
    place = f"{one.where}: " if one.where else ""
    return ConfigurationError(f"{place}{one.path!r} cannot be carried into workspaces: {why}", hint=hint)
