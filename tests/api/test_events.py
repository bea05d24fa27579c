"""The stream of a job: everything once, in order, from where the reader was; and it never holds the process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from runner.http.binding import AddressTaken, bind
from runner.telemetry import StopRequested
from tests.api.live import TELLS, Reader, served
from tests.engine.bench import Bench, eventually, make_bench, on, open_app
from tests.engine.sample_handlers import gate, open_gates


@pytest.fixture(params=["sqlite", "postgresql"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    with on(request.param):
        made = make_bench(tmp_path)
        made.define(TELLS)
        yield made
        open_gates()
        made.app.close()


def test_a_job_is_seen_from_beginning_to_end(bench: Bench) -> None:
    """A snapshot, then each change as it comes, the log once with its ids, and the end, after which it closes."""
    job = bench.enqueue("tells")
    with bench.worker() as worker, served(bench, worker) as url:
        reader = Reader(f"{url}/api/jobs/{job}/events")
        reader.await_event("snapshot")
        bench.until(worker, lambda: reader.has("output") and reader.has("log") and reader.has("progress"))
        gate().opened.set()
        bench.until(worker, lambda: reader.has("end"))
        reader.join()

    assert reader.names[0] == "snapshot"
    assert reader.names[-1] == "end"
    assert reader.events[0].data["status"] == "pending"
    assert [one["status"] for one in reader.of("state")] == ["running", "completed"]
    said = [(one["progress"], one["current_step"]) for one in reader.of("progress")]
    assert (said[0], said[-1], said) == ((10, "reading"), (100, "writing"), sorted(said))
    assert [one["message"] for one in reader.of("log")] == ["one <b>&\n", "two"]
    assert [one.number for one in reader.events if one.name == "log"] == ["1", "2"]
    assert all(one.number is None for one in reader.events if one.name != "log")
    assert [one["outputs"][0]["bytes"] for one in reader.of("output")] == [8, 13]
    assert (reader.events[-1].data["status"], reader.events[-1].data["result"]) == ("completed", "done")
    assert "retry: 1000" in reader.raw


def test_a_reader_who_comes_late_gets_what_there_is(bench: Bench) -> None:
    """The state in a snapshot, the log replayed, the end; with the id of its last line, only what is newer."""
    job = bench.enqueue("tells")
    gate().opened.set()
    with bench.worker() as worker, served(bench, worker) as url:
        bench.run(worker, job)
        whole, rest, header, none = (
            Reader(f"{url}/api/jobs/{job}/events"),
            Reader(f"{url}/api/jobs/{job}/events?last_event_id=1"),
            Reader(f"{url}/api/jobs/{job}/events", {"Last-Event-ID": "1"}),
            Reader(f"{url}/api/jobs/{job}/events?last_event_id=2"),
        )
        for one in (whole, rest, header, none):
            one.join()

    assert whole.names == ["snapshot", "log", "log", "end"]
    assert whole.events[0].data["outputs"] == [{"name": "page", "media_type": "text/markdown", "bytes": 13}]
    assert rest.names == header.names == ["snapshot", "log", "end"]
    assert rest.of("log")[0]["message"] == "two"
    assert none.names == ["snapshot", "end"]


def test_what_another_process_does_is_seen_too(bench: Bench, tmp_path: Path) -> None:
    """The server runs nothing and hears nothing: it looks."""
    other = open_app(tmp_path)
    job = bench.enqueue("tells")
    try:
        with served(bench) as url:
            reader = Reader(f"{url}/api/jobs/{job}/events")
            reader.await_event("snapshot")
            other.jobs.cancel(job, bench.clock.now())
            reader.join()
    finally:
        other.close()
    assert reader.names == ["snapshot", "state", "end"]
    assert reader.events[-1].data["status"] == "cancelled"


def test_each_of_many_readers_hears_all(bench: Bench) -> None:
    """Twenty jobs, two readers each."""
    jobs = [bench.enqueue("tells", run_at=bench.clock.now().replace(year=2030)) for _ in range(20)]
    with served(bench) as url:
        readers = [Reader(f"{url}/api/jobs/{job}/events") for job in jobs for _ in range(2)]
        for one in readers:
            one.await_event("snapshot")
        for job in jobs:
            bench.app.jobs.cancel(job, bench.clock.now())
        for one in readers:
            one.join()
    assert {tuple(one.names) for one in readers} == {("snapshot", "state", "end")}


def test_a_stop_ends_the_streams_at_once(bench: Bench) -> None:
    """A stream that is open holds nothing back; a new one is told to come again, the rest is answered."""
    job = bench.enqueue("tells", run_at=bench.clock.now().replace(year=2030))
    with served(bench) as url:
        readers = [Reader(f"{url}/api/jobs/{job}/events") for _ in range(5)]
        for one in readers:
            one.await_event("snapshot")
        bench.app.events.emit(StopRequested("SIGTERM"))
        for one in readers:
            one.join()
        refused = httpx.get(f"{url}/api/jobs/{job}/events", timeout=10)
        answered = httpx.get(f"{url}/api/jobs/{job}", timeout=10)

    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert answered.status_code == 200
    assert all(one.error is None for one in readers)


def test_a_reader_who_goes_away_is_forgotten(bench: Bench) -> None:
    """His place is free again, and the hub does not look for him any more."""
    job = bench.enqueue("tells", run_at=bench.clock.now().replace(year=2030))
    with served(bench) as url:
        reader = Reader(f"{url}/api/jobs/{job}/events")
        reader.await_event("snapshot")
        reader.hang_up()
        again = Reader(f"{url}/api/jobs/{job}/events")
        again.await_event("snapshot")
        bench.app.jobs.cancel(job, bench.clock.now())
        again.join()
    assert again.names == ["snapshot", "state", "end"]


def test_a_job_that_is_not_there_has_no_stream(bench: Bench) -> None:
    """A plain 404, which a browser does not ask for again."""
    with served(bench) as url:
        answer = httpx.get(f"{url}/api/jobs/7/events", timeout=10)
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


def test_an_address_that_is_taken_is_told_at_the_start() -> None:
    """Before anything is served, with the remedies."""
    taken = bind("127.0.0.1", 0)
    try:
        with pytest.raises(AddressTaken, match=str(taken.port)):
            bind("127.0.0.1", taken.port)
    finally:
        taken.close()


def test_the_server_is_gone_when_it_is_closed(bench: Bench) -> None:
    """Nobody answers any more."""
    with served(bench) as url:
        assert httpx.get(f"{url}/healthz", timeout=10).status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/healthz", timeout=10)


def test_there_are_so_many_streams_and_no_more(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """429 for the next, and a place again when one has ended."""
    monkeypatch.setattr("runner.serving.STREAMS_OF_ONE", 2)
    job = bench.enqueue("tells", run_at=bench.clock.now().replace(year=2030))
    with served(bench) as url:
        address = f"{url}/api/jobs/{job}/events"
        first, second = Reader(address), Reader(address)
        first.await_event("snapshot")
        second.await_event("snapshot")
        assert httpx.get(address, timeout=10).status_code == 429
        first.hang_up()

        def is_admitted() -> bool:
            with httpx.stream("GET", address, timeout=10) as answer:
                return answer.status_code == 200

        eventually(is_admitted)
