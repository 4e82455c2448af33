"""A task, its set-up and a person's command find in a file what they find in their environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from commandline import document, moderator, task_list
from moderator import Orchestrator
from moderator.errors import ConfigurationError
from moderator.execution.rendering import faults_in, rendered_before
from moderator.execution.visiting import Visitor
from moderator.furnishing import Render
from moderator.git.entries import RENDERED
from moderator.machine import ports_folder
from moderator.models import Task, TaskResult
from moderator.ports import PortRange, reserve
from moderator.process import Cancellation
from repos import make_repository
from runs import execute, shell, words
from test_ports import free_range

TEMPLATE = """\
PORT=${MODERATOR_PORT:-3000} ${MODERATOR_ATTEMPT}
TASK=${MODERATOR_TASK_ID} ${MODERATOR_MATRIX_PY:-none} ${HOME} {port} $${MODERATOR_TASK_ID}
"""
SAYS = 'read line < .env; test "$line" = "PORT=${MODERATOR_PORT:-3000} $MODERATOR_ATTEMPT"'
TRACKED = {".env.example": TEMPLATE, ".gitignore": ".env\n/more/\n"}
OTHER = Render(".env.example", "more/it")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "shop", [("first", TRACKED)])


def test_a_file_agrees_with_the_environment_of_whoever_reads_it(repository: Path, tmp_path: Path) -> None:
    """Of the set-up, the task, and a command after it; what somebody changed is told, and stays."""
    first = free_range(100)
    ports = {"count": 1, "range": f"{first}-{first + 99}"}
    orchestrator = Orchestrator({"render": [".env.example"], "ports": ports, "setup": [SAYS]}, repository)
    tasks = [
        shell("made", SAYS, values={"py": "3.11"}),
        shell("changed", f"{SAYS} && echo PORT=1 >> .env"),
        shell("own", "test ! -e .env && cat more/it", render=[OTHER], setup=["true"]),
        shell("none", "test ! -e .env", render=[], setup=["true"]),
    ]
    assert [words(one) for one in orchestrator.run(tasks).results] == ["unchanged"] * 4
    path = {one.id: Path(orchestrator.root, "tasks", one.id) for one in tasks}
    second = "TASK=made 3.11 ${HOME} {port} $${MODERATOR_TASK_ID}"
    assert (path["made"] / ".env").read_text().splitlines()[1] == second
    visitor = Visitor(orchestrator.git, os.environ, config=orchestrator.config)

    def look(task_id: str, script: str) -> int | None:
        found = [orchestrator.git.find(task_id)]
        options = {"jobs": 1, "logs": tmp_path, "grace": 1.0, "cancellation": Cancellation()}
        [visit] = visitor.visit(found, ["sh", "-c", script], **options)  # type: ignore[arg-type]
        return visit.exit_code

    taken = reserve(ports_folder(os.environ), PortRange(first, first + 99, 1))  # so that theirs is another one now
    scripts = {
        "made": SAYS,
        "own": SAYS.replace(".env", "more/it"),
        "none": "test ! -e .env",
        "changed": "grep PORT=1 .env",
    }
    assert [look(task_id, script) for task_id, script in scripts.items()] == [0] * 4
    taken.release()
    assert visitor.notes == ["changed: somebody's own, or changed since it was rendered, so it stays as it is: .env"]
    assert (path["made"] / ".env").read_text().splitlines()[1] == second
    found = [orchestrator.git.check_removal(task_id, rescue=True).left for task_id in scripts]
    assert found == [(), (), (), (".env",)]
    entry = Path((path["made"] / ".git").read_text().removeprefix("gitdir: ").strip())
    (entry / RENDERED).write_bytes(
        b'carried 2 {"render": [["secret", ".env"]], "values": {}}\0'
    )  # a task can write there
    made = orchestrator.git.find("made")
    assert rendered_before(orchestrator.git, made) == ([Render(".env.example", ".env")], {"py": "3.11"})


def test_a_set_up_that_is_repeated_reads_a_new_file(repository: Path) -> None:
    """In a workspace that stays; if the file is not as it was, nothing begins, and what to type is said."""

    def attempt(number: int) -> TaskResult:
        task = shell("one", "true", setup=[f"{SAYS} && test $MODERATOR_ATTEMPT = 3"], render=[".env.example"])
        return execute(repository, task, attempts={"one": number}, stay=["one"] if number > 1 else [])[0]

    assert words(attempt(1)) == "set-up failed"
    env = Path(attempt(2).path or "", ".env")
    own = env.read_text()
    env.write_text("mine\n")
    refused = attempt(3)
    assert (words(refused), env.read_text()) == ("set-up failed", "mine\n")
    assert refused.error_message == (
        ".env: somebody's own, or changed since it was rendered, so nothing is written over it; "
        f"hint: put what you want to keep of it into the template, and then: rm {env}"
    )
    env.unlink()
    assert words(attempt(3)) == "unchanged"
    assert env.read_text() == own.replace(" 2\n", " 3\n", 1)


@pytest.mark.slow
def test_it_is_planned_and_a_repositorys_own_word_needs_an_agreement(repository: Path, tmp_path: Path) -> None:
    """A dry run shows what would be rendered, and makes nothing."""
    (repository / "moderator.yaml").write_text("render: [.env.example]\n")
    own = {"from": ".env.example", "to": "more/it"}
    listed = task_list(tmp_path / "t", {"id": "a", "run": "true"}, {"id": "b", "run": "true", "render": [own]})
    refused = moderator(repository, "run", listed)
    assert (refused.returncode, 'render: {"from": ".env.example"}' in refused.stderr) == (3, True)
    planned = moderator(repository, "run", listed, "--dry-run")
    assert planned.stdout.splitlines()[-3:-1] == ["render: .env.example -> .env", "render: .env.example -> more/it"]
    told = document(moderator(repository, "run", listed, "--dry-run", "--json"))["plan"]["tasks"]
    assert [one["render"] for one in told] == [[{"from": ".env.example", "to": ".env"}], [own]]


@pytest.mark.parametrize(
    ("content", "faults"),
    [
        (b"", []),
        (b'{"a": {"b": "${HOME}"}} {{port}} $PORT \xff\xfe ${port} $MODERATOR_PORT \\${MODERATOR_X} $${MODERATOR_X', []),
        (b"${MODERATOR_PORT:-${X}}", ["1: this cannot be read; write ${MODERATOR_NAME}, or ${MODERATOR_NAME:-TEXT} with a text "
                                      "without braces"]),
        (b"\r\n${MODERATOR_TASK\nx}", ["2: this cannot be read; write ${MODERATOR_NAME}, or ${MODERATOR_NAME:-TEXT} with a text "
                                       "without braces"]),
        (b"\n\n${MODERATOR_PROT:-1}", ["3: nothing is called ${MODERATOR_PROT}; did you mean 'MODERATOR_PORT'?"]),
        (b"${MODERATOR_PORT_1}", ["1: there is no ${MODERATOR_PORT_1}, for tasks are given 1 ports; set ports: {count: ...}, or "
                                  "write ${MODERATOR_PORT_1:-TEXT} with what stands there without it"]),
        (b"${MODERATOR_PORT_1:-}${MODERATOR_MATRIX_A-b}", []),
        (b"${MODERATOR_MATRIX_A}", ["1: there is no ${MODERATOR_MATRIX_A} for every task; write ${MODERATOR_MATRIX_A:-TEXT} with "
                                    "what stands there without it"]),
        (b"a\n${MODERATOR_ITEM}", ["2: the value of ${MODERATOR_ITEM} has several lines, which would be other lines of the file"]),
        (b"a\nPORT={port}", ["2: {port} is filled in in env, not in files; write ${MODERATOR_PORT}"]),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_template_is_told_by_its_line(content: bytes, faults: list[str]) -> None:
    """Only what begins like one of our marks is one; everything else is the file's own."""
    values = {"MODERATOR_PORT": "1", "MODERATOR_ITEM": "a\nb"}
    assert [f"{line}: {sentence}" for line, sentence in faults_in(content, values, 1, values)] == faults


def test_a_template_that_cannot_be_filled_in_for_some_task_stops_the_run(repository: Path) -> None:
    """Before anything is made: a name that not every task has, and a value that would be another line."""
    tasks = [
        Task("one", "One", run="true", values={"py": "3"}),
        Task("two", "Two", run="true", values={"item": "a\nb"}),
    ]
    (repository / ".git/info/exclude").write_text("x.tpl\nx\n")
    orchestrator = Orchestrator({"render": ["x.tpl"]}, repository)
    for content, why in (
        ("\n${MODERATOR_MATRIX_PY}", r"^x.tpl:2: there is no \$\{MODERATOR_MATRIX_PY\} for every task"),
        ("${MODERATOR_ITEM:-}", r"^x.tpl:1: the value of \$\{MODERATOR_ITEM\} has several lines"),
    ):
        (repository / "x.tpl").write_text(content)
        with pytest.raises(ConfigurationError, match=why):
            orchestrator.plan(tasks)
        assert orchestrator.plan(tasks, level="branch").tasks
