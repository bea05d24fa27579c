"""Who sees pages: a signed session that stands for a key, and nothing where there is none."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from fastapi import FastAPI

from runner.domain.access import Role
from runner.http.guard import OPEN
from runner.http.keyring import TRUSTED
from runner.http.sessions import COOKIE, LASTS
from runner.storage.access import AccessStore
from runner.web.application import add_pages
from tests.api.site import HERE, Client, Site, pass_time
from tests.api.test_access import Entry, needed_by, routes
from tests.factories import NOW
from tests.web.conftest import BROWSER


def table() -> list[Entry]:
    app = FastAPI()
    add_pages(app, None)  # type: ignore[arg-type]
    return [one for one in routes(app) if one.route.path.startswith(tuple("/"))]


TABLE = [one for one in table() if not one.route.path.startswith(("/openapi", "/docs", "/redoc"))]
every_page = pytest.mark.parametrize("entry", TABLE, ids=[f"{one.method} {one.route.path}" for one in TABLE])


def signed_in(site: Site, role: Role = Role.OPERATOR, *projects: str) -> Client:
    answer = site.client(BROWSER).post("/sign-in", data={"key": site.key(role, *projects)})
    assert answer.status_code == 303, answer.text
    return site.client(BROWSER | {"Cookie": answer.headers["set-cookie"].partition(";")[0]})


def address(entry: Entry) -> str:
    is_schedule = entry.route.path.startswith("/schedules/")
    return entry.route.path_format.format(job_id=1, name="shopping" if is_schedule else "page")


@every_page
def test_a_page_needs_a_session_once_there_is_a_key(site: Site, entry: Entry) -> None:
    """A browser is led to where it can show a key; what changes something is refused."""
    site.key()
    answer = site.client(BROWSER).request(entry.method, address(entry))
    assert len(needed_by(entry.route)) == 1
    if address(entry).startswith(OPEN):
        assert answer.status_code in (200, 303, 401, 404)
    elif entry.method == "GET":
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/sign-in?next=")
    else:
        assert answer.status_code == 401


@every_page
def test_a_page_shows_only_what_the_key_may_see(site: Site, entry: Entry) -> None:
    """A job or a schedule of another project is not there, whatever is asked of it; a viewer changes nothing."""
    site.bench.enqueue("echo", {"value": "of the shop"}, project_id="shop")
    before = site.bench.job(1), site.bench.app.schedules.get("shopping")
    answer = signed_in(site, Role.ADMIN, "blog").request(entry.method, address(entry))
    assert "of the shop" not in answer.text
    assert answer.status_code != 200 or "shopping" not in answer.text
    if "{job_id}" in entry.route.path or entry.route.path.startswith("/schedules/"):
        assert answer.status_code == 404
    watched = signed_in(site, Role.VIEWER).request(entry.method, address(entry))
    if entry.needed.role is not Role.VIEWER:
        assert watched.status_code == 403
    assert (site.bench.job(1), site.bench.app.schedules.get("shopping")) == before


def test_a_session_is_of_its_key_and_its_time(site: Site) -> None:
    """HttpOnly, SameSite=Lax; it ends after seven days, and within a second where the key is revoked."""
    answer = site.client(BROWSER).post("/sign-in", data={"key": site.key(Role.VIEWER), "next": "/jobs/1"})
    said = answer.headers["set-cookie"]
    assert answer.headers["location"] == "/jobs/1"
    assert f"Max-Age={int(LASTS.total_seconds())}; Path=/; SameSite=lax" in said.replace("HttpOnly; ", "")
    assert "HttpOnly" in said
    client = site.client(BROWSER | {"Cookie": said.partition(";")[0]})
    assert client.get("/zone").status_code == 200
    assert client.get("/api/jobs").status_code == 200

    site.bench.clock.time = NOW + LASTS - timedelta(seconds=1)
    assert client.get("/api/jobs").status_code == 200
    site.bench.clock.time = NOW + LASTS
    assert client.get("/api/jobs").status_code == 401

    site.bench.clock.time = NOW
    store = AccessStore(site.bench.app.database)
    store.revoke(store.keys()[0].id, NOW)
    pass_time(site, TRUSTED)
    assert client.get("/api/jobs").status_code == 401


@pytest.mark.parametrize("change", [lambda text: text[:-1], lambda text: text.replace(".1", ".2"), lambda text: "x"])
def test_a_session_cannot_be_made_up(site: Site, change: Any) -> None:
    """A changed letter, a later end, nonsense: as none."""
    client = signed_in(site)
    name, _, value = client.headers["Cookie"].partition("=")
    forged = change(value)
    assert forged != value
    assert site.client({"Cookie": f"{name}={forged}"}).get("/api/jobs").status_code == 401


def test_cookies_of_others_do_not_matter(site: Site) -> None:
    """Whatever another server of this machine has set."""
    mine = signed_in(site).headers["Cookie"]
    client = site.client(BROWSER | {"Cookie": f'odd{{"name"=1; broken; {mine}; x="'})
    assert client.get("/jobs").status_code == 200


def test_who_guesses_at_the_form_is_stopped(site: Site) -> None:
    """As at every door; and the page says why."""
    site.key()
    client = site.client(BROWSER)
    answers = [client.post("/sign-in", data={"key": "guess"}) for _ in range(25)]
    assert {one.status_code for one in answers} == {401, 429}
    assert "unknown or was revoked" in answers[0].text


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Sec-Fetch-Site": "same-origin"}, 303), ({"Origin": HERE}, 303), ({"Sec-Fetch-Site": "cross-site"}, 403),
     ({"Origin": "null"}, 403), ({}, 403)],
)  # fmt: skip
def test_another_site_cannot_use_a_session(site: Site, headers: dict[str, str], status: int) -> None:
    """What a browser sends says where it comes from; where that is missing, a session is worth nothing."""
    job_id = site.bench.enqueue("echo")
    cookie = {"Cookie": signed_in(site).headers["Cookie"]}
    assert site.client(cookie | headers).post(f"/jobs/{job_id}/cancel").status_code == status


@pytest.mark.parametrize("asked", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)"])
def test_signing_in_leads_to_our_own_pages(site: Site, asked: str) -> None:
    """And nowhere else."""
    answer = site.client(BROWSER).post("/sign-in", data={"key": site.key(), "next": asked})
    assert answer.headers["location"] == "/"


def test_signing_out_forgets(site: Site) -> None:
    """The browser is told to drop the cookie."""
    answer = signed_in(site).post("/sign-in/end")
    assert f'{COOKIE}=""; ' in answer.headers["set-cookie"]
    assert "Max-Age=0" in answer.headers["set-cookie"]


def test_the_zone_is_chosen_and_shown(site: Site, browser: Client) -> None:
    """In every page; an unknown one is as none."""
    site.bench.enqueue("echo")
    chosen = browser.post("/sign-in/zone", data={"zone": "Europe/Berlin", "next": "/jobs/1"}).headers["set-cookie"]
    berlin = site.client(BROWSER | {"Cookie": chosen.partition(";")[0]}).get("/jobs/1").text
    assert "Times in Europe/Berlin" in berlin
    assert f"{NOW:%Y-%m-%d} 13:00:00" in berlin
    assert "Times in UTC" in browser.get("/jobs/1").text
    assert "Times in UTC" in site.client(BROWSER | {"Cookie": "runner_zone=<b>"}).get("/jobs/1").text
