"""Where things are printed, and where every error becomes a sentence and an exit code.

What is asked for goes to standard output, what is said to people to standard error.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import click

from moderator.errors import ModeratorError
from moderator.interruption import code_of, interruptible

SCHEMA_VERSION = 1
_BROKEN_PIPE = 141  # what a shell shows for a program ended by SIGPIPE
_INTERRUPTED = 130
_OUR_BUG = 5
_ENVIRONMENT = 4
_OF_THE_MACHINE = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM),
}
"""What no room can put in better words: mostly a full disk, or a terminal that is gone, behind our own output."""


def failing(command: Callable[[], Any]) -> int:
    """Run a command; return its exit code after saying what went wrong, if anything did.

    SIGTERM and SIGHUP end it as Ctrl-C does.
    """
    with interruptible() as received:
        code = _said(command)
    return code_of(received) if received else code


def _said(command: Callable[[], Any]) -> int:
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller (`>&-`); also, the next file opened must not become it
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for as long as the process lasts
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")
    try:
        code = command()
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except ModeratorError as error:
        say_error(error)
        return error.exit_code
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.Abort:
        return _INTERRUPTED
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        say("error", error.format_message(), "red")
        say("hint", f"{context.command_path if context else 'moderator'} --help", "cyan", indent=2)
        return error.exit_code
    except KeyboardInterrupt:
        with suppress(OSError):  # a terminal that was closed takes no more
            say("error", "interrupted", "red")
        return _INTERRUPTED
    except BrokenPipeError:
        _silence()  # whoever read our output has gone
        return _BROKEN_PIPE
    except OSError as error:
        if error.errno not in _OF_THE_MACHINE:
            return _our_bug(error)
        _silence()
        with suppress(OSError):
            say("error", f"the machine refused: {error}", "red")
            say("hint", "check the disk, its permissions, and where the output goes", "cyan", indent=2)
        return _ENVIRONMENT
    except Exception as error:  # noqa: BLE001 - the last place that can tell a person
        return _our_bug(error)


def _silence() -> None:
    """Let nothing be left that would be written, and fail again, when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _our_bug(error: Exception) -> int:
    say("error", f"this is a bug in moderator: {type(error).__name__}: {error}", "red")
    say("hint", f"report it with the file {_trace()}", "cyan", indent=2)
    return _OUR_BUG


def say_error(error: ModeratorError, kind: str = "error") -> None:
    """Print an error, or a warning: what happened, its particulars, git's own words, what to type."""
    say(kind, error.message, "red" if kind == "error" else "yellow")
    particulars = getattr(error, "problems", None) or getattr(error, "findings", None) or ()
    for one in particulars:
        click.echo(f"    {one}", err=True)
    if error.cause:
        say("cause", error.cause.replace("\n", "\n         "), "yellow", indent=2)
    if error.hint:
        say("hint", error.hint.replace("\n", "\n        "), "cyan", indent=2)


def say(kind: str, text: str, colour: str = "", indent: int = 0) -> None:
    """Print a line for people, on standard error."""
    label = click.style(f"{kind}:", fg=colour, bold=True) if colour and coloured(sys.stderr) else f"{kind}:"
    click.echo(f"{' ' * indent}{label} {text}", err=True, color=True)


def say_notes(notes: Iterable[str]) -> None:
    """Print what others wrote as notes for people."""
    from moderator.reports.text import one_line

    for note in notes:
        say("note", one_line(note))


def coloured(stream: Any) -> bool:
    """Whether to use colours: on a terminal, unless NO_COLOR says no (https://no-color.org)."""
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: str) -> str:
    """Colour a text for standard output, if it is a terminal."""
    return click.style(text, fg=colour) if colour and coloured(sys.stdout) else text


def print_json(document: dict[str, Any]) -> None:
    """Print one document; bytes that are no UTF-8 appear as escaped surrogates, so nothing is lost."""
    import json  # here and below: a quick command needs none of them

    click.echo(json.dumps({"schema_version": SCHEMA_VERSION, **document}, indent=2))


def print_bytes(data: bytes) -> None:
    """Print bytes as they are."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def log_to_stderr() -> None:
    """Let what the rooms below log reach people as one line each; tracebacks go to a file that is named."""
    import logging

    class Printer(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            with contextlib.suppress(OSError, ValueError):  # a terminal that is gone must not end the run
                where = f" (details in {_trace()})" if record.exc_info and record.exc_info[0] else ""
                say(record.levelname.lower(), record.getMessage() + where, "yellow")

    logger = logging.getLogger("moderator")
    if not logger.handlers:
        logger.addHandler(Printer(logging.WARNING))
        logger.propagate = False


def page(text: str) -> None:
    click.echo(text, color=coloured(sys.stdout))


def _trace() -> str:
    import tempfile
    import traceback

    descriptor, path = tempfile.mkstemp(prefix="moderator-", suffix=".log")
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(" ".join(sys.argv) + "\n\n" + traceback.format_exc())
    return path
