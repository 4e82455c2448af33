"""Check submodules out in a new workspace, those inside them too, from what the main checkout has of them.

Each gets a git directory of its own in the worktree's entry, where git itself puts it (gitrepository-layout(5), modules).  Its
objects are those of the main checkout's, by hard links: nothing is copied, nothing is fetched, and whatever `gc` does to the
one leaves the other as it is, which alternates would not.  Only a commit that the main checkout does not have is fetched, if
git's own rules allow the URL (`protocol.*.allow`, for a URL that nobody typed).
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from moderator.errors import ConfigurationError, EnvironmentProblem, GitFailed, to_type
from moderator.git import filters
from moderator.git.command import Answer, abreast, polling, run_git
from moderator.git.contents import Worktree, printable
from moderator.git.repository import Repository
from moderator.git.survey import above
from moderator.git.trash import delete
from moderator.opening import content

log = logging.getLogger(__name__)

MADE = "moderator.submodule"
"""A file in the git directory of a submodule that we checked out; it has the path in the tree around it."""
_NOT_TYPED = {"GIT_PROTOCOL_FROM_USER": "0"}
"""How git-submodule(1) asks for URLs: nobody typed them, a commit names them."""
_PACKED_ANEW = 100  # times that objects are looked for in packs which somebody packs anew meanwhile
_cores = os.cpu_count() or 1
_turns = threading.BoundedSemaphore(_cores)  # for all workspaces together: more at once only makes each of them slower


@dataclass(frozen=True)
class _Submodule:
    """A submodule as the tree around it has it.  `store` is what the main checkout has of it, `git_dir` what it gets here."""

    name: str
    path: str
    commit: str
    url: str
    around: Worktree
    store: str
    git_dir: str

    @property
    def tree(self) -> str:
        return os.path.join(self.around.tree, self.path)


def check_out_submodules(
    repository: Repository, worktree: Worktree, commit: str, unfiltered: bool, brought_back: bool = False
) -> None:
    """Check out every submodule that the commit has, as many at once as there are cores.

    `unfiltered`: files are left as they are stored.  Raises EnvironmentProblem for one that cannot be had, naming it.
    `brought_back`: the commit is what the tree was brought back from.  Then nothing is checked out over what is there, and what
    cannot be had is told in the log, and left out.
    """
    found = list(_submodules(worktree, commit, repository.common, repository.settings))
    if not found:
        return
    if brought_back:  # where each stood in the tree, whatever was staged
        stood = _links_of(worktree, commit)
        found = [replace(one, commit=stood.get(one.path, one.commit)) for one in found]
    main = repository.main_top or repository.common
    see_to = _check_out_if_possible if brought_back else _check_out
    list(abreast(lambda one: see_to(one, main, unfiltered), found, most=_cores))


def _links_of(worktree: Worktree, commit: str) -> dict[str, str]:
    """Return the commits of the submodules that a commit has, by their paths."""
    lines = worktree.git("ls-tree", "-r", "-z", "--full-tree", commit, env=polling()).fields
    told = (line.partition("\t") for line in lines if line.startswith("160000 "))
    return {path: described.split(" ")[2] for described, _, path in told}


def _check_out_if_possible(one: _Submodule, main: str, unfiltered: bool) -> None:
    """Check a submodule out, or do without and say so in the log; what of it was made is taken away again."""
    if _is_taken(one):
        log.warning("without the submodule at %r: something that was brought back is in its place", printable(one.path))
        return
    try:
        _check_out(one, main, unfiltered, deeper=_check_out_if_possible)
    except (ConfigurationError, EnvironmentProblem) as error:
        if _was_made_for(one):
            delete(one.git_dir)
        delete(one.tree)
        with contextlib.suppress(OSError):
            os.makedirs(one.tree)  # as git leaves it where it is not checked out
        log.warning("without the submodule at %r: %s", printable(one.path), error.message)


def _was_made_for(one: _Submodule) -> bool:
    """Whether a submodule's git directory is its own: of two whose names are one inside the other, the other may have it."""
    try:
        return os.fsdecode(content(os.path.join(one.git_dir, MADE))) == one.path
    except OSError:
        return False


