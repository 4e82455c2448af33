"""Which files there are: in a commit, and in a checkout beside what git tracks.  Reads only."""

from __future__ import annotations

from moderator.git.command import polling, run_git
from moderator.git.repository import Repository


def files_in(repository: Repository, commit: str) -> list[str]:
    """Return the paths of the regular files of a commit, in git's order; links and submodules are none."""
    listed = repository.git("ls-tree", "-r", "-z", "--full-tree", commit).fields
    return [path for about, _, path in (entry.partition("\t") for entry in listed) if about.startswith("100")]


def ignored_entries(top: str) -> list[str]:
    """Return the files in a checkout that git ignores; a directory of which all is ignored is one entry, with a `/` behind it."""
    arguments = ("ls-files", "--others", "--ignored", "--exclude-standard", "--directory", "-z")
    return run_git(*arguments, cwd=top, env=polling()).fields


def untracked_files(top: str) -> list[str]:
    """Return the paths in a checkout that are neither tracked nor ignored."""
    return run_git("ls-files", "--others", "--exclude-standard", "-z", cwd=top, env=polling()).fields
