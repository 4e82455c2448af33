"""The record of runs: whole or not there, safe between processes, and never the reason that work is lost."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderator import store as room
from moderator.errors import StoreProblem, UsageError
from moderator.models import Outcome, Task, TaskResult
from moderator.store import AttemptRecord, RunRecord, Store

RUN = RunRecord(
    run_id="r-1",
    started_at=1000.5,
    finished_at=None,
    state="running",
    base_branch="main",
    base_commit="a" * 40,
    isolation_level="full",
    workers=4,
    command_line="moderator run tasks.yaml",
    pid=4242,
    boot_id="boot",
    host="here",
    process_started=999.25,
)
ATTEMPT = AttemptRecord(
    run_id="r-1",
    task_id="task_001",
    attempt=1,
    description="Do it",
    started_at=1001.0,
    finished_at=None,
    outcome=None,
    exit_code=None,
    error_message=None,
    branch="main-task-task-001",
    base="a" * 40,
    commit=None,
    path="/srv/task_001",
    log="/state/task_001/output.log",
    backend="shell",
    duration_seconds=None,
    notes=(),
)


VERSION = len(room._SCHEMA)


def result(outcome: Outcome = Outcome.SUCCEEDED, task_id: str = "task_001", attempt: int = 1) -> TaskResult:
    return TaskResult(
        task=Task(task_id, "Do it"),
        exit_code=0 if outcome.success else 1,
        stdout="out",
        stderr="err",
        duration_seconds=2.5,
        outcome=outcome,
        run_id="r-1",
        attempt=attempt,
        commit="c" * 40 if outcome is Outcome.SUCCEEDED else None,
        notes=["one", "two"],
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "runs.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store(path) as store:
        yield store


def contents(directory: Path) -> dict[str, bytes]:
    return {entry.name: entry.read_bytes() for entry in directory.iterdir()}


def raw(path: Path) -> closing[sqlite3.Connection]:
    """What any other program would open the file with."""
    return closing(sqlite3.connect(path, isolation_level=None))


def python(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


PRELUDE = """
import os, resource, signal, sys, time
from pathlib import Path
from moderator.errors import StoreProblem
from moderator.store import Store
path = Path(sys.argv[1])
"""


def finish(processes: list[subprocess.Popen[str]], go: str = "go\n") -> list[str]:
    """Let all begin at the same moment and return what they print."""
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(go)
        process.stdin.flush()
    printed = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return printed


# What is written down is what is read


def test_a_run_and_its_attempts_are_read_as_they_were_written(store: Store) -> None:
    """Everything known of a run and an attempt comes back, the result's words over those of the beginning."""
    store.begin_run(RUN)
    assert store.runs() == [RUN]
    store.begin_attempt(ATTEMPT)
    assert store.attempts() == [ATTEMPT]
    store.finish_attempt(result(), 1003.5)
    store.finish_run("r-1", "finished", 1004.0)
    assert store.attempts() == [
        replace(
            ATTEMPT,
            finished_at=1003.5,
            outcome="succeeded",
            exit_code=0,
            commit="c" * 40,
            duration_seconds=2.5,
            notes=("one", "two"),
        )
    ]
    assert store.runs() == [replace(RUN, state="finished", finished_at=1004.0, tasks=1, succeeded=1)]


def test_an_attempt_that_was_never_begun_is_recorded_when_it_ends(store: Store) -> None:
    """A result alone is a whole record, even of a run nobody wrote down."""
    ended = replace(result(Outcome.FAILED), error_message="exit 1", branch="b", path="p", backend="shell", outcome=None)
    store.finish_attempt(ended, 1003.5)
    assert store.attempts() == [
        AttemptRecord(
            run_id="r-1",
            task_id="task_001",
            attempt=1,
            description="Do it",
            started_at=1001.0,
            finished_at=1003.5,
            outcome="failed",
            exit_code=1,
            error_message="exit 1",
            branch="b",
            base=None,
            commit=None,
            path="p",
            log=None,
            backend="shell",
            duration_seconds=2.5,
            notes=("one", "two"),
            digest=ended.task.digest,
        )
    ]


@pytest.mark.parametrize("outcome", list(Outcome))
def test_a_task_counts_by_its_last_attempt(store: Store, outcome: Outcome) -> None:
    """A retry replaces what was counted before; what was cancelled or still runs is neither success nor failure."""
    store.begin_run(RUN)
    store.finish_attempt(result(Outcome.FAILED), 1)
    store.finish_attempt(result(outcome, attempt=2), 2)
    store.finish_attempt(result(Outcome.SUCCEEDED, "retried and running"), 2)
    store.begin_attempt(replace(ATTEMPT, task_id="retried and running", attempt=2))
    failed = not outcome.success and outcome is not Outcome.CANCELLED
    assert store.runs() == [replace(RUN, tasks=2, succeeded=int(outcome.success), failed=int(failed))]


