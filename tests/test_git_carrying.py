"""What git ignores is carried from the main checkout into new workspaces, and told from work when they go."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderator.errors import ConfigurationError, WouldLoseWork
from moderator.execution import retrying
from moderator.furnishing import NOTHING, Carry, Furnishing, fault_in_path
from moderator.git import carried
from moderator.git.contents import Worktree
from moderator.git.entries import CARRIED
from moderator.git.manager import GitManager
from moderator.git.pool import PoolLimits
from moderator.git.repository import Repository
from moderator.git.survey import Watch
from moderator.git.unsaved import look, look_again
from moderator.git.values import Workspace
from moderator.models import Task
from repos import git, make_repository
from runs import shell, words
from workspaces import context, files, killed_before, listing

IGNORED = {
    ".env": "SECRET=1\n",
    "deps/a/index.js": "a\n",
    "deps/a/lib/deep.js": "deep\n",
    "deps/b.js": "b\n",
    "packages/one/.env.local": "one\n",
    "packages/two/.env.local": "two\n",
    "build/cache/x.bin": "x\n",
}
TRACKED = {
    ".gitignore": ".env*\n/deps/\nbuild/\n*.log\n",
    "README.md": "# Sample\n",
    "packages/one/p.txt": "1\n",
    "packages/two/p.txt": "2\n",
}
EVERYTHING = Furnishing((Carry(".env"), Carry("deps"), Carry("packages/*/.env.local")))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with ignored files of all kinds in its main checkout."""
    made = make_repository(tmp_path / "sample", [("first", TRACKED)])
    for name, text in IGNORED.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(text)
    (made / "deps/empty").mkdir()
    os.symlink("a/index.js", made / "deps/link")
    (made / ".env").chmod(0o600)
    (made / "deps/b.js").chmod(0o755)
    (made / "deps/a").chmod(0o555)
    os.utime(made / "deps/b.js", ns=(1_600_000_000_123_456_789, 1_500_000_000_987_654_321))
    return made


def furnished(repository: Path, furnishing: Furnishing = EVERYTHING, task_id: str = "one") -> Workspace:
    manager = GitManager(repository)
    with manager.create_workspace(context(repository.parent, task_id), furnishing=furnishing) as workspace:
        return workspace


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root can mount a file system")
@pytest.mark.parametrize("kind", ["btrfs", "xfs"])
def test_a_file_system_that_can_share_bytes_shares_what_is_carried(tmp_path: Path, kind: str) -> None:
    """A file is carried, and comes with a spare, without a byte of it being written again, and each copy is changed for itself."""
    if shutil.which(f"mkfs.{kind}") is None or shutil.which("filefrag") is None:
        pytest.skip(f"there is no mkfs.{kind}, or no filefrag")
    image, disk = tmp_path / "image", tmp_path / "disk"
    disk.mkdir()
    with image.open("wb") as file:
        file.truncate(400 * 10**6)
    subprocess.run([f"mkfs.{kind}", "-f", image], check=True, capture_output=True)
    if subprocess.run(["mount", "-o", "loop", image, disk], capture_output=True).returncode:
        pytest.skip(f"nothing can be mounted here, or no {kind}")
    try:
        made = make_repository(disk / "sample", [("first", TRACKED)])
        (made / "deps").mkdir()
        (made / "deps/large").write_bytes(os.urandom(10**7))

        def extents(path: Path) -> list[str]:
            os.sync()
            told = subprocess.run(["filefrag", "-v", path], capture_output=True, text=True, check=True).stdout
            return [line for line in told.splitlines() if line.lstrip()[:1].isdigit()]

        manager = GitManager(made, pool=PoolLimits(1), furnishing=Furnishing((Carry("deps"),)))
        manager.create_workspace(context(disk, "one")).release()
        manager.fill_pool(str(disk / "checkouts"), "main", 1)
        manager.create_workspace(context(disk, "two")).release()
        one, two = (disk / "checkouts/tasks" / name / "deps/large" for name in ("one", "two"))
        assert extents(one) == extents(two) == extents(made / "deps/large")
        assert all("shared" in line for line in extents(one))
        one.write_bytes(b"changed")
        assert two.read_bytes() == (made / "deps/large").read_bytes() != one.read_bytes()
    finally:
        subprocess.run(["umount", disk], check=True)


