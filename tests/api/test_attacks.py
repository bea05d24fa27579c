"""What somebody tries who means harm, on a real server: each is refused, and the others are answered all the while."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from runner.domain.access import Role, new_key
from runner.storage.access import AccessStore
from tests.api.live import served
from tests.engine.bench import DEADLINE, Bench, kind, make_bench

KEY = new_key()
HOST, EVIL = "{host}", "evil.example"
JSON = f"Authorization: Bearer {KEY.text}\r\nContent-Type: application/json\r\n"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = make_bench(tmp_path)
    AccessStore(made.app.database).add(KEY, Role.ADMIN, None, made.clock.now(), by="test")
    yield made
    made.app.close()


def connect(url: str) -> socket.socket:
    found = urlsplit(url)
    return socket.create_connection((found.hostname or "", found.port or 0), timeout=DEADLINE)


def said(url: str, head: str, body: bytes = b"") -> str:
    """All that is answered to these bytes; the lines of the head end as they should."""
    lines = head.replace(HOST, urlsplit(url).netloc).split("\n")
    with connect(url) as sender:
        sender.sendall("".join(f"{line}\r\n" for line in [*lines, "Connection: close", ""]).encode("latin-1") + body)
        answer = b""
        while piece := sender.recv(65_536):
            answer += piece
    return answer.decode("latin-1")


OURS, OPEN = f"Host: {HOST}", f"Host: {HOST}\n{JSON.strip()}".replace("\r\n", "\n")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (f"GET /api/jobs HTTP/1.1\nHost: {EVIL}", 421),
        (f"GET /api/jobs HTTP/1.1\n{OURS}\nHost: {EVIL}", 400),
        ("GET /api/jobs HTTP/1.0", 421),
        (f"GET /api/jobs HTTP/1.1\nHost: localhost@{EVIL}", 421),
        ("GET /api/jobs HTTP/1.1\nHost: [::1", 421),
        (f"GET http://{EVIL}/api/jobs HTTP/1.1\n{OPEN}", 404),
        (f"POST /api/jobs HTTP/1.1\n{OPEN}\nContent-Length: 99999999999", 413),
        (f"POST /api/jobs HTTP/1.1\n{OPEN}\nContent-Length: -1", 400),
        (f"POST /api/jobs HTTP/1.1\n{OPEN}\nContent-Length: {'9' * 5000}", 400),
        (f"GET /static/../application.py HTTP/1.1\n{OPEN}", 404),
        (f"GET /static/..%2f..%2fapplication.py HTTP/1.1\n{OPEN}", 404),
        (f"GET /static/%2e%2e/%2e%2e/%2e%2e/etc/passwd HTTP/1.1\n{OPEN}", 404),
        (f"GET /static/runner.css%00.py HTTP/1.1\n{OPEN}", 404),
        (f"POST /api/schedules/x/pause HTTP/1.1\n{OPEN}\nOrigin: http://{EVIL}", 403),
        (f"POST /api/schedules/x/pause HTTP/1.1\n{OPEN}\nOrigin: http://{HOST}.{EVIL}", 403),
        (f"POST /api/schedules/x/pause HTTP/1.1\n{OPEN}\nOrigin: http://{HOST}@{EVIL}", 403),
        (f"POST /api/schedules/x/pause HTTP/1.1\n{OPEN}\nSec-Fetch-Site: same-site", 403),
        (f"GET /api/jobs/process HTTP/1.1\n{OPEN}\nSec-Fetch-Site: cross-site", 403),
        (f"TRACE /api/jobs HTTP/1.1\n{OPEN}", 405),
        (f"OPTIONS /api/jobs HTTP/1.1\n{OURS}\nOrigin: http://{EVIL}\nAccess-Control-Request-Method: POST", 401),
        (f"GET /api/jobs HTTP/1.1\n{OURS}\nAuthorization: Bearer \xff\xfe", 401),
        (f"GET /api/jobs HTTP/1.1\n{OURS}\nAuthorization: Bearer x\nAuthorization: Bearer {KEY.text}", 401),
        (f"GET /api/jobs HTTP/1.1\n{OURS}\nCookie: runner_session={KEY.key_id}.1999999999.{'0' * 64}", 401),
        (f"GET /api/jobs HTTP/1.1\n{OURS}\nCookie: runner_session={KEY.key_id}.1999999999.\xe9", 401),
        (f"GET /api/jobs HTTP/1.1\n{OURS}\nCookie: runner_session=RUNNER_API_KEY.1999999999.{'0' * 64}", 401),
    ],
)
def test_it_is_refused(bench: Bench, head: str, status: int) -> None:
    """With the status that says why; nobody is let in, and nothing of a browser's other sites is allowed."""
    with served(bench) as url:
        answer = said(url, head)
    assert answer.split()[1] == str(status), answer
    assert "access-control" not in answer.lower()
    assert "set-cookie" not in answer.lower()


@pytest.mark.parametrize("path", ["/api/jobs", "/sign-in", "/nowhere"])
def test_a_body_that_never_ends_is_cut_off(bench: Bench, path: str) -> None:
    """At the limit, though nobody said how long it would be; nor is the rest read where nobody wants it."""
    piece = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
    with served(bench) as url, connect(url) as sender:
        host = f"Host: {urlsplit(url).netloc}\r\n"
        sender.sendall(f"POST {path} HTTP/1.1\r\n{host}{JSON}Transfer-Encoding: chunked\r\n\r\n".encode())
        with pytest.raises(OSError):
            sender.sendall(piece * 2000)


