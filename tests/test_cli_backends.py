"""`moderator backends`, `route`, and runs with agents, as people type them."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from commandline import document, moderator, picture, started, task_list, wait_until
from moderator.testing import fake_backend
from repos import git, make_repository


def configured(repository: Path, backends: dict[str, Any], **routing: Any) -> None:
    """Write the person's own configuration, which nobody has to agree to; JSON is YAML."""
    content = {"gear3": {"backend_routing": {"enabled": True, **routing}}, "backends": backends}
    own = Path(os.environ["XDG_CONFIG_HOME"], "moderator/config.yaml")
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text(json.dumps(content))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "shop", [("start", {"a.txt": "a\n", ".gitignore": "moderator.yaml\n"})])


@pytest.mark.slow
def test_backends_are_shown_with_what_is_known_of_them(repository: Path) -> None:
    """Found, version, logged in, limit, where or why not; one line each, and who does what below."""
    backends = {
        "good": fake_backend("claude-json", limit=2, login=["true"]),
        "out": fake_backend("codex-jsonl", login=["false"], login_env=["NO_SUCH_KEY"]),
        "gone": {"argv": ["no-such-program-here"]},
    }
    configured(repository, backends, default_backend=["out", "good"], rules={"testing": "gone"})
    done = moderator(repository, "backends", "good", "out", "gone")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [
        re.sub(r" {2,}", "  ", line).replace(backends["good"]["argv"][0], "PYTHON") for line in done.stdout.splitlines()
    ]
    assert lines == [
        "BACKEND  USABLE  VERSION  LOGGED IN  LIMIT  WHERE, OR WHY NOT",
        "good  yes  9.8.7  yes  2  PYTHON",
        "out  no  9.8.7  no  -  it is not logged in; log in with PYTHON, or set NO_SUCH_KEY",
        "gone  no  -  -  -  'no-such-program-here' is not on PATH; install it, or put another backend in its place",
    ]
    only_git = repository.parent / "bin"  # whatever agents this machine has are nobody's business here
    only_git.mkdir()
    (only_git / "git").symlink_to(str(shutil.which("git")))
    everything = moderator(repository, "backends", PATH=str(only_git))
    assert everything.stdout.splitlines()[-1] == "who does what: testing -> gone; all else -> out, good"
    assert len(everything.stdout.splitlines()) == 1 + 8 + 3 + 1
    found = document(moderator(repository, "backends", "--json", "gone"))
    assert found["backends"] == [
        {
            "name": "gone", "path": None, "version": None, "logged_in": None, "usable": False, "limit": None,
            "problem": "'no-such-program-here' is not on PATH", "hint": "install it, or put another backend in its place",
        }
    ]  # fmt: skip
    unknown = moderator(repository, "backends", "goood")
    assert (unknown.returncode, "did you mean 'good'?" in unknown.stderr) == (2, True)


def test_route_says_where_each_task_goes_and_why_and_makes_nothing(repository: Path, tmp_path: Path) -> None:
    """The table names the rule that decided; nothing is created, and nobody is asked for work."""
    configured(
        repository,
        {"one": fake_backend(), "two": fake_backend()},
        default_backend=["one", "two"],
        rules={"testing": "two"},
    )
    tasks = task_list(
        tmp_path / "tasks.yaml",
        {"id": "a", "prompt": "Write tests for the parser"},
        {"id": "b", "prompt": "Think of something"},
        {"id": "c", "run": "make"},
        {"id": "d", "prompt": "x", "backend": "two"},
    )
    before = picture(tmp_path)
    done = moderator(repository, "route", tasks)
    assert (done.returncode, done.stderr) == (0, "")
    assert [re.split(r" {2,}", line) for line in done.stdout.splitlines()] == [
        ["TASK", "BACKEND", "KIND", "ROW", "BECAUSE OF", "THEN"],
        ["a", "two", "testing", "rules.testing", "'tests' in its description", "-"],
        ["b", "one", "general", "default_backend", "no rule knows its words", "two"],
        ["c", "shell", "general", "it is a command", "no rule knows its words", "-"],
        ["d", "two", "general", "the task names it", "no rule knows its words", "-"],
    ]
    assert set(picture(tmp_path)) == set(before)
    found = document(moderator(repository, "route", tasks, "--json"))
    assert found["tasks"][0] == {
        "task_id": "a", "backend": "two", "kind": "testing", "because": "'tests' in its description",
        "row": "rules.testing", "backends": ["two"],
    }  # fmt: skip


