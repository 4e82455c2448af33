"""What is measured of making workspaces and of whole runs: each section times both sides in pairs and yields rows.

The order within a pair changes from round to round, so that neither side always meets a warm cache or a busy neighbour.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from bench_ground import MODERATOR, StepFailed, copy, done, git, peak_memory, seconds, started_so_far
from bench_lists import lists
from bench_pool import claim, pooled, remove
from bench_rows import CORES, Ground, Other, Ours, Row, Theirs, clear, timed


def create(ground: Ground) -> Iterator[Row]:
    """Making one workspace, context included, in a process that already runs."""
    for files, rounds in zip(ground.sizes.files, ground.sizes.rounds, strict=True):
        theirs = Theirs(copy(ground.template(files), ground.folder / "create-theirs"))
        ours = Ours(copy(ground.template(files), ground.folder / "create-ours"))
        pairs = []
        for number in range(rounds + 1):
            name = f"t{number:03d}"
            pairs.append(timed(number, theirs.create, ours.create, name))
            theirs.remove(name)
            ours.remove(name)
        # The first round is for caches to warm up.
        yield Row(f"create one workspace, {files:,} files", pairs[1:], most_ratio=1.05)
        if ground.compare:
            other = Other(copy(ground.template(files), ground.folder / "create-other"), *ground.compare)
            made, gone = [], []
            for number in range(rounds):
                name = f"o{number:03d}"
                made.append(timed(number, theirs.create, other.create, name))
                gone.append(timed(number, theirs.take_away, other.remove, name))
            yield Row(f"create one workspace, {files:,} files: the other tool", made)
            yield Row(f"remove one workspace, {files:,} files: the other tool", gone)
        clear(ground.folder, "create-")


def together(ground: Ground) -> Iterator[Row]:
    """Making many at once; then the same on an ordinary file system, where races show."""
    files, width = ground.sizes.files[0], ground.sizes.width
    sides: list[tuple[str, Callable[[Path, list[str]], _Side]]] = [
        ("threads", _threads),
        ("processes, until all are there", partial(_processes, to_the_end=False)),
        ("processes, until all have ended", partial(_processes, to_the_end=True)),
    ]
    for kind, side in sides:
        pairs, failed = [], [0, 0]
        for number in range(ground.sizes.at_once):
            pair, lost = _at_once(ground, ground.folder, files, number, side, "once")
            pairs.append(pair)
            failed = [failed[0] + lost[0], failed[1] + lost[1]]
            clear(ground.folder, "once-")
        what = f"create {width} at once ({kind}), {files:,} files"
        yield Row(what, pairs, most_ratio=1.0)
        yield Row(f"{what}: failures", [], failed=(failed[0], failed[1], width * len(pairs)))
    small = min(100, files)
    for kind, side in sides[:2]:
        failed, rounds = [0, 0], ground.sizes.races
        for number in range(rounds):
            _, lost = _at_once(ground, ground.race_folder, small, number, side, f"race-{kind.partition(',')[0]}")
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

    pair = timed(number, partial(keep, 0, theirs), partial(keep, 1, ours))
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
    ours = Ours(place)

    def start() -> list[str]:
        with ThreadPoolExecutor(len(names)) as pool:
            made = [pool.submit(ours.create, name) for name in names]
        return [f"{error} {getattr(error, 'cause', '')}" for one in made if (error := one.exception())]

    return start


_CHILD = """
import sys
sys.path.insert(0, sys.argv[3])
from pathlib import Path
from bench_rows import Ours
ours = Ours(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
try:
    ours.create(sys.argv[2])
except Exception as error:
    print(f"{error} {getattr(error, 'cause', '')}".replace("\\n", " "), flush=True)
    sys.exit(1)
print("made", flush=True)
"""


def _processes(place: Path, names: list[str], to_the_end: bool) -> _Side:
    """Processes that have opened the repository; how long they take to end is the interpreter's affair, and told apart."""
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
        said = [process.stdout.readline() for process in running if process.stdout]
        if to_the_end:
            for process in running:
                process.communicate()
        else:
            threading.Thread(target=lambda: [process.communicate() for process in running]).start()
        return [one or "it ended without a word" for one in said if one != "made\n"]

    return start


def flat(ground: Ground) -> Iterator[Row]:
    """Making one where few and where many exist already."""
    few, many = ground.sizes.present
    template = ground.template(20)
    sides = {}
    for present in (few, many):
        ours = Ours(copy(template, ground.folder / f"flat-{present}"))
        ground.say(f"making {present:,} workspaces that are merely present")
        _fill(ours, present)
        sides[present] = (Theirs(ours.place), ours)
    figures: dict[str, list[tuple[float, float]]] = {"plain git": [], "moderator": []}
    more: dict[str, list[tuple[float, float]]] = {"claim": [], "remove": [], "`moderator path`": []}
    for number in range(ground.sizes.flat + 1):
        name = f"t{number:03d}"
        for whose, side in (("plain git", 0), ("moderator", 1)):
            at_few, at_many = sides[few][side], sides[many][side]
            pair = timed(number, at_few.create, at_many.create, f"{name}-{side}")
            at_few.remove(f"{name}-{side}")
            at_many.remove(f"{name}-{side}")
            if number:
                figures[whose].append(pair)
        for side in sides.values():
            side[1].manager.fill_pool(side[1].root, "main", 1)
        few_side, many_side = sides[few][1], sides[many][1]
        claims = timed(number, few_side.create, many_side.create, f"{name}-claimed")
        gone = timed(number, few_side.put_away, many_side.put_away, f"{name}-claimed")
        paths = timed(number, *(partial(_path, side.place) for side in (few_side, many_side)))
        if number:
            for what, found in zip(more, (claims, gone, paths), strict=True):
                more[what].append(found)
    beside = f"{few} present"
    what = f"create one with {many:,} present against {few}"
    yield Row(f"{what}: plain git", figures["plain git"], beside=beside)
    yield Row(f"{what}: moderator", figures["moderator"], beside=beside, most_ratio=1.2)
    for what, found in more.items():
        yield Row(f"{what} with {many:,} present against {few}", found, beside=beside, most_ratio=1.2)
    clear(ground.folder, "flat-")


def _path(place: Path) -> None:
    done([MODERATOR, "path", "present-0000", "--repo", str(place)], place)


def _fill(ours: Ours, count: int) -> None:
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
                        timed(
                            number,
                            partial(_loop, places[0], names, command, jobs),
                            partial(_moderator_run, places[1], tasks, jobs),
                        )
                    )
                    _check_commits(places[1], count, commits)
                    missing = count - len(list(Path(f"{places[0]}.logs").glob("*.code")))
                    if missing:
                        ground.say(f"git worktree add failed for {missing} of {count} in the shell loop")
                    clear(ground.folder, "run-")
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


