"""Builders of every kind of work that is in no commit which a branch holds, in a worktree of `COMMITS`.

    for kind in KINDS: kind.build(tree)

They use git as a person does and know nothing of whoever will remove the tree afterwards.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from repos import Commits, Executable, Symlink, git

BASE_FILES = {
    "README.md": "# Sample\n",
    "src/a.txt": "one\ntwo\nthree\n",
    "src/b.txt": "b\n",
    "src/deep/c.txt": "c\n",
    "tool.sh": Executable("#!/bin/sh\n"),
    "plain.sh": "#!/bin/sh\n",
    "link": Symlink("README.md"),
    "lines.crlf": "a\nb\n",
    "words.lossy": "BASE\n",
    "stamp.ident": "$Id$\n",
    ".gitattributes": "*.crlf text eol=crlf\n*.auto text=auto\n*.lossy filter=lossy\n*.ident ident\n",
    ".gitignore": ".env\nbuild/\nlocked/\n*.secret\n",
}
COMMITS: Commits = (
    ("first", {"README.md": "# Sample, first\n"}),
    ("second", {"src/b.txt": "first b\n"}),
    ("third", BASE_FILES),
)
LARGE = 1_500_000
"""Bytes of the file that is over the limit, where that is set to a megabyte."""


@dataclass(frozen=True)
class Kind:
    """One kind of unsaved work.

    `left` are the paths that no commit can or should hold; a directory stands for all that is in it.  `refused`: nobody may
    remove it at all.  `exact`: a restored workspace has the same files.
    """

    name: str
    build: Callable[[Path], object]
    left: tuple[str, ...] = ()
    refused: bool = False
    exact: bool = True

    def __str__(self) -> str:
        return self.name


KINDS: list[Kind] = []


def _kind(name: str, **facts: object) -> Callable[[Callable[[Path], object]], Callable[[Path], object]]:
    def register(build: Callable[[Path], object]) -> Callable[[Path], object]:
        KINDS.append(Kind(name, build, **facts))  # type: ignore[arg-type]
        return build

    return register


def write(tree: Path, name: str | bytes, content: str | bytes) -> None:
    """Write a file whatever its name is, with the tree's own name in it: no two trees may vouch for each other."""
    path = os.path.join(os.fsencode(tree), os.fsencode(name))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(os.fsencode(content) + b" (" + os.fsencode(tree.name) + b")\n")


def commit(tree: Path, name: str, message: str = "work") -> str:
    """Commit one new file, and return the commit."""
    write(tree, name, f"committed {name}")
    git(tree, "add", "-f", "--", name)
    git(tree, "commit", "--quiet", "-m", message)
    return git(tree, "rev-parse", "HEAD")


def _add(tree: Path, name: str) -> None:
    """Stage a tracked file, also where the user told git to trust every file (`core.ignoreStat`)."""
    git(tree, "update-index", "--no-assume-unchanged", "--", name)
    git(tree, "add", "--", name)


def _amend(tree: Path, name: str) -> None:
    _add(tree, name)
    git(tree, "commit", "--quiet", "--amend", "-m", "amended")


def fails(tree: Path, *arguments: str) -> None:
    """Run a git command that stops in the middle, as it should."""
    done = subprocess.run(["git", *arguments], cwd=tree, capture_output=True, stdin=subprocess.DEVNULL)
    assert done.returncode != 0, arguments


# -- files ----------------------------------------------------------------------------------------------------------


@_kind("modified")
def _modified(tree: Path) -> None:
    write(tree, "src/a.txt", "modified")


@_kind("staged")
def _staged(tree: Path) -> None:
    write(tree, "src/a.txt", "staged")
    _add(tree, "src/a.txt")


@_kind("staged, then modified again")
def _staged_modified(tree: Path) -> None:
    _staged(tree)
    write(tree, "src/a.txt", "modified after it was staged")


@_kind("staged, then deleted")
def _staged_deleted(tree: Path) -> None:
    write(tree, "only-staged.txt", "only staged")
    git(tree, "add", "-f", "only-staged.txt")
    os.unlink(tree / "only-staged.txt")


@_kind("deleted")
def _deleted(tree: Path) -> None:
    os.unlink(tree / "src/b.txt")


