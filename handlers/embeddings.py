"""embedding_generation: one vector for each stored document, by hashing its words; no model, no download."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, and_, select
from sqlalchemy.engine import Connection, Engine

from handlers.content import Document, Embedding, insert_for, open_content
from handlers.period import asked_sources, from_sources
from handlers.words import terms

if TYPE_CHECKING:
    from runner import JobContext

BATCH = 50
DOCUMENTS = Document.__table__  # type: ignore[attr-defined]
EMBEDDINGS = Embedding.__table__  # type: ignore[attr-defined]


def generate(ctx: JobContext, payload: dict[str, Any]) -> dict[str, Any]:
    """Store the vectors of the documents of `source_ids` (none: all) that have none for their present text.

    The vectors are hashed counts of words and pairs of words: texts that share words point in similar directions, and
    the same text has the same vector on every machine. They know nothing about meaning; put a language model's vectors
    in their place where that matters, under another model name.
    """
    sources, dimensions = asked_sources(payload), _dimensions(payload)
    model = f"hashed-terms-1-{dimensions}"
    added = updated = 0
    with open_content() as engine:
        waiting, total = _waiting(engine, model, sources)
        for start in range(0, len(waiting), BATCH):
            ctx.progress(100 * start / len(waiting), message=f"{start} of {len(waiting)} documents")
            with engine.begin() as connection:
                for identity, had_one in waiting[start : start + BATCH]:
                    ctx.check()
                    _embed(connection, identity, model, dimensions)
                    added, updated = added + (not had_one), updated + had_one
    ctx.progress(100, message=f"{added} new, {updated} changed")
    ctx.log(f"{model}: {added} new, {updated} changed, {total - added - updated} up to date")
    return {
        "model": model,
        "dimensions": dimensions,
        "embeddings_added": added,
        "embeddings_updated": updated,
        "embeddings_unchanged": total - added - updated,
    }


def vector(text: str, dimensions: int) -> list[float]:
    """The text as a direction: each term adds to one place, which its hash chooses, with a sign from the hash too.

    >>> vector("queue", 4) == vector("Queue!", 4)
    True
    """
    values = [0.0] * dimensions
    for term, times in sorted(Counter(terms(text)).items()):
        digest = int.from_bytes(hashlib.blake2b(term.encode(), digest_size=8).digest(), "big")
        values[(digest >> 1) % dimensions] += (1 if digest & 1 else -1) * (1 + math.log(times))
    length = math.sqrt(math.fsum(value * value for value in values))
    return [round(value / length, 6) for value in values] if length else values


def _waiting(engine: Engine, model: str, sources: list[str]) -> tuple[list[tuple[int, bool]], int]:
    """Each document without a vector of its present text, with whether it has an older one; the number of all."""
    same = and_(EMBEDDINGS.c.document_id == DOCUMENTS.c.id, EMBEDDINGS.c.model == model)
    found = select(DOCUMENTS.c.id, DOCUMENTS.c.content_hash, EMBEDDINGS.c.content_hash.label("made_from"))
    found = found.join(EMBEDDINGS, same, isouter=True).where(*from_sources(sources)).order_by(DOCUMENTS.c.id)
    with engine.begin() as connection:
        rows = connection.execute(found).all()
    return [(row.id, row.made_from is not None) for row in rows if row.made_from != row.content_hash], len(rows)


def _embed(connection: Connection, identity: int, model: str, dimensions: int) -> None:
    document: Row[Any] | None = connection.execute(select(DOCUMENTS).where(DOCUMENTS.c.id == identity)).first()
    if document is None:
        return
    made = {
        "content_hash": document.content_hash,
        "vector": vector(f"{document.title}\n{document.text}", dimensions),
    }
    statement = insert_for(connection)(Embedding).values(document_id=identity, model=model, **made)
    connection.execute(statement.on_conflict_do_update(index_elements=["document_id", "model"], set_=made))


def _dimensions(payload: dict[str, Any]) -> int:
    value = payload.get("dimensions", 256)
    if isinstance(value, bool) or not isinstance(value, int) or not 16 <= value <= 4096:
        raise ValueError(f"payload: `dimensions` must be a whole number from 16 to 4096, not {value!r}")
    return value
