"""Metrics as Prometheus reads them: counted from events, scraped over HTTP, bounded by what the file declares."""

from __future__ import annotations

import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from runner.domain.depth import QueueDepth
from runner.domain.errors import DatabaseUnavailable, UsageError
from runner.domain.job import Run
from runner.domain.ledger import ScheduleSlot
from runner.domain.lifecycle import settle
from runner.domain.outcome import Cancelled, Completed, Failed, Outcome, Released, Snoozed, Stalled
from runner.telemetry import (
    ClaimLost,
    ConfigApplied,
    ConfigRejected,
    JobSettled,
    JobStarted,
    LateBeat,
    ServiceStarted,
    SlotsDecided,
    TickFailed,
    WorkerRescued,
)
from runner.telemetry.metrics import Metrics, MetricsServer, start_metrics_server
from runner.telemetry.tallies import Known, Spread
from tests.factories import MINUTE, NOW, SECOND, make_definitions, make_job_type, make_run, make_schedule

OPERATIONS = Path(__file__).resolve().parents[2] / "docs" / "operations.md"
CONVENTION = re.compile(r"^[a-z]+(_[a-z]+)*$")
Labels = dict[str, str]


def make_metrics(depths: Callable[[], Sequence[QueueDepth]] = list, **values: Any) -> Metrics:
    made = Metrics("1.2.3", depths, **values)
    types = {"mail": make_job_type("mail"), "sync": make_job_type("sync", queue="slow")}
    made.know(make_definitions(make_schedule("nightly"), job_types=types))
    return made


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return parsed(metrics.page().decode())


