"""Adopting a person's worktree or branch moves and changes nothing of it, and is whole or nothing."""

from __future__ import annotations

import contextlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from commandline import document, moderator, picture
from moderator.context import ExecutionContext
from moderator.errors import ModeratorError, UsageError
from moderator.git.doctor.doctor import Doctor
from moderator.git.manager import GitManager
from moderator.git.registry import Registry
from moderator.git.repository import Repository
from moderator.git.values import Keeping, Workspace
from repos import git, make_repository
from workspaces import FULL, context, files, killed_before

WORK = {".env": "secret", "note": "untracked"}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a person's worktree `mine`, one commit ahead, with an ignored file."""
    return sample(tmp_path)


def sample(folder: Path) -> Path:
    repository = make_repository(folder / "repo", [("first", {"README.md": "# Sample\n", ".gitignore": ".env\n"})])
    git(repository, "worktree", "add", "--quiet", "-b", "mine", folder / "mine")
    git(folder / "mine", "commit", "--quiet", "--allow-empty", "-m", "second")
    (folder / "mine/.env").write_text("secret")
    return repository


def adopt(repository: Path, what: Path | str, task_id: str | None = None, base: str | None = None) -> Workspace:
    folder = repository.parent
    base_context = ExecutionContext("project", str(folder / "checkouts"), "main", str(folder / "state"), FULL)
    with GitManager(repository).adopt(str(what), base_context, task_id, base) as workspace:
        return workspace


def findings(repository: Path, fix: bool = False) -> list[str]:
    opened = Repository.open(repository)
    doctor = Doctor(opened, Registry(opened.ours), Keeping(), grace=0.0)
    return [finding.code for finding in doctor.examine(fix=fix)]


def own(repository: Path, folder: Path) -> dict[str, tuple[int, str]]:
    """A worktree and its entry, but for what marks them as adopted."""
    entry = Path(git(folder, "rev-parse", "--absolute-git-dir"))
    marks = ("locked", ".locked.", "moderator.adopted")
    found = picture(folder, entry)
    return {path: what for path, what in found.items() if path != str(entry) and not Path(path).name.startswith(marks)}


def test_a_worktree_is_adopted_where_it_is(repository: Path, tmp_path: Path) -> None:
    """It is then a workspace like any other: listed, held, locked against prune, committed in, removed, brought back."""
    before = own(repository, tmp_path / "mine")
    workspace = adopt(repository, tmp_path / "mine", "my task")
    assert own(repository, tmp_path / "mine") == before
    assert (workspace.task_id, workspace.path, workspace.branch) == ("my task", str(tmp_path / "mine"), "mine")
    assert (workspace.base, workspace.base_branch) == (git(repository, "rev-parse", "main"), "main")
    manager = GitManager(repository)
    status = manager.status("mine")
    assert (status.state, status.ahead, status.dirty, status.locked_by_person) == ("ready", 1, 0, None)
    assert "locked moderator: 'my task'" in git(repository, "worktree", "list", "--porcelain")
    assert findings(repository) == []
    for name, content in WORK.items():
        Path(workspace.path, name).write_text(content)
    (tmp_path / ".trash").mkdir()  # a person's own, in the folder that the worktree is in
    (tmp_path / ".trash/kept.deleting").touch()
    removal = manager.remove_workspace("my task", rescue=True)
    assert removal and (removal.branch, removal.left, os.path.exists(workspace.path)) == ("mine", (".env",), False)
    assert findings(repository, fix=True) == []
    assert git(repository, "rev-parse", "mine^") == workspace.base
    with manager.undo_removal() as back:
        assert (back.path, back.branch) == (workspace.path, "mine")
    assert {name: Path(back.path, name).read_text() for name in WORK} == WORK
    assert (findings(repository), (tmp_path / ".trash/kept.deleting").exists()) == ([], True)
    with manager.restore_rescue(manager.find_rescue(str(removal.rescue))) as restored:
        assert (restored.task_id, restored.branch) == ("my task-rescued", "main-task-my-task-rescued")
        assert os.path.dirname(restored.path) == manager.default_root + "/tasks"
    assert git(repository, "fsck", "--strict", "--no-dangling") == ""


