"""A stretch of time in the content database: which documents lie in it, and when it ends if nobody says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Row, func, select
from sqlalchemy.engine import Connection

from handlers.content import Document

DOCUMENTS = Document.__table__  # type: ignore[attr-defined]
DATED = func.coalesce(DOCUMENTS.c.published_at, DOCUMENTS.c.added_at, type_=DOCUMENTS.c.added_at.type)


@dataclass(frozen=True, slots=True)
class Period:
    """From `start` (not included) to `end` (included)."""

    start: datetime
    end: datetime

    def before(self) -> Period:
        """The period of the same length that ends where this one starts."""
        return Period(self.start - (self.end - self.start), self.start)


def asked_period(connection: Connection, payload: dict[str, Any], sources: Sequence[str], now: datetime) -> Period:
    """The `days` (7) up to `until`, or else up to the newest publication that is not from the future."""
    days = payload.get("days", 7)
    if isinstance(days, bool) or not isinstance(days, int) or not 1 <= days <= 366:
        raise ValueError(f"payload: `days` must be a whole number from 1 to 366, not {days!r}")
    end = _instant(payload["until"]) if payload.get("until") else _newest(connection, sources, now)
    return Period(end - timedelta(days=days), end)


def documents_in(connection: Connection, period: Period, sources: Sequence[str]) -> list[Row[Any]]:
    """The documents of a period, oldest first; a document without a date counts from when it was added."""
    dated = select(DOCUMENTS, DATED.label("dated")).where(
        period.start < DATED, period.end >= DATED, *from_sources(sources)
    )
    return list(connection.execute(dated.order_by(DATED, DOCUMENTS.c.id)))


def asked_sources(payload: dict[str, Any]) -> list[str]:
    """The payload's `source_ids`; none means all."""
    sources = payload.get("source_ids", [])
    if not isinstance(sources, list) or not all(isinstance(source, str) for source in sources):
        raise ValueError("payload: `source_ids` must be a list of texts, as the results of other jobs give them")
    return sources


def from_sources(sources: Sequence[str]) -> list[Any]:
    """The condition that a document comes from one of these sources; none means all."""
    return [DOCUMENTS.c.source.in_(sources)] if sources else []


def _newest(connection: Connection, sources: Sequence[str], now: datetime) -> datetime:
    published = DOCUMENTS.c.published_at
    newest = select(func.max(published, type_=published.type)).where(published <= now, *from_sources(sources))
    return connection.execute(newest).scalar() or now


def _instant(text: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except (ValueError, TypeError):
        raise ValueError(f"payload: `until` must be a date or time such as 2026-05-28, not {text!r}") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
