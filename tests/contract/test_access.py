"""Keys of the interface, the audit log, and requests that may come twice."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy.exc import IntegrityError

from runner.domain.access import Role, key_id_of, new_key
from runner.domain.access_rows import AuditEntry
from runner.domain.errors import Conflict, NotFound
from runner.domain.firing import Decision
from runner.domain.job import JobFilter, JobState
from runner.domain.ledger import SlotOutcome
from runner.domain.outcome import Completed
from runner.storage.access import AccessStore
from runner.storage.database import Database
from runner.storage.idempotency import KEPT, Once, OnceStore
from tests.contract.databases import everything
from tests.factories import (
    DAY,
    HOUR,
    MINUTE,
    NOW,
    Stores,
    end,
    make_definitions,
    make_edit,
    make_new_job,
    make_running,
    make_schedule,
)


@pytest.fixture
def access(database: Database) -> AccessStore:
    return AccessStore(database)


def test_a_key_is_kept_as_its_digest(access: AccessStore, database: Database) -> None:
    """Nothing of its secret part is in any table."""
    key = new_key()
    access.add(key, Role.OPERATOR, ["shop", "blog"], NOW, by="test", note="deploys")

    (row,) = access.keys()

    assert (row.id, row.digest, row.role, row.projects, row.note) == (
        key.key_id, key.digest, "operator", ["shop", "blog"], "deploys",
    )  # fmt: skip
    assert key.text.split("_", 2)[2] not in repr(everything(database))
    assert key_id_of(key.text) == key.key_id


def test_a_revoked_key_is_no_key(access: AccessStore) -> None:
    """It is listed where that is asked for; it cannot be revoked twice."""
    key = new_key()
    access.add(key, Role.VIEWER, None, NOW, by="test")
    access.used({key.key_id: NOW + MINUTE})
    access.revoke(key.key_id, NOW + MINUTE)

    assert access.keys() == []
    (row,) = access.keys(revoked=True)
    assert (row.projects, row.last_used_at, row.revoked_at) == (None, NOW + MINUTE, NOW + MINUTE)
    with pytest.raises(Conflict):
        access.revoke(key.key_id, NOW)
    with pytest.raises(NotFound):
        access.revoke("000000000000", NOW)


def test_what_was_done_is_told_newest_first(access: AccessStore) -> None:
    """Page by page."""
    access.audit([AuditEntry(at=NOW, who="key 1", address="::1", action="pause", target=f"s{n}") for n in range(3)])

    first = access.audited(limit=2)
    rest = access.audited(limit=2, before=first[-1].id)

    assert [one.target for one in first] == ["s2", "s1"]
    assert [(one.target, one.detail) for one in rest] == [("s0", None)]


def entry(target: str, who: str | None = "key 1") -> AuditEntry:
    made = AuditEntry(at=NOW, who="key 1", address="::1", action="act", target=target)
    made.who = who  # type: ignore[assignment]  # None cannot be written
    return made


Act = Callable[[Stores, AuditEntry], object]
ACTS: dict[str, Act] = {
    "cancel": lambda stores, one: stores.jobs.cancel(1, NOW, "why", one),
    "stop": lambda stores, one: stores.jobs.cancel(2, NOW, "why", one),
    "retry": lambda stores, one: stores.jobs.retry(3, NOW, one),
    "pause": lambda stores, one: stores.schedules.pause("hourly", NOW, by="me", reason=None, audit=one),
    "resume": lambda stores, one: stores.schedules.resume("daily", NOW, audit=one),
    "trigger": lambda stores, one: stores.schedules.trigger("hourly", NOW, lambda *_: (make_new_job(), ()), one),
    "backfill": lambda stores, one: stores.schedules.backfill("hourly", [PAST], lambda _: make_new_job(), NOW, one),
}
PAST = Decision(NOW - HOUR, SlotOutcome.ENQUEUED, "backfill", run_at=NOW)


@pytest.fixture
def standing(stores: Stores) -> Stores:
    """Job 1 waits, job 2 runs, job 3 has ended; `daily` is paused."""
    stores.revisions.apply(make_edit(make_definitions(make_schedule("hourly"), make_schedule("daily"))), NOW - DAY)
    stores.jobs.enqueue_many([make_new_job(run_at=NOW + DAY)], NOW)
    assert make_running(stores).id == 2
    end(stores, make_running(stores), Completed(None))
    stores.schedules.pause("daily", NOW, by="me", reason=None)
    return stores


@pytest.mark.parametrize("act", ACTS)
def test_an_act_and_who_did_it_are_there_together(
    standing: Stores, access: AccessStore, database: Database, act: str
) -> None:
    """Or neither: one transaction holds both."""
    before = everything(database)
    with pytest.raises(IntegrityError):
        ACTS[act](standing, entry("it", who=None))
    assert everything(database) == before

    ACTS[act](standing, entry("it"))

    (one,) = access.audited()
    assert (one.who, one.target) == ("key 1", "it")
    (newest,), _ = standing.jobs.find(JobFilter(), limit=1)
    assert one.detail == {"trigger": f"job {newest.id}", "backfill": "1 jobs"}.get(act)
    assert everything(database) != before


def test_what_was_refused_is_not_audited(standing: Stores, access: AccessStore) -> None:
    """Too late, or not there."""
    for act in (
        lambda: standing.jobs.cancel(3, NOW, "why", entry("3")),
        lambda: standing.jobs.retry(1, NOW, entry("1")),
    ):
        with pytest.raises(Conflict):
            act()
    with pytest.raises(NotFound):
        standing.schedules.pause("nope", NOW, by="me", reason=None, audit=entry("nope"))
    assert access.audited() == []


def test_the_audit_log_is_pruned(stores: Stores, access: AccessStore) -> None:
    """The oldest first, a batch at a time; what is younger stays."""
    for age in (3, 2, 1):
        access.audit([entry(f"{age} days").model_copy(update={"at": NOW - age * DAY})])
    assert stores.pruning.audit(NOW - DAY, batch=1) == 1
    assert [one.target for one in access.audited()] == ["1 days", "2 days"]
    assert stores.pruning.audit(NOW - DAY) == 1
    assert stores.pruning.audit(NOW - DAY) == 0
    assert [one.target for one in access.audited()] == ["1 days"]


def test_the_same_request_makes_its_jobs_once(database: Database, stores: Stores) -> None:
    """The second is answered with the jobs of the first, in the state that they are in now."""
    once, other = OnceStore(database), Once.of("a", "k", "body")
    first = once.enqueue(other, [make_new_job(), make_new_job()], NOW)
    stores.jobs.cancel(first[0].id, NOW)

    again = once.enqueue(other, [make_new_job(), make_new_job()], NOW + MINUTE)

    assert [one.id for one in again] == [one.id for one in first]
    assert [(one.status, one.duplicate) for one in again] == [(JobState.CANCELLED, True), (JobState.PENDING, True)]
    assert sum(stores.jobs.counts().values()) == 2


def test_another_body_under_the_same_key_is_a_conflict(database: Database) -> None:
    """And of another caller the same word is another key; after a day it is a new one."""
    once = OnceStore(database)
    once.enqueue(Once.of("a", "k", "body"), [make_new_job()], NOW)

    with pytest.raises(Conflict, match="another body"):
        once.enqueue(Once.of("a", "k", "other"), [make_new_job()], NOW)
    assert not once.enqueue(Once.of("b", "k", "other"), [make_new_job()], NOW)[0].duplicate
    assert not once.enqueue(Once.of("a", "k", "other"), [make_new_job()], NOW + KEPT + MINUTE)[0].duplicate


def test_the_same_request_at_the_same_time_makes_its_jobs_once(database: Database, stores: Stores) -> None:
    """Eight at once: one makes the job, all are told the same."""
    once, together = OnceStore(database), threading.Barrier(8)

    def ask(_: int) -> int:
        together.wait()
        return once.enqueue(Once.of("", "k", "body"), [make_new_job()], NOW)[0].id

    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(ask, range(8)))

    assert len(ids) == 1
    assert sum(stores.jobs.counts().values()) == 1
