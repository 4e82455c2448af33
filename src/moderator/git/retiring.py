"""Retire a worktree whole, and only if nothing would be lost.

The tree is looked at, renamed away, looked at once more where nobody works in it any longer, and only then deleted.  `--force`,
`worktree prune` and `gc` are never used.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator

from moderator.errors import PersonNeeded, WouldLoseWork, to_type
from moderator.git.contents import CHANGED, IGNORED, Worktree, printable, what_would_be_lost
from moderator.git.entries import entry_dir, is_missing, names, person_lock, points_at, require_home, worktree_of
from moderator.git.registry import Record
from moderator.git.repository import Repository
from moderator.git.trash import delete, into_trash, retire_entry, retired_of, trash_of


def finish_retiring(repository: Repository, record: Record) -> None:
    """Delete what `retire` found to hold nothing of its own and did not come to delete."""
    retired, trash = retired_of(repository, record), trash_of(record)
    if os.path.isdir(retired):  # so both looks had been taken
        delete(trash)
        delete(retired)
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(trash))


def undo_retiring(record: Record) -> None:
    """Put the tree back where it was, if `retire` had renamed it away and nothing has taken its place."""
    trash = trash_of(record)
    if os.path.isdir(trash) and is_missing(record):
        os.rename(trash, record.path)  # also onto an empty directory
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(trash))


def retire(repository: Repository, record: Record) -> None:
    """Remove the record's worktree if nothing would be lost; the branch stays.

    The tree is renamed away, looked at once more where nobody works in it any longer, and only then deleted.  Raises
    WouldLoseWork with everything that would be lost, PersonNeeded if the worktree is not as we made it or is locked.
    """
    entry = entry_dir(repository, record)
    check_retirement(repository, record)
    held_by = _held_by(repository, record)
    trash = into_trash(record)
    try:
        findings = what_would_be_lost(repository, Worktree(trash, entry), held_by)
        busy = list(_processes_in(trash))
        if busy:
            findings.append(f"processes that work in it: {', '.join(map(str, busy))}")
        _refuse_loss(record, findings)
        if person_lock(repository, record):
            _refuse_unless_ours(repository, record, entry)
        retire_entry(repository, record, entry)
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
        _refuse_loss(record, [finding for finding in findings if not finding.startswith(CHANGED)])
    retire_entry(repository, record, entry)
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
    if not points_at(record.path, entry) or not names(entry, record.path):
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
