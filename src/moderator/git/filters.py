"""Filters at a checkout (gitattributes(5), filter): left out, so that files are as they are stored, and named when they fail.

Left out is what writes (smudge) and only for one checkout, by settings of that call.  What reads (clean) goes on as the repository
says: whatever a task adds later is stored as everybody's is.  So that is possible only where cleaning what is stored gives the
same again, as it does for the pointers of git-lfs; that is proven before a workspace is handed out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence

from moderator.errors import ConfigurationError, GitFailed
from moderator.git.broken import broken_filter
from moderator.git.command import polling
from moderator.git.contents import Worktree, printable
from moderator.git.exact import joined

_KNOWN_TO_BE_SAFE = ("lfs",)
"""Filters that leave what they made themselves as it is: git-lfs-clean(1) passes pointers through."""


def converting(settings: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the names of the filters that change what a checkout writes; `settings` are those of a repository."""
    found = set()
    for key, values in settings.items():
        section, _, rest = key.partition(".")
        name, _, what = rest.rpartition(".")
        if section == "filter" and what in ("smudge", "process") and values[-1] not in ("", "cat"):
            found.add(name)
    return sorted(found)


def required(settings: Mapping[str, Sequence[str]]) -> bool:
    """Whether there is a filter without which git does not read a file: what is wrong with it, git cannot get past."""
    return any(
        key.startswith("filter.") and key.endswith(".required") and values[-1] not in ("false", "no", "off", "0")
        for key, values in settings.items()
    )


def left_out(names: Iterable[str]) -> dict[str, str]:
    """Return the settings of a checkout that leaves everything as it is stored."""
    return {
        f"filter.{name}.{key}": value
        for name in names
        for key, value in (("smudge", ""), ("process", ""), ("required", "false"))
    }


def refuse_unstable(worktree: Worktree, names: Iterable[str]) -> None:
    """Raise ConfigurationError if one of the filters would make of a file, which is as it is stored, something else.

    git would take it for changed as soon as somebody touches it, and a commit would hold that something else.
    """
    doubtful = set(names) - set(_KNOWN_TO_BE_SAFE)
    if not doubtful:
        return
    listed = worktree.git("ls-files", "-s", "-z", env=polling()).fields
    blobs = {
        path: told.split(" ")[1] for told, _, path in (line.partition("\t") for line in listed) if told[:3] == "100"
    }
    answer = worktree.git("check-attr", "-z", "--stdin", "filter", stdin=joined(blobs), env=polling()).fields
    filtered = {
        path: name
        for path, name in zip(answer[::3], answer[2::3], strict=True)
        if name in doubtful and os.path.lexists(os.path.join(worktree.tree, path))
    }
    if not filtered:
        return
    asked = "".join(f"{_quoted(path)}\n" for path in filtered)
    answered = worktree.git("hash-object", "--stdin-paths", stdin=os.fsencode(asked), env=polling(), accept=(0, 128))
    if answered.code:
        raise failed(answered.err, worktree.tree, {}) or GitFailed(
            f"what is stored in {printable(worktree.tree)!r} cannot be hashed", cause=answered.err.strip()
        )
    for (path, name), now in zip(filtered.items(), answered.text.split("\n"), strict=True):
        if now != blobs[path]:
            raise ConfigurationError(
                f"smudge: skip does not go with the filter {name!r}: git would take {printable(path)!r} for changed, "
                "since what is stored, cleaned once more, is something else",
                hint="use smudge: run for this repository",
            )


def failed(said: str, tree: str, settings: Mapping[str, Sequence[str]]) -> GitFailed | None:
    """Return the error that names a filter and the file that it failed on, as far as git says that it is this.

    `settings` are those of the repository.
    """
    names = [key[7:-8] for key, values in settings.items() if re.fullmatch(r"filter\..+\.process", key) and values[-1]]
    broken = broken_filter(said, names)
    if broken is None:
        return None
    return GitFailed(
        printable(f"{broken} at the checkout into {tree!r}"),
        hint=f"{broken.hint}\nor have files as they are stored: smudge: skip in moderator.yaml",
        cause="\n".join(said.strip().splitlines()[:6]),
    )


def _quoted(path: str) -> str:
    """Return a path as git reads it from a line."""
    if not path.startswith('"') and "\n" not in path:
        return path
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
