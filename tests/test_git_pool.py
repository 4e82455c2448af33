"""A workspace that was a spare is equal to a fresh one; a spare that anybody touched is no workspace, and nothing in it is lost."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from commandline import wait_until
from moderator.errors import EnvironmentProblem, ModeratorError, WorkspaceBusy, WorkspaceOccupied, WouldLoseWork
from moderator.git import pool as pool_module
from moderator.git.doctor.doctor import Doctor
from moderator.git.manager import GitManager
from moderator.git.pool import PoolLimits
from moderator.git.registry import Registry
from moderator.git.repository import Repository
from moderator.git.retiring import Wish
from moderator.git.survey import MANY
from moderator.git.values import Keeping, Workspace
from repos import Executable, Gitlink, Symlink, git, make_repository
from test_git_races import GONE_WHILE_READ, disturbed, race
from workspaces import DIRECTORY, FULL, context, files, killed_before

A: dict[str | bytes, Any] = {
    "README.md": "# Sample\n",
    "src/a.txt": "a\n",
    "src/deep/b.txt": "b\n",
    "tool.sh": Executable("#!/bin/sh\n"),
    "link": Symlink("README.md"),
    ".gitignore": ".env\nbuild/\n",
}
B: dict[str | bytes, Any] = {
    "src/a.txt": "another a\n",
    "src/deep/b.txt": None,
    "src/deep": "a file now\n",
    "tool.sh": "#!/bin/sh\n",
    "link": None,
    "link/inside": "a directory now\n",
}
PRISTINE = PoolLimits(4, recycle="pristine")


@pytest.fixture(scope="module", autouse=True)
def _in_the_same_second() -> Iterator[None]:
    """Nothing here is about how soon git trusts an index: a spare is made without the second that this costs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool_module, "_SAME_SECOND", 0.0)
        yield


class Yard:
    """A repository with two commits, its workspaces and its spares."""

    def __init__(self, folder: Path, limits: PoolLimits = PRISTINE, commits: Any = None, bare: bool = False) -> None:
        self.folder = folder
        self.repo = make_repository(folder / "repo", commits or [("a", A), ("b", B)], bare=bare)
        self.git_dir = self.repo if bare else self.repo / ".git"
        self.limits = limits
        self.git = GitManager(self.repo, pool=limits)
        self.a, self.b = git(self.repo, "rev-parse", "main~1"), git(self.repo, "rev-parse", "main")

    @property
    def root(self) -> str:
        return str(self.folder / "checkouts")

    @property
    def spares(self) -> Path:
        return self.folder / "checkouts/tasks/.spares"

    @property
    def records(self) -> Path:
        return self.git_dir / "moderator/spares"

    def fill(self, size: int, base: str = "", **options: Any) -> list[str]:
        """Fill the pool, and return the entries of its spares, the first that will be taken first."""
        status = self.git.fill_pool(self.root, base or self.a, size, **options)
        assert status.problem == ""
        return [spare.entry for spare in sorted(status.spares, key=lambda spare: -spare.made_at)]

    def make(self, task_id: str, base: str = "", level: Any = FULL) -> Workspace:
        workspace = self.git.create_workspace(context(self.folder, task_id, level), base or self.a)
        workspace.release()
        return workspace

    def entry(self, workspace: Workspace | str) -> Path:
        path = workspace if isinstance(workspace, str) else workspace.path
        return Path(Path(path, ".git").read_text().strip().removeprefix("gitdir: "))

    def was_spare(self, workspace: Workspace) -> bool:
        return self.entry(workspace).name.startswith("spare-")

    def ready(self) -> list[str]:
        return [spare.entry for spare in self.git.pool_status().spares if spare.seal]

    def require_nothing_left(self, *tasks: str, kept: bool = False) -> None:
        """Require that there is no trace of a spare but what is kept, and no workspace but those of these tasks."""
        folder = self.git_dir / "worktrees"
        assert len(os.listdir(folder) if folder.is_dir() else []) == len(tasks)
        assert sorted(one.task_id for one in self.git.workspaces()) == sorted(tasks)
        assert not self.records.exists() or os.listdir(self.records) == []
        places = [self.git_dir / "moderator" / name for name in ("staging", *(() if kept else ("trash",)))]
        assert [path for place in places if place.is_dir() for path in place.rglob("*")] == []
        assert [str(path) for path in self.spares.parent.rglob("*.deleting")] == []
        if not kept:
            assert not self.spares.exists() or os.listdir(self.spares) == []
        locks = [name for name in os.listdir(self.git_dir / "moderator/leases") if name.startswith("spare@")]
        assert set(locks) <= {"spare@pool.lock"}
        assert self.complaints() == []
        assert git(self.repo, "fsck", "--strict", "--no-dangling") == ""

    def complaints(self) -> list[str]:
        """Return what the doctor finds that needs somebody."""
        repository = Repository.open(self.repo)
        found = Doctor(repository, Registry(repository.ours), Keeping(), grace=0.0).examine()
        return [finding.message for finding in found if finding.remains]

    def is_kept(self, marker: str) -> bool:
        """Whether something that somebody wrote is still on disk beside the workspaces, or in a commit that a ref holds."""
        for path in (self.folder / "checkouts").rglob("*"):
            if path.is_file() and not path.is_symlink() and marker.encode() in path.read_bytes():
                return True
        listed = git(self.repo, "rev-list", "--objects", "--no-object-names", "--all")
        return marker in git(self.repo, "cat-file", "--batch", stdin=listed + "\n")


def shape(workspace: Workspace) -> dict[str, object]:
    """Everything that a workspace is on disk, with its own names taken out."""
    tree = os.fsencode(workspace.path)
    entry = Path(Path(workspace.path, ".git").read_text().strip().removeprefix("gitdir: "))

    def plain(said: bytes) -> str:
        text = os.fsdecode(said)
        for name in (str(entry), os.path.realpath(workspace.path), workspace.branch, ascii(workspace.task_id)):
            text = text.replace(name, "NAME") if name else text
        return text

    paths: dict[object, object] = {}
    for where, folders, names in os.walk(tree):
        for path in [where, *(os.path.join(where, name) for name in [*folders, *names])]:
            found, inside = os.lstat(path), os.path.relpath(path, tree)
            content: object = None
            if inside == b".git":
                content = plain(Path(os.fsdecode(path)).read_bytes())
            elif stat.S_ISLNK(found.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(found.st_mode):
                content = Path(os.fsdecode(path)).read_bytes()
            paths[inside] = (found.st_mode, content)
    names = sorted(str(path.relative_to(entry)) for path in entry.rglob("*"))
    reflog = git(workspace.path, "reflog", "show", "--format=%H %gn", workspace.branch) if workspace.branch else ""
    return {
        "paths": paths,
        "index": git(workspace.path, "ls-files", "-s", "-v", "-z"),
        "head": git(workspace.path, "rev-parse", "HEAD"),
        "reflog": reflog,
        "entry": names,
        "modes": [(entry / name).lstat().st_mode for name in names],
        "texts": {name: plain((entry / name).read_bytes()) for name in ("HEAD", "commondir", "gitdir", "locked")},
        "dirty": git(workspace.path, "status", "--porcelain", "--ignored"),
    }


# -- equal to a fresh one -------------------------------------------------------------------------------------------

NAMES = [b"a", b"A", b"b.txt", b"\xff\xfe", b"two\nlines", b" around ", b"-f", "ü".encode(), b"x.crlf", b"y.ident", b"z.u16",
         b"w.shout", b"src", b"deep", b"q\"uote's"]  # fmt: skip
ATTRIBUTES = [
    b"*.crlf text eol=crlf\n",
    b"* text=auto\n*.ident ident\n",
    b"*.u16 text working-tree-encoding=UTF-16LE\n*.ident ident\n",
    b"*.shout filter=shout\n*.crlf -text\n",
    b"b.txt text eol=crlf\n",
]
CONTENTS = st.sampled_from(
    [b"", b"a\n", b"a\r\nb\r\n", b"one\ntwo\n", b"$Id$\n", "é\n".encode(), b"\0\1binary\n", b"long\n" * 300]
)
ENTRIES = st.one_of(
    CONTENTS,
    CONTENTS,
    CONTENTS,
    st.builds(Executable, CONTENTS),
    st.builds(Symlink, st.sampled_from([b"a", b"../outside", b"\xff"])),
    st.builds(Gitlink, st.sampled_from(["1" * 40, "2" * 40])),
)
PATHS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map(b"/".join)
SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "core.autocrlf": st.sampled_from(["true", "input", "false"]),
        "core.eol": st.sampled_from(["crlf", "lf"]),
        "core.symlinks": st.just("false"),
        "core.fileMode": st.just("false"),
        "core.ignoreStat": st.just("true"),
        "filter.shout.smudge": st.just("tr a-z A-Z"),
        "filter.shout.clean": st.just("tr A-Z a-z"),
    },
)


