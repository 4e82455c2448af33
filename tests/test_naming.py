"""Names are total, deterministic, bounded and safe; git and the file systems' own rules are the judges."""

from __future__ import annotations

import doctest
import json
import os
import re
import subprocess
import sys
import unicodedata
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from moderator import naming
from moderator.errors import ConfigurationError, InvalidTaskId
from moderator.naming import (
    generate_task_branch,
    generate_task_directory,
    generate_task_state_dir,
    task_directory_name,
    task_slug,
)
from repos import git, make_repository

NASTY = [
    *[
        ".",
        "..",
        "...",
        "/",
        "//",
        "\\",
        "../",
        "/etc/",
        "C:",
        "C:\\",
        "~",
        "~root/",
        "refs/heads/",
        ".git",
        "HEAD",
    ],
    *[
        ".lock",
        ".LOCK",
        ".lock.",
        "@",
        "@{",
        "@{-1}",
        "^",
        ":",
        "?",
        "*",
        "[",
        "]",
        "-",
        "--",
        "-d",
        "_",
        " ",
    ],
    *[
        "CON",
        "con.",
        "nul",
        "NUL.txt",
        "Aux",
        "prn",
        "com1",
        "LPT9.c",
        "com¹",
        "conin$",
        "CONOUT$",
        "$(id)",
        ";",
        "'",
    ],
    *["é", "e\u0301", "日本語", "🦊", "İ", "ß", "\u212a", "\u200b", "\u202e", "\ud800", "\udcff", "\ufeff"],
    *[
        "\n",
        "\r",
        "\t",
        "\x1b[0m",
        "\x7f",
        "\x85",
        "task",
        "Task",
        "a",
        "A",
        "7",
        "deadbeef",
        "x" * 60,
        "." * 60,
    ],
]
"""What git, a shell, a terminal or a file system is known to choke on, and ordinary text to stand between."""

anything = st.one_of(
    st.text(st.characters()),  # characters() has surrogates, text() alone has none
    st.lists(st.sampled_from(NASTY), max_size=6).map("".join),
)
ids = anything.filter(lambda text: text.strip() and "\0" not in text)
bases = st.builds(
    lambda folder, name, length: f"{folder}{name}{'x' * length}",
    st.sampled_from(["", "feature/", "a/é/c/"]),
    st.sampled_from(["main", "user-auth", "v1.0", "_", "語", "a.b-c", "HEAD", "x.locked"]),
    st.integers(0, 216),
)
"""Branches that leave the task's part all its room, some of it, or none but for the hash."""


def names(task_id: str) -> tuple[str, str, str]:
    return (
        generate_task_branch("main", task_id),
        generate_task_directory("/work", task_id),
        generate_task_state_dir("/state", task_id),
    )


EXAMPLES = [
    # id, slug, directory name
    ("task_001", "task-001", "task_001"),
    ("task_042", "task-042", "task_042"),
    ("PROJ-12", "PROJ-12", "PROJ-12"),
    ("fix.typo", "fix.typo", "fix.typo"),
    ("my task", "my-task", "my-task"),
    ("日本語", "task-77710aed", "task-77710aed"),
    ("café", "caf-850f7dc4", "caf-850f7dc4"),
    ("cafe\u0301", "cafe-81ef060b", "cafe-81ef060b"),
    ("../../etc", "etc-74ccf3c5", "etc-74ccf3c5"),
    ("/etc/passwd", "etcpasswd-74acf318", "etcpasswd-74acf318"),
    ("..", "task-5ec1f7e7", "task-5ec1f7e7"),
    (".hidden", "hidden-16924190", "hidden-16924190"),
    ("-rf", "rf-686c39ac", "rf-686c39ac"),
    ("_private", "private-3ce6c249", "_private"),
    ("a..b", "a.b-f62b4241", "a..b"),
    ("a.lock", "a-e018dd87", "a.lock"),
    ("a.", "a-5ab640fa", "a-5ab640fa"),
    ("a ", "a-", "a-"),
    ("con", "task-con-1143da2b", "task-con-1143da2b"),
    ("NUL.txt", "task-NUL.txt-0241e4ee", "task-NUL.txt-0241e4ee"),
    ("conin$", "task-conin-ced30879", "task-conin-ced30879"),
    ("console", "console", "console"),
    ("a.lock.lock", "a-717e5db4", "a.lock.lock"),
    ("wip: ", "wip-12a6b1f4", "wip-12a6b1f4"),
    ("a@{b", "ab-fece3126", "ab-fece3126"),
    ("x" * 100, "x" * 100, "x" * 100),
    ("x" * 101, "x" * 91 + "-c675a2e6", "x" * 91 + "-c675a2e6"),
]


