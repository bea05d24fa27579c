"""The HTTP side of a process: its doors, its application behind the guard, its server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

import runner
from runner.api.application import application
from runner.domain.access import FIRST_KEY
from runner.engine.follower import Reading
from runner.http.binding import Bound
from runner.http.doors import STREAMS, STREAMS_OF_ONE, Doors, Engine
from runner.http.guard import Guard, allowed_hosts, require_prefix
from runner.http.hub import Hub
from runner.http.keyring import KeyRing, require_keys
from runner.http.limits import Places
from runner.http.server import Server
from runner.http.sessions import SignIn
from runner.http.table import addresses
from runner.processing import rounds
from runner.storage.access import AccessStore
from runner.storage.failures import FailureStore
from runner.storage.idempotency import OnceStore
from runner.storage.watching import WatchStore
from runner.telemetry import Event, StopRequested
from runner.web.application import add_pages

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp

    from runner.app import App
    from runner.engine.follower import Follower
    from runner.engine.recorder import Recorder
    from runner.engine.service import Service


def key_ring(app: App) -> KeyRing:
    """The keys of this database. A file tells at once when it changed; a server is asked each time."""
    database = app.database
    changed: Callable[[], bool] = database.changes() if database.is_file else lambda: True
    return KeyRing(AccessStore(database), app.environ.get(FIRST_KEY) or None, changed)


def doors(app: App, engine: Engine, ring: KeyRing) -> Doors:
    return Doors(
        app.jobs, app.views, app.logs, OnceStore(app.database), app.schedules, app.revisions, app.overviews,
        AccessStore(app.database), engine, app.now, app.stored, app.environ, Places(STREAMS, STREAMS_OF_ONE),
        Hub(WatchStore(app.database), app.jobs, app.views, app.logs, app.now, ring.holds), app.database.read,
        FailureStore(app.database), app.about,
    )  # fmt: skip


def site(app: App, engine: Engine, ring: KeyRing) -> tuple[ASGIApp, FastAPI]:
    """What a server serves: the guard, and the application behind it."""
    inner = application(doors(app, engine, ring), runner.__version__)
    settings = app.settings
    hosts = allowed_hosts(settings.host, settings.allowed_hosts)
    guard = Guard(inner, ring, app.now, hosts)
    add_pages(inner, SignIn(ring, guard.failures, app.now))
    return guard, inner


def of_service(
    app: App, bound: Bound, service: Service, follower: Follower, metrics: Callable[[], bytes]
) -> AbstractContextManager[str]:
    scheduler, worker = app.scheduler(), service.worker
    engine = Engine(
        scheduler.trigger,
        scheduler.backfill,
        service.reload,
        Reading(follower.reloader),
        lambda: follower.problem,
        metrics,
        stopping(app),
        rounds(app, service),
    )
    return serving(app, bound, engine, worker.recorder if worker is not None else None)


@contextmanager
def serving(app: App, bound: Bound, engine: Engine, recorder: Recorder | None = None) -> Iterator[str]:
    """Answer requests, and say who may ask. Streams end as soon as a stop is asked for, the rest is answered.

    Raises NotAllowed where a network could come in without a key.
    """
    ring = key_ring(app)
    require_keys(ring, app.settings.host, app.settings.insecure)
    served, inner = site(app, engine, ring)
    require_prefix(app.settings.root_path, addresses(inner))
    server = Server(served, bound.socket, app.settings.root_path, app.settings.trusted_proxies)
    with _told(app, inner.state.doors.hub, recorder):
        server.start()
        try:
            yield "open: no keys yet" if ring.is_open else "with keys"
        finally:
            if engine.rounds is not None:
                engine.rounds.close()
            server.close()


@contextmanager
def _told(app: App, hub: Hub, recorder: Recorder | None) -> Iterator[None]:
    """The hub hears of what this process commits, and that it stops."""
    if recorder is not None:
        recorder.written, hub.watched = hub.wake, recorder.hurry
    app.database.bell.listen(hub.wake)
    app.events.subscribe(lambda event: hub.end(), only=(StopRequested,))
    try:
        yield
    finally:
        app.database.bell.forget(hub.wake)
        hub.close()


def stopping(app: App) -> Callable[[], bool]:
    """Whether the service was asked to stop."""
    asked: list[Event] = []
    app.events.subscribe(asked.append, only=(StopRequested,))
    return lambda: bool(asked)
