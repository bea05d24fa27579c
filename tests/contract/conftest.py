"""Every test of the contract runs on every database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.storage.database import Database
from tests.contract.databases import FRESH, fresh
from tests.factories import Stores


@pytest.fixture(params=sorted(FRESH))
def dialect(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def database(dialect: str, tmp_path: Path) -> Iterator[Database]:
    with fresh(dialect, tmp_path) as made:
        yield made


@pytest.fixture
def stores(database: Database) -> Stores:
    return Stores(database)
