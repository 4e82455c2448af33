"""`moderator.trust`, and `moderator trust`: nothing of a repository's own is executed before somebody agreed to exactly that."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commandline import command, document, moderator, picture, task_list
from moderator.cli.options import agreements, configuration, require_agreement
from moderator.config import load_config
from moderator.config.loading import load_with_origins
from moderator.config.settings import AGREED
from moderator.errors import ConfigurationError, EnvironmentProblem, NotTrusted
from moderator.git.manager import GitManager
from moderator.machine import ports_folder, state_home
from moderator.trust import Agreements, lines_of
from repos import make_repository

VALUES: dict[str, Any] = {"setup": ["npm ci", ["make", "all"]], "verify": "make test", "env": {"A": "1"}}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a repository whose own configuration has commands."""
    repository = make_repository(tmp_path / "shop", [("first", {"a.txt": "1\n"})])
    (repository / ".git" / "info" / "exclude").write_text("moderator.yaml\n")
    (repository / "moderator.yaml").write_text("setup: touch made\nkeep: always\n")
    return repository


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    return task_list(tmp_path / "tasks.yaml", {"id": "one", "run": "true"})


def test_values_are_agreed_to_for_one_path_and_as_they_are(tmp_path: Path) -> None:
    """Another repository, another value, one that came or went: each needs another agreement and is told as what it is."""
    known = Agreements(tmp_path / "state" / "trust")
    known.require("/shop", {})
    with pytest.raises(NotTrusted) as nobody:
        known.require("/shop", VALUES)
    assert nobody.value.findings == ('env: {"A": "1"}', "setup: npm ci", 'setup: ["make", "all"]', "verify: make test")
    known.agree("/shop", VALUES)
    known.require("/shop", VALUES)
    known.require("/shop", json.loads(json.dumps(VALUES)))
    with pytest.raises(NotTrusted):
        known.require("/shop2", VALUES)
    with pytest.raises(NotTrusted) as changed:
        known.require("/shop", {"setup": ["npm ci"], "verify": "make test", "teardown": ["rm x"]})
    assert changed.value.findings == (
        'no longer there: env: {"A": "1"}',
        'changed: setup: ["npm ci"] (agreed to was ["npm ci", ["make", "all"]])',
        'new: teardown: ["rm x"]',
    )
    known.agree("/shop", {"verify": "make test"})
    known.require("/shop", {"verify": "make test"})
    with pytest.raises(NotTrusted):
        known.require("/shop", VALUES)
    assert (known.revoke("/shop"), known.revoke("/shop")) == (True, False)
    with pytest.raises(NotTrusted):
        known.require("/shop", {"verify": "make test"})
    assert os.listdir(tmp_path / "state" / "trust") == []


def test_what_is_one_command_is_one_line_and_what_cannot_be_read_back_is_not_agreed_to(tmp_path: Path) -> None:
    """A list of words is one command, but where each is a command or a path; the bytes that are read bound those written."""
    assert lines_of({"open": ["touch", "/x"], "verify": ["a", "b"], "carry": [".env", "x/"], "teardown": ["a", "b c"]}) == [
        "carry: .env", "carry: x/", 'open: ["touch", "/x"]', "teardown: a", "teardown: b c", 'verify: ["a", "b"]',
    ]  # fmt: skip
    known = Agreements(tmp_path / "trust")
    known.agree("/shop", VALUES)
    for size in (1 << 20, 1 << 18):
        with pytest.raises(ConfigurationError, match="at most 1048576 can be agreed to"):
            known.agree("/shop", {"verify": "ü" * size})
    known.require("/shop", VALUES)
    large = {"verify": "x" * ((1 << 20) - 400)}
    known.agree("/shop", large)
    known.require("/shop", large)


