"""A walk tells what is in a tree, and a later one whether anything was written since."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderator.git.manager import GitManager
from moderator.git.pipes import PipeInTheWay
from moderator.git.survey import Survey, Watch
from moderator.git.walking import walk, walked_apart
from repos import make_repository
from workspaces import context

_SECOND = 10**9


def test_a_tree_is_told_by_kind(tmp_path: Path) -> None:
    """Files and links are listed, repositories' own directories not entered, what git did not tell of is found."""
    for name in ("a", "deep/er/b", "whole/c", "nested/.git/HEAD", "nested/d", ".git"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "tree/empty").mkdir()
    (tmp_path / "tree/link").symlink_to("deep")
    os.mkfifo(tmp_path / "tree/pipe")
    survey = Survey(str(tmp_path / "tree"))
    assert sorted(survey.files) == ["a", "deep/er/b", "link", "nested/d", "whole/c"]
    assert (survey.nested, survey.special, survey.empty, survey.young) == (["nested"], ["pipe"], ["empty"], set())
    assert set(survey.overlooked(["a", "whole/"], None)) == {"deep/er/b", "link"}
    assert survey.overlooked(["A", "WHOLE/", "deep/er/b", "LINK"], str.casefold) == []


def test_a_repository_inside_is_stamped_with_what_it_notes(tmp_path: Path) -> None:
    """Where HEAD and the branches of a repository inside are is part of the stamps; its objects are not."""
    make_repository(tmp_path / "tree/nested")
    survey = Survey(str(tmp_path / "tree"))
    survey.stamp_repositories(str(tmp_path / "tree"), str(tmp_path / "modules"))
    stamped = {path for path in survey.stamps if path.startswith("nested/.git/")}
    assert {"nested/.git/HEAD", "nested/.git/refs/heads/main", "nested/.git/index"} <= stamped
    assert not [path for path in stamped if "objects" in path]


@given(
    st.lists(st.integers(0, 40 * _SECOND), min_size=1, max_size=5),
    st.floats(0, 20),
    st.floats(0, 5),
    st.sampled_from([0.0, 0.0, 0.01, 0.1, -0.1, 3600.0]),
)
def test_a_watch_covers_what_is_old(times: list[int], began: float, lasted: float, set_by: float) -> None:
    """Covered is only what was not changed since a tick before it began, by a clock that was not set."""
    ahead, now = time.time() - time.monotonic(), time.monotonic()
    covered = Watch(began, now - lasted, ahead + set_by).covers([(0, 0, changed, 0) for changed in times])
    tick = 0.05 if any(changed % _SECOND for changed in times) else 2.0
    # What was changed later than now, by a clock that was ahead, was not changed since; the moments about now may be either.
    young = [changed / _SECOND for changed in times if changed / _SECOND >= began - tick]
    if abs(set_by) > 0.025 or any(changed <= began + lasted + tick for changed in young):
        assert not covered
    elif not any(changed <= began + lasted + tick + 1 for changed in young):
        assert covered


def test_a_watch_begins_by_the_clock_of_the_file_system(tmp_path: Path) -> None:
    """A file that is written after it began is not covered, one from before is; nothing is left where it asked for the time."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.touch()
    time.sleep(0.1)
    watch = Watch.begin(str(tmp_path))
    new.touch()
    stamps = Survey(str(tmp_path)).stamps
    assert (watch.covers([stamps["old"]]), watch.covers([stamps["old"], stamps["new"]])) == (True, False)
    assert sorted(os.listdir(tmp_path)) == ["new", "old"]


def test_a_watch_begins_by_our_own_clock_where_nothing_can_be_written(tmp_path: Path) -> None:
    """A file system that takes no file more can be freed all the same."""
    (tmp_path / "file").touch()
    before = time.time()
    assert before <= Watch.begin(str(tmp_path / "file")).began <= time.time()


@pytest.mark.parametrize("change", ["write", "chmod", "new", "gone", "mode of the tree"])
def test_every_change_changes_a_stamp(tmp_path: Path, change: str) -> None:
    """Bytes, permissions, names; the time of the tree's own directory alone does not count: a rename changes it too."""
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep/a").write_text("one")
    before = Survey(str(tree)).stamps
    tree.rename(tmp_path / "renamed")
    tree = tmp_path / "renamed"
    assert Survey(str(tree)).stamps == before
    time.sleep(0.02)
    if change == "write":
        times = (tree / "deep/a").stat()
        (tree / "deep/a").write_text("two")
        os.utime(tree / "deep/a", ns=(times.st_atime_ns, times.st_mtime_ns))
    elif change == "chmod":
        (tree / "deep/a").chmod(0o600)
    elif change == "new":
        (tree / "deep/b").touch()
    elif change == "gone":
        (tree / "deep/a").unlink()
    else:
        tree.chmod(0o700)
    assert Survey(str(tree)).stamps != before


def test_a_pipe_that_git_reads_refuses_a_removal(tmp_path: Path) -> None:
    """Git would wait for ever for what it says is ignored; who removes the workspace is told instead, and what to delete."""
    manager = GitManager(make_repository(tmp_path / "repo", [("a", {"a": "a\n"})]))
    with manager.create_workspace(context(tmp_path, "t")) as workspace:
        there = Path(workspace.path, "new", ".gitignore")
    there.parent.mkdir()
    os.mkfifo(there)
    with pytest.raises(PipeInTheWay, match=r"waits for ever for what .*new/.gitignore' says") as refused:
        manager.remove_workspace(workspace, rescue=True)
    assert refused.value.hint == f"delete it: rm {there}"
    there.unlink()
    manager.remove_workspace(workspace, rescue=True)


def test_another_process_finds_the_same(tmp_path: Path) -> None:
    """Whatever the names are; a tree that is not there is as empty as it is here."""
    for name in (b"a", b"deep/er/\xff\n b", b"nested/.git/HEAD", "ä/ö".encode()):
        path = os.path.join(os.fsencode(tmp_path / "tree"), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(name)
    (tmp_path / "tree/empty").mkdir()
    os.mkfifo(tmp_path / "tree/pipe")
    for tree in ("tree", "nowhere"):
        for since in (0, sys.maxsize):
            here = walk(str(tmp_path / tree), since)
            assert walked_apart(str(tmp_path / tree), since) == here
            assert bool(here[0]) == (tree == "tree")


def test_a_process_with_threads_has_large_trees_walked_through_apart(tmp_path: Path) -> None:
    """And what it finds is the same; without an interpreter to start it looks itself."""
    (tmp_path / "a").touch()
    before, ended = Survey(str(tmp_path), large=True), threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    try:
        assert vars(Survey(str(tmp_path), large=True)) == vars(before)
        with pytest.MonkeyPatch.context() as patch:
            for program in ("", str(tmp_path / "a"), "/bin/false", "/bin/echo"):
                patch.setattr(sys, "executable", program)
                assert vars(Survey(str(tmp_path), large=True)) == vars(before)
    finally:
        ended.set()
        thread.join()
