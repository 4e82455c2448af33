"""What removals left is deleted by whoever has time: never while somebody works, never what has its time, by one at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from commandline import document, moderator, wait_until
from moderator.errors import EnvironmentProblem, NoRoom, WorkspaceBusy
from moderator.git import deleting, emptying, leases
from moderator.git.deleting import FOLDER, delete_in
from moderator.git.manager import GitManager
from moderator.git.room import Room, Size
from moderator.git.trash import delete, into_garbage
from moderator.git.values import Keeping, Removal
from repos import git, make_repository
from workspaces import context, mounted


@pytest.fixture
def git_manager(tmp_path: Path) -> GitManager:
    make_repository(tmp_path / "repo", [("first", {"a.txt": "a\n", "deep/b.txt": "b\n", ".gitignore": ".env\n"})])
    return GitManager(tmp_path / "repo", keeping=Keeping(days=30.0))


def remove(folder: Path, git_manager: GitManager, task_id: str, *, secret: bool = False) -> Path:
    """Make a workspace and remove it, and return where its tree waits."""
    made = git_manager.create_workspace(context(folder, task_id))
    made.release()
    if secret:
        Path(made.path, ".env").write_text("secret")
    removal = git_manager.remove_workspace(task_id, rescue=secret, later=True)
    assert removal is not None
    tree = git_manager.trash_of(removal)
    assert tree is not None
    return Path(tree)


def test_whoever_works_goes_first(tmp_path: Path, git_manager: GitManager) -> None:
    """Nothing is deleted while a workspace is held; what only the trash has, or somebody wrote to, stays after that too."""
    bare, secret, written = (
        remove(tmp_path, git_manager, name, secret=name == "secret") for name in ("bare", "secret", "written")
    )
    (written / "late.txt").write_text("written after the removal")
    with git_manager.create_workspace(context(tmp_path, "busy")):
        assert not git_manager.empty_trash_at_leisure(0.2)
        assert bare.exists()
    wait_until(lambda: git_manager.empty_trash_at_leisure(5.0), "an empty trash")
    assert (bare.exists(), (secret / ".env").read_text()) == (False, "secret")
    assert (written / "late.txt").read_text() == "written after the removal"
    assert list(tmp_path.rglob("*.deleting")) == []


def test_one_at_once_and_to_the_end(tmp_path: Path, git_manager: GitManager) -> None:
    """Where another process is at it there is nothing to do; a deletion that was cut short is finished by the next."""
    tree = remove(tmp_path, git_manager, "t")
    lock = tmp_path / "repo/.git/moderator/leases/trash@all.lock"
    with leases.held(lock, "the trash", 0.0):
        with pytest.raises(WorkspaceBusy):
            git_manager.empty_trash_at_leisure(1.0)
        assert moderator(tmp_path / "repo", "rescue", "tidy", "--quietly").returncode == 0
        assert tree.exists()
    into_garbage(str(tree))  # as it begins
    git_manager.empty_trash(0.0)
    assert (tree.exists(), os.listdir(tree.parent)) == (False, [f"{tree.name}.deleting"])
    assert document(moderator(tmp_path / "repo", "rescue", "tidy", "--json"))["all_gone"] is True
    assert not tree.parent.exists()


def test_what_comes_meanwhile_goes_too(tmp_path: Path, git_manager: GitManager) -> None:
    """Whoever has waited for somebody's work to end deletes what that has left, and nobody else would; nothing is tried twice."""
    working = remove(tmp_path, git_manager, "working")
    with subprocess.Popen(["sleep", "60"], cwd=working) as somebody:  # so this one stays
        with git_manager.create_workspace(context(tmp_path, "busy")):
            emptying = threading.Thread(target=git_manager.empty_trash_at_leisure, args=(60.0,))
            emptying.start()
            wait_until((tmp_path / "repo/.git/moderator/leases/trash@all.lock").exists, "its beginning")
            late = remove(tmp_path, GitManager(tmp_path / "repo"), "late")
        emptying.join()
        assert (working.exists(), late.exists()) == (True, False)
        somebody.kill()


