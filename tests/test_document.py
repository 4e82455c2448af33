"""YAML files, read strictly."""

from __future__ import annotations

import doctest
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from moderator.document import (
    Complaints,
    MappingNode,
    Node,
    Place,
    flow,
    plain_value,
    read_document,
    unknown_key,
    wording,
)
from moderator.document.composing import DEEPEST, parse_document
from moderator.document.nodes import scalar_value
from moderator.document.reading import LARGEST_FILE


@pytest.fixture(params=["C parser", "Python parser"])
def both_parsers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "Python parser":
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    elif not hasattr(yaml, "CSafeLoader"):
        pytest.skip("PyYAML was built without libyaml")


def parsed(text: str) -> tuple[Node | None, list[str]]:
    complaints = Complaints("a.yaml")
    root = parse_document(text, complaints)
    return root, complaints.sentences()


def complaints_of(content: bytes, folder: Path) -> list[str]:
    path = folder / "a.yaml"
    path.write_bytes(content)
    return [line.removeprefix(f"{folder}/") for line in read_document(path).complaints.sentences()]


@pytest.mark.usefixtures("both_parsers")
@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("off", "off"),
        ("y", "y"),
        ("12:30", "12:30"),
        ("010", "010"),
        ("-01", "-01"),
        ("0x1F", "0x1F"),
        ("0o17", "0o17"),
        ("1_000", "1_000"),
        ("2024-01-01", "2024-01-01"),
        ("=", "="),
        ("1.2.3", "1.2.3"),
        ("'4'", "4"),
        ('"true"', "true"),
        ("''", ""),
        ("!!str 4", "4"),
        ("! 4", "4"),
        ("'null'", "null"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("0", 0),
        ("-12", -12),
        ("+7", 7),
        ('!!int "7"', 7),
        ("1.50", 1.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("!!float 3", 3),
        ("-.inf", -math.inf),
        ("1e999", math.inf),
        ("9" * 400, math.inf),
        ("[1, a]", [1, "a"]),
        ("{a: {b: }}", {"a": {"b": None}}),
        ("|\n  a\n  b\n", "a\nb\n"),
        (">-\n  a\n  b\n", "a b"),
    ],
)
def test_an_unquoted_text_means_what_a_person_takes_it_for(written: str, value: Any) -> None:
    """Only true and false are booleans, only decimal numbers are numbers; the rest stays as it is written."""
    root, complaints = parsed(f"key: {written}")
    assert (plain_value(root), complaints) == ({"key": value}, [])
    assert type(plain_value(root)["key"]) is type(value)


@pytest.mark.usefixtures("both_parsers")
def test_every_node_knows_its_line_and_column() -> None:
    """Lines and columns count from 1, and count characters, not bytes."""
    root, complaints = parsed("first: 1\nä: [ü, x]\n")
    assert isinstance(root, MappingNode)
    name, value = root.entries["ä"]
    assert (name.place, value.place, complaints) == (Place(2, 1), Place(2, 4), [])
    assert [item.place for item in value.items] == [Place(2, 5), Place(2, 8)]  # type: ignore[attr-defined]


@pytest.mark.usefixtures("both_parsers")
def test_anchors_and_merges_are_written_out() -> None:
    """A merge gives way to the mapping's own keys, and among several the first wins; a quoted '<<' is a key."""
    text = """
one: &one {a: 1, b: 1}
two: &two {b: 2, c: 2}
both: {<<: [*one, *two], a: 3}
again: *one
plain: {'<<': 4}
"""
    root, complaints = parsed(text)
    assert complaints == []
    assert plain_value(root) == {
        "one": {"a": 1, "b": 1},
        "two": {"b": 2, "c": 2},
        "both": {"a": 3, "b": 1, "c": 2},
        "again": {"a": 1, "b": 1},
        "plain": {"<<": 4},
    }


@pytest.mark.usefixtures("both_parsers")
@pytest.mark.parametrize("text", ["", "   \n", "# nothing\n", "---\n", "--- # x\n...\n", "~"])
def test_an_empty_file_is_no_fault(text: str) -> None:
    """Nothing, comments only, and an empty document hold no value and raise no complaint."""
    root, complaints = parsed(text)
    assert (plain_value(root), complaints) == (None, [])


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)


