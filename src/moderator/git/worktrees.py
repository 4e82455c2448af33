"""Publish a worktree whole, and retire it whole.

`git worktree add` is safe neither against itself nor against readers: two of them at one path delete each other's files, and a
kill at the wrong moment leaves an entry with which nobody can fetch.  So the administrative directory is written aside and
renamed in: readers see all of it or nothing, no lock is held, and it costs the same however many worktrees exist.
The files of an entry are those of gitrepository-layout(5); entries stay `locked` for life, because `worktree prune`, `gc`
and an unmounted disk take unlocked ones away.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from moderator.errors import (
    EnvironmentProblem,
    GitFailed,
    IsolationError,
    PersonNeeded,
    WorkspaceOccupied,
    WouldLoseWork,
    to_type,
)
from moderator.git import leases
from moderator.git.contents import IGNORED, Worktree, printable, what_would_be_lost
from moderator.git.registry import Record
from moderator.git.repository import Repository
from moderator.naming import task_directory_name

OUR_LOCK = "moderator: "
"""How the reason in a `locked` file begins when it is ours; any other text is a person's."""
_TRASH = ".trash"
_ASIDE = ".git.new"  # the next `.git` file, until it is renamed into place
_PATIENCE = 60.0  # seconds to wait for the repository lock, which the fallback and repairs hold briefly

_ORDINARY_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*(/[A-Za-z0-9_][A-Za-z0-9_-]*)*")
"""Names of branches that need not be shown to git: none of git-check-ref-format(1)'s rules can touch them."""
_cores = os.cpu_count() or 1
_WITH_HELP = {"checkout.workers": str(_cores), "checkout.thresholdForParallelism": "5000"}
"""For a checkout that has the machine to itself; below some thousand files the helpers cost more than they give."""
_checkouts = threading.BoundedSemaphore(_cores)  # more at once than cores only makes each of them slower
_checking_out = 0
_counter = threading.Lock()


def entry_dir(repository: Repository, record: Record) -> str:
    """Return the administrative directory of a record's worktree."""
    return os.path.join(repository.common, "worktrees", record.entry)


def worktree_of(repository: Repository, record: Record, descriptors: tuple[int, ...] = ()) -> Worktree:
    """Return the record's worktree; git commands in it keep the descriptors (of its lease) open."""
    return Worktree(record.path, entry_dir(repository, record), descriptors)


def new_entry_id(task_slug: str) -> str:
    """Return an id for an administrative directory that was never used before."""
    return f"{task_slug[:40].rstrip('.-')}-{secrets.token_hex(4)}"


def check_place(repository: Repository, task_id: str, path: str) -> None:
    """Raise unless `path` is where this task's worktree may be made: its own name, nothing foreign there, no redirection."""
    parent, name = os.path.split(path)
    if name != task_directory_name(task_id) or os.path.basename(parent) != "tasks":
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


def create_branch(repository: Repository, record: Record) -> None:
    """Create the record's branch at its base.  Raises WorkspaceOccupied if there is one of that name."""
    _check_branch_name(repository, record)
    try:
        repository.git(
            "update-ref", "--stdin", "--create-reflog", "-m", _reflog_message(record),
            stdin=f"create {record.ref} {record.base}\n".encode("utf-8", "surrogateescape"), repeatable=True,
        )  # fmt: skip
    except GitFailed as failure:
        if repository.commit_of(record.ref):
            raise branch_exists(record.task_id, str(record.branch)) from failure
        raise WorkspaceOccupied(
            f"the branch {record.branch!r} of task {record.task_id!r} cannot be created",
            hint="a branch whose name begins with this one, or is its beginning, is in the way: rename it or the base",
            cause=failure.cause,
        ) from failure


def branch_exists(task_id: str, branch: str) -> WorkspaceOccupied:
    """Return what is said about a branch that an earlier run, or a person, left."""
    return WorkspaceOccupied(
        f"the branch {branch!r} of task {task_id!r} exists already",
        hint=f"keep it under another name ({to_type('git', 'branch', '-m', branch, 'NEW')}), "
        f"delete it if it is merged ({to_type('git', 'branch', '-d', branch)}), "
        "or give the task another id",
    )


