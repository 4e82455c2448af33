"""From what a tool prints to what it says: an answer, an error, what it cost.  One small class for each dialect.

Output is taken as it comes, in bounded memory, whatever its length.  What is not understood is passed over; a tool that never
says in its own way that it has finished gave no answer, and that is told, never guessed.  Nothing here raises.

Each dialect was read off the real program (November 2026); goose's and copilot's are from what is public of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

LONGEST_LINE = 8 * 1024 * 1024
"""Bytes of one line, or of one document over several, that are kept to be read."""
_MOST_BEGINNINGS, _LAST_BEGINNINGS = 2000, 20  # of objects over several lines that are looked at
_MOST_IN_VAIN = 2 * LONGEST_LINE  # characters that are read of objects that turn out to be none
LONGEST_REPLY = 4_000
"""Characters of the last thing a tool said that are kept."""


@dataclass(frozen=True)
class Answer:
    """What a tool said.

    `reply` is the last thing it said to people, `error` what it says went wrong, None if nothing did.  `unreadable` says what
    is missing from its output, "" if it can be read.  The cost is in US dollars; it and the tokens are None where not told.
    """

    reply: str = ""
    error: str | None = None
    unreadable: str = ""
    cost_usd: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None


class Parser:
    """What is printed says nothing; only the exit code tells how it went."""

    def feed(self, part: bytes | memoryview) -> None:
        """Take the next part of standard output."""

    def answer(self, stdout: str, stderr: str) -> Answer:  # noqa: ARG002 - subclasses look
        """Return what was said; called once, at the end, with the last part of both streams as text."""
        return Answer()


class _Text(Parser):
    """Plain text: whatever is printed last is the reply."""

    def answer(self, stdout: str, stderr: str) -> Answer:
        lines = [line.rstrip() for line in (stdout.strip() or stderr.strip()).splitlines()]
        return Answer(reply=_kept("\n".join(lines[-20:])))


class _Documents(Parser):
    """JSON: an object in each line, or one object over all of them.  A subclass says in `take` what an object means."""

    wanted = "a result"
    """What there must be in the output, in words."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._too_long = False
        self._whole = bytearray()
        self.reply = ""
        self.error: str | None = None
        self.finished = False
        self.cost: float | None = None
        self.tokens: list[int | None] = [None, None]

    def feed(self, part: bytes | memoryview) -> None:
        if not self._ended and len(self._whole) <= LONGEST_LINE:
            self._whole += part
        *lines, rest = bytes(part).split(b"\n")
        for line in lines:
            self._add(line)
            self._end_line()
        self._add(rest)

    def answer(self, stdout: str, stderr: str) -> Answer:  # noqa: ARG002 - it has been fed all of it
        self._end_line()
        if not self._ended and len(self._whole) <= LONGEST_LINE:
            for said, text in _objects_in(self._whole.decode("utf-8", "replace")):
                if "\n" in text:  # those of one line have been taken
                    self.take(said)
        self.look_at_errors(stderr)
        missing = "" if self._ended else f"its output holds no {self.wanted}"
        return Answer(_kept(self.reply), self.error, missing, self.cost, *self.tokens)

    def take(self, said: Mapping[str, Any]) -> None:
        """Take one object."""
        raise NotImplementedError

    def look_at_errors(self, stderr: str) -> None:
        """Look for what is said on standard error only."""

    def fail(self, *reasons: Any) -> None:
        """Note an error, in the first of these words that are any."""
        words = (_text(reason).strip() for reason in reasons)
        self.error = _kept(next((word for word in words if word), "it says that it failed, and not why"))

    def count(self, incoming: Any, outgoing: Any, more: bool = False) -> None:
        """Note tokens; `more` adds them to those before."""
        for place, value in enumerate((incoming, outgoing)):
            if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e15:
                self.tokens[place] = int(value) + ((self.tokens[place] or 0) if more else 0)

    def charge(self, dollars: Any, more: bool = False) -> None:
        """Note a cost; `more` adds it to those before."""
        if isinstance(dollars, (int, float)) and not isinstance(dollars, bool) and 0 <= dollars < 1e9:
            self.cost = float(dollars) + ((self.cost or 0.0) if more else 0.0)

    def _add(self, part: bytes) -> None:
        self._too_long = self._too_long or len(self._line) + len(part) > LONGEST_LINE
        if self._too_long:
            self._line.clear()
        else:
            self._line += part

    def _end_line(self) -> None:
        if not self._too_long and self._line.lstrip().startswith(b"{"):
            self._take(self._line.decode("utf-8", "replace"))
        self._line.clear()
        self._too_long = False

    def _take(self, text: str) -> None:
        try:
            said = json.loads(text)
        except (ValueError, RecursionError):
            return
        if isinstance(said, Mapping):
            self.take(said)
        if self._ended:
            self._whole.clear()

    @property
    def _ended(self) -> bool:
        """Whether it has said how it went: then lines are what it speaks in."""
        return self.finished or self.error is not None


