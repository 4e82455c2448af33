"""The race storm: processes of ours make, run, commit, clean, bring back and list on one repository, beside loops of plain git.

Ours must never fail, but for what a colleague holds at that moment; plain git's failures are counted apart, for some are its own.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

from storm_ground import Ledger, Options, Row, unsound, wait_for_tidying

from repos import git, make_repository

RACER = """
import json, random, sys, traceback
from pathlib import Path
from moderator.context import ExecutionContext, IsolationLevel
from moderator.errors import ModeratorError, UnknownWorkspace, UsageError, WorkspaceBusy, WorkspaceOccupied, WouldLoseWork
from moderator.git.manager import GitManager
from moderator.models import Task
from moderator.orchestrator import Orchestrator

folder, repository, me, seed, actions, shared = sys.argv[1:]
chance, manager = random.Random(f"{seed}-{me}"), GitManager(repository)
base = ExecutionContext("storm", folder + "/checkouts", "main", folder + "/state")
journal = open(f"{folder}/journal-{me}", "a")
mine, number = set(), 0

def note(path, text):
    path.write_text(text)
    journal.write(text + "\\n"); journal.flush()

def make(task_id):
    context = ExecutionContext.create_isolated_context(base, task_id, IsolationLevel.FULL)
    with manager.create_workspace(context) as workspace:
        note(Path(workspace.path, f"f{chance.randrange(10**9)}"), f"{task_id} {chance.random()}")
        if chance.random() < 0.5:
            manager.commit(workspace, task_id)
    print("created", flush=True)

def run(task_ids):
    write = 'c="%s $$ $(date +%%s%%N)"; printf "%%s" "$c" > note; printf "%%s\\n" "$c" >> "%s"'
    tasks = [Task(task_id, "Do it", run=write % (task_id, f"{folder}/journal-{me}")) for task_id in task_ids]
    config = {"root": f"{folder}/checkouts", "gear3": {"parallel": {"enabled": True, "max_workers": 2}}}
    for result in Orchestrator(config, repository).run(tasks).results:
        if result.success:
            mine.add(result.task.id)
            print("created", flush=True)
        else:
            told = f"{result.outcome.value}: {result.error_message}".replace("\\n", " ")
            print("met" if "shared" in told else "failed", result.task.id, told, flush=True)

def clean(task_id):
    manager.remove_workspace(task_id, rescue=True)

def step():
    global number
    kind, own = chance.random(), shared == "no" or chance.random() < 0.7
    if kind < 0.12:
        number += 2
        own = [f"{me}-{number - 1}", f"{me}-{number}"]
        run(own if shared == "no" else [own[0], f"shared-{chance.randrange(3)}"])
    elif kind < 0.4 or not mine:
        number += 1
        task_id = f"{me}-{number}" if own else f"shared-{chance.randrange(3)}"
        make(task_id)
        mine.add(task_id)
    elif kind < 0.65:
        task_id = chance.choice(sorted(mine))
        mine.discard(task_id)
        clean(task_id)
    elif kind < 0.75:
        task_id = chance.choice(sorted(mine))
        clean(task_id)
        manager.undo_removal(task_id)
    elif kind < 0.85:
        manager.statuses()
    elif kind < 0.95:
        manager.rescues(), manager.removals(), manager.workspaces()
    else:
        manager.empty_trash(0.05)

print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(actions)):
    print("action", flush=True)
    try:
        step()
    except (WorkspaceBusy, UnknownWorkspace, WorkspaceOccupied, UsageError, WouldLoseWork) as error:
        why = "; ".join([error.cause, *getattr(error, "findings", ())])
        said = f"{type(error).__name__}: {error} {why}".replace("\\n", " ")
        colleague = "shared" in said or (shared == "yes" and isinstance(error, WorkspaceBusy))
        print("met" if colleague else "failed", said, flush=True)
    except Exception as error:
        print("failed", type(error).__name__, f"{error} {getattr(error, 'cause', '')}".replace("\\n", " ")[:600],
              traceback.format_exc().replace("\\n", " | ")[-700:], flush=True)
