"""What kind of work a task is: its own word first, then the first rule that knows one of its words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderator.config.settings import KIND_RULES
from moderator.kinds import kind_of
from moderator.models import Task

RULES = (("big", ("rewrit*", "clean up", "c++")), ("small", ("typo", "c")), ("rest", ()))
NOBODY = ("rest", "no rule knows its words")


def kind(description: str, rules: Any = RULES, **fields: Any) -> tuple[str, str]:
    return kind_of(Task("one", description, **fields), rules)


def test_what_a_task_says_of_itself_wins() -> None:
    """A kind of its own is taken as it is, whether a rule has it or not."""
    assert kind("Fix a typo", kind="research") == ("research", "kind: research")


@pytest.mark.parametrize(
    ("description", "meant"),
    [
        ("Fix a typo", ("small", "'typo' in its description")),
        ("TYPO!", ("small", "'typo' in its description")),
        ("Rewriting it", ("big", "'rewriting' in its description")),
        ("Rewrit", ("big", "'rewrit' in its description")),
        ("Prewrite it", NOBODY),
        ("Typography", NOBODY),
        ("a_typo", NOBODY),
        ("Clean   up here", ("big", "'clean   up' in its description")),
        ("Cleanup", NOBODY),
        ("Port it to C++.", ("big", "'c++' in its description")),
        ("Port it to C", ("small", "'c' in its description")),
        ("", NOBODY),
    ],
    ids=repr,
)
def test_a_word_is_a_whole_word(description: str, meant: tuple[str, str]) -> None:
    """Letter case and the width of spaces do not matter, `*` is any ending, and no other character means anything."""
    assert kind(description) == meant


def test_the_first_rule_wins_not_the_first_word() -> None:
    """The order of the rules decides, wherever in the text their words stand."""
    assert kind("Fix a typo and rewrite it") == ("big", "'rewrite' in its description")
    assert kind("Fix a typo and rewrite it", (RULES[1], RULES[0], RULES[2])) == ("small", "'typo' in its description")


def test_a_prompt_counts_as_description() -> None:
    """What an agent is asked for says as much of a task as its title."""
    assert kind("Do it", prompt="Rewrite it") == ("big", "'rewrite' in its description")


def test_criteria_count_only_where_the_description_says_nothing() -> None:
    """A word of the criteria is looked at last, even if its rule comes first."""
    criteria = ["it was rewritten"]
    assert kind("Fix a typo", acceptance_criteria=criteria) == ("small", "'typo' in its description")
    assert kind("Do it", acceptance_criteria=criteria) == ("big", "'rewritten' in its acceptance criteria")
    assert kind("Do it", acceptance_criteria=["all is well"]) == NOBODY


@pytest.mark.parametrize(
    ("description", "meant"),
    [
        ("Prototype a parser", "prototyping"),
        ("Write a proof of concept", "prototyping"),
        ("Rename the module and update its tests", "refactoring"),
        ("Clean up imports", "refactoring"),
        ("Add unit tests for the parser", "testing"),
        ("Raise coverage", "testing"),
        ("Update the README", "documentation"),
        ("Write docstrings", "documentation"),
        ("Fix the login on slow networks", "general"),
        ("Show the latest contestants", "general"),
    ],
)
def test_the_shipped_rules_know_ordinary_descriptions(description: str, meant: str) -> None:
    """Without any configuration, everyday sentences are what people take them for, whatever their criteria repeat."""
    assert kind(description, KIND_RULES)[0] == meant
    if meant != "general":
        assert kind(description, KIND_RULES, acceptance_criteria=["All tests pass"])[0] == meant


words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda text: text.strip(" *"))


@given(words.filter(str.split), st.text())
def test_a_word_is_no_pattern(word: str, around: str) -> None:
    """Whatever characters a word has, looking for it raises nothing, and it is found where it stands alone."""
    rules = (("known", (word,)), ("rest", ()))
    stem = " ".join(word.removesuffix("*").split())
    assert kind(around, rules)[0] in ("known", "rest")
    if stem:
        assert kind(f"( {stem} )", rules)[0] == "known"


@given(st.text(), st.lists(st.text()))
def test_every_task_has_a_kind_of_the_rules(description: str, criteria: list[str]) -> None:
    """Any text has one, always the same, and words that say why."""
    found = kind(description, KIND_RULES, acceptance_criteria=criteria)
    assert found == kind(description, KIND_RULES, acceptance_criteria=criteria)
    assert found[0] in dict(KIND_RULES)
    assert found[1]
