"""The table of who is answered what, on a real server."""

from __future__ import annotations

from pathlib import Path

from tests.access_table import ask_all, everything, table


def test_each_route_answers_who_may_ask(tmp_path: Path) -> None:
    """API and pages: without a key, with a viewer's, with an administrator's of another project."""
    found = ask_all(tmp_path)
    assert not [line for one in found for line in one.wrong], table(found)
    assert len(found) == len(everything()) > 40
    statuses = {status for one in found for status, _ in one.answers.values()}
    assert {200, 303, 401, 403, 404} <= statuses
