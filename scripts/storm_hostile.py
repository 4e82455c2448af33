"""Hostile tasks and machines: each scenario spoils something, and everything that follows must be told clearly.

No traceback, no exit code 5, the other tasks finish, nothing is lost, `doctor` has an answer and the next command works.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import storm_ground
from storm_ground import Ledger, Options, Row, bad_ending, moderator, plain_git, processes_of_runs

from repos import make_repository
from unsaved import COMMITS


class Skipped(Exception):
    """This machine cannot show the scenario."""


@dataclass
class Yard:
    """A repository, what its tasks wrote, and what went wrong."""

    folder: Path
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.repository = make_repository(self.folder / "repo", COMMITS)
        self.tasks_folder = self.folder / "repo.moderator" / "tasks"
        self.journal = self.folder / "journal"
        self.journal.touch()
        self.ledger = Ledger(self.repository)

    def workspace(self, task_id: str) -> Path:
        return self.tasks_folder / task_id

    def tasks(self, **scripts: str) -> Path:
        """Write a task list; `note` in a script writes a file that must never be lost."""
        functions = (
            'note() { c="$MODERATOR_TASK_ID $1 $$ $(date +%s%N)"; printf "%s" "$c" > "$1" && '
            f'printf "%s\\n" "$c" >> "{self.journal}"; }}; '
        )
        listed = [{"id": name, "description": f"Do {name}", "run": functions + run} for name, run in scripts.items()]
        path = self.folder / "tasks.yaml"
        path.write_text(json.dumps({"tasks": listed}))
        return path

    def run(
        self, *arguments: str, allowed: tuple[int, ...] = (1,), limits: Callable[[], None] | None = None, **scripts: str
    ) -> str:
        """Run tasks; return everything that was printed."""
        path = self.tasks(**scripts) if scripts else self.folder / "tasks.yaml"
        done = subprocess.run(
            [*storm_ground.COMMAND, "run", str(path), "--progress", "none", *arguments], cwd=self.repository, text=True,
            errors="replace", capture_output=True, stdin=subprocess.DEVNULL, preexec_fn=limits, timeout=120,
        )  # fmt: skip
        self.expect(done, *allowed)
        return done.stdout + done.stderr

    def call(self, *arguments: str, allowed: tuple[int, ...] = (), **variables: str) -> str:
        done = moderator(self.repository, *arguments, **variables)
        self.expect(done, *allowed)
        return done.stdout + done.stderr

    def expect(self, done: subprocess.CompletedProcess[str], *allowed: int) -> None:
        if wrong := bad_ending(done, *allowed):
            self.wrong.append(wrong)

    def require(self, holds: object, sentence: str) -> None:
        if not holds:
            self.wrong.append(f"not so: {sentence}")

    def finished(self, *task_ids: str) -> None:
        """Require that these tasks ended well: each has a commit of ours on its branch."""
        for task_id in task_ids:
            subject = plain_git(self.repository, "log", "-1", "--format=%s", f"main-task-{task_id}", "--", fails=True)
            self.require(
                subject.decode().strip() == f"Do {task_id}", f"task {task_id!r} finished beside the hostile one"
            )

    def aftermath(self, *also: Path, mended: bool = True) -> None:
        """What any person would type next, and the ledger."""
        self.call("list", allowed=(0, 3, 4))
        self.call("doctor", allowed=(1, 3, 4))
        self.call("doctor", "--fix", allowed=(1, 3, 4))
        left = () if mended else (4,)  # what nobody can read is listed as such
        self.call("list", allowed=left)
        self.call("clean", "--all", allowed=(3, 4, 75))
        self.call("list", allowed=left)
        if mended:
            self.run("--fresh", afterwards="note later")
            self.finished("afterwards")
        for line in self.journal.read_text().splitlines():
            self.ledger.note_bytes(line.split()[0], line.encode(), line)
        places = [place for place in (self.folder / "repo.moderator", *also) if place.exists()]
        self.lost += [f"{owner}: {one}" for owner, lost in self.ledger.missing(*places).items() for one in lost]
        deadline = time.monotonic() + 10
        while (orphans := processes_of_runs(self.folder)) and time.monotonic() < deadline:
            time.sleep(0.05)
        self.wrong += [f"process {pid} still runs: {what}" for pid, what in orphans.items()]


SCENARIOS: dict[str, Callable[[Yard], None]] = {}


def _scenario(name: str) -> Callable[[Callable[[Yard], None]], Callable[[Yard], None]]:
    def register(play: Callable[[Yard], None]) -> Callable[[Yard], None]:
        SCENARIOS[name] = play
        return play

    return register


# -- tasks ----------------------------------------------------------------------------------------------------------

_GOOD = {"first": "note a", "last": "sleep 0.2; note b"}


def _hostile(
    name: str, script: str, *also: str, fails: tuple[int, ...] = (1,), beside: tuple[str, ...] = ("first", "last")
) -> None:
    """Register a scenario of one hostile task between two good ones; `beside` are those that can finish all the same."""

    def play(yard: Yard) -> None:
        yard.run(allowed=fails, first=_GOOD["first"], hostile=script, last=_GOOD["last"])
        yard.finished(*beside)
        yard.aftermath(*(yard.folder / place for place in also))

    _scenario(name)(play)


_hostile("a task deletes its own workspace", 'cd /; rm -rf "$MODERATOR_WORKSPACE"')
_hostile(
    "a task deletes its workspace and makes an empty one",
    'cd /; rm -rf "$MODERATOR_WORKSPACE"; mkdir "$MODERATOR_WORKSPACE"',
)
_hostile("a task moves its workspace away", 'note a; cd /; mv "$MODERATOR_WORKSPACE" "$MODERATOR_WORKSPACE-moved"')
_hostile("a task deletes its .git file", "note a; rm .git")
_hostile(
    "a task makes its workspace a repository of its own",
    "rm .git; git init -q .; note a; git add -A; git commit -qm mine",
)
_hostile("a task points its .git file elsewhere", "note a; echo 'gitdir: /nowhere' > .git")
_hostile("a task points its .git file at a colleague", "note a; cat ../first/.git > .git")
_hostile("a task takes away all rights", "note a; chmod 000 a .")
_hostile("a task puts a link in place of its workspace", "note a; cd ..; mv hostile elsewhere; ln -s elsewhere hostile")
_hostile("a task leaves a daemon", "note a; setsid sleep 20 & (setsid nohup sleep 21 >/dev/null 2>&1 &)")
_hostile("a task sets core.bare", "note a; git config core.bare true")
_hostile("a task sets core.worktree", "note a; git config core.worktree /nowhere")
_hostile(
    "a task prunes its colleagues",
    "note a; git worktree prune; git worktree list --porcelain | sed -n 's/^worktree //p' | "
    'while read -r tree; do git worktree unlock "$tree" 2>/dev/null; done; git worktree prune',
)
_hostile("a task deletes its entry", 'note a; rm -rf "$(git rev-parse --absolute-git-dir)"')
_hostile("a task deletes its branch", "note a; git update-ref -d HEAD")
_hostile("a task leaves an index lock", 'note a; touch "$(git rev-parse --absolute-git-dir)/index.lock"')
_hostile(
    "a task lives in the past and the future",
    "note a; note b; touch -d '2035-01-01' a; touch -d '1975-01-01' b README.md",
)
_hostile(
    "a task deletes the records of all",
    'note a; rm -rf "$(git rev-parse --git-common-dir)/moderator/workspaces"',
    fails=(1, 3, 4),
    beside=(),
)


@_scenario("a task breaks the shared configuration")
def _broken_configuration(yard: Yard) -> None:
    """Git itself does nothing any more, so nobody can finish; what is asked is clear words, and that a person can mend it."""
    yard.run(
        allowed=(1, 4), first=_GOOD["first"], last=_GOOD["last"],
        hostile='note a; echo "[broken" >> "$(git rev-parse --git-common-dir)/config"',
    )  # fmt: skip
    for arguments in (["list"], ["doctor"], ["clean", "--all"], ["run", "--resume", str(yard.folder / "tasks.yaml")]):
        said = yard.call(*arguments, allowed=(1, 3, 4))
        yard.require("config" in said, f"{arguments[0]} names the configuration: {said[-300:]}")
    config = yard.repository / ".git/config"
    config.write_text(config.read_text().replace("[broken\n", ""))
    yard.run("--fresh", hostile="note a", **_GOOD)
    yard.finished("first", "hostile", "last")
    yard.aftermath()


@_scenario("a directory of workspaces that is a link")
def _linked_root(yard: Yard) -> None:
    elsewhere = yard.folder / "elsewhere"
    elsewhere.mkdir()
    yard.tasks_folder.parent.mkdir()
    yard.tasks_folder.symlink_to(elsewhere)
    yard.run(allowed=(1, 3, 4), **_GOOD)
    yard.call("clean", "--all", allowed=(3,))
    yard.aftermath(elsewhere, mended=False)


@_scenario("a link where a workspace should be")
def _linked_workspace(yard: Yard) -> None:
    victim = yard.folder / "victim"
    victim.mkdir()
    (victim / "file").write_text("somebody else's")
    yard.tasks_folder.mkdir(parents=True)
    yard.workspace("first").symlink_to(victim)
    yard.run(allowed=(1, 3), **_GOOD)
    yard.require((victim / "file").read_text() == "somebody else's", "what the link led to is untouched")
    yard.aftermath()
    yard.require((victim / "file").exists(), "what the link led to is still there")


@_scenario("a link in place of a workspace that was removed")
def _linked_after_removal(yard: Yard) -> None:
    yard.run(**_GOOD)
    yard.call("clean", "--all")
    victim = yard.folder / "victim"
    victim.mkdir()
    yard.workspace("last").parent.mkdir(exist_ok=True)
    yard.workspace("last").symlink_to(victim)
    yard.call("undo", allowed=(2, 3, 4))
    yard.require(list(victim.iterdir()) == [], "nothing was written through the link")
    yard.aftermath()


@_scenario("a state directory that is a file")
def _state_is_a_file(yard: Yard) -> None:
    ours = yard.repository / ".git/moderator"
    ours.mkdir()
    (ours / "state").write_text("in the way")
    yard.run(allowed=(1, 3, 4), **_GOOD)
    yard.require((ours / "state").read_text() == "in the way", "the file is untouched")
    (ours / "state").unlink()
    yard.aftermath()


# -- records --------------------------------------------------------------------------------------------------------


def _killed_run(yard: Yard) -> None:
    """Leave a run behind whose moderator and tasks were killed in the middle."""
    path = yard.tasks(first="note a", slow="note b; sleep 30", last="note c")
    process = subprocess.Popen(
        [*storm_ground.COMMAND, "run", str(path), "--progress", "none"], cwd=yard.repository,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 30
    while " b " not in yard.journal.read_text() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    while processes_of_runs(yard.folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    yard.tasks(first="note a", slow="note b", last="note c")


def _rebooted(yard: Yard, boot_id: str | None, **values: object) -> None:
    """Rewrite what was written about processes, as another boot would have."""
    ours = yard.repository / ".git/moderator"
    for place in (ours / "leases").glob("*.lock"):
        with contextlib.suppress(ValueError):
            owner = json.loads(place.read_bytes())
            place.write_text(json.dumps({**owner, **values, **({"boot_id": boot_id} if boot_id else {})}))
    with contextlib.closing(sqlite3.connect(ours / "history.db")) as database, database:
        if boot_id:
            database.execute("UPDATE runs SET boot_id = ?", (boot_id,))
        if "pid" in values:
            database.execute("UPDATE runs SET pid = ?", (values["pid"],))


def _resumed(yard: Yard) -> None:
    yard.run("--resume")
    yard.finished("first", "slow", "last")
    yard.aftermath()


@_scenario("a killed run")
def _only_killed(yard: Yard) -> None:
    _killed_run(yard)
    _resumed(yard)


@_scenario("a rebooted machine")
def _reboot(yard: Yard) -> None:
    _killed_run(yard)
    _rebooted(yard, "00000000-1111-2222-3333-444444444444")
    _resumed(yard)


@_scenario("a rebooted machine, pids reused")
def _reboot_reused(yard: Yard) -> None:
    _killed_run(yard)
    _rebooted(yard, "00000000-1111-2222-3333-444444444444", pid=os.getpid())
    _resumed(yard)


@_scenario("pids reused without a reboot")
def _reused(yard: Yard) -> None:
    _killed_run(yard)
    _rebooted(yard, None, pid=os.getpid())
    _resumed(yard)


def _written_at(yard: Yard, seconds: float) -> None:
    """Let everything that was written down so far be of a time that is so many seconds from now, by the clock of today."""
    ours = yard.repository / ".git/moderator"
    for place in (ours / "workspaces").glob("*.json"):
        record = json.loads(place.read_bytes())
        place.write_text(json.dumps({**record, "created_at": record["created_at"] + seconds}))
    with contextlib.closing(sqlite3.connect(ours / "history.db")) as database, database:
        for table in ("runs", "attempts"):
            database.execute(
                f"UPDATE {table} SET started_at = started_at + ?, finished_at = finished_at + ?", (seconds, seconds)
            )
    for place in [*ours.rglob("*"), *yard.tasks_folder.rglob("*")]:
        if place.is_file():
            os.utime(place, (place.stat().st_mtime + seconds,) * 2)


def _jumped(yard: Yard, seconds: float) -> None:
    """A clock that jumps while a run is cut short, and while what is in no commit waits in a workspace and in the trash."""
    _killed_run(yard)
    _written_at(yard, seconds)
    yard.run("--resume")
    yard.finished("first", "slow", "last")
    yard.run("--fresh")
    yard.finished("first", "slow", "last")
    (yard.workspace("first") / "more").write_text("more")
    yard.ledger.note_bytes("first", b"more", "more")
    yard.call("clean", "last")
    _written_at(yard, seconds)
    yard.call("list")
    yard.call("undo", allowed=(2, 3))
    yard.call("clean", "--older-than", "1d", allowed=(3,))
    newest = json.loads(moderator(yard.repository, "history", "--json").stdout)["runs"]
    yard.require(len(newest) == 2, f"both runs are in the history: {[run['run_id'] for run in newest]}")
    yard.aftermath()


@_scenario("a clock that jumped back")
def _clock_back(yard: Yard) -> None:
    _jumped(yard, 1e8)


@_scenario("a clock that jumped forwards")
def _clock_forwards(yard: Yard) -> None:
    _jumped(yard, -1e8)


@_scenario("a record cut short")
def _cut(yard: Yard) -> None:
    yard.run(**_GOOD)
    (place,) = (yard.repository / ".git/moderator/workspaces").glob("first.json")
    text = place.read_bytes()[:40]
    place.write_bytes(text)
    yard.call("list", allowed=(4,))
    yard.call("clean", "--all", allowed=(3, 4))
    yard.require(place.read_bytes() == text, "a record that cannot be read is left as it is")
    yard.require((yard.workspace("first") / "a").exists(), "its workspace is left too")
    yard.aftermath(mended=False)


@_scenario("a history that is no database")
def _no_database(yard: Yard) -> None:
    yard.run(**_GOOD)
    place = yard.repository / ".git/moderator/history.db"
    for name in ("history.db-wal", "history.db-shm"):
        place.with_name(name).unlink(missing_ok=True)
    place.write_text("no database")
    yard.call("history", allowed=(4,))
    yard.run("--resume", allowed=(1, 3, 4))
    yard.require(place.read_text() == "no database", "what cannot be read is not overwritten")
    yard.aftermath(mended=False)


# -- machines -------------------------------------------------------------------------------------------------------


@_scenario("few file handles")
def _handles(yard: Yard) -> None:
    for most in (14, 24, 48):
        yard.run(
            "--fresh", allowed=(1, 3, 4), limits=lambda most=most: resource.setrlimit(resource.RLIMIT_NOFILE, (most, most)),
            **_GOOD, third="note c", fourth="note d",
        )  # fmt: skip
    yard.aftermath()


@_scenario("small files only")
def _file_size(yard: Yard) -> None:
    limit = 200_000
    yard.run(
        allowed=(1, 4), limits=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        first="note a", hostile="note b; head -c 1000000 /dev/urandom > big", loud="head -c 1000000 /dev/zero | tr '\\0' x; note c",
    )  # fmt: skip
    yard.aftermath()


def _inside(yard: Yard, mounting: str, inner: str) -> None:
    """Go on in a mount namespace of our own, where `mounting` was done to the folder `disk`."""
    disk = yard.folder / "disk"
    disk.mkdir()
    unshare = shutil.which("unshare")
    if not unshare or subprocess.run([unshare, "-Urm", "true"], capture_output=True).returncode:
        raise Skipped("unshare(1) cannot make a mount namespace here")
    script = f'set -e; {mounting.replace("DISK", str(disk))}; exec "$@"'
    line = [unshare, "-Urm", "sh", "-c", script, "sh", sys.executable, __file__, inner, str(disk)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=280)
    try:
        said = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        raise AssertionError(f"the inner scenario said nothing: {done.stdout}{done.stderr}"[-800:]) from None
    yard.wrong += said["wrong"]
    yard.lost += said["lost"]


INNER: dict[str, Callable[[Yard], None]] = {}


@_scenario("a full disk")
def _full(yard: Yard) -> None:
    _inside(yard, "mount -t tmpfs -o size=6m tmpfs DISK", "full")


def _full_inside(yard: Yard) -> None:
    yard.run(
        "-j",
        "1",
        allowed=(1, 4),
        first="note a",
        hostile="note b; head -c 50000000 /dev/zero > big; true",
        last="note c",
    )
    yard.call("list", allowed=(4,))
    yard.call("doctor", allowed=(1, 3, 4))
    yard.call("clean", "hostile", allowed=(2, 3, 4))
    yard.call("clean", "--all", allowed=(3, 4))
    for place in (yard.folder / "repo.moderator").rglob("big"):
        place.unlink()
    yard.run("--resume", allowed=(1, 3), first="note a", hostile="note b", last="note c")
    yard.aftermath()


@_scenario("a disk that was full from the start")
def _full_before(yard: Yard) -> None:
    _inside(yard, "mount -t tmpfs -o size=6m tmpfs DISK", "full before")


def _full_before_inside(yard: Yard) -> None:
    yard.tasks(**_GOOD)
    stuffing = yard.folder / "stuffing"
    with contextlib.suppress(OSError), stuffing.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    yard.run(allowed=(1, 3, 4))
    yard.call("clean", "--all", allowed=(3, 4))
    stuffing.unlink()
    yard.run("--fresh")
    yard.finished("first", "last")
    yard.aftermath()


@_scenario("removal on a full disk")
def _full_removal(yard: Yard) -> None:
    _inside(yard, "mount -t tmpfs -o size=8m tmpfs DISK", "full removal")


def _full_removal_inside(yard: Yard) -> None:
    yard.run(**_GOOD)
    (yard.workspace("first") / "unsaved").write_text("unsaved work")
    yard.ledger.note_bytes("first", b"unsaved work", "unsaved")
    stuffing = yard.folder / "stuffing"
    with contextlib.suppress(OSError), stuffing.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    yard.call("clean", "--all", allowed=(3, 4))
    yard.call("undo", allowed=(2, 3, 4))
    stuffing.unlink()
    yard.aftermath()


@_scenario("a read-only place for workspaces")
def _read_only(yard: Yard) -> None:
    _inside(yard, "true", "read-only")


@contextlib.contextmanager
def _read_only_mount(place: Path) -> Iterator[None]:
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "--bind", str(place), str(place)], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def _read_only_inside(yard: Yard) -> None:
    with _read_only_mount(yard.folder / "repo.moderator"):
        yard.run(allowed=(1, 3, 4), **_GOOD)
        yard.call("doctor", allowed=(1, 3, 4))
    yard.run("--fresh", **_GOOD)
    yard.finished("first", "last")
    (yard.workspace("first") / "unsaved").write_text("unsaved work")
    yard.ledger.note_bytes("first", b"unsaved work", "unsaved")
    with _read_only_mount(yard.folder / "repo.moderator"):
        yard.call("clean", "--all", allowed=(3, 4))
    with _read_only_mount(yard.repository / ".git"):
        yard.call("list", allowed=(4,))
        yard.call("clean", "--all", allowed=(3, 4))
        yard.run("--fresh", allowed=(1, 3, 4))
        yard.call("doctor", "--fix", allowed=(1, 3, 4))
    yard.aftermath()


INNER |= {
    "full": _full_inside,
    "full before": _full_before_inside,
    "full removal": _full_removal_inside,
    "read-only": _read_only_inside,
}


# -- the whole ------------------------------------------------------------------------------------------------------


def play(folder: Path, name: str) -> Row:
    """Play one scenario in a folder of its own."""
    row = Row("hostile tasks and machines", 1)
    folder.mkdir(parents=True)
    yard = Yard(folder)
    try:
        SCENARIOS[name](yard)
    except Skipped as reason:
        row.note = f"{name}: {reason}"
    except (AssertionError, OSError, ValueError, subprocess.SubprocessError) as error:
        yard.wrong.append(f"the attack itself failed: {error!r}"[:1500])
    row.losses = [f"{name}: {one}" for one in yard.lost]
    row.failures = [f"{name}: {one}" for one in yard.wrong]
    row.creations = len(set(yard.journal.read_text().splitlines()))
    for pid in processes_of_runs(folder):
        with contextlib.suppress(OSError):
            os.kill(pid, 9)
    subprocess.run(["chmod", "-R", "u+rwX", str(folder)], capture_output=True)
    subprocess.run(["rm", "-rf", str(folder)], check=False)
    return row


def _play(folder: str, name: str) -> Row:
    return play(Path(folder), name)


def hostile(folder: Path, options: Options) -> Row:
    """Play every scenario."""
    total = Row("hostile tasks and machines")
    skipped = []
    step = 1 if options.share > storm_ground.SMOKE else 20
    calls = [(str(folder / f"hostile-{number}"), name) for number, name in enumerate(SCENARIOS)][::step]
    for row in storm_ground.in_parallel(options.jobs, _play, calls):
        skipped += [row.note] if row.note else []
        row.note = ""
        total.add(row)
    total.note = f"skipped: {'; '.join(skipped)}" if skipped else ""
    options.say(f"hostile: {total.count} scenarios, {len(total.losses)} losses, {len(total.failures)} failures")
    return total


def _inner(name: str, disk: str) -> None:
    yard = Yard(Path(disk))
    INNER[name](yard)
    print(json.dumps({"wrong": yard.wrong, "lost": yard.lost}))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("run scripts/storm hostile")
    _inner(*sys.argv[1:])
