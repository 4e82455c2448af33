"""What is measured of looking at many workspaces."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from bench_ground import MODERATOR, copy, done
from bench_rows import CORES, Ground, Ours, Row, clear, timed

_ROUNDS = 5


def lists(ground: Ground) -> Iterator[Row]:
    """`list` and `list --status` beside a shell loop of `git status` over the same workspaces.

    `--status` for the second time, as nothing has happened in them since, and for the first.
    """
    for count in ground.sizes.lists:
        ours = Ours(copy(ground.template(ground.sizes.files[0]), ground.folder / "lists-ours"))
        ground.say(f"making {count:,} workspaces to list")
        with ThreadPoolExecutor(CORES) as pool:
            list(pool.map(ours.create, [f"present-{number:04d}" for number in range(count)]))
        plain, status, first, shared = [], [], [], []
        loop, at_once = partial(_loop, ours.root), partial(_at_once, ours.root)
        looking = partial(_list, ours.place, "--status")
        for _ in range(2):  # the first makes indexes younger than the files, the second is the first that is remembered
            looking()
        for number in range(min(_ROUNDS, max(ground.sizes.rounds)) + 1):
            plain.append(timed(number, loop, partial(_list, ours.place)))
            status.append(timed(number, loop, looking))
            first.append(timed(number, loop, partial(_list_anew, ours.place)))
            shared.append(timed(number, loop, at_once))
        yield Row(f"`moderator list`, {count:,} workspaces", plain[1:], most=0.5)
        what = f"`moderator list --status`, {count:,} workspaces"
        yield Row(what, status[1:], most_ratio=0.5)
        yield Row(f"{what}, for the first time", first[1:])
        yield Row(f"{what}: what `xargs -P {CORES}` makes of that loop", shared[1:])
        clear(ground.folder, "lists-")


def _loop(root: str) -> None:
    script = 'for tree in "$1"/tasks/*/; do git -C "$tree" status --porcelain --branch; done'
    done(["sh", "-c", script, "loop", root], Path(root))


def _at_once(root: str) -> None:
    """Do what the loop does on all cores: no tool that asks git once for each workspace can be much faster."""
    script = 'printf "%s\\0" "$1"/tasks/*/ | xargs -0 -P "$2" -I "{}" git -C "{}" status --porcelain --branch'
    done(["sh", "-c", script, "loop", root, str(CORES)], Path(root))


def _list_anew(place: Path) -> None:
    """Look into every workspace as if nobody had before."""
    (place / ".git/moderator/looks.json").unlink(missing_ok=True)
    _list(place, "--status")


def _list(place: Path, *options: str) -> None:
    done([MODERATOR, "list", *options, "--repo", str(place)], place)
