"""The contract of `ExecutionContext`: what each level isolates, and that tasks never meet unnoticed."""

from __future__ import annotations

import copy
import dataclasses
import doctest
import json
import os
import pickle
import random
import tempfile
import threading
import unicodedata
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from moderator import context as module
from moderator.context import ExecutionContext, IsolationLevel, ensure_disjoint, overlaps
from moderator.errors import ConfigurationError, InvalidTaskId, IsolationError
from moderator.naming import task_directory_name

NONE, DIRECTORY, BRANCH, FULL = IsolationLevel
create = ExecutionContext.create_isolated_context

ids = st.one_of(
    st.text(st.characters()),
    st.lists(
        st.sampled_from(
            [
                "..",
                "/",
                "\\",
                "~",
                ".",
                "-",
                "_",
                " ",
                "a",
                "A",
                "CON",
                "é",
                "e\u0301",
                "link",
                "\n",
                "\ud800",
            ]
        ),
        max_size=6,
    ).map("".join),
).filter(lambda text: text.strip() and "\0" not in text)


@pytest.fixture
def base(tmp_path: Path) -> ExecutionContext:
    return ExecutionContext("shop", f"{tmp_path}/checkouts", "feature/user-auth", f"{tmp_path}/state")


def entries(folder: Path) -> list[str]:
    """Everything in a folder, as paths relative to it."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def named(task_id: str, level: IsolationLevel = FULL, **changes: str) -> ExecutionContext:
    """A task's context below a base that is not on the disk."""
    return ExecutionContext.named(dataclasses.replace(NOWHERE, **changes), task_id, level)


NOWHERE = ExecutionContext("shop", "/nowhere/checkouts", "main", "/nowhere/state")


def overlap(*contexts: ExecutionContext) -> str:
    """What is said of contexts that overlap; the order they come in must not matter."""
    messages = []
    for order in (contexts, contexts[::-1]):
        with pytest.raises(IsolationError) as raised:
            ensure_disjoint(order)
        assert raised.value.hint
        assert all(repr(context.task_id) in raised.value.message for context in contexts)
        messages.append(raised.value.message)
    return messages[0]


# What each level isolates


def test_the_examples_in_the_docstrings_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the documentation of the module shows is what happens, at each level."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    failed, attempted = doctest.testmod(module)
    assert (failed, attempted > 0) == (0, True)
    shown = doctest.DocTestFinder().find(create, "create", module)[0].docstring
    assert shown is not None
    assert all(f"IsolationLevel.{level.name})" in shown for level in IsolationLevel)


def test_none_gives_the_very_same_object(base: ExecutionContext, tmp_path: Path) -> None:
    """At NONE there is nothing to isolate: the base itself comes back, and nothing is made."""
    before = copy.copy(base)
    assert create(base, "task_042", NONE) is base
    assert base == before
    assert entries(tmp_path) == []


def test_directory_isolates_the_working_directory_only(base: ExecutionContext, tmp_path: Path) -> None:
    """At DIRECTORY the task has a working directory of its own; branch and state are the base's."""
    assert create(base, "task_042", DIRECTORY) == ExecutionContext(
        "shop",
        f"{tmp_path}/checkouts/tasks/task_042",
        "feature/user-auth",
        f"{tmp_path}/state",
        DIRECTORY,
        "task_042",
        "feature/user-auth",
    )
    assert entries(tmp_path) == ["checkouts", "checkouts/tasks", "checkouts/tasks/task_042"]


def test_branch_isolates_the_branch_only(base: ExecutionContext, tmp_path: Path) -> None:
    """At BRANCH the task has a branch of its own; directories are the base's, and none is made."""
    assert create(base, "task_042", BRANCH) == ExecutionContext(
        "shop",
        f"{tmp_path}/checkouts",
        "feature/user-auth-task-task-042",
        f"{tmp_path}/state",
        BRANCH,
        "task_042",
        "feature/user-auth",
    )
    assert entries(tmp_path) == []


