"""Make a rescue: everything a worktree holds, in commits under a ref, before something destructive.

The commit is shaped like a stash, so that git itself can restore it (`git stash apply --index REF`): its tree is the
working tree, its parents are HEAD, what was staged, and the untracked files.  A fourth parent, the anchor, holds what a stash
has no place for: the worktree's administrative files (an unfinished merge or rebase lives there), every commit that only
they name, the sides of conflicts, and a description of it all.  One ref makes all of it appear at once and keeps it from `gc`.

Nothing of the workspace is written: indexes are private, no hook runs, no filter converts.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from moderator.errors import GitFailed, to_type
from moderator.git import heads
from moderator.git.command import polling
from moderator.git.contents import Worktree
from moderator.git.exact import DURABLE, Exact, copy_index
from moderator.git.nested import stays_whole
from moderator.git.registry import Record, as_written
from moderator.git.repository import Repository
from moderator.git.unsaved import Unsaved, notes_of
from moderator.naming import task_slug

ROOT = "refs/moderator/rescue"
DESCRIPTION = "rescue.json"
"""The file in the anchor's tree that says what the rescue is."""
ADMINISTRATION, CONFLICTS, OBJECTS = "administration", "conflicts", "objects"
"""The folders of the anchor's tree."""
VERSION = 1
_MOST_PARENTS = 500
"""Parents of one commit: they are named on a command line, which has an end."""
_ORDINARY_MODES = (0o644, 0o755)
_ORDINARY_FOLDER = 0o755


@dataclass(frozen=True)
class Rescuable:
    """Which of the unsaved paths go into commits, and which nothing but the disk can hold."""

    changed: tuple[str, ...]
    deleted: tuple[str, ...]
    untracked: tuple[str, ...]
    left: tuple[str, ...]


def sort_out(worktree: Worktree, unsaved: Unsaved, largest: float) -> Rescuable:
    """Decide for every unsaved path whether a commit can and should hold it; `largest` is in bytes."""
    contents = unsaved.contents
    left = [*contents.ignored, *unsaved.special]
    for path in unsaved.nested:
        in_ignored = any(f"{path}/".startswith(folder) for folder in contents.ignored if folder.endswith("/"))
        if not in_ignored and stays_whole(worktree, path):
            left.append(f"{path}/")
    changed: list[str] = []
    deleted: list[str] = []
    untracked: list[str] = []
    for paths, kept in ((unsaved.changed, changed), (contents.untracked, untracked)):
        for path in paths:
            there = os.path.join(worktree.tree, path)
            try:
                found = os.lstat(there)
            except OSError:
                deleted.append(path)  # an untracked one too: it has gone this moment, and the second look will tell
                continue
            if beyond_link(worktree.tree, path):
                deleted.append(path)  # a directory on the way is a link now, which is untracked itself
                continue
            if stat.S_ISDIR(found.st_mode):
                is_submodule = path in contents.gitlinks and path not in contents.became_repositories
                # What else is a directory now is untracked, or a repository of its own.
                (kept if is_submodule else deleted).append(path)
            else:
                (kept if _can_be_held(worktree.tree, path, found, largest) else left).append(path)
    return Rescuable(tuple(changed), tuple(deleted), tuple(untracked), tuple(dict.fromkeys(left)))


def beyond_link(tree: str, path: str) -> bool:
    """Whether a directory on the way to a path is a symbolic link, so that the path is not inside the tree."""
    while path := os.path.dirname(path):
        if os.path.islink(os.path.join(tree, path)):
            return True
    return False


def _can_be_held(tree: str, path: str, found: os.stat_result, largest: float) -> bool:
    # git takes neither into a tree, for what they could do to whoever checks them out.
    if ".git" in path.casefold().split(os.sep) or (
        stat.S_ISLNK(found.st_mode) and path.casefold().endswith(".gitmodules")
    ):
        return False
    if stat.S_ISLNK(found.st_mode):
        return True
    return stat.S_ISREG(found.st_mode) and found.st_size <= largest and os.access(os.path.join(tree, path), os.R_OK)


def make_rescue(
    repository: Repository,
    record: Record,
    worktree: Worktree,
    unsaved: Unsaved,
    sorted_out: Rescuable,
    reason: str,
    tip: str | None,
    missing: bool = False,
) -> str:
    """Write the rescue and its ref, synced to disk; return its id.

    `missing`: there is no tree to look at, only what is staged and what the administrative files name.
    """
    contents = unsaved.contents
    head = contents.head or tip or record.base
    with Exact(repository) as exact, _copy_of_index(exact, worktree) as index:
        conflicts = _conflicts(worktree, index)
        staged = _staged_tree(repository, worktree, index)
        working = staged
        if not missing:
            working = exact.tree(worktree.tree, sorted_out.changed, staged, sorted_out.deleted)
        untracked = exact.tree(worktree.tree, () if missing else sorted_out.untracked)
        description = _described(record, worktree, unsaved, sorted_out, reason, tip, head)
        anchor = _anchor_tree(repository, exact, worktree, unsaved, conflicts, description)
    commits = list(unsaved.objects.get("commit", ()))
    commits += [found for name in unsaved.objects.get("tag", ()) if (found := repository.commit_of(name))]
    title = f"moderator: rescue of {record.task_id!a} ({reason})"
    parents = [
        head,
        _commit(repository, staged, [head], f"{title}: staged"),
        _commit(repository, untracked, [], f"{title}: untracked"),
        _anchor(repository, anchor, [*commits, *filter(None, (tip,))], f"{title}: anchor"),
    ]
    rescue = _commit(repository, working, parents, title)
    return _publish(repository, record.task_id, rescue, title, float(description["created_at"]))


