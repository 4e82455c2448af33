"""The files of a checkout -> what the project is made of.

Of files it reads only those whose names say what they are, and of each only so much.
"""

from __future__ import annotations

import ast
import json
import os
import re
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moderator.document import opened
from moderator.expanding.globs import matching
from moderator.scaffolding.programs import TEST_OF_PYTHON, managers, test_command
from moderator.scaffolding.python import PYTEST, Manager

LARGEST_READ = 256 * 1024
"""Bytes of a file that are looked at."""
MOST_CHECKED = 40
"""Files up to which a list of tasks has one for each."""
_MOST_LOOKED = 12  # directories that are looked at for a pattern with a handful of files
_LANGUAGES = {
    kind: language
    for language, kinds in {
        "Python": "py",
        "JavaScript": "js mjs cjs jsx",
        "TypeScript": "ts tsx",
        "Go": "go",
        "Rust": "rs",
        "Java": "java",
        "Kotlin": "kt",
        "Ruby": "rb",
        "PHP": "php",
        "C": "c h",
        "C++": "cc cpp hpp",
        "C#": "cs",
        "Swift": "swift",
        "Shell": "sh",
    }.items()
    for kind in kinds.split()
}
_ENV_FILE = r"(.*/)?\.(env(\.[A-Za-z0-9_-]+)?|envrc)"
_AN_EXAMPLE = r".*\.(example|sample|template|dist|defaults)"
_PORT_VARIABLE = r"^\s*(?:export\s+)?([A-Z][A-Z0-9_]*_PORT|PORT)\s*=\s*[\"']?(\d{2,5})\b"
_PORT_IN_COMPOSE = r"(?:\$\{([A-Z][A-Z0-9_]*):-(\d{2,5})\}|(?<![\d.])(\d{2,5})):\d{2,5}"
_PATH_OF_SUBMODULE = r"^\s*path\s*=\s*(\S.*?)\s*$"
_PORT_IN_SCRIPT = r"(?:--port[ =]|-p |\bPORT=)(\d{2,5})\b"
_COMPOSE = r"(docker-)?compose(\.[a-z]+)?\.ya?ml"


@dataclass(frozen=True)
class Port:
    """A port that the project listens on: its number, the file that says so, and the variable that it is in, "" if in none."""

    number: int
    where: str
    variable: str = ""


@dataclass(frozen=True)
class Project:
    """What a project is made of.

    `languages` with the number of files, most first; `managers` who makes a checkout ready; `present` what they have put into
    this checkout, as far as a workspace can use it; `env_files` with settings, ignored by git; `patterns` mean files for each of
    which there can be a task, `checkable` says that each of them is a Python file that can be parsed; `missing` is the
    program that the tests need and that nothing seen here installs; `submodules` are the places of such, `absent` those of
    them where nothing is checked out.
    """

    files: int
    languages: tuple[tuple[str, int], ...]
    managers: tuple[Manager, ...]
    present: tuple[str, ...]
    env_files: tuple[str, ...]
    ports: tuple[Port, ...]
    submodules: tuple[str, ...]
    lfs: bool
    tests: str
    patterns: tuple[str, ...]
    checkable: bool
    missing: str = ""
    absent: tuple[str, ...] = ()


def survey(top: str, tracked: Sequence[str], ignored: Collection[str]) -> Project:
    """Look at the checkout at `top`: `tracked` are its files, `ignored` the files and directories (with a `/`) that git ignores."""
    present = {path.rstrip("/") for path in ignored}
    at_top = {path: _text(top, path) for path in tracked if re.fullmatch(r"(requirements/)?[^/]+", path)}
    tests_of_python = [path for path in tracked if re.fullmatch(TEST_OF_PYTHON, path)]
    at_top |= {path: _text(top, path) for path in tests_of_python[:MOST_CHECKED]}
    package = _json(at_top.get("package.json", ""))
    scripts = {name: line for name, line in _mapping(package.get("scripts")).items() if isinstance(line, str)}
    dependencies = any(_mapping(package.get(key)) for key in ("dependencies", "devDependencies"))
    found = managers(at_top, dependencies)
    env_files = sorted(
        path for path in present if re.fullmatch(_ENV_FILE, path) and not re.fullmatch(_AN_EXAMPLE, path)
    )
    usable = {one.makes for one in found if one.makes in present and _travels(top, one.makes)}
    usable |= {name for name in (".venv", "node_modules") if name in present and _travels(top, name)}
    venv = ".venv" in usable or any(one.makes == ".venv" for one in found)
    tests = test_command(at_top, scripts, tracked, venv)
    missing = ""
    if f" -m {PYTEST}" in tests:
        brought = any(one.brings_pytest for one in found)
        carried = any(Path(top, ".venv").glob(f"[Ll]ib*/**/site-packages/{PYTEST}"))
        if brought and not carried:
            usable.discard(".venv")  # made anew it has what tests need
        missing = "" if (carried if ".venv" in usable else brought) else PYTEST
    counted = Counter(_LANGUAGES[kind] for path in tracked if (kind := path.rpartition(".")[2]) in _LANGUAGES)
    submodules = tuple(re.findall(_PATH_OF_SUBMODULE, at_top.get(".gitmodules", ""), re.M))
    patterns, checkable = _worth_a_task(top, tracked)
    return Project(
        files=len(tracked),
        languages=tuple(counted.most_common()),
        managers=tuple(found),
        present=tuple(sorted(usable)),
        env_files=tuple(env_files),
        ports=tuple(_ports(top, tracked, env_files, scripts)),
        submodules=submodules,
        absent=tuple(path for path in submodules if not os.path.lexists(os.path.join(top, path, ".git"))),
        lfs=any("filter=lfs" in _text(top, path) for path in tracked if os.path.basename(path) == ".gitattributes"),
        tests=tests,
        patterns=patterns,
        checkable=checkable,
        missing=missing,
    )


