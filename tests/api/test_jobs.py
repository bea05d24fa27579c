"""Jobs over HTTP: what is asked for is done, what cannot be is told, and all is shown as commands show it."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert

from runner.cli.output import print_json
from runner.domain.job import JobState
from runner.storage.jobs import JobFilter
from runner.storage.logs import LOGS, OUTPUTS
from tests.api.site import Client, Site
from tests.engine.sample_handlers import gate
from tests.factories import HOUR, MINUTE, NOW

HUGE = 123456789012345678901234567890


def create(client: Client, type_name: str = "echo", expected: int = 201, **more: Any) -> int:
    answer = client.post("/api/jobs", json={"type": type_name} | more)
    assert answer.status_code == expected, answer.text
    return int(answer.json()["id"])


def problem(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert {"type", "title", "detail"} <= set(body)
    return body


def test_a_job_is_created_run_and_read(site: Site, client: Client) -> None:
    """201 with its address; big integers come back as they were sent; times have their offset."""
    answer = client.post("/api/jobs", json={"type": "echo", "payload": {"value": HUGE}, "priority": "high"})
    assert (answer.status_code, answer.json()) == (201, {"id": 1, "status": "pending", "duplicate": False})
    pending = client.get(answer.headers["location"]).json()
    assert (pending["queue_position"], pending["priority"], pending["display_state"]) == (1, 2, "pending")

    site.finish(1)

    done = client.get("/api/jobs/1").json()
    assert (done["status"], done["result"], done["progress"]) == ("completed", HUGE, 100)
    assert datetime.fromisoformat(done["completed_at"]) == NOW
    assert [one["outcome"] for one in done["attempts"]] == ["completed"]
    assert done["queue_position"] is None


def test_a_job_is_shown_as_the_command_shows_it(site: Site, client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    """The same fields with the same words; only a place in the queue is told besides."""
    create(client, project_id="shop")
    job = site.bench.job(1)
    print_json(site.bench.app.views.view([job], NOW)[0])
    shown = json.loads(capsys.readouterr().out)

    answer = client.get("/api/jobs/1").json()

    shared = {name: value for name, value in answer.items() if name not in ("queue_position", "outputs")}
    assert {"format_version": 1} | shared == shown


@pytest.mark.parametrize(
    ("body", "status", "path"),
    [
        ({"type": "nothing"}, 422, None),
        ({"type": "strict"}, 422, "payload"),
        ({"type": "strict", "payload": {"name": 3}}, 422, "payload.name"),
        ({"type": "echo", "priority": 11}, 422, "priority.constrained-int"),
        ({"type": "echo", "prioritty": 1}, 422, "prioritty"),
        ({"type": "echo", "run_at": "2026-03-02T12:00:00"}, 422, "run_at"),
        ({"type": "echo", "run_at": 0}, 422, "run_at"),
        ({"type": "echo", "delay": "1x"}, 422, "delay.constrained-str"),
        ({"type": "echo", "delay": 5, "run_at": "2026-03-02T12:00:00Z"}, 422, None),
        ({"type": "echo", "payload": {"text": "a\x00b"}}, 422, "payload.text"),
        ({"type": "echo", "project_id": "a\x00b"}, 422, "project_id"),
        ({}, 422, "type"),
        ([], 422, ""),
    ],
)  # fmt: skip
def test_what_cannot_be_a_job_is_told_with_its_place(
    site: Site, client: Client, body: Any, status: int, path: str | None
) -> None:
    """One body for all errors; nothing is written."""
    told = problem(client.post("/api/jobs", json=body), status)
    assert path is None or path in [one["path"] for one in told["errors"]], told
    assert site.bench.app.jobs.count(JobFilter()) == 0


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1969-12-31T23:59:59Z"])
def test_a_time_beyond_reckoning_is_refused_wherever_it_stands(client: Client, time: str) -> None:
    """In a body and in a query: 422 with its place, and the years that are taken."""
    bodies = {
        "/api/jobs": {"type": "echo", "run_at": time},
        "/api/schedules/hourly/backfill": {"from": time, "to": time},
        "/api/config/plan": {"source": "version: 1", "now": time},
    }
    answers = [client.post(url, json=body) for url, body in bodies.items()]
    answers += [client.get("/api/jobs", params={"since": time}), client.get("/api/upcoming", params={"now": time})]
    for answer in answers:
        assert "write a time between 1970 and 2199" in str(problem(answer, 422)["errors"])


@pytest.mark.parametrize("text", ["{", '{"type": "echo"', "\xff", "nul"])
def test_a_body_that_is_no_json_is_400(client: Client, text: str) -> None:
    """The parser's word, and where."""
    answer = client.post("/api/jobs", content=text.encode("latin-1"), headers={"Content-Type": "application/json"})
    problem(answer, 400)