def test_a_command_leaves_the_rest_to_a_process(tmp_path: Path, git_manager: GitManager) -> None:
    """What a command has no time for is deleted after it has ended, and nothing of that process stays."""
    tree = remove(tmp_path, git_manager, "t")
    git_manager.tidy_trash(0.0)
    wait_until(lambda: not tree.parent.exists(), "an empty trash")
    wait_until(lambda: not (tmp_path / "repo/.git/moderator/leases/trash@all.lock").exists(), "the process's end")


def remove_later(git_manager: GitManager, folder: Path, name: str, base: str | None = None) -> Removal:
    git_manager.create_workspace(context(folder, name), base).release()
    removal = git_manager.remove_workspace(name, later=True)
    assert removal is not None
    return removal


def test_what_waits_leaves_room(tmp_path: Path) -> None:
    """What tasks remove lies there until somebody has time, but no more than has four times as much free beside it."""
    git_manager = GitManager(make_repository(tmp_path / "repo", [("first", {"large": b"x" * 700_000})]))
    with mounted(tmp_path / "checkouts", "size=8m"):
        # Together they are as large as the disk.
        waiting = [
            git_manager.trash_of(remove_later(git_manager, tmp_path, f"t{number}")) is not None for number in range(12)
        ]
        assert waiting == [True, True, *[False] * 10]
        assert git_manager.empty_trash()


def test_what_waits_is_in_no_tasks_way(tmp_path: Path) -> None:
    """Where the tasks have filled the disk meanwhile, it goes before the next one begins."""
    git_manager = GitManager(make_repository(tmp_path / "repo", [("first", {"large": b"x" * 700_000})]))
    with mounted(tmp_path / "checkouts", "size=4m"):
        removal = remove_later(git_manager, tmp_path, "one")
        assert git_manager.trash_of(removal) is not None
        with git_manager.create_workspace(context(tmp_path, "two")) as workspace:
            Path(workspace.path, "build").write_bytes(b"x" * 1_300_000)
            git_manager.create_workspace(context(tmp_path, "three")).release()
            assert git_manager.trash_of(removal) is None


@pytest.mark.parametrize("own", [True, False])
def test_what_waits_makes_room_for_what_is_larger_than_the_rest(tmp_path: Path, own: bool) -> None:
    """Where a workspace does not find room beside what waits, whoever removed that, it goes, and the workspace is made."""
    repo = make_repository(tmp_path / "repo", [("first", {"large": os.urandom(700_000)})])
    git_manager = GitManager(repo)
    git(repo, "checkout", "-q", "-b", "larger")
    (repo / "large").write_bytes(os.urandom(3_600_000))
    git(repo, "commit", "-qam", "larger")
    with mounted(tmp_path / "checkouts", "size=4m"):
        tree = git_manager.trash_of(remove_later(git_manager, tmp_path, "small", "main"))
        assert tree
        whoever = git_manager if own else GitManager(repo)
        whoever.create_workspace(context(tmp_path, "large"), "larger").release()
        assert not os.path.exists(tree)


def test_nothing_waits_on_a_disk_that_is_nearly_full(tmp_path: Path) -> None:
    """What somebody may want to write goes first."""
    git_manager = GitManager(make_repository(tmp_path / "repo", [("first", {"large": b"x" * 700_000})]))
    with mounted(tmp_path / "checkouts", "size=4m"):
        (tmp_path / "checkouts/other").write_bytes(b"x" * 3_200_000)
        assert git_manager.trash_of(remove_later(git_manager, tmp_path, "one")) is None


def test_files_are_counted_too(tmp_path: Path) -> None:
    """A file system may have bytes left and no place for a file more."""
    room: Room[str] = Room(lambda *_: True, lambda _: False, lambda: False)
    with mounted(tmp_path / "disk", "size=4m,nr_inodes=100"):
        assert not room.takes("one", str(tmp_path / "disk"), Size(1, 30))
        assert room.takes("two", str(tmp_path / "disk"), Size(1, 20))
        assert not room.takes("three", str(tmp_path / "disk"), Size(1, 5))


