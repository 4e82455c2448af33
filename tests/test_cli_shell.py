"""A person's shell: completion asked for with TAB, and a `moderator cd` that really goes there."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from commandline import command, moderator, picture
from moderator.cli import commands, completing, shell_init
from moderator.git.manager import GitManager
from repos import git, make_repository
from terminal import Shell
from workspaces import context

ODD = [
    "one",
    "two words",
    "three \"quoted\" 'ones'",
    "été-日本",
    "-dash",
    "speed@1",
    "speed@2",
    "a:b=c",
    "$HOME`x`",
    "line\nbreak",
]
BREAKS = " \t\n\"'@><=;|&(:"
"""The word breaks of a bash without settings."""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    repository = make_repository(tmp_path / "sample", [("first", {"README.md": "# Sample\n", "sub/a.txt": "a\n"})])
    manager = GitManager(repository)
    for task_id in ODD:
        manager.create_workspace(context(tmp_path, task_id)).release()
    return repository


def place(repository: Path, task_id: str) -> str:
    return GitManager(repository).of_task(task_id).path


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
@pytest.mark.some(1)
def test_a_shell_completes_and_goes_there(repository: Path, tmp_path: Path, name: str) -> None:
    """TAB completes commands, options and odd task ids, quoted as they were begun; cd changes the directory of the shell."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    initialise = shlex.join(command("shell-init", name))
    with Shell(name, repository, SHELL=f"/bin/{name}") as shell:
        assert shell.run(f"{initialise} | source" if name == "fish" else f'eval "$({initialise})"')[1] == 0
        assert shell.run("moderator cd tw\t")[1] == 0
        assert os.path.realpath(f"/proc/{shell.process.pid}/cwd") == place(repository, "two words")
        assert "no workspace belongs to 'a b'" in shell.run("moderator cd 'a b'")[0]
        assert "unexpected extra argument (a  b)" in shell.run("moderator path one 'a  b'; ")[0]
        assert shell.run("moderator path nope")[1] == shell.run("moderator cd nope")[1] == 2
        assert shell.run("moderator cd")[1] == 0
        assert os.path.realpath(f"/proc/{shell.process.pid}/cwd") == str(repository)
        body = "printf '<%s>' $argv; end" if name == "fish" else "{ printf '<%s>' \"$@\"; }"
        shell.run(f"function moderator; {body}" if name == "fish" else f"moderator() {body}")
        for typed, words in [
            ("moderator pa\té\t", ("path", "été-日本")),
            ("moderator path two\\ w\t", ("path", "two words")),
            ('moderator path "th\t', ("path", "three \"quoted\" 'ones'")),
            ("moderator path 'th\t", ("path", "three \"quoted\" 'ones'")),
            ("moderator path -- -d\t", ("path", "--", "-dash")),
            ("moderator path speed@\t2", ("path", "speed@2")),
            ("moderator path a:\t", ("path", "a:b=c")),
            ('moderator path "\\$H\t', ("path", "$HOME`x`")),
            ("moderator run --iso\tf\t REA\t", ("run", "--isolation", "full", "README.md")),
            ("moderator exec one -- printen\t", ("exec", "one", "--", "printenv")),
        ]:
            shown, code = shell.run(typed)
            assert (code, "".join(f"<{word}>" for word in words) in shown) == (0, True), shown


def test_cd_without_the_function_says_how_to_get_it(repository: Path, tmp_path: Path) -> None:
    """A program alone cannot go anywhere: it says what to type, and prints the place for whoever asks."""
    before = picture(repository)
    bare = moderator(repository, "cd", "one", SHELL="/usr/bin/zsh")
    assert (bare.returncode, bare.stdout) == (2, "")
    assert 'eval "$(' in bare.stderr and "shell-init zsh)" in bare.stderr and "cd --print TASK" in bare.stderr
    assert "shell-init fish | source" in moderator(repository, "cd", SHELL="/bin/fish").stderr
    assert moderator(repository, "cd", "--print", "main-task-one").stdout == place(repository, "one") + "\n"
    assert moderator(place(repository, "one"), "cd", "--print").stdout == f"{repository}\n"
    assert picture(repository) == before
    git(tmp_path, "clone", "--quiet", "--bare", repository, "bare.git")
    assert moderator(tmp_path / "bare.git", "cd", "--print").returncode == 2
    assert moderator(repository, "shell-init", "tcsh").returncode == 2


def asked(cwd: Path, *words: str) -> list[str]:
    """What the completion of a shell that quotes by itself offers for the last of these words."""
    program = shell_init.completer(shell_init.described(commands, click.Context(commands)))
    call = [sys.executable, "-I", "-S", "-c", program, "fish", "moderator", *words]
    done = subprocess.run(call, cwd=cwd, capture_output=True, check=True)
    return done.stdout.decode().splitlines()


def test_what_is_offered(repository: Path, tmp_path: Path) -> None:
    """Tasks are those of the repository that is meant, found without git; what is damaged or cannot be typed is left out."""
    ids = sorted(set(ODD) - {"-dash", "line\nbreak"})
    for cwd in (repository, repository / "sub", repository / ".git", Path(place(repository, "one"))):
        assert asked(cwd, "show", "") == ["+", *ids]
    assert asked(tmp_path, "show", "") == ["+"]
    for repo in (["--repo", "sample"], ["--repo=sample/sub"]):
        assert asked(tmp_path, "show", *repo, "sp") == ["+", "speed@1", "speed@2"]
    assert asked(repository, "clean", "speed@1", "sp") == ["+", "speed@2"]
    assert asked(repository, "show", "one", "") == ["+"]
    assert asked(repository, "nonsense", "") == ["+"]
    (repository / ".git/moderator/workspaces/one.json").write_text("{")
    assert asked(repository, "show", "o") == ["+"]
    GitManager(repository).remove_workspace("speed@1")
    assert asked(repository, "undo", "") == ["+", "speed@1"]
    assert asked(repository, "run", "") == ["+files"]
    assert asked(repository, "run", "--isolation", "b") == ["+", "branch"]
    assert asked(repository, "run", "--isolation=b") == ["+", "--isolation=branch"]
    assert asked(repository, "list", "--repo", "") == ["+folders"]
    assert [one.split("\t")[0] for one in asked(repository, "rescue", "sh")] == ["+", "show"]
    assert [one.split("\t")[0] for one in asked(repository, "")[1:]] == commands.list_commands(click.Context(commands))


@given(
    st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" "), min_size=1),
    st.integers(0, 20),
    st.sampled_from(["", "'", '"']),
)
@example("it's", 2, "'")
@example('say "x"', 5, '"')
@example("a:b@c", 4, "")
def test_a_completed_line_means_what_was_chosen(task_id: str, typed: int, quote: str) -> None:
    """Whatever the id and however its beginning was quoted: bash reads the line, completed, as that id."""
    assume(quote != '"' or not set("$`") & set(task_id))  # which shlex keeps escaped there, other than bash
    begun = task_id[:typed]
    if not quote:
        written = "".join("\\" + sign for sign in begun)
    else:
        written = "".join(
            "'\\''" if sign == quote == "'" else f"\\{sign}" if quote == '"' and sign in '"\\$`' else sign
            for sign in begun
        )
    line = f"moderator path {quote}{written}"
    read = completing.Typed(line, BREAKS)
    assert (read.words, read.is_plain, read.quote) == (["moderator", "path", begun], True, quote)
    reply = read.become(task_id)
    kept = line[: len(line) - len(read.raw) + read.kept]
    completed = kept + reply
    assert shlex.split(completed if not quote or completed.endswith(quote) else completed + quote)[2:] == [task_id]