def test_nobody_there_is_said_before_anything_is_made(repository: Path, tmp_path: Path) -> None:
    """Exit code 4, each backend with its reason and what to type; no workspace, branch or record."""
    configured(
        repository,
        {"gone": {"argv": ["no-such-program-here"]}, "out": fake_backend(login=["false"])},
        default_backend=["gone", "out"],
    )
    tasks = task_list(
        tmp_path / "tasks.yaml", {"id": "a", "prompt": "x"}, {"id": "b", "prompt": "y"}, {"id": "c", "run": "true"}
    )
    for command in (["run", tasks], ["run", tasks, "--dry-run"], ["route", tasks]):
        done = moderator(repository, *command)
        assert done.returncode == 4
        assert "gone: 'no-such-program-here' is not on PATH" in done.stderr
        assert "out: it is not logged in" in done.stderr
        assert "hint: install it, or put another backend in its place" in done.stderr
    assert (
        "error: nobody is there to do 2 of 3 tasks; nothing was started" in moderator(repository, "run", tasks).stderr
    )
    assert git(repository, "for-each-ref") == git(repository, "for-each-ref", "refs/heads/main")
    assert not (tmp_path / "shop.moderator").exists()


def test_what_is_wrong_with_prompts_and_backends_is_told_at_once(repository: Path, tmp_path: Path) -> None:
    """Both run and prompt, neither, a file that is not there, an unknown backend: each with its line, exit code 2."""
    configured(repository, {"one": fake_backend()}, default_backend="one")
    (tmp_path / "empty.md").write_text(" \n")
    path = tmp_path / "tasks.yaml"
    path.write_text("""\
tasks:
  - {id: a, run: make, prompt: x}
  - {id: b}
  - {id: c, prompt_file: missing.md}
  - {id: d, prompt_file: empty.md}
  - {id: e, prompt: x, backend: on}
  - {id: f, prompt: x, variants: 0}
  - {id: g, prompt: x, variants: [one, two]}
  - {id: h, prompt: x, max_attempts: 21}
  - {id: "g@2", prompt: x}
""")
    done = moderator(repository, "run", path)
    assert done.returncode == 2
    said = [line.strip().removeprefix(f"{path}:") for line in done.stderr.splitlines() if str(path) in line][1:]
    assert said == [
        "2:32: 'run' and 'prompt' cannot both be there: a task is a command or a prompt",
        "3:5: task 'b' has neither 'run' nor 'prompt': say what to execute, or what to ask an agent for",
        f"4:26: prompt_file 'missing.md' cannot be read from '{tmp_path}': No such file or directory",
        "5:26: prompt_file 'empty.md' is empty; write into it what to ask for",
        "7:34: variants must be between 1 and 32, not 0",
        "9:38: max_attempts must be between 1 and 20, not 21",
        "10:10: the id 'g@2' is taken, by the task in line 8; give every task its own",
        "6: task 'e': no backend is called 'on'; did you mean 'one'?",
        "8: task 'g@2': no backend is called 'two'",
    ]


def test_a_prompt_can_come_from_a_file_beside_the_task_list(repository: Path, tmp_path: Path) -> None:
    """The path counts from the list's folder; the agent is told what stands in the file."""
    configured(repository, {"one": fake_backend()}, default_backend="one")
    (tmp_path / "lists" / "prompts").mkdir(parents=True)
    (tmp_path / "lists" / "prompts" / "a.md").write_text("\ufeffMake it\nfaster\n", "utf-8")
    tasks = task_list(tmp_path / "lists" / "tasks.yaml", {"id": "a", "prompt_file": "prompts/a.md"})
    assert moderator(repository, "run", tasks).returncode == 0
    assert git(repository, "show", "main-task-a:agent.txt").startswith("Make it\nfaster\n\nYou work in ")


