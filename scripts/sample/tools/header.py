"""Put a comment at the top of every module that lacks it, below a `#!` line and an encoding line."""

import re
import sys
from pathlib import Path

comment = f"# {sys.argv[1]}\n".encode()
changed = 0
for path in sorted(Path("lib").rglob("*.py")):
    lines = path.read_bytes().splitlines(keepends=True)
    top = 0
    while top < min(2, len(lines)) and (lines[top].startswith(b"#!") or re.match(rb"#.*coding[:=]", lines[top])):
        top += 1
    if comment not in lines:
        path.write_bytes(b"".join([*lines[:top], comment, *lines[top:]]))
        changed += 1
print(f"{changed} modules have a header now")
