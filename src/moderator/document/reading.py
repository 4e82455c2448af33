"""From a path to a document: is it a file, may it be read, is it text?

Must not know YAML; whatever is wrong becomes a complaint, so that the caller can collect those of many files.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from pathlib import Path

from moderator.document.nodes import Node, Place
from moderator.document.wording import Complaints
from moderator.opening import opened

LARGEST_FILE = 4 * 1024 * 1024
"""Bytes; a file beyond it is some other file."""

# What YAML 1.2 does not call printable (5.1); the rest of it no decoding of UTF-8 lets through.
_UNPRINTABLE = "[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]"
_LINE_BREAK = "\r\n|[\r\n\x85\u2028\u2029]"
# Compiled when there is a file to read, not when every command starts.


@dataclass(frozen=True, eq=False)
class Document:
    """What a file holds.  `root` is None if it is empty, or cannot be read, as `complaints` then says."""

    source: str
    root: Node | None
    complaints: Complaints


def read_document(path: Path) -> Document:
    """Read a YAML file.  Never raises for the sake of the file: look at `complaints` first."""
    complaints = Complaints(str(path))
    text = _decoded(_content(path, complaints), complaints)
    if text is None:
        return Document(str(path), None, complaints)
    from moderator.document.composing import parse_document  # here, because yaml takes 20 ms to import

    return Document(str(path), parse_document(text, complaints), complaints)


def _content(path: Path, complaints: Complaints) -> bytes | None:
    try:
        with opened(path) as file:
            content = file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        complaints.add("there is no such file; check the path")
    except IsADirectoryError:
        complaints.add("this is a directory; give the path of a file in it")
    except PermissionError:
        complaints.add("the file may not be read; change its permissions or give another")
    except OSError as error:
        complaints.add(f"the file cannot be read ({error.strerror or error}); check the path")
    except ValueError:
        complaints.add("no file can have this name; check the path")
    else:
        if len(content) <= LARGEST_FILE:
            return content
        complaints.add(f"the file is larger than {LARGEST_FILE // 1024 // 1024} MiB; is it the right one?")
    return None


def _decoded(content: bytes | None, complaints: Complaints) -> str | None:
    if content is None:
        return None
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        complaints.add("the file is encoded as UTF-16; save it as UTF-8", Place(1, 1))
        return None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # A byte order mark makes `start` count from behind it.
        content = content.removeprefix(codecs.BOM_UTF8)
        before = content[: error.start].decode("utf-8", "replace")
        byte = content[error.start]
        complaints.add(f"the byte 0x{byte:02x} is not UTF-8; save the file as UTF-8", _end_of(before))
        return None
    if found := re.search(_UNPRINTABLE, text):
        code = ord(found[0])
        name = "a NUL character" if code == 0 else f"the control character U+{code:04X}"
        complaints.add(f"{name} stands here; is this a text file?", _end_of(text[: found.start()]))
        return None
    return text


def _end_of(text: str) -> Place:
    lines = re.split(_LINE_BREAK, text)
    return Place(len(lines), len(lines[-1]) + 1)