def test_a_run_with_agents_tells_attempts_versions_and_costs(repository: Path, tmp_path: Path) -> None:
    """Progress, `show`, `history` and JSON tell of each attempt: who made it, its version, what it took, how it ended."""
    limited = fake_backend("codex-jsonl", "rate-limit", "--counter", str(tmp_path / "count"))
    configured(
        repository, {"limited": limited, "good": fake_backend("claude-json")}, default_backend=["limited", "good"]
    )
    tasks = task_list(tmp_path / "tasks.yaml", {"id": "a", "prompt": "Do it"})
    done = moderator(repository, "run", tasks, "--progress", "plain")
    assert done.returncode == 0
    assert "↻ a: limited failed (exit code 1: 429 rate limit reached, try again later); good now" in done.stderr
    assert "1 of 1 task succeeded, $0.250 by what the backends say" in done.stderr
    shown = moderator(repository, "show", "a").stdout
    assert "backend      good 9.8.7, 1,200 tokens in, 34 out, $0.250" in shown
    assert "what it said last\n  Done.\n" in shown
    run_id = document(moderator(repository, "history", "--json"))["runs"][0]["run_id"]
    attempts = document(moderator(repository, "history", run_id, "--json"))["attempts"]
    keys = ("attempt", "backend", "backend_version", "outcome", "cost_usd", "tokens_in", "reply")
    assert [tuple(one[key] for key in keys) for one in attempts] == [
        (1, "limited", "9.8.7", "backend failed", None, None, ""),
        (2, "good", "9.8.7", "succeeded", 0.25, 1200, "Done."),
    ]
    assert attempts[0]["log"] != attempts[1]["log"]
    told = [re.split(r" {2,}", line) for line in moderator(repository, "history", run_id).stdout.splitlines()[1:]]
    assert [[*row[:3], *row[4:8]] for row in told] == [
        ["TASK", "ATTEMPT", "OUTCOME", "BACKEND", "TOKENS IN", "OUT", "COST"],
        ["a", "1", "backend failed", "limited 9.8.7", "-", "-", "-"],
        ["a", "2", "succeeded", "good 9.8.7", "1,200", "34", "$0.250"],
    ]


PAID = """\
echo '{"type": "result", "is_error": true, "result": "rate limit", "total_cost_usd": 1.5, "usage": {"input_tokens": 7}}'
exit 1
"""


@pytest.mark.slow
def test_what_failed_attempts_took_counts_too(repository: Path, tmp_path: Path) -> None:
    """The sum of a run, and the table of variants, have what all attempts took, not only the last ones."""
    paid = {
        "argv": ["sh", "-c", PAID.replace("{", "{{").replace("}", "}}")],
        "parser": "claude-json",
        "retry": ["rate limit"],
    }
    configured(repository, {"paid": paid, "good": fake_backend("claude-json")}, default_backend=["paid", "good"])
    tasks = task_list(tmp_path / "tasks.yaml", {"id": "a", "prompt": "Do it", "variants": 2})
    done = moderator(repository, "run", tasks)
    assert "2 of 2 tasks succeeded, $3.50 by what the backends say" in done.stderr
    assert re.findall(r"a@\d .*(\$[\d.]+)$", done.stderr, re.MULTILINE) == ["$1.75", "$1.75"]
    shown = document(moderator(repository, "show", "a", "--json"))
    assert [one["cost_usd"] for one in shown["variants"]] == [1.75, 1.75]
    again = document(moderator(repository, "run", tasks, "--fresh", "--json"))
    assert (again["cost_usd"], again["tokens_in"], again["tokens_out"]) == (3.5, 2414, 68)


def test_who_takes_anothers_place_is_said_as_a_warning(repository: Path, tmp_path: Path) -> None:
    """Also before the run begins, when it is planned."""
    gone = {"argv": ["no-such-program-here"]}
    configured(repository, {"gone": gone, "good": fake_backend()}, default_backend=["gone", "good"])
    done = moderator(repository, "run", task_list(tmp_path / "tasks.yaml", {"id": "a", "prompt": "Do it"}))
    assert (
        "warning: backend gone cannot be used: 'no-such-program-here' is not on PATH; good takes its place"
        in done.stderr
    )


@pytest.mark.slow
def test_a_backend_that_was_mended_does_what_it_failed_at(repository: Path, tmp_path: Path) -> None:
    """A task whose backend failed is not finished: --resume says so, and runs it."""
    configured(repository, {"one": fake_backend("codex-jsonl", "need-login")}, default_backend="one")
    tasks = task_list(tmp_path / "tasks.yaml", {"id": "a", "prompt": "Do it"})
    assert moderator(repository, "run", tasks).returncode == 1
    configured(repository, {"one": fake_backend("codex-jsonl")}, default_backend="one")
    done = moderator(repository, "run", tasks, "--resume")
    assert (done.returncode, ": 0 of 1 task are done, 1 whose backend failed is tried again\n" in done.stderr) == (
        0,
        True,
    )
    assert [(one["attempt"], one["outcome"]) for one in attempts_of(repository)] == [
        (1, "backend failed"),
        (2, "succeeded"),
    ]