@pytest.mark.parametrize("nested", ["[" * 200_000, '{"a":' * 100_000, '{"type": 1' + "0" * 100_000 + "}"])
def test_what_would_exhaust_the_parser_is_400(bench: Bench, nested: str) -> None:
    """No stack, no traceback."""
    with served(bench) as url:
        headers = {"Authorization": f"Bearer {KEY.text}", "Content-Type": "application/json"}
        answer = httpx.post(f"{url}/api/jobs", content=nested, headers=headers, timeout=DEADLINE)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")


def test_who_sends_slowly_is_not_waited_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither for a head, nor for a body; the others are answered meanwhile, on connections that are kept."""
    monkeypatch.setattr("runner.http.protocol.WHOLE_HEAD", 1.0)
    monkeypatch.setattr("runner.http.body.WHOLE", 0.3)
    key = {"Authorization": f"Bearer {KEY.text}"}
    with served(bench) as url, ExitStack() as stack:
        client = stack.enter_context(httpx.Client(headers=key, timeout=DEADLINE))
        host = f"Host: {urlsplit(url).netloc}\r\n"
        again = stack.enter_context(connect(url))
        again.sendall(f"GET /healthz HTTP/1.1\r\n{host}\r\n".encode())
        answer = b""
        while not answer.endswith(b"}"):
            answer += again.recv(65_536)
        silent, head, body = (stack.enter_context(connect(url)) for _ in range(3))
        head.sendall(b"GET /healthz HT")
        again.sendall(b"GET /healthz HT")
        body.sendall(f"POST /api/jobs HTTP/1.1\r\n{host}{JSON}Content-Length: 100\r\n\r\n{{".encode())
        assert client.get(f"{url}/api/jobs").status_code == 200
        assert [one.recv(65_536) for one in (silent, head, again)] == [b"", b"", b""]
        assert body.recv(65_536).startswith(b"HTTP/1.1 408 ")
        assert client.get(f"{url}/api/jobs").status_code == 200


def test_what_is_asked_comes_back_as_no_header(bench: Bench) -> None:
    """A line break in an address stays in the address; no answer leads away from here."""
    with served(bench) as url:
        for path in ("/jobs/%0d%0aX-Evil:%201", f"//{EVIL}/jobs", f"/jobs?next=%0d%0aSet-Cookie:%20{EVIL}"):
            answer = said(url, f"GET {path} HTTP/1.1\n{OURS}\nAccept: text/html")
            assert "location: /sign-in?next=%2F" in answer
            assert "\r\nX-Evil" not in answer
            assert "\r\nset-cookie" not in answer.lower()
        for following in (f"//{EVIL}", f"https://{EVIL}", f"/\\{EVIL}", "/\r\nSet-Cookie: a=b"):
            sent = httpx.post(f"{url}/sign-in", data={"key": KEY.text, "next": following}, timeout=DEADLINE)
            assert (sent.status_code, sent.headers["location"]) == (303, "/")


@pytest.mark.parametrize(
    "begun",
    ["GET /healthz HTTP/1.1\r\n", "GET /healthz HTTP/1.1\r\nX-Long: ",
     "POST /sign-in HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n",
     "POST /sign-in HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n1;x="],
    ids=["a head", "a line of it", "the lines after a body", "what is said beside a piece"],
)  # fmt: skip
def test_lines_that_never_end_are_cut_off(bench: Bench, begun: str) -> None:
    """Long before they fill the memory, wherever in a request they stand."""
    more = b"x" * 0x8000 if begun.endswith((" ", "=")) else b"X-More: 1\r\n" * 3000
    with served(bench) as url, connect(url) as sender:
        sender.sendall(begun.replace(HOST, urlsplit(url).netloc).encode())
        with pytest.raises(OSError):
            sender.sendall(more * 200)


@pytest.mark.parametrize(
    "head",
    [
        f"CONNECT {EVIL}:443 HTTP/1.1\n{OURS}",
        "GET /healthz HTTP/1.1",
        f"GET /healthz HTTP/2.0\n{OURS}",
        f"POST /api/jobs HTTP/1.1\n{OPEN}\nContent-Length: 2\nTransfer-Encoding: chunked",
        f"POST /api/jobs HTTP/1.1\n{OPEN}\nContent-Length: 2\nContent-Length: 3",
        f"POST /api/jobs HTTP/1.1\n{OPEN}\nTransfer-Encoding : chunked",
    ],
)
def test_what_two_servers_could_read_differently_is_400(bench: Bench, head: str) -> None:
    """A proxy before us and we see the same requests, or none."""
    with served(bench) as url:
        assert said(url, head).split()[1] == "400"


def test_an_offer_of_another_protocol_changes_nothing(bench: Bench) -> None:
    """Some clients make one with every first request: body and all, it is answered as if there had been none."""
    bench.define(kind("echo"))
    body = b'{"type": "echo"}'
    head = f"POST /api/jobs HTTP/1.1\n{OPEN}\nConnection: Upgrade\nUpgrade: h2c\nContent-Length: {len(body)}"
    with served(bench) as url:
        assert said(url, head, body).startswith("HTTP/1.1 201 ")
        assert said(url, f"{head}\nExpect: 100-continue", body).startswith("HTTP/1.1 100 ")