def rescue_branch(repository: Repository, record: Record, tip: str, reason: str, reflog: Sequence[str] = ()) -> str:
    """Rescue a ref that no workspace stands on: its tip, and the commits that its log alone names."""
    tree = repository.tree_of(tip)
    description = {
        **_about(record, reason, tip, tip),
        "head_ref": record.ref if record.branch else "",
        "commits": len(_only_in_log(repository, reflog)),
    }
    title = f"moderator: rescue of {record.task_id!a} ({reason})"
    with Exact(repository) as exact:
        empty = exact.tree_of(())
        anchor = exact.tree_of([("100644", exact.blob(_as_json(description)), DESCRIPTION)])
    parents = [
        tip,
        _commit(repository, tree, [tip], f"{title}: staged"),
        _commit(repository, empty, [], f"{title}: untracked"),
        _anchor(repository, anchor, [tip, *reflog], f"{title}: anchor"),
    ]
    commit = _commit(repository, tree, parents, title)
    return _publish(repository, record.task_id, commit, title, float(description["created_at"]))


def _only_in_log(repository: Repository, reflog: Sequence[str]) -> list[str]:
    if not reflog:
        return []
    asked = "".join(f"{name}\n" for name in reflog).encode()
    lost = repository.git("rev-list", "--stdin", "--not", "--glob=refs/*", stdin=asked).text.split()
    return [name for name in reflog if name in set(lost)]


def _publish(repository: Repository, task_id: str, commit: str, title: str, now: float) -> str:
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    name = f"{task_slug(task_id)}/{moment}-{secrets.token_hex(4)}"
    try:
        repository.git(
            "update-ref", "--no-deref", "--create-reflog", "-m", title, f"{ROOT}/{name}", commit, "0" * len(commit),
            settings=DURABLE, repeatable=True,
        )  # fmt: skip
    except GitFailed as failure:
        for taken in (f"{ROOT}/{task_slug(task_id)}", ROOT, ROOT.rpartition("/")[0]):
            if repository.commit_of(taken):  # a ref that is no folder of refs
                failure.hint = "somebody's ref is in the way; look at it, then: " + to_type(
                    "git", "update-ref", "-d", taken
                )
        raise
    return name


def _anchor(repository: Repository, tree: str, commits: Sequence[str], message: str) -> str:
    """Return a commit that holds others, however many."""
    held = list(dict.fromkeys(commits))
    while len(held) > _MOST_PARENTS:
        held = [
            _commit(repository, tree, held[start : start + _MOST_PARENTS], message)
            for start in range(0, len(held), _MOST_PARENTS)
        ]
    return _commit(repository, tree, held, message)


def _commit(repository: Repository, tree: str, parents: Sequence[str], message: str) -> str:
    named = [word for parent in parents for word in ("-p", parent)]
    return repository.git(
        "commit-tree", *named, "-F", "-", tree,
        stdin=message.encode("utf-8", "backslashreplace") + b"\n",
        settings={**DURABLE, **repository.identity_settings, "i18n.commitEncoding": "UTF-8"},
        repeatable=True,
    ).text  # fmt: skip


@contextlib.contextmanager
def _copy_of_index(exact: Exact, worktree: Worktree) -> Iterator[str]:
    copy = exact.index()
    with contextlib.suppress(FileNotFoundError):  # no index yet: nothing is tracked
        copy_index(worktree.git_dir, copy)
    yield copy


def _conflicts(worktree: Worktree, index: str) -> list[tuple[str, str, str, str]]:
    """Return the sides of conflicts, (mode, blob, stage, path), and let one of each stand in the private index."""
    private = {"GIT_INDEX_FILE": index}
    listed = worktree.git("ls-files", "-u", "-z", env=polling(private)).fields
    sides = []
    chosen: dict[str, tuple[str, str]] = {}
    for line in listed:
        described, _, path = line.partition("\t")
        mode, blob, stage = described.split(" ")
        sides.append((mode, blob, stage, path))
        if stage == "2" or path not in chosen:
            chosen[path] = (mode, blob)
    if chosen:
        kept = "".join(
            f"0 {'0' * len(blob)}\t{path}\0{mode} {blob} 0\t{path}\0" for path, (mode, blob) in chosen.items()
        )
        whole = {"core.splitIndex": "false"}
        worktree.git("update-index", "-z", "--index-info", stdin=os.fsencode(kept), env=private, settings=whole)
    return sides


