"""How a process is put together: its worker, its beat and its loops, around the stores of an App."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from random import Random
from typing import TYPE_CHECKING

import runner
from runner.config.intake import Call, Intake, after
from runner.domain.job import NewJob, Run
from runner.domain.schedule import Definitions
from runner.engine.backends import EventLoop
from runner.engine.capture import capturing
from runner.engine.context import Child
from runner.engine.executor import Executor, Finished
from runner.engine.follower import Follower
from runner.engine.heartbeat import PATIENCE, Heart, Pulse, new_worker_id
from runner.engine.janitor import Janitor
from runner.engine.lease import Lease
from runner.engine.loop import Clock
from runner.engine.process import Processes
from runner.engine.recorder import Recorder
from runner.engine.run_once import Options, RunOnce
from runner.engine.scheduler import Scheduler
from runner.engine.service import Loop, Service
from runner.engine.threads import Threads
from runner.engine.wake import hear
from runner.engine.watch import Watch, watched_place
from runner.engine.worker import EVERYTHING, Selection, Worker
from runner.following import Following
from runner.presence import beating, introduced, presence
from runner.storage.sqlite import sqlite_library
from runner.telemetry import ClaimLost, ServiceStarted

if TYPE_CHECKING:
    from runner.app import App


@dataclass(frozen=True, slots=True)
class Roles:
    """What a process does: fire schedules, run jobs, and which; rescue those of the dead, and prune."""

    fires: bool = True
    runs: bool = True
    selection: Selection = EVERYTHING
    rescues: bool = True


GUARD = 1 / 12  # of `stalled_after`: how often it is asked whether the beat is heard
FLUSH = 0.15  # seconds between two writes of what runs say,
FLUSH_WATCHED = 0.03  # while somebody in this process watches


@contextmanager
def worker(
    app: App,
    definitions: Definitions,
    clock: Clock,
    selection: Selection | None = None,
    follower: Follower | None = None,
) -> Iterator[Worker]:
    """A registered worker with its beat and its flush; at the end it is forgotten, holding nothing.

    Each beat tells what the follower says, and at once where it says something new.
    """
    with _working(app, definitions, clock, selection or EVERYTHING, follower) as (made, _):
        yield made


@contextmanager
def _working(
    app: App, definitions: Definitions, clock: Clock, selection: Selection, follower: Follower | None
) -> Iterator[tuple[Worker, Heart]]:
    worker_id = new_worker_id()
    recorder = Recorder(app.logs, app.events.emit)
    stalled_after = app.settings.stalled_after.total_seconds()
    lease = Lease(stalled_after * PATIENCE)
    executor = _executor(recorder, clock, lease)
    executor.surroundings.around = app.around
    made = Worker(
        worker_id, app.settings.concurrency, app.claims, executor, recorder, app.events.emit, Random(),
        lambda run, finished: _children(app, run, finished, clock.now()), selection,
    )  # fmt: skip
    made.know(definitions)
    with closing(hear(app.database, worker_id, clock.wake)) as ear, beating(
        app, worker_id, partial(introduced, app, worker_id, selection, ear), follower, lambda: made.concurrency,
        lambda: _stop_what_is_lost(app, worker_id, executor), lease.renewed_by,
    ) as heart:  # fmt: skip
        guard = Pulse(lambda: _give_up_where_unheard(heart, executor), stalled_after * GUARD, "heartbeat-guard")
        flush = Pulse(recorder.flush, FLUSH, "recorder")
        recorder.connect(lambda run: _lost(app, executor, run), flush.ring, partial(_pace, flush))
        heart.listeners.append(partial(_go_by_others, heart, lease, guard))
        for one in (guard, flush):
            one.start()
        try:
            with capturing():
                yield made, heart
        finally:
            flush.close()
            guard.close()
            executor.close()


def run_once(app: App, worker: Worker, scheduler: Scheduler, clock: Clock, options: Options) -> RunOnce:
    janitor = Janitor(worker.worker_id, app.workers, app.claims, app.pruning, app.events.emit, Random())
    made = RunOnce(worker, scheduler, janitor, app.jobs, clock, options)
    app.events.subscribe(made.note)
    return made


@contextmanager
def service(app: App, follower: Follower, roles: Roles, definitions: Definitions) -> Iterator[Service]:
    """The loops of a long-lived process, not started yet. The beat stops last."""
    emit = app.events.emit
    with ExitStack() as stack:
        clocks = {name: Clock(app.now) for name in ("worker", "scheduler", "janitor", "reloader")}
        runs = None
        if roles.runs:
            work = _working(app, definitions, clocks["worker"], roles.selection, follower)
            runs, heart = stack.enter_context(work)
            runs.changed = app.database.changes()
        else:
            heart = stack.enter_context(presence(app, follower))
        scheduler = app.scheduler()
        scheduler.changed = app.database.changes(asks=False)
        ticks: dict[str, Callable[[datetime], float]] = {"reloader": follower.tick}
        janitor = _janitor(app, heart, scheduler) if roles.rescues else None
        if runs is not None:
            ticks["worker"] = runs.tick
        if janitor is not None:
            ticks["janitor"] = janitor.tick
        if roles.fires:
            ticks["scheduler"] = scheduler.tick
        loops = {name: Loop(name, tick, clocks[name], emit) for name, tick in ticks.items()}
        if runs is not None:
            runs.executor.settle_here = loops["worker"].here

        wake = clocks["reloader"].wake

        def reload() -> None:
            follower.look_again()
            wake()

        watch = Watch(watched_place(follower.reloader.path, app.database.server.file), wake)
        watch.start()
        stack.callback(watch.close)
        started = _started(app, runs, roles, definitions)
        made = Service(list(loops.values()), runs, app.settings.shutdown_grace, emit, reload, started)
        follower.listeners.append(Following(app, definitions.runner, made, heart, janitor, clocks).take_over)
        yield made


def _started(app: App, worker: Worker | None, roles: Roles, definitions: Definitions) -> ServiceStarted:
    revision = app.revisions.current()
    library, is_affected = sqlite_library() if app.database.is_file else (None, False)
    return ServiceStarted(
        runner.__version__,
        app.database.place,
        revision.number if revision else None,
        app.settings.concurrency if roles.runs else 0,
        len(definitions.schedules) if roles.fires else 0,
        tuple(sorted(roles.selection.queues or ())),
        worker.worker_id if worker else None,
        sqlite_version=library,
        is_sqlite_affected=is_affected,
    )


def _janitor(app: App, heart: Heart, scheduler: Scheduler) -> Janitor:
    made = Janitor(
        heart.worker_id, app.workers, app.claims, app.pruning, app.events.emit, Random(),
        refresh=scheduler.refresh, well_since=lambda: heart.well_since, offset=lambda: app.database.offset,
    )  # fmt: skip
    made.go_by(app.settings.heartbeat, app.settings.retention)
    return made


def _go_by_others(heart: Heart, lease: Lease, guard: Pulse) -> None:
    """In the thread of the beat, within a beat that was written: the lease that it renews is by the new time."""
    lease.lasts, guard.interval = heart.stalled_after * PATIENCE, heart.stalled_after * GUARD
    guard.ring()


def _pace(flush: Pulse, is_watched: bool) -> None:
    flush.interval = FLUSH_WATCHED if is_watched else FLUSH
    flush.ring()


def _lost(app: App, executor: Executor, run: Run) -> None:
    if executor.request_stop(run.id, "lost", "the run is no longer ours", run.claim_token):
        app.events.emit(ClaimLost(run, app.now()))


def _stop_what_is_lost(app: App, worker_id: str, executor: Executor) -> None:
    """Another worker rescued us: stop the runs that are no longer ours."""
    running = executor.running()  # before we ask what is held: what begins meanwhile is held
    held = app.claims.held(worker_id)
    for run in running:
        if run.claim_token not in held:
            _lost(app, executor, run)


def _children(app: App, run: Run, finished: Finished, now: datetime) -> list[NewJob]:
    intake = app.intake()
    trace = app.traceparent(run)
    return [child_job(intake, child, run, now, trace) for child in finished.children]


def _executor(recorder: Recorder, clock: Clock, lease: Lease) -> Executor:
    executor = Executor(recorder, clock.wake, clock.now, lease)
    executor.add("thread", lambda done: Threads(done, clock.wake))
    executor.add("async", lambda done: EventLoop(done, clock.wake))
    executor.add("process", lambda done: Processes(done, lease))
    return executor


def _give_up_where_unheard(heart: Heart, executor: Executor) -> None:
    """Before the others take our runs, end them: a job must not run twice at the same time."""
    if not heart.is_well:
        executor.stop_all("shutdown", "released: the worker could not write its heartbeat")


def child_job(intake: Intake, child: Child, run: Run, now: datetime, traceparent: str | None = None) -> NewJob:
    """The job that a handler asked for with `ctx.enqueue`."""
    options = dict(child.options)
    delay = options.pop("delay", None)
    if delay is not None:
        options["run_at"] = after(now, delay)
    options.setdefault("project_id", run.project_id)
    call = replace(Call(**options), parent_id=run.id, traceparent=traceparent)
    return intake.job(child.type, child.payload, now, call)
