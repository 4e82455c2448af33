"""What a worktree of ours is on disk: where its parts are, and whether they are there and belong together.  Changes nothing."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from moderator.errors import PersonNeeded, to_type
from moderator.git.contents import Worktree, printable
from moderator.git.registry import TREE, Record
from moderator.git.repository import Repository
from moderator.opening import content

OUR_LOCK = "moderator: "
"""How the reason in a `locked` file begins when it is ours; any other text is a person's."""
RESTORING = "moderator.restoring"
"""A file in an entry whose tree is not yet all that it is to be: what is brought back, or carried, is not all there."""
CARRIED = "moderator.carried"
"""A file in an entry that remembers what was carried into its tree."""
RENDERED = "moderator.rendered"
"""A file in an entry that remembers what was rendered in its tree, of what and for which values."""
RENDERING = ".git.rendering"
"""The folder at the top of a tree in which lies what is to be rendered there, until it is placed; git ignores what is in it."""
UNFILTERED = "moderator.unfiltered"
"""A file in an entry whose tree has what filters would convert as it is stored."""
CARRYING = ".git.carrying"
"""The folder at the top of a tree in which lies what is to be carried into it, until it is placed."""
ADOPTED = "moderator.adopted"
"""A file in the entry of an adopted worktree with the token of its record: git may use the name of that entry again."""
TASKS, SPARES = "tasks", ".spares"
"""The folders that the worktrees are in which we make."""
SPARE = "spare"
"""What stands in the place of a task's id in the entry of a spare, and of a workspace that was one."""
ASIDE = ".git.new"
"""The next `.git` file, until it is renamed into place."""


def entry_dir(repository: Repository, record: Record) -> str:
    """Return the administrative directory of a record's worktree."""
    return os.path.join(repository.common, "worktrees", record.entry)


def worktree_of(repository: Repository, record: Record, descriptors: tuple[int, ...] = ()) -> Worktree:
    """Return the record's worktree; git commands in it keep the descriptors (of its lease) open."""
    return Worktree(record.path, entry_dir(repository, record), descriptors)


def new_entry_id(task_slug: str) -> str:
    """Return an id for an administrative directory that was never used before."""
    return f"{task_slug[:40].rstrip('.-')}-{secrets.token_hex(4)}"


def may_be_of(entry_id: str, task_slug: str) -> bool:
    """Whether an id, of an entry or of a removal, may be one of this task's.

    What had no worktree has no name in its id, and what was a spare has that of all spares.
    """
    return entry_id.rpartition("-")[0] in ("", SPARE, task_slug[:40].rstrip(".-"))


def is_missing(record: Record) -> bool:
    """Whether somebody deleted the tree; making the task's context again leaves an empty directory in its place."""
    try:
        return not os.path.islink(record.path) and not os.listdir(record.path)
    except FileNotFoundError:
        return True
    except OSError:
        return False


def require_home(record: Record) -> None:
    """Raise PersonNeeded if not only the tree but the folder of all workspaces is gone: a disk that is not mounted, say."""
    home = os.path.dirname(record.path)
    if not os.path.isdir(home):
        raise PersonNeeded(
            f"the folder of workspaces {printable(home)!r} is not there, so nobody can tell what task {record.task_id!r} left",
            hint="mount it or move it back; if it is really gone, make it again empty: " + to_type("mkdir", "-p", home),
        )


def is_whole(repository: Repository, record: Record, has_branch: bool | None = None) -> bool:
    """Whether everything `publish` makes is there: the index comes last, when every file is checked out.

    `has_branch` says whether its branch is, for callers who know; None asks git.
    """
    return not why_not_whole(repository, record, has_branch)


def why_not_whole(repository: Repository, record: Record, has_branch: bool | None = None) -> str:
    """Return in a few words what of it is not there, "" if everything is."""
    entry = entry_dir(repository, record)
    if not os.path.isfile(os.path.join(entry, "index")):
        return "no index in its entry" if os.path.isdir(entry) else "git has no entry of it"
    if not points_at(record.path, entry):
        return "its .git is not ours" if os.path.lexists(os.path.join(record.path, ".git")) else "no .git file in it"
    if os.path.lexists(os.path.join(entry, RESTORING)):
        return "not all of it is there"
    if record.branch is not None and not (repository.commit_of(record.ref) if has_branch is None else has_branch):
        return "its branch is gone"
    return ""


