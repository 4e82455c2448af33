"""`moderator.slots`: a number is one task's alone, and the smallest that is free."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from commandline import moderator, task_list
from moderator.slots import Slots
from repos import make_repository


def test_the_smallest_number_that_is_free_is_taken(tmp_path: Path) -> None:
    """Other processes' numbers are not given, those of a process that was killed are, once its children are gone too."""
    program = (
        "import os; from pathlib import Path; from moderator.slots import Slots\n"
        f"slots = Slots(Path({str(tmp_path)!r}), Path('/nowhere'))\n"
        "held = [slots.take() for _ in range(2)]\n"
        "child = os.fork()\n"
        "if child == 0: os.read(0, 1); os._exit(0)\n"
        "print(*[one.number for one in held], flush=True); os.kill(os.getpid(), 9)\n"
    )
    slots = Slots(tmp_path, tmp_path / "otherwise")
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdin is not None
        assert holder.stdout.readline() == b"0 1\n"
        holder.wait()
        held = [slots.take() for _ in range(2)]
        assert [one.number for one in held] == [2, 3]
        holder.stdin.close()
        assert holder.stdout.read() == b""  # the child has gone, and its end of the pipe
    held[0].release()
    held[0].release()
    held[0] = slots.take()
    assert [one.number for one in (*held, slots.take(), slots.take())] == [0, 3, 1, 2]


def test_where_no_lock_can_be_had_those_of_the_repository_are_kept_apart(tmp_path: Path) -> None:
    """A home that nobody may write to stops no run, and the warning comes once."""
    repository = make_repository(tmp_path / "shop")
    (tmp_path / "state").write_text("in the way")
    listed = task_list(tmp_path / "t", *({"id": f"t{number}", "run": "echo $MODERATOR_SLOT"} for number in range(2)))
    done = moderator(repository, "run", listed, "-j", "1", XDG_STATE_HOME=str(tmp_path / "state"))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("slots are kept apart from those of this repository's runs only: the lock") == 1
    assert (repository / ".git/moderator/slots/0.lock").exists()


def test_a_lock_that_can_be_had_nowhere_is_an_error(tmp_path: Path) -> None:
    """It names the file and says what to check."""
    (tmp_path / "file").write_text("in the way")
    slots = Slots(tmp_path / "file", tmp_path / "file" / "more")
    for _ in range(2):
        with pytest.raises(Exception, match=r"the lock '.*/more/0\.lock' could not be made"):
            slots.take()
