"""Lock files that git processes left when they were killed.

git's lock files hold no pid, so age and company tell: older than the grace or than this boot, and nobody at work beside them.
Only those inside entries of ours, and of refs that nobody else writes, are moved aside; for the others a person types the command.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from moderator.errors import WorkspaceBusy, to_type
from moderator.git import leases
from moderator.git.contents import printable
from moderator.git.doctor.findings import INFORMATION, Finding, guarded
from moderator.git.doctor.mending import set_aside
from moderator.git.doctor.scene import Scene, names_in
from moderator.git.entries import entry_dir
from moderator.git.registry import Record
from moderator.git.users import processes_in

_SUFFIX = ".lock"


def look_at_locks(scene: Scene) -> Iterator[Finding]:
    """Find lock files that nobody can be holding any more."""
    for record in scene.records:
        if record.path:
            yield from guarded(f"the locks of task {record.task_id!r}", _of_workspace(scene, record))
    common = scene.repository.common
    shared = [path for name in names_in(common) if _is_lock(path := os.path.join(common, name))]
    refs = os.path.join(common, "refs")
    for path in [*shared, *_below(refs)]:
        if not _is_stale(scene, path):
            continue
        if path.startswith(os.path.join(refs, "moderator", "")):
            yield Finding(
                "lock-stale",
                f"the lock file {printable(path)!r} is old: a git command of ours was killed at it",
                "moderator doctor --fix moves it aside",
                mend=_moving_aside(scene, path),
            )
        else:
            yield Finding(
                "lock-stale",
                f"the lock file {printable(path)!r} is old: git commands that need it will fail until it is gone",
                f"if no git command runs in this repository: {to_type('rm', path)}",
            )


def _of_workspace(scene: Scene, record: Record) -> Iterator[Finding]:
    if scene.registry.holder(record) is None:
        for path in _below(entry_dir(scene.repository, record)):
            yield from _in_workspace(scene, record, path)


def _in_workspace(scene: Scene, record: Record, path: str) -> Iterator[Finding]:
    if not scene.current(record):
        return
    shown, task = printable(path), f"task {record.task_id!r}"
    if _is_stale(scene, path):
        yield Finding(
            "lock-stale",
            f"the lock file {shown!r} of the workspace of {task} is old: git commands there will fail until it is gone",
            "moderator doctor --fix moves it aside, if no process works there",
            mend=_setting_aside(scene, record, path),
        )
    elif os.path.lexists(path):
        yield Finding(
            "lock-young",
            f"the workspace of {task} has a lock file that is not old: a git command may be at work, {shown}",
            "moderator doctor, in a while",
            severity=INFORMATION,
        )


def _setting_aside(scene: Scene, record: Record, path: str) -> Callable[[], None]:
    def mend() -> None:
        what = f"the workspace of task {record.task_id!r}"
        with leases.held(scene.registry.lease_path(record.key), what, patience=0.25):
            if busy := list(processes_in(record.path)):
                raise WorkspaceBusy(
                    f"processes work in it: {', '.join(map(str, busy))}", hint="end them, and try again"
                )
            if scene.registry.find(record.task_id) == record and _is_stale(scene, path):
                set_aside(scene.repository, path, "locks")

    return mend


def _moving_aside(scene: Scene, path: str) -> Callable[[], None]:
    def mend() -> None:
        if _is_stale(scene, path):
            set_aside(scene.repository, path, "locks")

    return mend


def _is_stale(scene: Scene, path: str) -> bool:
    try:
        return scene.is_stale(path)
    except OSError:  # gone meanwhile
        return False


def _is_lock(path: str) -> bool:
    return path.endswith(_SUFFIX) and (os.path.islink(path) or not os.path.isdir(path))


def _below(folder: str) -> Iterator[str]:
    """Yield the lock files below a folder; a nested repository's own (a submodule's) are among them."""
    for where, _, names in os.walk(folder):
        yield from (os.path.join(where, name) for name in sorted(names) if name.endswith(_SUFFIX))
