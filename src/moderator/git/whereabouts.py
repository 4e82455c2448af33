"""What has become of commits that were made earlier: whether anything leads to them still.  Reads only.

Somebody is warned because of what is said here, and nothing is deleted: where git cannot tell, nothing is said.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from moderator.git.evidence import REAL_HISTORY, find_evidence
from moderator.git.repository import Repository


class Whereabouts(Enum):
    """Where the work of a commit is."""

    HELD = "held"
    """A ref, or the HEAD of a worktree, reaches the commit."""
    MERGED = "merged"
    """Nothing reaches it, but what it changed is in the branch that was asked about: it was squashed or rebased."""
    LOOSE = "loose"
    """Nothing reaches it and it is merged nowhere; git will collect it."""
    GONE = "gone"
    """The repository has no such commit."""


def find_whereabouts(repository: Repository, commits: Iterable[str], branch: str) -> dict[str, Whereabouts]:
    """Return where each of these commits is; `branch` is where its work may have been merged.  What git cannot tell is left out."""
    asked = sorted(set(commits))
    there = [commit for commit, found in repository.commits_of(asked).items() if found]
    answers = {commit: Whereabouts.GONE for commit in asked if commit not in there}
    if not there:
        return answers
    answer = repository.git(
        "rev-list", "--stdin", "--not", "--all",
        stdin="".join(f"{commit}\n" for commit in there).encode(), accept=(0, 128), env=REAL_HISTORY,
    )  # fmt: skip
    if answer.code:
        return answers
    loose = set(there) & set(answer.text.split())
    tip = repository.commit_of(f"refs/heads/{branch}") if loose else None
    evidence = find_evidence(repository, tip, loose) if tip else {}
    for commit in there:
        merged = Whereabouts.MERGED if evidence.get(commit) else Whereabouts.LOOSE
        answers[commit] = merged if commit in loose else Whereabouts.HELD
    return answers
