"""The JSON Schemas of what people write say what the readers accept, and `moderator config` prints what holds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from commandline import document, moderator
from moderator.config import Config, config_from_mapping, load_config
from moderator.config.describing import OF_A_BACKEND, comments_of, config_schema
from moderator.config.effective import as_mapping
from moderator.config.schema import _Backend, every_key
from moderator.document import plain_value, read_document
from moderator.errors import ConfigurationError, PlanError
from moderator.furnishing import CARRY_WAYS, Carry, Render
from moderator.reports.settings import yaml_lines
from moderator.taskfile import LIMITS, READERS, load_tasks
from moderator.taskschema import SHAPES, task_schema
from repos import make_repository
from schemas import validates

HOUSE = Path(__file__).parent.parent
CONFIG, TASKS = config_schema(), task_schema()


def described(schema: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Yield each key of a schema that no other schema explains, and what is said of it."""
    for key, one in schema.get("properties", {}).items():
        if not any("$ref" in option for option in one.get("anyOf", ())):
            yield key, one.get("description")
    for one in (*schema.get("$defs", {}).values(), *schema.get("anyOf", ()), *schema.get("properties", {}).values()):
        yield from described(one)


def test_every_key_is_in_its_schema_and_described() -> None:
    """Nothing can be set that the schema does not know, and everything in it has a word about it."""
    assert [key for schema in (CONFIG, TASKS) for key, said in described(schema) if not said] == []
    assert set(OF_A_BACKEND) == set(_Backend.model_fields)
    assert set(SHAPES) == {"id", *READERS, "prompt_file", *LIMITS, "matrix", "foreach"}
    assert set(comments_of(HOUSE / "config/config.yaml")) >= set(every_key())


def test_what_we_write_ourselves_is_valid() -> None:
    """The documented settings, the sample's tasks, and every example in the README."""
    assert validates(CONFIG, plain_value(read_document(HOUSE / "config/config.yaml").root))
    assert validates(TASKS, plain_value(read_document(HOUSE / "scripts/sample/tasks.yaml").root))
    readme = (HOUSE / "README.md").read_text("utf-8")
    examples = re.findall(r"```yaml\n# (\S+)\n(.*?)```", readme, re.S)
    assert {name for name, _ in examples} == {"tasks.yaml", "moderator.yaml"}
    from moderator.document import Complaints
    from moderator.document.composing import parse_document

    for name, text in examples:
        complaints = Complaints(name)
        value = plain_value(parse_document(text, complaints))
        assert (validates(TASKS if name == "tasks.yaml" else CONFIG, value), complaints.sentences()) == (True, [])


# Values for any key: of the right kind, at a limit, and of none.
VALUES = st.sampled_from(
    [
        *(None, True, False, 0, 1, -1, 4, 20, 21, 32, 33, 100, 101, 36500, 36501, 0.5, -0.5, 1e9),
        *(
            "",
            " ",
            "a",
            "1",
            "always",
            "none",
            "full",
            "auto",
            "shell",
            "stdin",
            "text",
            "background",
            "pristine",
            "bwrap",
        ),
        *(
            [],
            ["a"],
            ["a", "b"],
            [""],
            [" ", "a"],
            [1],
            [None],
            [["a"]],
            {},
            {"a": "b"},
            {"a": 1},
            {"a": None},
            {"": "a"},
        ),
        *({"MODERATOR_X": "a"}, {"a=b": "c"}, {"testing": "shell"}, {"testing": ["shell", "shell"]}, [{"kind": "a"}]),
        *([{"kind": "a", "words": ["b"]}, {"kind": "c"}], [{"kind": ""}], [{"words": ["a"]}], [{"kind": "a", "x": 1}]),
        *({"b": {"extends": "codex"}}, {"b": {"argv": ["x"], "limit": 2}}, {"b": {"argv": []}}, {"b": {"argv": "x"}}),
        *(
            {"b": {"extends": "codex", "limit": 0}},
            {"b": {"extends": "codex", "env": {"A": 1}}},
            {"b": {"x": 1}},
            {"b": 1},
        ),
        *(
            "1000-2000",
            "20000-29999",
            "1-x",
            5000,
            ["a", ["b", "c"]],
            [{"path": "a"}],
            [{"path": "a", "by": "link"}],
            [{"by": "x"}],
        ),
        *([{"path": "a", "by": "x"}], [{"path": "a", "to": "b"}], [[]], [["", "a"]], {"A": "{tmp}"}, {"A": "{nope}"}),
        *({"b": {"extends": "codex", "timeout": 0}}, {"b": {"extends": "codex", "retry": [1]}}, "{prompt}"),
    ]
)
ACROSS = re.compile(  # what no schema can say: patterns, templates, and what takes more than one key to see
    r"no backend is called|there is no argv|has no words|must be a template|last rule|needs '\{prompt|is the name of"
    r"|cannot be set|must be a mapping of variables|must be two ports|must be a path inside"
)


