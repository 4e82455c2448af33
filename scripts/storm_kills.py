"""The kill storm: `moderator` is killed at random moments and at every step, and called again until it is through.

Mostly by SIGKILL; by SIGTERM, at which it ends in order, for the rest.  Nothing of ours is replaced: the command runs in a process
whose audit hook counts changes of the disk, git commands that make one, and statements to the database, and which kills itself
right before one of them.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

import storm_ground
from storm_ground import Ledger, Options, Row, bad_ending, plain_git, processes_of_runs, unsound, wait_for_tidying

from repos import git, make_repository
from unsaved import COMMITS

DRIVER = """
import os, signal, sys, threading
last, where, number = (os.environ.pop(f"STORM_{name}") for name in ("LAST", "PLACE", "SIGNAL"))
from moderator.cli import main
import moderator.cli.run, sqlite3
CHANGES = {"os.rename", "os.link", "os.mkdir", "os.rmdir", "os.remove", "os.truncate", "shutil.rmtree", "os.symlink"}
COMMANDS = {"update-ref", "read-tree", "worktree", "commit-tree", "write-tree", "hash-object", "update-index", "add", "commit"}
words, steps, guard, young = last.split(), 0, threading.RLock(), []

def step(text):
    global steps
    with guard:
        steps += 1
        if steps == int(last) if last.isdigit() else all(word in text for word in words):
            with open(where, "a") as place:
                place.write(text[:300] + chr(10))
            os.kill(os.getpid(), int(number))

def listen(connection):
    try:
        connection.set_trace_callback(lambda statement: step(f"sql {statement}"))
    except sqlite3.Error:  # not ready yet, or another thread's
        return
    young.remove(connection)

def watch(event, arguments):
    for connection in list(young):
        listen(connection)
    if event == "open":
        if isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            if arguments[0] not in (os.devnull, where):
                step(f"open {arguments[0]}")
    elif event in CHANGES:
        step(" ".join(map(str, (event, *arguments[:2]))))
    elif event == "subprocess.Popen":
        if COMMANDS & set(map(str, arguments[1])):
            step(f"subprocess.Popen {' '.join(map(str, arguments[1]))}")
    elif event == "sqlite3.connect/handle":
        young.append(arguments[0])

sys.addaudithook(watch)
sys.argv[0] = "moderator"
try:
    main()
finally:
    with open(where, "a") as place:
        place.write(f"steps {steps}" + chr(10))
