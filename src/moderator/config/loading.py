"""From files, or a dictionary, to a Config, with every complaint about all of them at once.

Must not know which files count, nor what a key means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from moderator.config.settings import BackendRoutingConfig, Config, ParallelConfig
from moderator.context import IsolationLevel
from moderator.document import (
    Complaints,
    MappingNode,
    Node,
    Place,
    is_null,
    plain_value,
    read_document,
    shown_node,
)
from moderator.errors import ConfigurationError

_FLAT_SECTIONS = ("commit", "rescue", "trash", "clean")
"""Sections whose keys are fields of Config itself: `commit: {hooks: ...}` is `commit_hooks`."""


def load_config(paths: Sequence[Path]) -> Config:
    """Return the settings of the files; a later one wins, key by key (in `rules` too).

    An empty file sets nothing.  Raises ConfigurationError with everything that is wrong in any of the files,
    each complaint with its file, line and column; a file that is not there is a complaint too.
    """
    merged: dict[str, Any] = {}
    found: list[str] = []
    for path in paths:
        document = read_document(path)
        if isinstance(document.root, MappingNode):
            _merge(merged, _checked(plain_value(document.root), document.complaints, document.root))
        elif document.root is not None and not is_null(document.root):
            document.complaints.add(
                f"a configuration must be a mapping of keys to values, not {shown_node(document.root)};"
                " write for example 'keep: failed'",
                document.root,
            )
        found += document.complaints.sentences()
    return _config(merged, found)


def config_from_mapping(data: Mapping[str, Any], source: str = "config") -> Config:
    """Return the settings in a dictionary of the same form as a file: `{"gear3": {"parallel": {...}}}`.

    Members of IsolationLevel and path objects will do where a file has text.  Raises ConfigurationError with
    everything that is wrong; `source` is what the complaints call the dictionary.
    """
    complaints = Complaints(source)
    given = {}
    if isinstance(data, Mapping):
        given = _checked(data, complaints)
    else:
        complaints.add(f"a configuration must be a mapping of keys to values, not {type(data).__name__}")
    return _config(given, complaints.sentences())


def _checked(data: Mapping[str, Any], complaints: Complaints, root: Node | None = None) -> dict[str, Any]:
    if not data:
        return {}
    from moderator.config.schema import check  # here, because pydantic takes 75 ms to import

    given, faults = check(data, full_names=root is None)
    for fault in faults:
        complaints.add(fault.sentence, _place_of(root, fault.path, fault.at_key))
    return given


def _place_of(root: Node | None, path: tuple[str, ...], at_key: bool) -> Place | None:
    node, place = root, root.place if root else None
    for key in path:
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


def _config(given: Mapping[str, Any], complaints: Sequence[str]) -> Config:
    if len(complaints) == 1:
        raise ConfigurationError(complaints[0])
    if complaints:
        bullets = "".join(f"\n  - {complaint}" for complaint in complaints)
        raise ConfigurationError(f"{len(complaints)} things are wrong with the configuration:{bullets}")
    top = dict(given)
    gear3 = top.pop("gear3", {})
    below = {f"{name}_{key}": value for name in _FLAT_SECTIONS for key, value in top.pop(name, {}).items()}
    parallel = dict(gear3.get("parallel", {}))
    if "isolation_level" in parallel:
        parallel["isolation_level"] = IsolationLevel(parallel["isolation_level"])
    return Config(
        parallel=ParallelConfig(**parallel),
        backend_routing=BackendRoutingConfig(**gear3.get("backend_routing", {})),
        **below,
        **top,
    )
