"""`moderator cd`: where a task's workspace is, for the function of `shell-init` that goes there."""

from __future__ import annotations

import os

import click

from moderator.cli.options import repo_option
from moderator.cli.output import print_bytes
from moderator.errors import UsageError
from moderator.git.locating import locate, main_checkout


@click.command("cd")
@click.argument("task", required=False)
@click.option("--print", "only_print", is_flag=True, help="Print the directory instead of going there.")
@repo_option
def cd_command(task: str | None, only_print: bool, repo: str) -> None:
    """Go to TASK's workspace, or to the main checkout.  Needs the shell function that moderator shell-init defines."""
    directory = main_checkout(repo) if task is None else locate(repo, task)
    if only_print:
        print_bytes(os.fsencode(directory) + b"\n")
        return
    from moderator.cli.resuming import program

    shell = os.path.basename(os.environ.get("SHELL", ""))
    evaluated = f"{program()} shell-init fish | source" if shell == "fish" else None
    evaluated = evaluated or f'eval "$({program()} shell-init {shell if shell == "zsh" else "bash"})"'
    raise UsageError(
        "a program cannot change the directory of the shell that started it",
        hint=f"{evaluated} defines a function that does, best in the shell's start-up file\n"
        f'without it: cd "$({program()} cd --print{"" if task is None else " TASK"})"',
    )
