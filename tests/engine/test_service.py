"""The long-lived process: supervised loops, a stop that loses nothing, and the work itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runner.assembly import Roles
from runner.domain.errors import DatabaseUnavailable
from runner.domain.job import Run
from runner.domain.outcome import Completed
from runner.engine.follower import digest_of
from runner.engine.loop import Clock
from runner.engine.service import Loop, Service, kept_back
from runner.engine.worker import Selection
from runner.storage.claims import ClaimRequest
from runner.telemetry import (
    Event,
    JobSettled,
    JobStarted,
    LoopDied,
    ServiceStarted,
    ServiceStopped,
    SettingsChanged,
    SettingsKept,
    StopRequested,
    TickFailed,
    TickRecovered,
    WorkerRescued,
)
from tests.engine.bench import Bench, kind, make_bench
from tests.engine.sample_handlers import gate
from tests.factories import DAY, Stores, end, make_running, make_schedule
from tests.waiting import eventually

GOOD = """
version: 1
runner: {handler_packages: [tests]}
job_types: {ok: {handler: tests.engine.sample_handlers.ok}}
"""


@dataclass
class Duty:
    """A tick that does what it is told."""

    calls: int = 0
    raises: BaseException | None = None
    events: list[Event] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)

    def tick(self, now: datetime) -> float:
        self.calls += 1
        if self.raises is not None:
            raise self.raises
        return 0.001

    def loop(self, name: str = "duty") -> Loop:
        return Loop(name, self.tick, _Quick(self), self.events.append)


class _Quick(Clock):
    """Waits are noted, and short."""

    def __init__(self, duty: Duty) -> None:
        super().__init__()
        self._duty = duty

    def wait(self, seconds: float) -> None:
        self._duty.pauses.append(seconds)
        super().wait(min(seconds, 0.001))


@contextmanager
def serving(service: Service) -> Iterator[threading.Thread]:
    """Runs it in a thread; at the end it has stopped."""
    dead: list[Any] = []
    thread = threading.Thread(target=lambda: dead.append(service.run()), daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        service.stop("the test")
        thread.join(40)
        assert not thread.is_alive()
        assert dead, "run() did not return"


# ---- supervision


def test_a_tick_that_raises_is_told_and_tried_again_later() -> None:
    """Each time after a longer pause; what it cannot do does not end it."""
    duty = Duty(raises=ValueError("no luck"))
    with serving(Service([duty.loop()], None, timedelta(seconds=1), duty.events.append)):
        eventually(lambda: duty.calls > 8)
        failed = [one for one in duty.events if isinstance(one, TickFailed)]
        assert (failed[0].loop, failed[0].error, failed[0].repeats) == ("duty", "ValueError: no luck", 0)
        assert [one.repeats for one in failed[:4]] == [0, 1, 2, 3]
        assert duty.pauses[:8] == [0.5, 1, 2, 4, 8, 16, 30, 30]
        duty.raises = None
        eventually(lambda: any(isinstance(one, TickRecovered) for one in duty.events))


def test_another_cause_is_told_anew() -> None:
    """`repeats` counts the same error only."""
    duty = Duty(raises=DatabaseUnavailable("locked"))
    loop = duty.loop()
    loop._once()
    duty.raises = DatabaseUnavailable("full")
    loop._once()
    loop._once()

    failed = [one for one in duty.events if isinstance(one, TickFailed)]
    assert [(one.error, one.repeats, one.cause) for one in failed] == [
        ("locked", 0, None), ("full", 0, None), ("full", 1, None),
    ]  # fmt: skip


def test_a_loop_that_dies_takes_the_service_down() -> None:
    """Half alive is worse than dead: the others stop, and the dead one is named."""
    duty, other = Duty(raises=SystemExit(3)), Duty()
    service = Service([duty.loop("worse"), other.loop()], None, timedelta(seconds=1), other.events.append)

    (dead,) = service.run()

    assert (dead.name, dead.failure) == ("worse", duty.raises)
    assert [one.loop for one in other.events if isinstance(one, LoopDied)] == ["worse"]
    assert isinstance(other.events[-1], ServiceStopped)


def test_a_stop_before_the_start() -> None:
    """No loop begins, nothing says that it serves, and the end is told as any other."""
    duty = Duty()
    service = Service([duty.loop("worker")], None, timedelta(seconds=30), duty.events.append)
    service.stop("SIGTERM")

    assert service.run() == []
    assert duty.calls == 0
    assert [type(event) for event in duty.events] == [StopRequested, ServiceStopped]


def test_a_tick_may_be_done_where_its_cause_is() -> None:
    """Who has ended a job settles it: our thread is woken only where it has to look again sooner than it wants to."""
    duty = Duty()
    loop = duty.loop()
    loop._looks_at = time.monotonic()
    assert (loop.here(), duty.calls) == ("done", 1)
    loop._looks_at = time.monotonic() + 60
    assert (loop.here(), duty.calls) == ("wake", 2)
    duty.raises = DatabaseUnavailable("locked")
    assert (loop.here(), duty.calls) == ("wake", 3), "it is tried again by the loop, at its own pace"
    assert (loop.here(), duty.calls) == ("wake", 3)


def test_who_finds_another_at_a_tick_leaves_one_more_to_it() -> None:
    """Many that end together do not stand in a row to settle one each."""
    duty, found = Duty(), list[str]()
    loop = duty.loop()
    loop._looks_at = 0.0

    def tick(now: datetime) -> float:
        if duty.calls == 0:
            late = threading.Thread(target=lambda: found.append(loop.here()))
            late.start()
            late.join()
        return duty.tick(now)

    loop.tick = tick
    assert (loop.here(), found, duty.calls) == ("done", ["left"], 2)


def test_what_was_left_to_the_loop_itself_it_does_at_once() -> None:
    """It does not lie down between the two ticks."""
    duty, found = Duty(), list[str]()
    loop = duty.loop()
    loop.clock = Clock()

    def tick(now: datetime) -> float:
        if not found:
            late = threading.Thread(target=lambda: found.append(loop.here()))
            late.start()
            late.join()
        duty.tick(now)
        return 3600.0

    loop.tick = tick
    with serving(Service([loop], None, timedelta(seconds=1), duty.events.append)):
        eventually(lambda: duty.calls >= 2)
    assert found == ["left"]


def test_a_loop_that_ended_does_nothing_more() -> None:
    """What ends later is settled by the last tick of the stop, or rescued."""
    duty = Duty()
    loop = duty.loop()
    loop.stop()
    assert (loop.here(), duty.calls) == ("wake", 0)


def test_a_loop_dies_wherever_it_ticks() -> None:
    """Also in the thread of a handler."""
    duty = Duty(raises=SystemExit(3))
    loop, told = duty.loop(), threading.Event()
    loop.died = told.set
    assert loop.here() == "done"
    assert told.is_set()
    assert loop.failure is duty.raises


# ---- the work


@pytest.fixture
def bench(dialect: str, tmp_path: Any) -> Iterator[Bench]:
    made = make_bench(tmp_path, shutdown_grace=timedelta(seconds=2))
    (tmp_path / "schedules.yaml").write_text("version: 1\n")
    yield made
    made.app.close()


@contextmanager
def service_of(bench: Bench, roles: Roles | None = None) -> Iterator[Service]:
    follower = bench.app.follower(applies=False)
    follower._seen = digest_of(bench.app.settings.config)
    with bench.app.service(follower, roles or Roles(), bench.definitions) as service:
        yield service


def now_due(bench: Bench) -> None:
    """Real loops go by the real clock."""
    bench.clock.time = datetime.now(bench.clock.time.tzinfo)


def test_what_is_enqueued_while_it_serves_is_run(bench: Bench) -> None:
    """By a worker that had nothing to do until then."""
    bench.define(kind("ok"))
    with service_of(bench) as service, serving(service):
        eventually(bench.app.workers.all)
        now_due(bench)
        job_id = bench.enqueue("ok")
        eventually(lambda: bench.state(job_id) == "completed")
    assert bench.app.workers.all() == []
    started, *_, stopped = [one for one in bench.events if isinstance(one, (ServiceStarted, ServiceStopped))]
    assert (started.revision, started.concurrency, stopped.reason) == (1, 2, "the test")


def test_who_ends_a_job_settles_it(bench: Bench) -> None:
    """In the thread of the handler: no other is woken for it, and what it claims by that it runs."""
    bench.define(kind("ok"))
    now_due(bench)
    settled_in: list[str] = []

    def note(event: Event) -> None:
        if isinstance(event, JobSettled):
            settled_in.append(threading.current_thread().name)

    bench.app.events.subscribe(note)
    for _ in range(20):
        bench.enqueue("ok")
    with service_of(bench) as service:
        assert service.worker is not None
        service.worker.concurrency = 1
        with serving(service):
            eventually(lambda: bench.app.jobs.counts()["completed"] == 20)

    assert settled_in == ["handler-1"] * 20


@pytest.mark.parametrize(("grace", "kept"), [(30.0, 5.0), (20.0, 5.0), (8.0, 2.0), (0.0, 0.0), (-1.0, 0.0)])
def test_most_of_the_grace_is_the_handlers(grace: float, kept: float) -> None:
    """Five seconds at most, of a short grace a quarter, are kept back for giving back what did not end."""
    assert kept_back(grace) == kept


def test_due_schedules_are_fired_and_their_jobs_run(bench: Bench) -> None:
    """Scheduler and worker are loops of one process."""
    now_due(bench)
    bench.define(kind("ok"), schedules=[make_schedule("often", job="ok", every=timedelta(seconds=1))])
    with service_of(bench) as service, serving(service):
        eventually(lambda: any(job.status == "completed" for job in bench.all_jobs()))
    assert {slot.outcome for slot in bench.slots("often")} == {"enqueued"}


@pytest.mark.parametrize("roles", [Roles(runs=False), Roles(runs=False, fires=False), Roles(runs=False, rescues=False)])
def test_a_process_that_runs_nothing_rescues_and_prunes(bench: Bench, roles: Roles) -> None:
    """Nobody else may be there to do it; where all jobs are off (`JOBS_ENABLED=false`), it does neither."""
    stores, now = Stores(bench.app.database), datetime.now(bench.clock.time.tzinfo)
    orphan = make_running(stores, worker_id="dead", now=now)
    old = make_running(stores, worker_id="w1", now=now - 40 * DAY)
    end(stores, old, Completed(), now=now - 40 * DAY)
    for worker_id in ("dead", "w1"):
        bench.app.workers.forget(worker_id)
    looks = list[str]()
    census = bench.app.workers.census
    bench.app.workers.census = lambda: (looks.append("look"), census())[1]  # type: ignore[method-assign]

    with service_of(bench, roles) as service, serving(service):
        if roles.rescues:
            eventually(lambda: bench.state(orphan.id) == "pending")
            eventually(lambda: [job.id for job in bench.all_jobs()] == [orphan.id])
            assert bench.of(WorkerRescued)[0].worker_id == "dead"
        else:
            assert "janitor" not in {loop.name for loop in service.loops}
    assert bool(looks) == roles.rescues
    assert (bench.state(orphan.id) == "running") == (not roles.rescues)
    assert bench.app.workers.all() == []


@pytest.mark.parametrize(("roles", "expected"), [(Roles(fires=False), "no slot"), (Roles(runs=False), "no run")])
def test_roles_leave_duties_out(bench: Bench, roles: Roles, expected: str) -> None:
    """`--no-scheduler` fires nothing, `--no-worker` runs nothing."""
    now_due(bench)
    bench.define(kind("ok"), schedules=[make_schedule("often", job="ok", every=timedelta(seconds=1))])
    with service_of(bench, roles) as service, serving(service):
        if expected == "no slot":
            job_id = bench.enqueue("ok")
            eventually(lambda: bench.state(job_id) == "completed")
            assert bench.slots() == []
        else:
            eventually(bench.slots)
            assert {job.status for job in bench.all_jobs()} == {"pending"}
            (row,) = bench.app.workers.all()
            assert (row.concurrency, row.wake_socket) == (0, None)
    assert bench.app.workers.all() == []


# ---- the row of the process


def test_the_row_says_which_queues_are_taken(bench: Bench) -> None:
    """`--queues` and `--exclude-queues` are in the row; a worker that takes all says nothing."""
    chosen = [
        (Selection(queues=frozenset("ba")), {"only": ["a", "b"]}),
        (Selection(queues=frozenset("ab"), exclude_queues=frozenset("b")), {"only": ["a"]}),
        (Selection(exclude_queues=frozenset("c")), {"except": ["c"]}),
        (Selection(), None),
    ]
    for selection, told in chosen:
        with service_of(bench, Roles(selection=selection)):
            assert [row.queues for row in bench.app.workers.all()] == [told]


@pytest.mark.parametrize(("runs", "applies"), [(True, True), (True, False), (False, True)])
def test_a_running_service_goes_by_the_settings_of_the_file(
    dialect: str, tmp_path: Path, runs: bool, applies: bool
) -> None:
    """Concurrency, grace, retention, beat and patience, also with `--no-sync`; the row says so. A flag still wins."""
    bench = make_bench(tmp_path)
    app = bench.app
    app.settings = replace(app.settings, origins={"retention": "flag --retention"})
    app.settings.config.write_text(GOOD)
    follower = app.follower(applies=applies)
    definitions = follower.begin(app.reloader.read(), datetime.now(bench.clock.time.tzinfo))
    with app.service(follower, Roles(runs=runs), definitions) as service, serving(service):
        janitor = next(loop.tick.__self__ for loop in service.loops if loop.name == "janitor")  # type: ignore[attr-defined]
        eventually(lambda: bench.of(ServiceStarted))
        options = "concurrency: 5, heartbeat: 200ms, stalled_after: 6s, shutdown_grace: 20s, retention: 1d"
        app.settings.config.write_text(GOOD.replace("runner: {", f"runner: {{{options}, "))
        row = eventually(lambda: next((row for row in app.workers.all() if row.stalled_after == 6), None))
        assert row.concurrency == (5 if runs else 0)
        assert (service.grace, janitor.interval, janitor.retention) == (timedelta(seconds=20), 0.2, timedelta(days=30))
        assert [(one.changed["concurrency"], "retention" in one.changed) for one in bench.of(SettingsChanged)] == [
            ((2, 5), False)
        ]
        assert list(bench.of(SettingsKept)[0].kept) == ["retention"]
        eventually(lambda: app.workers.all()[0].beats > row.beats + 3, seconds=5)  # the old beat was ten seconds
        app.settings.config.write_text(GOOD)
        eventually(lambda: [row.stalled_after for row in app.workers.all()] == [60.0])
        eventually(lambda: [row.concurrency for row in app.workers.all()] == [2 if runs else 0])
        assert (service.grace, janitor.interval) == (timedelta(seconds=30), 5.0)
    app.close()


def test_concurrency_is_raised_and_lowered_under_running_jobs(dialect: str, tmp_path: Path) -> None:
    """Raised, more begin at once; lowered, none is stopped and none begins until fewer run."""
    bench = make_bench(tmp_path)
    app, file = bench.app, bench.app.settings.config
    good = GOOD.replace("sample_handlers.ok", "sample_handlers.hold")
    file.write_text(good)
    follower = app.follower(applies=True)
    definitions = follower.begin(app.reloader.read(), datetime.now(bench.clock.time.tzinfo))
    now_due(bench)
    ids = [bench.enqueue("ok", {"gate": f"g{number}"}) for number in range(6)]

    def running() -> list[int]:
        return [number for number, job_id in enumerate(ids) if bench.state(job_id) == "running"]

    with app.service(follower, Roles(), definitions) as service, serving(service):
        assert service.worker is not None
        eventually(lambda: running() == [0, 1])
        file.write_text(good.replace("runner: {", "runner: {concurrency: 4, "))
        eventually(lambda: running() == [0, 1, 2, 3])
        file.write_text(good.replace("runner: {", "runner: {concurrency: 1, "))
        eventually(lambda: [row.concurrency for row in app.workers.all()] == [1])
        for number, left in ((0, [1, 2, 3]), (2, [1, 3]), (1, [3])):
            gate(f"g{number}").opened.set()
            eventually(lambda number=number: bench.state(ids[number]) == "completed")  # type: ignore[misc]
            assert running() == left
        gate("g3").opened.set()
        eventually(lambda: running() == [4])
        file.write_text(good)
        eventually(lambda: running() == [4, 5])
        for number in (4, 5):
            gate(f"g{number}").opened.set()
        eventually(lambda: app.jobs.counts()["completed"] == 6)
    assert {job.run_number for job in bench.all_jobs()} == {1}
    app.close()


def test_a_lower_patience_counts_for_the_worker_itself(dialect: str, tmp_path: Path) -> None:
    """One that cannot beat gives its runs up by what its row says now, however long it had before."""
    bench = make_bench(tmp_path, stalled_after=timedelta(hours=1))
    app, file = bench.app, bench.app.settings.config
    good = GOOD.replace("sample_handlers.ok", "sample_handlers.say_until_stopped")
    file.write_text(good.replace("runner: {", "runner: {stalled_after: 1h, "))
    follower = app.follower(applies=True)
    definitions = follower.begin(app.reloader.read(), datetime.now(bench.clock.time.tzinfo))
    now_due(bench)
    job_id = bench.enqueue("ok")

    def away(*_: object, **__: object) -> bool:
        raise DatabaseUnavailable("away")

    with app.service(follower, Roles(), definitions) as service, serving(service):
        eventually(lambda: bench.state(job_id) == "running")
        file.write_text(good.replace("runner: {", "runner: {heartbeat: 1s, stalled_after: 3s, "))
        eventually(lambda: [row.stalled_after for row in app.workers.all()] == [3.0])
        assert service.worker is not None
        assert service.worker.executor._lease.lasts == 2.0
        app.workers.beat = away  # type: ignore[method-assign]
        eventually(lambda: bench.attempts(job_id), seconds=10)
        assert {one.outcome for one in bench.attempts(job_id)} == {"released"}
    app.close()


@pytest.mark.parametrize("runs", [True, False])
def test_what_is_new_about_the_file_is_in_the_row_at_once(tmp_path: Path, runs: bool) -> None:
    """A rejected edit does not wait for the next beat, an hour away; the row knows its file from the start."""
    bench = make_bench(tmp_path, heartbeat=timedelta(hours=1), stalled_after=timedelta(hours=3))
    file = bench.app.settings.config
    file.write_text(GOOD)
    follower = bench.app.follower(applies=True)
    definitions = follower.begin(bench.app.reloader.read(), datetime.now(bench.clock.time.tzinfo))
    with bench.app.service(follower, Roles(runs=runs), definitions) as service, serving(service):
        (row,) = bench.app.workers.all()
        assert (row.config_sha256, row.config_revision, row.config_problem) == (digest_of(file), 1, None)
        file.write_text("version: 1\nnonsense: 1\n")
        eventually(lambda: bench.app.workers.all()[0].config_problem)
        (bad,) = bench.app.workers.all()
        assert "schedules.yaml:2:1: " in str(bad.config_problem)
        assert (bad.config_sha256, bad.config_revision, bad.config_problem_at is None) == (row.config_sha256, 1, False)
        file.write_text(GOOD)
        eventually(lambda: bench.app.workers.all()[0].config_problem is None)
    bench.app.close()


# ---- the stop


def test_what_runs_may_end_within_the_grace(bench: Bench) -> None:
    """Nothing new is claimed; what ends in time is settled as it ended."""
    bench.define(kind("hold"), kind("ok"))
    now_due(bench)
    job_id = bench.enqueue("hold", {"gate": "here"})
    with service_of(bench) as service, serving(service):
        eventually(lambda: bench.state(job_id) == "running")
        service.stop("SIGTERM")
        eventually(lambda: bench.of(StopRequested))
        late = bench.enqueue("ok")
        gate("here").opened.set()
    assert (bench.state(job_id), bench.state(late)) == ("completed", "pending")
    (stopped,) = bench.of(ServiceStopped)
    assert (stopped.reason, stopped.drained, stopped.released) == ("SIGTERM", 1, 0)


def test_what_a_claim_that_went_on_has_begun_counts_too(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Claimed as the stop came, begun after that was told, and at its end before anybody looks again."""
    bench.define(kind("ok"))
    now_due(bench)
    settle_down, made = Loop.settle_down, list[int]()

    def settle_down_late(loop: Loop, patience: float) -> None:
        settle_down(loop, patience)
        eventually(lambda: bench.state(made[0]) == "completed")

    monkeypatch.setattr(Loop, "settle_down", settle_down_late)
    with service_of(bench) as service:

        def stop(event: Event) -> None:
            if isinstance(event, JobStarted):
                service.stop("SIGTERM")
                eventually(lambda: bench.of(StopRequested))

        bench.app.events.subscribe(stop)
        with serving(service):
            made.append(bench.enqueue("ok"))
            eventually(lambda: bench.of(ServiceStopped))
    (stopped,) = bench.of(ServiceStopped)
    assert (stopped.drained, stopped.released) == (1, 0)


