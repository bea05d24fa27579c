"""The command `serve`."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated

import typer

from runner.cli.config import AllowRemovals
from runner.cli.main import cli
from runner.cli.output import keep_stdout, note
from runner.cli.signals import starting, stopping
from runner.domain.errors import BrokenOff, CommitInDoubt, Interrupted, UsageError

if TYPE_CHECKING:
    from runner.app import App
    from runner.assembly import Roles
    from runner.cli.observed import Observed
    from runner.config.load import Loaded
    from runner.domain.schedule import RunnerOptions
    from runner.engine.follower import Follower
    from runner.engine.notify import Notify
    from runner.engine.service import Service
    from runner.http.binding import Bound
    from runner.settings import Settings

AGAIN = 0.5  # seconds between attempts to start
YOUNG = 10_000  # objects: what runs of one claim hold is gone before the collector would look at it


@cli.command(short_help="Fire schedules and run jobs, until it is stopped.")
def serve(
    ctx: typer.Context,
    concurrency: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=10_000, help="How many jobs at once.")
    ] = None,
    queues: Annotated[
        str | None, typer.Option(metavar="A,B", help="Take jobs of these queues only.  [default: all]")
    ] = None,
    exclude_queues: Annotated[
        str | None, typer.Option(metavar="A,B", help="Take jobs of all queues but these.")
    ] = None,
    no_scheduler: Annotated[bool, typer.Option("--no-scheduler", help="Fire no schedules.")] = False,
    no_worker: Annotated[bool, typer.Option("--no-worker", help="Run no jobs.")] = False,
    no_sync: Annotated[
        bool, typer.Option("--no-sync", help="Never apply the file: others do; its handlers are followed.")
    ] = False,
    last_good: Annotated[
        bool, typer.Option("--last-good", help="Start from the stored revision where the file is invalid.")
    ] = False,
    allow_removals: AllowRemovals = False,
    host: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Serve HTTP on this address.  [default: 127.0.0.1]")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(metavar="PORT", min=0, max=65535, help="On this port; 0: any free one.  [default: 8080]"),
    ] = None,
    no_http: Annotated[bool, typer.Option("--no-http", help="Serve no HTTP.")] = False,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Serve HTTP to other machines though there are no keys.")
    ] = False,
    metrics_port: Annotated[
        int | None, typer.Option(metavar="PORT", min=0, max=65535, help="Serve metrics on 127.0.0.1:PORT too.")
    ] = None,
) -> None:
    """Fire schedules, run jobs, follow the file and serve the jobs API, until SIGTERM or Ctrl-C.

    The first signal stops in good order: nothing more is started, what runs may end within shutdown_grace, the rest
    is given back. A second one stops at once.
    """
    keep_stdout()
    flags = ctx.obj | {"concurrency": concurrency, "host": host, "port": port}
    flags |= {"http": False if no_http else None, "insecure": insecure or None}
    call = Call(flags, _names(queues), _names(exclude_queues), not no_scheduler, not no_worker, not no_sync, last_good,
                allow_removals, metrics_port)  # fmt: skip
    with starting(call.received):
        code = call.serve_or_stop()
    raise typer.Exit(code)


def _names(text: str | None) -> frozenset[str]:
    return frozenset(name.strip() for name in (text or "").split(",") if name.strip())


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the command, with its options read."""

    flags: dict[str, object]
    queues: frozenset[str]
    exclude_queues: frozenset[str]
    fires: bool
    runs: bool
    applies: bool
    last_good: bool
    allow_removals: bool
    metrics_port: int | None
    received: list[str] = field(default_factory=list)  # the signal that asked for the end
    has_begun: list[bool] = field(default_factory=list)

    def serve_or_stop(self) -> int:
        """A stop that comes while it starts is as good as one that comes later: nothing was claimed, 0."""
        try:
            return self.serve_when_it_answers()
        except (KeyboardInterrupt, Interrupted):
            if self.has_begun or not self.received:
                raise
            note(f"stopped while it started, by {self.received[0]}: nothing was claimed")
            return 0

    def serve_when_it_answers(self) -> int:
        """A server that starts or restarts at the same time as we do is waited for, as long as for one that is busy.

        What a start writes may be written again, also where nobody knows whether it was.
        """
        from runner.settings import settings

        deadline = time.monotonic() + settings(self.flags, os.environ).busy_timeout.total_seconds()
        is_told = False
        while True:
            try:
                return self.serve()
            except (BrokenOff, CommitInDoubt) as error:
                left = deadline - time.monotonic()
                if left <= 0 or self.has_begun:  # who has served, and was stopped, does not begin anew
                    raise
                if not is_told:
                    note(f"warning: {error.message}; it is tried for {left:.0f} s more")
                    is_told = True
                time.sleep(AGAIN)

    def serve(self) -> int:
        from runner.app import App
        from runner.engine.reloader import read
        from runner.settings import settings

        if self.queues & self.exclude_queues:
            raise UsageError(f"queue {min(self.queues & self.exclude_queues)} is both taken and excluded")
        first = settings(self.flags, os.environ)
        loaded = read(first.config, os.environ)
        if not self.last_good:
            loaded.require()
        options = loaded.definitions.runner if loaded.definitions else self._stored_options(first)
        found = settings(self.flags, os.environ, options)
        app = App(found, os.environ)
        try:
            app.prepare()
            return self._run(app, loaded)
        finally:
            app.close()

    def _stored_options(self, first: Settings) -> RunnerOptions | None:
        """Of the revision that is started from where the file is invalid."""
        from runner.app import App

        app = App(first, os.environ)
        try:
            app.prepare()
            revision = app.revisions.current()
            return revision.definitions.runner if revision is not None else None
        finally:
            app.close()

    def _run(self, app: App, loaded: Loaded) -> int:
        from runner.cli.observed import observed
        from runner.engine.notify import Notify

        with _bound(app) as bound, observed(app, self.metrics_port, measured=bound is not None) as watch:
            follower = app.follower(applies=self.applies)
            definitions = follower.begin(
                loaded, app.now(), last_good=self.last_good, allow_removals=self.allow_removals
            )
            follower.listeners.append(watch.know)
            watch.know(definitions)
            notify = Notify.of(os.environ)
            if notify.address is not None:
                app.events.subscribe(notify.tell)
            with (
                app.service(follower, self._roles(app.settings), definitions) as service,
                stopping(service.stop, service.reload, self.received),
                _watched(service, notify),
                _http(app, bound, service, follower, watch),
            ):
                watch.connect(service)
                gc.set_threshold(YOUNG)
                gc.collect()
                gc.freeze()  # what was loaded at the start stays: the collector need not look at it again and again
                self.has_begun.append(True)
                return 1 if service.run() else 0

    def _roles(self, settings: Settings) -> Roles:
        from runner.assembly import Roles
        from runner.engine.worker import Selection

        selection = Selection(queues=self.queues or None, exclude_queues=self.exclude_queues)
        enabled = settings.jobs_enabled
        return Roles(self.fires and enabled, self.runs and enabled, selection, rescues=enabled)


