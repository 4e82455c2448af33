"""A process that has imported all of `moderator` and forks for every command: importing takes longer than most commands do.

Each command is a process of its own all the same, with its own arguments, environment, directory and output.  What the interpreter
reads when it starts, such as the locale, is not among that: see `can_be_forked`.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

_AT_START = ("LC_", "LANG", "PYTHON", "TZ", "MALLOC", "LD_")
"""How the variables begin that are read when an interpreter or a library starts."""
_NO_IMPORT = (
    "moderator.__main__",
    "moderator.cli.__main__",
    "moderator.cli.completing",
    "moderator.process.supervisor",
)
"""Programs of their own."""
_AT_HAND = {name: value for name, value in os.environ.items() if name.startswith(_AT_START)}


def can_be_forked(environment: Mapping[str, str]) -> bool:
    """Whether a process that was started before can have this environment."""
    return {name: value for name, value in environment.items() if name.startswith(_AT_START)} == _AT_HAND


class Ready:
    """The process that is ready, as others see it; threads may share it."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        self._lock = threading.Lock()
        with theirs:
            handed = theirs.fileno()
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(handed)],
                pass_fds=(handed,),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,  # so that its streams are made for pipes; nothing is written there
                stderr=subprocess.PIPE,
            )

    def run(
        self, arguments: list[str], cwd: str, environment: Mapping[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to the end of its output, as `subprocess.run` does.  Raises TimeoutExpired."""
        asked = json.dumps([arguments, cwd, dict(environment), _umask()]).encode()
        ends = [os.pipe() for _ in range(3)]  # output, complaints, and how it ends
        try:
            with self._lock:
                socket.send_fds(self._socket, [b"%12d" % len(asked)], [writing for _, writing in ends])
                self._socket.sendall(asked)
        finally:
            for _, writing in ends:
                os.close(writing)
        readers = [reading for reading, _ in ends]
        child = int(os.read(readers[2], 12))
        try:
            out, err, told = _all_of(readers, time.monotonic() + timeout)
        except TimeoutError:
            os.kill(child, signal.SIGKILL)
            raise subprocess.TimeoutExpired(arguments, timeout) from None
        finally:
            for reading in readers:
                os.close(reading)
        said = [one.decode("utf-8", "surrogateescape") for one in (out, err)]
        return subprocess.CompletedProcess(arguments, int(told), *said)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _all_of(readers: list[int], deadline: float) -> list[bytes]:
    """Return what is written to each until all are closed.  Raises TimeoutError."""
    found = {reading: bytearray() for reading in readers}
    with selectors.DefaultSelector() as selector:
        for reading in readers:
            selector.register(reading, selectors.EVENT_READ)
        while selector.get_map():
            if (left := deadline - time.monotonic()) <= 0:
                raise TimeoutError
            for key, _ in selector.select(left):
                if piece := os.read(key.fd, 1 << 16):
                    found[key.fd] += piece
                else:
                    selector.unregister(key.fd)
    return [bytes(found[reading]) for reading in readers]


def _serve(asking: socket.socket) -> None:
    import moderator

    for module in pkgutil.walk_packages(moderator.__path__, "moderator."):
        if module.name not in _NO_IMPORT:
            importlib.import_module(module.name)
    gc.collect()
    gc.freeze()  # nobody's collector needs to look at that: each page it writes to is copied
    while True:
        length, descriptors, _, _ = socket.recv_fds(asking, 12, 3)
        if not length:
            return
        asked = b""
        while len(asked) < int(length):
            asked += asking.recv(int(length) - len(asked))
        if os.fork() == 0:
            asking.close()
            _attend(descriptors, *json.loads(asked))
        for descriptor in descriptors:
            os.close(descriptor)
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _attend(descriptors: list[int], arguments: list[str], cwd: str, environment: dict[str, str], mask: int) -> NoReturn:
    """Fork once more, and say how that ended."""
    *streams, telling = descriptors
    child = os.fork()
    if child == 0:
        os.close(telling)
        for place, descriptor in enumerate(streams, 1):
            os.dup2(descriptor, place)
            os.close(descriptor)
        os.umask(mask)
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(cwd)
        sys.argv[1:] = arguments
        try:
            runpy.run_module("moderator", run_name="__main__", alter_sys=True)
        except SystemExit as ended:
            _leave(ended)
        sys.exit(0)
    for descriptor in streams:
        os.close(descriptor)
    os.write(telling, b"%12d" % child)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.write(telling, b"%d" % code)
    os._exit(0)


def _leave(ended: SystemExit) -> NoReturn:
    """End as an interpreter would, without taking apart all that was imported: that takes as long as the command did."""
    if threading.active_count() > 1 or not isinstance(ended.code, int):
        raise ended
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except OSError:  # nobody reads: whoever ends in the ordinary way has a code for that
        raise ended from None
    os._exit(ended.code)


if __name__ == "__main__":
    sys.path.remove(str(Path(__file__).parent))
    _serve(socket.socket(fileno=int(sys.argv[1])))
