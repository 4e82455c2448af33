"""Every kind of repository, through a whole day's work: run, list, diff, clean; what cannot be served says so.

Each is a throwaway that really has the property, made by git itself.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from commandline import document, moderator, task_list
from ignoring_case import disk_that_ignores_case
from repos import Executable, Symlink, git, make_repository

FILES = {
    "README.md": "# Sample\n",
    "src/a.txt": "a\n",
    "src/größe.txt": "groß\n",
    "tool": Executable("#!/bin/sh\n"),
    "link": Symlink("README.md"),
    ".gitignore": "cache/\n",
}
COMMITS = [("first", FILES), ("second", {"src/b.txt": "b\n"})]


@dataclass(frozen=True)
class Kind:
    """A repository as a person has it: where he stands in it, and what his machine sets."""

    where: Path
    environment: dict[str, str] = field(default_factory=dict)
    files: int = 7
    """How many files a workspace of it has."""


Build = Callable[[Path], Kind]
KINDS: list[Build] = []


def kind(build: Build) -> Build:
    KINDS.append(build)
    return build


def cloned(folder: Path, *options: str) -> Path:
    source = make_repository(folder / "source", COMMITS)
    git(source, "config", "uploadpack.allowFilter", "true")
    git(folder, "clone", "--quiet", *options, f"file://{source}", folder / "repo")
    return folder / "repo"


@kind
def bare(folder: Path) -> Kind:
    return Kind(make_repository(folder / "repo.git", COMMITS, bare=True))


@kind
def worktree_of_a_bare_one(folder: Path) -> Kind:
    git(make_repository(folder / "repo.git", COMMITS, bare=True), "worktree", "add", "--quiet", folder / "tree", "main")
    return Kind(folder / "tree")


@kind
def linked_worktree(folder: Path) -> Kind:
    git(make_repository(folder / "repo", COMMITS), "worktree", "add", "--quiet", folder / "linked", "-b", "side")
    return Kind(folder / "linked")


@kind
def submodule(folder: Path) -> Kind:
    library = make_repository(folder / "library", COMMITS)
    repo = make_repository(folder / "repo")
    git(repo, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", library, "lib")
    return Kind(repo / "lib")


@kind
def separate_git_directory(folder: Path) -> Kind:
    source = make_repository(folder / "source", COMMITS)
    git(folder, "clone", "--quiet", "--separate-git-dir", folder / "elsewhere.git", source, folder / "repo")
    return Kind(folder / "repo")


@kind
def reached_through_a_link(folder: Path) -> Kind:
    make_repository(folder / "real/repo", COMMITS)
    (folder / "link").symlink_to("real")
    return Kind(folder / "link/repo/src")


@kind
def shallow(folder: Path) -> Kind:
    return Kind(cloned(folder, "--depth=1"))


@kind
def partial_without_blobs(folder: Path) -> Kind:
    return Kind(cloned(folder, "--filter=blob:none"))


@kind
def partial_without_trees(folder: Path) -> Kind:
    return Kind(cloned(folder, "--filter=tree:0", "--no-checkout"))


@kind
def sparse(folder: Path) -> Kind:
    repo = make_repository(folder / "repo", COMMITS)
    git(repo, "sparse-checkout", "set", "--cone", "src")
    return Kind(repo)


@kind
def borrowing_objects(folder: Path) -> Kind:
    source = make_repository(folder / "source", COMMITS)
    git(folder, "clone", "--quiet", "--shared", source, folder / "repo")
    return Kind(folder / "repo")


@kind
def sha256(folder: Path) -> Kind:
    repo = folder / "repo"
    git(folder, "init", "--quiet", "--object-format=sha256", repo)
    for name in ("src/a.txt", "src/b.txt", "README.md", ".gitignore", "tool", "link", "src/c.txt"):
        (repo / name).parent.mkdir(exist_ok=True)
        (repo / name).write_text("cache/\n" if name == ".gitignore" else f"{name}\n")
    git(repo, "add", "--all")
    git(repo, "commit", "--quiet", "--message", "first")
    return Kind(repo)


@kind
def reftable(folder: Path) -> Kind:
    made = subprocess.run(["git", "init", "--quiet", "--ref-format=reftable", folder / "repo"], capture_output=True)
    if made.returncode:
        pytest.skip("this git knows no reftable")
    source = make_repository(folder / "source", COMMITS)
    git(folder / "repo", "pull", "--quiet", source, "main")
    return Kind(folder / "repo")


@kind
def links_that_are_relative(folder: Path) -> Kind:
    repo = make_repository(folder / "repo", COMMITS)
    git(repo, "config", "worktree.useRelativePaths", "true")
    git(repo, "worktree", "add", "--quiet", folder / "linked", "-b", "side")
    if (folder / "linked/.git").read_text() != "gitdir: ../repo/.git/worktrees/linked\n":
        pytest.skip("this git knows no relative links")
    return Kind(repo)


@kind
def large_files_by_git_lfs(folder: Path) -> Kind:
    if shutil.which("git-lfs") is None:
        pytest.skip("git-lfs is not installed")
    repo = make_repository(folder / "repo", COMMITS)
    git(repo, "lfs", "install", "--local")
    git(repo, "lfs", "track", "*.bin")
    (repo / "large.bin").write_bytes(bytes(range(256)) * 100)
    git(repo, "add", ".")
    git(repo, "commit", "--quiet", "-m", "a large file")
    assert git(repo, "show", "HEAD:large.bin").startswith("version https://git-lfs")
    return Kind(repo, files=9)


@kind
def settings_for_each_worktree(folder: Path) -> Kind:
    repo = make_repository(folder / "repo", COMMITS)
    git(repo, "config", "extensions.worktreeConfig", "true")
    git(repo, "config", "--worktree", "core.sparseCheckout", "false")
    return Kind(repo)


@kind
def several_remotes(folder: Path) -> Kind:
    repo = cloned(folder)
    for name in ("fork", "upstream"):
        git(repo, "remote", "add", name, folder / "source")
        git(repo, "fetch", "--quiet", name)
    git(repo, "config", "checkout.defaultRemote", "fork")
    git(repo, "config", "push.default", "current")
    return Kind(repo)


@kind
def lines_ending_as_on_windows(folder: Path) -> Kind:
    repo = make_repository(folder / "repo", COMMITS)
    git(repo, "config", "core.autocrlf", "true")
    git(repo, "rm", "--quiet", "--cached", "-r", ".")
    git(repo, "reset", "--quiet", "--hard")
    return Kind(repo)


@kind
def attributes_and_a_filter(folder: Path) -> Kind:
    attributes = "*.txt eol=crlf\nREADME.md filter=upper ident\n"
    repo = make_repository(
        folder / "repo", [("first", {**FILES, "README.md": "# sample\n", ".gitattributes": attributes})]
    )
    git(repo, "config", "filter.upper.smudge", "tr a-z A-Z")
    git(repo, "config", "filter.upper.clean", "tr A-Z a-z")
    return Kind(repo)


@kind
def names_that_differ_in_case(folder: Path) -> Kind:
    repo = make_repository(folder / "repo", [("first", {**FILES, "SRC/A.txt": "other\n"})])
    return Kind(repo)


@kind
def no_links(folder: Path) -> Kind:
    repo = make_repository(folder / "repo", COMMITS)
    git(repo, "config", "core.symlinks", "false")
    (repo / "link").unlink()
    git(repo, "checkout", "--quiet", "--", "link")
    return Kind(repo)


@kind
def long_paths(folder: Path) -> Kind:
    deep = "/".join(["d" * 100] * 20)
    return Kind(make_repository(folder / "repo", [("first", {**FILES, f"{deep}/{'f' * 200}": "deep\n"})]))


@kind
def an_index_in_parts_and_a_cache(folder: Path) -> Kind:
    repo = make_repository(folder / "repo", COMMITS)
    for name in ("core.splitIndex", "core.untrackedCache", "feature.manyFiles", "fetch.writeCommitGraph"):
        git(repo, "config", name, "true")
    git(repo, "update-index", "--split-index", "--untracked-cache")
    return Kind(repo)


@kind
def hooks_that_fail(folder: Path) -> Kind:
    repo = make_repository(folder / "repo", COMMITS)
    git(repo, "config", "core.hooksPath", folder / "hooks")
    (folder / "hooks").mkdir()
    for name in ("pre-commit", "post-checkout", "prepare-commit-msg", "commit-msg", "reference-transaction"):
        hook = folder / "hooks" / name
        hook.write_text("#!/bin/sh\necho 'the hook ran' >&2\nexit 1\n")
        hook.chmod(0o755)
    return Kind(repo)


@kind
def signing_without_a_key(folder: Path) -> Kind:
    repo = make_repository(folder / "repo", COMMITS)
    for name in ("commit.gpgSign", "tag.gpgSign"):
        git(repo, "config", name, "true")
    git(repo, "config", "gpg.program", "false")
    return Kind(repo)


@kind
def nobody_to_commit_as(folder: Path) -> Kind:
    repo = make_repository(folder / "repo", COMMITS)
    (folder / "empty").write_text("[user]\n\tuseConfigOnly = true\n")
    return Kind(repo, {"GIT_CONFIG_GLOBAL": str(folder / "empty"), "HOME": str(folder)})


@kind
def locale_without_utf8(folder: Path) -> Kind:
    return Kind(
        make_repository(folder / "repo", COMMITS), {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    )


@kind
def detached(folder: Path) -> Kind:
    repo = make_repository(folder / "repo", COMMITS)
    git(repo, "switch", "--quiet", "--detach", "main~0")
    return Kind(repo)


@kind
def packed_with_replaced_commits(folder: Path) -> Kind:
    repo = make_repository(folder / "repo", COMMITS)
    other = git(repo, "commit-tree", "main~1^{tree}", "-m", "other")
    git(repo, "replace", git(repo, "rev-parse", "main~1"), other)
    git(repo, "gc", "--quiet")
    return Kind(repo)


RARE: list[Build] = [
    separate_git_directory, large_files_by_git_lfs, partial_without_trees, borrowing_objects, settings_for_each_worktree,
    several_remotes, nobody_to_commit_as, linked_worktree, reached_through_a_link,
    an_index_in_parts_and_a_cache, packed_with_replaced_commits, detached,
]  # fmt: skip
"""What a suite of minutes leaves out."""


def visible(folder: Path) -> dict[str, object]:
    """What is checked out in a folder, and where HEAD is, as git tells."""
    if (
        subprocess.run(["git", "rev-parse", "--is-inside-work-tree"], cwd=folder, capture_output=True).stdout
        != b"true\n"
    ):
        return {}
    return {"status": git(folder, "status", "--porcelain"), "head": git(folder, "rev-parse", "HEAD")}


@pytest.mark.parametrize(
    "build",
    [pytest.param(one, marks=pytest.mark.slow) if one in RARE else one for one in KINDS],
    ids=lambda one: one.__name__,
)
@pytest.mark.some(2)
def test_a_day_in_a_repository_of_this_kind(tmp_path: Path, build: Build) -> None:
    """Tasks run, their work is told and kept, unsaved work is rescued, byte for byte, and the person's own stays as it is."""
    folder = tmp_path / "place"
    folder.mkdir()
    spend_a_day(tmp_path, build(folder))


