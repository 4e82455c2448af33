"""What a look into many workspaces found is good until something happens in one of them, and no longer."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moderator.furnishing import Furnishing
from moderator.git.manager import GitManager
from moderator.git.values import WorkspaceStatus
from repos import git, git_processes, make_repository
from touching import CHANGES, FILES, branch
from workspaces import DIRECTORY, FULL, context

_SETTLED = 2.1  # seconds after which what was written is older than what a look goes by
FURTHER: dict[str, Callable[[Path], object]] = {
    "its branch at another tree": lambda tree: git(
        tree,
        "-c",
        "core.logAllRefUpdates=false",
        "update-ref",
        branch(tree),
        git(tree, "commit-tree", "HEAD:src", "-p", "HEAD", "-m", "x"),
    ),
    "its directory renamed": lambda tree: (tree.rename(f"{tree}.away"), Path(f"{tree}.away").rename(tree)),
    "another directory": lambda tree: (tree / "src/deep/c").rename(tree / "src/deep/d"),
    "what git ignores": lambda tree: (tree / ".gitignore").write_text("src\n"),
}
ALIKE = ("its branch packed", "a commit taken back")
"""What changes nothing that is looked at, so that it need not be looked at again."""


def looked(manager: GitManager, folder: Path, asked: int | None = None) -> list[WorkspaceStatus]:
    """Return the statuses; `asked` is of how many git was asked."""
    with git_processes(folder / f"trace-{time.monotonic_ns()}") as commands:
        found = manager.statuses()
    assert asked is None or commands.count("status") == asked
    return found


def sample(folder: Path, names: list[str], furnishing: Furnishing | None = None) -> GitManager:
    """Return a manager of workspaces that have been looked into, so that what was found is known."""
    manager = GitManager(make_repository(folder / "sample", [("first", FILES)]), furnishing=furnishing or Furnishing())
    for number, name in enumerate(names):
        manager.create_workspace(context(folder, name, DIRECTORY if number % 5 == 4 else FULL)).release()
    (folder / "checkouts/tasks/older").write_text("9\n")
    time.sleep(_SETTLED)
    looked(manager, folder, len(names))  # git notes in the index what it found unchanged
    looked(manager, folder, len(names))
    return manager


def known(folder: Path) -> Path:
    return folder / "sample/.git/moderator/looks.json"


def test_what_has_happened_is_seen(tmp_path: Path) -> None:
    """Each change, however it is hidden, at once: with what is known a look says what one says that knows nothing."""
    everything = {**CHANGES, **FURTHER}
    names = [f"t{number:02d}" for number in range(len(everything) + 2)]
    manager = sample(tmp_path, names)
    assert {status.dirty for status in looked(manager, tmp_path, 0)} == {0}
    changed = []
    for name, change in zip(names, everything, strict=False):
        workspace = manager.find(name)
        if workspace.branch or "branch" not in change:
            everything[change](Path(workspace.path))
            changed.append(change)
    least = len([change for change in changed if change not in ALIKE and change != "its branch deleted"])
    with git_processes(tmp_path / "trace") as commands:
        seen = manager.statuses()
    known(tmp_path).unlink()
    assert seen == manager.statuses()
    assert least <= commands.count("status") <= len(changed)
    assert len([status for status in seen if status.dirty]) > len(changed) // 2


@pytest.mark.some(4)
@pytest.mark.parametrize(
    "change",
    {
        "an exclude file": lambda repo: (repo / ".git/info/exclude").write_text("new\n"),
        "a setting": lambda repo: git(repo, "config", "core.fileMode", "false"),
        "attributes": lambda repo: (repo / ".git/info/attributes").write_text("* text\n"),
        "a clock put back": lambda repo: edited(
            repo, lambda looks: [one.__setitem__(3, one[3] + 10**9) for one in looks]
        ),
        "a restart": lambda repo: edited(repo, None, boot="another"),
        "another version": lambda repo: edited(repo, None, version=0),
        "rubbish": lambda repo: known(repo.parent).write_text("[" * 100_000),
        "a number that is none": lambda repo: edited(repo, lambda looks: [one.__setitem__(2, True) for one in looks]),
        "a number too many": lambda repo: edited(repo, lambda looks: [one.append(0) for one in looks]),
        "nothing": lambda repo: known(repo.parent).write_bytes(b""),
    }.items(),
    ids=lambda change: change[0],
)
def test_what_everything_hangs_on_is_compared(settled: Path, change: tuple[str, Callable[[Path], object]]) -> None:
    """Nothing is believed that was found under other settings, before the clock was put back, or that makes no sense."""
    manager = GitManager(settled / "sample")
    looked(manager, settled)
    looked(manager, settled, 0)
    change[1](settled / "sample")
    looked(GitManager(settled / "sample"), settled, 3)
    looked(manager, settled, 0)


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a repository that has three workspaces, for everybody to look at."""
    folder = tmp_path_factory.mktemp("settled")
    sample(folder, ["one", "two", "three"])
    return folder


def edited(repository: Path, change: Callable[[list[list[Any]]], object] | None, **values: object) -> None:
    looks = json.loads(known(repository.parent).read_text())
    if change:
        change(looks["looks"].values())
    known(repository.parent).write_text(json.dumps({**looks, **values}))


def test_one_that_is_held_is_looked_into(settled: Path) -> None:
    """Somebody works in it, and what he does at this moment is what is wanted."""
    manager = GitManager(settled / "sample")
    looked(manager, settled)
    with manager.create_workspace(context(settled, "two")):
        looked(GitManager(settled / "sample"), settled, 1)


