"""A tree and its entry, both there: do they name each other, and does the entry hold what git needs?

What the record and one of the two ends tell for sure can be written anew; the rest is explained.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from moderator.errors import PersonNeeded, to_type
from moderator.git import heads
from moderator.git.contents import printable
from moderator.git.doctor import mending
from moderator.git.doctor.findings import INFORMATION, Finding, Symptom
from moderator.git.doctor.scene import Scene, content, head_of, is_object_id, pointer_of, tree_of
from moderator.git.entries import entry_dir, half_written, names, points_at
from moderator.git.leases import Lease
from moderator.git.registry import Record


def look_at_pair(scene: Scene, record: Record, tip: str | None) -> Iterator[Symptom]:
    """Find what is wrong with a worktree whose tree and entry are there; `tip` is its branch's or result's commit."""
    entry = entry_dir(scene.repository, record)
    yield from _pointers(scene, record, entry)
    if head := _head(scene, record, entry, tip):
        yield head
    if not _is_index(os.path.join(entry, "index")):
        yield _index(scene, record, _commit_of_head(scene, entry))


def _pointers(scene: Scene, record: Record, entry: str) -> Iterator[Symptom]:
    repository, pointer = scene.repository, os.path.join(record.path, ".git")
    task, shown = f"task {record.task_id!r}", printable(record.path)
    forth, back = points_at(record.path, entry), names(entry, record.path)
    if not forth:
        finding = Finding(
            "pointer-stale",
            f"the .git file of the worktree of {task} at {shown!r} does not lead to its entry in the repository",
            "moderator doctor --fix writes it anew",
        )
        if back and _leads_nowhere(record.path, entry):
            yield Symptom(finding, lambda _: mending.point_to_entry(repository, record))
        else:
            away = to_type("mv", pointer, f"{pointer}.found")
            hint = f"look at what is there ({to_type('ls', '-ld', pointer)}), move it away: {away}; then moderator doctor --fix"
            yield Symptom(replace(finding, hint=hint))
    elif not back:
        other = tree_of(entry)
        finding = Finding(
            "gitdir-stale",
            f"the entry of the worktree of {task} in the repository does not name its place {shown!r}",
            "moderator doctor --fix writes it anew",
        )
        if other and points_at(other, entry):
            hint = f"{printable(other)!r} claims to be that worktree too: move away the one that is a copy"
            yield Symptom(replace(finding, hint=hint))
        else:
            yield Symptom(finding, lambda _: mending.point_to_tree(repository, record))
    common = content(os.path.join(entry, "commondir"))
    if common is None or os.path.realpath(os.path.join(entry, os.fsdecode(common.strip()))) != repository.common:
        yield Symptom(
            Finding(
                "commondir-damaged",
                f"the entry of the worktree of {task} does not say which repository it is of, so git fetch and gc may fail",
                "moderator doctor --fix writes it anew",
            ),
            lambda _: mending.write_in_entry(entry, "commondir", "../.."),
        )


def _leads_nowhere(tree: str, entry: str) -> bool:
    """Whether the `.git` file of a tree is gone, was cut short, or names what does not exist."""
    pointer = Path(tree, ".git")
    if not os.path.lexists(pointer):
        return True
    if pointer.is_symlink() or not pointer.is_file():
        return False
    leads = pointer_of(tree)
    return half_written(pointer, entry) or (leads is not None and not os.path.lexists(leads))


def _head(scene: Scene, record: Record, entry: str, tip: str | None) -> Symptom | None:
    said = head_of(entry)
    if said.startswith("ref: refs/"):
        where = said.removeprefix("ref: ")
        if record.branch and where == record.ref:
            return None
        where = f"on {where.removeprefix('refs/heads/')!r}"
    elif is_object_id(said):
        if not record.branch:
            return None
        where = f"detached at {said[:12]}"
    else:
        return _damaged_head(scene, record, entry, tip)
    wanted = f"on {record.branch!r}" if record.branch else "detached"
    return Symptom(
        Finding(
            "head-elsewhere",
            f"the worktree of task {record.task_id!r} is {where}, not {wanted}: a person or the task switched",
            f"to go back: {to_type('git', '-C', record.path, 'switch', *([record.branch] if record.branch else ['--detach']))}",
            severity=INFORMATION,
        )
    )


def _damaged_head(scene: Scene, record: Record, entry: str, tip: str | None) -> Symptom:
    last = last_known(entry)
    finding = Finding(
        "head-damaged",
        f"the HEAD of the worktree of task {record.task_id!r} is damaged, so git fetch and gc may fail",
        "moderator doctor --fix writes it anew",
    )
    if record.branch and tip and last in (None, tip):
        return Symptom(finding, lambda _: heads.place(scene.repository.common, entry, f"ref: {record.ref}"))
    if not record.branch and last and scene.repository.commit_of(last) == last:
        return Symptom(finding, lambda _: heads.place(scene.repository.common, entry, last))
    return Symptom(
        replace(
            finding,
            hint=f"it was last at {last or record.base}; if that is right: echo {last or record.base} > "
            + to_type(os.path.join(entry, "HEAD")),
        )
    )


def last_known(entry: str) -> str | None:
    """Return where the log of an entry's HEAD says it was last."""
    if not heads.are_files(entry):
        return next(iter(heads.log_of(entry, "HEAD")), None)
    lines = (content(os.path.join(entry, "logs", "HEAD")) or b"").splitlines()
    words = lines[-1].decode("utf-8", "replace").split(" ") if lines else []
    return words[1] if len(words) > 1 and is_object_id(words[1]) else None


def _commit_of_head(scene: Scene, entry: str) -> str | None:
    said = head_of(entry)
    name = said.removeprefix("ref: ")
    return scene.repository.commit_of(name) if name.startswith("refs/") or is_object_id(name) else None


def _is_index(path: str) -> bool:
    return (content(path, 4) or b"") == b"DIRC" and not os.path.islink(path)


def _index(scene: Scene, record: Record, commit: str | None) -> Symptom:
    def cure(_: Lease) -> None:
        if commit is None:
            raise PersonNeeded("nothing tells which commit its index is about")
        mending.rebuild_index(scene.repository, record, commit)

    return Symptom(
        Finding(
            "index-damaged",
            f"the index of the worktree of task {record.task_id!r} is damaged or gone; its files are all there",
            "moderator doctor --fix makes it again; what was staged will be changes that are not staged",
        ),
        cure,
    )
