"""Schedules, the file, workers and health over HTTP: as the commands have them."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion

from runner.api.application import application
from runner.domain.access import Role
from runner.domain.errors import DatabaseUnavailable
from runner.http.keyring import TRUSTED
from runner.storage.access import AccessStore
from tests.api.site import Client, Site, made_site, pass_time
from tests.factories import HOUR, MINUTE, NOW
from tests.interfaces.cli_project import ROOT

PLANNED = """
version: 1
runner: {handler_packages: [tests]}
job_types:
  echo: {handler: tests.nowhere.that_is_never_imported}
schedules:
  hourly: {job: echo, cron: "0 * * * *"}
"""


def good(answer: Any, status: int = 200) -> Any:
    assert answer.status_code == status, answer.text
    return answer.json()


def test_schedules_are_listed_and_looked_at(site: Site, client: Client) -> None:
    """With their state, their next fires by the scheduler's own function, and their ledger."""
    found = good(client.get("/api/schedules"))["schedules"]
    one = good(client.get("/api/schedules/hourly"))
    following = good(client.get("/api/schedules/hourly/next", params={"count": 2}))

    assert [(row["name"], row["state"]) for row in found] == [("hourly", "active"), ("shopping", "active")]
    assert one == found[0]
    assert [datetime.fromisoformat(fire["utc"]) for fire in following["next"]] == [NOW + 10 * MINUTE, NOW + 20 * MINUTE]
    assert following["words"]
    site.bench.clock.time = NOW + 10 * MINUTE
    site.bench.scheduler().tick(site.bench.clock.now())
    (slot,) = good(client.get("/api/schedules/hourly/history"))["slots"]
    assert (slot["outcome"], slot["slot"]) == ("enqueued", (NOW + 10 * MINUTE).isoformat())


def test_a_schedule_is_paused_triggered_and_resumed(site: Site, client: Client) -> None:
    """With a reason; each is in the audit log; what cannot be is a conflict."""
    paused = good(client.post("/api/schedules/hourly/pause", json={"reason": "moving house"}))
    made = client.post("/api/schedules/hourly/trigger")
    again = client.post("/api/schedules/hourly/trigger")
    resumed = good(client.post("/api/schedules/hourly/resume"))

    assert (paused["state"], paused["pause_reason"]) == ("paused", "moving house")
    assert (made.status_code, made.headers["location"]) == (201, "/api/jobs/1")
    assert (again.status_code, resumed["state"]) == (409, "active")
    assert client.post("/api/schedules/hourly/resume").status_code == 409
    audited = good(client.get("/api/audit"))["entries"]
    assert [(one["action"], one["detail"]) for one in audited] == [
        ("resume", None), ("trigger", "job 1"), ("pause", "moving house"),
    ]  # fmt: skip


def test_slots_of_the_past_are_enqueued(site: Site, client: Client) -> None:
    """Those that did not run."""
    site.bench.clock.time = NOW + HOUR
    body = {"from": NOW.isoformat(), "to": (NOW + 20 * MINUTE).isoformat()}
    made = good(client.post("/api/schedules/hourly/backfill", json=body), 201)
    assert len(made["jobs"]) == 3


def test_fires_and_slots_of_all_schedules(site: Site, client: Client) -> None:
    """Those of the revision in force, from a time that may be given; a key of a project is told of its own alone."""
    params = {"count": 2, "now": NOW.isoformat()}
    found = good(client.get("/api/upcoming", params=params))["schedules"]
    one = good(client.get("/api/upcoming", params=params | {"name": "hourly"}))["schedules"]
    site.bench.clock.time = NOW + 10 * MINUTE
    site.bench.scheduler().tick(site.bench.clock.now())
    slots = good(client.get("/api/slots"))["slots"]
    mine = good(client.get("/api/slots", params={"schedule": "hourly", "limit": 1}))["slots"]
    shop = site.with_key(Role.VIEWER, "shop")

    assert [(row["name"], len(row["next"])) for row in found] == [("hourly", 2), ("shopping", 2)]
    assert one == found[:1]
    assert sorted(row["schedule_name"] for row in slots) == ["hourly", "shopping"]
    assert mine == [row for row in slots if row["schedule_name"] == "hourly"]
    assert [row["name"] for row in good(shop.get("/api/upcoming"))["schedules"]] == ["shopping"]
    assert [row["schedule_name"] for row in good(shop.get("/api/slots"))["slots"]] == ["shopping"]
    assert shop.get("/api/slots", params={"schedule": "hourly"}).status_code == 404
    refused = shop.get("/api/upcoming", params={"name": "hourly"})
    assert (refused.status_code, refused.json()["help"]) == (404, "known: shopping")


