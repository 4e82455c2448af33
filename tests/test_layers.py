"""The rooms of the house import downwards only."""

from __future__ import annotations

import ast
from pathlib import Path

import moderator

HOUSE = Path(moderator.__file__).parent

LAYERS = {
    "errors": 0,
    "furnishing": 0,
    "interruption": 0,
    "opening": 0,
    "document": 1,
    "machine": 1,
    "models": 1,
    "naming": 1,
    "testing": 1,
    "context": 2,
    "process": 2,
    "kinds": 2,
    "templates": 2,
    "config": 3,
    "git": 3,
    "store": 3,
    "backends": 4,
    "cleaning": 4,
    "expanding": 4,
    "plan": 4,
    "ports": 4,
    "slots": 4,
    "trust": 4,
    "scaffolding": 5,
    "leftovers": 5,
    "preparing": 5,
    "routing": 5,
    "taskfile": 5,
    "taskschema": 6,
    "execution": 6,
    "resuming": 6,
    "orchestrator": 7,
    "reports": 7,
    "cli": 8,
    "__main__": 9,
}
"""Each room and how high it stands; a room may import from lower ones and from itself."""

PACKAGE_ROOT_ONLY_FOR = {"__version__"}


def rooms_imported(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            rooms |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("moderator.")}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            if node.module == "moderator":
                rooms |= {alias.name for alias in node.names} - PACKAGE_ROOT_ONLY_FOR
            elif (node.module or "").startswith("moderator."):
                rooms.add(str(node.module).split(".")[1])
    return rooms


def room_of(path: Path) -> str:
    return path.relative_to(HOUSE).parts[0].removesuffix(".py")


def modules() -> list[Path]:
    return [path for path in sorted(HOUSE.rglob("*.py")) if path != HOUSE / "__init__.py"]


def test_every_room_has_a_place_in_the_house() -> None:
    assert {room_of(path) for path in modules()} == set(LAYERS)


def test_imports_point_down() -> None:
    upward = [
        f"{path.relative_to(HOUSE)} imports {room}"
        for path in modules()
        for room in rooms_imported(path)
        if room != room_of(path) and LAYERS.get(room, 99) >= LAYERS[room_of(path)]
    ]
    assert upward == []


def test_only_two_rooms_start_processes() -> None:
    """git is spoken to in its room, commands are run in theirs, and nobody else starts anything."""
    starters = {
        room_of(path)
        for path in modules()
        for line in path.read_text("utf-8").splitlines()
        if line.strip().startswith(("import subprocess", "from subprocess", "import git", "from git"))
    }
    assert starters - {"testing"} == {"git", "process"}  # the agent to test with is a program of its own