class _Claude(_Documents):
    """`--output-format json` or `stream-json`: the last object has type "result"; `is_error` decides, `subtype` lies."""

    wanted = 'object of type "result"'

    def take(self, said: Mapping[str, Any]) -> None:
        if said.get("type") != "result":
            return
        self.finished, self.error = True, None
        self.reply = _text(said.get("result"))
        self.charge(said.get("total_cost_usd"))
        usage = _inner(said, "usage")
        self.count(usage.get("input_tokens"), usage.get("output_tokens"))
        if said.get("is_error") is not False:
            self.fail(self.reply, said.get("subtype"))


class _Codex(_Documents):
    """`exec --json`: a turn is completed or has failed; an error in between may pass, as when it reconnects."""

    wanted = '"turn.completed"'

    def take(self, said: Mapping[str, Any]) -> None:
        kind = said.get("type")
        if kind == "item.completed" and _inner(said, "item").get("type") == "agent_message":
            self.reply = _text(_inner(said, "item").get("text"))
        elif kind == "turn.completed":
            self.finished, self.error = True, None
            usage = _inner(said, "usage")
            self.count(usage.get("input_tokens"), usage.get("output_tokens"), more=True)
        elif kind == "turn.failed":
            self.finished = False
            self.fail(_inner(said, "error").get("message"), said.get("error"))
        elif kind == "error":
            self.fail(said.get("message"), said.get("error"))
        elif kind == "turn.started":
            self.finished, self.error = False, None


class _Gemini(_Documents):
    """`-o json` or `stream-json`: a result with its status, or one object with `response`; errors also on standard error."""

    wanted = 'object of type "result"'

    def take(self, said: Mapping[str, Any]) -> None:
        kind = said.get("type")
        stats = _inner(said, "stats")
        if kind == "message" and said.get("role") == "assistant":
            more = said.get("delta") is True
            self.reply = ((self.reply if more else "") + _text(said.get("content")))[-2 * LONGEST_REPLY :]
        elif kind == "error" and said.get("severity") != "warning":
            self.fail(said.get("message"), said.get("error"))
        elif kind == "result":
            self.finished, self.error = True, None
            self.count(stats.get("input_tokens"), stats.get("output_tokens"))
            if said.get("status") != "success":
                self.fail(_inner(said, "error").get("message"), said.get("error"), said.get("status"))
        elif kind is None and ("response" in said or "error" in said):
            self.finished = True
            self.reply = _text(said.get("response"))
            if said.get("error"):
                self.fail(_inner(said, "error").get("message"), said.get("error"))

    def look_at_errors(self, stderr: str) -> None:
        if not self.finished and self.error is None:
            for said, _ in _objects_in(stderr):
                if said.get("error"):
                    self.fail(_inner(said, "error").get("message"), said.get("error"))


class _Copilot(_Documents):
    """`--output-format json`: events; "result" has the exit code, "session.error" what went wrong."""

    wanted = '"result" or message of the assistant'

    def take(self, said: Mapping[str, Any]) -> None:
        kind, data = said.get("type"), _inner(said, "data")
        if kind == "assistant.message":
            self.reply = _text(data.get("content")) or self.reply
            self.finished = True
        elif kind == "assistant.usage":
            self.count(data.get("inputTokens"), data.get("outputTokens"), more=True)
        elif kind == "session.error":
            self.fail(data.get("message"), said.get("message"))
        elif kind == "result":
            self.finished = True
            if said.get("exitCode", 0) != 0:
                self.fail(self.error, said.get("error"), f"it says that it ended with {said.get('exitCode')}")


