"""How ready a workspace is: one small file each, beside the repository's records, for those that are set up or torn down.

It is written before a set-up begins and after it ended, so that a set-up that was killed is never taken for one that came
through.  Without such a file there was nothing to set up.  It also holds what is needed to tear the workspace down later.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moderator.errors import EnvironmentProblem
from moderator.git.registry import key_of
from moderator.models import Command
from moderator.opening import content

if TYPE_CHECKING:
    from moderator.git.values import Workspace, WorkspaceStatus
    from moderator.store import AttemptRecord

CREATING, SETTING_UP, SET_UP_FAILED, READY = "creating", "setting up", "set-up failed", "ready"
NOT_SET_UP = "not set up"
"""It was made by hand, and nobody has set it up yet as the configuration wants."""
RUNNING, INTERRUPTED, DONE = "running", "interrupted", "done"
TEARING_DOWN, TORN_DOWN, TEARDOWN_FAILED = "tearing down", "torn down", "teardown failed"
UNCLEAR = "unclear"
"""Somebody damaged the file: such a workspace is not called ready."""
_CUT_SHORT = {SETTING_UP: "set-up interrupted", TEARING_DOWN: "teardown interrupted"}
_VERSION = 1


@dataclass(frozen=True)
class Standing:
    """How ready a workspace is.

    `created_at` is that of the workspace that is meant: another one under the same name may have come after it.  `problem` says
    what went wrong.  `teardown` are the commands to come, `environment` what they have beyond what they inherit, `folder` where
    their log goes, `timeout` and `grace` are seconds, `sandbox` is the program that keeps them in, "" for none.  `fleeting` are the
    variables that are true only as long as the run has the slot and the ports for the task, beside moderator's own.  `asked` is
    what a repository's own configuration had of that at the time of the run; nothing, if the teardown is not its word.
    """

    task_id: str
    created_at: float
    stage: str
    problem: str = ""
    teardown: tuple[Command, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: str = ""
    timeout: float | None = None
    grace: float = 5.0
    sandbox: str = ""
    fleeting: tuple[str, ...] = ()
    asked: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_ready(self) -> bool:
        """Whether the set-up came through, and nothing has been torn down since."""
        return self.stage == READY

    @property
    def is_to_be_torn_down(self) -> bool:
        return bool(self.teardown) and self.stage != TORN_DOWN

    def is_of(self, created_at: float) -> bool:
        """Whether the workspace that was made at this moment is meant; where nobody can tell, it may be."""
        return self.stage == UNCLEAR or self.created_at == created_at


class Standings:
    """The files of one repository.  Writing raises EnvironmentProblem."""

    def __init__(self, state_root: str) -> None:
        self._folder = Path(state_root, "standing")

    def of(self, task_id: str) -> Standing | None:
        """Return what is known of a task's workspace, None if nothing is."""
        path = self._file(task_id)
        try:
            values: dict[str, Any] = json.loads(content(path))
            if values.pop("version") != _VERSION or not isinstance(values["stage"], str):
                raise ValueError("written by another version")
            values["teardown"] = tuple(one if isinstance(one, str) else tuple(one) for one in values["teardown"])
            values["fleeting"] = tuple(values.get("fleeting", ()))
            found = Standing(**values)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            return Standing(task_id, 0.0, UNCLEAR, f"{str(path)!r} cannot be read: {error}")
        return found if found.task_id == task_id else None

    def of_workspace(self, workspace: Workspace) -> Standing | None:
        """Return what is known of exactly this workspace."""
        found = self.of(workspace.task_id)
        return found if found and found.is_of(workspace.created_at) else None

    def of_all(self, task_ids: Iterable[str]) -> dict[str, Standing]:
        """Return what is known of the workspaces of these tasks, by their ids."""
        try:
            names = set(os.listdir(self._folder))
        except (FileNotFoundError, NotADirectoryError):
            return {}
        there = [task_id for task_id in task_ids if self._file(task_id).name in names]
        return {task_id: found for task_id in there if (found := self.of(task_id))}

    def write(self, standing: Standing) -> None:
        """Write down how ready a workspace is, whole or not at all."""
        path = self._file(standing.task_id)
        aside = path.with_name(f".{secrets.token_hex(8)}.new")
        values = {field.name: getattr(standing, field.name) for field in fields(Standing)}
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                # Variables may be secrets: for the person alone.
                descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                with os.fdopen(descriptor, "w", encoding="ascii") as file:
                    json.dump({"version": _VERSION, **values}, file, default=dict)
                os.replace(aside, path)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(aside)
        except OSError as error:
            raise EnvironmentProblem(
                f"how ready the workspace of task {standing.task_id!r} is cannot be written down in {str(self._folder)!r}",
                hint="check permissions and free space there",
                cause=str(error),
            ) from error

    def _file(self, task_id: str) -> Path:
        return self._folder / f"{key_of(task_id)}.json"


def stage_of(status: WorkspaceStatus, standing: Standing | None, attempt: AttemptRecord | None) -> str:
    """Return the word for what a workspace is at: creating, setting up, ready, running, done, or what is wrong with it.

    `attempt` is the last one at its task, None if there was none.
    """
    if status.state != READY:
        return CREATING if status.state == "making" and status.lease else status.state
    stage = standing.stage if standing and standing.is_of(status.created_at) else READY
    if status.lease:
        return stage if stage in _CUT_SHORT else RUNNING
    if stage != READY:
        return _CUT_SHORT.get(stage, stage)
    if attempt and attempt.outcome is None:
        return INTERRUPTED
    # An attempt that ended before this workspace was made had another one.
    return DONE if attempt and (attempt.finished_at or 0.0) >= status.created_at else READY
