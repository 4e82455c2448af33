"""The doctor, shown real damage: what it says, what it mends, and that it never touches what it should not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from commandline import picture
from moderator.context import IsolationLevel
from moderator.git.doctor.doctor import Doctor
from moderator.git.doctor.findings import Finding
from moderator.git.entries import RESTORING
from moderator.git.manager import GitManager
from moderator.git.registry import Registry
from moderator.git.repository import Repository
from moderator.git.values import Workspace
from repos import Executable, Symlink, git, make_repository
from workspaces import BRANCH, DIRECTORY, FULL, context, files, killed_before

FILES = {"README.md": "# Shop\n", "src/a.txt": "1\n", "run.sh": Executable("#!/bin/sh\n"), "link": Symlink("src/a.txt")}
LONG_AGO = time.time() - 7200
PROBLEM, INFORMATION = "problem", "information"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "shop", [("first", {**FILES, ".gitignore": "*.secret\n"})])


def make(shop: Path, task_id: str = "one", level: IsolationLevel = FULL) -> Workspace:
    """Make a workspace that nobody holds."""
    checkout = None if level.isolates_directory else shop
    with GitManager(shop).create_workspace(context(shop.parent, task_id, level, checkout=checkout)) as workspace:
        return workspace


def examine(shop: Path, fix: bool = False, deep: bool = False) -> list[Finding]:
    repository = Repository.open(shop)
    return Doctor(repository, Registry(repository.ours)).examine(fix, deep)


def codes(findings: list[Finding]) -> list[tuple[str, str, bool]]:
    return [(finding.code, finding.severity, finding.fixable) for finding in findings]


def mended(findings: list[Finding]) -> list[tuple[str, bool]]:
    return [(finding.code, finding.mended) for finding in findings]


def the_entry(shop: Path, task_id: str = "one") -> Path:
    (entry,) = (shop / ".git/worktrees").glob(f"{task_id}-*")
    return entry


def the_record(shop: Path, task_id: str = "one") -> Path:
    return shop / f".git/moderator/workspaces/{task_id}.json"


def work_in(workspace: Workspace) -> dict[str, bytes | str]:
    """Leave work of every kind in a workspace and return its files."""
    tree = Path(workspace.path)
    (tree / "README.md").write_text("changed\n")
    (tree / "src/new.txt").write_text("staged\n")
    git(tree, "add", "src/new.txt")
    (tree / "src/new.txt").write_text("staged, then changed\n")
    (tree / "untracked").write_text("untracked\n")
    (tree / "key.secret").write_text("ignored\n")
    (tree / "run.sh").chmod(0o644)
    (tree / "link").unlink()
    return files(tree)


def typed(finding: Finding, cwd: Path) -> None:
    """Type what a hint says after its last words for people."""
    subprocess.run(finding.hint.partition(": ")[2], shell=True, cwd=cwd, check=True, capture_output=True)


def only_explained(shop: Path, *expected: tuple[str, str]) -> list[Finding]:
    """See that exactly this is found, that none of it can be mended, and that mending changes nothing."""
    before = picture(shop.parent)
    found = examine(shop, fix=True)
    assert codes(found) == [(code, severity, False) for code, severity in expected]
    assert picture(shop.parent) == before
    return found


@pytest.fixture
def live(shop: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the workspace of the task `one`."""
    code = (
        "import sys; from moderator.git.leases import acquire; from pathlib import Path;"
        "lease = acquire(Path(sys.argv[1]), 'it'); print('held', flush=True); sys.stdin.read()"
    )
    path = shop / ".git/moderator/leases/one.lock"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_nothing_is_wrong_with_a_healthy_repository(shop: Path) -> None:
    """Workspaces of every level, with and without work in them, a person's worktree and a stash are no findings at all."""
    work_in(make(shop))
    GitManager(shop).commit("one", "work")
    work_in(make(shop, "two", DIRECTORY))
    make(shop, "three")
    make(shop, "four", BRANCH)
    git(shop, "worktree", "add", "-q", "-b", "mine", shop.parent / "mine")
    (shop / "README.md").write_text("stashed\n")
    git(shop, "stash", "push", "-q")
    before = picture(shop.parent)
    assert examine(shop) == []
    assert examine(shop, fix=True, deep=True) == []
    assert picture(shop.parent) == before


def test_a_bare_repository_and_one_without_workspaces_are_healthy(tmp_path: Path) -> None:
    """Where there is nothing of ours, nothing is found and nothing is made."""
    bare = make_repository(tmp_path / "shop.git", bare=True)
    before = picture(tmp_path)
    assert examine(bare, fix=True, deep=True) == []
    assert picture(tmp_path) == before


