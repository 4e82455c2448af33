"""Texts with placeholders: what may stand in braces, what is told of the rest, and that filling in is done once."""

from __future__ import annotations

import doctest
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from moderator import templates
from moderator.templates import faults_of, fill, names_in

KNOWN = ("prompt", "workspace", "task_id")

plain = st.text(st.characters(exclude_characters="{}"))
parts = st.one_of(
    plain.map(lambda text: (text, text)),
    st.sampled_from([("{{", "{"), ("}}", "}")]),
    st.sampled_from(KNOWN).map(lambda name: ("{" + name + "}", name)),
)
"""A piece of a template, and what has to come of it: its text, a brace, or the name whose value it is."""
odd = st.lists(st.sampled_from(["{", "}", *KNOWN, "other", " ", "\n", "é"])).map("".join)
"""Templates in which braces stand anywhere."""


@given(st.lists(parts), st.fixed_dictionaries({name: st.text() for name in KNOWN}))
@example([("{{", "{"), ("{prompt}", "prompt"), ("}}", "}")], {"prompt": "{task_id}", "workspace": "", "task_id": "{{"})
def test_every_placeholder_is_filled_in_and_no_value_is_looked_at_again(
    pieces: Sequence[tuple[str, str]], values: dict[str, str]
) -> None:
    """Each piece becomes what it stands for, whatever the values hold: braces and placeholders in them stay."""
    template = "".join(piece for piece, _ in pieces)
    names = {meant for piece, meant in pieces if piece == "{" + meant + "}"}
    meant = "".join(values[meant] if piece == "{" + meant + "}" else meant for piece, meant in pieces)
    assert (fill(template, values), names_in(template), faults_of(template, KNOWN)) == (meant, names, [])


@given(odd)
@example("{}")
@example("{{}")
@example("{{{prompt}}}")
@example("{prompt}}")
@example("{prompt{task_id}}")
@example("{prompt\n}")
def test_a_template_without_faults_is_what_python_formats(template: str) -> None:
    """Where nothing is said against a template, `str.format` takes it too and makes the same of it; else it refuses it."""
    values = {name: f"<{name}>" for name in KNOWN}
    try:
        judged: str | None = template.format_map(values)
    except (KeyError, ValueError, IndexError):
        judged = None
    assert (judged is not None) == (faults_of(template, KNOWN) == [])
    if judged is not None:
        assert fill(template, values) == judged


@given(odd)
def test_only_an_unknown_name_keeps_a_template_from_being_filled(template: str) -> None:
    """Filling in raises KeyError exactly where a placeholder has no value; a brace that stands alone stays."""
    values = dict.fromkeys(KNOWN, "v")
    if names_in(template) <= values.keys():
        assert fill(template, values).count("{") <= template.count("{")
    else:
        with pytest.raises(KeyError):
            fill(template, values)


@pytest.mark.parametrize(
    "name", ["prompt.__class__", "prompt[0]", "prompt!r", "prompt:>10", "0", "", " prompt", "Prompt"], ids=repr
)
def test_a_placeholder_is_a_name_and_nothing_else(name: str) -> None:
    """Attributes, indexes, conversions and formats are names that nobody knows, and reach no object."""
    template = "{" + name + "}"
    assert names_in(template) == {name}
    assert len(faults_of(template, KNOWN)) == 1
    with pytest.raises(KeyError):
        fill(template, {"prompt": "text"})


@pytest.mark.parametrize(
    ("template", "faults"),
    [
        ("", []),
        ("{prompt} {{json}} {task_id}", []),
        ("{", ["a '{' stands alone; write '{{' for the character itself"]),
        ("a } b } c", ["a '}' stands alone; write '}}' for the character itself"]),
        ("{promt}", ["no placeholder is called 'promt'; did you mean 'prompt'?"]),
        ("{zz}{zz}", ["no placeholder is called 'zz'; known here: 'prompt', 'workspace', 'task_id'"]),
        (
            "{work-space}{",
            [
                "no placeholder is called 'work-space'; did you mean 'workspace'?",
                "a '{' stands alone; write '{{' for the character itself",
            ],
        ),
    ],
    ids=repr,
)
def test_every_fault_is_told_once_with_what_to_write(template: str, faults: list[str]) -> None:
    """One sentence for each thing that is wrong, in the order in which they stand."""
    assert faults_of(template, iter(KNOWN)) == faults


def test_the_example_in_the_docstring_holds() -> None:
    """What the documentation of the module shows is what happens."""
    failed, attempted = doctest.testmod(templates)
    assert (failed, attempted > 0) == (0, True)