def test_a_file_that_others_may_have_made_proves_nothing(tmp_path: Path) -> None:
    """A link, a pipe, a file others can write, one that is damaged or of another repository: none counts, all can be mended."""
    folder = tmp_path / "trust"
    known = Agreements(folder)
    known.agree("/shop", VALUES)
    (file,) = folder.iterdir()
    good = file.read_bytes()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(good)

    def spoil(how: str) -> None:
        file.unlink()
        if how == "link":
            file.symlink_to(elsewhere)
        elif how == "pipe":
            os.mkfifo(file)
        elif how == "folder":
            file.mkdir()
        else:
            other = good.replace(b"make test", b"make evil") if how == "changed" else good.replace(b"/shop", b"/other")
            file.write_bytes({"half": good[:50], "changed": other, "of another": other, "list": b"[]"}.get(how, good))
            file.chmod(0o666 if how == "writable" else 0o600)

    for how in ("link", "pipe", "half", "changed", "of another", "list", "writable"):
        spoil(how)
        with pytest.raises(NotTrusted, match="nothing counts as agreed to") as caught:
            known.require("/shop", VALUES)
        assert "moderator trust" in caught.value.hint, how
        known.agree("/shop", VALUES)
        known.require("/shop", VALUES)
        assert elsewhere.read_bytes() == good, how
    spoil("folder")
    with pytest.raises(EnvironmentProblem):
        known.agree("/shop", VALUES)
    file.rmdir()
    known.agree("/shop", VALUES)
    folder.chmod(0o777)
    with pytest.raises(NotTrusted, match="nothing counts as agreed to"):
        known.require("/shop", VALUES)
    with pytest.raises(EnvironmentProblem):
        known.agree("/shop", VALUES)
    blocked = Agreements(elsewhere / "trust")
    with pytest.raises(EnvironmentProblem):
        blocked.agree("/shop", VALUES)


@given(st.dictionaries(st.sampled_from(AGREED), st.text() | st.lists(st.text() | st.lists(st.text()))))
def test_what_is_shown_is_a_line_each_that_no_terminal_obeys(values: dict[str, Any]) -> None:
    """Control characters, and those that turn the direction of text, are written out."""
    assert all(line.isprintable() for line in lines_of(values))


def test_only_what_the_guests_file_brings_into_force_is_asked(tmp_path: Path) -> None:
    """What a person's own file says takes the place of it; all that the file says is agreed to as a whole."""
    own, guest, named = (tmp_path / name for name in ("own.yaml", "guest.yaml", "named.yaml"))
    own.write_text("setup: mine\n")
    guest.write_text("verify: [a, b]\nenv: {A: x, B: y}\nkeep: never\nports: {count: 1}\n")
    asked = {"verify": ["a", "b"], "env": {"A": "x", "B": "y"}}
    assert load_config([own, guest], guest=guest).asked_by_guest == asked
    assert load_config([own, guest]).asked_by_guest == {}
    named.write_text("verify: mine\nenv: {A: z}\n")
    config = load_config([own, guest, named], guest=guest)
    assert (config.asked_by_guest, config.env) == (asked, {"A": "z", "B": "y"})
    named.write_text("verify: null\nenv: {A: z, B: z}\n")
    assert load_config([own, guest, named], guest=guest).asked_by_guest == {}
    assert load_config([own, guest, guest], guest=guest).asked_by_guest == {}  # named by the person himself
    guest.write_text("keep: never\nsetup: null\nenv: {}\n")
    assert load_config([guest], guest=guest).asked_by_guest == {}


