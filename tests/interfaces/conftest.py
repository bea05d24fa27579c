"""What the tests of the interfaces share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interfaces.cli_project import BASE, Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A folder with a small schedules.yaml; no database yet."""
    made = Project(tmp_path)
    made.write(BASE)
    return made
