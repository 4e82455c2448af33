"""The record of runs, attempts and events: one SQLite file, for people to look things up in.

It exists so that `moderator` can say tomorrow what it did today, and it is nothing more: no workspace, branch
or rescue depends on it.  A lost record costs history, never work, and whoever writes it may go on without.
Must not know git, the configuration, how a task is run, or how a record is shown.

The file appears whole or not at all, processes and threads may write it at once, and one that is damaged,
newer or somebody else's is reported and left as it is.  The exceptions of sqlite3 end in `_mapped`.
"""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any

from moderator.errors import StoreProblem, UsageError
from moderator.models import Outcome, TaskResult, TaskStatus

PATIENCE = 30.0
"""Seconds to wait for other processes' writes, each of which takes about a millisecond."""

_MOST_FOUND = 3  # damages of one file that are told

_APPLICATION_ID = int.from_bytes(b"modr", "big")

_SCHEMA: tuple[tuple[str, ...], ...] = (
    (
        # `id` is the order of arrival: it settles what equal times leave open.
        """CREATE TABLE runs (
            id INTEGER PRIMARY KEY, run_id TEXT NOT NULL UNIQUE,
            started_at REAL NOT NULL, finished_at REAL, state TEXT NOT NULL,
            base_branch TEXT NOT NULL, base_commit TEXT NOT NULL, isolation_level TEXT NOT NULL,
            workers INTEGER NOT NULL, command_line TEXT NOT NULL,
            pid INTEGER NOT NULL, boot_id TEXT NOT NULL, host TEXT NOT NULL, process_started REAL NOT NULL
        )""",
        "CREATE INDEX runs_by_time ON runs (started_at)",
        # No foreign key: an attempt whose run could not be recorded is still worth knowing.
        """CREATE TABLE attempts (
            id INTEGER PRIMARY KEY, run_id TEXT NOT NULL, task_id TEXT NOT NULL, attempt INTEGER NOT NULL,
            description TEXT NOT NULL, started_at REAL NOT NULL, finished_at REAL, outcome TEXT,
            exit_code INTEGER, error_message TEXT, branch TEXT, base TEXT, "commit" TEXT, path TEXT, log TEXT,
            backend TEXT NOT NULL, duration_seconds REAL, notes TEXT NOT NULL,
            UNIQUE (run_id, task_id, attempt)
        )""",
        "CREATE INDEX attempts_by_task ON attempts (task_id, started_at)",
        """CREATE TABLE events (
            id INTEGER PRIMARY KEY, run_id TEXT NOT NULL,
            kind TEXT NOT NULL, at REAL NOT NULL, data TEXT NOT NULL
        )""",
    ),
    (
        "ALTER TABLE runs ADD COLUMN source TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE runs ADD COLUMN follows TEXT NOT NULL DEFAULT ''",
        "CREATE INDEX runs_by_source ON runs (source, started_at)",
    ),
    (
        "ALTER TABLE attempts ADD COLUMN backend_version TEXT",
        "ALTER TABLE attempts ADD COLUMN cost_usd REAL",
        "ALTER TABLE attempts ADD COLUMN tokens_in INTEGER",
        "ALTER TABLE attempts ADD COLUMN tokens_out INTEGER",
        "ALTER TABLE attempts ADD COLUMN reply TEXT NOT NULL DEFAULT ''",
    ),
    (
        "ALTER TABLE attempts ADD COLUMN held INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE attempts ADD COLUMN digest TEXT NOT NULL DEFAULT ''",
    ),
)
"""What leads from each version to the next, as statements: the first makes version 1 of an empty file."""

VARIANTS = "variants"
"""The event that says which tasks of a run are variants of one, in their order."""

_TABLES = frozenset({"runs", "attempts", "events"})