"""

NAMED = [
    "os.link workspaces/.", "os.mkdir staging", "os.rename staging", "subprocess.Popen read-tree", "os.rename .new",
    "subprocess.Popen commit-tree", "subprocess.Popen write-tree", "sql INSERT", "sql UPDATE", "sql COMMIT",
    "open output.log",
]  # fmt: skip
NAMED_REMOVING = [
    "os.rename .trash", "os.rename worktrees", "os.rename moderator/trash", "moderator/removed", "os.remove workspaces",
    "shutil.rmtree", "os.rename .deleting", "subprocess.Popen update-ref", "subprocess.Popen commit-tree", "os.mkdir .trash",
]  # fmt: skip
"""Words of the steps that the protocols are made of: what the process is about to do when it is killed."""

_NOTE = (
    'f="note-$MODERATOR_ATTEMPT-$$-$(date +%s%N)"; c="$MODERATOR_TASK_ID $MODERATOR_RUN $f"; '
    'printf "%s" "$c" > "$f"; printf "%s\\n" "$c" >> "$STORM_JOURNAL"; '
)
_DONE = 'echo "$MODERATOR_TASK_ID" >> done.txt'
TASKS = {
    "writes": f"{_NOTE} {_DONE}",
    "commits": f"{_NOTE} git add -A; git commit -qm own; {_DONE}",
    "sleeps": f"{_NOTE} sleep 0.2; {_DONE}; sleep 0.1",
    "fails": f"{_NOTE} echo half > half.txt; exit 7",
}
GOOD = ("writes", "commits", "sleeps")
_IN_ORDER = 0.3  # of the kills, by SIGTERM
_KILLED = (-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM)
"""How a command ends that was killed: that it heeds SIGTERM it says only once it has begun."""


class Victim:
    """A repository with a list of tasks, and the command that is killed over and over."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.chance = random.Random(seed)
        self.repository = make_repository(folder / "repo", COMMITS)
        self.base = git(self.repository, "rev-parse", "HEAD")
        self.journal, self.place = folder / "journal", folder / "place"
        self.journal.touch()
        self.tasks = folder / "tasks.yaml"
        listed = [{"id": task_id, "description": f"Do {task_id}", "run": run} for task_id, run in TASKS.items()]
        self.tasks.write_text(json.dumps({"tasks": listed}))
        self.kills: list[str] = []
        self.ledger = Ledger(self.repository)
        self.commands = 0

    def call(self, *arguments: str, last: str = "0") -> subprocess.CompletedProcess[str]:
        """Run a command line, to be killed right before the step `last`, or after so many seconds ("0.25s")."""
        self.commands += 1
        after = float(last[:-1]) if last.endswith("s") and last[0].isdigit() else None
        number = signal.SIGTERM if self.chance.random() < _IN_ORDER else signal.SIGKILL
        environment = {
            "STORM_JOURNAL": str(self.journal),
            "STORM_LAST": "0" if after else last,
            "STORM_PLACE": str(self.place),
            "STORM_SIGNAL": str(int(number)),
        }
        process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, *arguments], cwd=self.repository, env={**os.environ, **environment},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
        )  # fmt: skip
        try:
            out, err = process.communicate(timeout=after or 120)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL if after is None else number)
            out, err = process.communicate(timeout=120)
            if after is None:
                raise
        if process.returncode in _KILLED:
            told = self.place.read_text().splitlines() if self.place.exists() and not after else []
            about = f" ({told[-1].replace(str(self.folder), '')[:120]})" if told else ""
            self.kills.append(
                f"{' '.join(word for word in arguments if word.isalpha() or word[2:].isalpha())} "
                f"by {number.name} at {last}{about}"
            )
        return subprocess.CompletedProcess(["", "", "", *arguments], process.returncode, out, err)

    def patient(self, *arguments: str, last: str = "0") -> subprocess.CompletedProcess[str]:
        """The same, again while the processes of a killed predecessor still hold something."""
        deadline = time.monotonic() + 20
        while True:
            done = self.call(*arguments, last=last)
            if done.returncode != 75 or time.monotonic() > deadline:
                return done
            time.sleep(0.1)

    def moment(self, named: list[str], most: int = 160) -> str:
        """Return when to kill: mostly at any step, else at a named one or at any time."""
        kind = self.chance.random()
        if kind < 0.6:
            return str(self.chance.randint(1, most))
        return self.chance.choice(named) if kind < 0.8 else f"{self.chance.uniform(0.05, 1.1):.3f}s"


DOCTOR = ("doctor", "--fix")

Phase = tuple[tuple[str, ...], tuple[str, ...], list[str], tuple[int, ...], int]
"""A command, the one to type after a kill, the named steps, the exit codes that are well, and how many kills."""


def storm(folder: str, seed: int, kills: int) -> Row:
    """One repository, `kills` kills in all: a run is resumed to its end, cleaned, brought back, started anew, restored, mended."""
    row = Row("kill storm", 1)
    place = Path(folder)
    place.mkdir(parents=True)
    victim = Victim(place, seed)
    try:
        _attack(victim, kills, row)
    except (AssertionError, OSError, ValueError, subprocess.SubprocessError) as error:
        where = "".join(traceback.format_tb(error.__traceback__)[-3:])
        row.failures.append(f"the attack itself failed: {error} {where}"[:1500])
    row.kills = len(victim.kills)
    row.creations = _attempts(victim)
    row.losses = [f"--seed {seed}: {one}" for one in row.losses]
    row.failures = [f"--seed {seed}: {one}" for one in row.failures]
    for details in (row.losses, row.failures):
        if details:  # once is enough
            details[0] += f"\n    killed: {'; '.join(victim.kills)}"
    subprocess.run(["rm", "-rf", str(place)], check=False)
    return row


def _phases(victim: Victim, kills: int) -> list[Phase]:
    """Half of the kills or nearly so hit a run and its resumption; the rest what follows."""
    run = ("run", str(victim.tasks), "--progress", "none")
    fresh, resume = ("run", "--fresh", *run[1:]), ("run", "--resume", *run[1:])
    restore = ("rescue", "restore", "fails")  # what that task left is rescued by starting anew
    cleaning, both, few = ("clean", "--all"), [*NAMED, *NAMED_REMOVING], kills // 8
    phases = [(run, resume, NAMED, (0, 1), kills - 5 * few)]
    if few:
        phases.append((cleaning, cleaning, NAMED_REMOVING, (0,), few))
        phases.append((("undo",), ("undo",), both, (0, 2), few))
        phases.append((fresh, resume, both, (0, 1), few))
        phases.append((restore, restore, NAMED, (0, 2), few))
        phases.append((cleaning, DOCTOR, both, (0, 3), few))
    return phases


