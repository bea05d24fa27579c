"""Every test of the contract runs on every database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from runner.storage.database import Database
from tests.contract.databases import DIALECTS
from tests.factories import Stores


@pytest.fixture(scope="session", params=sorted(DIALECTS))
def dialect(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def kept_database(dialect: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """One for all tests, so that its statements are compiled once."""
    made = DIALECTS[dialect].open(tmp_path_factory.mktemp(dialect))
    yield made
    made.close()


@pytest.fixture
def database(dialect: str, kept_database: Database) -> Iterator[Database]:
    """As new for each test."""
    DIALECTS[dialect].renew(kept_database)
    yield kept_database
    kept_database.close()


@pytest.fixture
def stores(database: Database) -> Stores:
    return Stores(database)
