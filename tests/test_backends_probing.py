"""Whether a backend's program is there, which version it is and whether it is logged in: asked of real programs."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from commandline import alive, wait_until
from moderator.backends.probing import Availability, Probes
from moderator.config.settings import BackendConfig

SYSTEM = "/usr/bin:/bin"


@pytest.fixture
def bin_dir(tmp_path: Path) -> Path:
    """Return a directory for programs, beside which there is room for what they write."""
    folder = tmp_path / "bin"
    folder.mkdir()
    return folder


def program(folder: Path, script: str, name: str = "ai") -> Path:
    """Write a shell script that can be executed, and return where it is."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def journaling(folder: Path, version: str, name: str = "ai") -> Path:
    """Write a program that prints a version, and a line into the file `asked` beside its directory each time."""
    return program(folder, f"echo \"$*\" >> '{folder.parent}/asked'\necho 'ai {version} (build 7)'", name)


def asked(folder: Path) -> int:
    """Return how often the programs of a directory were asked."""
    journal = folder.parent / "asked"
    return len(journal.read_text().splitlines()) if journal.exists() else 0


def config(*argv: str, **keys: Any) -> BackendConfig:
    return BackendConfig("mine", argv or ("ai",), **keys)


def path_of(folder: Path, **more: str) -> dict[str, str]:
    return {"PATH": f"{folder}:{SYSTEM}", **more}


def look(folder: Path, *argv: str, cache: Path | None = None, **keys: Any) -> Availability:
    return Probes(cache).look(config(*argv, **keys), path_of(folder))


# -- the program -------------------------------------------------------------------------------------------------------


def test_the_shell_is_always_there() -> None:
    """A backend without a command line needs no program, whatever the environment."""
    assert Probes().look(BackendConfig("shell"), {}) == Availability(path="/bin/sh")


def test_a_program_on_path_is_found_in_the_given_environment(bin_dir: Path, tmp_path: Path) -> None:
    """Without a probe it is enough that it is there; the first directory of the environment's own PATH counts."""
    other = tmp_path / "other"
    other.mkdir()
    program(other, "exit 1")
    path = program(bin_dir, "exit 1")
    assert look(bin_dir) == Availability(path=str(path))
    assert Probes().look(config(), {"PATH": f"{other}:{bin_dir}"}) == Availability(path=str(other / "ai"))
    assert Probes().look(config(str(path)), {}) == Availability(path=str(path))


@pytest.mark.parametrize(
    ("install", "hint"),
    [
        ("", "install it, or put another backend in its place"),
        ("npm i -g ai", "install it (npm i -g ai), or put another backend in its place"),
    ],
)
def test_a_program_that_is_not_on_path_is_a_problem(bin_dir: Path, install: str, hint: str) -> None:
    """It says where it was looked for, and how to get it where that is known; a file that is no program is none."""
    (bin_dir / "ai").write_text("not a program")
    missing = Availability(problem="'ai' is not on PATH", hint=hint)
    assert (look(bin_dir, install=install), missing.usable) == (missing, False)
    assert Probes().look(config(install=install), {"PATH": ""}) == missing


def test_an_absolute_path_that_is_missing_is_a_problem(bin_dir: Path) -> None:
    """PATH has nothing to do with it."""
    gone = str(bin_dir / "gone")
    assert look(bin_dir, gone) == Availability(
        problem=f"{gone!r} does not exist", hint="install it, or put another backend in its place"
    )


def test_a_file_that_may_not_be_executed_is_not_said_to_be_missing(bin_dir: Path) -> None:
    """What is there and is no program is a problem, and the sentence about it is true."""
    (bin_dir / "ai").write_text("#!/bin/sh\n")
    found = look(bin_dir, str(bin_dir / "ai"))
    assert not found.usable
    assert "does not exist" not in found.problem


@pytest.mark.parametrize("argv0", ["./tools/ai", "tools/ai", "{workspace}/tools/ai", "{workspace}/ai"])
def test_of_a_program_in_the_workspace_nothing_is_known(bin_dir: Path, argv0: str) -> None:
    """A workspace is not there yet: nobody can tell, and that is no problem."""
    unknown = look(bin_dir, argv0, probe=(argv0, "--version"), login_env=("AI_KEY",))
    assert (unknown, unknown.usable) == (Availability(), True)


