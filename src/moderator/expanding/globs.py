"""Which of many paths a pattern means: the rules of git's `:(glob)` (gitglossary(7), pathspec).

`*` and `?` stay within one component of a path; `**/` is any number of directories, `/**` everything below one.  But for one
thing: to git `?` is a byte, here it is a character.
Must not know where the paths come from.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_DEEPER = "(?:.*/)?"


def matching(paths: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """Return the paths that the patterns mean, in their order; one behind a `!` takes away what it means.

    >>> matching(["a.py", "b/c.py", "b/d/e.py"], ["**/*.py", "!b/d/**"])
    ['a.py', 'b/c.py']
    """
    wanted = [re.compile(_expression(one), re.S) for one in patterns if not one.startswith("!")]
    unwanted = [re.compile(_expression(one[1:]), re.S) for one in patterns if one.startswith("!")]
    return [
        path
        for path in paths
        if any(one.fullmatch(path) for one in wanted) and not any(one.fullmatch(path) for one in unwanted)
    ]


def fault_of(pattern: str) -> str:
    """Return what is wrong with a pattern, "" if nothing is."""
    meant = pattern.removeprefix("!")
    if meant.startswith("/") or ".." in meant.split("/"):
        return "it must lead down from the top of the repository"
    if meant.endswith("/"):
        return f"it names a directory; write {meant + '**'!r} for the files in it"
    try:
        re.compile(_expression(meant))
    except re.error as error:
        return error.msg
    return "classes such as [:alpha:] are not known here; write [a-zA-Z]" if "[:" in meant else ""


def _expression(pattern: str) -> str:
    pattern = re.sub(r"\*{3,}", "**", pattern.removeprefix("./"))
    parts: list[str] = []
    at = 0
    while at < len(pattern):
        begins = at == 0 or pattern[at - 1] == "/"
        if begins and pattern.startswith("**/", at):
            if parts[-1:] != [_DEEPER]:  # twice says no more, and takes far longer
                parts.append(_DEEPER)
            at += 3
        elif begins and pattern[at:] == "**":
            parts.append(".*")
            at += 2
        elif pattern[at] == "*":
            parts.append("[^/]*")
            while pattern[at : at + 1] == "*":
                at += 1
        elif pattern[at] == "?":
            parts.append("[^/]")
            at += 1
        elif pattern[at] == "\\" and at + 1 < len(pattern):
            parts.append(re.escape(pattern[at + 1]))
            at += 2
        elif pattern[at] == "[" and (found := re.compile(r"\[([!^]?)(\]?[^\]/]*)\]").match(pattern, at)):
            inside = re.sub(r"([\[\\&~|^])", r"\\\1", found[2]).replace("]", "\\]")
            parts.append(f"(?!/)[{'^' if found[1] else ''}{inside}]")
            at = found.end()
        else:
            parts.append(re.escape(pattern[at]))
            at += 1
    return "".join(parts)
