"""The pages of schedules: when they fire, what became of their slots, and what can be done to them."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from runner.config.load import load_text
from runner.domain.access import Role
from runner.storage.access import AccessStore
from runner.storage.schedules import ScheduleStore
from runner.web import file
from tests.api.site import Client, Site, made_site
from tests.factories import HOUR, NOW, make_schedule
from tests.web.conftest import BROWSER
from tests.web.test_session import signed_in

EVIL = "</b><script>alert(1)</script>"


def fire(site: Site, at: timedelta) -> None:
    site.bench.clock.time = NOW + at
    site.bench.scheduler().tick(site.bench.clock.now())


def strip_of(page: str) -> list[str]:
    found = re.search(r'<ol class="strip".*?</ol>', page, re.DOTALL)
    return re.findall(r'<li title="([^"]*)"', found[0]) if found else []


def test_a_schedule_says_when_and_how_it_went(site: Site, browser: Client) -> None:
    """In words and as it is written, its zone, the last run with its result, the next time, and each slot's reason."""
    site.bench.define(
        *site.bench.definitions.job_types.values(),
        schedules=[replace(make_schedule("daily", cron=("0 13 * * *",), job="fail"), timezone="Europe/Berlin")],
    )
    fire(site, HOUR)
    fire(site, 25 * HOUR)
    site.finish(1)
    page = browser.get("/schedules").text
    assert "at 13:00 every day" in page
    assert "<code>0 13 * * *</code> Europe/Berlin" in page
    assert re.search(r'href="/jobs/1">Job 1</a> <span class="state state-failed">failed', page)
    assert 'datetime="2026-03-04T12:00:00+00:00"' in page
    assert strip_of(page) == ["2026-03-03 12:00:00: failed"]


def test_the_strip_has_the_last_thirty(site: Site, browser: Client) -> None:
    """The oldest first; what did not run says why, on both pages."""
    site.bench.app.schedules.pause("hourly", NOW, by="me", reason=None)
    fire(site, timedelta(hours=7))
    site.bench.app.schedules.resume("hourly", site.bench.clock.now())
    fire(site, timedelta(hours=7, minutes=10))
    fire(site, timedelta(hours=7, minutes=20))
    page = browser.get("/schedules/hourly").text
    for told in (strip_of(browser.get("/schedules").text), strip_of(page)):
        assert len(told) == 30
        assert told[-2:] == [
            "2026-03-02 19:10:00: waits to run",
            "2026-03-02 19:20:00: skipped, an earlier run was not finished (job 2 is not finished)",
        ]
        assert told[0].endswith("skipped, paused (the schedule is paused)")
    assert page.index("job 2 is not finished</span>") < page.index("the schedule is paused</span>")
    assert 'href="/jobs/2">job 2</a>' in page


def test_the_next_times_are_those_of_the_scheduler(site: Site, browser: Client) -> None:
    """The same as the API's, in the reader's zone, and in its own where that is another."""
    site.bench.define(
        *site.bench.definitions.job_types.values(),
        schedules=[replace(make_schedule("night", cron=("30 2 * * *",), job="echo"), timezone="Europe/Berlin")],
    )
    page = browser.get("/schedules/night").text
    times = [one["utc"] for one in browser.get("/api/schedules/night/next?count=10").json()["next"]]
    assert re.findall(r'<li><time datetime="([^"]+)"', page) == times
    assert "2026-03-03 01:30:00</time>" in page
    assert "Tue 3 Mar 2026 02:30 CET" in page
    assert "Sun 29" not in page


