"""`ctx`: what it tells a handler, what it takes, and what it refuses where it is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from runner import JobCancelled, JobContext
from runner.domain.errors import DatabaseUnavailable
from runner.domain.said import LogLine, OutputPiece, Progress
from runner.engine.context import Stop
from runner.engine.lease import Lease
from runner.testing import run_handler
from tests.engine.bench import Bench, kind, make_bench
from tests.factories import NOW, make_run
from tests.waiting import eventually


@dataclass
class Ear:
    """A sink that keeps what it is told."""

    said: list[Progress | LogLine | OutputPiece] = field(default_factory=list)

    def progress(self, progress: Progress) -> None:
        self.said.append(progress)

    def log(self, line: LogLine) -> None:
        self.said.append(line)

    def output(self, piece: OutputPiece) -> None:
        self.said.append(piece)


def make_context(stop: Stop | None = None, **values: Any) -> tuple[JobContext, Ear]:
    ear = Ear()
    return JobContext(make_run(**values), ear, stop or Stop(), lambda: NOW), ear


def test_it_says_who_the_job_is() -> None:
    """The id, type, attempt and project of the job, and a key that stays the same over its attempts."""
    first, _ = make_context(id=7, type="mail", attempt=1, project_id="acme", schedule_name="nightly", scheduled_for=NOW)
    second, _ = make_context(id=7, type="mail", attempt=2, claim_token="another")
    other, _ = make_context(id=8)

    assert (first.job_id, first.type, first.attempt, first.max_attempts) == (7, "mail", 1, 3)
    assert (first.project_id, first.schedule_name, first.scheduled_for) == ("acme", "nightly", NOW)
    assert first.idempotency_key == second.idempotency_key != other.idempotency_key


def test_what_it_takes() -> None:
    """Progress with any of its parts, lines of four levels, outputs of text and bytes."""
    ctx, ear = make_context()

    ctx.progress(33.3333, "reading", "page 1")
    ctx.progress(message="page 2")
    ctx.log({"a": 1}, "warning")
    ctx.output("preview", "text/plain", "é")
    ctx.output("preview", "text/plain", b"\xff", append=True)

    assert ear.said == [
        Progress(33.33, "reading", "page 1"),
        Progress(None, None, "page 2"),
        LogLine(NOW, "warning", "{'a': 1}"),
        OutputPiece(NOW, "preview", "text/plain", "é".encode(), False),
        OutputPiece(NOW, "preview", "text/plain", b"\xff", True),
    ]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda ctx: ctx.progress(-1), "a number from 0 to 100, not -1"),
        (lambda ctx: ctx.progress(100.5), "a number from 0 to 100"),
        (lambda ctx: ctx.progress(float("nan")), "a number from 0 to 100, not nan"),
        (lambda ctx: ctx.progress("50"), "a number from 0 to 100, not '50'"),
        (lambda ctx: ctx.log("x", "fatal"), "no such level: 'fatal'; there are debug, info, warning, error"),
        (lambda ctx: ctx.output("", "text/plain", ""), "an output needs a name"),
        (lambda ctx: ctx.output("a", "text/plain", 5), "output data is text or bytes, not int"),
        (lambda ctx: ctx.enqueue("mail", {}, delya=5), "no such option: delya"),
        (lambda ctx: ctx.enqueue("mail", {}, delay=float("inf")), "a delay is a number of seconds, not inf"),
    ],
)
def test_what_it_refuses(call: Callable[[JobContext], None], words: str) -> None:
    """A wrong call fails where it is written, and says what is wanted."""
    ctx, ear = make_context()

    with pytest.raises((ValueError, TypeError), match=words.replace("(", r"\(")):
        call(ctx)

    assert ear.said == []


@pytest.mark.parametrize(
    "call",
    [
        lambda ctx: ctx.progress(50),
        lambda ctx: ctx.log("x"),
        lambda ctx: ctx.output("a", "text/plain", "x"),
        lambda ctx: ctx.check(),
    ],
)
def test_each_use_interrupts_once(call: Callable[[JobContext], None]) -> None:
    """After a cancel the next progress, log, output or check raises JobCancelled; the one after it works."""
    stop = Stop()
    ctx, ear = make_context(stop)
    stop.request("cancel", "unwanted")

    assert ctx.cancelled
    with pytest.raises(JobCancelled, match="unwanted"):
        call(ctx)
    assert ear.said == []
    call(ctx)
    ctx.log("cleaned up")
    assert ear.said[-1] == LogLine(NOW, "info", "cleaned up")


def test_a_lost_claim_is_no_longer_ours() -> None:
    """`heartbeat_ok` is True as long as the worker's beat is recent; not a cancel but a lost claim ends it."""
    recent = [True]
    stop = Stop()
    ctx = JobContext(make_run(), Ear(), stop, lambda: NOW, lambda began: recent[0])
    other = Stop()
    lost = JobContext(make_run(), Ear(), other, lambda: NOW, lambda began: recent[0])

    assert ctx.heartbeat_ok
    stop.request("cancel", "unwanted")
    other.request("lost", "rescued")
    assert ctx.heartbeat_ok
    assert not lost.heartbeat_ok
    stop.request("lost", "rescued")
    assert not ctx.heartbeat_ok, "also where something else was asked of it before"
    recent[0] = False
    assert not ctx.heartbeat_ok