def test_runs_come_newest_first_and_no_more_than_asked_for(store: Store) -> None:
    """The order is that of time, and of arrival where times are equal."""
    for run_id, started_at in (("b", 2.0), ("a", 1.0), ("c", 2.0)):
        store.begin_run(replace(RUN, run_id=run_id, started_at=started_at))
    assert [run.run_id for run in store.runs()] == ["c", "b", "a"]
    assert [run.run_id for run in store.runs(limit=2)] == ["c", "b"]


def test_a_run_is_found_by_as_much_of_its_id_as_is_unique(store: Store) -> None:
    """A prefix finds one run or says which there are; a whole id is never ambiguous."""
    with pytest.raises(UsageError) as none_yet:
        store.run("x")
    assert none_yet.value.hint == "no run has been recorded yet"
    for at, run_id in enumerate(("abc", "abd", "ab", "x_1%")):
        store.begin_run(replace(RUN, run_id=run_id, started_at=at))
    assert [store.run(prefix).run_id for prefix in ("abc", "ab", "x", "x_")] == ["abc", "ab", "x_1%", "x_1%"]
    with pytest.raises(UsageError) as ambiguous:
        store.run("a")
    assert ambiguous.value.message == "the ids of 3 runs begin with 'a'"
    assert ambiguous.value.hint == "type more of one of 'ab', 'abd', 'abc'"
    with pytest.raises(UsageError) as unknown:
        store.run("%")
    assert unknown.value.hint == "the newest runs are 'x_1%', 'ab', 'abd', 'abc'"


def test_attempts_are_those_of_the_run_and_of_the_task(store: Store) -> None:
    """Both filters work alone and together, the newest attempt last."""
    all_of_them = [
        replace(ATTEMPT, run_id=run_id, task_id=task_id, started_at=float(at))
        for at, (run_id, task_id) in enumerate((run, task) for run in ("r-1", "r-2") for task in ("s", "t"))
    ]
    for attempt in reversed(all_of_them):
        store.begin_attempt(attempt)
    assert store.attempts() == all_of_them
    assert store.attempts(run_id="r-2") == all_of_them[2:]
    assert store.attempts(task_id="t") == all_of_them[1::2]
    assert store.attempts("r-2", "t") == all_of_them[3:]
    assert store.attempts("r-3") == []


def test_the_last_attempt_of_a_task_is_the_newest_over_all_runs(store: Store) -> None:
    """The newest is the one that began last; of two that began together, the one that was written last."""
    newest = replace(ATTEMPT, run_id="r-2", started_at=5.0)
    for attempt in (
        newest,
        replace(ATTEMPT, run_id="r-3", started_at=4.0, attempt=9),
        replace(ATTEMPT, task_id="other", attempt=2),
        replace(ATTEMPT, task_id="other", attempt=1),
    ):
        store.begin_attempt(attempt)
    assert store.last_attempts() == {"task_001": newest, "other": replace(ATTEMPT, task_id="other")}


def test_events_keep_what_json_can_say_and_the_text_of_the_rest(store: Store, path: Path) -> None:
    """An event's data is JSON for any reader of the file."""
    store.add_event("r-1", "rescued", 12.5, {"paths": ["é"], "where": Path("/x"), "count": 2})
    with raw(path) as connection:
        rows = connection.execute("SELECT run_id, kind, at, data FROM events").fetchall()
    assert [(*row[:3], json.loads(row[3])) for row in rows] == [
        ("r-1", "rescued", 12.5, {"paths": ["é"], "where": "/x", "count": 2})
    ]


any_text = st.text(st.one_of(st.characters(), st.integers(0xD800, 0xDFFF).map(chr))) | st.binary().map(os.fsdecode)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store(tmp_path_factory.mktemp("shared") / "runs.db") as store:
        yield store


@settings(max_examples=40)
@given(texts=st.lists(any_text, min_size=9, max_size=9), notes=st.lists(any_text))
def test_text_survives_whatever_it_holds(shared: Store, texts: list[str], notes: list[str]) -> None:
    """Names of files are bytes: lone surrogates, NUL and all else come back as they were, and can be asked for."""
    new = uuid.uuid4()  # hypothesis tries the same example again, and the store is the same
    run_id, task_id = f"{new}{texts[0]}", f"{new}{texts[1]}"
    run = replace(RUN, run_id=run_id, base_branch=texts[2], command_line=texts[3], host=texts[4])
    attempt = replace(
        ATTEMPT,
        run_id=run_id,
        task_id=task_id,
        path=texts[5],
        log=texts[6],
        error_message=texts[7],
        description=texts[8],
        notes=tuple(notes),
    )
    shared.begin_run(run)
    shared.begin_attempt(attempt)
    assert shared.run(run_id) == replace(run, tasks=1)
    assert shared.attempts(run_id) == shared.attempts(task_id=task_id) == [attempt]
    ended = replace(result(), task=Task(task_id, texts[8]), run_id=run_id, path=texts[4], notes=notes[::-1])
    shared.finish_attempt(ended, 5.0)
    (after,) = shared.attempts(run_id, task_id)
    assert (after.path, after.log, after.notes) == (texts[4], texts[6], tuple(notes[::-1]))


# The file appears whole or not at all


