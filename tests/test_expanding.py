"""One task that stands for many: what it is made for, ids, patterns, and values in commands."""

from __future__ import annotations

import doctest
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from moderator.errors import PlanError, UsageError
from moderator.expanding import filling, globs, labels, matrix
from moderator.expanding.filling import fill_known, fill_line, misplaced_in, variable_of
from moderator.expanding.globs import fault_of, matching
from moderator.expanding.labels import LONGEST_LABEL, expanded_id, label
from moderator.naming import generate_task_branch, task_directory_name, task_slug
from moderator.taskfile import TaskFile, load_tasks, read_tasks
from moderator.templates import fill
from repos import git, make_repository

VALUES = st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=80)
PATHS = st.lists(st.sampled_from(["a", "b", ".", "_", "-", "/", "A", "é", " ", "'", "\n", "py", "\udcff"])).map("".join)
ANY = (VALUES | PATHS).filter(bool)


class Known:
    """A repository as far as a list asks: its files, and what commands print."""

    def __init__(self, files: Sequence[str] = (), printed: bytes = b"") -> None:
        self._files, self._printed = files, printed

    def files(self, base: str | None, untracked: bool) -> Sequence[str]:
        return self._files

    def output(self, command: str | list[str], timeout: float) -> bytes:
        if self._printed == b"fail":
            raise UsageError("the command failed", cause="its own\nwords")
        return self._printed


def tasks_of(folder: Path, *tasks: Mapping[str, Any], known: Known | None = None, **top: Any) -> TaskFile:
    path = folder / "tasks.yaml"
    path.write_text(json.dumps({**top, "tasks": list(tasks)}))
    return load_tasks(path, known)


def problems_of(folder: Path, text: str, known: Known | None = None) -> list[str]:
    """Return what is said of one task, `{id: t, run: x, ...}` with this text in it, without the name of the file."""
    path = folder / "tasks.yaml"
    path.write_text("tasks:\n  - {id: t, run: x, " + text + "}\n", "utf-8")
    return [problem.removeprefix(f"{path}:") for problem in read_tasks(path, known).problems]


def ids(listed: TaskFile) -> list[str]:
    return [task.id for task in listed.tasks]


@given(ANY)
@example("src/__init__.py")
@example("a" * 61)
@example("../../etc/passwd")
def test_a_label_is_a_bounded_name_that_depends_on_the_value_alone(value: str) -> None:
    """Every value has one, that git and any file system take behind an id as they take the id."""
    found = label(value)
    assert 0 < len(found) <= LONGEST_LABEL
    assert set(found) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
    assert found == label(value)
    task_id = expanded_id("lint", {"item": value})
    assert task_id == f"lint-{found}"
    assert task_directory_name(task_id) == task_id  # nothing is left to mend
    assert task_slug(task_id) == task_id.replace("_", "-")


@given(ANY, ANY)
@example("a/b", "a--b")
@example("a/b", "a__b")
@example("a_b/c", "a-b/c")
@example("é", "e\u0301")
def test_values_that_differ_have_labels_that_differ(one: str, other: str) -> None:
    """But for letter case, and `_` in the place of `-`, which is told when the ids are made."""
    assume(one.casefold().replace("_", "-") != other.casefold().replace("_", "-"))
    assert label(one).casefold().replace("_", "-") != label(other).casefold().replace("_", "-")


def test_labels_are_what_they_always_were() -> None:
    """Ids are kept in branches and records: none may change, on any platform or in any version."""
    known = {
        "3.11": "3.11",
        "src/a_b.py": "src--a_b.py",
        "src/__init__.py": "src-init.py-6b39a2f1",
        "日本語.txt": "txt-" + label("日本語.txt")[-8:],
        "x" * 61: "x" * 51 + "-" + label("x" * 61)[-8:],
        "a b": "a-b-c8687a08",
        "v1.lock": "v1.lock-" + label("v1.lock")[-8:],
    }
    assert {value: label(value) for value in known} == known
    program = "from moderator.expanding.labels import label; print(label('日本語.txt'), label('a b'))"
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONUTF8": "1", "LC_ALL": "C"}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == [label("日本語.txt"), label("a b")]


