"""What tasks must leave alone, in a form that can be compared.

Taken before and after every task, so it has to be cheap: what is looked at is sizes and times, and only where these have
changed is content read, or git asked.  Who made a change it cannot tell: with several tasks at once each of them that ran
at the time reports it, and so it is when a person worked in the main checkout meanwhile.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from moderator.git import heads
from moderator.git.repository import Repository
from moderator.opening import opened

_DEEPEST = 5  # names that stand for names: git follows no more either


@dataclass(frozen=True)
class Fingerprint:
    """The main checkout's HEAD and index, and what its worktrees share: configuration, hooks, stash, attributes, excludes.

    `commit` is what HEAD stands for: the checkout's next commit builds on it, wherever the branch was moved from.  `index` and
    `hook_files` are sizes and times, `staged` and `hooks` what they stand for: git itself rewrites an index, and tools their
    hooks, without changing anything.
    """

    head: bytes
    commit: bytes
    config: bytes
    index: tuple[int, ...]
    staged: str
    hook_files: tuple[tuple[str, ...], ...]
    hooks: bytes
    stash: tuple[bytes, int]
    info: bytes

    @classmethod
    def of(cls, repository: Repository, before: Fingerprint | None = None) -> Fingerprint:
        """Return the repository's fingerprint; what has not changed since the one `before` is taken from that."""
        common = repository.common
        head = os.fsencode(heads.said(common))
        index = _index_file(common)
        files = tuple(_hook_files(repository))
        return cls(
            head=head,
            commit=_commit_of(common, head),
            config=_digest(f"{common}/config", f"{common}/config.worktree"),
            index=index,
            staged=before.staged if before and before.index == index else _staged(repository, index),
            hook_files=files,
            hooks=before.hooks if before and before.hook_files == files else _hooks(files),
            stash=_stash(common),
            info=_digest(f"{common}/info/attributes", f"{common}/info/exclude"),
        )

    def differences(self, after: Fingerprint) -> list[str]:
        """Return the names of what changed between this and a later one."""
        return [
            name
            for name, same in (
                ("HEAD of the main checkout", (self.head, self.commit) == (after.head, after.commit)),
                ("the index of the main checkout", self.staged == after.staged),
                ("the repository's configuration", self.config == after.config),
                ("the hooks of the repository", self.hooks == after.hooks),
                ("the stash", self.stash == after.stash),
                ("the attributes or excludes of the repository", self.info == after.info),
            )
            if not same
        ]


def _commit_of(common: str, head: bytes) -> bytes:
    """Return what HEAD stands for in the end, b"" on a branch without commits: a branch may be a name for another."""
    if not heads.are_files(common):
        return _asked(common, "HEAD")
    value = head
    for _ in range(_DEEPEST):
        if not value.startswith(b"ref: "):
            return value.strip()
        value = _value(common, value.removeprefix(b"ref: ").strip())
    return b""


def _value(common: str, name: bytes) -> bytes:
    """Return what a ref points to, read from the files: this is asked twice for every task."""
    if loose := _content(f"{common}/{os.fsdecode(name)}"):
        return loose
    packed = _content(f"{common}/packed-refs")
    end = packed.find(b" " + name + b"\n")
    return packed[packed.rfind(b"\n", 0, end) + 1 : end] + b"\n" if end >= 0 else b""


def _stash(common: str) -> tuple[bytes, int]:
    """Return the newest entry of the stash and how many there are; rewriting its log changes neither."""
    if not heads.are_files(common):
        newest = _asked(common, "refs/stash")
        return newest, len(heads.log_of(common, "refs/stash")) if newest else 0
    log = _content(f"{common}/logs/refs/stash")
    # Without a log there is no stash; then nothing is looked for among the packed refs, which may be many.
    return (_value(common, b"refs/stash"), log.count(b"\n")) if log else (b"", 0)


def _asked(common: str, name: str) -> bytes:
    """Return what a ref points to where refs are in no files, b"" if to nothing."""
    return os.fsencode(heads.commit_of(common, name))


def _hook_files(repository: Repository) -> Iterator[tuple[str, ...]]:
    """Yield each file that may be a hook, with everything that changes when it does."""
    for folder in _hook_folders(repository):
        try:
            with os.scandir(folder) as found:
                # Git runs no samples, and every repository has a dozen.
                entries = sorted((e for e in found if not e.name.endswith(".sample")), key=lambda entry: entry.name)
        except OSError:  # none, or not a directory
            continue
        for entry in entries:
            try:
                seen = entry.stat()
            except OSError:  # gone since, or a link that leads nowhere
                continue
            numbers = (seen.st_mode, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino)
            yield (entry.path, *map(str, numbers))


def _hook_folders(repository: Repository) -> Iterator[str]:
    default = os.path.join(repository.common, "hooks")
    folder = os.path.realpath(repository.hooks_folder)
    top = os.path.realpath(repository.main_top or repository.common)
    # One that is set may be shared with others: elsewhere it is no part of this repository.
    return iter(dict.fromkeys((default, folder) if folder.startswith(os.path.join(top, "")) else (default,)))


def _hooks(files: tuple[tuple[str, ...], ...]) -> bytes:
    """Return a digest of what the hooks are: names, modes, content."""
    digest = hashlib.sha256()
    for path, mode, *_ in files:
        content = _content(path) if stat.S_ISREG(int(mode)) else b""
        digest.update(b"%s\0%s\0%d\0%s" % (os.fsencode(path), mode.encode(), len(content), content))
    return digest.digest()


def _index_file(common: str) -> tuple[int, ...]:
    try:
        seen = os.stat(f"{common}/index")
    except OSError:
        return ()
    return (seen.st_mtime_ns, seen.st_size, seen.st_ino)


def _staged(repository: Repository, index: tuple[int, ...]) -> str:
    """Return a digest of what is staged: `git status` rewrites the index, and only its content counts."""
    listed = repository.git("ls-files", "--stage", "-z", accept=(0, 128)).out if index else b""
    return hashlib.sha256(listed).hexdigest()


def _digest(*paths: str) -> bytes:
    contents = [_content(path) for path in paths]
    return hashlib.sha256(b"".join(b"%d\0%s" % (len(content), content) for content in contents)).digest()


def _content(path: str) -> bytes:
    try:
        with opened(path) as file:
            return file.read()
    except OSError:
        return b""
