"""Trees of files as they are on disk, byte for byte, and back.

`git add` and `git checkout` convert: line endings, `ident`, clean and smudge filters, encodings; an index of the user's knows
entries it must not look at.  Here a private git directory is used in which attributes turn every conversion off, with an index
of its own, no hook, and the repository's objects.  The user's index, configuration and files are only read.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterable
from types import TracebackType

from moderator.errors import WouldLoseWork
from moderator.git import pipes
from moderator.git.command import Answer, run_git
from moderator.git.contents import printable
from moderator.git.repository import Repository
from moderator.opening import opened

DURABLE = {"core.fsync": "committed,loose-object,reference", "core.fsyncMethod": "batch"}
"""Work is on disk before anyone is told that it is kept (git's default leaves loose objects to the page cache)."""

_NOTHING_CONVERTS = "* -text -eol -ident -filter -working-tree-encoding -diff\n"
_FOLLOWED = ("core.ignorecase", "core.symlinks", "core.precomposeunicode", "core.longpaths", "core.compression")
"""Settings that say what the file system is like."""


class Exact:
    """Writes trees from files, and files from trees, with nothing converted.  For a `with`."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._folder = repository.ours / "staging" / f"rescue-{secrets.token_hex(8)}"
        self._count = 0

    @property
    def folder(self) -> str:
        """The private directory, for whatever else is needed for as long as the `with`."""
        return str(self._folder)

    def __enter__(self) -> Exact:
        for name in ("refs", "info"):
            (self._folder / name).mkdir(parents=True)
        settings = self._repository.settings
        sha256 = settings.get("extensions.objectformat", ["sha1"])[-1] == "sha256"
        lines = ["[core]", f"repositoryFormatVersion = {int(sha256)}", "bare = false", "fileMode = true"]
        lines += ["protectNTFS = false", "protectHFS = false"]
        lines += [f"{key.partition('.')[2]} = {settings[key][-1]}" for key in _FOLLOWED if key in settings]
        if sha256:
            lines += ["[extensions]", "objectFormat = sha256"]
        (self._folder / "config").write_text("\n".join(lines) + "\n", "utf-8")
        (self._folder / "info" / "attributes").write_text(_NOTHING_CONVERTS, "utf-8")
        (self._folder / "HEAD").write_text("ref: refs/heads/none\n", "utf-8")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def git(self, *arguments: str, folder: str, index: str, stdin: bytes = b"") -> Answer:
        """Run git on the files in `folder` with a private index."""
        return run_git(
            f"--git-dir={self._folder}", f"--work-tree={folder}", *arguments,
            cwd=folder,
            env={
                "GIT_OBJECT_DIRECTORY": os.path.join(self._repository.common, "objects"),
                "GIT_INDEX_FILE": index,
                "GIT_LITERAL_PATHSPECS": "1",
            },
            settings={**DURABLE, "core.autocrlf": "false", "core.attributesFile": os.devnull, "core.sparseCheckout": "false"},
            stdin=stdin,
            repeatable=True,
        )  # fmt: skip

    def index(self) -> str:
        """Return the name of an index that does not exist yet."""
        self._count += 1
        return str(self._folder / f"index-{self._count}")

    def tree(self, folder: str, paths: Iterable[str], start: str | None = None, without: Iterable[str] = ()) -> str:
        """Return the tree that is `start` without some paths and with these as they are in `folder`."""
        index, added, removed = self.index(), list(paths), list(without)
        if start:
            self.git("read-tree", start, folder=folder, index=index)
            # What is taken out first is read anew: nothing is believed to be unchanged.
            removed += added
        if removed:
            self.git(
                "update-index", "--force-remove", "-z", "--stdin", folder=folder, index=index, stdin=joined(removed)
            )
        if added:
            self.git("update-index", "--add", "-z", "--stdin", folder=folder, index=index, stdin=joined(added))
            # It passes over what it thinks dangerous (a name like `.GIT`) with a word, and says that all went well.
            held = set(self.git("ls-files", "-z", folder=folder, index=index).fields)
            if refused := [path for path in added if path not in held]:
                raise WouldLoseWork(
                    f"git takes some files in {printable(folder)!r} into no tree",
                    [printable(path) for path in refused],
                    hint="move them away or rename them, and try again",
                )
        return self.git("write-tree", folder=folder, index=index).text

    def write(self, folder: str, tree: str, paths: Iterable[str] | None = None) -> None:
        """Write files of a tree into `folder`: these, or all of them; what is there under their names is replaced."""
        index = self.index()
        self.git("read-tree", tree, folder=folder, index=index)
        if paths is None:
            self.git("checkout-index", "--all", "--force", folder=folder, index=index)
        elif wanted := list(paths):
            self.git("checkout-index", "--force", "-z", "--stdin", folder=folder, index=index, stdin=joined(wanted))

    def blob(self, content: bytes) -> str:
        """Store some bytes; return their id."""
        return self.git("hash-object", "-w", "--stdin", folder=self.folder, index=self.index(), stdin=content).text

    def tree_of(self, entries: Iterable[tuple[str, str, str]]) -> str:
        """Return the tree with these entries: mode, id, name."""
        kinds = {"040000": "tree", "160000": "commit"}
        lines = b"".join(
            os.fsencode(f"{mode} {kinds.get(mode, 'blob')} {name}\t{path}") + b"\0" for mode, name, path in entries
        )
        return self.git("mktree", "-z", folder=self.folder, index=self.index(), stdin=lines).text


def joined(paths: Iterable[str]) -> bytes:
    """Return paths as the `-z` commands read them."""
    return b"".join(os.fsencode(path) + b"\0" for path in paths)


def files_in_index(git_dir: str) -> int:
    """Return how many files an index names, as its header tells, gitformat-index(5); 0 if there is none."""
    with contextlib.suppress(OSError), opened(os.path.join(git_dir, "index")) as index:
        return int.from_bytes(index.read(12)[8:], "big")
    return 0


def copy_index(git_dir: str, target: str) -> None:
    """Copy the index of a worktree, its time too.

    git takes a file that is as young as the index for one that may have changed in the same second, and reads it; beside a
    younger copy it would believe the stamp (gitformat-index(5), racy git).  Raises PipeInTheWay.
    """
    index = os.path.join(git_dir, "index")
    pipes.refuse_one(index)
    shutil.copy2(index, target)
