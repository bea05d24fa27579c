"""rag_sync_news against files and against a real server that misbehaves in every way that servers do."""

from __future__ import annotations

import gzip
import re
import sqlite3
import time
import zlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from handlers.news import NoFeedAvailableError, NoFeedUsableError, sync_news
from runner import JobCancelled, Retry
from tests.interfaces.feed_server import Answer, Exchange, FeedServer, feed_server
from tests.unit.handler_context import RecordingContext, as_context

EXAMPLES = ["examples/feeds/engineering.xml", "examples/feeds/research.xml"]


def rss(*titles: str, encoding: str = "utf-8", text: str = "Text") -> bytes:
    items = "".join(
        f"<item><guid>{title}</guid><title>{title}</title><description>{text}</description></item>" for title in titles
    )
    markup = f'<?xml version="1.0" encoding="{encoding}"?><rss version="2.0"><channel>{items}</channel></rss>'
    return markup.encode(encoding)


def fixed(status: int, body: bytes = b"", **headers: str) -> Answer:
    return lambda exchange: exchange.reply(status, body, **headers)


GOOD = fixed(200, rss("one", "two"), Content_Type="application/rss+xml")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FeedServer]:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with feed_server() as running:
        yield running


@pytest.fixture(autouse=True)
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "content.db"
    monkeypatch.setenv("CONTENT_DATABASE_URL", f"sqlite:///{path}")
    return path


def sync(*feeds: str, **payload: object) -> dict[str, Any]:
    return sync_news(as_context(RecordingContext()), {"feeds": list(feeds), **payload})


def titles(database: Path) -> list[str]:
    connection = sqlite3.connect(database)
    try:
        return [row[0] for row in connection.execute("SELECT title FROM documents ORDER BY id")]
    finally:
        connection.close()


def test_examples(database: Path) -> None:
    """The shipped RSS and Atom feeds are stored with text, links and dates; a second run adds nothing."""
    context = RecordingContext()
    result = sync_news(as_context(context), {"feeds": EXAMPLES})
    assert result == {
        "documents_added": 20,
        "documents_updated": 0,
        "documents_unchanged": 0,
        "feeds": 2,
        "feeds_not_modified": 0,
        "source_ids": [f"feed:{feed}" for feed in EXAMPLES],
        "failed": [],
    }
    assert context.progressed[-1][0] == 100
    assert "12 entries, 12 new" in context.logged_text()
    assert sync(*EXAMPLES)["documents_unchanged"] == 20
    connection = sqlite3.connect(database)
    row = connection.execute("SELECT text, url, published_at FROM documents WHERE title LIKE 'An alert%'").fetchone()
    connection.close()
    assert row[0].startswith("A team counted its alerts")
    assert "<" not in row[0]
    assert row[1:] == ("https://example.org/engineering/quiet-alerts", "2026-05-04 08:00:00.000000")


def test_not_modified(server: FeedServer) -> None:
    """What a server said about its feed is sent back, and its 304 is believed."""

    def conditional(exchange: Exchange) -> None:
        known = (
            exchange.headers["If-None-Match"] == '"v1"'
            and exchange.headers["If-Modified-Since"] == "Mon, 04 May 2026 08:00:00 GMT"
        )
        if known:
            exchange.reply(304)
        else:
            exchange.reply(200, rss("one"), ETag='"v1"', Last_Modified="Mon, 04 May 2026 08:00:00 GMT")

    url = server.on("/feed", conditional)
    assert sync(url)["documents_added"] == 1
    result = sync(url)
    assert (result["feeds_not_modified"], result["documents_unchanged"], result["failed"]) == (1, 0, [])
    assert server.requests[0][1].get("if-none-match") is None


def test_changed_entry(server: FeedServer, database: Path) -> None:
    """An entry that changed is updated in place."""
    url = server.on("/feed", fixed(200, rss("one", text="first")))
    sync(url)
    server.on("/feed", fixed(200, rss("one", "two", text="second")))
    result = sync(url)
    assert (result["documents_added"], result["documents_updated"]) == (1, 1)
    assert titles(database) == ["one", "two"]


def test_validators_are_kept_only_for_what_is_stored(server: FeedServer) -> None:
    """A feed whose body was no feed is asked for in full again, whatever its ETag was."""
    url = server.on(
        "/feed", fixed(200, b"<html><body>Maintenance</body></html>", ETag='"v1"', Content_Type="text/html")
    )
    with pytest.raises(NoFeedUsableError, match="not an RSS or Atom feed"):
        sync(url)
    server.on("/feed", GOOD)
    assert sync(url)["documents_added"] == 2
    assert "if-none-match" not in server.requests[-1][1]


def test_unasked_304(server: FeedServer) -> None:
    """A 304 to a request without conditions is a failure, not an empty success."""
    with pytest.raises(NoFeedAvailableError, match="304"):
        sync(server.on("/feed", fixed(304)))


