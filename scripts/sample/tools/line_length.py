"""Fail if a line is longer than allowed, naming the ten longest."""

import sys
from pathlib import Path

longest = int(sys.argv[1])
found = [
    (len(line), f"{path}:{number}")
    for path in Path("lib").rglob("*.py")
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1)
    if len(line) > longest
]
for length, where in sorted(found, reverse=True)[:10]:
    print(f"{where}: {length} characters", file=sys.stderr)
if found:
    sys.exit(f"{len(found)} lines are longer than {longest} characters")
