"""A real `serve` behind a real nginx with a path prefix, which buffers what nobody tells it not to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.api.live import Reader
from tests.api.nginx import PREFIX, behind_nginx, installed
from tests.interfaces.test_serve_observed import Service

pytestmark = installed

FILE = """version: 1
job_types:
  tells: {handler: handlers.tells.tells}
"""
HANDLER = """
import time
from pathlib import Path

def tells(ctx, payload):
    ctx.log("one")
    while not Path("go").exists():
        ctx.check()
        time.sleep(0.01)  # between two looks for a file of another process
    ctx.log("two")
"""
SPOOFED, ELSEWHERE = "203.0.113.9", "127.0.0.2"


def start(folder: Path, **environ: str) -> Service:
    (folder / "handlers").mkdir(parents=True)
    (folder / "handlers" / "__init__.py").touch()
    (folder / "handlers" / "tells.py").write_text(HANDLER, encoding="utf-8")
    (folder / "schedules.yaml").write_text(FILE, encoding="utf-8")
    settings = {"RUNNER_HTTP": "on", "RUNNER_ROOT_PATH": PREFIX, "RUNNER_SHUTDOWN_GRACE": "1s"}
    return Service(folder, "--port", "0", **settings | environ)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = start(tmp_path / "trusting", RUNNER_TRUSTED_PROXIES="127.0.0.1")
    yield made
    made.stop()


@pytest.fixture
def url(service: Service) -> Iterator[str]:
    with behind_nginx(service.told("serving")["address"]) as found:
        yield found


def test_events_arrive_as_they_happen(service: Service, url: str) -> None:
    """Not when the buffer is full, nor when the job has ended."""
    made = httpx.post(f"{url}/api/jobs", json={"type": "tells"})
    assert made.headers["location"] == f"{PREFIX}/api/jobs/1"
    reader = Reader(f"{url}/api/jobs/1/events")
    reader.await_event("log", lambda line: line["message"] == "one")
    assert httpx.get(f"{url}/api/jobs/1").json()["status"] == "running"
    (service.folder / "go").touch()
    reader.join()
    assert [line["message"] for line in reader.of("log")] == ["one", "two"]
    assert reader.names[-1] == "end"


def test_processing_tells_as_it_goes(service: Service, url: str) -> None:
    """Its first line is there while it lasts."""
    httpx.post(f"{url}/api/jobs", json={"type": "tells"})
    with httpx.stream("GET", f"{url}/api/jobs/process", params={"beat": 0.1}, timeout=30) as answer:
        lines = answer.iter_lines()
        assert [json.loads(next(lines))["event"] for _ in range(3)] == ["started", "heartbeat", "heartbeat"]
        (service.folder / "go").touch()
        assert [json.loads(line)["event"] for line in lines][-1] == "summary"


def test_every_address_has_the_prefix(url: str) -> None:
    """Those of links, forms, files, redirects, cookies, and of the servers in the OpenAPI document."""
    with httpx.Client(timeout=30) as client:
        assert client.get(f"{url}/api/openapi.json").json()["servers"] == [{"url": PREFIX}]
        for path in ("/", "/jobs", "/jobs/new", "/zone"):
            text = client.get(f"{url}{path}").raise_for_status().text
            found = [
                part.partition('"')[0] for word in ('href="/', 'src="/', 'action="/') for part in text.split(word)[1:]
            ]
            assert found, path
            assert all(one.startswith(PREFIX[1:]) for one in found), found
        style = next(one for one in found if "/static/" in one)
        assert client.get(f"{url.removesuffix(PREFIX)}/{style}").status_code == 200
        chosen = client.post(f"{url}/sign-in/zone", data={"zone": "Europe/Berlin", "next": "/jobs"})
        assert (chosen.status_code, chosen.headers["location"]) == (303, f"{PREFIX}/jobs")
        assert f"Path={PREFIX}" in chosen.headers["set-cookie"]
        assert client.get(f"{url}/nowhere").status_code == 404


def test_a_proxy_may_leave_the_prefix_there(service: Service) -> None:
    """As the ingress of Kubernetes does, and Traefik."""
    with behind_nginx(service.told("serving")["address"], strips=False) as url:
        assert httpx.get(f"{url}/healthz").status_code == 200
        assert httpx.get(f"{url}/api/jobs").status_code == 200
        assert f'href="{PREFIX}/jobs' in httpx.get(f"{url}/").text


def test_a_page_of_another_site_is_refused_there_too(url: str) -> None:
    """The name that the browser sees is the one that we are told."""
    ours = url.removesuffix(PREFIX)
    for origin, status in ((ours, 201), ("http://evil.example", 403), (f"{ours}0", 403)):
        assert httpx.post(f"{url}/api/jobs", json={"type": "tells"}, headers={"Origin": origin}).status_code == status


def test_the_address_of_a_client_is_what_our_proxy_says(service: Service, url: str) -> None:
    """And not what the client says that another one said: whoever cancels is audited, and counted, by his own."""
    made = httpx.post(f"{url}/api/jobs", json={"type": "tells"}).json()
    assert cancelled_from(url, made["id"]) == ELSEWHERE
    direct = service.told("serving")["address"]
    again = httpx.post(f"{direct}/api/jobs", json={"type": "tells"}).json()
    assert cancelled_from(direct, again["id"]) == ELSEWHERE


def test_nobody_is_believed_where_nobody_is_trusted(tmp_path: Path) -> None:
    """The address is that of the connection, whatever is said."""
    service = start(tmp_path / "alone")
    try:
        url = service.told("serving")["address"]
        made = httpx.post(f"{url}/api/jobs", json={"type": "tells"}).json()
        assert cancelled_from(url, made["id"]) == ELSEWHERE
        with behind_nginx(url) as proxied:
            again = httpx.post(f"{proxied}/api/jobs", json={"type": "tells"}).json()
            assert cancelled_from(proxied, again["id"]) == "127.0.0.1"
    finally:
        service.stop()


def cancelled_from(url: str, job: int) -> str:
    """The address in the audit log of a cancel by a client who lies about his."""
    with httpx.Client(transport=httpx.HTTPTransport(local_address=ELSEWHERE), timeout=30) as client:
        answer = client.post(f"{url}/api/jobs/{job}/cancel", headers={"X-Forwarded-For": SPOOFED})
        assert answer.status_code in (200, 202)
        return str(client.get(f"{url}/api/audit").json()["entries"][0]["address"])
