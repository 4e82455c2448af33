"""Task lists, read from files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderator.errors import PlanError
from moderator.furnishing import CARRY_WAYS, SMUDGE_CHOICES, Carry, Render
from moderator.models import Task
from moderator.taskfile import TaskFile, load_tasks

SHORTEST = "the shortest task list: tasks: [{id: task_001, run: make test}]"


def tasks_of(text: str, folder: Path) -> TaskFile:
    path = folder / "tasks.yaml"
    path.write_text(text, encoding="utf-8")
    return load_tasks(path)


def refusal(text: str, folder: Path) -> PlanError:
    with pytest.raises(PlanError) as caught:
        tasks_of(text, folder)
    return caught.value


def problems_of(text: str, folder: Path) -> list[str]:
    return [problem.removeprefix(f"{folder}/") for problem in refusal(text, folder).problems]


def test_a_task_list_is_read_in_its_order(tmp_path: Path) -> None:
    """Every key ends up in its field, defaults fill what a task leaves out, and each task knows its line."""
    found = tasks_of(
        """\
base: main
defaults: {timeout: 600, env: {LANG: C.UTF-8, TZ: UTC}}
tasks:
  - id: task_001
    description: Spell-check the documentation
    run: codespell -w docs
    env: {LANG: de_DE.UTF-8}
    timeout: 300
    idle_timeout: 120.5
    kind: docs
    acceptance_criteria: [no typo is left, "nothing else: changed"]
  - id: task_002
    run: [pytest, -q, tests/a b]
""",
        tmp_path,
    )
    assert found == TaskFile(
        path=str(tmp_path / "tasks.yaml"),
        base="main",
        tasks=(
            Task(
                "task_001",
                "Spell-check the documentation",
                ["no typo is left", "nothing else: changed"],
                "codespell -w docs",
                {"LANG": "de_DE.UTF-8", "TZ": "UTC"},
                300,
                120.5,
                "docs",
            ),
            Task(
                "task_002",
                "pytest -q 'tests/a b'",
                [],
                ["pytest", "-q", "tests/a b"],
                {"LANG": "C.UTF-8", "TZ": "UTC"},
                600,
                None,
            ),
        ),
        lines=(4, 12),
    )
    assert found.where(1) == f"{tmp_path}/tasks.yaml:12"


@pytest.mark.parametrize(
    "written",
    ["001", "1.10", "yes", "0x1F", "12:30", "null", "~", "2024-01-01", "true", "1e3", ".inf", "日本語", "a b"],
)
def test_texts_are_taken_as_they_are_written(written: str, tmp_path: Path) -> None:
    """What YAML would turn into a number, a date or a word of its own stays the text a person sees in the file."""
    found = tasks_of(
        f"base: {written if written not in ('null', '~') else 'main'}\n"
        f"tasks: [{{id: {written}, run: {written + ' x'}, description: x {written}, acceptance_criteria: [{written}]}},\n"
        f"        {{id: b, run: [{written}], env: {{{written}: 1.0, B: yes, C: 0o17, D: '', E: false}}}}]\n",
        tmp_path,
    )
    assert found.tasks == (
        Task(written, f"x {written}", [written], f"{written} x"),
        Task(
            "b",
            found.tasks[1].description,
            [],
            [written],
            {written: "1.0", "B": "yes", "C": "0o17", "D": "", "E": "false"},
        ),
    )


@pytest.mark.parametrize(
    ("run", "description"),
    [
        ("make test", "make test"),
        ("true", "true"),
        ("|\n      # tidy up\n      make\n      make test", "# tidy up"),
        ('"\\n\\n  make  \\n  test"', "make"),
        ("[echo, it's, '']", "echo 'it'\"'\"'s' ''"),
    ],
)
def test_a_task_without_description_is_described_by_what_it_runs(run: str, description: str, tmp_path: Path) -> None:
    """The first line of the command stands in; one that is blank counts as none."""
    found = tasks_of(f"tasks:\n  - id: a\n    description: ' '\n    run: {run}\n", tmp_path)
    assert [task.description for task in found.tasks] == [description]


def test_a_limit_without_value_takes_the_default_back(tmp_path: Path) -> None:
    """null is how one task gets the run's own limit again; other keys without a value count as not written."""
    found = tasks_of(
        """\
base:
defaults: {timeout: 5, idle_timeout: 5, run: make, env: {A: a}, acceptance_criteria: [x], description: Make}
tasks:
  - {id: a, timeout: null, run: , env: , acceptance_criteria: , description: }
  - {id: b, acceptance_criteria: []}
""",
        tmp_path,
    )
    assert (found.base, found.tasks) == (
        None,
        (
            Task("a", "Make", ["x"], "make", {"A": "a"}, None, 5),
            Task("b", "Make", [], "make", {"A": "a"}, 5, 5),
        ),
    )


