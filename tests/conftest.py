"""Every test has a git of its own: no setting, variable or prompt of this machine reaches it."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import repos

settings.register_profile("house", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("house")

LOCAL_NAMES = subprocess.run(
    ["git", "rev-parse", "--local-env-vars"], capture_output=True, text=True, check=True
).stdout.split()
STRAY_NAMES = ["EMAIL", "PAGER", "SSH_ASKPASS", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"]
_HOMES = itertools.count(1)
NEVER = "false"  # the command that fails: nothing may ask, edit or connect

CONFIG = f"""\
[user]
    name = {repos.NAME}
    email = {repos.EMAIL}
[init]
    defaultBranch = main
"""


def seal(patch: pytest.MonkeyPatch, home: Path) -> None:
    """Give this process, and what it starts, a home and a git configuration that hold nothing else."""
    for name in {*LOCAL_NAMES, *STRAY_NAMES, *os.environ}:
        if name in LOCAL_NAMES or name in STRAY_NAMES or name.startswith(("GIT_", "MODERATOR_")):
            patch.delenv(name, raising=False)
    # Below the home, where git looks when it is not told: a task's environment has no GIT_* either.
    (home / ".gitconfig").write_text(CONFIG)
    (home / "tmp").mkdir()
    sealed = {
        "HOME": str(home),
        "TMPDIR": str(home / "tmp"),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "LC_ALL": "C.UTF-8",
        "EDITOR": NEVER,
        "VISUAL": NEVER,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": str(home / ".gitconfig"),
        "GIT_CEILING_DIRECTORIES": str(home.parent),
        "GIT_AUTHOR_DATE": f"{repos.DATE} +0000",
        "GIT_COMMITTER_DATE": f"{repos.DATE} +0000",
        "GIT_EDITOR": NEVER,
        "GIT_SEQUENCE_EDITOR": NEVER,
        "GIT_ASKPASS": NEVER,
        "GIT_SSH_COMMAND": NEVER,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": "file",
    }
    for name, value in sealed.items():
        patch.setenv(name, value)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave all cases of a test but those that `some` asks for, spread over all of them, to the slow ones."""
    families: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("some") and not item.get_closest_marker("slow"):
            families.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for cases in families.values():
        (wanted,) = cases[0].get_closest_marker("some").args  # type: ignore[union-attr]
        for number, case in enumerate(cases):
            if number * wanted // len(cases) == (number - 1) * wanted // len(cases):
                case.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def sealed_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Seal what fixtures of a wider scope than one test do."""
    # Under nohup, or in the background of a script, every process of a test would go on ignoring them.
    for name in ("SIGHUP", "SIGQUIT"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.MonkeyPatch.context() as patch:
        seal(patch, tmp_path_factory.mktemp("home"))
        yield


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, sealed_session: None) -> Iterator[Path]:
    """Seal one test, and return its home: what it configures is gone with it."""
    # A patch of its own: a test that undoes its monkeypatch stays sealed.
    with pytest.MonkeyPatch.context() as patch:
        # Numbered here: whoever else numbers it looks through all that are there, for every test.
        home = tmp_path_factory.mktemp(f"home{next(_HOMES)}", numbered=False)
        seal(patch, home)
        yield home
