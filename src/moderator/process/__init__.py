"""One command in one directory under limits, and no process of it left behind.

Must not know tasks, git or stores: a command is an argv, an environment and a directory.  The public names are imported
when they are first used, because the supervisor's process imports `watch` alone and has to be up in milliseconds.

    running         run(): start, pump, end, sweep
    ended           Limits, Ending, Ended: what may happen and what did, as plain data
    cancellation    the one switch that ends every command of a run
    pump, output    from the pipes to a log file and a bounded tail
    child           noticing the end of a child without reaping it
    table           which processes there are: table_linux reads /proc, table_psutil asks psutil elsewhere
    tree            which of them belong to a command, and how all of them are ended
    supervisor      the child that ends a run's processes if `moderator` itself dies, and holds its leases meanwhile
    watch           what that child does

What belongs to a command is found by descent, by session and group, by a random token in the environment, and by
standard output.  A process that has cut all four (`env -i setsid` twice forked and redirected, or one that the kernel
lets nobody look into, like ssh-agent) is out of reach without a control group of its own.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOMES = {
    "Cancellation": "moderator.process.cancellation",
    "Ended": "moderator.process.ended",
    "Ending": "moderator.process.ended",
    "Limits": "moderator.process.ended",
    "Supervisor": "moderator.process.supervisor",
    "run": "moderator.process.running",
}

__all__ = ["Cancellation", "Ended", "Ending", "Limits", "Supervisor", "run"]

if TYPE_CHECKING:
    from moderator.process.cancellation import Cancellation
    from moderator.process.ended import Ended, Ending, Limits
    from moderator.process.running import run
    from moderator.process.supervisor import Supervisor


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
