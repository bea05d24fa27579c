"""The dashboard: how things are, for whoever may know."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import pytest
from sqlalchemy import event

from runner.domain.access import Role
from runner.domain.pace import MOST, SLICE, Pace, Slice
from runner.web.charts import hour
from tests.api.site import Client, Site
from tests.factories import NOW
from tests.web.test_session import signed_in


def counted(page: str) -> dict[str, str]:
    return {state: number for number, state in re.findall(r"<b class=\"number[^>]*>([\d,]+)</b> (\w+)", page)}


PLACES = [
    ("/", None), ("/jobs", "Jobs"), ("/jobs/1", "Jobs"), ("/jobs/1/output", "Jobs"), ("/jobs/1/cancel", "Jobs"),
    ("/jobs/new", "New job"), ("/jobs/new?type=echo", "New job"), ("/failures", "Failures"),
    ("/schedules", "Schedules"), ("/schedules/hourly", "Schedules"), ("/schedules/hourly/pause", "Schedules"),
    ("/workers", "Workers"), ("/jobs/99", "Jobs"),
]  # fmt: skip


@pytest.mark.parametrize(("address", "label"), PLACES)
def test_the_navigation_says_where_one_is(site: Site, browser: Client, address: str, label: str | None) -> None:
    """The page itself, or the part that it belongs to."""
    site.bench.enqueue("echo")
    page = browser.get(address).text
    marked = re.findall(r'aria-current="(page|true)">([\w ]+)</a>', page)
    is_first = address.partition("?")[0] in ("/jobs", "/jobs/new", "/failures", "/schedules", "/workers")
    assert marked == ([("page" if is_first else "true", label)] if label else [])


@pytest.mark.parametrize(
    "address", ["/", "/jobs", "/jobs?part=live", "/jobs/1", "/jobs/1/output", "/schedules", "/schedules/hourly",
                "/workers", "/failures", "/jobs/act?action=cancel&id=1",
                "/jobs/act?action=cancel&all=yes&state=pending"]
)  # fmt: skip
def test_a_page_is_of_one_snapshot(site: Site, browser: Client, address: str) -> None:
    """What belongs together is read together."""
    site.bench.enqueue("echo")
    browser.get(address)
    begun: list[object] = []
    event.listen(site.bench.app.database._reader, "begin", begun.append)
    assert browser.get(address).status_code == 200
    assert len(begun) == 1


def test_every_number_is_a_link(site: Site, browser: Client) -> None:
    """Counts, what waits, what failed and why, what fires next."""
    site.bench.enqueue("fail")
    site.finish(1)
    site.bench.enqueue("echo")
    page = browser.get("/").text
    assert counted(page) == {"running": "0", "pending": "1", "completed": "0", "failed": "1", "cancelled": "0"}
    assert 'href="/jobs?state=failed"' in page
    assert 'id="failure-1" href="/jobs/1"' in page
    assert 'data-ids="2"' in page
    assert '<a href="/schedules/hourly"><b>hourly</b></a>' in page
    assert '<a href="/workers">0 alive of 0</a>' in page


def test_a_key_of_a_project_is_told_of_its_jobs_alone(site: Site) -> None:
    """No schedules, no file, no jobs of others."""
    site.bench.enqueue("fail", {"value": "of the shop"}, project_id="shop")
    site.finish(1)
    page = signed_in(site, Role.VIEWER, "blog").get("/").text
    assert set(counted(page).values()) == {"0"}
    assert "hourly" not in page
    assert "In force" not in page
    assert "failure-1" not in page


def end_one(site: Site, at: datetime, waited: float) -> None:
    """A job that was due, waited so long, and ended then."""
    due = at - timedelta(seconds=waited)
    site.bench.clock.time = at
    made = site.bench.enqueue("echo", run_at=due)
    site.finish(made)


def test_the_last_hour_is_drawn_and_told(site: Site, browser: Client) -> None:
    """What ended and how long it waited: bars, the same in words, and a table; without any style in the page."""
    site.bench.clock.time = NOW - timedelta(hours=3)
    assert "Nothing has ended." in browser.get("/").text
    for minutes, waited in ((0, 8.0), (1, 2.0), (30, 0.01), (61, 1.0)):
        end_one(site, NOW - timedelta(minutes=minutes), waited)
    site.bench.clock.time = NOW
    page = browser.get("/", headers={"Cookie": "runner_zone=Europe%2FBerlin"}).text
    assert re.search(r"<figcaption><b>3</b> ended <span class=\"note\">at most 1 in two minutes", page)
    assert "Half waited <b>2.0 s</b> at most" in page
    assert "nine of ten <b>8 s</b>" in page
    rects = re.findall(r'<rect class="bar-(\w+)" x="(\d+)" y="([\d.]+)" width="8" height="([\d.]+)"/>', page)
    assert [one for one in rects if one[0] == "ended"] == [
        ("ended", "141", "0.0", "100.0"), ("ended", "281", "0.0", "100.0"), ("ended", "291", "0.0", "100.0"),
    ]  # fmt: skip
    assert [one[1:] for one in rects if one[0] == "slow"] == [
        ("141", "98.0", "2.0"), ("281", "75.0", "25.0"), ("291", "0.0", "100.0"),
    ]  # fmt: skip
    table = re.findall(
        r'<th scope="row">([\d:–]+)</th><td data-label="Ended">1</td><td data-label="Half">([^<]+)<', page
    )
    assert table == [("13:00–13:02", "8 s"), ("12:58–13:00", "2.0 s"), ("12:30–12:32", "10 ms")]
    titles = re.findall(r'aria-labelledby="(\w+)-title (\w+)-text"', page)
    assert titles == [("ended", "ended"), ("waits", "waits")]
    assert not re.search(r"\sstyle=|<style", page)


def test_the_last_hour_is_told_to_nobody_who_is_bound(site: Site) -> None:
    """It is of all projects."""
    end_one(site, NOW, 1.0)
    assert "The last hour" not in signed_in(site, Role.VIEWER, "shop").get("/").text
    assert "The last hour" in signed_in(site, Role.VIEWER).get("/").text


def test_more_than_is_counted_is_said_to_be_more() -> None:
    """A number that is no number of all."""
    seen = hour(Pace([Slice(NOW, MOST), Slice(NOW + SLICE, 5)]), "UTC")
    assert seen is not None
    assert (seen.total, seen.most, seen.asked) == ("10,005 or more", "10,000 or more", 0)
    assert [one.ended for one in seen.entries] == ["10,000 or more", "5"]
    assert seen.slow_waits == []