def test_what_ends_as_the_stop_is_told_counts_among_those_that_ended(bench: Bench) -> None:
    bench.define(kind("hold"))
    now_due(bench)
    job_id = bench.enqueue("hold", {"gate": "here"})
    with service_of(bench) as service, serving(service):
        eventually(lambda: bench.state(job_id) == "running")
        told = service.emit

        def end_it(event: Event) -> None:
            told(event)
            if isinstance(event, StopRequested):
                gate("here").opened.set()
                eventually(lambda: bench.state(job_id) == "completed")

        service.emit = end_it
        service.stop("SIGTERM")
    (stopped,) = bench.of(ServiceStopped)
    assert (stopped.drained, stopped.released) == (1, 0)


@pytest.mark.parametrize("handler", ["work", "hold"])
def test_what_does_not_end_is_given_back(bench: Bench, handler: str) -> None:
    """Pending with the attempt given back, also where the handler never asks; the process does not wait for it."""
    bench.define(kind(handler))
    now_due(bench)
    job_id = bench.enqueue(handler, {"gate": "here"})
    with service_of(bench) as service, serving(service):
        eventually(lambda: bench.state(job_id) == "running")
        service.stop("SIGTERM")
    job = bench.job(job_id)
    assert (job.status, job.attempt, job.error) == ("pending", 0, "released: SIGTERM")
    (stopped,) = bench.of(ServiceStopped)
    assert (stopped.drained, stopped.released) == (0, 1)
    assert stopped.seconds < 2.5