def test_a_body_must_say_that_it_is_json(client: Client) -> None:
    """A form of another page cannot send that."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "nonsense"):
        problem(client.post("/api/jobs", content='{"type": "echo"}', headers={"Content-Type": kind}), 415)
    problem(client.post("/api/jobs", content='{"type": "echo"}'), 415)
    assert client.post("/api/jobs", content='{"type": "echo"}', headers={"Content-Type": "a/b+json"}).status_code == 415
    answer = client.post("/api/jobs", content='{"type": "echo"}', headers={"Content-Type": "application/a+json"})
    assert answer.status_code == 201


@pytest.mark.parametrize("body", [{"priority": "5"}, {"priority": True}, {"delay": True}])
def test_a_value_of_another_type_is_not_taken_for_one(client: Client, body: dict[str, Any]) -> None:
    """As the document says: a number is a number."""
    problem(client.post("/api/jobs", json={"type": "echo"} | body), 422)
    problem(client.post("/api/jobs/actions", json={"action": "retry", "ids": [1], "dry_run": 0}), 422)
    problem(client.post("/api/jobs/actions", json={"action": "retry", "ids": ["1"]}), 422)


def test_a_body_may_not_be_too_large(client: Client) -> None:
    """A megabyte, told or not."""
    problem(client.post("/api/jobs", json={"type": "echo", "payload": {"text": "x" * 1_100_000}}), 413)


def test_defaults_are_filled_in_and_times_kept(client: Client) -> None:
    """As by every other way in."""
    create(client, "strict", payload={"name": "n"}, delay="90s", priority=9)
    create(client, "echo", delay=0.5)
    create(client, "echo", run_at="2026-03-02T14:00:00+01:00")

    first, second, third = (client.get(f"/api/jobs/{number}").json() for number in (1, 2, 3))

    assert (first["payload"], first["priority"]) == ({"name": "n", "days": 7}, 9)
    assert datetime.fromisoformat(first["run_at"]) == NOW + 90 * timedelta(seconds=1)
    assert first["display_state"] == "scheduled"
    assert datetime.fromisoformat(second["run_at"]) == NOW + timedelta(milliseconds=500)
    assert datetime.fromisoformat(third["run_at"]) == NOW + HOUR


def test_a_unique_job_is_made_once(client: Client) -> None:
    """200 with the job that is there."""
    first = create(client, payload={"a": 1}, unique="finished")
    assert create(client, expected=200, payload={"a": 1}, unique={"until": "finished"}) == first
    assert create(client, payload={"a": 2}, unique={"by": ["a"], "window": "1h"}) != first


def test_the_same_request_twice_makes_one_job(client: Client) -> None:
    """By its Idempotency-Key; with another body it is a conflict."""
    key = {"Idempotency-Key": "order-17"}
    body = {"type": "echo", "payload": {"a": 1}}
    first = client.post("/api/jobs", json=body, headers=key)
    again = client.post("/api/jobs", json=body, headers=key)
    other = client.post("/api/jobs", json={"type": "echo"}, headers=key)

    assert (first.status_code, again.status_code) == (201, 200)
    assert (again.json()["id"], again.json()["duplicate"]) == (first.json()["id"], True)
    assert "another body" in problem(other, 409)["detail"]


def test_jobs_are_listed_newest_first_and_page_by_page(client: Client) -> None:
    """By cursor or by offset; with their total."""
    for number in range(5):
        create(client, "urgent" if number % 2 else "echo", project_id=f"p{number % 2}")

    page = client.get("/api/jobs", params={"limit": 2}).json()
    rest = client.get("/api/jobs", params={"limit": 10, "after": page["next"]}).json()
    third = client.get("/api/jobs", params={"limit": 2, "offset": 3}).json()

    assert [job["id"] for job in page["jobs"]] == [5, 4]
    assert {name: page[name] for name in ("total", "limit", "offset", "next")} == {
        "total": 5, "limit": 2, "offset": 0, "next": 4,
    }  # fmt: skip
    assert ([job["id"] for job in rest["jobs"]], rest["next"]) == ([3, 2, 1], None)
    assert [job["id"] for job in third["jobs"]] == [2, 1]


def test_filters_narrow_the_list(site: Site, client: Client) -> None:
    """All that are given hold."""
    create(client, "echo", project_id="shop")
    create(client, "fail", project_id="shop", payload={"error": "ValueError"})
    create(client, "urgent")
    create(client, project_id="other", delay="1d")
    site.finish(1, 2, 3)
    client.post("/api/jobs/1/retry")
    site.bench.clock.time = NOW + HOUR

    def found(**query: Any) -> list[int]:
        answer = client.get("/api/jobs", params=query)
        assert answer.status_code == 200, answer.text
        assert answer.json()["total"] == len(answer.json()["jobs"])
        return [job["id"] for job in answer.json()["jobs"]]

    assert found(project_id="shop") == [2, 1]
    assert found(status="failed") == [2]
    assert found(status=["failed", "pending"]) == [4, 2, 1]
    assert found(type="urgent", queue="fast") == [3]
    assert found(since="30m") == []
    assert found(since=(NOW - MINUTE).isoformat(), until="30m") == [4, 3, 2, 1]
    assert found(q="2") == [2]
    assert found(schedule="hourly") == []


@pytest.mark.parametrize(
    "query", ["statuss=failed", "status=gone", "limit=0", "limit=x", "since=yesterday", "after=-1"]
)
def test_a_query_that_means_nothing_is_an_error(client: Client, query: str) -> None:
    """A misspelt filter would show everything."""
    told = problem(client.get(f"/api/jobs?{query}"), 422)
    assert told["errors"][0]["path"].startswith(query.partition("=")[0])


def test_a_pending_job_is_cancelled_at_once(site: Site, client: Client) -> None:
    """By DELETE or by cancel; a second time is too late, and the state is named."""
    create(client)
    create(client)
    assert client.delete("/api/jobs/1").json() == {"id": 1, "status": "cancelled", "result": "cancelled"}
    answer = client.post("/api/jobs/2/cancel", json={"reason": "not needed"})
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")

    assert "already cancelled" in problem(client.delete("/api/jobs/1"), 409)["detail"]
    assert site.bench.job(2).error == "not needed"


def test_a_running_job_is_asked_to_stop(site: Site, client: Client) -> None:
    """202: it ends when its handler does."""
    create(client, "work")
    with site.bench.worker() as worker:
        site.bench.until(worker, lambda: gate().entered == 1)
        answer = client.post("/api/jobs/1/cancel")
        shown = client.get("/api/jobs/1").json()
        site.bench.until(worker, lambda: site.bench.state(1) == JobState.CANCELLED)

    assert (answer.status_code, answer.json()["result"]) == (202, "asked to stop")
    assert shown["display_state"] == "cancelling"


def test_a_finished_job_is_put_back(site: Site, client: Client) -> None:
    """With its history; one that is not finished is a conflict."""
    create(client)
    problem(client.post("/api/jobs/1/retry"), 409)
    site.finish(1)

    assert client.post("/api/jobs/1/retry").json() == {"id": 1, "status": "pending", "result": "pending"}
    assert [one["outcome"] for one in client.get("/api/jobs/1").json()["attempts"]] == ["completed"]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("POST", "/retry"), ("GET", "/logs"), ("GET", "/outputs/page")],
)
def test_what_is_not_there_is_404(client: Client, method: str, path: str) -> None:
    """Named."""
    assert "there is no job 7" in problem(client.request(method, f"/api/jobs/7{path}"), 404)["detail"]
    problem(client.request(method, f"/api/jobs/{2**63}{path}"), 422)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("PUT", "/api/jobs", "GET, POST"), ("GET", "/api/jobs/bulk", "POST"), ("PUT", "/api/jobs/1", "DELETE, GET")],
)
def test_a_method_that_an_address_does_not_take(client: Client, method: str, path: str, allowed: str) -> None:
    """405 with those that it does take."""
    answer = client.request(method, path)
    problem(answer, 405)
    assert answer.headers["allow"] == allowed


def test_the_log_is_read_by_range_and_as_text(site: Site, client: Client) -> None:
    """As JSON with the cursor of what follows; as plain text where that is asked for."""
    create(client)
    _say(site, 1, "one", "two", "three <b>")

    page = client.get("/api/jobs/1/logs", params={"limit": 2}).json()
    rest = client.get("/api/jobs/1/logs", params={"after": page["next"]}).json()
    text = client.get("/api/jobs/1/logs", headers={"Accept": "text/plain"})

    assert [line["message"] for line in page["lines"] + rest["lines"]] == ["one", "two", "three <b>"]
    assert rest["next"] is None
    assert text.headers["content-type"] == "text/plain; charset=utf-8"
    assert text.text.splitlines()[2].endswith(" info three <b>")


def test_what_a_job_shows_is_a_file_that_no_browser_runs(site: Site, client: Client) -> None:
    """Its pieces in one, as an attachment in a sandbox."""
    create(client)
    _say(site, 1, outputs=[("page", "text/html", b"<script>"), ("page", "text/html", b"alert()")])

    answer = client.get("/api/jobs/1/outputs/page")

    assert (answer.content, answer.headers["content-type"]) == (b"<script>alert()", "text/html; charset=utf-8")
    assert answer.headers["content-disposition"] == "attachment"
    assert answer.headers["content-security-policy"].startswith("sandbox")
    assert client.get("/api/jobs/1").json()["outputs"] == [{"name": "page", "media_type": "text/html", "bytes": 15}]
    problem(client.get("/api/jobs/1/outputs/other"), 404)


def test_the_name_of_an_output_may_be_a_path(site: Site, client: Client) -> None:
    """As handlers name files."""
    create(client)
    _say(site, 1, outputs=[("2026/a b?.txt", "text/plain", b"one")])
    assert client.get("/api/jobs/1/outputs/2026/a%20b%3F.txt").content == b"one"


def _say(site: Site, job_id: int, *lines: str, outputs: list[tuple[str, str, bytes]] | None = None) -> None:
    """As a run of this job would: what it says is written under its claim."""
    with site.bench.app.database.write() as connection:
        for line in lines:
            values = {"job_id": job_id, "run_number": 1, "at": NOW, "level": "info", "message": line}
            connection.execute(insert(LOGS), values)
        for name, media_type, data in outputs or ():
            values = {
                "job_id": job_id,
                "run_number": 1,
                "at": NOW,
                "name": name,
                "media_type": media_type,
                "data": data,
            }
            connection.execute(insert(OUTPUTS), values | {"media_type": media_type, "data": data})


def test_a_replay_says_that_it_is_one(client: Client) -> None:
    """By a header, so that a client whose answer was lost knows its own jobs; a unique duplicate is none."""
    one, many = {"type": "echo", "unique": "finished"}, {"jobs": [{"type": "echo"}, {"type": "echo"}]}
    for path, body in (("/api/jobs", one), ("/api/jobs/bulk", many)):
        first, second = (client.post(path, json=body, headers={"Idempotency-Key": path}) for _ in range(2))
        assert "idempotency-replayed" not in first.headers
        assert second.headers["idempotency-replayed"] == "true"
    assert client.post("/api/jobs", json=one).json()["duplicate"] is True
    assert "idempotency-replayed" not in client.post("/api/jobs", json=one).headers


def test_of_many_the_first_that_is_refused_is_told_as_of_it_alone(client: Client) -> None:
    """Which it is, with the kind, the words and the remedy of its own error."""
    alone = problem(client.post("/api/jobs", json={"type": "eco"}), 422)
    jobs = [{"type": "echo"}, {"type": "eco"}, {"type": "strict"}]
    told = problem(client.post("/api/jobs/bulk", json={"jobs": jobs}), 422)

    assert told["first"] == {"index": 1} | {name: alone[name] for name in ("type", "detail", "help")}
    assert "first" not in alone
