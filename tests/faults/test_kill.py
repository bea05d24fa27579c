"""kill -9 of a `run-once` in the middle of jobs, then `run-once` again: no job is lost, none settled twice."""

from __future__ import annotations

import os
import random
import signal

import pytest

from tests.faults.projects import Project, check_history, is_alive
from tests.waiting import eventually

KINDS = ("plain", "coroutine", "process")


def kill_in_the_middle(project: Project, rng: random.Random) -> set[int]:
    """Start a `run-once`, kill it while handlers run, and return the processes in which they ran."""
    before = len(project.effects())
    wanted = rng.randint(1, 6)
    process = project.runner("run-once")

    def is_in_the_middle() -> bool:
        assert process.poll() is None, f"it ended before it was killed: {process.communicate()}"
        return len(project.effects()) - before >= wanted and project.count("begin") > project.count("end")

    eventually(is_in_the_middle, f"{wanted} effects of a run-once")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    return {effect.pid for effect in project.effects()[before:]} | {process.pid}


def await_end_of(processes: set[int]) -> None:
    eventually(lambda: not any(map(is_alive, processes)), "the end of the handlers of a killed run-once")


@pytest.mark.parametrize("seed", [int(os.environ.get("RUNNER_SEED", random.SystemRandom().randrange(10**6)))])
def test_every_job_ends_and_none_twice(project: Project, seed: int) -> None:
    """Several kills in a row, with handlers in threads, coroutines and processes; then every job is completed, once."""
    print(f"RUNNER_SEED={seed}")
    rng = random.Random(seed)
    project.apply()
    for number in range(18):
        project.enqueue(KINDS[number % 3], steps=rng.randint(5, 15))

    processes: set[int] = set()
    for kill in range(4):
        processes |= kill_in_the_middle(project, rng)
        running = [job["id"] for job in project.jobs() if job["status"] == "running"]
        assert running, f"kill {kill + 1} hit no running job"
        await_end_of(processes)
    code, out, errors = project.call("run-once")

    assert code == 0, out + errors
    assert "rescued" in out
    assert sum(job["stalls"] for job in project.jobs()) >= 4, "each kill cost at least one run"
    assert {row["outcome"] for row in project.attempts()} == {"stalled"}
    assert {row["error"] for row in project.attempts()} == {"Job processor stopped responding"}
    check_history(project)
    assert project.count("end") >= 18


@pytest.mark.parametrize("kind", ["plain", "process"])
def test_a_killed_run_is_made_good_at_once(project: Project, kind: str) -> None:
    """The next run-once rescues at once, without waiting for a beat to be missed, and runs the job again."""
    project.apply()
    job_id = project.enqueue(kind, steps=500)
    process = project.runner("run-once")
    eventually(lambda: project.count("begin") == 1, "the start of the handler")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (job,) = project.jobs()
    assert (job["status"], job["attempt"]) == ("running", 1)
    handler = project.effects()[0].pid
    eventually(lambda: not is_alive(handler), "the end of the handler")

    again = project.runner("run-once")
    eventually(lambda: project.count("begin") == 2, "the second start of the handler")

    assert [(effect.job_id, effect.attempt) for effect in project.effects()] == [(job_id, 1), (job_id, 2)]
    assert [(row["outcome"], row["attempt"]) for row in project.attempts()] == [("stalled", 1)]
    again.send_signal(signal.SIGTERM)
    assert project.end(again)[0] == 143


def test_a_job_that_kills_its_worker_is_failed(project: Project) -> None:
    """`max_stalls`: a poison pill takes two workers with it, then it is failed, and others go on."""
    file = project.folder / "schedules.yaml"
    file.write_text(file.read_text().replace("traces.stuck, max_stalls: 50", "traces.stuck, max_stalls: 2"))
    project.apply()
    project.enqueue("stuck")
    for kill in range(1, 3):
        process = project.runner("run-once")
        eventually(lambda kill=kill: project.count("begin") == kill, "the start of the handler")  # type: ignore[misc]
        process.send_signal(signal.SIGKILL)
        process.communicate()
    project.enqueue("quick")
    code, out, errors = project.call("run-once")

    assert code == 1, out + errors
    assert [(job["status"], job["stalls"]) for job in project.jobs()] == [("failed", 2), ("completed", 0)]
