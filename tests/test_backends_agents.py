"""A program that takes a prompt: from its configuration and a task to one call, as plain data."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderator.backends.agents import LONGEST_ARGUMENT, Agent
from moderator.backends.calls import Backend, Call, Place, call_of
from moderator.backends.probing import Availability
from moderator.config.backends import shipped
from moderator.config.settings import PARSERS, PROMPT_TEMPLATE, BackendConfig
from moderator.errors import ConfigurationError
from moderator.models import Task

PLACE = Place("/w/one", "main-task-one", "c0ffee", "/state/one", "/state/one/r/1")
TASK = Task("one", "Do it", prompt="Add a flag")


def agent(*argv: str, template: str = "{prompt}", **keys: Any) -> Agent:
    return Agent(BackendConfig("mine", argv, **keys), template)


def test_a_prompt_goes_in_by_standard_input() -> None:
    """The command line is filled in word by word, and the prompt is what the program can read."""
    call = agent("ai", "-C", "{workspace}", "{{}}", "{prompt}").command(TASK, PLACE)
    assert call == Call(["ai", "-C", "/w/one", "{}", ""], stdin=b"Add a flag\n", parser="text")


def test_a_prompt_goes_in_as_an_argument() -> None:
    """It is one word whatever it holds, and standard input is empty."""
    task = Task("one", "Do it", prompt="Say '{branch}' $HOME\n; rm -rf *")
    call = agent("ai", "-p", "{prompt}", "--x={prompt}", prompt="argument").command(task, PLACE)
    text = "Say '{branch}' $HOME\n; rm -rf *\n"
    assert call == Call(["ai", "-p", text, f"--x={text}"], parser="text")


@pytest.mark.parametrize(
    ("place", "file"),
    [
        (PLACE, "/state/one/r/1/prompt.md"),
        (replace(PLACE, folder=""), "/state/one/prompt.md"),
        (Place("/w/one"), "./prompt.md"),
    ],
)
def test_a_prompt_goes_in_as_a_file(place: Place, file: str) -> None:
    """The file lies beside the log of the attempt, and what it is to hold comes with the call."""
    call = agent("ai", "-f", "{prompt_file}", prompt="file").command(TASK, place)
    assert call == Call(["ai", "-f", file], files={file: "Add a flag\n"}, parser="text")


def test_a_call_has_everything_that_is_known_of_the_program() -> None:
    """Patterns, limits and litter go with the call as they are, variables with their placeholders filled in."""
    keys: dict[str, Any] = {
        "parser": "claude-json", "failed": ("f",), "retry": ("r",), "give_up": ("g",), "timeout": 5.0, "idle_timeout": 3.0,
        "litter": (".ai*",),
    }  # fmt: skip
    made = agent("ai", env={"AI_HOME": "{state_dir}/ai", "AI_ID": "{task_id}-{branch}"}, **keys)
    assert made.command(TASK, PLACE) == Call(
        ["ai"], stdin=b"Add a flag\n", env={"AI_HOME": "/state/one/ai", "AI_ID": "one-main-task-one"}, **keys
    )


def test_extra_arguments_come_where_they_belong() -> None:
    """They stand where the command line says, without a place at its end, and are filled in like all others."""
    extra = ("--model", "{task_id}")
    assert [
        agent("ai", "{extra_args}", "-", extra_args=extra).command(TASK, PLACE).argv,
        agent("ai", "-", extra_args=extra).command(TASK, PLACE).argv,
        agent("ai", "{extra_args}", "-").command(TASK, PLACE).argv,
    ] == [["ai", "--model", "one", "-"], ["ai", "-", "--model", "one"], ["ai", "-"]]


def test_a_template_of_its_own_takes_the_place_of_the_common_one() -> None:
    """An empty one too is one of its own."""
    assert agent("ai", template="common {prompt}").command(TASK, PLACE).stdin == b"common Add a flag\n"
    own = Agent(BackendConfig("mine", ("ai",), template="own {description}"), "common {prompt}")
    assert own.command(TASK, PLACE).stdin == b"own Do it\n"


def test_a_task_that_is_a_command_is_refused() -> None:
    """An agent executes nothing that a task says; with a prompt beside the command, that is what counts."""
    with pytest.raises(ConfigurationError) as refused:
        agent("ai").command(Task("one", "Do it", run="make"), PLACE)
    assert (str(refused.value), refused.value.hint) == (
        "task 'one' is a command, and mine takes a prompt",
        "give it prompt: instead of run:, or backend: shell",
    )
    assert agent("ai").command(Task("one", "Do it", run="make", prompt="Say"), PLACE).stdin == b"Say\n"


def test_a_prompt_with_nul_is_refused() -> None:
    """No argument can hold it, and no way in is different from the others."""
    with pytest.raises(ConfigurationError) as refused:
        agent("ai").command(Task("one", "Do\0it"), PLACE)
    assert (str(refused.value), refused.value.hint) == ("the prompt of task 'one' holds a NUL character", "take it out")


@pytest.mark.parametrize("way", ["stdin", "argument", "file"])
def test_a_prompt_that_no_bytes_stand_for_is_refused(way: str) -> None:
    """Half a surrogate pair is a problem of the task's, told like every other, by whichever way it goes in."""
    made = agent("ai", "{prompt}{prompt_file}", prompt=way)
    with pytest.raises(ConfigurationError, match="the prompt of task 'one'"):
        made.command(Task("one", "Do \ud800 it"), PLACE)