def test_a_run_refuses_until_somebody_agreed(repository: Path, listed: Path, tmp_path: Path) -> None:
    """Nothing is made before; after an agreement it runs; a change is refused and told; an agreement can be taken back."""
    before = picture(tmp_path)
    refused = moderator(repository, "run", listed)
    assert (refused.returncode, picture(tmp_path)) == (3, before)
    assert "    setup: touch made\n  hint: moderator trust" in refused.stderr
    asked = moderator(repository, "trust")  # without a terminal
    assert (asked.returncode, asked.stdout) == (3, "setup: touch made\n")
    assert document(moderator(repository, "trust", "--show", "--json")) == {
        "repository": str(repository), "asked": {"setup": ["touch made"]}, "agreed": False, "changed": [],
    }  # fmt: skip
    assert moderator(repository, "run", listed, "--dry-run").returncode == 0  # executes nothing
    assert moderator(repository, "trust", "--yes").stdout == "setup: touch made\nagreed to\n"
    assert moderator(repository, "run", listed, "--progress", "none").returncode == 0
    tree = Path(f"{repository}.moderator", "tasks", "one")
    assert (tree / "made").exists()
    # What a task wrote into its own worktree is not read, from wherever the command is called.
    (tree / "moderator.yaml").write_text("setup: touch evil\n")
    assert moderator(tree, "trust", "--show").stdout == "setup: touch made\nagreed to\n"
    (repository / "moderator.yaml").write_text("setup: touch evil\n")
    refused = moderator(repository, "run", listed, "--fresh")
    assert (refused.returncode, (tree / "made").exists()) == (3, True)
    assert 'changed: setup: ["touch evil"] (agreed to was ["touch made"])' in refused.stderr
    assert moderator(repository, "trust", "--revoke").stdout == "taken back\n"
    assert moderator(repository, "trust", "--yes", "--revoke").returncode == 2
    named = tmp_path / "named.yaml"
    named.write_text("setup: touch mine\n")
    assert moderator(repository, "run", listed, "--config", named, "--fresh", "--progress", "none").returncode == 0
    assert (tree / "mine").exists()


def test_nobody_is_asked_to_agree_for_a_list_that_is_not_there(repository: Path, tmp_path: Path) -> None:
    """A misspelt name is told as what it is: agreeing to commands first would not help."""
    ended = moderator(tmp_path, "run", "taks.yaml", "--repo", str(repository))
    assert (ended.returncode, "taks.yaml: there is no such file" in ended.stderr) == (2, True)


@pytest.mark.slow
def test_what_is_carried_needs_agreement_too(repository: Path, listed: Path) -> None:
    """A secret goes into a workspace by the repository's word only after an agreement, whichever command makes it."""
    (repository / ".git" / "info" / "exclude").write_text("moderator.yaml\n.env\n")
    (repository / ".env").write_text("secret\n")
    (repository / "moderator.yaml").write_text("carry: [.env]\n")
    for arguments in (["create", "made"], ["run", str(listed)]):
        refused = moderator(repository, *arguments)
        assert (refused.returncode, "    carry: " in refused.stderr, ".env" in refused.stderr) == (3, True, True), (
            arguments
        )
    assert not Path(f"{repository}.moderator").exists()
    assert moderator(repository, "trust", "--yes").returncode == 0
    assert Path(moderator(repository, "create", "made").stdout.strip(), ".env").read_text() == "secret\n"


def test_a_repository_takes_no_sandbox_away(tmp_path: Path) -> None:
    """It may ask for one; that there be none is for the person to say, in a file of his own."""
    own, guest, named = tmp_path / "config.yaml", tmp_path / "moderator.yaml", tmp_path / "named.yaml"
    own.write_text("sandbox: bwrap\n")
    guest.write_text("sandbox: none\n")
    named.write_text("sandbox: none\n")
    assert load_config([own, guest], guest=guest).sandbox == "bwrap"
    assert load_with_origins([own, guest], guest)[0].sandbox == "bwrap"
    assert load_config([own, guest, named], guest=guest).sandbox == "none"
    guest.write_text("sandbox: bwrap\n")
    assert load_config([guest], guest=guest).sandbox == "bwrap"


def test_a_repository_shortens_no_time_in_the_trash(tmp_path: Path) -> None:
    """What a person wants to be kept is kept as long as he says; without a word of his the repository's counts."""
    own, guest = tmp_path / "config.yaml", tmp_path / "moderator.yaml"
    own.write_text("trash: {days: 90}\n")
    for days, kept in ((0, 90), (120, 120)):
        guest.write_text(f"trash: {{days: {days}}}\n")
        assert load_config([own, guest], guest=guest).trash_days == kept
        assert load_config([guest], guest=guest).trash_days == days


