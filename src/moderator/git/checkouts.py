"""What a worktree was when it was handed out, and how it becomes that again: without a checkout, and without reading every file.

A copy of the index is put aside before anybody works in the worktree, with the moment from which on whatever changes is younger.
A program may tell git anything in its own index; it does not write in this one, and nobody sets a time of change.  When its work
is in commits and nothing else is there, the files that have been touched since, whatever was done to them, are written anew, and
what the commits added goes.  What cannot be mended so is no spare: modes of directories, sockets, attributes that have changed.
Where a file system does not date what is written through a mapping (tmpfs), every file is read after all.

Must not know the pool, nor when a worktree may be had.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import tempfile
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from moderator.errors import EnvironmentProblem
from moderator.git import written
from moderator.git.contents import Worktree
from moderator.git.dating import dates_mappings
from moderator.git.exact import files_in_index, joined
from moderator.git.repository import Repository
from moderator.git.survey import CHANGED, MANY, MODE, Seen, Survey, above
from moderator.git.untouched import Untouched, is_set_back
from moderator.opening import content

_VERSION = 1
_GITLINK = "160000"


@dataclass(frozen=True)
class Checkout:
    """A worktree as it was handed out.

    `commit` is whose files it had, `conversion` what decided their bytes.  What has changed since is younger than `at`, in
    nanoseconds of the clock by which files are dated; `ahead` tells whether that has been put back.  `index` is what git knew of
    the files, `written_at` when that was written, in nanoseconds.
    """

    commit: str
    conversion: str
    at: int
    ahead: int
    written_at: int
    index: bytes


class Checkouts:
    """The notes of a repository's worktrees that may be used again, one file for each."""

    def __init__(self, ours: Path) -> None:
        self._folder = ours / "checkouts"

    def note(self, worktree: Worktree, commit: str, conversion: str) -> None:
        """Note what a worktree is in which nobody has worked yet; where that cannot be told, nothing is noted."""
        with contextlib.suppress(OSError):
            if (now := Untouched.of(worktree)) is None:
                return
            index = Path(worktree.git_dir, "index")
            told = {
                "version": _VERSION, "commit": commit, "conversion": conversion, "at": now.at, "ahead": now.ahead,
                "written_at": index.stat().st_mtime_ns,
            }  # fmt: skip
            self._folder.mkdir(parents=True, exist_ok=True)
            place = self._place(os.path.basename(worktree.git_dir))
            aside = place.with_name(f".{place.name}.new")
            aside.write_bytes(json.dumps(told).encode("ascii") + b"\n" + content(index))
            os.replace(aside, place)

    def find(self, entry: str) -> Checkout | None:
        """Return what was noted of the worktree with that entry; None if nothing was, or it makes no sense."""
        try:
            told, _, index = content(self._place(entry)).partition(b"\n")
            values = json.loads(told)
            at, ahead, written_at = values["at"], values["ahead"], values["written_at"]
            if values["version"] != _VERSION or any(type(number) is not int for number in (at, ahead, written_at)):
                return None
            commit, conversion = written.object_id(values["commit"]), written.text(values["conversion"])
            return Checkout(commit, conversion, at, ahead, written_at, index)
        except (OSError, *written.UNREADABLE):
            return None

    def forget(self, entry: str) -> None:
        """Forget a worktree that is gone."""
        with contextlib.suppress(OSError):
            self._place(entry).unlink(missing_ok=True)

    def tidy(self, entries: Collection[str]) -> None:
        """Forget every worktree that is not one of these entries: their processes were killed."""
        with contextlib.suppress(OSError):
            for name in os.listdir(self._folder):
                if name.removeprefix(".").removesuffix(".new") not in entries:
                    (self._folder / name).unlink(missing_ok=True)

    def _place(self, entry: str) -> Path:
        return self._folder / entry


