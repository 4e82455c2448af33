"""`moderator clean`: who goes, who stays, why; and that nothing is lost with those who go."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from commandline import PATIENCE, document, moderator, picture, started, task_list, wait_until
from moderator.context import ExecutionContext, IsolationLevel
from moderator.git.manager import GitManager
from repos import git, make_repository


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the repository of these tests, and with a copy of everything to begin each of them with."""
    ground = tmp_path_factory.mktemp("ground")
    files = {"README.md": "# Sample\n", ".gitignore": "*.key\n"}
    repository = make_repository(ground / "now" / "sample", [("first", files)])
    listed = task_list(
        ground / "t",
        {"id": "done", "run": "echo new > new"},
        {"id": "half", "run": "echo half > half; echo 1 > README.md; exit 1"},
        {"id": "secret", "run": "echo key > a.key"},
    )
    assert moderator(repository, "run", "-j", "1", listed).returncode == 1
    shutil.copytree(ground / "now", ground / "kept", symlinks=True)
    return ground


@pytest.fixture
def repository(ground: Path) -> Path:
    """A repository with three workspaces: all of `done` is in a commit, `half` and `secret` hold what is in none."""
    shutil.rmtree(ground / "now")
    shutil.copytree(ground / "kept", ground / "now", symlinks=True)
    return ground / "now" / "sample"


UNDO = "bring the last one back: moderator undo\n"


def place(repository: Path, task: str) -> Path:
    return Path(f"{repository}.moderator/tasks/{task}")


def left(repository: Path) -> list[str]:
    return [workspace.task_id for workspace in GitManager(repository).workspaces()]


def in_days(number: int) -> str:
    """The day so many days from now; at midnight the one that a command just before it meant."""
    return time.strftime("%Y-%m-%d", time.localtime(time.time() + number * 86400 - 1))


def without_size(text: str) -> str:
    """The text with every size as it is on no disk: how much a file takes is the file system's."""
    return re.sub(r"[0-9.]+ (?:B|[KMG]iB)", "SIZE", text)


def rescued(repository: Path, task: str) -> str:
    """The one rescue of a task: the commit whose parents hold what was there."""
    (ref,) = git(repository, "for-each-ref", "--format=%(refname)", f"refs/moderator/rescue/{task}").split()
    return ref


def test_clean_removes_what_holds_nothing_unsaved(repository: Path) -> None:
    """The worktree goes, the branch stays, and git knows of no worktree there."""
    done = moderator(repository, "clean", "done")
    assert (done.returncode, done.stdout, done.stderr) == (
        0, "removed done; its branch main-task-done stays\n" + UNDO, "",
    )  # fmt: skip
    assert left(repository) == ["half", "secret"]
    assert not place(repository, "done").exists()
    assert git(repository, "show", "main-task-done:new") == "new"
    assert "tasks/done" not in git(repository, "worktree", "list")


def test_clean_rescues_what_is_in_no_commit(repository: Path) -> None:
    """What a commit can hold is in a rescue, what none can hold is in the trash until its time; each is named."""
    done, until = moderator(repository, "clean", "--all"), in_days(30)
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        "removed done; its branch main-task-done stays\n"
        "removed half; its branch main-task-half stays\n"
        "  rescued: 1 modified, 1 untracked: moderator rescue show half\n"
        "removed secret; its branch main-task-secret stays\n"
        f"  in the trash until {until}: a.key\n" + UNDO,
        "",
    )
    assert left(repository) == []
    rescue = rescued(repository, "half")
    assert (git(repository, "show", f"{rescue}:README.md"), git(repository, "show", f"{rescue}^3:half")) == (
        "1",
        "half",
    )
    (trashed,) = place(repository, ".trash").iterdir()
    assert (trashed / "a.key").read_text() == "key\n"


