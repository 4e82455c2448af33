"""How an execution went: what the tool says counts, what the task's own programs print does not."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderator.backends.calls import Call
from moderator.backends.judging import Trouble, Verdict, judge
from moderator.backends.parsers import Answer, parser_for
from moderator.config.backends import shipped
from moderator.config.settings import PARSERS
from moderator.models import Outcome
from moderator.process import Ended, Ending

RETRY, GIVE_UP = ("rate limit", "ECONNREFUSED"), ("not logged in",)
GONE = "ended after 9.0 s: no output for 9 s"
WELL = Verdict(None)
DIALECTS = tuple(name for name in PARSERS if name != "text")


NPM = """\
npm warn deprecated
npm error code E404
npm error path /x
npm error 404 Not Found - GET https://example.com/nope
npm error 404
npm error 404 Note that you can also install from a
npm error 404 tarball, folder, http url, or git url.
npm error A complete log of this run can be found in: /home/me/.npm/_logs/debug-0.log
"""
PIP = """\
ERROR: Could not find a version that satisfies the requirement nope (from versions: none)
ERROR: No matching distribution found for nope

[notice] A new release of pip is available: 24.0 -> 25.3
[notice] To update, run: pip install --upgrade pip
"""


def call(parser: str = "text", **keys: Any) -> Call:
    return Call(["ai"], parser=parser, **{"retry": RETRY, "give_up": GIVE_UP, **keys})


def ended(
    code: int | None = 0, stdout: str = "", stderr: str = "", ending: Ending = Ending.EXITED, **keys: Any
) -> Ended:
    if ending is not Ending.EXITED:
        keys.setdefault("message", GONE)
    return Ended(ending, code, stdout, stderr, 1.0, **keys)


def failed(message: str) -> Verdict:
    return Verdict(Outcome.FAILED, message)


def backend_failed(message: str, trouble: Trouble = Trouble.RETRY) -> Verdict:
    return Verdict(Outcome.BACKEND_FAILED, message, trouble)


# -- without a trouble -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parser", ["", *PARSERS])
def test_exit_code_zero_and_nothing_said_against_it_is_well(parser: str) -> None:
    """What becomes of the work is still to be seen, but the tool has done its part."""
    assert judge(call(parser), ended(0, "out", "err"), Answer("Done.")) == WELL


@pytest.mark.parametrize("parser", ["", *PARSERS])
@pytest.mark.parametrize(
    ("code", "stdout", "stderr", "message"),
    [
        (1, "", "", "exit code 1"),
        (3, "out\n", "", "exit code 3: out"),
        (-9, "out", "one\n  two  \n\n", "exit code -9: two"),
        (1, "", "x" * 300, "exit code 1: " + "x" * 200),
        (1, "", NPM, "exit code 1: npm error 404 Not Found - GET https://example.com/nope"),
        (1, "", NPM.replace("error", "ERR!"), "exit code 1: npm ERR! 404 Not Found - GET https://example.com/nope"),
        (1, "", "[PdmUsageError]: no group\nSee https://example.com\n", "exit code 1: [PdmUsageError]: no group"),
        (1, "", PIP, "exit code 1: ERROR: No matching distribution found for nope"),
        (1, "", "error: retried\nTraceback\nmy.OddError: odd\nbye\n", "exit code 1: my.OddError: odd"),
        (1, "", "error: old\n" + "fine\n" * 30, "exit code 1: fine"),
    ],
)
def test_another_exit_code_is_a_failure_and_its_last_words_the_reason(
    parser: str, code: int, stdout: str, stderr: str, message: str
) -> None:
    """The last line of standard error, or of standard output where there is none, whatever the dialect."""
    assert judge(call(parser), ended(code, stdout, stderr), Answer("Done.")) == failed(message)


@pytest.mark.parametrize("parser", DIALECTS)
@pytest.mark.parametrize(
    ("code", "said", "message"),
    [
        (0, "I could not\nmake it", "I could not make it"),
        (0, "x" * 400, "x" * 299 + "…"),
        (2, "I could not", "exit code 2: I could not"),
    ],
)
def test_what_a_dialect_says_went_wrong_outweighs_the_exit_code(
    parser: str, code: int, said: str, message: str
) -> None:
    """An error is one though the program ends with 0, and it is the reason, on one line."""
    assert judge(call(parser), ended(code, "{}", "noise"), Answer(error=said)) == failed(message)


@pytest.mark.parametrize(
    ("stdout", "stderr", "message"),
    [
        ("", "", "its output holds no end"),
        ("one\ntwo\n", "", "its output holds no end; it ends with: two"),
        ("one", "warning\n", "its output holds no end; it ends with: warning"),
    ],
)
def test_output_that_cannot_be_read_is_no_success(stdout: str, stderr: str, message: str) -> None:
    """Exit code 0 without the end that its dialect has is unreadable, and it is told what is missing."""
    answer = Answer(unreadable="its output holds no end")
    assert judge(call("codex-jsonl"), ended(0, stdout, stderr), answer) == Verdict(Outcome.UNREADABLE, message)


@pytest.mark.parametrize(
    ("ending", "outcome"),
    [(Ending.CANCELLED, Outcome.CANCELLED), (Ending.COULD_NOT_START, Outcome.COULD_NOT_START)],
)
@pytest.mark.parametrize("code", [None, 0, 1, -15])
def test_who_was_not_let_finish_is_not_judged(ending: Ending, outcome: Outcome, code: int | None) -> None:
    """A run that was interrupted, or a program that is not there, is told as that, whatever was printed."""
    silent = ended(code, "rate limit", "not logged in", ending, message="so it was")
    for answer in (Answer(), Answer(error="rate limit"), Answer(unreadable="no end")):
        assert judge(call(), silent, answer) == Verdict(outcome, "so it was")


@pytest.mark.parametrize(("ending", "outcome"), [(Ending.TIMED_OUT, Outcome.TIMED_OUT), (Ending.IDLE, Outcome.IDLE)])
@pytest.mark.parametrize("parser", ["", *PARSERS])
def test_a_limit_that_passed_is_told_as_that(ending: Ending, outcome: Outcome, parser: str) -> None:
    """Also where the exit code would be 0, or the dialect had said that it is done or that it failed."""
    for answer in (Answer("Done."), Answer(error="I could not"), Answer(unreadable="no end")):
        assert judge(call(parser), ended(0, "out", "err", ending), answer) == Verdict(outcome, GONE)


# -- troubles of the tool's own ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("parser", DIALECTS)
@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ("429 Rate Limit reached", backend_failed("429 Rate Limit reached")),
        ("Not logged in.", backend_failed("Not logged in.", Trouble.GIVE_UP)),
        ("connect ECONNREFUSED\nNot logged in", backend_failed("connect ECONNREFUSED Not logged in", Trouble.GIVE_UP)),
        ("Not logged in\nand a rate limit", backend_failed("Not logged in and a rate limit", Trouble.GIVE_UP)),
        ("the tests fail", failed("the tests fail")),
    ],
)
def test_the_error_of_a_dialect_is_searched_for_troubles(parser: str, said: str, verdict: Verdict) -> None:
    """With exit code 0 or another; what is there to stay wins over what may pass, wherever either stands."""
    assert judge(call(parser), ended(0), Answer(error=said)) == verdict
    verdict = Verdict(verdict.outcome, f"exit code 1: {verdict.message}", verdict.trouble)
    assert judge(call(parser), ended(1), Answer(error=said)) == verdict


@pytest.mark.parametrize("parser", DIALECTS)
@pytest.mark.parametrize("words", ["rate limit", "not logged in"])
def test_what_a_task_prints_in_a_dialect_is_no_trouble(parser: str, words: str) -> None:
    """Events quote the output of the task's programs; only errors of the tool and standard error are its voice."""
    event = json.dumps({"type": "item.completed", "item": {"type": "command_execution", "aggregated_output": words}})
    for answer in (Answer(), Answer(f"the test says: {words}"), Answer(unreadable="no end")):
        assert judge(call(parser), ended(1, event), answer) == failed(f"exit code 1: {event[:200]}")
    assert judge(call(parser), ended(1, event), Answer(error="2 tests fail")) == failed("exit code 1: 2 tests fail")


