"""How a Python project is made ready for its tests, told by its files: who installs, and which of its optional parts.

Facts about other people's programs, as their documentation has them (November 2026).  Must not know a file system.
"""

from __future__ import annotations

import configparser
import os
import re
import shlex
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

PYTEST = "pytest"
_FOR_TESTS = ("test", "tests", "testing")
_FOR_WORK = ("dev", "develop", "development")
_REQUIREMENTS = (
    *(f"requirements/{name}.txt" for name in (*_FOR_TESTS, *_FOR_WORK)),
    *(f"requirements{between}{name}.txt" for between in "-_" for name in (*_FOR_TESTS, *_FOR_WORK)),
    *(f"{name}{between}requirements.txt" for between in "-_" for name in (*_FOR_TESTS, *_FOR_WORK)),
)
"""Files with what tests need, by the names that people give them."""
_VENV = "python3 -m venv .venv && echo '*' > .venv/.gitignore && "  # which Python does itself from 3.13 on
_PIP = ".venv/bin/python -m pip install -q"
_NEWER_PIP = f"{_PIP} 'pip>=25.1' && "  # the first that takes --group
_OWN = "env -u VIRTUAL_ENV -u CONDA_PREFIX"  # or these would install into the environment that is active, a person's
_PIPENV = f"{_OWN} PIPENV_VENV_IN_PROJECT=1 pipenv"
_POETRY = f"{_OWN} POETRY_VIRTUALENVS_IN_PROJECT=true poetry install --no-interaction"
_PDM = f"{_OWN} PDM_VENV_IN_PROJECT=1 pdm install --frozen-lockfile"


@dataclass(frozen=True)
class Manager:
    """Who makes a checkout ready: by which file it is told, what it puts where, what to type, and whether pytest comes with it."""

    name: str
    told_by: str
    makes: str
    setup: str
    brings_pytest: bool = False


@dataclass(frozen=True)
class _Parts:
    """What a project says that it needs: always, and in parts by name, each part with its requirements."""

    always: tuple[str, ...]
    extras: Mapping[str, tuple[str, ...]]
    groups: Mapping[str, tuple[str, ...]]
    optional: frozenset[str] = frozenset()
    """Groups that poetry installs only if they are asked for."""


def python_manager(files: Mapping[str, str]) -> Manager | None:
    """Return who makes a Python checkout ready, None if nobody has to; `files` have their text by their path."""
    document = parsed_toml(files.get("pyproject.toml", ""))
    parts = _parts(document, files)
    extras, groups = _chosen(parts.extras), _chosen(parts.groups)
    wanted = [line for name in extras for line in parts.extras[name]]
    always = _has_pytest((*parts.always, *wanted))
    in_groups = _has_pytest(line for name in groups for line in parts.groups[name])
    in_any = in_groups or _has_pytest(
        line for name in parts.groups.keys() - parts.optional for line in parts.groups[name]
    )
    if "uv.lock" in files:
        asked = "".join(f" --extra {name}" for name in extras)
        asked += "".join(f" --group {name}" for name in groups if name not in _uv_defaults(document))
        return Manager("uv", "uv.lock", ".venv", f"uv sync --frozen{asked}", always or in_groups)
    poetry = _section(document, "tool", "poetry")
    if "poetry.lock" in files or (poetry and "pdm.lock" not in files):
        locked = "poetry.lock" in files
        asked = "".join(f" --extras {name}" for name in extras)
        asked += "".join(f" --with {name}" for name in groups if name in parts.optional)
        # What it resolves without a lock file is no work of a task's.
        setup = f"{_POETRY}{asked}" + ("" if locked else " && git clean -fq poetry.lock")
        return Manager("poetry", "poetry.lock" if locked else "pyproject.toml", ".venv", setup, always or in_any)
    if "pdm.lock" in files:
        return _by_pdm(files["pdm.lock"], parts)
    if "Pipfile.lock" in files:
        brings = f'"{PYTEST}"' in files["Pipfile.lock"]
        return Manager("pipenv", "Pipfile.lock", ".venv", f"{_PIPENV} sync --dev", brings)
    if "Pipfile" in files:
        pipfile = parsed_toml(files["Pipfile"])
        brings = _has_pytest(name for part in ("packages", "dev-packages") for name in _section(pipfile, part))
        return Manager("pipenv", "Pipfile", ".venv", f"{_PIPENV} install --dev --skip-lock", brings)
    return _by_pip(files, document, parts, extras, groups)