@pytest.mark.parametrize("step", ["update-ref", "read-tree"])
def test_what_a_killed_process_left_half_made_is_taken_away(shop: Path, step: str) -> None:
    """A workspace whose maker died is half-made; mending frees its names, and the next look finds nothing."""
    before = git(shop, "for-each-ref")
    assert killed_before(step, shop.parent, shop, "one", "create")
    assert codes(examine(shop)) == [("half-made", PROBLEM, True)]
    assert mended(examine(shop, fix=True)) == [("half-made", True)]
    assert examine(shop) == []
    assert git(shop, "for-each-ref") == before
    assert files(make(shop).path).keys() == {"README.md", "src/a.txt", "run.sh", "link", ".gitignore"}


@pytest.mark.parametrize("step", ["os.rename tasks/one", "os.rename worktrees"])
def test_a_removal_whose_process_was_killed_is_ended_one_way_or_the_other(shop: Path, step: str) -> None:
    """After mending a half-made removal the workspace is whole again or gone, and its branch is there."""
    assert killed_before(step, shop.parent, shop, "one", "remove")
    assert codes(examine(shop)) == [("half-removed", PROBLEM, True)]
    assert mended(examine(shop, fix=True))[0] == ("half-removed", True)
    assert [finding for finding in examine(shop) if finding.severity == PROBLEM] == []
    assert git(shop, "rev-parse", "main-task-one") == git(shop, "rev-parse", "main")
    for workspace in GitManager(shop).workspaces():
        assert git(workspace.path, "status", "--porcelain") == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("action", "level"), [("create", FULL), ("remove", FULL), ("create", DIRECTORY), ("create", BRANCH)]
)
def test_whichever_step_a_process_is_killed_at(tmp_path: Path, action: str, level: IsolationLevel) -> None:
    """After mending nothing is a problem, and what could be mended is not found again."""
    step = 1
    while True:
        shop = make_repository(tmp_path / str(step) / "shop", [("first", FILES)])
        if killed_before(step, shop.parent, shop, "one", action, level) is None:
            break
        assert all(finding.mended for finding in examine(shop, fix=True) if finding.fixable)
        assert [finding.code for finding in examine(shop) if finding.code != "branch-left"] == []
        step += 1
    assert step > 10


def test_a_half_made_workspace_that_is_being_made_is_nobodys_business(shop: Path, live: subprocess.Popen[str]) -> None:
    """While a live process makes a workspace, there is nothing to find and nothing to mend."""
    make_first(shop, live)
    record = json.loads(the_record(shop).read_bytes())
    the_record(shop).write_text(json.dumps(record | {"state": "making"}))
    only_explained(shop)


def test_a_held_workspace_is_looked_at_and_left(shop: Path, live: subprocess.Popen[str]) -> None:
    """What is wrong with a workspace that a live process holds is information, with the holder named; nothing is touched."""
    make_first(shop, live)
    work_in(GitManager(shop).find("one"))  # type: ignore[arg-type]
    shutil.rmtree(the_entry(shop))
    (found,) = only_explained(shop, ("entry-gone", INFORMATION))
    assert f"process {live.pid}" in found.why_not


def test_a_workspace_held_by_another_machine_is_information(shop: Path) -> None:
    """Nobody here can tell whether its holder lives, so the way out is named and nothing is done."""
    make(shop)
    shutil.rmtree(the_entry(shop))
    owner = {"host": "elsewhere", "boot_id": "another", "pid": 7, "started": 1}
    (shop / ".git/moderator/leases/one.lock").write_text(json.dumps(owner))
    found = only_explained(shop, ("held-elsewhere", INFORMATION), ("entry-gone", INFORMATION))
    assert found[0].hint.endswith("moderator unlock --abandoned one")


def make_first(shop: Path, holder: subprocess.Popen[str]) -> None:
    """Make the workspace that a process holds the lease of, as if it had made it itself."""
    lock = shop / ".git/moderator/leases/one.lock"
    aside = lock.rename(lock.with_name("aside"))
    make(shop)
    aside.rename(lock)
    assert holder.poll() is None