DIMENSIONS = st.dictionaries(
    st.sampled_from("abc"), st.lists(st.sampled_from("123"), min_size=1, max_size=3, unique=True), max_size=3
)
ENTRIES = st.lists(
    st.dictionaries(st.sampled_from("abcd"), st.sampled_from("1234"), min_size=1, max_size=3), max_size=4
)


@given(DIMENSIONS, ENTRIES, ENTRIES)
def test_a_matrix_is_what_its_rules_say(
    dimensions: dict[str, list[str]], exclude: list[dict[str, str]], include: list[dict[str, str]]
) -> None:
    """The product, less what an exclusion is a part of; then each inclusion on what it does not contradict, or by itself."""
    exclude = [entry for entry in exclude if entry.keys() <= dimensions.keys()]
    product = [dict(zip(dimensions, chosen, strict=True)) for chosen in itertools.product(*dimensions.values())]
    kept = [one for one in product if dimensions and not any(all(one[k] == v for k, v in e.items()) for e in exclude)]
    found = matrix.combinations(dimensions, exclude, include)
    assert [dict(one.naming) for one in found[: len(kept)]] == kept
    alone = [e for e in include if not any(all(one.get(k, v) == v for k, v in e.items()) for one in kept)]
    assert [dict(one.values) for one in found[len(kept) :]] == alone
    for one in found[: len(kept)]:
        expected = dict(one.naming)
        for entry in include:
            if all(one.naming.get(k, v) == v for k, v in entry.items()):
                expected |= entry
        assert one.values == expected
    assert len(found) <= matrix.count(dimensions, include)


@given(DIMENSIONS.filter(bool), st.data())
def test_ids_do_not_depend_on_what_else_there_is(dimensions: dict[str, list[str]], data: st.DataObject) -> None:
    """A value more, or the values in another order, and the ids of the others are what they were."""

    def made(of: Mapping[str, Sequence[str]]) -> dict[tuple[str, ...], str]:
        return {tuple(sorted(one.naming.items())): expanded_id("t", one.naming) for one in matrix.combinations(of)}

    before = made(dimensions)
    grown = {name: data.draw(st.permutations([*values, "9"])) for name, values in dimensions.items()}
    assert before.items() <= made(grown).items()
    assert len(set(before.values())) == len(before)


# -- patterns -----------------------------------------------------------------------------------------------------------

TREE = [
    "a.py",
    "b.txt",
    "d/a.py",
    "d/e/a.py",
    "d/e/b.py",
    "d/[x].py",
    ".h/a.py",
    "d/.a.py",
    "ab.py",
    "d/a-b",
    "A.PY",
    "x\ny",
]
PIECES = st.lists(
    st.sampled_from(["*", "**", "**/", "/**", "/", "?", "a", "b", "d", "e", ".py", "[a-c]", "[!a]", "[x]", "\\[", ".", "[]a]"]),
    min_size=1, max_size=5,
).map("".join)  # fmt: skip


def test_patterns_mean_what_git_means_by_them(tmp_path: Path) -> None:
    """git itself is the judge: its `:(glob)` and ours name the same files."""
    repository = make_repository(tmp_path / "r", [("first", dict.fromkeys(TREE, "x"))])
    tracked = git(repository, "ls-files", "-z").split("\0")[:-1]
    assert sorted(tracked) == sorted(TREE)

    @given(PIECES)
    @settings(max_examples=40)
    @example("**/a.py")
    @example("d/**")
    @example("d/**/a.py")
    @example("**")
    def check(pattern: str) -> None:
        assume(not fault_of(pattern) and "//" not in pattern and "." not in pattern.split("/"))
        assume(not re.search(r"[^/*]\*\*", pattern))  # git forgets what stands before it, if that is no pattern
        judged = git(repository, "ls-files", "-z", "--", f":(glob){pattern}").split("\0")[:-1]
        # git also takes a pattern for a directory whose name it is.
        exact = [path for path in judged if not path.startswith(pattern.rstrip("/") + "/")]
        assert matching(tracked, [pattern]) == exact

    check()
    assert matching(["dx.py", "d/a.py"], ["d**.py"]) == ["dx.py"]


