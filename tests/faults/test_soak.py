"""The short form of `make soak`."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.faults.soak import soak


@pytest.mark.parametrize(("form", "jobs"), [("kill", 400), ("stop", 300)])
def test_nothing_is_lost(form: str, jobs: int, tmp_path: Path) -> None:
    """Four workers on one file, killed at random or stopped past the limit: 0 lost, 0 settled twice, 0 left running;
    and the faults did happen."""
    seed = int(os.environ.get("RUNNER_SEED", random.SystemRandom().randrange(10**6)))
    print(f"RUNNER_SEED={seed}")
    report = soak(form, tmp_path / "project", seed=seed, jobs=jobs)

    print(report)
    assert report.problems() == []
    if form == "kill":
        assert report.injected()["SIGKILL"] >= 5
