"""Publish a worktree whole.

`git worktree add` is safe neither against itself nor against readers: two of them at one path delete each other's files, and a
kill at the wrong moment leaves an entry with which nobody can fetch.  So the administrative directory is written aside and
renamed in: readers see all of it or nothing, no lock is held, and it costs the same however many worktrees exist.
The files of an entry are those of gitrepository-layout(5); entries stay `locked` for life, because `worktree prune`, `gc`
and an unmounted disk take unlocked ones away.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from moderator.errors import EnvironmentProblem, GitFailed, IsolationError, WorkspaceOccupied, to_type
from moderator.git import filters, leases, sparse
from moderator.git.branches import create_branch, untouched_since_made
from moderator.git.contents import Worktree, printable
from moderator.git.entries import (
    ASIDE,
    OUR_LOCK,
    RESTORING,
    UNFILTERED,
    entry_dir,
    files_of_entry,
    half_written,
    is_of_another,
    names,
    pointer_to,
    points_at,
    staging_of,
    worktree_of,
)
from moderator.git.halfmade import theirs_in
from moderator.git.registry import Record
from moderator.git.repository import Repository
from moderator.git.trash import (
    delete,
    into_trash,
    rename_into,
    retire_entry,
    retired_of,
    trash_of,
)
from moderator.git.unsaved import settle
from moderator.naming import task_directory_name
from moderator.opening import content

_PATIENCE = 60.0  # seconds to wait for the repository lock, which the fallback and repairs hold briefly
_cores = os.cpu_count() or 1
_WORTH_HELP = "5000"  # files: below, the helpers of a checkout cost more than they give
_checkouts = threading.BoundedSemaphore(_cores)  # more at once than cores only makes each of them slower
_checking_out = _awaited = 0
_GIVING_WAY = 0.02  # seconds between looks whether others still check out
_counter = threading.Lock()


def check_place(repository: Repository, task_id: str, path: str, *, anywhere: bool = False) -> None:
    """Raise unless `path` is where this task's worktree may be made: its own name, nothing foreign there, no redirection.

    `anywhere` is for one that comes back to where a person had made it, under whatever name.
    """
    parent, name = os.path.split(path)
    if not anywhere and (name != task_directory_name(task_id) or os.path.basename(parent) != "tasks"):
        raise IsolationError(
            f"{printable(path)!r} is not the working directory of task {task_id!r}",
            hint="make contexts with ExecutionContext.create_isolated_context",
        )
    for link in (path, parent):
        if os.path.islink(link):
            raise WorkspaceOccupied(
                f"{printable(link)!r} is a symbolic link, so the workspace of task {task_id!r} would be elsewhere",
                hint=f"look where it leads, then remove the link: {to_type('rm', link)}",
            )
    real = os.path.realpath(path)
    if "\n" in real:
        raise IsolationError(
            f"{printable(path)!r} holds a line break, and git keeps the paths of worktrees a line each",
            hint="choose a working directory without one",
        )
    if os.path.commonpath([real, repository.common]) == repository.common:
        raise IsolationError(
            f"{printable(path)!r} lies inside the repository's own git directory",
            hint="choose a working directory outside it",
        )
    try:
        present = os.listdir(path)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise WorkspaceOccupied(
            f"{printable(path)!r} is a file, where task {task_id!r} needs a directory", hint="move it away"
        ) from None
    if present:
        raise WorkspaceOccupied(
            f"{printable(path)!r} already holds files that are not task {task_id!r}'s: {printable(sorted(present)[0])}",
            hint="move them away, or choose another id",
        )


@dataclass(frozen=True)
class Start:
    """Where a worktree begins that brings something back: its branch at `tip`, its files those of `head`.

    `has_branch`: none is to be made, for it is there already and stands at `tip`, or was not there.  `head_ref` is the branch
    that HEAD was on.
    """

    tip: str
    head: str
    has_branch: bool = False
    head_ref: str = ""


def publish(
    repository: Repository,
    record: Record,
    lease: leases.Lease,
    start: Start | None = None,
    background: bool = False,
    directories: Sequence[str] = (),
    whole: bool = True,
    unfiltered: Sequence[str] = (),
) -> None:
    """Make the record's worktree: entry, `.git` file, branch, files.  The place was checked, the name is claimed.

    It begins at the record's base, or at `start`; then it is not whole until whoever brings something back says so (`finish`),
    and so it is with `whole=False`.  `background`: nobody waits for it, so it gives way to those that somebody does.
    `directories` are those of the tree that are checked out, with the files on the way to them; none: everything.
    `unfiltered` are the filters that are left out, so that files are as they are stored.
    Whatever goes wrong is raised; `discard` takes away what had been made.
    """
    repository.refuse_strange_refs()
    repository.refuse_mirror("the branches of tasks")
    if record.branch and not (start and start.has_branch):
        create_branch(repository, record, start.tip if start else None)
    _make_directory(record.path)
    if repository.takes_written_entries:
        _write_entry(repository, record)
    else:
        _add_by_git(repository, record, lease)
    commit, entry = start.head if start else record.base, Path(entry_dir(repository, record))
    if start or not whole:
        (entry / RESTORING).write_text(commit)
    settings = filters.left_out(unfiltered)
    if unfiltered:
        (entry / UNFILTERED).touch()
    if directories:
        (entry / "info").mkdir(exist_ok=True)
        (entry / "info" / "sparse-checkout").write_bytes(os.fsencode(sparse.patterns(directories)))
        settings |= sparse.SETTINGS
    _check_out(repository, record, lease, commit, background, settings)
    if not start:
        _refuse_twins(repository, record)
        settle(entry_dir(repository, record))


def _refuse_twins(repository: Repository, record: Record) -> None:
    """Raise EnvironmentProblem if two files are one on this disk: what is in it would pass for a change of the other."""
    if not os.path.lexists(os.path.join(record.path, ".GIT")):  # names that differ in letter case are two here
        return
    found = dict[str, str]()
    for line in worktree_of(repository, record).git("ls-files", "-v", "-z").fields:
        path = line[2:]
        if line[0] != "S" and (other := found.setdefault(path.casefold(), path)) != path:
            raise EnvironmentProblem(
                f"{printable(other)!r} and {printable(path)!r} of {record.base[:12]} are one file on this disk, "
                "which ignores letter case",
                hint="choose a root for workspaces on another disk (root: in moderator.yaml), or check out directories "
                "without one of the two (sparse: in the task)",
            )


def finish(repository: Repository, record: Record) -> None:
    """Say that a worktree is whole that was not yet.  Raises OSError."""
    os.unlink(os.path.join(entry_dir(repository, record), RESTORING))


def enter(repository: Repository, record: Record, index: bytes, written_at: int) -> Worktree:
    """Make the entry of a detached worktree whose tree is whole and elsewhere yet; `index` is what git knew of its files.

    `written_at` is when that was written, in nanoseconds: git takes files that are no older for unknown.  Return the entry as
    the worktree's, to be asked about its tree.
    """
    staging, entry = staging_of(repository, record), entry_dir(repository, record)
    try:
        os.makedirs(os.path.join(staging, "refs"))
        for name, text in files_of_entry(repository, record, record.base):
            Path(staging, name).write_bytes(os.fsencode(text) + b"\n")
        Path(staging, "index").write_bytes(index)
        os.utime(os.path.join(staging, "index"), ns=(written_at, written_at))
        rename_into(staging, entry)
    except OSError as error:
        shutil.rmtree(staging, ignore_errors=True)
        raise _not_entered(record, error) from error
    return worktree_of(repository, record)


def point_at(repository: Repository, tree: str, entry: str) -> None:
    """Let a tree name an administrative directory as its own.  Raises OSError."""
    aside = Path(tree, ASIDE)
    aside.write_bytes(pointer_to(repository, tree, entry))
    os.replace(aside, Path(tree, ".git"))


def discard(repository: Repository, record: Record, crashed: bool = False) -> list[str]:
    """Take away what `publish` began and did not finish: the task never ran in it.  Return the files that had to stay.

    Files that git did not put there are somebody's: then the tree stays in the trash.  After a crash, which may be long ago,
    so does one with files that git put there and that are not as in the commit: somebody may have worked on them.  The branch
    goes only if this record's attempt created it and it has not moved.
    """
    # A level without a worktree has none to take away.
    theirs = _discard_tree(repository, record, crashed) if record.path else []
    if record.branch and (tip := untouched_since_made(repository, record)):
        repository.git("update-ref", "-d", record.ref, tip, repeatable=True)
    return theirs


def _discard_tree(repository: Repository, record: Record, crashed: bool) -> list[str]:
    entry = entry_dir(repository, record)
    entries = [entry, *_entries_by_git(repository, record)]
    trash, pointer = trash_of(record), Path(record.path, ".git")
    if os.path.lexists(pointer):
        if any(points_at(record.path, each) or names(each, record.path) for each in entries):
            into_trash(record)
        elif half_written(pointer, entry):
            pointer.unlink()
    theirs: list[str] = []
    commit = _checked_out(entry) or record.base
    if os.path.isdir(trash):
        theirs = theirs_in(repository, entry, trash, commit, crashed)
        if not theirs:
            delete(trash)
    for folder in (record.path, os.path.dirname(trash)):
        with contextlib.suppress(OSError):  # only if it is there and empty
            os.rmdir(folder)
    for each in entries:
        # That of a spare that was to be this worktree, and is a spare still, stays.
        if os.path.isdir(each) and not is_of_another(each, record.path):
            retire_entry(repository, record, each)
            if not theirs:
                delete(retired_of(repository, record))
    delete(staging_of(repository, record))
    if not theirs:  # whose files stay, his index and logs stay beside them
        delete(retired_of(repository, record))
    return theirs


def _checked_out(entry: str) -> str | None:
    """Return the commit whose files a worktree that brings something back began with, None if it does not."""
    try:
        return content(os.path.join(entry, RESTORING)).decode("ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def _make_directory(path: str) -> None:
    try:
        for attempt in range(10):
            try:
                os.makedirs(path, exist_ok=True)
                break
            except FileNotFoundError:  # somebody has just taken the folder away, for it was empty
                if attempt == 9:
                    raise
    except OSError as error:
        raise EnvironmentProblem(
            f"the directory {printable(path)!r} cannot be made",
            hint="check permissions and space, or choose another root for workspaces (root: in moderator.yaml)",
            cause=str(error),
        ) from error


def _write_entry(repository: Repository, record: Record) -> None:
    staging, entry = staging_of(repository, record), entry_dir(repository, record)
    head = f"ref: refs/heads/{record.branch}" if record.branch else record.base
    try:
        os.makedirs(os.path.join(staging, "refs"))
        for name, text in files_of_entry(repository, record, head):
            Path(staging, name).write_bytes(os.fsencode(text) + b"\n")
        # First the file in the tree, by a link that fails if there is one: two can not both have the directory.
        pointer = Path(staging, "pointer")
        pointer.write_bytes(pointer_to(repository, record.path, entry))
        _link_or_copy(pointer, Path(record.path, ".git"), record)
        pointer.unlink()
        rename_into(staging, entry)
    except OSError as error:
        shutil.rmtree(staging, ignore_errors=True)
        raise _not_entered(record, error) from error


def _not_entered(record: Record, error: OSError) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"the worktree of task {record.task_id!r} could not be entered in the repository",
        hint="check permissions and space",
        cause=str(error),
    )


def _link_or_copy(source: Path, target: Path, record: Record) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        raise WorkspaceOccupied(
            f"{printable(record.path)!r} has become somebody else's worktree", hint="choose another id"
        ) from None
    except OSError:  # another file system, or one without hard links
        with target.open("xb") as file:
            file.write(source.read_bytes())


def _add_by_git(repository: Repository, record: Record, lease: leases.Lease) -> None:
    """The way for repositories that a hand-written entry cannot serve.  One at a time, for git's own is not safe."""
    has_branch = record.branch and repository.commit_of(record.ref)
    where = ("--", record.path, str(record.branch)) if has_branch else ("--detach", "--", record.path, record.base)
    with leases.held(repository.ours / "repository.lock", "the repository", _PATIENCE) as alone:
        repository.git(
            "worktree", "add", "--no-checkout", "--lock", "--reason", _reason_by_git(record), *where,
            descriptors=(lease.descriptor, alone.descriptor),
        )  # fmt: skip
        pointer, target = Path(record.path, ".git"), entry_dir(repository, record)
        try:
            made = os.fsdecode(content(pointer)).strip().removeprefix("gitdir: ")
            # Renamed to the id in our record, so that the record stays true; the pointer is replaced whole.
            os.rename(os.path.realpath(os.path.join(record.path, made)), target)
            point_at(
                replace(repository), record.path, target
            )  # as it is configured by now: git may have noted something
        except OSError as error:
            raise _not_entered(record, error) from error


