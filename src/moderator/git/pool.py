"""A pool of spares: worktrees that are made before anybody waits for one, and handed out by a rename.

What a workspace costs is its checkout; a claim has none.  It takes a spare of the same commit as it is, or of another one and
writes only the files that differ, and puts it under the task's name: tree, entry, branch, HEAD.  It costs the same at any size.
Every file of a spare is looked at with git's own eyes when it is made and when the pool is filled again; what is asked at the claim
is whether anybody has touched it since (`spares`) and whether what decides its bytes is as it was.  One that anybody has touched
is never handed out: what somebody left in it stays in the trash for its time.

Must not know the registry of tasks, nor when it is time to fill.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from moderator import opening
from moderator.errors import EnvironmentProblem, ModeratorError, WorkspaceBusy
from moderator.git import leases, worktrees
from moderator.git.branches import create_branch
from moderator.git.carried import TakenOut, take_out
from moderator.git.checkouts import Checkouts, wear_of
from moderator.git.command import abreast, to_the_end
from moderator.git.contents import Worktree
from moderator.git.entries import (
    ASIDE,
    RESTORING,
    SPARE,
    UNFILTERED,
    entry_dir,
    files_of_entry,
    is_of_another,
    names,
    new_entry_id,
    person_lock_in,
    points_at,
    tree_named_in,
    worktree_of,
)
from moderator.git.exact import files_in_index
from moderator.git.registry import Record
from moderator.git.repository import Repository
from moderator.git.spares import (
    FOLDER,
    Spare,
    Spares,
    can_become,
    closed,
    conversion_of,
    is_name,
    let_in,
    opened,
    place_of,
    why_no_spares,
)
from moderator.git.survey import Seen
from moderator.git.trash import TAKEN_OUT, delete, rename_into, retired_of, tidy_trash_beside, trash_of
from moderator.git.unsaved import settle
from moderator.git.users import processes_using

_SAME_SECOND = 1.05  # seconds after which git can tell a file that was written before its index from one written after
_GLANCE = 0.05  # seconds between looks whether what is waited for is so
_A_LOOK = 0.5  # seconds to wait for a spare that somebody looks at: it costs less than a checkout
_DAY = 86400.0  # seconds
_MANY = 2000  # files from which a checkout is worth not waiting for


@dataclass(frozen=True)
class PoolLimits:
    """How many spares there may be ("auto": as many as cores, where a checkout takes long), how old, in days, and how large
    together, in bytes (None: any size).

    `recycle` says which workspaces come back when they are removed: "none"; "pristine", those that are in every path, mode and byte
    what a checkout would be; "keep_ignored", also those in which there is something that git ignores, and whoever gets one of these
    gets that too.  `refill`: whoever takes a spare outside a run leaves a process of low priority behind that makes another.
    """

    size: int | str = 0
    days: float = 7.0
    largest: float | None = None
    recycle: str = "none"
    refill: bool = False

    @property
    def keeps_ignored(self) -> bool:
        return self.recycle == "keep_ignored"


@dataclass(frozen=True)
class PoolStatus:
    """What is in the pool.  `spares` are ready or being made, `wanted` is how many there should be, `problem` why there are not."""

    spares: tuple[Spare, ...]
    wanted: int
    problem: str = ""

    @property
    def ready(self) -> int:
        return sum(spare.seal is not None for spare in self.spares)


class Pool:
    """The spares of one repository.  Safe to be shared by threads; several processes may use one pool."""

    def __init__(
        self,
        repository: Repository,
        discard: Callable[[Record, bool], None],
        rescue: Callable[[Record], object],
        limits: PoolLimits,
    ) -> None:
        """`discard` takes a worktree away and keeps in the trash the files that somebody left in it.

        Its second argument says whether it may have been left alone for long, so that tracked files count too.  `rescue` holds
        what somebody left in one that a commit can hold.
        """
        self._repository = repository
        self._discard = discard
        self._rescue = rescue
        self._measuring = threading.Lock()
        self._sizes: dict[tuple[str, str], int] = {}
        self._leases: dict[str, leases.Lease] = {}
        self.limits = self._limits = limits
        self.spares = Spares(repository)
        self._checkouts = Checkouts(repository.ours)
        self.came_back = 0

    # -- handing out ----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def reserved(self, record: Record) -> Iterator[Spare | None]:
        """Hold a spare that can be the record's workspace, its files those of the record's base; None if there is none.

        It is the pool's again at the end of the `with` unless it was handed out.
        """
        with contextlib.ExitStack() as stack:
            fits, tried = self._fitting(record), set[str]()
            # Whom somebody else holds he may be claiming, but also only looking at: then it is worth a moment.
            for patience in (0.0, _A_LOOK):
                for spare in self._in_order(fits, record.base):
                    if spare.entry in tried:
                        continue
                    mine = stack.enter_context(self._taken(spare.entry, patience))
                    if mine is None:
                        continue
                    tried.add(spare.entry)
                    if fits(mine) and (ready := self._prepared(mine, record.base)):
                        stack.callback(self._close_again, ready)
                        yield ready
                        return
            yield None

    def _close_again(self, spare: Spare) -> None:
        """Give a spare back that was not handed out after all."""
        with contextlib.suppress(OSError, ModeratorError):
            if self.spares.find(spare.entry) is not None and os.path.isdir(spare.path):
                Path(entry_dir(self._repository, spare.record), RESTORING).unlink(missing_ok=True)
                self.spares.write(closed(self._repository, spare))

    def _in_order(self, fits: Callable[[Spare], bool], commit: str) -> list[Spare]:
        """Return the spares that fit: those of that very commit first, then the youngest."""
        return sorted(filter(fits, self.spares), key=lambda spare: (spare.commit != commit, -spare.made_at))

    def _fitting(self, record: Record) -> Callable[[Spare], bool]:
        """Return what tells whether a spare can be the record's workspace.

        One that is not fit just now, for the settings are others, is left to whoever fills the pool: a claim has no time for that.
        """
        home = os.path.dirname(os.path.realpath(record.path)) if record.path else ""

        @functools.cache
        def now() -> Repository:  # as it is configured at this moment
            return replace(self._repository)

        @functools.cache
        def conversion() -> str:
            return "" if why_no_spares(now()) else conversion_of(now())

        @functools.cache
        def leads_there(spare: Spare) -> bool:
            with contextlib.suppress(ModeratorError):
                return can_become(now(), spare, record.base)
            return False

        def fits(spare: Spare) -> bool:
            if spare.seal is None or spare.home != home or (spare.keeps_ignored and not self._limits.keeps_ignored):
                return False
            if time.time() - spare.made_at > self._limits.days * _DAY:
                return False
            return spare.conversion == conversion() and leads_there(spare)

        return fits

    @contextlib.contextmanager
    def _taken(self, entry: str, patience: float = 0.0) -> Iterator[Spare | None]:
        """Hold a spare for oneself, as it now is; None if somebody else has it or had it."""
        with contextlib.ExitStack() as stack:
            try:
                self._leases[entry] = stack.enter_context(self._held(entry, patience))
            except (WorkspaceBusy, EnvironmentProblem):
                yield None
                return
            stack.callback(self._leases.pop, entry)
            yield self.spares.find(entry)

    def _prepared(self, spare: Spare, commit: str) -> Spare | None:
        """Open a spare and bring its files to those of a commit; None, and it is given up, if it is not fit for that."""
        with contextlib.suppress(OSError, ModeratorError):
            if not opened(self._repository, spare):
                return spare if spare.commit == commit else self._repointed(spare, commit)
        self.give_up(spare)
        return None

    def _repointed(self, spare: Spare, commit: str) -> Spare:
        """Write the files in which another commit differs.  Raises GitFailed if one of them is not as the spare's commit has it."""
        entry = entry_dir(self._repository, spare.record)
        self.spares.write(replace(spare, towards=commit, seal=None))  # whoever finds it half-way gives it up
        # With the lease: if this process is killed, nobody takes the spare away while git still writes in it.
        held = (self._leases[spare.entry].descriptor,)
        Worktree(spare.path, entry, held).git("read-tree", "-m", "-u", spare.commit, commit)
        _replace(Path(entry, "HEAD"), commit)
        return replace(spare, commit=commit, seal=None)

    def hand_out(self, spare: Spare, record: Record, whole: bool = True) -> None:
        """Put a spare under a task's name, whose record is claimed and has the spare's entry.

        Until the last step the workspace is not whole: whoever finds it half-way takes it away and makes it anew.  With
        `whole=False` it is not either until the caller says so (`worktrees.finish`).
        """
        entry = entry_dir(self._repository, record)
        if record.branch:  # the only step that somebody can be in the way of: until then the spare is whole
            create_branch(self._repository, record)
        try:
            Path(entry, RESTORING).write_text(record.base)
            os.rename(spare.path, record.path)  # also onto the empty directory that its context made
            head = f"ref: refs/heads/{record.branch}" if record.branch else record.base
            for name, text in files_of_entry(self._repository, record, head):
                if name != "commondir":
                    _replace(Path(entry, name), text)
            if self._repository.links_relatively:
                worktrees.point_at(self._repository, record.path, entry)
            settle(entry)
            # First it is no spare any longer, then it is whole: the other way round it could be both after a crash.
            self.spares.drop(spare.entry)
            if whole:
                Path(entry, RESTORING).unlink()
        except OSError as error:
            raise EnvironmentProblem(
                f"a spare could not be made the workspace of task {record.task_id!r}",
                hint="check permissions and space; moderator pool drain gives all spares up",
                cause=str(error),
            ) from error

    # -- making and giving up ---------------------------------------------------------------------------------------

    def fill(
        self,
        home: str,
        commit: str,
        size: int | None = None,
        stop: Callable[[], bool] = lambda: False,
        look: bool = True,
    ) -> PoolStatus:
        """Make spares of a commit for the workspaces in `home` until there are `size` (None: the limit); return what there is then.

        With `look`, those of other commits, that are too old or that somebody touched are given up first.  Never more
        checkouts at once than cores, and none while workspaces are being made in this process.  `stop` is asked all the time: what
        is half made then is taken away.  What cannot be made is told in the status: on a full disk there are fewer.  Raises
        WorkspaceBusy if another process is filling.
        """
        wanted = self.size if size is None else size
        home = os.path.realpath(home)
        problem = why_no_spares(replace(self._repository))
        with leases.held(self.spares.lease_path("pool"), "the pool", 0.0):
            if look:
                self.tidy(home, commit)
            while not problem and self._count(home) < wanted:
                problem = "".join(self._make_many(home, commit, wanted, stop)[:1])
                if stop():
                    break  # otherwise once more: some may have been taken meanwhile
        return PoolStatus(tuple(spare for spare in self.spares if spare.home == home), wanted, problem)

    def _count(self, home: str) -> int:
        return sum(spare.home == home for spare in self.spares)

    def _make_many(self, home: str, commit: str, wanted: int, stop: Callable[[], bool]) -> list[str]:
        """Make spares side by side, until one cannot be made; return why."""
        problems: list[str] = []
        missing = wanted - self._count(home)

        def make(_: int) -> None:
            if stop() or problems:
                return
            try:
                self._make(home, commit, wanted, stop)
            except (ModeratorError, OSError) as error:
                if stop():
                    return  # which is what ended it
                cause = getattr(error, "cause", "")
                problems.append(f"{error}{f': {cause}' if cause else ''}")

        list(abreast(make, range(missing), most=2 * (os.cpu_count() or 1), stopped=stop))
        return problems

    def _size(self) -> int:
        return sum(spare.size for spare in self.spares)

    def _make(self, home: str, commit: str, wanted: int, stop: Callable[[], bool]) -> None:
        self._refuse_larger(max((spare.size for spare in self.spares), default=0))  # as large as the largest, say
        entry, conversion = new_entry_id(SPARE), conversion_of(replace(self._repository))
        spare = Spare(entry, place_of(home, entry), commit, time.time(), conversion)
        with self._held(entry, _A_LOOK) as lease:
            try:
                self.spares.write(spare)
                if self._count(home) > wanted:  # one came back meanwhile
                    self.spares.drop(spare.entry)
                else:
                    worktrees.publish(self._repository, spare.record, lease, background=True)
                    self._enlist(self._sealed(spare, stop))
            except BaseException:
                with contextlib.suppress(ModeratorError, OSError), to_the_end():
                    self._take_away(spare, crashed=False)
                raise

    def _enlist(self, ready: Spare) -> None:
        """Let a closed spare be had.  Raises EnvironmentProblem if all of them would be larger than they may."""
        with self._measuring:
            self._refuse_larger(ready.size)
            self.spares.write(ready)

    def _refuse_larger(self, more: int) -> None:
        largest = self._limits.largest
        if largest is not None and self._size() + more > largest:
            raise EnvironmentProblem(f"more than {largest / 1e6:g} megabytes of spares are not wanted (pool: max_size)")

    def _sealed(self, spare: Spare, stop: Callable[[], bool]) -> Spare:
        """Look at every file of a spare that was just made, and close it."""
        # Files of the very second in which the index was written would be read anew by every look from then on.
        while 0 <= time.time() - os.stat(self._index(spare)).st_mtime < _SAME_SECOND and not stop():
            time.sleep(_GLANCE)
        if fault := self._fault(spare):
            raise EnvironmentProblem(f"a new worktree is not as its commit: {fault}", hint="moderator doctor")
        alike = (spare.commit, spare.conversion)
        if alike not in self._sizes:
            from moderator.git.inspection import bytes_in  # only who fills a pool needs to know

            self._sizes[alike] = bytes_in(spare.path)
        return closed(self._repository, replace(spare, size=self._sizes[alike]))

    def _index(self, spare: Spare) -> str:
        return os.path.join(entry_dir(self._repository, spare.record), "index")

    def _fault(self, spare: Spare, worktree: Worktree | None = None) -> str:
        """Return in what a spare differs from a fresh checkout, as far as git tells; its index is refreshed by the way.

        `worktree` is where it is as long as it is not at its place.
        """
        worktree = worktree or Worktree(spare.path, entry_dir(self._repository, spare.record))
        contents = worktree.contents(refresh=True)
        found = [*contents.uncommitted, *contents.warnings, *([] if spare.keeps_ignored else contents.ignored)]
        if contents.head != spare.commit or contents.branch is not None:
            found.append("HEAD")
        return ", ".join(found[:3])

    def note(self, record: Record, conversion: str) -> None:
        """Note what a workspace is in which nobody has worked yet, so that it can be made a spare again.

        `conversion` is what decided the bytes of its files (`conversion`).
        """
        if self.recycles:
            self._checkouts.note(worktree_of(self._repository, record), record.base, conversion)

    @property
    def recycles(self) -> bool:
        """Whether workspaces may come back."""
        return self._limits.recycle != "none"

    def conversion(self) -> str:
        """Return what decides the bytes of a checkout now; "" where nothing comes back, so that it does not matter."""
        return conversion_of(replace(self._repository)) if self.recycles else ""

    def take_back(self, record: Record, commit: str, since: float, seen: Seen | None = None) -> bool:
        """Make a spare of a removed workspace that lies whole in the trash, all of it in commits; False if it cannot be one.

        Then it lies there as before.  Its entry is made anew: nothing comes along of what git remembered in the old one.  What has
        been touched since the workspace was handed out is written anew (`checkouts`), so it is at the commit that it was at then.
        `commit` is where its HEAD was in the end, `since` the time at which its tree was renamed, `seen` what a look found in it.
        """
        tree, retired = trash_of(record), retired_of(self._repository, record)
        was, whole = self._checkouts.find(record.entry), os.path.isdir(tree) and os.path.isdir(retired)
        now = replace(self._repository)
        if not (self.recycles and whole and was) or why_no_spares(now) or was.conversion != conversion_of(now):
            return False
        if any(os.path.lexists(os.path.join(retired, name)) for name in (UNFILTERED, "modules")):
            return False
        home, entry, keeps = (
            os.path.dirname(os.path.realpath(record.path)),
            new_entry_id(SPARE),
            self._limits.keeps_ignored,
        )
        spare = Spare(entry, place_of(home, entry), was.commit, time.time(), was.conversion, keeps_ignored=keeps)
        carried: TakenOut | None = None
        with self._held(entry, _A_LOOK) as lease:
            try:
                self.spares.write(spare)
                if self._count(home) > max(self.size, 1):
                    raise EnvironmentProblem("the pool is full")
                there = worktrees.enter(now, spare.record, was.index, was.written_at)
                # What was carried is brought anew to whoever gets the spare; so it goes, and nothing may be left of it.
                carried = take_out(tree, retired, replace(there, tree=tree), tree + TAKEN_OUT)
                if carried is None:
                    raise EnvironmentProblem("what was carried into it is not as it was")
                wear = wear_of(now, replace(there, tree=tree), was, commit, keeps, int(since * 1e9), seen)
                self._refuse_larger(wear.size)
                # From here on it is a spare on its way: what is left of it if this process dies is given up like any other.
                rename_into(tree, spare.path)
                worktrees.point_at(now, spare.path, there.git_dir)
                if next(
                    processes_using(spare.path), None
                ):  # who opened something before goes on writing where nobody looks
                    raise EnvironmentProblem("somebody has something open in it")
                wear.mend(replace(there, descriptors=(lease.descriptor,)))
                settle(there.git_dir)
                self._enlist(closed(now, replace(spare, size=wear.size)))
                with self._measuring:
                    self.came_back += 1
            except BaseException as error:
                if carried and os.path.isdir(tree):
                    with contextlib.suppress(OSError):
                        carried.put_back()
                self.give_up(spare)
                if not isinstance(error, (ModeratorError, OSError)):
                    raise
                return False
        delete(carried.folder)
        tidy_trash_beside(record.path)
        return True

    def forget(self, record: Record) -> None:
        """Forget what a workspace was that is gone."""
        self._checkouts.forget(record.entry)

    def tidy(
        self, home: str | None = None, commit: str | None = None, look: bool = True, days: float | None = None
    ) -> list[Spare]:
        """Give up what is of no use: never finished, too old, made under other settings, or touched; return those.

        Every other spare in `home` is brought to `commit`, or given up if that cannot be, and each of its files is looked at
        again, unless `look` is False.
        """
        gone = []
        now = replace(self._repository)  # as it is configured at this moment
        found = list(self.spares)
        conversion = conversion_of(now) if found and not why_no_spares(now) else ""
        for spare in found:
            here = home is None or spare.home == home  # elsewhere another commit may be wanted
            with self._taken(spare.entry) as mine:
                if mine is not None and not self._still_good(mine, now, conversion, commit, look and here, days):
                    self.give_up(self.spares.find(mine.entry) or mine)
                    gone.append(mine)
        self._drop_broken()
        self._forget_gone()
        self._give_up_strays({spare.home for spare in gone} | ({home} if home else set()))
        return gone

    def _still_good(
        self, spare: Spare, now: Repository, conversion: str, commit: str | None, look: bool, days: float | None
    ) -> bool:
        oldest = self._limits.days if days is None else days
        if spare.seal is None or time.time() - spare.made_at > oldest * _DAY:
            return False
        if spare.conversion != conversion or (spare.keeps_ignored and not self._limits.keeps_ignored):
            return False
        if not look:
            return True
        with contextlib.suppress(OSError, ModeratorError):
            wanted = spare.commit if commit is None else commit
            if not can_become(now, spare, wanted) or opened(self._repository, spare):
                return False
            as_wanted = spare if spare.commit == wanted else self._repointed(spare, wanted)
            if self._fault(as_wanted):
                return False
            self.spares.write(closed(self._repository, as_wanted))
            return True
        return False

    def drain(self) -> list[Spare]:
        """Give up every spare that nobody is making or taking at this moment; return those."""
        gone = []
        for spare in list(self.spares):
            with self._taken(spare.entry) as mine:
                if mine is not None:
                    self.give_up(mine)
                    gone.append(mine)
        self._drop_broken()
        self._give_up_strays({spare.home for spare in gone})
        return gone

    def lacks(self, record: Record) -> bool:
        """Whether there are fewer spares than there should and could be where a workspace is, and nobody is making one."""
        home, now = os.path.dirname(os.path.realpath(record.path)), replace(self._repository)
        if why_no_spares(now):
            return False
        conversion = conversion_of(now)
        # Nobody makes one now, so one that is not finished never will be.
        fit = sum(
            spare.home == home and spare.seal is not None and spare.conversion == conversion for spare in self.spares
        )
        too_few = fit < self.size
        return too_few and leases.holder(self.spares.lease_path("pool")) is None

    def status(self) -> PoolStatus:
        """Return what there is; nothing is looked at more closely."""
        return PoolStatus(tuple(self.spares), self.size)

    @property
    def size(self) -> int:
        """How many spares there should be."""
        if self._limits.size == "auto":
            return (os.cpu_count() or 1) if self._checkout_takes_long else 0
        return int(self._limits.size)

    @property
    def _checkout_takes_long(self) -> bool:
        return files_in_index(self._repository.common) >= _MANY

    def give_up(self, spare: Spare) -> None:
        """Take a spare away, which the caller holds.

        What somebody left in it is rescued as far as commits can hold it, and its files stay in the trash for their time.
        """
        with contextlib.suppress(OSError, ModeratorError):
            if spare.seal is not None and opened(self._repository, spare):
                self._rescue_from(spare)
        with contextlib.suppress(OSError, ModeratorError):
            self._take_away(spare)

    def _rescue_from(self, spare: Spare) -> None:
        entry = entry_dir(self._repository, spare.record)
        with contextlib.suppress(OSError, ModeratorError):  # an index of which git makes nothing: the files stay
            self._let_in(spare)
            whole = names(entry, spare.path) and points_at(spare.path, entry)
            if whole and os.path.isfile(os.path.join(entry, "index")) and person_lock_in(entry) is None:
                self._rescue(spare.record)

    def _take_away(self, spare: Spare, crashed: bool = True) -> None:
        entry = entry_dir(self._repository, spare.record)
        own = not os.path.isdir(entry) or names(entry, spare.path)
        if not os.path.lexists(spare.path) and os.path.isdir(moved := place_of(self._default_home, spare.entry)):
            spare = replace(spare, path=moved)  # with the repository, or with the directory beside it
        self._let_in(spare)
        # One of another tree is somebody's workspace, and one that a person locked is his worktree from now on.
        if (own or os.path.lexists(spare.path)) and person_lock_in(entry) is None:
            if crashed:
                self._adopt(spare.path, entry)
            self._discard(self._as_it_is(spare).record, crashed)
        self.spares.drop(spare.entry)
        with contextlib.suppress(OSError):  # only if it was the last
            os.rmdir(os.path.dirname(spare.path))

    def _as_it_is(self, spare: Spare) -> Spare:
        """Return a spare with the commit whose files it has, if it was on its way to another: the index comes last."""
        if spare.towards and spare.seal is None:
            entry = entry_dir(self._repository, spare.record)
            asked = ("diff-index", "--cached", "--quiet", spare.towards)
            if self._repository.git(f"--git-dir={entry}", *asked, accept=(0, 1, 128)).code == 0:
                return replace(spare, commit=spare.towards)
        return spare

    def _let_in(self, spare: Spare) -> None:
        with contextlib.suppress(OSError):
            let_in(spare)

    def _adopt(self, tree: str, entry: str) -> None:
        """Let the tree of a spare name its entry if it names none, or one that is gone: so that it goes as a whole."""
        if os.path.isdir(tree) and not os.path.islink(tree) and _leads_nowhere(tree):
            worktrees.point_at(self._repository, tree, entry)

    def _strays(self, homes: Iterable[str]) -> list[Spare]:
        """Return the spares that no record knows: a crash left them, or somebody took the record, or moved the repository."""
        known, found = {spare.entry for spare in self.spares}, dict[str, str]()
        for home in {*homes, self._default_home}:
            with contextlib.suppress(OSError):
                found |= {name: place_of(home, name) for name in os.listdir(os.path.join(home, FOLDER))}
        entries = os.path.join(self._repository.common, "worktrees")
        with contextlib.suppress(OSError):
            for name in os.listdir(entries):
                tree = (tree_named_in(os.path.join(entries, name)) or "") if is_name(name) else ""
                if os.path.basename(os.path.dirname(tree)) == FOLDER and os.path.basename(tree) == name:
                    found.setdefault(name, tree)
        return [
            Spare(name, tree, self._commit_of_stray(name), 0.0, "", mode=0o700)
            for name, tree in found.items()
            if is_name(name) and name not in known and self._is_ours(name, tree)
        ]

    def _is_ours(self, name: str, tree: str) -> bool:
        """Whether a stray is of this repository: several may have their workspaces in one place."""
        entry = os.path.join(self._repository.common, "worktrees", name)
        if os.path.isdir(entry):
            return not os.path.lexists(tree) or names(entry, tree) or not is_of_another(entry, tree)
        with contextlib.suppress(OSError):  # one that is closed may be another repository's, and is not opened
            return _leads_nowhere(tree) and _pointer(tree).endswith(f"/worktrees/{name}")
        return False

    def _commit_of_stray(self, name: str) -> str:
        """Return the commit whose files a stray should have; if nothing tells, the tree that has none."""
        with contextlib.suppress(OSError):
            head = (
                opening.content(os.path.join(self._repository.common, "worktrees", name, "HEAD"))
                .decode("ascii")
                .strip()
            )
            if self._repository.commit_of(head) == head:
                return head
        return self._repository.git("hash-object", "-t", "tree", "--stdin").text

    @property
    def _default_home(self) -> str:
        return os.path.realpath(os.path.join(self._repository.default_root, "tasks"))

    def _give_up_strays(self, homes: Iterable[str]) -> None:
        """Take away spares of which nothing is known; what somebody left in them stays in the trash for its time."""
        for stray in self._strays(homes):
            # Somebody makes it at this very moment.
            with contextlib.suppress(WorkspaceBusy, EnvironmentProblem), self._held(stray.entry):
                if self.spares.find(stray.entry) is None:
                    self._rescue_from(stray)
                    with contextlib.suppress(OSError):
                        self._take_away(stray)

    def _drop_broken(self) -> None:
        """Forget records of which nothing can be made out, and locks of killed processes; what they were of is a stray then."""
        for name in {*self.spares.broken(), *self.spares.idle_locks()}:
            # Somebody writes it at this very moment, or there is no space for a lock.
            with contextlib.suppress(WorkspaceBusy, EnvironmentProblem, OSError), self._held(name):
                if self.spares.find(name) is None:
                    self.spares.drop(name)

    def _forget_gone(self) -> None:
        """Forget what was noted of workspaces that went by another way than `take_back`."""
        with contextlib.suppress(OSError):
            self._checkouts.tidy(os.listdir(os.path.join(self._repository.common, "worktrees")))

    @contextlib.contextmanager
    def _held(self, entry: str, patience: float = 0.0) -> Iterator[leases.Lease]:
        """Hold a spare, and forget its lock if it has gone meanwhile.  Raises WorkspaceBusy, EnvironmentProblem."""
        with leases.held(self.spares.lease_path(entry), "a spare", patience) as lease:
            try:
                yield lease
            finally:
                if self.spares.find(entry) is None:
                    lease.forget()


def _pointer(tree: str) -> str:
    """Return where the `.git` file of a tree leads, "" if there is none.  Raises OSError."""
    try:
        named = os.fsdecode(opening.content(os.path.join(tree, ".git")).strip().removeprefix(b"gitdir: "))
        return os.path.join(tree, named)
    except FileNotFoundError:
        return ""


def _leads_nowhere(tree: str) -> bool:
    """Whether a tree has no `.git`, or a file that names what is not there.  Raises OSError."""
    pointer = os.path.join(tree, ".git")
    if not os.path.lexists(pointer):
        return True
    return os.path.isfile(pointer) and not os.path.islink(pointer) and not os.path.lexists(_pointer(tree))


def _replace(path: Path, text: str) -> None:
    aside = path.with_name(path.name + ASIDE)
    aside.write_bytes(os.fsencode(text) + b"\n")
    os.replace(aside, path)
