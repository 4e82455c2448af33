"""Pipes where git, or we, read: nobody waits for them, and who is told what is in the way."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from commandline import PATIENCE, moderator, started, task_list, wait_until
from moderator import interruption
from moderator.git import command
from moderator.git.contents import Worktree
from moderator.git.manager import GitManager
from moderator.git.pipes import PipeInTheWay, refuse
from moderator.opening import content
from repos import git, make_repository
from workspaces import context


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "sample", [("first", {"a": "a\n", "deep/b": "b\n"})])


def put_pipe(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    return path


def entry_of(tree: Path) -> Path:
    return Path(git(tree, "rev-parse", "--absolute-git-dir"))


def made(repository: Path, task_id: str = "t") -> Path:
    """Make a workspace with a repository inside and nobody in it; return its tree."""
    with GitManager(repository).create_workspace(context(repository.parent, task_id)) as workspace:
        tree = Path(workspace.path)
    make_repository(tree / "inside", [("x", {"x": "x\n"})])
    return tree


def gits(mark: Path) -> set[int]:
    """Return the processes of git that have a mark in their environment."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "comm").read_text() == "git\n" and f"MARK={mark}" in (process / "environ").read_text():
                found.add(int(process.name))
    return found


def wait_for_a_git_that_waits(mark: Path) -> None:
    def stays() -> bool:
        before = gits(mark)
        time.sleep(0.1)
        return bool(before & gits(mark))

    wait_until(stays, "git")


def test_what_git_reads_and_is_a_pipe_is_found(repository: Path) -> None:
    """In the tree what says what is ignored, in git directories everything: its own, the common one, one in the tree."""
    tree = made(repository)
    entry = entry_of(tree)
    (repository / ".git/hooks").mkdir(exist_ok=True)
    for harmless in (tree / "pipe", tree / "deep/HEAD", repository / ".git/hooks/pipe"):
        put_pipe(harmless)
    (tree / ".gitignore").symlink_to(os.devnull)
    refuse(str(tree), str(entry))
    for one in (
        tree / "deep/.gitattributes", tree / ".gitmodules", tree / "inside/.git/objects/pack/x.idx", entry / "refs/worktree/x",
        entry / "config.worktree", repository / ".git/shallow", repository / ".git/refs/heads/x",
    ):  # fmt: skip
        put_pipe(one)
        for git_dir in (str(entry), None):
            with pytest.raises(PipeInTheWay) as refused:
                refuse(str(tree), git_dir)
            assert (os.path.realpath(one) in refused.value.message, refused.value.exit_code) == (True, 3)
        one.unlink()
    put_pipe(repository / ".git/shallow")
    refuse(str(tree), str(entry), waits=False)  # so it is at work, and not in the way of that
    (entry / "ORIG_HEAD").symlink_to("/dev/zero")
    with pytest.raises(PipeInTheWay, match="ORIG_HEAD"):
        refuse(str(tree), str(entry), waits=False)


