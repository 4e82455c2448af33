"""What would be gone with a worktree: everything in it, and only named by it, that is in no commit reachable from a ref.

Nothing here changes anything.  What the user's settings hide is looked for all the same: entries flagged assume-unchanged or
skip-worktree, bytes that a filter takes away before git compares, repositories inside the tree, commits that only a log knows.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import stat
import sys
import tempfile
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from moderator.errors import GitFailed
from moderator.git import heads, pipes
from moderator.git.carried import as_carried, empty_as_carried, left_beside
from moderator.git.command import polling
from moderator.git.contents import IGNORED, Contents, Worktree, shown
from moderator.git.entries import CARRIED, RENDERED
from moderator.git.exact import files_in_index, joined
from moderator.git.repository import Repository
from moderator.git.survey import MANY, Survey, Watch, above
from moderator.opening import content, opened

HIDDEN = "changed, but hidden by assume-unchanged or skip-worktree"
CONVERTED = "other bytes than git compares, by a filter or line endings"
NESTED = "repositories of their own, submodules say"
"""How findings begin."""
_OBJECT_ID = re.compile(rb"\b[0-9a-f]{40}(?:[0-9a-f]{24})?\b")
_LONGEST_NOTE = 16 * 2**20  # bytes of an administrative file in which object ids are looked for
_NOT_WORK = ("index", "sharedindex.", "FETCH_HEAD", "AUTO_MERGE")
"""What an index holds is looked at apart; the others name what a fetch or a merge gives again."""
_CONVERSIONS = ("text", "crlf", "eol", "ident", "filter", "working-tree-encoding")
_PIECE = 2**20  # bytes of a file that are read at once
_CLOCK_TICK = 20_000_000  # nanoseconds by which times of files may be behind the clock


@dataclass(frozen=True)
class Unsaved:
    """What is in no commit reachable from a ref.

    `hidden` are changed files with a flag that keeps git from looking, `converted` files whose bytes a filter or the line
    endings make equal for git, `nested` repositories of their own, `objects` what nothing but the worktree's administrative
    directory names, by kind.  Not among `nested` are those in `carried`: exactly as they were carried, here and in the main
    checkout.  `special` are sockets, pipes and devices, `empty` directories without anything in them.
    `verbatim` files are in a commit as they are, but a checkout would convert them.  `modes` are the permissions of tracked
    files, and of the folders they are in, that a checkout would not give.  On request: `left` is what a removal would leave to
    the trash, for no commit can or should hold it, `size` is in bytes.  `survey` stamps what is in the tree.
    """

    contents: Contents
    operation: str | None = None
    hidden: tuple[str, ...] = ()
    converted: tuple[str, ...] = ()
    verbatim: tuple[str, ...] = ()
    nested: tuple[str, ...] = ()
    carried: tuple[str, ...] = ()
    objects: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    special: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()
    modes: Mapping[str, int] = field(default_factory=dict)
    left: tuple[str, ...] = ()
    size: int | None = None
    survey: Survey | None = field(default=None, compare=False, repr=False)

    @classmethod
    def nothing(cls) -> Unsaved:
        """Return what a workspace without a tree of its own holds."""
        return cls(Contents())

    @property
    def findings(self) -> list[str]:
        """A sentence for each kind of thing that would be gone."""
        contents = self.contents
        found = [
            f"{what}: {shown(paths)}"
            for what, paths in (
                ("staged", contents.staged),
                ("changed, not committed", contents.modified),
                ("in conflict", contents.unmerged),
                ("untracked", [path for path in contents.untracked if path not in contents.nested]),
                (IGNORED, contents.ignored),
                (NESTED, self.nested),
                (HIDDEN, self.hidden),
                (CONVERTED, self.converted),
                ("not readable", contents.warnings),
            )
            if paths
        ]
        if self.operation:
            found.append(f"a {self.operation} in progress")
        for kind, names in self.objects.items():
            found.append(f"{kind}s that no branch holds: {shown(sorted(name[:12] for name in names))}")
        return found

    @property
    def ignored(self) -> list[str]:
        return self.contents.ignored

    @property
    def changed(self) -> list[str]:
        """Tracked paths whose content on disk is not that of the index."""
        return list(dict.fromkeys([*self.contents.modified, *self.contents.unmerged, *self.hidden, *self.converted]))

    @property
    def is_rescuable(self) -> bool:
        """Whether there is anything that a commit can hold."""
        contents = self.contents
        return bool(
            contents.staged or self.changed or contents.untracked or self.operation or self.objects or self.empty
        )


def look(
    repository: Repository,
    worktree: Worktree,
    ref: str | None,
    measure: bool = False,
    submodules: bool = True,
) -> Unsaved:
    """Return what would be gone if the tree and its administrative directory were.

    `ref` is the ref that stays and holds the workspace's commits; `measure` adds
    up the size of the tree; `submodules=False` does not ask git what is in them.
    """
    with worktree.looked_at(submodules) as (contents_told, index_told):  # `Watch` tells what was written meanwhile
        survey = _surveyed(worktree, settled_at(worktree.git_dir))
        _refuse_pipes(worktree, survey)
        contents, entries = contents_told(), _by_path(index_told())
    marked = _marked(entries)
    flagged = _flagged(worktree, marked)
    same = _same_name(repository)
    known = itertools.chain(entries, contents.untracked, contents.ignored)
    contents.ignored = left_beside(worktree, [*contents.ignored, *sorted(survey.overlooked(known, same))])
    # Nobody made those: they were carried, or stand where a submodule is not checked out.
    made = empty_as_carried(worktree, survey.empty)
    made |= {path for path in survey.empty if entries.get(path, "")[2:].startswith("160000 ")}
    nested = list(dict.fromkeys([*survey.nested, *(path.rstrip("/") for path in contents.nested)]))
    carried = as_carried(worktree, nested, repository.main_top)
    nested = [path for path in nested if path not in carried]
    if not nested and os.path.isdir(modules := _modules_of(worktree)):
        nested = [modules]
    if same:
        young = set(map(same, survey.young))
        touched = {path: line for path, line in entries.items() if same(path) in young}
    else:
        touched = {path: entries[path] for path in sorted(survey.young) if path in entries}
    converted, verbatim = _converted(repository, worktree, touched, {*contents.uncommitted, *flagged})
    return Unsaved(
        contents,
        worktree.operation,
        hidden=(*_differing(worktree, entries, flagged), *_gone(worktree, marked)),
        converted=tuple(converted),
        verbatim=tuple(verbatim),
        nested=tuple(nested),
        carried=tuple(sorted(carried)),
        objects=_only_named_here(repository, worktree, ref, {contents.head})[1],
        special=tuple(survey.special),
        empty=tuple(path for path in survey.empty if path not in made),
        modes=_other_modes(worktree, entries, marked, survey),
        size=survey.size if measure else None,
        survey=survey,
    )


def _refuse_pipes(worktree: Worktree, survey: Survey) -> None:
    """Raise PipeInTheWay at once where git will wait for ever; elsewhere it is told when it does (`command`)."""
    for path in filter(pipes.is_read_in_trees, survey.special):
        pipes.refuse_one(os.path.join(worktree.tree, path))


def look_again(
    repository: Repository, worktree: Worktree, ref: str | None, before: Unsaved, watch: Watch
) -> Unsaved | None:
    """Return what would be gone by now with a tree that may have been renamed; None if something in it was written since.

    `before` is what a look that `watch` covers found: what no stamp tells apart from then is as it was.
    """
    survey = before.survey
    more = before.nested or before.carried or os.path.lexists(_modules_of(worktree))  # than a tree and its files
    if survey is None or more or not watch.goes_on(worktree.tree, survey):
        survey = _surveyed(worktree)
    head, objects = _only_named_here(repository, worktree, ref)
    if before.survey is None or survey.stamps != before.survey.stamps or head != before.contents.head:
        return None
    if as_carried(worktree, before.carried, repository.main_top) != set(
        before.carried
    ):  # no stamp tells of the main checkout
        return None
    return replace(before, operation=worktree.operation, objects=objects, survey=survey)


def _surveyed(worktree: Worktree, since: int = sys.maxsize) -> Survey:
    survey = Survey(worktree.tree, since, large=files_in_index(worktree.git_dir) >= MANY)
    survey.stamp_repositories(worktree.tree, _modules_of(worktree))
    return survey


def _modules_of(worktree: Worktree) -> str:
    """Return where the repositories of a worktree's submodules are."""
    return os.path.join(worktree.git_dir, "modules")


