"""Where on a machine a person's own state is, apart from any repository.

Must not know the environment: it is handed in.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def state_home(environment: Mapping[str, str]) -> Path:
    """Return the directory for state of ours that outlives a process (XDG Base Directory Specification)."""
    given = environment.get("XDG_STATE_HOME", "")
    home = environment.get("HOME") or os.path.expanduser("~")
    return Path(given if os.path.isabs(given) else os.path.join(home, ".local", "state"), "moderator")


def ports_folder(environment: Mapping[str, str]) -> Path:
    """Return where the processes of this machine meet that give ports away: a home directory may be another machine's too."""
    return state_home(environment) / "ports" / _host()


def slots_folder(environment: Mapping[str, str]) -> Path:
    """Return where they meet that number their tasks."""
    return state_home(environment) / "slots" / _host()


def _host() -> str:
    host = os.uname().nodename if hasattr(os, "uname") else "this machine"
    return host.replace("/", "_") or "this machine"
