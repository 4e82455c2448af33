"""Signals that end what several commands do at once: in order at the first, at once at the second."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from moderator.interruption import heeded
from moderator.process import Cancellation


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

    before = {number: signal.signal(number, handle) for number in heeded()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