def _check_branch_name(repository: Repository, record: Record) -> None:
    if _ORDINARY_NAME.fullmatch(str(record.branch)) and record.branch != "HEAD":
        return
    answer = repository.git("check-ref-format", "--branch", str(record.branch), accept=(0, 1, 128, 129))
    if answer.code or answer.text != record.branch:
        raise IsolationError(
            f"git does not accept {record.branch!r} as the name of a branch",
            hint="use a base branch with an ordinary name",
            cause=answer.err.strip(),
        )


def _reflog_message(record: Record) -> str:
    return f"moderator: {record.token} workspace made"


def branch_is_ours(repository: Repository, record: Record) -> bool:
    """Whether the record's branch was created by the attempt that wrote the record."""
    answer = repository.git("log", "--walk-reflogs", "--format=%gs", record.ref, "--", accept=(0, 128))
    return answer.code == 0 and _reflog_message(record) in answer.text.split("\n")


def publish(repository: Repository, record: Record, lease: leases.Lease) -> None:
    """Make the record's worktree: entry, `.git` file, branch, files.  The place was checked, the name is claimed.

    Whatever goes wrong is raised; `discard` takes away what had been made.
    """
    if remote := repository.mirrored_by:
        raise EnvironmentProblem(
            f"the next fetch from {remote!r} would delete the branches of tasks: it mirrors every ref",
            hint=f"git config remote.{remote}.fetch '+refs/heads/*:refs/remotes/{remote}/*'",
        )
    if record.branch:
        create_branch(repository, record)
    _make_directory(record.path)
    if repository.takes_written_entries:
        _write_entry(repository, record)
    else:
        _add_by_git(repository, record, lease)
    _check_out(repository, record, lease)


def discard(repository: Repository, record: Record) -> None:
    """Take away what `publish` began and did not finish: the task never ran in it.

    Files that git did not put there are somebody's: then the tree stays in the trash.  The branch goes only if this
    record's attempt created it and it has not moved.  What an earlier, interrupted call left is taken away too.
    """
    if record.path:  # a level without a worktree has none to take away
        _discard_tree(repository, record)
    if record.branch and repository.commit_of(record.ref) == record.base and branch_is_ours(repository, record):
        repository.git("update-ref", "-d", record.ref, record.base, repeatable=True)


def _discard_tree(repository: Repository, record: Record) -> None:
    entry = entry_dir(repository, record)
    entries = [entry, *_entries_by_git(repository, record)]
    trash, pointer = _trash_of(record), Path(record.path, ".git")
    if os.path.lexists(pointer):
        if any(_points_at(record.path, each) or _names(each, record.path) for each in entries):
            _into_trash(record)
        elif _half_written(pointer, entry):
            pointer.unlink()
    if os.path.isdir(trash) and not _foreign_files(repository, trash, record.base):
        _delete(trash)
    for folder in (record.path, os.path.dirname(trash)):
        with contextlib.suppress(OSError):  # only if it is there and empty
            os.rmdir(folder)
    for each in entries:
        if os.path.isdir(each):
            _retire_entry(repository, record, each)
            _delete(_retired(repository, record))
    for leftover in (_retired(repository, record), _staging(repository, record)):
        _delete(leftover)


def finish_retiring(repository: Repository, record: Record) -> None:
    """Delete what `retire` found to hold nothing of its own and did not come to delete."""
    retired, trash = _retired(repository, record), _trash_of(record)
    if os.path.isdir(retired):  # so both looks had been taken
        _delete(trash)
        _delete(retired)
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(trash))


def undo_retiring(record: Record) -> None:
    """Put the tree back where it was, if `retire` had renamed it away and nothing has taken its place."""
    trash = _trash_of(record)
    if os.path.isdir(trash) and is_missing(record):
        os.rename(trash, record.path)  # also onto an empty directory
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(trash))


def is_missing(record: Record) -> bool:
    """Whether somebody deleted the tree; making the task's context again leaves an empty directory in its place."""
    try:
        return not os.path.islink(record.path) and not os.listdir(record.path)
    except FileNotFoundError:
        return True
    except OSError:
        return False


