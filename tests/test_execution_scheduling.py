"""Which job a free worker takes: the first in order whose backend has room, and never none while there is one."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commandline import PATIENCE
from moderator.execution.scheduling import Job, Schedule
from moderator.models import Task
from moderator.routing import Place


class Named:
    """A backend of which only its name counts."""

    def __init__(self, name: str) -> None:
        self.name = name

    def command(self, task: Task, workspace: Place) -> list[str]:
        return [self.name]


BACKENDS = {name: Named(name) for name in "xyz"}


def jobs_for(names: str) -> list[Job]:
    """Return one job for each letter: the name of its backend, `-` for none."""
    made = []
    for index, name in enumerate(names):
        backend = BACKENDS.get(name)
        made.append(Job(index, Task(str(index), "Do it"), [backend] if backend else [], backend))
    return made


def schedule(names: str, cancelled: Callable[[], bool] = lambda: False, **limits: int) -> tuple[Schedule, list[Job]]:
    jobs = jobs_for(names)
    return Schedule(jobs, limits.get, cancelled), jobs


def taken(waiting: Schedule, times: int) -> list[int | None]:
    found = [waiting.take() for _ in range(times)]
    return [job.index if job else None for job in found]


def threads_that(work: Callable[[int], None], number: int) -> Callable[[], None]:
    """Start threads; return what waits for all of them, and raises what one of them raised."""
    problems: list[BaseException] = []

    def guarded(slot: int) -> None:
        try:
            work(slot)
        except BaseException as problem:
            problems.append(problem)

    started = [threading.Thread(target=guarded, args=(slot,), daemon=True) for slot in range(number)]
    for thread in started:
        thread.start()

    def joined() -> None:
        for thread in started:
            thread.join(PATIENCE)
        assert not [thread for thread in started if thread.is_alive()], "a worker still waits"
        if problems:
            raise problems[0]

    return joined


# -- one thread --------------------------------------------------------------------------------------------------------


def test_jobs_are_taken_in_the_order_of_the_list() -> None:
    """Without limits the list is the order, whoever does the jobs, and then there is none."""
    waiting, _ = schedule("xy-xz-")
    assert taken(waiting, 8) == [0, 1, 2, 3, 4, 5, None, None]


def test_a_schedule_without_jobs_has_none() -> None:
    """An empty list keeps nobody waiting."""
    waiting, _ = schedule("")
    assert taken(waiting, 2) == [None, None]


def test_the_list_may_come_in_any_order() -> None:
    """What counts is a job's own place."""
    jobs = jobs_for("xxyx")
    waiting = Schedule(list(reversed(jobs)), lambda _: None, lambda: False)
    assert taken(waiting, 5) == [0, 1, 2, 3, None]


def test_who_has_no_room_is_passed_by() -> None:
    """A job whose backend is busy waits, those after it do not, and it is the first again when there is room."""
    waiting, _ = schedule("xxxyxy", x=1)
    first = taken(waiting, 3)
    waiting.end("x")
    second = taken(waiting, 1)
    waiting.end("x")
    waiting.end("y")
    assert (first, second, taken(waiting, 1)) == ([0, 3, 5], [1], [2])


def test_jobs_that_nobody_can_do_have_no_limit() -> None:
    """What only has to be told of, is told of at once, and no limit is asked for."""
    asked: list[str] = []
    jobs = jobs_for("---")
    waiting = Schedule(jobs, asked.append, lambda: False)
    assert (taken(waiting, 4), asked) == ([0, 1, 2, None], [])


def test_a_job_that_is_put_back_without_a_pause_is_first_again() -> None:
    """Its place in the list is what it was, and it waits for the backend that it has now."""
    waiting, jobs = schedule("xxx", x=1, y=1)
    assert taken(waiting, 1) == [0]
    jobs[0].backend = BACKENDS["y"]
    waiting.put_back(jobs[0], "x", 0.0)
    assert taken(waiting, 2) == [0, 1]
    waiting.end("y")
    waiting.end("x")
    assert taken(waiting, 1) == [2]


