"""What an agent is told, and the values that templates are filled with."""

from __future__ import annotations

from moderator.backends.calls import Place
from moderator.models import Task
from moderator.templates import fill


def values_for(task: Task, place: Place) -> dict[str, str]:
    """Return what the placeholders of an argv or a variable stand for, but for the prompt."""
    return {
        "workspace": place.path,
        "branch": place.branch or "",
        "base": place.base,
        "state_dir": place.state_dir,
        "task_id": task.id,
        "prompt": "",
        "prompt_file": "",
    }


def prompt_for(task: Task, place: Place, template: str) -> str:
    """Return what an agent is told of a task: the template, filled in."""
    asked = (task.prompt or task.description).strip()
    criteria = [one.strip() for one in task.acceptance_criteria if one.strip()]
    values = {
        "prompt": asked,
        "description": task.description.strip(),
        "criteria": "\n".join(["", "It is done when:", *(f"- {one}" for one in criteria), ""]) if criteria else "",
        "workspace": place.path,
        "branch": place.branch or "(none: a detached HEAD)",
        "base": place.base,
        "task_id": task.id,
        "kind": task.kind,
    }
    text = fill(template, values).strip() + "\n"
    # As an argument a text that begins so would pass for an option.
    return f" {text}" if text.startswith("-") else text
