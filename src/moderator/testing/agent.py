"""A program that behaves like an AI agent's command line: it speaks each dialect and has every bad habit.

Standard library only, nothing of this package, and it starts in milliseconds.  What it says in a dialect is what the real
program was seen to say; what it does goes by `--do`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

DIALECTS = ("text", "claude-json", "codex-jsonl", "gemini-json", "copilot-jsonl", "opencode-json", "goose-json")
COST, TOKENS_IN, TOKENS_OUT = 0.25, 1200, 34
"""What it always says it took, where its dialect has words for that."""
VERSION = "9.8.7"


def main() -> int:
    """Do what the command line says; return the exit code."""
    parser = argparse.ArgumentParser(prog="moderator.testing.agent", description=__doc__.partition("\n")[0])
    parser.add_argument("--version", action="version", version=f"fake-agent {VERSION} (for tests)")
    parser.add_argument("--dialect", choices=DIALECTS, default="text", help="what it speaks")
    parser.add_argument("--do", choices=sorted(BEHAVIOURS), default="edit", help="how it behaves")
    parser.add_argument("--prompt", help="what to do (default: standard input)")
    parser.add_argument("--prompt-file", help="a file that says what to do")
    parser.add_argument("--seconds", type=float, default=0.0, help="how long it works")
    parser.add_argument("--bytes", type=int, default=1 << 30, help="how much `flood` prints")
    parser.add_argument(
        "--times", type=int, default=1, help="how often `rate-limit` and `network` fail before it works"
    )
    parser.add_argument("--counter", help="the file in which it counts how often it was started (for --times)")
    parser.add_argument("--journal", help="a file to which a line is added at its start and at its end")
    parser.add_argument("--name", default="fake", help="what it calls itself in the journal")
    arguments = parser.parse_args()
    agent = _Agent(arguments)
    agent.note("start")
    time.sleep(arguments.seconds)
    try:
        return BEHAVIOURS[arguments.do](agent)
    finally:
        agent.note("end")


class _Agent:
    """One start of it: what it was asked for, and its voice."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        if arguments.prompt is not None:
            self.prompt = str(arguments.prompt)
        elif arguments.prompt_file:
            self.prompt = Path(arguments.prompt_file).read_text("utf-8")
        else:
            self.prompt = sys.stdin.read()

    def note(self, what: str) -> None:
        if self.arguments.journal:
            line = f"{time.monotonic():.6f} {self.arguments.name} {what} {os.environ.get('MODERATOR_TASK_ID', '-')}\n"
            with open(self.arguments.journal, "a", encoding="utf-8") as journal:
                journal.write(line)

    def started_before(self) -> int:
        """Return how often it was started before, for this task; never, without a file to count in."""
        if not self.arguments.counter:
            return 0
        path = Path(f"{self.arguments.counter}-{os.environ.get('MODERATOR_TASK_ID', '')}")
        with open(path, "a", encoding="utf-8") as counter:
            counter.write(".")
        return path.stat().st_size - 1

    def edit(self) -> None:
        """Write down what it was asked for, in a file of the workspace."""
        Path("agent.txt").write_text(self.prompt, "utf-8")

    def work(self) -> None:
        """Say what an agent says on its way."""
        for said in _ON_THE_WAY.get(self.arguments.dialect, ()):
            _print(said)

    def succeed(self, reply: str = "Done.") -> int:
        self.work()
        if self.arguments.dialect == "text":
            print(reply, flush=True)
        if end := _ENDS.get(self.arguments.dialect):
            for said in end(reply):
                _print(said)
        return 0

    def fail(self, reason: str, code: int = 1) -> int:
        """End with an error, told as the dialect tells it."""
        self.work()
        dialect = self.arguments.dialect
        if dialect == "text":
            print(f"Error: {reason}", file=sys.stderr, flush=True)
        elif dialect == "gemini-json":
            error = {"session_id": "s", "error": {"type": "Error", "message": reason, "code": 41}}
            print(json.dumps(error, indent=2), file=sys.stderr, flush=True)
            return code and 41
        if dialect in _FAILURES:
            for said in _FAILURES[dialect](reason):
                _print(said)
        return code


