"""How far tips are ahead of and behind what they were forked from: of many at once, in two processes instead of two for each.

The stretch of history that matters to all of them begins at a commit that every base has.  `rev-list` tells that stretch with
parents, and what is counted then is counted here, as sets of bits.  (`for-each-ref --format=%(ahead-behind:...)` would
do it only from git 2.41 on, and for one base a call.)  What does not fit in is asked for on its own: a tip that does not descend
from that commit, a stretch so long that reading it costs more than asking.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from moderator.git.repository import Repository

_LONGEST = 50_000  # commits that are read at once: about 5 MB of output, and as much for each set that is kept
_NAMED = 5_000  # commits in one list of arguments, which may be 128 kB to 2 MB long
_ROOT = 1
"""The bit of the commit that every base has."""

Distance = tuple[int, int]
"""How many commits the tip has that the base has not (ahead), and the base's branch that the tip has not (behind)."""


@dataclass(frozen=True)
class Between:
    """A tip, the commit it was forked from, and where the branch that it was forked from is now."""

    tip: str
    base: str
    base_tip: str


def distances(repository: Repository, asked: Iterable[Between], longest: int = _LONGEST) -> dict[Between, Distance]:
    """Return how far ahead and behind each is.  Raises GitFailed if a commit is gone.

    `longest` is how many commits are read at once at most, before git is asked to count them instead.
    """
    wanted = set(asked)
    known = {one: (0, 0) for one in wanted if one.tip == one.base == one.base_tip}
    known |= _counted_together(repository, wanted - set(known), longest)
    one_by_one = _OneByOne(repository)
    return known | {one: one_by_one.distance(one) for one in wanted - set(known)}


class _OneByOne:
    """Starts a process for every two commits that are compared."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._counted: dict[tuple[str, str], int] = {}

    def distance(self, one: Between) -> Distance:
        return self._count(one.base, one.tip), 0 if one.base_tip == one.base else self._count(one.tip, one.base_tip)

    def _count(self, without: str, tip: str) -> int:
        if (without, tip) not in self._counted:
            same = without == tip
            answer = "0" if same else self._repository.git("rev-list", "--count", f"{without}..{tip}").text
            self._counted[without, tip] = int(answer)
        return self._counted[without, tip]


def _counted_together(repository: Repository, asked: set[Between], longest: int) -> dict[Between, Distance]:
    """Return those that can be counted in one stretch of history, or in one for each base branch; {} for one alone."""
    if len(asked) < 2:
        return {}
    root = _common_ancestor(repository, sorted({commit for one in asked for commit in (one.base, one.base_tip)}))
    if root is None:
        branches = {one.base_tip for one in asked}
        groups = [{one for one in asked if one.base_tip == base_tip} for base_tip in sorted(branches)]
        parts = [_counted_together(repository, group, longest) for group in groups] if len(groups) > 1 else []
        return {one: distance for part in parts for one, distance in part.items()}
    named = {commit for one in asked for commit in (one.tip, one.base, one.base_tip)}
    sets = _histories(repository, root, named, longest)
    return {
        one: (
            (sets[one.tip] & ~sets[one.base]).bit_count(),
            (sets[one.base_tip] & ~sets[one.tip]).bit_count() if one.base_tip != one.base else 0,
        )
        for one in asked
        if sets.get(one.tip, 0) & _ROOT  # what is left out of the others' sets, this one has too
    }


def _common_ancestor(repository: Repository, commits: Sequence[str]) -> str | None:
    """Return a commit that is in the history of each, None if there is none."""
    common = commits[0]
    for start in range(1, len(commits), _NAMED):
        some = commits[start : start + _NAMED]
        answer = repository.git("merge-base", "--octopus", common, *some, accept=(0, 1, 128))
        if answer.code:
            return None
        common = answer.text.split("\n")[0]
    return common


def _histories(repository: Repository, root: str, commits: set[str], longest: int) -> dict[str, int]:
    """Return for each commit, as a set of bits, its history without that of `root`, {} if that is too long.

    A commit that has the root in its history has `_ROOT` in its set; one of which nothing is told is not in the answer.
    """
    asked = "".join(f"{commit}\n" for commit in (*sorted(commits), f"^{root}")).encode()
    how = ("--topo-order", "--reverse", "--parents", f"--max-count={longest + 1}")
    lines = [line.split() for line in repository.git("rev-list", *how, "--stdin", stdin=asked).text.splitlines()]
    if len(lines) > longest:
        return {}
    children = Counter(parent for _, *parents in lines for parent in parents)
    sets = {root: _ROOT}
    for place, (commit, *parents) in enumerate(lines, start=1):  # every parent before its children
        mine = _ROOT << place
        for parent in parents:
            mine |= sets.get(parent, 0)
            children[parent] -= 1
            if not children[parent] and parent not in commits:
                sets.pop(parent, None)  # a set is as long as the stretch: only those that are needed are kept
        sets[commit] = mine
    return sets
