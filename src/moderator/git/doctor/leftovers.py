"""What was put aside and forgotten: half-written things, deletions that were cut short, trash that nobody claims, idle locks.

What can hold a user's content is named and kept.  Only what cannot is deleted: private indexes, unpublished entries, and what was
renamed to be deleted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from moderator.errors import EnvironmentProblem, ModeratorError, WorkspaceBusy, to_type
from moderator.git import leases
from moderator.git.contents import printable
from moderator.git.doctor.findings import INFORMATION, Finding
from moderator.git.doctor.scene import Scene, names_in
from moderator.git.registry import key_of
from moderator.git.removals import Removals
from moderator.git.trash import GARBAGE, delete, retired_of, trash_of

_SET_ASIDE = ("locks", "indexes", "pointers")  # the doctor's own, see its mending


def look_at_leftovers(scene: Scene) -> Iterator[Finding]:
    """Find what was put aside and forgotten."""
    yield from _staging(scene)
    yield from _trash(scene)
    yield from _removals(scene)
    yield from _leases(scene)


def _staging(scene: Scene) -> Iterator[Finding]:
    ours = scene.repository.ours
    paths = [str(ours / "staging" / name) for name in names_in(ours / "staging")]
    for folder in (ours / "workspaces", ours / "removed"):
        paths += [str(folder / name) for name in names_in(folder) if name.startswith(".") and name.endswith(".new")]
    for path in paths:
        if _newest(path) > max(scene.now - scene.grace, scene.booted):
            continue
        yield Finding(
            "staging-leftover",
            f"{printable(path)!r} was being put together when its process died; it holds nobody's content",
            "moderator doctor --fix deletes it",
            severity=INFORMATION,
            mend=_deleting(scene, path, alone=True),
        )


def _trash(scene: Scene) -> Iterator[Finding]:
    ours = str(scene.repository.ours / "trash")
    known = {record.mark for record in scene.records if record.entry}
    removed = {name.removesuffix(".json") for name in names_in(scene.repository.ours / "removed")}
    for folder in (ours, *scene.trashes()):
        for name in names_in(folder) if os.path.isdir(folder) and not os.path.islink(folder) else ():
            path = os.path.join(folder, name)
            if name.endswith(GARBAGE):
                yield Finding(
                    "deletion-unfinished",
                    f"{printable(path)!r} waits to be deleted: it held nothing that is not kept elsewhere",
                    "moderator doctor --fix deletes it, and so does any removal",
                    severity=INFORMATION,
                    mend=_deleting(scene, path),
                )
            elif name not in known | removed and not (folder == ours and _is_own(name)):
                claimed = os.path.lexists(scene.repository.ours / "removed" / f"{name}.json")
                if not os.path.lexists(path) or claimed or any(record.mark == name for record in scene.registry):
                    continue  # gone, or claimed, meanwhile
                yield Finding(
                    "trash-unclaimed",
                    f"nothing tells whose {printable(path)!r} was ({_size(path)} bytes); it is kept",
                    f"look at it; if it is not needed: {to_type('rm', '-r', path)}",
                )


def _is_own(name: str) -> bool:
    return name in _SET_ASIDE or name.startswith("config-")


def _removals(scene: Scene) -> Iterator[Finding]:
    removals = Removals(scene.repository.ours)
    for path in removals.unreadable():
        if os.path.lexists(path):
            yield Finding(
                "removal-unreadable",
                f"the record of a removal {printable(path)!r} cannot be read, so it cannot be undone",
                f"what it removed may be in the trash still; then move the file aside: {to_type('mv', path, path + '.damaged')}",
            )
    for removal, record in removals:
        kept = removal.kept_until is not None and scene.now < removal.kept_until
        places = [retired_of(scene.repository, record), *([trash_of(record)] if record.path else [])]
        if kept and not any(map(os.path.lexists, places)) and removals.find(removal.id) == (removal, record):
            yield Finding(
                "trash-gone",
                f"what was kept of the workspace of task {removal.task_id!r} is gone from the trash",
                "moderator undo may still bring back what is in commits",
                severity=INFORMATION,
            )


def _leases(scene: Scene) -> Iterator[Finding]:
    folder = str(scene.repository.ours / "leases")
    known = {record.key for record in scene.records} | {name.removesuffix(".json") for name in scene.damaged}
    known |= {f"trash@{name.removesuffix('.json')}" for name in names_in(scene.repository.ours / "removed")}
    for name in names_in(folder):
        key, path = name.removesuffix(".lock"), Path(folder, name)
        if key == name or key in known or key.startswith("checkout@") or not _is_free(scene, key, path):
            continue
        yield Finding(
            "lease-idle",
            f"the lock file {printable(str(path))!r} belongs to no workspace",
            "moderator doctor --fix removes it",
            severity=INFORMATION,
            mend=_forgetting(scene, key, path),
        )


def _is_free(scene: Scene, key: str, path: Path) -> bool:
    try:
        if leases.holder(path) is not None:
            return False
        return key.startswith("trash@") or (key_of(key) == key and scene.registry.owner_of_name(key) is None)
    except (ModeratorError, ValueError):
        return False


def _forgetting(scene: Scene, key: str, path: Path) -> Callable[[], None]:
    def mend() -> None:
        with leases.held(path, f"the lock file {str(path)!r}", patience=0.25) as lease:
            if key.startswith("trash@") or scene.registry.owner_of_name(key) is None:
                lease.forget()

    return mend


def _deleting(scene: Scene, path: str, alone: bool = False) -> Callable[[], None]:
    """Return what deletes a leftover; `alone` demands that no workspace is held, for then it may be somebody's at work."""

    def mend() -> None:
        folder = scene.repository.ours / "leases"
        for name in names_in(folder) if alone else ():
            if owner := leases.holder(folder / name):
                raise WorkspaceBusy(f"{owner} is at work in this repository", hint="try again when it has finished")
        if not delete(path):
            raise EnvironmentProblem(f"{printable(path)!r} cannot be deleted", hint="check permissions there")

    return mend


def _newest(path: str) -> float:
    """Return when something was last written below a path; now, if it goes away meanwhile."""
    try:
        times = [os.lstat(path).st_mtime]
        times += [os.lstat(os.path.join(where, name)).st_mtime for where, _, names in os.walk(path) for name in names]
        return max(times)
    except OSError:
        return float("inf")


def _size(path: str) -> int:
    places = [path, *(os.path.join(where, name) for where, _, names in os.walk(path) for name in names)]
    return sum(os.lstat(place).st_size for place in places if not os.path.isdir(place) or os.path.islink(place))
