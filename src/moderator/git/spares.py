"""What a spare is on disk: a detached worktree that nobody has used, its record, and the seal that tells that nobody has.

A spare lies beside the workspaces, and its tree is closed (mode 0) while it waits.  Whoever would write into it has to open it
first, and that leaves a trace in its change time, which no program can set back.  Root is let in without: what he changes at the
top of the tree, in the index or in the entry leaves its trace there, what he changes deeper down is found when spares are looked
at again.  The seal is the stamps of all of these: it is compared in the same time however large the tree is.  Every file is looked
at, with git's own eyes, before the tree is closed.

Decides nothing: which spare is taken, made or given up is the pool's.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from moderator.context import IsolationLevel
from moderator.git import written
from moderator.git.entries import SPARE, SPARES, names, person_lock_in, points_at
from moderator.git.registry import MAKING, Record
from moderator.git.repository import Repository
from moderator.opening import content

FOLDER = SPARES
"""The folder of spares, beside the workspaces: a name that no task can have."""
_VERSION = 1
_CONVERTING = (
    "core.autocrlf", "core.eol", "core.symlinks", "core.filemode", "core.ignorecase", "core.precomposeunicode",
    "core.attributesfile", "core.checkroundtripencoding", "core.usereplacerefs", "core.worktree",
    "attr.", "filter.", "lfs.", "extensions.",
)  # fmt: skip
"""Settings, or how they begin, that decide which bytes a checkout writes, or how."""
_OF_LINKS = "extensions.relativeworktrees"
"""Decides nothing in a file; git sets it by itself one day."""
_REPLACED = b" refs/replace/"
"""How a line of packed-refs goes on, after the object that takes the place of the one that is named then."""
_EVERYBODYS_ATTRIBUTES = "/etc/gitattributes"
_PURE_FILTERS = ("lfs",)
"""Filters that are known to look at nothing but the file."""


@dataclass(frozen=True)
class Spare:
    """One spare.

    `path` is the tree, `entry` its administrative directory, `commit` whose files it has.  `made_at` is in unix seconds, `size` in
    bytes.  `conversion` is what decided the bytes of its files, `mode` the permissions of its top when it is open.
    `keeps_ignored`: it was a workspace, and what git ignores in it is still there.  `seal` is None until it is ready.  `towards` is
    the commit whose files it is about to get.
    """

    entry: str
    path: str
    commit: str
    made_at: float
    conversion: str
    size: int = 0
    mode: int = 0o755
    keeps_ignored: bool = False
    seal: tuple[tuple[int, ...], ...] | None = None
    towards: str = ""

    @property
    def home(self) -> str:
        """The folder of the workspaces it is meant for."""
        return os.path.dirname(os.path.dirname(self.path))

    @property
    def record(self) -> Record:
        """The spare as a worktree that can be published and discarded like any other."""
        return Record(
            task_id=SPARE, project_id="", level=IsolationLevel.DIRECTORY, branch=None, path=self.path, state_dir="",
            base_branch="", base=self.commit, entry=self.entry, token="", created_at=self.made_at, state=MAKING,
        )  # fmt: skip


class Spares:
    """The records of spares under a repository's `moderator` directory."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._folder = repository.ours / "spares"

    def __iter__(self) -> Iterator[Spare]:
        with contextlib.suppress(FileNotFoundError):
            for name in sorted(os.listdir(self._folder)):
                if name.endswith(".json") and (spare := self.find(name.removesuffix(".json"))):
                    yield spare

    def find(self, entry: str) -> Spare | None:
        """Return the spare of that entry; None if there is none, or what is written of it makes no sense."""
        try:
            values = json.loads(content(self._file(entry)))
            if values.pop("version") != _VERSION or set(values) != {field.name for field in fields(Spare)}:
                return None
            spare = _read(values)
            # It must not lead anywhere but into a folder of spares.
            sound = spare.entry == entry and os.path.isabs(spare.path) and spare.path == place_of(spare.home, entry)
            return spare if sound and is_name(entry) else None
        except (OSError, *written.UNREADABLE):
            return None

    def broken(self) -> list[str]:
        """Return the names of records of which nothing can be made out, also of those that were never written to their end."""
        with contextlib.suppress(FileNotFoundError):
            names_ = os.listdir(self._folder)
            found = {name.removesuffix(".json") for name in names_ if name.endswith(".json")}
            found |= {
                name[1:].removesuffix(".new") for name in names_ if name.startswith(".") and name.endswith(".new")
            }
            return sorted(name for name in found if self.find(name) is None)
        return []

    def idle_locks(self) -> list[str]:
        """Return the entries of locks that protect no spare: it is about to be made, or its process was killed at the end."""
        with contextlib.suppress(FileNotFoundError):
            locks = [name for name in os.listdir(self._repository.ours / "leases") if name.startswith("spare@")]
            found = [name.removeprefix("spare@").removesuffix(".lock") for name in locks]
            return [name for name in found if is_name(name) and self.find(name) is None]
        return []

    def write(self, spare: Spare) -> None:
        """Write a spare down, whole or not at all.  Raises OSError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        aside = self._folder / f".{spare.entry}.new"
        aside.write_text(json.dumps(asdict(spare) | {"version": _VERSION}), "ascii")
        os.replace(aside, self._file(spare.entry))

    def drop(self, entry: str) -> None:
        """Forget the spare of that entry: it is somebody's workspace now, or gone."""
        for path in (self._file(entry), self._folder / f".{entry}.new"):
            path.unlink(missing_ok=True)

    def lease_path(self, entry: str) -> Path:
        """Return the lock of whoever makes, takes or gives up a spare."""
        return self._repository.ours / "leases" / f"spare@{entry}.lock"

    def _file(self, entry: str) -> Path:
        return self._folder / f"{entry}.json"