def _by_pdm(lock: str, parts: _Parts) -> Manager:
    """Return pdm, which installs what is locked, whole parts and groups; what it is asked for beside that it refuses."""
    named = re.search(r"^groups\s*=\s*(\[[^]]*\])", lock.partition("[metadata]")[2], re.MULTILINE)
    every = {**parts.extras, **parts.groups}
    locked = re.findall(r"[\"']([^\"']+)[\"']", named[1]) if named else list(parts.groups)
    needed = (*parts.always, *(line for name in locked for line in every.get(name, ())))
    return Manager("pdm", "pdm.lock", ".venv", _PDM, _has_pytest(needed))


def _by_pip(
    files: Mapping[str, str], document: Mapping[str, Any], parts: _Parts, extras: list[str], groups: list[str]
) -> Manager | None:
    listed = _requirement_files(files)
    lines = [line for name in listed for line in _lines_of(name, files)]
    package = {"project", "build-system"} <= document.keys() or "setup.py" in files
    package = package or ("build-system" in document and "[metadata]" in files.get("setup.cfg", ""))
    words = [f"-r {shlex.quote(name)}" for name in listed]
    told_by = listed[-1] if listed else ""
    brings = _has_pytest(lines)
    if package and not any(re.match(r"(-e|--editable)[ =]?\s*\.|\.(\[|$)", line) for line in lines):
        words.append("-e " + (f"'.[{','.join(extras)}]'" if extras else "."))
        told_by = told_by or next(name for name in ("pyproject.toml", "setup.py") if name in files)
        brings |= _has_pytest((*parts.always, *(line for name in extras for line in parts.extras[name])))
    newer = ""
    if groups:
        words += [f"--group {name}" for name in groups]
        told_by, newer = told_by or "pyproject.toml", _NEWER_PIP
        brings |= _has_pytest(line for name in groups for line in parts.groups[name])
    return Manager("pip", told_by, ".venv", f"{_VENV}{newer}{_PIP} {' '.join(words)}", brings) if words else None


def _requirement_files(files: Mapping[str, str]) -> list[str]:
    """Return the files of requirements to install: what is always needed, and what tests need, where that does not include it."""
    named = {name: tuple(_lines_of(name, files)) for name in _REQUIREMENTS if name in files}
    by_use = {use: [name for name in named if re.search(rf"\b{use}\b", name.replace("_", "-"))] for use in _FOR_TESTS}
    chosen = [name for names in by_use.values() for name in names]
    if not _has_pytest(line for name in chosen for line in named[name]):
        work = [name for name in named if name not in chosen]
        chosen += [name for name in work if _has_pytest(named[name])][:1] or ([] if chosen else work[:1])
    first = "requirements.txt"
    if (
        first in files
        and not any(first in set(_included(name, files)) for name in chosen)
        and [*_lines_of(first, files)]
    ):
        chosen.insert(0, first)
    return [name for name in chosen if files[name].strip()]


def _included(name: str, files: Mapping[str, str]) -> Iterator[str]:
    """Yield the files of requirements that one includes, itself first, each once."""
    todo, seen = [name], set()
    while todo:
        one = todo.pop()
        if one in seen or one not in files:
            continue
        seen.add(one)
        yield one
        found = re.findall(r"^\s*(?:-r|--requirement)[ =]?\s*(\S+)", files[one], re.MULTILINE)
        todo += [os.path.normpath(os.path.join(os.path.dirname(one), other)) for other in found]


def _lines_of(name: str, files: Mapping[str, str]) -> Iterator[str]:
    for one in _included(name, files):
        yield from (line.strip() for line in files[one].splitlines() if re.match(r"\s*[^\s#]", line))


