"""Threads of handlers: quick ones go one after the other, and nothing waits behind one that is not."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from runner.engine import threads, worker
from runner.engine.threads import Threads
from tests.engine.bench import Bench, kind
from tests.engine.sample_handlers import gate
from tests.engine.test_service import now_due, service_of, serving
from tests.factories import NOW, make_new_job
from tests.waiting import eventually


@contextmanager
def begun_at_once(bench: Bench, *types: str) -> Iterator[tuple[Threads, list[int]]]:
    """Jobs that are claimed together, after a quick one: no thread is called for the second."""
    bench.define(kind("ok"), kind("hold"))
    now_due(bench)
    with service_of(bench) as service:
        assert service.worker is not None
        service.worker.concurrency = len(types)
        backend = service.worker.executor._backends["thread"]
        assert isinstance(backend, Threads)
        with serving(service):
            before = bench.enqueue("ok")
            eventually(lambda: bench.state(before) == "completed" and backend._idle == 1)
            made = bench.app.jobs.enqueue_many([make_new_job(name) for name in types], bench.clock.now())
            job_ids = [one.id for one in made]
            yield backend, job_ids
            gate().opened.set()
            eventually(lambda: all(bench.state(job_id) == "completed" for job_id in job_ids))


@pytest.fixture(autouse=True)
def every_handler_is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine takes for one. The worker does not look by itself."""
    monkeypatch.setattr(threads, "QUICK", math.inf)
    monkeypatch.setattr(worker, "POLL", 3600.0)


def test_what_waits_behind_a_slow_handler_is_begun(bench: Bench) -> None:
    """Another thread is called for it, and that one calls the next."""
    with begun_at_once(bench, "hold", "ok", "hold", "ok") as (_, (slow, first, slow_too, second)):
        eventually(lambda: (bench.state(first), bench.state(second)) == ("completed", "completed"))
        assert (bench.state(slow), bench.state(slow_too)) == ("running", "running")


def test_what_ended_before_a_slow_handler_is_settled(bench: Bench) -> None:
    """The thread that left it to itself has other work now."""
    with begun_at_once(bench, "ok", "hold") as (_, (quick, slow)):
        eventually(lambda: bench.state(quick) == "completed")
        assert bench.state(slow) == "running"


def test_the_pacer_looks_only_while_there_is_something_to_look_at(bench: Bench) -> None:
    """An idle worker wakes nobody."""
    with begun_at_once(bench, "ok", "hold") as (backend, (quick, _)):
        eventually(lambda: bench.state(quick) == "completed")
        eventually(lambda: backend._pacer is not None and not backend._is_paced)


def test_what_is_claimed_together_is_started_together(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one go: while a thread started one after the other, others would be called for those that wait already."""
    bench.define(kind("ok"))
    started, start = list[int](), Threads.start
    monkeypatch.setattr(Threads, "start", lambda self, runs: (started.append(len(runs)), start(self, runs))[1])
    made = bench.app.jobs.enqueue_many([make_new_job("ok")] * 5, NOW)
    with bench.worker(concurrency=5) as worker:
        bench.run(worker, *[one.id for one in made])
    assert started == [5]


def test_one_thread_is_enough_for_quick_handlers(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who settled last runs what it claimed by that; the other lies down, though more waits."""
    monkeypatch.setattr(threads, "LOOK", 5.0)  # nobody is called meanwhile
    bench.define(kind("ok"), kind("hold"))
    now_due(bench)
    with service_of(bench) as service, serving(service):
        assert service.worker is not None
        service.worker.concurrency = 2
        held = [bench.enqueue("hold") for _ in range(2)]
        eventually(lambda: [bench.state(job_id) for job_id in held] == ["running", "running"])
        quick = [one.id for one in bench.app.jobs.enqueue_many([make_new_job("ok")] * 40, bench.clock.now())]
        gate().opened.set()
        eventually(lambda: all(bench.state(job_id) == "completed" for job_id in (*held, *quick)))
        assert len({bench.job(job_id).result["thread"] for job_id in quick[-20:]}) == 1
