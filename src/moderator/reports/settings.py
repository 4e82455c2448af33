"""Settings as YAML that the reader of settings reads again, with a comment behind each line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from moderator.document import flow
from moderator.reports.text import one_line


def yaml_lines(
    settings: Mapping[str, Any], note: Callable[[tuple[str, ...]], str], above: tuple[str, ...] = ()
) -> Iterator[str]:
    """Yield the lines of a mapping; `note` says what stands behind the line of a key, "" if nothing does."""
    indent = "  " * len(above)
    for key, value in settings.items():
        path = (*above, key)
        if isinstance(value, Mapping) and value:
            yield f"{indent}{flow(key)}:"
            yield from yaml_lines(value, note, path)
            continue
        comment = f"  # {one_line(said)}" if (said := note(path)) else ""
        if isinstance(value, str) and _is_block(value):
            yield f"{indent}{flow(key)}: |{comment}"
            yield from (f"{indent}  {line}" for line in value.splitlines())
        else:
            yield f"{indent}{flow(key)}: {flow(value)}{comment}"


def _is_block(text: str) -> bool:
    """Whether a text is whole lines, each of which can stand as it is."""
    *lines, rest = text.split("\n")
    return not rest and bool(lines) and all(line.isprintable() and line.strip(" ") == line != "" for line in lines)
