"""The status page: all that is known of a job, without a script, and never as markup."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import insert

from runner.domain.job import JobState
from runner.domain.job_rows import Job
from runner.storage.logs import LOGS, OUTPUTS
from runner.web.assets import FILES
from runner.web.status import steps
from tests.api.site import Client, Site
from tests.contract.test_failures import fail
from tests.factories import NOW

EVIL = "</pre><script>alert(1)</script><img src=x onerror=alert(1)>"


def log(site: Site, job_id: int, *messages: str, run: int = 1) -> None:
    rows = [{"job_id": job_id, "run_number": run, "at": NOW, "level": "info", "message": one} for one in messages]
    with site.bench.app.database.write() as connection:
        connection.execute(insert(LOGS), rows)


def show(site: Site, job_id: int, name: str, media_type: str, data: str) -> None:
    row = {"job_id": job_id, "run_number": 1, "name": name, "media_type": media_type, "at": NOW, "data": data.encode()}
    with site.bench.app.database.write() as connection:
        connection.execute(insert(OUTPUTS), row)


def test_a_job_that_waits_can_be_cancelled(site: Site, browser: Client) -> None:
    """Its place, and a link that asks first; then the way back."""
    site.bench.enqueue("echo")
    waiting = browser.get("/jobs/1").text
    assert "Place 1 in the queue" in waiting
    assert 'href="/jobs/1/cancel"' in waiting
    assert "Cancel job 1?" in browser.get("/jobs/1/cancel").text

    answer = browser.post("/jobs/1/cancel", data={"reason": "not <needed>"})

    assert (answer.status_code, answer.headers["location"]) == (303, "/jobs/1")
    cancelled = browser.get("/jobs/1").text
    assert "not &lt;needed&gt;" in cancelled
    assert "Back to the dashboard" in cancelled
    assert site.bench.job(1).status == JobState.CANCELLED


def test_what_is_too_late_is_told_as_a_page(site: Site, browser: Client) -> None:
    """With the status of the API."""
    site.bench.enqueue("echo")
    site.finish(1)
    answer = browser.post("/jobs/1/cancel")
    assert (answer.status_code, answer.headers["content-type"]) == (409, "text/html; charset=utf-8")
    assert "job 1 is already completed" in answer.text
    assert browser.get("/jobs/99").status_code == 404
    assert browser.get("/jobs/nothing").status_code == 404


def test_a_job_that_failed_tells_why_and_is_tried_again(site: Site, browser: Client) -> None:
    """The traceback is folded; a retry leads back to the page."""
    site.bench.enqueue("fail")
    site.finish(1)
    failed = browser.get("/jobs/1").text
    assert re.search(r"<details id=\"error-1\"><summary>.*</summary><pre[^>]*>(?s:.)*?sample_handlers.py", failed), (
        failed
    )
    assert browser.post("/jobs/1/retry").headers["location"] == "/jobs/1"
    assert site.bench.job(1).status == JobState.PENDING


def test_nothing_of_a_job_is_markup(site: Site, browser: Client) -> None:
    """Payload, log, output, reason: text, all of it; secrets are covered."""
    site.bench.enqueue("echo", {"value": EVIL, "password": "hunter2", EVIL: 1})
    log(site, 1, EVIL)
    show(site, 1, EVIL, "text/markdown", EVIL)
    site.finish(1)
    for url in ("/jobs/1", "/jobs/1/output"):
        page = browser.get(url).text
        assert "<script>" not in page
        assert "<img" not in page
        assert "hunter2" not in page
    assert "••••••" in browser.get("/jobs/1").text


def test_the_policy_of_a_page_is_strict(site: Site, browser: Client) -> None:
    """No script and no style but our own files; and the pages have none inline."""
    site.bench.enqueue("echo")
    answer = browser.get("/jobs/1")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy
    assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son[a-z]+=", answer.text)
    assert "://" not in re.sub(r'title="[^"]*"', "", answer.text)


def test_lines_have_addresses_and_can_be_downloaded(site: Site, browser: Client) -> None:
    """A page opened at an old line begins near it, and names the last that it has, from where the stream goes on."""
    site.bench.enqueue("echo")
    log(site, 1, *(f"line {n}" for n in range(1300)))
    newest = browser.get("/jobs/1").text
    assert "line 1299<" in newest
    assert "line 299<" not in newest
    at_old = browser.get("/jobs/1?line=150").text
    assert '<li id="L150" class="level-info marked">' in at_old
    assert 'data-last="1150"' in at_old
    raw = browser.get("/jobs/1/log.txt")
    assert raw.text.count("\n") == 1300
    assert raw.headers["content-disposition"] == 'attachment; filename="job-1.log"'


def test_an_error_is_told_by_its_first_line(site: Site, browser: Client) -> None:
    """On every page: what follows explains it, or is the traceback."""
    fail(site.bench.app.database, "OSError: no disk\nat all\n\nTraceback (most recent call last):\n  File", type="echo")
    for address in ("/", "/jobs", "/jobs/1"):
        assert re.search(r'class="problem">OSError: no disk<', browser.get(address).text), address


def test_a_long_word_of_an_error_is_cut_and_not_left_out(site: Site, browser: Client) -> None:
    """It may be the address that could not be reached."""
    fail(site.bench.app.database, f"OSError: {'x' * 400}", type="echo")
    for address in ("/", "/jobs"):
        assert f"OSError: {'x' * 100}" in browser.get(address).text, address


def test_a_page_says_where_its_log_is_not_whole(site: Site, browser: Client) -> None:
    """The newest thousand lines are on it."""
    site.bench.enqueue("echo")
    log(site, 1, "line")
    assert 'id="log-cut" class="note" hidden' in browser.get("/jobs/1").text
    log(site, 1, *["line"] * 1000)
    assert 'id="log-cut" class="note">Not all lines are here' in browser.get("/jobs/1").text


def test_html_of_a_handler_stays_in_its_box(site: Site, browser: Client) -> None:
    """In a frame without any right, which no other site may frame; text is text, and other files are not served."""
    site.bench.enqueue("echo")
    show(site, 1, "page", "text/html", "<h1>Hello</h1><script>alert(1)</script>")
    show(site, 1, "notes", "text/markdown", "# Notes")
    page = browser.get("/jobs/1/output").text
    assert '<iframe sandbox title="page" src="/jobs/1/output/page">' in page
    assert "# Notes" in page
    framed = browser.get("/jobs/1/output/page")
    assert framed.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert framed.headers["x-frame-options"] == "SAMEORIGIN"
    assert browser.get("/jobs/1/output/notes").status_code == 404
    assert browser.get("/jobs/1/output/none").status_code == 404


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"status": "pending"}, "0"),
        ({"status": "running"}, "1"),
        ({"status": "running", "current_step": "formatting"}, "2"),
        ({"status": "running", "current_step": "another"}, "1"),
        ({"status": "failed", "run_number": 1, "completed_at": NOW}, "1"),
        ({"status": "cancelled", "completed_at": NOW}, "0"),
        ({"status": "failed", "current_step": "formatting", "completed_at": NOW}, "2"),
        ({"status": "completed", "current_step": "formatting", "completed_at": NOW}, ""),
    ],
)
def test_the_stepper_is_where_the_job_is(values: dict[str, object], expected: str) -> None:
    """Queued, the declared steps, complete."""
    found = steps(Job(type="a", run_at=NOW, created_at=NOW, **values), ("processing", "formatting"))
    assert [one.label for one in found] == ["Queued", "Processing", "Formatting", "Complete"]
    assert "".join(str(at) for at, one in enumerate(found) if one.is_current) == expected


def test_files_of_ours_are_kept_by_browsers(browser: Client) -> None:
    """For ever where the address names their content; else they are asked for again."""
    link = re.search(r"/static/runner\.css\?v=\w+", browser.get("/zone").text)
    assert link is not None
    kept, named = browser.get(link[0]), browser.get("/static/runner.css")
    assert kept.content == named.content == FILES["runner.css"]
    assert "immutable" in kept.headers["cache-control"]
    assert named.headers["cache-control"] == "no-cache"
    assert browser.get("/static/runner.css", headers={"If-None-Match": named.headers["etag"]}).status_code == 304
    assert browser.get("/static/..%2fpages.py").status_code == 404


def test_everything_is_under_the_prefix_of_a_proxy(site: Site) -> None:
    """Links, forms, scripts and what leads on."""
    from tests.web.conftest import BROWSER

    site.bench.enqueue("echo")
    site.bench.app.schedules.pause("shopping", NOW, by="me", reason=None)

    async def behind(scope: dict[str, object], receive: object, send: object) -> None:
        scope |= {"root_path": "/runner", "path": f"/runner{scope['path']}"}
        await site.app(scope, receive, send)  # type: ignore[arg-type]

    client = Client(behind, dict(BROWSER), "127.0.0.1")  # type: ignore[arg-type]
    for address in ("/jobs/1", "/", "/schedules", "/schedules/hourly", "/schedules/hourly/pause", "/workers"):
        page = client.get(address).text
        assert not re.findall(r'(?:href|src|action|data-api|data-output)="/(?!runner/)[^"]*"', page), address
    assert client.post("/schedules/shopping/resume").headers["location"] == "/runner/schedules/shopping"
    assert client.post("/jobs/1/cancel").headers["location"] == "/runner/jobs/1"


def test_a_log_is_shown_by_run(site: Site, browser: Client) -> None:
    """Where each begins is said, each attempt leads to its lines, and a line keeps its address."""
    site.bench.enqueue("fail")
    log(site, 1, "first")
    site.finish(1)
    log(site, 1, "still first")
    site.bench.app.jobs.retry(1, NOW)
    site.finish(1)
    log(site, 1, "second", run=2)
    whole, second = browser.get("/jobs/1").text, browser.get("/jobs/1?run=2").text
    shown = r'<li class="run">([^<]*)|class="said">(\w[^<]*)</span></li>'
    said = [one or two for one, two in re.findall(shown, whole) if one or "first" in two or "second" in two]
    assert said == ["first", "still first", "Run 2", "second"]
    assert 'href="?run=2#log-title"' in whole
    assert "first<" not in second.partition('id="log"')[2].partition("</ol>")[0]
    assert "Run 2<" not in second.partition('id="log"')[2].partition("</ol>")[0]
    assert 'href="/jobs/1/log.txt?run=2"' in second
    assert "second" in browser.get("/jobs/1/log.txt?run=2").text
    assert "first" not in browser.get("/jobs/1/log.txt?run=2").text
    marked = browser.get("/jobs/1?line=2").text
    assert 'id="L2" class="level-info marked"><a href="?line=2#L2">' in marked
    assert browser.get("/jobs/1?run=0").status_code == 404
