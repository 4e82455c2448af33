"""Keep a workspace's work as a commit, where its level says.

No hook is run and nothing is signed unless asked for: a hook written for a person at the main checkout must not decide
whether work is kept.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from moderator.errors import CannotCommit
from moderator.git.command import Answer, GitEnded
from moderator.git.contents import Contents, Worktree, printable
from moderator.git.exact import DURABLE, copy_index
from moderator.git.registry import Record
from moderator.git.repository import Repository
from moderator.git.survey import above

_FEW = 1000  # paths that are told to git one by one
_TRAILER = re.compile(r"^[A-Za-z0-9][A-Za-z0-9-]*: ?\S")

_GONE = "000000 "
"""The mode that git gives to what is not there."""


@dataclass(frozen=True)
class CommitStyle:
    """Whether commits of workspaces run the repository's hooks and follow its `commit.gpgSign`.

    Hooks are ended after `patience`, in seconds, or as soon as `stopped` says so.
    """

    hooks: bool = False
    signing: bool = False
    patience: float = 600.0
    stopped: Callable[[], bool] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Kept:
    """What became of a workspace's work.

    `commit` is the new commit, None if there was nothing to commit; `head` the newest commit the work is in, the task's own
    included; `left` the paths that changed again after the commit and were left in the base checkout; `left_out` those that were
    to stay out of it.
    """

    commit: str | None
    head: str
    left: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def with_trailers(message: str, trailers: Mapping[str, str]) -> bytes:
    """Return the message with trailers at its end, as git-interpret-trailers(1) would put them."""
    text = message.replace("\0", "").strip("\n")
    lines = [f"{name}: {' '.join(str(value).split())}" for name, value in trailers.items()]
    if lines:
        last = text.rpartition("\n\n")[2].split("\n") if "\n\n" in text else []
        text += ("\n" if last and all(_TRAILER.match(line) for line in last) else "\n\n") + "\n".join(lines)
    return (text + "\n").encode("utf-8", "backslashreplace")


def commit_worktree(
    repository: Repository,
    record: Record,
    worktree: Worktree,
    message: bytes,
    style: CommitStyle,
    leaving: Mapping[str, str] = MappingProxyType({}),
) -> Kept:
    """Commit everything in a worktree of its own, but for paths that still are exactly what `leaving` says.

    Raises CannotCommit, with the workspace untouched, where no commit should be made.
    """
    contents = worktree.contents(ignored=False, refresh=True)
    _refuse_odd_states(worktree, contents, record)
    if contents.branch != record.branch or not contents.head:
        raise CannotCommit(
            f"the worktree of task {record.task_id!r} is on {contents.branch or 'no branch'!r}, not on "
            f"{record.branch or 'a detached HEAD'!r}",
            hint=f"look at {record.path}, and put HEAD back with git switch",
        )
    if record.branch is None and contents.head != record.base:  # the task's own commits
        _anchor(repository, record, contents.head)
    if not contents.uncommitted:
        return Kept(None, contents.head)
    _stage(worktree, contents)
    left_out = _leave_out(worktree, leaving) if leaving else ()
    tree = worktree.git("write-tree", settings=DURABLE, repeatable=True).text
    if tree == repository.tree_of(contents.head):
        return Kept(None, contents.head, left_out=left_out)
    if style.hooks:
        answer = _commit_with_hooks(repository, record, worktree, message, style, contents.head)
        if answer.code:
            raise CannotCommit(
                f"a hook of the repository refused the commit of task {record.task_id!r}",
                hint=f"mend what it names in {record.path}, or set commit: {{hooks: false}}",
                cause=answer.err.strip() or answer.text,
            )
        new = worktree.git("rev-parse", "HEAD").text
        if record.branch is None:
            _anchor(repository, record, new)
        return Kept(new, new, left_out=left_out)
    new = _commit_tree(repository, tree, contents.head, message, style)
    moves = [f"update HEAD {new} {contents.head}"]
    if record.branch is None:  # the detached HEAD and the ref that holds it move together or not at all
        held = repository.commit_of(record.result_ref) or "0" * len(new)
        moves = ["start", "option no-deref", *moves, f"update {record.result_ref} {new} {held}", "commit"]
    worktree.git(
        "update-ref", "--stdin", "--create-reflog", "-m", "moderator: work committed",
        stdin="".join(f"{line}\n" for line in moves).encode(), settings=DURABLE, repeatable=True,
    )  # fmt: skip
    return Kept(new, new, left_out=left_out)


def _commit_with_hooks(
    repository: Repository, record: Record, worktree: Worktree, message: bytes, style: CommitStyle, head: str
) -> Answer:
    settings = {**DURABLE, **repository.identity_settings, "core.hooksPath": repository.hooks_folder}
    try:
        return worktree.git(
            "commit", "--quiet", "--cleanup=verbatim", "--allow-empty-message", "--file=-",
            stdin=message, settings=settings, hooks=True, signing=style.signing, accept=(0, 1),
            timeout=style.patience, stopped=style.stopped,
        )  # fmt: skip
    except GitEnded as error:
        if worktree.git("rev-parse", "HEAD").text != head:  # what was ended came after the commit
            return Answer(0, b"", "")
        raise CannotCommit(
            f"a hook of the repository had not ended yet, so the work of task {record.task_id!r} is not committed",
            hint=f"it is all in {record.path}; look what the hook waits for, or set commit: {{hooks: false}}",
            cause=str(error),
        ) from error


def uncommitted_entries(repository: Repository, worktree: Worktree) -> dict[str, str]:
    """Return what differs from HEAD in a worktree, untracked files included, without touching its index.

    For each path its mode and the id of its content, zeros where it is gone.
    """
    with _private_index(worktree, repository) as private:
        return {path: now for path, _, now in _staged(worktree, private)}


def _leave_out(worktree: Worktree, leaving: Mapping[str, str]) -> tuple[str, ...]:
    """Let the index say what HEAD says of each path that is exactly as it is told; return these paths."""
    staged = _staged(worktree)
    same = [(path, before) for path, before, now in staged if leaving.get(path) == now]
    if same:
        kept = {path for path, _, now in staged if leaving.get(path) != now and not now.startswith(_GONE)}
        around = {parent for path in kept for parent in above(path)}
        # What was a file and is a directory now, or the other way round, cannot be as it was beside what the task did there.
        same = [(path, before) for path, before in same if path not in around and kept.isdisjoint(above(path))]
        # What goes comes first: a directory may have taken the place of a file.
        in_order = sorted(same, key=lambda one: not one[1].startswith(_GONE))
        lines = b"".join(f"{before}\t".encode() + os.fsencode(path) + b"\0" for path, before in in_order)
        worktree.git("update-index", "-z", "--index-info", stdin=lines, repeatable=True)
    return tuple(path for path, _ in same)


def _staged(worktree: Worktree, env: Mapping[str, str] = MappingProxyType({})) -> list[tuple[str, str, str]]:
    """Return the paths of an index that are not as in HEAD, with mode and content there and here."""
    answer = worktree.git("diff-index", "--cached", "--raw", "-z", "--no-renames", "--no-abbrev", "HEAD", env=dict(env))
    found = []
    for told, path in zip(answer.fields[::2], answer.fields[1::2], strict=True):  # :mode mode id id letter
        mode_there, mode_here, there, here, _ = told.removeprefix(":").split(" ")
        found.append((path, f"{mode_there} {there}", f"{mode_here} {here}"))
    return found


def _stage(worktree: Worktree, contents: Contents) -> None:
    """Put everything that git told of into the index; it need not look for it once more where that is not much."""
    found = [*contents.modified, *contents.untracked]
    if len(found) <= _FEW:
        if not found:
            return
        named = ("--pathspec-from-file=-", "--pathspec-file-nul")
        answer = worktree.git(
            "add", "--all", "--sparse", *named, stdin=_zero_separated(found), env={"GIT_LITERAL_PATHSPECS": "1"},
            settings=DURABLE, repeatable=True, accept=(0, 1, 128),
        )  # fmt: skip
        if answer.code == 0:
            return
        # One has gone meanwhile, or is behind a link that has taken the place of its folder.
    worktree.git("add", "--all", "--sparse", settings=DURABLE, repeatable=True)


def commit_checkout(
    repository: Repository, record: Record, checkout: Worktree, message: bytes, style: CommitStyle
) -> Kept:
    """Commit what a task did in the base checkout on its own branch, then put the checkout back.

    HEAD and the real index stay where they are until the commit exists.  Only paths whose content is exactly what was
    committed are put back.
    """
    contents = checkout.contents(ignored=False)
    _refuse_odd_states(checkout, contents, record)
    if contents.head != record.base:
        raise CannotCommit(
            f"the base checkout moved from {record.base[:12]} to {contents.head[:12]} while task {record.task_id!r} ran",
            hint=f"look at {checkout.tree}: nothing was committed or put back",
        )
    tip = repository.commit_of(record.ref) or record.base
    if not contents.uncommitted:
        return Kept(None, tip)
    with _private_index(checkout, repository) as private:
        tree = checkout.git("write-tree", env=private, settings=DURABLE, repeatable=True).text
        if tree == repository.tree_of(record.base):
            return Kept(None, tip)
        new = _commit_tree(repository, _joined(repository, record, tree, tip), tip, message, style)
        move = ("update-ref", "-m", "moderator: work committed", record.ref, new, tip)
        repository.git(*move, settings=DURABLE, repeatable=True)
        left = _put_back(checkout, record.base, tree, private)
    return Kept(new, new, tuple(left))


def _joined(repository: Repository, record: Record, tree: str, tip: str) -> str:
    """Return the tree that has both what is in the checkout and what the task had committed before, which was put back."""
    if tip == record.base:
        return tree
    side = _commit_tree(repository, tree, record.base, b"in the checkout\n", CommitStyle())
    merged = repository.git("merge-tree", "--write-tree", "--no-messages", tip, side, settings=DURABLE, accept=(0, 1))
    if merged.code:
        raise CannotCommit(
            f"what task {record.task_id!r} changed conflicts with what it had committed on {record.branch!r} before",
            hint=f"commit it by hand in {printable(record.checkout)}, or take the changes back",
        )
    return merged.text


def tree_of(checkout: Worktree, repository: Repository) -> str:
    """Return the tree of everything in a checkout, untracked files included, without touching its index."""
    with _private_index(checkout, repository) as private:
        return checkout.git("write-tree", env=private).text


@contextlib.contextmanager
def _private_index(checkout: Worktree, repository: Repository) -> Iterator[dict[str, str]]:
    """Give an environment with an index of its own that holds everything in the checkout."""
    folder = repository.ours / "staging"
    folder.mkdir(parents=True, exist_ok=True)
    index = str(folder / f"{secrets.token_hex(8)}.index")
    private = {"GIT_INDEX_FILE": index}
    try:
        with contextlib.suppress(FileNotFoundError):  # no index yet: nothing is tracked
            copy_index(checkout.git_dir, index)
        checkout.git("add", "--all", "--sparse", env=private, settings=DURABLE, repeatable=True)
        yield private
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(index)


def _refuse_odd_states(worktree: Worktree, contents: Contents, record: Record) -> None:
    if worktree.operation or contents.unmerged:
        raise CannotCommit(
            f"task {record.task_id!r} left a {worktree.operation or 'conflict'} unfinished in {printable(worktree.tree)!r}",
            hint="finish or abort it there, then commit",
        )
    nested = contents.nested
    if nested:
        raise CannotCommit(
            f"task {record.task_id!r} left a repository of its own at {printable(nested[0])!r}, whose content no commit would hold",
            hint=f"move it away, ignore it, or remove its .git: {printable(os.path.join(worktree.tree, nested[0]))}",
        )


def _commit_tree(repository: Repository, tree: str, parent: str, message: bytes, style: CommitStyle) -> str:
    sign = (
        ["-S"]
        if style.signing and repository.setting("commit.gpgsign", "false").lower() in ("true", "1", "yes", "on")
        else []
    )
    return repository.git(
        "commit-tree", *sign, "-p", parent, "-F", "-", tree,
        stdin=message, settings={**DURABLE, **repository.identity_settings, "i18n.commitEncoding": "UTF-8"},
        repeatable=True,
    ).text  # fmt: skip


def _anchor(repository: Repository, record: Record, commit: str) -> None:
    """Put a ref on commits that the task itself made on a detached HEAD."""
    held = repository.commit_of(record.result_ref) or "0" * len(commit)
    repository.git(
        "update-ref", "--create-reflog", "-m", "moderator: the task's own commits", record.result_ref, commit, held,
        settings=DURABLE, repeatable=True,
    )  # fmt: skip


def _put_back(checkout: Worktree, base: str, tree: str, private: Mapping[str, str]) -> list[str]:
    changed = checkout.git("diff-tree", "-r", "-z", "--no-renames", "--name-status", base, tree).fields
    letters = dict(zip(changed[1::2], changed[::2], strict=True))
    seen = {path: _stamp(checkout, path) for path in letters}
    checkout.git("update-index", "-q", "--refresh", env=private, accept=(0, 1))
    differing = set(checkout.git("diff-files", "-z", "--name-only", env=private).fields)

    def as_committed(path: str) -> bool:
        # Looked at again right before: the person whose checkout this is may write while we put back.
        now = () if letters[path] == "D" and seen[path] in unlinked else seen[path]
        return path not in differing and _stamp(checkout, path) == now

    added, unlinked = list[str](), set[tuple[int, ...]]()
    for path in (path for path, letter in letters.items() if letter == "A" and as_committed(path)):
        there = os.path.join(checkout.tree, path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(there)
        added.append(path)
        unlinked.add(seen[path])  # under its old name too, if only its letter case is new on a disk that ignores that
        with contextlib.suppress(OSError):  # up to the first directory that holds something else
            os.removedirs(os.path.dirname(there)) if os.path.dirname(path) else None
    if added:  # in case the task staged them
        checkout.git("update-index", "--force-remove", "-z", "--stdin", stdin=_zero_separated(added))
    others = [path for path, letter in letters.items() if letter != "A" and as_committed(path)]
    if others:
        checkout.git(
            "restore", "--source=HEAD", "--staged", "--worktree", "--pathspec-from-file=-", "--pathspec-file-nul",
            stdin=_zero_separated(others), env={"GIT_LITERAL_PATHSPECS": "1"},
        )  # fmt: skip
    return sorted(set(letters) - {*added, *others})


def _stamp(checkout: Worktree, path: str) -> tuple[int, ...]:
    """Return what changes when a file is written, () if there is none."""
    try:
        found = os.lstat(os.path.join(checkout.tree, path))
    except OSError:
        return ()
    return (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _zero_separated(paths: Sequence[str]) -> bytes:
    return b"".join(os.fsencode(path) + b"\0" for path in paths)
