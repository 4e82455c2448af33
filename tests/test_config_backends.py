"""Backends as a configuration writes them: presets, extension, and everything that does not fit together."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from moderator.backends.parsers import parser_for
from moderator.config import config_from_mapping, load_config
from moderator.config.backends import shipped
from moderator.config.presets import PRESETS
from moderator.config.settings import KIND_RULES, PARSERS, BackendConfig
from moderator.errors import ConfigurationError


def backend(name: str, **entries: dict[str, Any]) -> BackendConfig:
    return config_from_mapping({"backends": entries}).backends[name]


def refusal(text: str, folder: Path) -> list[str]:
    """The complaints about a file with this text, without the name of its folder."""
    path = folder / "moderator.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        load_config([path])
    lines = str(caught.value).replace(f"{folder}/", "").splitlines()
    return [line.removeprefix("  - ") for line in (lines if len(lines) == 1 else lines[1:])]


def test_every_preset_is_a_valid_entry() -> None:
    """What is shipped is written like any configuration, and passes its checks under another name too."""
    for name, preset in PRESETS.items():
        entry = {key: value for key, value in preset.items() if key != "install"} or {"extends": "shell"}
        made = backend("mine", mine=entry)
        assert (made.argv, made.parser, made.prompt) == (
            shipped()[name].argv, shipped()[name].parser, shipped()[name].prompt,
        )  # fmt: skip
    assert {one.parser for one in shipped().values()} == set(PARSERS)
    assert all(parser_for(name) for name in PARSERS)


def test_a_preset_is_extended_in_a_line() -> None:
    """What an entry does not say is as in the one it extends; its extra arguments come where that one has a place for them."""
    reviewer = backend("reviewer", reviewer={"extends": "claude_code", "extra_args": ["--model", "opus"]})
    claude = shipped()["claude_code"]
    assert reviewer.words == (*claude.argv[:-1], "--model", "opus")
    assert (reviewer.parser, reviewer.probe, reviewer.retry) == (claude.parser, claude.probe, claude.retry)
    codex = backend("fast", fast={"extends": "codex", "extra_args": ["-m", "small"]})
    assert codex.words[-3:] == ("-m", "small", "-")


def test_extension_goes_over_several_entries_and_adds_up() -> None:
    """Variables and extra arguments of the whole chain count, the nearer ones last."""
    made = backend(
        "third",
        first={"argv": ["agent"], "env": {"A": "1", "B": "1"}, "extra_args": ["-a"], "limit": 3},
        second={"extends": "first", "env": {"B": "2"}, "extra_args": ["-b"]},
        third={"extends": "second", "extra_args": ["-c"]},
    )
    assert (made.words, dict(made.env), made.limit) == (("agent", "-a", "-b", "-c"), {"A": "1", "B": "2"}, 3)


def test_the_name_of_a_preset_changes_that_preset() -> None:
    """An entry of a preset's name, without a command line of its own, is that preset with what it says."""
    assert backend("codex", codex={"limit": 2}) == BackendConfig(**{**vars(shipped()["codex"]), "limit": 2})
    assert backend("shell", shell={"limit": 2}) == BackendConfig("shell", limit=2)
    assert backend("slow", slow={"extends": "shell", "limit": 1}).is_shell


