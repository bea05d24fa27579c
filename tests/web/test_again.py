"""A job once more, with a payload that was edited: what is covered stays covered, and is never taken for a value."""

from __future__ import annotations

import json
import re
from html import unescape
from typing import Any

import pytest

from runner.domain.access import Role
from runner.domain.errors import PayloadInvalid
from runner.http.masking import MASK, masked
from runner.storage.access import AccessStore
from runner.web.again import uncovered
from tests.api.site import Client, Site
from tests.engine.bench import kind
from tests.web.test_new import GIVEN, NESTED
from tests.web.test_session import signed_in

LOGIN: dict[str, Any] = {
    "required": ["url"],
    "properties": {
        "url": {"type": "string"},
        "api_key": {"type": "string"},
        "max_tokens": {"type": "integer"},
        "token_kind": {"enum": ["bearer", "basic"]},
        "login": {"type": "object", "properties": {"user": {"type": "string"}, "password": {"type": "string"}}},
    },
}
SECRET = {"url": "a", "max_tokens": 7, "token_kind": "bearer", "login": {"user": "ann", "password": "hunter2"}}


def sent(page: str) -> dict[str, list[str]]:
    """What a browser would send of the form as it is shown."""
    form = page.partition('class="card form"')[2].partition("</form>")[0]
    given: dict[str, list[str]] = {}
    for tag in re.findall(r"<input[^>]*>", form):
        found = dict(re.findall(r'(\w+)="([^"]*)"', tag))
        if found.get("type") != "checkbox" or " checked" in tag:
            given.setdefault(found["name"], []).append(unescape(found.get("value", "")))
    for name, text in re.findall(r'<textarea[^>]*name="([^"]*)"[^>]*>\n?([^<]*)</textarea>', form):
        given[name] = [unescape(text)]
    for name, options in re.findall(r'<select[^>]*name="([^"]*)"[^>]*>(.*?)</select>', form, re.DOTALL):
        chosen = re.search(r'<option(?: value="([^"]*)")? selected>([^<]*)', options)
        given[name] = [unescape(chosen[1] or chosen[2]) if chosen else ""]
    return given


@pytest.fixture
def types(site: Site) -> None:
    site.bench.define(
        kind("nested", "echo", payload_schema=NESTED), kind("login", "echo", payload_schema=LOGIN), kind("echo")
    )


@pytest.mark.usefixtures("types")
def test_the_form_is_filled_with_the_payload_of_the_job(site: Site, browser: Client) -> None:
    """Sent as it is shown it makes the same payload; edited, the edited one; its page leads there."""
    browser.post("/jobs/new?type=nested", data=GIVEN)
    site.finish(1)
    assert 'href="/jobs/new?from=1"' in browser.get("/jobs/1").text
    page = browser.get("/jobs/new?from=1").text
    assert "Run job 1 again" in page

    assert browser.post("/jobs/new?type=nested", data=sent(page)).headers["location"] == "/jobs/2"
    edited = sent(page) | {"payload.title": ["B"], "once": ["b"]}
    assert browser.post("/jobs/new?type=nested", data=edited).headers["location"] == "/jobs/3"

    assert site.bench.job(2).payload == site.bench.job(1).payload
    assert site.bench.job(3).payload == site.bench.job(1).payload | {"title": "B"}
    audited = [(one.action, one.target, one.detail) for one in AccessStore(site.bench.app.database).audited()]
    assert audited[0] == ("run again", "job 1", "as job 3")

    assert browser.post("/jobs/new?type=nested", data=edited).headers["location"] == "/jobs/3"
    assert len(AccessStore(site.bench.app.database).audited()) == len(audited), "sent twice, done once"


@pytest.mark.usefixtures("types")
def test_secrets_are_used_again_and_not_shown(site: Site, browser: Client) -> None:
    """Unless another is written; what is cleared is left out; the text that covers is never a value."""
    site.bench.enqueue("login", SECRET)
    page = browser.get("/jobs/new?from=1").text
    assert "hunter2" not in page
    given = sent(page)
    assert given["payload.login.password"] == [MASK]
    for number, (changed, expected) in enumerate(
        [
            ({}, SECRET),
            ({"payload.login.password": "new"}, SECRET | {"login": {"user": "ann", "password": "new"}}),
            ({"payload.login.password": ""}, SECRET | {"login": {"user": "ann"}}),
            ({"payload.url": "b", "payload.max_tokens": "8"}, SECRET | {"url": "b", "max_tokens": 8}),
        ]
    ):
        answer = browser.post("/jobs/new?type=login", data=given | changed | {"once": str(number)})
        made = int(answer.headers["location"].removeprefix("/jobs/"))
        assert site.bench.job(made).payload == expected

    refused = browser.post("/jobs/new?type=login", data=given | {"payload.url": MASK, "once": "x"})
    assert refused.status_code == 422
    assert 'id="f-url-problem-1"' in refused.text
    assert "hunter2" not in refused.text


