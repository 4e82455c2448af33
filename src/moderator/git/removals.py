"""What was removed: one record for each removal, so that the last can be undone and nobody forgets what the trash holds.

A record is written before the removal can no longer be taken back by itself, and goes when nothing is left to keep.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from moderator.errors import EnvironmentProblem
from moderator.git import written
from moderator.git.entries import is_in_place
from moderator.git.registry import READY, Record, as_written, sync
from moderator.git.values import Removal
from moderator.opening import content

_VERSION = 1


class Removals:
    """The records under `moderator/removed`, one file each."""

    def __init__(self, ours: Path) -> None:
        self._folder = ours / "removed"
        self._worktrees = ours.parent / "worktrees"
        self.own: set[str] = set()
        """The ids of what was written down here, by this very object."""

    def write(self, removal: Removal, record: Record) -> None:
        """Write a record whole, synced to disk.  Raises EnvironmentProblem."""
        values = {
            "version": _VERSION,
            "removal": asdict(removal),
            "record": as_written(replace(record, state=READY)),
        }
        aside, path = self._folder / f".{removal.id}.new", self._file(removal.id)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with aside.open("wb") as file:
                file.write(json.dumps(values, indent=1).encode("ascii"))
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path)
            sync(self._folder)
            self.own.add(removal.id)
        except OSError as error:
            with contextlib.suppress(OSError):
                aside.unlink()
            raise EnvironmentProblem(
                f"the removal of the workspace of task {removal.task_id!r} could not be written down in {str(self._folder)!r}",
                hint="check permissions and free space there; nothing was removed",
                cause=str(error),
            ) from error

    def find(self, name: str) -> tuple[Removal, Record] | None:
        """Return the removal with this id; None if there is none, or it cannot be read."""
        try:
            values = json.loads(content(self._file(name)))
            if values["version"] != _VERSION:
                return None
            removal, record = values["removal"], values["record"]
            return _removal(removal, name), _of_removal(written.record(record), name)
        except (OSError, *written.UNREADABLE):
            return None

    def __iter__(self) -> Iterator[tuple[Removal, Record]]:
        """Yield what can be read, the oldest first; not what never came to be, or was undone: then its entry is there."""
        yield from (found for found in self.all() if not self.stands(*found))

    def all(self) -> list[tuple[Removal, Record]]:
        """Return everything that can be read, the oldest first."""
        names = [name.removesuffix(".json") for name in self._names() if name.endswith(".json")]
        return sorted(filter(None, map(self.find, names)), key=lambda found: (found[0].removed_at, found[0].id))

    def stands(self, removal: Removal, record: Record) -> bool:
        """Whether the entry of a workspace that was removed is in its place: the removal was not finished, or undone."""
        places = [str(self._worktrees / entry) for entry in (record.entry, removal.returning) if entry]
        return any(is_in_place(place, record) for place in places)

    def drop(self, name: str) -> None:
        self._file(name).unlink(missing_ok=True)

    def unreadable(self) -> list[str]:
        """Return the files that should be records and cannot be read."""
        names = [name.removesuffix(".json") for name in self._names() if name.endswith(".json")]
        return [str(self._file(name)) for name in names if self.find(name) is None]

    def _names(self) -> list[str]:
        try:
            return sorted(os.listdir(self._folder))
        except OSError:
            return []

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.json"


def _removal(values: dict[str, Any], name: str) -> Removal:
    optional = {"kept_until": written.moment, "renamed_at": written.moment, "tip": written.object_id}
    optional |= {"head": written.object_id}
    optional |= {"branch": written.text, "rescue": written.text}
    for field, check in optional.items():
        if values.get(field) is not None:
            check(values[field])
    for field in ("reason", "path", "returning"):
        written.text(values.get(field, ""))
    written.branch(values.get("head_ref", ""))
    if values["id"] != name or os.sep in values.get("returning", ""):
        raise ValueError("it bears another's name")
    known = {
        "removed_at": written.moment(values["removed_at"]),
        "left": written.paths(values["left"]),
        "modes": written.modes(values.get("modes", {})),
    }
    return Removal(**{**values, **known})


def _of_removal(record: Record, name: str) -> Record:
    if name != (record.mark or record.token[:16]):
        raise ValueError("it is of another workspace")
    return record
