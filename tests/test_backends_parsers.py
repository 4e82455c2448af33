"""What tools print, read in any pieces: nothing raises, nothing is guessed, and memory is bounded."""

from __future__ import annotations

import json
import math
import tracemalloc
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from moderator.backends import parsers
from moderator.backends.parsers import LONGEST_LINE, LONGEST_REPLY, Answer, parser_for
from moderator.config.settings import PARSERS
from moderator.testing.agent import _ENDS, _FAILURES, _ON_THE_WAY, COST, TOKENS_IN, TOKENS_OUT

DIALECTS = tuple(_ENDS)
WANTED = {
    "claude-json": 'object of type "result"',
    "codex-jsonl": '"turn.completed"',
    "gemini-json": 'object of type "result"',
    "copilot-jsonl": '"result" or message of the assistant',
    "opencode-json": '"step_finish"',
    "goose-json": "object with messages and their metadata",
}
COSTS = {"claude-json": COST, "opencode-json": COST}
DONE = {name: Answer("Done.", None, "", COSTS.get(name), TOKENS_IN, TOKENS_OUT) for name in DIALECTS}
"""What the agent to test with says at its end, in each dialect."""

Event = Mapping[str, Any]


def lines(events: Iterable[Event]) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def transcript(dialect: str) -> bytes:
    return lines([*_ON_THE_WAY.get(dialect, ()), *_ENDS[dialect]("Done.")])


def read(dialect: str, *chunks: bytes, stdout: str = "", stderr: str = "") -> Answer:
    parser = parser_for(dialect)
    for chunk in chunks:
        parser.feed(memoryview(chunk))
    return parser.answer(stdout, stderr)


def said(dialect: str, *events: Event, stderr: str = "") -> Answer:
    return read(dialect, lines(events), stderr=stderr)


def cut(text: bytes, places: Sequence[int]) -> list[bytes]:
    """Return a text in pieces, cut at these places."""
    ends = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[start:end] for start, end in pairwise(ends)]


def unreadable(dialect: str) -> str:
    return f"its output holds no {WANTED[dialect]}"


# -- every dialect -----------------------------------------------------------------------------------------------------


def test_there_is_a_parser_for_every_name_that_can_be_configured() -> None:
    """What a configuration may name is what there is, and each call makes a new one."""
    assert {"", *PARSERS} == set(parsers._PARSERS)
    assert all(parser_for(name) is not parser_for(name) for name in PARSERS)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_whole_transcript_is_understood(dialect: str) -> None:
    """The reply, what it cost and the tokens are what the tool said, with or without the last line break."""
    text = transcript(dialect)
    assert [read(dialect, text), read(dialect, text.rstrip()), read(dialect, text.replace(b"\n", b"\r\n"))] == [
        DONE[dialect]
    ] * 3


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_transcript_that_is_cut_anywhere_is_not_taken_for_a_whole_one(dialect: str) -> None:
    """Without the event that ends it, output is an error or unreadable, wherever it breaks off; never a success."""
    text, end_of_it = transcript(dialect), transcript(dialect).rstrip()
    if dialect == "copilot-jsonl":  # a message of the assistant is enough
        end_of_it = lines([*_ON_THE_WAY[dialect], _ENDS[dialect]("Done.")[0]]).rstrip()
    for place in range(len(text)):
        answer = read(dialect, text[:place])
        if place >= len(end_of_it):
            assert (answer.error, answer.unreadable) == (None, "")
        elif answer.error is None:
            assert answer.unreadable == unreadable(dialect)
        else:
            assert (dialect, answer.error, answer.unreadable) == ("codex-jsonl", "Reconnecting... 1/5", "")