def _is_taken(one: _Submodule) -> bool:
    """Whether anything is where a submodule would be, or on the way: more than the empty directory that stands for it."""
    if any(_is_no_folder(os.path.join(one.around.tree, folder)) for folder in (one.path, *above(one.path))):
        return True
    try:
        return bool(os.listdir(one.tree))
    except OSError:
        return os.path.lexists(one.tree)


def _is_no_folder(path: str) -> bool:
    return os.path.islink(path) or (os.path.lexists(path) and not os.path.isdir(path))


def made_in(git_dir: str) -> Iterator[tuple[str, str]]:
    """Yield the submodules that we checked out below a git directory, not those inside them: paths and git directories."""
    for where, folders, files in os.walk(os.path.join(git_dir, "modules")):
        if "HEAD" in files and "objects" in folders:
            folders.clear()
            with contextlib.suppress(OSError):
                yield os.fsdecode(content(os.path.join(where, MADE))), where


def _submodules(
    around: Worktree, commit: str, store: str, settings: Mapping[str, Sequence[str]]
) -> Iterator[_Submodule]:
    listed = around.git("config", f"--blob={commit}:.gitmodules", "--list", "-z", env=polling(), accept=(0, 1, 128))
    if listed.code:
        return
    told = _settings(listed)
    names = {values[-1]: key for key, values in told.items() if key.startswith("submodule.") and key.endswith(".path")}
    said = {**told, **settings}
    for line in around.git("ls-files", "-s", "-t", "-z", env=polling()).fields:
        tag, _, rest = line.partition(" ")
        described, _, path = rest.partition("\t")
        mode, wanted, _ = described.split(" ")
        if mode != "160000" or tag == "S" or path not in names:
            continue
        key = names[path].removesuffix(".path")
        name = key.removeprefix("submodule.")

        def value(what: str, key: str = key) -> str:
            return said.get(f"{key}.{what}", [""])[-1]

        if value("update") == "none" or value("active").lower() in ("false", "no", "off", "0"):
            continue
        if ".." in PurePosixPath(name).parts or name.startswith("/") or not name:
            raise EnvironmentProblem(
                f"the submodule at {printable(path)!r} has a name that leads elsewhere: {printable(name)!r}",
                hint="git takes no such name; correct .gitmodules",
            )
        yield _Submodule(
            name, path, wanted, value("url"), around,
            os.path.join(store, "modules", name), os.path.join(around.git_dir, "modules", name),
        )  # fmt: skip


def _settings(answer: Answer) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in answer.fields:
        key, _, value = line.partition("\n")
        found.setdefault(key, []).append(value)
    return found


def _check_out(
    one: _Submodule,
    main: str,
    unfiltered: bool,
    deeper: Callable[[_Submodule, str, bool], None] | None = None,
) -> None:
    """Check a submodule out, and by `deeper` those inside it; None: by this."""
    inside = Worktree(one.tree, one.git_dir, one.around.descriptors)
    with _turns:
        _make(one, inside, main)
        settings = _settings(run_git("--git-dir=.", "config", "--list", "-z", cwd=one.git_dir))
        converting = filters.converting(settings) if unfiltered else []
        answer = inside.git(
            "read-tree", "-m", "-u", one.commit, settings=filters.left_out(converting), accept=(0, 128)
        )  # fmt: skip
        if answer.code:
            raise filters.failed(answer.err, one.tree, settings) or GitFailed(
                f"the submodule at {printable(one.path)!r} cannot be checked out", cause=answer.err.strip()
            )
        filters.refuse_unstable(inside, converting)
    for within in _submodules(inside, one.commit, one.store, settings):
        (deeper or _check_out)(within, main, unfiltered)


def _make(one: _Submodule, inside: Worktree, main: str) -> None:
    """Make the git directory, with the commit in it, and the file in the tree that names it."""
    try:
        _refuse_another_around(one)
        os.makedirs(one.git_dir)
        Path(one.git_dir, MADE).write_bytes(os.fsencode(one.path))
        if os.path.isdir(os.path.join(one.store, "objects")):
            _borrow(one)
        else:
            _begin_anew(one)
        _enter(one)
        if not _has(inside, one.commit):
            _fetch(one, inside, main)
        Path(one.git_dir, "HEAD").write_bytes(f"{one.commit}\n".encode())
    except OSError as error:
        raise EnvironmentProblem(
            f"the submodule at {printable(one.path)!r} cannot be made in {printable(one.around.tree)!r}",
            hint="check permissions and space",
            cause=str(error),
        ) from error


