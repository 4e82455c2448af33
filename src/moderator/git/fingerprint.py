"""What tasks must leave alone, in a form that can be compared."""

from __future__ import annotations

import hashlib
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


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