@pytest.mark.parametrize(
    ("opening", "writing", "stays"),
    [
        ("f = open('a.txt', 'r+b'); m = mmap.mmap(f.fileno(), 0); f.close(); m[:1] = b'B'", "m[:1] = b'X'", True),
        ("f = open('a.txt', 'r+b', 0)", "f.write(b'X')", True),
        ("f = os.open('deep', os.O_RDONLY)", "open('new', 'w', opener=lambda p, how: os.open(p, how, dir_fd=f))", True),
        ("f = open('a.txt', 'rb')", "f.read()", False),
    ],
    ids=["a mapping", "a file", "a directory", "a file to read"],
)
def test_who_can_write_without_a_path_is_heeded(
    tmp_path: Path, git_manager: GitManager, opening: str, writing: str, stays: bool
) -> None:
    """What somebody writes into a tree that waits, and is gone before that is looked at, stays."""
    made = git_manager.create_workspace(context(tmp_path, "t"))
    made.release()
    script = f"import mmap, os\n{opening}\nos.chdir('/')\nprint(flush=True)\ninput()\n{writing}\n"
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=made.path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as somebody:
        assert somebody.stdout
        somebody.stdout.readline()
        if "'B'" in opening:  # was written through the mapping, so that it is dirty, and is committed
            git(made.path, "commit", "-qam", "work")
        removal = git_manager.remove_workspace("t", later=True)
        assert removal is not None
        assert git_manager.has_trash_waiting != stays
        somebody.communicate("\n")
    git_manager.empty_trash(own=False)
    tree = git_manager.trash_of(removal)
    assert (tree is not None) == stays
    if tree and "deep" not in opening:  # there it is found out when that is looked at again
        told = moderator(tmp_path / "repo", "rescue", "list")
        assert told.stdout.startswith(f"in the trash, of t: what was written into it after its removal; {tree} until 2")
        (kept,) = document(moderator(tmp_path / "repo", "rescue", "list", "--json"))["in_trash"]
        assert (kept["task_id"], kept["path"]) == ("t", tree)


def full(calls: list[int], before: Callable[[], object] = lambda: None) -> str:
    """Find no room at the first call."""
    calls.append(1)
    if len(calls) == 1:
        before()
        raise NoRoom("the disk is full")
    return "made"


def test_room_that_another_has_made_counts(tmp_path: Path) -> None:
    """Of two that find none at once the slower one is tried again too, though nothing waits any more."""
    room: Room[str] = Room(lambda *_: True, lambda _: False, lambda: False)
    assert room.takes("one", str(tmp_path), Size(1, 1))
    calls: list[int] = []
    assert room.with_room(str(tmp_path), lambda: full(calls, lambda: room.empty(60.0))) == "made"


def test_nobody_makes_room_for_what_is_not_wanted_any_more(tmp_path: Path) -> None:
    """After Ctrl-C the error stands as it is."""
    room: Room[str] = Room(lambda *_: True, lambda _: True, lambda: True)
    assert room.takes("one", str(tmp_path), Size(1, 1))
    calls: list[int] = []
    with pytest.raises(NoRoom):
        room.with_room(str(tmp_path), lambda: full(calls))
    assert (len(calls), room.has_waiting) == (1, True)


def test_where_a_step_wins_nothing_there_is_no_other(tmp_path: Path) -> None:
    """Where it is found out only after its time that something must not go, that is not asked for ever."""
    asked = []

    def busy(one: str, is_over: Callable[[], bool]) -> bool:
        asked.append(one)
        while not is_over():
            time.sleep(0.01)
        return False

    room: Room[str] = Room(busy, lambda _: False, lambda: False)
    with mounted(tmp_path / "disk", "size=4m"):
        assert room.takes("one", str(tmp_path / "disk"), Size(700_000, 1))
        (tmp_path / "disk/other").write_bytes(b"x" * 3_000_000)
        room.make(str(tmp_path / "disk"))
    assert (asked, room.has_waiting) == (["one"], True)