def _print(said: dict[str, Any]) -> None:
    print(json.dumps(said), flush=True)


_ON_THE_WAY: dict[str, list[dict[str, Any]]] = {
    "claude-json": [
        {"type": "system", "subtype": "init", "session_id": "s", "tools": ["Edit"]},
        {
            "type": "assistant",
            "message": {"role": "assistant", "content": [{"type": "text", "text": "the test says: rate limit"}]},
        },
    ],
    "codex-jsonl": [
        {"type": "thread.started", "thread_id": "t"},
        {"type": "turn.started"},
        {"type": "error", "message": "Reconnecting... 1/5"},
    ],
    "gemini-json": [
        {"type": "init", "session_id": "s", "model": "auto"},
        {"type": "message", "role": "user", "content": "..."},
    ],
    "copilot-jsonl": [{"type": "session.start", "data": {}}, {"type": "assistant.turn_start", "data": {}}],
    "opencode-json": [{"type": "step_start", "part": {"type": "step-start"}}],
}
_ENDS: dict[str, Callable[[str], list[dict[str, Any]]]] = {
    "claude-json": lambda reply: [
        {
            "type": "result", "subtype": "success", "is_error": False, "result": reply, "total_cost_usd": COST,
            "usage": {"input_tokens": TOKENS_IN, "output_tokens": TOKENS_OUT},
        }
    ],
    "codex-jsonl": lambda reply: [
        {"type": "item.completed", "item": {"id": "i", "type": "agent_message", "text": reply}},
        {"type": "turn.completed", "usage": {"input_tokens": TOKENS_IN, "cached_input_tokens": 0, "output_tokens": TOKENS_OUT}},
    ],
    "gemini-json": lambda reply: [
        {"type": "message", "role": "assistant", "content": reply[:2], "delta": True},
        {"type": "message", "role": "assistant", "content": reply[2:], "delta": True},
        {"type": "result", "status": "success", "stats": {"input_tokens": TOKENS_IN, "output_tokens": TOKENS_OUT}},
    ],
    "copilot-jsonl": lambda reply: [
        {"type": "assistant.message", "data": {"content": reply}},
        {"type": "assistant.usage", "data": {"inputTokens": TOKENS_IN, "outputTokens": TOKENS_OUT}},
        {"type": "result", "exitCode": 0},
    ],
    "opencode-json": lambda reply: [
        {"type": "text", "part": {"type": "text", "text": reply}},
        {
            "type": "step_finish",
            "part": {"type": "step-finish", "cost": COST, "tokens": {"input": TOKENS_IN, "output": TOKENS_OUT}},
        },
    ],
    "goose-json": lambda reply: [
        {
            "messages": [{"role": "assistant", "content": [{"type": "text", "text": reply}]}],
            "metadata": {"total_tokens": TOKENS_IN, "output_tokens": TOKENS_OUT, "status": "completed"},
        }
    ],
}  # fmt: skip
_FAILURES: dict[str, Callable[[str], list[dict[str, Any]]]] = {
    # The real one calls it a "success" all the same.
    "claude-json": lambda reason: [{"type": "result", "subtype": "success", "is_error": True, "result": reason}],
    "codex-jsonl": lambda reason: [
        {"type": "error", "message": reason},
        {"type": "turn.failed", "error": {"message": reason}},
    ],
    "copilot-jsonl": lambda reason: [
        {"type": "session.error", "data": {"message": reason}},
        {"type": "result", "exitCode": 1},
    ],
    "opencode-json": lambda reason: [{"type": "error", "error": {"name": "APIError", "data": {"message": reason}}}],
    "goose-json": lambda reason: [
        {"messages": [], "metadata": {"total_tokens": 0, "status": "failed", "error": reason}}
    ],
}