def unseen(repository: Repository, worktree: Worktree, contents: Contents) -> tuple[list[str], list[str]]:
    """Return the tracked files whose flags, or whose conversions, keep git from telling that they hold something else.

    `contents` is what git does tell of the worktree.
    """
    entries = _by_path(worktree.git("ls-files", "-v", "-s", "-z", env=polling()).fields)
    marked = _marked(entries)
    flagged = _flagged(worktree, marked)
    converted, _ = _converted(repository, worktree, entries, {*contents.uncommitted, *flagged})
    return [*_differing(worktree, entries, flagged), *_gone(worktree, marked)], converted


def _same_name(repository: Repository) -> Callable[[str], str] | None:
    """Return what makes two names of one file equal, on file systems that know it by several."""
    if {"true"} & {repository.setting("core.ignorecase"), repository.setting("core.precomposeunicode")}:
        return lambda path: unicodedata.normalize("NFC", path).casefold()
    return None


_ORDINARY = "H 100644 "
"""How the line of a file begins that git looks at and that is not executable: nearly all are such."""


def _by_path(lines: Sequence[str]) -> dict[str, str]:
    """Return the lines of the index by their paths; of a path in conflict, one of its sides.

    They are taken apart only where they are looked at closely: there may be a million.
    """
    before = lines[0].index("\t") + 1 if lines else 0  # all that stands before a path is as long in every line
    return {line[before:]: line for line in lines}