def person_lock(repository: Repository, record: Record) -> str | None:
    """Return the reason a person gave for locking the worktree, None if nobody did."""
    return person_lock_in(entry_dir(repository, record))


def person_lock_in(entry: str) -> str | None:
    """The same, of an administrative directory."""
    try:
        reason = content(os.path.join(entry, "locked")).decode("utf-8", "replace").strip()
    except OSError:
        return None
    return None if reason.startswith(OUR_LOCK) else reason or "no reason given"


def is_in_place(entry: str, record: Record) -> bool:
    """Whether an administrative directory is there, and of this record's worktree, not of a later one of that name."""
    if record.adopted != TREE or os.path.basename(entry) != record.entry:
        return os.path.isdir(entry)
    try:
        return content(os.path.join(entry, ADOPTED)).decode("ascii").strip() == record.token
    except (OSError, UnicodeDecodeError):
        return False


def is_elsewhere(path: str) -> bool:
    """Whether a worktree is at a place that is not one of those where we make them."""
    return os.path.basename(os.path.dirname(path)) not in (TASKS, SPARES)


def points_at(path: str, entry: str) -> bool:
    """Whether the `.git` file of the tree at `path` names an administrative directory."""
    try:
        pointer = content(os.path.join(path, ".git")).strip()
    except OSError:
        return False
    named = os.fsdecode(pointer.removeprefix(b"gitdir: "))
    if not pointer.startswith(b"gitdir: "):
        return False
    # What we wrote is the same word for word; only of what somebody rewrote the links have to be followed.
    return named == entry or os.path.realpath(os.path.join(path, named)) == os.path.realpath(entry)


def names(entry: str, path: str) -> bool:
    """Whether an administrative directory is that of the tree at `path`."""
    try:
        named = os.fsdecode(content(os.path.join(entry, "gitdir")).removesuffix(b"\n"))
    except OSError:
        return False
    return os.path.realpath(os.path.join(entry, named)) == os.path.join(os.path.realpath(path), ".git")


def is_of_another(entry: str, path: str) -> bool:
    """Whether an administrative directory names a tree elsewhere than at `path`, and something is there."""
    tree = tree_named_in(entry)
    return tree is not None and not names(entry, path) and os.path.lexists(tree)


def tree_named_in(entry: str) -> str | None:
    """Return which tree an administrative directory says it is of, None if it says nothing."""
    try:
        named = os.fsdecode(content(os.path.join(entry, "gitdir")).removesuffix(b"\n"))
    except OSError:
        return None
    return os.path.dirname(os.path.normpath(os.path.join(entry, named))) if named else None


def half_written(pointer: Path, entry: str) -> bool:
    """Whether a `.git` file is one of ours that a full disk or a crash cut short."""
    try:
        begun = content(pointer)
    except OSError:
        return False
    links = (_link(str(pointer.parent), entry, relative) for relative in (False, True))
    return any(os.fsencode(f"gitdir: {link}\n").startswith(begun) for link in links)


def pointer_to(repository: Repository, tree: str, entry: str) -> bytes:
    """Return what the `.git` file of a tree says that names an administrative directory."""
    return os.fsencode(f"gitdir: {_link(tree, entry, _is_relative(repository, tree))}\n")


def _is_relative(repository: Repository, tree: str) -> bool:
    # A spare is to be renamed: its way to the entry would be another then.
    return repository.links_relatively and os.path.basename(os.path.dirname(tree)) != SPARES


def _link(place: str, to: str, relative: bool) -> str:
    """Return the path to a file or directory as it is written down at a place."""
    return os.path.relpath(os.path.realpath(to), os.path.realpath(place)) if relative else to


def staging_of(repository: Repository, record: Record) -> str:
    """Return where a record's administrative directory is put together before it is renamed into place."""
    return os.path.join(repository.ours, "staging", record.entry)


def files_of_entry(repository: Repository, record: Record, head: str) -> tuple[tuple[str, str], ...]:
    """Return the files, with what they say, that make a directory the administrative one of a record's worktree."""
    return (
        ("HEAD", head),
        ("commondir", "../.."),
        ("gitdir", link_to_tree(repository, record)),
        ("locked", OUR_LOCK + ascii(record.task_id)),
    )


def link_to_tree(repository: Repository, record: Record) -> str:
    """Return what the `gitdir` file of a record's administrative directory says."""
    pointer = os.path.join(os.path.realpath(record.path), ".git")
    return _link(entry_dir(repository, record), pointer, _is_relative(repository, record.path))