@dataclass(frozen=True)
class RunRecord:
    """One run.  Times are unix seconds; `state` is "running", "finished" or "interrupted".

    `pid`, `boot_id`, `host` and `process_started` tell whether a run that says "running" still is.  `source` is the file
    that listed its tasks, as an absolute path, "" where there was none; `follows` the run whose finished tasks it took
    for done, "" where it took none.
    `tasks`, `succeeded` and `failed` are counted on reading, each task by its last attempt in the run: one
    that still runs or was cancelled is neither a success nor a failure.
    """

    run_id: str
    started_at: float
    finished_at: float | None
    state: str
    base_branch: str
    base_commit: str
    isolation_level: str
    workers: int
    command_line: str
    pid: int
    boot_id: str
    host: str
    process_started: float
    source: str = ""
    follows: str = ""
    tasks: int = 0
    succeeded: int = 0
    failed: int = 0


@dataclass(frozen=True)
class AttemptRecord:
    """One execution of one task.  Times are unix seconds; `outcome` is an Outcome's value, None until it ended.

    `path` and `log` are as the operating system gave them, bytes that are no UTF-8 as lone surrogates.  The backend's version,
    what it says the attempt took and the last thing it said are as in a TaskResult.
    `held`: nothing ran, for somebody else had the task's workspace at that moment.  `digest` is that of the task as it was run,
    "" where unknown.
    """

    run_id: str
    task_id: str
    attempt: int
    description: str
    started_at: float
    finished_at: float | None
    outcome: str | None
    exit_code: int | None
    error_message: str | None
    branch: str | None
    base: str | None
    commit: str | None
    path: str | None
    log: str | None
    backend: str
    duration_seconds: float | None
    notes: tuple[str, ...]
    backend_version: str | None = None
    cost_usd: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    reply: str = ""
    held: bool = False
    digest: str = ""


_COUNTED = ("tasks", "succeeded", "failed")
_OF_THE_PROCESS = ("state", "pid", "boot_id", "host", "process_started")
_RUN_COLUMNS = [field.name for field in fields(RunRecord) if field.name not in _COUNTED]
_ATTEMPT_COLUMNS = [field.name for field in fields(AttemptRecord)]
_NOTES, _HELD = _ATTEMPT_COLUMNS.index("notes"), _ATTEMPT_COLUMNS.index("held")


def _names(columns: Sequence[str]) -> str:
    return ", ".join(f'"{column}"' for column in columns)  # in quotes, for "commit" is a word of SQL


def _insert(table: str, columns: Sequence[str]) -> str:
    places = ", ".join(f":{column}" for column in columns)
    return f"INSERT INTO {table} ({_names(columns)}) VALUES ({places})"  # noqa: S608 - our words, values are bound


_INSERT_RUN = _insert("runs", _RUN_COLUMNS)
_INSERT_ATTEMPT = _insert("attempts", _ATTEMPT_COLUMNS)
_OR_FINISH_ATTEMPT = """
    ON CONFLICT (run_id, task_id, attempt) DO UPDATE SET
        finished_at = excluded.finished_at, outcome = excluded.outcome, exit_code = excluded.exit_code,
        error_message = excluded.error_message, duration_seconds = excluded.duration_seconds,
        notes = excluded.notes, held = excluded.held, backend = coalesce(nullif(excluded.backend, ''), backend),
        branch = coalesce(excluded.branch, branch), base = coalesce(excluded.base, base),
        "commit" = coalesce(excluded."commit", "commit"), path = coalesce(excluded.path, path),
        log = coalesce(excluded.log, log), reply = excluded.reply,
        backend_version = excluded.backend_version, cost_usd = excluded.cost_usd,
        tokens_in = excluded.tokens_in, tokens_out = excluded.tokens_out"""
"""What the result does not know stays as the attempt began with it."""

_RUNNING = f"""
    SELECT run_id, {_names(_OF_THE_PROCESS)} FROM runs
    WHERE source = :source AND source <> '' AND state = 'running'"""  # noqa: S608 - our words, values are bound
_TAKE_OVER = f"""
    UPDATE runs SET finished_at = NULL, {", ".join(f"{name} = :{name}" for name in (*_OF_THE_PROCESS, "workers"))}
    WHERE run_id = :run_id AND {" AND ".join(f"{name} = :then_{name}" for name in _OF_THE_PROCESS)}
        AND finished_at IS :then_finished_at"""  # noqa: S608 - our words
_END_ATTEMPTS = f"""
    UPDATE attempts SET outcome = '{Outcome.CANCELLED.value}', error_message = 'its run was cut short'
    WHERE run_id = :run_id AND outcome IS NULL"""  # noqa: S608 - our words