@_kind("untracked")
def _untracked(tree: Path) -> None:
    write(tree, "new.txt", "untracked")
    write(tree, "fresh/er/new.txt", "untracked in a new directory")


@_kind("untracked, odd names")
def _odd_names(tree: Path) -> None:
    names = [
        b"two\nlines",
        b"-f",
        b"--",
        b"quo\"te's",
        b"\xff\xfe",
        b" around ",
        b"tab\there",
        b"star*[x]?",
        b"back\\slash",
    ]
    for number, name in enumerate([*names, b":(top)magic", b" odd dir \xe9/\n", "日本".encode()]):
        write(tree, name, f"odd {number}")


@_kind("mode changed")
def _mode(tree: Path) -> None:
    os.chmod(tree / "plain.sh", 0o755)
    os.chmod(tree / "tool.sh", 0o644)


@_kind("symbolic links")
def _links(tree: Path) -> None:
    os.symlink(f"nowhere/{tree.name}", tree / "new-link")
    os.unlink(tree / "link")
    os.symlink(f"src/{tree.name}", tree / "link")
    os.unlink(tree / "README.md")
    os.symlink(f"readme/{tree.name}", tree / "README.md")


@_kind("link instead of a directory")
def _link_for_directory(tree: Path) -> None:
    os.rename(tree / "src", tree / "moved")
    os.symlink("moved", tree / "src")
    write(tree, "moved/a.txt", "modified behind a link")


@_kind("file instead of a directory")
def _file_for_directory(tree: Path) -> None:
    subprocess.run(["rm", "-r", str(tree / "src")], check=True)
    write(tree, "src", "was a directory")


@_kind("directory instead of a file")
def _directory_for_file(tree: Path) -> None:
    os.unlink(tree / "README.md")
    write(tree, "README.md/inner.txt", "was a file")


@_kind("intent to add")
def _intent(tree: Path) -> None:
    write(tree, "intended.txt", "intended")
    git(tree, "add", "-f", "-N", "intended.txt")


@_kind("assume-unchanged")
def _assume(tree: Path) -> None:
    git(tree, "update-index", "--assume-unchanged", "src/a.txt")
    write(tree, "src/a.txt", "assumed to be unchanged")


@_kind("skip-worktree")
def _skip(tree: Path) -> None:
    git(tree, "update-index", "--skip-worktree", "src/a.txt")
    write(tree, "src/a.txt", "skipped")


@_kind("touched back in time")
def _racy(tree: Path) -> None:
    """The same size and time as what the index remembers: only a look at the content tells."""
    path = tree / "src/a.txt"
    before = path.stat()
    path.write_bytes(b"won\ntwo\nthree\n"[: before.st_size])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@_kind("line endings")
def _crlf(tree: Path) -> None:
    write(tree, "lines.crlf", "mixed\r\nendings\n")
    write(tree, "new.crlf", "new\r\nwith\nboth")
    write(tree, "new.auto", "auto\r\n")
    git(tree, "-c", "core.safecrlf=false", "add", "-f", "new.auto")
    write(tree, "new.auto", "auto, then changed\r\n")


@_kind("lossy filter")
def _lossy(tree: Path) -> None:
    git(tree, "config", "filter.lossy.clean", "tr a-z A-Z")
    write(tree, "words.lossy", "Mixed Case")
    write(tree, "new.lossy", "Untracked Mixed Case")


@_kind("ident")
def _ident(tree: Path) -> None:
    write(tree, "stamp.ident", "$Id: somebody wrote this $ changed")
    write(tree, "new.ident", "$Id: 123 $")


@_kind("empty file")
def _empty(tree: Path) -> None:
    (tree / "src/a.txt").write_bytes(b"")
    (tree / "new-empty").write_bytes(b"")


@_kind("hard links")
def _hard(tree: Path) -> None:
    write(tree, "hard-1", "two names")
    os.link(tree / "hard-1", tree / "hard-2")
    os.unlink(tree / "src/b.txt")
    os.link(tree / "hard-1", tree / "src/b.txt")


