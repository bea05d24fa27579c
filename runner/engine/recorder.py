"""Gathers what runs say, so that ten thousand progress calls a second cost a few writes a second."""

from __future__ import annotations

import threading
from collections.abc import Callable

from runner.domain.errors import RunnerError
from runner.domain.job import Run
from runner.domain.said import LogLine, OutputPiece, Progress, Writes
from runner.engine.budget import LogBudget
from runner.engine.capture import muted
from runner.storage.logs import LogStore
from runner.telemetry import Emit, JobProgressed

EARLY = 2_000  # so many unwritten lines or pieces of one run ring for a flush before its time
BYTES = 4 * 1024 * 1024


class _Unwritten:
    """What one run has said since the last write, and how much of its log's budget is left."""

    __slots__ = ("budget", "lines", "outputs", "progress")

    def __init__(self) -> None:
        self.progress: Progress | None = None
        self.lines: list[LogLine] = []
        self.outputs: list[OutputPiece] = []
        self.budget = LogBudget()

    @property
    def is_dirty(self) -> bool:
        return self.progress is not None or bool(self.lines) or bool(self.outputs)

    def drain(self, run: Run, most: int | None = None) -> Writes:
        """What is to be written; of lines, so many at most."""
        writes = Writes(run, self.progress, tuple(self.lines[:most]), tuple(self.outputs))
        self.progress, self.lines, self.outputs = None, self.lines[len(writes.lines) :], []
        return writes

    def put_back(self, writes: Writes) -> None:
        """What could not be written is tried again with the next."""
        if writes.progress is not None:
            self.progress = writes.progress if self.progress is None else writes.progress.then(self.progress)
        self.lines[:0] = writes.lines
        self.outputs[:0] = writes.outputs


class RunSink:
    """The ear for one run. Most runs say nothing: the recorder knows those alone that have said something."""

    __slots__ = ("is_closed", "recorder", "run", "unwritten")

    def __init__(self, recorder: Recorder, run: Run) -> None:
        self.recorder = recorder
        self.run = run
        self.unwritten: _Unwritten | None = None
        self.is_closed = False

    def progress(self, progress: Progress) -> None:
        self.recorder.progress(self, progress)

    def log(self, line: LogLine) -> None:
        self.recorder.log(self, line)

    def output(self, piece: OutputPiece) -> None:
        self.recorder.output(self, piece)


class Recorder:
    """One for each worker. `flush` is called a few times a second; `take` gives the rest to the settle."""

    def __init__(self, store: LogStore, emit: Emit) -> None:
        self._store = store
        self._emit = emit
        self._lost: Callable[[Run], None] = lambda run: None
        self._ring: Callable[[], None] = lambda: None
        self._pace: Callable[[bool], None] = lambda is_hurried: None
        self.written: Callable[[], None] = lambda: None  # called after each write
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._heard: set[RunSink] = set()

    def connect(
        self, lost: Callable[[Run], None], ring: Callable[[], None], pace: Callable[[bool], None] | None = None
    ) -> None:
        """Whom to tell of a lost claim, of a buffer that fills before its time, and of how often to flush."""
        self._lost, self._ring, self._pace = lost, ring, pace or self._pace

    def hurry(self, is_watched: bool) -> None:
        """While somebody watches, what runs say is written sooner."""
        self._pace(is_watched)

    def sink(self, run: Run) -> RunSink:
        return RunSink(self, run)

    def flush(self) -> None:
        """Write what was said since the last time; tell of the runs whose claim is lost."""
        while self._write_some():
            pass

    def _write_some(self) -> bool:
        """One transaction, kept short: others wait for it, heartbeats too. Whether there may be more."""
        with self._flushing:
            with self._lock:
                batch = [
                    (said, said.drain(sink.run, EARLY))
                    for sink in self._heard
                    if (said := sink.unwritten) is not None and said.is_dirty
                ]
            if not batch:
                return False
            try:
                lost = self._store.write([writes for _, writes in batch])
            except RunnerError:
                with self._lock:
                    for said, writes in batch:
                        said.put_back(writes)
                raise
            self.written()
            for _, writes in batch:
                if writes.run.id in lost:
                    self._lost(writes.run)
            return any(len(writes.lines) == EARLY for _, writes in batch)

    def take(self, sink: RunSink) -> Writes | None:
        """The rest of what a run said, to be written in the transaction that settles it; then it is heard no more.

        Called again where it raised: nothing is lost.
        """
        with self._lock:
            sink.is_closed = True
            if sink.unwritten is None:
                return None
        while len(sink.unwritten.lines) > EARLY:
            self._write_some()
        with self._flushing, self._lock:
            said = sink.unwritten
            sink.unwritten = None
            self._heard.discard(sink)
            return said.drain(sink.run) if said is not None and said.is_dirty else None

    def _listen(self, sink: RunSink) -> _Unwritten | None:
        """Under the lock."""
        if sink.is_closed:
            return None
        if sink.unwritten is None:
            sink.unwritten = _Unwritten()
            self._heard.add(sink)
        return sink.unwritten

    def progress(self, sink: RunSink, progress: Progress) -> None:
        with self._lock:
            said = self._listen(sink)
            if said is None:
                return
            said.progress = progress if said.progress is None else said.progress.then(progress)
        with muted():  # what a subscriber prints or logs is no word of the run
            self._emit(JobProgressed(sink.run.id, progress.percent, progress.step, progress.message))

    def log(self, sink: RunSink, line: LogLine) -> None:
        with self._lock:
            said = self._listen(sink)
            if said is None:
                return
            before = len(said.lines)
            said.lines += said.budget.take(line)
            many = before < EARLY <= len(said.lines)
        if many:
            self._ring()

    def output(self, sink: RunSink, piece: OutputPiece) -> None:
        with self._lock:
            said = self._listen(sink)
            if said is None:
                return
            said.outputs.append(piece)
            many = len(said.outputs) == EARLY or sum(len(one.data) for one in said.outputs[-2:]) > BYTES
        if many:
            self._ring()