def test_tasks_share_nothing_of_their_defaults(tmp_path: Path) -> None:
    """Tasks can be changed by whoever holds them; that must not change their neighbours."""
    text = "defaults: {run: [a], acceptance_criteria: [x], env: {A: a}}\ntasks: [{id: a}, {id: b}]"
    first, second = tasks_of(text, tmp_path).tasks
    assert (first.run, first.env) == (second.run, second.env)
    assert first.run is not second.run
    assert first.acceptance_criteria is not second.acceptance_criteria
    assert first.env is not second.env


def test_anchors_and_merges_may_shorten_a_list(tmp_path: Path) -> None:
    """What several tasks share can be written once, in YAML's own way."""
    found = tasks_of("tasks:\n  - &one {id: a, run: make, timeout: 3}\n  - {<<: *one, id: b}\n", tmp_path)
    assert found.tasks == (Task("a", "make", run="make", timeout=3), Task("b", "make", run="make", timeout=3))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "1:1: the file is empty; write the tasks under 'tasks:'"),
        ("# later\n", "1:1: the file is empty; write the tasks under 'tasks:'"),
        ("tasks:\n", "1:7: there are no tasks; write them under 'tasks:'"),
        ("tasks: []", "1:8: there are no tasks; write them under 'tasks:'"),
        ("base: main", "1:1: there are no tasks; write them under 'tasks:'"),
        ("- id: a\n  run: b\n", "1:1: the list needs a name; write 'tasks:' in a line above it"),
        ("make test", "1:1: a task list must be a mapping with the key 'tasks', not the text 'make test'"),
        ("tasks: {id: a, run: b}", "1:8: tasks must be a list, each task behind a '-', not a mapping"),
    ],
)
def test_a_file_without_tasks_is_shown_the_shortest_one(text: str, problem: str, tmp_path: Path) -> None:
    """Whoever begins with nothing is told what to write, on one line that can be copied."""
    error = refusal(text, tmp_path)
    assert str(error) == (f"the task list '{tmp_path}/tasks.yaml' has a problem\n  - {tmp_path}/tasks.yaml:{problem}")
    assert error.hint == SHORTEST


def test_the_shortest_task_list_is_one(tmp_path: Path) -> None:
    """What the hint says to write works."""
    assert tasks_of(SHORTEST.partition(": ")[2], tmp_path).tasks == (Task("task_001", "make test", run="make test"),)


def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    """A missing file is a PlanError like any other, and nothing is guessed about its tasks."""
    with pytest.raises(PlanError) as caught:
        load_tasks(tmp_path / "missing.yaml")
    path = tmp_path / "missing.yaml"
    assert str(caught.value) == (
        f"the task list '{path}' has a problem\n  - {path}: there is no such file; check the path"
    )
    assert caught.value.hint == ""