@st.composite
def trees(draw: Any, before: dict[bytes, Any] | None = None) -> dict[bytes, Any]:
    """The files of a commit; of `before`, its predecessor, some stay."""
    stay = {path: content for path, content in (before or {}).items() if draw(st.integers(0, 3))}
    drawn = [*stay.items(), *draw(st.lists(st.tuples(PATHS, ENTRIES), min_size=1, max_size=8)), *draw(_attributes())]
    chosen: dict[bytes, Any] = {}
    for path, content in drawn:
        above = {b"/".join(path.split(b"/")[:depth]) for depth in range(1, path.count(b"/") + 1)}
        if not above & set(chosen) and not any(other.startswith(path + b"/") for other in chosen):
            chosen[path] = content
    return chosen


def _attributes() -> Any:
    return st.one_of(
        st.just([]),
        st.lists(
            st.tuples(st.sampled_from([b".gitattributes", b"src/.gitattributes"]), st.sampled_from(ATTRIBUTES)),
            max_size=2,
        ),
    )


@st.composite
def histories(draw: Any) -> tuple[dict[bytes, Any], dict[bytes, Any], dict[str, str]]:
    first = draw(trees())
    return first, draw(trees(first)), draw(SETTINGS)


def require_equal_however_made(folder: Path, first: Any, second: Any, configured: dict[str, str]) -> None:
    """Make workspaces of both commits without a spare and with every kind of spare, and compare them whole."""
    yard = Yard(
        folder,
        commits=[("a", first), ("b", {**{path: None for path in first if path not in second}, **second})],
    )
    for key, value in configured.items():
        git(yard.repo, "config", key, value)
    yard.git = GitManager(yard.repo, pool=PRISTINE)
    cold = {base: shape(yard.make(f"cold{number}", base)) for number, base in enumerate((yard.a, yard.b))}
    status = yard.git.fill_pool(yard.root, yard.a, 4)
    if status.problem:  # whose checkout git never takes for clean
        assert cold[yard.a]["dirty"], status.problem
        return
    taken = []
    for number, base in enumerate((yard.a, yard.b, yard.a)):
        made = yard.make(f"t{number}", base)
        taken.append(yard.was_spare(made))
        assert shape(made) == cold[base]
    assert taken[0]
    assert taken[2]
    event(f"re-pointed: {taken[1]}")
    with contextlib.suppress(WouldLoseWork):
        yard.git.remove_workspace("t2", recycle=True)
        yard.git.remove_workspace("t1", recycle=True)
        event(f"recycled: {len(yard.ready())}")
        for number, base in enumerate((yard.a, yard.b, yard.a)):
            assert shape(yard.make(f"again{number}", base)) == cold[base]
    assert git(yard.repo, "fsck", "--strict", "--no-dangling") == ""


@settings(max_examples=5, suppress_health_check=[HealthCheck.too_slow])
@given(histories())
def test_every_workspace_is_equal_to_a_fresh_one(tmp_path_factory: pytest.TempPathFactory, drawn: Any) -> None:
    """From a spare of its base, from one of another commit or from a workspace that came back: it is as one without any."""
    require_equal_however_made(tmp_path_factory.mktemp("equal"), *drawn)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(histories())
def test_every_workspace_is_equal_to_a_fresh_one_at_length(
    tmp_path_factory: pytest.TempPathFactory, drawn: Any
) -> None:
    """The same for many more trees."""
    folder = tmp_path_factory.mktemp("equal")
    require_equal_however_made(folder, *drawn)
    shutil.rmtree(folder)


def test_a_spare_is_brought_to_another_commit(tmp_path: Path) -> None:
    """A base that moved costs the files that differ: files and directories swapped, links and modes changed."""
    yard = Yard(tmp_path)
    cold = shape(yard.make("cold", yard.b))
    (entry,) = yard.fill(1)
    made = yard.make("t", yard.b)
    assert (yard.entry(made).name, shape(made)) == (entry, cold)


def test_a_workspace_without_a_branch_is_equal_too(tmp_path: Path) -> None:
    """At level directory a spare becomes a workspace with a detached HEAD, like a fresh one."""
    yard = Yard(tmp_path)
    cold = shape(yard.make("cold", level=DIRECTORY))
    yard.fill(1)
    made = yard.make("t", level=DIRECTORY)
    assert (yard.was_spare(made), shape(made)) == (True, cold)


def test_other_attributes_are_no_reason_to_lose_spares(tmp_path: Path) -> None:
    """A spare of a commit with other attributes is not re-pointed, for unchanged files would keep their bytes; it stays."""
    lines = {"x.txt": "a\nb\n", "src/y.txt": "c\n"}
    yard = Yard(tmp_path, commits=[("a", lines), ("b", {"src/.gitattributes": "*.txt text eol=crlf\n"})])
    spares = yard.fill(2)
    made = yard.make("t", yard.b)
    assert (yard.was_spare(made), files(made.path)["src/y.txt"]) == (False, b"c\r\n")
    assert sorted(yard.ready()) == sorted(spares)
    assert yard.was_spare(yard.make("u", yard.a))


def test_a_filter_that_may_look_at_head_is_run_anew(tmp_path: Path) -> None:
    """Where a filter may write what HEAD is, a spare of another commit is not re-pointed: files that are the same differ."""
    stamped = {".gitattributes": "*.stamp filter=stamp\n", "v.stamp": "version\n", "f": "1\n"}
    yard = Yard(tmp_path, commits=[("a", stamped), ("b", {"f": "2\n"})])
    git(yard.repo, "config", "filter.stamp.smudge", "git rev-parse HEAD")
    git(yard.repo, "config", "filter.stamp.clean", "echo version")
    cold = yard.make("cold", yard.b)
    yard.fill(1)
    made = yard.make("t", yard.b)
    assert files(made.path) == files(cold.path)
    assert files(made.path)["v.stamp"] == yard.b.encode() + b"\n"


@pytest.mark.parametrize("kind", ["bare", "sha256", "linked", "elsewhere"])
def test_every_repository_that_takes_spares(tmp_path: Path, kind: str) -> None:
    """Bare, of the other hash, opened in a linked worktree, workspaces on another file system: a claim is as ever."""
    folder = tmp_path
    if kind == "sha256":
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("GIT_DEFAULT_HASH", "sha256")
            yard = Yard(folder)
        assert len(yard.a) == 64
    else:
        yard = Yard(folder, bare=kind == "bare")
    if kind == "linked":
        git(yard.repo, "worktree", "add", "--quiet", "--detach", str(folder / "linked"))
        yard.git = GitManager(folder / "linked", pool=PRISTINE)
    if kind == "elsewhere":
        if not os.path.isdir("/dev/shm") or os.stat("/dev/shm").st_dev == os.stat(folder).st_dev:
            pytest.skip("there is no other file system")
        beside = Path("/dev/shm") / f"moderator-{os.getpid()}"
        beside.mkdir()
        (folder / "checkouts").symlink_to(beside)
    try:
        cold = [shape(yard.make(f"cold{number}", base)) for number, base in enumerate((yard.a, yard.b))]
        yard.fill(2)
        made = [yard.make(f"t{number}", base) for number, base in enumerate((yard.a, yard.b))]
        assert [yard.was_spare(one) for one in made] == [True, True]
        assert [shape(one) for one in made] == cold
        yard.git.remove_workspace("t0", recycle=True)
        assert shape(yard.make("t2")) == cold[0]
        assert yard.complaints() == []
    finally:
        if kind == "elsewhere":
            shutil.rmtree(beside)


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("core.sparseCheckout", "true", "made by git itself"),
        ("extensions.worktreeConfig", "true", "made by git itself"),
        ("includeIf.onbranch:main-*.path", "more", "depend on the branch"),
    ],
)
def test_a_repository_that_takes_no_spares(tmp_path: Path, key: str, value: str, why: str) -> None:
    """Where a spare cannot become a workspace none is made, and it is said why; one from before is not handed out."""
    yard = Yard(tmp_path)
    yard.fill(1)
    git(yard.repo, "config", key, value)
    made = yard.make("t")
    status = yard.git.fill_pool(yard.root, yard.a, 2)
    assert (why in status.problem, status.spares) == (True, ())
    assert (yard.was_spare(made), files(made.path)) == (False, files(yard.make("u").path))


