"""What a person sees while tasks run: a live view on a terminal, one line for each event elsewhere."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from moderator.models import Task, TaskResult
from moderator.plan import Plan
from moderator.reports import text

if TYPE_CHECKING:
    from rich.table import Table

    from moderator.execution.base import ProgressCallback


@contextmanager
def progress_shown(kind: str, plan: Plan) -> Iterator[ProgressCallback | None]:
    """Show a run's progress on standard error while the `with` lasts; `kind` is auto, live, plain or none."""
    if kind == "auto":
        kind = "live" if sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb" else "plain"
    if kind == "none":
        yield None
    elif kind == "plain":
        yield PlainProgress(len(plan.tasks))
    else:
        with LiveProgress(len(plan.tasks), plan.workers) as live:
            yield live


class PlainProgress:
    """One line for each task that starts or ends."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._ended = 0
        self._lock = threading.Lock()

    def on_task_start(self, task: Task) -> None:
        self._say(f"started   {text.one_line(task.id)}: {text.shortened(task.description, 80)}")

    def on_task_complete(self, result: TaskResult) -> None:
        with self._lock:
            self._ended += 1
            self._say(f"[{self._ended}/{self._total}] {ended_line(result)}")

    def on_attempt_end(self, result: TaskResult, backend: str, pause: float) -> None:
        self._say(again_line(result, backend, pause))

    def on_task_error(self, task: Task, error: Exception) -> None:
        """Said with the result, which follows."""

    def _say(self, line: str) -> None:
        click.echo(line, err=True)


def ended_line(result: TaskResult) -> str:
    """Return one line about how a task ended."""
    outcome = result.outcome.value if result.outcome else ""
    reason = "" if result.success else f": {text.shortened(result.error_message or '', 80)}"
    mark = "✓" if result.success else "✗"
    return f"{mark} {text.one_line(result.task.id)} {outcome} in {text.duration(result.duration_seconds)}{reason}"


def again_line(result: TaskResult, backend: str, pause: float) -> str:
    """Return one line about an attempt that another one follows."""
    when = f"in {text.duration(pause)}" if pause else "now"
    return (
        f"↻ {text.one_line(result.task.id)}: {result.backend} failed ({text.shortened(result.error_message or '', 60)}); "
        f"{'again' if backend == result.backend else backend} {when}"
    )


class LiveProgress:
    """What runs now, with how long it has run, under a bar; what ended scrolls away above."""

    def __init__(self, total: int, workers: int) -> None:
        from rich.console import Console
        from rich.live import Live

        self._total = total
        self._workers = workers
        self._good = self._bad = 0
        self._running: dict[str, tuple[Task, float]] = {}
        self._lock = threading.Lock()
        self._console = Console(stderr=True, no_color=bool(os.environ.get("NO_COLOR")) or None, highlight=False)
        self._live = Live(console=self._console, get_renderable=self._picture, refresh_per_second=8, transient=True)

    def __enter__(self) -> LiveProgress:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def on_task_start(self, task: Task) -> None:
        with self._lock:
            self._running[task.id] = (task, time.monotonic())

    def on_task_complete(self, result: TaskResult) -> None:
        from rich.text import Text

        with self._lock:
            self._running.pop(result.task.id, None)
            self._good += result.success
            self._bad += not result.success
        self._console.print(Text(ended_line(result), style="green" if result.success else "red"))

    def on_attempt_end(self, result: TaskResult, backend: str, pause: float) -> None:
        from rich.text import Text

        self._console.print(Text(again_line(result, backend, pause), style="yellow"))

    def on_task_error(self, task: Task, error: Exception) -> None:
        """Said with the result, which follows."""

    def _picture(self) -> Table:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        now = time.monotonic()
        with self._lock:
            running = list(self._running.values())
            ended, bad = self._good + self._bad, self._bad
        picture = Table.grid(padding=(0, 1))
        for task, began in running:
            took = text.duration(now - began)
            picture.add_row(
                Text("●", style="cyan"),
                Text(text.shortened(task.id, 28)),
                Text(took.rjust(7), style="cyan"),
                Text(text.shortened(task.description, max(self._console.width - 48, 10)), style="bright_black"),
            )
        waiting = self._total - ended - len(running)
        counts = f"{ended}/{self._total} ended, {len(running)} running, {waiting} waiting"
        outer = Table.grid()
        outer.add_row(picture)
        line = Table.grid(padding=(0, 1))
        line.add_row(ProgressBar(self._total, ended, width=28), Text(counts + (f", {bad} failed" if bad else "")))
        outer.add_row(line)
        return outer
