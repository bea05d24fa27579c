"""`ctx`: what it tells a handler, what it takes, and what it refuses where it is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from runner import JobCancelled, JobContext
from runner.domain.said import LogLine, OutputPiece, Progress
from runner.engine.context import Stop
from runner.testing import run_handler
from tests.factories import NOW, make_run


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