def described(folder: Path) -> dict[str, object]:
    """What an ordinary copy keeps of each path: mode, time, content."""
    found = {}
    for name, content in {str(Path(path).relative_to(folder)): what for path, what in listing(folder).items()}.items():
        stands = (folder / name).lstat()
        found[name] = (oct(stands.st_mode), 0 if (folder / name).is_symlink() else stands.st_mtime_ns, content)
    return found


@pytest.mark.parametrize("by", ["copy", "clone"])
def test_what_is_carried_is_as_an_ordinary_copy(by: str, repository: Path) -> None:
    """Modes, times, links and empty folders are those of the original; git sees none of it, and no original changes."""
    before = listing(repository)
    workspace = furnished(
        repository, Furnishing((Carry(".env", by), Carry("deps/", by), Carry("packages/**/.env*", by)))
    )
    there = Path(workspace.path)
    assert described(there / "deps") == described(repository / "deps")
    assert (there / ".env").lstat().st_mode == (repository / ".env").lstat().st_mode
    carried = {name: text for name, text in IGNORED.items() if not name.startswith("build")}
    assert {name: (there / name).read_text() for name in carried} == carried
    assert not (there / "build").exists()
    assert git(there, "status", "--porcelain") == ""
    (there / ".env").write_text("SECRET=2\n")
    ours = str(repository / ".git")
    assert {path: what for path, what in listing(repository).items() if not path.startswith(ours)} == {
        path: what for path, what in before.items() if not path.startswith(ours)
    }


def test_a_link_leads_to_the_original(repository: Path) -> None:
    """Where git ignores a link too; a pattern for folders only would let a task commit it, and is refused."""
    workspace = furnished(repository, Furnishing((Carry(".env", "link"), Carry("build/cache", "link"))))
    assert os.readlink(Path(workspace.path, "build/cache")) == str(repository / "build/cache")
    assert Path(workspace.path, ".env").read_text() == "SECRET=1\n"
    GitManager(repository).remove_workspace("one")
    assert (repository / "build/cache/x.bin").read_text() == "x\n"
    with pytest.raises(ConfigurationError, match=r"'deps' cannot be carried .* as a link it would not be ignored"):
        furnished(repository, Furnishing((Carry("deps", "link"),)), "two")
    assert [one.task_id for one in GitManager(repository).workspaces()] == []


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("nope", "nothing in '.*' matches it"),
        ("*.log", "nothing in '.*' matches it"),
        (".env/", "nothing in '.*' matches it"),
        ("README.md", "git tracks 'README.md'"),
        ("packages/*/*", "git tracks 'packages/one/p.txt' and|git tracks 'packages/one/p.txt', 'packages/two/p.txt'"),
        ("packages", "git tracks 'packages/one/p.txt'"),
        ("loose", "git does not ignore 'loose'"),
        ("/etc/hostname", "relative to the top"),
        ("a/../.env", "without '..'"),
        (".git/config", "nothing of git's own"),
        ("away/secret", "'away' is a symbolic link, to"),
        ("deps/out", "leads out of the repository, to '.*elsewhere'"),
    ],
)
def test_what_cannot_be_carried_is_an_error_before_anything_is_made(path: str, why: str, repository: Path) -> None:
    """It says where it was written, what is wrong and what to do; the repository and its neighbourhood are as before."""
    (repository / "loose").write_text("x")
    (repository.parent / "elsewhere").mkdir()
    (repository.parent / "elsewhere/secret").write_text("x")
    os.symlink("../elsewhere", repository / "away")
    os.symlink(repository.parent / "elsewhere", repository / "deps/out")
    given = context(repository.parent, "one")
    before = listing(repository.parent)
    with pytest.raises(
        ConfigurationError, match=f"^tasks.yaml:3:9: {path!r} cannot be carried.*({why})|{why}"
    ) as caught:
        GitManager(repository).create_workspace(given, furnishing=Furnishing((Carry(path, where="tasks.yaml:3:9"),)))
    assert (caught.value.exit_code, bool(caught.value.hint)) == (2, True)
    assert caught.value.message.startswith("tasks.yaml:3:9: ")
    after = {name: what for name, what in listing(repository.parent).items() if "/.git/moderator" not in name}
    assert after == before