def _read(values: Mapping[str, Any]) -> Spare:
    """Return the spare that is written down in a record.  Raises what reading such things may."""
    numbers = [values["size"], values["mode"], *(number for one in values["seal"] or () for number in one)]
    if any(type(number) is not int for number in numbers) or not 0 <= values["mode"] <= 0o7777:
        raise ValueError("these are no sizes, modes or stamps")
    if type(values["keeps_ignored"]) is not bool:
        raise ValueError("neither true nor false")
    seal = None if values["seal"] is None else tuple(tuple(one) for one in values["seal"])
    return Spare(
        entry=written.text(values["entry"]),
        path=written.text(values["path"]),
        commit=written.object_id(values["commit"]),
        made_at=written.moment(values["made_at"]),
        conversion=written.text(values["conversion"]),
        size=values["size"],
        mode=values["mode"],
        keeps_ignored=values["keeps_ignored"],
        seal=seal,
        towards=written.object_id(values["towards"]) if values["towards"] else "",
    )


def is_name(entry: str) -> bool:
    """Whether an entry may be that of a spare, or of a workspace that was one."""
    return entry.startswith(f"{SPARE}-") and os.sep not in entry


def place_of(home: str, entry: str) -> str:
    """Return where the tree of a spare for the workspaces in `home` is."""
    return os.path.join(home, FOLDER, entry)


def closed(repository: Repository, spare: Spare) -> Spare:
    """Close the tree of a spare that is whole, and return the spare with its seal.  Raises OSError."""
    mode = stat.S_IMODE(os.lstat(spare.path).st_mode)
    within = _stamps(repository, spare)
    os.chmod(spare.path, 0)
    return replace(spare, mode=mode, seal=(_stamp(os.lstat(spare.path)), *within))


def opened(repository: Repository, spare: Spare) -> str:
    """Open the tree of a spare that is to be taken; return why it must not be, "" if its seal is whole.  Raises OSError."""
    if spare.seal is None:
        return "it was never finished"
    top = os.lstat(spare.path)
    if not stat.S_ISDIR(top.st_mode):
        return "its tree is none"
    if _stamp(top) != spare.seal[0]:
        return "its tree was opened"
    os.chmod(spare.path, spare.mode)  # only now: what has taken its place is somebody else's
    if _stamps(repository, spare) != spare.seal[1:]:
        return "its index or its entry was changed"
    return _entry_fault(repository, spare)


def let_in(spare: Spare) -> None:
    """Open the tree of a spare that is given up, if it is closed as `closed` does it.  Raises OSError."""
    top = os.lstat(spare.path)  # a link is not followed: it leads to somebody else's directory
    if stat.S_ISDIR(top.st_mode) and not stat.S_IMODE(top.st_mode):
        os.chmod(spare.path, spare.mode | 0o700)


def _entry_fault(repository: Repository, spare: Spare) -> str:
    entry = _entry(repository, spare)
    if not points_at(spare.path, entry) or not names(entry, spare.path):
        return "its tree and its entry do not point at each other"
    if person_lock_in(entry) is not None:
        return "somebody locked it"
    if content(os.path.join(entry, "HEAD")).decode("ascii").strip() != spare.commit:
        return "its HEAD was moved"
    return ""


