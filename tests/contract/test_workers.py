"""The rows of workers: what a beat says of the file."""

from __future__ import annotations

from tests.factories import MINUTE, NOW, Stores, make_worker


def test_a_problem_keeps_the_time_at_which_it_was_first_told(stores: Stores) -> None:
    """Beat after beat tells the same; another problem has a time of its own, and a good file clears it."""
    stores.workers.register(make_worker("w1"))
    found = []
    for minutes, problem in enumerate((None, "a", "a", "b", None)):
        assert stores.workers.beat("w1", NOW + minutes * MINUTE, "abc", 3, problem)
        (row,) = stores.workers.all()
        assert (row.config_sha256, row.config_revision) == ("abc", 3)
        found.append((row.config_problem, row.config_problem_at))
    first, second = NOW + MINUTE, NOW + 3 * MINUTE
    assert found == [(None, None), ("a", first), ("a", first), ("b", second), (None, None)]


def test_a_beat_tells_what_a_reload_has_changed(stores: Stores) -> None:
    """What it does not name stays as it is."""
    stores.workers.register(make_worker("w1"))
    stores.workers.register(make_worker("other"))
    found = []
    for said in ({}, {"concurrency": 5}, {"stalled_after": 600.0}, {"concurrency": 0, "stalled_after": 6.0}):
        assert stores.workers.beat("w1", NOW, **said)
        rows = {row.id: (row.concurrency, row.stalled_after) for row in stores.workers.all()}
        assert rows["other"] == (2, 60.0)
        found.append(rows["w1"])
    assert found == [(2, 60.0), (5, 60.0), (5, 600.0), (0, 6.0)]