@_kind("read-only files and directories")
def _read_only(tree: Path) -> None:
    write(tree, "sealed/inner/file", "read-only")
    os.chmod(tree / "sealed/inner/file", 0o400)
    os.chmod(tree / "sealed/inner", 0o500)
    write(tree, "src/a.txt", "read-only and changed")
    os.chmod(tree / "src/a.txt", 0o400)
    os.chmod(tree / "src", 0o500)


# -- what no commit holds -------------------------------------------------------------------------------------------


@_kind("ignored .env", left=(".env",))
def _env(tree: Path) -> None:
    write(tree, ".env", "SECRET=1")


@_kind("ignored directory", left=("build",))
def _ignored_directory(tree: Path) -> None:
    write(tree, "build/x/out.o", "ignored")
    write(tree, "build/y.log", "ignored too")


@_kind("ignored read-only directory", left=("locked",))
def _ignored_read_only(tree: Path) -> None:
    write(tree, "locked/away/file", "ignored")
    os.chmod(tree / "locked/away/file", 0o400)
    os.chmod(tree / "locked/away", 0o500)
    os.chmod(tree / "locked", 0o500)


@_kind("ignored, in a new directory", left=("fresh/x.secret",))
def _ignored_beside_untracked(tree: Path) -> None:
    write(tree, "fresh/x.secret", "ignored beside")
    write(tree, "fresh/y.txt", "untracked")


@_kind("empty directory", left=("hollow",))
def _hollow(tree: Path) -> None:
    os.makedirs(tree / "hollow/er")


@_kind("fifo and socket", left=("pipe", "ear"))
def _special(tree: Path) -> None:
    os.mkfifo(tree / "pipe")
    listening = socket.socket(socket.AF_UNIX)
    folder = os.open(tree, os.O_RDONLY)  # the name of a socket must be short; that of a tree need not be
    try:
        listening.bind(f"/proc/self/fd/{folder}/ear")
    finally:
        os.close(folder)
        listening.close()


@_kind("over the size limit", left=("large.bin",))
def _large(tree: Path) -> None:
    write(tree, "large.bin", bytes(LARGE))


# -- commits and operations -----------------------------------------------------------------------------------------


@_kind("commits on a detached HEAD", exact=False)
def _detached(tree: Path) -> None:
    git(tree, "switch", "--quiet", "--detach")
    commit(tree, "detached-1.txt")
    commit(tree, "detached-2.txt")


@_kind("detached, amended and left", exact=False)
def _amended_detached(tree: Path) -> None:
    branch = git(tree, "symbolic-ref", "--short", "HEAD")
    git(tree, "switch", "--quiet", "--detach")
    commit(tree, "once.txt")
    write(tree, "once.txt", "amended")
    _amend(tree, "once.txt")
    git(tree, "switch", "--quiet", branch)


@_kind("amended on the branch")
def _amended(tree: Path) -> None:
    commit(tree, "once.txt")
    write(tree, "once.txt", "amended")
    _amend(tree, "once.txt")


@_kind("reset to the base")
def _reset(tree: Path) -> None:
    base = git(tree, "rev-parse", "HEAD")
    commit(tree, "thrown-away.txt")
    git(tree, "reset", "--quiet", "--hard", base)


@_kind("private ref")
def _private_ref(tree: Path) -> None:
    branch = git(tree, "symbolic-ref", "--short", "HEAD")
    git(tree, "switch", "--quiet", "--detach")
    git(tree, "update-ref", "refs/worktree/x", commit(tree, "private.txt"))
    git(tree, "switch", "--quiet", branch)
    os.unlink(_git_dir(tree) / "logs/HEAD")


@_kind("on another branch", exact=False)
def _other_branch(tree: Path) -> None:
    git(tree, "switch", "--quiet", "-c", f"own/{tree.name}")
    commit(tree, "other.txt")
    write(tree, "src/a.txt", "uncommitted on another branch")


@_kind("orphan branch", exact=False)
def _orphan(tree: Path) -> None:
    git(tree, "switch", "--quiet", "--orphan", f"orphan/{tree.name}")
    write(tree, "orphan.txt", "staged on an orphan branch")
    git(tree, "add", "-f", "orphan.txt")
    write(tree, "stray.txt", "untracked on an orphan branch")