@pytest.mark.usefixtures("both_parsers")
@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: 1\nb: 2\na: 3", "3:1: the key 'a' is given twice, first in line 1; keep one"),
        ("x: &x {a: 1}\ny: {<<: *x, <<: *x}", "2:13: the key '<<' is given twice; write '<<: [*one, *other]'"),
        ("x: &x 1\ny: {<<: *x}", "1:4: '<<' takes a mapping, or a list of mappings; write '<<: *name'"),
        ("a:\n\tb: 1", "2:1: a tab stands here; indent with spaces"),
        ("run: @x", "1:6: '@' cannot begin a value here; put the text in quotes"),
        ("run: `x`", "1:6: '`' cannot begin a value here; put the text in quotes"),
        (
            "run: echo a: b",
            "1:12: no key can stand here; check the indentation, and put a text that holds ': ' in quotes",
        ),
        ("run: *.py", "1:7: a text that begins with '*' or '&' must be in quotes"),
        ("run: *x", "1:6: no '&x' stands before this '*x'; put a text that begins with '*' in quotes"),
        ("a: &a [*a]", "1:8: '*a' stands inside what '&a' names; write it out"),
        ("a: !foo b", "1:4: the tag '!foo' is not known here; put a text that begins with '!' in quotes"),
        (
            "a: !!python/object/apply:os.system [ls]",
            "1:4: the tag '!!python/object/apply:os.system' is not known here; "
            "put a text that begins with '!' in quotes",
        ),
        ("a: !!set {b}", "1:4: the tag '!!set' is not known here; put a text that begins with '!' in quotes"),
        ("a: !x!y b", "1:4: a text that begins with '!' must be in quotes"),
        ("a: !!int x", "1:4: 'x' is not what its tag '!!int' says"),
        ("a: !!int true", "1:4: 'true' is not what its tag '!!int' says"),
        ("a: ]", "1:4: a value is missing here; check the brackets, and quote a text that begins with one"),
        ("a: 'x", "1:4: a quote opens here and is never closed; close it"),
        ('a: "x\n', "1:4: a quote opens here and is never closed; close it"),
        ("a: 'it's'", "1:8: this does not fit what stands before it; check the indentation and the quotes"),
        (
            "a:\n  b: 1\n c: 2",
            "3:2: this does not fit what stands before it; check the indentation and the quotes",
        ),
        ("? [a]\n: b", "1:3: a key must be text, not a list; put a text that begins with '{' or '[' in quotes"),
        (
            "a: {{ b }}",
            "1:5: a key must be text, not a mapping; put a text that begins with '{' or '[' in quotes",
        ),
        ("a: 1\n---\nb: 2", "2:1: a second document begins here and would not be read; take the '---' out"),
        ('a: "\\0"', "1:4: a NUL character stands in this text; take it out"),
        (LAUGHS, "4:45: aliases such as this one add up to more than 10000 values"),
        (
            "[" * (DEEPEST + 1) + "]" * (DEEPEST + 1),
            f"1:{DEEPEST + 1}: this is nested more than 64 levels deep; write it flatter",
        ),
        ("[" * 3000, "1:65: this is nested more than 64 levels deep; write it flatter"),
    ],
)
def test_what_yaml_would_pass_over_or_mumble_about_is_said_clearly(text: str, complaint: str) -> None:
    """Each fault has its line, its column, and what to do; both parsers of PyYAML lead to the same words."""
    assert parsed(text)[1] == [f"a.yaml:{complaint}"]