def test_one_bad_feed(server: FeedServer, database: Path) -> None:
    """A feed that fails is reported in the result and in the log, and the others are stored."""
    bad, good = server.on("/bad", fixed(500)), server.on("/good", GOOD)
    context = RecordingContext()
    result = sync_news(as_context(context), {"feeds": [bad, good, "examples/feeds/none.xml"]})
    assert result["failed"] == [
        {"feed": bad, "error": "the server answered 500 Internal Server Error"},
        {"feed": "examples/feeds/none.xml", "error": "No such file or directory"},
    ]
    assert titles(database) == ["one", "two"]
    assert [level for level, message in context.logged if message.startswith(bad)] == ["warning"]


def test_all_feeds_fail(server: FeedServer) -> None:
    """Where all feeds fail the job fails: as worth a retry if one of them may work later, else as a mistake."""
    gone, down = server.on("/gone", fixed(404)), server.on("/down", fixed(503))
    with pytest.raises(NoFeedAvailableError, match=r"404 Not Found.*503"):
        sync(gone, down)
    with pytest.raises(NoFeedUsableError, match="404"):
        sync(gone)
    assert issubclass(NoFeedUsableError, ValueError)


def test_retry_after(server: FeedServer) -> None:
    """Where the server says when to come back, the retry waits that long, but never over an hour."""
    for said, waits in (("120", 120), ("999999", 3600)):
        with pytest.raises(Retry) as caught:
            sync(server.on("/busy", fixed(503, Retry_After=said)))
        assert caught.value.after == timedelta(seconds=waits)


def test_nobody_listens(server: FeedServer) -> None:
    """A refused connection and a host that does not exist are failures that may pass."""
    server.answers.clear()
    with pytest.raises(NoFeedAvailableError, match="ConnectError"):
        sync("http://127.0.0.1:1/feed")


def drip_headers(exchange: Exchange) -> None:
    exchange.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while not exchange.server.over.wait(0.02):
        exchange.wfile.write(b"X-Slow: 1\r\n")


def drip_body(exchange: Exchange) -> None:
    exchange.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/rss+xml\r\n\r\n<rss>")
    while not exchange.server.over.wait(0.02):
        exchange.wfile.write(b" ")


@pytest.mark.parametrize("answer", [Exchange.wait, drip_headers, drip_body], ids=["silent", "headers", "body"])
def test_slow(server: FeedServer, answer: Answer, database: Path) -> None:
    """A server that says nothing, or a little at a time, costs its feed's time limit and no more."""
    began = time.monotonic()
    result = sync(server.on("/slow", answer), server.on("/good", GOOD), timeout_seconds=0.5)
    assert time.monotonic() - began < 5
    assert result["failed"] == [{"feed": result["failed"][0]["feed"], "error": "no complete answer within 0.5 s"}]
    assert titles(database) == ["one", "two"]


def endless(exchange: Exchange) -> None:
    exchange.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/rss+xml\r\n\r\n")
    while True:
        exchange.wfile.write(b"<rss>" * 10_000)


def endless_redirect_body(exchange: Exchange) -> None:
    exchange.wfile.write(b"HTTP/1.1 302 Found\r\nLocation: /good\r\n\r\n")
    while not exchange.server.over.is_set():
        exchange.wfile.write(b"x" * 65_536)


def bomb(layers: int) -> bytes:
    packed = bytes(30 * 1024 * 1024)
    for _ in range(layers):
        packed = gzip.compress(packed)
    return packed


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (endless, "larger than 1048576 bytes"),
        (fixed(200, b" " * 1_048_577), "larger than 1048576 bytes"),
        (fixed(200, bomb(1), Content_Encoding="gzip"), "larger than 1048576 bytes"),
        (fixed(200, bomb(2), Content_Encoding="gzip, gzip"), "content-encoding that was not asked for"),
        (fixed(200, rss("a"), Content_Encoding="br"), "content-encoding that was not asked for"),
        (fixed(200, b"no gzip", Content_Encoding="gzip"), "not valid gzip"),
        (fixed(200, gzip.compress(rss("a"))[:-9], Content_Encoding="gzip"), "ends too early"),
        (fixed(200, b""), "not an RSS or Atom feed"),
        (fixed(200, b"\x00\x01\x02\xff"), "not an RSS or Atom feed"),
        (fixed(204), "204"),
        (fixed(302, Location="/loop"), "more than 5 redirects"),
        (fixed(302, Location="file:///etc/passwd"), "Unsupported|unsupported|protocol"),
        (lambda exchange: exchange.wfile.write(b"SSH-2.0-Other\r\n"), "RemoteProtocolError"),
        (lambda exchange: exchange.connection.close(), "Error"),
    ],
)
def test_bad_answers(server: FeedServer, answer: Answer, error: str, database: Path) -> None:
    """Each bad answer is one failed feed with its reason, and the good feed beside it is stored."""
    result = sync(server.on("/loop", answer), server.on("/good", GOOD), max_mb=1)
    (failure,) = result["failed"]
    assert re.search(error, failure["error"])
    assert titles(database) == ["one", "two"]


