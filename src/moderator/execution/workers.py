"""The threads of a run: each takes jobs from one schedule until there is none.  One worker and many run the same code."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from moderator.execution.pipeline import Listener, Surroundings, not_started, run_attempt
from moderator.execution.scheduling import Job, Schedule
from moderator.models import TaskResult


class Workers:
    """Threads that work off a list of jobs."""

    def __init__(self, jobs: Sequence[Job], surroundings: Surroundings, listener: Listener) -> None:
        self._jobs = jobs
        self._surroundings = surroundings
        self._listener = listener
        self._results: list[TaskResult | None] = [None] * len(jobs)
        self._schedule = Schedule(jobs, surroundings.router.limit_of, lambda: surroundings.cancellation.cancelled)

    def run(self, workers: int) -> list[TaskResult]:
        """Work the jobs off on so many threads; return their results in their order."""
        threads = [
            threading.Thread(target=self._work, name=f"moderator-{number}", daemon=True) for number in range(workers)
        ]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                _join(thread)
        except BaseException:
            # Ctrl-C without a handler of ours: no task outlives the call.
            self._surroundings.cancellation.cancel()
            for thread in threads:
                if thread.ident:
                    thread.join()
            raise
        finally:
            held = [job.place for job in self._jobs if job.place]
            results = [
                result or not_started(job, self._surroundings)
                for job, result in zip(self._jobs, self._results, strict=True)
            ]
            for place in held:  # of jobs that the end of the run came before, while they waited to be tried again
                place.release()
        return results

    def _work(self) -> None:
        while job := self._schedule.take():
            taken_for = job.backend_name
            if self._give_to_another(job):
                self._schedule.put_back(job, taken_for, 0.0)
                continue
            step = run_attempt(job, self._surroundings, self._listener)
            if step.following:
                self._schedule.put_back(job, taken_for, step.following.pause)
            else:
                self._results[job.index] = step.result
                self._schedule.end(taken_for)

    def _give_to_another(self, job: Job) -> bool:
        """Give a job to the next of its row if its backend has said meanwhile that it cannot work."""
        router = self._surroundings.router
        if job.backend is None or (known := router.availability(job.backend.name)).usable:
            return False
        there = [one for one in job.candidates if router.availability(one.name).usable]
        if not there:
            return False  # it may say so itself once more
        job.notes.append(
            f"{job.backend.name} cannot be used any more ({known.problem}); {there[0].name} took its place"
        )
        job.backend = there[0]
        return True


def _join(thread: threading.Thread) -> None:
    while thread.is_alive():
        thread.join(0.2)  # in short steps, so that signals are handled meanwhile
