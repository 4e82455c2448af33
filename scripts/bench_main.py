"""Time moderator against plain git, in pairs in the same run, and print one table.

Every figure is a median; a ratio is the median of the pairs' ratios (moderator over plain git) with the least and the
greatest.  Nothing is judged by the exit code: it is 0 if every step worked, 1 if one did not.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import bench_ground
from bench_ground import StepFailed, file_system, git, load, machine, need, playground, seal
from bench_rows import FULL, QUICK, SMOKE, Ground, Row
from bench_sections import SECTIONS

_FEW = 2_000  # files up to which a given repository can be checked out a thousand times
HEADS = ("what", "plain git", "moderator", "ratio (min-max)", "aim", "met")


def main() -> int:
    options = _options()
    # Whoever ends us should find nothing of ours left.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    began, before = time.monotonic(), load()
    rows: list[Row] = []
    try:
        need("git", "sh", "xargs", "cp", "rm")
        with playground(options.dir) as folder, playground(options.race_dir) as race_folder:
            seal(folder)
            sizes = SMOKE if options.smoke else QUICK if options.quick else FULL
            if options.repo:
                files = len(git(options.repo, "ls-tree", "-r", "--name-only", "HEAD").splitlines())
                # A thousand workspaces of a large repository fill a disk: those rows are of a small one then.
                of_it, others = (files, sizes.rounds[-1]), [(sizes.files[0], sizes.rounds[0])] if files > _FEW else []
                counts, rounds = zip(*others, of_it, strict=True)
                sizes = replace(sizes, files=counts, rounds=rounds)
            ground = Ground(folder, race_folder, sizes, _say, options.repo, tuple(options.compare or ()) or None)
            for name, section in SECTIONS.items():
                if name not in (options.only or SECTIONS):
                    continue
                _say(f"section {name}")
                for row in section(ground):
                    rows.append(row)
                    _say("  ".join(row.cells))
            places = f"{file_system(folder)} (races: {file_system(race_folder)})"
    except StepFailed as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    if options.json:
        print(
            json.dumps(
                {"schema_version": 1, "machine": machine(), "places": places, "rows": [row.to_dict() for row in rows]}
            )
        )
        return 0
    _print_table([row.cells for row in rows])
    if any(row.cells[-1] == "scaled" for row in rows):
        print("\nscaled: within the aim, if that is stretched as bare Python starts slower here than in 10 ms.")
    print(f"\n{machine()}; {places}; load {before} before, {load()} after; took {time.monotonic() - began:.0f} s.")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=(__doc__ or "").partition("\n\n")[2])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="a reduced form, about a minute")
    size.add_argument("--smoke", action="store_true", help="only shows that every step works; the figures mean nothing")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--repo", type=Path, help="measure on this repository instead of generated ones")
    parser.add_argument("--json", action="store_true", help="every single figure, as one JSON document")
    parser.add_argument(
        "--compare", nargs=2, metavar=("CREATE", "REMOVE"),
        help="the commands of another tool, with {repo}, {path} and {branch} for the names",
    )  # fmt: skip
    parser.add_argument("--dir", default=bench_ground.quick_folder(), help="where to measure (default: %(default)s)")
    parser.add_argument(
        "--race-dir", default=bench_ground.ordinary_folder(),
        help="an ordinary file system, where races show (default: %(default)s)",
    )  # fmt: skip
    options = parser.parse_args()
    options.dir, options.race_dir = str(Path(options.dir).resolve()), str(Path(options.race_dir).resolve())
    return options


def _print_table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in [HEADS, *rows]) for column in range(len(HEADS))]
    for row in [HEADS, tuple("-" * width for width in widths), *rows]:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