# -- values in commands -------------------------------------------------------------------------------------------------

HOSTILE = [
    "a b",
    "it's",
    '"',
    "$(touch pwned)",
    "`touch pwned`",
    "a\nb",
    "*",
    "~",
    "-rf",
    "\\",
    "{item}",
    "'\"$x",
    "é",
    "#",
    "!!",
    ";",
]
LINES = [
    "printf '%s\\0' {item}",
    "printf '%s\\0' --x={item}.txt x{item}",
    "x={item}; printf '%s\\0' \"$x\"",
    "# it's a comment\nprintf '%s\\0' {item} # and \"another",
    "printf '%s\\0' \"$(printf '%s' x)\" > /dev/null; true \\{item}",
    "printf '%s\\0' \"${HOME}\" '{{item}}' > /dev/null; printf '%s\\0' $(true) {item} | cat",
    "if true; then printf '%s\\0' {item}; fi; case {item} in x) ;; esac",
]


@pytest.mark.parametrize("line", LINES, ids=repr)
def test_a_shell_reads_every_value_as_it_is(line: str, tmp_path: Path) -> None:
    """Where a placeholder may stand, the shell sees the value and nothing of what is in it."""
    if '"$(' in line:
        assert list(misplaced_in(line, ["item"])) == []  # what is escaped is no placeholder
    for value in HOSTILE:
        if list(misplaced_in(line, ["item"])):
            continue
        done = subprocess.run(["/bin/sh", "-c", fill_line(line, {"item": value})], cwd=tmp_path, capture_output=True)
        printed = done.stdout.decode()
        assert (done.returncode, done.stderr) == (0, b"")
        assert printed in (f"{value}\0", f"--x={value}.txt\0x{value}\0", "")
    assert list(tmp_path.iterdir()) == []


SAY = "echo pwned >&9"
EXECUTED = (
    f"$({SAY})",
    f"`{SAY}`",
    f"\n{SAY}\n",
    f";{SAY};",
    f"';{SAY};'",
    f'";{SAY};"',
    f"a[$({SAY})]",
    f"' `{SAY}` '",
    f"\"'\n{SAY} #",
)
"""Values that a shell executes as soon as it reads them otherwise than as one word."""
WORDS = [
    "{item}",
    "'",
    '"',
    "\\",
    "$(",
    ")",
    "`",
    "#",
    "\n",
    " ",
    "a",
    "<<E",
    "${x}",
    "${x:-",
    "}",
    "$'",
    "((",
    ";",
    "$",
    "''",
    '""',
]
PARTS = st.lists(st.sampled_from(WORDS), max_size=6).map("".join)
SHELL = st.tuples(PARTS, PARTS).map("{item}".join)
"""Lines with a placeholder between any pieces of shell."""


@settings(max_examples=25)
@given(SHELL)
@example('"{item}"')
@example("'{item}'")
@example('"$(echo "{item}")"')
@example("# {item}")
@example("cat <<E\n{item}\nE\n")
@example("a\\\n#'\n{item}'")
@example("$'\\'{item}'")
@example("$(( {item} ))")
@example('"${x:-"{item}"}"')
def test_no_value_ever_becomes_a_command(tmp_path_factory: pytest.TempPathFactory, line: str) -> None:
    """Of lines of any form, each is refused or read with the value as it is: nothing that stands in it is executed."""
    if list(misplaced_in(line, ["item"])) or "{item}" not in line:
        return
    said = tmp_path_factory.getbasetemp() / "said"
    # A line that is none for a shell ends alone; the last one says so in any case, or the test would prove nothing.
    lines = [*(fill_line(line, {"item": value}) for value in EXECUTED), f': "$({SAY} last)"']
    program = f"exec 9>{shlex.quote(str(said))}\n" + "".join(f"(eval {shlex.quote(one)})\n" for one in lines)
    subprocess.run(["/bin/sh", "-c", program], stdin=subprocess.DEVNULL, capture_output=True, check=True)
    assert said.read_text() == "pwned last\n"


