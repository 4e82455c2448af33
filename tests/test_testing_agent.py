"""The agent to test with, as a process of its own: every dialect it speaks is understood, every bad habit is the real one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from commandline import alive, wait_until
from moderator.backends.agents import Agent
from moderator.backends.calls import Call, Place, call_of
from moderator.backends.judging import Trouble, Verdict, judge
from moderator.backends.parsers import LONGEST_LINE, Answer, parser_for
from moderator.backends.probing import Availability, Probes
from moderator.config import config_from_mapping
from moderator.config.settings import PARSERS, BackendConfig
from moderator.models import Outcome, Task
from moderator.process import Ended, Ending, Limits, run
from moderator.testing import fake_backend
from moderator.testing.agent import BEHAVIOURS, COST, DIALECTS, TOKENS_IN, TOKENS_OUT, VERSION
from repos import git, make_repository

STRUCTURED = tuple(name for name in DIALECTS if name != "text")
GIVE_UP_SAID = "Not logged in. Please run /login"
NO_TESTS = "I could not make the tests pass"


def configured(*arguments: str, **keys: Any) -> BackendConfig:
    """Return the fake backend as a configuration has it, checked like any other."""
    return config_from_mapping({"backends": {"fake": fake_backend(*arguments, **keys)}}).backends["fake"]


def done(
    folder: Path, dialect: str, behaviour: str, *options: str, prompt: str = "stdin", **limits: float
) -> tuple[Call, Ended, Answer]:
    """Let the agent do its worst in a folder, as a run would."""
    folder.mkdir(exist_ok=True)
    place = Place(str(folder), folder=str(folder.parent / "attempt"))
    task = Task("one", "Do it", prompt="Add a flag: é\n-- '$HOME'")
    call = call_of(Agent(configured(dialect, behaviour, *options, prompt=prompt), "{prompt}"), task, place)
    for path, content in call.files.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(content, "utf-8")
    parser = parser_for(call.parser)
    ended = run(
        call.argv,
        cwd=folder,
        env={**os.environ, "MODERATOR_TASK_ID": "one"},
        log=folder.parent / "log",
        limits=Limits(**{"timeout": 60, "grace": 0.2, **limits}),
        stdin=call.stdin,
        listen=parser.feed,
    )
    return call, ended, parser.answer(ended.stdout, ended.stderr)


def verdict(folder: Path, dialect: str, behaviour: str, *options: str, **more: Any) -> Verdict:
    return judge(*done(folder, dialect, behaviour, *options, **more))


def files(folder: Path) -> dict[str, str]:
    """Return what stands in the files of a folder, but for those of git."""
    return {
        path.name: path.read_text("utf-8")
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not {".git", "own-worktree"} & set(path.parts)
    }


EDITED = {"agent.txt": "Add a flag: é\n-- '$HOME'\n"}


def test_it_speaks_every_dialect_there_is() -> None:
    """A dialect that can be configured can be tested."""
    assert set(DIALECTS) == set(PARSERS)


@pytest.mark.parametrize("prompt", ["stdin", "file", "argument"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_it_does_what_it_is_asked_for(dialect: str, prompt: str, tmp_path: Path) -> None:
    """By every way a prompt goes in, in every dialect: the work is in the folder, and the answer is understood."""
    call, ended, answer = done(tmp_path / "w", dialect, "edit", prompt=prompt)
    cost = COST if dialect in ("claude-json", "opencode-json") else None
    told = (None, None) if dialect == "text" else (TOKENS_IN, TOKENS_OUT)
    assert (ended.ending, ended.exit_code, ended.leftovers, ended.stderr) == (Ending.EXITED, 0, 0, "")
    assert answer == Answer("Done.", None, "", cost, *told)
    assert judge(call, ended, answer) == Verdict(None)
    assert files(tmp_path / "w") == EDITED


@pytest.mark.parametrize("dialect", DIALECTS)
def test_it_fails_as_its_dialect_has_it(dialect: str, tmp_path: Path) -> None:
    """What it says went wrong arrives, with a code that is not 0 and, but for plain text, also with one that is."""
    code = 41 if dialect == "gemini-json" else 1
    said = f"Error: {NO_TESTS}" if dialect == "text" else NO_TESTS
    well = Verdict(None) if dialect == "text" else Verdict(Outcome.FAILED, NO_TESTS)
    assert verdict(tmp_path / "w", dialect, "fail") == Verdict(Outcome.FAILED, f"exit code {code}: {said}")
    assert verdict(tmp_path / "w", dialect, "fail-with-zero") == well
    assert files(tmp_path / "w") == EDITED


@pytest.mark.parametrize("dialect", DIALECTS)
def test_it_has_troubles_of_its_own(dialect: str, tmp_path: Path) -> None:
    """Nobody logged in is a trouble that stays, and its work is not begun."""
    judged = verdict(tmp_path / "w", dialect, "need-login")
    assert (judged.outcome, judged.trouble) == (Outcome.BACKEND_FAILED, Trouble.GIVE_UP)
    assert GIVE_UP_SAID in judged.message
    assert files(tmp_path / "w") == {}


@pytest.mark.parametrize(("behaviour", "said"), [("rate-limit", "429 rate limit reached"), ("network", "ECONNREFUSED")])
@pytest.mark.parametrize("dialect", ["text", "codex-jsonl", "gemini-json"])
def test_its_troubles_may_pass(dialect: str, behaviour: str, said: str, tmp_path: Path) -> None:
    """It fails so often as it is told, leaving half of its work, and then it works."""
    counter = ("--times", "2", "--counter", str(tmp_path / "count"))
    made = [verdict(tmp_path / "w", dialect, behaviour, *counter) for _ in range(3)]
    assert [(one.outcome, one.trouble) for one in made] == [
        *[(Outcome.BACKEND_FAILED, Trouble.RETRY)] * 2,
        (None, Trouble.NONE),
    ]
    assert all(said in one.message for one in made[:2])
    assert files(tmp_path / "w") == {**EDITED, "half.txt": "half of it\n"}


def test_without_a_counter_it_leaves_none_in_the_workspace(tmp_path: Path) -> None:
    """What it needs to remember is no work of its."""
    verdict(tmp_path / "w", "text", "rate-limit")
    assert files(tmp_path / "w") == {"half.txt": "half of it\n"}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_it_may_mumble(dialect: str, tmp_path: Path) -> None:
    """Words without an end are a reply in plain text, and in every dialect nothing that can be read."""
    judged = verdict(tmp_path / "w", dialect, "mumble")
    assert judged.outcome is (None if dialect == "text" else Outcome.UNREADABLE)
    assert dialect == "text" or judged.message.endswith("; it ends with: I think I am done")


@pytest.mark.parametrize("dialect", STRUCTURED)
@pytest.mark.parametrize(("behaviour", "size"), [("flood", 1 << 20), ("one-long-line", LONGEST_LINE + 1)])
def test_it_may_talk_without_end(dialect: str, behaviour: str, size: int, tmp_path: Path) -> None:
    """Much output, or one line that is longer than any event, hides nothing of what it says at its end."""
    _, ended, answer = done(tmp_path / "w", dialect, behaviour, "--bytes", str(size))
    assert (ended.exit_code, answer.reply, answer.error, answer.unreadable) == (0, "Done.", None, "")
    assert (tmp_path / "log").stat().st_size > size


def test_it_may_hang_in_silence(tmp_path: Path) -> None:
    """A limit ends it, and nothing that it said makes that anybody's trouble."""
    judged = verdict(tmp_path / "w", "claude-json", "hang-silently", idle_timeout=0.4)
    assert (judged.outcome, judged.trouble) == (Outcome.IDLE, Trouble.NONE)


