"""The recorder: what runs say reaches the database while they run, in few writes, under their fence."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event

from runner.domain.errors import DatabaseUnavailable
from runner.domain.job import Run
from runner.domain.said import LogLine, OutputPiece, Progress, Writes
from runner.engine import budget
from runner.engine import recorder as module
from runner.engine.recorder import Recorder
from runner.telemetry import JobProgressed
from tests.engine.bench import Bench, kind
from tests.engine.sample_handlers import gate
from tests.factories import NOW, make_run
from tests.waiting import eventually


class Store:
    """Takes the place of LogStore: keeps the batches; `lost` names jobs whose claim is gone."""

    def __init__(self) -> None:
        self.batches: list[Sequence[Writes]] = []
        self.lost: set[int] = set()
        self.fails = False

    def write(self, batch: Sequence[Writes]) -> set[int]:
        if self.fails:
            raise DatabaseUnavailable("locked")
        self.batches.append(batch)
        return self.lost


def make_recorder() -> tuple[Recorder, Store]:
    store = Store()
    return Recorder(store, lambda told: None), store  # type: ignore[arg-type]


def line(text: str = "a line") -> LogLine:
    return LogLine(NOW, "info", text)


@contextmanager
def counted(bench: Bench) -> Iterator[list[str]]:
    """The transactions that write, and their statements."""
    seen: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    engines = (bench.app.database._durable, bench.app.database._relaxed)
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        for engine in engines:
            event.remove(engine, "before_cursor_execute", note)


def test_words_are_visible_while_the_job_runs(bench: Bench) -> None:
    """Progress, step, message, log and outputs are in the database before the job ends."""
    bench.define(kind("chatter"))
    with bench.worker() as worker:
        job_id = bench.enqueue("chatter", {"times": 4})
        bench.until(worker, lambda: gate().entered == 1)
        eventually(lambda: bench.lines(job_id))
        job = bench.job(job_id)
        assert (job.status, job.progress, job.current_step, job.message) == ("running", 75, "counting", "number 3")
        assert bench.lines(job_id) == ["first line", "second line"]
        assert bench.app.logs.outputs(job_id) == {"preview": ("text/plain", b"one two")}
        gate().opened.set()
        bench.run(worker, job_id)

    assert bench.lines(job_id) == ["first line", "second line"], "nothing is written twice"


def test_ten_thousand_progress_calls_are_few_writes(bench: Bench) -> None:
    """Progress is coalesced: 10,000 calls cost a handful of statements, and each is told to subscribers."""
    bench.define(kind("chatter"))
    gate().opened.set()
    with bench.worker() as worker:
        job_id = bench.enqueue("chatter", {"times": 10_000})
        with counted(bench) as statements:
            bench.run(worker, job_id)

    progress = [one for one in statements if "SET progress=" in one]
    assert 1 <= len(progress) <= 20
    assert len(bench.of(JobProgressed)) == 10_000


def test_progress_never_goes_back_between_writes() -> None:
    """The largest number counts, the newest step and message; parts that are not said stay."""
    recorder, store = make_recorder()
    sink = recorder.sink(make_run())
    for progress in (Progress(10, "a", "x"), Progress(50, "b"), Progress(20), Progress(message="y")):
        sink.progress(progress)

    recorder.flush()
    recorder.flush()

    assert [one.progress for batch in store.batches for one in batch] == [Progress(50, "b", "y")]


def test_lines_and_outputs_keep_their_order() -> None:
    """Nothing is lost or swapped between two writes."""
    recorder, store = make_recorder()
    run = make_run()
    sink = recorder.sink(run)
    sink.log(line("1"))
    sink.output(OutputPiece(NOW, "o", "text/plain", b"a"))
    recorder.flush()
    sink.log(line("2"))
    sink.log(line("3"))
    rest = recorder.take(sink)

    assert [said.message for batch in store.batches for one in batch for said in one.lines] == ["1"]
    assert rest is not None
    assert [said.message for said in rest.lines] == ["2", "3"]


def test_what_could_not_be_written_is_tried_again() -> None:
    """A locked database loses no line, and no newer progress goes back to an older one."""
    recorder, store = make_recorder()
    run = make_run()
    sink = recorder.sink(run)
    sink.log(line("1"))
    sink.progress(Progress(10, "a", "x"))
    store.fails = True
    with pytest.raises(DatabaseUnavailable):
        recorder.flush()
    sink.log(line("2"))
    sink.progress(Progress(5, "b"))
    store.fails = False

    rest = recorder.take(sink)

    assert rest is not None
    assert [said.message for said in rest.lines] == ["1", "2"]
    assert rest.progress == Progress(10, "b", "x")


def test_a_flood_of_lines_is_written_in_short_transactions() -> None:
    """By the flush and before the settle alike: others wait for each of them, heartbeats too."""
    recorder, store = make_recorder()
    sinks = [recorder.sink(make_run(id=number)) for number in (1, 2)]
    for sink in sinks:
        for number in range(2 * module.EARLY + 10):
            sink.log(line(str(number)))

    rest = recorder.take(sinks[0])
    recorder.flush()

    assert {len(one.lines) for batch in store.batches for one in batch} <= {module.EARLY, 10}
    assert rest is not None
    assert len(rest.lines) == 10
    written = [*(one for batch in store.batches for one in batch), rest]
    for run_id in (1, 2):
        said = [one.message for writes in written if writes.run.id == run_id for one in writes.lines]
        assert said == [str(number) for number in range(2 * module.EARLY + 10)]


def test_after_the_end_nothing_is_recorded() -> None:
    """Once the rest was taken for the settle, a thread that still talks is not heard."""
    recorder, store = make_recorder()
    run = make_run()
    sink = recorder.sink(run)
    assert recorder.take(sink) is None
    sink.log(line())
    sink.progress(Progress(1))
    sink.output(OutputPiece(NOW, "o", "text/plain", b"a"))

    recorder.flush()

    assert store.batches == []
    assert recorder.take(sink) is None


def test_an_earlier_run_does_not_speak_for_a_later_one() -> None:
    """The same job may run again here while a given-up handler still talks."""
    recorder, _ = make_recorder()
    old, new = make_run(claim_token="old"), make_run(claim_token="new")
    before = recorder.sink(old)
    recorder.take(before)
    after = recorder.sink(new)
    before.log(line("late"))

    assert recorder.take(before) is None
    assert recorder.take(after) is None


def test_a_lost_claim_is_told() -> None:
    """Whose claim is lost is told with the run itself, so that no later run is stopped for it."""
    recorder, store = make_recorder()
    lost: list[Run] = []
    recorder.connect(lost.append, lambda: None)
    one, two = make_run(id=1), make_run(id=2)
    for run in (one, two):
        recorder.sink(run).log(line())
    store.lost = {2}

    recorder.flush()

    assert lost == [two]


def test_a_full_buffer_rings() -> None:
    """Many lines or large outputs are written before the next beat of the flush."""
    recorder, _ = make_recorder()
    rung: list[str] = []
    recorder.connect(lambda run: None, lambda: rung.append("rung"))
    sink = recorder.sink(make_run())

    for number in range(module.EARLY):
        assert rung == []
        sink.log(line(str(number)))
    assert rung == ["rung"]
    sink.output(OutputPiece(NOW, "o", "text/plain", b"x" * (module.BYTES + 1)))
    assert rung == ["rung", "rung"]


def logged(*texts: str) -> list[str]:
    """What is left of these lines in the log of one run."""
    recorder, _ = make_recorder()
    run = make_run()
    sink = recorder.sink(run)
    for text in texts:
        sink.log(line(text))
    rest = recorder.take(sink)
    return [one.message for one in rest.lines] if rest else []


@pytest.mark.parametrize("letter", ["x", "é", "🎈"])
def test_the_log_of_a_run_has_a_budget(letter: str) -> None:
    """A handler that logs without end fills no disk: bytes are counted, and the log says where it was cut."""
    *whole, cut, mark = logged(*(["a" + letter * 500_000] * 10))

    kept = sum(len(text.encode()) + 1 for text in (*whole, cut))
    assert mark == "[the log is cut here: 4,194,304 bytes for one run]"
    assert budget.LOG_BUDGET - 4 < kept <= budget.LOG_BUDGET + 1, "what fits is kept, to the letter"
    assert set(cut) == {"a", letter}


def test_lines_without_text_are_limited_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line is a row, however short it is."""
    monkeypatch.setattr("runner.engine.budget.LOG_LINES", 1000)

    lines = logged(*([""] * 2000))

    assert (len(lines), lines[-1]) == (1001, "[the log is cut here: 1,000 lines for one run]")


def test_many_threads_may_speak_at_once() -> None:
    """Every line of every thread is written exactly once, whenever the flush comes."""
    recorder, store = make_recorder()
    runs = [make_run(id=number) for number in range(4)]
    sinks = [recorder.sink(run) for run in runs]

    def talk(number: int) -> None:
        for count in range(500):
            sinks[number].log(line(str(count)))

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        recorder.flush()
    rests = [recorder.take(sink) for sink in sinks]

    said: dict[int, list[str]] = {run.id: [] for run in runs}
    for writes in (*(one for batch in store.batches for one in batch), *(one for one in rests if one)):
        said[writes.run.id] += [one.message for one in writes.lines]
    assert said == {run.id: [str(count) for count in range(500)] for run in runs}