def test_full_isolates_all_three(base: ExecutionContext, tmp_path: Path) -> None:
    """At FULL working directory, branch and state directory are the task's own; both directories exist."""
    assert create(base, "task_042", FULL) == ExecutionContext(
        "shop",
        f"{tmp_path}/checkouts/tasks/task_042",
        "feature/user-auth-task-task-042",
        f"{tmp_path}/state/tasks/task_042",
        FULL,
        "task_042",
        "feature/user-auth",
    )
    assert entries(tmp_path) == [
        *("checkouts", "checkouts/tasks", "checkouts/tasks/task_042"),
        *("state", "state/tasks", "state/tasks/task_042"),
    ]


@pytest.mark.parametrize("level", IsolationLevel)
def test_no_level_given_means_the_level_of_the_base(base: ExecutionContext, level: IsolationLevel) -> None:
    """Without a level the base context decides, and NONE still gives the base itself."""
    base.isolation_level = level
    context = create(base, "task_042")
    assert context == create(base, "task_042", level)
    assert context.isolation_level is level
    assert (context is base) == (level is NONE)


@pytest.mark.parametrize("own", IsolationLevel)
def test_a_given_level_goes_before_the_level_of_the_base(base: ExecutionContext, own: IsolationLevel) -> None:
    """The level that is asked for decides, whatever the base says, and the base keeps its own."""
    base.isolation_level = own
    before = copy.copy(base)
    assert create(base, "task_042", FULL).isolation_level is FULL
    assert create(base, "task_042", NONE) is base
    assert base == before


def test_a_plan_names_without_touching_the_disk(base: ExecutionContext, tmp_path: Path) -> None:
    """`named` gives what `create_isolated_context` would, and makes nothing."""
    plans = [ExecutionContext.named(base, "task_042", level) for level in IsolationLevel]
    assert entries(tmp_path) == []
    assert plans == [create(base, "task_042", level) for level in IsolationLevel]


# Directories


def test_directories_may_exist_already(base: ExecutionContext, tmp_path: Path) -> None:
    """A task is found again: the same id gives the same names, and what is in them stays."""
    first = create(base, "task_042", FULL)
    Path(first.working_directory, "work.txt").write_text("hours of it")
    assert create(base, "task_042", FULL) == first
    assert Path(first.working_directory, "work.txt").read_text() == "hours of it"


def test_nested_parents_are_made(tmp_path: Path) -> None:
    """A base whose directories are not there yet gets them, however deep."""
    base = ExecutionContext("shop", f"{tmp_path}/a/b/c", "main", f"{tmp_path}/x/y/z")
    create(base, "1", FULL)
    assert [path for path in entries(tmp_path) if path.endswith("1")] == ["a/b/c/tasks/1", "x/y/z/tasks/1"]


def test_relative_bases_give_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Isolated paths do not depend on the current directory; what is not isolated is passed on untouched."""
    monkeypatch.chdir(tmp_path)
    base = ExecutionContext("shop", "checkouts", "main", "./x/../state/")
    full, directory = create(base, "1", FULL), create(base, "1", DIRECTORY)
    assert (full.working_directory, full.state_dir) == (
        f"{tmp_path}/checkouts/tasks/1",
        f"{tmp_path}/state/tasks/1",
    )
    assert (directory.working_directory, directory.state_dir) == (
        f"{tmp_path}/checkouts/tasks/1",
        "./x/../state/",
    )
    assert create(base, "1", BRANCH).working_directory == "checkouts"
    assert Path(full.working_directory).is_dir() and Path(full.state_dir).is_dir()


def test_symbolic_links_in_a_base_stay_as_given(tmp_path: Path) -> None:
    """A person who gave a link sees the link again, and the directory is behind it."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    context = create(ExecutionContext("shop", f"{tmp_path}/link", "main", f"{tmp_path}/state"), "1", FULL)
    assert context.working_directory == f"{tmp_path}/link/tasks/1"
    assert (tmp_path / "disk/tasks/1").is_dir()