def test_looking_for_a_record_creates_nothing(path: Path) -> None:
    """Where there is no record, `existing` leaves no trace, not even the directory; where there is one, it opens it."""
    assert Store.existing(path) is None
    assert not path.parent.exists()
    with Store(path) as store:
        store.begin_run(RUN)
    reopened = Store.existing(path)
    assert reopened is not None
    with reopened:
        assert reopened.runs() == [RUN]


def test_a_new_record_is_complete_in_one_file(path: Path, tmp_path: Path) -> None:
    """The file alone, without companions, is a record in WAL mode; nothing else is left beside it."""
    Store(path).close()
    assert list(contents(path.parent)) == ["runs.db"]
    assert path.read_bytes()[18:20] == b"\x02\x02"  # https://sqlite.org/fileformat2.html: WAL, to read and to write
    copy = tmp_path / "copy.db"
    shutil.copyfile(path, copy)
    with Store(copy) as store:
        assert store.runs() == []


@pytest.mark.parametrize("name", ["run s?#%41.db", os.fsdecode(b"caf\xe9.db")])
def test_the_file_may_have_any_name(tmp_path: Path, name: str) -> None:
    """A name with an URI's special characters, or of bytes that are no UTF-8, is the name of the file."""
    with Store(tmp_path / name) as store:
        store.begin_run(RUN)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_processes_that_create_at_once_share_one_record(tmp_path: Path) -> None:
    """Of several that find none, one creates it and all write to it."""
    script = """
print("ready", flush=True)
sys.stdin.readline()
for n in range(20):
    with Store(path / str(n) / "runs.db") as store:
        store.add_event("r", sys.argv[2], 0.0, {})
"""
    finish([python(script, tmp_path, name) for name in "abc"])
    for n in range(20):
        # Two that close at the same moment may each take the other for the one who will clear the log away.
        assert set(contents(tmp_path / str(n))) <= {"runs.db", "runs.db-wal", "runs.db-shm"}
        with raw(tmp_path / str(n) / "runs.db") as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert connection.execute("SELECT kind FROM events ORDER BY kind").fetchall() == [("a",), ("b",), ("c",)]


def test_whoever_creates_too_late_keeps_what_is_there(path: Path, store: Store) -> None:
    """A process that found no record, and comes to put its own in place after another one did, replaces nothing."""
    store.begin_run(RUN)
    room._create(path, room.PATIENCE)
    assert store.runs() == [RUN]
    with Store(path) as reopened:
        assert reopened.runs() == [RUN]
    assert set(contents(path.parent)) == {"runs.db", "runs.db-wal", "runs.db-shm"}


def test_a_copy_from_a_backup_is_a_record_again(store: Store, path: Path, tmp_path: Path) -> None:
    """SQLite's own copies are not in WAL mode: opening puts them into it."""
    store.begin_run(RUN)
    with raw(path) as connection:
        connection.execute("VACUUM INTO ?", [str(tmp_path / "copy.db")])
    with Store(tmp_path / "copy.db") as copy:
        assert copy.runs() == [RUN]
    assert (tmp_path / "copy.db").read_bytes()[18:20] == b"\x02\x02"


def test_a_kill_while_creating_leaves_no_record_or_a_whole_one(tmp_path: Path) -> None:
    """Killed at any moment, creation leaves nothing under the name or all of it; the next one succeeds and cleans up."""
    script = """
begun = time.perf_counter()
Store(path / "measured.db").close()
longest = 1.3 * (time.perf_counter() - begun)
for n in range(100):
    child = os.fork()
    if not child:
        Store(path / str(n) / "runs.db")
        os._exit(0)
    time.sleep(longest * n / 100)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
print("ready", flush=True)
sys.stdin.readline()
"""
    finish([python(script, tmp_path)])
    for n in range(100):
        record = tmp_path / str(n) / "runs.db"
        if record.exists():
            alone = tmp_path / f"{n}.db"
            shutil.copyfile(record, alone)
            with raw(alone) as connection:
                assert connection.execute("PRAGMA user_version").fetchall() == [(len(room._SCHEMA),)]
                assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            with Store(record) as store:
                assert store.runs() == []
        else:
            with Store(record) as store:
                assert store.runs() == []
            assert list(contents(record.parent)) == ["runs.db"]


def test_the_log_of_a_record_that_was_taken_away_is_not_replayed_into_a_new_one(path: Path) -> None:
    """Only the file itself was removed: its write-ahead log would damage a new file, so a person is asked."""
    script = """
store = Store(path)
store.add_event("r", "kind", 0.0, {})
os.kill(os.getpid(), signal.SIGKILL)
"""
    python(script, path).communicate()
    path.unlink()
    before = contents(path.parent)
    assert "runs.db-wal" in before
    with pytest.raises(StoreProblem, match=r"runs\.db-wal' is left of a record of runs that is gone"):
        Store(path)
    assert contents(path.parent) == before
    assert Store.existing(path) is None


# Several at once


