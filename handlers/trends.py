"""rag_sync_trends: the terms that more of the newest documents speak of than of those before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row

from handlers.content import open_content
from handlers.period import asked_period, asked_sources, documents_in
from handlers.words import terms

if TYPE_CHECKING:
    from runner import JobContext


def sync_trends(ctx: JobContext, payload: dict[str, Any]) -> dict[str, Any]:
    """Compare the last `days` (7) with the `days` before: in how large a share of the documents each term appears.

    Documents are counted, not mentions, so that one long transcript does not decide. `min_documents` (2) of the period
    have to speak of a term; the `top` (20) terms are returned.
    """
    top, least = _number(payload, "top", 20), _number(payload, "min_documents", 2)
    sources = asked_sources(payload)
    with open_content() as engine, engine.begin() as connection:
        period = asked_period(connection, payload, sources, datetime.now(UTC))
        newer = documents_in(connection, period, sources)
        older = documents_in(connection, period.before(), sources)
    ctx.progress(10, message=f"{len(newer)} documents against {len(older)} before")
    counted = _spoken_of(ctx, newer)
    ctx.progress(50)
    rising = rank(counted, len(newer), _spoken_of(ctx, older), len(older), least)[:top]
    for line in rising[:5]:
        ctx.log(f"{line['term']}: {line['documents']} documents, {line['documents_before']} before")
    ctx.progress(100, message=f"{len(rising)} rising terms")
    return {
        "from": period.start.isoformat(),
        "until": period.end.isoformat(),
        "documents": len(newer),
        "documents_before": len(older),
        "terms": rising,
    }


def rank(
    newer: Counter[str], newer_total: int, older: Counter[str], older_total: int, least: int
) -> list[dict[str, Any]]:
    """The terms whose share rose, most first.

    One document with and one without each term are added on both sides, so that a period of two documents does not
    make everything in it a trend.
    """
    found = []
    for term, documents in newer.items():
        change = (documents + 1) / (newer_total + 2) - (older[term] + 1) / (older_total + 2)
        if documents >= least and change > 0:
            found.append((-round(change, 4), term, documents))
    return [
        {"term": term, "documents": documents, "documents_before": older[term], "change": -fallen}
        for fallen, term, documents in sorted(found)
    ]


def _spoken_of(ctx: JobContext, documents: Sequence[Row[Any]]) -> Counter[str]:
    counted: Counter[str] = Counter()
    for document in documents:
        ctx.check()
        counted.update(set(terms(f"{document.title}\n{document.text}")))
    return counted


def _number(payload: dict[str, Any], name: str, default: int) -> int:
    value = payload.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1000:
        raise ValueError(f"payload: `{name}` must be a whole number from 1 to 1000, not {value!r}")
    return value