def test_what_is_gone_is_forgotten(tmp_path: Path) -> None:
    """And one that is made anew under its name is not taken for it."""
    manager = sample(tmp_path, ["one", "two", "three"])
    Path(manager.find("one").path, "new").touch()
    assert [status.dirty for status in looked(manager, tmp_path, 1)] == [1, 0, 0]
    manager.set_aside("one", "made anew")
    looked(manager, tmp_path, 0)
    assert len(json.loads(known(tmp_path).read_text())["looks"]) == 2
    manager.create_workspace(context(tmp_path, "one")).release()
    assert [status.dirty for status in looked(manager, tmp_path, 1)] == [0, 0, 0]


@pytest.mark.slow
def test_a_submodule_is_always_asked(tmp_path: Path) -> None:
    """What happens in one leaves no trace in the tree that it is in."""
    inner = make_repository(tmp_path / "inner", [("first", {"i": "1\n"}), ("second", {"i": "2\n"})])
    repository = make_repository(tmp_path / "sample", [("first", FILES)])
    git(repository, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner), "inner")
    git(repository, "commit", "--quiet", "-m", "inner")
    manager = GitManager(repository, furnishing=Furnishing(submodules=True))
    for name in ("one", "two"):
        manager.create_workspace(context(tmp_path, name)).release()
    git(Path(manager.find("two").path, "inner"), "checkout", "--quiet", "HEAD~1")
    time.sleep(_SETTLED)
    for _ in range(3):
        assert [status.dirty for status in looked(manager, tmp_path, 4)] == [
            0,
            1,
        ]  # two, and in each git asks the submodule


def test_a_look_that_cannot_be_kept_is_made_again(settled: Path) -> None:
    """Somebody else writes at this moment, or there is no space: nothing else happens."""
    manager = GitManager(settled / "sample")
    looked(manager, settled)
    known(settled).unlink()
    known(settled).mkdir()
    looked(manager, settled, 3)
    os.rmdir(known(settled))
    looked(manager, settled, 3)
    looked(manager, settled, 0)


def many_ignored(tree: Path) -> None:
    (tree / "deps/deep").mkdir(parents=True)
    for number in range(2_001):
        (tree / f"deps/deep/{number}").touch()


def own_settings(tree: Path) -> None:
    git(tree, "config", "extensions.worktreeConfig", "true")
    git(tree, "config", "--worktree", "core.excludesFile", "/nowhere")


ALWAYS_ASKED: dict[str, Callable[[Path], object]] = {
    "on another branch": lambda tree: git(tree, "switch", "--quiet", "-c", f"other-{tree.name}"),
    "a nested repository": lambda tree: make_repository(tree / "inner"),
    "much that git ignores": many_ignored,
    "settings of its own": own_settings,
    "a split index": lambda tree: git(tree, "update-index", "--split-index"),
}


def test_what_hangs_on_more_is_always_asked(tmp_path: Path) -> None:
    """On what is elsewhere and leaves no trace here; or where git is done sooner than every file is looked at."""
    manager = GitManager(make_repository(tmp_path / "sample", [("first", FILES)]))
    (tmp_path / "sample/.git/info/exclude").write_text("deps/\ncache/\n")
    cases = [(level, what) for level in (FULL, DIRECTORY) for what in ALWAYS_ASKED]
    for number, (level, what) in enumerate(cases):
        manager.create_workspace(context(tmp_path, f"t{number}", level)).release()
        ALWAYS_ASKED[what](Path(manager.find(f"t{number}").path))
    manager.create_workspace(context(tmp_path, "ordinary")).release()
    cache = Path(manager.find("ordinary").path, "cache")
    cache.mkdir()
    (cache / "few").touch()
    time.sleep(_SETTLED)
    for asked in (len(cases) + 1, len(cases) + 1, len(cases), len(cases)):
        looked(manager, tmp_path, asked)
    (cache / "more").touch()
    looked(manager, tmp_path, len(cases) + 1)


@pytest.mark.some(1)
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("includeIf.onbranch:main.path", "/nowhere"),
        ("includeIf.gitdir:/nowhere/.path", "nowhere"),
        ("core.excludesFile", "nowhere"),
        ("core.attributesFile", "../nowhere"),
    ],
)
def test_settings_that_differ_from_tree_to_tree_are_always_asked(settled: Path, key: str, value: str) -> None:
    """What a relative path leads to, or a branch switches on, is not the same for each."""
    git(settled / "sample", "config", key, value)
    try:
        for _ in range(3):
            looked(GitManager(settled / "sample"), settled, 3)
    finally:
        git(settled / "sample", "config", "--unset", key)


def test_a_file_of_settings_that_may_hold_in_a_worktree_counts(settled: Path, tmp_path: Path) -> None:
    """Whatever its condition, and whether or not it holds for the repository itself."""
    included = tmp_path / "included"
    git(settled / "sample", "config", "includeIf.gitdir:/nowhere/.path", str(included))
    try:
        for text, asked in (("", 3), ("", 0), ("[core]\n\tfileMode = false\n", 3), (None, 3), (None, 0)):
            included.unlink(missing_ok=True)
            if text is not None:
                included.write_text(text)
            looked(GitManager(settled / "sample"), settled, asked)
    finally:
        git(settled / "sample", "config", "--unset", "includeIf.gitdir:/nowhere/.path")