def test_two_processes_write_at_once(path: Path) -> None:
    """Nothing is refused and nothing is missing when two processes write two hundred times each."""
    script = """
with Store(path) as store:
    print("ready", flush=True)
    sys.stdin.readline()
    for n in range(200):
        store.add_event(sys.argv[2], "kind", float(n), {"n": n})
"""
    finish([python(script, path, name) for name in "ab"])
    with raw(path) as connection:
        rows = connection.execute("SELECT run_id, at FROM events ORDER BY run_id, id").fetchall()
    assert rows == [(name, float(n)) for name in "ab" for n in range(200)]


def test_many_threads_share_one_store(store: Store) -> None:
    """Threads begin and finish attempts through one object, and read meanwhile."""
    problems: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for number in range(1, 26):
                store.begin_attempt(replace(ATTEMPT, task_id=name, attempt=number))
                store.finish_attempt(result(task_id=name, attempt=number), 2000.0)
                assert store.last_attempts()[name].attempt == number
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=work, args=(f"task {n}",)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert [attempt.outcome for attempt in store.attempts()] == ["succeeded"] * 16 * 25


def test_a_reader_does_not_block_a_writer(store: Store, path: Path) -> None:
    """Somebody in the middle of reading sees the record as it was, and the writer does not wait."""
    store.begin_run(RUN)
    with raw(path) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM runs").fetchone() == (1,)
        with Store(path, patience=0) as writer:
            writer.begin_run(replace(RUN, run_id="r-2"))
        assert reader.execute("SELECT count(*) FROM runs").fetchone() == (1,)
    assert [run.run_id for run in store.runs()] == ["r-2", "r-1"]


def test_a_killed_writer_loses_nothing_that_was_written(path: Path) -> None:
    """What a method has returned from is there after kill -9, and others go on writing."""
    script = """
store = Store(path)
n = 0
while True:
    store.add_event("r", "kind", float(n), {})
    print(n, flush=True)
    n += 1
"""
    for _ in range(5):
        process = python(script, path)
        assert process.stdout is not None
        for _ in range(20):
            process.stdout.readline()
        process.kill()
        said = process.communicate()[0].splitlines()
        with Store(path) as store, raw(path) as connection:
            (last,) = connection.execute("SELECT at FROM events ORDER BY id DESC").fetchone()
            assert last >= int(said[-1] if said and said[-1].isdigit() else 19)
            store.add_event("r", "the next", 0.0, {})
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


# What is wrong with a file is said, and the file left as it is


def foreign(path: Path) -> None:
    with raw(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")


def foreign_with_a_log(path: Path) -> None:
    """A database of somebody else who was killed: half of it is in its write-ahead log."""
    script = """
import sqlite3
connection = sqlite3.connect(path, isolation_level=None)
connection.execute("PRAGMA journal_mode = WAL")
connection.execute("CREATE TABLE theirs (x)")
os.kill(os.getpid(), signal.SIGKILL)
"""
    python(script, path).communicate()
    assert len(contents(path.parent)) == 3


def newer(path: Path) -> None:
    Store(path).close()
    with raw(path) as connection:
        connection.execute("PRAGMA user_version = 1000")


def truncated(size: int) -> Callable[[Path], None]:
    def truncate(path: Path) -> None:
        with Store(path) as store:
            store.begin_run(RUN)
        os.truncate(path, size)

    return truncate


def without_a_table(path: Path) -> None:
    Store(path).close()
    with raw(path) as connection:
        connection.execute("DROP TABLE attempts")


def with_a_broken_schema(path: Path) -> None:
    Store(path).close()
    content = path.read_bytes().replace(b"CREATE TABLE attempts (", b"CREATE TABEL attempts (")
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path.write_bytes(b""), "is not a record of runs"),
        (lambda path: path.write_text("hello, " * 2000), "is damaged, or not a record of runs"),
        (foreign, "is not a record of runs"),
        (foreign_with_a_log, "is not a record of runs"),
        (newer, f"was written by a newer moderator: it has version 1000, and this one knows {VERSION}"),
        (truncated(100), "is damaged"),
        (truncated(4096), "is damaged"),
        (truncated(10000), "is damaged"),
        (without_a_table, "is damaged"),
        (with_a_broken_schema, "is damaged"),
        (lambda path: path.mkdir(), "cannot be opened or written"),
    ],
)
def test_a_file_that_is_no_record_of_ours_is_refused_and_untouched(
    path: Path, make: Callable[[Path], None], says: str
) -> None:
    """The problem names the file and the way out, and not a byte of the file or of what lies beside it has changed."""
    path.parent.mkdir()
    make(path)
    before = None if path.is_dir() else contents(path.parent)
    for attempt in (Store, Store.existing):
        with pytest.raises(StoreProblem) as problem:
            attempt(path)
        assert str(path) in problem.value.message
        assert says in problem.value.message
        assert problem.value.exit_code == 4
        assert problem.value.hint
        assert path.is_dir() or contents(path.parent) == before
    if "newer" in says:
        assert problem.value.hint.startswith("upgrade moderator")


