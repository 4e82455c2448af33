"""What a JSON Schema says of a value: as much of draft 2020-12 as ours are written in; an unknown keyword is an error.

Sections: https://json-schema.org/draft/2020-12/json-schema-core, and json-schema-validation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

_TYPES: dict[str, Callable[[Any], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
}
_SAYS_NOTHING = {"$schema", "title", "description", "default", "$defs"}


def validates(schema: Mapping[str, Any], value: Any, root: Mapping[str, Any] | None = None) -> bool:
    """Say whether the value is what the schema describes."""
    root = schema if root is None else root

    def holds(keyword: str, said: Any) -> bool:
        match keyword:
            case "$ref":
                return validates(root["$defs"][said.removeprefix("#/$defs/")], value, root)
            case "type":
                return any(_TYPES[one](value) for one in ([said] if isinstance(said, str) else said))
            case "enum":
                return any(_same(value, one) for one in said)
            case "const":
                return _same(value, said)
            case "anyOf":
                return any(validates(one, value, root) for one in said)
        if isinstance(value, str):
            return re.search(said, value) is not None if keyword == "pattern" else True
        if isinstance(value, list):
            return _array(keyword, said, value, schema, root)
        if isinstance(value, dict):
            return _object(keyword, said, value, schema, root)
        if _TYPES["number"](value):
            return _number(keyword, said, value)
        return True

    unknown = schema.keys() - _SAYS_NOTHING - _KNOWN
    assert not unknown, f"unknown keywords: {unknown}"
    return all(holds(keyword, said) for keyword, said in schema.items())


def _array(keyword: str, said: Any, value: list[Any], schema: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    match keyword:
        case "items":
            return all(validates(said, one, root) for one in value[len(schema.get("prefixItems", ())) :])
        case "prefixItems":
            return all(validates(one, item, root) for one, item in zip(said, value, strict=False))
        case "minItems":
            return len(value) >= said
        case "uniqueItems":
            return all(not _same(one, other) for at, one in enumerate(value) for other in value[:at])
    return True


def _object(keyword: str, said: Any, value: dict[str, Any], schema: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    match keyword:
        case "properties":
            return all(validates(said[key], one, root) for key, one in value.items() if key in said)
        case "additionalProperties":
            more = [one for key, one in value.items() if key not in schema.get("properties", {})]
            return not more if said is False else all(validates(said, one, root) for one in more)
        case "propertyNames":
            return all(validates(said, key, root) for key in value)
        case "required":
            return all(key in value for key in said)
        case "minProperties":
            return len(value) >= said
    return True


def _number(keyword: str, said: Any, value: float) -> bool:
    return {
        "minimum": lambda: value >= said,
        "maximum": lambda: value <= said,
        "exclusiveMinimum": lambda: value > said,
    }.get(keyword, lambda: True)()


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other


_KNOWN = {
    *(
        "$ref",
        "type",
        "enum",
        "const",
        "anyOf",
        "pattern",
        "items",
        "prefixItems",
        "minItems",
        "uniqueItems",
        "properties",
    ),
    *("additionalProperties", "propertyNames", "required", "minProperties", "minimum", "maximum", "exclusiveMinimum"),
}
