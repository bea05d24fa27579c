"""`runner serve` and signals: a stop in good order under load, a second signal, and one that comes at a bad moment."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from pathlib import Path

import pytest

from tests.faults.projects import Project, is_alive
from tests.faults.served import RESCUED, apply, check_whole, command, epoch, serve
from tests.waiting import eventually

KINDS = ("plain", "coroutine", "process")
TGKILL = {"x86_64": 234, "aarch64": 131}


def enqueue_many(project: Project, count: int, kinds: tuple[str, ...] = KINDS, **payload: object) -> list[int]:
    made = [project.enqueue(kinds[number % len(kinds)], **payload) for number in range(count)]
    for job in made:
        project.note("enqueued", job=job)
    return made


def test_sigterm_under_load(project: Project) -> None:
    """Exit 0 within the grace; what ends within it is completed, the rest is pending with its attempt given back."""
    apply(project)
    enqueue_many(project, 60, ("plain", "coroutine"), steps=2)
    enqueue_many(project, 3, steps=1000)
    served = serve(project, RUNNER_SHUTDOWN_GRACE="4s")
    eventually(lambda: project.count("end") >= 20, "twenty jobs to end")
    began = time.monotonic()
    code = served.stop()
    seconds = time.monotonic() - began

    assert code == 0
    assert seconds < 4 + 1, f"it took {seconds:.1f} s"
    (stopped,) = served.told("stopped")
    assert stopped["released"] <= 4
    jobs = project.jobs()
    assert {job["status"] for job in jobs} == {"completed", "pending"}, "load was left when it was stopped"
    assert {job["attempt"] for job in jobs if job["status"] == "pending"} == {0}
    assert {row["outcome"] for row in project.attempts()} <= {"released"}
    assert project.rows("SELECT * FROM workers") == []
    check_whole(project, "completed", "pending")


def test_sigterm_gives_back_what_does_not_end(project: Project) -> None:
    """One long job of each kind: asked to stop once half the grace is over, released, and run again by the next."""
    apply(project)
    enqueue_many(project, 3, steps=400)
    served = serve(project, RUNNER_SHUTDOWN_GRACE="2s")
    eventually(lambda: project.count("begin") == 3, "three handlers at work")
    began = time.monotonic()
    assert served.stop() == 0
    assert time.monotonic() - began < 3

    assert [(row["outcome"], row["error"]) for row in project.attempts()] == [("released", "released: SIGTERM")] * 3
    assert [(job["status"], job["attempt"], job["run_number"]) for job in project.jobs()] == [("pending", 0, 1)] * 3
    assert served.told("stopped")[0]["released"] == 3
    assert not any(is_alive(effect.pid) for effect in project.effects())
    check_whole(project, "pending")


def test_a_second_signal_ends_serve_at_once(project: Project) -> None:
    """Nothing is settled in a hurry: another worker rescues what was running."""
    apply(project)
    enqueue_many(project, 1, ("stuck",))
    served = serve(project)
    eventually(lambda: project.count("begin") == 1, "the handler at work")
    served.signal(signal.SIGTERM)
    served.await_told("stopping: nothing more is claimed, what runs may end")
    began = time.monotonic()
    served.signal(signal.SIGINT)

    assert served.end() == 130
    assert time.monotonic() - began < 3, "it waited for the grace"
    assert [job["status"] for job in project.jobs()] == ["running"]
    (project.folder / "open").touch()
    other = serve(project)
    eventually(lambda: project.jobs()[0]["status"] == "completed", "the job to be rescued and run again")
    assert other.stop() == 0
    check_whole(project)


def test_a_signal_that_another_thread_receives(project: Project) -> None:
    """The kernel may give a signal to any thread, and does where the process was just continued; it counts all the
    same, at once."""
    apply(project)
    enqueue_many(project, 1, ("quick",))
    served = serve(project)
    served.await_told("job completed")  # by now its main thread waits
    threads = [int(path.name) for path in Path(f"/proc/{served.pid}/task").iterdir()]
    other = max(threads)
    assert other != served.pid
    if os.uname().machine not in TGKILL:
        pytest.skip(f"the number of the call tgkill is not known on {os.uname().machine}")
    began = time.monotonic()
    ctypes.CDLL(None).syscall(TGKILL[os.uname().machine], served.pid, other, signal.SIGTERM)

    assert served.end() == 0
    assert time.monotonic() - began < 10


def test_cancelled_from_another_process(project: Project) -> None:
    """A running handler of each kind is cancelled within a second, a thread at its next call of ctx."""
    apply(project)
    jobs = enqueue_many(project, 3, steps=1000)
    served = serve(project)
    eventually(lambda: project.count("begin") == 3, "the handlers at work")
    code, said = command(project, "jobs", "cancel", *map(str, jobs))
    assert code == 0, said
    eventually(lambda: all(job["completed_at"] for job in project.jobs()), "the cancels")

    for job in project.jobs():
        seconds = epoch(job["completed_at"]) - epoch(job["cancel_requested_at"])
        print(f"{job['type']}: cancelled {seconds * 1000:.0f} ms after the request")
        assert job["status"] == "cancelled"
        assert seconds < 5  # a second on a machine that is not busy
    assert project.count("end") == 0
    assert served.stop() == 0
    check_whole(project, "cancelled")


def test_a_process_without_a_worker_rescues(project: Project) -> None:
    """Nobody else may be there: the only worker is killed. Where all is off (`JOBS_ENABLED`), nothing is touched."""
    apply(project)
    enqueue_many(project, 1, ("stuck",))
    off = serve(project, JOBS_ENABLED="false")
    served = serve(project)
    eventually(lambda: project.count("begin") == 1, "the handler at work")
    worker_id = served.worker_id
    served.harm(signal.SIGKILL)
    assert served.end() == -signal.SIGKILL
    other = serve(project, "--no-worker", "--no-scheduler")
    (rescued,) = other.await_told(RESCUED)

    assert rescued["dead_worker"] == worker_id
    assert [(job["status"], job["stalls"]) for job in project.jobs()] == [("pending", 1)]
    assert other.stop() == 0
    assert off.told(RESCUED) == []
    (project.folder / "open").touch()
    last = serve(project)
    eventually(lambda: project.jobs()[0]["status"] == "completed", "the job to be run again")
    assert [last.stop(), off.stop()] == [0, 0]
    check_whole(project)
