"""The event loop: a thousand coroutines at once, and one that holds up the others."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import warnings

import pytest

from runner.domain.retry import RetryPolicy
from runner.engine import pace
from runner.engine.pace import Measured, Pace
from tests.engine.bench import Bench, kind
from tests.engine.sample_handlers import gate
from tests.factories import NOW, make_new_job
from tests.waiting import eventually

ONCE = RetryPolicy(max_attempts=1)


def test_a_thousand_coroutines_wait_in_one_thread(bench: Bench) -> None:
    """A thousand waiting `async def` jobs run at once, and cost one thread and next to no processor time."""
    bench.define(kind("wait_for_all"), kind("open_all"))
    ids = [one.id for one in bench.app.jobs.enqueue_many([make_new_job("wait_for_all")] * 1000, NOW)]
    before = threading.active_count()
    with bench.worker(concurrency=1001) as worker:
        bench.until(worker, lambda: gate().inside == 1000, "all of them inside at once")
        assert bench.app.jobs.counts()["running"] == 1000
        assert threading.active_count() <= before + 5, "the loop, the beat, its guard, the recorder"
        began = time.process_time()
        for _ in range(20):
            worker.tick(NOW)
        assert time.process_time() - began < 2
        bench.enqueue("open_all")
        bench.until(worker, lambda: bench.app.jobs.counts()["completed"] == 1001, "the end of all")

    assert gate().left == len(ids) == 1000


@pytest.mark.usefixtures("short_grace")
@pytest.mark.parametrize("in_a_task", [False, True])
def test_who_holds_the_loop_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch, in_a_task: bool) -> None:
    """A handler that blocks the event loop reads so in its log, once; others are settled by their timeouts."""
    monkeypatch.setattr(pace, "BLOCKED", 0.1)
    bench.define(kind("blocks"), kind("waits", "hold_async", retry=ONCE), kind("hold_async"))
    with bench.worker(concurrency=3) as worker:
        waiting = bench.enqueue("waits")
        cancelled = bench.enqueue("hold_async")
        bench.until(worker, lambda: gate().inside == 2)
        blocking = bench.enqueue("blocks", {"in_a_task": in_a_task, "again": 2, "seconds": 0.15})
        bench.until(worker, lambda: gate("blocks").inside == 1, "the block")
        bench.app.jobs.cancel(cancelled, NOW, "no longer wanted")
        worker.executor.request_stop(waiting, "timeout", "too long")
        ended = bench.run(worker, waiting, cancelled)
        assert [job.status for job in ended] == ["failed", "cancelled"]
        assert ended[0].error == "TimeoutError: too long"
        assert bench.state(blocking) == "running"
        gate("blocks").opened.set()
        job = bench.run(worker, blocking)[0]
        eventually(lambda: worker.executor.leaked_threads == 0, "the end of those that were held up")

    assert (job.status, job.result) == ("completed", "at last")
    told = [(line.level, line.message) for line in bench.app.logs.lines(blocking)]
    assert len(told) == 1
    assert told[0][0] == "warning"
    assert told[0][1].startswith("the event loop was blocked for 0.")
    assert told[0][1].endswith(" s; what blocks belongs in a plain def or in isolation: process")
    assert bench.lines(waiting) == bench.lines(cancelled) == []


def test_a_loop_that_is_held_for_long_gets_nothing_new(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one handler holds its loop for longer than the grace, what is new runs on another."""
    monkeypatch.setattr(pace, "STUCK", 0.05)
    bench.define(kind("blocks"), kind("hold_async"))
    gate().opened.set()
    before = set(threading.enumerate())
    with bench.worker(concurrency=2) as worker:
        blocking = bench.enqueue("blocks")
        bench.until(worker, lambda: gate("blocks").inside == 1, "the block")
        stuck = worker.executor._backends["async"]._loops[0]  # type: ignore[attr-defined]
        eventually(lambda: stuck.pace.is_stuck)
        assert bench.run(worker, bench.enqueue("hold_async"))[0].status == "completed"
        assert bench.state(blocking) == "running"
        gate("blocks").opened.set()
        assert bench.run(worker, blocking)[0].status == "completed"

    eventually(lambda: not set(threading.enumerate()) - before, "the end of both loops")


def test_a_block_in_the_last_step_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the handler never gives the loop back before it ends."""
    monkeypatch.setattr(pace, "BLOCKED", 0.0)
    bench.define(kind("async_object"))

    job = bench.run_one("async_object")

    assert job.status == "completed"
    assert [line.level for line in bench.app.logs.lines(job.id or 0)] == ["warning"]


def test_a_measured_coroutine_is_the_one_within() -> None:
    """Libraries look at a task's coroutine: its state and its name are those of the handler's own."""

    async def inner() -> str:
        await asyncio.sleep(0)
        return "done"

    measured = Measured(inner(), Pace())
    assert asyncio.iscoroutine(measured)
    assert measured.__qualname__.endswith("inner")
    assert measured.cr_frame is not None
    assert asyncio.run(_awaited(measured)) == "done"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one that is never awaited
        Measured(inner(), Pace()).close()
        gc.collect()


async def _awaited(measured: Measured) -> object:
    return await measured
