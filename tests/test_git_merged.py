"""Merged or not: every way git knows to merge, and everything that only looks like it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from commandline import picture
from moderator.context import ExecutionContext, IsolationLevel
from moderator.errors import PersonNeeded, UnknownRescue, UnknownRevision, WorkspaceOccupied
from moderator.git.manager import GitManager
from moderator.git.merged import Merged, NotMerged, find_merged, still_merged
from moderator.git.registry import Record
from moderator.git.repository import Repository
from moderator.git.values import Removal
from repos import git, make_repository

LINES = [f"line {number}" for number in range(1, 41)]
FILES = {"list.txt": "\n".join(LINES) + "\n", "other.txt": "other\n", "logo.bin": b"\0\1\2", "run.sh": "echo run\n"}
NOTHING_YET = NotMerged("no commits yet is not merged", nothing_yet=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository whose branch `work` is at the first commit, like `main`."""
    made = make_repository(tmp_path / "sample", [("first", FILES)])
    git(made, "branch", "work")
    git(made, "branch", "fork")
    return made


def commit(repository: Path, branch: str, **files: str | bytes | None) -> str:
    """Commit these files (`name_txt` is name.txt) on a branch; return the commit.  Everything leaves `main` checked out."""
    git(repository, "switch", "--quiet", branch)
    for name, content in files.items():
        path = repository / name.replace("_", ".")
        if content is None:
            path.unlink()
        else:
            path.write_bytes(os.fsencode(content))
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--allow-empty", "-m", f"change {' '.join(files)}")
    made = git(repository, "rev-parse", "HEAD")
    git(repository, "switch", "--quiet", "main")
    return made


def lines(**changed: str) -> str:
    """The list with some lines replaced: line_3="new"."""
    return "".join(f"{changed.get(line.replace(' ', '_'), line)}\n" for line in LINES)


def squash(repository: Path, branch: str = "work", message: str = "squashed") -> str:
    git(repository, "merge", "--squash", "--quiet", branch)
    git(repository, "commit", "--quiet", "-m", message)
    return git(repository, "rev-parse", "HEAD")


def pick(repository: Path, revisions: str) -> str:
    """Put copies of some commits onto `main`, as a rebase merge does; return the last one."""
    git(repository, "cherry-pick", revisions)
    return git(repository, "rev-parse", "HEAD")


def record(repository: Path, branch: str | None = "work", base_branch: str = "main", task_id: str = "work") -> Record:
    base = git(repository, "rev-parse", "fork")
    return Record(task_id, "p", IsolationLevel.FULL, branch, "", "", base_branch, base, "e", "t", 0.0)


def look(repository: Path, into: str | None = None, base_branch: str = "main") -> Merged | NotMerged:
    """What is said of the branch `work`; nothing in the repository may change by looking."""
    before = picture(repository)
    found = find_merged(Repository.open(repository), [record(repository, base_branch=base_branch)], into)
    assert picture(repository) == before
    return found["work"]


def merged(repository: Path, how: str, commit: str) -> Merged:
    return Merged(how, commit, "main", "refs/heads/main", git(repository, "rev-parse", "work"))


NOT_MERGED = NotMerged("not merged into main")


# -- merged -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["--ff-only", "--no-ff"])
def test_a_tip_in_the_history_is_merged(repository: Path, how: str) -> None:
    """A fast-forward and a merge commit are known by ancestry, whatever the base did since."""
    tip = commit(repository, "work", new_txt="new\n")
    git(repository, "merge", "--quiet", "--no-edit", how, "work")
    commit(repository, "main", other_txt="later\n")
    assert look(repository) == merged(repository, "ancestry", tip)
    assert str(look(repository)) == "merged into main"


def test_a_squash_merge_of_an_untouched_base_has_the_same_tree(repository: Path) -> None:
    """The base had the very content of the tip once, also if it went on since."""
    commit(repository, "work", list_txt=lines(line_3="three"))
    commit(repository, "work", new_txt="new\n")
    made = squash(repository)
    commit(repository, "main", list_txt=lines(line_3="3"))
    assert look(repository) == merged(repository, "same tree", made)
    assert str(look(repository)) == f"merged into main with the same tree as {made[:12]}"


