"""The JSON Schema of a configuration file: the models that check one, with what the documented file says of each key.

So neither can rot: a key that is checked is in the schema, and a test demands a comment for every key of the documented file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from moderator.config.schema import shape
from moderator.document import MappingNode, Node, read_document

DIALECT = "https://json-schema.org/draft/2020-12/schema"
DOCUMENTED = Path(__file__).with_name("documented.yaml")
"""Every setting with its default and a comment."""

OF_A_BACKEND = {
    "extends": "The backend that this one is like; what is set here wins.",
    "argv": "What is executed, as it is, no shell; filled in are "
    "{workspace} {branch} {base} {state_dir} {task_id} {prompt} {prompt_file}.",
    "extra_args": "More words of the command line, at its end or where {extra_args} stands in argv.",
    "prompt": "How the prompt goes in: on standard input, as {prompt_file} or as {prompt} in argv.",
    "parser": "What the output is read as.",
    "probe": "A command that ends with 0 where the program is there, and prints its version.",
    "login": "A command that ends with 0 where the program is logged in.",
    "login_env": "Variables one of which is enough to be logged in.",
    "login_files": "Files one of which is enough to be logged in.",
    "env": "Variables added to its environment; placeholders as in argv.",
    "failed": "Regular expressions that, in its last lines, mean that it failed in spite of exit code 0.",
    "retry": "Regular expressions that, in a failure, mean: try again.",
    "give_up": "Regular expressions that, in a failure, mean: it is of no use to try again.",
    "limit": "How many of its tasks run at once. null: as many as there are workers.",
    "timeout": "Seconds for a task that has no limit of its own. null: the run's.",
    "idle_timeout": "Seconds without output for a task that has no limit of its own. null: the run's.",
    "template": "What it is told, with the placeholders of prompt_template. null: that one.",
    "litter": "Patterns of what it leaves at the top of a workspace and nobody wants committed.",
}
_OF_A_KIND = {
    "kind": "What the tasks are that the rule finds.",
    "words": "Words one of which stands in the description; 'test*' is every word that begins so.",
}
_OF_A_CARRY = {
    "path": "What is carried: a path from the top, with patterns.",
    "by": "How: clone shares with the original what neither writes to, link is a symbolic link to it.",
}
_OF_A_RENDER = {
    "from": "The template: tracked, or ignored by git in the main checkout.",
    "to": "Where it goes, which git ignores; default: its name without its ending.",
}
_WITHIN = {"Backend": OF_A_BACKEND, "KindRule": _OF_A_KIND, "Carry": _OF_A_CARRY, "Render": _OF_A_RENDER}
"""What stands under no key of its own in the documented file, by the definition that it is in."""


def config_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of `moderator.yaml`."""
    schema = _plain(shape())
    definitions = schema.pop("$defs")
    for name, said in _WITHIN.items():
        for key, one in definitions[name]["properties"].items():
            one["description"] = said.get(key, "")
    comments = comments_of(DOCUMENTED)
    for path, holder, key in _leaves(schema, definitions):
        if path in comments:
            holder[key] = {"description": comments[path], **holder[key]}
    return {"$schema": DIALECT, "title": "moderator.yaml", **schema, "$defs": definitions}


def comments_of(path: Path) -> dict[str, str]:
    """Return the comment above each key of a YAML file, by the key's full name."""
    lines = path.read_text("utf-8").splitlines()

    def below(node: Node | None, prefix: str) -> Iterator[tuple[str, str]]:
        for name, (key, value) in node.entries.items() if isinstance(node, MappingNode) else ():
            above = []
            at = key.place.line - 2
            while at >= 0 and lines[at].strip().startswith("#"):
                above.append(lines[at].strip().lstrip("#").strip())
                at -= 1
            if above:
                yield prefix + name, " ".join(reversed(above))
            yield from below(value, f"{prefix}{name}.")

    return dict(below(read_document(path).root, ""))


def _plain(schema: Any) -> Any:
    """Return a schema without what pydantic makes up: titles, and underscores in the names of definitions."""
    if isinstance(schema, list):
        return [_plain(one) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    plain = {}
    for key, value in schema.items():
        if key in ("properties", "$defs"):
            plain[key] = {name.removeprefix("_"): _plain(one) for name, one in value.items()}
        elif key == "$ref":
            plain[key] = value.replace("/_", "/")
        elif key != "title":
            plain[key] = _plain(value)
    return plain


def _leaves(
    schema: Mapping[str, Any], definitions: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield the full name of every key, and where its schema stands."""
    for key, one in schema["properties"].items():
        yield prefix + key, schema["properties"], key
        for option in one.get("anyOf", ()):
            if "$ref" in option:
                yield from _leaves(definitions[option["$ref"].rpartition("/")[2]], definitions, f"{prefix}{key}.")
