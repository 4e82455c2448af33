"""What is written down of attempts while they last: who makes each of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from moderator.models import Task
from moderator.orchestrator import Orchestrator
from moderator.store import Store, history_file
from moderator.testing import fake_backend
from runs import Listening, sample, words


def test_an_attempt_that_is_being_made_is_recorded_with_who_makes_it(tmp_path: Path) -> None:
    """Also where that is another than was planned, for the planned one has said meanwhile that it cannot work."""
    out = fake_backend("gemini-json", "need-login")
    routing = {"backend_routing": {"default_backend": ["out", "good"]}}
    config = {"gear3": routing, "backends": {"out": out, "good": fake_backend()}}
    moderator = Orchestrator(config, sample(tmp_path))
    seen: list[Any] = []

    class Looks(Listening):
        def on_attempt_start(self, task: Task, attempt: int, backend: str) -> None:
            with Store(history_file(moderator.git.state_root)) as store:
                last = store.attempts(task_id=task.id)[-1]
            seen.append((task.id, last.attempt, last.backend, last.outcome))

    summary = moderator.run([Task(name, "Do it", prompt="Do it") for name in ("one", "two")], Looks())
    assert [words(result) for result in summary.results] == ["succeeded", "succeeded"]
    assert [one.backend for one in summary.plan.tasks] == ["out", "out"]
    assert seen == [("one", 1, "out", None), ("one", 2, "good", None), ("two", 1, "good", None)]