# -- touched by somebody --------------------------------------------------------------------------------------------

MARK = "work of a person: "


def opened(tree: Path) -> Path:
    os.chmod(tree, 0o755)
    return tree


def _write(tree: Path, name: str, marker: str) -> None:
    opened(tree)
    (tree / name).parent.mkdir(exist_ok=True)
    (tree / name).write_text(MARK + marker)


def _committed_and_gone(tree: Path, marker: str) -> None:
    _write(tree, "README.md", marker)
    git(tree, "commit", "--quiet", "--all", "-m", "work")
    git(tree, "reset", "--quiet", "--hard", "HEAD~1")


def _staged_and_gone(tree: Path, marker: str) -> None:
    _write(tree, "README.md", marker)
    git(tree, "add", "README.md")
    (tree / "README.md").write_text("# Sample\n")


def _moved(tree: Path, entry: Path) -> None:
    opened(tree)
    git(tree, "worktree", "move", "-f", "-f", str(tree), str(tree.parent.parent.parent / "mine"))


def _linked(tree: Path) -> None:
    aside = tree.parent.parent.parent / "aside"
    shutil.move(opened(tree), aside)
    aside.chmod(0o700)
    tree.symlink_to(aside)


def _replace(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


@dataclass(frozen=True)
class Parts:
    """What one spare is on disk, for whoever damages it."""

    tree: Path
    entry: Path
    record: Path

    @property
    def opened(self) -> Path:
        return opened(self.tree)


TOUCHED: dict[str, Callable[[Parts], object]] = {
    "added at the top": lambda spare: _write(spare.tree, "note", "added at the top"),
    "added deep": lambda spare: _write(spare.tree, "src/note", "added deep"),
    "modified deep": lambda spare: _write(spare.tree, "src/a.txt", "modified deep"),
    "ignored": lambda spare: _write(spare.tree, "build/.env", "ignored"),
    "committed and reset": lambda spare: _committed_and_gone(spare.tree, "committed and reset"),
    "staged and undone": lambda spare: _staged_and_gone(spare.tree, "staged and undone"),
    "removed at the top": lambda spare: (spare.opened / "README.md").unlink(),
    "opened": lambda spare: spare.opened,
    "opened and closed": lambda spare: os.chmod(spare.opened, 0),
    "deleted": lambda spare: shutil.rmtree(spare.opened),
    "replaced": lambda spare: (shutil.rmtree(spare.opened), _write_new(spare.tree, "replaced")),
    "a link": lambda spare: _linked(spare.tree),
    "index replaced": lambda spare: _replace(spare.entry / "index", (spare.entry / "index").read_bytes()),
    "index garbage": lambda spare: _replace(spare.entry / "index", b"garbage"),
    "index.lock": lambda spare: (spare.entry / "index.lock").touch(),
    "HEAD moved": lambda spare: (spare.entry / "HEAD").write_text("ref: refs/heads/main\n"),
    "unlocked": lambda spare: (spare.entry / "locked").unlink(),
    "no .git": lambda spare: (spare.opened / ".git").unlink(),
    ".git replaced": lambda spare: _replace(spare.opened / ".git", b"gitdir: /nowhere\n"),
    "entry deleted": lambda spare: shutil.rmtree(spare.entry),
    "record garbage": lambda spare: spare.record.write_text("{"),
    "record cut": lambda spare: spare.record.write_bytes(spare.record.read_bytes()[:90]),
    "record gone": lambda spare: spare.record.unlink(),
    "record and entry gone": lambda spare: (spare.opened, spare.record.unlink(), shutil.rmtree(spare.entry)),
    "record and tree gone": lambda spare: (spare.record.unlink(), shutil.rmtree(spare.opened)),
}


def _write_new(tree: Path, marker: str) -> None:
    tree.mkdir()
    (tree / "note").write_text(MARK + marker)


def test_a_spare_that_somebody_touched_is_never_handed_out(tmp_path: Path) -> None:
    """However it was touched, it is no workspace; what somebody left is kept, and nothing else is."""
    yard = Yard(tmp_path)
    cold = shape(yard.make("cold"))
    yard.fill(1)
    (good,) = yard.ready()
    found = yard.fill(1 + len(TOUCHED))
    assert found.pop() == good  # the oldest is asked last
    for entry, touch in zip(found, TOUCHED.values(), strict=True):
        touch(Parts(yard.spares / entry, yard.git_dir / "worktrees" / entry, yard.records / f"{entry}.json"))
    made = yard.make("t")
    assert (yard.entry(made).name, shape(made)) == (good, cold)
    assert yard.ready() == []
    yard.fill(0)
    marked = [name for name in TOUCHED if name.startswith(("added", "modif", "ignored", "comm", "staged", "replaced"))]
    assert [name for name in marked if not yard.is_kept(MARK + name)] == []
    told = {path for removal in yard.git.removals() if removal.half_made for path in removal.left}
    assert {"note", "src/note", "src/a.txt", "build/.env"} <= told
    assert sorted(rescue.reason for rescue in yard.git.rescues())[:1] == ["left in a spare"]
    assert (tmp_path / "checkouts/aside").stat().st_mode & 0o777 == 0o700  # whatever a link leads to is left alone
    assert files(tmp_path / "checkouts/aside") == {**files(made.path)}
    yard.git.empty_trash()
    assert [name for name in marked if not yard.is_kept(MARK + name)] == []
    yard.require_nothing_left("cold", "t", kept=True)


def test_what_is_rescued_from_a_spare_can_be_restored(tmp_path: Path) -> None:
    """Work left in a spare comes back as an ordinary workspace, and undo does not take it for what was removed last."""
    yard = Yard(tmp_path)
    (entry,) = yard.fill(1)
    _write(yard.spares / entry, "src/note", "found again")
    yard.make("t")
    yard.git.remove_workspace("t")
    yard.git.drain_pool()
    (rescue,) = yard.git.rescues()
    with yard.git.restore_rescue(rescue) as back:
        assert files(back.path)["src/note"] == (MARK + "found again").encode()
    assert yard.git.undo_removal().task_id == "t"


def test_nothing_is_kept_of_spares_that_nobody_touched(tmp_path: Path) -> None:
    """Whole spares leave nothing, however many go."""
    yard = Yard(tmp_path)
    yard.fill(3)
    assert len(yard.git.drain_pool()) == 3
    assert (yard.git.removals(), yard.git.rescues()) == ([], [])
    yard.require_nothing_left()


def test_a_spare_that_a_person_locked_is_his(tmp_path: Path) -> None:
    """A worktree that somebody locked stays where it is with all that is in it, whoever fills or drains the pool."""
    yard = Yard(tmp_path)
    (entry,) = yard.fill(1)
    tree = yard.spares / entry
    git(yard.repo, "worktree", "unlock", str(tree))
    git(yard.repo, "worktree", "lock", "--reason", "mine", str(tree))
    assert not yard.was_spare(yard.make("t"))
    yard.fill(0)
    yard.git.drain_pool()
    assert git(tree, "status", "--porcelain") == ""
    assert git(tree, "worktree", "list", "--porcelain").count("locked mine") == 1


def test_edits_that_root_made_deep_down_are_found_when_it_is_filled_again(tmp_path: Path) -> None:
    """Root writes below a closed directory without a trace at its top; the next look finds it and keeps what was written."""
    yard = Yard(tmp_path)
    if os.geteuid() != 0:
        pytest.skip("only root can")
    (entry,) = yard.fill(1)
    (yard.spares / entry / "src/note").write_text(MARK + "by root")
    assert entry not in yard.fill(1)
    assert yard.is_kept(MARK + "by root")


CONVERSIONS: dict[str, Callable[[Yard], object]] = {
    "setting": lambda yard: git(yard.repo, "config", "core.autocrlf", "true"),
    "filter": lambda yard: git(yard.repo, "config", "filter.shout.smudge", "tr a-z A-Z"),
    "setting of the user": lambda yard: git(yard.repo, "config", "--global", "core.eol", "crlf"),
    "info/attributes": lambda yard: (yard.git_dir / "info/attributes").write_text("*.txt text eol=crlf\n"),
    "attributes of the user": lambda _: _attributes_of_user(),
    "attributes named": lambda yard: _attributes_named(yard),
    "umask": lambda _: os.umask(0o077),
    "replaced": lambda yard: git(yard.repo, "replace", yard.a, yard.b),
    "replaced, packed": lambda yard: (git(yard.repo, "replace", yard.a, yard.b), git(yard.repo, "pack-refs", "--all")),
}


def _attributes_of_user() -> None:
    place = Path(os.environ["XDG_CONFIG_HOME"], "git/attributes")
    place.parent.mkdir(parents=True)
    place.write_text("*.txt text eol=crlf\n")


def _attributes_named(yard: Yard) -> None:
    (yard.folder / "named").write_text("*.txt text eol=crlf\n")
    git(yard.repo, "config", "--global", "core.attributesFile", str(yard.folder / "named"))


@pytest.mark.parametrize("how", CONVERSIONS)
@pytest.mark.some(6)
def test_a_spare_made_under_other_settings_is_not_handed_out(tmp_path: Path, how: str) -> None:
    """Changed settings, attributes or umask count at once, also for a manager that was opened before; then it is retired."""
    yard = Yard(tmp_path)
    old = yard.fill(1)
    before = os.umask(0o022)
    os.umask(before)
    try:
        CONVERSIONS[how](yard)
        made = yard.make("t")
        assert not yard.was_spare(made)
        assert yard.fill(1) != old
        again = yard.make("u")
        assert yard.was_spare(again)
        assert shape(again) == shape(made)
    finally:
        os.umask(before)


def test_a_spare_of_a_commit_that_nothing_names_any_more(tmp_path: Path) -> None:
    """A base that was force-pushed and collected does no harm: the spare still has its commit, and follows to the new one."""
    yard = Yard(tmp_path)
    (entry,) = yard.fill(1, yard.b)
    git(yard.repo, "checkout", "--quiet", "--orphan", "other")
    git(yard.repo, "commit", "--quiet", "-m", "other")
    git(yard.repo, "branch", "--force", "main", "other")
    git(yard.repo, "reflog", "expire", "--expire=now", "--all")
    git(yard.repo, "gc", "--quiet", "--prune=now")
    made = yard.make("t", "main")
    assert (yard.entry(made).name, shape(made)) == (
        entry,
        {**shape(yard.make("cold", "main")), "entry": shape(made)["entry"]},
    )
    assert git(yard.repo, "fsck", "--strict", "--no-dangling") == ""


@pytest.mark.parametrize("which", ["both", "the repository", "the root"])
def test_a_repository_that_was_moved(tmp_path: Path, which: str) -> None:
    """Spares of before are not handed out after a move, and go; work in one of them stays."""
    repo, root = make_repository(tmp_path / "old/repo", [("a", A), ("b", B)]), tmp_path / "old/repo.moderator"
    manager = GitManager(repo)
    manager.fill_pool(str(root), "", 3)
    _write(root / "tasks/.spares" / manager.pool_status().spares[0].entry, "src/note", "before the move")
    if which == "both":
        (tmp_path / "old").rename(tmp_path / "new")
        repo, root = tmp_path / "new/repo", tmp_path / "new/repo.moderator"
    elif which == "the repository":
        repo.rename(tmp_path / "old/other")
        repo = tmp_path / "old/other"
    else:
        root.rename(tmp_path / "old/other")
        root = tmp_path / "old/other"
    manager = GitManager(repo)
    status = manager.fill_pool(str(root), "", 1)
    assert (status.problem, len(status.spares)) == ("", 1)
    manager.drain_pool()
    assert any(MARK.encode() in path.read_bytes() for path in tmp_path.rglob("note") if path.is_file())
    assert os.listdir(repo / ".git/worktrees") == []
    if which != "the root":  # whose new place nobody but the caller knows
        assert [
            path
            for path in tmp_path.rglob("spare-*")
            if path.parent.name == ".spares" and (path / "README.md").exists()
        ] == []


FORGED: dict[str, dict[str, Any]] = {
    "path": {"path": "VICTIM"},
    "option": {"commit": "--exec=/bin/false"},
    "entry": {"entry": "../../../x"},
    "mode": {"mode": -1},
    "size": {"size": "large"},
    "time": {"made_at": 1e400},
    "seal": {"seal": [["x"]]},
    "more": {"more": 1},
}


def test_a_record_that_leads_elsewhere_is_not_followed(tmp_path: Path) -> None:
    """Whatever a record says, nothing outside the folder of spares is touched, and no workspace of a task."""
    yard = Yard(tmp_path)
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o700)
    (victim / "file").write_text("precious")
    live = yard.make("live")
    entries = yard.fill(len(FORGED))
    for entry, forged in zip(entries, FORGED.values(), strict=True):
        place = yard.records / f"{entry}.json"
        values = {**json.loads(place.read_text()), **forged}
        place.write_text(json.dumps(values).replace("VICTIM", str(victim)))
    # One that claims the entry of a workspace, with a directory where it says that its tree is.
    yard.make("other")
    claimed = yard.entry(live).name
    yard.records.joinpath(f"{claimed}.json").write_text(
        json.dumps({**values, "entry": claimed, "path": str(tmp_path / ".spares" / claimed), "seal": None})
    )
    (tmp_path / ".spares" / claimed).mkdir(parents=True)
    yard.git.drain_pool()
    yard.fill(0)
    assert (victim.stat().st_mode & 0o777, (victim / "file").read_text()) == (0o700, "precious")
    assert git(live.path, "status", "--porcelain", "--branch") == "## main-task-live"
    yard.require_nothing_left("live", "other", kept=True)


