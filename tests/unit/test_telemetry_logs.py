"""Log lines: their form on a terminal and elsewhere, what is bound to them, and what never is."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import threading
import typing
import warnings
from collections.abc import Iterator
from contextlib import redirect_stdout
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pytest

from runner.domain.errors import UsageError
from runner.domain.ledger import ScheduleSlot
from runner.domain.lifecycle import settle
from runner.domain.outcome import Completed, Failed, Outcome, Released, Snoozed, Stalled
from runner.domain.problem import Problem
from runner.telemetry import (
    ClaimLost,
    ClockOff,
    ConfigApplied,
    ConfigRejected,
    Event,
    FiringFailed,
    JobProgressed,
    JobSettled,
    JobStarted,
    LateBeat,
    LoopDied,
    ServiceStarted,
    ServiceStopped,
    SettingsChanged,
    SettingsKept,
    SlotsDecided,
    StopRequested,
    TickFailed,
    TickRecovered,
    TracesUnavailable,
    WorkerRescued,
    flood,
    inside,
)
from runner.telemetry.logs import Logs, configure_logging
from tests.factories import NOW, SECOND, make_run

SECRET = "hunter2"


def settled(outcome: Outcome, **values: Any) -> JobSettled:
    run = make_run(payload={"password": SECRET}, **values)
    return JobSettled(run, settle(run, outcome, NOW, Random(0)), NOW + timedelta(milliseconds=1500))


def every_event() -> list[Event]:
    """One of each kind, the ends of a run each."""
    run = make_run(payload={"password": SECRET}, schedule_name="nightly")
    slot = ScheduleSlot(schedule_name="nightly", slot=NOW, outcome="enqueued", job_id=7, decided_at=NOW)
    problem = Problem("cron", "no such minute: 61", 4, 11, "schedules.nightly.cron", "0 to 59")
    return [
        JobStarted(run, NOW),
        settled(Completed(f'"{SECRET}"')),
        settled(Failed("ValueError: no")),
        settled(Failed("ValueError: no", for_good=True)),
        settled(Stalled()),
        settled(Snoozed(SECOND)),
        settled(Released()),
        ClaimLost(run, NOW),
        JobProgressed(1, 10.0, "half", None),
        SlotsDecided("nightly", (slot,)),
        FiringFailed("nightly", "KEY is not set"),
        WorkerRescued("w9", (run,)),
        ServiceStarted("1", f"postgresql://me:{SECRET}@host/db", 3, 2, 1, ("mail",), "w1", "host:9", "3.40.1", True),
        StopRequested("SIGTERM"),
        StopRequested("SIGINT", at_once=True),
        ServiceStopped("SIGTERM", 2, 1, 4.0),
        TickFailed("scheduler", "database is locked", ValueError("x")),
        TickRecovered("scheduler"),
        LoopDied("worker", SystemExit()),
        ConfigApplied(4, ("~ nightly: cron",)),
        ConfigRejected("schedules.yaml", (problem,), None, 3),
        SettingsChanged({"concurrency": (2, 5)}),
        SettingsKept({"concurrency": (2, "flag --concurrency")}, "a flag or a variable wins over the file"),
        LateBeat(31.0, 10.0),
        ClockOff(-12.5),
        ClockOff(0.0),
        TracesUnavailable("OTEL_EXPORTER_OTLP_ENDPOINT"),
    ]  # fmt: skip


def said(*events: Event, level: str = "debug", is_terminal: bool = False) -> str:
    stream = io.StringIO()
    logs = Logs(level, is_terminal=is_terminal, stream=stream)
    for event in events:
        logs.tell(event)
    return stream.getvalue()


def line(*events: Event) -> dict[str, Any]:
    (only,) = said(*events).splitlines()
    entry: dict[str, Any] = json.loads(only)
    return entry


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where the standard library's logging goes while a test looks; afterwards as before."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield io.StringIO()
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


def test_what_an_edit_changes_of_the_settings_and_what_not() -> None:
    """One line each: old and new value, or the value that stays, where it came from, and why."""
    days = timedelta(days=30)
    changed = line(SettingsChanged({"concurrency": (2, 5), "retention": (days, days / 4)}))
    assert changed["event"] == "settings changed: concurrency 2 -> 5, retention 30d -> 7d12h"
    kept = line(SettingsKept({"retention": (days, "environment RUNNER_RETENTION")}, "why"))
    assert (kept["level"], kept["reason"]) == ("info", "why")
    assert kept["event"] == "settings kept: retention 30d (environment RUNNER_RETENTION)"
    assert line(SettingsKept({"heartbeat": (days, "file")}, "why", is_refused=True))["level"] == "warning"


def test_each_kind_of_event_has_its_words() -> None:
    """Every event but progress is told; no kind is forgotten here."""
    assert {type(event) for event in every_event()} == set(typing.get_args(Event))
    for event in every_event():
        assert bool(said(event)) == (not isinstance(event, JobProgressed)), event


@pytest.mark.parametrize("is_terminal", [False, True])
def test_no_line_carries_a_payload_or_a_password(is_terminal: bool) -> None:
    """Secrets never appear: no payload, no result, no password of a database URL."""
    text = said(*every_event(), is_terminal=is_terminal)
    assert SECRET not in text
    assert "postgresql://me:***@host/db" in text


def test_a_line_elsewhere_than_a_terminal_is_one_json_object_with_the_job_bound() -> None:
    """Time in UTC, level, text, job_id, type, run_number, worker_id and schedule; seconds as numbers."""
    entry = line(settled(Completed(), id=12, type="mail", worker_id="w1", run_number=3, schedule_name="nightly"))
    at = entry.pop("time")
    assert at.endswith("Z")
    assert datetime.fromisoformat(at).tzinfo is not None
    assert entry == {
        "level": "info", "event": "job completed", "job_id": 12, "type": "mail", "run_number": 3, "worker_id": "w1",
        "schedule": "nightly", "attempt": 1, "seconds": 1.5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("outcome", "level", "text"),
    [
        (Completed(), "info", "job completed"),
        (Failed("E: first\nsecond"), "warning", "job failed: it is tried again"),
        (Failed("E: first\nsecond", for_good=True), "error", "job failed"),
        (Stalled(), "warning", "job stalled: it is tried again"),
        (Snoozed(SECOND), "info", "job snoozed"),
        (Released(), "info", "job released"),
    ],
)
def test_an_end_is_as_loud_as_it_matters(outcome: Outcome, level: str, text: str) -> None:
    """A failure for good is an error, one that is tried again a warning; of an error, the first line is told."""
    entry = line(settled(outcome))
    assert (entry["level"], entry["event"]) == (level, text)
    if isinstance(outcome, Failed):
        assert entry["error"] == "E: first"


def test_the_worker_is_bound_once_the_service_has_started() -> None:
    """A line that belongs to no run says whose it is."""
    start = ServiceStarted("1.0", "runner.db", 3, 2, 1, worker_id="w1")
    _, after = said(start, FiringFailed("nightly", "no")).splitlines()
    assert json.loads(after)["worker_id"] == "w1"


def test_a_start_says_what_serves_in_one_line_and_warns_of_a_library_that_loses_commits() -> None:
    """Database, revision, concurrency, queues, schedules, address, SQLite's version; a warning only where it is due."""
    start = ServiceStarted("1.0", "runner.db", 3, 2, 5, (), "w1", "http://127.0.0.1:9", "3.53.0", False)
    entry = line(start)
    assert entry == {
        "time": entry["time"], "level": "info", "event": "serving", "version": "1.0", "database": "runner.db",
        "revision": 3, "concurrency": 2, "queues": "all", "schedules": 5, "worker_id": "w1",
        "address": "http://127.0.0.1:9", "sqlite": "3.53.0",
    }  # fmt: skip
    old = ServiceStarted("1.0", "runner.db", 3, 2, 5, sqlite_version="3.40.1", is_sqlite_affected=True)
    _, warning = map(json.loads, said(old).splitlines())
    assert warning["level"] == "warning"
    assert warning["remedy"] == "pip install 'yaml-job-runner[sqlite]'"