def test_a_job_that_is_put_back_with_a_pause_lets_others_go_first() -> None:
    """Nobody waits for a pause while there is something else to do, though its place in the list is an earlier one."""
    waiting, jobs = schedule("xx")
    assert taken(waiting, 1) == [0]
    waiting.put_back(jobs[0], "x", 3600.0)
    assert taken(waiting, 1) == [1]


def test_the_end_of_a_pause_is_waited_for() -> None:
    """A job in a pause is still to come: the next take returns it, and only then there is none."""
    waiting, jobs = schedule("x")
    assert taken(waiting, 1) == [0]
    waiting.put_back(jobs[0], "x", 0.15)
    assert taken(waiting, 2) == [0, None]


def test_the_shorter_pause_is_over_first() -> None:
    """Whatever the places in the list, and the order in which the pauses began."""
    waiting, jobs = schedule("xyz")
    assert taken(waiting, 3) == [0, 1, 2]
    for job, pause in zip(jobs, (3600.0, 0.01, 7200.0), strict=True):
        waiting.put_back(job, job.backend_name, pause)
    assert taken(waiting, 1) == [1]


def test_a_pause_gives_up_the_room_of_the_backend() -> None:
    """Who waits for its next attempt keeps no other from being made."""
    waiting, jobs = schedule("xx", x=1)
    assert taken(waiting, 1) == [0]
    waiting.put_back(jobs[0], "x", 3600.0)
    assert taken(waiting, 1) == [1]


def test_nothing_is_taken_of_a_run_that_was_cancelled() -> None:
    """Whether jobs wait, have no room, or have a pause before them."""
    cancelled = threading.Event()
    waiting, jobs = schedule("xxxy", cancelled.is_set, x=2)
    assert taken(waiting, 2) == [0, 1]
    waiting.put_back(jobs[0], "x", 3600.0)
    cancelled.set()
    assert taken(waiting, 2) == [None, None]


@given(
    st.text("xyz-", max_size=12),
    st.fixed_dictionaries({}, optional={name: st.integers(1, 3) for name in "xyz"}),
    st.lists(st.tuples(st.sampled_from(["take", "end", "put back"]), st.integers(0, 99), st.sampled_from("xyz"))),
)
def test_every_take_is_the_first_job_there_is_room_for(
    names: str, limits: Mapping[str, int], steps: Sequence[tuple[str, int, str]]
) -> None:
    """In whatever order jobs are taken, end and are put back for another backend, a plain list of them says the same."""
    jobs = jobs_for(names)
    waiting = Schedule(jobs, limits.get, lambda: False)
    left, running = list(jobs), list[tuple[Job, str]]()
    for what, number, other in steps:
        if what == "take":
            busy = Counter(name for _, name in running)
            open_to = [job for job in left if busy[job.backend_name] < limits.get(job.backend_name, 99)]
            if open_to:
                job = waiting.take()
                assert job is min(open_to, key=lambda one: one.index)
                left.remove(job)
                running.append((job, job.backend_name))
            elif not left:
                assert waiting.take() is None
        elif running:
            job, name = running.pop(number % len(running))
            if what == "end":
                waiting.end(name)
            else:
                job.backend = BACKENDS[other]
                waiting.put_back(job, name, 0.0)
                left.append(job)


# -- many threads ------------------------------------------------------------------------------------------------------


