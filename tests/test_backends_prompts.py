"""What an agent is told of a task, and the values that its command line is filled with."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from moderator.backends.calls import Place
from moderator.backends.prompts import prompt_for, values_for
from moderator.config.settings import PLACEHOLDERS, PROMPT_PLACEHOLDERS, PROMPT_TEMPLATE
from moderator.models import Task

PLACE = Place("/w/one", "main-task-one", "c0ffee", "/state/one", "/state/one/r/1")
BARE = Place("/w/one")
EVERYTHING = "|".join("{" + name + "}" for name in PROMPT_PLACEHOLDERS)


def told(template: str, place: Place = PLACE, **fields: Any) -> str:
    return prompt_for(Task("one", fields.pop("description", "Do it"), **fields), place, template)


def test_the_shipped_template_says_what_and_where() -> None:
    """Without any configuration an agent is told its task, when it is done, where it works and what to leave alone."""
    assert told(
        PROMPT_TEMPLATE, prompt=" Add a flag.\n", acceptance_criteria=["tests pass", " ", "it is documented\n"]
    ) == (
        "Add a flag.\n"
        "\n"
        "It is done when:\n"
        "- tests pass\n"
        "- it is documented\n"
        "\n"
        "You work in /w/one, a worktree of its own on the branch main-task-one: change files there and nowhere else.\n"
        "Do not commit, switch branches or make another worktree. What you leave in the directory is committed when you have"
        " finished.\n"
        "Nobody can answer questions: where something is unclear, take the simplest reading and say so at the end.\n"
    )


@pytest.mark.parametrize("criteria", [[], ["", " \n"]], ids=repr)
def test_without_criteria_nothing_is_said_of_them(criteria: list[str]) -> None:
    """A list that is empty, or holds only blanks, leaves no heading behind."""
    assert told("{prompt}{criteria}.", acceptance_criteria=criteria) == "Do it.\n"


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "Do it|Do it||/w/one|main-task-one|c0ffee|one|\n"),
        (
            {"prompt": "Add a flag", "kind": "testing", "acceptance_criteria": ["a"]},
            "Add a flag|Do it|\nIt is done when:\n- a\n|/w/one|main-task-one|c0ffee|one|testing\n",
        ),
        ({"prompt": ""}, "Do it|Do it||/w/one|main-task-one|c0ffee|one|\n"),
    ],
    ids=repr,
)
def test_every_placeholder_of_a_template_has_a_value(fields: dict[str, Any], text: str) -> None:
    """What a configuration may write in braces is filled in; a task without a prompt is told its description."""
    assert told(EVERYTHING, **fields) == text


def test_a_workspace_without_a_branch_says_so() -> None:
    """On a detached HEAD there is a sentence to read in the branch's place, not a hole."""
    assert told("on {branch} from {base}.", BARE) == "on (none: a detached HEAD) from .\n"


@given(st.text(), st.text(), st.lists(st.text()))
@example("-rf /", "", [])
@example("\n\t--help", "", [])
@example("", "", ["{prompt}"])
@example("{base} {{", "{", [])
def test_no_prompt_passes_for_an_option_and_no_value_for_a_placeholder(
    prompt: str, description: str, criteria: list[str]
) -> None:
    """Whatever a task says, what an agent is told ends with one line break, begins with no `-`, and holds it as it is."""
    text = told("{prompt}\n{criteria}", prompt=prompt, description=description, acceptance_criteria=criteria)
    assert not text.startswith("-")
    assert text == text.rstrip() + "\n"
    assert (prompt or description).strip() in text
    assert all(f"- {one.strip()}" in text for one in criteria if one.strip())


@pytest.mark.parametrize(
    ("place", "values"),
    [
        (PLACE, ("/w/one", "main-task-one", "c0ffee", "/state/one")),
        (BARE, ("/w/one", "", "", "")),
    ],
)
def test_every_placeholder_of_a_command_line_has_a_value(place: Place, values: tuple[str, ...]) -> None:
    """The names that `argv` and `env` may hold are exactly those there are values for; the prompt comes later."""
    found = values_for(Task("one", "Do it", prompt="Add a flag"), place)
    assert found == {
        **dict(zip(("workspace", "branch", "base", "state_dir"), values, strict=True)),
        "task_id": "one",
        "prompt": "",
        "prompt_file": "",
    }
    assert set(found) == set(PLACEHOLDERS)
