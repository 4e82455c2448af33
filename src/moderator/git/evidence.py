"""What shows that the commits of a tip have arrived on a branch.  Told in this order:

- ancestry: the tip is a commit of the branch (fast-forward, merge commit);
- the same tree: since the fork the branch had exactly the content of the tip (squash merge);
- the same change: since the fork one commit there changed what all commits of the work together changed (squash merge), or
  each commit of the work has one of its own there (rebase merge, cherry-picks).

The same change is: the same files, each with the same content before and after.  Where these files had other changes too,
git's patch ids point to candidates, and a candidate counts only if merging the change into its parent gives exactly its tree:
a patch id alone is blind to white space and to the place in a file.

Reads only.  However many tips there are, git is asked a handful of questions in all.
"""

from __future__ import annotations

import os
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from moderator.git.command import Answer
from moderator.git.repository import Repository

ANCESTRY, SAME_TREE, SAME_CHANGE = "ancestry", "same tree", "patch"
REAL_HISTORY = {"GIT_NO_REPLACE_OBJECTS": "1"}
"""For every look at the history: what a replacement pretends is held by nothing, for `gc` does not follow them."""

_EVERYTHING = ("--no-renames", "--no-relative", "--ignore-submodules=none", "--no-ext-diff", "--no-textconv", "--root")
_NOBODY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "moderator"), ("EMAIL", "moderator@localhost"), ("DATE", "@0 +0000"))
}

Evidence = tuple[str, str] | None
"""How it arrived, and the commit of the branch that shows it (of a rebase merge the newest); None: nothing shows it."""
_Pair = tuple[str, str | None]  # a commit and what it is compared with; None: nothing, for history begins with it
_Change = frozenset[tuple[str, str]]  # of each file that differs: modes and ids before and after, and the path


def find_evidence(repository: Repository, branch_tip: str, tips: set[str]) -> dict[str, Evidence]:
    """Return for each tip what shows that it has arrived on the branch whose newest commit is given."""
    missing = _history(repository, tips, [branch_tip])
    found: dict[str, Evidence] = {tip: None if tip in missing else (ANCESTRY, tip) for tip in tips}
    works = [work for tip in sorted(tips & set(missing)) if (work := _work(repository, missing, branch_tip, tip))]
    if works:
        forks = sorted({work.fork for work in works})
        oldest = repository.git("merge-base", "--octopus", *forks, accept=(0, 1), env=REAL_HISTORY).text.split()
        if since := _history(repository, [branch_tip], oldest[:1]):
            comparison = _Comparison(repository, since, works)
            found |= {work.tip.id: comparison.judge(work) for work in works}
    return found