def test_a_branch_is_adopted_into_a_new_worktree(repository: Path, tmp_path: Path) -> None:
    """It keeps its commits and its name, and is never taken for one of ours: not removed with the workspace, nor set aside."""
    git(repository, "branch", "feature/x", "mine")
    tip = git(repository, "rev-parse", "mine")
    workspace = adopt(repository, "feature/x")
    assert (workspace.task_id, workspace.path) == ("feature-x", str(tmp_path / "checkouts/tasks/feature-x"))
    assert git(workspace.path, "status", "--porcelain", "--branch") == "## feature/x"
    manager = GitManager(repository)
    for target in (workspace, context(tmp_path, "feature-x")):
        with pytest.raises(ModeratorError, match="adopted") as refused:
            manager.set_aside(target, "again")
        assert refused.value.exit_code == 3
        with pytest.raises(ModeratorError, match="adopted"):
            manager.check_set_aside([target])
    manager.remove_workspace(workspace)
    assert (git(repository, "rev-parse", "feature/x"), findings(repository)) == (tip, [])
    assert adopt(repository, "refs/heads/feature/x").task_id == "feature-x"


def test_a_branch_of_a_task_is_taken_up_again(repository: Path, tmp_path: Path) -> None:
    """A branch that a removal left belongs to its task: under its id, and under no other."""
    manager = GitManager(repository)
    manager.create_workspace(context(tmp_path, "a: b")).release()
    branch = str(manager.of_task("a: b").branch)
    manager.remove_workspace("a: b")
    with pytest.raises(ModeratorError, match="is that of a task called"):
        adopt(repository, branch, "other")
    assert adopt(repository, branch).task_id == "a: b"
    git(repository, "branch", "main-task-foo")
    assert adopt(repository, "main-task-foo").task_id == "foo"


