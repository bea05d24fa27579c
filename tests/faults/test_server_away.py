"""A PostgreSQL that is not there when `runner serve` starts: it is waited for, as long as for one that is busy."""

from __future__ import annotations

import tempfile
from pathlib import Path

import psycopg
import pytest

from tests.contract.postgres import Server
from tests.faults.projects import Project
from tests.faults.served import apply, serve
from tests.waiting import eventually


@pytest.fixture
def on_server(project: Project) -> Project:
    project.server = Server.start(Path(tempfile.mkdtemp(prefix="away-pg-")))
    apply(project)
    return project


def test_serve_waits_for_a_server_that_starts(on_server: Project) -> None:
    """One line says what is wrong; it serves once the server is up."""
    server = on_server.server
    assert server is not None
    server.down()
    served = serve(on_server, wait=False)
    eventually(lambda: "it is tried for" in served.log.read_text(), "a word of what is waited for")

    server.up()
    served.await_told("serving")
    assert served.log.read_text().count("it is tried for") == 1
    assert served.stop() == 0


LOST_ONCE = """
CREATE SEQUENCE registered;
CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF nextval('registered') = 1 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER lose AFTER INSERT ON workers DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION lose();
"""


def test_a_start_whose_commit_is_lost(on_server: Project) -> None:
    """A server that goes as a worker commits its first row: it is told once, and it serves."""
    with psycopg.connect(on_server.url, autocommit=True) as connection:
        connection.execute(LOST_ONCE)
    served = serve(on_server)
    assert served.log.read_text().count("as it was to commit: whether it did is looked for; it is tried for") == 1
    assert served.stop() == 0
    assert on_server.rows("SELECT last_value FROM registered") == [{"last_value": 2}]


def test_serve_gives_up(on_server: Project) -> None:
    """A server that does not come ends it with 7."""
    assert on_server.server is not None
    on_server.server.down()
    served = serve(on_server, wait=False, RUNNER_BUSY_TIMEOUT="1s")
    assert served.end() == 7
    assert "cannot be reached" in served.log.read_text().splitlines()[-2]


def test_a_stop_while_the_server_is_away_is_a_stop(on_server: Project) -> None:
    """Just after the start: it is not begun anew."""
    served = serve(on_server, RUNNER_SHUTDOWN_GRACE="1s")
    assert on_server.server is not None
    on_server.server.down()
    served.stop()
    assert len(served.told("serving")) == 1
    assert "it is tried for" not in served.log.read_text()