@pytest.mark.parametrize(
    "task_id",
    ["..", "../..", "../../outside", "/etc", "//outside", "link", "link/x", "~", "a/../../..", "tasks/.."],
)
def test_no_id_leads_out_of_the_base(base: ExecutionContext, tmp_path: Path, task_id: str) -> None:
    """`..`, absolute ids and names of links make one directory below `tasks`, and nothing anywhere else."""
    outside = tmp_path / "outside"
    outside.mkdir()
    Path(base.working_directory).mkdir()
    Path(base.working_directory, "link").symlink_to(outside)
    context = create(base, task_id, FULL)
    for own, whole in (
        (context.working_directory, base.working_directory),
        (context.state_dir, base.state_dir),
    ):
        assert os.path.dirname(os.path.realpath(own)) == os.path.realpath(f"{whole}/tasks")
    assert entries(outside) == []
    assert sorted(os.listdir(tmp_path)) == ["checkouts", "outside", "state"]


@settings(max_examples=50)
@given(ids, st.sampled_from([DIRECTORY, BRANCH, FULL]))
def test_every_id_has_its_directories_inside_the_base(
    tmp_path_factory: pytest.TempPathFactory, task_id: str, level: IsolationLevel
) -> None:
    """Whatever the id, exactly the directories of its level are made, with the names that naming gives."""
    folder = tmp_path_factory.mktemp("base")
    base = ExecutionContext("shop", f"{folder}/checkouts", "main", f"{folder}/state")
    context = create(base, task_id, level)
    name = task_directory_name(task_id)
    assert entries(folder) == [
        *(["checkouts", "checkouts/tasks", f"checkouts/tasks/{name}"] if level.isolates_directory else []),
        *(["state", "state/tasks", f"state/tasks/{name}"] if level.isolates_state else []),
    ]
    assert context == create(base, task_id, level) == ExecutionContext.named(base, task_id, level)
    assert (context.project_id, context.task_id, context.base_branch) == ("shop", task_id, "main")


@pytest.mark.parametrize("level", [DIRECTORY, BRANCH, FULL])
@pytest.mark.parametrize("task_id", ["", " ", "\t\n", "\0", "a\0b", None, 7], ids=repr)
def test_an_id_without_a_name_is_refused_before_anything_is_made(
    base: ExecutionContext, tmp_path: Path, task_id: str, level: IsolationLevel
) -> None:
    """Empty, blank, NUL, not text: refused at every level that isolates, and nothing is on the disk."""
    with pytest.raises(InvalidTaskId) as raised:
        create(base, task_id, level)
    assert isinstance(raised.value, ValueError)
    assert entries(tmp_path) == []


def test_a_file_in_the_way_is_left_alone(base: ExecutionContext) -> None:
    """Where a directory cannot be made the operating system's error says so, and the file stays."""
    blocker = Path(base.working_directory, "tasks", "1")
    blocker.parent.mkdir(parents=True)
    blocker.write_text("precious")
    with pytest.raises(FileExistsError):
        create(base, "1", FULL)
    assert blocker.read_text() == "precious"


# The value


def test_the_fields_are_the_published_ones_in_order() -> None:
    """Other people's code gives the first five by position; the others have defaults."""
    assert [field.name for field in dataclasses.fields(ExecutionContext)] == [
        *("project_id", "working_directory", "git_branch", "state_dir", "isolation_level"),
        *("task_id", "base_branch"),
    ]
    assert ExecutionContext("p", "w", "b", "s") == ExecutionContext("p", "w", "b", "s", NONE, "", "")
    assert [level.value for level in IsolationLevel] == ["none", "directory", "branch", "full"]


def test_every_field_can_be_assigned() -> None:
    """A context is a plain dataclass: its fields can be set afterwards."""
    context = ExecutionContext("p", "w", "b", "s")
    given = {
        "project_id": "1",
        "working_directory": "2",
        "git_branch": "3",
        "state_dir": "4",
        "isolation_level": FULL,
        "task_id": "5",
        "base_branch": "6",
    }
    for name, value in given.items():
        setattr(context, name, value)
    assert context == ExecutionContext(**given)


