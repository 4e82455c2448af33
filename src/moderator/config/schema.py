"""What a configuration may hold, checked by pydantic; this module alone imports it, at the first need.

Defaults are those of `settings`.  pydantic's words reach nobody: its error types become our sentences in
`_fault`.  Must not know files or positions: a fault has the path of its key.
"""

from __future__ import annotations

import contextlib
import copy
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from types import UnionType
from typing import Annotated, Any, TypeGuard, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    WithJsonSchema,
    create_model,
)
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError, core_schema

from moderator.config.backends import faults_in_template
from moderator.config.settings import (
    FEWEST_WORKERS,
    HIGHEST_PORT,
    KEEP_CHOICES,
    LOWEST_PORT,
    MOST_PORTS,
    MOST_SPARES,
    MOST_WORKERS,
    OPEN_PLACEHOLDERS,
    PARSERS,
    PROMPT_CHOICES,
    RECYCLE_CHOICES,
    REFILL_CHOICES,
    SANDBOX_CHOICES,
    BackendRoutingConfig,
    Config,
    ParallelConfig,
)
from moderator.context import IsolationLevel
from moderator.document import did_you_mean, listed, mismatch, shown, unknown_key
from moderator.furnishing import CARRY_WAYS, SMUDGE_CHOICES, TEMPLATE_NAME, fault_in_path, fault_in_rendering, named_by
from moderator.models import ENV_PLACEHOLDERS, Command
from moderator.templates import faults_of

_OURS = "ours"
"""The type of the errors that we raise ourselves: their context says what a value must be, in our words."""

_ITEMS = ("carry", "render")
"""Lists of sections, whose items can be a text too."""

_MOST_LOOKS = 20  # at what is left when something was left out of it: leaving that out may show the next thing

_WANTED: dict[str, tuple[str, type | None]] = {
    "bool_type": ("true or false", bool),
    "int_type": ("a whole number", int),
    "float_type": ("a number of seconds", float),
    "string_type": ("text", str),
    "dict_type": ("a mapping of keys to values", None),
    "list_type": ("a list", None),
    "model_type": ("a mapping of keys to values", None),
}
"""pydantic's error types (docs.pydantic.dev/latest/errors/validation_errors), as far as this schema gives
rise to them, and what was wanted."""


@dataclass(frozen=True)
class Fault:
    """One thing wrong: the keys that lead to it, a sentence, and whether the key is meant or its value."""

    path: tuple[str, ...]
    sentence: str
    at_key: bool = False


def check(data: Mapping[str, Any], *, full_names: bool) -> tuple[dict[str, Any], list[Fault]]:
    """Return what was given, with the types it should have, and everything that is wrong with it.

    What is wrong is left out of what is returned, so that the rest can be looked at.
    `full_names` calls a key `gear3.parallel.timeout` instead of `timeout`: for data without line numbers.
    """
    try:
        return _File.model_validate(_section(data)).model_dump(exclude_unset=True), []
    except ValidationError as error:
        faults = [_fault(details, full_names) for details in error.errors(include_url=False)]
    rest = copy.deepcopy(_section(data))
    paths = [fault.path for fault in faults]
    for _ in range(_MOST_LOOKS):
        # What is wrong with the rest only because something was left out of it is nobody's to mend.
        if not sum(_leave_out(rest, path) for path in paths):
            break
        try:
            return _File.model_validate(rest).model_dump(exclude_unset=True), faults
        except ValidationError as error:
            paths = [_fault(details, full_names).path for details in error.errors(include_url=False)]
    return {}, faults


def _leave_out(section: Any, path: tuple[str, ...]) -> bool:
    """Take away the value that a path leads to, or the innermost one on its way that a mapping holds; whether there was one."""
    holder, held = None, None
    for name in path:
        if name == "[key]" or not isinstance(section, dict):
            break
        key = next((key for key in section if str(key) == name), None)
        if key is None:
            return False
        holder, held, section = section, key, section[key]
    if holder is None:
        return False
    del holder[held]
    return True


