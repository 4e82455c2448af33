"""What a project is made of, the files that are written for it, and that they run as they are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from commandline import document, moderator, picture
from moderator.config import load_config
from moderator.config.describing import config_schema
from moderator.document import plain_value, read_document
from moderator.git.manager import GitManager
from moderator.scaffolding.programs import test_command as command_of_tests
from moderator.scaffolding.python import python_manager
from moderator.scaffolding.survey import Port, Project, survey
from moderator.scaffolding.writing import configuration, task_list
from moderator.taskfile import load_tasks
from moderator.taskschema import task_schema
from repos import Gitlink, git, make_repository
from schemas import validates


def project_of(folder: Path, files: Mapping[str, str], loose: Mapping[str, str] | None = None) -> Project:
    """Survey a repository of these tracked files, with some that are not."""
    top = make_repository(folder / "r", [("first", dict(files))])
    for name, text in (loose or {}).items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text)
    manager = GitManager(top)
    return survey(str(top), manager.files_at(), manager.ignored_entries())


def test_a_python_project_is_told_by_its_files(tmp_path: Path) -> None:
    """Languages, lock file, environment, settings with ports, tests; examples of settings are no settings."""
    found = project_of(
        tmp_path,
        {
            ".gitignore": ".env*\n!.env.example\n.venv\n",
            ".env.example": "PORT=8000\nDB_PORT=5432\n",
            "pyproject.toml": "[project]\nname = 'x'\n[build-system]\n[tool.pytest.ini_options]\n",
            "uv.lock": "",
            "src/x.py": "1\n",
            "src/bad.py": "print 1\n",
            "tests/test_x.py": "def test_x(): pass\n",
            "compose.yaml": "services:\n  db:\n    ports: ['${DB_PORT:-5432}:5432', '127.0.0.1:6379:6379', '9000:80']\n",
        },
        {
            ".env": "PORT=8001\n",
            ".env.local": "SECRET=1\n",
            ".venv/bin/python": "",
            ".venv/lib/site-packages/pytest/a.py": "",
        },
    )
    assert found.languages == (("Python", 3),)
    assert [(one.name, one.makes) for one in found.managers] == [("uv", ".venv")]
    assert (found.present, found.env_files) == ((".venv",), (".env", ".env.local"))
    assert found.tests == ".venv/bin/python -m pytest -q"
    assert found.ports == (
        Port(8001, ".env", "PORT"),
        Port(5432, ".env.example", "DB_PORT"),
        Port(6379, "compose.yaml"),
        Port(9000, "compose.yaml"),
    )
    assert (found.patterns, found.checkable) == (("**/*.py", "!src/bad.py"), True)


PIP = "python3 -m venv .venv && echo '*' > .venv/.gitignore && .venv/bin/python -m pip install -q"
GROUPS = f"{PIP} 'pip>=25.1' && .venv/bin/python -m pip install -q"
PACKAGE = "[project]\nname = 'a-b'\n[build-system]\nrequires = ['hatchling']\n"
OWN = "env -u VIRTUAL_ENV -u CONDA_PREFIX"
UV, POETRY = "uv sync --frozen", f"{OWN} POETRY_VIRTUALENVS_IN_PROJECT=true poetry install --no-interaction"
PDM, PIPENV = f"{OWN} PDM_VENV_IN_PROJECT=1 pdm install --frozen-lockfile", f"{OWN} PIPENV_VENV_IN_PROJECT=1 pipenv"


@pytest.mark.parametrize(
    ("files", "setup", "brings"),
    [
        ({"pyproject.toml": PACKAGE + "[project.optional-dependencies]\ntest = ['pytest>=8']\ndocs = ['sphinx']\n"},
         f"{PIP} -e '.[test]'", True),
        ({"pyproject.toml": PACKAGE + "[project.optional-dependencies]\nqa = ['pytest-cov']\ndev = ['A-B[qa]', 'ruff']\n"},
         f"{PIP} -e '.[dev]'", True),
        ({"pyproject.toml": PACKAGE + "[project.optional-dependencies]\n'x y' = ['pytest']\n"}, f"{PIP} -e .", False),
        ({"pyproject.toml": PACKAGE + "[dependency-groups]\nt = ['pytest']\ndev = [{include-group = 't'}]\n"},
         f"{GROUPS} -e . --group dev", True),
        ({"pyproject.toml": "[dependency-groups]\ndev = ['ruff', {include-group = 'dev'}]\n"}, None, False),
        ({"pyproject.toml": "[dependency-groups]\ntest = ['Pytest']\n"}, f"{GROUPS} --group test", True),
        ({"uv.lock": "", "pyproject.toml": PACKAGE + "[project.optional-dependencies]\ntests = ['pytest']\n"},
         f"{UV} --extra tests", True),
        ({"uv.lock": "", "pyproject.toml": "[dependency-groups]\ntest = ['pytest']\ndev = ['ruff']\n"}, f"{UV} --group test", True),
        ({"uv.lock": "", "pyproject.toml": "[dependency-groups]\ndev = ['pytest']\n"}, UV, True),
        ({"uv.lock": "", "pyproject.toml": "[tool.uv]\ndefault-groups = []\ndev-dependencies = ['pytest']\n"},
         f"{UV} --group dev", True),
        ({"requirements.txt": "x\n", "requirements/tests.txt": "-r base.txt\npytest\n"},
         f"{PIP} -r requirements.txt -r requirements/tests.txt", True),
        ({"requirements.txt": "x\n", "requirements-dev.txt": "-r requirements.txt\npytest==8\n", "setup.py": ""},
         f"{PIP} -r requirements-dev.txt -e .", True),
        ({"requirements-dev.txt": "-e .[all]\n-r requirements/in.txt\n", "requirements/in.txt": "pytest\n", "setup.py": ""},
         f"{PIP} -r requirements-dev.txt", True),
        ({"setup.py": "setup(extras_require={'test': ['pytest', \"x\"]})"}, f"{PIP} -e '.[test]'", True),
        ({"setup.cfg": "[metadata]\n[options.extras_require]\ntesting =\n  pytest\n", "pyproject.toml": "[build-system]\n"},
         f"{PIP} -e '.[testing]'", True),
        ({"tox.ini": "deps = pytest", "setup.py": ""}, f"{PIP} -e .", False),
        ({"pyproject.toml": "[tool.poetry.group.qa.dependencies]\npytest = '^8'\n"},
         f"{POETRY} && git clean -fq poetry.lock", True),
        ({"poetry.lock": "", "pyproject.toml": "[tool.poetry.group.test]\noptional = true\ndependencies = {pytest = '^8'}\n"},
         f"{POETRY} --with test", True),
        ({"pyproject.toml": "[project]\nname = 1\noptional-dependencies = {test = 1}\n[dependency-groups]\ntest = 1\n"
          "[tool]\nuv = 1\n[tool.poetry]\ndev-dependencies = 1\ngroup = {test = 1}\nextras = {test = [1]}\n"},
         f"{POETRY} --extras test && git clean -fq poetry.lock", False),
        ({"pdm.lock": "", "pyproject.toml": "[tool.pdm.dev-dependencies]\nqa = ['pytest']\n"}, PDM, True),
        ({"pdm.lock": "[metadata]\ngroups = ['default', 'test']\n[[package]]\ngroups = ['docs']\n",
          "pyproject.toml": "[project.optional-dependencies]\ntest = ['pytest']\ntests = ['x']\n"}, PDM, True),
        ({"pdm.lock": '[metadata]\ngroups = ["default"]\n', "pyproject.toml": "[dependency-groups]\ndev = ['pytest']\n"},
         PDM, False),
        ({"Pipfile.lock": '{"develop": {"pytest": {}}}'}, f"{PIPENV} sync --dev", True),
        ({"Pipfile": "[dev-packages]\npytest = '*'\n"}, f"{PIPENV} install --dev --skip-lock", True),
    ],
)  # fmt: skip
def test_what_tests_need_is_installed_or_they_are_no_task(
    files: dict[str, str], setup: str | None, brings: bool
) -> None:
    """The optional part with pytest is asked for by its name, however a project says it; where there is none, that is known."""
    found = python_manager(files)
    assert (found.setup if found else None, bool(found and found.brings_pytest)) == (setup, brings)


def test_no_task_needs_what_nothing_installs(tmp_path: Path) -> None:
    """Tests for pytest, and none of it: they stand there as a comment, once it comes with the set-up, they run."""
    files = {".gitignore": ".venv\n", "a/test_a.txt": "", "setup.py": "", "test_a.py": "def test_a(): pass\n"}
    loose = {".venv/lib/python3/site-packages/a.py": ""}
    for more, installs in (({}, False), ({"requirements/dev.txt": "pytest\n"}, True)):
        found = project_of(tmp_path / str(installs), {**files, **more}, loose)
        text = task_list(found, "main", "s")
        assert (found.missing, found.present) == (("", ()) if installs else ("pytest", (".venv",)))
        assert ("  - id: tests\n" in text, "  # - id: tests\n" in text) == (installs, not installs)
    unittest = project_of(tmp_path / "u", {"test_a.py": "import unittest\n", "setup.py": ""})
    assert (unittest.tests, unittest.missing) == (".venv/bin/python -m unittest discover -q", "")
    for name, more, start in (("package", {"a/__init__.py": ""}, ""), ("folder", {}, " -s a")):
        unittest = project_of(tmp_path / name, {"a/test_a.py": "import unittest\n", **more})
        assert unittest.tests == f"python3 -m unittest discover -q{start}"


def test_packages_that_lead_back_to_the_checkout_do_not_travel(tmp_path: Path) -> None:
    """An environment with the project itself installed in place would run the main checkout's code in every workspace."""
    files = {".gitignore": ".venv\n", "requirements.txt": "# none\n\nx\n", "a.py": ""}
    found = project_of(tmp_path, files, {".venv/lib/python3/site-packages/__editable__.x.pth": "/x\n"})
    assert found.present == ()
    assert "    setup: 'true'  # this needs nothing installed" in task_list(found, "main", "s")
    text = configuration(found, "s.json")
    assert f'setup: ["{PIP} -r requirements.txt"]\n' in text
    assert "carry" not in text