def test_a_tick_that_goes_on_failing_is_told_once() -> None:
    """Repeats are counted by the metrics, not told again; what was not foreseen comes with its traceback."""
    try:
        raise ZeroDivisionError("in a tick")
    except ZeroDivisionError as error:
        first = TickFailed("worker", "ZeroDivisionError: in a tick", error)
    told = said(first, TickFailed("worker", "ZeroDivisionError: in a tick", repeats=1)).splitlines()
    assert len(told) == 1
    assert "raise ZeroDivisionError" in json.loads(told[0])["exception"]


def test_a_rejected_file_is_one_line_with_its_problems() -> None:
    """Each problem has its place; of very many, the first twenty; and it is said what stays in force."""
    problems = tuple(Problem("key", f"no such key: {n}", n, 3) for n in range(1, 31))
    entry = line(ConfigRejected("s.yaml", problems, None, 3))
    assert entry["event"] == "configuration rejected: revision 3 stays in force"
    assert entry["problems"] == 30
    assert entry["details"][0] == "s.yaml:1:3: error[key]: no such key: 1"
    assert entry["details"][20:] == ["and 10 more"]


def test_a_terminal_gets_a_line_for_people_and_no_control_character() -> None:
    """What a handler's error holds cannot move the cursor, forge a line or turn the reading direction."""
    text = said(
        settled(Failed("E: \x1b[2Jgone \u202eright \x9b end", for_good=True)),
        ConfigRejected("s.yaml", (Problem("key", "bad \x1b[31m", 1, 3, hint="good"),), None, 3),
        is_terminal=True,
    )
    first, second, detail = text.splitlines()
    assert "error    job failed  job_id=1  type=mail" in first
    assert r'error="E: \x1b[2Jgone \u202eright \x9b end"' in first
    assert second.endswith("configuration rejected: revision 3 stays in force  file=s.yaml  problems=1")
    assert detail == r"    s.yaml:1:3: error[key]: bad \x1b[31m (help: good)"