def test_the_current_directory_has_nothing_to_do_with_it(bin_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program of the workspace is looked for there and nowhere else, wherever `moderator` itself was started."""
    program(bin_dir, "echo 1.2.3")
    monkeypatch.chdir(bin_dir.parent)
    for argv0 in ("bin/ai", "./bin/ai"):
        assert look(bin_dir, argv0, probe=(argv0, "--version")) == Availability()


# -- the version -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("printed", "version"),
    [
        ("2.0.14 (Claude Code)", "2.0.14"),
        ("codex-cli 0.46.0", "0.46.0"),
        ("v1.2.3-beta.1+5", "1.2.3-beta.1+5"),
        ("GitHub CLI\\nversion 0.0.330.\\nCommit: abc", "0.0.330"),
        ("ai 7", "ai 7"),
        ("development build\\nof today", "development build"),
        ("0123456789 0123456789 0123456789 0123456789", "0123456789 0123456789 0123456789 0123456"),
        ("", None),
    ],
)
@pytest.mark.parametrize("to", ["", " >&2"], ids=["stdout", "stderr"])
def test_the_version_is_read_from_what_the_program_prints(
    bin_dir: Path, printed: str, version: str | None, to: str
) -> None:
    """The first thing that looks like one, on either stream; else the beginning of the first line."""
    path = program(bin_dir, f"printf '{printed}\\n'{to}")
    assert look(bin_dir, probe=("ai", "--version")) == Availability(path=str(path), version=version)


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("echo 1.2.3; exit 3", "'ai --version' ended with 3: 1.2.3"),
        ("echo 'no node here' >&2; exit 127", "'ai --version' ended with 127: no node here"),
        ("exit 1", "'ai --version' ended with 1"),
        ("kill -9 $$", "'ai --version' ended with -9"),
    ],
)
def test_a_program_that_cannot_tell_its_version_cannot_be_used(bin_dir: Path, script: str, problem: str) -> None:
    """The probe has to end with 0; why it did not is told, with the command to see it oneself."""
    path = program(bin_dir, script)
    assert look(bin_dir, probe=("ai", "--version"), login_env=("PATH",)) == Availability(
        path=str(path), problem=problem, hint="see what is wrong: ai --version"
    )


def test_a_program_that_cannot_be_started_cannot_be_used(bin_dir: Path) -> None:
    """An interpreter that is missing is found before a task needs the program."""
    path = bin_dir / "ai"
    path.write_text("#!/nowhere/node\n")
    path.chmod(0o755)
    found = look(bin_dir, probe=("ai", "--version"))
    assert (found.path, found.usable) == (str(path), False)
    assert "could not be started: the interpreter it asks for does not exist" in found.problem


def test_a_probe_has_nothing_to_work_on(bin_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs in an empty directory that is gone afterwards, without input, and writes nowhere of ours."""
    monkeypatch.chdir(tmp_path)
    program(bin_dir, f"{{ pwd; ls -A; cat; }} > '{tmp_path}/seen'; touch litter; echo 1.2.3")
    before = sorted(os.listdir(tmp_path))
    assert look(bin_dir, probe=("ai", "--version")).version == "1.2.3"
    folder, *rest = (tmp_path / "seen").read_text().splitlines()
    assert (rest, Path(folder).exists()) == ([], False)
    assert sorted(os.listdir(tmp_path)) == sorted([*before, "seen"])


def test_a_probe_sees_no_variable_of_git(bin_dir: Path, tmp_path: Path) -> None:
    """What ties git to a checkout is taken out, for the version and for the login; everything else is passed on."""
    path = program(
        bin_dir, f"env | grep -c ^GIT_ >> '{tmp_path}/seen'; echo \"$AI_HOME\" >> '{tmp_path}/seen'; echo 1.2"
    )
    environment = path_of(bin_dir, GIT_DIR="/nowhere/.git", GIT_WORK_TREE="/nowhere", AI_HOME="here")
    found = Probes().look(config(probe=("ai", "--version"), login=("ai", "status")), environment)
    assert found == Availability(str(path), "1.2", True)
    assert (tmp_path / "seen").read_text().split() == ["0", "here"] * 2


def test_what_a_probe_leaves_running_is_ended(bin_dir: Path, tmp_path: Path) -> None:
    """A program that starts a service when it is asked for its version has none of it when it is over."""
    program(bin_dir, f"sleep 3600 & echo $! > '{tmp_path}/pid'; echo 1.2.3")
    assert look(bin_dir, probe=("ai", "--version")).version == "1.2.3"
    pid = int((tmp_path / "pid").read_text())
    wait_until(lambda: not alive(pid), "the end of what was left running")


# -- what is remembered ------------------------------------------------------------------------------------------------

PROBED: Mapping[str, Any] = {"probe": ("ai", "--version")}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "versions.json"


def test_an_unchanged_program_is_not_asked_again(bin_dir: Path, cache: Path) -> None:
    """Neither by the same probes, nor by those of a later run that have the same file; the answer is the same."""
    found = Availability(path=str(journaling(bin_dir, "1.0.0")), version="1.0.0")
    probes = Probes(cache)
    assert [probes.look(config(**PROBED), path_of(bin_dir)) for _ in range(3)] == [found] * 3
    assert (look(bin_dir, cache=cache, **PROBED), asked(bin_dir)) == (found, 1)
    assert os.listdir(cache.parent) == [cache.name]


def test_without_a_file_a_version_is_remembered_as_long_as_the_probes_live(bin_dir: Path) -> None:
    """Other probes ask for themselves."""
    journaling(bin_dir, "1.0.0")
    probes = Probes()
    assert [probes.look(config(**PROBED), path_of(bin_dir)).version for _ in range(2)] == ["1.0.0"] * 2
    assert (look(bin_dir, **PROBED).version, asked(bin_dir)) == ("1.0.0", 2)


def test_a_changed_program_is_asked_again(bin_dir: Path, cache: Path) -> None:
    """Another size or another time of its last change: the version is the new one."""
    path = journaling(bin_dir, "1.0.0")
    probes = Probes(cache)

    def versions() -> tuple[str | None, str | None]:
        return probes.look(config(**PROBED), path_of(bin_dir)).version, look(bin_dir, cache=cache, **PROBED).version

    found = [versions()]
    journaling(bin_dir, "1.0.10")
    found.append(versions())
    was = path.stat()
    journaling(bin_dir, "1.0.20")  # as long as before
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns + 1))
    found.append(versions())
    assert found == [(version, version) for version in ("1.0.0", "1.0.10", "1.0.20")]