def parsed(page: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get((name, frozenset(labels.items())))


def ended(run: Run, outcome: Outcome, seconds: float = 2.0) -> JobSettled:
    return JobSettled(run, settle(run, outcome, NOW, Random(0)), run.started_at + timedelta(seconds=seconds))


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    made = start_metrics_server(make_metrics(), 0)
    yield made
    made.close()


def test_a_run_is_counted_at_its_start_and_at_its_end() -> None:
    """Started by type and queue, settled by type and outcome; how long it waited, how long it took, how many run."""
    metrics = make_metrics()
    run = make_run(type="sync", queue="slow", run_at=NOW - 3 * SECOND, started_at=NOW)
    metrics.tell(JobStarted(run, NOW))
    assert value(metrics, "runner_jobs_started_total", type="sync", queue="slow") == 1
    assert value(metrics, "runner_jobs_running") == 1
    assert value(metrics, "runner_job_wait_seconds_sum", type="sync") == 3

    metrics.tell(ended(run, Completed(), seconds=7))
    assert value(metrics, "runner_jobs_settled_total", type="sync", outcome="completed") == 1
    assert value(metrics, "runner_jobs_running") == 0
    assert value(metrics, "runner_job_duration_seconds_sum", type="sync") == 7
    assert value(metrics, "runner_job_duration_seconds_bucket", type="sync", le="5.0") == 0
    assert value(metrics, "runner_job_duration_seconds_bucket", type="sync", le="10.0") == 1


def test_runs_that_were_claimed_together_are_counted_one_by_one() -> None:
    """They share a token, and are as many all the same."""
    metrics = make_metrics()
    runs = [make_run(id=number, claim_token="t" * 32, started_at=NOW) for number in (1, 2, 3)]
    for run in runs:
        metrics.tell(JobStarted(run, NOW))
    assert value(metrics, "runner_jobs_running") == 3
    metrics.tell(ended(runs[0], Completed()))
    assert value(metrics, "runner_jobs_running") == 2
    metrics.tell(ended(runs[1], Completed()))
    assert value(metrics, "runner_job_duration_seconds_count", type=runs[0].type) == 2


@pytest.mark.parametrize(
    ("outcome", "word"),
    [
        (Completed(), "completed"),
        (Failed("no", for_good=True), "failed"),
        (Failed("no"), "retried"),
        (Cancelled(), "cancelled"),
        (Stalled(), "stalled"),
        (Snoozed(SECOND), "snoozed"),
        (Released(), "released"),
    ],
)
def test_outcomes_have_one_word_each(outcome: Outcome, word: str) -> None:
    """What ended the job has the job's state as its word; what did not says why it runs again."""
    metrics = make_metrics()
    metrics.tell(ended(make_run(), outcome))
    assert value(metrics, "runner_jobs_settled_total", type="mail", outcome=word) == 1


def test_a_dead_workers_run_is_settled_here_and_was_never_ours() -> None:
    """A rescue counts the end; the number of our runs and the durations stay what they were."""
    metrics = make_metrics()
    ours, theirs = make_run(id=1), make_run(id=2, worker_id="w9")
    metrics.tell(JobStarted(ours, NOW))
    metrics.tell(ended(theirs, Stalled()))
    metrics.tell(WorkerRescued("w9", (theirs,)))
    assert value(metrics, "runner_jobs_running") == 1
    assert value(metrics, "runner_job_duration_seconds_count", type="mail") in (None, 0)
    assert value(metrics, "runner_workers_rescued_total") == 1


def test_a_lost_claim_is_counted_and_runs_no_more() -> None:
    """What became of the job is counted where it happens."""
    metrics = make_metrics()
    run = make_run()
    metrics.tell(JobStarted(run, NOW))
    metrics.tell(ClaimLost(run, NOW))
    assert (value(metrics, "runner_claims_lost_total"), value(metrics, "runner_jobs_running")) == (1, 0)


def test_slots_are_counted_with_those_that_share_a_row() -> None:
    """A ledger row of a thousand skipped slots counts a thousand."""
    metrics = make_metrics()
    slot = {"schedule_name": "nightly", "decided_at": NOW}
    rows = (
        ScheduleSlot(slot=NOW, outcome="enqueued", job_id=1, **slot),
        ScheduleSlot(slot=NOW - MINUTE, outcome="skipped_missed", slot_count=1000, **slot),
    )
    metrics.tell(SlotsDecided("nightly", rows))
    assert value(metrics, "runner_slots_total", schedule="nightly", outcome="enqueued") == 1
    assert value(metrics, "runner_slots_total", schedule="nightly", outcome="skipped_missed") == 1000


def test_a_rejected_file_shows_until_a_good_one() -> None:
    """runner_config_ok falls to 0 and rises with the next good content; the revision is the one in force."""
    metrics = make_metrics()
    metrics.tell(ServiceStarted("1", "runner.db", 3, 2, 1))
    seen = [(value(metrics, "runner_config_ok"), value(metrics, "runner_config_revision"))]
    for event in (ConfigRejected("s.yaml"), ConfigApplied(4, ("~ nightly",))):
        metrics.tell(event)
        seen.append((value(metrics, "runner_config_ok"), value(metrics, "runner_config_revision")))
    assert seen == [(1, 3), (0, 3), (1, 4)]


def test_failing_duties_and_late_beats_are_counted() -> None:
    """Each tick that raised counts, also those that the log does not repeat."""
    metrics = make_metrics()
    for repeats in range(3):
        metrics.tell(TickFailed("scheduler", "database is locked", repeats=repeats))
    metrics.tell(LateBeat(40.0, 10.0))
    assert value(metrics, "runner_ticks_failed_total", loop="scheduler") == 3
    assert value(metrics, "runner_heartbeats_late_total") == 1


def test_labels_hold_only_names_that_the_file_declares() -> None:
    """Ten thousand foreign types, queues and schedules are one series each; those that left the file end."""
    depths = [QueueDepth(f"q{n}", "pending", 1, 5.0) for n in range(100)]
    metrics = make_metrics(lambda: depths)
    before = len(samples(metrics))
    for n in range(1000):
        run = make_run(type=f"type{n}", queue=f"queue{n}")
        metrics.tell(JobStarted(run, NOW))
        metrics.tell(ended(run, Completed()))
        metrics.tell(SlotsDecided(f"s{n}", (ScheduleSlot(schedule_name=f"s{n}", slot=NOW, outcome="enqueued"),)))
    assert len(samples(metrics)) < before + 50
    assert value(metrics, "runner_jobs_started_total", type="other", queue="other") == 1000
    assert value(metrics, "runner_jobs", status="pending", queue="other") == 100

    metrics.know(make_definitions(job_types={"mail": make_job_type("mail")}))
    assert not [name for name, labels in samples(metrics) if ("type", "sync") in labels]
    assert value(metrics, "runner_jobs_settled_total", type="mail", outcome="failed") == 0


def test_declared_types_are_there_before_anything_happens() -> None:
    """A rate over a counter needs its zero: the first failure must not be invisible."""
    metrics = make_metrics()
    assert value(metrics, "runner_jobs_settled_total", type="sync", outcome="failed") == 0
    assert value(metrics, "runner_jobs_started_total", type="sync", queue="slow") == 0


def test_depths_are_read_at_the_scrape() -> None:
    """Jobs by status and queue, the age of the oldest that is due, and handlers that were given up."""
    depths = [QueueDepth("slow", "pending", 4, 12.5), QueueDepth("slow", "running", 1)]
    leaked = [0]
    metrics = make_metrics(lambda: depths, leaked_threads=lambda: leaked[0])
    leaked[0] = 2
    assert value(metrics, "runner_jobs", status="pending", queue="slow") == 4
    assert value(metrics, "runner_oldest_pending_seconds") == 12.5
    assert value(metrics, "runner_leaked_threads") == 2
    depths[:] = []
    assert value(metrics, "runner_jobs", status="pending", queue="slow") is None
    assert value(metrics, "runner_oldest_pending_seconds") == 0


def test_a_scrape_is_answered_without_a_database() -> None:
    """Where it cannot be read, that is what the page says; the rest of it stands."""

    def gone() -> list[QueueDepth]:
        raise DatabaseUnavailable("there is no database")

    metrics = make_metrics(gone)
    assert value(metrics, "runner_database_up") == 0
    assert value(metrics, "runner_oldest_pending_seconds") is None
    assert value(metrics, "runner_build_info", version="1.2.3") == 1


def test_names_keep_the_conventions() -> None:
    """Prefix, base units, `_total` on counters and on nothing else, no `_created`, a help text for each; documented."""
    metrics = make_metrics()
    families = list(text_string_to_metric_families(metrics.page().decode()))
    ours = [family for family in families if family.name.startswith("runner_")]
    documented = re.findall(r"^\| `(runner_\w+?)(?:_total)?` \|", OPERATIONS.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(family.name for family in ours) == sorted(documented)
    for family in ours:
        assert CONVENTION.match(family.name), family.name
        assert family.documentation.endswith(".")
        totals = {sample.name.endswith("_total") for sample in family.samples}
        assert totals <= {family.type == "counter"}
        assert not [sample for sample in family.samples if sample.name.endswith("_created")]


def test_a_real_port_is_scraped(server: MetricsServer) -> None:
    """GET over HTTP gives the text format, with the metrics of the process itself."""
    answer = httpx.get(server.url, timeout=10)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    found = parsed(answer.text)
    assert found["runner_build_info", frozenset({("version", "1.2.3")})] == 1
    assert ("process_cpu_seconds_total", frozenset()) in found


def test_a_port_that_is_taken_is_one_clear_error(server: MetricsServer) -> None:
    """The address and the remedy, not a traceback; the same for an address that is not ours."""
    port = int(server.url.split(":")[2].split("/")[0])
    with pytest.raises(UsageError, match=rf"127\.0\.0\.1:{port}: Address already in use") as error:
        start_metrics_server(make_metrics(), port)
    assert error.value.hint is not None
    assert "--metrics-port" in error.value.hint
    for host, wrong in (("192.0.2.1", 0), ("127.0.0.1", 70_000), ("no.such.host.invalid", 0)):
        with pytest.raises(UsageError, match=re.escape(host)):
            start_metrics_server(make_metrics(), wrong, host)


def test_a_stop_frees_the_port() -> None:
    """The next process can have it at once."""
    server = start_metrics_server(make_metrics(), 0)
    port = int(server.url.split(":")[2].split("/")[0])
    server.close()
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", port))


def test_a_retry_counts_each_of_its_runs() -> None:
    """Two runs of one job are two starts: the claim's token, not the id, is what runs."""
    metrics = make_metrics()
    first = make_run()
    second = first._replace(run_number=2, claim_token="another")
    for run, outcome in ((first, Failed("no")), (second, Completed())):
        metrics.tell(JobStarted(run, NOW))
        metrics.tell(ended(run, outcome))
    assert value(metrics, "runner_jobs_started_total", type="mail", queue="default") == 2
    assert value(metrics, "runner_job_duration_seconds_count", type="mail") == 2


def test_threads_lose_no_event() -> None:
    """Those that settle tell at the same time, while the page is asked for."""
    metrics = make_metrics()
    runs = [make_run(id=number) for number in range(2_000)]

    def tell(some: Sequence[Run]) -> None:
        for run in some:
            metrics.tell(JobStarted(run, NOW))
            metrics.tell(ended(run, Completed()))

    with ThreadPoolExecutor(5) as pool:
        told = [pool.submit(tell, runs[first::4]) for first in range(4)]
        pages = pool.submit(lambda: [metrics.page() for _ in range(20)])
        for one in (*told, pages):
            one.result()
    assert value(metrics, "runner_jobs_settled_total", type="mail", outcome="completed") == 2_000
    assert value(metrics, "runner_job_duration_seconds_count", type="mail") == 2_000
    assert value(metrics, "runner_jobs_running") == 0


def test_names_go_while_the_page_is_asked_for() -> None:
    """The page is made in a thread of its own: what is forgotten meanwhile is on it, or is not."""
    known = Known()
    spread = Spread("s", "Text.", "type", known, lambda: None)
    both, one = (make_definitions(job_types={name: make_job_type(name) for name in names}) for names in ("ab", "b"))
    is_over = threading.Event()

    def come_and_go() -> None:
        while not is_over.is_set():
            known.know(both)
            for name in "ab":
                spread.add(name, 1.0)
            known.know(one)
            spread.forget()

    thread, before = threading.Thread(target=come_and_go), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread.start()
    try:
        for _ in range(2_000):
            (family,) = spread.collect()
            assert {sample.labels["type"] for sample in family.samples} <= {"a", "b"}
    finally:
        is_over.set()
        thread.join()
        sys.setswitchinterval(before)