def _travels(top: str, name: str) -> bool:
    """Whether a directory of packages works in another place: not if it leads back to this checkout's own files."""
    folder = Path(top, name)
    if not folder.is_dir() or folder.is_symlink():
        return False
    if name == "node_modules":
        entries = [
            *folder.iterdir(),
            *(one for scope in folder.glob("@*") if scope.is_dir() for one in scope.iterdir()),
        ]
        return not any(one.is_symlink() and os.path.isabs(os.readlink(one)) for one in entries)
    for packages in folder.glob("[Ll]ib*/**/site-packages"):
        if any(packages.glob("__editable__*")):
            return False
        links = [*packages.glob("*.pth"), *packages.glob("*.egg-link")]
        if any(place in _text(str(packages), one.name) for one in links for place in (top, os.path.realpath(top))):
            return False
    return True


def _ports(top: str, tracked: Iterable[str], env_files: Iterable[str], scripts: Mapping[str, str]) -> Iterator[Port]:
    """Yield each port once, those that are in a variable first."""
    found: list[Port] = []
    for path in (*env_files, *(path for path in tracked if re.fullmatch(_ENV_FILE, path))):
        found += [Port(int(port), path, name) for name, port in re.findall(_PORT_VARIABLE, _text(top, path), re.M)]
    for path in tracked:
        if re.fullmatch(_COMPOSE, os.path.basename(path)):
            for name, default, number in re.findall(_PORT_IN_COMPOSE, _text(top, path)):
                found.append(Port(int(default or number), path, name))
    for line in scripts.values():
        found += [Port(int(number), "package.json") for number in re.findall(_PORT_IN_SCRIPT, line)]
    seen: set[int | str] = set()
    for port in sorted(found, key=lambda one: not one.variable):
        if 0 < port.number < 65536 and not {port.number, port.variable or port.number} & seen:
            seen |= {port.number, port.variable or port.number}
            yield port


def _worth_a_task(top: str, tracked: Sequence[str]) -> tuple[tuple[str, ...], bool]:
    """Return patterns that mean a handful of the project's own files, and whether all of them are Python that can be parsed."""
    kinds = Counter(kind for path in tracked if (kind := path.rpartition(".")[2]) in _LANGUAGES)
    for kind, _ in kinds.most_common():
        # The largest of them: in a repository of many thousands of directories, looking for all would take too long.
        folders = Counter(path.rpartition("/")[0] for path in tracked if path.endswith(f".{kind}"))
        tops = [
            folder for folder, _ in Counter(one.partition("/")[0] for one in folders if one).most_common(_MOST_LOOKED)
        ]
        wanted = [f"**/*.{kind}", *(f"{folder}/**/*.{kind}" for folder in tops)]
        wanted += [f"{folder}/*.{kind}" if folder else f"*.{kind}" for folder, _ in folders.most_common(_MOST_LOOKED)]
        for pattern in wanted:
            if any(char in pattern.rpartition("/")[0].replace("**", "") for char in "*?[\\!"):
                continue  # a directory whose name would be a pattern itself
            meant = matching(tracked, [pattern])
            if 0 < len(meant) <= MOST_CHECKED:
                if kind != "py":
                    return (pattern,), False
                broken = [path for path in meant if not _parses(top, path)]
                if len(broken) < len(meant) and not any(char in path for path in broken for char in "*?[\\"):
                    return (pattern, *(f"!{path}" for path in broken)), True
    return (), False


def _parses(top: str, path: str) -> bool:
    try:
        with opened(os.path.join(top, path)) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(file.read(), path)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _text(folder: str, name: str) -> str:
    """Return the beginning of a file, "" if it cannot be read."""
    path = os.path.join(folder, name)
    try:
        if not os.path.isfile(path):  # a pipe would be waited for
            return ""
        with open(path, "rb") as file:
            return file.read(LARGEST_READ).decode("utf-8", "replace")
    except OSError:
        return ""


def _json(text: str) -> Mapping[str, Any]:
    try:
        return _mapping(json.loads(text))
    except (ValueError, RecursionError):
        return {}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
