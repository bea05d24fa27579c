"""What a handler did, as an outcome: the table of everything it may return or raise."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from datetime import timedelta

import pytest

from runner import Cancel, JobCancelled, Retry, Snooze
from runner.domain.outcome import Cancelled, Completed, Failed, Outcome, Released, Snoozed
from runner.engine import outcomes
from runner.engine.context import Stop, StopKind


def asked(kind: StopKind | None) -> Stop:
    stop = Stop()
    if kind is not None:
        stop.request(kind, f"because of {kind}")
    return stop


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None),
        (False, "false"),
        (0, "0"),
        ([1, "a", None], '[1,"a",null]'),
        ({"a": {"b": 2.5}}, '{"a":{"b":2.5}}'),
        ((1, 2), "[1,2]"),
    ],
)
def test_json_is_a_result(value: object, text: str | None) -> None:
    """A handler completes with any JSON value; None is no result."""
    assert outcomes.returned(value) == Completed(text)


def test_the_limit_of_a_result_is_one_mebibyte() -> None:
    """A result of 1 MiB of JSON is taken, a byte more fails for good with the limit named."""
    largest = "x" * (1024 * 1024 - 2)

    assert outcomes.returned(largest) == Completed(f'"{largest}"')
    match outcomes.returned(largest + "x"):
        case Failed(error, for_good=True):
            assert "the result has 1,048,577 bytes of JSON; the limit is 1,048,576 (1 MiB)" in error
        case other:
            pytest.fail(f"not failed for good: {other}")


def test_a_result_of_many_levels_fails_for_good() -> None:
    """What JSON's writer cannot follow to its end is no result."""
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]

    assert isinstance(outcome := outcomes.returned(deep), Failed)
    assert outcome.for_good


def test_text_that_only_looks_odd_stays() -> None:
    """Emoji, backslashes and the words of an escape are text like any other."""
    value = {"a": "🎈", "b": "\\ud800", "c": "\\u0000", "d": ["\x00", ("é",)], "e\ud800": 1}

    outcome = outcomes.returned(value)

    assert isinstance(outcome, Completed)
    assert json.loads(outcome.result or "") == {"a": "🎈", "b": "\\ud800", "c": "\\u0000", "d": ["�", ["é"]], "e?": 1}


@pytest.mark.parametrize(
    ("error", "kind", "expected"),
    [
        (Cancel("no need"), None, Cancelled("no need")),
        (Cancel(""), None, Cancelled("cancelled by the handler")),
        (Cancel("no need"), "timeout", Cancelled("no need")),
        (Snooze(for_=30), None, Snoozed(timedelta(seconds=30))),
        (Snooze(for_=timedelta.max), None, Snoozed(timedelta(days=365))),
        (JobCancelled("enough"), None, Cancelled("enough")),
        (JobCancelled("enough"), "cancel", Cancelled("because of cancel")),
        (asyncio.CancelledError(), "cancel", Cancelled("because of cancel")),
        (JobCancelled(), "shutdown", Released("because of shutdown")),
        (asyncio.CancelledError(), "shutdown", Released("because of shutdown")),
    ],
)
def test_what_is_raised_says_how_it_ended(error: BaseException, kind: StopKind | None, expected: Outcome) -> None:
    """Instructions are followed; an interruption ends as the request says that was made."""
    assert outcomes.raised(error, asked(kind)) == expected


@pytest.mark.parametrize("error", [JobCancelled(), asyncio.CancelledError()])
def test_an_interruption_by_the_clock_is_a_timeout_error(error: BaseException) -> None:
    """A timeout ends as a failed attempt of the class TimeoutError."""
    outcome = outcomes.raised(error, asked("timeout"))

    assert isinstance(outcome, Failed)
    assert outcome.error == "TimeoutError: because of timeout"
    assert {"builtins.TimeoutError", "builtins.OSError"} <= set(outcome.kinds)


@pytest.mark.parametrize(
    "error",
    [ValueError("no"), SystemExit(1), KeyboardInterrupt(), GeneratorExit(), MemoryError(), asyncio.CancelledError()],
)
def test_everything_else_is_a_failure(error: BaseException) -> None:
    """Whatever else a handler raises has failed its attempt, with its classes."""
    outcome = outcomes.raised(error, asked(None))

    assert isinstance(outcome, Failed)
    assert not outcome.for_good
    assert outcome.kinds[0].endswith(f".{type(error).__name__}")
    assert "builtins.object" not in outcome.kinds