@contextmanager
def _bound(app: App) -> Iterator[Bound | None]:
    """The address to serve on, taken. Where nobody asked for it, and another has it, the jobs are run all the same."""
    from runner.http.binding import AddressTaken, bind

    found = app.settings
    if not found.http:
        yield None
        return
    try:
        bound = bind(found.host, found.port)
    except AddressTaken as error:
        if "port" in found.origins or "host" in found.origins:
            raise
        note(f"warning: {error.message}; this process serves none")
        note(f"help: {error.hint}")
        yield None
        return
    try:
        yield bound
    finally:
        bound.close()


@contextmanager
def _http(app: App, bound: Bound | None, service: Service, follower: Follower, watch: Observed) -> Iterator[None]:
    if bound is None or watch.metrics is None:
        yield
        return
    with app.http(bound, service, follower, watch.metrics.page) as access:
        if service.started is not None:
            service.started = replace(service.started, address=bound.url, access=access)
        yield


@contextmanager
def _watched(service: Service, notify: Notify) -> Iterator[None]:
    """Signs of life to the watchdog of systemd, for as long as no loop is stuck."""
    from runner.engine.heartbeat import Pulse

    if notify.every is None:
        yield
        return
    limit = notify.every * 2
    pulse = Pulse(lambda: notify.alive() if service.is_lively(limit) else None, notify.every, "watchdog")
    pulse.start()
    try:
        yield
    finally:
        pulse.close()
