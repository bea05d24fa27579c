"""Handlers that block the event loop, leak threads, end the interpreter, eat memory; and workers that are stopped."""

from __future__ import annotations

import signal
import time

import pytest

from tests.faults.projects import FILE, HANDLERS, Project
from tests.faults.served import REJECTED, RESCUED, Served, apply, check_whole, serve
from tests.waiting import eventually

BAD = '''
import threading


async def blocks(ctx, payload):
    """Holds the event loop itself until the file `open` appears."""
    trace(ctx, "begin")
    while not (FOLDER / "open").exists():
        time.sleep(0.005)
    trace(ctx, "end")


def leaks(ctx, payload):
    """Leaves threads that never end, some of which the interpreter would wait for."""
    trace(ctx, "begin")
    for number in range(payload["threads"]):
        threading.Thread(target=threading.Event().wait, daemon=number % 2 == 0).start()
    trace(ctx, "end")


def ends_it(ctx, payload):
    """The first run takes the whole worker with it."""
    trace(ctx, "begin")
    if ctx.attempt == 1:
        os._exit(3)
    trace(ctx, "end")


def eats(ctx, payload):
    trace(ctx, "begin")
    eaten = [bytearray(1024 * 1024) for _ in range(4096)]
    trace(ctx, "end")
'''
TYPES = """
  blocks: {handler: handlers.bad.blocks}
  leaks: {handler: handlers.bad.leaks}
  ends_it: {handler: handlers.bad.ends_it, max_stalls: 5}
  eats: {handler: handlers.bad.eats, isolation: process, memory_limit: 300MB, retry: {max_attempts: 2}}
  ignores: {handler: handlers.traces.stuck, timeout: 1s, retry: {max_attempts: 1}}
"""
QUICK_BEATS = {"RUNNER_STALLED_AFTER": "3s", "RUNNER_HEARTBEAT": "500ms", "RUNNER_SHUTDOWN_GRACE": "1s"}


@pytest.fixture
def bad(project: Project) -> Project:
    (project.folder / "schedules.yaml").write_text(FILE.rstrip("\n") + TYPES)
    (project.folder / "handlers/bad.py").write_text(HANDLERS + BAD)
    apply(project)
    return project


def enqueue(project: Project, type_name: str, **payload: object) -> int:
    job = project.enqueue(type_name, **payload)
    project.note("enqueued", job=job)
    return job


def status(project: Project, job: int) -> str:
    (row,) = project.rows(f"SELECT status FROM background_jobs WHERE id = {job}")
    return str(row["status"])


def await_status(project: Project, job: int, wanted: str) -> None:
    eventually(lambda: status(project, job) == wanted, f"job {job} to be {wanted}")


def test_a_blocked_event_loop(bad: Project) -> None:
    """The worker beats on, threads and processes run, and so do other coroutines; the blocking one ends by itself."""
    served = serve(bad, **QUICK_BEATS)
    blocking = enqueue(bad, "blocks")
    eventually(lambda: bad.count("begin") == 1, "the blocking handler")
    others = [enqueue(bad, kind, steps=2) for kind in ("plain", "process", "coroutine")]
    for job in others[:2]:
        await_status(bad, job, "completed")
    beats = "SELECT beats FROM workers"
    (before,) = bad.rows(beats)
    eventually(lambda: bad.rows(beats)[0]["beats"] > before["beats"] + 1, "two more beats")
    assert status(bad, blocking) == "running"

    (bad.folder / "open").touch()
    for job in (blocking, *others):
        await_status(bad, job, "completed")
    assert served.stop() == 0
    check_whole(bad)


def test_leaked_threads(bad: Project) -> None:
    """Three hundred threads that never end cost the worker nothing, and do not keep it from exiting for ever."""
    served = serve(bad, RUNNER_SHUTDOWN_GRACE="2s")
    job = enqueue(bad, "leaks", threads=300)
    await_status(bad, job, "completed")
    after = enqueue(bad, "quick")
    await_status(bad, after, "completed")
    began = time.monotonic()
    assert served.stop() == 0
    print(f"stopped in {time.monotonic() - began:.1f} s")
    assert "150 threads that handlers have started did not end" in served.log.read_text()
    check_whole(bad)


def test_a_handler_that_ignores_its_timeout(bad: Project) -> None:
    """Its run is settled without it, its place is taken by another thread, and the process still exits."""
    served = serve(bad, RUNNER_SHUTDOWN_GRACE="2s")
    stuck = [enqueue(bad, "ignores") for _ in range(4)]
    eventually(lambda: bad.count("begin") == 4, "all places to be taken")
    after = enqueue(bad, "quick")
    await_status(bad, after, "completed")
    for job in stuck:
        await_status(bad, job, "failed")
    assert served.stop() == 0
    assert all("TimeoutError" in row["error"] for row in bad.jobs()[:4])
    assert bad.count("end") == 1, "they went on until the process ended"
    check_whole(bad, "completed", "failed")


