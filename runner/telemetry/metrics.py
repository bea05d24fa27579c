"""Events as Prometheus metrics, and the page that is scraped."""

from __future__ import annotations

import threading
from collections import Counter as CounterOf
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from wsgiref.simple_server import WSGIServer

from prometheus_client import (
    CollectorRegistry,
    Gauge,
    ProcessCollector,
    generate_latest,
    start_http_server,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from runner import telemetry as told
from runner.domain.depth import QueueDepth
from runner.domain.errors import RunnerError, UsageError
from runner.domain.schedule import Definitions
from runner.telemetry.tallies import Known, Spread, Tally

HEARD = 64  # events that may wait to be counted: they hold payloads

Depths = Callable[[], Sequence[QueueDepth]]


class Metrics:
    """A subscriber: `events.subscribe(metrics.tell)`. The callables are asked at each scrape, in its thread.

    Events are only put down as they happen, in whatever thread, and counted many at a time, or when they are asked for.
    """

    def __init__(self, version: str, depths: Depths, leaked_threads: Callable[[], int] = lambda: 0) -> None:
        self.leaked_threads = leaked_threads
        self.registry = CollectorRegistry()
        self._known = Known()
        self._heard: deque[told.Event] = deque()
        self._counting = threading.Lock()
        self._running: set[tuple[int, str]] = set()  # those that were claimed together share a token
        self._started = self._tally("runner_jobs_started", "Runs that were started.", "type", "queue")
        self._settled = self._tally("runner_jobs_settled", "Ends of runs that were written.", "type", "outcome")
        self._duration = self._spread("runner_job_duration_seconds", "From start to end of a run.", "type")
        self._wait = self._spread("runner_job_wait_seconds", "From when a job was due to its start.", "type")
        self._slots = self._tally("runner_slots", "Fire times that were decided.", "schedule", "outcome")
        self._ticks = self._tally("runner_ticks_failed", "Ticks of a duty that raised.", "loop")
        self._lost = self._tally("runner_claims_lost", "Runs whose outcome was not taken.")
        self._rescued = self._tally("runner_workers_rescued", "Dead workers whose jobs were rescued.")
        self._late = self._tally("runner_heartbeats_late", "Heartbeats that came too late.")
        for one in (self._lost, self._rescued, self._late):
            one.add((), 0)
        self._config_ok = self._gauge("runner_config_ok", "1 where the file as it is now is in force, else 0.")
        self._revision = self._gauge("runner_config_revision", "The revision in force.")
        running = self._gauge("runner_jobs_running", "Runs of this process.")
        running.set_function(self._number_running)
        leaked = self._gauge("runner_leaked_threads", "Handlers that were given up and go on.")
        leaked.set_function(self._leaked)
        self._gauge("runner_build_info", "The version, as a label.", "version").labels(version).set(1)
        self._config_ok.set(1)
        self.registry.register(_Depths(depths, self._known))
        ProcessCollector(registry=self.registry)

    def _tally(self, name: str, text: str, *labels: str) -> Tally:
        made = Tally(name, text, labels, self._known, self._count)
        self.registry.register(made)
        return made

    def _spread(self, name: str, text: str, label: str) -> Spread:
        made = Spread(name, text, label, self._known, self._count)
        self.registry.register(made)
        return made

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def _number_running(self) -> int:
        self._count()
        return len(self._running)

    def _leaked(self) -> int:
        return self.leaked_threads()

    def page(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)

    def know(self, definitions: Definitions) -> None:
        """The names that may be labels: call it wherever a file comes into force. Series of other names end."""
        self._count()
        with self._counting:
            self._known.know(definitions)
            for series in (self._started, self._settled, self._duration, self._wait, self._slots):
                series.forget()
            for name, job_type in definitions.job_types.items():
                self._started.add((name, job_type.queue), 0)
                for outcome in ("completed", "failed", "cancelled"):
                    self._settled.add((name, outcome), 0)

    def tell(self, event: told.Event) -> None:
        self._heard.append(event)
        if len(self._heard) > HEARD:
            self._count(waits=False)

    def _count(self, *, waits: bool = True) -> None:
        """What was heard so far. Where another thread is at it and nobody waits, that one does it."""
        if self._counting.acquire(blocking=waits):
            try:
                for _ in range(len(self._heard)):
                    event = self._heard.popleft()
                    if isinstance(event, told.JobStarted):
                        self._start(event)
                    elif isinstance(event, told.JobSettled):
                        self._settle(event)
                    else:
                        self._take(event)
            finally:
                self._counting.release()

    def _take(self, event: told.Event) -> None:
        match event:
            case told.ClaimLost(run):
                self._running.discard((run.id, run.claim_token))
                self._lost.add(())
            case told.SlotsDecided(name, slots):
                for slot in slots:
                    self._slots.add((name, str(slot.outcome)), slot.slot_count)
            case told.WorkerRescued():
                self._rescued.add(())
            case _:
                self._take_of_service(event)

    def _take_of_service(self, event: told.Event) -> None:
        match event:
            case told.ServiceStarted(revision=int() as revision):
                self._revision.set(revision)
            case told.ConfigApplied(revision):
                self._revision.set(revision)
                self._config_ok.set(1)
            case told.ConfigRejected():
                self._config_ok.set(0)
            case told.TickFailed(loop):
                self._ticks.add((loop,))
            case told.LateBeat():
                self._late.add(())
            case _:
                pass

    def _start(self, event: told.JobStarted) -> None:
        run = event.run
        self._running.add((run.id, run.claim_token))
        self._started.add((run.type, run.queue))
        self._wait.add(run.type, (run.started_at - run.run_at).total_seconds())

    def _settle(self, event: told.JobSettled) -> None:
        run, end = event.run, event.transition
        held = (run.id, run.claim_token)
        if held in self._running:  # else it is a dead worker's, which ended nobody knows when
            self._running.remove(held)
            self._duration.add(run.type, (event.at - run.started_at).total_seconds())
        again = "retried" if end.ended == "failed" else end.ended
        self._settled.add((run.type, end.state.value if end.is_terminal else again))


class _Depths(Collector):
    """What the database says at the moment of a scrape; where it cannot be read, that."""

    def __init__(self, depths: Depths, known: Known) -> None:
        self._depths = depths
        self._known = known

    def collect(self) -> Iterator[GaugeMetricFamily]:
        up = GaugeMetricFamily("runner_database_up", "1 where the database can be read.")
        try:
            found = self._depths()
        except RunnerError:
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        yield up
        counts: CounterOf[tuple[str, str]] = CounterOf()
        for one in found:
            counts[one.status, self._known.value("queue", one.queue)] += one.jobs
        jobs = GaugeMetricFamily("runner_jobs", "Unfinished jobs of all processes.", labels=["status", "queue"])
        for labels, count in counts.items():
            jobs.add_metric(labels, count)
        yield jobs
        oldest = max((one.oldest_due for one in found if one.oldest_due is not None), default=0.0)
        yield GaugeMetricFamily("runner_oldest_pending_seconds", "Since the oldest pending job became due.", oldest)


class MetricsServer:
    """`GET /metrics` in a thread of its own, until `close`."""

    def __init__(self, server: WSGIServer, host: str) -> None:
        self._server = server
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{server.server_port}/metrics"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def start_metrics_server(metrics: Metrics, port: int, host: str = "127.0.0.1") -> MetricsServer:
    """Raises UsageError where the address is taken or not ours. Port 0: any free one."""
    try:
        server, _ = start_http_server(port, host, metrics.registry)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"metrics cannot be served on {host}:{port}: {reason}", "another --metrics-port") from None
    return MetricsServer(server, host)