def _attack(victim: Victim, kills: int, row: Row) -> None:
    for first, again, named, allowed, wanted in _phases(victim, kills):
        command, through = first, False
        before = len(victim.kills)
        if again == DOCTOR:  # it has to have something to mend
            victim.patient(*first, last=victim.chance.choice(NAMED_REMOVING))
            command, before = again, len(victim.kills)
        for _ in range(3 * wanted):
            if len(victim.kills) - before >= wanted:
                break
            done = victim.patient(*command, last=victim.moment(named))
            if done.returncode not in _KILLED:
                row.failures += _bad_ending(victim, done, *allowed)
                if through := command[0] == "run":
                    break  # before the moment came
            command = again
        if again == DOCTOR:
            victim.patient(*first, last=victim.moment(named))
            command = again
        if first[0] == "undo":
            done = victim.patient("doctor", "--fix")
            allowed = (0, 1, 3)
        elif not through:
            done = victim.patient(*command)
        row.failures += _bad_ending(victim, done, *allowed)
        judge(victim, row, first, ran=first[0] == "run")


def _bad_ending(victim: Victim, done: subprocess.CompletedProcess[str], *allowed: int) -> list[str]:
    """Return what is wrong with how a command ended, and what the repository says at this moment: later it may be mended."""
    wrong = bad_ending(done, *allowed)
    if not wrong:
        return []
    refs = plain_git(victim.repository, "for-each-ref", "--format=%(refname) %(objectname)", fails=True).decode()
    return ["\n    ".join([wrong, "at this moment:", *unsound(victim.repository), *refs.splitlines()])]


def judge(victim: Victim, row: Row, phase: tuple[str, ...], ran: bool) -> None:
    """Look at what is left when a command has gone through at last."""
    after = f"after {' '.join(phase[:2])}"
    deadline = time.monotonic() + 10
    while (orphans := processes_of_runs(victim.folder)) and time.monotonic() < deadline:
        time.sleep(0.05)
    row.failures += [f"{after}: process {pid} still runs: {what}" for pid, what in orphans.items()]
    wait_for_tidying(victim.folder)
    if problems := unsound(victim.repository):
        fixed = victim.patient("doctor", "--fix")
        problems = unsound(victim.repository)
        row.failures += [f"{after}: {one} (doctor --fix ended with {fixed.returncode})" for one in problems]
    if ran:
        row.failures += [f"{after}: {one}" for one in done_once(victim)]
    note_journal(victim)
    kept = victim.folder / "repo.moderator"
    for owner, lost in victim.ledger.missing(kept if kept.exists() else victim.folder / "nowhere").items():
        row.losses += [f"{after}: {owner}: {one}" for one in lost]


def note_journal(victim: Victim) -> None:
    """Note what tasks said they wrote; they say so after they have."""
    for line in victim.journal.read_text().splitlines():
        victim.ledger.note_bytes(line.split()[0], line.encode(), line)


def done_once(victim: Victim) -> list[str]:
    """Return what is wrong with the branches: each good task has exactly one commit of ours, and did its work once."""
    wrong = []
    for task_id in GOOD:
        branch = f"main-task-{task_id}"
        said = plain_git(
            victim.repository, "log", "--format=%(trailers:key=Moderator-Task,valueonly,separator=%x2C)",
            f"{victim.base}..refs/heads/{branch}", "--", fails=True,
        ).decode().split()  # fmt: skip
        if Counter(said) != {task_id: 1}:
            wrong.append(f"task {task_id!r} has commits of ours: {said}")
        text = plain_git(victim.repository, "show", f"refs/heads/{branch}:done.txt", fails=True).decode()
        if text != f"{task_id}\n":
            wrong.append(f"task {task_id!r} did its work not once: {text!r}")
    return wrong


def _attempts(victim: Victim) -> int:
    return len({line.split()[1] + line.split()[0] for line in victim.journal.read_text().splitlines() if line})


def kills(folder: Path, options: Options, wanted: int = 320, each: int = 16) -> Row:
    """Kill at least `wanted` times (in the long form), on repositories one after the other."""
    total, rounds = Row("kill storm: run, resume, clean, undo, fresh, restore, doctor"), 0
    goal = options.times(wanted)
    while total.kills < goal and rounds < 3 * wanted // each + 3:
        batch = max(1, min(options.jobs, -(-(goal - total.kills) // each)))
        calls = [
            (str(folder / f"kills-{rounds + n}"), options.seed + rounds + n, min(each, goal)) for n in range(batch)
        ]
        rounds += batch
        for row in storm_ground.in_parallel(options.jobs, storm, calls):
            total.add(row)
        options.say(f"kills: {total.kills} of {goal}, {len(total.losses)} losses, {len(total.failures)} failures")
    return total
