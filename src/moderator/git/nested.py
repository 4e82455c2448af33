"""Repositories inside a worktree: what each holds that is nowhere else, so that no commit of ours could keep it.

A nested repository, a submodule, a submodule inside a submodule: each is looked into as the worktree itself is, whatever its
own settings hide.  Nothing here changes anything.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from moderator.errors import ModeratorError, WouldLoseWork
from moderator.git.command import run_git
from moderator.git.contents import Worktree, printable, shown
from moderator.git.registry import Record
from moderator.git.repository import Repository
from moderator.git.submodules import is_made_by_us
from moderator.git.unsaved import CONVERTED, HIDDEN, Unsaved, unseen


def refuse_nested(record: Record, worktree: Worktree, unsaved: Unsaved) -> None:
    """Raise WouldLoseWork if a repository inside the tree holds what is nowhere else."""
    findings = []
    for path in unsaved.nested:
        findings += [f"{printable(path)}: {reason}" for reason in _of_its_own(worktree, path)]
    place = record.path if findings else ""
    modules = os.path.join(worktree.git_dir, "modules")
    for where in _modules_in(modules):
        name = printable(os.path.relpath(where, modules))
        if reasons := [*_unpushed(where, _store_of(worktree, where)), *_staged(where)]:
            findings += [f"submodule {name}: {reason}" for reason in reasons]
            place = place or where  # there may be no tree any more to go to
    if findings:
        raise WouldLoseWork(
            f"repositories inside the workspace of task {record.task_id!r} hold what is nowhere else",
            list(dict.fromkeys(findings)),
            hint=f"push or move them away, then try again; they are in {printable(place)}",
        )


def is_untouched(worktree: Worktree, path: str) -> bool:
    """Whether a repository inside the tree is a submodule that we checked out, and that holds nothing of its own."""
    there = os.path.join(worktree.tree, path)
    try:
        made = os.path.isfile(os.path.join(there, ".git")) and is_made_by_us(_inside(there).git_dir)
    except OSError:
        return False
    return made and not any(_of_its_own(worktree, path)) and not stays_whole(worktree, path)


def stays_whole(worktree: Worktree, path: str) -> bool:
    """Whether a repository inside the tree, whose commits are all elsewhere, cannot be had again as it is."""
    there = os.path.join(worktree.tree, path)
    if os.path.isdir(os.path.join(there, ".git")):
        return True
    return os.path.isfile(os.path.join(there, ".git")) and bool(_inside(there).contents().ignored)  # a submodule


def _inside(there: str) -> Worktree:
    """Return the worktree at `there`, whose `.git` is a directory or names one."""
    pointer = os.path.join(there, ".git")
    if not os.path.isfile(pointer):
        return Worktree(there, pointer)
    named = os.fsdecode(Path(pointer).read_bytes().strip().removeprefix(b"gitdir: "))
    return Worktree(there, os.path.realpath(os.path.join(there, named)))


def _modules_in(folder: str) -> Iterator[str]:
    """Yield the git directories of submodules, and of theirs: one whose tree was taken away is nowhere else to be found."""
    for where, folders, files in os.walk(folder):
        if "HEAD" in files and "objects" in folders:
            folders[:] = [name for name in folders if name == "modules"]
            yield where


def _staged(git_dir: str) -> Iterator[str]:
    """Tell what only the index of a submodule without a tree holds; with one, the look into it tells."""
    settings = os.path.join(git_dir, "config")
    # Not asked in there: git does not start where the tree that its settings name is gone.
    named = run_git("config", "--file", settings, "core.worktree", cwd=os.sep, accept=(0, 1)).text
    if os.path.lexists(os.path.join(git_dir, named, ".git")) or not os.path.isfile(os.path.join(git_dir, "index")):
        return
    with tempfile.TemporaryDirectory(prefix="moderator-") as folder:
        contents = Worktree(folder, git_dir).contents(ignored=False)
    if staged := [*contents.staged, *contents.unmerged]:
        yield f"staged, not committed: {shown(staged)}"


def _of_its_own(worktree: Worktree, path: str) -> Iterator[str]:
    there = path if os.path.isabs(path) else os.path.join(worktree.tree, path)
    pointer = os.path.join(there, ".git")
    if not os.path.lexists(pointer):
        return
    try:
        inside = _inside(there)
    except OSError as error:
        yield f"its .git cannot be read ({error})"
        return
    modules = os.path.realpath(os.path.join(worktree.git_dir, "modules"))
    if os.path.isfile(pointer) and not inside.git_dir.startswith(modules + os.sep):
        yield f"a worktree of another repository, {printable(inside.git_dir)}"
        return
    try:
        yield from _uncommitted(inside)
        yield from _unpushed(inside.git_dir, _store_of(worktree, inside.git_dir))
    except (ModeratorError, OSError) as error:
        yield f"it cannot be looked into ({error})"


def _uncommitted(inside: Worktree) -> Iterator[str]:
    contents = inside.contents(ignored=False)
    if contents.uncommitted or inside.operation:
        yield f"not committed: {shown(contents.uncommitted) or inside.operation}"
    if contents.warnings:
        yield f"not readable: {shown(contents.warnings)}"
    # Its own settings, not those of the repository around it, say what is converted there.
    itself = Repository(inside.tree, inside.git_dir, inside.git_dir, inside.tree)
    hidden, converted = unseen(itself, inside, contents)
    if hidden:
        yield f"{HIDDEN}: {shown(hidden)}"
    if converted:
        yield f"{CONVERTED}: {shown(converted)}"


def _store_of(worktree: Worktree, git_dir: str) -> str:
    """Return what the main checkout has of the same submodule, "" if it has nothing, or it is no submodule."""
    entry = os.path.realpath(worktree.git_dir)
    inside = os.path.relpath(os.path.realpath(git_dir), entry)
    store = os.path.join(os.path.dirname(os.path.dirname(entry)), inside)
    return store if inside.startswith(f"modules{os.sep}") and os.path.isdir(os.path.join(store, "objects")) else ""


def _unpushed(git_dir: str, store: str) -> list[str]:
    """Return what is wrong with a repository whose commits should all be at a remote, or in the main checkout's own."""
    try:
        head = ("HEAD",) if _asked(git_dir, "rev-parse", "--verify", "--quiet", "HEAD") else ()
        lost = _asked(git_dir, "rev-list", "--all", "--reflog", *head, "--not", "--remotes").split()
        if lost and store:
            lost = _not_held_by(store, lost)
    except ModeratorError as error:
        return [f"it cannot be looked into ({error})"]
    return [f"commits that are at no remote: {shown([name[:12] for name in lost])}"] if lost else []


def _not_held_by(store: str, commits: Sequence[str]) -> list[str]:
    """Return the commits to which no ref of another repository leads."""
    listed = "".join(f"{name}\n" for name in commits).encode()
    told = _asked(store, "cat-file", "--batch-check=%(objecttype) %(objectname)", stdin=listed).split("\n")
    there = {name for kind, _, name in (line.partition(" ") for line in told) if kind == "commit"}
    head = ("HEAD",) if _asked(store, "rev-parse", "--verify", "--quiet", "HEAD") else ()
    asked = "".join(f"{name}\n" for name in commits if name in there).encode()
    loose = set(_asked(store, "rev-list", "--stdin", "--not", "--all", *head, stdin=asked).split()) if there else set()
    return [name for name in commits if name not in there or name in loose]


def _asked(git_dir: str, *arguments: str, stdin: bytes = b"") -> str:
    # Of commits only, so whatever tree: git does not start where the one that its settings name is gone.
    command = (f"--git-dir={git_dir}", f"--work-tree={git_dir}", *arguments)
    return run_git(*command, cwd=git_dir, stdin=stdin, accept=(0, 1)).text
