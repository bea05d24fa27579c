"""How a process does what is due while somebody asks for it: by its own loops, or by a worker made for that."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from datetime import timedelta
from typing import TYPE_CHECKING

from runner.domain.errors import DatabaseUnavailable
from runner.engine.loop import Clock
from runner.engine.run_once import Options
from runner.engine.worker import EVERYTHING, Selection
from runner.http import processor
from runner.http.rounds import Rounds, Work
from runner.telemetry import Event, JobSettled

if TYPE_CHECKING:
    from runner.app import App
    from runner.engine.run_once import RunOnce
    from runner.engine.service import Service
    from runner.engine.worker import Worker

MOST = 200  # due jobs that are looked at: of those before them none is for us
GRACE_LOOK = 0.05
AWAY = 1.0  # seconds until the next try where the database cannot be used


def rounds(app: App, service: Service) -> Rounds | None:
    """None where this process may run nothing."""
    if not app.settings.jobs_enabled:
        return None
    worker = service.worker
    fires = any(loop.name == "scheduler" for loop in service.loops)

    def make() -> Work:
        return OwnLoops(app, worker, fires) if worker is not None else OwnWorker(app)

    made = Rounds(make, app.now)

    def hear(event: Event) -> None:
        if isinstance(event, JobSettled):
            made.count(event.transition.ended)

    app.events.subscribe(hear, only=(JobSettled,))
    return made


class OwnLoops:
    """A process that runs jobs anyway: a round is no more than to wait until there is nothing to do."""

    def __init__(self, app: App, worker: Worker, fires: bool) -> None:
        self._app, self._worker, self._fires = app, worker, fires

    def is_quiet(self) -> bool:
        return not _is_due(self._app, self._worker.selection, self._fires) and not self._worker.has_work()

    def running(self) -> int:
        return len(self._worker.executor.running())

    def end(self) -> None:
        """It goes on, as it does all the time."""


class OwnWorker:
    """A process without a worker of its own has one for as long as the round is open: `run-once`, again and again."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._once: RunOnce | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="process", daemon=True)
        self._thread.start()

    def is_quiet(self) -> bool:
        once = self._once
        busy = once is not None and once.worker.has_work()
        return not self._thread.is_alive() or (not busy and not _is_due(self._app, EVERYTHING))

    def running(self) -> int:
        once = self._once
        return len(once.worker.executor.running()) if once is not None else 0

    def end(self) -> None:
        """Claim nothing more; what runs may end within the grace, the rest is given back."""
        self._ended.set()
        deadline = time.monotonic() + self._app.settings.shutdown_grace.total_seconds()
        once = self._once
        if once is not None:
            once.worker.accepting = False
            while once.worker.has_work() and time.monotonic() < deadline:
                self._thread.join(GRACE_LOOK)
            once.stop("the request was closed")
        self._thread.join()

    def _serve(self) -> None:
        """Where the database goes away, the worker goes with it; when it is back there is another."""
        processor.leave()
        while not self._ended.is_set():
            try:
                self._work()
            except DatabaseUnavailable:
                self._ended.wait(AWAY)
            else:
                return
            finally:
                self._once = None

    def _work(self) -> None:
        app = self._app
        revision = app.revisions.current()
        if revision is None:
            return
        clock = Clock(app.now)
        with ExitStack() as stack:
            worker = stack.enter_context(app.worker(revision.definitions, clock))
            self._once = once = app.run_once(worker, app.scheduler(), clock, Options(wait=timedelta(0)))
            stack.callback(app.events.forget, once.note)
            while not self._ended.is_set():
                once.run()
                self._ended.wait(GRACE_LOOK)


def _is_due(app: App, selection: Selection, fires: bool = True) -> bool:
    """Whether there is a slot to decide, or a job that a worker of this process would take."""
    now = app.now()
    revision = app.revisions.current()
    known = revision.definitions.job_types if revision is not None else {}
    if fires and app.schedules.due(now):
        return True
    return any(
        job.type in known and selection.takes_queue(job.queue) for job in app.jobs.in_claim_order(now, limit=MOST)
    )