@pytest.mark.parametrize(
    ("task", "problem"),
    [
        ("id: x", "2:5: task 'x' has neither 'run' nor 'prompt': say what to execute, or what to ask an agent for"),
        (
            "{id: x, run: }",
            "2:5: task 'x' has neither 'run' nor 'prompt': say what to execute, or what to ask an agent for",
        ),
        ("run: x", "2:5: task 1 has no 'id': give it one, such as task_001"),
        ("{id: , run: x}", "2:10: task 1 has no 'id': give it one, such as task_001"),
        ("{id: [a], run: x}", "2:10: id must be text, not a list"),
        (
            "{id: ' ', run: x}",
            "2:10: a task id must not be empty or blank; give every task an id such as task_001",
        ),
        ('{id: "a\\0", run: x}', "2:10: a NUL character stands in this text; take it out"),
        (
            "make test",
            "2:5: a task must be a mapping of keys to values, not the text 'make test'; write {id: task_001, run: ...}",
        ),
        ("{id: x, run: ''}", "2:18: run is empty; it must be text"),
        ("{id: x, run: []}", "2:18: run is an empty list; say what to execute"),
        ("{id: x, run: ['', a]}", "2:19: run begins with an empty text; say what to execute"),
        ("{id: x, run: [a, ]}", None),
        ("{id: x, run: [a, [b]]}", "2:22: a part of run must be text, not a list"),
        (
            "{id: x, run: [a: b]}",
            "2:19: a part of run must be text, not a mapping; put a text that holds ': ' in quotes",
        ),
        ("{id: x, run: {a: b}}", "2:18: run must be text for the shell, or a list of texts, not a mapping"),
        ('{id: x, run: "a\\0b"}', "2:18: a NUL character stands in this text; take it out"),
        ("{id: x, run: y, timeout: -1}", "2:30: timeout must be positive, not -1"),
        ("{id: x, run: y, timeout: 0.0}", "2:30: timeout must be positive, not 0.0"),
        ("{id: x, run: y, timeout: .inf}", "2:30: timeout must be a finite number, not inf"),
        ("{id: x, run: y, timeout: 5m}", "2:30: timeout must be a number of seconds, not the text '5m'"),
        (
            "{id: x, run: y, idle_timeout: '5'}",
            "2:35: idle_timeout must be a number of seconds, not the text '5'; write it without quotes",
        ),
        ("{id: x, run: y, idle_timeout: true}", "2:35: idle_timeout must be a number of seconds, not true"),
        (
            "{id: x, run: y, carry: .env}",
            "2:28: carry must be a list of paths, or of {path: PATH, by: copy|clone|link}, not the text '.env'",
        ),
        (
            "{id: x, run: y, carry: [/etc]}",
            "2:29: a part of carry must be relative to the top of the repository, not the text '/etc'",
        ),
        ("{id: x, run: y, carry: [{by: copy}]}", "2:29: a part of carry has no 'path'"),
        (
            "{id: x, run: y, render: [.env]}",
            "2:30: render: '.env' cannot be rendered: the name does not end in one of .template, .example, .sample, "
            ".dist, .tmpl, .tpl; write {from: .env, to: PATH}",
        ),
        (
            "{id: x, run: y, render: [{from: a.tpl, to: .git/config}]}",
            "2:30: render: 'a.tpl' cannot be rendered: to must be the path of a file, from the top of the repository, and none of "
            "git's own; not '.git/config'",
        ),
        ("{id: x, run: y, render: [{to: a}]}", "2:30: a part of render has no 'from'"),
        (
            "{id: x, run: y, carry: [{path: a, by: hard}]}",
            "2:43: by must be one of 'clone', 'copy', 'link', not the text 'hard'",
        ),
        ("{id: x, run: y, submodules: on}", "2:33: submodules must be true or false, not the text 'on'; write true"),
        ("{id: x, run: y, smudge: off}", "2:29: smudge must be one of 'run', 'skip', not the text 'off'"),
        ("{id: x, run: y, timout: 3}", "2:21: unknown key 'timout'; did you mean 'timeout'?"),
        (
            "{id: x, run: y, colour: red}",
            "2:21: unknown key 'colour'; known here: 'id', 'description', 'kind', 'run', 'prompt', 'backend', 'verify', "
            "'setup', 'teardown', 'max_attempts', 'variants', 'sparse', 'carry', 'submodules', 'smudge', 'render', 'env', "
            "'acceptance_criteria', 'prompt_file', 'timeout', 'idle_timeout', 'setup_timeout', 'matrix', 'foreach'",
        ),
        ("{id: x, run: y, env: [A]}", "2:26: env must be a mapping of names to texts, not a list"),
        ("{id: x, run: y, env: {A: }}", "2:30: env.A has no value; write '' for an empty one"),
        ("{id: x, run: y, env: {A: null}}", "2:30: env.A has no value; write '' for an empty one"),
        ("{id: x, run: y, env: {A: [b]}}", "2:30: env.A must be text, not a list"),
        (
            "{id: x, run: y, env: {A=B: c}}",
            "2:27: no variable can be called 'A=B'; a name is not empty and has no '='",
        ),
        ("{id: x, run: y, env: {'': c}}", "2:27: no variable can be called ''; a name is not empty and has no '='"),
        (
            "{id: x, run: y, env: {MODERATOR_RUN: c}}",
            "2:27: 'MODERATOR_RUN' is not yours to set; 'MODERATOR_...' is kept for us",
        ),
        ('{id: x, run: y, env: {A: "b\\0"}}', "2:30: a NUL character stands in this text; take it out"),
        (
            "{id: x, run: y, acceptance_criteria: all well}",
            "2:42: acceptance_criteria must be a list of texts, not the text 'all well'",
        ),
        (
            "{id: x, run: y, acceptance_criteria: [it: works]}",
            "2:43: a part of acceptance_criteria must be text, not a mapping; put a text that holds ': ' in quotes",
        ),
        ("{id: x, run: y, description: [a]}", "2:34: description must be text, not a list"),
        ("{id: x, run: y, run: z}", "2:21: the key 'run' is given twice, first in line 2; keep one"),
        ("{id: x, run: @y}", "2:18: '@' cannot begin a value here; put the text in quotes"),
    ],
)
def test_each_problem_has_its_place_and_a_way_out(task: str, problem: str | None, tmp_path: Path) -> None:
    """A problem is one sentence behind file, line and column, and it comes alone."""
    text = f"tasks:\n  - {task}\n"
    if problem is None:
        assert len(tasks_of(text, tmp_path).tasks) == 1
    else:
        assert problems_of(text, tmp_path) == [f"tasks.yaml:{problem}"]


