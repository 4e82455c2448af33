"""What every look starts from: the records, read with suspicion, and files that may be anything.

Changes nothing.  Nothing on disk is taken to be what its name promises: a pipe is not opened, a record that leads out of its
place is not followed.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from dataclasses import dataclass, field, fields
from pathlib import Path

from moderator.errors import ModeratorError
from moderator.git import heads
from moderator.git.entries import is_elsewhere
from moderator.git.registry import MAKING, READY, RETIRING, Record, Registry, key_of
from moderator.git.repository import Repository
from moderator.git.trash import trash_beside
from moderator.git.values import Keeping
from moderator.opening import opened

_OBJECT_ID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_LONGEST = 1 << 20  # bytes read of a file that should hold a line


@dataclass
class Scene:
    """One repository at one moment.

    `grace` is how many seconds old something must be before it counts as left behind, `booted` when this machine started.
    `damaged` are the files among the records that are none, by name, with the reason.
    """

    repository: Repository
    registry: Registry
    keeping: Keeping
    grace: float
    records: list[Record] = field(default_factory=list)
    damaged: dict[str, str] = field(default_factory=dict)
    foreign: list[str] = field(default_factory=list)
    now: float = field(default_factory=time.time)
    booted: float = field(default_factory=lambda: _boot_time())

    @classmethod
    def of(cls, repository: Repository, registry: Registry, keeping: Keeping, grace: float) -> Scene:
        """Look at a repository now.  Raises OSError if the folder of records cannot be listed."""
        scene = cls(repository, registry, keeping, grace)
        for name in names_in(scene.folder):
            key = name.removesuffix(".json")
            if key == name:
                if not (name.startswith(".") and name.endswith(".new")):
                    scene.foreign.append(name)
                continue
            try:
                scene._read(name, key)
            except (ModeratorError, ValueError, FileNotFoundError) as error:
                if os.path.lexists(os.path.join(scene.folder, name)):  # not removed meanwhile
                    scene.damaged[name] = getattr(error, "cause", "") or str(error)
        return scene

    @property
    def folder(self) -> str:
        return str(self.repository.ours / "workspaces")

    @property
    def entries(self) -> str:
        """The folder of administrative directories."""
        return os.path.join(self.repository.common, "worktrees")

    @property
    def main_top(self) -> str | None:
        """Where the main worktree must be, whatever the configuration says just now; None where nothing tells."""
        common = self.repository.common
        if os.path.basename(common) == ".git" and os.path.isfile(os.path.join(common, "index")):
            return os.path.dirname(common)
        return None

    def homes(self) -> list[str]:
        """Return the folders that workspaces are in."""
        top = self.main_top or self.repository.common.removesuffix(os.sep + ".git")
        known = {os.path.dirname(one.path) for one in self.records if one.path and not is_elsewhere(one.path)}
        return sorted({os.path.realpath(home) for home in (*known, f"{top}.moderator/tasks")})

    def trashes(self) -> list[str]:
        """Return the folders that removed trees go to; one that has become a link is named, and not what it leads to."""
        trees = [record.path for record in self.records if record.path] + [f"{home}/any" for home in self.homes()]
        beside = map(os.path.split, map(trash_beside, trees))
        return sorted({os.path.join(os.path.realpath(home), name) for home, name in beside})

    def is_stale(self, path: str) -> bool:
        """Whether nothing was written there since this machine started, or for longer than the grace.  Raises OSError."""
        written = os.lstat(path).st_mtime
        return written < self.now - self.grace or written < self.booted

    def current(self, record: Record) -> bool:
        """Whether the record is still as it was read, and nobody at work on its workspace."""
        try:
            return self.registry.find(record.task_id) == record and self.registry.holder(record) is None
        except ModeratorError:
            return False

    def _read(self, name: str, key: str) -> None:
        if not stat.S_ISREG(os.lstat(os.path.join(self.folder, name)).st_mode):
            raise ValueError("it is not a file")
        record = self.registry.owner_of_name(key)  # a key is the key of itself
        if key_of(key) != key or record is None or record.key != key:
            raise ValueError("it does not bear the name of its task")
        _require_sound(record)
        self.records.append(record)


def _require_sound(record: Record) -> None:
    """Raise ValueError for a record that no `moderator` can have written."""
    values = {each.name: getattr(record, each.name) for each in fields(Record)}
    texts = [value for name, value in values.items() if name not in ("level", "created_at", "branch", "adopted")]
    if not all(isinstance(text, str) and "\0" not in text for text in [*texts, record.branch or ""]):
        raise ValueError("a field is of the wrong kind")
    plain = (record.branch or "") + record.path + record.base + record.entry + record.base_branch
    if record.state not in (MAKING, READY, RETIRING) or "\n" in plain or not _OBJECT_ID.fullmatch(record.base):
        raise ValueError("a field holds what cannot be")
    if record.path and (not os.path.isabs(record.path) or record.entry in ("", ".", "..") or os.sep in record.entry):
        raise ValueError("it leads out of its place")


def names_in(folder: str | os.PathLike[str]) -> list[str]:
    """Return the names in a folder, sorted; none if there is no such folder.

    Raises OSError if it cannot be listed, or is a symbolic link: what is behind that is not ours to look at, let alone delete.
    """
    if os.path.islink(folder):
        raise NotADirectoryError(errno.ENOTDIR, "a symbolic link has taken the place of a folder", os.fspath(folder))
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []


def content(path: str | os.PathLike[str], most: int = _LONGEST) -> bytes | None:
    """Return what a small file holds, or its beginning; None if there is no file, or something else under its name."""
    try:
        with opened(path) as file:
            return file.read(most)
    except OSError:
        return None


def pointer_of(tree: str) -> str | None:
    """Return the administrative directory that the `.git` file of a tree names, None if it has no such file."""
    said = content(os.path.join(tree, ".git"))
    if said is None or not said.startswith(b"gitdir: "):
        return None
    named = os.fsdecode(said.removeprefix(b"gitdir: ").strip(b"\n"))
    return os.path.realpath(os.path.join(tree, named)) if named and "\0" not in named else None


def tree_of(entry: str) -> str | None:
    """Return the tree that an administrative directory names, None if it names none."""
    said = content(os.path.join(entry, "gitdir"))
    named = os.fsdecode(said).removesuffix("\n") if said else ""
    return os.path.dirname(os.path.normpath(os.path.join(entry, named))) if named and "\0" not in named else None


def head_of(entry: str) -> str:
    """Return what the HEAD of an administrative directory says, "" if it says nothing."""
    if heads.are_files(entry):
        return os.fsdecode((content(os.path.join(entry, "HEAD")) or b"").strip())
    try:
        return heads.said(entry)
    except ModeratorError:  # git finds nothing there of which it could be the HEAD
        return ""


def is_object_id(text: str) -> bool:
    """Whether a text is the id of an object, and not the null id."""
    return bool(_OBJECT_ID.fullmatch(text)) and bool(text.strip("0"))


def _boot_time() -> float:
    try:
        for line in Path("/proc/stat").read_text("ascii").splitlines():
            if line.startswith("btime "):
                return float(line.split()[1])
    except (OSError, ValueError):
        pass
    return 0.0
