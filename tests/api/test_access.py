"""Who may do what: the table is made from the routes themselves, so that a new route cannot be forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from runner.api.application import application
from runner.domain.access import Role
from runner.domain.access_rows import ApiKey
from runner.domain.errors import DatabaseUnavailable, NotAllowed, UsageError
from runner.http.callers import Needed
from runner.http.guard import PUBLIC, allowed_hosts
from runner.http.keyring import TRUSTED, require_keys
from runner.http.limits import Buckets, Places
from runner.http.problems import Refused
from runner.serving import key_ring
from runner.storage.access import AccessStore
from tests.api.site import HERE, Client, Site, made_site, pass_time, ring_of
from tests.engine.bench import on
from tests.factories import NOW

OWN = {"type": "echo", "project_id": "shop"}
BODIES: dict[str, Any] = {  # of the routes that want one
    "create": OWN,
    "bulk": {"jobs": [OWN]},
    "act": {"action": "retry", "ids": [1]},
    "plan": {"source": "version: 1"},
    "backfill": {"from": "2026-03-01T00:00:00Z", "to": "2026-03-01T00:10:00Z"},
}


class Entry(NamedTuple):
    method: str
    route: APIRoute
    needed: Needed

    @property
    def is_public(self) -> bool:
        return self.route.path in PUBLIC

    def url(self, job_id: int = 1, schedule: str = "shopping") -> str:
        return self.route.path_format.format(job_id=job_id, name=schedule)


def needed_by(route: APIRoute) -> list[Needed]:
    return [one.call for one in route.dependant.dependencies if isinstance(one.call, Needed)]


def routes(app: FastAPI) -> Iterator[Entry]:
    for route in _all(app.routes):
        for method in sorted(route.methods or ()):
            yield Entry(method, route, needed_by(route)[0])


def _all(found: Any) -> Iterator[APIRoute]:
    for route in found:
        if isinstance(route, APIRoute):
            yield route
        else:
            yield from _all(getattr(getattr(route, "original_router", None), "routes", ()))


TABLE = list(routes(application(None, "0")))  # type: ignore[arg-type]
NAMES = [f"{one.method} {one.route.path}" for one in TABLE]
every_route = pytest.mark.parametrize("entry", TABLE, ids=NAMES)


def ask(client: Client, entry: Entry, url: str | None = None) -> Any:
    return client.request(entry.method, url or entry.url(), json=BODIES.get(entry.route.name))


def end(site: Site, job_id: int) -> None:
    """The stream of a job that has ended ends too."""
    site.bench.app.jobs.cancel(job_id, NOW)


def test_the_table_is_of_all_routes() -> None:
    """Each says what it needs, once."""
    assert len(TABLE) >= 12
    assert all(len(needed_by(one.route)) == 1 for one in TABLE)
    assert {one.route.path for one in TABLE} >= PUBLIC


@every_route
def test_without_a_key_nothing_is_answered(site: Site, entry: Entry) -> None:
    """Once there is a key. Supervisors are answered, and told nothing else."""
    site.key()
    answer = ask(site.client(), entry)
    if entry.is_public:
        assert answer.status_code == 200
        assert set(answer.json()) == {"status"}
        return
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["content-type"] == "application/problem+json"


@every_route
def test_a_role_may_do_what_it_may(site: Site, entry: Entry) -> None:
    """And nothing more: what changes something needs more than a viewer's key."""
    end(site, site.bench.enqueue("echo", project_id="shop"))
    for role in Role:
        answer = ask(site.with_key(role), entry)
        assert (answer.status_code == 403) is (not role.may(entry.needed.role)), (role, answer.text)
        assert answer.status_code not in (401, 500), answer.text
    if entry.method not in ("GET", "HEAD"):
        assert entry.needed.role is not Role.VIEWER


@every_route
def test_what_belongs_to_another_project_is_not_there(site: Site, entry: Entry) -> None:
    """For a key bound to one: neither read nor touched, whichever the route. What belongs to none is refused."""
    theirs = site.bench.enqueue("echo", {"value": "of the shop"}, project_id="shop")
    site.bench.enqueue("echo", {"value": "of nobody"})
    end(site, theirs)
    before = site.bench.job(theirs), site.bench.app.schedules.get("shopping")

    answer = ask(site.with_key(Role.ADMIN, "blog"), entry)

    named = "job_id" in entry.route.path or "name" in entry.route.param_convertors or "{name}" in entry.route.path
    if not entry.needed.bound:
        assert answer.status_code == 403
    elif named:
        assert answer.status_code == 404, answer.text
    assert "of the shop" not in answer.text
    assert "of nobody" not in answer.text
    assert "shopping" not in answer.text.replace("no schedule 'shopping'", "")
    assert (site.bench.job(theirs), site.bench.app.schedules.get("shopping")) == before


