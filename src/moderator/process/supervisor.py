"""The child process that outlives us if we die: it ends the processes of the run, and holds the run's leases meanwhile.

Must not know what a lease is: it keeps descriptors open.  The two are connected by a socket pair; end of file without
a goodbye means that `moderator` died, in whatever way.  What the child does is in `watch`.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
from typing import Self

from moderator.errors import EnvironmentProblem
from moderator.process import watch

_log = logging.getLogger(__name__)

_LOSING_PATIENCE = 5.0  # seconds until a supervisor that does not take messages, or does not go, is given up

# Signals first: what follows takes a while, and it must not be ended by what ends the run.
_PROGRAM = """
import signal, sys
for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGPIPE"):
    signal.signal(getattr(signal, name), signal.SIG_IGN)
sys.path[:] = sys.argv[3:]
from moderator.process import watch
watch.main(sys.argv[1], int(sys.argv[2]))
"""


class Supervisor:
    """One light child process per run; a context manager.  Make it before the first command of the run is started.

    Commands are recognised by MODERATOR_RUN=`run_id` in their environment.  If the supervisor itself is lost the run
    goes on, with a warning in the log.  Thread-safe.  Raises EnvironmentProblem if no process can be started.
    """

    def __init__(self, run_id: str) -> None:
        if os.name != "posix":
            raise EnvironmentProblem("runs can be supervised on Linux and macOS only", hint="on Windows, use WSL")
        self._run_id = run_id
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._usable = True
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(_LOSING_PATIENCE)
        # Isolated, so that neither the directory nor the environment decides what is imported; the path is ours.
        program = [sys.executable, "-I", "-S", "-c", _PROGRAM, run_id, str(theirs.fileno())]
        program += [os.path.abspath(place) for place in sys.path]
        try:
            self._process = subprocess.Popen(
                program,
                cwd="/",
                # Not empty: some Pythons find their libraries by LD_LIBRARY_PATH.  But it is no task of any run.
                env={name: value for name, value in os.environ.items() if not name.startswith("MODERATOR_")},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=(theirs.fileno(),),
            )
        except OSError as error:
            self._socket.close()
            raise EnvironmentProblem(
                "the process that watches over the run could not be started",
                hint="check the limits on processes and open files (ulimit -u, ulimit -n)",
                cause=str(error),
            ) from error
        finally:
            theirs.close()

    def hold(self, name: str, descriptor: int) -> None:
        """Let the supervisor keep a duplicate of the descriptor open, and with it any flock on it, under that name.

        The caller may close its own.  A second descriptor of the same name takes the place of the first.
        """
        self._send(watch.message(watch.HOLD, name), [descriptor])

    def release(self, name: str) -> None:
        """Let the supervisor close what it holds under that name, if anything."""
        self._send(watch.message(watch.RELEASE, name))

    def close(self) -> None:
        """Say goodbye: the supervisor lets go of everything, kills nothing, and is gone when this returns.

        May be called again.  In a forked copy of this process it does nothing but close the copy's socket.
        """
        if os.getpid() != self._owner:
            self._socket.close()
            return
        self._send(watch.message(watch.GOODBYE))
        with self._lock:
            self._usable = False
            self._socket.close()
        try:
            self._process.wait(_LOSING_PATIENCE)
        except subprocess.TimeoutExpired:
            _log.warning("the supervisor of run %r, process %d, does not end", self._run_id, self._process.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _send(self, message: bytes, descriptors: list[int] | None = None) -> None:
        with self._lock:
            if not self._usable:
                return
            try:
                sent = socket.send_fds(self._socket, [message], descriptors or [], _NO_SIGPIPE)
            except OSError as error:
                problem = str(error)
            else:
                if sent == len(message):
                    return
                problem = "it takes no more messages"
            self._usable = False
        _log.warning(
            "the supervisor of run %r is lost (%s): if moderator is killed now, its commands will go on running",
            self._run_id,
            problem,
        )


_NO_SIGPIPE = getattr(socket, "MSG_NOSIGNAL", 0)