def test_nothing_that_is_in_the_workspace_is_overwritten(repository: Path) -> None:
    """What the base has stays as the base has it, the rest comes beside it; what it does not ignore is never carried."""
    git(repository, "switch", "-q", "-c", "older")
    git(repository, "add", "-f", "deps/b.js")
    git(repository, "commit", "-q", "-m", "deps are partly ours")
    git(repository, "switch", "-q", "main")
    (repository / "deps").mkdir(exist_ok=True)
    (repository / "deps/b.js").write_text("other\n")
    manager = GitManager(repository)
    given = context(repository.parent, "one", base="older")
    with manager.create_workspace(given, furnishing=EVERYTHING) as workspace:
        assert files(Path(workspace.path, "deps")) == {
            "a/index.js": b"a\n", "a/lib/deep.js": b"deep\n", "b.js": b"b\n", "link": "a/index.js",
        }  # fmt: skip
        assert git(Path(workspace.path), "status", "--porcelain") == ""
    manager.remove_workspace(given)
    (repository / ".gitignore").write_text("")
    git(repository, "commit", "-q", "-a", "-m", "nothing is ignored")
    git(repository, "checkout", "-q", "HEAD~1", "--", ".gitignore")
    with pytest.raises(ConfigurationError, match="git does not ignore it, so a task would commit it"):
        manager.create_workspace(context(repository.parent, "two"), furnishing=EVERYTHING)
    assert manager.workspaces() == []
    with pytest.raises(ConfigurationError, match="git does not ignore it, so a task would commit it"):
        manager.check_furnishing(EVERYTHING, "main")
    manager.check_furnishing(EVERYTHING, "main~1")


def test_worktreeinclude_of_the_main_checkout_is_followed(repository: Path) -> None:
    """Its patterns are those of .gitignore; what git does not ignore is not carried, and one in a workspace is not read."""
    (repository / ".worktreeinclude").write_text(
        "# for every workspace\n.env*\n!packages/two/.env*\ndeps/\nREADME.md\nnope\n"
    )
    included = Furnishing(included=True)
    workspace = furnished(repository, included)
    carried = {name for name in files(workspace.path) if name not in TRACKED}
    assert carried == {
        ".env",
        "deps/a/index.js",
        "deps/a/lib/deep.js",
        "deps/b.js",
        "deps/link",
        "packages/one/.env.local",
    }
    assert included.with_own([], None, None) == NOTHING
    (repository / ".worktreeinclude").rename(Path(workspace.path, ".worktreeinclude"))
    manager = GitManager(workspace.path, furnishing=included)
    with manager.create_workspace(context(repository.parent, "two")) as other:
        assert files(other.path).keys() == TRACKED.keys()


def test_removal_tells_what_was_carried_from_new_work(repository: Path) -> None:
    """Unchanged it is no reason to refuse, nor to be kept; what a task changed or added is listed by name and stays."""
    workspace, manager = furnished(repository), GitManager(repository)
    assert manager.check_removal("one").findings == []
    removal = manager.remove_workspace("one")
    assert removal and (removal.left, removal.rescue, removal.kept_until) == ((), None, None)
    workspace = furnished(repository, task_id="two")
    there = Path(workspace.path)
    stamps = (there / "deps/b.js").stat()
    (there / "deps/b.js").write_text("B\n")  # the same length, and the same times
    os.utime(there / "deps/b.js", ns=(stamps.st_atime_ns, stamps.st_mtime_ns))
    (there / "deps/new").mkdir()
    (there / "deps/new/file").write_text("new\n")
    (there / ".env").unlink()
    (there / "other.log").write_text("log\n")
    with pytest.raises(WouldLoseWork) as caught:
        manager.remove_workspace("two")
    assert caught.value.findings == ("ignored by git, so in no commit: deps/b.js, deps/new/, other.log",)
    removal = manager.remove_workspace("two", rescue=True)
    assert removal and removal.left == ("deps/b.js", "deps/new/", "other.log")
    back = manager.undo_removal("two")
    assert files(Path(back.path, "deps"))["new/file"] == b"new\n"
    back.release()
    # The memory came back with it, so the same is told again; without it, all of it counts.
    with pytest.raises(WouldLoseWork, match="lose work") as caught:
        manager.remove_workspace("two")
    assert caught.value.findings == ("ignored by git, so in no commit: deps/b.js, deps/new/, other.log",)
    [memory] = (repository / ".git/worktrees").glob("*/moderator.carried")
    memory.write_bytes(memory.read_bytes()[:-20])
    with pytest.raises(WouldLoseWork) as caught:
        manager.remove_workspace("two")
    assert "packages/two/.env.local" in caught.value.findings[0]
    memory.write_bytes(b"moderator of another time\0")
    assert manager.check_removal("two", rescue=True).left == (
        "deps/", "other.log", "packages/one/.env.local", "packages/two/.env.local",
    )  # fmt: skip


