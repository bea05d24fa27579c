"""The stream of a job: everything once, in order, from where the reader was; and it never holds the process."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import insert

from runner.domain.access import Role, new_key
from runner.domain.errors import DatabaseUnavailable
from runner.domain.job_rows import JobLog
from runner.http.binding import AddressTaken, bind
from runner.http.hub import Hub, Listener
from runner.http.processor import NAMES
from runner.http.shares import Link
from runner.storage.access import AccessStore
from runner.storage.logs import LOGS, LogStore
from runner.storage.watching import WatchStore
from runner.telemetry import StopRequested
from tests.api.live import TELLS, Reader, served
from tests.engine.bench import Bench, make_bench, on, open_app
from tests.engine.sample_handlers import gate, open_gates
from tests.waiting import eventually


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


def test_threads_that_answer_have_the_names_by_which_they_are_kept_together(bench: Bench) -> None:
    """On one processor, see `runner.http.processor`: who renames one renames it there too."""
    job = bench.enqueue("tells")
    with bench.worker() as worker, served(bench, worker) as url:
        reader = Reader(f"{url}/api/jobs/{job}/events")
        reader.await_event("snapshot")
        httpx.get(f"{url}/api/jobs/{job}")
        assert {thread.name for thread in threading.enumerate()} >= set(NAMES)
        gate().opened.set()
        bench.run(worker, job)
        reader.join()


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


def test_the_stream_of_a_revoked_key_ends(bench: Bench) -> None:
    """Within seconds; those of other keys go on. So does one that came without a key, once there is one."""
    job = bench.enqueue("tells", run_at=bench.clock.now().replace(year=2030))
    store, lost, kept = AccessStore(bench.app.database), new_key(), new_key()
    with served(bench) as url:
        address = f"{url}/api/jobs/{job}/events"
        nobody = Reader(address)
        nobody.await_event("snapshot")
        for key in (lost, kept):
            store.add(key, Role.VIEWER, None, bench.clock.now(), by="test")
        nobody.join()
        first, second = (Reader(address, {"Authorization": f"Bearer {key.text}"}) for key in (lost, kept))
        first.await_event("snapshot")
        second.await_event("snapshot")
        store.revoke(lost.key_id, bench.clock.now())
        first.join()
        bench.app.jobs.cancel(job, bench.clock.now())
        second.join()

    assert (first.names, nobody.names) == (["snapshot"], ["snapshot"])
    assert second.names == ["snapshot", "state", "end"]


def test_a_stream_ends_with_its_link(bench: Bench) -> None:
    """Not a quarter of an hour after it; that of its maker's own key goes on."""
    key = new_key()
    AccessStore(bench.app.database).add(key, Role.VIEWER, None, bench.clock.now(), by="test")
    job = bench.enqueue("tells", run_at=bench.clock.now().replace(year=2030))
    text = Link(key.key_id, job, int(bench.clock.now().timestamp()) + 60).sealed(key.digest)
    with served(bench) as url:
        guest, owner = (
            Reader(f"{url}/api/jobs/{job}/events", {"Authorization": f"Bearer {given}"}) for given in (text, key.text)
        )
        guest.await_event("snapshot")
        owner.await_event("snapshot")
        bench.clock.time += timedelta(seconds=61)
        guest.join()
        bench.app.jobs.cancel(job, bench.clock.now())
        owner.join()
    assert guest.names == ["snapshot"]
    assert owner.names[-1] == "end"


