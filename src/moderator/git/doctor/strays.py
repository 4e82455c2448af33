"""Entries and trees that no record knows, and entries, whoever's, that are so broken that git stumbles over them."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator

from moderator.errors import InvalidTaskId, ModeratorError, to_type
from moderator.git.contents import printable
from moderator.git.doctor.findings import INFORMATION, Finding
from moderator.git.doctor.scene import Scene, content, head_of, is_object_id, names_in, pointer_of, tree_of
from moderator.git.entries import OUR_LOCK, points_at
from moderator.git.registry import key_of
from moderator.git.spares import Spares
from moderator.git.trash import trash_beside

_REASON = re.compile(re.escape(OUR_LOCK) + r"""('.*'|".*")( \(.+\))?""")


def look_at_strays(scene: Scene) -> Iterator[Finding]:
    """Find what no record knows among the entries and among the folders that workspaces are in."""
    yield from _records(scene)
    known = {record.entry for record in scene.records} | {spare.entry for spare in Spares(scene.repository)}
    for name in names_in(scene.entries):
        entry = os.path.join(scene.entries, name)
        if name not in known and os.path.isdir(entry) and not os.path.islink(entry):
            yield from _entry(scene, entry, known)
    for home in scene.homes():
        for name in names_in(home):
            if name != os.path.basename(trash_beside(f"{home}/x")) and (
                found := _tree(scene, os.path.join(home, name))
            ):
                yield found


def _records(scene: Scene) -> Iterator[Finding]:
    for name, reason in scene.damaged.items():
        path, key = os.path.join(scene.folder, name), name.removesuffix(".json")
        trees = [
            printable(str(tree_of(entry)))
            for each in names_in(scene.entries)
            if _key_of_entry(entry := os.path.join(scene.entries, each)) == key and tree_of(entry)
        ]
        whose = f"; it is probably that of {' or '.join(trees)}" if trees else ""
        yield Finding(
            "record-unreadable",
            f"the record {printable(path)!r} cannot be read ({printable(reason)}), so nobody knows whose workspace it is{whose}",
            "upgrade moderator if a newer one wrote it; otherwise look at the workspace, then move the file aside: "
            + to_type("mv", path, path + ".damaged"),
        )
    for name in scene.foreign:
        path = os.path.join(scene.folder, name)
        yield Finding(
            "foreign-file",
            f"{printable(path)!r} is no record of moderator's",
            f"if it is not needed: {to_type('rm', path)}",
            severity=INFORMATION,
        )


def _entry(scene: Scene, entry: str, known: set[str]) -> Iterator[Finding]:
    reason = _reason(entry)
    ours = reason.startswith(OUR_LOCK)
    if ours and any(reason.endswith(f" ({one})") for one in known):
        return  # made by git, and not yet renamed to what its record says
    key = _key_of_entry(entry)
    if key and (f"{key}.json" in scene.damaged or _is_held(scene, key)):
        return
    shown = printable(entry)
    broken = _broken(scene, entry)
    if not os.path.isdir(entry) or (ours and _has_record_now(scene, key, os.path.basename(entry))):
        return
    if broken and (ours or scene.is_stale(entry)):  # git itself makes entries step by step
        yield Finding(
            "entry-broken",
            f"the entry {shown!r} is broken, so git fetch, gc and worktree may fail for everybody: {broken}",
            "look at it, then move it out of the way: "
            + to_type("mv", entry, os.path.join(scene.repository.common, "broken-" + os.path.basename(entry))),
        )
    elif broken:
        yield Finding(
            "entry-broken",
            f"the entry {shown!r} is broken, or about to be made by git: {broken}",
            "moderator doctor, in a while",
            severity=INFORMATION,
        )
    elif ours:
        tree = tree_of(entry) or ""
        if points_at(tree, entry):
            hint = (
                f"its files are all there; to make it a workspace again: {to_type('moderator', 'adopt', tree)}; "
                f"to keep it as a worktree of your own: {to_type('git', 'worktree', 'unlock', tree)}; "
                f"before you remove it, see what no commit holds: {to_type('git', '-C', tree, 'status', '--ignored')}"
            )
        else:
            hint = (
                f"its tree is not at {printable(tree)!r}; if its commits are not needed "
                f"({to_type('git', '--git-dir', entry, 'log', 'HEAD')}): "
                f"{to_type('git', 'worktree', 'unlock', tree)} && git worktree prune --verbose"
            )
        yield Finding("entry-orphaned", f"no record knows the worktree of moderator's entry {shown!r}", hint)


def _broken(scene: Scene, entry: str) -> str:
    """Return what is wrong with the files of an entry, "" if nothing is."""
    wrong = []
    common = content(os.path.join(entry, "commondir"))
    if (
        common is None
        or os.path.realpath(os.path.join(entry, os.fsdecode(common.strip(b"\n")))) != scene.repository.common
    ):
        wrong.append("commondir does not name this repository")
    head = head_of(entry)
    if not head.startswith("ref: refs/") and not is_object_id(head):
        wrong.append("HEAD names nothing")
    if tree_of(entry) is None:
        wrong.append("gitdir names no tree")
    return ", ".join(wrong)


def _reason(entry: str) -> str:
    return (content(os.path.join(entry, "locked")) or b"").decode("utf-8", "replace").strip()


def _key_of_entry(entry: str) -> str | None:
    """Return the name under which the task of an entry of ours is registered, None if its `locked` does not tell."""
    match = _REASON.fullmatch(_reason(entry))
    if match is None:
        return None
    try:
        return key_of(str(ast.literal_eval(match[1])))
    except (ValueError, SyntaxError, InvalidTaskId):
        return None


def _is_held(scene: Scene, key: str) -> bool:
    from moderator.git import leases

    try:
        return leases.holder(scene.registry.lease_path(key)) is not None
    except ModeratorError:
        return False


def _has_record_now(scene: Scene, key: str | None, name: str) -> bool:
    record = scene.registry.owner_of_name(key) if key else None
    return record is not None and record.entry == name


def _tree(scene: Scene, tree: str) -> Finding | None:
    """Look at a directory among the workspaces that is not one."""
    leads = pointer_of(tree)
    if (
        leads is None
        or os.path.dirname(leads) != scene.entries
        or any(_same(record.path, tree) for record in scene.records)
    ):
        return None
    shown = printable(tree)
    owner = next((record for record in scene.records if record.entry == os.path.basename(leads)), None)
    if owner and points_at(owner.path, leads):
        return Finding(
            "tree-copied",
            f"{shown!r} is a copy of the workspace of task {owner.task_id!r}: git commands in it work on that one's index",
            f"make it a plain directory: {to_type('rm', os.path.join(tree, '.git'))}",
            severity=INFORMATION,
        )
    if owner or os.path.lexists(leads) or any(_bears_the_name_of(tree, each) for each in scene.damaged):
        return None
    if any(record.entry == os.path.basename(leads) for record in scene.registry) or pointer_of(tree) != leads:
        return None  # made, or removed, meanwhile
    aside = tree + ".pointer"
    return Finding(
        "tree-orphaned",
        f"{shown!r} was a worktree of this repository, and neither an entry nor a record knows it any more; "
        "its files are all there",
        "to make it a worktree again: "
        + " && ".join(
            (
                to_type("git", "worktree", "add", "--no-checkout", "--detach", aside),
                to_type("mv", os.path.join(aside, ".git"), os.path.join(tree, ".git")),
                to_type("git", "worktree", "repair", tree),
                to_type("git", "-C", tree, "reset"),
            )
        ),
    )


def _bears_the_name_of(tree: str, record: str) -> bool:
    """Whether a damaged record is probably that of a tree."""
    try:
        return key_of(os.path.basename(tree)) == record.removesuffix(".json")
    except InvalidTaskId:
        return False


def _same(path: str, other: str) -> bool:
    return bool(path) and os.path.realpath(path) == os.path.realpath(other)
