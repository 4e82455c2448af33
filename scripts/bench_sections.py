"""What is measured: each section times both sides in pairs, one after the other in the same round, and yields rows.

The order within a pair changes from round to round, so that neither side always meets a warm cache or a busy neighbour.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bench_ground import MODERATOR, StepFailed, copy, delete, done, git, peak_memory, repository, seconds

from moderator.context import ExecutionContext, IsolationLevel
from moderator.git.manager import GitManager

CORES = os.cpu_count() or 1


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    files: tuple[int, ...]  # of the repositories in which one workspace is made
    rounds: tuple[int, ...]  # for each of them
    width: int  # how many at once
    at_once: int  # rounds of them
    races: int  # the same on the ordinary file system, to count failures
    present: tuple[int, int]  # workspaces: few and many
    flat: int  # rounds
    tasks: int
    runs: int  # pairs of runs
    listed: int  # workspaces with changes
    starts: int  # rounds
    queued: int  # tasks
    printed: int  # bytes


FULL = Sizes((2_000, 30_000), (15, 7), 16, 6, 24, (10, 1_000), 15, 200, 3, 10, 20, 1_000, 2_000_000_000)
QUICK = Sizes((2_000, 10_000), (4, 2), 16, 1, 1, (10, 100), 4, 20, 1, 10, 4, 50, 200_000_000)
SMOKE = Sizes((10, 20), (1, 1), 2, 1, 1, (1, 2), 1, 2, 1, 2, 1, 2, 1_000_000)


@dataclass
class Row:
    """One line of the table.  `pairs` are (theirs, ours) in the unit; the aim is a limit of the ratio or of ours."""

    what: str
    pairs: list[tuple[float, float]]
    unit: str = "s"
    most_ratio: float | None = None
    most: float | None = None
    scaled: float = 1.0  # how much slower this machine is than the one the aim in absolute terms was set for
    beside: str = ""  # what the first figure is, where it is not plain git
    failed: tuple[int, int, int] | None = None  # of theirs, of ours, of how many each

    @property
    def cells(self) -> tuple[str, ...]:
        theirs, ours, ratio, aim, met = "-", "-", "-", "-", "-"
        if self.pairs:
            first = statistics.median(pair[0] for pair in self.pairs)
            second = statistics.median(pair[1] for pair in self.pairs)
            ours = _shown(second, self.unit)
            if first:
                theirs = _shown(first, self.unit) + (f" ({self.beside})" if self.beside else "")
                ratios = sorted(one[1] / one[0] for one in self.pairs)
                middle = statistics.median(ratios)
                ratio = f"{middle:.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"
                if self.most_ratio is not None:
                    aim, met = f"{self.most_ratio:g}x", "yes" if middle <= self.most_ratio else "**no**"
            if self.most is not None:
                aim = _shown(self.most, self.unit)
                if self.unit == "s":
                    ours += f", least {_shown(min(pair[1] for pair in self.pairs), self.unit)}"
                met = "yes" if second < self.most else "scaled" if second < self.most * self.scaled else "**no**"
        if self.failed is not None:
            theirs, ours = (f"{count} of {self.failed[2]} failed" for count in self.failed[:2])
            aim, met = "no failure", "**no**" if self.failed[1] else "yes"
        return self.what, theirs, ours, ratio, aim, met


def _shown(value: float, unit: str) -> str:
    if unit == "MB":
        return f"{value:.0f} MB"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


@dataclass
class Ground:
    """Where to measure, and what was prepared once for several sections."""

    folder: Path
    race_folder: Path
    sizes: Sizes
    say: Callable[[str], None]
    _made: dict[int, Path] = field(default_factory=dict)

    def template(self, files: int) -> Path:
        """Return a repository that is copied, never changed."""
        if files not in self._made:
            self.say(f"making a repository of {files:,} files")
            self._made[files] = repository(self.folder / f"template-{files}", files)
        return self._made[files]


class _Ours:
    """One repository in which workspaces are made."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.manager = GitManager(place)
        self.base = base_of(place)

    def create(self, name: str) -> None:
        context = ExecutionContext.create_isolated_context(self.base, name)
        self.manager.create_workspace(context).release()

    def remove(self, name: str) -> None:
        branch = self.manager.find(name).branch
        self.manager.remove_workspace(name)
        git(self.place, "branch", "-qD", str(branch))