def test_json_lines_are_ascii() -> None:
    """No byte of a line can end it early or be read as anything but text."""
    text = said(settled(Failed("E: \x1b[2J\u202e ä", for_good=True)))
    assert text.isascii()
    assert "\x1b" not in text
    assert json.loads(text)["error"].startswith("E: \x1b[2J") is True


@pytest.mark.parametrize(
    ("level", "events"), [("debug", 3), ("info", 2), ("warning", 1), ("error", 0)]
)  # fmt: skip
def test_a_level_leaves_out_what_is_quieter(level: str, events: int) -> None:
    """A start is debug, a completion info, a failure that is tried again a warning."""
    text = said(JobStarted(make_run(), NOW), settled(Completed()), settled(Failed("no")), level=level)
    assert len(text.splitlines()) == events


def test_an_unknown_level_is_refused_with_the_known_ones() -> None:
    """A typing error in RUNNER_LOG_LEVEL must not pass as silence."""
    with pytest.raises(UsageError, match="loud") as error:
        configure_logging("loud", False, io.StringIO())
    assert error.value.hint == "debug, info, warning, error"


def test_thousands_of_completions_a_second_are_counted_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many a second have a line; the rest one line together. Failures are told each, and at `debug` all are."""
    monkeypatch.setattr(flood, "PER_SECOND", 3)
    stream = io.StringIO()
    logs = Logs("info", is_terminal=False, stream=stream)
    for _ in range(10):
        logs.tell(settled(Completed()))
        logs.tell(settled(Failed("no", for_good=True)))
    logs.tell(ServiceStopped("SIGTERM", 0, 0))

    entries = [json.loads(one) for one in stream.getvalue().splitlines()]
    assert [one["event"] for one in entries].count("job completed") == 3
    assert [one["event"] for one in entries].count("job failed") == 10
    assert (entries[-2]["jobs"], entries[-2]["types"]) == (7, ["mail:7"])
    assert entries[-1]["event"] == "stopped"
    assert len(said(*[settled(Completed())] * 10).splitlines()) == 10


def test_those_left_out_are_told_without_another_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing happens after a burst, its summary comes all the same."""
    monkeypatch.setattr(flood, "PER_SECOND", 0)
    later: list[Any] = []
    monkeypatch.setattr(flood.threading, "Timer", lambda seconds, call: later.append(call) or _Unstarted())
    stream = io.StringIO()
    logs = Logs("info", is_terminal=False, stream=stream)
    logs.tell(settled(Completed()))
    logs.tell(settled(Completed()))
    assert stream.getvalue() == ""
    (flush,) = later
    flush()
    assert json.loads(stream.getvalue())["jobs"] == 2


