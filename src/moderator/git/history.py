"""What changed since the fork, as typed values: paths and commits.  Reads only."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from moderator.errors import GitFailed
from moderator.git.command import Answer, polling, run_git
from moderator.git.contents import Worktree
from moderator.git.exact import copy_index
from moderator.git.repository import Repository
from moderator.git.values import Change, Commit, Rescue

Size = tuple[int, int, int]
"""How many paths differ, and how many lines were added and removed."""
_SHA1_LENGTH = 40
_PLAIN = (
    "--no-ext-diff", "--no-textconv", "--no-color", "--find-renames", "--ignore-submodules=none", "--submodule=short",
    "--src-prefix=a/", "--dst-prefix=b/",
)  # fmt: skip
_FOR_APPLY = {"diff.context": "3", "diff.interHunkContext": "0"}
"""What no setting of the user's may change: a patch is for `git apply`."""


def changes_between(repository: Repository, base: str, tip: str) -> list[Change]:
    """Return the paths that differ between two commits."""
    return _parsed(repository.git("diff", *_PLAIN, "--raw", "--numstat", "-z", base, tip, "--"))


def sizes_between(repository: Repository, pairs: Collection[tuple[str, str]]) -> dict[tuple[str, str], Size]:
    """Return how much differs between each base and tip, in two processes for all of them.

    Pairs of which a commit is gone are not in the answer.
    """
    known = repository.commits_of(sorted({commit for pair in pairs for commit in pair}))
    asked = [(base, tip) for base, tip in dict.fromkeys(pairs) if known[base] and known[tip]]
    if not asked:
        return {}
    # The base stands where the parents of the tip would.
    lines = "".join(f"{tip} {base}\n" for base, tip in asked).encode()
    how = ("--stdin", "--always", "-r", "-z", "--numstat")
    fields = iter(repository.git("diff-tree", *how, *_PLAIN, stdin=lines).fields)
    sizes: dict[tuple[str, str], Size] = {}
    pair, following = ("", ""), iter(asked)
    for field in fields:
        if "\t" not in field:  # the tip of the next pair
            pair = next(following)
            sizes[pair] = (0, 0, 0)
            continue
        added, removed, path = field.split("\t", 2)
        if not path:  # renamed: two paths follow
            next(fields)
            next(fields)
        files, more, less = sizes[pair]
        sizes[pair] = (files + 1, more + (_lines(added) or 0), less + (_lines(removed) or 0))
    return sizes


def patch_between(repository: Repository, base: str, tip: str) -> bytes:
    """Return the patch that leads from one commit to the other, in git's own bytes."""
    return repository.git("diff", *_PLAIN, "--binary", base, tip, "--", settings=_FOR_APPLY).out


def patch_of_rescue(repository: Repository, rescue: Rescue) -> bytes:
    """Return what a rescue holds beyond its HEAD: the tracked files, then the untracked ones."""
    untracked = repository.git(
        "diff-tree",
        "--root",
        "--no-commit-id",
        "-r",
        "-p",
        *_PLAIN,
        "--binary",
        f"{rescue.commit}^3",
        settings=_FOR_APPLY,
    )
    return patch_between(repository, rescue.head, rescue.commit) + untracked.out


def changes_in(worktree: Worktree, base: str) -> list[Change]:
    """Return the paths that differ between `base` and what is in the working tree now, untracked files included."""
    with _everything_known(worktree) as private:
        return _parsed(worktree.git("diff", *_PLAIN, "--raw", "--numstat", "-z", base, "--", env=private))


def patch_in(worktree: Worktree, base: str) -> bytes:
    """Return the patch from `base` to what is in the working tree now, untracked files included."""
    with _everything_known(worktree) as private:
        return worktree.git("diff", *_PLAIN, "--binary", base, "--", env=private, settings=_FOR_APPLY).out


@contextmanager
def _everything_known(worktree: Worktree) -> Iterator[dict[str, str]]:
    """Give an environment with a private index that knows untracked files; the real one is not touched."""
    with tempfile.TemporaryDirectory(prefix="moderator-") as folder:
        index = os.path.join(folder, "index")
        private = polling({"GIT_INDEX_FILE": index})
        copy_index(worktree.git_dir, index)
        # A repository without commits inside the tree cannot be added; then it is not in the diff either.
        answer = worktree.git(
            "add", "--intent-to-add", "--ignore-errors", "--all", "--sparse", env=private, accept=(0, 1, 128)
        )
        if "embedded git repository" in answer.err:
            _without_unborn(worktree, private)
        yield private