def _marked(entries: Mapping[str, str]) -> dict[str, str]:
    """Return the lines of all that is more than an ordinary file."""
    return {path: line for path, line in entries.items() if not line.startswith(_ORDINARY)}


def _other_modes(
    worktree: Worktree, entries: Mapping[str, str], marked: Mapping[str, str], survey: Survey
) -> dict[str, int]:
    """Return the permissions of what is tracked, and of the folders that it is in, where no checkout of ours gives them."""
    try:  # a file of the same making, which nobody writes to
        plain = os.lstat(os.path.join(worktree.git_dir, "commondir")).st_mode & 0o666
    except OSError:
        return {}
    executable = plain | (plain & 0o444) >> 2
    wanted = {"100644": stat.S_IFREG | plain, "100755": stat.S_IFREG | executable}
    folder, stamps = stat.S_IFDIR | executable, survey.stamps
    usual = (wanted["100644"], folder)
    unusual = [path for path, one in stamps.items() if one[0] not in usual]
    found = {
        path: stamps[path][0]
        for path in (*unusual, *marked)
        # Bits that a parent folder hands down, such as its group, come again by themselves.
        if path in entries
        and path in stamps
        and stat.S_ISREG(stamps[path][0])
        and (stamps[path][0] & ~0o7000) != wanted.get(entries[path][2:8])
    }
    other = [path for path in unusual if path and stat.S_ISDIR(stamps[path][0]) and stamps[path][0] & ~0o7000 != folder]
    if other:
        around = {path for entry in entries for path in above(entry)}
        found |= {path: stamps[path][0] for path in other if path in around}
    return {path: stat.S_IMODE(mode) for path, mode in found.items()}


def _flagged(worktree: Worktree, marked: Mapping[str, str]) -> list[str]:
    """Return the files that are there and that git does not look at."""
    flagged = [path for path, line in marked.items() if line[0].islower() or line[0] == "S"]
    return [path for path in flagged if os.path.lexists(os.path.join(worktree.tree, path))]


def _gone(worktree: Worktree, marked: Mapping[str, str]) -> list[str]:
    """Return the files that are not there, and of which git says nothing for it takes them for unchanged.

    One that it is told not to check out (skip-worktree) is not there by rights.
    """
    unchanged = [path for path, line in marked.items() if line[0].islower() and line[0] != "s"]
    return [path for path in unchanged if not os.path.lexists(os.path.join(worktree.tree, path))]