def test_a_later_file_changes_an_entry_key_by_key(tmp_path: Path) -> None:
    """Backends of several files are merged like everything else."""
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("backends: {mine: {argv: [agent, a], limit: 2}}\n")
    second.write_text("backends: {mine: {argv: [agent, b]}, other: {extends: mine}}\n")
    config = load_config([first, second])
    assert config.backends["mine"] == BackendConfig("mine", ("agent", "b"), limit=2)
    assert config.backends["other"].argv == ("agent", "b")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "gear3: {backend_routing: {rules: {testing: codx}}}",
            "1:44: rules.testing: no backend is called 'codx'; did you mean 'codex'?",
        ),
        (
            "gear3: {backend_routing: {default_backend: [shell, reviewr]}}\nbackends: {reviewer: {extends: codex}}",
            "1:44: default_backend: no backend is called 'reviewr'; did you mean 'reviewer'?",
        ),
        (
            "backends: {a: {extends: b}, b: {extends: c}, c: {extends: a}}",
            "1:25: backends.a: backends extend each other in a circle: a extends b extends c extends a; "
            "let one of them have an argv of its own",
        ),
        (
            "backends: {a: {extends: claud_code}}",
            "1:25: backends.a: no backend is called 'claud_code'; did you mean 'claude_code'?",
        ),
        (
            "backends: {a: {argv: [x, '{workspce}']}}",
            "1:22: backends.a: no placeholder is called 'workspce'; did you mean 'workspace'?",
        ),
        (
            "backends: {a: {argv: [x, '{']}}",
            "1:22: backends.a: a '{' stands alone; write '{{' for the character itself",
        ),
        (
            "backends: {a: {argv: [x], env: {B: '{nothing}'}}}",
            "1:36: backends.a: no placeholder is called 'nothing'; known here: 'prompt', 'prompt_file', 'workspace', "
            "'branch', 'base', 'state_dir', 'task_id'",
        ),
        (
            "backends: {a: {argv: [x], prompt: argument}}",
            "1:35: backends.a: prompt: argument needs '{prompt}' as a word of argv",
        ),
        (
            "backends: {a: {argv: [x], prompt: file}}",
            "1:35: backends.a: prompt: file needs '{prompt_file}' as a word of argv",
        ),
        (
            "backends: {a: {argv: [x, '{prompt}']}}",
            "1:22: backends.a: '{prompt}' stands in the command line, but the prompt goes in by stdin; write prompt: argument",
        ),
        (
            "backends: {a: {extends: codex, parser: claude-json}}",
            "1:40: backends.a: parser claude-json does not fit: what 'codex' executes prints codex-jsonl; "
            "leave parser out, or give an argv of its own too",
        ),
        (
            "backends: {a: {argv: [x], parser: claude}}",
            "1:35: parser must be one of 'text', 'claude-json', 'codex-jsonl', 'gemini-json', 'copilot-jsonl', "
            "'opencode-json', 'goose-json', not the text 'claude'; did you mean 'claude-json'?",
        ),
        ("backends: {a: {argv: [x], limit: 0}}", "1:34: limit must be 1 or more (null: any number), not 0"),
        ("backends: {a: {argv: []}}", "1:22: argv must be a list that begins with a program, not a list"),
        ("backends: {a: {argv: [x, 3]}}", "1:26: word 2 of argv must be text, not 3; put it in quotes"),
        ("backends: {a: {argv: x}}", "1:22: argv must be a list, not the text 'x'"),
        (
            "backends: {a: {limit: 2}}",
            "1:15: backends.a: there is no argv: say what to execute, such as [my-agent, --dir, '{workspace}'], "
            "or which backend it extends",
        ),
        (
            "backends: {a: {extends: shell, parser: text}}",
            "1:40: backends.a: the shell executes a task's own command and has no parser; leave it out, or give an argv",
        ),
        (
            "backends: {a: {argv: [sh, -c, 'agent {prompt}'], prompt: argument}}",
            "1:22: backends.a: a shell would read what is filled in as a part of its program; pass it behind that instead: "
            """[sh, -c, 'my-agent "$1"', sh, '{prompt}']""",
        ),
        (
            "backends: {a: {argv: [x], retry: ['(']}}",
            "1:35: word 1 of retry must be a regular expression (missing ), unterminated "
            "subpattern at position 0), not the text '('",
        ),
        ("backends: {a: {argvs: [x]}}", "1:16: unknown key 'argvs' in 'backends.a'; did you mean 'argv'?"),
        (
            "backends: {a: {argv: [x], template: '{promt}'}}",
            "1:37: template must be a template (no placeholder is called 'promt'; "
            "did you mean 'prompt'?), not the text '{promt}'",
        ),
        (
            "prompt_template: Do it",
            "1:18: prompt_template must be a template (the template never says what to do; write "
            "'{prompt}' where that belongs), not the text 'Do it'",
        ),
        (
            "backends: {a: {argv: [x], env: {MODERATOR_RUN: x}}}",
            "1:32: env must be a mapping of variables ('MODERATOR_RUN' cannot be set), not a mapping",
        ),
        (
            "gear3: {backend_routing: {kinds: [{kind: a, words: [x]}]}}",
            "1:34: kinds must be a list whose last rule has no words, for the "
            "tasks that none of them stands in: {kind: general}, not a list",
        ),
        (
            "gear3: {backend_routing: {kinds: [{kind: a}, {kind: b}]}}",
            "1:34: kinds must be a list in which only the last rule has no words, and 'a' has none, not a list",
        ),
        (
            "gear3: {backend_routing: {kinds: [{word: [x]}]}}",
            [
                "1:35: gear3.backend_routing.kinds.0 has no 'kind'",
                "1:36: unknown key 'word' in 'gear3.backend_routing.kinds.0'; did you mean 'words'?",
            ],
        ),
        ("gear3: {backend_routing: {max_attempts: 0}}", "1:41: max_attempts must be between 1 and 20, not 0"),
    ],
)
def test_what_does_not_fit_is_told_with_its_place(text: str, complaint: str | list[str], tmp_path: Path) -> None:
    """Each mistake names the file, line and column, and says what to write instead."""
    expected = [complaint] if isinstance(complaint, str) else complaint
    assert refusal(text, tmp_path) == [f"moderator.yaml:{one}" for one in expected]