@dataclass(frozen=True)
class Wear:
    """What is to be done to a worktree so that it is as it was handed out.

    `touched` and `missing` files are written anew, `added` are those that the commit has not, and that go.  `size` is in bytes.
    """

    touched: tuple[str, ...]
    missing: tuple[str, ...]
    added: tuple[str, ...]
    size: int

    def mend(self, worktree: Worktree) -> None:
        """Do it.  All that is deleted is in commits: `wear_of` has looked.  Raises OSError, GitFailed."""
        for path in (*self.added, *self.touched):
            os.unlink(os.path.join(worktree.tree, path))
        around = {folder for path in self.added for folder in above(path)}
        for folder in sorted(around, key=len, reverse=True):
            with contextlib.suppress(OSError):  # only those that are empty now
                os.rmdir(os.path.join(worktree.tree, folder))
        if wanted := (*self.touched, *self.missing):
            worktree.git("checkout-index", "--force", "--index", "-z", "--stdin", stdin=joined(wanted))


def wear_of(
    repository: Repository,
    worktree: Worktree,
    was: Checkout,
    head: str,
    keeps_ignored: bool,
    since: int,
    seen: Seen | None = None,
) -> Wear:
    """Return what has been done to a worktree whose entry has the index of `was`, and whose work is in the commit `head`.

    What no time of change tells of is as it was.  Nothing may have been written after `since`, in nanoseconds; if what was `seen`
    before that holds, the tree is not walked through once more.  With `keeps_ignored`, what git ignores stays where it is.  Raises
    EnvironmentProblem if it cannot be made as it was, GitFailed if a commit is gone, OSError.
    """
    if is_set_back(was.ahead):
        raise _worn(["the clock was put back"])
    added, changed = _differences(repository, was.commit, head)
    if seen and seen.holds(worktree.tree):
        survey = seen.survey
    else:
        survey = Survey(worktree.tree, large=files_in_index(worktree.git_dir) >= MANY)
    if survey.unread:
        raise _worn(survey.unread)
    files, stamps = set(survey.files), survey.stamps
    # One pass: there may be a million.
    young = {path for path, one in stamps.items() if one[CHANGED] > was.at}
    if max((stamps[path][CHANGED] for path in files & young), default=0) >= since:
        raise _worn(["something was written into it after its removal"])
    tracked = set(worktree.git("ls-files", "-z").fields)
    touched, missing = files & tracked & young, tracked - files
    folders = {path: one for path in stamps.keys() - files if stat.S_ISDIR((one := stamps[path])[MODE])}
    young_folders = [path for path in folders if path in young]
    if young_folders:  # a file may have come in with a folder, as old as it is: it is not the one that the index knows
        touched |= files.intersection(worktree.git("diff-files", "-z", "--name-only").fields)
    if faults := [
        *filter(_decides, touched | (files - tracked)),
        *_unknown(worktree, missing - changed, survey),
    ]:
        raise _worn(faults)
    if keeps_ignored and any(map(_says_what_is_ignored, touched | changed | added)):
        raise _worn(["what is ignored has changed"])
    if strange := files - tracked - added:
        _require_ignored(worktree, strange, changed, keeps_ignored)
    if (unsure := touched - changed) and (faults := _other_content(worktree, unsure)):
        raise _worn(faults)
    dated = dates_mappings(os.path.dirname(worktree.tree), os.lstat(worktree.tree).st_dev)
    if not dated and (unseen := _read_anew(worktree, was.commit) - changed):
        raise _worn(sorted(unseen))
    emptied = {folder for path in changed for folder in above(path)} | tracked
    faults = [*survey.special, *survey.nested, *(folder for folder in survey.empty if folder not in emptied)]
    mode = _mode_of_folders(worktree)
    faults += [folder for folder, found in folders.items() if stat.S_IMODE(found[MODE]) != mode]
    faults += [folder for folder in young_folders if _hands_down(os.path.join(worktree.tree, folder))]
    if keeps_ignored and faults:
        named = joined(folder or "." for folder in faults)
        asked = set(worktree.git("check-ignore", "-z", "--stdin", stdin=named, accept=(0, 1)).fields)
        faults = [path for path in faults if path not in asked]
    if faults:
        raise _worn(faults)
    return Wear(tuple(touched), tuple(missing & changed), tuple(added & files), survey.size)