# -- what it can do ----------------------------------------------------------------------------------------------------


def _edit(agent: _Agent) -> int:
    agent.edit()
    return agent.succeed()


def _fail_with_zero(agent: _Agent) -> int:
    agent.edit()
    return agent.fail("I could not make the tests pass", code=0)


def _fail(agent: _Agent) -> int:
    agent.edit()
    return agent.fail("I could not make the tests pass")


def _need_login(agent: _Agent) -> int:
    return agent.fail("Not logged in. Please run /login")


def _for_a_time(reason: str) -> Callable[[_Agent], int]:
    def behave(agent: _Agent) -> int:
        if agent.started_before() < agent.arguments.times:
            Path("half.txt").write_text("half of it\n", "utf-8")
            return agent.fail(reason)
        return _edit(agent)

    return behave


def _hang_silently(agent: _Agent) -> NoReturn:
    agent.work()
    while True:
        time.sleep(3600)


def _hang_noisily(agent: _Agent) -> NoReturn:
    agent.work()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        print("waiting for network", file=sys.stderr, flush=True)
        time.sleep(0.05)


def _flood(agent: _Agent) -> int:
    agent.edit()
    agent.work()
    line = json.dumps({"type": "noise", "text": "x" * 65_000}) + "\n"
    for _ in range(agent.arguments.bytes // len(line) + 1):
        sys.stdout.write(line)
    return agent.succeed()


def _one_long_line(agent: _Agent) -> int:
    agent.edit()
    for _ in range(agent.arguments.bytes // 65_536 + 1):
        sys.stdout.write("x" * 65_536)
    print(flush=True)
    return agent.succeed()


def _fork(agent: _Agent) -> int:
    child = subprocess.Popen(["sleep", "3600"], start_new_session=True)
    Path("daemon.txt").write_text(f"{child.pid}\n", "utf-8")
    return agent.succeed()


def _commit(agent: _Agent) -> int:
    agent.edit()
    _git("add", "-A")
    _git("-c", "user.name=Agent", "-c", "user.email=agent@example.org", "commit", "-q", "-m", "I was told not to")
    Path("later.txt").write_text("and this is not committed\n", "utf-8")
    return agent.succeed()


def _own_worktree(agent: _Agent) -> int:
    _git("worktree", "add", "-q", "--detach", "own-worktree")
    Path("own-worktree", "there.txt").write_text("in the wrong place\n", "utf-8")
    agent.edit()
    return agent.succeed()


def _ask(agent: _Agent) -> int:
    agent.work()
    try:
        with open("/dev/tty", encoding="utf-8") as terminal:
            answer = terminal.readline()
    except OSError:
        answer = sys.stdin.readline()
    return agent.succeed() if answer.strip() == "yes" else agent.fail("nobody answered")


def _mumble(agent: _Agent) -> int:
    agent.edit()
    print("Well.\n{not json\nI think I am done", flush=True)
    return 0


def _nothing(agent: _Agent) -> int:
    return agent.succeed()


def _litter(agent: _Agent) -> int:
    agent.edit()
    Path(".agent.history").write_text("what I did\n", "utf-8")
    return agent.succeed()


def _git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], check=True)


BEHAVIOURS: dict[str, Callable[[_Agent], int]] = {
    "edit": _edit,
    "nothing": _nothing,
    "fail": _fail,
    "fail-with-zero": _fail_with_zero,
    "need-login": _need_login,
    "rate-limit": _for_a_time("429 rate limit reached, try again later"),
    "network": _for_a_time("connect ECONNREFUSED 127.0.0.1:443"),
    "hang-silently": _hang_silently,
    "hang-noisily": _hang_noisily,
    "flood": _flood,
    "one-long-line": _one_long_line,
    "fork": _fork,
    "commit": _commit,
    "own-worktree": _own_worktree,
    "ask": _ask,
    "mumble": _mumble,
    "litter": _litter,
}
"""Everything that it can do, by name."""

if __name__ == "__main__":
    sys.exit(main())