@pytest.mark.parametrize("dialect", DIALECTS)
@given(places=st.lists(st.integers(0, 1000), max_size=12))
def test_it_does_not_matter_in_which_pieces_a_transcript_arrives(dialect: str, places: list[int]) -> None:
    """Cut anywhere, in the middle of a character too, it is the same transcript."""
    assert read(dialect, *cut(transcript(dialect), places)) == DONE[dialect]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_transcript_arrives_byte_by_byte(dialect: str) -> None:
    """The smallest pieces there are will do."""
    text = transcript(dialect)
    assert read(dialect, *(text[place : place + 1] for place in range(len(text)))) == DONE[dialect]


@pytest.mark.parametrize("dialect", [name for name in DIALECTS if name in _FAILURES])
def test_a_failure_is_told_in_the_words_of_the_tool(dialect: str) -> None:
    """What it says went wrong is the error, and nothing is called unreadable."""
    answer = said(dialect, *_ON_THE_WAY.get(dialect, ()), *_FAILURES[dialect]("out of tea"))
    assert (answer.error, answer.unreadable) == ("out of tea", "")


noise = st.one_of(
    st.binary(max_size=200),
    st.sampled_from([b"\n", b"\r\n", b"{", b"}", b"[", b"]", b"null", b"{}\n", b"\xff\xfe", b"\xef\xbb\xbf", b"\0"]),
    st.sampled_from(DIALECTS).map(transcript),
)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=4,
)
NAMES = {
    "type": [
        *("result", "message", "error", "turn.started", "turn.completed", "turn.failed", "item.completed", "text"),
        *("step_start", "step_finish", "assistant.message", "assistant.usage", "session.error", "agent_message"),
    ],
    "role": ["assistant", "user"],
    "status": ["success", "failed", "completed"],
}
KEYS = [
    *(
        "result",
        "is_error",
        "subtype",
        "total_cost_usd",
        "usage",
        "item",
        "error",
        "message",
        "content",
        "delta",
        "stats",
    ),
    *("response", "data", "exitCode", "part", "cost", "tokens", "input", "output", "messages", "metadata", "text"),
    *("input_tokens", "output_tokens", "inputTokens", "outputTokens", "severity", "name"),
]
fields = st.dictionaries(st.sampled_from(KEYS), values, max_size=6)
events = st.builds(
    lambda flat, inner, words: {**flat, **inner, **words},
    fields,
    st.dictionaries(st.sampled_from(KEYS), fields | st.lists(fields, max_size=2), max_size=4),
    st.fixed_dictionaries({}, optional={key: st.sampled_from(words) | values for key, words in NAMES.items()}),
)
"""Objects that have the keys of a dialect, and anything in them."""


def sane(answer: Answer) -> bool:
    """Whether an answer holds only what it may."""
    return (
        all(isinstance(text, str) and len(text) <= LONGEST_REPLY for text in (answer.reply, answer.error or ""))
        and (answer.cost_usd is None or (math.isfinite(answer.cost_usd) and answer.cost_usd >= 0))
        and all(count is None or (type(count) is int and count >= 0) for count in (answer.tokens_in, answer.tokens_out))
    )


@pytest.mark.parametrize("dialect", ["", *PARSERS])
@given(parts=st.lists(noise, max_size=6), places=st.lists(st.integers(0, 5000), max_size=6), stderr=st.text())
@pytest.mark.some(4)
def test_any_bytes_in_any_pieces_give_one_answer(
    dialect: str, parts: list[bytes], places: list[int], stderr: str
) -> None:
    """Whatever a program prints, nothing is raised, and the pieces it arrives in change nothing."""
    text = b"".join(parts)
    answer = read(dialect, text, stderr=stderr)
    assert sane(answer)
    assert read(dialect, *cut(text, places), stderr=stderr) == answer


