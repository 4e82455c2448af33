"""A configuration as a file would have it: the way back from `Config`, with every key.

Loading what is returned here gives the same configuration, but for where a program that is missing can be had.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from enum import Enum
from typing import Any

from moderator.config.presets import SHELL
from moderator.config.schema import every_key
from moderator.config.settings import BackendConfig, Config
from moderator.furnishing import Carry, Render, as_plain

_ONLY_SHIPPED = ("name", "install")


def as_mapping(config: Config) -> dict[str, Any]:
    """Return every setting under its name in a file, in the order of the file's model."""
    found: dict[str, Any] = {}
    for name in every_key():
        *sections, key = name.split(".")
        into = found
        for section in sections:
            into = into.setdefault(section, {})
        into[key] = _plain(_value(config, (*sections, key)))
    return found


def _value(config: Config, path: tuple[str, ...]) -> Any:
    if path == ("gear3", "backend_routing", "kinds"):
        return [{"kind": kind, "words": list(words)} for kind, words in config.backend_routing.kinds]
    if path == ("open",):
        return config.open or None
    if path == ("ports", "range"):
        return "{}-{}".format(*config.ports_range)
    if path[0] == "gear3":
        return getattr(getattr(config, path[1]), path[2])
    return getattr(config, "_".join(path))


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, BackendConfig):
        return _backend(value)
    if isinstance(value, Carry | Render):
        return as_plain(value)
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, tuple | list) else value


def _backend(backend: BackendConfig) -> dict[str, Any]:
    """Return what differs from a backend of which nothing is said."""
    said = {
        one.name: _plain(getattr(backend, one.name))
        for one in fields(backend)
        if one.name not in _ONLY_SHIPPED and getattr(backend, one.name) not in (one.default, {})
    }
    return {"extends": SHELL, **said} if backend.is_shell else said