@pytest.mark.parametrize(("task_id", "slug", "directory"), EXAMPLES, ids=ascii)
def test_names_are_the_published_ones(task_id: str, slug: str, directory: str) -> None:
    """The names of these ids are a promise: a release that changes one loses people's branches."""
    assert (
        task_slug(task_id),
        task_directory_name(task_id),
        generate_task_branch("feature/user-auth", task_id),
        generate_task_directory("/repo/checkouts", task_id),
        generate_task_state_dir("/repo/state", task_id),
    ) == (
        slug,
        directory,
        f"feature/user-auth-task-{slug}",
        f"/repo/checkouts/tasks/{directory}",
        f"/repo/state/tasks/{directory}",
    )


def test_the_examples_in_the_docstrings_hold() -> None:
    """What the documentation of the module shows is what happens."""
    failed, attempted = doctest.testmod(naming)
    assert (failed, attempted > 0) == (0, True)


@given(anything)
@example("")
@example(" \t\n\u2003")
@example("\0")
@example("a\0b")
def test_every_text_has_names_or_is_refused_for_a_reason(task_id: str) -> None:
    """An id is refused if it is empty, blank or holds NUL, by every function; nothing else is raised."""
    refusable = not task_id.strip() or "\0" in task_id
    refused = 0
    for generate in (generate_task_branch, generate_task_directory, generate_task_state_dir):
        try:
            generate("main", task_id)
        except InvalidTaskId as error:
            assert isinstance(error, ValueError)
            refused += 1
    assert refused == (3 if refusable else 0)


@pytest.mark.parametrize("task_id", [None, 42, b"task", ["task"], Path("task")], ids=repr)
def test_an_id_that_is_not_text_is_refused(task_id: object) -> None:
    """A number from a YAML file is refused with the way out, not quietly turned into text."""
    for generate in (generate_task_branch, generate_task_directory, generate_task_state_dir):
        with pytest.raises(InvalidTaskId, match="must be text") as raised:
            generate("main", task_id)  # type: ignore[arg-type]
        assert raised.value.hint


@given(ids)
def test_names_keep_to_their_alphabet_and_length(task_id: str) -> None:
    """The task's part is at most 100 bytes of the alphabet, and never empty."""
    assert re.fullmatch(r"[A-Za-z0-9.-]{1,100}", task_slug(task_id))
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,100}", task_directory_name(task_id))


@given(ids)
def test_directories_are_one_component_inside_the_base(task_id: str) -> None:
    """Whatever the id, even `..` or an absolute path, its directory is a child of `tasks` in the base."""
    name = task_directory_name(task_id)
    assert PurePosixPath(name).parts == PureWindowsPath(name).parts == (name,)
    for generate in (generate_task_directory, generate_task_state_dir):
        path = generate("/base/dir", task_id)
        assert path == f"/base/dir/tasks/{name}"
        assert os.path.normpath(path) == path


DEVICES = re.compile(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9¹²³])[ ]*([.:].*)?", re.I | re.S)
"""learn.microsoft.com, "Naming Files, Paths, and Namespaces": with an extension they are devices too."""


@given(ids)
@example("con")
@example("Con.txt")
@example("com1.tar.gz")
@example("lpt\u00b9")
@example("conin$")
@example("nul ")
@example("a. ")
@example("aux" + "." * 200)
def test_names_are_safe_on_windows_and_macos(task_id: str) -> None:
    """A name is no device, ends in no dot or space, has no forbidden character, and one Unicode form."""
    for name in (task_directory_name(task_id), task_slug(task_id)):
        assert not DEVICES.fullmatch(name)
        assert not re.search(r'[\x00-\x1f\x7f<>:"/\\|?*]', name)
        assert not name.startswith((".", "-", " ", "~"))
        assert not name.endswith((".", " "))
        assert name == unicodedata.normalize("NFC", name) == unicodedata.normalize("NFD", name)


@given(bases, ids)
def test_branches_are_bounded_and_no_deeper_than_their_base(base: str, task_id: str) -> None:
    """A branch starts with its base, its last component is at most 240 bytes, and a `/` is never added."""
    branch = generate_task_branch(base, task_id)
    assert branch.startswith(f"{base}-task-")
    assert branch.count("/") == base.count("/")
    assert len(branch.rpartition("/")[2].encode()) <= 240


@pytest.mark.parametrize("letter", ["b", "é", "語"])
@given(task_id=ids, length=st.integers(1, 300))
def test_a_base_is_refused_exactly_when_it_leaves_no_room_for_the_hash(letter: str, task_id: str, length: int) -> None:
    """A base whose last component is over 226 bytes is an error that says so; every shorter one serves."""
    base = "a" * 300 + "/" + letter * length
    if len((letter * length).encode()) <= 226:
        assert len(generate_task_branch(base, task_id).rpartition("/")[2].encode()) <= 240
    else:
        with pytest.raises(ConfigurationError, match="too long") as raised:
            generate_task_branch(base, task_id)
        assert "226 bytes" in raised.value.hint