@pytest.mark.parametrize("dialect", DIALECTS)
@settings(max_examples=40)
@given(st.lists(events, max_size=3), st.lists(events, max_size=1))
@example([{"type": "result", "is_error": False, "exitCode": 10**400, "total_cost_usd": 10**400}], [])
@example([{"type": "step_finish", "part": {"cost": 10**400}}], [])
@example([{"type": "step_finish", "part": {"cost": 1.7e308}}] * 2, [])
@pytest.mark.some(2)
def test_objects_of_a_dialect_with_anything_in_them_raise_nothing(
    dialect: str, objects: list[Event], on_stderr: list[Event]
) -> None:
    """A key that holds another kind of value than it should is passed over, or told as the text it is."""
    stderr = "".join(json.dumps(one, indent=2) + "\n" for one in on_stderr)
    assert sane(said(dialect, *objects, stderr=stderr))


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.some(2)
def test_objects_of_any_depth_raise_nothing(dialect: str) -> None:
    """What is nested too deep to be read is passed over, and what is just not too deep is not too deep to be told."""
    for depth in (*range(850, 1000), 100_000):
        deep = "[" * depth + "]" * depth
        text = f'{{"type": "result", "is_error": false, "result": {deep}, "response": {deep}, "error": {deep}}}\n'
        text += f'{{"type": "error", "error": {{"name": {deep}}}, "message": {deep}, "part": {{"text": {deep}}}}}\n'
        text += f'{{"type": "session.error", "data": {{"message": {deep}}}}}\n'
        text += f'{{"messages": [], "metadata": {{"status": "failed", "error": {deep}}}}}'
        assert sane(read(dialect, text.encode(), stderr=text))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_output_without_an_end_is_unreadable(dialect: str) -> None:
    """Nothing, text, half an object, a list or a number: no answer, and it is said what is missing."""
    for text in (b"", b"Well.\n{not json\nI think I am done\n", b'{"type": "res', b"[1, 2]", b"42\n", b"{}\n", b"null"):
        assert read(dialect, text) == Answer(unreadable=unreadable(dialect))


DOCUMENTS: dict[str, Event] = {
    "claude-json": _ENDS["claude-json"]("Done.")[0],
    "gemini-json": {"session_id": "s", "response": "Done.", "stats": {"models": {}}},
    "goose-json": _ENDS["goose-json"]("Done.")[0],
}
"""What the tools print that print one object in all."""


@pytest.mark.parametrize("dialect", DOCUMENTS)
@given(indent=st.integers(0, 4), more=st.lists(values, max_size=3))
@example(indent=2, more=[{}])
@example(indent=2, more=[[], {"a": {}}, [{"a": 1}]])
def test_one_object_may_stand_on_many_lines(dialect: str, indent: int, more: list[Any]) -> None:
    """The one object of a tool is the same, printed over many lines, whatever else it holds."""
    document = {"more": more, **DOCUMENTS[dialect]}
    answer = said(dialect, document)
    assert (answer.reply, answer.unreadable) == ("Done.", "")
    assert read(dialect, json.dumps(document, indent=indent).encode() + b"\n") == answer


@pytest.mark.parametrize("end", [b"", b"\n"], ids=repr)
@pytest.mark.parametrize(
    ("dialect", "event", "answer"),
    [
        (
            "copilot-jsonl",
            {"type": "assistant.usage", "data": {"inputTokens": 2, "outputTokens": 1}},
            Answer(unreadable=unreadable("copilot-jsonl"), tokens_in=2, tokens_out=1),
        ),
        (
            "gemini-json",
            {"type": "message", "role": "assistant", "content": "Hi.", "delta": True},
            Answer("Hi.", unreadable=unreadable("gemini-json")),
        ),
    ],
)
def test_an_object_counts_once(dialect: str, event: Event, answer: Answer, end: bytes) -> None:
    """Also where it is all that was printed, and could be a line as well as the whole."""
    assert read(dialect, json.dumps(event).encode() + end) == answer