def _two_sides(tree: Path) -> str:
    """Return a commit that conflicts with HEAD in one file."""
    branch = git(tree, "symbolic-ref", "--short", "HEAD")
    git(tree, "switch", "--quiet", "--detach")
    write(tree, "src/a.txt", "their side")
    _add(tree, "src/a.txt")
    git(tree, "commit", "--quiet", "-m", "theirs")
    theirs = git(tree, "rev-parse", "HEAD")
    git(tree, "switch", "--quiet", branch)
    write(tree, "src/a.txt", "our side")
    _add(tree, "src/a.txt")
    git(tree, "commit", "--quiet", "-m", "ours")
    return theirs


@_kind("merge conflict", exact=False)
def _conflict(tree: Path) -> None:
    fails(tree, "merge", "--quiet", _two_sides(tree))
    write(tree, "src/b.txt", "changed beside a conflict")


@_kind("conflict, half resolved", exact=False)
def _half_resolved(tree: Path) -> None:
    fails(tree, "merge", "--quiet", _two_sides(tree))
    write(tree, "src/a.txt", "a resolution")


@_kind("merge in progress, nothing to see", exact=False)
def _merge_ours(tree: Path) -> None:
    git(tree, "merge", "--quiet", "--no-commit", "-s", "ours", _two_sides(tree))


@_kind("rebase stopped at a conflict", exact=False)
def _rebase_conflict(tree: Path) -> None:
    fails(tree, "rebase", "--quiet", _two_sides(tree))


@_kind("rebase stopped to edit", exact=False)
def _rebase_edit(tree: Path) -> None:
    base = git(tree, "rev-parse", "HEAD")
    commit(tree, "to-edit.txt")
    commit(tree, "later.txt")
    git(tree, "rebase", "--quiet", "-i", base, GIT_SEQUENCE_EDITOR="sed -i 1s/pick/edit/")
    write(tree, "to-edit.txt", "amended in a rebase")
    _amend(tree, "to-edit.txt")


@_kind("rebase with autostash", exact=False)
def _rebase_autostash(tree: Path) -> None:
    theirs = _two_sides(tree)
    write(tree, "src/b.txt", "stashed away")
    fails(tree, "rebase", "--quiet", "--autostash", theirs)


@_kind("cherry-pick stopped", exact=False)
def _pick(tree: Path) -> None:
    fails(tree, "cherry-pick", _two_sides(tree))


@_kind("revert stopped", exact=False)
def _revert(tree: Path) -> None:
    commit(tree, "x.txt")
    write(tree, "x.txt", "changed")
    _add(tree, "x.txt")
    git(tree, "commit", "--quiet", "-m", "changed")
    fails(tree, "revert", "--no-edit", "HEAD~1")


@_kind("bisect in progress", exact=False)
def _bisect(tree: Path) -> None:
    good = git(tree, "rev-parse", "HEAD")
    for name in ("1", "2", "3", "4"):
        commit(tree, f"{name}.txt", name)
    git(tree, "bisect", "start", "HEAD", good)


@_kind("settings of the worktree", exact=False)
def _settings(tree: Path) -> None:
    (_git_dir(tree) / "config.worktree").write_text(f"[user]\n\tname = {tree.name}\n")
    write(tree, "new.txt", "untracked")


# -- repositories inside --------------------------------------------------------------------------------------------


def _inner(tree: Path, name: str = "inner") -> Path:
    git(tree, "init", "--quiet", name)
    return tree / name


def _push(inside: Path) -> None:
    """Put all commits of a repository inside the tree where a removal does not reach."""
    remote = inside.parents[2] / f"remote-of-{inside.parent.name}-{inside.name}.git"
    git(inside, "clone", "--quiet", "--bare", ".", str(remote))
    git(inside, "remote", *(["set-url"] if git(inside, "remote") else ["add"]), "origin", str(remote))
    git(inside, "fetch", "--quiet", "origin")


@_kind("nested repository with commits", refused=True)
def _nested(tree: Path) -> None:
    commit(_inner(tree), "nested.txt")


@_kind("nested repository without commits", refused=True)
def _nested_unborn(tree: Path) -> None:
    write(_inner(tree), "nested.txt", "never committed")


@_kind("nested repository with changes", refused=True)
def _nested_dirty(tree: Path) -> None:
    commit(_inner(tree), "nested.txt")
    write(tree / "inner", "nested.txt", "changed")