def test_a_link_to_another_program_is_another_program(bin_dir: Path, cache: Path) -> None:
    """An update that turns a link, as npm and pipx do, is noticed though the path is the same."""
    old, new = journaling(bin_dir, "1.0.0", "ai-1"), journaling(bin_dir, "2.0.0", "ai-2")
    os.utime(new, ns=(old.stat().st_atime_ns, old.stat().st_mtime_ns))
    found = []
    for target in (old, new, old):
        (bin_dir / "ai").unlink(missing_ok=True)
        (bin_dir / "ai").symlink_to(target)
        found.append(look(bin_dir, cache=cache, **PROBED).version)
    assert (found, asked(bin_dir)) == (["1.0.0", "2.0.0", "1.0.0"], 2)


def test_another_question_is_another_answer(bin_dir: Path, cache: Path) -> None:
    """Two backends with one program and two probes do not get each other's version."""
    program(bin_dir, 'echo "$1.0"')
    assert [look(bin_dir, cache=cache, probe=("ai", number)).version for number in ("3", "4", "3")] == [
        "3.0",
        "4.0",
        "3.0",
    ]


def test_a_program_that_is_executed_by_another_is_the_one_that_counts(bin_dir: Path, cache: Path) -> None:
    """Of `sh /srv/agent --version` the script tells whether the answer is old; where no file does, it is asked each time."""
    script = journaling(bin_dir, "1.0.0", "agent")
    keys = {"argv": ("sh", str(script)), "probe": ("sh", str(script), "--version")}

    def version() -> str | None:
        return Probes(cache).look(BackendConfig("mine", **keys), path_of(bin_dir)).version

    assert ([version(), version()], asked(bin_dir)) == (["1.0.0", "1.0.0"], 1)
    journaling(bin_dir, "1.0.10", "agent")
    assert ([version(), version()], asked(bin_dir)) == (["1.0.10", "1.0.10"], 2)
    keys = {"argv": ("env", "agent"), "probe": ("env", "agent", "--version")}
    assert ([version(), version()], asked(bin_dir)) == (["1.0.10", "1.0.10"], 4)


