"""Whether a program is there, which version it is, and whether it is logged in; it is never asked for work.

Looking takes from a tenth of a second to three, so what a program says of its version is kept by its path, size and
modification time.  Whether it is logged in is asked anew each time: that changes without a trace in the program.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moderator.config.settings import BackendConfig
from moderator.process import Ended, Ending, Limits, run
from moderator.templates import fill, names_in

_LIMITS = Limits(timeout=20, grace=1)
_EXECUTES_OTHERS = re.compile(
    r"(env|[bd]?ash|sh|zsh|ksh|fish|python|pypy|node|npx|npm|pnpm|pnpx|yarn|bun|bunx|deno|uv|uvx|pipx|ruby|perl|php|java|mise|asdf|"
    r"nix|docker|podman|timeout|nice|sudo)[-\d.]*"
)
_VERSION = r"\d+(\.\d+)+([.+-]?[0-9A-Za-z]+)*"


@dataclass(frozen=True)
class Availability:
    """What is known of a backend's program.

    `path` is where it is, None where it is not or nobody can tell before there is a workspace.  `logged_in` is None where it
    does not tell.  `problem` says why it cannot be used, "" if it can; `hint` is what to type then.
    """

    path: str | None = None
    version: str | None = None
    logged_in: bool | None = None
    problem: str = ""
    hint: str = ""

    @property
    def usable(self) -> bool:
        return not self.problem


class Probes:
    """Looks at programs, and remembers their versions in the file `cache` (None: for as long as it lives).

    Safe to be shared by threads.  A cache that is damaged or cannot be written costs time, nothing else.
    """

    def __init__(self, cache: Path | None = None) -> None:
        self._cache = cache
        self._lock = threading.Lock()
        self._known: dict[str, Any] | None = None

    def look(self, config: BackendConfig, environment: Mapping[str, str]) -> Availability:
        """Return what can be told of a backend's program."""
        if config.is_shell:
            return Availability(path="/bin/sh")
        own = {
            name: fill(text, {}) for name, text in config.env.items() if not names_in(text)
        }  # the rest needs a workspace
        environment = {name: value for name, value in environment.items() if not name.startswith("GIT_")} | own
        program = config.argv[0]
        if _is_elsewhere(program):
            return Availability()  # it is looked for in the workspace, which is not there yet
        path = shutil.which(program, path=environment.get("PATH", os.defpath))
        if path is None:
            there = "may not be executed" if os.path.exists(program) else "does not exist"
            place = there if os.path.isabs(program) else "is not on PATH"
            hint = f"install it ({config.install}), or" if config.install else "install it, or"
            return Availability(problem=f"{program!r} {place}", hint=f"{hint} put another backend in its place")
        version, problem = self._version(config.probe, path, environment)
        if problem:
            return Availability(path=path, problem=problem, hint=f"see what is wrong: {' '.join(config.probe)}")
        logged_in = _login(config, environment)
        if logged_in is False:
            variables = f", or set {config.login_env[0]}" if config.login_env else ""
            return Availability(path, version, False, "it is not logged in", f"log in with {program}{variables}")
        return Availability(path, version, logged_in)

    def _version(self, probe: Sequence[str], path: str, environment: Mapping[str, str]) -> tuple[str | None, str]:
        """Return the version, and why there is none if the probe failed."""
        if not probe:
            return None, ""
        key = _key(path, probe)
        if key and isinstance(found := self._remembered().get(key), str):
            return found, ""
        ended = _asked(probe, environment)
        if ended.ending is not Ending.EXITED or ended.exit_code != 0:
            return None, f"{' '.join(probe)!r} {_how(ended)}"
        text = f"{ended.stdout}\n{ended.stderr}"
        version = found[0] if (found := re.search(_VERSION, text)) else _plain(text.strip().partition("\n")[0])[:40]
        if key and version:
            self._remember(key, version)
        return version or None, ""

    def _remembered(self) -> dict[str, Any]:
        with self._lock:
            if self._known is None:
                self._known = {}
                with suppress(OSError, ValueError, RecursionError):
                    known = json.loads(self._cache.read_text("utf-8")) if self._cache else {}
                    self._known = known if isinstance(known, dict) else {}
            return self._known

    def _remember(self, key: str, version: str) -> None:
        known = self._remembered()
        with self._lock:
            known[key] = version
            if self._cache is None:
                return
            with suppress(OSError):
                self._cache.parent.mkdir(parents=True, exist_ok=True)
                descriptor, aside = tempfile.mkstemp(dir=self._cache.parent, prefix=self._cache.name)
                try:
                    with open(descriptor, "w", encoding="utf-8") as file:
                        json.dump(known, file)
                    os.replace(aside, self._cache)
                except OSError:
                    os.unlink(aside)


def _is_elsewhere(program: str) -> bool:
    return bool(names_in(program)) or (os.path.dirname(program) != "" and not os.path.isabs(program))


def _key(path: str, probe: Sequence[str]) -> str:
    """Return what a program's version is remembered under: another file there is another program.

    "" where no file tells of what is asked: a program that executes others is the same whichever version it is asked for.
    """
    files = [path, *(word for word in probe[1:] if os.path.isabs(word) and os.path.isfile(word))]
    if len(files) == 1 and _EXECUTES_OTHERS.fullmatch(os.path.basename(probe[0])):
        return ""
    known = []
    for file in files:
        try:
            real = os.path.realpath(file)
            stat = os.stat(real)
        except OSError:
            return ""
        known.append([real, stat.st_mtime_ns, stat.st_size])
    return json.dumps([known, list(probe)])


def _login(config: BackendConfig, environment: Mapping[str, str]) -> bool | None:
    if any(environment.get(name) for name in config.login_env):
        return True
    home = environment.get("HOME", "")
    places = [home + place[1:] if home and place.startswith("~/") else place for place in config.login_files]
    if any(os.path.isabs(place) and os.path.exists(place) for place in places):
        return True
    if not config.login:
        return None
    ended = _asked(config.login, environment)
    return ended.exit_code == 0 if ended.ending is Ending.EXITED else None


def _asked(command: Sequence[str], environment: Mapping[str, str]) -> Ended:
    """Run a command that only tells something, in a directory where there is nothing to work on."""
    with tempfile.TemporaryDirectory(prefix="moderator-probe-", ignore_cleanup_errors=True) as folder:
        return run(command, cwd=folder, env=environment, log=Path(os.devnull), limits=_LIMITS)


def _how(ended: Ended) -> str:
    said = next((line.strip() for line in (ended.stderr + "\n" + ended.stdout).splitlines() if line.strip()), "")
    how = ended.message if ended.ending is not Ending.EXITED else f"ended with {ended.exit_code}"
    return _plain(f"{how}: {said[:160]}" if said and said not in how else how)


def _plain(text: str) -> str:
    """Return what a program says without anything that would control a terminal."""
    return "".join(char if char.isprintable() else " " for char in text).strip()
