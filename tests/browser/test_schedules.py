"""Schedules and operation as a reader has them: paused and resumed on the page, and what happens is seen."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from runner.domain.schedule import Schedule
from tests.browser.test_live import served, shows
from tests.engine.bench import Bench, kind
from tests.engine.sample_handlers import gate
from tests.factories import NOW, make_schedule, make_worker
from tests.waiting import eventually

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ADDRESSES = ["/", "/schedules", "/schedules?retired=1", "/schedules/news", "/schedules/news/pause", "/workers",
             "/schedules/none"]  # fmt: skip


@pytest.fixture(autouse=True)
def schedules(bench: Bench) -> None:
    """Two, of which one is long and has a zone of its own."""
    both: list[Schedule] = [
        make_schedule("news", job="hold", description="Every ten minutes."),
        make_schedule("yearly-" + "x" * 60, job="hold", cron=("0 3 1 1,7 *", "30 2 * * sun"), timezone="Europe/Berlin"),
    ]
    bench.define(*bench.definitions.job_types.values(), kind("hold"), schedules=both, limits={"api": 2})


def slots(page: Page) -> int:
    return page.locator(".strip").first.locator("li").count()


@pytest.mark.parametrize("has_script", [True, False])
def test_a_schedule_is_paused_with_a_reason_and_resumed(bench: Bench, chromium: Browser, has_script: bool) -> None:
    """In a dialog that the keyboard closes; without a script on a page of its own."""
    context = chromium.new_context(java_script_enabled=has_script)
    page = context.new_page()
    with bench.worker() as worker, served(bench, worker) as (url, _):
        page.goto(f"{url}/schedules")
        if has_script:
            page.get_by_role("link", name="Pause news").click()
            assert page.get_by_role("heading", name="Pause news?").is_visible()
            page.get_by_label("Reason").fill("of another")
            page.keyboard.press("Escape")
            assert not page.locator("#pause-dialog").is_visible()
        page.get_by_role("link", name="Pause news").click()
        assert page.get_by_label("Reason").input_value() == ""
        page.get_by_label("Reason").fill("the feed is <b>broken")
        page.get_by_role("button", name="Pause it").click()
        page.get_by_role("button", name="Resume news").wait_for()
        assert page.get_by_text("the feed is <b>broken").is_visible()
        row = bench.app.schedules.get("news")
        assert (row.state, row.pause_reason) == ("paused", "the feed is <b>broken")
        assert page.url.endswith("/schedules" if has_script else "/schedules/news")

        page.get_by_role("button", name="Resume news").click()
        page.get_by_role("link", name="Pause news").wait_for()
        assert bench.app.schedules.get("news").state == "active"
    context.close()


def test_run_now_leads_to_the_job_and_the_page_follows(bench: Bench, page: Page) -> None:
    """What a slot becomes is seen without a reload, and the buttons keep the focus."""
    with bench.worker() as worker, served(bench, worker) as (url, _):
        page.goto(f"{url}/schedules/news")
        page.get_by_role("button", name="Run news now").click()
        page.wait_for_url("**/jobs/1")
        bench.until(worker, lambda: shows(page, "#badge", "running"))
        page.goto(f"{url}/schedules/news")
        assert slots(page) == 0
        page.get_by_role("button", name="Run news now").focus()
        page.clock.install()
        bench.clock.time = NOW + timedelta(minutes=10)
        bench.scheduler().tick(bench.clock.now())

        def seen() -> bool:
            page.clock.run_for(5000)
            return slots(page) == 1

        bench.until(worker, seen)
        assert page.get_by_text("job 1 is not finished").first.is_visible()
        assert page.evaluate("document.activeElement.id") == "run-news"
        gate().opened.set()
        bench.until(worker, lambda: bench.job(1).completed_at is not None)


def test_pages_of_operation_fit_a_phone_in_both_themes(bench: Bench, chromium: Browser) -> None:
    """Nothing is wider than the screen; axe finds nothing, with all kinds of slots, a full hour and a refused file."""
    from axe_playwright_python.sync_playwright import Axe

    gate().opened.set()
    bench.app.schedules.pause("news", NOW, by="somebody", reason="because " * 30)
    for minutes in (10, 20):
        bench.clock.time = NOW + timedelta(minutes=minutes)
        bench.scheduler().tick(bench.clock.now())
        bench.app.schedules.resume("news", bench.clock.now()) if minutes == 10 else None
    problem = "schedules.yaml:3:5: unknown field " + "x" * 200
    bench.app.workers.register(make_worker(config_problem=problem, config_problem_at=NOW, lock_file=None))
    schemes: tuple[Any, ...] = ("light", "dark")
    with bench.worker() as worker, served(bench, worker) as (url, _):
        bench.run(worker, 1)
        for scheme in schemes:
            for width in (360, 1280):
                look = chromium.new_context(
                    viewport={"width": width, "height": 700}, color_scheme=scheme, bypass_csp=True
                )  # fmt: skip
                tab = look.new_page()
                for address in ADDRESSES:
                    tab.goto(url + address)
                    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), (address, width)
                    found = Axe().run(tab).response["violations"]
                    assert [(one["id"], one["nodes"][0]["html"]) for one in found] == [], (address, scheme)
                    assert tab.locator("h1").count() == 1, address
                tab.goto(url)
                assert tab.locator("svg.chart").count() == 2
                assert tab.locator("rect.bar-ended").first.bounding_box()["height"] > 10  # type: ignore[index]
                look.close()


def test_workers_are_seen_to_come_and_to_work(bench: Bench, page: Page) -> None:
    """The page renews itself."""
    page.clock.install()
    with bench.worker() as worker, served(bench, worker) as (url, _):
        page.goto(f"{url}/workers")
        assert worker.worker_id[:8] in page.locator('[data-region="workers"]').inner_text()
        job = bench.enqueue("hold")

        def runs() -> bool:
            page.clock.run_for(3000)
            return page.locator(f'[data-region="workers"] a[href="/jobs/{job}"]').count() == 1

        bench.until(worker, runs)
        assert re.search(r"\b1 of 2\b", page.locator('[data-region="workers"]').inner_text())
        gate().opened.set()
        eventually(lambda: worker.tick(bench.clock.now()) is not None and bench.job(job).completed_at is not None)