"""

GONE_WHILE_READ = re.compile(
    r"unable to create temporary file: No such file or directory"  # of git's own gc
    r"|worktrees/.*: No such file or directory"
    r"|unable to write reflog '\.git/worktrees/[^']*'"
    r"|unable to (?:write|create|read).*worktrees/"
)
"""What git says of a worktree, or a folder of objects, that goes away between two steps of its own, however it goes."""


def loops(folder: Path, repository: Path) -> dict[str, list[str]]:
    remote = make_repository(folder / "remote", [("remote", {"r.txt": "r\n"})])
    git(repository, "remote", "add", "origin", str(remote))
    return {
        "worktree list": ["worktree", "list"],
        "worktree prune": ["worktree", "prune"],
        "gc": ["gc", "--quiet"],
        "fetch": ["fetch", "--quiet", "origin"],
        "commit": ["commit", "--quiet", "--allow-empty", "-m", "in the main checkout"],
    }


def races(folder: Path, options: Options, processes: int = 8, actions: int = 120) -> list[Row]:
    """Let so many processes act on one repository that is on disk; one row for ours, one for plain git beside them."""
    rows = [
        Row("race storm: own tasks"),
        Row("race storm: shared tasks"),
        Row("race storm: plain git beside", note="git's own"),
    ]
    for row, shared in zip(rows, ("no", "yes"), strict=False):
        _race(folder / f"races-{shared}", options, row, rows[2], processes, max(3, options.times(actions)), shared)
    return rows


def _race(folder: Path, options: Options, row: Row, beside: Row, processes: int, actions: int, shared: str) -> None:
    folder.mkdir(parents=True)
    repository = make_repository(folder / "repo", [("first", {f"d{n % 7}/f{n}": f"{n}\n" for n in range(40)})])
    ledger = Ledger(repository)
    disturbances = loops(folder, repository)
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(folder), str(repository), f"p{n}", str(options.seed), str(actions), shared],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for n in range(processes)
    ]  # fmt: skip
    stop, failed, rounds = threading.Event(), [], Counter[str]()

    def disturb(name: str, command: list[str]) -> None:
        while not stop.wait(0.02):
            done = subprocess.run(["git", *command], cwd=repository, capture_output=True, text=True)
            rounds[name] += 1
            if done.returncode:
                failed.append(f"git {name}: {done.stderr.strip()[-300:]}")

    threads = [threading.Thread(target=disturb, args=pair) for pair in disturbances.items()]
    for racer in racers:
        assert racer.stdout and racer.stdin and racer.stdout.readline() == "ready\n"
    for thread in threads:
        thread.start()
    for racer in racers:
        assert racer.stdin
        racer.stdin.write("go\n")
        racer.stdin.flush()
    printed: dict[int, tuple[str, str]] = {}

    def read(number: int) -> None:
        printed[number] = racers[number].communicate()

    readers = [threading.Thread(target=read, args=(number,)) for number in range(processes)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    stop.set()
    for thread in threads:
        thread.join()
    met = 0
    for number, (out, err) in sorted(printed.items()):
        lines = out.splitlines()
        row.count += lines.count("action")
        row.creations += lines.count("created")
        met += sum(line.startswith("met ") for line in lines)
        row.failures += [f"--seed {options.seed}: p{number}: {line}" for line in lines if line.startswith("failed ")]
        if racers[number].returncode or err:
            row.failures.append(
                f"--seed {options.seed}: p{number} ended with {racers[number].returncode}: {err[-800:]}"
            )
    row.note = f"{met} times a colleague was met" if shared == "yes" else ""
    beside.count += sum(rounds.values())
    known = sum(bool(GONE_WHILE_READ.search(one)) for one in failed)
    others = [one for one in failed if not GONE_WHILE_READ.search(one)]
    beside.note = f"git's own failures: {known} of a worktree going while read, {len(others)} other"
    for one in sorted(set(others))[:20]:
        options.say(f"plain git beside: {one}")
    beside.failures += [one for one in others if one.startswith("git commit")]  # a person's commit must never fail
    wait_for_tidying(folder)
    row.failures += unsound(repository)
    for place in folder.glob("journal-*"):
        for line in place.read_text().splitlines():
            ledger.note_bytes(line.split()[0], line.encode(), line)
    for owner, lost in ledger.missing(folder / "checkouts").items():
        row.losses += [f"--seed {options.seed}: {owner}: {one}" for one in lost]
    options.say(
        f"races ({shared} shared): {json.dumps(rounds)}, {len(row.failures)} failures, {len(row.losses)} losses"
    )
    os.sync()
    subprocess.run(["rm", "-rf", str(folder)], check=False)