def test_retry_carries_its_wait() -> None:
    """`Retry(after=...)` is a failure with a wait; a negative wait is an error where it is written."""
    assert outcomes.raised(Retry(after=3), asked(None)).retry_after == timedelta(seconds=3)  # type: ignore[union-attr]
    assert outcomes.raised(Retry(), asked(None)).retry_after is None  # type: ignore[union-attr]
    assert outcomes.raised(Retry(after=timedelta.max), asked(None)).retry_after == timedelta(days=365)  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="negative"):
        Retry(after=-1)


def _caught(function: object) -> BaseException:
    try:
        function()  # type: ignore[operator]
    except BaseException as error:
        return error
    pytest.fail("nothing was raised")


def test_an_error_is_one_line_and_then_the_traceback() -> None:
    """The first line says it; the traceback begins at the handler's own first frame."""

    def handler() -> None:
        raise LookupError("no such\nthing")

    lines = outcomes.described(_caught(handler)).splitlines()

    assert lines[:3] == ["LookupError: no such", "thing", ""]
    assert lines[3] == "Traceback (most recent call last):"
    assert "in handler" in "\n".join(lines)
    assert lines[-2:] == ["LookupError: no such", "thing"]


def test_frames_of_ours_are_left_out() -> None:
    """A traceback in the database names no file of the engine."""

    from runner.engine.context import JobContext
    from runner.engine.executor import Execution, Surroundings
    from runner.engine.handlers import Handler
    from runner.engine.threads import call
    from runner.testing.handlers import HandlerRun, Recording
    from tests.factories import NOW, make_run

    def handler(ctx: JobContext, payload: object) -> None:
        raise LookupError("deep")

    run = make_run()
    sink = Recording(HandlerRun())
    outcome = call(Execution(run, Handler("x", handler, False), sink, 0.0, Surroundings(lambda: NOW)))

    assert isinstance(outcome, Failed)
    assert "engine/threads.py" not in outcome.error
    assert outcome.error.count("  File ") == 1


def test_causes_are_told() -> None:
    """What an error came from is part of its traceback."""

    def handler() -> None:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ValueError("outer") from error

    text = outcomes.described(_caught(handler))

    assert text.splitlines()[0] == "ValueError: outer"
    assert "KeyError: 'inner'" in text
    assert "direct cause" in text


def test_a_syntax_error_is_one_line_too() -> None:
    """Python shows the place of a syntax error first; ours comes after what it is."""
    error = _caught(lambda: compile("def f(:", "x.py", "exec"))

    assert outcomes.described(error).splitlines()[0].startswith("SyntaxError: ")


def test_a_long_error_is_cut() -> None:
    """An error takes at most 16,000 characters, and says that it was cut."""
    text = outcomes.described(ValueError("x" * 100_000))

    assert len(text) < 16_100
    assert text.endswith("[cut at 16,000 characters]")


def test_an_error_that_cannot_be_shown_is_shown() -> None:
    """An exception whose own text raises is told all the same."""

    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    assert "Odd" in outcomes.described(Odd()).splitlines()[0]


# ---- the request to stop


def test_the_first_request_stays() -> None:
    """The kind that came first is the one that counts."""
    stop = Stop()

    assert [stop.request("timeout", "late"), stop.request("cancel", "unwanted")] == [True, False]
    assert (stop.kind, stop.reason) == ("timeout", "late")


def test_a_request_is_delivered_once_over_all_threads() -> None:
    """JobCancelled is raised once, whichever thread of the handler asks first."""
    stop = asked("cancel")
    raised: list[BaseException] = []

    def ask() -> None:
        try:
            stop.check()
        except JobCancelled as error:
            raised.append(error)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(raised) == 1
    stop.check()


def test_nothing_is_delivered_before_a_request() -> None:
    """Asking early uses nothing up."""
    stop = Stop()
    stop.check()
    stop.request("cancel", "now")

    with pytest.raises(JobCancelled, match="now"):
        stop.check()


def test_handlers_see_only_public_names() -> None:
    """What handlers import comes from `runner`, quickly: neither SQL nor YAML is loaded for it."""
    code = (
        "import sys; from runner import JobContext, Retry, Cancel, Snooze, JobCancelled; print('yaml' in sys.modules)"
    )

    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )

    assert said.stdout.strip() == "False"