def test_a_quiet_stream_shows_that_it_lives(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a comment, again and again; not where something is said all the while."""
    monkeypatch.setattr("runner.api.events.QUIET", 0.05)
    job = bench.enqueue("tells", run_at=bench.clock.now().replace(year=2030))
    with served(bench) as url:
        reader = Reader(f"{url}/api/jobs/{job}/events")
        eventually(lambda: reader.raw.count(": still here") >= 3)
    reader.join()
    assert reader.names == ["snapshot"]


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


def test_who_reads_by_a_link_sees_no_secret_and_leaves_none(
    bench: Bench, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """From the snapshot to the end, beside a reader with a key; the text of the link is in no log."""
    key = new_key()
    AccessStore(bench.app.database).add(key, Role.OPERATOR, None, bench.clock.now(), by="test")
    job = bench.enqueue("tells", {"password": "hunter2"})
    text = Link(key.key_id, job, int(bench.clock.now().timestamp()) + 60).sealed(key.digest)
    caplog.set_level(logging.DEBUG)
    with bench.worker() as worker, served(bench, worker) as url:
        guest, owner = (
            Reader(f"{url}/api/jobs/{job}/events", {"Authorization": f"Bearer {given}"}) for given in (text, key.text)
        )
        bench.until(worker, lambda: guest.has("log") and owner.has("log"))
        assert httpx.get(f"{url}/shared").status_code == 200
        assert httpx.post(f"{url}/shared", data={"link": text}).status_code == 303
        assert httpx.get(f"{url}/api/jobs/{job}/logs", headers=guest.headers).status_code == 200
        gate().opened.set()
        bench.until(worker, lambda: guest.has("end") and owner.has("end"))
        guest.join()
        owner.join()
    assert guest.names[0] == "snapshot"
    assert [one["payload"] for one in (*guest.of("snapshot"), *guest.of("end"))] == [{"password": "••••••"}] * 2
    assert [one["payload"] for one in (*owner.of("snapshot"), *owner.of("end"))] == [{"password": "hunter2"}] * 2
    ours = [one.getMessage() for one in caplog.records if not one.name.startswith("http")]
    said = capfd.readouterr()
    assert text.rpartition(".")[2] not in "".join([*ours, said.out, said.err])


def test_who_arrives_as_a_line_is_told_has_it_once(bench: Bench) -> None:
    """His stream begins with the snapshot, and what was there before comes by the replay alone."""
    app, job = bench.app, bench.enqueue("tells")
    hub = Hub(WatchStore(app.database), app.jobs, app.views, app.logs, bench.clock.now)

    async def arrive() -> list[list[bytes]]:
        first, second = (Listener(job, None, asyncio.get_running_loop()) for _ in range(2))
        hub._round([first], False)
        with app.database.write() as connection:
            line = {"job_id": job, "run_number": 1, "at": bench.clock.now(), "level": "info", "message": "a"}
            connection.execute(insert(LOGS), [line])
        hub._round([second], False)
        await asyncio.sleep(0)  # lets the loop hand out what was posted
        assert second.cursor == 1
        return [[one.pieces.get_nowait() or b"" for _ in range(one.pieces.qsize())] for one in (first, second)]

    told = [[piece.split(b"\n")[0] for piece in pieces] for pieces in asyncio.run(arrive())]
    assert told == [[b"event: snapshot", b"event: log"], [b"event: snapshot"]]


class LogsThatFail(LogStore):
    """The database goes away at the second reading of lines, once."""

    reads = 0

    def lines(self, job_id: int, **asked: Any) -> list[JobLog]:
        self.reads += 1
        if self.reads == 2:
            raise DatabaseUnavailable("the server closed the connection")
        return super().lines(job_id, **asked)


def test_a_look_that_fails_half_way_loses_no_end_and_says_nothing_twice(bench: Bench) -> None:
    app, jobs = bench.app, [bench.enqueue("tells") for _ in range(2)]
    logs = LogsThatFail(app.database)
    hub = Hub(WatchStore(app.database), app.jobs, app.views, logs, bench.clock.now)

    async def end_in_one_look() -> list[list[bytes]]:
        streams = [Listener(job, None, asyncio.get_running_loop()) for job in jobs]
        hub._round(list(streams), False)
        with app.database.write() as connection:
            line = {"run_number": 1, "at": bench.clock.now(), "level": "info", "message": "a"}
            connection.execute(insert(LOGS), [{**line, "job_id": job} for job in jobs])
        for job in jobs:
            app.jobs.cancel(job, bench.clock.now())
        with pytest.raises(DatabaseUnavailable):
            hub._round([], False)
        hub._round([], False)
        await asyncio.sleep(0)  # lets the loop hand out what was posted
        return [[one.pieces.get_nowait() or b"" for _ in range(one.pieces.qsize())] for one in streams]

    told = [b"".join(pieces) for pieces in asyncio.run(end_in_one_look())]
    assert [[piece.count(b"event: %b\n" % name) for name in (b"snapshot", b"log", b"end")] for piece in told] == [
        [1, 1, 1]
    ] * 2