def test_damage_in_the_middle_is_a_problem_when_it_is_met(path: Path) -> None:
    """Pages overwritten with rubbish: each one is reported when it is read, in our words, or does not matter.

    Who has the whole file examined learns of every one, and of none where there is none.
    """
    with Store(path) as store:
        store.begin_run(RUN)
        for n in range(200):
            store.begin_attempt(replace(ATTEMPT, task_id=f"task {n}", notes=("a note", "é")))
        store.examine()
        expected = store.attempts()
    whole = path.read_bytes()
    met = examined = 0
    for offset in range(4096, len(whole), 4096):
        path.write_bytes(whole[:offset] + b"\xff" * 4096 + whole[offset + 4096 :])
        try:
            with Store(path) as store:
                assert store.attempts() == expected
        except StoreProblem as problem:
            assert "is damaged" in problem.message
            met += 1
        with pytest.raises(StoreProblem, match="is damaged") as found, Store(path) as store:
            examined += 1
            store.examine()
        assert found.value.cause
    assert 5 < met < len(whole) // 4096 - 1
    assert examined > len(whole) // 4096 // 2, "most are met only by who looks for them"


@pytest.mark.parametrize("value", ["x'5b22ff225d'", "cast(x'ff' as text)", "'[\"no end'"])
def test_values_that_nobody_of_us_writes_are_damage(path: Path, store: Store, value: str) -> None:
    """Bytes that decode to no text, and text that is no JSON, are reported like any other damage."""
    store.begin_attempt(ATTEMPT)
    with raw(path) as connection:
        connection.execute(f"UPDATE attempts SET notes = {value}")
    with pytest.raises(StoreProblem, match="is damaged"):
        store.attempts()


@contextmanager
def powerless(directory: Path) -> Iterator[None]:
    """Be somebody who may not write to the directory; for root that takes another user id."""
    directory.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        directory.chmod(0o755)


def test_a_directory_that_cannot_be_written_is_a_problem_with_a_hint() -> None:
    """Neither creating nor opening a record fails with anything else where the directory is read-only."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        Store(directory / "old.db").close()
        with powerless(directory):
            for attempt in (directory / "new.db", directory / "old.db", directory / "below" / "new.db"):
                with pytest.raises(StoreProblem, match="cannot be opened or written") as problem:
                    Store(attempt)
                assert (
                    problem.value.hint
                    == "make the file and its directory readable and writable for you; the file system must have hard links"
                )
        assert list(contents(directory)) == ["old.db"]


def test_a_lock_that_is_held_too_long_is_a_problem_with_a_hint(path: Path, store: Store) -> None:
    """Another process's endless write makes ours give up after its patience, and not before."""
    with raw(path) as other, Store(path, patience=0.2) as impatient:
        other.execute("BEGIN IMMEDIATE")
        begun = time.perf_counter()
        with pytest.raises(StoreProblem, match="locked by another process for too long") as problem:
            impatient.begin_run(RUN)
        assert time.perf_counter() - begun > 0.15
        assert "end the process" in problem.value.hint
        other.execute("ROLLBACK")
        impatient.begin_run(RUN)
    assert store.runs() == [RUN]


def test_a_full_disk_is_a_problem_and_nothing_is_half_written(tmp_path: Path) -> None:
    """Where the system lets no file grow, creating leaves nothing and writing leaves what was there."""
    script = """
store = Store(path / "runs.db")
store.add_event("r", "before", 0.0, {})
size = max(entry.stat().st_size for entry in path.iterdir())
resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
for attempt in (lambda: store.add_event("r", "after", 0.0, {"much": "x" * 100_000}), lambda: Store(path / "new.db")):
    try:
        attempt()
    except StoreProblem as problem:
        print(bool(problem.hint), flush=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.add_event("r", "room again", 0.0, {})
store.close()
"""
    assert python(script, tmp_path).communicate()[0] == "True\nTrue\n"
    assert list(contents(tmp_path)) == ["runs.db"]
    with raw(tmp_path / "runs.db") as connection:
        assert connection.execute("SELECT kind FROM events").fetchall() == [("before",), ("room again",)]


def test_a_misused_store_is_a_problem_too(path: Path) -> None:
    """What only a bug can cause ends in the same exception: nobody has to know sqlite3."""
    store = Store(path)
    store.begin_run(RUN)
    with pytest.raises(StoreProblem, match="cannot be used") as twice:
        store.begin_run(RUN)
    assert twice.value.cause == "UNIQUE constraint failed: runs.run_id"
    with pytest.raises(StoreProblem, match="no run 'r-2' to finish"):
        store.finish_run("r-2", "finished", 1.0)
    store.close()
    store.close()
    with pytest.raises(StoreProblem, match="cannot be used"):
        store.runs()


