"""One repository as others see it: where it is, what it is configured to be, what a revision names.

Reads only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from moderator.errors import EnvironmentProblem, NotARepository, UnknownRevision
from moderator.git.command import Answer, run_git
from moderator.opening import content

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
_WHOLE_ID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
OLDEST_GIT = (2, 38)
"""`git merge-tree --write-tree` came with 2.38."""
_RELATIVE_LINKS = (2, 48)
"""The first git that understands them."""
_KNOWN_EXTENSIONS = {
    f"extensions.{name}"
    for name in ("objectformat", "noop", "preciousobjects", "partialclone", "refstorage", "relativeworktrees")
}


@dataclass(frozen=True)
class Base:
    """What a workspace forks from: the name its branch is derived from, and the commit."""

    name: str
    commit: str


@dataclass(frozen=True)
class Repository:
    """An opened repository.

    `directory` is where it was opened, `common` its common directory, `git_dir` the directory of the worktree it was
    opened in, `top` that worktree's top (None in a bare repository).
    """

    directory: str
    common: str
    git_dir: str
    top: str | None

    @classmethod
    def open(cls, directory: str | os.PathLike[str]) -> Repository:
        """Open the repository that `directory` is in.

        Raises NotARepository if there is none or git refuses it, EnvironmentProblem if git is missing or so old that it
        cannot say where it is (`require_git` tells for sure).
        """
        where = os.path.abspath(directory)
        if not os.path.isdir(where):
            raise NotARepository(f"{where!r} is not a directory", hint="name a directory inside a repository")
        answer = run_git(
            "rev-parse", "--path-format=absolute", "--git-common-dir", "--git-dir", "--show-toplevel",
            cwd=where, accept=(0, 128),
        )  # fmt: skip
        lines = answer.text.split("\n")
        if answer.code or not os.path.isabs(lines[0]):  # git before 2.31 hands back what it does not know
            require_git()
        if len(lines) > 3:
            raise NotARepository(
                f"the path of the repository at {where!r} holds a line break, and git keeps the paths of worktrees a line each",
                hint="rename the directory",
            )
        if answer.code and "must be run in a work tree" not in answer.err:
            # Ask again with no code accepted: the runner has the words for why.
            run_git("rev-parse", "--git-common-dir", cwd=where)
        if len(lines) < 2:
            raise NotARepository(
                f"{where!r} is not in a git repository", hint="go to a repository, or name one with --repo"
            )
        top = lines[2] if len(lines) > 2 and lines[2] else None
        common, git_dir = os.path.realpath(lines[0]), os.path.realpath(lines[1])
        if os.path.lexists(os.path.join(common, "CoNfIg")):  # as git asks whether letter case counts here
            common, git_dir, top = _as_stored(common), _as_stored(git_dir), top and _as_stored(top)
        return cls(where, common, git_dir, top)

    def git(self, *arguments: str, **options: object) -> Answer:
        """Run git on the repository itself, outside any worktree: for refs, objects and configuration."""
        return run_git("--git-dir=.", *arguments, cwd=self.common, **options)  # type: ignore[arg-type]

    @property
    def ours(self) -> Path:
        """Where `moderator` keeps what it knows of this repository."""
        return Path(self.common) / "moderator"

    @cached_property
    def settings(self) -> dict[str, list[str]]:
        """The repository's configuration: every value of every key, keys as git prints them."""
        values: dict[str, list[str]] = {}
        for entry in self.git("config", "--list", "-z", "--includes").fields:
            key, _, value = entry.partition("\n")
            values.setdefault(key, []).append(value)
        return values

    def setting(self, key: str, default: str = "") -> str:
        """Return the last value of a key, as git does."""
        return self.settings.get(key, [default])[-1]

    @property
    def is_bare(self) -> bool:
        return _true(self.setting("core.bare", "false"))

    @cached_property
    def main_top(self) -> str | None:
        """The top of the main worktree, None where there is none (a bare repository)."""
        if self.git_dir == self.common and self.top:
            return self.top
        if os.path.basename(self.common) == ".git" and not self.is_bare:
            return os.path.dirname(self.common)
        worktree = self.setting("core.worktree")
        return os.path.realpath(os.path.join(self.common, worktree)) if worktree else None

    @property
    def default_root(self) -> str:
        """Where the command line puts workspaces: beside the repository, never inside it."""
        return (self.main_top or self.common.removesuffix(os.sep + ".git")) + ".moderator"

    @cached_property
    def identity_settings(self) -> dict[str, str]:
        """What a commit needs on top of the configuration: a fallback where git knows no name to put on it."""
        if self.git("var", "GIT_COMMITTER_IDENT", accept=(0, 128)).code == 0 and (
            self.git("var", "GIT_AUTHOR_IDENT", accept=(0, 128)).code == 0
        ):
            return {}
        return {
            "user.name": self.setting("user.name", "moderator"),
            "user.email": self.setting("user.email", "moderator@localhost"),
        }

    def tree_of(self, commit: str) -> str:
        """Return the tree of a commit, given by its id; asked once for the base of a run."""
        if commit not in self._trees:
            self._trees[commit] = self.git("rev-parse", "--verify", f"{commit}^{{tree}}").text
        return self._trees[commit]

    @cached_property
    def _trees(self) -> dict[str, str]:
        return {}

    @cached_property
    def _seen_commits(self) -> set[str]:
        return set()

    @property
    def takes_written_entries(self) -> bool:
        """Whether a worktree's administrative directory may be written by hand."""
        return not self.why_git_makes_entries and not self._links_are_yet_to_be_noted

    @cached_property
    def why_git_makes_entries(self) -> str:
        """Why git itself must make a worktree's administrative directory, "" if it need not.

        It must where refs are stored in another way, where paths or settings go elsewhere, or with an extension we do not know.
        """
        if self.ref_storage != "files":
            return f"extensions.refStorage is {self.ref_storage}"
        extensions = {key for key in self.settings if key.startswith("extensions.")}
        if unknown := sorted(extensions - _KNOWN_EXTENSIONS):
            return f"{unknown[0]} is set"
        if _true(self.setting("core.sparsecheckout", "false")):
            return "core.sparseCheckout is set"
        return ""

    @property
    def ref_storage(self) -> str:
        """How refs are stored: "files", "reftable", or what a newer git may say."""
        return self.setting("extensions.refstorage", "files")

    @property
    def links_relatively(self) -> bool:
        """Whether a worktree and its administrative directory name each other by relative paths: git 2.48, once it has noted so."""
        return self._links_shall_be_relative and _true(self.setting("extensions.relativeworktrees", "false"))

    @property
    def _links_are_yet_to_be_noted(self) -> bool:
        """Whether git will note in the repository, with the next worktree that it makes, that links are relative."""
        return self._links_shall_be_relative and not self.links_relatively and require_git() >= _RELATIVE_LINKS

    @property
    def _links_shall_be_relative(self) -> bool:
        return _true(self.setting("worktree.userelativepaths", "false"))

    @property
    def hooks_folder(self) -> str:
        """Where the person's hooks are, whatever a task's worktree has or sets.

        A relative `core.hooksPath` starts where hooks run, githooks(5): at the top of the main worktree, in the repository itself
        where that is bare.
        """
        # Our own commands run without hooks, and the configuration is what one of them was told.
        named = next((one for one in reversed(self.settings.get("core.hookspath", ())) if one != os.devnull), "")
        if named.startswith(("~", "%")):  # which git expands
            return named
        return os.path.join(self.main_top or self.common, named) if named else os.path.join(self.common, "hooks")

    @property
    def mirrored_by(self) -> str | None:
        """The remote whose next `fetch --prune` would delete branches or rescues of ours, if there is one."""
        for key, values in self.settings.items():
            if key.startswith("remote.") and key.endswith(".fetch") and any(map(_takes_our_refs, values)):
                return key.removeprefix("remote.").removesuffix(".fetch")
        return None

    def refuse_strange_refs(self) -> None:
        """Raise EnvironmentProblem if refs are stored in a way, or at a place, that we cannot tell of."""
        if self.ref_storage not in ("files", "reftable"):
            raise EnvironmentProblem(
                f"the refs of this repository are stored in {self.ref_storage!r}, and only files and reftable in the repository "
                "itself are known here",
                hint="make a clone that stores them so, and work there: git clone --ref-format=files",
            )

    def refuse_mirror(self, what: str, afresh: bool = False) -> None:
        """Raise EnvironmentProblem if the next fetch of a mirroring remote would delete `what`.

        `afresh` reads the configuration anew: for what must hold however long ago the repository was opened.
        """
        if remote := (replace(self) if afresh else self).mirrored_by:
            raise EnvironmentProblem(
                f"the next fetch from {remote!r} would delete {what}: it mirrors every ref",
                hint=f"git config remote.{remote}.fetch '+refs/heads/*:refs/remotes/{remote}/*'",
            )

    def commit_of(self, revision: str) -> str | None:
        """Return the commit that a full ref name or object id names, None if it names none."""
        answer = self.git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}", accept=(0, 1, 128))
        return answer.text if answer.code == 0 else None

    def commits_of(self, revisions: Sequence[str]) -> dict[str, str | None]:
        """Return the commit that each full ref name or object id names, asking git once for all of them."""
        if not revisions:
            return {}
        asked = "".join(f"{revision}^{{commit}}\n" for revision in revisions)
        answer = self.git("cat-file", "--batch-check=%(objectname)", stdin=asked.encode("utf-8", "surrogateescape"))
        lines = answer.text.split("\n")
        return {
            revision: None if line.endswith((" missing", " ambiguous")) else line
            for revision, line in zip(revisions, lines, strict=True)
        }

    def base(self, revision: str = "") -> Base:
        """Return the base that `revision` names: a branch, a tag, a commit; "" or HEAD is what is checked out here.

        A local branch keeps its name, a remote's loses the remote, a tag keeps its name, anything else is called by its first
        12 digits.  Raises UnknownRevision if it names no commit.
        """
        if revision in ("", "HEAD", "@"):
            return self._checked_out()
        if revision.startswith(("-", "^")) or "\0" in revision or not revision.strip():
            raise UnknownRevision(f"{revision!r} cannot be a base", hint="name a branch, a tag or a commit")
        if _WHOLE_ID.fullmatch(revision):
            # A run forks hundreds of workspaces from one commit, which does not go away meanwhile.
            if revision not in self._seen_commits and self.commit_of(revision) == revision:
                self._seen_commits.add(revision)
            if revision in self._seen_commits:
                return Base(revision[:12], revision)
        if commit := self._in_a_file_of_its_own(revision):
            return Base(revision, commit)
        branch = self.git("show-ref", "--verify", "--hash", f"refs/heads/{revision}", accept=(0, 1, 128))
        if branch.code == 0:  # not asked as a revision: "main~2" is no branch
            return Base(revision, branch.text)
        run = {"cwd": self.top or self.directory, "accept": (0, 1, 128)}
        verified = run_git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}", **run)  # type: ignore[arg-type]
        if verified.code:
            raise self._no_such_base(revision)
        full = run_git("rev-parse", "--symbolic-full-name", revision, **run).text  # type: ignore[arg-type]
        return Base(self._short_name(full) or verified.text[:12], verified.text)

    def _in_a_file_of_its_own(self, branch: str) -> str | None:
        """Return the commit of a branch that is neither packed nor a link, without a process; None where git must be asked.

        Where refs are stored in another way there is no such file, gitrepository-layout(5).
        """
        if not _PLAIN_NAME.fullmatch(branch) or any(odd in f"{branch}/" for odd in ("..", "./", ".lock/")):
            return None
        try:
            said = content(os.path.join(self.common, "refs", "heads", branch)).removesuffix(b"\n").decode("ascii")
        except (OSError, UnicodeDecodeError):
            return None
        return said if _WHOLE_ID.fullmatch(said) else None

    def _checked_out(self) -> Base:
        cwd = self.top or self.directory
        branch = run_git("symbolic-ref", "--quiet", "HEAD", cwd=cwd, accept=(0, 1)).text
        head = run_git("rev-parse", "--verify", "--quiet", "HEAD^{commit}", cwd=cwd, accept=(0, 1, 128))
        name = branch.removeprefix("refs/heads/")
        if head.code:
            raise UnknownRevision(
                f"the branch {name!r} has no commits yet, so there is nothing to fork from",
                hint="make a first commit (git commit --allow-empty -m start), or name another base with --base",
            )
        return Base(name or head.text[:12], head.text)

    def _short_name(self, full: str) -> str:
        if full.startswith("refs/heads/"):
            return full.removeprefix("refs/heads/")
        if full.startswith("refs/tags/"):
            return full.removeprefix("refs/tags/")
        if full.startswith("refs/remotes/"):
            name = full.removeprefix("refs/remotes/")
            remotes = {key.split(".", 1)[1].rpartition(".")[0] for key in self.settings if key.startswith("remote.")}
            for remote in sorted(remotes, key=len, reverse=True):
                if name.startswith(remote + "/"):
                    return name.removeprefix(remote + "/")
            return name.partition("/")[2]
        return ""

    def _no_such_base(self, revision: str) -> UnknownRevision:
        import difflib

        names = self.git("for-each-ref", "--format=%(refname:short)", "refs/heads", "refs/remotes", "refs/tags").text
        close = difflib.get_close_matches(revision, names.split("\n"), n=3)
        current = run_git(
            "symbolic-ref", "--quiet", "--short", "HEAD", cwd=self.top or self.directory, accept=(0, 1, 128)
        ).text
        if revision == current:
            return UnknownRevision(
                f"the branch {revision!r} has no commits yet, so there is nothing to fork from",
                hint="make a first commit (git commit --allow-empty -m start), or name another base",
            )
        return UnknownRevision(
            f"the base {revision!r} names no commit in this repository",
            hint=f"did you mean {' or '.join(map(repr, close))}?" if close else "git branch -a lists what there is",
        )


