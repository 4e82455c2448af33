"""The removal matrix: every kind of unsaved work, under every command that deletes, under settings that hide things.

A command is a value, `Remover(name, run)`, so that any tool's command line can stand in the same matrix as ours.  The judge is
the ledger: before the command everything is noted, after it everything must be a file or reachable from a ref.
"""

from __future__ import annotations

import inspect
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import storm_ground
from storm_ground import Ledger, Row, contents, differences, portrait

from moderator.context import ExecutionContext, IsolationLevel
from moderator.errors import ModeratorError
from moderator.git.manager import GitManager
from moderator.store import AttemptRecord, RunRecord, Store, history_file
from repos import git, make_repository
from unsaved import COMMITS, KINDS, LARGE, Kind

LOST, REFUSED, KEPT = "**lost**", "refused", "kept"


@dataclass(frozen=True)
class Remover:
    """A command that deletes worktrees.  `run(path, repository)` returns what it said if it failed, "" if not.

    `rescues`: it must remove whatever a commit or the trash can hold.  `together`: one command for all of them, and `run` gets
    a list.  `after` is looked at when one worktree is gone: "undone" (as it was before), "restored" (from its rescue).
    `expires`: nothing stays in the trash, so only what commits hold is asked for.  `builds`: the work is done by tasks that the
    command itself runs and then tidies up after; `run` gets their names with the kinds, and the ledger that they note it in.
    """

    name: str
    run: Callable[..., str]
    rescues: bool = False
    together: bool = False
    after: str = ""
    expires: bool = False
    builds: bool = False
    needs: str = ""

    @property
    def is_ours(self) -> bool:
        """Whether the worktrees are to be made by us: every other command gets them as `git worktree add` makes them."""
        return self in OURS

    @property
    def is_there(self) -> bool:
        return not self.needs or (hasattr(GitManager, self.needs) and "rescue" in _parameters())


def _parameters() -> Sequence[str]:
    return list(inspect.signature(GitManager.remove_workspace).parameters)


def _nothing(_repository: Path) -> None:
    """What most settings do before, or after."""


@dataclass(frozen=True)
class Setting:
    """A user's configuration.

    `before` is set when the repository is new, `after` when the work is done; `prunes`: git collects garbage when the command is
    done; `ignores`: what is not tracked counts as ignored.
    """

    name: str
    before: Callable[[Path], object] = _nothing
    after: Callable[[Path], object] = _nothing
    prunes: bool = False
    ignores: bool = False

    def fits(self, remover: Remover) -> bool:
        """Whether the two can be judged together.

        What the user has ignored may go when its time in the trash is over; and no moment for `after` comes between the work of
        a task and what its run does with it.
        """
        return not (self.ignores and remover.expires) and not (remover.builds and self.after is not _nothing)


@dataclass
class Cell:
    """What one command did to one kind of work under one configuration."""

    kind: str
    remover: str
    setting: str
    verdict: str
    lost: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


# -- commands -------------------------------------------------------------------------------------------------------


def command(line: str, name: str = "") -> Remover:
    """Return a remover that runs a shell command line; `{path}`, `{name}`, `{branch}` and `{repo}` are filled in."""

    def run(path: Path, repository: Path) -> str:
        filled = line.format(
            path=shlex.quote(str(path)),
            name=path.name,
            branch=f"main-task-{path.name}",
            repo=shlex.quote(str(repository)),
        )
        done = subprocess.run(filled, shell=True, cwd=repository, capture_output=True, stdin=subprocess.DEVNULL)
        return os.fsdecode(done.stderr or done.stdout) if done.returncode else ""

    return Remover(name or line.partition(" {")[0], run)


def _asking(action: Callable[[GitManager, str], object]) -> Callable[[Path, Path], str]:
    def run(path: Path, repository: Path) -> str:
        try:
            action(GitManager(repository), path.name)
        except ModeratorError as error:
            why = "; ".join([error.cause, *getattr(error, "findings", ())])
            return f"{type(error).__name__} (exit code {error.exit_code}): {error}; {why}"
        return ""

    return run


def _cleaning(*arguments: str, config: str = "", named: bool = True) -> Callable[[list[Path], Path], str]:
    def run(paths: list[Path], repository: Path) -> str:
        names = [path.name for path in paths] if named else []
        place = repository.parent / "storm.yaml"
        place.write_text(config or f"rescue: {{largest_file: {LARGE / 1.5e6:g}}}\n")
        done = storm_ground.moderator(repository, "clean", *arguments, *names, MODERATOR_CONFIG=str(place))
        wrong = storm_ground.bad_ending(done, 3)  # 3: something was refused, as nested repositories are
        return f"failed: {wrong}" if wrong else done.stderr

    return run


