"""From what files say of backends to the backends: presets, extension, and everything that does not fit together.

Each entry has been checked by itself before; here is what takes more than one key or entry to see.  Must not know files: a
fault has the path of its key.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from types import MappingProxyType
from typing import Any

from moderator.config.presets import PRESETS, SHELL
from moderator.config.settings import PLACEHOLDERS, PROMPT_PLACEHOLDERS, SPLICE, BackendConfig
from moderator.config.shellwords import is_program, shell_programs
from moderator.document import did_you_mean, listed, quoted
from moderator.templates import faults_of, names_in

Path = tuple[str, ...]
Entries = Mapping[str, Mapping[str, Any]]
_Known = dict[str, dict[str, Any]]
"""Entries with all that they extend, as far as these have been put together."""

_OF_A_CALL = frozenset(("", "extends", "argv", "extra_args", "prompt", "parser", "env", "template"))
"""Keys that say something of each other."""
_KEYS = {"extends", *(field.name for field in fields(BackendConfig))}
_TUPLES = {field.name for field in fields(BackendConfig) if str(field.type).startswith("tuple")}


def shipped() -> dict[str, BackendConfig]:
    """Return the backends that need no configuration, by name."""
    return {name: _made(name, preset) for name, preset in PRESETS.items()}


def resolved(entries: Entries) -> dict[str, BackendConfig]:
    """Return the configured backends, by name, in which nothing is wrong any more."""
    known: _Known = {}
    return {name: _made(name, _merged(name, entries, known)) for name in entries}


def faults_in(
    entries: Entries, broken: Mapping[str, Collection[str]] = MappingProxyType({})
) -> Iterator[tuple[Path, str]]:
    """Yield the path and a sentence for everything that does not fit together.

    `broken` has for entries that have faults of their own the keys that were left out of them.
    """
    known: _Known = {}
    for name in entries:
        if not name.strip():
            yield ("backends", name), "a backend has no name; give it one, for rules and tasks to name it by"
        chain, fault = _chain(name, entries)
        if fault:
            yield ("backends", name, "extends"), fault
        elif chain and not any(_tells_of_a_call(key) for one in chain for key in broken.get(one, ())):
            yield from ((("backends", name, *path), fault) for path, fault in _of_entry(name, entries, known))


def _tells_of_a_call(key: str) -> bool:
    """Whether a key that had to be left out may be what other keys are measured by; a misspelt one may be any."""
    return key in _OF_A_CALL or key not in _KEYS


def faults_in_rows(
    rows: Iterable[tuple[Path, str | Sequence[str]]], known: Collection[str]
) -> Iterator[tuple[Path, str]]:
    """Yield a fault for every name in the routing table that no backend has."""
    for path, row in rows:
        for name in (row,) if isinstance(row, str) else row:
            if name not in known:
                near = did_you_mean(name, known, f"; known here: {listed(sorted(known))}")
                yield path, f"no backend is called {quoted(name)}{near}"


def faults_in_template(template: str) -> list[str]:
    """Return what is wrong with the template of a prompt."""
    faults = faults_of(template, PROMPT_PLACEHOLDERS)
    if not faults and not {"prompt", "description"} & names_in(template):
        faults.append("the template never says what to do; write '{prompt}' where that belongs")
    return faults


def _chain(name: str, entries: Entries) -> tuple[list[str], str | None]:
    """Return the entries that one leads to by its `extends`, itself first, none if it leads nowhere; and what to say of it."""
    seen = {name: None}  # in order
    last = name
    while (parent := _parent(last, entries)) is not None and not _is_preset(parent, last, entries):
        if parent not in entries:
            known = {*PRESETS, *entries} - {name}
            near = did_you_mean(parent, known, f"; known here: {listed(sorted(known))}")
            fault = f"no backend is called {quoted(parent)}{near}"
            return [], fault if len(seen) == 1 else None  # told where it stands
        if parent in seen:
            names = list(seen)
            members = names[names.index(parent) :]
            circle = " extends ".join([*members, parent])
            sentence = f"backends extend each other in a circle: {circle}; let one of them have an argv of its own"
            return [], sentence if name == min(members) else None  # told once
        seen[parent] = None
        last = parent
    return list(seen), None


def _parent(name: str, entries: Entries) -> str | None:
    """Return what an entry extends: what it says, or the preset of its own name if it has no command line."""
    entry = entries[name]
    if (said := entry.get("extends")) is not None:
        return str(said)
    return name if name in PRESETS and "argv" not in entry else None


def _is_preset(parent: str, name: str, entries: Entries) -> bool:
    """Whether what an entry extends is a preset, not an entry of that name."""
    return parent in PRESETS and (parent == name or parent not in entries)


def _base(name: str, entries: Entries, known: _Known) -> Mapping[str, Any]:
    """Return what an entry takes from the one that it extends; nothing if it extends none."""
    parent = _parent(name, entries)
    if parent is None:
        return {}
    return PRESETS[parent] if _is_preset(parent, name, entries) else _merged(parent, entries, known)


def _merged(name: str, entries: Entries, known: _Known) -> dict[str, Any]:
    """Return an entry with everything that it takes from those it extends, however many these are."""
    way = [name]
    while way[-1] not in known:
        parent = _parent(way[-1], entries)
        if parent is None or _is_preset(parent, way[-1], entries):
            break
        way.append(parent)
    for one in reversed(way):
        if one not in known:
            known[one] = _onto(_base(one, entries, known), entries[one])
    return known[name]


def _onto(base: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry on top of what it extends."""
    own = {key: value for key, value in entry.items() if key != "extends"}
    merged = {**base, **own}
    merged["env"] = {**base.get("env", {}), **own.get("env", {})}
    if "argv" not in own:
        merged["extra_args"] = [*base.get("extra_args", ()), *own.get("extra_args", ())]
    elif "extra_args" not in own:
        merged["extra_args"] = []
    return merged


