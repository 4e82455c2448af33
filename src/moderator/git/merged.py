"""Whether the work of workspaces has reached another branch, however it was merged there.

Somebody may delete a workspace, or even a branch, because of what is said here, so a doubt is "not merged".  "No commits
yet" is not merged either.  A change that was merged and later reverted is: it is in the history, so nothing is lost.

What proves it is found by `evidence`; this module must not know how.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from moderator.errors import PersonNeeded, UnknownRevision, to_type
from moderator.git.branches import delete_ref
from moderator.git.evidence import (
    ANCESTRY,
    REAL_HISTORY,
    SAME_TREE,
    Evidence,
    find_evidence,
    without_commits_of_their_own,
)
from moderator.git.registry import Record
from moderator.git.repository import Repository

_NOTHING_YET = "no commits yet is not merged"


@dataclass(frozen=True)
class Merged:
    """The work is in the history of `branch`, whose full name is `ref`.

    `how` is "ancestry", "same tree" or "patch"; `commit` is the commit there that shows it (of a rebase merge the newest),
    `tip` is the newest commit of the work that was looked at.
    """

    how: str
    commit: str
    branch: str
    ref: str
    tip: str

    def __str__(self) -> str:
        if self.how == ANCESTRY:
            return f"merged into {self.branch}"
        by = "with the same tree as" if self.how == SAME_TREE else "by the same change as"
        return f"merged into {self.branch} {by} {self.commit[:12]}"


@dataclass(frozen=True)
class NotMerged:
    """The work is not known to be merged; `why` says so in words.  `nothing_yet`: there are no commits to merge."""

    why: str
    nothing_yet: bool = False

    def __str__(self) -> str:
        return self.why


def find_merged(
    repository: Repository, records: Iterable[Record], into: str | None = None
) -> dict[str, Merged | NotMerged]:
    """Return for each record, by task id, whether its commits are in its base branch, or in the branch `into`.

    Raises UnknownRevision if `into` is no branch, local or of a remote.
    """
    records = list(records)
    chosen = branch_named(repository, into) if into is not None else None
    targets = {record.task_id: chosen or f"refs/heads/{record.base_branch}" for record in records}
    asked = {name for record in records for name in (record.ref, record.base)} | set(targets.values())
    commits = repository.commits_of(sorted(asked))
    answers: dict[str, Merged | NotMerged] = {}
    groups: dict[str, list[tuple[Record, str]]] = defaultdict(list)
    for record in records:
        target, tip = targets[record.task_id], commits[record.ref]
        if tip is None:
            answers[record.task_id] = _without_tip(record)
        elif tip == record.base:
            answers[record.task_id] = NotMerged(_NOTHING_YET, nothing_yet=True)
        elif target == record.ref:
            answers[record.task_id] = NotMerged(f"{_short(target)} is its own branch")
        elif commits[target] is None:
            answers[record.task_id] = NotMerged(
                f"its base {record.base_branch!r} is no branch here, so nobody can tell"
            )
        else:
            groups[target].append((record, tip))
    for target, members in groups.items():
        found = find_evidence(repository, str(commits[target]), {tip for _, tip in members})
        arrived = [(r.base, tip) for r, tip in members if commits[r.base] and _is_ancestor(found[tip])]
        nothing_added = without_commits_of_their_own(repository, arrived)
        for record, tip in members:
            if (record.base, tip) in nothing_added:
                answers[record.task_id] = NotMerged(_NOTHING_YET, nothing_yet=True)
            elif evidence := found[tip]:
                answers[record.task_id] = Merged(*evidence, _short(target), target, tip)
            else:
                answers[record.task_id] = NotMerged(f"not merged into {_short(target)}")
    return answers


def _is_ancestor(evidence: Evidence) -> bool:
    return evidence is not None and evidence[0] == ANCESTRY


def still_merged(repository: Repository, merged: Merged) -> bool:
    """Whether what showed it is in the branch's history now: for whoever is about to delete because of it."""
    answer = repository.git(
        "merge-base", "--is-ancestor", merged.commit, merged.ref, accept=(0, 1, 128), env=REAL_HISTORY
    )
    return answer.code == 0


def branch_named(repository: Repository, name: str) -> str:
    """Return the full name of a branch, local or of a remote.  Raises UnknownRevision."""
    for ref in (f"refs/heads/{name}", f"refs/remotes/{name}"):
        if "\0" not in name and repository.git("show-ref", "--verify", "--quiet", ref, accept=(0, 1, 128)).code == 0:
            return ref
    raise UnknownRevision(f"{name!r} is no branch of this repository", hint="git branch -a lists them")


def _short(ref: str) -> str:
    return ref.removeprefix("refs/heads/").removeprefix("refs/remotes/")


def _without_tip(record: Record) -> NotMerged:
    if record.branch is None:
        return NotMerged(_NOTHING_YET, nothing_yet=True)
    return NotMerged(f"its branch {record.branch} is gone, so nobody can tell")


def delete_merged_branch(
    repository: Repository, record: Record, merged: Merged, set_aside: Callable[[Record, str], str | None]
) -> str | None:
    """Delete a branch that no worktree is on, if it stands where it was seen to be merged, and is merged still.

    Of a squash or rebase merge the branch holds the commits alone, and its log may hold amended ones: then `set_aside` deletes
    it after rescuing them, and the rescue's id is returned.  Raises PersonNeeded, WorkspaceOccupied if a worktree is on it.
    """
    if repository.commit_of(record.ref) != merged.tip or not still_merged(repository, merged):
        raise PersonNeeded(
            f"the branch {record.branch!r} is not as it was when it was found to be merged, so it stays",
            hint=f"look at it: {to_type('git', 'log', f'{merged.branch}..{record.branch}')}",
        )
    if _held_by_others(repository, record.ref):
        delete_ref(repository, record.ref, merged.tip)
        return None
    return set_aside(record, f"its branch was {merged}")


def _held_by_others(repository: Repository, ref: str) -> bool:
    """Whether other refs reach every commit that a ref or its log names."""
    logged = repository.git("rev-list", "--walk-reflogs", ref, "--", accept=(0, 128), env=REAL_HISTORY)
    if logged.code:
        return False
    named = "\n".join({ref, *logged.text.split()}) + "\n"
    lost = repository.git(
        "rev-list", "--max-count=1", "--stdin", "--not", f"--exclude={ref}", "--glob=refs/*",
        stdin=named.encode("utf-8", "surrogateescape"), accept=(0, 128), env=REAL_HISTORY,
    )  # fmt: skip
    return lost.code == 0 and not lost.text