def test_an_argument_is_too_long_exactly_where_the_kernel_says_so() -> None:
    """The longest prompt that is passed on can be executed; one byte more is refused with the way out."""
    longest = "é" * ((LONGEST_ARGUMENT - 1) // 2)  # and a line break behind it
    made = agent(shutil.which("true") or "true", "{prompt}", prompt="argument")
    call = made.command(Task("one", longest), PLACE)
    assert len(os.fsencode(call.argv[1])) == LONGEST_ARGUMENT
    assert subprocess.run(call.argv, check=False).returncode == 0
    with pytest.raises(ConfigurationError) as refused:
        made.command(Task("one", longest + "x"), PLACE)
    assert (str(refused.value), refused.value.hint) == (
        "the prompt of task 'one' is too long for an argument: 131072 bytes, 131071 at most",
        "let it go in by prompt: stdin or file, if mine can take it so",
    )
    if sys.platform == "linux":
        with pytest.raises(OSError, match="too long"):
            subprocess.run([call.argv[0], call.argv[1] + "x"], check=False)


@pytest.mark.parametrize("way", ["stdin", "file"])
def test_a_long_prompt_goes_in_by_the_other_ways(way: str) -> None:
    """Only an argument has a limit."""
    prompt = "x" * (2 * LONGEST_ARGUMENT)
    call = agent("ai", "{prompt_file}", prompt=way).command(Task("one", prompt), PLACE)
    assert (call.stdin.decode() or call.files[call.argv[1]]) == prompt + "\n"


texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])).filter(str.strip)


@given(texts, st.sampled_from(["stdin", "argument", "file"]))
def test_what_an_agent_is_told_is_the_same_by_every_way(prompt: str, way: str) -> None:
    """A prompt arrives as it is, and only by the one way that the program takes."""
    call = agent("ai", "{prompt}", "{prompt_file}", prompt=way).command(Task("one", prompt), PLACE)
    told = prompt.strip() + "\n"
    told = f" {told}" if told.startswith("-") else told
    file = "/state/one/r/1/prompt.md"
    assert (call.stdin.decode(), call.argv[1:], call.files) == {
        "stdin": (told, ["", ""], {}),
        "argument": ("", [told, ""], {}),
        "file": ("", ["", file], {file: told}),
    }[way]


@pytest.mark.parametrize("name", [name for name, config in shipped().items() if not config.is_shell])
def test_every_shipped_agent_can_be_called(name: str) -> None:
    """A preset makes a command line without a placeholder left, and tells the prompt by exactly one way."""
    config = shipped()[name]
    made: Backend = Agent(config, PROMPT_TEMPLATE)
    call = call_of(made, TASK, PLACE)
    assert (made.name, call.argv[0], call.parser in PARSERS) == (name, config.argv[0], True)
    assert not [word for word in (*call.argv, *call.env.values()) if "{" in word or "}" in word]
    ways = [call.stdin.decode(), *call.files.values(), *(word for word in call.argv if "Add a flag" in word)]
    (told,) = [way for way in ways if way]
    assert told.startswith("Add a flag\n")
    assert "main-task-one" in told
    assert call.retry and call.give_up and call.idle_timeout


def test_whether_it_is_there_is_looked_up_in_the_given_environment(tmp_path: Path) -> None:
    """The program counts where PATH leads, not where this process would find it."""
    program = tmp_path / "ai"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    made = agent("ai")
    assert made.availability({"PATH": str(tmp_path)}) == Availability(path=str(program))
    assert made.availability({"PATH": str(tmp_path / "nowhere")}).problem == "'ai' is not on PATH"


def test_what_an_agent_is_to_a_run() -> None:
    """Its name and how many of its tasks run at once are its configuration's."""
    made = agent("ai", limit=3)
    assert (made.name, made.limit, agent("ai").limit) == ("mine", 3, None)
