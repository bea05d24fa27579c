"""The beat of a worker: a row, a lock on a file beside the database, and a thread of its own."""

from __future__ import annotations

import fcntl
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from runner.domain.errors import DatabaseUnavailable, RunnerError
from runner.domain.worker import WorkerStatus
from runner.storage.workers import WorkerStore
from runner.telemetry import Emit, LateBeat

LATE = 2.0  # times the interval: a beat that comes later than this is told
PATIENCE = 2 / 3  # of `stalled_after` without a beat, after which a worker gives its runs up itself


class WorkerLock:
    """An OS lock that lives exactly as long as this process: where it is free, the worker is dead."""

    def __init__(self, database: Path, worker_id: str) -> None:
        self.path = database.with_name(f"{database.name}.{worker_id}.lock")
        try:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise DatabaseUnavailable(
                f"no lock can be put beside the database {database}: {error.strerror}",
                "make the file and its folder writable for this user",
            ) from None
        fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def close(self) -> None:
        with suppress(FileNotFoundError):
            self.path.unlink()
        os.close(self._descriptor)


def is_free(path: Path) -> bool | None:
    """Whether the worker that held this lock is gone; None where the file cannot tell."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def introduce(
    lock: WorkerLock,
    worker_id: str,
    *,
    version: str,
    wake_socket: str | None = None,
    queues: Mapping[str, Sequence[str]] | None = None,
    said: Mapping[str, Any],
    now: datetime | None = None,
) -> WorkerStatus:
    """The row of this process. `queues` is {"only": [...]}, {"except": [...]}, or None for all; `said` as by a beat."""
    now = now or datetime.now(UTC)
    return WorkerStatus(
        id=worker_id,
        host=socket.gethostname(),
        pid=os.getpid(),
        version=version,
        started_at=now,
        last_heartbeat=now,
        lock_file=str(lock.path),
        wake_socket=wake_socket,
        queues=queues,
        config_problem_at=now if said.get("config_problem") else None,
        **said,
    )


def new_worker_id() -> str:
    """Random for each start: a new process is never taken for an old one."""
    return uuid4().hex[:16]


class Pulse:
    """Calls `beat` at its interval in a daemon thread; after an error the next beat tries again."""

    def __init__(self, beat: Callable[[], None], interval: float, name: str) -> None:
        self._beat = beat
        self.interval = interval
        self._ended = threading.Event()
        self._rung = threading.Event()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def ring(self) -> None:
        """Beat at once."""
        self._rung.set()

    def close(self) -> None:
        self._ended.set()
        self._rung.set()
        self._thread.join()

    def _serve(self) -> None:
        while not self._ended.is_set():
            self._rung.wait(self.interval)
            self._rung.clear()
            if not self._ended.is_set():
                with suppress(RunnerError):
                    self._beat()


@dataclass(slots=True)
class Heart:
    """Beats for one worker, and knows by its own monotonic clock how long ago the last beat was written.

    `said` gives what the beat tells of this process; `lost` is told where the worker was taken for dead.

    Others judge it by the `stalled_after` of its row, which is never less than the one that it goes by itself: each
    beat says the larger of what it has and what is wanted, and after that it goes by what is wanted.
    """

    store: WorkerStore
    worker_id: str
    interval: float
    stalled_after: float
    emit: Emit
    lost: Callable[[], None]
    said: Callable[[], Mapping[str, Any]] = dict
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    soon: Callable[[], None] = lambda: None  # makes the next beat come at once
    listeners: list[Callable[[], None]] = field(default_factory=list)  # told when it goes by another pair
    _asked: tuple[float, float] | None = None  # an interval and its `stalled_after`
    _wanted: tuple[float, float] | None = None  # the same, as of the beginning of the last beat
    _beaten: float = field(default_factory=time.monotonic)
    _well_since: float = field(default_factory=time.monotonic)

    def beat(self) -> None:
        began = time.monotonic()
        self._wanted = self._asked
        is_known = self.store.beat(self.worker_id, self.now(), **self.says())
        late = began - self._beaten
        if not late < self.stalled_after * PATIENCE:
            self._well_since = began
        self._beaten = began
        if late > LATE * self.interval:
            self.emit(LateBeat(late, self.interval))
        if not is_known:
            self.lost()
        if self._wanted is not None and self._wanted != (self.interval, self.stalled_after):
            self._go_by(*self._wanted)

    def want(self, interval: float, stalled_after: float) -> None:
        """Go by these after the next beat that can be written. From any thread."""
        self._asked = interval, stalled_after
        self.soon()

    def says(self) -> dict[str, Any]:
        """What the row is to tell."""
        wanted = self._wanted[1] if self._wanted is not None else 0.0
        return {**self.said(), "stalled_after": max(self.stalled_after, wanted)}

    def _go_by(self, interval: float, stalled_after: float) -> None:
        self.interval, self.stalled_after = interval, stalled_after
        for listener in self.listeners:
            listener()

    @property
    def is_well(self) -> bool:
        """Whether the others must still take this worker for alive. Well before they may not, it says no itself."""
        return time.monotonic() - self._beaten < self.stalled_after * PATIENCE

    @property
    def well_since(self) -> float | None:
        """Since when, on the monotonic clock, our beats could be written all the time; None where they cannot now."""
        return self._well_since if self.is_well else None
