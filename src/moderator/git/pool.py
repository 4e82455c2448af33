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
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from moderator.errors import EnvironmentProblem, ModeratorError, WorkspaceBusy
from moderator.git import leases, worktrees
from moderator.git.branches import create_branch
from moderator.git.contents import Worktree
from moderator.git.entries import ASIDE, RESTORING, entry_dir, files_of_entry, names, new_entry_id
from moderator.git.registry import Record
from moderator.git.repository import Repository
from moderator.git.spares import FOLDER, SPARE, Spare, Spares, closed, conversion_of, opened, place_of
from moderator.git.trash import retired_of, trash_of
from moderator.git.unsaved import settle

_SAME_SECOND = 1.05  # seconds after which git can tell a file that was written before its index from one written after
_DAY = 86400.0  # seconds
_MANY = 2000  # files from which a checkout is worth not waiting for


@dataclass(frozen=True)
class PoolLimits:
    """How many spares there may be ("auto": as many as cores, where a checkout takes long), how old, in days, and how large
    together, in bytes (None: any size).

    `recycle` says which workspaces come back when they are removed: "none"; "pristine", those that are in every path, mode and byte
    what a checkout would be; "keep_ignored", also those in which there is something that git ignores, and whoever gets one of these
    gets that too.
    """

    size: int | str = 0
    days: float = 7.0
    largest: float | None = None
    recycle: str = "none"

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

    def __init__(self, repository: Repository, discard: Callable[[Record], None], limits: PoolLimits) -> None:
        """`discard` takes a half-made worktree away and keeps in the trash what somebody left in it."""
        self._repository = repository
        self._discard = discard
        self.limits = self._limits = limits
        self.spares = Spares(repository)

    # -- handing out ----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def reserved(self, record: Record) -> Iterator[Spare | None]:
        """Hold a spare that can be the record's workspace, its files those of the record's base; None if there is none.

        It is the pool's again at the end of the `with` unless it was handed out.
        """
        if not record.path or not self._repository.takes_written_entries:
            yield None
            return
        home = os.path.dirname(os.path.realpath(record.path))
        with contextlib.ExitStack() as stack:
            for spare in self._in_order(home, record.base):
                mine = stack.enter_context(self._taken(spare))
                if mine is not None and (ready := self._prepared(mine, record.base)):
                    stack.callback(self._close_again, ready)
                    yield ready
                    return
            yield None

    def _close_again(self, spare: Spare) -> None:
        """Give a spare back that was not handed out after all."""
        with contextlib.suppress(OSError, ModeratorError):
            if self.spares.find(spare.entry) is not None and os.path.isdir(spare.path):
                self.spares.write(closed(self._repository, spare))

    def _in_order(self, home: str, commit: str) -> list[Spare]:
        """Return the spares for workspaces in `home`: those of the commit first, then the youngest."""
        found = [spare for spare in self.spares if spare.seal is not None and spare.home == home]
        found = [spare for spare in found if self._limits.keeps_ignored or not spare.keeps_ignored]
        return sorted(found, key=lambda spare: (spare.commit != commit, -spare.made_at))

    @contextlib.contextmanager
    def _taken(self, spare: Spare) -> Iterator[Spare | None]:
        """Hold a spare for oneself, as it now is; None if somebody else has it or had it."""
        try:
            lease = leases.acquire(self.spares.lease_path(spare.entry), "a spare", 0.0)
        except (WorkspaceBusy, EnvironmentProblem):
            yield None
            return
        try:
            now = self.spares.find(spare.entry)
            yield now
            if now is not None and self.spares.find(spare.entry) is None:
                lease.forget()
        finally:
            lease.release()

    def _prepared(self, spare: Spare, commit: str) -> Spare | None:
        """Open a spare and bring its files to those of a commit; None, and it is given up, if it is not fit for that."""
        with contextlib.suppress(OSError, ModeratorError):
            if spare.conversion == conversion_of(self._repository) and not opened(self._repository, spare):
                if spare.commit == commit:
                    return spare
                if not self._attributes_differ(spare.commit, commit):
                    return self._repointed(spare, commit)
        self.give_up(spare)
        return None

    def _attributes_differ(self, one: str, other: str) -> bool:
        """Whether two commits have other attributes: then a file may need other bytes though its content is the same."""
        answer = self._repository.git("diff-tree", "-r", "-z", "--name-only", "--no-renames", one, other)
        return any(os.path.basename(path) == ".gitattributes" for path in answer.fields)

    def _repointed(self, spare: Spare, commit: str) -> Spare:
        """Write the files in which another commit differs.  Raises GitFailed if one of them is not as the spare's commit has it."""
        entry = entry_dir(self._repository, spare.record)
        there = replace(spare, commit=commit, seal=None)
        self.spares.write(there)  # whoever finds it half-way gives it up
        Worktree(spare.path, entry).git("read-tree", "-m", "-u", spare.commit, commit)
        _replace(Path(entry, "HEAD"), commit)
        return there

    def hand_out(self, spare: Spare, record: Record) -> None:
        """Put a spare under a task's name, whose record is claimed and has the spare's entry.

        Until the last step the workspace is not whole: whoever finds it half-way takes it away and makes it anew.
        """
        entry = entry_dir(self._repository, record)
        Path(entry, RESTORING).write_text(record.base)
        if record.branch:
            create_branch(self._repository, record)
        try:
            os.rename(spare.path, record.path)  # also onto the empty directory that its context made
            for name, text in files_of_entry(
                record, f"ref: refs/heads/{record.branch}" if record.branch else record.base
            ):
                if name != "commondir":
                    _replace(Path(entry, name), text)
            settle(entry)
            # First it is no spare any longer, then it is whole: the other way round it could be both after a crash.
            self.spares.drop(spare)
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
        checkouts at once than cores, and none while workspaces are being made in this process.  `stop` is asked between two of
        them.  What cannot be made is told in the status: on a full disk there are fewer.  Raises WorkspaceBusy if another process
        is filling.
        """
        wanted = self.size if size is None else size
        if not self._repository.takes_written_entries:
            return PoolStatus(
                (), wanted, "this repository's worktrees are made by git itself, so there can be no spares"
            )
        home = os.path.realpath(home)
        with leases.held(self.spares.lease_path("pool"), "the pool", 0.0):
            if look:
                self.tidy(home, commit)
            missing = wanted - sum(spare.home == home for spare in self.spares)
            problems = self._make_many(home, commit, missing, stop) if missing > 0 else []
        return PoolStatus(tuple(spare for spare in self.spares if spare.home == home), wanted, "".join(problems[:1]))

    def _make_many(self, home: str, commit: str, missing: int, stop: Callable[[], bool]) -> list[str]:
        """Make spares side by side, until one cannot be made; return why."""
        from concurrent.futures import ThreadPoolExecutor  # costs a tenth of a quick command

        problems: list[str] = []

        def make(_: int) -> None:
            if stop() or problems:
                return
            try:
                self._make(home, commit)
            except (ModeratorError, OSError) as error:
                cause = getattr(error, "cause", "")
                problems.append(f"{error}{f': {cause}' if cause else ''}")

        with ThreadPoolExecutor(min(missing, 2 * (os.cpu_count() or 1))) as threads:
            list(threads.map(make, range(missing)))
        return problems

    def _size(self) -> int:
        return sum(spare.size for spare in self.spares)

    def _make(self, home: str, commit: str) -> None:
        entry = new_entry_id(SPARE)
        spare = Spare(entry, place_of(home, entry), commit, time.time(), conversion_of(self._repository))
        with leases.held(self.spares.lease_path(entry), "a spare", 0.0) as lease:
            self.spares.write(spare)
            try:
                worktrees.publish(self._repository, spare.record, lease, background=True)
                ready = self._sealed(spare)
            except BaseException:
                with contextlib.suppress(ModeratorError, OSError):
                    self._take_away(spare)
                    lease.forget()
                raise
            if self._limits.largest is not None and self._size() + ready.size > self._limits.largest:
                self.give_up(ready)
                raise EnvironmentProblem(
                    f"more than {self._limits.largest / 1e6:g} megabytes of spares are not wanted (pool: max_size)"
                )
            self.spares.write(ready)

    def _sealed(self, spare: Spare) -> Spare:
        """Look at every file of a spare that was just made, and close it."""
        # Files of the very second in which the index was written would be read anew by every look from then on.
        time.sleep(max(0.0, _SAME_SECOND - (time.time() - os.stat(self._index(spare)).st_mtime)))
        if fault := self._fault(spare):
            raise EnvironmentProblem(f"a new worktree is not as its commit: {fault}", hint="moderator doctor")
        return closed(self._repository, replace(spare, size=_bytes_in(spare.path)))

    def _index(self, spare: Spare) -> str:
        return os.path.join(entry_dir(self._repository, spare.record), "index")

    def _fault(self, spare: Spare) -> str:
        """Return in what a spare differs from a fresh checkout, as far as git tells; its index is refreshed by the way."""
        contents = Worktree(spare.path, entry_dir(self._repository, spare.record)).contents(refresh=True)
        found = [*contents.uncommitted, *contents.warnings, *([] if spare.keeps_ignored else contents.ignored)]
        if contents.head != spare.commit or contents.branch is not None:
            found.append("HEAD")
        return ", ".join(found[:3])

    def take_back(self, record: Record, commit: str) -> bool:
        """Make a spare of a removed workspace that lies whole in the trash, all of it in commits; False if it cannot be one.

        Its entry is made anew: nothing of what it remembered comes along but the index.  `commit` is
        where its HEAD was.
        """
        keep_ignored = self._limits.keeps_ignored
        tree, retired = trash_of(record), retired_of(self._repository, record)
        home, entry = os.path.dirname(os.path.realpath(record.path)), new_entry_id(SPARE)
        there = os.path.isdir(tree) and os.path.isdir(retired) and self._repository.takes_written_entries
        if self._limits.recycle == "none" or not there:
            return False
        if sum(spare.home == home for spare in self.spares) >= max(self.size, 1):
            return False
        spare = Spare(
            entry,
            place_of(home, entry),
            commit,
            time.time(),
            conversion_of(self._repository),
            keeps_ignored=keep_ignored,
        )
        with leases.held(self.spares.lease_path(entry), "a spare", 0.0) as lease:
            try:
                self.spares.write(spare)
                worktrees.enter(self._repository, spare.record, tree, os.path.join(retired, "index"))
                if self._fault(spare) or worktrees.is_worn(self._repository, spare.record, only_flags=keep_ignored):
                    raise EnvironmentProblem("it is not as a new one")
                self.spares.write(closed(self._repository, replace(spare, size=_bytes_in(spare.path))))
                return True
            except (ModeratorError, OSError):
                self.give_up(spare)
                lease.forget()
                return False

    def tidy(
        self, home: str | None = None, commit: str | None = None, look: bool = True, days: float | None = None
    ) -> list[Spare]:
        """Give up what is of no use: never finished, too old, of another commit than `commit`, or touched; return those.

        Of every other spare each file is looked at again, unless `look` is False.
        """
        gone = []
        for spare in list(self.spares):
            if home is not None and spare.home != home:
                continue
            with self._taken(spare) as mine:
                if mine is not None and not self._still_good(mine, commit, look, days):
                    self.give_up(mine)
                    gone.append(mine)
        for name in self.spares.broken():
            with contextlib.suppress(OSError):
                (self._repository.ours / "spares" / f"{name}.json").unlink()
        for folder in self._strays(home):
            self._give_up_stray(folder)
        return gone

    def _still_good(self, spare: Spare, commit: str | None, look: bool, days: float | None) -> bool:
        oldest = self._limits.days if days is None else days
        if spare.seal is None or time.time() - spare.made_at > oldest * _DAY:
            return False
        with contextlib.suppress(OSError, ModeratorError):
            if commit is not None and spare.commit != commit:
                return False
            if not look:
                return True
            if spare.conversion != conversion_of(self._repository) or opened(self._repository, spare):
                return False
            if self._fault(spare):
                return False
            self.spares.write(closed(self._repository, spare))
            return True
        return False

    def drain(self) -> list[Spare]:
        """Give up every spare that nobody is making or taking at this moment; return those."""
        gone = []
        for spare in list(self.spares):
            with self._taken(spare) as mine:
                if mine is not None:
                    self.give_up(mine)
                    gone.append(mine)
        for folder in self._strays(None):
            self._give_up_stray(folder)
        return gone

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
        """Whether the main checkout has many files: the header of an index tells how many, gitformat-index(5)."""
        with contextlib.suppress(OSError), open(os.path.join(self._repository.common, "index"), "rb") as index:
            return int.from_bytes(index.read(12)[8:], "big") >= _MANY
        return False

    def give_up(self, spare: Spare) -> None:
        """Take a spare away, which the caller holds.  What somebody left in it stays in the trash for its time."""
        with contextlib.suppress(OSError, ModeratorError):
            self._take_away(spare)

    def _take_away(self, spare: Spare) -> None:
        entry = entry_dir(self._repository, spare.record)
        with contextlib.suppress(FileNotFoundError):
            os.chmod(spare.path, spare.mode or 0o700)
        # An entry that names another tree is somebody's workspace: the spare was handed out, or moved by hand.
        if os.path.lexists(spare.path) or not os.path.isdir(entry) or names(entry, spare.path):
            self._discard(spare.record)
        self.spares.drop(spare)
        with contextlib.suppress(OSError):  # only if it was the last
            os.rmdir(os.path.dirname(spare.path))

    def _strays(self, home: str | None) -> Iterable[str]:
        """Return the trees of spares that no record knows: a crash left them, or the repository was moved."""
        homes = {home} if home else {spare.home for spare in self.spares} | {self._default_home}
        known = {spare.path for spare in self.spares}
        for one in homes:
            with contextlib.suppress(OSError):
                for name in os.listdir(os.path.join(one, FOLDER)):
                    if (place := place_of(one, name)) not in known and name.startswith(f"{SPARE}-"):
                        yield place

    @property
    def _default_home(self) -> str:
        return os.path.realpath(os.path.join(self._repository.default_root, "tasks"))

    def _give_up_stray(self, place: str) -> None:
        """Take away the tree of a spare of which nothing is known; what somebody left in it stays in the trash for its time."""
        entry = os.path.basename(place)
        with leases.held(self.spares.lease_path(entry), "a spare", 0.0) as lease:
            if self.spares.find(entry) is None:
                with contextlib.suppress(OSError, ModeratorError):
                    head = Path(self._repository.common, "worktrees", entry, "HEAD").read_text("ascii").strip()
                    self._take_away(Spare(entry, place, head, 0.0, "", mode=0o700))
                lease.forget()


def _replace(path: Path, text: str) -> None:
    aside = path.with_name(path.name + ASIDE)
    aside.write_bytes(os.fsencode(text) + b"\n")
    os.replace(aside, path)


def _bytes_in(folder: str) -> int:
    total = 0
    for where, _, found in os.walk(folder):
        for name in found:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(where, name)).st_blocks * 512
    return total
