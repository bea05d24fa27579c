"""The API in this process, on SQLite: what it stores is the stores' business, and these run on every database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.site import Client, Site, made_site
from tests.engine import sample_handlers


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with made_site(tmp_path) as made:
        yield made
    sample_handlers.open_gates()


@pytest.fixture
def client(site: Site) -> Client:
    """Nobody asks for a key."""
    return site.client()
