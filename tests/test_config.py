"""Settings, from files and dictionaries."""

from __future__ import annotations

import math
import pickle
import re
import subprocess
import sys
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from moderator.config import BackendRoutingConfig, Config, ParallelConfig, config_from_mapping, load_config
from moderator.config.presets import PRESETS
from moderator.config.schema import _Backend, every_key
from moderator.config.settings import BackendConfig
from moderator.context import IsolationLevel
from moderator.errors import ConfigurationError
from moderator.furnishing import Carry, Render

DOCUMENTED = Path(__file__).parent.parent / "config" / "config.yaml"


def refusal(text: str, folder: Path) -> list[str]:
    """The lines of the error that a file with this text leads to, without the name of its folder."""
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        load_config([path])
    assert caught.value.hint == ""
    return str(caught.value).replace(f"{folder}/", "").splitlines()


def keys_of(section: Mapping[str, Any], prefix: str = "") -> set[str]:
    keys = set()
    for key, value in section.items():
        keys |= keys_of(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {prefix + key}
    return keys


def test_the_documented_file_says_what_holds_anyway() -> None:
    """Loading config/config.yaml changes nothing: every default in it is the default."""
    assert load_config([DOCUMENTED]) == Config() == load_config([])


def test_the_documented_file_has_every_key_and_a_comment_for_each() -> None:
    """No key can be added without a word about it; sections explain themselves."""
    lines = DOCUMENTED.read_text("utf-8").splitlines()
    assert keys_of(yaml.safe_load("\n".join(lines))) == set(every_key())
    bare = [
        line
        for before, line in pairwise(lines)
        if re.match(r" *[a-z_0-9]+:.", line) and "#" not in line and not before.strip().startswith("#")
    ]
    assert bare == []


def test_every_key_can_be_set(tmp_path: Path) -> None:
    """Each key of the file ends up in its field."""
    path = tmp_path / "config.yaml"
    path.write_text("""
gear3:
  parallel: {enabled: false, max_workers: 32, timeout: 1.5, isolation_level: Branch, idle_timeout: 60}
  backend_routing:
    {enabled: true, default_backend: [mine, shell], rules: {docs: aider, 12:30: [mine, codex]}, max_attempts: 5,
     kinds: [{kind: a, words: [b c, d*]}, {kind: e}]}
root: ~/workspaces
keep: Failed
commit: {hooks: true, sign: true}
grace: 0
rescue: {largest_file: 0.5}
trash: {days: 0}
clean: {max_workspaces: 0, max_size: 2000}
sandbox: Bwrap
pool: {size: Auto, refill: never, days: 1, max_size: 5000}
recycle: Pristine
carry: [.env, {path: data/*, by: Link}]
render: [.env.example, {from: a, to: b}, {from: c.tpl, to: }]
submodules: true
smudge: Skip
setup: [npm ci, [make, -j, "4"]]
verify: [make, test]
teardown: docker compose down
setup_timeout: 30
env: {HOME: "{tmp}", B: "{{"}
ports: {range: 2000 - 2999, count: 3}
prompt_template: "Do {prompt}"
backends: {mine: {argv: [no, "{prompt}"], prompt: argument}}
""")
    assert load_config([path]) == Config(
        parallel=ParallelConfig(False, 32, 1.5, IsolationLevel.BRANCH, 60),
        backend_routing=BackendRoutingConfig(
            True, ("mine", "shell"), {"docs": "aider", "12:30": ("mine", "codex")}, (("a", ("b c", "d*")), ("e", ())), 5
        ),
        root="~/workspaces",
        keep="failed",
        commit_hooks=True,
        commit_sign=True,
        grace=0,
        rescue_largest_file=0.5,
        trash_days=0,
        clean_max_workspaces=0,
        clean_max_size=2000,
        sandbox="bwrap",
        pool_size="auto",
        pool_refill="never",
        pool_days=1,
        pool_max_size=5000,
        recycle="pristine",
        carry=(Carry(".env"), Carry("data/*", "link")),
        render=(Render(".env.example", ".env"), Render("a", "b"), Render("c.tpl", "c")),
        submodules=True,
        smudge="skip",
        setup=("npm ci", ("make", "-j", "4")),
        verify=("make", "test"),
        teardown=("docker compose down",),
        setup_timeout=30,
        env={"HOME": "{tmp}", "B": "{{"},
        ports_range=(2000, 2999),
        ports_count=3,
        prompt_template="Do {prompt}",
        backends={"mine": BackendConfig("mine", ("no", "{prompt}"), prompt="argument")},
    )


def test_a_later_file_wins_key_by_key(tmp_path: Path) -> None:
    """What a later file does not mention stays as the earlier file says, in sections and in rules; null is a value."""
    first, second, empty = tmp_path / "first.yaml", tmp_path / "second.yaml", tmp_path / "empty.yaml"
    first.write_text(
        "gear3: {parallel: {max_workers: 2, timeout: 5}, backend_routing: {rules: {a: aider, b: aider}}}\n"
        "root: /somewhere\nkeep: never\n"
    )
    second.write_text(
        "gear3: {parallel: {max_workers: 8}, backend_routing: {rules: {b: goose}}}\nroot: null\ncommit: {sign: true}\n"
    )
    empty.write_text("# nothing yet\n")
    assert load_config([first, second, empty]) == Config(
        parallel=ParallelConfig(max_workers=8, timeout=5),
        backend_routing=BackendRoutingConfig(rules={"a": "aider", "b": "goose"}),
        keep="never",
        commit_sign=True,
    )


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "---\n", "gear3:\n", "gear3:\n  parallel:\n    # timeout: 3\n", "commit:\n", "{}"]
)
def test_an_empty_file_or_section_sets_nothing(text: str, tmp_path: Path) -> None:
    """A section whose lines are all commented out is no mistake."""
    path = tmp_path / "config.yaml"
    path.write_text(text)
    assert load_config([path]) == Config()


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("max_workers: 64", "18: max_workers must be between 1 and 32, not 64"),
        ("max_workers: 0", "18: max_workers must be between 1 and 32, not 0"),
        ("max_workers: true", "18: max_workers must be a whole number, not true"),
        ("max_workers: 4.0", "18: max_workers must be a whole number, not 4.0"),
        ("max_workers: '4'", "18: max_workers must be a whole number, not the text '4'; write it without quotes"),
        (
            "max_workers: 010",
            "18: max_workers must be a whole number, not the text '010'; a number does not begin with 0",
        ),
        ("max_workers: many", "18: max_workers must be a whole number, not the text 'many'"),
        ("max_workers:", "17: max_workers has no value; it must be a whole number"),
        ("max_workers: [4]", "18: max_workers must be a whole number, not a list"),
        ("max_worker: 4", "5: unknown key 'max_worker' in 'gear3.parallel'; did you mean 'max_workers'?"),
        (
            "colour: red",
            "5: unknown key 'colour' in 'gear3.parallel'; known here: 'enabled', 'max_workers', 'timeout', "
            "'isolation_level', 'idle_timeout'",
        ),
        ("timeout: -1", "14: timeout must be positive, not -1"),
        ("timeout: 0", "14: timeout must be positive, not 0"),
        ("timeout: 12:30", "14: timeout must be a number of seconds, not the text '12:30'"),
        ("timeout: .nan", "14: timeout must be a finite number, not nan"),
        ("timeout: .inf", "14: timeout must be a finite number, not inf"),
        ("timeout: true", "14: timeout must be a number of seconds, not true"),
        ("idle_timeout: -0.5", "19: idle_timeout must be positive, not -0.5"),
        ("enabled: yes", "14: enabled must be true or false, not the text 'yes'; write true"),
        ("enabled: Off", "14: enabled must be true or false, not the text 'Off'; write false"),
        ('enabled: "true"', "14: enabled must be true or false, not the text 'true'; write true without quotes"),
        ("enabled: 1", "14: enabled must be true or false, not 1"),
        (
            "isolation_level: ful",
            "22: isolation_level must be one of 'none', 'directory', 'branch', 'full', not the text 'ful'; "
            "did you mean 'full'?",
        ),
        (
            "isolation_level: null",
            "22: isolation_level has no value; it must be one of 'none', 'directory', 'branch', 'full'",
        ),
    ],
)
def test_each_fault_has_its_place_and_a_way_out(line: str, complaint: str, tmp_path: Path) -> None:
    """A complaint is a sentence with file, line and column, about what was found and what to write instead."""
    text = f"gear3:\n  parallel:\n    {line}\n"
    assert refusal(text, tmp_path) == [f"config.yaml:3:{complaint}"]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("grace: -1", "8: grace must be 0 or more, not -1"),
        ("root: 12", "7: root must be text, not 12; put it in quotes"),
        ("root: ''", "7: root is empty; it must be text"),
        ("keep: sometimes", "7: keep must be one of 'always', 'failed', 'never', not the text 'sometimes'"),
        ("keep: true", "7: keep must be one of 'always', 'failed', 'never', not true"),
        ("commit: yes", "9: commit must be a mapping of keys to values, not the text 'yes'"),
        ("commit: {hook: true}", "10: unknown key 'hook' in 'commit'; did you mean 'hooks'?"),
        ("rescue: {largest_file: 0}", "24: largest_file must be positive, not 0"),
        ("rescue: {largest_file: .inf}", "24: largest_file must be a finite number, not inf"),
        ("rescue: {largest_file: 1 GB}", "24: largest_file must be a number of megabytes, not the text '1 GB'"),
        (
            "rescue: {largest_file: '9'}",
            "24: largest_file must be a number of megabytes, not the text '9'; write it without quotes",
        ),
        ("rescue: {largest_file: null}", "24: largest_file has no value; it must be a number of megabytes"),
        ("rescue: {largest_file: true}", "24: largest_file must be a number of megabytes, not true"),
        ("rescue: {largest: 3}", "10: unknown key 'largest' in 'rescue'; did you mean 'largest_file'?"),
        ("trash: {days: -1}", "15: days must be 0 or more, not -1"),
        ("trash: {days: .nan}", "15: days must be a finite number, not nan"),
        ("trash: {days: a month}", "15: days must be a number of days, not the text 'a month'"),
        ("trash: 30", "8: trash must be a mapping of keys to values, not 30"),
        ("clean: {max_workspaces: -1}", "25: max_workspaces must be 0 or more, not -1"),
        ("clean: {max_workspaces: 2.5}", "25: max_workspaces must be a whole number, not 2.5"),
        ("clean: {max_size: 0}", "19: max_size must be positive, not 0"),
        ("clean: {max_size: all}", "19: max_size must be a number of megabytes, not the text 'all'"),
        (
            "clean: {max_space: 1}",
            "9: unknown key 'max_space' in 'clean'; did you mean 'max_workspaces'?",
        ),
        (
            "sandbox: bubblewrap",
            "10: sandbox must be one of 'none', 'bwrap', not the text 'bubblewrap'; did you mean 'bwrap'?",
        ),
        ("sandbox: true", "10: sandbox must be one of 'none', 'bwrap', not true"),
        ("sandbox:", "9: sandbox has no value; it must be one of 'none', 'bwrap'"),
        ("carry: .env", "8: carry must be a list, not the text '.env'"),
        ("carry: [/etc]", "9: item 1 of carry must be relative to the top of the repository, not the text '/etc'"),
        (
            "carry: [a, 5]",
            "12: item 2 of carry must be a path, or {path: PATH, by: copy|clone|link}, not 5; put it in quotes",
        ),
        (
            "carry: [{path: ../a}]",
            "16: item 1 of carry must be a path inside the repository, without '..', not the text '../a'",
        ),
        ("carry: [{by: link}]", "9: item 1 of carry has no 'path'"),
        ("carry: [{path: a, bye: b}]", "19: unknown key 'bye' in 'item 1 of carry'; did you mean 'by'?"),
        (
            "render: [a.tpl, {from: a}]",
            "17: item 2 of render: 'a' cannot be rendered: the name does not end in one of .template, .example, "
            ".sample, .dist, .tmpl, .tpl; write {from: a, to: PATH}",
        ),
        ("render: [{to: a}]", "10: item 1 of render has no 'from'"),
        ("render: [{from: a, too: b}]", "20: unknown key 'too' in 'item 1 of render'; did you mean 'to'?"),
        ("carry: [{path: a, by: hard}]", "23: by must be one of 'clone', 'copy', 'link', not the text 'hard'"),
        ("submodules: yes", "13: submodules must be true or false, not the text 'yes'; write true"),
        ("smudge: never", "9: smudge must be one of 'run', 'skip', not the text 'never'"),
        ("gear3: [parallel]", "8: gear3 must be a mapping of keys to values, not a list"),
        (
            "gear3: {backend_routing: {rules: {docs: 1}}}",
            "41: rules.docs must be the name of a backend, or a list of names, not 1; put it in quotes",
        ),
        ("gear3: {backend_routing: {rules: x}}", "34: rules must be a mapping of keys to values, not the text 'x'"),
        ("gear: 3", "1: unknown key 'gear'; did you mean 'gear3'?"),
        (
            "- keep",
            "1: a configuration must be a mapping of keys to values, not a list; write for example 'keep: failed'",
        ),
        (
            "keep",
            "1: a configuration must be a mapping of keys to values, not the text 'keep'; write for example 'keep: failed'",
        ),
        ("keep: 'x", "7: a quote opens here and is never closed; close it"),
        ('root: "a\\0b"', "7: a NUL character stands in this text; take it out"),
    ],
)
def test_faults_at_the_top_have_their_place_too(line: str, complaint: str, tmp_path: Path) -> None:
    """The rest of the file is held to the same."""
    assert refusal(line, tmp_path) == [f"config.yaml:1:{complaint}"]