def test_a_lease_counts_from_the_beginning_of_a_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    """A beat that took long, or was not written, does not make a run look safer than it is."""
    clock = [100.0]
    monkeypatch.setattr("runner.engine.lease.time.monotonic", lambda: clock[0])
    lease = Lease(40.0)

    def beat(took: float, error: Exception | None = None) -> None:
        clock[0] += took
        if error is not None:
            raise error

    clock[0] = 139.0
    assert lease.holds
    clock[0] = 140.0
    assert not lease.holds
    lease.renewed_by(lambda: beat(30.0))
    assert lease.holds
    clock[0] = 180.0
    assert not lease.holds
    with pytest.raises(DatabaseUnavailable):
        lease.renewed_by(lambda: beat(0.0, DatabaseUnavailable("locked")))
    assert not lease.holds


def test_what_was_ours_before_a_silence_is_not_ours_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others may have taken it meanwhile: a beat that is written again makes new runs ours, not the old ones."""
    clock = [100.0]
    monkeypatch.setattr("runner.engine.lease.time.monotonic", lambda: clock[0])
    lease = Lease(40.0)
    lease.renewed_by(lambda: None)
    assert lease.held_since(100.0)
    clock[0] = 150.0
    assert not lease.held_since(100.0)
    lease.renewed_by(lambda: None)
    assert not lease.held_since(100.0)
    assert lease.held_since(151.0)
    assert lease.holds


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_a_handler_sees_that_its_worker_is_silent(bench: Bench, isolation: Any, tmp_path: Path) -> None:
    """`ctx.heartbeat_ok` turns False in a thread and in a process, where nothing needs to be sent for it."""
    bench.define(kind("asks_for_the_beat", isolation=isolation))
    told = tmp_path / "told"
    with bench.worker() as worker:
        job_id = bench.enqueue("asks_for_the_beat", {"told": str(told)})
        bench.until(worker, told.exists)
        assert told.read_text() == "True"
        worker.executor._lease._until.value = 0.0
        assert bench.run(worker, job_id)[0].result == "it is silent"


def test_a_beat_keeps_the_runs_ours(tmp_path: Path) -> None:
    """What the worker's beat has written is what handlers see."""
    bench = make_bench(tmp_path, heartbeat=timedelta(milliseconds=20))
    with bench.worker() as worker:
        lease = worker.executor._lease
        lease._until.value = 0.0
        eventually(lambda: lease.holds, "a beat")
    bench.app.close()


def test_children_are_kept_as_they_were_asked_for() -> None:
    """`ctx.enqueue` takes a copy of the payload: what the handler does with it later changes nothing."""
    ctx, _ = make_context()
    payload = {"a": 1}
    ctx.enqueue("mail", payload, delay=timedelta(seconds=5), priority="high")
    payload["a"] = 2

    assert ctx.children[0].payload == {"a": 1}
    assert ctx.children[0].options == {"delay": timedelta(seconds=5), "priority": "high"}


def test_run_handler_shows_authors_what_their_handler_did() -> None:
    """`runner.testing.run_handler` calls plain and async handlers with a context that records."""

    async def handler(ctx: JobContext, payload: dict[str, Any]) -> int:
        ctx.progress(40, "half")
        ctx.log("line")
        ctx.output("o", "text/plain", "a")
        ctx.output("o", "text/plain", "b", append=True)
        ctx.enqueue("mail", {"n": payload["n"]})
        return ctx.attempt

    made = run_handler(handler, {"n": 3}, attempt=2)

    assert (made.result, made.progress, made.step, made.lines) == (2, 40, "half", ["line"])
    assert made.outputs == {"o": b"ab"}
    assert [(child.type, child.payload) for child in made.children] == [("mail", {"n": 3})]
    with pytest.raises(JobCancelled):
        run_handler(handler, {"n": 3}, cancelled=True)