def test_all_problems_come_at_once_in_the_order_of_lines(tmp_path: Path) -> None:
    """One reading finds everything: a person corrects the file once."""
    text = """\
basis: main
base: [main]
defaults: {id: x, timeout: 0, retries: 3}
tasks:
  - id: a
    run: make
  - id: a
    runs: make
  - run: make
    run: make
  - just text
  - {id: b, env: {MODERATOR_RUN: 1, "": x}}
"""
    error = refusal(text, tmp_path)
    assert (
        str(error).replace(f"{tmp_path}/", "")
        == """\
the task list 'tasks.yaml' has 14 problems
  - tasks.yaml:1:1: unknown key 'basis'; did you mean 'base'?
  - tasks.yaml:2:7: base must be text, not a list
  - tasks.yaml:3:12: 'id' can have no default; give every task its own
  - tasks.yaml:3:28: timeout must be positive, not 0
  - tasks.yaml:3:31: unknown key 'retries' in 'defaults'; known here: 'description', 'kind', 'run', \
'prompt', 'backend', 'verify', 'setup', 'teardown', 'max_attempts', 'variants', 'sparse', 'carry', 'submodules', \
'smudge', 'render', 'env', 'acceptance_criteria', 'prompt_file', 'timeout', 'idle_timeout', 'setup_timeout'
  - tasks.yaml:7:5: task 'a' has neither 'run' nor 'prompt': say what to execute, or what to ask an agent for
  - tasks.yaml:7:9: the id 'a' is taken, by the task in line 5; give every task its own
  - tasks.yaml:8:5: unknown key 'runs'; did you mean 'run'?
  - tasks.yaml:9:5: task 3 has no 'id': give it one, such as task_003
  - tasks.yaml:10:5: the key 'run' is given twice, first in line 9; keep one
  - tasks.yaml:11:5: a task must be a mapping of keys to values, not the text 'just text'; \
write {id: task_004, run: ...}
  - tasks.yaml:12:5: task 'b' has neither 'run' nor 'prompt': say what to execute, or what to ask an agent for
  - tasks.yaml:12:19: 'MODERATOR_RUN' is not yours to set; 'MODERATOR_...' is kept for us
  - tasks.yaml:12:37: no variable can be called ''; a name is not empty and has no '='""".replace("has 13", "has 14")
    )
    assert error.hint == ""


def test_ids_that_differ_only_in_writing_are_the_plans_to_judge(tmp_path: Path) -> None:
    """Only the very same id is a duplicate here; `1.10` and `1.1` are two."""
    found = tasks_of("defaults: {run: x}\ntasks: [{id: 1.10}, {id: 1.1}, {id: a_b}, {id: a-b}, {id: A-B}]", tmp_path)
    assert [task.id for task in found.tasks] == ["1.10", "1.1", "a_b", "a-b", "A-B"]


