"""A backend to test with: `agent` is a program that behaves like an AI agent's command line, well or badly, without one.

    from moderator.testing import fake_backend
    config = {"backends": {"fake": fake_backend("codex-jsonl", "edit"), "flaky": fake_backend("claude-json", "rate-limit")}}

It is started like the real ones, as a process of its own, so that limits, output, kills and retries are the real ones too.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

__all__ = ["fake_backend"]


def fake_backend(
    dialect: str = "text", behaviour: str = "edit", *options: str, prompt: str = "stdin", **keys: Any
) -> dict[str, Any]:
    """Return an entry for `backends:` in a configuration: an agent that speaks `dialect` and does `behaviour`.

    `options` are passed to the agent (`python -m moderator.testing.agent --help` lists them), `prompt` is how the prompt goes
    in, `keys` are further keys of the entry.
    """
    program = [sys.executable, "-I", "-m", "moderator.testing.agent"]
    how: Sequence[str] = {
        "stdin": (),
        "file": ("--prompt-file", "{prompt_file}"),
        "argument": ("--prompt", "{prompt}"),
    }[prompt]
    return {
        "argv": [*program, "--dialect", dialect, "--do", behaviour, *options, *how],
        "prompt": prompt,
        "parser": dialect,
        "probe": [*program, "--version"],
        "retry": ["rate limit", "ECONNREFUSED"],
        "give_up": ["not logged in"],
        **keys,
    }
