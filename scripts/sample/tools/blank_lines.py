"""Leave at most two blank lines in a row, and none at the end of a file."""

import re
import sys
from pathlib import Path

for path in sorted(Path(sys.argv[1]).rglob("*.py")):
    before = path.read_bytes()
    after = re.sub(rb"\n(?:[ \t\x0c]*\n){3,}", b"\n\n\n", before)
    after = after.rstrip(b"\n") + b"\n" if after.strip() else after
    if after != before:
        path.write_bytes(after)
        print(path)
