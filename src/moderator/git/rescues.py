"""What was rescued: found by its refs, told from what the anchor of each says, dropped when a person says so."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from moderator.errors import UnknownRescue
from moderator.git import written
from moderator.git.exact import DURABLE
from moderator.git.registry import Record
from moderator.git.repository import Repository
from moderator.git.rescuing import DESCRIPTION, ROOT, VERSION
from moderator.git.values import Rescue

ANCHOR = "^4"
"""The anchor is a rescue's fourth parent."""


@dataclass(frozen=True)
class Described:
    """A rescue with everything its anchor says: for whoever restores it."""

    rescue: Rescue
    record: Record
    values: dict[str, Any]


def all_rescues(repository: Repository) -> list[Described]:
    """Return what can be read, the oldest first."""
    listed = repository.git("for-each-ref", "--format=%(objectname) %(refname)", ROOT + "/").text.split("\n")
    refs = [line.split(" ", 1) for line in listed if line]
    if not refs:
        return []
    asked = "".join(f"{commit}{ANCHOR}:{DESCRIPTION}\n" for commit, _ in refs).encode()
    out = repository.git("cat-file", "--batch", stdin=asked).out
    found = []
    for commit, ref in refs:
        header, _, out = out.partition(b"\n")
        words = header.split(b" ")
        if words[-1] == b"missing" or len(words) != 3:
            continue
        size = int(words[2])
        text, out = out[:size], out[size + 1 :]
        if described := _described(text, commit, ref):
            found.append(described)
    return sorted(found, key=lambda one: (one.rescue.created_at, one.rescue.id))


def unreadable_rescues(repository: Repository) -> list[str]:
    """Return the refs under our root that hold something else, or what a newer version wrote."""
    listed = repository.git("for-each-ref", "--format=%(refname)", ROOT + "/").text.split("\n")
    known = {one.rescue.ref for one in all_rescues(repository)}
    return [ref for ref in listed if ref and ref not in known]


def find_rescue(repository: Repository, name: str) -> Described:
    """Return a rescue by its id, the beginning of it or of its last part, or a task id: then its newest.

    Raises UnknownRescue, which names what there is to choose from.
    """
    found = all_rescues(repository)
    wanted = name.removeprefix(ROOT + "/")
    if same := [one for one in found if wanted in (one.rescue.id, one.rescue.commit)]:
        return same[0]
    if of_task := [one for one in found if one.rescue.task_id == name]:
        return of_task[-1]
    begins = [
        one
        for one in found
        if wanted and (one.rescue.id.startswith(wanted) or one.rescue.id.rpartition("/")[2].startswith(wanted))
    ]
    if len(begins) == 1:
        return begins[0]
    if begins:
        raise UnknownRescue(
            f"{name!r} is the beginning of {len(begins)} rescues", hint=f"type more of one: {_ids(begins)}"
        )
    newest = f"the newest are {_ids(found[::-1])}" if found else "nothing has been rescued here"
    raise UnknownRescue(f"no rescue is called {name!r}, and no task of that id has one", hint=newest)


def drop_rescue(repository: Repository, rescue: Rescue) -> None:
    """Delete the ref, if it is still what it was; `gc` takes the rest in its own time."""
    repository.git("update-ref", "--no-deref", "-d", rescue.ref, rescue.commit, settings=DURABLE, repeatable=True)


def _ids(found: Sequence[Described]) -> str:
    return ", ".join(one.rescue.id for one in found[:5]) + (", ..." if len(found) > 5 else "")


def _described(text: bytes, commit: str, ref: str) -> Described | None:
    try:
        values = json.loads(text)
        if values["version"] != VERSION:
            return None
        record = written.record(values["record"])
        for name in ("modes", "folders", "empty"):
            values[name] = written.modes(values.get(name, {}))
        values["refs"] = written.refs(values.get("refs", {}))
        values["written"] = written.paths(values.get("written", ()))
        values["head_ref"] = written.branch(values.get("head_ref", ""))
        kinds = ("staged", "modified", "untracked", "unmerged", "left")
        rescue = Rescue(
            id=ref.removeprefix(ROOT + "/"),
            ref=ref,
            commit=commit,
            task_id=record.task_id,
            level=record.level,
            reason=written.text(values["reason"]),
            created_at=written.moment(values["created_at"]),
            head=written.object_id(values["head"]),
            branch=record.branch,
            tip=values["tip"] and written.object_id(values["tip"]),
            base=record.base,
            base_branch=record.base_branch,
            path=record.path or record.checkout,
            operation=values.get("operation") and written.text(values["operation"]),
            commits=int(values.get("commits", 0)),
            **{name: written.paths(values.get(name, ())) for name in kinds},
        )
    except written.UNREADABLE:
        return None
    return Described(rescue, record, values)