def test_a_key_of_a_project_makes_jobs_of_it_alone(site: Site) -> None:
    """Its project is taken where none is named; another is refused."""
    client = site.with_key(Role.OPERATOR, "blog")
    made = client.post("/api/jobs", json={"type": "echo"})
    refused = client.post("/api/jobs", json=OWN)
    among = client.post("/api/jobs/bulk", json={"jobs": [{"type": "echo"}, OWN]})

    assert site.bench.job(made.json()["id"]).project_id == "blog"
    assert (refused.status_code, among.status_code) == (403, 403)
    assert client.get("/api/jobs").json()["total"] == 1
    assert client.get("/api/jobs", params={"project_id": "shop"}).json()["total"] == 0


def test_a_key_of_two_projects_names_one(site: Site) -> None:
    """Which it is cannot be guessed."""
    client = site.with_key(Role.OPERATOR, "blog", "shop")
    assert client.post("/api/jobs", json={"type": "echo"}).status_code == 403
    assert client.post("/api/jobs", json=OWN).status_code == 201


@pytest.mark.parametrize("given", ["Bearer nonsense", "Bearer", "Basic abc", "Bearer rk_000000000000_" + "x" * 43, ""])
def test_what_is_no_key_is_401(site: Site, given: str) -> None:
    """Whatever it looks like."""
    site.key()
    assert site.client({"Authorization": given}).get("/api/jobs").status_code == 401


def test_a_revoked_key_is_refused_within_a_second(site: Site) -> None:
    """And where the last was revoked, nothing is open again."""
    client = site.with_key()
    assert client.get("/api/jobs").status_code == 200
    store = AccessStore(site.bench.app.database)
    store.revoke(store.keys()[0].id, NOW)
    pass_time(site, TRUSTED)

    assert client.get("/api/jobs").status_code == 401
    assert site.client().get("/api/jobs").status_code == 401


def test_keys_are_not_read_at_each_request(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a second at most, and only where something was committed; an unknown key is looked for at once."""
    client, read = site.with_key(), []
    keys = AccessStore.keys
    monkeypatch.setattr(AccessStore, "keys", lambda *given, **named: (read.append(1), keys(*given, **named))[1])
    ring_of(site)._clock = lambda: 0.0
    assert {client.get("/api/jobs").status_code for _ in range(5)} == {200}
    assert len(read) == 1
    assert site.client().get("/api/jobs").status_code == 401
    assert len(read) == 1
    assert site.with_key().get("/api/jobs").status_code == 200
    assert len(read) == 2


def test_keys_that_could_not_be_read_are_read_at_the_next_request(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not taken for known because the database was away as they were asked for."""
    client = site.with_key()
    with monkeypatch.context() as broken:
        broken.setattr(AccessStore, "keys", _away)
        assert client.get("/api/jobs").status_code == 503
    assert client.get("/api/jobs").status_code == 200


def _away(*_: object, **__: object) -> list[ApiKey]:
    raise DatabaseUnavailable("the server closed the connection")


def test_the_last_use_of_a_key_is_kept_to_a_minute(site: Site) -> None:
    """Not written at each request."""
    client, store = site.with_key(), AccessStore(site.bench.app.database)
    client.get("/api/jobs")
    assert store.keys()[0].last_used_at == NOW
    site.bench.clock.time = NOW + timedelta(seconds=59)
    client.get("/api/jobs")
    assert store.keys()[0].last_used_at == NOW
    site.bench.clock.time = NOW + timedelta(seconds=61)
    client.get("/api/jobs")
    assert store.keys()[0].last_used_at == NOW + timedelta(seconds=61)


def test_the_first_key_comes_from_the_environment(tmp_path: Path) -> None:
    """It is an administrator's; a short one is refused at the start."""
    first = "k" * 40
    with made_site(tmp_path, first) as site:
        assert site.client().get("/api/jobs").status_code == 401
        assert site.client({"Authorization": f"Bearer {first}"}).get("/api/jobs").status_code == 200
        site.bench.app.environ = {"RUNNER_API_KEY": "secret"}
        with pytest.raises(UsageError, match="too short"):
            key_ring(site.bench.app)


def test_an_open_interface_is_for_this_machine(site: Site) -> None:
    """Elsewhere it needs a key, or the word that it shall be so."""
    ring = key_ring(site.bench.app)
    require_keys(ring, "127.0.0.1", insecure=False)
    require_keys(ring, "0.0.0.0", insecure=True)
    with pytest.raises(NotAllowed, match=r"0\.0\.0\.0"):
        require_keys(ring, "0.0.0.0", insecure=False)
    site.key()
    require_keys(ring, "0.0.0.0", insecure=False)


# ---- browsers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 201),
        ({"Sec-Fetch-Site": "same-origin"}, 201),
        ({"Sec-Fetch-Site": "none"}, 201),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": HERE}, 201),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": HERE}, 403),
    ],
)
def test_a_page_of_another_site_changes_nothing(
    site: Site, headers: dict[str, str], status: int
) -> None:  # fmt: skip
    """Browsers say where a request comes from."""
    assert site.client(headers).post("/api/jobs", json={"type": "echo"}).status_code == status
    assert site.client(headers).get("/api/jobs").status_code == 200