@pytest.mark.parametrize(
    ("line", "where"),
    [
        ('echo "{item}"', "inside quotes"),
        ("echo 'a {item}'", "inside quotes"),
        ("echo a # {item}", "in a comment"),
        ("echo `cat {item}`", "behind '`', where it is uncertain how the shell reads it"),
        ("cat <<E\n{item}\nE", "behind '<<', where it is uncertain how the shell reads it"),
        ('echo "$(cat {item})"', "behind '$(', where it is uncertain how the shell reads it"),
        ("echo ${x:-{item}}", "behind '${', where it is uncertain how the shell reads it"),
    ],
    ids=repr,
)
def test_a_placeholder_stands_where_a_word_can(line: str, where: str) -> None:
    """Elsewhere it is refused, with the place."""
    assert list(misplaced_in(line, ["item"])) == [("item", where)]


@given(st.text("{}$ itemx\\", max_size=20))
def test_in_a_text_of_its_own_only_known_names_count(text: str) -> None:
    """A prompt full of braces stays as it is but for the placeholders."""
    assert fill_known(text, {"no": "v"}) == text
    assert "{item}" not in fill_known(text.replace("{item}", ""), {"item": "v"}) or "{{item}}" in text.replace(
        "{item}", ""
    )


# -- tasks --------------------------------------------------------------------------------------------------------------


def test_a_matrix_reaches_every_part_of_a_task(tmp_path: Path) -> None:
    """Ids, descriptions, commands, prompts, lists, environments; the id first tells which combination it is."""
    listed = tasks_of(
        tmp_path,
        {
            "id": "t",
            "description": "Test",
            "run": "tox -e {py} > ${OUT} {{py}}",
            "verify": ["test", "-f", "{py}.txt"],
            "kind": "{db}",
            "acceptance_criteria": ["{py} works {x}"],
            "sparse": ["src/{db}"],
            "env": {"V": "{py} '{db}' {slot} {{py}}", "W": "{os-name}"},
            "matrix": {
                "py": ["3.10", 3.11],
                "db": ["a b"],
                "exclude": [{"py": "3.10"}],
                "include": [{"py": "3.12", "db": "c"}, {"py": "3.11", "os-name": "x"}],
            },
        },
    )
    first, second = listed.tasks
    assert (first.id, second.id) == ("t-3.11-a-b-c8687a08", "t-3.12-c")
    assert (first.description, second.description) == ("Test (3.11, a b)", "Test (3.12, c)")
    assert (first.run, second.run) == ("tox -e 3.11 > ${OUT} {py}", "tox -e 3.12 > ${OUT} {py}")
    assert (first.verify, first.kind, first.sparse) == (["test", "-f", "3.11.txt"], "a b", ["src/a b"])
    assert first.acceptance_criteria == ["3.11 works {x}"]
    assert first.values == {"py": "3.11", "db": "a b", "os-name": "x"}
    assert second.values == {"py": "3.12", "db": "c"}
    assert (first.env, second.env["W"]) == ({"V": "3.11 'a b' {slot} {{py}}", "W": "x"}, "")


