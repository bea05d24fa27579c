"""Processing for as long as somebody listens: what is due is done, one round at a time, and none is cut short."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from runner.http.rounds import Rounds
from runner.processing import OwnLoops, OwnWorker
from tests.api.live import served
from tests.engine.bench import DEADLINE, Bench, kind, make_bench
from tests.engine.sample_handlers import gate, open_gates
from tests.waiting import eventually


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = make_bench(tmp_path)
    made.app.now = made.clock.now  # type: ignore[method-assign]
    made.define(kind("ok"), kind("hold"))
    yield made
    open_gates()
    made.app.close()


def rounds(bench: Bench) -> Rounds:
    return Rounds(lambda: OwnWorker(bench.app), bench.app.now)


def lines(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_is_due_is_done(bench: Bench, method: str) -> None:
    """A process without a worker has one meanwhile; a job for tomorrow is left alone."""
    done = [bench.enqueue("ok") for _ in range(3)]
    later = bench.enqueue("ok", run_at=bench.clock.now().replace(year=2030))
    with served(bench, rounds=rounds(bench)) as url:
        told = lines(httpx.request(method, f"{url}/api/jobs/process", timeout=DEADLINE))

    assert [one["event"] for one in told] == ["started", "summary"]
    assert {bench.state(job) for job in done} == {"completed"}
    assert bench.state(later) == "pending"
    assert bench.app.workers.all() == []


def test_one_round_at_a_time(bench: Bench) -> None:
    """A second caller is told whose goes on; a beat is told meanwhile."""
    job = bench.enqueue("hold")
    made = rounds(bench)
    with served(bench, rounds=made) as url:
        told: list[dict[str, Any]] = []

        def listen() -> None:
            told.extend(lines(httpx.get(f"{url}/api/jobs/process?beat=0.1", timeout=DEADLINE)))

        first = threading.Thread(target=listen)
        first.start()
        eventually(lambda: gate().entered == 1)
        second = httpx.get(f"{url}/api/jobs/process", timeout=DEADLINE)
        gate().opened.set()
        first.join(DEADLINE)

    assert second.status_code == 409
    assert "no key, 127.0.0.1" in second.json()["detail"]
    assert told[-1]["event"] == "summary"
    assert bench.state(job) == "completed"


def test_a_connection_that_is_closed_lets_what_runs_end(bench: Bench) -> None:
    """Nothing more is begun; the next round is possible."""
    first = bench.enqueue("hold")
    with served(bench, rounds=rounds(bench)) as url:
        with httpx.stream("GET", f"{url}/api/jobs/process", timeout=DEADLINE) as answer:
            reading = answer.iter_lines()  # held: where it is forgotten, the connection is closed
            next(reading)
            eventually(lambda: gate().entered == 1)
        gate().opened.set()
        eventually(lambda: bench.state(first) == "completed")

        def is_free() -> bool:
            return httpx.get(f"{url}/api/jobs/process", timeout=DEADLINE).status_code == 200

        eventually(is_free)
    assert bench.app.workers.all() == []


def test_a_database_that_goes_away_and_comes_back_is_waited_for(bench: Bench, tmp_path: Path) -> None:
    """A round that goes on has a worker again: it does not end as if all were done."""
    away, files = tmp_path / "away", [bench.app.database.path, *tmp_path.glob(f"{bench.app.database.path.name}-*")]
    away.mkdir()
    work = OwnWorker(bench.app)
    try:
        eventually(lambda: work._once is not None)
        for file in files:
            file.rename(away / file.name)
        eventually(lambda: work._once is None, "the worker gone")
        for file in files:
            (away / file.name).rename(file) if (away / file.name).exists() else None
        job = bench.enqueue("ok")
        eventually(lambda: bench.state(job) == "completed")
    finally:
        work.end()


def test_a_process_that_runs_jobs_is_waited_for(bench: Bench) -> None:
    """Its own loops do the work; the answer ends when nothing is left."""
    job = bench.enqueue("hold")
    with bench.worker() as worker:
        work = OwnLoops(bench.app, worker, fires=True)
        assert not work.is_quiet()
        bench.until(worker, lambda: gate().entered == 1)
        assert (work.is_quiet(), work.running()) == (False, 1)
        gate().opened.set()
        bench.run(worker, job)
        assert work.is_quiet()


def test_where_jobs_are_off_there_is_nothing_to_process(bench: Bench) -> None:
    """503; and no page of another site may ask, not even with GET."""
    with served(bench) as url:
        assert httpx.get(f"{url}/api/jobs/process", timeout=10).status_code == 503
        foreign = httpx.get(f"{url}/api/jobs/process", headers={"Sec-Fetch-Site": "cross-site"}, timeout=10)
    assert foreign.status_code == 403
