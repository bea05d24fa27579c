"""What a reader of one job asks: its place in the queue, what it has shown, and what moved since."""

from __future__ import annotations

import pytest

from runner.domain.said import LogLine, OutputPiece, Progress, Writes
from runner.storage import jobs as jobs_store
from runner.storage.database import Database
from runner.storage.jobs import JobFilter
from runner.storage.watching import WatchStore
from tests.factories import MINUTE, NOW, Stores, make_new_job, make_running


def test_a_place_in_the_queue(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """In claim order: priority, then time, then id; others' queues and later jobs aside; none where it is far."""
    made = [
        make_new_job(run_at=NOW), make_new_job(run_at=NOW), make_new_job(run_at=NOW - MINUTE),
        make_new_job(priority=1, run_at=NOW), make_new_job(queue="other"), make_new_job(run_at=NOW + MINUTE),
    ]  # fmt: skip
    ids = [one.id for one in stores.jobs.enqueue_many(made, NOW)]

    def places() -> list[int | None]:
        return [stores.jobs.position(stores.jobs.get(job_id), NOW) for job_id in ids]

    assert places() == [3, 4, 2, 1, 1, None]
    monkeypatch.setattr(jobs_store, "FARTHEST", 3)
    assert places() == [3, None, 2, 1, 1, None]


def test_what_a_run_says_moves_its_pulse(stores: Stores, database: Database) -> None:
    """Progress, lines and outputs, each by itself; jobs that are gone have none."""
    watch, run = WatchStore(database), make_running(stores)
    before = watch.pulses([run.id, 999])
    said = Writes(run, Progress(50, "half"), (LogLine(NOW, "info", "a"), LogLine(NOW, "info", "b")),
                  (OutputPiece(NOW, "page", "text/plain", b"12", False),
                   OutputPiece(NOW, "page", "text/plain", b"3", True)))  # fmt: skip
    version = watch.version()
    assert stores.logs.write([said]) == set()
    after = watch.pulses([run.id])[run.id]

    assert set(before) == {run.id}
    assert watch.version() != version
    assert (before[run.id].log, before[run.id].output, before[run.id].progress) == (0, 0, 0)
    assert (after.log, after.progress, after.current_step) == (2, 50, "half")
    assert after.output > 0
    assert after.state == before[run.id].state
    assert [line.message for line in stores.logs.newest(run.id, after.log, 1)] == ["b"]
    assert [line.message for line in stores.logs.newest(run.id, 1, 10)] == ["a"]
    assert stores.logs.output_sizes(run.id) == [("page", "text/plain", 3)]
    assert stores.logs.output(run.id, "page") == ("text/plain", b"123")
    assert stores.logs.output(run.id, "other") is None


def test_a_filter_by_projects_shows_nothing_else(stores: Stores) -> None:
    """Not even jobs of no project."""
    for project in ("shop", "blog", None):
        stores.jobs.enqueue(make_new_job(project_id=project), NOW)
    found, _ = stores.jobs.find(JobFilter(projects=("shop", "blog")))
    assert [job.project_id for job in found] == ["blog", "shop"]
    assert stores.jobs.count(JobFilter(projects=())) == 0
    assert stores.jobs.count(JobFilter(projects=("shop",), project_id="blog")) == 0