@pytest.mark.parametrize("parser", DIALECTS)
@pytest.mark.parametrize(
    ("said", "stderr", "verdict"),
    [
        (None, "rate limit\nbye\n", backend_failed("exit code 1: rate limit")),
        (None, "rate limit\n" + "fine\n" * 30, failed("exit code 1: fine")),
        ("it broke", "rate limit\nbye\n", failed("exit code 1: it broke")),
        ("rate limit", "not logged in\n", backend_failed("exit code 1: rate limit")),
    ],
)
def test_standard_error_is_the_voice_of_a_tool_that_says_nothing_in_its_dialect(
    parser: str, said: str | None, stderr: str, verdict: Verdict
) -> None:
    """Without an error of the dialect, a line at the end of standard error tells of a trouble; with one, that alone counts."""
    assert judge(call(parser), ended(1, "{}", stderr), Answer(error=said)) == verdict


@pytest.mark.parametrize("ending", [Ending.TIMED_OUT, Ending.IDLE])
@pytest.mark.parametrize("parser", ["", *PARSERS])
@pytest.mark.parametrize(
    ("stderr", "trouble", "line"),
    [
        ("connect ECONNREFUSED 127.0.0.1\n" * 3, Trouble.RETRY, "connect ECONNREFUSED 127.0.0.1"),
        (
            "rate limit\nplease be patient: NOT LOGGED IN\nrate limit\n",
            Trouble.GIVE_UP,
            "please be patient: NOT LOGGED IN",
        ),
    ],
)
def test_a_tool_that_waits_for_its_trouble_to_pass_has_failed_itself(
    ending: Ending, parser: str, stderr: str, trouble: Trouble, line: str
) -> None:
    """A limit that passed while the tool complained on standard error is its trouble, and both are told."""
    unread = Answer(unreadable="no end") if parser in DIALECTS else Answer()
    verdict = judge(call(parser, timeout=9), ended(-15, "", stderr, ending), unread)
    assert verdict == backend_failed(f"{GONE} ({line})", trouble)


