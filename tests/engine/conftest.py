"""Real databases, real threads, loops and processes; the clock alone is ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.databases import DIALECTS
from tests.engine import sample_handlers
from tests.engine.bench import Bench, make_bench, on


@pytest.fixture(params=sorted(DIALECTS))
def dialect(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where the benches of this test are."""
    with on(request.param):
        yield request.param


@pytest.fixture
def bench(dialect: str, tmp_path: Path) -> Iterator[Bench]:
    made = make_bench(tmp_path)
    yield made
    made.app.close()


@pytest.fixture(autouse=True)
def gates() -> Iterator[None]:
    yield
    sample_handlers.open_gates()


@pytest.fixture
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Handlers that do not stop are given up after a fifth of a second in place of five."""
    monkeypatch.setattr("runner.engine.executor.GRACE", 0.2)