@pytest.mark.parametrize(
    "arguments", [("backends",), ("route", "TASKS"), ("run", "TASKS", "--dry-run"), ("run", "TASKS")]
)
@pytest.mark.some(1)
def test_backends_of_a_repositorys_own_need_agreement_too(
    repository: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """Looking whether they are there starts them, so that asks as well."""
    probe = ["sh", "-c", f"touch '{tmp_path}/made'; echo 1.0"]
    settings = {"backends": {"mine": {"argv": ["true"], "probe": probe}}}
    settings |= {"gear3": {"backend_routing": {"enabled": True, "default_backend": "mine"}}}
    (repository / "moderator.yaml").write_text(json.dumps(settings))
    tasks = task_list(tmp_path / "tasks.yaml", {"id": "one", "prompt": "do it", "backend": "mine"})
    words = [str(tasks) if word == "TASKS" else word for word in arguments]
    refused = moderator(repository, *words)
    assert (refused.returncode, "backends: " in refused.stderr, (tmp_path / "made").exists()) == (3, True, False)
    assert moderator(repository, "trust", "--yes").returncode == 0
    moderator(repository, *words)
    assert (tmp_path / "made").exists()


def test_what_was_agreed_to_is_what_is_executed(repository: Path, tmp_path: Path) -> None:
    """The file is read once, for the comparison and for the run, so what stands there a moment later has no say."""
    agreements().agree(str(repository), {"setup": ["touch made"]})
    later = (
        "echo 'setup: touch other' > moderator.yaml; echo x"  # executed once it has been compared, before a task begins
    )
    listed = task_list(tmp_path / "tasks.yaml", {"id": "one", "run": "true", "foreach": {"command": later}})
    assert moderator(repository, "run", listed, "--progress", "none").returncode == 0
    assert (repository / "moderator.yaml").read_text() == "setup: touch other\n"
    tree = Path(f"{repository}.moderator", "tasks", "one-x")
    assert sorted(path.name for path in tree.iterdir()) == [".git", "a.txt", "made"]


def test_whose_word_it_is_decides(
    repository: Path, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the person's own configuration says, or a file that he names, needs no agreement; what the repository's says does."""
    manager = GitManager(repository)

    def needs_agreement() -> bool:
        try:
            require_agreement(manager, configuration(manager))
        except NotTrusted:
            return True
        return False

    named = tmp_path / "named.yaml"
    named.write_text("setup: touch mine\n")
    assert needs_agreement()
    with monkeypatch.context() as patch:
        patch.setenv("MODERATOR_CONFIG", str(named))
        assert not needs_agreement()
        patch.setenv("MODERATOR_CONFIG", str(repository / "moderator.yaml"))
        assert not needs_agreement()
    (home / ".config" / "moderator").mkdir(parents=True)
    (home / ".config" / "moderator" / "config.yaml").write_text("setup: touch mine\n")
    assert needs_agreement()
    (repository / "moderator.yaml").unlink()
    assert not needs_agreement()


def test_a_person_is_asked_and_may_say_no(repository: Path) -> None:
    """On a terminal the question is put; only a yes is written down."""
    for answer, code in ((b"n\n", 3), (b"y\n", 0)):
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            command("trust"), cwd=repository, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as asking:
            os.close(theirs)
            os.write(ours, answer)
            _, said = asking.communicate(timeout=30)
        os.close(ours)
        assert (asking.returncode, b"Execute these" in said) == (code, True)
        agreed = agreements().of(str(repository))
        assert agreed == (None if code else {"setup": ["touch made"]})


def test_a_persons_state_is_outside_every_repository() -> None:
    """By the XDG convention: an absolute XDG_STATE_HOME, or below the home; ports meet by machine, whatever it is called."""
    assert state_home({"XDG_STATE_HOME": "/s", "HOME": "/h"}) == Path("/s/moderator")
    assert state_home({"XDG_STATE_HOME": "relative", "HOME": "/h"}) == Path("/h/.local/state/moderator")
    assert ports_folder({"HOME": "/h"}) == Path("/h/.local/state/moderator/ports", os.uname().nodename)