def test_how_long_the_trash_keeps_is_configured(repository: Path) -> None:
    """`trash.days` of the configuration counts from the removal."""
    (repository / "moderator.yaml").write_text("trash: {days: 2}\n")
    done, until = moderator(repository, "clean", "secret"), in_days(2)
    assert f"  in the trash until {until}: a.key\n" in done.stdout


@pytest.mark.slow
def test_no_days_in_the_trash_are_until_the_next_clean_up(repository: Path, tmp_path: Path) -> None:
    """With `trash.days` 0 a command keeps what it has just removed, for undo to bring back; the next one deletes it."""
    (repository / "moderator.yaml").write_text("trash: {days: 0}\n")
    before = picture(place(repository, "secret"))
    assert moderator(repository, "clean", "half", "secret").stdout.endswith(UNDO)
    assert moderator(repository, "undo", "secret").returncode == 0
    assert picture(place(repository, "secret")) == before
    moderator(repository, "clean", "secret")
    (trashed,) = place(repository, ".trash").iterdir()
    listed = task_list(tmp_path / "t", {"id": "other", "run": "echo key > b.key"})
    assert moderator(repository, "run", listed, "--keep", "never").returncode == 0
    assert not trashed.exists()
    (trashed,) = place(repository, ".trash").iterdir()
    assert (trashed / "b.key").read_text() == "key\n"
    assert moderator(repository, "clean", "done").returncode == 0
    assert not place(repository, ".trash").exists()


@pytest.mark.parametrize("names", [["--all"], ["done", "half", "secret"]], ids=" ".join)
def test_a_dry_run_says_the_same_and_does_nothing(repository: Path, names: list[str]) -> None:
    """`--dry-run` says of each workspace what would be rescued, left in the trash and freed, and changes no file anywhere."""
    before = picture(repository.parent)
    done = moderator(repository, "clean", "--dry-run", *names)
    assert (done.returncode, without_size(done.stdout), done.stderr) == (
        0,
        "would remove done; its branch main-task-done stays\n"
        "  frees SIZE\n"
        "would remove half; its branch main-task-half stays\n"
        "  rescued first: changed, not committed: README.md\n"
        "  rescued first: untracked: half\n"
        "  frees SIZE\n"
        "would remove secret; its branch main-task-secret stays\n"
        "  stays in the trash for a time: a.key\n"
        "  frees SIZE when the trash is emptied\n"
        "would remove 3 of 3 workspaces and free SIZE\n",
        "",
    )
    assert picture(repository.parent) == before


def test_clean_as_json(repository: Path) -> None:
    """One document with each workspace that was considered, what was done with it and why."""

    def entry(task: str, reason: str, **more: object) -> dict[str, object]:
        return {
            "task_id": task, "path": str(place(repository, task)), "branch": f"main-task-{task}",
            "removed": False, "would_remove": False, "reason": reason, "reasons": [], **more,
        }  # fmt: skip

    dry = document(moderator(repository, "clean", "--failed", "--dry-run", "--json"))
    sizes = [one.pop("size", None) for one in dry["workspaces"]]
    assert dry.pop("size") == sizes[1] > 0
    assert (sizes[0], sizes[2]) == (None, None)
    findings = ["changed, not committed: README.md", "untracked: half"]
    would = {"would_remove": True, "would_rescue": findings, "left": []}
    stay = [
        entry(task, f"last outcome: {outcome}, which is not failed")
        for task, outcome in (("done", "succeeded"), ("secret", "unchanged"))
    ]
    half = "last outcome: failed"
    assert dry == {"dry_run": True, "workspaces": [stay[0], entry("half", half, **would), stay[1]]}
    done = moderator(repository, "clean", "--failed", "--json")
    rescue = rescued(repository, "half").removeprefix("refs/moderator/rescue/")
    removed = {
        "removed": True,
        "would_remove": True,
        "rescue": rescue,
        "left": [],
        "kept_until": None,
        "branch_deleted": False,
    }
    assert (done.returncode, done.stderr, document(done)) == (
        0, "", {"dry_run": False, "workspaces": [stay[0], entry("half", half, **removed), stay[1]]},
    )  # fmt: skip