def spend_a_day(tmp_path: Path, here: Kind) -> None:
    def ours(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        done = moderator(here.where, *arguments, **here.environment)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done

    before = visible(here.where)
    tasks = task_list(
        tmp_path / "tasks.json",
        {"id": "edit", "run": "printf 'mine\\n' >> src/a.txt; mkdir -p cache; echo o > cache/o; echo neu > 'neü.txt'"},
        {"id": "look", "run": ["git", "status", "--porcelain"]},
    )
    run = document(ours("run", tasks, "--json", "-j", "2"))
    assert {one["task_id"]: one["outcome"] for one in run["results"]} == {"edit": "succeeded", "look": "unchanged"}
    assert "the hook ran" not in str(run)
    edited, looked = (Path(one["path"]) for one in run["results"])
    tracked = git(looked, "ls-files", "-z", "-v").split("\0")[:-1]
    assert (git(looked, "status", "--porcelain"), len(tracked)) == ("", here.files)
    assert [line for line in tracked if not os.path.lexists(looked / line[2:])] == []
    assert "mine" in ours("diff", "edit").stdout
    listed = document(ours("list", "--status", "--json"))["workspaces"]
    assert {one["task_id"]: one["dirty"] for one in listed} == {"edit": False, "look": False}
    (edited / "src/a.txt").write_bytes(b"not committed\r\n")
    (edited / "untracked").write_text("not tracked")
    assert ours("clean", "--all").stdout.count("removed ") == 2
    assert not edited.exists()
    rescue = git(here.where, "for-each-ref", "--format=%(refname)", "refs/moderator/rescue/edit/")
    assert git(here.where, "cat-file", "blob", f"{rescue}:src/a.txt") == "not committed\r"
    assert git(here.where, "cat-file", "blob", f"{rescue}^3:untracked") == "not tracked"
    assert (edited.parent / ".trash" / os.listdir(edited.parent / ".trash")[0] / "cache/o").read_text() == "o\n"
    assert visible(here.where) == before


@pytest.fixture
def ignoring(tmp_path: Path) -> Iterator[Path]:
    with disk_that_ignores_case(tmp_path / "disk") as folder:
        yield make_repository(folder / "repo", COMMITS)


@pytest.mark.slow
def test_a_day_where_letter_case_is_ignored(tmp_path: Path, ignoring: Path) -> None:
    """It is like any other."""
    assert git(ignoring, "config", "core.ignoreCase") == "true"
    spend_a_day(tmp_path, Kind(ignoring))


RENAMED = {"src/a.txt": "src/A.txt", "README.md": "readme.md"}
RENAMING = " && ".join(f"git mv {old} {new}" for old, new in RENAMED.items())


@pytest.mark.slow
@pytest.mark.parametrize("level", ["full", "directory", "branch"])
def test_a_renaming_by_letter_case_alone_is_kept(tmp_path: Path, ignoring: Path, level: str) -> None:
    """It is committed; at level branch the checkout is put back, with the old names."""
    tasks = task_list(tmp_path / "tasks.json", {"id": "rename", "run": RENAMING}, {"id": "look", "run": "ls src"})
    done = document(moderator(ignoring, "run", tasks, "--isolation", level, "-j", "1", "--json"))
    assert {one["task_id"]: one["outcome"] for one in done["results"]} == {"rename": "succeeded", "look": "unchanged"}
    ref = "refs/moderator/result/rename" if level == "directory" else "main-task-rename"
    changed = git(ignoring, "diff", "--name-status", "main", ref).split("\n")
    assert changed == [f"R100\t{old}\t{new}" for old, new in sorted(RENAMED.items())]
    assert git(ignoring, "status", "--porcelain") == ""
    assert sorted(os.listdir(ignoring / "src")) == ["a.txt", "b.txt", "größe.txt"]


@pytest.mark.slow
def test_a_renaming_by_letter_case_alone_comes_back(ignoring: Path) -> None:
    """What a task staged and wrote under new names is rescued, and comes back under them by undo and by restoring."""
    workspace = ignoring.with_name("repo.moderator") / "tasks" / "task"
    assert moderator(ignoring, "create", "task").returncode == 0
    subprocess.run(RENAMING, shell=True, check=True, cwd=workspace)
    (workspace / "SRC/A.TXT").write_text("edited\n")
    (workspace / "SRC/new").write_text("new\n")
    status = git(workspace, "status", "--porcelain")
    assert status == "R  README.md -> readme.md\nRM src/a.txt -> src/A.txt\n?? src/new"
    for back, name in (("undo", "task"), ("rescue restore", "task-rescued")):
        assert moderator(ignoring, "clean", "task").returncode == 0
        assert moderator(ignoring, *back.split(), "task").returncode == 0
        there = workspace.with_name(name)
        assert git(there, "status", "--porcelain") == status
        assert (sorted(os.listdir(there / "src"))[0], (there / "src/A.txt").read_text()) == ("A.txt", "edited\n")
        assert (there / "src/new").read_text() == "new\n"


@pytest.mark.slow
def test_a_repository_is_one_in_any_letter_case(tmp_path: Path, ignoring: Path) -> None:
    """Its path may be typed in any, a task's id and what is carried too; ids that differ in nothing else are refused."""
    typed = ignoring.with_name("REPO")
    workspace = ignoring.with_name("repo.moderator") / "tasks" / "A"
    (ignoring / "cache").mkdir()
    (ignoring / "cache/own").write_text("own")
    (tmp_path / "home.yaml").write_text("carry: [cache/Own]\n")
    for where in (typed, ignoring):
        created = moderator(where, "create", "A", MODERATOR_CONFIG=str(tmp_path / "home.yaml"))
        assert (created.returncode, created.stdout) == (0, f"{workspace}\n")
        assert [one["state"] for one in document(moderator(where, "list", "--json"))["workspaces"]] == ["ready"]
    assert (workspace / "cache/own").read_text() == "own"
    assert moderator(ignoring, "create", "a").returncode == 2
    assert "belong to task 'A'" in moderator(ignoring, "create", "a").stderr
    assert moderator(typed, "doctor").stdout == "ok: 1 workspace, nothing is wrong\n"
    assert moderator(typed, "clean", "A").returncode == 0


@pytest.mark.slow
def test_two_files_that_are_one_are_refused(ignoring: Path) -> None:
    """What is on the disk would pass for a change of the other: nothing is made, unless only one of them is checked out."""
    other = git(ignoring, "hash-object", "-w", "--stdin", stdin="other\n")
    git(ignoring, "update-index", "--add", "--cacheinfo", f"100644,{other},SRC/A.txt")
    git(ignoring, "commit", "--quiet", "--message", "twins")
    refused = moderator(ignoring, "create", "task")
    assert refused.returncode == 4
    assert "'SRC/A.txt' and 'src/a.txt' of " in refused.stderr
    assert "are one file on this disk" in refused.stderr
    assert git(ignoring, "branch", "--list", "*task*") == ""
    assert not (ignoring.with_name("repo.moderator") / "tasks" / "task").exists()
    assert moderator(ignoring, "create", "task", "--base", "main~1").returncode == 0


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root can give a repository away")
def test_a_repository_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """Git does not trust it, and neither is anything made: the error says what to type."""
    repo = make_repository(tmp_path / "repo", COMMITS)
    for path in [repo, *repo.rglob("*")]:
        os.lchown(path, 12345, 12345)
    done = moderator(repo, "list")
    assert done.returncode == 2, done.stderr
    assert f"git config --global --add safe.directory {repo}" in done.stderr
    git(tmp_path, "config", "--global", "--add", "safe.directory", repo)
    assert moderator(repo, "list").returncode == 0
