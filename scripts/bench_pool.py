"""What is measured of spares and of removal: making with a spare, removing as a person sees it, and runs that use both."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench_ground import MODERATOR, copy, delete, done, file_system, git, seconds
from bench_rows import Ground, Ours, Row, Theirs, clear, timed

_WORKERS = 4
_ON_DISK = 4  # pairs at most


def claim(ground: Ground) -> Iterator[Row]:
    """Making one workspace where a spare waits for it: of the same commit, and of one from which the base has moved."""
    for where, most in ((ground.folder, 1 / 20), (ground.race_folder, 1 / 50)):
        files, rounds = ground.sizes.files[-1], _rounds(ground, where)
        theirs = Theirs(copy(ground.template(files), where / "claim-theirs"))
        ours = Ours(copy(ground.template(files), where / "claim-ours"))
        same, moved = [], []
        for number in range(rounds + 1):
            ours.manager.fill_pool(ours.root, "main", 1)
            same.append(timed(number, theirs.create, ours.create, f"t{number:03d}"))
            ours.manager.fill_pool(ours.root, "main", 1)
            for side in (theirs, ours):
                _move_base(side.place, ground.sizes.moved, number)
            moved.append(timed(number, theirs.create, ours.create, f"m{number:03d}"))
            for name in (f"t{number:03d}", f"m{number:03d}"):
                theirs.remove(name)
                ours.remove(name)
        on = file_system(where)
        yield Row(f"claim a spare, {files:,} files, {on}", same[1:], most_ratio=most)
        what = f"claim a spare, base moved by {ground.sizes.moved} files, {files:,} files, {on}"
        yield Row(what, moved[1:], most_ratio=1 / 8)
        clear(where, "claim-")


def _rounds(ground: Ground, where: Path) -> int:
    """Return how many pairs to take: on a disk one of a large repository takes half a minute."""
    return min(ground.sizes.rounds[-1], _ON_DISK) if where == ground.race_folder else ground.sizes.rounds[-1]


def _move_base(place: Path, files: int, number: int) -> None:
    """Commit a change of so many files on the base branch."""
    names = git(place, "ls-files").splitlines()
    for name in names[:: max(1, len(names) // files)][:files]:
        (place / name).write_text(f"changed {number}\n")
    git(place, "commit", "--quiet", "-a", "-m", f"move {number}")


def remove(ground: Ground) -> Iterator[Row]:
    """Removing one workspace as the person sees it, both looks included; what is deleted later is not.

    Somebody has worked in it: before the first commit every look would read the files of the second of the checkout anew.
    """
    for where, most in ((ground.folder, 1 / 2), (ground.race_folder, 1 / 4)):
        files, rounds = ground.sizes.files[-1], _rounds(ground, where)
        theirs = Theirs(copy(ground.template(files), where / "remove-theirs"))
        ours = Ours(copy(ground.template(files), where / "remove-ours"))
        pairs = []
        for number in range(rounds + 1):
            name = f"t{number:03d}"
            theirs.create(name)
            ours.create(name)
            time.sleep(ground.sizes.pause)
            for root in (f"{theirs.place}.trees", f"{ours.root}/tasks"):
                _work(Path(root, name))
            time.sleep(ground.sizes.pause)
            pairs.append(timed(number, theirs.take_away, ours.put_away, name))
            ours.manager.empty_trash()
        yield Row(
            f"remove one workspace with a commit, {files:,} files, {file_system(where)}", pairs[1:], most_ratio=most
        )
        clear(where, "remove-")


def _work(tree: Path) -> None:
    """Commit a file, as a task would."""
    (tree / "result.txt").write_text("work\n")
    git(tree, "add", "--all")
    git(tree, "commit", "--quiet", "--message", "work")


_LOOP = """
git worktree add -q -b "main-task-$1" "$TREES/$1" main || exit 1
(cd "$TREES/$1" && echo "$1" >result.txt && git add -A && git commit --quiet -m "Work of task $1")
git worktree remove "$TREES/$1"
"""


def pooled(ground: Ground) -> Iterator[Row]:
    """Whole runs that remove what they made, filling and deferred deletion counted: plain, with spares, with recycling."""
    count = ground.sizes.pooled_tasks
    names = [f"t{number:03d}" for number in range(count)]
    few, many = ground.sizes.files[0], ground.sizes.files[-1]
    tasks = ground.folder / "pooled-tasks.yaml"
    lines = [f"- id: {name}\n  description: Work\n  run: echo {name} >result.txt\n" for name in names]
    tasks.write_text("tasks:\n" + "".join(lines))
    for where, files in ((ground.folder, few), (ground.folder, many), (ground.race_folder, many)):
        what = f"{count} tasks over {_WORKERS} workers, removed again, {files:,} files, {file_system(where)}"
        ground.say(f"{what}: plain git")
        theirs = copy(ground.template(files), where / "pooled-theirs")
        plain = seconds(_loop, theirs, names)
        clear(where, "pooled-theirs")
        for how, settings, most in (
            ("", "keep: never\n", None),
            (", spares", f"keep: never\npool: {{size: {_WORKERS}, refill: never}}\n", 0.6),
            (", recycled", f"keep: never\npool: {{size: {_WORKERS}, refill: never}}\nrecycle: pristine\n", 0.25),
        ):
            ground.say(f"{what}{how}")
            ours = copy(ground.template(files), where / "pooled-ours")
            (ours / "moderator.yaml").write_text(settings)
            (ours / ".git/info/exclude").write_text("moderator.yaml\n")
            run = seconds(_run, ours, tasks)
            # What a run leaves to be deleted later belongs to its price, though nobody waits for it.
            left = seconds(Ours(ours).manager.empty_trash)
            yield Row(f"{what}{how}", [(plain, run + left)], most_ratio=most)
            yield Row("  until the run has ended", [(plain, run)])
            clear(where, "pooled-ours")
    delete(tasks)


def _loop(place: Path, names: Sequence[str]) -> None:
    trees = Path(f"{place}.trees")
    trees.mkdir()
    command = ["xargs", "-P", str(_WORKERS), "-I", "{}", "env", f"TREES={trees}", "sh", "-c", _LOOP, "one", "{}"]
    subprocess.run(command, cwd=place, input="\n".join(names), text=True, check=False, capture_output=True)


def _run(place: Path, tasks: Path) -> None:
    done([MODERATOR, "run", str(tasks), "--repo", str(place), "-j", str(_WORKERS), "--progress", "none"], place)