class Floor:
    """Where jobs are done: counts how many of each backend are at it, and the most there ever were."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._busy: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.done: list[int] = []

    def enter(self, name: str) -> None:
        with self._lock:
            for one in (name, "all"):
                self._busy[one] += 1
                self.most[one] = max(self.most[one], self._busy[one])

    def leave(self, job: Job, name: str) -> None:
        with self._lock:
            self._busy[name] -= 1
            self._busy["all"] -= 1
            self.done.append(job.index)


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_limits_hold_however_many_workers_there_are(workers: int) -> None:
    """Every job is done exactly once, and never more of a backend at once than it allows."""
    names = "xxyzxyzzxy-" * 12
    waiting, jobs = schedule(names, x=2, y=1)
    floor = Floor()

    def work(slot: int) -> None:
        while job := waiting.take():
            name = job.backend_name
            floor.enter(name)
            floor.leave(job, name)
            waiting.end(name)

    threads_that(work, workers)()
    assert sorted(floor.done) == list(range(len(jobs)))
    assert (floor.most["x"] <= 2, floor.most["y"] <= 1, floor.most["all"] <= workers) == (True, True, True)


def test_no_worker_is_idle_while_a_job_may_be_done() -> None:
    """As many jobs as the limits allow are at it together: each of them waits until all of them have begun."""
    waiting, jobs = schedule("xxxxyyzz" * 3, x=2, y=1)
    floor, together = Floor(), threading.Barrier(5, timeout=PATIENCE)  # two of x, one of y, two workers left for z

    def work(slot: int) -> None:
        while job := waiting.take():
            name = job.backend_name
            floor.enter(name)
            if job.index in (0, 1, 4, 6, 7):
                together.wait()
            floor.leave(job, name)
            waiting.end(name)

    threads_that(work, 5)()
    assert (sorted(floor.done), floor.most["all"]) == (list(range(len(jobs))), 5)


@pytest.mark.parametrize("way", ["end", "put back"])
def test_a_worker_that_waits_is_woken_by_room(way: str) -> None:
    """Who found no job because of a limit gets one when another worker is done, or puts its job back for somebody else."""
    waiting, jobs = schedule("xx", x=1)
    assert taken(waiting, 1) == [0]
    got: list[int | None] = []
    joined = threads_that(lambda _: got.extend(taken(waiting, 1)), 1)
    if way == "end":
        waiting.end("x")
    else:
        jobs[0].backend = BACKENDS["y"]
        waiting.put_back(jobs[0], "x", 3600.0)
    joined()
    assert got == [1]


def test_workers_that_wait_go_home_when_the_run_is_cancelled() -> None:
    """For room or for the end of a pause: nobody waits on, and what was not taken stays."""
    cancelled = threading.Event()
    waiting, jobs = schedule("xxx", cancelled.is_set, x=1)
    assert taken(waiting, 1) == [0]
    jobs[0].backend = BACKENDS["y"]
    got: list[int | None] = []
    ready = threading.Barrier(4, timeout=PATIENCE)

    def work(slot: int) -> None:
        ready.wait()
        got.extend(taken(waiting, 1))

    joined = threads_that(work, 3)
    ready.wait()
    cancelled.set()
    joined()
    assert got == [None] * 3


@pytest.mark.parametrize("workers", [1, 3, 7])
def test_every_job_comes_through_all_its_attempts(workers: int) -> None:
    """Put back for one backend after the other, with a pause or without, each job is done once, and no limit is broken."""
    waiting, jobs = schedule("x" * 24, x=3, y=2, z=1)
    floor, row = Floor(), [BACKENDS[name] for name in "xyz"]

    def work(slot: int) -> None:
        while job := waiting.take():
            name = job.backend_name
            floor.enter(name)
            job.attempt += 1
            floor.leave(job, name)
            if job.attempt < 2 + job.index % 4:
                job.backend = row[(job.attempt - 1) % 3]
                waiting.put_back(job, name, 0.002 * (job.index % 3))
            else:
                waiting.end(name)

    threads_that(work, workers)()
    assert [job.attempt for job in jobs] == [2 + index % 4 for index in range(24)]
    assert Counter(floor.done) == {index: 1 + index % 4 for index in range(24)}
    assert all(floor.most[name] <= limit for name, limit in (("x", 3), ("y", 2), ("z", 1), ("all", workers)))