@pytest.mark.parametrize(
    "words",
    [
        ["sh", "-c", "agent {prompt}"],
        ["bash", "-cx", "agent {prompt}"],
        ["bash", "-xc", "agent {workspace}"],
        ["bash", "-c", "-x", "agent {prompt}"],
        ["bash", "-c", "-o", "pipefail", "agent {prompt}"],
        ["bash", "-o", "pipefail", "-c", "agent {prompt}"],
        ["bash", "+O", "extglob", "-c", "agent {prompt}"],
        ["bash", "--rcfile", "rc", "-c", "agent {prompt}"],
        ["bash", "-c", "--", "agent {prompt}"],
        ["/usr/bin/bash-5.2", "-c", "agent {prompt}"],
        ["fish", "--command=agent {prompt}"],
        ["fish", "-cagent {prompt}"],
        ["fish", "--command", "agent {prompt}"],
        ["pwsh", "-NoProfile", "-Command", "agent {prompt}"],
        ["env", "bash", "-c", "agent {prompt}"],
        ["env", "A=b", "bash", "-c", "agent {prompt}"],
        ["env", "-S", "bash -c {prompt}"],
        ["env", "-vSbash -c {prompt}"],
        ["timeout", "60", "sh", "-c", "agent {prompt}"],
        ["nice", "-n", "5", "sh", "-c", "agent {prompt}"],
        ["agent", "--through", "sh", "-c", "agent {prompt}"],
        ["sh", "-c", 'exec "$@"', "sh", "bash", "-c", "{prompt}"],
        ["sh", "{prompt}"],
    ],
    ids=" ".join,
)
def test_no_shell_reads_words_of_a_task_as_its_program(words: list[str], tmp_path: Path) -> None:
    """Wherever a command line calls a shell, what that takes for its program holds no placeholder."""
    told = "a shell would read what is filled in as a part of its program"
    entry = {"argv": [*words, "{prompt}"] if "{prompt}" not in " ".join(words) else words, "prompt": "argument"}
    (complaint,) = refusal(json.dumps({"backends": {"a": entry}}), tmp_path)
    assert told in complaint


@pytest.mark.parametrize(
    "entry",
    [
        {"argv": ["sh"]},
        {"argv": ["bash", "-s", "x"]},
        {"argv": ["env", "A=b", "bash", "-x"]},
        {"argv": ["sh", "{prompt_file}"], "prompt": "file"},
    ],
    ids=str,
)
def test_a_prompt_is_no_program(entry: dict[str, Any], tmp_path: Path) -> None:
    """Nor does a shell get a prompt as its standard input, or in the file that it executes."""
    (complaint,) = refusal(json.dumps({"backends": {"a": entry}}), tmp_path)
    assert "a shell would read what is filled in as a part of its program" in complaint


@pytest.mark.parametrize(
    ("parent", "child"),
    [
        (["env", "{extra_args}", "{prompt}"], ["sh", "-c"]),
        (["env", "{extra_args}", "agent {prompt}"], ["timeout", "60", "bash", "-c"]),
    ],
)
def test_an_extension_makes_no_program_of_a_prompt(parent: list[str], child: list[str], tmp_path: Path) -> None:
    """What counts is the command line as it is put together."""
    entries = {"a": {"argv": parent, "prompt": "argument"}, "b": {"extends": "a", "extra_args": child}}
    (complaint,) = refusal(json.dumps({"backends": entries}), tmp_path)
    assert "backends.b: a shell would read what is filled in" in complaint


@pytest.mark.parametrize(
    "words",
    [
        ["sh", "-c", 'agent "$1"', "sh", "{prompt}"],
        ["bash", "-euo", "pipefail", "-c", 'agent "$1"', "bash", "{prompt}"],
        ["env", "A=b", "sh", "-c", 'agent "$1"', "sh", "{prompt}"],
        ["sh", "{workspace}/agent.sh", "{prompt}"],
        ["agent", "--shell", "bash", "{prompt}"],
        ["{workspace}/tools/agent", "{prompt}"],
        ["{state_dir}/agent", "{prompt}"],
    ],
    ids=" ".join,
)
def test_a_shell_may_have_a_prompt_among_its_arguments(words: list[str]) -> None:
    """Behind its program words are only words."""
    assert backend("a", a={"argv": words, "prompt": "argument"}).words == tuple(words)


@pytest.mark.parametrize("program", ["{prompt}", "{task_id}", "bin/{branch}", "{branch}/agent", "{workspace}"])
def test_no_word_of_a_task_is_the_program(program: str, tmp_path: Path) -> None:
    """What is executed is named by the configuration; only where it is may be the task's own place."""
    entry = {"argv": [program, "{prompt}"], "prompt": "argument"}
    (complaint,) = refusal(json.dumps({"backends": {"a": entry}}), tmp_path)
    assert f"the program to execute must be named outright, not by '{program}'" in complaint