# -- how much of it is kept --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_giant_line_is_passed_over_in_bounded_memory(dialect: str) -> None:
    """A line longer than any event is dropped as it comes, and what is printed after it is read as always."""
    parser = parser_for(dialect)
    chunk = b'{"x":' * (1 << 18)
    text = transcript(dialect)
    tracemalloc.start()
    try:
        for _ in range(5 * LONGEST_LINE // len(chunk)):
            parser.feed(memoryview(chunk))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    parser.feed(b"\n" + text)
    assert (parser.answer("", ""), peak < 4 * LONGEST_LINE) == (DONE[dialect], True)


@pytest.mark.parametrize(("size", "found"), [(LONGEST_LINE, True), (LONGEST_LINE + 1, False)])
def test_a_line_is_read_up_to_the_longest(size: int, found: bool) -> None:
    """The limit is exact, in one piece or in several, and the end of the output ends a line."""
    end = json.dumps(_ENDS["claude-json"]("Done.")[0]).encode()
    text = end + b" " * (size - len(end))
    answer = DONE["claude-json"] if found else Answer(unreadable=unreadable("claude-json"))
    for after in (b"", b"\n", b"\nwords\n"):
        assert read("claude-json", text + after) == answer
        assert read("claude-json", *cut(text + after, [100_000, 3_000_000, size - 1, size])) == answer


def test_a_reply_in_many_parts_is_kept_in_bounded_memory() -> None:
    """However long a tool goes on talking, only the end of it is kept, and no more is held meanwhile."""
    parser = parser_for("gemini-json")
    part = lines([{"type": "message", "role": "assistant", "content": "x" * (1 << 20), "delta": True}])
    tracemalloc.start()
    try:
        for _ in range(32):
            parser.feed(part)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    parser.feed(lines([{"type": "result", "status": "success"}]))
    assert (parser.answer("", ""), held < 2 * LONGEST_LINE) == (Answer("…" + "x" * (LONGEST_REPLY - 1)), True)


@pytest.mark.parametrize("dialect", DIALECTS)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=3).filter(lambda text: text.strip() == text))
def test_a_reply_is_what_was_said(dialect: str, text: str) -> None:
    """Any text comes through, and of a long one the end is kept."""
    assert said(dialect, *_ENDS[dialect](text)).reply == text
    long = text[0] + "." * LONGEST_REPLY + text
    assert said(dialect, *_ENDS[dialect](long)).reply == "…" + long[-LONGEST_REPLY + 1 :]


NUMBERS = [
    ("NaN", None), ("Infinity", None), ("-Infinity", None), ("1e400", None), ("-1e400", None), ("-1", None),
    ("-0.5", None), ("true", None), ("false", None), ("null", None), ('"3"', None), ("[3]", None), ("{}", None),
    ("1" + "0" * 400, None), ("0", 0), ("7", 7), ("7.0", 7), ("7e2", 700),
]  # fmt: skip
"""What may stand where a number should, and the number that it is; None if it is none."""


@pytest.mark.parametrize(("written", "number"), NUMBERS, ids=[written[:12] for written, _ in NUMBERS])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_only_numbers_count_as_costs_and_tokens(dialect: str, written: str, number: float | None) -> None:
    """What is not finite, below zero or no number at all is not told; what is, is."""
    end = lines(_ENDS[dialect]("Done."))
    for told in (COST, TOKENS_IN, TOKENS_OUT):
        end = end.replace(b": " + json.dumps(told).encode(), b": " + written.encode())
    answer = read(dialect, end)
    cost = number if dialect in COSTS else None
    assert answer == Answer("Done.", None, "", cost, number, number)  # type: ignore[arg-type]


def test_a_number_too_long_to_be_read_spoils_its_line_only() -> None:
    """Python takes integers of 4300 digits; an object with a longer one is passed over, and the next one counts."""
    spoilt = b'{"type": "result", "is_error": false, "total_cost_usd": ' + b"1" * 5000 + b"}\n"
    assert read("claude-json", spoilt) == Answer(unreadable=unreadable("claude-json"))
    assert read("claude-json", spoilt + transcript("claude-json")) == DONE["claude-json"]


# -- one dialect after the other ---------------------------------------------------------------------------------------


