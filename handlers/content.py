"""The content database: documents and what is known about feeds, stored so that a second run adds nothing twice."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, DateTime, Dialect, Text, UniqueConstraint, event, inspect
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.orm import registry
from sqlalchemy.pool import NullPool
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, SQLModel, create_engine

from handlers.places import ROOT

BUSY_SECONDS = 30


class Utc(TypeDecorator[datetime]):
    """An instant: aware in Python, UTC without a zone in both databases."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value if value is None else value.replace(tzinfo=UTC)


class ContentTable(SQLModel, registry=registry()):
    """Base of the tables here. Its registry is its own, so that these tables never reach the queue's migrations."""


class Document(ContentTable, table=True):
    """One text from one source. `revision` counts its versions, from 1."""

    __tablename__ = "documents"
    __table_args__ = (UniqueConstraint("source", "external_id"),)

    id: int | None = Field(default=None, primary_key=True)
    source: str = Field(index=True)
    external_id: str
    kind: str
    title: str
    url: str = ""
    text: str = Field(sa_type=Text)
    language: str = ""
    published_at: datetime | None = Field(default=None, sa_type=Utc)
    details: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    content_hash: str
    revision: int = 1
    added_at: datetime = Field(sa_type=Utc, index=True)
    updated_at: datetime = Field(sa_type=Utc)


class FeedState(ContentTable, table=True):
    """What a server said about a feed whose entries are all stored; sent back to ask only for news."""

    __tablename__ = "feed_states"

    feed: str = Field(primary_key=True)
    etag: str = ""
    last_modified: str = ""
    checked_at: datetime = Field(sa_type=Utc)


class Embedding(ContentTable, table=True):
    """The vector of one document, by one model, for one version of its text."""

    __tablename__ = "embeddings"

    document_id: int = Field(primary_key=True, foreign_key="documents.id")
    model: str = Field(primary_key=True)
    content_hash: str
    vector: list[float] = Field(sa_type=JSON)


@dataclass(frozen=True, slots=True)
class NewDocument:
    """A document as a handler found it; (source, external_id) is its identity."""

    source: str
    external_id: str
    kind: str
    title: str
    text: str
    url: str = ""
    language: str = ""
    published_at: datetime | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def columns(self) -> dict[str, Any]:
        """Its values, with what PostgreSQL refuses (NUL, lone surrogates) replaced."""
        texts = {name: clean(getattr(self, name)) for name in _TEXTS}
        return texts | {"published_at": self.published_at, "details": json.loads(clean(_canonical(self.details)))}


_TEXTS = ("source", "external_id", "kind", "title", "text", "url", "language")


@dataclass(slots=True)
class Counts:
    """What storing did, in the words of a job's result."""

    documents_added: int = 0
    documents_updated: int = 0
    documents_unchanged: int = 0

    def add(self, other: Counts) -> None:
        self.documents_added += other.documents_added
        self.documents_updated += other.documents_updated
        self.documents_unchanged += other.documents_unchanged

    @property
    def total(self) -> int:
        return self.documents_added + self.documents_updated + self.documents_unchanged


@contextmanager
def open_content(url: str | None = None) -> Iterator[Engine]:
    """The content database, created on first use: `url`, else CONTENT_DATABASE_URL, else `.runner/content.db`."""
    address = content_url(url)
    if address.get_backend_name() == "sqlite" and address.database:
        Path(address.database).parent.mkdir(parents=True, exist_ok=True)
    engine = _engine(address)
    try:
        _prepare(engine)
        yield engine
    finally:
        engine.dispose()


def content_url(url: str | None = None) -> URL:
    """The address in force. A relative SQLite path starts at the folder of schedules.yaml."""
    address = make_url(url or os.environ.get("CONTENT_DATABASE_URL") or "sqlite:///.runner/content.db")
    if address.get_backend_name() != "sqlite":
        return address
    if address.database in (None, "", ":memory:"):
        raise ValueError("CONTENT_DATABASE_URL: a database in memory is lost when the job ends; name a file")
    return address.set(database=str(ROOT / str(address.database)))


def save(connection: Connection, documents: Iterable[NewDocument], now: datetime) -> Counts:
    """Insert what is new, update what changed, leave the rest, each document in one atomic statement."""
    counts = Counts()
    for document in documents:
        match connection.execute(_upsert(connection, document, now)).scalar():
            case None:
                counts.documents_unchanged += 1
            case 1:
                counts.documents_added += 1
            case _:
                counts.documents_updated += 1
    return counts


def clean(text: str) -> str:
    """The text as every database takes it: no NUL, no lone surrogates.

    >>> clean("a\\x00b")
    'ab'
    """
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def insert_for(connection: Connection) -> Any:
    """The `insert()` that knows ON CONFLICT, of this connection's database."""
    return {"sqlite": sqlite.insert, "postgresql": postgresql.insert}[connection.dialect.name]


def _upsert(connection: Connection, document: NewDocument, now: datetime) -> Any:
    # One statement, so that two processes that write the same document cannot both add it. The revision that it
    # returns tells what happened: 1 was inserted, more was updated, no row was left as it is.
    columns = document.columns()
    digest = hashlib.sha256(_canonical(columns).encode()).hexdigest()
    statement = insert_for(connection)(Document).values(
        **columns, content_hash=digest, revision=1, added_at=now, updated_at=now
    )
    changed = {name: statement.excluded[name] for name in (*columns, "content_hash", "updated_at")}
    table = Document.__table__  # type: ignore[attr-defined]
    return statement.on_conflict_do_update(
        index_elements=["source", "external_id"],
        set_=changed | {"revision": table.c.revision + 1},
        where=table.c.content_hash != statement.excluded.content_hash,
    ).returning(table.c.revision)


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=lambda at: at.astimezone(UTC).isoformat())


def _engine(address: URL) -> Engine:
    if address.get_backend_name() != "sqlite":
        return create_engine(address, poolclass=NullPool)
    engine = create_engine(address, poolclass=NullPool, connect_args={"timeout": BUSY_SECONDS})
    # The driver's own transactions begin too late to be of use here: they are switched off, and every transaction
    # takes the write lock at its start. The journal stays the ordinary one, which is safe with every SQLite version.
    event.listen(engine, "connect", lambda raw, _: setattr(raw, "isolation_level", None))
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def _prepare(engine: Engine) -> None:
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('runner handlers: content tables'))")
        if inspect(connection).has_table("background_jobs"):
            raise ValueError("CONTENT_DATABASE_URL names the queue's database; documents need a database of their own")
        ContentTable.metadata.create_all(connection)
