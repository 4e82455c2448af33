"""The ground that attacks stand on: a ledger of everything a user wrote, and where it must be found again.

Knows git and the disk; must not know how `moderator` keeps what it keeps, only where: the judge reads files, refs and objects.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

HOUSE = Path(__file__).resolve().parents[1]
sys.path.append(str(HOUSE / "tests"))  # builders of repositories and of unsaved work are shared with the tests

COMMAND = [sys.executable, "-m", "moderator"]
_OBJECT_ID = re.compile(rb"\b[0-9a-f]{40}\b")
_EMPTY = hashlib.sha1(b"blob 0\0").hexdigest()
SMOKE = 0.001
"""The share that only shows that every step works: the figures mean nothing."""
_PATIENCE = 300.0  # seconds after which a command counts as hanging


@dataclass
class Row:
    """What one attack did: a line of the table, and the details of what went wrong."""

    what: str
    count: int = 0
    kills: int = 0
    creations: int = 0
    losses: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    note: str = ""

    def add(self, other: Row) -> None:
        self.count += other.count
        self.kills += other.kills
        self.creations += other.creations
        self.losses += other.losses
        self.failures += other.failures
        self.note = other.note or self.note


@dataclass(frozen=True)
class Options:
    """How much is attacked: `share` of the long form (1.0 is all), from which seed, with how many processes at once."""

    seed: int = 0
    share: float = 1.0
    jobs: int = 2
    say: Callable[[str], None] = lambda _text: None

    def times(self, count: int) -> int:
        return max(1, round(count * self.share))


def plain_git(cwd: Path | str, *arguments: str, stdin: bytes = b"", fails: bool = False, **variables: str) -> bytes:
    """Return what git prints; whatever the user configured to mislead us is overruled."""
    done = subprocess.run(
        ["git", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", *arguments],
        cwd=cwd, input=stdin, capture_output=True, env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", **variables},
    )  # fmt: skip
    if done.returncode and not fails:
        raise AssertionError(f"git {' '.join(arguments)} ended with {done.returncode}: {os.fsdecode(done.stderr)}")
    return done.stdout


def moderator(cwd: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run one command line of ours to its end."""
    return subprocess.run(
        [*COMMAND, *arguments], cwd=cwd, env={**os.environ, **variables}, stdin=subprocess.DEVNULL,
        capture_output=True, encoding="utf-8", errors="surrogateescape", timeout=_PATIENCE,
    )  # fmt: skip


def bad_ending(done: subprocess.CompletedProcess[str], *allowed: int) -> str | None:
    """Return what is wrong with how a command of ours ended; None if it ended well, or with a code allowed here."""
    said = f"{' '.join(map(str, done.args[3:]))[:200]} ended with {done.returncode}: {(done.stderr or done.stdout)[-1500:]}"
    if "Traceback (most recent call last)" in done.stdout + done.stderr:
        return f"a traceback: {said}"
    return None if done.returncode in (0, *allowed) else said


# -- what is on disk ------------------------------------------------------------------------------------------------


def blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def contents(folder: Path, leave_out: tuple[str, ...] = (".git",)) -> Iterator[tuple[str, str]]:
    """Yield the path below the folder and the blob id of every file and link; `.git` files are nobody's work."""
    for where, names, files in os.walk(folder):
        for name in [*names, *files]:
            path = os.path.join(where, name)
            mode = os.lstat(path).st_mode
            if name in leave_out:
                continue
            if stat.S_ISLNK(mode):
                yield os.path.relpath(path, folder), blob_id(os.fsencode(os.readlink(path)))
            elif stat.S_ISREG(mode):
                with open(path, "rb") as file:
                    yield os.path.relpath(path, folder), blob_id(file.read())