def test_a_dictionary_of_a_context_is_the_published_one(base: ExecutionContext, tmp_path: Path) -> None:
    """`to_dict` gives every field by name, the level as its text, ready for JSON."""
    assert create(base, "task_042", BRANCH).to_dict() == {
        "project_id": "shop",
        "working_directory": f"{tmp_path}/checkouts",
        "git_branch": "feature/user-auth-task-task-042",
        "state_dir": f"{tmp_path}/state",
        "isolation_level": "branch",
        "task_id": "task_042",
        "base_branch": "feature/user-auth",
    }


texts = st.text(st.characters())


@given(st.builds(ExecutionContext, texts, texts, texts, texts, st.sampled_from(IsolationLevel), texts, texts))
def test_a_context_survives_every_journey(context: ExecutionContext) -> None:
    """Through its dictionary, through JSON, through pickle: the same context comes out."""
    journeys = [
        ExecutionContext.from_dict(context.to_dict()),
        ExecutionContext.from_dict(json.loads(json.dumps(context.to_dict()))),
        pickle.loads(pickle.dumps(context)),
    ]
    assert journeys == [context] * 3


def test_a_dictionary_may_say_less_or_more() -> None:
    """What has a default may be left out, and keys of a newer version are passed over."""
    least = {"project_id": "p", "working_directory": "w", "git_branch": "b", "state_dir": "s"}
    assert ExecutionContext.from_dict(least) == ExecutionContext("p", "w", "b", "s")
    assert ExecutionContext.from_dict({**least, "colour": "red", "isolation_level": "FULL"}) == ExecutionContext(
        "p", "w", "b", "s", FULL
    )


@pytest.mark.parametrize("level", ["", "total", None, True, 3, ["full"]], ids=repr)
def test_a_level_that_is_none_of_the_four_is_refused(level: object) -> None:
    """A level that is misspelt or null is an error with the choices, never quietly the least safe one."""
    data = {**ExecutionContext("p", "w", "b", "s").to_dict(), "isolation_level": level}
    with pytest.raises(ConfigurationError, match="is no isolation level") as raised:
        ExecutionContext.from_dict(data)
    assert raised.value.hint == "choose one of none, directory, branch, full"


def test_a_dictionary_that_lacks_a_field_is_refused() -> None:
    """Every missing field is named at once."""
    with pytest.raises(ConfigurationError, match="lacks project_id, state_dir"):
        ExecutionContext.from_dict({"working_directory": "w", "git_branch": "b"})


# Many at once


def test_a_thousand_contexts_made_by_many_threads_are_disjoint_and_exist(base: ExecutionContext) -> None:
    """32 threads make 1,000 contexts at once, half of them twice, in a race: none is lost, none is shared."""
    task_ids = [f"task_{number:04}" for number in range(1000)]
    jobs = task_ids + task_ids[::2]
    random.Random(7).shuffle(jobs)
    made: dict[str, list[ExecutionContext]] = defaultdict(list)
    failures: list[BaseException] = []
    start = threading.Barrier(32)

    def work(share: list[str]) -> None:
        start.wait()
        try:
            for task_id in share:
                made[task_id].append(create(base, task_id, FULL))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(jobs[number::32],)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    expected = {task_id: ExecutionContext.named(base, task_id, FULL) for task_id in task_ids}
    assert made == {task_id: [expected[task_id]] * jobs.count(task_id) for task_id in task_ids}
    ensure_disjoint(expected.values())
    for whole in (base.working_directory, base.state_dir):
        assert sorted(os.listdir(f"{whole}/tasks")) == task_ids


# ensure_disjoint


