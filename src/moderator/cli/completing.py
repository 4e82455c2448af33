"""What can come next on a command line: the program that a shell starts at every TAB.

    python -I -S -c PROGRAM SHELL WORD...            # zsh, fish: the words up to the cursor, without quotes
    python -I -S -c PROGRAM bash LINE POINT BREAKS   # bash: its COMP_LINE, COMP_POINT and COMP_WORDBREAKS

PROGRAM is made by `shell-init`: it imports this module alone and calls `run` with the table of all commands and options.  click has
completion too, but it has to import click and the command first, five times what the interpreter needs to start.  So this
imports nothing, not even what reads JSON, and starts no git: task ids are read from the records beside the repository, in the
form in which `git.registry` and `git.removals` write them, a field a line.

First a word is printed that says what else the shell shall complete: "+files", "+folders", "+commands", or "+" for nothing; then
the candidates.  For bash they end with NUL and are as they go into the line; otherwise with a line break and may have a tab and
a description.  Whatever is wrong here is silence: nobody wants a traceback in the line he types.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # each import is felt at every TAB, that of `typing` too
if TYPE_CHECKING:
    from typing import Any

    Node = dict[str, Any]
    """A command: `help`, `options` (name -> what its value is), `arguments` (what each is), `many` (the last one repeats),
    `commands` (name -> another)."""

FLAG, VALUE, FILE, FOLDER, TASK, REMOVED, COMMAND = "flag", "value", "file", "folder", "task", "removed", "command"
"""What an option's value or an argument can be, apart from a list of choices."""
_ELSE = {FILE: "+files", FOLDER: "+folders", COMMAND: "+commands"}
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-")
_IN_DOUBLE_QUOTES = '"\\$`'
_LONGEST_POINTER = 4096  # bytes read of a `.git` file


def candidates(table: Node, words: list[str]) -> tuple[str, list[tuple[str, str]]]:
    """Return what else to complete, and what the last of these words can become, each with a description or ""."""
    node, repo, dashes, awaited = table, ".", False, ""
    given: list[str] = []
    for place, word in enumerate(words[1:-1], 1):
        if awaited:
            repo = word if awaited == "--repo" else repo
            awaited = ""
        elif word == "--" and not dashes:
            if COMMAND in node["arguments"] and place > 2:  # of a command of ours that takes one, with what it is for
                return (_ELSE[COMMAND] if place == len(words) - 2 else _ELSE[FILE]), []
            dashes = True
        elif word == "--" and COMMAND in node["arguments"]:
            return (_ELSE[COMMAND] if place == len(words) - 2 else _ELSE[FILE]), []
        elif word.startswith("-") and len(word) > 1 and not dashes:
            name, equals, value = word.partition("=")
            repo = value if name == "--repo" and equals else repo
            awaited = name if not equals and node["options"].get(name, FLAG) != FLAG else ""
        elif node["commands"]:
            if (node := node["commands"].get(word)) is None:
                return "+", []
        else:
            given.append(word)
    last = words[-1]
    if awaited:
        return _values(node["options"][awaited], repo, given)
    if last.startswith("-") and not dashes:
        name, equals, _ = last.partition("=")
        if not equals:
            return "+", [(option, "") for option in sorted(node["options"])]
        kind, found = _values(node["options"].get(name, VALUE), repo, given)
        return kind, [(f"{name}={value}", text) for value, text in found]
    if node["commands"]:
        return "+", [(name, one["help"]) for name, one in node["commands"].items()]
    arguments = [one for one in node["arguments"] if one != COMMAND]
    if not arguments or (len(given) >= len(arguments) and not node["many"]):
        return "+", []
    kind, found = _values(arguments[min(len(given), len(arguments) - 1)], repo, given)
    # Without "--" before it, an id that begins with a dash would be taken for an option.
    return kind, [one for one in found if dashes or not one[0].startswith("-")]


def matching(found: list[tuple[str, str]], begun: str) -> list[tuple[str, str]]:
    """Return the candidates that go on with what has been typed."""
    return [one for one in found if one[0].startswith(begun)]


def _values(kind: str | list[str], repo: str, given: list[str]) -> tuple[str, list[tuple[str, str]]]:
    if isinstance(kind, list):
        return "+", [(choice, "") for choice in kind]
    if kind == TASK:
        return "+", [(one, "") for one in task_ids(repo) if one not in given]
    if kind == REMOVED:
        return "+", [(one, "") for one in removed_ids(repo) if one not in given]
    return _ELSE.get(kind, "+"), []


def task_ids(repo: str) -> list[str]:
    """Return the ids of the tasks that have a workspace here, sorted; those that cannot be typed in one line are left out."""
    return _ids(repo, "workspaces")


def removed_ids(repo: str) -> list[str]:
    """Return the ids of the tasks whose workspaces were removed here, sorted."""
    return _ids(repo, "removed")


