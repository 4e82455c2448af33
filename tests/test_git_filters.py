"""Filters that are left out at a checkout, and those that fail there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from moderator.errors import ConfigurationError, GitFailed
from moderator.furnishing import Furnishing
from moderator.git.doctor.doctor import Doctor
from moderator.git.manager import GitManager
from moderator.git.pool import PoolLimits
from moderator.git.registry import Registry
from moderator.git.repository import Repository
from repos import git, make_repository
from workspaces import context

SKIPPED = Furnishing(smudge="skip")
POINTERS = """#!/bin/sh
# What a large file store does: 'clean' stores the content away and lets a pointer stand for it, and leaves pointers as they are.
store="$(git rev-parse --git-common-dir)/store"; mkdir -p "$store"; cat > "$store/in.$$"
case $1 in
clean)
    if head -c 8 "$store/in.$$" | grep -q '^pointer '; then cat "$store/in.$$"; rm "$store/in.$$"; exit; fi
    name=$(git hash-object --no-filters "$store/in.$$"); mv "$store/in.$$" "$store/$name"; echo "pointer $name" ;;
smudge) read -r _ name < "$store/in.$$"; rm "$store/in.$$"; cat "$store/$name" ;;
esac
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a file that a real filter keeps elsewhere, and one whose filter has to be called to be seen through."""
    made = make_repository(
        tmp_path / "sample", [("first", {"README.md": "# Sample\n", ".gitattributes": "*.bin filter=lfs\n"})]
    )
    script = tmp_path / "pointers"
    script.write_text(POINTERS)
    script.chmod(0o755)
    for what in ("clean", "smudge"):
        git(made, "config", f"filter.lfs.{what}", f"'{script}' {what}")
    git(made, "config", "filter.lfs.required", "true")
    (made / "large.bin").write_text("large\n" * 1000)
    git(made, "add", ".")
    git(made, "commit", "-q", "-m", "a large file")
    return made


def test_what_is_skipped_is_no_change_and_is_committed_as_it_is(repository: Path) -> None:
    """Pointers stay pointers for status, commit and removal, touched or not; what a task pulls, or adds, is stored as ever."""
    pointer = git(repository, "cat-file", "blob", "HEAD:large.bin") + "\n"
    manager = GitManager(repository, furnishing=SKIPPED)
    before = git(repository, "config", "--list", "--local")
    with manager.create_workspace(context(repository.parent, "one")) as workspace:
        there = Path(workspace.path)
        assert (there / "large.bin").read_text() == pointer
        os.utime(there / "large.bin")
        (there / "README.md").write_text("# Changed\n")
        (there / "new.bin").write_text("new\n" * 1000)
        assert git(there, "status", "--porcelain") == " M README.md\n?? new.bin"
        assert manager.commit(workspace, "work")
    assert [change.path for change in manager.diff("one")] == ["README.md", "new.bin"]
    assert git(repository, "cat-file", "blob", "main-task-one:new.bin").startswith("pointer ")
    assert git(repository, "config", "--list", "--local") == before
    manager.remove_workspace("one")
    # A task that fetches the content itself, as `git lfs pull` does, has the file, and changes nothing.
    with manager.create_workspace(context(repository.parent, "two")) as workspace:
        there = Path(workspace.path)
        (there / "large.bin").write_text("large\n" * 1000)
        git(there, "update-index", "large.bin")  # git-lfs does so too: by its size alone git would take it for changed
        assert git(there, "status", "--porcelain") == ""
        assert manager.commit(workspace, "work") is None
    (there / "README.md").write_text("# Mine\n")
    for back in (manager.undo_removal, lambda: manager.restore_rescue(manager.find_rescue("two"))):
        manager.remove_workspace("two", rescue=True)
        with back() as workspace:  # with the index of a time at which the content was there
            found = (Path(workspace.path, "large.bin").read_text(), git(Path(workspace.path), "status", "--porcelain"))
        assert found == (pointer, " M README.md")
    # Whoever wants the files as they are stored gets no spare that has them otherwise, nor becomes one.
    pool = GitManager(repository, pool=PoolLimits(1, recycle="pristine"))
    pool.create_workspace(context(repository.parent, "three"), furnishing=SKIPPED).release()
    pool.remove_workspace("three", recycle=True)
    assert pool.pool_status().spares == ()
    with pool.create_workspace(context(repository.parent, "four")) as workspace:
        assert Path(workspace.path, "large.bin").read_text() == "large\n" * 1000


def test_a_filter_that_would_change_what_is_stored_cannot_be_skipped(repository: Path) -> None:
    """git would take every file for changed and commit something else; the file and the filter are named, nothing is made."""
    for what in ("clean", "smudge"):
        git(repository, "config", f"filter.turn.{what}", "tr A-Za-z N-ZA-Mn-za-m")
        git(repository, "config", f"filter.count.{what}", "cat")
    (repository / ".gitattributes").write_text("*.txt filter=turn\n*.md filter=count\n")
    (repository / 'odd "name\n.txt').write_text("odd\n")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "turned")
    manager = GitManager(repository)
    with pytest.raises(
        ConfigurationError, match=r"smudge: skip does not go with the filter 'turn': .*odd \"name"
    ) as caught:
        manager.create_workspace(context(repository.parent, "one"), furnishing=SKIPPED)
    assert caught.value.hint == "use smudge: run for this repository"
    assert (manager.workspaces(), manager.removals()) == ([], [])
    with manager.create_workspace(context(repository.parent, "one")) as workspace:
        assert Path(workspace.path, 'odd "name\n.txt').read_text() == "odd\n"


def test_a_filter_that_stops_git_from_reading_is_named_with_what_to_type(repository: Path) -> None:
    """By what needs to read the tree, and by the doctor; nothing is removed, and once it is mended all is as before."""
    manager = GitManager(repository)
    manager.create_workspace(context(repository.parent, "one")).release()

    def findings() -> list[tuple[str, str]]:
        opened = Repository.open(repository)
        return [(one.code, one.hint) for one in Doctor(opened, Registry(opened.ours)).examine()]

    works = git(repository, "config", "filter.lfs.clean")
    assert findings() == []
    os.utime(Path(manager.workspaces()[0].path, "large.bin"))
    git(repository, "config", "filter.lfs.clean", "false")
    hint = "install git-lfs (git lfs install), or mend it; this shows it: git config --get-regexp '^filter\\.lfs\\.'"
    with pytest.raises(GitFailed, match=r"the filter 'lfs' fails on 'large\.bin'") as caught:
        manager.remove_workspace("one", rescue=True)
    assert (caught.value.hint, findings()) == (hint, [("unreadable", hint)])
    assert (manager.status("one").state, manager.status("one").problem) == (
        "damaged",
        "filter 'lfs' fails on large.bin",
    )
    git(repository, "config", "filter.lfs.clean", works)
    assert findings() == []
    assert manager.remove_workspace("one", rescue=True) is not None


@pytest.mark.parametrize(
    ("how", "command", "where"),
    [
        ("smudge", "no-such-program", " on 'large.bin'"),
        # It ends before git has greeted it, or when it should answer: what git says then differs.
        ("process", "sleep 0.1; no-such-program", "( on 'large.bin')?"),
        ("process", "head -c 40 >&2; no-such-program", "( on 'large.bin')?"),
    ],
)
def test_a_filter_that_is_missing_is_named_with_the_file(how: str, command: str, where: str, repository: Path) -> None:
    """With what shows it, and with what to type to do without; leaving it out needs no program at all."""
    git(repository, "config", f"filter.lfs.{how}", command)
    manager = GitManager(repository)
    with pytest.raises(GitFailed, match=rf"the filter 'lfs' fails{where} at the checkout into") as caught:
        manager.create_workspace(context(repository.parent, "one"))
    assert caught.value.exit_code == 4
    assert "no-such-program" in caught.value.cause
    assert "git lfs install" in caught.value.hint
    assert "smudge: skip" in caught.value.hint
    assert manager.workspaces() == []
    with manager.create_workspace(context(repository.parent, "one"), furnishing=SKIPPED) as workspace:
        assert Path(workspace.path, "large.bin").read_text().startswith("pointer ")