def require_home(record: Record) -> None:
    """Raise PersonNeeded if not only the tree but the folder of all workspaces is gone: a disk that is not mounted, say."""
    home = os.path.dirname(record.path)
    if not os.path.isdir(home):
        raise PersonNeeded(
            f"the folder of workspaces {printable(home)!r} is not there, so nobody can tell what task {record.task_id!r} left",
            hint="mount it or move it back; if it is really gone, make it again empty: " + to_type("mkdir", "-p", home),
        )


def is_whole(repository: Repository, record: Record, has_branch: bool | None = None) -> bool:
    """Whether everything `publish` makes is there: the index comes last, when every file is checked out.

    `has_branch` says whether its branch is, for callers who know; None asks git.
    """
    entry = entry_dir(repository, record)
    if not os.path.isfile(os.path.join(entry, "index")) or not _points_at(record.path, entry):
        return False
    return record.branch is None or (repository.commit_of(record.ref) is not None if has_branch is None else has_branch)


def person_lock(repository: Repository, record: Record) -> str | None:
    """Return the reason a person gave for locking the worktree, None if nobody did."""
    try:
        reason = Path(entry_dir(repository, record), "locked").read_bytes().decode("utf-8", "replace").strip()
    except OSError:
        return None
    return None if reason.startswith(OUR_LOCK) else reason or "no reason given"


def retire(repository: Repository, record: Record) -> None:
    """Remove the record's worktree if nothing would be lost; the branch stays.

    The tree is renamed away, looked at once more where nobody works in it any longer, and only then deleted.  Raises
    WouldLoseWork with everything that would be lost, PersonNeeded if the worktree is not as we made it or is locked.
    """
    entry = entry_dir(repository, record)
    check_retirement(repository, record)
    held_by = _held_by(repository, record)
    trash = _into_trash(record)
    try:
        findings = what_would_be_lost(repository, Worktree(trash, entry), held_by)
        busy = list(_processes_in(trash))
        if busy:
            findings.append(f"processes that work in it: {', '.join(map(str, busy))}")
        _refuse_loss(record, findings)
        if person_lock(repository, record):
            _refuse_unless_ours(repository, record, entry)
        _retire_entry(repository, record, entry)
    except BaseException:
        undo_retiring(record)
        raise
    finish_retiring(repository, record)


def check_retirement(repository: Repository, record: Record) -> None:
    """Raise if the worktree may not be removed: not ours, locked, worked in, or holding what is in no commit."""
    _refuse_unless_ours(repository, record, entry_dir(repository, record))
    worktree = worktree_of(repository, record)
    _refuse_loss(record, what_would_be_lost(repository, worktree, _held_by(repository, record)))


def _held_by(repository: Repository, record: Record) -> str | None:
    return record.ref if repository.commit_of(record.ref) else None


def retire_missing(repository: Repository, record: Record) -> None:
    """Remove the entry of a worktree whose directory somebody deleted, if nothing only the entry knows would be lost."""
    require_home(record)
    entry = entry_dir(repository, record)
    if not os.path.isdir(entry):
        return
    if reason := person_lock(repository, record):
        raise _locked_by_person(record, reason)
    with tempfile.TemporaryDirectory(prefix="moderator-") as folder:
        # With no tree to look at, every file counts as deleted; what matters is staged content and commits.
        findings = what_would_be_lost(repository, Worktree(folder, entry), record.ref)
        _refuse_loss(record, [finding for finding in findings if not finding.startswith("changed, not committed")])
    _retire_entry(repository, record, entry)
    finish_retiring(repository, record)
    with contextlib.suppress(OSError):
        os.rmdir(record.path)


def _refuse_loss(record: Record, findings: list[str]) -> None:
    if not findings:
        return
    hint = "commit or move what you want, delete what you do not, and try again"
    if all(finding.startswith(IGNORED) for finding in findings):
        hint = f"if these can be made again, delete them: {to_type('git', '-C', record.path, 'clean', '-fdX')}"
    raise WouldLoseWork(
        f"removing the workspace of task {record.task_id!r} would lose work in {printable(record.path)!r}",
        findings,
        hint=hint,
    )


