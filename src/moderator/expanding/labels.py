"""From the values that a task is made for to its id: pure, total, bounded, the same on every platform for ever.

A value's part of an id depends on that value alone, so that ids stay what they are when others come or go.  The rule is
that of `naming`: a value that is a readable name is taken as it is, `/` as `--`; whenever more had to happen to it, 8 hex
digits of its SHA-256 follow.  Must not know where values come from.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from moderator.naming import HASH_LENGTH
from moderator.templates import fill, names_in

LONGEST_LABEL = 60
"""Characters of one value's part of an id, its hash included."""
HASH = "hash"
"""The placeholder in an id that tells any two combinations apart."""

# Words with one `-`, `_` or `/` between them: where two of these meet, "a--b" could be "a/b" as well.
_READABLE = r"[A-Za-z0-9.]+([-_/][A-Za-z0-9.]+)*"


def label(value: str) -> str:
    """Return a value's part of an id, in the alphabet `[A-Za-z0-9._-]`.

    >>> [label(value) for value in ("3.11", "ubuntu-latest", "src/a_b.py", "src/__init__.py", "it's", "日本語")]
    ['3.11', 'ubuntu-latest', 'src--a_b.py', 'src-init.py-6b39a2f1', 'it-s-24ceef1c', '77710aed']
    """
    if _is_readable(value):
        return value.replace("/", "--")
    room = LONGEST_LABEL - HASH_LENGTH - 1
    words = re.sub(r"[^A-Za-z0-9.]+", "-", value)
    # The end of a path tells more than where it begins.
    kept = re.sub(r"-?\.[-.]*", ".", words).strip("-.")[-room:].strip("-.")
    return f"{kept}-{_hashed(value)}" if kept else _hashed(value)


def combination_hash(values: Mapping[str, str]) -> str:
    """Return what stands for `{hash}` in an id: of names and values, in whatever order they come."""
    return _hashed("\0".join(f"{name}\0{value}" for name, value in sorted(values.items())))


def expanded_id(template: str, values: Mapping[str, str]) -> str:
    """Return the id of the task that is made for these values.

    A template without placeholders gets the values' labels behind it, in their order.

    >>> expanded_id("test", {"py": "3.11", "db": "sqlite"}), expanded_id("{db}.{py}", {"py": "3.11", "db": "sqlite"})
    ('test-3.11-sqlite', 'sqlite.3.11')
    """
    labels = {name: label(value) for name, value in values.items()}
    if not names_in(template):
        return "-".join((fill(template, {}), *labels.values()))
    return fill(template, {**labels, HASH: combination_hash(values)})


def _is_readable(value: str) -> bool:
    return (
        len(value) + value.count("/") <= LONGEST_LABEL
        and re.fullmatch(_READABLE, value) is not None
        and ".." not in value  # and what `naming` would mend at the end of an id
        and not value.lower().endswith((".", ".lock"))
    )


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:HASH_LENGTH]