def test_it_is_paused_with_a_reason_and_resumed(site: Site, browser: Client) -> None:
    """Without a script by a page that asks; audited as by the API; it leads back to where one was."""
    assert "Pause hourly?" in browser.get("/schedules/hourly/pause").text
    asked = browser.post("/schedules/hourly/pause", data={"reason": f" moving {EVIL}\x00 ", "next": "/schedules"})
    assert (asked.status_code, asked.headers["location"]) == (303, "/schedules")
    row = site.bench.app.schedules.get("hourly")
    assert (row.pause_reason, row.state) == (f"moving {EVIL}", "paused")
    for address in ("/schedules", "/schedules/hourly"):
        page = browser.get(address).text
        assert "moving &lt;/b&gt;" in page
        assert "<script>" not in page
        assert "Resume hourly" in page
    assert browser.post("/schedules/hourly/resume").headers["location"] == "/schedules/hourly"
    assert site.bench.app.schedules.get("hourly").state == "active"
    again = browser.post("/schedules/hourly/resume")
    assert (again.status_code, "is not paused" in again.text) == (409, True)
    entries = AccessStore(site.bench.app.database).audited()
    assert [(one.action, one.target) for one in entries] == [
        ("resume", "schedule hourly"), ("pause", "schedule hourly"),
    ]  # fmt: skip


def test_run_now_leads_to_the_job(site: Site, browser: Client) -> None:
    """Where its overlap policy refuses, the page says why."""
    answer = browser.post("/schedules/hourly/trigger")
    assert (answer.status_code, answer.headers["location"]) == (303, "/jobs/1")
    assert site.bench.job(1).schedule_name == "hourly"
    refused = browser.post("/schedules/hourly/trigger")
    assert refused.status_code == 409
    assert "job 1 is not finished (overlap: skip)" in refused.text
    (entry,) = AccessStore(site.bench.app.database).audited()
    assert (entry.action, entry.detail) == ("trigger", "job 1")


@pytest.mark.parametrize("act", ["pause", "resume", "trigger"])
def test_only_operators_act(site: Site, act: str) -> None:
    """A viewer sees no button, and none works; another project's schedule is not there."""
    viewer = signed_in(site, Role.VIEWER)
    page = viewer.get("/schedules").text
    assert "shopping" in page
    assert "<form" not in page.replace('<form method="post" action="/sign-in/end">', "")
    assert "pause-dialog" not in page
    assert viewer.post(f"/schedules/shopping/{act}").status_code == 403
    assert signed_in(site, Role.ADMIN, "blog").post(f"/schedules/shopping/{act}").status_code == 404
    assert site.bench.all_jobs() == []
    assert site.bench.app.schedules.get("shopping").state == "active"


def test_a_key_of_a_project_sees_its_schedules_alone(site: Site) -> None:
    """Nor jobs that a schedule started when it was another's."""
    shop = signed_in(site, Role.OPERATOR, "shop")
    page = shop.get("/schedules").text
    assert "shopping" in page
    assert "hourly" not in page
    assert shop.get("/schedules/hourly").status_code == 404
    assert shop.post("/schedules/shopping/trigger").headers["location"] == "/jobs/1"
    site.bench.enqueue("echo", schedule_name="shopping", project_id="blog")
    assert "/jobs/2" not in shop.get("/schedules").text
    assert "/jobs/2" not in shop.get("/schedules/shopping").text
    assert "/jobs/2" in signed_in(site).get("/schedules").text


def test_many_schedules_come_a_page_at_a_time(site: Site, browser: Client) -> None:
    """By name; those that left the file where they are asked for."""
    many = [make_schedule(f"s{n:02}", job="echo") for n in range(30)]
    site.bench.define(*site.bench.definitions.job_types.values(), schedules=many)
    first = browser.get("/schedules").text
    names = re.findall(r'id="schedule-([\w-]+)"', first)
    (following,) = re.findall(r'rel="next" href="([^"]+)"', first)
    rest = re.findall(r'id="schedule-([\w-]+)"', browser.get(following).text)
    assert [*names, *rest] == [one.name for one in many]
    assert 'id="schedule-hourly"' in browser.get("/schedules?retired=1").text
    gone = browser.get("/schedules/hourly").text
    assert "It left the file" in gone
    assert "Run now" not in gone
    assert browser.get("/schedules?after=zz").status_code == 200
    assert browser.get("/schedules/a%00b").status_code == 404
    assert browser.get("/schedules/nothing").status_code == 404


# ---- the file


FILE = """\
version: 1
runner: {{handler_packages: [tests]}}
job_types:
  echo: {{handler: tests.engine.sample_handlers.echo}}
schedules:
  hourly: {{job: echo, every: {every}, payload: {{api_token: {token}}}}}
  shopping: {{job: echo, every: 10m, project_id: shop}}
"""