def test_a_value_in_a_variable_is_the_value_whatever_it_holds(tmp_path: Path) -> None:
    """Nothing quotes it, and braces in it are braces when the task's own placeholders are filled in; defaults have it too."""
    path = tmp_path / "tasks.yaml"
    values = ["{slot}", "{{", "it's } $x"]
    task = {"id": "t", "run": "r", "foreach": values, "env": {"V": "{slot}{item}"}}
    path.write_text(json.dumps({"defaults": {"env": {"D": "{item}"}}, "tasks": [task]}))
    filled_in = [{name: fill(text, {"slot": "7"}) for name, text in one.env.items()} for one in load_tasks(path).tasks]
    assert filled_in == [{"D": value, "V": f"7{value}"} for value in values]
    path.write_text(
        "defaults: {env: {D: '{item}', E: '{x'}}\n"
        "tasks: [{id: t, run: r, foreach: [a]}, {id: u, run: r, env: {F: '{port}'}, matrix: {port: [1]}}, {id: v, run: r}]"
    )
    with pytest.raises(PlanError) as caught:
        load_tasks(path)
    assert [one.partition("tasks.yaml:")[2] for one in caught.value.problems] == [
        "1:21: env.D: no placeholder is called 'item'; known here: 'workspace', 'branch', 'base', 'state_dir', 'tmp', 'task_id', "
        "'slot', 'port', 'port_1', 'port_2', 'port_3', 'port_4', 'port_5', 'port_6', 'port_7', 'port_8', 'port_9'; "
        "for a brace itself write '{{'",
        "1:34: env.E: a '{' stands alone; write '{{' for the character itself; for a brace itself write '{{'",
        "2:65: env.F: '{port}' could be the matrix's or the task's own port; give the values in the matrix another name",
    ]


def test_every_item_is_a_task_with_each_combination_and_variant(tmp_path: Path) -> None:
    """`foreach`, `matrix` and `variants` multiply; a prompt and who is asked can depend on them."""
    listed = tasks_of(
        tmp_path,
        {
            "id": "{item}-{who}",
            "description": "Explain {item}",
            "prompt": "Explain {item} {like this}",
            "backend": "{who}",
            "foreach": ["a.py", "b.py"],
            "matrix": {"who": ["codex", "gemini"]},
            "variants": 2,
        },
    )
    assert ids(listed) == [
        f"{item}-{who}@{n}" for item in ("a.py", "b.py") for who in ("codex", "gemini") for n in (1, 2)
    ]
    last = listed.tasks[-1]
    assert (last.prompt, last.backend, last.variant_of) == ("Explain b.py {like this}", "gemini", "b.py-gemini")
    assert last.description == "Explain b.py"


def test_lists_come_from_files_lines_and_commands(tmp_path: Path) -> None:
    """Every source gives its items in its own order, whatever is in a name; blank lines are none."""
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfa b\r\n\n  \nc\n")
    (tmp_path / "list.bin").write_bytes(b"a\nb\0c\0")
    known = Known(["a.py", "b/c.py", "b/d.txt"], b"x\n\xffy\n")

    def values(foreach: Any) -> list[str]:
        listed = tasks_of(tmp_path, {"id": "t", "run": "x", "foreach": foreach}, known=known)
        return [task.values["item"] for task in listed.tasks]

    assert values("**/*.py") == ["a.py", "b/c.py"]
    assert values({"files": ["**", "!a*"], "untracked": False}) == ["b/c.py", "b/d.txt"]
    assert values({"lines": "list.txt"}) == ["a b", "c"]
    assert values({"lines": "list.bin", "split": "nul"}) == ["a\nb", "c"]
    assert values({"command": "list"}) == ["x", "\udcffy"]
    assert values({"command": ["list", "all"], "timeout": 5}) == ["x", "\udcffy"]


