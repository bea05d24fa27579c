"""`isolation: process`: a child of its own for a job, killable, and dead when its parent is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from runner.domain.retry import RetryPolicy
from runner.engine.executor import GRACE
from runner.engine.warden import Warden
from runner.engine.worker import Worker
from runner.telemetry import JobProgressed
from tests.engine.bench import Bench, kind
from tests.engine.sample_handlers import gate
from tests.factories import NOW
from tests.waiting import eventually

ONCE = RetryPolicy(max_attempts=1)


def is_alive(pid: int) -> bool:
    """Whether that process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in ("Z", "X")


@pytest.fixture
def held(bench: Bench, tmp_path: Path) -> Callable[..., tuple[int, int, Path]]:
    """Start a process handler and hold it: its job, its process, and the file that lets it go."""
    count = 0

    def start(worker: Worker, **payload: object) -> tuple[int, int, Path]:
        nonlocal count
        count += 1
        place = tmp_path / f"gate-{count}"
        job_id = bench.enqueue("process_hold", {"gate": str(place), **payload})
        bench.until(worker, place.with_suffix(".pid").exists, "the start of the process")
        return job_id, int(place.with_suffix(".pid").read_text()), place

    return start


Held = Callable[..., tuple[int, int, Path]]


def test_a_process_runs_the_handler_and_its_words_arrive(bench: Bench) -> None:
    """The result, progress, log and outputs of a child are those of the job; a warm child takes the next job."""
    bench.define(kind("process_id", isolation="process"), kind("process_async", isolation="process"))
    with bench.worker(concurrency=1) as worker:
        first = bench.run(worker, bench.enqueue("process_id"))[0]
        second = bench.run(worker, bench.enqueue("process_async"))[0]

    assert first.status == second.status == "completed"
    assert first.result == second.result != os.getpid()
    assert bench.lines(first.id or 0) == ["from a process"]
    assert bench.app.logs.outputs(first.id or 0) == {"preview": ("text/plain", b"bytes")}


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("exit", "the process of the handler ended with exit code 3"),
        ("segfault", "the process of the handler was killed by SIGSEGV"),
        ("pipe", "the process of the handler closed its pipe; it was killed"),
        ("raise", "tests.engine.sample_handlers.Unpicklable: cannot travel"),
        ("sys.exit", "SystemExit: 4"),
        ("unpicklable", "the result is not JSON: Object of type lock is not JSON serializable"),
        ("not json", "the result is not JSON: Object of type set is not JSON serializable"),
        ("child", "ctx.enqueue: the payload is not JSON: cannot pickle '_thread.lock' object"),
        ("memory", "the memory_limit of 200MB is used up: MemoryError"),
        ("memory at once", "the memory_limit of 200MB is used up: MemoryError"),
        ("native", "the process of the handler was killed by SIGABRT; its memory_limit is 200MB"),
    ],
)
def test_a_crash_fails_one_attempt_while_a_neighbour_completes(
    bench: Bench, held: Held, how: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever ends a child, or cannot come out of it, fails that attempt alone and says what it was.

    A segfault, `os._exit`, a closed pipe, the memory limit, an exception, a result or a child job that cannot travel.
    """
    monkeypatch.setattr("runner.engine.process.DYING", 0.5)
    limit = "200MB" if "limit" in words else None
    bench.define(
        kind("process_hold", isolation="process"),
        kind("process_dies", isolation="process", memory_limit=limit),
        kind("process_id", isolation="process", memory_limit=limit),
    )
    with bench.worker(concurrency=2) as worker:
        neighbour, _, place = held(worker)
        crashed = bench.run(worker, bench.enqueue("process_dies", {"how": how}))[0]
        is_final = "JSON" in words
        assert (crashed.status, crashed.attempt) == ("failed" if is_final else "pending", 1)
        assert (crashed.error or "").startswith(words)
        assert bench.state(neighbour) == "running"
        after = bench.run(worker, bench.enqueue("process_id"))[0]
        place.touch()
        assert (after.status, bench.run(worker, neighbour)[0].status) == ("completed", "completed")


def test_a_timeout_ends_the_process(bench: Bench, tmp_path: Path) -> None:
    """A process handler gets SIGTERM at its timeout; the attempt failed with TimeoutError."""
    bench.define(kind("process_hold", isolation="process", timeout=timedelta(seconds=1.5), retry=ONCE))
    place = tmp_path / "gate"

    job = bench.run_one("process_hold", {"gate": str(place)})

    assert (job.status, job.error) == ("failed", "TimeoutError: the job ran longer than its timeout of 1.5 s")
    if place.with_suffix(".pid").exists():
        eventually(lambda: not is_alive(int(place.with_suffix(".pid").read_text())))


def test_a_cancel_ends_the_process(bench: Bench, held: Held) -> None:
    """A cancel reaches a process handler as SIGTERM, at once, whatever it does."""
    bench.define(kind("process_hold", isolation="process"))
    with bench.worker() as worker:
        job_id, process, _ = held(worker)
        began = time.monotonic()
        bench.app.jobs.cancel(job_id, NOW, "no longer wanted")
        job = bench.run(worker, job_id)[0]

        assert (job.status, job.error) == ("cancelled", "no longer wanted")
        assert time.monotonic() - began < 4
        eventually(lambda: not is_alive(process))


def test_a_process_that_ignores_sigterm_is_killed(bench: Bench, held: Held) -> None:
    """The grace after SIGTERM comes SIGKILL, before the run would be given up."""
    bench.define(kind("process_hold", isolation="process"))
    with bench.worker() as worker:
        worker.executor.grace = 0.2
        job_id, process, _ = held(worker, stubborn=True)
        bench.app.jobs.cancel(job_id, NOW)
        job = bench.run(worker, job_id)[0]
        assert worker.executor.leaked_threads == 0

        assert job.status == "cancelled"
        eventually(lambda: not is_alive(process))


def test_a_late_kill_never_hits_the_next_job(bench: Bench, held: Held) -> None:
    """A handler that answers SIGTERM by returning has completed; the SIGKILL that was to follow is called off."""
    bench.define(kind("process_hold", isolation="process"))
    with bench.worker(concurrency=1) as worker:
        job_id, process, _ = held(worker, answers=True)
        bench.app.jobs.cancel(job_id, NOW)
        worker._cancels_at = 0.0
        worker._stop_cancelled(changed=True)
        killer = worker.executor._backends["process"]._all[0]._killer  # type: ignore[attr-defined]
        assert killer is not None
        assert killer.interval == GRACE == 5.0
        assert bench.run(worker, job_id)[0].result == process
        following, other, place = held(worker)
        assert other != process, "a child that was asked to stop does not get another job"
        assert killer.finished.is_set()
        place.touch()
        assert bench.run(worker, following)[0].status == "completed"
        assert bench.job(following).run_number == 1


def test_a_thread_that_stays_behind_speaks_for_no_other_job(bench: Bench) -> None:
    """What a thread of an earlier handler says in a warm child reaches neither the next job nor the pipe."""
    bench.define(*(kind(name, isolation="process") for name in ("process_leaves_a_thread", "process_id")))
    with bench.worker(concurrency=1) as worker:
        first = bench.run(worker, bench.enqueue("process_leaves_a_thread"))[0]
        others = [bench.run(worker, bench.enqueue("process_id"))[0] for _ in range(10)]

    assert {job.result for job in others} == {first.result}
    assert all(bench.lines(job.id or 0) == ["from a process"] for job in others)


@pytest.mark.parametrize("fails", [False, True])
def test_children_come_from_processes_too(bench: Bench, fails: bool) -> None:
    """`ctx.enqueue` in a child process takes effect exactly if the job completes."""
    bench.define(kind("process_parent", isolation="process", retry=ONCE), kind("ok"))

    job = bench.run_one("process_parent", {"fails": fails})

    assert [one.payload for one in bench.all_jobs(type=("ok",))] == ([] if fails else [{"from": "process"}])
    assert job.status == ("failed" if fails else "completed")


def test_an_exception_matches_by_its_classes_in_a_process(bench: Bench) -> None:
    """`give_up_on` sees the classes of an exception that was raised in another process."""
    bench.define(kind("process_parent", isolation="process", retry=RetryPolicy(give_up_on=("LookupError",))))

    assert bench.run_one("process_parent", {"fails": True}).status == "failed"


def test_a_closed_worker_leaves_no_process(bench: Bench, held: Held) -> None:
    """Idle children and busy ones end with their worker."""
    bench.define(*(kind(name, isolation="process") for name in ("process_id", "process_hold")))
    with bench.worker() as worker:
        busy, process, _ = held(worker)
        idle = bench.run(worker, bench.enqueue("process_id"))[0].result
        assert is_alive(idle)
        assert is_alive(process)

    eventually(lambda: not is_alive(idle))
    eventually(lambda: not is_alive(process))
    assert bench.state(busy) == "running"


def test_a_stop_before_the_process_is_there(bench: Bench, tmp_path: Path) -> None:
    """A job that is cancelled while its process starts never reaches its handler, or is ended in it."""
    bench.define(kind("process_hold", isolation="process"))
    with bench.worker() as worker:
        job_id = bench.enqueue("process_hold", {"gate": str(tmp_path / "gate")})
        worker.tick(NOW)
        assert worker.executor.request_stop(job_id, "cancel", "at once")
        job = bench.run(worker, job_id)[0]

    assert (job.status, job.error) == ("cancelled", "at once")
    assert gate().entered == 0


def test_limits_hold_for_the_child_and_make_their_own(bench: Bench) -> None:
    """`memory_limit` and `nice` are the child's; a warm one takes the next job of the same limits, and no other."""
    limits: dict[str, dict[str, Any]] = {
        "plain": {}, "small": {"memory_limit": "500MB"}, "polite": {"nice": 3},
        "both": {"memory_limit": "500MB", "nice": 3}, "other": {"memory_limit": "501MB"},
    }  # fmt: skip
    bench.define(*(kind(name, "process_sees", isolation="process", **limits[name]) for name in limits))
    with bench.worker(concurrency=1) as worker:
        seen = [{name: bench.run(worker, bench.enqueue(name))[0].result for name in limits} for _ in range(2)]

    assert seen[0] == seen[1]
    assert len({process for process, *_ in seen[0].values()}) == 5
    mine = os.nice(0)
    assert {name: (nice - mine, size) for name, (_, nice, size) in seen[0].items()} == {
        "plain": (0, -1), "small": (0, 500_000_000), "polite": (3, -1), "both": (3, 500_000_000),
        "other": (0, 501_000_000),
    }  # fmt: skip


def test_a_child_that_ran_out_of_memory_is_replaced(bench: Bench) -> None:
    """What a handler has left behind is not missing to the next job."""
    bench.define(
        *(kind(name, isolation="process", memory_limit="200MB", retry=ONCE) for name in ("process_dies", "process_id"))
    )
    with bench.worker(concurrency=1) as worker:
        before = bench.run(worker, bench.enqueue("process_id"))[0].result
        failed = bench.run(worker, bench.enqueue("process_dies", {"how": "memory"}))[0]
        after = bench.run(worker, bench.enqueue("process_id"))[0].result

    assert (failed.error or "").startswith("the memory_limit of 200MB is used up")
    assert before != after


def test_children_that_nothing_needs_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an edit of its limits a type has another child; the old one does not stay for ever."""
    monkeypatch.setattr("runner.engine.process.UNUSED", 0.0)
    bench.define(
        kind("plain", "process_id", isolation="process"), kind("polite", "process_id", isolation="process", nice=1)
    )
    with bench.worker(concurrency=1) as worker:
        old = bench.run(worker, bench.enqueue("plain"))[0].result
        bench.run(worker, bench.enqueue("polite"))
        eventually(lambda: not is_alive(old), "the end of the idle child")
        assert bench.run(worker, bench.enqueue("plain"))[0].status == "completed"


@pytest.mark.parametrize("dies", [False, True])
def test_what_a_child_has_started_ends_with_it(bench: Bench, tmp_path: Path, dies: bool) -> None:
    """A cancel reaches the whole group; where a child dies by itself, the programs that it started are killed."""
    bench.define(kind("process_starts", isolation="process", retry=ONCE))
    place = tmp_path / "gate"
    with bench.worker() as worker:
        job_id = bench.enqueue("process_starts", {"gate": str(place), "dies": dies})
        bench.until(worker, place.with_suffix(".grandchild").exists)
        if not dies:
            bench.until(worker, place.with_suffix(".pid").exists)
            bench.app.jobs.cancel(job_id, NOW)
        job = bench.run(worker, job_id)[0]
        eventually(lambda: not is_alive(int(place.with_suffix(".grandchild").read_text())))

    assert job.status == ("failed" if dies else "cancelled")


def test_progress_of_a_process_is_gathered_before_it_is_sent(bench: Bench) -> None:
    """A child that reports without end costs its worker little: ten thousand calls are a few messages."""
    bench.define(kind("process_chatters", isolation="process"))

    job = bench.run_one("process_chatters", {"times": 10_000})

    assert (job.progress, job.current_step, job.message) == (100, "counting", "number 9999")
    assert 1 <= len(bench.of(JobProgressed)) <= 100


def test_the_last_word_of_progress_comes_without_another(bench: Bench, tmp_path: Path) -> None:
    """What was said in a burst is visible while the handler goes on in silence."""
    bench.define(kind("process_chatters", isolation="process"))
    place = tmp_path / "gate"
    with bench.worker() as worker:
        job_id = bench.enqueue("process_chatters", {"times": 50, "gate": str(place)})
        bench.until(worker, lambda: bench.job(job_id).message == "number 49", "the last word")
        assert bench.state(job_id) == "running"
        place.touch()
        bench.run(worker, job_id)


def test_a_warden_kills_what_it_watches_and_nothing_else() -> None:
    """A child that has ended is forgotten: its number may be another's by the time that the worker is gone."""
    programs = [subprocess.Popen(["sleep", "300"], start_new_session=True) for _ in range(2)]
    watched, forgotten = programs
    warden = Warden()
    try:
        for program in programs:
            warden.watch(program.pid)
        warden.forget(forgotten.pid)
        warden.close()
        assert watched.wait(20) == -signal.SIGKILL
        assert forgotten.poll() is None
    finally:
        for program in programs:
            program.kill()
            program.wait()


PARENT = """
import sys
from pathlib import Path
from tests.engine.bench import kind, make_bench
from tests.factories import NOW
import time

if __name__ == "__main__":
    bench = make_bench(Path(sys.argv[1]))
    bench.define(kind("process_starts", isolation="process"))
    bench.enqueue("process_starts", {"gate": sys.argv[1] + "/gate", "stubborn": True})
    with bench.worker() as worker:
        worker.tick(NOW)
        processes = worker.executor._backends["process"]
        if sys.argv[2] == "killed":
            processes._nursery._warden._process.kill()
            processes._nursery._warden._process.wait()
        Path(sys.argv[1], "ready").touch()
        time.sleep(60)  # it is killed long before; a test that dies leaves it no longer than that
"""


@pytest.mark.parametrize("warden", ["watches", "killed"])
def test_a_child_dies_with_its_parent(tmp_path: Path, warden: str) -> None:
    """A worker that is killed takes the processes of its handlers with it, and the programs that those started.

    Where the warden was killed before, the children themselves die all the same.
    """
    program = tmp_path / "parent.py"
    program.write_text(PARENT)
    root = str(Path(__file__).parents[2])
    arguments = [sys.executable, str(program), str(tmp_path), warden]
    parent = subprocess.Popen(arguments, env=os.environ | {"PYTHONPATH": root})
    told = tmp_path / "gate.pid"
    try:
        eventually(told.exists, "the start of the handler")
        child, started = (int(told.with_suffix(f".{who}").read_text()) for who in ("pid", "grandchild"))
        eventually((tmp_path / "ready").exists)
        assert is_alive(child)
        assert is_alive(started)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()

    eventually(lambda: not is_alive(child), "the death of the child")
    if warden == "killed":
        os.kill(started, signal.SIGKILL)
    eventually(lambda: not is_alive(started), "the death of what it has started")
