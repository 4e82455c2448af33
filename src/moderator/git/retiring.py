"""Retire a worktree whole, and only if nothing is lost.

The tree is looked at; what is in no commit is rescued, or the removal refused; the tree is renamed into the trash and looked
at once more where nobody works in it any longer; then its entry follows.  Nothing is deleted here.  `--force`, `worktree prune`
and `gc` are never used.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from moderator.errors import PersonNeeded, WouldLoseWork, to_type
from moderator.git.contents import IGNORED, Contents, Worktree, printable
from moderator.git.entries import (
    entry_dir,
    is_missing,
    names,
    person_lock,
    person_lock_in,
    points_at,
    require_home,
    worktree_of,
)
from moderator.git.mounts import mounts_in
from moderator.git.nested import is_untouched, refuse_nested
from moderator.git.registry import Record
from moderator.git.removals import Removals
from moderator.git.repository import Repository
from moderator.git.rescuing import Rescuable, make_rescue, sort_out
from moderator.git.room import Size
from moderator.git.survey import Seen, Watch, stamp
from moderator.git.trash import (
    enter_again,
    into_trash,
    retire_entry,
    retired_of,
    tidy_trash_beside,
    trash_of,
)
from moderator.git.unsaved import Unsaved, look, look_again, notes_of
from moderator.git.users import processes_in
from moderator.git.values import Keeping, Removal
from moderator.git.walking import Stamp
from moderator.opening import content

_DAY = 86400.0  # seconds
_GLANCE = 1.0  # seconds that a look at a workspace may take
_YOUNG = 0.06  # seconds until a watch can tell what was written before it
_LOOKS = 3  # at a workspace with repositories inside, until nothing changes meanwhile

_Notes = dict[str, tuple[Stamp, bytes]]
"""What an administrative directory says, by file: stamps and digests."""


@dataclass(frozen=True)
class Wish:
    """What a removal is to do.

    `rescue`: what is in no commit is rescued first, otherwise it refuses.  `reason` is told with what is kept.  `frees`: the
    ref goes too, so the rescue must hold what it held.  `keeps_ignored`: what git ignores stays in the tree, which is to be used
    again or else stays in the trash, so it need not be rescued and is no reason to refuse.
    """

    rescue: bool = False
    reason: str = "removed"
    frees: bool = False
    keeps_ignored: bool = False
    keeping: Keeping = field(default_factory=Keeping)


@dataclass(frozen=True)
class Retired:
    """A removal; with what was seen in the tree on the way, where that can be relied on later, and how large that was."""

    removal: Removal
    seen: Seen | None = None
    size: Size | None = None


def undo_retiring(record: Record) -> None:
    """Put the tree back where it was, if `retire` had renamed it away and nothing has taken its place.

    Otherwise it stays in the trash, and `require_back` says so.
    """
    trash = trash_of(record)
    if os.path.isdir(trash) and is_missing(record):
        os.rename(trash, record.path)  # also onto an empty directory
    tidy_trash(record)


def require_back(record: Record) -> None:
    """Raise PersonNeeded if the tree is in the trash still, because something else stands where it was."""
    if os.path.isdir(trash := trash_of(record)):
        raise PersonNeeded(
            f"something else stands at {printable(record.path)!r}, so the workspace of task {record.task_id!r} cannot go back",
            hint=f"it is in {printable(trash)}, whole; move away what is in its place, and try again",
        )


def tidy_trash(record: Record) -> None:
    """Take the folder of the trash away if nothing is in it."""
    tidy_trash_beside(record.path)


def retire(repository: Repository, removals: Removals, record: Record, wish: Wish) -> Retired:
    """Move the record's worktree into the trash, with nothing lost, and write down what was removed.

    Raises WouldLoseWork with everything that would be lost, PersonNeeded if the worktree is not as we made it or is locked.
    """
    entry = entry_dir(repository, record)
    unsaved, notes, watch = _watched_look(repository, record, wish)
    before = _Look.at(worktree_of(repository, record), unsaved, notes)
    kept = _keep(repository, record, worktree_of(repository, record), unsaved, wish)
    trash = into_trash(record)
    try:
        # From here on nobody should write: what is younger was written by a straggler, whenever it was noticed.
        renamed_at = os.lstat(trash).st_ctime
        there, held = Worktree(trash, entry), _held_by(record, wish)
        again = look_again(repository, there, held, unsaved, watch) if watch else None
        if again is None:
            if unsaved.nested:  # which cannot be asked any longer: they find their way home by where the tree was
                raise _written_to(record)
            again = look(repository, there, held, submodules=False)
        if busy := _at_work_in(trash):
            raise _worked_in(record, busy)
        if not before.holds(_Look.at(there, again, _notes(entry))):
            if not wish.rescue:  # otherwise what was found is held already, and is not what somebody just wrote
                _refuse_loss(record, again.findings, wish)
            raise _written_to(record)
        if person_lock(repository, record):
            _refuse_unless_ours(repository, record, entry)
        removal = _removal(repository, record, wish, kept, unsaved.contents)
        removal = replace(removal, renamed_at=renamed_at, modes=unsaved.modes)
        removals.write(removal, record)
        try:
            retire_entry(repository, record, entry)
            if reason := person_lock_in(retired_of(repository, record)):  # typed in this very moment
                enter_again(repository, record)
                raise _locked_by_person(record, reason)
        except BaseException:
            removals.drop(removal.id)
            raise
    except BaseException:
        undo_retiring(record)
        raise
    seen = Seen(again.survey, watch) if watch and again.survey else None
    return Retired(removal, seen, Size(again.survey.size, len(again.survey.stamps)) if again.survey else None)


def _watched_look(repository: Repository, record: Record, wish: Wish) -> tuple[Unsaved, _Notes, Watch | None]:
    """Return what `check_retirement` does, what the entry noted before, and a watch if nothing was written since that began.

    A repository inside the tree cannot be asked again when that is renamed, so it is waited for until nothing is.
    """
    entry = entry_dir(repository, record)
    _let_become_old(os.path.join(entry, "index"))
    for _ in range(_LOOKS):
        watch = Watch.begin(os.path.dirname(record.path))
        notes = _notes(entry)
        unsaved = check_retirement(repository, record, wish)
        stamps = unsaved.survey.stamps.values() if unsaved.survey else ()
        steady = watch.covers(stamps)
        if steady or not unsaved.nested:
            return unsaved, notes, watch if steady else None
        watch.pause(stamps)
    raise _written_to(record)


def _let_become_old(index: str) -> None:
    """Wait, a moment at most, if somebody has just committed: what is as young as a look has to be looked at twice in full."""
    with contextlib.suppress(OSError):
        age = time.time() - os.stat(index).st_mtime
        if 0 <= age < _YOUNG:
            time.sleep(_YOUNG - age)


def _written_to(record: Record) -> WouldLoseWork:
    return WouldLoseWork(
        f"the workspace of task {record.task_id!r} changed while it was being removed",
        ["something writes in it"],
        hint="end what works there, and try again",
    )


def check_retirement(repository: Repository, record: Record, wish: Wish, measure: bool = False) -> Unsaved:
    """Return what the worktree holds that is in no commit; raise if it may not be removed.

    Not if it is not ours, locked, worked in, holds a repository with work of its own, or, without a rescue, anything unsaved.
    """
    _refuse_unless_ours(repository, record, entry_dir(repository, record))
    worktree = worktree_of(repository, record)
    unsaved = look(repository, worktree, _held_by(record, wish), measure=measure)
    told = _without_untouched(worktree, unsaved).findings
    findings = [one for one in told if not (wish.keeps_ignored and one.startswith(IGNORED))]
    _refuse_loss(record, unsaved.contents.warnings if wish.rescue else findings, wish)
    if unsaved.nested:
        refuse_nested(repository, record, worktree, unsaved)
    return unsaved


def _without_untouched(worktree: Worktree, unsaved: Unsaved) -> Unsaved:
    """Return what would be gone, without the submodules that we checked out and that can be had again as they are."""
    return replace(unsaved, nested=tuple(path for path in unsaved.nested if not is_untouched(worktree, path)))


def foreseen(repository: Repository, record: Record, wish: Wish) -> Unsaved:
    """Return what a removal would find, what it would leave to the trash, and the size; raise what it would raise."""
    if is_missing(record):
        with _looked_at_missing(repository, record, wish) as (_, unsaved):
            return unsaved
    unsaved = check_retirement(repository, record, wish, measure=True)
    unsaved = _without_untouched(worktree_of(repository, record), unsaved)
    if not wish.rescue:
        return unsaved
    sorted_out = sort_out(worktree_of(repository, record), unsaved, wish.keeping.largest_file)
    return replace(unsaved, left=sorted_out.left)


def snapshot(repository: Repository, record: Record, wish: Wish, worktree: Worktree | None = None) -> str | None:
    """Rescue what the worktree holds and leave it as it is; return the rescue's id, None if all is in commits.

    `worktree` is for one that is not at the record's place.
    """
    worktree = worktree or worktree_of(repository, record)
    unsaved = look(repository, worktree, None)
    _refuse_loss(record, unsaved.contents.warnings, wish)
    if not unsaved.is_rescuable:
        return None
    sorted_out = sort_out(worktree, unsaved, wish.keeping.largest_file)
    tip = repository.commit_of(record.ref)
    return make_rescue(repository, record, worktree, unsaved, sorted_out, wish.reason, tip)


def retire_missing(repository: Repository, removals: Removals, record: Record, wish: Wish) -> Retired:
    """Remove the entry of a worktree whose directory somebody deleted, if nothing only the entry knows is lost."""
    entry = entry_dir(repository, record)
    kept = _Kept()
    with _looked_at_missing(repository, record, wish) as (worktree, unsaved):
        if unsaved.is_rescuable or (os.path.isdir(entry) and wish.frees and _only_by_its_ref(repository, record)):
            tip, nothing = repository.commit_of(record.ref), Rescuable((), (), (), ())
            made = make_rescue(repository, record, worktree, unsaved, nothing, wish.reason, tip, missing=True)
            kept = _Kept(made)
    removal = _removal(repository, record, wish, kept, unsaved.contents)
    removals.write(removal, record)
    if os.path.isdir(entry):
        try:
            retire_entry(repository, record, entry)
        except BaseException:
            removals.drop(removal.id)
            raise
    with contextlib.suppress(OSError):
        os.rmdir(record.path)
    return Retired(removal)


@contextlib.contextmanager
def _looked_at_missing(repository: Repository, record: Record, wish: Wish) -> Iterator[tuple[Worktree, Unsaved]]:
    """Look at what is left of a worktree whose directory somebody deleted; raise what keeps it from being removed.

    What is given stands in an empty directory, for as long as the `with`.
    """
    require_home(record)
    entry = entry_dir(repository, record)
    with tempfile.TemporaryDirectory(prefix="moderator-") as folder:
        worktree, unsaved = Worktree(folder, entry), Unsaved.nothing()
        if os.path.isdir(entry):
            _refuse_moved(record, entry)
            if reason := person_lock(repository, record):
                raise _locked_by_person(record, reason)
            unsaved = look(repository, worktree, _held_by(record, wish))
            # With no tree to look at, every file counts as deleted; what matters is staged content and commits.
            unsaved = replace(unsaved, contents=replace(unsaved.contents, modified=[]), hidden=())
            if not wish.rescue:
                _refuse_loss(record, unsaved.findings, wish)
            if unsaved.nested:
                refuse_nested(repository, record, worktree, unsaved)
        yield worktree, unsaved


def _refuse_moved(record: Record, entry: str) -> None:
    """Raise PersonNeeded if the tree is not gone but somewhere else."""
    home = os.path.dirname(record.path)
    beside = (os.path.join(home, name) for name in os.listdir(home))
    places: list[tuple[str, tuple[str, ...]]] = [
        (path, ("mv", path)) for path in beside if path != record.path and points_at(path, entry)
    ]
    with contextlib.suppress(OSError):
        named = os.path.dirname(os.path.join(entry, os.fsdecode(content(os.path.join(entry, "gitdir")).strip())))
        if os.path.realpath(named) != os.path.realpath(record.path) and points_at(named, entry):
            # git moved it, and only git moves it back with its entry; twice --force: it is locked, by us.
            places.insert(0, (named, ("git", "worktree", "move", "--force", "--force", named)))
    if places:
        place, back = places[0]
        raise PersonNeeded(
            f"the worktree of task {record.task_id!r} was moved to {printable(place)!r}",
            hint=f"move it back ({to_type(*back, record.path)}), and try again",
        )


@dataclass(frozen=True)
class _Kept:
    """What a removal keeps besides commits on refs: a rescue, and files for which there is only the trash."""

    rescue: str | None = None
    left: tuple[str, ...] = ()


def _keep(repository: Repository, record: Record, worktree: Worktree, unsaved: Unsaved, wish: Wish) -> _Kept:
    if not wish.rescue:
        return _Kept(left=tuple(unsaved.ignored) if wish.keeps_ignored else ())
    sorted_out = sort_out(worktree, unsaved, wish.keeping.largest_file)
    unborn = not unsaved.contents.head  # which only a rescue can tell
    if not (unsaved.is_rescuable or unborn or sorted_out.left or (wish.frees and _only_by_its_ref(repository, record))):
        return _Kept()
    tip = repository.commit_of(record.ref)
    made = make_rescue(repository, record, worktree, unsaved, sorted_out, wish.reason, tip)
    return _Kept(made, sorted_out.left)


def _only_by_its_ref(repository: Repository, record: Record) -> bool:
    """Whether commits would be lost with the ref of a workspace."""
    if repository.commit_of(record.ref) is None:
        return False
    others = repository.git(
        "rev-list", "--max-count=1", record.ref, "--not", f"--exclude={record.ref}", "--glob=refs/*", "--"
    )
    return bool(others.text)


def _removal(
    repository: Repository, record: Record, wish: Wish, kept: _Kept, contents: Contents | None = None
) -> Removal:
    """Return what is written down of a removal; `contents` says where the HEAD of its worktree was."""
    now, tip = time.time(), repository.commit_of(record.ref)
    return Removal(
        id=record.mark or record.token[:16],
        task_id=record.task_id,
        branch=record.branch,
        path=record.path,
        tip=tip or record.base or None,
        removed_at=now,
        reason=wish.reason,
        rescue=kept.rescue,
        left=kept.left,
        kept_until=now + wish.keeping.days * _DAY if kept.left else None,
        set_aside=wish.frees,
        head=(contents.head or None) if contents else None,
        head_ref=f"refs/heads/{contents.branch}" if contents and contents.branch else "",
        branch_missing=bool(record.branch) and tip is None,
    )


def removal_without_tree(repository: Repository, record: Record, wish: Wish) -> Removal:
    """Return what is written down of a workspace that had no tree of its own."""
    return _removal(repository, record, wish, _Kept())


@dataclass(frozen=True)
class _Look:
    """What two looks at a tree must agree in: the paths, their stamps, and what the administrative files say.

    `named` are the objects that nothing else names: a second look may find fewer, for the rescue names them by then.
    """

    unsaved: Unsaved
    stamps: tuple[tuple[int, ...], ...]
    notes: _Notes
    named: frozenset[str]

    @classmethod
    def at(cls, worktree: Worktree, unsaved: Unsaved, notes: _Notes) -> _Look:
        contents = unsaved.contents
        modified = [path for path in contents.modified if path not in contents.gitlinks]
        plain = replace(contents, modified=modified, gitlinks=set(), became_repositories=[])
        paths = [*contents.uncommitted, *contents.ignored, *unsaved.hidden, *unsaved.converted, *unsaved.special]
        return cls(
            replace(unsaved, contents=plain, objects={}, size=None),
            tuple(_stamp(os.path.join(worktree.tree, path)) for path in paths if path not in contents.gitlinks),
            notes,
            frozenset(name for names in unsaved.objects.values() for name in names),
        )

    def holds(self, later: _Look) -> bool:
        """Whether a later look found nothing that this one had not."""
        return replace(later, named=self.named) == self and later.named <= self.named


def _notes(git_dir: str) -> _Notes:
    """Note what an administrative directory says.

    By stamps too, and before the first look: an index that is written and written back meanwhile is another one.
    """
    found: _Notes = {}
    for name in filter(_is_told, notes_of(git_dir)):
        path = os.path.join(git_dir, name)
        with contextlib.suppress(OSError):
            found[name] = stamp(path), _digest(path)
    return found


def _is_told(note: str) -> bool:
    # `git gc` writes the logs anew, and every reader touches the shared part of a split index; what logs name is compared.
    return not note.startswith(("logs" + os.sep, "sharedindex."))


def _digest(path: str) -> bytes:
    try:
        if os.path.islink(path):
            return os.fsencode(os.readlink(path))
        return hashlib.sha256(content(path)).digest()
    except OSError:
        return b""


def _stamp(path: str) -> tuple[int, ...]:
    try:
        found = os.lstat(path)
    except OSError:
        return ()
    return (found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _held_by(record: Record, wish: Wish) -> str | None:
    """Return the ref whose log may be trusted to stay; a rescue holds on its own what only a log names."""
    return None if wish.rescue else record.ref


def _refuse_loss(record: Record, findings: list[str], wish: Wish) -> None:
    if not findings:
        return
    hint = f"keep it aside and remove the workspace: {to_type('moderator', 'clean', record.task_id)}"
    if wish.rescue:
        hint = f"make it readable ({to_type('chmod', '-R', 'u+rX', record.path)}), and try again"
    elif all(finding.startswith(IGNORED) for finding in findings):
        hint += f"\nor, if these can be made again, delete them: {to_type('git', '-C', record.path, 'clean', '-fdX')}"
    raise WouldLoseWork(
        f"removing the workspace of task {record.task_id!r} would lose work in {printable(record.path)!r}",
        findings,
        hint=hint,
    )


def _refuse_unless_ours(repository: Repository, record: Record, entry: str) -> None:
    shown = printable(record.path)
    if reason := person_lock(repository, record):
        raise _locked_by_person(record, reason)
    if os.path.islink(record.path) or os.path.islink(os.path.dirname(record.path)):
        raise PersonNeeded(f"{shown!r} has become a symbolic link", hint="look where it leads; nothing was removed")
    if os.path.realpath(record.path) == repository.main_top:
        raise PersonNeeded(f"{shown!r} is the main worktree", hint="nothing was removed")
    if not points_at(record.path, entry) or not names(entry, record.path):
        raise PersonNeeded(
            f"{shown!r} and its entry in the repository do not point at each other, so it may be somebody else's",
            hint=f"look at {shown}/.git; git worktree repair mends a moved worktree, moderator doctor explains",
        )
    if mounted := mounts_in(record.path):
        raise PersonNeeded(
            f"something is mounted in the workspace of task {record.task_id!r}: {printable(mounted[0])}",
            hint=f"its files are somebody else's; {to_type('umount', mounted[0])}, and try again",
        )
    if busy := _at_work_in(record.path):
        raise _worked_in(record, busy)


def _worked_in(record: Record, busy: list[int]) -> WouldLoseWork:
    return WouldLoseWork(
        f"processes work in the workspace of task {record.task_id!r}: {', '.join(map(str, busy))}",
        [f"process {pid} works in it" for pid in busy],
        hint="end them, or leave the directory in that shell, and try again",
    )


def _locked_by_person(record: Record, reason: str) -> PersonNeeded:
    return PersonNeeded(
        f"the worktree of task {record.task_id!r} is locked: {printable(reason)}",
        hint=f"if the reason is gone: {to_type('moderator', 'unlock', record.task_id)}",
    )


def _at_work_in(path: str) -> list[int]:
    """Return the processes that go on working in `path`; somebody who only looks at it, with git, is gone in a moment."""
    deadline = time.monotonic() + _GLANCE
    while (busy := list(processes_in(path))) and time.monotonic() < deadline:
        time.sleep(0.02)
    return busy
