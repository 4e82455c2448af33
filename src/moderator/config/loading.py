"""From files, or a dictionary, to a Config, with every complaint about all of them at once.

Must not know which files count, nor what a key means.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from moderator.config.settings import AGREED, SANDBOX_CHOICES, BackendRoutingConfig, Config, ParallelConfig
from moderator.context import IsolationLevel
from moderator.document import (
    Complaints,
    ListNode,
    MappingNode,
    Node,
    Place,
    is_null,
    plain_value,
    read_document,
    shown_node,
)
from moderator.errors import ConfigurationError
from moderator.furnishing import Carry, Render, named_by

_FLAT_SECTIONS = ("commit", "rescue", "trash", "clean", "pool", "ports")
"""Sections whose keys are fields of Config itself: `commit: {hooks: ...}` is `commit_hooks`."""


def load_config(paths: Sequence[Path], backends: Collection[str] = (), guest: Path | None = None) -> Config:
    """Return the settings of the files; a later one wins, key by key (in `rules`, `env` and `backends` too).

    An empty file sets nothing.  `backends` are the names of those that come from elsewhere.  `guest` is the one of the files
    that is not the person's own: if anything of AGREED is in force by its word, `asked_by_guest` tells all that it says
    of it, out of the same reading of the file.

    Raises ConfigurationError with everything that is wrong in any of the files, each complaint with its file, line and column;
    a file that is not there is a complaint too.
    """
    sources = _read(paths, guest)
    config = _config(sources, backends)
    if guest is None or guest not in paths:
        return config
    number = list(paths).index(guest)
    own = {name: sources[number].given[name] for name in AGREED if sources[number].given.get(name)}
    in_force: dict[str, Any] = own
    for later in sources[number + 1 :]:
        in_force = {name: left for name, value in in_force.items() if (left := _beyond(value, later.given, name))}
    # All that the guest says, whatever a later file has instead of a part of it: it is agreed to as a whole.
    return replace(config, asked_by_guest=_plain(own)) if in_force else config


def load_with_origins(paths: Sequence[Path], guest: Path | None = None) -> tuple[Config, dict[tuple[str, ...], str]]:
    """Return the settings of the files, as `load_config` does, and for each key that is set where: `file:line`."""
    sources = _read(paths, guest)
    config = _config(sources, ())
    origins: dict[tuple[str, ...], str] = {}
    for source in sources:
        for path in _set_in(source.given):
            place = _place_of(source.root, path, at_key=True)
            origins[path] = f"{source.complaints.source}:{place.line}" if place else source.complaints.source
    return config, origins


def _read(paths: Sequence[Path], guest: Path | None = None) -> list[_Source]:
    sources: list[_Source] = []
    for path in paths:
        document = read_document(path)
        given: dict[str, Any] = {}
        broken: set[tuple[str, ...]] = set()
        if isinstance(document.root, MappingNode):
            given, broken = _checked(plain_value(document.root), document.complaints, document.root)
        elif document.root is not None and not is_null(document.root):
            document.complaints.add(
                f"a configuration must be a mapping of keys to values, not {shown_node(document.root)};"
                " write for example 'keep: failed'",
                document.root,
            )
        if path == guest:
            _take_nothing_away(given, sources)
        sources.append(_Source(document.complaints, document.root, given, broken))
    return sources


def _take_nothing_away(given: dict[str, Any], before: Sequence[_Source]) -> None:
    """Drop what a guest's file says against the person's own: it may ask for a sandbox, or for more time in the trash, not less."""
    if given.get("sandbox") == SANDBOX_CHOICES[0]:
        del given["sandbox"]
    wanted = [days for one in before if (days := (one.given.get("trash") or {}).get("days")) is not None]
    trash = given.get("trash") or {}
    if wanted and trash.get("days", wanted[-1]) < wanted[-1]:
        given["trash"] = {name: value for name, value in trash.items() if name != "days"}


def _set_in(given: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in given.items():
        if isinstance(value, Mapping):
            yield from _set_in(value, (*above, key))
        else:
            yield (*above, key)


def _plain(value: Any) -> Any:
    """Return a value as JSON takes it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def _beyond(value: Any, later: Mapping[str, Any], name: str) -> Any:
    """Return what of a value is still in force after a later file, None if nothing is."""
    if name not in later:
        return value
    if not (isinstance(value, Mapping) and isinstance(later[name], Mapping)):
        return None
    return {key: left for key, one in value.items() if (left := _beyond(one, later[name], key)) is not None}


def config_from_mapping(data: Mapping[str, Any], source: str = "config", backends: Collection[str] = ()) -> Config:
    """Return the settings in a dictionary of the same form as a file: `{"gear3": {"parallel": {...}}}`.

    Members of IsolationLevel and path objects will do where a file has text.  `backends` are the names of those that come
    from elsewhere.  Raises ConfigurationError with everything that is wrong; `source` is what the complaints call the
    dictionary.
    """
    complaints = Complaints(source)
    given: dict[str, Any] = {}
    broken: set[tuple[str, ...]] = set()
    if isinstance(data, Mapping):
        given, broken = _checked(data, complaints)
    else:
        complaints.add(f"a configuration must be a mapping of keys to values, not {type(data).__name__}")
    return _config([_Source(complaints, None, given, broken)], backends)