class _Theirs:
    """The same with plain git."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def create(self, name: str) -> None:
        tree = f"{self.place}.trees/{name}"
        done(["git", "worktree", "add", "-b", f"main-task-{name}", tree, "main"], self.place)

    def remove(self, name: str) -> None:
        git(self.place, "worktree", "remove", "--force", f"{self.place}.trees/{name}")
        git(self.place, "branch", "-qD", f"main-task-{name}")


def base_of(place: Path) -> ExecutionContext:
    state = str(place / ".git" / "moderator" / "state")
    return ExecutionContext("bench", f"{place}.moderator", "main", state, IsolationLevel.FULL)


def create(ground: Ground) -> Iterator[Row]:
    """Making one workspace, context included, in a process that already runs."""
    for files, rounds in zip(ground.sizes.files, ground.sizes.rounds, strict=True):
        theirs = _Theirs(copy(ground.template(files), ground.folder / "create-theirs"))
        ours = _Ours(copy(ground.template(files), ground.folder / "create-ours"))
        pairs = []
        for number in range(rounds + 1):
            name = f"t{number:03d}"
            pairs.append(_pair(number, theirs.create, ours.create, name))
            theirs.remove(name)
            ours.remove(name)
        # The first round is for caches to warm up.
        yield Row(f"create one workspace, {files:,} files", pairs[1:], most_ratio=1.0)
        _clear(ground.folder, "create-")


def together(ground: Ground) -> Iterator[Row]:
    """Making many at once; then the same on an ordinary file system, where races show."""
    files, width = ground.sizes.files[0], ground.sizes.width
    sides: list[tuple[str, Callable[[Path, list[str]], _Side]]] = [("threads", _threads), ("processes", _processes)]
    for kind, side in sides:
        pairs, failed = [], [0, 0]
        for number in range(ground.sizes.at_once):
            pair, lost = _at_once(ground, ground.folder, files, number, side, "once")
            pairs.append(pair)
            failed = [failed[0] + lost[0], failed[1] + lost[1]]
            _clear(ground.folder, "once-")
        what = f"create {width} at once ({kind}), {files:,} files"
        yield Row(what, pairs, most_ratio=1.0)
        yield Row(f"{what}: failures", [], failed=(failed[0], failed[1], width * len(pairs)))
    small = min(100, files)
    for kind, side in sides:
        failed, rounds = [0, 0], ground.sizes.races
        for number in range(rounds):
            _, lost = _at_once(ground, ground.race_folder, small, number, side, f"race-{kind}")
            failed = [failed[0] + lost[0], failed[1] + lost[1]]
        what = f"create {width} at once ({kind}), {small:,} files, ordinary file system: failures"
        yield Row(what, [], failed=(failed[0], failed[1], width * rounds))


_Side = Callable[[], list[str]]


def _at_once(
    ground: Ground, folder: Path, files: int, number: int, side: Callable[[Path, list[str]], _Side], name: str
) -> tuple[tuple[float, float], tuple[int, int]]:
    """Time them at once with plain git and with ours; return the times, and how many failed on each side."""
    places = [folder / f"{name}-theirs", folder / f"{name}-ours"]
    for place in places:
        if not place.exists():
            copy(ground.template(files), place)
    names = [f"r{number:02d}-{one:02d}" for one in range(ground.sizes.width)]
    theirs, ours = _git_processes(places[0], names), side(places[1], names)
    lost: list[list[str]] = [[], []]

    def keep(whose: int, side: _Side) -> None:
        lost[whose].extend(side())

    pair = _pair(number, partial(keep, 0, theirs), partial(keep, 1, ours))
    for whose, said in zip(("git", "moderator"), lost, strict=True):
        if said:
            ground.say(f"{whose} failed, for example: {said[0].strip()[-300:]}")
    return pair, (len(lost[0]), len(lost[1]))


def _git_processes(place: Path, names: list[str]) -> _Side:
    def start() -> list[str]:
        running = [
            subprocess.Popen(
                ["git", "worktree", "add", "-b", f"main-task-{name}", f"{place}.trees/{name}", "main"],
                cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            )
            for name in names
        ]  # fmt: skip
        ended = [(process.communicate()[1], process.returncode) for process in running]
        return [said for said, code in ended if code]

    return start


def _threads(place: Path, names: list[str]) -> _Side:
    ours = _Ours(place)

    def start() -> list[str]:
        with ThreadPoolExecutor(len(names)) as pool:
            made = [pool.submit(ours.create, name) for name in names]
        return [f"{error} {getattr(error, 'cause', '')}" for one in made if (error := one.exception())]

    return start


_CHILD = """
import sys
sys.path.insert(0, sys.argv[3])
from pathlib import Path
from bench_sections import _Ours
ours = _Ours(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
try:
    ours.create(sys.argv[2])
except Exception as error:
    sys.exit(f"{error} {getattr(error, 'cause', '')}")
"""


def _processes(place: Path, names: list[str]) -> _Side:
    here = str(Path(__file__).parent)
    running = [
        subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(place), name, here],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for name in names
    ]  # fmt: skip
    for process in running:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise StepFailed(f"a process that should make a workspace did not start: {process.communicate()[1]}")

    def start() -> list[str]:
        for process in running:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        ended = [(process.communicate()[1], process.returncode) for process in running]
        return [said for said, code in ended if code]

    return start


def flat(ground: Ground) -> Iterator[Row]:
    """Making one where few and where many exist already."""
    few, many = ground.sizes.present
    template = ground.template(20)
    sides = {}
    for present in (few, many):
        ours = _Ours(copy(template, ground.folder / f"flat-{present}"))
        ground.say(f"making {present:,} workspaces that are merely present")
        _fill(ours, present)
        sides[present] = (_Theirs(ours.place), ours)
    figures: dict[str, list[tuple[float, float]]] = {"plain git": [], "moderator": []}
    for number in range(ground.sizes.flat + 1):
        name = f"t{number:03d}"
        for whose, side in (("plain git", 0), ("moderator", 1)):
            at_few, at_many = sides[few][side], sides[many][side]
            pair = _pair(number, at_few.create, at_many.create, f"{name}-{side}")
            at_few.remove(f"{name}-{side}")
            at_many.remove(f"{name}-{side}")
            if number:
                figures[whose].append(pair)
    beside = f"{few} present"
    what = f"create one with {many:,} present against {few}"
    yield Row(f"{what}: plain git", figures["plain git"], beside=beside)
    yield Row(f"{what}: moderator", figures["moderator"], beside=beside, most_ratio=1.2)
    _clear(ground.folder, "flat-")


def _fill(ours: _Ours, count: int) -> None:
    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(ours.create, [f"present-{number:04d}" for number in range(count)]))


_LOOP = """
export MODERATOR_TASK_ID=$1
git worktree add -b "main-task-$1" "$TREES/$1" main >"$LOGS/$1.git" 2>&1 || exit 1
cd "$TREES/$1" || exit 1
sh -c "$2" >"$LOGS/$1.log" 2>&1 </dev/null
code=$?
git add -A
git diff --cached --quiet || git commit --quiet -m "Work of task $1" >>"$LOGS/$1.git" 2>&1
echo "$code" >"$LOGS/$1.code"
"""
_COMMANDS = {"do nothing": "true", "write a file": 'echo "$MODERATOR_TASK_ID" >result.txt'}


def run(ground: Ground) -> Iterator[Row]:
    """Whole runs: `moderator run` against xargs with a shell script that takes the same steps."""
    count = ground.sizes.tasks
    names = [f"t{number:03d}" for number in range(count)]
    for files in sorted({min(100, ground.sizes.files[0]), ground.sizes.files[0]}):
        for kind, command in _COMMANDS.items():
            commits = 0 if kind == "do nothing" else count
            for jobs in sorted({2, min(CORES, 32)}):
                pairs = []
                for number in range(ground.sizes.runs):
                    ground.say(f"{count} tasks that {kind}, {files:,} files, {jobs} at once: pair {number + 1}")
                    places = [
                        copy(ground.template(files), ground.folder / f"run-{whose}") for whose in ("theirs", "ours")
                    ]
                    tasks = _tasks_file(ground.folder / "run-tasks.yaml", names, command)
                    pairs.append(
                        _pair(
                            number,
                            partial(_loop, places[0], names, command, jobs),
                            partial(_moderator_run, places[1], tasks, jobs),
                        )
                    )
                    _check_commits(places[1], count, commits)
                    missing = count - len(list(Path(f"{places[0]}.logs").glob("*.code")))
                    if missing:
                        ground.say(f"git worktree add failed for {missing} of {count} in the shell loop")
                    _clear(ground.folder, "run-")
                yield Row(f"{count} tasks that {kind}, {files:,} files, {jobs} at once", pairs, most_ratio=1.5)


def _loop(place: Path, names: Sequence[str], command: str, jobs: int) -> None:
    trees, logs = Path(f"{place}.trees"), Path(f"{place}.logs")
    trees.mkdir()
    logs.mkdir()
    subprocess.run(
        ["xargs", "-P", str(jobs), "-I", "{}", "sh", "-c", _LOOP, "one", "{}", command],
        cwd=place, input="\n".join(names), text=True, check=False, capture_output=True,
        env={**os.environ, "TREES": str(trees), "LOGS": str(logs)},
    )  # fmt: skip


def _moderator_run(place: Path, tasks: Path, jobs: int) -> None:
    done([MODERATOR, "run", str(tasks), "--repo", str(place), "-j", str(jobs), "--progress", "none"], place)


def _check_commits(place: Path, branches: int, commits: int) -> None:
    main = git(place, "rev-parse", "refs/heads/main").strip()
    tips = git(place, "for-each-ref", "--format=%(objectname)", "refs/heads/main-task-*").split()
    found = (len(tips), sum(tip != main for tip in tips))
    if found != (branches, commits):
        raise StepFailed(f"the run left {found[0]} branches, {found[1]} with commits, not {branches} and {commits}")


def _tasks_file(place: Path, names: Sequence[str], command: str) -> Path:
    quoted = command.replace("'", "''")
    place.write_text("tasks:\n" + "".join(f"- id: {name}\n  description: Work\n  run: '{quoted}'\n" for name in names))
    return place


def start(ground: Ground) -> Iterator[Row]:
    """Whole processes, beside the bare interpreter."""
    ours = _Ours(copy(ground.template(ground.sizes.files[0]), ground.folder / "start-ours"))
    for number in range(ground.sizes.listed):
        ours.create(f"t{number}")
        tree = Path(ours.manager.find(f"t{number}").path)
        changed = next(path for path in sorted(tree.rglob("*.txt")) if path.is_file())
        changed.write_text("changed\n")
        (tree / "new.txt").write_text("new\n")
    bare = [sys.executable, "-c", "pass"]
    repo = ("--repo", str(ours.place))
    commands = {
        "bare": bare,
        "`python -I -S -c pass`": [sys.executable, "-I", "-S", "-c", "pass"],
        "`moderator --version`": [MODERATOR, "--version"],
        "`moderator path`": [MODERATOR, "path", "t1", *repo],
        f"`moderator list`, {ground.sizes.listed} workspaces with changes": [MODERATOR, "list", *repo],
    }
    aims = dict(zip(list(commands)[2:], (0.06, 0.08, 0.2), strict=True))
    figures: dict[str, list[float]] = {what: [] for what in commands}
    for number in range(ground.sizes.starts + 1):
        for what, command in commands.items():
            took = seconds(partial(done, command, ours.place))
            if number:
                figures[what].append(took)
    scaled = max(1.0, statistics.median(figures["bare"]) / 0.01)
    for what in list(commands)[1:]:
        pairs = list(zip(figures["bare"], figures[what], strict=True))
        yield Row(what, pairs, beside="bare Python", most=aims.get(what), scaled=scaled)
    _clear(ground.folder, "start-")


def memory(ground: Ground) -> Iterator[Row]:
    """What the process itself needs at most; its children are the tasks' and git's."""
    queued, printed = ground.sizes.queued, ground.sizes.printed
    line = "a line of output as a talkative tool prints it"
    for what, count, command in (
        (f"peak memory, {queued:,} tasks queued", queued, "true"),
        (f"peak memory, {queued:,} tasks that print 200 kB each", queued, f"yes {line} | head -c 200000"),
        (f"peak memory, a task that prints {printed / 1e6:,.0f} MB", 1, f"yes {line} | head -c {printed}"),
    ):
        ground.say(what)
        place = copy(ground.template(20), ground.folder / "memory-ours")
        tasks = _tasks_file(ground.folder / "memory-tasks.yaml", [f"t{number:04d}" for number in range(count)], command)
        used = peak_memory(
            ["run", str(tasks), "--repo", str(place), "-j", str(min(CORES, 32)), "--progress", "none"], ground.folder
        )
        yield Row(what, [(0.0, used / 1e6)], unit="MB", most=100.0)
        _clear(ground.folder, "memory-")


def _pair(
    number: int, theirs: Callable[..., object], ours: Callable[..., object], *arguments: object
) -> tuple[float, float]:
    if number % 2:
        second = seconds(ours, *arguments)
        return seconds(theirs, *arguments), second
    return seconds(theirs, *arguments), seconds(ours, *arguments)


def _clear(folder: Path, prefix: str) -> None:
    for made in folder.glob(f"{prefix}*"):
        delete(made)


SECTIONS: dict[str, Callable[[Ground], Iterator[Row]]] = {
    "create": create,
    "together": together,
    "flat": flat,
    "run": run,
    "start": start,
    "memory": memory,
}