def noop(ground: Ground) -> Iterator[Row]:
    """Many tasks that do nothing: what a run costs beside what is run."""
    count, files = ground.sizes.many_tasks, ground.sizes.files[0]
    names = [f"t{number:04d}" for number in range(count)]
    pairs, forks = [], []
    for number in range(min(3, ground.sizes.runs)):
        ground.say(f"{count:,} tasks that do nothing, four at once: pair {number + 1}")
        places = [copy(ground.template(files), ground.folder / f"noop-{whose}") for whose in ("theirs", "ours")]
        tasks = _tasks_file(ground.folder / "noop-tasks.yaml", names, "true")
        counted: list[list[int]] = [[], []]
        theirs = partial(_counting, counted[0], _loop, places[0], names, "true", 4)
        ours = partial(_counting, counted[1], _moderator_run, places[1], tasks, 4)
        pairs.append(timed(number, theirs, ours))
        forks += [(one / count, other / count) for one, other in zip(*counted, strict=True)]
        _check_commits(places[1], count, 0)
        clear(ground.folder, "noop-")
    what = f"{count:,} tasks that do nothing, {files:,} files, 4 at once"
    yield Row(what, pairs, most_ratio=1.0)
    each = [(one / count, other / count) for one, other in pairs]
    yield Row(f"{what}: time for each", each)
    if forks:
        yield Row(f"{what}: processes and threads that were started for each", forks, unit="")


def _counting(found: list[int], do: Callable[..., object], *arguments: object) -> None:
    """Do something, and note how many processes and threads the machine has started meanwhile, where it counts them."""
    before = started_so_far()
    do(*arguments)
    if before is not None:
        found.append((started_so_far() or 0) - before)


def start(ground: Ground) -> Iterator[Row]:
    """Whole processes, beside the bare interpreter."""
    ours = Ours(copy(ground.template(ground.sizes.files[0]), ground.folder / "start-ours"))
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
    clear(ground.folder, "start-")


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
        clear(ground.folder, "memory-")


SECTIONS: dict[str, Callable[[Ground], Iterator[Row]]] = {
    "create": create,
    "claim": claim,
    "remove": remove,
    "together": together,
    "flat": flat,
    "run": run,
    "noop": noop,
    "pooled": pooled,
    "lists": lists,
    "start": start,
    "memory": memory,
}