def _refuse_unless_ours(repository: Repository, record: Record, entry: str) -> None:
    shown = printable(record.path)
    if reason := person_lock(repository, record):
        raise _locked_by_person(record, reason)
    if os.path.islink(record.path) or os.path.islink(os.path.dirname(record.path)):
        raise PersonNeeded(f"{shown!r} has become a symbolic link", hint="look where it leads; nothing was removed")
    if os.path.realpath(record.path) == repository.main_top:
        raise PersonNeeded(f"{shown!r} is the main worktree", hint="nothing was removed")
    if not _points_at(record.path, entry) or not _names(entry, record.path):
        raise PersonNeeded(
            f"{shown!r} and its entry in the repository do not point at each other, so it may be somebody else's",
            hint=f"look at {shown}/.git; git worktree repair mends a moved worktree",
        )
    if busy := list(_processes_in(record.path)):
        raise WouldLoseWork(
            f"processes work in the workspace of task {record.task_id!r}: {', '.join(map(str, busy))}",
            [f"process {pid} works in it" for pid in busy],
            hint="end them, or leave the directory in that shell, and try again",
        )


def _locked_by_person(record: Record, reason: str) -> PersonNeeded:
    return PersonNeeded(
        f"the worktree of task {record.task_id!r} is locked: {printable(reason)}",
        hint=f"if the reason is gone: {to_type('git', 'worktree', 'unlock', record.path)}",
    )


def _make_directory(path: str) -> None:
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise EnvironmentProblem(
            f"the directory {printable(path)!r} cannot be made",
            hint="check permissions and space, or choose another root for workspaces (root: in moderator.yaml)",
            cause=str(error),
        ) from error


def _write_entry(repository: Repository, record: Record) -> None:
    worktrees = os.path.join(repository.common, "worktrees")
    staging = _staging(repository, record)
    head = f"ref: refs/heads/{record.branch}" if record.branch else record.base
    try:
        os.makedirs(os.path.join(staging, "refs"))
        for name, text in (
            ("HEAD", head),
            ("commondir", "../.."),
            ("gitdir", os.path.join(os.path.realpath(record.path), ".git")),
            ("locked", OUR_LOCK + ascii(record.task_id)),
        ):
            Path(staging, name).write_bytes(os.fsencode(text) + b"\n")
        # First the file in the tree, by a link that fails if there is one: two can not both have the directory.
        pointer = Path(staging, "pointer")
        pointer.write_bytes(os.fsencode(f"gitdir: {worktrees}/{record.entry}\n"))
        _link_or_copy(pointer, Path(record.path, ".git"), record)
        pointer.unlink()
        _rename_into(staging, os.path.join(worktrees, record.entry))
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
    where = ("--", record.path, record.branch) if record.branch else ("--detach", "--", record.path, record.base)
    with leases.held(repository.ours / "repository.lock", "the repository", _PATIENCE) as alone:
        repository.git(
            "worktree", "add", "--no-checkout", "--lock", "--reason", _reason_by_git(record), *where,
            descriptors=(lease.descriptor, alone.descriptor),
        )  # fmt: skip
        pointer, aside, target = Path(record.path, ".git"), Path(record.path, _ASIDE), entry_dir(repository, record)
        try:
            made = os.fsdecode(pointer.read_bytes()).strip().removeprefix("gitdir: ")
            # Renamed to the id in our record, so that the record stays true; the pointer is replaced whole.
            os.rename(os.path.realpath(os.path.join(record.path, made)), target)
            aside.write_bytes(os.fsencode(f"gitdir: {target}\n"))
            os.replace(aside, pointer)
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
    return [str(locked.parent) for locked in worktrees.glob("*/locked") if locked.read_bytes().strip() == reason]


def _check_out(repository: Repository, record: Record, lease: leases.Lease) -> None:
    global _checking_out
    with _checkouts:
        with _counter:
            _checking_out += 1
            alone = _checking_out == 1
        try:
            worktree_of(repository, record).git(
                "read-tree", "-m", "-u", record.base,
                settings=_WITH_HELP if alone else None, descriptors=(lease.descriptor,),
            )  # fmt: skip
        finally:
            with _counter:
                _checking_out -= 1