def test_half_a_surrogate_pair_is_refused_by_both_parsers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The C parser refuses the escape, the Python parser would let it through; neither text reaches anyone."""
    first = parsed('a: "\\ud800"')[1]
    monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    assert first == ["a.yaml:1:7: this escape stands for no character; write another"]
    assert parsed('a: "\\ud800"')[1] == ["a.yaml:1:4: half a surrogate pair stands in this text; take it out"]
    assert parsed('a: "\\U99999999"')[1] != []


def test_faults_are_collected_and_stand_in_the_order_of_lines() -> None:
    """A fault that leaves the rest readable does not hide those after it."""
    root, complaints = parsed("a: !x 1\nb: 1\nb: 2\nc: !y 1\n")
    assert complaints == [
        "a.yaml:1:4: the tag '!x' is not known here; put a text that begins with '!' in quotes",
        "a.yaml:3:1: the key 'b' is given twice, first in line 2; keep one",
        "a.yaml:4:4: the tag '!y' is not known here; put a text that begins with '!' in quotes",
    ]
    assert plain_value(root) == {"a": "1", "b": 1, "c": "1"}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"a: 1\nb: \xff\n", "a.yaml:2:4: the byte 0xff is not UTF-8; save the file as UTF-8"),
        (b"\xef\xbb\xbfa: \xff", "a.yaml:1:4: the byte 0xff is not UTF-8; save the file as UTF-8"),
        ("a: 1".encode("utf-16"), "a.yaml:1:1: the file is encoded as UTF-16; save it as UTF-8"),
        (b"a: 1\n\x00\x01\x02", "a.yaml:2:1: a NUL character stands here; is this a text file?"),
        (b"a: \x1b[0m", "a.yaml:1:4: the control character U+001B stands here; is this a text file?"),
        (b"#" * (LARGEST_FILE + 1), "a.yaml: the file is larger than 4 MiB; is it the right one?"),
    ],
)
def test_what_is_no_text_is_refused(content: bytes, complaint: str, tmp_path: Path) -> None:
    """Bytes that are not UTF-8 text are named with their place."""
    assert complaints_of(content, tmp_path) == [complaint]


def test_a_byte_order_mark_and_foreign_line_ends_are_welcome(tmp_path: Path) -> None:
    """What editors on Windows write is read like anything else."""
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    document = read_document(path)
    assert (plain_value(document.root), document.complaints.sentences()) == ({"a": 1, "b": 2}, [])


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("missing.yaml", "there is no such file; check the path"),
        ("folder", "this is a directory; give the path of a file in it"),
        ("file/a.yaml", "the file cannot be read (Not a directory); check the path"),
        ("x" * 300, "the file cannot be read (File name too long); check the path"),
        ("loop", "the file cannot be read (Too many levels of symbolic links); check the path"),
        ("nul\0", "no file can have this name; check the path"),
    ],
)
def test_a_file_that_cannot_be_opened_is_a_complaint(name: str, complaint: str, tmp_path: Path) -> None:
    """Each reason has its own words, and nothing is raised."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    document = read_document(tmp_path / name)
    assert (document.root, document.complaints.sentences()) == (None, [f"{tmp_path / name}: {complaint}"])


def test_a_file_that_may_not_be_read_is_a_complaint(tmp_path: Path) -> None:
    """Missing permission is told apart from a missing file; the superuser, who may read all, steps down for it."""
    path = tmp_path / "locked.yaml"
    path.touch(mode=0o000)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        document = read_document(path)
    finally:
        os.seteuid(user)
    sentence = f"{path}: the file may not be read; change its permissions or give another"
    assert (document.root, document.complaints.sentences()) == (None, [sentence])