@pytest.mark.parametrize("parser", ["", *PARSERS])
@pytest.mark.parametrize("error", [None, "rate limit"])
def test_a_task_that_used_up_its_own_time_is_not_the_tools_trouble(parser: str, error: str | None) -> None:
    """It may have spoken of the network on its way; only a limit of the backend's own says how long is too long for it."""
    verdict = judge(call(parser), ended(-15, "", "rate limit\n", Ending.TIMED_OUT), Answer(error=error))
    assert verdict == Verdict(Outcome.TIMED_OUT, GONE)


def test_a_dialect_that_reconnects_until_the_limit_has_failed_itself() -> None:
    """An error event that nothing followed is what the tool said last."""
    parser = parser_for("codex-jsonl")
    parser.feed(b'{"type":"turn.started"}\n{"type":"error","message":"Reconnecting: rate limit"}\n')
    verdict = judge(call("codex-jsonl"), ended(-15, ending=Ending.IDLE), parser.answer("", ""))
    assert verdict == backend_failed(f"{GONE} (Reconnecting: rate limit)")


@pytest.mark.parametrize(
    ("stdout", "stderr", "verdict"),
    [
        ("rate limit\nbye", "", failed("exit code 1: bye")),
        ("bye", "rate limit\n", backend_failed("exit code 1: rate limit")),
        ("out", "error: not logged in", backend_failed("exit code 1: error: not logged in", Trouble.GIVE_UP)),
        ("rate limit\n", "not logged in\nbye", backend_failed("exit code 1: not logged in", Trouble.GIVE_UP)),
        ("", "rate limit\n" + "fine\n" * 30, failed("exit code 1: fine")),
        ("", "x" * 4000 + "rate limit", failed("exit code 1: " + "x" * 200)),
    ],
)
def test_in_plain_text_the_end_of_standard_error_is_the_voice(stdout: str, stderr: str, verdict: Verdict) -> None:
    """The last thirty lines of it, and of a line its beginning; on standard output agents repeat what the task prints."""
    assert judge(call("text"), ended(1, stdout, stderr), Answer()) == verdict


def test_a_command_with_patterns_of_its_own_speaks_on_both_streams() -> None:
    """What is not read as an agent's is a command whose configuration knows what it prints."""
    assert judge(call(""), ended(1, "rate limit\nbye"), Answer()) == backend_failed("exit code 1: rate limit")


@pytest.mark.parametrize(
    ("stdout", "failed_too"),
    [
        ("api error\n", True),
        ("api error\n\none\ntwo\n\nthree\nfour\n\n", True),
        ("api error\nRetrying\none\ntwo\nthree\nDone.\n", False),
    ],
)
def test_what_went_well_after_a_failure_counts(stdout: str, failed_too: bool) -> None:
    """A line that means failure does so among the last five: a tool that tried again and went on has more to say."""
    verdict = judge(call("text", failed=("api error",)), ended(0, stdout), Answer())
    assert (verdict.outcome is Outcome.FAILED) == failed_too


@pytest.mark.parametrize("parser", ["", "text"])
def test_plain_text_with_exit_code_zero_fails_only_by_a_pattern_that_says_so(parser: str) -> None:
    """What would be a trouble in a failure is none in a success; `failed` makes it a failure, and then it is searched."""
    printed = ended(0, "api error: rate limit\nbye\n")
    assert judge(call(parser), printed, Answer("bye")) == WELL
    assert judge(call(parser, failed=("api error",)), printed, Answer("bye")) == backend_failed("api error: rate limit")
    assert judge(call(parser, failed=("API Error",), retry=()), printed, Answer()) == failed("api error: rate limit")
    assert judge(call(parser, failed=("fatal",)), printed, Answer()) == WELL


def test_a_pattern_that_says_failed_is_for_plain_text_only() -> None:
    """A dialect says itself how it went."""
    printed = ended(0, "api error", "api error")
    assert judge(call("claude-json", failed=("api error",)), printed, Answer("Done.")) == WELL


