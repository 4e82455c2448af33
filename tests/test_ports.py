"""`moderator.ports`: a block is one task's alone, on this machine, for as long as anything of the task is there."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commandline import command, moderator, task_list
from moderator.errors import ConfigurationError, EnvironmentProblem
from moderator.ports import Block, PortRange, reserve
from repos import make_repository

LISTENER = """\
import os, socket, sys, time
first, count = int(os.environ["MODERATOR_PORT"]), int(os.environ["MODERATOR_PORT_COUNT"])
assert os.environ["NAMED"] == f"{first + 1}"
place = os.path.join(os.environ["SLOTS"], os.environ["MODERATOR_SLOT"])
os.mkdir(place)
held = []
for port in range(first, first + count):
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            one = socket.socket(family)
            one.bind((address, port))
        except OSError as error:
            if family == socket.AF_INET6 and error.errno in (97, 99):
                continue
            raise
        one.listen()
        held.append(one)
time.sleep(0.1)
os.rmdir(place)
"""


def free_range(count: int) -> int:
    """Return the first of so many ports in a row that nobody has just now, apart for each process of the tests."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return 20000 + worker * 1000 + os.getpid() % 10 * 100 if count <= 100 else 12000 + worker * 1000


@given(st.integers(1024, 65535), st.integers(0, 3000), st.integers(1, 100))
def test_blocks_lie_in_the_range_and_apart(first: int, more: int, count: int) -> None:
    """No block reaches beyond the range or into another one, and no other would fit in."""
    last = min(first + more, 65535)
    if count > last - first + 1:
        with pytest.raises(ConfigurationError):
            PortRange(first, last, count)
        return
    blocks = PortRange(first, last, count).blocks
    assert blocks[0] == first
    assert blocks[-1] + count - 1 <= last < blocks[-1] + 2 * count - 1
    assert blocks.step == count


def test_a_block_is_given_once_and_given_back(tmp_path: Path) -> None:
    """Blocks of other sizes count too, ports that somebody listens on are passed over, and nothing is left in the end."""
    first = free_range(100)
    ports = PortRange(first, first + 19, 5)
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", first + 6))
        somebody.listen()
        held = [reserve(tmp_path, ports) for _ in range(2)]
        wide = reserve(tmp_path, PortRange(first, first + 19, 4), preferred=4)
        assert ([one.first for one in held], wide.first) == ([first, first + 10], first + 16)
        with pytest.raises(EnvironmentProblem) as caught:
            reserve(tmp_path, ports)
    assert caught.value.message == (
        f"no 5 ports in a row are free from {first} to {first + 19}: "
        "of 4 blocks 3 are reserved for tasks, and in 1 a port is in use"
    )
    again = reserve(tmp_path, ports)
    assert again.first == first + 5
    for one in (*held, wide, again, again):
        one.release()
    assert os.listdir(tmp_path) == ["choosing.lock"]