def every_key() -> tuple[str, ...]:
    """Return the full name of every key that can be given, in the order of the model."""

    def below(section: type[BaseModel], prefix: str) -> Iterator[str]:
        for name, field in section.model_fields.items():
            if _is_section(field.annotation):
                yield from below(field.annotation, f"{prefix}{name}.")
            else:
                yield prefix + name

    return tuple(below(_File, ""))


def shape() -> dict[str, Any]:
    """Return the JSON Schema of a configuration file, without a word about what its keys mean."""
    return _File.model_json_schema()


def _fault(details: ErrorDetails, full_names: bool) -> Fault:
    path = tuple(str(key) for key in details["loc"])
    value, context, kind = details["input"], details.get("ctx", {}), details["type"]
    if path[-1] == "[key]" or kind == "invalid_key":
        return Fault(path, f"a key must be text, not {shown(value)}; put it in quotes", at_key=True)
    section, depth = _innermost_section(path)
    if kind == "extra_forbidden":
        return Fault(path, unknown_key(path[-1], _spoken(path[:-1]), section.model_fields), at_key=True)
    if kind == "missing":
        return Fault(path[:-1], f"{_spoken(path[:-1])} has no '{path[-1]}'")
    name = ".".join(path if full_names else path[depth:] or path[-1:])
    if path[0] in _ITEMS and len(path) > 1 and path[-1] not in ("by", "from", "to"):
        name = _spoken(path[:2])
    elif isinstance(details["loc"][-1], int):
        name = f"word {details['loc'][-1] + 1} of {name.rpartition('.')[0]}"
    if "sentence" in context:  # of an item, which was not written as it is checked
        return Fault(path, f"{name}: {context['sentence']}")
    if kind == _OURS:
        wanted, wanted_kind = context["wanted"], context.get("kind")
    else:
        wanted, wanted_kind = _WANTED.get(kind, ("something else", None))
    sentence = mismatch(name, wanted, value, wanted_kind)
    if "choices" in context and isinstance(value, str):
        sentence += did_you_mean(value, context["choices"], otherwise="")
    return Fault(path, sentence)


def _spoken(path: tuple[str, ...]) -> str:
    """Return what a section is called: with its keys, or as an item of a list."""
    return (
        f"item {int(path[1]) + 1} of {path[0]}" if path[:1] and path[0] in _ITEMS and len(path) > 1 else ".".join(path)
    )


def _innermost_section(path: tuple[str, ...]) -> tuple[type[BaseModel], int]:
    """Return the section that the path leads into, and how many keys lead there."""
    section: type[BaseModel] = _File
    depth = 0
    while depth < len(path) and (field := section.model_fields.get(path[depth])):
        within, steps = _within(field.annotation)
        if within is None or depth + steps > len(path):
            break
        section, depth = within, depth + steps
    return section, depth


def _within(annotation: Any) -> tuple[type[BaseModel] | None, int]:
    """Return the section that a field is, or is a list or a mapping of, and how many keys lead into one."""
    steps = 1
    if get_origin(annotation) is UnionType:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (list, dict):
        annotation, steps = get_args(annotation)[-1], 2
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return (annotation, steps) if _is_section(annotation) else (None, 0)


