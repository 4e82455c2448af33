"""`moderator open`: a person's editor, or a shell, in a task's workspace."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from moderator.cli.options import opened, repo_option, require_agreement
from moderator.cli.output import say, say_notes
from moderator.errors import UsageError
from moderator.templates import fill, names_in

if TYPE_CHECKING:
    from moderator.config import Config
    from moderator.git.manager import GitManager
    from moderator.git.values import Workspace


@click.command("open")
@click.argument("task")
@click.option("--shell", "in_shell", is_flag=True, help="Start a shell there instead of an editor; exit leaves it.")
@click.option("--shared", is_flag=True, help="Also where a run is at work. Does not hold the workspace.")
@repo_option
def open_command(task: str, in_shell: bool, shared: bool, repo: str) -> int:
    """Open TASK's workspace: with the command of the configuration (open:), or else with $VISUAL or $EDITOR.

    Nobody else gets the workspace, and nobody removes it, until what was started has ended.  What is rendered there (render:) is
    written anew, as for exec, and then the environment is that of tasks.
    """
    git, config = opened(repo)
    workspace = git.find(task)
    command = [os.environ.get("SHELL") or "/bin/sh"] if in_shell else _editor(git, config, workspace)
    from moderator.execution.visiting import Visitor

    renders = bool(config.furnishing.render or git.rendered_in(workspace))
    for setting in ("env", "render") if renders else ():
        require_agreement(git, config, setting)
    visitor = Visitor(git, os.environ, shared, config if renders else None)
    code, why_not = visitor.attend(workspace, command, goes_on=not in_shell)
    if why_not:
        say("error", why_not, "red")
    say_notes(visitor.notes)
    return code


def _editor(git: GitManager, config: Config, workspace: Workspace) -> list[str]:
    """Return what opens a workspace.  Raises UsageError if nothing is set."""
    if config.open:
        require_agreement(git, config, "open")
        known = {"path": workspace.path, "task_id": workspace.task_id, "branch": workspace.branch or ""}
        words = [fill(word, known) for word in config.open]
        return words if any("path" in names_in(word) for word in config.open) else [*words, workspace.path]
    for name in ("VISUAL", "EDITOR"):
        if editor := os.environ.get(name, "").strip():
            # As git does: what is set is a shell's line, not only the name of a program.
            return ["/bin/sh", "-c", f'{editor} "$@"', editor, workspace.path]
    raise UsageError(
        "nothing says with what a workspace is opened",
        hint='set VISUAL or EDITOR, or in moderator.yaml  open: [code, -n, "{path}"]; --shell starts a shell there',
    )