def test_a_probe_gets_the_variables_of_its_backend(bin_dir: Path) -> None:
    """Its own `env`, as far as that needs no workspace, is there when it is asked, and may be what logs it in."""
    program(bin_dir, 'test "$1" = status && exit 1; echo "$AI_VERSION.$AI_HOME"')
    env = {"AI_VERSION": "1.2", "AI_HOME": "{workspace}/home", "AI_KEY": "{{key}}"}
    keys: dict[str, Any] = {"probe": ("ai", "--version"), "login": ("ai", "status"), "env": env}
    assert look(bin_dir, **keys).logged_in is False
    found = look(bin_dir, **keys, login_env=("AI_KEY",))
    assert (found.version, found.logged_in, found.problem) == ("1.2", True, "")
    assert look(bin_dir, **keys, login_env=("AI_HOME",)).logged_in is False


@pytest.mark.parametrize("script", ["printf '\\033[31mred\\007'", "printf '\\033]0;title\\007oops' >&2; exit 3"])
def test_what_a_program_says_controls_no_terminal(bin_dir: Path, script: str) -> None:
    """Neither its version nor its problem holds anything but characters that can be printed."""
    program(bin_dir, script)
    found = look(bin_dir, probe=("ai", "--version"))
    assert ((found.version or "") + found.problem).isprintable()
    assert "red" in str(found.version) or "oops" in found.problem


def test_a_probe_that_failed_is_not_remembered(bin_dir: Path, cache: Path, tmp_path: Path) -> None:
    """What was wrong may have been put right without a trace in the program."""
    program(bin_dir, f"test -e '{tmp_path}/node' && echo 1.2.3")
    probes = Probes(cache)
    found = [probes.look(config(**PROBED), path_of(bin_dir)).version]
    (tmp_path / "node").touch()
    found.append(probes.look(config(**PROBED), path_of(bin_dir)).version)
    assert found == [None, "1.2.3"]


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"[]", b"null", b"7", b"\xff\xfe\0", b'{"key": "value"}', b"{}" * 3, b"[" * 100_000],
    ids=lambda damage: repr(damage[:16]),
)
def test_a_damaged_file_costs_time_and_nothing_else(bin_dir: Path, cache: Path, damage: bytes) -> None:
    """It is as if there were none, and it is whole again afterwards."""
    found = Availability(path=str(journaling(bin_dir, "1.0.0")), version="1.0.0")
    cache.parent.mkdir()
    cache.write_bytes(damage)
    assert [look(bin_dir, cache=cache, **PROBED) for _ in range(2)] == [found] * 2
    assert (asked(bin_dir), "1.0.0" in json.loads(cache.read_text()).values()) == (1, True)


def test_a_remembered_version_that_is_no_text_is_asked_for_again(bin_dir: Path, cache: Path) -> None:
    """What somebody wrote into the file is not believed just because its key fits."""
    journaling(bin_dir, "1.0.0")
    look(bin_dir, cache=cache, **PROBED)
    (key,) = json.loads(cache.read_text())
    cache.write_text(json.dumps({key: ["9.9.9"]}))
    assert (look(bin_dir, cache=cache, **PROBED).version, asked(bin_dir)) == ("1.0.0", 2)


def test_a_file_that_cannot_be_written_costs_time_and_nothing_else(bin_dir: Path, cache: Path) -> None:
    """Where a directory or a file is in its way, versions are told all the same, and nothing is left lying about."""
    found = Availability(path=str(journaling(bin_dir, "1.0.0")), version="1.0.0")
    cache.mkdir(parents=True)
    (cache / "mine").touch()
    assert look(bin_dir, cache=cache / "mine" / "versions.json", **PROBED) == found
    assert look(bin_dir, cache=cache, **PROBED) == found
    assert os.listdir(cache.parent) == [cache.name]
    assert os.listdir(cache) == ["mine"]