def test_a_record_that_outlives_its_spare_does_not_take_the_workspace(tmp_path: Path) -> None:
    """A record that a power cut brought back, of a spare that is somebody's workspace now, is forgotten and nothing else."""
    yard = Yard(tmp_path)
    (entry,) = yard.fill(1)
    record = (yard.records / f"{entry}.json").read_bytes()
    made = yard.make("t")
    (Path(made.path) / "work").write_text("work")
    before = files(made.path)
    for stands in (False, True):
        (yard.records / f"{entry}.json").write_bytes(record)
        if stands:
            (yard.spares / entry).mkdir(parents=True)
        assert not yard.was_spare(yard.make(f"other{stands}"))
        yard.fill(0)
        yard.git.drain_pool()
        assert (files(made.path), yard.ready(), yard.entry(made).is_dir()) == (before, [], True)
    assert git(made.path, "status", "--porcelain") == "?? work"


def test_a_spare_is_still_one_when_it_was_not_handed_out(tmp_path: Path) -> None:
    """A claim that is refused, for its branch is there already, costs no spare."""
    yard = Yard(tmp_path)
    spares = yard.fill(1)
    git(yard.repo, "branch", "main-task-t", yard.a)
    for _ in range(2):
        with pytest.raises(WorkspaceOccupied):
            yard.make("t")
    assert yard.ready() == spares
    assert yard.entry(yard.make("u")).name == spares[0]
    assert git(yard.repo, "rev-parse", "main-task-t") == yard.a


# -- how many -------------------------------------------------------------------------------------------------------


def test_two_fills_at_once_make_no_more_than_asked(tmp_path: Path) -> None:
    """One of two that fill at once is told that the other does; there are as many spares as asked for."""
    yard = Yard(tmp_path)

    def fill(_: int) -> str:
        try:
            return GitManager(yard.repo).fill_pool(yard.root, yard.a, 3).problem
        except WorkspaceBusy:
            return "busy"

    with ThreadPoolExecutor(4) as threads:
        said = list(threads.map(fill, range(4)))
    assert set(said) <= {"", "busy"}
    assert "" in said
    assert len(yard.ready()) == 3


def test_spares_take_no_more_space_than_they_may(tmp_path: Path) -> None:
    """However many are made at once, together they are no larger than the limit, and it is said why there are fewer."""
    yard = Yard(tmp_path)
    yard.fill(1)
    (spare,) = yard.git.pool_status().spares
    yard.git.drain_pool()
    manager = GitManager(yard.repo, pool=PoolLimits(4, largest=2.5 * spare.size, recycle="pristine"))
    status = manager.fill_pool(yard.root, yard.a)
    assert (status.ready, "max_size" in status.problem) == (2, True)
    yard.git = manager
    made = yard.make("t")
    manager.remove_workspace(made, recycle=True)
    assert manager.pool_status().ready == 2
    yard.make("t2")
    manager.fill_pool(yard.root, yard.a, 2)
    yard.git = GitManager(yard.repo)
    yard.make("cold", yard.b)
    manager.remove_workspace("cold", recycle=True)
    assert sum(one.size for one in manager.pool_status().spares) <= 2.5 * spare.size