_SUCCEEDED = ", ".join(f"'{outcome.value}'" for outcome in Outcome if outcome.success)
_FAILED = ", ".join(f"'{outcome.value}'" for outcome in Outcome if outcome.status is TaskStatus.FAILED)


def history_file(folder: str) -> Path:
    """Return where the record of runs is in the folder of a repository's state."""
    return Path(folder, "history.db")


class Store:
    """The open record.  Every method raises StoreProblem where the file cannot be read or written.

    It may be shared by threads, and must not be used on the other side of a fork.
    """

    def __init__(self, path: Path, *, patience: float = PATIENCE) -> None:
        """Open the record at `path`, made whole with its parent directories where there is none.

        `patience` is how many seconds to wait for other processes' writes.  Raises StoreProblem if the file
        is damaged, newer, or not ours; it is then left as it is.
        """
        self._path = path
        # One connection behind one lock: SQLite lets one writer in at a time anyway, what is done here takes
        # a millisecond, and a connection for each thread would outlive the threads of a pool.
        self._lock = threading.Lock()
        with _mapped(path):
            if not path.exists():
                _create(path, patience)
            self._connection = _opened(path, patience)

    @classmethod
    def existing(cls, path: Path) -> Store | None:
        """Return the record at `path`, or None where none was begun yet; nothing is created then."""
        with _mapped(path):
            there = path.exists()
        return cls(path) if there else None

    def begin_run(self, run: RunRecord, beside: Sequence[RunRecord] | None = None) -> bool:
        """Write down a run; its counts are ignored.  A run id can be used once.

        With `beside`, what `running` said of its file: only if that is still so.  Of two processes that would run one file's
        tasks at the same moment, exactly one is told True.
        """
        values = {name: _stored(value) for name, value in vars(run).items()}
        with self._lock, _mapped(self._path), _transaction(self._connection):
            if beside is not None:
                seen = {tuple(_stored(getattr(one, name)) for name in ("run_id", *_OF_THE_PROCESS)) for one in beside}
                if seen != set(self._connection.execute(_RUNNING, values)):
                    return False
            self._connection.execute(_INSERT_RUN, values)
            return True

    def running(self, source: str) -> list[RunRecord]:
        """Return the runs of the tasks that this file lists which say that they run: none if the file is ""."""
        return self._runs("WHERE source = ? AND state = 'running'", (source,)) if source else []

    def finish_run(self, run_id: str, state: str, finished_at: float) -> None:
        """Write down how a run ended: "finished" or "interrupted", at `finished_at` in unix seconds."""
        statement = "UPDATE runs SET state = :state, finished_at = :finished_at WHERE run_id = :run_id"
        if not self._write(statement, {"run_id": run_id, "state": state, "finished_at": finished_at}):
            raise StoreProblem(f"the record {str(self._path)!r} has no run {run_id!r} to finish")

    def take_over(self, found: RunRecord, now: RunRecord) -> bool:
        """Let a run go on in the process, with the workers, that `now` names, if it is still as it was `found`.

        Attempts of which no end is recorded were ended with the process before.  False if the run has changed: of two
        processes that would continue it, exactly one is told True.
        """
        values = {**vars(now), **{f"then_{name}": getattr(found, name) for name in (*_OF_THE_PROCESS, "finished_at")}}
        values = {name: _stored(value) for name, value in (values | {"run_id": found.run_id}).items()}
        with self._lock, _mapped(self._path), _transaction(self._connection):
            if not self._connection.execute(_TAKE_OVER, values).rowcount:
                return False
            self._connection.execute(_END_ATTEMPTS, values)
            return True

    def begin_attempt(self, attempt: AttemptRecord) -> None:
        """Write down an attempt.  A run id, task id and attempt number can be used together once."""
        self._write(_INSERT_ATTEMPT, {**vars(attempt), "notes": _json(attempt.notes)})

    def change_backend(self, run_id: str, task_id: str, attempt: int, backend: str) -> None:
        """Write down that another backend makes an attempt that was begun."""
        which = "run_id = :run_id AND task_id = :task_id AND attempt = :attempt"
        values = {"run_id": run_id, "task_id": task_id, "attempt": attempt, "backend": backend}
        self._write(f"UPDATE attempts SET backend = :backend WHERE {which}", values)  # noqa: S608 - our words

    def finish_attempt(self, result: TaskResult, finished_at: float, held: bool = False) -> None:
        """Write down how an attempt ended, at `finished_at` in unix seconds, even if its beginning was not."""
        attempt = AttemptRecord(
            run_id=result.run_id,
            task_id=result.task.id,
            attempt=result.attempt,
            description=result.task.description,
            started_at=finished_at - result.duration_seconds,
            finished_at=finished_at,
            outcome=result.to_dict()["outcome"],
            exit_code=result.exit_code,
            error_message=result.error_message,
            branch=result.branch,
            base=result.base,
            commit=result.commit,
            path=result.path,
            log=result.log,
            backend=result.backend,
            duration_seconds=result.duration_seconds,
            notes=tuple(result.notes),
            backend_version=result.backend_version,
            cost_usd=result.cost_usd,
            tokens_in=result.tokens_in,
            tokens_out=result.tokens_out,
            reply=result.reply,
            held=held,
            digest=result.task.digest,
        )
        self._write(_INSERT_ATTEMPT + _OR_FINISH_ATTEMPT, {**vars(attempt), "notes": _json(attempt.notes)})

    def add_event(self, run_id: str, kind: str, at: float, data: Mapping[str, Any]) -> None:
        """Write down what happened at `at`, in unix seconds; `data` becomes JSON, with str() of what is foreign to it."""
        values = {"run_id": run_id, "kind": kind, "at": at, "data": _json(dict(data))}
        self._write("INSERT INTO events (run_id, kind, at, data) VALUES (:run_id, :kind, :at, :data)", values)

    def events(self, run_id: str, kind: str) -> list[dict[str, Any]]:
        """Return the data of a run's events of one kind, the oldest first."""
        rows = self._read("SELECT data FROM events WHERE run_id = ? AND kind = ? ORDER BY id", (run_id, kind))
        with _mapped(self._path):
            return [json.loads(data) for (data,) in rows]

    def newest_events(self, kind: str, limit: int = 1000) -> list[dict[str, Any]]:
        """Return the data of the newest events of one kind in all runs, at most `limit`, the newest first."""
        rows = self._read("SELECT data FROM events WHERE kind = ? ORDER BY id DESC LIMIT ?", (kind, limit))
        with _mapped(self._path):
            return [json.loads(data) for (data,) in rows]

    def runs(self, limit: int = 50) -> list[RunRecord]:
        """Return the newest runs, at most `limit`, the newest first."""
        return self._runs("ORDER BY started_at DESC, id DESC LIMIT ?", (limit,))

    def runs_of(self, source: str, limit: int = 50) -> list[RunRecord]:
        """Return the newest runs of the tasks that this file lists, the newest first; none if the file is "".

        The newest is the one that came last, also where the clock was turned back meanwhile.
        """
        order = "id DESC"
        which = f"WHERE source = ? ORDER BY {order} LIMIT ?"
        return self._runs(which, (source, limit), order) if source else []

    def attempts_up_to(self, run: RunRecord) -> dict[str, AttemptRecord]:
        """Return the last attempt of each task in a run; of tasks that it took for done, in the run that it follows.

        A task that somebody else held when the run came to it is none of the run's.
        """
        last: dict[str, AttemptRecord] = {}
        seen: set[str] = set()
        run_id = run.run_id
        while run_id and run_id not in seen:
            seen.add(run_id)
            own: dict[str, AttemptRecord] = {}
            for one in sorted(self.attempts(run_id), key=lambda one: one.attempt):
                if not one.held or one.task_id in own:
                    own[one.task_id] = one
            last = own | last
            follows = self._read("SELECT follows FROM runs WHERE run_id = ?", (run_id,))
            run_id = follows[0][0] if follows else ""
        return last

    def run(self, run_id_prefix: str) -> RunRecord:
        """Return the run whose id is, or alone begins with, `run_id_prefix`.

        Raises UsageError, with the ids to choose from as the hint, if there is no such run or more than one.
        """
        rows = self._read("SELECT run_id FROM runs ORDER BY started_at DESC, id DESC", ())
        known = [run_id for (run_id,) in rows]
        matching = [run_id for run_id in known if run_id.startswith(run_id_prefix)]
        if run_id_prefix in matching:
            matching = [run_id_prefix]
        if not matching:
            hint = f"the newest runs are {_listed(known)}" if known else "no run has been recorded yet"
            raise UsageError(f"no run's id begins with {run_id_prefix!r}", hint=hint)
        if len(matching) > 1:
            message = f"the ids of {len(matching)} runs begin with {run_id_prefix!r}"
            raise UsageError(message, hint=f"type more of one of {_listed(matching)}")
        return self._runs("WHERE run_id = ?", (matching[0],))[0]

    def attempts(self, run_id: str | None = None, task_id: str | None = None) -> list[AttemptRecord]:
        """Return the attempts of a run, of a task, of both, or all, the newest last."""
        wanted = {"run_id = ?": run_id, "task_id = ?": task_id}
        conditions = [condition for condition, value in wanted.items() if value is not None]
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        return self._attempts(where, [value for value in wanted.values() if value is not None])

    def last_attempts(self) -> dict[str, AttemptRecord]:
        """Return the newest attempt of every task, by task id."""
        # Both selections walk the index attempts_by_task, whose last column is, as of every index, the id.
        newest = """WHERE id IN (
            SELECT (SELECT id FROM attempts WHERE task_id = each.task_id
                    ORDER BY started_at DESC, id DESC LIMIT 1)
            FROM (SELECT DISTINCT task_id FROM attempts) AS each)"""
        return {attempt.task_id: attempt for attempt in self._attempts(newest, ())}

    def examine(self) -> None:
        """Read the whole file and raise StoreProblem if any of it is damaged; other methods meet only what they read.

        A hundred thousand attempts take a tenth of a second.
        """
        found = self._read(f"PRAGMA integrity_check({_MOST_FOUND})", ())
        if found != [["ok"]]:
            what, hint = _DAMAGED
            cause = "; ".join(" ".join(str(line).split()) for (line,) in found)
            raise StoreProblem(f"the record of runs {str(self._path)!r} {what}", hint=hint, cause=cause)

    def close(self) -> None:
        """Close the file; closing twice is nothing, using the record afterwards a StoreProblem."""
        with self._lock, _mapped(self._path):
            self._connection.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _runs(self, which: str, values: Sequence[Any], order: str = "started_at DESC, id DESC") -> list[RunRecord]:
        # SQLite takes `outcome` from the row that has the max(): https://sqlite.org/lang_select.html#bareagg
        rows = self._read(
            f"""WITH chosen AS (SELECT * FROM runs {which}),
                last AS (SELECT run_id AS of_run, outcome, max(attempt) FROM attempts
                    WHERE run_id IN (SELECT run_id FROM chosen) GROUP BY run_id, task_id)
                SELECT {_names(_RUN_COLUMNS)}, count(of_run),
                    count(*) FILTER (WHERE outcome IN ({_SUCCEEDED})),
                    count(*) FILTER (WHERE outcome IN ({_FAILED}))
                FROM chosen LEFT JOIN last ON of_run = run_id
                GROUP BY id ORDER BY {order}""",  # noqa: S608 - our words, values are bound
            values,
        )
        return [RunRecord(*row) for row in rows]

    def _attempts(self, which: str, values: Sequence[Any]) -> list[AttemptRecord]:
        rows = self._read(
            f"""SELECT {_names(_ATTEMPT_COLUMNS)} FROM attempts {which}
                ORDER BY started_at, id""",  # noqa: S608 - our words, values are bound
            values,
        )
        with _mapped(self._path):
            for row in rows:
                row[_NOTES], row[_HELD] = tuple(json.loads(row[_NOTES])), bool(row[_HELD])
        return [AttemptRecord(*row) for row in rows]

    def _read(self, query: str, values: Sequence[Any]) -> list[list[Any]]:
        # All is fetched before the lock is let go: a transaction left open would keep the log from shrinking.
        with self._lock, _mapped(self._path):
            rows = self._connection.execute(query, [_stored(value) for value in values]).fetchall()
            return [[_restored(value) if type(value) is bytes else value for value in row] for row in rows]

    def _write(self, statement: str, values: Mapping[str, Any]) -> int:
        stored = {name: _stored(value) for name, value in values.items()}
        with self._lock, _mapped(self._path), _transaction(self._connection):
            return self._connection.execute(statement, stored).rowcount