@pytest.mark.usefixtures("types")
@pytest.mark.parametrize("payload", [{"url": "a", "more": 1}, {"url": "a", "login": None}, {"url": 5}, {"url": "a\nb"}])
def test_what_the_controls_cannot_say_is_json(site: Site, browser: Client, payload: dict[str, Any]) -> None:
    """Nothing of a payload is lost because the schema of its type was another one."""
    site.bench.enqueue("login", payload | {"api_key": "hunter2"})
    page = browser.get("/jobs/new?from=1").text
    given = sent(page)
    assert json.loads(given["payload"][0]) == payload | {"api_key": MASK}
    edited = {"url": "b", "api_key": MASK}
    answer = browser.post("/jobs/new?type=login", data=given | {"payload": json.dumps(edited)})
    assert answer.headers["location"] == "/jobs/2", answer.text
    assert site.bench.job(2).payload == edited | {"api_key": "hunter2"}


@pytest.mark.usefixtures("types")
def test_only_who_sees_the_job_may_use_what_it_holds(site: Site) -> None:
    """Neither the form nor its sending reaches the job of another project; a viewer is not asked; types must fit."""
    site.bench.enqueue("login", SECRET, project_id="shop")
    stranger, owner = signed_in(site, Role.OPERATOR, "blog"), signed_in(site, Role.OPERATOR, "shop")
    given = {"from": "1", "payload.url": "http://evil.example", "payload.login.password": MASK}
    assert stranger.get("/jobs/new?from=1").status_code == 404
    assert stranger.post("/jobs/new?type=login", data=given).status_code == 404
    assert signed_in(site, Role.VIEWER).get("/jobs/new?from=1").status_code == 403
    assert owner.post("/jobs/new?type=echo", data={"from": "1", "payload": "{}"}).status_code == 422
    assert owner.post("/jobs/new?type=login", data=given | {"from": "x"}).status_code == 404
    assert owner.post("/jobs/new?type=login", data=given).headers["location"] == "/jobs/2"
    assert site.bench.job(2).project_id == "shop"


KEPT = {"a": {"token": "t"}, "list": [{"user": "ann", "password": "1"}, {"user": "bob", "password": "2"}], "x": [MASK]}


def test_an_item_of_a_list_is_known_by_what_is_seen_of_it() -> None:
    """Whichever place it has now: no secret goes to another's item."""
    hidden = masked(KEPT)
    assert uncovered(hidden, KEPT) == KEPT
    turned = hidden | {"list": hidden["list"][::-1]}
    assert uncovered(turned, KEPT)["list"] == KEPT["list"][::-1]
    less = hidden | {"list": hidden["list"][1:]}
    assert uncovered(less, KEPT)["list"] == KEPT["list"][1:]
    assert uncovered({"a": {"token": "new"}}, KEPT) == {"a": {"token": "new"}}


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"list": [{"user": "eve", "password": MASK}]}, "list[0].password"),
        ({"b": {"token": MASK}}, "b.token"),
        ({"a": MASK}, "a"),
        ({"a": {"name": MASK}}, "a.name"),
        ({"list": [MASK]}, "list[0]"),
    ],
)
def test_what_covers_is_no_value(given: dict[str, Any], place: str) -> None:
    """Where the job has nothing that is covered."""
    with pytest.raises(PayloadInvalid) as error:
        uncovered(given, KEPT)
    assert [one.path for one in error.value.problems] == [place]


def test_items_that_look_alike_are_not_guessed() -> None:
    """Where one of two was moved, its secret could be either's."""
    kept = {"list": [{"password": "1"}, {"x": 1}, {"password": "2"}]}
    with pytest.raises(PayloadInvalid):
        uncovered({"list": [{"x": 1}, {"password": MASK}]}, kept)