# -- by what holds for them --------------------------------------------------------------------------------------------


def test_what_ended_well_or_not_goes_and_the_rest_is_explained(repository: Path) -> None:
    """A real call says what it did, a dry run says of every workspace why or why not."""
    dry = moderator(repository, "clean", "--done", "--dry-run")
    assert (dry.returncode, without_size(dry.stdout), dry.stderr) == (
        0,
        "would remove done: last outcome: succeeded; its branch main-task-done stays\n"
        "  frees SIZE\n"
        "keep half: last outcome: failed, which is not done\n"
        "would remove secret: last outcome: unchanged; its branch main-task-secret stays\n"
        "  stays in the trash for a time: a.key\n"
        "  frees SIZE when the trash is emptied\n"
        "would remove 2 of 3 workspaces and free SIZE\n",
        "",
    )
    assert moderator(repository, "clean", "--failed").stdout == (
        "removed half; its branch main-task-half stays\n"
        "  rescued: 1 modified, 1 untracked: moderator rescue show half\n" + UNDO
    )
    again = moderator(repository, "clean", "--failed")
    assert (again.returncode, again.stdout, again.stderr) == (
        0, "nothing to remove among 2 workspaces; --dry-run says why\n", "",
    )  # fmt: skip


@pytest.mark.slow
def test_age_and_number(repository: Path) -> None:
    """The last two stay; nothing here is a day old, and everything is older than nothing."""
    assert moderator(repository, "clean", "--older-than", "1d").stdout.startswith("nothing to remove among 3 ")
    assert moderator(repository, "clean", "--keep-last", "2").stdout == (
        "removed done; its branch main-task-done stays\n" + UNDO
    )
    assert left(repository) == ["half", "secret"]
    assert moderator(repository, "clean", "--older-than", "0d", "--keep-last", "0").returncode == 0
    assert left(repository) == []


def test_an_attempt_in_an_earlier_workspace_does_not_count(repository: Path) -> None:
    """What a task did in a workspace that is gone says nothing of the one made since."""
    moderator(repository, "clean", "half")
    git(repository, "branch", "-D", "main-task-half")
    GitManager(repository).create_workspace(
        ExecutionContext.create_isolated_context(
            ExecutionContext("shop", f"{repository}.moderator", "main", str(repository / ".git/moderator")),
            "half",
            IsolationLevel.FULL,
        )
    ).release()
    dry = moderator(repository, "clean", "--failed", "--dry-run")
    assert "keep half: no attempt recorded, which is not failed\n" in dry.stdout


def test_merged_work_goes_with_its_branch_if_asked(repository: Path) -> None:
    """A squash merge is recognised; the branch's own commits are rescued before it goes, and `--into` names another target."""
    (repository / "other").write_text("x")
    git(repository, "add", "other")
    git(repository, "commit", "-qm", "other")
    git(repository, "branch", "release")
    git(repository, "merge", "--squash", "--quiet", "main-task-done")
    git(repository, "commit", "-qm", "squashed")
    tip, squashed = git(repository, "rev-parse", "main-task-done"), git(repository, "rev-parse", "--short=12", "main")
    assert moderator(repository, "clean", "--merged", "--into", "release").stdout.startswith("nothing to remove")
    dry = moderator(repository, "clean", "--merged", "--branches", "--dry-run")
    assert without_size(dry.stdout) == (
        f"would remove done and its branch main-task-done: merged into main by the same change as {squashed}\n"
        "  frees SIZE\n"
        "keep half: no commits yet is not merged\n"
        "keep secret: no commits yet is not merged\n"
        "would remove 1 of 3 workspaces and free SIZE\n"
    )
    done = moderator(repository, "clean", "--merged", "--branches")
    assert (done.returncode, done.stdout.splitlines()[0], done.stderr) == (
        0, f"removed done and its branch main-task-done: merged into main by the same change as {squashed}", "",
    )  # fmt: skip
    assert left(repository) == ["half", "secret"]
    assert git(repository, "branch", "--list", "main-task-done") == ""
    git(repository, "reflog", "expire", "--expire=now", "--all")
    git(repository, "gc", "--quiet", "--prune=now")
    assert git(repository, "show", f"{tip}:new") == "new"


