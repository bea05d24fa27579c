"""The server that RUNNER_TEST_DATABASE_URL names is looked at before anything is tried on it."""

from __future__ import annotations

import os

import psycopg
import pytest

from tests.contract.postgres import NAMED, new_database, server_url

ROLE = f"runner_poor_{os.getpid()}"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("postgresql://worker:secret@127.0.0.1:1/jobs", r"worker:\*\*\*@127.0.0.1:1/jobs cannot be used: .*refused"),
        ("sqlite:///runner.db", "cannot be used: write postgresql://"),
    ],
)
def test_a_server_that_cannot_be_used(url: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run ends at once, and says which variable, and why."""
    monkeypatch.setenv(NAMED, url)
    with pytest.raises(pytest.exit.Exception, match=f"^{NAMED}=.*{why}"):
        server_url.__wrapped__()


def test_a_user_who_may_not_make_databases(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told with the remedy."""
    url = new_database(f"runner_named_{os.getpid()}")
    may = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
    with psycopg.connect(url, autocommit=True) as connection:
        if connection.execute(may).fetchone() != (True,):
            pytest.skip("roles are made by a superuser alone")
        connection.execute(f"CREATE ROLE {ROLE}")
        try:
            mark = "&" if "?" in url else "?"
            monkeypatch.setenv(NAMED, f"{url}{mark}options=-c%20role%3D{ROLE}")
            with pytest.raises(pytest.exit.Exception, match="this user may not make databases: ALTER ROLE"):
                server_url.__wrapped__()
        finally:
            connection.execute(f"DROP ROLE {ROLE}")