def test_a_squash_merge_between_other_commits_is_the_same_change(repository: Path) -> None:
    """Commits on other files before and after it do not hide it."""
    commit(repository, "work", list_txt=lines(line_3="three"))
    commit(repository, "work", list_txt=lines(line_3="three", line_20="twenty"))
    commit(repository, "main", other_txt="before\n")
    made = squash(repository)
    commit(repository, "main", list_txt=lines(), other_txt="after\n")
    assert look(repository) == merged(repository, "patch", made)
    assert str(look(repository)) == f"merged into main by the same change as {made[:12]}"


def test_a_squash_merge_into_files_that_changed_elsewhere_is_the_same_change(repository: Path) -> None:
    """Neither file is as the task had it, before or after; the change is."""
    commit(repository, "work", list_txt=lines(line_3="three"))
    commit(repository, "work", list_txt=lines(line_3="three", line_20="twenty"))
    commit(repository, "main", list_txt=lines(line_35="thirty-five"))
    made = squash(repository)
    commit(repository, "main", list_txt=lines(line_1="one"))
    assert look(repository) == merged(repository, "patch", made)


@pytest.mark.parametrize("same_file", [False, True], ids=["elsewhere", "same file"])
def test_a_rebase_merge_is_the_same_changes(repository: Path, same_file: bool) -> None:
    """Each commit has a twin on the base, also where the base had changed the same file at another place."""
    commit(repository, "work", list_txt=lines(line_3="three"))
    commit(repository, "work", list_txt=lines(line_3="three", line_20="twenty"))
    commit(repository, "main", **({"list_txt": lines(line_35="thirty-five")} if same_file else {"other_txt": "x\n"}))
    made = pick(repository, "main..work")
    commit(repository, "main", other_txt="after\n")
    assert look(repository) == merged(repository, "patch", made)


def test_cherry_picks_of_every_commit_are_a_merge(repository: Path) -> None:
    """In any order, with others between them; what shows it is the newest of them."""
    first = commit(repository, "work", list_txt=lines(line_3="three"))
    commit(repository, "work", new_txt="new\n")
    pick(repository, "work")
    commit(repository, "main", other_txt="between\n")
    made = pick(repository, first)
    assert look(repository) == merged(repository, "patch", made)


def test_an_empty_commit_among_others_is_no_work(repository: Path) -> None:
    """A rebase drops it."""
    first = commit(repository, "work", list_txt=lines(line_3="three"))
    commit(repository, "work")
    second = commit(repository, "work", list_txt=lines(line_3="three", line_20="twenty"))
    commit(repository, "main", other_txt="x\n")
    pick(repository, first)
    assert look(repository) == NOT_MERGED
    made = pick(repository, second)
    assert look(repository) == merged(repository, "patch", made)


def test_a_task_that_merged_its_base_in_between(repository: Path) -> None:
    """What it has of its own is what differs from where it last met the base."""
    commit(repository, "work", list_txt=lines(line_3="three"))
    commit(repository, "main", other_txt="x\n")
    git(repository, "switch", "--quiet", "work")
    git(repository, "merge", "--quiet", "--no-edit", "main")
    git(repository, "switch", "--quiet", "main")
    commit(repository, "work", new_txt="new\n")
    commit(repository, "main", other_txt="y\n")
    assert look(repository) == NOT_MERGED
    made = squash(repository)
    assert look(repository) == merged(repository, "patch", made)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda path: (path / "logo.bin").write_bytes(b"\0new"), id="binary"),
        pytest.param(lambda path: (path / "run.sh").chmod(0o755), id="mode"),
        pytest.param(lambda path: (path / "run.sh").rename(path / "start.sh"), id="rename"),
        pytest.param(lambda path: (path / "run.sh").unlink(), id="deletion"),
        pytest.param(lambda path: (path / "link").symlink_to("run.sh"), id="symlink"),
        pytest.param(lambda path: (path / "ä\n.txt").write_text("x"), id="name"),
    ],
)
def test_changes_of_every_kind(repository: Path, change: Callable[[Path], object]) -> None:
    """A squash merge is recognised whatever changed: binary content, a mode, a name, a link."""
    git(repository, "switch", "--quiet", "work")
    change(repository)
    commit(repository, "work")
    commit(repository, "main", other_txt="x\n")
    assert look(repository) == NOT_MERGED
    made = squash(repository)
    assert look(repository) == merged(repository, "patch", made)