def test_every_exception_of_sqlite3_has_its_place_in_the_map() -> None:
    """Whatever class sqlite3 defines, and whatever result code it has, a StoreProblem with a hint comes of it."""
    classes = [kind for kind in vars(sqlite3).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert {sqlite3.Error, sqlite3.Warning, sqlite3.DatabaseError, sqlite3.ProgrammingError} <= set(classes)
    codes = [code for name, code in vars(sqlite3).items() if name.startswith("SQLITE_") and isinstance(code, int)]
    for kind in classes:
        for code in (None, *codes):
            error = kind("words")
            if code is not None:
                error.sqlite_errorcode = code  # type: ignore[attr-defined]
            with pytest.raises(StoreProblem) as problem, room._mapped(Path("/x/runs.db")):
                raise error
            assert "'/x/runs.db'" in problem.value.message
            assert problem.value.hint
            assert problem.value.cause == "words"
            assert problem.value.__cause__ is error


def test_a_full_database_says_that_the_disk_is_full(tmp_path: Path) -> None:
    """SQLite's own word for it, from SQLite itself."""
    with raw(tmp_path / "x.db") as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.execute("PRAGMA max_page_count = 2")
        with pytest.raises(StoreProblem, match="the disk is full") as problem, room._mapped(tmp_path / "x.db"):
            connection.execute("INSERT INTO t VALUES (zeroblob(100000))")
    assert problem.value.hint == "make room on that disk"


# Newer versions of our own


NEXT = ("ALTER TABLE runs ADD COLUMN mood TEXT NOT NULL DEFAULT 'calm'", "CREATE TABLE moods (name TEXT)")


def test_opening_an_older_record_brings_it_up_to_date(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A moderator with one more version migrates on opening and keeps every record; the older one then refuses it."""
    with Store(path) as store:
        store.begin_run(RUN)
    with monkeypatch.context() as patch:
        patch.setattr(room, "_SCHEMA", (*room._SCHEMA, NEXT))
        for _ in range(2):
            with Store(path) as store:
                assert store.runs() == [RUN]
        with raw(path) as connection:
            assert connection.execute("SELECT run_id, mood FROM runs").fetchall() == [("r-1", "calm")]
            assert connection.execute("PRAGMA user_version").fetchall() == [(VERSION + 1,)]
    with pytest.raises(StoreProblem, match=f"it has version {VERSION + 1}, and this one knows {VERSION}"):
        Store(path)


def test_a_migration_that_fails_changes_nothing(path: Path) -> None:
    """Each step is one transaction: the first of two that succeeds stays, the second leaves no trace."""
    Store(path).close()
    with raw(path) as connection:
        with pytest.raises(sqlite3.OperationalError, match="no such table: nowhere"):
            room._migrate(
                connection, (*room._SCHEMA, NEXT, ("CREATE TABLE half (x)", "INSERT INTO nowhere VALUES (1)"))
            )
        assert connection.execute("PRAGMA user_version").fetchall() == [(VERSION + 1,)]
        assert not connection.in_transaction
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert tables == {"runs", "attempts", "events", "moods"}


def test_processes_that_migrate_at_once_do_it_once(path: Path) -> None:
    """Those that find an old version wait for the one that is at it and find it done."""
    Store(path).close()
    script = f"""
import sqlite3
from moderator import store as room
room._SCHEMA = (*room._SCHEMA, {NEXT!r})
print("ready", flush=True)
sys.stdin.readline()
Store(path).close()
"""
    finish([python(script, path) for _ in range(3)])
    with raw(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchall() == [(VERSION + 1,)]


def test_a_record_of_the_first_version_is_kept_whole(path: Path, tmp_path: Path) -> None:
    """A file as the first moderator wrote it gains what it lacks and loses nothing; its runs come from no file."""
    path.parent.mkdir()
    with raw(path) as connection:
        connection.executescript(VERSION_1)
    before = connection_rows(path)
    with Store(path) as store:
        assert store.runs() == [replace(RUN, run_id="r-2", state="finished", finished_at=2.5), replace(RUN, tasks=1)]
        assert store.attempts() == [ATTEMPT]
        assert (store.runs_of(""), store.runs_of("/srv/tasks.yaml")) == ([], [])
        store.begin_run(replace(RUN, run_id="r-3", source="/srv/tasks.yaml", started_at=3000.0))
        assert [run.run_id for run in store.runs()] == ["r-3", "r-2", "r-1"]
        assert [run.run_id for run in store.runs_of("/srv/tasks.yaml")] == ["r-3"]
    after = connection_rows(path)
    for table in ("runs", "attempts"):
        assert [row[: len(old)] for row, old in zip(after[table], before[table], strict=False)] == before[table]
    assert after["events"] == before["events"]
    with raw(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchall() == [(VERSION,)]


def connection_rows(path: Path) -> dict[str, list[tuple[object, ...]]]:
    with raw(path) as connection:
        return {
            table: connection.execute(f"SELECT * FROM {table} ORDER BY id").fetchall()
            for table in ("runs", "attempts", "events")
        }


VERSION_1 = """
PRAGMA application_id = 1836016754;
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, run_id TEXT NOT NULL UNIQUE,
    started_at REAL NOT NULL, finished_at REAL, state TEXT NOT NULL,
    base_branch TEXT NOT NULL, base_commit TEXT NOT NULL, isolation_level TEXT NOT NULL,
    workers INTEGER NOT NULL, command_line TEXT NOT NULL,
    pid INTEGER NOT NULL, boot_id TEXT NOT NULL, host TEXT NOT NULL, process_started REAL NOT NULL
);
CREATE INDEX runs_by_time ON runs (started_at);
CREATE TABLE attempts (
    id INTEGER PRIMARY KEY, run_id TEXT NOT NULL, task_id TEXT NOT NULL, attempt INTEGER NOT NULL,
    description TEXT NOT NULL, started_at REAL NOT NULL, finished_at REAL, outcome TEXT,
    exit_code INTEGER, error_message TEXT, branch TEXT, base TEXT, "commit" TEXT, path TEXT, log TEXT,
    backend TEXT NOT NULL, duration_seconds REAL, notes TEXT NOT NULL,
    UNIQUE (run_id, task_id, attempt)
);
CREATE INDEX attempts_by_task ON attempts (task_id, started_at);
CREATE TABLE events (
    id INTEGER PRIMARY KEY, run_id TEXT NOT NULL,
    kind TEXT NOT NULL, at REAL NOT NULL, data TEXT NOT NULL
);
PRAGMA user_version = 1;
PRAGMA journal_mode = WAL;
INSERT INTO runs VALUES (1, 'r-1', 1000.5, NULL, 'running', 'main', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'full',
    4, 'moderator run tasks.yaml', 4242, 'boot', 'here', 999.25);
INSERT INTO runs VALUES (2, 'r-2', 1000.5, 2.5, 'finished', 'main', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'full',
    4, 'moderator run tasks.yaml', 4242, 'boot', 'here', 999.25);
INSERT INTO attempts VALUES (1, 'r-1', 'task_001', 1, 'Do it', 1001.0, NULL, NULL, NULL, NULL, 'main-task-task-001',
    'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', NULL, '/srv/task_001', '/state/task_001/output.log', 'shell', NULL, '[]');
INSERT INTO events VALUES (1, 'r-1', 'began', 1.5, '{}');
"""
"""What the statements of the first version made, word for word, with two runs in it."""


# Going on with a run


def test_the_runs_of_a_file_are_found(store: Store) -> None:
    """A run belongs to the file that listed its tasks, runs from no file to none; the last to come is first, whatever the clock."""
    odd = "/srv/" + os.fsdecode(b"\xff.yaml")
    for number, source in enumerate(("/srv/a", "/srv/b", "/srv/a", "", odd)):
        store.begin_run(replace(RUN, run_id=f"r-{number}", source=source, started_at=float(-number)))
    found = {name: [run.run_id for run in store.runs_of(name)] for name in ("/srv/a", "/srv/b", odd, "", "/srv/c")}
    assert found == {"/srv/a": ["r-2", "r-0"], "/srv/b": ["r-1"], odd: ["r-4"], "": [], "/srv/c": []}
    assert [run.run_id for run in store.runs_of("/srv/a", 1)] == ["r-2"]


def test_a_run_begins_beside_those_it_knows_of(store: Store) -> None:
    """A run of the same file that began, ended or changed hands since `running` was asked keeps it from beginning, no other."""
    first, second = replace(RUN, source="/srv/a"), replace(RUN, run_id="r-2", source="/srv/a")
    nobody = store.running("/srv/a")
    assert (nobody, store.running("")) == ([], [])
    assert store.begin_run(first, nobody)
    assert not store.begin_run(second, nobody)
    assert store.begin_run(replace(RUN, run_id="r-3", source="/srv/b"), nobody)
    assert store.begin_run(replace(RUN, run_id="r-4"), [])
    seen = store.running("/srv/a")
    assert [run.run_id for run in seen] == ["r-1"]
    assert store.take_over(seen[0], replace(first, pid=99))
    assert not store.begin_run(second, seen)
    assert store.begin_run(second, store.running("/srv/a"))
    assert [run.run_id for run in store.runs_of("/srv/a")] == ["r-2", "r-1"]


def test_of_many_processes_that_begin_a_run_of_one_file_one_does(path: Path) -> None:
    """However they fall together, exactly one is told that its run has begun."""
    Store(path).close()
    script = """
from dataclasses import replace
from moderator.store import RunRecord
run = RunRecord(f"r-{os.getpid()}", 1.0, None, "running", "main", "a" * 40, "full", 1, "", 1, "", "", 0.0, "/srv/a")
with Store(path) as store:
    beside = store.running("/srv/a")
    print("ready", flush=True)
    sys.stdin.readline()
    print(store.begin_run(run, beside), run.run_id)
"""
    answers = [line.split() for line in finish([python(script, path) for _ in range(4)])]
    with Store(path) as store:
        assert [run.run_id for run in store.runs()] == [run_id for begun, run_id in answers if begun == "True"]
        assert len(store.runs()) == 1


def test_a_run_goes_on_in_another_process_once(store: Store) -> None:
    """Whoever has seen the run as it was takes it over; whoever comes later is told that it changed.

    An attempt that died with the process before is ended; one that had ended stays as it is.
    """
    ended = replace(RUN, state="interrupted", finished_at=1100.0)
    store.begin_run(ended)
    store.begin_attempt(ATTEMPT)
    store.finish_attempt(result(task_id="task_002"), 1005.0)
    (found,) = store.runs()
    first = replace(RUN, run_id="ignored", pid=1, boot_id="b", host="h", process_started=2.0, workers=2, started_at=7.0)
    assert store.take_over(found, first)
    assert not store.take_over(found, replace(first, pid=3))
    assert store.runs() == [
        replace(
            RUN, state="running", finished_at=None, pid=1, boot_id="b", host="h", process_started=2.0, workers=2,
            tasks=2, succeeded=1,
        )
    ]  # fmt: skip
    assert [(one.task_id, one.outcome, one.error_message) for one in store.attempts()] == [
        ("task_001", "cancelled", "its run was cut short"), ("task_002", "succeeded", None),
    ]  # fmt: skip


def test_a_run_that_was_interrupted_again_is_another(store: Store) -> None:
    """Whoever saw it after the first interruption is too late after the second, even in the same process."""
    store.begin_run(RUN)
    store.finish_run("r-1", "interrupted", 1100.0)
    (found,) = store.runs()
    assert store.take_over(found, RUN)
    store.finish_run("r-1", "interrupted", 1200.0)
    assert not store.take_over(found, RUN)
    (newer,) = store.runs()
    assert store.take_over(newer, RUN)


def test_of_many_processes_that_take_over_one_run_one_does(path: Path) -> None:
    """However they fall together, exactly one is told that the run is its own."""
    with Store(path) as store:
        store.begin_run(RUN)
    script = """
from dataclasses import replace
with Store(path) as store:
    (found,) = store.runs()
    print("ready", flush=True)
    sys.stdin.readline()
    print(store.take_over(found, replace(found, pid=os.getpid())), os.getpid())
"""
    answers = [line.split() for line in finish([python(script, path) for _ in range(4)])]
    winners = [int(pid) for taken, pid in answers if taken == "True"]
    with Store(path) as store:
        assert [run.pid for run in store.runs()] == winners
    assert len(winners) == 1


def test_the_last_attempts_are_those_of_the_run_and_then_of_those_it_follows(store: Store) -> None:
    """Each task's newest attempt, by number; what a run took for done comes from before; a circle ends."""
    for run_id, follows in (("r-1", ""), ("r-2", "r-1"), ("r-3", "r-2"), ("circle", "circle")):
        store.begin_run(replace(RUN, run_id=run_id, follows=follows))
    for run_id, task_id, attempt in (
        ("r-1", "a", 1), ("r-1", "b", 2), ("r-1", "b", 1), ("r-2", "b", 1), ("r-3", "c", 1), ("circle", "d", 1),
    ):  # fmt: skip
        store.begin_attempt(replace(ATTEMPT, run_id=run_id, task_id=task_id, attempt=attempt))

    def last(run_id: str) -> dict[str, tuple[str, int]]:
        found = store.attempts_up_to(store.run(run_id))
        return {task_id: (one.run_id, one.attempt) for task_id, one in found.items()}

    assert last("r-1") == {"a": ("r-1", 1), "b": ("r-1", 2)}
    assert last("r-3") == {"a": ("r-1", 1), "b": ("r-2", 1), "c": ("r-3", 1)}
    assert last("circle") == {"d": ("circle", 1)}


def test_what_somebody_else_held_is_no_attempt_of_the_run(store: Store) -> None:
    """Such an attempt is in the history and tells nothing of the task, unless the run had begun it before."""
    for run_id, follows in (("r-1", ""), ("r-2", "r-1")):
        store.begin_run(replace(RUN, run_id=run_id, follows=follows))
    store.begin_attempt(replace(ATTEMPT, task_id="task_001", run_id="r-1"))
    for task_id, attempt, held in (("task_001", 1, True), ("task_002", 1, False), ("task_002", 2, True)):
        store.begin_attempt(replace(ATTEMPT, run_id="r-2", task_id=task_id, attempt=attempt))
        store.finish_attempt(replace(result(task_id=task_id, attempt=attempt), run_id="r-2"), 1005.0, held)
    found = store.attempts_up_to(store.run("r-2"))
    assert {one.task_id: (one.run_id, one.attempt, one.held) for one in found.values()} == {
        "task_001": ("r-1", 1, False), "task_002": ("r-2", 2, True),
    }  # fmt: skip
    assert [one.held for one in store.attempts("r-2")] == [True, False, True]


# Speed


def test_a_large_record_opens_at_once_and_knows_the_last_attempts(path: Path) -> None:
    """With a hundred thousand attempts, opening takes milliseconds and the last attempts of a thousand tasks a blink."""
    with Store(path), raw(path) as connection:
        connection.execute(
            """WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < 99999)
            INSERT INTO attempts (run_id, task_id, attempt, description, started_at, backend, notes)
            SELECT n / 1000, 'task ' || (n % 1000), 1, hex(zeroblob(100)), n, 'shell', '[]' FROM n"""
        )
    begun = time.perf_counter()
    with Store(path) as store:
        opened = time.perf_counter()
        last = store.last_attempts()
        read = time.perf_counter()
    assert {attempt.run_id for attempt in last.values()} == {"99"}
    assert len(last) == 1000
    assert opened - begun < 0.2
    assert read - opened < 1.0