def test_what_is_not_read_says_nothing() -> None:
    """Without a dialect there is no reply and no error, whatever was printed."""
    assert read("", transcript("claude-json"), stdout="out", stderr="Error") == Answer()


@pytest.mark.parametrize(
    ("stdout", "stderr", "reply"),
    [
        ("", "", ""),
        ("  one \n two\t\n\n", "err", "one\n two"),
        (" \n", "\nerr\n", "err"),
        ("\n".join(map(str, range(100))), "", "\n".join(map(str, range(80, 100)))),
        ("é" * 5000, "", "…" + "é" * 3999),
    ],
    ids=ascii,
)
def test_of_plain_text_the_end_is_the_reply(stdout: str, stderr: str, reply: str) -> None:
    """The last twenty lines of standard output, or of standard error where there is no other; it is never unreadable."""
    assert read("text", stdout=stdout, stderr=stderr) == Answer(reply)


CLAUDE = {"type": "result", "subtype": "success", "is_error": False, "result": "Done."}


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({}, None),
        ({"subtype": "error_max_turns"}, None),
        ({"is_error": True}, "Done."),
        ({"is_error": True, "result": "", "subtype": "error_max_turns"}, "error_max_turns"),
        ({"is_error": True, "result": None, "subtype": None}, "it says that it failed, and not why"),
        ({"is_error": "false"}, "Done."),
        ({"is_error": None}, "Done."),
    ],
    ids=repr,
)
def test_claude_has_failed_where_is_error_says_so(fields: Event, error: str | None) -> None:
    """`is_error` decides, whatever `subtype` calls it; only `false` is no error."""
    answer = said("claude-json", {**CLAUDE, **fields})
    assert (answer.error, answer.unreadable) == (error, "")


def test_the_last_result_of_claude_counts() -> None:
    """A failure before it is forgotten, a success before it too, and what assistants and tools say is no result."""
    failure = {**CLAUDE, "is_error": True, "result": "no"}
    quoted = {"type": "user", "message": {"content": [{"type": "tool_result", "content": json.dumps(failure)}]}}
    assert [said("claude-json", failure, CLAUDE, quoted), said("claude-json", CLAUDE, failure, quoted)] == [
        Answer("Done."),
        Answer("no", "no"),
    ]


ERROR = {"type": "error", "message": "Reconnecting... 1/5"}
COMPLETED = {"type": "turn.completed", "usage": {"input_tokens": 5, "output_tokens": 2}}
FAILED = {"type": "turn.failed", "error": {"message": "stream disconnected"}}


@pytest.mark.parametrize(
    ("events", "answer"),
    [
        ([{"type": "turn.started"}, ERROR, COMPLETED], Answer(tokens_in=5, tokens_out=2)),
        ([{"type": "turn.started"}, ERROR], Answer(error="Reconnecting... 1/5")),
        ([ERROR, FAILED], Answer(error="stream disconnected")),
        ([FAILED, {"type": "turn.started"}], Answer(unreadable=unreadable("codex-jsonl"))),
        (
            [COMPLETED, {"type": "turn.started"}],
            Answer(unreadable=unreadable("codex-jsonl"), tokens_in=5, tokens_out=2),
        ),
        ([COMPLETED, {"type": "turn.started"}, COMPLETED], Answer(tokens_in=10, tokens_out=4)),
        ([{"type": "turn.failed"}], Answer(error="it says that it failed, and not why")),
        ([{"type": "turn.failed", "error": "plain"}], Answer(error="plain")),
    ],
)
def test_codex_has_done_what_its_last_turn_has(events: list[Event], answer: Answer) -> None:
    """An error in between may pass; a turn that completes or fails decides, and tokens of all turns add up."""
    assert said("codex-jsonl", *events) == answer


