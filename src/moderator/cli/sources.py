"""What the lists of `foreach` are made from: the files of the repository, and what commands print in its main checkout."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from moderator.cli.signals import handled
from moderator.errors import UsageError
from moderator.expanding.filling import OUR_VARIABLES
from moderator.expanding.items import LARGEST_LIST
from moderator.git.manager import GitManager
from moderator.interruption import code_of
from moderator.process import Cancellation, Ending, Limits, Supervisor, run


class RepositorySources:
    """Looks lists up in a repository.

    `base` is what was asked for on the command line and wins over a file's; `executing`: whether a list's command is executed
    at all.
    """

    def __init__(self, git: GitManager, base: str | None = None, executing: bool = True) -> None:
        self._git = git
        self._base = base
        self._executing = executing

    def files(self, base: str | None, untracked: bool) -> Sequence[str]:
        """Return the regular files of a commit, and those of the main checkout that are not tracked.  Raises UnknownRevision."""
        tracked = self._git.files_at(self._base or base or "")
        return sorted({*tracked, *self._git.untracked_files()}) if untracked else tracked

    def output(self, command: str | list[str], timeout: float) -> bytes:
        """Return what a command prints.

        Raises UsageError, with the end of what it complained of if it did not end with 0.
        """
        if not self._executing:
            raise UsageError(
                "nothing is executed here, so nobody knows what this list's command prints", hint="add --lists"
            )
        where = self._git.main_worktree
        if where is None:
            raise UsageError(
                "a bare repository has no checkout in which the command of a list could be run",
                hint="name files, or a list, instead",
            )
        printed = bytearray()
        cancellation = Cancellation()

        def listen(part: memoryview) -> None:
            printed.extend(part[: LARGEST_LIST + 1 - len(printed)])
            if len(printed) > LARGEST_LIST:
                cancellation.kill()

        argv = ["/bin/sh", "-c", command] if isinstance(command, str) else command
        name = f"list-{os.urandom(8).hex()}"
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("GIT_", *OUR_VARIABLES))}
        received: list[signal.Signals] = []
        with (
            tempfile.TemporaryDirectory(prefix="moderator-") as folder,
            Supervisor(name),
            handled(cancellation, received),
        ):
            ended = run(
                argv,
                cwd=where,
                env={**inherited, "GIT_OPTIONAL_LOCKS": "0", "MODERATOR_RUN": name},
                log=Path(folder, "log"),
                limits=Limits(timeout=timeout),
                cancellation=cancellation,
                listen=listen,
            )
        if received:
            raise click.exceptions.Exit(code_of(received))
        if len(printed) <= LARGEST_LIST and (ended.ending is not Ending.EXITED or ended.exit_code):
            why = f"exit code {ended.exit_code}" if ended.ending is Ending.EXITED else ended.message
            raise UsageError(f"the command that lists what to do failed: {why}", cause=ended.stderr.strip()[-2000:])
        return bytes(printed)
