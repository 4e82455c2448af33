"""The backends that are shipped, written as a configuration file would write them.

Facts about other people's programs, each tried with the real one without network or login (November 2026) but for goose,
which is from its documentation.  No preset lets an agent make a worktree or commit: that is ours.
"""

from __future__ import annotations

from typing import Any

_STATUS = r"\b(status|http(/[\d.]+)?|error|code|api)\W{0,8}(code\W{0,4})?"
"""What stands before a number that is the status of an answer, not one of the task's."""
_NETWORK = [
    r"\brate.?limit", r"\btoo many requests\b", _STATUS + r"(429|502|503|504|529)\b", r"\boverloaded_error\b",
    r"\b(server|provider|model|engine|api)('?s servers)?\b.{0,30}\boverloaded\b", r"\bservice unavailable\b",
    r"\bquota (was |is |has been )?(exceeded|exhausted)", r"\bexceeded (your|the|its) .{0,30}quota", r"\binsufficient_quota\b",
    r"\busage limit (reached|exceeded)", r"\b(reached|hit|exceeded) (your|the|its) .{0,30}(usage )?limit\b",
    r"\b(ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENOTFOUND|EAI_AGAIN|ENETUNREACH)\b",
    r"\bconnection (refused|reset|error|timed out)", r"\bnetwork (error|is unreachable)\b", r"\bwaiting for network\b",
    r"\bcould not resolve host", r"\btemporary failure in name resolution", r"\bfetch failed\b", r"\bunable to connect\b",
    r"\bstream disconnected\b", r"\breconnecting\b",
]  # fmt: skip
_LOGIN = [
    r"\bnot logged in\b", r"\bplease (log|sign) ?in\b", r"\blog ?in (is )?required", r"\b401 unauthori[sz]ed\b",
    _STATUS + r"401\b", r"\bunauthori[sz]ed\W*$", r"\binvalid (api|authentication|access) (key|token)\b",
    r"\bauthentication (failed|error|required|information)\b", r"\bno auth(entication)? (method|credentials|information)\b",
    r"\bset an auth method\b", r"\bcredit balance is\b",
]  # fmt: skip

SHELL = "shell"
"""The name of the one that executes the tasks' own commands."""

PRESETS: dict[str, dict[str, Any]] = {
    SHELL: {},
    "claude_code": {
        "argv": [
            "claude", "-p", "--output-format", "stream-json", "--verbose", "--permission-mode", "acceptEdits", "{extra_args}",
        ],
        "prompt": "stdin",
        "parser": "claude-json",
        "probe": ["claude", "--version"],
        "login": ["claude", "auth", "status"],
        "login_env": [
            "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN", "CLAUDE_CODE_USE_BEDROCK",
            "CLAUDE_CODE_USE_VERTEX",
        ],
        "install": "npm install -g @anthropic-ai/claude-code",
    },
    "codex": {
        "argv": [
            "codex", "exec", "--json", "--color", "never", "-s", "workspace-write", "-C", "{workspace}", "{extra_args}", "-",
        ],
        "prompt": "stdin",
        "parser": "codex-jsonl",
        "probe": ["codex", "--version"],
        "login": ["codex", "login", "status"],
        "login_env": ["CODEX_API_KEY", "OPENAI_API_KEY"],
        "idle_timeout": 600,  # without a network it goes on reconnecting for ever
        "install": "npm install -g @openai/codex",
    },
    "gemini": {
        # A new worktree is a folder nobody has trusted yet, and edits are refused there.  The prompt is read from standard
        # input; what -p has is put behind it.
        "argv": ["gemini", "-o", "stream-json", "--approval-mode", "auto_edit", "--skip-trust", "{extra_args}", "-p", " "],
        "prompt": "stdin",
        "parser": "gemini-json",
        "probe": ["gemini", "--version"],
        "login_env": ["GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GENAI_USE_VERTEXAI", "GOOGLE_GENAI_USE_GCA"],
        "login_files": ["~/.gemini/oauth_creds.json"],
        "install": "npm install -g @google/gemini-cli",
    },
    "copilot": {
        "argv": [
            "copilot", "--allow-all-tools", "--no-ask-user", "--output-format", "json", "--no-color", "--no-auto-update",
            "{extra_args}", "-p", "{prompt}",
        ],
        "prompt": "argument",
        "parser": "copilot-jsonl",
        "probe": ["copilot", "--version"],
        "login_env": ["COPILOT_GITHUB_TOKEN", "GH_TOKEN", "GITHUB_TOKEN"],
        "install": "npm install -g @github/copilot",
    },
    "opencode": {
        "argv": ["opencode", "run", "--format", "json", "--auto", "--dir", "{workspace}", "{extra_args}", "{prompt}"],
        "prompt": "argument",
        "parser": "opencode-json",
        "probe": ["opencode", "--version"],
        "login_files": ["~/.local/share/opencode/auth.json"],
        "install": "npm install -g opencode-ai",
    },
    "aider": {
        "argv": [
            "aider", "--message-file", "{prompt_file}", "--yes-always", "--no-auto-commits", "--no-dirty-commits",
            "--no-stream", "--no-pretty", "--no-check-update", "--no-show-release-notes", "--analytics-disable",
            "--no-gitignore", "--no-show-model-warnings", "--no-detect-urls", "--chat-history-file",
            "{state_dir}/aider.chat.history.md", "--input-history-file", "{state_dir}/aider.input.history",
            "--llm-history-file", "{state_dir}/aider.llm.history", "{extra_args}",
        ],
        "prompt": "file",
        "parser": "text",
        "probe": ["aider", "--version"],
        # It ends with 0 when the API is dead, so what it says last decides.
        "failed": [r"litellm\.\w*Error", r"api provider .* (is )?unavailable"],
        "give_up": [r"litellm\.AuthenticationError", r"no (llm )?model was specified", r"openrouter.*(login|oauth)"],
        "litter": [".aider*"],
        "install": "pipx install aider-chat",
    },
    "goose": {
        "argv": [
            "goose", "run", "--no-session", "-q", "--output-format", "json", "-i", "{prompt_file}", "{extra_args}",
        ],
        "prompt": "file",
        "parser": "goose-json",
        "probe": ["goose", "--version"],
        "env": {"GOOSE_MODE": "auto"},
        "install": "",
    },
}  # fmt: skip
"""Every preset by name; the words of `extra_args` come where `{extra_args}` stands."""

for _name, _preset in PRESETS.items():
    if _name != SHELL:
        _preset.setdefault("idle_timeout", 900)
        _preset["retry"] = [*_preset.get("retry", ()), *_NETWORK]
        _preset["give_up"] = [*_preset.get("give_up", ()), *_LOGIN]
