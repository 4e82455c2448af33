"""What a worktree holds: for people who ask, and for a removal that must not lose any of it.

Nothing here changes anything.  The user's own settings are overruled where they would hide work
(`status.showUntrackedFiles=no`, `core.ignoreStat`, `diff.ignoreSubmodules`).
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from moderator.git.command import Answer, polling, run_git
from moderator.git.repository import Repository
from moderator.git.values import Counts

_TELLING_ALL = {
    "core.ignoreStat": "false",
    "core.checkStat": "default",
    "core.trustctime": "true",
    "status.showUntrackedFiles": "all",
    "status.renames": "false",
    "advice.statusHints": "false",
    "core.untrackedCache": "false",
}
_OPERATIONS = {
    "MERGE_HEAD": "merge",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
    "rebase-merge": "rebase",
    "rebase-apply": "rebase",
    "BISECT_LOG": "bisect",
    "sequencer": "sequence of commits",
}
_OBJECT_ID = re.compile(rb"\b[0-9a-f]{40}(?:[0-9a-f]{24})?\b")
CHANGED = "changed, not committed"
IGNORED = "ignored by git, so in no commit"
"""How the findings about changed and about ignored files begin."""
_SHOWN = 5  # paths named in a finding before the rest is counted


@dataclass
class Contents:
    """Every path that is in no commit, by kind, and where HEAD is."""

    head: str = ""
    branch: str | None = None
    staged: list[str] = field(default_factory=list)
    modified: list[str] = field(default_factory=list)
    unmerged: list[str] = field(default_factory=list)
    untracked: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    became_repositories: list[str] = field(default_factory=list)

    @property
    def counts(self) -> Counts:
        return Counts(len(self.staged), len(self.modified), len(self.untracked), len(self.ignored), len(self.unmerged))

    @property
    def nested(self) -> list[str]:
        """Repositories of their own whose content no commit of this one would hold."""
        return [path for path in self.untracked if path.endswith("/")] + self.became_repositories

    @property
    def uncommitted(self) -> list[str]:
        """Paths that the next commit would take."""
        return list(dict.fromkeys([*self.staged, *self.modified, *self.unmerged, *self.untracked]))


@dataclass(frozen=True)
class Worktree:
    """A working tree and its administrative directory, named outright so that nothing is discovered on the way."""

    tree: str
    git_dir: str
    descriptors: tuple[int, ...] = ()

    def git(self, *arguments: str, settings: dict[str, str] | None = None, **options: object) -> Answer:
        options.setdefault("descriptors", self.descriptors)
        return run_git(
            f"--git-dir={self.git_dir}",
            f"--work-tree={self.tree}",
            *arguments,
            cwd=self.tree,
            settings={**_TELLING_ALL, **(settings or {})},
            **options,  # type: ignore[arg-type]
        )

    def contents(self, ignored: bool = True, refresh: bool = False) -> Contents:
        """Return everything in the tree that is in no commit.

        `refresh` lets git note in the index what it found unchanged, for whoever has the worktree to himself: files that
        are as young as the index are read anew by every look until one of them is allowed to.
        """
        answer = self.git(
            "status", "--porcelain=v2", "-z", "--branch", "--untracked-files=all", "--no-renames",
            "--ignored=matching" if ignored else "--ignored=no", "--ignore-submodules=none",
            env={} if refresh else polling(),
        )  # fmt: skip
        return _parsed(answer.fields)

    @property
    def operation(self) -> str | None:
        """The merge, rebase, cherry-pick, revert or bisect in progress, None if there is none."""
        for name, operation in _OPERATIONS.items():
            if os.path.lexists(os.path.join(self.git_dir, name)):
                return operation
        return None


def _parsed(entries: Iterable[str]) -> Contents:
    contents = Contents()
    for entry in entries:
        kind, _, rest = entry.partition(" ")
        if kind == "#":
            name, _, value = rest.partition(" ")
            if name == "branch.oid":
                contents.head = "" if value == "(initial)" else value
            elif name == "branch.head":
                contents.branch = None if value == "(detached)" else value
        elif kind == "1":  # 1 XY sub mH mI mW hH hI path
            xy, _, _, index_mode, tree_mode, _, _, path = rest.split(" ", 7)
            if tree_mode == "160000" != index_mode:
                contents.became_repositories.append(path)
            if xy[0] != ".":
                contents.staged.append(path)
            if xy[1] != ".":
                contents.modified.append(path)
        elif kind == "u":  # u XY sub m1 m2 m3 mW h1 h2 h3 path
            contents.unmerged.append(rest.split(" ", 9)[9])
        elif kind == "?":
            contents.untracked.append(rest)
        elif kind == "!":
            contents.ignored.append(rest)
    return contents


def what_would_be_lost(
    repository: Repository, worktree: Worktree, ref: str | None, pinned: Sequence[str] = ()
) -> list[str]:
    """Return, a sentence each, what would be gone if the tree and its administrative directory were.

    `ref` is the ref that stays and holds the workspace's commits; `pinned` are commits known to be held otherwise.
    An empty list means: everything is in commits reachable from refs.
    """
    contents = worktree.contents()
    findings = [
        f"{what}: {_shown(paths)}"
        for what, paths in (
            ("staged", contents.staged),
            (CHANGED, contents.modified),
            ("in conflict", contents.unmerged),
            ("untracked", contents.untracked),
            (IGNORED, contents.ignored),
        )
        if paths
    ]
    if worktree.operation:
        findings.append(f"a {worktree.operation} in progress")
    findings += _hidden(worktree)
    findings += _only_named_here(repository, worktree, ref, {contents.head, *pinned})
    return findings


def _shown(paths: Sequence[str]) -> str:
    names = ", ".join(printable(path) for path in paths[:_SHOWN])
    return names if len(paths) <= _SHOWN else f"{names} and {len(paths) - _SHOWN} more"


def printable(path: str) -> str:
    """Return a path as a terminal can take it: control characters and broken bytes escaped."""
    return path if path.isprintable() else ascii(path)[1:-1]


def _hidden(worktree: Worktree) -> list[str]:
    """Look at what `git status` is told not to see, and at repositories inside the tree."""
    flagged, nested, folders = [], [], set()
    for entry in worktree.git("ls-files", "-v", "-s", "-z", env=polling()).fields:
        tag, _, rest = entry.partition(" ")
        described, _, path = rest.partition("\t")
        there = os.path.join(worktree.tree, path)
        if described.startswith("160000"):
            if os.path.lexists(os.path.join(there, ".git")):
                nested.append(path)
        elif (tag.islower() or tag == "S") and os.path.lexists(there):
            flagged.append(path)
        while (path := os.path.dirname(path)) and path not in folders:
            folders.add(path)
    # `git status` never mentions a `.git` in a directory that holds tracked files.
    nested += sorted(path for path in folders if os.path.lexists(os.path.join(worktree.tree, path, ".git")))
    findings = []
    if nested or os.path.isdir(os.path.join(worktree.git_dir, "modules")):
        findings.append(f"repositories of their own, submodules say: {_shown(nested) or 'see the modules directory'}")
    if flagged and (differing := _differing(worktree, flagged)):
        findings.append(f"changed, but hidden by assume-unchanged or skip-worktree: {_shown(differing)}")
    return findings


def _differing(worktree: Worktree, paths: Sequence[str]) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="moderator-") as folder:
        index = os.path.join(folder, "index")
        shutil.copyfile(os.path.join(worktree.git_dir, "index"), index)
        names = b"".join(os.fsencode(path) + b"\0" for path in paths)
        private = {"GIT_INDEX_FILE": index}
        for flag in ("--no-assume-unchanged", "--no-skip-worktree"):
            worktree.git("update-index", flag, "-z", "--stdin", stdin=names, env=private)
        worktree.git("update-index", "-q", "--refresh", env=private, accept=(0, 1))
        changed = worktree.git("diff-files", "-z", "--name-only", "--ignore-submodules=none", env=private).fields
    return [path for path in paths if path in set(changed)]


def _only_named_here(repository: Repository, worktree: Worktree, ref: str | None, known: set[str]) -> list[str]:
    """Find commits that nothing but this worktree's own HEAD, logs and private refs name."""
    named: set[str] = set()
    for top, folder in (("logs", True), ("refs", True), ("HEAD", False), ("ORIG_HEAD", False)):
        place = os.path.join(worktree.git_dir, top)
        for path in _files(place) if folder else [place]:
            if os.path.isfile(path):
                with open(path, "rb") as file:
                    for line in file:
                        # A reflog line is: old new who when, a tab, and words that may quote anything.
                        named |= {found.decode() for found in _OBJECT_ID.findall(line.partition(b"\t")[0])}
    named |= known
    named = {name for name in named if name.strip("0")}
    if ref:
        named -= {repository.commit_of(ref)}
    if not named:
        return []
    lines = "".join(f"{name}^{{commit}}\n" for name in sorted(named)).encode()
    answer = repository.git("cat-file", "--batch-check=%(objectname)", stdin=lines)
    present = [line for line in answer.text.split("\n") if not line.endswith(" missing")]
    if not present:
        return []
    asked = "\n".join(present).encode() + b"\n"
    # HEAD is left out on purpose: a commit that only a detached HEAD names is not safe.
    lost = set(repository.git("rev-list", "--stdin", "--not", "--glob=refs/*", stdin=asked).text.split())
    if lost and ref:
        # `--`: in the common directory a loose ref is a file of that name too.
        lost -= set(repository.git("rev-list", "--walk-reflogs", ref, "--", accept=(0, 128)).text.split())
    if not lost:
        return []
    return [f"commits that no branch holds: {_shown(sorted(name[:12] for name in lost))}"]


def _files(folder: str) -> Iterable[str]:
    for where, _, names in os.walk(folder):
        for name in names:
            yield os.path.join(where, name)