def test_a_pipe_is_read_like_a_file(tmp_path: Path) -> None:
    """`<(command)` of a shell is a path to a pipe: no size, no seeking."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from pathlib import Path\n"
            "from moderator.document import plain_value, read_document\n"
            "print(plain_value(read_document(Path('/dev/stdin')).root))",
        ],
        input="a: 1\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("{'a': 1}\n", "")


def test_nobody_is_waited_for(tmp_path: Path) -> None:
    """A pipe that stands where a file should be, by a link too, is a complaint at once; the empty device is an empty file."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    (tmp_path / "none").symlink_to(os.devnull)
    for name in ("pipe", "link"):
        found = read_document(tmp_path / name)
        assert found.complaints.sentences() == [
            f"{tmp_path / name}: the file cannot be read (it is a pipe or a device, not a file); check the path"
        ]
    found = read_document(tmp_path / "none")
    assert (found.root, found.complaints.sentences()) == (None, [])


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
def test_any_bytes_are_read_or_complained_about(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Whatever a file holds, nothing is raised, and every complaint says where it stands."""
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    document = read_document(path)
    plain_value(document.root)
    assert all(line.startswith(f"{path}:") for line in document.complaints.sentences())


YAML_PIECES = st.sampled_from(
    ("a|b: |- |\n|\n  |: |[|]|{|}|&x |*x|<<: |!!str |!y |\"|'|#|>|---\n|? |, |\t|12|null|%|\\|é|...").split("|")
)


@given(st.lists(YAML_PIECES, max_size=30).map("".join), st.booleans())
def test_any_pieces_of_yaml_are_read_or_complained_about(text: str, in_python: bool) -> None:
    """Whatever the pieces are put together to, nothing is raised, with either parser."""
    with pytest.MonkeyPatch.context() as patch:
        if in_python:
            patch.delattr(yaml, "CSafeLoader", raising=False)
        root, complaints = parsed(text)
    plain_value(root)
    assert all(line.startswith("a.yaml:") for line in complaints)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30))
def test_a_quoted_text_stays_that_text(text: str) -> None:
    """What a person puts in quotes comes out as it went in, whatever it looks like."""
    written = yaml.safe_dump({"key": text}, default_style='"', allow_unicode=False)
    root, complaints = parsed(written)
    assert (plain_value(root), complaints) == ({"key": text}, [])


JSON_TEXTS = st.text(st.characters(codec="utf-8", max_codepoint=0xFFFF, exclude_characters="\0\x7f"), max_size=9)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | JSON_TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(JSON_TEXTS, inner, max_size=4),
    max_leaves=10,
)


@given(JSON_VALUES)
def test_what_json_can_write_is_read_alike(value: Any) -> None:
    """JSON is YAML: numbers, words, texts, lists and mappings mean here what they mean there."""
    root, complaints = parsed(json.dumps({"key": value}))
    assert (plain_value(root), complaints) == ({"key": value}, [])


@given(st.text(max_size=40))
def test_every_text_stands_for_something(text: str) -> None:
    """Finding a scalar's value never fails, however it looks."""
    assert isinstance(scalar_value(text), (str, int, float, bool, type(None)))


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("timout", "unknown key 'timout' in 'gear3'; did you mean 'timeout'?"),
        ("Max-Workers", "unknown key 'Max-Workers' in 'gear3'; did you mean 'max_workers'?"),
        ("zzz", "unknown key 'zzz' in 'gear3'; known here: 'timeout', 'max_workers'"),
        (
            "x" * 100,
            f"unknown key '{'x' * 57}...' in 'gear3'; known here: 'timeout', 'max_workers'",
        ),
    ],
)
def test_an_unknown_key_gets_a_suggestion(key: str, sentence: str) -> None:
    """The nearest known key is named, or all of them if none is near."""
    assert unknown_key(key, "gear3", iter(["timeout", "max_workers"])) == sentence


def test_the_examples_hold() -> None:
    """What the docstrings show is what happens."""
    assert doctest.testmod(wording) == (0, 1)


def test_importing_the_reader_costs_no_yaml() -> None:
    """The parser is imported when there is a file to read, because every command imports this room."""
    done = subprocess.run(
        [sys.executable, "-c", "import sys, moderator.document; print('yaml' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-10, 10**12)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
    | st.lists(st.sampled_from("ab-.&= :#/~,'\"[]{}!*|>%@`?0"), max_size=6).map("".join),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text("ab- :#", min_size=1), inside, max_size=3),
)


@given(VALUES)
@example("- a")
@example("-")
@example("---")
@example("a #b")
@example("a: b")
@example("a:")
@example("-1")
@example(".5")
@example("&a")
def test_what_is_written_in_one_line_is_read_as_the_same(value: Any) -> None:
    """In a list and in a mapping, with a comment behind it: never another value."""
    complaints = Complaints("a.yaml")
    root = parse_document(f"a: {flow(value)}  # b\nc: [{flow(value)}]\n", complaints)
    assert (plain_value(root), complaints.sentences()) == ({"a": value, "c": [value]}, [])