@pytest.mark.slow
def test_a_followed_log_goes_on_with_the_next_attempt(repository: Path, tmp_path: Path) -> None:
    """Also where it was begun while the first attempt was made: all that the task prints is there."""
    limited = fake_backend("codex-jsonl", "rate-limit", "--seconds", "2", "--counter", str(tmp_path / "count"))
    good = fake_backend("text", "edit", "--seconds", "1")
    configured(repository, {"limited": limited, "good": good}, default_backend=["limited", "good"])
    tasks = task_list(tmp_path / "tasks.yaml", {"id": "a", "prompt": "Do it"})
    with started(repository, "run", tasks, "--progress", "none") as run:
        wait_until(
            lambda: (repository / ".git/moderator/history.db").exists() and attempts_of(repository), "an attempt"
        )
        followed = moderator(repository, "logs", "-f", "a")
        run.communicate()
    assert followed.returncode == 0
    assert "429 rate limit reached" in followed.stdout
    assert followed.stdout.endswith("Done.\n")
    assert "note: attempt 2 with good" in followed.stderr


@pytest.mark.slow
def test_only_what_is_there_can_be_picked(repository: Path, tmp_path: Path) -> None:
    """A variant that never began, or of which nothing is left, is refused with those that are there; nothing is removed."""
    configured(repository, {"one": fake_backend()}, default_backend="one")
    tasks = task_list(tmp_path / "tasks.yaml", {"id": "v", "prompt": "Do it", "variants": 3})
    assert moderator(repository, "run", tasks).returncode == 0
    gone, kept = branch_of(repository, "v@3"), branch_of(repository, "v@1")
    assert moderator(repository, "clean", "v@3", "v@1").returncode == 0
    git(repository, "branch", "-D", gone)
    done = moderator(repository, "pick", "v@3")
    assert (done.returncode, "'v@3' has neither a workspace nor a branch" in done.stderr) == (2, True)
    assert "pick one of v@1, v@2" in done.stderr
    assert moderator(repository, "pick", "v@2").returncode == 0
    commit = git(repository, "rev-parse", kept)
    done = moderator(repository, "pick", "v@2", "--branches")
    assert (done.returncode, f"removed the branch {kept} of v@1" in done.stdout) == (0, True)
    assert git(repository, "for-each-ref", f"refs/heads/{kept}") == ""
    assert commit in git(repository, "rev-list", "--glob=refs/moderator/rescue/*").split()


def test_variants_are_told_side_by_side_and_one_is_picked(repository: Path, tmp_path: Path) -> None:
    """Each variant has a workspace of its own; `pick` keeps one and removes the others with nothing lost."""
    configured(
        repository,
        {
            "one": fake_backend("claude-json"),
            "two": fake_backend("codex-jsonl", "commit"),
            "bad": fake_backend("claude-json", "fail"),
        },
        default_backend="one",
    )
    tasks = task_list(
        tmp_path / "tasks.yaml",
        {"id": "best", "prompt": "Do it", "variants": ["one", "two", "bad"], "verify": "test -f later.txt"},
    )
    done = moderator(repository, "run", tasks)
    assert done.returncode == 1
    expected = [
        ["VARIANT", "BACKEND", "OUTCOME", "VERIFY", "CHANGED", "COST"],
        ["best@1", "one", "not verified", "failed", "-", "$0.250"],
        ["best@2", "two", "succeeded", "passed", "2 files +6 -0", "-"],
        ["best@3", "bad", "failed", "-", "-", "-"],
    ]

    def rows(text: str) -> list[list[str]]:
        found = [re.split(r" {2,}", line.strip()) for line in text.splitlines() if re.match(r" *(best@|VARIANT)", line)]
        return [row[:5] + row[6:] for row in found if len(row) == 7]

    assert rows(done.stderr) == rows(moderator(repository, "show", "best").stdout) == expected
    assert "keep one: " in done.stderr and "pick best@2" in done.stderr
    (tmp_path / "shop.moderator/tasks" / "none").mkdir()
    preview = moderator(repository, "pick", "best@2", "--dry-run")
    assert [line.split(";")[0] for line in preview.stdout.splitlines()] == [
        "would remove best@1", "would remove best@3", "would keep best@2 on its branch " + branch_of(repository, "best@2"),
    ]  # fmt: skip
    picked = document(moderator(repository, "pick", "best@2", "--json"))
    assert [(one["task_id"], one["removed"], bool(one["rescue"])) for one in picked["retired"]] == [
        ("best@1", True, True), ("best@3", True, True),
    ]  # fmt: skip
    left = document(moderator(repository, "list", "--json"))["workspaces"]
    assert [one["task_id"] for one in left] == ["best@2"]
    assert len(document(moderator(repository, "rescue", "list", "--json"))["rescues"]) == 2
    assert moderator(repository, "undo", "best@3").returncode == 0


