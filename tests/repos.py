"""Builders of small real repositories, made by the real git.

    make_repository(path)                                            # one commit, a README
    make_repository(path, [("first", {"a.txt": "1\n", b"\xff": b"\0"}), ("second", {"a.txt": None})])
    make_files(path, {"shop": {"type": "git", "commits": [("first", {"a.txt": "1\n"})]}})

The same description gives the same commit ids, on every machine.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pytest_tmp_files import make_files, tmp_file_type

NAME, EMAIL = "Ada Lovelace", "ada@example.com"
DATE = 1_700_000_000
"""Seconds since 1970 of the first commit; each later one is a second younger."""


@dataclass(frozen=True)
class Executable:
    """A file with the mode 755."""

    content: str | bytes


@dataclass(frozen=True)
class Symlink:
    """A symbolic link."""

    target: str | bytes


@dataclass(frozen=True)
class Gitlink:
    """A submodule at a commit of its own."""

    commit: str


Content = str | bytes | Executable | Symlink | Gitlink | None
"""What a path holds after a commit; None takes it away."""
Commits = Iterable[tuple[str, Mapping[str | bytes, Content]]]
"""Each commit: its message, and the paths that it changes."""

ONE_COMMIT: Commits = (("first", {"README.md": "# Sample\n"}),)


def git(path: Path | str, *arguments: str | bytes | Path, stdin: str | bytes = b"", **environment: str) -> str:
    """Return what git prints in a directory, without the last newline; fail with its own words if it fails.

    Bytes that are no UTF-8 come as surrogates, as in every file name that Python gives.
    """
    done = subprocess.run(
        ["git", *arguments],
        cwd=path,
        input=os.fsencode(stdin),
        capture_output=True,
        env={**os.environ, **environment},
    )
    if done.returncode != 0:
        command = " ".join(os.fsdecode(argument) for argument in arguments)
        raise AssertionError(f"git {command} ended with {done.returncode}: {os.fsdecode(done.stderr)}")
    return os.fsdecode(done.stdout).removesuffix("\n")


@contextmanager
def git_processes(folder: Path) -> Iterator[list[str]]:
    """Give a list that has, after the `with`, the command of every git process that this one and its children started.

    Git tells of itself, into new files in this folder: nothing of ours is replaced.
    """
    folder.mkdir()
    commands: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIT_TRACE2_EVENT", str(folder))
        yield commands
    for process in folder.iterdir():
        events = map(json.loads, process.read_text().splitlines())
        commands += [event["name"] for event in events if event["event"] == "cmd_name"]
    commands.sort()


def make_repository(
    path: Path | str, commits: Commits = ONE_COMMIT, *, branch: str = "main", bare: bool = False
) -> Path:
    """Make a repository with these commits on one branch, checked out; no commits leave the branch unborn."""
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    commits = list(commits)
    git(path, "init", "--quiet", f"--initial-branch={branch}", *(["--bare"] if bare else []))
    if commits:
        git(path, "fast-import", "--quiet", stdin=b"".join(_stream(branch, commits)))
        if not bare:
            git(path, "reset", "--quiet", "--hard")
    return path


def _stream(branch: str, commits: Commits) -> Iterable[bytes]:
    """The commits in the words of git-fast-import(1): a single process however many files there are."""
    for number, (message, files) in enumerate(commits):
        yield f"commit refs/heads/{branch}\n".encode()
        yield f"committer {NAME} <{EMAIL}> {DATE + number} +0000\n".encode()
        yield _data(f"{message}\n")
        for name, content in files.items():
            quoted = os.fsencode(name).replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
            match content:
                case None:
                    yield b'D "%s"\n' % quoted
                case Executable(body):
                    yield b'M 100755 inline "%s"\n' % quoted + _data(body)
                case Symlink(target):
                    yield b'M 120000 inline "%s"\n' % quoted + _data(target)
                case Gitlink(commit):
                    yield b'M 160000 %s "%s"\n' % (commit.encode(), quoted)
                case _:
                    yield b'M 100644 inline "%s"\n' % quoted + _data(content)
        yield b"\n"


def _data(content: str | bytes) -> bytes:
    content = os.fsencode(content)
    return b"data %d\n%s\n" % (len(content), content)


@tmp_file_type("git")
def _make_described_repository(path: Path, described: Mapping[str, Any]) -> None:
    """Make the repository of `{"type": "git", "commits": ..., "branch": ..., "bare": ..., "files": {...}}`.

    `files` are written after the last commit, as `make_files` takes them.
    """
    given = {key: described[key] for key in ("commits", "branch", "bare") if key in described}
    make_repository(path, **given)
    make_files(path, described.get("files", {}))