def test_of_codex_only_messages_of_the_agent_are_a_reply() -> None:
    """What commands print is no reply, and the last message is the one that counts."""
    items = [
        {"type": "item.completed", "item": {"type": kind, "text": text, "aggregated_output": "rate limit"}}
        for kind, text in (("agent_message", "first"), ("agent_message", "last"), ("command_execution", "output"))
    ]
    assert said("codex-jsonl", *items, COMPLETED) == Answer("last", tokens_in=5, tokens_out=2)


GEMINI_ERROR = {"session_id": "s", "error": {"type": "Error", "message": "Please set an Auth method", "code": 41}}


@pytest.mark.parametrize(
    "stderr",
    [
        json.dumps(GEMINI_ERROR, indent=2),
        json.dumps(GEMINI_ERROR),
        f"Loaded credentials.\n(node:7) {{warning}}\n{{ not: json\n{json.dumps(GEMINI_ERROR, indent=2)}\nbye\n",
        f"{json.dumps({'error': 'an earlier one'}, indent=2)}\n  {json.dumps(GEMINI_ERROR, indent=4)}\n",
        json.dumps({**GEMINI_ERROR, "causes": [{"error": "inner"}]}, indent=2),
    ],
    ids=["pretty", "compact", "after other text", "the last of two", "with objects in it"],
)
def test_gemini_says_on_standard_error_what_went_wrong(stderr: str) -> None:
    """An object with an error counts over many lines and after other text; the last one, and not what is inside of it."""
    assert said("gemini-json", *_ON_THE_WAY["gemini-json"], stderr=stderr) == Answer(error="Please set an Auth method")


@pytest.mark.parametrize(
    ("events", "answer"),
    [
        ([{"type": "result", "status": "success"}], Answer()),
        ([{"type": "result", "status": "error", "error": {"message": "quota"}}], Answer(error="quota")),
        ([{"type": "result", "status": "error"}], Answer(error="error")),
        ([{"type": "result"}], Answer(error="it says that it failed, and not why")),
        ([{"type": "error", "severity": "warning", "message": "w"}, {"type": "result", "status": "success"}], Answer()),
        ([{"type": "error", "severity": "error", "message": "e"}], Answer(error="e")),
        ([{"type": "error", "message": "e"}, {"type": "result", "status": "success"}], Answer()),
        ([{"response": "Done.", "stats": {}}], Answer("Done.")),
        ([{"response": "Half.", "error": {"message": "e"}}], Answer("Half.", "e")),
        ([{"session_id": "s"}], Answer(unreadable=unreadable("gemini-json"))),
    ],
    ids=repr,
)
def test_gemini_has_done_what_its_result_says(events: list[Event], answer: Answer) -> None:
    """A result with its status, or one object with a response; a warning is no error, and standard error no longer counts."""
    assert said("gemini-json", *events) == answer
    if not answer.unreadable and answer.error is None:
        assert said("gemini-json", *events, stderr=json.dumps(GEMINI_ERROR)) == answer


def test_a_message_of_gemini_comes_in_parts() -> None:
    """Parts are put together, a message that is none begins anew, and what the user said is no reply."""
    messages = [
        {"type": "message", "role": role, "content": text, **({"delta": True} if delta else {})}
        for role, text, delta in (
            *(("assistant", "old", False), ("assistant", "Do", False), ("user", "?", False)),
            ("assistant", "ne.", True),
        )
    ]
    assert said("gemini-json", *messages, {"type": "result", "status": "success"}).reply == "Done."


