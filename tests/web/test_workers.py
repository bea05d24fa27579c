"""The page of operation: who runs jobs, how much waits, what is in force."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from runner.config.load import load_text
from runner.domain.access import Role
from runner.domain.overview import Life, WorkerView
from runner.storage.revisions import Edit
from runner.web.workers import file_of, queues
from tests.api.site import Client, Site, made_site
from tests.engine.bench import kind
from tests.engine.sample_handlers import gate
from tests.factories import NOW, SECOND, make_schedule, make_worker
from tests.web.conftest import BROWSER
from tests.web.test_jobs import section
from tests.web.test_session import signed_in

FILE = """\
version: 1
runner: {handler_packages: [tests]}
job_types:
  echo: {handler: tests.engine.sample_handlers.echo}
schedules:
  hourly: {job: echo, every: 10m}
"""


def test_who_lives_and_what_each_runs(site: Site, browser: Client) -> None:
    """The age of the beat, the version, the queues, and a link to each job."""
    job = site.bench.enqueue("hold")
    with site.bench.worker() as worker:
        site.bench.until(worker, lambda: site.bench.job(job).status == "running")
        site.bench.app.workers.register(make_worker("silent00", last_heartbeat=NOW - timedelta(minutes=5)))
        site.bench.clock.time = NOW + 7 * SECOND
        told = section(browser.get("/workers").text, "workers")
        gate().opened.set()
        site.bench.run(worker, job)
    rows = dict(zip(re.findall(r"<b>(\w{8})</b>", told), told.split("<tr>")[2:], strict=True))
    mine, silent = rows[worker.worker_id[:8]], rows["silent00"]
    assert "state-alive" in mine
    assert "7 s ago" in mine
    assert "1 of 2" in mine
    assert f'<a href="/jobs/{job}">{job}</a> hold' in mine
    assert "state-stale" in silent
    assert "5 min 7 s ago" in silent
    assert "pid 4711 on here, runner 0" in silent


def test_how_much_waits_and_how_full_limits_are(site: Site, browser: Client) -> None:
    """Each queue with its oldest job and whether anybody takes it; what was skipped."""
    site.bench.define(
        *site.bench.definitions.job_types.values(), limits={"api": 4}, schedules=[make_schedule("hourly", job="echo")]
    )
    site.bench.enqueue("urgent")
    site.bench.enqueue("echo", run_at=NOW + timedelta(hours=1))
    site.bench.app.schedules.pause("hourly", NOW, by="me", reason=None)
    site.bench.clock.time = NOW + timedelta(minutes=20)
    site.bench.scheduler().tick(site.bench.clock.now())
    page = browser.get("/workers").text
    fast, default = (re.sub(r"<[^>]+>", " ", one).split() for one in section(page, "queues").split("<tr>")[3:1:-1])
    assert fast[:6] == ["fast", "1", "0", "0", "20", "min"]
    assert "no live worker takes it" in " ".join(fast)
    assert default[:5] == ["default", "0", "1", "0", "–"]
    assert "0 of 4" in section(page, "limits")
    assert re.search(r"skipped paused.*?>2<.*?the schedule is paused", section(page, "skipped"), re.DOTALL)
    assert "SQLite" in section(page, "database")
    assert re.search(r"<dt>Schema</dt><dd>\d{4}</dd>", page)


def test_what_is_in_force_and_why_an_edit_is_not(tmp_path: Path) -> None:
    """The revision, the file word for word or not, its problems by line, and what processes say of theirs."""
    loaded = [load_text(FILE, environ={})]
    with made_site(tmp_path, file=lambda: loaded[0]) as site:
        browser = site.client(BROWSER)
        assert "- job type fail" in browser.get("/workers").text
        edit = Edit(loaded[0].require(), FILE, loaded[0].sha256, 1, "ann@here")
        site.bench.app.revisions.apply(edit, NOW)
        page = browser.get("/workers").text
        assert "by ann@here" in page
        assert "schedules.yaml is as in force." in page
        loaded[0] = load_text(f"# a comment alone\n{FILE}", environ={})
        assert "schedules.yaml is as in force." in browser.get("/workers").text
        loaded[0] = load_text(FILE.replace("10m", "often"), environ={})
        refused = make_worker(config_problem="schedules.yaml:6:24: <b>often</b>", config_problem_at=NOW)
        site.bench.app.workers.register(refused)
        page = browser.get("/workers").text
        assert "Refused by 1 of 1 processes" in page
        assert "schedules.yaml:6:24: &lt;b&gt;often" in page
        assert "schedules.yaml as it is now is invalid" in page
        assert "is as in force." not in page


def test_it_belongs_to_no_project(site: Site) -> None:
    """A key that is bound to some may not see it, and has no link to it."""
    bound = signed_in(site, Role.ADMIN, "shop")
    assert bound.get("/workers").status_code == 403
    assert "/workers" not in bound.get("/jobs").text
    viewer = signed_in(site, Role.VIEWER)
    assert viewer.get("/workers").status_code == 200
    assert 'href="/workers"' in viewer.get("/jobs").text


def test_where_nothing_runs_yet(site: Site, browser: Client) -> None:
    """A page, not an error."""
    site.bench.define(kind("echo"))
    assert "No unfinished jobs." in browser.get("/workers").text
    assert "None is known" in browser.get("/workers").text


@pytest.mark.parametrize(
    ("values", "takes", "follows"),
    [
        ({}, "all", "follows no file"),
        ({"queues": {"only": ["a", "b"]}, "config_sha256": "x"}, "a, b", "no revision yet"),
        ({"queues": {"except": ["a"]}}, "all but a", "follows no file"),
        ({"concurrency": 0}, "runs no jobs", "follows no file"),
    ],
)
def test_a_worker_in_words(values: dict[str, Any], takes: str, follows: str) -> None:
    view = WorkerView(make_worker(**values), Life.ALIVE, 0, None)
    assert (queues(view), file_of(view)) == (takes, follows)


def test_the_file_of_a_worker_in_words() -> None:
    """As in force, an older revision, or another one altogether."""
    current = WorkerView(make_worker(config_problem="no"), Life.ALIVE, 0, True)
    older = WorkerView(make_worker(config_revision=3), Life.ALIVE, 0, False)
    other = WorkerView(make_worker(config_sha256="0123456789"), Life.ALIVE, 0, False)
    assert list(map(file_of, (current, older, other))) == [
        "as in force, newer edit refused", "revision 3", "another file (01234567)",
    ]  # fmt: skip
