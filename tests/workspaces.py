"""What tests about workspaces share: contexts, whole listings, and processes killed at a chosen step.

`killed_before` starts a process that kills itself at its n-th change of the disk, as Python's audit hooks tell of them:
nothing of ours is replaced, the process only ends there.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from moderator.context import ExecutionContext, IsolationLevel

FULL, DIRECTORY, BRANCH, NONE = (
    IsolationLevel.FULL,
    IsolationLevel.DIRECTORY,
    IsolationLevel.BRANCH,
    IsolationLevel.NONE,
)


def context(
    folder: Path, task_id: str, level: IsolationLevel = FULL, base: str = "main", checkout: Path | None = None
) -> ExecutionContext:
    """The context of a task; `checkout` is where levels without a worktree run."""
    directory = checkout or folder / "checkouts"
    return ExecutionContext.create_isolated_context(
        ExecutionContext("project", str(directory), base, str(folder / "state")), task_id, level
    )


def listing(*folders: Path) -> dict[str, object]:
    """Everything below some folders: each file with its mode and bytes, each link with its target."""
    found: dict[str, object] = {}
    for folder in folders:
        for where, names, files in os.walk(folder):
            for name in [*names, *files]:
                path = Path(where, name)
                if path.is_symlink():
                    found[str(path)] = os.readlink(path)
                elif path.is_dir():
                    found[str(path)] = "directory"
                else:
                    found[str(path)] = (path.stat().st_mode, path.read_bytes())
    return found


def files(folder: Path | str) -> dict[str, bytes | str]:
    """The files of a working tree, without its `.git`."""
    folder = Path(folder)
    return {
        str(path.relative_to(folder)): os.readlink(path) if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if ".git" not in path.relative_to(folder).parts and (path.is_symlink() or path.is_file())
    }


_DRIVER = """
import os, signal, subprocess, sys
from moderator.context import ExecutionContext, IsolationLevel
from moderator.furnishing import Carry, Furnishing
from moderator.git import pool
from moderator.git.manager import GitManager
from moderator.git.pool import PoolLimits

folder, repository, task_id, level, action, last = sys.argv[1:]
directory = repository if level == "branch" else folder + "/checkouts"
base = ExecutionContext("project", directory, "main", folder + "/state")
full = ExecutionContext("project", folder + "/checkouts", "main", folder + "/state", IsolationLevel.FULL)
context = ExecutionContext.named if action.startswith("adopt") else ExecutionContext.create_isolated_context
context = context(base, task_id, IsolationLevel(level))
manager = GitManager(repository, pool=PoolLimits(2, recycle="keep_ignored"))
pool._SAME_SECOND = 0.0
if action in ("remove", "rescue", "undo", "recycle"):
    manager.create_workspace(context).release()
if action in ("rescue", "undo"):
    for name, text in (("staged", "s"), (".env", "secret")):
        with open(os.path.join(context.working_directory, name), "w") as file:
            file.write(text)
    subprocess.run(["git", "add", "staged"], cwd=context.working_directory, check=True)
    open(os.path.join(context.working_directory, "note"), "w").close()
if action == "recycle":
    for name, text in ((".env", "secret"), ("work", "work")):
        with open(os.path.join(context.working_directory, name), "w") as file:
            file.write(text)
    manager.commit(context, "work")
if action == "undo":
    manager.remove_workspace(context, rescue=True)
steps = 0
CHANGES = {"os.rename", "os.link", "os.mkdir", "os.rmdir", "os.remove", "shutil.rmtree"}
COMMANDS = {"update-ref", "read-tree", "worktree"}

def is_step(event, arguments):
    if event == "open":
        return arguments[0] != os.devnull and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    return event in CHANGES or event == "subprocess.Popen" and COMMANDS & set(arguments[1])

def is_last(step):
    words = last.split()
    return steps == int(last) if last.isdigit() else all(word in step for word in words)

def watch(event, arguments):
    global steps
    if is_step(event, arguments):
        steps += 1
        step = " ".join(map(str, (event, *arguments[:2])))
        if is_last(step):
            print(step, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
{
    "create": lambda: manager.create_workspace(context),
    "furnish": lambda: manager.create_workspace(
        context, furnishing=Furnishing((Carry("deps"), Carry(".env")), submodules=True)
    ),
    "remove": lambda: manager.remove_workspace(context),
    "rescue": lambda: manager.remove_workspace(context, rescue=True),
    "undo": manager.undo_removal,
    "recycle": lambda: manager.remove_workspace(context, recycle=True),
    "fill": lambda: manager.fill_pool(folder + "/checkouts", "main", 2),
    "drain": manager.drain_pool,
    "adopt tree": lambda: manager.adopt(folder + "/mine", full, task_id),
    "adopt branch": lambda: manager.adopt("mine", full, task_id),
}[action]()
"""


def killed_before(
    step: int | str, folder: Path, repository: Path, task_id: str, action: str, level: IsolationLevel = FULL
) -> str | None:
    """Kill a process just before its n-th change of the disk or git command that makes one, or the first with these words in it.

    `action` is create, furnish (that, with `deps`, `.env` and submodules), remove, rescue (a removal of a workspace with work in
    it) or undo (of that), recycle (a removal of one with committed work and an ignored file, to the pool), fill (the pool, to two
    spares), drain, adopt tree (the worktree `mine` in the folder) or adopt branch (the branch of that name).

    Return what it was about to do; None if it has done all before.
    """
    done = subprocess.run(
        [sys.executable, "-c", _DRIVER, str(folder), str(repository), task_id, level.value, action, str(step)],
        capture_output=True,
        text=True,
    )
    if done.returncode not in (0, -signal.SIGKILL):
        raise AssertionError(done.stderr)
    return done.stdout if done.returncode else None


@contextlib.contextmanager
def mounted(where: Path, options: str) -> Iterator[None]:
    """Mount a small file system in memory at a place; skip the test where that is not permitted."""
    where.mkdir(parents=True, exist_ok=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", where], capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", where], check=True)