@pytest.mark.parametrize(
    ("events", "answer"),
    [
        ([{"type": "result", "exitCode": 0}], Answer()),
        ([{"type": "result"}], Answer()),
        ([{"type": "result", "exitCode": 1}], Answer(error="it says that it ended with 1")),
        ([{"type": "session.error", "data": {"message": "e"}}, {"type": "result", "exitCode": 1}], Answer(error="e")),
        ([{"type": "assistant.message", "data": {"content": "Hi."}}], Answer("Hi.")),
        (
            [{"type": "assistant.message", "data": {"content": text}} for text in ("Hi.", "")],
            Answer("Hi."),
        ),
        ([{"type": "assistant.turn_start", "data": {}}], Answer(unreadable=unreadable("copilot-jsonl"))),
        (
            [{"type": "assistant.usage", "data": {"inputTokens": 2, "outputTokens": 1}}] * 2 + [{"type": "result"}],
            Answer(tokens_in=4, tokens_out=2),
        ),
    ],
    ids=repr,
)
def test_copilot_has_done_what_its_events_say(events: list[Event], answer: Answer) -> None:
    """The result has the exit code, a message of the assistant is enough, and usage adds up."""
    assert said("copilot-jsonl", *events) == answer


STEP = {"type": "step_finish", "part": {"cost": 0.5, "tokens": {"input": 3, "output": 1}}}


@pytest.mark.parametrize(
    ("events", "answer"),
    [
        ([{"type": "step_start"}, STEP, {"type": "step_start"}, STEP], Answer("", None, "", 1.0, 6, 2)),
        ([STEP, {"type": "step_start"}], Answer("", None, unreadable("opencode-json"), 0.5, 3, 1)),
        ([{"type": "error", "error": {"name": "APIError", "data": {"message": "m"}}}], Answer(error="m")),
        ([{"type": "error", "error": {"name": "APIError"}}], Answer(error="APIError")),
        ([STEP, {"type": "error", "error": "plain"}], Answer("", "plain", "", 0.5, 3, 1)),
    ],
    ids=repr,
)
def test_opencode_has_done_what_its_last_step_has(events: list[Event], answer: Answer) -> None:
    """A step that began has to finish, and cost and tokens of all steps add up."""
    assert said("opencode-json", *events) == answer


def goose(*messages: Any, **metadata: Any) -> Event:
    return {"messages": list(messages), "metadata": metadata}


@pytest.mark.parametrize(
    ("event", "answer"),
    [
        (goose(status="completed"), Answer()),
        (goose(), Answer()),
        (goose(status="failed"), Answer(error="it says that it is failed")),
        (goose(status="failed", error="no model"), Answer(error="no model")),
        (goose(total_tokens=9), Answer(tokens_in=9)),
        (goose(total_tokens=9, input_tokens=7, output_tokens=2), Answer(tokens_in=7, tokens_out=2)),
        (
            goose(
                {"role": "assistant", "content": [{"type": "text", "text": "one"}, 7, {"type": "toolRequest"}]},
                {"role": "user", "content": [{"type": "text", "text": "two"}]},
                {"role": "assistant", "content": [{"type": "text", "text": text} for text in ("three", "four")]},
                {"role": "assistant", "content": [{"type": "toolRequest"}]},
                "nothing",
            ),
            Answer("three\nfour"),
        ),
        ({"messages": []}, Answer(unreadable=unreadable("goose-json"))),
        ({"messages": {}, "metadata": {}}, Answer(unreadable=unreadable("goose-json"))),
    ],
    ids=repr,
)
def test_goose_says_everything_in_one_object(event: Event, answer: Answer) -> None:
    """The last text of the assistant is the reply, and any status but completed an error."""
    assert said("goose-json", event) == answer
    assert read("goose-json", json.dumps(event, indent=2).encode()) == answer


@pytest.mark.timeout(60)  # without a bound it is minutes
@pytest.mark.parametrize("dialect", DOCUMENTS)
@pytest.mark.some(1)
def test_beginnings_that_lead_nowhere_are_read_within_bounds(dialect: str) -> None:
    """Hundreds of objects that are none, each of which would be read for megabytes; and the end is found all the same."""
    nothing = b'{"k":[\n' * 400 + b"1,\n" * 2_000_000 + b"oops\n"
    answer = read(dialect, nothing, json.dumps(DOCUMENTS[dialect], indent=1).encode())
    assert (answer.reply, answer.unreadable) == ("Done.", "")
