"""Build the sample repository: real source files that every Python brings along, in several commits.

    build.py DIRECTORY

The files are copies from the standard library of the Python that runs this.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

LIBRARY = Path(sysconfig.get_path("stdlib"))
HERE = Path(__file__).parent
IGNORED = shutil.ignore_patterns("__pycache__", "*.pyc", "test", "tests", "idle_test", "*.exe", "*.so")

COMMITS = [
    ("Start with the plain modules", ["*.py"]),
    ("Add the data formats", ["json", "csv.py", "email", "html", "xml", "tomllib", "zoneinfo"]),
    ("Add the network", ["http", "urllib", "wsgiref", "xmlrpc"]),
    ("Add concurrency", ["asyncio", "concurrent", "multiprocessing"]),
    ("Add the tools for developers", ["unittest", "logging", "importlib", "collections", "encodings", "distutils"]),
    ("Add the converter", ["lib2to3", "ctypes", "sqlite3", "curses", "pydoc_data", "re"]),
]


def main(target: Path) -> None:
    """Make the repository at `target`, which must not exist."""
    target.mkdir(parents=True)
    git(target, "init", "--quiet", "--initial-branch=main")
    git(target, "config", "user.name", "Sample Author")
    git(target, "config", "user.email", "sample@example.com")
    for message, patterns in COMMITS:
        for pattern in patterns:
            for source in sorted(LIBRARY.glob(pattern)):
                copy(source, target / "lib" / source.name)
        commit(target, message)
    shutil.copytree(HERE / "tools", target / "tools", ignore=IGNORED)
    (target / ".gitignore").write_text("__pycache__/\n", "utf-8")
    commit(target, "Add the tools that tasks use")
    count = len(git(target, "ls-files", "-z").split("\0")) - 1
    commits = git(target, "rev-list", "--count", "HEAD").strip()
    print(f"{count} files in {commits} commits", file=sys.stderr)


def copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=IGNORED)
    elif source.is_file():
        target.parent.mkdir(exist_ok=True)
        shutil.copy(source, target)


def commit(repository: Path, message: str) -> None:
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--allow-empty", f"--message={message}")


def git(repository: Path, *arguments: str) -> str:
    # Started from a git hook, git would otherwise work on that hook's repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    settings = ("-c", "core.hooksPath=/dev/null", "-c", "commit.gpgSign=false", "-c", "core.autocrlf=false")
    done = subprocess.run(
        ["git", *settings, *arguments], cwd=repository, env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