def _ids(repo: str, folder: str) -> list[str]:
    found = set()
    common = common_directory(os.path.expanduser(repo))
    records = os.path.join(common, "moderator", folder) if common else ""
    for name in os.listdir(records) if os.path.isdir(records) else ():
        if name.endswith(".json"):
            try:
                found.add(_id_in(_content(os.path.join(records, name))))
            except (OSError, ValueError):
                continue  # removed this moment, or damaged: moderator doctor tells
    return sorted(one for one in found if one and one.isprintable())


def _id_in(record: bytes) -> str:
    """Return the task id that a record holds, "" if it holds none."""
    for line in record.split(b"\n"):
        name, _, value = line.strip().rstrip(b",").partition(b": ")
        if name == b'"task_id"' and value.startswith(b'"') and value.endswith(b'"'):
            # Python knows all the escapes of ASCII JSON, but takes the halves of a pair of surrogates for two characters.
            halves = value[1:-1].decode("unicode_escape")
            return halves.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    return ""


def _content(path: str) -> bytes:
    if not os.path.isfile(path):
        raise FileNotFoundError(path)  # a pipe would be waited for
    with open(path, "rb") as file:
        return file.read()


def common_directory(folder: str) -> str:
    """Return the common directory of the repository that a folder is in, "" if it is in none; git is not asked."""
    here = os.path.abspath(folder)
    while True:
        git = os.path.join(here, ".git")
        if os.path.isdir(git):
            return git
        if os.path.isfile(git):
            with open(git, "rb") as file:
                named = os.fsdecode(file.read(_LONGEST_POINTER)).removeprefix("gitdir: ").rstrip("\n")
            entry = os.path.join(here, named)
            try:
                named = os.fsdecode(_content(os.path.join(entry, "commondir"))).rstrip("\n")
                return os.path.normpath(os.path.join(entry, named))
            except OSError:
                return entry
        if all(os.path.exists(os.path.join(here, part)) for part in ("HEAD", "objects", "refs")):
            return here  # a bare repository, or inside a git directory
        above = os.path.dirname(here)
        if above == here:
            return ""
        here = above


# -- bash, which hands over the line as it was typed and takes what replaces the end of it -----------------------------


class Typed:
    """A line as bash reads it: its words without quotes, and how the last one was begun.

    `raw` is the last word as it was typed, `quote` the quote that is still open in it, `kept` how much of it stays: bash replaces
    what follows the open quote, or the last of its own word breaks.  `is_plain`: it says what it means, no variable is in it.
    """

    def __init__(self, line: str, breaks: str) -> None:
        self.words, self.raw, self.quote, self.kept = [""], "", "", 0
        escaped = self.expands = False
        for sign in line:
            if escaped:
                # In double quotes a backslash protects only what is special there.
                self.words[-1] += sign if not self.quote or sign in _IN_DOUBLE_QUOTES else "\\" + sign
                escaped = False
            elif sign == "\\" and self.quote != "'":
                escaped = True
            elif sign in "$`" and self.quote != "'":
                self.expands = True
                self.raw += sign
                continue
            elif self.quote:
                if sign == self.quote:
                    self.quote = ""
                else:
                    self.words[-1] += sign
            elif sign in "'\"":
                self.quote, self.kept = sign, len(self.raw) + 1
            elif sign in " \t\n":
                if self.raw:
                    self.words.append("")
                self.raw, self.kept, self.expands = "", 0, False
                continue
            else:
                self.words[-1] += sign
                if sign in breaks:
                    self.kept = len(self.raw) + 1
            self.raw += sign
        self.is_plain = not (escaped or self.expands)

    def become(self, word: str) -> str:
        """Return what takes the place of the end of the line so that its last word becomes this one."""
        rest = word[len(self.words[-1]) :]
        if self.quote == "'":
            rest = rest.replace("'", "'\\''")
        elif self.quote:
            rest = "".join("\\" + sign if sign in _IN_DOUBLE_QUOTES else sign for sign in rest)
        else:
            rest = "".join(sign if sign in _PLAIN or sign > "\x7f" else "\\" + sign for sign in rest)
        if self.quote and (self.raw + rest).endswith(self.quote):
            rest += self.quote  # which bash leaves to us then: it takes the last sign for the one that closes
        return (self.raw + rest)[self.kept :]


def answer(table: Node, shell: str, *rest: str) -> str:
    """Return what is printed for a shell."""
    if shell == "bash":
        line, point, breaks = rest
        typed = Typed(line[: int(point)], breaks)
        if not typed.is_plain:
            return "+\0"
        kind, found = candidates(table, typed.words)
        replies = [typed.become(word) for word, _ in matching(found, typed.words[-1])]
        return "".join(one + "\0" for one in (kind, *replies))
    kind, found = candidates(table, list(rest))
    if not any(sign in rest[-1] for sign in "'\"\\"):  # what is quoted the shell itself compares
        found = matching(found, rest[-1])
    return "".join(one + "\n" for one in (kind, *("\t".join(filter(None, pair)) for pair in found)))


def run(table: Node) -> None:
    """Answer the command line of this process."""
    try:
        sys.stdout.buffer.write(os.fsencode(answer(table, *sys.argv[1:])))
    except Exception:  # noqa: BLE001 - see above
        sys.exit(1)