class TestTrees:
    def test_a_tree_deleted_by_hand_is_explained(self, shop: Path) -> None:
        """Whoever deletes a workspace's directory is told what removes the rest."""
        shutil.rmtree(make(shop).path)
        make(shop, "two")
        (found,) = only_explained(shop, ("tree-missing", PROBLEM))
        assert found.hint.endswith("moderator clean one")

    def test_a_missing_home_may_be_a_disk_that_is_not_mounted(self, shop: Path) -> None:
        """Where all workspaces are gone at once, nothing is said to be deleted."""
        make(shop)
        shutil.rmtree(shop.parent / "checkouts")
        only_explained(shop, ("home-missing", PROBLEM))

    @pytest.mark.parametrize("way", ["mv", "git", "repair"])
    def test_a_moved_tree_is_found_and_the_hint_brings_it_back(self, shop: Path, way: str) -> None:
        """However somebody moved a tree, typing the hint makes everything as it was."""
        workspace = make(shop)
        work = work_in(workspace)
        elsewhere = Path(workspace.path).with_name("elsewhere")
        if way == "git":
            elsewhere = shop.parent / "far"
            git(shop, "worktree", "move", "-f", "-f", workspace.path, elsewhere)
        else:
            os.rename(workspace.path, elsewhere)
        if way == "repair":
            git(shop, "worktree", "repair", elsewhere)
        (found,) = only_explained(shop, ("tree-moved", PROBLEM))
        assert str(elsewhere) in found.message
        typed(found, shop)
        assert examine(shop) == []
        assert files(workspace.path) == work

    def test_a_tree_that_became_something_else_is_explained(self, shop: Path) -> None:
        """A symbolic link where a tree was is not followed."""
        path = Path(make(shop).path)
        path.rename(shop.parent / "real")
        path.symlink_to(shop.parent / "real")
        only_explained(shop, ("tree-replaced", PROBLEM))

    def test_a_copied_tree_is_told_from_the_real_one(self, shop: Path) -> None:
        """A copy of a workspace works on the workspace's index, which is said and left."""
        path = Path(make(shop).path)
        shutil.copytree(path, path.with_name("copy"), symlinks=True)
        (found,) = only_explained(shop, ("tree-copied", INFORMATION))
        typed(found, shop)
        assert examine(shop) == []

    def test_a_tree_that_nobody_knows_is_explained_and_the_hint_makes_it_a_worktree(self, shop: Path) -> None:
        """With entry and record gone the files stay, and the commands that are offered make git know them again."""
        workspace = make(shop)
        work = work_in(workspace)
        shutil.rmtree(the_entry(shop))
        the_record(shop).unlink()
        (shop / ".git/moderator/leases/one.lock").unlink()
        make(shop, "two")
        found = only_explained(shop, ("tree-orphaned", PROBLEM), ("branch-left", INFORMATION))
        typed(found[0], shop)
        assert codes(examine(shop)) == [("branch-left", INFORMATION, False)]
        assert files(workspace.path) == work
        assert "README.md" in git(workspace.path, "status", "--porcelain")


class TestPrunedEntries:
    def test_an_entry_that_somebody_pruned_is_registered_again(self, shop: Path) -> None:
        """After unlock and prune by hand, mending makes the worktree work again; no file changes and none is lost to git."""
        workspace = make(shop)
        work = work_in(workspace)
        git(workspace.path, "commit", "-q", "-m", "staged")
        tip = git(workspace.path, "rev-parse", "HEAD")
        before = picture(Path(workspace.path))
        aside = shop.parent / "aside"
        git(shop, "worktree", "unlock", workspace.path)
        os.rename(workspace.path, aside)
        git(shop, "worktree", "prune")
        os.rename(aside, workspace.path)
        assert not (shop / ".git/worktrees").exists()

        assert codes(examine(shop)) == [("entry-gone", PROBLEM, True)]
        assert mended(examine(shop, fix=True)) == [("entry-gone", True)]
        assert examine(shop) == []
        assert (files(workspace.path), picture(Path(workspace.path))) == (work, before)
        assert git(workspace.path, "symbolic-ref", "HEAD") == "refs/heads/main-task-one"
        assert git(workspace.path, "rev-parse", "HEAD") == tip
        changed = [" M README.md", " D link", " M run.sh", " M src/new.txt", "?? untracked"]
        assert sorted(git(workspace.path, "status", "--porcelain").split("\n")) == sorted(changed)
        assert "locked" in git(shop, "worktree", "list", "--porcelain")
        commit = GitManager(shop).commit("one", "everything")
        assert commit is not None
        assert commit.parents == (tip,)

    def test_a_detached_one_comes_back_at_its_result(self, shop: Path) -> None:
        """At level directory HEAD is where the last result was kept."""
        workspace = make(shop, level=DIRECTORY)
        work_in(workspace)
        commit = GitManager(shop).commit("one", "work")
        assert commit is not None
        work = files(workspace.path)
        shutil.rmtree(the_entry(shop))
        assert mended(examine(shop, fix=True)) == [("entry-gone", True)]
        assert examine(shop) == []
        assert files(workspace.path) == work
        assert git(workspace.path, "rev-parse", "HEAD", "--abbrev-ref", "HEAD").split() == [commit.id, "HEAD"]
        assert git(workspace.path, "status", "--porcelain") == ""

    def test_without_its_branch_nobody_knows_the_tip(self, shop: Path) -> None:
        """With entry and branch gone nothing is guessed; once the branch is there again, mending goes on."""
        workspace = make(shop)
        work = work_in(workspace)
        shutil.rmtree(the_entry(shop))
        git(shop, "branch", "-q", "-D", "main-task-one")
        only_explained(shop, ("entry-gone", PROBLEM))
        git(shop, "branch", "main-task-one", "main")
        assert mended(examine(shop, fix=True)) == [("entry-gone", True)]
        assert files(workspace.path) == work

    def test_a_branch_that_is_checked_out_elsewhere_is_not_checked_out_twice(self, shop: Path) -> None:
        """Two worktrees on one branch would undo each other's commits, so a person decides."""
        make(shop)
        shutil.rmtree(the_entry(shop))
        git(shop, "switch", "-q", "main-task-one")
        only_explained(shop, ("entry-gone", PROBLEM))

    def test_a_tree_with_another_git_file_is_left(self, shop: Path) -> None:
        """A repository that somebody made in the tree is not ours to register."""
        workspace = make(shop)
        shutil.rmtree(the_entry(shop))
        Path(workspace.path, ".git").unlink()
        make_repository(Path(workspace.path), [])
        only_explained(shop, ("entry-gone", PROBLEM))