@st.composite
def relatives(draw: st.DrawFn) -> tuple[str, str]:
    """Two different ids, the second often one that looks like the first."""
    first = draw(ids)
    variants = [
        *(
            first.swapcase(),
            first.upper(),
            first.replace("_", "-"),
            first.replace("-", " "),
            first.replace(" ", "_"),
        ),
        *(unicodedata.normalize("NFC", first), unicodedata.normalize("NFD", first), first + ".", first + " "),
        *(task_directory_name(first), task_directory_name(first).upper()),
    ]
    second = draw(st.one_of(st.sampled_from(variants), ids).filter(str.strip))
    return first, second + ("x" if second == first else "")


@settings(max_examples=200)
@given(relatives(), st.sampled_from([DIRECTORY, BRANCH, FULL]))
@example(("task_1", "task 1"), FULL)
@example(("task_1", "task-1"), BRANCH)
@example(("task_1", "task-1"), DIRECTORY)
@example(("Task", "tASK"), DIRECTORY)
@example(("日本語", "task-77710aed"), FULL)
@example(("日本語", "TASK_77710AED"), BRANCH)
def test_ids_whose_names_meet_are_caught_and_no_others(pair: tuple[str, str], level: IsolationLevel) -> None:
    """An error comes exactly if a name that the level isolates is the same but for letter case."""
    first, second = (named(task_id, level) for task_id in pair)
    meet = (level.isolates_branch and first.git_branch.lower() == second.git_branch.lower()) or (
        level.isolates_directory and first.working_directory.lower() == second.working_directory.lower()
    )
    if meet:
        overlap(first, second)
    else:
        ensure_disjoint([first, second])


def test_what_a_level_does_not_isolate_may_be_shared() -> None:
    """Tasks of one base share what their level leaves to the base, however many they are."""
    ensure_disjoint([])
    ensure_disjoint([NOWHERE, NOWHERE])
    ensure_disjoint([named("a", NONE), named("b", NONE)])
    ensure_disjoint([named("a", DIRECTORY), named("b", DIRECTORY), NOWHERE])
    ensure_disjoint([named("a", BRANCH), named("b", BRANCH), NOWHERE])
    ensure_disjoint([named("a", DIRECTORY), named("a", BRANCH)])
    # An underscore is a dash in a branch, and itself in a directory.
    ensure_disjoint([named("task_1", DIRECTORY), named("task-1", DIRECTORY)])


def test_both_ids_and_the_way_out_are_told() -> None:
    """The error names both tasks, what they would share, and what to do."""
    with pytest.raises(IsolationError) as raised:
        ensure_disjoint([named("other"), named("Fix_it", BRANCH), named("fix it", BRANCH)])
    assert (raised.value.message, raised.value.hint, raised.value.exit_code) == (
        "tasks 'Fix_it' and 'fix it' would share the branch 'main-task-fix-it'",
        "rename one of them: ids must differ in more than letter case, '_', '-' and spaces",
        2,
    )


def test_the_same_id_twice_is_caught() -> None:
    """A list with one id in it twice, even as the very same object, is no list of disjoint tasks."""
    once = named("a")
    assert (
        overlap(once, once)
        == overlap(named("a"), named("a"))
        == "tasks 'a' and 'a' would share the branch 'main-task-a'"
    )
    assert "the working directory" in overlap(named("a", DIRECTORY), named("a", FULL))


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        (
            {"working_directory": "/nowhere/checkouts"},
            {"working_directory": "/nowhere/checkouts/tasks/outer/deep"},
        ),
        ({"state_dir": "/nowhere/state"}, {"state_dir": "/nowhere/state/tasks/outer"}),
        ({"working_directory": "/nowhere/x"}, {"state_dir": "/nowhere/x/tasks/outer/y"}),
        ({"working_directory": "/nowhere/X"}, {"state_dir": "/nowhere/x/tasks/OUTER/y"}),
    ],
)
def test_directories_inside_each_other_are_caught(outer: dict[str, str], inner: dict[str, str]) -> None:
    """A task whose directory lies in another's would be swept up with it; a common beginning is fine."""
    spread = {"git_branch": "elsewhere", "working_directory": "/else/w", "state_dir": "/else/s"}
    assert " holds the " in overlap(named("outer", **outer), named("inner", **{**spread, **inner}))
    ensure_disjoint([named("out"), named("outer"), named("outer2", **spread)])