def _stored(value: Any) -> Any:
    """Return text with lone surrogates (a path that is not UTF-8) as bytes, which SQLite takes, the rest as it is.

    Equal texts are stored equally, so that comparing, grouping and unique keys go on working.
    """
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return value.encode("utf-8", "surrogatepass")
    return value


def _restored(value: bytes) -> str:
    return value.decode("utf-8", "surrogatepass")


def _json(value: Any) -> str:
    # Not in ASCII: two lone surrogates escaped one by one could come back as one character.
    return json.dumps(value, ensure_ascii=False, default=str)


def _listed(run_ids: Sequence[str], longest: int = 5) -> str:
    return ", ".join(map(repr, run_ids[:longest])) + (", ..." if len(run_ids) > longest else "")


def _create(path: Path, patience: float) -> None:
    """Make an empty record at `path`, whole or not at all; one that appears there meanwhile is kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in (path.with_name(path.name + suffix) for suffix in ("-wal", "-journal")):
        # SQLite would replay it into the new file and damage it (https://sqlite.org/howtocorrupt.html, 1.4).  Ours is
        # made after the file itself: if there is still none, this one is of a file that was taken away.
        if leftover.exists() and not path.exists():
            raise StoreProblem(
                f"{str(leftover)!r} is left of a record of runs that is gone", hint="move it back, or this aside too"
            )
    family = f".{path.name}.new-"
    aside = path.with_name(family + os.urandom(8).hex())
    try:
        _build(aside, patience)
        # Not a rename, which would replace a record that another process has made and filled in the meantime.
        os.link(aside, path)
    except (sqlite3.Error, OSError):
        if not path.exists():
            raise
    finally:
        # Once there is a record, no attempt at making one matters: what killed processes left goes too.
        with suppress(OSError):
            doomed = family if path.exists() else aside.name
            for stray in [entry for entry in path.parent.iterdir() if entry.name.startswith(doomed)]:
                stray.unlink(missing_ok=True)


def _build(aside: Path, patience: float) -> None:
    with closing(_connected(aside, "mode=rwc", patience)) as connection:
        # Nobody knows this file yet: it needs no journal on disk, and one sync at the end.
        connection.execute("PRAGMA journal_mode = MEMORY")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        _migrate(connection, _SCHEMA)
        # Last, so that all of the above is in the file itself and the write-ahead log beside it empty.
        connection.execute("PRAGMA journal_mode = WAL")
    descriptor = os.open(aside, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _opened(path: Path, patience: float) -> sqlite3.Connection:
    # First a look that takes no lock and cannot write: closing an ordinary connection to somebody else's file
    # may fold that file's write-ahead log into it.  It is SQLite that looks: closing a descriptor of our own
    # would drop the locks this process holds through another (https://sqlite.org/howtocorrupt.html, 2.2).
    # What cannot be read without locks proves nothing, as somebody may be writing: that is judged below.
    with suppress(sqlite3.Error), closing(_connected(path, "mode=ro&immutable=1", patience)) as glance:
        _check_ours(glance, path)
    connection = _connected(path, "mode=rw", patience)
    try:
        version = _check_ours(connection, path)
        # In WAL a kill loses nothing whatever this says.  With NORMAL a power cut may lose the newest records
        # and never damages the file; FULL would sync the disk for each, for a history nothing depends on.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA journal_mode = WAL")  # a copy restored from a backup may have lost it
        if version < len(_SCHEMA):
            _migrate(connection, _SCHEMA)
        missing = _TABLES - {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        if missing:
            raise sqlite3.DatabaseError(f"no table {', '.join(sorted(missing))}")
    except BaseException:
        connection.close()
        raise
    return connection


def _connected(path: Path, how: str, patience: float) -> sqlite3.Connection:
    # An URI: it says "create nothing", and takes every name a path can have, bytes that are no UTF-8 too.
    uri = f"{path.absolute().as_uri()}?{how}"
    for name in (path, path.with_name(path.name + "-wal")):
        if name.exists() and not (name.is_file() or name.is_dir()):  # a pipe: SQLite would wait for it
            raise sqlite3.DatabaseError(f"{str(name)!r} is no file")
    return sqlite3.connect(uri, uri=True, timeout=patience, isolation_level=None, check_same_thread=False)


def _check_ours(connection: sqlite3.Connection, path: Path) -> int:
    """Return the version of the record; raise StoreProblem if it is not ours or too new."""
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application_id != _APPLICATION_ID or version < 1:
        raise StoreProblem(f"{str(path)!r} is not a record of runs", hint=_MOVE_ASIDE)
    if version > len(_SCHEMA):
        raise StoreProblem(
            f"the record of runs {str(path)!r} was written by a newer moderator: it has version {version},"
            f" and this one knows {len(_SCHEMA)}",
            hint=f"upgrade moderator; or {_MOVE_ASIDE}",
        )
    return int(version)


def _migrate(connection: sqlite3.Connection, scripts: Sequence[Sequence[str]]) -> None:
    """Bring the record to version `len(scripts)`, each step whole or not at all."""
    while True:
        with _transaction(connection):
            # Asked again for every step, under its lock: another process may be doing the same.
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version >= len(scripts):
                return
            for statement in scripts[version]:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {version + 1}")


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    # IMMEDIATE, since a transaction that reads first and then writes may not wait its turn: it fails at once.
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


_MOVE_ASIDE = "move the file aside, with its -wal and -shm; a new one is begun, nothing in git depends on it"

_DAMAGED = ("is damaged, or not a record of runs", _MOVE_ASIDE)
_LOCKED = (
    "was locked by another process for too long",
    "try again; if it stays so, end the process that has the file open",
)
_NOT_OURS_TO_WRITE = (
    "cannot be opened or written",
    "make the file and its directory readable and writable for you; the file system must have hard links",
)
_DISK_FULL = ("cannot be written: the disk is full", "make room on that disk")
_DISK_FAILS = ("cannot be read or written", "see whether that disk is full, read-only or failing")
_OUR_BUG = ("cannot be used", "this is a bug of moderator: please report it")

_PROBLEMS = {
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_FORMAT: _DAMAGED,
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_PROTOCOL: _LOCKED,
    sqlite3.SQLITE_CANTOPEN: _NOT_OURS_TO_WRITE,
    sqlite3.SQLITE_PERM: _NOT_OURS_TO_WRITE,
    sqlite3.SQLITE_READONLY: _NOT_OURS_TO_WRITE,
    sqlite3.SQLITE_FULL: _DISK_FULL,
    sqlite3.SQLITE_IOERR: _DISK_FAILS,
}
"""Primary result codes (https://sqlite.org/rescode.html) that are no bug of ours: what happened, and the hint."""


def _problem(error: Exception, path: Path) -> StoreProblem:
    """Put into words what sqlite3, the operating system or the decoding of a value objects to."""
    code = getattr(error, "sqlite_errorcode", None)
    if isinstance(error, OSError):
        what, hint = _DISK_FULL if error.errno in (errno.ENOSPC, errno.EDQUOT) else _NOT_OURS_TO_WRITE
    elif code is not None:
        what, hint = _PROBLEMS.get(code & 0xFF, _OUR_BUG)
    else:
        # Without a code it is about values we never write (text that is no UTF-8 is an OperationalError), or misuse.
        damaged = isinstance(error, ValueError) or type(error) in (sqlite3.DatabaseError, sqlite3.OperationalError)
        what, hint = _DAMAGED if damaged else _OUR_BUG
    return StoreProblem(f"the record of runs {str(path)!r} {what}", hint=hint, cause=str(error))


@contextmanager
def _mapped(path: Path) -> Iterator[None]:
    """The one place where sqlite3's exceptions become ours."""
    try:
        yield
    except (sqlite3.Error, sqlite3.Warning, OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise _problem(error, path) from error