def test_a_node_project_is_told_by_its_files(tmp_path: Path) -> None:
    """Lock files say who installs; modules that are there are carried; broken files of others are passed over."""
    files = {
        ".gitignore": "node_modules\n",
        "package.json": json.dumps(
            {"scripts": {"test": "jest", "dev": "vite --port 5173"}, "dependencies": {"a": "1"}}
        ),
        "pnpm-lock.yaml": "",
        "src/a.ts": "let a\n",
    }
    found = project_of(tmp_path, files, {"node_modules/a/package.json": "{}"})
    assert [one.name for one in found.managers] == ["pnpm"]
    assert (found.present, found.tests, found.ports) == (("node_modules",), "pnpm test", (Port(5173, "package.json"),))
    assert "carry: [node_modules/]" in configuration(found, "s")
    assert "setup: 'true'" not in task_list(found, "main", "s")
    broken = project_of(tmp_path / "b", {"package.json": "{", "pyproject.toml": "[", "compose.yml": "\t", "x.rs": ""})
    assert (broken.managers, broken.tests, broken.patterns) == ((), "", ("**/*.rs",))


@pytest.mark.parametrize(
    ("files", "scripts", "tests"),
    [
        ({"Cargo.toml": "", "Cargo.lock": ""}, {}, "cargo test --locked"),
        ({"go.mod": ""}, {}, "go test ./..."),
        ({"Makefile": "all:\n\ttrue\ncheck: all\n"}, {}, "make check"),
        ({"Makefile": "test := x\n"}, {}, ""),
        ({"package.json": ""}, {"test": 'echo "Error: no test specified" && exit 1'}, ""),
        ({"yarn.lock": "", "package.json": ""}, {"test": "x"}, "yarn test"),
        ({"a_test.py": ""}, {}, "python3 -m unittest discover -q"),
        ({"test_a.py": "", "requirements-dev.txt": "pytest"}, {}, "python3 -m pytest -q"),
    ],
)
def test_tests_are_found_where_they_are(files: dict[str, str], scripts: dict[str, str], tests: str) -> None:
    """Each runner by its files; the command that only says that there are no tests is none."""
    assert command_of_tests(files, scripts, list(files), venv=False) == tests