def test_a_loop_in_one_tick_for_too_long_is_not_lively() -> None:
    """What the watchdog of systemd is told by: a tick that hangs is as bad as a dead loop."""
    duty = Duty()
    loop = duty.loop()
    service = Service([loop], None, timedelta(seconds=1), duty.events.append)
    seen: list[bool] = []
    loop.tick = lambda now: seen.extend((service.is_lively(60), service.is_lively(0))) or 0.0  # type: ignore[func-returns-value]
    loop._once()

    assert seen == [True, False]
    assert service.is_lively(0), "between two ticks it hangs in none"


def test_what_is_claimed_while_the_stop_comes_is_not_left(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A claim that had begun before the signal: its job is run or given back, like any other."""
    bench.define(kind("hold"))
    now_due(bench)
    with service_of(bench) as service, serving(service):
        (loop,) = [one for one in service.loops if one.name == "worker"]
        assert service.worker is not None
        real = service.worker.claims.claim

        def claim(request: ClaimRequest, now: datetime) -> list[Run]:
            runs = real(request, now)
            if runs:
                service.stop("SIGTERM")
                loop._ended.wait(0.5)  # it is never set while we are in here
            return runs

        monkeypatch.setattr(service.worker.claims, "claim", claim)
        job_id = bench.enqueue("hold", {"gate": "here"})
        eventually(lambda: bench.of(ServiceStopped))

    assert bench.state(job_id) == "pending"


def test_what_ends_while_the_last_tick_runs_is_settled(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow database at the end: the outcome that came in meanwhile is not left to a rescue."""
    bench.define(kind("hold"))
    now_due(bench)
    job_id = bench.enqueue("hold", {"gate": "here"})
    with service_of(bench) as service, serving(service):
        eventually(lambda: bench.state(job_id) == "running")
        (loop,) = [one for one in service.loops if one.name == "worker"]
        real = loop.tick
        slow = threading.Event()

        def tick(now: datetime) -> float:
            pause: float = real(now)
            if bench.of(StopRequested) and not slow.is_set():
                slow.set()
                gate("here").opened.set()
                eventually(lambda: service.worker is not None and not service.worker.executor.running())
                loop.stop()
            return pause

        monkeypatch.setattr(loop, "tick", tick)
        service.stop("SIGTERM")
    assert bench.state(job_id) == "completed"