def test_ten_thousand_tasks_are_read_in_their_order(tmp_path: Path) -> None:
    """Size is no reason to lose or reorder anything, and no alias limit stands in the way."""
    text = "tasks:\n" + "".join(f"  - {{id: t{n}, run: make {n}}}\n" for n in range(10_000))
    found = tasks_of(text, tmp_path)
    assert [task.id for task in found.tasks] == [f"t{n}" for n in range(10_000)]
    assert found.where(9_999).endswith("tasks.yaml:10001")


TEXTS = st.text(
    st.characters(codec="utf-8", max_codepoint=0xFFFF, exclude_characters="\0\x7f"), min_size=1, max_size=12
).filter(str.strip)
NAMES = TEXTS.filter(lambda name: "=" not in name and not name.startswith("MODERATOR_"))
SECONDS = st.none() | st.integers(1, 10**6) | st.floats(min_value=0.01, max_value=1e6)
TASKS = st.lists(
    st.builds(
        Task,
        id=TEXTS,
        description=TEXTS.map(str.strip),
        acceptance_criteria=st.lists(TEXTS, max_size=3),
        run=TEXTS | st.lists(TEXTS, min_size=1, max_size=3),
        env=st.dictionaries(
            NAMES, (TEXTS | st.just("")).map(lambda text: re.sub("[{}]", r"\g<0>\g<0>", text)), max_size=3
        ),
        timeout=SECONDS,
        idle_timeout=SECONDS,
        kind=TEXTS.map(str.strip) | st.just(""),
        backend=TEXTS | st.lists(TEXTS, min_size=1, max_size=3).map(tuple),
        verify=st.none() | TEXTS | st.lists(TEXTS, min_size=1, max_size=3),
        max_attempts=st.none() | st.integers(1, 20),
        sparse=st.lists(TEXTS, max_size=3),
        carry=st.none()
        | st.lists(st.builds(Carry, st.sampled_from((".env", "a b/*", "node_modules/")), st.sampled_from(CARRY_WAYS))),
        submodules=st.none() | st.booleans(),
        smudge=st.none() | st.sampled_from(SMUDGE_CHOICES),
        render=st.none() | st.lists(st.sampled_from([Render("a.tpl", "a"), Render("b", "c/d")])),
        setup=st.lists(TEXTS | st.lists(TEXTS, min_size=1, max_size=3), max_size=3),
        teardown=st.lists(TEXTS | st.lists(TEXTS, min_size=1, max_size=3), max_size=3),
        setup_timeout=SECONDS,
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda task: task.id,
)


@given(TASKS, st.none() | TEXTS)
def test_what_is_written_down_comes_back(
    tmp_path_factory: pytest.TempPathFactory, tasks: list[Task], base: str | None
) -> None:
    """Any valid tasks, written as JSON (which is YAML), are those tasks again."""
    written = [
        {key: value for key, value in task.to_dict().items() if key not in ("variant_of", "values")} for task in tasks
    ]
    content: dict[str, Any] = {"base": base, "tasks": written}
    found = tasks_of(json.dumps(content), tmp_path_factory.getbasetemp())
    assert (found.base, list(found.tasks)) == (base, tasks)


PIECES = (
    "tasks:|\n|\n  - |id: |run: |env: |a|{|}|[|]|, |timeout: |-1|b: |defaults: |base: |null|acceptance_criteria: |<<: "
    "|&a |*a|description: |kind: |é"
).split("|")


@given(
    st.binary(max_size=100)
    | st.lists(st.sampled_from(PIECES), max_size=25).map(lambda pieces: f"tasks:\n  - {''.join(pieces)}".encode())
)
def test_any_file_is_a_task_list_or_a_plan_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Whatever a file holds, nothing but PlanError is raised, and every problem names the file."""
    path = tmp_path_factory.getbasetemp() / "any-tasks.yaml"
    path.write_bytes(content)
    try:
        found = load_tasks(path)
    except PlanError as error:
        assert error.problems
        assert all(problem.startswith(f"{path}:") for problem in error.problems)
    else:
        assert all(task.id and task.run for task in found.tasks)
        assert len(found.lines) == len(found.tasks) > 0
