"""Repositories inside a worktree: what each holds that is nowhere else, so that no commit of ours could keep it.

A nested repository, a submodule, a submodule inside a submodule: each is looked into as the worktree itself is, whatever its
own settings hide.  Nothing here changes anything.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from moderator.errors import ModeratorError, WouldLoseWork
from moderator.git.carried import unchanged_of, was_carried
from moderator.git.command import polling, run_git
from moderator.git.contents import Contents, Worktree, printable, shown
from moderator.git.pipes import PipeInTheWay
from moderator.git.registry import Record
from moderator.git.repository import Repository
from moderator.git.submodules import is_made_by_us
from moderator.git.unsaved import CONVERTED, HIDDEN, Unsaved, unseen
from moderator.opening import content

_NO_FETCH = {"GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "none"}
"""What a partial clone has not, it has not: a look waits for no network.  The second is for git before 2.45."""


def refuse_nested(repository: Repository, record: Record, worktree: Worktree, unsaved: Unsaved) -> None:
    """Raise WouldLoseWork if a repository inside the tree holds what is nowhere else.

    What one that was carried has from the main checkout, and that still has, is none of its own: such a repository stays whole in
    the trash.
    """
    findings = []
    for path in unsaved.nested:
        original = _original_of(repository, worktree, path)
        findings += [f"{printable(path)}: {reason}" for reason in _of_its_own(worktree, path, original)]
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
    named = os.fsdecode(content(pointer).strip().removeprefix(b"gitdir: "))
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


@dataclass(frozen=True)
class _Original:
    """The repository of the main checkout from which one inside the tree of a workspace, at `path`, was carried."""

    itself: Worktree
    worktree: Worktree
    path: str

    def without_what_it_has(self, inside: Worktree, contents: Contents) -> Contents:
        """Return what is uncommitted in the copy, without what is the same, and as uncommitted, in the original."""
        staged = [*contents.staged, *contents.unmerged]
        known = set(self._lines(self.itself, staged)) if staged else set()
        new = {line.partition("\t")[2] for line in set(self._lines(inside, staged)) ^ known} if staged else set()
        new |= set(self.without_files(contents.unmerged))
        return replace(
            contents,
            staged=[path for path in contents.staged if path in new],
            unmerged=[path for path in contents.unmerged if path in new],
            modified=self.without_files(contents.modified),
            untracked=self.without_files(contents.untracked),
        )

    def without_files(self, paths: Iterable[str]) -> list[str]:
        """Return the paths without those that are as they were carried, or are neither here nor there."""
        asked = list(paths)
        same = unchanged_of(self.worktree, (f"{self.path}/{path}" for path in asked))
        return [path for path in asked if f"{self.path}/{path}" not in same and not self._is_gone(path)]

    def _is_gone(self, path: str) -> bool:
        trees = (os.path.join(self.worktree.tree, self.path), self.itself.tree)
        return not any(os.path.lexists(os.path.join(tree, path)) for tree in trees)

    @staticmethod
    def _lines(repository: Worktree, paths: Sequence[str]) -> list[str]:
        """Return the lines of the index that are about these paths."""
        asked = set(paths)
        lines = repository.git("ls-files", "-s", "-z", env=polling()).fields
        return [line for line in lines if line.partition("\t")[2] in asked]


def _original_of(repository: Repository, worktree: Worktree, path: str) -> _Original | None:
    """Return where a repository inside the tree was carried from, None if it was not, or nothing can be compared there.

    Links may lead anywhere, to the copy itself too: so it has to be in the main checkout, at its own place, with a git directory of
    its own.
    """
    top = repository.main_top
    copy = os.path.join(worktree.tree, path, ".git")
    if top is None or os.path.islink(copy) or not os.path.isdir(copy) or not was_carried(worktree, path, top):
        return None
    place = os.path.join(os.path.realpath(top), path)
    git_dir = os.path.join(place, ".git")
    if os.path.realpath(git_dir) != git_dir or not os.path.isdir(os.path.join(git_dir, "objects")):
        return None
    return _Original(Worktree(place, git_dir), worktree, path)


def _of_its_own(worktree: Worktree, path: str, original: _Original | None = None) -> Iterator[str]:
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
        yield from _uncommitted(inside, original)
        if original:
            yield from _unpushed(inside.git_dir, original.itself.git_dir, copied=True)
        else:
            yield from _unpushed(inside.git_dir, _store_of(worktree, inside.git_dir))
    except PipeInTheWay:
        raise
    except (ModeratorError, OSError) as error:
        yield f"it cannot be looked into ({error})"


def _uncommitted(inside: Worktree, original: _Original | None) -> Iterator[str]:
    contents = inside.contents(ignored=False)
    new = original.without_what_it_has(inside, contents) if original else contents
    if new.uncommitted or inside.operation:
        yield f"not committed: {shown(new.uncommitted) or inside.operation}"
    if contents.warnings:
        yield f"not readable: {shown(contents.warnings)}"
    # Its own settings, not those of the repository around it, say what is converted there.
    itself = Repository(inside.tree, inside.git_dir, inside.git_dir, inside.tree)
    hidden, converted = unseen(itself, inside, contents)
    if original:
        hidden, converted = original.without_files(hidden), original.without_files(converted)
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


def _unpushed(git_dir: str, store: str, copied: bool = False) -> list[str]:
    """Return what is wrong with a repository whose commits should all be at a remote, or in the main checkout's own.

    Of one that was `copied` from there, logs and all, what only its logs name may be in the logs there.
    """
    try:
        head = ("HEAD",) if _asked(git_dir, "rev-parse", "--verify", "--quiet", "HEAD") else ()
        lost = _asked(git_dir, "rev-list", "--all", "--reflog", *head, "--not", "--remotes").split()
        if lost and store:
            lost = _not_held_by(store, lost)
        if lost and copied:
            named = set(_asked(git_dir, "rev-list", "--all", *head, "--not", "--remotes").split())
            logged = _not_held_by(store, [name for name in lost if name not in named], logs=True)
            lost = [name for name in lost if name in named or name in logged]
    except PipeInTheWay:
        raise
    except ModeratorError as error:
        return [f"it cannot be looked into ({error})"]
    return [f"commits that are at no remote: {shown([name[:12] for name in lost])}"] if lost else []


def _not_held_by(store: str, commits: Sequence[str], logs: bool = False) -> list[str]:
    """Return the commits to which no ref of another repository leads; with `logs`, nor what its logs name."""
    listed = "".join(f"{name}\n" for name in commits).encode()
    told = _asked(store, "cat-file", "--batch-check=%(objecttype) %(objectname)", stdin=listed).split("\n")
    there = {name for kind, _, name in (line.partition(" ") for line in told) if kind == "commit"}
    head = ("HEAD",) if _asked(store, "rev-parse", "--verify", "--quiet", "HEAD") else ()
    held = ("--all", *(("--reflog",) if logs else ()), *head)
    asked = "".join(f"{name}\n" for name in commits if name in there).encode()
    loose = set(_asked(store, "rev-list", "--stdin", "--not", *held, stdin=asked).split()) if there else set()
    return [name for name in commits if name not in there or name in loose]


def _asked(git_dir: str, *arguments: str, stdin: bytes = b"") -> str:
    # Of commits only, so whatever tree: git does not start where the one that its settings name is gone.
    command = (f"--git-dir={git_dir}", f"--work-tree={git_dir}", *arguments)
    return run_git(*command, cwd=git_dir, env=_NO_FETCH, stdin=stdin, accept=(0, 1)).text