class TestEntries:
    @pytest.mark.parametrize(
        ("name", "text", "code"),
        [
            ("commondir", b"", "commondir-damaged"),
            ("commondir", None, "commondir-damaged"),
            ("gitdir", b"", "gitdir-stale"),
            ("gitdir", b"/nowhere/.git\n", "gitdir-stale"),
            ("HEAD", b"", "head-damaged"),
            ("HEAD", b"0" * 40 + b"\n", "head-damaged"),
            ("index", b"garbage", "index-damaged"),
            ("index", None, "index-damaged"),
        ],
    )
    def test_a_damaged_file_of_an_entry_of_ours_is_written_anew(
        self, shop: Path, name: str, text: bytes | None, code: str
    ) -> None:
        """What the record tells for sure is put back; the tree is not touched."""
        workspace = make(shop)
        work = work_in(workspace)
        status = sorted(line[3:] for line in git(workspace.path, "status", "--porcelain").split("\n"))
        file = the_entry(shop) / name
        file.unlink()
        if text is not None:
            file.write_bytes(text)
        assert codes(examine(shop)) == [(code, PROBLEM, True)]
        assert mended(examine(shop, fix=True)) == [(code, True)]
        assert examine(shop) == []
        assert files(workspace.path) == work
        assert sorted(line[3:] for line in git(workspace.path, "status", "--porcelain").split("\n")) == status
        git(shop, "gc", "--quiet")

    def test_a_head_that_may_have_been_elsewhere_is_left(self, shop: Path) -> None:
        """Where the log says that HEAD was not on the branch's tip, a person decides."""
        workspace = make(shop)
        git(workspace.path, "commit", "-q", "--allow-empty", "-m", "detached")
        git(workspace.path, "update-ref", "refs/heads/kept", "HEAD")
        git(shop, "update-ref", "refs/heads/main-task-one", "main")
        (the_entry(shop) / "HEAD").write_text("")
        only_explained(shop, ("head-damaged", PROBLEM))

    @pytest.mark.parametrize("text", [None, b"", b"gitdir: /srv", b"gitdir: /nowhere/worktrees/x\n"])
    def test_a_git_file_that_leads_nowhere_is_written_anew(self, shop: Path, text: bytes | None) -> None:
        """The entry names the tree and the tree's file is lost or dead: they belong together."""
        workspace = make(shop)
        work = work_in(workspace)
        pointer = Path(workspace.path, ".git")
        whole = pointer.read_bytes()
        pointer.unlink()
        if text is not None:
            pointer.write_bytes(text)
        fixable = text != b"gitdir: /srv"  # that place exists: it is somebody's
        assert codes(examine(shop)) == [("pointer-stale", PROBLEM, fixable)]
        assert mended(examine(shop, fix=True)) == [("pointer-stale", fixable)]
        assert pointer.read_bytes() == (whole if fixable else text)
        assert files(workspace.path) == work

    def test_a_repository_in_place_of_the_git_file_is_left(self, shop: Path) -> None:
        """Whoever made a repository of their own in a workspace has a reason."""
        pointer = Path(make(shop).path, ".git")
        pointer.unlink()
        make_repository(pointer.parent)
        only_explained(shop, ("pointer-stale", PROBLEM))

    def test_a_workspace_that_was_not_brought_back_whole_is_named(self, shop: Path) -> None:
        """Where the other commands would refuse to work, the doctor never says that nothing is wrong."""
        make(shop)
        (the_entry(shop) / RESTORING).touch()
        only_explained(shop, ("not-whole", PROBLEM))

    def test_two_trees_that_claim_one_entry_are_left(self, shop: Path) -> None:
        """Which of them is the copy, nobody but a person can say."""
        path = Path(make(shop).path)
        shutil.copytree(path, path.with_name("copy"), symlinks=True)
        (the_entry(shop) / "gitdir").write_text(f"{path.with_name('copy')}/.git\n")
        only_explained(shop, ("gitdir-stale", PROBLEM), ("tree-copied", INFORMATION))

    def test_an_entry_of_ours_without_a_record_is_explained(self, shop: Path) -> None:
        """A record that somebody deleted makes an orphan; what the hint says makes it a person's own, and tells what is in it."""
        workspace = make(shop)
        the_record(shop).unlink()
        (shop / ".git/moderator/leases/one.lock").unlink()
        found = only_explained(shop, ("entry-orphaned", PROBLEM), ("branch-left", INFORMATION))
        assert f"git -C {workspace.path} status --ignored" in found[0].hint
        git(shop, "worktree", "unlock", workspace.path)
        git(shop, "worktree", "remove", workspace.path)
        assert codes(examine(shop)) == [("branch-left", INFORMATION, False)]

    @pytest.mark.parametrize(("name", "text"), [("commondir", ""), ("HEAD", "0" * 40 + "\n"), ("gitdir", "")])
    def test_somebody_elses_broken_entry_is_named_and_left(self, shop: Path, name: str, text: str) -> None:
        """It breaks git for everybody, but it is not ours; while it is young, git may just be making it."""
        git(shop, "worktree", "add", "-q", "-b", "mine", shop.parent / "mine")
        entry = shop / ".git/worktrees/mine"
        (entry / name).write_text(text)
        only_explained(shop, ("entry-broken", INFORMATION))
        os.utime(entry, (LONG_AGO, LONG_AGO))
        (found,) = only_explained(shop, ("entry-broken", PROBLEM))
        typed(found, shop)
        assert examine(shop) == []

    def test_other_peoples_worktrees_are_their_own(self, shop: Path) -> None:
        """A person's worktree that was deleted, moved, locked or has a lock file is no finding."""
        for name in ("gone", "locked"):
            git(shop, "worktree", "add", "-q", "--detach", shop.parent / name)
        shutil.rmtree(shop.parent / "gone")
        git(shop, "worktree", "lock", shop.parent / "locked")
        lock = shop / ".git/worktrees/locked/index.lock"
        lock.touch()
        os.utime(lock, (LONG_AGO, LONG_AGO))
        only_explained(shop)


