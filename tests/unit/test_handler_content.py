"""The content database adds nothing twice, changes only what changed, and is never the queue's."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql
from sqlmodel import SQLModel

from handlers import content
from handlers.content import Counts, Document, NewDocument, content_url, open_content, save
from handlers.places import ROOT

NOW = datetime(2026, 5, 4, 8, tzinfo=UTC)
DOCUMENTS = Document.__table__  # type: ignore[attr-defined]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/content.db"


def talk(number: int = 1, text: str = "Hello") -> NewDocument:
    return NewDocument("test", f"id-{number}", "news", "Title", text, published_at=NOW)


def store(url: str, *documents: NewDocument, now: datetime = NOW) -> Counts:
    with open_content(url) as engine, engine.begin() as connection:
        return save(connection, documents, now)


def test_identity(url: str) -> None:
    """The same document again is unchanged; other content is an update of the same row, with the next revision."""
    assert store(url, talk(1), talk(2)) == Counts(documents_added=2)
    assert store(url, talk(1), talk(2)) == Counts(documents_unchanged=2)
    later = NOW + timedelta(hours=1)
    assert store(url, talk(1, "Changed"), talk(2), now=later) == Counts(documents_updated=1, documents_unchanged=1)
    with open_content(url) as engine, engine.begin() as connection:
        first, second = connection.execute(select(DOCUMENTS).order_by(DOCUMENTS.c.id)).all()
    assert (first.text, first.revision, first.added_at, first.updated_at) == ("Changed", 2, NOW, later)
    assert (second.revision, second.updated_at) == (1, NOW)


def test_instants(url: str) -> None:
    """The same instant in another zone is no change, and it comes back aware, in UTC."""
    there = NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))
    store(url, talk())
    assert (
        store(url, NewDocument("test", "id-1", "news", "Title", "Hello", published_at=there)).documents_unchanged == 1
    )


def test_text_that_databases_refuse(url: str) -> None:
    """NUL and lone surrogates do not reach the database, and storing such a document again changes nothing."""
    odd = NewDocument("test", "a\0b", "news", "T\ud800", "x\0y", details={"author": "\udfff\0"})
    assert store(url, odd).documents_added == 1
    assert store(url, odd).documents_unchanged == 1
    connection = sqlite3.connect(url.removeprefix("sqlite:///"))
    assert connection.execute("SELECT external_id, title, text FROM documents").fetchall() == [("ab", "T?", "xy")]
    connection.close()


def test_transaction(url: str) -> None:
    """A batch that is broken off leaves nothing behind."""

    def broken() -> object:
        yield talk(1)
        raise RuntimeError("in the middle")

    with open_content(url) as engine:
        with pytest.raises(RuntimeError), engine.begin() as connection:
            save(connection, broken(), NOW)  # type: ignore[arg-type]
        with engine.begin() as connection:
            assert connection.execute(select(func.count()).select_from(DOCUMENTS)).scalar() == 0


WRITER = """
import sys
from datetime import UTC, datetime
from handlers.content import NewDocument, open_content, save
total = 0
print("ready", flush=True)
sys.stdin.readline()
with open_content() as engine:
    for number in range(150):
        with engine.begin() as connection:
            counts = save(connection, [NewDocument("test", str(number), "news", "T", "x" * 500)], datetime.now(UTC))
        total += counts.documents_added
print(total)
"""


def test_two_processes(url: str, tmp_path: Path) -> None:
    """Two processes that create the database and write the same documents together add each of them once."""
    environment = {"CONTENT_DATABASE_URL": url, "PYTHONPATH": str(ROOT)}
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    added = [int(writer.communicate(timeout=120)[0]) for writer in writers]
    assert sum(added) == 150
    with open_content(url) as engine, engine.begin() as connection:
        assert connection.execute(select(func.count()).select_from(DOCUMENTS)).scalar() == 150


def test_never_the_queue(url: str) -> None:
    """A database that holds the queue is refused, and nothing is created in it."""
    path = url.removeprefix("sqlite:///")
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE background_jobs (id INTEGER PRIMARY KEY)")
    with pytest.raises(ValueError, match="the queue's database"):
        store(url, talk())
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("background_jobs",)]
    connection.close()


def test_tables_apart() -> None:
    """The tables of the content are unknown to SQLModel's common metadata, from which the queue is migrated."""
    assert not set(content.ContentTable.metadata.tables) & set(SQLModel.metadata.tables)


def test_default_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The database lies in `.runner` beside schedules.yaml, and relative paths start there, wherever a process runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CONTENT_DATABASE_URL", raising=False)
    assert content_url().database == str(ROOT / ".runner/content.db")
    assert content_url("sqlite:///data/c.db").database == str(ROOT / "data/c.db")
    assert content_url("postgresql+psycopg://u@h/content").database == "content"


@pytest.mark.parametrize("address", ["sqlite://", "sqlite:///:memory:"])
def test_memory(address: str) -> None:
    """A database in memory would forget everything between two jobs and is refused."""
    with pytest.raises(ValueError, match="name a file"):
        content_url(address)


def test_statement_for_postgresql(url: str) -> None:
    """The statement that stores a document is one upsert on PostgreSQL as well."""

    class Connection:
        dialect = postgresql.dialect()  # type: ignore[no-untyped-call]

    statement = str(content._upsert(Connection(), talk(), NOW).compile(dialect=Connection.dialect))  # type: ignore[arg-type]
    assert "ON CONFLICT (source, external_id) DO UPDATE SET" in statement
    assert "WHERE documents.content_hash != excluded.content_hash RETURNING documents.revision" in statement
