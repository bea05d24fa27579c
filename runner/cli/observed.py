"""What tells of a service: its log, its metrics, its traces."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import runner
from runner.storage.depths import queue_depths
from runner.telemetry.logs import Logs, configure_logging
from runner.telemetry.traces import open_traces

if TYPE_CHECKING:
    from runner.app import App
    from runner.domain.schedule import Definitions
    from runner.engine.service import Service
    from runner.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Observed:
    """The metrics, where somebody wants them, and where they are served by themselves."""

    metrics: Metrics | None = None
    url: str | None = None

    def know(self, definitions: Definitions) -> None:
        """Tell of each file that is taken over: its names may be labels."""
        if self.metrics is not None:
            self.metrics.know(definitions)

    def connect(self, service: Service) -> None:
        if self.metrics is None:
            return
        worker = service.worker
        if worker is not None:
            self.metrics.leaked_threads = lambda: worker.executor.leaked_threads
        if service.started is not None:
            service.started = replace(service.started, metrics=self.url)


@contextmanager
def observed(app: App, metrics_port: int | None, *, measured: bool = False) -> Iterator[Observed]:
    """From the first event on. `measured`: also without a port. Raises UsageError where that is taken."""
    with ExitStack() as stack:
        _log(app, stack)
        _trace(app, stack)
        yield Observed() if metrics_port is None and not measured else _measure(app, metrics_port, stack)


def _log(app: App, stack: ExitStack) -> None:
    found = app.settings
    is_console = found.log_format == "console" or (found.log_format == "auto" and sys.stderr.isatty())
    logs = configure_logging(found.log_level, is_console, sys.stderr)
    app.events.subscribe(logs.tell, logs.ignores)
    if not is_console:
        _keep_the_form(logs, stack)


def _keep_the_form(logs: Logs, stack: ExitStack) -> None:
    """What handlers and libraries print becomes lines of the log."""
    stack.enter_context(redirect_stdout(logs.printed("stdout")))
    stack.enter_context(redirect_stderr(logs.printed("stderr")))


def _trace(app: App, stack: ExitStack) -> None:
    traces = open_traces(os.environ, runner.__version__, app.events.emit)
    if traces is not None:
        stack.enter_context(closing(traces))
        app.events.subscribe(traces.tell)
        app.around, app.traceparent = traces.around, traces.traceparent


def _measure(app: App, port: int | None, stack: ExitStack) -> Observed:
    from runner.telemetry.metrics import Metrics, start_metrics_server

    metrics = Metrics(runner.__version__, lambda: queue_depths(app.database, app.now()))
    app.events.subscribe(metrics.tell)
    if port is None:
        return Observed(metrics)
    server = stack.enter_context(closing(start_metrics_server(metrics, port)))
    return Observed(metrics, server.url)