class TestBranches:
    def test_a_branch_that_is_gone_can_be_made_again_as_the_hint_says(self, shop: Path) -> None:
        """The log of the worktree's HEAD still knows the tip."""
        workspace = make(shop)
        git(workspace.path, "commit", "-q", "--allow-empty", "-m", "work")
        tip = git(workspace.path, "rev-parse", "HEAD")
        git(shop, "update-ref", "-d", "refs/heads/main-task-one")
        (found,) = only_explained(shop, ("branch-gone", PROBLEM))
        git(shop, "branch", "main-task-one", tip)
        assert f"git branch main-task-one {tip}" in found.hint
        assert examine(shop) == []

    def test_an_entry_that_lost_its_lock_gets_it_back(self, shop: Path) -> None:
        """`git worktree unlock` leaves a workspace open to every prune; a person's own lock is left alone."""
        workspace = make(shop)
        git(shop, "worktree", "unlock", workspace.path)
        assert codes(examine(shop)) == [("entry-unlocked", INFORMATION, True)]
        assert mended(examine(shop, fix=True)) == [("entry-unlocked", True)]
        assert examine(shop) == []
        git(shop, "worktree", "unlock", workspace.path)
        git(shop, "worktree", "lock", "--reason", "mine", workspace.path)
        only_explained(shop)

    def test_a_head_on_another_branch_is_information(self, shop: Path) -> None:
        """A person or the task switched, which is allowed."""
        workspace = make(shop)
        detached = make(shop, "two", DIRECTORY)
        git(workspace.path, "switch", "-q", "-c", "other")
        git(detached.path, "switch", "-q", "-c", "another")
        found = only_explained(shop, ("head-elsewhere", INFORMATION), ("head-elsewhere", INFORMATION))
        for finding in found:
            typed(finding, shop)
        assert examine(shop) == []

    def test_branches_without_a_workspace_are_listed_with_what_they_hold(self, shop: Path) -> None:
        """Of branches that look like a task's, only those that we made count."""
        for task_id in ("one", "two"):
            workspace = make(shop, task_id)
            if task_id == "two":
                git(workspace.path, "commit", "-q", "--allow-empty", "-m", "work")
            GitManager(shop).remove_workspace(task_id)
        git(shop, "branch", "main-task-mine")
        found = only_explained(shop, ("branch-left", INFORMATION), ("branch-left", INFORMATION))
        assert ["0 commits" in found[0].message, "1 commit " in found[1].message] == [True, True]


