"""`moderator` as people and scripts call it: a process of its own; and pictures of directories, to compare.

done = moderator(repository, "run", "tasks.yaml")        # done.returncode, done.stdout, done.stderr
before = picture(folder); ...; assert picture(folder) == before
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from ready import Ready, can_be_forked

PATIENCE = 30.0
"""Seconds after which something that should have happened never will."""


_ready = functools.cache(Ready)


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "moderator", *map(str, arguments)]


def moderator(cwd: Path | str, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one command to its end, with these variables on top of the environment."""
    whole = {**os.environ, **environment}
    if can_be_forked(whole):
        return _ready().run(list(map(str, arguments)), os.fspath(cwd), whole, 2 * PATIENCE)
    return subprocess.run(
        command(*arguments),
        cwd=cwd,
        env=whole,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        timeout=2 * PATIENCE,
    )


@contextlib.contextmanager
def started(cwd: Path, *arguments: str | Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Start a command and go on; it is killed at the end of the `with` if it still runs."""
    process = subprocess.Popen(
        command(*arguments),
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def task_list(path: Path, *tasks: Mapping[str, Any], **top: Any) -> Path:
    """Write a task list; JSON is YAML."""
    path.write_text(json.dumps({**top, "tasks": list(tasks)}))
    return path


def document(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return the one JSON document that a command printed, and see to its version."""
    found: dict[str, Any] = json.loads(done.stdout)
    assert found.pop("schema_version") == 1
    return found


def picture(*folders: Path) -> dict[str, tuple[int, str]]:
    """Return everything below the folders: the mode of each path, with a file's content or a link's target."""
    found = {}
    for folder in folders:
        for path in [folder, *sorted(folder.rglob("*"))]:
            mode = path.lstat().st_mode
            content = ""
            if stat.S_ISLNK(mode):
                content = os.readlink(path)
            elif stat.S_ISREG(mode):
                content = sha256(path.read_bytes()).hexdigest()
            found[str(path)] = (mode, content)
    return found


def wait_until(holds: Callable[[], object], what: str = "it") -> None:
    """Return as soon as `holds()` is true; fail if that takes too long."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"{what} never happened"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and waits to be noticed does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def ids(documents: Sequence[Mapping[str, Any]]) -> list[str]:
    return [one["task_id"] for one in documents]