def test_what_cannot_be_adopted(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clear error before anything is made, with what to do about it."""
    other = make_repository(tmp_path / "other")
    adopt(repository, tmp_path / "mine", "taken")
    for name in ("dirty", "locked", "merging", "gone", "moved", "outer", "deep/tasks/wrong", "both"):
        git(repository, "worktree", "add", "--quiet", "-b", name, tmp_path / name)
    git(repository, "worktree", "add", "--quiet", "--detach", tmp_path / "detached")
    git(repository, "worktree", "add", "--quiet", "-b", "inner", tmp_path / "outer/inner")
    git(repository, "worktree", "add", "--quiet", "-b", "within", repository / "within")
    git(tmp_path / "outer", "config", "core.excludesFile", "/dev/null")
    (repository / ".git/info/exclude").write_text("inner\n")
    (tmp_path / "dirty/new").touch()
    git(repository, "worktree", "lock", "--reason", "on a stick", tmp_path / "locked")
    (Path(git(tmp_path / "merging", "rev-parse", "--absolute-git-dir")) / "MERGE_HEAD").write_text(
        git(repository, "rev-parse", "mine")
    )
    shutil.rmtree(tmp_path / "gone")
    (tmp_path / "moved").rename(tmp_path / "elsewhere")
    git(repository, "branch", "plain")
    (tmp_path / "deep/tasks/.trash").mkdir()
    GitManager(repository).create_workspace(context(tmp_path, "a_b")).release()
    git(repository, "worktree", "move", tmp_path / "both", tmp_path / "checkouts/tasks/both")
    unrelated = git(repository, "commit-tree", "-m", "alone", "main^{tree}")
    git(repository, "branch", "unrelated", unrelated)
    monkeypatch.chdir(tmp_path)
    before = picture(tmp_path)
    for what, task_id, code, said in [
        ("repo", None, 2, "main worktree"),
        ("main", None, 2, "main worktree"),
        ("repo/.git", None, 2, "is not in a worktree"),
        ("other", None, 2, f"moderator adopt --repo {other.name}"),
        ("dirty", None, 2, "is a directory and a branch"),
        ("./dirty", None, 3, "stash --include-untracked"),
        ("refs/heads/dirty", None, 3, "changes that are not committed: new"),
        ("./locked", None, 3, "is locked: on a stick"),
        ("./merging", None, 3, "a merge is in progress"),
        ("./detached", None, 3, "switch -c NAME"),
        ("gone", None, 3, "is not there"),
        ("refs/heads/moved", None, 3, "is not there"),
        ("./elsewhere", None, 3, "git worktree repair"),
        ("./outer", None, 3, "lies inside the worktree"),
        ("./outer/inner", None, 3, "worktree move"),
        ("repo/within", None, 3, "so would what a removal puts aside"),
        ("./mine", None, 2, "already"),
        ("refs/heads/mine", "again", 2, "already"),
        ("plain", "taken", 2, "the id 'taken' is taken"),
        ("plain", "a-b", 2, "the id 'a-b' is taken"),
        ("plain", " ", 2, "must not be empty"),
        ("./deep/tasks/wrong", None, 3, "a removal would use a folder of that name"),
        ("both", "neither", 2, "where a task called 'both' would work"),
        ("unrelated", None, 2, "--base"),
        ("main~0", None, 2, "neither a worktree nor a branch"),
        ("", None, 2, "neither a directory nor a branch"),
        ("-x\0", None, 2, "neither a directory nor a branch"),
    ]:
        with pytest.raises(ModeratorError) as refused:
            adopt(repository, what, task_id)
        assert (refused.value.exit_code, said in f"{refused.value} {refused.value.hint}") == (code, True), (
            what,
            refused.value,
            refused.value.hint,
        )
    assert picture(tmp_path) == before


def test_git_may_use_the_name_of_an_entry_again(repository: Path, tmp_path: Path) -> None:
    """What was removed is not taken for the worktree that git has entered under the same name since, nor the other way round."""
    manager = GitManager(repository)
    adopt(repository, tmp_path / "mine")
    first = manager.remove_workspace("mine", rescue=True)
    git(repository, "worktree", "add", "--quiet", "-b", "other", tmp_path / "other/mine")
    with pytest.raises(ModeratorError, match="git has entered another worktree"):
        manager.undo_removal("mine")
    assert (findings(repository), [one.task_id for one in manager.workspaces()]) == (["lease-idle"], [])
    git(repository, "worktree", "remove", tmp_path / "other/mine")
    git(repository, "worktree", "add", "--quiet", tmp_path / "mine", "mine")
    (tmp_path / "mine/.env").write_text("another")
    with pytest.raises(ModeratorError, match="is checked out"):
        manager.undo_removal("mine")
    adopt(repository, tmp_path / "mine")
    with pytest.raises(ModeratorError, match="has a workspace under the names"):
        manager.undo_removal("mine")
    second = manager.remove_workspace("mine", rescue=True)
    assert first and second and first.id != second.id
    assert {str(manager.trash_of(one)) for one in (first, second)} == {
        str(path) for path in (tmp_path / ".moderator-trash").iterdir()
    }
    for removal, content in ((second, "another"), (first, "secret")):
        with manager.undo_removal(removal.id) as back:
            assert files(back.path)[".env"] == content.encode()
        if removal is second:
            manager.remove_workspace("mine", rescue=True)
    assert findings(repository) == []


STEPS = {
    "nothing": ("adopt tree", "os.link workspaces/.t.new"),
    "claimed": ("adopt tree", "open moderator.adopted.new"),
    "marked": ("adopt tree", "os.link locked"),
    "locked": ("adopt tree", "os.rename workspaces/.t.new"),
    "a branch's entry made": ("adopt branch", "Popen git read-tree"),
    "a branch's files checked out": ("adopt branch", "os.remove moderator.restoring"),
}
"""What was done last, and what the process was about to do when it was killed."""


def assert_adopted_or_untouched(folder: Path, action: str, step: int | str, by_doctor: bool) -> bool:
    repository = sample(folder)
    if action == "adopt branch":
        git(repository, "worktree", "remove", "--force", folder / "mine")
    before = own(repository, folder / "mine") if action == "adopt tree" else {}
    what = killed_before(step, folder, repository, "t", action)
    if what is None:
        return False
    assert own(repository, folder / "mine") == before if before else True
    if by_doctor:
        assert set(findings(repository, fix=True)) <= {"half-made", "lease-idle", "staging-leftover"}, what
        assert findings(repository) == [], what
    else:
        with contextlib.suppress(UsageError):  # where it was adopted in effect, that is found out and said
            adopt(repository, "mine", "t")
    manager = GitManager(repository)
    if by_doctor and not manager.workspaces():
        assert git(repository, "rev-parse", "mine^") == git(repository, "rev-parse", "main")
        assert "locked" not in git(repository, "worktree", "list", "--porcelain"), what
        adopt(repository, "mine", "t")
    with manager.hold("t") as workspace:
        assert git(workspace.path, "status", "--porcelain", "--branch") == "## mine"
    assert "locked moderator: 't'" in git(repository, "worktree", "list", "--porcelain")
    assert findings(repository) == []
    if before:
        entry = Path(git(folder / "mine", "rev-parse", "--absolute-git-dir"))
        marks = sorted(path.name for path in entry.iterdir() if "locked" in path.name or "adopted" in path.name)
        assert (own(repository, folder / "mine"), marks) == (before, ["locked", "moderator.adopted"])
    return True


@pytest.mark.parametrize(("done", "by_doctor"), [(done, number % 2 == 0) for number, done in enumerate(STEPS)])
@pytest.mark.some(3)
def test_killed_while_adopting(tmp_path: Path, done: str, by_doctor: bool) -> None:
    """Wherever it is killed: the worktree is adopted or as it was, nothing of it has changed, and the doctor finds nothing more."""
    assert assert_adopted_or_untouched(tmp_path, *STEPS[done], by_doctor=by_doctor)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("by_doctor", [True, False], ids=["doctor", "again"])
@pytest.mark.parametrize("action", ["adopt tree", "adopt branch"])
def test_killed_at_any_step_of_adopting(tmp_path: Path, action: str, by_doctor: bool) -> None:
    """The same for every single change of the disk."""
    step = 1
    while assert_adopted_or_untouched(tmp_path / str(step), action, step, by_doctor):
        step += 1
    assert step > 10


def test_two_adopt_one_worktree_at_once(repository: Path, tmp_path: Path) -> None:
    """Under whatever ids: one gets it, the others are told whose it is."""

    def attempt(number: int) -> str:
        with contextlib.suppress(UsageError):
            return adopt(repository, tmp_path / "mine", f"t{number}").task_id
        return ""

    with ThreadPoolExecutor(8) as pool:
        got = [one for one in pool.map(attempt, range(8)) if one]
    assert [one.task_id for one in GitManager(repository).workspaces()] == got
    assert (len(got), set(findings(repository)) <= {"lease-idle"}) == (1, True)


@pytest.mark.slow
def test_the_commands(repository: Path, tmp_path: Path) -> None:
    """`create` and `adopt` print the directory, `clean` and `undo` go both ways, and a run does not take what was adopted."""
    made = moderator(repository, "create", "a task")
    assert (made.returncode, made.stdout, made.stderr) == (0, f"{tmp_path}/repo.moderator/tasks/a-task\n", "")
    again = document(moderator(repository, "create", "a task", "--base", "main", "--json"))
    assert (again.pop("path") + "\n", again["branch"], again["created"]) == (made.stdout, "main-task-a-task", False)
    assert moderator(repository, "create", "a task", "--base", "mine").returncode == 3
    detached = document(moderator(repository, "create", "d", "--level", "directory", "--base", "mine", "--json"))
    assert (detached["branch"], detached["base"], detached["created"]) == (
        None,
        git(repository, "rev-parse", "mine"),
        True,
    )
    assert moderator(repository, "clean", "a task", "d").returncode == 0
    refused = moderator(repository, "create", "a task")
    assert (refused.returncode, "moderator adopt main-task-a-task" in refused.stderr) == (3, True)
    assert moderator(repository, "adopt", "main-task-a-task").stdout == made.stdout
    adopted = document(moderator(repository, "adopt", tmp_path / "mine", "--id", "m", "--json"))
    assert (adopted["task_id"], adopted["path"], adopted["branch"]) == ("m", str(tmp_path / "mine"), "mine")
    listed = document(moderator(repository, "list", "--json"))["workspaces"]
    assert [(one["task_id"], one["held_by"]) for one in listed] == [("a task", None), ("m", None)]
    (tmp_path / "t.yaml").write_text("tasks: [{id: m, run: 'true'}]")
    for flags in ((), ("--fresh",)):
        assert moderator(repository, "run", tmp_path / "t.yaml", *flags).returncode == 3
    assert moderator(repository, "clean", "m").returncode == 0
    assert moderator(repository, "undo").returncode == 0
    assert (tmp_path / "mine/.env").read_text() == "secret"