def test_two_tasks_with_the_same_change_are_both_merged(repository: Path) -> None:
    """The content is in the base, whoever wrote it; all are answered at once."""
    git(repository, "branch", "twin")
    git(repository, "branch", "third")
    for branch in ("work", "twin"):
        commit(repository, branch, new_txt="new\n")
    commit(repository, "third", new_txt="newer\n")
    commit(repository, "main", other_txt="x\n")
    made = squash(repository)
    records = [record(repository, branch, task_id=branch) for branch in ("work", "twin", "third", "fork")]
    assert find_merged(Repository.open(repository), records) == {
        "work": merged(repository, "patch", made),
        "twin": Merged("patch", made, "main", "refs/heads/main", git(repository, "rev-parse", "twin")),
        "third": NOT_MERGED,
        "fork": NOTHING_YET,
    }


def test_what_was_merged_and_reverted_is_in_the_history(repository: Path) -> None:
    """A revert deletes nothing: the work is in a commit of the base."""
    commit(repository, "work", new_txt="new\n")
    commit(repository, "main", other_txt="x\n")
    made = squash(repository)
    git(repository, "revert", "--no-edit", "HEAD")
    assert look(repository) == merged(repository, "patch", made)


def test_what_showed_it_may_be_taken_back(repository: Path) -> None:
    """Right before somebody deletes because of it, one looks again: the base may have been reset."""
    commit(repository, "work", new_txt="new\n")
    commit(repository, "main", other_txt="x\n")
    squash(repository)
    found = look(repository)
    assert isinstance(found, Merged)
    assert still_merged(Repository.open(repository), found)
    git(repository, "reset", "--quiet", "--hard", "HEAD~1")
    assert not still_merged(Repository.open(repository), found)


# -- not merged -------------------------------------------------------------------------------------------------------


def test_no_commits_yet_is_not_merged(repository: Path) -> None:
    """A branch that is where it began, or was set back before it, holds nothing; that is another answer."""
    assert look(repository) == NOTHING_YET
    commit(repository, "main", other_txt="x\n")
    assert look(repository) == NOTHING_YET
    git(repository, "branch", "--force", "fork", "main")
    assert look(repository) == NOTHING_YET


def test_some_of_the_commits_are_not_all(repository: Path) -> None:
    """One commit of two was picked, and the base has something else in the file of the other."""
    first = commit(repository, "work", list_txt=lines(line_3="three"))
    commit(repository, "work", new_txt="new\n")
    commit(repository, "main", new_txt="other\n")
    pick(repository, first)
    assert look(repository) == NOT_MERGED


def test_a_squash_merge_that_was_amended_is_another_change(repository: Path) -> None:
    """The same files and nearly the same content will not do."""
    commit(repository, "work", list_txt=lines(line_3="three"), new_txt="new\n")
    git(repository, "merge", "--squash", "--quiet", "work")
    (repository / "new.txt").write_text("newer\n")
    git(repository, "commit", "--quiet", "--all", "-m", "squashed and amended")
    assert look(repository) == NOT_MERGED


def test_a_commit_after_the_merge_is_not_merged(repository: Path) -> None:
    """Of a squash merge, a rebase merge and a fast-forward, one commit later."""
    commit(repository, "work", new_txt="new\n")
    commit(repository, "main", other_txt="x\n")
    squash(repository)
    commit(repository, "work", new_txt="newer\n")
    assert look(repository) == NOT_MERGED
    pick(repository, "work")
    assert isinstance(look(repository), Merged)
    git(repository, "merge", "--quiet", "--no-edit", "-s", "ours", "work")
    assert isinstance(look(repository), Merged)
    commit(repository, "work", new_txt="newest\n")
    assert look(repository) == NOT_MERGED


def test_a_tip_amended_after_the_merge(repository: Path) -> None:
    """Other content is not merged; another message for the same content is."""
    commit(repository, "work", new_txt="new\n")
    git(repository, "merge", "--quiet", "--ff-only", "work")
    made = git(repository, "rev-parse", "main")
    git(repository, "switch", "--quiet", "work")
    git(repository, "commit", "--quiet", "--amend", "-m", "better words")
    assert look(repository) == merged(repository, "same tree", made)
    (repository / "new.txt").write_text("newer\n")
    git(repository, "commit", "--quiet", "--amend", "--all", "-m", "better content")
    assert look(repository) == NOT_MERGED


