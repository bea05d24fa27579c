"""rag_sync_news: the entries of RSS and Atom feeds, from files and from servers, as documents."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
from sqlalchemy.engine import Engine

from handlers.content import Counts, FeedState, insert_for, open_content, save
from handlers.feeds import read_feed
from handlers.fetch import Bounds, Fetched, FetchError, fetch
from handlers.places import read_capped, readable, shown
from runner import Retry

if TYPE_CHECKING:
    from runner import JobContext

BATCH = 50
LONGEST_WAIT = 3600.0
ACCEPT = "application/atom+xml, application/rss+xml, application/xml;q=0.9, text/xml;q=0.8, */*;q=0.1"

logging.getLogger("httpx").setLevel(logging.WARNING)  # one line for each request is more than a job's log wants


class NoFeedAvailableError(Exception):
    """No feed could be read, and at least one of them may work later."""


class NoFeedUsableError(ValueError):
    """No feed could be read, and trying again will not help."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One feed that was left out, and why."""

    feed: str
    error: str
    temporary: bool
    after: float | None = None


def sync_news(ctx: JobContext, payload: dict[str, Any]) -> dict[str, Any]:
    """Store what is new in `payload["feeds"]`: URLs, or files beside schedules.yaml.

    A server is asked only for what changed since the last run. A feed that fails is reported in the result and the
    others go on; where all fail, the job does.
    """
    feeds, bounds = _feeds(payload), _bounds(payload)
    counts, failures, not_modified, sources = Counts(), [], 0, []
    with open_content() as engine:
        for number, feed in enumerate(feeds):
            ctx.progress(100 * number / len(feeds), message=f"feed {number + 1} of {len(feeds)}: {_name(feed)}")
            try:
                stored = _sync_feed(ctx, engine, feed, bounds)
            except (FetchError, OSError, ValueError) as error:
                failures.append(_failure(feed, error))
                ctx.log(f"{_name(feed)}: {failures[-1].error}", level="warning")
                continue
            sources.append(_source(feed))
            not_modified += stored is None
            counts.add(stored or Counts())
    if len(failures) == len(feeds):
        raise _all_failed(failures)
    ctx.progress(100, message=f"{counts.documents_added} new, {counts.documents_updated} changed")
    return asdict(counts) | {
        "feeds": len(feeds),
        "feeds_not_modified": not_modified,
        "source_ids": sources,
        "failed": [{"feed": failure.feed, "error": failure.error} for failure in failures],
    }


def _feeds(payload: dict[str, Any]) -> list[str]:
    feeds = payload.get("feeds")
    if not isinstance(feeds, list) or not feeds or not all(isinstance(feed, str) and feed for feed in feeds):
        raise ValueError("payload: `feeds` must be a list of at least one URL or file")
    return list(dict.fromkeys(feeds))


def _bounds(payload: dict[str, Any]) -> Bounds:
    seconds, megabytes = payload.get("timeout_seconds", 20), payload.get("max_mb", 10)
    for name, value in (("timeout_seconds", seconds), ("max_mb", megabytes)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1000:
            raise ValueError(f"payload: `{name}` must be a number above 0 and at most 1000, not {value!r}")
    return Bounds(seconds=float(seconds), max_bytes=int(megabytes * 1024 * 1024))


def _sync_feed(ctx: JobContext, engine: Engine, feed: str, bounds: Bounds) -> Counts | None:
    if not _is_url(feed):
        answer = Fetched(feed, 200, {}, read_capped(readable(feed), bounds.max_bytes))
        return _store(ctx, engine, feed, answer)
    validators = _validators(engine, feed)
    answer = fetch(feed, bounds, headers={"accept": ACCEPT} | validators, check=ctx.check)
    if answer.status == 304 and not validators:
        raise FetchError("the server answered 304 to a request without conditions", temporary=True)
    if answer.status == 304:
        ctx.log(f"{_name(feed)}: not modified")
        return None
    counts = _store(ctx, engine, feed, answer)
    _remember(engine, feed, answer)  # only now: a run that dies before this asks for everything again
    return counts


def _store(ctx: JobContext, engine: Engine, feed: str, answer: Fetched) -> Counts:
    documents = read_feed(
        _source(feed), answer.body, address=answer.url, content_type=answer.headers.get("content-type")
    )
    counts = Counts()
    for start in range(0, len(documents), BATCH):
        ctx.check()
        # In one order everywhere: two processes with the same entries wait for each other, but never in a circle.
        batch = sorted(documents[start : start + BATCH], key=lambda document: document.external_id)
        with engine.begin() as connection:
            counts.add(save(connection, batch, datetime.now(UTC)))
    ctx.log(
        f"{_name(feed)}: {len(documents)} entries, {counts.documents_added} new, {counts.documents_updated} changed"
    )
    return counts


def _validators(engine: Engine, feed: str) -> dict[str, str]:
    states = FeedState.__table__  # type: ignore[attr-defined]
    with engine.begin() as connection:
        known = connection.execute(states.select().where(states.c.feed == _name(feed))).first()
    if known is None:
        return {}
    pairs = {"if-none-match": known.etag, "if-modified-since": known.last_modified}
    return {name: value for name, value in pairs.items() if value}


def _remember(engine: Engine, feed: str, answer: Fetched) -> None:
    said = {
        "etag": answer.headers.get("etag", ""),
        "last_modified": answer.headers.get("last-modified", ""),
        "checked_at": datetime.now(UTC),
    }
    with engine.begin() as connection:
        statement = insert_for(connection)(FeedState).values(feed=_name(feed), **said)
        connection.execute(statement.on_conflict_do_update(index_elements=["feed"], set_=said))


def _failure(feed: str, error: Exception) -> Failure:
    if isinstance(error, FetchError):
        return Failure(_name(feed), str(error), error.temporary, error.after)
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return Failure(_name(feed), reason, temporary=False)


def _all_failed(failures: list[Failure]) -> Exception:
    reason = "; ".join(f"{failure.feed}: {failure.error}" for failure in failures)[:2000]
    if not any(failure.temporary for failure in failures):
        return NoFeedUsableError(reason)
    waits = [failure.after for failure in failures if failure.after is not None]
    return Retry(reason, after=min(max(waits), LONGEST_WAIT)) if waits else NoFeedAvailableError(reason)


def _source(feed: str) -> str:
    return f"feed:{_name(feed) if _is_url(feed) else shown(readable(feed))}"


def _name(feed: str) -> str:
    """The feed as it may be shown and stored: without the user name and password of its URL."""
    try:
        return str(httpx.URL(feed).copy_with(userinfo=b"")) if _is_url(feed) else feed
    except httpx.InvalidURL:
        return feed


def _is_url(feed: str) -> bool:
    return feed.lower().startswith(("http://", "https://"))
