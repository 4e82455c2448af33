"""The package managers and test runners that can be told by their files: what they are called, and what to type.

Facts about other people's programs, as their documentation has them (November 2026).  Must not know a file system.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Collection, Mapping, Sequence

from moderator.scaffolding.python import PYTEST, Manager, python_manager

_NODE = (
    Manager("pnpm", "pnpm-lock.yaml", "node_modules", "pnpm install --frozen-lockfile"),
    Manager("yarn", "yarn.lock", "node_modules", "yarn install --frozen-lockfile"),
    Manager("bun", "bun.lock", "node_modules", "bun install --frozen-lockfile"),
    Manager("bun", "bun.lockb", "node_modules", "bun install --frozen-lockfile"),
    Manager("npm", "package-lock.json", "node_modules", "npm ci"),
    Manager("npm", "package.json", "node_modules", "npm install --no-package-lock"),
)
TEST_OF_PYTHON = r"(.*/)?(test_[^/]*|[^/]*_test)\.py"
"""What the path of a file with tests looks like."""
_ABOUT_PYTHON = r"(pyproject|requirements|setup|tox|Pipfile)[^/]*|[^/]*requirements\.txt|requirements/.*"
_NO_TEST = "no test specified"
"""What `npm init` puts where the tests should be: a command that fails."""


def managers(files: Mapping[str, str], node_dependencies: bool) -> list[Manager]:
    """Return who makes the checkout ready, at most one for each language; `files` have their text by their path."""
    python = python_manager(files)
    node = (one for one in _NODE if one.told_by in files and (one.told_by != "package.json" or node_dependencies))
    return [one for one in (python, next(node, None)) if one]


def test_command(files: Mapping[str, str], scripts: Mapping[str, str], paths: Collection[str], venv: bool) -> str:
    """Return the command that runs the tests of a project, "" if none can be told."""
    if scripts.get("test") and _NO_TEST not in scripts["test"]:
        runner = next((one.name for one in _NODE if one.told_by in files), "npm")
        return f"{runner} {'run ' if runner == 'bun' else ''}test"
    if python_tests := [path for path in paths if re.fullmatch(TEST_OF_PYTHON, path)]:
        python = ".venv/bin/python" if venv else "python3"
        if _by_pytest(files, paths, python_tests):
            return f"{python} -m pytest -q"
        return f"{python} -m unittest discover -q{_start(paths, python_tests)}"
    if "Cargo.toml" in files:
        return "cargo test" + (" --locked" if "Cargo.lock" in files else "")
    if "go.mod" in files:
        return "go test ./..."
    makefile = next((files[name] for name in ("GNUmakefile", "makefile", "Makefile") if name in files), "")
    target = re.search(r"^(test|check)\s*:(?!=)", makefile, re.M)
    return f"make {target[1]}" if target else ""


def _start(paths: Collection[str], tests: Sequence[str]) -> str:
    """Return the option that has unittest look for tests where it would find none: in a folder that is no package."""
    folder = os.path.commonpath([os.path.dirname(path) for path in tests])
    return f" -s {shlex.quote(folder)}" if folder and f"{folder}/__init__.py" not in paths else ""


def _by_pytest(files: Mapping[str, str], paths: Collection[str], tests: Sequence[str]) -> bool:
    """Whether the tests of a Python project are for pytest: its settings or requirements say so, or what stands in the tests."""
    if {"pytest.ini", "conftest.py", "tests/conftest.py"} & {*paths}:
        return True
    if any(re.fullmatch(_ABOUT_PYTHON, name) and PYTEST in text for name, text in files.items()):
        return True
    texts = [files[path] for path in tests if files.get(path)]
    return any(re.search(r"^\s*(import|from) pytest\b", text, re.MULTILINE) for text in texts) or (
        bool(texts) and not any("unittest" in text for text in texts)
    )