def test_white_space_is_content(repository: Path) -> None:
    """`git patch-id` does not see white space; a change that differs only there is another one."""
    commit(repository, "work", run_sh="if x\n    then y\n")
    commit(repository, "main", other_txt="x\n")
    commit(repository, "main", run_sh="if x\nthen y\n")
    assert look(repository) == NOT_MERGED


def test_the_same_lines_at_another_place_are_another_change(tmp_path: Path) -> None:
    """`git patch-id` does not see where a hunk is; in a file that repeats itself that is another change."""
    block = ["start", "a", "b", "c", "d", "e", "f", "end"]
    there = make_repository(tmp_path / "sample", [("first", {"list.txt": "\n".join(block * 3) + "\n"})])
    git(there, "branch", "fork")
    git(there, "branch", "work")

    def with_new(number: int) -> str:
        all_lines = [*block, *block, *block]
        all_lines.insert(number * len(block) + 4, "new")
        return "\n".join(all_lines) + "\n"

    def patch_id(commit: str) -> str:
        return git(there, "patch-id", "--stable", stdin=git(there, "show", commit) + "\n").split()[0]

    ours, theirs = commit(there, "work", list_txt=with_new(0)), commit(there, "main", list_txt=with_new(2))
    assert patch_id(ours) == patch_id(theirs)
    assert look(there) == NOT_MERGED


def test_two_binary_changes_are_not_one(repository: Path) -> None:
    """Another new content of the same binary file is another change."""
    commit(repository, "work", logo_bin=b"\0ours")
    commit(repository, "main", logo_bin=b"\0theirs", other_txt="x\n")
    commit(repository, "main", logo_bin=b"\0\1\2")
    commit(repository, "main", logo_bin=b"\0again")
    assert look(repository) == NOT_MERGED


def test_work_that_was_undone_has_no_proof(repository: Path) -> None:
    """A change and its revert leave the tree of the fork, which the base has had all the time."""
    commit(repository, "work", new_txt="new\n")
    commit(repository, "work", new_txt=None)
    commit(repository, "main", other_txt="x\n")
    commit(repository, "main", other_txt="other\n")
    assert look(repository) == NOT_MERGED


def test_each_commit_needs_a_twin_of_its_own(repository: Path) -> None:
    """A change made, undone and made again is three commits: one pick and its revert are not all of them."""
    first = commit(repository, "work", list_txt=lines(line_3="three"))
    commit(repository, "work", list_txt=lines())
    commit(repository, "work", list_txt=lines(line_3="three"))
    commit(repository, "work", new_txt="new\n")
    commit(repository, "main", other_txt="x\n")
    pick(repository, first)
    git(repository, "revert", "--no-edit", "HEAD")
    pick(repository, "work")
    assert look(repository) == NOT_MERGED


def test_a_conflict_resolved_in_a_merge_is_work(repository: Path) -> None:
    """What only a merge commit of the task holds is in none of the picked commits."""
    first = commit(repository, "work", new_txt="new\n")
    git(repository, "switch", "--quiet", "-c", "side", "fork")
    second = commit(repository, "side", other_txt="side\n")
    git(repository, "switch", "--quiet", "work")
    git(repository, "merge", "--quiet", "--no-edit", "--no-commit", "side")
    (repository / "resolved.txt").write_text("only here\n")
    git(repository, "add", "resolved.txt")
    git(repository, "commit", "--quiet", "-m", "merged by hand")
    git(repository, "switch", "--quiet", "main")
    commit(repository, "main", run_sh="x\n")
    for one in (first, second):
        pick(repository, one)
    assert look(repository) == NOT_MERGED


def test_what_the_base_had_before_the_fork_does_not_count(repository: Path) -> None:
    """The same change was made and reverted before the task began: it has done it anew."""
    commit(repository, "main", new_txt="new\n")
    git(repository, "revert", "--no-edit", "HEAD")
    git(repository, "branch", "old", "fork")
    for branch in ("work", "fork"):
        git(repository, "branch", "--force", branch, "main")
    commit(repository, "work", new_txt="new\n")
    commit(repository, "old", run_sh="old\n")
    commit(repository, "main", other_txt="x\n")
    # An older task makes the look begin before the revert.
    records = [record(repository), record(repository, "old", task_id="old")]
    assert find_merged(Repository.open(repository), records) == {"work": NOT_MERGED, "old": NOT_MERGED}


