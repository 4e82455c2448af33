"""What all worktrees of a repository share and a single command can spoil: its configuration, above all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace

from moderator.errors import to_type
from moderator.git.command import run_git
from moderator.git.contents import printable
from moderator.git.doctor.findings import INFORMATION, Finding
from moderator.git.doctor.mending import edit_config
from moderator.git.doctor.scene import Scene
from moderator.git.repository import Repository


def look_at_settings(scene: Scene) -> Iterator[Finding]:
    """Find settings under which the main checkout, or the branches of tasks, would suffer."""
    repository = scene.repository
    file = os.path.join(repository.common, "config")
    has_checkout = _has_checkout(scene)
    if scene.main_top and _value(file, "--bool", "core.bare") == "true":
        where = printable(scene.main_top)
        finding = _setting(
            scene,
            "core-bare",
            f"core.bare is true, though {where!r} has a checkout: git refuses to work in it",
            ("core.bare", "false"),
            has_checkout,
        )
        if not has_checkout:
            message = f"core.bare is true, and {where!r} has the index of a checkout, but none of its files"
            finding = replace(finding, message=message, severity=INFORMATION)
        yield finding
    place = _value(file, "--path", "core.worktree")
    if scene.main_top and place is not None:
        led = os.path.realpath(os.path.join(repository.common, place))
        theirs = next(
            (record for record in scene.records if record.path and os.path.realpath(record.path) == led), None
        )
        if theirs or not os.path.isdir(led):
            whose = f"the workspace of task {theirs.task_id!r}" if theirs else "nothing"
            yield _setting(
                scene,
                "core-worktree",
                f"core.worktree leads to {whose}, {printable(led)!r}: git commands in the main checkout work there",
                ("--unset", "core.worktree"),
                has_checkout,
            )
    if remote := repository.mirrored_by:
        yield Finding(
            "mirror-fetch",
            f"the next fetch from {remote!r} would delete the branches of tasks: it mirrors every ref",
            to_type("git", "config", f"remote.{remote}.fetch", f"+refs/heads/*:refs/remotes/{remote}/*"),
        )
    yield from _traces(repository)


def _setting(scene: Scene, code: str, message: str, change: tuple[str, ...], has_checkout: bool) -> Finding:
    file = os.path.join(scene.repository.common, "config")
    return Finding(
        code,
        message,
        to_type("git", "config", "--file", file, *change),
        mend=_editing(scene.repository, change) if has_checkout else None,
    )


def _editing(repository: Repository, change: tuple[str, ...]) -> Callable[[], None]:
    return lambda: edit_config(repository, *change)


def _has_checkout(scene: Scene) -> bool:
    """Whether files that the index knows stand beside the repository, so that there is no doubt that they are its checkout."""
    if scene.main_top is None:
        return False
    listed = run_git(
        f"--git-dir={scene.repository.common}", f"--work-tree={scene.main_top}", "ls-files", "-z",
        cwd=scene.main_top, accept=(0, 128),
    ).fields  # fmt: skip
    return any(os.path.lexists(os.path.join(scene.main_top, path)) for path in listed)


def _value(file: str, kind: str, key: str) -> str | None:
    answer = run_git("config", "--file", file, kind, "--get", key, cwd=os.sep, accept=(0, 1, 128))
    return answer.text if answer.code == 0 else None


def _traces(repository: Repository) -> Iterator[Finding]:
    log = os.path.join(repository.common, "gc.log")
    if os.path.lexists(log):
        yield Finding(
            "gc-failed",
            "the last automatic git gc failed, and git waits a day before it tries again",
            f"{to_type('cat', log)} says why; once that is solved: {to_type('rm', log)}",
            severity=INFORMATION,
        )
    for branch in _configured(repository):
        if "-task-" in branch and repository.commit_of(f"refs/heads/{branch}") is None:
            yield Finding(
                "branch-section",
                f"the configuration has a section for the branch {printable(branch)!r}, which is gone",
                to_type("git", "config", "--remove-section", f"branch.{branch}"),
                severity=INFORMATION,
            )


def _configured(repository: Repository) -> list[str]:
    keys = (key for key in repository.settings if key.startswith("branch.") and key.count(".") > 1)
    return sorted({key.removeprefix("branch.").rpartition(".")[0] for key in keys})
