"""Replace names that are words of their own: rename.py NEW OLD..."""

import re
import sys
from pathlib import Path

new, *old = (name.encode() for name in sys.argv[1:])
word = re.compile(rb"\b(?:" + b"|".join(map(re.escape, old)) + rb")\b")
for path in sorted(Path("lib").rglob("*.py")):
    after, count = word.subn(new, path.read_bytes())
    if count:
        path.write_bytes(after)
        print(f"{path}: {count}")
