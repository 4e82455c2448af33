"""`moderator path`: for `cd "$(moderator path TASK)"`, so it must be quick and print nothing else."""

from __future__ import annotations

import os

import click

from moderator.cli.options import repo_option
from moderator.cli.output import print_bytes
from moderator.git.locating import locate


@click.command("path")
@click.argument("task")
@repo_option
def path_command(task: str, repo: str) -> None:
    """Print the directory of TASK's workspace."""
    print_bytes(os.fsencode(locate(repo, task)) + b"\n")
