"""Files of a workspace that are made of templates: into their place whole, over nothing of anybody's, and told from work."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moderator.errors import ConfigurationError, EnvironmentProblem, WouldLoseWork
from moderator.furnishing import Carry, Furnishing, Render
from moderator.git import rendering
from moderator.git.entries import RENDERED, RENDERING
from moderator.git.manager import GitManager
from moderator.git.pool import PoolLimits
from moderator.git.rendering import Template
from moderator.git.values import Workspace
from repos import git, make_repository
from workspaces import context, files

TRACKED = {
    ".gitignore": ".env*\n/deep/\nmine.tpl\n:*\n-*\n",
    "a.tpl": "a\n",
    "plain/x": "x\n",
    ":(glob)*.tpl": "magic\n",
    "-x '\"\\.tpl": "dash\n",
}
ENV = Render("a.tpl", ".env")
DEEP = Render("a.tpl", "deep/er/.env")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    made = make_repository(tmp_path / "sample", [("first", TRACKED)])
    (made / "mine.tpl").write_bytes(b"\xff\r\n\0")
    (made / "mine.tpl").chmod(0o600)
    return made


def workspace_of(repository: Path, **options: Any) -> tuple[GitManager, Workspace]:
    manager = GitManager(repository, **options)
    with manager.create_workspace(context(repository.parent, "one")) as workspace:
        return manager, workspace


def put(manager: GitManager, workspace: Workspace, *wanted: Render, content: bytes = b"new\n") -> list[str]:
    return manager.write_rendered(workspace, [Template(one, content) for one in wanted], "memo")


def test_a_template_is_the_workspaces_own_or_one_that_is_ignored(repository: Path) -> None:
    """Its bytes are taken as they are, and its permissions; before there is a workspace those of the commit count."""
    os.chmod(repository / "a.tpl", 0o640)
    manager, workspace = workspace_of(repository)
    wanted = [ENV, Render("mine.tpl", ".env.mine")]
    odd = [Render(name, name.removesuffix(".tpl")) for name in TRACKED if name[0] in ":-"]
    head = git(repository, "rev-parse", "HEAD").strip()
    found = manager.templates_at(head, [*wanted, *odd])
    assert [one.content for one in found] == [b"a\n", b"\xff\r\n\0", b"magic\n", b"dash\n"]
    assert manager.write_rendered(workspace, found, "") == []
    assert [Path(workspace.path, one.target).read_bytes() for one in odd] == [b"magic\n", b"dash\n"]
    Path(workspace.path, "a.tpl").write_bytes(b"")
    Path(workspace.path, "a.tpl").chmod(0o755)
    found = manager.templates_in(workspace, wanted)
    assert [(one.content, oct(one.mode)) for one in found] == [(b"", "0o755"), (b"\xff\r\n\0", "0o600")]
    assert manager.write_rendered(workspace, found, "é") == []
    there = Path(workspace.path, ".env.mine")
    assert (there.read_bytes(), oct(there.stat().st_mode), manager.rendered_in(workspace)) == (
        b"\xff\r\n\0",
        "0o100600",
        "é",
    )
    Path(workspace.path, "a.tpl").unlink()
    assert manager.templates_in(workspace, wanted)[0].content == b"a\n"
    (repository / "new.tpl").touch()
    os.symlink("a.tpl", repository / "mine-link.tpl")
    os.mkfifo(repository / ".env.pipe")
    os.truncate(repository / "mine.tpl", rendering.LARGEST + 1)
    for source, why in (
        ("none.tpl", "there is no 'none.tpl'"),
        ("new.tpl", "'new.tpl' is in the main checkout, and neither at"),
        ("plain", "'plain' is a folder there"),
        ("mine-link.tpl", "is no file, or a symbolic link is on the way to it"),
        (".env.pipe", "is no file, or a symbolic link"),
        ("mine.tpl", "is 16777217 bytes long"),
        ("../sample/a.tpl", "from must be the path of a file"),
        ("/a.tpl", "from must be the path of a file"),
        ("./a.tpl", "from must be the path of a file"),
    ):
        with pytest.raises(ConfigurationError, match=f"'.env' cannot be rendered in workspaces: .*{why}"):
            manager.templates_at(head, [Render(source, ".env")])


def test_a_place_is_inside_ignored_and_free(repository: Path, tmp_path: Path) -> None:
    """What git tracks or does not ignore is refused beforehand; a link that somebody put on the way leads nowhere."""
    manager, workspace = workspace_of(repository)
    for target, why in (
        ("plain/x", "git tracks what is there"),
        ("plain/x/.env", "'plain/x' is a file there"),
        ("out", "git does not ignore it there"),
        (".git/config", "to must be the path of a file"),
        ("deep/../../x", "to must be the path of a file"),
    ):
        with pytest.raises(ConfigurationError, match=why):
            manager.templates_at(workspace.base, [Render("a.tpl", target)])
    for pair in ((ENV, ENV), (DEEP, Render("a.tpl", "deep"))):
        with pytest.raises(ConfigurationError, match=r"another file is rendered|is a file that is rendered too"):
            manager.templates_at(workspace.base, [*pair])
    outside = tmp_path / "outside"
    outside.mkdir()
    os.symlink(outside, Path(workspace.path, "deep"))
    with pytest.raises(ConfigurationError, match="'deep' is no folder there, or a symbolic link"):
        put(manager, workspace, DEEP)
    os.symlink(outside / "x", Path(workspace.path, ".env"))
    os.symlink(outside, Path(workspace.path, ".git.rendering"))
    assert put(manager, workspace, ENV) == [".env"]
    Path(workspace.path, ".env").unlink()
    Path(workspace.path, ".env").mkdir()
    assert (put(manager, workspace, ENV), list(outside.iterdir())) == ([".env"], [])
    with pytest.raises(ConfigurationError, match="git does not ignore it there"):
        put(manager, workspace, Render("a.tpl", "out"))
    Path(workspace.path, ".env").rmdir()
    Path(workspace.path, "deep").unlink()
    entry = Path(Path(workspace.path, ".git").read_text().split()[1])
    (entry / "moderator.rendered").unlink()
    os.mkfifo(entry / "moderator.rendered")
    for name in ("new", "ignore"):  # where a task can put links too
        (outside / name).write_text("precious\n")
        os.symlink(outside / name, entry / f"moderator.rendered.{name}")
    assert (put(manager, workspace, ENV), manager.check_removal(workspace).findings) == ([], [])
    assert {one.read_text() for one in outside.iterdir()} == {"precious\n"}


def test_what_is_as_it_was_rendered_keeps_nothing_and_is_rendered_anew(repository: Path) -> None:
    """Also in the place of what was carried; what somebody changed is left, keeps the workspace and goes to the trash."""
    (repository / ".env.carried").write_text("carried\n")
    (repository / ".env").write_text("never carried\n")
    (repository / ".env.last").write_text("the last copy\n")
    wanted = (ENV, DEEP, Render("a.tpl", ".env.carried"))
    manager = GitManager(repository, pool=PoolLimits(1, recycle="keep_ignored"))
    given = context(repository.parent, "one")
    carrying = Furnishing((Carry(".env"), Carry(".env.carried"), Carry(".env.last")), render=(ENV,))
    manager.create_workspace(given, furnishing=carrying).release()
    workspace = manager.find("one")
    assert files(workspace.path).keys() == {*TRACKED, ".env.carried", ".env.last"}
    (repository / ".env.last").unlink()
    assert put(manager, workspace, Render("a.tpl", ".env.last")) == [".env.last"]
    assert Path(workspace.path, ".env.last").read_text() == "the last copy\n"
    Path(workspace.path, ".env.last").unlink()
    for content in (b"first\n", b"x" * 5_000_000):
        assert put(manager, workspace, *wanted, content=content) == []
        assert {one.target: Path(workspace.path, one.target).read_bytes() for one in wanted} == dict.fromkeys(
            (".env", "deep/er/.env", ".env.carried"), content
        )
        assert manager.check_removal(workspace).findings == []
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, unlimited[1]))  # as a disk that is full
    with pytest.raises(EnvironmentProblem):
        put(manager, workspace, *wanted, content=b"y" * 2000)
    resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert Path(workspace.path, ".env").read_bytes() == b"x" * 5_000_000
    assert manager.check_removal(workspace).findings == []
    with open(Path(Path(workspace.path, ".git").read_text().split()[1], RENDERED), "ab") as memory:
        memory.write(b"1 33188 6 0 %d 0 0 0 0 .env.last\0" % 2**62)  # a task can write there, of a time to come too
    assert put(manager, workspace, ENV, content=b"alone\n") == []
    assert manager.check_removal(workspace).findings == []
    theirs = Path(workspace.path, RENDERING, "work")
    theirs.parent.mkdir()
    theirs.write_text("a task's\n")
    with pytest.raises(EnvironmentProblem, match="'work' in"):
        put(manager, workspace, ENV)
    theirs.unlink()
    Path(workspace.path, ".env").write_bytes(b"mine\n")
    Path(workspace.path, "deep/er/.env").chmod(0o644)
    assert put(manager, workspace, *wanted) == [".env", "deep/er/.env"]
    assert Path(workspace.path, ".env").read_bytes() == b"mine\n"
    with pytest.raises(WouldLoseWork):
        manager.remove_workspace(workspace)
    assert manager.check_removal(workspace, rescue=True).left == (".env", "deep/")
    Path(workspace.path, ".env").unlink()
    Path(workspace.path, "deep/er/.env").unlink()
    assert put(manager, workspace, *wanted) == []
    manager.remove_workspace("one", recycle=True)
    [spare] = manager.pool_status().spares
    os.chmod(spare.path, 0o755)
    assert files(spare.path).keys() == TRACKED.keys()


@pytest.mark.parametrize("is_again", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_process_killed_at_any_step_leaves_nothing_half_made(is_again: bool, repository: Path) -> None:
    """There is the file as it was, the new one, or none; none of it is anybody's work, and the next time it is rendered."""
    manager, workspace = workspace_of(repository)
    steps, killed = 0, True
    while killed:
        steps += 1
        Path(workspace.path, ".env").unlink(missing_ok=True)
        if is_again:
            assert put(manager, workspace, ENV, content=b"old\n") == []
        killed = _killed_before(steps, lambda: put(manager, workspace, ENV))
        there = Path(workspace.path, ".env")
        assert not there.exists() or there.read_bytes() in ([b"old\n", b"new\n"] if is_again else [b"new\n"])
        status = git(workspace.path, "status", "--porcelain", "--untracked-files=all")
        assert status == ""
        assert put(manager, workspace, ENV, content=b"next\n") == []
        assert (there.read_bytes(), manager.check_removal(workspace).findings) == (b"next\n", [])
    assert steps > 8


def _killed_before(step: int, act: Callable[[], object]) -> bool:
    """Do something in a forked process that is killed before its n-th change of the disk; whether it was."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    left = step

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        changes = event in ("os.rename", "os.link", "os.mkdir", "os.rmdir", "os.remove", "os.utime", "os.chmod")
        if changes or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    try:
        sys.addaudithook(watch)
        act()
    finally:
        os._exit(0)
