"""The short form of `make soak`."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.faults.soak import soak

FORMS = [
    ("sqlite", "kill", 400), ("sqlite", "stop", 300), ("postgresql", "crash", 700), ("postgresql", "terminate", 500),
]  # fmt: skip


@pytest.mark.parametrize(("database", "form", "jobs"), FORMS)
def test_nothing_is_lost(database: str, form: str, jobs: int, tmp_path: Path) -> None:
    """Four workers on one database, killed at random, stopped past the limit, or left by the server, also killed while
    the server is restarted ten times: 0 lost, 0 settled twice, 0 left running; and the faults did happen."""
    seed = int(os.environ.get("RUNNER_SEED", random.SystemRandom().randrange(10**6)))
    print(f"RUNNER_SEED={seed}")
    report = soak(form, tmp_path / "project", seed=seed, jobs=jobs, on_postgresql=database == "postgresql")

    print(report)
    assert report.problems() == []
    if form in ("kill", "crash"):
        assert report.injected()["SIGKILL"] >= 5