def _is_section(annotation: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


@dataclass(frozen=True)
class _Check:
    """A check of ours, before or after pydantic's own, and what it says in a JSON Schema."""

    checked: Callable[[Any], Any]
    shape: Callable[[dict[str, Any]], dict[str, Any]]
    before: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        inside = handler(source)
        if self.before:
            return core_schema.no_info_before_validator_function(self.checked, inside)
        return core_schema.no_info_after_validator_function(self.checked, inside)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return self.shape(handler(schema))


def _must(holds: Callable[[Any], bool], wanted: str, **shape: Any) -> _Check:
    def checked(value: Any) -> Any:
        if not holds(value):
            raise PydanticCustomError(_OURS, "{wanted}", {"wanted": wanted})
        return value

    return _Check(checked, lambda inside: {**inside, **shape})


def _one_of(choices: tuple[str, ...]) -> _Check:
    """One of the words, in any case, or the member of an enum that it is the value of."""

    def checked(value: Any) -> str:
        word = value.value if isinstance(value, Enum) else value
        if isinstance(word, str) and word.lower() in choices:
            return word.lower()
        context = {"wanted": f"one of {listed(choices)}", "choices": choices}
        raise PydanticCustomError(_OURS, "{wanted}", context)

    return _Check(checked, lambda _: {"enum": list(choices)}, before=True)


def _number_of(unit: str) -> BeforeValidator:
    """A number that means something other than the seconds that pydantic's own refusals speak of."""

    def checked(value: Any) -> Any:
        with contextlib.suppress(OverflowError):  # a whole number that is too large
            if type(value) is float or (type(value) is int and math.isfinite(float(value))):
                return value
        raise PydanticCustomError(_OURS, "{wanted}", {"wanted": f"a number of {unit}", "kind": float})

    return BeforeValidator(checked)


def _section(value: Any) -> Any:
    """A section under which every line is commented out is empty; any kind of mapping will do."""
    if isinstance(value, Mapping):
        return dict(value)
    return {} if value is None else value


_OPTIONAL = _Check(_section, lambda inside: {"anyOf": [inside, {"type": "null"}]}, before=True)
"""A section, or nothing."""


def _row(value: Any) -> str | tuple[str, ...]:
    """The name of a backend, or a list of names."""
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, list | tuple) and value and all(isinstance(name, str) and name.strip() for name in value):
        return tuple(dict.fromkeys(value))
    raise PydanticCustomError(_OURS, "{wanted}", {"wanted": "the name of a backend, or a list of names", "kind": str})


def _spares(value: Any) -> int | str:
    """A number of spares, or "auto"."""
    if isinstance(value, str) and value.lower() == "auto":
        return "auto"
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_SPARES:
        return value
    wanted = f"a whole number from 0 to {MOST_SPARES}, or auto"
    raise PydanticCustomError(_OURS, "{wanted}", {"wanted": wanted, "kind": int})


def _carry(value: Any) -> Any:
    """An item to carry: a path, or a mapping of it and the way."""
    if isinstance(value, str):
        return {"path": value}
    if isinstance(value, Mapping):
        return dict(value)
    raise PydanticCustomError(
        _OURS, "{wanted}", {"wanted": "a path, or {path: PATH, by: copy|clone|link}", "kind": str}
    )


def _render(value: Any) -> Any:
    """A file to render: its template, or a mapping of that and where it goes."""
    if isinstance(value, str):
        return {"from": value}
    if isinstance(value, Mapping):
        return dict(value)
    wanted = "the path of a template, or {from: TEMPLATE, to: PATH}"
    raise PydanticCustomError(_OURS, "{wanted}", {"wanted": wanted, "kind": str})


def _rendered(item: Any) -> Any:
    source, target = getattr(item, "from"), item.to
    if fault := fault_in_rendering(source, named_by(source) if target is None else target):
        raise PydanticCustomError(_OURS, "{sentence}", {"sentence": f"{source!r} cannot be rendered: {fault}"})
    return item


def _or_a_path(inside: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [inside, _NAMED]}


def _or_a_template(inside: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [inside, {"type": "string", "pattern": TEMPLATE_NAME}]}


def _carried(path: str) -> str:
    if fault := fault_in_path(path):
        raise PydanticCustomError(_OURS, "{wanted}", {"wanted": fault})
    return path


def _pattern(text: str) -> str:
    """A regular expression that can be one."""
    try:
        re.compile(text)
    except re.error as error:
        wanted = f"a regular expression ({error})"
        raise PydanticCustomError(_OURS, "{wanted}", {"wanted": wanted}) from None
    return text


def _template(text: str) -> str:
    if faults := faults_in_template(text):
        raise PydanticCustomError(_OURS, "{wanted}", {"wanted": f"a template ({faults[0]})"})
    return text


def _opening(words: list[str]) -> list[str]:
    if faults := [fault for word in words for fault in faults_of(word, OPEN_PLACEHOLDERS)]:
        raise PydanticCustomError(_OURS, "{wanted}", {"wanted": f"a list of words ({faults[0]})"})
    return words


