"""Signals that end what several commands do at once: in order at the first, at once at the second."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from moderator.process import Cancellation

_CODES = {
    getattr(signal, name): code
    for name, code in (("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129))
    if hasattr(signal, name)  # Windows has no SIGHUP
}


@contextmanager
def handled(cancellation: Cancellation, received: list[signal.Signals]) -> Iterator[None]:
    """End what runs in order at the first signal, at once at the second."""

    def handle(number: int, _: object) -> None:
        received.append(signal.Signals(number))
        if len(received) == 1:
            cancellation.cancel()
            with suppress(OSError):  # a terminal that was closed takes no more
                os.write(2, b"\nending what runs; once more ends it at once\n")
        else:
            cancellation.kill()

    # Who was told to ignore a signal (nohup, a background job) goes on ignoring it.
    heeded = [number for number in _CODES if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def code_of(received: Sequence[signal.Signals]) -> int:
    """Return the exit code of what such signals interrupted."""
    return _CODES.get(received[0], 130) if received else 130