def _points_at(path: str, entry: str) -> bool:
    try:
        pointer = Path(path, ".git").read_bytes().strip()
    except OSError:
        return False
    named = os.fsdecode(pointer.removeprefix(b"gitdir: "))
    return pointer.startswith(b"gitdir: ") and os.path.realpath(os.path.join(path, named)) == os.path.realpath(entry)


def _names(entry: str, path: str) -> bool:
    """Whether an administrative directory is that of the tree at `path`."""
    try:
        named = os.fsdecode(Path(entry, "gitdir").read_bytes().removesuffix(b"\n"))
    except OSError:
        return False
    return os.path.realpath(os.path.join(entry, named)) == os.path.join(os.path.realpath(path), ".git")


def _half_written(pointer: Path, entry: str) -> bool:
    """Whether a `.git` file is one of ours that a full disk or a crash cut short."""
    try:
        return os.fsencode(f"gitdir: {entry}\n").startswith(pointer.read_bytes())
    except OSError:
        return False


def _trash_of(record: Record) -> str:
    return os.path.join(os.path.dirname(record.path), _TRASH, record.entry)


def _retired(repository: Repository, record: Record) -> str:
    return os.path.join(repository.ours, "trash", record.entry)


def _staging(repository: Repository, record: Record) -> str:
    return os.path.join(repository.ours, "staging", record.entry)


def _into_trash(record: Record) -> str:
    """Rename the tree to a place beside the workspaces: the same file system, so it is one step and can be undone."""
    trash = _trash_of(record)
    try:
        _rename_into(record.path, trash)
    except OSError as error:
        raise EnvironmentProblem(
            f"the directory {printable(record.path)!r} cannot be moved aside",
            hint="check permissions there; nothing was removed",
            cause=str(error),
        ) from error
    return trash


def _retire_entry(repository: Repository, record: Record, entry: str) -> None:
    _rename_into(entry, _retired(repository, record))


def _rename_into(source: str, target: str) -> None:
    """Rename to a place whose folder others take away while it is empty: `git worktree prune`, another removal."""
    for attempt in range(10):
        try:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.rename(source, target)
            return
        except (FileNotFoundError, FileExistsError):
            if attempt == 9 or not os.path.lexists(source) or os.path.lexists(target):
                raise


def _foreign_files(repository: Repository, tree: str, commit: str) -> list[str]:
    listed = set(repository.git("ls-tree", "-r", "-z", "--name-only", "--full-tree", commit).fields)
    return [
        path
        for where, _, names in os.walk(tree)
        for name in names
        if (path := os.path.relpath(os.path.join(where, name), tree)) not in listed and path not in (".git", _ASIDE)
    ]


def _delete(folder: str) -> None:
    """Delete what was proven to hold nothing of its own.  What cannot be deleted stays in the trash."""

    def writable_again(_function: object, path: str, _error: object) -> None:
        # Read-only directories refuse the deletion of their files.
        with contextlib.suppress(OSError):
            os.chmod(os.path.dirname(path), 0o700)
            if os.path.islink(path) or not os.path.isdir(path):
                os.unlink(path)
            else:
                os.chmod(path, 0o700)
                shutil.rmtree(path, ignore_errors=True)

    if os.path.lexists(folder):
        shutil.rmtree(folder, onerror=writable_again)


def _processes_in(path: str) -> Iterator[int]:
    """Yield the processes, other than this one, whose current directory is in `path`."""
    inside = os.path.realpath(path)
    if os.path.isdir("/proc/self"):
        found = ((int(pid), f"/proc/{pid}/cwd") for pid in os.listdir("/proc") if pid.isdigit())
        for pid, link in found:
            with contextlib.suppress(OSError):
                if _within(os.readlink(link), inside) and pid != os.getpid():
                    yield pid
        return
    import psutil  # only where there is no /proc

    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if _within(process.cwd(), inside) and process.pid != os.getpid():
                yield process.pid


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + os.sep)
