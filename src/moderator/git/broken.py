"""A filter (gitattributes(5)) that git could not get through: which, on what file, and what to type about it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from moderator.errors import to_type

_FAILED = re.compile(
    r"^(?:fatal|error): (?P<file>.*): (?:smudge|clean) filter '?(?P<name>[^'\n]*)'? failed$", re.MULTILINE
)
_HUNG_UP = re.compile(r"^fatal: the remote end hung up unexpectedly$", re.MULTILINE)
"""What git says of a process that is to filter many files, and that ends when it should answer: it takes it for a server."""
_OF_A_SERVER = re.compile(r"promisor|[Rr]emote repository|early EOF|fetch-pack|index-pack")


@dataclass(frozen=True)
class BrokenFilter:
    """The filter that failed and the file that it failed on, each "" where git does not say."""

    name: str
    file: str

    @property
    def hint(self) -> str:
        """What to do, and what to type to see the filter."""
        named = rf"{re.escape(self.name)}\." if self.name else ""
        what = to_type("git", "config", "--get-regexp", rf"^filter\.{named}")
        install = (
            "install git-lfs (git lfs install), or mend it" if self.name == "lfs" else "install or mend what it starts"
        )
        return f"{install}; this shows it: {what}"

    def __str__(self) -> str:
        return (f"the filter {self.name!r}" if self.name else "a filter") + (
            f" fails on {self.file!r}" if self.file else " fails"
        )


def broken_filter(said: str, processes: Sequence[str] = ()) -> BrokenFilter | None:
    """Return the filter that failed, if that is what git said; `processes` are the names of those that stay for many files."""
    if found := _FAILED.search(said):
        return BrokenFilter(found["name"], found["file"])
    if _HUNG_UP.search(said) and not _OF_A_SERVER.search(said):
        return BrokenFilter(processes[0] if len(processes) == 1 else "", "")
    return None