def test_a_history_that_was_rewritten(repository: Path) -> None:
    """After a forced push of other commits, the old ones below the task are held by its branch alone."""
    commit(repository, "main", other_txt="will go\n")
    for branch in ("work", "fork"):
        git(repository, "branch", "--force", branch, "main")
    commit(repository, "work", new_txt="new\n")
    git(repository, "reset", "--quiet", "--hard", "HEAD~1")
    commit(repository, "main", run_sh="instead\n")
    pick(repository, "work")
    assert look(repository) == NOT_MERGED


def test_a_history_of_its_own(repository: Path) -> None:
    """A branch without any commit in common is not merged, and no reason to fail."""
    git(repository, "switch", "--quiet", "--orphan", "island")
    (repository / "island.txt").write_text("x\n")
    git(repository, "add", "island.txt")
    git(repository, "commit", "--quiet", "-m", "island")
    git(repository, "switch", "--quiet", "main")
    git(repository, "branch", "--force", "work", "island")
    commit(repository, "main", other_txt="x\n")
    assert look(repository) == NOT_MERGED


def test_a_replaced_commit_proves_nothing(repository: Path) -> None:
    """A replacement makes git show a parent that nothing holds; the real history decides."""
    commit(repository, "work", new_txt="new\n")
    commit(repository, "main", other_txt="x\n")
    git(repository, "replace", "--graft", "main", "work")
    assert git(repository, "branch", "--merged", "main", "--list", "work").strip() == "work"
    assert look(repository) == NOT_MERGED