def _without_unborn(worktree: Worktree, private: dict[str, str]) -> None:
    """Take repositories without commits out of an index: newer ones of git add them, and then find nothing to compare."""
    listed = worktree.git("ls-files", "-s", "-z", env=private).fields
    inside = [path for told, _, path in (line.partition("\t") for line in listed) if told.startswith("160000 ")]
    for path in inside:
        asked = ("rev-parse", "--verify", "--quiet", "HEAD")
        there = os.path.join(worktree.tree, path)
        if os.path.lexists(os.path.join(there, ".git")) and run_git(*asked, cwd=there, accept=(0, 1, 128)).code:
            worktree.git("update-index", "--force-remove", "--", path, env=private)


def _parsed(answer: Answer) -> list[Change]:
    fields = iter(answer.fields)
    letters: dict[str, tuple[str, str | None]] = {}
    changes = []
    for entry in fields:
        if entry.startswith(":"):  # :mode mode id id LETTER[score], then one path or two
            letter = entry.rpartition(" ")[2]
            path, old = next(fields), None
            if letter[0] in "RC":
                path, old = next(fields), path
            letters[path] = (letter[0], old)
        else:  # added TAB removed TAB path, or an empty path and then old and new
            added, removed, path = entry.split("\t", 2)
            if not path:
                next(fields)
                path = next(fields)
            letter, old = letters.get(path, ("M", None))
            changes.append(Change(path, letter, _lines(added), _lines(removed), old))
    return changes


def _lines(text: str) -> int | None:
    return None if text == "-" else int(text)


def commits_between(repository: Repository, base: str, tip: str, limit: int | None = None) -> list[Commit]:
    """Return the commits of `tip` that `base` does not have, newest first."""
    if len(base) != _SHA1_LENGTH or len(tip) != _SHA1_LENGTH:  # GitPython knows no SHA-256 repositories
        most = () if limit is None else (f"--max-count={limit}",)
        names = repository.git("rev-list", *most, f"{base}..{tip}").text.split()
        return [read_commit(repository, name) for name in names]
    import git  # GitPython takes 75 ms and starts two processes; only this function needs it

    try:
        with git.Repo(repository.common) as opened:
            # GitPython can only add to the environment: overrule what a hook may have left there.
            opened.git.update_environment(
                GIT_DIR=repository.common,
                GIT_COMMON_DIR=repository.common,
                GIT_OBJECT_DIRECTORY=os.path.join(repository.common, "objects"),
                GIT_NAMESPACE="",
            )
            found = opened.iter_commits(f"{base}..{tip}", max_count=limit if limit is not None else -1)
            return [
                Commit(
                    commit.hexsha,
                    str(commit.summary),
                    str(commit.message),
                    f"{commit.author.name} <{commit.author.email}>",
                    float(commit.committed_date),
                    _trailers(str(commit.message)),
                    tuple(parent.hexsha for parent in commit.parents),
                )
                for commit in found
            ]
    except git.exc.GitError as error:
        raise GitFailed(f"the commits {base[:12]}..{tip[:12]} cannot be read", cause=str(error)) from error


def read_commit(repository: Repository, commit: str) -> Commit:
    """Return one commit, without the start-up cost of the library that `commits_between` reads many with."""
    raw = repository.git("cat-file", "commit", commit).out.decode("utf-8", "surrogateescape")
    head, _, message = raw.partition("\n\n")
    parents, author, committed_at = [], "", 0.0
    for line in head.split("\n"):
        name, _, value = line.partition(" ")
        if name == "parent":
            parents.append(value)
        elif name == "author":
            author = value.rsplit(" ", 2)[0]
        elif name == "committer":
            committed_at = float(value.rsplit(" ", 2)[1])
    return Commit(commit, message.partition("\n")[0], message, author, committed_at, _trailers(message), tuple(parents))


def _trailers(message: str) -> dict[str, str]:
    trailers = {}
    _, _, body = message.strip("\n").partition("\n\n")  # a subject such as "fix: it" is none
    for line in body.rpartition("\n\n")[2].split("\n"):
        name, colon, value = line.partition(": ")
        if colon and " " not in name:
            trailers[name] = value.strip()
    return trailers