VENDOR = Furnishing((Carry("deps"),))


@pytest.fixture
def vendored(repository: Path) -> Path:
    """The same with a repository of its own in an ignored folder: commits, logs, a stash and edits that are nowhere else."""
    lib = make_repository(repository / "deps/lib", [("first", {"a.c": "a\n", "b.c": "b\n"})])
    git(lib, "config", "user.name", "somebody")
    for text in ("two", "three"):
        git(lib, "commit", "-q", "--amend", "-m", text)
    (lib / "b.c").write_text("stashed\n")
    git(lib, "stash", "-q")
    (lib / "b.c").write_text("staged\n")
    git(lib, "add", "b.c")
    (lib / "a.c").write_text("edited\n")
    (lib / "new.c").write_text("new\n")
    return repository


def test_a_repository_that_was_carried_is_no_work_as_long_as_the_main_checkout_has_it(vendored: Path) -> None:
    """As it came it goes without a question; looked at by git it stays in the trash; new work, or the last copy, refuses."""
    manager, lib = GitManager(vendored), vendored / "deps/lib"
    asked = vendored.parent / "asked"
    remote = {"url": f"file://{vendored}", "promisor": "true", "uploadpack": f"touch {asked}; false"}
    for key, value in {"core.repositoryFormatVersion": "1", "extensions.partialClone": "origin"}.items():
        git(lib, "config", key, value)
    for key, value in remote.items():
        git(lib, "config", f"remote.origin.{key}", value)
    furnished(vendored, VENDOR, "as it came")
    [entry] = (vendored / ".git/worktrees").iterdir()
    with open(entry / CARRIED, "ab") as memory:
        memory.write(b"1 33188 0 0 0 0 0 0 0 /of/no/tree\0")  # a task can write there
    assert manager.check_removal("as it came").findings == []
    removal = manager.remove_workspace("as it came")
    assert removal and (removal.left, removal.kept_until) == ((), None)
    looked_at = Path(furnished(vendored, VENDOR, "looked at").path, "deps/lib")
    git(looked_at, "status")
    (looked_at / ".git/note").write_text("a tool's\n")
    with pytest.raises(WouldLoseWork, match="lose work"):
        manager.remove_workspace("looked at")
    assert "deps/lib/" in manager.check_removal("looked at", rescue=True).left

    def logged(lib: Path) -> None:
        git(lib, "stash", "-q")
        git(lib, "commit", "-q", "--allow-empty", "-m", "mine")
        git(lib, "reset", "-q", "--hard", "HEAD~1")
        git(lib, "stash", "pop", "-q", "--index")

    work: dict[str, Callable[[Path], object]] = {
        "commits": lambda lib: git(lib, "commit", "-q", "--allow-empty", "-m", "mine"),
        "commits in a log": logged,
        "edit": lambda lib: (lib / "a.c").write_text("EDITED\n"),
        "new file": lambda lib: (lib / "d.c").write_text("d\n"),
        "new content": lambda lib: (lib / "new.c").write_text("NEW\n"),
        "staged": lambda lib: git(lib, "update-index", "--cacheinfo", f"100644,{git(lib, 'rev-parse', 'HEAD:a.c')},b.c"),
        "deleted": lambda lib: (lib / "b.c").unlink(),
        "operation": lambda lib: (lib / ".git/MERGE_HEAD").write_text(git(lib, "rev-parse", "HEAD") + "\n"),
        "a repository in it": lambda lib: make_repository(lib / "inner", [("first", {"i": "i\n"})]),
    }  # fmt: skip
    for what, spoil in work.items():
        spoil(Path(furnished(vendored, VENDOR, what).path, "deps/lib"))
        with pytest.raises(WouldLoseWork, match="hold what is nowhere else"):
            manager.check_removal(what, rescue=True)
    assert manager.remove_workspace("looked at", rescue=True)
    assert not asked.exists()  # a partial clone fetches what it is asked for and has not