def without_commits_of_their_own(repository: Repository, pairs: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return those pairs of a base and a tip whose tip is in the base's own history: nothing was added to it."""
    tips: dict[str, set[str]] = defaultdict(set)
    for base, tip in pairs:
        tips[base].add(tip)
    added = {base: _history(repository, those, [base]) for base, those in tips.items()}
    return {(base, tip) for base, those in tips.items() for tip in those if tip not in added[base]}


@dataclass(frozen=True)
class _Node:
    id: str
    tree: str
    parents: tuple[str, ...]

    @property
    def pair(self) -> _Pair:
        return self.id, self.parents[0] if self.parents else None


_Graph = Mapping[str, _Node]


@dataclass(frozen=True)
class _Work:
    """What a tip has and the branch has not: where it forked, and its commits, newest first."""

    tip: _Node
    fork: str
    commits: tuple[_Node, ...]

    @property
    def pair(self) -> _Pair:
        return self.tip.id, self.fork

    @property
    def steps(self) -> tuple[_Node, ...]:
        """The commits, if they are one after the other: a merge among them may hold what none of them does."""
        return self.commits if len(self.commits) > 1 and all(len(node.parents) == 1 for node in self.commits) else ()


def _work(repository: Repository, missing: _Graph, branch_tip: str, tip: str) -> _Work | None:
    """Return what a tip has of its own; None where it has no single fork, so that nothing can be compared."""
    own = _reachable(missing, tip)
    forks = {parent for node in own for parent in node.parents if parent not in missing}
    if len(forks) != 1:  # the branch was merged into it on the way
        answer = repository.git("merge-base", "--all", branch_tip, tip, accept=(0, 1), env=REAL_HISTORY)
        forks = set(answer.text.split())
    return _Work(missing[tip], forks.pop(), own) if len(forks) == 1 else None


class _Comparison:
    """Works beside the history of a branch since the oldest of their forks."""

    def __init__(self, repository: Repository, since: _Graph, works: Sequence[_Work]) -> None:
        self._repository = repository
        self._since = since
        self._before: dict[str, set[str]] = {}
        self._by_tree: dict[str, list[str]] = defaultdict(list)
        for node in reversed(list(since.values())):
            self._by_tree[node.tree].append(node.id)
        self._by_change: dict[_Change, list[str]] = defaultdict(list)
        self._by_paths: dict[frozenset[str], list[str]] = defaultdict(list)
        for commit, change in self._changes(node.pair for node in since.values() if len(node.parents) < 2).items():
            self._by_change[change].append(commit)
            self._by_paths[_paths(change)].append(commit)
        # The same tip has two changes: since the fork, and since its parent.
        whole = [work.pair for work in works]
        steps = {node.id: node.pair for work in works for node in work.steps}.values()
        self._whole, self._steps = self._changes(whole), self._changes(steps)
        self._whole_ids = self._patch_ids(pair for pair in whole if self._is_near(self._whole, pair))
        self._step_ids = self._patch_ids(pair for pair in steps if self._is_near(self._steps, pair))
        near = {_paths(change) for change in (*self._whole.values(), *self._steps.values())}
        candidates = {commit for paths in near for commit in self._by_paths.get(paths, ())}
        asked = (since[commit].pair for commit in candidates if self._whole_ids or self._step_ids)
        self._their_ids = self._patch_ids(asked)

    def judge(self, work: _Work) -> Evidence:
        whole = self._whole.get(work.tip.id)
        if whole is None:  # all of it together changes nothing, so that neither tree nor change proves anything
            return None
        for commit in self._by_tree.get(work.tip.tree, ()):
            if self._is_since(work, commit):
                return SAME_TREE, commit
        if squash := self._twin(work, work.pair, whole, self._whole_ids, ()):
            return SAME_CHANGE, squash
        used: list[str] = []
        for node in work.steps:
            if change := self._steps.get(node.id):  # a rebase drops empty commits
                twin = self._twin(work, node.pair, change, self._step_ids, used)
                if twin is None:
                    return None
                used.append(twin)
        return next(((SAME_CHANGE, commit) for commit in self._since if commit in used), None)

    def _twin(
        self, work: _Work, pair: _Pair, change: _Change, patch_ids: Mapping[str, str], used: Sequence[str]
    ) -> str | None:
        """Return a commit of the branch, since the fork and not used yet, that makes the same change."""
        for commit in self._by_change.get(change, ()):
            if commit not in used and self._is_since(work, commit):
                return commit
        for commit in self._by_paths.get(_paths(change), ()) if pair[0] in patch_ids else ():
            if self._their_ids.get(commit) != patch_ids[pair[0]] or commit in used or not self._is_since(work, commit):
                continue
            if self._gives(pair, self._since[commit]):
                return commit
        return None

    def _is_near(self, changes: Mapping[str, _Change], pair: _Pair) -> bool:
        """Whether a change has no twin at first sight, and something touched the same files: then patches are worth reading."""
        change = changes.get(pair[0], frozenset())
        return change not in self._by_change and _paths(change) in self._by_paths

    def _is_since(self, work: _Work, commit: str) -> bool:
        if work.fork not in self._before:
            self._before[work.fork] = {node.id for node in _reachable(self._since, work.fork)}
        return commit not in self._before[work.fork]

    def _gives(self, pair: _Pair, candidate: _Node) -> bool:
        """Whether the change, merged into the candidate's parent, gives exactly the candidate's tree."""
        commit, before = pair
        if before is None or not candidate.parents:
            return False
        objects = os.path.join(self._repository.common, "objects")
        quoted = objects.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        with tempfile.TemporaryDirectory(
            prefix="moderator-"
        ) as folder:  # so that a look leaves nothing in the repository
            env = {**_NOBODY, "GIT_OBJECT_DIRECTORY": folder, "GIT_ALTERNATE_OBJECT_DIRECTORIES": f'"{quoted}"'}
            parent = f"{candidate.parents[0]}^{{tree}}"
            made = self._git("commit-tree", parent, "-p", before, env=env, accept=(0, 1, 128))
            if made.code:
                return False
            merged = self._git("merge-tree", "--write-tree", made.text, commit, env=env, accept=(0, 1, 128))
        return merged.code == 0 and merged.text.split("\n")[0] == candidate.tree

    def _changes(self, pairs: Iterable[_Pair]) -> dict[str, _Change]:
        """Return what each commit changed, by its id; one that changed nothing is not there."""
        if not (asked := _lines(pairs)):
            return {}
        answer = self._git("diff-tree", "--stdin", "-r", "--raw", "-z", "--no-abbrev", *_EVERYTHING, stdin=asked)
        found: dict[str, list[tuple[str, str]]] = {}
        fields = iter(answer.fields)
        commit = ""
        for field in fields:
            if field.startswith(":"):
                found[commit].append((field, next(fields)))
            else:
                commit = field
                found[commit] = []
        return {commit: frozenset(change) for commit, change in found.items()}

    def _patch_ids(self, pairs: Iterable[_Pair]) -> dict[str, str]:
        """Return git's patch ids, by commit.  In full ids, or a few digits would tell two changes of a binary file apart."""
        if not (asked := _lines(pairs)):
            return {}
        patches = self._git("diff-tree", "--stdin", "-r", "-p", "--full-index", *_EVERYTHING, stdin=asked)
        lines = self._git("patch-id", "--stable", stdin=patches.out).text.splitlines()
        return {commit: patch_id for patch_id, commit in (line.split() for line in lines)}

    def _git(self, *arguments: str, env: Mapping[str, str] | None = None, **options: object) -> Answer:
        return self._repository.git(*arguments, env={**REAL_HISTORY, **(env or {})}, **options)


def _lines(pairs: Iterable[_Pair]) -> bytes:
    return "".join(f"{commit} {before}\n" if before else f"{commit}\n" for commit, before in pairs).encode()


def _paths(change: _Change) -> frozenset[str]:
    return frozenset(path for _, path in change)


def _history(repository: Repository, tips: Iterable[str], without: Iterable[str]) -> dict[str, _Node]:
    """Return the commits that `tips` reach and `without` do not, newest first."""
    asked = "".join(f"{tip}\n" for tip in sorted(tips)) + "".join(f"^{commit}\n" for commit in without)
    answer = repository.git(
        "rev-list", "--no-commit-header", "--topo-order", "--format=%H %T %P", "--stdin",
        stdin=asked.encode(), env=REAL_HISTORY,
    )  # fmt: skip
    nodes = [
        _Node(words[0], words[1], tuple(words[2:])) for line in answer.text.splitlines() if (words := line.split())
    ]
    return {node.id: node for node in nodes}


def _reachable(graph: _Graph, start: str) -> tuple[_Node, ...]:
    """Return what can be reached inside the graph; where there is one line of commits, in its order."""
    seen: dict[str, _Node] = {}
    waiting = [start]
    while waiting:
        commit = waiting.pop()
        if commit in graph and commit not in seen:
            seen[commit] = graph[commit]
            waiting += graph[commit].parents
    return tuple(seen.values())
