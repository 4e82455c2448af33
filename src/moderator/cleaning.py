"""Which workspaces go: pure decisions, each with its reason in words.

Who decides has the facts in hand; nothing is looked up here and nothing removed, and there is no clock but the one given.
Whether a workspace can be removed without a loss is git's to say, when it comes to that.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from moderator.errors import UsageError
from moderator.models import Outcome

_UNITS = {"w": 7 * 86400, "d": 86400, "h": 3600, "m": 60}
_EXAMPLES = "write for example 90m, 12h, 7d or 2w"


@dataclass(frozen=True)
class Facts:
    """What is known of one workspace.

    `active_at` is when its last attempt ended, or when it was made if none did (unix seconds).  `outcome` is how that attempt
    ended, None if none did; `interrupted`: one began and its process is gone.  `held_by` says who uses the workspace now.
    `merged` says whether its work is merged, `merged_words` how or why not.  `unsaved` says what stands in the way of a
    removal that keeps nothing, `size` is in bytes; both are looked up for quotas only.
    """

    task_id: str
    active_at: float
    outcome: Outcome | None = None
    interrupted: bool = False
    held_by: str | None = None
    merged: bool = False
    merged_words: str = ""
    unsaved: str | None = None
    size: int = 0


@dataclass(frozen=True)
class Selection:
    """Which workspaces a person asked for; the conditions hold together.  `older_than` is in seconds."""

    names: frozenset[str] = frozenset()
    everything: bool = False
    merged: bool = False
    done: bool = False
    failed: bool = False
    older_than: int | None = None
    keep_last: int | None = None

    @property
    def is_empty(self) -> bool:
        return self == Selection()

    @property
    def is_outright(self) -> bool:
        """Whether workspaces were asked for as such: what then stays must be said as an error."""
        return bool(self.names) or self.everything

    @property
    def needs_history(self) -> bool:
        return self.done or self.failed or self.older_than is not None or self.keep_last is not None

    def __str__(self) -> str:
        """The selection as it is typed, but for the names."""
        flags = [f"--{name}" for name in ("merged", "done", "failed") if getattr(self, name)]
        flags += ["--all"] if self.everything else []
        flags += [f"--older-than {spoken(self.older_than)}"] if self.older_than is not None else []
        flags += [f"--keep-last {self.keep_last}"] if self.keep_last is not None else []
        return " ".join(flags)


@dataclass(frozen=True)
class Quotas:
    """How many workspaces may stay, and how many bytes of them; None: any number."""

    workspaces: int | None = None
    size: float | None = None

    def excess(self, count: int, size: int) -> str:
        """Return in words by what so much is too much, "" if it is not."""
        found = []
        if self.workspaces is not None and count > self.workspaces:
            found.append(f"{count} workspaces where {self.workspaces} may stay")
        if self.size is not None and size > self.size:
            found.append(f"{size / 1e6:.1f} megabytes where {self.size / 1e6:g} may stay")
        return " and ".join(found)


@dataclass(frozen=True)
class Decision:
    """Whether a workspace goes, and why or why not."""

    task_id: str
    remove: bool
    reason: str


def select(
    names: Collection[str],
    everything: bool,
    merged: bool,
    done: bool,
    failed: bool,
    older_than: str | None,
    keep_last: int | None = None,
    command: str = "clean",
) -> Selection:
    """Return what was typed as a selection.  Raises UsageError for what contradicts itself; `command` is for its hints."""
    age = None if older_than is None else parse_duration(older_than)
    selection = Selection(frozenset(names), everything, merged, done, failed, age, keep_last)
    conditions = str(Selection(merged=merged, done=done, failed=failed, older_than=age))
    if names and (everything or conditions or keep_last is not None):
        raise UsageError(
            "say which workspaces you mean by name, or by what holds for them, not both",
            hint=f"moderator {command} TASK..., or moderator {command} with --all or an option such as --done or --failed",
        )
    if everything and conditions:
        raise UsageError(
            f"--all is every workspace, and {conditions} only some of them", hint=f"moderator {command} {conditions}"
        )
    if done and failed:
        raise UsageError(
            "no attempt has both succeeded and failed, so --done and --failed together select nothing",
            hint=f"moderator {command} --done, then moderator {command} --failed",
        )
    return selection


def parse_duration(text: str) -> int:
    """Return a length of time such as 90m, 12h, 7d or 2w in seconds.  Raises UsageError."""
    match = re.fullmatch(r"([0-9]{1,9})([mhdw])", text.strip())
    if match is None:
        raise UsageError(f"{text!r} is no length of time", hint=_EXAMPLES)
    return int(match[1]) * _UNITS[match[2]]


def spoken(seconds: float) -> str:
    """Return a length of time in the same form, in days, hours or minutes; what is left over is left out."""
    unit, length = next(
        ((unit, length) for unit, length in _UNITS.items() if unit != "w" and seconds >= length), ("m", 60)
    )
    return f"{max(int(seconds // length), 0)}{unit}"


def decide(facts: Sequence[Facts], selection: Selection, now: float) -> list[Decision]:
    """Return for each workspace whether the selection means it, in the order given."""
    refusals = {one.task_id: _why_not(one, selection, now) for one in facts}
    if selection.keep_last is not None:
        meant = [one for one in facts if refusals[one.task_id] is None]
        newest_first = sorted(meant, key=lambda one: (-one.active_at, one.task_id))
        for one in newest_first[: selection.keep_last]:
            last = "the last one" if selection.keep_last == 1 else f"among the last {selection.keep_last}"
            refusals[one.task_id] = f"{last}, {_used(one, now)}"
    return [
        Decision(one.task_id, why_not is None, why_not or _why(one, selection, now))
        for one in facts
        for why_not in [refusals[one.task_id]]
    ]


def _why_not(one: Facts, selection: Selection, now: float) -> str | None:
    if selection.names and one.task_id not in selection.names:
        return "not asked for"
    if selection.is_outright:  # who uses it, and what else stands in the way, is then said as the error that it is
        return None
    if one.held_by is not None:
        return f"used by {one.held_by}"
    if selection.done and not (one.outcome and one.outcome.success):
        return f"{_ended(one)}, which is not done"
    if selection.failed and (one.outcome.success if one.outcome else not one.interrupted):
        return f"{_ended(one)}, which is not failed"
    if selection.merged and not one.merged:
        return one.merged_words
    if selection.older_than is not None and now - one.active_at < selection.older_than:
        return f"{_used(one, now)}, which is not {spoken(selection.older_than)} ago"
    return None


def _why(one: Facts, selection: Selection, now: float) -> str:
    found = ["asked for"] if selection.names else []
    if selection.done or selection.failed:
        found.append(_ended(one))
    if selection.merged:
        found.append(one.merged_words)
    if selection.older_than is not None:
        found.append(_used(one, now))
    if selection.keep_last is not None:
        found.append("not the last one" if selection.keep_last == 1 else f"not among the last {selection.keep_last}")
    return ", ".join(found) or "every workspace is meant"


def _ended(one: Facts) -> str:
    if one.outcome:
        return f"last outcome: {one.outcome.value}"
    return "last attempt interrupted" if one.interrupted else "no attempt recorded"


def _used(one: Facts, now: float) -> str:
    age = now - one.active_at
    return f"used {spoken(age)} ago" if age >= _UNITS["m"] else "used just now"


def within(facts: Sequence[Facts], quotas: Quotas) -> tuple[list[Decision], str]:
    """Return what goes so that the rest is within the quotas, the oldest first, and in words what cannot be met ("").

    Only what is finished, is used by nobody and holds nothing unsaved at all goes: a quota alone never takes a last copy.
    """
    count, size = len(facts), sum(one.size for one in facts)
    decisions = {}
    for one in sorted(facts, key=lambda one: (one.active_at, one.task_id)):
        excess = quotas.excess(count, size)
        obstacle = _obstacle(one) if excess else "within the quota"
        if excess and obstacle is None:
            count, size = count - 1, size - one.size
        decisions[one.task_id] = Decision(one.task_id, obstacle is None, obstacle or f"the oldest of {excess}")
    return [decisions[one.task_id] for one in facts], quotas.excess(count, size)


def _obstacle(one: Facts) -> str | None:
    if one.held_by is not None:
        return f"used by {one.held_by}"
    if one.outcome is None:
        return f"{_ended(one)}, so it may not be finished"
    return one.unsaved