def test_spares_of_old_and_of_other_commits_go_when_it_is_filled(tmp_path: Path) -> None:
    """What is of no use is given up: of another commit, too old, with what git ignores where that is not wanted."""
    yard = Yard(tmp_path)
    yard.fill(2)
    assert {spare.commit for spare in GitManager(yard.repo).pool_status().spares} == {yard.a}
    yard.fill(2, yard.b)
    assert {spare.commit for spare in GitManager(yard.repo).pool_status().spares} == {yard.b}
    yard.git = GitManager(yard.repo, pool=replace(PRISTINE, days=0.0))
    assert not yard.was_spare(yard.make("too old for it", yard.b))
    assert len(yard.ready()) == 2
    yard.git.fill_pool(str(tmp_path / "elsewhere"), yard.b, 0)  # since the repository was moved, say
    assert not yard.ready()
    yard.git = GitManager(yard.repo, pool=replace(PRISTINE, recycle="keep_ignored"))
    yard.make("t", yard.b)
    yard.git.remove_workspace("t", recycle=True)
    yard.git = GitManager(yard.repo, pool=PRISTINE)
    recycled = yard.ready()
    assert recycled
    assert yard.entry(yard.make("u", yard.b)).name not in recycled
    assert not set(yard.fill(1, yard.b)) & set(recycled)


def test_two_repositories_with_one_place_for_workspaces(tmp_path: Path) -> None:
    """Filling, draining and tidying the one leaves the spares of the other as they are."""
    one, two = Yard(tmp_path), Yard(tmp_path)
    two.repo = make_repository(tmp_path / "other", [("a", A)])
    two.git_dir, two.git = two.repo / ".git", GitManager(two.repo)
    two.a = git(two.repo, "rev-parse", "main")
    theirs = two.fill(1)
    one.fill(1)
    one.git.tidy_pool()
    one.git.drain_pool()
    assert two.ready() == theirs
    assert two.entry(two.make("t")).name == theirs[0]


# -- coming back ----------------------------------------------------------------------------------------------------


def _chmod(path: Path, mode: int) -> None:
    path.chmod(mode)


WORN: dict[str, Callable[[Path], object]] = {
    "a directory's mode": lambda tree: (tree / "src").chmod(0o700),
    "the top's mode": lambda tree: tree.chmod(0o700),
    "an empty directory": lambda tree: (tree / "empty").mkdir(),
    "a pipe": lambda tree: os.mkfifo(tree / "pipe"),
    "assume-unchanged": lambda tree: _flagged(tree, "--assume-unchanged"),
    "skip-worktree": lambda tree: _flagged(tree, "--skip-worktree"),
    "a trusted lie": lambda tree: _lying_index(tree),
    "other attributes": lambda tree: _committed(tree, ".gitattributes", "*.md text eol=crlf\n"),
    "a nested repository": lambda tree: (git(tree, "init", "--quiet", "build/nested"), None),
}


def _flagged(tree: Path, flag: str) -> None:
    git(tree, "update-index", flag, "README.md")
    (tree / "README.md").write_text("changed under a flag\n")


def _lying_index(tree: Path) -> None:
    """An index that says of a changed file that it is what the commit has: written with the stamps of the changed one."""
    was = git(tree, "rev-parse", ":README.md")
    (tree / "README.md").write_text("# Simple\n")
    git(tree, "add", "README.md")
    index = Path(git(tree, "rev-parse", "--absolute-git-dir"), "index")
    changed = bytes.fromhex(git(tree, "rev-parse", ":README.md"))
    content = index.read_bytes()[:-20].replace(changed, bytes.fromhex(was))
    end = content.find(b"TREE")
    content = content[:end] if end > 0 else content  # the cached trees, which would give it away
    import hashlib

    index.write_bytes(content + hashlib.sha1(content, usedforsecurity=False).digest())
    os.utime(index, (2e9, 2e9))


def _committed(tree: Path, name: str, text: str) -> None:
    (tree / name).parent.mkdir(exist_ok=True)
    (tree / name).write_text(text)
    git(tree, "add", "--force", name)
    git(tree, "commit", "--quiet", "-m", "work")


def _emptied(tree: Path) -> None:
    git(tree, "rm", "-r", "--quiet", "src")
    git(tree, "commit", "--quiet", "-m", "work")
    (tree / "src/deep").mkdir(parents=True)


MENDED: dict[str, Callable[[Path], object]] = {
    "nothing": lambda _: None,
    "a mode": lambda tree: (tree / "README.md").chmod(0o600),
    "a hard link": lambda tree: os.link(tree / "README.md", tree.parent.parent / "beside"),
    "the same once more": lambda tree: (tree / "src/a.txt").write_bytes((tree / "src/a.txt").read_bytes()),
    "line ends": lambda tree: _committed(tree, "new.crlf", "a\nb\n"),
    "files and directories swapped": lambda tree: git(tree, "reset", "--quiet", "--hard", "main"),
    "folders emptied": _emptied,
    "what git ignores": lambda tree: _committed(tree, ".env", "out"),
}


@pytest.mark.parametrize("how", MENDED)
@pytest.mark.some(4)
def test_what_was_touched_is_written_anew(tmp_path: Path, how: str) -> None:
    """Whatever was done to files, with all of it in commits: the workspace comes back, and the next one is as a fresh one."""
    yard = Yard(tmp_path, commits=[("a", {**A, ".gitattributes": "*.crlf text eol=crlf\n"}), ("b", B)])
    cold = [shape(yard.make(f"cold{number}", base)) for number, base in enumerate((yard.a, yard.b))]
    made = yard.make("t")
    MENDED[how](Path(made.path))
    tip = git(made.path, "rev-parse", "HEAD")
    yard.git.remove_workspace("t", recycle=True)
    assert len(yard.ready()) == 1
    assert git(yard.repo, "rev-parse", "main-task-t") == tip
    for number, base in enumerate((yard.a, yard.b)):
        again = yard.make(f"u{number}", base)
        assert (yard.was_spare(again), shape(again)) == (True, cold[number])
        yard.git.remove_workspace(again, recycle=True)


@pytest.mark.parametrize("how", ["in its place", "swapped", "private", "hard links"])
def test_files_that_came_in_with_a_folder_are_written_anew(tmp_path: Path, how: str) -> None:
    """Renaming a folder leaves its files as old as they were: they are told from those of the checkout all the same."""
    yard = Yard(tmp_path, commits=[("a", {**A, "v1/f": "1\n", "v2/f": "2\n"}), ("b", B)])
    old, beside = tmp_path / "old", tmp_path / "beside"
    old.mkdir()
    beside.write_text("1\n")
    if how == "hard links":
        os.link(beside, old / "f")
    else:
        (old / "f").write_text("1\n")
        (old / "f").chmod(0o600)
    cold, made = shape(yard.make("cold")), yard.make("t")
    tree = Path(made.path)
    if how in ("private", "hard links"):
        shutil.rmtree(tree / "v1")
        old.rename(tree / "v1")
    else:
        (tree / "v1").rename(tree / "v0")
        (tree / "v2").rename(tree / "v1")
        (tree / "v0").rename(tree / "v2") if how == "swapped" else shutil.rmtree(tree / "v0")
        git(tree, "add", "--all")
        git(tree, "commit", "--quiet", "-m", "work")
    yard.git.remove_workspace(made, recycle=True)
    again = yard.make("u")
    assert (yard.was_spare(again), shape(again)) == (True, cold)
    Path(again.path, "v1/f").write_text("mine\n")
    assert beside.read_text() == "1\n"


@pytest.mark.parametrize("what", ["a file", "a folder", "a mapping"])
def test_what_somebody_has_open_is_no_spare(tmp_path: Path, what: str) -> None:
    """Who opened something before goes on writing where nobody looks: the workspace stays in the trash until he has ended."""
    yard = Yard(tmp_path)
    made = yard.make("t")
    opening = {
        "a file": "file = open('README.md', 'a')",
        "a folder": "file = os.open('src', os.O_RDONLY)",
        "a mapping": "file = open('README.md', 'r+b'); kept = mmap.mmap(file.fileno(), 0); file.close()",
    }[what]
    script = f"import mmap, os; {opening}; os.chdir('/'); print('open', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=made.path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yard.git.remove_workspace(made, recycle=True)
        assert yard.ready() == []
        process.communicate(b"\n")


