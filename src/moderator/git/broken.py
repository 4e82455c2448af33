"""A filter (gitattributes(5)) that git could not get through: which, on what file, and what to type about it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from moderator.errors import to_type

_FAILED = re.compile(
    r"^(?:fatal|error): (?P<file>.*): (?:smudge|clean) filter '?(?P<name>[^'\n]*)'? failed$", re.MULTILINE
)


@dataclass(frozen=True)
class BrokenFilter:
    name: str
    file: str

    @property
    def hint(self) -> str:
        """What to do, and what to type to see the filter."""
        what = to_type("git", "config", "--get-regexp", rf"^filter\.{re.escape(self.name)}\.")
        install = (
            "install git-lfs (git lfs install), or mend it" if self.name == "lfs" else "install or mend what it starts"
        )
        return f"{install}; this shows it: {what}"


def broken_filter(said: str) -> BrokenFilter | None:
    """Return the filter that failed, if that is what git said."""
    found = _FAILED.search(said)
    return BrokenFilter(found["name"], found["file"]) if found else None