def _entry(repository: Repository, spare: Spare) -> str:
    return os.path.join(repository.common, "worktrees", spare.entry)


def _stamps(repository: Repository, spare: Spare) -> tuple[tuple[int, ...], ...]:
    """Return the stamps of the `.git` file and of every file of the entry, and which files these are."""
    entry = _entry(repository, spare)
    told = "\0".join(sorted(os.listdir(entry))).encode("utf-8", "surrogatepass")
    found = [_stamp(os.lstat(os.path.join(spare.path, ".git"))), tuple(hashlib.sha256(told).digest())]
    return (*found, *(_stamp(os.lstat(os.path.join(entry, name))) for name in ("HEAD", "gitdir", "index", "locked")))


def _stamp(found: os.stat_result) -> tuple[int, ...]:
    return (found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def conversion_of(repository: Repository) -> str:
    """Return a digest of all that decides, beside the commit, which bytes a checkout writes: settings and attributes.

    Attributes in the tree are the commit's own.
    """
    told = (item for item in sorted(repository.settings.items()) if item[0] != _OF_LINKS)
    said = {key: values for key, values in told if key.startswith(_CONVERTING)}
    digest = hashlib.sha256(json.dumps(said).encode())
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")  # where git looks, gitattributes(5)
    named = repository.setting("core.attributesfile") or os.path.join(home, "git", "attributes")
    own = os.path.join(repository.common, "info", "attributes")
    ignoring = repository.setting("core.excludesfile") or os.path.join(home, "git", "ignore")
    # What is ignored decides no byte, but what a spare with ignored files in it is.
    excluded = (os.path.join(repository.common, "info", "exclude"), os.path.expanduser(ignoring))
    for path in (own, os.path.expanduser(named), _EVERYBODYS_ATTRIBUTES, *excluded):
        with contextlib.suppress(OSError):
            digest.update(content(path))
        digest.update(b"\0")
    digest.update(_umask())
    digest.update(json.dumps(_replacements(repository.common)).encode())
    return digest.hexdigest()


def _replacements(common: str) -> list[tuple[str, str]]:
    """Return which objects git takes for others, git-replace(1): what a commit checks out can change by that."""
    found = {}
    with contextlib.suppress(OSError):
        packed = content(os.path.join(common, "packed-refs"))
        if _REPLACED in packed:
            lines = (line.partition(_REPLACED) for line in packed.splitlines())
            found = {os.fsdecode(name): os.fsdecode(by) for by, mark, name in lines if mark}
    folder = os.path.join(common, "refs", "replace")
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        with contextlib.suppress(OSError):
            found[name] = os.fsdecode(content(os.path.join(folder, name)).strip())
    return sorted(found.items())


def why_no_spares(repository: Repository) -> str:
    """Return why a spare cannot become a workspace in this repository, "" if it can."""
    if why := repository.why_git_makes_entries:
        return f"this repository's worktrees are made by git itself ({why}), so there can be no spares"
    if any(key.startswith("includeif.onbranch:") for key in repository.settings):
        return "settings depend on the branch (includeIf onbranch), and a spare has none, so there can be no spares"
    return ""


def can_become(repository: Repository, spare: Spare, other: str) -> bool:
    """Whether a spare is a checkout of another commit when the files that differ are written anew.

    Not if their attributes differ: then a file may need other bytes though its content is the same.  Nor with filters that may
    look at more than the file, HEAD for instance; nor with ignored files in it, if others are ignored there.  Raises GitFailed if
    one of them is gone.
    """
    if spare.commit == other:
        return True
    if any(_may_look_around(key, values[-1]) for key, values in repository.settings.items()):
        return False
    answer = repository.git("diff-tree", "-r", "-z", "--name-only", "--no-renames", spare.commit, other)
    deciding = {".gitattributes", *([".gitignore"] if spare.keeps_ignored else ())}
    return not any(os.path.basename(path).casefold() in deciding for path in answer.fields)


def _may_look_around(key: str, value: str) -> bool:
    section, _, rest = key.partition(".")
    name, _, what = rest.rpartition(".")
    return section == "filter" and what in ("smudge", "process") and name not in _PURE_FILTERS and value != "cat"


def _umask() -> bytes:
    """Return the mask of new files' permissions, without setting it for a moment as umask(2) would, where there is a way."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_bytes().splitlines():
            if line.startswith(b"Umask:"):
                return line
    return b""
