"""What is made from stored documents: trends, vectors and the newsletter."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from handlers import embeddings, newsletter, trends
from handlers.content import NewDocument, open_content, save
from runner import JobCancelled
from tests.unit.handler_context import RecordingContext, as_context

NOW = datetime(2026, 5, 28, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CONTENT_DATABASE_URL", f"sqlite:///{tmp_path}/content.db")
    return tmp_path / "content.db"


def store(*documents: NewDocument) -> None:
    with open_content() as engine, engine.begin() as connection:
        save(connection, documents, datetime.now(UTC))


def talk(name: str, text: str, *, days: float = 0, source: str = "feed:a", **more: Any) -> NewDocument:
    moment = NOW - timedelta(days=days)
    return NewDocument(source, name, "news", more.pop("title", name), text, published_at=moment, **more)


def run(handler: Any, **payload: Any) -> tuple[dict[str, Any], RecordingContext]:
    context = RecordingContext()
    return handler(as_context(context), payload), context


def shown(found: Iterable[dict[str, Any]]) -> list[tuple[str, int, int]]:
    return [(line["term"], line["documents"], line["documents_before"]) for line in found]


def test_rising_terms() -> None:
    """A term rises by the share of documents that speak of it, not by how often one of them does."""
    store(
        talk("1", "leases everywhere", days=1),
        talk("2", "leases again", days=2),
        talk("3", "budgets budgets budgets budgets", days=3),
        talk("4", "cron", days=8),
        talk("5", "cron, leases", days=9),
        talk("6", "cron", days=20),
    )
    result, context = run(trends.sync_trends, until=NOW.isoformat())
    assert (result["documents"], result["documents_before"]) == (3, 2)
    assert shown(result["terms"]) == [("leases", 2, 1)]
    assert "leases: 2 documents, 1 before" in context.logged_text()
    assert shown(run(trends.sync_trends, until=NOW.isoformat(), min_documents=1)[0]["terms"])[0] == ("budgets", 1, 0)


def test_trends_end_with_the_newest_publication() -> None:
    """Without a date the week is the one that ends with the newest document; the future does not count."""
    far = datetime.now(UTC) + timedelta(days=300)
    store(talk("1", "leases"), talk("2", "leases", days=1))
    store(NewDocument("feed:a", "future", "news", "future", "leases", published_at=far))
    result, _ = run(trends.sync_trends)
    assert result["until"] == NOW.isoformat()
    assert shown(result["terms"]) == [("leases", 2, 0)]


def test_nothing_stored() -> None:
    """An empty database gives empty results, not errors."""
    assert run(trends.sync_trends)[0]["terms"] == []
    assert run(embeddings.generate)[0]["embeddings_added"] == 0
    result, context = run(newsletter.generate)
    assert result["documents"] == 0
    assert b"Nothing new" in context.outputs["newsletter.md"][1]
    assert b"Nothing new" in context.outputs["newsletter.html"][1]


def test_sources() -> None:
    """Only the documents of the sources that the payload names are looked at."""
    store(talk("1", "leases"), talk("2", "cron", source="feed:b"))
    asked = {"source_ids": ["feed:b"], "until": NOW.isoformat()}
    assert run(trends.sync_trends, **asked)[0]["documents"] == 1
    assert run(embeddings.generate, source_ids=["feed:b"])[0]["embeddings_added"] == 1
    assert run(newsletter.generate, **asked)[0]["documents"] == 1


def test_vectors() -> None:
    """Vectors have length one, are the same each time, and are nearer for texts that share words."""
    one, two, other = (
        embeddings.vector(text, 256)
        for text in ("Leases under clocks that jump", "clocks jump, and leases end", "A recipe for lentil soup")
    )
    assert math.isclose(sum(value * value for value in one), 1, abs_tol=1e-4)
    assert embeddings.vector("Leases under clocks that jump", 256) == one

    def alike(left: list[float], right: list[float]) -> float:
        return sum(a * b for a, b in zip(left, right, strict=True))

    assert alike(one, two) > 0.4 > alike(one, other)
    assert embeddings.vector("the and of", 16) == [0.0] * 16


def test_embeddings_follow_the_text(database: Path) -> None:
    """A document gets one vector, and a new one only when its text changed."""
    store(talk("1", "leases"), talk("2", "cron"))
    assert run(embeddings.generate)[0]["embeddings_added"] == 2
    store(talk("1", "leases and clocks"))
    result, _ = run(embeddings.generate)
    assert (result["embeddings_updated"], result["embeddings_unchanged"]) == (1, 1)
    assert run(embeddings.generate, dimensions=32)[0]["embeddings_added"] == 2
    connection = sqlite3.connect(database)
    assert connection.execute("SELECT model, count(*) FROM embeddings GROUP BY model ORDER BY model").fetchall() == [
        ("hashed-terms-1-256", 2),
        ("hashed-terms-1-32", 2),
    ]
    connection.close()


def test_embeddings_cancelled() -> None:
    """A cancel loses at most the batch in which it is seen; the next run makes the rest."""
    store(*(talk(str(number), f"text {number}") for number in range(120)))

    def at_the_second_batch(context: RecordingContext) -> None:
        context.cancelled = len(context.progressed) == 2

    with pytest.raises(JobCancelled):
        embeddings.generate(as_context(RecordingContext(at_the_second_batch)), {})
    result, _ = run(embeddings.generate)
    assert (result["embeddings_added"], result["embeddings_unchanged"]) == (70, 50)


def test_newsletter() -> None:
    """The digest shows the documents of the period by source, newest first, through both of its steps."""
    store(
        talk("1", "First. " + "Words. " * 100, days=2, url="https://example.org/1", details={"feed_title": "Notes"}),
        talk("2", "Second text", days=1, details={"feed_title": "Notes"}),
        talk("3", "Too old", days=8),
        talk("4", "Spoken", source="transcripts:open-systems"),
    )
    result, context = run(newsletter.generate, title="Our week", until=NOW.isoformat())
    assert (result["documents"], result["sources"], result["outputs"]) == (3, 2, ["newsletter.md", "newsletter.html"])
    assert list(dict.fromkeys(step for _, step, _ in context.progressed)) == ["processing", "formatting"]
    media_type, markdown = context.outputs["newsletter.md"]
    assert media_type == "text/markdown"
    lines = [line for line in markdown.decode().splitlines() if line.startswith("#")]
    assert lines == ["# Our week", "## Notes", "### 2", "### [1](<https://example.org/1>)", "## Open systems", "### 4"]
    assert len(max(markdown.decode().splitlines(), key=len)) < 320
    media_type, page = context.outputs["newsletter.html"]
    assert media_type == "text/html"
    assert '<a href="https://example.org/1" rel="noopener">1</a>' in page.decode()


def test_newsletter_limit() -> None:
    """Of each source the newest few are shown; the others are counted."""
    store(*(talk(str(number), "Text", days=number) for number in range(5)))
    result, _ = run(newsletter.generate, per_source=2, until=NOW.isoformat())
    assert (result["documents"], result["documents_shown"]) == (5, 2)


@pytest.mark.parametrize("url", ["javascript:alert(1)", "data:text/html,x", 'https://x/"><script>', "https://x/> <b>"])
def test_newsletter_is_safe(url: str) -> None:
    """Titles, texts and links of strangers cannot bring marks, scripts or other schemes into the digest."""
    store(talk("1", "<script>alert(1)</script> [x](javascript:y)", title="<img src=x onerror=y> # *a*", url=url))
    _, context = run(newsletter.generate, until=NOW.isoformat())
    page = context.outputs["newsletter.html"][1].decode()
    assert "<script" not in page
    assert "<img" not in page
    assert "href" not in page
    markdown = context.outputs["newsletter.md"][1].decode()
    assert r"\<script\>" in markdown
    assert r"\[x\](javascript:y)" in markdown
    assert url not in markdown


def test_newsletter_again() -> None:
    """A second attempt starts its output anew instead of adding to the first one's."""
    store(talk("1", "Text"))
    context = RecordingContext()
    newsletter.generate(as_context(context), {"until": NOW.isoformat()})
    first = dict(context.outputs)
    context.progressed.clear()
    newsletter.generate(as_context(context), {"until": NOW.isoformat()})
    assert context.outputs == first


@pytest.mark.parametrize(
    ("handler", "payload"),
    [
        (trends.sync_trends, {"days": 0}),
        (trends.sync_trends, {"until": "yesterday"}),
        (trends.sync_trends, {"until": 5}),
        (trends.sync_trends, {"top": True}),
        (trends.sync_trends, {"source_ids": "all"}),
        (embeddings.generate, {"dimensions": 3}),
        (newsletter.generate, {"title": " "}),
        (newsletter.generate, {"per_source": 0}),
    ],
)
def test_wrong_payload(handler: Any, payload: dict[str, Any]) -> None:
    """A payload that makes no sense is refused with the name of its field."""
    with pytest.raises(ValueError, match=f"payload: `{next(iter(payload))}`"):
        run(handler, **payload)
