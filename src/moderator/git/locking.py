"""A person's word that a worktree stays: the `locked` file of its entry, as `git worktree lock` writes it.

Entries of ours are locked for life with a text of our own (see `worktrees`); a person's text in its place is what keeps
every removal away.  No lease is asked for: a lock may be set while a task works in the worktree.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from moderator.errors import EnvironmentProblem, PersonNeeded, UsageError, to_type
from moderator.git.contents import printable
from moderator.git.entries import OUR_LOCK, entry_dir, names, person_lock
from moderator.git.registry import Record
from moderator.git.repository import Repository


def lock(repository: Repository, record: Record, reason: str) -> str:
    """Lock the record's worktree for a person; return the reason as it was written: one line, never one of ours.

    Raises PersonNeeded if it is locked by a person already or its entry is damaged, UsageError if it has no worktree.
    """
    entry = _entry_of(repository, record)
    if given := person_lock(repository, record):
        raise PersonNeeded(
            f"the worktree of task {record.task_id!r} is locked already: {printable(given)}",
            hint=f"if the reason is gone: {to_type('moderator', 'unlock', record.task_id)}",
        )
    text = _one_line(reason) or "no reason given"
    if text.startswith(OUR_LOCK):
        text = f"by a person: {text}"
    _write(record, entry, text)
    return text


def unlock(repository: Repository, record: Record) -> str | None:
    """Put our own lock in the place of a person's, or of none; return the person's reason, None if nobody had locked it.

    Raises as `lock` does.
    """
    entry = _entry_of(repository, record)
    reason = person_lock(repository, record)
    if reason is not None or not os.path.lexists(os.path.join(entry, "locked")):
        _write(record, entry, OUR_LOCK + ascii(record.task_id))
    return reason


def lock_for_us(repository: Repository, record: Record) -> None:
    """Put our own lock where nobody has put one.  Raises PersonNeeded if a person has."""
    entry = entry_dir(repository, record)
    aside = aside_for_us(entry, record)
    try:
        aside.write_bytes(os.fsencode(OUR_LOCK + ascii(record.task_id)) + b"\n")
        try:
            os.link(aside, os.path.join(entry, "locked"))  # never over one that a person types in this moment
        except FileExistsError:
            if reason := person_lock(repository, record):
                raise PersonNeeded(
                    f"the worktree of task {record.task_id!r} has just been locked: {printable(reason)}",
                    hint=f"if the reason is gone: {to_type('git', 'worktree', 'unlock', record.path)}",
                ) from None
        finally:
            aside.unlink()
    except OSError as error:
        raise _not_written(record, error) from error


def aside_for_us(entry: str, record: Record) -> Path:
    """Return where our own lock is written before it is put in place: what a dead process left there is written over."""
    return Path(entry, f".locked.{record.token[:8]}")


def _entry_of(repository: Repository, record: Record) -> str:
    if not record.path:
        raise UsageError(
            f"task {record.task_id!r} has no worktree of its own at level {record.level.value}, so there is nothing to lock",
            hint="its commits are safe on their branch",
        )
    entry = entry_dir(repository, record)
    if not names(entry, record.path):
        raise _damaged(record)
    return entry


def _damaged(record: Record) -> PersonNeeded:
    return PersonNeeded(
        f"git's entry of the worktree of task {record.task_id!r} is not there, or is not as moderator made it",
        hint="moderator doctor",
    )


def _write(record: Record, entry: str, text: str) -> None:
    aside = Path(entry, f".locked.{secrets.token_hex(4)}")
    try:
        try:
            with aside.open("xb") as file:
                file.write(os.fsencode(text) + b"\n")
                file.flush()
                os.fsync(file.fileno())  # a power cut must not turn one kind of lock into the other
            os.replace(aside, os.path.join(entry, "locked"))
        except BaseException:
            with contextlib.suppress(OSError):
                aside.unlink()
            raise
    except FileNotFoundError as error:  # removed meanwhile
        raise _damaged(record) from error
    except OSError as error:
        raise _not_written(record, error) from error


def _not_written(record: Record, error: OSError) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"the lock of the worktree of task {record.task_id!r} could not be written",
        hint="check permissions and space in the repository's git directory",
        cause=str(error),
    )


def _one_line(reason: str) -> str:
    """Without control characters: the text is shown on terminals, and git reads the file as one line."""
    return " ".join("".join(" " if sign < " " or "\x7f" <= sign < "\xa0" else sign for sign in reason).split())