def _staged_tree(repository: Repository, worktree: Worktree, index: str) -> str:
    partial = repository.setting("extensions.partialclone")
    how = ("--missing-ok",) if partial else ()  # what was never fetched is at the remote
    return worktree.git("write-tree", *how, env={"GIT_INDEX_FILE": index}, settings=DURABLE, repeatable=True).text


def _anchor_tree(
    repository: Repository,
    exact: Exact,
    worktree: Worktree,
    unsaved: Unsaved,
    conflicts: Sequence[tuple[str, str, str, str]],
    description: dict[str, Any],
) -> str:
    notes = [note for note in notes_of(worktree.git_dir) if not heads.is_of_tables(note)]
    entries = [
        ("040000", exact.tree(worktree.git_dir, notes), ADMINISTRATION),
        ("100644", exact.blob(_as_json(description)), DESCRIPTION),
    ]
    if conflicts:
        entries.append(("040000", _conflict_tree(exact, conflicts), CONFLICTS))
    objects = [("100644", name, name) for name in unsaved.objects.get("blob", ())]
    objects += [("040000", name, name) for name in unsaved.objects.get("tree", ())]
    for name in unsaved.objects.get("tag", ()):  # the commit it names is a parent; this is what it says
        objects.append(("100644", exact.blob(repository.git("cat-file", "tag", name).out), f"tag-{name}"))
    if objects:
        entries.append(("040000", exact.tree_of(objects), OBJECTS))
    return exact.tree_of(entries)


def _conflict_tree(exact: Exact, conflicts: Sequence[tuple[str, str, str, str]]) -> str:
    index, folder = exact.index(), str(Path(exact.index()).parent)
    lines = b"".join(os.fsencode(f"{mode} {blob} 0\t{stage}/{path}") + b"\0" for mode, blob, stage, path in conflicts)
    exact.git("update-index", "-z", "--index-info", folder=folder, index=index, stdin=lines)
    return exact.git("write-tree", folder=folder, index=index).text


def _about(record: Record, reason: str, tip: str | None, head: str) -> dict[str, Any]:
    values = as_written(replace(record, rendered=""))
    return {"version": VERSION, "record": values, "reason": reason, "created_at": time.time(), "tip": tip, "head": head}


def _described(
    record: Record,
    worktree: Worktree,
    unsaved: Unsaved,
    sorted_out: Rescuable,
    reason: str,
    tip: str | None,
    head: str,
) -> dict[str, Any]:
    contents = unsaved.contents
    return {
        **_about(record, reason, tip, head),
        "head_ref": f"refs/heads/{contents.branch}" if contents.branch else "",
        "operation": unsaved.operation,
        "staged": contents.staged,
        "modified": [path for path in unsaved.changed if path not in contents.unmerged],
        "untracked": [path for path in contents.untracked if path not in sorted_out.left],
        "unmerged": contents.unmerged,
        "written": [*sorted_out.changed, *unsaved.verbatim],
        "left": list(sorted_out.left),
        "unborn": not contents.head,
        "modes": {**unsaved.modes, **dict(_modes(worktree.tree, [*sorted_out.changed, *sorted_out.untracked]))},
        "folders": dict(_modes(worktree.tree, _folders_of([*sorted_out.changed, *sorted_out.untracked]))),
        "empty": {path: _mode(os.path.join(worktree.tree, path)) for path in unsaved.empty},
        "commits": len(unsaved.objects.get("commit", ())),
        "refs": heads.own_refs(worktree.git_dir),
    }


def _folders_of(paths: Sequence[str]) -> list[str]:
    folders: dict[str, None] = {}
    for path in paths:
        while (path := os.path.dirname(path)) and path not in folders:
            folders[path] = None
    return list(folders)


def _modes(tree: str, paths: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Yield the permissions that git does not keep."""
    for path in paths:
        with contextlib.suppress(OSError):
            found = os.lstat(os.path.join(tree, path))
            mode = stat.S_IMODE(found.st_mode)
            if (stat.S_ISDIR(found.st_mode) and mode != _ORDINARY_FOLDER) or (
                stat.S_ISREG(found.st_mode) and mode not in _ORDINARY_MODES
            ):
                yield path, mode


def _mode(path: str) -> int:
    try:
        return stat.S_IMODE(os.lstat(path).st_mode)
    except OSError:
        return _ORDINARY_FOLDER


def _as_json(values: dict[str, Any]) -> bytes:
    return json.dumps(values, indent=1).encode("ascii")  # bytes that are no UTF-8 as escaped surrogates
