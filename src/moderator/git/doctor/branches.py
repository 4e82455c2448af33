"""Branches that tasks left, and commits that nothing names any more.  All of it is for information; nothing is changed."""

from __future__ import annotations

import os
from collections.abc import Iterator

from moderator.errors import to_type
from moderator.git.contents import printable
from moderator.git.doctor.findings import INFORMATION, Finding
from moderator.git.doctor.scene import Scene, content
from moderator.git.rescues import unreadable_rescues
from moderator.git.rescuing import ROOT

_RESCUE = "moderator: rescue of"
"""How the message of a rescue begins."""
_PARENTS = 4  # of a rescue: HEAD, what was staged, what was untracked, the anchor


def look_at_branches(scene: Scene) -> Iterator[Finding]:
    """Find branches that were made for tasks whose workspaces are gone."""
    known = {record.branch for record in scene.records}
    unknown_tasks = {name.removesuffix(".json") for name in scene.damaged}
    lines = scene.repository.git("for-each-ref", "--format=%(objectname) %(refname:lstrip=2)", "refs/heads").text
    for line in lines.split("\n"):
        tip, _, branch = line.partition(" ")
        _, mark, slug = branch.rpartition("-task-")
        if not mark or branch in known or slug.casefold() in unknown_tasks or (base := _made_at(scene, branch)) is None:
            continue
        ahead = 0 if tip == base else int(scene.repository.git("rev-list", "--count", f"{base}..{tip}").text)
        yield Finding(
            "branch-left",
            f"the branch {printable(branch)!r} has no workspace any more; it has {ahead} commit{'s' if ahead != 1 else ''} "
            "of its task",
            f"once it is merged: {to_type('git', 'branch', '-d', branch)}",
            severity=INFORMATION,
        )

    for ref in unreadable_rescues(scene.repository):
        yield Finding(
            "rescue-unreadable",
            f"{printable(ref)!r} is no rescue that this version can read",
            f"upgrade moderator if a newer one wrote it; otherwise look at it: {to_type('git', 'log', '--stat', ref)}",
        )


def _made_at(scene: Scene, branch: str) -> str | None:
    """Return the commit at which we made a branch, None if its log does not begin with us."""
    log = content(os.path.join(scene.repository.common, "logs", "refs", "heads", branch)) or b""
    who, _, message = log.partition(b"\n")[0].partition(b"\t")
    ours = message.startswith(b"moderator: ") and message.endswith(b" workspace made")
    return who.split(b" ")[1].decode("ascii", "replace") if ours else None


def look_at_objects(scene: Scene) -> Iterator[Finding]:
    """Find commits that nothing names: rescues among them can be named again.  Reads every object's connections."""
    answer = scene.repository.git(
        "fsck", "--connectivity-only", "--unreachable", "--no-dangling", "--no-progress", accept=tuple(range(256))
    )
    lines = answer.text.split("\n")
    bad = [
        line
        for line in [*lines, *answer.err.split("\n")]
        if line.startswith(("missing ", "broken ", "error: ", "fatal: "))
    ]
    if answer.code and bad:
        yield Finding(
            "objects-damaged",
            f"git fsck finds damage: {printable('; '.join(bad[:3]))}",
            "git fsck --full; objects that are missing may still be in another clone",
        )
    commits = [line.split(" ")[2] for line in lines if line.startswith("unreachable commit ")]
    if not commits:
        return
    listed = "\n".join(commits).encode() + b"\n"
    described = scene.repository.git(
        "log", "--no-walk=unsorted", "--stdin", "--format=%H%x00%P%x00%s", stdin=listed
    ).text
    found = [line.split("\0") for line in described.split("\n")]
    rescues = [
        (commit, subject)
        for commit, parents, subject in found
        if len(parents.split()) == _PARENTS and subject.startswith(_RESCUE)
    ]
    for commit, subject in rescues:
        yield Finding(
            "rescue-unreachable",
            f"the rescue {commit[:12]} was dropped, or its ref is lost, and git will delete it one day: {printable(subject)}",
            f"to keep it: {to_type('git', 'update-ref', f'{ROOT}/found/{commit[:12]}', commit)}",
            severity=INFORMATION,
        )
    if rest := sum(not subject.startswith(_RESCUE) for _, _, subject in found):
        yield Finding(
            "dangling-commits",
            f"commits that nothing names: {rest}",
            "git fsck --lost-found lists them",
            severity=INFORMATION,
        )
