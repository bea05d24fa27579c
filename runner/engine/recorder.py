"""Gathers what runs say, so that ten thousand progress calls a second cost a few writes a second."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from runner.domain.errors import RunnerError
from runner.domain.job import Run
from runner.domain.said import LogLine, OutputPiece, Progress, Writes
from runner.engine.budget import LogBudget
from runner.engine.capture import muted
from runner.storage.logs import LogStore
from runner.telemetry import Emit, JobProgressed

EARLY = 2_000  # so many unwritten lines or pieces of one run ring for a flush before its time
BYTES = 4 * 1024 * 1024


@dataclass(slots=True)
class _Unwritten:
    run: Run
    progress: Progress | None = None
    lines: list[LogLine] = field(default_factory=list)
    outputs: list[OutputPiece] = field(default_factory=list)
    budget: LogBudget = field(default_factory=LogBudget)


class Recorder:
    """One for each worker. `flush` is called a few times a second; `take` gives the rest to the settle."""

    def __init__(self, store: LogStore, emit: Emit) -> None:
        self._store = store
        self._emit = emit
        self._lost: Callable[[Run], None] = lambda run: None
        self._ring: Callable[[], None] = lambda: None
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._said: dict[int, _Unwritten] = {}

    def connect(self, lost: Callable[[Run], None], ring: Callable[[], None]) -> None:
        """Whom to tell of a lost claim, and of a buffer that fills before its time."""
        self._lost, self._ring = lost, ring

    def sink(self, run: Run) -> RunSink:
        with self._lock:
            self._said[run.id] = _Unwritten(run)
        return RunSink(self, run)

    def flush(self) -> None:
        """Write what was said since the last time; tell of the runs whose claim is lost."""
        with self._flushing:
            with self._lock:
                batch = [self._drain(said) for said in self._said.values() if _is_dirty(said)]
            if not batch:
                return
            try:
                lost = self._store.write(batch)
            except RunnerError:
                self._put_back(batch)
                raise
            for writes in batch:
                if writes.run.id in lost:
                    self._lost(writes.run)

    def take(self, run: Run) -> Writes | None:
        """The rest of what a run said, to be written in the transaction that settles it; then the run is forgotten."""
        with self._flushing, self._lock:
            said = self._said.get(run.id)
            if said is None or said.run.claim_token != run.claim_token:
                return None
            del self._said[run.id]
            return self._drain(said) if _is_dirty(said) else None

    def _drain(self, said: _Unwritten) -> Writes:
        writes = Writes(said.run, said.progress, tuple(said.lines), tuple(said.outputs))
        said.progress, said.lines, said.outputs = None, [], []
        return writes

    def _put_back(self, batch: Sequence[Writes]) -> None:
        """What could not be written is tried again with the next."""
        with self._lock:
            for writes in batch:
                said = self._said[writes.run.id]
                if writes.progress is not None:
                    said.progress = writes.progress if said.progress is None else writes.progress.then(said.progress)
                said.lines[:0] = writes.lines
                said.outputs[:0] = writes.outputs

    def _mine(self, run: Run) -> _Unwritten | None:
        said = self._said.get(run.id)
        return said if said is not None and said.run.claim_token == run.claim_token else None

    def progress(self, run: Run, progress: Progress) -> None:
        with self._lock:
            said = self._mine(run)
            if said is None:
                return
            said.progress = progress if said.progress is None else said.progress.then(progress)
        with muted():  # what a subscriber prints or logs is no word of the run
            self._emit(JobProgressed(run.id, progress.percent, progress.step, progress.message))

    def log(self, run: Run, line: LogLine) -> None:
        with self._lock:
            said = self._mine(run)
            if said is None:
                return
            before = len(said.lines)
            said.lines += said.budget.take(line)
            many = before < EARLY <= len(said.lines)
        if many:
            self._ring()

    def output(self, run: Run, piece: OutputPiece) -> None:
        with self._lock:
            said = self._mine(run)
            if said is None:
                return
            said.outputs.append(piece)
            many = len(said.outputs) == EARLY or sum(len(one.data) for one in said.outputs[-2:]) > BYTES
        if many:
            self._ring()


@dataclass(frozen=True, slots=True)
class RunSink:
    """The recorder, bound to one run."""

    recorder: Recorder
    run: Run

    def progress(self, progress: Progress) -> None:
        self.recorder.progress(self.run, progress)

    def log(self, line: LogLine) -> None:
        self.recorder.log(self.run, line)

    def output(self, piece: OutputPiece) -> None:
        self.recorder.output(self.run, piece)


def _is_dirty(said: _Unwritten) -> bool:
    return said.progress is not None or bool(said.lines) or bool(said.outputs)