def _chosen(parts: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Return the names of the parts that tests need: those called after tests, and one with pytest in it if none of them has."""
    chosen = [name for name in _FOR_TESTS if name in parts]
    if not _has_pytest(line for name in chosen for line in parts[name]):
        others = [name for name in (*_FOR_WORK, *parts) if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name)]
        chosen += [name for name in others if _has_pytest(parts.get(name, ()))][:1]
    return chosen


def _has_pytest(requirements: Iterable[str]) -> bool:
    """Whether pytest, or something made for it, is among the requirements: `pytest>=8`, `pytest-cov`."""
    return any(re.match(r"pytest(?![a-z])", line.strip(), re.IGNORECASE) for line in requirements)


def _parts(document: Mapping[str, Any], files: Mapping[str, str]) -> _Parts:
    project = _section(document, "project")
    poetry = _section(document, "tool", "poetry")
    extras = {name: _texts(lines) for name, lines in _section(project, "optional-dependencies").items()}
    extras = {**_extras_of_setup(files), **extras}
    own = re.escape(str(project.get("name", "")))
    extras = {name: tuple(_whole(name, extras, own, ())) for name in extras}
    written = _section(document, "dependency-groups")
    groups = {name: tuple(_group(name, written, ())) for name in written}
    groups |= {"dev": _texts(old)} if (old := _section(document, "tool", "uv").get("dev-dependencies")) else {}
    groups |= {name: _texts(lines) for name, lines in _section(document, "tool", "pdm", "dev-dependencies").items()}
    of_poetry = _section(poetry, "group")
    groups |= {name: tuple(_section(of_poetry, name, "dependencies")) for name in of_poetry}
    groups |= {"dev": tuple(old)} if (old := _section(poetry, "dev-dependencies")) else {}
    extras |= {name: _texts(lines) for name, lines in _section(poetry, "extras").items()}
    return _Parts(
        (*_texts(project.get("dependencies")), *_section(poetry, "dependencies")),
        extras,
        groups,
        frozenset(name for name in of_poetry if _section(of_poetry, name).get("optional") is True),
    )


def _extras_of_setup(files: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Return the extras that setup.cfg has, or setup.py as far as they stand there as they are."""
    parser = configparser.RawConfigParser()
    found: dict[str, tuple[str, ...]] = {}
    try:
        parser.read_string(files.get("setup.cfg", ""))
        found = {name: tuple(lines.split("\n")) for name, lines in parser.items("options.extras_require")}
    except configparser.Error:
        pass
    names = "|".join((*_FOR_TESTS, *_FOR_WORK))
    for name, lines in re.findall(rf"[\"']({names})[\"']\s*:\s*\[([^]]*)\]", files.get("setup.py", "")):
        found.setdefault(name, tuple(re.findall(r"[\"']([^\"']+)[\"']", lines)))
    return found


def _whole(name: str, extras: Mapping[str, tuple[str, ...]], own: str, within: tuple[str, ...]) -> Iterator[str]:
    """Yield the requirements of an extra, with those of others that it names as extras of the project itself."""
    if name in within:
        return
    for line in extras.get(name, ()):
        named = re.match(rf"{own}\s*\[([^]]*)\]", line, re.IGNORECASE) if own else None
        for other in re.split(r"\s*,\s*", named[1].strip()) if named else ():
            yield from _whole(other, extras, own, (*within, name))
        yield line


def _group(name: str, groups: Mapping[str, Any], within: tuple[str, ...]) -> Iterator[str]:
    """Yield the requirements of a dependency group, with those of the groups that it includes."""
    lines = groups.get(name)
    for line in lines if isinstance(lines, list) and name not in within else ():
        if isinstance(line, str):
            yield line
        elif isinstance(line, dict):
            yield from _group(str(line.get("include-group", "")), groups, (*within, name))


def _uv_defaults(document: Mapping[str, Any]) -> Iterable[str]:
    """Return the groups that uv installs unasked."""
    said = _section(document, "tool", "uv").get("default-groups", ["dev"])
    return _section(document, "dependency-groups") if said == "all" else _texts(said)


def _section(document: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    for name in names:
        found = document.get(name)
        document = found if isinstance(found, dict) else {}
    return document


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(line for line in value if isinstance(line, str)) if isinstance(value, list) else ()


def parsed_toml(text: str) -> dict[str, Any]:
    """Return what a file says; nothing if it is not TOML."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return {}