def test_a_branch_that_is_not_merged_stays(repository: Path) -> None:
    """`--branches` takes only what is merged: not the branch of a task without commits, nor one that is ahead."""
    git(repository, "merge", "--quiet", "--ff-only", "main-task-done")
    half = place(repository, "half")
    git(half, "commit", "--quiet", "--all", "-m", "by hand")
    done = moderator(repository, "clean", "done", "half", "secret", "--branches")
    assert [line for line in done.stdout.splitlines() if line.startswith("removed")] == [
        "removed done and its branch main-task-done: merged into main",
        "removed half; its branch main-task-half stays: not merged into main",
        "removed secret; its branch main-task-secret stays: no commits yet is not merged",
    ]
    assert git(repository, "branch", "--format=%(refname:short)").split() == [
        "main",
        "main-task-half",
        "main-task-secret",
    ]
    assert git(repository, "for-each-ref", "refs/moderator/rescue/done") == ""  # all of it is in main


# -- quotas -----------------------------------------------------------------------------------------------------------


def test_a_quota_takes_only_what_holds_nothing_unsaved(repository: Path) -> None:
    """With nothing asked for the quotas of the configuration hold; what they may not take is named, exit 3."""
    (repository / "moderator.yaml").write_text("clean: {max_workspaces: 1}\n")
    for options, verb in ((["--dry-run"], "would remove"), ([], "removed")):
        done = moderator(repository, "clean", *options)
        assert (done.returncode, done.stdout.splitlines()[0].partition(";")[0].partition(":")[0], done.stderr) == (
            3,
            f"{verb} done",
            "error: the quota cannot be met: there are 2 workspaces where 1 may stay\n"
            "    half: changed, not committed: README.md; untracked: half\n"
            "    secret: ignored by git, so in no commit: a.key\n"
            "  hint: moderator clean TASK... removes one of them, after rescuing what is in it\n",
        )
    assert left(repository) == ["half", "secret"]


def test_a_quota_that_is_met_takes_nothing(repository: Path) -> None:
    """Within both quotas every workspace stays, and that is no error."""
    (repository / "moderator.yaml").write_text("clean: {max_workspaces: 3, max_size: 10}\n")
    done = moderator(repository, "clean")
    assert (done.returncode, done.stdout) == (0, "nothing to remove among 3 workspaces; --dry-run says why\n")
    (repository / "moderator.yaml").write_text("clean: {max_size: 0.001}\n")
    done = moderator(repository, "clean", "--dry-run")
    assert (done.returncode, done.stdout.splitlines()[0].partition(": the oldest of ")[0]) == (3, "would remove done")
    assert left(repository) == ["done", "half", "secret"]


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_one_name_that_is_wrong_changes_nothing(repository: Path) -> None:
    """All names are looked up before the first workspace is removed."""
    done = moderator(repository, "clean", "done", "haalf")
    assert (done.returncode, done.stdout, done.stderr) == (
        2, "", "error: no workspace belongs to 'haalf'\n  hint: did you mean 'half'?\n",
    )  # fmt: skip
    assert left(repository) == ["done", "half", "secret"]


def test_a_name_far_from_all_gets_all_of_few(repository: Path) -> None:
    """Where no name comes close and there are not many, each is a candidate."""
    done = moderator(repository, "clean", "zzz")
    assert (done.returncode, done.stderr) == (
        2, "error: no workspace belongs to 'zzz'\n  hint: there are 'done', 'half', 'secret'\n",
    )  # fmt: skip