def _as_stored(path: str) -> str:
    """Return a path with each name in the letter case of its folder: it is compared, and kept, however somebody typed it."""
    folder, name = os.path.split(path)
    if not name:
        return path
    folder = _as_stored(folder)
    try:
        names = os.listdir(folder)
    except OSError:  # one may pass through it and not read it
        names = [name]
    if name not in names:
        name = next((one for one in names if one.casefold() == name.casefold()), name)
    return os.path.join(folder, name)


def _takes_our_refs(refspec: str) -> bool:
    """Whether a fetch writes, and so prunes, where the branches of tasks or what we keep are (git-fetch(1), --prune)."""
    before, star, _ = refspec.rpartition(":")[2].partition("*")
    ours = ("refs/heads/", "refs/moderator/")
    return bool(star) and (before.startswith(ours[1]) or any(name.startswith(before) for name in ours))


def _true(value: str) -> bool:
    return value.lower() in ("", "true", "yes", "on", "1")


def require_git() -> tuple[int, ...]:
    """Return git's version.  Raises EnvironmentProblem if there is none or it is too old."""
    said = run_git("version", cwd=os.sep).text
    match = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", said)
    version = tuple(int(part or 0) for part in match.groups()) if match else (0,)
    if version < OLDEST_GIT:
        wanted = ".".join(map(str, OLDEST_GIT))
        raise EnvironmentProblem(
            f"git is too old: found {said!r}, {wanted} is needed", hint=f"install git {wanted} or newer"
        )
    return version