class _OpenCode(_Documents):
    """`run --format json`: steps that begin and finish, text, errors."""

    wanted = '"step_finish"'

    def take(self, said: Mapping[str, Any]) -> None:
        kind, part = said.get("type"), _inner(said, "part")
        if kind == "text":
            self.reply = _text(part.get("text"))
        elif kind == "step_start":
            self.finished = False
        elif kind == "step_finish":
            self.finished = True
            self.charge(part.get("cost"), more=True)
            tokens = _inner(part, "tokens")
            self.count(tokens.get("input"), tokens.get("output"), more=True)
        elif kind == "error":
            error = _inner(said, "error")
            self.fail(_inner(error, "data").get("message"), error.get("message"), error.get("name"), said.get("error"))


class _Goose(_Documents):
    """`--output-format json`: one object with the messages and a status."""

    wanted = "object with messages and their metadata"

    def take(self, said: Mapping[str, Any]) -> None:
        messages = said.get("messages")
        if not isinstance(messages, list) or not isinstance(said.get("metadata"), Mapping):
            return
        self.finished = True
        metadata = _inner(said, "metadata")
        self.count(metadata.get("input_tokens", metadata.get("total_tokens")), metadata.get("output_tokens"))
        for message in messages:
            if isinstance(message, Mapping) and message.get("role") == "assistant":
                content = message.get("content")
                parts = [one for one in content if isinstance(one, Mapping)] if isinstance(content, list) else []
                self.reply = (
                    "\n".join(_text(one.get("text")) for one in parts if one.get("type") == "text") or self.reply
                )
        if metadata.get("status") not in ("completed", None):
            self.fail(metadata.get("error"), f"it says that it is {_text(metadata.get('status'))}")


_PARSERS: dict[str, type[Parser]] = {
    "": Parser,
    "text": _Text,
    "claude-json": _Claude,
    "codex-jsonl": _Codex,
    "gemini-json": _Gemini,
    "copilot-jsonl": _Copilot,
    "opencode-json": _OpenCode,
    "goose-json": _Goose,
}


def parser_for(name: str) -> Parser:
    """Return a new parser of a dialect: one of `settings.PARSERS`, or "" for output that is not read."""
    return _PARSERS[name]()


def _inner(said: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = said.get(key)
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    try:
        return json.dumps(value, ensure_ascii=False)[:LONGEST_REPLY]
    except RecursionError:
        return ""


def _kept(text: str) -> str:
    text = text.strip()
    return text if len(text) <= LONGEST_REPLY else "…" + text[-LONGEST_REPLY + 1 :]


def _objects_in(text: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Yield the JSON objects that begin a line of a text, whatever is between them, each with its own text.

    A beginning that leads nowhere may have been read to the end of the text.  So much of that is done and no more; then the
    last beginnings are tried, the very last first: what a tool says of its end stands there.
    """
    begins = [found.end() for found in re.finditer(r"^[ \t]*(?=\{)", text, re.MULTILINE)]
    read = in_vain = 0
    for begin in begins[:_MOST_BEGINNINGS]:
        if begin < read:
            continue  # a line of the object before
        if in_vain > _MOST_IN_VAIN:
            break
        said, end = _decoded(text, begin)
        if said is None:
            in_vain += end - begin
            continue
        read = end
        yield said, text[begin:end]
    else:
        if len(begins) <= _MOST_BEGINNINGS:
            return
    found: list[tuple[int, int, Mapping[str, Any]]] = []
    in_vain = 0
    for begin in reversed(begins[-_LAST_BEGINNINGS:]):
        if begin < read or in_vain > _MOST_IN_VAIN:
            break
        said, end = _decoded(text, begin)
        if said is None:
            in_vain += end - begin
        else:
            found = [(begin, end, said), *(one for one in found if one[0] >= end)]  # without those inside of it
    for begin, end, said in found:
        yield said, text[begin:end]


def _decoded(text: str, begin: int) -> tuple[Mapping[str, Any] | None, int]:
    """Return the object that stands at a place of a text, None if there is none, and up to where that was read for it."""
    try:
        said, end = json.JSONDecoder().raw_decode(text, begin)
    except json.JSONDecodeError as error:
        return None, error.pos
    except (ValueError, RecursionError):
        return None, len(text)
    return (said if isinstance(said, Mapping) else None), end