def _differing(worktree: Worktree, entries: Mapping[str, str], paths: Sequence[str]) -> list[str]:
    """Return which of these files are not what the index has, by their content alone.

    What the index remembers of their times proves nothing: whoever writes it anew, `git status` say, takes what git does not look
    at for unchanged, also where that is as young as the index was and so ought to be read (gitformat-index(5), racy git).
    """
    if not paths:
        return []
    deciding = (
        path for path in entries if os.path.basename(path) == ".gitattributes"
    )  # of what is not checked out too
    lines = [entries[path].partition(" ")[2] for path in dict.fromkeys((*paths, *deciding))]
    with tempfile.TemporaryDirectory(prefix="moderator-") as folder:
        private = {"GIT_INDEX_FILE": os.path.join(folder, "index")}
        worktree.git("update-index", "-z", "--index-info", stdin=joined(lines), env=private)
        worktree.git("update-index", "-q", "--refresh", env=private, accept=(0, 1))
        changed = worktree.git("diff-files", "-z", "--name-only", "--ignore-submodules=none", env=private).fields
    return [path for path in paths if path in set(changed)]


def settle(git_dir: str) -> None:
    """Note in a new worktree's entry that its files are all checked out: what is younger was written by somebody."""
    os.utime(os.path.join(git_dir, "commondir"))


def settled_at(git_dir: str) -> int:
    """Return when the files of a worktree were all checked out, in nanoseconds."""
    try:
        return os.stat(os.path.join(git_dir, "commondir")).st_mtime_ns - _CLOCK_TICK
    except OSError:
        return 0


def _converted(
    repository: Repository, worktree: Worktree, entries: Mapping[str, str], known: Collection[str]
) -> tuple[list[str], list[str]]:
    """Find tracked files that git takes for unchanged though no checkout would give their bytes.

    Apart from those whose very bytes are in the index, which come second.  `entries` are of what was written since the
    worktree was made; of that only what attributes or settings convert is read.
    """
    touched = {
        path: line.split(" ", 3)[2] for path, line in entries.items() if line[2:5] == "100" and path not in known
    }
    converting = _with_conversions(repository, worktree, touched) if touched else {}
    if not converting:
        return [], []
    same = dict.fromkeys(path for path in converting if _is_verbatim(os.path.join(worktree.tree, path), touched[path]))
    return (
        [path for path in converting if path not in same and not _as_checked_out(worktree, path, touched)],
        [path for path in same if converting[path] and not _as_checked_out(worktree, path, touched)],
    )


def _is_verbatim(path: str, blob: str) -> bool:
    """Whether a blob holds the very bytes of a file."""
    digest = hashlib.new("sha256" if len(blob) == 64 else "sha1", usedforsecurity=False)
    try:
        with opened(path) as file:
            digest.update(b"blob %d\0" % os.fstat(file.fileno()).st_size)
            while piece := file.read(_PIECE):
                digest.update(piece)
    except OSError:  # it has gone this moment, and the second look will tell
        return False
    return digest.hexdigest() == blob


def _with_conversions(repository: Repository, worktree: Worktree, paths: Mapping[str, str]) -> dict[str, bool]:
    """Return which files are converted, and whether that can change the bytes that a checkout writes."""
    automatic = repository.setting("core.autocrlf", "false").lower()
    everywhere = automatic not in ("false", "0", "no", "off")
    to_crlf = automatic in ("true", "1", "yes", "on") or repository.setting("core.eol").lower() == "crlf"
    fields = worktree.git("check-attr", "-z", "--stdin", *_CONVERSIONS, stdin=joined(paths), env=polling()).fields
    found: dict[str, bool] = {}
    for path, name, value in zip(fields[::3], fields[1::3], fields[2::3], strict=True):
        is_set = value not in ("unspecified", "unset")
        if everywhere or is_set:
            writes = to_crlf or (is_set and (name in ("ident", "filter", "working-tree-encoding") or value == "crlf"))
            found[path] = found.get(path, False) or writes
    return found


def _as_checked_out(worktree: Worktree, path: str, blobs: Mapping[str, str]) -> bool:
    try:
        wanted = worktree.git("cat-file", "--filters", f"--path={path}", blobs[path], env=polling()).out
        return content(os.path.join(worktree.tree, path)) == wanted
    except (GitFailed, OSError):  # a filter that does not work proves nothing
        return False


