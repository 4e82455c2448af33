"""What kind of work a task is: said by itself, or told from its words.  Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from moderator.models import Task

KindRules = Sequence[tuple[str, tuple[str, ...]]]


def kind_of(task: Task, rules: KindRules) -> tuple[str, str]:
    """Return a task's kind, and in words what said so.

    The description is looked at first and the acceptance criteria only if no rule knows it: "all tests pass" stands in the
    criteria of tasks of every kind.  The last rule has no words and takes what is left.
    """
    if task.kind:
        return task.kind, f"kind: {task.kind}"
    for what, text in (
        ("description", f"{task.description}\n{task.prompt or ''}"),
        ("acceptance criteria", "\n".join(task.acceptance_criteria)),
    ):
        for kind, words in rules:
            if words and (found := _pattern(words).search(text)):
                return kind, f"{found[0].lower()!r} in its {what}"
    return rules[-1][0], "no rule knows its words"


@lru_cache(maxsize=256)
def _pattern(words: tuple[str, ...]) -> re.Pattern[str]:
    """Return what finds one of the words: whole ones, where `*` at the end stands for any ending."""
    forms = []
    for word in words:
        stem = r"\s+".join(re.escape(part) for part in word.removesuffix("*").split())
        forms.append(stem + (r"\w*" if word.endswith("*") else ""))
    return re.compile(rf"(?<!\w)(?:{'|'.join(forms)})(?!\w)", re.IGNORECASE)