def test_truncated_body(server: FeedServer) -> None:
    """A connection that ends before the announced length is a failure that may pass, and nothing is stored."""

    def cut(exchange: Exchange) -> None:
        exchange.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + rss("one"))

    with pytest.raises(NoFeedAvailableError, match="RemoteProtocolError"):
        sync(server.on("/cut", cut))


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (gzip.compress(rss("Grüße")), {"Content_Encoding": "gzip"}),
        (gzip.compress(rss("Grüße")[:40]) + gzip.compress(rss("Grüße")[40:]), {"Content_Encoding": "gzip"}),
        (zlib.compress(rss("Grüße")), {"Content_Encoding": "deflate"}),
        (rss("Grüße"), {"Content_Type": "application/rss+xml; charset=iso-8859-1"}),
        (rss("Grüße"), {"Content_Type": "text/xml; charset=us-ascii"}),
        (rss("Grüße"), {"Content_Type": "text/xml; charset=windows-1251"}),
        (rss("Grüße"), {"Content_Type": "text/plain; charset=nonsense"}),
        (rss("Grüße", encoding="iso-8859-1"), {"Content_Type": "application/rss+xml"}),
        (rss("Grüße", encoding="iso-8859-1"), {"Content_Type": "application/rss+xml; charset=utf-8"}),
        (rss("Grüße", encoding="utf-16"), {"Content_Type": "application/rss+xml"}),
        (rss("Grüße"), {}),
    ],
)
def test_encodings(server: FeedServer, body: bytes, headers: dict[str, str], database: Path) -> None:
    """Titles come out right from compressed feeds and from feeds whose server announces the wrong charset."""
    sync(server.on("/feed", fixed(200, body, **headers)))
    assert titles(database) == ["Grüße"]


def test_redirects(server: FeedServer, database: Path) -> None:
    """Redirects are followed, and their bodies are not read, however long they are."""
    server.on("/good", GOOD)
    server.on("/b", endless_redirect_body)
    assert sync(server.on("/a", fixed(301, Location="/b")), timeout_seconds=10)["documents_added"] == 2
    assert titles(database) == ["one", "two"]


def test_passwords_are_not_shown(server: FeedServer, database: Path) -> None:
    """The user name and password of a feed's URL are sent to its server and appear nowhere else."""
    url = server.on("/feed", GOOD).replace("http://", "http://reader:secret@")
    context = RecordingContext()
    result = sync_news(as_context(context), {"feeds": [url]})
    assert server.requests[0][1]["authorization"].startswith("Basic ")
    everything = f"{result}{context.logged}{context.progressed}".encode() + database.read_bytes()
    assert b"secret" not in everything


def test_cancel_while_a_server_is_silent(server: FeedServer) -> None:
    """A cancel is seen while a server keeps silent, long before its time limit."""

    def cancel_once_asked(context: RecordingContext) -> None:
        context.cancelled = bool(server.requests)

    began = time.monotonic()
    with pytest.raises(JobCancelled):
        sync_news(
            as_context(RecordingContext(cancel_once_asked)),
            {"feeds": [server.on("/slow", Exchange.wait)], "timeout_seconds": 60},
        )
    assert time.monotonic() - began < 10


def test_cancel_keeps_what_is_stored(server: FeedServer, database: Path) -> None:
    """A run that is cancelled between two batches keeps what it stored, and the next run stores the rest."""
    url = server.on("/feed", fixed(200, rss(*(f"t{number}" for number in range(120))), ETag='"v1"'))

    def cancel_after_a_batch(context: RecordingContext) -> None:
        context.cancelled = database.exists() and len(titles(database)) == 50

    with pytest.raises(JobCancelled):
        sync_news(as_context(RecordingContext(cancel_after_a_batch)), {"feeds": [url]})
    assert len(titles(database)) == 50
    result = sync(url)
    assert (result["documents_added"], result["documents_unchanged"]) == (70, 50)


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"feeds": []},
        {"feeds": "x"},
        {"feeds": [1]},
        {"feeds": ["a"], "timeout_seconds": 0},
        {"feeds": ["a"], "max_mb": "1"},
    ],
)
def test_wrong_payload(payload: dict[str, object]) -> None:
    """A payload without feeds or with impossible limits is refused."""
    with pytest.raises(ValueError, match="payload: "):
        sync_news(as_context(RecordingContext()), payload)


def test_files_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A feed file is read in the folder of schedules.yaml and in folders that the operator allows, nowhere else."""
    (tmp_path / "feed.xml").write_bytes(rss("one"))
    for feed in (str(tmp_path / "feed.xml"), "../../etc/passwd", "examples/../../../etc/passwd"):
        with pytest.raises(NoFeedUsableError, match="outside the folder"):
            sync(feed)
    monkeypatch.setenv("CONTENT_FOLDERS", str(tmp_path))
    assert sync(str(tmp_path / "feed.xml"))["documents_added"] == 1


def test_duplicates(server: FeedServer, database: Path) -> None:
    """A feed that is named twice is read once, and an entry that a feed repeats is stored once."""
    url = server.on("/feed", fixed(200, rss("one", "one")))
    assert sync(url, url)["documents_added"] == 1
    assert sync(url)["documents_unchanged"] == 1
    assert titles(database) == ["one"]