@dataclass(frozen=True)
class _Source:
    """One file or dictionary: what it sets as far as that can be understood, and the paths of what cannot."""

    complaints: Complaints
    root: Node | None
    given: Mapping[str, Any]
    broken: Collection[tuple[str, ...]]

    def sets(self, path: tuple[str, ...]) -> bool:
        """Whether the last key of the path is set here."""
        section: Any = self.given
        for key in path:
            if not isinstance(section, Mapping) or key not in section:
                return False
            section = section[key]
        return True


def _checked(
    data: Mapping[str, Any], complaints: Complaints, root: Node | None = None
) -> tuple[dict[str, Any], set[tuple[str, ...]]]:
    if not data:
        return {}, set()
    from moderator.config.schema import check  # here, because pydantic takes 75 ms to import

    given, faults = check(data, full_names=root is None)
    for fault in faults:
        complaints.add(fault.sentence, _place_of(root, fault.path, fault.at_key))
    return given, {fault.path for fault in faults}


def _place_of(root: Node | None, path: tuple[str, ...], at_key: bool) -> Place | None:
    node, place = root, root.place if root else None
    for key in path:
        if isinstance(node, ListNode) and key.isdigit() and int(key) < len(node.items):
            node = node.items[int(key)]
            place = node.place
            continue
        if not isinstance(node, MappingNode) or key not in node.entries:
            break
        name, node = node.entries[key]
        place = name.place if at_key else node.place
    return place


def _merge(into: dict[str, Any], later: Mapping[str, Any]) -> None:
    for key, value in later.items():
        if isinstance(value, Mapping):
            _merge(into.setdefault(key, {}), value)
        else:
            into[key] = value


def _config(sources: Sequence[_Source], others: Collection[str]) -> Config:
    merged: dict[str, Any] = {}
    for source in sources:
        _merge(merged, source.given)
    routing = merged.get("gear3", {}).get("backend_routing", {})
    entries = merged.get("backends", {})
    if entries or routing:
        _look_across(sources, entries, routing, others)
    complaints = [sentence for source in sources for sentence in source.complaints.sentences()]
    if len(complaints) == 1:
        raise ConfigurationError(complaints[0])
    if complaints:
        bullets = "".join(f"\n  - {complaint}" for complaint in complaints)
        raise ConfigurationError(f"{len(complaints)} things are wrong with the configuration:{bullets}")
    gear3 = merged.pop("gear3", {})
    below = {f"{name}_{key}": value for name in _FLAT_SECTIONS for key, value in merged.pop(name, {}).items()}
    parallel = dict(gear3.get("parallel", {}))
    if "isolation_level" in parallel:
        parallel["isolation_level"] = IsolationLevel(parallel["isolation_level"])
    if "kinds" in routing:
        routing["kinds"] = tuple((rule["kind"], tuple(rule.get("words", ()))) for rule in routing["kinds"])
    if items := merged.get("carry"):
        merged["carry"] = tuple(
            Carry(**item, where=place) for item, place in zip(items, _places(sources, "carry"), strict=True)
        )
    elif items is not None:
        merged["carry"] = ()
    merged["render"] = tuple(
        Render(item["from"], item.get("to") or named_by(item["from"]), where=place)
        for item, place in zip(merged.get("render") or (), _places(sources, "render"), strict=True)
    )
    if "open" in merged:
        merged["open"] = tuple(merged["open"] or ())
    if entries:
        from moderator.config.backends import resolved  # here and below: most configurations name none

        merged["backends"] = resolved(entries)
    return Config(
        parallel=ParallelConfig(**parallel), backend_routing=BackendRoutingConfig(**routing), **below, **merged
    )


def _places(sources: Sequence[_Source], key: str) -> list[str]:
    """Return where each item of a list is written, in the file that had the last word."""
    source = next((source for source in reversed(sources) if source.sets((key,))), None)
    if source is None:
        return []
    found = []
    for number in range(len(source.given[key] or ())):
        place = _place_of(source.root, (key, str(number)), at_key=False)
        name = source.complaints.source
        found.append(f"{name}:{place.line}:{place.column}" if place else f"{name}: item {number + 1} of {key}")
    return found


def _look_across(
    sources: Sequence[_Source], entries: Mapping[str, Any], routing: Mapping[str, Any], others: Collection[str]
) -> None:
    """Complain about what only all files together show, in the file that had the last word."""
    from moderator.config.backends import faults_in, faults_in_rows
    from moderator.config.presets import PRESETS

    broken: dict[str, set[str]] = {}
    for path in (path for source in sources for path in source.broken if path[:1] == ("backends",) and len(path) > 1):
        broken.setdefault(path[1], set()).add(path[2] if len(path) > 2 else "")
    rows: list[tuple[tuple[str, ...], Any]] = [
        (("gear3", "backend_routing", "rules", kind), row) for kind, row in routing.get("rules", {}).items()
    ]
    if "default_backend" in routing:
        rows.append((("gear3", "backend_routing", "default_backend"), routing["default_backend"]))
    known = {*PRESETS, *entries, *broken, *others}
    for path, sentence in (*faults_in(entries, broken), *faults_in_rows(rows, known)):
        told_by = next((source for source in reversed(sources) if source.sets(path)), sources[-1])
        where = ".".join(path[:2]) if path[0] == "backends" else ".".join(path[2:])
        told_by.complaints.add(f"{where}: {sentence}", _place_of(told_by.root, path, at_key=False))
