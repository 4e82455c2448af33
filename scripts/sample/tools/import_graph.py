"""Write which top-level module imports which, for Graphviz."""

import ast
import sys
from pathlib import Path

target = Path(sys.argv[1])
target.parent.mkdir(exist_ok=True)
own = {path.stem for path in Path("lib").iterdir()}
edges = set()
for path in Path("lib").rglob("*.py"):
    here = path.relative_to("lib").parts[0].removesuffix(".py")
    try:
        nodes = list(ast.walk(ast.parse(path.read_bytes())))
    except SyntaxError:
        continue
    for node in nodes:
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        edges |= {(here, top) for name in names if (top := name.partition(".")[0]) in own - {here}}
target.write_text("digraph {\n" + "".join(f'  "{a}" -> "{b}";\n' for a, b in sorted(edges)) + "}\n", "utf-8")
print(f"{target}: {len(edges)} imports")