def _variables(variables: dict[str, str]) -> dict[str, str]:
    for name in variables:
        if not name or "=" in name or "\0" in name + variables[name] or name.startswith("MODERATOR_"):
            wanted = f"a mapping of variables ({name!r} cannot be set)"
            raise PydanticCustomError(_OURS, "{wanted}", {"wanted": wanted})
    return variables


def _command(value: Any) -> Command | None:
    """A line of the shell, or a list of words."""
    if value is None:
        return None
    if isinstance(value, str) and value.strip() and "\0" not in value:
        return value
    if (
        isinstance(value, list | tuple)
        and value
        and all(isinstance(word, str) and "\0" not in word for word in value)
        and value[0].strip()
    ):
        return tuple(value)
    raise PydanticCustomError(_OURS, "{wanted}", {"wanted": "text for the shell, or a list of words", "kind": str})


def _commands(value: Any) -> tuple[Command, ...]:
    """Commands that run one after the other; a single one needs no list."""
    if value is None or isinstance(value, str):
        value = [] if value is None else [value]
    if not isinstance(value, list | tuple):
        wanted = "text for the shell, or a list of commands"
        raise PydanticCustomError(_OURS, "{wanted}", {"wanted": wanted, "kind": str})
    try:
        found = [_command(one) for one in value]
    except PydanticCustomError:
        found = [None]
    if None in found:
        wanted = "a list of commands, each of them text for the shell or a list of words"
        raise PydanticCustomError(_OURS, "{wanted}", {"wanted": wanted})
    return tuple(one for one in found if one is not None)


def _filled_in(variables: dict[str, str]) -> dict[str, str]:
    """Variables of tasks, whose values are templates."""
    for name, text in variables.items():
        if faults := faults_of(text, ENV_PLACEHOLDERS):
            wanted = f"a mapping of variables ({name}: {faults[0]}; for a brace itself write '{{{{')"
            raise PydanticCustomError(_OURS, "{wanted}", {"wanted": wanted})
    return variables


def _port_range(value: Any) -> tuple[int, int]:
    """Two ports with a dash between them."""
    found = re.fullmatch(r"\s*([0-9]{1,5})\s*-\s*([0-9]{1,5})\s*", value) if isinstance(value, str) else None
    if found and LOWEST_PORT <= int(found[1]) <= int(found[2]) <= HIGHEST_PORT:
        return int(found[1]), int(found[2])
    wanted = f"two ports from {LOWEST_PORT} to {HIGHEST_PORT}, such as 20000-29999"
    raise PydanticCustomError(_OURS, "{wanted}", {"wanted": wanted, "kind": str})


def _last_is_open(rules: list[_KindRule]) -> list[_KindRule]:
    """Every task must be of some kind: the last rule has no words and so takes what is left."""
    if not rules or rules[-1].words:
        wanted = "a list whose last rule has no words, for the tasks that none of them stands in: {kind: general}"
        raise PydanticCustomError(_OURS, "{wanted}", {"wanted": wanted})
    for rule in rules[:-1]:
        if not rule.words:
            wanted = f"a list in which only the last rule has no words, and {rule.kind!r} has none"
            raise PydanticCustomError(_OURS, "{wanted}", {"wanted": wanted})
    return rules


