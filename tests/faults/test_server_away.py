"""A PostgreSQL that is not there when `runner serve` starts: it is waited for, as long as for one that is busy."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.contract.postgres import Server
from tests.faults.projects import Project, eventually
from tests.faults.served import apply, serve


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
