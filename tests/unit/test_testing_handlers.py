"""`run_handler` shows the author of a handler all that it did; `FrozenClock` stands still until it is moved."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from runner import Cancel, JobCancelled, JobContext, Retry
from runner.domain.said import LogLine
from runner.testing import FrozenClock, run_handler
from runner.testing.clock import START

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


def busy(ctx: JobContext, payload: dict[str, Any]) -> dict[str, Any]:
    ctx.progress(40, "half", "4 of 10")
    ctx.progress(30)
    ctx.log("by ctx", "warning")
    ctx.output("page", "text/html", "<p>")
    ctx.output("page", "text/html", "</p>", append=True)
    ctx.enqueue("mail", {"to": payload["to"]}, delay=5)
    return {"attempt": ctx.attempt, "of": ctx.max_attempts, "project": ctx.project_id}


def test_all_that_a_handler_says_is_kept() -> None:
    """Result, progress that never goes back, lines with their level and time, whole outputs, child jobs."""
    run = run_handler(busy, {"to": "a@b"}, attempt=2, max_attempts=5, project_id="p1", now=NOW)
    assert run.result == {"attempt": 2, "of": 5, "project": "p1"}
    assert (run.progress, run.step, run.message) == (40, "half", "4 of 10")
    assert run.log == [LogLine(NOW, "warning", "by ctx")]
    assert run.outputs == {"page": b"<p></p>"}
    assert [(child.type, child.payload, child.options) for child in run.children] == [
        ("mail", {"to": "a@b"}, {"delay": 5})
    ]
    assert run.raised is None


def test_what_is_printed_or_logged_is_in_the_lines_too(capsys: pytest.CaptureFixture[str]) -> None:
    """As the worker would: print, stderr and `logging` are the job's log, and still go where they went."""

    def handler(ctx: JobContext, payload: dict[str, Any]) -> None:
        print("printed")
        print("to stderr", file=sys.stderr)
        logging.getLogger("lib").error("logged")
        ctx.log("said")

    run = run_handler(handler)
    assert run.lines == ["printed", "to stderr", "lib: logged", "said"]
    assert [line.level for line in run.log] == ["info", "warning", "error", "info"]
    assert capsys.readouterr().out == "printed\n"


@pytest.mark.parametrize("error", [ValueError("no"), Cancel("enough"), Retry(after=5), JobCancelled(), SystemExit(3)])
def test_what_a_handler_raises_is_raised_or_kept(error: BaseException) -> None:
    """By default it is the test's own; with `catch` it stands beside what was said before."""

    def handler(ctx: JobContext, payload: dict[str, Any]) -> None:
        ctx.log("before")
        raise error

    with pytest.raises(type(error)):
        run_handler(handler)
    run = run_handler(handler, catch=True)
    assert (run.raised, run.lines, run.result) == (error, ["before"], None)


def test_async_handlers_run_to_their_end() -> None:
    """A coroutine is awaited; what it raises is kept like any other."""

    async def handler(ctx: JobContext, payload: dict[str, Any]) -> int:
        if payload.get("fail"):
            raise LookupError("no")
        return 7

    assert run_handler(handler).result == 7
    assert isinstance(run_handler(handler, {"fail": True}, catch=True).raised, LookupError)


@pytest.mark.parametrize("result", [{1, 2}, object(), float("nan"), "x" * (1024 * 1024)])
def test_a_result_that_the_worker_would_not_take_is_an_error(result: object) -> None:
    """No JSON, or over 1 MiB: the job would fail, and so does the test."""
    with pytest.raises(TypeError, match="the result"):
        run_handler(lambda ctx, payload: result)


def test_a_cancelled_handler_is_interrupted_once_and_may_clean_up() -> None:
    """Its first use of the context raises JobCancelled; afterwards it can still say what it left."""

    def handler(ctx: JobContext, payload: dict[str, Any]) -> None:
        try:
            ctx.check()
        finally:
            ctx.log("cleaned up")

    run = run_handler(handler, cancelled=True, catch=True)
    assert isinstance(run.raised, JobCancelled)
    assert run.lines == ["cleaned up"]


def test_the_payload_of_the_test_is_not_the_handlers() -> None:
    """A handler that changes its payload does not change the test's."""
    payload = {"n": 1}
    run_handler(lambda ctx, given: given.update(n=2), payload)
    assert payload == {"n": 1}


def test_a_frozen_clock_moves_when_it_is_told_to() -> None:
    """Same moment, however often it is asked; seconds or a timedelta later; never back; always UTC."""
    clock = FrozenClock()
    assert clock.now() == clock.now() == START
    clock.move(90)
    clock.move(timedelta(hours=1))
    assert clock.now() - START == timedelta(hours=1, seconds=90)
    with pytest.raises(ValueError, match="forward"):
        clock.move(-1)
    with pytest.raises(ValueError, match="UTC"):
        FrozenClock(datetime(2026, 1, 1))
    berlin = FrozenClock(datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=1)))).now()
    assert (berlin.hour, berlin.tzinfo) == (11, UTC)


def test_a_frozen_clock_jumps_over_waits_and_stands_still_while_handlers_run() -> None:
    """Where nothing runs a day is over at once; where something runs, nothing moves until it rings."""
    clock = FrozenClock()
    clock.wait(86_400)
    clock.idle(1)
    assert clock.now() - START == timedelta(days=1, seconds=1)

    clock.is_busy = lambda: True
    threading.Timer(0.01, clock.wake).start()
    began = time.monotonic()
    clock.wait(60)
    assert clock.now() - START == timedelta(days=1, seconds=1)
    assert time.monotonic() - began < 30


def test_importing_the_package_is_light() -> None:
    """Each pytest run of an environment imports the plug-in: nothing of the engine comes with it."""
    program = "import runner.testing.plugin, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    heavy = {"sqlalchemy", "sqlmodel", "pydantic", "yaml", "jsonschema", "runner.engine", "runner.app", "structlog"}
    assert heavy & set(done.stdout.split()) == set()