def test_all_faults_of_all_files_come_at_once(tmp_path: Path) -> None:
    """Files are complained about in their order, faults in the order of lines; a missing file is one of them."""
    first, missing, second = tmp_path / "first.yaml", tmp_path / "missing.yaml", tmp_path / "second.yaml"
    first.write_text("keep: maybe\nkeep: always\ngear3:\n  parallel:\n    timeout: -1\n    max_workers: 99\nroot: 3\n")
    second.write_text("keep: 'x")
    with pytest.raises(ConfigurationError) as caught:
        load_config([first, missing, second])
    assert str(caught.value).replace(f"{tmp_path}/", "") == (
        "7 things are wrong with the configuration:\n"
        "  - first.yaml:1:7: keep must be one of 'always', 'failed', 'never', not the text 'maybe'\n"
        "  - first.yaml:2:1: the key 'keep' is given twice, first in line 1; keep one\n"
        "  - first.yaml:5:14: timeout must be positive, not -1\n"
        "  - first.yaml:6:18: max_workers must be between 1 and 32, not 99\n"
        "  - first.yaml:7:7: root must be text, not 3; put it in quotes\n"
        "  - missing.yaml: there is no such file; check the path\n"
        "  - second.yaml:1:7: a quote opens here and is never closed; close it"
    )