class _Unstarted:
    daemon = False

    def start(self) -> None: ...


def test_what_libraries_log_comes_out_alike(stream: io.StringIO) -> None:
    """Records of the standard library have the same form, with the logger's name and the traceback in the object."""
    configure_logging("info", False, stream)
    logging.getLogger("some.library").info("read %d rows", 3)
    logging.getLogger("some.library").debug("not asked for")
    logging.getLogger("watchfiles.main").info("1 change detected")
    try:
        raise KeyError("x")
    except KeyError:
        logging.getLogger("some.library").exception("broken")

    first, second = map(json.loads, stream.getvalue().splitlines())
    assert (first["event"], first["logger"], first["level"]) == ("read 3 rows", "some.library", "info")
    assert "KeyError: 'x'" in second["exception"]


def test_warnings_and_records_with_a_wrong_format_do_not_break_the_form(stream: io.StringIO) -> None:
    """Each line stays an object where Python warns, or where a library counts its arguments wrong."""
    configure_logging("info", False, stream)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old ways", UserWarning, stacklevel=1)
    record = logging.makeLogRecord({"name": "lib", "levelname": "WARNING", "msg": "%s and %s", "args": ("one",)})
    logging.getLogger().handlers[-1].handle(record)

    first, second = map(json.loads, stream.getvalue().splitlines())
    assert "old ways" in first["event"]
    assert second["event"].startswith("%s and %s (not enough arguments")


def test_configuring_again_takes_the_place_of_the_first(stream: io.StringIO) -> None:
    """A line is never told twice."""
    configure_logging("info", False, stream)
    configure_logging("info", True, stream)
    logging.getLogger("lib").warning("once")
    assert stream.getvalue().count("once") == 1


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(28, "No space left"), ValueError("closed file")])
def test_a_stream_that_takes_nothing_more_stops_nobody(error: Exception) -> None:
    """Jobs go on where the reader of the log has gone or its disk is full."""

    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise error

    Logs("info", is_terminal=False, stream=Full()).tell(settled(Completed()))


def test_a_terminal_without_unicode_gets_escapes() -> None:
    """What the stream's encoding cannot show does not raise."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    Logs("info", is_terminal=True, stream=stream).tell(FiringFailed("nightly", "schön"))
    assert rb"sch\xf6n" in raw.getvalue()


def test_what_is_printed_keeps_the_form() -> None:
    """A line is a line of the log, bound to its run; a line without an end waits for it, each thread's for its own."""
    stream = io.StringIO()
    out = Logs("info", is_terminal=False, stream=stream).printed("stdout")
    with inside(make_run(id=12)), redirect_stdout(out):
        print("half ", end="")
        other = threading.Thread(target=print, args=("of another thread",))
        other.start()
        other.join()
        print("whole\n\nand more")
    entries = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [one["event"] for one in entries] == ["of another thread", "half whole", "and more"]
    assert (entries[1]["job_id"], entries[1]["logger"]) == (12, "stdout")


def test_importing_events_imports_no_library() -> None:
    """The engine emits events: it pays for structlog, prometheus-client and OpenTelemetry only where they are used."""
    program = "import runner.telemetry, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"structlog", "prometheus_client", "opentelemetry"} & set(done.stdout.split())