def _refuse_another_around(one: _Submodule) -> None:
    """Raise EnvironmentProblem if the git directory would be inside that of another submodule, which its name can ask for."""
    top = os.path.join(one.around.git_dir, "modules")
    above = os.path.dirname(one.git_dir)
    while above != top and above.startswith(top):
        if os.path.isfile(os.path.join(above, "HEAD")):
            raise EnvironmentProblem(
                f"the submodules at {printable(one.path)!r} and another have names of which one is inside the other: "
                f"{printable(one.name)!r}",
                hint="rename one of them in .gitmodules",
            )
        above = os.path.dirname(above)


def _borrow(one: _Submodule) -> None:
    """Make a git directory of what the main checkout has: its objects, what it knows of remotes, its settings."""
    if os.path.isdir(os.path.join(one.store, "reftable")):
        raise EnvironmentProblem(
            f"the submodule at {printable(one.path)!r} keeps its refs in a way that cannot be borrowed (reftable)",
            hint="run these tasks with submodules: false",
        )
    for name in ("config", "shallow"):
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(os.path.join(one.store, name), os.path.join(one.git_dir, name))
    os.makedirs(os.path.join(one.git_dir, "refs", "heads"))
    # git does nothing in a directory without a HEAD, and fetches nothing into one whose HEAD names what is not there.
    Path(one.git_dir, "HEAD").write_text("ref: refs/heads/none-yet\n", "ascii")
    _link_objects(os.path.join(one.store, "objects"), os.path.join(one.git_dir, "objects"))
    told = run_git(
        f"--git-dir={one.store}", f"--work-tree={one.store}", "for-each-ref",
        "--format=%(objectname) %(refname)%(if)%(symref)%(then) -%(end)", "refs/remotes", "refs/tags",
        cwd=one.store,
    ).text  # fmt: skip
    lines = [line for line in told.split("\n") if line and not line.endswith(" -")]
    Path(one.git_dir, "packed-refs").write_bytes(b"".join(os.fsencode(line) + b"\n" for line in lines))


def _link_objects(source: str, target: str) -> None:
    """Link every object: the loose ones first, since what is packed meanwhile is then found in a pack."""
    os.makedirs(os.path.join(target, "pack"))
    for folder in sorted(os.listdir(source)):
        if len(folder) == 2:
            os.makedirs(os.path.join(target, folder), exist_ok=True)
            _link_files(os.path.join(source, folder), os.path.join(target, folder), lambda name: "_" not in name)
    for _ in range(_PACKED_ANEW):
        if _link_files(os.path.join(source, "pack"), os.path.join(target, "pack"), _is_of_pack):
            break
    with contextlib.suppress(FileNotFoundError):
        lines = content(os.path.join(source, "info", "alternates")).splitlines()
        os.makedirs(os.path.join(target, "info"))
        there = [os.fsencode(os.path.join(source, os.fsdecode(line))) for line in lines if line and line[:1] != b"#"]
        Path(target, "info", "alternates").write_bytes(b"".join(line + b"\n" for line in there))


def _is_of_pack(name: str) -> bool:
    return name.startswith("pack-") and not name.endswith(".keep")


def _link_files(source: str, target: str, wanted: Callable[[str], bool]) -> bool:
    """Link the wanted files of a folder, an index of a pack after the pack; return whether none of them has gone meanwhile."""
    whole = True
    try:
        names = sorted(filter(wanted, os.listdir(source)), key=lambda name: (name.endswith(".idx"), name))
    except FileNotFoundError:
        return True
    for name in names:
        there, here = os.path.join(source, name), os.path.join(target, name)
        try:
            os.link(there, here)
        except FileExistsError:
            continue
        except FileNotFoundError:
            whole = False
        except OSError:  # a file system without hard links
            try:
                shutil.copy2(there, here)
            except FileNotFoundError:
                whole = False
    return whole


