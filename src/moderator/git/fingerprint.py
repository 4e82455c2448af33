"""What tasks must leave alone, in a form that can be compared."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from moderator.git.repository import Repository


@dataclass(frozen=True)
class Fingerprint:
    """The main checkout's HEAD and index, and the shared configuration."""

    head: bytes
    config: bytes
    index: tuple[int, ...]
    staged: str

    @classmethod
    def of(cls, repository: Repository, before: Fingerprint | None = None) -> Fingerprint:
        common = Path(repository.common)
        head = _content(common / "HEAD")
        if _moved_underneath(common, head):
            head += b"moved underneath\n"
        config = hashlib.sha256(_content(common / "config")).digest()
        try:
            stat = (common / "index").stat()
            index: tuple[int, ...] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        except FileNotFoundError:
            return cls(head, config, (), "")
        if before and before.index == index:
            return cls(head, config, index, before.staged)
        # `git status` rewrites the index without changing what is staged; only the latter counts.
        listed = repository.git("ls-files", "--stage", "-z", accept=(0, 128))
        return cls(head, config, index, hashlib.sha256(listed.out).hexdigest())

    def differences(self, after: Fingerprint) -> list[str]:
        """Return the names of what changed between this and a later one."""
        return [
            name
            for name, same in (
                ("HEAD of the main checkout", self.head == after.head),
                ("the index of the main checkout", self.staged == after.staged),
                ("the repository's configuration", self.config == after.config),
            )
            if not same
        ]


def _moved_underneath(common: Path, head: bytes) -> bool:
    """Whether the branch in HEAD was moved from elsewhere: what git does in the checkout itself, HEAD's log knows of.

    The next commit there would silently revert what the branch was moved to.
    """
    log = _content(common / "logs" / "HEAD").rstrip(b"\n")
    commit = _commit_of(common, head).strip()
    newest = log[log.rfind(b"\n") + 1 :].split(b" ")[1:2]
    return bool(commit and newest) and newest != [commit]


def _commit_of(common: Path, head: bytes) -> bytes:
    """Return what the branch in HEAD points to, read from the files: this is asked twice for every task."""
    if not head.startswith(b"ref: "):
        return b""
    name = head.removeprefix(b"ref: ").strip()
    if loose := _content(common / os.fsdecode(name)):
        return loose
    packed = _content(common / "packed-refs")
    end = packed.find(b" " + name + b"\n")
    return packed[packed.rfind(b"\n", 0, end) + 1 : end] + b"\n" if end >= 0 else b""


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