def test_names_are_the_same_in_every_process() -> None:
    """Another process with another hash seed and another locale gives the same names."""
    task_ids = [*(text for text in NASTY if text.strip()), *(task_id for task_id, *_ in EXAMPLES)]
    program = (
        "import json, sys; from moderator.naming import *\n"
        "print(json.dumps([[task_slug(t), task_directory_name(t)] for t in json.load(sys.stdin)]))"
    )
    for seed, locale in (("1", "C"), ("2", "C.UTF-8")):
        done = subprocess.run(
            [sys.executable, "-c", program],
            input=json.dumps(task_ids),
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "LC_ALL": locale},
        )
        assert json.loads(done.stdout) == [[task_slug(t), task_directory_name(t)] for t in task_ids]


@pytest.mark.parametrize("base", ["main", "feature/user-auth", "v1.0", "0123456789ab", "b" * 226])
def test_git_accepts_the_branch_of_each_nasty_id(base: str, tmp_path: Path) -> None:
    """`git check-ref-format --branch` takes every branch name, and gives it back as it is."""
    branches = {generate_task_branch(base, text) for text in NASTY if text.strip()}
    assert {git(tmp_path, "check-ref-format", "--branch", branch) for branch in branches} == branches


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_repository(tmp_path_factory.mktemp("naming") / "repository", branch="elsewhere")


@settings(max_examples=30)
@given(bases, st.lists(ids, min_size=1, max_size=30))
def test_git_creates_every_branch_of_a_batch_at_once(repository: Path, base: str, task_ids: list[str]) -> None:
    """The branches of a list of ids are made in one transaction, listed as they were named, and can go."""
    branches = {generate_task_branch(base, task_id) for task_id in task_ids}
    commit = git(repository, "rev-parse", "HEAD")
    git(
        repository,
        *("update-ref", "--stdin"),
        stdin="".join(f"create refs/heads/{branch} {commit}\n" for branch in branches),
    )
    listed = git(repository, "branch", "--list", "--format=%(refname:short)", f"{base}-task-*").splitlines()
    git(repository, "branch", "--quiet", "-D", *branches)
    assert sorted(listed) == sorted(branches)
    assert git(repository, "for-each-ref", "--format=%(refname)") == "refs/heads/elsewhere"


@settings(max_examples=30)
@given(st.lists(ids, min_size=1, max_size=30))
def test_the_file_system_keeps_every_directory_of_a_batch(
    tmp_path_factory: pytest.TempPathFactory, task_ids: list[str]
) -> None:
    """Every name of a list of ids can be made, side by side, and is listed as it was named."""
    base = tmp_path_factory.mktemp("names")
    for task_id in task_ids:
        Path(generate_task_directory(str(base), task_id)).mkdir(parents=True, exist_ok=True)
    assert set(os.listdir(base / "tasks")) == {task_directory_name(task_id) for task_id in task_ids}


@st.composite
def relatives(draw: st.DrawFn) -> tuple[str, str]:
    """Two ids, the second often one that looks like the first."""
    first = draw(ids)
    variants = [
        *(
            first.swapcase(),
            first.upper(),
            first.casefold(),
            first.replace("_", "-"),
            first.replace("-", " "),
        ),
        *(unicodedata.normalize("NFC", first), unicodedata.normalize("NFD", first)),
        *(first + ".", first + " ", "-" + first, "/" + first, first + "\u200b", first + ".lock", first * 30),
        *(
            task_slug(first),
            task_directory_name(first),
            task_slug(first).upper(),
            task_slug(first)[:-9] or first,
        ),
    ]
    return first, draw(st.one_of(st.sampled_from(variants), ids).filter(str.strip))


def spelt_alike(first: str, second: str) -> bool:
    """The documented exception: `_`, space, `-` and letter case are not told apart."""
    plain = str.maketrans("_ ", "--")
    return first.translate(plain).lower() == second.translate(plain).lower()


@settings(max_examples=150)
@given(relatives(), st.sampled_from(["main", "b" * 200, "b" * 226]))
@example(("task_1", "task 1"), "main")
@example(("日本語", "task-77710aed"), "main")
@example(("日本語", "Task_77710AED"), "main")
@example(("café", "cafe\u0301"), "main")
@example(("\ud800", "\ud801"), "main")
def test_different_ids_have_different_names(pair: tuple[str, str], base: str) -> None:
    """Two ids share a name only if they are spelt alike, or one is spelt like the other's mended name."""
    first, second = pair
    for name in (lambda task_id: generate_task_branch(base, task_id), task_directory_name):
        if name(first).lower() == name(second).lower():
            assert (
                spelt_alike(first, second)
                or any(spelt_alike(first, mended) for mended in (task_slug(second), task_directory_name(second)))
                or any(spelt_alike(second, mended) for mended in (task_slug(first), task_directory_name(first)))
            )