def _running(*flags: str, cut_short: bool = False) -> Callable[[Path, Path], str]:
    """Run a task of the worktree's name that does nothing, so that what was there has to go first."""

    def run(path: Path, repository: Path) -> str:
        listed = _listed(repository.parent / f"{path.name}.json", {path.name: ["true"]})
        if cut_short:
            _record(repository, path, os.path.realpath(listed), None)
        done = _moderator_run(repository, path.parents[1], listed, *flags)
        wrong = storm_ground.bad_ending(done, 3)
        return f"failed: {wrong}" if wrong else done.stderr * (done.returncode != 0)

    return run


def _listed(place: Path, tasks: Mapping[str, list[str]]) -> Path:
    place.write_text(json.dumps({"tasks": [{"id": name, "run": run} for name, run in tasks.items()]}))
    return place


def _moderator_run(repository: Path, root: Path, listed: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    place = repository.parent / "storm.yaml"
    place.write_text(json.dumps({"root": str(root), "rescue": {"largest_file": LARGE / 1.5e6}}))
    return storm_ground.moderator(
        repository, "run", str(listed), "--keep", "never", "--progress", "none", *flags, MODERATOR_CONFIG=str(place)
    )


def _record(repository: Path, path: Path, source: str, outcome: str | None) -> None:
    """Write down that a run of this file came to the worktree's task: None if it was killed while that was at work."""
    base, state = git(repository, "rev-parse", "main"), "finished" if outcome else "running"
    run = RunRecord(
        f"run-{path.name}",
        1.0,
        None,
        state,
        "main",
        base,
        "full",
        1,
        "",
        1,
        "another boot",
        os.uname().nodename,
        1.0,
        source,
    )
    now, branch = time.time(), f"main-task-{path.name}"
    attempt = AttemptRecord(
        run.run_id, path.name, 1, "", now, now if outcome else None, outcome, None, None, branch, base, None, str(path), None,
        "shell", None, (),
    )  # fmt: skip
    with Store(history_file(str(repository / ".git/moderator"))) as store:
        store.begin_run(run)
        store.begin_attempt(attempt)


def _over_quota(paths: list[Path], repository: Path) -> str:
    for path in paths:  # what nobody knows to be finished is never too much
        _record(repository, path, "", "succeeded")
    return _cleaning(config="clean: {max_workspaces: 0}\n", named=False)(paths, repository)


def _tidying(named: dict[str, Kind], repository: Path, ledger: Ledger) -> str:
    """Let tasks do the work, each of them in a worktree that its run makes, commits and removes if it may."""
    noted = repository.parent / "noted"
    noted.mkdir()
    # Tasks are given none of our git's environment; here that is what keeps a user's settings out, and names the author.
    sealed = [f"{name}={value}" for name, value in os.environ.items() if name.startswith("GIT_")]
    tasks = {
        task_id: ["env", *sealed, sys.executable, __file__, kind.name, str(repository), str(noted / task_id)]
        for task_id, kind in named.items()
    }
    done = _moderator_run(
        repository, repository.parent / "checkouts", _listed(repository.parent / "all.json", tasks), "-j", "2"
    )
    wrong = [storm_ground.bad_ending(done, 1) or ""]
    for task_id in named:
        if (noted / task_id).exists():
            for object_id, what in json.loads((noted / task_id).read_text()).items():
                ledger.note(task_id, object_id, what)
        else:
            wrong.append(f"task {task_id!r} did not do its work: {done.stderr[-400:]}")
    return "\n".join(f"failed: {one}" for one in wrong if one)


def _work_as_a_task(name: str, repository: str, noted: str) -> None:
    """What such a task does: the work, in the current directory, and a note of it for the ledger.

    What it staged and then changed again is not among it: a commit of everything replaces that, as `git commit -a` does.
    """
    tree, ledger = Path.cwd(), Ledger(Path(repository))
    fresh = dict(contents(tree))
    next(one for one in KINDS if one.name == name).build(tree)
    ledger.note_worktree("task", tree, fresh)
    written = ledger.written.get("task", {})
    Path(noted).write_text(
        json.dumps({object_id: what for object_id, what in written.items() if not what.startswith("staged ")})
    )


def _undo(git_manager: GitManager, task_id: str) -> None:
    git_manager.remove_workspace(task_id, rescue=True)
    git_manager.undo_removal(task_id)


def _restore(git_manager: GitManager, task_id: str) -> None:
    removal = git_manager.remove_workspace(task_id, rescue=True)
    if removal and removal.rescue:
        git_manager.restore_rescue(git_manager.find_rescue(removal.rescue), f"{task_id}-back")


def _empty(git_manager: GitManager, task_id: str) -> None:
    git_manager.remove_workspace(task_id, rescue=True)
    git_manager.empty_trash()


PLAIN_GIT = [
    command("git worktree remove {path}", "git worktree remove"),
    command("git worktree remove --force --force {path}", "git worktree remove --force"),
]
OURS = [
    Remover("remove", _asking(lambda manager, task: manager.remove_workspace(task))),
    Remover("rescue", _asking(lambda m, task: m.remove_workspace(task, rescue=True)), True, needs="undo_removal"),
    Remover("rescue, empty trash", _asking(_empty), True, needs="empty_trash"),
    Remover("set aside", _asking(lambda manager, task: manager.set_aside(task, "attacked")), True, needs="set_aside"),
    Remover("rescue, undo", _asking(_undo), True, after="undone", needs="undo_removal"),
    Remover("rescue, restore", _asking(_restore), True, after="restored", needs="restore_rescue"),
    Remover("moderator clean", _cleaning(), True, together=True, needs="undo_removal"),
    Remover("moderator clean --all", _cleaning("--all", named=False), True, together=True, needs="undo_removal"),
    Remover(
        "moderator clean, trash days 0", _cleaning(config="trash: {days: 0}\nrescue: {largest_file: 1}\n"),
        True, together=True, expires=True, needs="empty_trash",
    ),
    Remover("run --keep never", _tidying, builds=True),
    Remover("run --fresh", _running("--fresh"), True),
    Remover("run --resume", _running("--resume", cut_short=True), True),
    Remover("moderator clean, quota", _over_quota, together=True),
]  # fmt: skip


# -- settings -------------------------------------------------------------------------------------------------------


def _set(*pairs: tuple[str, str]) -> Callable[[Path], None]:
    def apply(repository: Path) -> None:
        for name, value in pairs:
            git(repository, "config", name, value)

    return apply


def _hook(repository: Path, name: str, text: str) -> Path:
    hooks = repository.parent / "hooks"
    hooks.mkdir(exist_ok=True)
    (hooks / name).write_text(f"#!/bin/sh\n{text}\n")
    (hooks / name).chmod(0o755)
    return hooks


def _failing_hooks(repository: Path) -> None:
    for name in ("pre-commit", "reference-transaction", "post-index-change", "post-checkout", "pre-auto-gc"):
        hooks = _hook(repository, name, "exit 1")
    _set(("core.hooksPath", str(hooks)))(repository)


def _lying_monitor(repository: Path) -> None:
    hooks = _hook(repository, "monitor", r"printf 'nothing\0'")
    _set(("core.fsmonitor", str(hooks / "monitor")), ("core.fsmonitorHookVersion", "2"))(repository)


def _ignore_all(repository: Path) -> None:
    excludes = repository.parent / "excludes"
    excludes.write_text("*\n")
    _set(("core.excludesFile", str(excludes)))(repository)


SETTINGS = [
    Setting("plain"),
    Setting("showUntrackedFiles=no", after=_set(("status.showUntrackedFiles", "no"))),
    Setting("everything new ignored", after=_ignore_all, ignores=True),
    Setting("lying fsmonitor", after=_lying_monitor),
    Setting("autocrlf", before=_set(("core.autocrlf", "true"))),
    Setting("failing hooks", after=_failing_hooks),
    Setting("gpgsign without a key", after=_set(("commit.gpgsign", "true"), ("gpg.program", "false"))),
    Setting("untracked cache", before=_set(("core.untrackedCache", "true"))),
    Setting("split index", before=_set(("core.splitIndex", "true"))),
    Setting("index version 4", before=_set(("index.version", "4"))),
    Setting("ignoreStat", before=_set(("core.ignoreStat", "true"))),
    Setting("submodules ignored", after=_set(("diff.ignoreSubmodules", "all"))),
    Setting("gc --prune=now", after=_set(("gc.pruneExpire", "now")), prunes=True),
]


# -- one command under one setting ----------------------------------------------------------------------------------


def attack(folder: Path, remover: Remover, setting: Setting, kinds: Sequence[Kind] = KINDS) -> list[Cell]:
    """Let a command loose on a worktree of each kind in one repository, and return what became of them."""
    repository = make_repository(folder / "repo", COMMITS)
    setting.before(repository)
    git(repository, "reset", "--quiet", "--hard")
    manager = GitManager(repository)
    ledger = Ledger(repository)
    trees = folder / "checkouts" / "tasks"
    before: dict[str, dict[str, object]] = {}
    named = {f"t{number:02}": kind for number, kind in enumerate(kinds)}
    base = ExecutionContext("storm", str(folder / "checkouts"), "main", str(folder / "state"))
    for task_id, kind in () if remover.builds else named.items():
        context = ExecutionContext.create_isolated_context(base, task_id, IsolationLevel.FULL)
        if remover.is_ours:
            manager.create_workspace(context).release()
        else:
            git(repository, "worktree", "add", "--quiet", "-b", context.git_branch, context.working_directory)
        fresh = dict(contents(trees / task_id))
        kind.build(trees / task_id)
        ledger.note_worktree(task_id, trees / task_id, fresh, kind.left if remover.expires else ())
    setting.after(repository)
    for task_id in named if remover.after else ():
        before[task_id] = portrait(trees / task_id)
    cells = {task_id: Cell(kind.name, remover.name, setting.name, KEPT) for task_id, kind in named.items()}
    told = ""
    if remover.builds:
        told = remover.run(named, repository, ledger)
    elif remover.together:
        told = remover.run([trees / name for name in named], repository)
    said = {task_id: "\n".join(line for line in told.splitlines() if repr(task_id) in line) for task_id in named}
    if told.startswith("failed: "):
        cells[next(iter(named))].failures.append(told)
    for task_id in named:
        if not remover.together and not remover.builds:
            said[task_id] = remover.run(trees / task_id, repository)
        if (trees / task_id / ".git").exists() and remover.after != "undone":
            cells[task_id].verdict = REFUSED
        cells[task_id].failures += _afterwards(
            remover, setting, named[task_id], trees / task_id, before.get(task_id, {}), said[task_id]
        )
    missing = ledger.missing(trees)
    if setting.prunes:
        # The dates here lie years back; the log of a branch that stays, as any of today's, has not expired.
        fresh_logs = ("-c", "gc.reflogExpire=never", "-c", "gc.reflogExpireUnreachable=never")
        git(repository, *fresh_logs, "gc", "--quiet", "--prune=now")
        # What git collects of a worktree that stands, such as what an expired log named, is git's to answer for.
        standing = {task_id for task_id, cell in cells.items() if cell.verdict == REFUSED}
        missing |= {owner: lost for owner, lost in ledger.missing(trees).items() if owner not in standing}
    for task_id, lost in missing.items():
        cells[task_id].lost = lost
        cells[task_id].verdict = LOST
    _delete(folder)
    return list(cells.values())


def _afterwards(
    remover: Remover, setting: Setting, kind: Kind, tree: Path, before: dict[str, object], said: str
) -> list[str]:
    stands = (tree / ".git").exists()
    if remover.rescues and not kind.refused and remover.after != "undone" and stands:
        return [f"was not removed: {said[-400:] or 'without a word'}"]
    if remover.rescues and not kind.refused and said and not remover.together:
        return [f"failed: {said[-400:]}"]
    if remover.after == "undone":
        return [f"not as it was: {one}" for one in differences(before, portrait(tree))] if stands else ["is not back"]
    back = tree.parent / f"{tree.name}-back"
    is_whole = kind.exact and not setting.ignores  # what counts as ignored stays in the trash, by name
    if remover.after == "restored" and is_whole and not kind.refused and back.exists():
        leave_out = {"(status)", "(head)", "(log)"}
        expected = {
            path: what for path, what in before.items() if path not in leave_out and not _under(path, kind.left)
        }
        found = {
            path: what for path, what in portrait(back).items() if path not in leave_out and not _under(path, kind.left)
        }
        if kind.name in ("assume-unchanged", "skip-worktree", "intent to add", "everything in the tree at once"):
            expected.pop("(index)"), found.pop("(index)")  # flags, and a promise to add, are not staged content
        modes = _only_executable(expected), _only_executable(found)
        return [f"not restored: {one}" for one in differences(*modes)]
    return []


def _only_executable(found: dict[str, object]) -> dict[str, object]:
    """Modes as commits have them, and no directories."""
    return {
        path: (bool(what[0] & 0o100), what[1]) if isinstance(what, tuple) else what
        for path, what in found.items()
        if not isinstance(what, int)
    }


def _under(path: str, names: tuple[str, ...]) -> bool:
    return any(path == name or path.startswith(f"{name}/") for name in names)


def _delete(folder: Path) -> None:
    subprocess.run(["chmod", "-R", "u+rwX", str(folder)], capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)


# -- the whole ------------------------------------------------------------------------------------------------------


def attack_in_a_process(
    folder: str, remover: str, setting: str, line: str, first: int = 0, step: int = 1
) -> list[Cell]:
    """The same for who can only send words: names of a remover and a setting, every `step`th kind from the `first`."""
    chosen = command(line) if line else next(one for one in [*PLAIN_GIT, *OURS] if one.name == remover)
    where = Path(folder) / f"{remover}-{setting}-{first}".replace(" ", "_").replace("/", "_")
    return attack(where, chosen, next(one for one in SETTINGS if one.name == setting), KINDS[first::step])


def matrix(
    folder: Path, options: storm_ground.Options, lines: Sequence[str] = (), strict: bool = False
) -> tuple[list[Row], list[Cell]]:
    """Attack with every command under every setting; return a row for each command, and every cell.

    `lines` are the commands of other tools; their losses are theirs, unless `strict` holds them to what we promise.
    """
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from multiprocessing import get_context

    ours = [one for one in OURS if one.is_there]
    whole, smoke = options.share >= 1, options.share <= storm_ground.SMOKE
    step = 18 if smoke else 1
    if smoke:
        ours = ours[:2]
    shown = SETTINGS[: 1 if smoke else 2]
    calls = [(one.name, setting.name, "") for one in PLAIN_GIT for setting in shown]
    calls += [(command(line).name, setting.name, line) for line in lines for setting in shown]
    for number, one in enumerate(ours):
        for place, setting in enumerate(SETTINGS):
            if setting.fits(one) and (whole or place == 0 or (place % len(ours) == number and not smoke)):
                calls.append((one.name, setting.name, ""))
    rows = {one.name: Row(f"removal matrix: {one.name}") for one in ours}
    for one in OURS:
        if not one.is_there:
            rows[one.name] = Row(f"removal matrix: {one.name}", note="not there yet")
    if strict:
        rows |= {command(line).name: Row(f"removal matrix: {command(line).name}") for line in lines}
    cells: list[Cell] = []
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        futures = {pool.submit(attack_in_a_process, str(folder), *call, 0, step): call for call in calls}
        for future in as_completed(futures):
            remover, setting, _ = futures[future]
            try:
                found = future.result()
            except Exception as error:  # noqa: BLE001 - one group must not cost the others
                found = [Cell("(all)", remover, setting, "?", failures=[f"the attack itself failed: {error!r}"[:800]])]
            options.say(f"matrix: {remover}, {setting}: {sum(cell.verdict == LOST for cell in found)} lost")
            cells += found
            for cell in found if remover in rows else ():
                _count(rows[remover], cell)
    return list(rows.values()), cells


def _count(row: Row, cell: Cell) -> None:
    where = f"{cell.kind} / {cell.setting}"
    row.count += 1
    row.creations += 1
    row.losses += [f"{where}: {one}" for one in cell.lost]
    row.failures += [f"{where}: {one}" for one in cell.failures]


def picture(cells: Sequence[Cell], setting: str = "plain") -> list[str]:
    """Return the matrix under one setting as lines of markdown: a line for each kind, a column for each command."""
    shown = [cell for cell in cells if cell.setting == setting]
    removers = list(dict.fromkeys([one.name for one in [*PLAIN_GIT, *OURS]] + [cell.remover for cell in shown]))
    removers = [name for name in removers if any(cell.remover == name for cell in shown)]
    verdicts = {(cell.kind, cell.remover): cell.verdict for cell in shown}
    kinds = [kind.name for kind in KINDS if any(cell.kind == kind.name for cell in shown)]
    lines = ["| kind of work | " + " | ".join(removers) + " |", "|---|" + "---|" * len(removers)]
    return lines + [
        f"| {kind} | " + " | ".join(verdicts.get((kind, name), "-") for name in removers) + " |" for kind in kinds
    ]


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("run scripts/storm matrix")
    _work_as_a_task(*sys.argv[1:])
