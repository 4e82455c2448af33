"""A process killed at any step of making or removing a workspace loses nothing and leaves nothing half-made."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from moderator.context import IsolationLevel
from moderator.errors import CheckoutNotClean, WouldLoseWork
from moderator.git.manager import GitManager
from moderator.git.values import Keeping
from repos import git, make_repository
from workspaces import BRANCH, DIRECTORY, FULL, context, files, killed_before, listing

COMMITS = [("first", {"README.md": "# Sample\n", "src/a.py": "a = 1\n", "src/b.py": "b = 2\n"})]
TREE = {"README.md": b"# Sample\n", "src/a.py": b"a = 1\n", "src/b.py": b"b = 2\n"}


def repository_in(folder: Path, fallback: bool) -> Path:
    repo = make_repository(folder / "repo", COMMITS)
    if fallback:
        git(repo, "config", "extensions.worktreeConfig", "true")
    return repo


def entries(repo: Path) -> list[str]:
    return sorted(os.listdir(repo / ".git/worktrees")) if (repo / ".git/worktrees").is_dir() else []


def leftovers(folder: Path, repo: Path) -> list[str]:
    """Everything of ours but records, locks of workspaces that exist, and their trees."""
    places = [repo / ".git/moderator/trash", repo / ".git/moderator/staging", folder / "checkouts/tasks/.trash"]
    hidden = (repo / ".git/moderator/workspaces").glob(".*")
    return [str(path) for place in places if place.is_dir() for path in place.rglob("*")] + [
        str(path) for path in hidden
    ]


def assert_whole(folder: Path, repo: Path, level: IsolationLevel) -> None:
    """The workspace of task `t` is all there, once, and git finds nothing wrong."""
    tree = folder / "checkouts/tasks/t"
    assert len(entries(repo)) == 1
    assert files(tree) == TREE
    assert git(tree, "status", "--porcelain", "--branch") == (
        "## main-task-t" if level is FULL else "## HEAD (no branch)"
    )
    assert git(repo, "fsck", "--strict", "--no-dangling") == ""
    assert (folder / "checkouts/tasks/.trash").exists() is False
    assert [(w.task_id, w.path) for w in GitManager(repo).workspaces()] == [("t", str(tree))]


MAKING = {
    "before the claim": "os.link workspaces/.t.new",
    "claim written": "Popen git update-ref",
    "branch created": "os.mkdir staging",
    "entry staged": "os.link pointer",
    ".git linked": "os.rename staging",
    "entry renamed": "Popen git read-tree",
    "checked out": "os.rename workspaces/.t.new",
}
MAKING_BY_GIT = {
    "branch created": "Popen git worktree",
    "worktree added": "os.rename worktrees/t",
    "entry renamed": "open .git.new",
    "pointer written": "os.rename .git.new",
    "pointer renamed": "Popen git read-tree",
}
REMOVING = {
    "before the intent": "os.rename workspaces/.t.new",
    "intent noted": "os.rename checkouts/tasks/t",
    "tree renamed": "os.rename removed/.t",
    "removal written down": "os.rename worktrees/t",
    "entry renamed": "os.remove workspaces/t.json",
    "name free": "os.rename .trash",
    "tree to be deleted": "os.rename moderator/trash",
    "entry to be deleted": "os.remove README.md",
    "tree half deleted": "os.rmdir src",
    "tree deleted": "os.remove commondir",
}
"""Names of the steps that were done last, and what the process was about to do when it was killed."""


def assert_made_after(step: int | str, folder: Path, level: IsolationLevel, fallback: bool) -> bool:
    repo = repository_in(folder, fallback)
    what = killed_before(step, folder, repo, "t", "create", level)
    if what:
        with GitManager(repo).create_workspace(context(folder, "t", level)):
            assert_whole(folder, repo, level)
            assert leftovers(folder, repo) == [], what
    return what is not None


def assert_removed_after(step: int | str, folder: Path) -> bool:
    repo = repository_in(folder, False)
    what = killed_before(step, folder, repo, "t", "remove")
    if what:
        manager = GitManager(repo)
        if manager.owners(["t"]):
            manager.remove_workspace("t")
        assert manager.empty_trash()
        assert (manager.workspaces(), entries(repo), leftovers(folder, repo)) == ([], [], []), what
        assert (files(folder / "checkouts"), git(repo, "rev-parse", "main-task-t")) == (
            {},
            git(repo, "rev-parse", "main"),
        )
    return what is not None


def assert_taken_back_after(step: int | str, folder: Path) -> bool:
    repo = repository_in(folder, False)
    what = killed_before(step, folder, repo, "t", "remove")
    if what:
        if not entries(repo):  # it was past the point of return
            GitManager(repo).owners(["t"]) and GitManager(repo).remove_workspace("t")
            GitManager(repo).empty_trash()
            git(repo, "branch", "-D", "main-task-t")
        with GitManager(repo).create_workspace(context(folder, "t")):
            assert_whole(folder, repo, FULL)
            assert [path for path in leftovers(folder, repo) if not path.endswith(".t.new")] == [], what
    return what is not None


@pytest.mark.parametrize("step", MAKING)
@pytest.mark.some(4)
def test_killed_while_making_a_workspace(tmp_path: Path, step: str) -> None:
    """Wherever its maker is killed, the next attempt gets a whole workspace, and only that."""
    assert assert_made_after(MAKING[step], tmp_path, FULL, fallback=False)


@pytest.mark.parametrize("step", MAKING_BY_GIT)
def test_killed_while_git_makes_a_worktree(tmp_path: Path, step: str) -> None:
    """The same where the worktree is added by git, under git's own name for it."""
    assert assert_made_after(MAKING_BY_GIT[step], tmp_path, FULL, fallback=True)


