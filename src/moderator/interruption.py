"""Signals that end what the main thread does, as Ctrl-C does: by an exception, wherever it is.

Only not while it starts a child: nobody would know of that child then, and it would outlive us.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_CODES = {
    getattr(signal, name): code
    for name, code in (("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129))
    if hasattr(signal, name)  # Windows has no SIGHUP
}
_held = _came = False


def heeded() -> list[signal.Signals]:
    """Return the signals that end us; who was told to ignore one (nohup, a background job) goes on ignoring it."""
    return [number for number in _CODES if signal.getsignal(number) is not signal.SIG_IGN]


def code_of(received: Sequence[signal.Signals]) -> int:
    """Return the exit code of what such signals interrupted."""
    return _CODES.get(received[0], 130) if received else 130


@contextmanager
def interruptible() -> Iterator[list[signal.Signals]]:
    """Have each of these signals raise KeyboardInterrupt for the length of a `with`, and be noted in what is given."""
    received: list[signal.Signals] = []
    if threading.current_thread() is not threading.main_thread():  # which alone may handle them
        yield received
        return

    def handle(number: int, _: object) -> None:
        global _came
        received.append(signal.Signals(number))
        if not _held:
            raise KeyboardInterrupt
        _came = True

    before = {number: signal.signal(number, handle) for number in heeded()}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def hold() -> None:
    """Let no signal interrupt what follows, until `release`."""
    global _held
    if threading.current_thread() is threading.main_thread():
        _held = True


def release() -> None:
    """Take that back.  Raises KeyboardInterrupt if a signal came meanwhile."""
    global _held, _came
    if threading.current_thread() is threading.main_thread():
        came, _held, _came = _came, False, False
        if came:
            raise KeyboardInterrupt