def branch_of(repository: Path, task_id: str) -> str:
    found = document(moderator(repository, "list", "--json"))["workspaces"]
    return next(str(one["branch"]) for one in found if one["task_id"] == task_id)


@pytest.mark.slow
def test_pick_refuses_what_is_no_variant_and_frees_branches_when_asked(repository: Path, tmp_path: Path) -> None:
    """A name that is none is refused with those that are; --branches frees the others' branches, their commits rescued."""
    configured(repository, {"one": fake_backend()}, default_backend="one")
    tasks = task_list(
        tmp_path / "tasks.yaml", {"id": "v", "prompt": "Do it", "variants": 2}, {"id": "w", "prompt": "x"}
    )
    assert moderator(repository, "run", tasks).returncode == 0
    for name, hint in (("w", "moderator list"), ("v", "v@1, v@2"), ("nothing", "moderator list")):
        done = moderator(repository, "pick", name)
        assert (done.returncode, f"{name!r} is not one of several variants" in done.stderr, hint in done.stderr) == (
            2,
            True,
            True,
        )
    other = branch_of(repository, "v@1")
    commit = git(repository, "rev-parse", other)
    assert moderator(repository, "pick", "v@2", "--branches").returncode == 0
    assert git(repository, "for-each-ref", f"refs/heads/{other}") == ""
    assert commit in git(repository, "rev-list", "--glob=refs/moderator/rescue/*").split()


@pytest.mark.slow
def test_a_variant_in_use_keeps_all_of_them(repository: Path, tmp_path: Path) -> None:
    """One that a person locked refuses the whole pick; nothing is removed."""
    configured(repository, {"one": fake_backend()}, default_backend="one")
    tasks = task_list(tmp_path / "tasks.yaml", {"id": "v", "prompt": "Do it", "variants": 3})
    assert moderator(repository, "run", tasks).returncode == 0
    assert moderator(repository, "lock", "v@3", "--reason", "mine").returncode == 0
    assert moderator(repository, "pick", "v@1").returncode == 3
    assert len(document(moderator(repository, "list", "--json"))["workspaces"]) == 3


def test_a_dry_run_shows_who_would_do_what(repository: Path, tmp_path: Path) -> None:
    """With an agent among them, the plan has a column for who does each task."""
    configured(repository, {"one": fake_backend()}, default_backend="one")
    tasks = task_list(tmp_path / "tasks.yaml", {"id": "a", "prompt": "Do it\nwell"}, {"id": "b", "run": "make test"})
    lines = moderator(repository, "run", tasks, "--dry-run").stdout.splitlines()
    assert [re.split(r" {2,}", line.strip()) for line in lines[1:4]] == [
        ["TASK", "BRANCH", "BACKEND", "COMMAND OR PROMPT"],
        ["1", "a", "main-task-a", "one", "Do it well"],
        ["2", "b", "main-task-b", "shell", "make test"],
    ]
    plan = document(moderator(repository, "run", tasks, "--dry-run", "--json"))["plan"]
    assert [one["backend"] for one in plan["tasks"]] == ["one", "shell"]


@pytest.mark.slow
def test_a_run_killed_between_two_tries_is_continued(repository: Path, tmp_path: Path) -> None:
    """What was cut short before its second try is run by --resume, as a further attempt."""
    limited = fake_backend("codex-jsonl", "rate-limit", "--times", "9", "--counter", str(tmp_path / "count"))
    configured(repository, {"one": limited}, default_backend="one", max_attempts=20)
    tasks = task_list(tmp_path / "tasks.yaml", {"id": "a", "prompt": "Do it"})
    with started(repository, "run", tasks, "--progress", "plain") as run:
        wait_until(lambda: (tmp_path / "count-a").exists() and (tmp_path / "count-a").stat().st_size >= 1, "an attempt")
        wait_until(lambda: len(attempts_of(repository)) >= 2, "the record of the second attempt")
        run.kill()
        run.wait()
    configured(repository, {"one": fake_backend()}, default_backend="one")
    done = moderator(repository, "run", tasks, "--resume")
    assert done.returncode == 0, done.stderr
    found = attempts_of(repository)
    assert (found[-1]["outcome"], found[-1]["attempt"]) == ("succeeded", len(found))
    assert found[-2]["outcome"] == "cancelled"


def attempts_of(repository: Path) -> list[dict[str, Any]]:
    runs = document(moderator(repository, "history", "--json"))["runs"]
    if not runs:
        return []
    found: list[dict[str, Any]] = document(moderator(repository, "history", runs[0]["run_id"], "--json"))["attempts"]
    return found