def test_submodules_are_asked_for_where_they_are_checked_out(tmp_path: Path) -> None:
    """A workspace gets them from the main checkout, and a run in which every one fails is no beginning."""
    modules = '[submodule "x"]\n\tpath = lib/x\n\turl = u\n[submodule "y"]\n\tpath = y\n'
    found = project_of(tmp_path, {".gitmodules": modules, "lib/x": Gitlink("1" * 40), "y": Gitlink("2" * 40)})
    assert (found.submodules, found.absent) == (("lib/x", "y"), ("lib/x", "y"))
    text = configuration(found, "s")
    assert "# Not all of them are here (lib/x, y): git submodule update --init, and" in text
    assert "\n# submodules: true\n" in text
    for path in found.submodules:
        (tmp_path / "r" / path / ".git").mkdir(parents=True)
    assert survey(str(tmp_path / "r"), GitManager(tmp_path / "r").files_at(), ()).absent == ()


PROJECTS = [
    Project(0, (), (), (), (), (), (), False, "", (), False),
    Project(
        5000, (("C", 3),), (), ("node_modules",), (".env", "a b/.env"), (Port(1, "x"), Port(80, "a: b", "PORT")),
        ("lib", "a b"), True, "x: [y] #z", ("it's/*.py", "!{a}"), True, "", ("a b",),
    ),
]  # fmt: skip


