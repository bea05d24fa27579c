"""Many jobs at once: all or none in, and each told for itself where they are acted on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from runner.domain.access import Role
from runner.domain.job import JobState
from runner.storage.access import AccessStore
from runner.storage.jobs import JobStore
from tests.api.site import Client, Site


def bulk(client: Client, *jobs: dict[str, Any], **headers: str) -> Any:
    return client.post("/api/jobs/bulk", json={"jobs": list(jobs)}, headers=headers)


def test_many_jobs_are_enqueued_in_one(site: Site, client: Client) -> None:
    """In order; with a key, once."""
    first = bulk(client, *({"type": "echo", "payload": {"value": n}} for n in range(1000)), **{"Idempotency-Key": "a"})
    again = bulk(client, *({"type": "echo", "payload": {"value": n}} for n in range(1000)), **{"Idempotency-Key": "a"})

    assert (first.status_code, again.status_code) == (201, 200)
    assert [one["id"] for one in first.json()["jobs"]] == list(range(1, 1001))
    assert [one["id"] for one in again.json()["jobs"]] == list(range(1, 1001))
    assert site.bench.job(1000).payload == {"value": 999}


def test_one_that_cannot_be_keeps_all_out(site: Site, client: Client) -> None:
    """Each problem with the place of its job; too many are refused as they come."""
    answer = bulk(client, {"type": "echo"}, {"type": "strict"}, {"type": "nothing"})
    assert answer.status_code == 422
    assert [one["path"] for one in answer.json()["errors"]] == ["jobs.1.payload", "jobs.2"]
    assert bulk(client, *[{"type": "echo"}] * 1001).status_code == 422
    assert bulk(client).status_code == 422
    assert site.bench.all_jobs() == []


def act(client: Client, **body: Any) -> Any:
    answer = client.post("/api/jobs/actions", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_jobs_are_cancelled_by_their_ids(site: Site, client: Client) -> None:
    """What could not be is told beside what was done."""
    for _ in range(3):
        site.bench.enqueue("echo")
    site.bench.app.jobs.cancel(2, site.bench.clock.now())

    done = act(client, action="cancel", ids=[1, 2, 3, 9, 1], reason="too many")

    assert (done["matched"], done["dry_run"]) == (4, False)
    assert [(one["id"], one["result"]) for one in done["jobs"]] == [
        (1, "cancelled"), (2, None), (3, "cancelled"), (9, None),
    ]  # fmt: skip
    assert "already cancelled" in done["jobs"][1]["error"]
    assert "no job 9" in done["jobs"][3]["error"]
    audited = AccessStore(site.bench.app.database).audited()
    assert [(one.action, one.target, one.detail) for one in audited] == [
        ("cancel", "job 3", "too many"), ("cancel", "job 1", "too many"),
    ]  # fmt: skip


def test_many_jobs_are_few_transactions(site: Site, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred in each, with their audit; nobody else waits for a thousand."""
    bulk(client, *[{"type": "echo"}] * 205)
    sizes: list[int] = []
    whole = JobStore.cancel_many

    def counted(store: JobStore, job_ids: Sequence[int], *given: Any) -> Any:
        sizes.append(len(job_ids))
        return whole(store, job_ids, *given)

    monkeypatch.setattr(JobStore, "cancel_many", counted)
    done = act(client, action="cancel", ids=list(range(1, 206)))

    assert sizes == [100, 100, 5]
    assert {one["result"] for one in done["jobs"]} == {"cancelled"}
    assert len(AccessStore(site.bench.app.database).audited(limit=1000)) == 205


def test_jobs_are_found_by_a_filter_and_counted_first(site: Site, client: Client) -> None:
    """Of those that it finds, the ones that can be; a dry run changes nothing."""
    failed = [site.bench.enqueue("fail", project_id="shop") for _ in range(2)]
    other = site.bench.enqueue("fail")
    site.finish(*failed, other)
    pending = site.bench.enqueue("echo", project_id="shop")
    site.bench.app.jobs.retry(other, site.bench.clock.now())
    filtered = {"project_id": "shop"}

    counted = act(client, action="retry", filter=filtered, dry_run=True)
    done = act(client, action="retry", filter=filtered | {"status": ["failed", "pending"]})

    assert counted == {"dry_run": True, "matched": 2, "jobs": []}
    assert [one["id"] for one in done["jobs"]] == failed[::-1]
    assert act(client, action="cancel", filter=filtered | {"status": ["completed"]})["matched"] == 0
    assert [one["id"] for one in act(client, action="cancel", filter={"type": ["echo"]})["jobs"]] == [pending]


def test_an_action_says_on_what(client: Client) -> None:
    """Ids or a filter, and not both; a misspelt condition would be all jobs."""
    for body in (
        {"action": "cancel"},
        {"action": "cancel", "ids": [1], "filter": {}},
        {"action": "cancel", "filter": {"projectid": "shop"}},
        {"action": "delete", "ids": [1]},
        {"action": "cancel", "ids": []},
    ):
        assert client.post("/api/jobs/actions", json=body).status_code == 422, body


def test_a_filter_reaches_no_further_than_the_key(site: Site) -> None:
    """All jobs are all of its projects."""
    mine, theirs = site.bench.enqueue("echo", project_id="blog"), site.bench.enqueue("echo", project_id="shop")
    client = site.with_key(Role.OPERATOR, "blog")

    done = act(client, action="cancel", filter={})
    told = act(client, action="cancel", ids=[theirs])

    assert [one["id"] for one in done["jobs"]] == [mine]
    assert "no job" in told["jobs"][0]["error"]
    assert site.bench.state(theirs) == JobState.PENDING
