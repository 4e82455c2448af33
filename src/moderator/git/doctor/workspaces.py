"""Each workspace against its record: is the tree there, is the entry, do they belong together, is the branch where it should be.

What a dead process left in the middle is the lifecycle's own affair; here it is only found.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace

from moderator.errors import GitFailed, WorkspaceBusy, to_type
from moderator.git import filters, leases, locking
from moderator.git.branches import checked_out_at
from moderator.git.command import polling
from moderator.git.contents import printable
from moderator.git.doctor import mending
from moderator.git.doctor.findings import INFORMATION, Finding, Symptom, guarded
from moderator.git.doctor.pairs import last_known, look_at_pair
from moderator.git.doctor.scene import Scene, names_in, tree_of
from moderator.git.entries import entry_dir, is_missing, is_whole, names, points_at, worktree_of
from moderator.git.leases import Lease
from moderator.git.lifecycle import Lifecycle
from moderator.git.registry import MAKING, RETIRING, Record
from moderator.git.removals import Removals
from moderator.git.trash import trash_beside


def look_at_workspaces(scene: Scene) -> Iterator[Finding]:
    """Find what is wrong with the workspaces, one after the other."""
    tips = scene.repository.commits_of(sorted({record.ref for record in scene.records}))
    for record in scene.records:
        what = f"the workspace of task {record.task_id!r}"
        yield from guarded(what, _workspace(scene, record, tips.get(record.ref)))


def _workspace(scene: Scene, record: Record, tip: str | None) -> Iterator[Finding]:
    owner, here = scene.registry.holder(record), leases.this_process()
    if owner and owner.host != here.host and owner.boot_id != here.boot_id:
        yield Finding(
            "held-elsewhere",
            f"the workspace of task {record.task_id!r} is held by {owner}, and nobody here can tell whether that still runs",
            f"if that machine is gone: {to_type('moderator', 'unlock', '--abandoned', record.task_id)}",
            severity=INFORMATION,
        )
    if owner and record.state in (MAKING, RETIRING):
        return  # somebody is at it
    symptoms = list(_symptoms(scene, record, tip))
    if owner:
        for symptom in symptoms:
            yield replace(symptom.finding, severity=INFORMATION, why_not=f"{owner} holds the workspace")
    elif symptoms and scene.current(record):
        for symptom in symptoms:
            yield replace(symptom.finding, mend=_under_lease(scene, record, symptom) if symptom.cure else None)
    elif record.path and filters.required(scene.repository.settings):
        yield from _unreadable(scene, record)


def _unreadable(scene: Scene, record: Record) -> Iterator[Finding]:
    """Find out whether git can look into a tree at all: nothing can be rescued from it, or committed, where a filter fails.

    That takes as long as a look into every file, so it is for repositories that have such filters.
    """
    look = ("status", "--porcelain", "-z", "--untracked-files=no", "--ignore-submodules=all")
    try:
        worktree_of(scene.repository, record).git(*look, env=polling())
    except GitFailed as failure:
        if scene.current(record):
            what = f"git cannot tell what has changed in the worktree of task {record.task_id!r}"
            yield Finding("unreadable", f"{what}: {failure.message}", failure.hint or f"it says: {failure.cause}")


def _under_lease(scene: Scene, record: Record, symptom: Symptom) -> Callable[[], None]:
    def mend() -> None:
        what = f"the workspace of task {record.task_id!r}"
        lease = leases.acquire(scene.registry.lease_path(record.key), what)
        try:
            if scene.registry.find(record.task_id) != record:
                raise WorkspaceBusy(f"{what} has changed meanwhile", hint="look again")
            tip = scene.repository.commit_of(record.ref)
            again = [found for found in _symptoms(scene, record, tip) if found.finding.code == symptom.finding.code]
            for found in again:
                if found.cure is None:
                    raise WorkspaceBusy(f"{what} has changed meanwhile", hint="look again")
                found.cure(lease)
        finally:
            lease.release()

    return mend


def _symptoms(scene: Scene, record: Record, tip: str | None) -> Iterator[Symptom]:
    task, clean = f"task {record.task_id!r}", to_type("moderator", "clean", record.task_id)
    if record.state == MAKING:
        yield Symptom(
            Finding(
                "half-made", f"the workspace of {task} is half-made: whoever made it died", "moderator doctor --fix"
            ),
            lambda lease: _recover(scene, record, lease),
        )
        return
    if record.state == RETIRING:
        yield Symptom(
            Finding(
                "half-removed",
                f"the workspace of {task} is half-removed: whoever removed it died",
                "moderator doctor --fix",
            ),
            lambda lease: _recover(scene, record, lease),
        )
        return
    if record.path:
        found = list(_tree_and_entry(scene, record, tip))
        yield from found
        has_branch = record.branch is None or tip is not None
        if not found and not is_whole(scene.repository, record, has_branch) and has_branch:
            yield Symptom(
                Finding(
                    "not-whole",
                    f"the worktree of {task} at {printable(record.path)!r} is not as moderator made it",
                    f"look at it, and at {printable(entry_dir(scene.repository, record))}",
                )
            )
    if record.branch and tip is None and (not record.path or os.path.isdir(entry_dir(scene.repository, record))):
        last = last_known(entry_dir(scene.repository, record)) if record.path else None
        yield Symptom(
            Finding(
                "branch-gone",
                f"the branch {record.branch!r} of {task} is gone",
                f"make it again: {to_type('git', 'branch', record.branch, last or record.base)}, "
                f"or remove what is left: {clean}",
            )
        )


def _recover(scene: Scene, record: Record, lease: Lease) -> None:
    removals = Removals(scene.repository.ours)
    if Lifecycle(scene.repository, scene.registry, removals, scene.keeping).recovered(record) is None:
        lease.forget()


def _tree_and_entry(scene: Scene, record: Record, tip: str | None) -> Iterator[Symptom]:
    entry = entry_dir(scene.repository, record)
    task, shown = f"task {record.task_id!r}", printable(record.path)
    if is_missing(record):
        yield _missing(record, entry)
    elif os.path.islink(record.path) or not os.path.isdir(record.path):
        yield Symptom(
            Finding(
                "tree-replaced",
                f"where the worktree of {task} was, {shown!r}, is something that is no directory",
                f"look at it, and move it away: {to_type('ls', '-ld', record.path)}",
            )
        )
    elif not os.path.lexists(entry):
        yield _entry_gone(scene, record, tip)
    elif not os.path.isdir(entry) or os.path.islink(entry):
        yield Symptom(
            Finding(
                "entry-replaced",
                f"the entry of {task} in the repository, {printable(entry)!r}, is no directory",
                f"look at it, and move it away: {to_type('ls', '-ld', entry)}; then moderator doctor --fix",
            )
        )
    else:
        yield from look_at_pair(scene, record, tip)
        if not os.path.lexists(os.path.join(entry, "locked")):
            yield Symptom(
                Finding(
                    "entry-unlocked",
                    f"the worktree of {task} is not locked, so git worktree prune may take it for gone one day",
                    f"{to_type('moderator', 'unlock', record.task_id)}, or moderator doctor --fix, puts moderator's lock back",
                    severity=INFORMATION,
                ),
                lambda _: _lock_again(scene, record),
            )


def _lock_again(scene: Scene, record: Record) -> None:
    locking.unlock(scene.repository, record)  # where nobody has locked it, that puts our own lock there


def _missing(record: Record, entry: str) -> Symptom:
    task, home = f"task {record.task_id!r}", os.path.dirname(record.path)
    if not os.path.isdir(home):
        return Symptom(
            Finding(
                "home-missing",
                f"the folder of workspaces {printable(home)!r} is not there, so nobody can tell what {task} left",
                "mount it or move it back; if it is really gone, make it again empty: " + to_type("mkdir", "-p", home),
            )
        )
    trash = os.path.basename(trash_beside(record.path))
    siblings = (os.path.join(home, name) for name in names_in(home) if name != trash)
    for place in dict.fromkeys([*filter(None, [tree_of(entry)]), *siblings]):
        if place != record.path and points_at(place, entry):
            known = names(entry, place)  # git moved it, or was told
            back = ("git", "worktree", "move", "--force", "--force") if known else ("mv", "--")
            first = f"{to_type('rmdir', record.path)} && " if os.path.isdir(record.path) else ""
            return Symptom(
                Finding(
                    "tree-moved",
                    f"the worktree of {task} was moved from {printable(record.path)!r} to {printable(place)!r}",
                    f"move it back: {first}{to_type(*back, place, record.path)}",
                )
            )
    return Symptom(
        Finding(
            "tree-missing",
            f"the directory of {task} was deleted or moved away by hand: {printable(record.path)}",
            f"if it was moved, move it back; if not, its commits are on {record.branch or record.result_ref}, and this "
            f"removes the rest: {to_type('moderator', 'clean', record.task_id)}",
        )
    )


def _entry_gone(scene: Scene, record: Record, tip: str | None) -> Symptom:
    entry, task = entry_dir(scene.repository, record), f"task {record.task_id!r}"
    commit = tip if record.branch else tip or record.base
    head = f"ref: {record.ref}" if record.branch else str(commit)
    finding = Finding(
        "entry-gone",
        f"somebody removed the entry of the worktree of {task} from the repository; its files are all there: "
        f"{printable(record.path)}",
        "moderator doctor --fix registers it again; what was staged will be changes that are not staged"
        + ("" if record.branch else ", and commits of the task's own are only in git fsck --lost-found"),
    )
    if not points_at(record.path, entry):
        return Symptom(
            replace(
                finding,
                message=f"{finding.message}.  Its .git file does not name that entry, so it may be somebody else's",
                hint=f"look at it: {to_type('cat', record.path + '/.git')}",
            )
        )
    if commit is None:
        return Symptom(
            replace(
                finding,
                message=f"{finding.message}.  Its branch {record.branch!r} is gone too",
                hint="make the branch again, if you know its last commit (git fsck --lost-found may), otherwise where it "
                f"forked: {to_type('git', 'branch', str(record.branch), record.base)}; then moderator doctor --fix",
            )
        )
    if record.branch and (place := checked_out_at(scene.repository, record.ref)):
        return Symptom(
            replace(
                finding,
                message=f"{finding.message}.  Its branch {record.branch!r} has been checked out in {printable(place)!r}",
                hint="check out another branch there; then moderator doctor --fix",
            )
        )
    if not scene.repository.takes_written_entries:
        return Symptom(
            replace(
                finding, hint="this repository's settings need an entry made by git: copy the files you want to keep"
            )
        )
    return Symptom(finding, lambda _: mending.register_again(scene.repository, record, head, str(commit)))