def test_it_may_hang_with_noise_and_hold_out(tmp_path: Path) -> None:
    """It complains on standard error, ignores SIGTERM, and is killed all the same."""
    call, ended, answer = done(tmp_path / "w", "claude-json", "hang-noisily", timeout=1.0)
    assert (ended.ending, ended.exit_code, set(ended.stderr.splitlines())) == (
        Ending.TIMED_OUT,
        -9,
        {"waiting for network"},
    )
    assert judge(call, ended, answer).outcome is Outcome.TIMED_OUT


def test_it_may_leave_a_process_behind(tmp_path: Path) -> None:
    """A daemon in a session of its own is running when it ends, until somebody ends it."""
    _, ended, answer = done(tmp_path / "w", "codex-jsonl", "fork")
    assert (ended.exit_code, ended.leftovers, answer.reply) == (0, 1, "Done.")
    pid = int(files(tmp_path / "w")["daemon.txt"])
    wait_until(lambda: not alive(pid), "the end of the daemon")


def test_it_may_commit_what_it_was_told_not_to(tmp_path: Path) -> None:
    """One commit of its own, and something that is in none."""
    repository = make_repository(tmp_path / "w")
    assert verdict(repository, "opencode-json", "commit") == Verdict(None)
    assert git(repository, "log", "--format=%an: %s", "-1") == "Agent: I was told not to"
    assert git(repository, "ls-tree", "--name-only", "HEAD").split() == ["README.md", "agent.txt"]
    assert git(repository, "status", "--porcelain") == "?? later.txt"


