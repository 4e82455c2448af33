"""Where worktrees stand: what their HEADs say, and the refs that each of them has for itself.

Where refs are files, these are files of the administrative directory, gitrepository-layout(5), and are read and written as such.
Where they are tables (reftable, git 2.45) the file HEAD is there too, and says the same whatever is checked out: git is asked.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from moderator.git.command import polling, run_git
from moderator.opening import content

_ITS_OWN = ("refs/worktree/", "refs/bisect/", "refs/rewritten/")
"""How the names of refs begin that each worktree has for itself, git-worktree(1)."""
_ROOT = re.compile(r"[A-Z][A-Z_]*")
"""So are those that lie beside HEAD, such as CHERRY_PICK_HEAD."""
_NO_WORK = ("HEAD", "AUTO_MERGE", "FETCH_HEAD")
"""HEAD is seen to apart; the others name what a merge or a fetch gives again."""
_STUB = "ref: refs/heads/.invalid"
"""What the file HEAD says where refs are no files."""
_AT_ONCE = 500  # names on one command line, which has an end


def are_files(git_dir: str) -> bool:
    """Whether the refs of a worktree, or of a repository, are files in its administrative directory."""
    return not os.path.isdir(os.path.join(git_dir, "reftable")) and _in_file(git_dir) != _STUB


def said(git_dir: str) -> str:
    """Return what the HEAD of a worktree says: `ref: refs/heads/main`, or the id of an object; "" if it says nothing."""
    if are_files(git_dir):
        return _in_file(git_dir)
    branch = _asked(git_dir, "symbolic-ref", "--quiet", "HEAD")
    return f"ref: {branch}" if branch else commit_of(git_dir, "HEAD")


def said_by(common: str, names: Sequence[str]) -> dict[str, str]:
    """Return what the HEADs of linked worktrees say, by the names of their entries, and that of the main one by "".

    Of one that is on no branch only that: "".
    """
    entries = {name: os.path.join(common, "worktrees", name) if name else common for name in names}
    if are_files(common):
        return {name: said(entry) for name, entry in entries.items()}
    found: dict[str, str] = {}
    for start in range(0, len(names), _AT_ONCE):
        some = names[start : start + _AT_ONCE]
        asked = [f"worktrees/{name}/HEAD" if name else "main-worktree/HEAD" for name in some]
        answer = run_git(
            "--git-dir=.", "rev-parse", "--symbolic-full-name", *asked, cwd=common, env=polling(), accept=(0, 128)
        )
        lines = answer.text.split("\n")
        if answer.code or len(lines) != len(
            some
        ):  # a branch without commits stops it, and a worktree that has just gone
            found |= {name: said(entries[name]) for name in some}
        else:
            found |= {
                name: f"ref: {line}" if line.startswith("refs/") else "" for name, line in zip(some, lines, strict=True)
            }
    return found


def place(common: str, git_dir: str, text: str) -> None:
    """Let the HEAD of a worktree say something else, whole or not at all; no file of the worktree is touched.

    Its administrative directory may be anywhere; `common` is the repository's.  Raises OSError, GitFailed.
    """
    if are_files(git_dir):
        aside = os.path.join(git_dir, "HEAD.new")
        with open(aside, "wb") as file:
            file.write(os.fsencode(text) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, os.path.join(git_dir, "HEAD"))
        return
    os.makedirs(os.path.join(git_dir, "reftable"), exist_ok=True)  # without it git writes nothing
    branch = text.removeprefix("ref: ")
    change = ("symbolic-ref", "HEAD", branch) if branch != text else ("update-ref", "--no-deref", "HEAD", text)
    run_git(f"--git-dir={git_dir}", *change, cwd=git_dir, env={"GIT_COMMON_DIR": common}, repeatable=True)


def own_refs(git_dir: str) -> dict[str, str]:
    """Return the refs that a worktree has for itself, beside HEAD, with what they name; only where they are no files."""
    if are_files(git_dir):
        return {}
    listed = _run(git_dir, "for-each-ref", "--include-root-refs", "--format=%(objectname) %(refname)")
    pairs = (line.split(" ", 1) for line in listed.split("\n") if line)
    return {name: commit for commit, name in pairs if name not in _NO_WORK and _is_its_own(name)}


def logged(git_dir: str) -> set[str]:
    """Return every commit that the logs of a worktree's own refs name; only where they are no files."""
    if are_files(git_dir):
        return set()
    logs = [name for name in _run(git_dir, "reflog", "list").split("\n") if name and _is_its_own(name)]
    return {commit for name in logs for commit in log_of(git_dir, name)}


def log_of(git_dir: str, name: str) -> list[str]:
    """Return the commits that a ref stood at, as far as its log tells, the newest first; none if it has no log."""
    # Commits that are gone end it: what is told until then is all that can be lost.
    return _asked(git_dir, "rev-list", "--walk-reflogs", name, "--").split()


def commit_of(git_dir: str, name: str) -> str:
    """Return the object that a ref leads to, as a worktree or repository sees it, "" if there is none."""
    return _asked(git_dir, "rev-parse", "--verify", "--quiet", name)


def write_own_refs(git_dir: str, refs: Mapping[str, str]) -> None:
    """Write refs that a worktree has for itself.  Raises GitFailed."""
    for name, commit in refs.items():
        if _is_its_own(name) and name not in _NO_WORK:
            _run(git_dir, "update-ref", "--no-deref", name, commit)


def is_of_tables(note: str) -> bool:
    """Whether a file of an administrative directory, by its path there, is one of those in which refs are stored."""
    return note.startswith("reftable" + os.sep) or note == os.path.join("refs", "heads")


def _in_file(git_dir: str) -> str:
    try:
        return os.fsdecode(content(os.path.join(git_dir, "HEAD")).strip())
    except OSError:
        return ""


def _is_its_own(name: str) -> bool:
    return name.startswith(_ITS_OWN) or bool(_ROOT.fullmatch(name))


def _run(git_dir: str, *arguments: str) -> str:
    return run_git(f"--git-dir={git_dir}", *arguments, cwd=git_dir, env=polling(), repeatable=True).text


def _asked(git_dir: str, *arguments: str) -> str:
    command = (f"--git-dir={git_dir}", *arguments)
    answer = run_git(*command, cwd=git_dir, env=polling(), accept=(0, 1, 128))
    return answer.text