def test_threads_share_what_is_remembered(bin_dir: Path, cache: Path) -> None:
    """Many programs looked at by many threads at once: each answer is right, and the file has all of them."""
    numbers = range(8)
    for number in numbers:
        program(bin_dir, f"echo {number}.5", f"ai{number}")
    probes, found = Probes(cache), dict[int, str | None]()

    def look_at(number: int) -> None:
        name = f"ai{number}"
        found[number] = probes.look(config(name, probe=(name, "--version")), path_of(bin_dir)).version

    threads = [threading.Thread(target=look_at, args=(number,)) for number in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    versions = {number: f"{number}.5" for number in numbers}
    assert (found, sorted(json.loads(cache.read_text()).values())) == (versions, sorted(versions.values()))


# -- the login ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "logged_in"),
    [
        ({}, None),
        ({"login_env": ("AI_KEY", "AI_TOKEN")}, True),
        ({"login_env": ("AI_KEY",)}, None),
        ({"login_env": ("AI_EMPTY",)}, None),
        ({"login_files": ("~/.nothing", "~/.ai/auth.json")}, True),
        ({"login_files": ("~/.nothing", "/nowhere/at/all")}, None),
        ({"login": ("ai", "yes")}, True),
        ({"login": ("ai", "hm"), "login_files": ("~/.ai/auth.json",)}, True),
        ({"login": ("ai", "no"), "login_env": ("AI_TOKEN",)}, True),
        ({"login": ("nobody-has-this", "status")}, None),
    ],
    ids=repr,
)
def test_a_login_is_known_by_a_variable_a_file_or_a_command(
    bin_dir: Path, tmp_path: Path, keys: dict[str, Any], logged_in: bool | None
) -> None:
    """Any of them is enough; where none tells, or the command cannot be asked, nobody knows, and that is no problem."""
    path = program(bin_dir, 'test "$1" = yes')
    (tmp_path / ".ai").mkdir()
    (tmp_path / ".ai" / "auth.json").touch()
    environment = path_of(bin_dir, HOME=str(tmp_path), AI_TOKEN="secret", AI_EMPTY="")
    assert Probes().look(config(**keys), environment) == Availability(path=str(path), logged_in=logged_in)


@pytest.mark.parametrize(
    ("login_env", "hint"), [((), "log in with ai"), (("AI_KEY", "AI_TOKEN"), "log in with ai, or set AI_KEY")]
)
def test_who_is_not_logged_in_cannot_work(bin_dir: Path, login_env: tuple[str, ...], hint: str) -> None:
    """A command that says no is believed where nothing else says yes, and it is told how to log in."""
    path = program(bin_dir, 'test "$1" = status && exit 1; echo 1.2.3')
    found = look(bin_dir, probe=("ai", "--version"), login=("ai", "status"), login_env=login_env)
    assert found == Availability(str(path), "1.2.3", False, "it is not logged in", hint)


def test_whether_it_is_logged_in_is_asked_anew_each_time(bin_dir: Path, tmp_path: Path, cache: Path) -> None:
    """A login is nothing that the program's file would tell of."""
    program(bin_dir, f"test \"$1\" = --version && exec echo 1.2.3; test -e '{tmp_path}/token'")
    probes, token = Probes(cache), tmp_path / "token"

    def logged_in() -> bool | None:
        return probes.look(config(**PROBED, login=("ai", "status")), path_of(bin_dir)).logged_in

    found = [logged_in()]
    token.touch()
    found.append(logged_in())
    token.unlink()
    assert [*found, logged_in()] == [False, True, False]


def test_without_a_home_no_file_of_it_is_there(bin_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` is the home of the given environment; without one it is nowhere, and not the current directory."""
    path = program(bin_dir, "exit 0")
    (tmp_path / "auth.json").touch()
    monkeypatch.chdir(tmp_path)
    keys = config(login_files=("~/auth.json",))
    assert Probes().look(keys, path_of(bin_dir)) == Availability(path=str(path))
    assert Probes().look(keys, path_of(bin_dir, HOME="")) == Availability(path=str(path))