@pytest.mark.parametrize(
    ("family", "address"), [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::1"), (socket.AF_INET6, "::")]
)
def test_every_way_to_listen_is_noticed(family: socket.AddressFamily, address: str, tmp_path: Path) -> None:
    """A port is in use if somebody has it on any address, of either protocol."""
    first = free_range(100) + 50
    with socket.socket(family) as somebody:
        try:
            if family == socket.AF_INET6:
                somebody.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            somebody.bind((address, first))
        except OSError:
            pytest.skip("this machine has no such address")
        somebody.listen()
        block = reserve(tmp_path, PortRange(first, first + 1, 1))
        assert block.first == first + 1
        block.release()


def test_a_reservation_lasts_as_long_as_anybody_holds_its_descriptor(tmp_path: Path) -> None:
    """That of a process that was killed is free at once; one whose descriptor a child still has is not."""
    first = free_range(100) + 60
    program = (
        "import os, sys; from pathlib import Path; from moderator.ports import PortRange, reserve\n"
        f"block = reserve(Path({str(tmp_path)!r}), PortRange({first}, {first + 1}, 1))\n"
        "os.set_inheritable(block.descriptor, True)\n"
        "child = os.fork()\n"
        "if child == 0: os.read(0, 1); os._exit(0)\n"
        "print(block.first, flush=True); os.kill(os.getpid(), 9)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdin is not None
        assert int(holder.stdout.readline()) == first
        holder.wait()
        block = reserve(tmp_path, PortRange(first, first + 1, 1))
        assert block.first == first + 1
        block.release()
        holder.stdin.close()
        assert holder.stdout.read() == b""  # the child has gone, and its end of the pipe
    taken: list[Block] = [reserve(tmp_path, PortRange(first, first + 1, 1)) for _ in range(2)]
    assert [one.first for one in taken] == [first, first + 1]
    for one in taken:
        one.release()


@pytest.mark.slow
def test_tasks_of_two_processes_listen_side_by_side(tmp_path: Path, home: Path) -> None:
    """64 tasks of two runs listen on every port of their blocks, no two have one slot, and no reservation is left."""
    first, slots = free_range(1000), tmp_path / "slots"
    slots.mkdir()
    running = []
    for name in ("left", "right"):
        repository = make_repository(tmp_path / name, [("first", {"listen.py": LISTENER})])
        config = tmp_path / f"{name}.yaml"
        config.write_text(
            f"ports: {{range: {first}-{first + 199}, count: 3}}\nenv: {{NAMED: '{{port_1}}', SLOTS: '{slots}'}}\n"
        )
        run = [sys.executable, "-S", "listen.py"]
        listed = task_list(tmp_path / f"{name}-tasks", *({"id": f"t{number}", "run": run} for number in range(32)))
        arguments = ("run", listed, "-j", "16", "--config", config, "--keep", "never", "--progress", "none")
        running.append(subprocess.Popen(command(*arguments), cwd=repository, stderr=subprocess.PIPE, text=True))
    said = [one.communicate(timeout=60)[1] for one in running]
    assert [one.returncode for one in running] == [0, 0], said
    (folder,) = (home / ".local" / "state" / "moderator" / "ports").iterdir()
    assert os.listdir(folder) == ["choosing.lock"]
    numbers = sorted(int(one.stem) for one in (home / ".local/state/moderator/slots" / folder.name).iterdir())
    assert numbers == [*range(len(numbers))]
    assert len(numbers) <= 32


@pytest.mark.slow
def test_what_ports_cannot_be_had_is_told(tmp_path: Path) -> None:
    """Too many for the range is a setting that is wrong; in an exhausted range a task does not start, and can be tried again."""
    repository = make_repository(tmp_path / "shop")
    first = free_range(100) + 70
    config = tmp_path / "config.yaml"
    listed = task_list(tmp_path / "t", *({"id": f"t{number}", "run": "sleep 0.3"} for number in range(2)))

    def run(settings: str, *arguments: str) -> tuple[int, str]:
        config.write_text(settings)
        done = moderator(repository, "run", listed, "--config", config, "--progress", "none", *arguments)
        return done.returncode, done.stderr

    code, said = run(f"ports: {{range: {first}-{first + 1}, count: 3}}")
    assert (code, "error: ports: 3 in a row do not fit into the range" in said) == (2, True)
    code, said = run("env: {A: '{port_2}'}")
    assert (code, "error: env: its values name 3 ports of a task's own, and tasks are given 0" in said) == (2, True)
    code, said = run(f"ports: {{range: {first}-{first + 1}, count: 2}}", "-j", "2")
    assert (code, "no 2 ports in a row are free" in said, "could not start" in said) == (1, True, True)
    assert run(f"ports: {{range: {first}-{first + 1}, count: 2}}", "-j", "1", "--resume")[0] == 0
    task_list(
        listed, {"id": "x", "run": "true", "env": {"A": "{port}"}}, {"id": "y", "run": "true", "env": {"A": "{prot}"}}
    )
    code, said = run("{}")
    assert code == 2
    assert (
        "the env of 'x' needs 1 of its own ports, and tasks are given 0; set ports: {count: 1} in the configuration"
        in said
    )
    assert "env.A: no placeholder is called 'prot'; did you mean 'port'?; for a brace itself write '{{'" in said