@pytest.mark.parametrize(
    ("host", "status"), [("localhost:8080", 200), ("[::1]:8080", 200), ("evil.example", 421), ("", 421)]
)
def test_a_name_that_is_not_ours_is_not_answered(client: Client, host: str, status: int) -> None:
    """So that a page whose name points here cannot read anything."""
    assert client.get("/api/jobs", headers={"Host": host}).status_code == status


def test_names_are_given_where_a_proxy_stands_before_us() -> None:
    """On loopback its own names, elsewhere any, or those that are told."""
    assert "localhost" in allowed_hosts("127.0.0.1", ())
    assert allowed_hosts("0.0.0.0", ()) == {"*"}
    assert "jobs.example" in allowed_hosts("0.0.0.0", ("jobs.example",))
    assert "evil.example" not in allowed_hosts("0.0.0.0", ("jobs.example",))


def test_every_answer_says_how_it_may_be_used(client: Client) -> None:
    """Also errors."""
    for url in ("/api/jobs", "/healthz", "/nowhere"):
        headers = client.get(url).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert headers["cache-control"] == "no-store"


# ---- limits


def test_a_bucket_fills_again() -> None:
    """For each client its own."""
    now = [0.0]
    buckets = Buckets(rate=2, burst=3, clock=lambda: now[0])
    for _ in range(3):
        buckets.take("a")
    with pytest.raises(Refused) as refused:
        buckets.take("a")
    assert (refused.value.status, refused.value.headers["Retry-After"]) == (429, "1")
    buckets.take("b")
    now[0] = 0.5
    buckets.take("a")


def test_places_are_given_back() -> None:
    """So many in all, and of one client."""
    places = Places(most=3, of_one=2)
    places.take("a")
    places.take("a")
    with pytest.raises(Refused, match="of one client"):
        places.take("a")
    places.take("b")
    with pytest.raises(Refused, match="in all"):
        places.take("c")
    places.give_back("a")
    places.take("c")


def test_who_guesses_keys_is_stopped(site: Site) -> None:
    """By address; others go on."""
    key = site.key()
    guesser = site.client({"Authorization": "Bearer guess"}, address="192.0.2.1")
    answers = {guesser.get("/api/jobs").status_code for _ in range(25)}
    assert answers == {401, 429}
    assert site.client({"Authorization": f"Bearer {key}"}, address="192.0.2.2").get("/api/jobs").status_code == 200


# ---- audit


def test_who_cancelled_is_kept(site: Site) -> None:
    """The key, the address, the job; no audit of what was not done."""
    site.bench.enqueue("echo")
    client = site.with_key(Role.OPERATOR)
    client.post("/api/jobs/1/cancel", json={"reason": "wrong"})
    client.post("/api/jobs/1/cancel")

    store = AccessStore(site.bench.app.database)
    (entry,) = store.audited()
    assert (entry.action, entry.target, entry.detail, entry.address) == ("cancel", "job 1", "wrong", "127.0.0.1")
    assert entry.who == f"key {store.keys()[0].id}"


@pytest.mark.parametrize("name", ["sqlite", "postgresql"])
def test_text_that_no_database_keeps_is_no_fault(tmp_path: Path, name: str) -> None:
    """PostgreSQL keeps no NUL: it is refused, in the path and in the query, by both alike."""
    with on(name), made_site(tmp_path) as site:
        end(site, site.bench.enqueue("echo"))
        for entry in TABLE:
            asked = [one.alias for one in entry.route.dependant.query_params]
            urls = [entry.url(schedule="%00")] if "{name}" in entry.route.path else []
            urls += [f"{entry.url(schedule='hourly')}?{one}=%00" for one in asked]
            for url in urls:
                answer = ask(site.client(), entry, url)
                assert answer.status_code < 500, (entry.method, url, answer.text)
