"""The package managers and test runners that can be told by their files: what they are called, and what to type.

Facts about other people's programs, as their documentation has them (November 2026).  Must not know a file system.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Manager:
    """Who makes a checkout ready: by which file it is told, what it puts where, and what to type."""

    name: str
    told_by: str
    makes: str
    setup: str


_PIP = "python3 -m venv .venv && .venv/bin/python -m pip install -q"

_PYTHON = (
    Manager("uv", "uv.lock", ".venv", "uv sync --frozen"),
    Manager("poetry", "poetry.lock", ".venv", "POETRY_VIRTUALENVS_IN_PROJECT=true poetry install --no-interaction"),
    Manager("pdm", "pdm.lock", ".venv", "pdm sync"),
    Manager("pipenv", "Pipfile.lock", ".venv", "PIPENV_VENV_IN_PROJECT=1 pipenv sync --dev"),
    Manager("pip", "requirements-dev.txt", ".venv", f"{_PIP} -r requirements-dev.txt"),
    Manager("pip", "requirements.txt", ".venv", f"{_PIP} -r requirements.txt"),
    Manager("pip", "pyproject.toml", ".venv", f"{_PIP} -e ."),
    Manager("pip", "setup.py", ".venv", f"{_PIP} -e ."),
)
_NODE = (
    Manager("pnpm", "pnpm-lock.yaml", "node_modules", "pnpm install --frozen-lockfile"),
    Manager("yarn", "yarn.lock", "node_modules", "yarn install --frozen-lockfile"),
    Manager("bun", "bun.lock", "node_modules", "bun install --frozen-lockfile"),
    Manager("bun", "bun.lockb", "node_modules", "bun install --frozen-lockfile"),
    Manager("npm", "package-lock.json", "node_modules", "npm ci"),
    Manager("npm", "package.json", "node_modules", "npm install --no-package-lock"),
)
_NO_TEST = "no test specified"
"""What `npm init` puts where the tests should be: a command that fails."""


def managers(files: Mapping[str, str], node_dependencies: bool) -> list[Manager]:
    """Return who makes the checkout ready, at most one for each language; `files` are those at the top with their text."""
    found = []
    for family in (_PYTHON, _NODE):
        for one in family:
            if one.told_by not in files or not _installs(one, files[one.told_by]):
                continue
            if one.told_by != "package.json" or node_dependencies:
                found.append(one)
                break
    return found


def _installs(manager: Manager, text: str) -> bool:
    """Whether there is anything to install: many a pyproject.toml only holds the settings of tools."""
    if manager.told_by == "pyproject.toml":
        return {"project", "build-system"} <= parsed_toml(text).keys()
    return manager.told_by != "requirements.txt" or bool(re.search(r"^\s*[^\s#]", text, re.M))


def parsed_toml(text: str) -> dict[str, Any]:
    """Return what a file says; nothing if it is not TOML."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return {}


def test_command(files: Mapping[str, str], scripts: Mapping[str, str], paths: Collection[str], venv: bool) -> str:
    """Return the command that runs the tests of a project, "" if none can be told."""
    if scripts.get("test") and _NO_TEST not in scripts["test"]:
        runner = next((one.name for one in _NODE if one.told_by in files), "npm")
        return f"{runner} {'run ' if runner == 'bun' else ''}test"
    if any(re.search(r"(^|/)(test_[^/]*|[^/]*_test)\.py$", path) for path in paths):
        python = ".venv/bin/python" if venv else "python3"
        said = " ".join(files.get(name, "") for name in ("pyproject.toml", "setup.cfg", "tox.ini", "requirements.txt"))
        said += files.get("requirements-dev.txt", "")
        has_pytest = "pytest" in said or bool({"pytest.ini", "conftest.py", "tests/conftest.py"} & {*paths})
        return f"{python} -m pytest -q" if has_pytest else f"{python} -m unittest discover -q"
    if "Cargo.toml" in files:
        return "cargo test" + (" --locked" if "Cargo.lock" in files else "")
    if "go.mod" in files:
        return "go test ./..."
    makefile = next((files[name] for name in ("GNUmakefile", "makefile", "Makefile") if name in files), "")
    target = re.search(r"^(test|check)\s*:(?!=)", makefile, re.M)
    return f"make {target[1]}" if target else ""
