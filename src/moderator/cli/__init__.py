"""The command line: the only reader of arguments, environment and current directory, and the only printer.

Each command is imported when it is called, for every one of them must start in milliseconds.
"""

from __future__ import annotations

import gc
import importlib
import sys

import click

from moderator import __version__
from moderator.cli.output import failing

_COMMANDS = {
    "run": ("moderator.cli.run", "Run a list of tasks, each in its own workspace."),
    "init": ("moderator.cli.init", "Write a configuration and a list of tasks that fit this repository."),
    "config": ("moderator.cli.config", "Print the settings that hold here, and where each comes from."),
    "backends": ("moderator.cli.backends", "Show what can do tasks here, and what cannot, and why."),
    "route": ("moderator.cli.backends", "Show which backend each task goes to, and why."),
    "create": ("moderator.cli.create", "Make a workspace without a run, and print where it is."),
    "setup": ("moderator.cli.setup", "Run the configuration's set-up in a workspace that is not set up."),
    "adopt": ("moderator.cli.adopt", "Make a worktree or branch of your own a workspace."),
    "list": ("moderator.cli.look", "List the workspaces."),
    "show": ("moderator.cli.look", "Show what one task did."),
    "path": ("moderator.cli.path", "Print where a task's workspace is."),
    "cd": ("moderator.cli.cd", "Go to a task's workspace, or to the main checkout."),
    "exec": ("moderator.cli.exec", "Run a command in a task's workspace, or in many of them."),
    "open": ("moderator.cli.open", "Open a task's workspace in your editor, or a shell in it."),
    "diff": ("moderator.cli.look", "Show what a task changed."),
    "logs": ("moderator.cli.look", "Print what a task printed."),
    "history": ("moderator.cli.look", "List past runs, or the tasks of one."),
    "clean": ("moderator.cli.clean", "Remove workspaces; what is in no commit is rescued first."),
    "undo": ("moderator.cli.undo", "Bring back the workspace that was removed last."),
    "rescue": ("moderator.cli.rescue", "List, show, restore or drop what was rescued."),
    "pick": ("moderator.cli.pick", "Keep one of several variants of a task, and retire the others."),
    "pool": ("moderator.cli.pool", "Show, fill or drain the pool of spare worktrees."),
    "lock": ("moderator.cli.lock", "Keep a workspace from being removed."),
    "unlock": ("moderator.cli.lock", "Take that back."),
    "trust": ("moderator.cli.trust", "Agree to what the repository's own configuration would have executed."),
    "shell-init": ("moderator.cli.shell_init", "Print what a shell needs for completion and for cd."),
    "doctor": ("moderator.cli.doctor", "Find what is wrong, explain it, and mend what is safe to mend."),
}


class _Commands(click.Group):
    """Commands that are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(_COMMANDS[cmd_name][0])
        command: click.Command = getattr(module, f"{cmd_name.replace('-', '_')}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_text) for name, (_, help_text) in _COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], _COMMANDS, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise click.UsageError(f"no command is called {args[0]!r}{hint}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="moderator", message="%(prog)s %(version)s")
def commands() -> None:
    """Run many tasks on one Git repository at the same time, each in a workspace of its own, and lose nothing."""


def main() -> None:
    """Run the command line and end the process with its exit code."""
    code = failing(lambda: commands.main(prog_name="moderator", standalone_mode=False))
    gc.freeze()  # nothing is worth looking through for the last time: that takes as long as a small command
    sys.exit(code)