@pytest.mark.parametrize("path", ["", "/next", "/history"])
def test_a_schedule_that_is_not_there_is_404(client: Client, path: str) -> None:
    """Named."""
    assert "no schedule 'nothing'" in client.get(f"/api/schedules/nothing{path}").json()["detail"]


def test_the_revision_in_force_is_told(client: Client) -> None:
    """With what it says."""
    told = good(client.get("/api/config"))
    assert (told["revision"]["number"], told["problems"]) == (1, [])
    assert set(told["definitions"]["schedules"]) == {"hourly", "shopping"}


def test_a_reload_is_asked_for(site: Site, client: Client) -> None:
    """The file is read again by who follows it."""
    good(client.post("/api/config/reload"), 202)
    assert site.reloads == [True]


def test_a_file_is_planned_and_nothing_of_it_imported(site: Site, client: Client) -> None:
    """What it would do; what is wrong with it, with lines."""
    plan = good(client.post("/api/config/plan", json={"source": PLANNED}))
    wrong = client.post("/api/config/plan", json={"source": "version: 1\nschedules: {a: {job: b}}\n"})

    assert {one["action"] for one in plan["changes"]} == {"change", "retire"}
    assert wrong.status_code == 422
    assert all(one["line"] == 2 for one in wrong.json()["errors"])
    assert good(client.get("/api/config"))["revision"]["number"] == 1


def test_a_plan_is_told_in_words_where_they_are_asked_for(client: Client) -> None:
    """By the name that the caller gives the file, from the time that he gives."""
    body = {"source": PLANNED, "form": "text", "name": "mine.yaml", "now": NOW.isoformat()}
    told = good(client.post("/api/config/plan", json=body))
    markdown = good(client.post("/api/config/plan", json=body | {"form": "markdown"}))

    assert told["shown"].startswith("mine.yaml against revision 1, now ")
    assert datetime.fromisoformat(told["now"]) == NOW
    assert markdown["shown"].startswith("### Plan: mine.yaml")
    assert good(client.post("/api/config/plan", json={"source": PLANNED}))["shown"] is None


def test_what_runs_and_what_has_ended(site: Site, client: Client) -> None:
    """Where it is asked for; and what the database is."""
    site.finish(site.bench.enqueue("echo"))
    told = good(client.get("/api/stats", params={"rows": 5, "fires": 1, "skipped": False}))
    bare = good(client.get("/api/stats"))

    assert [(one["id"], one["status"]) for one in told["ended"]] == [(1, "completed")]
    assert (len(told["next"]), told["running"], told["skipped"]) == (1, [], [])
    assert told["database"]["exists"]
    assert (bare["ended"], len(bare["next"])) == ([], 2)


def test_every_answer_names_the_interface(site: Site, client: Client) -> None:
    """Also one that refuses: a client knows by it who answers."""
    for path in ("/healthz", "/api/jobs", "/api/nothing", "/api/jobs/99", "/metrics"):
        assert client.get(path).headers["runner-interface"] == "1"
    site.key()
    assert client.get("/api/jobs").headers["runner-interface"] == "1"