def test_what_was_written_after_the_removal_is_no_spare(tmp_path: Path) -> None:
    """What somebody wrote into the tree in the very moment of its removal is kept, not written over."""
    yard = Yard(tmp_path)
    made = yard.make("t")
    removal = yard.git.remove_workspace(made, recycle=False, later=True)
    assert removal is not None
    tree = yard.git.trash_of(removal)
    assert tree is not None
    Path(tree, "README.md").write_text("late\n")
    lifecycle = yard.git._lifecycle
    record = next(record for found, record in yard.git._removals if found.id == removal.id)
    assert not lifecycle.pool.take_back(record, str(removal.head), removal.renamed_at or 0.0)
    assert Path(tree, "README.md").read_text() == "late\n"


LARGE = {**A, **{f"many/{number % 7}/f{number}.txt": f"{number}\n" for number in range(MANY)}}
"""Of which not every file is looked at a second time where nothing can have changed since the first."""


def test_a_large_tree_comes_back_as_a_fresh_one(tmp_path: Path) -> None:
    """Its work is in a commit, and whoever gets it next finds every path, mode and byte of a checkout."""
    yard = Yard(tmp_path, PRISTINE, [("a", LARGE), ("b", B)])
    cold = shape(yard.make("cold"))
    made = yard.make("t")
    tree = Path(made.path)
    (tree / "many/0/f0.txt").unlink()
    (tree / "many/1/f1.txt").chmod(0o755)
    (tree / "many/new").mkdir()
    (tree / "many/new/file").write_text("new\n")
    git(tree, "add", "--all")
    _committed(tree, "many/2/f2.txt", "changed\n")
    (tree / "many/3/f3.txt").write_text("3\n")  # as it was, but for its times
    yard.git.remove_workspace(made, recycle=True)
    again = yard.make("u")
    assert (yard.was_spare(again), shape(again)) == (True, cold)


@pytest.mark.parametrize("path", ["README.md", "many/3/f3.txt", "many/3/new", "many/3"])
def test_what_is_written_into_a_large_tree_after_both_looks_is_no_spare(tmp_path: Path, path: str) -> None:
    """The pool believes what a removal saw only as long as nothing has changed since."""
    yard = Yard(tmp_path, PRISTINE, [("a", LARGE), ("b", B)])
    yard.make("t")
    record = yard.git._record("t")
    retired = yard.git._lifecycle.retire(record, Wish())
    assert retired is not None
    assert retired.seen is not None
    tree = yard.git.trash_of(retired.removal)
    assert tree is not None
    late = Path(tree, path)
    late.chmod(0o700) if late.is_dir() else late.write_text("late\n")
    since = retired.removal.renamed_at or 0.0
    assert not yard.git._lifecycle.pool.take_back(record, str(retired.removal.head), since, retired.seen)
    assert stat.S_IMODE(late.stat().st_mode) == 0o700 if late.is_dir() else late.read_text() == "late\n"


IGNORED: dict[str, Callable[[Path], object]] = {
    "ignored attributes": lambda tree: (tree / "src/.gitattributes").write_text("* text eol=crlf\n"),
    "a folder's mode": lambda tree: (tree / "src").chmod(0o700),
    "an empty directory": lambda tree: (tree / "empty").mkdir(),
    "what is ignored": lambda tree: _committed(tree, ".gitignore", "src/more\n"),
}


@pytest.mark.parametrize("how", IGNORED)
def test_a_spare_with_ignored_files_is_as_a_fresh_one_but_for_these(tmp_path: Path, how: str) -> None:
    """What git does not ignore is as in a checkout, or the workspace does not come back."""
    limits = replace(PRISTINE, recycle="keep_ignored")
    yard = Yard(tmp_path, limits, [("a", {**A, ".gitignore": "build/\n.gitattributes\n"}), ("b", B)])
    made = yard.make("t")
    _committed(Path(made.path), "src/a.txt", "changed\n")
    IGNORED[how](Path(made.path))
    yard.git.remove_workspace(made, recycle=True)
    assert yard.ready() == []


def test_a_spare_with_ignored_files_is_not_handed_out_where_others_are_ignored(tmp_path: Path) -> None:
    """What was ignored when it came back would be untracked: for another base, or by another exclude file."""
    limits = replace(PRISTINE, recycle="keep_ignored")
    yard = Yard(tmp_path, limits, [("a", A), ("b", {".gitignore": "nothing\n"})])
    made = yard.make("t")
    (Path(made.path) / ".env").write_text("kept")
    yard.git.remove_workspace(made, recycle=True)
    assert len(yard.ready()) == 1
    assert not yard.was_spare(yard.make("other base", yard.b))
    (yard.git_dir / "info/exclude").write_text("more\n")
    assert not yard.was_spare(yard.make("other excludes"))


def test_spares_that_are_of_no_use_are_not_counted(tmp_path: Path) -> None:
    """One whose maker was killed, and those of other settings, are no reason not to make more."""
    yard = Yard(tmp_path, PoolLimits(1, refill=True))
    yard.fill(1)
    record = yard.git._registry.find(yard.make("t").task_id)
    assert record is not None
    yard.fill(1)
    pool = yard.git._lifecycle.pool
    assert not pool.lacks(record)
    git(yard.repo, "config", "core.autocrlf", "input")
    assert pool.lacks(record)
    git(yard.repo, "config", "--unset", "core.autocrlf")
    (spare,) = pool.spares
    pool.spares.write(replace(spare, seal=None))
    assert pool.lacks(record)