def test_git_is_asked_as_often_for_many_as_for_two(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand workspaces must not take a thousand processes: git counts its own."""
    branches = [f"many-{number}" for number in range(12)]
    for number, branch in enumerate(branches):
        git(repository, "branch", branch, "fork")
        commit(repository, branch, **{f"new{number}_txt": "new\n"})
    commit(repository, "main", other_txt="x\n")
    for branch in branches[::2]:
        squash(repository, branch)
    asked = {}
    for few in (2, 12):
        (tmp_path / f"trace{few}").mkdir()
        monkeypatch.setenv("GIT_TRACE2_EVENT", str(tmp_path / f"trace{few}"))
        records = [record(repository, branch, task_id=branch) for branch in branches[:few]]
        before = len(list((tmp_path / f"trace{few}").iterdir()))
        found = find_merged(Repository.open(repository), records)
        asked[few] = len(list((tmp_path / f"trace{few}").iterdir())) - before
        assert [isinstance(answer, Merged) for answer in found.values()] == [True, False] * (few // 2)
    assert 0 < asked[2] == asked[12]


# -- which branch -----------------------------------------------------------------------------------------------------


def test_into_another_branch(repository: Path) -> None:
    """A local branch or a remote's may be named; its own branch proves nothing, and what is no branch is refused."""
    tip = commit(repository, "work", new_txt="new\n")
    git(repository, "branch", "release", "work")
    git(repository, "update-ref", "refs/remotes/origin/main", "work")
    assert look(repository) == NOT_MERGED
    assert look(repository, "release") == Merged("ancestry", tip, "release", "refs/heads/release", tip)
    assert look(repository, "origin/main") == Merged("ancestry", tip, "origin/main", "refs/remotes/origin/main", tip)
    assert look(repository, "work") == NotMerged("work is its own branch")
    for name in ("gone", tip, "-x", "a\0b"):
        with pytest.raises(UnknownRevision, match="is no branch of this repository"):
            look(repository, name)


def test_without_a_base_branch_nobody_can_tell(repository: Path) -> None:
    """It was deleted, or there never was one: the base was a commit."""
    tip = commit(repository, "work", new_txt="new\n")
    git(repository, "merge", "--quiet", "--ff-only", "work")
    for name in ("gone", tip[:12]):
        assert look(repository, base_branch=name) == NotMerged(
            f"its base {name!r} is no branch here, so nobody can tell"
        )


def test_without_a_tip(repository: Path) -> None:
    """A branch that is gone leaves nothing to judge; without a branch there is no result yet."""
    git(repository, "branch", "--delete", "--quiet", "work")
    found = find_merged(Repository.open(repository), [record(repository), record(repository, None, task_id="detached")])
    assert found == {
        "work": NotMerged("its branch work is gone, so nobody can tell"),
        "detached": NOTHING_YET,
    }


def test_a_result_without_a_branch(repository: Path) -> None:
    """A workspace with a detached HEAD keeps its commits at a ref of ours; that is what is compared."""
    tip = commit(repository, "work", new_txt="new\n")
    detached = record(repository, None, task_id="detached")
    git(repository, "update-ref", detached.ref, tip)
    opened = Repository.open(repository)
    assert find_merged(opened, [detached]) == {"detached": NOT_MERGED}
    git(repository, "merge", "--quiet", "--ff-only", "work")
    assert find_merged(opened, [detached]) == {"detached": Merged("ancestry", tip, "main", "refs/heads/main", tip)}


# -- the branch itself ------------------------------------------------------------------------------------------------


def removed(repository: Path, squashed: bool) -> tuple[GitManager, Removal, Merged]:
    """A workspace whose branch has a commit, is merged into `main`, and which was removed."""
    git_manager = GitManager(repository)
    base = ExecutionContext("shop", f"{repository}.moderator", "main", str(repository.parent / "state"))
    context = ExecutionContext.create_isolated_context(base, "k1", IsolationLevel.FULL)
    with git_manager.create_workspace(context) as workspace:
        Path(workspace.path, "new.txt").write_text("new\n")
        git_manager.commit(workspace, "work")
    commit(repository, "main", other_txt="x\n")
    if squashed:
        squash(repository, "main-task-k1")
    else:
        git(repository, "merge", "--quiet", "--no-edit", "main-task-k1")
    found = git_manager.merged(["k1"])["k1"]
    removal = git_manager.remove_workspace("k1", rescue=True, reason="clean --merged")
    assert isinstance(found, Merged) and removal is not None
    return git_manager, removal, found


@pytest.mark.parametrize("squashed", [False, True], ids=["merge commit", "squash merge"])
def test_the_branch_of_a_removed_workspace_goes_and_comes_back(repository: Path, squashed: bool) -> None:
    """Deleted is the branch, never its commits: what the base does not reach is rescued, and an undo makes all of it again."""
    git_manager, removal, found = removed(repository, squashed)
    gone = git_manager.delete_merged_branch(removal, found)
    assert gone == replace(removal, branch_deleted=True, rescue=gone.rescue)
    assert (gone.rescue is not None) == squashed
    assert git(repository, "branch", "--list", "main-task-k1") == ""
    git(repository, "reflog", "expire", "--expire=now", "--all")
    git(repository, "gc", "--quiet", "--prune=now")
    with git_manager.undo_removal() as workspace:
        assert Path(workspace.path, "new.txt").read_text() == "new\n"
    assert git(repository, "rev-parse", "main-task-k1") == removal.tip


@pytest.mark.parametrize("change", ["branch", "base"])
def test_a_branch_that_is_no_longer_as_it_was_found_stays(repository: Path, change: str) -> None:
    """Somebody committed on it, or took the merge back: then it is not deleted."""
    git_manager, removal, found = removed(repository, squashed=True)
    if change == "branch":
        commit(repository, "main-task-k1", newer_txt="newer\n")
    else:
        git(repository, "reset", "--quiet", "--hard", "HEAD~1")
    tip = git(repository, "rev-parse", "main-task-k1")
    with pytest.raises(PersonNeeded, match="is not as it was when it was found to be merged, so it stays"):
        git_manager.delete_merged_branch(removal, found)
    assert git(repository, "rev-parse", "main-task-k1") == tip


def test_a_branch_that_somebody_is_on_stays(repository: Path) -> None:
    """A checkout of the branch is left alone; so is the branch of a workspace that was brought back."""
    git_manager, removal, found = removed(repository, squashed=False)
    git(repository, "switch", "--quiet", "main-task-k1")
    with pytest.raises(WorkspaceOccupied, match="is checked out"):
        git_manager.delete_merged_branch(removal, found)
    git(repository, "switch", "--quiet", "main")
    git_manager.undo_removal().release()
    with pytest.raises(UnknownRescue, match="has been undone meanwhile"):
        git_manager.delete_merged_branch(removal, found)
    assert git(repository, "rev-parse", "main-task-k1") == removal.tip
