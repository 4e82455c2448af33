"""Whether anything in a tree is younger than a moment: Python and find(1) say the same, and no find is believed that lies."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moderator.git.dating import dates_changes
from moderator.git.mounts import is_local
from moderator.git.younger import is_anything_younger

_NEVER, _AT_ONCE = sys.maxsize, 0
"""After how many entries other processes are asked."""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "a tree\nof two lines"
    for number in range(40):
        path = tree / f"-{number % 7}" / f"deep {number % 3}" / str(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(number))
    (tree / ".git").write_text("gitdir: elsewhere\n")
    (tree / "link").symlink_to(tmp_path)
    return tree


def later(tree: Path) -> int:
    """Return a moment after all that is in a tree, in nanoseconds, which has passed."""
    at = max(path.lstat().st_ctime_ns for path in (tree, *tree.rglob("*")))
    time.sleep(0.02)
    return at


CHANGES: dict[str, Callable[[Path], object]] = {
    "a file written": lambda tree: (tree / "-3/deep 1/10").write_text("9"),
    "its time set back": lambda tree: os.utime(tree / "-3/deep 1/10", (0, 0)),
    "a mode": lambda tree: (tree / "-3/deep 1/10").chmod(0o600),
    "a file deleted": lambda tree: (tree / "-3/deep 1/10").unlink(),
    "a link": lambda tree: (tree / "-3/deep 1/new").symlink_to("nowhere"),
    "a folder": lambda tree: (tree / "-3/deep 1/new").mkdir(),
    "a repository's": lambda tree: ((tree / "-3/.git").mkdir(), (tree / "-3/.git/HEAD").touch()),
    "nothing": lambda _: None,
    "its own .git": lambda tree: (tree / ".git").write_text("gitdir: there\n"),
    "where a link leads": lambda tree: (tree / "link/new").touch(),
}
NONE = ("nothing", "its own .git", "where a link leads")


@pytest.mark.parametrize("change", list(CHANGES))
@pytest.mark.parametrize("alone", [_NEVER, _AT_ONCE], ids=["Python", "find"])
@pytest.mark.some(11)
def test_what_was_changed_is_younger(tree: Path, alone: int, change: str) -> None:
    """Of all that is below a tree but its own `.git`; where links lead is none of its."""
    at = later(tree)
    CHANGES[change](tree)
    assert is_anything_younger(str(tree), at, alone) == (change not in NONE)


@given(st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_both_ways_say_the_same(tree: Path, data: st.DataObject) -> None:
    """At any moment, among those at which something in the tree changed and those just before and after."""
    times = sorted({path.lstat().st_ctime_ns for path in tree.rglob("*") if path.name != ".git"})
    at = data.draw(st.sampled_from(times)) + data.draw(st.integers(-1, 1))
    expected = times[-1] > at
    assert [is_anything_younger(str(tree), at, alone) for alone in (_NEVER, 5, _AT_ONCE)] == [expected] * 3


@pytest.mark.parametrize(
    "lie",
    [
        "exit 0",
        "exit 1",
        "echo no >&2",
        "kill -9 $$",
        "echo rubbish",
        'shift $(($# - 3)); printf "%s\\0" "$2"',  # the file that says when, and nothing else, whatever there is
        'shift $(($# - 3)); printf "%s\\0" "$2"; sleep 0.1; printf "more\\0"',
    ],
    ids=["silence", "failure", "complaint", "killed", "rubbish", "one file", "one file first"],
)
def test_no_find_that_lies_is_believed(tree: Path, tmp_path: Path, lie: str) -> None:
    """Neither when all is old nor when something is not: Python says what is so."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/find").write_text(f"#!/bin/sh\n{lie}\n")
    (tmp_path / "bin/find").chmod(0o755)
    at = later(tree)
    assert not is_anything_younger(str(tree), at, _AT_ONCE, str(tmp_path / "bin"))
    CHANGES["a file written"](tree)
    assert is_anything_younger(str(tree), at, _AT_ONCE, str(tmp_path / "bin"))


@pytest.mark.parametrize("fault", ["exit 1", "echo no >&2"], ids=["failure", "complaint"])
def test_a_find_that_begins_to_fail_is_not_believed(tree: Path, tmp_path: Path, fault: str) -> None:
    """It did as it should when it was tried out, and not any more."""
    (tmp_path / "bin").mkdir()
    find, broken = tmp_path / "bin/find", tmp_path / "broken"
    find.write_text(f'#!/bin/sh\n[ -e {broken} ] && {{ {fault}; exit 0; }}\nexec {shutil.which("find")} "$@"\n')
    find.chmod(0o755)
    at = later(tree)
    assert not is_anything_younger(str(tree), at, _AT_ONCE, str(find.parent))
    broken.touch()
    assert not is_anything_younger(str(tree), at, _AT_ONCE, str(find.parent))
    CHANGES["a file written"](tree)
    assert is_anything_younger(str(tree), at, _AT_ONCE, str(find.parent))


def test_without_a_find_python_looks(tree: Path, tmp_path: Path) -> None:
    """As on machines on which there is none."""
    at = later(tree)
    assert not is_anything_younger(str(tree), at, _AT_ONCE, str(tmp_path / "nowhere"))
    CHANGES["a file written"](tree)
    assert is_anything_younger(str(tree), at, _AT_ONCE, str(tmp_path / "nowhere"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look everywhere")
@pytest.mark.parametrize("alone", [_NEVER, _AT_ONCE], ids=["Python", "find"])
def test_what_nobody_may_look_at_is_not_passed_over(tree: Path, alone: int) -> None:
    """It may hold anything."""
    (tree / "-3").chmod(0)
    try:
        with pytest.raises(PermissionError):
            is_anything_younger(str(tree), later(tree), alone)
    finally:
        (tree / "-3").chmod(0o755)


def test_a_file_system_is_tried_out(tmp_path: Path) -> None:
    """An ordinary one dates what changes, and nothing is left of trying; where nothing can be made, that is said."""
    assert dates_changes(str(tmp_path), os.lstat(tmp_path).st_dev)
    assert os.listdir(tmp_path) == []
    with pytest.raises(OSError, match="nowhere"):
        dates_changes(str(tmp_path / "nowhere"), 0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_only_what_this_machine_alone_writes_to_is_local(tmp_path: Path) -> None:
    """By the name of the file system, as df(1) has it; one that is no place to keep files is none."""
    listed = subprocess.run(["df", "-PT", tmp_path], capture_output=True, text=True, check=True).stdout
    assert is_local(str(tmp_path)) == (
        listed.splitlines()[-1].split()[1] in ("ext4", "tmpfs", "xfs", "btrfs", "overlay")
    )
    assert not is_local("/proc/self")