def test_git_that_waits_for_a_pipe_is_ended(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks is told of the pipe and what to type, and git is gone."""
    monkeypatch.setattr(command, "_FIRST_LOOK", 0.05)
    pipe = put_pipe(repository / "deep/.gitignore")
    worktree = Worktree(str(repository), str(repository / ".git"))
    with pytest.raises(PipeInTheWay) as refused:
        worktree.contents()
    assert refused.value.hint == f"delete it: rm {pipe}"
    with pytest.raises(PipeInTheWay), worktree.looked_at(True) as (contents, _):
        contents()
    with pytest.raises(OSError, match="No such device"):  # nobody reads it
        os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)


def test_git_that_works_is_not_ended(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe that another task left, or that nothing reads, is not in the way of what only takes its time."""
    monkeypatch.setattr(command, "_FIRST_LOOK", 0.3)
    monkeypatch.setattr(command, "_STILL", 1.0)  # on a busy machine it may get nothing done for less
    put_pipe(repository / ".git/worktrees/other/HEAD")
    busy = "alias.busy=!i=0; while [ $i -lt 1200000 ]; do i=$((i+1)); done; echo $i"
    assert command.run_git("-c", busy, "busy", cwd=str(repository)).text == "1200000"


def test_a_removal_is_refused(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe among what a nested repository, or the worktree's entry, notes is named."""
    monkeypatch.setattr(command, "_FIRST_LOOK", 0.3)
    monkeypatch.setattr(command, "_STILL", 0.2)
    tree = made(repository)
    for place in (tree / "inside/.git/HEAD", entry_of(tree) / "HEAD"):
        before = place.read_bytes() if place.exists() else None
        put_pipe(place)
        manager = GitManager(repository)
        with pytest.raises(PipeInTheWay, match=place.name):
            manager.remove_workspace(manager.of_task("t"), rescue=True)
        place.unlink()
        if before is not None:
            place.write_bytes(before)
    assert (tree / "inside/x").read_text() == "x\n"


def test_our_own_readers_do_not_wait(repository: Path) -> None:
    """Whatever small file of a workspace has become a pipe, the list says what it can."""
    tree = made(repository)
    entry, ours = entry_of(tree), repository / ".git/moderator"
    for place in (
        entry / "locked", entry / "gitdir", entry / "moderator.rendered", entry / "moderator.carried", ours / "leases/t.lock",
        tree / ".git", ours / "workspaces/t.json",
    ):  # fmt: skip
        put_pipe(place)
        listed, _ = GitManager(repository).overview()
        assert [one.task_id for one in listed] == ([] if place.suffix == ".json" else ["t"])
        with pytest.raises(OSError, match="it is a pipe or a device"):
            content(place)


def test_signals_raise_only_when_no_child_is_started() -> None:
    """What came meanwhile is told afterwards; other threads are none of it; what was ignored stays so."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruption.interruptible() as received:
            os.kill(os.getpid(), signal.SIGHUP)
            interruption.hold()
            os.kill(os.getpid(), signal.SIGTERM)
            thread = threading.Thread(target=interruption.release)
            thread.start()
            thread.join()
            with pytest.raises(KeyboardInterrupt):
                interruption.release()
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGTERM)
        assert (received[0], interruption.code_of(received)) == (signal.SIGTERM, 143)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


SIGNALS = [("list", signal.SIGTERM, 143)] + [
    pytest.param(words, number, code, marks=pytest.mark.slow)
    for words in ("list --status", "diff t", "show t", "clean --all --dry-run", "clean --all", "pool fill 2", "doctor")
    for number, code in ((signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130))
]


@pytest.mark.parametrize(("words", "number", "code"), SIGNALS)
def test_no_git_outlives_a_signal(repository: Path, words: str, number: signal.Signals, code: int) -> None:
    """Every command ends with what it has git do, in threads of its own too."""
    made(repository)
    put_pipe(repository / ".git" / ("packed-refs" if words == "doctor" else "info/exclude"))
    with started(repository, *words.split(), MARK=str(repository)) as running:
        wait_for_a_git_that_waits(repository)
        running.send_signal(number)
        running.communicate(timeout=PATIENCE)
        assert (running.returncode, gits(repository)) == (code, set())


@pytest.mark.slow
def test_who_was_told_to_ignore_a_hang_up_goes_on(repository: Path) -> None:
    """`nohup moderator list` is told of the pipe all the same."""
    made(repository)
    pipe = put_pipe(repository / ".git/info/exclude")
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with started(repository, "list", "--json", MARK=str(repository)) as running:
            wait_for_a_git_that_waits(repository)
            running.send_signal(signal.SIGHUP)
            out, _ = running.communicate(timeout=PATIENCE)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert (running.returncode, str(pipe) in out) == (0, True), out


COMMANDS = """\
list
list --status
path t
show t
diff t
logs t
history
rescue list
doctor
exec t -- true
lock t
unlock t
adopt ../mine
pool fill 2
run ../tasks --resume --progress none
clean --all --dry-run
clean --merged
clean --all
undo
clean t
run ../tasks --fresh --progress none
doctor --fix
create w""".splitlines()
PLACES = """\
tree/.gitignore tree/deep/.gitattributes tree/.gitmodules tree/.git tree/a tree/inside/.git
tree/inside/.git/HEAD tree/inside/.git/index tree/inside/.git/config tree/inside/.git/packed-refs tree/inside/.git/refs/heads/main
tree/inside/.git/logs/HEAD tree/inside/.git/info/exclude tree/inside/.git/objects/pack/pack-1.idx tree/inside/.git/commondir
entry/HEAD entry/index entry/commondir entry/gitdir entry/config.worktree entry/logs/HEAD entry/locked entry/moderator.carried
entry/moderator.rendered entry/MERGE_HEAD entry/refs/worktree/x entry/ORIG_HEAD entry/moderator.restoring
common/packed-refs common/config common/refs/heads/main-task-t common/logs/refs/heads/main-task-t common/info/exclude common/index
common/info/attributes common/shallow common/objects/info/alternates ours/workspaces/t.json ours/leases/t.lock ours/history.db
ours/history.db-wal ours/standing/t.json""".split()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("place", PLACES)
def test_no_command_waits_for_a_pipe(repository: Path, place: str) -> None:
    """Wherever a task has put it: each command works or says what is wrong, in time, and the work is there."""
    tasks = task_list(repository.parent / "tasks", {"id": "t", "run": "echo w > work"}, {"id": "u", "run": "false"})
    moderator(repository, "run", tasks, "--progress", "none")
    git(repository, "worktree", "add", "-b", "mine", "../mine")
    tree = Path(moderator(repository, "path", "t").stdout.strip())
    tip = git(tree, "rev-parse", "HEAD").strip()
    make_repository(tree / "inside", [("x", {"x": "x\n"})])
    folders = {
        "tree": tree, "entry": entry_of(tree), "common": repository / ".git", "ours": repository / ".git/moderator"
    }  # fmt: skip
    top, _, rest = place.partition("/")
    where = folders[top] / rest
    if where.is_dir():
        where.rename(where.with_name("git"))
    pipe = put_pipe(where)
    for words in COMMANDS:
        done = moderator(repository, *words.split())  # which gives it a minute
        assert (done.returncode not in (5, -9), "Traceback" in done.stderr) == (True, False), (words, done.stderr)
        assert (tree / "inside/x").exists() or any(repository.parent.rglob("inside/x")), words
    pipe.unlink(missing_ok=True)
    assert git(repository, "cat-file", "-t", tip).strip() == "commit"
    assert subprocess.run(["git", "rev-list", "--all"], cwd=repository, stdout=-3, stderr=-3, timeout=PATIENCE).args


@pytest.mark.slow
@pytest.mark.parametrize("keep", ["always", "never"])
def test_a_run_ends_whatever_pipe_its_task_leaves(repository: Path, keep: str) -> None:
    """The task that did it is told of it and keeps its workspace; its neighbours are kept, or go, as they would."""
    places = {
        "ignore": "mkfifo .gitignore", "attributes": "mkfifo deep/.gitattributes",
        "head": "h=$(git rev-parse --git-path HEAD); rm $h; mkfifo $h",
        "index": "h=$(git rev-parse --git-path index); rm $h; mkfifo $h",
        "config": "mkfifo $(git rev-parse --git-dir)/config.worktree",
        "log": "h=$(git rev-parse --git-path logs/HEAD); rm -f $h; mkdir -p $(dirname $h); mkfifo $h",
        "pointer": "rm .git; mkfifo .git",
        "inside": "git init -q x; rm x/.git/HEAD; mkfifo x/.git/HEAD",
    }  # fmt: skip
    tasks = task_list(
        repository.parent / "tasks",
        {"id": "good", "run": "echo w > work"},
        *({"id": name, "run": f"echo w > work; {what}"} for name, what in places.items()),
    )
    with started(repository, "run", tasks, "--keep", keep, "--progress", "none", "--json") as running:
        out, err = running.communicate(timeout=4 * PATIENCE)
    assert (running.returncode, "Traceback" in err) == (1, False), err
    for name in places:
        assert Path(moderator(repository, "path", name).stdout.strip(), "work").exists(), (name, out)
    assert git(repository, "show", "main-task-good:work") == "w"