@_kind("nested repository, ignored", refused=True)
def _nested_ignored(tree: Path) -> None:
    (tree / "build").mkdir()
    commit(_inner(tree, "build/inner"), "nested.txt")


@_kind("nested repository, hidden edit", refused=True)
def _nested_hidden(tree: Path) -> None:
    inner = _inner(tree)
    commit(inner, "nested.txt")
    _push(inner)
    git(inner, "update-index", "--skip-worktree", "nested.txt")
    write(inner, "nested.txt", "changed where git does not look")


@_kind("nested repository, converted bytes", refused=True)
def _nested_converted(tree: Path) -> None:
    inner = _inner(tree)
    (inner / ".gitattributes").write_text("*.lossy filter=lossy\n")
    git(inner, "add", ".gitattributes")
    git(inner, "config", "filter.lossy.clean", "tr a-z A-Z")
    commit(inner, "words.lossy")
    _push(inner)
    write(inner, "words.lossy", "Committed Words.Lossy")
    git(inner, "add", "words.lossy")


def _submodule(tree: Path, name: str = "module") -> Path:
    """Add a submodule all of whose work is at its remote; return its tree."""
    origin = tree.parents[2] / f"origin-of-{tree.parent.name}-{tree.name}-{name}"
    git(tree.parent, "init", "--quiet", str(origin))
    commit(origin, f"{name}.txt")
    git(tree, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", "--", str(origin), name)
    git(tree, "commit", "--quiet", "-m", f"add the submodule {name}")
    return tree / name


@_kind("submodule with an unpushed commit", refused=True)
def _submodule_commit(tree: Path) -> None:
    commit(_submodule(tree), "unpushed.txt")
    _add(tree, "module")
    git(tree, "commit", "--quiet", "-m", "move it")


@_kind("submodule, hidden edits", refused=True)
def _submodule_hidden(tree: Path) -> None:
    module = _submodule(tree)
    git(module, "update-index", "--assume-unchanged", "module.txt")
    write(module, "module.txt", "changed where git does not look")


def _submodules(tree: Path) -> tuple[Path, Path]:
    """Add a submodule with one in it, all of whose work is at their remotes; return their trees."""
    module = _submodule(tree)
    inner = _submodule(module, "in")
    _push(module)
    _add(tree, "module")
    git(tree, "commit", "--quiet", "-m", "move it")
    return module, inner


@_kind("submodule in a submodule, taken away with an unpushed commit", refused=True)
def _submodules_commit(tree: Path) -> None:
    module, inner = _submodules(tree)
    commit(inner, "unpushed.txt")
    git(module, "submodule", "--quiet", "deinit", "--force", "in")


@_kind("submodule in a submodule, hidden edit", refused=True)
def _submodules_hidden(tree: Path) -> None:
    _, inner = _submodules(tree)
    git(inner, "update-index", "--skip-worktree", "in.txt")
    write(inner, "in.txt", "changed where git does not look")


# -- together -------------------------------------------------------------------------------------------------------


@_kind("everything in the tree at once", left=(".env", "hollow", "pipe", "ear"))
def _everything(tree: Path) -> None:
    for build in (_staged_modified, _untracked, _odd_names, _mode, _intent, _lossy, _env, _hollow, _special, _hard):
        build(tree)


@_kind("conflict, hidden edits, ignored", left=(".env",), exact=False)
def _conflict_and_more(tree: Path) -> None:
    _half_resolved(tree)
    git(tree, "update-index", "--skip-worktree", "src/b.txt")
    write(tree, "src/b.txt", "hidden")
    _untracked(tree)
    _env(tree)


@_kind("detached with everything", left=(".env",), exact=False)
def _detached_and_more(tree: Path) -> None:
    _detached(tree)
    _staged_modified(tree)
    _untracked(tree)
    _env(tree)


@_kind("nothing")
def _nothing(tree: Path) -> None:
    """A clean workspace: the one that every command may remove."""


def _git_dir(tree: Path) -> Path:
    return Path(git(tree, "rev-parse", "--absolute-git-dir"))


def kind(name: str) -> Kind:
    return next(one for one in KINDS if one.name == name)