@pytest.mark.parametrize("project", PROJECTS, ids=["nothing", "everything"])
def test_what_is_written_is_read(project: Project, tmp_path: Path) -> None:
    """Whatever a project is made of, both files are what their readers and schemas take."""
    (tmp_path / "c.yaml").write_text(configuration(project, "s.json"))
    (tmp_path / "t.yaml").write_text(task_list(project, "a #b", "s.json"))

    class Any:
        def files(self, base: str | None, untracked: bool) -> list[str]:
            return ["it's/a.py"]

        def output(self, command: str | list[str], timeout: float) -> bytes:
            return b""

    assert load_tasks(tmp_path / "t.yaml", Any()).tasks
    assert validates(task_schema(), plain_value(read_document(tmp_path / "t.yaml").root))
    found = read_document(tmp_path / "c.yaml")
    assert found.complaints.sentences() == []
    assert load_config([tmp_path / "c.yaml"]).pool_size == ("auto" if project.files else 0)
    assert found.root is None or validates(config_schema(), plain_value(found.root))


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """What is there stays, whichever of the two it is, a dead link too; showing writes nothing; a bare repository is told of."""
    repository = make_repository(
        tmp_path / "r", [("first", {"a.py": "1\n", "sub": Gitlink("1" * 40), ".gitmodules": ""})]
    )
    before = picture(tmp_path)
    shown = document(moderator(repository, "init", "--dry-run", "--json"))["would_write"]
    assert set(shown) == {"moderator.yaml", "tasks.yaml"}
    assert moderator(repository, "init", "--stdout").stdout == "".join(
        f"# ---- {name}\n{text}\n" for name, text in shown.items()
    )
    assert picture(tmp_path) == before
    (repository / "tasks.yaml").symlink_to("nowhere")
    before = picture(tmp_path)
    done = moderator(repository, "init")
    assert done.returncode == 3
    assert done.stderr == (
        f"error: 'tasks.yaml' is there already in {str(repository)!r}; nothing was written\n"
        "  hint: moderator init --stdout shows what would be written\n"
    )
    assert picture(tmp_path) == before
    bare = make_repository(tmp_path / "bare", bare=True)
    done = moderator(bare, "init")
    assert (done.returncode, "a bare repository has no checkout" in done.stderr) == (2, True)


def run_to_the_end(repository: Path, *changed: str) -> None:
    """From `init` to green tasks, with nothing typed but what it says."""
    done = document(moderator(repository, "init", "--json"))
    written = done["written"]
    assert written == [str(repository / "moderator.yaml"), str(repository / "tasks.yaml")]
    for path in written:
        line = Path(path).read_text().splitlines()[0]
        assert (repository / line.partition("$schema=")[2]).is_file()
    assert moderator(repository, "doctor").returncode == 0
    for line in done["next"][:-2]:
        assert line == "moderator trust"
        assert moderator(repository, "trust", "--yes").returncode == 0
    done = moderator(repository, "run", "tasks.yaml", "--json", "-j", "2")
    results = document(done)["results"]
    assert [one["outcome"] for one in results] == ["unchanged"] * 12, done.stderr + done.stdout
    assert git(repository, "status", "--porcelain") == "?? moderator.yaml\n?? tasks.yaml"


def test_a_python_project_goes_from_init_to_twelve_green_tasks(tmp_path: Path) -> None:
    """With an environment of its own, which every workspace gets, and a package that only that has."""
    files = {f"shop/m{number}.py": f"X = {number}\n" for number in range(9)}
    test = "import unittest\nimport only_here\n\n\nclass T(unittest.TestCase):\n    def test_it(self):\n        only_here.X\n"
    repository = make_repository(
        tmp_path / "r",
        [("first", {**files, ".gitignore": ".venv/\n__pycache__/\n", "shop/__init__.py": "", "test_shop.py": test})],
    )
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", repository / ".venv"], check=True)
    packages = next((repository / ".venv/lib").glob("python*/site-packages"))
    (packages / "only_here.py").write_text("X = 1\n")
    run_to_the_end(repository)


@pytest.mark.skipif(not (shutil.which("node") and shutil.which("npm")), reason="there is no node")
@pytest.mark.slow
def test_a_node_project_goes_from_init_to_twelve_green_tasks(tmp_path: Path) -> None:
    """With modules that git ignores, which every workspace gets."""
    files = {f"src/m{number}.js": f"module.exports = {number};\n" for number in range(10)}
    package = json.dumps({"name": "shop", "scripts": {"test": "node test.js"}, "dependencies": {"only-here": "1"}})
    repository = make_repository(
        tmp_path / "r",
        [
            (
                "first",
                {
                    **files,
                    ".gitignore": "node_modules\n",
                    "package.json": package,
                    "test.js": "require('only-here');\n",
                },
            )
        ],
    )
    (repository / "node_modules/only-here").mkdir(parents=True)
    (repository / "node_modules/only-here/index.js").write_text("module.exports = 1;\n")
    assert os.listdir(repository / "node_modules") == ["only-here"]
    run_to_the_end(repository)
