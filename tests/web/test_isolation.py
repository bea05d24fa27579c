"""Who reaches what, of the API and of the pages: a table made from all their routes, so that none is forgotten."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest

from runner.domain.access import Role
from runner.http.guard import OPEN, PUBLIC
from runner.http.keyring import TRUSTED
from runner.http.shares import COOKIE
from runner.storage.access import AccessStore
from tests.api.site import Client, Site, pass_time
from tests.api.test_access import BODIES, TABLE, Entry
from tests.factories import NOW
from tests.web.conftest import BROWSER
from tests.web.test_session import TABLE as PAGES
from tests.web.test_session import signed_in
from tests.web.test_status import log, show

EVERY = [*TABLE, *PAGES]
SHARED = {
    "/jobs/{job_id}", "/jobs/{job_id}/log.txt", "/jobs/{job_id}/output", "/jobs/{job_id}/output/{name:path}",
    "/api/jobs/{job_id:int}", "/api/jobs/{job_id:int}/events", "/api/jobs/{job_id:int}/logs",
    "/api/jobs/{job_id:int}/outputs/{name:path}",
}  # fmt: skip
REFUSED = {401, 403, 404}
FORMS: dict[str, dict[str, Any]] = {  # of the pages that act on what a form names
    "/jobs/act": {"action": "retry", "id": "1"},
    "/jobs/new": {"payload": "{}"},
    "/jobs/{job_id}/share": {"lasts": "1 hour"},
}


def is_open(entry: Entry) -> bool:
    """Answered to nobody in particular."""
    return entry.route.path in PUBLIC or entry.route.path.startswith(OPEN)


def is_shared(entry: Entry) -> bool:
    return entry.method in ("GET", "HEAD") and entry.route.path in SHARED


def ask(client: Client, entry: Entry, job_id: int = 1, query: str = "") -> Any:
    url = entry.route.path_format.format(job_id=job_id, name="page" if "job_id" in entry.route.path else "shopping")
    if entry.route.path.startswith("/api/"):
        return client.request(entry.method, url + query, json=BODIES.get(entry.route.name))
    return client.request(entry.method, url + query, data=FORMS.get(entry.route.path))


def table(client: Client, job_id: int = 1) -> dict[str, tuple[Entry, Any]]:
    """What each route answers."""
    return {f"{one.method} {one.route.path}": (one, ask(client, one, job_id)) for one in EVERY}


def wrong(answers: Mapping[str, tuple[Entry, Any]], is_right: Callable[[Entry, Any], bool]) -> dict[str, int]:
    return {name: answer.status_code for name, (entry, answer) in answers.items() if not is_right(entry, answer)}


def holds(answers: Mapping[str, tuple[Entry, Any]], *words: str) -> list[str]:
    """The routes whose answers have one of these words."""
    return [name for name, (_, answer) in answers.items() if any(word in answer.text for word in words)]


def state(site: Site) -> tuple[Any, ...]:
    """All that a route may have changed."""
    return (
        [site.bench.job(one) for one in (1, 2)],
        site.bench.app.schedules.get("shopping"),
        site.bench.app.jobs.counts(),
    )


@pytest.fixture
def theirs(site: Site) -> None:
    """Two jobs of a project that have ended and have shown something."""
    for value in ("of the shop", "of the other"):
        job = site.bench.enqueue("echo", {"value": value, "password": "hunter2"}, project_id="shop")
        log(site, job, f"a line {value}")
        show(site, job, "page", "text/html", f"<p>{value}")
    site.finish(1, 2)


def link_to(site: Site, job_id: int = 1, lasts: str = "1 day", client: Client | None = None) -> str:
    """The text of a link that an operator has made on the page."""
    made = (client or signed_in(site, Role.OPERATOR)).post(f"/jobs/{job_id}/share", data={"lasts": lasts})
    assert made.status_code == 200, made.text
    return str(made.text.partition("/shared#")[2].partition('"')[0])


def with_link(site: Site, text: str, way: str) -> Client:
    """As a program and as a browser shows it; or beside the session of somebody of another project."""
    ways: Mapping[str, Mapping[str, str]] = {
        "bearer": {"Authorization": f"Bearer {text}"},
        "cookie": BROWSER | {"Cookie": f"{COOKIE}={text}"},
    }
    if way == "session":
        session = signed_in(site, Role.OPERATOR, "blog").headers["Cookie"]
        return site.client(BROWSER | {"Cookie": f"{session}; {COOKIE}={text}"})
    return site.client(ways[way])


def test_the_table_is_of_the_api_and_the_pages() -> None:
    """And what a link opens is named here, letter by letter."""
    assert len(EVERY) > 50
    assert {one.route.path for one in EVERY if one.needed.shared} == SHARED
    assert all(one.method == "GET" for one in EVERY if one.needed.shared)


@pytest.mark.usefixtures("theirs")
def test_nobody_reaches_nothing(site: Site) -> None:
    """Once there is a key."""
    site.key()
    before = state(site)
    answers = table(site.client({"Sec-Fetch-Site": "same-origin"}))
    assert wrong(answers, lambda entry, answer: answer.status_code == 401 or is_open(entry)) == {}
    assert holds(answers, "of the shop") == []
    assert state(site) == before


@pytest.mark.usefixtures("theirs")
@pytest.mark.parametrize("has_session", [True, False])
def test_a_viewer_changes_nothing(site: Site, has_session: bool) -> None:
    """By a session and by a key."""
    client = signed_in(site, Role.VIEWER) if has_session else site.with_key(Role.VIEWER)
    before = state(site)
    answers = table(client)
    assert (
        wrong(answers, lambda entry, answer: (answer.status_code == 403) is (entry.needed.role is not Role.VIEWER))
        == {}
    )
    assert state(site) == before


@pytest.mark.usefixtures("theirs")
@pytest.mark.parametrize("has_session", [True, False])
def test_an_administrator_of_another_project_finds_nothing(site: Site, has_session: bool) -> None:
    """Neither reads nor touches, also where a filter or a list names it."""
    client = signed_in(site, Role.ADMIN, "blog") if has_session else site.with_key(Role.ADMIN, "blog")
    before = state(site)[:2]
    answers = table(client)
    assert wrong(answers, lambda entry, answer: answer.status_code == 404 or "job_id" not in entry.route.path) == {}
    assert holds(answers, "of the shop", "hunter2") == []
    assert state(site)[:2] == before


@pytest.mark.usefixtures("theirs")
@pytest.mark.parametrize("way", ["bearer", "cookie"])
def test_a_link_shows_its_job_and_nothing_else(site: Site, way: str) -> None:
    """A few routes, of that job alone; what is open to all stays so; secrets are covered."""
    client = with_link(site, link_to(site), way)
    before = state(site)
    own, other, nobodys = table(client), table(client, 2), table(site.client(BROWSER))

    def is_right(entry: Entry, answer: Any) -> bool:
        if is_open(entry):
            return bool(answer.status_code == nobodys[f"{entry.method} {entry.route.path}"][1].status_code)
        return answer.status_code == 200 if is_shared(entry) else answer.status_code in REFUSED

    assert wrong(own, is_right) == {}
    assert wrong(other, lambda entry, answer: answer.status_code in REFUSED or is_open(entry)) == {}
    assert len([name for name, (entry, _) in own.items() if is_shared(entry)]) == len(SHARED)
    assert holds(own | {f"2 {name}": one for name, one in other.items()}, "hunter2", "of the other") == []
    assert state(site) == before


@pytest.mark.usefixtures("theirs")
def test_a_link_beside_a_session_adds_that_job_to_look_at(site: Site) -> None:
    """Not to touch, and nothing else of its project."""
    client = with_link(site, link_to(site), "session")
    before = state(site)[:2]
    own, other = table(client), table(client, 2)
    of_jobs = {name: one for name, one in own.items() if "job_id" in one[0].route.path}
    assert wrong(of_jobs, lambda entry, answer: answer.status_code == (200 if is_shared(entry) else 404)) == {}
    assert wrong(other, lambda entry, answer: answer.status_code == 404 or "job_id" not in entry.route.path) == {}
    assert holds({name: one for name, one in own.items() if name not in of_jobs}, "of the shop", "hunter2") == []
    assert holds(of_jobs, "hunter2", "of the other") == []
    seen = {name: one for name, one in of_jobs.items() if is_shared(one[0])}
    assert holds(seen, "/jobs/1/retry", "/jobs/1/share", "from=1") == []
    assert state(site)[:2] == before


# ---- the link itself


@pytest.mark.usefixtures("theirs")
def test_a_link_ends_by_itself_and_with_its_key(site: Site) -> None:
    """At its time; within a second where the key that made it is revoked."""
    client = signed_in(site, Role.OPERATOR)
    short = with_link(site, link_to(site, lasts="1 hour", client=client), "bearer")
    long = with_link(site, link_to(site, lasts="30 days", client=client), "bearer")
    site.bench.clock.time = NOW + timedelta(hours=1)
    assert short.get("/api/jobs/1").status_code == 401
    assert long.get("/api/jobs/1").status_code == 200

    store = AccessStore(site.bench.app.database)
    store.revoke(store.keys()[0].id, NOW)
    pass_time(site, TRUSTED)

    assert long.get("/api/jobs/1").status_code == 401


@pytest.mark.usefixtures("theirs")
@pytest.mark.parametrize("part", [0, 1, 2, 3])
def test_no_part_of_a_link_can_be_changed(site: Site, part: int) -> None:
    """Neither whose it is, nor the job, nor the end, nor the signature; it is no session, and a session is no link."""
    site.key()
    parts = link_to(site).split(".")
    known = AccessStore(site.bench.app.database).keys()
    others = [one.id for one in known if one.id not in parts[0]]
    last = "0" if parts[3][-1] != "0" else "1"
    parts[part] = (f"rs_{others[0]}", "2", "99999999999", parts[3][:-1] + last)[part]
    changed = ".".join(parts)
    for way in ("bearer", "cookie"):
        client = with_link(site, changed, way)
        assert {client.get(f"/api/jobs/{job}").status_code for job in (1, 2)} == {401}
    assert site.client({"Cookie": f"runner_session={link_to(site)}"}).get("/api/jobs/1").status_code == 401


@pytest.mark.usefixtures("theirs")
def test_a_guest_opens_a_link_and_sees_the_page(site: Site) -> None:
    """A cookie for the addresses of this job says it from there on; the text stands in no address."""
    text = link_to(site)
    guest = site.client(BROWSER)
    assert 'name="link"' in guest.get("/shared").text
    answer = guest.post("/shared", data={"link": f"https://jobs.example/shared#{text}"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/jobs/1")
    cookies = answer.headers.get_list("set-cookie")
    assert [one.partition("Path=")[2].partition(";")[0] for one in cookies] == ["/jobs/1", "/api/jobs/1"]
    assert all("HttpOnly" in one and "SameSite=lax" in one and "Max-Age=86400" in one for one in cookies)

    page = site.client(BROWSER | {"Cookie": cookies[0].partition(";")[0]}).get("/jobs/1").text

    assert "by a link" in page
    for absent in ("Sign out", "/jobs/1/cancel", "/jobs/1/retry", "/jobs/1/share", 'href="/jobs"', "/zone"):
        assert absent not in page


@pytest.mark.usefixtures("theirs")
def test_what_is_no_link_is_told_and_guessers_are_stopped(site: Site) -> None:
    """As wrong keys are."""
    site.key()
    guest = site.client(BROWSER, address="192.0.2.9")
    told = guest.post("/shared", data={"link": "rs_a.1.1.b"})
    assert told.status_code == 401
    assert "has ended" in told.text
    assert {guest.post("/shared", data={"link": "x"}).status_code for _ in range(25)} == {401, 429}


@pytest.mark.usefixtures("theirs")
def test_who_sees_the_job_anyhow_needs_no_link(site: Site) -> None:
    """His session stays what he has there, with all that it may do."""
    text = link_to(site)
    answer = signed_in(site, Role.OPERATOR).post("/shared", data={"link": text})
    assert answer.headers["location"] == "/jobs/1"
    assert "set-cookie" not in answer.headers
    assert "set-cookie" in signed_in(site, Role.OPERATOR, "blog").post("/shared", data={"link": text}).headers


@pytest.mark.usefixtures("theirs")
def test_a_link_has_an_end_and_a_key_behind_it(site: Site, browser: Client) -> None:
    """Where nobody needs a key there is nothing to share; who made one is in the audit log."""
    assert browser.post("/jobs/1/share", data={"lasts": "1 day"}).status_code == 403
    assert "/share" not in browser.get("/jobs/1").text
    client = signed_in(site, Role.OPERATOR)
    assert client.post("/jobs/1/share", data={"lasts": "for ever"}).status_code == 422
    link_to(site, client=client)
    (entry,) = AccessStore(site.bench.app.database).audited()
    assert (entry.action, entry.target) == ("share", "job 1")
    assert entry.detail == "until 2026-03-03T12:00:00+00:00"


@pytest.mark.usefixtures("theirs")
def test_a_link_works_under_the_prefix_of_a_proxy(site: Site) -> None:
    """In the link itself, in what it leads to, and in its cookies."""

    async def behind(scope: dict[str, object], receive: object, send: object) -> None:
        scope |= {"root_path": "/runner", "path": f"/runner{scope['path']}"}
        await site.app(scope, receive, send)  # type: ignore[arg-type]

    owner = Client(behind, signed_in(site, Role.OPERATOR).headers, "127.0.0.1")  # type: ignore[arg-type]
    made = owner.post("/jobs/1/share", data={"lasts": "1 day"}).text
    assert "http://127.0.0.1:8080/runner/shared#rs_" in made
    text = made.partition("/shared#")[2].partition('"')[0]
    answer = Client(behind, dict(BROWSER), "127.0.0.1").post("/shared", data={"link": text})  # type: ignore[arg-type]
    assert answer.headers["location"] == "/runner/jobs/1"
    cookies = answer.headers.get_list("set-cookie")
    assert [one.partition("Path=")[2].partition(";")[0] for one in cookies] == ["/runner/jobs/1", "/runner/api/jobs/1"]