ONE_OF = "foreach must be a list, a pattern of files, or a mapping with one of 'files', 'lines', 'command'"
TOO_MANY = "a list can come to 10,000; make fewer of it, or several lists"
MANY = ", ".join(map(str, range(400)))
INSTEAD = 'or write "$MODERATOR_ITEM" instead'
MILLION = "matrix: {" + ", ".join(f"{name}: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]" for name in "abcdef") + "}"


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("foreach: []", ["2:30: foreach is an empty list; write in it what there is to do something for"]),
        ("foreach: [a, b, a]", ["2:37: the item 'a' is there twice, first in line 2; keep one"]),
        ("foreach: [a, [b]]", ["2:34: an item of foreach must be text, not a list"]),
        ("foreach: [a: b]", ["2:31: an item of foreach must be text, not a mapping; put a text that holds ': ' in quotes"]),
        ("foreach: {}", [f"2:30: {ONE_OF}, not none of these"]),
        ("foreach: {lines: a, command: b}", [f"2:30: {ONE_OF}, not several of these"]),
        ("foreach: {lines: list.bin}", [
            "2:30: line 2 of 'list.bin' holds a NUL character; for a list with NUL between its parts write split: nul"]),
        ("foreach: {lines: latin}", ["2:38: line 2 of 'latin' is not UTF-8; is it a text file?"]),
        ("foreach: {lines: twice}", ["2:30: line 3 of 'twice' is the same as line 1 of 'twice': 'a'; keep one"]),
        ("foreach: {lines: none}", ["2:38: there is nothing in 'none' to do anything for"]),
        ("foreach: {lines: none, splt: nul}", [
            "2:38: there is nothing in 'none' to do anything for",
            "2:44: unknown key 'splt' in 'foreach'; did you mean 'split'?"]),
        ("foreach: {command: fail, timeout: 0}", [
            "2:40: the command failed (its own words)",
            "2:55: timeout must be a positive number of seconds, not 0"]),
        ("foreach: '*.txt'", ["2:30: no tracked file matches '*.txt'; '**/*.txt' also looks into directories"]),
        ("foreach: ['a', '" + "b" * 5000 + "']", ["2:36: an item of foreach is 5000 bytes long; at most 4096 can be"]),
        ("foreach: '../x'", ["2:30: the pattern '../x' means no file: it must lead down from the top of the repository"]),
        ("foreach: '[b-a]'", ["2:30: the pattern '[b-a]' means no file: bad character range b-a"]),
        ("foreach: [a_b, a-b]", [
            "2:10: the ids for 'a_b' and 'a-b' would meet: 't-a_b' and 't-a-b'; write id: 't-{item}-{hash}' to tell them apart"]),
        ("matrix: []", ["2:29: matrix must be a mapping of names to lists of values, not a list"]),
        ("matrix: {}", ["2:29: the matrix is empty; write a name and a list of values in it"]),
        ("matrix: {a: []}", ["2:33: matrix.a is an empty list; write values in it, or take it out"]),
        ("matrix: {a: [x, x]}", ["2:37: the value 'x' is there twice, first in line 2; keep one"]),
        ("matrix: {a: {b: c}}", ["2:33: matrix.a must be a list of values, not a mapping"]),
        ("matrix: {a: [{b: c}]}", ["2:34: a value of matrix.a must be text, not a mapping; put a text that holds ': ' in quotes"]),
        ("matrix: {a: [x], exclude: [{a: x}]}", ["2:29: nothing is left of the matrix: everything in it is excluded"]),
        ("matrix: {a: [x], exclude: [{a: y}]}", ["2:48: this excludes nothing: no combination has these values"]),
        ("matrix: {a: [x], exclude: [{b: x}]}", ["2:49: unknown key 'b' in 'matrix.exclude'; known here: 'a'"]),
        ("matrix: {a: [x], include: [{b: y}, {b: y}]}", ["2:56: this entry of include is there twice; keep one"]),
        ("matrix: {item: [x]}", ["2:30: 'item' has a meaning of its own; give the values another name"]),
        ("matrix: {a-b: [x], a_b: [y]}", ["2:40: 'a_b' and 'a-b' would both be $MODERATOR_MATRIX_A_B; rename one"]),
        ("matrix: {a: [x, x-y], b: [y-z, z]}", [
            "2:10: the ids for 'x, y-z' and 'x-y, z' would meet: 't-x-y-z' and 't-x-y-z'; "
            "write id: 't-{a}-{b}-{hash}' to tell them apart"]),
        (MILLION, [f"2:29: this would be 1,000,000 tasks, and {TOO_MANY}"]),
        (MILLION + ", foreach: {command: never run}", [f"2:29: this would be 1,000,000 tasks, and {TOO_MANY}"]),
        ("foreach: [a], variants: 32, matrix: {a: [" + MANY + "]}", [f"2:57: this would be 12,800 tasks, and {TOO_MANY}"]),
        ("foreach: [a], verify: 'grep \"{item}\" x'", [
            "2:43: '{item}' stands inside quotes in verify; what is filled in is quoted as it needs to be, "
            f"so write it without quotes, {INSTEAD}"]),
        ("foreach: [a], verify: [sh, -c, 'rm {item}']", [
            f"2:43: a shell would read what is filled in for '{{item}}' as a part of its program; pass it behind that, {INSTEAD}"]),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place(text: str, problems: list[str], tmp_path: Path) -> None:
    """One sentence for each thing, before any task is made."""
    (tmp_path / "list.bin").write_bytes(b"a\nb\0c\0")
    (tmp_path / "latin").write_bytes(b"a\n\xe9\n")
    (tmp_path / "twice").write_bytes(b"a\nb\na\n")
    (tmp_path / "none").write_bytes(b"\n \n")
    assert problems_of(tmp_path, text, Known(["d/a.txt"], b"fail")) == problems