@pytest.mark.slow
def test_what_is_back_is_in_the_trash_no_longer(repository: Path) -> None:
    """After an undo `rescue` does not say any more that the trash has what no commit holds."""
    moderator(repository, "clean", "secret")
    assert "1 only in the trash" in moderator(repository, "rescue", "list").stdout
    (described,) = document(moderator(repository, "rescue", "list", "--json"))["rescues"]
    assert described["in_trash_until"] > time.time()
    moderator(repository, "undo")
    assert "trash" not in moderator(repository, "rescue", "list").stdout
    (described,) = document(moderator(repository, "rescue", "list", "--json"))["rescues"]
    assert (described["left"], described["in_trash_until"]) == (["a.key"], None)
    assert "in the trash no longer (1)\n  a.key\n" in moderator(repository, "rescue", "show", "secret").stdout


@pytest.mark.slow
def test_a_name_that_means_two_is_refused(repository: Path, tmp_path: Path) -> None:
    """Where one task's id is another's branch, no command takes either for the other: exit 2 with a name for each."""
    twin = task_list(tmp_path / "t", {"id": "main-task-half", "run": "true"})
    assert moderator(repository, "run", twin).returncode == 0
    for command in ("clean", "show", "diff", "logs", "path", "lock", "unlock"):
        done = moderator(repository, command, "main-task-half")
        assert (done.returncode, done.stdout, done.stderr) == (
            2, "",
            "error: 'main-task-half' means 2 workspaces: by task id or by branch, those of 'main-task-half' and 'half'\n"
            "  hint: for 'main-task-half' type refs/heads/main-task-main-task-half; "
            "for 'half' type refs/heads/main-task-half\n",
        )  # fmt: skip
    assert left(repository) == ["done", "half", "main-task-half", "secret"]
    assert moderator(repository, "path", "refs/heads/main-task-half").stdout == f"{place(repository, 'half')}\n"
    assert moderator(repository, "run", twin, "--fresh", "--keep", "never").returncode == 0  # ids are ids
    assert left(repository) == ["done", "half", "secret"]
    assert moderator(repository, "clean", "refs/heads/main-task-half").stdout.startswith("removed half;")
    assert left(repository) == ["done", "secret"]


def test_which_ones_must_be_said(repository: Path) -> None:
    """With neither names, options nor quotas there is nothing to go by."""
    done = moderator(repository, "clean")
    assert (done.returncode, done.stdout, done.stderr) == (
        2, "",
        "error: say which workspaces to remove: some by name, by what holds for them, or all\n"
        "  hint: moderator clean TASK..., moderator clean --merged, or moderator clean --all\n",
    )  # fmt: skip


def test_what_makes_no_sense_changes_nothing(repository: Path) -> None:
    """Exit 2 with what is wrong and what to type."""
    wrong = {
        "--all done": "say which workspaces you mean by name, or by what holds for them, not both",
        "--done --into main": "--into says what --merged and --branches mean, and neither is given",
        "--merged --into gone": "'gone' is no branch of this repository",
    }
    for options, message in wrong.items():
        done = moderator(repository, "clean", *options.split())
        assert (done.returncode, done.stdout, done.stderr.splitlines()[0]) == (2, "", f"error: {message}")
        assert "  hint: " in done.stderr
    assert left(repository) == ["done", "half", "secret"]


def test_a_workspace_named_twice_is_removed_once(repository: Path) -> None:
    """By id and by branch it is the same workspace."""
    done = moderator(repository, "clean", "done", "main-task-done", "done")
    assert (done.returncode, done.stdout) == (0, "removed done; its branch main-task-done stays\n" + UNDO)