@pytest.mark.parametrize("step", REMOVING)
@pytest.mark.some(4)
def test_killed_while_removing_a_workspace(tmp_path: Path, step: str) -> None:
    """Wherever its remover is killed, the workspace is whole or gone; the next removal ends it, its branch stays."""
    assert assert_removed_after(REMOVING[step], tmp_path)


@pytest.mark.parametrize("step", REMOVING)
@pytest.mark.some(4)
def test_a_removal_that_was_killed_is_taken_back(tmp_path: Path, step: str) -> None:
    """Wherever a remover is killed before it decided, asking for the workspace again gives it back with its commits."""
    assert assert_taken_back_after(REMOVING[step], tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("way", ["full", "directory", "by git", "removed", "taken back", "rescued", "undone"])
def test_killed_at_any_step(tmp_path: Path, way: str) -> None:
    """The same for every single change of the disk."""
    attempt = {
        "full": lambda step, folder: assert_made_after(step, folder, FULL, False),
        "directory": lambda step, folder: assert_made_after(step, folder, DIRECTORY, False),
        "by git": lambda step, folder: assert_made_after(step, folder, FULL, True),
        "removed": assert_removed_after,
        "taken back": assert_taken_back_after,
        "rescued": lambda step, folder: assert_nothing_lost_after(step, folder, "rescue"),
        "undone": lambda step, folder: assert_nothing_lost_after(step, folder, "undo"),
    }[way]
    step = 1
    while attempt(step, tmp_path / str(step)):
        step += 1
    assert step > 10


RESCUING = {
    "intent noted": "open rescue-",
    "rescued": "os.rename checkouts/tasks/t",
    "tree renamed": "open removed/.t",
    "removal written down": "os.rename worktrees/t",
    "entry renamed": "os.remove workspaces/t.json",
}
UNDOING = {
    "before the claim": "os.link workspaces/.t.new",
    "claimed": "os.rename moderator/trash/t",
    "entry renamed": "os.rename .trash/t",
    "tree renamed": "os.rename workspaces/.t.new",
    "ready": "os.remove removed/t",
}


def work_of(folder: Path) -> dict[str, bytes]:
    return {str(path.name): path.read_bytes() for path in (folder / "checkouts/tasks").rglob("*") if path.is_file()}


def assert_nothing_lost_after(step: int | str, folder: Path, action: str) -> bool:
    repo = repository_in(folder, False)
    (repo / ".git/info/exclude").write_text(".env\n")
    what = killed_before(step, folder, repo, "t", action)
    if what:
        manager = GitManager(repo)
        assert git(repo, "fsck", "--strict", "--no-dangling") == ""
        found = work_of(folder)
        assert {found.get(name) for name in (".env", "note", "staged")} == {b"secret", b"", b"s"}, what
        if entries(repo):  # it is there, or was taken back
            with manager.create_workspace(context(folder, "t")) as workspace:
                there = Path(workspace.path)
        else:
            with manager.undo_removal("t") as workspace:
                there = Path(workspace.path)
        assert (manager.removals(), [w.task_id for w in manager.workspaces()]) == ([], ["t"]), what
        assert git(there, "status", "--porcelain", "--ignored") == "A  staged\n?? note\n!! .env", what
        left = [path for path in leftovers(folder, repo) if "rescue-" not in path and not path.endswith(".t.new")]
        assert left == [], what
    return what is not None


@pytest.mark.parametrize(("action", "step"), [("rescue", s) for s in RESCUING] + [("undo", s) for s in UNDOING])
@pytest.mark.some(4)
def test_killed_while_taking_away_or_bringing_back(tmp_path: Path, action: str, step: str) -> None:
    """Wherever a removal with a rescue, or its undo, is killed, nothing is lost and the workspace can be had again."""
    steps = RESCUING if action == "rescue" else UNDOING
    assert assert_nothing_lost_after(steps[step], tmp_path, action)


def test_work_done_between_a_killed_removal_and_the_next_is_kept(tmp_path: Path) -> None:
    """A removal killed after it renamed the tree away is looked at anew: what was written since is found."""
    repo = repository_in(tmp_path, False)
    assert killed_before(REMOVING["tree renamed"], tmp_path, repo, "t", "remove")
    (tree,) = (tmp_path / "checkouts/tasks/.trash").iterdir()
    (tree / "late").write_text("work")
    with pytest.raises(WouldLoseWork, match="would lose work") as caught:
        GitManager(repo).remove_workspace("t")
    assert caught.value.findings == ("untracked: late",)
    assert (tmp_path / "checkouts/tasks/t/late").read_text() == "work"


@pytest.mark.parametrize("again", ["create", "remove"])
@pytest.mark.parametrize("step", ["before the claim", "claim written", "checked out"])
def test_killed_while_claiming_a_branch(tmp_path: Path, step: str, again: str) -> None:
    """Level branch: the next attempt gets the branch or takes the claim away, and nobody's worktree is touched."""
    repo = repository_in(tmp_path, False)
    git(repo, "worktree", "add", "--quiet", "-b", "person", tmp_path / "person")
    before = listing(repo / ".git/worktrees", tmp_path / "person")
    assert killed_before(MAKING[step], tmp_path, repo, "t", "create", BRANCH)
    manager = GitManager(repo)
    if again == "create":
        with manager.create_workspace(context(tmp_path, "t", BRANCH, checkout=repo)) as workspace:
            assert (workspace.path, workspace.branch) == (str(repo), "main-task-t")
    elif manager.owners(["t"]):
        manager.remove_workspace("t")
        assert manager.workspaces() == []
    assert listing(repo / ".git/worktrees", tmp_path / "person") == before
    assert git(repo, "status", "--porcelain", "--branch") == "## main"


HALF_WAY = """
from moderator.git.manager import GitManager
from moderator.context import ExecutionContext, IsolationLevel
import sys
folder, repository = sys.argv[1:]
base = ExecutionContext("project", folder + "/checkouts", "main", folder + "/state")
GitManager(repository).create_workspace(ExecutionContext.create_isolated_context(base, "t", IsolationLevel.FULL))
"""


@pytest.mark.parametrize("victims", ["$PPID", "$(ps -o ppid= -p $PPID)", "$(ps -o ppid= -p $PPID) $PPID"])
def test_killed_in_the_middle_of_a_checkout(tmp_path: Path, victims: str) -> None:
    """Whether git, its caller or both are killed with half the files written, the next attempt gets all of them."""
    repo = make_repository(
        tmp_path / "repo",
        [("first", {".gitattributes": "m* filter=stop\n", "a": "a\n", "m": "m\n", "z": "z\n"})],
    )
    git(repo, "config", "filter.stop.smudge", f"cat; kill -9 {victims}; sleep 0.1")
    done = subprocess.run([sys.executable, "-c", HALF_WAY, str(tmp_path), str(repo)], capture_output=True)
    assert done.returncode == (1 if victims == "$PPID" else -signal.SIGKILL)
    git(repo, "config", "filter.stop.smudge", "cat")
    waiting, manager = time.monotonic() + 30, GitManager(repo)
    while manager.owners(["t"]) and manager.holder("t") and time.monotonic() < waiting:
        time.sleep(0.02)  # a git that outlived its caller holds the lease until it is done
    with GitManager(repo).create_workspace(context(tmp_path, "t")) as workspace:
        assert {name: body for name, body in files(workspace.path).items() if name != ".gitattributes"} == {
            "a": b"a\n",
            "m": b"m\n",
            "z": b"z\n",
        }
        assert (git(Path(workspace.path), "status", "--porcelain"), leftovers(tmp_path, repo)) == ("", [])
        assert len(entries(repo)) == 1


def test_foreign_files_in_a_half_made_tree_stay_in_the_trash(tmp_path: Path) -> None:
    """What somebody wrote into a half-made workspace is not deleted with it."""
    repo = repository_in(tmp_path, False)
    assert killed_before(MAKING["entry renamed"], tmp_path, repo, "t", "create")
    (tmp_path / "checkouts/tasks/t/notes").write_text("mine")
    with GitManager(repo).create_workspace(context(tmp_path, "t")) as workspace:
        assert files(workspace.path) == TREE
    kept = list((tmp_path / "checkouts/tasks/.trash").glob("*/notes"))
    assert [path.read_text() for path in kept] == ["mine"]


def test_what_was_half_made_outlasts_whoever_puts_it_away(tmp_path: Path) -> None:
    """Even if the trash keeps things for no time at all, the process that puts them there leaves them to the next one."""
    repo = repository_in(tmp_path, False)
    assert killed_before(MAKING["entry renamed"], tmp_path, repo, "t", "create")
    (tmp_path / "checkouts/tasks/t/notes").write_text("mine")
    manager = GitManager(repo, keeping=Keeping(days=0))
    manager.create_workspace(context(tmp_path, "t")).release()
    manager.empty_trash(own=False)
    assert [path.read_text() for path in (tmp_path / "checkouts/tasks/.trash").glob("*/notes")] == ["mine"]
    GitManager(repo, keeping=Keeping(days=0)).empty_trash(own=False)
    assert not (tmp_path / "checkouts/tasks/.trash").exists()


def test_work_on_the_files_of_a_half_made_tree_stays_in_the_trash(tmp_path: Path) -> None:
    """A file that git would put there, but with somebody's content, is not deleted with a half-made workspace either."""
    repo = repository_in(tmp_path, False)
    assert killed_before(MAKING["entry renamed"], tmp_path, repo, "t", "create")
    name = sorted(TREE)[0]
    there = tmp_path / "checkouts/tasks/t" / name
    there.parent.mkdir(parents=True, exist_ok=True)
    there.write_text("edited")
    with GitManager(repo).create_workspace(context(tmp_path, "t")) as workspace:
        assert files(workspace.path) == TREE
    kept = list((tmp_path / "checkouts/tasks/.trash").glob(f"*/{name}"))
    assert [path.read_text() for path in kept] == ["edited"]


def test_the_base_checkout_keeps_the_work_of_a_killed_task(tmp_path: Path) -> None:
    """Level branch: what a task had written when everything was killed is a person's to look at, untouched."""
    repo = repository_in(tmp_path, False)
    assert killed_before(10**6, tmp_path, repo, "t", "create", BRANCH) is None
    (repo / "work").write_text("half done")
    with pytest.raises(CheckoutNotClean):
        GitManager(repo).create_workspace(context(tmp_path, "t", BRANCH, checkout=repo))
    assert files(repo) == {**TREE, "work": b"half done"}