def _reason_by_git(record: Record) -> str:
    # Names the entry, for git calls the directory by another name until we have renamed it.
    return f"{OUR_LOCK}{record.task_id!a} ({record.entry})"


def _entries_by_git(repository: Repository, record: Record) -> list[str]:
    """Return the entries that `git worktree add` made for this record and that have not got its name yet."""
    if repository.takes_written_entries:
        return []
    worktrees, reason = Path(repository.common, "worktrees"), _reason_by_git(record).encode()
    return [str(locked.parent) for locked in worktrees.glob("*/locked") if content(locked).strip() == reason]


def idle(cores: int, running: int) -> int:
    """Return how many cores a checkout can use where so many processes, the one that asks apart, run or wait for a core."""
    return max(1, cores - max(0, running))


def _help() -> dict[str, str]:
    """Return the settings of a checkout that is the only one of this process: as many at it as cores have nothing to do."""
    try:  # of this very moment, proc(5); the load is the average of a minute
        running = int(Path("/proc/loadavg").read_text("ascii").split()[3].partition("/")[0]) - 1
    except (OSError, ValueError, IndexError):
        running = round(os.getloadavg()[0]) if hasattr(os, "getloadavg") else 0
    return {"checkout.workers": str(idle(_cores, running)), "checkout.thresholdForParallelism": _WORTH_HELP}


def _check_out(
    repository: Repository,
    record: Record,
    lease: leases.Lease,
    commit: str,
    background: bool,
    settings: Mapping[str, str],
) -> None:
    global _checking_out, _awaited
    with _counter:
        _awaited += not background
    while background and _awaited:
        time.sleep(_GIVING_WAY)
    with _checkouts:
        with _counter:
            _checking_out += 1
            alone = _checking_out == 1
        try:
            worktree_of(repository, record).git(
                "read-tree", "-m", "-u", commit,
                settings={**(_help() if alone and not background else {}), **settings},
                descriptors=(lease.descriptor,),
                background=background,
            )  # fmt: skip
        except GitFailed as failure:
            raise filters.failed(failure.cause, record.path, repository.settings) or failure from failure
        finally:
            with _counter:
                _checking_out -= 1
                _awaited -= not background