@pytest.mark.parametrize(
    ("entry", "place"), [({"argv": ["agent"]}, "1:33"), ({"extends": "codex"}, "1:36")], ids=["argv", "extends"]
)
def test_the_name_shell_is_the_shells(entry: dict[str, Any], place: str, tmp_path: Path) -> None:
    """Commands of tasks go by that name, and an agent would get them."""
    (complaint,) = refusal(json.dumps({"backends": {"shell": entry}}), tmp_path)
    assert complaint.startswith(f"moderator.yaml:{place}: backends.shell: shell is the name of what executes")


def test_a_prompt_goes_in_one_way(tmp_path: Path) -> None:
    """As an argument and in a file at once it cannot; and a backend that has no name cannot be named."""
    entry = {"argv": ["x", "{prompt}", "{prompt_file}"], "prompt": "argument"}
    (complaint,) = refusal(json.dumps({"backends": {"a": entry}}), tmp_path)
    assert complaint.endswith(
        "'{prompt_file}' stands beside '{prompt}', but a prompt goes in one way; leave one of them out"
    )
    (complaint,) = refusal(json.dumps({"backends": {" ": {"argv": ["x"]}}}), tmp_path)
    assert complaint.endswith("a backend has no name; give it one, for rules and tasks to name it by")


def test_a_chain_of_extensions_may_have_any_length() -> None:
    """What the last of fifteen hundred takes from the first is found, and no depth of calls is needed for it."""
    chain = {f"b{n}": {"extends": f"b{n - 1}"} | ({} if n % 500 else {"extra_args": [str(n)]}) for n in range(1, 1501)}
    last = backend("b1500", **{**dict(reversed(chain.items())), "b0": {"argv": ["agent"]}})
    assert last.words == ("agent", "500", "1000", "1500")


@pytest.mark.parametrize(
    "text",
    [
        "backends: {a: {argv: [x], 3: 4, limit: 0}, b: {extends: codx}}",
        "backends: {3: {argv: [x]}, a: {argvs: 3}, b: {extends: codx}}",
        "gear3: {backend_routing: {kinds: [{kind: a, words: [1]}, {kind: 3, wrds: []}]}}\nbackends: {b: {extends: codx}}",
    ],
)
def test_what_cannot_be_read_hides_nothing_of_the_rest(text: str, tmp_path: Path) -> None:
    """Whatever has to be left out, what is wrong elsewhere is told with it."""
    complaints = refusal(text, tmp_path)
    assert len(complaints) > 1
    assert any("backends.b: no backend is called 'codx'" in complaint for complaint in complaints), complaints


def test_everything_is_told_at_once(tmp_path: Path) -> None:
    """One look finds what is wrong in a key, between keys, between entries and in the table; what follows from it is not told."""
    text = """\
gear3: {backend_routing: {enabled: true, rules: {testing: [codx, broken]}}}
backends:
  a: {extends: b}
  b: {extends: a}
  broken: {argv: 3, prompt: file}
  c: {argv: [sh, -c, "x {prompt}"], prompt: argument, limit: 0}
  child: {extends: broken}
  d: {argv: [x, "{base}", "{bas}"]}
"""
    assert [line.partition(": ")[0] for line in refusal(text, tmp_path)] == [
        f"moderator.yaml:{place}" for place in ("1:59", "3:16", "5:18", "6:13", "6:62", "8:13")
    ]


def test_a_fault_between_files_is_told_where_the_last_word_was(tmp_path: Path) -> None:
    """A rule and the backend it names may stand in two files; the complaint is about the one that says the name."""
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("backends: {mine: {argv: [agent]}}\n")
    second.write_text("\ngear3: {backend_routing: {default_backend: mine, rules: {docs: yours}}}\n")
    with pytest.raises(ConfigurationError) as refused:
        load_config([first, second])
    assert str(refused.value).startswith(f"{second}:2:64: rules.docs: no backend is called 'yours'")


def test_the_last_rule_takes_every_task() -> None:
    """The shipped rules end with one that has no words, and none before it is without."""
    *others, (kind, words) = KIND_RULES
    assert (kind, words) == ("general", ())
    assert all(words for _, words in others)
    assert [kind for kind, _ in KIND_RULES] == ["prototyping", "refactoring", "testing", "documentation", "general"]


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "shell"])
def test_a_preset_asks_the_program_that_it_executes(name: str) -> None:
    """The program that is probed is the one that would do the work, and there is a word on how to get most of them."""
    made = shipped()[name]
    assert made.probe[0] == made.argv[0]
    assert made.idle_timeout is not None
    assert shutil.which(made.argv[0], path="/nowhere") is None
