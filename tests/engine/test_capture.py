"""What handlers print, or log with `logging`, is in their job's log; everything else goes where it went."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
from sqlalchemy import event

from runner.domain.job_rows import JobLog
from runner.domain.schedule import JobType
from runner.engine import capture
from runner.telemetry import Event, JobProgressed
from runner.telemetry.printed import Printed
from runner.testing.handlers import HandlerRun, Recording
from tests.engine import loud_handlers
from tests.engine.bench import Bench
from tests.engine.sample_handlers import gate
from tests.factories import NOW
from tests.waiting import eventually

EVERYTHING = [
    ("info", "printed 1"),
    ("warning", "on stderr"),
    ("info", "two"),
    ("info", "lines"),
    ("info", ""),
    ("debug", "shop.mail: looking for ada"),
    ("info", "shop.mail: found"),
    ("warning", "shop.mail: slow"),
    ("error", "shop.mail: lost"),
    ("error", "of the root"),
    ("info", "no end"),
]


def loud(name: str, **values: Any) -> JobType:
    return JobType(name, f"tests.engine.loud_handlers.{name}", **values)


def told(bench: Bench, job_id: int | None) -> list[tuple[str, str]]:
    return [(line.level, line.message) for line in bench.app.logs.lines(job_id or 0)]


@contextmanager
def bare_root() -> Iterator[logging.Logger]:
    """The root logger as a program has it where nobody has configured `logging`; pytest does so before each test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []
    root.setLevel(logging.WARNING)
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize(
    "job_type",
    [loud("loud"), loud("loud_async"), loud("loud", isolation="process"), loud("loud_async", isolation="process")],
    ids=["thread", "async", "process", "async-in-a-process"],
)
def test_what_a_handler_prints_and_logs_is_its_log(
    bench: Bench, job_type: JobType, capfd: pytest.CaptureFixture[str]
) -> None:
    """Line by line in order, with its level and the logger's name; a print without end is a line at the end.

    It is still printed where it was.
    """
    bench.define(job_type)

    job = bench.run_one(job_type.name)

    assert job.status == "completed"
    assert told(bench, job.id) == EVERYTHING
    shown = capfd.readouterr()
    assert shown.out == "printed 1\ntwo\nlines\n\nno end"
    assert "on stderr\n" in shown.err


@pytest.mark.parametrize("is_given_up", [False, True])
def test_a_print_without_an_end_ends_with_its_run(is_given_up: bool) -> None:
    """Where prints become lines of the service's log too: the next run's first word is a line of its own."""
    lines: list[str] = []
    with contextlib.redirect_stdout(cast("Any", Printed(lines.append, sys.stdout))), capture.capturing():
        for text in ("no end", "next\n"):
            voice = capture.Voice(Recording(HandlerRun()), lambda: NOW)
            with voice:
                sys.stdout.write(text)
                if is_given_up:
                    voice.close()

    assert lines == ["no end", "next"]


@pytest.mark.parametrize("name", ["in_turn", "in_turn_async"])
def test_each_run_has_its_own_words(bench: Bench, name: str) -> None:
    """Runs that print at the same time, in the middle of each other's lines, in tasks and `to_thread` too."""
    bench.define(loud(name))
    with bench.worker(concurrency=4) as worker:
        ids = [bench.enqueue(name, {"name": f"job {number}"}) for number in range(4)]
        bench.until(worker, lambda: gate().inside == 4)
        gate().opened.set()
        bench.run(worker, *ids)

    for number, job_id in enumerate(ids):
        words = {("info", f"shop.mail: of job {number}"), ("info", f"job {number} begins and ends")}
        assert set(told(bench, job_id)) == words


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_a_thread_of_a_handler_speaks_for_its_run(bench: Bench, isolation: Any) -> None:
    """What a thread prints that a handler has started is in the log while the run lasts, and in no later one's."""
    bench.define(loud("starts_a_thread", isolation=isolation), loud("loud", isolation=isolation))
    with bench.worker(concurrency=1) as worker:
        first = bench.run(worker, bench.enqueue("starts_a_thread"))[0]
        gate().opened.set()
        if isolation == "thread":
            eventually(lambda: gate().left == 1)
        second = bench.run(worker, bench.enqueue("loud"))[0]

    assert told(bench, first.id) == [("info", "from a thread"), ("info", "main goes on")]
    assert told(bench, second.id) == EVERYTHING


