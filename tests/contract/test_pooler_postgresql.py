"""Behind a pooler: what we set for a session does not arrive, and a transaction may be in any session."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest

from runner.cli.doctor_postgres import judged
from runner.domain.errors import DatabaseUnavailable
from runner.domain.job import JobState
from runner.domain.outcome import Completed
from runner.storage.database import Database
from runner.storage.health_postgres import server_health
from runner.storage.postgres import _mind_the_pooler
from runner.storage.setup import prepare
from tests.contract.postgres import Server, _nobody, _user, new_database
from tests.factories import NOW, Stores, end, make_job, make_new_job, make_running
from tests.waiting import eventually

DEADLINE = 30.0
PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
installed = pytest.mark.skipif(PGBOUNCER is None, reason="PgBouncer is not installed")
SETTINGS = """
[databases]
postgres = host={host} dbname=postgres user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
default_pool_size = 20
pool_mode = {mode}
{more}
"""
IGNORED = "ignore_startup_parameters = extra_float_digits, options"


def free_port() -> int:
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = Server.start(Path(tempfile.mkdtemp(prefix="pooled-pg-")), "fsync=off")
    yield made
    made.remove()


@contextmanager
def pooler(server: Server, mode: str, more: str = IGNORED) -> Iterator[str]:
    """The URL of the server through a PgBouncer of our own."""
    with tempfile.TemporaryDirectory(prefix="pooler-") as place:
        port, file = free_port(), Path(place) / "pgbouncer.ini"
        file.write_text(SETTINGS.format(host=server.folder, port=port, mode=mode, more=more))
        if os.geteuid() == 0:
            os.chown(place, _nobody(), -1)
        process = subprocess.Popen([str(PGBOUNCER), "-q", file], user=_user(), stderr=subprocess.DEVNULL)
        try:
            eventually(lambda: reached(port), "PgBouncer")
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(DEADLINE)


def reached(port: int) -> bool:
    with closing(socket.socket()) as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def test_a_session_that_our_settings_have_not_reached_prepares_nothing() -> None:
    """As a pooler hands it out. Where they have, statements are prepared."""
    url = new_database(f"runner_pooled_{os.getpid()}")
    with psycopg.connect(url) as bare:
        assert not _mind_the_pooler(bare)
        assert bare.prepare_threshold is None
        assert bare.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    with closing(Database(url)) as database:
        prepare(database)
        with database.read() as connection:
            assert connection.connection.driver_connection.prepare_threshold is not None  # type: ignore[union-attr]
        assert server_health(database).is_direct


@installed
@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_jobs_pass_through_a_pooler(server: Server, mode: str) -> None:
    """Set up, enqueued, claimed and settled, so often that a statement that is prepared would be met again."""
    with pooler(server, mode) as url, closing(Database(url)) as database, closing(Database(url)) as other:
        prepare(database)
        for stores in (Stores(database), Stores(other)):
            for _ in range(12):
                run = make_running(stores, now=NOW)
                assert end(stores, run, Completed()).lost == frozenset()
            stores.jobs.enqueue_many([make_new_job() for _ in range(500)], NOW)
            make_job(stores, JobState.FAILED)
            assert stores.jobs.counts()["running"] == 0
        found = server_health(database)
        assert not found.is_direct
        assert any("a pooler drops what we set" in one.message for one in judged(found))


@installed
def test_a_pooler_that_takes_our_schema_away_is_refused(server: Server) -> None:
    """Rather than to put the tables where another program has its own."""
    refused = pytest.raises(DatabaseUnavailable, match="takes the schema out of our connections")
    with pooler(server, "session") as url, closing(Database(f"{url}?schema=jobs")) as database, refused:
        prepare(database)
    with psycopg.connect(server.url) as look:
        assert look.execute("SELECT count(*) FROM pg_namespace WHERE nspname = 'jobs'").fetchone() == (0,)


@installed
def test_a_pooler_that_refuses_our_settings_is_told_with_its_remedy(server: Server) -> None:
    with pooler(server, "session", more="") as url, closing(Database(url)) as database:
        with pytest.raises(DatabaseUnavailable, match="a pooler that refuses our settings") as caught:
            prepare(database)
        assert "ignore_startup_parameters" in (caught.value.hint or "")
