"""Take what a person made, a worktree or a branch, under management: nothing of it is moved, and no file of it is touched.

What is adopted can be removed one day, with a rescue, like any workspace; so what could not be removed safely is refused here,
before anything is written down.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from moderator.errors import (
    AmbiguousName,
    CheckoutNotClean,
    IsolationError,
    NotARepository,
    PersonNeeded,
    UnknownRevision,
    UsageError,
    to_type,
)
from moderator.git import locking
from moderator.git.branches import branches_in_use
from moderator.git.contents import Worktree, printable, shown
from moderator.git.entries import (
    ADOPTED,
    entry_dir,
    is_elsewhere,
    is_in_place,
    names,
    person_lock_in,
    points_at,
    tree_named_in,
)
from moderator.git.registry import Record, Registry
from moderator.git.removals import Removals
from moderator.git.repository import Base, Repository
from moderator.git.spares import Spares
from moderator.git.trash import trash_beside
from moderator.naming import BETWEEN, task_directory_name, task_slug


@dataclass(frozen=True)
class Found:
    """What is to be adopted: a branch, and the worktree that is on it, "" for none; `entry` is its administrative directory."""

    branch: str
    tip: str
    tree: str = ""
    entry: str = ""


def find(repository: Repository, registry: Registry, what: str) -> Found:
    """Return the worktree or branch that a person means, if it can be adopted.

    Raises UsageError where it is something else, or managed already, NotARepository for another repository's, PersonNeeded for
    what a person has to see to first, AmbiguousName if it is both.
    """
    branch, tree = _branch_named(repository, what), os.path.realpath(what)
    is_tree = not what.startswith("refs/") and os.path.lexists(os.path.join(tree, ".git"))
    if is_tree and branch:
        raise AmbiguousName(
            f"{what!r} is a directory and a branch",
            hint=f"for the directory type {to_type(os.path.join('.', what))}; for the branch {to_type('refs/heads/' + what)}",
        )
    if branch:
        git_dir = next(iter(branches_in_use(repository).get(f"refs/heads/{branch}", ())), None)
        if git_dir is None:
            return _unmanaged(registry, Found(branch, str(repository.commit_of(f"refs/heads/{branch}"))))
        if git_dir == repository.common:
            raise _main_worktree(branch)
        return _fit(repository, registry, git_dir, os.path.realpath(tree_named_in(git_dir) or git_dir))
    if os.path.isdir(tree):
        return _fit(repository, registry, *_linked_worktree(repository, what))
    for entry in _entries(repository):
        if os.path.realpath(tree_named_in(entry) or entry) == tree:
            return _fit(repository, registry, entry, tree)
    raise UsageError(
        f"{what!r} is neither a worktree nor a branch of this repository",
        hint="git worktree list and git branch show them",
    )


def id_for(removals: Removals, found: Found) -> str:
    """Return the id of a task that a branch would be that of: the one that had it, or else its own name."""
    for removal, record in reversed(removals.all()):
        if record.branch == found.branch:
            return removal.task_id
    return (found.branch.rpartition(BETWEEN)[2] if BETWEEN in found.branch else found.branch).replace("/", "-")


def refuse_other_names(registry: Registry, found: Found, task_id: str, homes: set[str]) -> None:
    """Raise IsolationError if the id is taken, or the branch or the directory is what a task of another id would get.

    `homes` are the folders in which workspaces are made here.
    """
    if owner := registry.owner_of_name(task_id):
        raise IsolationError(
            f"the id {task_id!r} is taken: it means the workspace of task {owner.task_id!r}",
            hint="choose one with --id",
        )
    slug = found.branch.rpartition(BETWEEN)[2]
    if BETWEEN in found.branch and task_slug(task_id) != slug:
        raise IsolationError(
            f"the branch {found.branch!r} is that of a task called {slug!r}, not {task_id!r}",
            hint=f"add {to_type('--id', slug)}, or rename the branch: {to_type('git', 'branch', '-m', found.branch, 'NEW')}",
        )
    folder, name = os.path.split(found.tree)
    if found.tree and folder in homes and name != task_directory_name(task_id):
        raise IsolationError(
            f"the directory {printable(found.tree)!r} is where a task called {name!r} would work, not {task_id!r}",
            hint=f"add {to_type('--id', name)}, or move it: {to_type('git', 'worktree', 'move', found.tree, 'NEW')}",
        )
    if (
        found.tree
        and folder not in homes
        and os.path.lexists(trash := trash_beside(found.tree))
        and not is_elsewhere(found.tree)
    ):
        raise PersonNeeded(
            f"{printable(trash)!r} is there already, and a removal would use a folder of that name",
            hint=f"move the worktree elsewhere first: {to_type('git', 'worktree', 'move', found.tree, 'NEW')}",
        )


def refuse_a_place_inside(repository: Repository, found: Found) -> None:
    """Raise PersonNeeded if a removal would put the tree into another working tree of the repository.

    There it would show as files of that one, and a `git clean` of the person would delete what was put aside.
    """
    if not found.tree or not is_elsewhere(found.tree):
        return
    around = [tree_named_in(entry) for entry in _entries(repository) if entry != found.entry]
    for tree in (os.path.realpath(one) for one in (repository.main_top, *around) if one):
        if found.tree.startswith(tree + os.sep):
            raise PersonNeeded(
                f"the worktree {printable(found.tree)!r} lies inside {printable(tree)!r}, and so would what a removal puts aside",
                hint=f"move it out first: {to_type('git', 'worktree', 'move', found.tree, 'NEW')}",
            )


def fork_of(repository: Repository, found: Found, revision: str | None) -> Base:
    """Return where the branch forked: from the branch that is named, or that the main worktree is on.

    Raises UnknownRevision if that names no commit or has none in common with the branch, UsageError if it is the same branch.
    """
    hint = "name the branch that it forked from with --base"
    if revision is None and repository.main_top:
        base = Repository.open(repository.main_top).base()
    else:
        base = repository.base(revision or "")
    if base.name == found.branch:
        raise UsageError(f"the branch {found.branch!r} cannot be its own base", hint=hint)
    common = repository.git("merge-base", base.commit, found.tip, accept=(0, 1))
    if common.code:
        raise UnknownRevision(f"the branches {base.name!r} and {found.branch!r} have no commit in common", hint=hint)
    return Base(base.name, common.text)


def enter(repository: Repository, record: Record) -> None:
    """Write into the entry of a worktree that it is ours now; may be done again.  Raises PersonNeeded if a person locked it."""
    entry = entry_dir(repository, record)
    aside = Path(entry, f"{ADOPTED}.new")
    aside.write_text(record.token + "\n", "ascii")
    os.replace(aside, os.path.join(entry, ADOPTED))
    locking.lock_for_us(repository, record)


def leave(repository: Repository, record: Record) -> None:
    """Take back what `enter` wrote, as far as it came."""
    entry = entry_dir(repository, record)
    ours = is_in_place(entry, record)
    for aside in (os.path.join(entry, f"{ADOPTED}.new"), locking.aside_for_us(entry, record)):
        with contextlib.suppress(OSError):
            os.unlink(aside)
    if not ours:
        return
    with contextlib.suppress(OSError):
        if os.path.lexists(os.path.join(entry, "locked")) and person_lock_in(entry) is None:
            os.unlink(os.path.join(entry, "locked"))
        os.unlink(os.path.join(entry, ADOPTED))


def _branch_named(repository: Repository, what: str) -> str | None:
    if not what.strip() or "\0" in what or "\n" in what:
        raise UsageError(f"{what!r} is neither a directory nor a branch", hint="name a worktree or a branch")
    branch = what.removeprefix("refs/heads/")
    is_one = repository.git("show-ref", "--verify", "--quiet", f"refs/heads/{branch}", accept=(0, 1, 128)).code == 0
    return branch if is_one else None


def _entries(repository: Repository) -> Iterator[str]:
    folder = os.path.join(repository.common, "worktrees")
    with contextlib.suppress(FileNotFoundError):
        yield from (os.path.join(folder, name) for name in sorted(os.listdir(folder)))


def _linked_worktree(repository: Repository, what: str) -> tuple[str, str]:
    """Return the entry, and the top, of the linked worktree that a directory is in."""
    opened = Repository.open(what)
    if opened.common != repository.common:
        raise NotARepository(
            f"{what!r} belongs to another repository",
            hint=f"adopt it there: {to_type('moderator', 'adopt', '--repo', what, what)}",
        )
    if opened.top is None:
        raise UsageError(f"{what!r} is not in a worktree", hint="git worktree list shows them")
    if opened.git_dir == repository.common:
        raise _main_worktree(None)
    return opened.git_dir, os.path.realpath(opened.top)


def _main_worktree(branch: str | None) -> UsageError:
    what = f"the branch {branch!r} is checked out in the main worktree, which" if branch else "the main worktree"
    return UsageError(
        f"{what} is yours: it cannot become a task's",
        hint="make a workspace beside it: moderator create ID"
        + (", or switch it to another branch first" if branch else ""),
    )


def _unmanaged(registry: Registry, found: Found) -> Found:
    for record in registry:
        same_tree = found.tree and found.tree == os.path.realpath(record.path or os.sep)
        if (
            same_tree
            or (found.entry and record.entry == os.path.basename(found.entry))
            or record.branch == found.branch
        ):
            what = f"the branch {found.branch!r}" if record.branch == found.branch else f"{printable(found.tree)!r}"
            raise UsageError(
                f"{what} is that of the workspace of task {record.task_id!r} already",
                hint=f"look at it: {to_type('moderator', 'show', record.task_id)}",
            )
    return found


def _fit(repository: Repository, registry: Registry, entry: str, tree: str) -> Found:
    """Return a worktree if nothing forbids to adopt it."""
    shown_tree = printable(tree)
    for record in registry:
        if record.entry == os.path.basename(entry):
            _unmanaged(registry, Found(str(record.branch), record.base, tree, entry))
    if not os.path.isdir(tree):
        raise PersonNeeded(
            f"the directory of the worktree {shown_tree!r} is not there",
            hint=f"if it was moved: git worktree repair NEW-PLACE; if it is gone: {to_type('git', 'worktree', 'prune')}",
        )
    if os.path.basename(entry) in {spare.entry for spare in Spares(repository)}:
        raise UsageError(f"{shown_tree!r} is a spare of the pool", hint="moderator create ID takes one")
    if reason := person_lock_in(entry):
        raise PersonNeeded(
            f"the worktree {shown_tree!r} is locked: {printable(reason)}",
            hint=f"if the reason is gone: {to_type('git', 'worktree', 'unlock', tree)}",
        )
    if not (points_at(tree, entry) and names(entry, tree)):
        raise PersonNeeded(
            f"the worktree {shown_tree!r} and its entry in the repository do not point at each other",
            hint=f"{to_type('git', 'worktree', 'repair', tree)}, and try again",
        )
    if "\n" in tree:
        raise UsageError(f"{shown_tree!r} holds a line break", hint="git worktree move")
    _refuse_nesting(repository, entry, tree)
    return _unmanaged(registry, _clean(Worktree(tree, entry)))


def _refuse_nesting(repository: Repository, entry: str, tree: str) -> None:
    """Raise PersonNeeded if a removal of the tree would take the repository or another worktree with it."""
    inside = [
        repository.common,
        *(os.path.realpath(tree_named_in(one) or one) for one in _entries(repository) if one != entry),
    ]
    inside += [repository.main_top] if repository.main_top else []
    for path in inside:
        if path.startswith(tree + os.sep):
            raise PersonNeeded(
                f"{printable(path)!r} lies inside the worktree {printable(tree)!r}, and would go with it one day",
                hint="move one of the two: git worktree move",
            )
    if tree.startswith(repository.common + os.sep):
        raise PersonNeeded(
            f"the worktree {printable(tree)!r} lies inside the repository's own git directory", hint="git worktree move"
        )


def _clean(worktree: Worktree) -> Found:
    """Return a worktree that is on a branch and whose work is all in commits."""
    tree = worktree.tree
    if operation := worktree.operation:
        raise PersonNeeded(
            f"a {operation} is in progress in the worktree {printable(tree)!r}",
            hint=f"finish or abort it: {to_type('git', '-C', tree, 'status')}",
        )
    contents = worktree.contents(ignored=False)
    if not contents.branch:
        raise PersonNeeded(
            f"the worktree {printable(tree)!r} is on no branch",
            hint=f"give it one: {to_type('git', '-C', tree, 'switch', '-c', 'NAME')}",
        )
    if not contents.head:
        raise PersonNeeded(
            f"the branch {contents.branch!r} of the worktree {printable(tree)!r} has no commits yet",
            hint=f"{to_type('git', '-C', tree, 'commit', '--allow-empty', '-m', 'start')}",
        )
    if dirty := [*contents.uncommitted, *contents.warnings]:
        # Nothing would be moved.  But what is in a workspace counts as its task's work from then on, and is committed as such.
        raise CheckoutNotClean(
            f"the worktree {printable(tree)!r} has changes that are not committed: {shown(dirty)}",
            hint=f"commit them, or put them aside for the while: {to_type('git', '-C', tree, 'stash', '--include-untracked')}; "
            "git stash pop brings them back once it is adopted",
        )
    return Found(contents.branch, contents.head, tree, worktree.git_dir)