_LONG = [pytest.param(how, marks=pytest.mark.slow) for how in ("a link to the copy", "gone from its logs")]


@pytest.mark.parametrize("how", ["moved away", "gone from its refs", *_LONG])
def test_the_last_copy_of_a_repository_refuses(how: str, vendored: Path) -> None:
    """Whatever became of the main checkout's own, also between the two looks of a removal."""
    manager, lib = GitManager(vendored), vendored / "deps/lib"
    furnished(vendored, VENDOR)
    [entry] = (vendored / ".git/worktrees").iterdir()
    opened, worktree = Repository.open(vendored), Worktree(str(vendored.parent / "checkouts/tasks/one"), str(entry))
    watch, before = Watch.begin(str(vendored.parent)), look(opened, worktree, None)
    assert (before.carried, before.nested) == (("deps/lib",), ())
    assert look_again(opened, worktree, None, before, watch)
    match how:
        case "moved away":
            lib.rename(vendored / "elsewhere")
        case "a link to the copy":
            shutil.rmtree(vendored / "deps")
            (vendored / "deps").symlink_to(Path(worktree.tree, "deps"))
        case "gone from its logs":
            git(lib, "reflog", "expire", "--expire=now", "--all")
        case "gone from its refs":
            git(lib, "stash", "clear")
    assert look_again(opened, worktree, None, before, watch) is None
    with pytest.raises(WouldLoseWork, match="hold what is nowhere else"):
        manager.remove_workspace("one", rescue=True)


