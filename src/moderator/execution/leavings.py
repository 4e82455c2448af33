"""What a tool leaves behind at the top of a workspace and nobody wants committed: moved beside the log, never deleted."""

from __future__ import annotations

import fnmatch
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from moderator.git.manager import GitManager
from moderator.git.values import Workspace


def put_litter_aside(git: GitManager, workspace: Workspace, patterns: Sequence[str], folder: Path) -> None:
    """Move what matches one of the patterns from the workspace to `litter` in `folder`, unless the base has it.

    Raises OSError, and what `GitManager.diff` raises.
    """
    if not patterns or not workspace.level.isolates_directory:
        return
    for change in git.diff(workspace):
        if change.status != "A" or not any(fnmatch.fnmatch(change.path.split("/")[0], one) for one in patterns):
            continue
        target = folder / "litter" / change.path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(os.path.join(workspace.path, change.path), target)
