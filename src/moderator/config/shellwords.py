"""What of a command line a shell would read as its program.

A command line of a backend is executed as it is, but it may call a shell, at once or by way of `env`, `timeout` and their like.
What stands where such a shell looks for its program must hold no words of a task.  Must not know what a backend is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence

from moderator.templates import names_in

STDIN = None
"""Stands for standard input, where a shell reads its program if it is given none."""

_SHELL = re.compile(
    r"(r?bash|[bd]?ash|sh|zsh|[mlpo]?ksh(93)?|posh|yash|fish|t?csh|nu|elvish|xonsh|pwsh|powershell)[-\d.]*(\.exe)?",
    re.I,
)
_LAUNCHERS = frozenset(
    ("env", "timeout", "nice", "nohup", "stdbuf", "setsid", "ionice", "chrt", "taskset", "time", "busybox", "unshare"),
)
"""Programs that execute the command line behind their own options."""
_WITH_WORD = ("--rcfile", "--init-file")
"""Options of shells behind which a word of their own stands, besides -o and -O."""


def shell_programs(words: Sequence[str]) -> Iterator[str | None]:
    """Yield everything in a command line that a shell would take for its program, or for the name of a file that holds it."""
    if _name(words[0]) == "env":
        yield from _split_by_env(words)
    # A shell's name among the arguments of another program, or of another shell, need not be one that is executed.
    executed = _SHELL.fullmatch(_name(words[0])) is not None or _name(words[0]) in _LAUNCHERS
    for index, word in enumerate(words):
        if _SHELL.fullmatch(_name(word)):
            yield from _of_shell(words[index + 1 :], executed)
            executed = False


def is_program(text: str | None, prompt: str) -> bool:
    """Whether what a shell takes for its program would hold words of a task; `prompt` is how the prompt goes in."""
    return prompt == "stdin" if text is STDIN else bool(names_in(text))


def _of_shell(words: Sequence[str], executed: bool) -> Iterator[str | None]:
    given = reads_input = False
    rest = list(reversed(words))
    while rest:
        word = rest.pop()
        if word in ("-", "--"):
            word = rest.pop() if rest else ""
        elif word[:1] in ("-", "+"):
            yield word  # no option of a shell needs a placeholder, nor does its word, and some hold their program themselves
            given = given or "c" in word.lower()
            reads_input = reads_input or (word[1:2] != "-" and "s" in word)
            for _ in range(int(word in _WITH_WORD) if word.startswith("--") else word.lower().count("o")):
                if rest and rest[-1][:1] not in ("-", "+"):
                    yield rest.pop()
            continue
        if given:
            yield word
        elif executed and reads_input:
            yield STDIN
        elif executed and names_in(word) & {"prompt", "prompt_file"}:
            yield word
        return
    if executed and not given:
        yield STDIN


def _split_by_env(words: Sequence[str]) -> Iterator[str]:
    """Yield what `env -S` splits into the words of a command line."""
    for index, word in enumerate(words[1:], 1):
        if word.startswith("--split-string") or re.match("-[a-zA-Z]*S", word):
            yield word
            yield from words[index + 1 : index + 2]


def _name(word: str) -> str:
    return os.path.basename(word)
