"""A handler that is killed half way loses nothing that it stored; run again, it completes and adds nothing twice."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from handlers.news import sync_news
from handlers.places import ROOT
from handlers.rag import sync_channel
from tests.unit.handler_context import RecordingContext, as_context

RUN = """
import json, sys
from importlib import import_module
from tests.unit.handler_context import RecordingContext
module, name, payload = sys.argv[1:]
getattr(import_module(module), name)(RecordingContext(), json.loads(payload))
"""
DIE_IN_A_TRANSACTION = """
import os, signal
from datetime import UTC, datetime
from handlers.content import NewDocument, open_content, save

def documents():
    for number in range(100):
        yield NewDocument("test", str(number), "news", "T", "x" * 5000)
    os.kill(os.getpid(), signal.SIGKILL)

with open_content() as engine, engine.begin() as connection:
    save(connection, documents(), datetime.now(UTC))
"""


@pytest.fixture(autouse=True)
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CONTENT_DATABASE_URL", f"sqlite:///{tmp_path}/content.db")
    monkeypatch.setenv("CONTENT_FOLDERS", str(tmp_path))
    return tmp_path / "content.db"


def stored(database: Path) -> int:
    if not database.exists():
        return 0
    connection = sqlite3.connect(database, timeout=30)
    try:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'documents'").fetchone():
            return 0  # its first transaction has not ended yet
        return int(connection.execute("SELECT count(*) FROM documents").fetchone()[0])
    finally:
        connection.close()


def kill_half_way(database: Path, at_least: int, *arguments: str) -> int:
    """Start a handler, kill it once it has stored so many documents, and return how many there are then."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    handler = subprocess.Popen([sys.executable, "-c", RUN, *arguments], env=environment, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while stored(database) < at_least:
        assert handler.poll() is None, handler.communicate()[1].decode()
        assert time.monotonic() < deadline
    handler.send_signal(signal.SIGKILL)
    handler.communicate()
    assert handler.returncode == -signal.SIGKILL
    return stored(database)


def distinct(database: Path) -> int:
    connection = sqlite3.connect(database)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return int(connection.execute("SELECT count(DISTINCT source || external_id) FROM documents").fetchone()[0])
    finally:
        connection.close()


def test_channel(database: Path, tmp_path: Path) -> None:
    """rag_sync_channel, killed among 300 transcripts."""
    (tmp_path / "channels/talks").mkdir(parents=True)
    for number in range(300):
        said = f"1\n00:00:01,000 --> 00:00:02,000\nTalk number {number}\n"
        (tmp_path / f"channels/talks/{number}.srt").write_text(said)
    payload = {"folder": str(tmp_path / "channels")}
    before = kill_half_way(database, 30, "handlers.rag", "sync_channel", json.dumps(payload))
    assert before < 300

    result = sync_channel(as_context(RecordingContext()), payload)

    assert (result["documents_added"], result["documents_unchanged"]) == (300 - before, before)
    assert stored(database) == distinct(database) == 300


def test_news(database: Path, tmp_path: Path) -> None:
    """rag_sync_news, killed among 30 feeds of 40 entries."""
    for number in range(30):
        items = "".join(f"<item><guid>g{item}</guid><title>t{item}</title></item>" for item in range(40))
        markup = f'<rss version="2.0"><channel><title>{number}</title>{items}</channel></rss>'
        (tmp_path / f"{number}.xml").write_text(markup)
    payload = {"feeds": [str(tmp_path / f"{number}.xml") for number in range(30)]}
    before = kill_half_way(database, 200, "handlers.news", "sync_news", json.dumps(payload))
    assert before < 1200

    result = sync_news(as_context(RecordingContext()), payload)

    assert (result["documents_added"], result["documents_unchanged"]) == (1200 - before, before)
    assert stored(database) == distinct(database) == 1200


def test_inside_a_transaction(database: Path) -> None:
    """A process killed inside a transaction leaves nothing of it, and no lock."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    dead = subprocess.run([sys.executable, "-c", DIE_IN_A_TRANSACTION], env=environment, check=False)
    assert dead.returncode == -signal.SIGKILL
    assert stored(database) == 0
    result = sync_channel(as_context(RecordingContext()), {})
    assert stored(database) == result["documents_added"] == 7