def _path(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


_NO_NUL = r"^[^\u0000]*$"
_NAMED = {"type": "string", "pattern": r"\S"}
_COMMAND_SHAPES = [
    _NAMED,
    {"type": "array", "items": {"type": "string"}, "minItems": 1, "prefixItems": [_NAMED]},
]

_Finite = Annotated[float, _must(math.isfinite, "a finite number")]
_Seconds = Annotated[_Finite, _must(lambda seconds: seconds > 0, "positive", exclusiveMinimum=0)]
_Grace = Annotated[_Finite, _must(lambda seconds: seconds >= 0, "0 or more", minimum=0)]
_Megabytes = Annotated[_Finite, _must(lambda size: size > 0, "positive", exclusiveMinimum=0), _number_of("megabytes")]
_Days = Annotated[
    _Finite,
    _must(lambda days: days >= 0, "0 or more", minimum=0),
    _must(lambda days: days <= 36500, "36500 or less", maximum=36500),
    _number_of("days"),
]
_Count = Annotated[int, _must(lambda count: count >= 0, "0 or more", minimum=0)]
_Workers = Annotated[
    int,
    _must(
        lambda count: FEWEST_WORKERS <= count <= MOST_WORKERS,
        f"between {FEWEST_WORKERS} and {MOST_WORKERS}",
        minimum=FEWEST_WORKERS,
        maximum=MOST_WORKERS,
    ),
]
_Text = Annotated[
    str,
    _must(lambda text: bool(text.strip()), "text", pattern=r"\S"),
    _must(lambda text: "\0" not in text, "text without NUL"),
]
_Attempts = Annotated[int, _must(lambda count: 1 <= count <= 20, "between 1 and 20", minimum=1, maximum=20)]
_Limit = Annotated[int, _must(lambda count: count >= 1, "1 or more (null: any number)", minimum=1)]
_Texts = list[Annotated[str, _must(lambda text: "\0" not in text, "text without NUL", pattern=_NO_NUL)]]
_Argv = Annotated[
    _Texts,
    _must(
        lambda words: bool(words and words[0].strip()),
        "a list that begins with a program",
        minItems=1,
        prefixItems=[_NAMED],
    ),
]
_Patterns = list[Annotated[str, AfterValidator(_pattern)]]
_Template = Annotated[str, AfterValidator(_template)]
_Variables = Annotated[dict[str, str], _OPTIONAL, AfterValidator(_variables)]
_Spares = Annotated[
    Any,
    BeforeValidator(_spares),
    WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 0, "maximum": MOST_SPARES}]}),
]
_Row = Annotated[
    Any,
    BeforeValidator(_row),
    WithJsonSchema({"anyOf": [_NAMED, {"type": "array", "items": _NAMED, "minItems": 1}]}),
]
_Command = Annotated[Any, BeforeValidator(_command), WithJsonSchema({"anyOf": [*_COMMAND_SHAPES, {"type": "null"}]})]
_Commands = Annotated[
    Any,
    BeforeValidator(_commands),
    WithJsonSchema({"anyOf": [_NAMED, {"type": "null"}, {"type": "array", "items": {"anyOf": _COMMAND_SHAPES}}]}),
]
_PortRange = Annotated[
    Any,
    BeforeValidator(_port_range),
    WithJsonSchema({"type": "string", "pattern": r"^\s*[0-9]{1,5}\s*-\s*[0-9]{1,5}\s*$"}),
]
_PortCount = Annotated[
    int,
    _must(
        lambda count: 0 <= count <= MOST_PORTS,
        f"between 0 (none) and {MOST_PORTS}",
        minimum=0,
        maximum=MOST_PORTS,
    ),
]
_Level = Annotated[str, _one_of(tuple(level.value for level in IsolationLevel))]
_Keep = Annotated[str, _one_of(KEEP_CHOICES)]
_Sandbox = Annotated[str, _one_of(SANDBOX_CHOICES)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Parallel(_Section):
    enabled: bool = ParallelConfig.enabled
    max_workers: _Workers = ParallelConfig.max_workers
    timeout: _Seconds = ParallelConfig.timeout
    isolation_level: _Level = ParallelConfig.isolation_level.value
    idle_timeout: _Seconds | None = ParallelConfig.idle_timeout


class _KindRule(_Section):
    kind: _Text
    words: list[_Text] = Field(default_factory=list)


class _BackendRouting(_Section):
    enabled: bool = BackendRoutingConfig.enabled
    default_backend: _Row = BackendRoutingConfig.default_backend
    rules: Annotated[dict[str, _Row], _OPTIONAL] = Field(default_factory=dict)
    kinds: Annotated[list[_KindRule], AfterValidator(_last_is_open)] = Field(default_factory=list)
    max_attempts: _Attempts = BackendRoutingConfig.max_attempts


class _Backend(_Section):
    extends: _Text | None = None
    argv: _Argv = Field(default_factory=list)
    extra_args: _Texts = Field(default_factory=list)
    prompt: Annotated[str, _one_of(PROMPT_CHOICES)] = PROMPT_CHOICES[0]
    parser: Annotated[str, _one_of(PARSERS)] = PARSERS[0]
    probe: _Texts = Field(default_factory=list)
    login: _Texts = Field(default_factory=list)
    login_env: _Texts = Field(default_factory=list)
    login_files: _Texts = Field(default_factory=list)
    env: _Variables = Field(default_factory=dict)
    failed: _Patterns = Field(default_factory=list)
    retry: _Patterns = Field(default_factory=list)
    give_up: _Patterns = Field(default_factory=list)
    limit: _Limit | None = None
    timeout: _Seconds | None = None
    idle_timeout: _Seconds | None = None
    template: _Template | None = None
    litter: _Texts = Field(default_factory=list)


class _Gear3(_Section):
    parallel: Annotated[_Parallel, _OPTIONAL] = Field(default_factory=_Parallel)
    backend_routing: Annotated[_BackendRouting, _OPTIONAL] = Field(default_factory=_BackendRouting)


class _Commit(_Section):
    hooks: bool = Config.commit_hooks
    sign: bool = Config.commit_sign


class _Rescue(_Section):
    largest_file: _Megabytes = Config.rescue_largest_file


class _Trash(_Section):
    days: _Days = Config.trash_days


class _Clean(_Section):
    max_workspaces: _Count | None = Config.clean_max_workspaces
    max_size: _Megabytes | None = Config.clean_max_size


class _Pool(_Section):
    size: _Spares = Config.pool_size
    refill: Annotated[str, _one_of(REFILL_CHOICES)] = Config.pool_refill
    days: _Days = Config.pool_days
    max_size: _Megabytes | None = Config.pool_max_size


class _Carry(_Section):
    path: Annotated[_Text, AfterValidator(_carried)]
    by: Annotated[str, _one_of(CARRY_WAYS)] = CARRY_WAYS[0]


_Render = create_model("_Render", __base__=_Section, **{"from": (_Text, ...), "to": (_Text | None, None)})  # type: ignore[call-overload]
_RenderItem = Annotated[_Render, AfterValidator(_rendered), _Check(_render, _or_a_template, before=True)]  # type: ignore[valid-type]


class _Ports(_Section):
    range: _PortRange = "{}-{}".format(*Config.ports_range)
    count: _PortCount = Config.ports_count


class _File(_Section):
    gear3: Annotated[_Gear3, _OPTIONAL] = Field(default_factory=_Gear3)
    root: Annotated[_Text | None, BeforeValidator(_path)] = Config.root
    keep: _Keep = Config.keep
    commit: Annotated[_Commit, _OPTIONAL] = Field(default_factory=_Commit)
    grace: _Grace = Config.grace
    rescue: Annotated[_Rescue, _OPTIONAL] = Field(default_factory=_Rescue)
    trash: Annotated[_Trash, _OPTIONAL] = Field(default_factory=_Trash)
    clean: Annotated[_Clean, _OPTIONAL] = Field(default_factory=_Clean)
    sandbox: _Sandbox = Config.sandbox
    pool: Annotated[_Pool, _OPTIONAL] = Field(default_factory=_Pool)
    recycle: Annotated[str, _one_of(RECYCLE_CHOICES)] = Config.recycle
    carry: list[Annotated[_Carry, _Check(_carry, _or_a_path, before=True)]] | None = None
    submodules: bool = Config.submodules
    smudge: Annotated[str, _one_of(SMUDGE_CHOICES)] = Config.smudge
    render: list[_RenderItem] | None = None
    open: Annotated[_Argv, AfterValidator(_opening)] | None = None
    prompt_template: _Template = Config.prompt_template
    setup: _Commands = Config.setup
    verify: _Command = Config.verify
    teardown: _Commands = Config.teardown
    setup_timeout: _Seconds = Config.setup_timeout
    env: Annotated[_Variables, AfterValidator(_filled_in)] = Field(default_factory=dict)
    ports: Annotated[_Ports, _OPTIONAL] = Field(default_factory=_Ports)
    backends: Annotated[dict[str, Annotated[_Backend, _OPTIONAL]], _OPTIONAL] = Field(default_factory=dict)
