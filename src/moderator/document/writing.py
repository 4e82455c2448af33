"""Values as YAML that `reading` reads as the same values.

Must not know what they mean.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from moderator.document.nodes import scalar_value

_PLAIN = r"(?!-+( |$)|---|\.\.\.)[A-Za-z_./-]([A-Za-z0-9_./=& -]*[A-Za-z0-9_./=-])?"


def flow(value: Any) -> str:
    """Return a value in one line of YAML that is read as the same value: texts are quoted where they need it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{flow(key)}: {flow(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, str):
        return json.dumps(value)
    if re.fullmatch(_PLAIN, value) and scalar_value(value) == value:
        return value
    quoted = json.dumps(value, ensure_ascii=False)
    return "".join(char if char.isprintable() else _escaped(ord(char)) for char in quoted)


def _escaped(code: int) -> str:
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