def test_it_may_make_a_worktree_of_its_own(tmp_path: Path) -> None:
    """It works there, in the wrong place, and in the right one too."""
    repository = make_repository(tmp_path / "w")
    assert verdict(repository, "gemini-json", "own-worktree") == Verdict(None)
    listed = git(repository, "worktree", "list", "--porcelain").splitlines()
    assert [line for line in listed if line.startswith("worktree ")] == [
        f"worktree {repository}",
        f"worktree {repository}/own-worktree",
    ]
    assert (repository / "own-worktree" / "there.txt").read_text() == "in the wrong place\n"
    assert (repository / "agent.txt").exists()


@pytest.mark.parametrize("dialect", ["text", "copilot-jsonl"])
def test_it_may_ask_and_nobody_answers(dialect: str, tmp_path: Path) -> None:
    """There is no terminal and no more input: it does not wait, and fails."""
    assert "nobody answered" in verdict(tmp_path / "w", dialect, "ask").message


def test_it_may_do_nothing_or_leave_litter(tmp_path: Path) -> None:
    """Its answer is the same; only the folder tells."""
    assert (verdict(tmp_path / "w", "text", "nothing"), files(tmp_path / "w")) == (Verdict(None), {})
    assert verdict(tmp_path / "w", "text", "litter") == Verdict(None)
    assert files(tmp_path / "w") == {**EDITED, ".agent.history": "what I did\n"}


def test_it_keeps_a_journal(tmp_path: Path) -> None:
    """A line at its start and one at its end, with its name and the task; the end is later by as long as it works."""
    journal = tmp_path / "journal"
    done(tmp_path / "w", "text", "fail", "--journal", str(journal), "--name", "flaky", "--seconds", "0.1")
    times, lines = zip(*(line.split(" ", 1) for line in journal.read_text().splitlines()), strict=True)
    assert lines == ("flaky start one", "flaky end one")
    assert float(times[1]) - float(times[0]) >= 0.1


def test_it_tells_its_version_and_is_found(tmp_path: Path) -> None:
    """Its probe is one like any other."""
    made = configured()
    assert Probes().look(made, os.environ) == Availability(path=sys.executable, version=VERSION)


def test_its_help_lists_what_it_can_do() -> None:
    """Every behaviour and dialect is there to read, and what it cannot do is refused."""
    program = [sys.executable, "-I", "-m", "moderator.testing.agent"]
    told = subprocess.run([*program, "--help"], capture_output=True, text=True, check=True).stdout
    assert f"{{{','.join(sorted(BEHAVIOURS))}}}" in told
    assert f"{{{','.join(DIALECTS)}}}" in told
    wrong = subprocess.run([*program, "--do", "magic"], capture_output=True, text=True, check=False)
    assert (wrong.returncode, "invalid choice: 'magic'" in wrong.stderr) == (2, True)


def test_it_needs_nothing_but_python(tmp_path: Path) -> None:
    """The file alone, copied elsewhere, does the same: a program to test with depends on nothing that is tested."""
    program = tmp_path / "agent.py"
    program.write_bytes(Path(sys.modules[BEHAVIOURS["edit"].__module__].__file__ or "").read_bytes())
    told = subprocess.run(
        [sys.executable, "-I", "-S", program, "--dialect", "goose-json", "--prompt", "Hi"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(told.stdout)["metadata"]["status"] == "completed"
    assert (tmp_path / "agent.txt").read_text() == "Hi"


@pytest.mark.parametrize("prompt", ["stdin", "file", "argument"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_its_entry_is_a_configuration_without_faults(dialect: str, prompt: str) -> None:
    """Whatever is asked for, a configuration takes it, and further keys win over its own."""
    made = configured(dialect, "fail", "--seconds", "1", prompt=prompt, limit=2, retry=["tea"])
    assert (made.parser, made.prompt, made.limit, made.retry) == (dialect, prompt, 2, ("tea",))
    assert made.give_up == ("not logged in",)