def portrait(tree: Path) -> dict[str, object]:
    """Everything that can be told of a worktree: each path with its kind, mode and bytes, the index with its flags, HEAD."""
    found: dict[str, object] = {}
    for where, names, files in os.walk(tree):
        for name in [*names, *files]:
            path = os.path.join(where, name)
            mode, shown = os.lstat(path).st_mode, os.path.relpath(path, tree)
            if shown == ".git":  # it may name another entry: ids are never used twice
                continue
            if stat.S_ISLNK(mode):
                found[shown] = (mode, os.readlink(path))
            elif stat.S_ISREG(mode):
                with open(path, "rb") as file:
                    found[shown] = (mode, blob_id(file.read()))
            else:
                found[shown] = mode
    status = ("-c", "status.showUntrackedFiles=all", "-c", "core.ignoreStat=false", "status", "--porcelain=v2", "-z")
    found["(status)"] = plain_git(tree, *status, "--branch", "--ignored=matching", "--ignore-submodules=none")
    found["(index)"] = plain_git(tree, "ls-files", "-z", "-s", "-v")
    found["(head)"] = plain_git(tree, "rev-parse", "--verify", "--quiet", "HEAD", fails=True)
    found["(log)"] = plain_git(tree, "reflog", "show", "HEAD", fails=True)
    return found


def differences(before: dict[str, object], after: dict[str, object]) -> list[str]:
    """Return what differs between two portraits, a few words each."""
    return [
        f"{path}: {str(before.get(path, 'not there'))[:200]} became {str(after.get(path, 'not there'))[:200]}"
        for path in sorted({*before, *after})
        if before.get(path) != after.get(path)
    ]


# -- the ledger -----------------------------------------------------------------------------------------------------


class Ledger:
    """Everything a user wrote in one repository, by the id git would give it, and whose work it was."""

    def __init__(self, repository: Path) -> None:
        self._repository = repository
        self._base = {line.split()[0] for line in self._objects("--objects", "--glob=refs/*")}
        self.written: dict[str, dict[str, str]] = {}

    def note(self, owner: str, object_id: str, what: str) -> None:
        if object_id not in self._base:
            self.written.setdefault(owner, {}).setdefault(object_id, what)

    def note_bytes(self, owner: str, content: bytes, what: str) -> None:
        self.note(owner, blob_id(content), what)

    def note_worktree(self, owner: str, tree: Path, fresh: dict[str, str], left: tuple[str, ...] = ()) -> None:
        """Note every file that is not as it was checked out (`fresh`), every staged blob, every commit named privately.

        `left` are paths to leave out: for who expects that only what a commit can hold stays.
        """
        for path, object_id in contents(tree):
            under = any(path == name or path.startswith(f"{name}/") for name in left)
            if fresh.get(path) != object_id and not under:
                self.note(owner, object_id, f"file {path!r}")
        entry = Path(os.fsdecode(plain_git(tree, "rev-parse", "--absolute-git-dir")).strip())
        for what, object_id in [*staged(entry), *((f"named in {where}", found) for where, found in _named(entry))]:
            self.note(owner, object_id, what)

    def missing(self, *folders: Path) -> dict[str, list[str]]:
        """Return, by owner and in words, what is `gone`."""
        gone = self.gone(*folders)
        return {
            owner: lost
            for owner, written in self.written.items()
            if (lost := [f"{what} ({object_id[:10]})" for object_id, what in written.items() if object_id in gone])
        }

    def gone(self, *folders: Path) -> set[str]:
        """Return what is neither a file below the folders nor reachable from a ref or a standing worktree.

        The HEAD of every entry counts as a ref, also of one whose tree is gone: git collects nothing of it.
        """
        found = {object_id for folder in folders for _, object_id in contents(folder, (".git",))}
        found |= {line.split()[0] for line in self._objects("--objects", "--all", "--reflog")}
        standing = set()
        entries = self._common / "worktrees"
        for entry in sorted(entries.iterdir()) if entries.is_dir() else ():
            pointer = entry / "gitdir"
            if pointer.is_file() and Path(os.fsdecode(pointer.read_bytes()).strip()).exists():
                standing |= {object_id for _, object_id in [*staged(entry), *_named(entry)]}
        # What a standing worktree names and git pruned all the same is git's loss (MERGE_HEAD and its like before 2.44).
        found |= standing
        kinds = plain_git(self._repository, "cat-file", "--batch-check", stdin="\n".join(sorted(standing)).encode())
        commits = [line.split()[0] for line in kinds.decode().splitlines() if line.split()[1] == "commit"]
        if commits:
            found |= {line.split()[0] for line in self._objects("--objects", "--ignore-missing", *commits)}
        wanted = {object_id for written in self.written.values() for object_id in written}
        return {name for name in wanted - found if name.strip("0")}

    @property
    def _common(self) -> Path:
        there = os.fsdecode(plain_git(self._repository, "rev-parse", "--git-common-dir")).strip()
        return (self._repository / there).resolve()

    def _objects(self, *arguments: str) -> list[str]:
        return plain_git(self._repository, "rev-list", *arguments).decode("utf-8", "replace").splitlines()


