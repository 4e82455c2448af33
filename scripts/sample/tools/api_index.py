"""Write an index of public classes and functions, with the first line of what is said about each."""

import ast
import sys
from pathlib import Path

target = Path(sys.argv[1])
target.parent.mkdir(exist_ok=True)
lines = ["# Public names", ""]
for path in sorted(Path("lib").rglob("*.py")):
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError as error:
        print(f"skipped {path}: {error}")
        continue
    found = [
        node
        for node in tree.body
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and not node.name.startswith("_")
    ]
    if found:
        lines += [f"## {path}", ""]
        for node in found:
            said = (ast.get_docstring(node) or "").partition("\n")[0]
            lines.append(f"- `{node.name}`" + (f": {said}" if said else ""))
        lines.append("")
target.write_text("\n".join(lines), "utf-8")
print(f"{target}: {sum(line.startswith('- ') for line in lines)} names")