def accepts(data: dict[str, Any]) -> bool | None:
    """Whether a configuration is taken; None if only for what no schema can say it is not."""
    try:
        config_from_mapping(data)
    except ConfigurationError as error:
        lines = error.message.splitlines()[1:] or [error.message]
        return None if all(ACROSS.search(line) for line in lines) else False
    return True


@settings(max_examples=60)
@given(st.sampled_from([*every_key(), "gear3", "gear3.parallel", "pool", "commit", "x", "pool.x"]), VALUES)
@example("gear3.parallel.max_workers", 32)
@example("gear3.parallel.max_workers", 33)
@example("pool.size", "auto")
@example("render", ["a"])
@example("render", ["a/.sample"])
@example("render", [".env.example"])
def test_the_schema_of_settings_says_what_is_accepted(name: str, value: Any) -> None:
    """Any value for any key is valid if it is taken, and not if it is refused."""
    data = value
    for key in reversed(name.split(".")):
        data = {key: data}
    accepted = accepts(data)
    if accepted is not None:
        assert validates(CONFIG, data) == accepted


TASK_VALUES = st.sampled_from(
    [
        *(
            None,
            True,
            0,
            1,
            -1,
            3,
            20,
            21,
            32,
            33,
            0.5,
            "",
            " ",
            "a",
            "[",
            [],
            ["a"],
            ["a", "b"],
            ["a", "a"],
            [""],
            ["", "a"],
        ),
        *([" ", "a"], [1], [None], [["a"]], {}, {"a": "b"}, {"a": 1}, {"a": None}, {"": "a"}, {"A=B": "c"}, {"a": []}),
        *(
            {"MODERATOR_X": "a"},
            {"a": ["b"]},
            {"a": ["b", "b"]},
            {"a": "b", "c": ["d"]},
            {"item": ["a"]},
            {"a b": ["c"]},
        ),
        *({"exclude": [{"a": "b"}]}, {"include": [{"a": "b"}]}, {"include": []}, {"include": [{}]}, {"include": [1]}),
        *({"a": ["b", "c"], "exclude": [{"a": "b"}], "include": [{"a": "c", "d": 1}]}, {"a": ["b"], "exclude": None}),
        *(
            {"files": "*.py"},
            {"files": ["*.py"]},
            {"files": []},
            {"files": "*", "untracked": True},
            {"files": "*", "split": "nul"},
        ),
        *({"files": "*", "untracked": 1}, {"lines": "list"}, {"lines": "list", "split": "nul"}, {"lines": ["list"]}),
        *(
            {"lines": "list", "split": "x"},
            {"command": "c", "timeout": 1},
            {"command": ["c"], "timeout": 0},
            {"command": []},
        ),
        *(
            {"command": "c", "files": "*"},
            {"command": "c", "untracked": True},
            {"command": ["", "c"]},
            {"command": {"a": "b"}},
        ),
    ]
)
UNSAID = re.compile(  # what no schema can say of a task: two keys, other files, or what is left of a matrix
    r"cannot both be|neither 'run' nor|cannot be read|matches|means no file|excluded|excludes nothing"
    r"|unknown key 'a' in 'matrix|matrix is empty|cannot be rendered"
)


class Listing:
    """Everything there is to list is one file."""

    def files(self, base: str | None, untracked: bool) -> list[str]:
        return ["a.py"]

    def output(self, command: str | list[str], timeout: float) -> bytes:
        return b"a\n"


@settings(max_examples=60)
@given(
    st.sampled_from([key for key in SHAPES if key != "prompt_file"]),
    TASK_VALUES,
    st.sampled_from(["task", "defaults"]),
)
@example("foreach", {"files": "*.py"}, "task")
@example("matrix", {"a": ["b"]}, "task")
def test_the_schema_of_tasks_says_what_is_accepted(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: Any, where: str
) -> None:
    """Any value for any key of a task, or of the defaults, is valid if it is taken, and not if it is refused."""
    folder = tmp_path_factory.getbasetemp()
    (folder / "list").write_text("a\n")
    data: dict[str, Any] = {"tasks": [{"id": "t", "run": "x"}]}
    into = data["tasks"][0] if where == "task" else data.setdefault("defaults", {})
    if key == "prompt":
        data["tasks"][0].pop("run")
    into[key] = value
    path = folder / "schema-tasks.yaml"
    path.write_text(json.dumps(data))
    try:
        load_tasks(path, Listing())
    except PlanError as error:
        if not all(UNSAID.search(problem) for problem in error.problems):
            assert not validates(TASKS, data), error.problems
    else:
        # Where a text is wanted, null without quotes is one; no editor need offer that.
        assert validates(TASKS, data) or (value is None and key == "id") or holds_null(value)


