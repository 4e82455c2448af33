"""Where a task's workspace is, without anything else: the one question that must be answered in milliseconds."""

from __future__ import annotations

from moderator.git.registry import Registry
from moderator.git.repository import Repository


def locate(repository: str, target: str) -> str:
    """Return the directory of the workspace of a task id or branch, as `GitManager.find` does.

    Raises NotARepository, UnknownWorkspace, AmbiguousName.
    """
    record = Registry(Repository.open(repository).ours).named(target)
    return record.path or record.checkout