def test_a_dictionary_is_read_like_a_file() -> None:
    """A library user's dictionary has the same keys; enums, paths and other kinds of mappings will do."""
    from types import MappingProxyType

    data = {
        "gear3": MappingProxyType({"parallel": {"isolation_level": IsolationLevel.DIRECTORY, "max_workers": 1}}),
        "root": Path("/tmp/workspaces"),
        "commit": None,
    }
    assert config_from_mapping(data) == Config(
        parallel=ParallelConfig(max_workers=1, isolation_level=IsolationLevel.DIRECTORY), root="/tmp/workspaces"
    )
    assert config_from_mapping({}) == Config()


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ({"gear3": {"parallel": {"max_workers": 64}}}, "gear3.parallel.max_workers must be between 1 and 32, not 64"),
        ({"gear3": {"parallel": {"timeout": math.nan}}}, "gear3.parallel.timeout must be a finite number, not nan"),
        (
            {"gear3": {"parallel": {"timeout": 10**400}}},
            f"gear3.parallel.timeout must be a number of seconds, not 1{'0' * 56}...",
        ),
        (
            {"clean": {"max_size": 10**400}},
            f"clean.max_size must be a number of megabytes, not 1{'0' * 56}...",
        ),
        ({"gear3": {"paralel": {}}}, "unknown key 'paralel' in 'gear3'; did you mean 'parallel'?"),
        ({3: 4}, "a key must be text, not 3; put it in quotes"),
        ({"gear3": {"backend_routing": {"rules": {3: "x"}}}}, "a key must be text, not 3; put it in quotes"),
        ({"keep": object()}, "keep must be one of 'always', 'failed', 'never', not a value of type object"),
        ({"root": "a\0b"}, r"root must be text without NUL, not the text 'a\x00b'"),
        ([], "a configuration must be a mapping of keys to values, not list"),
    ],
)
def test_a_fault_in_a_dictionary_is_named_by_its_whole_key(data: Any, complaint: str) -> None:
    """Where there are no lines, the key says where it is."""
    with pytest.raises(ConfigurationError) as caught:
        config_from_mapping(data, source="settings")
    assert str(caught.value) == f"settings: {complaint}"


