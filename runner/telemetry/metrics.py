"""Events as Prometheus metrics, and the page that is scraped."""

from __future__ import annotations

from collections import Counter as CounterOf
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from wsgiref.simple_server import WSGIServer

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
    start_http_server,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from runner import telemetry as told
from runner.domain.depth import QueueDepth
from runner.domain.errors import RunnerError, UsageError
from runner.domain.job import Run
from runner.domain.lifecycle import Transition
from runner.domain.schedule import Definitions
from runner.telemetry.series import Known, Series

BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600)  # seconds

Depths = Callable[[], Sequence[QueueDepth]]


class Metrics:
    """A subscriber: `events.subscribe(metrics.tell)`. The callables are asked at each scrape, in its thread."""

    def __init__(self, version: str, depths: Depths, leaked_threads: Callable[[], int] = lambda: 0) -> None:
        self.leaked_threads = leaked_threads
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._known = Known()
        self._running: set[tuple[int, str]] = set()  # those that were claimed together share a token
        series, one = self._series, self._one
        self._started = series(Counter, "runner_jobs_started", "Runs that were started.", "type", "queue")
        self._settled = series(Counter, "runner_jobs_settled", "Ends of runs that were written.", "type", "outcome")
        self._duration = series(Histogram, "runner_job_duration_seconds", "From start to end of a run.", "type")
        self._wait = series(Histogram, "runner_job_wait_seconds", "From when a job was due to its start.", "type")
        self._slots = series(Counter, "runner_slots", "Fire times that were decided.", "schedule", "outcome")
        self._ticks = series(Counter, "runner_ticks_failed", "Ticks of a duty that raised.", "loop")
        self._lost = one(Counter, "runner_claims_lost", "Runs whose outcome was not taken.")
        self._rescued = one(Counter, "runner_workers_rescued", "Dead workers whose jobs were rescued.")
        self._late = one(Counter, "runner_heartbeats_late", "Heartbeats that came too late.")
        self._config_ok = one(Gauge, "runner_config_ok", "1 where the file as it is now is in force, else 0.")
        self._revision = one(Gauge, "runner_config_revision", "The revision in force.")
        one(Gauge, "runner_jobs_running", "Runs of this process.").set_function(lambda: len(self._running))
        one(Gauge, "runner_leaked_threads", "Handlers that were given up and go on.").set_function(self._leaked)
        series(Gauge, "runner_build_info", "The version, as a label.", "version").of(version).set(1)
        self._config_ok.set(1)
        self.registry.register(_Depths(depths, self._known))
        ProcessCollector(registry=self.registry)

    def _one(self, kind: type[Any], name: str, text: str) -> Any:
        return kind(name, text, registry=self.registry)

    def _series(self, kind: type[Any], name: str, text: str, *labels: str) -> Series:
        more = {"buckets": BUCKETS} if kind is Histogram else {}
        return Series(kind(name, text, labels, registry=self.registry, **more), labels, self._known)

    def _leaked(self) -> int:
        return self.leaked_threads()

    def page(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)

    def know(self, definitions: Definitions) -> None:
        """The names that may be labels: call it wherever a file comes into force. Series of other names end."""
        self._known.know(definitions)
        for series in (self._started, self._settled, self._duration, self._wait, self._slots):
            series.forget()
        for name, job_type in definitions.job_types.items():
            self._started.of(name, job_type.queue)
            for outcome in ("completed", "failed", "cancelled"):
                self._settled.of(name, outcome)

    def tell(self, event: told.Event) -> None:
        match event:
            case told.JobStarted(run):
                self._start(run)
            case told.JobSettled(run, transition, at):
                self._settle(run, transition, (at - run.started_at).total_seconds())
            case told.ClaimLost(run):
                self._running.discard((run.id, run.claim_token))
                self._lost.inc()
            case told.SlotsDecided(name, slots):
                for slot in slots:
                    self._slots.of(name, str(slot.outcome)).inc(slot.slot_count)
            case told.WorkerRescued():
                self._rescued.inc()
            case _:
                self._tell_of_service(event)

    def _tell_of_service(self, event: told.Event) -> None:
        match event:
            case told.ServiceStarted(revision=int() as revision):
                self._revision.set(revision)
            case told.ConfigApplied(revision):
                self._revision.set(revision)
                self._config_ok.set(1)
            case told.ConfigRejected():
                self._config_ok.set(0)
            case told.TickFailed(loop):
                self._ticks.of(loop).inc()
            case told.LateBeat():
                self._late.inc()
            case _:
                pass

    def _start(self, run: Run) -> None:
        self._running.add((run.id, run.claim_token))
        self._started.of(run.type, run.queue).inc()
        self._wait.of(run.type).observe(max((run.started_at - run.run_at).total_seconds(), 0.0))

    def _settle(self, run: Run, end: Transition, seconds: float) -> None:
        if (run.id, run.claim_token) in self._running:  # else it is a dead worker's, which ended nobody knows when
            self._running.discard((run.id, run.claim_token))
            self._duration.of(run.type).observe(max(seconds, 0.0))
        again = "retried" if end.ended == "failed" else end.ended
        self._settled.of(run.type, end.state.value if end.is_terminal else again).inc()


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