def test_ids_that_others_have_are_told(tmp_path: Path) -> None:
    """A task written out and one that another stands for cannot share an id, whichever comes first; defaults make no lists."""
    many = {"id": "t", "run": "x", "foreach": ["a"]}
    for tasks in ([{"id": "t-a", "run": "x"}, many], [many, {"id": "t-a", "run": "x"}]):
        with pytest.raises(PlanError, match=r"the id 't-a' .*is taken, by the task in line 1"):
            tasks_of(tmp_path, *tasks)
    with pytest.raises(PlanError, match="'foreach' can have no default; give every task its own"):
        tasks_of(tmp_path, {"id": "a", "run": "x"}, defaults={"foreach": ["a"]})
    with pytest.raises(PlanError, match="only in a repository can these be looked up; write a list instead"):
        tasks_of(tmp_path, {"id": "a", "run": "x", "foreach": "*"})


@given(st.lists(ANY.filter(lambda text: text.strip() != ""), min_size=1, max_size=6, unique=True))
@settings(max_examples=50)
def test_any_list_of_texts_gives_each_its_task_or_names_those_that_meet(
    tmp_path_factory: pytest.TempPathFactory, items: list[str]
) -> None:
    """Each value reaches its task unchanged; names are disjoint as the file systems see them, or two items are named."""
    folder = tmp_path_factory.getbasetemp()
    printed = os.fsencode("\0".join(item for item in items if _encodable(item))) + b"\0"
    assume(printed != b"\0")
    wanted = [item for item in items if _encodable(item)]
    task = {"id": "t", "run": ["x", "{item}"], "foreach": {"command": "c", "split": "nul"}}
    try:
        listed = tasks_of(folder, task, known=Known(printed=printed))
    except PlanError as error:
        assert all("would meet" in problem for problem in error.problems)
        slugs = [label(item).casefold().replace("_", "-") for item in wanted]
        assert len(set(slugs)) < len(slugs)
        return
    assert [task.values["item"] for task in listed.tasks] == wanted
    assert [task.run for task in listed.tasks] == [["x", item] for item in wanted]
    branches = {generate_task_branch("main", task.id).casefold() for task in listed.tasks}
    assert len(branches) == len(wanted)


def _encodable(item: str) -> bool:
    try:
        return os.fsdecode(os.fsencode(item)) == item
    except UnicodeEncodeError:
        return False


def test_variables_are_named_after_the_names() -> None:
    """In the way of the others that every task is given."""
    assert [variable_of(name) for name in ("item", "py", "os-name")] == [
        "MODERATOR_ITEM",
        "MODERATOR_MATRIX_PY",
        "MODERATOR_MATRIX_OS_NAME",
    ]
    assert shlex.split(fill_line("a {py}", {"py": "x'y z"})) == ["a", "x'y z"]


def test_the_examples_in_the_docstrings_hold() -> None:
    """What the documentation of the modules shows is what happens."""
    for module in (labels, filling, globs):
        failed, attempted = doctest.testmod(module)
        assert (failed, attempted > 0) == (0, True)
