"""The live pages as a reader has them: what happens is seen, and nothing is lost on the way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sqlalchemy import insert

from runner.domain.access import Role, new_key
from runner.domain.job import JobState
from runner.http.binding import bind
from runner.http.doors import Engine
from runner.serving import serving
from runner.storage.access import AccessStore
from runner.storage.logs import LOGS, OUTPUTS
from tests.engine.bench import Bench
from tests.engine.sample_handlers import gate
from tests.factories import NOW

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

    from runner.engine.worker import Worker


@contextmanager
def served(bench: Bench, worker: Worker, port: int = 0) -> Iterator[tuple[str, int]]:
    bench.app.now = bench.clock.now  # type: ignore[method-assign]
    scheduler = bench.app.scheduler()
    bound = bind("127.0.0.1", port)
    with serving(bench.app, bound, Engine(scheduler.trigger, scheduler.backfill), worker.recorder):
        yield bound.url, bound.port


def said(page: Page) -> list[str]:
    return page.locator("#log .said").all_text_contents()


def shows(page: Page, selector: str, text: str) -> bool:
    return text in (page.locator(selector).first.text_content() or "")


def test_a_job_is_submitted_and_watched_to_its_output(bench: Bench, page: Page) -> None:
    """The form leads to its page, which follows it, and goes to the output by itself."""
    with bench.worker() as worker, served(bench, worker) as (url, _):
        page.goto(f"{url}/jobs/new?type=tells")
        page.get_by_label("Title").fill("Digest <b>")
        page.get_by_label("From").fill("2026-01-01")
        page.get_by_role("button", name="Submit").click()
        page.wait_for_url("**/jobs/1")
        bench.until(worker, lambda: shows(page, "#message", "first") and shows(page, "#connection-text", "live"))
        bench.until(worker, lambda: said(page) == ["one <b>&\n"])
        assert page.locator("#percent").text_content() == "10 %"
        assert page.locator("[aria-current=step]").get_attribute("data-step") == "reading"
        bench.until(worker, lambda: "# Title" in page.locator('[data-region="outputs"]').inner_text())

        gate().opened.set()

        bench.until(worker, lambda: shows(page, "#done", "two seconds") or page.url.endswith("/output"))
        page.wait_for_url("**/jobs/1/output")
    assert bench.job(1).payload == {"title": "Digest <b>", "count": 7, "range": {"from": "2026-01-01"}}


def test_who_says_stay_stays(bench: Bench, page: Page) -> None:
    """The output is offered, no more."""
    job = bench.enqueue("tells", {"title": "a"})
    with bench.worker() as worker, served(bench, worker) as (url, _):
        page.goto(f"{url}/jobs/{job}")
        bench.until(worker, lambda: said(page) == ["one <b>&\n"])
        page.clock.install(time=NOW)
        page.clock.pause_at(NOW + timedelta(seconds=10))  # else two seconds may pass before the click
        gate().opened.set()

        def is_offered() -> bool:
            page.clock.run_for(50)
            return page.locator("#stay").count() == 1

        bench.until(worker, is_offered)
        page.clock.run_for(1000)
        page.locator("#stay").click()
        page.clock.run_for(60_000)
        assert page.url.endswith(f"/jobs/{job}")
        assert page.get_by_role("link", name="Open the output").is_visible()


def test_a_page_that_is_closed_and_opened_again_has_lost_nothing(bench: Bench, page: Page) -> None:
    """Each line once, in order."""
    job = bench.enqueue("tells", {"title": "a"})
    with bench.worker() as worker, served(bench, worker) as (url, _):
        page.goto(f"{url}/jobs/{job}")
        bench.until(worker, lambda: said(page) == ["one <b>&\n"])
        page.goto("about:blank")
        gate().opened.set()
        bench.until(worker, lambda: bench.job(job).status == JobState.COMPLETED)
        page.goto(f"{url}/jobs/{job}")
        assert said(page) == ["one <b>&\n", "two"]
        assert page.locator("#badge").inner_text() == "completed"


def test_a_server_that_is_restarted_is_found_again(bench: Bench, page: Page) -> None:
    """By itself; what was said meanwhile is there, once."""
    job = bench.enqueue("tells", {"title": "a"})
    with bench.worker() as worker:
        with served(bench, worker) as (url, port):
            page.goto(f"{url}/jobs/{job}")
            bench.until(worker, lambda: said(page) == ["one <b>&\n"])
        bench.until(worker, lambda: shows(page, "#connection-text", "connection lost"))
        gate().opened.set()
        bench.until(worker, lambda: bench.job(job).status == JobState.COMPLETED)
        with served(bench, worker, port):
            bench.until(worker, lambda: shows(page, "#badge", "completed"))
            bench.until(worker, lambda: len(said(page)) > 1)
            assert said(page) == ["one <b>&\n", "two"]


def test_a_page_that_is_new_is_not_asked_for_again(bench: Bench, page: Page) -> None:
    """What the stream tells first is on it already; only an output that grew meanwhile is not."""
    job, other = bench.enqueue("tells", {"title": "a"}), bench.enqueue("tells", {"title": "b"})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(urlsplit(request.url).path))

    def grows(route: Route) -> None:
        row = {"job_id": other, "run_number": 1, "name": "late", "media_type": "text/plain", "at": NOW, "data": b"grew"}
        with bench.app.database.write() as connection:
            connection.execute(insert(OUTPUTS), row)
        route.continue_()

    with bench.worker() as worker, served(bench, worker) as (url, _):
        bench.until(worker, lambda: all(bench.app.logs.output_sizes(one) for one in (job, other)))
        page.clock.install(time=NOW)
        page.goto(f"{url}/jobs/{job}")
        bench.until(worker, lambda: shows(page, "#connection-text", "live"))
        page.clock.run_for(10_000)
        page.evaluate("fetch('/healthz')")
        assert asked.count(f"/jobs/{job}") == 1
        page.route("**/events*", grows)
        page.goto(f"{url}/jobs/{other}")
        page.clock.resume()
        bench.until(worker, lambda: "grew" in page.locator('[data-region="outputs"]').inner_text())
        assert bench.job(other).status == JobState.RUNNING
        assert asked.count(f"/jobs/{other}") == 2
        gate().opened.set()
        bench.until(worker, lambda: bench.job(other).status == JobState.COMPLETED)


def test_the_log_of_each_run_stands_apart(bench: Bench, page: Page, chromium: Browser) -> None:
    """Also as it comes; a page of one run shows no other."""
    other = chromium.new_context()  # a tab behind another one is hidden, and hears nothing
    job = bench.enqueue("tells", {"title": "a"})
    with bench.worker() as worker, served(bench, worker) as (url, _):
        page.goto(f"{url}/jobs/{job}")
        alone = other.new_page()
        alone.goto(f"{url}/jobs/{job}?run=1")
        bench.until(worker, lambda: said(page) == said(alone) == ["one <b>&\n"])
        bench.until(worker, lambda: shows(alone, "#connection-text", "live"))
        line = {"job_id": job, "at": bench.clock.now(), "level": "info"}
        with bench.app.database.write() as connection:
            rows = [line | {"run_number": run, "message": f"of {run}"} for run in (2, 1)]
            connection.execute(insert(LOGS), rows)
        bench.until(worker, lambda: len(said(page)) == 3 and len(said(alone)) == 2)
        assert page.locator("#log > li.run").all_text_contents() == ["Run 2", "Run 1"]
        assert said(alone) == ["one <b>&\n", "of 1"]
        assert alone.locator("#log > li.run").count() == 0
        page.locator("#find").fill("of 2")
        assert page.locator("#found").inner_text() == "1 of 3 lines"
        alone.get_by_role("link", name="All runs").click()
        alone.wait_for_url(f"**/jobs/{job}#log-title")
        gate().opened.set()
        bench.until(worker, lambda: bench.job(job).status == JobState.COMPLETED)
        other.close()


def test_a_cancel_asks_first(bench: Bench, page: Page) -> None:
    """In a dialog that the keyboard closes; then the job stops, and the way back is shown."""
    job = bench.enqueue("say_until_stopped")
    with bench.worker() as worker, served(bench, worker) as (url, _):
        page.goto(f"{url}/jobs/{job}")
        bench.until(worker, lambda: shows(page, "#badge", "running") and page.locator("#cancel").is_visible())
        page.locator("#cancel").click()
        page.keyboard.press("Escape")
        assert not page.locator("#cancel-dialog").is_visible()
        assert bench.job(job).cancel_requested_at is None
        page.locator("#cancel").click()
        page.get_by_label("Reason").fill("enough")
        page.get_by_role("button", name="Cancel the job").click()
        page.wait_for_load_state()
        bench.until(worker, lambda: bench.job(job).status == JobState.CANCELLED)
        bench.until(worker, lambda: shows(page, "#badge", "cancelled"))
        bench.until(worker, lambda: page.get_by_role("link", name="Back to the dashboard").is_visible())


def test_the_list_renews_itself(bench: Bench, page: Page) -> None:
    """A job that comes is there, one that ends is below; nobody reloads."""
    with bench.worker() as worker, served(bench, worker) as (url, _):
        page.goto(f"{url}/jobs")
        job = bench.enqueue("tells", {"title": "a"})
        bench.until(worker, lambda: page.locator(f"#live-{job}").count() == 1 and shows(page, ".measure", "10 %"))
        gate().opened.set()
        bench.until(worker, lambda: page.locator(f"#job-{job}").count() == 1)
        assert page.locator(f"#live-{job}").count() == 0
        assert shows(page, "#tab-finished .count", "1")


def test_who_signs_in_sees_what_the_key_may_see_live(bench: Bench, page: Page) -> None:
    """The page asks for the key, leads back, and its stream is of the same session."""
    key = new_key()
    AccessStore(bench.app.database).add(key, Role.VIEWER, ["shop"], bench.clock.now(), by="test")
    job, other = bench.enqueue("tells", {"title": "a"}, project_id="shop"), bench.enqueue("tells", {"title": "b"})
    with bench.worker() as worker, served(bench, worker) as (url, _):
        page.goto(f"{url}/jobs/{job}")
        page.get_by_label("API key").fill(key.text)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(f"**/jobs/{job}")
        bench.until(worker, lambda: shows(page, "#connection-text", "live") and said(page) == ["one <b>&\n"])
        assert page.locator("#cancel").count() == 0
        assert page.goto(f"{url}/jobs/{other}").status == 404  # type: ignore[union-attr]
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_url("**/sign-in")
        page.goto(f"{url}/jobs/{job}")
        assert "/sign-in?next=" in page.url
