"""The ground that benchmarks stand on: a folder of their own, repositories in it, processes, and machine facts.

Knows how to prepare and to clean up; must not know what is measured.
"""

from __future__ import annotations

import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

MODERATOR = str(Path(sys.executable).with_name("moderator"))
_WORDS = 20_000  # different words that generated files are made of
_POOL = 4 << 20  # bytes of generated text that files are cut from


class StepFailed(Exception):
    """A step of the benchmark itself did not work, so there is nothing to measure."""


@contextmanager
def playground(where: str) -> Iterator[Path]:
    """Give a folder under `where` that is deleted afterwards, whatever happens."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="moderator-bench-", dir=where))
    except OSError as error:
        raise StepFailed(f"no folder can be made in {where!r}: {error.strerror}") from error
    try:
        yield folder
    finally:
        delete(folder)


def delete(folder: Path) -> None:
    """Delete a folder with everything in it: rm(1) is several times faster than Python."""
    subprocess.run(["rm", "-rf", "--", str(folder)], check=False)


def seal(folder: Path) -> None:
    """Let neither the user's configuration nor that of a surrounding git command decide what is measured."""
    home = folder / "home"
    home.mkdir()
    settings = home / "gitconfig"
    settings.write_text("[user]\n\tname = Ada Lovelace\n\temail = ada@example.com\n[init]\n\tdefaultBranch = main\n")
    for name in [name for name in os.environ if name.startswith(("GIT_", "MODERATOR_", "XDG_", "PYTHON"))]:
        del os.environ[name]
    os.environ.update(HOME=str(home), GIT_CONFIG_GLOBAL=str(settings), GIT_CONFIG_NOSYSTEM="1", NO_COLOR="1")


def done(command: Sequence[str], cwd: Path, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> str:
    """Run a command that has to work, and return what it printed."""
    ended = subprocess.run(command, cwd=cwd, input=stdin, capture_output=True, env={**os.environ, **(env or {})})
    if ended.returncode:
        said = ended.stderr.decode("utf-8", "replace").strip()[-2000:]
        raise StepFailed(f"{' '.join(command)[:200]} ended with exit code {ended.returncode}\n{said}")
    return ended.stdout.decode("utf-8", "surrogateescape")


def git(cwd: Path, *arguments: str) -> str:
    return done(["git", *arguments], cwd)


@cache
def _language() -> tuple[list[bytes], bytes]:
    """Return words, and a long text of them, that compresses about as well as source code."""
    chance = random.Random(0)
    words = [
        "".join(chance.choices("etaoinshrdlucmfwypvbgk_", k=chance.randint(2, 11))).encode() for _ in range(_WORDS)
    ]
    ends = chance.choices((b" ", b" ", b" ", b" ", b"\n"), k=_POOL // 7)
    return words, b"".join(word + end for word, end in zip(chance.choices(words, k=_POOL // 7), ends, strict=True))


def repository(folder: Path, files: int) -> Path:
    """Make a repository with one commit of so many files, as a clone would have it: one pack, checked out.

    Sizes are log-normal (median 2 kB, mean about 5 kB), directories up to six deep with a dozen files each; the same every time.
    """
    chance = random.Random(files)
    words, pool = _language()
    places = [""]
    while len(places) < max(2, files // 12):
        parent = chance.choice(places)
        if parent.count("/") < 6:
            places.append(f"{parent}{chance.choice(words).decode()}{len(places)}/")
    git(folder.parent, "init", "--quiet", str(folder))
    with subprocess.Popen(["git", "fast-import", "--quiet"], cwd=folder, stdin=subprocess.PIPE) as importing:
        assert importing.stdin is not None
        write = importing.stdin.write
        write(b"commit refs/heads/main\ncommitter Ada Lovelace <ada@example.com> 1700000000 +0000\ndata 5\nfirst\n")
        for number in range(files):
            size = min(int(chance.lognormvariate(7.6, 1.3)), 200_000)
            start = chance.randrange(len(pool) - size)
            name = f"{chance.choice(places)}{chance.choice(words).decode()}{number}.txt"
            write(b"M 100644 inline %s\ndata %d\n%s\n" % (name.encode(), size, pool[start : start + size]))
    if importing.returncode:
        raise StepFailed("git fast-import failed")
    git(folder, "reset", "--quiet", "--hard")
    return folder


def copy(source: Path, target: Path) -> Path:
    """Copy a repository, its checkout included."""
    done(["cp", "-a", str(source), str(target)], source.parent)
    git(target, "update-index", "-q", "--refresh")  # the copies are other inodes
    return target


def seconds(action: Callable[..., object], *arguments: object) -> float:
    began = time.perf_counter()
    action(*arguments)
    return time.perf_counter() - began


_PEAK = """
import sys
def peak():
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
    except FileNotFoundError:
        import resource
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
from moderator.cli import main
sys.argv[0] = "moderator"
try:
    main()
finally:
    with open(PLACE, "w") as place:
        place.write(str(peak()))
"""
# Not ru_maxrss on Linux: exec(2) hands it down, so it would tell of whoever started the process.


def peak_memory(arguments: Sequence[str], cwd: Path) -> int:
    """Run `moderator` and return the bytes of memory that its own process, without children, had at most."""
    place = cwd / "peak"
    done([sys.executable, "-c", _PEAK.replace("PLACE", repr(str(place))), *arguments], cwd)
    return int(place.read_text()) * 1024


def started_so_far() -> int | None:
    """Return how many processes and threads this machine has started since it booted, proc(5); None where nobody counts."""
    try:
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("processes ")), None)


def file_system(folder: Path) -> str:
    """Return the kind of file system a folder is on, as df(1) names it."""
    lines = done(["df", "-PT", str(folder)], folder).splitlines() if sys.platform == "linux" else []
    return lines[-1].split()[1] if lines else "unknown file system"


def load() -> str:
    return " ".join(f"{value:.1f}" for value in os.getloadavg())


def machine() -> str:
    """Return what the figures depend on."""
    git_version = done(["git", "--version"], Path("/")).removeprefix("git version ").strip()
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    return f"{os.cpu_count()} cores, {system}, Python {platform.python_version()}, git {git_version}"


def ordinary_folder() -> str:
    return tempfile.gettempdir()


def quick_folder() -> str:
    """Return a folder in memory where there is one: deleting and creating many files costs the same at any time there."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir()


def need(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            raise StepFailed(f"{program!r} was not found: install it, or put its directory on PATH")