def test_words_outside_of_a_job_are_no_jobs(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """What the process itself prints and logs while a worker runs goes where it went, and into no log."""
    bench.define(loud("in_turn"))
    with bench.worker() as worker:
        job_id = bench.enqueue("in_turn", {"name": "job"})
        bench.until(worker, lambda: gate().inside == 1)
        print("of the program")
        logging.getLogger("program").warning("of the program")
        gate().opened.set()
        bench.run(worker, job_id)

    assert ("info", "of the program") not in told(bench, job_id)
    assert len(told(bench, job_id)) == 2
    assert capsys.readouterr().out.splitlines()[0] == "job begins of the program"


def test_everything_is_put_back(bench: Bench) -> None:
    """Only while a worker runs are the streams and `logging` listened to; several workers share that."""

    def standing() -> tuple[object, ...]:
        root = logging.getLogger()
        return sys.stdout, sys.stderr, logging.Logger.callHandlers, threading.Thread.start, root.level

    with bare_root():
        before = standing()
        with bench.worker():
            with bench.worker():
                pass
            during = standing()
        assert standing() == before
    assert all(one != other for one, other in zip(during, before, strict=True))


def test_info_is_heard_where_nobody_configured_logging(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    """`logger.info` is in the log of the job without a `basicConfig`; on stderr is what was there without us."""
    logger, others = loud_handlers.LOGGER, logging.StreamHandler(io.StringIO())
    logger.setLevel(logging.NOTSET)
    logging.getLogger("shop").addHandler(others)
    bench.define(loud("loud"))
    try:
        with bare_root():
            job = bench.run_one("loud")
    finally:
        logger.setLevel(logging.DEBUG)
        logging.getLogger("shop").removeHandler(others)

    assert [line for line in told(bench, job.id) if "shop" in line[1]] == [
        ("info", "shop.mail: found"),
        ("warning", "shop.mail: slow"),
        ("error", "shop.mail: lost"),
    ]
    assert capfd.readouterr().err.splitlines() == ["on stderr", "of the root"]
    assert others.stream.getvalue() == "slow\nlost\n"


def test_a_configuration_of_the_handlers_own_is_kept(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    """`basicConfig` in a handler works as it says, and a line that is logged and printed is one line."""
    bench.define(loud("configures_logging"))

    with bare_root() as root:
        job = bench.run_one("configures_logging")
        assert root.level == logging.INFO

    assert told(bench, job.id) == [("info", "shop.mail: said once")]
    assert capfd.readouterr().err == "<said once>\n"


def test_a_subscriber_that_prints_and_logs_is_no_handler(bench: Bench) -> None:
    """What our own log lines say in a handler's thread is not its job's, and says nothing about itself."""

    def tell(told: Event) -> None:
        if isinstance(told, JobProgressed):
            print("of a subscriber")
            logging.getLogger("runner").warning("of a subscriber")

    bench.app.events.subscribe(tell)
    bench.define(loud("progress_and_print"))

    job = bench.run_one("progress_and_print")

    assert told(bench, job.id) == [("info", "of the handler")]


def test_what_cannot_be_formatted_fails_no_job(bench: Bench) -> None:
    """A record whose text cannot be made is told as such; a traceback is part of its line."""
    bench.define(loud("misformatted"))

    with bare_root():
        job = bench.run_one("misformatted")
    lines = told(bench, job.id)

    assert job.status == "completed"
    assert lines[0][0] == "warning"
    failure = r"shop.mail: \[ValueError while formatting the message of .*loud_handlers.py:\d+\]"
    assert re.fullmatch(failure, lines[0][1])
    assert lines[1][1].startswith("shop.mail: it failed\nTraceback (most recent call last):\n")
    assert lines[1][1].endswith("LookupError: deep")
    assert lines[2] == ("info", "odd \N{REPLACEMENT CHARACTER} ?")


def test_a_progress_bar_is_one_line(bench: Bench) -> None:
    """What returns to the start of its line is kept as a terminal would show it in the end."""
    bench.define(loud("bar"))

    job = bench.run_one("bar")

    assert told(bench, job.id) == [("warning", "100% done"), ("info", "with a carriage return")]


def test_a_line_without_end_is_cut_into_lines(bench: Bench) -> None:
    """Nothing is kept in memory until a newline comes."""
    bench.define(loud("endless_line"))

    job = bench.run_one("endless_line")

    lengths = [len(line[1]) for line in told(bench, job.id)]
    assert sum(lengths) == 500_000
    assert max(lengths) == lengths[0] == capture.LONGEST_LINE


@pytest.mark.parametrize("isolation", ["thread", "process"])
@pytest.mark.parametrize("log", [False, True], ids=["print", "logging"])
def test_ten_thousand_lines_are_few_writes(bench: Bench, isolation: Any, log: bool) -> None:
    """Lines are gathered: ten thousand cost a handful of transactions, and none is lost or swapped."""
    bench.define(loud("many", isolation=isolation))
    writes: list[str] = []
    with bench.worker() as worker:
        for engine in (bench.app.database._durable, bench.app.database._relaxed):
            event.listen(engine, "before_cursor_execute", lambda *told: writes.append(told[2]))
        job = bench.run(worker, bench.enqueue("many", {"times": 10_000, "log": log}))[0]

    prefix = "shop.mail: " * log
    assert [line.message for line in lines(bench, job.id)] == [f"{prefix}number {number}" for number in range(10_000)]
    assert 1 <= len([one for one in writes if one.startswith("INSERT INTO job_logs")]) <= 20


def lines(bench: Bench, job_id: int | None) -> list[JobLog]:
    return bench.app.logs.lines(job_id or 0, limit=20_000)


def test_streams_that_were_replaced_are_heard_too(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A live table, or a handler, puts a stream of its own in place while the worker runs."""
    bench.define(loud("loud"))
    with bench.worker() as worker:
        monkeypatch.setattr(sys, "stdout", other := io.StringIO())
        job = bench.run(worker, bench.enqueue("loud"))[0]

    assert told(bench, job.id) == EVERYTHING
    assert other.getvalue().startswith("printed 1\n")
    assert sys.stdout is other


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError

    def flush(self) -> None:
        raise BrokenPipeError


def test_a_reader_that_has_gone_fails_no_job(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody reads what is printed any more, it is in the log all the same."""
    monkeypatch.setattr(sys, "stdout", Broken())
    bench.define(loud("loud"))

    job = bench.run_one("loud")

    assert (job.status, told(bench, job.id)) == ("completed", EVERYTHING)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_copy_of_the_process_has_no_voice(bench: Bench) -> None:
    """What a copy prints waits for no lock, whose owner it has not copied, and reaches no log."""
    bench.define(loud("forks"))
    with bench.worker() as worker:
        job_id = bench.enqueue("forks", {"waits": True})
        bench.until(worker, lambda: gate().inside == 1)
        with worker.recorder._lock:
            gate().opened.set()
            eventually(lambda: gate().left == 1, "the end of the copy")
        job = bench.run(worker, job_id)[0]

    assert job.result == 7
    assert told(bench, job.id) == [("info", "before after")]


def test_a_forked_copy_of_a_child_has_no_pipe(bench: Bench) -> None:
    """What a copy of a process handler prints, or says to its context, is not sent to the worker."""
    bench.define(loud("forks", isolation="process"))

    job = bench.run_one("forks", {"speaks": True})

    assert (job.result, told(bench, job.id)) == (7, [("info", "before after")])


def test_a_run_that_is_given_up_ends_its_line(bench: Bench, short_grace: None) -> None:
    """What a handler has printed without an end is kept also where it does not stop."""
    bench.define(loud("in_turn"))
    with bench.worker() as worker:
        job_id = bench.enqueue("in_turn", {"name": "job"})
        bench.until(worker, lambda: gate().inside == 1)
        worker.executor.request_stop(job_id, "cancel", "enough")
        bench.run(worker, job_id)

    assert told(bench, job_id) == [("info", "job begins ")]