def named_in(git_dir: str) -> set[str]:
    """Return every object id that the files of an administrative directory name, its index and its submodules' apart."""
    named = {*heads.own_refs(git_dir).values(), *heads.logged(git_dir)}
    for path in notes_of(git_dir):
        if path.startswith(_NOT_WORK) or heads.is_of_tables(path):
            continue
        for line in _lines_of(os.path.join(git_dir, path)):
            # A reflog line is: old new who when, a tab, and words that may quote anything.
            named |= {found.decode() for found in _OBJECT_ID.findall(line.partition(b"\t")[0])}
    return {name for name in named if name.strip("0")}


def notes_of(git_dir: str) -> list[str]:
    """Return the files of an administrative directory that say where its worktree stands, as paths in it."""
    found = []
    for where, folders, names in os.walk(git_dir):
        if where == git_dir and "modules" in folders:
            folders.remove("modules")
        for name in names:
            inside = os.path.relpath(os.path.join(where, name), git_dir)
            if inside in (
                CARRIED,
                RENDERED,
            ):  # of the disk, not of any commit; and its names may look like those of objects
                continue
            if not name.endswith(".lock") and _is_note(os.path.join(where, name), name):
                found.append(inside)
    return sorted(found)


def _is_note(path: str, name: str) -> bool:
    try:
        found = os.lstat(path)
    except OSError:  # it has gone this moment, and the second look will tell
        return False
    if stat.S_ISLNK(found.st_mode):
        return True
    size_matters = name != "index" and not name.startswith("sharedindex.")
    return stat.S_ISREG(found.st_mode) and not (size_matters and found.st_size > _LONGEST_NOTE)


def _lines_of(path: str) -> list[bytes]:
    """Return the lines of a note; of a link, where it leads: it is never followed."""
    try:
        if os.path.islink(path):
            return [os.fsencode(os.readlink(path))]
        return content(path).split(b"\n")
    except OSError:
        return []


def _only_named_here(
    repository: Repository, worktree: Worktree, ref: str | None, known: Iterable[str] = ()
) -> tuple[str, dict[str, tuple[str, ...]]]:
    """Return the commit at HEAD, and the objects that nothing but this worktree's own files name: HEAD, logs, private refs."""
    named = sorted({name for name in (*named_in(worktree.git_dir), *known) if name.strip("0")})
    asked = ["HEAD^{commit}", *([f"{ref}^{{commit}}"] if ref else []), *named]
    # One process for all that there is to ask.
    given = os.fsencode("".join(f"{revision}\n" for revision in asked))
    told = worktree.git("cat-file", "--batch-check=%(objecttype) %(objectname)", stdin=given, env=polling())
    found = [(kind, name) for kind, _, name in (line.partition(" ") for line in told.text.split("\n"))]
    head = found[0][1] if found[0][0] == "commit" else ""
    held = found[1][1] if ref and found[1][0] == "commit" else None
    kinds: dict[str, list[str]] = {}
    for kind, name in dict.fromkeys((found[0], *found[len(asked) - len(named) :])):
        if kind in ("commit", "tag", "tree", "blob") and name not in ("missing", held):
            kinds.setdefault(kind, []).append(name)
    lost = {kind: _unreachable(repository, kind, names, ref if held else None) for kind, names in kinds.items()}
    return head, {kind: names for kind, names in lost.items() if names}


def _unreachable(repository: Repository, kind: str, names: Sequence[str], ref: str | None) -> tuple[str, ...]:
    how = () if kind == "commit" else ("--objects", "--no-object-names")
    asked = "\n".join(names).encode() + b"\n"
    # HEAD is left out on purpose: a commit that only a detached HEAD names is not safe.
    listed = repository.git("rev-list", *how, "--stdin", "--not", "--glob=refs/*", stdin=asked)
    lost = set(listed.text.split()) & set(names)
    if lost and ref:
        # `--`: in the common directory a loose ref is a file of that name too.
        lost -= set(repository.git("rev-list", "--walk-reflogs", ref, "--", accept=(0, 128)).text.split())
    return tuple(sorted(lost))