def _decides(path: str) -> bool:
    """Whether a file says how others are written: then these may need other bytes though they are the same."""
    return path.rpartition("/")[2].casefold() == ".gitattributes"


def _says_what_is_ignored(path: str) -> bool:
    return path.rpartition("/")[2].casefold() == ".gitignore"


def _hands_down(folder: str) -> bool:
    """Whether a folder has attributes of its own, access control lists for instance, that files made in it inherit."""
    if not hasattr(os, "listxattr"):
        return False
    return any(not name.startswith("security.") for name in os.listxattr(folder, follow_symlinks=False))


def _unknown(worktree: Worktree, missing: set[str], survey: Survey) -> list[str]:
    """Return what has gone though no commit says so: anything but the empty folders of submodules."""
    if not missing:
        return []
    listed = (line.partition("\t") for line in worktree.git("ls-files", "-s", "-z").fields)
    submodules = {path for described, _, path in listed if described.startswith(_GITLINK)}
    return sorted(missing - (submodules & set(survey.empty)))


def _require_ignored(worktree: Worktree, strange: set[str], changed: set[str], keeps_ignored: bool) -> None:
    """Raise EnvironmentProblem unless files that are in no commit are there to stay, and in nobody's way."""
    if not keeps_ignored:
        raise _worn(sorted(strange))
    asked = worktree.git("check-ignore", "-z", "--stdin", stdin=joined(sorted(strange)), accept=(0, 1))
    around = {folder for path in changed for folder in above(path)}
    in_the_way = {path for path in strange if path in around or path in changed or changed.intersection(above(path))}
    if faults := (strange - set(asked.fields)) | in_the_way:
        raise _worn(sorted(faults))


def _other_content(worktree: Worktree, paths: set[str]) -> list[str]:
    """Return which of these files are not what the index has, as git tells."""
    return sorted(paths.intersection(worktree.contents(ignored=False).modified))


def _read_anew(worktree: Worktree, commit: str) -> set[str]:
    """Return which files are not as in a commit, by an index that knows nothing of them; those that are not there do not count."""
    with tempfile.TemporaryDirectory(prefix="moderator-") as folder:
        private = {"GIT_INDEX_FILE": os.path.join(folder, "index")}
        worktree.git("read-tree", commit, env=private)
        worktree.git("update-index", "-q", "--refresh", env=private, accept=(0, 1))
        return set(worktree.git("diff-files", "-z", "--name-only", "--diff-filter=d", env=private).fields)


def _worn(what: Iterable[str]) -> EnvironmentProblem:
    return EnvironmentProblem(f"it is not as a new one: {', '.join(list(what)[:3])}")


def _differences(repository: Repository, base: str, head: str) -> tuple[set[str], set[str]]:
    """Return the paths that only `head` has, and those of `base` that are not in it as they were.

    Raises EnvironmentProblem if a submodule is among them, or attributes: then a file may need other bytes though it is the same.
    """
    fields = repository.git("diff-tree", "-r", "-z", "--no-renames", base, head).fields if base != head else []
    added, changed = set[str](), set[str]()
    for how, path in zip(fields[::2], fields[1::2], strict=True):
        if _GITLINK in how or _decides(path):
            raise _worn([path])
        (added if how.endswith("A") else changed).add(path)
    return added, changed


def _mode_of_folders(worktree: Worktree) -> int:
    """Return the permissions of a folder that is made now: those of a file that this process made, and those to enter it."""
    plain = os.lstat(os.path.join(worktree.git_dir, "HEAD")).st_mode & 0o666
    return plain | (plain & 0o444) >> 2
