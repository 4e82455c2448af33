"""The ledger machine: any order of what a person and `moderator` can do to one repository; whatever was written is found.

Its rules are hypothesis's, so that a failing order is shrunk to the shortest one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import storm_ground
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from storm_ground import Ledger, Options, Row, plain_git

from moderator.context import ExecutionContext, IsolationLevel
from moderator.errors import ModeratorError
from moderator.git.manager import GitManager
from moderator.models import Task
from moderator.orchestrator import Orchestrator
from repos import make_repository
from unsaved import COMMITS
from workspaces import killed_before

TASK_IDS = ("t0", "t1", "t2")
TASKS = st.sampled_from(TASK_IDS)
NAMES = st.sampled_from(
    ["src/a.txt", "README.md", "new.txt", "deep/er/new.txt", ".env", "build/out.o", "-odd \n", "tool.sh"]
)
_EXPECTED = (1, 2, 3, 75)  # exit codes that mean: a task failed, no such thing, a person is needed, somebody holds it


class LedgerMachine(RuleBasedStateMachine):
    """One repository, three tasks, one person who types anything at any time."""

    made = 0  # workspaces of all examples
    killed = 0

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="moderator-ledger-"))
        self.repository = make_repository(self.folder / "repo", COMMITS)
        self.ledger = Ledger(self.repository)
        self.trees = self.folder / "checkouts" / "tasks"
        self.kept = self.folder / "repo.moderator" / "tasks"
        self.number = 0
        self.deleted: set[str] = set()
        self.said: list[str] = []
        self.create("t0")
        self.write("t0", "new.txt")

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            subprocess.run(["chmod", "-R", "u+rwX", str(self.folder)], capture_output=True)
            shutil.rmtree(self.folder, ignore_errors=True)

    # -- helpers ------------------------------------------------------------------------------------------------

    @property
    def manager(self) -> GitManager:
        return GitManager(self.repository)

    def context(self, task_id: str) -> ExecutionContext:
        base = ExecutionContext("storm", str(self.folder / "checkouts"), "main", str(self.folder / "state"))
        return ExecutionContext.create_isolated_context(base, task_id, IsolationLevel.FULL)

    @property
    def places(self) -> list[Path]:
        """Where files count as kept: the workspaces and the trash beside them."""
        return [place for place in (self.trees, self.kept) if place.exists()]

    def stands(self, task_id: str) -> bool:
        tree = self.trees / task_id
        with contextlib.suppress(AssertionError):
            if (tree / ".git").is_file():
                return bool(plain_git(tree, "rev-parse", "--is-inside-work-tree"))
        return False

    def ours(self, action: object, *arguments: object, **named: object) -> object:
        """Ask for something; a refusal with a hint is an answer, anything else is a failure."""
        try:
            return action(*arguments, **named)  # type: ignore[operator]
        except ModeratorError as error:
            assert error.exit_code in _EXPECTED, f"{type(error).__name__}: {error}; {error.cause}"
            self.said.append(f"{type(error).__name__}: {error}")
            return None

    def theirs(self, tree: Path, *arguments: str) -> bool:
        """A git command of the person's own, which may fail."""
        done = subprocess.run(["git", *arguments], cwd=tree, capture_output=True, stdin=subprocess.DEVNULL)
        return done.returncode == 0

    def note(self, task_id: str) -> None:
        """Note the commit that a workspace is at: from now on the person relies on it."""
        head = plain_git(self.trees / task_id, "rev-parse", "--verify", "--quiet", "HEAD", fails=True).decode().strip()
        if head:
            self.ledger.note(task_id, head, f"commit {head[:10]}")

    # -- a person -----------------------------------------------------------------------------------------------

    @rule(task_id=TASKS)
    def create(self, task_id: str) -> None:
        if workspace := self.ours(self.manager.create_workspace, self.context(task_id)):
            workspace.release()  # type: ignore[attr-defined]
            type(self).made += 1

    @rule(task_id=TASKS, name=NAMES)
    def write(self, task_id: str, name: str) -> None:
        if self.stands(task_id):
            path = self.trees / task_id / name
            with contextlib.suppress(OSError):
                self._forget_file(path)
                path.parent.mkdir(parents=True, exist_ok=True)
                self.number += 1
                content = f"{task_id} {name} {self.number}\n".encode()
                path.write_bytes(content)
                self.ledger.note_bytes(task_id, content, f"{name!r} written as number {self.number}")

    def _forget_file(self, path: Path) -> None:
        """What is written over by its own author, and was saved nowhere else, is gone by his own hand."""
        if path.is_file():
            old = storm_ground.blob_id(path.read_bytes())
            self.deleted.add(old)

    @rule(task_id=TASKS)
    def stage(self, task_id: str) -> None:
        if self.stands(task_id) and self.theirs(self.trees / task_id, "add", "--all"):
            self._saved(task_id)

    @rule(task_id=TASKS)
    def commit_by_git(self, task_id: str) -> None:
        tree = self.trees / task_id
        if self.stands(task_id) and self.theirs(tree, "add", "--all"):
            self.theirs(tree, "commit", "--quiet", "-m", "by hand")
            self._saved(task_id)
            self.note(task_id)

    @rule(task_id=TASKS)
    def commit_by_manager(self, task_id: str) -> None:
        self.ours(self.manager.commit, task_id, "by the manager")
        if self.stands(task_id):
            self._saved(task_id)

    def _saved(self, task_id: str) -> None:
        """What git was given is git's to keep, also if the file is written over later."""
        for line in plain_git(self.trees / task_id, "ls-files", "-z", "-s").split(b"\0"):
            if line:
                self.deleted.discard(line.split()[1].decode())

    @rule(task_id=TASKS)
    def detach_and_commit(self, task_id: str) -> None:
        tree = self.trees / task_id
        if self.stands(task_id) and self.theirs(tree, "switch", "--quiet", "--detach"):
            self.commit_by_git(task_id)

    @rule(task_id=TASKS)
    def rename_branch(self, task_id: str) -> None:
        if self.stands(task_id):
            self.number += 1
            self.theirs(self.trees / task_id, "branch", "-m", f"renamed-{self.number}")

    @rule(task_id=TASKS)
    def switch_branch(self, task_id: str) -> None:
        if self.stands(task_id):
            self.number += 1
            self.theirs(self.trees / task_id, "switch", "--quiet", "-c", f"other-{self.number}")

    @rule(task_id=TASKS)
    def delete_by_hand(self, task_id: str) -> None:
        tree = self.trees / task_id
        if tree.is_dir():
            self.deleted |= {object_id for _, object_id in storm_ground.contents(tree)}
            if self.stands(task_id):  # what he had staged he let go of too
                entry = plain_git(tree, "rev-parse", "--absolute-git-dir").decode().strip()
                self.deleted |= {object_id for _, object_id in storm_ground.staged(Path(entry))}
            shutil.rmtree(tree)

    @rule(task_id=TASKS)
    def prune_from_outside(self, task_id: str) -> None:
        tree = self.trees / task_id
        if not tree.exists():
            self.theirs(self.repository, "worktree", "unlock", str(tree))
            self.theirs(self.repository, "worktree", "prune")
            self.deleted |= self.ledger.gone(*self.places)  # what only the pruned entry knew: git's doing, at his word

    @rule()
    def collect_garbage(self) -> None:
        self.theirs(self.repository, "gc", "--quiet", "--prune=now")

    # -- moderator ----------------------------------------------------------------------------------------------

    @rule(task_id=TASKS, rescue=st.booleans())
    def clean(self, task_id: str, rescue: bool) -> None:
        self.ours(self.manager.remove_workspace, task_id, rescue=rescue)

    @rule(task_id=TASKS)
    def set_aside(self, task_id: str) -> None:
        self.ours(self.manager.set_aside, self.context(task_id), "started anew")

    @rule(task_id=st.sampled_from([None, *TASK_IDS]))
    def undo(self, task_id: str | None) -> None:
        self.ours(self.manager.undo_removal, task_id)

    @rule(task_id=TASKS, into=TASKS)
    def restore(self, task_id: str, into: str) -> None:
        found = self.ours(self.manager.find_rescue, task_id)
        if found is not None:
            self.ours(self.manager.restore_rescue, found, into)

    @rule()
    def empty_trash(self) -> None:
        self.manager.empty_trash()

    @rule(task_id=TASKS)
    def run(self, task_id: str) -> None:
        self.number += 1
        content = f"{task_id} run {self.number}"
        task = Task(task_id, f"Run {self.number}", run=f"printf '%s' '{content}' > ran.txt")
        config = {"root": str(self.folder / "checkouts")} if False else None
        orchestrator = Orchestrator(config, self.repository)

        def carry_out() -> None:
            summary = orchestrator.carry_out(orchestrator.plan([task]))
            if summary.success:
                self.ledger.note_bytes(task_id, content.encode(), f"ran.txt of run {self.number}")

        self.ours(carry_out)

    @rule(task_id=TASKS, step=st.integers(1, 40), action=st.sampled_from(["create", "remove"]))
    def kill(self, task_id: str, step: int, action: str) -> None:
        with contextlib.suppress(AssertionError):  # it was refused
            if killed_before(step, self.folder, self.repository, task_id, action):
                type(self).killed += 1

    @precondition(lambda self: hasattr(self, "folder"))
    @rule()
    def doctor(self) -> None:
        done = storm_ground.moderator(self.repository, "doctor", "--fix")
        assert storm_ground.bad_ending(done, 1, 3, 4) is None, storm_ground.bad_ending(done)

    # -- what must hold -----------------------------------------------------------------------------------------

    @invariant()
    def everything_is_found(self) -> None:
        if not hasattr(self, "folder"):
            return
        gone = self.ledger.gone(*self.places) - self.deleted
        lost = [
            f"{owner}: {what} ({object_id[:10]})"
            for owner, written in self.ledger.written.items()
            for object_id, what in written.items()
            if object_id in gone
        ]
        assert not lost, f"lost: {lost}; said: {self.said[-5:]}"


def ledger(options: Options, examples: int = 300, steps: int = 30, machine: type[LedgerMachine] = LedgerMachine) -> Row:
    """Let hypothesis play; a failing order is printed, shrunk."""
    row = Row("ledger machine", options.times(examples))
    machine.made = machine.killed = 0

    def seeded() -> LedgerMachine:
        return machine()

    seeded._hypothesis_internal_use_seed = options.seed  # type: ignore[attr-defined]
    try:
        run_state_machine_as_test(seeded, settings=how_long(row.count, steps if options.share >= 1 else 12))
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        text = f"--seed {options.seed}: {error!r}\n" + "\n".join(getattr(error, "__notes__", []))
        (row.losses if "lost: " in text else row.failures).append(text[:4000])
    row.creations, row.kills = machine.made, machine.killed
    options.say(f"ledger: {row.count} orders, {len(row.losses)} losses, {len(row.failures)} failures")
    return row


def how_long(examples: int, steps: int) -> settings:
    """So many orders of so many steps, each as slow as real git is."""
    return settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, database=None, report_multiple_bugs=False,
        print_blob=False,
        phases=[Phase.generate, Phase.shrink] if examples > 50 else [Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(f"run scripts/storm ledger ({os.path.basename(__file__)} only has the rules)")