def test_only_want_of_room_is_a_reason_to_try_again(tmp_path: Path) -> None:
    """A checkout that fails for something else fails once, and what waits goes on waiting."""
    repo = make_repository(
        tmp_path / "repo", [("first", {"a": "a\n"}), ("fails", {".gitattributes": "a filter=bad\n"})]
    )
    log = tmp_path / "log"
    git(repo, "config", "filter.bad.smudge", f"echo tried >>{log}; exit 1")
    git(repo, "config", "filter.bad.required", "true")
    git_manager = GitManager(repo)
    tree = git_manager.trash_of(remove_later(git_manager, tmp_path, "one", "main~"))
    with pytest.raises(EnvironmentProblem, match="filter"):
        git_manager.create_workspace(context(tmp_path, "two"), "main")
    assert (os.path.isdir(str(tree)), log.read_text()) == (True, "tried\n")


def test_what_may_be_put_back_is_no_garbage(tmp_path: Path, git_manager: GitManager) -> None:
    """What was taken out of a tree for the time in which it is decided whether that is a spare."""
    taken = tmp_path / "repo/.git/moderator/trash/t-1c521156.carried.deleting"
    taken.mkdir(parents=True)
    with leases.held(tmp_path / "repo/.git/moderator/leases/trash@t-1c521156.lock", "the trash", 0.0):
        assert git_manager.empty_trash()
        assert taken.exists()
    assert git_manager.empty_trash()
    assert not taken.exists()


def test_where_nothing_waits_there_is_no_more_room(tmp_path: Path) -> None:
    """Then a disk that is too small is told at once."""
    git_manager = GitManager(make_repository(tmp_path / "repo", [("first", {"large": os.urandom(700_000)})]))
    with mounted(tmp_path / "checkouts", "size=512k"), pytest.raises(EnvironmentProblem, match="could not write"):
        git_manager.create_workspace(context(tmp_path, "one"))


def test_making_room_ends_where_nothing_is_won(tmp_path: Path) -> None:
    """What cannot be deleted keeps no task from beginning."""
    git_manager = GitManager(make_repository(tmp_path / "repo", [("first", {"large": os.urandom(700_000)})]))
    with mounted(tmp_path / "checkouts", "size=4m"):
        tree = git_manager.trash_of(remove_later(git_manager, tmp_path, "one"))
        assert tree
        (Path(tree) / "theirs").mkdir()
        with mounted(Path(tree) / "theirs", "size=1m"):  # nothing is deleted where something is mounted
            (tmp_path / "checkouts/other").write_bytes(b"x" * 2_000_000)
            git_manager.create_workspace(context(tmp_path, "two")).release()
            assert os.path.exists(f"{tree}/large") or os.path.exists(f"{tree}.deleting/large")


def test_deletion_beside_tasks_stops_when_it_is_told_to(tmp_path: Path, git_manager: GitManager) -> None:
    """What only the trash has stays even then, and so does what others have removed."""
    bare, secret = remove(tmp_path, git_manager, "bare"), remove(tmp_path, git_manager, "secret", secret=True)
    others = remove(tmp_path, GitManager(tmp_path / "repo"), "others")
    git_manager.empty_trash_meanwhile(60.0, 2, lambda: True)
    assert (bare.exists(), git_manager.has_trash_waiting) == (True, True)
    git_manager.empty_trash_meanwhile(60.0, 2, lambda: False)
    assert (bare.exists(), git_manager.has_trash_waiting) == (False, False)
    assert (others.exists(), (secret / ".env").read_text()) == (True, "secret")


def large(tree: Path) -> Path:
    """Make a tree of 4,000 files in folders that nobody may write to, with links to what is beside it."""
    theirs = tree.parent / "theirs"
    theirs.mkdir(parents=True, exist_ok=True)
    (theirs / "file").write_text("theirs")
    for folder in range(40):
        (tree / f"d{folder}").mkdir(parents=True)
        for number in range(100):
            (tree / f"d{folder}/{number}").touch()
        (tree / f"d{folder}/link").symlink_to(theirs)
        (tree / f"d{folder}").chmod(0o500)
    return tree


@pytest.fixture
def started() -> Iterator[list[str]]:
    """The programs that this process starts to delete."""
    programs: list[str] = []
    listening = True

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if listening and event == "subprocess.Popen" and deleting.__file__ in map(str, arguments[1]):
            programs.append(str(arguments[0]))

    sys.addaudithook(note)  # which nobody can take away again
    yield programs
    listening = False