def staged(entry: Path) -> list[tuple[str, str]]:
    index = entry / "index"
    if not index.is_file():
        return []
    lines = plain_git(entry, f"--git-dir={entry}", "ls-files", "-z", "-s").split(b"\0")
    described = [line.partition(b"\t") for line in lines if line]
    return [
        (f"staged {os.fsdecode(path)!r}", facts.split()[1].decode())
        for facts, _, path in described
        # An intent to add stands for an empty file that is never written as an object.
        if not facts.startswith(b"160000") and facts.split()[1].decode() != _EMPTY
    ]


def _named(entry: Path) -> list[tuple[str, str]]:
    """The commits that an administrative directory names, wherever in it."""
    names: dict[str, str] = {}
    for where, folders, files in os.walk(entry):
        folders[:] = [folder for folder in folders if folder != "modules"]
        for name in files:
            if not name.startswith(("index", "sharedindex", "gitdir", "locked")):
                found = _OBJECT_ID.findall(Path(where, name).read_bytes())
                names |= {one.decode(): os.path.relpath(os.path.join(where, name), entry) for one in found}
    asked = "\n".join(sorted(names)).encode()
    kinds = plain_git(entry, f"--git-dir={entry}", "cat-file", "--batch-check", stdin=asked) if names else b""
    commits = {line.split()[0] for line in kinds.decode().splitlines() if line.split()[1] == "commit"}
    return [(where, name) for name, where in names.items() if name in commits]


# -- afterwards -----------------------------------------------------------------------------------------------------


def unsound(repository: Path) -> list[str]:
    """Return what git finds wrong with a repository, and lock files that nobody will take away."""
    common = repository / ".git"
    checked = subprocess.run(
        ["git", "fsck", "--no-dangling", "--no-progress"], cwd=repository, capture_output=True, text=True
    )
    said = [line for line in (checked.stdout + checked.stderr).splitlines() if not line.startswith("notice:")]
    problems = [f"git fsck: {line}" for line in said] if checked.returncode or said else []
    ours = common / "moderator"
    locks = [path for path in common.rglob("*.lock") if not path.is_relative_to(ours)]
    problems += [f"a lock file is left: {path.relative_to(common)}" for path in locks]
    known = {path.name for path in (common / "worktrees").iterdir()} if (common / "worktrees").is_dir() else set()
    for name in sorted(known):
        pointer = common / "worktrees" / name / "gitdir"
        if not pointer.is_file() or not Path(os.fsdecode(pointer.read_bytes()).strip()).exists():
            problems.append(f"the entry {name} has no tree")
    return problems


def processes_of_runs(folder: Path) -> dict[int, str]:
    """Return the processes that were started for a task of a run in this folder and still run."""
    found = {}
    mark = b"MODERATOR_RUN="
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            environment = Path("/proc", pid, "environ").read_bytes()
            if mark in environment and os.fsencode(folder) in environment:
                found[int(pid)] = os.fsdecode(Path("/proc", pid, "cmdline").read_bytes().replace(b"\0", b" "))[:200]
        except OSError:
            continue
    return found


def wait_for_tidying(folder: Path, seconds: float = 60.0) -> None:
    """Wait until nobody deletes at leisure what commands in this folder have put aside: files would go while they are looked at."""
    deadline = time.monotonic() + seconds
    while any(_tidies(Path("/proc", pid), folder) for pid in filter(str.isdigit, os.listdir("/proc"))):
        if time.monotonic() > deadline:
            raise AssertionError(f"what was put aside is not deleted after {seconds:g} seconds")
        time.sleep(0.05)


def _tidies(process: Path, folder: Path) -> bool:
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"tidy" in words and any(word.startswith(os.fsencode(f"{folder}/")) for word in words)


def in_parallel(jobs: int, work: Callable[..., Row], calls: Iterable[tuple[object, ...]]) -> Iterator[Row]:
    """Call `work` with each of these arguments, in processes of their own; yield the rows as they come."""
    calls = list(calls)
    if jobs <= 1 or len(calls) <= 1:
        yield from (work(*arguments) for arguments in calls)
        return
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from multiprocessing import get_context

    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        for future in as_completed([pool.submit(work, *arguments) for arguments in calls]):
            yield future.result()