def test_what_the_file_would_change_is_told(tmp_path: Path) -> None:
    """By the plan, secrets covered; of a schedule what is about it; nothing where the file is in force."""
    loaded = [load_text(FILE.format(every="5m", token="hunter2"), environ={})]
    with made_site(tmp_path, file=lambda: loaded[0]) as site:
        page = site.client(BROWSER).get("/schedules").text
        assert "is not what is in force" in page
        assert "~ schedule hourly" in page
        assert re.search(r"<li>every: <del>10m</del>.*<ins>5m</ins>", page)
        assert "hunter2" not in page
        assert "next after:" in page
        assert "- job type fail" in page
        assert re.search(r"<li>handler: <del>[\w.]+fail</del></li>", page)
        assert "hourly" in site.client(BROWSER).get("/schedules/hourly").text
        one = site.client(BROWSER).get("/schedules/shopping").text
        assert "every: <del>" not in one
        assert "is not what is in force" not in one
        bound = signed_in(site, Role.ADMIN, "shop").get("/schedules").text
        assert "is not what is in force" not in bound


@pytest.mark.parametrize("secret", ["hunter2", "4711", "[hunter2, 4711]", "{inner: hunter2}"])
def test_a_secret_is_covered_whatever_it_is(tmp_path: Path, secret: str) -> None:
    """Text, numbers, lists, mappings; by a name with a dash too."""
    text = FILE.format(every="5m", token=secret).replace("api_token", "api-key")
    loaded = load_text(text, environ={})
    with made_site(tmp_path, file=lambda: loaded) as site:
        page = site.client(BROWSER).get("/schedules").text
    assert "api-key" in page
    assert "hunter2" not in page
    assert "4711" not in page


def test_pages_hold_all_schedules_in_whatever_order_a_database_has_them(
    site: Site, browser: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL may order names by a language, in which capitals are among the others."""
    names = [f"{letter}{n}" for n in range(20) for letter in "aB"]
    made = [make_schedule(name, job="echo") for name in names]
    site.bench.define(*site.bench.definitions.job_types.values(), schedules=made)
    rows = ScheduleStore.all
    monkeypatch.setattr(
        ScheduleStore, "all", lambda store, **given: sorted(rows(store, **given), key=lambda row: row.name.casefold())
    )
    first = browser.get("/schedules").text
    (following,) = re.findall(r"after=(\w+)", first)
    second = browser.get(f"/schedules?after={following}").text
    assert set(re.findall(r'id="schedule-(\w+)"', first + second)) == set(names)


def test_a_plan_is_made_once_for_who_asks_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the file, what is in force, or the time is another."""
    loaded = [load_text(FILE.format(every="5m", token="a"), environ={})]
    with made_site(tmp_path, file=lambda: loaded[0]) as site:
        made, make_plan = [0], file.make_plan
        monkeypatch.setattr(file, "make_plan", lambda *given, **named: made.append(0) or make_plan(*given, **named))
        browser = site.client(BROWSER)

        def asked() -> int:
            assert "is not what is in force" in browser.get("/schedules").text
            assert browser.get("/workers").status_code == 200
            return len(made) - 1

        assert asked() == 1
        loaded[0] = load_text(FILE.format(every="6m", token="a"), environ={})
        assert asked() == 2
        site.bench.define(*site.bench.definitions.job_types.values())
        assert asked() == 3
        site.bench.clock.time += timedelta(seconds=15)
        assert asked() == 4


def test_what_is_wrong_in_the_file_is_told_by_line(tmp_path: Path) -> None:
    """Each with its place and its remedy; what is in force stays."""
    loaded = load_text(FILE.format(every="5x", token="a").replace("project_id", "projct_id"), environ={})
    with made_site(tmp_path, file=lambda: loaded) as site:
        for address in ("/schedules", "/schedules/hourly"):
            page = site.client(BROWSER).get(address).text
            assert "is invalid" in page
            assert "schedules.yaml:6:" in page
            assert "schedules.yaml:7:" in page
            assert "did you mean" in page
            assert "is not what is in force" not in page