@pytest.mark.some(2)
@pytest.mark.parametrize(
    ("python", "count"),
    [(sys.executable, 1), ("", 0), ("/nowhere/python", 1), (str(shutil.which("false")), 1)],
    ids=["another process", "none", "none there", "one that fails"],
)
def test_a_large_tree_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[str], python: str, count: int
) -> None:
    """What is more than a few files is deleted by another process, by us where there can be none; links are not followed."""
    tree = large(tmp_path / "a tree")
    monkeypatch.setattr(sys, "executable", python)
    above = os.open(tmp_path, FOLDER)
    try:
        with pytest.raises(OSError, match="not empty"):
            delete_in(above, tree.name, lambda: True)
        assert (len(os.listdir(tree)), started) == (40, [])
        delete_in(above, tree.name)
    finally:
        os.close(above)
    assert (os.listdir(tmp_path), started) == (["theirs"], [python] * count)
    assert os.listdir(tmp_path / "theirs") == ["file"]


def test_the_other_process_empties_what_it_is_given(tmp_path: Path) -> None:
    """As long as whoever started it is there, and no longer."""
    tree = large(tmp_path / "tree")
    opened = os.open(tree, FOLDER)
    try:
        for starter, left in ((os.getppid(), 40), (os.getpid(), 0)):
            command = [sys.executable, "-I", "-S", deleting.__file__, str(opened), str(starter)]
            subprocess.run(command, pass_fds=[opened], check=True)
            assert len(os.listdir(tree)) == left
    finally:
        os.close(opened)


def test_no_time_no_process(tmp_path: Path, git_manager: GitManager, started: list[str]) -> None:
    """Where much waits to be deleted and there is no time, nothing is begun."""
    folder = tmp_path / "repo/.git/moderator/trash"
    trees = [large(folder / f"tree{number}.deleting") for number in range(2)]
    assert not git_manager.empty_trash(0.0)
    assert ([len(os.listdir(tree)) for tree in trees], started) == ([40] * 2, [])
    assert git_manager.empty_trash()
    assert (os.listdir(folder), len(started)) == (["theirs"], 2)


def test_a_tree_may_take_several_steps(
    tmp_path: Path, git_manager: GitManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What there was no time for in one is gone on with in the next."""
    monkeypatch.setattr(emptying, "_STEP", 0.02)
    tree = large(tmp_path / "repo/.git/moderator/trash/tree.deleting")
    assert git_manager.empty_trash_at_leisure(60.0)
    assert not tree.exists()


@pytest.mark.some(1)
@pytest.mark.parametrize("milliseconds", [4, 0, 8])
def test_who_deletes_has_the_directory_and_not_its_name(tmp_path: Path, milliseconds: int) -> None:
    """What takes the place of a large tree while it is deleted, by whomever, stays."""
    tree = tmp_path / "tree"
    for folder in range(40):
        (tree / f"d{folder}").mkdir(parents=True)
        for number in range(100):
            (tree / f"d{folder}/{number}").touch()
    above = os.open(tmp_path, FOLDER)
    ended = []

    def empty() -> None:
        try:
            delete_in(above, "tree")
        except OSError:  # what is there now is not empty
            ended.append(True)

    deleting = threading.Thread(target=empty)
    deleting.start()
    time.sleep(milliseconds / 1000)
    os.rename(tree, tmp_path / "moved")
    for folder in range(40):
        (tree / f"d{folder}").mkdir(parents=True)
        (tree / f"d{folder}/new").touch()
    deleting.join()
    os.close(above)
    assert (ended, len(list(tree.rglob("new"))), os.listdir(tmp_path / "moved")) == ([True], 40, [])


def test_a_deep_tree_goes(tmp_path: Path) -> None:
    """Hundreds of folders in each other too, deeper than a path can name."""
    tree = tmp_path / "deep.deleting"
    tree.mkdir()
    opened = os.open(tree, FOLDER)
    for _ in range(700):
        os.mkdir("d", dir_fd=opened)
        inside = os.open("d", FOLDER, dir_fd=opened)
        os.close(opened)
        opened = inside
    os.close(opened)
    assert delete(str(tree))
    assert not tree.exists()