def _made(name: str, merged: Mapping[str, Any]) -> BackendConfig:
    values: dict[str, Any] = {key: tuple(value) if key in _TUPLES else value for key, value in merged.items()}
    return BackendConfig(name, **values)


def _of_entry(name: str, entries: Entries, known: _Known) -> Iterator[tuple[Path, str]]:
    entry, merged = entries[name], _merged(name, entries, known)
    backend = _made(name, merged)
    if backend.is_shell:
        yield from _of_shell(entry, _parent(name, entries))
        return
    if name == SHELL:
        yield (
            ("argv",) if "argv" in entry else ("extends",),
            "shell is the name of what executes the tasks' own commands; call a program that takes prompts otherwise",
        )
    for key, words in (("argv", backend.argv), ("extra_args", backend.extra_args)):
        if key in entry:
            yield from (
                (((key,), fault)) for word in words if word != SPLICE for fault in faults_of(word, PLACEHOLDERS)
            )
    if SPLICE in backend.extra_args or backend.argv.count(SPLICE) > 1:
        yield ("argv",) if "argv" in entry else ("extra_args",), "'{extra_args}' can stand once, as a word of argv"
    for variable, text in backend.env.items():
        if variable in entry.get("env", {}):
            yield from ((("env", variable), fault) for fault in faults_of(text, PLACEHOLDERS))
    yield from _of_shell_words(backend, entry)
    yield from _of_prompt(backend, entry)
    if backend.template is not None and "template" in entry:
        yield from ((("template",), fault) for fault in faults_in_template(backend.template))
    speaks = _base(name, entries, known).get("parser", "text")
    if (
        "parser" in entry
        and "argv" not in entry
        and "text" not in (speaks, backend.parser)
        and speaks != backend.parser
    ):
        yield (
            ("parser",),
            (
                f"parser {backend.parser} does not fit: what {quoted(str(_parent(name, entries)))} executes prints {speaks}; "
                "leave parser out, or give an argv of its own too"
            ),
        )


def _of_shell(entry: Mapping[str, Any], parent: str | None) -> Iterator[tuple[Path, str]]:
    """An entry without a command line: it is the shell, or the command line was forgotten."""
    if parent is None:
        yield (
            (),
            "there is no argv: say what to execute, such as [my-agent, --dir, '{workspace}'], or which backend it extends",
        )
        return
    for key in sorted(entry.keys() - {"extends", "env", "limit", "timeout", "idle_timeout", "retry", "give_up"}):
        yield (key,), f"the shell executes a task's own command and has no {key}; leave it out, or give an argv"
    for variable, text in entry.get("env", {}).items():
        yield from ((("env", variable), fault) for fault in faults_of(text, PLACEHOLDERS))


def _of_prompt(backend: BackendConfig, entry: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """The way a prompt goes in, and the placeholders that this way needs or leaves empty."""
    at = next(((key,) for key in ("prompt", "argv", "extra_args") if key in entry), ())
    used = {name for text in (*backend.words, *backend.env.values()) for name in names_in(text)}
    needed = {"argument": {"prompt"}, "file": {"prompt_file"}, "stdin": set()}[backend.prompt]
    for missing in sorted(needed - used):
        yield at, f"prompt: {backend.prompt} needs '{{{missing}}}' as a word of argv"
    for idle in sorted(({"prompt", "prompt_file"} & used) - needed):
        if backend.prompt != "argument" or idle != "prompt_file":
            way = "argument" if idle == "prompt" else "file"
            yield (
                at,
                f"'{{{idle}}}' stands in the command line, but the prompt goes in by {backend.prompt}; write prompt: {way}",
            )
        elif not needed - used:
            yield at, "'{prompt_file}' stands beside '{prompt}', but a prompt goes in one way; leave one of them out"


def _of_shell_words(backend: BackendConfig, entry: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """A placeholder that would be a program, or that a shell would read as one: what a task says must never be that."""
    words = backend.words
    at = ("argv",) if "argv" in entry else ("extra_args",) if "extra_args" in entry else ()
    folder, _, program = words[0].rpartition("/")
    if names_in(program) or names_in(folder) - {"workspace", "state_dir"}:
        yield (
            at,
            (
                f"the program to execute must be named outright, not by {quoted(words[0])}; "
                "'{workspace}/' or '{state_dir}/' can stand before its name"
            ),
        )
    if any(is_program(text, backend.prompt) for text in shell_programs(words)):
        yield (
            at,
            (
                "a shell would read what is filled in as a part of its program; "
                """pass it behind that instead: [sh, -c, 'my-agent "$1"', sh, '{prompt}']"""
            ),
        )