class TestRecords:
    def test_a_record_that_cannot_be_read_is_named_and_kept(self, shop: Path) -> None:
        """Whatever stands where a record should, nothing is trusted or overwritten, and the tree it may be of is named."""
        workspace = make(shop)
        record = the_record(shop)
        text = record.read_text()
        values = json.loads(text)
        damages: list[Callable[[], object]] = [
            lambda: record.write_text(""),
            lambda: record.write_text(text[: len(text) // 2]),
            lambda: record.write_text(json.dumps(values | {"version": 99})),
            lambda: record.write_text(json.dumps(values | {"path": 5})),
            lambda: record.write_text(json.dumps(values | {"branch": "a\nb"})),
            lambda: record.write_text(json.dumps(values | {"entry": "../../refs"})),
            lambda: record.write_text(json.dumps(values | {"task_id": "another"})),
            record.mkdir,
            lambda: record.symlink_to(record),
            lambda: os.mkfifo(record),
        ]
        for damage in damages:
            record.rmdir() if record.is_dir() else record.unlink()
            damage()
            # A pipe cannot be pictured: reading it would wait for ever.
            found = examine(shop) if record.is_fifo() else only_explained(shop, ("record-unreadable", PROBLEM))
            assert [workspace.path in finding.message for finding in found] == [True]

    def test_foreign_files_among_the_records_are_information(self, shop: Path) -> None:
        """An editor's backup does no harm."""
        make(shop)
        (the_record(shop).parent / "one.json~").write_text("{")
        only_explained(shop, ("foreign-file", INFORMATION))

    @pytest.mark.parametrize(
        "place", ["moderator/workspaces", "moderator/leases", "moderator/staging", "moderator", "worktrees"]
    )
    def test_a_file_where_a_folder_should_be_is_a_finding(self, shop: Path, place: str) -> None:
        """The doctor says which part it could not look at, and looks at the others."""
        if place != "moderator":
            (shop / ".git/moderator").mkdir()
        (shop / ".git" / place).write_text("in the way\n")
        before = picture(shop.parent)
        found = examine(shop, fix=True)
        assert found
        assert {finding.code for finding in found} == {"could-not-look"}
        assert picture(shop.parent) == before


class TestLocks:
    def test_an_old_lock_in_a_workspace_of_ours_is_moved_aside(self, shop: Path) -> None:
        """Nobody holds the workspace and the lock is old, so its git died; a young one is left."""
        workspace = make(shop)
        young, old = the_entry(shop) / "HEAD.lock", the_entry(shop) / "index.lock"
        for lock in (young, old):
            lock.write_text("half an index")
        os.utime(old, (LONG_AGO, LONG_AGO))
        expected = [("lock-young", INFORMATION, False), ("lock-stale", PROBLEM, True)]
        assert codes(examine(shop)) == expected
        assert mended(examine(shop, fix=True)) == [("lock-young", False), ("lock-stale", True)]
        assert codes(examine(shop)) == expected[:1]
        assert young.exists()
        (aside,) = (shop / ".git/moderator/trash/locks").iterdir()
        assert aside.read_text() == "half an index"
        young.unlink()
        git(workspace.path, "commit", "-q", "--allow-empty", "-m", "works")

    def test_a_lock_is_left_while_a_process_works_in_the_workspace(self, shop: Path) -> None:
        """`git commit` holds its lock for as long as its editor is open, which may be long."""
        workspace = make(shop)
        lock = the_entry(shop) / "index.lock"
        lock.touch()
        os.utime(lock, (LONG_AGO, LONG_AGO))
        with subprocess.Popen(["sleep", "60"], cwd=workspace.path) as process:
            (found,) = examine(shop, fix=True)
            process.kill()
        assert (found.mended, str(process.pid) in found.why_not, lock.exists()) == (False, True, True)

    def test_an_old_lock_that_all_share_is_explained(self, shop: Path) -> None:
        """Outside our own entries a person removes lock files, with the command that is shown; young ones are in use."""
        names = ["HEAD.lock", "config.lock", "index.lock", "packed-refs.lock", "shallow.lock", "refs/heads/main.lock"]
        for name in names:
            (shop / ".git" / name).touch()
        only_explained(shop)
        for name in names:
            os.utime(shop / ".git" / name, (LONG_AGO, LONG_AGO))
        for finding in only_explained(shop, *[("lock-stale", PROBLEM)] * len(names)):
            typed(finding, shop)
        assert examine(shop) == []

    def test_an_old_lock_of_a_ref_of_ours_is_moved_aside(self, shop: Path) -> None:
        """No person's git command writes those; a young one may be at work."""
        lock = shop / ".git/refs/moderator/rescue/one/20261127T232026Z-10dc7f39.lock"
        lock.parent.mkdir(parents=True)
        lock.touch()
        assert examine(shop, fix=True) == []
        os.utime(lock, (LONG_AGO, LONG_AGO))
        assert mended(examine(shop, fix=True)) == [("lock-stale", True)]
        assert (lock.exists(), examine(shop)) == (False, [])


class TestSettings:
    def test_core_bare_is_taken_back_where_there_is_a_checkout(self, shop: Path) -> None:
        """A task that ran `git config core.bare true` stops git in the main checkout; the old file is kept."""
        make(shop)
        git(shop, "config", "core.bare", "true")
        damaged = (shop / ".git/config").read_bytes()
        assert codes(examine(shop)) == [("core-bare", PROBLEM, True)]
        assert mended(examine(shop, fix=True)) == [("core-bare", True)]
        assert examine(shop) == []
        assert git(shop, "status", "--porcelain") == ""
        (kept,) = (shop / ".git/moderator/trash").glob("config-*")
        assert kept.read_bytes() == damaged

    @pytest.mark.parametrize("place", ["workspace", "nowhere"])
    def test_core_worktree_is_taken_back_where_it_leads_astray(self, shop: Path, place: str) -> None:
        """git in the main checkout would work in a task's files, or nowhere."""
        workspace = make(shop)
        git(shop, "config", "core.worktree", workspace.path if place == "workspace" else "/srv/gone")
        assert codes(examine(shop)) == [("core-worktree", PROBLEM, True)]
        assert mended(examine(shop, fix=True)) == [("core-worktree", True)]
        assert examine(shop) == []
        assert git(shop, "rev-parse", "--show-toplevel") == str(shop)

    def test_where_the_checkout_is_gone_a_person_decides(self, shop: Path) -> None:
        """An index without any of its files is no proof that there should be a checkout."""
        git(shop, "config", "core.bare", "true")
        for name in os.listdir(shop):
            if name != ".git":
                (shutil.rmtree if (shop / name).is_dir() else os.unlink)(shop / name)
        only_explained(shop, ("core-bare", INFORMATION))

    def test_a_mirroring_fetch_is_a_problem_and_the_hint_ends_it(self, shop: Path) -> None:
        """The next `fetch --prune` would delete the branches of all tasks."""
        git(shop, "remote", "add", "--mirror=fetch", "origin", "/srv/shop")
        (found,) = only_explained(shop, ("mirror-fetch", PROBLEM))
        subprocess.run(found.hint, shell=True, cwd=shop, check=True)
        assert examine(shop) == []

    def test_traces_of_others_are_information(self, shop: Path) -> None:
        """A failed gc, and the settings of a task's branch that is gone, do no harm."""
        (shop / ".git/gc.log").write_text("warning: too many loose objects\n")
        git(shop, "config", "branch.main-task-one.remote", "origin")
        git(shop, "config", "branch.v1.task.remote", "origin")
        found = only_explained(shop, ("gc-failed", INFORMATION), ("branch-section", INFORMATION))
        typed(found[0], shop)
        (shop / ".git/gc.log").unlink(missing_ok=True)
        subprocess.run(found[1].hint, shell=True, cwd=shop, check=True)
        assert examine(shop) == []


class TestLeftovers:
    def test_what_was_being_put_together_or_deleted_goes(self, shop: Path) -> None:
        """Half-written entries, private indexes and unfinished deletions hold nothing; the young ones may be in use."""
        make(shop)
        ours, home = shop / ".git/moderator", shop.parent / "checkouts/tasks"
        for path in (
            ours / "staging/x-1234/HEAD",
            ours / "trash/x-1234.deleting/HEAD",
            home / ".trash/y.deleting/file",
        ):
            path.parent.mkdir(parents=True)
            path.write_text("x")
        (ours / "staging/young.index").write_text("x")
        (ours / "workspaces/.three.new").write_text("{")
        for path in (ours / "staging/x-1234/HEAD", ours / "staging/x-1234", ours / "workspaces/.three.new"):
            os.utime(path, (LONG_AGO, LONG_AGO))
        expected = ["staging-leftover", "staging-leftover", "deletion-unfinished", "deletion-unfinished"]
        assert codes(examine(shop)) == [(code, INFORMATION, True) for code in expected]
        assert mended(examine(shop, fix=True)) == [(code, True) for code in expected]
        assert examine(shop) == []
        assert os.listdir(ours / "staging") == ["young.index"]

    def test_staging_is_left_while_anybody_is_at_work(self, shop: Path, live: subprocess.Popen[str]) -> None:
        """A rescue of a large workspace may take longer than the grace."""
        staged = shop / ".git/moderator/staging/rescue-1"
        staged.mkdir(parents=True)
        os.utime(staged, (LONG_AGO, LONG_AGO))
        (found,) = examine(shop, fix=True)
        assert (found.code, found.mended, f"process {live.pid}" in found.why_not) == ("staging-leftover", False, True)
        assert staged.exists()

    def test_trash_that_nobody_claims_is_kept_and_named(self, shop: Path) -> None:
        """What may be the last copy of somebody's work is never deleted, whatever it is."""
        make(shop)
        item = shop.parent / "checkouts/tasks/.trash/old-1234/work.txt"
        item.parent.mkdir(parents=True)
        item.write_text("precious\n")
        (found,) = only_explained(shop, ("trash-unclaimed", PROBLEM))
        assert (str(item.parent) in found.message, "(9 bytes)" in found.message) == (True, True)

    def test_trash_with_a_removal_record_is_as_it_should_be(self, shop: Path) -> None:
        """A removal that can be undone is no finding; one whose trash somebody emptied is information."""
        work_in(make(shop))
        make(shop, "two")
        removal = GitManager(shop).remove_workspace("one", rescue=True)
        branch = ("branch-left", INFORMATION)
        only_explained(shop, branch)
        shutil.rmtree(shop.parent / "checkouts/tasks/.trash")
        shutil.rmtree(shop / ".git/moderator/trash")
        only_explained(shop, ("trash-gone", INFORMATION), branch)
        record = shop / f".git/moderator/removed/{removal.id}.json"
        record.write_bytes(record.read_bytes()[:50])
        only_explained(shop, ("removal-unreadable", PROBLEM), branch)

    @pytest.mark.usefixtures("live")
    def test_idle_leases_go_and_held_ones_stay(self, shop: Path) -> None:
        """A lock file without a workspace is removed under its own lock; the one a live process holds is not."""
        make(shop, "two")
        idle = shop / ".git/moderator/leases/idle.lock"
        idle.touch()
        assert codes(examine(shop)) == [("lease-idle", INFORMATION, True)]
        assert mended(examine(shop, fix=True)) == [("lease-idle", True)]
        assert examine(shop) == []
        assert sorted(os.listdir(idle.parent)) == ["one.lock", "two.lock"]


def test_a_rescue_that_nothing_names_is_found_by_a_deep_look(shop: Path) -> None:
    """Among commits without a ref our own are told apart, and the hint makes them rescues again."""
    work_in(make(shop))
    manager = GitManager(shop)
    rescue = manager.rescue("one")
    assert rescue is not None
    git(shop, "update-ref", "-d", rescue.ref)
    git(shop, "commit-tree", "-m", "somebody's", git(shop, "rev-parse", "main^{tree}"))
    before = picture(shop.parent)
    assert examine(shop) == []
    found = examine(shop, fix=True, deep=True)
    assert codes(found) == [("rescue-unreachable", INFORMATION, False), ("dangling-commits", INFORMATION, False)]
    assert picture(shop.parent) == before
    typed(found[0], shop)
    assert [(one.task_id, one.commit, one.untracked) for one in manager.rescues()] == [
        ("one", rescue.commit, rescue.untracked)
    ]
    assert codes(examine(shop, deep=True)) == [("dangling-commits", INFORMATION, False)]


def test_missing_objects_are_found_by_a_deep_look(shop: Path) -> None:
    """What a disk lost is said in git's own words."""
    (shop / "lost.txt").write_text("lost\n")
    git(shop, "add", "lost.txt")
    git(shop, "commit", "-q", "-m", "second")
    name = git(shop, "rev-parse", "main:lost.txt")
    (shop / ".git/objects" / name[:2] / name[2:]).unlink()
    assert examine(shop) == []
    (found,) = examine(shop, deep=True)
    assert (found.code, found.severity, name in found.message) == ("objects-damaged", PROBLEM, True)


def test_what_is_no_rescue_under_our_refs_is_a_problem(shop: Path) -> None:
    """A ref that a newer version, or nobody knows who, wrote there is named and kept."""
    git(shop, "update-ref", "refs/moderator/rescue/one/20260101T000000Z-00000000", "main")
    only_explained(shop, ("rescue-unreadable", PROBLEM))