def test_what_was_written_through_a_mapping_is_no_spare(tmp_path: Path) -> None:
    """Some file systems do not date it, so neither time nor git tells: the workspace does not come back with other bytes."""
    yard = Yard(Path("/dev/shm") / f"moderator-{os.getpid()}" if os.path.isdir("/dev/shm") else tmp_path)
    try:
        made = yard.make("t")
        with open(Path(made.path, "README.md"), "r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
            assert mapping[2:3] != b"X"
            mapping[2:3] = b"X"
        with contextlib.suppress(WouldLoseWork):
            yard.git.remove_workspace(made, recycle=True)
        assert yard.ready() == []
    finally:
        shutil.rmtree(yard.folder)


def test_work_under_a_false_index_is_not_written_over(tmp_path: Path) -> None:
    """A note that is missing, of no sense or of another time is no reason to trust a tree: it lies in the trash as ever."""
    yard = Yard(tmp_path)
    for number, spoil in enumerate((b"", b"{}\n", None)):
        made = yard.make(f"t{number}")
        note = yard.git_dir / "moderator/checkouts" / yard.entry(made).name
        if spoil is None:
            told, _, index = note.read_bytes().partition(b"\n")
            values = json.loads(told)
            note.write_bytes(json.dumps({**values, "ahead": values["ahead"] + 10**12}).encode() + b"\n" + index)
        else:
            note.write_bytes(spoil)
        removal = yard.git.remove_workspace(made, recycle=True, later=True)
        assert (yard.ready(), note.exists()) == ([], False)
        assert removal is not None
        assert yard.git.trash_of(removal) is not None


@pytest.mark.parametrize("how", WORN)
def test_a_worn_workspace_is_no_pristine_spare(tmp_path: Path, how: str) -> None:
    """What differs from a checkout in a mode, a byte or a path does not come back, and lies in the trash as ever."""
    yard = Yard(tmp_path, commits=[("a", {**A, ".gitattributes": "*.crlf text eol=crlf\n"}), ("b", B)])
    made = yard.make("t")
    WORN[how](Path(made.path))
    try:
        removal = yard.git.remove_workspace("t", recycle=True, later=True)
    except ModeratorError:
        assert how in ("assume-unchanged", "skip-worktree", "a nested repository", "a pipe")
        return
    assert (yard.ready(), len(os.listdir(yard.git_dir / "worktrees"))) == ([], 0)
    assert removal is not None
    tree = yard.git.trash_of(removal)
    assert tree is not None
    assert (yard.spares.exists(), os.path.isfile(os.path.join(tree, "README.md"))) == (False, True)
    with yard.git.undo_removal("t") as back:
        assert git(back.path, "status", "--porcelain", "--branch").startswith("## main-task-t")


@pytest.mark.parametrize("recycle", ["pristine", "keep_ignored"])
def test_a_part_of_a_tree_is_no_spare_and_takes_none(tmp_path: Path, recycle: str) -> None:
    """A workspace with some directories only is not made of a spare, which has all, and does not become one."""
    yard = Yard(tmp_path, PoolLimits(4, recycle=recycle), [("a", {**A, "other/c.txt": "c\n"}), ("b", B)])
    spares = yard.fill(1)
    made = yard.git.create_workspace(context(tmp_path, "t"), yard.a, directories=["src/deep"])
    made.release()
    assert (yard.was_spare(made), "other/c.txt" in files(made.path)) == (False, False)
    yard.git.remove_workspace("t", recycle=True)
    assert yard.ready() == spares


@pytest.mark.parametrize("what", ["untracked", "modified", "staged"])
def test_work_that_is_in_no_commit_is_refused_as_ever(tmp_path: Path, what: str) -> None:
    """Recycling loses nothing: unsaved work is refused, and the workspace is as it was."""
    yard = Yard(tmp_path)
    made = yard.make("t")
    Path(made.path, "new" if what == "untracked" else "README.md").write_text("work")
    if what == "staged":
        git(made.path, "add", "--all")
    before = shape(made)
    with pytest.raises(WouldLoseWork):
        yard.git.remove_workspace("t", recycle=True)
    assert (shape(made), yard.ready()) == (before, [])


def test_committed_work_comes_back_as_a_spare_and_as_a_workspace(tmp_path: Path) -> None:
    """A removed workspace is a spare at its base again, follows to any other, and undo makes it again from its commits."""
    yard = Yard(tmp_path)
    cold = shape(yard.make("cold", yard.b))
    made = yard.make("t")
    (Path(made.path) / "src/new.txt").write_text("new\n")
    kept = yard.git.commit(made, "work")
    assert kept is not None
    before = files(made.path)
    yard.git.remove_workspace("t", recycle=True)
    (entry,) = yard.ready()
    assert not list((yard.git_dir / "moderator/trash").glob("*"))
    assert not (yard.spares.parent / ".trash").exists()
    with yard.git.undo_removal("t") as back:
        assert (files(back.path), git(back.path, "rev-parse", "HEAD")) == (before, kept.id)
    again = yard.make("u", yard.b)
    assert (yard.entry(again).name, shape(again)) == (entry, cold)


def test_what_git_ignores_comes_along_only_where_that_is_wanted(tmp_path: Path) -> None:
    """With keep_ignored the next workspace finds build caches; a full pool leaves them in the trash for their time."""
    yard = Yard(tmp_path, PoolLimits(1, recycle="keep_ignored"))
    for task in ("t", "u"):
        made = yard.make(task)
        (Path(made.path) / "build").mkdir()
        (Path(made.path) / "build/cache").write_text(f"cache of {task}")
    yard.git.remove_workspace("t", recycle=True)
    assert len(yard.ready()) == 1
    removal = yard.git.remove_workspace("u", recycle=True)
    assert removal is not None
    yard.git.empty_trash()
    assert len(yard.ready()) == 1
    assert (removal.left, removal.kept_until is not None) == (("build/",), True)
    with yard.git.undo_removal("u") as back:
        assert files(back.path)["build/cache"] == b"cache of u"
    assert files(yard.make("v").path)["build/cache"] == b"cache of t"


def test_more_may_not_come_back_than_are_wanted(tmp_path: Path) -> None:
    """Many workspaces removed at once do not overfill the pool."""
    yard = Yard(tmp_path, PoolLimits(2, recycle="pristine"))
    tasks = [f"t{number}" for number in range(6)]
    for task in tasks:
        yard.make(task)
    with ThreadPoolExecutor(6) as threads:
        list(
            threads.map(
                lambda task: GitManager(yard.repo, pool=yard.limits).remove_workspace(task, recycle=True), tasks
            )
        )
    assert len(yard.ready()) <= 2
    yard.git.drain_pool()
    yard.require_nothing_left()


# -- killed ---------------------------------------------------------------------------------------------------------

CLAIMING = {
    "spare opened": "os.link workspaces/.t.new",
    "claimed": "Popen git update-ref",
    "branch created": "open moderator.restoring",
    "marked": "os.rename .spares/spare",
    "tree renamed": "os.rename HEAD.git.new",
    "HEAD": "os.rename gitdir.git.new",
    "gitdir": "os.rename locked.git.new",
    "locked": "os.remove moderator/spares/spare",
    "no spare any longer": "os.remove moderator.restoring",
    "whole": "os.rename workspaces/.t.new",
}
FOLLOWING = {"noted": "Popen git read-tree", "files written": "os.rename HEAD.git.new"}
FILLING = {
    "recorded": "os.mkdir .spares/spare",
    "place made": "os.mkdir staging",
    "entry staged": "os.link pointer",
    ".git linked": "os.rename staging",
    "entry renamed": "Popen git read-tree",
    "checked out": "os.rename moderator/spares/.spare",
}
DRAINING = {
    "opened": "os.rename .spares/spare .trash",
    "tree renamed": "os.remove README.md",
    "tree deleted": "os.rename worktrees/spare",
    "entry renamed": "os.remove commondir",
    "entry deleted": "os.remove moderator/spares/spare",
}
RECYCLING = {
    "recorded": "os.mkdir staging/spare",
    "entry staged": "os.rename staging/spare",
    "looked at": "os.rename .trash/t",
    "tree renamed": "open .git.new",
    "pointer written": "os.rename .git.new",
    "pointer renamed": "os.remove work",
    "mended": "os.rename moderator/spares/.spare",
    "a spare": "open removed/.t",
}
KILLS = {
    "create": (CLAIMING, 2),
    "follow": (FOLLOWING, 2),
    "fill": (FILLING, 0),
    "drain": (DRAINING, 2),
    "recycle": (RECYCLING, 0),
}
"""What is done, the steps that were done last with what the process was about to do, and how many spares there are before."""
ORDERS = (
    ("create", "fill", "drain"),
    ("fill", "create", "drain"),
    ("drain", "create", "fill"),
    ("tidy", "undo", "drain"),
)


def assert_sound_after(step: int | str, folder: Path, action: str, order: tuple[str, ...]) -> bool:
    """Kill a process at a step; whatever comes next then, everything comes to its end, once."""
    yard = Yard(folder, PoolLimits(2, recycle="keep_ignored"))
    if spares := KILLS[action][1]:
        yard.fill(spares, yard.a if action == "follow" else yard.b)
    what = killed_before(step, folder, yard.repo, "t", "create" if action == "follow" else action)
    if what is None:
        return False
    assert git(yard.repo, "fsck", "--strict", "--no-dangling") == ""
    yard.git = GitManager(yard.repo, pool=yard.limits)
    wanted = {**files(yard.repo), **({"work": b"work"} if action == "recycle" else {})}
    for follows in order:
        if follows == "create" and action != "recycle":
            made = yard.make("t", yard.b)
            assert {**files(made.path), "build/cache": b""} == {**wanted, "build/cache": b""}, what
            assert git(made.path, "status", "--porcelain", "--branch") == "## main-task-t", what
        elif follows == "undo" and action == "recycle":
            with contextlib.suppress(ModeratorError):  # it was not removed, or brought back by whatever came before
                yard.git.undo_removal("t").release()
        elif follows == "fill":
            assert len(yard.fill(2, yard.b)) == 2, what
        elif follows == "tidy":
            yard.git.tidy_pool()
        elif follows == "drain":
            yard.git.drain_pool()
    # A git command of the killed process may go on, and holds its spare as long as it does.
    wait_until(lambda: (yard.git.drain_pool(), yard.git.pool_status().spares)[1] == (), "an empty pool")
    if action == "recycle":
        assert git(yard.repo, "show", "main-task-t:work") == "work", what
        assert yard.is_kept("secret"), what
        with contextlib.suppress(ModeratorError):
            yard.git.undo_removal("t").release()
        tree = folder / "checkouts/tasks/t"
        assert git(tree, "status", "--porcelain", "--branch") == "## main-task-t", what
        assert {name: content for name, content in files(tree).items() if name != ".env"} == wanted, what
        yard.require_nothing_left("t", kept=True)
    else:
        if "create" not in order:
            yard.make("t", yard.b)
        assert (yard.git.removals(), yard.git.rescues()) == ([], []), what
        yard.require_nothing_left("t")
    return True


@pytest.mark.parametrize(
    ("action", "step"),
    [
        pytest.param(
            action, step, marks=[pytest.mark.slow] if number % 2 else []
        )  # every other takes a suite long enough
        for action, (steps, _) in KILLS.items()
        for number, step in enumerate(steps)
    ],
)
@pytest.mark.some(4)
def test_killed_at_a_step_of_the_pool(tmp_path: Path, action: str, step: str) -> None:
    """Wherever who claims, re-points, fills, drains or recycles is killed, what comes next uses the spare or retires it."""
    steps = KILLS[action][0]
    order = ORDERS[list(steps).index(step) % len(ORDERS)]
    assert assert_sound_after(steps[step], tmp_path, action, order)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("order", ORDERS, ids="-".join)
@pytest.mark.parametrize("action", KILLS)
def test_killed_at_any_step_of_the_pool(tmp_path: Path, action: str, order: tuple[str, ...]) -> None:
    """The same for every single change of the disk, whatever comes first afterwards."""
    step = 1
    while assert_sound_after(step, tmp_path / str(step), action, order):
        shutil.rmtree(tmp_path / str(step))
        step += 1
    assert step > 8


# -- races ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_many_processes_claim_from_few_spares(tmp_path: Path) -> None:
    """Eight processes at once get a whole workspace each; every spare is taken by one of them."""
    yard = Yard(tmp_path)
    spares = yard.fill(3, yard.b)
    tasks = [[f"t{number}"] for number in range(8)]
    with disturbed(yard.repo, [["worktree", "list"], ["worktree", "prune"]]) as failures:
        assert race(tmp_path, yard.repo, tasks) == [["made"]] * 8
    assert [failure for failure in failures if not GONE_WHILE_READ.search(failure)] == []
    entries = os.listdir(yard.git_dir / "worktrees")
    assert (len(entries), set(spares) - set(entries)) == (8, set())
    for (task,) in tasks:
        tree = tmp_path / "checkouts/tasks" / task
        assert (files(tree), git(tree, "status", "--porcelain")) == ({**files(yard.repo), "work": task.encode()}, "")
    yard.require_nothing_left(*(task for (task,) in tasks))


POOLERS = """
import sys, time
from moderator.errors import WorkspaceBusy
from moderator.git import pool
from moderator.git.manager import GitManager
pool._SAME_SECOND = 0.0
repository, root, what, seconds = sys.argv[1:]
manager = GitManager(repository)
until = time.monotonic() + float(seconds)
while time.monotonic() < until:
    try:
        if what == "fill":
            said = manager.fill_pool(root, "main", 3)
            assert not said.problem, said
            assert len(said.spares) <= 3, said
        elif what == "tidy":
            manager.tidy_pool()
        else:
            manager.drain_pool()
    except WorkspaceBusy:
        pass
"""


def _storm(tmp_path: Path, seconds: float, rounds: int, disturbing: list[list[str]]) -> None:
    yard = Yard(tmp_path)
    what = ["fill", "fill", "tidy", "drain"]
    line = [sys.executable, "-c", POOLERS, str(yard.repo), yard.root]
    others = [
        subprocess.Popen([*line, one, str(seconds)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for one in what
    ]
    tasks = [[f"t{number}-{again}" for again in range(rounds)] for number in range(3)]
    with disturbed(yard.repo, disturbing) as failures:
        printed = race(tmp_path, yard.repo, tasks)
        said = [other.communicate()[1] for other in others]
    assert (printed, said) == ([["made"] * rounds] * 3, [""] * len(what))
    assert [failure for failure in failures if not GONE_WHILE_READ.search(failure)] == []
    yard.git.drain_pool()
    for task in (task for each in tasks for task in each):
        tree = tmp_path / "checkouts/tasks" / task
        assert (files(tree), git(tree, "status", "--porcelain")) == ({**files(yard.repo), "work": task.encode()}, "")
    assert (yard.git.removals(), yard.git.rescues()) == ([], [])
    yard.require_nothing_left(*(task for each in tasks for task in each))


@pytest.mark.slow
def test_claims_fills_and_drains_at_once(tmp_path: Path) -> None:
    """Workspaces are whole whoever fills, tidies and drains meanwhile; nobody fails, and nothing is left."""
    _storm(tmp_path, 1.5, 3, [["worktree", "list"], ["worktree", "prune"]])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_claims_fills_and_drains_at_once_for_long(tmp_path: Path) -> None:
    """The same for longer, with git's own housekeeping."""
    _storm(
        tmp_path, 30.0, 30, [["worktree", "list"], ["worktree", "prune"], ["gc", "--quiet"], ["fetch", "--quiet", "."]]
    )


def test_a_spare_at_work_is_nobody_elses(tmp_path: Path) -> None:
    """While a process holds a spare neither a claim, nor draining or tidying, touches it."""
    yard = Yard(tmp_path)
    (entry,) = yard.fill(1)
    with yard.git._lifecycle.pool._held(entry):  # as another process would
        assert not yard.was_spare(yard.make("t"))
        assert yard.git.drain_pool() == []
        assert yard.git.tidy_pool(days=0.0) == []
    assert yard.ready() == [entry]
    assert yard.entry(yard.make("u")).name == entry


def test_a_pool_that_is_filled_gives_way(tmp_path: Path) -> None:
    """Filling ends between two spares when it is told to stop."""
    yard = Yard(tmp_path)
    asked = threading.Event()

    def stop() -> bool:
        if asked.is_set():
            return True
        asked.set()
        return False

    status = yard.git.fill_pool(yard.root, yard.a, 3, stop=stop)
    assert (status.ready, status.problem) == (1, "")


# -- a disk without space -------------------------------------------------------------------------------------------

FULL_DISK = """
import os, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from moderator.errors import ModeratorError
from moderator.git import pool
from moderator.git.manager import GitManager
from repos import git, make_repository
from workspaces import context, files
pool._SAME_SECOND = 0.0
disk, outside = Path(sys.argv[1]), Path(sys.argv[3])
repo = make_repository(outside / "repo", [("a", {f"f{n}": os.urandom(40_000) for n in range(20)})])
manager = GitManager(repo)
status = manager.fill_pool(str(disk), "", 6)
print(status.ready, bool(status.problem))
spares = [name for name in os.listdir(disk / "tasks/.spares") if name != ".trash"]
print(len(spares), len(os.listdir(repo / ".git/worktrees")), len(os.listdir(repo / ".git/moderator/spares")))
print([str(p) for p in disk.rglob(".trash")], manager.removals())
with (disk / "stuffing").open("wb", buffering=0) as file:
    try:
        while True:
            file.write(bytes(4096))
    except OSError:
        pass
manager.drain_pool()
print(manager.pool_status().spares, os.listdir(repo / ".git/worktrees"), os.listdir(disk / "tasks"))
"""


def test_a_full_disk_makes_fewer_spares(tmp_path: Path) -> None:
    """Where there is space for some spares there are some, it is said why, and nothing half-made remains.

    And where there is none left, draining gives it back.
    """
    unshare = shutil.which("unshare")
    if not unshare or subprocess.run([unshare, "-Urm", "true"], capture_output=True).returncode:
        pytest.skip("unshare(1) cannot make a mount namespace here")
    disk = tmp_path / "disk"
    disk.mkdir()
    script = f'set -e; mount -t tmpfs -o size=2m tmpfs {disk}; exec "$@"'
    here = str(Path(__file__).parent)
    line = [unshare, "-Urm", "sh", "-c", script, "sh", sys.executable, "-c", FULL_DISK, str(disk), here, str(tmp_path)]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ready, entries, kept, drained = done.stdout.splitlines()
    count = ready.split()[0]
    assert (ready, entries, kept) == (f"{count} True", f"{count} {count} {count}", "[] []")
    assert int(count) < 6
    assert drained == "() [] []"


def test_a_pool_that_cannot_be_filled_says_so(tmp_path: Path) -> None:
    """A place that cannot be written to makes no spares and no exception; workspaces are refused as ever."""
    yard = Yard(tmp_path)
    (tmp_path / "checkouts").write_text("a file")
    status = yard.git.fill_pool(yard.root, yard.a, 2)
    assert (status.spares, "directory" in status.problem) == ((), True)
    with pytest.raises((EnvironmentProblem, OSError)):
        yard.make("t")
    yard.require_nothing_left()