@pytest.mark.parametrize("ending", [Ending.EXITED, Ending.TIMED_OUT])
@pytest.mark.parametrize("code", [0, 1])
def test_all_that_plain_text_says_is_searched_whichever_line_says_failed(code: int, ending: Ending) -> None:
    """The line that means failure need not be the one that tells of the trouble; both are at the end of what was printed."""
    printed = ended(code, "429 rate limit, try later\nRetrying in 0.4 seconds...\n", ending=ending)
    verdict = judge(call(failed=(r"retrying in [\d.]+ seconds",), timeout=9), printed, Answer())
    assert (verdict.outcome, verdict.trouble) == (Outcome.BACKEND_FAILED, Trouble.RETRY)


@pytest.mark.parametrize("parser", ["", *PARSERS])
def test_without_patterns_there_are_no_troubles(parser: str) -> None:
    """A backend of which nothing is known has simply failed."""
    bare = Call(["ai"], parser=parser)
    assert judge(bare, ended(1, "", "rate limit"), Answer()) == failed("exit code 1: rate limit")
    assert judge(bare, ended(1, "", "rate limit", Ending.IDLE), Answer()) == Verdict(Outcome.IDLE, GONE)


@pytest.mark.parametrize(
    ("name", "said", "trouble"),
    [
        ("claude_code", "API Error: 529 {'type':'overloaded_error'}", Trouble.RETRY),
        ("claude_code", "Invalid API key · Please run /login", Trouble.GIVE_UP),
        ("claude_code", "Claude usage limit reached", Trouble.RETRY),
        ("codex", "stream disconnected before completion: error sending request", Trouble.RETRY),
        ("codex", "unexpected status 401 Unauthorized", Trouble.GIVE_UP),
        ("gemini", "Please set an Auth method in your settings.json", Trouble.GIVE_UP),
        ("gemini", "got status: 429 Too Many Requests", Trouble.RETRY),
        ("gemini", "request to https://example.org failed, reason: getaddrinfo EAI_AGAIN", Trouble.RETRY),
        ("copilot", "No authentication information found.", Trouble.GIVE_UP),
        ("opencode", "Unable to connect. Is the computer able to access the url?", Trouble.RETRY),
        ("codex", "You've hit your usage limit. Try again at 3 PM.", Trouble.RETRY),
        ("gemini", "Quota exceeded for quota metric 'Requests'", Trouble.RETRY),
        ("gemini", "You exceeded your current quota, please check your plan", Trouble.RETRY),
        ("aider", "litellm.RateLimitError: too fast", Trouble.RETRY),
        ("aider", "The API provider's servers are down or overloaded.", Trouble.RETRY),
        ("claude_code", "HTTP/1.1 503", Trouble.RETRY),
        ("goose", "I changed 429000 lines and 4010 files", Trouble.NONE),
        ("goose", "the test of line 401 fails, and 429 others", Trouble.NONE),
        ("goose", "disk quota of the fixture is wrong; the method is overloaded", Trouble.NONE),
        ("goose", "expected 'unauthorized' in the page, 502 found", Trouble.NONE),
        ("claude_code", "I could not make the tests pass", Trouble.NONE),
    ],
)
def test_the_shipped_patterns_know_the_troubles_of_their_tools(name: str, said: str, trouble: Trouble) -> None:
    """What the tools say when the network, a limit or the login is in the way is told from a task that failed."""
    config = shipped()[name]
    made = Call(["ai"], parser=config.parser, failed=config.failed, retry=config.retry, give_up=config.give_up)
    assert judge(made, ended(1), Answer(error=said)).trouble is trouble


endings = st.sampled_from(Ending)
pieces = st.lists(st.sampled_from(["rate limit", "not logged in", "fatal", "fine", "\n", "é" * 300])).map("".join)
answers = st.builds(Answer, error=st.none() | pieces.filter(str.strip), unreadable=st.sampled_from(["", "no end"]))


@given(st.sampled_from(["", *PARSERS]), endings, st.sampled_from([None, 0, 1, -9]), pieces, pieces, answers)
def test_every_execution_has_a_verdict_that_fits_together(
    parser: str, ending: Ending, code: int | None, stdout: str, stderr: str, answer: Answer
) -> None:
    """A trouble and the outcome that stands for one come together, and whatever went wrong has a reason of one line."""
    verdict = judge(call(parser, failed=("fatal",)), ended(code, stdout, stderr, ending), answer)
    assert (verdict.outcome is Outcome.BACKEND_FAILED) == (verdict.trouble is not Trouble.NONE)
    assert bool(verdict.message) == (verdict.outcome is not None)
    assert not re.search("[\n\r]", verdict.message)
    assert len(verdict.message) < 700
