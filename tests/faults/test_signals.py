"""SIGINT and SIGTERM: the first ends a run in good order, the second at once."""

from __future__ import annotations

import json
import signal
import time

import pytest

from tests.faults.projects import Project, check_history, is_alive
from tests.waiting import eventually


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_gives_attempts_back(project: Project, number: signal.Signals, code: int) -> None:
    """Exit 143 or 130; what ran is pending again with its attempt given back, and the next call completes it."""
    project.apply()
    for kind in ("plain", "coroutine", "process"):
        project.enqueue(kind, steps=1000)
    waiting = [project.enqueue("plain", steps=1000) for _ in range(3)]
    process = project.runner("run-once", "-o", "json")
    eventually(lambda: project.count("begin") == 4, "four handlers at work")
    began = time.monotonic()
    process.send_signal(number)
    ended, out, errors = project.end(process)

    assert ended == code, out + errors
    assert time.monotonic() - began < 4.5, "handlers that listen are not waited for"
    assert json.loads(out)["summary"]["stopped_by"] == number.name
    assert [(job["status"], job["attempt"], job["stalls"]) for job in project.jobs()] == [("pending", 0, 0)] * 6
    assert [(row["outcome"], row["error"]) for row in project.attempts()] == [
        ("released", f"released: {number.name}")
    ] * 4
    assert [job["run_number"] for job in project.jobs() if job["id"] in waiting[1:]] == [0, 0]
    assert not any(is_alive(effect.pid) for effect in project.effects())
    assert project.rows("SELECT * FROM workers") == []


def test_the_next_call_completes_what_was_released(project: Project) -> None:
    """Nothing is lost by a signal: the next call runs it, with all its attempts."""
    project.apply()
    project.enqueue("coroutine", steps=25)
    project.enqueue("plain", steps=25)
    process = project.runner("run-once")
    eventually(lambda: project.count("begin") == 2, "both handlers at work")
    process.send_signal(signal.SIGTERM)
    assert project.end(process)[0] == 143
    code, out, errors = project.call("run-once")

    assert code == 0, out + errors
    assert [job["attempt"] for job in project.jobs()] == [1, 1]
    check_history(project)


def test_a_second_signal_ends_at_once(project: Project) -> None:
    """A handler that does not listen is not waited for after a second signal; its job is made good later."""
    project.apply()
    project.enqueue("stuck")
    project.enqueue("process", steps=1000)
    process = project.runner("run-once")
    eventually(lambda: project.count("begin") == 2, "both handlers at work")
    process.send_signal(signal.SIGTERM)
    eventually(lambda: project.count("told") == 1, "the first signal to be seen")
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    code, _, _ = project.end(process)

    assert code == 130
    assert time.monotonic() - began < 3, "it does not wait for the grace"
    eventually(lambda: not any(is_alive(effect.pid) for effect in project.effects()), "the end of all handlers")
    assert "running" in {job["status"] for job in project.jobs()}, "nothing was settled in a hurry"

    (project.folder / "open").touch()
    file = project.folder / "handlers/traces.py"
    file.write_text(file.read_text().replace('payload.get("steps", 10)', "1"))
    code, out, errors = project.call("run-once")
    assert code == 0, out + errors
    check_history(project)


def test_a_signal_ends_a_wait(project: Project) -> None:
    """A run that only waits for a retry in an hour ends at once."""
    file = project.folder / "schedules.yaml"
    file.write_text(
        file.read_text().replace(
            "plain: {handler: handlers.traces.plain",
            "plain: {retry: {delay: 1h, max_delay: 1h}, handler: handlers.traces.plain",
        )
    )
    project.apply()
    project.enqueue("plain", steps="not a number")
    process = project.runner("run-once")
    eventually(project.attempts, "the first attempt to fail")
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)

    assert project.end(process)[0] == 143
    assert time.monotonic() - began < 4
    assert [(job["status"], job["attempt"]) for job in project.jobs()] == [("pending", 1)]


def test_a_timeout_gives_attempts_back(project: Project) -> None:
    """`--timeout`: exit 124, attempts given back."""
    project.apply()
    for kind in ("plain", "coroutine", "process"):
        project.enqueue(kind, steps=1000)
    code, out, errors = project.call("run-once", "--timeout", "1500ms")

    assert code == 124, out + errors
    assert project.count("begin") >= 1
    assert [(job["status"], job["attempt"]) for job in project.jobs()] == [("pending", 0)] * 3