def test_the_last_copy_of_what_was_carried_is_no_copy(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the main checkout has lost, or has otherwise now, is told by name and stays; content counts, not who wrote it."""
    manager = GitManager(repository, pool=PoolLimits(1, recycle="pristine"))
    linked = replace(EVERYTHING, carry=(*EVERYTHING.carry, Carry("build/cache", "link")))
    for task_id in ("one", "two"):
        furnished(repository, linked, task_id)
    (repository / "deps/a").chmod(0o755)
    (repository / ".env").write_text("SECRET=1\n")  # anew, and the same
    (repository / "deps/b.js").chmod(0o644)
    os.replace(repository / "deps/a/lib", repository / "deps/a/lib2")
    os.replace(repository / "deps/a/lib2", repository / "deps/a/lib")
    shutil.rmtree(repository / "build")  # there was a link to it, and nothing else
    assert manager.check_removal("one").findings == []
    with monkeypatch.context() as bounded:
        bounded.setattr(carried, "_MOST_READ", 10)
        assert manager.check_removal("one", rescue=True).left == ("deps/b.js",)  # too much to compare is not compared
    stamps = (repository / "deps/b.js").stat()
    (repository / "deps/b.js").write_text("B\n")
    os.utime(repository / "deps/b.js", ns=(stamps.st_atime_ns, stamps.st_mtime_ns))
    (repository / "deps/link").unlink()
    (repository / "deps/link").symlink_to("b.js")
    (repository / ".env").unlink()
    shutil.rmtree(repository / "deps/a")
    lost = (".env", "deps/a/", "deps/b.js", "deps/link")
    with pytest.raises(WouldLoseWork) as caught:
        manager.remove_workspace("one")
    assert caught.value.findings == (f"ignored by git, so in no commit: {', '.join(lost)}",)
    removal = manager.remove_workspace("one", rescue=True, recycle=True)
    assert removal and (removal.left, removal.kept_until is None) == (lost, False)
    assert manager.pool_status().ready == 0
    assert Path(str(manager.trash_of(removal)), ".env").read_text() == "SECRET=1\n"
    shutil.move(repository, repository.parent / "moved")  # so nobody knows where the originals are
    git(repository.parent / "moved", "worktree", "repair", str(repository.parent / "checkouts/tasks/two"))
    left = GitManager(repository.parent / "moved").check_removal("two", rescue=True).left
    assert {".env", "deps/b.js", "packages/one/.env.local"} <= set(left)


def test_a_task_and_an_attempt_after_it_get_what_was_asked_for(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a task's own words and the configuration's the task's count; what is left of it goes with its workspace."""
    from moderator import Orchestrator

    monkeypatch.setattr(retrying, "SHORTEST_PAUSE", 0.01)
    backends = {
        "bad": {"argv": ["sh", "-c", "rm .env; echo rate limit >&2; exit 1"], "retry": ["rate limit"]},
        "good": {"argv": ["sh", "-c", "test -f .env"]},
    }
    config = {"carry": [".env", {"path": "build/cache", "by": "link"}], "keep": "never", "backends": backends}
    tasks = [
        shell("one", "test -f .env && test -L build/cache && test ! -e deps && echo > new.txt"),
        shell("two", "test -f deps/b.js && test ! -e .env && echo x > deps/a.log", carry=[Carry("deps")]),
        shell("three", "test ! -e .env", carry=[]),
        Task("four", "Look twice", prompt="Is it there?", backend=("bad", "good")),
    ]
    summary = Orchestrator(config, repository).run(tasks)
    assert [words(one) for one in summary.results] == ["succeeded", "unchanged", "unchanged", "unchanged"]
    assert summary.results[3].attempt == 2
    assert [one.notes for one in summary.results[:3]] == [
        [],
        ["what git ignores stays in the trash for a time (moderator rescue list): deps/a.log"],
        [],
    ]
    assert GitManager(repository).workspaces() == []
    for level, wrong in (("full", True), ("branch", False)):  # in the main checkout everything is there anyway
        planned = Orchestrator({"carry": ["nope"]}, repository)
        if wrong:
            with pytest.raises(ConfigurationError, match="config: item 1 of carry: 'nope' cannot be carried"):
                planned.plan([shell("five")], level=level)
        else:
            git(repository, "stash", "-q", "-u")
            assert planned.plan([shell("five")], level=level).tasks


@pytest.mark.parametrize("recycle", ["pristine", "keep_ignored"])
@pytest.mark.some(1)
def test_a_spare_gets_what_is_of_today_and_nothing_of_yesterday(recycle: str, repository: Path) -> None:
    """A workspace comes back to the pool without what was carried, or not at all; a claim carries anew."""
    manager = GitManager(repository, pool=PoolLimits(1, recycle=recycle), furnishing=EVERYTHING)
    manager.create_workspace(context(repository.parent, "one")).release()
    manager.remove_workspace("one", recycle=True)
    [spare] = manager.pool_status().spares
    os.chmod(spare.path, 0o755)
    assert files(spare.path).keys() == TRACKED.keys()
    os.chmod(spare.path, 0)
    manager.drain_pool()
    manager.fill_pool(str(repository.parent / "checkouts"), "main", 1)
    (repository / ".env").write_text("SECRET=now\n")
    with manager.create_workspace(context(repository.parent, "two")) as workspace:
        there = Path(workspace.path)
        assert (manager.pool_status().ready, (there / ".env").read_text()) == (0, "SECRET=now\n")
        assert files(there / "deps") == files(repository / "deps")
        (there / ".env").write_text("SECRET=mine\n")
    assert manager.check_removal("two", rescue=True).left == (".env",)
    if recycle == "keep_ignored":
        removal = manager.remove_workspace("two", recycle=True)
        assert removal and (removal.left, manager.pool_status().spares) == ((".env",), ())
        (there.parent / "x").mkdir()
        # Without carrying, what is ignored does come back; whoever carries gets no spare that has something in its place.
        bare = GitManager(repository, pool=PoolLimits(1, recycle=recycle))
        with bare.create_workspace(context(repository.parent, "three")) as workspace:
            Path(workspace.path, ".env").write_text("SECRET=old\n")
        bare.remove_workspace("three", recycle=True)
        assert bare.pool_status().ready == 1
        with manager.create_workspace(context(repository.parent, "four")) as workspace:
            assert Path(workspace.path, ".env").read_text() == "SECRET=now\n"
        assert bare.pool_status().ready == 1


def test_two_workspaces_at_once_get_each_their_own(repository: Path) -> None:
    """Threads that carry the same at the same time do not meet."""
    manager = GitManager(repository, furnishing=EVERYTHING)
    made: dict[str, dict[str, bytes | str]] = {}

    def make(task_id: str) -> None:
        with manager.create_workspace(context(repository.parent, task_id)) as workspace:
            made[task_id] = files(workspace.path)

    threads = [threading.Thread(target=make, args=(f"t{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wanted = {name: text for name, text in files(repository).items() if not name.startswith("build")}
    assert made == {f"t{number}": wanted for number in range(4)}


@pytest.mark.parametrize(
    "step",
    [
        "os.mkdir .git.carrying",
        "open deep.js",
        "os.rename carried.new",
        "os.rename .git.carrying/1",
        "os.remove moderator.restoring",
    ],
)
@pytest.mark.some(2)
def test_a_process_killed_while_it_carries_leaves_nothing_half_made(step: str, repository: Path) -> None:
    """The next one makes the workspace anew and whole; what the dead one copied is not taken for anybody's work."""
    given = context(repository.parent, "one")
    assert killed_before(step, repository.parent, repository, "one", "furnish")
    manager = GitManager(repository)
    assert manager.status("one").state == "making"
    with manager.create_workspace(given, furnishing=EVERYTHING) as workspace:
        assert files(Path(workspace.path, "deps")) == files(repository / "deps")
        assert not Path(workspace.path, ".git.carrying").exists()
    assert (manager.removals(), manager.check_removal("one").findings) == ([], [])


def test_what_somebody_wrote_into_a_half_made_workspace_stays(repository: Path) -> None:
    """Only what is as it was carried goes; what was changed or added since stays in the trash, by name."""
    given = context(repository.parent, "one")
    assert killed_before("os.remove moderator.restoring", repository.parent, repository, "one", "furnish")
    there = Path(given.working_directory)
    (there / "deps/b.js").write_text("mine\n")
    (there / "note").write_text("mine\n")
    manager = GitManager(repository)
    manager.create_workspace(given).release()
    [removal] = manager.removals()
    assert (removal.half_made, sorted(removal.left)) == (True, ["deps/b.js", "note"])


def test_a_pipe_a_worktree_and_the_workspaces_themselves_are_refused(repository: Path) -> None:
    """A copied pointer would let two trees write into one entry, and nothing can be carried into itself."""
    os.mkfifo(repository / "build/pipe")
    with pytest.raises(ConfigurationError, match="'build/pipe' is neither a file nor a folder"):
        furnished(repository, Furnishing((Carry("build/pipe"),)))
    git(repository, "worktree", "add", "-q", "--detach", "build/tree")
    with pytest.raises(ConfigurationError, match=r"'build' .* 'build/tree' is a worktree"):
        furnished(repository, Furnishing((Carry("build"),)))
    shutil.rmtree(repository / "build/tree")
    inside = context(repository / "build", "one")
    with pytest.raises(ConfigurationError, match="the workspaces are in it"):
        GitManager(repository).create_workspace(inside, furnishing=Furnishing((Carry("build"),)))
    assert GitManager(repository).workspaces() == []


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0\n"), max_size=12))
def test_only_a_way_inside_can_be_named(path: str) -> None:
    """Whatever is not refused joins to something below the top, by its words alone."""
    if not fault_in_path(path):
        assert os.path.normpath(os.path.join("/top", path)).startswith("/top/")
