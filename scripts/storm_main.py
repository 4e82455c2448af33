"""Attack moderator: every kind of unsaved work, kills, races, any order of commands, hostile tasks; then print one table.

The exit code is 0 if nothing was lost and nothing of ours failed, 1 otherwise; every loss and failure is told with the seed
that repeats it.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import bench_ground
import storm_ground
from storm_ground import Options, Row

SECTIONS = ("matrix", "ledger", "kills", "races", "hostile")
QUICK = 0.06
HEADS = ("what", "count", "kills", "creations", "losses", "failures")
_SHOWN = 40  # details of a kind that are printed


def main() -> int:
    asked = _options()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    share = storm_ground.SMOKE if asked.smoke else QUICK if asked.quick else 1.0
    options = Options(asked.seed, share, asked.jobs, _say)
    began = time.monotonic()
    rows: list[Row] = []
    pictures: list[str] = []
    folder = Path(tempfile.mkdtemp(prefix="moderator-storm-", dir=asked.dir))
    tempfile.tempdir = str(folder)  # what our own sections make aside goes there too
    try:
        bench_ground.seal(folder)
        os.environ["TMPDIR"] = str(folder)
        chosen = asked.sections or SECTIONS
        for name in chosen:
            _say(f"section {name}")
            rows += _section(name, folder, options, asked, pictures)
    finally:
        bench_ground.delete(folder)
    print_table(rows, pictures)
    took = time.monotonic() - began
    print(
        f"\nseed {asked.seed}; {bench_ground.machine()}; {bench_ground.file_system(Path(asked.dir))}; took {took:.0f} s."
    )
    return 1 if any(row.losses or row.failures for row in rows) else 0


def _section(name: str, folder: Path, options: Options, asked: argparse.Namespace, pictures: list[str]) -> list[Row]:
    # Imported here: what one section needs must not keep the others from running.
    if name == "matrix":
        import storm_matrix

        rows, cells = storm_matrix.matrix(folder, options, asked.command, asked.strict)
        pictures += storm_matrix.picture(cells)
        return rows
    if name == "races":
        import storm_races

        return storm_races.races(folder, options, *((2, 3) if asked.smoke else ()))
    single: dict[str, Callable[[], Row]] = {}
    if name == "kills":
        import storm_kills

        single[name] = lambda: storm_kills.kills(folder, options)
    elif name == "ledger":
        import storm_ledger

        single[name] = lambda: storm_ledger.ledger(options)
    else:
        import storm_hostile

        single[name] = lambda: storm_hostile.hostile(folder, options)
    return [single[name]()]


def print_table(rows: list[Row], pictures: list[str]) -> None:
    """Print what went wrong in full, then the matrix, then the table."""
    for row in rows:
        for kind, details in (("LOSS", row.losses), ("FAILURE", row.failures)):
            for one in details[:_SHOWN]:
                print(f"{kind}: {row.what}: {one}")
            if len(details) > _SHOWN:
                print(f"{kind}: {row.what}: and {len(details) - _SHOWN} more")
    if pictures:
        print("\n" + "\n".join(pictures) + "\n")
    cells = [
        (row.what, str(row.count), str(row.kills), str(row.creations), str(len(row.losses)), str(len(row.failures)))
        for row in rows
    ]
    widths = [max(len(line[column]) for line in [HEADS, *cells]) for column in range(len(HEADS))]
    for line in [HEADS, tuple("-" * width for width in widths), *cells]:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |")
    for row in rows:
        if row.note:
            print(f"\n{row.what}: {row.note}.")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/storm", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"{', '.join(SECTIONS)} (default: all)")
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--quick", action="store_true", help="a reduced form, about ten minutes instead of an hour or more"
    )
    size.add_argument("--smoke", action="store_true", help="only shows that every step works; the figures mean nothing")
    parser.add_argument("--seed", type=int, default=0, help="repeats a storm (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="attacks at once (default: %(default)s)")
    parser.add_argument(
        "--command", action="append", default=[], metavar="LINE",
        help="put another tool's removal into the matrix; {path}, {name}, {branch} and {repo} are filled in",
    )  # fmt: skip
    parser.add_argument("--strict", action="store_true", help="count the losses of --command too")
    parser.add_argument(
        "--dir", default=bench_ground.ordinary_folder(), help="where, on an ordinary file system (default: %(default)s)"
    )
    options = parser.parse_args()
    for name in options.sections:
        if name not in SECTIONS:
            parser.error(f"no section is called {name!r}; there are {', '.join(SECTIONS)}")
    options.dir = str(Path(options.dir).resolve())
    return options


def _say(text: str) -> None:
    print(f"storm: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
