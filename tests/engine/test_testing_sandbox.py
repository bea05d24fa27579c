"""`drain` and `Sandbox`: a whole file in a test, on a database of its own, with a clock that jumps over waits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runner import JobContext
from runner.domain.errors import Conflict, PayloadInvalid, UnknownJobType
from runner.domain.retry import RetryPolicy
from runner.domain.schedule import Definitions, JobType, RunnerOptions, Schedule
from runner.testing import FrozenClock, Sandbox, SandboxError, drain
from tests.factories import HOUR, MINUTE, make_definitions

HERE = "tests.engine.test_testing_sandbox"
FILE = f"""
version: 1
runner: {{handler_packages: [tests]}}
job_types:
  says:
    handler: {HERE}.says
    payload_schema: {{properties: {{word: {{type: string, default: silence}}}}}}
schedules:
  hourly: {{job: says, cron: "0 * * * *", payload: {{word: "${{WORD}}"}}}}
"""


def says(ctx: JobContext, payload: dict[str, Any]) -> str:
    print("printed")
    ctx.log(f"saying {payload['word']}")
    ctx.output("word", "text/plain", payload["word"])
    return str(payload["word"])


def fails_twice(ctx: JobContext, payload: dict[str, Any]) -> int:
    if ctx.attempt < 3:
        raise LookupError("not there")
    return ctx.attempt


def has_children(ctx: JobContext, payload: dict[str, Any]) -> None:
    ctx.enqueue("fails_twice")
    ctx.enqueue("quick", delay=timedelta(hours=3))


def quick(ctx: JobContext, payload: dict[str, Any]) -> None: ...


def sleeps(ctx: JobContext, payload: dict[str, Any]) -> None:
    while True:
        time.sleep(0.01)  # works until it is stopped
        ctx.check()


def definitions(*names: str, schedules: tuple[Schedule, ...] = (), **values: Any) -> Definitions:
    types = {name: JobType(name, f"{HERE}.{name}", **values) for name in names}
    return make_definitions(*schedules, job_types=types, runner=RunnerOptions(handler_packages=("tests",)))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "schedules.yaml"
    path.write_text(FILE, encoding="utf-8")
    return path


@pytest.fixture
def hourly() -> Iterator[Sandbox]:
    schedule = Schedule("hourly", job="quick", every=HOUR)
    with Sandbox(definitions("quick", schedules=(schedule,))) as box:
        yield box


def test_jobs_of_a_file_run_as_a_worker_would_run_them(file: Path) -> None:
    """Defaults filled in, results, lines, outputs; and schedules run by hand, with the environment given."""
    first, second = drain(file, ("says", {"word": "aloud"}), trigger=["hourly"], environ={"WORD": "hello"})
    assert (first.status, first.result, first.lines) == ("completed", "aloud", ["printed", "saying aloud"])
    assert (second.schedule_name, second.result, second.outputs) == ("hourly", "hello", {"word": b"hello"})
    assert first.completed_at == FrozenClock().now()


def test_waits_of_retries_are_jumped_over() -> None:
    """Two failures, an hour and two of backoff: done in a moment, and the clock shows the three hours."""
    clock = FrozenClock()
    retry = RetryPolicy(max_attempts=3, delay=(HOUR,), backoff="exponential", max_delay=24 * HOUR)
    began = time.monotonic()
    (job,) = drain(definitions("fails_twice", retry=retry), "fails_twice", clock=clock)
    assert (job.status, job.result, job.attempt, job.runs) == ("completed", 3, 3, 3)
    assert clock.now() - FrozenClock().now() == timedelta(hours=3)
    assert time.monotonic() - began < 30


def test_child_jobs_run_too_however_late() -> None:
    """A child that was enqueued with a delay is waited for like any other pending job."""
    jobs = drain(definitions("has_children", "fails_twice", "quick"), "has_children")
    assert [(job.type, job.status, job.parent_id) for job in jobs] == [
        ("has_children", "completed", None), ("fails_twice", "completed", 1), ("quick", "completed", 1),
    ]  # fmt: skip
    assert jobs[2].completed_at is not None
    assert jobs[2].completed_at - FrozenClock().now() >= timedelta(hours=3)


def test_a_wait_may_be_limited() -> None:
    """With `wait`, what lies further ahead stays pending until the clock is moved there."""
    with Sandbox(definitions("quick")) as box:
        box.enqueue("quick", run_at=box.clock.now() + HOUR)
        assert box.drain(wait=MINUTE) == []
        assert [job.status for job in box.jobs()] == ["pending"]
        box.clock.move(HOUR)
        assert [job.status for job in box.drain(wait=MINUTE)] == ["completed"]


def test_a_schedule_fires_when_the_clock_is_moved_to_its_slot(hourly: Sandbox) -> None:
    """Nothing before; once at the slot; the slots of a day that was jumped over as `catch_up` says."""
    assert hourly.drain() == []
    hourly.clock.move(HOUR)
    (job,) = hourly.drain()
    assert job.scheduled_for == datetime(2026, 1, 1, 13, tzinfo=UTC)
    assert hourly.drain() == []
    hourly.clock.move(timedelta(days=1))
    assert [job.scheduled_for for job in hourly.drain()] == [datetime(2026, 1, 2, 13, tzinfo=UTC)]


def test_slots_that_come_while_a_drain_jumps_are_left_to_the_next(hourly: Sandbox) -> None:
    """Else a retry a day ahead would fire every schedule of that day."""
    hourly.enqueue("quick", run_at=hourly.clock.now() + timedelta(hours=5, minutes=30))
    assert [job.schedule_name for job in hourly.drain()] == [None]
    assert [job.schedule_name for job in hourly.drain()] == ["hourly"]


def test_a_file_with_problems_is_told_as_validate_tells_it(tmp_path: Path) -> None:
    """All problems, each with its line and remedy, in the failing test."""
    path = tmp_path / "schedules.yaml"
    path.write_text(FILE.replace("cron:", "corn:"), encoding="utf-8")
    with pytest.raises(SandboxError) as error:
        Sandbox(path)
    assert "error[unknown-field]" in str(error.value)
    assert 'did you mean "cron"' in str(error.value)


def test_what_the_file_does_not_allow_is_refused_as_in_the_shell(file: Path) -> None:
    """An unknown type, a payload that does not fit, a trigger that overlap refuses."""
    with Sandbox(file, environ={"WORD": "x"}) as box:
        with pytest.raises(UnknownJobType):
            box.enqueue("syas")
        with pytest.raises(PayloadInvalid):
            box.enqueue("says", {"word": 3})
        box.trigger("hourly")
        with pytest.raises(Conflict):
            box.trigger("hourly")


def test_a_schedule_that_cannot_be_fired_fails_the_drain(file: Path) -> None:
    """A silent refusal would look like nothing was due."""
    environ = {"WORD": "x"}
    with Sandbox(file, environ=environ) as box:
        box.clock.move(HOUR)
        environ.clear()
        with pytest.raises(SandboxError, match=r"hourly could not be fired.*WORD"):
            box.drain()


def test_a_handler_that_does_not_end_fails_the_drain() -> None:
    """The error names the job, and the test goes on."""
    with Sandbox(definitions("sleeps")) as box:
        box.enqueue("sleeps")
        with pytest.raises(SandboxError, match=r"did not end within 0\.3 s: job 1 \(sleeps\)"):
            box.drain(timeout=0.3)


def test_a_sandbox_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its database is in a temporary folder, which goes with it; the working directory stays as it was."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    assert drain(definitions("quick"), "quick")[0].status == "completed"
    assert list((tmp_path / "temporary").iterdir()) == []
    assert list((tmp_path / "work").iterdir()) == []