def test_a_handler_that_ends_the_interpreter(bad: Project) -> None:
    """`os._exit` in a thread kills the worker: another one rescues at once what it ran, counted as a stall."""
    job = enqueue(bad, "ends_it")
    first = serve(bad, wait=False, **QUICK_BEATS)
    assert first.end() == 3
    second = serve(bad, **QUICK_BEATS)
    await_status(bad, job, "completed")

    assert second.told(RESCUED)[0]["job_ids"] == [job]
    assert [(row["outcome"], row["error"]) for row in bad.attempts()] == [
        ("stalled", "Job processor stopped responding")
    ]
    assert second.stop() == 0
    check_whole(bad)


def test_a_handler_that_eats_memory(bad: Project) -> None:
    """In a process of its own with a `memory_limit`, it fails its attempt alone; a neighbour completes."""
    served = serve(bad)
    job, neighbour = enqueue(bad, "eats"), enqueue(bad, "process", steps=20)
    await_status(bad, job, "failed")
    await_status(bad, neighbour, "completed")

    (row, _) = bad.jobs()
    print(f"{row['error'].splitlines()[0]}")
    assert "memory_limit" in row["error"]
    assert served.stop() == 0
    check_whole(bad, "completed", "failed")


def test_stopped_past_the_limit(project: Project) -> None:
    """Continued, a worker writes nothing of what it ran: those runs are another's by then. It works on as before."""
    apply(project)
    jobs = [enqueue(project, kind, steps=100_000) for kind in ("plain", "coroutine", "process")]
    stopped = serve(project, **QUICK_BEATS)
    eventually(lambda: project.count("begin") == 3, "three handlers at work")
    other = serve(project, **QUICK_BEATS)
    stopped.harm(signal.SIGSTOP)
    eventually(lambda: project.count("begin") == 6, "all three to run at the other")
    before = [(row["run_number"], row["claim_token"]) for row in project.jobs()]
    assert [run for run, _ in before] == [2, 2, 2]
    stopped.harm(signal.SIGCONT)
    eventually(lambda: len(stopped.told(REJECTED)) == 3, "three writes to be refused")

    assert [(row["run_number"], row["claim_token"]) for row in project.jobs()] == before
    assert {row["outcome"] for row in project.attempts()} == {"stalled"}
    assert {row["worker_id"] for row in project.jobs()} == {other.worker_id}
    assert other.stop() == 0
    eventually(lambda: project.count("begin") == 9, "the one that was stopped to take them again")
    assert {row["worker_id"] for row in project.rows("SELECT worker_id FROM background_jobs")} == {stopped.worker_id}
    finish(project, stopped, jobs)


def finish(project: Project, served: Served, jobs: list[int]) -> None:
    assert served.stop() == 0
    history = check_whole(project, "pending")
    assert len(history.of("rejected")) == 3
    assert [row["stalls"] for row in history.of("job")] == [1] * len(jobs)


def test_the_end_of_a_run_that_is_another_s(project: Project) -> None:
    """Handlers that end in the moment in which their worker goes on: their results are refused, while the same jobs are
    running elsewhere."""
    apply(project)
    jobs = [enqueue(project, "turn") for _ in range(4)]
    stopped = serve(project, **QUICK_BEATS)
    eventually(lambda: project.count("begin") == 4, "four handlers at work")
    other = serve(project, **QUICK_BEATS)
    stopped.harm(signal.SIGSTOP)
    eventually(lambda: project.count("begin") == 8, "all four to run at the other")
    (project.folder / "open-1").touch()
    stopped.harm(signal.SIGCONT)
    eventually(lambda: project.count("end") == 4, "the four that were stopped to end")
    eventually(lambda: len(stopped.told(REJECTED)) == 4, "four results to be refused")

    assert {(row["status"], row["run_number"]) for row in project.jobs()} == {("running", 2)}
    (project.folder / "open-2").touch()
    for job in jobs:
        await_status(project, job, "completed")
    assert [one.stop() for one in (stopped, other)] == [0, 0]
    assert len(check_whole(project).of("rejected")) == 4


def test_stopped_within_the_limit(project: Project) -> None:
    """A pause that is short changes nothing: the run goes on where it was."""
    apply(project)
    job = enqueue(project, "plain", steps=60)
    served = serve(project, RUNNER_HEARTBEAT="500ms")
    other = serve(project, RUNNER_HEARTBEAT="500ms")
    eventually(lambda: project.count("begin") == 1, "the handler at work")
    worker = project.jobs()[0]["worker_id"]
    mine = served if worker == served.worker_id else other
    mine.harm(signal.SIGSTOP)
    quick = enqueue(project, "quick")
    await_status(project, quick, "completed")
    mine.harm(signal.SIGCONT)
    await_status(project, job, "completed")

    assert [one.stop() for one in (served, other)] == [0, 0]
    assert project.attempts() == []
    check_whole(project)