def test_how_things_are(site: Site, client: Client) -> None:
    """Workers and counts; for a key of projects, its own alone."""
    site.bench.enqueue("echo", project_id="shop")
    site.bench.enqueue("echo")
    with site.bench.worker():
        (worker,) = good(client.get("/api/workers"))["workers"]
        stats = good(client.get("/api/stats"))
    bound = good(site.with_key(Role.VIEWER, "shop").get("/api/stats"))

    assert (worker["state"], worker["running"]) == ("alive", 0)
    assert "lock_file" not in worker
    assert (stats["jobs"]["pending"], len(stats["queues"])) == (2, 1)
    assert (bound["jobs"]["pending"], set(bound)) == (1, {"at", "jobs"})


def test_health_and_readiness(tmp_path: Path) -> None:
    """Degraded is ready: a supervisor must not restart what still runs jobs. The reason is for who may see it."""
    problem: list[str | None] = [None]
    stops: list[bool] = []
    with made_site(tmp_path, file_problem=lambda: problem[0], is_stopping=lambda: bool(stops)) as site:
        client = site.client()
        assert good(client.get("/healthz")) == {"status": "ok"}
        assert good(client.get("/readyz")) == {"status": "ready"}
        problem[0] = "schedules.yaml:3:5: unknown key"
        assert good(client.get("/readyz")) == {"status": "degraded", "problem": problem[0]}
        key = site.key()
        pass_time(site, TRUSTED)
        assert good(client.get("/readyz")) == {"status": "degraded"}
        stops.append(True)
        assert good(client.get("/readyz"), 503) == {"status": "stopping"}
        assert good(site.client({"Authorization": f"Bearer {key}"}).get("/healthz")) == {"status": "ok"}


def test_metrics_are_those_of_the_process(tmp_path: Path) -> None:
    """404 where there are none."""
    with made_site(tmp_path, metrics=lambda: b"runner_up 1\n") as site:
        answer = site.client().get("/metrics")
    assert (answer.status_code, answer.text) == (200, "runner_up 1\n")


def test_a_database_that_is_away_is_503(site: Site, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the reason and when to come again; the process lives."""

    def away(*_: object) -> None:
        raise DatabaseUnavailable("the database is locked by another process", "try again")

    monkeypatch.setattr(site.bench.app.jobs, "count", away)
    monkeypatch.setattr(site.bench.app.revisions, "current", away)
    answer = client.get("/api/jobs")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "is locked" in answer.json()["detail"]
    assert client.get("/readyz").status_code == 503
    assert client.get("/healthz").status_code == 200


def test_a_bug_of_ours_is_one_sentence(site: Site, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """No traceback, no SQL."""
    monkeypatch.setattr(site.bench.app.jobs, "count", lambda where: 1 / 0)
    answer = client.get("/api/jobs")
    assert answer.status_code == 500
    assert answer.json()["type"] == "urn:runner:error:fault"
    assert "division" not in answer.text


def test_the_document_of_the_interface(snapshot: SnapshotAssertion) -> None:
    """Every route, parameter and body, as it is served."""
    document = application(None, "0.1.0").openapi()  # type: ignore[arg-type]
    assert json.dumps(document, indent=1, sort_keys=True) == snapshot


def test_every_address_of_the_documentation_is_a_route(site: Site) -> None:
    """docs/api.md names no other."""
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    paths = set(re.findall(r"(?:localhost:8080|`)(/(?:api|healthz|readyz|metrics)[^\s?'`]*)", text))
    known = [re.compile(re.sub(r"{[^}]+}", "[^/]+", path)) for path in site.inner.openapi()["paths"]]
    assert len(paths) > 15
    assert [path for path in paths if not any(one.fullmatch(path) for one in known)] == ["/api/openapi.json"]


def test_the_document_is_served_to_who_may_look(site: Site) -> None:
    """With a key, where there are keys."""
    assert good(site.client().get("/api/openapi.json"))["info"]["title"] == "runner"
    site.key()
    pass_time(site, TRUSTED)
    assert site.client().get("/api/openapi.json").status_code == 401
    assert AccessStore(site.bench.app.database).audited() == []
