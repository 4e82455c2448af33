"""How an execution went: done, failed, or a trouble of the tool's own that the task is not to blame for.

Exit codes lie, so three voices are heard: the exit code, what the tool says in its own dialect, and for plain text the
patterns that the backend's configuration knows to mean failure.  Only what the *tool* says is searched for its troubles: the
error of its dialect, or the end of what it printed on standard error; on standard output agents repeat what the task's own programs
say, and a task whose tests print "rate limit" has simply failed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from moderator.backends.calls import Call
from moderator.backends.parsers import Answer
from moderator.models import Outcome
from moderator.process import Ended, Ending

_LAST_LINES = 30
_VERY_LAST_LINES = 5
"""Lines, apart from empty ones, at the end of plain text in which `failed` is looked for: what went well after it is said there."""
_PLAIN = ("", "text")
_ERROR = re.compile(r"\[?(?:[\w.]*(?:error|exception)|fatal)(?:\[\w+\])?\]?: ", re.I)
"""How a line begins that says what went wrong: those of git, pip, rustc, pdm, an exception of Python."""
_NPM = re.compile(r"npm (?:error|ERR!) ")
_NPM_CODE = re.compile(_NPM.pattern + "code ")
_NPM_FACT = re.compile(_NPM.pattern + r"(?:code|errno|syscall|path|dest|cwd|workspace|location|signal)\b")
_OUTCOMES = {
    Ending.TIMED_OUT: Outcome.TIMED_OUT,
    Ending.IDLE: Outcome.IDLE,
    Ending.CANCELLED: Outcome.CANCELLED,
    Ending.COULD_NOT_START: Outcome.COULD_NOT_START,
}


class Trouble(Enum):
    """What kept a tool from its work that has nothing to do with the task."""

    NONE = "none"
    RETRY = "retry"
    """It may pass: a rate limit, the network."""
    GIVE_UP = "give up"
    """It will not: nobody is logged in."""


@dataclass(frozen=True)
class Verdict:
    """How it went.

    `outcome` None means well, as far as the tool is concerned: what becomes of its work is still to be seen.  `message` is the
    reason where it did not go well.  `sure`: the trouble was told in the tool's own dialect, not found in text of anybody's.
    """

    outcome: Outcome | None
    message: str = ""
    trouble: Trouble = Trouble.NONE
    sure: bool = field(default=False, compare=False)


def judge(call: Call, ended: Ended, answer: Answer) -> Verdict:
    """Return how an execution went.  The `timeout` of the call is None where the limit was the task's or the run's."""
    if ended.ending in (Ending.CANCELLED, Ending.COULD_NOT_START):
        return Verdict(_OUTCOMES[ended.ending], ended.message)
    said = answer.error
    if call.parser in _PLAIN and said is None and call.failed:
        said = _line_with(call.failed, _very_end_of(ended))
    if ended.ending is Ending.EXITED and ended.exit_code == 0 and said is None:
        if not answer.unreadable:
            return Verdict(None)
        tail = _last_words(ended)
        return Verdict(Outcome.UNREADABLE, answer.unreadable + (f"; it ends with: {tail}" if tail else ""))
    trouble, sign = _trouble(call, ended, said)
    if ended.ending is not Ending.EXITED:
        how = ended.message
        outcome = _OUTCOMES[ended.ending]
    elif said is not None:
        code = "" if ended.exit_code == 0 else f"exit code {ended.exit_code}: "
        how = code + _shortened(said)
        outcome = Outcome.FAILED
    else:
        words = _last_words(ended)
        how = f"exit code {ended.exit_code}" + (f": {words}" if words else "")
        outcome = Outcome.FAILED
    if trouble is not Trouble.NONE:
        outcome = Outcome.BACKEND_FAILED
        if ended.ending is Ending.EXITED and said is None:
            how = f"exit code {ended.exit_code}: {_shortened(sign)}"
        elif sign not in how:
            how += f" ({_shortened(sign)})"
    return Verdict(outcome, how, trouble, sure=answer.error is not None)


def _trouble(call: Call, ended: Ended, said: str | None) -> tuple[Trouble, str]:
    """Return the tool's own trouble and the line that tells of it."""
    if not (call.retry or call.give_up):
        return Trouble.NONE, ""
    if ended.ending is Ending.TIMED_OUT and call.timeout is None:
        return (
            Trouble.NONE,
            "",
        )  # it was at work as long as the task was given, whatever it said of the network meanwhile
    # In a dialect its own error is its voice, and standard error where it has not come to one: its events quote the task.
    voice = ""
    if call.parser in _PLAIN or said is None or ended.ending is not Ending.EXITED:
        voice = "\n".join(ended.stderr.splitlines()[-_LAST_LINES:])
    if call.parser in _PLAIN and said is not None:
        voice += "\n" + _very_end_of(ended)  # a tool that says that it failed has the last word on standard output too
    if not call.parser:
        voice += "\n" + "\n".join(ended.stdout.splitlines()[-_LAST_LINES:])  # a command, with patterns of its own
    voice += f"\n{said or ''}"
    for trouble, patterns in ((Trouble.GIVE_UP, call.give_up), (Trouble.RETRY, call.retry)):
        if sign := _line_with(patterns, voice):
            return trouble, sign
    return Trouble.NONE, ""


def _line_with(patterns: Sequence[str], text: str) -> str | None:
    """Return the last line in which one of the patterns is found."""
    for line in reversed(text.splitlines()):
        if any(re.search(pattern, line[:4000], re.IGNORECASE) for pattern in patterns):
            return line.strip()
    return None


def _very_end_of(ended: Ended) -> str:
    streams = ([line for line in stream.splitlines() if line.strip()] for stream in (ended.stdout, ended.stderr))
    return "\n".join(line for lines in streams for line in lines[-_VERY_LAST_LINES:])


def _last_words(ended: Ended) -> str:
    """Return the line that says best why a command failed: that of an error, or else its last one.

    npm tells it first and ends with where its log is; others end with advice.
    """
    said = [line.strip() for line in (ended.stderr.strip() or ended.stdout).splitlines() if line.strip()]
    if not said:
        return ""
    if (npm := _NPM.match(said[-1])) and (codes := [place for place, line in enumerate(said) if _NPM_CODE.match(line)]):
        told = [line for line in said[codes[-1] :] if line.startswith(npm[0]) and not _NPM_FACT.match(line)]
        return (told or said[-1:])[0][:200]
    told = [line for line in said[-_LAST_LINES:] if _ERROR.match(line)]
    return (told or said)[-1][:200]


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 300 else line[:299] + "…"