def test_settings_travel_and_cannot_be_changed() -> None:
    """A Config pickles, compares, and is frozen."""
    config = config_from_mapping({"gear3": {"backend_routing": {"rules": {"a": "codex"}}}})
    assert pickle.loads(pickle.dumps(config)) == config != Config()
    assert hash(config) == hash(pickle.loads(pickle.dumps(config)))
    with pytest.raises(AttributeError):
        config.root = "elsewhere"  # type: ignore[misc]


def test_importing_costs_neither_yaml_nor_pydantic() -> None:
    """Only something to check brings them in; an empty file needs no pydantic, since every command reads settings."""
    program = (
        "import sys, moderator.config\n"
        "print('yaml' in sys.modules, 'pydantic' in sys.modules)\n"
        "from pathlib import Path\n"
        "moderator.config.load_config([Path('/dev/null')]); moderator.config.config_from_mapping({})\n"
        "print('pydantic' in sys.modules)\n"
        "moderator.config.config_from_mapping({'keep': 'never'})\n"
        "print('pydantic' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["False False", "False", "True"]


SECONDS = st.floats(min_value=0.001, max_value=1e9) | st.integers(1, 10**9)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(str.strip)
SHIPPED = st.sampled_from(sorted(PRESETS))
ROWS = SHIPPED | st.lists(SHIPPED, min_size=1, max_size=3, unique=True).map(tuple)
CONFIGS = st.builds(
    Config,
    parallel=st.builds(
        ParallelConfig,
        enabled=st.booleans(),
        max_workers=st.integers(1, 32),
        timeout=SECONDS,
        isolation_level=st.sampled_from(IsolationLevel),
        idle_timeout=st.none() | SECONDS,
    ),
    backend_routing=st.builds(
        BackendRoutingConfig,
        enabled=st.booleans(),
        default_backend=ROWS,
        rules=st.dictionaries(TEXTS, ROWS, max_size=3),
        max_attempts=st.integers(1, 20),
    ),
    root=st.none() | TEXTS,
    keep=st.sampled_from(["always", "failed", "never"]),
    commit_hooks=st.booleans(),
    commit_sign=st.booleans(),
    grace=st.floats(min_value=0, max_value=1e6),
    rescue_largest_file=SECONDS,
    trash_days=st.floats(min_value=0, max_value=36500) | st.integers(0, 36500),
    clean_max_workspaces=st.none() | st.integers(0, 10**9),
    clean_max_size=st.none() | SECONDS,
    sandbox=st.sampled_from(["none", "bwrap"]),
    pool_size=st.integers(0, 100) | st.just("auto"),
    pool_refill=st.sampled_from(["background", "never"]),
    pool_days=st.integers(0, 36500),
    pool_max_size=st.none() | SECONDS,
    recycle=st.sampled_from(["none", "pristine", "keep_ignored"]),
    prompt_template=st.just("{prompt}")
    | TEXTS.filter(lambda text: not {"{", "}"} & set(text)).map("{{prompt}} {}".format),
    backends=st.just({}),
)


@given(CONFIGS)
def test_what_is_written_down_comes_back(tmp_path_factory: pytest.TempPathFactory, config: Config) -> None:
    """Any valid settings, written as YAML or given as a dictionary, are those settings again."""
    data = {
        "gear3": {
            "parallel": {
                "enabled": config.parallel.enabled,
                "max_workers": config.parallel.max_workers,
                "timeout": config.parallel.timeout,
                "isolation_level": config.parallel.isolation_level.value,
                "idle_timeout": config.parallel.idle_timeout,
            },
            "backend_routing": {
                "enabled": config.backend_routing.enabled,
                "default_backend": _row(config.backend_routing.default_backend),
                "rules": {kind: _row(row) for kind, row in config.backend_routing.rules.items()},
                "max_attempts": config.backend_routing.max_attempts,
            },
        },
        "root": config.root,
        "keep": config.keep,
        "commit": {"hooks": config.commit_hooks, "sign": config.commit_sign},
        "grace": config.grace,
        "rescue": {"largest_file": config.rescue_largest_file},
        "trash": {"days": config.trash_days},
        "clean": {"max_workspaces": config.clean_max_workspaces, "max_size": config.clean_max_size},
        "sandbox": config.sandbox,
        "pool": {
            "size": config.pool_size,
            "refill": config.pool_refill,
            "days": config.pool_days,
            "max_size": config.pool_max_size,
        },
        "recycle": config.recycle,
        "prompt_template": config.prompt_template,
    }
    path = tmp_path_factory.getbasetemp() / "round.yaml"
    path.write_text(_written(data), encoding="utf-8")
    assert load_config([path]) == config_from_mapping(data) == config


def _row(row: str | tuple[str, ...]) -> str | list[str]:
    return row if isinstance(row, str) else list(row)


def _written(data: Any) -> str:
    """YAML with every text in double quotes and escaped to ASCII, as any writer of YAML may do."""

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, _: Any) -> bool:
            return True

    Dumper.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))
    return yaml.dump(data, Dumper=Dumper, allow_unicode=False)


ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**400)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=3)
    | st.sampled_from(IsolationLevel)
    | st.sampled_from(["full", "always", "yes", "010", "4", "\ud800", "\0"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(sorted({part for key in every_key() for part in key.split(".")}))
            | st.text(max_size=3)
            | st.integers(),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


BACKENDS = ANYTHING | st.fixed_dictionaries(
    {}, optional=dict.fromkeys(sorted(set(_Backend.model_fields)), ANYTHING | st.lists(st.text(max_size=9), max_size=3))
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "gear3": st.fixed_dictionaries(
                {},
                optional={
                    "parallel": st.fixed_dictionaries(
                        {},
                        optional=dict.fromkeys(
                            ["enabled", "max_workers", "timeout", "isolation_level", "idle_timeout"], ANYTHING
                        ),
                    )
                    | ANYTHING,
                    "backend_routing": st.fixed_dictionaries(
                        {},
                        optional=dict.fromkeys(
                            ["enabled", "default_backend", "rules", "kinds", "max_attempts"], ANYTHING
                        ),
                    )
                    | ANYTHING,
                },
            )
            | ANYTHING,
            **dict.fromkeys(
                [
                    "root",
                    "keep",
                    "commit",
                    "grace",
                    "rescue",
                    "trash",
                    "clean",
                    "sandbox",
                    "pool",
                    "recycle",
                    "prompt_template",
                ],
                ANYTHING,
            ),
            "backends": ANYTHING | st.dictionaries(TEXTS, BACKENDS, max_size=3),
        },
    )
    | ANYTHING
)
def test_no_word_of_the_checking_library_reaches_anyone(data: Any) -> None:
    """Whatever a dictionary holds, it is a Config or a ConfigurationError in our words."""
    try:
        config = config_from_mapping(data)
    except ConfigurationError as error:
        assert "Input" not in str(error)
        assert "something else" not in str(error)
    else:
        assert isinstance(config, Config)


@given(st.binary(max_size=100) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "replace")))
def test_any_file_is_settings_or_a_configuration_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    """Whatever a file holds, nothing but ConfigurationError is raised, and it names the file."""
    path = tmp_path_factory.getbasetemp() / "any-config.yaml"
    path.write_bytes(content)
    try:
        load_config([path])
    except ConfigurationError as error:
        assert f"{path}" in str(error)