def test_branches_inside_each_other_are_caught() -> None:
    """Git keeps no branch `a/b` beside a branch `a`, so no run may ask for both."""
    outer, inner = named("1", BRANCH), named("2", BRANCH, git_branch="main-task-1/x")
    assert overlap(outer, inner) == (
        "tasks '1' and '2' would overlap: the branch 'main-task-1' holds the branch 'main-task-1/x-task-2'"
    )
    ensure_disjoint([outer, named("2", BRANCH, git_branch="main-task-1x/x")])


def test_a_task_whose_own_directories_meet_is_told_so() -> None:
    """State inside the working directory would be committed with it: the base is to blame, not the id."""
    for state_dir in ("/nowhere/checkouts", "/nowhere/checkouts/tasks/a"):
        with pytest.raises(IsolationError, match="task 'a' would overlap itself") as raised:
            ensure_disjoint([named("a", state_dir=state_dir)])
        assert raised.value.hint == "give the base context a state directory outside its working directory"
    ensure_disjoint([named("a", state_dir="/nowhere/check"), named("b", state_dir="/nowhere/checkouts/state")])


def test_unicode_forms_and_letter_case_of_a_base_do_not_hide_an_overlap() -> None:
    """On a file system that folds them, `É`, `é` and `e` with an accent are one directory and one branch."""
    forms = ["É", "é", "E\u0301", "e\u0301"]
    for form in forms[1:]:
        first, second = (named("a", DIRECTORY, working_directory=f"/nowhere/{name}") for name in (forms[0], form))
        overlap(first, second)
        first, second = (named("a", BRANCH, git_branch=name) for name in (forms[0], form))
        overlap(first, second)
    ensure_disjoint(named("a", DIRECTORY, working_directory=f"/nowhere/{name}") for name in ("e", "é"))


def test_links_to_one_place_do_not_hide_an_overlap(tmp_path: Path) -> None:
    """Two bases that are the same directory by way of a link, or of `..`, are the same directory."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    straight, linked, dotted = (
        create(ExecutionContext("shop", f"{tmp_path}/{name}", name, f"{tmp_path}/state-{number}"), "a", FULL)
        for number, name in enumerate(("disk", "link", "x/../disk"))
    )
    for other in (linked, dotted):
        other.git_branch = "another"
        assert "the working directory" in overlap(straight, other)


def test_every_overlap_is_told_once() -> None:
    """Who wants to tell all problems at once gets every context that meets an earlier one, once each."""
    contexts = [
        named("A"),
        named("a"),
        named("b"),
        named("A", BRANCH),
        named("c", git_branch="main-task-b/x", working_directory="/nowhere/checkouts/tasks/b"),
        named("d", state_dir="/nowhere/checkouts"),
    ]
    assert [(one.first.task_id, one.second.task_id, str(one)) for one in overlaps(contexts)] == [
        ("A", "a", "tasks 'A' and 'a' would share the branch 'main-task-a'"),
        ("A", "A", "tasks 'A' and 'A' would share the branch 'main-task-A'"),
        (
            "d",
            "d",
            "task 'd' would overlap itself: the working directory '/nowhere/checkouts/tasks/d'"
            " and the state directory '/nowhere/checkouts/tasks/d'",
        ),
        ("b", "c", "tasks 'b' and 'c' would overlap: the branch 'main-task-b' holds the branch 'main-task-b/x-task-c'"),
    ]
    assert list(overlaps([contexts[0], contexts[2]])) == []


def test_thousands_of_contexts_are_disjoint() -> None:
    """The check looks each name up once, not in pairs, so that every run can afford it; the last one counts."""
    contexts = [named(f"task_{number}") for number in range(4_000)]
    ensure_disjoint(contexts)
    ensure_disjoint(iter(contexts))
    with pytest.raises(IsolationError, match="'task_3999' and 'TASK-3999'"):
        ensure_disjoint([*contexts, named("TASK-3999", BRANCH)])
