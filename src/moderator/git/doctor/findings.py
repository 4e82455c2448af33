"""What the doctor says: one value for each thing that is not as it should be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from moderator.errors import ModeratorError
from moderator.git.leases import Lease

PROBLEM, INFORMATION = "problem", "information"
COULD_NOT_LOOK = "could-not-look"
FAILURES = (OSError, ValueError, ModeratorError)
"""What looking at something hostile, or mending it, may raise."""


@dataclass(frozen=True)
class Finding:
    """One thing, what to type about it, and, after mending, what became of it.

    `code` is stable and for programs.  `severity` is PROBLEM, or INFORMATION where nothing needs to be done.  `mend` does what
    is safe, looking again first, and raises where it turns out not to be; None where a person must decide.
    `why_not` says why something that could have been mended was left.
    """

    code: str
    message: str
    hint: str = ""
    severity: str = PROBLEM
    mend: Callable[[], None] | None = field(default=None, compare=False, repr=False)
    mended: bool = False
    why_not: str = ""

    @property
    def fixable(self) -> bool:
        return self.mend is not None

    @property
    def remains(self) -> bool:
        """Whether it is a problem still."""
        return self.severity == PROBLEM and not self.mended

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as JSON takes it."""
        return {
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            "hint": self.hint,
            "fixable": self.fixable,
            "mended": self.mended,
            "why_not": self.why_not,
        }


Cure = Callable[[Lease], None]
"""What mends something; whoever calls it holds the lease."""


@dataclass(frozen=True)
class Symptom:
    """A finding about one workspace, before its cure was put under the workspace's lease."""

    finding: Finding
    cure: Cure | None = None


def guarded(what: str, found: Iterable[Finding]) -> Iterator[Finding]:
    """Yield what is found until looking fails; that becomes a finding too."""
    try:
        yield from found
    except FAILURES as error:
        hint = getattr(error, "hint", "") or "check what is there, and its permissions"
        yield Finding(COULD_NOT_LOOK, f"{what} could not be looked at: {said(error)}", hint)


def said(error: Exception) -> str:
    """Return what an error says, the words of its cause included."""
    cause = getattr(error, "cause", "")
    return f"{error} ({cause})" if cause else str(error)