def test_a_nested_repository_is_a_persons_business(repository: Path) -> None:
    """Commits that only a repository inside the workspace has cannot be rescued: exit 3 by name, kept by a condition."""
    make_repository(place(repository, "done") / "inner")
    done = moderator(repository, "clean", "done")
    assert (done.returncode, done.stdout) == (3, "")
    assert "inner" in done.stderr
    done = moderator(repository, "clean", "--done", "--keep-last", "1")
    assert (done.returncode, done.stdout.partition(": ")[0]) == (0, "kept done")
    assert (place(repository, "done") / "inner/README.md").exists()


def test_a_workspace_in_which_somebody_stands(repository: Path) -> None:
    """A process in the directory is a person at work: exit 3, and nothing of it is touched."""
    before = picture(place(repository, "half"))
    with subprocess.Popen(["sleep", "60"], cwd=place(repository, "half")) as shell:
        try:
            done = moderator(repository, "clean", "half")
        finally:
            shell.kill()
    assert (done.returncode, done.stdout) == (3, "")
    assert f"process {shell.pid} works in it" in done.stderr
    assert picture(place(repository, "half")) == before


def test_two_at_once(repository: Path) -> None:
    """Each workspace is removed once, by one of them; the other finds it held or gone, and that is no failure of its own."""
    with started(repository, "clean", "--all") as one, started(repository, "clean", "--all") as two:
        said = [process.communicate(timeout=PATIENCE) for process in (one, two)]
    removed = [line.split(";")[0] for out, _ in said for line in out.splitlines() if line.startswith("removed")]
    assert sorted(removed) == ["removed done", "removed half", "removed secret"]
    assert {one.returncode, two.returncode} <= {0, 75}
    errors = [line for _, err in said for line in err.splitlines() if line.startswith("error:")]
    assert [line for line in errors if " is held by " not in line] == []
    assert left(repository) == []
    assert git(repository, "fsck", "--no-dangling") == ""


@pytest.mark.slow
def test_a_workspace_that_a_task_runs_in_is_held(repository: Path, tmp_path: Path) -> None:
    """While a task runs, nobody removes its workspace: exit 75, and the task goes on."""
    run = f"touch {tmp_path}/on; while ! [ -e {tmp_path}/go ]; do sleep 0.02; done; echo x > x"
    with started(repository, "run", task_list(tmp_path / "t", {"id": "busy", "run": run})) as running:
        wait_until((tmp_path / "on").exists)
        for options, said in (([], ""), (["--dry-run"], "would remove nothing\n")):
            done = moderator(repository, "clean", "busy", *options)
            assert (done.returncode, done.stdout) == (75, said)
            assert done.stderr.startswith(f"error: the workspace of task 'busy' is held by process {running.pid} on ")
        dry = moderator(repository, "clean", "--older-than", "0d", "--dry-run").stdout
        assert f"keep busy: used by process {running.pid} on " in dry
        (tmp_path / "go").touch()
        running.communicate(timeout=PATIENCE)
    assert (running.returncode, git(repository, "show", "main-task-busy:x")) == (0, "x")


def test_a_workspace_that_a_person_locked_is_respected(repository: Path) -> None:
    """`git worktree lock` is a person's word: exit 3 with the reason, until it is unlocked."""
    path = f"{repository}.moderator/tasks/done"
    git(repository, "worktree", "unlock", path)
    git(repository, "worktree", "lock", "--reason", "on my stick", path)
    done = moderator(repository, "clean", "done")
    assert (done.returncode, done.stdout, done.stderr.splitlines()[0]) == (
        3, "", "error: the worktree of task 'done' is locked: on my stick",
    )  # fmt: skip
    done = moderator(repository, "clean", "--done", "--keep-last", "1")
    assert (done.returncode, done.stdout) == (0, "kept done: the worktree of task 'done' is locked: on my stick\n")
    assert Path(path).is_dir()
    git(repository, "worktree", "unlock", path)
    assert moderator(repository, "clean", "done").returncode == 0