def _begin_anew(one: _Submodule) -> None:
    """Make a git directory of a submodule that the main checkout does not have."""
    url = _absolute(one)
    if not url:
        raise GitFailed(
            f"the submodule at {printable(one.path)!r} is not in the main checkout, and .gitmodules has no URL of it",
            hint="correct .gitmodules, or run these tasks with submodules: false",
        )
    run_git("init", "--quiet", "--bare", "--template=", _format_of(one.commit), ".", cwd=one.git_dir)
    for key, value in (
        ("core.bare", "false"),
        ("remote.origin.url", url),
        ("remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"),
    ):
        _set(one.git_dir, key, value)


def _set(git_dir: str, key: str, value: str) -> None:
    # Not asked in there: git does not start where the tree that its settings name is another's.
    run_git("config", "--file", os.path.join(git_dir, "config"), key, value, cwd=os.sep)


def _format_of(commit: str) -> str:
    return f"--object-format={'sha256' if len(commit) == 64 else 'sha1'}"


def _absolute(one: _Submodule) -> str:
    """Return the URL of a submodule; one that begins with `./` or `../` is meant from where the repository around it is from."""
    url = one.url
    if not url.startswith(("./", "../")):
        return url
    around = Worktree(one.around.tree, one.around.git_dir)
    base = around.git("config", "--get", "remote.origin.url", accept=(0, 1)).text or os.path.dirname(
        os.path.dirname(os.path.dirname(one.around.git_dir))
    )
    base = base.rstrip("/")
    while url.startswith(("./", "../")):
        step, _, url = url.partition("/")
        if step == "..":
            base, separator, _ = base.rpartition("/") if "/" in base else base.rpartition(":")
            base += separator if separator == ":" else ""
    return f"{base}{url}" if base.endswith(":") else f"{base}/{url}"


def _has(inside: Worktree, commit: str) -> bool:
    asked = run_git(
        f"--git-dir={inside.git_dir}", "cat-file", "-e", f"{commit}^{{commit}}", cwd=inside.git_dir, accept=(0, 1, 128)
    )
    return asked.code == 0


def _fetch(one: _Submodule, inside: Worktree, main: str) -> None:
    """Fetch a commit: what the remote's branches have, then, as git-submodule(1) does, that very one.  Raises GitFailed."""

    def git(*arguments: str, accept: Sequence[int] = (0,)) -> None:
        run_git(
            f"--git-dir={one.git_dir}", f"--work-tree={one.tree}", *arguments,
            cwd=one.git_dir, env=_NOT_TYPED, descriptors=inside.descriptors, accept=accept,
        )  # fmt: skip

    try:
        git("fetch", "--quiet", "origin", accept=(0, 1, 128))
        if not _has(inside, one.commit):
            git("fetch", "--quiet", "origin", one.commit)
            # No branch of the remote leads to it, but it has it: nothing is lost with what is here.
            git("update-ref", f"refs/remotes/moderator/{one.commit}", one.commit)
    except GitFailed as failure:
        raise GitFailed(
            f"the commit {one.commit[:12]} of the submodule at {printable(one.path)!r} is not in the main checkout, "
            "and cannot be fetched either",
            hint=f"bring it there: {to_type('git', '-C', main, 'submodule', 'update', '--init', '--recursive')}",
            cause=failure.cause,
        ) from failure


def _enter(one: _Submodule) -> None:
    """Let the tree and its git directory name each other, in git's own way: relative to where they really are."""
    tree, git_dir = os.path.realpath(one.tree), os.path.realpath(one.git_dir)
    if tree != os.path.join(os.path.realpath(one.around.tree), one.path):
        raise EnvironmentProblem(
            f"the submodule at {printable(one.path)!r} would be elsewhere: a symbolic link is on the way",
            hint="correct the commit that has both",
        )
    os.makedirs(tree, exist_ok=True)
    with open(os.path.join(tree, ".git"), "xb") as pointer:
        pointer.write(os.fsencode(f"gitdir: {os.path.relpath(git_dir, tree)}\n"))
    _set(git_dir, "core.worktree", os.path.relpath(tree, git_dir))


def is_made_by_us(git_dir: str) -> bool:
    """Whether we checked a submodule out, by its git directory."""
    return os.path.isfile(os.path.join(git_dir, MADE))