def holds_null(value: Any) -> bool:
    """Whether there is a null anywhere inside."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(one is None or holds_null(one) for one in inside)


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
CONFIGS = st.builds(
    replace,
    st.just(Config()),
    root=st.none() | TEXTS.filter(str.strip),
    keep=st.sampled_from(["always", "failed"]),
    grace=st.floats(0, 1e6),
    trash_days=st.integers(0, 36500),
    clean_max_workspaces=st.none() | st.integers(0, 99),
    pool_size=st.sampled_from([0, 3, "auto"]),
    setup=st.lists(TEXTS.filter(str.strip), max_size=2).map(tuple),
    verify=st.none() | st.just(("a", "b c")),
    env=st.dictionaries(st.sampled_from("AB"), st.just("{tmp}/{{")),
    ports_count=st.integers(0, 9),
    carry=st.none()
    | st.lists(st.builds(Carry, st.sampled_from([".env", "a b/*"]), st.sampled_from(CARRY_WAYS))).map(tuple),
    render=st.lists(st.sampled_from([Render("a.tpl", "a"), Render("b", "c/d")])).map(tuple),
    prompt_template=TEXTS.map(lambda text: text.replace("{", "").replace("}", "") + "{prompt}\n"),
)


@given(CONFIGS)
def test_what_is_printed_is_read_as_the_same(tmp_path_factory: pytest.TempPathFactory, config: Config) -> None:
    """Any settings, printed with or without a comment, are those settings again."""
    path = tmp_path_factory.getbasetemp() / "printed.yaml"
    for note in ("", "a: note"):
        lines = yaml_lines(as_mapping(config), lambda _, note=note: note)  # type: ignore[misc]
        path.write_text("".join(f"{line}\n" for line in lines), "utf-8", newline="")
        assert load_config([path]) == config


def test_settings_are_printed_with_where_each_comes_from(tmp_path: Path, home: Path) -> None:
    """A later file wins, key by key; options and the environment are named; what is printed can be loaded."""
    repository = make_repository(tmp_path / "r")
    (home / ".config/moderator").mkdir(parents=True)
    ours = home / ".config/moderator/config.yaml"
    ours.write_text("keep: failed\ngrace: 1\nbackends: {mine: {extends: codex, limit: 2}}\n")
    theirs = repository / "moderator.yaml"
    theirs.write_text("# ours\ngear3:\n  parallel: {timeout: 9}\nkeep: never\nbackends:\n  mine: {env: {A: b}}\n")
    more = tmp_path / "more.yaml"
    more.write_text("trash: {days: 3}\n")
    found = document(moderator(repository, "config", "--json", "--show-origin", "-j", "3", MODERATOR_CONFIG=str(more)))
    assert found["files"] == [str(ours), str(theirs), str(more)]
    origins = {path: where for path, where in found["origins"].items() if where not in ("default", "what it extends")}
    assert origins == {
        "gear3.parallel.max_workers": "--jobs",
        "gear3.parallel.timeout": f"{theirs}:3",
        "keep": f"{theirs}:4",
        "grace": f"{ours}:2",
        "trash.days": f"{more}:1 (MODERATOR_CONFIG)",
        "backends.mine.limit": f"{ours}:3",
        "backends.mine.env.A": f"{theirs}:6",
    }
    assert (found["config"]["gear3"]["parallel"]["max_workers"], found["config"]["keep"]) == (3, "never")
    assert {name for name in found["origins"] if not name.startswith("backends.")} >= set(every_key()) - {"backends"}
    printed = moderator(repository, "config", "--show-origin", "--config", more)
    assert f"  days: 3  # {more}:1 (--config)" in printed.stdout.splitlines()
    (tmp_path / "printed.yaml").write_text(printed.stdout)
    meant = load_config([ours, theirs, more])
    mine = replace(meant.backends["mine"], install="")
    assert load_config([tmp_path / "printed.yaml"]) == replace(meant, backends={"mine": mine})
    theirs.write_text("keep: sometimes\n")
    refused = moderator(repository, "config")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith(f"error: {theirs}:1:7: keep must be one of 'always', 'failed', 'never'")
    assert moderator(repository, "config", "-j", "99").returncode == 2
    schemas = [moderator(tmp_path, "config", "--schema", *which) for which in ([], ["tasks"])]
    assert [json.loads(one.stdout) for one in schemas] == [CONFIG, TASKS]
